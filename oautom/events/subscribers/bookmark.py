"""The bookmark: the position of a subscription, and the position that the log has stored.

The function is called first and the position stored afterwards, so a program that dies in between
delivers again. If storing fails, it is tried again, and the subscription goes on meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from oautom.events.log import EventLog
from oautom.machine.wording import raised

KEEP_INTERVAL: Final = 1.0
"""Seconds after which a position is stored while there are more events, so little is repeated."""

_logger = logging.getLogger("oautom.subscribers")


class Bookmark:
    """The position of one subscription.

    Args:
        log: The log that stores it.
        name: The name of the subscription.
        position: Number of the event after which the subscription begins.
        kept: The position that the log has; none is stored before the subscription is past that.
        delay: Returns the delay in seconds after so many failures.

    Attributes:
        position: Number of the last event that was dealt with. Moved by its thread only.
    """

    def __init__(
        self, log: EventLog, name: str, position: int, kept: int, delay: Callable[[int], float]
    ) -> None:
        self.position = position
        self._log = log
        self._name = name
        self._kept = kept
        self._delay = delay
        self._failures = 0
        self._tried_at = monotonic()
        self._lock = threading.Lock()

    def keep_at_times(self) -> None:
        """Store the position if that was not tried for a while."""
        if monotonic() - self._tried_at > KEEP_INTERVAL:
            self.keep()

    def keep(self, *, at_once: bool = False) -> None:
        """Store the position in the log. Any thread.

        Args:
            at_once: Whether to try now, without the delay after a failure, for the last time.
        """
        with self._lock:
            position = self.position
            if position <= self._kept or (not at_once and self._seconds_left() > 0):
                return
            self._tried_at = monotonic()
            try:
                self._log.keep_position(self._name, position)
            except Exception as error:  # whatever a log of the user's raises
                self._failures += 1
                self._tell(position, error, is_last=at_once)
            else:
                self._kept, self._failures = position, 0

    def seconds_left(self) -> float | None:
        """Return the seconds until the position is stored; None if there is nothing to store."""
        with self._lock:
            return None if self.position <= self._kept else self._seconds_left()

    def _seconds_left(self) -> float:
        if not self._failures:
            return 0
        return max(self._tried_at + self._delay(self._failures) - monotonic(), 0)

    def _tell(self, position: int, error: Exception, *, is_last: bool) -> None:
        again = "" if is_last else f", which is tried again in {self._delay(self._failures):g} s"
        _logger.warning(
            "subscription %r: position %d could not be kept%s; events after %d are delivered again "
            "if the program ends now: %s",
            *(self._name, position, again, self._kept, raised(error)),
        )
