"""`SimulatedClock` by itself, and in an app."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from queue import SimpleQueue
from typing import Any

import pytest

from oautom import Context, EngineError, Execution, Flow, OAutom, PythonExecution, SettingError
from oautom.testing import SimulatedClock


def test_it_begins_with_the_year_2000_unless_told() -> None:
    assert SimulatedClock().now() == datetime(2000, 1, 1, tzinfo=UTC)
    assert SimulatedClock().monotonic() == 0

    summer = datetime(2026, 7, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert SimulatedClock(summer).now() == summer
    assert SimulatedClock(summer).now().tzinfo is UTC


@pytest.mark.parametrize("start", [datetime(2026, 1, 1), "2026-01-01", None])  # noqa: DTZ001
def test_it_begins_with_an_instant(start: Any) -> None:
    with pytest.raises(SettingError, match="start must be a datetime with a time zone"):
        SimulatedClock(start)


def test_what_is_to_come_comes_in_its_order_each_at_its_time() -> None:
    clock, heard = SimulatedClock(), []
    for seconds in (3, 1, 2):
        clock.call_later(seconds, lambda: heard.append(clock.monotonic()))
    clock.call_later(1, lambda: clock.call_later(0.5, lambda: heard.append(clock.monotonic())))
    clock.advance(2.5)

    assert heard == [1, 1.5, 2]
    assert clock.monotonic() == 2.5


def order_of(seed: int) -> str:
    clock, heard = SimulatedClock(seed=seed), []
    for name in "abcde":
        clock.call_later(1, partial(heard.append, name))
    clock.advance(1)
    return "".join(heard)


def test_what_comes_at_one_instant_comes_in_an_order_of_chance() -> None:
    assert [order_of(seed) for seed in range(20)] == [order_of(seed) for seed in range(20)]
    assert len({order_of(seed) for seed in range(20)}) > 10


def test_who_waits_is_there_at_once() -> None:
    clock, inbox = SimulatedClock(), SimpleQueue()
    clock.call_later(86_400, partial(inbox.put, "tomorrow"))

    assert clock.take(inbox, until=60) is None
    assert clock.monotonic() == 60
    assert clock.take(inbox, until=100_000) == "tomorrow"
    assert clock.monotonic() == 86_400
    assert clock.take(inbox, until=7) is None  # long ago
    assert clock.monotonic() == 86_400
    with pytest.raises(EngineError, match="nothing is to come on the simulated clock"):
        clock.take(inbox, until=None)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_time_goes_on_by_a_number_of_seconds(seconds: float) -> None:
    with pytest.raises(SettingError):
        SimulatedClock().advance(seconds)


# In an app


class Letter(Execution):
    """A step that is done on the third day."""

    poll_interval = 86_400.0

    def run(self, context: Context) -> list[int]:
        return [0]

    def check(self, context: Context) -> bool:
        context.output.append(1)
        return len(context.output) == 4


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


def test_a_wait_of_days_is_over_at_once(clock: SimulatedClock) -> None:
    with OAutom(executor="inline", clock=clock) as app:
        flow = Flow("flow", app)
        letter = Letter("letter", flow)
        vect = app.start(flow)

        with pytest.raises(TimeoutError, match="after 90000 seconds"):
            vect.wait(timeout=90_000)
        assert clock.monotonic() == 90_000
        assert vect.steps["letter"].state == "running"

        assert vect.wait() == "success"
        assert clock.monotonic() == 3 * 86_400
        assert vect.result(letter) == [0, 1, 1, 1]
        assert vect.steps["letter"].end_date == clock.now()


def test_somebody_may_cancel_on_the_second_day(clock: SimulatedClock) -> None:
    with OAutom(executor="inline", clock=clock) as app:
        flow = Flow("flow", app)
        Letter("letter", flow) >> PythonExecution("answer", flow, int)
        vect = app.start(flow)
        clock.call_later(1.5 * 86_400, partial(vect.cancel, "too slow"))

        assert vect.wait() == "cancelled"
        assert clock.monotonic() == 1.5 * 86_400
        assert vect.steps["answer"].error == "too slow"


class OnTheClock(Executor):
    """Does each piece of work an hour later, all side by side."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self.clock.call_later(3600, lambda: future.set_result(fn(*args, **kwargs)))
        return future


def test_an_executor_may_work_on_it_too(clock: SimulatedClock) -> None:
    with OAutom(executor=OnTheClock(clock), max_workers=2, clock=clock) as app:
        flow = Flow("flow", app)
        for name in "abcde":
            PythonExecution(name, flow, str.upper, [name])

        vect = app.run(flow)

    assert [vect.result(name) for name in "abcde"] == ["A", "B", "C", "D", "E"]
    assert clock.monotonic() == 3 * 3600
