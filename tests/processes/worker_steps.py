"""Functions that worker processes import by name; pytest's own modules cannot be imported there."""

import os
import subprocess
from pathlib import Path

from oautom import Context


def sleep_with_a_child(mark: str, value: str) -> None:
    subprocess.run(["sleep", "1000"], env=os.environ | {mark: value}, check=True)


def listen(context: Context) -> str:
    context.log.info("listening")
    listening = context.cancelled
    Path(context.inputs["where"]).touch()
    listening.wait()
    return "ended by itself"


def give(value: object) -> object:
    return value
