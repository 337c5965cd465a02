"""What is asked is done, and in the log, when the call is back; or it raises, and was not done.

For `start`, `cancel`, `pause`, `resume`, `retry`, `approve` and `reject`, whoever has the thread
that drives; and that an attempt that is ended has ended before another one of its step begins.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    BashExecution,
    Context,
    EngineError,
    Event,
    Execution,
    Flow,
    FlowExecution,
    LogError,
    MapExecution,
    MemoryEventLog,
    OAutom,
    OAutomError,
    OAutomMode,
    ParamError,
    Pool,
    PythonExecution,
    RetryPolicy,
    SettingError,
    SqliteEventLog,
    UnknownStepError,
    Vect,
    VectAlreadyRunningException,
    VectStateError,
    WaitExecution,
)
from oautom.testing import SimulatedClock, check_history
from tests.held import A_MOMENT, Call, HeldFile, HeldLog, held_log, in_time, until
from tests.outside import BASH_HEAD, begun, orphans, overlaps

from .conftest import SECONDS, Gate, NewApp, flow_step, nothing, runs_well, told

AT_ONCE = RetryPolicy(max_attempts=2, delay=0, jitter=0)

Log = HeldLog | HeldFile


@pytest.fixture(params=["memory", "file"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    with held_log(request.param, tmp_path) as log:
        yield log


@pytest.fixture
def new_app(new_app: NewApp, request: pytest.FixtureRequest) -> Iterator[NewApp]:
    """As everywhere; what a test has left waiting is let through before the apps are closed."""
    log = request.getfixturevalue("log") if "log" in request.fixturenames else None
    yield new_app
    if log is not None:
        log.free()


@pytest.fixture
def app(log: Log, new_app: NewApp, mode: OAutomMode) -> OAutom:
    """An app in each mode, with threads, and with each log."""
    return new_app(mode, log=log)


@pytest.fixture
def background(log: Log, new_app: NewApp) -> OAutom:
    return new_app(OAutomMode.background, log=log)


@pytest.fixture
def foreground(log: Log, new_app: NewApp) -> OAutom:
    return new_app(OAutomMode.foreground, log=log)


def one_step(app: OAutom, name: str = "flow", function: Any = nothing, **options: Any) -> Flow:
    flow = Flow(name, app, max_active_vects=100)
    PythonExecution("step", flow, function, **options)
    return flow


def names_of(log: Log, vect: Vect | str) -> list[str]:
    """What stands in the log of a Vect: 'step.started a'."""
    return told(list(log.read(vect=vect if isinstance(vect, str) else vect.id)))


def drive_until(vect: Vect, step: str, state: str = "running") -> None:
    """Wait, and drive in the foreground, until a step is in a state that the log has too."""
    deadline = time.monotonic() + SECONDS
    while vect.steps[step].state != state:
        assert time.monotonic() < deadline, vect.steps
        with suppress(TimeoutError):
            vect.wait(0.02)


def check(log: Log) -> None:
    """Hold the log against the invariants; also that no child outlives its parent's attempt."""
    events = list(log.read())
    check_history(events, gaps=log.gaps())
    assert orphans(log.ticks) == []


# Starts


def test_a_start_is_back_when_it_is_committed_and_not_before(background: OAutom, log: Log) -> None:
    flow = one_step(background)
    log.hold()
    start = Call(background.start, flow, vect_id="one")

    assert log.reached.wait(SECONDS)
    assert start.waits()
    log.free()
    assert start.result().id == "one"
    assert names_of(log, "one")[0] == "vect.created"
    check(log)


@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_whatever_the_mode_what_has_been_started_is_in_the_log(
    new_app: NewApp, log: Log, mode: OAutomMode, executor: str
) -> None:
    app = new_app(mode, log=log, executor=executor)
    flow = one_step(app)
    for _ in range(20):
        vect = in_time(app.start, flow)
        assert names_of(log, vect)[:1] == ["vect.created"]


def test_in_the_foreground_a_start_commits_one_event_and_nothing_else_moves(
    new_app: NewApp, log: Log
) -> None:
    clock, calls = SimulatedClock(), list[str]()
    app = new_app(log=log, executor="inline", clock=clock)
    waiting = Flow("waiting", app)
    WaitExecution("wait", waiting, seconds=10) >> flow_step(waiting, "then", nothing)
    flow = one_step(app, function=lambda: calls.append("a step"))
    waits = app.start(waiting)
    with pytest.raises(TimeoutError):
        waits.wait(1)
    first = app.start(flow)
    clock.advance(100)  # the wait is over, when somebody looks
    before = list(log.read())

    second = in_time(app.start, flow)

    assert [(each.vect, each.name) for each in list(log.read())[len(before) :]] == [
        (second.id, "vect.created")
    ]
    assert [vect.state for vect in (first, second, waits)] == ["pending", "pending", "running"]
    assert waits.steps["wait"].state == "running"
    assert calls == []
    assert [vect.wait() for vect in (waits, first, second)] == ["success"] * 3
    check(log)


def test_in_the_foreground_a_start_in_the_next_life_recovers_nothing_yet(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with OAutom(OAutomMode.background, log=path) as app:
        flow = Flow("flow", app, max_active_vects=2)
        ApprovalExecution("gate", flow, "go on?")
        drive_until(app.start(flow, vect_id="old"), "gate")
    with OAutom(log=path) as app:
        flow = Flow("flow", app, max_active_vects=2)
        ApprovalExecution("gate", flow, "go on?")
        last = app.log.last_seq
        in_time(app.start, flow, vect_id="new")
        assert [(e.vect, e.name) for e in app.log.read(after=last)] == [("new", "vect.created")]


def test_a_run_makes_no_commit_of_its_own_for_the_start(new_app: NewApp, log: Log) -> None:
    app = new_app(log=log, executor="inline")
    app.run(one_step(app))

    assert [told(tick) for tick in log.ticks] == [
        ["vect.created", "vect.started", "step.started step"],
        ["step.succeeded step", "vect.succeeded"],
    ]


def test_those_who_start_at_once_share_a_commit(background: OAutom, log: Log) -> None:
    flow = one_step(background)
    log.hold()
    first = Call(background.start, flow)
    assert log.reached.wait(SECONDS)
    calls = [Call(background.start, flow) for _ in range(30)]
    assert all(call.waits(0.01) for call in calls)
    log.free()
    ids = {call.result().id for call in [first, *calls]}

    assert len(ids) == 31
    commits = [tick for tick in log.ticks if any(e.name == "vect.created" for e in tick)]
    assert len(commits) <= 4


def test_the_same_id_from_two_threads_is_one_start_and_both_wait_for_its_commit(
    background: OAutom, log: Log
) -> None:
    flow = one_step(background)
    log.hold()
    calls = [Call(background.start, flow, vect_id="one") for _ in range(3)]
    assert log.reached.wait(SECONDS)
    assert all(call.waits() for call in calls)
    log.free()

    vects = [call.result() for call in calls]
    assert {vect.id for vect in vects} == {"one"}
    assert vects[0].wait(SECONDS) == "success"
    assert names_of(log, "one").count("vect.created") == 1
    check(log)


def test_a_start_that_cannot_be_committed_raises(app: OAutom, log: Log) -> None:
    flow = one_step(app)
    log.error = OSError(28, "No space left on device")
    with pytest.raises(LogError, match="No space left on device"):
        in_time(app.start, flow, vect_id="one")

    assert list(log.read()) == []


@pytest.mark.parametrize("method", ["start", "astart"])
def test_a_start_waits_for_half_a_minute_unless_told(method: str) -> None:
    timeout = inspect.signature(getattr(OAutom, method)).parameters["timeout"]

    assert (timeout.default, timeout.kind) == (30.0, inspect.Parameter.KEYWORD_ONLY)


@pytest.mark.parametrize("timeout", ["soon", float("nan"), -1, [1]])
def test_a_timeout_that_is_none_is_refused_and_nothing_is_started(
    app: OAutom, log: Log, timeout: Any
) -> None:
    flow = one_step(app)
    with pytest.raises(SettingError, match="timeout must be"):
        in_time(app.start, flow, timeout=timeout)

    assert list(log.read()) == []


class Holder:
    """Who has the thread that drives until the test takes it back: a step, or a receiver."""

    def __init__(self) -> None:
        self.gate = Gate()

    def __call__(self, *_: Any, **__: Any) -> None:
        self.gate()


@pytest.fixture(params=["step", "receiver"])
def held_app(
    request: pytest.FixtureRequest, new_app: NewApp, log: Log, mode: OAutomMode, connect: Any
) -> Iterator[tuple[OAutom, Gate, Call[Any]]]:
    """An app whose driving thread an inline step or a receiver has, and the call that drives it."""
    app, holder = new_app(mode, log=log, executor="inline"), Holder()
    flow = one_step(app, "holding", holder if request.param == "step" else nothing)
    if request.param == "receiver":
        connect(holder, "step.started", sender=flow)
    driving = Call(app.run, flow)
    assert holder.gate.reached.wait(SECONDS)
    yield app, holder.gate, driving
    holder.gate.opened.set()
    with suppress(OAutomError):  # the test may have closed the app
        driving.result()


def test_a_start_waits_for_whoever_has_the_driving_thread(held_app: Any, log: Log) -> None:
    app, gate, _ = held_app
    start = Call(app.start, one_step(app), vect_id="one")
    assert start.waits()
    assert names_of(log, "one") == []
    gate.opened.set()

    assert names_of(log, start.result())[0] == "vect.created"


def test_a_start_that_waits_too_long_is_withdrawn(held_app: Any, log: Log) -> None:
    app, gate, driving = held_app
    flow = Flow("flow", app)
    flow_step(flow, "step", nothing)
    began = time.monotonic()
    with pytest.raises(EngineError):
        in_time(app.start, flow, vect_id="one", timeout=0.2)
    assert 0.15 < time.monotonic() - began < 5
    gate.opened.set()
    driving.result()
    assert runs_well(app)  # whatever was left to do is done by now
    assert names_of(log, "one") == []
    with suppress(OAutomError):
        assert "one" not in [vect.id for vect in app.vects()]

    vect = in_time(app.start, flow, vect_id="one")  # its id, and the room of its flow, are free
    assert vect.wait(SECONDS) == "success"
    check(log)


def test_a_start_with_no_time_at_all_is_done_or_withdrawn(background: OAutom, log: Log) -> None:
    flow = one_step(background)
    done, withdrawn = set(), set()
    for number in range(50):
        try:
            done.add(in_time(background.start, flow, vect_id=str(number), timeout=0).id)
        except EngineError:
            withdrawn.add(str(number))
        except VectAlreadyRunningException:
            break
    assert runs_well(background)

    found = {event.vect for event in log.read() if event.flow == flow.name}
    assert found == done
    assert found.isdisjoint(withdrawn)


@pytest.mark.parametrize("place", ["step", "receiver"])
def test_on_the_driving_thread_a_start_is_part_of_the_next_commit(
    new_app: NewApp, log: Log, mode: OAutomMode, connect: Any, place: str
) -> None:
    app = new_app(mode, log=log, executor="inline")
    other, begun_one = one_step(app, "other"), threading.Event()

    def begin(*_: Any, **__: Any) -> None:
        app.start(other, vect_id="other")
        begun_one.set()

    flow = Flow("flow", app)
    first = flow_step(flow, "first", begin if place == "step" else nothing)
    first >> flow_step(flow, "second", nothing)
    if place == "receiver":
        connect(begin, "step.started", sender=flow)
    in_time(app.run, flow)
    assert begun_one.is_set()

    with_first = next(i for i, tick in enumerate(log.ticks) if "step.started first" in told(tick))
    after = told(log.ticks[with_first + 1])
    assert "vect.created" in after
    assert app.vect("other").wait(SECONDS) == "success"
    check(log)


def test_a_step_on_another_thread_finds_what_it_has_started_in_the_log(
    app: OAutom, log: Log
) -> None:
    other = one_step(app, "other")
    flow = one_step(app, function=lambda: names_of(log, app.start(other, vect_id="other"))[0])

    assert in_time(app.run, flow).result("step") == "vect.created"


def test_a_start_beside_somebody_who_drives_in_the_foreground(foreground: OAutom, log: Log) -> None:
    gate = Gate()
    driving = Call(foreground.run, one_step(foreground, "long", gate))
    assert gate.reached.wait(SECONDS)
    vect = in_time(foreground.start, one_step(foreground))

    assert names_of(log, vect)[0] == "vect.created"
    until(lambda: vect.state == "success")  # the other one drives it as well
    gate.opened.set()
    driving.result()


def test_a_coroutine_starts_while_its_loop_goes_on(
    new_app: NewApp, log: Log, mode: OAutomMode
) -> None:
    app = new_app(mode, log=log)
    flow = one_step(app)

    async def main() -> tuple[Vect, int]:
        turns = 0
        starting = asyncio.ensure_future(app.astart(flow, vect_id="one"))
        while not starting.done():
            turns += 1
            if turns == 20:
                log.free()
            await asyncio.sleep(0.005)
        return starting.result(), turns

    log.hold()
    vect, turns = in_time(asyncio.run, main())

    assert turns >= 20
    assert names_of(log, vect)[0] == "vect.created"
    assert names_of(log, vect) == ["vect.created"] or mode is OAutomMode.background
    assert vect.wait(SECONDS) == "success"


def test_a_coroutine_is_told_what_start_would_raise(app: OAutom) -> None:
    flow = Flow("flow", app, params={"day": int})
    ApprovalExecution("gate", flow, "go on?")
    with pytest.raises(ParamError):
        asyncio.run(app.astart(flow, {"day": "monday"}))
    with pytest.raises(SettingError, match="timeout must be"):
        asyncio.run(app.astart(flow, {"day": 1}, timeout="soon"))
    app.start(flow, {"day": 1})
    with pytest.raises(VectAlreadyRunningException):
        asyncio.run(app.astart(flow, {"day": 1}))


def test_a_coroutine_that_waits_too_long_has_started_nothing(held_app: Any, log: Log) -> None:
    app, gate, driving = held_app
    with pytest.raises(EngineError):
        in_time(lambda: asyncio.run(app.astart(one_step(app), vect_id="one", timeout=0.2)))
    gate.opened.set()
    driving.result()

    assert runs_well(app)
    assert names_of(log, "one") == []


def test_who_waits_for_a_start_while_the_app_is_closed_is_told(held_app: Any, log: Log) -> None:
    app, gate, _ = held_app
    start = Call(app.start, one_step(app), vect_id="one")
    assert start.waits()
    closing = Call(app.close)
    gate.opened.set()
    closing.result()

    try:
        vect = start.result()
    except OAutomError:
        assert names_of(log, "one") == []
    else:
        assert names_of(log, vect)[0] == "vect.created"


# What is asked of a Vect


ASKED: dict[str, tuple[Callable[[Vect], object], str]] = {
    "cancel": (lambda vect: vect.cancel("enough"), "vect.cancelled"),
    "pause": (lambda vect: vect.pause(), "vect.paused"),
    "resume": (lambda vect: vect.resume(), "vect.resumed"),
    "retry": (lambda vect: vect.retry(), "vect.reopened"),
    "approve": (lambda vect: vect.approve("gate", "Ada"), "step.succeeded gate"),
    "reject": (lambda vect: vect.reject("gate", "Ada"), "step.failed gate"),
}
actions = pytest.mark.parametrize("action", ASKED)


def gated(app: OAutom, name: str = "gated") -> Flow:
    flow = Flow(name, app, max_active_vects=100)
    ApprovalExecution("gate", flow, "go on?") >> flow_step(flow, "ship", nothing)
    return flow


def ready_for(action: str, app: OAutom) -> Vect:
    """A Vect of which this can be asked: its gate waits, unless it has failed there."""
    vect = app.start(gated(app))
    drive_until(vect, "gate")
    if action == "resume":
        vect.pause()
        until_state(vect, "paused")
    if action == "retry":
        vect.reject("gate", "Ada")
        assert vect.wait(SECONDS) == "failed"
    return vect


def until_state(vect: Vect, state: str) -> None:
    """Wait for a state of a Vect, and drive in the foreground."""
    deadline = time.monotonic() + SECONDS
    while vect.state != state:
        assert time.monotonic() < deadline, vect
        with suppress(TimeoutError):
            vect.wait(0.02)


@actions
def test_what_is_asked_is_back_when_it_is_committed_and_not_before(
    background: OAutom, log: Log, action: str
) -> None:
    ask, name = ASKED[action]
    vect = ready_for(action, background)
    before = len(names_of(log, vect))
    log.hold()
    call = Call(ask, vect)
    assert log.reached.wait(SECONDS)
    assert call.waits()
    log.free()
    call.result()

    assert name in names_of(log, vect)[before:]
    check(log)


@actions
def test_in_the_foreground_the_caller_does_it_and_nothing_else(
    new_app: NewApp, log: Log, action: str
) -> None:
    clock = SimulatedClock()
    app = new_app(log=log, executor="inline", clock=clock)
    ask, name = ASKED[action]
    waiting = Flow("waiting", app)
    WaitExecution("wait", waiting, seconds=1) >> flow_step(waiting, "then", nothing)
    waits = app.start(waiting)
    vect = ready_for(action, app)
    pending = app.start(one_step(app))
    clock.advance(100)
    before, state = log.last_seq, waits.state
    in_time(ask, vect)

    told_now = list(log.read(after=before))
    assert name in told(told_now)
    assert {event.vect for event in told_now} == {vect.id}
    assert (pending.state, waits.state) == ("pending", state)
    assert waits.wait() == "success"
    check(log)


@actions
def test_what_cannot_be_committed_raises_and_is_not_shown(
    app: OAutom, log: Log, action: str
) -> None:
    ask, _ = ASKED[action]
    vect = ready_for(action, app)
    before = vect.state, {step.name: step.state for step in vect.steps.values()}
    events = vect.events()
    log.error = OSError(28, "No space left on device")
    with pytest.raises(LogError, match="No space left on device"):
        in_time(ask, vect)

    assert (vect.state, {step.name: step.state for step in vect.steps.values()}) == before
    assert vect.events() == events


@actions
@pytest.mark.parametrize("place", ["step", "receiver"])
def test_on_the_driving_thread_what_is_asked_is_part_of_the_next_commit(
    new_app: NewApp, log: Log, mode: OAutomMode, connect: Any, place: str, action: str
) -> None:
    app = new_app(mode, log=log, executor="inline")
    ask, name = ASKED[action]
    vect = ready_for(action, app)
    flow = Flow("asks", app)

    def asks(*_: Any, **__: Any) -> None:
        ask(vect)

    flow_step(flow, "first", asks if place == "step" else nothing) >> flow_step(
        flow, "then", nothing
    )
    if place == "receiver":
        connect(asks, "step.started", sender=flow)
    assert in_time(app.run, flow).state == "success"

    with_first = next(i for i, tick in enumerate(log.ticks) if "step.started first" in told(tick))
    assert name in told([each for each in log.ticks[with_first + 1] if each.vect == vect.id])
    check(log)


def test_a_cancel_in_the_foreground_ends_what_runs(foreground: OAutom, log: Log) -> None:
    heard = threading.Event()

    def listen(context: Context) -> None:
        context.cancelled.wait(SECONDS)
        heard.set()

    vect = foreground.start(one_step(foreground, function=listen))
    with pytest.raises(TimeoutError):
        vect.wait(0.1)
    in_time(vect.cancel)

    assert heard.wait(SECONDS)  # nobody drives
    assert vect.state == "cancelled"
    assert names_of(log, vect)[-1] == "vect.cancelled"


def test_a_cancel_before_anything_has_moved_is_committed(foreground: OAutom, log: Log) -> None:
    calls = list[str]()
    vect = foreground.start(one_step(foreground, function=lambda: calls.append("a step")))
    in_time(vect.cancel, "never mind")

    assert vect.state == "cancelled"
    assert "vect.cancelled" in names_of(log, vect)
    assert vect.wait(SECONDS) == "cancelled"
    assert calls == []
    check(log)


def test_a_pause_before_anything_has_moved_holds(app: OAutom, log: Log) -> None:
    calls, gate = list[str](), Gate()
    PythonExecution("step", Flow("flow", app), lambda: calls.append("a step"))
    in_time(app.start, one_step(app, "other", gate))
    for _ in range(20):  # in the background, it may have begun
        vect = app.start("flow")
        in_time(vect.pause)
        assert {"vect.paused", "vect.succeeded"} & {*names_of(log, vect)}
        before = len(calls)
        with suppress(TimeoutError):
            vect.wait(0.02)
        assert vect.state in ("paused", "success")
        names = [*names_of(log, vect), "vect.paused"]
        has_begun = "step.started step" in names[: names.index("vect.paused")]
        assert len(calls) == before or has_begun
        in_time(vect.resume)
        assert vect.wait(SECONDS) == "success"
    gate.opened.set()
    check(log)


def test_an_inline_step_that_listens_is_told_at_once_by_another_thread(
    new_app: NewApp, log: Log, mode: OAutomMode
) -> None:
    app, reached = new_app(mode, log=log, executor="inline"), threading.Event()

    def listen(context: Context) -> bool:
        cancelled = context.cancelled
        reached.set()
        return cancelled.wait(SECONDS)

    flow = one_step(app, "listening", listen)
    driving = Call(app.run, flow, vect_id="one")
    assert reached.wait(SECONDS)
    began = time.monotonic()
    in_time(app.vect("one").cancel)

    assert time.monotonic() - began < SECONDS / 2
    assert "vect.cancelled" in names_of(log, "one")
    assert driving.result().state == "cancelled"


def test_what_is_refused_raises_and_writes_nothing(app: OAutom, log: Log) -> None:
    vect = ready_for("approve", app)
    before = log.last_seq
    with pytest.raises(VectStateError):
        in_time(vect.retry)
    with pytest.raises(VectStateError):
        in_time(vect.approve, "ship", "Ada")
    with pytest.raises(UnknownStepError):
        in_time(vect.approve, "shop", "Ada")
    assert log.last_seq == before


def test_of_a_vect_that_has_ended_nothing_changes_and_nothing_waits(app: OAutom, log: Log) -> None:
    vect = app.run(one_step(app))
    before = log.last_seq
    for ask in (vect.cancel, vect.pause, vect.resume):
        in_time(ask)
    assert log.last_seq == before


def test_a_retry_over_the_limit_raises_and_writes_nothing(app: OAutom, log: Log) -> None:
    flow = Flow("flow", app)
    ApprovalExecution("gate", flow, "go on?")
    first = app.start(flow)
    drive_until(first, "gate")
    first.reject("gate", "Ada")
    first.wait(SECONDS)
    second = app.start(flow)
    drive_until(second, "gate")
    before = log.last_seq
    with pytest.raises(VectAlreadyRunningException):
        in_time(first.retry)
    assert log.last_seq == before


def test_of_many_who_retry_at_once_one_has_the_room(background: OAutom, log: Log) -> None:
    flow = Flow("flow", background)
    ApprovalExecution("gate", flow, "go on?")
    vects = []
    for _ in range(4):
        vects.append(background.start(flow))
        drive_until(vects[-1], "gate")
        vects[-1].reject("gate", "Ada")
        vects[-1].wait(SECONDS)
    calls = [Call(vect.retry) for vect in vects * 3]
    back = 0
    for call in calls:
        try:
            call.result()
        except (VectAlreadyRunningException, VectStateError):
            continue
        back += 1

    assert back == 1
    assert sum(event.name == "vect.reopened" for event in log.read()) == 1
    check(log)


# Decisions


DECISIONS = {
    "approved": lambda vect, by: vect.approve("gate", by),
    "rejected": lambda vect, by: vect.reject("gate", by, "no"),
}


@pytest.fixture(params=[False, True], ids=["alone", "beside"])
def asked(request: pytest.FixtureRequest, app: OAutom) -> Vect:
    """A Vect whose gate waits: its only step, so that it ends then, or beside another gate."""
    flow = Flow("asked", app)
    ApprovalExecution("gate", flow, "go on?")
    if request.param:
        ApprovalExecution("other gate", flow, "and here?")
    vect = app.start(flow)
    drive_until(vect, "gate")
    return vect


@pytest.mark.parametrize("second", DECISIONS)
@pytest.mark.parametrize("first", DECISIONS)
def test_who_decides_second_is_told_who_was_first_and_it_stands_in_the_log(
    asked: Vect, log: Log, first: str, second: str
) -> None:
    in_time(DECISIONS[first], asked, "Ada")
    state = asked.steps["gate"].state
    with pytest.raises(VectStateError, match="Ada"):
        in_time(DECISIONS[second], asked, "Bob")

    late = [event for event in asked.events() if event.name == "step.late_result"]
    assert [(event.step, dict(event.data)) for event in late] == [
        ("gate", {"decision": second, "by": "Bob"})
    ]
    assert (late[0].source, late[0].dest) == (state, state)
    assert asked.steps["gate"].state == state
    check(log)


def test_of_two_who_decide_at_once_one_is_told_of_the_other(background: OAutom, log: Log) -> None:
    flow = gated(background)
    for _ in range(20):
        vect, barrier = background.start(flow), threading.Barrier(2)
        drive_until(vect, "gate")

        def decide(by: str, how: str, vect: Vect = vect, barrier: Any = barrier) -> str:
            barrier.wait(SECONDS)
            try:
                DECISIONS[how](vect, by)
            except VectStateError as error:
                return str(error)
            return ""

        calls = {"Ada": Call(decide, "Ada", "approved"), "Bob": Call(decide, "Bob", "rejected")}
        said = {by: call.result() for by, call in calls.items()}
        first = next(by for by in said if not said[by])
        second = next(by for by in said if by != first)
        assert f"{first}" in said[second]
        late = [dict(e.data) for e in vect.events() if e.name == "step.late_result"]
        assert [each["by"] for each in late] == [second]
        assert vect.wait(SECONDS) == ("success" if first == "Ada" else "failed")
    check(log)


def test_a_decision_is_remembered_by_the_next_life(tmp_path: Path) -> None:
    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app)
        ApprovalExecution("gate", flow, "go on?")
        ApprovalExecution("other", flow, "and here?")
        return flow

    path = tmp_path / "runs.db"
    with OAutom(OAutomMode.background, log=path) as app:
        vect = app.start(declare(app), vect_id="one")
        drive_until(vect, "gate")
        vect.approve("gate", "Ada")
    with OAutom(OAutomMode.background, log=path) as app:
        declare(app)
        app.recover()
        with pytest.raises(VectStateError, match="Ada"):
            in_time(app.vect("one").reject, "gate", "Bob")
        late = [e for e in app.vect("one").events() if e.name == "step.late_result"]
        assert [dict(event.data) for event in late] == [{"decision": "rejected", "by": "Bob"}]
        check_history(app.log.read())


def test_what_was_not_asked_yet_cannot_be_decided_and_nothing_is_written(
    app: OAutom, log: Log
) -> None:
    flow = Flow("flow", app)
    first = ApprovalExecution("first", flow, "go on?")
    first >> ApprovalExecution("gate", flow, "and here?")
    vect = app.start(flow)
    drive_until(vect, "first")
    before = log.last_seq
    for decide in DECISIONS.values():
        with pytest.raises(VectStateError):
            in_time(decide, vect, "Ada")
    assert log.last_seq == before


def test_in_the_foreground_what_does_not_move_yet_was_not_asked(
    foreground: OAutom, log: Log
) -> None:
    vect = foreground.start(gated(foreground))
    for decide in DECISIONS.values():
        with pytest.raises(VectStateError):
            in_time(decide, vect, "Ada")
    assert names_of(log, vect) == ["vect.created"]


def test_after_a_cancel_or_the_time_is_up_a_decision_is_refused(app: OAutom, log: Log) -> None:
    flow = Flow("flow", app, max_active_vects=2)
    ApprovalExecution("gate", flow, "go on?", timeout=0.1)
    late, cancelled = app.start(flow), app.start(flow)
    drive_until(cancelled, "gate")
    cancelled.cancel()
    assert (late.wait(SECONDS), cancelled.wait(SECONDS)) == ("failed", "cancelled")
    for vect in (late, cancelled):
        with pytest.raises(VectStateError):
            in_time(vect.approve, "gate", "Ada")
        assert vect.steps["gate"].output is None
    check(log)


def test_a_gate_that_is_asked_anew_can_be_decided_anew(app: OAutom, log: Log) -> None:
    vect = ready_for("retry", app)
    in_time(vect.retry)
    drive_until(vect, "gate")
    in_time(vect.approve, "gate", "Bob")

    assert vect.wait(SECONDS) == "success"
    assert vect.result("gate")["by"] == "Bob"
    with pytest.raises(VectStateError, match="Bob"):
        in_time(vect.approve, "gate", "Eve")
    check(log)


# No two attempts of a step are alive at once


DEAF = f"""{BASH_HEAD}
[[ $OAUTOM_ATTEMPT -gt 1 ]] || {{ trap '' TERM INT HUP; sleep 30; }}
"""
"""A command whose first attempt has to be killed, and whose second ends at once."""


class Stubborn:
    """A function whose first call goes on until the test lets it end."""

    def __init__(self, *, listens: bool) -> None:
        self.reached, self.told, self.opened = (threading.Event() for _ in range(3))
        self.listens = listens
        self.at_work = 0
        self.most_at_work = 0
        self.calls: list[int] = []
        self._lock = threading.Lock()

    def __call__(self, context: Context) -> int:
        with self._lock:
            self.at_work += 1
            self.most_at_work = max(self.at_work, self.most_at_work)
            is_first = not self.calls
            self.calls.append(context.attempt)
        try:
            if is_first:
                self._take_time(context)
        finally:
            with self._lock:
                self.at_work -= 1
        return context.attempt

    def _take_time(self, context: Context) -> None:
        cancelled = context.cancelled if self.listens else self.opened
        self.reached.set()
        assert cancelled.wait(SECONDS)
        self.told.set()
        assert self.opened.wait(SECONDS)  # it tidies up

    def check_alone(self) -> None:
        """Check that the next call has waited for the end of the first."""
        assert not self.at_work
        assert self.most_at_work == 1


@pytest.fixture(params=[True, False], ids=["listening", "deaf"])
def stubborn(request: pytest.FixtureRequest) -> Iterator[Stubborn]:
    function = Stubborn(listens=request.param)
    yield function
    function.opened.set()


def stays_so(is_true: Callable[[], bool]) -> bool:
    """Whether something holds, and goes on to hold for a moment."""
    deadline = time.monotonic() + A_MOMENT
    while is_true():
        if time.monotonic() > deadline:
            return True
        time.sleep(0.01)
    return False


def test_a_retry_waits_for_the_end_of_a_command_that_was_cancelled(
    background: OAutom, log: Log, tmp_path: Path
) -> None:
    flow = Flow("flow", background)
    BashExecution("step", flow, DEAF, cwd=tmp_path, grace_period=0.5)
    vect = background.start(flow)
    until(lambda: begun(tmp_path, "step") == [1])
    in_time(vect.cancel)
    in_time(vect.retry)

    assert vect.wait(SECONDS) == "success"
    assert begun(tmp_path, "step") == [1, 2]
    assert overlaps(tmp_path) == []
    check(log)


def test_another_attempt_waits_for_the_end_of_a_command_whose_time_was_up(
    background: OAutom, log: Log, tmp_path: Path
) -> None:
    flow = Flow("flow", background)
    options = {"timeout": 0.3, "retry": AT_ONCE, "grace_period": 0.5}
    BashExecution("step", flow, DEAF, cwd=tmp_path, **options)
    vect = background.start(flow)

    assert vect.wait(SECONDS) == "success"
    assert begun(tmp_path, "step") == [1, 2]
    assert overlaps(tmp_path) == []
    check(log)


def test_a_retry_waits_for_the_end_of_a_function_that_was_cancelled(
    background: OAutom, log: Log, stubborn: Stubborn
) -> None:
    vect = background.start(one_step(background, function=stubborn))
    assert stubborn.reached.wait(SECONDS)
    in_time(vect.cancel)
    in_time(vect.retry)

    assert stays_so(lambda: stubborn.calls == [1])
    assert runs_well(background)
    stubborn.opened.set()
    assert vect.wait(SECONDS) == "success"
    assert vect.result("step") == 2
    stubborn.check_alone()
    check(log)


def test_another_attempt_waits_for_the_end_of_a_function_whose_time_was_up(
    background: OAutom, log: Log, stubborn: Stubborn
) -> None:
    flow = one_step(background, function=stubborn, timeout=0.1, retry=AT_ONCE)
    vect = background.start(flow)
    assert stubborn.reached.wait(SECONDS)
    time.sleep(0.2)

    assert stays_so(lambda: stubborn.calls == [1])
    assert runs_well(background)
    stubborn.opened.set()
    assert vect.wait(SECONDS) == "success"
    assert vect.result("step") == 2
    stubborn.check_alone()
    check(log)


def test_a_retry_after_the_time_was_up_waits_for_the_end_of_the_function(
    background: OAutom, log: Log, stubborn: Stubborn
) -> None:
    vect = background.start(one_step(background, function=stubborn, timeout=0.1))
    assert stubborn.reached.wait(SECONDS)
    if not stubborn.listens:
        until_state(vect, "failed")  # a deaf function is not waited for
        in_time(vect.retry)
        assert stays_so(lambda: stubborn.calls == [1])
    stubborn.opened.set()
    if stubborn.listens:
        assert vect.wait(SECONDS) == "failed"
        in_time(vect.retry)

    assert vect.wait(SECONDS) == "success"
    stubborn.check_alone()
    check(log)


def test_each_of_three_retries_waits_for_the_one_before(background: OAutom, log: Log) -> None:
    gates, at_work, most = [Gate() for _ in range(4)], list[int](), list[int]()

    def step(context: Context) -> int:
        at_work.append(context.attempt)
        most.append(len(at_work))
        gates[context.attempt - 1]()
        at_work.remove(context.attempt)
        return context.attempt

    vect = background.start(one_step(background, function=step))
    for gate in gates[:3]:
        assert gate.reached.wait(SECONDS)
        in_time(vect.cancel)
        in_time(vect.retry)
        assert stays_so(lambda: len(at_work) == 1)
        gate.opened.set()
    gates[3].opened.set()

    assert vect.wait(SECONDS) == "success"
    assert max(most) == 1
    check(log)


def test_an_instance_of_a_map_waits_for_its_own_attempt_only(
    background: OAutom, log: Log, stubborn: Stubborn
) -> None:
    flow, others = Flow("flow", background), list[tuple[int, int]]()

    def work(n: int, context: Context) -> int:
        if n == 0:
            return stubborn(context)
        others.append((n, context.attempt))
        context.cancelled.wait(SECONDS if context.attempt == 1 else 0)
        return n

    source = PythonExecution("source", flow, lambda: [0, 1, 2])
    MapExecution("map", flow, work, source)
    vect = background.start(flow)
    assert stubborn.reached.wait(SECONDS)
    until(lambda: len(others) == 2)
    in_time(vect.cancel)
    in_time(vect.retry)

    until(lambda: {(1, 2), (2, 2)} <= set(others))
    assert stubborn.calls == [1]
    stubborn.opened.set()
    assert vect.wait(SECONDS) == "success"
    stubborn.check_alone()
    check(log)


def test_what_an_app_has_left_at_work_is_waited_for_by_the_next_one_of_the_program(
    tmp_path: Path, stubborn: Stubborn
) -> None:
    path = tmp_path / "runs.db"

    def life() -> tuple[OAutom, Vect]:
        app = OAutom(OAutomMode.background, log=path)
        return app, app.start(one_step(app, function=stubborn), vect_id="one")

    first, _ = life()
    assert stubborn.reached.wait(SECONDS)
    if stubborn.listens:
        closing = Call(first.close)  # it may, or may not, wait for who listens
        closing.waits()
        if closing.waits(0.01):
            stubborn.opened.set()
        closing.result()
    else:
        in_time(first.close)
    second, vect = life()
    if not stubborn.opened.is_set():
        assert stays_so(lambda: stubborn.calls == [1])
        assert runs_well(second)
        stubborn.opened.set()
    assert vect.wait(SECONDS) == "success"
    stubborn.check_alone()
    check_history(second.log.read())
    in_time(second.close)


# ... nor of a step that runs a flow, whose work is that of its child, and of the child's children


def run_by(app: OAutom, levels: int, inner: Flow, **options: Any) -> Flow:
    """Return a flow that runs another one, by as many flows in between as told."""
    for level in range(levels):
        flow = Flow(f"level {level}", app)
        FlowExecution("child", flow, inner, **options)
        inner = flow
    return inner


@pytest.mark.parametrize("levels", [1, 2])
def test_a_retry_waits_for_the_end_of_the_work_of_a_child(
    background: OAutom, log: Log, stubborn: Stubborn, levels: int
) -> None:
    flow = run_by(background, levels, one_step(background, function=stubborn))
    vect = background.start(flow)
    assert stubborn.reached.wait(SECONDS)
    in_time(vect.cancel)
    if stubborn.listens:
        assert Call(vect.wait).waits()  # what tidies up is waited for, however deep it is
    else:
        assert in_time(vect.wait) == "cancelled"
    in_time(vect.retry)

    assert stays_so(lambda: stubborn.calls == [1])
    assert "its attempt 1, which is at work still" in vect.explain("child")
    assert runs_well(background)
    stubborn.opened.set()
    assert vect.wait(SECONDS) == "success"
    assert stubborn.calls == [1, 2]  # in one child, which goes on
    stubborn.check_alone()
    check(log)


def test_another_attempt_waits_for_the_end_of_the_work_of_a_child_whose_time_was_up(
    background: OAutom, log: Log, stubborn: Stubborn
) -> None:
    flow = Flow("outer", background)
    inner = run_by(background, 1, one_step(background, function=stubborn))
    FlowExecution("child", flow, inner, timeout=0.1, retry=AT_ONCE)
    vect = background.start(flow)
    assert stubborn.reached.wait(SECONDS)
    until(lambda: stubborn.told.is_set() or "step.retried child" in names_of(log, vect))
    time.sleep(0.1)

    assert stays_so(lambda: stubborn.calls == [1])
    stubborn.opened.set()
    assert vect.wait(SECONDS) in ("success", "failed")  # the second has no more time than the first
    stubborn.check_alone()
    check(log)


def test_a_retry_waits_for_the_end_of_a_command_of_a_child(
    background: OAutom, log: Log, tmp_path: Path
) -> None:
    inner = Flow("inner", background)
    command = f"{BASH_HEAD} [[ -e first ]] || {{ touch first; trap '' TERM INT HUP; sleep 30; }}"
    BashExecution("step", inner, command, cwd=tmp_path, grace_period=0.5)
    vect = background.start(run_by(background, 2, inner))
    until(lambda: (tmp_path / "first").exists())
    in_time(vect.cancel)
    in_time(vect.retry)

    assert vect.wait(SECONDS) == "success"
    assert begun(tmp_path, "step") == [1, 2]
    assert overlaps(tmp_path) == []
    check(log)


def test_a_retry_waits_for_the_end_of_a_coroutine_of_a_child(background: OAutom, log: Log) -> None:
    reached, opened, at_work, most = threading.Event(), threading.Event(), list[int](), list[int]()

    async def deaf() -> None:
        at_work.append(1)
        most.append(len(at_work))
        reached.set()
        while not opened.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        at_work.pop()

    inner = Flow("inner", background)
    PythonExecution("step", inner, deaf)
    vect = background.start(run_by(background, 2, inner))
    assert reached.wait(SECONDS)
    in_time(vect.cancel)
    in_time(vect.retry)

    assert stays_so(lambda: len(most) == 1)
    opened.set()
    assert vect.wait(SECONDS) == "success"
    assert most == [1, 1]
    check(log)


def test_the_slot_of_a_step_that_runs_a_flow_is_free_when_the_work_of_its_child_is_gone(
    background: OAutom, log: Log, stubborn: Stubborn
) -> None:
    pool = Pool("narrow", 1)
    flow = run_by(background, 1, one_step(background, function=stubborn), pool=pool)
    vect = background.start(flow)
    other = Flow("other", background)
    PythonExecution("other", other, nothing, pool=pool)
    assert stubborn.reached.wait(SECONDS)
    in_time(vect.cancel)
    waiting = background.start(other)

    assert stays_so(lambda: waiting.steps["other"].state == "pending")
    stubborn.opened.set()
    assert waiting.wait(SECONDS) == "success"
    check(log)


def test_the_work_of_a_child_that_an_app_has_left_is_waited_for_by_the_next_one(
    tmp_path: Path,
) -> None:
    path, deaf = tmp_path / "runs.db", Stubborn(listens=False)

    def life() -> tuple[OAutom, Vect]:
        app = OAutom(OAutomMode.background, log=path)
        flow = run_by(app, 2, one_step(app, function=deaf))
        return app, app.start(flow, vect_id="one")

    first, vect = life()
    assert deaf.reached.wait(SECONDS)
    in_time(vect.cancel)
    in_time(first.close)
    second, vect = life()
    in_time(vect.retry)
    assert stays_so(lambda: deaf.calls == [1])
    assert runs_well(second)
    deaf.opened.set()
    assert vect.wait(SECONDS) == "success"
    deaf.check_alone()
    check_history(second.log.read())
    in_time(second.close)


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_the_slot_of_a_function_that_an_app_has_left_at_work_is_taken_in_the_next_one(
    tmp_path: Path, *, is_cancelled: bool
) -> None:
    path, deaf, pool = tmp_path / "runs.db", Stubborn(listens=False), Pool("narrow", 1)

    def life() -> OAutom:
        app = OAutom(OAutomMode.background, log=path)
        one_step(app, function=deaf, pool=pool)
        one_step(app, "other", pool=pool)
        return app

    first = life()
    left = first.start("flow", vect_id="left")
    assert deaf.reached.wait(SECONDS)
    if is_cancelled:
        in_time(left.cancel)
    in_time(first.close)
    second = life()
    waiting = second.start("other")

    assert stays_so(lambda: waiting.steps["step"].state == "pending")
    assert runs_well(second)
    deaf.opened.set()
    assert waiting.wait(SECONDS) == "success"
    assert second.vect("left").wait(SECONDS) == ("cancelled" if is_cancelled else "success")
    deaf.check_alone()
    check_history(second.log.read())
    in_time(second.close)


def test_who_is_retried_in_the_life_that_has_cancelled_it_is_not_recovered_after_that(
    tmp_path: Path,
) -> None:
    """Though it was to be recovered when somebody drives, which nobody did yet."""
    path = tmp_path / "runs.db"

    def life() -> OAutom:
        app = OAutom(log=path)
        ApprovalExecution("gate", one_step(app), "go on?")
        return app

    first = life()
    first.start("flow", vect_id="v")
    in_time(first.close)
    second = life()
    in_time(second.recover)
    vect = second.vect("v")
    in_time(vect.cancel)
    in_time(vect.retry)
    drive_until(vect, "gate")
    in_time(vect.approve, "gate", "Ada")

    assert in_time(vect.wait) == "success"
    told = [event.name for event in second.log.read(vect="v")]
    assert "vect.recovered" not in told[told.index("vect.reopened") :]
    assert told.count("step.interrupted") == 0
    in_time(second.close)


# A slot of a pool is free when its holder is gone


def test_the_slot_of_a_command_that_is_ended_is_free_when_it_is_gone(
    background: OAutom, log: Log, tmp_path: Path
) -> None:
    pool, vects = Pool("narrow", 1), []
    for name in ("first", "second"):
        flow = Flow(name, background)
        is_deaf = "trap '' TERM INT HUP; sleep 30" if name == "first" else ""
        command = f"{BASH_HEAD}{is_deaf}"
        env = {"POOL": "narrow"}
        BashExecution(name, flow, command, env, tmp_path, pool=pool, grace_period=0.5)
        vects.append(background.start(flow))
        if name == "first":
            until(lambda: begun(tmp_path, "first") == [1])
    in_time(vects[0].cancel)

    assert vects[1].wait(SECONDS) == "success"
    assert overlaps(tmp_path) == []
    check(log)


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_the_slot_of_a_function_that_is_not_wanted_is_free_when_it_is_gone(
    background: OAutom, log: Log, stubborn: Stubborn, how: str
) -> None:
    pool, calls = Pool("narrow", 1), list[str]()
    options: dict[str, Any] = {"pool": pool} | ({"timeout": 0.1} if how == "timeout" else {})
    first = background.start(one_step(background, "first", stubborn, **options))
    assert stubborn.reached.wait(SECONDS)
    second = background.start(one_step(background, "second", lambda: calls.append("a"), pool=pool))
    if how == "cancel":
        in_time(first.cancel)
    else:
        time.sleep(0.2)

    assert stays_so(lambda: calls == [])
    assert runs_well(background)  # who needs no slot of the pool is not held up
    stubborn.opened.set()
    assert second.wait(SECONDS) == "success"
    assert first.wait(SECONDS) == ("cancelled" if how == "cancel" else "failed")
    check(log)


@pytest.mark.parametrize("how", ["cancel", "timeout", "fail", "close"])
def test_no_child_is_open_when_the_attempt_that_runs_it_is_over(
    background: OAutom, log: Log, how: str
) -> None:
    deep = Flow("deep", background, max_active_vects=1)  # of two, one waits for its turn
    ApprovalExecution("gate", deep, "go on?")
    inner = Flow("inner", background, max_active_vects=9)
    FlowExecution("down", inner, deep)
    outer = Flow("outer", background, max_active_vects=9)
    options: dict[str, Any] = {"timeout": 0.3, "retry": AT_ONCE} if how == "timeout" else {}
    for name in ("one", "two"):
        FlowExecution(name, outer, inner, **options)
    vect = background.start(outer, vect_id="v")
    until(lambda: len(background.vects("deep")) >= 2)
    if how == "cancel":
        in_time(vect.cancel)
        assert vect.wait(SECONDS) == "cancelled"
    elif how == "timeout":
        assert vect.wait(SECONDS) == "failed"
    elif how == "fail":
        while not vect.ended:
            for child in background.vects("deep"):
                with suppress(OAutomError):
                    child.reject("gate", "Ada")
            with suppress(TimeoutError):
                vect.wait(0.02)
    else:
        in_time(background.close)

    assert orphans(log.ticks) == []
    if how != "close" or log.id is None:
        is_open = [each.id for each in background.vects() if not each.ended]
        assert is_open == []
    check_history(log.read())


def test_a_cancel_reaches_all_children_in_its_own_commit(background: OAutom, log: Log) -> None:
    inner = Flow("inner", background, max_active_vects=9)
    ApprovalExecution("gate", inner, "go on?")
    outer = Flow("outer", background)
    for name in ("one", "two"):
        FlowExecution(name, outer, inner)
    vect = background.start(outer, vect_id="v")
    until(lambda: [each.steps["gate"].state for each in background.vects(inner)] == ["running"] * 2)
    in_time(vect.cancel)

    commit = next(tick for tick in log.ticks if ("v", "vect.cancelled") in _ends(tick))
    assert {("v/one/1", "vect.cancelled"), ("v/two/1", "vect.cancelled")} <= _ends(commit)


def _ends(tick: list[Event]) -> set[tuple[str, str]]:
    return {(event.vect, event.name) for event in tick}


@pytest.mark.parametrize("step", ["command", "gate"])
def test_a_cancel_and_then_the_end_of_the_program_are_prompt(
    tmp_path: Path, mode: OAutomMode, step: str
) -> None:
    app = OAutom(mode, log=tmp_path / "runs.db")
    inner = Flow("inner", app)
    made: Execution = (
        BashExecution("step", inner, "sleep 30")
        if step == "command"
        else ApprovalExecution("step", inner, "go on?")
    )
    outer = Flow("outer", app)
    FlowExecution("run", outer, inner)
    vect = app.start(outer, vect_id="v")
    with pytest.raises(TimeoutError):
        vect.wait(0.4)
    assert app.vect("v/run/1").steps[made.name].state == "running"
    in_time(vect.cancel, "took too long")
    in_time(app.close, seconds=5)

    with closing(SqliteEventLog(tmp_path / "runs.db", read_only=True)) as log:
        assert {each.state for each in log.vects()} == {"cancelled"}


# Prunes


def test_a_prune_that_fails_changes_nothing(
    app: OAutom, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = list[bool]()

    def step() -> None:
        if not good:
            raise ValueError("not yet")

    vect = app.run(one_step(app, function=step))
    assert vect.state == "failed"
    before = vect.events()

    def fail(*_: Any, **__: Any) -> None:
        raise LogError("the file is locked")

    with monkeypatch.context() as patched:
        patched.setattr(log, "prune", fail)
        with pytest.raises(LogError, match="locked"):
            in_time(app.prune, older_than=timedelta(0))
    assert vect.events() == before
    assert app.vect(vect.id).state == "failed"
    good.append(True)
    in_time(vect.retry)

    assert vect.wait(SECONDS) == "success"
    assert runs_well(app)
    check(log)


def test_a_retry_beside_a_prune_is_done_or_refused(
    background: OAutom, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prune is in the middle of its work, in whatever part of it the log has to do with."""
    good = list[bool]()

    def step() -> None:
        if not good:
            raise ValueError("not yet")

    flow = one_step(background, function=step)
    vect = background.start(flow, vect_id="one")
    assert vect.wait(SECONDS) == "failed"
    good.append(True)
    reached, go, prune = threading.Event(), threading.Event(), log.prune

    def slow(*args: Any, **options: Any) -> Any:
        reached.set()
        assert go.wait(SECONDS)
        return prune(*args, **options)

    monkeypatch.setattr(log, "prune", slow)
    pruning = Call(background.prune, older_than=timedelta(0))
    assert reached.wait(SECONDS)
    retrying = Call(vect.retry)
    retrying.waits()
    go.set()
    gone = [each.id for each in pruning.result()]
    try:
        retrying.result()
    except OAutomError:
        assert gone == ["one"]
    else:
        assert gone == []
        assert vect.wait(SECONDS) == "success"

    assert runs_well(background)
    check_history(log.read(), gaps=log.gaps())


def test_a_child_is_kept_as_long_as_the_attempt_that_runs_it_is_open(new_app: NewApp) -> None:
    """The program has died between the end of the child and that of the step."""

    def declare(app: OAutom) -> Flow:
        inner, outer = one_step(app, "inner", lambda: 42), Flow("outer", app)
        FlowExecution("run", outer, inner)
        return outer

    whole = MemoryEventLog()
    app = new_app(log=whole, executor="inline")
    app.run(declare(app), vect_id="v")
    left = MemoryEventLog()
    for event in whole.read():
        left.append(None, event)
        if (event.vect, event.name) == ("v/run/1", "vect.succeeded"):
            break
    left.commit()
    app = new_app(log=left, executor="inline")
    outer = declare(app)

    assert app.prune(older_than=timedelta(0)) == []
    vect = app.run(outer, vect_id="v")
    assert (vect.state, vect.result("run")) == ("success", {"step": 42})
    assert {each.id for each in app.prune(older_than=timedelta(0))} == {"v", "v/run/1"}
