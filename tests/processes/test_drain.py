"""SIGTERM where an app drains: what runs may end, nothing begins, and no work is done twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oautom.events.sqlite import SqliteEventLog

from .conftest import Marked, Program

Start = Callable[[str], Program]

SHOP = """
import asyncio, os, signal, sys, time
from oautom import *

app = OAutom({mode}, log="runs.db", executor={executor!r}, drain={drain})
shop = Flow("shop", app)

def charge(context):
    "Charge, and be told to end in the middle of it."
    with open("charges.txt", "a") as file:
        file.write("charged\\n")
    if os.path.exists("again"):
        return "once more"
    {meanwhile}
    return "receipt"

PythonExecution("charge", shop, charge) >> BashExecution("ship", shop, "echo shipped >>charges.txt")

def is_draining():
    return {executor!r} == "inline" or "being stopped" in app.vect("v").explain("ship")

def tell_to_end():
    os.kill(os.getpid(), signal.SIGTERM)
    while not is_draining():
        time.sleep(0.002)
"""

SERVE = """
app.start(shop, vect_id="v")
app.run()
print("served", flush=True)
app.close()
"""

RUN = """
print(app.run(shop, vect_id="v").state, flush=True)
app.close()
"""

ASYNCIO = """
async def main():
    "What a web server does with its lifespan."
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await app.astart(shop, vect_id="v")
    await told.wait()
    await app.aclose(drain=30)
    print("served", flush=True)

asyncio.run(main())
"""

UVICORN = """
import uvicorn

async def web(scope, receive, send):
    "A web application, of which only the lifespan is asked here."
    await receive()
    await app.astart(shop, vect_id="v")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await app.aclose(drain=30)
    print("served", flush=True)
    await send({"type": "lifespan.shutdown.complete"})

uvicorn.run(web, port=0, lifespan="on", log_level="error")
"""


def shop(program: str, meanwhile: str, executor: str = "threads", drain: float = 30.0) -> str:
    is_served = program in (ASYNCIO, UVICORN)
    mode = "OAutomMode.background" if is_served else "OAutomMode.foreground"
    told = {"mode": mode, "executor": executor, "drain": drain, "meanwhile": meanwhile}
    return SHOP.format(**told) + program


def done(folder: Path) -> list[str]:
    """What was done in the world, in order."""
    return (folder / "charges.txt").read_text().split()


def told(folder: Path, step: str) -> list[str]:
    log = SqliteEventLog(folder / "runs.db", read_only=True)
    events = [event for event in log.read(vect="v") if event.step == step]
    log.close()
    return [event.name.removeprefix("step.") for event in events]


@pytest.mark.parametrize(
    ("body", "executor", "code", "line"),
    [
        pytest.param(SERVE, "threads", 0, "served", id="serving"),
        pytest.param(SERVE, "inline", 0, "served", id="serving inline"),
        pytest.param(RUN, "threads", 143, "", id="running"),
        pytest.param(RUN, "inline", 143, "", id="running inline"),
        pytest.param(ASYNCIO, "threads", 0, "served", id="asyncio"),
        # It raises the signal again when it has shut down.
        pytest.param(UVICORN, "threads", -15, "served", id="uvicorn"),
    ],
)
def test_a_charge_is_made_once_when_its_program_is_told_to_end(
    program: Start, marked: Marked, tmp_path: Path, body: str, executor: str, code: int, line: str
) -> None:
    ended = program(shop(body, "tell_to_end()", executor)).end()
    assert (ended.returncode, ended.stderr) == (code, "")
    assert ended.stdout.strip() == line
    assert done(tmp_path) == ["charged"]
    assert told(tmp_path, "charge") == ["started", "succeeded"]
    assert told(tmp_path, "ship") == []

    assert program(shop(RUN, "tell_to_end()", executor)).end().stdout.strip() == "success"
    assert done(tmp_path) == ["charged", "shipped"]
    assert told(tmp_path, "charge") == ["started", "succeeded"]
    assert marked.alive() == []


SLOW = {
    "deaf": "tell_to_end(); time.sleep(1000)",
    "listens": "context.cancelled; tell_to_end(); context.cancelled.wait(1000)",
}


@pytest.mark.parametrize("executor", ["threads", "inline"])
@pytest.mark.parametrize("meanwhile", SLOW.values(), ids=SLOW)
def test_what_takes_longer_is_ended_when_the_time_is_up(
    program: Start, marked: Marked, tmp_path: Path, executor: str, meanwhile: str
) -> None:
    begun = time.monotonic()
    ended = program(shop(SERVE, meanwhile, executor, drain=0.2)).end()
    assert (ended.returncode, ended.stdout.strip()) == (0, "served")
    assert time.monotonic() - begun >= 0.2
    assert told(tmp_path, "charge") == ["started"]

    (tmp_path / "again").touch()
    assert program(shop(RUN, "")).end().stdout.strip() == "success"
    assert told(tmp_path, "charge") == ["started", "interrupted", "started", "succeeded"]
    assert marked.alive() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_a_second_signal_ends_the_draining_at_once(
    program: Start, marked: Marked, tmp_path: Path, executor: str, number: int
) -> None:
    meanwhile = "tell_to_end(); print('draining', flush=True); time.sleep(1000)"
    running = program(shop(SERVE, meanwhile, executor, drain=1000))
    running.wait_for_line("draining")
    running.signal(number)
    assert running.end().returncode == 0
    assert told(tmp_path, "charge") == ["started"]
    assert marked.alive() == []


@pytest.mark.parametrize(("number", "drain"), [(signal.SIGINT, 1000), (signal.SIGTERM, 0)])
def test_ctrl_c_and_an_app_that_does_not_drain_end_all_at_once(
    program: Start, marked: Marked, tmp_path: Path, number: int, drain: int
) -> None:
    meanwhile = "print('charging', flush=True); context.cancelled.wait(1000)"
    running = program(shop(SERVE, meanwhile, drain=drain))
    running.wait_for_line("charging")
    running.signal(number)
    assert running.end().returncode == 0
    assert told(tmp_path, "charge") == ["started"]


def test_with_a_log_in_memory_what_runs_ends_and_the_vect_is_cancelled(program: Start) -> None:
    body = """
vect = app.start(shop, vect_id="v")
app.run()
print(vect.state, *(f"{step.name} {step.state}" for step in vect.steps.values()))
"""
    source = shop(body, "tell_to_end()").replace('log="runs.db"', "log=None")
    ended = program(source).end()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip() == "cancelled charge success ship cancelled"
