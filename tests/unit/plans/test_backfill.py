"""The times of a plan in a range of the past."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from oautom import SettingError
from oautom.plans.backfill import TIMES_MAX, text_of, times_of
from oautom.plans.schedule import Cron, Interval, Schedule

PARIS = ZoneInfo("Europe/Paris")
DAILY = Cron("30 2 * * *", PARIS)
HOURLY = Interval(timedelta(hours=1), datetime(2026, 3, 27, 12, 17, tzinfo=UTC))


def told(schedule: Schedule, first: str, last: str) -> list[str]:
    return [f"{time:%d %H:%M}" for time in times_of(schedule, first, last)]


@pytest.mark.parametrize(
    ("schedule", "first", "last", "times"),
    [
        (DAILY, "2026-03-27", "2026-03-27", ["27 01:30"]),
        (DAILY, "2026-03-28", "2026-03-30", ["28 01:30", "29 01:00", "30 00:30"]),  # a gap
        (DAILY, "2026-03-29", "2026-03-29", ["29 01:00"]),
        (DAILY, "2026-03-29T02:30", "2026-03-29T04:00", []),  # in the gap, read as 3:30
        (DAILY, "2026-10-25", "2026-10-25", ["25 00:30"]),  # it comes twice
        (DAILY, "2026-03-27T02:30", "2026-03-28T02:30", ["27 01:30", "28 01:30"]),
        (DAILY, "2026-03-27T02:31", "2026-03-28T02:29", []),
        (DAILY, "2026-03-27T01:30Z", "2026-03-27T01:30+00:00", ["27 01:30"]),
        (HOURLY, "2026-03-27T10:00", "2026-03-27T12:17", ["27 10:17", "27 11:17", "27 12:17"]),
        (HOURLY, "2026-03-26T23:00+01:00", "2026-03-26T22:17Z", ["26 22:17"]),
    ],
)
def test_both_ends_are_included_and_read_by_the_clock_of_the_plan(
    schedule: Schedule, first: str, last: str, times: list[str]
) -> None:
    assert told(schedule, first, last) == times


@pytest.mark.parametrize(
    ("first", "last", "says"),
    [
        ("2026-03-28", "2026-03-27", "to is before from: 2026-03-27 is before 2026-03-28"),
        ("2026-03-28T01:00", "2026-03-28T00:59", "to is before from"),
        ("yesterday", "2026-03-27", "from must be a time or a day"),
        ("2026-03-27", "2026-02-30", "to must be a time or a day"),
        ("2026-03-27", "9999-12-31", "years 1000 to 9000"),
        ("", "2026-03-27", "from must be a time or a day"),
    ],
)
def test_what_is_no_range_is_refused(first: str, last: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        times_of(DAILY, first, last)


@pytest.mark.parametrize("moment", [None, 3, timedelta(1), b"2026-03-27", ["2026-03-27"]])
def test_what_is_no_moment_is_refused(moment: Any) -> None:
    with pytest.raises(SettingError, match="from must be a time or a day"):
        text_of(moment, "from")


def test_moments_of_any_kind_are_text() -> None:
    given = [date(2026, 1, 2), datetime(2026, 1, 2, 3), datetime(2026, 1, 2, tzinfo=UTC)]  # noqa: DTZ001 - naive
    assert [text_of(each, "from") for each in given] == [
        *("2026-01-02", "2026-01-02T03:00:00", "2026-01-02T00:00:00+00:00"),
    ]


def test_a_huge_range_is_refused_and_told_where_to_cut_it() -> None:
    first, last = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    with pytest.raises(SettingError, match=f"more than {TIMES_MAX} times") as raised:
        times_of(HOURLY, first.isoformat(), last.isoformat())
    end = str(raised.value).rpartition(" end at ")[2]
    assert len(times_of(HOURLY, first.isoformat(), end)) == TIMES_MAX
