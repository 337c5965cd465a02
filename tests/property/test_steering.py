"""Everything that can be asked of an app, at any time and beside anything, with threads and a file.

A real app with a durable log, steps of all kinds, and calls that must be back in time. What the
steps do is seen from outside, by locks: no two attempts of a step are at work at once, nor two
holders of a pool of one slot. What a call has promised when it is back is looked up in the log. At
the end every Vect can be brought to its end, and the log holds against all invariants.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from oautom import (
    ApprovalExecution,
    BashExecution,
    BranchExecution,
    Context,
    Event,
    Execution,
    Flow,
    FlowExecution,
    MapExecution,
    OAutom,
    OAutomError,
    OAutomMode,
    Pool,
    PythonExecution,
    RetryPolicy,
    SqliteEventLog,
    UnknownVectError,
    Vect,
    VectAlreadyRunningException,
    VectStateError,
    WaitExecution,
)
from oautom.machine.tables import VECT_ENDS
from oautom.testing import violations
from tests.held import Call, HeldFile, in_time
from tests.outside import BASH_HEAD, Line, at_work, family, orphans, overlaps

IS_LONG = bool(os.environ.get("OAUTOM_CRASH_LONG"))
SECONDS = 20.0
"""Within which every call is back, and every Vect can be brought to its end."""
A_MOMENT = 0.05
AT_ONCE = RetryPolicy(max_attempts=2, delay=0, jitter=0)

KINDS = (
    *("bash", "deaf bash", "python", "deaf python", "async", "deaf async"),
    *("wait", "approval", "map", "child", "branch"),
)
TAKE_POOLS = KINDS[:6]
TIMEOUTS = (*TAKE_POOLS, "child")

Asked = VectStateError, VectAlreadyRunningException, UnknownVectError
"""What may be the answer: somebody else was quicker."""

steps = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "pool": st.booleans(),
        "timeout": st.booleans(),
        "after": st.booleans(),
    }
)
number = st.integers(0, 9)
"""Which of those that there are, counted from the oldest, and round again."""


def kept(function: Callable[..., None]) -> Callable[..., None]:
    """Keep what a rule raises for the end: Hypothesis wants the same draws, whatever threads do."""

    @wraps(function)
    def call(self: Steered, **drawn: Any) -> None:
        if self.failure is None:
            try:
                function(self, **drawn)
            except BaseException as error:
                self.failure = error

    return call


class Work:
    """The function of a step: it listens and tidies up, or is deaf. Travels to other processes."""

    def __init__(self, folder: Path, seconds: float, pool: str, *, is_deaf: bool) -> None:
        self.folder, self.seconds, self.pool, self.is_deaf = folder, seconds, pool, is_deaf

    def __call__(self, context: Context) -> None:
        with at_work(self.folder, context, self.pool):
            if self.is_deaf:
                time.sleep(self.seconds)
            elif context.cancelled.wait(self.seconds):
                time.sleep(A_MOMENT)

    def of_item(self, item: int, context: Context) -> None:
        self(context)

    async def be_async(self, context: Context) -> None:
        with at_work(self.folder, context, self.pool):
            end = time.monotonic() + self.seconds
            while time.monotonic() < end:
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    if not self.is_deaf:
                        await asyncio.sleep(A_MOMENT)
                        raise


class Steered(RuleBasedStateMachine):
    failure: BaseException | None = None

    @initialize(
        flows=st.lists(st.lists(steps, min_size=1, max_size=3), min_size=1, max_size=3),
        mode=st.sampled_from(OAutomMode),
        workers=st.integers(1, 6),
        executor=st.sampled_from(["threads", "threads", "threads", "processes"]),
    )
    def begin(
        self, flows: list[list[dict[str, Any]]], mode: OAutomMode, workers: int, executor: str
    ) -> None:
        self.place = tempfile.TemporaryDirectory(prefix="oautom-")
        self.folder = Path(self.place.name)
        self.plan, self.mode, self.executor = flows, mode, executor
        self.workers = workers if executor == "threads" else min(workers, 2)  # they take long
        self.on_their_own: set[str] = set()  # steps of which somebody has retried a child by itself
        self.ticks: list[list[Event]] = []
        self.live()

    def live(self) -> None:
        """Be a program that declares its flows, and goes on with what there is."""
        self.log = HeldFile(self.folder / "runs.db", synchronous="NORMAL")
        self.log.ticks = self.ticks
        options: dict[str, Any] = {"executor": self.executor, "max_workers": self.workers}
        self.app = OAutom(self.mode, log=self.log, **options)
        inner = Flow("inner", self.app, max_active_vects=2)
        self.step_of({"kind": "deaf bash"}, "left", inner)
        self.step_of({"kind": "deaf python"}, "right", inner)
        for index, plan in enumerate(self.plan):
            flow = Flow(f"flow {index}", self.app, max_active_vects=3)
            before: Execution | None = None
            for place, step in enumerate(plan):
                made = self.step_of(step, f"s{place}", flow)
                if before is not None and step["after"]:
                    made.depends(before)
                before = made
        in_time(self.app.recover, seconds=SECONDS)

    def step_of(self, step: dict[str, Any], name: str, flow: Flow) -> Execution:
        """Declare a step of a kind."""
        kind = step["kind"]
        options: dict[str, Any] = {}
        pool = "narrow" if step.get("pool") and kind in TAKE_POOLS else ""
        if pool:
            options["pool"] = Pool(pool, 1)
        if step.get("timeout") and kind in TIMEOUTS:
            options |= {"timeout": 0.1, "retry": AT_ONCE}
        match kind:
            case "bash" | "deaf bash":
                deaf = "trap '' TERM INT HUP;" if kind == "deaf bash" else ""
                command = f"{BASH_HEAD}{deaf} sleep 0.2"
                options["grace_period"] = 0.1
                return BashExecution(name, flow, command, {"POOL": pool}, self.folder, **options)
            case "wait":
                return WaitExecution(name, flow, seconds=0.1)
            case "approval":
                return ApprovalExecution(name, flow, "go on?")
            case "map":
                source = PythonExecution(f"{name} of", flow, list, [[1, 2, 3]])
                work = Work(self.folder, 0.05, pool, is_deaf=False)
                return MapExecution(name, flow, work.of_item, source)
            case "child":
                return FlowExecution(name, flow, "inner", **options)
            case "branch":
                branch = BranchExecution(name, flow, list)
                branch >> PythonExecution(f"{name} no", flow, str)
                return branch
        work = Work(self.folder, 0.2, pool, is_deaf=kind.startswith("deaf"))
        function = work.be_async if kind.endswith("async") else work
        return PythonExecution(name, flow, function, **options)

    # What is done

    def ask(self, call: Callable[..., Any], *args: Any, **options: Any) -> bool:
        """Make a call that must be back in time; whether it was done, not refused."""
        try:
            in_time(call, *args, seconds=SECONDS, **options)
        except Asked:
            return False
        return True

    @property
    def vects(self) -> list[Vect]:
        return in_time(self.app.vects, seconds=SECONDS)

    def one(self, which: int) -> list[Vect]:
        """Return one of the Vects, if there is any; what there is depends on the time."""
        vects = self.vects
        return [vects[which % len(vects)]] if vects else []

    def states(self, vect: Vect) -> list[str]:
        """Return the states in which the log has seen a Vect."""
        return [event.dest for event in self.log.read(vect=vect.id) if event.step is None]

    def is_gone(self, vect: Vect) -> bool:
        return vect.id in {each.id for each in self.log.pruned()}

    @rule(which=number, count=st.integers(1, 3))
    @kept
    def start(self, which: int, count: int) -> None:
        flow = f"flow {which % len(self.plan)}"
        calls = [Call(self.app.start, flow) for _ in range(count)]
        for call in calls:
            with suppress(VectAlreadyRunningException):
                assert self.states(call.result(SECONDS))[:1] == ["pending"]

    @rule(which=number)
    @kept
    def cancel(self, which: int) -> None:
        for vect in self.one(which):
            if self.ask(vect.cancel, "enough"):
                assert not VECT_ENDS.isdisjoint(self.states(vect)) or self.is_gone(vect)

    @rule(which=number)
    @kept
    def pause(self, which: int) -> None:
        for vect in self.one(which):
            if self.ask(vect.pause):
                assert {"paused", *VECT_ENDS} & {*self.states(vect)} or self.is_gone(vect)

    @rule(which=number)
    @kept
    def resume(self, which: int) -> None:
        for vect in self.one(which):
            self.ask(vect.resume)

    @rule(which=number)
    @kept
    def retry(self, which: int) -> None:
        ended = [vect for vect in self.vects if vect.ended]
        if not ended:
            return
        vect = ended[which % len(ended)]
        before = len(self.states(vect))
        self.on_their_own.add(family(vect.id))  # beside it there may be another one of its step
        if self.ask(vect.retry):
            assert "running" in self.states(vect)[before:]

    @rule(which=number)
    @kept
    def cancel_and_retry(self, which: int) -> None:
        for vect in self.one(which):
            self.on_their_own.add(family(vect.id))
            self.ask(vect.cancel)
            self.ask(vect.retry)

    @rule(which=number, ways=st.tuples(st.booleans(), st.booleans()))
    @kept
    def decide(self, which: int, ways: tuple[bool, bool]) -> None:
        """Two people, on two threads, at once."""
        gates = self.gates()
        if not gates:
            return
        vect, step = gates[which % len(gates)]
        calls = [
            Call(self.ask, vect.approve if approves else vect.reject, step, by)
            for approves, by in zip(ways, ("Ada", "Bob"), strict=True)
        ]
        done = [call.result(SECONDS) for call in calls]
        assert sum(done) <= 1

    def gates(self) -> list[tuple[Vect, str]]:
        """Return what waits for a person."""
        found = []
        for vect in self.vects:
            for name in vect.steps:
                is_gate = isinstance(vect.flow.steps.get(name), ApprovalExecution)
                if is_gate and vect.steps[name].state == "running":
                    found.append((vect, name))
        return found

    @rule()
    @kept
    def prune(self) -> None:
        self.ask(self.app.prune, older_than=timedelta(0))

    @rule(seconds=st.sampled_from([0.0, A_MOMENT, 0.2]))
    @kept
    def let_time_pass(self, seconds: float) -> None:
        """In the foreground somebody drives meanwhile."""
        deadline = time.monotonic() + seconds
        for vect in self.vects:
            with suppress(TimeoutError, *Asked):
                in_time(vect.wait, max(0, deadline - time.monotonic()), seconds=SECONDS)
        time.sleep(max(0, deadline - time.monotonic()))

    @rule()
    @kept
    def close_and_open_again(self) -> None:
        self.close()
        self.live()

    def close(self) -> None:
        in_time(self.app.close, seconds=SECONDS)
        in_time(self.log.close, seconds=SECONDS)

    # What must hold

    def overlaps(self) -> list[Line]:
        """Return who was at work beside another; a child that was retried is on its own."""
        return [
            line
            for line in overlaps(self.folder)
            if line.what != "overlap step"
            or "/" not in line.vect
            or family(line.vect) not in self.on_their_own
        ]

    @invariant()
    @kept
    def no_two_are_at_work_at_once(self) -> None:
        assert self.overlaps() == []

    @invariant()
    @kept
    def all_can_be_read(self) -> None:
        for status in in_time(self.app.logs, seconds=SECONDS):
            assert status["executions"]

    def bring_to_an_end(self) -> None:
        deadline = time.monotonic() + SECONDS
        while still_open := [vect for vect in self.vects if not vect.ended]:
            for vect, step in self.gates():
                self.ask(vect.approve, step, "Ada")
            for vect in still_open:
                if vect.state == "paused":
                    self.ask(vect.resume)
                if time.monotonic() > deadline - SECONDS / 2:
                    self.ask(vect.cancel, "the end")
                with suppress(TimeoutError, *Asked):
                    in_time(vect.wait, A_MOMENT, seconds=SECONDS)
            assert time.monotonic() < deadline, still_open

    def teardown(self) -> None:
        if not hasattr(self, "app"):
            return
        try:
            if self.failure is not None:
                raise self.failure
            self.bring_to_an_end()
            self.close()
            assert self.overlaps() == []
            with closing(SqliteEventLog(self.folder / "runs.db", read_only=True)) as log:
                for violation in violations(log.read(), gaps=log.gaps()):
                    told = [event for event in log.read() if abs(event.seq - violation.seq) < 30]
                    raise AssertionError(f"{violation}: {told}")
            for seq, child in orphans(self.ticks):
                family = [
                    event for tick in self.ticks for event in tick if child.startswith(event.vect)
                ]
                raise AssertionError(f"after event {seq}: {child} is open: {family}")
        finally:
            with suppress(AssertionError, OAutomError):
                self.close()
            with suppress(OSError):  # what has not ended may still write
                self.place.cleanup()


@pytest.mark.timeout(3600 if IS_LONG else 300)
def test_whatever_is_asked_in_whatever_order_every_vect_can_be_brought_to_its_end() -> None:
    """Threads take another course each time, so that a case is not made smaller."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Steered,
        settings=settings(
            max_examples=400 if IS_LONG else 12,
            stateful_step_count=40 if IS_LONG else 14,
            deadline=None,
            phases=[Phase.generate],
            database=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
