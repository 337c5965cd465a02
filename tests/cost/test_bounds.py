"""Nothing grows without bound: work in proportion to what is asked for, memory to what is open.

Counted and not timed, on the thread that calls: lines of oautom, since a loop that calls nothing
would not show in calls. What four times as much takes must be about four times as much.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import oautom
from oautom import (
    ApprovalExecution,
    Execution,
    Flow,
    FlowExecution,
    MapExecution,
    OAutom,
    OAutomMode,
    Pool,
    PythonExecution,
    SqliteEventLog,
    StepFailedError,
    Vect,
)

FEW, MORE = 30, 120
RATIO_MAX = 4.5  # of what 120 take to what 30 take
MANY = 10**6
BYTES_A_VECT = 1024
FOLDER = str(Path(oautom.__file__).parent)

Work = Callable[[], object]


def count_lines(work: Work) -> int:
    """Return how many lines of oautom are run, on this thread and on those that it starts."""
    lines = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        lines += event == "line"
        return trace

    was_enabled = gc.isenabled()
    gc.disable()
    try:
        threading.settrace(trace)
        sys.settrace(trace)
        work()
    finally:
        sys.settrace(None)
        threading.settrace(None)
        if was_enabled:
            gc.enable()
    return lines


@pytest.fixture
def _nobody_else_traces() -> None:
    if sys.gettrace() is not None or sys.getprofile() is not None:
        pytest.skip("something else traces")


def bad() -> None:
    raise ValueError("as it is meant to")


def two_steps(app: OAutom, name: str = "two steps", most: int = MANY) -> Flow:
    flow = Flow(name, app, max_active_vects=most)
    PythonExecution("a", flow, int)
    PythonExecution("b", flow, int).depends(flow.steps["a"])
    return flow


def asking(app: OAutom, timeout: float | None = None) -> Flow:
    flow = Flow("asking", app, max_active_vects=MANY)
    ask = ApprovalExecution("ask", flow, "well?", timeout=timeout)
    PythonExecution("then", flow, int).depends(ask)
    return flow


def begun(app: OAutom, flow: Flow, number: int) -> list[Vect]:
    """Start Vects, and drive them as far as they go by themselves."""
    vects = [app.start(flow) for _ in range(number)]
    app.run(two_steps(app, "another"))
    return vects


def starts(app: OAutom, number: int) -> Work:
    flow = two_steps(app)
    return lambda: [app.start(flow) for _ in range(number)]


def runs(app: OAutom, number: int) -> Work:
    flow = two_steps(app)
    return lambda: [app.run(flow) for _ in range(number)]


def runs_beside_many_that_are_open(app: OAutom, number: int) -> Work:
    begun(app, asking(app), number)
    flow = two_steps(app, most=1)
    return lambda: [app.run(flow) for _ in range(number)]


def cancels(app: OAutom, number: int) -> Work:
    vects = begun(app, asking(app), number)
    return partial(cancel_all, vects)


def cancel_all(vects: list[Vect]) -> None:
    for vect in vects:
        vect.cancel()


def cancels_of_those_that_wait_for_a_pool(app: OAutom, number: int) -> Work:
    inner = Flow("inner", app, max_active_vects=MANY)
    ApprovalExecution("ask", inner, "well?")
    flow = Flow("outer", app, max_active_vects=MANY)
    FlowExecution("run it", flow, inner, pool=Pool("p", 1))
    vects = begun(app, flow, number)
    return partial(cancel_all, vects)


def cancels_and_goes_on(app: OAutom, number: int) -> Work:
    """Half of those that wait for a slot are cancelled, then the others run."""
    flow = two_steps(app)
    vects = [app.start(flow) for _ in range(number)]

    def cancel() -> None:
        cancel_all(vects[::2])
        for vect in vects:
            vect.wait()

    return cancel


def turns(app: OAutom, number: int) -> Work:
    """All but one stand in line, and start one after the other."""
    flow = in_line(app)

    def work() -> None:
        vects = [app.start(flow, {"of": 0}) for _ in range(number)]
        assert vects[-1].wait() == "success"

    return work


def turns_of_each_value(app: OAutom, number: int) -> Work:
    """Half of those of each value stand in line."""
    flow = in_line(app, limit_by="of")

    def work() -> None:
        vects = [app.start(flow, {"of": index // 2}) for index in range(number)]
        for vect in vects:
            assert vect.wait() == "success"

    return work


def in_line(app: OAutom, **options: Any) -> Flow:
    flow = Flow("in line", app, params={"of": int}, when_full="wait", **options)
    PythonExecution("a", flow, int)
    return flow


def cancels_of_those_in_line(app: OAutom, number: int) -> Work:
    flow = in_line(app)
    vects = [app.start(flow, {"of": 0}) for _ in range(number)]
    return partial(cancel_all, vects[::-1])


def children_in_line(app: OAutom, number: int) -> Work:
    inner, flow = Flow("inner", app), Flow("outer", app, max_active_vects=MANY)
    PythonExecution("a", inner, int)
    FlowExecution("run it", flow, inner)

    def work() -> None:
        vects = [app.start(flow) for _ in range(number)]
        for vect in vects:
            assert vect.wait() == "success"

    return work


def lists_of_those_in_line(app: OAutom, number: int) -> Work:
    flow = in_line(app)
    for _ in range(number):
        app.start(flow, {"of": 0})
    return app.logs


def pauses(app: OAutom, number: int) -> Work:
    vects = begun(app, asking(app), number)

    def pause() -> None:
        for vect in vects:
            vect.pause()
            vect.resume()

    return pause


def approvals(app: OAutom, number: int) -> Work:
    vects = begun(app, asking(app, timeout=86_400), number)

    def approve() -> None:
        for vect in vects:
            vect.approve("ask", by="me")
            assert vect.wait() == "success"

    return approve


def retries(app: OAutom, number: int) -> Work:
    flow = Flow("failing", app, max_active_vects=MANY)
    PythonExecution("bad", flow, bad)
    vects = [app.run(flow) for _ in range(number)]

    def retry() -> None:
        for vect in vects:
            vect.retry()
            assert vect.wait() == "failed"

    return retry


def looks(app: OAutom, number: int) -> Work:
    flow = two_steps(app)
    vects = [app.run(flow) for _ in range(16 + number)]  # the newest are still at hand

    def look() -> None:
        for vect in vects[:-16]:
            assert vect.status()["state"] == "success"
            assert vect.result("a") == 0
            assert len(vect.events()) == 7
            assert vect.explain("b")
            assert app.start(flow, vect_id=vect.id) is vect

    return look


def lists(app: OAutom, number: int) -> Work:
    flow = two_steps(app)
    for _ in range(number):
        app.run(flow)
    return lambda: [app.vects(), app.vects(flow, "success")]


def children(app: OAutom, number: int) -> Work:
    inner, flow = two_steps(app, "inner", most=1), Flow("outer", app)
    for index in range(number):
        FlowExecution(f"child {index}", flow, inner)
    return lambda: app.run(flow)


def cancel_of_children_that_wait(app: OAutom, number: int) -> Work:
    inner, flow = Flow("inner", app), Flow("outer", app)
    ApprovalExecution("ask", inner, "well?")
    for index in range(number):
        FlowExecution(f"child {index}", flow, inner)
    (vect,) = begun(app, flow, 1)
    return vect.cancel


def a_map(app: OAutom, number: int) -> Work:
    flow = Flow("mapped", app)
    items = PythonExecution("items", flow, lambda: list(range(number)))
    MapExecution("map", flow, int, over=items.output, max_parallel=2)
    return lambda: app.run(flow)


def a_map_of_flows(app: OAutom, number: int) -> Work:
    inner, flow = Flow("inner", app, params={"n": int}, max_active_vects=None), Flow("outer", app)
    PythonExecution("a", inner, int) >> PythonExecution("b", inner, int)
    items = PythonExecution("items", flow, lambda: list(range(number)))
    MapExecution("each", flow, inner, items, label="item {}")
    return lambda: app.run(flow)


def a_map_of_flows_in_line(app: OAutom, number: int) -> Work:
    work = a_map_of_flows(app, number)
    app.flow("inner").max_active_vects = 1
    return work


def plans(app: OAutom, number: int) -> Work:
    flow = two_steps(app)
    return lambda: [app.plan(flow, hours=1, name=f"plan {index}") for index in range(number)]


def a_prune(app: OAutom, number: int) -> Work:
    flow = two_steps(app)
    for _ in range(number):
        app.run(flow)
    return lambda: app.prune(older_than=timedelta(seconds=-60))


def a_check_of_flows_that_run_flows(app: OAutom, number: int) -> Work:
    below = two_steps(app, "flow 0")
    for layer in range(1, number + 1):
        flow = Flow(f"flow {layer}", app)
        FlowExecution("one", flow, below)
        FlowExecution("other", flow, below)
        below = flow
    return below.validate


def starts_of_flows_that_run_flows(app: OAutom, number: int) -> Work:
    a_check_of_flows_that_run_flows(app, number)
    flows = [f"flow {layer}" for layer in range(number, 0, -1)]
    return lambda: [app.start(flow) for flow in flows]


OPERATIONS = (
    starts,
    runs,
    runs_beside_many_that_are_open,
    cancels,
    cancels_of_those_that_wait_for_a_pool,
    cancels_and_goes_on,
    pauses,
    approvals,
    retries,
    looks,
    lists,
    children,
    cancel_of_children_that_wait,
    turns,
    turns_of_each_value,
    cancels_of_those_in_line,
    children_in_line,
    lists_of_those_in_line,
    a_map,
    a_map_of_flows,
    a_map_of_flows_in_line,
    plans,
    a_prune,
    a_check_of_flows_that_run_flows,
    starts_of_flows_that_run_flows,
)


@pytest.mark.usefixtures("_nobody_else_traces")
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.__name__)
def test_four_times_as_much_takes_four_times_the_work(
    operation: Callable[[OAutom, int], Work],
) -> None:
    def lines(number: int) -> int:
        with OAutom(executor="inline") as app:
            return count_lines(operation(app, number))

    assert lines(MORE) <= RATIO_MAX * lines(FEW)


@pytest.mark.usefixtures("_nobody_else_traces")
def test_the_end_of_an_app_takes_work_in_proportion_to_what_is_open() -> None:
    def lines(number: int) -> int:
        app = OAutom(executor="inline")
        cancels_of_those_that_wait_for_a_pool(app, number)
        return count_lines(app.close)

    assert lines(MORE) <= RATIO_MAX * lines(FEW)


@pytest.mark.usefixtures("_nobody_else_traces")
def test_who_awaits_one_vect_is_not_asked_at_the_end_of_another() -> None:
    async def all_of(vects: list[Vect]) -> None:
        tasks = [asyncio.ensure_future(_ended(vect)) for vect in vects]
        await asyncio.sleep(0)
        for vect in vects:
            await asyncio.to_thread(vect.approve, "ask", "me")
            await _ended(vect)
        assert await asyncio.gather(*tasks) == ["success"] * len(vects)

    async def _ended(vect: Vect) -> str:
        return await vect

    def lines(number: int) -> int:
        with OAutom(OAutomMode.background, max_workers=1) as app:
            flow = asking(app)
            vects = [app.start(flow) for _ in range(number)]
            return count_lines(lambda: asyncio.run(all_of(vects)))

    assert lines(MORE) <= RATIO_MAX * lines(FEW)


# Requests of other processes


@pytest.mark.usefixtures("_nobody_else_traces")
def test_requests_that_come_while_a_step_runs_are_each_looked_at_once(tmp_path: Path) -> None:
    def lines(number: int) -> int:
        path = tmp_path / f"{number}.db"
        with OAutom(log=SqliteEventLog(path, synchronous="NORMAL"), executor="inline") as app:
            (vect,) = begun(app, asking(app), 1)
            other = SqliteEventLog(path, read_only=True)

            def ask() -> None:
                for index in range(number):
                    other.ask(vect.id, "pause" if index % 2 else "resume")

            flow = Flow("busy", app)
            PythonExecution("ask", flow, ask)
            counted = count_lines(lambda: [app.run(flow), app.run("another")])
            assert vect.state == "paused"
        app.log.close()
        return counted

    assert lines(MORE) <= RATIO_MAX * lines(FEW)


# Recovery


STEPS = 20


def left_open(path: Path, number: int) -> None:
    """Leave Vects of which hardly anything was done."""
    with OAutom(log=SqliteEventLog(path, synchronous="NORMAL"), executor="inline") as app:
        flow = many_steps(app)
        for index in range(number):
            app.start(flow, vect_id=f"vect {index}")
    app.log.close()


def many_steps(app: OAutom, function: Callable[[], int] = int) -> Flow:
    flow = Flow("many steps", app, max_active_vects=MANY)
    for index in range(STEPS):
        PythonExecution(f"step {index}", flow, function)
    return flow


@contextmanager
def next_life(path: Path, mode: OAutomMode = OAutomMode.foreground) -> Iterator[OAutom]:
    with OAutom(mode, log=SqliteEventLog(path, synchronous="NORMAL"), executor="inline") as app:
        two_steps(app)
        yield app
    app.log.close()


@pytest.mark.usefixtures("_nobody_else_traces")
@pytest.mark.parametrize("is_asked_for", [True, False], ids=["recover", "run"])
def test_a_recovery_takes_work_in_proportion_to_what_was_left(
    tmp_path: Path, is_asked_for: bool
) -> None:
    def lines(number: int) -> int:
        left_open(path := tmp_path / f"{number}.db", number)
        with next_life(path) as app:
            many_steps(app)
            return count_lines(app.recover if is_asked_for else lambda: app.start("two steps"))

    assert lines(MORE) <= RATIO_MAX * lines(FEW)


@pytest.mark.usefixtures("_nobody_else_traces")
@pytest.mark.parametrize("is_asked_for", [True, False], ids=["recover", "run"])
@pytest.mark.parametrize("limit_by", [None, "of"])
def test_a_line_takes_work_in_proportion_to_who_stands_there_in_the_next_life_too(
    tmp_path: Path, limit_by: str | None, is_asked_for: bool
) -> None:
    def lines(number: int) -> int:
        path = tmp_path / f"{number}.db"
        log = SqliteEventLog(path, synchronous="NORMAL")
        with OAutom(log=log, executor="inline") as app:
            flow = in_line(app)
            for _ in range(number):
                app.start(flow, {"of": 0})
        log.close()
        with next_life(path) as app:
            in_line(app, limit_by=limit_by)
            return count_lines(app.recover if is_asked_for else lambda: app.start("two steps"))

    assert lines(MORE) <= RATIO_MAX * lines(FEW)


@pytest.mark.usefixtures("_nobody_else_measures")
@pytest.mark.parametrize("is_asked_for", [None, True, False], ids=["", "recover", "run"])
def test_who_stands_in_line_takes_little_memory(tmp_path: Path, is_asked_for: bool | None) -> None:
    number, path = 300, tmp_path / "runs.db"

    def declare(app: OAutom) -> Flow:
        flow = Flow("long", app, when_full="wait")
        for index in range(STEPS):
            PythonExecution(f"step {index}", flow, int)
        return flow

    log = SqliteEventLog(path, synchronous="NORMAL")
    with OAutom(log=log, executor="inline") as app:
        flow = declare(app)
        size = growth(lambda: app.start(flow), number)
    log.close()
    if is_asked_for is not None:
        with next_life(path) as app:
            declare(app)
            tracemalloc.start()
            try:
                (app.recover if is_asked_for else lambda: app.start("two steps"))()
                gc.collect()
                size = tracemalloc.get_traced_memory()[0] / number
            finally:
                tracemalloc.stop()
    assert size <= 2 * BYTES_A_VECT


@pytest.mark.parametrize("mode", OAutomMode)
@pytest.mark.parametrize("is_asked_for", [True, False], ids=["recover", "run"])
def test_the_first_vects_go_on_while_others_are_still_taken_over(
    tmp_path: Path, mode: OAutomMode, is_asked_for: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oautom.engine.entering.STEPS_AT_ONCE", 5 * STEPS)
    monkeypatch.setattr("oautom.engine.recovery._AT_ONCE", 5)
    number, committed = 90, list[int]()  # a thread of a step may begin late
    left_open(path := tmp_path / "runs.db", number)
    with next_life(path, mode) as app:

        def note() -> int:
            committed.append(app.log.committed_seq)
            return 0

        many_steps(app, note)
        if is_asked_for:
            assert len(app.recover()) == number
        assert app.run("two steps").state == "success"
        assert app.vect(f"vect {number - 1}").wait() == "success"
        begun = app.log.read(upto=committed[0])
        assert 1 <= sum(event.name == "vect.recovered" for event in begun) < number


# What has ended


class Polled(Execution):
    poll_interval = 86_400.0

    def run(self, context: object) -> int:
        return 1

    def check(self, context: object) -> bool:
        return False


def with_big_locals() -> None:
    held = bytearray(20_000)
    raise ValueError(f"with {len(held)} bytes in hand")


def ends_well(app: OAutom) -> Work:
    flow = two_steps(app)
    return lambda: app.run(flow, None)


def fails(app: OAutom) -> Work:
    flow = Flow("failing", app)
    PythonExecution("bad", flow, with_big_locals)
    return lambda: app.run(flow)


def runs_a_child(app: OAutom) -> Work:
    inner, flow = Flow("inner", app), Flow("outer", app)
    PythonExecution("bad", inner, with_big_locals)
    FlowExecution("child", flow, inner)
    return lambda: app.run(flow)


def has_large_params(app: OAutom) -> Work:
    flow = Flow("large", app, params={"text": str})
    PythonExecution("length", flow, len, args=[flow.param("text")])
    return lambda: app.run(flow, {"text": "x" * 20_000})


def was_waited_for_in_vain(app: OAutom) -> Work:
    """Timers of a day are of no use any more when the Vect has ended."""
    flow = asking(app, timeout=86_400)
    Polled("polled", flow)
    other = two_steps(app)

    def run() -> None:
        vect = app.start(flow)
        app.run(other)
        vect.cancel()
        assert vect.wait() == "cancelled"

    return run


def has_a_timeout(app: OAutom) -> Work:
    flow = Flow("hurried", app)
    PythonExecution("a", flow, int, timeout=86_400)
    return lambda: app.run(flow)


KINDS = (
    ends_well,
    fails,
    runs_a_child,
    has_large_params,
    was_waited_for_in_vain,
    has_a_timeout,
)


def growth(work: Work, times: int) -> float:
    """Return by how many bytes a program grows each time, when it has settled."""
    sizes = []
    tracemalloc.start()
    try:
        for number in (30, times):
            for _ in range(number):
                work()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        return (sizes[1] - sizes[0]) / times
    finally:
        tracemalloc.stop()


@pytest.fixture
def _nobody_else_measures() -> None:
    if tracemalloc.is_tracing():
        pytest.skip("something else traces memory")


@pytest.mark.usefixtures("_nobody_else_measures", "_nobody_else_traces")
@pytest.mark.parametrize("kind", KINDS, ids=lambda each: each.__name__)
def test_a_vect_that_has_ended_takes_little_memory(
    tmp_path: Path, kind: Callable[[OAutom], Work]
) -> None:
    vects_each = 2 if kind in (runs_a_child, was_waited_for_in_vain) else 1
    log = SqliteEventLog(tmp_path / "runs.db", synchronous="NORMAL")
    threads = set(threading.enumerate())
    with OAutom(log=log, executor="inline") as app:
        assert growth(kind(app), 120) <= BYTES_A_VECT * vects_each
        begun = {thread.name for thread in threading.enumerate() if thread not in threads}
        assert begun <= {"oautom-wakeup", "oautom-signals"}  # one each, for good
    log.close()


@pytest.mark.usefixtures("_nobody_else_measures")
def test_a_vect_that_somebody_has_takes_little_memory_when_it_has_ended(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "runs.db", synchronous="NORMAL")
    with OAutom(log=log, executor="inline") as app:
        run, kept = has_large_params(app), []
        assert growth(lambda: kept.append(run()), 120) <= BYTES_A_VECT
    log.close()


@pytest.mark.usefixtures("_nobody_else_measures", "_nobody_else_traces")
def test_a_child_of_a_map_takes_little_memory_when_it_has_ended(tmp_path: Path) -> None:
    """Beside what its Vect takes, there is the instance, its output and its label in the parent."""
    log = SqliteEventLog(tmp_path / "runs.db", synchronous="NORMAL")
    kept, sizes = [], []
    with OAutom(log=log, executor="inline") as app:
        inner = Flow("inner", app, params={"n": int}, max_active_vects=None)
        PythonExecution("a", inner, int) >> PythonExecution("b", inner, int)
        gate = Flow("gate", app, params={"items": list[int]}, max_active_vects=None)
        each = MapExecution("each", gate, inner, gate.param("items"), label="item {}")
        each >> ApprovalExecution("ask", gate, "well?")  # so that the parent stays in memory
        tracemalloc.start()
        try:
            for number in (30, 330):
                kept.append(app.start(gate, {"items": list(range(number))}))
                with suppress(TimeoutError):
                    kept[-1].wait(0.0)
                while kept[-1].steps["ask"].state != "running":
                    with suppress(TimeoutError):
                        kept[-1].wait(0.01)
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
        assert (sizes[1] - sizes[0]) / 330 <= 2 * BYTES_A_VECT
        for vect in kept:
            vect.cancel()
    log.close()


@pytest.mark.usefixtures("_nobody_else_measures")
def test_a_log_in_memory_takes_what_its_events_hold() -> None:
    with OAutom(executor="inline") as app:
        flow = Flow("large", app)
        PythonExecution("numbers", flow, lambda: [None] * 2_000)
        assert growth(lambda: app.run(flow), 100) <= 1.3 * sys.getsizeof([None] * 2_000)


class Thing:
    """Something that a step has in hand."""


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_what_a_failed_step_had_in_hand_is_let_go_of(executor: Any) -> None:
    things: list[weakref.ref[Thing]] = []

    def deeper(thing: Thing) -> None:
        raise ValueError("no")

    def fail() -> None:
        things.append(weakref.ref(thing := Thing()))
        try:
            deeper(thing)
        except ValueError as error:
            raise LookupError("so") from error

    with OAutom(executor=executor) as app:
        flow = Flow("failing", app)
        PythonExecution("bad", flow, fail)
        vect = app.run(flow)
        gc.collect()
        assert [each() for each in things] == [None]
        with pytest.raises(StepFailedError) as failure:
            vect.result("bad")
    assert isinstance(failure.value.__cause__, LookupError)
    assert isinstance(failure.value.__cause__.__cause__, ValueError)
    (note,) = failure.value.__notes__
    assert "deeper(thing)" in note
    assert 'raise LookupError("so") from error' in note


def test_a_vect_that_ended_long_ago_can_be_used_as_before(tmp_path: Path) -> None:
    outcomes: list[Any] = [ValueError("at first"), 42]

    def answer() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    log = SqliteEventLog(tmp_path / "runs.db", synchronous="NORMAL")
    with OAutom(log=log, executor="inline") as app:
        flow, others = Flow("f", app, params={"day": str}), two_steps(app)

        class Noisy(Execution):
            def run(self, context: Any) -> None:
                context.log.info("heard")

        Noisy("noisy", flow)
        PythonExecution("answer", flow, answer)
        vect = app.run(flow, {"day": "monday"})
        for _ in range(40):
            app.run(others)

        assert vect.status()["executions"][1]["state"] == "failed"
        assert (vect.state, vect.params) == ("failed", {"day": "monday"})
        assert vect.steps["noisy"].log_text == "INFO heard\n"
        assert vect.steps["answer"].error == "ValueError: at first"
        with pytest.raises(StepFailedError) as failure:
            vect.result("answer")
        assert isinstance(failure.value.__cause__, ValueError)
        assert "failed" in vect.explain("answer")
        vect.cancel()
        assert app.vect(vect.id) is vect

        vect.retry()
        assert vect.wait() == "success"
        for _ in range(40):
            app.run(others)
        assert vect.result("answer") == 42
        assert [event.name for event in vect.events()].count("vect.reopened") == 1
    assert vect.status()["state"] == "success"
    log.close()
