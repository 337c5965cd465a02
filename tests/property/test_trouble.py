"""Trouble at the edge: threads that cannot be started, work that outlives the app."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from oautom import Flow, OAutom, OAutomMode, PythonExecution
from oautom.engine import lifetime
from oautom.events import signals
from oautom.workers.threads import ThreadWorkers

dying_thread = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"  # what it leads to is the test's claim
)

SECONDS = 5
"""Long enough for what takes a millisecond; what takes longer hangs."""


def ends(work: Callable[[], object]) -> bool:
    """Tell whether `work` comes to an end, without waiting for it for ever."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return not thread.is_alive()


class TakenMeanwhile(SimpleQueue[Any]):
    """A queue whose last item another thread takes right after it was seen."""

    def empty(self) -> bool:
        was_empty = super().empty()
        if not was_empty:
            self.get()
        return was_empty


def test_workers_close_although_a_thread_takes_the_last_job_at_that_moment() -> None:
    workers = ThreadWorkers(1)
    workers._jobs = TakenMeanwhile()
    workers._jobs.put((print, print))
    assert ends(workers.close), "close() waits for a job that another thread has taken"


@pytest.fixture(autouse=True)
def _apps_that_hang_are_let_go() -> Iterator[None]:
    """Let no app that hangs hold the end of the test session too."""
    yield
    lifetime._open_apps.clear()


@pytest.fixture
def few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one worker thread be started, and no more, as where a limit of processes is reached."""
    started = []
    start = threading.Thread.start

    def start_one(thread: threading.Thread) -> None:
        if thread.name.startswith("oautom-worker"):
            started.append(thread)
            if len(started) > 1:
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)


@pytest.mark.usefixtures("few_threads")
@dying_thread
@pytest.mark.parametrize("mode", OAutomMode)
def test_a_thread_that_cannot_be_started_is_no_reason_to_wait_for_ever(mode: OAutomMode) -> None:
    app = OAutom(mode=mode, executor="threads", max_workers=4)
    flow = Flow("crowded", app=app)
    for i in range(4):
        PythonExecution(str(i), flow, threading.Event().wait, (0.01,))
    vect = app.start(flow)
    state = vect.wait(timeout=SECONDS)
    assert state in ("success", "failed")
    assert {step.state for step in vect.steps.values()} <= {"success", "failed"}
    assert ends(app.close), "close() hangs"


def test_an_engine_whose_thread_cannot_be_started_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    app = OAutom(mode=OAutomMode.background, executor="inline")
    flow = Flow("patient", app=app, max_active_vects=2)
    PythonExecution("step", flow, int)
    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            app.start(flow)
    assert app.start(flow).wait(timeout=SECONDS) == "success"
    assert ends(app.close), "close() hangs"


@dying_thread
def test_a_receiver_that_interrupts_the_engine_s_own_thread_leaves_nobody_waiting() -> None:
    def interrupt(flow: Flow, **told: object) -> None:
        raise KeyboardInterrupt

    app = OAutom(mode=OAutomMode.background, executor="inline")
    flow = Flow("interrupted", app=app)
    PythonExecution("step", flow, int)
    signals.step_started.connect(interrupt, sender=flow)
    try:
        assert app.start(flow).wait(timeout=SECONDS) == "success"
    finally:
        signals.step_started.disconnect(interrupt)
    assert ends(app.close), "close() hangs"


@pytest.mark.parametrize("mode", OAutomMode)
def test_work_that_ends_after_the_app_is_closed_is_no_error(
    mode: OAutomMode, caplog: pytest.LogCaptureFixture
) -> None:
    has_begun, go_on, has_ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        has_begun.set()
        go_on.wait(SECONDS)

    app = OAutom(mode=mode, executor="threads")
    flow = Flow("slow", app=app)
    PythonExecution("step", flow, work)
    vect = app.start(flow)
    if mode is OAutomMode.foreground:
        with pytest.raises(TimeoutError):
            vect.wait(timeout=0.05)
    assert has_begun.wait(SECONDS)
    app.close()
    assert vect.state == "cancelled"
    put = app._engine._scheduler.put

    def told(message: object) -> None:
        put(message)
        has_ended.set()

    app._engine._scheduler.runner._put = told
    go_on.set()
    has_ended.wait(SECONDS)
    for thread in threading.enumerate():
        if thread.name == "oautom-scheduler":
            thread.join(SECONDS)
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert app._engine._scheduler.failure is None
