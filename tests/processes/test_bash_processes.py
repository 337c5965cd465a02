"""Bash steps are real processes: their output, their end, and the end of all that they started."""

from __future__ import annotations

import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from oautom import BashExecution, Flow, OAutom, OAutomMode, StepFailedError
from tests.held import nothing_left

from .conftest import Marked, until

TREE = "sleep 1000 & (sleep 1000 & sleep 1000) & echo ready; wait"
TREE_SIZE = 5  # bash, its three sleeps, and the subshell


def start_in_background(app: OAutom, marked: Marked, command: str, **options: object):
    flow = Flow("flow", app)
    BashExecution("step", flow, command, env=marked.env, **options)
    return app.start(flow)


@pytest.fixture(params=["threads", "processes"])
def app(request: pytest.FixtureRequest):
    with OAutom(OAutomMode.background, executor=request.param) as app:
        yield app


def test_cancel_ends_the_whole_tree_of_processes(app: OAutom, marked: Marked) -> None:
    vect = start_in_background(app, marked, TREE)
    marked.wait_for(TREE_SIZE)
    vect.cancel("enough")
    assert vect.wait(20) == "cancelled"
    assert marked.alive() == []


def test_close_ends_the_whole_tree_of_processes(app: OAutom, marked: Marked) -> None:
    vect = start_in_background(app, marked, TREE)
    marked.wait_for(TREE_SIZE)
    app.close()
    assert vect.state == "cancelled"
    assert marked.alive() == []


def test_what_ignores_sigterm_is_killed_after_the_grace_period(marked: Marked) -> None:
    with OAutom(OAutomMode.background) as app:
        deaf = "trap '' TERM; sleep 1000 & echo ready; wait; wait"
        vect = start_in_background(app, marked, deaf, grace_period=0.3)
        until(lambda: "ready" in vect.steps["step"].log_text)
        vect.cancel()
        assert vect.wait(20) == "cancelled"
        assert marked.alive() == []
        assert vect.events()[-1].name == "step.late_result"
        assert vect.events()[-1].data["signal"] == "SIGKILL"


def test_a_grandchild_may_clean_up_in_the_grace_period(marked: Marked, tmp_path: Path) -> None:
    cleaner = (
        f"trap 'sleep 0.2; touch {tmp_path}/cleaned; exit' TERM; echo ready; sleep 1000 & wait"
    )
    with OAutom(OAutomMode.background) as app:
        vect = start_in_background(app, marked, f"bash -c {cleaner!r} & wait", grace_period=20)
        until(lambda: "ready" in vect.steps["step"].log_text)
        vect.cancel()
        vect.wait(20)
        assert (tmp_path / "cleaned").exists()
        assert marked.alive() == []


def test_a_cancelled_step_that_waits_for_a_slot_never_begins(marked: Marked) -> None:
    with OAutom(OAutomMode.background, max_workers=1) as app:
        flow = Flow("flow", app)
        for name in ("first", "second"):
            BashExecution(name, flow, "sleep 1000", env=marked.env)
        vect = app.start(flow)
        marked.wait_for(1)
        vect.cancel()
        vect.wait(20)
        assert [vect.steps[name].attempt for name in ("first", "second")] == [1, 0]
        assert marked.alive() == []


def test_inline_a_cancel_from_another_thread_ends_the_command(marked: Marked) -> None:
    with OAutom(executor="inline") as app:
        vect = start_in_background(app, marked, TREE)

        def cancel() -> None:
            marked.wait_for(TREE_SIZE)
            vect.cancel("enough")

        thread = threading.Thread(target=cancel)
        thread.start()
        assert vect.wait(20) == "cancelled"
        thread.join()
        assert marked.alive() == []


def test_the_step_ends_with_its_bash_and_takes_its_background_along(marked: Marked) -> None:
    with OAutom() as app:
        flow = Flow("flow", app)
        BashExecution("step", flow, "sleep 1000 & echo done", env=marked.env)
        vect = app.run(flow)
        assert vect.result("step") == "done"
        assert marked.alive() == []


def test_a_hundred_megabytes_neither_block_nor_fill_the_memory() -> None:
    with OAutom() as app:
        flow = Flow("flow", app)
        writer = "head -c 100000000 /dev/zero | tr '\\0' 'x'; echo; echo the end"
        BashExecution("step", flow, writer)
        BashExecution("loud", flow, f"{{ {writer}; }} >&2", log_limit_bytes=1000)
        tracemalloc.start()
        vect = app.run(flow)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert vect.result("step") == "the end"
        assert vect.steps["step"].log_text.endswith("xxx\nthe end\n")
        note, kept = vect.steps["step"].log_text.split("\n", 1)
        assert note == f"[{100_000_009 - 2**20} bytes are missing here]"
        assert len(kept) == 2**20
        assert len(vect.steps["loud"].log_text.split("\n", 1)[1]) == 1000
        assert vect.result("loud") is None
        assert peak_bytes < 20e6


def test_the_log_can_be_read_while_the_step_writes(marked: Marked) -> None:
    with OAutom(OAutomMode.background) as app:
        vect = start_in_background(app, marked, "echo out; echo err >&2; sleep 1000")
        until(lambda: {"out", "err"} <= set(vect.steps["step"].log_text.split()))
        assert vect.steps["step"].state == "running"


@pytest.mark.parametrize(
    ("command", "fact", "value"),
    [
        ("exit 3", "exit_code", 3),
        ("kill -9 $$", "signal", "SIGKILL"),
        ("kill -TERM $$", "signal", "SIGTERM"),
        ("bash -c 'kill -9 $$'; exit $?", "exit_code", 137),
    ],
)
def test_exit_by_code_and_by_signal_are_told_apart(command: str, fact: str, value: object) -> None:
    with OAutom() as app:
        flow = Flow("flow", app)
        BashExecution("step", flow, command)
        vect = app.run(flow)
        failed = next(e for e in vect.events() if e.name == "step.failed")
        assert failed.data[fact] == value
        assert {"exit_code", "signal"} & set(failed.data) == {fact}
        with pytest.raises(StepFailedError, match=str(value)):
            vect.result("step")


def test_a_command_that_cannot_begin_fails_its_step(tmp_path: Path) -> None:
    with OAutom() as app:
        flow = Flow("flow", app)
        BashExecution("nowhere", flow, "true", cwd=tmp_path / "nowhere")
        BashExecution("too long", flow, f": {'x' * 10_000_000}")
        vect = app.run(flow)
        assert vect.state == "failed"
        assert vect.steps["nowhere"].error == (
            f"cwd '{tmp_path}/nowhere' is no folder; make it, or name another"
        )
        assert "its command has 10000002 bytes" in (vect.steps["too long"].error or "")


def test_waiting_for_a_process_takes_no_time_of_the_processor(marked: Marked) -> None:
    with OAutom() as app:
        flow = Flow("flow", app)
        BashExecution("step", flow, "sleep 1", env=marked.env)
        before = time.process_time()
        app.run(flow)
        assert time.process_time() - before < 0.25  # a loop that polls takes all of the second


def test_many_commands_at_once_leave_no_file_open() -> None:
    with nothing_left(), OAutom(max_workers=16) as app:
        flow = Flow("flow", app)
        for i in range(200):
            BashExecution(f"step {i}", flow, "exit $((RANDOM % 2))")
        app.run(flow)
