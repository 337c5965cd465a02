"""The scheduler and its runner, by hand: a tick at a time, without threads."""

from __future__ import annotations

import logging
import pickle
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest

from oautom import (
    EngineError,
    Event,
    Execution,
    Flow,
    FlowError,
    LogError,
    MemoryEventLog,
    PythonExecution,
    VectAlreadyRunningException,
)
from oautom.engine.clock import SystemClock
from oautom.engine.messages import Nudge
from oautom.engine.scheduler import Scheduler
from oautom.events import replay, signals
from oautom.events.texts import Text
from oautom.machine.commands import Cancel, Command, Recover, Retry, Submit, Trigger
from oautom.machine.decide import handle
from oautom.machine.state import VectState
from oautom.steps.capture import CAPTURE
from oautom.steps.context import Context
from oautom.steps.work import Outcome
from oautom.vects.run import Run
from oautom.workers.inline import InlineWorkers
from tests.kit import NOON, HandClock, HandWorkers, Registry, nothing

Graph = dict[str, tuple[str, ...]]
CHAIN: Graph = {"a": (), "b": ("a",), "c": ("b",)}


class Engine:
    """A scheduler, and all that it needs, by hand."""

    def __init__(
        self, *, slots: int = 2, log: Any = None, workers: Any = None, clock: Any = None
    ) -> None:
        self.log = log or MemoryEventLog()
        self.clock = clock or HandClock()
        self.workers = workers or HandWorkers(slots)
        self.scheduler = Scheduler(self.log, self.clock, self.workers)

    def begin(self, flow: Flow, vect: str = "v") -> Run:
        run = Run(flow, vect)
        self.scheduler.begin(run)
        return run

    def turn(self) -> None:
        """Take all that is in the inbox now, and all that follows."""
        self.scheduler.drive(self.scheduler._inbox.empty)

    def answer(self, *steps: str, **told: Any) -> None:
        for step in steps:
            self.workers.answer(step, **told)
        self.turn()

    def told(self) -> list[str]:
        """The names of all events, each with its step."""
        return [e.name + (f" {e.step}" if e.step else "") for e in self.log.read()]


def flow_of(graph: Graph, function: Callable[..., Any] = nothing, name: str = "f") -> Flow:
    flow = Flow(name, Registry())
    steps = {step: PythonExecution(step, flow, function) for step in graph}
    for step, upstreams in graph.items():
        steps[step].depends(*(steps[each] for each in upstreams))
    return flow


def states(run: Run) -> dict[str, str]:
    return {step.name: step.state for step in run.state.steps.values()}


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def on_event() -> Iterator[Callable[[Callable[..., None]], None]]:
    """Connects receivers for the time of a test."""
    connected = []

    def connect(receiver: Callable[..., None]) -> None:
        connected.append(signals.event.connect(receiver))

    yield connect
    for receiver in connected:
        signals.event.disconnect(receiver)


# The walk of an event


def test_a_step_begins_when_its_upstreams_have_succeeded(engine: Engine) -> None:
    run = engine.begin(flow_of(CHAIN))
    assert engine.workers.begun == []  # nothing moves but in a tick

    engine.turn()
    assert engine.workers.begun == ["a"]
    engine.answer("a")
    engine.answer("b")
    engine.answer("c")

    assert engine.workers.begun == ["a", "b", "c"]
    assert engine.told() == [
        "vect.created",
        "vect.started",
        "step.started a",
        "step.succeeded a",
        "step.started b",
        "step.succeeded b",
        "step.started c",
        "step.succeeded c",
        "vect.succeeded",
    ]
    assert run.state.state == "success"
    assert engine.scheduler.is_over(run)
    assert engine.scheduler.is_idle()


def test_numbers_are_dense_and_a_tick_has_one_time(engine: Engine) -> None:
    engine.begin(flow_of(CHAIN))
    engine.turn()
    engine.clock.seconds = 60
    engine.answer("a")

    events = list(engine.log.read())
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [(event.time - NOON).total_seconds() for event in events] == [0, 0, 0, 60, 60]


def test_the_state_is_the_fold_of_the_log_at_each_turn(engine: Engine) -> None:
    run = engine.begin(flow_of({"a": (), "b": (), "c": ("a", "b"), "d": ("a",)}))
    for step in ("a", "b", "d", "c"):
        engine.turn()
        if step in engine.workers.jobs:
            engine.workers.answer(step, outcome=Outcome(error="no" if step == "b" else None))
        engine.turn()
        assert replay(engine.log.read())["v"].facts() == run.state.facts()

    assert states(run) == {"a": "success", "b": "failed", "c": "upstream_failed", "d": "success"}
    assert run.state.state == "failed"


def test_a_step_with_two_failed_upstreams_is_blocked_once(engine: Engine) -> None:
    engine.begin(flow_of({"a": (), "b": (), "c": ("a", "b")}))
    engine.turn()

    engine.answer("a", "b", outcome=Outcome(error="no"))

    assert engine.told()[-4:] == ["step.failed a", "step.blocked c", "step.failed b", "vect.failed"]


def test_a_flow_without_steps_succeeds_at_once(engine: Engine) -> None:
    run = engine.begin(flow_of({}))
    engine.turn()

    assert engine.told() == ["vect.created", "vect.started", "vect.succeeded"]
    assert engine.scheduler.is_over(run)


def test_no_work_begins_before_the_commit() -> None:
    begun_at_commit = []

    class Log(MemoryEventLog):
        def commit(self) -> Any:
            begun_at_commit.append(list(engine.workers.begun))
            return super().commit()

    engine = Engine(log=Log())
    engine.begin(flow_of(CHAIN))
    engine.turn()
    engine.answer("a")

    assert begun_at_commit == [[], ["a"]]
    assert engine.workers.begun == ["a", "b"]


def test_a_vect_is_not_over_before_its_end_is_committed() -> None:
    over_at_commit = []

    class Log(MemoryEventLog):
        def commit(self) -> Any:
            over_at_commit.append(engine.scheduler.is_over(run))
            return super().commit()

    engine = Engine(log=Log())
    run = engine.begin(flow_of({"a": ()}))
    engine.turn()
    engine.answer("a")

    assert over_at_commit == [False, False]
    assert engine.scheduler.is_over(run)


def test_receivers_hear_of_what_is_committed_in_order_with_its_flow(
    engine: Engine, on_event: Any
) -> None:
    heard = []

    def receive(flow: Flow, event: Any, **_: Any) -> None:
        committed = [each.seq for each in engine.log.read()]
        heard.append((flow, event.seq, event.seq in committed))

    on_event(receive)
    flow = flow_of(CHAIN)
    engine.begin(flow)
    engine.turn()
    engine.answer("a")

    assert heard == [(flow, seq, True) for seq in range(1, 6)]


def test_every_event_is_read_only_and_can_travel(engine: Engine) -> None:
    engine.begin(flow_of({"a": (), "b": (), "c": ("b",)}))
    engine.turn()
    engine.answer("a", outcome=Outcome([1]))
    engine.answer("b", outcome=Outcome(error="no"))

    events = list(engine.log.read())
    for event in events:
        with pytest.raises(TypeError):
            event.data["more"] = 1
    assert pickle.loads(pickle.dumps(events)) == events


def test_what_a_reader_does_to_an_event_does_not_change_the_flow(engine: Engine) -> None:
    flow = flow_of(CHAIN)
    before = flow.fingerprint
    engine.begin(flow)
    engine.turn()

    with suppress(TypeError):  # it is read-only, so much the better
        next(engine.log.read()).data["graph"]["c"] = ()

    assert flow.fingerprint == before
    assert replay(engine.log.read())["v"].graph.upstreams == CHAIN


# Slots


def test_no_more_work_is_under_way_than_there_are_slots() -> None:
    engine = Engine(slots=2)
    run = engine.begin(flow_of(dict.fromkeys("abcde", ())))
    engine.turn()
    assert engine.workers.begun == ["a", "b"]
    assert states(run)["c"] == "pending"

    engine.answer("b")
    assert engine.workers.begun == ["a", "b", "c"]
    engine.answer("a", "c")
    assert engine.workers.begun == list("abcde")


def test_slots_go_to_who_came_first_across_vects() -> None:
    engine = Engine(slots=1)
    engine.begin(flow_of({"a1": (), "a2": ()}), vect="v")
    engine.begin(flow_of({"b1": (), "b2": ()}, name="g"), vect="w")
    engine.turn()
    for step in ("a1", "a2", "b1"):
        engine.answer(step)

    assert engine.workers.begun == ["a1", "a2", "b1", "b2"]


def test_what_becomes_due_does_not_overtake_what_waits_already() -> None:
    engine = Engine(slots=1)
    engine.begin(flow_of({"a": (), "after a": ("a",), "b": ()}))
    engine.turn()
    for step in ("a", "b"):
        engine.answer(step)

    assert engine.workers.begun == ["a", "b", "after a"]


def test_a_failure_frees_its_slot_and_takes_blocked_steps_out_of_the_way() -> None:
    engine = Engine(slots=1)
    engine.begin(flow_of({"a": (), "b": ("a",), "z": ()}))
    engine.turn()

    engine.answer("a", outcome=Outcome(error="no"))

    assert engine.workers.begun == ["a", "z"]


def test_a_step_that_is_cancelled_while_it_waits_for_a_slot_never_begins() -> None:
    engine = Engine(slots=1)
    run = engine.begin(flow_of({"a": (), "b": ()}))
    engine.turn()
    engine.scheduler.cancel(run, "enough")
    engine.turn()

    engine.answer("a")

    assert engine.workers.begun == ["a"]
    assert run.state.steps["b"].attempt == 0


# Cancelling


def test_a_cancel_ends_steps_and_vect_and_tells_the_work(engine: Engine) -> None:
    run = engine.begin(flow_of(CHAIN))
    engine.turn()
    context = engine.workers.context("a")

    engine.scheduler.cancel(run, "enough")
    engine.turn()

    assert engine.told()[3:] == [
        "step.cancelled a",
        "step.cancelled b",
        "step.cancelled c",
        "vect.cancelled",
    ]
    assert [e.data["reason"] for e in engine.log.read(after=3)] == ["enough"] * 4
    assert context.cancelled.is_set()
    assert engine.scheduler.is_over(run)


def test_a_late_result_of_an_attempt_that_is_over_changes_nothing(engine: Engine) -> None:
    run = engine.begin(flow_of(CHAIN))
    engine.turn()
    engine.scheduler.cancel(run, "")
    engine.turn()
    before = run.state.facts()

    engine.answer("a", outcome=Outcome("late"))

    assert engine.told()[-1] == "step.late_result a"
    assert run.state.facts() == before
    assert engine.workers.begun == ["a"]


def test_a_late_error_is_not_taken_for_the_reason_of_the_end(engine: Engine) -> None:
    run = engine.begin(flow_of(CHAIN))
    engine.turn()
    engine.scheduler.cancel(run, "")
    engine.turn()

    engine.answer("a", outcome=Outcome.failure(ValueError("late")))

    assert run.local.failures == {}


def test_a_result_and_a_cancel_in_one_tick_are_taken_in_their_order(engine: Engine) -> None:
    run = engine.begin(flow_of({"a": (), "b": ("a",)}))
    engine.turn()
    engine.workers.answer("a")
    engine.scheduler.cancel(run, "")
    engine.turn()

    assert states(run) == {"a": "success", "b": "cancelled"}
    assert run.state.state == "cancelled"


def test_what_is_cancelled_before_it_has_begun_is_not_done() -> None:
    done: list[str] = []
    engine = Engine()
    run = engine.begin(flow_of({"a": ()}, lambda: done.append("a")))
    engine.scheduler.cancel(run, "at once")

    engine.turn()
    for step in list(engine.workers.jobs):
        engine.workers.do(step)
    engine.turn()

    assert run.state.state == "cancelled"
    assert done == []


def test_who_has_promised_to_end_is_waited_for(engine: Engine) -> None:
    run = engine.begin(flow_of({"a": ()}))
    engine.turn()
    stopped = []
    engine.workers.context("a").on_cancel(lambda: stopped.append("a"))

    engine.scheduler.cancel(run, "")
    engine.turn()
    assert stopped == ["a"]
    assert run.state.state == "cancelled"
    assert not engine.scheduler.is_over(run)

    engine.answer("a")
    assert engine.scheduler.is_over(run)
    assert engine.scheduler.is_idle()


def test_a_stopper_that_raises_harms_nobody(engine: Engine) -> None:
    run = engine.begin(flow_of({"a": (), "b": ()}))
    engine.turn()

    def stop() -> None:
        raise ValueError("mine")

    engine.workers.context("a").on_cancel(stop)
    other = engine.workers.context("b")
    engine.scheduler.cancel(run, "")
    engine.turn()

    assert other.cancelled.is_set()
    engine.answer("a", "b")
    assert engine.scheduler.is_over(run)


def test_to_stop_all_cancels_all_where_the_log_is_not_durable(engine: Engine) -> None:
    runs = [engine.begin(flow_of(CHAIN, name=name), name) for name in ("f", "g")]
    engine.turn()

    engine.scheduler.stop_all("closing")
    engine.turn()

    assert [run.state.state for run in runs] == ["cancelled", "cancelled"]
    assert engine.scheduler.is_idle()


def test_inline_a_cancel_is_not_lost_just_before_the_step_begins() -> None:
    """The scheduler has looked into the inbox, and it was empty; now the cancel comes."""
    was_told: list[bool] = []
    once: list[str] = []

    class Workers(InlineWorkers):
        def run_next(self) -> None:
            if self._jobs and not once:
                once.append("cancelled")
                engine.scheduler.cancel(run, "")
            super().run_next()

    def step(context: Context) -> None:
        was_told.append(context.cancelled.is_set())

    engine = Engine(workers=Workers())
    run = engine.begin(flow_of({"a": ()}, step))
    engine.scheduler.drive(lambda: engine.scheduler.is_over(run))

    assert run.state.state == "cancelled"
    assert was_told in ([True], [])  # told at once, or not even begun


# Polled steps


class Polled(Execution):
    poll_interval = 5.0

    def run(self, context: Context) -> str:
        return "job 7"

    def check(self, context: Context) -> bool:
        raise AssertionError("the test answers for it")


@pytest.fixture
def polled(engine: Engine) -> Run:
    """A step that has been launched, and not been asked yet."""
    flow = Flow("f", Registry())
    Polled("a", flow)
    run = engine.begin(flow)
    engine.turn()
    engine.answer("a", outcome=Outcome("job 7"))
    return run


def wait_for_check(engine: Engine) -> None:
    engine.scheduler.drive(lambda: "a" in engine.workers.jobs)


def test_a_polled_step_is_asked_after_each_interval_until_it_is_done(
    engine: Engine, polled: Run
) -> None:
    assert engine.workers.jobs == {}
    for seconds in (5, 10, 15):
        wait_for_check(engine)
        work = engine.workers.jobs["a"][0]
        assert (work.method, work.context.output) == ("check", "job 7")
        assert engine.clock.seconds == seconds
        assert states(polled) == {"a": "running"}
        engine.answer("a", outcome=Outcome(seconds == 15))

    assert polled.state.steps["a"].output == "job 7"
    assert engine.told()[2:] == ["step.started a", "step.succeeded a", "vect.succeeded"]


def test_a_polled_step_takes_no_slot_between_two_questions() -> None:
    engine = Engine(slots=1)
    flow = flow_of({"b": ()})
    Polled("a", flow).depends()
    engine.begin(flow)
    engine.turn()
    engine.answer("b")
    assert engine.workers.begun == ["b", "a"]

    engine.answer("a", outcome=Outcome("job 7"))
    other = engine.begin(flow_of({"c": ()}, name="g"), "w")
    engine.turn()

    assert engine.workers.begun == ["b", "a", "c"]
    assert states(other) == {"c": "running"}


def test_a_question_waits_for_a_slot_as_a_start_does() -> None:
    engine = Engine(slots=1)
    flow = Flow("f", Registry())
    Polled("a", flow)
    engine.begin(flow)
    engine.turn()
    engine.answer("a", outcome=Outcome("job 7"))
    engine.begin(flow_of({"b": (), "c": ()}, name="g"), "w")
    engine.turn()

    engine.clock.seconds = 60
    engine.scheduler.put(Nudge())
    engine.turn()
    assert engine.workers.begun == ["a", "b"]

    engine.answer("b")
    engine.answer("c")
    assert engine.workers.begun == ["a", "b", "c", "a"]  # c had come first

    engine.begin(flow_of({"d": ()}, name="h"), "x")
    engine.turn()
    assert engine.workers.begun == ["a", "b", "c", "a"]  # the question has the only slot
    engine.answer("a", outcome=Outcome(False))
    assert engine.workers.begun == ["a", "b", "c", "a", "d"]


def test_a_question_that_raises_fails_the_step(engine: Engine, polled: Run) -> None:
    wait_for_check(engine)

    engine.answer("a", outcome=Outcome.failure(ValueError("no such job")))

    assert polled.state.steps["a"].error == "ValueError: no such job"
    assert polled.state.state == "failed"


@pytest.mark.parametrize("interval", ["soon", None, float("inf"), float("nan")])
def test_an_interval_that_is_no_time_is_refused_or_fails_the_step_only(interval: Any) -> None:
    engine, flow = Engine(), Flow("f", Registry())

    class Wrong(Polled):
        poll_interval = interval

    with suppress(FlowError):
        Wrong("a", flow)
    if not flow.steps:
        return  # it was refused, so much the better
    run = engine.begin(flow)
    engine.turn()
    engine.answer("a", outcome=Outcome("job 7"))

    assert engine.scheduler.failure is None
    assert states(run) == {"a": "failed"}


def test_an_interval_that_became_no_time_later_fails_the_step_only() -> None:
    class Later(Polled):
        def __init__(self, name: str, flow: Flow, every: Any) -> None:
            super().__init__(name, flow)
            self.poll_interval = every

    engine, flow = Engine(), Flow("f", Registry())
    Later("a", flow, "soon")
    run = engine.begin(flow)
    engine.turn()
    engine.answer("a", outcome=Outcome("job 7"))

    assert engine.scheduler.failure is None
    assert states(run) == {"a": "failed"}


def test_a_step_that_is_cancelled_between_two_questions_is_not_asked_again(
    engine: Engine, polled: Run
) -> None:
    engine.scheduler.cancel(polled, "")
    engine.turn()
    assert engine.scheduler.is_over(polled)

    engine.clock.seconds = 60
    engine.scheduler.put(Nudge())
    engine.turn()

    assert engine.workers.jobs == {}
    assert engine.told()[-1] == "vect.cancelled"


def test_of_a_polled_step_only_the_question_under_way_is_stopped_and_what_the_step_began() -> None:
    stopped: list[str] = []

    class Stoppable(HandWorkers):
        """Workers that can end each piece of work, as those of processes do."""

        def submit(self, work: Any, done: Any) -> None:
            super().submit(work, done)
            work.on_cancel(lambda: stopped.append(f"{work.method} {len(self.begun)}"))

    engine, flow = Engine(workers=Stoppable()), Flow("f", Registry())
    Polled("a", flow)
    run = engine.begin(flow)
    engine.turn()
    engine.workers.context("a").on_cancel(lambda: stopped.append("job 7"))
    engine.answer("a", outcome=Outcome("job 7"))
    for _ in range(3):
        wait_for_check(engine)
        engine.answer("a", outcome=Outcome(False))
    wait_for_check(engine)

    engine.scheduler.cancel(run, "")
    engine.turn()

    assert sorted(stopped) == ["check 5", "job 7"]


def test_the_answer_to_a_question_asked_before_the_cancel_is_late(
    engine: Engine, polled: Run
) -> None:
    wait_for_check(engine)
    engine.scheduler.cancel(polled, "")
    engine.turn()

    engine.answer("a", outcome=Outcome(True))

    assert engine.told()[-2:] == ["vect.cancelled", "step.late_result a"]
    assert states(polled) == {"a": "cancelled"}


# What the work is told, and what it answers


def test_inputs_are_the_outputs_of_the_direct_upstreams(engine: Engine) -> None:
    engine.begin(flow_of({"a": (), "b": (), "c": ("a", "b"), "d": ("c",)}))
    engine.turn()
    engine.answer("a", outcome=Outcome(1))
    engine.answer("b", outcome=Outcome(None))
    assert engine.workers.context("c").inputs == {"a": 1, "b": None}

    engine.answer("c", outcome=Outcome(3))
    assert engine.workers.context("d").inputs == {"c": 3}


def test_what_cannot_be_handed_over_fails_its_step(engine: Engine) -> None:
    run = engine.begin(flow_of({"a": (), "b": ()}))
    engine.turn()

    engine.answer("a", failure=RuntimeError("cannot schedule new futures after shutdown"))
    engine.answer("b")

    assert states(run) == {"a": "failed", "b": "success"}
    assert run.state.steps["a"].error == "RuntimeError: cannot schedule new futures after shutdown"


def test_what_was_logged_elsewhere_is_part_of_the_log_of_the_step(engine: Engine) -> None:
    run = engine.begin(flow_of({"a": ()}))
    engine.turn()
    outcome = Outcome()
    outcome.log = Text(0, b"from far away\n")

    engine.answer("a", outcome=outcome)

    assert engine.log.text((run.id, "a", 1)) == (0, b"from far away\n")


def test_an_answer_ends_the_capture_of_a_coroutine_that_nobody_resumes(engine: Engine) -> None:
    engine.begin(flow_of({"a": ()}))
    engine.turn()
    context = engine.workers.context("a")
    CAPTURE.begin(context)

    engine.answer("a")

    assert not context.is_captured


def test_work_that_stays_here_is_not_given_to_workers_elsewhere() -> None:
    class Elsewhere(HandWorkers):
        place = "elsewhere"

    class Here(Execution):
        runs_here = True

        def run(self, context: Context) -> int:
            return threading.get_ident()

    engine = Engine(workers=Elsewhere(), clock=SystemClock())  # for once there is a thread
    flow = Flow("f", Registry())
    Here("a", flow)
    Polled("b", flow)
    run = engine.begin(flow)
    assert engine.scheduler.drive(lambda: states(run)["a"] == "success", timeout=10)
    engine.scheduler.close()

    assert engine.workers.begun == ["b"]

    assert run.state.steps["a"].output != threading.get_ident()
    assert engine.workers.is_closed


# When the log refuses


class Full(MemoryEventLog):
    """A log that refuses to append, or to commit, an event of one name."""

    def __init__(self, *, append: str = "", commit: str = "") -> None:
        super().__init__()
        self._refused = append
        self._uncommitted = commit

    def append(self, sender: object, event: Any) -> None:
        if event.name == self._refused:
            raise OSError("disk full")
        super().append(sender, event)

    def commit(self) -> Any:
        if any(event.name == self._uncommitted for event in self._appended):
            raise OSError("disk full")
        return super().commit()


ALL = ("vect.created", "vect.started", "step.started", "step.succeeded", "vect.succeeded")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("what", ["append", "commit"])
def test_a_log_that_refuses_stops_the_engine(what: str, name: str, on_event: Any) -> None:
    heard: list[str] = []
    on_event(lambda flow, event: heard.append(event.name))
    engine = Engine(log=Full(**{what: name}))
    run = engine.begin(flow_of({"a": (), "b": ("a",)}))

    def go_on() -> None:
        for step in ("a", "b"):
            engine.turn()
            if step in engine.workers.jobs:
                engine.workers.answer(step)
        engine.scheduler.drive(lambda: engine.scheduler.is_over(run))

    with pytest.raises(LogError) as caught:
        go_on()

    assert isinstance(caught.value.__cause__, OSError)
    assert str(caught.value) == (
        "the engine has stopped, its log cannot be written: disk full; nothing has been started "
        "that is not in the log"
    )
    committed = list(engine.log.read())
    assert name not in [event.name for event in committed]
    assert heard == [event.name for event in committed]
    assert engine.workers.begun == [e.step for e in committed if e.name == "step.started"]


def test_an_append_that_raises_leaves_the_state_where_it_was() -> None:
    engine = Engine(log=Full(append="step.started"))
    run = engine.begin(flow_of({"a": ()}))
    with pytest.raises(LogError):
        engine.scheduler.drive(lambda: False)

    assert states(run) == {"a": "pending"}


def test_a_stopped_engine_takes_nothing_more_and_says_so_each_time() -> None:
    engine = Engine(log=Full(commit="step.succeeded"))
    run = engine.begin(flow_of({"a": (), "b": ()}))
    engine.turn()
    other = engine.workers.context("b")
    engine.workers.answer("a")
    engine.scheduler.drive(lambda: engine.scheduler.failure is not None)

    assert other.cancelled.is_set()  # all work is told to stop
    engine.begin(flow_of({"c": ()}, name="g"), "w")
    for _ in range(2):
        with pytest.raises(LogError):
            engine.scheduler.drive(lambda: engine.scheduler.is_over(run))
    assert engine.workers.begun == ["a", "b"]


def test_a_run_that_comes_while_the_engine_stops_is_told_too() -> None:
    class Log(Full):
        def read(self, *args: Any, **kwargs: Any) -> Any:
            if not late:
                late.append(engine.begin(flow_of({}, name="g"), "w"))
            return super().read(*args, **kwargs)

    late: list[Run] = []
    engine = Engine(log=Log(commit="vect.started"))
    run = engine.begin(flow_of({"a": ()}))
    engine.begin(flow_of({"b": ()}, name="h"), "x")
    with pytest.raises(LogError):
        engine.scheduler.drive(lambda: engine.scheduler.is_over(run))
    late = late or [engine.begin(flow_of({}, name="g"), "w")]
    with pytest.raises(LogError):
        engine.scheduler.drive(lambda: engine.scheduler.is_over(late[0]))


def test_a_stopped_engine_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(log=Full(append="vect.started"))
    engine.begin(flow_of({}))
    with caplog.at_level(logging.ERROR, "oautom.scheduler"), pytest.raises(LogError):
        engine.scheduler.drive(lambda: False)

    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("oautom.scheduler", "the engine has stopped: disk full")
    ]


def test_when_the_log_cannot_be_read_either_that_is_logged_and_nothing_goes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Full):
        def read(self, *args: Any, **kwargs: Any) -> Any:
            raise OSError("disk gone")

    engine = Engine(log=Broken(commit="step.started"))
    run = engine.begin(flow_of({"a": ()}))
    with caplog.at_level(logging.ERROR, "oautom.scheduler"), pytest.raises(LogError):
        engine.scheduler.drive(lambda: False)

    assert [record.getMessage() for record in caplog.records] == [
        "the engine has stopped: disk full",
        "the log of vect v cannot be read",
    ]
    assert caplog.records[1].exc_info is not None
    assert states(run) == {"a": "running"}


def test_a_run_of_which_nothing_was_committed_is_as_before_its_start() -> None:
    engine = Engine(log=Full(commit="vect.created"))
    run = engine.begin(flow_of({"a": ()}))
    with pytest.raises(LogError):
        engine.scheduler.drive(lambda: False)

    assert run.state.facts() == Run(run.flow, "v").state.facts()


def test_an_illegal_transition_strands_its_vect_and_no_other(
    engine: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handle_wrongly(vect: VectState, command: Command) -> Sequence[Trigger]:
        return [Trigger(vect, "reopen")] if vect.id == "v" else handle(vect, command)

    run = engine.begin(flow_of(CHAIN))
    engine.turn()
    other = engine.begin(flow_of(CHAIN, name="g"), "w")
    monkeypatch.setattr("oautom.engine.scheduler.handle", handle_wrongly)
    engine.scheduler.put(Recover("v"))
    engine.turn()

    assert re.match(r"this is a bug in oautom: vect 'v' of flow 'f' does not", str(run.held_up))
    assert other.held_up is None
    assert "cannot reopen vect of v" in caplog.text
    assert engine.told()[-3:] == ["vect.created", "vect.started", "step.started a"]


def test_a_bug_that_a_worker_meets_strands_its_vect_and_no_other(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not failed: nothing is written, so the next life tries it again."""

    def keep_wrongly(*_: object) -> Outcome:
        raise ZeroDivisionError

    run, other = engine.begin(flow_of(CHAIN)), engine.begin(flow_of({"x": ()}, name="g"), "w")
    engine.turn()
    told = engine.told()
    with monkeypatch.context() as patch:
        patch.setattr("oautom.engine.attempt.kept", keep_wrongly)
        engine.workers.answer("a", "an output")
    engine.turn()

    assert run.held_up is not None
    assert engine.told() == told
    engine.workers.answer("x")
    engine.turn()
    assert other.state.state == "success"
    assert engine.scheduler.runner.busy == 0


def test_an_answer_in_the_tick_of_a_cancel_and_a_retry_lets_the_next_attempt_begin(
    engine: Engine,
) -> None:
    run = engine.begin(flow_of({"a": ()}))
    engine.turn()
    engine.scheduler.cancel(run, "")
    engine.scheduler.put(Retry("v"))
    engine.workers.answer("a")
    engine.turn()

    assert run.state.steps["a"].attempt == 2
    assert states(run) == {"a": "running"}


@pytest.mark.parametrize("at", [None, NOON])
def test_a_stranded_vect_takes_no_room_of_its_flow_now_or_at_the_time_of_a_plan(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, at: datetime | None
) -> None:
    flow = flow_of(CHAIN)
    run = engine.begin(flow)
    engine.turn()
    with pytest.raises(VectAlreadyRunningException):
        engine.scheduler.registry.check_room(run, at)
    monkeypatch.setattr("oautom.engine.scheduler.handle", lambda *_: [Trigger(run.state, "reopen")])
    engine.scheduler.put(Recover("v"))
    engine.turn()

    assert run.held_up is not None
    engine.scheduler.registry.check_room(run, at)


# Driving


ONLY_WHERE_IT_IS_DRIVEN: dict[str, Callable[[Scheduler, Run], object]] = {
    "tick": lambda scheduler, _: scheduler.tick([Nudge()]),
    "carry_out": lambda scheduler, _: scheduler.carry_out([]),
    "create": lambda scheduler, run: scheduler.create(run),
    "obey": lambda scheduler, run: scheduler.steering.obey(run, Cancel(run.id)),
    "let_go": lambda scheduler, run: scheduler.let_go([run.id], (), NOON),
    "fire": lambda scheduler, run: scheduler._fire(Trigger(run.state, "pause")),
    "take a turn": lambda scheduler, _: scheduler.queue.take(has_slot=True),
    "perform": lambda scheduler, run: scheduler.runner.perform(run, Submit(run.id, "a", 1)),
    "let go of timers": lambda scheduler, run: scheduler.runner.let_go(run.id),
}


@pytest.mark.parametrize("what", ONLY_WHERE_IT_IS_DRIVEN)
def test_what_only_the_thread_that_drives_may_do_is_refused_on_another(
    engine: Engine, on_event: Any, what: str
) -> None:
    run = engine.begin(flow_of(CHAIN))
    found: list[tuple[BaseException | None, bool]] = []

    def call_elsewhere(*_: object, event: Event, **__: object) -> None:
        if event.name != "vect.started":
            return
        with ThreadPoolExecutor(1) as other:
            before = (engine.log.last_seq, states(run))
            error = other.submit(ONLY_WHERE_IT_IS_DRIVEN[what], engine.scheduler, run).exception()
            found.append((error, (engine.log.last_seq, states(run)) == before))

    on_event(call_elsewhere)
    engine.turn()

    [(error, is_unchanged)] = found
    assert isinstance(error, AssertionError)
    assert str(error) == "this is a bug in oautom: another thread drives"
    assert is_unchanged
    engine.answer("a")
    engine.answer("b")
    engine.answer("c")
    assert run.shown == "success"


def test_nothing_is_waited_for_when_all_is_over(engine: Engine) -> None:
    assert engine.scheduler.drive(lambda: True) is True
    assert engine.scheduler.drive(lambda: True, timeout=0) is True


def test_at_the_timeout_driving_ends_and_can_go_on(engine: Engine) -> None:
    run = engine.begin(flow_of({"a": ()}))

    assert engine.scheduler.drive(lambda: engine.scheduler.is_over(run), timeout=7) is False
    assert engine.clock.seconds == 7
    assert states(run) == {"a": "running"}

    engine.workers.answer("a")
    assert engine.scheduler.drive(lambda: engine.scheduler.is_over(run), timeout=7) is True


def test_the_timeout_holds_also_while_there_is_always_something_to_do() -> None:
    engine = Engine(workers=InlineWorkers())

    def step() -> None:
        engine.clock.seconds += 10

    run = engine.begin(flow_of({str(i): () for i in range(5)}, step))

    assert engine.scheduler.drive(lambda: engine.scheduler.is_over(run), timeout=15) is False
    assert engine.clock.seconds == 20


def test_the_thread_that_drives_cannot_wait_for_itself(engine: Engine, on_event: Any) -> None:
    errors = []

    def waits(flow: Flow, event: Any) -> None:
        with pytest.raises(EngineError) as caught:
            engine.scheduler.drive(lambda: False)
        errors.append(str(caught.value))

    on_event(waits)
    engine.begin(flow_of({}))
    engine.turn()

    assert len(errors) == 3
    assert errors[0] == (
        "a step or receiver on the scheduler's own thread cannot wait for a Vect, since it would "
        "wait for itself; use another thread or executor='threads'"
    )


def test_after_an_interrupt_in_a_receiver_driving_can_go_on(engine: Engine, on_event: Any) -> None:
    def interrupted(flow: Flow, event: Any) -> None:
        if event.name == "step.started":
            raise KeyboardInterrupt

    on_event(interrupted)
    run = engine.begin(flow_of({"a": ()}))
    with pytest.raises(KeyboardInterrupt):
        engine.turn()

    assert engine.workers.begun == ["a"]
    engine.answer("a")
    assert engine.scheduler.is_over(run)


def test_after_an_interrupt_in_the_receiver_of_the_end_the_vect_is_over_all_the_same(
    engine: Engine, on_event: Any
) -> None:
    def interrupted(flow: Flow, event: Any) -> None:
        if event.name == "vect.succeeded":
            raise KeyboardInterrupt

    on_event(interrupted)
    run = engine.begin(flow_of({}))
    with pytest.raises(KeyboardInterrupt):
        engine.turn()

    assert engine.scheduler.is_over(run)
    assert engine.scheduler.is_idle()


def test_who_waits_until_nothing_is_left_to_do_is_told_when_that_is_so() -> None:
    engine = Engine(clock=SystemClock())
    is_stopped = threading.Event()
    driver = threading.Thread(target=engine.scheduler.drive, args=(is_stopped.is_set,))
    driver.start()

    is_told, tries = True, 0
    while is_told and tries < 200:  # mostly the message is taken only after the wait has begun
        engine.scheduler.put(Nudge())
        is_told = engine.scheduler.drive(engine.scheduler.is_idle, timeout=2, may_drive=False)
        tries += 1
    is_stopped.set()
    engine.scheduler.put(Nudge())
    driver.join(10)

    assert is_told


def test_the_end_of_what_was_killed_is_told_though_more_comes_in_the_same_tick() -> None:
    engine = Engine()
    ending = engine.begin(flow_of({"a": ()}), "v")
    engine.begin(flow_of({"b": (), "c": ("b",)}, name="g"), "w")
    engine.turn()
    engine.workers.context("a").on_cancel(lambda: None)
    engine.scheduler.cancel(ending, "")
    engine.turn()
    looks: list[bool] = []
    waits = threading.Event()

    def is_over() -> bool:
        looks.append(engine.scheduler.is_over(ending))
        if len(looks) == 2:
            waits.set()  # looked at once more, by who holds the lock until he sleeps
        return looks[-1]

    def wait() -> None:
        engine.scheduler.drive(is_over, timeout=10, may_drive=False)

    thread = threading.Thread(target=wait)
    thread.start()
    assert waits.wait(10)
    engine.workers.answer("a")
    engine.workers.answer("b")
    engine.scheduler.tick([engine.scheduler._inbox.get() for _ in "ab"])  # and go on driving
    thread.join(2)

    assert not thread.is_alive()


def test_the_log_is_told_which_model_an_event_is_of() -> None:
    class Told(MemoryEventLog):
        def append(self, sender: Any, event: Any) -> None:
            senders.append((sender.vect.id, sender.name, sender.state))
            super().append(sender, event)

    senders: list[tuple[str, str | None, str]] = []
    engine = Engine(log=Told())
    engine.begin(flow_of({"a": ()}))
    engine.turn()

    assert senders == [("v", None, "pending"), ("v", None, "pending"), ("v", "a", "pending")]


def test_a_nudge_makes_no_event(engine: Engine) -> None:
    engine.scheduler.put(Nudge())
    engine.turn()

    assert engine.told() == []
    assert engine.scheduler.is_idle()


def test_whoever_is_to_be_told_of_messages_is(engine: Engine) -> None:
    told = []
    engine.scheduler.on_message = lambda: told.append(engine.scheduler._inbox.qsize())

    engine.begin(flow_of({}))
    engine.scheduler.put(Nudge())

    assert told == [1, 2]  # the message is there when the word of it comes


def test_a_close_waits_for_who_has_promised_to_end(engine: Engine) -> None:
    run = engine.begin(flow_of({"a": (), "b": ()}))
    engine.turn()
    engine.workers.context("a").on_cancel(lambda: None)
    engine.scheduler.cancel(run, "")
    engine.turn()

    engine.workers.answer("b")
    engine.workers.answer("a")
    engine.scheduler.close()

    assert engine.workers.is_closed
    assert not engine.scheduler.runner.lingering.is_ending_any


def test_a_long_chain_is_no_recursion() -> None:
    count = 5_000
    graph: Graph = {str(i): (str(i - 1),) if i else () for i in range(count)}
    engine = Engine(workers=InlineWorkers())
    run = engine.begin(flow_of(graph))

    engine.scheduler.drive(lambda: engine.scheduler.is_over(run))

    assert run.state.state == "success"
    assert engine.log.last_seq == 3 + 2 * count


def test_thousands_blocked_in_a_row_are_no_recursion(engine: Engine) -> None:
    count = 5_000
    graph: Graph = {str(i): (str(i - 1),) if i else () for i in range(count)}
    run = engine.begin(flow_of(graph))
    engine.turn()

    engine.answer("0", outcome=Outcome(error="no"))

    assert run.state.state == "failed"
    assert states(run)[str(count - 1)] == "upstream_failed"
