"""`PLANNED`: the time of a plan, as a parameter of what it starts. Pure.

A time is moved as a person at the wall clock of the plan moves it: whole days are those of the
calendar, so the day before is the day before, also where a day has 23 hours; the rest is time that
passes.
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
    """The time for which a plan starts its flow, or one so long before or after it.

    Made by `PLANNED`, `PLANNED - timedelta(days=1)`, `PLANNED + timedelta(hours=6)`.

    Args:
        days: How many days of the calendar later.
        rest: How much time later than that; less than a day was said at once.
    """

    __slots__ = ("_days", "_rest")

    def __init__(self, days: int = 0, rest: timedelta = _NONE) -> None:
        self._days = days
        self._rest = rest

    def at(self, local: datetime, annotation: Any) -> object:
        """Return what a parameter of a type gets.

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

        A time of day that the clock skips is as long after the gap as it would be into it; of one
        that it has twice, it is the first.
        """
        if self._days:
            local = (local + self._days * _DAY).replace(fold=0)
        if self._days or self._rest:
            local = (local.astimezone(UTC) + self._rest).astimezone(local.tzinfo)
        return local

    def __add__(self, other: object) -> Planned:
        """Return a later time; an earlier one where `other` is negative.

        Raises:
            SettingError: `other` is no duration, or too long.
        """
        return self._later(other, 1)

    __radd__ = __add__

    def __sub__(self, other: object) -> Planned:
        """Return an earlier time; errors as of `+`."""
        return self._later(other, -1)

    def __rsub__(self, other: object) -> NoReturn:
        """Refuse: the time between two is none."""
        raise SettingError(f"PLANNED cannot be taken from {shown(other)}; {_REMEDY}")

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
            raise SettingError(f"what PLANNED is moved by {too_long(seconds)}")
        return moved

    def __str__(self) -> str:
        """Refuse: no time is there before the plan is due, so none can be part of a text.

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
        """Refuse what a datetime has, and say what gives it its form."""
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
