"""Cancelling: what has begun is told to end, what has not never begins, what has ended stays."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from oautom import Context, Execution, Flow, OAutom, Pool, PythonExecution

from .conftest import SECONDS, Gate, NewApp, flow_step, runs_well, told


class Listening:
    """A step that runs until it is told to stop."""

    def __init__(self) -> None:
        self.reached, self.heard = threading.Event(), threading.Event()

    def __call__(self, context: Context) -> str:
        self.reached.set()
        assert context.cancelled.wait(SECONDS)
        self.heard.set()
        return "heard"


def cancel_when_reached(vect: Any, step: Any, reason: str = "") -> threading.Thread:
    """Cancel from another thread, so that this one may drive in the foreground."""

    def cancel() -> None:
        assert step.reached.wait(SECONDS)
        vect.cancel(reason)

    thread = threading.Thread(target=cancel)
    thread.start()
    return thread


def test_what_runs_is_told_and_what_waits_never_begins(any_app: OAutom) -> None:
    flow, step, calls = Flow("f", any_app), Listening(), []
    PythonExecution("a", flow, step) >> PythonExecution("b", flow, lambda: calls.append("b"))
    vect = any_app.start(flow)

    thread = cancel_when_reached(vect, step, "it rains")
    assert vect.wait(timeout=SECONDS) == "cancelled"
    thread.join(SECONDS)

    assert step.heard.wait(SECONDS)
    assert calls == []
    assert [s.state for s in vect.steps.values()] == ["cancelled", "cancelled"]
    assert [s.attempt for s in vect.steps.values()] == [1, 0]
    cancelled = [e for e in vect.events() if e.name.endswith(".cancelled")]
    assert told(cancelled) == ["step.cancelled a", "step.cancelled b", "vect.cancelled"]
    assert [event.data["reason"] for event in cancelled] == ["it rains"] * 3
    assert runs_well(any_app)


def test_what_has_succeeded_before_keeps_its_result(mode_app: OAutom) -> None:
    flow, step = Flow("f", mode_app), Listening()
    flow_step(flow, "a") >> PythonExecution("b", flow, step)
    vect = mode_app.start(flow)
    thread = cancel_when_reached(vect, step)
    vect.wait(timeout=SECONDS)
    thread.join(SECONDS)

    assert vect.result("a") == "a"
    assert vect.steps["b"].state == "cancelled"


def test_a_vect_that_is_cancelled_before_it_moves_does_nothing_ever(
    new_app: NewApp, executor: Any
) -> None:
    app, calls = new_app(executor=executor), []
    flow = Flow("f", app)
    PythonExecution("a", flow, lambda: calls.append("a"))
    vect = app.start(flow)
    vect.cancel("never mind")

    assert vect.wait(timeout=SECONDS) == "cancelled"
    assert runs_well(app)  # whatever was left to do is done by now
    assert calls == []
    assert vect.steps["a"].state == "cancelled"


def test_to_cancel_twice_is_to_cancel_once(mode_app: OAutom) -> None:
    flow, step = Flow("f", mode_app), Listening()
    PythonExecution("a", flow, step)
    vect = mode_app.start(flow)
    vect.cancel("first")
    vect.cancel("second")
    vect.wait(timeout=SECONDS)

    ends = [event for event in vect.events() if event.name == "vect.cancelled"]
    assert [event.data["reason"] for event in ends] == ["first"]


@pytest.mark.parametrize("function", [lambda: None, lambda: 1 / 0], ids=["success", "failed"])
def test_of_a_vect_that_has_ended_nothing_changes(any_app: OAutom, function: Any) -> None:
    flow = Flow("f", any_app)
    PythonExecution("a", flow, function)
    vect = any_app.run(flow)
    before = vect.status(), vect.events()

    vect.cancel("too late")
    assert runs_well(any_app)

    assert (vect.status(), vect.events()) == before


def test_a_step_that_does_not_listen_is_not_waited_for(mode_app: OAutom) -> None:
    flow, gate = Flow("f", mode_app), Gate()
    PythonExecution("a", flow, gate)
    vect = mode_app.start(flow)
    thread = cancel_when_reached(vect, gate)

    assert vect.wait(timeout=SECONDS) == "cancelled"
    thread.join(SECONDS)
    assert runs_well(mode_app)

    gate.opened.set()


def test_its_late_result_is_written_down_and_changes_nothing(
    background: OAutom, connect: Any
) -> None:
    flow, gate, late = Flow("f", background), Gate(), threading.Event()
    PythonExecution("a", flow, gate)
    connect(lambda *_, **__: late.set(), "step.late_result", sender=flow)
    vect = background.start(flow)
    cancel_when_reached(vect, gate).join(SECONDS)
    assert vect.wait(timeout=SECONDS) == "cancelled"
    before = vect.status()

    gate.opened.set()
    assert late.wait(SECONDS)

    assert vect.status() == before
    assert vect.steps["a"].output is None
    event = vect.events()[-1]
    assert (event.name, event.source, event.dest) == (
        "step.late_result",
        "cancelled",
        "cancelled",
    )
    assert (event.attempt, event.data["output"]) == (1, "through")


def test_the_slot_of_a_step_that_does_not_listen_is_free_when_it_ends(new_app: NewApp) -> None:
    app, gate = new_app("background", max_workers=1), Gate()
    flow = Flow("f", app)
    PythonExecution("a", flow, gate)
    vect = app.start(flow)
    cancel_when_reached(vect, gate).join(SECONDS)
    vect.wait(timeout=SECONDS)

    later = Flow("g", app)
    flow_step(later, "b")
    next_vect = app.start(later)
    with pytest.raises(TimeoutError):
        next_vect.wait(timeout=0.02)  # the only worker is still busy
    gate.opened.set()

    assert next_vect.wait(timeout=SECONDS) == "success"


def test_a_promise_to_end_is_waited_for(background: OAutom) -> None:
    flow, reached, asked, go = Flow("f", background), threading.Event(), threading.Event(), Gate()

    def step(context: Context) -> None:
        assert context.on_cancel(asked.set)
        reached.set()
        go()

    PythonExecution("a", flow, step)
    vect = background.start(flow)
    assert reached.wait(SECONDS)
    vect.cancel()
    assert asked.wait(SECONDS)
    with pytest.raises(TimeoutError):
        vect.wait(timeout=0.02)

    go.opened.set()
    assert vect.wait(timeout=SECONDS) == "cancelled"


def test_who_waits_for_a_promise_wakes_up_while_other_vects_go_on(background: OAutom) -> None:
    flow, reached, asked, go = Flow("f", background), threading.Event(), threading.Event(), Gate()

    def step(context: Context) -> None:
        context.on_cancel(asked.set)
        reached.set()
        go()

    other = Gate()
    PythonExecution("a", flow, step)
    PythonExecution("b", Flow("g", background), other)
    vect, going_on = background.start("f"), background.start("g")
    assert reached.wait(SECONDS)
    vect.cancel()
    assert asked.wait(SECONDS)
    ended: list[str] = []
    waiter = threading.Thread(target=lambda: ended.append(vect.wait(timeout=SECONDS)))
    waiter.start()
    threading.Event().wait(0.05)  # so that it really waits
    go.opened.set()
    waiter.join(1)

    assert ended == ["cancelled"]
    assert going_on.state == "running"
    other.opened.set()


def test_a_stopper_that_raises_does_not_stop_the_engine(program: Any) -> None:
    ended = program("""

        app, reached = OAutom(OAutomMode.background), threading.Event()
        def step(context):
            def stop():
                raise ValueError('mine')
            context.on_cancel(stop)
            reached.set()
            context.cancelled.wait(10)
        PythonExecution('a', Flow('f', app), step)
        PythonExecution('b', Flow('g', app), lambda: 42)
        vect = app.start('f')
        reached.wait(10)
        vect.cancel()
        print(end(vect), end(app.start('g')))
    """)

    assert ended.stdout == "cancelled success\n", ended.stderr


def test_a_stopper_may_wait_for_its_step_which_may_ask_the_app(background: OAutom) -> None:
    flow, reached, asked, in_time = Flow("f", background), threading.Event(), Gate(), []

    def step(context: Context) -> None:
        cancelled = context.cancelled
        context.on_cancel(lambda: in_time.append(asked.reached.wait(1)))
        reached.set()
        assert cancelled.wait(SECONDS)
        background.status(flow)
        asked.reached.set()

    PythonExecution("a", flow, step)
    vect = background.start(flow)
    assert reached.wait(SECONDS)
    vect.cancel()
    vect.wait(timeout=SECONDS)

    assert in_time == [True]


def test_several_vects_are_cancelled_each_for_itself(mode_app: OAutom) -> None:
    flow, steps = Flow("f", mode_app, max_active_vects=2), {}
    for name in ("v1", "v2"):
        steps[name] = Listening()

    def step(context: Context) -> str:
        return steps[context.vect_id](context)

    PythonExecution("a", flow, step)
    first, second = (mode_app.start(flow, vect_id=name) for name in ("v1", "v2"))
    thread = cancel_when_reached(first, steps["v1"])
    assert first.wait(timeout=SECONDS) == "cancelled"
    thread.join(SECONDS)
    assert second.state == "running"
    assert not steps["v2"].heard.is_set()

    second.cancel()
    assert second.wait(timeout=SECONDS) == "cancelled"


# Steps that are polled


class Remote(Execution):
    """Work that lives elsewhere, and is done after so many questions."""

    poll_interval = 0.001

    def __init__(self, name: str, flow: Flow, questions: int) -> None:
        super().__init__(name, flow)
        self.questions = questions
        self.asked: list[Any] = []
        self.reached = threading.Event()

    def run(self, context: Context) -> str:
        assert context.output is None
        return "job 7"

    def check(self, context: Context) -> bool:
        self.asked.append((context.output, context.step))
        self.reached.set()
        return len(self.asked) == self.questions


def test_a_polled_step_is_asked_until_it_is_done(any_app: OAutom) -> None:
    flow = Flow("f", any_app)
    step = Remote("a", flow, 5)
    step >> flow_step(flow, "b")

    vect = any_app.run(flow)

    assert step.asked == [("job 7", "a")] * 5
    assert vect.result("a") == "job 7"
    assert told(vect.events())[2:5] == ["step.started a", "step.succeeded a", "step.started b"]


def test_polled_steps_take_no_worker_while_they_wait(new_app: NewApp) -> None:
    app = new_app(max_workers=1)
    flow, turns = Flow("f", app), []

    class Taking(Remote):
        def check(self, context: Context) -> bool:
            turns.append(self.name)
            return len(set(turns)) == 3

    for name in "abc":
        Taking(name, flow, 0)

    assert app.run(flow).state == "success"
    assert set(turns) == set("abc")  # none of them held the only worker until it was done


def test_a_check_that_raises_fails_the_step(any_app: OAutom) -> None:
    class Broken(Remote):
        def check(self, context: Context) -> bool:
            raise ConnectionError("no such job")

    flow = Flow("f", any_app)
    Broken("a", flow, 1)
    vect = any_app.run(flow)

    assert vect.steps["a"].error == "ConnectionError: no such job"
    assert runs_well(any_app)


def test_a_run_that_raises_is_not_asked_about(any_app: OAutom) -> None:
    class Broken(Remote):
        def run(self, context: Context) -> str:
            raise ConnectionError("not even begun")

    flow = Flow("f", any_app)
    step = Broken("a", flow, 1)
    vect = any_app.run(flow)

    assert vect.steps["a"].error == "ConnectionError: not even begun"
    assert step.asked == []


def test_an_async_check_is_awaited(any_app: OAutom) -> None:
    class Later(Remote):
        async def check(self, context: Context) -> bool:
            self.asked.append("later")
            return len(self.asked) == self.questions

    flow = Flow("f", any_app)
    step = Later("a", flow, 3)

    assert any_app.run(flow).state == "success"
    assert len(step.asked) == 3


def test_a_check_whose_answer_is_neither_true_nor_false_fails_the_step_only(
    any_app: OAutom,
) -> None:
    class Ambiguous:
        def __bool__(self) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

    class Broken(Remote):
        def check(self, context: Context) -> Any:
            return Ambiguous()

    flow = Flow("f", any_app)
    Broken("a", flow, 1)
    vect = any_app.start(flow)

    assert vect.wait(timeout=SECONDS) == "failed"
    assert runs_well(any_app)


def test_a_step_that_is_cancelled_between_two_checks_is_not_asked_again(mode_app: OAutom) -> None:
    class Seldom(Remote):
        poll_interval = 1000.0

        def run(self, context: Context) -> str:
            self.reached.set()
            return "job 7"

    flow = Flow("f", mode_app)
    step = Seldom("a", flow, 1)
    vect = mode_app.start(flow)
    thread = cancel_when_reached(vect, step)

    assert vect.wait(timeout=SECONDS) == "cancelled"
    thread.join(SECONDS)
    assert step.asked == []
    assert runs_well(mode_app)


def test_a_step_that_is_cancelled_during_a_check_is_not_asked_again(mode_app: OAutom) -> None:
    flow, gate = Flow("f", mode_app), Gate()

    class Slow(Remote):
        def check(self, context: Context) -> bool:
            self.asked.append("once")
            gate()
            return False

    step = Slow("a", flow, 1)
    vect = mode_app.start(flow)
    thread = cancel_when_reached(vect, gate)
    assert vect.wait(timeout=SECONDS) == "cancelled"
    thread.join(SECONDS)

    gate.opened.set()
    assert runs_well(mode_app)
    assert step.asked == ["once"]
    assert vect.steps["a"].state == "cancelled"


def test_at_the_close_no_work_is_begun_because_another_vect_makes_room(new_app: NewApp) -> None:
    app, has_begun, calls = new_app("background", max_workers=4), threading.Event(), list[str]()
    flow = Flow("f", app, max_active_vects=3)

    def work(context: Context) -> None:
        calls.append(context.vect_id)
        has_begun.set()
        context.cancelled.wait(SECONDS)

    PythonExecution("a", flow, work, pool=Pool("p", 1))
    vects = [app.start(flow) for _ in range(3)]
    assert has_begun.wait(SECONDS)
    app.close()

    assert [vect.state for vect in vects] == ["cancelled"] * 3
    assert calls == [vects[0].id]
    assert [event.vect for event in app.log.read() if event.name == "vect.cancelled"] == [
        vect.id for vect in vects
    ]
