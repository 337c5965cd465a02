"""Events, registries, clocks, logs and workers made by hand, for tests without threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any

from oautom import MemoryEventLog
from oautom.machine.event import Event
from oautom.steps.work import Outcome, Work
from oautom.testing import SimulatedClock
from oautom.workers.base import Done, Place, Workers

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


class LookedAtClock(HandClock):
    """One whose wall clock goes on a second with each look, so that no two times are the same."""

    def __init__(self) -> None:
        super().__init__()
        self._looks = 0

    def now(self) -> datetime:
        self._looks += 1
        return NOON + timedelta(seconds=self._looks)


class WallClock(SimulatedClock):
    """A simulated clock whose wall clock can be set.

    Attributes:
        offset: How far it is from the time that has passed.
    """

    offset = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.offset

    def set_by(self, minutes: int) -> None:
        self.offset += timedelta(minutes=minutes)


class TickLog(MemoryEventLog):
    """A log that remembers what was committed together, and can be made to fail.

    Args:
        refuse: Number of the event that cannot be written; 0 for none.
        refuse_commit: Number of the commit that fails, from 1; 0 for none.
    """

    def __init__(self, refuse: int = 0, refuse_commit: int = 0) -> None:
        super().__init__()
        self.ticks: list[Sequence[Event]] = []
        self.appended: list[Event] = []
        self.commits = 0
        self._refuse = refuse
        self._refuse_commit = refuse_commit

    def append(self, sender: object, event: Event) -> None:
        if event.seq == self._refuse:
            raise OSError(28, "No space left on device")
        super().append(sender, event)
        self.appended.append(event)

    def commit(self) -> Sequence[Event]:
        self.commits += 1
        if self.commits == self._refuse_commit:
            raise OSError(5, "Input/output error")
        self.ticks.append(super().commit())
        return self.ticks[-1]


class HandWorkers(Workers):
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
