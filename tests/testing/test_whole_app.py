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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

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
    ApprovalExecution,
    BranchExecution,
    Context,
    Event,
    Execution,
    Flow,
    MemoryEventLog,
    OAutom,
    Param,
    ParamError,
    PythonExecution,
    Skip,
    Vect,
    VectAlreadyRunningException,
    VectStateError,
    WaitExecution,
    decide,
)
from oautom.events import fold, replay, signals
from oautom.executions.work import Work
from oautom.rules import verdict
from oautom.testing import SimulatedClock, assert_replays, check_history, flows

OPEN = ("pending", "running", "up_for_retry")
DAY = date(2026, 11, 24)
PLANNED = {"number": 7, "days": [DAY]}


class Alarm(NamedTuple):
    """What happens to an attempt when its time has come."""

    when: float
    kind: str
    vect: str
    step: str
    attempt: int


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
        self.policies = {name: step.retry for name, step in drawn.steps.items()}
        self.timeouts = {name: step.timeout for name, step in drawn.steps.items()}
        self.pools = {name: step.pool for name, step in drawn.steps.items()}
        self.priorities = {name: step.priority for name, step in drawn.steps.items()}
        self.kinds = {name: step.kind for name, step in drawn.steps.items()}
        self.paused: set[str] = set()
        self.shunned: set[tuple[str, str]] = set()  # not followed by a branch before them
        self.now = 0.0
        self.alarms: list[Alarm] = []  # what comes by itself
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()

    def start(self, vect: str, **params: Any) -> None:
        self.params[vect] = params
        self.steps[vect] = dict.fromkeys(self.graph, "pending")
        roots = [step for step, before in self.graph.items() if not before]
        at_once = [step for step in self.graph if self.rules[step] == "always"]
        self.looks += [(vect, step) for step in (*roots, *at_once)]

    def choose(self, vect: str, step: str, names: list[str]) -> None:
        followed = {*names}
        for name, before in self.graph.items():
            if followed & {*before}:
                followed.add(name)
        self.shunned |= {(vect, name) for name in self.dependants_of(step) if name not in followed}

    def dependants_of(self, step: str) -> list[str]:
        return [name for name, before in self.graph.items() if step in before]

    def become(self, vect: str, step: str, state: str) -> None:
        self.steps[vect][step] = state
        self.looks += [(vect, name) for name, before in self.graph.items() if step in before]

    def end(
        self, vect: str, step: str, attempt: int, state: str, choice: Sequence[str] = ()
    ) -> None:
        self.busy -= 1
        is_late = self.steps[vect][step] != "running" or self.attempts[vect, step] != attempt
        if self.kinds[step] == "branch" and state == "success" and not is_late:
            self.choose(vect, step, list(choice))
        self.answer(vect, step, attempt, state, RuntimeError())

    def answer(self, vect: str, step: str, attempt: int, state: str, cause: Exception) -> None:
        if self.steps[vect][step] != "running" or self.attempts[vect, step] != attempt:
            return  # it was cancelled, or its time was up: it is late
        if not self.is_held(step) and not self.has_outputs(vect, step):
            state = "failed"
        policy = self.policies[step] if not self.is_held(step) else None
        if state == "failed" and policy is not None and policy.covers(cause):
            self.failures[vect, step] += 1
            if self.failures[vect, step] < policy.max_attempts:
                delay = policy.delay_after(self.failures[vect, step], 0.5)
                self.steps[vect][step] = "up_for_retry"
                self.set_alarm(delay, "release", vect, step)
                return
        self.become(vect, step, state)

    def has_outputs(self, vect: str, step: str) -> bool:
        return all(self.steps[vect][upstream] == "success" for upstream in self.taken_by(step))

    def taken_by(self, step: str) -> tuple[str, ...]:
        """Return whose outputs a step is given."""
        plain = tuple(name for name in self.graph[step] if not self.kinds[name])
        return plain if step in self.given else ()

    def set_alarm(self, seconds: float, kind: str, vect: str, step: str) -> None:
        attempt = self.attempts[vect, step]
        self.alarms.append(Alarm(self.now + seconds, kind, vect, step, attempt))

    def let_time_pass(self, until: float) -> None:
        while self.alarms:
            first = min(self.alarms, key=lambda alarm: alarm.when)  # the oldest of several
            if first.when > until:
                break
            self.alarms.remove(first)
            self.now = max(self.now, first.when)
            place = (first.vect, first.step)
            if first.kind == "time is up":
                self.answer(*place, first.attempt, "failed", TimeoutError())
            elif first.kind == "waited":
                self.answer(*place, first.attempt, "success", TimeoutError())
            elif self.steps[first.vect][first.step] == "up_for_retry":
                self.steps[first.vect][first.step] = "pending"
                self.looks.append(place)
            self.settle()
        self.now = until

    def cancel(self, vect: str) -> None:
        if self.state(vect) in ("running", "paused"):
            self.cancelled.add(vect)
            self.paused.discard(vect)
            for step, state in self.steps[vect].items():
                self.steps[vect][step] = "cancelled" if state in OPEN else state
            self.due = [each for each in self.due if each[0] != vect]

    def pause(self, vect: str) -> None:
        if self.state(vect) == "running":
            self.paused.add(vect)
            self.due = [each for each in self.due if each[0] != vect]

    def resume(self, vect: str) -> None:
        self.paused.discard(vect)
        self.looks += [(vect, step) for step in self.graph]

    def retry(self, vect: str) -> None:
        self.paused.discard(vect)
        states = self.steps[vect]
        again: set[str] = set()
        for step, upstreams in self.graph.items():
            if states[step] in ("failed", "upstream_failed", "cancelled") or again & {*upstreams}:
                again.add(step)
        for step in again:
            states[step] = "pending"
            self.failures[vect, step] = 0
            if self.kinds[step] == "branch":
                self.shunned -= {(vect, name) for name in self.dependants_of(step)}
        self.cancelled.discard(vect)
        self.looks += [(vect, step) for step in self.graph]

    def die(self) -> None:
        """The program dies and is run again: what ran is pending, and whoever waited waits anew."""
        self.due, self.busy = [], 0
        for vect, states in self.steps.items():
            lost = [s for s, at in states.items() if at == "running" and not self.is_held(s)]
            states.update(dict.fromkeys(lost, "pending"))
            self.looks += [(vect, step) for step in self.graph]
        places = [(vect, step) for vect in self.steps for step in self.graph]
        kept = [alarm for alarm in self.alarms if self.is_kept(alarm)]
        self.alarms = sorted(kept, key=lambda alarm: places.index((alarm.vect, alarm.step)))

    def is_kept(self, alarm: Alarm) -> bool:
        is_held = alarm.kind != "release" and self.is_held(alarm.step)
        state = self.steps[alarm.vect][alarm.step]
        is_its = self.attempts[alarm.vect, alarm.step] == alarm.attempt
        return is_its and state == ("running" if is_held else "up_for_retry")

    def settle(self) -> None:
        while self.looks:
            vect, step = self.looks.pop(0)
            states = self.steps[vect]
            if states[step] != "pending" or vect in self.paused:
                continue
            if (vect, step) in self.shunned:
                self.become(vect, step, "skipped")
                continue
            before = Counter(states[upstream] for upstream in self.graph[step])
            match verdict(self.rules[step], len(self.graph[step]), before):
                case "block":
                    self.become(vect, step, "upstream_failed")
                case "skip":
                    self.become(vect, step, "skipped")
                case "start" if (vect, step) not in self.due:
                    self.due.append((vect, step))
        held = [place for place in self.due if self.is_held(place[1])]
        self.due = [place for place in self.due if not self.is_held(place[1])]
        for place in held:
            self.begin(*place)
        while self.busy < self.workers and (place := self.next_turn()):
            vect, step = place
            self.due.remove(place)
            is_due = self.steps[vect][step] == "pending" and vect not in self.paused
            if is_due and (vect, step) not in self.shunned:
                self.begin(vect, step)
                self.busy += 1

    def next_turn(self) -> tuple[str, str] | None:
        """Return the first of the highest priority whose pool has room."""
        with_room = [place for place in self.due if self.has_slot(place[1])]
        return max(with_room, key=lambda place: self.priorities[place[1]], default=None)

    def has_slot(self, step: str) -> bool:
        pool = self.pools[step]
        taken = [
            name
            for states in self.steps.values()
            for name, state in states.items()
            if state == "running" and self.pools[name] == pool and not self.is_held(name)
        ]
        return pool is None or len(taken) < pool.slots

    def is_held(self, step: str) -> bool:
        return self.kinds[step] in ("wait", "approval")

    def begin(self, vect: str, step: str) -> None:
        self.steps[vect][step] = "running"
        self.attempts[vect, step] += 1
        if self.kinds[step] == "wait":
            self.set_alarm(3, "waited", vect, step)
        elif (seconds := self.timeouts[step]) is not None:
            self.set_alarm(seconds, "time is up", vect, step)

    def state(self, vect: str) -> str:
        states = self.steps[vect]
        if vect in self.cancelled:
            return "cancelled"
        if any(state in OPEN for state in states.values()):
            return "paused" if vect in self.paused else "running"
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


def place_of(work: Work) -> tuple[str, str, int]:
    return (work.context.vect_id, work.context.step, work.context.attempt)


number = st.integers(0, 9)
"""Which of those that there are, counted from the oldest, and round again."""


class WholeApp(RuleBasedStateMachine):
    @initialize(
        drawn=flows(
            min_steps=1,
            max_steps=5,
            trigger_rules=True,
            retries=True,
            waits=True,
            branches=True,
            forwarding=True,
            limits=True,
        ),
        workers=st.integers(1, 3),
        at_once=st.integers(1, 3),
    )
    def begin(self, drawn: Flow, workers: int, at_once: int) -> None:
        self.set_up(drawn, workers, at_once)

    def set_up(self, drawn: Flow, workers: int, at_once: int) -> None:
        self.at_once = at_once
        self.drawn, self.model = drawn, Model(drawn, workers)
        self.vects: list[Vect] = []
        self.ending = "success"
        self.choice: list[str] = []
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
        params = {"number": int, "days": Param(list[date], [DAY])}
        self.flow = Flow("flow", self.app, params=params, max_active_vects=self.at_once)
        for name, upstreams in self.model.graph.items():
            like = self.drawn.steps[name]
            options: dict[str, Any] = {
                "trigger_rule": like.trigger_rule,
                "allow_failure": like.allow_failure,
                "retry": like.retry,
                "timeout": like.timeout,
                "pool": like.pool,
                "priority": like.priority,
            }
            step: Execution
            if isinstance(like, WaitExecution):
                step = WaitExecution(name, self.flow, seconds=like.seconds, **options)
            elif isinstance(like, ApprovalExecution):
                step = ApprovalExecution(name, self.flow, like.prompt, **options)
            elif isinstance(like, BranchExecution):
                step = BranchExecution(name, self.flow, self.choose, **options)
            else:
                args: list[Any] = [self.flow.param("number"), self.flow.param("days")[0]]
                args += [self.flow.steps[up].output["of"] for up in self.model.taken_by(name)]
                step = PythonExecution(name, self.flow, self.work, args, **options)
            step.depends(*(self.flow.steps[upstream] for upstream in upstreams))
        signals.event.connect(self.hear, sender=self.flow)
        if self.timetable is not None:
            self.app.plan(
                self.flow,
                seconds=self.timetable.every.total_seconds(),
                params=PLANNED,
                catch_up=self.timetable.waits,
            )

    def work(self, number: int, day: date, *given: str, context: Context) -> dict[str, str]:
        params = self.model.params[context.vect_id]
        assert (number, day) == (params["number"], params["days"][0])
        assert given == self.model.taken_by(context.step)
        self.end_as_told()
        return {"of": context.step}

    def end_as_told(self) -> None:
        if self.ending == "failed":
            raise RuntimeError("it fails")
        if self.ending == "skipped":
            raise Skip("it need not be")

    def choose(self) -> list[str]:
        self.end_as_told()
        return self.choice

    def hear(self, flow: Flow, event: Event, **_: Any) -> None:
        self.heard.append(event)

    def go(self, seconds: float = 0) -> None:
        """Have the app do all that there is to do, for so long; and the model."""
        for pause in (seconds, 0):  # what comes at the end of that time is of that time
            begun = self.clock.now()
            self.clock.call_later(pause, self.app.stop)
            self.app.run()
            self.model.settle()
            self.model.let_time_pass(self.clock.monotonic())
            if self.timetable is not None:
                # What is due in the moment when it is stopped waits for the next time.
                last = max(begun, self.clock.now() - timedelta(microseconds=1))
                for time in self.timetable.due(last, self.has_room):
                    vect = f"flow@{time.isoformat().replace('+00:00', 'Z')}"
                    self.vects.append(self.app.vect(vect))
                    self.model.start(vect, **PLANNED)
                    self.model.settle()

    def has_room(self) -> bool:
        states = [self.model.state(vect) for vect in self.model.steps]
        return states.count("running") + states.count("paused") < self.at_once

    def end(self, which: int, state: str) -> None:
        """Have one of the jobs end; it may be that of a step that has been cancelled."""
        work, future = self.hands.jobs.pop(which % len(self.hands.jobs))
        self.ending = state
        vect, step, attempt = place_of(work)
        names = self.model.dependants_of(step)
        self.choice = names[which % 4 :]
        future.set_result(work())
        self.model.end(vect, step, attempt, state, self.choice)
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
        self.model.end(*place_of(work), "failed")
        self.go()

    @precondition(lambda self: self.vects)
    @rule(which=number)
    def cancel(self, which: int) -> None:
        vect = self.vects[which % len(self.vects)]
        vect.cancel("enough")
        self.model.cancel(vect.id)
        self.go()

    @precondition(lambda self: self.vects)
    @rule(which=number)
    def pause(self, which: int) -> None:
        vect = self.vects[which % len(self.vects)]
        vect.pause()
        self.model.pause(vect.id)
        self.go()

    @precondition(lambda self: any(vect.state == "paused" for vect in self.vects))
    @rule(which=number)
    def resume(self, which: int) -> None:
        paused = [vect for vect in self.vects if vect.state == "paused"]
        vect = paused[which % len(paused)]
        vect.resume()
        self.model.resume(vect.id)
        self.go()

    @precondition(lambda self: self.vects)
    @rule(which=number)
    def retry(self, which: int) -> None:
        vect = self.vects[which % len(self.vects)]
        is_full = len([each for each in self.vects if not each.ended]) == self.flow.max_active_vects
        if vect.state not in ("failed", "cancelled"):
            with pytest.raises(VectStateError):
                vect.retry()
        elif is_full:
            with pytest.raises(VectAlreadyRunningException):
                vect.retry()
        else:
            vect.retry()
            self.model.retry(vect.id)
            self.go()

    @precondition(lambda self: self.asked())
    @rule(which=number, approves=st.booleans())
    def decide(self, which: int, approves: bool) -> None:
        vect, step = self.asked()[which % len(self.asked())]
        if approves:
            vect.approve(step, "me", which)
        else:
            vect.reject(step, "me")
        attempt = self.model.attempts[vect.id, step]
        state = "success" if approves else "failed"
        self.model.answer(vect.id, step, attempt, state, RuntimeError())
        self.go()

    def asked(self) -> list[tuple[Vect, str]]:
        """Return the steps that wait for a person."""
        return [
            (vect, step.name)
            for vect in self.vects
            for step in vect.steps.values()
            if step.state == "running" and self.model.kinds[step.name] == "approval"
        ]

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
        places = {place_of(work) for work, _ in self.hands.jobs}
        assert len(places) == len(self.hands.jobs) == self.model.busy
        at_work = {place[:2] for place in places}
        for vect, steps in self.model.steps.items():
            running = {(vect, step) for step, state in steps.items() if state == "running"}
            assert {place for place in running if not self.model.is_held(place[1])} <= at_work

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


class PlannedApp(WholeApp):
    """One whose flow a plan starts too; no steps that time itself would move meanwhile."""

    @initialize(
        drawn=flows(min_steps=1, max_steps=5, trigger_rules=True, branches=True, limits=True),
        workers=st.integers(1, 3),
        at_once=st.integers(1, 3),
    )
    def begin(self, drawn: Flow, workers: int, at_once: int) -> None:
        self.set_up(drawn, workers, at_once)

    @precondition(lambda self: self.timetable is None)
    @rule(minutes=st.integers(30, 1000), waits=st.booleans())
    def plan(self, minutes: int, waits: bool) -> None:
        every = timedelta(minutes=minutes)
        self.timetable = Timetable(self.clock.now(), every, waits=waits)
        plan = self.app.plan(self.flow, minutes=minutes, params=PLANNED, catch_up=waits)
        assert plan.next_time() == self.timetable.next
        self.go()


TestWholeApp = WholeApp.TestCase
TestPlannedApp = PlannedApp.TestCase
TestWholeApp.settings = settings(deadline=None, max_examples=80, stateful_step_count=30)
TestPlannedApp.settings = settings(TestWholeApp.settings, max_examples=20, stateful_step_count=15)


def never_block(upstreams: int, tally: dict[str, int]) -> str | None:
    """A rule under which a step waits for ever for one that has failed."""
    return "start" if tally.get("success", 0) == upstreams else None


def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(rule: str, upstreams: int, tally: dict[str, int]) -> str | None:
        usual = rule == "all_success"
        return never_block(upstreams, tally) if usual else verdict(rule, upstreams, tally)

    monkeypatch.setattr(decide, "all_success", never_block)
    monkeypatch.setattr(fold, "verdict", planted)  # where something is otherwise than usual
    search = settings(
        TestWholeApp.settings, max_examples=300, database=None, phases=[Phase.generate]
    )

    with pytest.raises(AssertionError):
        run_state_machine_as_test(WholeApp, settings=search)
