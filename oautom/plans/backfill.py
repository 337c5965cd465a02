"""The times of a plan in a range of the past. Pure.

The engine fills them, and a client tells which there are: both ask here.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final

from oautom.errors import SettingError, shown
from oautom.plans.schedule import Schedule
from oautom.values.json import plain_count

TIMES_MAX: Final = 1000
"""How many times a range may have."""

YEAR_MIN: Final = 1000
YEAR_MAX: Final = 9000
"""The first and the last year: other times may be beyond any datetime, by another clock."""
_TICK: Final = timedelta(microseconds=1)

Moment = datetime | date | str
"""One end of a range: a time, or a day; as text in ISO form."""


def zone_of(schedule: Schedule) -> tzinfo:
    """Return the time zone by whose clock a range of a schedule is read."""
    zone: tzinfo = getattr(schedule, "zone", UTC)
    return zone


def text_of(moment: object, what: str) -> str:
    """Return one end of a range as text, which other processes read.

    Raises:
        SettingError: It is no time, no day, and no text of one.
    """
    given = _parsed(moment) if isinstance(moment, str) else moment
    if not isinstance(given, date) or not YEAR_MIN <= given.year <= YEAR_MAX:
        raise SettingError(
            f"{what} must be a time or a day of the years {YEAR_MIN} to {YEAR_MAX}, such as "
            f"2026-11-24, 2026-11-24T03:00, or with a zone 2026-11-24T03:00Z, not {shown(moment)}"
        )
    return given.isoformat()


def parallel_of(parallel: object, flow: str) -> int | None:
    """Return how many Vects of a backfill are open at once; None for no limit.

    Raises:
        SettingError: It is no such number.
    """
    most = plain_count(parallel)
    if parallel is not None and most is None:
        raise SettingError(
            f"parallel must be a positive int, or None, not {shown(parallel)}", flow=flow
        )
    return most


def _parsed(text: str) -> datetime | date | None:
    for kind in (date, datetime):
        try:
            return kind.fromisoformat(text)
        except ValueError:
            continue
    return None


def times_of(schedule: Schedule, first: str, last: str) -> list[datetime]:
    """Return the times of a schedule from one moment to another, both included.

    Args:
        schedule: The schedule.
        first: The beginning, as `text_of` returns it. A day begins at midnight, and a time without
            a zone is one by the clock of the schedule.
        last: The end. A day ends with its last moment.

    Raises:
        SettingError: They are no moments, the end is before the beginning, or there are more than
            `TIMES_MAX` times.
    """
    zone = zone_of(schedule)
    begin, end = _begin(text_of(first, "from"), zone), _end(text_of(last, "to"), zone)
    if end < begin:
        raise SettingError(f"to is before from: {last} is before {first}")
    found: list[datetime] = []
    time = schedule.next_time(begin - _TICK)
    while time <= end:
        if len(found) == TIMES_MAX:
            raise SettingError(
                f"from {first} to {last} there are more than {TIMES_MAX} times of the plan; choose "
                f"a shorter range: the first {TIMES_MAX} end at {found[-1].isoformat()}"
            )
        found.append(time)
        time = schedule.next_time(time)
    return found


def _begin(text: str, zone: tzinfo) -> datetime:
    given = _parsed(text)
    if not isinstance(given, datetime):
        assert given is not None, "it was checked"
        given = datetime(given.year, given.month, given.day)  # noqa: DTZ001 - see below
    return (given if given.tzinfo is not None else given.replace(tzinfo=zone)).astimezone(UTC)


def _end(text: str, zone: tzinfo) -> datetime:
    given = _parsed(text)
    if isinstance(given, datetime) or given is None:
        return _begin(text, zone)
    return _begin((given + timedelta(days=1)).isoformat(), zone) - _TICK
