"""What the past tells: the state that the invariants of a history are held against. Pure.

Kept from the events and the graph in them, with nothing of the engine's own fold and decisions, so
that it does not repeat their mistakes. Only the trigger rules are asked too: they are held against
those of Airflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, Final, get_type_hints

import msgspec

from oautom.events.event import NO_DATA, Event, is_of_plan, planned_time
from oautom.events.fold import NO_OPTIONS, Options
from oautom.rules import ALL_SUCCESS, verdict
from oautom.states import INITIAL, VECT_CREATED

if TYPE_CHECKING:
    from oautom.flow import Flow

_OPEN: Final = ("pending", "running")
_BLOCKED: Final = "step.blocked"
_SKIPPED: Final = "step.skipped"
_ENDS: Final = ("step.succeeded", "step.failed", _SKIPPED, _BLOCKED)
BAD: Final = ("failed", "upstream_failed")
_TYPES: Final[Mapping[str, Any]] = get_type_hints(Event) | {"data": Mapping}


class StepPast(msgspec.Struct, eq=False):
    """What the past tells of one step of one Vect."""

    is_polled: bool = False
    state: str = INITIAL
    starts: int = 0
    error: str = ""
    rule: str = ALL_SUCCESS
    allow_failure: bool = False
    tally: dict[str, int] = {}  # how many upstreams have ended in which state
    upstreams: dict[str, StepPast] = {}
    dependants: list[StepPast] = []


class VectPast:
    """What the past tells of one Vect."""

    def __init__(
        self,
        flow: str,
        graph: Mapping[str, Iterable[str]],
        polled: set[str],
        options: Options = NO_OPTIONS,
    ) -> None:
        self.flow = flow
        self.state: str = INITIAL
        self.steps = {name: StepPast(name in polled) for name in graph}
        self.open_steps = len(self.steps)
        for name, given in options.items():
            self.steps[name].rule = given.get("trigger_rule", ALL_SUCCESS)
            self.steps[name].allow_failure = given.get("allow_failure", False)
        for name, step in self.steps.items():
            step.upstreams = {upstream: self.steps[upstream] for upstream in graph[name]}
            for upstream in step.upstreams.values():
                upstream.dependants.append(step)

    def names_in(self, *states: str) -> list[str]:
        return [name for name, step in self.steps.items() if step.state in states]

    def names_to_blame(self) -> list[str]:
        """Return who failed that must not fail, and who was blocked by one of these."""
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
    """What the events so far tell, violations or not, if it is known what they are about."""

    def __init__(
        self, flow: Flow | None, max_workers: int | None, gaps: frozenset[tuple[int, int]]
    ) -> None:
        self.gaps = gaps
        self.flow = flow
        self.max_workers = max_workers
        self.last = _NO_EVENT
        self.last_seq = 0
        self.last_vect = _NO_VECT
        self.vects: dict[str, VectPast] = {}
        self.plans: dict[str, datetime] = {}  # the newest time that each has dealt with
        self.running = 0  # steps, but for those that are polled
        self.busy: set[StepPast] = set()  # may hold a worker: they run, or were cancelled unheard
        self.due: set[StepPast] = set()  # may start: their trigger rules say so
        self.to_end: dict[StepPast, str] = {}  # what must be blocked or skipped next, by the event
        self.to_close: set[StepPast] = set()  # ran when their program died
        self.wrong, self.vect, self.step = "", _NO_VECT, NO_STEP  # of the event looked up

    def look_up(self, event: Event) -> None:
        """Note what is known of the Vect and the step of the event that comes next."""
        self.wrong = _wrong_fields(event)
        if not self.wrong:
            vects = {} if is_of_plan(event) else self.vects
            self.vect = vects.get(event.vect, _NO_VECT)
            self.step = self.vect.steps.get(event.step or "", NO_STEP)

    def take(self, event: Event, *, is_understood: bool) -> None:
        """Let this event be past."""
        self.last_seq = self.last_seq + 1 if self.wrong else event.seq
        if not is_understood:
            return
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
            self.vect = VectPast(event.flow, event.data["graph"], set(polled), options)
            self.vects[event.vect] = self.vect
        elif event.step is not None:
            self._take_step(self.step, event)
        else:
            self.vect.state = event.dest
            if event.name == "vect.started":
                self._look_at(self.vect.steps.values())
            elif event.name == "vect.recovered":  # with the program its workers have gone
                self.busy = {step for step in self.busy if step.state == "running"}
                self.to_close = {s for s in self.vect.steps.values() if s.state == "running"}
        self.last, self.last_vect = event, self.vect

    def _take_step(self, step: StepPast, event: Event) -> None:
        if not step.is_polled:
            self.running += (event.dest == "running") - (step.state == "running")
        self.vect.open_steps += (event.dest in _OPEN) - (step.state in _OPEN)
        step.state = event.dest
        self.due.discard(step)
        if event.name == "step.started":
            step.starts += 1
            self.busy.add(step)
        elif event.name != "step.cancelled":
            self.busy.discard(step)
        if event.name == "step.interrupted":
            self.due.add(step)
        if event.name in _ENDS:
            step.error = str(event.data.get("error", ""))
            for dependant in step.dependants:
                dependant.tally[step.state] = dependant.tally.get(step.state, 0) + 1
            self._look_at(step.dependants)

    def _look_at(self, steps: Iterable[StepPast]) -> None:
        """Note which of these steps may start, and which must be blocked or skipped at once."""
        for step in steps:
            if step.state != "pending":
                continue
            match verdict(step.rule, len(step.upstreams), step.tally):
                case "start":
                    self.due.add(step)
                case "block":
                    self.to_end[step] = _BLOCKED
                case "skip":
                    self.to_end[step] = _SKIPPED

    @staticmethod
    def is_by_rule(event: Event) -> bool:
        """Whether an event ends a step that has not started, as a trigger rule does."""
        return event.name in (_BLOCKED, _SKIPPED) and event.source == "pending"


def _wrong_fields(event: object) -> str:
    if not isinstance(event, Event):
        return f"type {type(event).__name__}"
    fields = _TYPES.items()
    return ", ".join(name for name, kind in fields if not isinstance(getattr(event, name), kind))
