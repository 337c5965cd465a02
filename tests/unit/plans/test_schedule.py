"""When a plan is due: intervals and cron expressions, without any clock."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oautom import SettingError
from oautom.machine.event import instant_of, stamp
from oautom.plans.schedule import Cron, Interval, Schedule, interval_of

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
PARIS = ZoneInfo("Europe/Paris")

instants = st.datetimes(datetime(1980, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
ZONES = ["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
CRONS = ["* * * * *", "*/7 3 * * *", "30 2 * * *", "15,45 1,2 * * *", "0 */6 * * 1-5", "0 0 L * *"]


def first_times(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    times = []
    for _ in range(count):
        after = schedule.next_time(after)
        times.append(after)
    return times


def test_an_interval_counts_from_its_anchor() -> None:
    schedule = Interval(timedelta(minutes=20)).anchored(NOON + timedelta(minutes=7))

    assert schedule.next_time(NOON) == NOON + timedelta(minutes=7)
    assert schedule.next_time(NOON + timedelta(minutes=7)) == NOON + timedelta(minutes=27)
    assert schedule.next_time(NOON - timedelta(minutes=14)) == NOON - timedelta(minutes=13)


def test_an_interval_is_time_that_passes_also_over_a_clock_change() -> None:
    before = datetime(2026, 3, 28, 12, tzinfo=PARIS)  # the next night has an hour less
    (time,) = first_times(Interval(timedelta(days=1), before), before, 1)

    assert time.astimezone(PARIS).hour == 13


@given(st.timedeltas(timedelta(milliseconds=1), timedelta(days=9)), instants, instants)
def test_the_times_of_an_interval_are_as_far_from_each_other_as_it_says(
    every: timedelta, anchor: datetime, after: datetime
) -> None:
    schedule = Interval(every, anchor)
    first, second, third = first_times(schedule, after, 3)

    assert after < first <= after + every
    assert second - first == third - second == every
    assert Interval(every, third).next_time(after) == first  # whichever time it is anchored to


@given(st.sampled_from(CRONS), st.sampled_from(ZONES), instants)
@example("45 2 * * *", "Europe/Paris", datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
def test_the_next_time_of_a_cron_comes_after_the_instant_whatever_the_clock_does(
    expression: str, zone: str, after: datetime
) -> None:
    schedule = Cron(expression, ZoneInfo(zone))
    times = [after, *first_times(schedule, after, 5)]

    assert all(first < second for first, second in pairwise(times))
    assert schedule.next_time(times[1] - timedelta(microseconds=1)) == times[1]


def test_a_cron_goes_by_the_wall_clock_of_its_zone() -> None:
    schedule = Cron("0 3 * * *", PARIS)

    assert schedule.next_time(NOON) == datetime(2026, 11, 25, 2, tzinfo=UTC)
    assert schedule.anchored(NOON) is schedule
    assert repr(schedule) == "'0 3 * * *' in Europe/Paris"


def test_a_time_of_day_that_the_clock_skips_comes_right_after_the_gap() -> None:
    schedule = Cron("30 2 * * *", PARIS)
    times = first_times(schedule, datetime(2026, 3, 28, 12, tzinfo=UTC), 2)

    assert times == [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 3, 30, 0, 30, tzinfo=UTC)]


def test_a_time_of_day_that_the_clock_has_twice_comes_once() -> None:
    schedule = Cron("30 2 * * *", PARIS)
    times = first_times(schedule, datetime(2026, 10, 24, 12, tzinfo=UTC), 2)

    assert times == [
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        datetime(2026, 10, 26, 1, 30, tzinfo=UTC),
    ]


@pytest.mark.parametrize("expression", [None, 5, "", "* * * *", "* * * * * *", "0 0 1 * * 0 2070"])
def test_what_has_not_five_fields_is_no_cron_expression(expression: Any) -> None:
    with pytest.raises(SettingError, match="is no cron expression; it has five fields: minute, ho"):
        Cron(expression)


@given(st.text("0123456789*/-,#LWANMON \t٣", max_size=14), st.integers(0, 4))
def test_whatever_text_is_given_is_a_cron_expression_or_refused(text: str, place: int) -> None:
    fields = ["*"] * 5
    fields[place] = text
    with suppress(SettingError):
        assert Cron(" ".join(fields)).next_time(NOON) > NOON


def test_a_day_that_never_comes_is_refused() -> None:
    with pytest.raises(SettingError, match="bad day-of-month"):
        Cron("0 0 30 2 *")


def test_days_that_never_come_together_are_refused() -> None:
    with pytest.raises(SettingError, match="never comes; there is no such day"):
        Cron("0 0 */31 * MON#2")  # both, since one begins with a star: a second Monday on a first


def test_an_interval_may_be_of_several_units() -> None:
    made = interval_of({"days": 1, "hours": 0.5, "seconds": 0})

    assert made is not None
    assert made.every == timedelta(days=1, minutes=30)
    assert repr(made) == "every 1 day, 0:30:00"
    assert interval_of({"days": 0, "hours": 0.0}) is None


@pytest.mark.parametrize("amount", [-1, "1", None, True, float("nan"), float("inf"), timedelta(1)])
def test_what_is_no_amount_of_time_is_refused(amount: Any) -> None:
    with pytest.raises(SettingError, match=r"^hours must be a number, from 0, not "):
        interval_of({"hours": amount})


@pytest.mark.parametrize("units", [{"seconds": 1e-4}, {"days": 36_526}, {"days": 1e300}])
def test_an_interval_that_is_too_short_or_too_long_is_refused(units: dict[str, float]) -> None:
    with pytest.raises(
        SettingError, match=r"from a millisecond to 36525 days, not (days|seconds)="
    ):
        interval_of(units)


def test_a_time_is_written_in_utc_and_read_again() -> None:
    east = datetime(2026, 11, 24, 3, 0, 0, 500, tzinfo=timezone(timedelta(hours=1)))

    assert stamp(NOON) == "2026-11-24T12:00:00Z"
    assert instant_of(stamp(east)) == east


@pytest.mark.parametrize("text", [None, 3, "", "noon", "2026-11-24", "2026-11-24T12:00:00+00:00"])
def test_what_is_no_written_time_is_none(text: object) -> None:
    assert instant_of(text) is None
