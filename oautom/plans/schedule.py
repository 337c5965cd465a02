"""Schedules: the times at which a plan is due. Pure: the time is an argument.

`Interval` and `Cron` have one method in common, `next_time(after)`: the first time after an
instant. Both are aware, and the returned time is in UTC.
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
    """Return the interval of so many days, hours, ..., or None if all are 0.

    Raises:
        SettingError: A number is none, or negative, or the interval is too short or too long.
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
    """A sequence of times without an end."""

    def next_time(self, after: datetime) -> datetime:
        """Return the first time after an instant, in UTC."""

    def anchored(self, anchor: datetime) -> Schedule:
        """Return the schedule that counts from an instant, if that makes a difference."""


class Interval:
    """Equal intervals from an anchor, in time that passes: clock changes do not matter.

    Args:
        every: The time from one instant to the next.
        anchor: An instant of the rhythm: the times are whole multiples of `every` away from it.
    """

    def __init__(self, every: timedelta, anchor: datetime = _EPOCH) -> None:
        self.every = every
        self.anchor = anchor.astimezone(UTC)

    def next_time(self, after: datetime) -> datetime:
        """Return the first time after an instant, in UTC."""
        passed = (after - self.anchor) // self.every
        return self.anchor + (passed + 1) * self.every

    def anchored(self, anchor: datetime) -> Interval:
        """Return the same interval with another anchor."""
        return Interval(self.every, anchor)

    def __repr__(self) -> str:
        """Return the length of the interval."""
        return f"every {self.every}"


class Cron:
    """A cron expression of five fields, read by the wall clock of a time zone.

    If a clock change skips a time, or has it twice, the rules of Debian's crontab(5) apply: a time
    of day that is skipped comes right after the gap, one that is repeated counts once. An
    expression whose minutes or hours begin with `*` follows the wall clock.

    Args:
        expression: Minute, hour, day of the month, month, day of the week.
        zone: The time zone.

    Raises:
        SettingError: The expression is wrong, or no time fits it.
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
        """Return the first time after an instant, in UTC.

        Raises:
            SettingError: There is none within fifty years.
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
        """Return itself: a cron follows the calendar."""
        return self

    def __repr__(self) -> str:
        """Return the expression and the time zone."""
        return f"'{self.expression}' in {self.zone}"
