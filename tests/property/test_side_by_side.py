"""Many Vects of one flow, and many flows in one app: each ends as if it had run alone.

They are started from several threads or from an asyncio program, and some of them are paused,
cancelled or retried by others meanwhile. Flows are drawn whose end does not depend on the order in
which their steps end: `explore` says so. What a step returns tells of all that it was given, so
that a value which goes astray between two Vects shows.
"""

from __future__ import annotations

import asyncio
import random
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from oautom import (
    Context,
    Flow,
    MemoryEventLog,
    OAutom,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
    Skip,
    TriggerRule,
    Vect,
)
from oautom.events import replay
from oautom.machine.tables import STEP_ENDS
from oautom.testing import check_history, explore, simulate

from .driver import plain

SECONDS = 30
MANY = 100
WORKERS = 8
STARTERS = 4

EARLY = {TriggerRule.ONE_SUCCESS, TriggerRule.ONE_FAILED, TriggerRule.ONE_DONE, TriggerRule.ALWAYS}
"""Rules under which a step starts while some of its upstreams still run."""

some = settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))


class StepPlan(NamedTuple):
    """A step: how many attempts fail before it ends as it does, and of which it takes outputs."""

    upstreams: tuple[int, ...] = ()
    rule: TriggerRule = TriggerRule.ALL_SUCCESS
    end: Literal["return", "raise", "skip"] = "return"
    failures: int = 0
    allow_failure: bool = False

    @property
    def script(self) -> list[Any]:
        """Return how its attempts end, as `explore` takes it."""
        last: dict[str, Any] = {"return": 0, "raise": RuntimeError("last"), "skip": Skip("drawn")}
        return [*[RuntimeError("drawn")] * self.failures, last[self.end]]


FlowPlan = tuple[StepPlan, ...]


RICH: FlowPlan = (
    StepPlan(),
    StepPlan(end="raise"),
    StepPlan(failures=2),
    StepPlan((0, 2)),
    StepPlan((1,), TriggerRule.ALL_FAILED, failures=1),
    StepPlan((0, 1), TriggerRule.ONE_SUCCESS),
    StepPlan((1, 3, 4), TriggerRule.ALL_DONE),
    StepPlan(end="skip"),
    StepPlan((3, 7), TriggerRule.NONE_FAILED),
    StepPlan((1,)),
    StepPlan((3, 6)),
)
"""A bit of all: what is drawn may be plain, and the first that Hypothesis draws always is."""


@st.composite
def plans(draw: st.DrawFn) -> FlowPlan:
    """Draw a flow whose end does not depend on the order in which its steps end."""
    steps: list[StepPlan] = []
    for number in range(draw(st.integers(2, 5))):
        before = st.integers(0, max(0, number - 1))
        upstreams = draw(st.lists(before, unique=True, max_size=min(number, 3)))
        plan = StepPlan(
            tuple(upstreams),
            draw(st.just(TriggerRule.ALL_SUCCESS) | st.sampled_from(TriggerRule)),
            draw(st.sampled_from(["return", "return", "return", "raise", "skip"])),
            draw(st.sampled_from([0, 0, 1, 2])),
            draw(st.booleans()),
        )
        steps.append(plan)
    drawn = tuple(steps)
    with OAutom(executor="inline") as app:
        script = {f"s{number}": step.script for number, step in enumerate(drawn)}
        found = explore(declare(app, "flow", drawn), outcomes=script, max_schedules=150)
    assume(found.is_complete and not found.depends_on_order)
    return drawn


def declare(app: OAutom, name: str, plan: FlowPlan, limit: int = 1, seconds: float = 0) -> Flow:
    """Declare a flow, each step of which takes up to so many seconds."""
    flow = Flow(name, app, params={"salt": int}, max_active_vects=limit)
    steps: list[PythonExecution] = []
    for number, step in enumerate(plan):
        upstreams = [steps[each] for each in step.upstreams]
        # Only of those that have succeeded for sure there is something to be given.
        taken = upstreams[:2] if step.rule is TriggerRule.ALL_SUCCESS else []
        made = PythonExecution(
            f"s{number}",
            flow,
            partial(work, step, seconds),
            (flow.param("salt"), taken),
            trigger_rule=step.rule,
            allow_failure=step.allow_failure,
            retry=RetryPolicy(max_attempts=step.failures + 1, delay=0),
        )
        made.depends(*upstreams)
        steps.append(made)
    return flow


def work(plan: StepPlan, seconds: float, salt: int, taken: list[int], context: Context) -> int:
    """End as planned; the output tells of all that was given."""
    if seconds:
        context.cancelled.wait(random.random() * seconds)
    if plan.end == "raise" or context.attempt <= plan.failures:
        raise RuntimeError(f"{context.step} of {salt}")
    if plan.end == "skip":
        raise Skip(f"{context.step} of {salt}")
    inputs = {} if plan.rule in EARLY else dict(sorted(context.inputs.items()))
    told = (context.step, salt, context.params["salt"], taken, inputs)
    return zlib.crc32(repr(told).encode())


class StepEnd(NamedTuple):
    state: str
    output: Any
    error: str | None


class End(NamedTuple):
    state: str
    steps: dict[str, StepEnd]


def end_of(vect: Vect) -> End:
    return End(
        vect.state,
        {
            # Of several that have failed upstream, the error names the first: that may be any.
            name: StepEnd(step.state, step.output, step.error if step.state == "failed" else None)
            for name, step in vect.steps.items()
        },
    )


@cache
def alone(plan: FlowPlan) -> list[End]:
    """Return how Vects end, by their salt, that are run one after the other, on one thread."""
    with OAutom(executor="inline") as app:
        flow = declare(app, "flow", plan)
        return [end_of(app.run(flow, {"salt": salt})) for salt in range(MANY)]


class Job(NamedTuple):
    """A Vect to run, and what others do to it meanwhile."""

    flow: Flow
    plan: FlowPlan
    salt: int
    meddling: str

    def start(self, app: OAutom) -> Vect:
        return app.start(self.flow, {"salt": self.salt}, vect_id=f"{self.flow.name}-{self.salt}")

    def meddle(self, vect: Vect) -> None:
        """Do it at some moment of the run."""
        threading.Event().wait(random.random() * 0.05)
        if self.meddling == "pause":
            vect.pause()
            threading.Event().wait(random.random() * 0.02)
            vect.resume()
        elif self.meddling in ("cancel", "retry"):
            vect.cancel("drawn")
        if self.meddling == "retry" and vect.wait(SECONDS) == "cancelled":
            vect.retry()
        elif self.meddling == "retry":
            assert vect.state in ("success", "failed")  # it was quicker

    def check(self, vect: Vect) -> None:
        """Hold that it ended as if it had run alone; if it was cancelled, as far as it came."""
        there, here = alone(self.plan)[self.salt], end_of(vect)
        if self.meddling != "cancel" or here.state != "cancelled":
            assert here == there
            return
        for name, step in here.steps.items():
            assert step.state in STEP_ENDS
            assert step == there.steps[name] or step.state == "cancelled"


MEDDLING = ["", "", "", "pause", "", "cancel", "", "retry"]


def jobs_of(flows: list[tuple[Flow, FlowPlan]], seed: int) -> list[Job]:
    chance = random.Random(seed)
    jobs = [
        Job(*flows[number % len(flows)], number, MEDDLING[number % len(MEDDLING)])
        for number in range(MANY)
    ]
    chance.shuffle(jobs)
    return jobs


def from_threads(app: OAutom, jobs: list[Job]) -> list[tuple[Job, Vect]]:
    """Start them from several threads at once; others wait for them, and yet others meddle."""

    def start_some(share: list[Job]) -> list[tuple[Job, Vect]]:
        barrier.wait(SECONDS)
        return [(job, job.start(app)) for job in share]

    barrier = threading.Barrier(STARTERS)
    with ThreadPoolExecutor(STARTERS) as starters, ThreadPoolExecutor(STARTERS) as others:
        shares = [jobs[number::STARTERS] for number in range(STARTERS)]
        started, meddling = [], []
        for share in starters.map(start_some, shares):
            started += share
            meddling += [others.submit(job.meddle, vect) for job, vect in share if job.meddling]
        for each in meddling:
            each.result(SECONDS)
        for _, vect in started:
            vect.wait(SECONDS)
    return started


def from_asyncio(app: OAutom, jobs: list[Job]) -> list[tuple[Job, Vect]]:
    """Start and await them in an asyncio program."""

    async def run_one(job: Job) -> tuple[Job, Vect]:
        vect = job.start(app)
        meddling = asyncio.to_thread(job.meddle, vect) if job.meddling else asyncio.sleep(0)
        await asyncio.gather(meddling, vect)
        assert await vect == vect.state  # once more, if it was retried
        return job, vect

    async def run_all() -> list[tuple[Job, Vect]]:
        async with asyncio.timeout(SECONDS):
            return await asyncio.gather(*map(run_one, jobs))

    return asyncio.run(run_all())


Start = Callable[[OAutom, list[Job]], list[tuple[Job, Vect]]]
ways = pytest.mark.parametrize("start", [from_threads, from_asyncio])


def check_all(app: OAutom, done: list[tuple[Job, Vect]]) -> None:
    """Hold each Vect against its run alone, and the log against all that holds for a log."""
    assert len({vect.id for _, vect in done}) == MANY
    for job, vect in done:
        job.check(vect)
    events = list(app.log.read())
    check_history(events, done[0][0].flow, max_workers=WORKERS)  # all Vects, and one flow's graph
    folded = replay(events)
    for _, vect in done:
        assert plain(folded[vect.id].facts()) == plain(vect._run.state.facts())
        assert [e.name for e in vect.events()].count("vect.created") == 1


def side_by_side(
    start: Start, plans: list[FlowPlan], flows: int, mode: OAutomMode, log: Any, seed: int
) -> None:
    with OAutom(mode, executor="threads", max_workers=WORKERS, log=log) as app:
        declared = []
        for number in range(flows):
            plan = plans[number % len(plans)]
            flow = declare(app, f"flow {number}", plan, -(-MANY // flows), seconds=0.004)
            declared.append((flow, plan))
        check_all(app, start(app, jobs_of(declared, seed)))


@pytest.fixture
def new_log(start: Start) -> Iterator[Callable[[], Any]]:
    """Makes a log for each example: Hypothesis calls a test many times."""
    with TemporaryDirectory() as folder:
        names = (Path(folder) / f"{number}.db" for number in range(1_000))
        yield MemoryEventLog if start is from_threads else lambda: str(next(names))


@ways
@some
@example(plan=RICH, seed=0)
@given(plan=plans(), seed=st.integers(0, 99))
def test_a_hundred_vects_of_one_flow(
    start: Start, new_log: Callable[[], Any], plan: FlowPlan, seed: int
) -> None:
    side_by_side(start, [plan], 1, OAutomMode.background, new_log(), seed)


def test_a_hundred_vects_from_threads_in_a_durable_log(tmp_path: Path) -> None:
    side_by_side(from_threads, [RICH], 1, OAutomMode.background, tmp_path / "runs.db", 1)


@ways
@some
@given(plan=plans(), other=plans(), seed=st.integers(0, 99))
def test_a_hundred_flows_in_one_app(
    start: Start, new_log: Callable[[], Any], plan: FlowPlan, other: FlowPlan, seed: int
) -> None:
    side_by_side(start, [RICH, plan, other], MANY, OAutomMode.background, new_log(), seed)


@ways
@some
@given(plan=plans(), seed=st.integers(0, 99))
def test_in_the_foreground_whoever_waits_drives_them_all(
    start: Start, plan: FlowPlan, seed: int
) -> None:
    side_by_side(start, [RICH, plan], 10, OAutomMode.foreground, None, seed)


@some
@example(plan=RICH, salt=0)
@given(plan=plans(), salt=st.integers(0, 99))
def test_alone_means_the_same_inline_and_simulated(plan: FlowPlan, salt: int) -> None:
    """What the others are held against: the real functions inline, and the script in `simulate`."""
    there = alone(plan)[salt]
    with OAutom(executor="inline") as app:
        script = {f"s{number}": step.script for number, step in enumerate(plan)}
        vect = simulate(declare(app, "flow", plan), {"salt": salt}, outcomes=script)
    assert vect.state == there.state
    states = {name: step.state for name, step in vect.steps.items()}
    assert states == {name: step.state for name, step in there.steps.items()}


def test_the_rich_flow_has_a_bit_of_all() -> None:
    end, other = alone(RICH)[:2]
    assert {step.state for step in end.steps.values()} == {
        *("success", "failed", "skipped", "upstream_failed")
    }
    assert end != other
