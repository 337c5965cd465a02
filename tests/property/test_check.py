"""The invariants of histories: what the engine makes passes, and what is damaged is caught."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta, timezone
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from oautom import (
    Event,
    Flow,
    FlowExecution,
    MapExecution,
    OAutom,
    PythonExecution,
    RetryPolicy,
    Skip,
    WaitExecution,
)
from oautom.audit.invariants import INVARIANTS, InvariantError, check_history, violations
from oautom.machine.deadlines import LATE
from oautom.machine.event import is_loss
from oautom.machine.tables import EVENT_NAMES, PLAN_EVENTS, STEP_TABLE
from oautom.testing import SimulatedClock, simulate
from tests.golden.make import (
    clean_up,
    hasty,
    losses,
    run_clean_up,
    run_hasty,
    run_losses,
    run_turns,
    turns,
)
from tests.kit import Registry

from .cases import Case, FlowPlan, cases, flow_plans, moderate
from .driver import Driver

Events = list[Event]


def declare(
    plan: FlowPlan, name: str = "f", app: Any = None, work: Callable[..., Any] = print
) -> Flow:
    flow = Flow(name, app or Registry(), max_active_vects=9)
    steps = [
        PythonExecution(str(i), flow, work, [i], on_crash="fail" if i % 3 == 2 else "rerun")
        for i in range(plan.steps)
    ]
    for upstream, step in plan.edges:
        steps[step].depends(steps[upstream])
    return flow


def nothing(item: object) -> None:
    """What each instance of a map does."""


def assert_all_beginnings_pass(events: Events, *told: Any, **more: Any) -> None:
    for length in range(len(events) + 1):
        check_history(events[:length], *told, **more)


# What the engine makes


@moderate
@given(flow_plans(), st.data(), st.integers(0, 99), st.none() | st.integers(1, 4))
def test_what_is_simulated_passes(
    plan: FlowPlan, data: st.DataObject, seed: int, max_workers: int | None
) -> None:
    flow = declare(plan)
    steps = st.sampled_from([*flow.steps] or [""])
    outcomes = data.draw(st.dictionaries(steps, st.just(ValueError("no")), max_size=2))
    durations = data.draw(st.dictionaries(steps, st.integers(0, 2)))
    events = simulate(
        flow,
        outcomes=outcomes if flow.steps else None,
        durations=durations if flow.steps else None,
        seed=seed,
        max_workers=max_workers,
    ).events()
    assert_all_beginnings_pass(events, flow, max_workers=max_workers)


class Wish(NamedTuple):
    """When step `step` of Vect `vect` runs, `other` is cancelled; the step fails if it says so."""

    vect: int
    step: int
    other: int
    fails: bool


WISHES = st.lists(
    st.builds(Wish, st.integers(0, 3), st.integers(0, 6), st.integers(0, 3), st.booleans()),
    max_size=4,
)


def run_inline(plans: list[FlowPlan], wishes: list[Wish]) -> Events:
    """Run a Vect of each plan, all in one app; return its log."""
    calls: list[int] = []
    with OAutom(executor="inline") as app:

        def work(vect: int, step: int) -> int:
            calls.append(vect)
            for wish in wishes:
                if (wish.vect, wish.step) == (vect, step) and wish.other < len(vects):
                    vects[wish.other].cancel(f"said by {vect}")
                    if wish.fails:
                        raise ValueError(f"no, says {step}")
            return step

        vects = [
            app.start(declare(plan, f"f{i}", app, lambda step, i=i: work(i, step)))
            for i, plan in enumerate(plans)
        ]
        for vect in vects:
            vect.wait()
        return list(app.log.read())


@moderate
@given(st.lists(flow_plans(max_steps=5), min_size=1, max_size=3), WISHES)
def test_several_vects_in_one_app_pass(plans: list[FlowPlan], wishes: list[Wish]) -> None:
    events = run_inline(plans, wishes)
    assert_all_beginnings_pass(events, max_workers=1)
    for i, plan in enumerate(plans):
        check_history(events, declare(plan, f"f{i}"), max_workers=1)


CALM = ("answer", "answer", "answer", "answer", "begin", "cancel")


@moderate
@given(cases(CALM))
def test_whatever_is_answered_and_cancelled_passes(case: Case) -> None:
    driver = Driver(case).play()
    assert_all_beginnings_pass(list(driver.log.read()), max_workers=case.slots)
    for flow in driver.flows:
        check_history(driver.log.read(), flow, max_workers=case.slots)


@moderate
@given(cases(CALM, max_polls=3))
def test_polled_steps_pass(case: Case) -> None:
    driver = Driver(case).play()
    assert_all_beginnings_pass(list(driver.log.read()))
    if len(driver.flows) == 1:
        check_history(driver.log.read(), driver.flows[0], max_workers=case.slots)


@moderate
@given(cases())
def test_answers_that_come_twice_pass(case: Case) -> None:
    """They get by the runner here, so a step may seem to be over that still holds its worker."""
    events = Driver(case).play().log.read()
    found = violations(events, max_workers=case.slots)
    assert {violation.invariant for violation in found} <= {"due-steps-start"}


# What is damaged


class Log(NamedTuple):
    """A good history, and what is known of it."""

    events: Events
    flow: Flow | None
    max_workers: int | None


def random_plan(chance: random.Random) -> FlowPlan:
    steps = chance.randint(2, 7)
    pairs = [(i, j) for j in range(steps) for i in range(j)]
    return FlowPlan(steps, tuple(pair for pair in pairs if chance.random() < 0.35))


def random_wish(chance: random.Random) -> Wish:
    return Wish(
        chance.randint(0, 2), chance.randint(0, 6), chance.randint(0, 2), chance.random() < 0.5
    )


@cache
def good_logs() -> list[Log]:
    chance = random.Random(1)
    logs = []
    for seed in range(20):
        flow = declare(random_plan(chance))
        for step in flow.steps.values():
            step.retry = chance.choice([None, RetryPolicy(delay=1, jitter=0)])
            step.timeout = chance.choice([None, 2])
            step.deadline = chance.choice([None, 1])
        flow.deadline = chance.choice([None, 2])
        bad = [name for name in flow.steps if chance.random() < 0.2]
        max_workers = chance.choice([None, 1, 2])
        vect = simulate(
            flow,
            outcomes={name: chance.choice([ValueError("no"), Skip("no")]) for name in bad},
            durations={name: chance.randint(0, 3) for name in flow.steps},
            seed=seed,
            max_workers=max_workers,
        )
        logs.append(Log(vect.events(), flow, max_workers))
        again = simulate(
            flow,
            like=vect,
            seed=seed,
            max_workers=max_workers,
            crash_at=[(chance.choice(["before", "in", "after"]), n) for n in (1, 2, 4)],
        )
        logs.append(Log(again.events(), flow, max_workers))
    for _ in range(5):
        flow = declare(FlowPlan(1, ()))
        MapExecution("map", flow, nothing, flow.steps["0"])
        ends = {"0": [[1, 2, 3]], f"map[{chance.randrange(3)}]": ValueError("no")}
        times = {f"map[{i}]": chance.randint(0, 9) for i in range(3)}
        logs.append(Log(simulate(flow, outcomes=ends, durations=times).events(), flow, None))
    for _ in range(3):
        flow = declare(FlowPlan(1, ()))
        WaitExecution("wait", flow, until=flow.steps["0"].output)
        flow.steps["wait"].deadline = 1
        logs.append(Log(simulate(flow, outcomes={"0": "no time"}).events(), flow, None))
    logs += [pausing_and_retried(chance) for _ in range(10)]
    for _ in range(20):
        plans = [random_plan(chance) for _ in range(chance.randint(1, 3))]
        wishes = [random_wish(chance) for _ in range(4)]
        events = run_inline(plans, wishes)
        i = chance.randrange(len(plans))
        logs.append(Log(events, declare(plans[i], f"f{i}"), 1))
    logs += [with_child(chance) for _ in range(5)]
    logs += [with_child_that_goes_on(chance) for _ in range(3)]
    ours = ((clean_up, run_clean_up), (hasty, run_hasty), (losses, run_losses), (turns, run_turns))
    for make, run in ours:
        logs += [Log(run(), make(), None)] * 3
    for minutes in (1, 10, 30, 50, 70, 90) * 2:
        shape = random_plan(chance)
        logs.append(Log(run_planned(shape, minutes), declare(shape), 1))
    return logs


def pausing_and_retried(chance: random.Random) -> Log:
    """A Vect of which a step fails at first, and another one pauses it."""
    plan, broken, calls = random_plan(chance), chance.randrange(2), Counter[int]()
    pauses = other(broken, range(plan.steps), chance)
    with OAutom(executor="inline") as app:

        def work(step: int) -> int:
            calls[step] += 1
            if step == pauses and calls[step] == 1:
                vect.pause()
            if step == broken and calls[step] == 1:
                raise ValueError("not yet")
            return step

        vect = app.start(declare(plan, "f", app, work))
        while vect.state != "success":
            with suppress(TimeoutError):
                vect.wait(0.001)
            if vect.state == "paused":
                vect.resume()
            if vect.state == "failed":
                vect.retry()
        return Log(list(app.log.read()), declare(plan), 1)


def with_child(chance: random.Random) -> Log:
    """A Vect of two steps, of which the second runs another flow."""
    shape = random_plan(chance)
    with OAutom(executor="inline", clock=SimulatedClock()) as app:
        flow = declare(FlowPlan(1, ()), app=app)
        FlowExecution("child", flow, declare(shape, "f0", app)).depends(flow.steps["0"])
        app.run(flow)
        return Log(list(app.log.read()), flow, 1)


def with_child_that_goes_on(chance: random.Random) -> Log:
    """A Vect whose step runs a flow that fails at first, and goes on when the Vect is retried."""
    shape, calls = random_plan(chance), Counter[int]()
    broken = chance.randrange(shape.steps)

    def work(step: int) -> int:
        calls[step] += 1
        if step == broken and calls[step] == 1:
            raise ValueError("not yet")
        return step

    with OAutom(executor="inline", clock=SimulatedClock()) as app:
        flow = Flow("f", app)
        FlowExecution("child", flow, declare(shape, "f0", app, work))
        vect = app.run(flow)
        vect.retry()
        assert vect.wait() == "success"
        return Log(list(app.log.read()), flow, 1)


def run_planned(shape: FlowPlan, minutes: int) -> Events:
    """Have a plan start a flow each hour; its steps take so long, and it may be skipped."""
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock) as app:
        flow = declare(shape, app=app, work=lambda step: clock.advance(minutes * 60))
        app.plan(flow, hours=1)
        clock.call_later(6 * 3600, app.stop)
        app.run()
        return list(app.log.read())


def numbered(events: Events) -> Events:
    return [replace(event, seq=seq) for seq, event in enumerate(events, start=1)]


def with_data(event: Event, **data: Any) -> Event:
    return replace(event, data=MappingProxyType({**event.data, **data}))


Mutation = Callable[[Events, int, random.Random], "Events | Event | None"]
"""Given good events, a place and chance: the damaged events, or the event to have there instead, or
None where nothing can be done at this place that could be noticed."""

MUTATIONS: dict[str, Mutation] = {}


def mutation(function: Mutation) -> Mutation:
    MUTATIONS[function.__name__] = function
    return function


def mutation_of(*names: str) -> Callable[[Mutation], Mutation]:
    """Mutate only events of these names."""

    def only(function: Mutation) -> Mutation:
        def limited(events: Events, at: int, chance: random.Random) -> Events | Event | None:
            return function(events, at, chance) if events[at].name in names else None

        MUTATIONS[function.__name__] = limited
        return limited

    return only


VECT_ENDS = ("vect.succeeded", "vect.failed", "vect.cancelled")
ALL_BUT_LATE = tuple(n for n in EVENT_NAMES if n not in ("step.late_result", "vect.recovered"))
"""A late answer more, or less, or of another step that is over, or later, is a history too; and a
recovery that found nothing running might as well have happened twice, or not at all."""
ALL_OF_VECTS = tuple(n for n in EVENT_NAMES if n not in PLAN_EVENTS)
"""A plan may be one of another flow in the next life."""


def is_last_of_all(events: Events, at: int) -> bool:
    return at == len(events) - 1


# Nobody may have been there; nor can a clock be trusted, by which something is late.
@mutation_of(*(n for n in ALL_BUT_LATE if n not in ("plan.skipped", *LATE)))
def drop(events: Events, at: int, chance: random.Random) -> Events | None:
    rest = events[:at] + events[at + 1 :]
    # A Vect in which nothing comes behind a step may be one that does not go on.
    is_left = events[at].step is not None and all(e.vect != events[at].vect for e in rest[at:])
    return None if is_last_of_all(events, at) or is_left else numbered(rest)


@mutation
def drop_and_leave_a_gap(events: Events, at: int, chance: random.Random) -> Events | None:
    return None if is_last_of_all(events, at) else events[:at] + events[at + 1 :]


@mutation
def behead(events: Events, at: int, chance: random.Random) -> Events | None:
    rest = events[at + 1 :]
    has_lost_its_creation = rest and rest[0].name != "vect.created"
    return numbered(rest) if has_lost_its_creation else None


@mutation_of(*ALL_BUT_LATE)
def duplicate(events: Events, at: int, chance: random.Random) -> Events:
    return numbered(events[: at + 1] + events[at:])


@mutation_of(*ALL_BUT_LATE)
def repeat_later(events: Events, at: int, chance: random.Random) -> Events:
    later = chance.randint(at + 1, len(events))
    return numbered([*events[:later], events[at], *events[later:]])


@mutation
def repeat_with_its_number(events: Events, at: int, chance: random.Random) -> Events:
    return events[: at + 1] + events[at:]


@mutation
def swap(events: Events, at: int, chance: random.Random) -> Events | None:
    if is_last_of_all(events, at) or commute(events, events[at], events[at + 1]):
        return None
    return swapped(events, at)


def swapped(events: Events, at: int) -> Events:
    return numbered([*events[:at], events[at + 1], events[at], *events[at + 2 :]])


def commute(events: Events, first: Event, second: Event) -> bool:
    """Whether two neighbours may stand the other way around, for all that two events can tell."""
    if first.vect != second.vect or {first.name, second.name} & {"vect.paused", "vect.resumed"}:
        return True
    if {first.name, second.name} & LATE and first.step != second.step:
        return True
    if first.step is None or second.step is None:
        return False
    if first.step == second.step:
        return first.name == second.name == "step.late_result"
    if (first.name, second.name) != ("step.succeeded", "step.started"):
        return second.data.get("upstream") != first.step
    created = next(e for e in events if (e.vect, e.name) == (first.vect, "vect.created"))
    return first.step not in created.data["graph"][second.step]


@mutation
def swap_and_keep_the_numbers(events: Events, at: int, chance: random.Random) -> Events | None:
    if is_last_of_all(events, at):
        return None
    return [*events[:at], events[at + 1], events[at], *events[at + 2 :]]


@mutation
def change_the_source(events: Events, at: int, chance: random.Random) -> Event:
    states = {row.source for row in STEP_TABLE} | {None, "upstream_failed", "asleep"}
    return replace(events[at], source=other(events[at].source, states, chance))


@mutation
def change_the_dest(events: Events, at: int, chance: random.Random) -> Event:
    states = {row.dest for row in STEP_TABLE} | {"pending", "asleep"}
    return replace(events[at], dest=other(events[at].dest, states, chance))


def other(value: Any, values: Any, chance: random.Random) -> Any:
    return chance.choice(sorted(set(values) - {value}, key=str))


@mutation
def change_the_name(events: Events, at: int, chance: random.Random) -> Event:
    names = {*EVENT_NAMES, "step.lost", "lost"}
    return replace(events[at], name=other(events[at].name, names, chance))


@mutation
def change_the_attempt(events: Events, at: int, chance: random.Random) -> Event:
    return replace(events[at], attempt=other(events[at].attempt, {None, -1, 0, 1, 2, 3}, chance))


@mutation_of(*ALL_BUT_LATE)
def change_the_step(events: Events, at: int, chance: random.Random) -> Event:
    steps = {event.step for event in events if event.vect == events[at].vect}
    return replace(events[at], step=other(events[at].step, {*steps, None, "lost"}, chance))


@mutation_of(*ALL_BUT_LATE)
def change_the_vect(events: Events, at: int, chance: random.Random) -> Event:
    """To one of another flow: of two Vects of one flow, another step may start just as well."""
    flow = events[at].flow
    vects = {*(event.vect for event in events if event.flow != flow), "lost"}
    return replace(events[at], vect=other(events[at].vect, vects, chance))


@mutation_of(*ALL_OF_VECTS)
def change_the_flow(events: Events, at: int, chance: random.Random) -> Event:
    return replace(events[at], flow=f"not {events[at].flow}")


@mutation
def change_the_seq(events: Events, at: int, chance: random.Random) -> Event:
    return replace(events[at], seq=other(events[at].seq, range(-1, len(events) + 3), chance))


@mutation
def forget_the_zone(events: Events, at: int, chance: random.Random) -> Event:
    return replace(events[at], time=events[at].time.replace(tzinfo=None))


@mutation
def move_to_another_zone(events: Events, at: int, chance: random.Random) -> Event:
    zone = timezone(timedelta(hours=chance.randint(1, 9)))
    return replace(events[at], time=events[at].time.astimezone(zone))


@mutation_of("step.blocked", "step.interrupted", *VECT_ENDS)
def change_the_time(events: Events, at: int, chance: random.Random) -> Event | None:
    """When the first event of a tick came is nobody's business; clocks may go back."""
    if is_loss(events[at]):
        return None  # it is the first one
    seconds = chance.choice([-3600, -1, 1e-6, 1, 3600])
    return replace(events[at], time=events[at].time + timedelta(seconds=seconds))


@mutation
def put_garbage_in_a_field(events: Events, at: int, chance: random.Random) -> Event:
    field = chance.choice(Event.__struct_fields__)
    return replace(events[at], **{field: chance.choice([1.5, b"bytes", ["list"], object()])})


_UNMISSED = {"options", "settings", "parent"}


@mutation
def forget_some_data(events: Events, at: int, chance: random.Random) -> Event | None:
    """But for options and settings: that a step has a timeout which it kept, nobody misses.

    Nor is it missed that somebody had a Vect run.
    """
    data = events[at].data
    needed = ("error", "upstream") if "error" in data else data.keys() - _UNMISSED
    keys = [key for key in data if key in needed]
    if not keys:
        return None
    lost = chance.choice(keys)
    rest = {key: value for key, value in data.items() if key != lost}
    return replace(events[at], data=MappingProxyType(rest))


@mutation
def add_some_data(events: Events, at: int, chance: random.Random) -> Event | None:
    """A failure may tell more of itself, but no output."""
    key = "output" if events[at].name == "step.failed" or "error" in events[at].data else "more"
    return with_data(events[at], **{key: 1})


@mutation
def give_data_another_type(events: Events, at: int, chance: random.Random) -> Event | None:
    keys = [
        key for key in events[at].data if key in ("params", "graph", "steps", "reason", "error")
    ]
    return with_data(events[at], **{chance.choice(keys): 17}) if keys else None


@mutation_of("vect.created")
def change_the_graph(events: Events, at: int, chance: random.Random) -> Event | None:
    if events[at].flow != "f":
        return None  # it is not known what the graph of another flow should be
    graph = {name: list(upstreams) for name, upstreams in events[at].data["graph"].items()}
    step = chance.choice(list(graph))
    kind = chance.choice(["drop a step", "add an edge", "drop an edge", "add a step"])
    if kind == "drop a step":
        del graph[step]
    elif kind == "add an edge":
        graph[step].append(other(None, set(graph) - set(graph[step]), chance))
    elif kind == "drop an edge" and graph[step]:
        graph[step].pop()
    else:
        graph["more"] = []
    return with_data(events[at], graph=MappingProxyType(graph))


@mutation_of("vect.created")
def change_the_options(events: Events, at: int, chance: random.Random) -> Event:
    if not events[at].data["graph"]:
        return None
    step = chance.choice(list(events[at].data["graph"]))
    wrong: list[Any] = [[], {"lost": {}}, {step: 1}]
    wrong += [{step: {"trigger_rule": "lost"}}, {step: {"lost": 1}}, {step: {"timeout": "long"}}]
    options = dict(events[at].data.get("options", {}))
    retried = {e.step for e in events if (e.vect, e.name) == (events[at].vect, "step.retried")}
    wrong += [options | {name: {"max_attempts": 1}} for name in sorted(retried)]
    return with_data(events[at], options=chance.choice(wrong))


@mutation_of("vect.created")
def put_all_into_one_pool(events: Events, at: int, chance: random.Random) -> Event | None:
    """What ran at once cannot have done so then."""
    graph, running, is_seen = events[at].data["graph"], 0, False
    for event in events:
        if event.vect == events[at].vect and event.step:
            running += (event.dest == "running") - (event.source == "running")
            is_seen |= running > 1
    pool = {name: {"pool": ["small", 1]} for name in graph}
    return with_data(events[at], options=pool) if is_seen else None


@mutation_of("step.failed")
def have_a_map_succeed(events: Events, at: int, chance: random.Random) -> Event | None:
    if events[at].step != "map":
        return None
    done = {"name": "step.succeeded", "dest": "success", "data": MappingProxyType({})}
    return replace(events[at], **done)


@mutation_of("step.reset")
def reset_another(events: Events, at: int, chance: random.Random) -> Event | None:
    """One that has succeeded, and waits for nobody."""
    created = next(e for e in events if e.name == "vect.created")
    reset = {event.step for event in events if event.name == "step.reset"}
    good = [name for name, before in created.data["graph"].items() if not before]
    free = [name for name in good if name not in reset]
    if not free or len(reset) < 2:
        return None
    return replace(events[at], step=chance.choice(free), source="success")


@mutation_of("vect.created")
def tell_another_parent(events: Events, at: int, chance: random.Random) -> Event | None:
    if "parent" not in events[at].data:
        return None
    vect, step, attempt = events[at].data["parent"]
    wrong = [["lost", step, attempt], [vect, "0", attempt], [vect, step, attempt + 1], [vect, step]]
    return with_data(events[at], parent=chance.choice(wrong))


@mutation_of("step.succeeded")
def succeed_before_its_child(events: Events, at: int, chance: random.Random) -> Events | None:
    started = next((i for i in range(at) if "child" in events[i].data), None)
    if events[at].step != "child" or started is None:
        return None
    to = chance.randint(started + 3, at - 1)
    return numbered([*events[:to], events[at], *events[to:at], *events[at + 1 :]])


@mutation_of(*PLAN_EVENTS)
def tell_another_time(events: Events, at: int, chance: random.Random) -> Event:
    return with_data(events[at], planned=f"2000-01-01T0{chance.randint(0, 9)}:30:00Z")


@mutation_of("step.blocked")
def blame_another(events: Events, at: int, chance: random.Random) -> Event:
    return with_data(events[at], upstream=chance.choice([events[at].step, "lost"]))


@mutation_of("step.blocked")
def tell_another_error(events: Events, at: int, chance: random.Random) -> Event:
    return with_data(events[at], error=events[at].data["error"] + "!")


@mutation_of("step.cancelled", "vect.cancelled")
def tell_another_reason(events: Events, at: int, chance: random.Random) -> Event:
    return with_data(events[at], reason="another")


@mutation_of("vect.failed")
def name_other_steps(events: Events, at: int, chance: random.Random) -> Event:
    steps = events[at].data["steps"]
    others = [[*steps, "lost"], steps[1:], []] if steps else [["lost"]]
    return with_data(events[at], steps=chance.choice(others))


@mutation_of("step.started")
def fail_by_exit_code_0(events: Events, at: int, chance: random.Random) -> Events | None:
    for i, event in enumerate(events):
        if event.name == "step.failed":
            return [*events[:i], with_data(event, exit_code=0), *events[i + 1 :]]
    return None


@mutation_of("step.succeeded", "step.failed", "step.blocked", "step.cancelled")
def start_again(events: Events, at: int, chance: random.Random) -> Events:
    new = replace(
        events[at],
        name="step.started",
        source=chance.choice(["pending", events[at].dest]),
        dest="running",
        attempt=(events[at].attempt or 0) + 1,
        data=MappingProxyType({}),
    )
    later = chance.randint(at + 1, len(events))
    return numbered([*events[:later], new, *events[later:]])


@mutation_of(*VECT_ENDS)
def end_too_early(events: Events, at: int, chance: random.Random) -> Events:
    places = [i for i in range(at) if events[i].vect == events[at].vect]
    earlier = chance.choice(places)
    rest = events[:at] + events[at + 1 :]
    return numbered([*rest[:earlier], events[at], *rest[earlier:]])


@mutation_of(*VECT_ENDS)
def end_otherwise(events: Events, at: int, chance: random.Random) -> Event:
    name = other(events[at].name, VECT_ENDS, chance)
    dest = {"vect.succeeded": "success", "vect.failed": "failed", "vect.cancelled": "cancelled"}
    told: dict[str, Any] = {"vect.failed": {"steps": []}, "vect.cancelled": {"reason": ""}}
    data = MappingProxyType(told.get(name, {}))
    return replace(events[at], name=name, dest=dest[name], data=data)


def apply(kind: str, events: Events, at: int, chance: random.Random) -> Events | None:
    new = MUTATIONS[kind](events, at, chance)
    return [*events[:at], new, *events[at + 1 :]] if isinstance(new, Event) else new


def damaged(kind: str, count: int) -> Iterator[tuple[Log, Events]]:
    """Yield histories that are damaged in one way, each at a random place of a random one."""
    chance = random.Random(kind)
    for _ in range(20_000):
        log = chance.choice(good_logs())
        events = apply(kind, log.events, chance.randrange(len(log.events)), chance)
        if events is not None:
            yield log, events
            count -= 1
        if not count:
            return
    raise AssertionError(f"{kind} can be done too rarely")


def found_in(log: Log, events: Events) -> list[InvariantError]:
    return list(violations(events, log.flow, max_workers=log.max_workers))


COUNT = 40


@cache
def found_by(kind: str) -> frozenset[str]:
    """Do damage of one kind, which must be caught, and return the invariants that did so."""
    names = set()
    for log, events in damaged(kind, COUNT):
        found = found_in(log, events)
        assert found, (kind, [new for new in events if new not in log.events], events)
        names |= {each.invariant for each in found}
    return frozenset(names)


def test_the_logs_that_are_damaged_are_good() -> None:
    for log in good_logs():
        assert_all_beginnings_pass(log.events, log.flow, max_workers=log.max_workers)
    names = {event.name for log in good_logs() for event in log.events}
    assert names == set(EVENT_NAMES)


@pytest.mark.parametrize("kind", MUTATIONS)
def test_damage_is_caught(kind: str) -> None:
    assert found_by(kind)


def swaps() -> Iterator[tuple[Log, Events]]:
    """Yield histories with two neighbours swapped, whether they commute or not."""
    for log in good_logs():
        for at in range(len(log.events) - 1):
            yield log, swapped(log.events, at)


def with_other_params() -> Iterator[tuple[Log, Events]]:
    """Yield histories with parameters that the flow has not; nothing else could tell."""
    for log in good_logs():
        at = next(i for i, event in enumerate(log.events) if event.name == "vect.created")
        changed = with_data(log.events[at], params=MappingProxyType({"day": 1}))
        events = [*log.events[:at], changed, *log.events[at + 1 :]]
        yield log._replace(flow=None), events
        if log.flow is not None and changed.flow == log.flow.name:
            yield log, events


def test_parameters_are_held_against_the_flow_if_there_is_one() -> None:
    for log, events in with_other_params():
        names = {found.invariant for found in found_in(log, events)}
        assert names == ({"params-are-of-the-flow"} if log.flow else set())


ELSEWHERE = {
    "backfills-keep-their-order",
    "children-come-first",
    "given-steps-have-their-output",
    "rates-hold",
}
"""Those of logs that are not among the good ones here; unit/audit has a witness of each."""


def test_every_invariant_is_violated_by_some_damage() -> None:
    others = [*swaps(), *with_other_params()]
    names = {found.invariant for log, events in others for found in found_in(log, events)}
    assert names.union(*map(found_by, MUTATIONS)) == set(INVARIANTS) - ELSEWHERE


@moderate
@given(cases(CALM), st.sampled_from(sorted(MUTATIONS)), st.integers(0), st.randoms())
def test_damage_of_any_history_is_caught(
    case: Case, kind: str, at: int, chance: random.Random
) -> None:
    events = list(Driver(case).play().log.read())
    new = apply(kind, events, at % len(events), chance)
    if new is not None:
        assert list(violations(new, max_workers=case.slots))
