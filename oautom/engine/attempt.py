"""`Attempt`: one attempt of a step that is under way, and the meaning of its answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Literal, cast

from oautom.engine.clock import Clock
from oautom.events.log import EventLog
from oautom.events.texts import NO_TEXT
from oautom.machine.commands import Finished, Key
from oautom.steps.context import Context
from oautom.steps.execution import Execution
from oautom.steps.secrets import Secrets
from oautom.steps.work import Outcome, StepError, Work, unpack, without_secrets
from oautom.values.annotations import UNKNOWN
from oautom.values.text import without_frames
from oautom.vects.run import Failure, Run, kept
from oautom.workers.remote import Handle, KeptAnswer, Remote

_JOIN_SECONDS = 1.0

_DEAF = "does not listen to context.cancelled"

_logger = logging.getLogger("oautom.runner")


class Attempt:
    """An attempt that is under way. Used on the scheduler's thread, except `outcome`.

    Attributes:
        state: `waiting`, no worker has it: it is about to be submitted, or waits for its next poll;
            `working`, a worker has it; `answered`, a worker has finished with it, and the scheduler
            has not taken the answer yet.
        method: The method that the workers call, or called last.
        fate: `wanted`; `cancelled`, it was asked to stop, and its answer does not matter; `late`,
            it was asked to stop after its timeout, and fails when it answers; `given up`, it has
            failed by its timeout, and its answer does not matter.
        is_promised: It was asked to stop, and is sure to end.
        takes_slot: It takes a slot while a worker has it. An async step takes none, nor does one
            whose worker was replaced, or that has lent its slot. An instance of a map that runs a
            flow takes one until its child begins.
        due: The time of its timeout, by the monotonic clock, if it has one.
        alarm: The timer of its timeout.
        next_look: The timer of its next poll.
    """

    __slots__ = (
        "alarm",
        "context",
        "due",
        "execution",
        "fate",
        "is_promised",
        "key",
        "method",
        "next_look",
        "run",
        "state",
        "takes_slot",
    )

    def __init__(
        self, key: Key, run: Run, execution: Execution, context: Context, *, is_instance: bool
    ) -> None:
        self.key = key
        self.run = run
        self.execution = execution
        self.context = context
        self.state: Literal["waiting", "working", "answered"] = "waiting"
        self.method: Literal["run", "check"] = "run"
        self.fate: Literal["wanted", "cancelled", "late", "given up"] = "wanted"
        self.is_promised = False
        is_opening = is_instance and execution.kind == "flow"
        self.takes_slot = key[2] < 0 or is_opening or run.state.steps[key[1]].needs_worker
        self.due: float | None = None
        self.alarm: int | None = None
        self.next_look: int | None = None

    @property
    def ends_with_vect(self) -> bool:
        """Whether a cancel of the Vect in its present state ends the attempt. Any thread."""
        if self.key[2] < 0:
            return False
        state = self.run.state
        return state.state == "ending" or not state.steps[self.key[1]].is_teardown

    def outcome(
        self, answer: object, failure: BaseException | None, log: EventLog, *, is_plain: bool
    ) -> Outcome | None:
        """Return the outcome of a worker's answer, as the log keeps it. On the worker's thread.

        Args:
            answer: The return value of the work.
            failure: Why the executor could not do it, or None.
            log: The log.
            is_plain: Whether the log stores values as JSON.

        Returns:
            None if the step is polled, and not done yet.
        """
        outcome = answer if type(answer) is Outcome else unpack(answer, failure)
        if outcome.log is not NO_TEXT and outcome.log.content:
            missing_bytes, content = outcome.log
            self.context.buffer.write(content, missing_bytes)
        if self.key[2] < 0 and outcome.error is None:
            return Outcome()  # a compensation has no output
        if self.execution.is_polled and outcome.error is None:
            if self.method == "run":
                self.context.output = outcome.output
                return None
            if outcome.output is not True:
                return None
            outcome = Outcome(self.context.output)
        elif outcome.output is None and outcome.error is None and not is_plain:
            return outcome
        elif type(outcome.output) is Handle and type(outcome.live) is KeptAnswer:
            return self._kept_remote(outcome, outcome.output, outcome.live)
        kind = UNKNOWN
        if is_plain and outcome.error is None:
            execution: Any = self.execution
            is_item = execution.kind == "map"  # the map itself has no attempts
            kind = execution.instance_type if is_item else execution.output_type
        secrets = self.context.secrets
        outcome = kept(outcome, kind, log)
        outcome = outcome if secrets is None else self._without_secrets(outcome, secrets)
        if outcome.error is None:
            self.run.hand_on(self.key[1], self.key[2], outcome.live)
        return outcome

    def _kept_remote(self, outcome: Outcome, handle: Handle, answer: KeptAnswer) -> Outcome:
        """Return the outcome with a handle as its output, which has stayed in the cluster."""
        run, step = self.run, self.key[1]
        remote = Remote((run.flow.name, run.id, step), handle.key, answer.value, answer.take)
        run.keep_remote(step, self.key[2], remote)
        outcome.output = outcome.live = handle.told
        return outcome

    def _without_secrets(self, outcome: Outcome, secrets: Secrets) -> Outcome:
        """Return an outcome without its exception, having asked the retry policy about that."""
        policy = self.execution.retry
        if policy is not None and outcome.cause is not None and outcome.is_retriable is None:
            outcome.is_retriable = policy.covers(outcome.cause)
        return without_secrets(outcome, secrets)

    def failed(self, outcome: Outcome, clock: Clock) -> Finished:
        """Return a failure as a command, after deciding whether the step is tried again."""
        if self.fate == "cancelled":
            return finished(self.key, outcome)
        if outcome.cause is not None and self.key[2] > 0:
            trace = str(outcome.facts.get("traceback", ""))
            failure = Failure(without_frames(outcome.cause), trace)
            self.run.local.failures[self.key[1]] = failure
        return finished(self.key, outcome, self._retry_after(outcome, clock))

    def _retry_after(self, outcome: Outcome, clock: Clock) -> float | None:
        """Return the seconds until the step is tried again, or None if it is not."""
        policy = self.execution.retry
        if policy is None or outcome.is_skip:
            return None
        is_covered = outcome.is_retriable
        if is_covered is None:
            is_covered = outcome.cause is None or policy.covers(outcome.cause)
        step = self.run.state.steps[self.key[1]]
        of = step.compensation if self.key[2] < 0 else step
        failures = 1 + (of.failures if of is not None else 0)
        return policy.decide(failures, clock.chance(), is_covered=is_covered)

    def timed_out(self, *, is_abandoned: bool = False) -> Outcome:
        """Return the failure of an attempt that has taken too long."""
        seconds = self.execution.timeout
        error = f"it took longer than its timeout of {seconds:g} seconds"
        facts: dict[str, Any] = {"timeout": seconds}
        if is_abandoned:
            how = "did not end when it was cancelled" if self.execution.is_async else _DEAF
            error += f"; it {how}, and what it does was abandoned"
            facts["abandoned"] = True
            _logger.warning("vect '%s', step '%s', attempt %d: %s", *self.key, error)
        return Outcome(error=error, facts=facts, cause=TimeoutError(error))

    def watched(self, work: Work, clock: Clock) -> Callable[[], object]:
        """Return inline work that another thread cancels at its timeout.

        The work occupies the thread that would notice the timeout. So a timer thread watches it,
        from the beginning of the call to its end.
        """

        def call() -> object:
            seconds = max(0.0, cast("float", self.due) - clock.monotonic())
            watch = threading.Timer(seconds, self._interrupt_late, (clock,))
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
                watch.join(_JOIN_SECONDS)  # it may be calling the handlers of the step

        return call

    def _interrupt_late(self, clock: Clock) -> None:
        if self.due is not None and clock.monotonic() >= self.due:
            self.context.mark_cancelled()


def finished(key: Key, outcome: Outcome, retry_after: float | None = None) -> Finished:
    """Return the outcome of an attempt as a command."""
    error, told = outcome.error, outcome.told
    return Finished(*key, outcome.output, error, told, outcome.is_skip, retry_after)
