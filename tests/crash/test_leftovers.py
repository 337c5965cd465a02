"""What a dead program has left is ended as one: nothing of it goes on because another part ends."""

from __future__ import annotations

import importlib
import json
import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from multiprocessing import resource_tracker
from pathlib import Path

import psutil
import pytest

from oautom import BashExecution, Flow, LogError, OAutom, OAutomMode, PythonExecution
from oautom.events.sqlite import SqliteEventLog
from oautom.executors import leftovers
from oautom.executors.leftovers import LOG_MARK, end_leftovers

from .checks import marked, read_side
from .harness import MARK, Life, left_of, sweep, swept, until

DEAD_ENGINE = f"{2**22}-1-1"  # no process has this number


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    # Python's own tracker serves all tests: started in one of these, it would carry the mark and
    # be swept, and the next test that starts a process would be told so, by a warning.
    resource_tracker.ensure_running()
    yield tmp_path
    sweep(tmp_path)


def test_a_command_does_not_go_on_when_what_it_waits_for_is_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of processes begin anew at some time, so a child may be found before its parent."""
    everybody = leftovers._processes
    newest_first = lambda: sorted(everybody(), key=int, reverse=True)  # noqa: E731
    monkeypatch.setattr(leftovers, "_processes", newest_first)
    command = "for i in {1..20}; do sleep 1000 & done; wait $!; echo it went on >went-on"
    marks = {LOG_MARK: str(folder), "OAUTOM_ENGINE": DEAD_ENGINE, MARK: str(folder)}
    environment = os.environ | marks
    bash = subprocess.Popen(["bash", "-c", command], cwd=folder, env=environment)
    until(lambda: len(marked(LOG_MARK, str(folder))) == 21)
    assert len(end_leftovers(str(folder), lambda _: False)) == 21
    bash.wait(60)
    assert marked(LOG_MARK, str(folder)) == []
    assert not (folder / "went-on").exists()


def test_a_log_that_cannot_be_made_is_told_and_let_go_of(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(LogError, match=r"log '.*runs.db' cannot be opened: .*make room"):
            SqliteEventLog(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with closing(SqliteEventLog(path)) as log:
        assert log.last_seq == 0


def test_an_engine_on_a_copy_of_a_log_lets_those_of_the_log_work(tmp_path: Path) -> None:
    with swept(tmp_path) as folder:
        steps = [
            {"name": name, "kind": kind, "seconds": 1000, "upstreams": []}
            | {"outcome": "end", "on_crash": "rerun"}
            for name, kind in (("command", "bash"), ("function", "python"))
        ]
        plan = {
            "mode": "background",
            "executor": "processes",
            "max_workers": 2,
            "synchronous": "FULL",
            "flows": {"flow": steps},
            "vects": {"one": "flow"},
        }
        (folder / "plan.json").write_text(json.dumps(plan))
        life = Life(folder, "plan.json")
        until(lambda: sum(line.what == "begin" for line in read_side(folder)) == 2)
        copy = folder / "copy.db"
        with (
            closing(sqlite3.connect(folder / "runs.db")) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        at_work = left_of(folder)
        with OAutom(log=copy) as app:
            assert app.recover() == []
        assert left_of(folder) == at_work
        assert life.process.poll() is None
        life.kill()
        with OAutom(log=copy) as app:  # now it is dead, and its log and the copy are one
            app.recover()
        assert left_of(folder) == []


def test_what_a_function_has_left_on_purpose_outlives_a_recovery(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with commands: only what an attempt has left that was not over is ended."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv(MARK, str(folder))
    steps = importlib.import_module("bad_steps")

    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app)
        over = PythonExecution("over", flow, steps.leave_behind, (0,))
        over >> PythonExecution("cut off", flow, steps.leave_behind, (1000,))
        return flow

    with OAutom(OAutomMode.background, log=folder / "runs.db", executor="processes") as app:
        vect = app.start(declare(app))
        until(lambda: _sleepers(folder) == 2)
        pid = vect.result("over")
    with OAutom(log=folder / "runs.db", executor="processes") as app:
        declare(app)
        app.recover()
        assert [process.pid for process in marked(MARK, str(folder)) if _sleeps(process)] == [pid]


def test_what_a_step_that_skipped_itself_has_left_on_purpose_outlives_a_recovery(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, str(folder))
    leave = "setsid bash -c 'touch left; exec sleep 1000' >/dev/null 2>&1 &"
    with OAutom(log=folder / "runs.db") as app:
        flow = Flow("flow", app)
        command = f"{leave} until [ -e left ]; do sleep 0.01; done; exit 99"
        BashExecution("step", flow, command, cwd=folder)
        assert app.run(flow).steps["step"].state == "skipped"
    until(lambda: _sleepers(folder) == 1)
    with OAutom(log=folder / "runs.db") as app:
        app.recover()

    assert _sleepers(folder) == 1


def _sleepers(folder: Path) -> int:
    return sum(map(_sleeps, marked(MARK, str(folder))))


def _sleeps(process: psutil.Process) -> bool:
    try:
        return process.name() == "sleep"
    except psutil.NoSuchProcess:
        return False
