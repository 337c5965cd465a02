"""Delivery: the thread that calls a function for events, at least once and in order.

The log is the queue. A subscription reads it on from its position, as it needs events, so that a
slow one does not hold in memory all that has happened since; commits only wake it. Its position is
kept in the log too, after the events: who dies in between delivers them again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from traceback import format_exception_only
from typing import Final

from oautom.events.event import Event
from oautom.events.log import EventLog

KEEP_INTERVAL: Final = 1.0
"""Seconds after which a position is kept while there are more events: little is repeated."""
RETRY_DELAYS: Final = (0.1, 1.0)
"""Seconds before the second and the third time that a function is called with one event."""

_logger = logging.getLogger("oautom.subscribers")


class Delivery:
    """The thread behind a subscription.

    Args:
        name: The name of the subscription.
        function: Called as `function(flow, event=event)`, on the thread.
        wanted: Names of the events to call it with; None for all.
        log: Where the events are read.
        position: Number of the event after which to begin.
        flow_of: Returns the flow of a name, or None if it is not declared.
        delays: Seconds before each further call with an event for which the function has raised.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., object],
        wanted: frozenset[str] | None,
        log: EventLog,
        position: int,
        flow_of: Callable[[str], object],
        delays: Sequence[float],
    ) -> None:
        self.name = name
        self.position = position  # moved by the thread only
        self.news = threading.Event()
        self.is_stopped = threading.Event()
        self.on_end: Callable[[], None] = lambda: None
        self._function = function
        self._wanted = wanted
        self._log = log
        self._flow_of = flow_of
        self._delays = delays
        self._is_finishing = False
        self._is_in_haste = threading.Event()  # no delay any more: whoever closes waits
        self._keeping = threading.Lock()
        self._kept = max(position, self._log.position(name) or 0)
        self._kept_at = monotonic()
        self._moved = threading.Condition()
        # A daemon: a function that never returns must not hold the program.
        self._thread = threading.Thread(
            target=self._serve, name=f"oautom-subscription-{name}", daemon=True
        )

    # Any thread

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def finish(self) -> None:
        """Have it end when it has delivered all that is committed."""
        self._is_finishing = True
        self._is_in_haste.set()
        self.news.set()

    def stop(self) -> None:
        """Have it end after the event in hand."""
        self.is_stopped.set()
        self._is_in_haste.set()
        self.news.set()
        self._tell_waiting()

    def _tell_waiting(self) -> None:
        with self._moved:
            self._moved.notify_all()

    @property
    def is_here(self) -> bool:
        """Whether its function is calling."""
        return threading.current_thread() is self._thread

    def join(self, timeout: float | None) -> bool:
        """Wait for the end of the thread; False if that takes longer."""
        self._thread.join(None if timeout is None else max(timeout, 0))
        return not self._thread.is_alive()

    def wait_for(self, seq: int, timeout: float | None) -> bool:
        """Wait until it is past an event; False at the timeout, or if it ends before."""
        with self._moved:
            self._moved.wait_for(lambda: self.position >= seq or self.is_stopped.is_set(), timeout)
        return self.position >= seq

    def keep(self) -> None:
        """Keep the position in the log, where it never goes back."""
        with self._keeping:
            position = self.position
            if position <= self._kept:
                return
            self._kept_at = monotonic()
            try:
                self._log.keep_position(self.name, position)
            except Exception:
                _logger.warning(
                    "subscription %r: position %d could not be kept; if the program ends now, "
                    "events after %d are delivered again",
                    *(self.name, position, self._kept),
                    exc_info=True,
                )
                return
            self._kept = position

    # Its own thread

    def _serve(self) -> None:
        try:
            while not self.is_stopped.is_set():
                self.news.clear()  # before the read: what is committed after it wakes again
                if self._deliver_all():
                    continue
                if self._is_finishing:
                    break
                self.news.wait()
        except BaseException:
            _logger.exception(
                "subscription %r has ended after event %d: it cannot read the log",
                *(self.name, self.position),
            )
        finally:
            self.keep()
            self.on_end()
            self.is_stopped.set()
            self._tell_waiting()

    def _deliver_all(self) -> bool:
        """Deliver what there is after the position; False if there is nothing."""
        before, committed = self.position, self._log.committed_seq
        for event in self._log.read(after=before):
            is_wanted = self._wanted is None or event.name in self._wanted
            if is_wanted and not self._deliver(event):
                break
            self._move_to(event.seq)
            if monotonic() - self._kept_at > KEEP_INTERVAL:
                self.keep()
        else:
            self._move_to(committed)  # over what has been pruned, too
        self.keep()
        return self.position > before

    def _move_to(self, seq: int) -> None:
        self.position = max(seq, self.position)
        self._tell_waiting()

    def _deliver(self, event: Event) -> bool:
        """Call the function until it returns, or too often; False if it was stopped before."""
        for calls, delay in enumerate((*self._delays, None), start=1):
            if self.is_stopped.is_set():
                return False
            try:
                self._function(self._flow_of(event.flow), event=event)
            except BaseException as error:  # sys.exit() must not end the thread unheard
                self._tell_raised(event, calls, error, delay)
                if delay is None:
                    break
                self._is_in_haste.wait(delay)
            else:
                break
        return True

    def _tell_raised(
        self, event: Event, calls: int, error: BaseException, delay: float | None
    ) -> None:
        if delay is not None:
            _logger.warning(
                "subscription %r raised on event %d (%s), and is called again in %g s: %s",
                *(self.name, event.seq, event.name, delay),
                format_exception_only(error)[-1].strip(),
            )
            return
        _logger.error(
            "subscription %r raised on event %d (%s) each of %d times; it goes on with the next",
            *(self.name, event.seq, event.name, calls),
            exc_info=error,
        )
