"""Results: what `result()` and `steps[...]` tell in each state of a step."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oautom import (
    Flow,
    NotFinishedError,
    OAutom,
    OAutomMode,
    PythonExecution,
    StepFailedError,
    UnknownStepError,
)

from .conftest import SECONDS, Gate, NewApp, flow_step


class MineError(Exception):
    pass


@pytest.mark.parametrize("output", [None, 0, "", [], {"a": [1, {"b": None}]}, object()])
def test_the_result_is_what_the_step_returned(any_app: OAutom, output: Any) -> None:
    flow = Flow("f", any_app)
    step = PythonExecution("a", flow, lambda: output)

    vect = any_app.run(flow)

    assert vect.result("a") is output
    assert vect.result(step) is output
    assert vect.steps["a"].output is output


def test_the_result_of_a_failed_step_is_its_own_exception(any_app: OAutom) -> None:
    flow, error = Flow("f", any_app), MineError("no rows")

    def fail() -> None:
        raise error

    PythonExecution("a", flow, fail)
    vect = any_app.run(flow)

    for _ in range(2):
        with pytest.raises(StepFailedError) as caught:
            vect.result("a")
        assert str(caught.value) == (
            "step 'a' of flow 'f' has no result, it ended as 'failed': MineError: no rows"
        )
        assert caught.value.__cause__ is error
        facts = (caught.value.flow, caught.value.step, caught.value.state, caught.value.error)
        assert facts == ("f", "a", "failed", "MineError: no rows")
    assert vect.steps["a"].output is None


def test_the_result_of_a_blocked_step_says_what_failed(any_app: OAutom) -> None:
    flow = Flow("f", any_app)
    flow_step(flow, "a", lambda: 1 / 0) >> flow_step(flow, "b")
    vect = any_app.run(flow)

    with pytest.raises(StepFailedError) as caught:
        vect.result("b")

    assert "it ended as 'upstream_failed'" in str(caught.value)
    assert "upstream 'a' failed: ZeroDivisionError: division by zero" in str(caught.value)
    assert (caught.value.step, caught.value.state) == ("b", "upstream_failed")


def test_the_result_of_a_cancelled_step_says_so(mode_app: OAutom) -> None:
    flow = Flow("f", mode_app)
    PythonExecution("a", flow, lambda context: context.cancelled.wait(SECONDS))
    flow_step(flow, "b").depends(flow.steps["a"])
    vect = mode_app.start(flow)
    vect.cancel("it rains")
    assert vect.wait(timeout=SECONDS) == "cancelled"

    for step in ("a", "b"):
        with pytest.raises(StepFailedError, match="it ended as 'cancelled'") as caught:
            vect.result(step)
        assert (caught.value.state, caught.value.__cause__) == ("cancelled", None)


def test_there_is_no_result_before_the_end(new_app: NewApp) -> None:
    app, gate = new_app(OAutomMode.background), Gate()
    flow = Flow("f", app)
    PythonExecution("a", flow, gate) >> flow_step(flow, "b")
    vect = app.start(flow)
    assert gate.reached.wait(SECONDS)

    for step, state in (("a", "running"), ("b", "pending")):
        with pytest.raises(NotFinishedError) as caught:
            vect.result(step)
        assert str(caught.value) == (
            f"step '{step}' of flow 'f' is '{state}' and has no result yet; "
            "call wait() on its Vect first"
        )
        assert (caught.value.step, caught.value.state) == (step, state)
    gate.opened.set()
    vect.wait(timeout=SECONDS)
    assert vect.result("b") == "b"


def test_a_result_is_there_before_the_vect_has_ended(new_app: NewApp) -> None:
    app, gate = new_app(OAutomMode.background), Gate()
    flow = Flow("f", app)
    flow_step(flow, "a") >> PythonExecution("b", flow, gate)
    vect = app.start(flow)
    assert gate.reached.wait(SECONDS)

    assert vect.result("a") == "a"
    gate.opened.set()


def test_the_result_of_an_unknown_step_suggests_a_near_miss(inline: OAutom) -> None:
    flow = Flow("f", inline)
    flow_step(flow, "extract")
    vect = inline.run(flow)

    for ask in (vect.result, vect.steps.__getitem__):
        with pytest.raises(UnknownStepError) as caught:
            ask("extrakt")
        assert str(caught.value) == "flow 'f' has no step 'extrakt'; did you mean 'extract'?"


def test_a_step_of_another_flow_is_unknown_even_if_its_name_is_not(inline: OAutom) -> None:
    flow, other = Flow("f", inline), Flow("g", inline)
    flow_step(flow, "a")
    stranger = flow_step(other, "a")
    vect = inline.run(flow)

    with pytest.raises(UnknownStepError):
        vect.result(stranger)


def test_steps_are_a_mapping_in_the_order_of_declaration(inline: OAutom) -> None:
    flow = Flow("f", inline)
    for name in ("z", "a", "m"):
        flow_step(flow, name)
    vect = inline.run(flow)

    assert list(vect.steps) == ["z", "a", "m"]
    assert len(vect.steps) == 3
    assert "a" in vect.steps
    assert "b" not in vect.steps
    assert vect.steps.get("b") is None
    assert {name: step.name for name, step in vect.steps.items()} == {n: n for n in "zam"}


def test_a_step_shows_how_things_stand_when_it_is_asked(new_app: NewApp) -> None:
    app = new_app()
    flow = Flow("f", app)
    flow_step(flow, "a")
    vect = app.start(flow)
    step = vect.steps["a"]
    assert (step.state, step.attempt, step.output, step.error) == ("pending", 0, None, None)
    assert (step.start_date, step.end_date, step.log_text) == (None, None, "")

    before = datetime.now(UTC)
    vect.wait()

    assert (step.state, step.attempt, step.output, step.error) == ("success", 1, "a", None)
    assert before <= step.start_date <= step.end_date <= datetime.now(UTC)
    assert step.start_date.utcoffset() == timedelta(0)


def test_vect_and_steps_show_what_they_are(inline: OAutom) -> None:
    flow = Flow("f", inline)
    flow_step(flow, "a")
    vect = inline.run(flow, vect_id="v1")

    assert repr(vect) == "<Vect v1 of 'f': success>"
    assert repr(vect.steps["a"]) == "<Step 'a': success>"
    assert dict(vect.params) == {}
