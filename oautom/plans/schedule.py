"""Schedules: when a plan is due. Pure: no clock is asked here, the time comes in.

`Interval` and `Cron` have one method in common, `next_time(after)`: the first time that comes
after an instant. Both are aware, and a time is always given in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Protocol

from oautom.errors import SettingError, shown
from oautom.values.json import at_heart, plain_number

INTERVAL_MIN: Final = timedelta(milliseconds=1)
INTERVAL_MAX: Final = timedelta(days=36_525)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CRON_FIELDS: Final = "minute, hour, day of the month, month, day of the week"


def interval_of(units: Mapping[str, float]) -> Interval | None:
    """Return the interval of so many days, hours, ..., or None where all are 0.

    Raises:
        SettingError: One is no number, or negative, or it is too short or too long.
    """
    exact: dict[str, float] = {}
    for unit, amount in units.items():
        number = plain_number(amount)
        if number is None or number < 0:
            raise SettingError(f"{unit} must be a number, from 0, not {shown(amount)}")
        exact[unit] = number
    units = exact
    if not any(units.values()):
        return None
    try:
        every = timedelta(**units)
    except OverflowError:
        every = timedelta.max
    if not INTERVAL_MIN <= every <= INTERVAL_MAX:
        told = ", ".join(f"{unit}={shown(amount)}" for unit, amount in units.items() if amount)
        raise SettingError(
            f"an interval must be from a millisecond to {INTERVAL_MAX.days} days, not {told}"
        )
    return Interval(every)


class Schedule(Protocol):
    """When something is due, again and again."""

    def next_time(self, after: datetime) -> datetime:
        """Return the first time that comes after an instant, in UTC."""

    def anchored(self, anchor: datetime) -> Schedule:
        """Return the schedule that counts from an instant; where that has a meaning."""


class Interval:
    """Every so often, counted from an anchor, in time that passes: no clock change matters.

    Args:
        every: How often.
        anchor: An instant of the rhythm: the times are whole multiples of `every` away from it.
    """

    def __init__(self, every: timedelta, anchor: datetime = _EPOCH) -> None:
        self.every = every
        self.anchor = anchor.astimezone(UTC)

    def next_time(self, after: datetime) -> datetime:
        """Return the first time that comes after an instant, in UTC."""
        passed = (after - self.anchor) // self.every
        return self.anchor + (passed + 1) * self.every

    def anchored(self, anchor: datetime) -> Interval:
        """Return the interval that counts from an instant."""
        return Interval(self.every, anchor)

    def __repr__(self) -> str:
        """Return how often."""
        return f"every {self.every}"


class Cron:
    """A cron expression of five fields, read by the wall clock of a time zone.

    Where a clock change skips a time, or has it twice, the rules of Debian's crontab(5) hold: a
    time of day that is skipped comes right after the gap, one that is repeated counts once; what
    begins with `*` in its minutes or hours goes by the wall clock.

    Args:
        expression: Minute, hour, day of the month, month, day of the week.
        zone: The time zone.

    Raises:
        SettingError: It is no such expression, or never comes.
    """

    def __init__(self, expression: str, zone: tzinfo = UTC) -> None:
        expression = at_heart(expression)
        self.expression = expression
        self.zone = zone
        if type(expression) is not str or len(expression.split()) != 5:
            raise SettingError(
                f"{shown(expression)} is no cron expression; it has five fields: {_CRON_FIELDS}"
            )
        self.next_time(_EPOCH)

    def next_time(self, after: datetime) -> datetime:
        """Return the first time that comes after an instant, in UTC.

        Raises:
            SettingError: None does, within fifty years.
        """
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only who plans pays for it

        try:
            for time in CronSim(self.expression, after.astimezone(self.zone)):
                # Of an hour that the clock has twice, cronsim gives the first one; if that is over
                # the instant lies in the second one.
                if (found := time.astimezone(UTC)) > after:
                    return found
        except (CronSimError, ValueError, AssertionError) as error:
            why = str(error).lower() or "it cannot be read"
            raise SettingError(
                f"{shown(self.expression)} is no cron expression: {why}; it has five fields: "
                f"{_CRON_FIELDS}"
            ) from error
        raise SettingError(f"cron expression {self.expression!r} never comes; there is no such day")

    def anchored(self, anchor: datetime) -> Cron:
        """Return itself: it goes by the calendar."""
        return self

    def __repr__(self) -> str:
        """Return the expression and the time zone."""
        return f"'{self.expression}' in {self.zone}"
