"""Each thing that a run asks of the system is refused once: nothing hangs, is lost, or left."""

from __future__ import annotations

import asyncio
import importlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from oautom import (
    BashExecution,
    Context,
    EngineError,
    Flow,
    LogError,
    OAutom,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
)
from oautom.audit.invariants import check_history
from oautom.engine.interrupts import _wakeup_pipe
from oautom.processes import child, group
from tests.outside import BASH_HEAD, at_work, overlaps

from .harness import IS_LONG
from .scarce import Scarce, scarce

pytestmark = [  # of what asyncio leaves half made
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning"),
]

SECONDS = 30.0
RETRY = RetryPolicy(max_attempts=2, delay=0)


async def come_and_go() -> int:
    await asyncio.sleep(0.001)
    return 1


class Run(NamedTuple):
    """A kind of run: who does the work, and what it is."""

    executor: Any
    kind: str
    mode: OAutomMode = OAutomMode.background


RUNS = [
    Run("threads", "bash"),
    Run("threads", "bash", OAutomMode.foreground),
    Run("inline", "bash", OAutomMode.foreground),
    Run("threads", "bash without handles"),
    Run("threads", "bash beside a reaper"),
    Run("threads", "python"),
    Run("inline", "python", OAutomMode.foreground),
    Run("threads", "async"),
    Run("inline", "async"),
    Run("processes", "python"),
]


def declare(app: OAutom, run: Run, folder: Path) -> None:
    """Declare a flow of three steps, two of which wait for none."""
    flow = Flow("flow", app)
    bash = f"cd {folder}; {BASH_HEAD} echo $OAUTOM_STEP"

    def work(context: Context) -> str:
        with at_work(folder, context):
            return context.step

    for name in ("a", "b", "c"):
        options: dict[str, Any] = {"retry": RETRY, "timeout": SECONDS if name != "b" else None}
        if run.kind.startswith("bash"):
            BashExecution(name, flow, bash, **options)
        elif run.kind == "async":
            PythonExecution(name, flow, come_and_go, **options)
        elif run.executor == "processes":
            step = importlib.import_module("worker_steps").give
            PythonExecution(name, flow, step, (name,), **options)
        else:
            PythonExecution(name, flow, work, **options)
    flow.steps["a"] >> flow.steps["c"]


def live(run: Run, folder: Path, *vects: str) -> list[str]:
    """Have an app run Vects to their ends, trying once more what was refused; tell the states."""
    workers = None if run.executor == "inline" else 2
    with OAutom(
        run.mode, log=folder / "runs.db", executor=run.executor, max_workers=workers
    ) as app:
        declare(app, run, folder)
        states = []
        for vect in vects:
            try:
                states.append(app.start("flow", vect_id=vect, timeout=SECONDS).wait(SECONDS))
            except (EngineError, LogError):
                states.append(app.start("flow", vect_id=vect, timeout=SECONDS).wait(SECONDS))
        return states


def children() -> set[psutil.Process]:
    """Return the processes that this one has; those of Python's own stay."""
    return {each for each in psutil.Process().children(recursive=True) if not _is_pythons(each)}


def _is_pythons(process: psutil.Process) -> bool:
    try:
        return "resource_tracker" in " ".join(process.cmdline())
    except psutil.ZombieProcess:  # one that an earlier test has left, or a command of ours
        return False
    except psutil.NoSuchProcess:
        return True


def begin_anew() -> None:
    """Have what is made once in a program be made again."""
    group.has_handles.cache_clear()
    _wakeup_pipe.cache_clear()


@pytest.fixture
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    kind: Run = request.param
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "processes")
    if kind.kind == "bash without handles":
        monkeypatch.setattr(child, "has_handles", lambda: False)
    before = signal.getsignal(signal.SIGCHLD)
    if kind.kind == "bash beside a reaper":
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
    yield kind
    signal.signal(signal.SIGCHLD, before)
    begin_anew()


@pytest.mark.parametrize("run", RUNS, indirect=True, ids=lambda run: " ".join(run))
def test_what_is_refused_once_harms_nothing(run: Run, tmp_path: Path) -> None:
    before = children()

    def refused(number: int | None) -> Scarce:
        folder = tmp_path / f"{number}"
        folder.mkdir()
        begin_anew()
        with scarce(number) as system:
            system.is_counting = True
            try:
                states = live(run, folder, "one")
            except LogError:  # the app was not made
                states = []
            system.is_counting = False
        told = dict(enumerate(system.asked)).get(-1 if number is None else number)
        assert states in (["success"], []), told
        assert children() <= before, told
        assert live(run, folder, "one", "two") == ["success", "success"], told
        assert overlaps(folder) == []
        with OAutom(log=folder / "runs.db") as app:
            check_history(app.log.read())
        return system

    asked = len(refused(None).asked)
    assert asked > 5
    every = 1 if IS_LONG else 20 if run.executor == "processes" else 6
    for number in range(RUNS.index(run) % every, asked, every):
        refused(number)
