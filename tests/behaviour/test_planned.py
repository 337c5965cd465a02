"""`PLANNED`: the time for which a plan starts its flow, or one before or after it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    PLANNED,
    Context,
    Flow,
    OAutom,
    ParamError,
    PythonExecution,
    SettingError,
)
from oautom.testing import SimulatedClock, check_history
from oautom.values.annotations import shown_type

from .conftest import NewApp

DAY = 86_400.0
START = datetime(2000, 1, 1, tzinfo=UTC)
DAY_BEFORE = PLANNED - timedelta(days=1)


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START)


@pytest.fixture
def app(new_app: NewApp, clock: SimulatedClock) -> OAutom:
    return new_app(executor="inline", clock=clock)


def serve(app: OAutom, clock: SimulatedClock, seconds: float) -> None:
    clock.call_later(seconds, app.stop)
    app.run()


def etl_of(app: OAutom, params: dict[str, Any]) -> Flow:
    """Declare a flow of one step that returns its parameters."""
    flow = Flow("etl", app, params=params)

    def give(context: Context) -> dict[str, str]:
        return {name: str(value) for name, value in context.params.items()}

    PythonExecution("give", flow, give)
    return flow


def given(app: OAutom) -> list[dict[str, Any]]:
    """Return the parameters of all Vects, as their steps had them."""
    return [vect.result("give") for vect in app.vects()]


def test_the_type_of_a_parameter_decides_what_the_time_of_a_plan_is(
    app: OAutom, clock: SimulatedClock
) -> None:
    """By the clock of the plan; `...` is the same as `PLANNED`."""
    types = {"day": date, "at": datetime, "text": str, "may": date | None, "any": Any}
    flow = etl_of(app, {**types, "either": date | None, "limit": int})
    params: dict[str, Any] = dict.fromkeys([*types, "either"], PLANNED) | {"limit": 3}
    app.plan(flow, cron="30 0 * * *", timezone="Asia/Tokyo", params=params)
    app.plan(
        flow,
        name="other",
        cron="45 0 * * *",
        timezone="Asia/Tokyo",
        params={name: ... if value is PLANNED else value for name, value in params.items()},
    )
    serve(app, clock, DAY)

    wanted = {"day": "2000-01-02", "may": "2000-01-02", "either": "2000-01-02", "limit": "3"}
    text = {"text": "2000-01-02T00:30:00+09:00", "any": "2000-01-02T00:30:00+09:00"}
    told, of_dots = given(app)
    assert told == wanted | text | {"at": "2000-01-02 00:30:00+09:00"}
    assert of_dots == {name: value.replace("00:30", "00:45") for name, value in told.items()}
    check_history(app.log.read(), flow)


@pytest.mark.parametrize(
    ("shifted", "text"),
    [
        (DAY_BEFORE, "2000-01-01T00:30:00+09:00"),
        (PLANNED - timedelta(hours=1), "2000-01-01T23:30:00+09:00"),
        (PLANNED + timedelta(days=30), "2000-02-01T00:30:00+09:00"),
        (timedelta(minutes=15) + PLANNED, "2000-01-02T00:45:00+09:00"),
        (PLANNED - timedelta(days=-1), "2000-01-03T00:30:00+09:00"),
        (DAY_BEFORE + timedelta(days=1), "2000-01-02T00:30:00+09:00"),
        (DAY_BEFORE - timedelta(days=1, hours=2), "1999-12-30T22:30:00+09:00"),
        (PLANNED - timedelta(microseconds=1), "2000-01-02T00:29:59.999999+09:00"),
    ],
    ids=repr,
)
def test_a_time_before_or_after_that_of_a_plan(
    app: OAutom, clock: SimulatedClock, shifted: Any, text: str
) -> None:
    etl_of(app, {"at": str, "day": date})
    params = {"at": shifted, "day": shifted}
    app.plan("etl", cron="30 0 * * *", timezone="Asia/Tokyo", params=params)
    serve(app, clock, DAY)

    assert given(app) == [{"at": text, "day": text[:10]}]


@pytest.mark.parametrize(
    ("start", "cron", "shift", "wanted"),
    [
        # 2:00 is 3:00 on 2026-03-29, and 3:00 is 2:00 on 2026-10-25
        ((3, 27), "30 0 * * *", -timedelta(days=1), ["27T00:30+01", "28T00:30+01", "29T00:30+01"]),
        ((3, 28), "30 0 * * *", -timedelta(days=1), ["28T00:30+01", "29T00:30+01", "30T00:30+02"]),
        ((10, 24), "30 0 * * *", -timedelta(days=1), ["24T00:30+02", "25T00:30+02", "26T00:30+01"]),
        ((3, 28), "30 3 * * *", -timedelta(hours=2), ["29T00:30+01", "30T01:30+02", "31T01:30+02"]),
        (
            (10, 24),
            "30 3 * * *",
            -timedelta(hours=2),
            ["25T02:30+02", "26T01:30+01", "27T01:30+01"],
        ),
        # a time of day that is not there comes after the gap, one that is there twice is the first
        ((3, 27), "30 2 * * *", timedelta(days=1), ["29T03:30+02", "30T03:00+02", "31T02:30+02"]),
        ((10, 23), "30 2 * * *", timedelta(days=1), ["25T02:30+02", "26T02:30+01", "27T02:30+01"]),
        # less than a day is time that passes, also on a day of 23 hours
        ((3, 28), "0 0 * * *", -timedelta(hours=23), ["28T01:00+01", "29T00:00+01", "30T01:00+02"]),
    ],
)
def test_days_are_those_of_the_calendar_and_the_rest_is_time_that_passes(
    new_app: NewApp, start: tuple[int, int], cron: str, shift: timedelta, wanted: list[str]
) -> None:
    clock = SimulatedClock(datetime(2026, *start, 12, tzinfo=UTC))
    app = new_app(executor="inline", clock=clock)
    etl_of(app, {"at": str})
    app.plan("etl", cron=cron, timezone="Europe/Paris", params={"at": PLANNED + shift})
    serve(app, clock, 3 * DAY)

    assert [f"{at[8:16]}{at[19:22]}" for at in (each["at"] for each in given(app))] == wanted


def test_a_day_back_and_an_hour_on_are_done_one_after_the_other(new_app: NewApp) -> None:
    """On the day after the clock has gone on by an hour: 23 hours before would be another time."""
    clock = SimulatedClock(datetime(2026, 3, 29, 12, tzinfo=UTC))
    app = new_app(executor="inline", clock=clock)
    etl_of(app, {"at": str})
    params = {"at": DAY_BEFORE + timedelta(hours=1)}
    app.plan("etl", cron="0 0 * * *", timezone="Europe/Paris", params=params)
    serve(app, clock, DAY)

    assert given(app) == [{"at": "2026-03-29T01:00:00+01:00"}]


def test_each_time_that_is_caught_up_is_its_own_in_this_life_and_the_next(
    new_app: NewApp, clock: SimulatedClock, tmp_path: Path
) -> None:
    def planned() -> OAutom:
        app = new_app(executor="inline", clock=clock, log=tmp_path / "runs.db")
        etl_of(app, {"day": date, "at": datetime})
        params = {"day": DAY_BEFORE, "at": PLANNED}
        app.plan("etl", cron="0 6 * * *", catch_up=True, params=params)
        return app

    app = planned()
    serve(app, clock, 1.5 * DAY)
    app.close()
    clock.advance(3 * DAY)
    app = planned()
    serve(app, clock, 60)

    assert [each["day"] for each in given(app)] == [
        *("1999-12-31", "2000-01-01", "2000-01-02", "2000-01-03", "2000-01-04")
    ]
    for vect in app.vects():
        at = vect.result("give")["at"]
        assert vect.id == f"etl@{at.replace(' ', 'T').replace('+00:00', 'Z')}"


@pytest.mark.parametrize("wrong", [1, 1.5, "1", None, PLANNED, datetime(2000, 1, 1)])  # noqa: DTZ001
@pytest.mark.parametrize(
    "moved",
    [lambda x: PLANNED + x, lambda x: x + PLANNED, lambda x: PLANNED - x, lambda x: x - PLANNED],
    ids=["+", "after +", "-", "after -"],
)
def test_planned_is_moved_by_nothing_but_a_duration(moved: Any, wrong: Any) -> None:
    with pytest.raises(SettingError, match=r"PLANNED .*; write PLANNED - timedelta\(days=1\)"):
        moved(wrong)


def test_planned_is_moved_by_a_hundred_years_at_the_most() -> None:
    with pytest.raises(SettingError, match="the timedelta of PLANNED may be at most 3155760000 "):
        PLANNED + timedelta(days=36_526)
    with pytest.raises(SettingError, match="the timedelta of PLANNED may be at most 3155760000 "):
        PLANNED - timedelta(days=36_525) - timedelta(days=1)


def test_planned_is_no_time_yet() -> None:
    with pytest.raises(SettingError, match="is no time before its plan is due, so it cannot be "):
        f"day {PLANNED}"
    with pytest.raises(SettingError, match=r"^PLANNED - timedelta\(days=1\) is no time before its"):
        str(DAY_BEFORE)
    with pytest.raises(AttributeError, match="PLANNED has no 'date': the type of the parameter "):
        _ = PLANNED.date


@pytest.mark.parametrize("value", [PLANNED, ..., DAY_BEFORE], ids=["PLANNED", "...", "shifted"])
@pytest.mark.parametrize("kind", [int, bool, list[date], dict, float, tuple[datetime, datetime]])
def test_a_parameter_that_can_be_no_time_is_refused_at_once(
    app: OAutom, kind: Any, value: Any
) -> None:
    told = "PLANNED" if value is ... else repr(value)
    flow = Flow("etl", app, params={"day": kind, "limit": int})
    with pytest.raises(ParamError) as caught:
        app.plan(flow, hours=1, params={"day": value, "limit": 3})

    assert (
        f"flow 'etl': parameter 'day' is {shown_type(kind)}, and cannot be {told}: the time of"
        in (str(caught.value))
    )
    assert caught.value.param == "day"
    assert app.plan(flow, hours=1, name="etl", params={"day": NO_TIMES[kind], "limit": 3})


NO_TIMES = {int: 1, bool: True, list[date]: [], dict: {}, float: 1.0}
NO_TIMES[tuple[datetime, datetime]] = [START, START]


@pytest.mark.parametrize("value", [[PLANNED], {"day": DAY_BEFORE}], ids=["list", "dict"])
@pytest.mark.parametrize("kind", [Any, list[Any], dict[str, Any]], ids=str)
def test_planned_stands_for_a_whole_parameter_only(app: OAutom, kind: Any, value: Any) -> None:
    flow = Flow("etl", app, params={"day": kind})
    with pytest.raises(ParamError, match="parameter 'day' must be "):
        app.plan(flow, hours=1, params={"day": value})


def test_planned_has_no_meaning_where_no_plan_is(app: OAutom) -> None:
    flow = Flow("etl", app, params={"day": date, "any": Any})
    with pytest.raises(ParamError, match="parameter 'day' must be date, not PLANNED: "):
        app.start(flow, {"day": PLANNED, "any": 1})
    with pytest.raises(ParamError, match="parameter 'any' must be "):
        app.start(flow, {"day": "2000-01-01", "any": PLANNED})
