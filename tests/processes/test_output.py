"""What steps write in worker processes, and where a step forks."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oautom import (
    Context,
    Flow,
    MapExecution,
    OAutom,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
    SqliteEventLog,
)

from .conftest import until


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("worker_steps")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture(params=["ours", "a pool"])
def executor(request: pytest.FixtureRequest, steps: ModuleType) -> Iterator[Any]:
    if request.param == "ours":
        yield "processes"
        return
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield pool


def test_what_a_step_writes_in_a_worker_is_seen_while_it_runs(
    path: Path, steps: ModuleType, tmp_path: Path
) -> None:
    with OAutom(OAutomMode.background, log=path, executor="processes", max_workers=1) as app:
        flow = Flow("f", app)
        where = PythonExecution("where", flow, steps.give, (str(tmp_path / "begun"),))
        where >> PythonExecution("a", flow, steps.write_and_wait)
        vect = app.start(flow, vect_id="v")
        text = "printed in a\nWARNING lib: logged\nDEBUG told\n"
        until(lambda: vect.steps["a"].log_text == text)
        other = SqliteEventLog(path, read_only=True)
        until(lambda: other.text(("v", "a", 1)) == (0, text.encode()))
        vect.cancel()
        assert vect.wait(20) == "cancelled"
    assert [each.log_text for each in vect.steps["a"].attempts] == [text]


def test_what_a_worker_has_sent_before_it_died_is_kept(path: Path, steps: ModuleType) -> None:
    with OAutom(log=path, executor="processes", max_workers=1) as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, steps.write_and_die, retry=RetryPolicy(delay=0, max_attempts=2))
        vect = app.run(flow)
        one, two = vect.steps["a"].attempts
    assert (one.state, one.log_text) == ("failed", "attempt 1\n")
    assert (two.state, two.log_text) == ("success", "attempt 2\n" + "x" * 300_000)


def test_what_a_step_writes_elsewhere_is_bounded(executor: Any, steps: ModuleType) -> None:
    with OAutom(executor=executor, max_workers=1) as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, steps.write_much, (100_000,), log_limit_bytes=24)
        PythonExecution("b", flow, steps.write_much, (1,), capture=False)
        MapExecution("m", flow, steps.write_much, PythonExecution("l", flow, list, [[1, 2]]))
        vect = app.run(flow)
    missing = 12 * 100_000 - 24
    assert vect.steps["a"].log_text == (
        f"[{missing} bytes are missing here]\nline  99998\nline  99999\n"
    )
    assert vect.steps["b"].log_text == ""
    assert vect.steps["m[1]"].log_text == "line      0\nline      1\n"


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_what_a_child_that_a_step_forks_prints_is_not_taken(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def step(context: Context) -> None:
        print("before")
        if (pid := os.fork()) == 0:
            print("in the child", flush=True)
            context.log.info("in its log")
            thread = threading.Thread(target=print, args=("on a thread",))
            thread.start()
            thread.join()
            os._exit(0)
        os.waitpid(pid, 0)
        print("after")

    with OAutom(log=path, executor="inline") as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, step)
        assert app.run(flow).steps["a"].log_text == "before\nafter\n"
    assert "in the child" in capfd.readouterr().out


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_has_runs_of_its_own_whose_prints_are_taken(path: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    def step() -> None:
        print("of the parent")
        begun.set()
        go.wait(20)

    with OAutom(OAutomMode.background) as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, step)
        vect = app.start(flow)
        assert begun.wait(20)
        if (pid := os.fork()) == 0:  # while a step runs, on a thread that is not there
            with OAutom(executor="inline", log=path) as own:
                inner = Flow("f", own)
                PythonExecution("a", inner, print, ("of the child",))
                text = own.run(inner).steps["a"].log_text
            os._exit(0 if text == "of the child\n" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        go.set()
        assert vect.wait(20) == "success"
        assert vect.steps["a"].log_text == "of the parent\n"
