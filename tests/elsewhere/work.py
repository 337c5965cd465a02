"""Functions of steps that run in the workers of an executor."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from oautom import Context

SECONDS = 20.0


def number(value: int) -> int:
    return value


def write_much(lines: int) -> None:
    for line in range(lines):
        sys.stdout.write(f"line {line}\n")
        if line % 500 == 0:
            time.sleep(0.02)  # so that some of it goes before the answer


def listen(begun: str, context: Context) -> str:
    """Wait for a cancel."""
    is_cancelled = context.cancelled
    Path(begun).touch()
    return "cancelled" if is_cancelled.wait(SECONDS) else "not told"


def be_deaf(begun: str, go: str) -> None:
    """Work until a file is there, whatever is cancelled; tell when it begins and when it ends."""
    with open(begun, "a") as file:
        file.write("begin\n")
        file.flush()
        end = time.monotonic() + SECONDS
        while not os.path.exists(go) and time.monotonic() < end:
            time.sleep(0.01)
        file.write("end\n")


def return_in_a_fork() -> int:
    """Return twice: in this process, and in a fork of it."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return os.getpid()
