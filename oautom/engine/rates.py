"""The rates of the pools of an engine; the log keeps the starts that count. See `events.rates`."""

from __future__ import annotations

from datetime import datetime

from oautom.events.log import EventLog
from oautom.events.rates import Starts, Usage
from oautom.machine.state import Rate, StepState


class Rates:
    """The starts of the steps of all pools with a rate. Used on the scheduler's thread only.

    Args:
        log: The log that keeps them.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._of: dict[str, Starts] = {}

    def usage(self, rate: Rate, now: datetime) -> Usage:
        """Return how far the rate of a pool is used up."""
        return self._starts(rate.pool).usage(rate, now)

    def next_start(self, step: StepState, rate: Rate, now: datetime) -> datetime | None:
        """Return when a step may start by the rate of its pool; None if at once."""
        return self.usage(rate, now).next

    def note(self, rate: Rate, now: datetime) -> None:
        """Note the start of a step; the next commit of the log writes it."""
        past, future = self._starts(rate.pool).add(rate, now)
        self._log.note_start(rate.pool, now, past, future)

    def take_back(self) -> None:
        """Forget what is not committed."""
        self._of.clear()

    def _starts(self, pool: str) -> Starts:
        if pool not in self._of:
            self._of[pool] = Starts(self._log.starts(pool))
        return self._of[pool]
