"""Forks: what works in a process stays there, and a forked child can neither use nor harm it."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import pickle
import select
import signal
import sqlite3
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    Client,
    Context,
    EngineError,
    Flow,
    LogLockedError,
    OAutom,
    OAutomMode,
    PythonExecution,
    SqliteEventLog,
    VectStateError,
)
from oautom.events import signals
from oautom.events.sqlite import lock as filelock
from oautom.events.sqlite import wakeup
from oautom.testing import simulate

from .conftest import Marked, Program, until

SECONDS = 20.0
"""After these a child hangs."""

Start = Callable[[str], Program]


def fork() -> int:
    with warnings.catch_warnings():
        # Of Python 3.12 and later, beside threads: that is what these tests are about.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        return os.fork()


def in_child(do: Callable[[], Any]) -> Any:
    """Return what a function returns in a forked child, or raise what it raises there."""
    read, write = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            answer = do(), None
        except BaseException as error:
            traceback.print_exc()
            answer = None, error
        os.write(write, pickle.dumps(answer))
        os._exit(0)
    os.close(write)
    told = b""
    deadline = time.monotonic() + SECONDS
    with os.fdopen(read, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
            chunk = pipe.read(2**16)
            told += chunk
            if not chunk:
                break
        else:
            os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert told, "the child hangs, or has ended without an answer"
    answer, error = pickle.loads(told)
    if error is not None:
        raise error
    return answer


def code_of(pid: int) -> int | str:
    """Return the exit code of a child, or that it hangs."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("worker_steps")


# Each public member of each object


GIVEN: dict[str, Any] = {
    "action": "cancel",
    "after": 0,
    "data": {},
    "is_driven": True,
    "limit": 1,
    "seconds": 1.0,
    "told": {},
    "buffer": None,
    "by": "Ann",
    "cron": "0 0 * * *",
    "event": None,
    "flow": "flow",
    "function": print,
    "given_up": None,
    "id": "vect",
    "key": ("vect", "slow", 1),
    "name": "another",
    "number": 1,
    "attempt": 1,
    "first": "2020-01-01",
    "last": "2020-01-01",
    "older_than": datetime.now(UTC),
    "path": os.devnull,
    "plan": "plan",
    "pool": "api",
    "time": datetime.now(UTC),
    "past": datetime.now(UTC),
    "future": None,
    "sender": None,
    "seq": 1,
    "step": "slow",
    "then": print,
    "timeout": 5,
    "vect": "vect",
    "vects": ["vect"],
    "wake": print,
    "why": "because",
}
"""What methods are given, by the name of the parameter."""

SAME = {
    *{"check_value", "close", "drive", "id", "is_current", "is_old", "is_read_only"},
    *{"keeps_objects", "path", "version"},
}
HARMLESS: dict[str, set[str]] = {
    "Client": set(),
    "OAutom": {"aclose", "close"},
    "Plan": {"flow", "name"},
    "Step": {"name"},
    "Subscription": {"close", "name"},
    "Vect": {"flow", "id"},
    # Those that `EventLog` has for logs that cannot be asked, and what never changes.
    "MemoryEventLog": {
        *{
            "asked",
            "at_once",
            "check_value",
            "claim",
            "close",
            "committed_seq",
            "done",
            "drive",
            "from_jsonl",
        },
        *{"holder", "id", "keeps_objects", "last_seq", "leave", "listen", "refuse", "requests"},
        *{"save_text", "show", "told"},
    },
    "LateLog": {"open", *SAME},
    "SqliteEventLog": {*SAME},
}
"""What never changes may be asked, and to close is to do nothing."""


def use(owner: object, name: str) -> object:
    member = getattr(owner, name)
    if not callable(member):
        return member
    arguments = {
        each.name: GIVEN[each.name]
        for each in inspect.signature(member).parameters.values()
        if each.default is each.empty
        and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL, each.POSITIONAL_ONLY)
    }
    positional = [
        GIVEN[each.name]
        for each in inspect.signature(member).parameters.values()
        if each.kind is each.POSITIONAL_ONLY
    ]
    found = member(*positional, **arguments)
    if inspect.iscoroutine(found):
        return asyncio.run(found)
    if name == "at_once":  # which does nothing before it is entered
        with found:
            return found
    return list(found) if inspect.isgenerator(found) else found


def uses(owner: object) -> Iterator[tuple[str, Callable[[], object]]]:
    kind = type(owner).__name__
    for name in dir(type(owner)):
        if name[0] != "_" and name not in HARMLESS[kind]:
            yield f"{kind}.{name}", lambda name=name: use(owner, name)


def complaints(tried: dict[str, Callable[[], object]]) -> list[str]:
    """Return what is not refused as it should be."""
    found = []
    for name, do in tried.items():
        try:
            answer = do()
        except EngineError as error:
            if "forked" not in str(error):
                found.append(f"{name} raised EngineError: {error}")
        except BaseException as error:
            found.append(f"{name} raised {error!r}")
        else:
            found.append(f"{name} returned {answer!r}")
    return found


@pytest.mark.parametrize("kept", ["memory", "file"])
@pytest.mark.parametrize("executor", ["inline", "threads", "processes"])
@pytest.mark.parametrize("mode", list(OAutomMode))
def test_each_member_of_each_object_is_refused_in_a_forked_child_and_the_parent_goes_on(
    tmp_path: Path, steps: ModuleType, mode: OAutomMode, executor: str, kept: str
) -> None:
    log = None if kept == "memory" else tmp_path / "runs.db"
    app = OAutom(mode, executor=executor, log=log, max_workers=1)
    ended = Flow("flow", app, max_active_vects=9)
    PythonExecution("slow", ended, steps.give, (1,))
    over = app.run(ended, vect_id="vect")
    subscription = app.subscribe(lambda flow, event: None, name="all", after=0)
    plan = app.plan(ended, days=1)
    waits = Flow("waits", app)
    slow = PythonExecution("slow", waits, steps.wait_for, (str(tmp_path / "go"),))
    ApprovalExecution("ask", waits, "may it?").depends(slow)
    vect = app.start(waits)
    if mode is OAutomMode.background or executor != "inline":
        with pytest.raises(TimeoutError):
            vect.wait(0.2)  # it is at work
    taken, step = over.steps, over.steps["slow"]
    spare = SqliteEventLog(log, read_only=True) if log else None

    def look() -> list[str]:
        objects = [app, over, vect, step, plan, subscription, app.log]
        tried = dict(each for owner in (*objects, *filter(None, [spare])) for each in uses(owner))
        tried |= {
            "with app": app.__enter__,
            "app.run()": app.run,
            "app.run(flow)": lambda: app.run(ended),
            "Flow": lambda: Flow("new", app),
            "await vect": lambda: asyncio.run(vect._ended()),
            "list(steps)": lambda: list(taken),
            "len(steps)": lambda: len(taken),
            "steps[...]": lambda: taken["slow"],
            "the running one": vect.cancel,
            "list(log.read())": lambda: list(app.log.read()),
        }
        told = complaints(tried)
        assert "vect" in repr(over)
        assert all(map(repr, (app, vect, step, taken, plan, subscription, app.log)))
        subscription.close()
        app.log.close()
        app.close()
        app.__exit__(None, None, None)
        return told

    try:
        assert in_child(look) == []
        (tmp_path / "go").touch()
        while vect.steps["slow"].state != "success":
            with pytest.raises(TimeoutError):
                vect.wait(0.02)
        vect.approve("ask", by="Ann")
        assert vect.wait(SECONDS) == "success"
        assert subscription.wait(SECONDS)
        assert app.run(ended).state == "success"
    finally:
        (tmp_path / "go").touch()
        app.close()


@pytest.mark.parametrize("kept", ["memory", "file"])
def test_a_client_of_an_app_is_refused_in_a_forked_child_as_that_is(
    tmp_path: Path, kept: str
) -> None:
    with OAutom(OAutomMode.background, log=tmp_path / "runs.db" if kept == "file" else None) as app:
        ApprovalExecution("ask", Flow("flow", app), "may it?")
        app.start("flow", vect_id="vect")
        client = Client(app)
        view = client.vects()[0]

        def look() -> list[str]:
            tried = dict(uses(client)) | {
                "list(follow)": lambda: list(client.follow(vect="vect")),
                "view.steps": lambda: list(view.steps),
                "view.status": view.status,
                "view.explain": lambda: view.explain("ask"),
            }
            del tried["Client.answer"]  # which an app has not
            return complaints(tried)

        assert in_child(look) == []
        app.vect("vect").cancel()


def test_a_client_of_a_file_goes_on_in_a_forked_child(tmp_path: Path) -> None:
    """Nothing of it is open between two calls: so a server may make it before it forks."""
    path = tmp_path / "runs.db"
    early = Client(path)
    with OAutom(OAutomMode.background, log=path) as app:
        ApprovalExecution("ask", Flow("flow", app, max_active_vects=99), "may it?")
        app.start("flow", vect_id="vect")
        client = Client(path)
        view, follow = client.vect("vect"), client.follow()
        next(follow)

        def child() -> list[object]:
            with pytest.raises(VectStateError):
                early.retry("vect")
            started = [each.start("flow") for each in (early, client)]
            answer = client.cancel(started[0])
            assert client.wait(started[0], SECONDS) == "cancelled"
            assert client.engine is not None
            list(client.follow(vect=started[0]))
            return [
                view.at(view.seq).status() == view.status(),
                len(early.vects()),
                client.engine.pid == app_pid,
                answer.refusal,
                next(follow).seq,
                len(client.waiting()),
                client.plans(),
            ]

        app_pid = os.getpid()
        assert in_child(child) == [True, 3, True, None, 2, 2, []]
        assert client.approve("vect", "ask", by="Ann").refusal is None
        assert app.vect("vect").wait(SECONDS) == "success"


# How a child ends


ENDS = """
import os, sys, threading, time, warnings
from oautom import *
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

def slow():
    while not os.path.exists("go"):
        time.sleep(0.005)

def code_of(pid):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "hangs"

def fork_on_a_thread(codes):
    pid = os.fork()
    if pid == 0:
        sys.exit(5)
    codes.append(code_of(pid))

def main():
    app = OAutom(OAutomMode.MODE, executor=EXECUTOR, log=LOG, max_workers=1)
    flow = Flow("flow", app)
    PythonExecution("slow", flow, slow)
    app.subscribe(lambda flow, event: None, name="all")
    vect = app.start(flow)
    try:
        if EXECUTOR != "inline":
            vect.wait(0.4)
    except TimeoutError:
        pass
    codes = []
    for how in ("exit", "_exit", "raise", "end"):
        pid = os.fork()
        if pid == 0:
            if how == "exit":
                sys.exit(5)
            if how == "_exit":
                os._exit(5)
            if how == "raise":
                sys.stderr = open(os.devnull, "w")
                raise ValueError
            return
        codes.append(code_of(pid))
    thread = threading.Thread(target=fork_on_a_thread, args=(codes,))
    thread.start()
    thread.join()
    open("go", "w").close()
    print(*codes, vect.wait(20), vect.steps["slow"].attempt, vect.steps["slow"].error)
    app.close()

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("mode", "executor", "log"),
    [
        ("foreground", "inline", None),
        ("foreground", "threads", "runs.db"),
        ("foreground", "processes", None),
        ("background", "inline", "runs.db"),
        ("background", "threads", None),
        ("background", "processes", "runs.db"),
    ],
)
def test_however_a_child_ends_the_parent_is_unharmed(
    program: Start, marked: Marked, mode: str, executor: str, log: str | None
) -> None:
    source = ENDS.replace("MODE", mode, 1).replace("OAutomMODE", "OAutomMode")
    done = program(source.replace("EXECUTOR", repr(executor)).replace("LOG", repr(log))).end(60)
    assert done.stdout == "5 5 1 0 0 success 1 None\n", done.stderr
    assert (done.returncode, done.stderr) == (0, "")
    until(lambda: marked.alive() == [])


# Forks by the user's code that the engine calls


def leave(how: str) -> int | str:
    """Fork a child that ends as said, and return its exit code."""
    pid = fork()
    if pid == 0:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)  # for its traceback
        if how == "exit":
            sys.exit(3)
        if how == "raise":
            raise ValueError
        return "the child has come back"
    return code_of(pid)


CODES = {"exit": 3, "raise": 1, "return": 0}


@pytest.mark.parametrize("how", CODES)
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_a_child_that_a_step_forks_ends_with_its_function(
    tmp_path: Path, executor: str, is_async: bool, how: str
) -> None:
    called: list[int] = []

    def work() -> int | str:
        return leave(how)

    async def work_async() -> int | str:
        return leave(how)

    with OAutom(executor=executor, log=tmp_path / "runs.db") as app:
        flow = Flow("flow", app)
        forks = PythonExecution("forks", flow, work_async if is_async else work)
        PythonExecution("next", flow, lambda: called.append(os.getpid())).depends(forks)
        vect = app.run(flow)
        assert (vect.state, vect.result("forks")) == ("success", CODES[how])
        assert called == [os.getpid()]
        app.log.verify()


def test_a_child_that_a_step_forks_in_a_worker_process_ends_with_its_function(
    program: Start, marked: Marked
) -> None:
    body = """
import os, sys
from oautom import *

def work(how):
    pid = os.fork()
    if pid == 0:
        if how == "exit":
            sys.exit(3)
        return
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

if __name__ == "__main__":
    with OAutom(executor="processes", max_workers=1) as app:
        flow = Flow("flow", app)
        for how in ("exit", "return"):
            PythonExecution(how, flow, work, (how,))
        vect = app.run(flow)
        print(vect.state, *(vect.result(step) for step in vect.steps))
"""
    done = program(body).end(60)
    assert (done.stdout, done.stderr) == ("success 3 0\n", "")


@pytest.mark.parametrize("how", CODES)
def test_a_child_that_a_receiver_forks_ends_with_it(tmp_path: Path, how: str) -> None:
    codes: list[int | str] = []

    def hear(flow: object, event: object, **_: object) -> None:
        codes.append(leave(how))

    with OAutom(executor="inline", log=tmp_path / "runs.db") as app:
        flow = Flow("flow", app)
        PythonExecution("step", flow, int)
        signals.step_started.connect(hear)
        try:
            assert app.run(flow).state == "success"
        finally:
            signals.step_started.disconnect(hear)
        subscription = app.subscribe(hear, name="hear", events=["step.succeeded"])
        assert app.run(flow).state == "success"
        assert subscription.wait(SECONDS)
    assert codes == [CODES[how]] * 2


def test_a_child_that_an_async_step_forks_cannot_await() -> None:
    """It would go on with all other steps of the loop, and take what wakes the parent."""
    other: list[int] = []

    async def fork_and_wait() -> int | str:
        pid = fork()
        if pid == 0:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            await asyncio.sleep(0.05)
            os._exit(77)
        return await asyncio.to_thread(code_of, pid)

    async def work() -> None:
        for _ in range(10):
            await asyncio.sleep(0.02)
            other.append(os.getpid())

    with OAutom() as app:
        flow = Flow("flow", app)
        forks = PythonExecution("forks", flow, fork_and_wait)
        PythonExecution("other", flow, work)
        vect = app.run(flow)
        assert (vect.state, vect.result(forks)) == ("success", 1)
    assert other == [os.getpid()] * 10


def test_a_step_may_use_multiprocessing_by_fork_and_signals_to_it_are_its_own(
    program: Start,
) -> None:
    """The handlers and the pipe of the foreground are not the child's."""
    body = """
import multiprocessing, os, signal, sys, time, warnings
from oautom import *
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
forks = multiprocessing.get_context("fork")

def sleep():
    open("begun", "w").close()
    time.sleep(60)

def work(context):
    context.log.info("in the child")
    assert context.inputs == {} and context.step == "step"
    with forks.Pool(2) as pool:  # ended by SIGTERM
        total = sum(pool.map(abs, range(10)))
    codes = []
    for number in (signal.SIGTERM, signal.SIGINT):
        child = forks.Process(target=sleep)
        child.start()
        while number == signal.SIGINT and not os.path.exists("begun"):
            time.sleep(0.005)  # Python forgets an earlier one
        os.kill(child.pid, number)
        child.join(10)
        codes.append(child.exitcode)
        child.kill()
        child.join()
        if os.path.exists("begun"):
            os.remove("begun")
    return total, *codes

app = OAutom()
flow = Flow("flow", app)
PythonExecution("step", flow, work)
vect = app.run(flow)
print(vect.state, vect.result("step"))
"""
    done = program(body).end(60)
    assert done.stdout == "success (45, -15, 1)\n", done.stderr


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_the_loop_of_the_parent_hears_after_a_child_has_ended(
    program: Start, executor: str
) -> None:
    body = """
import asyncio, os, sys, warnings
from oautom import *
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

async def quick():
    await asyncio.sleep(0)

async def slow():
    await asyncio.sleep(60)

app = OAutom(executor=EXECUTOR)
first, second = Flow("first", app), Flow("second", app)
PythonExecution("step", first, quick)
PythonExecution("step", second, slow, timeout=0.1)
app.run(first)
pid = os.fork()
if pid == 0:
    sys.exit()  # this closes all loops
os.waitpid(pid, 0)
print(app.run(second).steps["step"].error)
"""
    done = program(body.replace("EXECUTOR", repr(executor))).end()
    assert done.stdout == "it took longer than its timeout of 0.1 seconds\n", done.stderr


# An app that has not begun yet


def test_an_app_that_has_opened_nothing_works_in_whichever_child_first_uses_it(
    tmp_path: Path,
) -> None:
    with closing(SqliteEventLog(tmp_path / "runs.db")):
        pass
    app = OAutom(log=tmp_path / "runs.db")
    flow = Flow("flow", app)
    PythonExecution("step", flow, os.getpid)
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            app.vects()  # holds the lock of the app for most of the time

    looks = threading.Thread(target=look)
    looks.start()
    try:
        for name in ("a", "b"):

            def work(name: str = name) -> list[object]:
                vect = app.run(flow, vect_id=name)
                app.close()
                return [vect.result("step") == os.getpid(), len(app.log.vects())]

            assert in_child(work) == [True, "ab".index(name) + 1]
    finally:
        is_over.set()
        looks.join()

    def hold() -> str:
        app.run(flow, vect_id="c")
        with pytest.raises(LogLockedError):
            in_child(lambda: SqliteEventLog(tmp_path / "runs.db"))
        with pytest.raises(EngineError, match="forked"):
            in_child(app.vects)
        return "held"

    assert in_child(hold) == "held"
    assert app.run(flow, vect_id="d").result("step") == os.getpid()
    assert [vect.id for vect in app.vects()] == ["a", "b", "c", "d"]
    app.close()


def test_a_child_makes_an_app_of_its_own_also_out_of_a_step(tmp_path: Path) -> None:
    def run(name: str) -> str:
        with OAutom(OAutomMode.background, log=tmp_path / name) as app:
            flow = Flow("flow", app)
            first = PythonExecution("first", flow, int)
            PythonExecution("second", flow, asyncio.sleep, (0,)).depends(first)
            vect = app.start(flow)
            state = vect.wait(SECONDS)
            app.log.verify()
            return state

    def fork_one() -> str:
        answer: str = in_child(lambda: run("inner.db"))
        return answer

    with OAutom(log=tmp_path / "runs.db", executor="threads") as app:
        flow = Flow("flow", app)
        PythonExecution("step", flow, fork_one)
        assert app.run(flow).result("step") == "success"
        assert in_child(lambda: run("other.db")) == "success"
        flow = Flow("simulated", app)
        PythonExecution("step", flow, int)
        assert in_child(lambda: simulate(flow).state) == "success"


# In the middle of something


def test_a_log_is_opened_anew_in_children_of_a_program_that_reads_and_writes_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    app = OAutom(OAutomMode.background, log=path)
    waits = Flow("waits", app)
    ApprovalExecution("ask", waits, "?")
    busy = Flow("busy", app, max_active_vects=99)
    for i in range(3):
        PythonExecution(f"step {i}", busy, int)
    vect = app.start(waits, vect_id="open")
    is_over = threading.Event()
    states: Counter[str] = Counter()

    def write() -> None:
        while not is_over.is_set():
            states[app.start(busy).wait()] += 1

    def read() -> None:
        while not is_over.is_set():
            app.log.vects()
            app.log.keep_position("reader", app.log.committed_seq)

    def child() -> int:
        with closing(SqliteEventLog(path, read_only=True)) as log:
            log.verify()
            log.ask("open", "resume")
            return len(log.vects())

    threads = [threading.Thread(target=each) for each in (write, read, read)]
    for thread in threads:
        thread.start()
    try:
        counts = [in_child(child) for _ in range(12)]
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert counts == sorted(counts)
    assert set(states) == {"success"}
    vect.approve("ask", by="Ann")
    assert vect.wait(SECONDS) == "success"
    app.log.verify()
    app.close()
    with closing(SqliteEventLog(path, read_only=True)) as log:
        log.verify()
        assert len(log.vects()) == states["success"] + 1


def test_no_connection_is_open_over_a_fork(tmp_path: Path) -> None:
    """SQLite takes the locks that its parent had for its own, and reads what is being written."""
    log = SqliteEventLog(tmp_path / "runs.db")
    log.keep_position("a", 0)
    names = {"runs.db", "runs.db-wal", "runs.db-shm"}

    def opened() -> set[str]:
        links = Path("/proc/self/fd").iterdir()
        found = (Path(os.readlink(each)) for each in links if each.is_symlink())
        return {each.name for each in found if each.parent == tmp_path}

    assert opened() == names
    assert in_child(opened) == set()
    log.keep_position("a", 1)
    assert opened() >= names - {"runs.db-shm"}
    log.close()


def test_a_file_that_is_in_use_all_the_time_is_not_opened_in_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filelock, "FORK_SECONDS", 0.1)
    path = tmp_path / "runs.db"
    log = SqliteEventLog(path)
    begun, go_on = threading.Event(), threading.Event()

    def read() -> None:
        with log._database.reading():
            begun.set()
            go_on.wait()

    reader = threading.Thread(target=read)
    reader.start()
    begun.wait()
    try:
        with pytest.raises(EngineError, match=r"was being read or written when .*forked.*'spawn'"):
            in_child(lambda: SqliteEventLog(path, read_only=True))
    finally:
        go_on.set()
        reader.join()
    log.keep_position("a", 1)
    assert in_child(lambda: SqliteEventLog(path, read_only=True).position("a")) == 1
    log.close()


def test_threads_may_fork_at_once(tmp_path: Path) -> None:
    with closing(SqliteEventLog(tmp_path / "runs.db")) as log:
        codes: list[int | str] = []

        def work(name: str) -> None:
            for seq in range(5):
                log.keep_position(name, seq)
                pid = fork()
                if pid == 0:
                    os._exit(0)
                codes.append(code_of(pid))

        threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert codes == [0] * 15
        assert [log.position(name) for name in "abc"] == [4, 4, 4]


# The death of the parent


def test_a_child_that_lives_on_does_not_hide_the_death_of_its_parent(
    program: Start, marked: Marked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """
import os, sys, time, warnings
from oautom import *
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

def slow():
    time.sleep(1000)

if __name__ == "__main__":
    app = OAutom(OAutomMode.background, executor="processes", log="runs.db", max_workers=1)
    flow = Flow("flow", app)
    PythonExecution("step", flow, slow)
    vect = app.start(flow)
    try:
        vect.wait(0.5)
    except TimeoutError:
        pass
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    with open("child", "w") as file:
        file.write(str(child))
    print("forked", flush=True)
    time.sleep(1000)
"""
    running = program(body)
    running.wait_for_line("forked")
    running.kill()
    try:
        until(lambda: not any("spawn_main" in each for each in marked.alive()))
        assert len([each for each in marked.alive() if "program.py" in each]) == 1
        monkeypatch.setattr(wakeup, "LOOK_SECONDS", 1000)
        heard = threading.Event()
        with closing(SqliteEventLog(tmp_path / "runs.db")) as log:
            log.verify()
            log.listen(heard.set)
            wakeup.send(tmp_path / "runs.db")
            assert heard.wait(SECONDS)
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_the_context_of_a_step_is_a_copy_in_a_child(tmp_path: Path) -> None:
    def work(context: Context) -> list[object]:
        def child() -> list[object]:
            context.log.info("not seen")
            context.progress(0.5)
            is_taken = context.on_cancel(print)
            return [context.step, context.attempt, context.cancelled.is_set(), is_taken]

        answer: list[object] = in_child(child)
        return answer

    with OAutom() as app:
        flow = Flow("flow", app)
        PythonExecution("step", flow, work)
        vect = app.run(flow)
        assert vect.result("step") == ["step", 1, False, True]
        assert vect.steps["step"].log_text == ""


def test_a_connection_of_the_users_own_is_the_users_own(tmp_path: Path) -> None:
    """Only those of logs are closed."""
    with (
        closing(SqliteEventLog(tmp_path / "runs.db")),
        closing(sqlite3.connect(tmp_path / "own.db")) as own,
    ):
        own.execute("CREATE TABLE t (x)")
        assert in_child(lambda: 1) == 1
        assert own.execute("SELECT count(*) FROM t").fetchone() == (0,)
