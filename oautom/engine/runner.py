"""The runner: the edge, where effects become work and work becomes answers.

It gives the work of steps to the workers, and their answers to the inbox. Its methods are called on
the scheduler's thread, except `_answered`, which runs on the thread of a worker.

An attempt that was asked to stop lingers until it has answered: meanwhile the step does not start
again, and keeps its slot of a pool.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cached_property, partial
from threading import get_ident
from typing import Any, Final, Literal, cast

from oautom.engine.attempt import Attempt, finished
from oautom.engine.clock import Clock, Timers
from oautom.engine.inbox import WRONG_THREAD, Wheel
from oautom.engine.lingering import Lingering
from oautom.engine.messages import Answer, Fetched, GraceOver, Loan, Over, Poll, TakeOver, TimeUp
from oautom.errors import EngineError, OAutomError, UnknownStepError
from oautom.events.log import EventLog, keeps_objects
from oautom.machine.commands import (
    Effect,
    Finished,
    Key,
    Lost,
    Passed,
    Place,
    Release,
    Submit,
    Wake,
)
from oautom.machine.deadlines import Deadline
from oautom.machine.kinds import kind_of
from oautom.machine.state import Hold, StepState, VectState, View, committed
from oautom.processes.leftovers import Marks
from oautom.steps.capture import CAPTURE
from oautom.steps.context import Context
from oautom.steps.execution import Execution
from oautom.steps.options import wrong_interval
from oautom.steps.secrets import ENVIRONMENT, Known, Secrets, no_secrets_in_errors
from oautom.steps.work import Fetching, Outcome, not_begun, told_by_name, work_of
from oautom.vects.run import Run
from oautom.workers.base import GRACE_PERIOD as COROUTINE_GRACE_PERIOD
from oautom.workers.base import NONE_LEFT, Workers, WorkLostError
from oautom.workers.inline import InlineWorkers
from oautom.workers.threads import ThreadWorkers

GRACE_PERIOD = 10.0
"""Seconds that a function which listens to `context.cancelled` has to tidy up in."""

_UNKNOWN: Final = "it is not known yet what earlier programs have left at work there"

_Timers = dict[str | Deadline, tuple[float, int]]
_NO_TIMERS: _Timers = {}

_logger = logging.getLogger("oautom.runner")


def _in_none(place: Place) -> Iterable[Hold]:
    """Return nothing: the step has no slot."""
    return ()


class Runner:
    """Performs effects on workers.

    Args:
        workers: They do the work.
        clock: Says when a step is polled again.
        timers: Where `Poll` messages wait for their time.
        put: Puts a message in the inbox; any thread.
        log: Where answers are kept; the environment of commands names its identity.
        wheel: Knows the driving thread.

    Attributes:
        busy: How many slots of the workers are taken.
        elsewhere: By the kind of step, the object that does the work in place of the workers:
            `Children`, `Files`. Empty if the workers only simulate.
        home: What the functions of steps can ask the engine for: its `Waits`.
        returning: The loans of slots whose owners want them back; the first one first.
        has_loop: Whether async steps take no slot.
        may_lend: Whether a step that waits can lend its slot: more threads can be had.
        is_inline: Whether steps run on the scheduler's own thread.
        slots: How many workers there are.
        is_shut: Whether no slot may be taken now: the workers have a problem, or it is not known
            what earlier programs have left at work there.
        lingering: The attempts that were asked to stop and have not answered yet.
        above: Returns the steps that run a Vect as their child, the nearest first; for most, none.
        is_draining: Nothing begins any more, but work that runs may end.
        secrets: Where the values of secrets come from.
    """

    def __init__(
        self,
        workers: Workers,
        clock: Clock,
        timers: Timers[Any],
        put: Callable[[Any], None],
        log: EventLog,
        wheel: Wheel,
    ) -> None:
        self._wheel = wheel
        self.busy = 0
        self.is_draining = False
        self.secrets = ENVIRONMENT
        self.elsewhere: dict[str, Workers] = {}
        self.home: object = None
        self.returning: deque[Loan] = deque()
        self.has_loop = workers.has_loop
        self.may_lend = isinstance(workers, ThreadWorkers)
        self.is_inline = workers.place == "inline"
        self.slots = workers.slots
        self.is_shut = False
        self._doubtful: list[Place] = []  # steps of which work may have been left elsewhere
        self._holds_of_left: Callable[[str, str], Iterable[Hold]] | None = None
        self._loop: Workers | None = None
        self.lingering = Lingering(log, put)
        self.above: Callable[[Run], Sequence[Place]] = _none_above
        self._workers = workers
        self._ours: list[Workers] = []  # `elsewhere` and `_inline`: closed with the engine
        # They also end when nothing refers to the app any more.
        weakref.finalize(self, _close_all, self._ours).atexit = False
        self._workers_here: Workers | None = None
        self._clock = clock
        self._timers = timers
        self._put = put
        self._log = log
        self._is_plain = not keeps_objects(log)
        self._is_closed = False
        self._attempts: dict[Key, Attempt] = {}
        self._opening: set[Key] = set()  # of runs that have entered, and are not rearmed yet
        self._fetching: set[Key] = set()  # the attempts whose secrets are fetched before the call
        self._wakes: dict[str, _Timers] = {}  # by the Vect, then by the owner of the timer

    @cached_property
    def _log_id(self) -> str | None:
        return self._log.id  # known when the log is open

    @cached_property
    def _marks(self) -> Marks:
        return Marks(self._log_id)

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return self.busy < self._workers.slots and not self.is_shut

    @property
    def workers_if_taken(self) -> int:
        """The number of slots if none is free; else 0."""
        return 0 if self.has_room or self.is_shut else self._workers.slots

    @property
    def problem(self) -> str:
        """Why the workers take no work for now, for people; empty if they do."""
        is_unknown = self._holds_of_left is not None
        return self._workers.problem or (_UNKNOWN if is_unknown else "")

    @property
    def has_no_workers(self) -> bool:
        """Whether the workers are dead for good."""
        return self._workers.is_dead

    def find_left(self, holds_of: Callable[[str, str], Iterable[Hold]]) -> None:
        """Find out what earlier programs of the log have left at work elsewhere. Any thread.

        Nothing starts before that is known. A step with such an attempt waits for its end, as for
        that of any other attempt that was asked to stop.

        Args:
            holds_of: Returns the slots that a step has, by its flow and its name.
        """
        if self._workers.place == "elsewhere":  # else their work has ended with the program
            self._holds_of_left = holds_of
            self.look_at_workers()

    def look_at_workers(self) -> None:
        """Note whether the workers take work now, and how much. Any thread."""
        if self._holds_of_left is not None and self._workers.problem is None:
            self._find_left(self._holds_of_left)
        self.is_shut = self._holds_of_left is not None or self._workers.problem is not None
        self.slots = self._workers.slots

    def _find_left(self, holds_of: Callable[[str, str], Iterable[Hold]]) -> None:
        try:
            left = self._workers.left(self._log_id) if self._log_id is not None else NONE_LEFT
        except WorkLostError as error:
            _logger.warning("what earlier programs have left at work is not known yet: %s", error)
            return  # it is asked again when the workers have changed
        self._holds_of_left = None
        for name, end in left.items():
            if (told := told_by_name(name)) is not None:
                flow, key = told
                _logger.warning(
                    "vect '%s', step '%s', attempt %d: a dead program has left it", *key
                )
                self.lingering.take_in(key, holds_of(flow, key[1]), end)
        doubtful, self._doubtful = self._doubtful, []
        for place in doubtful:
            self._put(Over(*place))
        if left:
            self._put(TakeOver())  # for their slots: last, as an `Over` frees these

    def vects(self) -> set[str]:
        """Return the ids of the Vects with work under way."""
        return {key[0] for key in self._attempts}

    def is_at_work(self, step: StepState) -> bool:
        """Whether an earlier attempt of the step is still at work; `Lingering` reports its end."""
        place = (step.vect.id, step.name)
        if step.attempt and self.holds((*place, step.attempt)):
            return True
        if self._holds_of_left is not None:  # an `Over` follows when that is known
            self._doubtful.append(place)
            return True
        return self.lingering.is_waited_for(place)

    def is_about_to_end(self, step: StepState) -> bool:
        """Whether the work of a step that is over goes on, and is sure to end or was just asked to.

        If it was asked and promises nothing, a `GraceOver` message ends the wait.
        """
        if step.state == "running":
            return False
        attempt = self._attempts.get((step.vect.id, step.name, step.attempt))
        if attempt is not None and attempt.fate == "wanted" and attempt.state != "waiting":
            return True
        return self.lingering.is_promised((step.vect.id, step.name))

    def lingers(self, step: StepState) -> bool:
        """Whether an earlier attempt of a waiting step is still at work."""
        if step.state == "running":
            return False
        return self.lingering.is_at((step.vect.id, step.name))

    def holds(self, key: Key) -> bool:
        """Whether an attempt is at work, or the child Vect that it runs."""
        attempt = self._attempts.get(key)
        is_at_it = attempt is not None and attempt.state != "waiting"
        return is_at_it or self.lingering.is_at(key[:2])

    def at_work(self, vect: str) -> set[Place]:
        """Return the steps of a Vect that are at work."""
        attempts = self._attempts.items()
        submitted = {
            key[:2] for key, attempt in attempts if key[0] == vect and attempt.state != "waiting"
        }
        return submitted | self.lingering.steps_of(vect)

    def count_busy(self) -> None:
        """Count the taken slots anew, after starts were taken back."""
        holders = (attempt for attempt in self._attempts.values() if attempt.state != "waiting")
        self.busy = sum(attempt.takes_slot for attempt in holders) + len(self._opening)

    @property
    def has_work(self) -> bool:
        """Whether anything is at work that may end by itself, or by a poll.

        A wait for a time, a person, a file or another Vect does not count; the work of that other
        Vect does.
        """
        return any(
            attempt.fate in ("wanted", "late") and kind_of(attempt.execution.kind).needs_worker
            for attempt in self._attempts.values()
        )

    @property
    def is_in_step(self) -> bool:
        """Whether the code of a step has the scheduler's own thread."""
        return isinstance(self._workers, InlineWorkers) and self._workers.is_running

    @property
    def is_in_deaf_step(self) -> bool:
        """Whether that step ignores its cancellation."""
        return self.is_in_step and not any(
            attempt.context.is_listening
            for attempt in self._attempts.values()
            if attempt.state != "waiting"
        )

    def perform(self, run: Run, effect: Effect, passed: float | None = None) -> None:
        """Perform the effect of a committed event.

        Args:
            run: The run to which it belongs.
            effect: What to do.
            passed: Seconds for which the step has been running already, since an earlier life of
                the program; None if it just starts.
        """
        assert self._wheel.thread in (None, get_ident()), WRONG_THREAD
        key = (effect.vect, effect.step, effect.attempt)
        if type(effect) is Submit:  # isinstance() is one call more for each step
            step = run.state.steps[effect.step]
            try:
                execution = (
                    run.flow.steps[step.name] if step.parent is None else run.execution(step)
                )
            except UnknownStepError:  # its Vect does not fit, was cancelled, and cleans up
                self.busy -= effect.attempt > 0 and step.begins_with_worker
                self._fail(key, "its flow does not have it any more")
                return
            if effect.attempt < 0:
                self._compensate(run, step, execution.compensation, key)
                return
            context = self.context(run, execution, step, effect.attempt)
            context.home = self.home
            context.is_strict = run.state.is_strict and "strict" not in step.options
            attempt = Attempt(key, run, execution, context, is_instance=step.parent is not None)
            if passed is not None:
                attempt.takes_slot = key in self._opening
                self._opening.discard(key)
            self._attempts[key] = attempt
            if step.state != "running":  # cancelled in this very tick
                attempt.context.mark_cancelled()  # so that the workers do not begin with it
            if execution.timeout is not None:
                self._set_alarm(attempt, execution.timeout - (passed or 0.0))
            self._submit(attempt, "run")
        elif isinstance(effect, Wake):
            self._set_timer(run.id, effect.step, effect.seconds, Release(*key))
        elif key in self._attempts:
            self._kill(self._attempts[key])

    def _fail(self, key: Key, why: str) -> None:
        self._put(Answer(key, Outcome(error=why, is_retriable=False)))

    def _compensate(self, run: Run, step: StepState, execution: Execution | None, key: Key) -> None:
        """Undo what a step has done, as soon as a worker is free: queued as a poll is."""
        if execution is None:
            self._fail(key, "its flow does not say any more how it is compensated")
            return
        context = self.context(run, execution, step, key[2])
        attempt = Attempt(key, run, execution, context, is_instance=False)
        self._attempts[key] = attempt
        try:
            context.output = run.output(step)
        except OAutomError as error:
            attempt.takes_slot = False
            self._put(Answer(key, Outcome(error=str(error), cause=error)))
        else:
            self._put(Poll(key))

    def _set_timer(
        self, vect: str, what: str | Deadline, seconds: float, command: Release | Passed
    ) -> None:
        """Give a command after a delay, in place of the one set for the same step."""
        timers = self._wakes.setdefault(vect, {})
        if (before := timers.get(what)) is not None:
            self._timers.cancel(before[1])
        when = self._clock.monotonic() + seconds
        timers[what] = when, self._timers.add(when, command)

    def watch(self, run: Run, step: str | None, now: datetime) -> None:
        """Set the timers for the deadlines of a step, or of the Vect itself if it is None.

        No deadline passes later than planned: setting the clock back does not extend one.
        """
        assert self._wheel.thread in (None, get_ident()), WRONG_THREAD
        deadlines = run.state.deadlines
        for deadline, until in () if deadlines is None else deadlines.running(step):
            seconds = max(0.0, (until - now).total_seconds())
            before = self._wakes.get(run.id, _NO_TIMERS).get(deadline)
            if before is None or self._clock.monotonic() + seconds < before[0]:
                self._set_timer(run.id, deadline, seconds, Passed(run.id, deadline))

    def rearm(self, run: Run, now: datetime) -> None:
        """Set the timers of the steps that needed no worker when the earlier life ended."""
        for step in run.state.steps.values():
            key = (run.id, step.name, step.attempt)
            kind = kind_of(step.kind)
            is_work = kind.ended_by == "work" and not kind.needs_worker
            is_left = is_work and step.state == "running" and key not in self._attempts
            if is_left and step.start_date is not None:
                passed = (now - step.start_date).total_seconds()
                self.perform(run, Submit(*key), passed)
        self.wake_again(run, now)

    def wake_again(self, run: Run, now: datetime) -> None:
        """Wake the steps whose wait is over by the wall clock.

        No wait ends later than planned: setting the clock back does not extend one.
        """
        wakes = self._wakes.get(run.id, _NO_TIMERS)
        for name, attempt, until in _waiting(run.state):
            seconds = max(0.0, (until - now).total_seconds())
            before = wakes.get(name)
            if before is None or self._clock.monotonic() + seconds < before[0]:
                self.perform(run, Wake(run.id, name, attempt, seconds))
        if run.state.deadlines is not None:
            for _, watched in list(run.state.deadlines.until):
                self.watch(run, watched, now)

    def _set_alarm(self, attempt: Attempt, seconds: float) -> None:
        attempt.due = self._clock.monotonic() + seconds
        attempt.alarm = self._timers.add(attempt.due, TimeUp(attempt.key))

    def time_up(self, key: Key) -> Finished | None:
        """End the work of an attempt that has taken too long, and return the failure.

        If the work is sure to end, the attempt fails when it has ended: the answer carries the
        failure, and None is returned.
        """
        attempt = self._attempts.get(key)
        if attempt is None:
            return None
        attempt.alarm = None
        if attempt.fate != "wanted":
            return None
        was_submitted = attempt.state != "waiting"
        self._kill(attempt, "late")
        if key[2] < 0:  # nothing else is undone before it is over
            return None
        if attempt.is_promised or (was_submitted and self._place_of(attempt) == "inline"):
            return None
        return self._give_up(attempt, is_abandoned=was_submitted)

    def grace_over(self, key: Key) -> Finished | None:
        """Stop waiting for a function whose grace is over; return what follows, if anything."""
        attempt = self._attempts.get(key)
        if attempt is None or not attempt.is_promised or key[2] < 0:
            self.lingering.look(key)
            return None
        attempt.is_promised = False
        self.lingering.end_promise(key)
        self.lingering.look(key)
        if attempt.fate == "late":
            return self._give_up(attempt, is_abandoned=True)
        _logger.warning(
            "vect '%s', step '%s', attempt %d: it was cancelled, but is still at work", *key
        )
        return None

    def _give_up(self, attempt: Attempt, *, is_abandoned: bool) -> Finished:
        """Return the failure of an attempt by its timeout, before it has answered."""
        attempt.fate = "given up"
        if is_abandoned and attempt.takes_slot and self._replace(attempt):
            attempt.takes_slot = False
            self.busy -= 1
        outcome = attempt.timed_out(is_abandoned=is_abandoned)
        return attempt.failed(outcome, self._clock)

    def _replace(self, attempt: Attempt) -> bool:
        return self._workers_of(attempt).replace()

    def _place_of(self, attempt: Attempt) -> str:
        return self._workers_of(attempt).place

    def _workers_of(self, attempt: Attempt) -> Workers:
        """Return the workers that have an attempt now."""
        is_fetching = attempt.key in self._fetching
        return self._here() if is_fetching else self._workers_for(attempt.execution)

    def has_slot(self, key: Key) -> bool:
        """Whether an attempt has a worker, or needs one for its next poll."""
        attempt = self._attempts.get(key)
        return attempt is not None and attempt.takes_slot

    def is_under_way(self, key: Key) -> bool:
        """Whether an attempt is under way. Any thread."""
        return key in self._attempts

    def is_on_loop(self, key: Key) -> bool:
        """Whether an attempt runs on the event loop of the async steps. Any thread."""
        attempt = self._attempts.get(key)
        return attempt is not None and attempt.execution.is_async and self.may_lend

    def lend(self, loan: Loan) -> None:
        """Lend the slot of a step that waits for a Vect to other steps."""
        if loan.is_lent or loan.is_back:
            return
        attempt = self._attempts.get(loan.key)
        if attempt is None or not attempt.takes_slot or not self._replace(attempt):
            loan.is_back = True
            return
        loan.is_lent = True
        attempt.takes_slot = False
        self.busy -= 1

    def opened(self, key: Key) -> None:
        """Free the slot of an instance of a map whose child has begun, or waits for its turn.

        It had the slot so that no other instance began in place of the steps of that child.
        """
        attempt = self._attempts.get(key)
        if attempt is not None and attempt.state != "waiting" and attempt.takes_slot:
            attempt.takes_slot = False
            self.busy -= 1

    def open_again(self, key: Key) -> None:
        """Take a slot for an attempt whose child an earlier life of the program has not begun."""
        if key not in self._opening:
            self._opening.add(key)
            self.busy += 1

    def take_back(self, loan: Loan, *, at_once: bool) -> None:
        """Queue a step for its own slot, before all others; or let it go on without one."""
        if loan.is_back:
            return
        if at_once:
            if loan in self.returning:
                self.returning.remove(loan)
            self._give_back(loan)
        elif loan not in self.returning:
            self.returning.append(loan)

    def give_back(self) -> None:
        """Give a free slot to the first step that wants its lent slot back."""
        self._give_back(self.returning[0])
        self.returning.popleft()

    def _give_back(self, loan: Loan) -> None:
        attempt = self._attempts.get(loan.key)
        if attempt is not None and attempt.fate != "given up":  # else it needs none any more
            self.busy += not attempt.takes_slot
            attempt.takes_slot = True
        loan.is_back = True

    def is_returning(self, key: Key) -> bool:
        """Whether a step waits for its slot."""
        return any(loan.key == key for loan in self.returning)

    def poll(self, key: Key) -> None:
        """Ask a step whether it is done, unless it has been killed. Takes a slot."""
        attempt = self._attempts.get(key)
        # If it is not waiting, a tick that has asked it was taken back.
        if attempt is not None and attempt.state == "waiting":
            self.busy += attempt.takes_slot
            attempt.next_look = None
            if key[2] > 0:
                self._submit(attempt, "check")
                return
            if attempt.execution.timeout is not None:
                self._set_alarm(attempt, attempt.execution.timeout)
            self._submit(attempt, "run")

    def _submit(self, attempt: Attempt, method: Literal["run", "check"]) -> None:
        attempt.state = "working"
        attempt.method = method
        secrets = attempt.context.secrets
        if secrets is not None and self._must_fetch(attempt.execution, secrets):
            self._fetching.add(attempt.key)
            work: Any = Fetching(attempt.execution, attempt.context, method)
            self._here().submit(work, partial(self._fetched, attempt))
            return
        self._send(attempt)

    def _must_fetch(self, execution: Execution, secrets: Secrets) -> bool:
        """Whether the secrets of a step are fetched before its call: by user code, or to travel.

        User code must not block the event loop, or the thread that packs work for elsewhere.
        """
        if not execution.secrets:
            return False
        workers = self._workers_for(execution)
        if workers.place == "elsewhere":
            return secrets.must_travel
        return secrets.is_asked_for and workers is self._loop

    def _fetched(self, attempt: Attempt, answer: object, failure: BaseException | None) -> None:
        """Note that the secrets of a step were fetched. On the thread that has done so."""
        is_good = type(answer) is Outcome and answer.error is None
        if is_good and not attempt.context.is_unwanted:
            self._put(Fetched(attempt.key))
        else:
            self._answered(attempt, not_begun() if is_good else answer, failure)

    def call_fetched(self, key: Key) -> None:
        """Call a step whose secrets were fetched, unless it was killed."""
        attempt = self._attempts.get(key)
        if key in self._fetching:  # else a tick that has called it was taken back
            self._fetching.discard(key)
            if attempt is not None and not attempt.context.is_unwanted:
                self._send(attempt)
            elif attempt is not None:
                self._answered(attempt, not_begun(), None)

    def _send(self, attempt: Attempt) -> None:
        work: Any = work_of(attempt.execution, attempt.context, attempt.method)
        workers = self._workers_for(attempt.execution)
        if attempt.due is not None and workers.place == "inline":
            work = attempt.watched(work, self._clock)
        workers.submit(work, partial(self._answered, attempt))

    def _workers_for(self, execution: Execution) -> Workers:
        if execution.kind in self.elsewhere:
            return self.elsewhere[execution.kind]
        if execution.is_async and isinstance(self._workers, ThreadWorkers):
            return self._loop_workers()
        if not execution.runs_here or self._workers.place != "elsewhere":
            return self._workers
        return self._here()

    def _here(self) -> Workers:
        """Return the threads for work that stays here, though the workers are elsewhere."""
        if self._workers_here is None:
            self._workers_here = ThreadWorkers(self._workers.slots)
            self._ours.append(self._workers_here)
        return self._workers_here

    def _loop_workers(self) -> Workers:
        if self._loop is None:
            # asyncio takes 30 ms to import, and many programs never ask for it.
            from oautom.workers.loop import LoopWorkers  # noqa: PLC0415

            self._loop = LoopWorkers()
            self._ours.append(self._loop)
        return self._loop

    def _answered(self, attempt: Attempt, answer: object, failure: BaseException | None) -> None:
        """Put the outcome of the work in the inbox, as the log keeps it. On the worker's thread."""
        outcome: Outcome | Exception | None
        try:
            if attempt.context.secrets is None:
                outcome = attempt.outcome(answer, failure, self._log, is_plain=self._is_plain)
            else:
                with no_secrets_in_errors(attempt.context.secrets):
                    outcome = attempt.outcome(answer, failure, self._log, is_plain=self._is_plain)
                attempt.context.end_text()
        except Exception as error:  # the tick that takes it raises it
            outcome = error
        if attempt.state == "working":  # workers that are not ours may answer twice
            attempt.state = "answered"
        if attempt.context.is_captured:  # its event loop was closed: it is not resumed
            CAPTURE.end(attempt.context)
        answered = Answer(attempt.key, outcome)
        if attempt.context.written is None:
            self._put(answered)
        else:  # its text goes with the event that this comes to, and much of it goes before
            self._log.save_text(attempt.key, partial(self._put, answered))
        if self._is_closed:
            if attempt.context.written is not None:
                attempt.context.written.is_over = True  # no tick comes any more
            self.lingering.tell_left(attempt.key)

    def run_next(self) -> None:
        """Do a piece of the work that only the scheduler's thread may do."""
        self._workers.run_next()

    def settle(self, message: Answer) -> Finished | Lost | None:
        """Free the slot of an answer; return it as a command if the attempt is over."""
        outcome = message.outcome
        attempt = self._attempts.get(message.key)
        if outcome is None:
            outcome = None if attempt is None else self._poll_later(attempt)
            if outcome is None:
                return None
        elif type(outcome) is not Outcome:
            raise cast("Exception", outcome)
        if attempt is None:  # workers that are not ours may answer twice
            return finished(message.key, outcome)
        if attempt.fate == "late":
            outcome = attempt.timed_out()
        command: Finished | Lost | None
        if outcome.error is None:
            command = Finished(*attempt.key, outcome.output)
        elif self.is_draining and isinstance(outcome.cause, EngineError):
            command = None  # it was refused something, since all is about to end: it runs again
        elif attempt.fate == "wanted" and (loss := outcome.loss) is not None:
            command = Lost(*attempt.key, outcome.error, loss.is_worker)
        else:
            command = attempt.failed(outcome, self._clock)
        if attempt.state != "waiting" and attempt.takes_slot:
            self.busy -= 1  # only now: what raises before is done once more
        attempt.state = "waiting"
        self._forget(attempt)
        return command

    def _poll_later(self, attempt: Attempt) -> Outcome | None:
        """Poll a step again later that is not done yet; or return the failure that prevents it."""
        if attempt.fate != "wanted":
            return Outcome(error="it was cancelled before it was done")
        if problem := wrong_interval(attempt.execution.poll_interval):  # it has changed since
            return Outcome(error=problem)
        when = self._clock.monotonic() + attempt.execution.poll_interval
        attempt.next_look = self._timers.add(when, Poll(attempt.key))
        if attempt.state != "waiting" and attempt.takes_slot:
            self.busy -= 1
        attempt.state = "waiting"
        return None

    def let_go(self, vect: str) -> None:
        """Cancel the timers of a Vect that has ended: some may be due in a year."""
        assert self._wheel.thread in (None, get_ident()), WRONG_THREAD
        for _, number in self._wakes.pop(vect, _NO_TIMERS).values():
            self._timers.cancel(number)

    def abandon(self, key: Key) -> None:
        """Tell an attempt to stop whose end is in the log already, though it is still at work."""
        if (attempt := self._attempts.get(key)) is not None:
            self._kill(attempt)

    def forget(self, key: Key) -> None:
        """Let go of an attempt that has ended without its answer."""
        if (attempt := self._attempts.get(key)) is not None:
            self._forget(attempt)

    def _forget(self, attempt: Attempt) -> None:
        if attempt.alarm is not None:
            self._timers.cancel(attempt.alarm)
            attempt.alarm = None
        if attempt.next_look is not None:
            self._timers.cancel(attempt.next_look)
            attempt.next_look = None
        step = attempt.run.state.steps[attempt.key[1]]
        if attempt.fate != "wanted":
            self.lingering.remove(attempt.key)
        elif step.state != "running" or step.attempt != attempt.key[2]:
            self.lingering.on_over(*attempt.key[:2])  # it is not wanted since this very tick
        attempt.is_promised = False
        if attempt.context.written is not None:
            attempt.context.written.is_over = True
        self._fetching.discard(attempt.key)
        del self._attempts[attempt.key]  # last: what raises before is done once more

    def _kill(self, attempt: Attempt, fate: Literal["cancelled", "late"] = "cancelled") -> None:
        if attempt.fate != "wanted":
            return
        attempt.fate = fate
        is_promised = attempt.context.mark_cancelled()
        if attempt.state == "waiting":
            self._forget(attempt)  # it waits to be asked again: no answer will come
            # It kept its slot if it was asked until this very tick.
            self._put(Over(*attempt.key[:2]))
            return
        self.lingering.add(attempt.key, self.above(attempt.run))
        if is_promised or (attempt.context.is_listening and self._place_of(attempt) != "inline"):
            attempt.is_promised = True
            self.lingering.promise(attempt.key)
        if attempt.is_promised:
            is_on_loop = attempt.execution.is_async and self.has_loop
            # A coroutine may go on, though it was cancelled, and so may work elsewhere.
            is_sure = is_promised and not is_on_loop and self._place_of(attempt) != "elsewhere"
            if not is_sure:
                seconds = COROUTINE_GRACE_PERIOD if is_on_loop else GRACE_PERIOD
                self._timers.add(self._clock.monotonic() + seconds, GraceOver(attempt.key))
        else:  # it is waited for no longer
            self._put(GraceOver(attempt.key))

    def strand(self, vect: str) -> None:
        """Tell all work of a Vect to stop with which the engine cannot go on.

        Child Vects go on.
        """
        for loan in [loan for loan in self.returning if loan.key[0] == vect]:
            self.returning.remove(loan)
            loan.is_back = True
        self._opening = {key for key in self._opening if key[0] != vect}
        for attempt in [attempt for key, attempt in self._attempts.items() if key[0] == vect]:
            if attempt.execution.kind == "flow" or attempt.state != "working":
                self.lose(attempt.key)
                continue
            try:
                self._kill(attempt)
            except Exception:
                _logger.exception("vect '%s', step '%s', attempt %d cannot be ended", *attempt.key)
                self.lose(attempt.key)

    def lose(self, key: Key) -> None:
        """Let go of an attempt for good, whatever is wrong with it: it calls little."""
        attempt = self._attempts.pop(key, None)
        if attempt is None:
            return
        if attempt.context.written is not None:
            attempt.context.written.is_over = True
        if attempt.execution.kind != "flow":
            attempt.context.mark_cancelled()
        self.count_busy()
        self.lingering.lose(key)

    def interrupt(self, vect: str | None = None) -> None:
        """Interrupt the step that runs, or is about to run, on the scheduler's own thread.

        Any thread. The scheduler itself could do so only when the step is over.

        Args:
            vect: Only if it is a step of the Vect with this id; None for any.
        """
        if self._workers.place == "inline":
            for key, attempt in self._attempts.copy().items():  # in one instruction
                if vect is None or (vect == key[0] and attempt.ends_with_vect):
                    attempt.context.mark_cancelled()

    def kill_all(self) -> None:
        """Tell all work to stop: the engine can take no answer any more.

        Child Vects go on in the next life, and so do the steps that run them.
        """
        for attempt in list(self._attempts.values()):
            if attempt.execution.kind == "flow":
                self._forget(attempt)
            else:
                self._kill(attempt)

    def close(self, holds_of: Callable[[Place], Iterable[Hold]] = _in_none) -> None:
        """End the workers that are ours; functions that ignore cancellation may go on for a while.

        Args:
            holds_of: Returns the slots that a step has; it keeps them meanwhile.
        """
        self._is_closed = True  # first: who answers from now on is looked for among those left
        at_work = (
            (attempt.key, self.above(attempt.run))
            for attempt in self._attempts.values()
            if attempt.state == "working" and attempt.context.has_begun
        )
        self.lingering.leave(at_work, holds_of)
        _close_all([self._workers, *self._ours, *self.elsewhere.values()])
        self._marks.end()

    def context(
        self,
        run: Run,
        execution: Execution,
        step: StepState,
        attempt: int,
        read: Callable[[StepState], View] = committed,
    ) -> Context:
        """Return the context that an attempt of a step gets; `read` is as of `Run.output`."""
        state = run.state
        context = Context(
            state.flow,
            state.id,
            step.name,
            attempt,
            run.params() if state.params else state.params,
            partial(_inputs, run, step, read),
            run.local.buffers,
            execution.log_limit_bytes,
            self._marks.variables,
            None if step.parent is None else partial(run.item, step),
        )
        context.keeper = self._log
        if run.flow.secrets:
            if (known := run.local.secrets) is None:
                known = run.local.secrets = Known()
            context.secrets = Secrets(state.flow, known, self.secrets)
        return context


def _waiting(state: VectState) -> Iterator[tuple[str, int, datetime]]:
    """Yield each wait for a time: the name of the step, its attempt, and until when."""
    for step in state.steps.values():
        if step.until is not None and step.state in ("up_for_retry", "running"):
            yield step.name, step.attempt, step.until
    if state.to_compensate:
        name = state.to_compensate[-1]
        one = state.steps[name].compensation
        if one is not None and one.until is not None:
            yield name, -one.attempt, one.until


def _close_all(ours: Iterable[Workers]) -> None:
    for workers in ours:
        workers.close()


def _inputs(run: Run, step: StepState, read: Callable[[StepState], View]) -> dict[str, Any]:
    steps = step.vect.steps
    names = step.vect.graph.upstreams[step.declared]
    good = (steps[name] for name in names if read(steps[name])[0] == "success")
    return {each.name: run.output(each, read, is_opened=False) for each in good}


def _none_above(run: Run) -> Sequence[Place]:
    """Return no step: no step runs the Vect as its child."""
    return ()
