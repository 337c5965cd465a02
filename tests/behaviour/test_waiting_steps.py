"""Steps whose code waits for Vects: a circle is refused at once, and a slot is lent meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from oautom import EngineError, Flow, FlowExecution, OAutom, OAutomMode, PythonExecution, Vect
from oautom.audit.invariants import check_history
from oautom.engine.runner import Runner

from .conftest import SECONDS, Gate, NewApp, nothing, runs_well


def flow_of(app: OAutom, name: str, *functions: Callable[[], Any]) -> Flow:
    """Declare a flow of steps `a`, `b`, ... that need not wait for each other."""
    flow = Flow(name, app, max_active_vects=100)
    for letter, function in zip("abcdefgh", functions, strict=False):
        PythonExecution(letter, flow, function)
    return flow


def drive_until(vect: Vect, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        try:
            vect.wait(0.01)
        except TimeoutError:
            continue


# Circles


def wait_for(app: OAutom, vect: str) -> Callable[[], Any]:
    return lambda: app.vect(vect).wait(SECONDS)


def await_(app: OAutom, vect: str) -> Callable[[], Any]:
    async def step() -> str:
        return await app.vect(vect)

    return step


ways = pytest.mark.parametrize("way", [wait_for, await_])


@pytest.fixture(params=["threads", "user"])
def app(new_app: NewApp, mode: OAutomMode, request: pytest.FixtureRequest) -> Any:
    if request.param == "threads":
        yield new_app(mode)
        return
    with ThreadPoolExecutor(8) as pool:
        app = new_app(mode, executor=pool)
        yield app
        app.close()


@ways
def test_a_step_cannot_wait_for_its_own_vect(app: OAutom, way: Any) -> None:
    flow = flow_of(app, "f", way(app, "v"))
    vect = app.run(flow, vect_id="v")

    assert vect.steps["a"].error == (
        "EngineError: step 'a' of vect 'v' cannot wait for a Vect: vect 'v' is its own, and ends "
        "only after this step"
    )
    assert runs_well(app)


def test_a_step_cannot_run_its_own_vect_again(app: OAutom) -> None:
    flow = flow_of(app, "f", lambda: app.run("f", vect_id="v"))
    error = app.run(flow, vect_id="v").steps["a"].error or ""

    assert "vect 'v' is its own" in error


@ways
def test_a_step_cannot_wait_for_who_waits_for_it(app: OAutom, way: Any) -> None:
    waits = threading.Event()

    def outer() -> str:
        inner = app.start("inner", vect_id="i")
        waits.set()
        return inner.wait(SECONDS)

    async def async_outer() -> str:
        inner = app.start("inner", vect_id="i")
        return await inner

    def step() -> Any:
        drive_until_waiting(app.vect("o"))
        return way(app, "o")()

    async def async_step() -> Any:
        while "waits for vect" not in app.vect("o").explain("a"):
            await asyncio.sleep(0.001)
        return await app.vect("o")

    flow_of(app, "inner", step if way is wait_for else async_step)
    outer_flow = flow_of(app, "outer", outer if way is wait_for else async_outer)
    vect = app.start(outer_flow, vect_id="o")

    assert vect.wait(SECONDS) == "success"
    inner = app.vect("i")
    assert inner.steps["a"].error == (
        "EngineError: step 'a' of vect 'i' cannot wait for vect 'o': vect 'o' waits for vect 'i'"
    )
    assert runs_well(app)


def drive_until_waiting(vect: Vect) -> None:
    deadline = time.monotonic() + SECONDS
    while "waits for vect" not in vect.explain("a"):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_step_cannot_wait_for_who_waits_for_it_through_others(app: OAutom) -> None:
    def outer() -> str:
        return app.run("middle", vect_id="m").state

    def middle() -> str:
        drive_until_waiting(app.vect("o"))
        return app.run("inner", vect_id="i").state

    def inner() -> str:
        drive_until_waiting(app.vect("m"))
        return app.vect("o").wait(SECONDS)

    flow_of(app, "inner", inner)
    flow_of(app, "middle", middle)
    app.run(flow_of(app, "outer", outer), vect_id="o")

    assert (app.vect("i").steps["a"].error or "").endswith(
        "cannot wait for vect 'o': vect 'o' waits for vect 'm', which waits for vect 'i'"
    )


@ways
def test_a_step_of_a_child_cannot_wait_for_its_parent(app: OAutom, way: Any) -> None:
    flow_of(app, "inner", way(app, "p"))
    flow = Flow("outer", app)
    FlowExecution("child", flow, runs="inner")
    vect = app.run(flow, vect_id="p")

    assert vect.state == "failed"
    assert (app.vect("p/child/1").steps["a"].error or "").endswith(
        "cannot wait for vect 'p': vect 'p' waits for vect 'p/child/1'"
    )


def test_a_circle_through_two_apps_is_found(new_app: NewApp) -> None:
    one, two = new_app(OAutomMode.background), new_app(OAutomMode.background)

    def here() -> str:
        return two.run("there", vect_id="t").state

    def there() -> str:
        drive_until_waiting(one.vect("h"))
        return one.vect("h").wait(SECONDS)

    flow_of(two, "there", there)
    one.run(flow_of(one, "here", here), vect_id="h")

    assert (two.vect("t").steps["a"].error or "").endswith(
        "cannot wait for vect 'h': vect 'h' waits for vect 't'"
    )


def test_two_that_wait_for_each_other_at_once_do_not_hang(app: OAutom) -> None:
    both = threading.Barrier(2, timeout=SECONDS)

    def step(other: str) -> Callable[[], Any]:
        def wait() -> str:
            both.wait()
            return app.vect(other).wait(SECONDS)

        return wait

    one = app.start(flow_of(app, "one", step("2")), vect_id="1")
    two = app.start(flow_of(app, "two", step("1")), vect_id="2")
    states = {one.wait(SECONDS), two.wait(SECONDS)}

    assert states <= {"failed", "success"}
    assert "failed" in states


def test_a_thread_with_the_context_of_a_step_is_known(app: OAutom) -> None:
    errors: list[Any] = []

    def wait() -> None:
        try:
            app.vect("v").wait(SECONDS)
        except EngineError as error:
            errors.append(error)

    def step() -> None:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(wait,))
        thread.start()
        thread.join(SECONDS)

    async def async_step() -> None:
        await asyncio.to_thread(wait)

    assert app.run(flow_of(app, "f", step, async_step), vect_id="v").state == "success"
    assert sorted(error.step for error in errors) == ["a", "b"]
    assert {error.flow for error in errors} == {"f"}


def test_who_is_no_step_may_wait_for_whom_he_likes(app: OAutom) -> None:
    gate = Gate()
    vect = app.start(flow_of(app, "f", gate), vect_id="v")
    threading.Thread(target=lambda: gate.reached.wait(SECONDS) and gate.opened.set()).start()
    assert vect.wait(SECONDS) == "success"


def test_what_a_step_leaves_behind_waits_on_its_own_account(app: OAutom) -> None:
    told: list[str] = []
    threads: list[threading.Thread] = []

    def step() -> None:
        run = contextvars.copy_context().run
        threads.append(threading.Thread(target=run, args=(later,)))
        threads[0].start()

    def later() -> None:
        while app.vect("v").steps["a"].state != "success":
            time.sleep(0.001)
        told.append(app.vect("v").wait(SECONDS))

    gate = Gate()
    flow = flow_of(app, "f", step, gate)
    vect = app.start(flow, vect_id="v")
    drive_until(vect, lambda: vect.steps["a"].state == "success")
    gate.opened.set()
    vect.wait(SECONDS)
    threads[0].join(SECONDS)
    assert told == ["success"]


@pytest.mark.parametrize("function", ["run", "wait"])
def test_an_async_step_awaits(new_app: NewApp, mode: OAutomMode, function: str) -> None:
    app, gate = new_app(mode), Gate()
    flow_of(app, "inner", gate)

    async def step() -> Any:
        return app.run("inner") if function == "run" else app.start("inner").wait()

    error = app.run(flow_of(app, "outer", step), vect_id="v").steps["a"].error or ""
    gate.opened.set()

    assert error == (
        "EngineError: step 'a' of vect 'v' cannot wait for a Vect: it would block the event loop "
        "of all async steps; write `await vect`, or wait in asyncio.to_thread()"
    )
    assert runs_well(app)


@pytest.mark.parametrize("method", ["lend", "take_back", "give_back"])
def test_a_slot_is_lent_and_taken_back_once_though_a_tick_is_taken_back(
    new_app: NewApp, mode: OAutomMode, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    original, failures = getattr(Runner, method), iter([RuntimeError("oops")])

    def fail_once(runner: Runner, *args: Any, **settings: Any) -> Any:
        given = original(runner, *args, **settings)
        for failure in failures:
            raise failure
        return given

    monkeypatch.setattr(Runner, method, fail_once)
    app = new_app(mode, max_workers=1)
    flow_of(app, "inner", nothing)
    outer = flow_of(app, "outer", lambda: app.run("inner").state)

    vect = app.run(outer)

    assert vect.steps["a"].output == "success"
    assert next(failures, None) is None
    assert runs_well(app)
    assert app._engine._scheduler.runner.busy == 0
    check_history(app.log.read(), outer, max_workers=2)


# Inline, and where no worker can be lent


def test_inline_a_step_cannot_wait(inline: OAutom) -> None:
    flow_of(inline, "inner", nothing)
    error = inline.run(flow_of(inline, "f", lambda: inline.run("inner"))).steps["a"].error or ""

    assert "a step or receiver on the scheduler's own thread cannot wait for a Vect" in error


def test_inline_a_thread_of_a_step_cannot_wait_either(inline: OAutom) -> None:
    flow_of(inline, "inner", nothing)

    async def step() -> str:
        return await asyncio.to_thread(lambda: inline.run("inner").state)

    error = inline.run(flow_of(inline, "f", step)).steps["a"].error or ""

    assert "the engine goes on only when the step has ended; use executor='threads'" in error


@pytest.mark.parametrize(("workers", "told"), [(1, "the only worker"), (2, "all 2 workers")])
def test_where_all_workers_would_wait_the_last_is_refused(
    new_app: NewApp, mode: OAutomMode, workers: int, told: str
) -> None:
    with ThreadPoolExecutor(workers) as pool:
        app = new_app(mode, executor=pool)
        flow_of(app, "inner", nothing)

        def outer() -> str:
            return app.run("inner").state

        vect = app.start(flow_of(app, "outer", *[outer] * workers))
        vect.wait(SECONDS)
        errors = [step.error for step in vect.steps.values() if step.error]

        assert errors
        assert told in errors[0]
        assert runs_well(app)
        app.close()


# Lent slots


def test_three_deep_on_one_worker(new_app: NewApp, mode: OAutomMode) -> None:
    app = new_app(mode, max_workers=1)
    flow_of(app, "3", nothing)
    flow_of(app, "2", lambda: app.run("3").state)
    flow_of(app, "1", lambda: app.run("2").state)
    flow = flow_of(app, "0", lambda: app.run("1").state)
    vect = app.start(flow)

    assert vect.wait(SECONDS) == "success"
    assert vect.result("a") == "success"
    check_history(app.log.read(), max_workers=4)


def test_several_at_once_on_one_worker(new_app: NewApp, mode: OAutomMode) -> None:
    app = new_app(mode, max_workers=1)
    flow_of(app, "inner", nothing, nothing, nothing)

    def outer() -> list[str]:
        return [vect.wait() for vect in [app.start("inner") for _ in range(3)]]

    vect = app.start(flow_of(app, "outer", outer, outer, outer))

    assert vect.wait(SECONDS) == "success"
    assert vect.result("c") == ["success"] * 3


def test_no_more_are_at_it_than_there_are_workers(new_app: NewApp, mode: OAutomMode) -> None:
    app = new_app(mode, max_workers=2)
    lock, now, most = threading.Lock(), 0, 0

    def at_it(change: int) -> None:
        nonlocal now, most
        with lock:
            now += change
            most = max(most, now)

    def inner() -> None:
        at_it(1)
        time.sleep(0.002)
        at_it(-1)

    def outer() -> str:
        at_it(1)
        inner = app.start("inner")
        at_it(-1)
        state = inner.wait()
        at_it(1)
        time.sleep(0.002)
        at_it(-1)
        return state

    flow_of(app, "inner", inner, inner, inner)
    vects = [app.start(flow_of(app, f"outer {i}", outer, outer, outer)) for i in range(4)]

    assert [vect.wait(SECONDS) for vect in vects] == ["success"] * 4
    assert most == 2


def test_a_wait_that_gives_up_goes_on_at_once(new_app: NewApp, mode: OAutomMode) -> None:
    app = new_app(mode, max_workers=1)
    gate, told = Gate(), []

    def outer() -> None:
        vect = app.start("inner")
        begun = time.monotonic()
        try:
            vect.wait(0.05)
        except TimeoutError:
            told.append(time.monotonic() - begun)
        gate.opened.set()

    flow_of(app, "inner", gate)
    assert app.start(flow_of(app, "outer", outer)).wait(SECONDS) == "success"
    assert told[0] < 2
    assert runs_well(app)


def test_who_waits_for_an_approval_lets_others_by(new_app: NewApp, mode: OAutomMode) -> None:
    from oautom import ApprovalExecution

    app = new_app(mode, max_workers=1)
    asks = Flow("asks", app)
    ApprovalExecution("gate", asks, "go on?")
    outer = app.start(flow_of(app, "outer", lambda: app.run("asks", vect_id="x").state))
    other = app.start(flow_of(app, "other", nothing))

    assert other.wait(SECONDS) == "success"
    drive_until(outer, lambda: app.vect("x").steps["gate"].state == "running")
    assert "; it waits for vect `x`" in outer.explain("a")
    app.vect("x").approve("gate", by="Ada")
    assert outer.wait(SECONDS) == "success"


def test_explain_tells_who_needs_a_worker_to_go_on(new_app: NewApp) -> None:
    app = new_app(OAutomMode.background, max_workers=1)
    gate, first = Gate(), Gate()
    flow_of(app, "inner", first)
    outer = app.start(flow_of(app, "outer", lambda: app.run("inner").state))
    assert first.reached.wait(SECONDS)
    app.start(flow_of(app, "other", gate))
    first.opened.set()
    drive_until(outer, gate.reached.is_set)
    # The slot was given back before `other` had a turn, or is waited for.
    gate.opened.set()
    assert outer.wait(SECONDS) == "success"


@pytest.mark.parametrize("durable", [False, True])
def test_close_ends_who_waits(
    new_app: NewApp, mode: OAutomMode, durable: bool, tmp_path: Any
) -> None:
    app = new_app(mode, max_workers=1, log=tmp_path / "runs.db" if durable else None)
    gate, ended = Gate(), threading.Event()

    def outer() -> None:
        try:
            app.run("inner")
        finally:
            ended.set()

    flow_of(app, "inner", gate)
    vect = app.start(flow_of(app, "outer", outer))
    drive_until(vect, gate.reached.is_set)
    app.close()

    assert ended.wait(SECONDS)
    gate.opened.set()


def test_an_async_step_that_has_a_worker_lends_it(new_app: NewApp, mode: OAutomMode) -> None:
    app = new_app(mode, max_workers=1)
    flow_of(app, "inner", nothing)

    async def wait() -> str:
        return await app.start("inner")

    vect = app.start(flow_of(app, "outer", lambda: wait(), lambda: wait()))

    assert vect.wait(SECONDS) == "success"
    assert vect.result("b") == "success"
