"""Functions of `@flow.step` in worker processes, which find them by name in their module."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

from oautom import Flow, OAutom, PythonExecution

from .conftest import Program

DAY = date(2026, 11, 24)


@pytest.fixture
def flows(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    sys.modules.pop("worker_flow", None)
    return importlib.import_module("worker_flow")


def test_functions_of_a_module_are_found_in_workers(flows: ModuleType) -> None:
    with flows.app as app:
        vect = app.run("etl", {"day": "2026-11-24", "limit": "2"})
        assert [step.error for step in vect.steps.values()] == [None, None, None]
    made = vect.result("extract")
    assert (made.day, made.rows, vect.result("total"), vect.result("doubled")) == (
        DAY,
        [40, 2],
        42,
        84,
    )
    assert made.pid != os.getpid()


def test_they_are_found_in_the_workers_of_a_pool_of_the_user_too(flows: ModuleType) -> None:
    flows.app.close()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool, OAutom(executor=pool) as app:
        flow = Flow("other", app)
        rows = PythonExecution("rows", flow, flows.twice, [4])
        took = PythonExecution("took", flow, flows.doubled, [rows])
        also = PythonExecution("also", flow, flows.extract, [DAY, 1])
        vect = app.run(flow)
        assert (vect.result(took), vect.result(also).rows) == (16, [40])


PROGRAM = """
import multiprocessing, os
from concurrent.futures import ProcessPoolExecutor
from datetime import date

from oautom import Flow, OAutom

kind = {kind!r}
executor = "processes"
if kind != "processes":
    executor = "threads"  # in a worker
    if __name__ == "__main__":
        executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(kind))
app = OAutom(log="runs.db", executor=executor)
flow = Flow("shop", app, params={{"day": date}})


@flow.step
def sell(day: date) -> tuple[date, int]:
    return day, os.getpid()


@flow.step
def judge(day: date, pid: int) -> bool:
    return type(day) is date and pid == os.getpid() != os.getppid()


sold = sell(flow.param("day"))
judge(sold.output[0], sold.output[1])

if __name__ == "__main__":
    with app:
        vect = app.run("shop", {{"day": "2026-11-24"}}, vect_id="v")
        print(vect.state, vect.result("judge"), vect.result("sell")[0])
"""


@pytest.mark.parametrize("kind", ["processes", "spawn", "forkserver"])
def test_a_program_with_a_durable_log_may_declare_its_app_where_workers_import_it(
    program: Callable[[str], Program], kind: str
) -> None:
    done = program(PROGRAM.format(kind=kind)).end(60)

    assert (done.stdout, done.stderr) == ("success True 2026-11-24\n", "")


BESIDE = """
import multiprocessing
from oautom import OAutom, OAutomError


def use(path):
    app = OAutom(log=path)
    try:
        app.recover()
    except OAutomError as error:
        return f"{app.logs()} {type(error).__name__}"


if __name__ == "__main__":
    import subprocess, sys

    app = OAutom(log="runs.db")
    app.recover()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(use, ["runs.db"]))
    code = "import program; print(program.use('runs.db'))"
    print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
"""


def test_an_app_that_is_made_beside_an_engine_can_read_its_log_and_no_more(
    program: Callable[[str], Program],
) -> None:
    done = program(BESIDE).end(60)

    assert done.stdout.split("\n")[:2] == ["[] LogLockedError"] * 2, done.stderr
