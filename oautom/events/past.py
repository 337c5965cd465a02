"""What the past tells: the state that the invariants of a history are held against. Pure.

Kept from the events and the graph in them, with nothing of the engine's own fold, so that it does
not repeat its mistakes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, get_type_hints

import msgspec

from oautom.events.event import NO_DATA, Event
from oautom.states import INITIAL, VECT_CREATED

if TYPE_CHECKING:
    from oautom.flow import Flow

_OPEN: Final = ("pending", "running")
BAD: Final = ("failed", "upstream_failed")
_TYPES: Final[Mapping[str, Any]] = get_type_hints(Event) | {"data": Mapping}


class StepPast(msgspec.Struct, eq=False):
    """What the past tells of one step of one Vect."""

    is_polled: bool = False
    state: str = INITIAL
    starts: int = 0
    error: str = ""
    missing: int = 0  # how many upstreams have not succeeded
    upstreams: dict[str, StepPast] = {}
    dependants: list[StepPast] = []


class VectPast:
    """What the past tells of one Vect."""

    def __init__(self, flow: str, graph: Mapping[str, Iterable[str]], polled: set[str]) -> None:
        self.flow = flow
        self.state: str = INITIAL
        self.steps = {name: StepPast(name in polled) for name in graph}
        self.open_steps = len(self.steps)
        for name, step in self.steps.items():
            step.upstreams = {upstream: self.steps[upstream] for upstream in graph[name]}
            step.missing = len(step.upstreams)
            for upstream in step.upstreams.values():
                upstream.dependants.append(step)

    def names_in(self, *states: str) -> list[str]:
        return [name for name, step in self.steps.items() if step.state in states]


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
        self.running = 0  # steps, but for those that are polled
        self.busy: set[StepPast] = set()  # may hold a worker: they run, or were cancelled unheard
        self.due: set[StepPast] = set()  # may start: all their upstreams have succeeded
        self.to_block: set[StepPast] = set()
        self.to_close: set[StepPast] = set()  # ran when their program died
        self.wrong, self.vect, self.step = "", _NO_VECT, NO_STEP  # of the event looked up

    def look_up(self, event: Event) -> None:
        """Note what is known of the Vect and the step of the event that comes next."""
        self.wrong = _wrong_fields(event)
        if not self.wrong:
            self.vect = self.vects.get(event.vect, _NO_VECT)
            self.step = self.vect.steps.get(event.step or "", NO_STEP)

    def take(self, event: Event, *, is_understood: bool) -> None:
        """Let this event be past."""
        self.last_seq = self.last_seq + 1 if self.wrong else event.seq
        if not is_understood:
            return
        is_block = event.name == "step.blocked"
        if self.step not in self.to_close and not is_block:
            self.to_close.clear()  # it is too late for them, which is told once
        self.to_close.discard(self.step)
        if self.step not in self.to_block:
            self.to_block.clear()
        self.to_block.discard(self.step)
        if event.name == VECT_CREATED:
            flow = self.flow if self.flow and self.flow.name == event.flow else None
            polled = {name for name, each in flow.steps.items() if each.is_polled} if flow else ()
            self.vect = self.vects[event.vect] = VectPast(
                event.flow, event.data["graph"], set(polled)
            )
        elif event.step is not None:
            self._take_step(self.step, event)
        else:
            self.vect.state = event.dest
            if event.name == "vect.started":
                self.due.update(step for step in self.vect.steps.values() if not step.upstreams)
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
        pending = (each for each in step.dependants if each.state == "pending")
        if event.name == "step.succeeded":
            for dependant in step.dependants:
                dependant.missing -= 1
            self.due.update(each for each in pending if not each.missing)
        elif event.name in ("step.failed", "step.blocked"):
            step.error = str(event.data.get("error", ""))
            self.to_block.update(pending)


def _wrong_fields(event: object) -> str:
    if not isinstance(event, Event):
        return f"type {type(event).__name__}"
    fields = _TYPES.items()
    return ", ".join(name for name, kind in fields if not isinstance(getattr(event, name), kind))
