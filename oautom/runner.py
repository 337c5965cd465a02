"""The runner: the edge, where effects become work and work becomes answers.

It hands the work of steps to the workers, and their answers to the inbox. Its methods are called on
the scheduler's thread; only `_answered` runs wherever a worker ends.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from msgspec import structs

from oautom.clock import Clock, Timers
from oautom.decide import Effect, Finished, Submit
from oautom.errors import OAutomError
from oautom.events.fold import StepState
from oautom.executions.base import Execution, wrong_interval
from oautom.executions.context import Context
from oautom.executions.work import Outcome, Work, unpack
from oautom.executors.base import Workers
from oautom.executors.inline import InlineWorkers
from oautom.executors.threads import ThreadWorkers
from oautom.messages import Answer, Key, Poll
from oautom.values import readable
from oautom.vect import Run


class _Task:
    """An attempt that is under way."""

    __slots__ = (
        "context",
        "execution",
        "is_killed",
        "is_launched",
        "is_promised",
        "is_submitted",
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

    def perform(self, run: Run, effect: Effect) -> None:
        """Do what a committed event asks for."""
        key = (effect.vect, effect.step, effect.attempt)
        if isinstance(effect, Submit):
            execution = run.flow.steps[effect.step]
            task = _Task(key, run, execution, self._context(run, execution, effect.attempt))
            self._tasks[key] = task
            if run.state.steps[effect.step].state != "running":  # cancelled in this very tick
                task.context.mark_cancelled()  # so that the workers do not begin with it
            self._submit(task, "run")
        elif key in self._tasks:
            self._kill(self._tasks[key])

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
        outcome = (
            unpack(message.answer) if message.failure is None else Outcome.failure(message.failure)
        )
        task = self._tasks.get(message.key)
        if task is None:  # workers that are not ours may answer twice
            return _finished(message.key, outcome)
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
        if task.is_promised:
            self._end_promise(task.key[0])
        if outcome.cause is not None and not task.is_killed:
            task.run.causes[task.key[1]] = outcome.cause
        return _finished(task.key, outcome)

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
            for key, task in list(self._tasks.items()):
                if vect in (None, key[0]):
                    task.context.mark_cancelled()

    def kill_all(self) -> None:
        """Tell all work to stop: the engine can take no answer any more."""
        for task in list(self._tasks.values()):
            self._kill(task)

    def close(self) -> None:
        """End the workers that are ours."""
        self._workers.close()
        if self._workers_here is not None:
            self._workers_here.close()

    def _context(self, run: Run, execution: Execution, attempt: int) -> Context:
        state = run.state
        return Context(
            state.flow,
            state.id,
            execution.name,
            attempt,
            state.params,
            partial(_inputs, state.steps[execution.name]),
            run.buffers,
            execution.log_limit_bytes,
            self._log_id,
        )


def _inputs(step: StepState) -> dict[str, Any]:
    steps = step.vect.steps
    names = step.vect.graph.upstreams[step.name]
    return {name: steps[name].output for name in names if steps[name].state == "success"}


def _finished(key: Key, outcome: Outcome) -> Finished:
    return Finished(*key, outcome.output, outcome.error, outcome.details, outcome.is_skip)


def kept(answer: Finished, check_value: Callable[[object], None]) -> Finished:
    """Return an answer as the log can keep it: an output that it cannot fails the step."""
    if answer.error is not None:
        data = {key: readable(value) for key, value in answer.data.items()}
        return structs.replace(answer, error=readable(answer.error), data=data)
    if answer.output is None:
        return answer
    try:
        check_value(answer.output)
    except OAutomError as error:
        return structs.replace(answer, output=None, error=f"its output cannot be kept: {error}")
    return answer
