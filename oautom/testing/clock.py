"""`SimulatedClock`: time that passes only in waits, and then at once."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from queue import SimpleQueue
from typing import TypeVar

from oautom.errors import EngineError, SettingError, shown

T = TypeVar("T")

START = datetime(2000, 1, 1, tzinfo=UTC)


class SimulatedClock:
    """A clock for tests: a wait until a time ends at once, at that time.

    Args:
        start: The first time, aware. Default: the first second of 2000, in UTC.
        seed: The seed of chance, which orders the calls of one instant, and makes the jitter of
            retries.

    Raises:
        SettingError: `start` is no aware date.
    """

    def __init__(self, start: datetime = START, seed: int = 0) -> None:
        if not isinstance(start, datetime) or start.tzinfo is None:
            raise SettingError(f"start must be a datetime with a time zone, not {shown(start)}")
        self._start = start.astimezone(UTC)
        self._seconds = 0.0
        self._chance = random.Random(seed)  # noqa: S311 - it shall be the same each time
        self._order = count()
        self._calls: list[tuple[float, float, int, Callable[[], None]]] = []

    def now(self) -> datetime:
        """Return the simulated time, in UTC."""
        return self._start + timedelta(seconds=self._seconds)

    @property
    def is_steady(self) -> bool:
        """Whether its two times never differ, so that they need not be compared.

        False for a subclass that overrides one of them.
        """
        kind = type(self)
        return kind.now is SimulatedClock.now and kind.monotonic is SimulatedClock.monotonic

    def monotonic(self) -> float:
        """Return the simulated seconds that have passed."""
        return self._seconds

    def chance(self) -> float:
        """Return a number in [0, 1): the next one of the seed."""
        return self._chance.random()

    def advance(self, seconds: float) -> None:
        """Let time pass, and make all calls that are due meanwhile.

        Raises:
            SettingError: `seconds` is negative.
        """
        if not 0 <= seconds < math.inf:
            raise SettingError(f"time goes forward only, not by {shown(seconds)} seconds")
        end = self._seconds + seconds
        while self._calls and self._calls[0][0] <= end:
            self._call_next()
        self._seconds = end

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call `call` when so many seconds have passed."""
        entry = (self._seconds + seconds, self._chance.random(), next(self._order), call)
        heapq.heappush(self._calls, entry)

    def _call_next(self) -> None:
        self._seconds, _, _, call = heapq.heappop(self._calls)
        call()

    def take(self, inbox: SimpleQueue[T], until: float | None) -> T | None:
        """Return the next item of `inbox`; let time pass until there is one, or until `until`.

        Raises:
            EngineError: Nothing is scheduled, so the wait would never end.
        """
        while inbox.empty():
            if self._calls and (until is None or self._calls[0][0] <= until):
                self._call_next()
            elif until is not None:
                self._seconds = max(self._seconds, until)
                return None
            else:
                raise EngineError(
                    "nothing is to come on the simulated clock, so the wait would never end; a "
                    "step that works on a thread or in a process takes real time: use "
                    "executor='inline' beside this clock"
                )
        return inbox.get()
