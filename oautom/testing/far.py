"""Internal. What `check_executor` has an executor do: functions that any other side can import.

They tell by files in a folder that both sides see how far they have come.
"""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from oautom.steps.context import Context
from oautom.steps.work import Skip

SECONDS: Final = 15.0
"""After these, work that waits ends by itself: a row that hangs leaves nothing behind."""

LACKED: Final = "oautom_has_no_such_module"


def touch(folder: str, name: str) -> None:
    """Make a file."""
    Path(folder, name).touch()


def identity() -> int:
    """Return the number of the process."""
    return os.getpid()


def give(size_bytes: int) -> bytes:
    """Return many bytes."""
    return bytes(size_bytes)


def count(content: bytes) -> int:
    """Return how many bytes have come."""
    return len(content)


def fail() -> None:
    """Raise an error that can travel."""
    raise ValueError("mine")


class LocalError(Exception):
    """An error that cannot travel."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} {why}")

    def __reduce__(self) -> tuple[object, ...]:
        """Refuse to be pickled."""
        raise TypeError("this error cannot be pickled")


def fail_here() -> None:
    """Raise an error that cannot travel."""
    raise LocalError("mine", "too")


def skip() -> None:
    """Skip the step."""
    raise Skip("there is nothing to do")


def until_cancelled(folder: str, name: str, context: Context) -> None:
    """Wait for the cancel of the step, and tell of it."""
    is_cancelled = context.cancelled  # it listens before it says that it has begun
    touch(folder, f"{name} begun")
    if is_cancelled.wait(SECONDS):
        touch(folder, f"{name} cancelled")


def until_let_go(folder: str, name: str, context: Context) -> None:
    """Write to the log and to standard output, and wait for a file."""
    context.log.info("%s logs", name)
    print(f"{name} prints", flush=True)  # noqa: T201 - that is what it is for
    touch(folder, f"{name} begun")
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and not context.cancelled.wait(0.02):
        if os.path.exists(os.path.join(folder, f"{name} go")):
            return


def be_busy(folder: str, name: str) -> None:
    """Wait for a file, whatever is cancelled."""
    touch(folder, f"{name} begun")
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and not os.path.exists(os.path.join(folder, f"{name} go")):
        time.sleep(0.02)


def die_once(folder: str, home: int) -> str:
    """End this process at the first call, unless it is the program itself."""
    if os.getpid() == home:
        return "at home"
    try:
        Path(folder, "died").touch(exist_ok=False)
    except FileExistsError:
        return "again"
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError  # never


class Lacked:
    """A value of a module that only the program has."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        """Travel as something that is imported over there."""
        return importlib.import_module, (LACKED,)


def take(value: object) -> int:
    """Take any value, and return the number of the process."""
    return os.getpid()
