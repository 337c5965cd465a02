"""Limits hold, and keep nobody waiting for nothing: pools, priorities, maps, workers, open Vects.

Several drawn flows are declared in one app, so that they share workers and pools, and several Vects
of each are started, paused, cancelled and retried while others run. What must hold is counted here
from the log alone, and from the flows as they are declared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from heapq import heapify
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from oautom import (
    ApprovalExecution,
    BranchExecution,
    Event,
    Execution,
    Flow,
    MapExecution,
    OAutom,
    PythonExecution,
    Skip,
    Vect,
    VectAlreadyRunningException,
    VectStateError,
    WaitExecution,
)
from oautom.engine import queue as turns
from oautom.machine.maps import Mapped
from oautom.machine.rules import verdict
from oautom.steps.work import Work
from oautom.testing import SimulatedClock, check_history, durations, flows, outcomes
from oautom.testing.simulation import Script
from tests.kit import TickLog

OPEN_VECTS = ("pending", "running", "paused")
ENDED = ("success", "failed", "skipped", "upstream_failed")
ERRORS = st.sampled_from([RuntimeError("drawn"), Skip("drawn")])
Place = tuple[str, str]
"""The id of a Vect, and the name of a step."""


class FlowPlan(NamedTuple):
    """A flow to declare, how long its steps take, how they end, and how many Vects may be open."""

    drawn: Flow
    seconds: dict[str, Any]
    ends: dict[str, Any]
    at_once: int


class Doing(NamedTuple):
    """What is done to the app at some second."""

    second: int
    what: str
    which: int


class Plan(NamedTuple):
    flows: list[FlowPlan]
    workers: int
    doings: list[Doing]


@st.composite
def flow_plans(draw: st.DrawFn) -> FlowPlan:
    has_all = draw(st.booleans())  # else there are more maps
    drawn = draw(
        flows(
            min_steps=1,
            max_steps=5,
            trigger_rules=has_all,
            retries=has_all,
            waits=has_all,
            branches=has_all,
            limits=True,
            maps=True,
            maps_of_flows=True,
        )
    )
    seconds = draw(durations(drawn, max_seconds=4, max_attempts=2))
    ends = draw(outcomes(drawn, errors=ERRORS, max_attempts=2))
    return FlowPlan(drawn, seconds, ends, draw(st.integers(1, 2)))


WHAT = st.sampled_from(["start", "start", "start", "pause", "cancel", "retry"])
DOINGS = st.lists(
    st.builds(Doing, st.integers(0, 9), WHAT, st.integers(0, 5)), min_size=1, max_size=8
)
PLANS = st.builds(Plan, st.lists(flow_plans(), min_size=1, max_size=3), st.integers(1, 3), DOINGS)


class ScriptedExecutor(Executor):
    """Workers that answer on the clock as the scripts have it."""

    def __init__(self, clock: SimulatedClock, workers: int) -> None:
        self.scripts: dict[str, Script] = {}
        self._clock, self._workers = clock, workers
        self._busy = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        work = fn.job  # type: ignore[attr-defined] # as any executor elsewhere gets it
        assert isinstance(work, Work)
        self._busy += 1
        assert self._busy <= self._workers
        script = self.scripts[work.execution.flow.name]
        attempt = (work.context.step, work.context.attempt)
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()

        def answer() -> None:
            self._busy -= 1
            future.set_result(script.outcome(*attempt))

        self._clock.call_later(script.duration(*attempt), answer)
        return future


def declare(app: OAutom, name: str, plan: FlowPlan) -> Flow:
    """Declare in an app what was drawn in an app of its own."""
    flow = Flow(name, app, max_active_vects=plan.at_once)
    for step, like in plan.drawn.steps.items():
        options: dict[str, Any] = {
            option: getattr(like, option)
            for option in (
                *("trigger_rule", "allow_failure", "retry", "timeout", "pool", "priority"),
            )
        }
        if like.pool_slots > 1:
            options["pool_slots"] = like.pool_slots
        made: Execution
        if isinstance(like, MapExecution):
            over = flow.steps[like.over.name]
            made = MapExecution(
                step, flow, nothing, over, max_parallel=like.max_parallel, **options
            )
        elif isinstance(like, WaitExecution):
            made = WaitExecution(step, flow, seconds=like.seconds, **options)
        elif isinstance(like, ApprovalExecution):
            made = ApprovalExecution(step, flow, like.prompt, **options)
        elif isinstance(like, BranchExecution):
            made = BranchExecution(step, flow, nothing, **options)
        else:
            made = PythonExecution(step, flow, nothing, **options)
        made.depends(*(flow.steps[upstream] for upstream in plan.drawn.graph.upstreams[step]))
    return flow


def nothing(*given: Any) -> Any:
    """Nobody calls it: the workers have a script."""


class Books:
    """What a log says of limits, counted here; each claim about an event is held before it."""

    def __init__(self, flows: dict[str, Flow], workers: int) -> None:
        self.flows, self.workers = flows, workers
        self.vects: dict[str, str] = {}  # their states
        self.flow_of: dict[str, Flow] = {}
        self.states: dict[Place, str] = {}
        self.outputs: dict[Place, Any] = {}
        self.counts: dict[Place, int] = {}  # of maps: how many items there are
        self.busy: set[tuple[str, str, int]] = set()  # attempts that a worker is at

    def execution(self, place: Place) -> Execution:
        steps = self.flow_of[place[0]].steps
        return steps[place[1] if place[1] in steps else place[1].rpartition("[")[0]]

    def map_of(self, place: Place) -> Place | None:
        """Return the map that a step is an instance of."""
        is_instance = place[1] not in self.flow_of[place[0]].steps
        return (place[0], place[1].rpartition("[")[0]) if is_instance else None

    def needs_no_worker(self, place: Place) -> bool:
        kinds = ("wait", "approval", "map")
        return self.map_of(place) is None and self.execution(place).kind in kinds

    def running(self) -> list[Place]:
        """Return what runs, but for what needs no worker."""
        return [
            place
            for place, state in self.states.items()
            if state == "running" and not self.needs_no_worker(place)
        ]

    def has_room(self, place: Place) -> bool:
        """Whether the pool and the map of a step allow that one more runs."""
        if self.needs_no_worker(place):
            return True
        running, step, over = self.running(), self.execution(place), self.map_of(place)
        at_work = {*running, *(attempt[:2] for attempt in self.busy)}  # some are being ended
        if place in at_work:
            return False
        if step.pool is not None:
            others = [self.execution(each) for each in at_work]
            taken = sum(each.pool_slots for each in others if each.pool == step.pool)
            if taken + step.pool_slots > (step.pool.slots or 0):
                return False
        limit = step.max_parallel if isinstance(step, MapExecution) else None
        return limit is None or [self.map_of(each) for each in running].count(over) < limit

    def is_due(self, place: Place) -> bool:
        """Whether a step may start as far as its upstreams, its map and its Vect are concerned."""
        vect, name = place
        if self.states[place] != "pending" or self.vects[vect] != "running":
            return False
        over = self.map_of(place)
        if over is not None:
            index = int(name.rpartition("[")[2].rstrip("]"))
            return self.states[over] == "running" and index < self.counts[over]
        graph = self.flow_of[vect].graph
        before = [(vect, upstream) for upstream in graph.upstreams[name]]
        for branch in before:
            if self.execution(branch).kind == "branch" and self.states[branch] == "success":
                chosen = self.outputs[branch]
                names = [chosen] if isinstance(chosen, str) else chosen or []
                if name not in graph.reach(names):
                    return False
        tally = Counter(self.states[each] for each in before if self.states[each] in ENDED)
        return verdict(str(self.execution(place).trigger_rule), len(before), tally) == "start"

    def waiting(self) -> Iterator[Place]:
        """Yield who could start if there were a worker for it."""
        due = [place for place in self.states if self.is_due(place)]
        return (each for each in due if self.has_room(each) and not self.is_behind(each, due))

    def is_behind(self, place: Place, due: list[Place]) -> bool:
        """Whether another step of its pool that takes several slots may have to go first."""
        pool = self.execution(place).pool
        others = [self.execution(each) for each in due if each != place]
        return any(each.pool == pool and each.pool_slots > 1 for each in others)

    def open_vects(self, flow: Flow) -> int:
        states = [self.vects[vect] for vect, its in self.flow_of.items() if its is flow]
        return sum(state in OPEN_VECTS for state in states)

    def hold_start(self, place: Place) -> None:
        """Hold that a step may start now, and that nobody else should instead."""
        assert self.is_due(place), "it is not due"
        assert self.has_room(place), "its pool or its map is full"
        if self.needs_no_worker(place):
            return
        assert len(self.running()) < self.workers, "no worker is free"
        higher = [
            each
            for each in self.waiting()
            if self.execution(each).priority > self.execution(place).priority
            and not self.needs_no_worker(each)
        ]
        assert not higher, f"{higher} should start before it"

    def hold_rest(self) -> None:
        """Hold that between ticks nobody waits who could start."""
        waiting = list(self.waiting())
        assert not [place for place in waiting if self.needs_no_worker(place)]
        assert len(self.busy) >= self.workers or not waiting, f"{waiting} wait for nothing"

    def take(self, event: Event) -> None:
        if event.name == "vect.created":
            self.flow_of[event.vect] = self.flows[event.flow]
            self.states |= {(event.vect, step): "pending" for step in self.flows[event.flow].steps}
        if event.step is None:
            self.vects[event.vect] = event.dest
            flow = self.flows[event.flow]
            assert self.open_vects(flow) <= flow.max_active_vects
            return
        place = (event.vect, event.step)
        if event.name == "step.started":
            self.hold_start(place)
        self._count_workers(place, event)
        self.states[place] = event.dest
        if event.name == "step.started" and "count" in event.data:
            self.counts[place] = event.data["count"]
            for index in range(event.data["count"]):
                self.states.setdefault((event.vect, f"{event.step}[{index}]"), "pending")
        if event.name == "step.succeeded":
            self.outputs[place] = event.data.get("output")

    def _count_workers(self, place: Place, event: Event) -> None:
        attempt = (*place, event.attempt or 0)
        if event.name == "step.started":
            if not self.needs_no_worker(place):
                self.busy.add(attempt)
        elif event.name != "step.cancelled" and "abandoned" not in event.data:
            self.busy.discard(attempt)  # else a worker is still at it


def check(plan: Plan) -> list[Event]:
    """Do all that is planned, hold every prefix of the log against the limits, and return it."""
    clock, log = SimulatedClock(), TickLog()
    executor = ScriptedExecutor(clock, plan.workers)
    with OAutom(log=log, executor=executor, max_workers=plan.workers, clock=clock) as app:
        declared = [declare(app, f"f{n}", each) for n, each in enumerate(plan.flows)]
        for flow, each in zip(declared, plan.flows, strict=True):
            executor.scripts[flow.name] = Script(flow, each.seconds, each.ends)
        vects = do_all(app, clock, declared, plan.doings)
        assert all(vect.ended for vect in vects), "a Vect does not end"
    events = list(log.read())
    ends = {tick[-1].seq for tick in log.ticks if tick}
    books = Books({flow.name: flow for flow in declared}, plan.workers)
    for event in events:
        books.take(event)
        if event.seq in ends:
            books.hold_rest()
    return events


def do_all(
    app: OAutom, clock: SimulatedClock, declared: list[Flow], doings: list[Doing]
) -> list[Vect]:
    """Do all that is planned, wait until all has ended that can, and return the Vects."""
    vects: list[Vect] = []

    def go_on(seconds: float) -> None:
        clock.call_later(seconds, app.stop)
        app.run()

    for doing in sorted(doings):
        go_on(max(0.0, doing.second - clock.monotonic()))
        if doing.what == "start":
            with suppress(VectAlreadyRunningException):
                vects.append(app.start(declared[doing.which % len(declared)]))
        elif vects:
            act(vects[doing.which % len(vects)], doing.what)
    for vect in vects:
        vect.resume()
    go_on(1000)
    return vects


def act(vect: Vect, what: str) -> None:
    """Pause, resume, cancel or retry a Vect, if that makes sense now."""
    with suppress(VectAlreadyRunningException, VectStateError):
        if what == "pause" and vect.state == "paused":
            vect.resume()
        elif what == "pause":
            vect.pause()
        elif what == "cancel":
            vect.cancel("drawn")
        else:
            vect.retry()


def mapped() -> Plan:
    """Return a plan of what is drawn seldom: several items at once, of which one may run."""
    drawn = Flow("flow", OAutom())
    MapExecution("b", drawn, nothing, PythonExecution("a", drawn, nothing), max_parallel=1)
    plan = FlowPlan(drawn, {"b": 1}, {"a": [[1, 2, 3]]}, 1)
    return Plan([plan], 3, [Doing(0, "start", 0)])


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(PLANS)
def test_limits_hold_and_keep_nobody_waiting_for_nothing(plan: Plan) -> None:
    check_history(check(plan), max_workers=plan.workers)


def test_a_map_whose_items_end_at_once_has_as_many_begin() -> None:
    """Though others are served meanwhile, so that the next items have to wait for a worker."""
    drawn, other = Flow("flow", OAutom()), Flow("other", OAutom())
    items = PythonExecution("a", drawn, nothing)
    MapExecution("b", drawn, nothing, items, max_parallel=2)
    for name in "xyz":
        PythonExecution(name, other, nothing, priority=1)
    plans = [
        FlowPlan(drawn, {"a": 1, **{f"b[{i}]": 2 for i in range(4)}}, {"a": [[1, 2, 3, 4]]}, 1),
        FlowPlan(other, dict.fromkeys("xyz", 5), {}, 1),
    ]
    check(Plan(plans, 3, [Doing(0, "start", 0), Doing(2, "start", 1)]))


def pop_lowest(waiting: list[Any]) -> Any:
    """Take out who is served last by its priority."""
    lowest = min(waiting, key=lambda turn: (turn.needs_slot, -turn.rank, turn.ticket))
    waiting.remove(lowest)
    heapify(waiting)
    return lowest


def forget_holder(self: turns.ReadyQueue, pool: turns.Group, holder: tuple[Any, ...]) -> None:
    """Free a slot, and let nobody check whether there is room."""
    self._counts[pool] -= self._taken[pool].pop(holder, 0)


BUGS: dict[str, tuple[Any, str, Any, str]] = {
    "pools are ignored": (
        turns.ReadyQueue,
        "take_slot",
        lambda *_: None,
        "its pool or its map is full",
    ),
    "who waits for a pool is forgotten": (
        *(turns.ReadyQueue, "free_slot"),
        forget_holder,
        "a Vect does not end",
    ),
    "the lowest are served first": (
        *(turns, "heappop", pop_lowest),
        "should start before it",
    ),
    "max_parallel is ignored": (Mapped, "has_room", True, "its pool or its map is full"),
}


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_a_planted_bug_is_found(
    monkeypatch: pytest.MonkeyPatch, bug: tuple[Any, str, Any, str]
) -> None:
    where, name, wrong, message = bug
    monkeypatch.setattr(where, name, wrong, raising=False)

    def shows(plan: Plan) -> bool:
        try:
            check(plan)
        except AssertionError as error:
            return message in str(error)
        return False

    search = settings(database=None, deadline=None, max_examples=2000, phases=[Phase.generate])
    find(st.just(mapped()) | PLANS, shows, settings=search)
