"""What must hold of a log and of a side file, however often the program was killed.

All of it is seen from outside: the log is read as any other process would, and the side file was
written by the steps. Each check adds a sentence to `Evidence.violations`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from oautom import Event, OAutomError
from oautom.audit.invariants import check_history
from oautom.events import replay
from oautom.events.sqlite import SqliteEventLog
from oautom.machine.state import VectState, waits_until

from .plans import SILENT, Plan, allowed, declared, instances
from .steps import params_of

Place = tuple[str, str]
"""A step of a Vect."""

_BEGINNINGS = ("begin", "asked")
_OF_PEOPLE = ("asked", "decided")
_TOLD_ENDS = ("step.succeeded", "step.failed", "step.skipped")


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
        self._begun_at_end: dict[Place, int] = {}
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
        self._check_lives(lines, events)
        self._check_maps(lines, events)
        self._check_decisions(lines, events)
        self._check_pauses(events)
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
        upstreams = {
            (vect, name): [(vect, told) for told in self._told_before(flow, step)]
            for vect, flow in self._plan["vects"].items()
            for step in self._plan["flows"][flow]
            for name in (step["name"], *instances(step))
        }
        for line in (line for line in lines if line.what != "undone"):
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
            elif line.what in ("end", "skip", "decided"):
                ended.add(line.place)
        begun = Counter(line.place for line in lines if line.what in _BEGINNINGS)
        for place, times in self._begun_at_end.items():
            if begun[place] != times:
                self._say(f"{place} began, or was asked, again after its end was in the log")

    def _told_before(self, flow: str, step: Mapping[str, Any]) -> Iterator[str]:
        """Yield what must have ended before a step begins, as far as the side file is told so."""
        steps = {each["name"]: each for each in self._plan["flows"][flow]}
        for name in step["upstreams"] if "cleans_up" not in step else ():
            if "cleans_up" in steps[name]:
                continue  # it may have been cancelled, and its own clean-up goes on
            if steps[name]["kind"] == "wait":
                yield from self._told_before(flow, steps[name])
            elif steps[name]["kind"] == "map":
                yield from instances(steps[name])
                yield from self._told_before(flow, steps[name])  # it may have no instance
            else:
                yield name

    def _step(self, place: Place) -> Mapping[str, Any]:
        """Return what the plan says of a step; of an instance, of its map."""
        steps = self._plan["flows"][self._plan["vects"][place[0]]]
        return next(step for step in steps if step["name"] == declared(place[1]))

    def _is_silent(self, place: Place) -> bool:
        """Whether nobody is at work at a step: the engine itself waits, for whatever it is."""
        step = self._step(place)
        return step["kind"] in SILENT and step["name"] == place[1]

    def _check_lines_against_log(self, lines: Sequence[Line], events: Sequence[Event]) -> None:
        started = {(e.vect, e.step, e.attempt) for e in events if e.name == "step.started"}
        undoing = (e for e in events if e.name == "step.compensating")
        started |= {(e.vect, e.step, -(e.attempt or 0)) for e in undoing}
        told = {(*line.place, line.attempt, line.what) for line in lines}
        begun = Counter(line.place for line in lines if line.what in _BEGINNINGS)
        for line in lines:
            if (*line.place, line.attempt) not in started:
                self._say(f"not started in the log: {line}")
        for event in events:
            place = (event.vect, event.step or "")
            if event.name in _TOLD_ENDS:
                self._begun_at_end.setdefault(place, begun[place])
            told_end = {"step.succeeded": "end", "step.skipped": "skip"}.get(event.name)
            has_told = event.attempt is None or (*place, event.attempt, told_end) in told
            if told_end and not has_told and not self._is_silent(place):
                self._say(f"in the log, but never done: {event}")
            if event.name == "step.failed" and "on_crash" in event.data["error"]:
                self._lost.add(place)
            undone = (*place, -(event.attempt or 0), "undone")
            if event.name == "step.compensated" and undone not in told:
                self._say(f"in the log, but never undone: {event}")

    def _check_attempts(self, events: Sequence[Event]) -> None:
        """Attempts count from 1; a step that may not run twice has one."""
        attempts: Counter[Place] = Counter()
        for event in events:
            place = (event.vect, event.step or "")
            if event.name == "step.started":
                attempts[place] += 1
                if event.attempt != attempts[place]:
                    self._say(f"attempts do not count from 1: {event}")
                if event.attempt != 1 and self._is_silent(place):
                    self._say(f"nobody was at work, and begun again: {event}")
                if event.attempt != 1 and self._step(place)["on_crash"] == "fail":
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
        due = {(e.vect, e.step): until for e in events if (until := waits_until(e)) is not None}
        for event in events:
            is_late = event.name == "step.failed" and "in time" in event.data["error"]
            if is_late or (event.name == "step.succeeded" and (event.vect, event.step) in due):
                is_wait = self._step((event.vect, event.step or ""))["kind"] == "wait"
                if (is_late or is_wait) and event.time < due[event.vect, event.step]:
                    self._say(f"it has not waited for its time: {event}")

    def _check_lives(self, lines: Sequence[Line], events: Sequence[Event]) -> None:
        """Nothing that a dead program has left goes on beside what its next life begins."""
        newest: Counter[str] = Counter()
        lives = _lives(events)
        for line in lines:
            life = lives.get((*line.place, line.attempt), 0)
            if line.what not in (*_OF_PEOPLE, "undone"):
                if life < newest[line.vect]:
                    self._say(f"it goes on beside what was begun after its death: {line}")
                newest[line.vect] = max(life, newest[line.vect])

    def _check_maps(self, lines: Sequence[Line], events: Sequence[Event]) -> None:
        """A map makes its instances once, and no more of them are at work than it says."""
        at_work: dict[tuple[str, str, int], set[str]] = defaultdict(set)
        lives = _lives(events)
        for line in lines:  # what began in a life that is over is at work no more
            life = lives.get((*line.place, line.attempt), 0)
            one = at_work[line.vect, declared(line.step), life]
            if line.what == "begin":
                one.add(line.step)
            else:
                one.discard(line.step)
            limit = self._step(line.place).get("max_parallel")
            if limit is not None and len(one) > limit:
                self._say(f"more than {limit} at work: {one}, {line}")
        running: dict[Place, set[str]] = defaultdict(set)
        for event in events:
            place = (event.vect, event.step or "")
            if event.step is None or not event.step.endswith("]"):
                if event.name == "step.started" and self._step(place)["kind"] == "map":
                    wanted = len(instances(self._step(place)))
                    if (event.data["count"], event.data.get("problem")) != (wanted, None):
                        self._say(f"it has other instances than the {wanted} of its list: {event}")
                continue
            one = running[event.vect, declared(event.step)]
            (one.add if event.dest == "running" else one.discard)(event.step)
            if len(one) > (self._step(place)["max_parallel"] or len(one)):
                self._say(f"more than max_parallel run: {one}, {event}")

    def _check_decisions(self, lines: Sequence[Line], events: Sequence[Event]) -> None:
        """What is decided is what somebody has said."""
        said = {(*line.place, str(line.pid)) for line in lines if line.what == "decided"}
        for event in events:
            place = (event.vect, event.step or "")
            if event.step is None or self._step(place)["kind"] != "approval":
                continue
            if event.name == "step.succeeded":
                by, data = event.data["output"]["by"], event.data["output"]["data"]
                if (*place, by) not in said or data != list(place):
                    self._say(f"nobody has approved so: {event}")
            if event.name == "step.failed" and "rejected" in event.data["error"]:
                by = event.data["error"].removeprefix("rejected by ").partition(":")[0]
                if (*place, by) not in said:
                    self._say(f"nobody has rejected so: {event}")

    def _check_pauses(self, events: Sequence[Event]) -> None:
        """Nothing starts in a pause, in whatever life; each is asked for once, and had once."""
        paused: set[str] = set()
        times: Counter[tuple[str, str]] = Counter()
        for event in events:
            if event.step is None and event.source == "paused" != event.dest:
                paused.discard(event.vect)
            if event.name in ("vect.paused", "vect.resumed"):
                (paused.add if event.dest == "paused" else paused.discard)(event.vect)
                times[event.vect, event.name] += 1
            cleans_up = event.step is not None and "cleans_up" in self._step(
                (event.vect, event.step)
            )
            if event.name == "step.started" and event.vect in paused and not cleans_up:
                self._say(f"started in a pause: {event}")
        if any(count > 1 for count in times.values()):
            self._say(f"asked for once, and done again: {times}")

    def look_at_end(self) -> None:
        """Hold the end against what was to come, when the program says that all is done."""
        self.look()
        vects = replay(self.events)
        for vect, flow in self._plan["vects"].items():
            steps = self._plan["flows"][flow]
            if vects[vect].params != params_of(vect):
                self._say(f"{vect} has the parameters {vects[vect].params}")
            lost = {step for name, step in self._lost if name == vect}
            found = {name: step.state for name, step in vects[vect].steps.items()}
            wanted = allowed(steps, found, lost)
            reason = vects[vect].reason or ""
            if is_cut := "run_timeout" in reason or "on_failure" in reason:
                wanted = {name: wanted[name] | {"cancelled"} for name in wanted if name in found}
            if found.keys() != wanted.keys() or any(found[n] not in wanted[n] for n in wanted):
                self._say(f"{vect} has ended as {found}, not as {wanted}")
            is_success = {"failed", "upstream_failed"}.isdisjoint(found.values()) and not is_cut
            if vects[vect].state != ("success" if is_success else "failed"):
                self._say(f"{vect} is {vects[vect].state}")
            self._check_undone(vect, vects[vect])
            self._check_outputs(vect, steps)
        if self.log_id is not None and (left := marked("OAUTOM_LOG", self.log_id)):
            self._say(f"left running at the end: {[process.cmdline() for process in left]}")

    def _check_undone(self, vect: str, state: VectState) -> None:
        """What has succeeded in a Vect that failed is undone; what in one that has not, never."""
        undone = {line.place for line in read_side(self._folder) if line.what == "undone"}
        for name, step in state.steps.items():
            is_to_be = state.state == "failed" and step.state == "success" and step.mapped is None
            if is_to_be and "compensate" in step.options and (vect, name) not in undone:
                self._say(f"{vect} has failed, and {name} is not undone")
            if state.state == "success" and (vect, name) in undone:
                self._say(f"{vect} has succeeded, and {name} is undone")

    def _check_outputs(self, vect: str, steps: Sequence[Mapping[str, Any]]) -> None:
        """The output of a map is those of its instances, each once, in the order of the items."""
        told = {
            e.step: e.data.get("output")
            for e in self.events
            if e.vect == vect and e.name in ("step.succeeded", "step.skipped")
        }
        found = replay(self.events)[vect].steps
        for step in steps:
            if step["kind"] == "map" and found[step["name"]].state == "success":
                wanted = [told[name] for name in instances(step)]
                of = [each["of"] if each else None for each in wanted]
                if found[step["name"]].output != wanted or any(
                    one not in (None, name) for one, name in zip(of, instances(step), strict=True)
                ):
                    self._say(f"{vect}, {step['name']}: its output is not that of its instances")


def _lives(events: Sequence[Event]) -> dict[tuple[str, str, int], int]:
    """Return in which life of the program, from 0, an attempt of a step of a Vect has begun."""
    lives: dict[tuple[str, str, int], int] = {}
    newest: Counter[str] = Counter()
    for event in events:
        newest[event.vect] += event.name == "vect.recovered"
        if event.name == "step.started":
            lives[event.vect, event.step or "", event.attempt or 0] = newest[event.vect]
    return lives


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
