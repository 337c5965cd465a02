"""The runner: the edge, where effects become work and work becomes answers.

It hands the work of steps to the workers, and their answers to the inbox. Its methods are called on
the scheduler's thread; only `_answered` runs wherever a worker ends, and makes there of what a step
has answered what the log can keep.

An attempt that was told to stop lingers until it has answered: meanwhile the step does not start
again, and keeps its slot of a pool.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Literal, cast

from oautom.engine.clock import Clock, Timers
from oautom.engine.lingering import Lingering
from oautom.engine.messages import Answer, GraceOver, Loan, Over, Poll, TimeUp
from oautom.events.log import EventLog, keeps_objects
from oautom.machine.commands import Effect, Finished, Key, Place, Release, Submit, Wake
from oautom.machine.kinds import kind_of
from oautom.machine.state import Group, StepState, committed
from oautom.processes.leftovers import Marks
from oautom.steps.context import Context
from oautom.steps.execution import Execution
from oautom.steps.options import wrong_interval
from oautom.steps.work import Outcome, StepError, Work, unpack
from oautom.values.annotations import UNKNOWN
from oautom.values.text import without_frames
from oautom.vects.keeping import kept
from oautom.vects.run import Failure, Run
from oautom.workers.base import GRACE_PERIOD as COROUTINE_GRACE_PERIOD
from oautom.workers.base import Workers
from oautom.workers.inline import InlineWorkers
from oautom.workers.threads import ThreadWorkers

GRACE_PERIOD = 10.0
"""Seconds that a function which listens to `context.cancelled` has to tidy up in."""

_JOIN_SECONDS = 1.0
_NO_TIMERS: dict[str, tuple[float, int]] = {}

_DEAF = "does not listen to context.cancelled"

_logger = logging.getLogger("oautom.runner")


class _Task:
    """An attempt that is under way."""

    __slots__ = (
        "alarm",
        "context",
        "due",
        "execution",
        "has_answered",
        "has_no_slot",
        "is_done",
        "is_instance",
        "is_killed",
        "is_late",
        "is_launched",
        "is_promised",
        "is_submitted",
        "is_told",
        "key",
        "next_look",
        "run",
    )

    def __init__(
        self, key: Key, run: Run, execution: Execution, context: Context, *, is_instance: bool
    ) -> None:
        self.key = key
        self.run = run
        self.execution = execution
        self.context = context
        self.is_instance = is_instance  # of a map
        self.is_done = False  # it is polled, and its `check` has said so
        self.has_answered = False  # the workers are done with it
        self.is_submitted = False  # the workers have it; a polled step waits without them
        self.is_launched = False  # `run` has returned, it is `check` that is asked from now on
        self.is_killed = False
        self.is_promised = False  # it has been killed, and somebody sees to it that it ends
        self.due: float | None = None  # when its time is up, if it has a timeout
        self.alarm: int | None = None  # the timer of that
        self.next_look: int | None = None  # the timer of its next poll
        self.is_late = False  # it was killed because its time was up
        self.is_told = False  # it has failed already, whatever it answers in the end
        # Or the worker that it keeps was replaced, or has its slot lent.
        self.has_no_slot = not run.state.steps[key[1]].needs_worker


def _in_none(place: Place) -> Iterable[Group]:
    """Return that a step has no slot."""
    return ()


class Runner:
    """Performs effects on workers.

    Args:
        workers: Who does the work.
        clock: Tells when a step is to be asked again.
        timers: Where `Poll` messages wait for their time.
        put: Puts a message in the inbox; any thread.
        log: Where what steps answer is kept; commands carry its identity in their environment.

    Attributes:
        busy: How many of the workers' slots are taken.
        elsewhere: Who does the work of steps of some kinds, by the kind, as `Children` and `Files`;
            nobody where the workers play that they do.
        home: What steps are told of where they are called: the `Waits` of the engine.
        returning: Those that have lent their slots, and want them back; soonest first.
        has_loop: Whether async steps take no slot.
        may_lend: Whether a step that waits can lend its slot: there are more threads to be had.
        is_inline: Whether steps run on the scheduler's own thread.
        slots: How many workers there are.
        lingering: The attempts that were told to stop and have not answered yet.
        above: Tells which steps have a Vect run: the nearest first, none for most.
    """

    def __init__(
        self,
        workers: Workers,
        clock: Clock,
        timers: Timers[Any],
        put: Callable[[Any], None],
        log: EventLog,
    ) -> None:
        self.busy = 0
        self.elsewhere: dict[str, Workers] = {}
        self.home: object = None
        self.returning: deque[Loan] = deque()
        self.has_loop = workers.has_loop
        self.may_lend = isinstance(workers, ThreadWorkers)
        self.is_inline = workers.place == "inline"
        self.slots = workers.slots
        self._loop: Workers | None = None
        self.lingering = Lingering(log, put)
        self.above: Callable[[Run], Sequence[Place]] = _none_above
        self._workers = workers
        self._ours: list[Workers] = []  # besides these
        # They end as well when nobody has the app any more.
        weakref.finalize(self, _close_all, self._ours).atexit = False
        self._workers_here: Workers | None = None
        self._clock = clock
        self._timers = timers
        self._put = put
        self._log = log
        self._is_plain = not keeps_objects(log)
        self._is_closed = False
        self._tasks: dict[Key, _Task] = {}
        self._wakes: dict[str, dict[str, tuple[float, int]]] = {}  # timers, by Vect and step

    @cached_property
    def _log_id(self) -> str | None:
        return self._log.id  # known when the log is open

    @cached_property
    def _marks(self) -> Marks:
        return Marks(self._log_id)

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return self.busy < self._workers.slots

    @property
    def workers_if_taken(self) -> int:
        """How many slots there are, if none is free; else 0."""
        return 0 if self.has_room else self._workers.slots

    def vects(self) -> set[str]:
        """Return the ids of the Vects of which work is under way."""
        return {key[0] for key in self._tasks}

    def is_at_work(self, step: StepState) -> bool:
        """Whether an earlier attempt still is; `Lingering` tells of its end."""
        place = (step.vect.id, step.name)
        if step.attempt and self.holds((*place, step.attempt)):
            return True
        return self.lingering.is_waited_for(place)

    def lingers(self, step: StepState) -> bool:
        """Whether an earlier attempt of a step that waits is at work still."""
        if step.state == "running":
            return False
        return self.lingering.is_at((step.vect.id, step.name))

    def holds(self, key: Key) -> bool:
        """Whether somebody is at work on an attempt, or on what it has had run."""
        task = self._tasks.get(key)
        is_at_it = task is not None and task.is_submitted
        return is_at_it or self.lingering.is_at(key[:2])

    def at_work(self, vect: str) -> set[Place]:
        """Return the steps of a Vect on which somebody is at work."""
        tasks = self._tasks.items()
        submitted = {key[:2] for key, task in tasks if key[0] == vect and task.is_submitted}
        return submitted | self.lingering.steps_of(vect)

    def count_busy(self) -> None:
        """Count the slots that are taken anew: starts were taken back."""
        holders = (task for task in self._tasks.values() if task.is_submitted)
        self.busy = sum(not task.has_no_slot for task in holders)

    @property
    def is_in_step(self) -> bool:
        """Whether the code of a step has the scheduler's own thread."""
        return isinstance(self._workers, InlineWorkers) and self._workers.is_running

    @property
    def is_in_deaf_step(self) -> bool:
        """Whether that step does not listen to its cancellation."""
        return self.is_in_step and not any(
            task.context.is_listening for task in self._tasks.values() if task.is_submitted
        )

    def perform(self, run: Run, effect: Effect, passed: float = 0.0) -> None:
        """Do what a committed event asks for.

        Args:
            run: The run that it is of.
            effect: What to do.
            passed: For how many seconds a step has been running already.
        """
        key = (effect.vect, effect.step, effect.attempt)
        if isinstance(effect, Submit):
            step = run.state.steps[effect.step]
            execution = run.flow.steps[step.name] if step.parent is None else run.execution(step)
            context = self._context(run, execution, step, effect.attempt)
            context.home = self.home
            task = _Task(key, run, execution, context, is_instance=step.parent is not None)
            self._tasks[key] = task
            if step.state != "running":  # cancelled in this very tick
                task.context.mark_cancelled()  # so that the workers do not begin with it
            if execution.timeout is not None:
                self._set_alarm(task, execution.timeout - passed)
            self._submit(task, "run")
        elif isinstance(effect, Wake):
            wakes = self._wakes.setdefault(run.id, {})
            if (before := wakes.get(effect.step)) is not None:
                self._timers.cancel(before[1])
            when = self._clock.monotonic() + effect.seconds
            wakes[effect.step] = when, self._timers.add(when, Release(*key))
        elif key in self._tasks:
            self._kill(self._tasks[key])

    def rearm(self, run: Run, now: datetime) -> None:
        """Have the steps go on that did not need a worker when they were left."""
        for step in run.state.steps.values():
            key = (run.id, step.name, step.attempt)
            kind = kind_of(step.kind)
            is_work = kind.ended_by == "work" and not kind.needs_worker
            is_left = is_work and step.state == "running" and key not in self._tasks
            if is_left and step.start_date is not None:
                passed = (now - step.start_date).total_seconds()
                self.perform(run, Submit(*key), passed)
        self.wake_again(run, now)

    def wake_again(self, run: Run, now: datetime) -> None:
        """Have the steps go on, when it is time by the wall clock, that wait for one.

        None goes on later than it would have: a clock that is set back makes no delay longer.
        """
        wakes = self._wakes.get(run.id, _NO_TIMERS)
        for step in run.state.steps.values():
            if step.until is not None and step.state in ("up_for_retry", "running"):
                seconds = max(0.0, (step.until - now).total_seconds())
                before = wakes.get(step.name)
                if before is None or self._clock.monotonic() + seconds < before[0]:
                    self.perform(run, Wake(run.id, step.name, step.attempt, seconds))

    def _set_alarm(self, task: _Task, seconds: float) -> None:
        task.due = self._clock.monotonic() + seconds
        task.alarm = self._timers.add(task.due, TimeUp(task.key))

    def _watched(self, task: _Task, work: Work) -> Callable[[], object]:
        """Return inline work that is told when its time is up: it has the thread that would notice.

        So another thread looks, from the beginning of the call to its end.
        """

        def call() -> object:
            seconds = max(0.0, cast("float", task.due) - self._clock.monotonic())
            watch = threading.Timer(seconds, self._interrupt_late, (task,))
            watch.name, watch.daemon = "oautom-timeout", True
            try:
                watch.start()
            except RuntimeError as error:  # the system gives no thread
                refusal = f"it was not begun, since its timeout could not be watched: {error}"
                return Outcome.failure(StepError(refusal))
            try:
                return work()
            finally:
                watch.cancel()
                watch.join(_JOIN_SECONDS)  # it may be calling what the step has for its end

        return call

    def _interrupt_late(self, task: _Task) -> None:
        if task.due is not None and self._clock.monotonic() >= task.due:
            task.context.mark_cancelled()

    def time_up(self, key: Key) -> Finished | None:
        """End the work of an attempt that has taken too long, and return that it has failed.

        Where somebody sees to it that it ends, it has failed when it has ended: then its answer
        says so, and None is returned.
        """
        task = self._tasks.get(key)
        if task is None:
            return None
        task.alarm = None
        if task.is_killed:
            return None
        task.is_late = True
        was_submitted = task.is_submitted
        self._kill(task)
        if task.is_promised or (was_submitted and self._place_of(task) == "inline"):
            return None
        return self._give_up(task, is_abandoned=was_submitted)

    def grace_over(self, key: Key) -> Finished | None:
        """Wait no longer for a function that has had its time; return what that means, if much."""
        task = self._tasks.get(key)
        if task is None or not task.is_promised:
            return None
        task.is_promised = False
        self.lingering.end_promise(key)
        if task.is_late:
            return self._give_up(task, is_abandoned=True)
        told = "vect '%s', step '%s', attempt %d: it was cancelled and goes on all the same"
        _logger.warning(told, *key)
        return None

    def _give_up(self, task: _Task, *, is_abandoned: bool) -> Finished:
        """Return that an attempt has failed by its timeout, before it has answered."""
        task.is_told = True
        if is_abandoned and not task.has_no_slot and self._workers_for(task.execution).replace():
            task.has_no_slot = True
            self.busy -= 1
        return self._failed(task, _timed_out(task, is_abandoned=is_abandoned))

    def _place_of(self, task: _Task) -> str:
        return self._workers_for(task.execution).place

    def has_slot(self, key: Key) -> bool:
        """Whether an attempt has a worker, or needs one to be asked whether it is done."""
        task = self._tasks.get(key)
        return task is not None and not task.has_no_slot

    def is_under_way(self, key: Key) -> bool:
        """Whether an attempt is under way. Any thread."""
        return key in self._tasks

    def is_on_loop(self, key: Key) -> bool:
        """Whether an attempt runs on the event loop of the async steps. Any thread."""
        task = self._tasks.get(key)
        return task is not None and task.execution.is_async and self.may_lend

    def lend(self, loan: Loan) -> None:
        """Let others have the slot of a step that waits for a Vect."""
        if loan.is_lent or loan.is_back:
            return
        task = self._tasks.get(loan.key)
        if task is None or task.has_no_slot or not self._workers_for(task.execution).replace():
            loan.is_back = True
            return
        loan.is_lent = True
        task.has_no_slot = True
        self.busy -= 1

    def take_back(self, loan: Loan, *, at_once: bool) -> None:
        """Have a step wait for its slot, before all others; or go on without waiting for one."""
        if loan.is_back:
            return
        if at_once:
            if loan in self.returning:
                self.returning.remove(loan)
            self._give_back(loan)
        elif loan not in self.returning:
            self.returning.append(loan)

    def give_back(self) -> None:
        """Give a free slot back to the first of those who have lent theirs."""
        self._give_back(self.returning[0])
        self.returning.popleft()

    def _give_back(self, loan: Loan) -> None:
        task = self._tasks.get(loan.key)
        if task is not None and not task.is_told:  # else it was abandoned: it needs none any more
            self.busy += task.has_no_slot
            task.has_no_slot = False
        loan.is_back = True

    def is_returning(self, key: Key) -> bool:
        """Whether a step waits for its slot."""
        return any(loan.key == key for loan in self.returning)

    def poll(self, key: Key) -> None:
        """Ask a step whether it is done, unless it has been killed meanwhile. Takes a slot."""
        task = self._tasks.get(key)
        if task is not None and not task.is_submitted:  # else a tick that asked it was taken back
            self.busy += not task.has_no_slot
            task.next_look = None
            self._submit(task, "check")

    def _submit(self, task: _Task, method: Literal["run", "check"]) -> None:
        task.is_submitted = True
        task.has_answered = False
        work: Any = Work(task.execution, task.context, method)
        workers = self._workers_for(task.execution)
        if task.due is not None and workers.place == "inline":
            work = self._watched(task, work)
        workers.submit(work, partial(self._answered, task))

    def _workers_for(self, execution: Execution) -> Workers:
        if execution.kind in self.elsewhere:
            return self.elsewhere[execution.kind]
        if execution.is_async and isinstance(self._workers, ThreadWorkers):
            return self._loop_workers()
        if not execution.runs_here or self._workers.place != "elsewhere":
            return self._workers
        if self._workers_here is None:
            self._workers_here = ThreadWorkers(self._workers.slots)
            self._ours.append(self._workers_here)
        return self._workers_here

    def _loop_workers(self) -> Workers:
        if self._loop is None:
            # asyncio takes 30 ms to import, and many programs never ask for it.
            from oautom.workers.loop import LoopWorkers  # noqa: PLC0415

            self._loop = cast("Workers", LoopWorkers())  # it takes `Work`, which can be awaited
            self._ours.append(self._loop)
        return self._loop

    def _answered(self, task: _Task, answer: object, failure: BaseException | None) -> None:
        """Pass on what the work has come to, as the log can keep it. On the worker's thread."""
        outcome: Outcome | Exception
        try:
            outcome = self._outcome(task, answer, failure)
        except Exception as error:  # the tick that takes it raises it
            outcome = error
        task.has_answered = True
        self._put(Answer(task.key, outcome))
        if self._is_closed:
            self.lingering.tell_left(task.key)

    def _outcome(self, task: _Task, answer: object, failure: BaseException | None) -> Outcome:
        outcome = unpack(answer, failure)
        if outcome.log:
            task.context.buffer.write(outcome.log)
        if task.execution.is_polled and outcome.error is None:
            task.is_done = task.is_launched and outcome.output is True
            if task.is_done:
                outcome = self._kept(task, Outcome(task.context.output))
        elif outcome.output is not None or outcome.error is not None or self._is_plain:
            outcome = self._kept(task, outcome)
        return outcome

    def _kept(self, task: _Task, outcome: Outcome) -> Outcome:
        kind = UNKNOWN
        if self._is_plain and outcome.error is None:
            execution: Any = task.execution
            kind = execution.instance_type if task.is_instance else execution.output_type
        outcome = kept(outcome, kind, self._log)
        if outcome.error is None:
            task.run.hand_on(task.key[1], task.key[2], outcome.live)
        return outcome

    def run_next(self) -> None:
        """Do work that is kept for the scheduler's own thread."""
        self._workers.run_next()

    def settle(self, message: Answer) -> Finished | None:
        """Free the slot of an answer, and return it as a command if the attempt is over."""
        outcome = message.outcome
        if isinstance(outcome, Exception):
            raise outcome
        task = self._tasks.get(message.key)
        if task is None:  # workers that are not ours may answer twice
            return _finished(message.key, outcome)
        if task.execution.is_polled and outcome.error is None and not task.is_done:
            if task.is_killed:
                outcome = Outcome(error="it was cancelled before it was done")
            elif problem := wrong_interval(task.execution.poll_interval):  # it has changed since
                outcome = Outcome(error=problem)
            else:
                self._poll_later(task, outcome)
                self._free(task)
                return None
        if task.is_late and not task.is_told:
            outcome = _timed_out(task)
        is_good = outcome.error is None
        told = Finished(*task.key, outcome.output) if is_good else self._failed(task, outcome)
        self._free(task)  # only now: what raises before is done once more
        self._forget(task)
        return told

    def _free(self, task: _Task) -> None:
        """Free the slot of work that is done."""
        if task.is_submitted and not task.has_no_slot:
            self.busy -= 1
        task.is_submitted = False

    def let_go(self, vect: str) -> None:
        """Let go of the timers of a Vect that has ended: some may be due in a year."""
        for _, number in self._wakes.pop(vect, _NO_TIMERS).values():
            self._timers.cancel(number)

    def abandon(self, key: Key) -> None:
        """Tell an attempt to stop whose end was told in another way, though it is at work still."""
        if (task := self._tasks.get(key)) is not None:
            self._kill(task)

    def forget(self, key: Key) -> None:
        """Let go of an attempt whose end was told in another way than by an answer."""
        if (task := self._tasks.get(key)) is not None:
            self._forget(task)

    def _forget(self, task: _Task) -> None:
        if task.alarm is not None:
            self._timers.cancel(task.alarm)
            task.alarm = None
        if task.next_look is not None:
            self._timers.cancel(task.next_look)
            task.next_look = None
        step = task.run.state.steps[task.key[1]]
        if task.is_killed:
            self.lingering.remove(task.key)
        elif step.state != "running" or step.attempt != task.key[2]:  # not wanted since this tick
            self.lingering.on_over(*task.key[:2])
        task.is_promised = False
        del self._tasks[task.key]  # last: what raises before is done once more

    def _failed(self, task: _Task, outcome: Outcome) -> Finished:
        """Return a failure as a command: whether the step is tried again is decided here."""
        if task.is_killed and not task.is_late:
            return _finished(task.key, outcome)
        if outcome.cause is not None:
            trace = str(outcome.facts.get("traceback", ""))
            failure = Failure(without_frames(outcome.cause), trace)
            task.run.local.failures[task.key[1]] = failure
        return _finished(task.key, outcome, self._retry_after(task, outcome))

    def _retry_after(self, task: _Task, outcome: Outcome) -> float | None:
        """Return the seconds until the step is to be tried again, or None if it is not."""
        policy = task.execution.retry
        if policy is None or outcome.is_skip:
            return None
        is_covered = outcome.is_retriable
        if is_covered is None:
            is_covered = outcome.cause is None or policy.covers(outcome.cause)
        failures = task.run.state.steps[task.key[1]].failures + 1
        return policy.decide(failures, self._clock.chance(), is_covered=is_covered)

    def _poll_later(self, task: _Task, outcome: Outcome) -> None:
        if not task.is_launched:
            task.is_launched = True
            task.context.output = outcome.output
        when = self._clock.monotonic() + task.execution.poll_interval
        task.next_look = self._timers.add(when, Poll(task.key))

    def _kill(self, task: _Task) -> None:
        if task.is_killed:
            return
        task.is_killed = True
        is_promised = task.context.mark_cancelled()
        if not task.is_submitted:
            self._forget(task)  # it waits to be asked again: no answer will come
            self._put(Over(*task.key[:2]))  # it kept its slot if it was asked until this very tick
            return
        self.lingering.add(task.key, self.above(task.run))
        if is_promised or (task.context.is_listening and self._place_of(task) != "inline"):
            task.is_promised = True
            self.lingering.promise(task.key)
        if task.is_promised:
            is_on_loop = task.execution.is_async and self.has_loop
            if is_on_loop or not is_promised:  # a coroutine may go on, though it was cancelled
                seconds = COROUTINE_GRACE_PERIOD if is_on_loop else GRACE_PERIOD
                self._timers.add(self._clock.monotonic() + seconds, GraceOver(task.key))

    def strand(self, vect: str) -> None:
        """Tell all work of a Vect to stop with which the engine cannot go on.

        What a step has had run as another Vect goes on.
        """
        for loan in [loan for loan in self.returning if loan.key[0] == vect]:
            self.returning.remove(loan)
            loan.is_back = True
        for task in [task for key, task in self._tasks.items() if key[0] == vect]:
            if task.execution.kind == "flow" or task.has_answered or not task.is_submitted:
                self.lose(task.key)
                continue
            try:
                self._kill(task)
            except Exception:
                _logger.exception("vect '%s', step '%s', attempt %d cannot be ended", *task.key)
                self.lose(task.key)

    def lose(self, key: Key) -> None:
        """Let go of an attempt for good, whatever is wrong with it: it calls little."""
        task = self._tasks.pop(key, None)
        if task is None:
            return
        if task.execution.kind != "flow":
            task.context.mark_cancelled()
        self.count_busy()
        self.lingering.lose(key)

    def interrupt(self, vect: str | None = None) -> None:
        """Tell the step that has, or is about to have, the scheduler's own thread to stop.

        Any thread. The scheduler itself could say so only when the step is over.

        Args:
            vect: Id of the Vect that it shall be of; None for any.
        """
        if self._workers.place == "inline":
            for key, task in self._tasks.copy().items():  # in one instruction
                if vect in (None, key[0]):
                    task.context.mark_cancelled()

    def kill_all(self) -> None:
        """Tell all work to stop: the engine can take no answer any more.

        What a step has had run as another Vect goes on in the next life, and so does the step.
        """
        for task in list(self._tasks.values()):
            if task.execution.kind == "flow":
                self._forget(task)
            else:
                self._kill(task)

    def close(self, groups_of: Callable[[Place], Iterable[Group]] = _in_none) -> None:
        """End the workers that are ours; functions that do not listen may go on for a while.

        Args:
            groups_of: Where a step has a slot, which it keeps meanwhile.
        """
        self._is_closed = True  # first: who answers from now on is looked for among those left
        at_work = (
            (task.key, self.above(task.run))
            for task in self._tasks.values()
            if task.is_submitted and task.context.has_begun and not task.has_answered
        )
        self.lingering.leave(at_work, groups_of)
        _close_all([self._workers, *self._ours, *self.elsewhere.values()])
        self._marks.end()

    def _context(self, run: Run, execution: Execution, step: StepState, attempt: int) -> Context:
        state = run.state
        return Context(
            state.flow,
            state.id,
            step.name,
            attempt,
            run.params() if state.params else state.params,
            partial(_inputs, run, step),
            run.local.buffers,
            execution.log_limit_bytes,
            self._marks.variables,
            None if step.parent is None else partial(run.item, step),
        )


def _close_all(ours: Iterable[Workers]) -> None:
    for workers in ours:
        workers.close()


def _inputs(run: Run, step: StepState) -> dict[str, Any]:
    steps = step.vect.steps
    names = step.vect.graph.upstreams[step.declared]
    good = (steps[name] for name in names if committed(steps[name])[0] == "success")
    return {each.name: run.output(each) for each in good}


def _none_above(run: Run) -> Sequence[Place]:
    """Return that no step has a Vect run."""
    return ()


def _finished(key: Key, outcome: Outcome, retry_after: float | None = None) -> Finished:
    error, told = outcome.error, outcome.told
    return Finished(*key, outcome.output, error, told, outcome.is_skip, retry_after)


def _timed_out(task: _Task, *, is_abandoned: bool = False) -> Outcome:
    seconds = task.execution.timeout
    error = f"it took longer than its timeout of {seconds:g} seconds"
    facts: dict[str, Any] = {"timeout": seconds}
    if is_abandoned:
        how = "did not end when it was cancelled" if task.execution.is_async else _DEAF
        error += f"; it {how}, and what it does was abandoned"
        facts["abandoned"] = True
        _logger.warning("vect '%s', step '%s', attempt %d: %s", *task.key, error)
    return Outcome(error=error, facts=facts, cause=TimeoutError(error))
