"""How far a run has come, counted from its events: what the live view and the plain lines show."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from oautom.cli.output import (
    COLOURS,
    clock_time,
    coloured,
    one_line,
    seconds_between,
    seconds_of,
)
from oautom.client.forecast import NO_PAST, Now, Past, forecast, told
from oautom.errors import OAutomError
from oautom.events import Event
from oautom.events.signals import event as every_event
from oautom.machine.maps import instance_name, map_of
from oautom.machine.tables import VECT_ENDS
from oautom.vects.vect import Vect

_ERRORS = 10
_OPEN_STATES = ("pending", "running", "up_for_retry")


class Progress:
    """Counts the steps of one Vect by state, of the events that it is given.

    To take an event is next to nothing, so that a run pays little for being watched: it is counted
    when somebody looks, many at once.

    Attributes:
        take: Takes an event. On any thread.
        states: How many steps are in each state.
        running: The steps at work, with the instant at which each began; oldest first.
        failed: The steps that have failed, with the error of each; oldest first.
        maps: The maps that have started, with the number of their instances in each state.
        state: The state of the Vect.
        started: When it has started, or None.
        ended: When it has ended, or None.
        absence: That no engine is at work, for people; or nothing.
    """

    def __init__(self) -> None:
        self._taken: deque[Event] = deque()
        self.take = self._taken.append
        self._of: dict[str, str] = {}
        self._upstreams: Mapping[str, Sequence[str]] = {}
        self.states: Counter[str] = Counter()
        self.running: dict[str, datetime] = {}
        self.failed: dict[str, str] = {}
        self.maps: dict[str, Counter[str]] = {}
        self._labels: dict[str, Sequence[str | None]] = {}  # by the map
        self.state = "pending"
        self.started: datetime | None = None
        self.ended: datetime | None = None
        self.absence = ""

    def tell_absence(self, sentence: str) -> None:
        """Take what is said of the absence of an engine; nothing where there is one again."""
        self.absence = sentence

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
        found = forecast(Now(self._upstreams, self._of, self.running, now), past)
        return "" if found is None else told(found)

    def told(self, step: str) -> str:
        """Return the name of a step, with its label if it is an instance that has one."""
        name, index = map_of(step), step.rpartition("[")[2].removesuffix("]")
        labels = self._labels.get(name, ()) if name != step else ()
        label = labels[int(index)] if index.isdecimal() and int(index) < len(labels) else None
        return step if label is None else f"{step} ({label})"

    def _open_map(self, event: Event) -> None:
        """Note the instances of a map that starts; those of an earlier attempt stay."""
        name, count = str(event.step), event.data["count"]
        self._labels[name] = event.data.get("labels", ())
        states = self.maps.setdefault(name, Counter())
        for index in range(states.total(), count):
            self._of[instance_name(name, index)] = "pending"
            states["pending"] += 1
            self.states["pending"] += 1

    def count(self) -> None:
        """Count what was taken meanwhile. By one thread at a time."""
        newest: dict[str, Event] = {}  # a step that has run meanwhile is moved once
        for _ in range(len(self._taken)):
            event = self._taken.popleft()
            if event.step is None:
                self._move_vect(event)
            else:
                if "count" in event.data:
                    self._open_map(event)
                newest[event.step] = event
        for step, event in newest.items():
            if event.dest != (before := self._of.get(step)):
                self._move(step, before, event)

    def _move_vect(self, event: Event) -> None:
        self.state = event.dest
        if event.name == "vect.created":
            self._upstreams = event.data["graph"]
            self._of = dict.fromkeys(self._upstreams, "pending")
            self.states["pending"] = len(self._of)
        elif event.name == "vect.started":
            self.started = event.time
        self.ended = event.time if event.dest in VECT_ENDS else None

    def _move(self, step: str, before: str | None, event: Event) -> None:
        after = self._of[step] = event.dest
        self.states[after] += 1
        of_map = self.maps.get(map_of(step), Counter()) if step not in self.maps else Counter()
        of_map[after] += 1
        if before is not None:
            self.states[before] -= 1
            of_map[before] -= 1
            if before == "running":
                del self.running[step]
            elif before == "failed":
                del self.failed[step]
        if after == "running":
            self.running[step] = event.time
        elif after == "failed":
            self.failed[step] = str(event.data.get("error", ""))


class Watch:
    """Tells of each event of one Vect, once and in order: those before it begins, and those after.

    Where telling fails, as standard output has no reader any more, it tells nothing more.

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
        if event.vect == self._vect:
            with self._lock:  # what is heard before it begins is in the log already
                self._take(event)

    def _take(self, event: Event) -> None:
        if event.seq > self._seq and self._tell is not None:
            self._seq = event.seq
            try:
                self._tell(event)
            except OSError:  # nobody reads any more, as after `| head`: that ends no run
                self._tell = None


def known_past(past: Callable[[], Past]) -> Past:
    """Return how long the steps took in past runs, as far as that can be read."""
    try:
        return past()
    except OAutomError:  # there is no file yet, or none that can be read: no past
        return NO_PAST


def last_lines(status: Mapping[str, Any]) -> list[str]:
    """Return what has come of a run, in a line, and what the first of its failed steps say.

    Args:
        status: The `status()` of the run.
    """
    state = status["state"]
    first = f"{status['name']} {status['id']}: {coloured(state, COLOURS.get(state))}"
    if (seconds := seconds_between(status)) is not None:
        first += f" after {seconds_of(seconds)}"
    failed = [step for step in status["executions"] if step["state"] == "failed"]
    lines = [f"  {_told(step)}: {one_line(step['error'])}" for step in failed[:_ERRORS]]
    more = [f"  and {len(failed) - _ERRORS} more"] if len(failed) > _ERRORS else []
    return [first, *lines, *more]


def _told(step: Mapping[str, Any]) -> str:
    label = step.get("label")
    return str(step["name"]) if label is None else f"{step['name']} ({label})"


def print_event(event: Event) -> None:
    """Print the line of an event that moves a step."""
    if event.step is None or event.source == event.dest:
        return
    why = event.data.get("error") or event.data.get("reason") or ""
    said = f"{event.dest}: {one_line(str(why))}" if why else event.dest
    click.echo(f"{clock_time(event.time)}  {event.step}  {said}")
