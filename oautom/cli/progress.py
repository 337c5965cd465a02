"""How far a run has come, counted from its events: what the live view and the plain lines show."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

import click

from oautom.cli.output import clock_time, is_terminal, one_line
from oautom.client.forecast import NO_PAST, Now, Past, forecast, told
from oautom.errors import OAutomError
from oautom.events import Event
from oautom.events.signals import event as every_event
from oautom.vects.vect import Vect

_OPEN_STATES = ("pending", "running", "up_for_retry")


class Progress:
    """Counts the steps of one Vect by state. Each event costs the same, however many steps it has.

    Attributes:
        states: How many steps are in each state.
        running: The steps at work, with the instant at which each began; oldest first.
        failed: The steps that have failed, with the error of each; oldest first.
        state: The state of the Vect.
        started: When it has started, or None.
        ended: When it has ended, or None.
    """

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        self._upstreams: Mapping[str, Sequence[str]] = {}
        self.states: Counter[str] = Counter()
        self.running: dict[str, datetime] = {}
        self.failed: dict[str, str] = {}
        self.state = "pending"
        self.started: datetime | None = None
        self.ended: datetime | None = None

    @property
    def total(self) -> int:
        """How many steps there are, instances of maps included."""
        return len(self._of)

    @property
    def done(self) -> int:
        """How many of them have ended."""
        return self.total - sum(self.states[state] for state in _OPEN_STATES)

    def left(self, past: Past, now: datetime) -> str:
        """Return how long it will still take, by how long others took, for people; or nothing."""
        if self.state not in ("pending", "running"):
            return ""
        found = forecast(Now(self._upstreams, self._of.copy(), self.running.copy(), now), past)
        return "" if found is None else told(found)

    def take(self, event: Event) -> None:
        """Count what an event tells."""
        if event.step is not None:
            self._move(event.step, event)
            return
        self.state = event.dest
        if event.name == "vect.created":
            self._upstreams = event.data["graph"]
            self._of = dict.fromkeys(self._upstreams, "pending")
            self.states["pending"] = len(self._of)
        elif event.name == "vect.started":
            self.started = event.time
        self.ended = event.time if event.dest in ("success", "failed", "cancelled") else None

    def _move(self, step: str, event: Event) -> None:
        before = self._of.get(step)
        if event.dest == before:
            return  # it tells of the step and moves it nowhere
        if before is not None:
            self.states[before] -= 1
        self._of[step] = event.dest
        self.states[event.dest] += 1
        self.running.pop(step, None)
        self.failed.pop(step, None)
        if event.dest == "running":
            self.running[step] = event.time
        elif event.dest == "failed":
            self.failed[step] = str(event.data.get("error", ""))


class Watch:
    """Tells of each event of one Vect, once and in order: those before it begins, and those after.

    Args:
        tell: Called with each event, on the thread that drives, or where `begin` is called; None
            for nobody: then it costs nothing.
    """

    def __init__(self, tell: Callable[[Event], None] | None) -> None:
        self._tell = tell
        self._vect: str | None = None
        self._seq = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Watch:
        """Hear of events."""
        if self._tell is not None:
            every_event.connect(self._hear, weak=False)
        return self

    def __exit__(self, *_: object) -> None:
        """Hear of them no more."""
        every_event.disconnect(self._hear)

    def begin(self, vect: Vect) -> None:
        """Tell of what has happened in a Vect so far, and from now on of what happens."""
        if self._tell is None:
            return
        with self._lock:
            self._vect = vect.id
            for event in vect.events():
                self._take(event)

    def _hear(self, _: object, *, event: Event, **__: object) -> None:
        with self._lock:  # what is heard before it begins is in the log already
            if event.vect == self._vect:
                self._take(event)

    def _take(self, event: Event) -> None:
        if event.seq > self._seq:
            self._seq = event.seq
            assert self._tell is not None, "nobody else hears"
            self._tell(event)


def run_view(
    title: str, *, is_silent: bool, past: Callable[[], Past]
) -> AbstractContextManager[Callable[[Event], None] | None]:
    """Return what shows a run by its events: a live view on a terminal, plain lines elsewhere.

    Args:
        title: What runs.
        is_silent: Nothing is shown.
        past: Reads how long the steps took in past runs, for a live view.
    """
    if is_silent:
        return nullcontext()
    if not is_terminal():
        return nullcontext(print_event)
    from oautom.cli.live import live_view  # noqa: PLC0415 - rich: half of the time of a verb

    try:
        known = past()
    except OAutomError:  # there is no file yet, or none that can be read: no past
        known = NO_PAST
    return live_view(title, known)


def print_event(event: Event) -> None:
    """Print the line of an event that moves a step."""
    if event.step is None or event.source == event.dest:
        return
    why = event.data.get("error") or event.data.get("reason") or ""
    said = f"{event.dest}: {one_line(str(why))}" if why else event.dest
    click.echo(f"{clock_time(event.time)}  {event.step}  {said}")
