"""One call of a step, and its outcome: what an executor runs, in this process or in another.

`Work` may be handed to any `concurrent.futures.Executor`. One that pickles it sends a parcel of
bytes instead, opened only where errors can be told: nothing that a step is made of or returns can
break the executor's own machinery.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from struct import Struct
from types import CoroutineType, MappingProxyType
from typing import Any, Final, Literal, cast

from oautom.events.texts import NO_TEXT, LogBuffer, Text
from oautom.machine.commands import Key
from oautom.processes import forked
from oautom.steps.capture import CAPTURE
from oautom.steps.context import CALLED, Context
from oautom.steps.execution import Execution
from oautom.values.text import details_of, error_of, message_of, name_of, traceback_of
from oautom.workers.kept_loop import run_to_its_end

NO_DETAILS: Mapping[str, Any] = MappingProxyType({})
POST_SECONDS: Final = 0.1
"""Seconds between two letters with the text of a step, from its worker process."""

_NOT_BEGUN: Final = "the step was cancelled before it began"


class StepError(Exception):
    """A step reports its own failure: `str(error)` is the message, `details` go to the event.

    There they stand under `details`, whatever they are called: nothing that the engine tells, or
    goes by, is mixed with them.

    Attributes:
        details: More about it; of a command its `exit_code` or `signal`.
    """

    details: Mapping[str, Any] = NO_DETAILS  # of a subclass whose `__init__` does not call this one

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class FactError(StepError):
    """The engine itself tells a failure of a step: its `details` are words of the event's own."""


class Skip(Exception):  # noqa: N818 - it is no error
    """Raise it in a step to have the step skipped: `raise Skip('there is nothing to do')`."""


class Outcome:
    """How one call of a step went.

    Attributes:
        output: What it returned.
        live: Where the log is in memory, the very object that it returned: `output` is then a copy
            of the engine's own.
        error: What went wrong, in one line, or None.
        is_skip: Nothing went wrong: the step skips itself, and `error` is why.
        facts: What the engine knows of the error, in the event's own words: `exit_code`, `signal`,
            `error_type`, `traceback`, `timeout`, `abandoned`, `lost`.
        details: What the step says of it, in words of its own.
        cause: The exception itself, where it is in this process.
        is_retriable: Whether the retry policy of the step covers it; None if nobody has asked.
        log: What the step wrote, where it could not be seen here.
    """

    __slots__ = (
        "cause",
        "details",
        "error",
        "facts",
        "is_retriable",
        "is_skip",
        "live",
        "log",
        "output",
    )

    def __init__(
        self,
        output: Any = None,
        error: str | None = None,
        facts: Mapping[str, Any] = NO_DETAILS,
        details: Mapping[str, Any] = NO_DETAILS,
        cause: BaseException | None = None,
        is_skip: bool = False,
        is_retriable: bool | None = None,
    ) -> None:
        self.output = self.live = output
        self.error = error
        self.facts = facts
        self.details = details
        self.cause = cause
        self.log = NO_TEXT
        self.is_skip = is_skip
        self.is_retriable = is_retriable

    @property
    def told(self) -> Mapping[str, Any]:
        """What the event of a failure tells besides the error: the details under a key of theirs.

        There is one owner of all other keys, the engine.
        """
        return {**self.facts, "details": self.details} if self.details else self.facts

    @classmethod
    def failure(cls, cause: BaseException) -> Outcome:
        """Return the outcome of a call that raised `cause`, whatever that is. Never raises."""
        try:
            return cls._failure(cause)
        except BaseException as error:  # the memory is full, or somebody has pressed Ctrl-C
            return cls(
                error=f"{name_of(type(cause))} (to tell more of it raises {error_of(error)})"
            )

    @classmethod
    def _failure(cls, cause: BaseException) -> Outcome:
        kind = type(cause)  # isinstance() may ask the exception itself
        if issubclass(kind, Skip):
            return cls(error=message_of(cause) or "the step skipped itself", is_skip=True)
        if issubclass(kind, StepError):
            error = message_of(cause) or name_of(kind)
            details = details_of(_given_details(cause))
            if kind is FactError:
                return cls(error=error, facts=details, cause=cause)
            return cls(error=error, details=details, cause=cause)
        facts = {"error_type": name_of(kind), "traceback": traceback_of(cause)}
        return cls(error=error_of(cause), facts=facts, cause=cause)


def _given_details(error: BaseException) -> object:
    try:
        return cast("StepError", error).details
    except BaseException as refusal:  # a property of the user's may do anything
        return {"details": f"(to ask for them raises {name_of(type(refusal))})"}


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
        context, execution, process = self.context, self.execution, forked.here
        token, is_captured = CALLED.set(context), execution.capture
        if is_captured:
            CAPTURE.begin(context)
        try:
            if context.is_unwanted:
                return Outcome(error=_NOT_BEGUN)
            context.has_begun = True
            call = execution.run if self.method == "run" else getattr(execution, self.method)
            output = call(context)
            if isinstance(output, CoroutineType):
                output = self._to_its_end(output)
            if self.method == "check":
                output = bool(output)
        except BaseException as error:  # whatever a step raises fails that step only
            if not process.is_here:
                forked.end(error)
            return self._failure(error)
        finally:
            if is_captured:
                CAPTURE.end(context)
            CALLED.reset(token)
        if not process.is_here:
            forked.end()
        return Outcome(output)

    async def awaited(self) -> Outcome:
        """Make the call as a task of an event loop, in a context of its own."""
        process, is_captured = forked.here, self.execution.capture
        CALLED.set(self.context)
        if is_captured:
            CAPTURE.begin(self.context)
        try:
            if self.context.is_unwanted:
                return Outcome(error=_NOT_BEGUN)
            self.context.has_begun = True
            output = getattr(self.execution, self.method)(self.context)
            if isinstance(output, CoroutineType):
                output = await output
            if self.method == "check":
                output = bool(output)
        except BaseException as error:  # whatever a step raises fails that step only
            if not process.is_here:
                forked.end(error)
            return self._failure(self._seen_through(error))
        finally:
            if is_captured:
                CAPTURE.end(self.context)
        if not process.is_here:
            forked.end()
        return Outcome(output)

    def _to_its_end(self, coroutine: Coroutine[Any, Any, object]) -> object:
        try:
            return run_to_its_end(_in_its_process(coroutine), self.on_cancel)
        except BaseException as error:  # CancelledError is no Exception
            if (meant := self._seen_through(error)) is not error:
                raise meant from error
            raise

    def _seen_through(self, error: BaseException) -> BaseException:
        """Return what is meant by what a coroutine has raised: a cancel is ours, or an accident."""
        from asyncio import CancelledError  # noqa: PLC0415 - slow to import, see `kept_loop`

        if not issubclass(type(error), CancelledError):  # isinstance() may ask the error itself
            return error
        if self.context.is_unwanted:
            return StepError("it was cancelled")
        return FactError(
            "it raised asyncio.CancelledError, but nobody has cancelled it; something that it "
            "awaited was cancelled: catch that where it is awaited",
            error_type="CancelledError",
            traceback=traceback_of(error),
        )

    def _failure(self, error: BaseException) -> Outcome:
        outcome = Outcome.failure(error)
        outcome.is_retriable = self._is_retriable(error)  # here: the error may not travel
        return outcome

    def _is_retriable(self, error: BaseException) -> bool | None:
        try:
            return None if (policy := self.execution.retry) is None else policy.covers(error)
        except BaseException:  # the attributes of a step are the user's, they may do anything
            return False

    @property
    def told(self) -> str:
        """Which attempt of which step it is, for people."""
        context = self.context
        return f"vect '{context.vect_id}', step '{context.step}', attempt {context.attempt}"

    @property
    def marks(self) -> Mapping[str, str]:
        """The variables by which a recovery finds the processes that do it."""
        return self.context.marks

    def on_cancel(self, stopper: Callable[[], None]) -> bool:
        """Have `stopper` called when this call is not wanted any more; False if that is so now."""
        return self.context.on_cancel_of_call(stopper)

    def hear(self, letter: bytes) -> None:
        """Add a piece of text that the step has written in another process."""
        size = _PLACE.size
        (missing_bytes,) = _PLACE.unpack(letter[:size])
        self.context.buffer.write(letter[size:], missing_bytes)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as a parcel, so that what cannot be unpacked fails this step only."""
        try:
            content = pickle.dumps((self.execution, self.context, self.method))
        except BaseException as error:  # pickling runs the user's code
            raise StepError(
                f"the step cannot be sent to another process: {error_of(error)}; give it "
                "functions of a module, and values that pickle can send"
            ) from error
        return _Parcel, (content, self.context.environment)


_PLACE: Final = Struct(">Q")


class Post:
    """Sends the text of a step to another process while the step runs.

    Args:
        send: Sends a letter to `Work.hear`; None if nobody receives letters.
    """

    def __init__(self, send: Callable[[bytes], None] | None) -> None:
        self._send = send
        self._sent_bytes = 0
        self._buffer: LogBuffer | None = None
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    def keep_text(self, key: Key, buffer: LogBuffer) -> bool:
        """Send from now on what is written to a buffer."""
        self._buffer = buffer
        if self._send is not None:
            with suppress(RuntimeError):  # the system gives no thread: it comes with the answer
                threading.Thread(target=self._serve, name="oautom-post", daemon=True).start()
        return True

    def _serve(self) -> None:
        while not self._is_over.wait(POST_SECONDS):
            with self._lock:
                missing_bytes, content = self._unsent()
                if content and self._send is not None:
                    try:
                        self._send(_PLACE.pack(missing_bytes) + content)
                    except OSError:  # nobody is there any more
                        return

    def _unsent(self) -> Text:
        if self._buffer is None:
            return NO_TEXT
        start, content = self._buffer.since(self._sent_bytes, self._buffer.limit_bytes)
        missing_bytes, self._sent_bytes = start - self._sent_bytes, start + len(content)
        return Text(missing_bytes, content)

    def rest(self) -> Text:
        """Return the part that was not sent, and send no more."""
        self._is_over.set()
        with self._lock:
            return self._unsent()


async def _in_its_process(coroutine: Coroutine[Any, Any, object]) -> object:
    """Await a coroutine; a child that it forks ends here, and not on the loop of its parent."""
    process = forked.here
    try:
        output = await coroutine
    except BaseException as error:
        if not process.is_here:
            forked.end(error)
        raise
    if not process.is_here:
        forked.end()
    return output


_UNGUARDED: Final = (
    "a worker process does not find what the step is made of, since it imports the program without "
    "what stands under `if __name__ == '__main__':`; define functions and classes above that"
)


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

    def __call__(self, send: Callable[[bytes], None] | None = None) -> bytes:
        """Do it.

        Args:
            send: Sends a letter to `Work.hear` while it works. Default: the whole text comes
                with the answer.
        """
        try:
            execution, context, method = pickle.loads(self._content)  # noqa: S301 - packed by ourselves
        except BaseException as error:  # unpacking runs the user's code
            outcome = Outcome.failure(error)
            if issubclass(type(error), AttributeError) and "__mp_main__" in str(outcome.error):
                outcome.error = f"{_UNGUARDED} ({outcome.error})"
            return _pack(outcome)
        self._context = context
        post = context.keeper = Post(send)
        outcome = Work(execution, context, method)()
        outcome.log = post.rest()
        return _pack(outcome)


def _pack(outcome: Outcome) -> bytes:
    cause: object = outcome.cause
    log = tuple(outcome.log)
    try:
        pickle.loads(pickle.dumps(cause))  # noqa: S301 - our own bytes; some exceptions only fail here
    except BaseException:  # pickling runs the user's code
        cause = None
    try:
        more = dict(outcome.facts), dict(outcome.details), cause, outcome.is_skip
        told = (outcome.output, outcome.error, *more, outcome.is_retriable, log)
        return pickle.dumps(told)
    except BaseException as error:  # pickling runs the user's code
        failed = Outcome.failure(error)
        message = f"the output cannot be sent to the main process: {failed.error}"
        return pickle.dumps((None, message, failed.facts, {}, None, False, False, log))


def _lost(failure: BaseException) -> Outcome:
    """Return the outcome of work that has given no answer: it may be done, or half done."""
    outcome = Outcome.failure(failure)
    if not issubclass(type(failure), StepError):  # else it was not even begun
        outcome.facts = {**outcome.facts, "lost": True}
    return outcome


def unpack(answer: object, failure: BaseException | None = None) -> Outcome:
    """Return the outcome that an executor has answered, from this process or another.

    Args:
        answer: What the work has returned.
        failure: Why the executor could not do it, or None.
    """
    if failure is not None:
        return _lost(failure)
    if type(answer) is Outcome:  # isinstance() is one call more for each step
        return answer
    try:
        *told, log = pickle.loads(cast("bytes", answer))  # noqa: S301 - packed by our own worker
        outcome = Outcome(*told)
        outcome.log = Text(*log)
    except BaseException as error:  # unpacking runs the user's code
        return Outcome.failure(error)
    return outcome
