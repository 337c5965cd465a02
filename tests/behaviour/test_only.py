"""A Vect in which one step runs alone, with the outputs of a past Vect, or with given ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from oautom import (
    ApprovalExecution,
    BashExecution,
    BranchExecution,
    Client,
    Flow,
    FlowError,
    FlowExecution,
    MapExecution,
    OAutom,
    OAutomMode,
    ParamError,
    PythonExecution,
    RetryPolicy,
    SettingError,
    TriggerRule,
    UnknownStepError,
    UnknownVectError,
    Vect,
    WaitExecution,
)
from oautom.testing import assert_replays, check_history, flows, simulate
from tests.property.cases import few

from .conftest import SECONDS


def check(app: OAutom, flow: Flow) -> None:
    events = list(app.log.read())
    check_history(events)
    check_history(events, flow)
    assert_replays(events, flow)


@pytest.fixture(params=["memory", "file"])
def app(request: Any, tmp_path: Path, new_app: Any) -> OAutom:
    made: OAutom = new_app(log=tmp_path / "runs.db" if request.param == "file" else None)
    return made


class Etl:
    """`extract`, then `total` of its rows; `report` behind both, whatever becomes of them."""

    def __init__(self, app: OAutom) -> None:
        self.ran: list[str] = []
        self.fails: set[str] = set()
        self.flow = flow = Flow("etl", app, params={"day": date, "factor": int})
        rows = flow.step(self.extract, name="extract")(flow.param("day"))
        total = flow.step(self.total, name="total")(rows, flow.param("factor"))
        report = flow.step(self.report, name="report", trigger_rule=TriggerRule.ALL_DONE)()
        report.depends(total, rows)

    def extract(self, day: date) -> list[int]:
        self._run("extract")
        return [1, 2, day.day]

    def total(self, rows: list[int], factor: int) -> int:
        self._run("total")
        return sum(rows) * factor

    def report(self, context: Any) -> dict[str, Any]:
        self._run("report")
        return dict(context.inputs)

    def _run(self, step: str) -> None:
        self.ran.append(step)
        if step in self.fails:
            raise ValueError(step)


PARAMS = {"day": "2026-11-24", "factor": 10}


def test_a_step_runs_alone_with_the_inputs_of_a_past_vect(mode_app: OAutom) -> None:
    etl = Etl(mode_app)
    past = mode_app.run("etl", PARAMS, vect_id="past")
    etl.ran.clear()
    vect = mode_app.run("etl", only="total", given=past)
    assert (vect.state, vect.result("total"), etl.ran) == ("success", 270, ["total"])
    assert vect.params == past.params
    assert list(vect.steps) == ["extract", "total"]
    assert vect.steps["extract"].output == [1, 2, 24]
    assert vect.explain("extract") == "`extract` was given the output that it had in vect `past`"
    check(mode_app, etl.flow)


@pytest.mark.parametrize("how", ["id", "vect", "step", "start", "astart"])
def test_it_is_asked_for_in_many_ways(app: OAutom, how: str) -> None:
    etl = Etl(app)
    past = app.run("etl", PARAMS, vect_id="past")
    match how:
        case "id":
            vect = app.run("etl", only="total", given="past")
        case "vect":
            vect = app.run(etl.flow, only="total", given=past)
        case "step":
            vect = app.run("etl", only=etl.flow.steps["total"], given=past)
        case "start":
            vect = app.start("etl", only="total", given=past)
        case _:
            vect = asyncio.run(app.astart("etl", only="total", given=past))
    assert vect.wait(SECONDS) == "success"
    assert vect.result("total") == 270
    check(app, etl.flow)


def test_other_parameters_stand_beside_those_of_the_past(app: OAutom) -> None:
    Etl(app)
    past = app.run("etl", PARAMS)
    vect = app.run("etl", {"factor": 2}, only="total", given=past)
    assert (vect.params["factor"], vect.result("total")) == (2, 54)
    assert vect.params["day"] == date(2026, 11, 24)
    with pytest.raises(ParamError, match="factor"):
        app.run("etl", {"factor": "two"}, only="total", given=past)


def test_outputs_may_be_handed_over(app: OAutom) -> None:
    etl = Etl(app)
    vect = app.run("etl", PARAMS, only="total", given={"extract": [5]})
    assert vect.result("total") == 50
    assert vect.explain("extract") == "`extract` was given its output"
    by_step = {etl.flow.steps["extract"]: [6]}
    assert app.run("etl", PARAMS, only="total", given=by_step).result("total") == 60
    assert app.run("etl", PARAMS, only="extract").result("extract") == [1, 2, 24]
    check(app, etl.flow)


def test_what_was_given_changes_nothing_of_the_past(app: OAutom) -> None:
    flow = Flow("flow", app)
    numbers = PythonExecution("numbers", flow, lambda: [1])

    def spoil(rows: list[int]) -> int:
        rows.append(9)
        return len(rows)

    PythonExecution("spoil", flow, spoil, args=(numbers.output,))
    past = app.run("flow")
    for _ in range(2):
        assert app.run("flow", only="spoil", given=past).result("spoil") == 2


def test_upstreams_without_an_output_that_is_taken_are_left_out(app: OAutom) -> None:
    etl = Etl(app)
    etl.fails = {"total"}
    past = app.run("etl", PARAMS)
    assert (past.state, past.result("report")) == ("failed", {"extract": [1, 2, 24]})
    vect = app.run("etl", only="report", given=past)
    assert (vect.state, vect.result("report")) == ("success", {"extract": [1, 2, 24]})
    assert list(vect.steps) == ["extract", "report"]
    check(app, etl.flow)


@pytest.mark.parametrize("rule", TriggerRule)
def test_no_trigger_rule_keeps_it_from_running(app: OAutom, rule: TriggerRule) -> None:
    flow = Flow("flow", app)
    PythonExecution("a", flow, int) >> PythonExecution("b", flow, int, trigger_rule=rule)
    vect = app.run("flow", only="b", given={"a": 1})
    assert (vect.state, vect.result("b")) == ("success", 0)
    check(app, flow)


def test_a_teardown_runs_alone_as_any_step(app: OAutom) -> None:
    flow = Flow("flow", app)
    a = PythonExecution("a", flow, int)
    a >> PythonExecution("sweep", flow, int, teardown=True, teardown_of=[a])
    assert app.run("flow", only="sweep").steps["sweep"].state == "success"
    assert app.run("flow", only="sweep", given={"a": 3}).steps["sweep"].state == "success"
    check(app, flow)


def test_every_kind_of_step_runs_alone(app: OAutom) -> None:
    flow = Flow("flow", app)
    inner = Flow("inner", app, params={"n": int})
    PythonExecution("n", inner, lambda context: context.params["n"])
    rows = PythonExecution("rows", flow, lambda: [1, 2])
    MapExecution("map", flow, str, rows)
    BashExecution("bash", flow, "echo $N", env={"N": rows.output[1]})
    FlowExecution("child", flow, "inner", params={"n": rows.output[0]})
    branch = BranchExecution("branch", flow, lambda _: "left", args=(rows.output,))
    for side in ("left", "right"):
        branch >> PythonExecution(side, flow, int)
    WaitExecution("wait", flow, seconds=0).depends(rows)
    ApprovalExecution("ask", flow, "?", timeout=0.01).depends(rows)
    outputs = {"map": ["1", "2"], "bash": "2", "branch": ["left"], "wait": None}
    for step in flow.steps:
        given = {"rows": [1, 2]} if "rows" in flow.graph.upstreams[step] else {"branch": ["left"]}
        vect = app.run("flow", only=step, given=None if step == "rows" else given)
        assert vect.state == ("failed" if step == "ask" else "success"), step
        if step in outputs:
            assert vect.result(step) == outputs[step]
    check(app, flow)


def test_a_step_alone_is_tried_again_and_retried(app: OAutom) -> None:
    flow, calls = Flow("flow", app), list[int]()

    def work(n: int) -> int:
        calls.append(n)
        if len(calls) < 4:
            raise ValueError(len(calls))
        return n

    first = PythonExecution("first", flow, int)
    retry = RetryPolicy(max_attempts=2, delay=0.001)
    PythonExecution("work", flow, work, args=(first.output,), retry=retry)
    vect = app.run("flow", only="work", given={"first": 7})
    assert (vect.state, vect.steps["work"].attempt) == ("failed", 2)
    vect.retry()
    assert (vect.wait(SECONDS), vect.result("work"), calls) == ("success", 7, [7] * 4)
    assert vect.steps["first"].attempt == 1
    check(app, flow)


def test_a_step_alone_is_simulated_like_the_past(app: OAutom) -> None:
    etl = Etl(app)
    vect = app.run("etl", PARAMS, only="total", given={"extract": [5]})
    simulated = simulate(etl.flow, like=vect)
    assert simulated.result("extract") == [5]
    assert simulated.result("total") == 50


# What cannot be


def wrong(call: Callable[[], object], error: type[Exception], *parts: str) -> None:
    with pytest.raises(error) as raised:
        call()
    assert [part for part in parts if part not in str(raised.value)] == [], raised.value


@pytest.mark.parametrize(
    ("how", "error", "parts"),
    [
        ({"only": "totl"}, UnknownStepError, ["did you mean 'total'"]),
        ({"only": "map[0]"}, FlowError, ["'map[0]' is an item of map 'map'", "name the map"]),
        ({"only": "map[0]", "given": "past"}, FlowError, ["is an item of map 'map'"]),
        ({"until": "map[0]"}, FlowError, ["is an item of map 'map'"]),
        ({"only": 3}, SettingError, ["only must be a step, or the name of one, not 3"]),
        ({"only": ["total"]}, SettingError, ["only must be a step"]),
        ({"only": "total", "until": "total"}, SettingError, ["exclude each other"]),
        ({"given": "past"}, SettingError, ["given needs only="]),
        ({"only": "total", "given": 3}, SettingError, ["given must be outputs"]),
        ({"only": "total", "given": "pst"}, UnknownVectError, ["no vect 'pst'"]),
        ({"only": "total", "given": "alien"}, FlowError, ["one of flow 'other'", "'etl'"]),
        (
            {"only": "total"},
            FlowError,
            ["step 'total' takes the output of 'extract', and none is given", "given={'extract':"],
        ),
        ({"only": "total", "given": {"report": 1}}, FlowError, ["does not wait for 'report'"]),
        ({"only": "total", "given": {"extrct": 1}}, UnknownStepError, ["mean 'extract'"]),
        ({"only": "total", "given": {"extract": "x"}}, FlowError, ["given['extract'] is 'x'"]),
        (
            {"only": "total", "given": "failed"},
            FlowError,
            ["takes the output of 'extract', and in vect 'failed' it is 'failed'"],
        ),
        ({"only": "map", "given": "alone"}, FlowError, ["in vect 'alone' there is no such step"]),
    ],
    ids=str,
)
def test_what_cannot_be_is_told_and_nothing_begins(
    app: OAutom, how: dict[str, Any], error: type[Exception], parts: list[str]
) -> None:
    etl = Etl(app)
    MapExecution("map", etl.flow, str, etl.flow.steps["extract"].output)
    PythonExecution("step", Flow("other", app), int)
    app.run("etl", PARAMS, vect_id="past")
    app.run("other", vect_id="alien")
    app.run("etl", PARAMS, only="report", vect_id="alone")
    etl.fails = {"extract"}
    app.run("etl", PARAMS, vect_id="failed")
    wrong(lambda: app.start("etl", PARAMS, **how), error, *parts)
    assert len(app.vects()) == 4


def test_a_step_that_runs_still_has_no_output(app: OAutom) -> None:
    flow = Flow("flow", app, max_active_vects=2)
    ask = ApprovalExecution("ask", flow, "?")
    PythonExecution("use", flow, str, args=(ask.output,))
    past = app.start("flow", vect_id="past")
    with pytest.raises(TimeoutError):
        past.wait(0.05)
    wrong(lambda: app.run("flow", only="use", given=past), FlowError, "it is running still")
    past.cancel()
    wrong(lambda: app.run("flow", only="use", given=past), FlowError, "it is 'cancelled'")


def test_the_same_id_is_the_same_step(app: OAutom) -> None:
    Etl(app)
    past = app.run("etl", PARAMS)
    vect = app.run("etl", only="total", given=past, vect_id="v")
    assert app.run("etl", only="total", given=past, vect_id="v") is vect
    assert app.start("etl", vect_id="v") is vect
    wrong(
        lambda: app.start("etl", only="report", given=past, vect_id="v"),
        FlowError,
        "is a run of 'total' alone, not one of 'report' alone",
    )
    wrong(lambda: app.start("etl", until="report", vect_id="v"), FlowError, "not with 'report'")
    wrong(
        lambda: app.start("etl", only="total", given=past, vect_id=past.id),
        FlowError,
        "is a run of the whole flow, not one of 'total' alone",
    )
    wrong(lambda: app.run(only="total"), SettingError, "needs a flow to run")  # type: ignore[call-overload]


# Other programs


@dataclass
class Row:
    n: int


def declare(log: Path, output: type, *, more: bool = False) -> tuple[OAutom, Flow]:
    app = OAutom(log=log)
    flow = Flow("flow", app)

    def make() -> Any:
        return {"n": 3}

    make.__annotations__["return"] = output
    made = PythonExecution("make", flow, make)
    asked = ApprovalExecution("ask", flow, "?")
    taken: list[Any] = [made.output]
    if more:
        taken.append(PythonExecution("new", flow, int).output)
    PythonExecution("use", flow, lambda *rows: str(rows), args=tuple(taken)).depends(asked)
    return app, flow


def test_an_output_that_is_no_longer_of_its_type_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "runs.db"
    app, _ = declare(log, dict)
    with app:
        past = app.start("flow", vect_id="past", until="make")
        assert past.wait(SECONDS) == "success"
    app, _ = declare(log, Row)
    with app:
        vect = app.run("flow", only="use", given="past")
        assert vect.result("use") == "(Row(n=3),)"
    app, _ = declare(log, int)
    with app:
        wrong(
            lambda: app.run("flow", only="use", given="past"),
            FlowError,
            "the output of step 'make'",
            "in vect 'past'",
            "does not fit its type any more",
        )


def test_a_vect_of_one_step_goes_on_in_the_next_program(tmp_path: Path) -> None:
    log = tmp_path / "runs.db"
    app, _ = declare(log, dict)
    with app:
        app.start("flow", only="ask", vect_id="v")
    app, flow = declare(log, dict)
    with app:
        vect = app.vect("v")
        assert [each.id for each in app.recover()] == ["v"]
        with pytest.raises(TimeoutError):
            vect.wait(0.02)
        vect.approve("ask", by="Ada")
        assert vect.wait(SECONDS) == "success"
        check(app, flow)


def test_a_step_that_takes_more_by_now_does_not_fit(tmp_path: Path) -> None:
    log = tmp_path / "runs.db"
    app, _ = declare(log, dict)
    with app:
        app.start("flow", only="use", given={"make": {"n": 1}}, vect_id="v")
    app, _ = declare(log, dict, more=True)
    with app:
        assert app.recover() == []
        (stranded,) = app.vects(state="stranded")
        assert "'use' now waits for 'new'" in stranded.status()["stranded"]


def test_a_client_asks_for_it_too(tmp_path: Path) -> None:
    log = tmp_path / "runs.db"
    with OAutom(OAutomMode.background, log=log) as app:
        etl = Etl(app)
        app.run()

        def check_by(client: Client) -> None:
            past = client.start("etl", PARAMS, until="total")
            assert client.wait(past, SECONDS) == "success"
            assert list(client.vect(past).steps) == ["extract", "total"]
            vect = client.start("etl", only="total", given=past)
            assert client.wait(vect, SECONDS) == "success"
            view = client.vect(vect)
            assert (view.result("total"), view.steps["extract"].kind) == (270, "given")
            told = client.start("etl", PARAMS, only="total", given={"extract": [1]})
            assert client.wait(told, SECONDS) == "success"
            wrong(lambda: client.start("etl", only="totl", given=past), UnknownStepError, "total")
            wrong(lambda: client.start("etl", PARAMS, only="total"), FlowError, "none is given")
            wrong(lambda: client.start("etl", PARAMS, until=3), SettingError, "until must be")

        for client in (Client(log), Client(app)):
            check_by(client)
        check(app, etl.flow)


# Any flow


@few
@given(flows(max_steps=5, trigger_rules=True, branches=True, forwarding=True, clean_ups=True))
def test_any_step_of_any_flow_runs_alone(flow: Flow) -> None:
    app: Any = flow.app
    past: Vect = app.run(flow)
    for name in flow.steps:
        good = {each for each in flow.graph.upstreams[name] if past.steps[each].state == "success"}
        if not good.issuperset(flow.taken_by(name)):
            wrong(lambda name=name: app.start(flow, only=name, given=past), FlowError, "takes")
            continue
        vect = app.run(flow, only=name, given=past)
        assert set(vect.steps) == {name, *good}
        assert vect.steps[name].start_date is not None
    check(app, flow)
