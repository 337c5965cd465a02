"""A whole app against a model of it, whatever is done to it and in whatever order.

The app is a real one, in the foreground; its workers end a step when a rule says so, and its clock
goes forward when a rule says so.

To have another capability tested: teach it to the model, and add a rule that asks both for it:

    @rule(which=number)
    def fail(self, which: int) -> None:
        self.end(which, "failed")
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from datetime import date, timedelta
from functools import partial
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
    ApprovalExecution,
    BranchExecution,
    Context,
    Event,
    Execution,
    Flow,
    FlowChangedError,
    FlowExecution,
    InvariantError,
    MapExecution,
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
)
from oautom.events import replay, signals
from oautom.machine import decide
from oautom.machine import state as fold
from oautom.machine.rules import verdict
from oautom.steps.work import Work
from oautom.testing import SimulatedClock, assert_replays, check_history, flows

from .known import NO_WORKER, OPEN, is_child
from .model import LATER, SHIFT, Model, Timetable
from .reasons import SAID, reasons_of

CHILDREN = 2
"""How many children may be open at once."""
UNDRIVEN = "; nothing drives the engine until somebody calls wait()"
DAY = date(2026, 11, 24)
SECRET = "a secret that nobody sees"
PLANNED = {"number": 7, "days": [DAY]}


class Hands(Executor):
    """Workers that do nothing until they are told to."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Work, Future[Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        work = fn.job  # type: ignore[attr-defined] # as any executor elsewhere gets it
        assert isinstance(work, Work)
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # it has begun: no cancel takes it back
        self.jobs.append((work, future))
        return future


def place_of(work: Work) -> tuple[str, str, int]:
    """Return the attempt that some work is of; its number is negative if it undoes a step."""
    attempt = work.context.attempt * (-1 if work.execution.undoes else 1)
    return (work.context.vect_id, work.context.step, attempt)


def shifted(deadline: float | None) -> float | None:
    """Return a deadline that was drawn as the model has it."""
    return None if deadline is None else deadline + SHIFT


def plain(item: object) -> object:
    """Return an item as any log takes it: `drain` has this one be a durable log for a while."""
    return item.isoformat() if isinstance(item, date) else item


number = st.integers(0, 9)
"""Which of those that there are, counted from the oldest, and round again."""
most = st.sampled_from([True, True, False])
"""Whether somebody drives after that."""


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
            maps=True,
            children=True,
            instants=True,
        )
        | flows(min_steps=2, max_steps=4, trigger_rules=True, limits=True, maps=True)
        | flows(
            min_steps=2,
            max_steps=5,
            retries=True,
            maps=True,
            children=True,
            clean_ups=True,
            deadlines=True,
        )
        | flows(min_steps=2, max_steps=5, retries=True, waits=True, clean_ups=True, secrets=True),
        workers=st.integers(1, 3),
        at_once=st.integers(1, 3),
    )
    def begin(self, drawn: Flow, workers: int, at_once: int) -> None:
        self.at_once = at_once
        self.drawn, self.model = drawn, Model(drawn, workers, CHILDREN, at_once)
        self.ending = "success"
        self.told: Any = None
        self.heard: list[Event] = []
        self.clock = SimulatedClock()
        self.live(MemoryEventLog())

    def live(self, log: MemoryEventLog) -> None:
        """Be a program that declares its flow and runs it."""
        self.hands = Hands()
        self.app = OAutom(
            log=log,
            executor=self.hands,
            max_workers=self.model.workers,
            clock=self.clock,
            secrets=lambda name: f"{SECRET} {name}",
        )
        params = {"number": int, "days": Param(list[date], [DAY])}
        self.flow = Flow(
            "flow",
            self.app,
            params=params,
            max_active_vects=self.at_once,
            run_timeout=self.drawn.run_timeout,
            on_failure=self.drawn.on_failure,
            deadline=shifted(self.drawn.deadline),
        )
        self.inner = Flow("inner", self.app, max_active_vects=CHILDREN)
        PythonExecution("work", self.inner, self.end_as_told)
        for name, upstreams in self.model.graph.items():
            like = self.drawn.steps[name]
            options: dict[str, Any] = {
                "trigger_rule": like.trigger_rule,
                "allow_failure": like.allow_failure,
                "retry": like.retry,
                "timeout": like.timeout,
                "pool": like.pool,
                "priority": like.priority,
                **({} if like.pool_slots == 1 else {"pool_slots": like.pool_slots}),
                "deadline": shifted(like.deadline),
                **self.clean_up_like(like),
            }
            if like.teardown:
                del options["trigger_rule"]
            step = self.step_like(like, name, options)
            step.depends(*(self.flow.steps[upstream] for upstream in upstreams))
        for flow in (self.flow, self.inner):
            signals.event.connect(self.hear, sender=flow)
        if (timetable := self.model.timetable) is not None:
            self.app.plan(
                self.flow, seconds=timetable.every, params=PLANNED, catch_up=timetable.waits
            )

    def clean_up_like(self, like: Execution) -> dict[str, Any]:
        """Return how a step cleans up, or is undone, as was drawn."""
        if like.teardown:
            of = [self.flow.steps[each.name] for each in like.teardown_of]
            return {"teardown": True, "teardown_of": of}
        if like.compensate is None:
            return {}
        return {"compensate": self.undo, "compensate_on": like.compensate_on}

    def undo(self, context: Context) -> None:
        step = self.app.vect(context.vect_id).steps[context.step]
        assert (step.state == "success") or context.output is None
        self.end_as_told()

    def step_like(self, like: Execution, name: str, options: dict[str, Any]) -> Execution:
        """Declare a step of the kind that was drawn."""
        flow = self.flow
        if isinstance(like, MapExecution):
            source = self.model.source_of(name)
            over = flow.steps[source].output["list"] if source else flow.param("days")
            limit = like.max_parallel
            return MapExecution(name, flow, self.work_on, over, max_parallel=limit, **options)
        match like:
            case WaitExecution():
                source = self.model.source_of(name)
                until = flow.steps[source].output["at"] if source else None
                return WaitExecution(name, flow, seconds=like.seconds, until=until, **options)
            case ApprovalExecution():
                return ApprovalExecution(name, flow, like.prompt, **options)
            case BranchExecution():
                return BranchExecution(name, flow, self.choose, **options)
            case FlowExecution():
                return FlowExecution(name, flow, "inner", **options)
        args: list[Any] = [flow.param("number"), flow.param("days")[0]]
        args += [flow.steps[up].output["of"] for up in self.model.taken_by(name)]
        key = {"key": flow.secret("KEY")} if like.secrets else {}
        return PythonExecution(name, flow, self.work, args, key, **options)

    def work(
        self, number: int, day: date, *given: str, context: Context, key: str = ""
    ) -> dict[str, Any]:
        assert bool(key) == bool(self.drawn.steps[context.step].secrets)
        context.log.info("the key is %s", key)
        params = self.model.params[context.vect_id]
        assert (number, day) == (params["number"], params["days"][0])
        assert given == self.model.taken_by(context.step)
        self.end_as_told(key)
        is_known = self.told is not None
        at = self.clock.now() + timedelta(seconds=LATER)
        return {
            "of": context.step,
            "list": [*range(self.told)] if is_known else None,
            "at": at.isoformat() if is_known else "soon",
        }

    def work_on(self, item: Any, context: Context) -> Any:
        name, _, index = context.step.rstrip("]").partition("[")
        assert item == self.model.items(context.vect_id, name)[int(index)]
        self.end_as_told()
        return plain(item)

    def end_as_told(self, key: str = "") -> None:
        if self.ending == "failed":
            raise RuntimeError(f"it fails {key}")
        if self.ending == "skipped":
            raise Skip(f"it need not be {key}")

    def choose(self) -> list[str]:
        self.end_as_told()
        return self.told

    @property
    def vects(self) -> list[Vect]:
        """All that there are, those too that steps run."""
        return self.app.vects()

    def is_full(self, flow: Flow) -> bool:
        return self.model.is_full(children=flow is self.inner)

    def hear(self, flow: Flow, event: Event, **_: Any) -> None:
        self.heard.append(event)

    def go(self, seconds: float = 0) -> None:
        """Have the app do all that there is to do, for so long; and the model."""
        for pause in (seconds, 0):  # what comes at the end of that time is of that time
            self.clock.call_later(pause, self.app.stop)
            self.app.run()
            self.model.let_time_pass(self.clock.monotonic())

    def done(self, call: Callable[[], object], *, drives: bool) -> None:
        """Have the model do what the app has done at once; then perhaps both all that follows."""
        self.model.do(call)
        self.the_states_are_those_of_the_model()
        if drives:
            self.go()

    def end(self, which: int, state: str) -> None:
        """Have one of the jobs end; it may be that of a step that has been cancelled."""
        job = self.hands.jobs.pop(which % len(self.hands.jobs))
        self.model.inbox.append(self.ended(*job, state, which))
        self.go()

    def ended(
        self, work: Work, future: Future[Any], state: str, which: int = 0
    ) -> Callable[[], object]:
        """Have a job end in the app; return what the model does then."""
        self.ending = state
        vect, step, attempt = place_of(work)
        self.told = which % 4 if which % 4 < 3 else None  # no list
        if self.model.kind(step) == "branch" and attempt > 0:
            self.told = self.model.dependants_of(vect, step)[which % 4 :]
        future.set_result(work())
        return partial(self.model.end, vect, step, attempt, state, self.told)

    # What is done to the app

    @rule(
        number=st.integers(-9, 9),
        days=st.none() | st.lists(st.dates(), min_size=1, max_size=2),
        waits=st.booleans(),
        drives=most,
    )
    def start(self, number: int, days: list[date] | None, *, waits: bool, drives: bool) -> None:
        given: dict[str, Any] = {"number": str(number)} | ({"days": days} if days else {})
        if self.is_full(self.flow) and not waits:
            with pytest.raises(VectAlreadyRunningException):
                self.app.start(self.flow, given)
        else:
            vect = self.app.start(self.flow, given, when_full="wait" if waits else None)
            assert self.app.start(self.flow, given, vect_id=vect.id) is vect
            with pytest.raises(ParamError):
                self.app.start(self.flow, {"number": number + 1}, vect_id=vect.id)
            self.model.start(vect.id, waits=waits, number=number, days=days or [DAY])
            self.model.created.setdefault(vect.id)
            self.the_states_are_those_of_the_model()
            if drives:  # else it is pending until somebody drives
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
        self.model.inbox.append(partial(self.model.lose, *place_of(work)))
        self.go()

    @precondition(lambda self: self.vects)
    @rule(which=number, drives=most)
    def cancel(self, which: int, *, drives: bool) -> None:
        vect = self.vects[which % len(self.vects)]
        if vect.state == "ending" and not any(s.state in OPEN for s in vect.steps.values()):
            with pytest.raises(VectStateError, match="it undoes the work of step"):
                vect.cancel("enough")
            return
        vect.cancel("enough")
        self.done(partial(self.model.cancel, vect.id), drives=drives)

    @precondition(lambda self: self.vects)
    @rule(which=number, drives=most)
    def pause(self, which: int, *, drives: bool) -> None:
        vect = self.vects[which % len(self.vects)]
        if self.model.is_in_line(vect.id):
            with pytest.raises(VectStateError):
                vect.pause()
            return
        vect.pause()
        self.done(partial(self.model.pause, vect.id), drives=drives)

    @precondition(lambda self: any(vect.state == "paused" for vect in self.vects))
    @rule(which=number, drives=most)
    def resume(self, which: int, *, drives: bool) -> None:
        paused = [vect for vect in self.vects if vect.state == "paused"]
        vect = paused[which % len(paused)]
        vect.resume()
        self.done(partial(self.model.resume, vect.id), drives=drives)

    @precondition(lambda self: self.vects)
    @rule(which=number, drives=most)
    def retry(self, which: int, *, drives: bool) -> None:
        vect = self.vects[which % len(self.vects)]
        if vect.state not in ("failed", "cancelled"):
            with pytest.raises(VectStateError):
                vect.retry()
        elif self.is_full(vect.flow):
            with pytest.raises(VectAlreadyRunningException):
                vect.retry()
        else:
            vect.retry()
            self.done(partial(self.model.retry, vect.id), drives=drives)

    @precondition(lambda self: self.asked())
    @rule(which=number, approves=st.booleans(), drives=most)
    def decide(self, which: int, approves: bool, *, drives: bool) -> None:
        vect, step = self.asked()[which % len(self.asked())]
        if approves:
            vect.approve(step, "me", which)
        else:
            vect.reject(step, "me")
        attempt = self.model.attempts[vect.id, step]
        state = "success" if approves else "failed"
        answer = partial(self.model.answer, vect.id, step, attempt, state, RuntimeError())
        self.done(answer, drives=drives)

    def asked(self) -> list[tuple[Vect, str]]:
        """Return the steps that wait for a person."""
        return [
            (vect, step.name)
            for vect in self.vects
            for step in vect.steps.values()
            if step.state == "running" and self.model.kind(step.name) == "approval"
        ]

    @precondition(lambda self: self.model.timetable is None)
    @rule(minutes=st.integers(1, 300), waits=st.booleans())
    def plan(self, minutes: int, waits: bool) -> None:
        plan = self.app.plan(self.flow, minutes=minutes, params=PLANNED, catch_up=waits)
        start = self.clock.now() - timedelta(seconds=self.clock.monotonic())
        timetable = Timetable(self.model, start, 60.0 * minutes, PLANNED, waits=waits)
        assert plan.next_time() == start + timedelta(seconds=timetable.next)
        self.model.timetable = timetable
        self.go()

    @precondition(lambda self: self.model.timetable is not None)
    @rule(
        first=st.integers(0, 6),
        more=st.integers(0, 3),
        parallel=st.sampled_from([1, 1, 2, None]),
        drives=most,
    )
    def backfill(self, first: int, more: int, parallel: int | None, *, drives: bool) -> None:
        timetable = self.model.timetable
        assert timetable is not None
        last = max(0, first - more)
        ids = timetable.missing(first, last)
        ends = (
            timetable.start + timedelta(seconds=timetable.next - timetable.every * back)
            for back in (first, last)
        )
        vects = self.app.backfill(self.flow, *ends, parallel=parallel)
        assert [vect.id for vect in vects] == ids
        for place, each in enumerate(ids):
            after = ids[place - parallel] if parallel is not None and place >= parallel else None
            self.model.start(each, waits=True, after=after, **PLANNED)
            self.model.created.setdefault(each)
        self.the_states_are_those_of_the_model()
        if drives:
            self.go()

    @rule(seconds=st.integers(1, 20) | st.integers(1, 20_000))
    def let_time_pass(self, seconds: int) -> None:
        before = self.clock.now()
        self.go(seconds)
        assert (self.clock.now() - before).total_seconds() == seconds

    @rule(deploys=st.booleans())
    def die(self, *, deploys: bool) -> None:
        """Drop everything but the log, and run the program again; perhaps after a rollback."""
        self.run_again(deploys=deploys)

    @rule(state=st.sampled_from(["success", "failed"]))
    def drain(self, state: str) -> None:
        """Have all that is at work end, and begin nothing; then run the program again."""
        self.go()  # who of several children begins in the very tick of the drain is left open
        rounds: list[list[Callable[[], object]]] = []
        hands = self.hands

        def end_all() -> None:
            jobs, hands.jobs = hands.jobs, []
            if jobs and hands is self.hands:  # else that life is over
                rounds.append([self.ended(*job, state) for job in jobs])
                self.clock.call_later(0, end_all)  # what undoes a step may have begun before

        self.clock.call_later(0, end_all)
        self.app.log.id = "it outlives the program"  # type: ignore[misc] # else all is cancelled
        self.app.close(drain=60)
        self.model.drain()
        for ends in rounds:
            self.model.inbox += ends
            self.model.let_time_pass(self.clock.monotonic())
        assert self.model.now == self.clock.monotonic()  # there was no need to wait
        self.the_states_are_those_of_the_model()
        self.who_is_late_is_told_so_once()
        self.run_again()

    def run_again(self, *, deploys: bool = False) -> None:
        signals.event.disconnect(self.hear)
        left = MemoryEventLog()
        for event in self.app.log.read():
            left.append(None, event)
        left.commit()
        states = {vect.id: vect.state for vect in self.vects}
        if deploys:
            self.deploy(left)
        self.live(left)
        resumed = self.app.recover()
        assert {vect.id: vect.state for vect in self.vects} == states
        assert resumed == [vect for vect in self.vects if not vect.ended]
        self.model.die()
        self.go()

    def deploy(self, log: MemoryEventLog) -> None:
        """Be a program with another version of the flows: nothing goes on, and nothing is lost."""
        before = list(log.read())
        with OAutom(log=log, executor="inline", clock=self.clock) as app:
            Flow("flow", app, params={"number": int, "days": list[date]}, version="2")
            PythonExecution("work", Flow("inner", app, version="2"), self.end_as_told)
            assert app.recover() == []
            left = [vect for vect in app.vects() if not vect.ended]
            assert app.vects(state="stranded") == left
            for vect in left:
                for ask in (vect.wait, vect.pause, vect.resume, vect.retry):
                    with pytest.raises(FlowChangedError, match="the program has '2'"):
                        ask()
            for told in app.logs():
                assert ("stranded" in told) is not told["ended"]
        assert list(log.read()) == before

    # What must hold after each

    @invariant()
    def the_states_are_those_of_the_model(self) -> None:
        params = {vect.id: dict(vect.params) for vect in self.vects}
        missing = self.model.params.keys() - params.keys()
        assert all(map(is_child, missing))  # admitted, but not in the log yet
        assert params == {k: v for k, v in self.model.params.items() if k not in missing}
        live = {vect.id: {s.name: s.state for s in vect.steps.values()} for vect in self.vects}
        assert live == {k: v for k, v in self.model.steps.items() if k not in missing}
        for vect in self.vects:
            assert vect.state == self.model.state(vect.id)

    @invariant()
    def maps_have_what_their_items_came_to_in_order(self) -> None:
        for vect in self.vects:
            maps = [name for name in vect.flow.steps if self.model.kind(name) == "map"]
            for name in (each for each in maps if vect.steps[each].state == "success"):
                items = self.model.items(vect.id, name)
                states = [vect.steps[f"{name}[{index}]"].state for index in range(len(items))]
                assert vect.result(name) == [
                    plain(item) if state == "success" else None
                    for item, state in zip(items, states, strict=True)
                ]

    @invariant()
    def what_is_said_of_a_step_is_true(self) -> None:
        for vect in self.vects:
            for step in vect.steps:
                if self.model.cleans_up(vect.id, step):
                    continue  # of this other tests tell
                said = vect.explain(step).removesuffix(UNDRIVEN)
                said = said.replace("waits for slots", "waits for a slot")
                wanted = reasons_of(self.model, vect.id, step)
                assert [each for each in SAID if each in said] == wanted, said

    @invariant()
    def no_secret_is_seen(self) -> None:
        assert SECRET not in repr(list(self.app.log.read()))
        for vect in self.vects:
            for step in vect.steps.values():
                assert all(SECRET not in attempt.log_text for attempt in step.attempts)

    @invariant()
    def who_is_late_is_told_so_once(self) -> None:
        late = [e for e in self.heard if e.name in ("step.late", "vect.late")]
        told = [(event.vect, event.step or "") for event in late]
        assert sorted(told) == sorted(self.model.told_late)  # some at the same instant

    @invariant()
    def no_child_outlives_the_attempt_that_has_it_run(self) -> None:
        assert all(vect.ended or self.model.is_wanted(vect.id) for vect in self.vects)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        if not self.model.inbox:  # else somebody has to drive
            assert self.model.waits_for_nothing() == []

    @invariant()
    def the_workers_have_what_runs(self) -> None:
        places = {place_of(work) for work, _ in self.hands.jobs}
        assert len(places) == len(self.hands.jobs) == self.model.busy
        at_work = {place[:2] for place in places}
        for vect, steps in self.model.steps.items():
            running = {(vect, step) for step, state in steps.items() if state == "running"}
            assert {p for p in running if self.model.kind(p[1]) not in NO_WORKER} <= at_work

    @invariant()
    def the_log_adds_up_to_the_state_and_all_of_it_was_told(self) -> None:
        events = list(self.app.log.read())
        assert self.heard == events
        states = replay(events)
        created = [vect for vect in self.vects if vect.id in self.model.created]
        assert {*states} == {vect.id for vect in created}
        assert [states[vect.id].facts() for vect in created] == [
            vect._run.state.facts() for vect in created
        ]
        check_history(events, self.flow, max_workers=self.model.workers)

    def clean_up_all(self) -> None:
        """Have what is open cleaned up, as the app waits for that: nobody else does the work."""
        if not any(step.teardown or step.compensate for step in self.drawn.steps.values()):
            return
        for _ in range(9_999):
            states = ("pending", "running", "paused")
            going_on = [vect for vect in self.vects if vect.state in states]
            if going_on:
                going_on[0].cancel("the end")
                self.done(partial(self.model.cancel, going_on[0].id), drives=True)
            elif all(vect.state != "ending" for vect in self.vects):
                return
            elif self.hands.jobs:
                self.end(0, "success")
            else:
                self.go(5)
            self.the_states_are_those_of_the_model()
        raise AssertionError("it does not end")

    def teardown(self) -> None:
        if not hasattr(self, "app"):
            return  # Hypothesis has not even begun
        if sys.exc_info()[0] is not None:  # they have parted before
            signals.event.disconnect(self.hear)
            return
        self.clean_up_all()
        were_open = {vect.id for vect in self.vects if not vect.ended}
        last_seq = self.app.log.last_seq
        self.app.close()
        self.model.timetable = None
        signals.event.disconnect(self.hear)
        cancelled = [
            event.vect
            for event in self.app.log.read(after=last_seq)
            if event.name == "vect.cancelled" and event.vect in were_open
        ]
        self.model.inbox += [partial(self.model.cancel, vect) for vect in cancelled]
        self.model.let_time_pass(self.clock.monotonic())
        self.the_states_are_those_of_the_model()
        self.the_log_adds_up_to_the_state_and_all_of_it_was_told()
        if self.vects:
            assert_replays(self.app.log, self.flow)


TestWholeApp = WholeApp.TestCase
TestWholeApp.settings = settings(
    deadline=None,
    max_examples=int(os.environ.get("OAUTOM_EXAMPLES", "80")),
    stateful_step_count=30,
)


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
        TestWholeApp.settings,
        max_examples=300,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )

    with pytest.raises((AssertionError, InvariantError)):
        run_state_machine_as_test(WholeApp, settings=search)
