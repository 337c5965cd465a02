"""Whoever reads sees the state of the last commit: never more, never half of it, and at once.

A log whose commits wait, step by step, while everything that can be read is read; threads that read
without a pause, at the shortest switch interval there is; and what an earlier program has left.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    BranchExecution,
    Context,
    Event,
    Flow,
    FlowExecution,
    LogError,
    MapExecution,
    MemoryEventLog,
    OAutom,
    OAutomError,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
    Skip,
    SqliteEventLog,
    Step,
    Vect,
    WaitExecution,
)
from oautom.engine import modes
from oautom.events import replay
from oautom.machine.state import StepState, VectState
from oautom.machine.tables import STEP_ENDS, VECT_ENDS
from oautom.testing import check_history
from tests.held import SECONDS, Call, HeldFile, HeldLog, held_log, in_time, until

Seen = dict[Any, Any]
Read = Callable[[], Any]
Log = HeldLog | HeldFile

NOT_OF_EVENTS = {"log_text", "attempts"}
"""What a step shows that is not in its events."""
STEP_MEMBERS = {
    name
    for name, member in vars(Step).items()
    if isinstance(member, property) and not name.startswith("_")
} - NOT_OF_EVENTS
VECT_MEMBERS = {"id", "flow", "state", "ended", "params", "steps"}
VECT_READS = {"status", "events", "result", "explain", "to_mermaid", "to_svg"}
VECT_ASKS = {"wait", "cancel", "pause", "resume", "retry", "approve", "reject"}


@pytest.fixture(autouse=True)
def _errors_are_not_shown() -> Iterator[None]:
    """Keep still: that the engine has stopped is told as an error, where that is the point."""
    logging.getLogger("oautom.scheduler").disabled = True
    yield
    logging.getLogger("oautom.scheduler").disabled = False


@pytest.fixture(params=["memory", "file"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    with held_log(request.param, tmp_path) as log:
        yield log


@pytest.fixture
def switching() -> Iterator[None]:
    """Have threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@contextmanager
def closed_at_end(app: OAutom) -> Iterator[OAutom]:
    """Give an app, and close it; it must let itself be closed."""
    try:
        yield app
    finally:
        if isinstance(app.log, HeldLog | HeldFile):
            app.log.free()
        in_time(app.close, seconds=3 * SECONDS)


class Watched:
    """A flow of many kinds, and the contexts that one of its steps has been given."""

    def __init__(self, app: OAutom) -> None:
        self.contexts: list[Context] = []
        inner = Flow("inner", app, max_active_vects=9)
        PythonExecution("leaf", inner, lambda: "fallen")
        flow = self.flow = Flow("flow", app, params={"n": int}, max_active_vects=99)
        first = PythonExecution("first", flow, list, [[1, 2, 3]])
        double = MapExecution("double", flow, lambda n: 2 * n, first)
        again = RetryPolicy(max_attempts=2, delay=0, jitter=0)
        flaky = PythonExecution("flaky", flow, self.fail_once, retry=again)
        bad = PythonExecution("bad", flow, self.fail, allow_failure=True)
        bad >> PythonExecution("blocked", flow, str)
        skipped = PythonExecution("skipped", flow, self.skip)
        skipped >> PythonExecution("skipped too", flow, str)
        choose = BranchExecution("choose", flow, lambda: "left")
        choose >> [PythonExecution("left", flow, str), PythonExecution("right", flow, str)]
        WaitExecution("wait", flow, seconds=0.01)
        child = FlowExecution("child", flow, inner)
        watch = PythonExecution("watch", flow, self.watch, trigger_rule="always")
        watch.depends(first, double, flaky, child, bad, skipped)

    def fail_once(self, context: Context) -> str:
        if context.attempt == 1:
            raise ValueError("not yet")
        return "at last"

    def fail(self) -> None:
        raise ValueError("never")

    def skip(self) -> None:
        raise Skip("there is nothing to do")

    def watch(self, context: Context) -> None:
        self.contexts.append(context)


# What is seen, and what the log has


def or_error(read: Callable[[], Any]) -> Any:
    """Return what a read returns; the name of the error that it raises instead."""
    try:
        return read()
    except OAutomError as error:
        return type(error).__name__


def reads_of(app: OAutom, vect: Vect, names: Sequence[str]) -> dict[Any, Read]:
    """Return all that can be read of a Vect, each by a key."""
    reads: dict[Any, Read] = {
        "state": lambda: vect.state,
        "ended": lambda: vect.ended,
        "params": lambda: dict(vect.params),
        "names": lambda: list(vect.steps),
        "walk": lambda: [(step.name, step.state) for step in vect.steps.values()],
        "length": lambda: len(vect.steps),
        "status": vect.status,
        "app.status": lambda: app.status("flow"),
        "app.logs": app.logs,
        "app.vects": lambda: [(each.id, each.state) for each in app.vects()],
        "app.vects('flow')": lambda: [(each.id, each.state) for each in app.vects("flow")],
        "app.vect": lambda: app.vect(vect.id).state,
        "running": lambda: [each.id for each in app.vects(state="running")],
    }
    for name in names:
        reads["result", name] = lambda name=name: vect.result(name)
        for member in STEP_MEMBERS:
            reads["step", name, member] = lambda name=name, member=member: getattr(
                vect.steps[name], member
            )
    return reads


def expected(vects: Mapping[str, VectState], vect_id: str, names: Sequence[str]) -> Seen:
    """Return what must be seen of a Vect when these are the states of the last commit."""
    vect = vects[vect_id]
    statuses = [status_of(each) for each in vects.values()]
    of_flow = [each for each in vects.values() if each.flow == vect.flow]
    seen: Seen = {
        "state": vect.state,
        "ended": vect.state in VECT_ENDS,
        "params": dict(vect.params),
        "names": list(vect.steps),
        "walk": [(step.name, step.state) for step in vect.steps.values()],
        "length": len(vect.steps),
        "status": status_of(vect),
        "app.status": status_of(of_flow[-1]),
        "app.logs": statuses[::-1],
        "app.vects": [(each.id, each.state) for each in vects.values()],
        "app.vects('flow')": [(each.id, each.state) for each in of_flow],
        "app.vect": vect.state,
        "running": [each.id for each in vects.values() if each.state == "running"],
    }
    for name in names:
        step = vect.steps.get(name)
        seen["result", name] = "UnknownStepError" if step is None else result_of(step)
        for member in STEP_MEMBERS:
            key = ("step", name, member)
            seen[key] = "UnknownStepError" if step is None else getattr(step, member)
    return seen


def result_of(step: StepState) -> Any:
    if step.state == "success":
        return step.output
    return "StepFailedError" if step.state in STEP_ENDS else "NotFinishedError"


def status_of(vect: VectState) -> dict[str, Any]:
    """Return the status of a Vect; by hand, so that it is not the mistake that it shows."""
    return {
        "id": vect.id,
        "name": vect.flow,
        "state": vect.state,
        "ended": vect.state in VECT_ENDS,
        "start_date": vect.start_date and vect.start_date.isoformat(),
        "end_date": vect.end_date and vect.end_date.isoformat(),
        "params": dict(vect.params),
        "executions": [
            {
                "name": step.name,
                "state": step.state,
                "attempt": step.attempt,
                "start_date": step.start_date and step.start_date.isoformat(),
                "end_date": step.end_date and step.end_date.isoformat(),
                "error": step.error,
            }
            for step in vect.steps.values()
        ],
    }


def inputs_of(vect: VectState, step: str) -> dict[str, Any]:
    upstreams = (vect.steps[name] for name in vect.graph.upstreams[step])
    return {each.name: each.output for each in upstreams if each.state == "success"}


def different(seen: Seen, wanted: Seen) -> dict[Any, Any]:
    """Return what differs: what was seen, and what the log has."""
    assert seen.keys() == wanted.keys()
    return {key: (seen[key], wanted[key]) for key in seen if seen[key] != wanted[key]}


INSTANCES = [f"double[{index}]" for index in range(3)]


def names_in(watched: Watched) -> list[str]:
    return [*watched.flow.steps, *INSTANCES]


LISTS = {"app.logs", "app.vects", "app.vects('flow')", "running"}


def look(app: OAutom, watched: Watched, vect: Vect, *, lists: bool = False) -> None:
    """Read all there is, at once, and hold it against the log; or only what lists all Vects."""
    names = names_in(watched)
    reads = {k: v for k, v in reads_of(app, vect, names).items() if (k in LISTS) is lists}
    contexts = list(watched.contexts)

    def read_all() -> tuple[Seen, list[Any], list[Event]]:
        seen = {key: or_error(read) for key, read in reads.items()}
        return seen, [dict(context.inputs) for context in contexts], vect.events()

    seen, inputs, events = in_time(read_all)
    committed = list(app.log.read())
    vects = replay(committed)
    wanted = {key: each for key, each in expected(vects, vect.id, names).items() if key in seen}
    assert different(seen, wanted) == {}
    assert inputs == [inputs_of(vects[vect.id], "watch")] * len(inputs)
    assert events == [event for event in committed if event.vect == vect.id]
    for name in vects[vect.id].steps:
        said = in_time(vect.explain, name)
        is_over = vects[vect.id].steps[name].state in STEP_ENDS
        assert said.startswith(f"`{name}` ")
        assert is_over or not any(f"`{name}` {end}" in said for end in ("succeeded", "failed at "))


def test_all_that_a_vect_shows_is_looked_at_here() -> None:
    """A new member of `Vect` must be told apart: does it read, or does it ask?"""
    public = {name for name in dir(Vect) if not name.startswith("_")}
    assert public - VECT_MEMBERS - VECT_READS - VECT_ASKS == set()
    assert set(dir(StepState)) >= STEP_MEMBERS


# Commit by commit


@pytest.mark.parametrize("lists", [False, True], ids=["one", "all"])
@pytest.mark.parametrize("executor", ["threads", "inline"])
@pytest.mark.parametrize("mode", list(OAutomMode), ids=str)
def test_while_a_commit_is_in_progress_the_one_before_it_is_seen(
    log: Log,
    mode: OAutomMode,
    executor: Any,
    lists: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(modes, "LOCK_SECONDS", 0.002)  # each explanation waits for it
    with closed_at_end(OAutom(mode, log=log, executor=executor)) as app:
        watched = Watched(app)
        log.hold()
        running = Call(app.run, watched.flow, {"n": 7}, vect_id="v")
        commits = 0
        while running.waits(0):
            if not log.reached.wait(0.005):
                continue
            if commits:
                look(app, watched, app.vect("v"), lists=lists)
            elif lists:
                assert in_time(app.logs) == in_time(app.vects) == []
            else:
                assert or_error(lambda: app.vect("v").state) in ("UnknownVectError", "pending")
            commits += 1
            log.let_one()
        assert running.result().state == "success"
        look(app, watched, app.vect("v"), lists=lists)
        assert commits > 3
    check_history(log.read())


@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_when_a_commit_has_failed_the_last_one_is_seen_for_ever(executor: Any) -> None:
    for number in range(2, 40):
        log = HeldLog()
        log.hold()
        with closed_at_end(OAutom(OAutomMode.background, log=log, executor=executor)) as app:
            watched = Watched(app)
            running = Call(app.run, watched.flow, {"n": 7}, vect_id="v")
            for _ in range(number - 1):
                until(lambda log=log, running=running: log.reached.is_set() or not running.waits(0))
                log.let_one()
            until(lambda log=log, running=running: log.reached.is_set() or not running.waits(0))
            log.error = OSError(28, "No space left on device")
            log.free()
            try:
                running.result()
            except LogError:
                for lists in (False, True):
                    look(app, watched, app.vect("v"), lists=lists)
            else:
                break
        look(app, watched, app.vect("v"))  # it is closed, and can be read
    assert 5 < number < 39


# Threads that look all the time


@contextmanager
def beside(*works: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Do some things again and again, each on a thread of its own; give the errors that came."""
    is_over, errors = threading.Event(), list[BaseException]()

    def go_on(work: Callable[[], object]) -> None:
        try:
            while not is_over.is_set() and not errors:
                work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=go_on, args=(each,), daemon=True) for each in works]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        is_over.set()
        for thread in threads:
            thread.join(3 * SECONDS)
    assert not any(thread.is_alive() for thread in threads), "it hangs"
    assert errors == []


class Watcher(threading.Thread):
    """A thread that reads one thing after the other, and notes what it saw, and when.

    Args:
        log: Of which it notes how many commits there were before, and after.
        reads: What it reads, by a key.
    """

    def __init__(self, log: Log, reads: Callable[[], Sequence[tuple[Any, Read]]]) -> None:
        super().__init__(daemon=True)
        self.notes: list[tuple[int, Any, Any, int]] = []
        self.error: BaseException | None = None
        self.is_over = threading.Event()
        self._log, self._reads = log, reads

    def run(self) -> None:
        try:
            while not self.is_over.is_set() and len(self.notes) < 30_000:
                for key, read in self._reads():
                    before = len(self._log.ticks)
                    value = or_error(read)
                    self.notes.append((before, key, value, len(self._log.ticks)))
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        self.is_over.set()
        self.join(SECONDS)
        assert not self.is_alive(), "a reader waits"
        if self.error is not None:
            raise self.error


def check_notes(watchers: Sequence[Watcher], log: Log, vect: str, names: Sequence[str]) -> None:
    """Check that each note is of a commit of its time, or of the one before."""
    events: list[Event] = []
    by_commit: list[Seen] = [{}]
    for tick in log.ticks:
        events += tick
        vects = replay(events)
        by_commit.append(expected(vects, vect, names) if vect in vects else {})
    wrong = []
    for watcher in watchers:
        for before, key, value, after in watcher.notes:
            possible = [each.get(key) for each in by_commit[max(0, before - 1) : after + 1]]
            if value not in possible:
                wrong.append((before, key, value, after, possible))
    assert wrong == []


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_whenever_somebody_looks_it_is_a_commit_of_that_time(log: Log, executor: Any) -> None:
    with closed_at_end(OAutom(OAutomMode.background, log=log, executor=executor)) as app:
        watched = Watched(app)
        names = names_in(watched)
        vect = app.start(watched.flow, {"n": 7}, vect_id="v")
        until(lambda: log.ticks)  # else there is nothing to compare with
        reads = reads_of(app, vect, names)
        quick = [(key, reads[key]) for key in ("state", "names", "status", "length")]
        few = [(key, read) for key, read in reads.items() if key[0] in ("step", "result")]
        of_app = [
            ("status", lambda: next(each for each in app.logs() if each["id"] == "v")),
            ("status", lambda: app.status("flow")),
            ("state", lambda: app.vect("v").state),
            ("state", lambda: app.vects("flow")[0].state),
        ]
        watchers = [Watcher(log, lambda each=each: each) for each in (quick, few, of_app, of_app)]
        for watcher in watchers:
            watcher.start()
        assert vect.wait(6 * SECONDS) == "success"
        for watcher in watchers:
            watcher.end()
        check_notes(watchers, log, "v", names)
        look(app, watched, vect)


@pytest.mark.usefixtures("switching")
def test_who_walks_the_steps_while_a_map_begins_sees_all_instances_or_none(log: Log) -> None:
    items = 40
    with closed_at_end(OAutom(OAutomMode.background, log=log, executor="inline")) as app:
        flow = Flow("flow", app, max_active_vects=99)
        first = PythonExecution("first", flow, list, [list(range(items))])
        double = MapExecution("double", flow, lambda n: 2 * n, first)
        MapExecution("again", flow, lambda n: 2 * n, double)
        lengths: set[tuple[Any, int]] = set()
        vects: list[Vect] = []

        def reads() -> list[tuple[Any, Read]]:
            if not vects:
                return []
            vect = vects[-1]
            return [
                ("names", lambda: list(vect.steps)),
                ("values", lambda: [step.state for step in vect.steps.values()]),
                ("items", lambda: [name for name, _ in vect.steps.items()]),
                ("status", lambda: [each["name"] for each in vect.status()["executions"]]),
                ("repr", lambda: repr(vect.steps)),
                ("logs", lambda: [len(each["executions"]) for each in app.logs()]),
            ]

        watchers = [Watcher(log, reads) for _ in range(3)]
        for watcher in watchers:
            watcher.start()
        for _ in range(20):
            vects.append(app.start(flow))
            assert vects[-1].wait(3 * SECONDS) == "success"
        for watcher in watchers:
            watcher.end()
        for watcher in watchers:
            for _, key, value, _ in watcher.notes:
                if key == "logs":
                    lengths.update((key, length) for length in value)
                elif key != "repr":
                    lengths.add((key, len(value)))
    right = {3, 3 + items, 3 + 2 * items}
    assert [each for each in lengths if each[1] not in right] == []
    assert {length for _, length in lengths} >= {3 + 2 * items}


# What an earlier program has left


class ReadGate(MemoryEventLog):
    """A log whose reads wait on threads of a name, until the test lets them go on."""

    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__()
        for event in events:
            self.append(None, event)
        self.commit()
        self.reached, self.go = threading.Event(), threading.Event()

    def read(
        self, after: int = 0, upto: int | None = None, vect: str | None = None
    ) -> Iterator[Event]:
        events = list(super().read(after, upto, vect))
        if threading.current_thread().name == "looks":
            self.reached.set()
            assert self.go.wait(SECONDS)
        return iter(events)


def one_that_failed(good: list[bool]) -> Callable[[OAutom], Flow]:
    def step() -> str:
        if not good:
            raise ValueError("not yet")
        return "good"

    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app, max_active_vects=9)
        PythonExecution("a", flow, step) >> PythonExecution("b", flow, lambda: "done")
        PythonExecution("x", Flow("other", app, max_active_vects=9), lambda: 42)
        return flow

    return declare


LOOKS: dict[str, Callable[[OAutom, Vect], Any]] = {
    "steps": lambda app, vect: vect.steps["a"].state,
    "walk": lambda app, vect: [step.state for step in vect.steps.values()],
    "status": lambda app, vect: vect.status(),
    "result": lambda app, vect: or_error(lambda: vect.result("b")),
    "params": lambda app, vect: dict(vect.params),
    "explain": lambda app, vect: vect.explain("a"),
    "app.logs": lambda app, vect: app.logs(),
    "app.status": lambda app, vect: app.status("flow"),
    "app.vect": lambda app, vect: app.vect(vect.id).steps["b"].output,
    "wait": lambda app, vect: or_error(lambda: vect.wait(SECONDS)),
}


def named(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Make a call on a thread of this name."""
    threading.current_thread().name = name
    return function(*args)


@pytest.mark.parametrize("when", ["retry", "recover"])
@pytest.mark.parametrize("what", LOOKS)
def test_who_looks_at_an_old_vect_while_it_is_taken_up_again_disturbs_nothing(
    what: str, when: str
) -> None:
    good: list[bool] = []
    declare = one_that_failed(good)
    before = HeldLog()
    with OAutom(log=before, executor="inline") as app:
        app.run(declare(app), vect_id="v")
    events = list(before.read())
    if when == "recover":
        events = [e for e in events if e.seq <= 3]  # it was at work when it died
    good.append(True)
    log = ReadGate(events)
    with closed_at_end(OAutom(OAutomMode.background, log=log)) as app:
        declare(app)
        vect = in_time(app.vect, "v")
        looking = Call(named, "looks", LOOKS[what], app, vect)
        log.reached.wait(0.2)  # of some, the events have been read already
        try:
            if when == "recover":
                in_time(app.recover, seconds=3)
            else:
                in_time(vect.retry, seconds=3)
            time.sleep(0.05)
        finally:
            log.go.set()
        looking.result()
        assert in_time(vect.wait, SECONDS) == "success"
        assert app.vect("v").result("b") == "done"
        assert app.run("other").state == "success"
    check_history(log.read())
    assert "step.late_result" not in [event.name for event in log.read()]
    with closed_at_end(OAutom(log=ReadGate(list(log.read())), executor="inline")) as app:
        declare(app)
        assert app.run("other").state == "success"
        assert app.vect("v").state == "success"


@pytest.mark.usefixtures("switching")
def test_many_look_at_old_vects_while_they_are_retried(tmp_path: Path) -> None:
    good: list[bool] = []
    declare, count = one_that_failed(good), 30
    with OAutom(log=SqliteEventLog(tmp_path / "runs.db", synchronous="NORMAL")) as app:
        flow = declare(app)
        for number in range(count):
            app.run(flow, vect_id=str(number))
    app.log.close()
    good.append(True)
    with closing(SqliteEventLog(tmp_path / "runs.db", synchronous="NORMAL")) as log:
        with closed_at_end(OAutom(OAutomMode.background, log=log)) as app:
            declare(app)

            def look() -> None:
                for name, each in LOOKS.items():
                    for number in range(count if name != "wait" else 0):
                        each(app, app.vect(str(number)))

            with beside(look, look, look):
                for number in range(count):
                    vect = app.vect(str(number))
                    in_time(vect.retry)
                    assert vect.wait(3 * SECONDS) == "success"
            assert app.run("other").state == "success"
        check_history(log.read())


# Prunes beside all that


PRUNE_SECONDS = 30 if os.environ.get("OAUTOM_CRASH_LONG") else 2


def three_deep(app: OAutom) -> Flow:
    """A flow that runs another three times, which runs one more; few of them at once."""
    deep = Flow("deep", app, max_active_vects=2)
    PythonExecution("leaf", deep, lambda: 1)
    inner = Flow("inner", app, max_active_vects=3)
    down = FlowExecution("down", inner, deep)
    PythonExecution("up", inner, lambda n: n, [down.output["leaf"]])
    outer = Flow("outer", app, max_active_vects=99)
    names = ("one", "two", "three")
    parts = [FlowExecution(name, outer, inner).output["up"] for name in names]
    PythonExecution("sum", outer, lambda *numbers: sum(numbers), parts)
    return outer


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("mode", list(OAutomMode), ids=str)
def test_a_prune_beside_child_flows_loses_none(log: Log, mode: OAutomMode) -> None:
    with closed_at_end(OAutom(mode, log=log, max_workers=3)) as app:
        outer, pruned = three_deep(app), list[str]()

        def prune() -> None:
            pruned.extend(vect.id for vect in app.prune(older_than=timedelta(0)))

        def read() -> None:
            assert all(status["executions"] for status in app.logs())
            for vect in app.vects():
                or_error(lambda: dict(vect.steps.items()))  # noqa: B023 - called in this round
                or_error(vect.status)

        def drive() -> None:
            vect = app.start(outer)
            state = or_error(lambda: vect.wait(3 * SECONDS))
            assert state in ("success", "UnknownVectError"), vect.steps

        with beside(prune, read, drive, drive) as errors:
            deadline = time.monotonic() + PRUNE_SECONDS
            while time.monotonic() < deadline and not errors:
                time.sleep(0.01)
        for vect in app.vects():
            assert in_time(vect.wait, SECONDS) == "success"
        assert len(set(pruned)) == len(pruned) > 3
    check_history(log.read(), gaps=log.gaps())


@pytest.mark.usefixtures("switching")
def test_of_a_retry_and_a_prune_at_once_one_comes_first(log: Log) -> None:
    """A retry that came first is a run; one that came second is told that the Vect is gone."""
    deadline, kept, lost = time.monotonic() + PRUNE_SECONDS, 0, 0
    with closed_at_end(OAutom(OAutomMode.background, log=log)) as app:
        flow = Flow("flow", app, max_active_vects=99)

        def step(context: Context) -> None:
            if context.attempt == 1:
                raise ValueError("not yet")

        PythonExecution("step", flow, step)
        while time.monotonic() < deadline:
            vect = app.start(flow)
            assert vect.wait(SECONDS) == "failed"
            barrier = threading.Barrier(2)

            def at_once(function: Callable[..., Any], *args: Any, **more: Any) -> Any:
                barrier.wait(SECONDS)  # noqa: B023 - called in this round only
                return function(*args, **more)

            pruning = Call(at_once, app.prune, older_than=timedelta(0))
            retrying = Call(at_once, vect.retry)
            gone = [each.id for each in pruning.result()]
            try:
                retrying.result()
            except OAutomError:
                lost += 1
                assert vect.id in gone
            else:
                kept += 1
                assert vect.wait(SECONDS) == "success"
        assert kept + lost > 10
        other = Flow("other", app)
        PythonExecution("x", other, lambda: 42)
        assert app.run(other).state == "success"
    check_history(log.read(), gaps=log.gaps())
