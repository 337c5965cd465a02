"""Time for the scheduler: what time it is, and a heap of what is to come.

The scheduler reads time, waits, and asks for chance through a `Clock` only, so that another clock
makes another time, and the same one each time.
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

    def chance(self) -> float:
        """Return a number in [0, 1), for the jitter of retries."""


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

    def chance(self) -> float:
        """Return a number of the system's; `import random` would take 1.5 ms of ours."""
        return int.from_bytes(os.urandom(4)) / 2**32


class Timers(Generic[T]):
    """What is to come, soonest first; what is due at the same instant keeps its order.

    Attributes:
        heap: When, in which order, and what; cancelled ones may be among them for a while.
    """

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, T]] = []
        self._order = count()
        self._cancelled: set[int] = set()

    def add(self, when: float, item: T) -> int:
        """Have `item` come due when the clock's `monotonic()` reaches `when`.

        Returns:
            A number to cancel it by.
        """
        number = next(self._order)
        heapq.heappush(self.heap, (when, number, item))
        return number

    def cancel(self, number: int) -> None:
        """Have one of those to come not come due; of one that was due, nothing changes."""
        self._cancelled.add(number)
        if 2 * len(self._cancelled) > len(self.heap):  # the heap is no longer than it must be
            self.heap = [entry for entry in self.heap if entry[1] not in self._cancelled]
            heapq.heapify(self.heap)
            self._cancelled.clear()

    def next_time(self) -> float | None:
        """Return when the next one is due, or None if there is none."""
        if self._cancelled:
            self._forget_cancelled()
        return self.heap[0][0] if self.heap else None

    def due(self, now: float) -> list[T]:
        """Take out all that are due at `now`, soonest first."""
        items = []
        self._forget_cancelled()
        while self.heap and self.heap[0][0] <= now:
            items.append(heapq.heappop(self.heap)[2])
            self._forget_cancelled()
        return items

    def _forget_cancelled(self) -> None:
        while self.heap and self.heap[0][1] in self._cancelled:
            self._cancelled.discard(heapq.heappop(self.heap)[1])
