"""The invariants of histories: each catches a damage that no other does."""

from __future__ import annotations

import pickle
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise, product
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from oautom import (
    ApprovalExecution,
    BranchExecution,
    Event,
    Flow,
    FlowExecution,
    InvalidHistoryError,
    MapExecution,
    OAutom,
    Pool,
    PythonExecution,
    RetryPolicy,
    SettingError,
    Skip,
    WaitExecution,
)
from oautom.audit.invariants import INVARIANTS, InvariantError, check_history, violations
from oautom.events.jsonl import from_line, to_line
from oautom.testing import SimulatedClock, WorkLostError, simulate
from oautom.testing.crashes import Lives, MortalLog
from oautom.testing.simulation import Script, ScriptedWorkers
from tests.kit import (
    NOON,
    Registry,
    created,
    event,
    nothing,
    started,
    step_failed,
    step_started,
    step_succeeded,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "invariants.md"

Events = list[Event]
Place = tuple[str, str | None]
"""Name and step of an event."""


# Good histories


def flow_of(
    graph: dict[str, str],
    app: Any = None,
    work: Callable[..., Any] = nothing,
    params: dict[str, Any] | None = None,
) -> Flow:
    """A flow with steps of one letter, each with the letters of its upstreams."""
    flow = Flow("f", app or Registry(), params=params, max_active_vects=9)
    steps = {name: PythonExecution(name, flow, work) for name in graph}
    for name, upstreams in graph.items():
        steps[name].depends(*(steps[upstream] for upstream in upstreams))
    return flow


CHAIN = flow_of({"a": "", "b": "a"})
PAIR = flow_of({"a": "", "b": ""})
FORK = flow_of({"a": "", "b": "a", "c": "a", "x": ""})


WITH_PARAMS = flow_of({"a": "", "b": "a"}, params={"day": date})


def told_day(**params: Any) -> Events:
    """The history of a flow with parameters, with these in it."""
    events = simulate(WITH_PARAMS, {"day": date(2026, 11, 24)}).events()
    return tell(events, CREATED, params=MappingProxyType(params))


def chain() -> Events:
    return simulate(CHAIN).events()


def pair(max_workers: int | None = None) -> Events:
    return simulate(PAIR, max_workers=max_workers, durations={"b": 1}).events()


def fork() -> Events:
    """Step `a` fails, so that `b` and `c` are blocked; then `x` succeeds, at the same time."""
    return simulate(FORK, outcomes={"a": ValueError("no")}, seed=FORK_SEED).events()


FORK_SEED = next(
    seed
    for seed in range(99)
    if simulate(FORK, outcomes={"a": ValueError("no")}, seed=seed).events()[4].step == "a"
)


def cancelled() -> Events:
    """Step `a` cancels its Vect while it runs; `b` and `x` have not started."""
    with OAutom(executor="inline") as app:
        flow = flow_of({"a": "", "b": "a", "x": ""}, app, lambda: vect.cancel("enough"))
        vect = app.start(flow)
        vect.wait()
        return list(app.log.read())


def two() -> Events:
    """Two Vects, each of two steps, side by side."""
    with OAutom(executor="inline") as app:
        flow = flow_of({"a": "", "b": "a"}, app)
        vects = [app.start(flow, vect_id=name) for name in ("first", "second")]
        for vect in vects:
            vect.wait()
        return list(app.log.read())


def crashed() -> Events:
    """The program dies while `a` and `b` run, and is run again."""
    return simulate(PAIR, durations={"b": 1}, crash_at=("in", 1)).events()


def gone_on() -> Events:
    """The program has died, and the Vect has just been recovered."""
    events = crashed()
    return events[: at(events, "vect.recovered", None) + 1]


def crashed_for_good() -> Events:
    """The program dies while `a`, `x` and `y` run: `x` is interrupted, and the others have failed.

    So `b` is blocked in the middle of the recovery.
    """
    flow = Flow("f", Registry())
    for name, on_crash in (("a", "fail"), ("b", "rerun"), ("x", "rerun"), ("y", "fail")):
        PythonExecution(name, flow, nothing, on_crash=on_crash)
    flow.steps["a"] >> flow.steps["b"]
    return simulate(flow, crash_at=("in", 1)).events()


DIED = WorkLostError("it died", is_worker=True)
GONE = WorkLostError("nobody answers")


def lost() -> Events:
    """The work of `a` is lost, with a worker and with the scheduler, and then done."""
    return simulate(CHAIN, outcomes={"a": [DIED, GONE, DIED, None]}).events()


def lost_for_good() -> Events:
    """The work of `a` is lost with the tenth worker in a row; what `b` has done is undone first."""
    flow = Flow("f", Registry())
    b = PythonExecution("b", flow, nothing, compensate=nothing)
    b >> PythonExecution("a", flow, nothing)
    ends = {"a": DIED, "b.compensate": [DIED, GONE, DIED, None]}
    return simulate(flow, outcomes=ends).events()


def lost_once_too_often() -> Events:
    """Step `a` goes on after the tenth worker in a row."""
    told = {"reason": "it died", "worker": True}
    events = lost_for_good()
    index = at(events, "step.failed", "a")
    tenth = replace(events[index], name="step.interrupted", dest="pending", data=told)
    return [*events[:index], tenth]


def lost_before_it_began() -> Events:
    """The work that undoes `b` is lost twice at once."""
    events = lost_for_good()
    index = at(events, *UNDOING_LOST)
    again = replace(events[index], seq=events[index].seq + 1)
    return [*events[: index + 1], again]


def crashed_twice() -> Events:
    """The program dies, and dies again in the commit of its recovery."""
    return simulate(CHAIN, crash_at=[("after", 2), ("in", 3)]).events()


def skipped() -> Events:
    """Step `a` skips itself, so `b` is skipped; `x` may fail, and does; `c` starts by a rule."""
    flow = Flow("f", Registry())
    a = PythonExecution("a", flow, nothing)
    a >> PythonExecution("b", flow, nothing)
    x = PythonExecution("x", flow, nothing, allow_failure=True)
    x >> PythonExecution("c", flow, nothing, trigger_rule="one_failed")
    x >> PythonExecution("d", flow, nothing)
    ends = {"a": Skip("nothing to do"), "x": ValueError("no")}
    return simulate(flow, outcomes=ends, durations={"x": 1, "c": 1}).events()


def planned() -> Events:
    """A plan starts a Vect each hour, but for one that would run beside the one before."""
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock) as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, lambda: clock.advance(5400))
        app.plan(flow, hours=1, name="p")
        clock.call_later(3.5 * 3600, app.stop)
        app.run()
        return list(app.log.read())


def family() -> Events:
    """Step `r` of Vect `v` runs flow `g`, of which `a` fails at first."""
    calls: list[int] = []

    def work() -> int:
        calls.append(1)
        return 1 // (len(calls) - 1)

    with OAutom(executor="inline", clock=SimulatedClock()) as app:
        child, flow = Flow("g", app), Flow("f", app)
        PythonExecution("a", child, work)
        FlowExecution("r", flow, child, retry=RetryPolicy(max_attempts=2, delay=0))
        app.run(flow, vect_id="v")
        return list(app.log.read())


def queued(limit_by: str | None = None) -> Events:
    """Vects `u`, `v` and `w` of a flow of which one is open at once."""
    with OAutom(executor="inline", clock=SimulatedClock()) as app:
        flow = Flow("f", app, params={"of": str}, when_full="wait", limit_by=limit_by)
        PythonExecution("a", flow, nothing)
        for vect in "uvw":
            app.start(flow, {"of": "us"}, vect_id=vect)
        app.vect("w").wait()
        return list(app.log.read())


def queued_by_a_parameter() -> Events:
    return queued("of")


def started_before_its_turn(limit_by: str | None = None) -> Events:
    """Vect `v` starts while `u` is under way, which goes on."""
    events = queued(limit_by)
    starts = [i for i, e in enumerate(events) if e.name == "vect.started"]
    return move(events, starts[1], starts[0] + 2)


def filled() -> Events:
    """Three times of plan `p` of flow `f` are filled, one at a time; the second is cancelled."""
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock) as app:
        flow = Flow("f", app, max_active_vects=None)
        PythonExecution("a", flow, nothing)
        app.plan(flow, hours=24, name="p")
        vects = app.backfill("f", "1999-12-29", "1999-12-31", parallel=1)
        vects[1].cancel()
        vects[2].wait()
        return [event for event in app.log.read() if event.name != "plan.created"]


def filled_too_early() -> Events:
    """The third one starts before the first one has ended."""
    events = filled()
    starts = [i for i, e in enumerate(events) if e.name == "vect.started"]
    return move(events, starts[1], starts[0] + 1)


def out_of_order(limit_by: str | None = None) -> Events:
    """Vect `w` has the turn of `v`, which was created before it."""
    others = {"v": "w", "w": "v"}
    return [
        e if e.name == "vect.created" else replace(e, vect=others.get(e.vect, e.vect))
        for e in queued(limit_by)
    ]


def going_on() -> Events:
    """Step `r` of Vect `v` runs flow `g`, which fails; a retry of `v` goes on in that child."""
    calls: list[int] = []

    def work() -> int:
        calls.append(1)
        return 1 // (len(calls) - 1)

    with OAutom(executor="inline", clock=SimulatedClock()) as app:
        child, flow = Flow("g", app), Flow("f", app)
        PythonExecution("a", child, work)
        FlowExecution("r", flow, child)
        vect = app.run(flow, vect_id="v")
        vect.retry()
        vect.wait()
        return list(app.log.read())


def alone() -> Events:
    """Step `b` of Vect `v` runs alone, and `a` is given."""
    with OAutom(executor="inline", clock=SimulatedClock()) as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, nothing) >> PythonExecution("b", flow, nothing)
        app.run(flow, vect_id="v", only="b", given={"a": None})
        return list(app.log.read())


RECOVERED = (crashed, crashed_for_good, crashed_twice)


# What is done to them


def numbered(events: Events) -> Events:
    return [replace(event, seq=seq) for seq, event in enumerate(events, start=1)]


def at(events: Events, name: str, step: str | None = None) -> int:
    """Where the first such event stands."""
    return next(i for i, event in enumerate(events) if (event.name, event.step) == (name, step))


def change(events: Events, place: Place, **fields: Any) -> Events:
    """The events with some fields of one of them changed."""
    index = at(events, *place)
    if "data" in fields:
        fields["data"] = MappingProxyType(fields["data"])
    return [*events[:index], replace(events[index], **fields), *events[index + 1 :]]


def tell(events: Events, place: Place, **data: Any) -> Events:
    """The events with some of the data of one of them changed."""
    return change(events, place, data={**events[at(events, *place)].data, **data})


def untell(events: Events, place: Place, key: str) -> Events:
    """The events without one of the data of one of them."""
    data = events[at(events, *place)].data
    return change(events, place, data={each: data[each] for each in data if each != key})


def swap(events: Events, first: Place, second: Place) -> Events:
    """The events with two neighbours the other way around."""
    i, j = at(events, *first), at(events, *second)
    assert j == i + 1
    return numbered([*events[:i], events[j], events[i], *events[j + 1 :]])


def add(events: Events, like: Place, **fields: Any) -> Events:
    """The events with one more, like one of them but for some fields."""
    if "data" in fields:
        fields["data"] = MappingProxyType(fields["data"])
    return numbered([*events, replace(events[at(events, *like)], **fields)])


def move(events: Events, index: int, to: int) -> Events:
    moved = [*events[:index], *events[index + 1 :]]
    return numbered([*moved[:to], events[index], *moved[to:]])


def twice(events: Events, place: Place) -> Events:
    """The events, and one of them twice."""
    index = at(events, *place)
    return numbered([*events[: index + 1], *events[index:]])


def families() -> Events:
    """Each instance of map `m` runs flow `g`, of whose steps `b` comes after `a`."""
    with OAutom(executor="inline", clock=SimulatedClock()) as app:
        child, flow = Flow("g", app, params={"n": int}), Flow("f", app, params={"l": list[int]})
        PythonExecution("a", child, nothing) >> PythonExecution("b", child, nothing)
        MapExecution("m", flow, child, flow.param("l"), label="item {}")
        app.run(flow, {"l": [1, 2]}, vect_id="v")
        return list(app.log.read())


def begun_too_early() -> Events:
    """The second child of a map begins though a step of the first could start."""
    events = families()
    place = at(events, "step.started", "b")
    return move(events, at(events, "step.started", "m[1]"), place)


def going_on_by_policy() -> Events:
    """The second attempt of step `r` goes on in the child of the first, though nobody retried."""
    events = [event for event in family() if event.vect == "v"]
    second = len(events) - 1 - at(events[::-1], "step.started", "r")
    return numbered(
        [
            replace(event, data=MappingProxyType({"child": "v/r/1"})) if index == second else event
            for index, event in enumerate(events)
        ]
    )


def reopened_for(parent: list[Any]) -> Events:
    """The child tells another attempt that goes on in it than the one that does."""
    return [
        replace(each, data=MappingProxyType({"parent": parent}))
        if (each.name, each.vect) == ("vect.reopened", FIRST_CHILD)
        else each
        for each in going_on()
    ]


class Witness(NamedTuple):
    """A damaged history that one invariant catches, and no other."""

    invariant: str
    events: Events
    flow: Flow | None = None
    max_workers: int | None = None


A_STARTED = ("step.started", "a")
A_SUCCEEDED = ("step.succeeded", "a")
A_RETRIED = ("step.retried", "a")
B_FAILED = ("step.failed", "b")
B_STARTED = ("step.started", "b")
B_BLOCKED = ("step.blocked", "b")
A_INTERRUPTED = ("step.interrupted", "a")
UNDOING_LOST = ("step.compensation_interrupted", "b")
B_INTERRUPTED = ("step.interrupted", "b")
CREATED = ("vect.created", None)
STARTED = ("vect.started", None)
SUCCEEDED = ("vect.succeeded", None)
FAILED = ("vect.failed", None)
CANCELLED = ("vect.cancelled", None)
LATE = ("step.late_result", "a")
COMPENSATING_A = ("step.compensating", "a")
COMPENSATED_A = ("step.compensated", "a")
COMPENSATING_B = ("step.compensating", "b")
NOT_COMPENSATED = ("step.compensation_failed", "b")
ENDING = ("vect.ending", None)
A_LATE = ("step.late", "a")
VECT_LATE = ("vect.late", None)
PLAN_CREATED = ("plan.created", None)
PLAN_SKIPPED = ("plan.skipped", None)
AN_HOUR_EAST = timezone(timedelta(hours=1))


def in_time(event: Event, zone: Any) -> datetime:
    return event.time.astimezone(zone)


def graph(**upstreams: Any) -> Events:
    """The beginning of a history with this graph."""
    return tell(chain()[:1], CREATED, graph=MappingProxyType(upstreams))


def late(events: Events, state: str, **fields: Any) -> Events:
    """The events, and behind them that `a` answers late."""
    told = {"name": "step.late_result", "source": state, "dest": state} | fields
    return add(events, A_SUCCEEDED, **told)


def end_of_the_first_delayed() -> Events:
    events = two()
    end = at(events, *SUCCEEDED)
    assert events[end + 1].vect == "second"
    return move(events, end, end + 1)


def late_too_early() -> Events:
    """Step `a` is late before it has begun."""
    events = change(overdue(), A_LATE, source="pending", dest="pending")
    return move(events, at(events, *A_LATE), at(events, *A_STARTED))


def crashed_for_good_too_early() -> Events:
    """Step `x` runs again before it is known what has become of `y`."""
    events = crashed_for_good()
    again = len(events) - 1 - at(events[::-1], "step.started", "x")
    return move(events, again, at(events, "step.failed", "y"))


def retried(**options: Any) -> Events:
    """Step `a` fails once, and is tried again."""
    flow = Flow("f", Registry())
    policy = RetryPolicy(max_attempts=2, delay=1)
    PythonExecution("a", flow, nothing, retry=policy, **options)
    return simulate(flow, outcomes={"a": [ValueError("no"), None]}).events()


def overdue() -> Events:
    """Step `a` and its Vect pass their deadlines; `a` in its delay, so that it is at no attempt."""
    flow = flow_of({"a": "", "b": "a"})
    flow.deadline = 6.0
    flow.steps["a"].deadline = 2.0
    flow.steps["a"].retry = RetryPolicy(max_attempts=2, delay=3, jitter=0)
    ends = {"a": [ValueError("no"), None]}
    return simulate(flow, outcomes=ends, durations={"a": [1, 9]}).events()


def pooled() -> Events:
    """Steps `a` and `b` share a pool of one slot, so `b` waits for `a`."""
    flow = Flow("f", Registry())
    for name in "ab":
        PythonExecution(name, flow, nothing, pool=Pool("p", 1))
    return simulate(flow, durations={"a": 1, "b": 1}).events()


def told_of_pool(**options: Any) -> Events:
    """Step `a` and a second later `b`, in a pool; the log tells other options of both."""
    flow, pool = Flow("f", Registry()), Pool("p", 2, (1, 1))
    for name in "ab":
        PythonExecution(name, flow, nothing, pool=pool)
    events = simulate(flow, durations={"a": 3, "b": 3}).events()
    data = dict(events[0].data)
    data["options"] = {name: {**given, **options} for name, given in data["options"].items()}
    return [replace(events[0], data=data), *events[1:]]


def waited() -> Events:
    """Step `a` waits for a second, then `b` for a person."""
    flow = Flow("f", Registry())
    WaitExecution("a", flow, seconds=1) >> ApprovalExecution("b", flow, "go on?", timeout=9)
    return simulate(flow, durations={"b": 5}).events()


def reopened() -> Events:
    """Step `a` fails, so that `b` is blocked, while `x` succeeds; then the Vect is retried."""
    fails = iter([True, False])

    def work() -> None:
        if next(fails):
            raise ValueError("no")

    with OAutom(executor="inline") as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, work) >> PythonExecution("b", flow, nothing)
        PythonExecution("x", flow, nothing)
        vect = app.run(flow)
        vect.retry()
        vect.wait()
        return list(app.log.read())


def paused() -> Events:
    """Step `a` pauses its Vect while it runs; it is resumed afterwards."""
    with OAutom(executor="inline") as app:
        flow = flow_of({"a": "", "b": "a"}, app, lambda: vect.pause())
        vect = app.start(flow)
        vect.events()
        while vect.state != "success":
            with suppress(TimeoutError):
                vect.wait(0)
            vect.resume()
            with suppress(TimeoutError):
                vect.wait(0.01)
        return list(app.log.read())


def tell_all_of_a_map_to_be_one_by_one() -> Events:
    """Two instances run at once, though one is the limit."""
    options = {"b": {"kind": "map", "over": ["step", "a"], "max_parallel": 1}}
    return tell(mapped(), CREATED, options=options)


def without(events: Events, name: str, *steps: str) -> Events:
    """The events up to the reopening of the Vect, without some."""
    rest = [event for event in events if event.name != name or event.step not in steps]
    return numbered(rest[: at(rest, "vect.reopened") + 1])


def with_a_reset_of_x() -> Events:
    """Step `x` is reset too, which has succeeded and waits for nobody."""
    events = reopened()
    index = at(events, "step.reset", "b")
    more = replace(events[index], step="x", source="success")
    return numbered([*events[: index + 1], more, *events[index + 1 : index + 2]])


def branched() -> Events:
    """Step `a` chooses `b`, so that `c` is skipped."""
    flow = Flow("f", Registry())
    steps = [PythonExecution(name, flow, nothing) for name in "bc"]
    BranchExecution("a", flow, list) >> steps
    return simulate(flow, outcomes={"a": [["b"]]}).events()


def without_skip_of_c() -> Events:
    """Step `b` starts before `c` is skipped."""
    return swap(branched(), ("step.skipped", "c"), B_STARTED)[:5]


def mapped(**options: Any) -> Events:
    """Step `a` gives a list of two, over which `b` maps."""
    flow = Flow("f", Registry())
    MapExecution("b", flow, str, PythonExecution("a", flow, list), **options)
    ends = {"a": [[1, 2]], "b[1]": ValueError("no")}
    return simulate(flow, outcomes=ends, durations={"b[0]": 1, "b[1]": 2}).events()


def unwaitable() -> Events:
    """Step `a` is to wait until a time that is none; `b` waits for it."""
    flow = Flow("f", Registry(), params={"when": str})
    WaitExecution("a", flow, until=flow.param("when")) >> PythonExecution("b", flow, str)
    return simulate(flow, {"when": "noon"}).events()


def undone() -> Events:
    """Step `c` fails, so that is undone what `b` and `a` have done; for `b` at the second try."""
    flow = Flow("f", Registry(), retry=RetryPolicy(max_attempts=2, delay=1, retry_on=(OSError,)))
    a, b = (PythonExecution(name, flow, nothing, compensate=nothing) for name in "ab")
    a >> b >> PythonExecution("c", flow, nothing)
    ends = {"b.compensate": [OSError("no"), None], "c": ValueError("no")}
    return simulate(flow, outcomes=ends).events()


def undone_by_two() -> Events:
    """The program dies while it is undone what `a` has done."""
    flow = Flow("f", Registry())
    PythonExecution("a", flow, nothing, compensate=nothing) >> PythonExecution("b", flow, nothing)
    return simulate(flow, outcomes={"b": ValueError("no")}, crash_at=("in", 4)).events()


def torn_down() -> Events:
    """All is cancelled as `x` fails: `a` too, after which `t` cleans up; `u` need not for `b`."""
    flow = Flow("f", Registry(), on_failure="cancel")
    a, b, _ = (PythonExecution(name, flow, nothing) for name in "abx")
    PythonExecution("u", flow, nothing, teardown=True).depends(b)
    PythonExecution("t", flow, nothing, teardown=True).depends(a)
    a >> b
    return simulate(flow, outcomes={"x": ValueError("no")}, durations={"a": 9, "x": 1}).events()


def too_long() -> Events:
    """It takes longer than it may."""
    flow = Flow("f", Registry(), run_timeout=5)
    PythonExecution("a", flow, nothing)
    return simulate(flow, durations={"a": 9}).events()


def without_a_limit() -> Events:
    """It has taken too long, though it may take as long as it likes."""
    return untell(too_long(), CREATED, "settings")


def with_an_ending() -> Events:
    """A Vect is ending though there is nothing to clean up."""
    events = fork()
    end = events.pop()
    told = MappingProxyType({"to": "failed", "reason": "no"})
    ending = replace(end, name="vect.ending", dest="ending", data=told)
    last = replace(end, source="ending", data=MappingProxyType({**end.data, "reason": "no"}))
    return numbered([*events, ending, last])


def left_out(events: Events, *places: Place) -> Events:
    return numbered([event for event in events if (event.name, event.step) not in places])


def undone_in_order() -> Events:
    """What `a` has done is undone before what `b` has, which ended later."""
    events = undone()
    place = at(events, *COMPENSATING_A)
    for index in (place, place + 1):
        events = move(events, index, index + at(events, *COMPENSATING_B) - place)
    return events


def end_of_all_delayed() -> Events:
    """All is cancelled only after `a` has succeeded, though `x` has failed."""
    events = torn_down()
    failed = at(events, "step.failed", "x")
    told = {"name": "step.succeeded", "dest": "success", "step": "a"}
    more = replace(events[failed], data=MappingProxyType({"output": None}), **told)
    return numbered([*events[: failed + 1], more])


FIRST_CHILD, SECOND_CHILD = "v/r/1", "v/r/2"


def of_parent(parent: list[Any], child: str) -> Events:
    """A child that says to be of another attempt, step or Vect."""
    return [
        replace(each, data=MappingProxyType({**each.data, "parent": parent}))
        if (each.name, each.vect) == ("vect.created", child)
        else each
        for each in family()
    ]


def of_another_flow() -> Events:
    """A child that is of another flow than the one that its step runs."""
    return [replace(e, flow="h") if e.vect == SECOND_CHILD else e for e in family()]


def started_too_late() -> Events:
    """The step that has the child run is cancelled before the child starts."""
    events = family()
    place = next(
        i for i, e in enumerate(events) if (e.vect, e.name) == (FIRST_CHILD, "vect.started")
    )
    of_parent = {"vect": "v", "flow": "f", "source": "running", "dest": "cancelled"}
    told = of_parent | {"data": {"reason": ""}}
    step = replace(events[place], step="r", name="step.cancelled", attempt=1, **told)
    vect = replace(events[place], name="vect.cancelled", **told)
    return numbered([*events[:place], step, vect, *events[place : place + 2]])


def told_too_early() -> Events:
    """The step succeeds while the step of its child still runs."""
    events = family()
    place = next(
        i for i, e in enumerate(events) if (e.vect, e.name) == (SECOND_CHILD, "step.succeeded")
    )
    child, parent = events[place : place + 2], events[place + 2 :]
    assert {e.vect for e in child} == {SECOND_CHILD}
    return numbered([*events[:place], *parent, *child])


def skipped_for_no_reason() -> Events:
    """Step `b` is skipped though `a`, for which it waits, has not ended."""
    events = chain()[:3]
    told = {"name": "step.skipped", "source": "pending", "dest": "skipped", "attempt": None}
    return add(events, A_STARTED, step="b", data={"reason": "no"}, **told)


def without_b() -> Events:
    events = simulate(PAIR, max_workers=1).events()
    return numbered([event for event in events if event.step != "b"])


def never_recovered() -> Events:
    return numbered([event for event in crashed_twice() if event.name != "vect.recovered"])


def half_recovered() -> Events:
    """Step `b` goes on in the new life as if nothing had happened."""
    events = [event for event in crashed() if (event.name, event.step) != B_INTERRUPTED]
    del events[-1 - at(events[::-1], *B_STARTED)]
    return change(numbered(events), ("step.succeeded", "b"), attempt=1)


def time_of_plan(place: Place, time: str) -> Events:
    """The history of a plan, with another time in one of its events."""
    return change(
        tell(planned(), place, planned=f"2000-01-01T{time}Z"),
        place,
        vect=f"p@2000-01-01T{time}Z",
    )


AS_B = {"compensate": "begun", "max_attempts": 2}


def witnesses() -> list[Witness]:
    return [
        Witness("fields-are-typed", change(chain(), SUCCEEDED, time="noon")),
        Witness("fields-are-typed", change(chain(), SUCCEEDED, vect=None)),
        Witness("fields-are-typed", [*chain(), "an event"]),  # type: ignore[list-item]
        Witness("seq-is-dense", change(chain(), SUCCEEDED, seq=99)),
        Witness("seq-is-dense", [replace(event, seq=event.seq + 1) for event in chain()]),
        Witness("time-is-utc", change(chain(), A_STARTED, time=datetime(2026, 1, 1))),  # noqa: DTZ001
        Witness("time-is-utc", [replace(e, time=in_time(e, AN_HOUR_EAST)) for e in chain()]),
        Witness("graph-is-whole", graph(a=("z",))),
        Witness("graph-is-whole", graph(a=("b",), b=("a",))),
        Witness("graph-is-whole", graph(a="")),
        Witness("graph-is-whole", graph(a=([],))),
        Witness("graph-is-whole", tell(chain()[:1], CREATED, graph={1: ()})),
        Witness("options-are-known", tell(chain()[:1], CREATED, options={"z": {}})),
        Witness("options-are-known", tell(chain()[:1], CREATED, options={"a": {"more": 1}})),
        Witness(
            "options-are-known", tell(chain()[:1], CREATED, options={"a": {"trigger_rule": "any"}})
        ),
        Witness("options-are-known", tell(chain()[:1], CREATED, options=[])),
        Witness("options-are-known", tell(chain()[:1], CREATED, options={"a": {"strict": True}})),
        Witness(
            "options-are-known", tell(chain()[:1], CREATED, options={"a": {"until": ["step"]}})
        ),
        Witness("options-are-known", tell(chain()[:1], CREATED, options={"a": {"timeout": 0}})),
        Witness(
            "options-are-known", tell(chain()[:1], CREATED, options={"a": {"compensate": True}})
        ),
        Witness(
            "options-are-known", tell(chain()[:1], CREATED, options={"a": {"teardown_of": "b"}})
        ),
        Witness(
            "options-are-known", tell(chain()[:1], CREATED, options={"a": {"max_attempts": 1.5}})
        ),
        Witness("options-are-known", tell(chain()[:2], ("vect.started", None), options={"z": {}})),
        Witness(
            "options-are-known",
            tell(gone_on(), ("vect.recovered", None), options={"a": {"timeout": 0}}),
        ),
        Witness("vect-is-created-first", add(chain(), A_STARTED, vect="ghost")),
        Witness("vect-is-created-first", add(chain(), CREATED)),
        Witness("graph-is-of-the-flow", chain(), PAIR),
        Witness("graph-is-of-the-flow", pair(), CHAIN),
        Witness("graph-is-of-the-flow", alone()[:1], PAIR),
        Witness("params-are-of-the-flow", chain(), WITH_PARAMS),
        Witness("params-are-of-the-flow", told_day(day="no day"), WITH_PARAMS),
        Witness("params-are-of-the-flow", told_day(day="2026-11-24", more=1), WITH_PARAMS),
        Witness("params-are-of-the-flow", told_day(day="2026-11-24"), CHAIN),
        Witness("flow-stays", change(chain(), A_SUCCEEDED, flow="g")),
        Witness("steps-are-in-the-graph", change(chain(), SUCCEEDED, step="a")),
        Witness("steps-are-in-the-graph", late(chain(), "success", step="z")),
        Witness("steps-are-in-the-graph", late(chain(), "success", step=None)),
        Witness("steps-are-in-the-graph", change(planned(), PLAN_SKIPPED, step="a")),
        Witness("data-fit-the-event", untell(chain(), A_SUCCEEDED, "output")),
        Witness("data-fit-the-event", tell(chain(), CREATED, version=2)),
        Witness("data-fit-the-event", tell(chain(), SUCCEEDED, options={})),
        Witness("data-fit-the-event", tell(chain(), A_STARTED, more=1)),
        Witness("data-fit-the-event", tell(chain(), STARTED, limit=0)),
        Witness("data-fit-the-event", tell(chain(), STARTED, limit=1, by=1)),
        Witness("data-fit-the-event", tell(chain(), STARTED, recovered=True)),
        Witness("data-fit-the-event", tell(chain(), STARTED, limit=1, recovered=False)),
        Witness("data-fit-the-event", tell(chain(), A_SUCCEEDED, error="no")),
        Witness("data-fit-the-event", tell(fork(), B_BLOCKED, upstream=1)),
        Witness("data-fit-the-event", untell(fork(), B_BLOCKED, "error")),
        Witness("data-fit-the-event", tell(fork(), ("step.failed", "a"), exit_code=0)),
        Witness("data-fit-the-event", tell(fork(), ("step.failed", "a"), output=1)),
        Witness("data-fit-the-event", untell(fork(), FAILED, "steps")),
        Witness("data-fit-the-event", tell(cancelled(), LATE, error=None)),
        Witness("data-fit-the-event", untell(cancelled(), LATE, "output")),
        Witness("data-fit-the-event", tell(waited(), A_STARTED, delay="long")),
        Witness("data-fit-the-event", tell(waited(), A_STARTED, prompt="well?")),
        Witness("data-fit-the-event", tell(waited(), A_STARTED, until="2026-11-24T03:00:00Z")),
        Witness("data-fit-the-event", tell(chain(), CREATED, bash="loose")),
        Witness("data-fit-the-event", untell(waited(), B_STARTED, "prompt")),
        Witness("data-fit-the-event", untell(retried(), A_RETRIED, "delay")),
        Witness("data-fit-the-event", untell(retried(), A_RETRIED, "error")),
        Witness("data-fit-the-event", tell(retried(), A_RETRIED, delay=-1)),
        Witness("data-fit-the-event", tell(fork(), ("step.failed", "a"), delay=1)),
        Witness("data-fit-the-event", untell(planned(), PLAN_SKIPPED, "reason")),
        Witness("data-fit-the-event", tell(planned(), PLAN_SKIPPED, more=1)),
        Witness("data-fit-the-event", tell(planned(), PLAN_SKIPPED, planned="noon")),
        Witness("data-fit-the-event", untell(planned(), CREATED, "plan")),
        Witness("data-fit-the-event", tell(planned(), CREATED, planned=1)),
        Witness("data-fit-the-event", tell(chain(), A_SUCCEEDED, plan="p")),
        Witness("data-fit-the-event", untell(undone(), NOT_COMPENSATED, "error")),
        Witness("data-fit-the-event", tell(undone(), NOT_COMPENSATED, delay=-1)),
        Witness("data-fit-the-event", tell(undone(), COMPENSATED_A, output=1)),
        Witness("data-fit-the-event", tell(undone(), COMPENSATING_A, more=1)),
        Witness("data-fit-the-event", untell(undone(), ENDING, "reason")),
        Witness("data-fit-the-event", tell(lost(), A_INTERRUPTED, worker=False)),
        Witness("data-fit-the-event", tell(lost(), A_INTERRUPTED, reason=1)),
        Witness("data-fit-the-event", untell(lost_for_good(), UNDOING_LOST, "reason")),
        Witness(
            "options-are-known", tell(undone(), CREATED, settings={"on_failure": "finish"})[:1]
        ),
        Witness("options-are-known", tell(undone(), CREATED, settings={"run_timeout": 0})[:1]),
        *(
            Witness("options-are-known", tell(chain(), CREATED, settings=told)[:1])
            for told in ({"until": ["z"]}, {"until": []}, {"until": ["a"]}, {"until": "b"})
        ),
        Witness("data-fit-the-event", tell(chain(), CREATED, backfill=1)[:1]),
        Witness("data-fit-the-event", tell(chain(), CREATED, after=1)[:1]),
        *(
            Witness("options-are-known", tell(alone(), CREATED, **told)[:1])
            for told in (
                {"settings": {"only": 1}},
                {"settings": {"only": "a"}},
                {"settings": {"only": "z"}},
                {"settings": {}},
                {"options": {}},
                {"graph": {"a": (), "b": ()}},
                {"options": {"a": {"kind": "given", "output": None, "source": 1}}},
            )
        ),
        Witness("data-fit-the-event", tell(alone()[:3], A_STARTED, source=1)),
        Witness("data-fit-the-event", untell(alone()[:3], A_STARTED, "source")),
        Witness("data-fit-the-event", tell(too_long(), ("vect.started", None), timeout="long")),
        Witness("data-fit-the-event", tell(undone(), FAILED, reason=1)),
        Witness("moves-are-in-the-table", change(planned(), PLAN_SKIPPED, dest="planned")),
        Witness("moves-are-in-the-table", change(cancelled(), LATE, dest="failed")),
        Witness("moves-are-in-the-table", late(chain(), "success", name="step.lost")),
        Witness("moves-are-connected", late(chain(), "failed")),
        Witness("starts-after-upstreams", swap(chain(), A_SUCCEEDED, B_STARTED)),
        Witness("attempts-fit", change(chain(), A_STARTED, attempt=2)),
        Witness("attempts-fit", change(chain(), A_SUCCEEDED, attempt=2)),
        Witness("attempts-fit", change(chain(), A_SUCCEEDED, attempt=None)),
        Witness("attempts-fit", change(chain(), SUCCEEDED, attempt=1)),
        Witness("attempts-fit", change(fork(), B_BLOCKED, attempt=1)),
        Witness("attempts-fit", change(cancelled(), ("step.cancelled", "a"), attempt=None)),
        Witness("attempts-fit", change(cancelled(), ("step.cancelled", "b"), attempt=1)),
        Witness("attempts-fit", change(cancelled(), LATE, attempt=2)),
        Witness("attempts-fit", change(cancelled(), LATE, attempt=0)),
        Witness("attempts-fit", change(planned(), PLAN_SKIPPED, attempt=1)),
        Witness("attempts-fit", change(undone(), COMPENSATING_A, attempt=2)),
        Witness("attempts-fit", change(undone(), COMPENSATED_A, attempt=2)),
        Witness("attempts-fit", change(undone(), COMPENSATED_A, attempt=None)),
        Witness("retries-are-limited", tell(retried(), CREATED, options={})),
        Witness(
            "retries-are-limited", tell(retried(), CREATED, options={"a": {"max_attempts": 1}})
        ),
        Witness("compensations-are-due", undone_in_order()),
        Witness("compensations-are-due", tell(undone(), CREATED, options={"b": AS_B})),
        Witness(
            "compensations-are-begun",
            [*undone()[:-1], replace(undone()[-2], seq=len(undone()))],
        ),
        Witness(
            "compensations-are-begun",
            tell(undone(), CREATED, options={"a": AS_B, "b": {"compensate": "begun"}}),
        ),
        Witness("bad-ends-are-compensated", left_out(undone(), COMPENSATING_A, COMPENSATED_A)),
        Witness("bad-ends-are-compensated", left_out(undone_by_two(), ("step.compensated", "a"))),
        Witness("endings-are-needed", with_an_ending()),
        Witness("late-once", twice(overdue(), A_LATE)),
        Witness("late-once", twice(overdue(), VECT_LATE)),
        Witness("late-once", tell(overdue(), A_LATE, deadline=3)),
        Witness("late-once", tell(overdue(), VECT_LATE, deadline=3)),
        Witness("late-once", tell(overdue(), CREATED, settings={})),
        Witness("late-once", tell(overdue(), CREATED, options={"a": {"max_attempts": 2}})),
        Witness("late-once", late_too_early()),
        Witness("plans-are-created-first", numbered(planned()[1:])),
        Witness(
            "plans-are-created-first",
            change(
                untell(planned(), PLAN_SKIPPED, "reason"),
                PLAN_SKIPPED,
                name="plan.created",
                dest="planned",
            ),
        ),
        Witness("times-of-a-plan-increase", time_of_plan(PLAN_SKIPPED, "01:00:00")),
        Witness("times-of-a-plan-increase", time_of_plan(PLAN_SKIPPED, "00:30:00")),
        Witness("times-of-a-plan-increase", time_of_plan(PLAN_CREATED, "01:00:00")),
        Witness("planned-vects-tell-their-time", change(planned(), PLAN_SKIPPED, vect="p")),
        Witness("planned-vects-tell-their-time", change(planned(), PLAN_CREATED, vect="q@")),
        Witness(
            "planned-vects-tell-their-time",
            [replace(e, vect="v") if e.vect.endswith("01:00:00Z") else e for e in planned()],
        ),
        Witness("children-go-on", going_on_by_policy()),
        Witness("children-are-of-a-step", reopened_for(["v", "r", 1])),
        Witness("children-are-of-a-step", reopened_for(["v", "s", 2])),
        Witness("children-are-of-a-step", of_parent(["v", "r", 2], FIRST_CHILD)),
        Witness("children-are-of-a-step", of_parent(["v", "r", 3], SECOND_CHILD)),
        Witness("children-are-of-a-step", of_parent(["v", "s", 1], FIRST_CHILD)),
        Witness("children-are-of-a-step", of_parent(["w", "r", 1], FIRST_CHILD)),
        Witness("children-are-of-a-step", of_another_flow()),
        Witness("children-are-wanted", started_too_late()),
        Witness("children-come-first", begun_too_early()),
        Witness("children-succeed-first", told_too_early()),
        Witness("blocked-by-an-upstream", tell(fork(), B_BLOCKED, upstream="c")),
        Witness("blocked-by-an-upstream", tell(fork(), B_BLOCKED, upstream="z")),
        Witness("blocked-by-an-upstream", tell(fork(), B_BLOCKED, error="something else")),
        Witness("blocks-at-once", swap(fork(), ("step.blocked", "c"), ("step.succeeded", "x"))),
        Witness("blocks-at-once", without_skip_of_c()),
        Witness("skipped-by-its-rule", skipped_for_no_reason()),
        Witness("vects-end-at-once", end_of_the_first_delayed()),
        Witness("cancels-are-whole", swap(cancelled(), CANCELLED, LATE)),
        Witness("cancels-are-whole", end_of_all_delayed()),
        Witness("cancels-have-one-reason", tell(cancelled(), CANCELLED, reason="another")),
        Witness("cancels-have-one-reason", tell(torn_down(), ENDING, reason="another")),
        Witness("cancels-have-one-reason", tell(cancelled(), ("step.cancelled", "b"), reason="")),
        Witness("consequences-share-the-time", later(chain(), SUCCEEDED)),
        Witness("consequences-share-the-time", later(fork(), ("step.blocked", "c"))),
        Witness("consequences-share-the-time", later(cancelled(), CANCELLED)),
        Witness("consequences-share-the-time", later(crashed(), ("step.interrupted", "a"))),
        Witness("pauses-are-kept", swap(paused()[:7], ("vect.resumed", None), B_STARTED)),
        Witness("resets-are-whole", without(reopened(), "step.reset", "b")),
        Witness("resets-are-needed", with_a_reset_of_x()),
        Witness(
            "maps-end-with-their-items",
            change(
                mapped()[:-1], ("step.failed", "b"), name="step.succeeded", dest="success", data={}
            ),
        ),
        Witness("given-steps-have-their-output", tell(alone(), A_SUCCEEDED, output=1)),
        Witness(
            "given-steps-have-their-output",
            change(alone()[:4], A_SUCCEEDED, name="step.failed", dest="failed", data={"error": ""}),
        ),
        Witness("waits-fail-at-once", tell(unwaitable(), ("step.failed", "a"), error="no")),
        Witness("waits-fail-at-once", tell(unwaitable(), A_STARTED, problem="no")),
        Witness(
            "waits-fail-at-once",
            change(
                unwaitable()[:4],
                ("step.failed", "a"),
                name="step.succeeded",
                dest="success",
                data={"output": None},
            ),
        ),
        Witness("interrupted-by-a-recovery", never_recovered()),
        Witness("interrupted-by-a-recovery", change(lost()[:4], A_INTERRUPTED, data={})),
        Witness("interrupted-by-a-recovery", lost_once_too_often()),
        Witness("interrupted-by-a-recovery", tell(crashed(), A_INTERRUPTED, reason="it died")),
        Witness("compensations-are-begun", lost_before_it_began()),
        Witness("recoveries-are-whole", half_recovered()),
        Witness("recoveries-are-whole", crashed_for_good_too_early()),
        Witness("vects-end-after-their-steps", without_b()),
        Witness(
            "ends-fit-the-steps",
            change(chain(), SUCCEEDED, name="vect.failed", dest="failed", data={"steps": []}),
        ),
        Witness(
            "ends-fit-the-steps",
            change(
                chain(), SUCCEEDED, name="vect.cancelled", dest="cancelled", data={"reason": ""}
            ),
        ),
        Witness(
            "ends-fit-the-steps",
            change(fork(), FAILED, name="vect.succeeded", dest="success", data={}),
        ),
        Witness(
            "ends-fit-the-steps",
            change(skipped(), SUCCEEDED, name="vect.failed", dest="failed", data={"steps": []}),
        ),
        Witness("ends-fit-the-steps", tell(undone(), ENDING, to="cancelled")),
        Witness("ends-fit-the-steps", without_a_limit()),
        Witness("failures-name-the-steps", tell(fork(), FAILED, steps=["a", "b"])),
        Witness("failures-name-the-steps", tell(fork(), FAILED, steps=["a", "b", "c", 1])),
        Witness("limits-are-kept", started_before_its_turn()),
        Witness("limits-are-kept", started_before_its_turn("of")),
        Witness("backfills-keep-their-order", filled_too_early()),
        Witness("turns-come-in-order", out_of_order()),
        Witness("turns-come-in-order", out_of_order("of")),
        Witness("steps-fit-the-workers", pair(), PAIR, 1),
        Witness("steps-fit-the-workers", swap(pair(1), A_SUCCEEDED, B_STARTED), None, 1),
        Witness("pools-hold", tell_all_of_a_map_to_be_one_by_one()),
        Witness("pools-hold", swap(pooled(), A_SUCCEEDED, B_STARTED)),
        Witness("pools-hold", told_of_pool(pool_slots=2)),
        Witness("rates-hold", told_of_pool(rate=[1, 2])),
        Witness("due-steps-start", swap(pair(2), B_STARTED, A_SUCCEEDED), None, 2),
        Witness("due-steps-start", pair(1), PAIR, 2),
    ]


def later(events: Events, place: Place) -> Events:
    time = events[at(events, *place)].time + timedelta(seconds=1)
    return change(events, place, time=time)


WITNESSES = witnesses()
IDS = [f"{witness.invariant}-{i}" for i, witness in enumerate(WITNESSES)]


def caught(witness: Witness) -> list[InvariantError]:
    return list(violations(witness.events, witness.flow, max_workers=witness.max_workers))


MADE = (chain, pair, fork, cancelled, two, skipped, planned, *RECOVERED)
MADE_LATER = (retried, pooled, waited, reopened, paused, branched, mapped, family, families)
MADE_IN_TURN = (queued, queued_by_a_parameter)
CLEANED_UP = (undone, undone_by_two, torn_down, too_long)
GOOD = {each.__name__: each for each in (*MADE, *MADE_LATER, *MADE_IN_TURN, *CLEANED_UP)}


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_a_good_history_and_all_its_beginnings_pass(make: Callable[[], Events]) -> None:
    events = make()
    for length in range(len(events) + 1):
        check_history(events[:length])


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_a_history_from_a_file_passes(make: Callable[[], Events]) -> None:
    check_history(from_line(to_line(event)) for event in make())


def test_the_workers_there_were_pass() -> None:
    check_history(pair(), PAIR)
    check_history(pair(1), PAIR, max_workers=1)
    check_history(pair(2), PAIR, max_workers=2)
    check_history(cancelled(), max_workers=1)
    check_history(two(), max_workers=1)


def test_parameters_of_their_types_pass() -> None:
    check_history(told_day(day="2026-11-24"), WITH_PARAMS)


@pytest.mark.parametrize("witness", WITNESSES, ids=IDS)
def test_a_damage_is_caught_by_one_invariant_and_no_other(witness: Witness) -> None:
    assert {violation.invariant for violation in caught(witness)} == {witness.invariant}


def test_every_invariant_has_a_damage_that_no_other_catches() -> None:
    assert list(dict.fromkeys(witness.invariant for witness in WITNESSES)) == list(INVARIANTS)


@pytest.mark.parametrize("witness", WITNESSES, ids=IDS)
def test_check_history_raises_the_first_violation(witness: Witness) -> None:
    first = caught(witness)[0]
    with pytest.raises(InvariantError, match=re.escape(str(first))) as raised:
        check_history(witness.events, witness.flow, max_workers=witness.max_workers)
    assert isinstance(raised.value, InvalidHistoryError)
    assert (raised.value.invariant, raised.value.seq) == (witness.invariant, first.seq)


def test_the_first_invariant_of_the_table_is_raised_at_its_first_event() -> None:
    events = change(chain(), SUCCEEDED, seq=99)
    events = change(events, ("step.started", "b"), attempt=2, flow="g")
    events = change(events, A_STARTED, attempt=3)
    found = [(error.invariant, error.seq) for error in violations(events)]
    assert found == [
        ("seq-is-dense", 99),
        ("flow-stays", 5),
        ("attempts-fit", 3),
        ("attempts-fit", 5),
    ]


def test_a_message_tells_the_event_the_invariant_and_its_sentence() -> None:
    events = swap(chain(), A_SUCCEEDED, B_STARTED)
    with pytest.raises(InvariantError) as raised:
        check_history(events)
    assert str(raised.value) == (
        "event 4 does not fit the events before it: step.started of step 'b' in vect "
        "'simulated-0' violates 'starts-after-upstreams': A step starts only when its rule says "
        "so, and no branch has chosen otherwise."
    )
    assert (raised.value.flow, raised.value.step) == ("f", "b")


def test_a_message_about_a_vect_names_no_step() -> None:
    (error,) = violations(later(chain(), SUCCEEDED))
    assert "vect.succeeded in vect 'simulated-0' violates" in str(error)
    assert (error.flow, error.step) == ("f", None)


def test_a_message_about_wrong_fields_names_them_and_the_place_of_the_event() -> None:
    (error,) = violations(change(chain(), SUCCEEDED, seq="7", step=3))
    assert "event 7 " in str(error)
    assert "its seq, step violates 'fields-are-typed'" in str(error)
    (error,) = violations([None])  # type: ignore[list-item]
    assert "event 1 " in str(error)
    assert str(error).endswith(
        "its type NoneType violates 'fields-are-typed': Every field of an event is of its type."
    )
    (error,) = violations(["step.started"])  # type: ignore[list-item]
    assert "its type str violates" in str(error)


def test_an_event_with_wrong_fields_has_its_place_in_the_numbering() -> None:
    wrong = change(chain(), ("step.started", "a"), flow=3)

    assert "seq-is-dense" not in {error.invariant for error in violations(wrong)}


@pytest.mark.parametrize(
    "end",
    [
        step_succeeded(6, "b"),
        replace(step_failed(6, "b"), attempt=1),
        event(6, "step.late_result", "success", "success", step="a", attempt=1, output=None),
    ],
    ids=lambda end: end.name,
)
def test_a_step_that_was_due_is_missed_at_the_next_answer(end: Event) -> None:
    """If the program has begun anything after that: else it may have drained."""
    history = [
        created(1, {"a": (), "b": (), "c": ()}),
        started(2),
        step_started(3, "a"),
        step_started(4, "b"),
        step_succeeded(5, "a"),  # so there is a worker for c
        end,
    ]
    recovered = [event(7, "vect.recovered", "running", "running"), step_started(8, "c")]
    missed = ("due-steps-start", 6)

    def found(*after: Event) -> list[tuple[str, int]]:
        errors = violations([*history, *after], max_workers=2)
        return [(error.invariant, error.seq) for error in errors]

    assert missed in found(step_started(7, "c"))
    assert missed not in found()
    assert missed not in found(*recovered)


@pytest.mark.parametrize("other_is_open", [True, False])
def test_a_step_that_was_due_in_a_life_that_left_nothing_open_is_not_missed(
    *, other_is_open: bool
) -> None:
    """No recovery tells of the end of such a life: it may have drained."""
    history = [
        *begun({"a": (), "b": (), "c": ()}, "a", "b"),
        step_succeeded(5, "a"),
        step_succeeded(6, "b"),
        step_cancelled(7, "c", "pending"),
        event(8, "vect.cancelled", "running", "cancelled", reason=""),
    ]
    next_life = of("next", created(9, {"a": ()}), started(10), step_started(11, "a"))
    if other_is_open:
        history = [*of("other", created(1, {"a": ()})), *history]
        history = [replace(each, seq=seq) for seq, each in enumerate(history, 1)]
        next_life = [replace(each, seq=each.seq + 1) for each in next_life]

    found = found_in([*history, *next_life], workers=2)
    assert found == ({("due-steps-start", 7)} if other_is_open else set())


def found_in(
    events: Events, flow: Flow | None = None, workers: int | None = None
) -> set[tuple[str, int]]:
    """The violations, as (invariant, number of the event), were all at one time."""
    events = [replace(each, time=NOON) for each in events]
    return {(each.invariant, each.seq) for each in violations(events, flow, max_workers=workers)}


def begun(graph: dict[str, tuple[str, ...]], *steps: str) -> Events:
    """A Vect of which these steps have started; with two steps, the next event is number 5."""
    starts = [step_started(seq, step) for seq, step in enumerate(steps, start=3)]
    return [created(1, graph), started(2), *starts]


def step_cancelled(seq: int, step: str, source: str = "running") -> Event:
    attempt = 1 if source == "running" else None
    return event(seq, "step.cancelled", source, "cancelled", step=step, attempt=attempt, reason="")


def step_blocked(seq: int, step: str, upstream: str, error: str = "it broke") -> Event:
    told = {"upstream": upstream, "error": error}
    return event(seq, "step.blocked", "pending", "upstream_failed", step=step, **told)


def test_a_step_is_due_as_soon_as_its_last_upstream_has_succeeded() -> None:
    graph: dict[str, tuple[str, ...]] = {"a": (), "x": (), "b": ("a", "x"), "c": ("a",)}
    history = [*begun(graph, "a", "x"), step_succeeded(5, "a"), step_succeeded(6, "x")]

    assert found_in([*history, step_started(7, "c")], workers=2) == {("due-steps-start", 6)}  # c
    history[5:] = [step_started(6, "c"), step_succeeded(7, "x"), step_succeeded(8, "c")]
    assert found_in([*history, step_started(9, "b")], workers=2) == {("due-steps-start", 8)}  # b


def of(vect: str, *events: Event) -> Events:
    return [replace(each, vect=vect) for each in events]


GOES_ON = {
    "nothing more is told": ([], False),
    "it was recovered": (
        [
            event(7, "vect.recovered", "running", "running"),
            event(8, "step.interrupted", "running", "pending", step="a", attempt=1),
        ],
        False,
    ),
    "it was cancelled": (
        [step_cancelled(7, "a"), event(8, "vect.cancelled", "running", "cancelled", reason="")],
        False,
    ),
    "it has gone on": (
        [step_succeeded(7, "a"), event(8, "vect.succeeded", "running", "success")],
        True,
    ),
    "it was paused": ([event(7, "vect.paused", "running", "paused")], True),
}


@pytest.mark.parametrize("which", GOES_ON)
@pytest.mark.parametrize("invariant", ["pools-hold", "steps-fit-the-workers"])
def test_what_a_vect_has_of_which_no_more_is_told_may_be_given_back(
    which: str, invariant: str
) -> None:
    """As where the engine has stranded it, which the log does not tell."""
    more, goes_on = GOES_ON[which]
    graph: dict[str, tuple[str, ...]] = {"a": ()}
    options = {"a": {"pool": ["p", 1]}} if invariant == "pools-hold" else {}
    workers = 1 if invariant == "steps-fit-the-workers" else None
    first = [created(1, graph, **options), started(2), step_started(3, "a")]
    second = [created(4, graph, **options), started(5), step_started(6, "a")]
    history = [*of("stranded", *first), *of("other", *second), *of("stranded", *more)]

    assert found_in(history, workers=workers) == ({(invariant, 6)} if goes_on else set())


@pytest.mark.parametrize("which", GOES_ON)
def test_the_room_of_a_vect_of_which_no_more_is_told_may_be_had_by_one_that_has_waited(
    which: str,
) -> None:
    more, goes_on = GOES_ON[which]
    graph: dict[str, tuple[str, ...]] = {"a": ()}
    history = of("stranded", created(1, graph), started(2), step_started(3, "a"))
    turn = event(5, "vect.started", "pending", "running", limit=1)
    history += of("other", created(4, graph), turn, step_started(6, "a"))
    history += of("stranded", *more)

    assert found_in(history) == ({("limits-are-kept", 5)} if goes_on else set())


def test_who_was_left_by_an_earlier_program_may_start_behind_one_that_was_created_later() -> None:
    """Its flow had changed for a while, and has changed back."""
    graph: dict[str, tuple[str, ...]] = {"a": ()}

    def history(**told: Any) -> Events:
        begun = [*of("left", created(1, graph)), *of("other", created(2, graph))]
        for seq, vect, more in ((3, "other", {}), (4, "left", told)):
            begun += of(vect, event(seq, "vect.started", "pending", "running", limit=9, **more))
        return begun

    assert found_in(history()) == {("turns-come-in-order", 4)}
    assert found_in(history(recovered=True)) == set()


def test_what_a_vect_has_itself_is_not_given_back() -> None:
    graph: dict[str, tuple[str, ...]] = {"a": (), "b": ()}
    options = {name: {"pool": ["p", 1]} for name in "ab"}
    history = [created(1, graph, **options), started(2), step_started(3, "a")]

    assert found_in([*history, step_started(4, "b")]) == {("pools-hold", 4)}


def test_two_of_a_full_pool_cannot_both_have_gone_on() -> None:
    """Of a pool of two slots one may be stranded, and nobody knows which; but not both."""
    graph: dict[str, tuple[str, ...]] = {"a": ()}
    options = {"a": {"pool": ["p", 2]}}
    history = Events()
    for number, vect in enumerate(("v", "w", "x")):
        first = 3 * number + 1
        begun = [created(first, graph, **options), started(first + 1)]
        history += of(vect, *begun, step_started(first + 2, "a"))
    history += of("v", event(10, "vect.paused", "running", "paused"))

    assert found_in(history) == set()
    history += of("w", event(11, "vect.paused", "running", "paused"))
    assert found_in(history) == {("pools-hold", 9)}


def test_who_approves_before_a_vect_is_recovered_is_heard_before_its_steps_start() -> None:
    """But what does not start at once behind that starts too late."""
    options = {"a": {"kind": "approval", "prompt": "go on?"}}
    place = {"step": "a", "attempt": 1}
    history = [created(1, {"a": (), "b": (), "c": ()}, **options), started(2)]
    history.append(event(3, "step.started", "pending", "running", **place, prompt="go on?"))
    history.append(step_started(4, "b"))
    history.append(event(5, "vect.recovered", "running", "running"))
    history.append(event(6, "step.interrupted", "running", "pending", step="b", attempt=1))
    history.append(step_succeeded(7, "a", output={"by": "Ada", "data": None}))
    history.append(step_started(8, "b", attempt=2))
    history.append(step_started(9, "c"))

    assert found_in(history, workers=2) == set()
    history.insert(
        8, event(9, "step.succeeded", "running", "success", step="b", attempt=2, output=1)
    )
    history[9:] = [step_started(10, "c")]
    assert found_in(history, workers=2) == {("due-steps-start", 9)}


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_vect_of_which_no_more_is_told_may_have_nobody_to_start_its_steps(
    *, goes_on: bool
) -> None:
    graph: dict[str, tuple[str, ...]] = {"a": (), "b": ()}
    history = of("stranded", created(1, {"a": (), "b": ("a",)}), started(2), step_started(3, "a"))
    history += of(
        "other", created(4, graph), started(5), step_started(6, "a"), step_started(7, "b")
    )
    history += of("stranded", step_succeeded(8, "a"))
    history += of("other", step_succeeded(9, "a"), step_succeeded(10, "b"))
    history += of("other", event(11, "vect.succeeded", "running", "success"))
    if goes_on:
        history += of("stranded", step_started(12, "b"))

    expected = {("due-steps-start", 9), ("due-steps-start", 10)} if goes_on else set()
    assert found_in(history, workers=3) == expected


def test_behind_a_blocked_step_too_its_dependants_are_blocked_before_all_else() -> None:
    graph: dict[str, tuple[str, ...]] = {"a": (), "x": (), "b": ("a",), "c": ("b",)}
    failed = [*begun(graph, "a", "x"), step_failed(5, "a")]
    at_once = [step_blocked(6, "b", "a"), step_blocked(7, "c", "b")]

    assert found_in([*failed, *at_once, step_succeeded(8, "x")]) == set()
    assert found_in([*failed, at_once[0], step_succeeded(7, "x")]) == {("blocks-at-once", 7)}
    assert ("blocks-at-once", 6) in found_in([*failed, step_cancelled(6, "b", "pending")])
    assert ("blocks-at-once", 6) in found_in([*failed, step_blocked(6, "c", "b")])


def test_a_failure_that_tells_no_error_is_not_held_against_the_block_that_follows() -> None:
    history = [*begun({"a": (), "b": ("a",)}, "a"), step_failed(4, "a"), step_blocked(5, "b", "a")]
    history = change(history, ("step.failed", "a"), data={})

    assert found_in(history) == {("data-fit-the-event", 4)}


def test_the_steps_of_a_cancel_share_its_time() -> None:
    history = [*begun({"a": (), "b": ()}, "a", "b"), step_cancelled(5, "a"), step_cancelled(6, "b")]
    places = [(each.invariant, each.seq) for each in violations(history)]

    assert places == [("consequences-share-the-time", 6)]


def test_all_that_run_at_once_are_counted() -> None:
    history = begun({"a": (), "b": (), "c": ()}, "a", "b", "c")

    assert found_in(history, workers=3) == set()
    assert found_in(history, workers=2) == {("steps-fit-the-workers", 5)}


def test_what_a_flow_of_another_name_polls_does_not_matter() -> None:
    other = Flow("g", Registry())
    Polled("a", other, nothing)
    history = begun({"a": (), "b": ()}, "a", "b")

    assert found_in(history, other, 1) == {("steps-fit-the-workers", 4)}


def test_no_other_event_of_a_vect_comes_between_its_last_step_and_its_end() -> None:
    late = event(5, "step.late_result", "success", "success", step="a", attempt=1, output=None)
    history = [*begun({"a": ()}, "a"), step_succeeded(4, "a"), late]

    assert found_in(history) == {("vects-end-at-once", 5)}


def test_an_error_can_be_pickled() -> None:
    (error,) = violations(change(chain(), SUCCEEDED, seq=99))
    twin = pickle.loads(pickle.dumps(error))
    assert (str(twin), twin.seq, twin.invariant) == (str(error), 99, "seq-is-dense")


def test_a_gap_is_told_once() -> None:
    events = [event for event in chain() if event.name != "vect.started"]
    assert [e.seq for e in violations(events) if e.invariant == "seq-is-dense"] == [3]


def test_a_block_that_never_comes_is_told_once() -> None:
    events = numbered([event for event in fork() if event.name != "step.blocked"])
    found = [e.seq for e in violations(events) if e.invariant == "blocks-at-once"]
    assert found == [at(events, "step.failed", "a") + 2]


def test_events_may_come_one_by_one() -> None:
    check_history(event for event in chain())
    assert list(violations(iter(chain()))) == []


# The arguments


def test_a_flow_of_another_name_is_not_held_against_the_log() -> None:
    check_history(chain(), Flow("other", Registry()))


def test_a_graph_may_be_declared_in_another_order() -> None:
    check_history(pair(), flow_of({"b": "", "a": ""}))


class Polled(PythonExecution):
    def check(self, context: Any) -> bool:
        return True


def test_polled_steps_of_the_flow_given_hold_no_worker() -> None:
    flow = Flow("f", Registry())
    for name in "abc":
        Polled(name, flow, nothing)
    events = simulate(flow, max_workers=1, durations=dict.fromkeys("abc", 9)).events()
    check_history(events, flow, max_workers=1)
    assert {e.invariant for e in violations(events, max_workers=1)} == {"steps-fit-the-workers"}


def test_a_slot_that_a_cancel_frees_is_taken_when_the_cancel_is_whole() -> None:
    flow = Flow("f", Registry())
    for name in "ab":
        PythonExecution(name, flow, nothing, pool=Pool("p", 1) if name == "a" else None)
    clock, log = SimulatedClock(), MortalLog()
    script = Script(flow, {"a": 5, "b": 5}, {})
    lives = Lives(flow, log, clock, lambda: ScriptedWorkers(script, clock, 9), script.decision)
    for vect in ("first", "second"):
        lives.begin(vect)
    clock.call_later(1, lambda: lives.cancel("first", "enough"))
    lives.drive(lambda: all(map(lives.scheduler.is_over, lives.runs.values())))
    events = list(log.read())

    cancels = ["step.cancelled", "step.cancelled", "vect.cancelled"]
    ends = ["step.late_result", "step.late_result", "step.started"]  # only now a slot is free
    assert [event.name for event in events[7:13]] == cancels + ends
    check_history(events, flow, max_workers=9)


@pytest.mark.parametrize("wrong", [{"flow": "f"}, {"max_workers": 0}, {"max_workers": "2"}])
def test_a_wrong_argument_is_refused_at_once(wrong: dict[str, Any]) -> None:
    for function in (check_history, violations):
        with pytest.raises(SettingError, match=f"^{next(iter(wrong))} must be a"):
            function([], **wrong)


# Whatever the damage


GARBAGE = [None, -1, 1.5, "", "a", "step.started", "vect.created", "running", [], {"a": []}]
GARBAGE += [{"graph": {"a": ["a"]}, "params": {}}, {1: 2}, {"error": 1}, object()]


@pytest.mark.parametrize("make", [fork, cancelled])
def test_no_garbage_in_any_field_raises_anything_else(make: Callable[[], Events]) -> None:
    events = make()
    for index, field, value in product(range(len(events)), Event.__struct_fields__, GARBAGE):
        garbled = replace(events[index], **{field: value})
        found = list(violations([*events[:index], garbled, *events[index + 1 :]]))
        assert all(str(error) for error in found)


# How fast


MANY = [str(i) for i in range(10_000)]


def long_chain() -> Events:
    """Many steps, each behind the one before."""
    graph = {name: (before,) for before, name in pairwise(MANY)}
    events = [created(1, {MANY[0]: (), **graph}), started(2)]
    for name in MANY:
        events += [step_started(0, name), step_succeeded(0, name)]
    return [*events, event(0, "vect.succeeded", "running", "success")]


def wide_fan() -> Events:
    """Many steps side by side, behind one and before one."""
    graph = {"first": (), **dict.fromkeys(MANY, ("first",)), "last": tuple(MANY)}
    events = [created(1, graph), started(2)]
    events += [step_started(0, "first"), step_succeeded(0, "first")]
    events += [step_started(0, name) for name in MANY] + [step_succeeded(0, name) for name in MANY]
    events += [step_started(0, "last"), step_succeeded(0, "last")]
    return [*events, event(0, "vect.succeeded", "running", "success")]


def blocked_fan() -> Events:
    """The one fails that many steps wait for."""
    graph = {"first": (), **dict.fromkeys(MANY, ("first",))}
    events = [created(1, graph), started(2), step_started(0, "first"), step_failed(0, "first")]
    told = {"upstream": "first", "error": "it broke"}
    block = event(0, "step.blocked", "pending", "upstream_failed", **told)
    events += [replace(block, step=name) for name in MANY]
    return [*events, event(0, "vect.failed", "running", "failed", steps=[*graph])]


@pytest.mark.parametrize("make", [long_chain, wide_fan, blocked_fan])
def test_ten_thousand_steps_take_seconds_at_the_most(make: Callable[[], Events]) -> None:
    """Less than half a second of work; coverage makes it a multiple of that."""
    events = [replace(event, time=NOON) for event in numbered(make())]
    begin = time.process_time()
    check_history(events)
    assert time.process_time() - begin < (5 if sys.gettrace() is None else 60)


# The page


def test_the_page_has_the_table_of_the_code() -> None:
    rows = re.findall(r"^\| `([a-z]+-[a-z-]+)` \| (.+?) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert rows == [(each.name, each.sentence) for each in INVARIANTS.values()]
