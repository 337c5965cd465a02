"""Async steps, and steps that wait, where they run in worker processes."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from oautom import Flow, OAutom, OAutomMode, PythonExecution
from oautom.audit.invariants import check_history

from .conftest import until


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("worker_steps")


@pytest.fixture
def app():
    with OAutom(OAutomMode.background, executor="processes", max_workers=1) as app:
        yield app


@pytest.mark.parametrize("how", ["cancel", "timeout", "close"])
def test_one_that_is_cancelled_has_time_to_tidy_up(
    app: OAutom, steps: ModuleType, tmp_path: Path, how: str
) -> None:
    flow = Flow("f", app)
    timeout = 5 if how == "timeout" else None
    PythonExecution("a", flow, steps.sleep_and_tidy_up, (str(tmp_path),), timeout=timeout)
    vect = app.start(flow)
    until((tmp_path / "begun").exists)
    if how == "cancel":
        vect.cancel()
    elif how == "close":
        app.close()

    assert vect.wait(20) == ("failed" if how == "timeout" else "cancelled")
    assert (tmp_path / "tidied up").exists()


def test_one_that_goes_on_is_ended_with_its_worker(
    app: OAutom, steps: ModuleType, tmp_path: Path
) -> None:
    flow = Flow("f", app)
    PythonExecution("a", flow, steps.sleep_deaf, (str(tmp_path),))
    vect = app.start(flow)
    until((tmp_path / "begun").exists)
    vect.cancel()

    assert vect.wait(20) == "cancelled"


def test_a_worker_keeps_its_loop(app: OAutom, steps: ModuleType) -> None:
    flow = Flow("f", app)
    for number in range(3):
        PythonExecution(f"a{number}", flow, steps.count_loops)
    vect = app.run(flow)

    assert [vect.result(name) for name in flow.steps] == [1, 1, 1]
    check_history(app.log.read(), flow, max_workers=1)


def test_a_step_there_cannot_run_flows_of_its_app(app: OAutom, steps: ModuleType) -> None:
    flow = Flow("f", app)
    PythonExecution("a", flow, steps.run_there)
    PythonExecution("b", flow, steps.run_with_an_app_of_its_own)
    vect = app.run(flow)

    assert vect.steps["a"].error == (
        "EngineError: step 'a' of flow 'f' runs in a worker process, and its app is not there: it "
        "cannot start or await vects; use executor='threads', or a FlowExecution, which needs no "
        "worker"
    )
    assert vect.result("b") == "success"


def test_a_step_there_can_read_its_vect_but_not_wait_for_it(
    steps: ModuleType, tmp_path: Path
) -> None:
    with OAutom(executor="processes", max_workers=1, log=tmp_path / "runs.db") as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, steps.steer_there, (str(tmp_path / "runs.db"),))
        refusals = app.run(flow).result("a")

    told = "step 'a' of flow 'f' runs in a worker process, and its app is not there: "
    assert [each.startswith(told) for each in refusals] == [True, True, True], refusals


def test_neither_app_nor_vect_can_be_given_to_a_step_there(app: OAutom, steps: ModuleType) -> None:
    empty = app.run(Flow("empty", app), vect_id="v")
    flow = Flow("f", app)
    PythonExecution("a", flow, steps.take, (app,))
    PythonExecution("b", flow, steps.take, (empty,))
    vect = app.run(flow)

    assert "EngineError: an OAutom stays in its process" in (vect.steps["a"].error or "")
    assert "EngineError: vect 'v' stays in the process of its app" in (vect.steps["b"].error or "")
