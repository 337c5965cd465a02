"""Each button works as a form, and tells what came of it."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from oautom import Client, Flow, OAutom, OAutomMode, Param, PythonExecution
from oautom.web.forms import fields_of, values_of

from .conftest import Orders, Site, served, wait_for
from .test_views import seen


def test_a_run_is_paused_resumed_cancelled_and_retried(orders: Orders, steered: Site) -> None:
    client, vect = Client(orders.log), orders.start("order 4")

    def do(action: str, **more: str) -> None:
        answer = steered.post("do", action=action, id=vect, **more)
        assert (answer.status, answer.headers["location"]) == (303, "run?id=order%204")

    for action, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        assert f'value="{action}"' in steered.get("run", id=vect).text
        asked = steered.get("confirm", action=action, id=vect).text
        assert 'action="do" method="post"' in asked
        do(action, reason="wrong <day>")
        assert client.vect(vect).state == state
    assert "wrong <day>" in seen(steered.get("run", id=vect).text)
    do("retry")
    assert client.vect(vect).state == "running"


def test_a_decision_is_made_and_a_late_one_told_who_was_quicker(
    orders: Orders, steered: Site
) -> None:
    vect = orders.start("order 5")
    assert "Approve" in steered.get("step", id=vect, step="check").text
    form = {"id": vect, "step": "check", "from": "inbox"}
    nameless = steered.post("do", **form, action="approve", by=" ")
    assert (nameless.status, "your name" in nameless.text) == (400, True)
    assert steered.post("do", **form, action="approve", by="A", data="{").status == 400
    done = steered.post("do", **form, action="approve", by="Ada", data='{"n": [1]}')
    assert (done.status, done.headers["location"]) == (303, "inbox")
    assert Client(orders.log).vect(vect).result("check")["data"] == {"n": [1]}
    late = steered.post("do", **form, action="reject", by="Grace", reason="no")
    assert late.status == 409
    assert "too late, Ada has approved it" in seen(late.text)


def test_what_makes_no_sense_is_refused(steered: Site) -> None:
    assert steered.post("do", action="explode", id="order 3").status == 400
    assert steered.post("do", action="cancel", id="nobody").status == 404
    assert steered.post("do", action="retry", id="order 3").status == 409
    assert steered.post("do", action="start", flow="nothing").status == 404
    assert steered.post("do", action="start", flow="order").status == 400
    assert steered.get("confirm", action="explode", id="order 3").status == 400
    assert steered.get("start", flow="nothing").status == 404


@pytest.mark.parametrize("given", ["[1", "nothing", "[" * 100_000, "9" * 10_000])
def test_what_is_no_json_is_told(given: str) -> None:
    app = OAutom(OAutomMode.background)
    PythonExecution("do", Flow("all", app, params={"tags": list[int]}), int)
    app.run()
    with app, served(app, steer=True) as site:
        site.enter()
        started = site.post("do", {}, action="start", flow="all", **{"param.tags": given})
        decided = site.post("do", {}, action="approve", id="x", step="do", by="Ada", data=given)
        for answer in (started, decided):
            assert (answer.status, "must be JSON" in answer.text) == (400, True)


def test_a_flow_is_started_once_by_a_form_of_its_parameters(orders: Orders, steered: Site) -> None:
    text = steered.get("start", flow="order").text
    assert 'name="param.item"' in text
    new = re.findall(r'name="new_id" value="(\w+)"', text)[0]
    form = {"flow": "order", "new_id": new, "param.item": "<tea>", "param.count": " 2 "}
    for _ in range(2):  # a form that is sent twice
        answer = steered.post("do", action="start", **form)
        assert (answer.status, answer.headers["location"]) == (303, f"run?id={new}")
    assert Client(orders.log).vect(new).params == {"item": "<tea>", "count": 2}
    wrong = steered.post("do", action="start", **{**form, "new_id": "z", "param.count": "two"})
    assert (wrong.status, "count" in wrong.text) == (400, True)
    own = steered.post("do", action="start", **form, id="mine/../1")
    assert own.headers["location"] == "run?id=mine%2F..%2F1"
    orders.app.vect(new).cancel()
    orders.app.vect("mine/../1").cancel()


def test_each_type_of_parameter_has_a_field(file: str) -> None:
    from datetime import date
    from typing import Literal

    types: dict[str, Any] = {
        "text": str, "count": int, "share": float, "dry": bool, "day": date, "tags": list[str],
        "maybe": str | None, "either": int | str, "color": Literal["red", "blue"],
        "size": Param(int, 3),
    }  # fmt: skip
    with OAutom(OAutomMode.background, log=file) as app:
        PythonExecution("do", Flow("all", app, params=types), int)
        app.run()
        fields = fields_of(Client(file).engine.flows["all"].params)  # type: ignore[union-attr]
        assert [(each.name, each.kind) for each in fields] == [
            ("text", "text"), ("count", "integer"), ("share", "number"), ("dry", "boolean"),
            ("day", "text"), ("tags", "json"), ("maybe", "text"), ("either", "json"),
            ("color", "choice"), ("size", "integer"),
        ]  # fmt: skip
        given = {
            "text": "", "count": "1", "share": "0.5", "dry": "false", "day": "2026-11-24",
            "tags": '["a"]', "maybe": "", "either": '"x"', "color": '"red"', "size": "",
        }  # fmt: skip
        form = {f"param.{name}": each for name, each in given.items()}
        values = values_of(fields, form)
        assert "size" not in values
        vect = Client(file).start("all", values)
        assert Client(file).vect(vect).params == {
            "text": "", "count": 1, "share": 0.5, "dry": False, "day": "2026-11-24",
            "tags": ["a"], "maybe": None, "either": "x", "color": "red", "size": 3,
        }  # fmt: skip
        with served(file, steer=True) as site:
            site.enter()
            names = re.findall(r'name="param\.(\w+)"', site.get("start", flow="all").text)
            assert names == list(types)
            assert "any" not in unescape(site.get("start").text).partition("<main")[0]


@pytest.mark.parametrize(
    "schema",
    [{}, {"properties": []}, {"properties": {"a": 5}}, {"properties": {"a": {"$ref": "#/x/y"}}},
     {"properties": {"a": {"anyOf": [{"$ref": "#/properties/a"}]}}, "required": "a"}],
)  # fmt: skip
def test_a_schema_that_makes_no_sense_makes_a_plain_field(schema: dict[str, Any]) -> None:
    assert all(each.kind == "json" for each in fields_of(schema))


def test_an_app_of_this_process_is_steered_without_a_file() -> None:
    app = OAutom(OAutomMode.background)
    flow = Flow("here", app)
    PythonExecution("do", flow, lambda: {(1, 2): object()})
    app.run()
    with app, served(app, steer=True) as site:
        site.enter()
        started = site.post("do", action="start", flow="here", new_id="one")
        assert started.headers["location"] == "run?id=one"
        wait_for(lambda: app.vect("one").ended)
        assert "success" in seen(site.get("run", id="one").text)
        assert site.get("step", id="one", step="do").status == 200
        assert site.get("whole", id="one", step="do", what="output").status == 200
