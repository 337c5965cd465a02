"""What can happen to a log: the engine says so, does nothing that is not in it, and loses nothing.

Each of these has its real cause. With that gone, the next life of the program goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from oautom import BashExecution, Flow, LogCorruptError, LogError, OAutom, PythonExecution
from oautom.audit.invariants import check_history
from oautom.engine.clock import SystemClock
from oautom.events.sqlite import SqliteEventLog
from tests.outside import overlaps, side

from .checks import Evidence, marked, read_side
from .harness import IS_LONG, MARK, Life, few, finish, swept, until
from .plans import Plan

FOREGROUND = pytest.mark.parametrize("mode", few("foreground", more=["background"]))
BACKGROUND = pytest.mark.parametrize("mode", few("background", more=["foreground"]))


def plan_of(mode: str, *, is_slow: bool = True) -> Plan:
    """Return a plan with a step that goes on until it is ended, and others beside it."""
    options = {"outcome": "end", "on_crash": "rerun"}
    chain: list[dict[str, Any]] = [
        {"name": f"step {i}", "kind": "python", "seconds": 0.02, "upstreams": [f"step {i - 1}"]}
        | options
        for i in range(25)
    ]
    chain[0]["upstreams"] = []
    slow = {"name": "slow", "kind": "tree", "seconds": 1000 if is_slow else 0, "upstreams": []}
    return {
        "mode": mode,
        "executor": "threads",
        "max_workers": 4,
        "synchronous": "FULL",
        "flows": {"flow": [slow | options, *chain]},
        "vects": {"one": "flow"},
    }


class Broken:
    """A program to whose log something happens, and its next life, in which that is over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "runs.db"

    def run(self, plan: Plan, harm: Callable[[], None] = lambda: None) -> str:
        """Run until some steps have ended, do harm, and return what the program said."""
        (self.folder / "plan.json").write_text(json.dumps(plan))
        life = Life(self.folder, "plan.json")
        assert life.wait_for("started")
        until(lambda: sum(line.what == "end" for line in read_side(self.folder)) >= 3)
        harm()
        assert life.wait_for("failed"), (self.folder / "errors").read_text()
        assert life.end() == 3
        assert [each.cmdline() for each in marked(MARK, str(self.folder))] == []
        return (self.folder / "said").read_text()

    def go_on(self, plan: Plan) -> Evidence:
        """Look at what is there, have the program run to its end, and look again."""
        steps = {"flow": [step | {"seconds": 0} for step in plan["flows"]["flow"]]}
        plan = {**plan, "flows": steps}
        plan.pop("limit_bytes", None)
        (self.folder / "next.json").write_text(json.dumps(plan))
        evidence = Evidence(self.folder, plan)
        evidence.look()
        assert len(evidence.events) > 5
        finish(self.folder, evidence, "next.json")
        assert evidence.violations == []
        return evidence


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Broken]:
    with swept(tmp_path) as folder:
        yield Broken(folder)


def check_said(said: str, what: str) -> None:
    assert said.startswith("LogError: the engine has stopped, its log cannot be written: ")
    assert what in said
    assert said.endswith("; nothing has been started that is not in the log")
    assert "sqlite3." not in said
    assert "Traceback" not in said


@FOREGROUND
def test_a_full_disk_stops_the_engine_and_the_next_life_goes_on(broken: Broken, mode: str) -> None:
    plan = plan_of(mode) | {"limit_bytes": 100_000}  # of one file: the system then says so too
    check_said(broken.run(plan), "make room and start again")
    assert broken.go_on(plan).events[-1].name == "vect.succeeded"


@BACKGROUND
@pytest.mark.parametrize("other", few(b"", more=[None, b"another file"]))
def test_a_log_that_is_gone_or_another_stops_the_engine(
    broken: Broken, mode: str, other: bytes | None
) -> None:
    away = broken.folder / "away.db"

    def harm() -> None:
        broken.path.rename(away)
        if other is not None:
            broken.path.write_bytes(other)

    plan = plan_of(mode)
    check_said(broken.run(plan, harm), "has been deleted, moved or replaced while it was open")
    if other is not None:
        assert broken.path.read_bytes() == other
    away.rename(broken.path)
    broken.go_on(plan)


@pytest.mark.skipif(not IS_LONG, reason="a writer waits five seconds for another")
def test_a_log_that_another_program_keeps_locked_is_waited_for(broken: Broken) -> None:
    plan = plan_of("background", is_slow=False)
    (broken.folder / "plan.json").write_text(json.dumps(plan))
    life = Life(broken.folder, "plan.json")
    assert life.wait_for("started")
    until(lambda: sum(line.what == "end" for line in read_side(broken.folder)) >= 3)
    with closing(sqlite3.connect(broken.path, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        time.sleep(7)  # longer than SQLite itself waits
        began = len(read_side(broken.folder))
        time.sleep(1)
        assert len(read_side(broken.folder)) == began
        assert life.process.poll() is None
    assert life.wait_for("done")
    assert life.end() == 0
    broken.go_on(plan)


def test_a_log_that_may_not_be_written_is_refused_and_left_as_it_is(broken: Broken) -> None:
    with OAutom(log=broken.path) as app:
        PythonExecution("step", Flow("flow", app), int)
        app.run("flow", vect_id="one")
    broken.path.chmod(0o444)
    if os.access(broken.path, os.W_OK):
        pytest.skip("this user may write everything")
    before = broken.path.read_bytes()
    with pytest.raises(LogError, match="this process may not write it: change its permissions"):
        OAutom(log=broken.path).recover()
    assert broken.path.read_bytes() == before
    broken.path.chmod(0o644)
    with OAutom(log=broken.path) as app:
        PythonExecution("step", Flow("flow", app), int)
        assert app.run("flow", vect_id="one").state == "success"


@FOREGROUND
def test_a_second_engine_is_told_of_the_first_and_does_it_no_harm(
    broken: Broken, mode: str
) -> None:
    plan = plan_of(mode)
    (broken.folder / "plan.json").write_text(json.dumps(plan))
    life = Life(broken.folder, "plan.json")
    assert life.wait_for("started")
    until(lambda: any(line.step == "slow" for line in read_side(broken.folder)))
    for _ in range(3 if IS_LONG else 1):
        second = Life(broken.folder, "plan.json")
        assert second.end() == 3
        said = (broken.folder / "said").read_text()
        assert said.startswith(f"LogLockedError: log '{broken.path}' is being written by process ")
        assert f"process {life.process.pid}, and only one engine at a time may" in said
    until(lambda: sum(line.what == "end" for line in read_side(broken.folder)) == 25)
    assert any("sleep" in process.name() for process in marked("OAUTOM_STEP", "slow"))
    assert life.process.poll() is None
    life.kill()
    broken.go_on(plan)


def flip(path: Path) -> None:
    """Change one bit in an event of a Vect that is open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE events SET time = replace(time, '2', '3') WHERE seq = 3")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def cut(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    os.truncate(path, path.stat().st_size - 4096)


def overwrite(path: Path) -> None:
    path.write_bytes(b"this is no database, but it is long enough for one" * 1000)


@pytest.mark.parametrize("damage", few(flip, more=[cut, overwrite]))
def test_a_damaged_log_is_refused_and_a_copy_of_it_goes_on(
    broken: Broken, damage: Callable[[Path], None]
) -> None:
    plan = plan_of("foreground")
    (broken.folder / "plan.json").write_text(json.dumps(plan))
    life = Life(broken.folder, "plan.json")
    assert life.wait_for("started")
    until(lambda: sum(line.what == "end" for line in read_side(broken.folder)) >= 3)
    life.kill()
    with closing(sqlite3.connect(broken.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    good = broken.path.read_bytes()
    damage(broken.path)
    bad = broken.path.read_bytes()
    began = len(read_side(broken.folder))
    assert Life(broken.folder, "plan.json").end() == 3
    assert (
        (broken.folder / "said")
        .read_text()
        .startswith(f"LogCorruptError: log '{broken.path}' is damaged: ")
    )
    assert len(read_side(broken.folder)) == began
    assert broken.path.read_bytes() == bad
    with pytest.raises(LogCorruptError):
        OAutom(log=broken.path).recover()
    broken.path.write_bytes(good)
    broken.go_on(plan)


class JumpingClock(SystemClock):
    """A wall clock that somebody sets back by an hour each time that it is looked at."""

    def __init__(self) -> None:
        self._offset = timedelta()

    def now(self) -> datetime:
        self._offset += timedelta(hours=1)
        return datetime.now(UTC) - self._offset


def test_a_wall_clock_that_jumps_back_harms_neither_order_nor_recovery(tmp_path: Path) -> None:
    def declare(app: OAutom) -> None:
        flow = Flow("flow", app)
        first = BashExecution("first", flow, "true")
        wait = BashExecution("wait", flow, f"[ -e {tmp_path}/go ] || sleep 1000")
        first >> wait >> BashExecution("last", flow, "true")

    path = tmp_path / "runs.db"
    with OAutom(log=path, clock=JumpingClock()) as app:
        declare(app)
        vect = app.start("flow", vect_id="one")
        with pytest.raises(TimeoutError):
            vect.wait(1)
    (tmp_path / "go").touch()
    with OAutom(log=path, clock=JumpingClock()) as app:
        declare(app)
        vect = app.start("flow", vect_id="one")
        assert vect.wait(60) == "success"
        assert [step.attempt for step in vect.steps.values()] == [1, 2, 1]
        events = list(app.log.read())
        check_history(events)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [vect["state"] for vect in app.logs()] == ["success"]
    with closing(SqliteEventLog(path)) as log:
        log.verify()


@pytest.mark.parametrize("executor", few("threads", more=["inline", "processes"]))
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("give_a_set", "its output cannot be kept: its part ['found'] is a set"),
        ("give_nan", "its output cannot be kept: the value is a float that JSON cannot keep"),
        ("give_half_a_character", "its output cannot be kept: its part [0] is a str"),
        ("give_too_much", "its output cannot be kept: the value takes 5002 bytes as JSON"),
        ("raise_half_a_character", "ValueError: half of it: "),
    ],
)
def test_what_the_log_cannot_keep_fails_its_step_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: Any, name: str, message: str
) -> None:
    import importlib

    monkeypatch.syspath_prepend(Path(__file__).parent)
    steps = importlib.import_module("bad_steps")
    log = SqliteEventLog(tmp_path / "runs.db", value_limit_bytes=5000)
    with closing(log), OAutom(log=log, executor=executor, max_workers=1) as app:
        flow = Flow("flow", app)
        PythonExecution("bad", flow, getattr(steps, name))
        PythonExecution("good", flow, int)
        vect = app.run(flow)
        assert vect.state == "failed"
        assert vect.result("good") == 0
        assert (vect.steps["bad"].error or "").startswith(message)
        log.verify()
        check_history(log.read())


REFUSED = {
    "openat": "EMFILE",
    "read": "EIO",
    "pread64": "EIO",
    "write": "ENOSPC",
    "pwrite64": "ENOSPC",
    "fsync,fdatasync": "EIO",
    "ftruncate": "EIO",
    "newfstatat,fstat": "EACCES",
    "unlink": "EACCES",
    "fcntl": "ENOLCK",
    "flock": "ENOLCK",
    "mknodat": "EACCES",
    "clone,clone3,vfork,fork": "EAGAIN",
    "execve": "ENOMEM",
    "mmap": "ENOMEM",
    "pipe2": "EMFILE",
    "pidfd_open": "EMFILE",
    "epoll_create1": "EMFILE",
    "epoll_ctl": "ENOSPC",
}
"""System calls, and how each fails."""

SAMPLE = [
    ("openat", 12),
    ("pwrite64", 9),
    ("fsync,fdatasync", 5),
    ("clone,clone3,vfork,fork", 3),
    ("pidfd_open", 2),
    ("epoll_ctl", 5),
]
"""The calls of the short form, and which of them is refused: one after the log was opened."""

SUCCESS = "step.succeeded"
CALLS_MAX = 40  # of one thread, of each kind: those that follow are of the same places
HANG_SECONDS = 150.0  # SQLite itself tries for ten seconds to get a lock that fails


def refused_run(folder: Path, *vects: str, call: str = "", number: int = 0) -> tuple[int, str]:
    """Run the program; each thread and process of it has its call of this number fail, if any."""
    program = Path(__file__).with_name("refused.py")
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, str(program), str(folder), *vects],
            env=os.environ | {MARK: str(folder), "PYTHONPATH": str(program.parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with contextlib.ExitStack() as stack:
            if call:
                stack.enter_context(refusing(folder, process.pid, call, number))
            process.communicate(b"go on\n", timeout=HANG_SECONDS)
    return process.returncode, (folder / "errors").read_text()


@contextmanager
def refusing(folder: Path, pid: int, call: str, number: int) -> Iterator[None]:
    """Have calls of a process fail, of its threads and of all that it starts."""
    inject = f"inject={call}:error={REFUSED[call]}:when={number}"
    options = ["-f", "-o", str(folder / "calls"), "-e", f"trace={call}", "-e", inject]
    strace = subprocess.Popen(["strace", *options, "-p", str(pid)], stderr=subprocess.PIPE)
    assert strace.stderr is not None
    with strace:
        told = strace.stderr.readline()
        if b"attached" not in told:
            pytest.skip(f"strace may not be used: {told.decode()}")
        yield
        strace.stderr.read()  # it ends with the last process that it looks at


def check_refused(folder: Path, call: str, number: int) -> bool:
    """Have a call fail, and look at what came of it; return whether there was one of the number."""
    what = f"{call} {number}"
    with swept(folder):
        code, errors = refused_run(folder, "one", call=call, number=number)
        is_injected = "(INJECTED)" in (folder / "calls").read_text()
        # Python itself gives up where it cannot load what the end of a thread needs.
        assert code in (0, 3, -signal.SIGABRT), f"{what}: {errors}"
        assert [each.cmdline() for each in marked(MARK, str(folder))] == [], what
        assert refused_run(folder, "one", "two") == (0, ""), what
        with closing(SqliteEventLog(folder / "runs.db", read_only=True)) as log:
            log.verify()
            events = list(log.read())
        check_history(events)
        ends = {event.vect: event.name for event in events if event.step is None}
        assert ends["two"] == "vect.succeeded", what
        assert ends["one"] in ("vect.succeeded", "vect.failed"), what
        assert overlaps(folder) == [], what
        for step in ("bash", "python"):
            attempts = [line.attempt for line in side(folder) if line[:3] == ("begin", "one", step)]
            assert len(set(attempts)) == len(attempts), f"{what}: an attempt has begun twice"
            good = [e.attempt for e in events if (e.vect, e.step, e.name) == ("one", step, SUCCESS)]
            assert good == attempts[-1:] or not good, f"{what}: it was done again after its success"
    return is_injected


@pytest.fixture
def strace() -> None:
    """Skip where no system call can be made to fail; where tests must be whole it is installed."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not there: apt-get install strace")


@pytest.mark.skipif(IS_LONG, reason="the long form has each of them fail")
@pytest.mark.parametrize(("call", "number"), SAMPLE)
def test_a_system_call_that_fails_once_harms_nothing(
    tmp_path: Path, strace: None, call: str, number: int
) -> None:
    assert check_refused(tmp_path / "run", call, number), "it is not made so often any more"


@pytest.mark.skipif(not IS_LONG, reason="it takes two seconds for each call")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("call", REFUSED)
def test_each_system_call_that_fails_once_harms_nothing(
    tmp_path: Path, strace: None, call: str
) -> None:
    number = 1
    while number <= CALLS_MAX and check_refused(tmp_path / f"{number}", call, number):
        number += 1
    assert number > 1, "it is not made at all"


@pytest.mark.parametrize("how", ["the vect", "the log"])
def test_a_cancel_whose_reason_cannot_be_kept_harms_no_run(tmp_path: Path, how: str) -> None:
    """It is refused or told as well as can be; in no case does the engine stop."""
    with OAutom(log=tmp_path / "runs.db") as app:
        BashExecution("step", Flow("flow", app), "sleep 1000")
        vect = app.start("flow", vect_id="one")
        with suppress(TimeoutError):
            vect.wait(0.01)
        with suppress(ValueError):
            if how == "the vect":
                vect.cancel("half a character: \ud800")
            else:
                with closing(SqliteEventLog(tmp_path / "runs.db", read_only=True)) as log:
                    log.ask("one", "cancel", reason="half a character: \ud800")
        vect.cancel("enough")
        assert vect.wait(60) == "cancelled"
        check_history(app.log.read())
