"""Logs of several flows that have run beside each other replay, each by itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oautom import (
    ApprovalExecution,
    Event,
    Flow,
    MapExecution,
    OAutom,
    Pool,
    PythonExecution,
    RetryPolicy,
    WaitExecution,
)
from oautom.testing import SimulatedClock, assert_replays, check_history, durations, flows, outcomes
from oautom.testing.crashes import Lives, MortalLog
from oautom.testing.simulation import Script, ScriptedWorkers
from oautom.vects.run import Run

from .test_whole_app import Hands

Starts = list[tuple[int, int]]
"""Which flow is started, and after how many seconds."""


def nothing(*_: Any) -> Any:
    """Do nothing."""


def events_of(flows: list[Flow], script: Script, starts: Starts, slots: int) -> list[Event]:
    """Run Vects of flows on the same few workers."""
    clock, log = SimulatedClock(), MortalLog()
    lives = Lives(
        flows[0], log, clock, lambda: ScriptedWorkers(script, clock, slots), script.decision
    )
    runs = [Run(flows[which], f"vect-{number}") for number, (which, _) in enumerate(starts)]
    for run, (_, seconds) in zip(runs, starts, strict=True):
        clock.call_later(seconds, partial(lives.scheduler.begin, run))
    lives.drive(lambda: all(map(lives.scheduler.is_over, runs)))
    return list(log.read())


def hold(events: list[Event], flow: Flow, workers: int) -> None:
    check_history(events, max_workers=workers)
    for max_workers in (None, workers):
        assert_replays(events, flow, max_workers=max_workers)


RICH = flows(
    min_steps=2,
    max_steps=5,
    trigger_rules=True,
    retries=True,
    waits=True,
    limits=True,
    maps=True,
    maps_of_flows=True,
    asyncs=True,
    instants=True,
    deadlines=True,
    secrets=True,
)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_flows_that_share_workers_and_pools_replay(data: st.DataObject) -> None:
    one, other = data.draw(RICH), data.draw(RICH)
    other.name = "other"
    ends = data.draw(outcomes(one, max_attempts=2))
    script = Script(one, data.draw(durations(one, max_attempts=2)), ends)
    start = st.tuples(st.integers(0, 1), st.integers(0, 6))
    starts = data.draw(st.lists(start, min_size=1, max_size=3))
    slots = data.draw(st.integers(1, 3))
    events = events_of([one, other], script, [(0, 0), *starts], slots)

    hold(events, one, slots)
    if any(which for which, _ in starts):
        hold(events, other, slots)


@pytest.mark.parametrize("waits", [1, 2, 3])
def test_an_instance_of_a_full_map_keeps_its_place_though_a_worker_was_free(waits: int) -> None:
    """The log does not tell that a worker was free for a while: another flow has it later."""
    app = OAutom(clock=SimulatedClock())
    flow, other = Flow("flow", app), Flow("other", app)
    listing = PythonExecution("list", flow, nothing)
    MapExecution("map", flow, nothing, listing, max_parallel=1)
    PythonExecution("after", flow, nothing).depends(WaitExecution("wait", flow, seconds=waits))
    PythonExecution("beside", flow, nothing)
    PythonExecution("list", other, nothing)
    ends = {"list": [[1, 2, 3]]}
    script = Script(flow, {"map": 4, "after": 1, "beside": 9, "list": 1}, ends)

    for slots in (2, 3):
        hold(events_of([flow, other], script, [(0, 0), (1, 2)], slots), flow, slots)


def test_a_step_whose_last_attempt_is_at_work_has_no_place_before_that_has_ended() -> None:
    """So it does not matter whether a worker was free to find that out."""
    hands, clock = Hands(), SimulatedClock()
    app = OAutom(executor=hands, max_workers=3, clock=clock)
    flow = Flow("flow", app)
    retry = RetryPolicy(delay=1, jitter=0)  # at 6; then one of the three workers is free
    PythonExecution("deaf", flow, nothing, timeout=5, retry=retry)
    PythonExecution("long", flow, nothing)
    PythonExecution("mid", flow, nothing).depends(WaitExecution("seven", flow, seconds=7))
    PythonExecution("next", flow, nothing).depends(WaitExecution("eight", flow, seconds=8))
    vect = app.start(flow)

    def drive(seconds: float) -> None:
        clock.call_later(seconds, app.stop)
        app.run()

    drive(10)
    while hands.jobs:  # the attempt that was abandoned ends first
        work, future = hands.jobs.pop(0)
        future.set_result(work())
        drive(1)
    assert vect.state == "success"
    assert_replays(app.log, flow)
    app.close()


def test_who_is_abandoned_in_the_tick_of_a_cancel_keeps_its_slot_until_the_answer() -> None:
    """Its time is up when that of the run is, and the log tells of both: it has not ended yet."""
    clock, hands = SimulatedClock(), Hands()
    app = OAutom(executor=hands, max_workers=3, clock=clock)
    pool, first, second = Pool("one", 1), Flow("first", app, run_timeout=5), Flow("second", app)
    PythonExecution("a", first, nothing, pool=pool, timeout=5)
    PythonExecution("b", second, nothing, pool=pool)
    PythonExecution("c", second, nothing).depends(WaitExecution("wait", second, seconds=6))

    def answer() -> None:
        work, future = hands.jobs.pop(0)
        future.set_result(work())

    app.start(first)
    vect = app.start(second)
    clock.call_later(7, answer)
    clock.call_later(8, answer)
    clock.call_later(9, answer)
    assert vect.wait() == "success"
    events = list(app.log.read())

    assert [e.data["abandoned"] for e in events if "abandoned" in e.data] == [True]
    assert [e.step for e in events if e.name == "step.started"] == ["a", "wait", "c", "b"]
    hold(events, second, 3)


def test_a_program_with_fewer_workers_than_the_one_before_replays(tmp_path: Path) -> None:
    for workers in (4, 1):
        with OAutom(log=tmp_path / "runs.db", max_workers=workers) as app:
            flow = Flow("flow", app)
            for name in "abcd":
                PythonExecution(name, flow, nothing)
            app.run(flow)
            events = list(app.log.read())

    assert_replays(events, flow)


def test_steps_that_lend_their_worker_while_they_wait_replay() -> None:
    with OAutom(max_workers=1) as app:
        inner = Flow("inner", app)
        PythonExecution("work", inner, nothing)
        flow = Flow("flow", app)
        first = PythonExecution("first", flow, lambda: app.start(inner).wait())
        PythonExecution("second", flow, nothing)
        PythonExecution("third", flow, nothing).depends(first)
        PythonExecution("fourth", flow, nothing).depends(first)
        vect = app.run(flow)
        hold_all = list(app.log.read())

    assert vect.state == "success"
    assert_replays(hold_all, flow)
    assert_replays(hold_all, inner)


def test_a_vect_that_is_taken_over_late_takes_no_slot_from_those_at_work(tmp_path: Path) -> None:
    """Its program ended long ago; what others have begun since then goes on."""

    def declare(app: OAutom, *names: str) -> list[Flow]:
        made = [Flow(name, app, max_active_vects=2) for name in names]
        for flow in made:
            if flow.name == "late":
                ApprovalExecution("gate", flow, "go on?")
            else:
                PythonExecution("a", flow, nothing, pool=Pool("one", 1))
                PythonExecution("b", flow, nothing).depends(WaitExecution("w", flow, seconds=9))
        return made

    clock = SimulatedClock()
    with OAutom(log=tmp_path / "runs.db", clock=clock, executor=Hands()) as app:
        declare(app, "late")
        app.start("late")
        app.recover()
    hands = Hands()
    with OAutom(log=tmp_path / "runs.db", clock=clock, executor=hands, max_workers=4) as app:
        (flow,) = declare(app, "flow")
        vects = [app.start(flow, vect_id=name) for name in ("one", "two")]

        def drive(seconds: float) -> None:
            clock.call_later(seconds, app.stop)
            app.run()

        drive(1)  # the first has the slot of the pool, and the second waits for it
        declare(app, "late")
        app.recover()
        drive(10)
        while hands.jobs:
            work, future = hands.jobs.pop(0)
            future.set_result(work())
            drive(1)
        assert [vect.state for vect in vects] == ["success", "success"]
        events = list(app.log.read())

    recovered = [event.vect for event in events if event.name == "vect.recovered"]
    assert recovered
    hold(events, flow, 4)


def test_a_retry_after_the_end_of_its_program_finds_nobody_at_work(tmp_path: Path) -> None:
    """The log does not tell that the attempts which were cancelled are gone; their steps start."""
    clock = SimulatedClock()
    for is_again in (False, True):
        hands = Hands()
        app = OAutom(log=tmp_path / "runs.db", executor=hands, max_workers=2, clock=clock)
        flow = Flow("flow", app)
        steps = [PythonExecution(name, flow, nothing) for name in "abc"]
        steps[2].depends(steps[0])
        PythonExecution("d", flow, nothing)
        vect = app.vect("v") if is_again else app.start(flow, vect_id="v")
        if is_again:
            vect.retry()
        clock.call_later(1, app.stop)
        app.run()
        while is_again and hands.jobs:
            work, future = hands.jobs.pop(0)
            future.set_result(work())
            clock.call_later(1, app.stop)
            app.run()
        vect.cancel()
        events = list(app.log.read())
        app.close()

    assert [e.name for e in events].count("step.cancelled") == 4
    assert_replays(events, flow)
    assert_replays(events, flow, max_workers=2)


def test_a_vect_that_is_paused_as_it_is_recovered_replays(tmp_path: Path) -> None:
    clock = SimulatedClock()
    for is_again in (False, True):
        hands = Hands()
        app = OAutom(log=tmp_path / "runs.db", executor=hands, max_workers=1, clock=clock)
        flow = Flow("flow", app)
        PythonExecution("a", flow, nothing)
        vect = app.vect("v") if is_again else app.start(flow, vect_id="v")
        if is_again:
            app.recover()
            vect.pause()
            vect.resume()
        clock.call_later(1, app.stop)
        app.run()
        events = list(app.log.read())
        app.close()

    names = [event.name for event in events]
    assert names[names.index("vect.recovered") :][1:3] == ["step.interrupted", "vect.paused"]
    for max_workers in (None, 1):
        assert_replays(events, flow, max_workers=max_workers)


def test_a_pause_in_a_later_program_is_not_of_the_start_though_no_time_has_passed(
    tmp_path: Path,
) -> None:
    clock = SimulatedClock()

    def go_on() -> None:
        clock.call_later(0, app.stop)
        app.run()

    for is_again in (False, True):
        app = OAutom(log=tmp_path / "runs.db", executor=Hands(), max_workers=1, clock=clock)
        flow = Flow("flow", app, max_active_vects=2)
        PythonExecution("a", flow, nothing)
        if not is_again:
            for vect in ("has the worker", "waits"):
                app.start(flow, vect_id=vect)
        go_on()
        if is_again:
            app.vect("waits").pause()
            go_on()
        events = list(app.log.read())
        app.close()

    names = [event.name for event in events if event.vect == "waits"]
    assert names == ["vect.created", "vect.started", "vect.recovered", "vect.paused"]
    assert len({event.time for event in events}) == 1
    assert_replays(events, flow)
