"""What `PLANNED` comes to: a pure function of the time, the shifts and the type."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from oautom import PLANNED

EPOCH = datetime(1990, 1, 1, tzinfo=UTC)
NEAR = [timedelta(minutes=minutes) for minutes in (0, 30, 60, 24 * 60)]
"""How far a clock is set on at once: in Samoa, by a day."""


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 100 * 365 * 86_400).map(lambda seconds: EPOCH + timedelta(seconds=seconds)),
    st.sampled_from(["Europe/Paris", "Australia/Lord_Howe", "Pacific/Apia", "UTC"]),
    st.lists(st.timedeltas(timedelta(days=-400), timedelta(days=400)), max_size=3),
)
def test_a_moved_time_is_a_time_of_the_calendar(
    time: datetime, zone: str, shifts: list[timedelta]
) -> None:
    """Whole days leave the time of day alone, but where the clock has no such time."""
    local = time.astimezone(ZoneInfo(zone))
    moved, days = PLANNED, 0
    for shift in shifts:
        moved += shift
        days += abs(shift).days * (-1 if shift < timedelta(0) else 1)
    whole = PLANNED + timedelta(days=days)
    then = whole.at(local, datetime)
    assert isinstance(then, datetime)
    wanted = local.replace(tzinfo=None) + timedelta(days=days)
    assert abs(then.replace(tzinfo=None) - wanted) in NEAR
    assert whole.at(local, date) == then.date()
    assert whole.at(local, str) == then.isoformat()
    rest = sum((shift for shift in shifts), timedelta(0)) - timedelta(days=days)
    assert moved.at(local, datetime) == then.astimezone(UTC) + rest
