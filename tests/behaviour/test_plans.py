"""Plans start flows by the clock: on time, in order, once for each time, also over a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from oautom import (
    Context,
    CycleError,
    EngineError,
    Event,
    EventLog,
    Execution,
    Flow,
    FlowChangedError,
    FlowError,
    LogError,
    MemoryEventLog,
    OAutom,
    OAutomMode,
    ParamError,
    Plan,
    PythonExecution,
    SettingError,
    SqliteEventLog,
    UnknownFlowError,
)
from oautom.events import signals
from oautom.events.subscribers import log_events
from oautom.testing import SimulatedClock, assert_replays, check_history
from tests.kit import WallClock

from .conftest import SECONDS, Gate, NewApp, join_threads, nothing

HOUR, DAY = 3600.0, 86_400.0
START = datetime(2000, 1, 1, tzinfo=UTC)


class Elsewhere(Execution):
    """A step whose work is elsewhere, and takes so many seconds."""

    def __init__(self, name: str, flow: Flow, seconds: float) -> None:
        super().__init__(name, flow)
        self.poll_interval = seconds

    def run(self, context: Context) -> None:
        """Do nothing: `check` is asked when it is done."""

    def check(self, context: Context) -> bool:
        return True


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def app(new_app: NewApp, clock: WallClock) -> OAutom:
    return new_app(executor="inline", clock=clock)


def flow_of(app: OAutom, name: str = "etl", seconds: float = 0, **settings: Any) -> Flow:
    """Declare a flow of one step, which takes so long."""
    flow = Flow(name, app, **settings)
    if seconds:
        Elsewhere("work", flow, seconds)
    else:
        PythonExecution("work", flow, nothing)
    return flow


def serve(app: OAutom, clock: SimulatedClock, seconds: float) -> None:
    clock.call_later(seconds, app.stop)
    app.run()


def ids(app: OAutom) -> list[str]:
    return [vect.id for vect in app.vects()]


def copied(log: EventLog) -> MemoryEventLog:
    """Return a log with the same events, as a file would have them in the next program."""
    copy = MemoryEventLog()
    for event in log.read():
        copy.last_seq = event.seq - 1  # there may be gaps
        copy.append(None, event)
    copy.commit()
    copy._pruned, copy._gaps = log.pruned(), log.gaps()
    return copy


def told(log: EventLog) -> list[str]:
    """What has become of the times of plans: 'etl@... created' or '... skipped'."""
    names = ("vect.created", "plan.skipped")
    return [f"{e.vect} {e.name.split('.')[1]}" for e in log.read() if e.name in names]


def at(*hours: float, plan: str = "etl") -> list[str]:
    """The ids of the Vects of a plan so many hours after the start."""
    times = [START + timedelta(hours=hour) for hour in hours]
    return [f"{plan}@{time.isoformat().replace('+00:00', 'Z')}" for time in times]


# When they start


def test_a_plan_starts_its_flow_again_and_again(app: OAutom, clock: WallClock) -> None:
    flow = flow_of(app)
    plan = app.plan("etl", hours=1)

    serve(app, clock, 3 * DAY + 60)

    vects = app.vects(flow)
    assert ids(app) == at(*range(1, 73))
    assert {vect.state for vect in vects} == {"success"}
    assert [vect.events()[0].time for vect in vects] == [
        START + timedelta(hours=hour) for hour in range(1, 73)
    ]
    assert (plan.name, plan.flow) == ("etl", flow)
    assert repr(plan) == "<Plan 'etl': every 1:00:00>"
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


def test_three_days_of_a_plan_take_no_time(app: OAutom, clock: WallClock) -> None:
    flow_of(app)
    app.plan("etl", hours=1)

    begun = time.process_time()
    serve(app, clock, 3 * DAY)

    assert time.process_time() - begun < 3  # 0.1 on a machine with nothing else to do


def test_a_planned_vect_tells_of_its_plan(app: OAutom, clock: WallClock) -> None:
    flow_of(app)
    app.plan("etl", seconds=0.25, name="often")

    serve(app, clock, 0.6)

    first, second = app.vects()
    assert first.id == "often@2000-01-01T00:00:00.250000Z"
    data = second.events()[0].data
    assert (data["plan"], data["planned"]) == ("often", "2000-01-01T00:00:00.500000Z")


def test_the_log_tells_since_when_there_is_a_plan(app: OAutom, clock: WallClock) -> None:
    clock.advance(10.5)
    flow_of(app)
    app.plan("etl", minutes=1)

    serve(app, clock, 60)

    first, created, *_ = app.log.read()
    assert (first.name, first.source, first.dest) == ("plan.created", None, "planned")
    assert (first.flow, first.vect) == ("etl", "etl@2000-01-01T00:00:10Z")
    assert first.data == {"plan": "etl", "planned": "2000-01-01T00:00:10Z"}
    assert created.vect == "etl@2000-01-01T00:01:10Z"


def test_a_cron_goes_by_the_clock_of_its_timezone_and_by_utc_unless_told(new_app: NewApp) -> None:
    clock = SimulatedClock(datetime(2026, 3, 27, 12, tzinfo=UTC))  # two days before the change
    app = new_app(executor="inline", clock=clock)
    flow_of(app, "here"), flow_of(app, "there")
    app.plan("here", cron="30 2 * * *")
    app.plan("there", cron="30 2 * * *", timezone="Europe/Paris")

    serve(app, clock, 3 * DAY)

    assert ids(app) == [
        "there@2026-03-28T01:30:00Z",
        "here@2026-03-28T02:30:00Z",
        "there@2026-03-29T01:00:00Z",
        "here@2026-03-29T02:30:00Z",
        "there@2026-03-30T00:30:00Z",
        "here@2026-03-30T02:30:00Z",
    ]


@pytest.mark.parametrize("zone", [ZoneInfo("Asia/Tokyo"), timezone(timedelta(hours=9))])
def test_a_timezone_may_be_an_object(app: OAutom, zone: tzinfo) -> None:
    flow_of(app)

    plan = app.plan("etl", cron="0 12 * * *", timezone=zone)

    assert plan.next_time() == START + timedelta(hours=3)


def test_plans_that_are_due_together_start_in_the_order_of_their_times(
    app: OAutom, clock: WallClock
) -> None:
    for name in "abc":
        flow_of(app, name, max_active_vects=9)
    app.plan("a", minutes=50, catch_up=True)
    app.plan("b", minutes=30, catch_up=True)
    app.plan("c", minutes=40, catch_up=True)
    clock.advance(2 * HOUR)  # nobody serves

    serve(app, clock, 0)

    due = [("b", 30), ("c", 40), ("a", 50), ("b", 60), ("c", 80), ("b", 90), ("a", 100)]
    due += [("b", 120), ("c", 120)]  # at one time, in the order in which they were made
    assert ids(app) == [at(minute / 60, plan=name)[0] for name, minute in due]


def test_a_flow_may_have_several_plans(app: OAutom, clock: WallClock) -> None:
    flow_of(app)
    app.plan("etl", hours=2)
    app.plan("etl", hours=3, name="other")

    serve(app, clock, 5 * HOUR)

    assert ids(app) == [*at(2), *at(3, plan="other"), *at(4)]


def test_the_next_time_is_the_one_after_now_or_after_an_instant(
    app: OAutom, clock: WallClock
) -> None:
    flow_of(app)
    plan = app.plan("etl", cron="0 3 * * *", timezone="Europe/Paris")
    noon = datetime(2026, 6, 1, 12, tzinfo=timezone(timedelta(hours=5)))

    assert plan.next_time() == START + timedelta(hours=2)
    assert plan.next_time(noon) == datetime(2026, 6, 2, 1, tzinfo=UTC)
    assert plan.next_time(plan.next_time(noon)) == datetime(2026, 6, 3, 1, tzinfo=UTC)
    clock.advance(DAY)
    assert plan.next_time() == START + timedelta(hours=26)
    for wrong in (noon.replace(tzinfo=None), "2026-06-01", 3, noon.replace(year=9001)):
        with pytest.raises(SettingError, match=r"^after must be a datetime with a time zone, up "):
            plan.next_time(wrong)  # type: ignore[arg-type]


# At the limit


def test_a_plan_whose_flow_is_at_its_limit_is_skipped_and_that_is_an_event(
    app: OAutom, clock: WallClock, connect: Any
) -> None:
    flow = flow_of(app, seconds=1.5 * HOUR)
    heard: list[tuple[Flow, Event]] = []
    connect(lambda flow, event, **_: heard.append((flow, event)), "plan.skipped", sender=flow)
    app.plan("etl", hours=1)

    serve(app, clock, 4.2 * HOUR)

    created, skipped = at(1, 3), at(2, 4)
    assert ids(app) == created
    assert [(flow.name, event.vect) for flow, event in heard] == [("etl", vect) for vect in skipped]
    event = heard[0][1]
    assert (event.flow, event.step, event.attempt) == ("etl", None, None)
    assert (event.name, event.source, event.dest) == ("plan.skipped", None, "skipped")
    assert event.time == START + timedelta(hours=2)
    assert event.data == {
        "plan": "etl",
        "planned": "2000-01-01T02:00:00Z",
        "reason": f"flow 'etl' already runs as {created[0]} and its max_active_vects is 1; wait "
        "for one to end, cancel it, or raise max_active_vects",
    }
    check_history(app.log.read(), flow)


def test_a_limit_above_one_lets_as_many_run_at_once(app: OAutom, clock: WallClock) -> None:
    flow_of(app, seconds=2.5 * HOUR, max_active_vects=2)
    app.plan("etl", hours=1)

    serve(app, clock, 4.1 * HOUR)

    assert told(app.log) == [f"{vect} created" for vect in at(1, 2)] + [
        f"{at(3)[0]} skipped",
        f"{at(4)[0]} created",
    ]


def test_a_time_that_comes_while_a_step_has_the_thread_is_skipped_as_on_any_executor(
    app: OAutom, clock: WallClock
) -> None:
    flow = Flow("etl", app)
    PythonExecution("work", flow, lambda: clock.advance(1.5 * HOUR))
    app.plan("etl", hours=1)

    serve(app, clock, 2.6 * HOUR)

    assert told(app.log) == [f"{at(1)[0]} created", f"{at(2)[0]} skipped"]


def test_a_run_that_ends_before_the_plan_is_due_makes_room_for_it(
    app: OAutom, clock: WallClock
) -> None:
    flow_of(app, seconds=HOUR - 1)
    app.plan("etl", hours=1)

    serve(app, clock, 3.1 * HOUR)

    assert told(app.log) == [f"{vect} created" for vect in at(1, 2, 3)]


def test_of_several_times_that_are_noticed_late_the_newest_counts(
    app: OAutom, clock: WallClock
) -> None:
    """A step of another flow has the thread: this one was never at its limit."""
    hold = Flow("hold", app)
    PythonExecution("work", hold, lambda: clock.advance(2.5 * HOUR))
    flow_of(app)
    app.plan("etl", hours=1)
    app.start("hold")

    serve(app, clock, 3.1 * HOUR)

    assert told(app.log)[1:] == [
        f"{at(1)[0]} skipped",
        f"{at(2)[0]} created",
        f"{at(3)[0]} created",
    ]
    (skipped,) = (event for event in app.log.read() if event.name == "plan.skipped")
    assert skipped.data["reason"] == (
        "it was noticed late, and the next time of the plan was due by then as well"
    )


def test_where_every_time_counts_it_waits_for_room_and_keeps_the_order(
    app: OAutom, clock: WallClock
) -> None:
    flow_of(app, seconds=1.5 * HOUR)
    app.plan("etl", hours=1, catch_up=True)

    serve(app, clock, 6.1 * HOUR)

    starts = [(v.id, v.status()["start_date"][11:16]) for v in app.vects()]
    assert starts == list(zip(at(1, 2, 3, 4), ["01:00", "02:30", "04:00", "05:30"], strict=True))


def test_a_vect_of_the_same_id_that_somebody_has_started_is_the_one_of_that_time(
    app: OAutom, clock: WallClock
) -> None:
    flow_of(app)
    app.plan("etl", hours=1)
    by_hand = app.run("etl", vect_id=at(2)[0])

    serve(app, clock, 3.1 * HOUR)

    assert app.vect(at(2)[0]) is by_hand
    assert ids(app) == at(2, 1, 3)


def test_a_time_that_was_skipped_can_be_started_by_hand(app: OAutom, clock: WallClock) -> None:
    flow = flow_of(app, seconds=1.5 * HOUR)
    app.plan("etl", hours=1)
    serve(app, clock, 2.6 * HOUR)

    vect = app.run("etl", vect_id=at(2)[0])

    assert vect.state == "success"
    assert vect.events()[0].name == "vect.created"
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


def test_a_flow_that_cannot_start_is_skipped_and_told(
    app: OAutom, clock: WallClock, caplog: pytest.LogCaptureFixture
) -> None:
    flow = flow_of(app)
    app.plan("etl", hours=1)
    left, right = (PythonExecution(name, flow, nothing) for name in ("left", "right"))
    left >> right >> left

    serve(app, clock, 1.1 * HOUR)

    assert told(app.log) == [f"{at(1)[0]} skipped"]
    (error,) = (each for each in caplog.records if each.name == "oautom.plans")
    assert error.getMessage() == "plan 'etl' cannot start at 2000-01-01T01:00:00Z"
    assert isinstance(error.exc_info[1], CycleError)  # type: ignore[index]


def test_an_id_that_another_flow_has_taken_is_no_vect_of_the_plan(
    app: OAutom, clock: WallClock, caplog: pytest.LogCaptureFixture
) -> None:
    flow_of(app), flow_of(app, "other")
    app.plan("etl", hours=1)
    app.run("other", vect_id=at(1)[0])

    serve(app, clock, 2.5 * HOUR)

    assert [vect.id for vect in app.vects("etl")] == at(2)
    (skipped,) = (event for event in app.log.read() if event.name == "plan.skipped")
    assert "is a run of flow 'other', not of 'etl'" in skipped.data["reason"]
    assert [record.name for record in caplog.records] == ["oautom.plans"]


def test_a_time_whose_vect_has_run_before_and_is_pruned_is_over(
    app: OAutom, clock: WallClock
) -> None:
    flow_of(app)
    app.run("etl", vect_id=at(1)[0])
    clock.advance(60)
    assert len(app.prune(older_than=clock.now())) == 1
    again = OAutom(executor="inline", clock=clock, log=copied(app.log))
    flow_of(again)
    again.plan("etl", cron="0 * * * *")

    serve(again, clock, 2.5 * HOUR)
    again.close()

    assert told(again.log) == [f"{at(2)[0]} created"]


def test_a_log_that_cannot_be_read_for_a_while_stops_nothing(
    new_app: NewApp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oautom.engine.scheduler.LOOK_AGAIN", 0.01)
    failures = [LogError("the disk is gone")] * 2

    class Lost(MemoryEventLog):
        def find_pruned(self, vect: str) -> Any:
            if failures and threading.current_thread().name == "oautom-scheduler":
                raise failures.pop()
            return super().find_pruned(vect)

    log = Lost()
    with new_app(log=log) as before:
        flow_of(before)
        before.run("etl", vect_id="before")
    app, ended = new_app(OAutomMode.background, log=log), threading.Event()
    flow = flow_of(app)
    app.subscribe(lambda flow, event: ended.set(), name="end", events=["vect.succeeded"])
    app.plan(flow, seconds=0.01)

    assert ended.wait(SECONDS)
    assert not failures
    assert caplog.text.count("the disk is gone") > 0


# Who serves


def test_in_the_foreground_plans_are_served_by_run_only(app: OAutom, clock: WallClock) -> None:
    flow_of(app), flow_of(app, "other", seconds=5.5 * HOUR)
    app.plan("etl", hours=1)

    app.run("other")
    assert [vect.flow.name for vect in app.vects()] == ["other"]
    serve(app, clock, 1.1 * HOUR)
    app.start("other").wait()

    assert [vect.id for vect in app.vects("etl")] == at(6)


def test_whoever_drives_while_another_thread_serves_starts_what_is_due(new_app: NewApp) -> None:
    app = new_app()
    gate, flow = Gate(), Flow("gate", app)
    PythonExecution("gate", flow, gate)
    flow_of(app)
    vect = app.start("gate")
    driver = threading.Thread(target=vect.wait, args=(SECONDS,))
    driver.start()
    assert gate.reached.wait(SECONDS)
    server = threading.Thread(target=app.run)
    server.start()
    ended = threading.Event()
    signals.vect_succeeded.connect(
        lambda flow, **_: ended.set(), sender=app.plan("etl", seconds=0.1).flow
    )

    assert ended.wait(SECONDS)

    gate.opened.set()
    app.stop()
    for thread in (driver, server):
        thread.join(SECONDS)
    assert not server.is_alive()


def test_in_the_background_plans_are_served_from_the_beginning_until_they_are_cancelled(
    background: OAutom,
) -> None:
    flow = flow_of(background)
    starts = threading.Semaphore(0)
    signals.vect_created.connect(lambda flow, **_: starts.release(), sender=flow)

    plan = background.plan("etl", seconds=0.05)
    assert all(starts.acquire(timeout=SECONDS) for _ in range(3))
    assert background.run() is None
    plan.cancel()
    plan.cancel()
    join_threads("oautom-scheduler")  # nothing is left to do

    assert all(vect.wait(SECONDS) == "success" for vect in background.vects())
    check_history(background.log.read(), flow)
    assert repr(background.plan("etl", hours=1)) == "<Plan 'etl': every 1:00:00>"


def test_stop_ends_the_serving_in_the_background_too_and_run_goes_on_with_it(
    background: OAutom,
) -> None:
    flow = flow_of(background)
    starts = threading.Semaphore(0)
    signals.vect_created.connect(lambda flow, **_: starts.release(), sender=flow)
    background.plan("etl", seconds=0.05)
    assert starts.acquire(timeout=SECONDS)

    background.stop()
    join_threads("oautom-scheduler")
    while starts.acquire(blocking=False):
        pass
    count = len(background.vects())
    time.sleep(0.2)
    assert len(background.vects()) == count
    background.run()

    assert starts.acquire(timeout=SECONDS)


@pytest.mark.parametrize("mode", list(OAutomMode), ids=str)
def test_closing_the_app_ends_the_serving(new_app: NewApp, mode: OAutomMode) -> None:
    app = new_app(mode)
    flow_of(app)
    plan = app.plan("etl", seconds=0.01)
    server = threading.Thread(target=app.run)
    server.start()
    time.sleep(0.1)

    app.close()
    server.join(SECONDS)

    count = app.log.last_seq
    time.sleep(0.1)
    assert (server.is_alive(), app.log.last_seq) == (False, count)
    plan.cancel()
    with pytest.raises(EngineError, match="the app is closed"):
        app.plan("etl", hours=1)


def test_a_cancelled_plan_starts_nothing_more_and_its_vects_go_on(
    app: OAutom, clock: WallClock
) -> None:
    flow_of(app, seconds=1.5 * HOUR)
    plan = app.plan("etl", hours=1)
    clock.call_later(1.2 * HOUR, plan.cancel)

    serve(app, clock, 5 * HOUR)

    assert [(vect.id, vect.state) for vect in app.vects()] == [(at(1)[0], "success")]
    assert app.plan("etl", hours=2).name == "etl"


def test_a_receiver_may_make_and_cancel_plans(app: OAutom, clock: WallClock) -> None:
    flow_of(app), flow_of(app, "other")
    plans: list[Plan] = [app.plan("etl", hours=1)]

    def swap(flow: Flow, **_: Any) -> None:
        plans.pop().cancel()
        plans.append(app.plan("other", hours=2))

    signals.vect_succeeded.connect(swap, sender=plans[0].flow)
    serve(app, clock, 6 * HOUR)

    assert ids(app) == [*at(1), *at(3, 5, plan="other")]


def test_plans_and_a_prune_on_other_threads_do_not_wait_for_each_other(new_app: NewApp) -> None:
    app = new_app(OAutomMode.background)
    for number in range(3):
        flow_of(app, f"f{number}")
        app.plan(f"f{number}", seconds=0.002)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        app.prune(older_than=timedelta(0))
        app.vects()

    app.stop()
    join_threads("oautom-scheduler")

    check_history(app.log.read(), gaps=app.log.gaps())


def test_a_receiver_that_cannot_serve_does_not_end_the_serving(
    app: OAutom, clock: WallClock
) -> None:
    flow = flow_of(app)
    app.plan("etl", hours=1)

    def serve_too(flow: Flow, **_: Any) -> None:
        with pytest.raises(EngineError, match="it would wait for itself"):
            app.run()

    signals.vect_succeeded.connect(serve_too, sender=flow)
    serve(app, clock, 2.5 * HOUR)

    assert ids(app) == at(1, 2)


# The clock


def test_a_wall_clock_that_is_set_forward_is_noticed_within_a_minute(
    app: OAutom, clock: WallClock
) -> None:
    flow_of(app)
    app.plan("etl", hours=5)

    def jump() -> None:
        clock.offset = timedelta(hours=4)

    clock.call_later(600, jump)
    serve(app, clock, HOUR + 1)

    (vect,) = app.vects()
    assert vect.id == at(5)[0]
    assert vect.events()[0].time == START + timedelta(hours=5)


def test_a_machine_that_has_slept_starts_what_was_due_meanwhile_once(
    app: OAutom, clock: WallClock
) -> None:
    flow_of(app)
    app.plan("etl", hours=1)

    def sleep() -> None:
        clock.offset = timedelta(hours=3)

    clock.call_later(600, sleep)
    serve(app, clock, 700)

    assert told(app.log) == [
        f"{at(1)[0]} skipped",
        f"{at(2)[0]} skipped",
        f"{at(3)[0]} created",
    ]


def test_a_wall_clock_that_was_wrong_by_years_starts_nothing_of_these(
    app: OAutom, clock: WallClock
) -> None:
    flow_of(app)
    app.plan("etl", minutes=1)

    def set_right() -> None:
        clock.offset = timedelta(days=9000, seconds=5)

    clock.call_later(90, set_right)
    serve(app, clock, 200)

    assert told(app.log) == [f"{vect} created" for vect in at(1 / 60, 9000 * 24 + 3 / 60)]


@pytest.mark.parametrize("catch_up", [False, True])
def test_a_wall_clock_that_is_set_back_starts_nothing_twice(
    app: OAutom, clock: WallClock, catch_up: bool
) -> None:
    flow = flow_of(app)
    plan = app.plan("etl", hours=1, catch_up=catch_up)

    def set_back() -> None:
        clock.offset = -timedelta(hours=2)

    clock.call_later(3.5 * HOUR, set_back)
    serve(app, clock, 3.6 * HOUR)
    assert plan.next_time() == START + timedelta(hours=4)
    serve(app, clock, 2.5 * HOUR)

    assert ids(app) == at(1, 2, 3, 4)
    check_history(app.log.read(), flow)


# Over a restart


Restart = Callable[..., OAutom]


@pytest.fixture(params=["memory", "file"])
def restart(
    request: pytest.FixtureRequest, tmp_path: Path, new_app: NewApp, clock: WallClock
) -> Restart:
    """Closes the app that there is, and makes another one on what its log has."""
    apps: list[OAutom] = []

    def make() -> OAutom:
        if request.param == "file":
            if apps:
                apps[-1].close()
            log: Any = tmp_path / "runs.db"
        else:
            log = copied(apps[-1].log) if apps else MemoryEventLog()
        apps.append(new_app(executor="inline", clock=clock, log=log))
        return apps[-1]

    return make


def test_a_restart_keeps_the_rhythm_and_goes_on_with_the_next_time(
    restart: Restart, clock: WallClock
) -> None:
    app = restart()
    flow_of(app)
    app.plan("etl", minutes=40)
    serve(app, clock, 50 * 60)
    clock.advance(40 * 60)

    app = restart()
    flow_of(app)
    plan = app.plan("etl", minutes=40)
    assert plan.next_time() == START + timedelta(minutes=120)
    serve(app, clock, 40 * 60)

    assert ids(app) == at(2 / 3, 2)
    assert [event.name for event in app.log.read()].count("plan.created") == 1


def test_what_was_missed_starts_after_a_restart_in_order_where_every_time_counts(
    restart: Restart, clock: WallClock
) -> None:
    app = restart()
    flow_of(app, seconds=60)
    app.plan("etl", hours=1, catch_up=True)
    serve(app, clock, 1.5 * HOUR)
    clock.advance(3 * HOUR)

    app = restart()
    flow = flow_of(app, seconds=60)
    app.plan("etl", hours=1, catch_up=True)
    serve(app, clock, 600)

    assert ids(app) == at(1, 2, 3, 4)
    starts = [vect.status()["start_date"][11:16] for vect in app.vects()]
    assert starts == ["01:00", "04:30", "04:31", "04:32"]
    check_history(app.log.read(), flow)


def test_a_time_that_was_missed_before_the_first_one_counts_too(
    restart: Restart, clock: WallClock
) -> None:
    app = restart()
    flow_of(app)
    app.plan("etl", cron="0 3 * * *", catch_up=True)
    serve(app, clock, HOUR)
    clock.advance(4 * HOUR)

    app = restart()
    flow_of(app)
    app.plan("etl", cron="0 3 * * *", catch_up=True)
    serve(app, clock, 60)

    assert ids(app) == at(3)


def test_a_time_that_was_skipped_is_not_started_after_a_restart(
    restart: Restart, clock: WallClock
) -> None:
    app = restart()
    flow_of(app, seconds=1.5 * HOUR)
    app.plan("etl", hours=1)
    serve(app, clock, 2.6 * HOUR)

    app = restart()
    flow_of(app, seconds=1.5 * HOUR)
    app.plan("etl", hours=1, catch_up=True)
    serve(app, clock, 1.1 * HOUR)

    assert told(app.log) == [f"{at(1)[0]} created", f"{at(2)[0]} skipped", f"{at(3)[0]} created"]


def test_a_plan_stands_where_it_stood_when_its_vects_are_pruned(
    restart: Restart, clock: WallClock
) -> None:
    app = restart()
    flow_of(app)
    app.plan("etl", hours=1, catch_up=True)
    serve(app, clock, 3.1 * HOUR)
    assert len(app.prune(older_than=clock.now())) == 3
    assert [event.name for event in app.log.read()] == ["plan.created"]
    if isinstance(app.log, SqliteEventLog):
        app.log.verify()

    app = restart()
    flow_of(app)
    app.plan("etl", hours=1, catch_up=True)
    serve(app, clock, HOUR)

    assert ids(app) == at(4)


def test_what_a_plan_has_told_stays_when_a_vect_of_that_id_is_pruned(
    restart: Restart, clock: WallClock
) -> None:
    app = restart()
    flow_of(app, seconds=1.5 * HOUR)
    app.plan("etl", hours=1)
    serve(app, clock, 2.6 * HOUR)
    app.run("etl", vect_id=at(2)[0])
    assert [entry.id for entry in app.log.vects()] == at(1, 2)
    assert next(iter(app.log.read(vect=at(2)[0]))).name == "vect.created"

    gone = app.prune(older_than=clock.now() + timedelta(1))

    assert [(vect.id, vect.events) for vect in gone] == [(vect, 5) for vect in at(1, 2)]
    assert [event.name for event in app.log.read()] == ["plan.created", "plan.skipped"]
    assert app.log.planned("etl") == START + timedelta(hours=2)
    check_history(app.log.read(), gaps=app.log.gaps())


def test_a_vect_of_a_plan_that_was_left_open_counts_for_the_limit(
    restart: Restart, clock: WallClock
) -> None:
    app = restart()
    flow_of(app, seconds=1.5 * HOUR)
    app.plan("etl", hours=1)
    serve(app, clock, 1.5 * HOUR)

    app = restart()
    flow = flow_of(app, seconds=1.5 * HOUR)
    app.plan("etl", hours=1)
    serve(app, clock, 2 * HOUR)

    # With a file it has gone on at 01:30; in memory it was left open.
    assert told(app.log)[:2] == [f"{at(1)[0]} created", f"{at(2)[0]} skipped"]
    assert app.vect(at(1)[0]).state == "success"
    check_history(app.log.read(), flow)


def test_a_vect_that_cannot_go_on_does_not_count_for_the_limit(
    restart: Restart, clock: WallClock
) -> None:
    app = restart()
    flow_of(app, seconds=1.5 * HOUR)
    app.plan("etl", hours=1)
    serve(app, clock, 1.5 * HOUR)

    app = restart()
    PythonExecution("more", flow_of(app, seconds=1.5 * HOUR), nothing)
    app.plan("etl", hours=1)
    serve(app, clock, 2 * HOUR)

    assert told(app.log)[1:] == [f"{at(2)[0]} created", f"{at(3)[0]} skipped"]
    with pytest.raises(FlowChangedError, match="step 'more' is new"):
        app.vect(at(1)[0]).wait()
    app.vect(at(1)[0]).cancel()
    assert app.vect(at(1)[0]).wait(SECONDS) == "cancelled"


def test_a_plan_that_is_made_anew_in_one_program_goes_on_as_after_a_restart(
    app: OAutom, clock: WallClock
) -> None:
    flow = flow_of(app)
    app.plan("etl", hours=1, catch_up=True).cancel()  # the log has not heard of it yet
    app.plan("etl", hours=1, catch_up=True).cancel()
    clock.advance(2.5 * HOUR)
    app.plan("etl", hours=1, catch_up=True)

    serve(app, clock, HOUR)

    assert ids(app) == at(1, 2, 3)
    check_history(app.log.read(), flow)


def test_the_log_is_asked_by_the_name_of_the_plan_only(restart: Restart, clock: WallClock) -> None:
    app = restart()
    flow_of(app), flow_of(app, "etl@2")
    app.plan("etl", hours=1)
    app.plan("etl@2", hours=2)
    app.run("etl", vect_id="etl@2099-01-01T00:00:00Z")  # somebody may well do so
    serve(app, clock, 2.5 * HOUR)

    assert app.log.planned("etl") == START + timedelta(hours=2)
    assert app.log.planned("etl@2") == START + timedelta(hours=2)
    assert app.log.planned("et") is None


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "it needs an interval longer than 0, as hours=1, or a cron"),
        ({"minutes": 0}, "it needs an interval longer than 0, as hours=1, or a cron"),
        ({"minutes": -5}, "minutes must be a number, from 0, not -5"),
        ({"hours": "1"}, "hours must be a number, from 0, not '1'"),
        ({"cron": "0 3 * * *", "hours": 1}, "it takes an interval or a cron, not both; make two"),
        (
            {"cron": "0 25 * * *"},
            "'0 25 * * *' is no cron expression: bad hour; it has five fields",
        ),
        ({"cron": 3}, "3 is no cron expression; it has five fields: minute, hour, day of the mon"),
        ({"cron": "0 3 * * *", "timezone": "Mars"}, "there is no timezone 'Mars'; write it as 'E"),
        ({"cron": "0 3 * * *", "timezone": "Europe"}, "there is no timezone 'Europe'; write it"),
        ({"cron": "0 3 * * *", "timezone": "../x"}, "there is no timezone '../x'; write it as"),
        ({"cron": "0 3 * * *", "timezone": 3}, "there is no timezone 3; write it as 'Europe/Pa"),
        ({"hours": 1, "timezone": "UTC"}, "an interval is the same in each timezone; leave"),
    ],
)
def test_what_is_no_schedule_is_refused_by_the_name_of_the_flow(
    app: OAutom, settings: dict[str, Any], message: str
) -> None:
    flow_of(app)
    with pytest.raises(SettingError) as raised:
        app.plan("etl", **settings)

    assert str(raised.value).startswith(f"the plan of flow 'etl' cannot be made: {message}")
    assert raised.value.flow == "etl"
    app.plan("etl", hours=1)


def test_other_arguments_that_cannot_be_used_are_refused(app: OAutom, new_app: NewApp) -> None:
    flow = flow_of(app)
    app.plan(flow, hours=1)

    with pytest.raises(UnknownFlowError, match="did you mean 'etl'"):
        app.plan("etk", hours=1)
    with pytest.raises(FlowError, match="belongs to another app"):
        new_app().plan(flow, hours=1)
    with pytest.raises(SettingError, match=r"^catch_up must be True or False, not 'yes'"):
        app.plan(flow, hours=1, catch_up="yes", name="a")  # type: ignore[arg-type]
    with pytest.raises(FlowError, match=r"^flow 'etl': plan name must not be blank, not ' '"):
        app.plan(flow, hours=1, name=" ")
    with pytest.raises(SettingError, match="there is a plan 'etl' already, of flow 'etl'; give th"):
        app.plan(flow, hours=2)


def test_a_flow_with_a_cycle_cannot_be_planned(app: OAutom) -> None:
    flow = flow_of(app)
    flow.steps["work"] >> flow.steps["work"]

    with pytest.raises(CycleError):
        app.plan(flow, hours=1)


# Who hears of them


def test_subscriptions_and_loggers_hear_of_plans(
    app: OAutom, clock: WallClock, caplog: pytest.LogCaptureFixture
) -> None:
    flow_of(app, seconds=1.5 * HOUR)
    heard: list[tuple[Any, str]] = []
    caplog.set_level(logging.INFO)
    signals.event.connect(log_events)
    names = ["plan.created", "plan.skipped"]
    with app.subscribe(
        lambda flow, event: heard.append((flow, event.name)), name="s", events=names
    ) as subscription:
        app.plan("etl", hours=1)
        serve(app, clock, 2.1 * HOUR)
        assert subscription.wait(SECONDS)

    flow = app.vects()[0].flow
    assert heard == [(flow, "plan.created"), (flow, "plan.skipped")]
    lines = [(r.levelname, r.getMessage()) for r in caplog.records if "plan" in r.getMessage()]
    assert lines[0] == ("INFO", "plan etl@2000-01-01T00:00:00Z created")
    assert lines[1][0] == "WARNING"
    assert lines[1][1].startswith("plan etl@2000-01-01T02:00:00Z skipped: flow 'etl' already runs")


def test_the_events_of_plans_are_kept_as_lines_of_json(
    app: OAutom, clock: WallClock, tmp_path: Path
) -> None:
    flow_of(app, seconds=1.5 * HOUR)
    app.plan("etl", hours=1)
    serve(app, clock, 2.1 * HOUR)

    app.log.to_jsonl(tmp_path / "log.jsonl")

    again = MemoryEventLog.from_jsonl(tmp_path / "log.jsonl")
    assert list(again.read()) == list(app.log.read())


def test_what_passed_while_nobody_served_is_told_to_a_logger(
    restart: Restart, clock: WallClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = restart()
    flow_of(app)
    app.plan("etl", hours=1)
    clock.advance(1.5 * HOUR)
    serve(app, clock, 60)

    assert [record.getMessage() for record in caplog.records] == [
        "plan 'etl': nobody served it at 2000-01-01T01:00:00Z; it goes on at 2000-01-01T02:00:00Z"
    ]


# Parameters


def test_a_plan_gives_parameters_and_the_time_for_which_it_starts(
    app: OAutom, clock: WallClock
) -> None:
    params = {"day": date, "at": datetime, "text": str, "limit": int}
    flow = Flow("etl", app, params=params)

    @flow.step
    def load(day: date, at: datetime, text: str, limit: int) -> list[Any]:
        return [day, at, text, limit]

    load(*(flow.param(name) for name in params))
    given = {"day": ..., "at": ..., "text": ..., "limit": "7"}
    app.plan(flow, cron="30 0 * * *", timezone="Asia/Tokyo", params=given)
    clock.call_later(DAY, app.stop)
    app.run()
    (vect,) = app.vects()

    local = datetime(2000, 1, 2, 0, 30, tzinfo=ZoneInfo("Asia/Tokyo"))
    day, at, text, limit = vect.result("load")
    assert (day, at, text, limit) == (local.date(), local, "2000-01-02T00:30:00+09:00", 7)
    assert vect.id == "etl@2000-01-01T15:30:00Z"
    check_history(app.log.read(), flow)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"day": "someday"}, "parameter 'day'"),
        ({"days": ...}, "there is no parameter 'days'"),
        (None, "day"),
        ({"day": 1.5}, "parameter 'day'"),
        (["2026-11-24"], "params must be a dictionary"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_at_once(
    app: OAutom, params: Any, message: str
) -> None:
    flow = Flow("etl", app, params={"day": date})
    with pytest.raises(ParamError, match=message):
        app.plan(flow, hours=1, params=params)
    assert app.plan(flow, hours=1, params={"day": ...}).name == "etl"
