"""Fixtures for tests of what users see: apps that are closed again, receivers, other programs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from oautom import Event, Flow, OAutom, OAutomMode, PythonExecution, Vect
from oautom.events import signals
from oautom.testing import assert_replays, check_history

SECONDS = 10
"""Where a test waits for something to happen, it waits at the longest so long."""

MODES = list(OAutomMode)
EXECUTORS = ["threads", "inline", "user"]

NewApp = Callable[..., OAutom]


def check(app: OAutom) -> None:
    """Hold the log against the invariants, and against what would be decided today."""
    events = list(app.log.read())
    check_history(events)
    for name in app.flows():
        if any(event.flow == name for event in events):
            assert_replays(events, app.flow(name))


@pytest.fixture
def new_app() -> Iterator[NewApp]:
    """Makes apps, and closes them after the test."""
    apps: list[OAutom] = []

    def make(mode: OAutomMode = OAutomMode.foreground, **settings: Any) -> OAutom:
        apps.append(OAutom(mode, **settings))
        return apps[-1]

    yield make
    for app in apps:
        app.close()


@pytest.fixture(params=MODES, ids=str)
def mode(request: pytest.FixtureRequest) -> OAutomMode:
    return request.param


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each way to run a step in this process; 'user' is an executor that the user has made."""
    if request.param != "user":
        yield request.param
        return
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def any_app(new_app: NewApp, mode: OAutomMode, executor: Any) -> OAutom:
    """An app in each mode and with each executor: what holds for all."""
    return new_app(mode, executor=executor)


@pytest.fixture
def mode_app(new_app: NewApp, mode: OAutomMode) -> OAutom:
    """An app in each mode, with threads."""
    return new_app(mode)


@pytest.fixture
def background(new_app: NewApp) -> OAutom:
    return new_app(OAutomMode.background)


@pytest.fixture
def inline(new_app: NewApp) -> OAutom:
    """The plainest app: all happens in `wait` or `run`, on the thread of the test."""
    return new_app(executor="inline")


@pytest.fixture
def connect() -> Iterator[Callable[..., Callable[..., Any]]]:
    """Connects receivers for the time of the test: `connect(f, 'step.started', sender=flow)`."""
    connected = []

    def connect(receiver: Any, name: str = "event", **settings: Any) -> Any:
        signal = getattr(signals, name.replace(".", "_"))
        signal.connect(receiver, **settings)
        connected.append((signal, receiver))
        return receiver

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


class Program:
    """Runs a Python program of its own: for what could hang. It ends after its last line."""

    FRAME = """
import os, sys, threading, traceback
from oautom import *
from oautom.events import signals

def end(vect):
    try:
        return vect.wait(timeout=2)
    except Exception as error:
        return type(error).__name__

def main():
{source}

try:
    main()
except BaseException:
    traceback.print_exc()
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)
"""

    def __call__(self, source: str) -> subprocess.CompletedProcess[str]:
        program = self.FRAME.replace("{source}", textwrap.indent(textwrap.dedent(source), "    "))
        return subprocess.run(
            [sys.executable, "-c", program],
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )


@pytest.fixture
def program() -> Program:
    return Program()


def join_threads(*names: str) -> None:
    """Wait for the end of the threads of these names: workers end when their app is closed."""
    for thread in threading.enumerate():
        if thread.name.startswith(names or ("oautom-worker", "oautom-scheduler")):
            assert thread._started.wait(SECONDS)  # type: ignore[attr-defined] # else join() raises
            thread.join(SECONDS)


def run_and_tell(app: OAutom, flow: Flow) -> Vect:
    """Run a flow; in the background also wait until the last receiver has been told."""
    vect = app.run(flow)
    join_threads("oautom-scheduler")
    return vect


class Gate:
    """A step that waits until the test lets it through, and does not listen to a cancel."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> str:
        self.reached.set()
        assert self.opened.wait(SECONDS)
        return "through"


def told(events: list[Event]) -> list[str]:
    """The names of events, each with its step: 'step.started a'."""
    return [e.name + (f" {e.step}" if e.step else "") for e in events]


def runs_well(app: OAutom) -> bool:
    """Whether the app still does its work: after an error, everything goes on as before."""
    number = sum(name.startswith("good") for name in app.flows())
    flow = Flow(f"good {number}", app)
    first, second = flow_step(flow, "first"), flow_step(flow, "second")
    first >> second
    vect = app.start(flow)
    return vect.wait(timeout=SECONDS) == "success" and vect.result("second") == "second"


def nothing() -> None:
    """What steps do here, unless it matters."""


def flow_step(flow: Flow, name: str, function: Any = None) -> Any:
    return PythonExecution(name, flow, function or (lambda: name))
