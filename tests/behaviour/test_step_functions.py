"""`@flow.step`: functions whose calls wire the graph."""

from __future__ import annotations

import pickle
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    Context,
    DuplicateStepError,
    Flow,
    FlowError,
    FlowFrozenError,
    OAutom,
    PythonExecution,
    StepFunction,
)

from .conftest import NewApp

DAY = date(2026, 11, 24)


def test_the_example_of_the_design_runs(any_app: OAutom) -> None:
    etl = Flow("etl", app=any_app, params={"day": date}, max_active_vects=4)

    @etl.step
    def extract(day: date) -> list[int]:
        return [day.day, 18]

    @etl.step(name="sum", on_crash="fail")
    def total(rows: list[int], context: Context, *, times: int = 1) -> int:
        """Add them up."""
        assert context.step.startswith("sum")
        return sum(rows) * times

    rows = extract(etl.param("day"))
    sum_ = total(rows)
    twice = total(rows=[rows.output[0]], times=2)

    assert isinstance(extract, StepFunction)
    assert [type(step) for step in (rows, sum_, twice)] == [PythonExecution] * 3
    assert etl.graph.upstreams == {"extract": (), "sum": ("extract",), "sum_2": ("extract",)}
    assert [step.on_crash for step in etl.steps.values()] == ["rerun", "fail", "fail"]
    vect = any_app.run("etl", {"day": "2026-11-24"})
    assert [vect.result(step) for step in (rows, sum_, twice)] == [[24, 18], 42, 48]


def test_a_step_function_is_still_told_by_its_function(inline: OAutom) -> None:
    flow = Flow("f", inline)

    @flow.step
    def work(rows: list[int]) -> int:
        """Do the work."""
        return len(rows)

    assert work.function([1, 2]) == 2
    assert (work.__name__, work.__doc__, work.__wrapped__) == (
        "work",
        "Do the work.",
        work.function,
    )
    assert (work.name, work.flow, work.calls) == ("work", flow, 0)
    assert repr(work) == "<StepFunction 'work' of flow 'f'>"
    work([1])
    assert work.calls == 1


def test_a_function_that_is_never_called_is_an_error_before_the_first_start(
    inline: OAutom,
) -> None:
    flow = Flow("f", inline)

    @flow.step(name="the work")
    def work() -> None:
        """Do nothing."""

    told = r"flow 'f': step function 'the work' is never called.*; call it, the work\(\.\.\.\), or"
    for refuse in (flow.validate, lambda: inline.start(flow)):
        with pytest.raises(FlowError, match=told) as refused:
            refuse()
        assert (refused.value.flow, refused.value.step) == ("f", "the work")
    work()
    assert inline.run(flow).state == "success"


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((), {}, "missing a required argument: 'rows'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"more": 2}, "got an unexpected keyword argument 'more'"),
    ],
)
def test_a_wrong_call_is_refused_at_once_with_the_signature(
    inline: OAutom, args: Any, kwargs: Any, told: str
) -> None:
    flow = Flow("f", inline)

    @flow.step
    def work(rows, *, times=1):
        return rows

    with pytest.raises(FlowError, match=rf"'work' .*: work\(rows, \*, times=1\) cannot .*: {told}"):
        work(*args, **kwargs)
    assert (work.calls, list(flow.steps)) == (0, [])
    assert work(1).name == "work"


def test_names_must_not_be_taken(inline: OAutom) -> None:
    flow = Flow("f", inline)
    work = flow.step(name="a")(lambda: 1)
    PythonExecution("a_2", flow, print)

    assert work().name == "a"
    with pytest.raises(DuplicateStepError, match="'a_2'"):
        work()
    with pytest.raises(FlowError, match="step name must be text"):
        flow.step(name=3)(print)()  # type: ignore[arg-type]


def test_what_is_no_function_is_refused(inline: OAutom) -> None:
    flow = Flow("f", inline)
    work = flow.step(lambda: 1)

    for wrong in ("name", 3, work):
        with pytest.raises(FlowError, match=r"@flow.step must decorate a function, not .*; give"):
            flow.step(wrong)  # type: ignore[call-overload]


def test_anything_that_can_be_called_may_be_a_step(inline: OAutom) -> None:
    flow = Flow("f", inline)
    add = flow.step(name="add")(partial(pow, 2))
    shout = flow.step(str.upper)

    took = shout(PythonExecution("word", flow, lambda: "x"))
    added = add(3)
    vect = inline.run(flow)
    assert (vect.result(added), vect.result(took), took.name) == (8, "X", "upper")


def test_a_step_function_is_taken_for_its_function_by_a_python_execution(inline: OAutom) -> None:
    flow = Flow("f", inline)
    work = flow.step(lambda rows: len(rows))
    one = PythonExecution("one", flow, work, [[1, 2]])
    work([])

    assert one.function is work.function
    assert inline.run(flow).result(one) == 2


def test_a_frozen_flow_takes_no_step_functions(inline: OAutom) -> None:
    flow = Flow("f", inline)
    work = flow.step(lambda: 1)
    work()
    inline.run(flow)

    with pytest.raises(FlowFrozenError):
        flow.step(lambda: 2)
    with pytest.raises(FlowFrozenError):
        work()


def test_a_vect_of_a_flow_that_is_not_whole_any_more_holds_up_no_other(
    new_app: NewApp, tmp_path: Path
) -> None:
    with new_app(log=tmp_path / "runs.db", executor="inline") as app:
        for name in ("one", "two"):
            PythonExecution("a", Flow(name, app), lambda: 1)
            app.start(name, vect_id=name)
        app.vect("one")._engine._scheduler.catch_up()  # type: ignore[attr-defined] # both are begun

    app = new_app(log=tmp_path / "runs.db", executor="inline")
    for name in ("one", "two"):
        PythonExecution("a", Flow(name, app), lambda: 1)

    @app._flows["one"].step
    def forgotten() -> None:
        """Do nothing."""

    told = "flow 'one': step function 'forgotten' is never called"
    with pytest.raises(FlowError, match=told):
        app.recover()
    with pytest.raises(FlowError, match=told):
        app.start("one")
    assert app.vect("two").wait() == "success"
    with pytest.raises(FlowError, match=told):
        app.vect("one").wait()


def test_a_function_inside_another_cannot_be_sent_and_says_so(inline: OAutom) -> None:
    flow = Flow("f", inline)

    @flow.step
    def work() -> None:
        """Do nothing."""

    with pytest.raises((pickle.PicklingError, AttributeError), match="work"):
        pickle.dumps(work())
    with pytest.raises((pickle.PicklingError, AttributeError), match="work"):
        pickle.dumps(work)
