"""`explore` and `assert_replays`, and logs as lines of JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oautom import (
    Event,
    Flow,
    FlowExecution,
    InvalidHistoryError,
    LogError,
    MemoryEventLog,
    OAutom,
    Pool,
    PythonExecution,
    SettingError,
    UnknownStepError,
)
from oautom.events import replay
from oautom.machine import decide
from oautom.steps.work import Outcome
from oautom.testing import (
    ReplayDiffersError,
    SimulatedClock,
    assert_replays,
    check_history,
    explore,
    flows,
    histories,
    outcomes,
    simulate,
)
from oautom.testing.crashes import Lives, Moment, MortalLog
from oautom.testing.simulation import Script, ScriptedWorkers

from .test_simulated_runs import flow_of
from .test_whole_app import Hands


def any_order(upstreams: int, tally: dict[str, int]) -> str | None:
    """A rule with a race: the first upstream that ends decides."""
    if not upstreams or tally.get("success"):
        return "start"
    return "block" if tally else None


# explore


@pytest.mark.parametrize(
    ("edges", "steps", "schedules", "states"),
    [
        ("", "abcd", 24, 16),
        ("ab bc cd", "abcd", 1, 5),
        ("ab ac bd cd", "abcd", 2, 6),
        ("", "", 1, 1),
    ],
)
def test_every_order_is_counted_and_every_state_walked_once(
    edges: str, steps: str, schedules: int, states: int
) -> None:
    found = explore(flow_of(edges, steps))

    assert (found.schedules, found.states, found.is_complete) == (schedules, states, True)
    assert not found.depends_on_order
    assert found.ends[0].state == "success"
    assert str(found).startswith(f"all schedules: {schedules}, over {states} states, to 1 ")


def test_a_failure_is_one_end_too() -> None:
    (end,) = explore(flow_of("ab ac", "abc"), outcomes={"a": ValueError()}).ends

    assert (end.state, end.schedule) == ("failed", ("a",))
    assert end.steps == {"a": "failed", "b": "upstream_failed", "c": "upstream_failed"}


def test_a_race_is_shown_with_its_two_shortest_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "all_success", any_order)
    found = explore(flow_of("ac bc", "abc"), outcomes={"a": ValueError()})

    assert found.depends_on_order
    assert [end.steps["c"] for end in found.ends] == ["upstream_failed", "success"]
    assert [end.schedule for end in found.ends] == [("a", "b"), ("b", "a", "c")]
    assert "a -> b: failed" in str(found)
    assert "b -> a -> c: failed" in str(found)


def test_of_too_many_orders_a_sample_is_drawn_the_same_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decide, "all_success", any_order)
    flow, ends = flow_of("ac bc", "abcdefgh"), {"a": ValueError()}
    found = explore(flow, outcomes=ends, max_schedules=50)

    assert (found.is_complete, found.schedules, len(found.ends)) == (False, 50, 2)
    assert found == explore(flow, outcomes=ends, max_schedules=50)


def test_wrong_arguments_of_explore_are_told() -> None:
    with pytest.raises(SettingError, match="max_schedules"):
        explore(flow_of("", "a"), max_schedules=0)
    with pytest.raises(UnknownStepError, match="'x'"):
        explore(flow_of("", "a"), outcomes={"x": 1})
    with pytest.raises(SettingError, match="needs a Flow"):
        explore(None)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_end_of_a_flow_depends_on_outcomes_and_not_on_order(data: st.DataObject) -> None:
    flow = data.draw(flows(max_steps=5))
    found = explore(flow, outcomes=data.draw(outcomes(flow)))

    assert len(found.ends) == 1
    assert found.schedules <= math.factorial(len(flow.steps))


# assert_replays


@settings(deadline=None, max_examples=80)
@given(histories())
def test_an_unchanged_flow_replays_all_its_logs(history: Any) -> None:
    check_history(history, history.flow)
    assert_replays(history, history.flow)


def test_the_logs_of_real_runs_replay() -> None:
    with OAutom(max_workers=2) as app:
        flow = Flow("flow", app, max_active_vects=3)
        steps = [
            PythonExecution(str(i), flow, [int, str.upper][i % 5 == 4], ["7"]) for i in range(9)
        ]
        steps[3].depends(*steps[:3])
        steps[8].depends(steps[3], steps[4])
        first, second, third = (app.start(flow) for _ in range(3))
        second.cancel("enough")
        for vect in (first, second, third):
            vect.wait()
        assert_replays(app.log, flow)


def events_of_a_shared_pool(crash_at: Moment | None = None) -> tuple[list[Event], Flow]:
    """Run two Vects whose first steps need the one slot of a pool."""
    flow = flow_of("", "ab")
    flow.steps["a"].pool = Pool("one", 1)
    return events_of_two(flow, crash_at), flow


def events_of_two(flow: Flow, crash_at: Moment | None) -> list[Event]:
    """Run two Vects at once, on more workers than they need."""
    flow.validate()
    clock, log = SimulatedClock(), MortalLog([crash_at] if crash_at else [])
    script = Script(flow, {"a": 2, "b": 1}, {})
    lives = Lives(flow, log, clock, lambda: ScriptedWorkers(script, clock, 9), script.decision)
    lives.begin("first")
    lives.begin("second")
    lives.drive(lambda: all(lives.scheduler.is_over(run) for run in lives.runs.values()))
    return list(log.read())


@pytest.mark.parametrize("crash_at", [("after", 1), ("after", 2), ("after", 3)])
def test_who_needs_no_worker_starts_in_no_time_between_two_programs(crash_at: Moment) -> None:
    """Though the death of the first one has made room in the pool."""
    flow, pool = flow_of("", "ab"), Pool("one", 1)
    flow.steps["a"].pool = pool
    work = Flow("work", flow.app)
    PythonExecution("c", work, int)
    FlowExecution("c", flow, work, pool=pool).depends(flow.steps["b"])

    assert_replays(events_of_two(flow, crash_at), flow)


@pytest.mark.parametrize("crash_at", [None, ("after", 1), ("after", 2)])
def test_a_start_that_waited_for_the_slot_of_another_vect_replays(crash_at: Moment | None) -> None:
    events, flow = events_of_a_shared_pool(crash_at)

    waited = [(event.vect, event.name) for event in events if event.step == "a"][-4:]
    assert waited == [
        *[("first", "step.started"), ("first", "step.succeeded")],
        *[("second", "step.started"), ("second", "step.succeeded")],
    ]
    assert_replays(events, flow)


@pytest.mark.parametrize("vects", [1, 2])
def test_a_start_that_waited_for_an_attempt_that_was_abandoned_replays(vects: int) -> None:
    hands, clock = Hands(), SimulatedClock()
    app = OAutom(executor=hands, clock=clock)
    flow, pool = Flow("flow", app, max_active_vects=2), Pool("one", 1)
    for name in "ab"[: 3 - vects]:
        PythonExecution(name, flow, int, timeout=5, pool=pool)
    for _ in range(vects):
        app.start(flow)

    def drive(seconds: float) -> None:
        clock.call_later(seconds, app.stop)
        app.run()

    drive(10)
    assert len(hands.jobs) == 1  # its time was up at 5, and nobody knows that it has ended
    for _ in range(2):
        work, future = hands.jobs.pop(0)
        future.set_result(work())
        drive(0)

    assert [event.name for event in app.log.read() if event.step is not None] == [
        *("step.started", "step.failed"),
        *("step.late_result", "step.started", "step.succeeded"),
    ]
    assert_replays(app.log, flow, max_workers=2)
    app.close()


def test_a_start_that_waits_no_longer_since_the_pool_is_larger_differs() -> None:
    events, flow = events_of_a_shared_pool()
    flow.steps["a"].pool = Pool("one", 2)

    with pytest.raises(ReplayDiffersError) as caught:
        assert_replays(events, flow)
    assert caught.value.vect == "second"
    assert caught.value.now == "step.started of 'a', attempt 1"


CHANGES = {
    "an edge more": ("ab bc ac ad", "abcd"),
    "an edge less": ("ab", "abcd"),
    "a step more": ("ab bc", "abcde"),
    "a step less": ("ab", "abd"),
}


@pytest.mark.parametrize(("edges", "steps"), CHANGES.values(), ids=CHANGES)
def test_a_changed_flow_parts_from_its_log_where_it_decides_otherwise(
    edges: str, steps: str
) -> None:
    log = simulate(flow_of("ab bc", "abcd"), durations={"a": 2, "b": 1, "d": 9}).events()
    assert_replays(log, flow_of("ab bc", "abcd"))

    with pytest.raises(ReplayDiffersError) as caught:
        assert_replays(log, flow_of(edges, steps))
    assert isinstance(caught.value, AssertionError)
    assert caught.value.then != caught.value.now
    assert f"event {caught.value.seq}: then: " in str(caught.value)


def test_changed_code_parts_from_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = flow_of("ac bc", "abc")
    log = simulate(flow, durations={"a": 1, "b": 2}).events()
    monkeypatch.setattr(decide, "all_success", any_order)

    with pytest.raises(ReplayDiffersError) as caught:
        assert_replays(log, flow)
    assert caught.value.then == "step.succeeded of 'b', attempt 1"
    assert caught.value.now == "step.started of 'c', attempt 1"


def test_what_is_at_work_when_its_vect_ends_again_is_replayed_over_the_end_of_the_program() -> None:
    def declare(log: MemoryEventLog) -> tuple[OAutom, Flow, Hands]:
        hands = Hands()
        app = OAutom(log=log, executor=hands, max_workers=3, clock=clock)
        flow = Flow("flow", app)
        PythonExecution("first", flow, print, priority=1)
        PythonExecution("second", flow, print)
        return app, flow, hands

    def drive(app: OAutom) -> None:
        clock.call_later(0, app.stop)
        app.run()

    clock = SimulatedClock()
    app, flow, hands = declare(MemoryEventLog())
    vect = app.start(flow, vect_id="v")
    drive(app)
    vect.cancel()
    hands.jobs.pop()[1].set_result(Outcome())
    drive(app)
    vect.retry()  # the first one is at work still, so that only the second one starts
    drive(app)
    vect.cancel()
    left = MemoryEventLog()
    for event in app.log.read():
        left.append(None, event)
    left.commit()
    app, flow, hands = declare(left)
    app.vect("v").retry()
    drive(app)

    starts = [(e.step, e.attempt) for e in left.read(vect="v") if e.name == "step.started"]
    assert starts == [("first", 1), ("second", 1), ("second", 2), ("first", 2), ("second", 3)]
    assert_replays(left, flow)


def test_a_log_without_the_flow_is_told() -> None:
    with pytest.raises(SettingError, match="has no vect of flow 'flow'"):
        assert_replays(MemoryEventLog(), flow_of("", "a"))


# Replay, and lines of JSON


def test_the_state_at_any_point_is_that_of_the_events_before_it() -> None:
    events = simulate(flow_of("ab", "ab")).events()

    states = [replay(events, upto=seq)["simulated-0"].steps["a"].state for seq in range(1, 8)]
    assert states == ["pending", "pending", "running", *["success"] * 4]
    assert replay(events, upto=0) == {}
    with pytest.raises(InvalidHistoryError) as caught:
        replay([*events[:2], *events[3:]])
    assert caught.value.seq == 4


@settings(deadline=None, max_examples=60)
@given(history=histories())
def test_lines_of_json_lose_nothing(history: Any, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "history.jsonl"
    log = MemoryEventLog()
    for event in history:
        log.append(None, event)
    log.commit()
    log.to_jsonl(path)
    again = MemoryEventLog.from_jsonl(path)

    assert list(again.read()) == list(history)
    assert again.last_seq == log.last_seq


NO_JSON = {
    "a tuple": ((1, 2), "['output']", "tuple"),
    "a set in a list": ([{1}], "['output'][0]", "set"),
    "no number": ({"a": [math.nan]}, "['output']['a'][0]", "float"),
    "a key that is no text": ({1: 2}, "['output']", "has 1 as a key, a int; make it text"),
    "bytes": (b"x", "['output']", "bytes"),
    "an object": (object(), "['output']", "object"),
}


@pytest.mark.parametrize(("output", "where", "kind"), NO_JSON.values(), ids=NO_JSON)
def test_what_json_cannot_keep_is_refused_by_step_and_part(
    output: Any, where: str, kind: str, tmp_path: Path
) -> None:
    log = MemoryEventLog()
    for event in simulate(flow_of("", "a"), outcomes={"a": [output]}).events():
        log.append(None, event)
    log.commit()

    with pytest.raises(LogError) as caught:
        log.to_jsonl(tmp_path / "log.jsonl")
    assert f"its part {where}" in str(caught.value)
    assert kind in str(caught.value)
    assert (caught.value.flow, caught.value.step) == ("flow", "a")
    assert not (tmp_path / "log.jsonl").exists()


@pytest.mark.parametrize(
    "line", ["", "nope", "[]", "{}", '{"seq": 1}', '{"seq":1,"name":"vect.created","data":{}}']
)
def test_a_line_that_is_no_event_is_told_with_its_number(line: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(line + "\n")

    with pytest.raises(LogError, match=r"log.jsonl, line 1: this line is no event"):
        MemoryEventLog.from_jsonl(path)
