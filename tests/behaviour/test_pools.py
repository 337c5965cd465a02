"""Several slots of a pool, and rates of a pool."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    Client,
    Context,
    Execution,
    Flow,
    FlowError,
    FlowExecution,
    MapExecution,
    OAutom,
    OAutomMode,
    Pool,
    PythonExecution,
    RetryPolicy,
    WaitExecution,
)
from oautom.errors import SettingError
from oautom.events import Event, MemoryEventLog, SqliteEventLog
from oautom.testing import SimulatedClock, assert_replays, check_history, explore, simulate


def nothing(*given: Any) -> None:
    """Do nothing."""


def starts(events: list[Event]) -> dict[str, float]:
    begin = events[0].time
    return {
        e.step or "": (e.time - begin).total_seconds() for e in events if e.name == "step.started"
    }


# What is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pool_slots": 1}, "pool_slots needs a pool; give pool=Pool('name', slots=8), too"),
        (
            {"pool": Pool("p", 3), "pool_slots": 4},
            "pool_slots is 4, but pool 'p' has 3; take fewer",
        ),
        ({"pool": Pool("p", 3), "pool_slots": 0}, "pool_slots must be an int from 1, not 0"),
        ({"pool": Pool("p", 3), "pool_slots": True}, "pool_slots must be an int from 1, not True"),
        ({"pool": Pool("p", 3), "pool_slots": 1.5}, "pool_slots must be an int from 1, not 1.5"),
        (
            {"pool": Pool("p", rate=(1, 2)), "pool_slots": 2},
            "pool_slots is 2, but pool 'p' has no slots, only a rate",
        ),
    ],
)
def test_slots_that_a_pool_cannot_give_are_refused(inline: OAutom, options: Any, said: str) -> None:
    with pytest.raises(FlowError) as caught:
        PythonExecution("a", Flow("f", inline), nothing, **options)
    assert "step 'a' of flow 'f': " + said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "Pool 'p' limits nothing: slots must be an int from 1, or rate a pair like"),
        ({"rate": (0, 60)}, "the starts are an int from 1, not (0, 60)"),
        ({"rate": (True, 60)}, "the starts are an int from 1, not (True, 60)"),
        ({"rate": (5, 0)}, "the seconds are from 0.001, not (5, 0)"),
        ({"rate": (5, float("nan"))}, "the seconds are from 0.001"),
        ({"rate": (5, 86_401)}, "the seconds are at most those of a day, not (5, 86401)"),
        ({"rate": 5}, "rate must be (starts, seconds), as (50, 60), not 5"),
        ({"rate": (5,)}, "rate must be (starts, seconds), as (50, 60), not (5,)"),
        ({"rate": "ab"}, "rate must be (starts, seconds), as (50, 60), not 'ab'"),
    ],
)
def test_a_rate_that_makes_no_sense_is_refused(given: Any, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        Pool("p", **given)
    assert said in str(caught.value)


def test_pools_of_one_name_have_one_rate(inline: OAutom) -> None:
    flow = Flow("f", inline)
    PythonExecution("a", flow, nothing, pool=Pool("p", 3, (5, 60)))
    with pytest.raises(FlowError, match=r"has 3 slots here, and 3 slots and 5 starts in 60 s for"):
        PythonExecution("b", flow, nothing, pool=Pool("p", 3))


# Several slots


def test_a_heavy_step_waits_for_what_runs_and_no_longer() -> None:
    """A stream of light steps, each of which starts the next two, cannot starve it."""
    flow, pool = Flow("f", OAutom()), Pool("p", 4)
    first = [PythonExecution(f"l0-{n}", flow, nothing, pool=pool) for n in range(4)]
    heavy = PythonExecution("heavy", flow, nothing, pool=pool, pool_slots=4)
    before = first
    for level in range(1, 8):
        after = [PythonExecution(f"l{level}-{n}", flow, nothing, pool=pool) for n in range(4)]
        for one, other in zip(before, after, strict=True):
            other.depends(one)
        before = after
    seconds = {f"l0-{n}": n + 1 for n in range(4)}
    vect = simulate(flow, durations={**dict.fromkeys(flow.steps, 2), **seconds})

    begun = starts(vect.events())
    assert begun["heavy"] == 4  # when the last step has ended that ran at its first try
    assert begun["l1-0"] == 6
    check_history(vect.events(), flow)
    assert_replays(vect.events(), flow)
    del heavy


def test_each_instance_of_a_map_takes_the_slots_and_the_map_takes_none() -> None:
    flow = Flow("f", OAutom())
    items = PythonExecution("items", flow, lambda: [1, 2, 3, 4])
    MapExecution("each", flow, nothing, items, pool=Pool("p", 5), pool_slots=2)

    vect = simulate(flow, outcomes={"items": [[1, 2, 3, 4]]}, durations={"each": 3})

    begun = starts(vect.events())
    assert [begun[f"each[{n}]"] for n in range(4)] == [0, 0, 3, 3]
    check_history(vect.events(), flow)


def test_a_child_goes_before_a_heavy_step_that_waits_for_its_parent(inline: OAutom) -> None:
    """Else the heavy step would wait for the child, and the child for the heavy step."""
    pool = Pool("p", 3)
    inner, outer = Flow("inner", inline, max_active_vects=9), Flow("outer", inline)
    PythonExecution("a", inner, nothing, pool=pool)
    run = FlowExecution("run", outer, inner, pool=pool)
    PythonExecution("heavy", outer, nothing, pool=pool, pool_slots=3)

    vect = inline.run("outer")

    assert vect.state == "success"
    order = [e.step for e in inline.vect(vect.id).events() if e.name == "step.started"]
    assert order == ["run", "heavy"]
    del run


def test_work_that_a_step_with_slots_waits_for_goes_before_a_heavy_one(background: OAutom) -> None:
    pool, begun, is_there = Pool("p", 2), threading.Event(), threading.Event()
    inner, outer = Flow("inner", background), Flow("outer", background)
    PythonExecution("a", inner, nothing, pool=pool)
    heavy_flow = Flow("other", background)
    PythonExecution("heavy", heavy_flow, nothing, pool=pool, pool_slots=2)

    def wait_for_it() -> str:
        begun.set()
        assert is_there.wait(10)
        while not heavy.explain("heavy").startswith("`heavy` waits for slots"):
            time.sleep(0.01)
        child = background.start("inner")
        return child.wait(20)

    PythonExecution("waits", outer, wait_for_it, pool=pool)
    vect = background.start("outer")
    assert begun.wait(10)
    heavy = background.start("other")
    is_there.set()

    assert vect.wait(20) == "success"
    assert heavy.wait(20) == "success"


@pytest.mark.parametrize("end", ["cancel", "pause"])
def test_a_heavy_step_that_goes_lets_the_others_go_on(background: OAutom, end: str) -> None:
    pool, may_end = Pool("p", 2), threading.Event()
    one, other, last = (Flow(name, background) for name in ("one", "other", "last"))
    PythonExecution("holds", one, may_end.wait, args=(20,), pool=pool)
    PythonExecution("heavy", other, nothing, pool=pool, pool_slots=2)
    PythonExecution("light", last, nothing, pool=pool)
    holder, heavy = background.start("one"), background.start("other")
    wait_until(lambda: "waits for slots" in heavy.explain("heavy"))
    light = background.start("last")
    wait_until(lambda: "behind `heavy` of vect" in light.explain("light"))

    getattr(heavy, end)()

    assert light.wait(10) == "success"
    may_end.set()
    assert holder.wait(10) == "success"


def test_the_client_says_what_a_step_waits_for(tmp_path: Path) -> None:
    pool, may_end = Pool("p", 3), threading.Event()
    path = str(tmp_path / "runs.db")
    with OAutom(OAutomMode.background, log=path) as app:
        flow = Flow("f", app)
        PythonExecution("holds", flow, may_end.wait, args=(20,), pool=pool, pool_slots=2)
        PythonExecution("heavy", flow, nothing, pool=pool, pool_slots=3)
        PythonExecution("light", flow, nothing, pool=pool)
        vect = app.start("f")
        said = "`heavy` waits for slots: it takes 3 of the 3 of pool `p`, and 2 are taken"
        wait_until(lambda: vect.explain("heavy") == said)
        client = Client(path)
        assert client.vect(vect.id).explain("heavy") == said
        said = "`light` waits for a slot behind `heavy`, which takes several"
        assert (vect.explain("light"), client.vect(vect.id).explain("light")) == (said, said)
        assert [each.pool_slots for each in client.working()] == [2]
        may_end.set()
        assert vect.wait(10) == "success"


def wait_until(is_done: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_done():
        assert time.monotonic() < end
        time.sleep(0.005)


# Rates


def test_no_window_has_more_starts_than_the_rate_allows_for_hours() -> None:
    """Retries count, and a start just as long after the first as the window counts no more."""
    flow, pool = Flow("f", OAutom()), Pool("api", 5, (50, 60))
    items = PythonExecution("items", flow, list)
    retry = RetryPolicy(max_attempts=2, delay=1, jitter=0)
    MapExecution("each", flow, nothing, items, pool=pool, retry=retry)
    many = list(range(6000))
    outcomes = {"items": [many], "each[7]": [ValueError("no"), None]}

    vect = simulate(flow, outcomes=outcomes)

    times = [e.time for e in vect.events() if e.name == "step.started" and "[" in (e.step or "")]
    assert len(times) == 6001
    assert (times[-1] - times[0]).total_seconds() == 120 * 60
    for first, after in zip(times, times[50:], strict=False):
        assert after - first >= timedelta(seconds=60)
    check_history(vect.events(), flow)


def test_a_poll_is_no_start() -> None:
    class Polled(Execution):
        poll_interval = 1

        def run(self, context: Context) -> None:
            """Begin."""

        def check(self, context: Context) -> bool:
            return True

    flow = Flow("f", OAutom())
    Polled("a", flow, pool=Pool("api", rate=(2, 60)))
    Polled("b", flow, pool=Pool("api", rate=(2, 60)))
    vect = simulate(flow, durations={"a": 10, "b": 10})
    assert vect.events()[-1].time - vect.events()[0].time == timedelta(seconds=10)


def test_explain_says_when_the_next_start_is_allowed(tmp_path: Path) -> None:
    path = str(tmp_path / "runs.db")
    with OAutom(OAutomMode.background, log=path) as app:
        flow = Flow("f", app)
        first = PythonExecution("first", flow, nothing, pool=Pool("api", rate=(1, 3600)))
        PythonExecution("next", flow, nothing, pool=Pool("api", rate=(1, 3600))).depends(first)
        vect = app.start("f")
        wait_until(lambda: vect.steps["first"].state == "success")
        wait_until(lambda: "waits for pool" in vect.explain("next"))
        at = vect.steps["first"].start_date
        assert at is not None
        told = vect.explain("next")
        assert told.startswith("`next` waits for pool `api`: 1 of 1 starts in 3600 s; next at ")
        assert (at + timedelta(hours=1)).strftime("%H:%M:%S") in told
        assert Client(path).vect(vect.id).explain("next") == told


def test_starts_outlive_their_program_and_their_vects(tmp_path: Path) -> None:
    path, clock = tmp_path / "runs.db", SimulatedClock()

    def app_of() -> OAutom:
        app = OAutom(log=str(path), executor="inline", clock=clock)
        PythonExecution("a", Flow("f", app, max_active_vects=9), nothing, pool=pool)
        return app

    pool, times = Pool("api", rate=(2, 60)), []
    for _ in range(5):
        with app_of() as app:
            vect = app.run("f")
            times += [e.time for e in vect.events() if e.name == "step.started"]
            app.prune(older_than=clock.now() + timedelta(days=1))
    assert [(each - times[0]).total_seconds() for each in times] == [0, 0, 60, 60, 120]
    log = SqliteEventLog(path, read_only=True)
    assert len(log.starts("api")) <= 3  # cleared behind the window


class SetClock(SimulatedClock):
    """A clock whose wall is set by hand."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


@pytest.mark.parametrize("ahead", [timedelta(days=-400), timedelta(hours=-1), timedelta(days=400)])
def test_a_clock_that_is_set_makes_neither_a_burst_nor_a_long_wait(ahead: timedelta) -> None:
    clock = SetClock()
    app = OAutom(executor="inline", clock=clock)
    flow = Flow("f", app)
    pool = Pool("api", rate=(1, 60))
    steps = [
        PythonExecution(name, flow, lambda: real.append(clock.monotonic()), pool=pool)
        for name in "abc"
    ]
    steps[0] >> steps[1] >> steps[2]
    pause = WaitExecution("pause", flow, seconds=30)
    setting = PythonExecution("set", flow, lambda: setattr(clock, "ahead", ahead))
    pause >> setting
    real: list[float] = []

    vect = app.run("f")

    assert vect.state == "success"
    gaps = [after - before for before, after in pairwise(real)]
    assert len(gaps) == 2
    if ahead < timedelta():
        assert all(60 <= gap <= 60 + 30 + 61 for gap in gaps), gaps
    else:  # the window seems to be over at the next look at the wall clock
        assert gaps[0] <= 60 + 60
        assert gaps[1] == pytest.approx(60)
    check_history(vect.events(), flow)


def test_explore_goes_on_to_the_next_start() -> None:
    flow, pool = Flow("f", OAutom()), Pool("api", rate=(1, 60))
    for name in "abc":
        PythonExecution(name, flow, nothing, pool=pool)
    found = explore(flow)
    assert found.is_complete
    assert [end.state for end in found.ends] == ["success"]
    assert found.schedules == 6


def test_no_thread_turns_while_steps_wait_for_a_rate(tmp_path: Path) -> None:
    """A timer wakes the engine: ticks do not grow with the time that passes."""
    with OAutom(OAutomMode.background, log=str(tmp_path / "runs.db")) as app:
        flow = Flow("f", app)
        for name in "ab":
            PythonExecution(name, flow, nothing, pool=Pool("api", rate=(1, 0.4)))
        vect = app.start("f")
        assert vect.wait(10) == "success"
        begun = [e.time for e in vect.events() if e.name == "step.started"]
        assert timedelta(seconds=0.4) <= begun[1] - begun[0] < timedelta(seconds=2)


def test_a_log_that_was_read_from_lines_tells_of_the_starts_by_its_events(tmp_path: Path) -> None:
    app = OAutom(executor="inline", clock=SimulatedClock())
    PythonExecution("a", Flow("f", app), nothing, pool=Pool("api", rate=(2, 60)))
    vect = app.run("f")
    log = MemoryEventLog()
    for event in vect.events():
        log.append(None, event)
    log.commit()
    log.to_jsonl(tmp_path / "log.jsonl")

    copy = MemoryEventLog.from_jsonl(tmp_path / "log.jsonl")

    (started,) = [e.time for e in vect.events() if e.name == "step.started"]
    assert copy.starts("api") == [started]
    assert copy.starts("other") == []
