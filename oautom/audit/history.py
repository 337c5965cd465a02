"""The past: the state with which the invariants of a history are compared. Pure.

It is made from the events and the graph in them, without the fold and the decisions of the engine,
so that it does not repeat their mistakes. It shares only the trigger rules, which have tests
against those of Airflow.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from graphlib import TopologicalSorter
from typing import Any, Final, Protocol, get_type_hints

import msgspec

from oautom.flows.params import Params
from oautom.machine.event import NO_DATA, Event, is_loss, is_of_plan, planned_time
from oautom.machine.graph import Graph
from oautom.machine.kinds import kind_of
from oautom.machine.maps import instance_name
from oautom.machine.rules import ALL_SUCCESS, verdict
from oautom.machine.state import (
    LOST,
    NO_OPTIONS,
    Group,
    Limit,
    Options,
    Rate,
    child_id,
    rate_of,
)
from oautom.machine.tables import (
    COMPENSATION_EVENTS,
    INITIAL,
    TEARDOWN,
    VECT_CREATED,
    VECT_ENDS,
)
from oautom.values.json import json_key

Lane = tuple[str, str | None, str]
_UNDER_WAY: Final = ("running", "paused", "ending")
OPEN: Final = ("pending", "running", "up_for_retry")
_BLOCKED: Final = "step.blocked"
_SKIPPED: Final = "step.skipped"
_ENDS: Final = ("step.succeeded", "step.failed", _SKIPPED, _BLOCKED)
BAD: Final = ("failed", "upstream_failed")
_TYPES: Final[Mapping[str, Any]] = get_type_hints(Event) | {"data": Mapping}


class Declared(Protocol):
    """A flow, as far as a log is compared with it. `Flow` fits it."""

    name: str
    version: str | None
    params: Params
    steps: Mapping[str, Any]

    def part(self, until: Iterable[str] | None) -> Graph:
        """Return the graph of a Vect that ends with some steps; None for all of it."""

    def alone(self, step: str, given: Iterable[str]) -> Graph:
        """Return the graph of a Vect in which only one step runs."""


class StepPast(msgspec.Struct, eq=False):
    """The past of one step of one Vect."""

    is_polled: bool = False
    kind: str = ""
    runs: str = ""  # the flow that it runs
    child: str = ""  # the Vect that its newest attempt runs
    left: str = ""  # the Vect in which its next attempt may go on
    is_on_loop: bool = False  # it runs on an event loop
    limits: list[Limit] = []  # its pool, and max_async of its flow
    rate: Rate | None = None  # of its pool
    shunned_by: StepPast | None = None
    state: str = INITIAL
    starts: int = 0
    started_at: int = 0  # the number of its last start
    failures: int = 0
    max_attempts: int = 1
    error: str = ""
    given: Any = None  # the output of a step that does not run
    problem: str = ""  # why a wait cannot wait, as its start tells it
    rule: str = ALL_SUCCESS
    allow_failure: bool = False
    tally: dict[str, int] = {}  # how many upstreams have ended in which state
    upstreams: dict[str, StepPast] = {}
    dependants: list[StepPast] = []
    parent: StepPast | None = None  # of an instance of a map
    instances: list[StepPast] = []
    index: int = 0
    has_started: bool = False  # since it was reset last
    set_ups: list[StepPast] = []  # what it cleans up after, if it does
    takes_back: bool = False  # what these have done
    compensate: str = ""  # when what it has done is undone
    is_cut: bool = False  # an attempt began and did not end by its own answer
    ended_at: int = 0  # the number of its end
    undoing: str = ""  # `running`, `waiting`, `done`, `failed`
    undoings: int = 0  # how often that has begun
    not_undone: int = 0  # how often it has failed, and is tried again
    # Of a map of flows, the steps of children that may start, with the index of the instance.
    below: dict[StepPast, int] = {}
    count: int = 0
    active: int = 0  # how many of its instances run
    limit: int | None = None
    deadline: float | None = None
    is_late: bool = False
    lost_workers: int = 0  # how many were lost in a row with its work
    lost_undoing: int = 0  # the same, with its compensation

    @property
    def is_teardown(self) -> bool:
        """Whether it is a teardown, or an instance of a map that is one."""
        return (self.parent or self).rule == TEARDOWN

    @property
    def was_set_up(self) -> bool:
        """Whether a teardown has something to clean up."""
        return any(each.has_started for each in (self.parent or self).set_ups)

    @property
    def is_to_be_undone(self) -> bool:
        """Whether it must be undone before its Vect ends badly."""
        if not self.compensate or self.kind == "map" or self.undoing in ("done", "failed"):
            return False
        is_cut = self.is_cut and self.compensate != "success"
        return self.state == "success" or (is_cut and self.state not in OPEN)

    @property
    def needs_none(self) -> bool:
        """Whether no worker is at work while it runs."""
        return self.is_on_loop or not kind_of(self.kind).needs_worker

    @property
    def has_no_worker(self) -> bool:
        """Whether it may run without a worker."""
        return self.is_polled or self.needs_none


class VectPast:
    """The past of one Vect."""

    def __init__(
        self,
        flow: str,
        graph: Mapping[str, Iterable[str]],
        polled: set[str],
        options: Options = NO_OPTIONS,
        *,
        has_loop: bool = False,
        settings: Mapping[str, Any] = NO_DATA,
    ) -> None:
        self.run_timeout = settings.get("run_timeout")
        self.fails_fast = settings.get("on_failure") == "cancel"
        self.has_failed = False  # a step of it that must not, where that ends all
        self.winds_up = False  # that, or the first of what comes before all is cancelled
        self.ends_as = ""
        self.flow = flow
        self.created = 0  # number of its first event
        self.params: Mapping[str, Any] = NO_DATA
        self.deadline = settings.get("deadline")
        self.is_late = False
        self.parent: tuple[str, str, int] | None = None  # the attempt that has it run
        self.above: StepPast | None = None  # the instance of a map that runs it
        self.is_of_parent = False  # it runs the Vect, as far as is known
        self.is_reopened = False
        self.has_started = False
        self.after: str | None = None  # the Vect that must have ended before it starts
        self.ended_at = 0  # the number of its last end
        self.state: str = INITIAL
        self.steps = {name: StepPast(name in polled) for name in graph}
        self.open_steps = len(self.steps)
        for name, given in options.items():
            self.steps[name].rule = given.get("trigger_rule", ALL_SUCCESS)
            self.steps[name].allow_failure = given.get("allow_failure", False)
            self.steps[name].max_attempts = given.get("max_attempts", 1)
            self.steps[name].kind = given.get("kind", "")
            self.steps[name].runs = given.get("runs", "")
            self.steps[name].given = given.get("output")
            self.steps[name].limit = given.get("max_parallel")
            self.steps[name].compensate = given.get("compensate", "")
            self.steps[name].takes_back = "teardown_of" in given
            set_ups = given.get("teardown_of", graph[name])
            self.steps[name].set_ups = [self.steps[each] for each in set_ups if each in self.steps]
            self.steps[name].deadline = given.get("deadline")
            if given.get("pool", (0, None))[1] is not None:
                pool, slots = given["pool"]
                limit = Limit(pool, slots, given.get("pool_slots", 1))
                self.steps[name].limits.append(limit)
            self.steps[name].rate = rate_of(given)
            if "async" in given:
                self.steps[name].limits.append(Limit(("async", flow), given["async"]))
                self.steps[name].is_on_loop = has_loop
        for name, step in self.steps.items():
            step.upstreams = {upstream: self.steps[upstream] for upstream in graph[name]}
            for upstream in step.upstreams.values():
                upstream.dependants.append(step)

    def names_in(self, *states: str) -> list[str]:
        return [name for name, step in self.steps.items() if step.state in states]

    def names_to_blame(self) -> list[str]:
        """Return the failed steps without `allow_failure`, and the steps that they have blocked."""
        blamed: set[str] = set()
        upstreams = {name: list(step.upstreams) for name, step in self.steps.items()}
        for name in TopologicalSorter(upstreams).static_order():
            step = self.steps[name]
            is_first = step.state == "failed" and not step.allow_failure
            is_blocked = step.state == "upstream_failed"
            if is_first or (is_blocked and not blamed.isdisjoint(upstreams[name])):
                blamed.add(name)
        return [name for name in self.steps if name in blamed]


_NO_EVENT = Event(0, datetime(1, 1, 1, tzinfo=UTC), "", "", None, None, "", None, "", NO_DATA)
NO_STEP: Final = StepPast()
_NO_VECT: Final = VectPast("", {}, set())


class Past:
    """The state after the events so far, including violations if they can be understood."""

    def __init__(
        self, flow: Declared | None, max_workers: int | None, gaps: frozenset[tuple[int, int]]
    ) -> None:
        self.gaps = gaps
        self.flow = flow
        self.max_workers = max_workers
        self.last = _NO_EVENT
        self.last_seq = 0
        self.last_vect = _NO_VECT
        self.vects: dict[str, VectPast] = {}
        self.plans: dict[str, datetime] = {}  # the newest time that each has dealt with
        self.running: Counter[VectPast] = Counter()  # steps, but for those that are polled
        # Attempts that may hold a worker: they run, or were cancelled or abandoned unheard.
        self.busy: set[tuple[StepPast, int | None]] = set()
        # Attempts that are over, and may be at work still: nobody has heard of their end.
        self.unheard: dict[tuple[StepPast, int | None], VectPast] = {}
        # How many steps run that have a limit, by the Vect that they are of.
        self.in_limits: defaultdict[Group, Counter[VectPast]] = defaultdict(Counter)
        self.starts: defaultdict[str, list[datetime]] = defaultdict(list)  # by the pool
        self.windows: dict[str, float] = {}  # the longest of its rates, by the pool
        self.was_set_back = False  # the clock, at some time
        self.has_several = False  # some step takes several slots
        # The Vects of each flow that have started and not ended.
        self.under_way: defaultdict[str, dict[VectPast, None]] = defaultdict(dict)
        self.called: dict[Lane, int] = {}  # the newest that had its turn, by its first event
        self.due: dict[StepPast, VectPast] = {}  # may start: their trigger rules say so
        self.to_end: dict[StepPast, str] = {}  # what must be blocked or skipped next, by the event
        self.to_close: set[StepPast] = set()  # ran when their program died
        self.recovered_at: datetime | None = None  # when, until a step starts after that
        self.wrong, self.vect, self.step = "", _NO_VECT, NO_STEP  # of the event looked up

    def flow_of(self, event: Event) -> Declared | None:
        """Return the given flow, if the event begins a Vect of it, with its version."""
        flow = self.flow
        if flow is None or (flow.name, flow.version) != (event.flow, event.data.get("version")):
            return None
        return flow

    def look_up(self, event: Event) -> None:
        """Find the Vect and the step of the next event."""
        self.wrong = _wrong_fields(event)
        if not self.wrong:
            vects = {} if is_of_plan(event) else self.vects
            self.vect = vects.get(event.vect, _NO_VECT)
            self.step = self.vect.steps.get(event.step or "", NO_STEP)

    def take(self, event: Event, *, is_understood: bool) -> None:
        """Add this event to the past."""
        self.last_seq = self.last_seq + 1 if self.wrong else event.seq
        if not is_understood:
            return
        self.was_set_back |= _aware(event.time) < _aware(self.last.time)
        if self.step not in self.to_close and not self.is_by_rule(event):
            self.to_close.clear()  # it is too late for them, which is told once
        self.to_close.discard(self.step)
        if self.step not in self.to_end:
            self.to_end.clear()
        self.to_end.pop(self.step, None)
        if event.step is None and (told := planned_time(event)):
            self.plans[told[0]] = told[1]
        if is_of_plan(event):
            self.last, self.last_vect = event, _NO_VECT
            return
        if event.name == VECT_CREATED:
            flow = self.flow if self.flow and self.flow.name == event.flow else None
            polled = {name for name, each in flow.steps.items() if each.is_polled} if flow else ()
            options = event.data.get("options", NO_OPTIONS)
            has_loop = event.data.get("loop", False)
            self.vect = VectPast(
                event.flow,
                event.data["graph"],
                set(polled),
                options,
                has_loop=has_loop,
                settings=event.data.get("settings", NO_DATA),
            )
            self.has_several |= any("pool_slots" in given for given in options.values())
            self.vect.created, self.vect.params = event.seq, event.data.get("params", NO_DATA)
            self.vect.after = event.data.get("after")
            match event.data.get("parent"):
                case [str(vect), str(step), int(attempt)]:
                    self.vect.parent = (vect, step, attempt)
                    self.vect.is_of_parent = self.is_child_of(self.vect.parent, event)
                    self._open(attempt)
            self.vects[event.vect] = self.vect
        elif event.step is not None:
            self._take_step(self.step, event)
        else:
            self._take_vect(event)
        self.last, self.last_vect = event, self.vect

    def _take_vect(self, event: Event) -> None:
        self.vect.state = event.dest
        self.vect.has_started |= event.name == "vect.started"
        self._count_vect(event)
        steps = self.vect.steps.values()
        self.vect.winds_up &= event.name in ("vect.paused", "vect.resumed", "vect.recovered")
        for name, given in event.data.get("options", NO_OPTIONS).items():  # its flow has changed
            step = self.vect.steps[name]
            for each in (step, *step.instances):
                each.max_attempts = given.get("max_attempts", 1)
        match event.name:
            case "vect.late":
                self.vect.is_late = True
            case "vect.reopened":
                self._reopen(event)
            case "vect.ending":
                self.vect.ends_as = event.data["to"]
            case "vect.recovered":
                self._recover(event)
        if event.name in ("vect.paused", "vect.ending"):
            for step in steps:
                self._note_due(step, is_due=False)
        if event.name in ("vect.started", "vect.resumed", "vect.reopened", "vect.ending"):
            self._look_at(steps)

    def _count_vect(self, event: Event) -> None:
        """Count the open Vects of each flow, and note whose turn it was."""
        if event.dest in VECT_ENDS and event.source not in VECT_ENDS:
            self.vect.ended_at = event.seq
        if event.dest in _UNDER_WAY:
            self.under_way[event.flow][self.vect] = None
        else:
            self.under_way[event.flow].pop(self.vect, None)
        if event.name == "vect.started" and "limit" in event.data:
            lane = self.lane(self.vect, event.data.get("by"))
            self.called[lane] = max(self.vect.created, self.called.get(lane, 0))

    def _recover(self, event: Event) -> None:
        """Note that the program has ended, and its workers with it."""
        steps = self.vect.steps.values()
        for step in steps:
            step.below.clear()  # of children that are not recovered yet
            step.undoing = "" if step.undoing == "running" else step.undoing
        self.busy = {each for each in self.busy if _may_be_at_work(*each)}
        self.unheard.clear()
        running = (step for step in steps if step.state == "running")
        self.to_close = {step for step in running if kind_of(step.kind).needs_worker}
        self.recovered_at = event.time

    def vect_before(self, vect: VectPast) -> VectPast | None:
        """Return the Vect of its backfill after which a Vect comes; of those that have started.

        One that was cancelled before it started hands on what it came after itself.
        """
        before: VectPast | None = vect
        while before is not None:
            before = None if before.after is None else self.vects.get(before.after)
            if before is None or before.has_started or not before.ended_at:
                return before
        return None

    @staticmethod
    def lane(vect: VectPast, by: str | None) -> Lane:
        """Return the lane of a Vect, whose flow may have a `limit_by`."""
        params = vect.params if isinstance(vect.params, Mapping) else NO_DATA
        return vect.flow, by, "" if by is None else json_key(params.get(by))

    def _reopen(self, event: Event) -> None:
        """Note who has reopened a Vect: a person, or an attempt of the step that runs it."""
        self.vect.has_failed, self.vect.ends_as = False, ""
        for each in self.vect.steps.values():
            each.undoing, each.not_undone, each.lost_undoing = "", 0, 0
        self.vect.is_reopened, self.vect.above = True, None
        match event.data.get("parent"):
            case [str(vect), str(step), int(attempt)]:
                self.vect.parent, self.vect.is_reopened = (vect, step, attempt), False
                self.vect.is_of_parent = self.is_child_of(self.vect.parent, event)
                self._open(attempt)

    def _open(self, attempt: int) -> None:
        """Note which instance of a map runs the Vect; its attempt has no worker any more."""
        vect, name, _ = self.vect.parent or ("", "", 0)
        step = self.vects.get(vect, _NO_VECT).steps.get(name, NO_STEP)
        self.vect.above = None
        if self.vect.is_of_parent and step.parent is not None:
            self.vect.above = step
            self.busy.discard((step, attempt))

    def _note_due(self, step: StepPast, *, is_due: bool) -> None:
        """Note that a step of the Vect may start, or that it may not any more."""
        above = self.vect.above
        below = {} if above is None or above.parent is None else above.parent.below
        if is_due:
            self.due[step] = self.vect
            below[step] = 0 if above is None else above.index
        else:
            self.due.pop(step, None)
            below.pop(step, None)

    def _count(self, step: StepPast, event: Event) -> None:
        """Count the running and the open steps, and those that may have a worker."""
        begins_or_ends = (event.dest == "running") - (step.state == "running")
        if not step.has_no_worker:
            _add(self.running, self.vect, begins_or_ends)
        if step.parent is not None:
            step.parent.active += begins_or_ends
        for limit in step.limits if step.kind != "map" else ():
            _add(self.in_limits[limit.group], self.vect, begins_or_ends * limit.takes)
        self.vect.open_steps += (event.dest in OPEN) - (step.state in OPEN)
        if event.name == "step.started":
            self.recovered_at = None
            step.starts += 1
            if step.rate is not None and step.kind != "map":
                self._note_start(step.rate, _aware(event.time))
            if not step.needs_none or (step.kind == "flow" and step.parent is not None):
                self.busy.add((step, event.attempt))
        elif event.name != "step.cancelled" and "abandoned" not in event.data:
            self.busy.discard((step, event.attempt))
        is_cut = event.name in ("step.cancelled", "step.interrupted") and step.state == "running"
        is_cut = is_cut and not is_loss(event)  # of lost work no answer comes
        if is_cut or "abandoned" in event.data:  # a function may outlive its app, too
            self.unheard[step, event.attempt] = self.vect
        elif event.name in ("step.late_result", "step.started"):
            self.unheard.pop((step, event.attempt), None)
            self.unheard.pop((step, step.starts - 1), None)

    def _note_start(self, rate: Rate, time: datetime) -> None:
        """Note a start, and forget those that no window has any more.

        After the clock was set back, nobody can tell from the log how old later starts are.
        """
        self.windows[rate.pool] = max(rate.seconds, self.windows.get(rate.pool, 0.0))
        past = time - timedelta(seconds=self.windows[rate.pool])
        starts = self.starts[rate.pool]
        del starts[bisect_right(starts, time) :]
        del starts[: bisect_right(starts, past)]
        starts.append(time)

    def starts_within(self, rate: Rate, time: datetime) -> int:
        """Return how many steps of a pool have started in the window that ends at a time."""
        starts = self.starts[rate.pool]
        first = bisect_right(starts, _aware(time) - timedelta(seconds=rate.seconds))
        return bisect_right(starts, _aware(time)) - first

    def _take_step(self, step: StepPast, event: Event) -> None:
        self._note_loss(step, event)
        if event.name in COMPENSATION_EVENTS:
            self._undo(step, event)
            return
        if event.name == "step.late":  # it moves nothing
            step.is_late = True
            return
        self._count(step, event)
        self._note_cut(step, event)
        step.state = event.dest
        self._note_due(step, is_due=False)
        step.failures += event.name == "step.retried"
        is_again = event.name in ("step.interrupted", "step.released")
        if is_again and self.vect.state == "running" and self.verdict(step) == "start":
            self._note_due(step, is_due=True)  # a branch may have chosen otherwise meanwhile
        if event.name == "step.started":
            self._begin(step, event)
        if event.name == "step.reset":
            self._reset(step, event)
        if event.name in _ENDS:
            step.error = str(event.data.get("error", ""))
            for dependant in step.dependants:
                dependant.tally[step.state] = dependant.tally.get(step.state, 0) + 1
            if step.kind == "branch" and event.name == "step.succeeded":
                self._shun(step, event.data.get("output"))
            self._look_at([*step.dependants, *step.instances])

    @staticmethod
    def _note_loss(step: StepPast, event: Event) -> None:
        """Count the workers that were lost in a row; losses of something else do not count."""
        is_worker = "worker" in event.data
        match event.name:
            case "step.interrupted":
                step.lost_workers += is_worker
            case "step.compensation_interrupted":
                step.lost_undoing += is_worker
            case "step.retried" | "step.reset":
                step.lost_workers = 0
            case "step.compensation_failed":
                step.lost_undoing = 0

    @staticmethod
    def _reset(step: StepPast, event: Event) -> None:
        if step.has_started:
            step.left = step.child if event.source != "success" else ""
        step.failures, step.error, step.has_started = 0, "", False
        step.is_cut = step.is_cut and step.undoing != "done"
        for dependant in step.dependants:
            if dependant.shunned_by is step:
                dependant.shunned_by = None
            if event.source in dependant.tally:  # a cancel is not counted
                dependant.tally[event.source] -= 1

    def _note_cut(self, step: StepPast, event: Event) -> None:
        """Note the facts that decide whether a step is undone, and cleaned up after."""
        if event.name in ("step.failed", "step.retried"):
            is_own = {"timeout", "signal", "lost"}.isdisjoint(event.data)
            step.is_cut |= not is_own or event.data.get("error") == LOST
        elif event.name in ("step.cancelled", "step.interrupted"):
            step.is_cut |= event.source == "running"
        if event.dest not in OPEN and event.source in OPEN:
            step.ended_at = event.seq
        ends_all = self.vect.fails_fast and self.vect.state in ("running", "paused")
        if event.name == "step.failed" and not step.allow_failure and ends_all:
            self.vect.has_failed = self.vect.winds_up = True
        # Clean-up that is not needed: so much is known before the rest is over only if all ends.
        if event.name == _SKIPPED and step.rule == TEARDOWN:
            self.vect.winds_up |= any(each.state in OPEN for each in step.upstreams.values())

    def _undo(self, step: StepPast, event: Event) -> None:
        """Note the progress of the compensation of a step."""
        if event.name == "step.compensating":
            step.undoing = "running"
            step.undoings += 1
            self.busy.add((step, -step.undoings))
            return
        self.busy.discard((step, -step.undoings))
        if event.name == "step.compensation_interrupted":
            step.undoing = ""
            return
        if event.name == "step.compensated":
            step.undoing = "done"
        else:
            step.undoing = "waiting" if "delay" in event.data else "failed"
            step.not_undone += 1

    def _begin(self, step: StepPast, event: Event) -> None:
        step.child, step.left, step.has_started = str(event.data.get("child", "")), "", True
        step.started_at = event.seq
        if step.kind == "map":
            self._expand(step, event)
        elif step.kind in ("wait", "approval"):
            step.problem = str(event.data.get("problem", ""))

    def _expand(self, step: StepPast, event: Event) -> None:
        """Note the instances of a map; some may exist from an earlier attempt."""
        step.count = event.data.get("count", 0)
        for index in range(len(step.instances), step.count):
            one = StepPast(
                kind="flow" if step.runs else "",
                runs=step.runs,
                limits=step.limits,
                rate=step.rate,
                is_on_loop=step.is_on_loop,
                max_attempts=step.max_attempts,
                allow_failure=step.allow_failure,
                compensate=step.compensate,
                parent=step,
                index=index,
            )
            step.instances.append(one)
            self.vect.steps[instance_name(str(event.step), index)] = one
            self.vect.open_steps += 1
        self._look_at(step.instances)

    def _look_at(self, steps: Iterable[StepPast]) -> None:
        """Note which of these steps may start, and which must be blocked or skipped at once."""
        for step in steps:
            if step.state != "pending" or not self.may_start(step):
                continue
            match self.verdict(step):
                case "start" if not step.is_teardown:  # it waits until who has ended has tidied up
                    self._note_due(step, is_due=True)
                case "block":
                    self.to_end[step] = _BLOCKED
                case "skip":
                    self.to_end[step] = _SKIPPED

    def _shun(self, branch: StepPast, output: object) -> None:
        """Note the dependants that a branch skips: not chosen, nor waiting for a chosen step."""
        names = [output] if isinstance(output, str) else output
        if not isinstance(names, list | tuple | None):
            return
        followed = {id(self.vect.steps[name]) for name in names or () if name in self.vect.steps}
        for step in branch.dependants:
            before, seen = [step], {id(step)}
            for each in before:  # it grows while it is walked
                more = [up for up in each.upstreams.values() if id(up) not in seen]
                seen.update(map(id, more))
                before += more
            if not seen & followed:
                step.shunned_by = branch

    def may_start(self, step: StepPast) -> bool:
        """Whether the Vect is in a state in which steps like this one start."""
        if step.is_teardown:
            return self.vect.state in ("running", "paused", "ending")
        return self.vect.state == "running" and not self.vect.winds_up

    @staticmethod
    def verdict(step: StepPast) -> str | None:
        """Return the trigger that is due for a step that has not started."""
        if step.rule == TEARDOWN:
            if any(each.state in OPEN for each in step.upstreams.values()):
                return None
            return "start" if step.was_set_up else "skip"
        if step.parent is not None:
            if step.parent.state != "running":
                return None if step.parent.state in OPEN else "skip"
            return "start" if step.index < step.parent.count else "skip"
        if step.shunned_by is not None:
            return "skip"
        return verdict(step.rule, len(step.upstreams), step.tally)

    @property
    def has_bad(self) -> bool:
        """Whether a step of the Vect has failed, or was blocked, cancelled or undone."""
        undone = [step for step in self.vect.steps.values() if step.undoing == "done"]
        is_left = any(step.state not in OPEN for step in undone)
        return is_left or bool(self.vect.names_in(*BAD, "cancelled"))

    def must_run_again(self, step: StepPast) -> bool:
        """Whether a step has ended badly, or waits for a step that has, or that must run again."""
        seen, before = {id(step)}, [step]
        for each in before:  # it grows while it is walked
            if each.state in (*BAD, "cancelled") or (each is not step and each.state == "pending"):
                return True
            is_undone = any(one.undoing == "done" for one in (each, *each.instances))
            if is_undone or self._is_torn_down(each):
                return True
            for upstream in (each.parent or each).upstreams.values():
                if id(upstream) not in seen:
                    seen.add(id(upstream))
                    before.append(upstream)
        return False

    def _is_torn_down(self, step: StepPast) -> bool:
        """Whether a teardown of the step has run."""
        torn = (each for each in step.dependants if each.takes_back and each.has_started)
        return any(step in each.set_ups for each in torn)

    def has_room(self, step: StepPast) -> bool:
        """Whether one more step of its pool, its map, and the async steps of its flow may run."""
        limits = step.limits if step.kind != "map" else ()
        has_room = all(self._fits(limit) for limit in limits)
        return has_room and self.map_has_room(step)

    def _fits(self, limit: Limit, at_work: int = 0) -> bool:
        """Whether a group has free slots for one more of its steps."""
        return self.in_limits[limit.group].total() + at_work + limit.takes <= limit.slots

    def _is_behind(self, step: StepPast) -> bool:
        """Whether a step may have to let one go first that takes several slots, and lacks some."""
        if not self.has_several:
            return False
        groups = {limit.group for limit in step.limits}
        wants = [
            limit
            for each in self.due
            if each is not step
            for limit in each.limits
            if limit.takes > 1 and limit.group in groups
        ]
        # Its turn may be over, and only a worker missing.
        return any(not self._fits(limit) for limit in wants) or (
            bool(wants) and len(self.busy) >= (self.max_workers or 1)
        )

    @staticmethod
    def map_has_room(step: StepPast) -> bool:
        """Whether one more instance of its map may run, if it is one."""
        limit = None if step.parent is None else step.parent.limit
        return limit is None or step.parent is None or step.parent.active < limit

    def _is_too_early(self, step: StepPast) -> bool:
        """Whether the rate of its pool may not have allowed a start yet, at the last event.

        Where the clock was set back, nobody can tell.
        """
        rate = step.rate
        if rate is None:
            return False
        return self.was_set_back or self.starts_within(rate, self.last.time) >= rate.starts

    def must_start(self, step: StepPast) -> bool:
        """Whether a step that may start lacks nothing, except possibly a worker."""
        if not self.has_room(step) or self._is_behind(step) or self._is_too_early(step):
            return False
        if not self.unheard:
            return True
        at_work = self._at_work()
        limits = step.limits if step.kind != "map" else ()
        return step not in at_work and all(
            self._fits(limit, sum(_takes(each, limit.group) for each in at_work))
            for limit in limits
        )

    def _at_work(self) -> set[StepPast]:
        """Return the steps whose earlier attempt, or the work of its child, may be at work."""
        found = set()
        for (step, _), vect in self.unheard.items():
            found.add(step)
            parent = vect.parent
            while parent is not None and parent[0] in self.vects:
                above = self.vects[parent[0]]
                found.add(above.steps.get(parent[1], step))
                parent = above.parent if above is not vect else None
        return found

    def is_wanted(self, vect: str, step: str, attempt: int) -> bool:
        """Whether an attempt runs, or is not known."""
        known = self.vects.get(vect, _NO_VECT).steps.get(step, NO_STEP)
        return known is NO_STEP or (known.state == "running" and known.starts == attempt)

    def is_child_of(self, told: Any, event: Event) -> bool:
        """Whether a Vect is the child of an attempt, which the attempt runs or goes on in."""
        vect, step, attempt = told
        parent = self.vects.get(vect, _NO_VECT).steps.get(step, NO_STEP)
        if event.name == "vect.reopened":
            is_running = parent.state == "running" and parent.starts == attempt
            is_over = parent.started_at < self.vects[event.vect].ended_at  # it is for the attempt
            return is_running and parent.child == event.vect and not is_over
        is_told = parent.runs == event.flow and attempt <= parent.starts
        return is_told and event.vect == child_id(vect, step, attempt)

    def end_of_child(self, event: Event) -> str | None:
        """Return the state of the Vect that the attempt of an event runs, if there is one."""
        child = self.vects.get(self.step.child)
        return None if child is None else child.state

    @staticmethod
    def map_is_over(step: StepPast) -> bool:
        """Whether all instances of a map have ended."""
        return not any(each.state in OPEN for each in step.instances)

    @staticmethod
    def is_by_rule(event: Event) -> bool:
        """Whether an event ends a step before its start, as a trigger rule does."""
        return event.name in (_BLOCKED, _SKIPPED) and event.source == "pending"


def _takes(step: StepPast, group: Group) -> int:
    """Return how many slots of a group a step takes."""
    return sum(limit.takes for limit in step.limits if limit.group == group)


def _aware(time: datetime) -> datetime:
    """Return a time that can be compared, also in a log in which `time-is-utc` does not hold."""
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _add(counter: Counter[VectPast], vect: VectPast, count: int) -> None:
    counter[vect] += count
    if not counter[vect]:
        del counter[vect]


def _wrong_fields(event: object) -> str:
    if not isinstance(event, Event):
        return f"type {type(event).__name__}"
    fields = _TYPES.items()
    return ", ".join(name for name, kind in fields if not isinstance(getattr(event, name), kind))


def _may_be_at_work(step: StepPast, attempt: int | None) -> bool:
    """Whether the program that goes on with a Vect may have an attempt of the step at work."""
    is_undoing = attempt is not None and attempt < 0
    return step.undoing == "running" if is_undoing else step.state == "running"
