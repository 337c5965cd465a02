"""What must hold of a log and of a side file, however often the program was killed.

All of it is seen from outside: the log is read as any other process would, and the side file was
written by the steps. Each check adds a sentence to `Evidence.violations`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psutil

from oautom import Event, OAutomError
from oautom.events import replay
from oautom.events.check import check_history
from oautom.events.sqlite import SqliteEventLog

from .plans import Plan, expected
from .program import day_of

Place = tuple[str, str]
"""A step of a Vect."""


class Line(NamedTuple):
    """What a step has told."""

    what: str
    vect: str
    step: str
    attempt: int
    pid: int
    time: float

    @property
    def place(self) -> Place:
        return self.vect, self.step


def read_side(folder: Path) -> list[Line]:
    file = folder / "side"
    if not file.exists():
        return []
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    return [
        Line(what, vect, step, int(n), int(pid), float(time))
        for what, vect, step, n, pid, time in rows
    ]


class Evidence:
    """What is known of a run after each of its lives."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.violations: list[str] = []
        self.events: list[Event] = []
        self._folder = folder
        self._plan = plan
        self._begun_at_success: dict[Place, int] = {}
        self._lost: set[Place] = set()

    @property
    def log_id(self) -> str | None:
        file = self._folder / "runs.db"
        try:
            with closing(SqliteEventLog(file, read_only=True)) as log:
                return log.id
        except OAutomError:
            return None

    def look(self) -> None:
        """Hold all against each other, while no engine is alive."""
        lines = read_side(self._folder)  # before the log: what has begun must be there already
        events = self._read_log()
        if events[: len(self.events)] != self.events:
            self._say("the log does not extend what it was")
        self.events = events
        self._check_log(events)
        self._check_lines(lines)
        self._check_lines_against_log(lines, events)
        self._check_attempts(events)
        self._check_delays(lines, events)
        if (self._folder / "strangers").exists():
            self._say(f"left running: {(self._folder / 'strangers').read_text()}")

    def _say(self, violation: str) -> None:
        self.violations.append(violation)

    def _read_log(self) -> list[Event]:
        file = self._folder / "runs.db"
        try:
            with closing(SqliteEventLog(file, read_only=True)) as log:
                log.verify()
                events = list(log.read())
        except OAutomError as error:
            if self.events or "has not been made yet" not in str(error):
                self._say(f"the log cannot be read: {error!r}")
            return []
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            if (found := connection.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                self._say(f"integrity_check: {found}")
        return events

    def _check_log(self, events: Sequence[Event]) -> None:
        try:
            check_history(events)
            replay(events)
        except OAutomError as error:
            self._say(f"the history is wrong: {error}")

    def _check_lines(self, lines: Sequence[Line]) -> None:
        """Order of the graph, attempts that overlap, and successes that were done again."""
        ended: set[Place] = set()
        newest: Counter[Place] = Counter()
        begun = Counter(line.place for line in lines if line.what == "begin")
        waits = self._waits()
        upstreams = {
            (vect, step["name"]): [
                (vect, upstream) for upstream in step["upstreams"] if upstream not in waits[flow]
            ]
            for vect, flow in self._plan["vects"].items()
            for step in self._plan["flows"][flow]
        }
        for line in lines:
            if line.what == "wrong":
                self._say(f"its parameter, or what it was given, is another: {line}")
            if line.what == "overlap" or line.attempt < newest[line.place]:
                self._say(f"two attempts at once: {line}")
            if line.what == "begin":
                if line.attempt == newest[line.place]:
                    self._say(f"an attempt began twice: {line}")
                newest[line.place] = line.attempt
                if missing := [up for up in upstreams[line.place] if up not in ended]:
                    self._say(f"{line} began before {missing} ended")
            elif line.what == "end":
                ended.add(line.place)
        for place, times in self._begun_at_success.items():
            if begun[place] != times:
                self._say(f"{place} began again after its success was in the log")

    def _waits(self) -> dict[str, set[str]]:
        """Return the steps of each flow that say nothing: the engine itself waits."""
        flows = self._plan["flows"].items()
        return {flow: {s["name"] for s in steps if s["kind"] == "wait"} for flow, steps in flows}

    def _check_lines_against_log(self, lines: Sequence[Line], events: Sequence[Event]) -> None:
        waits = self._waits()
        started = {(e.vect, e.step, e.attempt) for e in events if e.name == "step.started"}
        told = {(*line.place, line.attempt, line.what) for line in lines}
        begun = Counter(line.place for line in lines if line.what == "begin")
        for line in lines:
            if (*line.place, line.attempt) not in started:
                self._say(f"not started in the log: {line}")
        for event in events:
            place = (event.vect, event.step or "")
            if event.name == "step.succeeded":
                self._begun_at_success.setdefault(place, begun[place])
                is_wait = place[1] in waits[event.flow]
                if not is_wait and (*place, event.attempt, "end") not in told:
                    self._say(f"in the log, but never done: {event}")
            if event.name == "step.failed" and "on_crash" in event.data["error"]:
                self._lost.add(place)

    def _check_attempts(self, events: Sequence[Event]) -> None:
        """Attempts count from 1; a step that may not run twice has one."""
        attempts: Counter[Place] = Counter()
        once = {
            (vect, step["name"])
            for vect, flow in self._plan["vects"].items()
            for step in self._plan["flows"][flow]
            if step["on_crash"] == "fail"
        }
        for event in events:
            if event.name == "step.started":
                place = (event.vect, event.step or "")
                attempts[place] += 1
                if event.attempt != attempts[place]:
                    self._say(f"attempts do not count from 1: {event}")
                if place in once and event.attempt != 1:
                    self._say(f"on_crash='fail', and begun again: {event}")

    def _check_delays(self, lines: Sequence[Line], events: Sequence[Event]) -> None:
        """The next attempt begins when the delay is over, whichever program makes it."""
        for event in events:
            if event.name == "step.retried":
                due = event.time.timestamp() + event.data["delay"]
                place = (event.vect, event.step)
                later = [x for x in lines if x.place == place and x.attempt > (event.attempt or 0)]
                if any(line.time < due - 0.001 for line in later):
                    self._say(f"tried again too early: {event}")

    def look_at_end(self) -> None:
        """Hold the end against what was to come, when the program says that all is done."""
        self.look()
        vects = replay(self.events)
        for vect, flow in self._plan["vects"].items():
            steps = self._plan["flows"][flow]
            if vects[vect].params != {"day": day_of(vect).isoformat()}:
                self._say(f"{vect} has the parameters {vects[vect].params}")
            lost = {step for name, step in self._lost if name == vect}
            wanted = dict(expected(steps, lost))
            found = {name: step.state for name, step in vects[vect].steps.items()}
            if found != wanted:
                self._say(f"{vect} has ended as {found}, not as {wanted}")
            is_success = set(wanted.values()) <= {"success"}
            if vects[vect].state != ("success" if is_success else "failed"):
                self._say(f"{vect} is {vects[vect].state}")
        if self.log_id is not None and (left := marked("OAUTOM_LOG", self.log_id)):
            self._say(f"left running at the end: {[process.cmdline() for process in left]}")


def marked(name: str, value: str) -> list[psutil.Process]:
    """Return the processes that are alive and have a variable in their environment."""
    return list(_marked(name, value))


def _marked(name: str, value: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            is_marked = process.environ().get(name) == value
            if is_marked and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
