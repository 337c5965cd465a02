"""Plans, whatever becomes of their program and of the clock: each time once, and in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from oautom import Context, Execution, Flow, OAutom, PythonExecution
from oautom.engine import lifetime
from oautom.events import replay
from oautom.machine.event import planned_time
from oautom.plans import plans
from oautom.plans.schedule import Cron, Interval, Schedule
from oautom.testing import assert_replays, check_history
from oautom.testing.crashes import Crash, MortalLog
from tests.kit import WallClock

MINUTE = 60
START = datetime(2026, 3, 28, 22, 20, tzinfo=UTC)  # the clock changes in this night, in Paris
PARIS = "Europe/Paris"


class Drawn(NamedTuple):
    """A plan, and its flow."""

    timing: dict[str, Any]
    catch_up: bool
    work_minutes: int
    has_thread: bool
    limit: int


class Life(NamedTuple):
    """How long a program serves, whether it is closed or just gone then, and for how long."""

    minutes: int
    is_closed: bool
    pause_minutes: int
    jumps: list[tuple[int, int]]  # after so many minutes the wall clock is set by so many


TIMINGS = st.builds(lambda n: {"minutes": n}, st.integers(7, 200)) | st.builds(
    lambda cron: {"cron": cron, "timezone": PARIS},
    st.sampled_from(["*/15 * * * *", "30 2 * * *", "0 * * * *", "10,50 1,2,3 * * *"]),
)
PLANS = st.builds(
    Drawn, TIMINGS, st.booleans(), st.sampled_from([0, 0, 10, 95]), st.booleans(), st.integers(1, 2)
)


def lives(*, with_jumps: bool) -> st.SearchStrategy[list[Life]]:
    jump = st.tuples(st.integers(0, 300), st.sampled_from([-700, -61, -1, 1, 90, 700]))
    jumps = st.lists(jump, max_size=2) if with_jumps else st.just([])
    pauses = st.sampled_from([0, 0, 5, 300])
    return st.lists(
        st.builds(Life, st.integers(0, 400), st.booleans(), pauses, jumps), min_size=1, max_size=4
    )


MOMENTS = st.lists(st.tuples(st.sampled_from(["before", "in"]), st.integers(1, 25)), max_size=4)


class Elsewhere(Execution):
    def __init__(self, name: str, flow: Flow, minutes: int) -> None:
        super().__init__(name, flow)
        self.poll_interval = minutes * MINUTE

    def run(self, context: Context) -> None:
        """Do nothing."""

    def check(self, context: Context) -> bool:
        return True


class World:
    """A log and a clock, and the programs that come and go with a plan each."""

    def __init__(self, drawn: list[Drawn], moments: list[Any]) -> None:
        self.drawn = {f"plan {i}": each for i, each in enumerate(drawn)}
        self.clock = WallClock(START)
        self.log = MortalLog(moments)
        self.served: list[tuple[datetime, datetime]] = []
        self.flows: dict[str, Flow] = {}

    def declare(self, app: OAutom) -> None:
        for name, each in self.drawn.items():
            flow = self.flows[name] = Flow(name, app, max_active_vects=each.limit)
            seconds = each.work_minutes * MINUTE
            if each.has_thread:
                PythonExecution("work", flow, self.clock.advance, [seconds])
            elif seconds:
                Elsewhere("work", flow, each.work_minutes)
            app.plan(flow, catch_up=each.catch_up, **each.timing)

    def live(self, life: Life) -> bool:
        """Serve the plans as long as it lasts; False if the program dies before."""
        app = OAutom(log=self.log, executor="inline", clock=self.clock)
        begun = self.clock.now()
        try:
            self.declare(app)
            for minutes, by in life.jumps:
                self.clock.call_later(minutes * MINUTE, lambda by=by: self.clock.set_by(by))
            end = self.clock.monotonic() + life.minutes * MINUTE
            self.clock.call_later(life.minutes * MINUTE, app.stop)
            while self.clock.monotonic() < end:
                app.run()
            if life.is_closed:
                app.close()
        except Crash:
            return False
        finally:
            self.served.append((begun, self.clock.now()))
            lifetime.closed(app)  # also if it just is no more
        return True

    def run(self, all_lives: list[Life]) -> None:
        for life in all_lives:
            while not self.live(life):
                pass
            self.clock.advance(life.pause_minutes * MINUTE)

    def times(self, name: str) -> list[datetime]:
        """When the plan was made, and all times that it has dealt with."""
        told = (planned_time(event) for event in self.log.read())
        return [time for plan, time in filter(None, told) if plan == name]

    def schedule(self, name: str) -> Schedule:
        timing = self.drawn[name].timing
        if "cron" in timing:
            return Cron(timing["cron"], ZoneInfo(PARIS))
        return Interval(timedelta(**timing), self.times(name)[0])

    def check(self) -> None:
        """Hold what has happened against what the plans promise."""
        events = list(self.log.read())
        check_history(events)
        for event in events:
            told = planned_time(event)
            assert told is None or event.time >= told[1], "nothing starts early"
        for name, each in self.drawn.items():
            if not self.times(name):
                continue
            since, *dealt = self.times(name)
            schedule = self.schedule(name)
            for before, time in zip([since, *dealt], dealt, strict=False):
                due = schedule.next_time(before)
                assert time == due or (time > due and not each.catch_up)
                assert schedule.next_time(time - timedelta(microseconds=1)) == time
            if each.catch_up:
                names = [e.name for e in events if e.vect.startswith(f"{name}@")]
                assert "plan.skipped" not in names
        for name, flow in self.flows.items():
            if any(state.flow == name for state in replay(events).values()):
                assert_replays(events, flow)


@settings(deadline=None, max_examples=60)
@given(st.lists(PLANS, min_size=1, max_size=2), lives(with_jumps=True), MOMENTS)
def test_every_time_is_dealt_with_once_and_in_order(
    drawn: list[Drawn], all_lives: list[Life], moments: list[Any]
) -> None:
    world = World(drawn, moments)
    world.run(all_lives)
    world.check()


@settings(deadline=None, max_examples=60)
@given(PLANS.filter(lambda each: not each.has_thread), lives(with_jumps=False), MOMENTS)
def test_no_time_is_left_out_while_somebody_serves(
    drawn: Drawn, all_lives: list[Life], moments: list[Any]
) -> None:
    world = World([drawn], moments)
    world.run([*all_lives, Life(2, False, 0, [])])
    schedule, dealt = world.schedule("plan 0"), world.times("plan 0")
    for begun, ended in world.served:
        time = schedule.next_time(max(begun, dealt[0]))
        while time < ended and not drawn.catch_up:
            assert time in dealt
            time = schedule.next_time(time)
    if drawn.catch_up and schedule.next_time(max(dealt)) < world.served[-1][1]:
        states = {state.state for state in replay(world.log.read()).values()}
        assert states & {"running", "cancelled"}, "it waits only for a Vect that is open"


def _never_looks_back(self: plans.Plans, *_: Any) -> None:
    """A bug: where a plan stands is not asked of the log."""


def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MortalLog, "planned", _never_looks_back)

    def is_wrong(given: tuple[list[Drawn], list[Life], list[Any]]) -> bool:
        world = World(given[0], given[2])
        world.run(given[1])
        try:
            world.check()
        except Exception:
            return True
        return False

    worlds = st.tuples(st.lists(PLANS, min_size=1, max_size=1), lives(with_jumps=False), MOMENTS)
    find(worlds, is_wrong, settings=settings(deadline=None, database=None))
