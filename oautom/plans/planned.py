"""`PLANNED`: the time of a plan, as a parameter of the Vects that it starts. Pure.

A shift of a time follows the wall clock of the plan: whole days are those of the calendar, so the
day before is the day before even if it has 23 hours; the rest is time that passes.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NoReturn

from oautom.errors import SettingError, shown
from oautom.values.annotations import UNKNOWN, members_of
from oautom.values.json import SECONDS_MAX, too_long

_DAY: Final = timedelta(days=1)
_NONE: Final = timedelta(0)
_PARTS: Final = ("days", "seconds", "microseconds")
_REMEDY: Final = "write PLANNED - timedelta(days=1)"


class Planned:
    """The time for which a plan starts its flow, or a time before or after it.

    Made by `PLANNED`, `PLANNED - timedelta(days=1)`, `PLANNED + timedelta(hours=6)`.

    Args:
        days: How many days of the calendar later.
        rest: How much time later than that; each single shift has less than a day of it.
    """

    __slots__ = ("_days", "_rest")

    def __init__(self, days: int = 0, rest: timedelta = _NONE) -> None:
        self._days = days
        self._rest = rest

    def at(self, local: datetime, annotation: Any) -> object:
        """Return the value for a parameter of a type.

        Args:
            local: The time of the plan, by its wall clock.
            annotation: The type.
        """
        time = self._moved(local)
        wanted = members_of(annotation)
        if datetime in wanted:
            return time
        if date in wanted:
            return time.date()
        return time.isoformat() if str in wanted or UNKNOWN in wanted else time

    def _moved(self, local: datetime) -> datetime:
        """Return the time by the wall clock.

        If the clock skips the time of day, the result is as long after the gap as the time would be
        into it; if the clock has it twice, the result is the first of the two.
        """
        if self._days:
            local = (local + self._days * _DAY).replace(fold=0)
        if self._days or self._rest:
            local = (local.astimezone(UTC) + self._rest).astimezone(local.tzinfo)
        return local

    def __add__(self, other: object) -> Planned:
        """Return a later time; an earlier one if `other` is negative.

        Raises:
            SettingError: `other` is no duration, or too long.
        """
        return self._later(other, 1)

    __radd__ = __add__

    def __sub__(self, other: object) -> Planned:
        """Return an earlier time; errors as of `+`."""
        return self._later(other, -1)

    def __rsub__(self, other: object) -> NoReturn:
        """Refuse: a time cannot be subtracted from another value."""
        raise SettingError(f"PLANNED cannot be subtracted from {shown(other)}; {_REMEDY}")

    def _later(self, other: object, sign: int) -> Planned:
        if not issubclass(type(other), timedelta):
            raise SettingError(f"PLANNED is moved by a timedelta, not by {shown(other)}; {_REMEDY}")
        parts = (getattr(timedelta, name).__get__(other) for name in _PARTS)
        given = timedelta(*parts)  # exact, whatever its class makes of that
        if given < _NONE:
            given, sign = -given, -sign
        days, rest = divmod(given, _DAY)
        moved = Planned(self._days + sign * days, self._rest + sign * rest)
        seconds = max(abs(moved._days * _DAY), abs(moved._rest)).total_seconds()
        if seconds > SECONDS_MAX:
            raise SettingError(f"the timedelta of PLANNED {too_long(seconds)}")
        return moved

    def __str__(self) -> str:
        """Refuse: there is no time before the plan is due, so it cannot be part of a text.

        Raises:
            SettingError: Always.
        """
        raise SettingError(
            f"{self!r} is no time before its plan is due, so it cannot be part of a text; give it "
            "to a parameter by itself, params={'day': PLANNED}"
        )

    def __format__(self, spec: str) -> str:
        """Refuse, as `str()` does."""
        return str(self)

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse the attributes of a datetime, and say how to get a date or a text."""
        raise AttributeError(
            f"PLANNED has no {name!r}: the type of the parameter decides its form, a date gets the "
            "day, a datetime the time, a str ISO text"
        )

    def __repr__(self) -> str:
        """Return it as it is written."""
        told = "PLANNED"
        for shift in (self._days * _DAY, self._rest):
            if shift:
                sign = "-" if shift < _NONE else "+"
                told += f" {sign} {repr(abs(shift)).removeprefix('datetime.')}"
        return told


PLANNED: Final = Planned()
"""The time for which a plan starts its flow, as a value of `params` of `OAutom.plan`."""
