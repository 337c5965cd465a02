"""Time for the scheduler: the clock of the machine, and what is to come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from queue import SimpleQueue

import pytest

from oautom.engine.clock import SystemClock, Timers


class Incomparable:
    __lt__ = None  # type: ignore[assignment]


def test_what_is_due_comes_soonest_first_and_what_is_not_stays() -> None:
    timers: Timers[str] = Timers()
    for when, item in [(3.0, "third"), (1.0, "first"), (2.0, "second"), (9.0, "ninth")]:
        timers.add(when, item)

    assert timers.due(3.0) == ["first", "second", "third"]
    assert len(timers.heap) == 1
    assert timers.due(8.999) == []
    assert timers.due(9.0) == ["ninth"]
    assert not timers.heap


def test_what_is_due_at_the_same_instant_keeps_its_order() -> None:
    timers: Timers[int] = Timers()
    for item in range(100):
        timers.add(1.0, item)

    assert timers.due(1.0) == list(range(100))


def test_items_are_never_compared_with_each_other() -> None:
    timers: Timers[Incomparable] = Timers()
    items = [Incomparable() for _ in range(10)]
    for item in items:
        timers.add(1.0, item)

    assert timers.due(1.0) == items


def test_the_next_time_is_that_of_the_soonest() -> None:
    timers: Timers[str] = Timers()
    assert timers.next_time() is None

    timers.add(2.0, "second")
    timers.add(1.0, "first")

    assert timers.next_time() == 1.0
    timers.due(1.0)
    assert timers.next_time() == 2.0


def test_the_wall_clock_is_aware_and_in_utc() -> None:
    now = SystemClock().now()

    assert now.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - now) < timedelta(seconds=10)


def test_the_monotonic_clock_never_goes_back() -> None:
    clock = SystemClock()
    times = [clock.monotonic() for _ in range(1000)]

    assert times == sorted(times)


def test_what_is_in_the_inbox_is_taken_at_once_in_order() -> None:
    clock, inbox = SystemClock(), SimpleQueue[str]()
    inbox.put("first")
    inbox.put("second")

    assert clock.take(inbox, None) == "first"
    assert clock.take(inbox, clock.monotonic() - 1) == "second"


def test_when_the_time_is_up_there_is_nothing() -> None:
    clock = SystemClock()

    assert clock.take(SimpleQueue[str](), clock.monotonic() - 1) is None
    assert clock.take(SimpleQueue[str](), clock.monotonic()) is None


@pytest.mark.parametrize("seconds", [1e10, 1e300, float("inf")])
def test_a_time_too_far_away_for_the_system_is_waited_for_all_the_same(seconds: float) -> None:
    inbox = SimpleQueue[str]()
    inbox.put("before that")

    assert SystemClock().take(inbox, seconds) == "before that"
