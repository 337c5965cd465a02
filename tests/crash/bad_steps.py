"""Functions of steps of which something stays, or cannot; worker processes import them by name."""

import subprocess
import time


def leave_behind(seconds: float) -> int:
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    time.sleep(seconds)
    return child.pid


def give_a_set() -> object:
    return {"found": {1, 2}}


def give_nan() -> object:
    return float("nan")


def give_half_a_character() -> object:
    return ["\ud800"]


def give_too_much() -> object:
    return "x" * 5000


def raise_half_a_character() -> object:
    raise ValueError("half of it: \ud800")
