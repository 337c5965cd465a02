"""The starts of the steps of a pool, and when its rate allows the next one. Pure.

Starts are counted by the wall clock, since a rate must hold over programs and restarts. The wall
clock may be set. Set forward, it lets a window pass sooner. Set back, it must neither allow a burst
nor make anybody wait until the old time comes again: starts that would lie in the future count as
if they had been at the moment at which that was noticed, so a wait is never longer than a window.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from oautom.machine.state import Rate


class Usage(NamedTuple):
    """How far the rate of a pool is used up.

    Attributes:
        starts: How many starts count at the moment.
        next: When the next one is allowed; None if one is allowed at once.
    """

    starts: int
    next: datetime | None


class Starts:
    """The starts of one pool, as far back as its rates look.

    A window is half open: at a time T, those starts count that came after T - seconds, and up to T.

    Args:
        times: The starts that are known, in any order.
    """

    def __init__(self, times: Iterable[datetime] = ()) -> None:
        self._times = sorted(times)
        self._seen: datetime | None = None  # the time of the last look
        self._future = 0  # so many lie in the future: they count as at `_noticed`
        self._noticed: datetime | None = None
        self._seconds = 0.0  # the longest window

    def usage(self, rate: Rate, now: datetime) -> Usage:
        """Return how far a rate is used up at a time."""
        self._look(now)
        window = timedelta(seconds=rate.seconds)
        first, end = (bisect_right(self._times, time) for time in (now - window, now))
        counted, future = end - first, 0
        if self._noticed is not None and self._noticed > now - window:
            future = self._future
        excess = counted + future - rate.starts
        if excess < 0:
            return Usage(counted + future, None)
        if not future:
            return Usage(counted, self._times[first + excess] + window)
        assert self._noticed is not None
        each = sorted([*self._times[first:end], *[self._noticed] * future])
        return Usage(counted + future, each[excess] + window)

    def add(self, rate: Rate, now: datetime) -> tuple[datetime, datetime | None]:
        """Note a start, and forget those that no window has any more.

        Returns:
            Up to which time starts are forgotten, and after which: the latter lie in the future,
            and were noticed longer than a window ago. None if there are none.
        """
        self._look(now)
        self._seconds = max(self._seconds, rate.seconds)
        past = now - timedelta(seconds=self._seconds)
        del self._times[: bisect_right(self._times, past)]
        after = None
        if self._noticed is not None and self._noticed <= past:
            after, self._future, self._noticed = now, 0, None
            del self._times[bisect_right(self._times, now) :]
        insort(self._times, now)
        return past, after

    def _look(self, now: datetime) -> None:
        """Notice that the clock was set back."""
        if self._seen is None or now < self._seen:
            future = len(self._times) - bisect_right(self._times, now)
            if future:
                self._future, self._noticed = future, now
        self._seen = now
