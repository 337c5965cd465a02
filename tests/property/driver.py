"""A scheduler whose time passes, and whose workers answer, when the test says so.

No thread, no sleep: a case takes the same course each time. A scheduler that waits for something
that will never come is an error here, not a test that hangs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from oautom import Context, Event, Execution, Flow, PythonExecution
from oautom.engine.scheduler import Scheduler
from oautom.events import signals
from oautom.machine.commands import Finished
from oautom.machine.state import StepState, VectState
from oautom.steps.work import Work
from oautom.vects.run import Run
from oautom.workers.base import Done, Place, Workers
from tests.kit import LookedAtClock, Registry, TickLog

from .cases import Case, Move, Outcome

Attempt = tuple[str, str, int]
"""Id of the Vect, name of the step, number of the attempt."""


class Job:
    """A piece of work that the workers have been given, and have not answered yet."""

    def __init__(self, work: Work, done: Done) -> None:
        context = work.context
        self.attempt: Attempt = (context.vect_id, context.step, context.attempt)
        self.work = work
        self.done = done

    def answer(self, outcome: Outcome) -> None:
        if outcome == "break":
            self.done(None, RuntimeError("the worker broke"))
        else:
            self.done(self.work(), None)


class CheckedWorkers(Workers):
    """Workers that take what is in the log and has a slot, and do it when they are told to."""

    place: Place = "threads"
    has_loop = False

    def __init__(self, slots: int, log: TickLog) -> None:
        self.slots = slots
        self.jobs: list[Job] = []
        self.submitted: list[Attempt] = []
        self._log = log

    def submit(self, work: Callable[[], object], done: Done) -> None:
        assert isinstance(work, Work)
        job = Job(work, done)
        assert len(self.jobs) < self.slots, f"{job.attempt} is submitted to no free slot"
        begun = {(e.vect, e.step, e.attempt) for e in self._log.read() if e.dest == "running"}
        assert job.attempt in begun, f"{job.attempt} begins before its start is committed"
        self.jobs.append(job)
        self.submitted.append(job.attempt)

    def run_next(self) -> None:
        pass

    def close(self) -> None:
        self.jobs.clear()


class Polled(Execution):
    """A step that starts its work, and is then asked whether it is done."""

    def __init__(self, name: str, flow: Flow, driver: Driver) -> None:
        super().__init__(name, flow)
        self.driver = driver
        self.poll_interval = 1.0 + int(name) % 3

    def run(self, context: Context) -> object:
        return self.driver.work(context)

    def check(self, context: Context) -> bool:
        assert context.output == f"output of {context.step}"
        polls = self.driver.polls
        key = (context.vect_id, context.step)
        polls[key] = polls.get(key, 0) + 1
        plan = self.driver.plan_of(context.vect_id)
        return polls[key] >= plan.polls[int(context.step)]


class Driver:
    """Plays a case.

    Args:
        case: What happens.
        log: Where events go; a `TickLog` of its own unless given.
        watch: Called after each event that has moved the state.
    """

    def __init__(
        self,
        case: Case,
        *,
        log: TickLog | None = None,
        watch: Callable[[Driver, Event], None] | None = None,
    ) -> None:
        self.case = case
        self.log = log or TickLog()
        self.clock = LookedAtClock()
        self.workers = CheckedWorkers(case.slots, self.log)
        self.scheduler = Scheduler(self.log, self.clock, self.workers)
        self.calls: list[Attempt] = []
        self.polls: dict[tuple[str, str], int] = {}
        self.flows = [self._declare(i) for i in range(len(case.flows))]
        self.runs = [Run(self.flows[plan.flow], f"vect {i}") for i, plan in enumerate(case.vects)]
        self.begun: list[Run] = []
        self._watch = watch
        if watch is not None:
            self.scheduler._appended.connect(self._appended, weak=False)

    def _declare(self, index: int) -> Flow:
        plan = self.case.flows[index]
        has_polls = any(any(v.polls) for v in self.case.vects if v.flow == index)
        flow = Flow(f"flow {index}", app=Registry())
        steps: list[Execution] = []
        for i in range(plan.steps):
            if has_polls and i % 2:
                steps.append(Polled(str(i), flow, self))
            else:
                steps.append(PythonExecution(str(i), flow, self.work))
        for upstream, step in plan.edges:
            steps[step].depends(steps[upstream])
        flow.freeze()
        return flow

    def plan_of(self, vect: str) -> Any:
        return self.case.vects[int(vect.split()[1])]

    def outcome(self, attempt: Attempt) -> Outcome:
        return self.plan_of(attempt[0]).outcomes[int(attempt[1])]

    def work(self, context: Context) -> str:
        """Do the work of a step: end as the case has it."""
        attempt = (context.vect_id, context.step, context.attempt)
        self.calls.append(attempt)
        match self.outcome(attempt):
            case "raise":
                raise ValueError(f"step {context.step} fails")
            case "exit":
                raise SystemExit(3)
        return f"output of {context.step}"

    def _appended(self, sender: StepState | VectState, *, event: Event) -> None:
        assert self._watch is not None
        self._watch(self, event)

    @property
    def states(self) -> Mapping[str, VectState]:
        """The live states of the Vects that exist, by id."""
        return {run.state.id: run.state for run in self.runs if run.state.created_date is not None}

    @property
    def wanted(self) -> list[Attempt]:
        """The attempts of which the log says that their work is to be done, in that order.

        All that were started but those cancelled in the very tick that started them.
        """
        wanted: list[Attempt] = []
        for tick in self.log.ticks:
            gone = {(e.vect, e.step) for e in tick if e.name == "step.cancelled"}
            wanted += [
                (e.vect, e.step or "", e.attempt or 0)
                for e in tick
                if e.name == "step.started" and (e.vect, e.step) not in gone
            ]
        return wanted

    def check_what_was_submitted(self) -> None:
        """Check that what is wanted has been submitted, once, and nothing that was not started."""
        started = [(e.vect, e.step, e.attempt) for e in self.log.read() if e.name == "step.started"]
        submitted, wanted = self.workers.submitted, self.wanted
        assert submitted == [attempt for attempt in started if attempt in submitted]
        assert [attempt for attempt in submitted if attempt in wanted] == wanted

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left for the next tick, unless the workers answer."""
        return self.scheduler._inbox.empty()

    # What happens

    def play(self, after_tick: Callable[[Driver], None] | None = None) -> Driver:
        """Play the whole case, to the end of all Vects, unless the log fails before."""
        for run, plan in zip(self.runs, self.case.vects, strict=True):
            if not plan.is_late:
                self.begin(run)
        self.tick(after_tick)
        for move in self.case.moves:
            self._do(move)
            if not move.is_held:
                self.tick(after_tick)
        for run in self.runs:
            if run not in self.begun:
                self.begin(run)
        self.tick(after_tick)
        while self.scheduler.failure is None and (self.workers.jobs or self._is_open):
            if self.workers.jobs:
                self._answer(0)
            self.tick(after_tick)
        return self

    @property
    def _is_open(self) -> bool:
        return not self.scheduler.is_idle()

    def tick(self, after_tick: Callable[[Driver], None] | None = None) -> None:
        """Let the scheduler take all that has come in; where nothing has, the next timer."""
        if self.scheduler.failure is not None or not self._is_open:
            return
        if self.scheduler._inbox.empty() and self.workers.jobs:
            return
        self.scheduler.tick(self.scheduler._collect(None))
        if isinstance(self.log, TickLog) and not (self.log._refuse or self.log._refuse_commit):
            assert self.scheduler.failure is None, repr(self.scheduler.failure)
        if after_tick is not None:
            after_tick(self)

    def _do(self, move: Move) -> None:
        late = [run for run in self.runs if run not in self.begun]
        if move.kind == "answer" and self.workers.jobs:
            self._answer(move.index % len(self.workers.jobs))
        elif move.kind == "again" and self.workers.submitted:
            attempt = self.workers.submitted[move.index % len(self.workers.submitted)]
            self.scheduler.put(self.finished(attempt))
        elif move.kind == "cancel" and self.begun:
            run = self.begun[move.index % len(self.begun)]
            self.scheduler.cancel(run, "a person said so")
        elif move.kind == "begin" and late:
            self.begin(late[move.index % len(late)])

    def begin(self, run: Run) -> None:
        self.begun.append(run)
        self.scheduler.begin(run)

    def _answer(self, index: int) -> None:
        job = self.workers.jobs.pop(index)
        job.answer(self.outcome(job.attempt))

    def finished(self, attempt: Attempt) -> Finished:
        """Return the answer that an attempt will give, or has given."""
        vect, step, number = attempt
        if self.outcome(attempt) == "return":
            return Finished(vect, step, number, output=f"output of {step}")
        return Finished(vect, step, number, error="ValueError: once more")


class Ear:
    """Hears all public signals of the flows of a driver while it is open."""

    def __init__(self, driver: Driver) -> None:
        self.heard: list[Event] = []
        self._driver = driver

    def __enter__(self) -> Ear:
        logging.getLogger("oautom.signals").disabled = True  # each harm done is told there
        for flow in self._driver.flows:
            signals.event.connect(self._hear, sender=flow)
            signals.event.connect(self._raise, sender=flow)
        return self

    def __exit__(self, *told: object) -> None:
        signals.event.disconnect(self._hear)
        signals.event.disconnect(self._raise)
        logging.getLogger("oautom.signals").disabled = False

    def _hear(self, flow: Flow, *, event: Event) -> None:
        assert event in list(self._driver.log.read()), "heard before it was committed"
        self.heard.append(event)

    def _raise(self, flow: Flow, *, event: Event) -> None:
        raise SystemExit("a receiver that does harm")


def plain(value: Any) -> Any:
    """Return a copy of facts that later events cannot change, and that compares by value."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value
