"""Parameters of flows: checked before anything starts, typed wherever they are asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    Context,
    EngineError,
    Flow,
    FlowChangedError,
    FlowError,
    OAutom,
    Param,
    ParamError,
    PythonExecution,
    UnknownParamError,
)
from oautom.events import replay
from oautom.events.sqlite import SqliteEventLog

from .conftest import NewApp, nothing

DAY = date(2026, 11, 24)
LISTED = "; its parameters: day: date, limit: int = 10$"


@dataclass
class Place:
    name: str
    opened: date


def declare(app: OAutom, params: Any = None, work: Any = nothing) -> Flow:
    given = {"day": date, "limit": Param(int, 10)} if params is None else params
    flow = Flow("etl", app, params=given, max_active_vects=9)
    PythonExecution("a", flow, work)
    return flow


def test_params_are_typed_for_functions_contexts_and_vects(any_app: OAutom) -> None:
    told: list[Any] = []
    flow = declare(any_app, work=lambda context: told.append(dict(context.params)))
    PythonExecution("b", flow, told.append, [flow.param("day")])
    PythonExecution("c", flow, told.append, kwargs=None, args=[{"limit": [flow.param("limit")]}])

    vect = any_app.run(flow, {"day": "2026-11-24"})

    assert vect.state == "success"
    for each in ({"day": DAY, "limit": 10}, DAY, {"limit": [10]}):
        assert each in told
    assert vect.params == {"day": DAY, "limit": 10}
    assert repr(vect.params) == "{'day': '2026-11-24', 'limit': 10}"
    assert vect.status()["params"] == {"day": "2026-11-24", "limit": 10}
    assert any_app.status("etl")["params"] == {"day": "2026-11-24", "limit": 10}


@pytest.mark.parametrize(
    ("given", "told", "param"),
    [
        ({"dya": DAY}, r"there is no parameter 'dya' \(did you mean 'day'\?\)", "dya"),
        ({"x": DAY}, "there is no parameter 'x'", "x"),
        ({}, "parameter 'day' is missing", "day"),
        (None, "parameter 'day' is missing", "day"),
        ({"day": "x"}, "parameter 'day' must be date, not 'x': Invalid", "day"),
        ({"day": DAY, "limit": "x"}, "parameter 'limit' must be int, not 'x': Expected", "limit"),
        ({"day": DAY, "limit": 1.5}, "parameter 'limit' must be int, not 1.5: Expected", "limit"),
        ([DAY], "params must be a dictionary, not ", None),
        ("day", "params must be a dictionary, not 'day'", None),
        ({3: DAY}, "there is no parameter 3", "3"),
    ],
)
def test_wrong_params_are_refused_before_anything_starts(
    inline: OAutom, given: Any, told: str, param: str | None
) -> None:
    declare(inline)

    for start in (inline.start, inline.run):
        with pytest.raises(ParamError, match=f"^flow 'etl': {told}.*{LISTED}") as refused:
            start("etl", given)
        assert (refused.value.flow, refused.value.param) == ("etl", param)
    assert inline.log.last_seq == 0
    assert inline.vects() == []
    declare_more = PythonExecution("more", inline._flows["etl"], nothing)  # it is not even frozen
    assert declare_more.name == "more"


def test_a_flow_without_params_takes_none(inline: OAutom) -> None:
    flow = Flow("plain", inline)

    with pytest.raises(ParamError, match=r"no parameter 'x'; it takes no parameters; declare them"):
        inline.run(flow, {"x": 1})
    assert inline.run(flow, {}).params == {}
    assert inline.run(flow).status()["params"] == {}


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (list[int], "[1, 2]", [1, 2]),
        (dict[str, date], '{"a": "2026-11-24"}', {"a": DAY}),
        (bool, "true", True),
        (float, "1e3", 1000.0),
        (int | None, "null", None),
        (str, "[1, 2]", "[1, 2]"),
        (Path, "/tmp/x", Path("/tmp/x")),
        (Place, '{"name": "x", "opened": "2026-11-24"}', Place("x", DAY)),
    ],
)
def test_texts_of_a_command_line_are_converted(
    inline: OAutom, annotation: Any, text: str, value: Any
) -> None:
    declare(inline, {"value": annotation})

    for given in (text, value):
        found = inline.run("etl", {"value": given}).params["value"]
        assert found == value
        assert type(found) is type(value)


def test_each_who_asks_has_a_value_of_its_own(inline: OAutom) -> None:
    flow = declare(inline, {"rows": list[int]}, lambda context: context.params["rows"].clear())
    PythonExecution("b", flow, len, [flow.param("rows")]).depends(flow.steps["a"])

    given = [1, 2]
    vect = inline.run(flow, {"rows": given})

    assert vect.result("b") == 2
    assert vect.params["rows"] is not vect.params["rows"]
    assert given == [1, 2]


@pytest.mark.parametrize("annotation", [Any, object, dict, dict[str, Any]])
def test_what_was_given_may_be_changed_afterwards(inline: OAutom, annotation: Any) -> None:
    flow = declare(
        inline, {"rows": annotation}, lambda context: context.params["rows"]["a"].append(1)
    )
    given: dict[str, Any] = {"a": []}

    vect = inline.start(flow, {"rows": given})
    given["a"].append(2)
    vect.params["rows"]["a"].append(3)

    assert vect.wait() == "success"
    assert vect.params["rows"] == vect.status()["params"]["rows"] == {"a": []}
    assert vect.events()[0].data["params"] == {"rows": {"a": []}}


def test_a_default_is_given_anew_each_time(inline: OAutom) -> None:
    flow = declare(inline, {"rows": Param(list[int], [])})
    PythonExecution("b", flow, lambda rows: rows.append(1), [flow.param("rows")])

    assert [inline.run(flow).params["rows"] for _ in range(2)] == [[], []]


def test_an_unknown_name_lists_the_params(inline: OAutom) -> None:
    flow = declare(inline, work=lambda context: context.params["dya"])

    with pytest.raises(UnknownParamError, match=f"no parameter 'dya'.*{LISTED}"):
        flow.param("dya")
    vect = inline.run(flow, {"day": DAY})
    error = vect.steps["a"].error
    assert error is not None
    assert error.startswith("UnknownParamError: flow 'etl': there is no parameter 'dya'")
    assert vect.params.get("dya") is None
    with pytest.raises(KeyError):
        vect.params["dya"]


@pytest.mark.parametrize(
    ("params", "told"),
    [
        (["day"], "params must be a dictionary from names to types, not"),
        ({"day": "date"}, "'day' must be declared with a type or a Param, not 'date'"),
        ({"day": 3}, "'day' must be declared with a type or a Param, not 3"),
        ({" ": date}, "a parameter must have a name that is text, not ' '"),
        ({"\ud800": date}, "a parameter must have a name that is text, not '.*d800'"),
        ({3: date}, "a parameter must have a name that is text, not 3"),
        ({"n": Param(int, "x")}, "'n' has a default that is no int, 'x': Expected `int`"),
        ({"n": Param(int, None)}, "'n' has a default that is no int, None: Expected `int`"),
        ({"n": Param(Any, {1})}, "'n' has a default that is no Any, \\{1\\}: .* JSON cannot keep"),
        ({"n": Param(float, float("nan"))}, "'n' has a default that is no float, nan"),
    ],
)
def test_what_cannot_be_declared_is_refused_at_once(inline: OAutom, params: Any, told: str) -> None:
    with pytest.raises(FlowError, match=f"^flow 'f': .*{told}"):
        Flow("f", inline, params=params)
    assert inline.flows() == []


def test_a_param_shows_how_it_was_declared(inline: OAutom) -> None:
    flow = declare(inline)

    assert repr(flow.params) == "<Params day: date, limit: int = 10>"
    assert repr(flow.params["limit"]) == "Param(int, 10)"
    assert repr(flow.params["day"]) == "Param(date)"
    assert [param.is_required for param in flow.params.values()] == [True, False]
    assert len(flow.params) == 2


def test_the_same_id_is_the_same_vect_unless_its_params_are_others(mode_app: OAutom) -> None:
    flow = declare(mode_app)
    vect = mode_app.start(flow, {"day": DAY, "limit": 3}, vect_id="v")
    vect.wait()

    for same in (None, {}, {"day": "2026-11-24"}, {"limit": "3"}, {"day": DAY, "limit": 3}):
        assert mode_app.start(flow, same, vect_id="v") is vect
    with pytest.raises(
        ParamError, match="vect 'v' was started with another 'limit': then 3, now 4; give"
    ) as refused:
        mode_app.run(flow, {"day": DAY, "limit": 4}, vect_id="v")
    assert refused.value.param == "limit"
    with pytest.raises(ParamError, match="no parameter 'x'"):
        mode_app.start(flow, {"x": 4}, vect_id="v")


def test_params_need_a_flow_to_run(inline: OAutom) -> None:
    with pytest.raises(ValueError, match=r"run\(\) with params, .*needs a flow"):
        inline.run(None, {"day": DAY})  # type: ignore[call-overload]


# With a durable log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def test_params_are_json_in_the_log_and_typed_in_the_next_program(
    new_app: NewApp, path: Path
) -> None:
    with new_app(log=path, executor="inline") as app:
        app.run(declare(app), {"day": DAY}, vect_id="v")

    app = new_app(log=path, executor="inline")
    flow = declare(app)
    vect = app.vect("v")
    created = vect.events()[0]

    assert created.data["params"] == {"day": "2026-11-24", "limit": 10}
    assert replay(app.log.read())["v"].params == {"day": "2026-11-24", "limit": 10}
    assert vect.params == {"day": DAY, "limit": 10}
    assert app.run(flow, {"day": DAY}, vect_id="v") is vect
    with pytest.raises(ParamError, match="started with another 'day': then '2026-11-24'"):
        app.run(flow, {"day": "2026-11-25"}, vect_id="v")


def test_params_of_an_old_vect_that_no_longer_fit_are_told_when_asked_for(
    new_app: NewApp, path: Path
) -> None:
    with new_app(log=path, executor="inline") as app:
        app.run(declare(app, {"day": date, "gone": int}), {"day": DAY, "gone": 3}, vect_id="v")

    app = new_app(log=path, executor="inline")
    declare(app, {"day": list[int], "new": int})
    vect = app.vect("v")

    assert vect.params["gone"] == 3
    with pytest.raises(
        ParamError, match="'day' was '2026-11-24', which is no longer its type: Exp"
    ):
        vect.params["day"]
    with pytest.raises(UnknownParamError, match="no parameter 'new'"):
        vect.params["new"]
    assert repr(vect.params) == "{'day': '2026-11-24', 'gone': 3}"
    assert [vect.status()["params"] for vect in app.vects()] == [{"day": "2026-11-24", "gone": 3}]


CHANGED = [
    ({"limit": int}, {"limit": 3}, "parameter 'day' is gone"),
    ({"day": date, "more": int}, {"day": DAY, "more": 3}, "parameter 'more' is new"),
    ({"day": int}, {"day": 3}, "parameter 'day' is now int, which '2026-11-24' is not: Expected"),
]


@pytest.mark.parametrize(("params", "given", "told"), CHANGED)
def test_an_open_vect_whose_params_do_not_fit_does_not_go_on(
    new_app: NewApp, path: Path, params: Any, given: Any, told: str, caplog: Any
) -> None:
    leave_open(new_app, path)

    app = new_app(log=path, executor="inline")
    flow = declare(app, params)
    assert app.recover() == []
    with pytest.raises(FlowChangedError, match=f"vect 'v' of flow 'etl' cannot go on.*{told}"):
        app.vect("v").wait()
    app.vect("v").cancel()
    assert app.vect("v").wait() == "cancelled"
    assert app.run(flow, given).state == "success"


def test_an_open_vect_goes_on_with_its_params(new_app: NewApp, path: Path) -> None:
    leave_open(new_app, path)

    app = new_app(log=path, executor="inline")
    told: list[Any] = []
    flow = declare(app, {"day": date}, lambda context: told.append(context.params["day"]))

    assert app.run(flow, vect_id="v").state == "success"
    assert told == [DAY]


def leave_open(new_app: NewApp, path: Path) -> None:
    """Have a program end with a Vect that is open in its log."""
    app = new_app(log=path, executor="inline")
    app.start(declare(app, {"day": date}, lambda context: app.close()), {"day": DAY}, vect_id="v")

    def stop(context: Context) -> None:
        app._engine._scheduler.stop_all("the test says so")

    app._flows["etl"].steps["a"].function = stop  # type: ignore[attr-defined]
    with pytest.raises(EngineError):
        app.vect("v").wait()
    app.close()


def test_params_that_are_too_large_for_the_log_are_refused_at_the_start(
    new_app: NewApp, path: Path
) -> None:
    log = SqliteEventLog(path, value_limit_bytes=100)
    app = new_app(log=log, executor="inline")
    flow = declare(app, {"text": str})

    with pytest.raises(
        ParamError, match="its parameters cannot be kept: the value takes 211 bytes"
    ):
        app.run(flow, {"text": "x" * 200})
    assert log.last_seq == 0
    assert app.run(flow, {"text": "x" * 20}).state == "success"
    app.close()
    log.close()


def test_nothing_is_logged_at_a_start_with_params(inline: OAutom, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        inline.run(declare(inline), {"day": DAY})
    assert caplog.records == []
