"""Times of a plan that have no Vect are filled: each once, in order, so many at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    PLANNED,
    ApprovalExecution,
    Client,
    EngineError,
    Flow,
    NoEngineError,
    OAutom,
    OAutomMode,
    ParamError,
    PythonExecution,
    SettingError,
    UnknownFlowError,
    UnknownPlanError,
    Vect,
    VectAlreadyRunningException,
    WaitExecution,
)
from oautom.engine.messages import Asked
from oautom.events import signals
from oautom.testing import SimulatedClock, assert_replays, check_history
from tests.held import until

from .conftest import SECONDS

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAYS = ("2026-11-10", "2026-11-14")
IDS = [f"etl@2026-11-{day}T03:00:00Z" for day in range(10, 15)]


class MostOpen:
    """Counts how many Vects of a flow are open at once."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.most = 0

    def hear(self, _: object, *, event: Any, **__: object) -> None:
        if event.name == "vect.started":
            self.open.add(event.vect)
        elif event.step is None and event.dest in ("success", "failed", "cancelled"):
            self.open.discard(event.vect)
        self.most = max(self.most, len(self.open))


@pytest.fixture
def most_open() -> Iterator[MostOpen]:
    counted = MostOpen()
    signals.event.connect(counted.hear, weak=False)
    yield counted
    signals.event.disconnect(counted.hear)


def declare(app: OAutom, step: str = "wait", **options: Any) -> Flow:
    flow = Flow("etl", app, params={"day": date}, **options)
    if step == "wait":
        WaitExecution("step", flow, seconds=10)
    elif step == "ask":
        ApprovalExecution("step", flow, "?")
    else:
        PythonExecution("step", flow, lambda context: str(context.params["day"]))
    app.plan(flow, cron="0 3 * * *", params={"day": PLANNED})
    return flow


def finish(vects: list[Vect]) -> list[str]:
    return [vect.wait(1000) for vect in vects]


def check(app: OAutom, flow: Flow) -> None:
    events = list(app.log.read())
    check_history(events)
    check_history(events, flow)
    assert_replays(events, flow)


@pytest.fixture(params=["memory", "file"])
def app(request: Any, tmp_path: Path, new_app: Any) -> OAutom:
    log = tmp_path / "runs.db" if request.param == "file" else None
    made: OAutom = new_app(log=log, executor="inline", clock=SimulatedClock(NOW))
    return made


def test_each_time_without_a_vect_gets_one_with_the_id_and_params_of_the_plan(
    app: OAutom,
) -> None:
    flow = declare(app)
    app.run("etl", {"day": "2026-11-12"}, vect_id=IDS[2])
    vects = app.backfill("etl", *DAYS)
    assert [vect.id for vect in vects] == [each for each in IDS if each != IDS[2]]
    assert [vect.params["day"].day for vect in vects] == [10, 11, 13, 14]
    assert finish(vects) == ["success"] * 4
    assert app.backfill(flow, *DAYS) == []
    check(app, flow)


@pytest.mark.parametrize(
    ("limit", "parallel", "most"),
    [(1, None, 1), (1, 3, 1), (3, 2, 2), (None, 2, 2), (None, None, 5)],
)
def test_so_many_are_open_at_once(
    app: OAutom, most_open: MostOpen, limit: int | None, parallel: int | None, most: int
) -> None:
    flow = declare(app, max_active_vects=limit)
    assert finish(app.backfill("etl", *DAYS, parallel=parallel)) == ["success"] * 5
    assert most_open.most == most
    started = [event.vect for event in app.log.read() if event.name == "vect.started"]
    assert started == IDS
    check(app, flow)


def test_all_are_in_the_log_at_once_and_say_what_they_wait_for(app: OAutom) -> None:
    declare(app, max_active_vects=3)
    vects = app.backfill("etl", *DAYS, parallel=2)
    assert [vect.state for vect in vects] == ["pending"] * 5
    assert [vect.status().get("turn", "").partition(",")[0] for vect in vects[2:]] == [
        f"it waits for its turn as next in its backfill after vect `{each}`" for each in IDS[:3]
    ]
    assert "next in its backfill after vect" in vects[3].explain("step")
    view = Client(app).vect(IDS[3])
    assert view.planned == ("etl", datetime(2026, 11, 13, 3, tzinfo=UTC))


def test_one_that_ends_otherwise_lets_the_next_go_on(app: OAutom) -> None:
    flow = declare(app, "ask", max_active_vects=5)
    vects = app.backfill("etl", *DAYS, parallel=1)
    with pytest.raises(TimeoutError):
        vects[0].wait(1)
    assert [vect.state for vect in vects] == ["running", *["pending"] * 4]
    vects[2].cancel("not this one")  # which is held
    vects[0].reject("step", by="Ada")
    with pytest.raises(TimeoutError):
        vects[1].wait(1)
    assert [vect.state for vect in vects] == [
        *("failed", "running", "cancelled", "pending", "pending"),
    ]
    vects[1].approve("step", by="Ada")
    with pytest.raises(TimeoutError):
        vects[3].wait(1)
    assert [vect.state for vect in vects][3:] == ["running", "pending"]
    check(app, flow)


def test_held_ones_take_no_room_from_others(app: OAutom) -> None:
    flow = declare(app, max_active_vects=2)
    vects = app.backfill("etl", *DAYS, parallel=1)
    assert app.start("etl", {"day": "2026-01-01"}).wait(1000) == "success"
    assert finish(vects) == ["success"] * 5
    check(app, flow)


def test_those_in_line_do(app: OAutom) -> None:
    declare(app, max_active_vects=2)
    vects = app.backfill("etl", *DAYS)
    with pytest.raises(VectAlreadyRunningException):
        app.start("etl", {"day": "2026-01-01"})
    waits = app.start("etl", {"day": "2026-01-01"}, when_full="wait")
    assert finish([waits, *vects]) == ["success"] * 6


def test_times_to_come_and_those_of_a_plan_that_catches_up_are_left_to_it(
    app: OAutom, new_app: Any
) -> None:
    declare(app)
    assert [vect.id[-12:-10] for vect in app.backfill("etl", "2026-11-19", "2026-11-25")] == [
        *("19", "20"),
    ]
    clock = SimulatedClock(NOW)
    late = new_app(executor="inline", clock=clock)
    flow = Flow("etl", late)
    late.plan(flow, cron="0 3 * * *", catch_up=True)
    clock.advance(3 * 86_400)  # nobody serves it on the 21st, the 22nd, the 23rd
    filled = late.backfill("etl", "2026-11-19", "2026-11-25")
    assert [vect.id for vect in filled] == ["etl@2026-11-19T03:00:00Z", "etl@2026-11-20T03:00:00Z"]
    clock.call_later(1, late.stop)
    late.run()
    assert [vect.id[-12:-10] for vect in late.vects()] == ["19", "20", "21", "22", "23"]


def test_the_plan_goes_on_where_it_was(app: OAutom) -> None:
    flow = declare(app, max_active_vects=9)
    app.backfill("etl", *DAYS)
    clock: Any = app._clock
    clock.call_later(86_400, app.stop)
    app.run()
    assert [vect.id for vect in app.vects()] == [*IDS, "etl@2026-11-21T03:00:00Z"]
    assert app.log.planned("etl") == datetime(2026, 11, 21, 3, tzinfo=UTC)
    check(app, flow)


def test_what_was_pruned_is_not_run_again(app: OAutom) -> None:
    declare(app)
    finish(app.backfill("etl", DAYS[0], DAYS[0]))
    app._clock.advance(60)  # type: ignore[attr-defined]
    assert [each.id for each in app.prune(older_than=timedelta(seconds=1))] == IDS[:1]
    assert [vect.id for vect in app.backfill("etl", *DAYS)] == IDS[1:]


def wrong(call: Callable[[], object], error: type[Exception], says: str) -> None:
    with pytest.raises(error) as raised:
        call()
    assert says in str(raised.value)


def test_what_cannot_be_filled_is_told_and_nothing_begins(app: OAutom) -> None:
    flow = declare(app)
    Flow("none", app)
    app.plan(flow, hours=1, params={"day": date(2026, 1, 1)}, name="hourly")
    strict = Flow("strict", app, params={"n": int})
    app.plan(strict, hours=24, params={"n": 1}, name="strict")
    fill = app.backfill
    wrong(lambda: fill("elt", *DAYS), UnknownFlowError, "did you mean 'etl'?")
    wrong(lambda: fill("none", *DAYS), UnknownPlanError, "flow 'none' has no plan")
    wrong(lambda: fill("etl", *DAYS), UnknownPlanError, "several plans; name one of them: 'etl', '")
    wrong(lambda: fill("etl", *DAYS, plan="strict"), UnknownPlanError, "has no plan 'strict'")
    wrong(lambda: fill("strict", *DAYS[::-1]), SettingError, "to is before from")
    wrong(lambda: fill("strict", "", DAYS[1]), SettingError, "from must be a time or a day")
    for year in ("0001", "0999", "9001", "9999"):
        day = f"{year}-01-01"
        wrong(
            lambda day=day: fill("strict", day, day), SettingError, "from must be a time or a day"
        )
    wrong(lambda: fill("strict", *DAYS, parallel=0), SettingError, "parallel must be a positive")
    wrong(lambda: fill("etl", *DAYS, plan="hourly", parallel=True), SettingError, "parallel must")
    wrong(lambda: fill("etl", "2020-01-01", DAYS[1], plan="hourly"), SettingError, "more than 1000")
    wrong(lambda: fill("etl", *DAYS, plan="etl", timeout=-1), SettingError, "timeout must be")
    assert app.vects() == []
    hourly = fill("etl", "2026-11-20T10:00", "2026-11-20T12:00", plan="hourly")
    assert [vect.id[:6] for vect in hourly] == ["hourly"] * len(hourly)
    app.close()
    wrong(lambda: fill("etl", *DAYS, plan="etl"), EngineError, "closed")


def test_parameters_that_the_flow_refuses_fill_nothing(app: OAutom, monkeypatch: Any) -> None:
    flow = declare(app)
    plain = flow.params.plain

    def refuse(params: Any) -> Any:
        if params["day"].day == 13:
            raise flow.params.error("parameter 'day' is unlucky", "day")
        return plain(params)

    monkeypatch.setattr(flow.params, "plain", refuse)
    says = "at 2026-11-13T03:00:00Z: flow 'etl': parameter 'day' is unlucky"
    wrong(lambda: app.backfill("etl", *DAYS, parallel=1), ParamError, says)
    assert app.vects() == []
    monkeypatch.undo()
    assert finish(app.backfill("etl", *DAYS, parallel=1)) == ["success"] * 5


# Other processes, and programs


def background(log: Path, step: str = "work", **options: Any) -> tuple[OAutom, Flow]:
    app = OAutom(OAutomMode.background, log=log)
    return app, declare(app, step, **options)


@pytest.mark.parametrize("of", ["file", "app"])
def test_a_client_has_the_engine_fill_them(tmp_path: Path, of: str) -> None:
    app, flow = background(tmp_path / "runs.db")
    with app:
        client = Client(tmp_path / "runs.db" if of == "file" else app)
        wanted = client.missing("etl", *DAYS)
        assert wanted == IDS
        assert client.backfill("etl", *DAYS, parallel=2) == (wanted, None)
        assert {client.wait(each, SECONDS) for each in wanted} == {"success"}
        assert client.backfill("etl", *DAYS).vects == client.missing("etl", *DAYS) == []
        for ask in (client.backfill, client.missing):
            wrong(partial(ask, "etl", *DAYS[::-1]), SettingError, "to is before from")
            for year in ("0001", "9999"):
                wrong(partial(ask, "etl", f"{year}-01-01", DAYS[1]), SettingError, "from must be")
            wrong(partial(ask, "etl", *DAYS, plan="x"), UnknownPlanError, "no plan 'x'")
        check(app, flow)


def test_many_clients_fill_each_time_once(tmp_path: Path) -> None:
    app, flow = background(tmp_path / "runs.db", max_active_vects=None)
    with app:
        found: list[list[str]] = []

        def fill(first: int) -> None:
            client = Client(tmp_path / "runs.db")
            days = f"2026-11-{first:02}", f"2026-11-{first + 9:02}"
            found.append(client.backfill("etl", *days, parallel=3).vects)

        threads = [threading.Thread(target=fill, args=(first,)) for first in (1, 3, 5, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        ids = sorted(each for vects in found for each in vects)
        assert ids == [f"etl@2026-11-{day:02}T03:00:00Z" for day in range(1, 15)]
        assert {app.vect(each).wait(SECONDS) for each in ids} == {"success"}
        check(app, flow)


def test_they_go_on_in_the_next_program_so_many_at_a_time(
    tmp_path: Path, most_open: MostOpen
) -> None:
    log = tmp_path / "runs.db"
    app, _ = background(log, "ask", max_active_vects=4)
    with app:
        app.backfill("etl", *DAYS, parallel=2)
        app.vect(IDS[2]).cancel("not this one")  # the one behind it comes after the first by now
        until(lambda: most_open.most == 2)
    for late, before in ((3, 1), (4, 0)):
        view = Client(log).vect(IDS[late])
        turn = f"it waits for its turn as next in its backfill after vect `{IDS[before]}`"
        assert view.state == "pending"
        assert view.status()["turn"].startswith(turn)
    app, flow = background(log, "ask", max_active_vects=4)
    with app:
        app.recover()
        other = app.start("etl", {"day": "2026-01-01"})  # there is room
        assert _is_asked(other)
        other.approve("step", by="Ada")
        assert other.wait(SECONDS) == "success"
        assert [app.vect(each).state for each in IDS] == [
            *("running", "running", "cancelled", "pending", "pending"),
        ]
        for each in (0, 4, 1, 3):
            vect = app.vect(IDS[each])
            assert _is_asked(vect)
            vect.approve("step", by="Ada")
            assert vect.wait(SECONDS) == "success"
        assert most_open.most == 3
        check(app, flow)


def _is_asked(vect: Vect) -> bool:
    until(lambda: vect.steps["step"].state == "running")
    return True


def test_a_request_that_is_queued_waits_for_the_plan(tmp_path: Path) -> None:
    log = tmp_path / "runs.db"
    app, _ = background(log)
    app.close()
    client = Client(log)
    with pytest.raises(NoEngineError):
        client.backfill("etl", *DAYS)
    assert len(client.missing("etl", *DAYS)) == 5
    for parallel in (0, -1, True, "2"):
        with pytest.raises(SettingError, match="parallel must be a positive int"):
            client.backfill("etl", *DAYS, parallel=parallel, queue=True)  # type: ignore[arg-type]
    left = client.backfill("etl", *DAYS, parallel=2, queue=True)
    assert left.vects == []
    assert left.number is not None
    app = OAutom(OAutomMode.background, log=log)
    flow = Flow("etl", app, params={"day": date})
    PythonExecution("step", flow, int)
    with app:
        app.run("etl", {"day": "2026-01-01"})  # it is served, and the plan is not there yet
        assert client.answer(left.number) is None
        app.plan(flow, cron="0 3 * * *", params={"day": PLANNED})
        until(lambda: client.answer(left.number or 0) is not None)
        answer = client.answer(left.number)
        assert answer is not None
        assert answer.refusal is None
        assert [client.wait(each, SECONDS) for each in IDS] == ["success"] * 5


def test_a_request_that_is_looked_at_twice_before_it_is_carried_out_is_carried_out_once(
    tmp_path: Path,
) -> None:
    log = tmp_path / "runs.db"
    background(log)[0].close()
    asked = Client(log).backfill("etl", *DAYS, queue=True)
    with OAutom(log=log, executor="inline", clock=SimulatedClock(NOW)) as app:
        flow = declare(app, "work")
        for _ in range(3):  # as when several processes ask at one time
            app._scheduler.put(Asked(again=True))
        app.run("etl", {"day": "2026-01-01"})
        assert [app.vect(each).wait(1000) for each in IDS] == ["success"] * 5
        answer = Client(log).answer(asked.number)
        assert answer is not None
        assert answer.refusal is None
        check(app, flow)
