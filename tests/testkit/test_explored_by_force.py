"""`explore` held against a count of all orders by force, and what it shows of a race."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oautom import Context, CycleError, Execution, Flow, OAutom, PythonExecution, Skip
from oautom.machine import decide
from oautom.testing import End, explore, flows, outcomes, simulate

from .test_orders_and_replays import any_order
from .test_simulated_runs import flow_of

moderate = settings(deadline=None, max_examples=40)


def count_by_force(graph: Any, fails: set[str]) -> tuple[int, int]:
    """Return how many orders there are, and over how many states they lead."""
    seen: set[frozenset[str]] = set()

    def orders_after(ended: frozenset[str]) -> int:
        seen.add(ended)
        running = [
            name
            for name, upstreams in graph.items()
            if name not in ended and all(up in ended and up not in fails for up in upstreams)
        ]
        return sum(orders_after(ended | {name}) for name in running) if running else 1

    return orders_after(frozenset()), len(seen)


@moderate
@given(flow=flows(max_steps=5), data=st.data())
def test_as_many_orders_and_states_are_found_as_there_are(flow: Flow, data: st.DataObject) -> None:
    ends = data.draw(outcomes(flow))
    fails = {name for name, end in ends.items() if isinstance(end, Exception)}
    found = explore(flow, outcomes=ends)

    assert (found.schedules, found.states) == count_by_force(flow.graph.upstreams, fails)
    assert found.is_complete


def test_a_failure_and_a_skip_before_one_step_are_a_race() -> None:
    flow = flow_of("", "ab")
    PythonExecution("c", flow, str).depends(flow.steps["a"], flow.steps["b"])
    found = explore(flow, outcomes={"a": RuntimeError("no"), "b": Skip("no")})

    assert {end.steps["c"] for end in found.ends} == {"upstream_failed", "skipped"}
    assert found.depends_on_order


@pytest.mark.parametrize("steps", range(6))
def test_independent_steps_end_in_each_of_their_orders(steps: int) -> None:
    found = explore(flow_of("", "abcdef"[:steps]))

    assert (found.schedules, found.states) == (math.factorial(steps), 2**steps)


@moderate
@given(flow=flows(max_steps=5), data=st.data())
def test_the_one_end_is_that_of_a_simulation(flow: Flow, data: st.DataObject) -> None:
    ends = data.draw(outcomes(flow))
    vect = simulate(flow, outcomes=ends, seed=data.draw(st.integers(0, 9)))

    (end,) = explore(flow, outcomes=ends).ends
    assert end.state == vect.state
    assert end.steps == {name: step.state for name, step in vect.steps.items()}
    assert set(end.schedule) == {name for name, step in vect.steps.items() if step.attempt}


def test_a_race_is_printed_so_that_it_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "all_success", any_order)
    found = explore(flow_of("ac bc", "abc"), outcomes={"a": ValueError()})

    blocked = {"a": "failed", "b": "success", "c": "upstream_failed"}
    run = {"a": "failed", "b": "success", "c": "success"}
    assert found.ends == [
        End("failed", blocked, ("a", "b")),
        End("failed", run, ("b", "a", "c")),
    ]
    assert str(found) == (
        "all schedules: 3, over 7 states, to 2 different ends\n"
        "  a -> b: failed (a failed, b success, c upstream_failed)\n"
        "  b -> a -> c: failed (a failed, b success, c success)"
    )


def test_a_race_far_down_is_found_in_a_sample_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "all_success", any_order)
    flow = flow_of("ab cd be de", "abcdefgh")

    found = explore(flow, outcomes={"b": ValueError()}, max_schedules=100)

    assert not found.is_complete
    assert found.depends_on_order
    lengths = [len(end.schedule) for end in found.ends]
    assert lengths == sorted(lengths)
    assert str(found).startswith("a sample of the schedules: 100, over ")
    other = explore(flow, outcomes={"b": ValueError()}, max_schedules=100, seed=1)
    assert {str(end.steps) for end in other.ends} == {str(end.steps) for end in found.ends}


def test_neither_the_flow_nor_its_app_notices() -> None:
    flow = flow_of("ab", "ab")
    explore(flow)

    assert flow.app.vects() == []
    PythonExecution("later", flow, print)  # it is not frozen


def test_a_flow_with_a_cycle_is_refused() -> None:
    with pytest.raises(CycleError, match="flow 'flow' has a cycle"):
        explore(flow_of("ab ba", "ab"))


class Job(Execution):
    def run(self, context: Context) -> None:
        raise AssertionError("an exploration does no work")

    def check(self, context: Context) -> bool:
        raise AssertionError("an exploration does no work")


def test_polled_steps_end_in_every_order_too() -> None:
    flow = Flow("flow", OAutom())
    first, second = Job("first", flow), Job("second", flow)
    [first, second] >> PythonExecution("last", flow, print)

    found = explore(flow)

    assert (found.schedules, [end.state for end in found.ends]) == (2, ["success"])
