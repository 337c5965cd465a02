"""One call of a step, and its outcome: the job of an executor, in this process or in another.

`Work` may be given to any `concurrent.futures.Executor`. One that pickles it sends a parcel of
bytes instead, which is opened only where errors can be reported: so no part of a step, and no
output, can break the executor's own machinery.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import cache
from struct import Struct
from types import CoroutineType, MappingProxyType, ModuleType
from typing import Any, Final, Literal, cast

from oautom.errors import EngineError, LostOutputError
from oautom.events.texts import NO_TEXT, LogBuffer, Text
from oautom.machine.commands import Key
from oautom.processes import forked
from oautom.steps.capture import CAPTURE
from oautom.steps.context import BY_VALUE, CALLED, Context
from oautom.steps.execution import Execution
from oautom.steps.secrets import (
    NotFoundError,
    Secrets,
    no_secrets_in_errors,
    why_not_found,
)
from oautom.values.json import plain_seconds
from oautom.values.text import details_of, error_of, message_of, name_of, traceback_of
from oautom.workers.base import NotBegunError, WorkLostError
from oautom.workers.kept_loop import run_to_its_end
from oautom.workers.remote import SHELF, Handle, KeptAnswer, Shelf

LOST: Final[Mapping[str, Any]] = MappingProxyType({"lost": True})
NO_DETAILS: Mapping[str, Any] = MappingProxyType({})
POST_SECONDS: Final = 0.1
"""Seconds between two letters with the text of a step, from its worker process."""


class StepError(Exception):
    """A failure that a step reports itself: `str(error)` is the message, `details` go to the event.

    In the event they stand under `details`, whatever their names are: they do not mix with the keys
    of the engine.

    Attributes:
        details: Facts about the failure; for a command its `exit_code` or `signal`.
    """

    details: Mapping[str, Any] = NO_DETAILS  # for subclasses that do not call `__init__`

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class FactError(StepError):
    """A failure that the engine itself reports: its `details` are keys of the event itself."""


class SecretError(StepError):
    """A failure to get a secret.

    Attributes:
        origin: What the callable of the app has raised; None if there is no value, or none that can
            be kept secret, where a retry would not help.
    """

    def __init__(self, message: str, origin: BaseException | None = None) -> None:
        super().__init__(message)
        self.origin = origin


class Skip(Exception):  # noqa: N818 - it is no error
    """An exception that skips the step which raises it: `raise Skip('there is nothing to do')`."""


class Outcome:
    """The outcome of one call of a step.

    Attributes:
        output: Its return value.
        live: With a log in memory, the very object that it returned: `output` is then a copy of the
            engine's own.
        error: What went wrong, in one line, or None.
        is_skip: The step skips itself: nothing went wrong, and `error` is the reason.
        facts: What the engine knows of the error, as keys of the event: `exit_code`, `signal`,
            `error_type`, `traceback`, `timeout`, `abandoned`, `lost`.
        details: What the step reports of the error, with keys of its own.
        cause: The exception itself, if it is in this process.
        is_retriable: Whether the retry policy of the step covers it; None if that is not known yet.
        log: The text that the step wrote, if it ran in another process.
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
    def loss(self) -> WorkLostError | None:
        """What was lost, if the work may have begun and no answer of it will come; else None."""
        cause = self.cause
        if "lost" in self.facts and issubclass(type(cause), WorkLostError):
            return cast("WorkLostError", cause)
        return None

    @property
    def told(self) -> Mapping[str, Any]:
        """The data of the event of a failure besides the error; details have a key of their own.

        All other keys have one owner, the engine.
        """
        return {**self.facts, "details": self.details} if self.details else self.facts

    @classmethod
    def failure(cls, cause: BaseException) -> Outcome:
        """Return the outcome of a call that has raised `cause`, of any class. Never raises."""
        try:
            return cls._failure(cause)
        except BaseException as error:  # out of memory, or Ctrl-C
            return cls(
                error=f"{name_of(type(cause))} (to tell more of it raises {error_of(error)})"
            )

    @classmethod
    def _failure(cls, cause: BaseException) -> Outcome:
        kind = type(cause)  # isinstance() may run code of the exception
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
    except BaseException as refusal:  # a property of the user may raise anything
        return {"details": f"(to ask for them raises {name_of(type(refusal))})"}


def not_begun() -> Outcome:
    """Return the outcome of a call that was cancelled before it began."""
    return Outcome(error="the step was cancelled before it began")


class Work:
    """One call of `run` or `check` of a step. Never raises: an error is part of the outcome."""

    __slots__ = ("context", "execution", "method")

    def __init__(
        self, execution: Execution, context: Context, method: Literal["run", "check"] = "run"
    ) -> None:
        self.execution = execution
        self.context = context
        self.method = method

    def __call__(self) -> Outcome:
        """Make the call, unless it is cancelled."""
        context, execution, process = self.context, self.execution, forked.here
        token, is_captured = CALLED.set(context), execution.capture
        if is_captured:
            CAPTURE.begin(context)
        try:
            if context.is_unwanted:
                return not_begun()
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
                return not_begun()
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
        """Return the meaning of a coroutine's exception: a cancel may be ours, or an accident."""
        from asyncio import CancelledError  # noqa: PLC0415 - slow to import, see `kept_loop`

        if not issubclass(type(error), CancelledError):  # isinstance() may run code of it
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
            if issubclass(type(error), LostOutputError):  # it does not come back
                return False
            return None if (policy := self.execution.retry) is None else policy.covers(error)
        except BaseException:  # attributes of the user may raise anything
            return False

    @property
    def told(self) -> str:
        """The attempt and its step, for people."""
        context = self.context
        return f"vect '{context.vect_id}', step '{context.step}', attempt {context.attempt}"

    @property
    def marks(self) -> Mapping[str, str]:
        """The variables by which a recovery finds the processes that do the work."""
        return self.context.marks

    @property
    def grace_period(self) -> float:
        """Seconds that a command has between SIGTERM and SIGKILL; 0 for any other work."""
        return plain_seconds(getattr(self.execution, "grace_period", None)) or 0.0

    @property
    def name(self) -> str:
        """The log, the attempt, and the call of it; `told_by_name` reads it."""
        context = self.context
        place = (context.vect_id, context.step, str(context.number), self.method)
        parts = (context.log_id or "", context.flow, *place)
        return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)

    @property
    def submit(self) -> Mapping[str, Any]:
        """What the executor is told with the work."""
        return self.execution.submit

    @property
    def keeps_output(self) -> bool:
        """Whether the output stays where the work is done, if the executor can keep it."""
        return self.execution.keep_remote and self.context.number > 0

    def on_cancel(self, stopper: Callable[[], object]) -> bool:
        """Call `stopper` when this call is cancelled; return False if it is cancelled already."""
        return self.context.on_cancel_of_call(stopper)

    def hear(self, letter: bytes) -> None:
        """Add a piece of text that the step has written in another process."""
        size = _PLACE.size
        (missing_bytes,) = _PLACE.unpack(letter[:size])
        self.context.buffer.write(letter[size:], missing_bytes)

    @property
    def for_child(self) -> Callable[[], object]:
        """The same work, to be sent to a process that imports the main module of this program."""
        return _ForChild(self)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as a parcel, so that an error of unpickling fails this step only."""
        return self.packed(is_for_child=False)

    def packed(self, *, is_for_child: bool) -> tuple[object, ...]:
        """Return the parcel as `__reduce__` does.

        Functions of the script, lambdas and the like travel by value, by `cloudpickle`. To a child,
        which has them too, they travel by name where they have one.

        Args:
            is_for_child: Whether the process imports the main module of this program.

        Raises:
            StepError: The work cannot be sent.
        """
        parts = (self.execution, self.context, self.method)
        by_value = _cloudpickle()
        try:
            if by_value is None:
                content = pickle.dumps(parts)
            elif is_for_child and (by_name := _by_name(parts)) is not None:
                content, by_value = by_name, None
            else:
                content = _by_value(by_value, parts)
        except BaseException as error:  # pickling runs the user's code
            more = "" if by_value is not None else "; or install cloudpickle, which can send more"
            raise StepError(
                f"the step cannot be sent to another process: {error_of(error)}; give it "
                f"functions of a module, and values that pickle can send{more}"
            ) from error
        return _Parcel, (versions(), self.context.environment, by_value is not None, content)


class GuardedWork(Work):
    """One call of a step in a flow with secrets: none of them is in its outcome or its text."""

    __slots__ = ()

    @property
    def _secrets(self) -> Secrets:
        return cast("Secrets", self.context.secrets)

    def __call__(self) -> Outcome:
        """Make the call, unless it is cancelled."""
        with no_secrets_in_errors(self._secrets):
            outcome = super().__call__()
            self.context.end_text()
            return without_secrets(outcome, self._secrets)

    async def awaited(self) -> Outcome:
        """Make the call as a task of an event loop, in a context of its own."""
        with no_secrets_in_errors(self._secrets):
            outcome = await super().awaited()
            self.context.end_text()
            return without_secrets(outcome, self._secrets)

    def _is_retriable(self, error: BaseException) -> bool | None:
        if isinstance(error, SecretError):
            return error.origin is not None and super()._is_retriable(error.origin)
        return super()._is_retriable(error)


class Fetching(GuardedWork):
    """The first part of a call: it fetches the secrets of the step, in this process."""

    __slots__ = ()

    def __call__(self) -> Outcome:
        """Fetch them; the outcome has no error if the step can be called."""
        with no_secrets_in_errors(self._secrets):
            try:
                for name in self.execution.secrets:
                    fetch(self.context, name)
            except BaseException as error:  # the callable is the user's, it may do anything
                return without_secrets(self._failure(error), self._secrets)
        return Outcome()


def work_of(
    execution: Execution, context: Context, method: Literal["run", "check"] = "run"
) -> Work:
    """Return one call of a step."""
    kind = Work if context.secrets is None else GuardedWork
    return kind(execution, context, method)


def fetch(context: Context, name: str) -> str:
    """Return the value of a secret.

    Raises:
        SecretError: There is none, or none that can be kept secret; it names flow, step and secret.
    """
    try:
        return cast("Secrets", context.secrets).value(name)
    except BaseException as error:  # the callable of the app is the user's, it may do anything
        why = why_not_found(name, error)
        message = (
            f"step '{context.step}' of flow '{context.flow}' takes secret({name!r}), but {why}"
        )
        raise SecretError(message, None if isinstance(error, NotFoundError) else error) from error


_ENGINES_OWN: Final = (WorkLostError, NotBegunError, EngineError)


def without_secrets(outcome: Outcome, secrets: Secrets) -> Outcome:
    """Return an outcome in which no secret is; one with a secret as data fails the step.

    Of an exception only its masked text is kept: its attributes, and what led to it, may be
    anything. The outcome is changed.
    """
    if outcome.error is None:
        if (name := secrets.masker.found_in(outcome.output)) is None:
            return outcome
        what = f"its output contains secret({name!r}), and is not kept; leave the secret out of it"
        failed = Outcome(error=what, is_retriable=False)
        failed.log = outcome.log
        return failed
    cause = outcome.cause
    outcome.error = secrets.mask(outcome.error)
    given: list[object] = [outcome.facts, outcome.details]
    if issubclass(type(cause), StepError):
        given.append(_given_details(cast("StepError", cause)))
    if (name := secrets.masker.found_in(given)) is not None:
        told = f"its details contain secret({name!r}), and are not kept"
        outcome.error = f"{outcome.error}; {told}"
        found_in = secrets.masker.found_in
        outcome.facts = {key: it for key, it in outcome.facts.items() if not found_in([key, it])}
        outcome.details = NO_DETAILS
    if issubclass(type(cause), _ENGINES_OWN) and secrets.masker.found_in(cause) is None:
        return outcome
    outcome.cause = None
    return outcome


class _ForChild:
    """A `Work` that travels to a child of this program."""

    __slots__ = ("_work",)

    def __init__(self, work: Work) -> None:
        self._work = work

    def __call__(self) -> Outcome:
        return self._work()

    def __reduce__(self) -> tuple[object, ...]:
        return self._work.packed(is_for_child=True)


def _by_value(cloudpickle: Any, parts: object) -> bytes:
    token = BY_VALUE.set(True)
    try:
        return cast("bytes", cloudpickle.dumps(parts))
    finally:
        BY_VALUE.reset(token)


def _cloudpickle() -> ModuleType | None:
    try:
        # An extra, and only work for elsewhere needs it; it has no types.
        import cloudpickle  # type: ignore[import-untyped] # noqa: PLC0415
    except ImportError:
        return None
    return cast("ModuleType", cloudpickle)


def _by_name(parts: object) -> bytes | None:
    """Return what pickle makes of the parts of a work, or None if it cannot send them."""
    try:
        return pickle.dumps(parts)
    except Exception:  # it runs the user's code; `cloudpickle` says what is wrong, if it is
        return None


@cache
def versions() -> tuple[str, str]:
    """Return the versions of oautom and of Python: what is packed here is opened by the same."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - 10 ms

    try:
        ours = version("oautom")
    except PackageNotFoundError:  # it was not installed, but put in the way
        ours = "of an unknown version"
    return ours, "{}.{}".format(*sys.version_info)


def told_by_name(name: str) -> tuple[str, Key] | None:
    """Return the flow and the attempt that a `Work.name` names; None for any other text."""
    parts = [part.replace("%2F", "/").replace("%25", "%") for part in name.split("/")]
    try:
        _, flow, vect, step, number, _ = parts
        return flow, (vect, step, int(number))
    except ValueError:
        return None


_PLACE: Final = Struct(">Q")


class Post:
    """Sends the text of a step to another process while the step runs.

    Args:
        send: Sends a letter to `Work.hear`; None if nobody receives letters.
        may_send: Whether the receiver takes a letter now: until then, text waits in the buffer.
    """

    def __init__(
        self,
        send: Callable[[bytes], None] | None,
        may_send: Callable[[], bool] | None = None,
    ) -> None:
        self._send = send
        self._may_send = may_send
        self._sent_bytes = 0
        self._buffer: LogBuffer | None = None
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    def keep_text(self, key: Key, buffer: LogBuffer) -> bool:
        """Send from now on what is written to a buffer."""
        self._buffer = buffer
        if self._send is not None:
            with suppress(RuntimeError):  # without a thread, it comes with the answer
                threading.Thread(target=self._serve, name="oautom-post", daemon=True).start()
        return True

    def _serve(self) -> None:
        while not self._is_over.wait(POST_SECONDS):
            if self._may_send is not None and not self._may_send():
                continue
            with self._lock:
                missing_bytes, content = self._unsent()
                if content and self._send is not None:
                    try:
                        self._send(_PLACE.pack(missing_bytes) + content)
                    except OSError:  # the receiver is gone
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

    Args:
        made_by: The versions of the process that has packed it.
        environment: The variables that identify the attempt of a process.
        is_by_value: Whether functions and classes travel by value: there, and in the answer.
        content: What is packed; it is opened only by the same versions.

    Attributes:
        environment: See above.
    """

    def __init__(
        self,
        made_by: tuple[str, str],
        environment: Mapping[str, str],
        is_by_value: bool,
        content: bytes,
    ) -> None:
        self.environment = environment
        self._made_by = made_by
        self._is_by_value = is_by_value
        self._content = content
        self._context: Context | None = None
        self._is_cancelled = False

    def cancel(self) -> bool:
        """Cancel the step, at any time; return False if it ignores that as yet."""
        self._is_cancelled = True  # first: `__call__` looks when it has set the context
        context = self._context
        if context is None:
            return False
        is_listening = context.is_listening
        context.mark_cancelled()
        return is_listening

    def __call__(
        self,
        send: Callable[[bytes], None] | None = None,
        may_send: Callable[[], bool] | None = None,
        shelf: Shelf | None = None,
    ) -> bytes:
        """Do the work.

        Args:
            send: Sends a letter to `Work.hear` while it works. Default: the whole text comes with
                the answer.
            may_send: Whether a letter may be sent now. Default: always.
            shelf: Has the inputs that stay elsewhere, and takes an output that does. Default: each
                output comes with the answer.
        """
        if (refusal := self._refusal()) is not None:
            return self._pack(refusal)
        token = SHELF.set(shelf)
        try:
            execution, context, method = pickle.loads(self._content)  # noqa: S301 - packed by ourselves
        except BaseException as error:  # unpacking runs the user's code
            return self._pack(self._unopened(error))
        finally:
            SHELF.reset(token)
        self._context = context
        if self._is_cancelled:
            context.mark_cancelled()
        post = context.keeper = Post(send, may_send)
        work = work_of(execution, context, method)
        outcome = work()
        if shelf is not None and outcome.error is None and work.keeps_output:
            with no_secrets_in_errors(context.secrets):
                outcome = self._shelved(outcome, shelf)
        outcome.log = post.rest()
        with no_secrets_in_errors(context.secrets):
            return self._pack(outcome)

    def _shelved(self, outcome: Outcome, shelf: Shelf) -> Outcome:
        """Leave the output on a shelf, with a handle in its place in the outcome."""
        try:
            content = self._dumps(outcome.output)
            kind = name_of(type(outcome.output))
        except BaseException as error:  # pickling runs the user's code
            failed = Outcome.failure(error)
            failed.error = f"its output cannot be kept: {failed.error}"
            return failed
        shelf.kept = content
        return Outcome(Handle(shelf.key, len(content), kind))

    @property
    def _step(self) -> str:
        return self.environment.get("OAUTOM_STEP", "")

    def _refusal(self) -> Outcome | None:
        """Return the failure of a step that was packed by another version, or None."""
        here, there = versions(), tuple(self._made_by)
        if here == there:
            return None
        (ours, python), (theirs, their_python) = here, there
        error = (
            f"step '{self._step}' was sent by oautom {theirs} on Python {their_python}, and its "
            f"worker has oautom {ours} on Python {python}; give both the same versions"
        )
        return Outcome(error=error, is_retriable=False)

    def _unopened(self, error: BaseException) -> Outcome:
        """Return the failure of a step whose parcel cannot be opened here."""
        outcome = Outcome.failure(error)
        if issubclass(type(error), ModuleNotFoundError):
            outcome.error = _lacking(cast("ModuleNotFoundError", error), self._step)
        elif issubclass(type(error), AttributeError) and "__mp_main__" in str(outcome.error):
            outcome.error = f"{_UNGUARDED} ({outcome.error})"
        return outcome

    def _pack(self, outcome: Outcome) -> bytes:
        """Return the answer as bytes: what it is made of comes back as the work has come."""
        return _pack(outcome, self._dumps)

    def _dumps(self, value: object) -> bytes:
        by_value = _cloudpickle() if self._is_by_value else None
        return cast("bytes", (by_value or pickle).dumps(value))


def _lacking(error: ModuleNotFoundError, step: str) -> str:
    name = error.name or message_of(error)
    if name.partition(".")[0] == "cloudpickle":
        return f"the worker of step '{step}' has no cloudpickle, which the step came by; install it"
    return (
        f"the worker of step '{step}' has no module '{name}', which the step is made of; install "
        "it there too, or define what the step needs in the script, and install cloudpickle"
    )


def _pack(outcome: Outcome, dumps: Callable[[object], bytes]) -> bytes:
    cause: object = outcome.cause
    log = tuple(outcome.log)
    try:
        pickle.loads(dumps(cause))  # noqa: S301 - our own bytes; some exceptions only fail here
    except BaseException:  # pickling runs the user's code
        cause = None
    try:
        more = dict(outcome.facts), dict(outcome.details), cause, outcome.is_skip
        parts = (outcome.output, outcome.error, *more, outcome.is_retriable, log)
        return dumps(parts)
    except BaseException as error:  # pickling runs the user's code
        failed = Outcome.failure(error)
        message = f"the output cannot be sent to the main process: {failed.error}"
        return pickle.dumps((None, message, failed.facts, {}, None, False, False, log))


def lost(loss: WorkLostError) -> Outcome:
    """Return the outcome of work of which no answer will come."""
    return Outcome(error=message_of(loss) or "it is not known how", facts=LOST, cause=loss)


def _lost(failure: BaseException) -> Outcome:
    """Return the outcome of work without an answer: it may be done, or half done."""
    if issubclass(type(failure), WorkLostError):
        return lost(cast("WorkLostError", failure))
    if issubclass(type(failure), NotBegunError):
        return Outcome(error=message_of(failure), cause=failure)
    outcome = Outcome.failure(failure)
    if issubclass(type(failure), ModuleNotFoundError) and getattr(failure, "name", "") == "oautom":
        outcome.error = "the workers of the executor have no oautom; install it there, too"
        return outcome
    if not issubclass(type(failure), StepError):  # else it has not even begun
        outcome.facts = {**outcome.facts, "lost": True}
    return outcome


def unpack(answer: object, failure: BaseException | None = None) -> Outcome:
    """Return the outcome in the answer of an executor, from this process or another.

    Args:
        answer: The return value of the work.
        failure: Why the executor could not do it, or None.
    """
    if failure is not None:
        return _lost(failure)
    if type(answer) is Outcome:  # isinstance() would be one more call per step
        return answer
    try:
        if type(answer) is KeptAnswer:
            outcome = unpack(answer.answer)
            if type(outcome.output) is Handle:
                outcome.live = answer
            return outcome
        *parts, log = pickle.loads(cast("bytes", answer))  # noqa: S301 - packed by our own worker
        outcome = Outcome(*parts)
        outcome.log = Text(*log)
    except BaseException as error:  # unpacking runs the user's code
        return Outcome.failure(error)
    return outcome
