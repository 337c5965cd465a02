"""`await vect`, in both modes: the state, as of `wait`, and the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    BashExecution,
    EngineError,
    Flow,
    FlowChangedError,
    LogError,
    MemoryEventLog,
    OAutom,
    OAutomMode,
    PythonExecution,
    Vect,
)

from .conftest import SECONDS, Gate, NewApp, join_threads, nothing

Main = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def run() -> Iterator[Main]:
    """Runs a coroutine, for so long at the most; nothing of ours is left when all is over."""
    yield lambda main: asyncio.run(asyncio.wait_for(main, SECONDS))
    join_threads("oautom-awaiting")
    assert not ours()


def ours() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("oautom-awaiting")]


async def state_of(vect: Vect) -> str:
    return await vect


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not is_so():
            await asyncio.sleep(0.001)


def gated(app: OAutom, name: str = "f") -> Gate:
    gate = Gate()
    PythonExecution("gate", Flow(name, app), gate)
    return gate


def fail() -> None:
    raise RuntimeError("broken")


def test_it_is_the_state_in_each_mode_and_with_each_executor(any_app: OAutom, run: Main) -> None:
    flow = Flow("f", any_app)
    first, second = (PythonExecution(name, flow, nothing) for name in ("first", "second"))
    first >> second

    async def main() -> str:
        return await any_app.start(flow)

    assert run(main()) == "success"
    assert any_app.vects()[0].steps["second"].state == "success"


def test_of_a_vect_that_fails_it_is_the_state_too(mode_app: OAutom, run: Main) -> None:
    PythonExecution("a", Flow("f", mode_app), fail)
    assert run(state_of(mode_app.start("f"))) == "failed"


def test_a_vect_that_has_ended_is_told_at_once_and_takes_no_thread(
    mode_app: OAutom, run: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    PythonExecution("a", Flow("f", mode_app), nothing)
    vect = mode_app.run("f")
    monkeypatch.delattr(threading, "Thread")
    assert asyncio.run(state_of(vect)) == "success"


def test_the_loop_goes_on_meanwhile(any_app: OAutom, run: Main) -> None:
    gate = gated(any_app)

    async def main() -> int:
        task = asyncio.ensure_future(any_app.start("f"))
        await until(gate.reached.is_set)
        ticks = 0
        for _ in range(20):
            await asyncio.sleep(0.001)
            ticks += not task.done()
        gate.opened.set()
        assert await task == "success"
        return ticks

    assert run(main()) == 20


def test_many_are_awaited_at_once_by_one_thread(
    mode_app: OAutom, run: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    start = threading.Thread.start

    def count(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", count)
    gate, flow = Gate(), Flow("f", mode_app, max_active_vects=100)
    PythonExecution("gate", flow, gate)

    async def main() -> list[str]:
        vects = [mode_app.start(flow) for _ in range(100)]
        tasks = [asyncio.ensure_future(vect) for vect in vects for _ in range(2)]
        await asyncio.sleep(0)  # all of them await now
        await until(gate.reached.is_set)
        gate.opened.set()
        return await asyncio.gather(*tasks)

    assert run(main()) == ["success"] * 200
    assert started.count("oautom-awaiting") == 1
    assert not [name for name in started if name.startswith("asyncio")]


def test_those_who_await_are_told_one_by_one(mode_app: OAutom, run: Main) -> None:
    """Not only when the last one is over."""
    long, short = gated(mode_app, "long"), gated(mode_app, "short")

    async def main() -> None:
        slow = asyncio.ensure_future(mode_app.start("long"))
        quick = asyncio.ensure_future(mode_app.start("short"))
        await until(lambda: long.reached.is_set() and short.reached.is_set())
        short.opened.set()
        assert await quick == "success"
        assert not slow.done()
        long.opened.set()
        assert await slow == "success"

    run(main())


def test_a_step_may_be_async_and_await_another_vect(mode_app: OAutom, run: Main) -> None:
    PythonExecution("a", Flow("inner", mode_app), nothing)

    async def outer() -> str:
        await asyncio.sleep(0)
        return await mode_app.start("inner")

    PythonExecution("a", Flow("outer", mode_app), outer)
    vect = mode_app.start("outer")
    assert run(state_of(vect)) == "success"
    assert vect.result("a") == "success"


def test_a_step_on_the_thread_that_drives_is_refused(new_app: NewApp, mode: Any, run: Main) -> None:
    app = new_app(mode, executor="inline")
    PythonExecution("a", Flow("inner", app), nothing)

    async def outer() -> str:
        return await app.start("inner")

    PythonExecution("a", Flow("outer", app), outer)
    vect = app.start("outer")
    assert run(state_of(vect)) == "failed"
    error = vect.steps["a"].error
    assert error is not None
    assert "a step or receiver on the scheduler's own thread cannot wait for a Vect" in error


def test_a_task_that_is_cancelled_leaves_the_vect_alone(mode_app: OAutom, run: Main) -> None:
    gate = gated(mode_app)
    vect = mode_app.start("f")

    async def main() -> None:
        task, other = asyncio.ensure_future(vect), asyncio.ensure_future(vect)
        await until(gate.reached.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (vect.state, other.done()) == ("running", False)
        gate.opened.set()
        assert await other == "success"

    run(main())


def test_when_the_last_one_gives_up_no_thread_stays(mode_app: OAutom, run: Main) -> None:
    gate = gated(mode_app)
    vect = mode_app.start("f")

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(vect, 0.05)
        await until(lambda: not ours())
        assert vect.state == "running"

    run(main())
    gate.opened.set()
    assert vect.wait(timeout=SECONDS) == "success"


def test_when_the_last_one_gives_up_while_another_thread_drives_no_thread_stays(
    new_app: NewApp, run: Main
) -> None:
    app = new_app()
    gate = gated(app)
    vect = app.start("f")
    driver = threading.Thread(target=vect.wait, args=(SECONDS,))
    driver.start()
    assert gate.reached.wait(SECONDS)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(vect, 0.05)
        await until(lambda: not ours())

    run(main())
    gate.opened.set()
    driver.join(SECONDS)
    assert vect.state == "success"


def test_who_awaits_takes_over_from_one_who_drives_and_gives_up(new_app: NewApp, run: Main) -> None:
    app = new_app()
    gate = gated(app)
    vect = app.start("f")

    def give_up() -> None:
        with pytest.raises(TimeoutError):
            vect.wait(timeout=0.1)

    driver = threading.Thread(target=give_up)
    driver.start()
    assert gate.reached.wait(SECONDS)

    async def main() -> str:
        task = asyncio.ensure_future(vect)
        await asyncio.to_thread(driver.join, SECONDS)
        gate.opened.set()
        return await task

    assert run(main()) == "success"


def test_who_gives_up_may_await_again(mode_app: OAutom, run: Main) -> None:
    gate = gated(mode_app)
    vect = mode_app.start("f")

    async def main() -> str:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(vect, 0.01)
        gate.opened.set()
        return await vect

    assert run(main()) == "success"


def test_what_a_closed_loop_has_left_harms_nobody(mode_app: OAutom) -> None:
    gate = gated(mode_app)
    vect = mode_app.start("f")
    loop = asyncio.new_event_loop()
    coroutine = state_of(vect)
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    gate.opened.set()
    assert asyncio.run(state_of(vect)) == "success"
    join_threads("oautom-awaiting")
    assert not ours()
    task._log_destroy_pending = False  # type: ignore[attr-defined] # asyncio would tell of it
    coroutine.close()
    del task
    gc.collect()


def test_several_loops_await_at_once(mode_app: OAutom, run: Main) -> None:
    gate = gated(mode_app)
    vect = mode_app.start("f")
    told: list[str] = []
    threads = [
        threading.Thread(target=lambda: told.append(asyncio.run(state_of(vect)))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    assert gate.reached.wait(SECONDS)
    gate.opened.set()
    for thread in threads:
        thread.join(SECONDS)
    assert told == ["success"] * 5
    assert run(state_of(vect)) == "success"


def test_a_vect_that_is_paused_cancelled_or_retried_meanwhile(mode_app: OAutom, run: Main) -> None:
    fails = [True]

    def flaky() -> str:
        if fails[0]:
            fail()
        return "well"

    flow = Flow("f", mode_app)
    PythonExecution("a", flow, flaky)
    gate = gated(mode_app, "g")

    async def main() -> None:
        vect = mode_app.start("f")
        assert await vect == "failed"
        fails[0] = False
        vect.retry()
        assert await vect == "success"
        assert vect.result("a") == "well"

        other = mode_app.start("g")
        task = asyncio.ensure_future(other)
        await until(gate.reached.is_set)
        other.pause()
        await until(lambda: other.state == "paused")
        assert not task.done()
        other.cancel("enough")
        gate.opened.set()
        assert await task == "cancelled"

    run(main())


def test_it_is_over_only_when_no_process_is_left(
    mode_app: OAutom, run: Main, tmp_path: Path
) -> None:
    """A command that does not listen to SIGTERM is waited for, as by `wait`."""
    command = "trap '' TERM; touch began; sleep 60"
    flow = Flow("f", mode_app)
    BashExecution("a", flow, command, cwd=str(tmp_path), grace_period=0.2)

    async def main() -> float:
        vect = mode_app.start("f")
        task = asyncio.ensure_future(vect)
        await until((tmp_path / "began").exists)
        began = time.monotonic()
        vect.cancel()
        assert await task == "cancelled"
        return time.monotonic() - began

    assert run(main()) >= 0.2


def test_a_close_tells_those_who_await(mode_app: OAutom, run: Main) -> None:
    gate = gated(mode_app)

    async def main() -> str:
        task = asyncio.ensure_future(mode_app.start("f"))
        await until(gate.reached.is_set)
        gate.opened.set()
        await asyncio.to_thread(mode_app.close)
        return await task

    assert run(main()) in ("cancelled", "success")


def test_a_halted_engine_is_an_error_for_those_who_await(
    new_app: NewApp, mode: OAutomMode, run: Main, tmp_path: Path
) -> None:
    app = new_app(mode, log=tmp_path / "runs.db")
    flow = Flow("f", app)
    BashExecution("a", flow, "touch began; sleep 60", cwd=str(tmp_path))

    async def main() -> None:
        vect = app.start("f", vect_id="one")
        task = asyncio.ensure_future(vect)
        await until((tmp_path / "began").exists)
        await asyncio.to_thread(app.close)
        for awaited in (task, vect):
            with pytest.raises(EngineError, match=r"the engine was stopped .*; vect 'one' is open"):
                await awaited

    run(main())


def test_a_log_that_cannot_be_written_is_an_error_for_all_who_await(
    new_app: NewApp, mode: OAutomMode, run: Main
) -> None:
    class Failing(MemoryEventLog):
        is_full = False

        def commit(self) -> Any:
            if self.is_full:
                raise OSError(28, "No space left on device")
            return super().commit()

    log = Failing()
    app = new_app(mode, log=log)
    gate = gated(app)

    async def main() -> None:
        vect = app.start("f")
        tasks = [asyncio.ensure_future(vect) for _ in range(3)]
        await until(gate.reached.is_set)
        log.is_full = True
        gate.opened.set()
        for awaited in (*tasks, vect):
            with pytest.raises(LogError, match="No space left on device; nothing has been started"):
                await awaited

    run(main())


def test_a_vect_that_is_held_up_says_why(
    new_app: NewApp, mode: OAutomMode, run: Main, tmp_path: Path
) -> None:
    app = new_app(mode, log=tmp_path / "runs.db")
    flow = Flow("f", app)
    BashExecution("a", flow, "touch began; sleep 60", cwd=str(tmp_path))
    vect = app.start("f", vect_id="one")
    with pytest.raises(TimeoutError):
        vect.wait(timeout=0.05)
    app.close()

    again = new_app(mode, log=tmp_path / "runs.db")
    PythonExecution("b", Flow("f", again), nothing)
    assert again.recover() == []

    async def main() -> None:
        left = again.vect("one")
        with pytest.raises(FlowChangedError, match="since the flow has changed: step 'a' is gone"):
            await left
        left.cancel()  # one way out
        assert await left == "cancelled"

    run(main())


def test_what_no_thread_can_be_started_for_is_an_error_and_can_be_tried_again(
    mode_app: OAutom, run: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = gated(mode_app)
    vect = mode_app.start("f")
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "oautom-awaiting":
            raise RuntimeError("can't start new thread")
        start(thread)

    async def main() -> str:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await vect
        gate.opened.set()
        return await vect

    assert run(main()) == "success"


def test_oautom_does_not_import_asyncio() -> None:
    code = "import sys, oautom; print('asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
