"""How a process has ended is what the system says of it; where it says nothing, it is unknown."""

from __future__ import annotations

import fcntl
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from oautom import BashExecution, Flow, OAutom, OAutomMode, PythonExecution, RetryPolicy
from oautom.processes import child
from tests.held import nothing_left

from .conftest import Marked, Program, until


@pytest.fixture
def on_sigchld() -> Iterator[Callable[[Any], None]]:
    """Set what is done about SIGCHLD, as a program may that has oautom in it."""
    before = signal.getsignal(signal.SIGCHLD)
    yield lambda handler: signal.signal(signal.SIGCHLD, handler)
    signal.signal(signal.SIGCHLD, before)


@pytest.fixture
def forgets_losses() -> Iterator[None]:
    """Have the next test begin as a new program does: no exit status has been lost in it."""
    yield
    child._is_reaped_by_others.clear()


def reap_all(number: int, frame: object) -> None:
    """Reap whatever has ended, as some programs do at each SIGCHLD."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            continue
    except ChildProcessError:
        pass


@pytest.fixture(params=["own", "waited", "parent"])
def way(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    on_sigchld: Callable[[Any], None],
) -> str:
    """Each of the ways in which the end of a command is known."""
    if request.param == "waited":  # as on systems without handles of processes
        monkeypatch.setattr(child, "has_handles", lambda: False)
    if request.param == "parent":
        on_sigchld(reap_all)
    return str(request.param)


# In each way


@pytest.mark.parametrize(
    ("command", "state", "fact"),
    [
        ("true", "success", None),
        ("exit 99", "skipped", None),
        ("exit 3", "failed", ("exit_code", 3)),
        ("exit 137", "failed", ("exit_code", 137)),
        ("kill -9 $$", "failed", ("signal", "SIGKILL")),
        ("kill -TERM $$", "failed", ("signal", "SIGTERM")),
        ("trap '' TERM HUP; kill -TERM 0; kill -HUP 0; exit 7", "failed", ("exit_code", 7)),
        ("exec sleep 0", "success", None),
        ("[[ $(ps -o pgid= $$) -eq $$ && $(ps -o sid= $$) -eq $$ ]]", "success", None),
        ("[[ $(readlink /proc/$$/fd/0) = /dev/null ]] && ls /proc/$$/fd", "success", None),
        # Python itself ignores SIGPIPE and SIGXFSZ; its commands do not, nor SIGCHLD.
        ("! (( 0x$(awk '/SigIgn/ {print $2}' /proc/$$/status) & 0x1011000 ))", "success", None),
    ],
)
def test_an_end_is_told_as_it_was(way: str, command: str, state: str, fact: Any) -> None:
    with OAutom() as app:
        step = BashExecution("step", Flow("flow", app), command)
        vect = app.run("flow")
        assert vect.steps[step.name].state == state, vect.steps[step.name].log_text
        if fact is not None:
            failed = next(event for event in vect.events() if event.name == "step.failed")
            assert failed.data[fact[0]] == fact[1]


def test_a_command_is_cancelled_and_may_clean_up(way: str, marked: Marked, tmp_path: Path) -> None:
    clean = f"trap 'touch {tmp_path}/cleaned; exit' TERM; sleep 1000 & echo ready; wait"
    with OAutom(OAutomMode.background) as app:
        BashExecution("step", Flow("flow", app), clean, env=marked.env, grace_period=20)
        vect = app.start("flow")
        until(lambda: "ready" in vect.steps["step"].log_text)
        vect.cancel()
        assert vect.wait(20) == "cancelled"
        assert (tmp_path / "cleaned").exists()
        assert marked.alive() == []


def test_a_command_that_is_cancelled_as_it_begins_leaves_nothing(way: str, marked: Marked) -> None:
    for milliseconds in range(0, 40, 8):
        with OAutom(OAutomMode.background) as app:
            deaf = "trap '' TERM; sleep 1000"
            BashExecution("step", Flow("flow", app), deaf, env=marked.env, grace_period=0.05)
            vect = app.start("flow")
            time.sleep(milliseconds / 1000)
            vect.cancel()
            assert vect.wait(20) == "cancelled"
            assert marked.alive() == []


def test_what_is_left_in_the_background_is_ended(way: str, marked: Marked) -> None:
    with OAutom() as app:
        BashExecution("step", Flow("flow", app), "sleep 1000 & echo done", env=marked.env)
        assert app.run("flow").result("step") == "done"
        assert marked.alive() == []


def test_a_command_that_cannot_begin_is_told_so(way: str, tmp_path: Path) -> None:
    with OAutom() as app:
        flow = Flow("flow", app)
        BashExecution("nowhere", flow, "true", cwd=tmp_path / "nowhere")
        BashExecution("no bash", flow, "true", env={"PATH": str(tmp_path)})
        vect = app.run(flow)
        assert "is no folder; make it" in (vect.steps["nowhere"].error or "")
        assert "there is no 'bash' on the PATH" in (vect.steps["no bash"].error or "")


def test_neither_files_nor_processes_are_left(way: str) -> None:
    before = set(psutil.Process().children(recursive=True))
    with nothing_left(), OAutom(max_workers=8) as app:
        flow = Flow("flow", app)
        for number in range(16):
            BashExecution(f"step {number}", flow, "exit $((RANDOM % 2))")
        app.run(flow)
        assert set(psutil.Process().children(recursive=True)) <= before


# Where SIGCHLD is ignored


def test_where_sigchld_is_ignored_no_command_begins(
    on_sigchld: Callable[[Any], None], tmp_path: Path
) -> None:
    on_sigchld(signal.SIG_IGN)
    with OAutom() as app:
        flow = Flow("flow", app)
        retry = RetryPolicy(max_attempts=2, delay=0)
        bad = BashExecution("bad", flow, f"touch {tmp_path}/begun; exit 3", retry=retry)
        bad >> BashExecution("after", flow, f"touch {tmp_path}/begun")
        vect = app.run(flow)
        assert vect.state == "failed"
        assert vect.steps["after"].state == "upstream_failed"
        assert vect.steps["bad"].error == (
            "its command was not started: this program ignores SIGCHLD, so the system would not "
            "report how it ends; call signal.signal(signal.SIGCHLD, signal.SIG_DFL) first"
        )
        assert list(tmp_path.iterdir()) == []
        on_sigchld(signal.SIG_DFL)
        vect.retry()
        assert vect.wait(20) == "failed"
        assert vect.steps["bad"].error == "the command exited with code 3"


def test_a_sigchld_that_is_ignored_by_whoever_starts_the_program_counts(tmp_path: Path) -> None:
    program = (
        "from oautom import *\n"
        "app = OAutom(); BashExecution('step', Flow('flow', app), 'exit 3')\n"
        "vect = app.run('flow'); print(vect.state, vect.steps['step'].error)"
    )
    command = f"trap '' CHLD; exec {sys.executable} -c \"$PROGRAM\""
    env = os.environ | {"PROGRAM": program}
    said = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True)
    assert said.stderr == ""
    assert said.stdout.startswith(
        "failed its command was not started: this program ignores SIGCHLD"
    )


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("worker_steps")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, reap_all])
def test_workers_do_not_need_their_exit_status(
    on_sigchld: Callable[[Any], None], steps: ModuleType, handler: Any
) -> None:
    on_sigchld(handler)
    with OAutom(executor="processes", max_workers=1) as app:
        flow = Flow("flow", app)
        PythonExecution("dies", flow, os._exit, (0,))
        PythonExecution("status", flow, steps.status_of, ("exit 3",))
        vect = app.run(flow)
        assert vect.steps["dies"].state == "failed"
        error = vect.steps["dies"].error or ""
        was_taken = (
            "the worker process ended before it answered: its exit status is unknown" in error
        )
        assert was_taken or (handler is reap_all and "it exited with code 0" in error)
        assert vect.result("status") == 3  # in a worker SIGCHLD is as ever


# Beside somebody who reaps


BESIDE_A_REAPER = """
import os, threading, time
from oautom import *

def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.0002)

threading.Thread(target=reap, daemon=True).start()
app = OAutom(max_workers=4)
for name in ("first", "second"):
    flow = Flow(name, app)
    for number in range(16):
        BashExecution(str(number), flow, f"exit {number % 4}", skip_exit_code=None)
    for number, step in enumerate(app.run(flow).steps.values()):
        print(name, number % 4, step.state, step.error, sep="|")
"""


def test_a_command_under_a_parent_of_its_own_ends_with_the_first_failure_in_it(
    on_sigchld: Callable[[Any], None], tmp_path: Path
) -> None:
    on_sigchld(reap_all)
    with OAutom() as app:
        flow = Flow("flow", app)
        BashExecution("strict", flow, "false | cat; echo done")
        BashExecution("loose", flow, "false | cat; echo done", strict=False)
        BashExecution("pipe", flow, "yes | head -1")
        where = PythonExecution("where", flow, lambda: str(tmp_path))
        BashExecution("there", flow, "pwd", cwd=where)
        vect = app.run(flow)
        assert vect.steps["strict"].error == "the command exited with code 1"
        assert vect.result("loose") == "done"
        assert "141, since SIGPIPE has ended a command in a pipe" in str(vect.steps["pipe"].error)
        assert vect.result("there") == str(tmp_path)


def test_no_status_is_lost_to_a_thread_that_reaps_all() -> None:
    """The first ones may be unknown, since nobody could foresee it; each of these has failed."""
    said = subprocess.run(
        [sys.executable, "-c", BESIDE_A_REAPER], capture_output=True, text=True, timeout=60
    )
    assert said.stderr == ""
    for line in said.stdout.splitlines():
        flow, code, state, error = line.split("|")
        if state == "failed" and "is unknown: other code in this program has taken" in error:
            assert flow == "first", "from then on the commands have a parent"
        elif code == "0":
            assert state == "success", error
        else:
            assert error == f"the command exited with code {code}"
    assert len(said.stdout.splitlines()) == 32


@pytest.mark.parametrize("has_handles", [True, False])
def test_an_end_that_is_not_known_is_no_success(
    monkeypatch: pytest.MonkeyPatch, forgets_losses: None, has_handles: bool
) -> None:
    def of_an_older_system(*arguments: object) -> None:
        raise OSError(25, "Inappropriate ioctl for device")

    begun: list[child.Child] = []

    def reaped(*arguments: Any, **options: Any) -> child.Child:
        begun.append(child.begin(*arguments, **options))
        if len(begun) == 1:
            assert begun[0].leader is not None
            os.waitpid(begun[0].leader, 0)
        return begun[-1]

    monkeypatch.setattr(fcntl, "ioctl", of_an_older_system)
    monkeypatch.setattr(child, "has_handles", lambda: has_handles)
    monkeypatch.setattr("oautom.processes.process.begin", reaped)
    with OAutom() as app:
        flow = Flow("flow", app)
        lost = BashExecution("lost", flow, "true", allow_failure=True)
        after = BashExecution("after", flow, "true", trigger_rule="all_done")
        lost >> after >> BashExecution("last", flow, "exit 3")
        vect = app.run(flow)
        error = vect.steps["lost"].error or ""
        assert vect.steps["lost"].state == "failed"
        assert error.startswith(
            "the exit status of its command is unknown: other code in this program has"
        )
        assert "os.waitpid(pid, 0)" in error
        assert vect.steps["after"].state == "success"
        assert vect.steps["last"].error == "the command exited with code 3"
    kinds = [type(each).__name__ for each in begun]
    assert kinds == ["_Own" if has_handles else "_Waited", "_Overseen", "_Overseen"]


def test_what_the_system_remembers_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, forgets_losses: None
) -> None:
    command = child.begin(["bash", "-c", "exit 3"], dict(os.environ), None)
    assert command.leader is not None
    if not isinstance(command, child._Own) or isinstance(command, child._Waited):
        pytest.skip("there are no handles of processes")
    os.waitpid(command.leader, 0)
    remembered = child._remembered(command.fileno())
    command.end()
    command.close()
    if remembered is None:
        pytest.skip("the system is older than Linux 6.15")
    assert command.returncode() == 3


def test_the_death_of_the_parent_is_no_success_and_leaves_nothing(
    on_sigchld: Callable[[Any], None], marked: Marked
) -> None:
    on_sigchld(reap_all)
    with OAutom(OAutomMode.background) as app:
        flow = Flow("flow", app)
        BashExecution("step", flow, "echo begun; sleep 1000", env=marked.env)
        vect = app.start(flow)
        until(lambda: "begun" in vect.steps["step"].log_text)
        parent = next(
            p for p in psutil.Process().children() if "parent.py" in " ".join(p.cmdline())
        )
        parent.kill()
        assert vect.wait(20) == "failed"
        assert "its parent process has died" in (vect.steps["step"].error or "")
        assert marked.alive() == []


# A worker that dies


@pytest.mark.parametrize("how", ["fork", "half an answer"])
def test_the_death_of_a_worker_is_noticed_while_its_own_child_lives(
    steps: ModuleType, tmp_path: Path, how: str
) -> None:
    place = tmp_path / "child"
    with OAutom(executor="processes", max_workers=1) as app:
        PythonExecution("dies", Flow("flow", app), steps.die_beside_a_child, (how, str(place)))
        vect = app.run("flow")
        error = vect.steps["dies"].error or ""
        left = psutil.Process(int(place.read_text())) if how != "fork" else None
        if left is not None:  # it has detached itself, and lives for a thousand seconds
            left.kill()
        assert "it was ended by SIGKILL" in error


def test_a_fork_that_returns_from_a_step_answers_nothing(steps: ModuleType) -> None:
    with OAutom(executor="processes", max_workers=1) as app:
        flow = Flow("flow", app)
        first = PythonExecution("first", flow, steps.fork_and_return)
        first >> PythonExecution("second", flow, steps.give, (2,))
        vect = app.run(flow)
        assert (vect.result("first"), vect.result("second")) == ("the parent", 2)


# What a function starts

STARTER = """
import os, signal, subprocess, sys
from pathlib import Path
from oautom import *

def is_alive(pid):
    try:
        return Path("/proc", pid, "cmdline").read_bytes() != bytes()  # of a zombie it is empty
    except OSError:
        return False

def start(context):
    if context.attempt > 1:
        return [pid for pid in Path("started").read_text().split() if is_alive(pid)]
    env = os.environ | context.environment
    away = subprocess.DEVNULL
    command = ["sleep", "1000"]
    pids = [subprocess.Popen(command, env=env, stdout=away, stderr=away).pid for _ in range(2)]
    Path("started").write_text(" ".join(map(str, pids)))
    os.kill(os.getpid(), signal.SIGKILL)

app = OAutom(log="runs.db")
step = PythonExecution("step", Flow("flow", app), start)
print(app.run("flow", vect_id="one").result("step"))
"""


def test_what_a_function_starts_with_its_marks_is_ended_before_it_runs_again(
    program: Callable[[str], Program],
) -> None:
    assert program(STARTER).end().returncode == -signal.SIGKILL
    assert program(STARTER).end().stdout == "[]\n"


def test_the_marks_of_a_step_in_a_worker_are_those_of_the_engine(
    steps: ModuleType, tmp_path: Path
) -> None:
    with OAutom(log=tmp_path / "runs.db", executor="processes", max_workers=1) as app:
        PythonExecution("step", Flow("flow", app), steps.environments)
        ours, given = app.run("flow").result("step")
        assert given == ours
        assert given["OAUTOM_ENGINE"].startswith(f"{os.getpid()}-")
        assert (given["OAUTOM_LOG"], given["OAUTOM_STEP"]) == (app.log.id, "step")
