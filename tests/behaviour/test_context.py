"""What a step is told and may tell: context, inputs, log, progress, async functions."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from oautom import Context, Execution, Flow, FlowError, OAutom, PythonExecution

from .conftest import SECONDS, NewApp, flow_step


class Remembered(Execution):
    """A step of one's own kind."""

    def __init__(self, name: str, flow: Flow, value: int) -> None:
        super().__init__(name, flow)
        self.value = value

    def run(self, context: Context) -> dict[str, Any]:
        context.log.info("value %d", self.value)
        return {"value": self.value, "inputs": dict(context.inputs)}


def test_a_step_knows_where_it_stands(any_app: OAutom) -> None:
    flow = Flow("f", any_app)

    def where(context: Context) -> tuple[Any, ...]:
        place = context.flow, context.vect_id, context.step, context.attempt
        return (*place, dict(context.params), context.cancelled.is_set())

    PythonExecution("a", flow, where)
    vect = any_app.run(flow, vect_id="v1")

    assert vect.result("a") == ("f", "v1", "a", 1, {}, False)


def test_inputs_are_the_outputs_of_the_direct_upstreams(any_app: OAutom) -> None:
    flow = Flow("f", any_app)
    one, two = Remembered("one", flow, 1), Remembered("two", flow, 2)
    three, four = Remembered("three", flow, 3), Remembered("four", flow, 4)
    [one, two] >> three >> four

    vect = any_app.run(flow)

    outputs = {name: vect.result(name) for name in ("one", "two", "three")}
    assert outputs["one"] == {"value": 1, "inputs": {}}
    assert outputs["three"]["inputs"] == {"one": outputs["one"], "two": outputs["two"]}
    assert vect.result("four") == {"value": 4, "inputs": {"three": outputs["three"]}}


def test_a_step_of_one_s_own_kind_needs_its_flow_and_name_only(any_app: OAutom) -> None:
    flow = Flow("f", any_app)
    Remembered("a", flow, 42)

    vect = any_app.run(flow)

    assert vect.result("a") == {"value": 42, "inputs": {}}
    assert vect.steps["a"].log_text == "INFO value 42\n"


def test_an_output_is_handed_on_as_it_is_in_one_process(any_app: OAutom) -> None:
    flow, thing = Flow("f", any_app), object()
    PythonExecution("a", flow, lambda: thing) >> PythonExecution(
        "b", flow, lambda context: context.inputs["a"]
    )

    assert any_app.run(flow).result("b") is thing


def test_the_log_of_a_step_is_kept_with_it_and_told_to_the_logger_of_its_flow(
    any_app: OAutom, caplog: pytest.LogCaptureFixture
) -> None:
    flow = Flow("f", any_app)

    def step(word: str, context: Context) -> None:
        context.log.debug("a %s", word)
        context.log.error("bad %s", word)

    PythonExecution("a", flow, step, ("word",))
    PythonExecution("b", flow, step, kwargs={"word": "sign"})
    with caplog.at_level(logging.WARNING):
        vect = any_app.run(flow)

    assert vect.steps["a"].log_text == "DEBUG a word\nERROR bad word\n"
    assert vect.steps["b"].log_text == "DEBUG a sign\nERROR bad sign\n"
    told = [(each.name, each.getMessage(), each.step) for each in caplog.records]  # type: ignore[attr-defined]
    assert sorted(told) == [
        ("oautom.flow.f", "bad sign", "b"),
        ("oautom.flow.f", "bad word", "a"),
    ]
    assert {(each.vect, each.attempt) for each in caplog.records} == {(vect.id, 1)}  # type: ignore[attr-defined]


def test_the_log_of_a_failed_step_is_kept_too(any_app: OAutom) -> None:
    flow = Flow("f", any_app)

    def step(context: Context) -> None:
        context.log.info("as far as here")
        raise ValueError("no further")

    PythonExecution("a", flow, step)

    assert any_app.run(flow).steps["a"].log_text == "INFO as far as here\n"


def test_the_log_can_be_read_while_the_step_runs(background: OAutom) -> None:
    flow, written, go = Flow("f", background), threading.Event(), threading.Event()

    def step(context: Context) -> None:
        context.progress(0.25, "a quarter")
        written.set()
        assert go.wait(SECONDS)

    PythonExecution("a", flow, step)
    vect = background.start(flow)
    assert written.wait(SECONDS)

    assert vect.steps["a"].log_text == "INFO  25 % a quarter\n"
    go.set()


def test_only_the_newest_of_a_long_log_is_kept(inline: OAutom) -> None:
    flow = Flow("f", inline)

    def step(context: Context) -> None:
        for number in range(1000):
            context.log.info("line %d", number)

    PythonExecution("a", flow, step, log_limit_bytes=27)

    assert inline.run(flow).steps["a"].log_text == (
        "[13863 bytes are missing here]\nNFO line 998\nINFO line 999\n"
    )


def test_each_vect_has_its_own_log(inline: OAutom) -> None:
    flow = Flow("f", inline)
    PythonExecution("a", flow, lambda context: context.log.info(context.vect_id))

    vects = [inline.run(flow, vect_id=name) for name in ("v1", "v2")]

    assert [vect.steps["a"].log_text for vect in vects] == ["INFO v1\n", "INFO v2\n"]


def test_a_wrong_progress_fails_the_step_and_says_how(any_app: OAutom) -> None:
    flow = Flow("f", any_app)
    PythonExecution("a", flow, lambda context: context.progress(50))

    assert any_app.run(flow).steps["a"].error == (
        "SettingError: step 'a' reports a progress of 50; give a number from 0 to 1"
    )


def test_an_async_function_is_a_step(any_app: OAutom) -> None:
    flow = Flow("f", any_app)

    async def step(context: Context) -> str:
        await asyncio.sleep(0)
        context.log.info("awaited")
        return "later"

    PythonExecution("a", flow, step)
    vect = any_app.run(flow)

    assert vect.result("a") == "later"
    assert vect.steps["a"].log_text == "INFO awaited\n"


def test_an_async_run_of_one_s_own_kind_is_awaited(any_app: OAutom) -> None:
    class Later(Execution):
        async def run(self, context: Context) -> str:
            await asyncio.sleep(0)
            return "later"

    flow = Flow("f", any_app)
    Later("a", flow)

    assert any_app.run(flow).result("a") == "later"


def test_an_async_function_fails_as_any_other(any_app: OAutom) -> None:
    flow = Flow("f", any_app)

    async def step() -> None:
        raise ValueError("later")

    PythonExecution("a", flow, step)

    assert any_app.run(flow).steps["a"].error == "ValueError: later"


def test_two_async_steps_run_at_the_same_time(mode_app: OAutom) -> None:
    flow, arrived = Flow("f", mode_app), []

    async def step(context: Context) -> None:
        arrived.append(context.step)
        async with asyncio.timeout(SECONDS):
            while len(arrived) < 2:
                await asyncio.sleep(0.001)

    PythonExecution("a", flow, step)
    PythonExecution("b", flow, step)

    assert mode_app.run(flow).state == "success"


def test_one_execution_serves_several_vects_at_once(new_app: NewApp) -> None:
    app = new_app()
    flow, together = Flow("f", app, max_active_vects=3), threading.Barrier(3, timeout=SECONDS)

    def step(context: Context) -> str:
        together.wait()
        context.log.info(context.vect_id)
        return context.vect_id

    PythonExecution("a", flow, step)
    vects = [app.start(flow) for _ in range(3)]

    for vect in vects:
        vect.wait(timeout=SECONDS)
        assert vect.result("a") == vect.id
        assert vect.steps["a"].log_text == f"INFO {vect.id}\n"


def test_an_upstream_that_is_none_cannot_be_asked_for(inline: OAutom) -> None:
    flow = Flow("f", inline)
    flow_step(flow, "extract")
    flow_step(flow, "load") >> PythonExecution(
        "report", flow, lambda context: context.inputs["extract"]
    )

    vect = inline.run(flow)

    assert vect.state == "failed"
    error = vect.steps["report"].error
    assert error is not None
    assert "'report'" in error
    assert "'extract'" in error
    assert "depends()" in error


def test_arguments_that_do_not_fit_are_told_before_the_run(inline: OAutom) -> None:
    with pytest.raises(FlowError, match="missing a required argument: 'word'"):
        PythonExecution("a", Flow("f", inline), lambda word, context: word)
