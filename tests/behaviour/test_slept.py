"""What waits for a time goes on by the clock on the wall, also where the machine has slept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from oautom import ApprovalExecution, Flow, OAutom, PythonExecution, RetryPolicy, WaitExecution
from oautom.testing import SimulatedClock, check_history

HOUR = 3600.0


class SleepingClock(SimulatedClock):
    """A clock of a machine that sleeps: timers stand still meanwhile, and the wall clock goes on.

    Attributes:
        takes: How often the scheduler has waited.
    """

    offset = timedelta(0)
    takes = 0

    def now(self) -> Any:
        return super().now() + self.offset

    def sleep(self, seconds: float) -> None:
        self.offset += timedelta(seconds=seconds)

    def take(self, inbox: Any, until: float | None) -> Any:
        self.takes += 1
        return super().take(inbox, until)


def fails_once(attempts: list[int]) -> None:
    attempts.append(1)
    if len(attempts) == 1:
        raise ValueError("not yet")


def declare(flow: Flow, kind: str, clock: SleepingClock) -> None:
    match kind:
        case "until":
            WaitExecution("w", flow, until=clock.now() + timedelta(hours=15))
        case "delay":
            WaitExecution("w", flow, seconds=15 * HOUR)
        case "approval":
            ApprovalExecution("w", flow, "?", timeout=15 * HOUR)
        case "retry":
            policy = RetryPolicy(max_attempts=2, delay=15 * HOUR)
            PythonExecution("w", flow, fails_once, [[]], retry=policy)


KINDS = ["until", "delay", "approval", "retry"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_durable", [False, True], ids=["memory", "file"])
def test_what_waits_goes_on_within_a_minute_of_its_time(
    tmp_path: Path, kind: str, is_durable: bool
) -> None:
    clock = SleepingClock()
    log = tmp_path / "log.db" if is_durable else None
    with OAutom(log=log, clock=clock, executor="inline") as app:
        flow = Flow("flow", app)
        declare(flow, kind, clock)
        begun, timed = clock.now(), clock.monotonic()
        clock.call_later(HOUR, lambda: clock.sleep(10 * HOUR))
        vect = app.run(flow)

        assert vect.state == ("failed" if kind == "approval" else "success")
        assert 15 * HOUR <= (clock.now() - begun).total_seconds() <= 15 * HOUR + 60
        assert clock.monotonic() - timed <= 5 * HOUR + 60
        check_history(app.log.read())


def test_one_that_sleeps_past_the_time_goes_on_a_minute_after_it_wakes() -> None:
    clock = SleepingClock()
    with OAutom(clock=clock, executor="inline") as app:
        flow = Flow("flow", app)
        declare(flow, "until", clock)
        clock.call_later(HOUR, lambda: clock.sleep(99 * HOUR))
        assert app.run(flow).state == "success"
        assert clock.monotonic() <= HOUR + 60


@pytest.mark.parametrize(
    ("make", "most"), [(SleepingClock, 15 * 60 + 20), (SimulatedClock, 20)], ids=["slept", "steady"]
)
def test_it_is_looked_once_a_minute_where_the_clocks_can_come_apart(
    make: Callable[[], Any], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    original = SimulatedClock.take

    def take(self: Any, inbox: Any, until: float | None) -> Any:
        looks.append(self.monotonic())
        return original(self, inbox, until)

    monkeypatch.setattr(SimulatedClock, "take", take)
    clock = make()
    with OAutom(clock=clock, executor="inline") as app:
        flow = Flow("flow", app)
        declare(flow, "delay", clock)
        assert app.run(flow).state == "success"
    assert len(looks) <= most
    assert (len(looks) > 15 * 59) == (make is SleepingClock)


def test_a_clock_that_is_set_back_does_not_hold_up_a_delay() -> None:
    clock = SleepingClock()
    with OAutom(clock=clock, executor="inline") as app:
        flow = Flow("flow", app)
        declare(flow, "delay", clock)
        clock.call_later(HOUR, lambda: clock.sleep(-10 * HOUR))
        assert app.run(flow).state == "success"
        assert 15 * HOUR <= clock.monotonic() <= 15 * HOUR + 60
