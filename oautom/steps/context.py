"""The context of a running step: its place, its inputs, its log, and its cancellation."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Protocol

from oautom.errors import SettingError, UnknownInputError, shown
from oautom.events.texts import LogBuffer
from oautom.machine.commands import Key
from oautom.processes import forked
from oautom.processes.leftovers import LOG_MARK, outer_marks
from oautom.steps.secrets import Secrets, no_secrets_in_errors
from oautom.values.text import shortened, traceback_of
from oautom.workers.remote import REMOTE

_NO_MARKS: Mapping[str, str] = MappingProxyType({})
_logger = logging.getLogger("oautom.steps")
# Guards the lazy parts of all contexts. Reentrant: a handler of Ctrl-C may come in between.
_lock = threading.RLock()


def _begin_anew() -> None:
    """Note in a forked child that its code is the code of no step any more."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have had it
    _lock = threading.RLock()
    CALLED.set(None)


forked.in_child(_begin_anew)


class TextKeeper(Protocol):
    """Stores the text of attempts, as a log does."""

    def keep_text(self, key: Key, buffer: LogBuffer) -> bool:
        """Store what an attempt writes to a buffer; False if that is not possible."""


class BufferHandler(logging.Handler):
    """Writes records to a buffer, a line each.

    Args:
        buffer: Returns the buffer; called when there is something to write.
        form: The format of a line.
    """

    def __init__(self, buffer: Callable[[], LogBuffer], form: str) -> None:
        super().__init__()
        self._buffer = buffer
        self.setFormatter(logging.Formatter(form))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            self._buffer().write((self.format(record) + "\n").encode(errors="replace"))
        except Exception:  # as in all handlers of `logging`: a wrong format must not raise
            self.handleError(record)


class _StepLogger(logging.Logger):
    """The `context.log` of one attempt: it writes records of any level to the attempt's text.

    It also passes records on to the one logger of the flow, if that lets them through. `logging`
    does not register it, so it is freed with its attempt: registered loggers never are.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(f"oautom.flow.{context.flow}")
        self._secrets = context.secrets
        self._extra = {"vect": context.vect_id, "step": context.step, "attempt": context.attempt}
        self.addHandler(BufferHandler(lambda: context.buffer, "%(levelname)s %(message)s"))

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - as logging has it
        return level >= self.level

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802 - as above
        if self._secrets is not None:
            record = self._secrets.record(record)
        record.__dict__.update(self._extra)
        for handler in self.handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
        of_flow = logging.getLogger(self.name)
        # Without handlers, Python would print warnings to standard error.
        if of_flow.isEnabledFor(record.levelno) and of_flow.hasHandlers():
            token = CALLED.set(None)  # the text has it already: do not copy it again
            try:
                of_flow.handle(record)
            finally:
                CALLED.reset(token)


class _Inputs(dict[str, Any]):
    def __init__(self, flow: str, step: str, outputs: Mapping[str, Any]) -> None:
        super().__init__(outputs)
        self._place = (flow, step)

    def __missing__(self, name: str) -> Any:
        raise UnknownInputError(*self._place, name, self)


class _RemoteInputs(_Inputs):
    """Inputs some of which are elsewhere: such a one is fetched when it is first asked for."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if type(value) in REMOTE:
            value = self[name] = value.opened()
        return value

    def __iter__(self) -> Iterator[str]:  # that there is one makes `dict(inputs)` ask for each
        return super().__iter__()

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 - the plain one opens nothing

    def values(self) -> Any:
        return self.copy().values()

    def items(self) -> Any:
        return self.copy().items()

    def copy(self) -> dict[str, Any]:
        return {name: self[name] for name in self}

    def __eq__(self, other: object) -> bool:
        return self.copy() == other

    __hash__ = None  # type: ignore[assignment] # as of each dict


class Context:
    """The argument of `run` and `check`: the facts of one attempt, its log, and its cancellation.

    In a process that the step forks, the context is a copy: it is not cancelled, and its log is
    lost.

    Attributes:
        flow: Name of the flow.
        vect_id: Id of the Vect.
        step: Name of the step.
        number: The number by which the log knows the attempt: negative for a compensation.
        attempt: Number of this attempt, from 1: of the step, or of its compensation. Commands find
            it in `OAUTOM_ATTEMPT`, where the number of a compensation is negative.
        params: The parameters of the Vect, read-only.
        output: In `check`, the return value of `run`; in a compensation, the output of the step,
            None if it has not succeeded. None in `run`.
        marks: The variables by which a recovery finds the processes that do the work.
        is_strict: Whether a Bash command of the step ends with the first failure in it, as recorded
            at the start of the Vect; None for the step's own `strict`.
        home: The `Waits` of the engine that calls the step; None in another process.
        keeper: Stores the text of the attempt; None if only this object has it.
        written: The buffer with the text of the attempt; None as long as there is no text.
        is_unwanted: Whether the step has been cancelled.
        is_captured: Whether the text includes what the step prints, and its records of `logging`.
        has_begun: Whether the code of the step was called, in this process.
        is_elsewhere: Whether the step runs in another process than its engine.
        secrets: The secrets of the attempt; None in a flow that names none.
    """

    is_elsewhere: bool = False
    secrets: Secrets | None = None

    def __init__(  # made in one place only
        self,
        flow: str,
        vect_id: str,
        step: str,
        attempt: int,
        params: Mapping[str, Any],
        inputs: Callable[[], dict[str, Any]] = dict,
        buffers: MutableMapping[tuple[str, int], LogBuffer] | None = None,
        log_limit_bytes: int = 2**20,
        marks: Mapping[str, str] = _NO_MARKS,
        item: Callable[[], Any] | None = None,
    ) -> None:
        self.marks = marks
        self.home: Any = None
        self.keeper: TextKeeper | None = None
        self.written: LogBuffer | None = None
        self.is_captured = False
        self.is_strict: bool | None = None
        self.flow = flow
        self.vect_id = vect_id
        self.step = step
        self.attempt = abs(attempt)
        self.number = attempt
        self.params = params
        self.output: Any = None
        self._item = item
        self._inputs = inputs
        self._buffers = buffers
        self._process = forked.here
        self._log_limit_bytes = log_limit_bytes
        self._log: logging.Logger | None = None
        self.has_begun = False
        self.is_unwanted = False
        self._cancelled: threading.Event | None = None
        self._stoppers: list[Callable[[], None]] = []
        self._call_stopper: Callable[[], object] | None = None

    @property
    def log_id(self) -> str | None:
        """The identity of the log if that is durable, else None."""
        return self.marks.get(LOG_MARK)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that name the attempt of a process, by which a recovery finds the process.

        Give them to a program that a step starts on a thread, `env=os.environ |
        context.environment`: if oautom is killed, the next life of the program ends it before the
        step runs again. Commands have them anyway, and so do programs started by steps in worker
        processes.
        """
        place = {
            "OAUTOM_FLOW": self.flow,
            "OAUTOM_VECT": self.vect_id,
            "OAUTOM_STEP": self.step,
            "OAUTOM_ATTEMPT": str(self.number),
        }
        return {**place, **self.marks, **outer_marks(self.marks)}

    @property
    def inputs(self) -> dict[str, Any]:
        """The outputs of the direct upstreams that have succeeded, by the name of the step."""
        outputs = self._inputs()
        is_near = REMOTE.isdisjoint(map(type, outputs.values()))
        return (_Inputs if is_near else _RemoteInputs)(self.flow, self.step, outputs)

    @property
    def item(self) -> Any:
        """In an instance of a map: its item, as a value of its type; else None.

        Raises:
            FlowError: The item was written when the flow had another type there.
        """
        return None if self._item is None else self._item()

    @property
    def buffer(self) -> LogBuffer:
        """The buffer with the text of the attempt: the raw bytes of `log_text`."""
        return self._begun() if self.written is None else self.written

    def _begun(self) -> LogBuffer:
        with _lock:
            if self.written is not None:
                return self.written
            buffer = self.written = self.new_buffer(self._log_limit_bytes)
        if not self._process.is_here:  # in a fork no log has it
            return buffer
        key = self.vect_id, self.step, self.number
        is_kept = self.keeper is not None and self.keeper.keep_text(key, buffer)
        if not is_kept and self._buffers is not None:
            self._buffers[self.step, self.number] = buffer
        return buffer

    def new_buffer(self, limit_bytes: int) -> LogBuffer:
        """Return a buffer for what the step writes, which keeps no secret of the attempt."""
        if self.secrets is None:
            return LogBuffer(limit_bytes)
        return self.secrets.buffer(limit_bytes)

    def end_text(self) -> None:
        """Take in the text that is held back, when the code of the step has ended."""
        if self.secrets is not None:
            self.secrets.end_streams()
        if self.written is not None:
            self.written.finish()

    @property
    def log(self) -> logging.Logger:
        """A standard logger; its lines, of any level, become part of the step's `log_text`.

        They are passed on to the logger `oautom.flow.<flow>`, as records with `vect`, `step` and
        `attempt`.
        """
        if self._log is None:
            self._log = _StepLogger(self)
        return self._log

    @property
    def cancelled(self) -> threading.Event:
        """An event that is set when the step is cancelled: a long `run` checks it, and returns.

        A cancel waits up to 10 seconds for a function that has asked for it.
        """
        with _lock:
            if self._cancelled is None:
                self._cancelled = threading.Event()
                if self.is_unwanted:
                    self._cancelled.set()
            return self._cancelled

    @property
    def is_listening(self) -> bool:
        """Whether the step has asked for `cancelled`, or for `on_cancel`, or is a coroutine."""
        has_stopper = bool(self._stoppers) or self._call_stopper is not None
        return self._cancelled is not None or has_stopper

    def progress(self, fraction: float, message: str = "") -> None:
        """Write the progress of the step to its log.

        Args:
            fraction: From 0 to 1.
            message: A few words about the present work.

        Raises:
            SettingError: `fraction` is no number from 0 to 1.
        """
        if not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
            raise SettingError(
                f"step '{self.step}' reports a progress of {shown(fraction)}; give a "
                f"number from 0 to 1",
                flow=self.flow,
                step=self.step,
            )
        self.log.info("%3.0f %% %s", fraction * 100, message)

    def on_cancel(self, stopper: Callable[[], None]) -> bool:
        """Call `stopper` when the step is cancelled, on the thread that cancels.

        A step with a stopper promises to end soon: a cancel of its Vect waits for it.

        Returns:
            False if it is cancelled already: `stopper` is not stored, and the step should begin
            nothing.

        Raises:
            SettingError: `stopper` cannot be called.
        """
        if not callable(stopper):
            raise SettingError(f"on_cancel() takes a callable, not {shown(stopper)}")
        with _lock:
            if not self.is_unwanted:
                self._stoppers.append(stopper)
            return not self.is_unwanted

    def on_cancel_of_call(self, stopper: Callable[[], object]) -> bool:
        """As `on_cancel`, for the code that calls the step: until the next call of the step.

        If `stopper` returns False, it cannot end the step, and promises nothing.
        """
        with _lock:
            if not self.is_unwanted:
                self._call_stopper = stopper
            return not self.is_unwanted

    def mark_cancelled(self) -> bool:
        """Cancel the step. The runner calls this, on any thread.

        It may do so several times; stoppers are called once.

        Returns:
            Whether there is a stopper, so that the end of the work is waited for.
        """
        with _lock:
            is_first, self.is_unwanted = not self.is_unwanted, True
            stoppers: list[Callable[[], object]] = list(self._stoppers)
            of_call = self._call_stopper
            if of_call is not None:
                stoppers.append(of_call)
            cancelled = self._cancelled
        if cancelled is not None:  # without `_lock`: the step may have the lock of the event
            cancelled.set()
        for stopper in stoppers if is_first else ():
            try:
                if stopper() is False and stopper is of_call:
                    stoppers = stoppers[:-1]
                    self._call_stopper = None
            except BaseException as error:  # user code; the other stoppers must run
                self._tell_of(stopper, error)
        return bool(stoppers)

    def _tell_of(self, stopper: object, error: BaseException) -> None:
        with no_secrets_in_errors(self.secrets):
            parts = shortened(stopper), traceback_of(error)
        with suppress(BaseException):  # handlers of `logging` are user code, too
            _logger.error("on_cancel() of step '%s': %s raised\n%s", self.step, *parts)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel to another process: by value, and without cancellation."""
        place = (self.flow, self.vect_id, self.step, self.number, dict(self.params))
        parts = (self._log_limit_bytes, dict(self.marks), self.output, self.item, self.is_strict)
        return _revive, (place, dict(self._inputs()), *parts, self.secrets)


BY_VALUE: ContextVar[bool] = ContextVar("oautom_by_value", default=False)
"""Whether what is pickled now goes to a process that has not got the main module."""

CALLED: ContextVar[Context | None] = ContextVar("oautom_called", default=None)
"""The context of the step whose code is running, or None: also in its tasks, in functions that it
runs by `asyncio.to_thread`, and in threads that it starts with a copy of its context."""


def _revive(
    place: tuple[str, str, str, int, Mapping[str, Any]],
    inputs: dict[str, Any],
    log_limit_bytes: int,
    marks: Mapping[str, str],
    output: Any,
    item: Any,
    is_strict: bool | None,
    secrets: Secrets | None,
) -> Context:
    context = Context(*place, lambda: inputs, None, log_limit_bytes, marks, lambda: item)
    context.output = output
    context.is_strict = is_strict
    context.is_elsewhere = True
    context.secrets = secrets
    return context
