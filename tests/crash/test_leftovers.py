"""What a dead program has left is ended as one: nothing of it goes on because another part ends."""

from __future__ import annotations

import importlib
import json
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import psutil
import pytest

from oautom import BashExecution, Flow, LogError, OAutom, OAutomMode, PythonExecution, Vect
from oautom.events.sqlite import SqliteEventLog
from oautom.processes import leftovers
from oautom.processes.leftovers import LOG_MARK, Marks, end_leftovers

from .checks import marked, read_side
from .harness import MARK, Life, left_of, sweep, swept, until

SECONDS = 30
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


# Who is ended: only if the log, the engine and the attempt all say so

LEAVE = "setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!"


def at_work(log: OAutom, command: str, **options: Any) -> tuple[Vect, BashExecution]:
    flow = Flow("flow", log)
    step = BashExecution("step", flow, command, **options)
    return log.start(flow, vect_id="v"), step


def test_what_a_live_app_runs_outlives_the_recovery_of_a_copy_in_the_same_program(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, str(folder))
    with OAutom(OAutomMode.background, log=folder / "runs.db", executor="processes") as app:
        vect, _ = at_work(app, "until [ -e go ]; do sleep 0.01; done", cwd=folder)
        until(lambda: _sleepers(folder) > 0)
        copy_of(folder / "runs.db", folder / "copy.db")
        with OAutom(log=folder / "copy.db") as copy:
            flow = Flow("flow", copy)
            BashExecution("step", flow, "true")
            assert [each.wait() for each in copy.recover()] == ["success"]
        (folder / "go").touch()
        assert vect.wait(SECONDS) == "success"


def test_a_daemon_outlives_each_recovery_after_its_vect_was_pruned(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, str(folder))
    with OAutom(log=folder / "runs.db") as app:
        vect, _ = at_work(app, f"{LEAVE}; sleep 0.1")
        assert vect.wait() == "success"
        until(lambda: _sleepers(folder) == 1)
    for _ in range(2):
        with OAutom(log=folder / "runs.db") as app:
            app.recover()
            app.prune(older_than=timedelta(0))
            assert app.log.vects() == []
        assert _sleepers(folder) == 1


NESTED = """
import sys
from oautom import BashExecution, Flow, OAutom

with OAutom(log=None if sys.argv[1] == "memory" else sys.argv[1]) as app:
    flow = Flow("inner", app)
    BashExecution("step", flow, {command!r})
    app.run(flow)
"""


@pytest.mark.parametrize("inner", ["memory", "inner.db"])
@pytest.mark.parametrize("ends", [True, False])
def test_what_a_program_of_a_step_has_left_goes_by_the_attempt_of_that_step(
    folder: Path, inner: str, *, ends: bool
) -> None:
    """It is ended with an attempt that was cut off, and lives on after one that has ended."""
    nested = folder / "nested.py"
    nested.write_text(NESTED.format(command=LEAVE + "; sleep 0.1"))
    command = f"{sys.executable} {nested} {inner}" + ("" if ends else "; touch done; sleep 1000")
    code = f"""
from oautom import BashExecution, Flow, OAutom
app = OAutom(log="runs.db")
flow = Flow("flow", app)
BashExecution("step", flow, {command!r})
print(app.run(flow).state)
"""
    environment = os.environ | {MARK: str(folder)}
    outer = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    if ends:
        assert outer.communicate(timeout=60)[0] == "success\n"
    else:
        until(lambda: (folder / "done").exists() and _sleepers(folder) == 2)
    outer.kill()
    outer.communicate()
    if inner != "memory":
        with OAutom(log=folder / inner) as app:
            app.recover()  # its own engine is dead, and its attempt has ended
    assert _sleepers(folder) == (1 if ends else 2)
    for _ in range(2):
        with OAutom(log=folder / "runs.db") as app:
            app.recover()
        assert _sleepers(folder) == (1 if ends else 0)


@pytest.mark.parametrize(
    "changed",
    [
        {LOG_MARK: "another"},
        {LOG_MARK: ""},
        {"OAUTOM_ENGINE": "alive"},
        {"OAUTOM_ENGINE": ""},
        {"OAUTOM_VECT": "unknown"},
        {"OAUTOM_VECT": "over"},
    ],
)
def test_a_process_of_which_one_mark_says_otherwise_is_left_alone(
    folder: Path, changed: dict[str, str]
) -> None:
    """All marks of the one beside it say that it is left."""

    def is_open(vect: str, step: str | None, attempt: str | None) -> bool:
        return (vect, step, attempt) == ("v", "s", "1")

    alive = Marks("x")
    if changed.get("OAUTOM_ENGINE"):
        changed = {"OAUTOM_ENGINE": alive.variables["OAUTOM_ENGINE"]}
    marks = {LOG_MARK: str(folder), "OAUTOM_ENGINE": DEAD_ENGINE, MARK: str(folder)}
    marks |= {"OAUTOM_VECT": "v", "OAUTOM_STEP": "s", "OAUTOM_ATTEMPT": "1"}
    left, other = (
        subprocess.Popen(["sleep", "1000"], env=os.environ | marks | more) for more in ({}, changed)
    )
    until(lambda: _sleepers(folder) == 2)
    assert end_leftovers(str(folder), is_open) == [left.pid]
    left.wait(SECONDS)
    assert other.poll() is None
    other.kill()
    other.wait()


def test_an_engine_whose_number_another_process_has_now_is_dead() -> None:
    marks = Marks("x")
    engine = marks.variables["OAUTOM_ENGINE"]
    pid, started, number = engine.split("-")
    assert not leftovers._is_dead(engine)
    for other in (f"{pid}-{int(started) - 1}-{number}", f"{pid}-{started}-0", DEAD_ENGINE):
        assert leftovers._is_dead(other)
    marks.end()
    assert leftovers._is_dead(engine)
    assert not leftovers._is_dead(f"{os.getppid()}-{_start_of(os.getppid())}-7")


def _start_of(pid: int) -> str:
    return leftovers._process(pid).partition("-")[2]


def test_no_other_process_of_the_program_has_the_marks_of_a_worker(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads start processes of their own while a worker is started."""
    seen: list[str | None] = []
    launch = subprocess.Popen.__init__

    def look(*args: Any, **options: Any) -> None:
        seen.append(os.environ.get(LOG_MARK))
        launch(*args, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", look)
    with OAutom(log=folder / "runs.db", executor="processes") as app:
        flow = Flow("flow", app)
        PythonExecution("step", flow, os.getenv, (LOG_MARK,))
        vect = app.run(flow)
        assert vect.result("step") == app.log.id
    assert set(seen) == {None}


def copy_of(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


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
