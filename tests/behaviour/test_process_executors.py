"""Steps in other processes: those of oautom, and a `ProcessPoolExecutor` of the user's."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oautom import (
    BashExecution,
    EngineError,
    Flow,
    OAutom,
    OAutomMode,
    PythonExecution,
    StepFailedError,
)
from oautom.testing import check_history

from .conftest import told


@pytest.fixture(scope="module")
def functions() -> Iterator[ModuleType]:
    """The module of functions under a name that a worker can import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        yield importlib.import_module("worker_functions")


@pytest.fixture(scope="module", params=["processes", "user's"])
def app(request: pytest.FixtureRequest, functions: ModuleType) -> Iterator[OAutom]:
    """One app for all tests: to spawn a process takes its time."""
    if request.param == "processes":
        with OAutom(OAutomMode.background, executor="processes", max_workers=2) as app:
            yield app
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool, OAutom(executor=pool) as app:
        yield app


@pytest.fixture
def flow(app: OAutom) -> Flow:
    return Flow(f"flow {len(app.flows())}", app)


def goes_on(app: OAutom, functions: ModuleType) -> bool:
    flow = Flow(f"flow {len(app.flows())}", app)
    PythonExecution("good", flow, functions.seven)
    return app.run(flow).result("good") == 7


def test_a_step_runs_in_another_process(app: OAutom, flow: Flow, functions: ModuleType) -> None:
    PythonExecution("a", flow, functions.pid)

    assert app.run(flow).result("a") != os.getpid()


def test_context_inputs_log_and_progress_come_along(
    app: OAutom, flow: Flow, functions: ModuleType
) -> None:
    seven, eight = (PythonExecution(n, flow, functions.seven) for n in ("seven", "seven again"))
    [seven, eight] >> PythonExecution("sum", flow, functions.add_inputs)

    vect = app.run(flow)

    assert vect.result("sum") == (14, 1)
    assert vect.steps["sum"].log_text == (
        f"INFO adding sum in {vect.id} of {flow.name}\nINFO 100 % done\n"
    )
    assert told(vect.events())[-1] == "vect.succeeded"


def test_an_async_function_is_a_step_there_too(
    app: OAutom, flow: Flow, functions: ModuleType
) -> None:
    PythonExecution("a", flow, functions.later)

    assert app.run(flow).result("a") == "later"


def test_a_command_stays_a_child_of_this_process(app: OAutom, flow: Flow) -> None:
    BashExecution("a", flow, "echo $PPID")

    assert app.run(flow).result("a") == str(os.getpid())


def test_a_command_over_there_runs_as_its_vect_began(app: OAutom, flow: Flow) -> None:
    BashExecution("strict", flow, "false; echo $PPID", place="worker")
    BashExecution("loose", flow, "false; echo $PPID", strict=False, place="worker")
    vect = app.run(flow)

    assert vect.steps["strict"].error == "the command exited with code 1"
    assert vect.result("loose") != str(os.getpid())


WORST = {
    "an exception": ("log_and_fail", (), "ValueError: mine", ValueError),
    "SystemExit": ("raise_", (SystemExit(3),), "SystemExit: 3", SystemExit),
    "KeyboardInterrupt": ("raise_", (KeyboardInterrupt(),), "KeyboardInterrupt", KeyboardInterrupt),
    "GeneratorExit": ("raise_", (GeneratorExit(),), "GeneratorExit", GeneratorExit),
    "recursion": ("endless", (), "RecursionError: maximum recursion", RecursionError),
    "an error that cannot be packed": ("raise_unpicklable", (), "UnpicklableError: mine", None),
    "an error that cannot be unpacked": (
        "raise_many_arguments",
        (),
        "ManyArgumentsError: one and two",
        None,
    ),
    "an error that cannot be printed": (
        "raise_unprintable",
        (),
        "UnprintableError: (its message cannot be printed: SystemExit)",
        "UnprintableError",
    ),
    "an output that cannot be packed": (
        "give_lambda",
        (),
        "the output cannot be sent to the main process: ",
        None,
    ),
}


@pytest.mark.parametrize(("name", "args", "error", "cause"), WORST.values(), ids=WORST)
def test_whatever_a_step_does_there_only_that_step_fails(
    app: OAutom, flow: Flow, functions: ModuleType, name: str, args: Any, error: str, cause: Any
) -> None:
    bad = PythonExecution("bad", flow, getattr(functions, name), args)
    bad >> PythonExecution("after", flow, functions.seven)
    PythonExecution("beside", flow, functions.seven)

    vect = app.run(flow)

    assert [step.state for step in vect.steps.values()] == [
        "failed",
        "upstream_failed",
        "success",
    ]
    assert vect.steps["bad"].error is not None
    assert vect.steps["bad"].error.startswith(error)
    with pytest.raises(StepFailedError) as caught:
        vect.result("bad")
    if cause is None:
        assert caught.value.__cause__ is None
    else:
        assert type(caught.value.__cause__).__name__ == getattr(cause, "__name__", cause)
    (failed,) = (event for event in vect.events() if event.name == "step.failed")
    assert failed.data["traceback"]
    assert goes_on(app, functions)


def test_the_log_of_a_step_that_fails_there_is_kept(
    app: OAutom, flow: Flow, functions: ModuleType
) -> None:
    PythonExecution("a", flow, functions.log_and_fail)

    assert app.run(flow).steps["a"].log_text == "WARNING about to fail\n"


def test_an_output_that_cannot_be_unpacked_here_fails_its_step(
    app: OAutom, flow: Flow, functions: ModuleType
) -> None:
    PythonExecution("bad", flow, functions.give_bomb)
    PythonExecution("beside", flow, functions.seven)

    vect = app.run(flow)

    assert [step.state for step in vect.steps.values()] == ["failed", "success"]
    assert "SystemExit: unpacked" in str(vect.steps["bad"].error)
    assert goes_on(app, functions)


def test_an_argument_that_cannot_be_unpacked_there_fails_its_step(
    app: OAutom, flow: Flow, functions: ModuleType
) -> None:
    PythonExecution("bad", flow, functions.take, (functions.Bomb(),))

    vect = app.run(flow)

    assert "SystemExit: unpacked" in str(vect.steps["bad"].error)
    assert goes_on(app, functions)


def test_a_function_that_cannot_be_sent_fails_its_step_and_says_why(
    app: OAutom, flow: Flow, functions: ModuleType
) -> None:
    PythonExecution("bad", flow, functions.take, (threading.Lock(),))
    PythonExecution("beside", flow, functions.seven)

    vect = app.run(flow)

    assert [step.state for step in vect.steps.values()] == ["failed", "success"]
    error = str(vect.steps["bad"].error)
    assert "pickle" in error
    assert "cannot be sent to another process" in error  # what oautom wanted with a pickle
    assert goes_on(app, functions)


def test_a_worker_that_leaves_fails_its_own_step_and_the_app_goes_on(
    functions: ModuleType,
) -> None:
    with OAutom(executor="processes", max_workers=2) as app:
        flow = Flow("f", app)
        PythonExecution("bad", flow, functions.leave, (3,))
        PythonExecution("beside", flow, functions.seven)

        vect = app.run(flow)

        assert [step.state for step in vect.steps.values()] == ["failed", "success"]
        assert vect.steps["bad"].error is not None
        assert "exited with code 3" in vect.steps["bad"].error
        assert goes_on(app, functions)


def test_a_pool_of_the_user_s_that_breaks_fails_no_step_and_its_vects_stay_open(
    functions: ModuleType, tmp_path: Path
) -> None:
    spawn = multiprocessing.get_context("spawn")
    path = tmp_path / "runs.db"
    with ProcessPoolExecutor(1, mp_context=spawn) as pool, OAutom(executor=pool, log=path) as app:
        flow = Flow("f", app)
        PythonExecution("bad", flow, functions.leave_unless, (tmp_path / "sign",))

        with pytest.raises(EngineError) as caught:
            app.run(flow, vect_id="v")

        assert str(caught.value) == (
            "the engine was stopped (the ProcessPoolExecutor is broken: A process in the process "
            "pool was terminated abruptly while the future was running or pending; give "
            "OAutom(executor=...) a function that makes such an executor: it is called for another "
            "one); vect 'v' is open in its log, and goes on when the program is run again"
        )
        names = [event.name for event in app.log.read(vect="v")]
        assert names == ["vect.created", "vect.started", "step.started", "step.interrupted"]
    (tmp_path / "sign").touch()
    with OAutom(executor="inline", log=path) as app:
        flow = Flow("f", app)
        PythonExecution("bad", flow, functions.leave_unless, (tmp_path / "sign",))
        assert app.run(flow, vect_id="v").result("bad") == "stayed"
        check_history(app.log.read(), flow)


def test_another_pool_is_made_for_one_that_breaks(functions: ModuleType) -> None:
    made: list[ProcessPoolExecutor] = []

    def make() -> ProcessPoolExecutor:
        made.append(ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver")))
        return made[-1]

    with OAutom(executor=make, max_workers=2) as app:
        flow = Flow("f", app)
        PythonExecution("bad", flow, functions.leave, (3,))
        PythonExecution("beside", flow, functions.seven)
        assert not made

        vect = app.run(flow)

        assert vect.steps["bad"].state == "failed"
        # Who notices first: the pool, or the line to the worker.
        assert re.match(
            "10 workers in a row were lost with the work of step 'bad', the last one: (the "
            "ProcessPoolExecutor is broken: A process in the process pool was terminated abruptly|"
            "its worker process has ended;)",
            str(vect.steps["bad"].error),
        )
        assert vect.result("beside") == 7
        assert len(made) >= 10
        check_history(vect.events(), flow)
        last = made[-1]
    with pytest.raises(RuntimeError):  # it was shut down with the app
        last.submit(functions.seven)


def test_an_executor_of_the_user_s_that_is_shut_down_fails_the_steps_and_no_app(
    functions: ModuleType,
) -> None:
    pool = ProcessPoolExecutor(1)
    pool.shutdown()
    with OAutom(executor=pool) as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, functions.seven)

        vect = app.run(flow)

        assert vect.steps["a"].error == ("RuntimeError: cannot schedule new futures after shutdown")


def test_a_close_does_not_shut_the_user_s_executor_down(functions: ModuleType) -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        with OAutom(executor=pool) as app:
            flow = Flow("f", app)
            PythonExecution("a", flow, functions.seven)
            app.run(flow)

        assert pool.submit(functions.seven).result() == 7
