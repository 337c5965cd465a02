"""`app.close(drain=...)`: what runs may end, nothing begins; the rest is left to the next life."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    Context,
    EngineError,
    Execution,
    FileExecution,
    Flow,
    FlowExecution,
    MapExecution,
    OAutom,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
    SettingError,
    SqliteEventLog,
    Vect,
    WaitExecution,
)
from oautom.testing import assert_replays, check_history

from .conftest import MODES, SECONDS, Gate, join_threads, nothing

Declare = Callable[[OAutom], Flow]
STOPPED = "the engine is being stopped (the app was closed), and starts nothing"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@contextmanager
def driven(vect: Vect, mode: OAutomMode) -> Iterator[None]:
    """Have somebody drive: in the foreground whoever waits does."""
    waits = threading.Thread(target=lambda: _wait(vect))
    if mode is OAutomMode.foreground:
        waits.start()
    yield
    if mode is OAutomMode.foreground:
        waits.join(SECONDS)
        assert not waits.is_alive()


def _wait(vect: Vect) -> None:
    with pytest.raises(EngineError, match=r"the engine was stopped \(the app was closed\)"):
        vect.wait(SECONDS)


@contextmanager
def draining(app: OAutom, vect: Vect, step: str, seconds: float = SECONDS) -> Iterator[None]:
    """Close an app, which takes as long as the block at the least."""
    closes = threading.Thread(target=app.close, args=(seconds,))
    closes.start()
    until(lambda: STOPPED in vect.explain(step))
    yield
    closes.join(SECONDS)
    assert not closes.is_alive()


def until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def told(path: Path, step: str, vect: str | None = None) -> list[str]:
    with closing(SqliteEventLog(path, read_only=True)) as log:
        events = [e for e in log.read(vect=vect) if e.step == step]
    return [f"{e.name.removeprefix('step.')} {e.attempt or ''}".rstrip() for e in events]


def go_on(path: Path, declare: Declare, vect_id: str = "v") -> Vect:
    """Run the program again, to the end of the Vect."""
    with OAutom(log=path) as app:
        flow = declare(app)
        vect = app.run(flow, vect_id=vect_id)
        check_history(app.log.read(), flow)
        assert_replays(app.log, flow)
        return vect


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_what_runs_ends_and_its_dependants_wait_for_the_next_life(
    mode: OAutomMode, path: Path, gate: Gate
) -> None:
    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app)
        PythonExecution("charge", flow, gate) >> PythonExecution("ship", flow, nothing)
        return flow

    app = OAutom(mode, log=path)
    vect = app.start(declare(app), vect_id="v")
    with driven(vect, mode):
        assert gate.reached.wait(SECONDS) or mode
        with draining(app, vect, "ship"):
            assert "waits for `charge`, which has been running since" in vect.explain("ship")
            with pytest.raises(EngineError, match="closed"):
                app.start("flow")
            gate.opened.set()

    assert told(path, "charge") == ["started 1", "succeeded 1"]
    assert told(path, "ship") == []
    assert go_on(path, declare).state == "success"
    assert told(path, "charge") == ["started 1", "succeeded 1"]
    assert told(path, "ship") == ["started 1", "succeeded 1"]


def waits(step: PythonExecution) -> None:
    step >> WaitExecution("next", step.flow, seconds=0)


def asks(step: PythonExecution) -> None:
    step >> ApprovalExecution("next", step.flow, "go on?", timeout=0.1)


def maps(step: PythonExecution) -> None:
    MapExecution("next", step.flow, str, step.output["list"])


def runs(step: PythonExecution) -> None:
    step >> FlowExecution("next", step.flow, "inner")


def cleans_up(step: PythonExecution) -> None:
    step >> PythonExecution("next", step.flow, nothing, teardown=True)


def is_undone(step: PythonExecution) -> None:
    made = PythonExecution("next", step.flow, nothing, compensate=nothing)
    step.depends(made)


@pytest.mark.parametrize("declare", [waits, asks, maps, runs, cleans_up, is_undone])
@pytest.mark.parametrize("fails", [False, True])
def test_whatever_comes_next_waits_for_the_next_life(
    declare: Callable[[PythonExecution], None], path: Path, gate: Gate, *, fails: bool
) -> None:
    """Also what needs no worker, and what cleans up; and the log replays, before and after that."""

    def work() -> dict[str, list[int]]:
        gate()
        if fails:
            raise ValueError("no")
        return {"list": [1, 2]}

    def flow_of(app: OAutom) -> Flow:
        inner = Flow("inner", app)
        PythonExecution("work", inner, nothing)
        flow = Flow("flow", app)
        declare(PythonExecution("work", flow, work))
        return flow

    app = OAutom(OAutomMode.background, log=path)
    vect = app.start(flow_of(app), vect_id="v")
    assert gate.reached.wait(SECONDS)
    closes = threading.Thread(target=app.close, args=(SECONDS,))
    closes.start()
    until(lambda: bool(app._scheduler.draining))
    gate.opened.set()
    closes.join(SECONDS)
    events = vect.events()
    assert_replays(events, vect.flow)
    begun = [e.step for e in events if e.name in ("step.started", "step.compensating")]
    assert begun.count("next") == (declare is is_undone)
    check_history(events)
    vect = go_on(path, flow_of)
    assert vect.ended
    undone = [event.name for event in vect.events() if event.name == "step.compensated"]
    assert len(undone) == (fails and declare is is_undone)


@pytest.mark.parametrize("workers", [2, 3])
def test_where_several_end_one_after_the_other_nothing_begins_in_between(
    path: Path, workers: int
) -> None:
    gates = [Gate(), Gate()]

    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app, deadline=0.01)
        for number, gate in enumerate(gates):
            work = PythonExecution(f"work {number}", flow, gate)
            work >> PythonExecution(f"next {number}", flow, nothing)
            work >> WaitExecution(f"wait {number}", flow, seconds=0)
        return flow

    app = OAutom(OAutomMode.background, log=path, max_workers=workers)
    vect = app.start(declare(app), vect_id="v")
    assert all(gate.reached.wait(SECONDS) for gate in gates)
    with draining(app, vect, "next 0"):
        for number, gate in enumerate(gates):
            gate.opened.set()
            until(lambda: vect.steps[f"work {number}"].state == "success")  # noqa: B023 - at once
    for max_workers in (None, workers):
        check_history(vect.events(), vect.flow, max_workers=max_workers)
        assert_replays(vect, vect.flow, max_workers=max_workers)
    assert go_on(path, declare).state == "success"


def test_what_does_not_end_in_time_is_ended_and_runs_again(path: Path) -> None:
    has_begun, is_slow = threading.Event(), [True]

    def work(context: Context) -> int:
        has_begun.set()
        if is_slow:
            context.cancelled.wait(SECONDS)
        return context.attempt

    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app)
        PythonExecution("slow", flow, work)
        return flow

    app = OAutom(OAutomMode.background, log=path)
    app.start(declare(app), vect_id="v")
    assert has_begun.wait(SECONDS)
    app.close(drain=0.05)

    is_slow.clear()
    assert go_on(path, declare).result("slow") == 2
    assert told(path, "slow") == ["started 1", "interrupted 1", "started 2", "succeeded 2"]


def wait(flow: Flow) -> Execution:
    return WaitExecution("step", flow, seconds=1000)


def ask(flow: Flow) -> Execution:
    return ApprovalExecution("step", flow, "go on?")


def look(flow: Flow) -> Execution:
    return FileExecution("step", flow, path="/nonexistent/oautom")


def run(flow: Flow) -> Execution:
    WaitExecution("inner", Flow("child", flow.app), seconds=1000)  # type: ignore[arg-type]
    return FlowExecution("step", flow, "child")


def retry(flow: Flow) -> Execution:
    def fail() -> None:
        raise ValueError("no")

    policy = RetryPolicy(max_attempts=2, delay=1000, max_delay=1000, jitter=0)
    return PythonExecution("step", flow, fail, retry=policy)


@pytest.mark.parametrize("declare", [wait, ask, look, run, retry])
def test_what_only_waits_is_not_waited_for(declare: Callable[[Flow], Execution]) -> None:
    with OAutom(OAutomMode.background) as app:
        flow = Flow("flow", app)
        step = declare(flow)
        vect = app.start(flow)
        until(lambda: vect.steps[step.name].state in ("running", "up_for_retry"))
        if step.kind == "flow":
            until(lambda: len(app.vects("child", "running")) == 1)
        app.close(drain=1000)

        assert vect.state == "cancelled"  # there is no other life


def test_a_retry_and_who_waits_for_a_worker_or_is_of_a_map_do_not_start(
    path: Path, gate: Gate
) -> None:
    def work(item: int) -> int:
        if item == 0 and not gate.opened.is_set():
            gate()
        return item

    def fail(context: Context) -> None:
        if context.attempt == 1:
            gate()
            raise ValueError("no")

    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app, params={"items": list[int]})
        PythonExecution("again", flow, fail, retry=RetryPolicy(delay=0))
        MapExecution("map", flow, work, over=flow.param("items"), max_parallel=1)
        PythonExecution("queued", flow, nothing, priority=-1)
        return flow

    app = OAutom(OAutomMode.background, log=path, max_workers=2)
    vect = app.start(declare(app), {"items": [0, 1, 2]}, vect_id="v")
    until(
        lambda: {"again", "map[0]"} <= {s.name for s in vect.steps.values() if s.state == "running"}
    )
    with draining(app, vect, "queued"):
        gate.opened.set()

    assert told(path, "again")[:2] == ["started 1", "retried 1"]
    assert told(path, "again")[2:] in ([], ["released"])
    assert told(path, "map[0]") == ["started 1", "succeeded 1"]
    assert told(path, "map[1]") == told(path, "queued") == []
    assert go_on(path, declare).state == "success"
    assert told(path, "map[0]") == ["started 1", "succeeded 1"]


def test_a_polled_step_is_asked_on(path: Path) -> None:
    """Its work is elsewhere, and would be begun once more by the next life."""
    jobs: list[int] = []
    is_done = threading.Event()

    class Job(Execution):
        poll_interval = 0.005

        def run(self, context: Context) -> str:
            jobs.append(context.attempt)
            return "job"

        def check(self, context: Context) -> bool:
            return is_done.is_set()

    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app)
        Job("job", flow) >> PythonExecution("after", flow, nothing)
        return flow

    app = OAutom(OAutomMode.background, log=path, max_workers=1)
    vect = app.start(declare(app), vect_id="v")
    until(lambda: bool(jobs))
    with draining(app, vect, "after"):
        is_done.set()

    assert told(path, "job") == ["started 1", "succeeded 1"]
    assert go_on(path, declare).state == "success"
    assert jobs == [1]


def test_a_step_of_a_child_ends_and_no_other_begins(path: Path, gate: Gate) -> None:
    def declare(app: OAutom) -> Flow:
        child, flow = Flow("child", app), Flow("flow", app)
        PythonExecution("first", child, gate) >> PythonExecution("second", child, nothing)
        FlowExecution("run", flow, child) >> PythonExecution("after", flow, nothing)
        return flow

    app = OAutom(OAutomMode.background, log=path)
    vect = app.start(declare(app), vect_id="v")
    assert gate.reached.wait(SECONDS)
    with draining(app, vect, "after"):
        gate.opened.set()

    child = "v/run/1"
    assert told(path, "first", child) == ["started 1", "succeeded 1"]
    assert told(path, "second", child) == []
    assert told(path, "run") == ["started 1"]
    assert go_on(path, declare).state == "success"
    assert told(path, "first", child) == ["started 1", "succeeded 1"]
    assert told(path, "run") == ["started 1", "succeeded 1"]


@pytest.mark.parametrize("log", ["memory", "file"])
def test_a_step_whose_child_ends_with_that_ends_too_and_so_does_its_vect(
    path: Path, gate: Gate, log: str
) -> None:
    app = OAutom(OAutomMode.background, log=path if log == "file" else None)
    inner, middle, outer = (Flow(name, app) for name in ("inner", "middle", "outer"))
    PythonExecution("work", inner, gate)
    FlowExecution("run", middle, inner)
    FlowExecution("run", outer, middle)
    vect = app.start(outer, vect_id="v")
    assert gate.reached.wait(SECONDS)
    closes = threading.Thread(target=app.close, args=(SECONDS,))
    closes.start()
    until(lambda: bool(app._scheduler.draining))
    gate.opened.set()
    closes.join(SECONDS)

    assert [each.state for each in app.vects()] == ["success"] * 3
    assert vect.steps["run"].state == "success"


@pytest.mark.parametrize("ends", ["success", "failed"])
def test_a_vect_whose_last_step_ends_has_ended(path: Path, gate: Gate, ends: str) -> None:
    def work() -> None:
        gate()
        if ends == "failed":
            raise ValueError("no")

    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app)
        step = PythonExecution("work", flow, work)
        if ends == "failed":
            step >> PythonExecution("after", flow, nothing)
        return flow

    app = OAutom(OAutomMode.background, log=path)
    vect = app.start(declare(app), vect_id="v")
    assert gate.reached.wait(SECONDS)
    closes = threading.Thread(target=app.close, args=(SECONDS,))
    closes.start()
    gate.opened.set()
    closes.join(SECONDS)

    assert vect.state == ends
    if ends == "failed":
        assert told(path, "after") == ["blocked"]
    with closing(SqliteEventLog(path, read_only=True)) as log:
        assert log.open_vects() == []


def test_with_a_log_in_memory_vects_are_cancelled_when_what_runs_has_ended(gate: Gate) -> None:
    app = OAutom(OAutomMode.background)
    flow = Flow("flow", app)
    PythonExecution("work", flow, gate) >> PythonExecution("after", flow, nothing)
    vect = app.start(flow)
    assert gate.reached.wait(SECONDS)
    with draining(app, vect, "after"):
        gate.opened.set()

    assert (vect.state, vect.result("work")) == ("cancelled", "through")
    assert vect.steps["after"].state == "cancelled"
    check_history(app.log.read(), flow)


def test_a_step_that_is_refused_a_new_vect_runs_again_and_has_not_failed(
    path: Path, gate: Gate
) -> None:
    def declare(app: OAutom) -> Flow:
        other, flow = Flow("other", app), Flow("flow", app)
        PythonExecution("work", other, nothing)

        def order() -> str:
            if not gate.opened.is_set():
                gate()
            return app.start(other, vect_id="ordered").wait(SECONDS)

        PythonExecution("order", flow, order) >> PythonExecution("after", flow, nothing)
        return flow

    app = OAutom(OAutomMode.background, log=path)
    vect = app.start(declare(app), vect_id="v")
    assert gate.reached.wait(SECONDS)
    with draining(app, vect, "after"):
        gate.opened.set()

    assert told(path, "order") == ["started 1"]
    assert go_on(path, declare).result("order") == "success"
    assert told(path, "order") == ["started 1", "interrupted 1", "started 2", "succeeded 2"]


def test_another_close_ends_the_draining_at_once(path: Path) -> None:
    has_begun = threading.Event()

    def work(context: Context) -> None:
        has_begun.set()
        context.cancelled.wait(SECONDS)

    app = OAutom(OAutomMode.background, log=path)
    flow = Flow("flow", app)
    PythonExecution("work", flow, work) >> PythonExecution("after", flow, nothing)
    vect = app.start(flow, vect_id="v")
    assert has_begun.wait(SECONDS)
    with draining(app, vect, "after", 1000):
        app.close()

    assert told(path, "work") == ["started 1"]


def test_a_timeout_ends_an_attempt_meanwhile(path: Path) -> None:
    has_begun = threading.Event()

    def work(context: Context) -> None:
        has_begun.set()
        context.cancelled.wait(SECONDS)

    app = OAutom(OAutomMode.background, log=path)
    flow = Flow("flow", app)
    PythonExecution("work", flow, work, timeout=0.2)
    vect = app.start(flow, vect_id="v")
    assert has_begun.wait(SECONDS)
    app.close(drain=SECONDS)

    assert (vect.state, told(path, "work")) == ("failed", ["started 1", "failed 1"])


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_an_app_that_does_nothing_is_closed_at_once(mode: OAutomMode, path: Path) -> None:
    app = OAutom(mode, log=path)
    app.close(drain=1000)
    with pytest.raises(EngineError, match="closed"):
        app.run()

    app = OAutom(mode, log=path)
    flow = Flow("flow", app)
    PythonExecution("work", flow, nothing)
    app.run(flow)
    app.close(drain=1000)
    app.close(drain=1000)


def test_no_plan_starts_meanwhile(path: Path, gate: Gate) -> None:
    app = OAutom(OAutomMode.background, log=path)
    flow, other = Flow("flow", app), Flow("other", app)
    PythonExecution("work", flow, gate) >> PythonExecution("after", flow, nothing)
    PythonExecution("work", other, nothing)
    vect = app.start(flow, vect_id="v")
    assert gate.reached.wait(SECONDS)
    with draining(app, vect, "after"):
        before = len(app.vects("other"))
        with pytest.raises(EngineError, match="closed"):
            app.plan(other, seconds=0.001)
        gate.opened.set()
    assert len(app.vects("other")) == before


def test_an_asyncio_program_closes_while_its_loop_goes_on(path: Path) -> None:
    ticks: list[int] = []

    async def work() -> str:
        await asyncio.sleep(0.05)
        return "done"

    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app)
        PythonExecution("work", flow, work) >> PythonExecution("after", flow, nothing)
        return flow

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0.001)

    async def main() -> None:
        app = OAutom(OAutomMode.background, log=path)
        vect = await app.astart(declare(app), vect_id="v")
        while vect.steps["work"].state != "running":
            await asyncio.sleep(0.001)
        ticking = asyncio.create_task(tick())
        await app.aclose(drain=SECONDS)
        ticking.cancel()

    asyncio.run(main())
    assert ticks
    assert told(path, "work") == ["started 1", "succeeded 1"]
    assert told(path, "after") == []
    assert go_on(path, declare).state == "success"


@pytest.mark.parametrize("wrong", [-1, "soon", None, True, float("nan"), [30]])
def test_drain_is_a_number_of_seconds(wrong: Any) -> None:
    with pytest.raises(SettingError, match="drain must be seconds, from 0, not"):
        OAutom(drain=wrong)
    with OAutom() as app:
        with pytest.raises(SettingError, match="drain must be seconds, from 0, not"):
            app.close(drain=wrong)
        assert app.flows() == []  # it is open still
    app.close(drain=float("inf"))
    join_threads("oautom-scheduler")
