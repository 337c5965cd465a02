"""Time for the scheduler: clocks, and a heap of timers.

The scheduler reads the time, waits, and draws random numbers only through a `Clock`, so that
another clock gives another time, and makes a run repeatable.
"""

from __future__ import annotations

import heapq
import os
import time
from datetime import UTC, datetime
from itertools import count
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")

A_DAY = 86_400.0
"""The longest wait of one call, in seconds; the system refuses some longer ones."""


class Clock(Protocol):
    """The time as the scheduler needs it. Called on the scheduler's thread."""

    def now(self) -> datetime:
        """Return the time of the wall clock, aware, in UTC: to show to people, never to measure."""

    def monotonic(self) -> float:
        """Return seconds that never go back: for durations and timers."""

    def take(self, inbox: SimpleQueue[T], until: float | None) -> T | None:
        """Wait for the next item of `inbox`, until `monotonic()` reaches `until` at the latest.

        Returns:
            The item, or None at the timeout; None may also come earlier.
        """

    def chance(self) -> float:
        """Return a number in [0, 1), for the jitter of retries."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the time of the wall clock, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the seconds of `time.monotonic`."""
        return time.monotonic()

    def take(self, inbox: SimpleQueue[T], until: float | None) -> T | None:
        """Wait for the next item of `inbox`; signals of the system are handled during the wait."""
        try:
            if until is None:
                return inbox.get()
            return inbox.get(timeout=min(max(0.0, until - self.monotonic()), A_DAY))
        except Empty:
            return None

    def chance(self) -> float:
        """Return a random number of the system; `import random` would take 1.5 ms."""
        return int.from_bytes(os.urandom(4)) / 2**32


class Timers(Generic[T]):
    """Timers, soonest first; those of the same instant keep their order.

    Attributes:
        heap: For each timer its time, its number and its item; may include cancelled timers.
    """

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, T]] = []
        self._order = count()
        self._cancelled: set[int] = set()

    def add(self, when: float, item: T) -> int:
        """Set a timer: `item` becomes due when the clock's `monotonic()` reaches `when`.

        Returns:
            The number of the timer, for `cancel`.
        """
        number = next(self._order)
        heapq.heappush(self.heap, (when, number, item))
        return number

    def cancel(self, number: int) -> None:
        """Cancel a timer that has not fired; no effect after that. Call at most once per timer."""
        self._cancelled.add(number)
        if 2 * len(self._cancelled) > len(self.heap):  # at most half of the heap is cancelled
            self.heap = [entry for entry in self.heap if entry[1] not in self._cancelled]
            heapq.heapify(self.heap)
            self._cancelled.clear()

    def next_time(self) -> float | None:
        """Return the time of the next timer, or None if there is none."""
        if self._cancelled:
            self._forget_cancelled()
        return self.heap[0][0] if self.heap else None

    def due(self, now: float) -> list[T]:
        """Remove the timers that are due at `now`, and return their items, soonest first."""
        items = []
        self._forget_cancelled()
        while self.heap and self.heap[0][0] <= now:
            items.append(heapq.heappop(self.heap)[2])
            self._forget_cancelled()
        return items

    def _forget_cancelled(self) -> None:
        while self.heap and self.heap[0][1] in self._cancelled:
            self._cancelled.discard(heapq.heappop(self.heap)[1])
