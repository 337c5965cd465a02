"""Rates hold in each window, however the clock goes, and keep nobody waiting for nothing."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oautom.events import Event
from oautom.events.rates import Starts
from oautom.machine.state import Rate
from oautom.testing import assert_replays, check_history, simulate
from oautom.testing.strategies import durations, flows, outcomes

from .cases import moderate

DRAWN = flows(rates=True, retries=True, maps=True, max_steps=6, trigger_rules=True, asyncs=True)
START = datetime(2000, 1, 1, tzinfo=UTC)


def hold_windows(events: list[Event]) -> None:
    """Count the starts in the window before each start, by the options in the log."""
    options: dict[str, Any] = events[0].data.get("options", {})
    starts: defaultdict[str, list[datetime]] = defaultdict(list)
    for event in events:
        of_step = options.get((event.step or "").partition("[")[0], {})
        if event.name != "step.started" or "rate" not in of_step or "count" in event.data:
            continue
        pool, (most, seconds) = of_step["pool"][0], of_step["rate"]
        starts[pool].append(event.time)
        window = timedelta(seconds=seconds)
        assert sum(event.time - window < each for each in starts[pool]) <= most


@moderate
@given(
    data=st.data(),
    workers=st.sampled_from([1, 2, 100]),
    crash_at=st.lists(
        st.tuples(st.sampled_from(["before", "in", "after"]), st.integers(1, 12)), max_size=2
    ),
)
def test_rates_hold_in_simulations_of_drawn_flows(
    data: st.DataObject, workers: int, crash_at: list[Any]
) -> None:
    flow = data.draw(DRAWN)
    vect = simulate(
        flow,
        durations=data.draw(durations(flow)),
        outcomes=data.draw(outcomes(flow)),
        max_workers=workers,
        crash_at=crash_at,
    )
    events = vect.events()

    assert vect.state in ("success", "failed")
    hold_windows(events)
    check_history(events, flow, max_workers=workers)
    assert_replays(events, flow)


@moderate
@given(steps=st.lists(st.integers(-3, 5), max_size=30), most=st.integers(1, 3))
def test_starts_keep_a_rate_however_the_clock_is_set(steps: list[int], most: int) -> None:
    """Each window of the log has few enough starts, and no wait is longer than one window.

    Starts before the clock was set back are not in a window of the log: see `rates-hold`.
    """
    rate, starts, now = Rate("p", most, 4), Starts(), START
    told: list[datetime] = []
    for seconds in steps:
        now += timedelta(seconds=seconds)
        usage = starts.usage(rate, now)
        told = [each for each in told if each <= now]
        if usage.next is None:
            starts.add(rate, now)
            told = [each for each in told if now - timedelta(seconds=4) < each]  # for good
            told.append(now)
            assert sum(now - timedelta(seconds=4) < each for each in told) <= most
        else:
            assert now < usage.next <= now + timedelta(seconds=4)
            assert usage.starts >= most


@moderate
@given(times=st.lists(st.integers(-10, 100), max_size=12), most=st.integers(1, 3))
def test_starts_of_a_clock_that_was_ahead_cost_one_window_at_most(
    times: list[int], most: int
) -> None:
    rate = Rate("p", most, 4)
    starts = Starts(START + timedelta(seconds=each) for each in times)
    now = START

    for _ in range(100):  # each wait ends, and a burst never comes
        usage = starts.usage(rate, now)
        if usage.next is None:
            break
        now = usage.next
    assert now <= START + timedelta(seconds=4) or any(-4 < t <= 100 for t in times)
    assert now <= START + timedelta(seconds=108)
