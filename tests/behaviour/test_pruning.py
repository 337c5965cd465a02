"""Vects that ended some time ago are taken out of the log, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    Flow,
    InvariantError,
    MemoryEventLog,
    OAutom,
    PythonExecution,
    SettingError,
    SqliteEventLog,
    UnknownVectError,
)
from oautom.testing import SimulatedClock, check_history, violations

A_DAY = 86_400.0


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    log = MemoryEventLog() if request.param == "memory" else SqliteEventLog(tmp_path / "runs.db")
    yield log
    log.close()


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))


def declare(app: OAutom) -> Flow:
    flow = Flow("flow", app, max_active_vects=9)
    PythonExecution("one", flow, str, [1]) >> PythonExecution("two", flow, str, [2])
    return flow


def run_one_a_day(app: OAutom, clock: SimulatedClock, days: int = 4) -> Flow:
    flow = declare(app)
    for day in range(1, days + 1):
        app.run(flow, vect_id=f"day {day}")
        clock.advance(A_DAY)
    return flow


def test_what_is_older_goes_and_the_rest_stays(log: Any, clock: SimulatedClock) -> None:
    with OAutom(log=log, executor="inline", clock=clock) as app:
        flow = run_one_a_day(app, clock)
        last_seq = log.last_seq
        gone = app.prune(older_than=timedelta(days=2))

        assert [(vect.id, vect.state, vect.events) for vect in gone] == [
            ("day 1", "success", 7),
            ("day 2", "success", 7),
        ]
        assert [vect.id for vect in app.vects()] == ["day 3", "day 4"]
        assert {event.vect for event in log.read()} == {"day 3", "day 4"}
        assert log.gaps() == [(1, 14)]
        check_history(log.read(), flow, max_workers=1, gaps=log.gaps())
        with pytest.raises(InvariantError, match="seq-is-dense"):
            check_history(log.read())
        assert app.run(flow, vect_id="day 5").events()[0].seq == last_seq + 1


def test_an_instant_will_do_as_well(log: Any, clock: SimulatedClock) -> None:
    with OAutom(log=log, executor="inline", clock=clock) as app:
        run_one_a_day(app, clock)
        gone = app.prune(older_than=datetime(2026, 1, 2, tzinfo=UTC))

        assert [vect.id for vect in gone] == ["day 1"]
        assert app.prune(older_than=datetime(2026, 1, 2, tzinfo=UTC)) == []


def test_an_id_that_was_pruned_is_not_run_again(log: Any, clock: SimulatedClock) -> None:
    with OAutom(log=log, executor="inline", clock=clock) as app:
        flow = run_one_a_day(app, clock)
        app.prune(older_than=timedelta(days=2))
        for ask in (lambda: app.start(flow, vect_id="day 1"), lambda: app.vect("day 1")):
            with pytest.raises(UnknownVectError) as raised:
                ask()
            assert str(raised.value) == (
                "vect 'day 1' of flow 'flow' ended as 'success' and was pruned from the log; "
                "start a new one under another vect_id"
            )


def test_what_is_open_is_never_taken_out(log: Any, clock: SimulatedClock) -> None:
    with OAutom(log=log, executor="inline", clock=clock) as app:
        flow = declare(app)
        vect = app.start(flow, vect_id="open")
        clock.advance(100 * A_DAY)

        assert app.prune(older_than=timedelta(days=1)) == []
        assert vect.wait() == "success"


def test_the_next_life_knows_what_was_pruned(tmp_path: Path, clock: SimulatedClock) -> None:
    path = tmp_path / "runs.db"
    with OAutom(log=path, executor="inline", clock=clock) as app:
        run_one_a_day(app, clock)
        app.prune(older_than=timedelta(days=2))
    with OAutom(log=path, executor="inline", clock=clock) as app:
        flow = declare(app)
        assert [vect.id for vect in app.vects()] == ["day 3", "day 4"]
        assert app.vect("day 3").result("two") == "2"
        with pytest.raises(UnknownVectError, match="was pruned"):
            app.start(flow, vect_id="day 2")
        assert [vect.id for vect in app.prune(older_than=timedelta(0))] == ["day 3", "day 4"]
        assert app.vects() == []


def test_a_gap_that_is_none_of_the_pruned_is_still_one(log: Any, clock: SimulatedClock) -> None:
    with OAutom(log=log, executor="inline", clock=clock) as app:
        run_one_a_day(app, clock)
        app.prune(older_than=timedelta(days=2))
        events = [event for event in log.read() if event.seq != 20]

        found = violations(events, gaps=log.gaps())
        assert next((error.invariant, error.seq) for error in found) == ("seq-is-dense", 21)


def test_what_waited_for_the_worker_of_a_pruned_vect_is_no_violation(
    log: Any, clock: SimulatedClock
) -> None:
    with OAutom(log=log, executor="inline", clock=clock) as app:
        flow = declare(app)
        first, second = (app.start(flow, vect_id=name) for name in ("first", "second"))
        first.wait()
        clock.advance(A_DAY)
        second.wait()
        app.prune(older_than=timedelta(seconds=1))

        assert [vect.id for vect in app.vects()] == ["second"]
        check_history(log.read(), max_workers=1, gaps=log.gaps())


def test_memory_is_given_back(log: Any, clock: SimulatedClock) -> None:
    with OAutom(log=log, executor="inline", clock=clock) as app:
        run_one_a_day(app, clock)
        app.prune(older_than=timedelta(days=1))

        assert list(app._engine._scheduler.registry.runs) == ["day 4"]


@pytest.mark.parametrize("wrong", [timedelta.max, timedelta.min])
def test_an_age_that_leads_to_no_date_is_refused(wrong: timedelta) -> None:
    with OAutom() as app, pytest.raises(SettingError, match="older_than must lead to a date, and"):
        app.prune(older_than=wrong)


@pytest.mark.parametrize("wrong", [3, "yesterday", None, datetime(2026, 1, 1)])  # noqa: DTZ001
def test_what_is_no_instant_is_refused(wrong: Any) -> None:
    with OAutom() as app, pytest.raises(SettingError, match="older_than must be a "):
        app.prune(older_than=wrong)


def test_a_vect_is_found_as_long_as_the_log_has_it(
    log: Any, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OAutom(log=log, executor="inline", clock=clock) as app:
        run_one_a_day(app, clock)
        before, found, prune = app.vects(), list[list[Any]](), log.prune

        def look(*args: Any, **options: Any) -> Any:
            found.append([app.vects(), [app.vect(vect.id) for vect in before]])
            return prune(*args, **options)

        monkeypatch.setattr(log, "prune", look)
        app.prune(older_than=timedelta(days=2))

        assert found == [[before, before]]
        assert app.vects() == before[2:]
