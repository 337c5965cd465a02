"""Time for the scheduler: what time it is, and a heap of what is to come.

The scheduler reads time and waits through a `Clock` only, so that another clock makes another time.
"""

from __future__ import annotations

import heapq
import time
from datetime import UTC, datetime
from itertools import count
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")

A_DAY = 86_400.0
"""Seconds: the longest wait at a time, since the system refuses some longer ones."""


class Clock(Protocol):
    """What the scheduler asks of time. Called on the scheduler's thread."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC: for people to read, never to measure."""

    def monotonic(self) -> float:
        """Return seconds that never go back: for durations and timers."""

    def take(self, inbox: SimpleQueue[T], until: float | None) -> T | None:
        """Wait for the next item of `inbox`, at the longest until `monotonic()` reaches `until`.

        Returns:
            The item, or None when the time was up first; None may also come before.
        """


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the seconds of `time.monotonic`."""
        return time.monotonic()

    def take(self, inbox: SimpleQueue[T], until: float | None) -> T | None:
        """Wait for the next item of `inbox`; a signal of the system is handled while it waits."""
        try:
            if until is None:
                return inbox.get()
            return inbox.get(timeout=min(max(0.0, until - self.monotonic()), A_DAY))
        except Empty:
            return None


class Timers(Generic[T]):
    """What is to come, soonest first; what is due at the same instant keeps its order."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._order = count()

    def __len__(self) -> int:
        """Return how many are still to come."""
        return len(self._heap)

    def add(self, when: float, item: T) -> None:
        """Have `item` come due when the clock's `monotonic()` reaches `when`."""
        heapq.heappush(self._heap, (when, next(self._order), item))

    def next_time(self) -> float | None:
        """Return when the next one is due, or None if there is none."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[T]:
        """Take out all that are due at `now`, soonest first."""
        items = []
        while self._heap and self._heap[0][0] <= now:
            items.append(heapq.heappop(self._heap)[2])
        return items
