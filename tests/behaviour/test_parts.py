"""A Vect that is a part of its flow: some steps, what these wait for, and no other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    BranchExecution,
    Flow,
    FlowError,
    MapExecution,
    OAutom,
    PythonExecution,
    SettingError,
    UnknownStepError,
    Vect,
)
from oautom.events import replay
from oautom.testing import assert_replays, check_history

from .conftest import SECONDS


def check(app: OAutom, vect: Vect) -> None:
    events = list(app.log.read())
    check_history(events, vect.flow)
    check_history(events)
    assert_replays(vect.events(), vect.flow)
    assert set(replay(events)[vect.id].steps) == set(vect.steps)


@pytest.fixture
def app(new_app: Any) -> OAutom:
    made: OAutom = new_app()
    return made


def build(app: OAutom, ran: list[str] | None = None, fails: tuple[str, ...] = ()) -> Flow:
    """`fetch`, then `compile` and `lint`; `package` behind `compile`, `upload` behind all."""
    flow = Flow("build", app)

    def step(name: str, **options: Any) -> PythonExecution:
        def work() -> str:
            if ran is not None:
                ran.append(name)
            if name in fails:
                raise ValueError(name)
            return name

        return PythonExecution(name, flow, work, **options)

    fetch, lint, compile_it = step("fetch"), step("lint"), step("compile")
    fetch >> [compile_it, lint]
    package = step("package")
    compile_it >> package
    upload = step("upload")
    upload.depends(package, lint)
    step("sweep", teardown=True).depends(fetch, compile_it)
    step("log-out", teardown=True).depends(fetch, upload)
    return flow


@pytest.mark.parametrize(
    ("until", "steps"),
    [
        ("fetch", "fetch"),
        (["package"], "fetch compile package sweep"),
        (["package", "lint"], "fetch compile package lint sweep"),
        (("upload",), "fetch compile package lint upload sweep log-out"),
        ({"sweep"}, "fetch compile sweep"),
    ],
    ids=str,
)
def test_it_has_the_steps_and_what_they_wait_for(mode_app: OAutom, until: Any, steps: str) -> None:
    ran: list[str] = []
    vect = mode_app.start(build(mode_app, ran), until=until)
    assert vect.wait(SECONDS) == "success"
    assert set(ran) == set(vect.steps) == {each["name"] for each in vect.status()["executions"]}
    assert set(ran) == set(steps.split())
    assert {step.state for step in vect.steps.values()} == {"success"}
    check(mode_app, vect)


def test_steps_themselves_name_it_too(app: OAutom) -> None:
    flow = build(app)
    assert set(app.run(flow, until=flow.steps["compile"]).steps) == {"fetch", "compile", "sweep"}
    vect = asyncio.run(app.astart(flow, until=[flow.steps["fetch"]]))
    assert list(vect.steps) == ["fetch"]
    vect.cancel()


@pytest.mark.parametrize(
    ("until", "error", "message"),
    [
        ("pakage", UnknownStepError, "did you mean 'package'"),
        (["fetch", 3], UnknownStepError, "3"),
        ([], SettingError, "until must name at least one step"),
        (3, SettingError, "until must be a step, the name of one, or several, not 3"),
    ],
)
def test_what_is_no_step_is_refused(
    app: OAutom, until: Any, error: type[Exception], message: str
) -> None:
    flow = build(app)
    with pytest.raises(error, match=message):
        app.start(flow, until=until)
    other = PythonExecution("fetch", Flow("other", app), print)
    with pytest.raises(UnknownStepError):
        app.start(flow, until=other)
    assert app.vects() == []
    with pytest.raises(SettingError, match="needs a flow to run"):
        app.run(until="a")  # type: ignore[call-overload]


def test_the_same_id_is_the_same_part(app: OAutom) -> None:
    flow = build(app)
    vect = app.run(flow, vect_id="one", until=["fetch", "lint"])
    assert app.start(flow, vect_id="one") is app.start(flow, vect_id="one", until=["lint", "fetch"])
    assert vect is app.start(flow, vect_id="one")
    with pytest.raises(FlowError, match="vect 'one' of flow 'build' ends with 'fetch', 'lint'"):
        app.start(flow, vect_id="one", until="fetch")
    whole = app.run(flow, vect_id="whole")
    with pytest.raises(FlowError, match="'whole' of flow 'build' is a run of the whole flow, not"):
        app.start(flow, vect_id="whole", until="fetch")
    assert whole.state == "success"


def test_a_retry_and_another_program_go_on_with_the_part(tmp_path: Path) -> None:
    ran: list[str] = []
    with OAutom(log=tmp_path / "runs.db", executor="inline") as app:
        vect = app.run(build(app, ran, fails=("compile",)), vect_id="one", until="package")
        assert vect.state == "failed"
        assert vect.steps["package"].state == "upstream_failed"
        app.start(app.flow("build"), vect_id="two", until=["lint"])  # it has not begun
    ran.clear()
    with OAutom(log=tmp_path / "runs.db", executor="inline") as app:
        build(app, ran)
        (two,) = app.recover()
        assert two.wait(SECONDS) == "success"
        assert ran == ["fetch", "lint"]
        one = app.vect("one")
        one.retry()
        assert one.wait(SECONDS) == "success"
        assert {*ran} == {"fetch", "lint", "compile", "package", "sweep"}
        check(app, one)
        check(app, two)


def test_only_its_own_steps_have_to_be_as_they_were(tmp_path: Path) -> None:
    with OAutom(log=tmp_path / "runs.db", executor="inline") as app:
        app.start(build(app), vect_id="one", until="package")
    with OAutom(log=tmp_path / "runs.db", executor="inline") as app:
        flow = build(app)
        PythonExecution("announce", flow, print).depends(flow.steps["upload"])
        assert [vect.id for vect in app.recover()] == ["one"]
        assert app.vect("one").wait(SECONDS) == "success"
        app.start(flow, vect_id="two", until="package")
    with OAutom(log=tmp_path / "runs.db", executor="inline") as app:
        flow = build(app)
        flow.steps["package"].depends(flow.steps["lint"])
        assert app.recover() == []
        assert "'package' now waits for 'lint'" in app.vect("two").status()["stranded"]


def test_a_branch_and_a_map_are_part_of_it(app: OAutom) -> None:
    flow = Flow("flow", app)
    branch = BranchExecution("choose", flow, lambda: "right")
    left, right = (PythonExecution(name, flow, lambda: [1, 2]) for name in ("left", "right"))
    branch >> [left, right]
    each = MapExecution("each", flow, print, over=right)
    each >> PythonExecution("end", flow, print)
    vect = app.run(flow, until="each")
    assert vect.state == "success"
    assert set(vect.steps) == {"choose", "right", "each", "each[0]", "each[1]"}
    vect = app.run(flow, until="left")  # what it chooses is no part of it
    assert (vect.state, vect.steps["left"].state) == ("success", "skipped")
    check(app, vect)
