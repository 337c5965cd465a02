"""executor='processes': workers that come and go, with all that their steps have started."""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from oautom import Flow, OAutom, OAutomMode, PythonExecution

from .conftest import Marked, Program, until


def workers() -> list[psutil.Process]:
    """The worker processes of this program; Python's own resource tracker is none."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("worker_steps")


@pytest.fixture
def app():
    with OAutom(OAutomMode.background, executor="processes", max_workers=2) as app:
        yield app


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_the_worker_of_a_cancelled_step_ends_with_its_children(
    app: OAutom, steps: ModuleType, marked: Marked, how: str
) -> None:
    flow = Flow("flow", app)
    PythonExecution("sleeps", flow, steps.sleep_with_a_child, next(iter(marked.env.items())))
    vect = app.start(flow)
    marked.wait_for(1)
    if how == "cancel":
        vect.cancel()
        assert vect.wait(20) == "cancelled"
    else:
        app.close()
        assert vect.state == "cancelled"
    assert marked.alive() == []
    assert workers() == []


def test_a_cancelled_step_that_listens_ends_by_itself(
    app: OAutom, steps: ModuleType, tmp_path: Path
) -> None:
    flow = Flow("flow", app)
    where = PythonExecution("where", flow, steps.give, (str(tmp_path / "begun"),))
    where >> PythonExecution("listens", flow, steps.listen)
    vect = app.start(flow)
    until((tmp_path / "begun").exists)
    vect.cancel()
    vect.wait(20)
    assert vect.events()[-1].name == "step.late_result"
    assert vect.events()[-1].data["output"] == "ended by itself"
    assert "listening" in vect.steps["listens"].log_text
    assert len(workers()) == 1  # it is used again


def test_a_worker_that_dies_fails_its_own_step_only(app: OAutom, steps: ModuleType) -> None:
    flow = Flow("flow", app)
    PythonExecution("exits", flow, os._exit, (7,))
    PythonExecution("killed", flow, signal.raise_signal, (signal.SIGKILL,))
    PythonExecution("lives", flow, time.sleep, (1.5,))
    for i in range(6):
        PythonExecution(f"fine {i}", flow, steps.give, (i,))
    vect = app.start(flow)
    vect.wait(60)
    assert "exited with code 7" in (vect.steps["exits"].error or "")
    assert "ended by SIGKILL" in (vect.steps["killed"].error or "")
    assert vect.steps["lives"].state == "success"
    assert [vect.result(f"fine {i}") for i in range(6)] == list(range(6))


def test_workers_are_used_again(app: OAutom) -> None:
    flow = Flow("flow", app)
    for i in range(12):
        PythonExecution(f"step {i}", flow, os.getpid)
    vect = app.start(flow)
    vect.wait(60)
    pids = {vect.result(f"step {i}") for i in range(12)}
    assert 1 <= len(pids) <= 2
    assert os.getpid() not in pids


PROGRAM = """
import time
from oautom import *

def main():
    app = OAutom(executor="processes")
    flow = Flow("flow", app)
    PythonExecution("sleeps", flow, time.sleep, (1000,))
    vect = app.start(flow)
    try:
        vect.wait(%s)
    except TimeoutError:
        print("left", flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_program(
    program: Callable[[str], Program], marked: Marked, number: int
) -> None:
    running = program(PROGRAM % "None")
    marked.wait_for(3)  # the program, its worker, and Python's resource tracker
    running.signal(number)
    running.end()
    until(lambda: marked.alive() == [])


def test_a_program_that_leaves_its_vect_behind_ends(
    program: Callable[[str], Program], marked: Marked
) -> None:
    running = program(PROGRAM % "1")
    running.wait_for_line("left")
    assert running.end().returncode == 0
    until(lambda: marked.alive() == [])


def test_a_program_without_main_guard_is_told_so(program: Callable[[str], Program]) -> None:
    source = PROGRAM.replace('if __name__ == "__main__":\n    main()', "main()")
    done = program(source % "None").end(60)
    assert "put the code that runs flows under: if __name__ == '__main__'" in done.stderr
    assert done.returncode == 0


UNDER_GUARD = """
from oautom import Flow, OAutom, PythonExecution

if __name__ == "__main__":

    def under():
        return 1

    with OAutom(executor="processes", max_workers=1) as app:
        flow = Flow("flow", app)
        PythonExecution("a", flow, under)
        print(app.run(flow).steps["a"].error)
"""


def test_a_function_under_the_main_guard_is_told_where_it_belongs(
    program: Callable[[str], Program],
) -> None:
    done = program(UNDER_GUARD).end(60)

    assert done.stdout.startswith(
        "a worker process does not find what the step is made of, since it imports the program "
        "without what stands under `if __name__ == '__main__':`; define functions and classes above"
    )


def test_an_engine_after_another_on_one_log_lets_the_tracker_of_the_program_live(
    program: Callable[[str], Program],
) -> None:
    running = program(
        """
import warnings
from multiprocessing import resource_tracker
from oautom import Flow, OAutom, PythonExecution

if __name__ == "__main__":
    warnings.simplefilter("error")
    for name in ("first", "second"):
        with OAutom(log="runs.db", executor="processes") as app:
            PythonExecution("step", Flow(name, app), int)
            assert app.run(name, vect_id=name).state == "success"
        print(resource_tracker._resource_tracker._pid, flush=True)
"""
    )
    done = running.end(60)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.split()
    assert first == second
