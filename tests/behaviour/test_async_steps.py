"""Async steps: on one event loop beside the workers; cancelled where they await, and waited for."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oautom import (
    BranchExecution,
    Context,
    Execution,
    Flow,
    FlowError,
    LogError,
    MapExecution,
    MemoryEventLog,
    OAutom,
    Pool,
    PythonExecution,
    RetryPolicy,
    StepFailedError,
    Vect,
)
from oautom.audit.invariants import check_history, violations
from oautom.testing import SimulatedClock, assert_replays, explore, simulate
from oautom.workers import kept_loop
from oautom.workers.inline import InlineWorkers

from .conftest import SECONDS, Gate, NewApp, join_threads, nothing, runs_well, told


async def until(is_so: Any) -> None:
    async with asyncio.timeout(SECONDS):
        while not is_so():
            await asyncio.sleep(0.001)


def wait_until(is_so: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def drive_until(vect: Vect, is_so: Any) -> None:
    """Wait until something is so, and drive meanwhile where nobody else does."""
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        with contextlib.suppress(TimeoutError):
            vect.wait(0.005)


class Sleeper:
    """An async step that sleeps until it is cancelled, and takes note of how it went."""

    def __init__(self, tidy_seconds: float = 0.0) -> None:
        self.told: list[str] = []
        self.begun = threading.Event()
        self._tidy_seconds = tidy_seconds

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.sleep(SECONDS)
        except asyncio.CancelledError:
            self.told.append("cancelled")
            await asyncio.sleep(self._tidy_seconds)
            self.told.append("tidied up")
            raise


class Deaf:
    """An async step that swallows its cancellation, and goes on until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.opened = threading.Event()

    async def __call__(self) -> str:
        self.begun.set()
        while not self.opened.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                continue
        return "all the same"


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oautom.engine.runner.COROUTINE_GRACE_PERIOD", 0.05)
    monkeypatch.setattr(kept_loop, "GRACE_PERIOD", 0.05)


def options_of(app: OAutom, vect: Vect, step: str) -> Any:
    return vect.events()[0].data.get("options", {}).get(step)


# What is async


async def later(value: int = 1) -> int:
    await asyncio.sleep(0)
    return value


class Later:
    async def __call__(self) -> int:
        return await later()


@pytest.mark.parametrize(
    "function",
    [
        later,
        functools.partial(later, 2),
        functools.partial(functools.partial(later), value=2),
        Later(),
        functools.partial(Later()),
        Later().__call__,
    ],
)
def test_what_is_declared_async_is_so_in_the_log(any_app: OAutom, function: Any) -> None:
    flow = Flow("f", any_app)
    PythonExecution("a", flow, function)
    vect = any_app.run(flow)

    assert vect.result("a") in (1, 2)
    assert options_of(any_app, vect, "a") == {"async": 1000}
    check_history(any_app.log.read(), flow)


def test_a_plain_step_has_nothing_about_it_in_the_log(mode_app: OAutom) -> None:
    flow = Flow("f", mode_app)
    PythonExecution("a", flow, nothing)

    assert mode_app.run(flow).events()[0].data.keys() == {"params", "graph"}


@pytest.mark.parametrize(("executor", "is_told"), [("threads", True), ("inline", False)])
def test_the_log_tells_whether_async_steps_need_a_worker(
    new_app: NewApp, executor: Any, is_told: bool
) -> None:
    app = new_app(executor=executor)
    flow = Flow("f", app)
    PythonExecution("a", flow, later)

    assert app.run(flow).events()[0].data.get("loop", False) is is_told


def test_a_step_of_the_decorator_may_be_async(any_app: OAutom) -> None:
    flow = Flow("f", any_app)

    @flow.step
    async def double(value: int) -> int:
        await asyncio.sleep(0)
        return 2 * value

    double(double(1))

    assert any_app.run(flow).result("double_2") == 4


def test_a_branch_may_be_async(any_app: OAutom) -> None:
    flow = Flow("f", any_app)

    async def choose() -> list[Any]:
        await asyncio.sleep(0)
        return ["left"]

    branch = BranchExecution("choose", flow, choose)
    branch >> [PythonExecution("left", flow, nothing), PythonExecution("right", flow, later)]
    vect = any_app.run(flow)

    assert [vect.steps[name].state for name in ("left", "right")] == ["success", "skipped"]
    assert vect.result("choose") == ["left"]


def test_the_instances_of_a_map_may_be_async(any_app: OAutom) -> None:
    flow = Flow("f", any_app)

    async def double(value: int) -> int:
        await asyncio.sleep(0)
        return 2 * value

    items = PythonExecution("items", flow, lambda: [1, 2, 3])
    MapExecution("map", flow, double, over=items)

    assert any_app.run(flow).result("map") == [2, 4, 6]
    check_history(any_app.log.read(), flow)


class Remote(Execution):
    """A step of one's own kind whose `run` and `check` are async."""

    poll_interval = 0.001

    async def run(self, context: Context) -> str:
        self.asked = 0
        return context.step

    async def check(self, context: Context) -> bool:
        await asyncio.sleep(0)
        self.asked += 1
        return self.asked == 3


def test_a_step_that_is_polled_may_be_async(any_app: OAutom) -> None:
    flow = Flow("f", any_app)
    step = Remote("a", flow)
    vect = any_app.run(flow)

    assert vect.result("a") == "a"
    assert step.asked == 3
    assert options_of(any_app, vect, "a") == {"async": 1000}


def test_a_step_that_is_async_in_part_has_a_worker(any_app: OAutom) -> None:
    class Half(Remote):
        def check(self, context: Context) -> bool:  # type: ignore[override]
            return True

    flow = Flow("f", any_app)
    Half("a", flow)
    PythonExecution("b", flow, lambda: later(3))
    vect = any_app.run(flow)

    assert (vect.result("a"), vect.result("b")) == ("a", 3)
    assert vect.events()[0].data.keys() == {"params", "graph"}


@pytest.mark.parametrize("wrong", [0, -1, True, False, 1.0, "1", None])
def test_a_max_async_that_is_no_number_of_steps_is_refused(mode_app: OAutom, wrong: Any) -> None:
    with pytest.raises(FlowError, match="flow 'f': max_async must be a positive int, not"):
        Flow("f", mode_app, max_async=wrong)


# Beside the workers


def test_async_steps_take_no_worker(new_app: NewApp, mode: Any) -> None:
    app = new_app(mode, max_workers=1)
    flow, gate, count = Flow("f", app), Gate(), 0
    PythonExecution("held", flow, gate)

    async def step() -> None:
        nonlocal count
        count += 1
        await until(lambda: count == 5)
        gate.opened.set()

    for number in range(5):
        PythonExecution(f"async {number}", flow, step)

    assert app.run(flow).state == "success"
    check_history(app.log.read(), flow, max_workers=1)
    assert_replays(app.log, flow, max_workers=1)


def test_plain_steps_start_while_async_ones_run(new_app: NewApp, mode: Any) -> None:
    app = new_app(mode, max_workers=1)
    flow, has_run = Flow("f", app), threading.Event()
    for number in range(3):
        PythonExecution(f"async {number}", flow, lambda: until(has_run.is_set))
    PythonExecution("a", flow, functools.partial(until, has_run.is_set))
    PythonExecution("b", flow, has_run.set)
    # Lambdas are plain functions: each would hold the only worker for as long as it takes.
    flow = Flow("g", app)
    for number in range(3):
        PythonExecution(f"async {number}", flow, functools.partial(until, has_run.is_set))
    PythonExecution("b", flow, has_run.set)

    assert app.run(flow).state == "success"


@pytest.mark.parametrize("executor", ["threads", "inline", "user"])
def test_at_most_max_async_run_at_once_over_all_vects_of_a_flow(
    new_app: NewApp, mode: Any, executor: Any
) -> None:
    pool = ThreadPoolExecutor(8)
    app = new_app(mode, executor=pool if executor == "user" else executor)
    flow = Flow("f", app, max_async=2, max_active_vects=3)
    now, most = 0, 0

    async def step() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.005)
        now -= 1

    for number in range(4):
        PythonExecution(f"a{number}", flow, step)
    vects = [app.start(flow) for _ in range(3)]
    assert [vect.wait(SECONDS) for vect in vects] == ["success"] * 3

    assert most == (1 if executor == "inline" else 2)
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)
    pool.shutdown()


def test_a_pool_limits_async_steps_too(mode_app: OAutom) -> None:
    flow, pool = Flow("f", mode_app, max_async=3), Pool("one", 1)
    now, most = 0, 0

    async def step() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1

    for number in range(6):
        PythonExecution(f"a{number}", flow, step, pool=pool if number % 2 else None)
        PythonExecution(f"p{number}", flow, step, pool=pool)

    assert mode_app.run(flow).state == "success"
    assert most <= 3
    check_history(mode_app.log.read(), flow)


def test_those_of_a_higher_priority_are_the_next_of_a_limit(mode_app: OAutom) -> None:
    flow, order = Flow("f", mode_app, max_async=1), []

    async def step(name: str) -> None:
        order.append(name)

    for name, priority in (("first", 9), ("low", 0), ("high", 5)):
        PythonExecution(name, flow, step, (name,), priority=priority)
    mode_app.run(flow)

    assert order == ["first", "high", "low"]


def test_explain_tells_of_the_limit(new_app: NewApp, mode: Any) -> None:
    app = new_app(mode, max_workers=1)
    flow, sleeper = Flow("f", app, max_async=1), Sleeper()
    PythonExecution("a", flow, sleeper)
    PythonExecution("b", flow, sleeper) >> PythonExecution("c", flow, nothing)
    vect = app.start(flow)
    drive_until(vect, sleeper.begun.is_set)

    assert vect.explain("b").startswith(
        "`b` waits, since only one async step of flow `f` may run at once"
    )
    assert "`b`, which waits for other async steps of its flow" in vect.explain("c")
    vect.cancel()
    vect.wait(SECONDS)


# Cancelled


@pytest.fixture(params=["threads", "user"])
def thread_app(new_app: NewApp, mode: Any, request: pytest.FixtureRequest) -> Any:
    if request.param == "threads":
        yield new_app(mode)
        return
    with ThreadPoolExecutor(4) as pool:
        app = new_app(mode, executor=pool)
        yield app
        app.close()


def test_a_cancel_is_raised_where_it_awaits_and_is_waited_for(thread_app: OAutom) -> None:
    flow, sleeper = Flow("f", thread_app), Sleeper(tidy_seconds=0.02)
    PythonExecution("a", flow, sleeper)
    vect = thread_app.start(flow)
    threading.Thread(target=lambda: sleeper.begun.wait(SECONDS) and vect.cancel("enough")).start()

    assert vect.wait(SECONDS) == "cancelled"
    assert sleeper.told == ["cancelled", "tidied up"]
    late = [e for e in vect.events() if e.name == "step.late_result"]
    assert [e.data["error"] for e in late] == ["it was cancelled"]
    assert runs_well(thread_app)


def test_one_of_a_lambda_that_makes_a_coroutine_is_cancelled_too(thread_app: OAutom) -> None:
    flow, sleeper = Flow("f", thread_app), Sleeper()
    PythonExecution("a", flow, lambda: sleeper())
    vect = thread_app.start(flow)
    threading.Thread(target=lambda: sleeper.begun.wait(SECONDS) and vect.cancel()).start()

    assert vect.wait(SECONDS) == "cancelled"
    assert sleeper.told == ["cancelled", "tidied up"]


def test_a_step_fails_by_its_timeout_when_it_has_ended(any_app: OAutom) -> None:
    flow, sleeper = Flow("f", any_app), Sleeper(tidy_seconds=0.02)
    PythonExecution("a", flow, sleeper, timeout=0.3)
    vect = any_app.run(flow)

    assert sleeper.told == ["cancelled", "tidied up"]
    assert vect.steps["a"].error == "it took longer than its timeout of 0.3 seconds"
    assert not [e for e in vect.events() if e.name == "step.late_result"]
    check_history(any_app.log.read(), flow)


def test_one_that_ends_well_though_cancelled_has_failed_by_its_timeout(any_app: OAutom) -> None:
    flow = Flow("f", any_app)

    async def step() -> str:
        try:
            await asyncio.sleep(SECONDS)
        except asyncio.CancelledError:
            return "well"
        return "never"

    PythonExecution("a", flow, step, timeout=0.3)

    assert any_app.run(flow).steps["a"].error == "it took longer than its timeout of 0.3 seconds"


def test_it_is_tried_again_after_a_timeout(any_app: OAutom) -> None:
    flow = Flow("f", any_app)

    async def step(context: Context) -> int:
        if context.attempt == 1:
            await asyncio.sleep(SECONDS)
        return context.attempt

    retry = RetryPolicy(max_attempts=2, delay=0.001)
    PythonExecution("a", flow, step, timeout=0.5, retry=retry)

    assert any_app.run(flow).result("a") == 2


def test_close_cancels_what_runs(new_app: NewApp, mode: Any, tmp_path: Path) -> None:
    for log in (None, tmp_path / "runs.db"):
        app = new_app(mode, log=log)
        flow, sleeper = Flow("f", app), Sleeper()
        PythonExecution("a", flow, sleeper)
        vect = app.start(flow)
        drive_until(vect, sleeper.begun.is_set)
        app.close()

        assert sleeper.told == ["cancelled", "tidied up"]
        join_threads("oautom-loop")
        assert not [t.name for t in threading.enumerate() if t.name.startswith("oautom-loop")]


def test_one_that_has_not_begun_is_never_begun(new_app: NewApp) -> None:
    app = new_app()
    flow, begun = Flow("f", app), []

    async def block() -> None:
        begun.append("block")
        time.sleep(0.1)

    async def step() -> None:
        begun.append("step")

    PythonExecution("a", flow, block)
    PythonExecution("b", flow, step)
    vect = app.start(flow)
    threading.Thread(target=lambda: (wait_until(lambda: begun), vect.cancel())).start()
    vect.wait(SECONDS)

    assert begun == ["block"]
    late = {e.step: e.data for e in vect.events() if e.name == "step.late_result"}
    assert late["b"] == {"error": "the step was cancelled before it began"}


def test_context_tells_a_cancel_to_async_steps_too(any_app: OAutom) -> None:
    flow, heard = Flow("f", any_app), []

    async def step(context: Context) -> None:
        context.on_cancel(lambda: heard.append("on_cancel"))
        try:
            await asyncio.sleep(SECONDS)
        finally:
            heard.append(context.cancelled.is_set())

    PythonExecution("a", flow, step, timeout=0.3)
    any_app.run(flow)

    assert heard == ["on_cancel", True]


@pytest.mark.usefixtures("short_grace")
def test_one_that_goes_on_is_abandoned_by_a_timeout(
    mode_app: OAutom, caplog: pytest.LogCaptureFixture
) -> None:
    flow, deaf = Flow("f", mode_app), Deaf()
    PythonExecution("a", flow, deaf, timeout=0.3)
    vect = mode_app.run(flow)
    error = "it took longer than its timeout of 0.3 seconds; it did not end when it was "
    error += "cancelled, and what it does was abandoned"

    assert vect.steps["a"].error == error
    assert f"vect '{vect.id}', step 'a', attempt 1: {error}" in caplog.messages
    deaf.opened.set()
    assert runs_well(mode_app)
    wait_until(lambda: runs_well(mode_app) and "step.late_result a" in told(vect.events()))
    check_history(mode_app.log.read(), flow)


@pytest.mark.usefixtures("short_grace")
def test_one_that_goes_on_is_abandoned_by_a_cancel(
    mode_app: OAutom, caplog: pytest.LogCaptureFixture
) -> None:
    flow, deaf = Flow("f", mode_app), Deaf()
    PythonExecution("a", flow, deaf)
    vect = mode_app.start(flow)
    threading.Thread(target=lambda: deaf.begun.wait(SECONDS) and vect.cancel()).start()

    assert vect.wait(SECONDS) == "cancelled"
    warning = f"vect '{vect.id}', step 'a', attempt 1: it was cancelled, but is still at work"
    wait_until(lambda: warning in caplog.messages)
    deaf.opened.set()
    assert runs_well(mode_app)
    check_history(mode_app.log.read(), flow)


@pytest.mark.usefixtures("short_grace")
def test_the_next_attempt_waits_for_the_end_of_one_that_goes_on(mode_app: OAutom) -> None:
    flow, deaf = Flow("f", mode_app), Deaf()
    PythonExecution("a", flow, deaf, timeout=0.3, retry=RetryPolicy(max_attempts=2, delay=0.0))
    vect = mode_app.start(flow)

    drive_until(vect, lambda: "is at work still" in vect.explain("a"))
    assert told(vect.events()).count("step.started a") == 1
    deaf.opened.set()
    assert vect.wait(SECONDS) == "success"
    assert vect.steps["a"].attempt == 2
    check_history(mode_app.log.read(), flow)


@pytest.mark.usefixtures("short_grace")
def test_what_goes_on_ends_with_its_event_loop_and_runs_again_in_the_next_app(
    new_app: NewApp, mode: Any, tmp_path: Path
) -> None:
    deaf = Deaf()
    for life in range(2):
        app = new_app(mode, log=tmp_path / "runs.db")
        flow = Flow("f", app)
        PythonExecution("a", flow, deaf)
        vect = app.start(flow, vect_id="v")
        if life == 1:
            deaf.opened.set()
            assert vect.wait(SECONDS) == "success"
        else:
            drive_until(vect, deaf.begun.is_set)
            app.close()


@pytest.mark.usefixtures("short_grace")
def test_one_that_goes_on_holds_up_no_close(new_app: NewApp, mode: Any, tmp_path: Path) -> None:
    for log in (None, tmp_path / "runs.db"):
        app = new_app(mode, log=log)
        flow, deaf = Flow("f", app), Deaf()
        PythonExecution("a", flow, deaf)
        vect = app.start(flow)
        drive_until(vect, deaf.begun.is_set)
        begun = time.monotonic()
        app.close()

        assert time.monotonic() - begun < 5
        deaf.opened.set()


@pytest.mark.usefixtures("short_grace")
def test_one_that_goes_on_holds_up_no_engine_whose_log_has_failed(
    new_app: NewApp, mode: Any
) -> None:
    class Full(MemoryEventLog):
        def commit(self) -> Any:
            if is_full.is_set():
                raise OSError("the disk is full")
            return super().commit()

    deaf, is_full = Deaf(), threading.Event()
    app = new_app(mode, log=Full())
    flow = Flow("f", app)
    PythonExecution("a", flow, deaf)
    vect = app.start(flow)
    drive_until(vect, deaf.begun.is_set)
    is_full.set()
    with pytest.raises(LogError):
        vect.pause()
    with pytest.raises(LogError):
        vect.wait(SECONDS)
    app.close()
    deaf.opened.set()


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("executor", ["inline", "user"])
def test_one_that_has_its_worker_is_not_resumed_any_more(
    new_app: NewApp, mode: Any, executor: Any
) -> None:
    pool = ThreadPoolExecutor(1)
    app = new_app(mode, executor=pool if executor == "user" else executor)
    flow, deaf = Flow("f", app), Deaf()
    PythonExecution("a", flow, deaf, timeout=0.3)
    vect = app.run(flow)

    assert vect.steps["a"].state == "failed"
    assert runs_well(app)
    pool.shutdown()


# What it raises


def test_a_cancelled_error_of_its_own_is_a_failure(any_app: OAutom) -> None:
    flow = Flow("f", any_app)

    async def step() -> None:
        raise asyncio.CancelledError

    async def inner() -> None:
        task = asyncio.ensure_future(asyncio.sleep(SECONDS))
        await asyncio.sleep(0)
        task.cancel()
        await task

    PythonExecution("a", flow, step)
    PythonExecution("b", flow, inner, retry=RetryPolicy(max_attempts=2, delay=0.0))
    vect = any_app.run(flow)

    for name in ("a", "b"):
        error = vect.steps[name].error or ""
        assert error.startswith("it raised asyncio.CancelledError, but nobody has cancelled it")
        with pytest.raises(StepFailedError) as caught:
            vect.result(name)
        assert isinstance(caught.value.__cause__, Exception)
    assert vect.steps["b"].attempt == 2


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_task_that_leaves_by_what_ends_a_loop_fails_its_step_only(
    any_app: OAutom, error: BaseException
) -> None:
    flow = Flow("f", any_app)

    async def bad() -> None:
        raise error

    async def step() -> None:
        await asyncio.gather(asyncio.sleep(0), bad())

    PythonExecution("a", flow, step)
    PythonExecution("b", flow, later)
    vect = any_app.run(flow)

    assert (vect.steps["a"].error or "").startswith(type(error).__name__)
    assert vect.result("b") == 1
    assert runs_well(any_app)


def test_a_step_that_stops_its_loop_stops_nobody(any_app: OAutom) -> None:
    flow = Flow("f", any_app)

    async def step() -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return "all the same"

    PythonExecution("a", flow, step)

    assert any_app.run(flow).result("a") == "all the same"
    assert any_app.run(flow).result("a") == "all the same"


# Its surroundings

NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


def test_each_step_has_a_copy_of_its_own_of_context_variables(mode_app: OAutom) -> None:
    flow, seen = Flow("f", mode_app), []

    async def step(context: Context) -> None:
        seen.append(NAME.get())
        NAME.set(context.step)
        await asyncio.sleep(0.005)
        assert await asyncio.to_thread(NAME.get) == context.step
        assert NAME.get() == context.step

    for number in range(5):
        PythonExecution(f"a{number}", flow, step)
    token = NAME.set("whoever drives")
    try:
        assert mode_app.run(flow).state == "success"
    finally:
        NAME.reset(token)
    assert seen == ["nobody"] * 5


@pytest.mark.parametrize("executor", ["threads", "inline", "user"])
def test_steps_one_after_the_other_have_one_loop(new_app: NewApp, mode: Any, executor: Any) -> None:
    pool = ThreadPoolExecutor(1)
    app = new_app(mode, executor=pool if executor == "user" else executor)
    flow, loops = Flow("f", app), set()

    async def step() -> None:
        loops.add(asyncio.get_running_loop())

    PythonExecution("a", flow, step) >> PythonExecution("b", flow, step)
    assert app.run(flow).state == "success"

    assert len(loops) == 1
    app.close()
    pool.shutdown()
    join_threads("oautom-scheduler", "oautom-loop")
    wait_until(lambda: all(loop.is_closed() for loop in loops))


@pytest.mark.parametrize("ends", ["closed", "closed elsewhere, and collected"])
def test_the_end_of_an_app_ends_no_loop_that_another_one_uses_on_its_thread(
    new_app: NewApp, ends: str
) -> None:
    apps = [OAutom(executor="inline")]
    loops = []

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    def end_the_other() -> None:
        other = apps.pop()
        if ends == "closed":
            other.close()
        else:
            thread = threading.Thread(target=other.close)
            thread.start()
            thread.join(SECONDS)
        del other
        gc.collect()  # on whatever thread that comes

    other_flow = Flow("other", apps[0])
    PythonExecution("first", other_flow, note)
    assert apps[0].run("other").state == "success"
    del other_flow
    flow = Flow("f", new_app(executor="inline"))
    first, last = PythonExecution("a", flow, note), PythonExecution("c", flow, note)
    first >> PythonExecution("b", flow, end_the_other) >> last
    assert flow.app.run(flow).state == "success"
    assert loops[1] is loops[2] is loops[0]


@pytest.mark.parametrize("place", ["_note_use", "_loop_of_this_thread", "on_cancel"])
def test_another_app_may_end_between_any_two_instructions_before_a_coroutine_begins(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The garbage collector ends what is left of an app, on whatever thread it runs."""
    own, other = InlineWorkers(), InlineWorkers()
    given: list[Any] = []

    async def work() -> int:
        return 7

    def job() -> int:
        return kept_loop.run_to_its_end(work(), on_cancel)

    def ending(call: Any) -> Any:
        def ended(*args: Any) -> Any:
            result = call(*args)
            if len(given) == 1:  # the other one has done its job
                other.close()
            return result

        return ended

    on_cancel: Any = bool
    if place == "on_cancel":
        on_cancel = ending(bool)
    else:
        monkeypatch.setattr(kept_loop, place, ending(getattr(kept_loop, place)))
    for workers in (other, own):
        workers.submit(job, lambda answer, failure: given.append((answer, failure)))
        workers.run_next()
    assert given == [(7, None), (7, None)]
    own.close()


def test_a_program_whose_loop_runs_may_run_async_steps_inline(inline: OAutom) -> None:
    flow = Flow("f", inline)
    PythonExecution("a", flow, later)

    async def main() -> int:
        return inline.run(flow).result("a")

    assert asyncio.run(main()) == 1


def test_what_a_step_leaves_behind_ends_with_the_app(new_app: NewApp) -> None:
    app = new_app()
    flow, ended, tasks = Flow("f", app), [], []

    async def background() -> None:
        try:
            await asyncio.sleep(SECONDS)
        finally:
            ended.append(True)

    async def step() -> None:
        tasks.append(asyncio.ensure_future(background()))
        await asyncio.sleep(0)

    PythonExecution("a", flow, step)
    assert app.run(flow).state == "success"
    assert not ended
    app.close()
    assert ended


# Whoever holds up the loop


def blocks(seconds: float) -> None:
    time.sleep(seconds)


def test_a_step_that_holds_up_the_loop_is_named(
    new_app: NewApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = new_app()
    flow = Flow("f", app)

    async def step() -> None:
        await asyncio.sleep(0.01)
        blocks(1.4)

    async def in_a_task() -> None:
        await asyncio.gather(step())

    PythonExecution("a", flow, step)
    assert app.run(flow, vect_id="v").state == "success"
    flow = Flow("g", app)
    PythonExecution("b", flow, in_a_task)
    PythonExecution("c", flow, later)
    assert app.run(flow, vect_id="w").state == "success"

    warnings = [r.getMessage() for r in caplog.records if r.name == "oautom.runner"]
    assert [message.partition(" has blocked the event loop for 1.")[0] for message in warnings] == [
        "vect 'v', step 'a', attempt 1",
        "vect 'w', step 'b', attempt 1",
    ]
    assert {r.levelno for r in caplog.records if r.name == "oautom.runner"} == {logging.WARNING}


def test_many_steps_that_hold_up_nothing_are_not_named(
    new_app: NewApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = new_app()
    flow = Flow("f", app)

    async def step() -> None:
        for _ in range(60):
            blocks(0.01)
            await asyncio.sleep(0)

    for number in range(3):
        PythonExecution(f"a{number}", flow, step)
    assert app.run(flow).state == "success"

    assert not caplog.records


# Simulated, explored


def test_a_simulation_counts_only_the_others(inline: OAutom) -> None:
    flow = Flow("f", inline, max_async=2)
    for number in range(4):
        PythonExecution(f"async {number}", flow, later)
        PythonExecution(f"plain {number}", flow, nothing)
    vect = simulate(flow, durations=dict.fromkeys(flow.steps, 10), max_workers=1)

    begun = vect.steps["async 0"].start_date
    assert begun is not None
    ends = {step.name: (step.end_date - begun).seconds for step in vect.steps.values()}  # type: ignore[operator]

    assert [ends[f"async {number}"] for number in range(4)] == [10, 10, 20, 20]
    assert [ends[f"plain {number}"] for number in range(4)] == [10, 20, 30, 40]
    check_history(vect.events(), flow, max_workers=1)
    assert_replays(vect, flow, max_workers=1)
    assert not explore(flow, max_schedules=50).depends_on_order


def test_a_history_in_which_too_many_async_steps_run_is_found_out(inline: OAutom) -> None:
    flow = Flow("f", inline, max_async=3)
    for number in range(3):
        PythonExecution(f"a{number}", flow, later)
    vect = simulate(flow, durations=dict.fromkeys(flow.steps, 10))
    events = vect.events()
    data = dict(events[0].data)
    data["options"] = {name: {"async": 2} for name in flow.steps}
    events[0] = msgspec.structs.replace(events[0], data=data)
    assert {each.invariant for each in violations(events)} == {"pools-hold"}


def test_a_loop_that_outlives_its_module_ends_without_a_word() -> None:
    program = """
import oautom.workers.kept_loop as kept
holder = kept._Holder()
for name in list(vars(kept)):
    setattr(kept, name, None)
del holder
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_on_a_simulated_clock_an_async_step_really_runs() -> None:
    with OAutom(executor="inline", clock=SimulatedClock()) as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, later)
        assert app.run(flow).result("a") == 1


def test_ten_thousand_that_sleep_end_soon(new_app: NewApp) -> None:
    app = new_app()
    flow = Flow("f", app)

    async def step() -> None:
        await asyncio.sleep(0.1)

    for number in range(10_000):
        PythonExecution(f"a{number}", flow, step)
    begun = time.process_time()
    assert app.run(flow).state == "success"
    assert time.process_time() - begun < 6  # of one processor, on whatever machine; 1.5 on ours
