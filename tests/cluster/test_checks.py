"""The checks of a campaign find each kind of fault, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs

from oautom import Event, Flow, OAutom, PythonExecution
from oautom.testing import simulate

from .checks import Line, wrong
from .cluster import Span
from .plans import Plan, drawn, expected

Lines = list[Line]


@pytest.fixture
def plan() -> Plan:
    return drawn(1, flows=2, steps=3)


@pytest.fixture
def events(plan: Plan) -> list[Event]:
    app, found = OAutom(), []
    for name, steps in plan["flows"].items():
        flow, made = Flow(name, app), {}
        for step in steps:
            numbers = [made[each].output for each in step["upstreams"]]
            made[step["name"]] = PythonExecution(step["name"], flow, max, [0, *numbers])
        vect = simulate(flow, outcomes=expected(steps))
        found += [
            structs.replace(event, seq=len(found) + i, vect=name)
            for i, event in enumerate(vect.events(), 1)
        ]
    return found


@pytest.fixture
def lines(events: list[Event]) -> Lines:
    words = {"step.started": "begin", "step.succeeded": "end"}
    return [
        Line(words[e.name], e.flow, e.vect, e.step or "", e.attempt or 0, "a", 1, e.seq)
        for e in events
        if e.name in words
    ]


def test_nothing_is_wrong_with_a_run_as_it_should_be(
    plan: Plan, events: list[Event], lines: Lines
) -> None:
    assert wrong(plan, events, lines, []) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [lines[0], *lines], "has begun 2 times"),
        (lambda lines: [*lines, lines[-1]], "has ended 2 times"),
        (lambda lines: lines[1:], "has succeeded, and has not begun"),
        (lambda lines: lines[:-1], "has succeeded, and has not ended"),
        (lambda lines: [lines[0]._replace(number=2), *lines], "has begun and is not in the log"),
        (lambda lines: [lines[0]._replace(what="overlap"), *lines], "was still at work"),
    ],
)
def test_what_the_workers_say_is_held_against_the_log(
    plan: Plan, events: list[Event], lines: Lines, change: Callable[[Lines], Lines], words: str
) -> None:
    found = wrong(plan, events, change(lines), [])

    assert [words in each for each in found] == [True]


def test_work_that_nobody_could_reach_may_go_on_beside_the_next_attempt(
    plan: Plan, events: list[Event], lines: Lines
) -> None:
    beside = lines[0]._replace(what="overlap", time=20.0)

    assert wrong(plan, events, [*lines, beside], [Span(19.0, 21.0)]) == []
    assert wrong(plan, events, [*lines, beside], [Span(21.0, 22.0)]) != []


def test_a_flow_that_has_not_succeeded_or_has_another_output_is_found(
    plan: Plan, events: list[Event], lines: Lines
) -> None:
    plan["flows"]["flow-2"] = []
    plan["flows"]["flow-0"][2]["number"] += 1

    found = wrong(plan, events, lines, [])

    assert len(found) == 2
    assert found[0].startswith("the outputs of flow-0 are")
    assert found[1] == "flow-2 has not succeeded: it was not run"


def test_a_flow_that_was_run_again_is_found(plan: Plan, events: list[Event]) -> None:
    again = [
        structs.replace(event, seq=len(events) + i, vect="again")
        for i, event in enumerate((e for e in events if e.flow == "flow-0"), 1)
    ]

    assert "flow-0 has run 2 times" in wrong(plan, events + again, [], [])


def test_a_history_that_cannot_be_is_found(plan: Plan, events: list[Event], lines: Lines) -> None:
    found = wrong(plan, [*events, structs.replace(events[-1], seq=len(events) + 1)], lines, [])

    assert [each.partition(":")[0] for each in found] == ["check_history"]
