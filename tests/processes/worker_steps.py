"""Functions that worker processes import by name; pytest's own modules cannot be imported there."""

import asyncio
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from oautom import Context, EngineError, Flow, OAutom, PythonExecution

app = OAutom()  # a worker that imports this module has one too: a copy, which nobody looks at
PythonExecution("a", Flow("inner", app), len, ("text",))


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


async def sleep_and_tidy_up(folder: str) -> None:
    (Path(folder) / "begun").touch()
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0.01)
        (Path(folder) / "tidied up").touch()


async def sleep_deaf(folder: str) -> None:
    (Path(folder) / "begun").touch()
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            continue


_loops: list[asyncio.AbstractEventLoop] = []


async def count_loops() -> int:
    loop = asyncio.get_running_loop()
    if loop not in _loops:
        _loops.append(loop)
    return len(_loops)


def run_there() -> str:
    return app.run("inner").state


def steer_there(log: str, context: Context) -> list[str]:
    app.configure(log=log)
    Flow("f", app)
    vect = app.vect(context.vect_id)
    assert vect.state == "running"  # reading is for everybody
    return [_refusal(vect.wait), _refusal(vect.cancel), _refusal(vect.pause)]


def _refusal(ask: Callable[[], object]) -> str:
    try:
        return f"{ask()} was not refused"
    except EngineError as error:
        return str(error)


def run_with_an_app_of_its_own() -> str:
    with OAutom(executor="inline") as own:
        PythonExecution("a", Flow("f", own), len, ("text",))
        return own.run("f").state


def take(value: object) -> None:
    """Do nothing with it."""


def status_of(command: str) -> int:
    return subprocess.run(["bash", "-c", command], check=False).returncode


def die_beside_a_child(how: str, place: str) -> str:
    """Have this worker killed, as the system does that has no more memory; a child of it lives."""
    if os.fork() == 0:
        if how != "fork":
            os.setsid()
        Path(place).write_text(str(os.getpid()))
        time.sleep(1000)
    while not Path(place).exists():
        time.sleep(0.001)
    if how == "half an answer":
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return "x" * 200_000_000
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def fork_and_return() -> str:
    return "the parent" if os.fork() else "the child"


def environments(context: Context) -> list[dict[str, str]]:
    """Return what of the marks is in the environment of this process, and what the step is told."""
    names = context.environment
    return [{name: os.environ[name] for name in names}, context.environment]


def wait_for(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.005)
    return "done"


def write_and_wait(context: Context) -> None:
    print("printed in", context.step)
    logging.getLogger("lib").warning("logged")
    context.log.debug("told")
    Path(context.inputs["where"]).touch()
    time.sleep(1000)


def write_and_die(context: Context) -> None:
    print("attempt", context.attempt)
    time.sleep(0.5)
    if context.attempt == 1:
        os._exit(7)
    print("x" * 300_000, end="")


def write_much(count: int) -> None:
    for number in range(count):
        print(f"line {number:>6}")
