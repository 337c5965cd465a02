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
from collections.abc import Callable
from concurrent.futures import Executor, Future
from datetime import date
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
    Context,
    Event,
    Flow,
    MemoryEventLog,
    OAutom,
    Param,
    ParamError,
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
DAY = date(2026, 11, 24)


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
        self.given = {name for name, step in drawn.steps.items() if step.references}
        self.params: dict[str, dict[str, Any]] = {}
        self.steps: dict[str, dict[str, str]] = {}  # the states, by Vect and step
        self.looks: list[tuple[str, str]] = []  # steps whose upstreams have news
        self.due: list[tuple[str, str]] = []  # first come, first served
        self.busy = 0
        self.cancelled: set[str] = set()

    def start(self, vect: str, **params: Any) -> None:
        self.params[vect] = params
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
            states = (self.steps[vect][upstream] for upstream in self.graph[step])
            has_outputs = step not in self.given or all(each == "success" for each in states)
            self.become(vect, step, state if has_outputs else "failed")

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
        drawn=flows(min_steps=1, max_steps=5, trigger_rules=True, forwarding=True),
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
        self.live(MemoryEventLog())

    def live(self, log: MemoryEventLog) -> None:
        """Be a program that declares its flow and runs it."""
        self.hands = Hands()
        self.app = OAutom(
            log=log, executor=self.hands, max_workers=self.model.workers, clock=self.clock
        )
        params = {"number": int, "days": Param(list[date], [DAY])}
        self.flow = Flow("flow", self.app, params=params, max_active_vects=self.at_once)
        for name, upstreams in self.model.graph.items():
            like = self.drawn.steps[name]
            rule, may_fail = like.trigger_rule, like.allow_failure
            before = [self.flow.steps[upstream] for upstream in upstreams]
            args = [self.flow.param("number"), self.flow.param("days")[0]]
            args += [step.output["of"] for step in before if name in self.model.given]
            step = PythonExecution(
                name, self.flow, self.work, args, trigger_rule=rule, allow_failure=may_fail
            )
            step.depends(*before)
        signals.event.connect(self.hear, sender=self.flow)

    def work(self, number: int, day: date, *given: str, context: Context) -> dict[str, str]:
        params = self.model.params[context.vect_id]
        assert (number, day) == (params["number"], params["days"][0])
        is_given = context.step in self.model.given
        assert given == (self.model.graph[context.step] if is_given else ())
        if self.ending == "failed":
            raise RuntimeError("it fails")
        if self.ending == "skipped":
            raise Skip("it need not be")
        return {"of": context.step}

    def hear(self, flow: Flow, event: Event, **_: Any) -> None:
        self.heard.append(event)

    def go(self, seconds: float = 0) -> None:
        """Have the app do all that there is to do, for so long; and the model."""
        self.clock.call_later(seconds, self.app.stop)
        self.app.run()
        self.model.settle()

    def end(self, which: int, state: str) -> None:
        """Have one of the jobs end; it may be that of a step that has been cancelled."""
        work, future = self.hands.jobs.pop(which % len(self.hands.jobs))
        self.ending = state
        future.set_result(work())
        self.model.end(work.context.vect_id, work.context.step, state)
        self.go()

    # What is done to the app

    @rule(number=st.integers(-9, 9), days=st.none() | st.lists(st.dates(), min_size=1, max_size=2))
    def start(self, number: int, days: list[date] | None) -> None:
        given: dict[str, Any] = {"number": str(number)} | ({"days": days} if days else {})
        is_full = len([vect for vect in self.vects if not vect.ended]) == self.flow.max_active_vects
        if is_full:
            with pytest.raises(VectAlreadyRunningException):
                self.app.start(self.flow, given)
        else:
            vect = self.app.start(self.flow, given)
            assert self.app.start(self.flow, given, vect_id=vect.id) is vect
            with pytest.raises(ParamError):
                self.app.start(self.flow, {"number": number + 1}, vect_id=vect.id)
            self.vects.append(vect)
            self.model.start(vect.id, number=number, days=days or [DAY])
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
        assert {vect.id: dict(vect.params) for vect in self.vects} == self.model.params
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
