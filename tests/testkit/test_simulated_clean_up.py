"""Flows that clean up, simulated: twice the same, and whenever the program dies."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oautom import ApprovalExecution, Flow, FlowError, MemoryEventLog, OAutom, PythonExecution
from oautom.events import replay
from oautom.testing import (
    SimulatedClock,
    assert_replays,
    check_history,
    durations,
    explore,
    flows,
    outcomes,
    simulate,
)

COMMITS = 8
CLEANED_UP = flows(
    min_steps=2, max_steps=4, retries=True, maps=True, limits=True, asyncs=True, clean_ups=True
)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), workers=st.none() | st.integers(1, 2))
def test_whenever_the_program_dies_all_is_cleaned_up(
    data: st.DataObject, workers: int | None
) -> None:
    flow = data.draw(CLEANED_UP)
    ends = data.draw(outcomes(flow, max_attempts=2))
    times = data.draw(durations(flow, max_attempts=2))
    events = simulate(flow, outcomes=ends, durations=times, max_workers=workers).events()
    assert simulate(flow, outcomes=ends, durations=times, max_workers=workers).events() == events

    for when, number in product(("before", "in", "after"), range(1, COMMITS)):
        vect = simulate(
            flow, outcomes=ends, durations=times, max_workers=workers, crash_at=(when, number)
        )
        check_history(vect.events(), flow, max_workers=workers)
        assert_replays(vect, flow, max_workers=workers)
        assert replay(vect.events())[vect.id].facts() == vect._run.state.facts()


def nothing() -> None:
    """Do what the steps of these flows do."""


def named_alike(*, is_undone: bool) -> Flow:
    flow = Flow("order", OAutom())
    PythonExecution("charge", flow, nothing, compensate=nothing if is_undone else None)
    PythonExecution("charge.compensate", flow, nothing)
    return flow


@pytest.mark.parametrize("work", [simulate, explore, outcomes, durations])
def test_a_step_that_is_named_as_what_undoes_another_one_is_refused(work: Any) -> None:
    with pytest.raises(FlowError) as caught:
        work(named_alike(is_undone=True))
    assert str(caught.value) == (
        "flow 'order' has a step 'charge.compensate', and that is the name under which "
        "oautom.testing has what undoes step 'charge'; name the step otherwise"
    )
    assert named_alike(is_undone=True).app.run("order").state == "success"


def test_a_step_may_be_named_so_where_nothing_is_undone() -> None:
    flow, ends = named_alike(is_undone=False), {"charge.compensate": [ValueError("no")]}
    assert simulate(flow, outcomes=ends).steps["charge.compensate"].state == "failed"
    assert [end.state for end in explore(flow, outcomes=ends).ends] == ["failed"]


def test_a_run_whose_program_died_before_its_start_may_take_no_longer_either() -> None:
    clock = SimulatedClock()

    def declared(log: MemoryEventLog) -> OAutom:
        app = OAutom(log=log, clock=clock, executor="inline")
        ApprovalExecution("gate", Flow("flow", app, run_timeout=60), "go on?")
        return app

    first = declared(MemoryEventLog())
    first.start("flow", vect_id="v")
    left = MemoryEventLog()
    for event in first.log.read():
        left.append(None, event)
    left.commit()
    assert [event.name for event in left.read()] == ["vect.created"]
    app = declared(left)
    app.recover()
    clock.call_later(100, app.stop)
    app.run()

    vect = app.vect("v")
    assert (vect.state, vect.steps["gate"].state) == ("failed", "cancelled")
    check_history(left.read())
    app.close()
    first.close()


def test_nothing_is_blocked_between_a_failure_that_ends_all_and_the_end() -> None:
    """Though the attempt that took too long ends in the same tick, and others wait for that."""
    flow = Flow("flow", OAutom(), on_failure="cancel")
    slow = PythonExecution("slow", flow, int, timeout=5)
    slow >> PythonExecution("next", flow, int, allow_failure=True)
    slow >> PythonExecution("tidy up", flow, int, teardown=True)

    vect = simulate(flow, durations={"slow": 9})
    assert {name: step.state for name, step in vect.steps.items()} == {
        "slow": "failed",
        "next": "cancelled",
        "tidy up": "success",
    }
    check_history(vect.events(), flow)
