"""The runner: the edge, where effects become work and work becomes answers.

It hands the work of steps to the workers, and their answers to the inbox. Its methods are called on
the scheduler's thread; only `_answered` runs wherever a worker ends.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Literal

from oautom.clock import Clock, Timers
from oautom.commands import Effect, Finished, Release, Submit, Wake
from oautom.events.fold import StepState
from oautom.executions.base import Execution, wrong_interval
from oautom.executions.context import Context
from oautom.executions.work import Outcome, Work, unpack
from oautom.executors.base import Workers
from oautom.executors.inline import InlineWorkers
from oautom.executors.threads import ThreadWorkers
from oautom.messages import Answer, Key, Poll, TimeUp
from oautom.run import Run

_logger = logging.getLogger("oautom.runner")


class _Task:
    """An attempt that is under way."""

    __slots__ = (
        "alarm",
        "context",
        "execution",
        "has_no_slot",
        "is_killed",
        "is_late",
        "is_launched",
        "is_promised",
        "is_submitted",
        "is_told",
        "key",
        "run",
    )

    def __init__(self, key: Key, run: Run, execution: Execution, context: Context) -> None:
        self.key = key
        self.run = run
        self.execution = execution
        self.context = context
        self.is_submitted = False  # the workers have it; a polled step waits without them
        self.is_launched = False  # `run` has returned, it is `check` that is asked from now on
        self.is_killed = False
        self.is_promised = False  # it has been killed, and somebody sees to it that it ends
        self.alarm: int | None = None  # the timer of its timeout
        self.is_late = False  # it was killed because its time was up
        self.is_told = False  # it has failed already, whatever it answers in the end
        self.has_no_slot = execution.kind == "flow"  # or the worker that it keeps was replaced


class Runner:
    """Performs effects on workers.

    Args:
        workers: Who does the work.
        clock: Tells when a step is to be asked again.
        timers: Where `Poll` messages wait for their time.
        put: Puts a message in the inbox; any thread.
        log_id: The identity of a durable log; commands carry it in their environment.

    Attributes:
        busy: How many of the workers' slots are taken.
        children: Who runs the flows that steps run; None where the workers play that they do.
    """

    def __init__(
        self,
        workers: Workers,
        clock: Clock,
        timers: Timers[Any],
        put: Callable[[Any], None],
        log_id: str | None = None,
    ) -> None:
        self.busy = 0
        self.children: Workers | None = None
        self._workers = workers
        self._workers_here: Workers | None = None
        self._clock = clock
        self._timers = timers
        self._put = put
        self._log_id = log_id
        self._tasks: dict[Key, _Task] = {}
        self._ending: dict[str, int] = {}  # per Vect: killed attempts whose end is promised

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return self.busy < self._workers.slots

    @property
    def workers_if_taken(self) -> int:
        """How many slots there are, if none is free; else 0."""
        return 0 if self.has_room else self._workers.slots

    def is_ending(self, vect: str) -> bool:
        """Whether something of a Vect has been killed and has not ended yet."""
        return vect in self._ending

    @property
    def is_ending_any(self) -> bool:
        """Whether something of any Vect has been killed and has not ended yet."""
        return bool(self._ending)

    def vects(self) -> set[str]:
        """Return the ids of the Vects of which work is under way."""
        return {key[0] for key in self._tasks}

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
            task = _Task(key, run, execution, self._context(run, execution, step, effect.attempt))
            self._tasks[key] = task
            if step.state != "running":  # cancelled in this very tick
                task.context.mark_cancelled()  # so that the workers do not begin with it
            if execution.timeout is not None:
                self._set_alarm(task, execution.timeout - passed)
            self._submit(task, "run")
        elif isinstance(effect, Wake):
            self._timers.add(self._clock.monotonic() + effect.seconds, Release(*key))
        elif key in self._tasks:
            self._kill(self._tasks[key])

    def rearm(self, run: Run, now: datetime) -> None:
        """Have the steps go on that waited for a time, or ran another flow, when they were left."""
        for step in run.state.steps.values():
            if step.state == "running" and step.child is not None and step.start_date is not None:
                passed = (now - step.start_date).total_seconds()
                self.perform(run, Submit(run.id, step.name, step.attempt), passed)
            if step.until is not None and step.state in ("up_for_retry", "running"):
                seconds = max(0.0, (step.until - now).total_seconds())
                self.perform(run, Wake(run.id, step.name, step.attempt, seconds))

    def _set_alarm(self, task: _Task, seconds: float) -> None:
        when = self._clock.monotonic() + seconds
        task.alarm = self._timers.add(when, TimeUp(task.key))
        if self._workers_for(task.execution).place == "inline":
            # The step has the thread that would notice; it is told so from another one.
            watch = threading.Timer(seconds, self._interrupt_at, (task, when))
            watch.daemon = True
            watch.start()

    def _interrupt_at(self, task: _Task, when: float) -> None:
        if task.key in self._tasks and self._clock.monotonic() >= when:
            task.context.mark_cancelled()

    def time_up(self, key: Key) -> Finished | None:
        """End the work of an attempt that has taken too long, and return that it has failed.

        Where somebody sees to it that it ends, it has failed when it has ended: then its answer
        says so, and None is returned.
        """
        task = self._tasks[key]
        task.alarm = None
        if task.is_killed:
            return None
        task.is_late = True
        was_submitted = task.is_submitted
        self._kill(task)
        workers = self._workers_for(task.execution)
        if task.is_promised or (was_submitted and workers.place == "inline"):
            return None
        task.is_told = True
        if was_submitted and workers.replace():
            task.has_no_slot = True
            self.busy -= 1
        return self._failed(task, _timed_out(task, is_abandoned=was_submitted))

    def poll(self, key: Key) -> None:
        """Ask a step whether it is done, unless it has been killed meanwhile. Takes a slot."""
        if key in self._tasks:
            self.busy += 1
            self._submit(self._tasks[key], "check")

    def _submit(self, task: _Task, method: Literal["run", "check"]) -> None:
        task.is_submitted = True
        work = Work(task.execution, task.context, method)
        self._workers_for(task.execution).submit(work, partial(self._answered, task.key))

    def _workers_for(self, execution: Execution) -> Workers:
        if execution.kind == "flow" and self.children is not None:
            return self.children
        if not execution.runs_here or self._workers.place != "elsewhere":
            return self._workers
        if self._workers_here is None:
            self._workers_here = ThreadWorkers(self._workers.slots)
        return self._workers_here

    def _answered(self, key: Key, answer: object, failure: BaseException | None) -> None:
        self._put(Answer(key, answer, failure))

    def run_next(self) -> None:
        """Do work that is kept for the scheduler's own thread."""
        self._workers.run_next()

    def settle(self, message: Answer) -> Finished | None:
        """Free the slot of an answer, and return it as a command if the attempt is over."""
        outcome = unpack(message.answer, message.failure)
        task = self._tasks.get(message.key)
        if task is None:  # workers that are not ours may answer twice
            return _finished(message.key, outcome)
        if not task.has_no_slot:
            self.busy -= 1
        task.is_submitted = False
        if outcome.log:
            task.context.buffer.write(outcome.log)
        if task.execution.is_polled and outcome.error is None and not task.is_killed:
            if problem := wrong_interval(task.execution.poll_interval):  # it has changed since
                outcome = Outcome(error=problem)
            elif self._is_done(task, outcome):
                outcome = Outcome(task.context.output)
            else:
                return None
        del self._tasks[task.key]
        if task.alarm is not None:
            self._timers.cancel(task.alarm)
        if task.is_promised:
            self._end_promise(task.key[0])
        if task.is_late and not task.is_told:
            outcome = _timed_out(task)
        is_good = outcome.error is None
        return Finished(*task.key, outcome.output) if is_good else self._failed(task, outcome)

    def _failed(self, task: _Task, outcome: Outcome) -> Finished:
        """Return a failure as a command: whether the step is tried again is decided here."""
        if outcome.cause is not None and (not task.is_killed or task.is_late):
            task.run.causes[task.key[1]] = outcome.cause
        return _finished(task.key, outcome, self._retry_after(task, outcome))

    def _retry_after(self, task: _Task, outcome: Outcome) -> float | None:
        """Return the seconds until the step is to be tried again, or None if it is not."""
        policy = task.execution.retry
        failures = task.run.state.steps[task.key[1]].failures + 1
        if policy is None or outcome.is_skip or failures >= policy.max_attempts:
            return None
        is_covered = outcome.is_retriable
        if is_covered is None:
            is_covered = outcome.cause is None or policy.covers(outcome.cause)
        return policy.delay_after(failures, self._clock.chance()) if is_covered else None

    def _is_done(self, task: _Task, outcome: Outcome) -> bool:
        if not task.is_launched:
            task.is_launched = True
            task.context.output = outcome.output
        elif outcome.output is True:
            return True
        when = self._clock.monotonic() + task.execution.poll_interval
        self._timers.add(when, Poll(task.key))
        return False

    def _kill(self, task: _Task) -> None:
        if task.is_killed:
            return
        task.is_killed = True
        promised = task.context.mark_cancelled()
        if not task.is_submitted:
            if task.alarm is not None:
                self._timers.cancel(task.alarm)
            del self._tasks[task.key]  # it waited to be asked again: no answer will come
        elif promised:
            task.is_promised = True
            self._ending[task.key[0]] = self._ending.get(task.key[0], 0) + 1

    def _end_promise(self, vect: str) -> None:
        self._ending[vect] -= 1
        if not self._ending[vect]:
            del self._ending[vect]

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
                del self._tasks[task.key]
            else:
                self._kill(task)

    def close(self) -> None:
        """End the workers that are ours."""
        self._workers.close()
        if self._workers_here is not None:
            self._workers_here.close()

    def _context(self, run: Run, execution: Execution, step: StepState, attempt: int) -> Context:
        state = run.state
        return Context(
            state.flow,
            state.id,
            step.name,
            attempt,
            run.params() if state.params else state.params,
            partial(_inputs, run, step),
            run.buffers,
            execution.log_limit_bytes,
            self._log_id,
            None if step.parent is None else partial(run.item, step),
        )


def _inputs(run: Run, step: StepState) -> dict[str, Any]:
    steps = step.vect.steps
    names = step.vect.graph.upstreams[step.declared]
    good = (steps[name] for name in names if steps[name].state == "success")
    return {each.name: run.output(each) for each in good}


def _finished(key: Key, outcome: Outcome, retry_after: float | None = None) -> Finished:
    error, details = outcome.error, outcome.details
    return Finished(*key, outcome.output, error, details, outcome.is_skip, retry_after)


def _timed_out(task: _Task, *, is_abandoned: bool = False) -> Outcome:
    seconds = task.execution.timeout
    error = f"it took longer than its timeout of {seconds:g} seconds"
    details: dict[str, Any] = {"timeout": seconds}
    if is_abandoned:
        error += "; it does not listen to context.cancelled, and what it does was abandoned"
        details["abandoned"] = True
        _logger.warning("vect '%s', step '%s', attempt %d: %s", *task.key, error)
    return Outcome(error=error, details=details, cause=TimeoutError(error))
