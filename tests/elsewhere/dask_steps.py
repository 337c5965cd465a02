"""Steps that run on the workers of a Dask cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from oautom import Skip


def note(path: str, text: str) -> None:
    with Path(path).open("a") as file:
        file.write(text + "\n")


def noted(path: str, text: str) -> str:
    note(path, text)
    return text


def process() -> int:
    return os.getpid()


def read_env(name: str) -> str | None:
    return os.environ.get(name)


def leak(path: str, key: str, context: Any) -> str:
    """Write a secret in two pieces, the second one when there is a file."""
    context.log.info("with %s", key)
    print("it is", key)
    print("and", key[:6], end="", flush=True)
    while not Path(path).exists():
        time.sleep(0.02)
    print(key[6:])
    raise ValueError(f"no {key}") from KeyError(key)


def wait(path: str, seconds: float, context: Any) -> str:
    """Wait until it is cancelled."""
    note(path, f"begin {context.step} {context.attempt} {os.getpid()}")
    end = "cancelled" if context.cancelled.wait(seconds) else "not cancelled"
    note(path, f"end {context.step} {context.attempt} {end}")
    return end


def ignore(path: str, until: str) -> None:
    """Wait for a file, and for nothing else."""
    note(path, "begin")
    while not Path(until).exists():
        time.sleep(0.02)
    note(path, "end")


def write(until: str, context: Any) -> str:
    """Write to the log and print, then wait for a file."""
    context.log.info("logged")
    print("printed", flush=True)
    while not Path(until).exists():
        time.sleep(0.02)
    print("printed last")
    return "written"


def write_much(lines: int) -> None:
    for number in range(lines):
        print(f"line {number} " + 80 * "x")


def die(path: str, times: int, context: Any) -> int:
    """Kill the worker in the first attempts."""
    note(path, f"begin {context.attempt}")
    if len(Path(path).read_text().split()) // 2 <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return context.attempt


def fork_and_die(begun: str) -> None:
    """Leave a fork behind that has all files of this process, and die: the first time only."""
    try:
        Path(begun).touch(exist_ok=False)
    except FileExistsError:
        return
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(20.0)
    os._exit(0)


def size(value: str) -> int:
    return len(value)


def repeat(size: int) -> str:
    return size * "x"


def same(value: str) -> str:
    return value


def skip() -> None:
    raise Skip("there is nothing to do")


class OddError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.lock = sys.stdin  # no pickle has it


def fail_oddly() -> None:
    raise OddError("odd", "one")


def start_child(path: str) -> int:
    """Start a command that goes on, as far as the worker lets it."""
    child = subprocess.Popen(["sleep", "60"])
    note(path, str(child.pid))
    return child.wait()


async def wait_async(path: str) -> None:
    import asyncio

    note(path, "begin")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        note(path, "end")
        raise


class Plain:
    """What no JSON has."""

    def __init__(self, size: int) -> None:
        self.content = bytes(size)

    def __len__(self) -> int:
        return len(self.content)


def make(path: str, size: int, _: str = "") -> Plain:
    note(path, f"make {os.getpid()}")
    return Plain(size)


def make_once_let_go(path: str, until: str, plain: Plain) -> int:
    """Wait for a file, and return a size."""
    note(path, f"begin {os.getpid()}")
    while not Path(until).exists():
        time.sleep(0.02)
    return len(plain)


def unpicklable() -> Any:
    return threading.Lock()
