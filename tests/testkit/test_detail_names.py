"""The details of an error are the step's: no word of theirs is taken for one of the engine's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oautom import BashExecution, Event, Flow, OAutom, PythonExecution, RetryPolicy, Skip, StepError
from oautom.events import replay
from oautom.testing import assert_replays, check_history, simulate
from oautom.values.text import DETAILS_MAX

from .test_log_format import SECTION, WORD

WORDS = sorted({*WORD.findall(SECTION), *Event.__struct_fields__, "kind", "loop", "parent"})
"""All that docs/testing.md has in code letters: each word that the engine uses in an event, too."""

AT_ONCE = RetryPolicy(max_attempts=2, delay=0)

VALUES: list[Any] = [0, 1.5, True, None, "x", [], {"a": 1}]


def states(vect: Any) -> dict[str, tuple[str, int]]:
    return {name: (step.state, step.attempt) for name, step in vect.steps.items()}


def flow_of(app: OAutom, details: dict[str, Any], **options: Any) -> Flow:
    def fails() -> None:
        raise StepError("no", **details)

    flow = Flow("flow", app)
    PythonExecution("a", flow, fails, **options) >> PythonExecution("b", flow, int)
    return flow


def run_and_hold(app: OAutom, details: dict[str, Any], **options: Any) -> Any:
    flow = flow_of(app, details, **options)
    vect = app.run(flow)
    attempts = options["retry"].max_attempts if "retry" in options else 1

    assert states(vect) == {"a": ("failed", attempts), "b": ("upstream_failed", 0)}
    failures = [event for event in vect.events() if "error" in event.data and event.step == "a"]
    assert len(failures) == attempts
    for event in failures:
        told = {"delay"} if event.name == "step.retried" else set()
        assert event.data.keys() == {"error", "details"} | told
        assert event.data["error"] == "no"
        assert event.data["details"].keys() == details.keys()
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)
    assert states(simulate(flow, like=vect)) == states(vect)
    (state,) = replay(app.log.read()).values()
    assert state.state == "failed"
    return failures[-1].data["details"]


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("options", [{}, {"retry": AT_ONCE}], ids=len)
def test_no_detail_is_taken_for_a_word_of_the_engine(options: Any, value: Any) -> None:
    assert {"reason", "delay", "until", "timeout", "abandoned", "output", "exit_code"} < {*WORDS}
    for word in WORDS:
        with OAutom(executor="inline") as app:
            assert run_and_hold(app, {word: value}, **options) == {word: value}


def test_all_of_them_at_once_are_told_in_a_file_too(tmp_path: Path) -> None:
    with OAutom(executor="inline", log=tmp_path / "log.db") as app:
        given = dict.fromkeys(WORDS[:DETAILS_MAX], 0)
        assert run_and_hold(app, given, retry=AT_ONCE) == given

    with OAutom(log=tmp_path / "log.db") as app:
        flow_of(app, {})
        (vect,) = app.vects()
        assert states(vect) == {"a": ("failed", 2), "b": ("upstream_failed", 0)}


def test_what_the_engine_knows_of_a_failure_stands_beside_them() -> None:
    class Custom(BashExecution):
        def run(self, context: Any) -> Any:
            try:
                return super().run(context)
            except StepError as error:
                if self.name == "own":
                    raise StepError("mine", exit_code=0, abandoned=True) from error
                raise

    with OAutom() as app:
        flow = Flow("flow", app)
        Custom("command", flow, "exit 3")
        Custom("own", flow, "exit 3")
        PythonExecution("function", flow, lambda: 1 / 0)
        vect = app.run(flow)

        told = {event.step: event.data for event in vect.events() if event.name == "step.failed"}
        assert told["command"]["exit_code"] == 3
        assert "details" not in told["command"]
        assert told["own"] == {"error": "mine", "details": {"exit_code": 0, "abandoned": True}}
        assert told["function"].keys() == {"error", "error_type", "traceback"}
        check_history(app.log.read(), flow)


def test_a_skip_is_one_by_the_name_of_its_event_alone() -> None:
    with OAutom(executor="inline") as app:
        flow = Flow("flow", app)

        def skips() -> None:
            raise Skip("enough")

        PythonExecution("a", flow, skips) >> PythonExecution("b", flow, int)
        vect = app.run(flow)

        assert states(simulate(flow, like=vect)) == states(vect)
