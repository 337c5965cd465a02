"""Copies what the code of a step prints and logs to the text of its attempt.

While a step runs, a `_Tee` replaces `sys.stdout` and `sys.stderr`: it passes all text on, and
copies what a step writes. The context variable `CALLED` says which step writes, so the texts of
steps that run side by side do not mix. If other code replaces the streams meanwhile, its streams
get the text.

Records of `logging` are copied when a logger passes them to its handlers: so the level and the
filters of the logger apply, and each record is copied once, whatever handlers there are. What
handlers write during that is not copied, since it is the same text again.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from oautom.events.texts import LOOSE_MAX
from oautom.processes import forked
from oautom.steps.context import CALLED, BufferHandler, Context

_FORM: Final = "%(levelname)s %(name)s: %(message)s"


class _Tee:
    """A stream that passes text on, and copies what a step writes.

    Args:
        stream: The stream to pass it on to.

    Attributes:
        stream: See above.
        takes: Whether it copies. Only the two tees in use do: if other code has wrapped an older
            one, as colorama does, a new one wraps that, and both see the same text.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.takes = True
        self._pass_on: Callable[[str], Any] = stream.write

    def write(self, text: str) -> Any:
        """Pass text on, and copy it; text that the stream refuses is not copied."""
        context = CALLED.get()
        if context is not None and context.secrets is not None and context.is_captured:
            content = str.encode(text, errors="surrogatepass")
            context.secrets.pass_on(self, content, partial(self._write_masked, context))
            return len(text)
        length = self._pass_on(text)
        if context is not None and context.is_captured and self.takes:
            buffer = context.written or context.buffer
            buffer.loose.append(text)
            try:
                buffer.loose_length += length  # a check would cost as much as this
            except TypeError:  # a foreign stream may return nothing
                buffer.loose_length += len(text)
            if buffer.loose_length > LOOSE_MAX:
                buffer.write(b"")
        return length

    def _write_masked(self, context: Context, content: bytes) -> None:
        self._pass_on(content.decode(errors="surrogatepass"))
        if self.takes:
            context.buffer.write(content)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines one by one, so that they are copied."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Return any other member of the stream."""
        return getattr(self.stream, name)

    def __iter__(self) -> Any:
        """Return the lines of the stream."""
        return iter(self.stream)

    def __enter__(self) -> Any:
        """Enter the stream."""
        self.stream.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        """Leave the stream."""
        return self.stream.__exit__(*error)


class Capture:
    """Replaces the streams of the program by tees while steps run. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a handler of Ctrl-C may come in between
        self._running = 0
        # The streams, and the tee of each; usually these are the same from step to step.
        self._out = self._out_tee = self._err = self._err_tee = _Tee(io.StringIO())  # none yet
        self._is_hearing = False

    def begin(self, context: Context) -> None:
        """Copy from now on what a step writes."""
        with self._lock:
            context.is_captured = True
            self._running += 1
            if sys.stdout is self._out_tee and sys.stderr is self._err_tee:
                return
            if sys.stdout is self._out and sys.stderr is self._err:
                sys.stdout, sys.stderr = self._out_tee, self._err_tee
            else:
                self._stand_before()

    def end(self, context: Context) -> None:
        """End the copying for one step; after the last one, put the streams back.

        A stream that other code has replaced meanwhile stays. May be called again.
        """
        with self._lock:
            if not context.is_captured:
                return
            context.is_captured = False
            self._running -= 1
            if self._running:
                return
            if sys.stdout is self._out_tee:
                sys.stdout = self._out
            if sys.stderr is self._err_tee:
                sys.stderr = self._err

    def _stand_before(self) -> None:
        """Put a tee in place of each stream as it is now."""
        before = self._out_tee, self._err_tee
        self._out, self._out_tee = _before(sys.stdout)
        self._err, self._err_tee = _before(sys.stderr)
        sys.stdout, sys.stderr = self._out_tee, self._err_tee
        for tee in (*before, self._out_tee, self._err_tee):
            if type(tee) is _Tee:
                tee.takes = tee is self._out_tee or tee is self._err_tee
        if not self._is_hearing:
            self._is_hearing = True
            _hear_all_loggers()

    def leave(self) -> None:
        """Begin anew in a forked child, where no step runs."""
        self._lock = threading.RLock()
        self._running = 0


def _before(stream: Any) -> tuple[Any, Any]:
    """Return a stream and its tee, or the stream twice if it cannot have one."""
    if type(stream) is _Tee:  # an earlier tee, put back by other code
        return stream.stream, stream
    if getattr(stream, "write", None) is None:
        return stream, stream
    return stream, _Tee(stream)


def _hear_all_loggers() -> None:
    """Copy the records of all loggers from now on."""
    call_handlers = logging.Logger.callHandlers

    def call_handlers_and_take(logger: logging.Logger, record: logging.LogRecord) -> None:
        context = CALLED.get()
        if context is None:
            call_handlers(logger, record)
            return
        if context.is_captured:
            if context.secrets is not None:
                record = context.secrets.record(record)
            BufferHandler(lambda: context.buffer, _FORM).emit(record)
        token = CALLED.set(None)
        try:
            call_handlers(logger, record)
        finally:
            CALLED.reset(token)

    logging.Logger.callHandlers = call_handlers_and_take  # type: ignore[assignment] # the same one, wrapped


CAPTURE: Final = Capture()
forked.in_child(CAPTURE.leave)
