"""`assert_replays`: which past runs a change would change, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from oautom import (
    CycleError,
    Execution,
    Flow,
    MemoryEventLog,
    OAutom,
    PythonExecution,
    SettingError,
)
from oautom.machine import decide
from oautom.testing import (
    ReplayDiffersError,
    SimulatedClock,
    assert_replays,
    durations,
    flows,
    histories,
    outcomes,
    simulate,
)

from .test_simulated_runs import flow_of, never

moderate = settings(deadline=None, max_examples=60)

ASKED = ("step.succeeded", "step.failed", "step.late_result", "vect.created")


def changed(flow: Flow, edges: set[tuple[str, str]], names: dict[str, str]) -> Flow:
    """Declare a flow anew: with other edges, and of the steps only those that have a name now."""
    again = Flow(flow.name, OAutom())
    for name in filter(names.get, flow.steps):
        PythonExecution(names[name], again, never)
    for upstream, step in edges:
        if upstream in names and step in names:
            again.steps[names[step]].depends(again.steps[names[upstream]])
    return again


def edges_of(flow: Flow) -> set[tuple[str, str]]:
    return {(up, name) for name, ups in flow.graph.upstreams.items() for up in ups}


def same_names(flow: Flow) -> dict[str, str]:
    return {name: name for name in flow.steps}


def difference(log: Any, flow: Flow) -> ReplayDiffersError | None:
    try:
        assert_replays(log, flow)
    except ReplayDiffersError as error:
        return error
    return None


# Of an unchanged flow, all logs replay


@moderate
@given(flow=flows(), data=st.data())
def test_what_was_simulated_replays(flow: Flow, data: st.DataObject) -> None:
    vect = simulate(
        flow,
        durations=data.draw(durations(flow)),
        outcomes=data.draw(outcomes(flow)),
        seed=data.draw(st.integers(0, 99)),
        max_workers=data.draw(st.none() | st.integers(1, 3)),
    )

    assert_replays(vect.events(), flow)
    assert_replays(vect.events(), changed(flow, edges_of(flow), same_names(flow)))


@moderate
@given(histories(flows(min_steps=1), max_vects=3))
def test_a_log_that_ends_between_two_ticks_replays(history: Any) -> None:
    for length in range(1, len(history)):
        if history[length].name in ASKED:  # nothing was decided between this and the one before
            assert_replays(history[:length], history.flow)


class Job(Execution):
    poll_interval = 3.0

    def run(self, context: Any) -> None:
        never()

    def check(self, context: Any) -> bool:
        never()
        return True


def make_either(name: str, flow: Flow) -> Execution:
    return Job(name, flow) if name in "bd" else PythonExecution(name, flow, never)


@moderate
@given(histories(flows(min_steps=1, steps=st.just(make_either))))
def test_logs_with_polled_steps_replay(history: Any) -> None:
    assert_replays(history, history.flow)


def test_of_a_log_with_several_flows_only_the_one_asked_for_is_replayed() -> None:
    with OAutom(executor="inline", clock=SimulatedClock()) as app:
        one, other = Flow("one", app), Flow("other", app)
        PythonExecution("a", one, int) >> PythonExecution("b", one, int)
        PythonExecution("a", other, int, ["x"]) >> PythonExecution("b", other, int)
        vects = [app.start(one), app.start(other)]
        assert [vect.wait() for vect in vects] == ["success", "failed"]

        assert_replays(app.log, one)
        assert_replays(app.log, other)
        log = list(app.log.read())
    swapped = Flow("one", OAutom())
    PythonExecution("b", swapped, int) >> PythonExecution("a", swapped, int)
    assert difference(log, swapped) is not None


def test_neither_the_log_nor_the_flow_is_changed() -> None:
    flow = flow_of("ab", "ab")
    log = MemoryEventLog()
    for event in simulate(flow).events():
        log.append(None, event)
    log.commit()
    before = list(log.read())

    assert_replays(log, flow)
    assert list(log.read()) == before
    PythonExecution("later", flow, never)  # it is not frozen


# Of a changed one, those do not that it would change


FAILS = {"a": ValueError("no")}


def started(step: str) -> str:
    return f"step.started of '{step}', attempt 1"


CHANGES: dict[str, tuple[str, str, dict[str, Any], tuple[int, str, str] | None]] = {
    "an edge that says nothing new": ("ab bc ac", "abc", FAILS, None),
    "an edge turned round": ("ba bc ac", "abc", {}, (3, started("a"), started("b"))),
    "an edge less": ("ac", "abc", FAILS, (5, "step.blocked of 'b'", "step.blocked of 'c'")),
    "a step less": ("ab", "ab", {}, (7, started("c"), "vect.succeeded")),
    "a step more": ("ab bc", "abcd", {}, (5, started("b"), started("d"))),
    "a step more at the end": ("ab bc cd", "abcd", {}, (9, "vect.succeeded", "nothing")),
    "another name": ("ax xc", "axc", {}, (5, started("b"), started("x"))),
    "no step": ("", "", {}, (3, started("a"), "vect.succeeded")),
}


@pytest.mark.parametrize(("edges", "steps", "ends", "told"), CHANGES.values(), ids=CHANGES)
def test_the_first_decision_that_would_be_another_is_told(
    edges: str, steps: str, ends: dict[str, Any], told: tuple[int, str, str] | None
) -> None:
    log = simulate(flow_of("ab bc", "abc"), outcomes=ends).events()

    error = difference(log, flow_of(edges, steps))
    assert (error and (error.seq, error.then, error.now)) == told


def test_a_step_that_could_start_before_is_told_where_a_worker_was_free_for_sure() -> None:
    log = simulate(flow_of("ac bc cd", "abcd"), durations={"a": 1, "b": 2}).events()

    error = difference(log, flow_of("ac cd", "abcd"))  # two were at work at once, so there were two
    assert error is not None
    assert (error.then, error.now) == ("step.succeeded of 'b', attempt 1", started("c"))

    log = simulate(flow_of("ab", "ab")).events()
    assert difference(log, flow_of("", "ab")) is None  # there may have been one worker only
    with pytest.raises(ReplayDiffersError):
        assert_replays(log, flow_of("", "ab"), max_workers=2)


def test_the_message_says_where_and_what() -> None:
    log = simulate(flow_of("ab", "ab"), outcomes={"a": OSError()}).events()

    with pytest.raises(AssertionError) as caught:
        assert_replays(log, flow_of("", "ab"))
    error = caught.value
    assert isinstance(error, ReplayDiffersError)
    assert str(error) == (
        "vect simulated-0 of flow 'flow' differs from its log at event 5: "
        "then: step.blocked of 'b'; now: nothing"
    )
    assert (error.flow, error.vect, error.seq) == ("flow", "simulated-0", 5)


@moderate
@given(history=histories(flows(min_steps=1)), data=st.data())
def test_a_step_that_has_another_name_or_none_is_missed(history: Any, data: st.DataObject) -> None:
    flow = history.flow
    gone = data.draw(st.sampled_from(sorted(flow.steps)))
    names = {name: name for name in flow.steps if name != gone}
    if data.draw(st.booleans(), "renamed"):
        names[gone] = "new"
    its_events = [event for event in history if event.step == gone]
    assume(its_events)

    error = difference(history, changed(flow, edges_of(flow), names))
    assert error is not None
    assert error.seq <= its_events[0].seq or error.vect != its_events[0].vect


@moderate
@given(flow=flows(min_steps=2), data=st.data())
def test_an_edge_more_is_told_where_it_would_have_held_a_step_up(
    flow: Flow, data: st.DataObject
) -> None:
    pairs = [(a, b) for i, b in enumerate(flow.steps) for a in list(flow.steps)[:i]]
    edge = data.draw(st.sampled_from(pairs))
    vect = simulate(flow, durations=data.draw(durations(flow)), outcomes=data.draw(outcomes(flow)))

    again = changed(flow, edges_of(flow) | {edge}, same_names(flow))
    error = difference(vect.events(), again)

    upstream, step = (vect.steps[name] for name in edge)
    seqs = {(event.step, event.name): event.seq for event in vect.events()}
    ended = [seqs.get((upstream.name, f"step.{end}"), 0) for end in ("succeeded", "failed")]
    if step.attempt and seqs[step.name, "step.started"] < max(ended):
        assert error is not None
        assert error.seq <= seqs[step.name, "step.started"]


def test_changed_code_is_told_as_a_changed_flow_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def patient(upstreams: int, tally: dict[str, int]) -> str | None:
        """A rule that waits for all, also when one has failed."""
        if sum(tally.values()) < upstreams:
            return None
        return "start" if tally.get("success", 0) == upstreams else "block"

    flow = flow_of("ac bc", "abc")
    fine = simulate(flow, durations={"a": 1, "b": 2}).events()
    failed = simulate(flow, durations={"a": 1, "b": 2}, outcomes={"a": OSError("no")}).events()
    monkeypatch.setattr(decide, "all_success", patient)

    assert_replays(fine, flow)
    error = difference(failed, flow)
    assert error is not None
    assert (error.seq, error.then, error.now) == (6, "step.blocked of 'c'", "nothing")


def test_of_several_vects_the_first_that_would_differ_is_told() -> None:
    flow = Flow("flow", OAutom(executor="inline", clock=SimulatedClock()), max_active_vects=2)
    fails = {"two"}

    def work(context: Any) -> None:
        assert context.vect_id not in fails

    PythonExecution("a", flow, work) >> PythonExecution("b", flow, work)
    with flow.app as app:
        for name in ("one", "two"):
            app.start(flow, vect_id=name)
        for vect in app.vects():
            vect.wait()
        log = list(app.log.read())

    error = difference(log, flow_of("", "ab"))
    assert error is not None
    assert (error.vect, error.then) == ("two", "step.blocked of 'b'")


# Arguments


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(SettingError, match="needs a Flow, not 'flow'"):
        assert_replays([], "flow")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="has no vect of flow 'flow'"):
        assert_replays([], flow_of("", "a"))
    with pytest.raises(CycleError):
        assert_replays(simulate(flow_of("", "ab")).events(), flow_of("ab ba", "ab"))


def test_what_is_no_log_is_told() -> None:
    with pytest.raises(SettingError, match="log"):
        assert_replays(7, flow_of("", "a"))  # type: ignore[arg-type]
