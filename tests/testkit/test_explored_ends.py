"""The ends that `explore` finds are those that a flow can have: all of them, and no other.

Flows are drawn in which steps queue: for the slots of a pool, as instances of a map, or as async
steps. Who comes first in line then decides who fails or is skipped first, and so how what waits for
both of them ends.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from oautom import (
    ApprovalExecution,
    Flow,
    MapExecution,
    OAutom,
    Pool,
    PythonExecution,
    RetryPolicy,
    Skip,
    TriggerRule,
    WaitExecution,
)
from oautom.testing import Exploration, explore, flows, outcomes, simulate

SIMULATIONS = 16
WALKS = 120
STEP = 0.001
"""Seconds between two ends of a schedule; so that all are over before any timeout is."""
NEVER = 1e6

RULES = st.sampled_from([*[TriggerRule.ALL_SUCCESS] * 6, *TriggerRule])

Shape = dict[str, Any]
Found = set[tuple[str, frozenset[tuple[str, str]]]]

ENDS: dict[str, Any] = {"return": None, "fail": ValueError("no"), "skip": Skip("no")}


def nothing(*_: Any) -> Any:
    """Do nothing: the outcomes say how it ends."""


async def nothing_later(*_: Any) -> Any:
    """Do nothing, on a loop."""


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Draw sources, steps that queue when these have ended, and what waits for two of those."""
    queue = st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["pool", "pool", "async", "both", "plain"]),
            "after": st.lists(st.integers(0, 1), unique=True, max_size=1),
            "end": st.sampled_from(["fail", "skip", "return"]),
            "priority": st.sampled_from([0, 0, 0, 1]),
        }
    )
    pair = st.tuples(st.integers(0, 3), st.integers(0, 3), RULES)
    return {
        "sources": draw(st.lists(st.sampled_from(["step", "wait", "ask"]), min_size=2, max_size=2)),
        "queue": draw(st.lists(queue, min_size=2, max_size=3)),
        "items": draw(st.lists(st.sampled_from([*ENDS]), max_size=2)),
        "max_parallel": draw(st.none() | st.just(1)),
        "last": draw(st.lists(pair, min_size=2, max_size=2)),
    }


def declared(shape: Shape) -> tuple[Flow, dict[str, Any]]:
    """Declare a flow of a shape, and say how its steps end."""
    flow, pool = Flow("flow", OAutom(), max_async=1, timeout=60), Pool("one", 1)
    ends: dict[str, Any] = {}
    sources: list[Any] = []
    for number, kind in enumerate(shape["sources"]):
        name = f"source {number}"
        if kind == "wait":
            sources.append(WaitExecution(name, flow, seconds=STEP))
        elif kind == "ask":
            sources.append(ApprovalExecution(name, flow, "go on?", timeout=60))
        else:
            sources.append(PythonExecution(name, flow, nothing))
    queue: list[Any] = []
    for number, step in enumerate(shape["queue"]):
        name, kind = f"queue {number}", step["kind"]
        function = nothing_later if kind in ("async", "both") else nothing
        limit = pool if kind in ("pool", "both") else None
        made = PythonExecution(name, flow, function, pool=limit, priority=step["priority"])
        made.depends(*(sources[each % len(sources)] for each in step["after"]))
        ends[name] = ENDS[step["end"]]
        queue.append(made)
    if shape["items"]:
        listing = PythonExecution("list", flow, nothing)
        ends["list"] = [[0] * len(shape["items"])]
        each = MapExecution(
            "each", flow, nothing, listing, max_parallel=shape["max_parallel"], pool=pool
        )
        ends |= {f"each[{index}]": ENDS[end] for index, end in enumerate(shape["items"])}
        queue.append(each)
    for number, (one, other, rule) in enumerate(shape["last"]):
        pair = {queue[each % len(queue)].name: queue[each % len(queue)] for each in (one, other)}
        PythonExecution(f"last {number}", flow, nothing, trigger_rule=rule).depends(*pair.values())
    return flow, ends


def found_by(explored: Exploration) -> Found:
    return {(end.state, frozenset(end.steps.items())) for end in explored.ends}


def simulated(flow: Flow, ends: Any, durations: Any, seed: int = 0) -> Found:
    vect = simulate(flow, outcomes=ends, durations=durations, seed=seed)
    return {(vect.state, frozenset((name, step.state) for name, step in vect.steps.items()))}


def names_of(explored: Exploration) -> list[str]:
    return sorted({name for end in explored.ends for name in end.steps})


def drawn_ends(flow: Flow, ends: Any, names: list[str], chance: random.Random) -> Found:
    """Return how many simulations of a flow end, whose steps take as long as chance has it."""
    found: Found = set()
    for seed in range(SIMULATIONS):
        # Times that differ widely: so any step may outlast all others.
        durations = {name: chance.choice([0, 1, 2]) + 3 ** chance.randint(0, 3) for name in names}
        for step in flow.steps.values():
            if isinstance(step, WaitExecution):
                step.seconds = float(durations[step.name])
        found |= simulated(flow, ends, durations, seed)
    return found


def durations_of(flow: Flow, ends: Any, schedule: tuple[str, ...]) -> dict[str, list[float]]:
    """Return how long steps must take to end in the order of a schedule, one after the other."""
    times = {name: [NEVER] for name in schedule}
    for number, name in enumerate(schedule, 1):
        events = simulate(flow, outcomes=ends, durations=times).events()
        begun = next(e.time for e in events if (e.step, e.name) == (name, "step.started"))
        times = times | {name: [number * STEP - (begun - events[0].time).total_seconds()]}
    return times


def race(kind: str) -> Shape:
    """Return a flow in which three steps queue for one slot, and what shows who was before whom.

    Who waits for the slot that `queue 0` has is in the order in which the sources ended. That the
    first of them ended before `queue 0` shows in `last 1`, so these orders have ends of their own.
    """
    queued = {"kind": kind, "priority": 0}
    return {
        "sources": ["step", "step"],
        "queue": [
            {**queued, "after": [], "end": "fail"},
            {**queued, "after": [0], "end": "fail"},
            {**queued, "after": [1], "end": "skip"},
            {**queued, "after": [0], "end": "skip", "kind": "plain"},
        ],
        "items": [],
        "max_parallel": None,
        "last": [(1, 2, TriggerRule.ALL_SUCCESS), (0, 3, TriggerRule.ALL_SUCCESS)],
    }


def hold_against_simulations(flow: Flow, ends: Any, found: Exploration, seed: int) -> None:
    assert drawn_ends(flow, ends, names_of(found), random.Random(seed)) <= found_by(found)


@pytest.mark.parametrize("kind", ["pool", "async", "both"])
def test_who_is_first_in_line_is_told_apart(kind: str) -> None:
    flow, ends = declared(race(kind))
    found = explore(flow, outcomes=ends)

    assert found.is_complete
    hold_against_simulations(flow, ends, found, seed=0)


@settings(deadline=None, max_examples=6)
@given(shape=shapes(), seed=st.integers(0, 99))
def test_all_ends_are_found_that_many_simulations_reach(shape: Shape, seed: int) -> None:
    flow, ends = declared(shape)
    found = explore(flow, outcomes=ends, max_schedules=WALKS)
    assume(found.is_complete)

    hold_against_simulations(flow, ends, found, seed)


@settings(deadline=None, max_examples=5)
@example(shape=race("pool"))
@given(shape=shapes())
def test_each_end_that_is_found_is_reached_by_its_schedule(shape: Shape) -> None:
    # How long a step waits is one number, and by a schedule it may be another each time.
    shape = {**shape, "sources": ["ask" if each == "wait" else each for each in shape["sources"]]}
    flow, ends = declared(shape)
    found = explore(flow, outcomes=ends, max_schedules=WALKS)
    assume(found.is_complete)

    for end in found.ends:
        reached = simulated(flow, ends, durations_of(flow, ends, end.schedule))
        assert reached == {(end.state, frozenset(end.steps.items()))}, end.schedule


CLEANED_UP = flows(min_steps=2, max_steps=5, trigger_rules=True, limits=True, clean_ups=True)


@settings(deadline=None, max_examples=15)
@given(data=st.data(), seed=st.integers(0, 99))
def test_all_ends_are_found_of_flows_that_clean_up(data: st.DataObject, seed: int) -> None:
    flow = data.draw(CLEANED_UP)
    flow.run_timeout = None  # no time passes where all orders are tried
    errors = st.sampled_from([ValueError("no"), Skip("no")])
    ends = data.draw(outcomes(flow, errors=errors))
    found = explore(flow, outcomes=ends, max_schedules=WALKS)
    assume(found.is_complete)

    undone = [f"{name}.compensate" for name, step in flow.steps.items() if step.compensation]
    drawn = drawn_ends(flow, ends, [*names_of(found), *undone], random.Random(seed))
    assert drawn <= found_by(found)


def clean_up(on_failure: Any, *, tries: int) -> Flow:
    """Declare a flow whose steps `a` and `b` race, and what they have done is undone."""
    flow = Flow("flow", OAutom(), on_failure=on_failure)
    retry = RetryPolicy(max_attempts=tries, delay=1)
    a, b = (PythonExecution(name, flow, nothing, compensate=nothing, retry=retry) for name in "ab")
    PythonExecution("c", flow, nothing, teardown=True).depends(a)
    PythonExecution("d", flow, nothing).depends(b)
    return flow


def test_what_is_undone_is_tried_again_in_each_order_and_ends_alike() -> None:
    ends = {"d": ValueError("no"), "a.compensate": [OSError("no"), None]}
    found = explore(clean_up("finish", tries=2), outcomes=ends)

    assert found.is_complete
    (end,) = found.ends
    undone = [step for step in end.schedule if step.endswith(".compensate")]
    # That of the last end first; that of `a` fails, waits, and is done again.
    assert sorted(undone) == ["a.compensate"] * 3 + ["b.compensate"]


def test_who_has_ended_before_the_failure_that_ends_all_depends_on_the_order() -> None:
    found = explore(clean_up("cancel", tries=1), outcomes={"b": ValueError("no")})

    states = {tuple(end.steps[name] for name in "abcd") for end in found.ends}
    assert states == {
        ("cancelled", "failed", "success", "cancelled"),  # `a` was at work
        ("success", "failed", "success", "cancelled"),
    }
