"""Commands that run on a worker: they end with their step, and with the worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from oautom import BashExecution, Flow, FlowError, OAutom, OAutomMode, PythonExecution
from oautom.workers import processes

from .conftest import Marked, Program, until

WORKER = "$(awk '/^PPid/ {print $2}' /proc/$PPID/status)"  # between them: a small parent
TREE = f"sleep 1000 & (sleep 1000 & sleep 1000) & echo {WORKER}; wait"


def pool(**options: Any) -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=spawn, **options)


def apps(kind: str) -> Iterator[OAutom]:
    if kind == "processes":
        with OAutom(OAutomMode.background, executor="processes", max_workers=1) as app:
            yield app
        return
    with pool() as executor, OAutom(OAutomMode.background, executor=executor) as app:
        yield app


KINDS = ["processes", "a pool"]


@pytest.fixture(scope="module", params=KINDS)
def app(request: pytest.FixtureRequest) -> Iterator[OAutom]:
    """One app for the tests that leave its worker alive: to spawn a process takes its time."""
    yield from apps(request.param)


@pytest.fixture(params=KINDS)
def mortal(request: pytest.FixtureRequest) -> Iterator[OAutom]:
    """An app of which the worker is killed."""
    yield from apps(request.param)


def run(app: OAutom, command: str, **options: Any) -> Any:
    flow = Flow(f"flow {len(app.flows())}", app)
    BashExecution("step", flow, command, place="worker", **options)
    return app.start(flow, vect_id=f"vect {len(app.flows())}")


def test_a_command_is_a_child_of_the_worker(app: OAutom) -> None:
    flow = Flow("child", app)
    worker = PythonExecution("worker", flow, os.getpid)
    command = BashExecution("command", flow, f"echo {WORKER}", place="worker")
    worker >> command
    vect = app.run(flow)
    assert vect.result(command) == str(vect.result(worker)) != str(os.getpid())


@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_where_workers_are_threads_it_is_as_here(executor: Any) -> None:
    with OAutom(executor=executor) as app:
        vect = run(app, "echo $PPID; cat /proc/$$/task/$$/children", output="text")
        vect.wait(20)
        parent, *children = vect.result("step").split()
        assert parent == str(os.getpid())
        assert children == []  # `cat` is the command itself by now, and there is no guard


def test_it_gets_its_place_its_values_and_its_folder(app: OAutom, tmp_path: Path) -> None:
    flow = Flow("values", app)
    folder = PythonExecution("folder", flow, str, (tmp_path,))
    command = BashExecution(
        "a command",
        flow,
        "echo \"$OAUTOM_FLOW/$OAUTOM_VECT/$OAUTOM_STEP/$OAUTOM_ATTEMPT $FOLDER $(pwd) '$1'\"",
        env={"FOLDER": folder},
        cwd=folder,
        place="worker",
    )
    vect = app.run(flow, vect_id="v")
    assert vect.result(command) == f"values/v/a command/1 {tmp_path} {tmp_path} ''"


COMMANDS = {
    "text": ("printf 'a\\nb\\n'; echo more >&2", {"output": "text"}, "step.succeeded"),
    "json": ("echo '{\"a\": [1]}'", {"output": "json"}, "step.succeeded"),
    "a code": ("echo why; exit 3", {}, "step.failed"),
    "strict": ("false; true", {}, "step.failed"),
    "not strict": ("false; echo on", {"strict": False}, "step.succeeded"),
    "a skip": ("echo nothing to do; exit 99", {}, "step.skipped"),
    "a signal": ("kill -SEGV $$", {}, "step.failed"),
    "its background": ("sleep 1000 & echo on", {}, "step.succeeded"),
    "its jobs": ("sleep 0.01 & wait; jobs; echo on", {"output": "text"}, "step.succeeded"),
    "no input": ("cat; echo on", {}, "step.succeeded"),
    "no folder": ("true", {"cwd": "/none"}, "step.failed"),
    "too large": (f": {'x' * 131072}", {}, "step.failed"),
}


def test_it_ends_as_a_command_here_does(app: OAutom, marked: Marked) -> None:
    flow = Flow("ends", app)
    for place in ("worker", "here"):
        for name, (command, options, _) in COMMANDS.items():
            BashExecution(
                f"{name} {place}", flow, command, place=place, **{"env": marked.env, **options}
            )
    vect = app.run(flow)

    def end_of(name: str) -> Any:
        (end,) = [e for e in vect.events() if e.step == name and e.name != "step.started"]
        return end.name, end.data, vect.steps[name].log_text

    for name, (_, _, end) in COMMANDS.items():
        assert end_of(f"{name} worker") == end_of(f"{name} here")
        assert end_of(f"{name} worker")[0] == end, name
    assert marked.alive() == []


def test_bash_env_is_read_once_and_no_descriptor_is_left_open(app: OAutom, tmp_path: Path) -> None:
    (tmp_path / "begin.sh").write_text("echo begun\n")
    vect = run(
        app,
        "ls /proc/self/fd",
        env={"BASH_ENV": str(tmp_path / "begin.sh")},
        output="text",
    )
    vect.wait(20)
    assert vect.result("step").split() == ["begun", "0", "1", "2", "3"]  # 3 is the folder itself


def test_a_cancel_ends_the_whole_tree_there(app: OAutom, marked: Marked) -> None:
    vect = run(app, TREE, env=marked.env)
    until(lambda: vect.steps["step"].log_text)
    vect.cancel("enough")
    assert vect.wait(20) == "cancelled"
    assert marked.alive() == []
    after = run(app, f"echo {WORKER}")
    assert after.wait(20) == "success"  # by the same worker: that one goes on
    assert after.result("step") == vect.steps["step"].log_text.strip()


def test_a_timeout_ends_the_whole_tree_there(app: OAutom, marked: Marked) -> None:
    vect = run(app, TREE, env=marked.env, timeout=1)
    assert vect.wait(20) == "failed"
    assert "took longer than its timeout" in vect.steps["step"].error
    assert marked.alive() == []


def test_its_text_comes_while_it_runs(app: OAutom, marked: Marked) -> None:
    vect = run(app, "echo begun; sleep 1000", env=marked.env)
    until(lambda: vect.steps["step"].log_text == "begun\n")
    assert vect.state == "running"
    vect.cancel()
    assert vect.wait(20) == "cancelled"


def test_its_grace_period_may_be_longer_than_that_of_functions(
    app: OAutom, marked: Marked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE_PERIOD", 0.1)
    tidy = f"trap 'sleep 0.5; touch {tmp_path}/tidied; exit' TERM; echo begun; sleep 1000 & wait"
    vect = run(app, tidy, env=marked.env, grace_period=20)
    until(lambda: vect.steps["step"].log_text)
    vect.cancel()
    assert vect.wait(20) == "cancelled"
    assert (tmp_path / "tidied").exists()
    assert marked.alive() == []


DEAF = f"trap '' HUP INT TERM; {TREE}"


def test_a_command_does_not_outlive_its_worker(
    mortal: OAutom, marked: Marked, tmp_path: Path
) -> None:
    vect = run(mortal, f"echo {WORKER} >pid; mv pid worker; {DEAF}", env=marked.env, cwd=tmp_path)
    until((tmp_path / "worker").exists)
    worker = int((tmp_path / "worker").read_text())
    vect.pause()  # else the step may run again
    os.kill(worker, signal.SIGKILL)
    until(lambda: marked.alive() == [])


def test_a_command_that_is_being_cancelled_does_not_outlive_its_worker(
    marked: Marked, tmp_path: Path
) -> None:
    for app in apps("processes"):
        command = f"echo {WORKER} >pid; mv pid worker; {DEAF}"
        vect = run(app, command, env=marked.env, cwd=tmp_path, grace_period=1000)
        until((tmp_path / "worker").exists)
        vect.cancel()
        os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)
        until(lambda: marked.alive() == [])
        assert vect.wait(20) == "cancelled"


def test_where_other_code_may_reap_it_does_not_outlive_its_worker_either(
    marked: Marked, tmp_path: Path
) -> None:
    handler = {"initializer": signal.signal, "initargs": (signal.SIGCHLD, print)}
    with pool(**handler) as executor, OAutom(OAutomMode.background, executor=executor) as app:
        flow = Flow("flow", app)
        pid = PythonExecution("pid", flow, os.getpid)
        worker = app.run(flow).result(pid)
        vect = run(app, f"touch begun; {TREE}", env=marked.env, cwd=tmp_path)
        until((tmp_path / "begun").exists)
        vect.pause()  # else the step may run again
        os.kill(worker, signal.SIGKILL)
        until(lambda: marked.alive() == [])


PROGRAM = f"""
from oautom import BashExecution, Flow, OAutom

if __name__ == "__main__":
    app = OAutom(executor="processes")
    flow = Flow("flow", app)
    BashExecution("step", flow, "touch begun; {TREE}", place="worker")
    app.run(flow)
"""


def test_a_program_that_is_killed_takes_the_commands_of_its_workers_along(
    program: Callable[[str], Program], marked: Marked, tmp_path: Path
) -> None:
    started = program(PROGRAM)
    until((tmp_path / "begun").exists)
    started.signal(signal.SIGKILL)
    until(lambda: marked.alive() == [])


def test_its_compensation_runs_there_too(app: OAutom) -> None:
    flow = Flow("undone", app)
    made = BashExecution(
        "made", flow, f"echo {WORKER}", place="worker", compensate=f"echo {WORKER} $OUTPUT"
    )
    made >> BashExecution("broken", flow, "exit 1")
    vect = app.run(flow)
    worker = vect.steps["made"].output
    assert worker != str(os.getpid())
    assert vect.steps["made"].log_text == f"{worker} {worker}\n"


@pytest.mark.parametrize("place", ["there", "", 3, True])
def test_a_place_that_does_not_exist(place: Any) -> None:
    with OAutom() as app, pytest.raises(FlowError, match="place must be 'here' or 'worker'"):
        BashExecution("step", Flow("flow", app), "true", place=place)


def test_the_log_of_a_flow_does_not_say_where_its_commands_run() -> None:
    with OAutom() as app:
        flow = Flow("flow", app)
        assert BashExecution("step", flow, "true", place="worker").options() == {}


def test_a_command_leaves_no_open_file_in_its_worker(app: OAutom) -> None:
    opened = []
    for _ in range(3):
        vect = run(app, f"ls /proc/{WORKER}/fd | wc -l")
        assert vect.wait(20) == "success"
        opened.append(int(vect.result("step")))
    assert opened[1] == opened[2]
