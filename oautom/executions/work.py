"""One call of a step, and its outcome: what an executor runs, in this process or in another.

`Work` may be handed to any `concurrent.futures.Executor`. One that pickles it sends a parcel of
bytes instead, opened only where errors can be told: nothing that a step is made of or returns can
break the executor's own machinery.
"""

from __future__ import annotations

import inspect
import pickle
import traceback
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal, TypeVar, cast

from oautom.executions.base import Execution
from oautom.executions.context import Context

T = TypeVar("T")
NO_DETAILS: Mapping[str, Any] = {}


class StepError(Exception):
    """A step reports its own failure: `str(error)` is the message, `details` go to the event.

    Attributes:
        details: More about it: `exit_code`, `signal`.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class Skip(Exception):  # noqa: N818 - it is no error
    """Raise it in a step to have the step skipped: `raise Skip('there is nothing to do')`."""


class Outcome:
    """How one call of a step went.

    Attributes:
        output: What it returned.
        error: What went wrong, in one line, or None.
        is_skip: Nothing went wrong: the step skips itself, and `error` is why.
        details: More about the error.
        cause: The exception itself, where it is in this process.
        is_retriable: Whether the retry policy of the step covers it; None if nobody has asked.
        log: What the step logged, where it could not be seen here.
    """

    __slots__ = ("cause", "details", "error", "is_retriable", "is_skip", "log", "output")

    def __init__(
        self,
        output: Any = None,
        error: str | None = None,
        details: Mapping[str, Any] = NO_DETAILS,
        cause: BaseException | None = None,
        is_skip: bool = False,
        is_retriable: bool | None = None,
    ) -> None:
        self.output = output
        self.error = error
        self.details = details
        self.cause = cause
        self.log = b""
        self.is_skip = is_skip
        self.is_retriable = is_retriable

    @classmethod
    def failure(cls, cause: BaseException) -> Outcome:
        """Return the outcome of a call that raised `cause`, whatever that is."""
        if issubclass(type(cause), Skip):
            return cls(error=_message(cause) or "the step skipped itself", is_skip=True)
        if issubclass(type(cause), StepError):  # isinstance() may ask the exception itself
            return cls(error=str(cause), details=cast("StepError", cause).details, cause=cause)
        details = {"error_type": type(cause).__name__, "traceback": _traceback(cause)}
        return cls(error=_in_one_line(cause), details=details, cause=cause)


def _in_one_line(error: BaseException) -> str:
    """Return type and message of an exception, even of one that cannot be printed."""
    kind, message = type(error).__name__, _message(error)
    return f"{kind}: {message}" if message else kind


def _message(error: BaseException) -> str:
    try:
        message = str(error)
    except BaseException as unprintable:  # __str__ is the user's, it may do anything
        return f"(its message cannot be printed: {type(unprintable).__name__})"
    return " ".join(message.splitlines())


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # __str__ is the user's, it may do anything
        return "(its traceback cannot be printed)\n"


class Work:
    """One call of `run` or `check` of a step. Never raises: what went wrong is in the outcome."""

    __slots__ = ("context", "execution", "method")

    def __init__(
        self, execution: Execution, context: Context, method: Literal["run", "check"] = "run"
    ) -> None:
        self.execution = execution
        self.context = context
        self.method = method

    def __call__(self) -> Outcome:
        """Make the call, unless it is not wanted any more."""
        if self.context.is_unwanted:
            return Outcome(error="the step was cancelled before it began")
        self.context.has_begun = True
        try:
            output = getattr(self.execution, self.method)(self.context)
            if inspect.iscoroutine(output):
                output = _to_its_end(output)
            if self.method == "check":
                output = bool(output)
        except BaseException as error:  # whatever a step raises fails that step only
            outcome = Outcome.failure(error)
            if (policy := self.execution.retry) is not None:  # here: the error may not travel
                outcome.is_retriable = policy.covers(error)
            return outcome
        return Outcome(output)

    def on_cancel(self, stopper: Callable[[], None]) -> bool:
        """Have `stopper` called when this call is not wanted any more; False if that is so now."""
        return self.context.on_cancel_of_call(stopper)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as a parcel, so that what cannot be unpacked fails this step only."""
        try:
            content = pickle.dumps((self.execution, self.context, self.method))
        except BaseException as error:  # pickling runs the user's code
            raise StepError(
                f"the step cannot be sent to another process: {_in_one_line(error)}; give it "
                "functions of a module, and values that pickle can send"
            ) from error
        return _Parcel, (content, self.context.environment)


def _to_its_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on an event loop of its own; where this thread has one, on another thread."""
    import asyncio  # noqa: PLC0415 - takes a third of the time of `import oautom`
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - seldom needed

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


class _Parcel:
    """A `Work` in another process: bytes in, bytes out.

    Attributes:
        environment: The variables that tell a process which attempt it works for.
    """

    def __init__(self, content: bytes, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._content = content
        self._context: Context | None = None

    def cancel(self) -> bool:
        """Tell the step that it is not wanted any more; False if it does not listen."""
        if self._context is None or not self._context.is_listening:
            return False
        self._context.mark_cancelled()
        return True

    def __call__(self) -> bytes:
        try:
            execution, context, method = pickle.loads(self._content)  # noqa: S301 - packed by ourselves
        except BaseException as error:  # unpacking runs the user's code
            return _pack(Outcome.failure(error))
        self._context = context
        outcome = Work(execution, context, method)()
        outcome.log = context.buffer.text().encode()
        return _pack(outcome)


def _pack(outcome: Outcome) -> bytes:
    cause: object = outcome.cause
    try:
        pickle.loads(pickle.dumps(cause))  # noqa: S301 - our own bytes; some exceptions only fail here
    except BaseException:  # pickling runs the user's code
        cause = None
    try:
        told = (outcome.output, outcome.error, outcome.details, cause, outcome.is_skip)
        return pickle.dumps((*told, outcome.is_retriable, outcome.log))
    except BaseException as error:  # pickling runs the user's code
        failed = Outcome.failure(error)
        message = f"the output cannot be sent to the main process: {failed.error}"
        return pickle.dumps((None, message, failed.details, None, False, False, outcome.log))


def unpack(answer: object, failure: BaseException | None = None) -> Outcome:
    """Return the outcome that an executor has answered, from this process or another.

    Args:
        answer: What the work has returned.
        failure: Why the executor could not do it, or None.
    """
    if failure is not None:
        return Outcome.failure(failure)
    if isinstance(answer, Outcome):
        return answer
    try:
        *told, log = pickle.loads(cast("bytes", answer))  # noqa: S301 - packed by our own worker
    except BaseException as error:  # unpacking runs the user's code
        return Outcome.failure(error)
    outcome = Outcome(*told)
    outcome.log = log
    return outcome
