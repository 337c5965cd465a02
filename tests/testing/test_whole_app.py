"""A whole app against a model of it, whatever is done to it and in whatever order.

The app is a real one, in the foreground; its workers end a step when a rule says so, and its clock
goes forward when a rule says so. The model knows neither events nor machines nor signals.

To have another capability tested: teach it to the model, and add a rule that asks both for it:

    @rule(which=number)
    def fail(self, which: int) -> None:
        self.end(which, "failed")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from oautom import (
    Event,
    Flow,
    MemoryEventLog,
    OAutom,
    PythonExecution,
    Skip,
    Vect,
    VectAlreadyRunningException,
    decide,
)
from oautom.events import replay, signals
from oautom.executions.work import Work
from oautom.rules import verdict
from oautom.testing import SimulatedClock, assert_replays, check_history, flows

OPEN = ("pending", "running")


class Model:
    """What an app should do with the Vects of one flow.

    Args:
        drawn: A flow; its steps wait for such as are declared before them.
        workers: How many steps run at once.
    """

    def __init__(self, drawn: Flow, workers: int) -> None:
        self.graph, self.workers = dict(drawn.graph.upstreams), workers
        self.rules = {name: step.trigger_rule for name, step in drawn.steps.items()}
        self.may_fail = {name for name, step in drawn.steps.items() if step.allow_failure}
        self.steps: dict[str, dict[str, str]] = {}  # the states, by Vect and step
        self.looks: list[tuple[str, str]] = []  # steps whose upstreams have news
        self.due: list[tuple[str, str]] = []  # first come, first served
        self.busy = 0
        self.cancelled: set[str] = set()

    def start(self, vect: str) -> None:
        self.steps[vect] = dict.fromkeys(self.graph, "pending")
        roots = [step for step, before in self.graph.items() if not before]
        at_once = [step for step in self.graph if self.rules[step] == "always"]
        self.looks += [(vect, step) for step in (*roots, *at_once)]

    def become(self, vect: str, step: str, state: str) -> None:
        self.steps[vect][step] = state
        self.looks += [(vect, name) for name, before in self.graph.items() if step in before]

    def end(self, vect: str, step: str, state: str) -> None:
        self.busy -= 1
        if self.steps[vect][step] == "running":  # else it was cancelled, and is late
            self.become(vect, step, state)

    def cancel(self, vect: str) -> None:
        if self.state(vect) == "running":
            self.cancelled.add(vect)
            for step, state in self.steps[vect].items():
                self.steps[vect][step] = "cancelled" if state in OPEN else state
            self.due = [each for each in self.due if each[0] != vect]

    def die(self) -> None:
        """The program dies and is run again: what ran is pending, and whoever waited waits anew."""
        self.due, self.busy = [], 0
        for vect, states in self.steps.items():
            states.update({step: "pending" for step, at in states.items() if at == "running"})
            self.looks += [(vect, step) for step in self.graph]

    def settle(self) -> None:
        while self.looks:
            vect, step = self.looks.pop(0)
            states = self.steps[vect]
            if states[step] != "pending":
                continue
            before = Counter(states[upstream] for upstream in self.graph[step])
            match verdict(self.rules[step], len(self.graph[step]), before):
                case "block":
                    self.become(vect, step, "upstream_failed")
                case "skip":
                    self.become(vect, step, "skipped")
                case "start" if (vect, step) not in self.due:
                    self.due.append((vect, step))
        while self.due and self.busy < self.workers:
            vect, step = self.due.pop(0)
            self.steps[vect][step] = "running"
            self.busy += 1

    def state(self, vect: str) -> str:
        states = self.steps[vect]
        if vect in self.cancelled:
            return "cancelled"
        if any(state in OPEN for state in states.values()):
            return "running"
        blamed: set[str] = set()
        for step, upstreams in self.graph.items():
            is_first = states[step] == "failed" and step not in self.may_fail
            if is_first or (states[step] == "upstream_failed" and blamed.intersection(upstreams)):
                blamed.add(step)
        return "failed" if blamed else "success"


class Timetable:
    """What a plan should do: when it is due, and whether a time that finds no room waits.

    Args:
        now: When it is made.
        every: How often it is due.
        waits: Whether every time counts.
    """

    def __init__(self, now: datetime, every: timedelta, *, waits: bool) -> None:
        self.every, self.waits = every, waits
        self.next = now + every

    def due(self, until: datetime, has_room: Callable[[], bool]) -> Iterator[datetime]:
        """Yield the times up to `until` for which there is room."""
        while self.next <= until:
            is_start = has_room()
            if not is_start and self.waits:
                return
            self.next += self.every
            if is_start:
                yield self.next - self.every


class Hands(Executor):
    """Workers that do nothing until they are told to."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Work, Future[Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        assert isinstance(fn, Work)
        self.jobs.append((fn, Future()))
        return self.jobs[-1][1]


number = st.integers(0, 9)
"""Which of those that there are, counted from the oldest, and round again."""


class WholeApp(RuleBasedStateMachine):
    @initialize(
        drawn=flows(min_steps=1, max_steps=5, trigger_rules=True),
        workers=st.integers(1, 3),
        at_once=st.integers(1, 3),
    )
    def begin(self, drawn: Flow, workers: int, at_once: int) -> None:
        self.at_once = at_once
        self.drawn, self.model = drawn, Model(drawn, workers)
        self.vects: list[Vect] = []
        self.ending = "success"
        self.heard: list[Event] = []
        self.clock = SimulatedClock()
        self.timetable: Timetable | None = None
        self.live(MemoryEventLog())

    def live(self, log: MemoryEventLog) -> None:
        """Be a program that declares its flow and runs it."""
        self.hands = Hands()
        self.app = OAutom(
            log=log, executor=self.hands, max_workers=self.model.workers, clock=self.clock
        )
        self.flow = Flow("flow", self.app, max_active_vects=self.at_once)
        for name, upstreams in self.model.graph.items():
            like = self.drawn.steps[name]
            rule, may_fail = like.trigger_rule, like.allow_failure
            step = PythonExecution(
                name, self.flow, self.work, trigger_rule=rule, allow_failure=may_fail
            )
            step.depends(*(self.flow.steps[upstream] for upstream in upstreams))
        signals.event.connect(self.hear, sender=self.flow)
        if self.timetable is not None:
            self.app.plan(
                self.flow,
                seconds=self.timetable.every.total_seconds(),
                catch_up=self.timetable.waits,
            )

    def work(self) -> str:
        if self.ending == "failed":
            raise RuntimeError("it fails")
        if self.ending == "skipped":
            raise Skip("it need not be")
        return "it works"

    def hear(self, flow: Flow, event: Event, **_: Any) -> None:
        self.heard.append(event)

    def go(self, seconds: float = 0) -> None:
        """Have the app do all that there is to do, for so long; and the model."""
        begun = self.clock.now()
        self.clock.call_later(seconds, self.app.stop)
        self.app.run()
        self.model.settle()
        if self.timetable is not None:
            # What is due in the moment when it is stopped waits for the next time.
            last = max(begun, self.clock.now() - timedelta(microseconds=1))
            for time in self.timetable.due(last, self.has_room):
                vect = f"flow@{time.isoformat().replace('+00:00', 'Z')}"
                self.vects.append(self.app.vect(vect))
                self.model.start(vect)
                self.model.settle()

    def has_room(self) -> bool:
        open_vects = [v for v in self.model.steps if self.model.state(v) == "running"]
        return len(open_vects) < self.at_once

    def end(self, which: int, state: str) -> None:
        """Have one of the jobs end; it may be that of a step that has been cancelled."""
        work, future = self.hands.jobs.pop(which % len(self.hands.jobs))
        self.ending = state
        future.set_result(work())
        self.model.end(work.context.vect_id, work.context.step, state)
        self.go()

    # What is done to the app

    @rule()
    def start(self) -> None:
        is_full = len([vect for vect in self.vects if not vect.ended]) == self.flow.max_active_vects
        if is_full:
            with pytest.raises(VectAlreadyRunningException):
                self.app.start(self.flow)
        else:
            vect = self.app.start(self.flow)
            assert self.app.start(self.flow, vect_id=vect.id) is vect
            self.vects.append(vect)
            self.model.start(vect.id)
            self.go()

    @precondition(lambda self: self.hands.jobs)
    @rule(which=number, more=number)
    def finish(self, which: int, more: int) -> None:
        self.end(which, "success")
        for _ in range(min(more, len(self.hands.jobs))):
            self.end(which, "success")

    @precondition(lambda self: self.hands.jobs)
    @rule(which=number)
    def fail(self, which: int) -> None:
        self.end(which, "failed")

    @precondition(lambda self: self.hands.jobs)
    @rule(which=number)
    def skip(self, which: int) -> None:
        self.end(which, "skipped")

    @precondition(lambda self: self.hands.jobs)
    @rule(which=number)
    def lose_a_worker(self, which: int) -> None:
        work, future = self.hands.jobs.pop(which % len(self.hands.jobs))
        future.set_exception(MemoryError())
        self.model.end(work.context.vect_id, work.context.step, "failed")
        self.go()

    @precondition(lambda self: self.vects)
    @rule(which=number)
    def cancel(self, which: int) -> None:
        vect = self.vects[which % len(self.vects)]
        vect.cancel("enough")
        self.model.cancel(vect.id)
        self.go()

    @rule(seconds=st.integers(1, 86_400))
    def let_time_pass(self, seconds: int) -> None:
        before = self.clock.now()
        self.go(seconds)
        assert (self.clock.now() - before).total_seconds() == seconds

    @precondition(lambda self: self.timetable is None)
    @rule(minutes=st.integers(1, 1000), waits=st.booleans())
    def plan(self, minutes: int, waits: bool) -> None:
        every = timedelta(minutes=minutes)
        self.timetable = Timetable(self.clock.now(), every, waits=waits)
        plan = self.app.plan(self.flow, minutes=minutes, catch_up=waits)
        assert plan.next_time() == self.timetable.next
        self.go()

    @rule()
    def die(self) -> None:
        """Drop everything but the log, and run the program again."""
        signals.event.disconnect(self.hear)
        left = MemoryEventLog()
        for event in self.app.log.read():
            left.append(None, event)
        left.commit()
        states = [vect.state for vect in self.vects]
        self.live(left)
        resumed = self.app.recover()
        self.vects = [self.app.vect(vect.id) for vect in self.vects]
        assert [vect.state for vect in self.vects] == states
        assert resumed == [vect for vect in self.vects if not vect.ended]
        self.model.die()
        self.go()

    # What must hold after each

    @invariant()
    def the_states_are_those_of_the_model(self) -> None:
        live = {vect.id: {s.name: s.state for s in vect.steps.values()} for vect in self.vects}
        assert live == self.model.steps
        assert [vect.state for vect in self.vects] == [
            self.model.state(vect.id) for vect in self.vects
        ]

    @invariant()
    def the_workers_have_what_runs(self) -> None:
        at_work = {(work.context.vect_id, work.context.step) for work, _ in self.hands.jobs}
        assert len(at_work) == len(self.hands.jobs) == self.model.busy
        for vect, steps in self.model.steps.items():
            assert {(vect, step) for step, state in steps.items() if state == "running"} <= at_work

    @invariant()
    def the_log_adds_up_to_the_state_and_all_of_it_was_told(self) -> None:
        events = list(self.app.log.read())
        assert self.heard == events
        states = replay(events)
        assert [states[vect.id].facts() for vect in self.vects] == [
            vect._run.state.facts() for vect in self.vects
        ]
        check_history(events, self.flow, max_workers=self.model.workers)

    def teardown(self) -> None:
        if not hasattr(self, "app"):
            return  # Hypothesis has not even begun
        self.app.close()
        signals.event.disconnect(self.hear)
        for vect in self.vects:
            self.model.cancel(vect.id)
        self.the_states_are_those_of_the_model()
        self.the_log_adds_up_to_the_state_and_all_of_it_was_told()
        if self.vects:
            assert_replays(self.app.log, self.flow)


TestWholeApp = WholeApp.TestCase
TestWholeApp.settings = settings(deadline=None, max_examples=80, stateful_step_count=30)


def never_block(upstreams: int, tally: dict[str, int]) -> str | None:
    """A rule under which a step waits for ever for one that has failed."""
    return "start" if tally.get("success", 0) == upstreams else None


def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "all_success", never_block)
    search = settings(
        TestWholeApp.settings, max_examples=300, database=None, phases=[Phase.generate]
    )

    with pytest.raises(AssertionError):
        run_state_machine_as_test(WholeApp, settings=search)
