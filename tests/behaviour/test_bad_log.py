"""A log that cannot be written: the engine stops, says so, and starts nothing that is not in it."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from oautom import Flow, LogError, MemoryEventLog, OAutom, OAutomMode, PythonExecution, SettingError

from .conftest import SECONDS, NewApp, flow_step, runs_well, told

NAMES = ["vect.created", "vect.started", "step.started", "step.succeeded", "vect.succeeded"]
MESSAGE = (
    "the engine has stopped, its log cannot be written: disk full; nothing has been started that "
    "is not in the log"
)


class BadLog(MemoryEventLog):
    """A log that refuses to append or to commit the events of one name, once it is told to."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__()
        self._what, self._name = what, name
        self.is_bad = True

    def append(self, sender: object, event: Any) -> None:
        if self.is_bad and self._what == "append" and event.name == self._name:
            raise OSError("disk full")
        super().append(sender, event)

    def commit(self) -> Any:
        names = [event.name for event in self._appended]
        if self.is_bad and self._what == "commit" and self._name in names:
            raise OSError("disk full")
        return super().commit()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["append", "commit"])
@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_a_log_that_refuses_stops_the_engine(
    new_app: NewApp, mode: OAutomMode, executor: str, what: str, name: str, connect: Any
) -> None:
    log, calls, heard = BadLog(what, name), [], []
    app = new_app(mode, log=log, executor=executor)
    flow, other = Flow("f", app), Flow("g", app)
    PythonExecution("a", flow, lambda: calls.append("a")) >> PythonExecution(
        "b", flow, lambda: calls.append("b")
    )
    PythonExecution("c", other, lambda: calls.append("c"))
    connect(lambda flow, event: heard.append(event))

    for _ in range(2):
        with pytest.raises(LogError) as caught:
            app.start(flow, vect_id="v").wait(timeout=SECONDS)
        assert str(caught.value) == MESSAGE
        assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(LogError):
        app.run(other)
    if mode is OAutomMode.foreground:
        with pytest.raises(LogError):
            app.run()

    committed = list(log.read(vect="v"))
    assert name not in [event.name for event in committed]
    assert calls == [event.step for event in committed if event.name == "step.started"]
    assert heard == committed
    app.close()
    app.close()
    assert calls == [event.step for event in committed if event.name == "step.started"]
    assert told(list(log.read())) == told(committed)


def test_a_vect_whose_end_could_not_be_written_has_not_ended(
    new_app: NewApp, mode: OAutomMode
) -> None:
    app = new_app(mode, log=BadLog("commit", "vect.succeeded"))
    flow_step(Flow("f", app), "a")
    vect = app.start("f")
    with pytest.raises(LogError):
        vect.wait(timeout=SECONDS)

    assert not vect.ended
    assert vect.state == vect.status()["state"] == "running"
    assert app.vects(state="success") == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["append", "commit"])
def test_what_could_not_be_written_is_not_shown(
    new_app: NewApp, mode: OAutomMode, what: str, name: str
) -> None:
    app = new_app(mode, log=BadLog(what, name))
    flow = Flow("f", app)
    flow_step(flow, "a") >> flow_step(flow, "b")
    with pytest.raises(LogError):
        app.start("f", vect_id="v").wait(timeout=SECONDS)

    if not app.vects():  # its start was refused
        assert list(app.log.read()) == []
        return
    vect = app.vect("v")
    written = {"a": "pending", "b": "pending", None: "pending"}
    written |= {event.step: event.dest for event in vect.events()}
    assert {name: step.state for name, step in vect.steps.items()} | {None: vect.state} == written
    assert [step["state"] for step in vect.status()["executions"]] == [written["a"], written["b"]]


def test_all_who_wait_are_told(new_app: NewApp) -> None:
    log = BadLog("commit", "step.succeeded")
    log.is_bad = False
    app, go, waiters = new_app(OAutomMode.background, log=log), threading.Event(), Waiters(5)
    flow = Flow("f", app)
    PythonExecution("a", flow, go.wait, (SECONDS,)) >> flow_step(flow, "b")
    vect = app.start("f")
    waiters.wait_for(vect)
    log.is_bad = True
    go.set()

    assert waiters.errors() == [MESSAGE] * 5


class Waiters:
    """Threads that wait for one Vect."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._threads: list[threading.Thread] = []
        self._errors: list[str] = []

    def wait_for(self, vect: Any) -> None:
        def wait() -> None:
            try:
                vect.wait(timeout=SECONDS)
            except LogError as error:
                self._errors.append(str(error))

        self._threads = [threading.Thread(target=wait) for _ in range(self._count)]
        for thread in self._threads:
            thread.start()

    def errors(self) -> list[str]:
        for thread in self._threads:
            thread.join(SECONDS)
        return self._errors


def test_what_runs_is_told_to_stop(new_app: NewApp, mode: OAutomMode) -> None:
    log = BadLog("commit", "step.succeeded")
    app = new_app(mode, log=log)
    flow, listening, heard = Flow("f", app), threading.Event(), threading.Event()

    def listens(context: Any) -> None:
        cancelled = context.cancelled
        listening.set()
        if cancelled.wait(SECONDS):
            heard.set()

    PythonExecution("listens", flow, listens)
    PythonExecution("ends", flow, listening.wait, (SECONDS,))
    vect = app.start(flow)
    with pytest.raises(LogError):
        vect.wait(timeout=SECONDS)

    assert heard.wait(SECONDS)
    app.close()


def test_a_close_after_the_stop_waits_for_who_promised_to_end(new_app: NewApp) -> None:
    """Also when it comes while the engine is about to tell the steps to stop."""
    app = new_app(OAutomMode.background, log=BadLog("commit", "step.succeeded"))
    flow, listening, stopping = Flow("f", app), threading.Event(), threading.Event()
    closed, was_waited_for = threading.Event(), []

    def promises(context: Any) -> None:
        cancelled = context.cancelled

        def stop() -> None:
            stopping.set()
            was_waited_for.append(not closed.wait(0.2))

        context.on_cancel(stop)
        listening.set()
        cancelled.wait(SECONDS)

    PythonExecution("promises", flow, promises)
    PythonExecution("ends", flow, listening.wait, (SECONDS,))
    app.start(flow)
    assert stopping.wait(SECONDS)

    app.close()
    closed.set()

    assert was_waited_for == [True]


def test_an_app_beside_it_goes_on(new_app: NewApp) -> None:
    bad, good = new_app(log=BadLog("append", "vect.created")), new_app()
    Flow("f", bad)
    with pytest.raises(LogError):
        bad.run("f")

    flow_step(Flow("f", good), "a")
    assert good.run("f").state == "success"


def test_a_block_is_left_with_the_error_of_the_log() -> None:
    app = OAutom(log=BadLog("append", "vect.created"))
    Flow("f", app)
    with pytest.raises(LogError), app:
        app.run("f")


def test_two_open_apps_do_not_write_one_log(new_app: NewApp) -> None:
    log = MemoryEventLog()
    first = new_app(log=log)

    with pytest.raises(SettingError, match="another open app writes this log; close that one"):
        new_app(log=log)

    first.close()
    assert runs_well(new_app(log=log))
