"""Events, registries, clocks and workers made by hand, for tests without threads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any

from oautom.machine.event import Event
from oautom.steps.work import Outcome, Work
from oautom.workers.base import Done, Place

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def event(
    seq: int,
    name: str,
    source: str | None,
    dest: str,
    *,
    step: str | None = None,
    attempt: int | None = None,
    vect: str = "v",
    **data: Any,
) -> Event:
    """An event of vect 'v' of flow 'f'; the one with number n is n seconds after noon."""
    time = NOON + timedelta(seconds=seq)
    told = MappingProxyType(data)
    return Event(seq, time, "f", vect, step, attempt, name, source, dest, told)


def created(
    seq: int, graph: dict[str, tuple[str, ...]], vect: str = "v", **options: dict[str, Any]
) -> Event:
    told = {"options": options} if options else {}
    return event(seq, "vect.created", None, "pending", vect=vect, params={}, graph=graph, **told)


def started(seq: int, vect: str = "v") -> Event:
    return event(seq, "vect.started", "pending", "running", vect=vect)


def step_started(seq: int, step: str, attempt: int = 1, vect: str = "v") -> Event:
    return event(seq, "step.started", "pending", "running", step=step, attempt=attempt, vect=vect)


def step_succeeded(seq: int, step: str, output: Any = None, vect: str = "v") -> Event:
    return event(
        seq, "step.succeeded", "running", "success", step=step, attempt=1, vect=vect, output=output
    )


def step_failed(seq: int, step: str, error: str = "it broke") -> Event:
    return event(seq, "step.failed", "running", "failed", step=step, attempt=1, error=error)


class Registry:
    """An app that only takes flows in."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def add(self, flow: Any) -> None:
        self.names.append(flow.name)


class HandClock:
    """A clock that stands still but where somebody waits for nothing to come."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def take(self, inbox: SimpleQueue[Any], until: float | None) -> Any:
        if not inbox.empty():
            return inbox.get()
        assert until is not None, "this would wait for ever"
        self.seconds = max(self.seconds, until)
        return None


class HandWorkers:
    """Workers that keep what they are given until the test says how it went."""

    place: Place = "threads"
    has_loop = False

    def __init__(self, slots: int = 2) -> None:
        self.slots = slots
        self.jobs: dict[str, tuple[Work, Done]] = {}
        self.begun: list[str] = []
        self.is_closed = False

    def submit(self, work: Any, done: Done) -> None:
        self.begun.append(work.execution.name)
        self.jobs[work.execution.name] = (work, done)

    def run_next(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True

    def context(self, step: str) -> Any:
        return self.jobs[step][0].context

    def answer(self, step: str, outcome: object = None, failure: Any = None) -> None:
        """Say that the work of a step is over; without an outcome it returned None."""
        _, done = self.jobs.pop(step)
        done(outcome if outcome or failure else Outcome(), failure)

    def do(self, step: str) -> None:
        """Really do the work of a step, and answer what comes of it."""
        work, done = self.jobs.pop(step)
        done(work(), None)


Step = Callable[[], Any]


def nothing() -> None:
    """What steps do here, unless it matters."""
