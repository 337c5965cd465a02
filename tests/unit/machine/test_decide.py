"""The decisions: pure functions from commands to triggers, and from events to what follows."""

from __future__ import annotations

from typing import Any

import pytest

from oautom.events import replay
from oautom.machine.decide import (
    Begin,
    Cancel,
    Finished,
    Kill,
    Submit,
    Trigger,
    affects,
    due,
    effects,
    handle,
)
from oautom.machine.state import VectState
from tests.kit import (
    created,
    event,
    started,
    step_failed,
    step_started,
    step_succeeded,
)

GRAPH = {"a": (), "b": (), "c": ("a", "b"), "d": ("c",)}
BEGUN = [created(1, GRAPH), started(2), step_started(3, "a"), step_started(4, "b")]


def vect_after(*events: Any) -> VectState:
    return replay(events)["v"]


def told(triggers: list[Trigger]) -> list[tuple[Any, ...]]:
    return [(t.model.name, t.name, t.attempt, dict(t.data)) for t in triggers]


def names(models: list[Any]) -> list[str | None]:
    return [model.name for model in models]


def test_to_begin_starts_the_vect() -> None:
    vect = vect_after(created(1, GRAPH))

    assert handle(vect, Begin("v")) == [Trigger(vect, "start")]
    told = {"limit": 2}
    assert handle(vect, Begin("v", told)) == [Trigger(vect, "start", data=told)]


def test_to_begin_twice_is_to_begin_once() -> None:
    vect = vect_after(created(1, GRAPH), started(2))

    assert handle(vect, Begin("v")) == []


def test_a_result_of_the_running_attempt_is_a_success_with_its_output() -> None:
    vect = vect_after(*BEGUN)

    triggers = handle(vect, Finished("v", "a", 1, output=[1]))

    assert told(triggers) == [("a", "succeed", 1, {"output": [1]})]
    assert triggers[0].model is vect.steps["a"]


@pytest.mark.parametrize("output", [None, 0, "", [], False])
def test_an_output_that_counts_as_false_is_an_output_all_the_same(output: object) -> None:
    triggers = handle(vect_after(*BEGUN), Finished("v", "a", 1, output=output))

    assert told(triggers) == [("a", "succeed", 1, {"output": output})]


@pytest.mark.parametrize("error", ["ValueError: no", ""])
def test_an_error_of_the_running_attempt_is_a_failure_with_all_its_details(error: str) -> None:
    answer = Finished("v", "a", 1, error=error, data={"exit_code": 3})

    triggers = handle(vect_after(*BEGUN), answer)

    assert told(triggers) == [("a", "fail", 1, {"error": error, "exit_code": 3})]


@pytest.mark.parametrize(
    "ended",
    [
        step_succeeded(5, "a", output="first"),
        step_failed(5, "a"),
        event(5, "step.cancelled", "running", "cancelled", step="a", attempt=1),
    ],
    ids=["success", "failed", "cancelled"],
)
def test_a_result_of_a_step_that_has_ended_is_late(ended) -> None:
    triggers = handle(vect_after(*BEGUN, ended), Finished("v", "a", 1, output="second"))

    assert told(triggers) == [("a", "late_result", 1, {"output": "second"})]


def test_a_late_error_tells_what_went_wrong() -> None:
    vect = vect_after(*BEGUN, step_succeeded(5, "a"))

    triggers = handle(vect, Finished("v", "a", 1, error="too late"))

    assert told(triggers) == [("a", "late_result", 1, {"error": "too late"})]


@pytest.mark.parametrize("attempt", [0, 1, 3])
def test_a_result_of_another_attempt_than_the_running_one_is_late(attempt: int) -> None:
    vect = vect_after(created(1, GRAPH), started(2), step_started(3, "a", attempt=2))

    triggers = handle(vect, Finished("v", "a", attempt, output=1))

    assert told(triggers) == [("a", "late_result", attempt, {"output": 1})]


def test_to_cancel_ends_all_steps_that_have_not_ended_then_the_vect() -> None:
    vect = vect_after(*BEGUN, step_succeeded(5, "a"))

    triggers = handle(vect, Cancel("v", "enough"))

    reason = {"reason": "enough"}
    assert told(triggers) == [
        ("b", "cancel", 1, reason),  # the attempt that is under way
        ("c", "cancel", None, reason),
        ("d", "cancel", None, reason),
        (None, "cancel", None, reason),
    ]


def test_to_cancel_what_has_ended_does_nothing() -> None:
    vect = vect_after(created(1, {}), started(2), event(3, "vect.succeeded", "running", "success"))

    assert handle(vect, Cancel("v")) == []


def test_when_a_vect_starts_its_roots_are_worth_a_look() -> None:
    vect = vect_after(*BEGUN[:2])

    assert names(affects(vect, BEGUN[1])) == ["a", "b"]


def test_when_an_empty_vect_starts_it_is_worth_a_look_itself() -> None:
    vect = vect_after(created(1, {}), started(2))

    assert affects(vect, started(2)) == [vect]
    assert due(vect) == Trigger(vect, "succeed")


@pytest.mark.parametrize(
    "ended", [step_succeeded(5, "a"), step_failed(5, "a")], ids=["success", "failed"]
)
def test_when_a_step_ends_its_dependants_are_worth_a_look(ended) -> None:
    assert names(affects(vect_after(*BEGUN, ended), ended)) == ["c"]


def test_when_the_last_step_ends_the_vect_is_worth_a_look() -> None:
    ended = step_succeeded(4, "a")
    vect = vect_after(created(1, {"a": ()}), started(2), step_started(3, "a"), ended)

    assert affects(vect, ended) == [vect]


@pytest.mark.parametrize(
    "happened",
    [
        created(1, GRAPH),
        step_started(3, "a"),
        event(9, "step.late_result", "success", "success", step="a", attempt=1),
        event(9, "vect.succeeded", "running", "success"),
    ],
    ids=lambda each: each.name,
)
def test_after_other_events_nothing_is_worth_a_look(happened) -> None:
    vect = vect_after(*BEGUN, step_succeeded(5, "a"))

    assert affects(vect, happened) == []


def test_a_step_is_due_when_all_its_upstreams_have_succeeded_and_not_before() -> None:
    half = vect_after(*BEGUN, step_succeeded(5, "a"))
    whole = vect_after(*BEGUN, step_succeeded(5, "a"), step_succeeded(6, "b"))

    assert due(half.steps["c"]) is None
    assert due(whole.steps["c"]) == Trigger(whole.steps["c"], "start", 1)
    assert due(whole.steps["d"]) is None


def test_a_step_is_blocked_by_the_first_upstream_that_fails_and_names_it() -> None:
    vect = vect_after(*BEGUN, step_failed(5, "b"))

    trigger = due(vect.steps["c"])

    assert trigger is not None
    why = {"upstream": "b", "error": "upstream 'b' failed"}
    assert told([trigger]) == [("c", "block", None, why)]


def test_a_step_that_is_blocked_blocks_the_next_and_says_what_failed_first() -> None:
    why = {"upstream": "b", "error": "upstream 'b' failed"}
    blocked = event(6, "step.blocked", "pending", "upstream_failed", step="c", **why)
    vect = vect_after(*BEGUN, step_failed(5, "b"), blocked)

    trigger = due(vect.steps["d"])

    assert trigger is not None
    assert told([trigger]) == [("d", "block", None, why | {"upstream": "c"})]


def test_what_has_started_or_ended_is_never_due_again() -> None:
    vect = vect_after(*BEGUN, step_succeeded(5, "a"))

    assert due(vect.steps["a"]) is None
    assert due(vect.steps["b"]) is None


@pytest.mark.parametrize(
    "events",
    [
        [created(1, GRAPH)],
        [created(1, GRAPH), event(2, "vect.cancelled", "pending", "cancelled")],
    ],
    ids=["pending", "cancelled"],
)
def test_nothing_is_due_in_a_vect_that_does_not_run(events) -> None:
    vect = vect_after(*events)

    assert [due(model) for model in (*vect.steps.values(), vect)] == [None] * 5


def test_a_vect_ends_when_no_step_is_open_any_more() -> None:
    one = [created(1, {"a": ()}), started(2), step_started(3, "a")]
    open_, good, bad = (
        vect_after(*one),
        vect_after(*one, step_succeeded(4, "a")),
        vect_after(*one, step_failed(4, "a")),
    )

    assert due(open_) is None
    assert due(good) == Trigger(good, "succeed")
    trigger = due(bad)
    assert trigger is not None
    assert told([trigger]) == [(None, "fail", None, {"steps": ["a"]})]


def test_a_failed_vect_names_the_failed_steps_and_the_blocked_ones() -> None:
    vect = vect_after(
        *BEGUN,
        step_succeeded(5, "a"),
        step_failed(6, "b"),
        event(7, "step.blocked", "pending", "upstream_failed", step="c"),
        event(8, "step.blocked", "pending", "upstream_failed", step="d"),
    )

    trigger = due(vect)

    assert trigger is not None
    assert told([trigger]) == [(None, "fail", None, {"steps": ["b", "c", "d"]})]


def test_a_start_asks_for_its_work_and_the_cancel_of_running_work_for_its_end() -> None:
    cancelled = event(5, "step.cancelled", "running", "cancelled", step="a", attempt=2)

    assert list(effects(step_started(3, "a", attempt=2))) == [Submit("v", "a", 2)]
    assert list(effects(cancelled)) == [Kill("v", "a", 2)]


@pytest.mark.parametrize(
    "happened",
    [
        created(1, GRAPH),
        started(2),
        step_succeeded(5, "a"),
        step_failed(5, "a"),
        event(5, "step.cancelled", "pending", "cancelled", step="a"),
        event(5, "step.late_result", "cancelled", "cancelled", step="a", attempt=1),
        event(5, "vect.cancelled", "running", "cancelled"),
    ],
    ids=lambda each: f"{each.name} from {each.source}",
)
def test_other_events_ask_nothing_of_the_world(happened) -> None:
    assert list(effects(happened)) == []


def test_deciding_changes_nothing() -> None:
    vect = vect_after(*BEGUN, step_failed(5, "b"))
    before = vect.facts()

    handle(vect, Cancel("v"))
    handle(vect, Finished("v", "a", 1, output=1))
    affects(vect, step_failed(5, "b"))
    for model in (*vect.steps.values(), vect):
        due(model)

    assert vect.facts() == before


@pytest.mark.parametrize(
    "made",
    [
        Begin("v"),
        Cancel("v"),
        Finished("v", "a", 1),
        Kill("v", "a", 1),
        Submit("v", "a", 1),
        Trigger(replay([created(1, {})])["v"], "start"),
    ],
    ids=lambda made: type(made).__name__,
)
def test_what_is_asked_cannot_be_changed_on_its_way(made: Any) -> None:
    name = made.__struct_fields__[0]

    with pytest.raises(AttributeError, match="immutable"):
        setattr(made, name, "other")


def test_unless_said_an_answer_tells_nothing_and_a_cancel_no_reason() -> None:
    answer = Finished("v", "a", 1)

    assert (answer.output, answer.error, dict(answer.data)) == (None, None, {})
    assert Cancel("v").reason == ""
