"""What a person is asked may be made of outputs and parameters."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from oautom import ApprovalExecution, Client, Flow, FlowError, OAutom, PythonExecution
from oautom.events import SqliteEventLog, replay
from oautom.testing import assert_replays, check_history, simulate


def build() -> dict[str, Any]:
    return {"version": "2.1", "parts": [3, True, 0.5]}


def declared(app: OAutom, prompt: Any = "Ship {version} on {day}? {n}", **values: Any) -> Flow:
    flow = Flow("ship", app, params={"day": date})
    made = PythonExecution("build", flow, build)
    given = values or {
        "version": made.output["version"],
        "day": flow.param("day"),
        "n": made.output["parts"][0],
    }
    ApprovalExecution("gate", flow, prompt, values=given)
    return flow


def test_the_person_is_asked_with_the_values(tmp_path: Path) -> None:
    app = OAutom(log=str(tmp_path / "runs.db"))
    flow = declared(app)
    with app:
        vect = app.start("ship", {"day": date(2026, 11, 24)})
        with pytest.raises(TimeoutError):
            vect.wait(0.3)
        asked = "Ship 2.1 on 2026-11-24? 3"

        client = Client(str(tmp_path / "runs.db"))
        assert [each.prompt for each in client.waiting()] == [asked]
        assert client.vect(vect.id).steps["gate"].prompt == asked
        assert f"('{asked}')" in vect.explain("gate")
        vect.approve("gate", by="Ada")
        assert vect.wait(10) == "success"
        events = vect.events()
    check_history(events, flow)
    assert_replays(events, flow)
    assert replay(events)[vect.id].steps["gate"].prompt == asked
    log = SqliteEventLog(tmp_path / "runs.db", read_only=True)
    assert [e.data["prompt"] for e in log.read() if "prompt" in e.data] == [asked]


def test_the_prompt_itself_may_be_a_reference(inline: OAutom) -> None:
    flow = Flow("ask", inline)
    first = PythonExecution("first", flow, lambda: "All {well}?")
    ApprovalExecution("gate", flow, first)

    vect = simulate(flow, outcomes={"first": "All {well}?"})

    assert vect.state == "success"
    (started,) = [e for e in vect.events() if "prompt" in e.data]
    assert started.data["prompt"] == "All {well}?"


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"a": [1]}, "its prompt must be made of text, numbers and dates, but first.output['a']"),
        ({"b": 1}, "its prompt cannot be made: first.output has no part ['a']"),
        ({"a": None}, "its prompt must be made of text, numbers and dates, but first.output['a']"),
        ({"a": "\ud800"}, "its prompt must be made of text"),
    ],
)
def test_what_does_not_fit_fails_the_step(inline: OAutom, output: Any, said: str) -> None:
    flow = Flow("ask", inline)
    first = PythonExecution("first", flow, build)
    ApprovalExecution("gate", flow, "{a}?", values={"a": first.output["a"]})

    vect = simulate(flow, outcomes={"first": output})

    assert vect.state == "failed"
    assert said in str(vect.steps["gate"].error)
    check_history(vect.events(), flow)
    assert_replays(vect.events(), flow)


def test_an_output_that_does_not_exist_fails_the_step(inline: OAutom) -> None:
    flow = Flow("ask", inline)
    first = PythonExecution("first", flow, lambda: 1)
    ApprovalExecution("gate", flow, "{a}?", values={"a": first}, trigger_rule="all_done")

    vect = simulate(flow, outcomes={"first": ValueError("no")})

    assert "its prompt cannot be made: step 'first' is 'failed'" in str(vect.steps["gate"].error)


class Hostile:
    def __format__(self, spec: str) -> str:
        raise AssertionError("it was asked")

    __str__ = __repr__ = lambda self: self.__format__("")


def test_no_code_of_an_output_is_called(inline: OAutom) -> None:
    flow = Flow("ask", inline)
    first = PythonExecution("first", flow, lambda: Hostile())
    ApprovalExecution("gate", flow, "{a}?", values={"a": first})

    vect = inline.run("ask")

    assert vect.state == "failed"
    assert "first.output is a Hostile" in str(vect.steps["gate"].error)


@pytest.mark.parametrize(
    ("prompt", "values", "said"),
    [
        ("{b}?", {"a": 1}, "has {b} in braces, and that is no name in values"),
        ("{a!r}?", {"a": 1}, "has {a} in braces"),
        ("{a:>9}?", {"a": 1}, "has {a} in braces"),
        ("{a.real}?", {"a": 1}, "has {a.real} in braces"),
        ("{}?", {"a": 1}, "has {} in braces"),
        ("{a?", {"a": 1}, "cannot be read"),
        ("a?", {"a": 1}, "values['a'] is not in the prompt 'a?'"),
        ("{a}?", {"a": [1]}, "values['a'] must be text, a number, a truth value, a date"),
        ("{a}?", {"a": "\ud800"}, "values['a'] must be text"),
        ("{a}?", {1: 1}, "values must have names as its keys, not 1"),
        ("{a}?", [1], "values must be a mapping, not [1]"),
        (3, {"a": 1}, "prompt must be text"),
    ],
)
def test_a_prompt_that_cannot_be_made_is_refused(
    inline: OAutom, prompt: Any, values: Any, said: str
) -> None:
    flow = Flow("ask", inline)
    with pytest.raises(FlowError) as caught:
        ApprovalExecution("gate", flow, prompt, values=values)
    assert said in str(caught.value)


def test_without_values_braces_are_text(inline: OAutom) -> None:
    flow = Flow("ask", inline)
    ApprovalExecution("gate", flow, "is {this} fine?")
    (asked,) = [e for e in simulate(flow).events() if "prompt" in e.data]
    assert asked.data["prompt"] == "is {this} fine?"
