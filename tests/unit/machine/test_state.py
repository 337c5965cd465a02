"""The fold: the state of a Vect is what its events add up to."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from oautom import InvalidHistoryError
from oautom.events import replay
from oautom.machine.graph import Graph
from oautom.machine.state import StepState, VectState
from tests.kit import (
    NOON,
    created,
    event,
    started,
    step_failed,
    step_started,
    step_succeeded,
)

GRAPH = {"a": (), "b": (), "c": ("a", "b"), "d": ("c",)}

HISTORY = [
    created(1, GRAPH),
    started(2),
    step_started(3, "a"),
    step_started(4, "b"),
    step_succeeded(5, "a", output=[1, 2]),
    step_failed(6, "b", error="ValueError: no"),
    event(7, "step.blocked", "pending", "upstream_failed", step="c", upstream="b"),
    event(8, "step.blocked", "pending", "upstream_failed", step="d", upstream="c"),
    event(9, "vect.failed", "running", "failed", steps=["b", "c", "d"]),
]


def second(seconds: int):
    return NOON + timedelta(seconds=seconds)


def after(count: int) -> VectState:
    return replay(HISTORY[:count])["v"]


def test_no_events_make_no_vect() -> None:
    assert replay([]) == {}


def test_a_vect_that_is_created_has_all_its_steps_pending() -> None:
    vect = after(1)

    assert (vect.id, vect.flow, vect.state, dict(vect.params)) == ("v", "f", "pending", {})
    assert vect.created_date == second(1)
    assert (vect.start_date, vect.end_date) == (None, None)
    assert [(step.name, step.state, step.attempt) for step in vect.steps.values()] == [
        (name, "pending", 0) for name in "abcd"
    ]
    assert vect.open_steps == 4


def test_each_event_moves_the_state_of_its_own_model_only() -> None:
    states = [
        (vect.state, *(step.state for step in vect.steps.values()))
        for vect in map(after, range(1, 10))
    ]

    assert states == [
        ("pending", "pending", "pending", "pending", "pending"),
        ("running", "pending", "pending", "pending", "pending"),
        ("running", "running", "pending", "pending", "pending"),
        ("running", "running", "running", "pending", "pending"),
        ("running", "success", "running", "pending", "pending"),
        ("running", "success", "failed", "pending", "pending"),
        ("running", "success", "failed", "upstream_failed", "pending"),
        ("running", "success", "failed", "upstream_failed", "upstream_failed"),
        ("failed", "success", "failed", "upstream_failed", "upstream_failed"),
    ]


def test_output_error_attempt_and_dates_are_those_of_the_events() -> None:
    vect = after(9)
    a, b, c = (vect.steps[name] for name in "abc")

    assert (a.attempt, a.output, a.error) == (1, [1, 2], None)
    assert (a.start_date, a.end_date) == (second(3), second(5))
    assert (b.attempt, b.output, b.error) == (1, None, "ValueError: no")
    assert (c.attempt, c.start_date, c.end_date) == (0, None, second(7))
    assert (vect.start_date, vect.end_date) == (second(2), second(9))


def test_the_tally_of_a_step_counts_its_own_upstreams_by_how_they_ended() -> None:
    assert after(4).steps["c"].tally == {}
    assert after(5).steps["c"].tally == {"success": 1}
    assert after(6).steps["c"].tally == {"success": 1, "failed": 1}
    assert after(7).steps["d"].tally == {"upstream_failed": 1}
    assert after(9).steps["a"].tally == {}


def test_open_steps_goes_down_by_one_with_each_step_that_ends() -> None:
    assert [after(count).open_steps for count in range(1, 10)] == [4, 4, 4, 4, 3, 2, 1, 0, 0]


def test_a_late_result_changes_nothing() -> None:
    late = event(10, "step.late_result", "failed", "failed", step="b", attempt=1, output="late")

    assert replay([*HISTORY, late])["v"].facts() == after(9).facts()


def test_a_late_result_of_a_success_does_not_take_the_output_away() -> None:
    late = event(6, "step.late_result", "success", "success", step="a", attempt=1, error="late")
    step = replay([*HISTORY[:5], late])["v"].steps["a"]

    assert (step.output, step.error, step.end_date) == ([1, 2], None, second(5))
    assert replay([*HISTORY[:5], late])["v"].open_steps == 3


def test_vects_do_not_mix() -> None:
    other = [
        created(10, {"a": ()}, vect="w"),
        started(11, vect="w"),
        step_started(12, "a", vect="w"),
        step_succeeded(13, "a", output="w's", vect="w"),
        event(14, "vect.succeeded", "running", "success", vect="w"),
    ]
    mixed = [each for pair in zip(HISTORY, other, strict=False) for each in pair] + HISTORY[5:]
    vects = replay(msgspec.structs.replace(each, seq=i) for i, each in enumerate(mixed, start=1))

    assert list(vects) == ["v", "w"]
    assert vects["v"].facts() == after(9).facts()
    assert vects["w"].facts() == replay(other)["w"].facts()


def test_a_fold_can_be_gone_on_with() -> None:
    vect = after(4)
    for each in HISTORY[4:]:
        vect.advance(each)

    assert vect.facts() == after(9).facts()


def test_facts_differ_where_anything_differs() -> None:
    facts = [after(count).facts() for count in range(1, 10)]

    assert all(one != other for i, one in enumerate(facts) for other in facts[i + 1 :])


def test_two_steps_are_equal_only_if_they_are_the_same_one() -> None:
    vect = VectState("f", "v", Graph({"a": ()}), {})

    assert StepState(vect, "a", 0) != StepState(vect, "a", 0)
    assert vect.vect is vect


@pytest.mark.parametrize(
    ("events", "seq", "told"),
    [
        pytest.param([started(1)], 1, "vect v has not been created", id="of an unknown vect"),
        pytest.param(
            [*HISTORY[:2], created(3, GRAPH)], 3, "vect v is created twice", id="created twice"
        ),
        pytest.param(
            [*HISTORY[:2], step_started(3, "x")], 3, "vect v has no step 'x'", id="unknown step"
        ),
        pytest.param(
            [*HISTORY[:2], step_succeeded(3, "a")],
            3,
            "'step.succeeded' from 'running' to 'success', but a is 'pending'",
            id="success before the start",
        ),
        pytest.param(
            [*HISTORY[:5], step_failed(6, "a")],
            6,
            "'step.failed' from 'running' to 'failed', but a is 'success'",
            id="a second end",
        ),
        pytest.param(
            [*HISTORY[:3], step_started(4, "a")],
            4,
            "'step.started' from 'pending' to 'running', but a is 'running'",
            id="a second start",
        ),
        pytest.param(
            [*HISTORY[:3], event(4, "step.succeeded", "running", "failed", step="a")],
            4,
            "'step.succeeded' from 'running' to 'failed', but a is 'running'",
            id="a move that is in no table",
        ),
        pytest.param(
            [*HISTORY[:2], event(3, "step.exploded", "pending", "running", step="a")],
            3,
            "'step.exploded' from 'pending' to 'running', but a is 'pending'",
            id="an unknown event",
        ),
        pytest.param(
            [*HISTORY[:2], event(3, "vect.started", "pending", "running", step="a")],
            3,
            "'vect.started' from 'pending' to 'running', but a is 'pending'",
            id="an event of a vect that names a step",
        ),
        pytest.param(
            [*HISTORY[:1], event(2, "vect.succeeded", "running", "success")],
            2,
            "'vect.succeeded' from 'running' to 'success', but v is 'pending'",
            id="the end before the start",
        ),
        pytest.param(
            [*HISTORY, event(10, "vect.succeeded", "running", "success")],
            10,
            "'vect.succeeded' from 'running' to 'success', but v is 'failed'",
            id="two ends",
        ),
    ],
)
def test_an_impossible_history_is_refused_with_its_first_wrong_event(events, seq, told) -> None:
    with pytest.raises(InvalidHistoryError) as caught:
        replay(events)

    assert caught.value.seq == seq
    assert str(caught.value) == f"event {seq} does not fit the events before it: {told}"


def test_a_refused_event_leaves_the_state_as_it_was() -> None:
    vect, before = after(3), after(3).facts()

    with pytest.raises(InvalidHistoryError):
        vect.advance(step_succeeded(4, "b"))

    assert vect.facts() == before


def test_an_event_that_comes_again_is_refused_by_its_number() -> None:
    with pytest.raises(InvalidHistoryError) as caught:
        replay([created(1, {}), created(1, {}, vect="w")])

    assert str(caught.value) == (
        "event 1 does not fit the events before it: it comes after event 1"
    )


@pytest.mark.parametrize("missing", ["graph", "params"])
def test_a_creation_without_what_makes_a_vect_is_refused(missing: str) -> None:
    data = {"graph": {}, "params": {}}
    del data[missing]

    with pytest.raises(InvalidHistoryError) as caught:
        replay([event(3, "vect.created", None, "pending", **data)])

    assert caught.value.seq == 3
    assert str(caught.value) == (
        f"event 3 does not fit the events before it: it has no '{missing}'"
    )


def test_a_replay_takes_in_the_last_event_wanted_and_none_behind_it() -> None:
    history = [created(1, {}), started(2), created(3, {}, vect="w")]

    assert {vect: state.state for vect, state in replay(history, upto=2).items()} == {
        "v": "running"
    }
