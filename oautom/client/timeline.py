"""The timeline of a Vect: who waited, worked, or stood by, from when to when. Pure.

It is made of the events alone, so it is the same in every process, and for a Vect of last year.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

from oautom.machine.event import Event
from oautom.machine.kinds import kind_of
from oautom.machine.state import StepState, VectState, replay
from oautom.machine.tables import COMPENSATION_EVENTS, INITIAL, STEP_ENDS, VECT_ENDS

SpanKind = Literal["waiting", "work", "delay", "wait"]


class Span(NamedTuple):
    """An interval in which one thing was true of a step.

    Attributes:
        step: The name of the step; None for the Vect itself, which waited for its turn.
        attempt: The number of the attempt that ran, or that was to come; negative for an attempt
            to undo the work of the step, 0 for the Vect itself.
        kind: `waiting`: it could start, and waited for a slot, for its turn, or for the end of a
            pause; `work`: it was at work; `delay`: it waited for its next attempt after a failure;
            `wait`: it ran, and waited for a time, a person or a file.
        start: When that began: aware, UTC.
        end: When it ended; None if it has not.
    """

    step: str | None
    attempt: int
    kind: SpanKind
    start: datetime
    end: datetime | None


_RECOVERED: Final = "vect.recovered"


def timeline_of(events: Sequence[Event]) -> list[Span]:
    """Return the timeline of a Vect, in the order in which the intervals began.

    Args:
        events: The events of the Vect, in the order of the log, from the first one.
    """
    if not events:
        return []
    return _Timeline(events[0]).of(events[1:])


class _Timeline:
    """Goes through the events, and notes what begins and ends with each."""

    def __init__(self, first: Event) -> None:
        self._vect: VectState = replay([first])[first.vect]
        self._spans: list[Span] = []
        self._open: dict[str | None, int] = {}  # by step, the place of its open interval
        self._begin(None, 0, "waiting", first.time)

    def of(self, events: Sequence[Event]) -> list[Span]:
        for event in events:
            self._vect.advance(event)
            if event.step is None:
                self._hear_vect(event)
            elif event.name in COMPENSATION_EVENTS:
                self._hear_compensation(event.step, event)
            elif event.source != event.dest:  # else it tells of the step, and moves it nowhere
                self._hear_step(self._vect.steps[event.step], event)
        return [each for each in self._spans if each.start != each.end]

    def _hear_vect(self, event: Event) -> None:
        if event.source == INITIAL:
            self._end(None, event)
        if event.name == _RECOVERED:  # what was being undone is undone again
            for name in self._vect.to_compensate:
                self._end(name, event)
        if event.name in ("vect.started", "vect.reopened"):
            for step in self._vect.steps.values():
                self._look(step, event)
        if event.dest in VECT_ENDS:
            for left in list(self._open):
                self._end(left, event)

    def _hear_step(self, step: StepState, event: Event) -> None:
        self._end(step.name, event)
        if event.dest == "running":
            kind: SpanKind = "wait" if kind_of(step.kind).stands_by else "work"
            self._begin(step.name, step.attempt, kind, event.time)
            for instance in () if step.mapped is None else step.mapped.instances:
                self._look(instance, event)
        elif event.dest == "up_for_retry":
            self._begin(step.name, step.attempt + 1, "delay", event.time)
        elif event.dest == INITIAL:
            self._look(step, event)
        if STEP_ENDS & {event.source, event.dest}:
            for name in self._vect.graph.dependants_of(step.name):
                self._look(self._vect.steps[name], event)

    def _hear_compensation(self, step: str, event: Event) -> None:
        self._end(step, event)
        number = -(event.attempt or 0)
        if event.name == "step.compensating":
            self._begin(step, number, "work", event.time)
        elif "delay" in event.data:
            self._begin(step, number - 1, "delay", event.time)

    def _look(self, step: StepState, event: Event) -> None:
        """Note whether a step waits from now on: nothing but room keeps it from its start."""
        if self._vect.state == INITIAL or step.state != INITIAL:
            return
        if step.verdict != "start":  # what it waits for was reset
            self._end(step.name, event)
        elif step.name not in self._open:
            self._begin(step.name, step.attempt + 1, "waiting", event.time)

    def _begin(self, step: str | None, attempt: int, kind: SpanKind, start: datetime) -> None:
        self._open[step] = len(self._spans)
        self._spans.append(Span(step, attempt, kind, start, None))

    def _end(self, step: str | None, event: Event) -> None:
        place = self._open.pop(step, None)
        if place is not None:
            self._spans[place] = self._spans[place]._replace(end=event.time)
