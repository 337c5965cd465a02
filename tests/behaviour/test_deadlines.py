"""Deadlines: one event says that a step, or a Vect, should have ended by now, and nothing ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    BashExecution,
    BranchExecution,
    Event,
    Flow,
    FlowError,
    FlowExecution,
    MapExecution,
    OAutom,
    PythonExecution,
    RetryPolicy,
    Skip,
    Vect,
    WaitExecution,
)
from oautom.testing import (
    ReplayDiffersError,
    SimulatedClock,
    assert_replays,
    check_history,
    explore,
    simulate,
)
from oautom.testing.clock import START

from .conftest import nothing

LATE = ("step.late", "vect.late")
AGAIN = RetryPolicy(max_attempts=2, delay=3, jitter=0)


def flow_of(**settings: Any) -> Flow:
    return Flow("flow", OAutom(executor="inline", clock=SimulatedClock()), **settings)


def late(vect: Vect) -> list[tuple[float, str, str | None]]:
    """What was late, in order: how many seconds after the creation, and which step."""
    events = vect.events()
    first = events[0].time
    return [((e.time - first).total_seconds(), e.name, e.step) for e in events if e.name in LATE]


@pytest.mark.parametrize(
    ("seconds", "outcome", "state", "told"),
    [
        pytest.param(4, None, "success", [], id="it ends in time"),
        pytest.param(9, None, "success", [5.0], id="it succeeds"),
        pytest.param(9, ValueError("no"), "failed", [5.0], id="it fails"),
        pytest.param(9, Skip("not today"), "skipped", [5.0], id="it is skipped"),
        pytest.param(99, None, "failed", [5.0], id="its timeout ends it"),
    ],
)
def test_a_late_step_is_told_once_and_ends_as_it_would(seconds, outcome, state, told) -> None:
    flow = flow_of(timeout=20)
    PythonExecution("a", flow, nothing, deadline=5)
    vect = simulate(flow, durations={"a": seconds}, outcomes={"a": outcome})

    assert late(vect) == [(each, "step.late", "a") for each in told]
    assert vect.steps["a"].state == state
    check_history(vect.events(), flow)
    assert_replays(vect, flow)


def test_the_clock_of_a_step_begins_with_its_first_start() -> None:
    """Neither its upstreams nor those who wait for a worker before it make it late."""
    flow = flow_of()
    PythonExecution("a", flow, nothing) >> PythonExecution("b", flow, nothing, deadline=5)
    vect = simulate(flow, durations={"a": 60, "b": 7})

    assert late(vect) == [(65.0, "step.late", "b")]


@pytest.mark.parametrize(
    ("deadline", "place"),
    [(2, "running"), (5, "up_for_retry"), (9, "running"), (14, None)],
)
def test_all_attempts_and_delays_of_a_step_count(deadline: float, place: str | None) -> None:
    flow = flow_of()
    PythonExecution("a", flow, nothing, retry=AGAIN, deadline=deadline)
    vect = simulate(flow, durations={"a": [3, 7]}, outcomes={"a": [ValueError("no"), None]})

    told = [e for e in vect.events() if e.name == "step.late"]
    assert [(e.source, e.dest) for e in told] == ([] if place is None else [(place, place)])
    assert [e.attempt for e in told] == ([{2: 1, 5: None, 9: 2}[deadline]] if told else [])
    assert late(vect) == ([(deadline, "step.late", "a")] if told else [])


def test_a_step_that_waits_for_its_next_attempt_is_late_too() -> None:
    flow = flow_of()
    pool_is_full = WaitExecution("first", flow, seconds=1)
    PythonExecution("a", flow, nothing, retry=AGAIN, deadline=6)
    PythonExecution("b", flow, nothing).depends(pool_is_full)
    times, ends = {"a": [2, 1], "b": 9}, {"a": [ValueError("no"), None]}
    vect = simulate(flow, durations=times, outcomes=ends, max_workers=1)

    (told,) = [e for e in vect.events() if e.name == "step.late"]
    assert (told.source, told.attempt, told.data["deadline"]) == ("pending", None, 6)
    check_history(vect.events(), flow, max_workers=1)


def declare_wait(flow: Flow) -> None:
    WaitExecution("a", flow, seconds=60, deadline=5)


def declare_approval(flow: Flow) -> None:
    ApprovalExecution("a", flow, "go on?", deadline=5)


def declare_map(flow: Flow) -> None:
    MapExecution("a", flow, str, over=flow.param("items"), deadline=5)


def declare_branch(flow: Flow) -> None:
    BranchExecution("a", flow, nothing, deadline=5)


def declare_child(flow: Flow) -> None:
    FlowExecution("a", flow, "inner", deadline=5)


@pytest.mark.parametrize(
    "declare", [declare_wait, declare_approval, declare_map, declare_branch, declare_child]
)
def test_a_step_of_any_kind_can_be_late(declare: Callable[[Flow], None]) -> None:
    """A map is late as a whole, and not each of its items."""
    flow = flow_of(params={"items": list[int]})
    PythonExecution("work", Flow("inner", flow.app), nothing)  # type: ignore[arg-type]
    declare(flow)
    vect = simulate(flow, {"items": [1, 2]}, durations={"a": 60}, outcomes={"a": None})

    assert late(vect) == [(5.0, "step.late", "a")]
    assert vect.state == "success"
    check_history(vect.events(), flow)
    assert_replays(vect, flow)


def test_a_vect_is_late_from_its_own_start() -> None:
    flow = flow_of(deadline=60)
    PythonExecution("a", flow, nothing) >> PythonExecution("b", flow, nothing)

    assert late(simulate(flow, durations={"a": 40, "b": 30})) == [(60.0, "vect.late", None)]
    assert late(simulate(flow, durations={"a": 40, "b": 19})) == []


def test_a_vect_that_is_paused_is_late_too_and_a_retry_counts_anew() -> None:
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock) as app:
        flow = Flow("flow", app, deadline=10)
        ApprovalExecution("gate", flow, "go on?", deadline=4)
        vect = app.start(flow)
        wait(vect, 2)
        vect.pause()
        wait(vect, 3)
        assert late(vect) == [(4.0, "step.late", "gate")]
        vect.reject("gate", by="ada")  # it ends in time
        assert (vect.wait(), late(vect)[1:]) == ("failed", [])
        clock.advance(1000)
        vect.retry()
        wait(vect, 9)
        assert late(vect)[1:] == []  # the gate was late once
        vect.pause()
        wait(vect, 60)
        assert late(vect)[1:] == [(1015.0, "vect.late", None)]
        assert [e.dest for e in vect.events() if e.name == "vect.late"] == ["paused"]
        vect.reject("gate", by="ada")
        vect.wait()
        vect.retry()
        wait(vect, 60)
        assert len(late(vect)) == 2
        vect.cancel()
        check_history(app.log.read(), flow)
        assert_replays(app.log, flow)


def wait(vect: Vect, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        vect.wait(timeout=seconds)


def declare_all() -> Flow:
    flow = flow_of(deadline=12)
    work = PythonExecution("a", flow, nothing, retry=AGAIN, deadline=4)
    work >> WaitExecution("b", flow, seconds=9, deadline=3)
    return flow


ENDS: Any = {"a": [ValueError("no"), None]}
TIMES = {"a": [2, 2, 2, 2]}
TOLD = [(4.0, "step.late", "a"), (10.0, "step.late", "b"), (12.0, "vect.late", None)]


def test_what_is_late_is_told_in_its_time() -> None:
    assert late(simulate(declare_all(), durations=TIMES, outcomes=ENDS)) == TOLD


def test_a_deadline_that_passes_while_nothing_runs_is_told_at_the_recovery(tmp_path: Path) -> None:
    path, clock = tmp_path / "runs.db", SimulatedClock()

    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app, deadline=100)
        ApprovalExecution("gate", flow, "go on?", deadline=10)
        return flow

    with OAutom(executor="inline", clock=clock, log=path) as app:
        wait(app.start(declare(app), vect_id="v"), 1)
    later = SimulatedClock(START + timedelta(seconds=50))
    with OAutom(executor="inline", clock=later, log=path) as app:
        declare(app)
        (vect,) = app.recover()
        wait(vect, 1)
        assert late(vect) == [(50.0, "step.late", "gate")]
        assert "it is late, its deadline was 00:00:10" in vect.explain("gate")
        wait(vect, 60)
        assert late(vect)[1:] == [(100.0, "vect.late", None)]
    with OAutom(
        executor="inline", clock=SimulatedClock(START + timedelta(days=1)), log=path
    ) as app:
        declare(app)
        (vect,) = app.recover()
        wait(vect, 1)
        assert len(late(vect)) == 2
        vect.approve("gate", by="ada")
        assert vect.wait() == "success"


def test_the_wall_clock_rules_and_a_clock_that_is_set_back_makes_no_deadline_longer() -> None:
    class Slept(SimulatedClock):
        """A clock whose wall time jumps, as after a sleep of the machine."""

        jump = timedelta()

        def now(self):
            return super().now() + self.jump

    for jump, told in ((timedelta(hours=3), 60.0), (-timedelta(hours=3), 600.0)):
        clock = Slept()
        with OAutom(executor="inline", clock=clock) as app:
            flow = Flow("flow", app, deadline=600)
            ApprovalExecution("gate", flow, "go on?")
            vect = app.start(flow)
            wait(vect, 30)
            clock.jump = jump
            wait(vect, 1000)
            (event,) = [e for e in vect.events() if e.name == "vect.late"]
            passed = (event.time - jump - vect.events()[0].time).total_seconds()
            assert passed <= told + 1


def test_a_deadline_is_told_by_a_signal_and_a_line_of_the_log(
    connect: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event] = []
    for name in LATE:
        connect(lambda flow, event, **_: heard.append(event), name)
    with OAutom() as app:
        flow = Flow("nightly", app, deadline=0.6)  # later than the step's, however slow its start
        BashExecution("load", flow, "sleep 0.8", deadline=0.01)
        with caplog.at_level(logging.WARNING, logger="oautom.deadlines"):
            vect = app.run(flow, vect_id="today")

    assert vect.state == "success"
    assert [(event.name, event.step) for event in heard] == [
        ("step.late", "load"),
        ("vect.late", None),
    ]
    lines = [record.getMessage() for record in caplog.records if record.name == "oautom.deadlines"]
    assert lines == [
        f"vect 'today'{who} of flow 'nightly' is late: {seconds} seconds after its start it has "
        "not ended"
        for who, seconds in ((", step 'load'", 0.01), ("", 0.6))
    ]


def test_a_simulation_warns_nobody(caplog: pytest.LogCaptureFixture) -> None:
    assert late(simulate(declare_all(), durations=TIMES, outcomes=ENDS)) == TOLD
    assert not [each for each in caplog.records if each.name == "oautom.deadlines"]


def test_a_cancel_leaves_nothing_to_be_told() -> None:
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock) as app:
        flow = Flow("flow", app, deadline=10, max_active_vects=2)
        ApprovalExecution("gate", flow, "go on?", deadline=10)
        vect, other = app.start(flow), app.start(flow)
        wait(vect, 1)
        vect.cancel()
        wait(other, 60)

        assert late(vect) == []
        assert len(late(other)) == 2


def test_a_flow_without_deadlines_tells_nothing_of_them() -> None:
    flow = flow_of(deadline=inf)
    PythonExecution("a", flow, nothing, deadline=None)
    (created, *_) = simulate(flow).events()

    assert created.data.keys() == {"params", "graph"}


def test_the_class_of_a_step_may_have_the_deadline() -> None:
    class Slow(PythonExecution):
        deadline = 5.0

    flow = flow_of()
    Slow("a", flow, nothing)
    Slow("b", flow, nothing, deadline=7)
    vect = simulate(flow, durations={"a": 9, "b": 9})

    assert late(vect) == [(5.0, "step.late", "a"), (7.0, "step.late", "b")]


@pytest.mark.parametrize("wrong", [0, -1, "soon", True, float("nan"), [5]])
def test_a_deadline_is_a_number_of_seconds(wrong: Any) -> None:
    flow = flow_of()
    with pytest.raises(FlowError, match="step 'a' of flow 'flow': deadline must be seconds, more"):
        PythonExecution("a", flow, nothing, deadline=wrong)
    with pytest.raises(FlowError, match="flow 'other': deadline must be seconds, more than 0, or"):
        Flow("other", flow.app, deadline=wrong)
    with pytest.raises(FlowError, match=r"deadline .* None is for no limit"):
        PythonExecution("b", flow, nothing, deadline=1e12)


def test_an_exploration_passes_no_deadline() -> None:
    """No time passes in it, so the ends are those of the flow without."""
    flow = declare_all()
    found = explore(flow, outcomes=ENDS)
    flow.deadline = flow.steps["a"].deadline = flow.steps["b"].deadline = None

    assert found == explore(flow, outcomes=ENDS)


def test_another_deadline_today_is_another_decision() -> None:
    flow = declare_all()
    vect = simulate(flow, durations=TIMES, outcomes=ENDS)
    flow.deadline = 13
    with pytest.raises(
        ReplayDiffersError, match=r"then: deadline of the flow is 12; now: .* is 13"
    ):
        assert_replays(vect, flow)
    flow.deadline = None
    with pytest.raises(ReplayDiffersError, match=r"then: vect\.late; now: nothing"):
        assert_replays(vect, flow)
