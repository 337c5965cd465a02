"""Receivers of signals: they hear everything, in order, and can harm nobody."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    EngineError,
    Event,
    Flow,
    MapExecution,
    OAutom,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
)
from oautom.events import replay, signals

from .conftest import SECONDS, Gate, flow_step, join_threads, run_and_tell, runs_well, told


def chain(app: OAutom, name: str = "f") -> Flow:
    flow = Flow(name, app)
    flow_step(flow, "a") >> flow_step(flow, "b")
    return flow


CHAIN_EVENTS = [
    "vect.created",
    "vect.started",
    "step.started a",
    "step.succeeded a",
    "step.started b",
    "step.succeeded b",
    "vect.succeeded",
]


def test_a_receiver_hears_every_event_of_the_log_in_order(any_app: OAutom, connect: Any) -> None:
    heard: list[Event] = []
    flow = chain(any_app)
    connect(lambda flow, event, **_: heard.append(event), sender=flow)
    vect = run_and_tell(any_app, flow)

    assert told(heard) == CHAIN_EVENTS
    assert heard == vect.events()


def spoil(value: Any) -> None:
    """Empty all lists and dictionaries in a value, as one might who masks secrets."""
    parts = value.values() if isinstance(value, Mapping) else value
    for part in parts:
        if isinstance(part, Mapping | list | tuple):
            spoil(part)
    if isinstance(value, dict | list):
        value.clear()


@pytest.mark.parametrize("is_durable", [False, True])
def test_what_a_receiver_does_to_an_event_nobody_else_sees(
    new_app: Any, connect: Any, tmp_path: Path, is_durable: bool
) -> None:
    log = tmp_path / "runs.db" if is_durable else None
    app = new_app(log=log, executor="inline")
    flow = Flow("f", app, params={"tags": list[str]})
    first = PythonExecution("a", flow, lambda: {"rows": [1, [2]]})
    PythonExecution("b", flow, repr, [first])
    first >> PythonExecution(
        "c", flow, repr, [flow.param("tags")], retry=RetryPolicy(max_attempts=2)
    )
    each = MapExecution("m", flow, repr, over=PythonExecution("l", flow, lambda: [[1], [2]]))
    each >> flow_step(flow, "end")
    heard: list[str] = []
    connect(lambda flow, event: spoil(event.data))
    connect(lambda flow, event: heard.append(repr(event)))
    vect = app.run(flow, {"tags": ["x", "y"]})

    assert vect.state == "success"
    assert (vect.result("b"), vect.result("c")) == ("{'rows': [1, [2]]}", "['x', 'y']")
    assert vect.result("m") == ["[1]", "[2]"]
    assert dict(vect.params) == {"tags": ["x", "y"]}
    assert heard == [repr(event) for event in vect.events()]
    spoil([event.data for event in vect.events()])
    assert heard == [repr(event) for event in app.log.read()]
    again = replay(app.log.read())[vect.id]
    assert again.steps["a"].output == {"rows": [1, [2]]}


def test_wait_returns_when_the_receivers_have_heard_of_the_end(
    mode_app: OAutom, connect: Any
) -> None:
    flow, reached, go, heard = chain(mode_app), threading.Event(), threading.Event(), []

    def receive(flow: Flow, event: Event) -> None:
        reached.set()
        assert go.wait(SECONDS)
        heard.append("the end")

    def let_go() -> None:
        assert reached.wait(SECONDS)
        threading.Event().wait(0.05)
        go.set()

    connect(receive, "vect.succeeded", sender=flow)
    vect, helper = mode_app.start(flow), threading.Thread(target=let_go)
    helper.start()
    if mode_app.mode == "background":
        assert reached.wait(SECONDS)
    vect.wait(timeout=SECONDS)
    heard_by_then = list(heard)
    helper.join(SECONDS)

    assert heard_by_then == ["the end"]


def test_the_sender_is_the_flow(any_app: OAutom, connect: Any) -> None:
    flow, other, heard = chain(any_app), chain(any_app, "g"), []
    connect(lambda flow, event: heard.append((flow, event.step)), "step.succeeded", sender=flow)

    run_and_tell(any_app, other)
    run_and_tell(any_app, flow)

    assert heard == [(flow, "a"), (flow, "b")]


def test_a_failure_is_told_with_its_error(any_app: OAutom, connect: Any) -> None:
    flow, heard = Flow("f", any_app), []
    flow_step(flow, "a", lambda: 1 / 0) >> flow_step(flow, "b")
    for name in ("step.failed", "step.blocked", "vect.failed"):
        connect(
            lambda flow, event: heard.append((event.name, event.step, event.data)),
            name,
            sender=flow,
        )

    run_and_tell(any_app, flow)

    (failed, step, data), (blocked, *_), (vect_failed, *_) = heard
    assert (failed, blocked, vect_failed) == ("step.failed", "step.blocked", "vect.failed")
    assert step == "a"
    assert data["error"] == "ZeroDivisionError: division by zero"
    assert data["error_type"] == "ZeroDivisionError"
    assert "Traceback" in data["traceback"]


def test_a_receiver_sees_the_state_of_its_event_or_a_later_one(
    any_app: OAutom, connect: Any
) -> None:
    seen = []

    def look(flow: Flow, event: Event) -> None:
        vect = any_app.vect(event.vect)
        seen.append((event.name, (vect.steps[event.step] if event.step else vect).state))

    flow = chain(any_app)
    connect(look, "vect.succeeded", sender=flow)
    connect(look, "step.succeeded", sender=flow)
    run_and_tell(any_app, flow)

    assert seen == [
        ("step.succeeded", "success"),
        ("step.succeeded", "success"),
        ("vect.succeeded", "success"),
    ]


def leave(flow: Any, event: Any) -> None:
    sys.exit(3)


def break_(flow: Any, event: Any) -> None:
    raise ValueError("mine")


def take_too_little() -> None:
    raise AssertionError("never called")


@pytest.mark.parametrize("receiver", [leave, break_, take_too_little])
def test_a_receiver_that_raises_is_logged_and_harms_nobody(
    any_app: OAutom, connect: Any, caplog: pytest.LogCaptureFixture, receiver: Any
) -> None:
    heard: list[Event] = []
    flow = chain(any_app)
    connect(receiver, sender=flow)
    connect(lambda flow, event: heard.append(event), sender=flow)
    with caplog.at_level(logging.ERROR):
        vect = run_and_tell(any_app, flow)

    assert vect.state == "success"
    assert told(heard) == CHAIN_EVENTS
    assert [record.name for record in caplog.records] == ["oautom.signals"] * 7
    message = caplog.records[2].getMessage()
    assert receiver.__name__ in message
    assert message.endswith("raised on event 3 (step.started); the run goes on")
    assert runs_well(any_app)


def test_in_the_background_an_interrupt_of_a_receiver_does_not_stop_the_engine(
    program: Any,
) -> None:
    ended = program("""

        app = OAutom(OAutomMode.background)
        PythonExecution('a', Flow('f', app), lambda: 42)
        PythonExecution('b', Flow('g', app), lambda: 43)
        @signals.step_started.connect
        def interrupted(flow, event):
            raise KeyboardInterrupt
        print(end(app.start('f')))
        signals.step_started.disconnect(interrupted)
        print(end(app.start('g')))
    """)

    assert ended.stdout == "success\nsuccess\n", ended.stderr


def test_a_receiver_may_cancel_its_vect(mode_app: OAutom, connect: Any) -> None:
    flow, calls = Flow("f", mode_app), []
    PythonExecution("a", flow, lambda: None) >> PythonExecution(
        "b", flow, lambda context: context.cancelled.wait(SECONDS)
    )
    flow_step(flow, "c", lambda: calls.append("c")).depends(flow.steps["b"])

    def cancel(flow: Flow, event: Event) -> None:
        mode_app.vect(event.vect).cancel("enough")

    connect(cancel, "step.succeeded", sender=flow)
    vect = mode_app.start(flow)

    assert vect.wait(timeout=SECONDS) == "cancelled"
    assert vect.steps["a"].state == "success"
    assert calls == []
    assert [e.data["reason"] for e in vect.events() if e.name == "vect.cancelled"] == ["enough"]


def test_a_receiver_may_start_another_flow(any_app: OAutom, connect: Any) -> None:
    first, second, started = chain(any_app, "first"), chain(any_app, "second"), []
    is_started = threading.Event()

    def start(flow: Flow, event: Event) -> None:
        started.append(any_app.start(second))
        is_started.set()

    connect(start, "vect.succeeded", sender=first)
    run_and_tell(any_app, first)
    assert is_started.wait(SECONDS)

    (vect,) = started
    assert vect.wait(timeout=SECONDS) == "success"
    assert told(vect.events()) == CHAIN_EVENTS


def test_a_receiver_may_start_its_own_flow_again(any_app: OAutom, connect: Any) -> None:
    flow, vects, reached = chain(any_app), [], threading.Event()

    def again(flow: Flow, event: Event) -> None:
        if len(vects) < 3:
            vects.append(any_app.start(flow))
        else:
            reached.set()

    connect(again, "vect.succeeded", sender=flow)
    run_and_tell(any_app, flow)
    while any_app.mode == "foreground" and not reached.is_set():
        vects[-1].wait(timeout=SECONDS)
    assert reached.wait(SECONDS)

    assert [vect.wait(timeout=SECONDS) for vect in vects] == ["success"] * 3


def test_a_receiver_may_ask_the_app(any_app: OAutom, connect: Any) -> None:
    answers = []

    def ask(flow: Flow, event: Event) -> None:
        answers.append((any_app.status(flow)["state"], len(any_app.logs()), any_app.flows()))

    flow = chain(any_app)
    connect(ask, "vect.succeeded", sender=flow)
    run_and_tell(any_app, flow)

    assert answers == [("success", 1, ["f"])]


def test_a_receiver_that_waits_for_a_vect_is_told_that_it_cannot(
    any_app: OAutom, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def wait(flow: Flow, event: Event) -> None:
        any_app.vect(event.vect).wait()

    flow = chain(any_app)
    connect(wait, "step.started", sender=flow)
    vect = any_app.start(flow)

    assert vect.wait(timeout=SECONDS) == "success"
    join_threads("oautom-scheduler")
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [type(error) for error in errors] == [EngineError, EngineError]
    assert "on the scheduler's own thread cannot wait for a Vect" in str(errors[0])
    assert "use another thread" in str(errors[0])


def test_a_receiver_that_runs_a_flow_is_told_that_it_cannot_and_nothing_is_left_behind(
    mode_app: OAutom, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = chain(mode_app, "first"), chain(mode_app, "second")
    connect(lambda flow, event: mode_app.run(second), "vect.started", sender=first)

    assert mode_app.start(first).wait(timeout=SECONDS) == "success"

    errors = [type(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert errors == [EngineError]
    assert mode_app.vects(second) == []


def test_a_receiver_that_closes_the_app_is_told_that_it_cannot(
    mode_app: OAutom, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    flow, gate = Flow("f", mode_app), Gate()
    gate.opened.set()
    PythonExecution("a", flow, gate) >> flow_step(flow, "b")
    connect(lambda flow, event: mode_app.close(), "step.started", sender=flow)
    vect = mode_app.start(flow)

    # What raises has changed nothing: the run goes on, and so does the app.
    assert vect.wait(timeout=SECONDS) == "success"
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [type(error) for error in errors] == [EngineError, EngineError]
    assert "clos" in str(errors[0])
    assert runs_well(mode_app)


def test_a_close_that_is_refused_does_not_end_who_serves(new_app: Any, connect: Any) -> None:
    app, ended = new_app(), threading.Event()
    flow = chain(app)
    connect(lambda flow, event: app.close(), "step.started", sender=flow)
    connect(lambda flow, event: ended.set(), "vect.succeeded", sender=flow)
    app.start(flow)
    thread = threading.Thread(target=app.run)
    thread.start()
    has_ended = ended.wait(2)
    app.stop()
    thread.join(SECONDS)

    assert has_ended


def test_an_interrupt_in_a_receiver_ends_the_program_in_good_order(program: Any) -> None:
    ended = program("""
        app = OAutom()
        PythonExecution('a', Flow('f', app), lambda: 42)
        vect = app.start('f')
        @signals.vect_succeeded.connect
        def interrupted(flow, event):
            raise KeyboardInterrupt
        try:
            vect.wait()
        except KeyboardInterrupt:
            print('interrupted')
        print(end(vect))
        closer = threading.Thread(target=app.close, daemon=True)
        closer.start()
        closer.join(2)
        print('hangs' if closer.is_alive() else 'closed')
    """)

    assert ended.stdout == "interrupted\nsuccess\nclosed\n", ended.stderr


def test_an_inline_step_cannot_wait_for_a_vect(inline: OAutom) -> None:
    flow = Flow("f", inline)
    PythonExecution("a", flow, lambda context: inline.vect(context.vect_id).wait())
    vect = inline.run(flow)

    error = vect.steps["a"].error
    assert error is not None
    assert error.startswith("EngineError: a step or receiver on the scheduler's own thread cannot")


def test_a_step_on_a_thread_may_run_another_flow(mode_app: OAutom) -> None:
    inner, outer = chain(mode_app, "inner"), Flow("outer", mode_app)
    PythonExecution("a", outer, lambda: mode_app.run(inner).state)

    assert run_and_tell(mode_app, outer).result("a") == "success"


def test_receivers_of_two_apps_hear_both(connect: Any, new_app: Any) -> None:
    one, other, heard = new_app(executor="inline"), new_app(executor="inline"), []
    connect(lambda flow, event: heard.append(flow.app), "vect.succeeded")

    one.run(chain(one))
    other.run(chain(other))

    assert heard == [one, other]


def test_a_receiver_is_called_on_one_thread_only(background: OAutom, connect: Any) -> None:
    flow, idents, lock = Flow("f", background), [], threading.Lock()
    for name in "abcdef":
        flow_step(flow, name)

    def receive(flow: Flow, event: Event) -> None:
        assert lock.acquire(blocking=False)  # never two at a time
        idents.append(threading.get_ident())
        lock.release()

    connect(receive, sender=flow)
    run_and_tell(background, flow)

    assert len(set(idents)) == 1
    assert threading.get_ident() not in idents


def test_a_receiver_can_be_disconnected(inline: OAutom, connect: Any) -> None:
    heard: list[Event] = []
    receiver = connect(lambda flow, event: heard.append(event))
    signals.event.disconnect(receiver)

    inline.run(chain(inline))

    assert heard == []


def test_the_mode_is_a_word_too(new_app: Any) -> None:
    assert new_app("background").mode is OAutomMode.background
    assert OAutomMode.background == "background"
