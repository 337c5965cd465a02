"""What must hold of a log, and of what workers have said, however much of a cluster has died."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from oautom import Event
from oautom.audit.invariants import violations
from oautom.events import replay
from oautom.events.sqlite import SqliteEventLog

from .cluster import Span
from .plans import Plan, expected

Attempt = tuple[str, str, int]
"""A Vect, a step of it, and the number of the attempt."""


class Line(NamedTuple):
    """What an attempt has said on a worker."""

    what: str
    flow: str
    vect: str
    step: str
    number: int
    host: str
    pid: int
    time: float

    @property
    def attempt(self) -> Attempt:
        return self.vect, self.step, self.number


class Figures(NamedTuple):
    """What there was."""

    successes: int
    attempts: int
    interruptions: int
    begun: int
    beside: int


def side(folder: Path) -> list[Line]:
    """Return what was said until now."""
    path = folder / "side"
    rows = [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []
    return [
        Line(what, flow, vect, step, int(number), host, int(pid), float(time))
        for what, flow, vect, step, number, host, pid, time in rows
    ]


def logged(folder: Path) -> list[Event]:
    """Return the events of the log in a folder, which must be whole; nothing before it is made."""
    if not (path := folder / "runs.db").exists():
        return []
    with closing(SqliteEventLog(path, read_only=True)) as log:
        log.verify()
        return list(log.read())


def figures(events: Iterable[Event], lines: Iterable[Line]) -> Figures:
    """Count."""
    names = Counter(event.name for event in events)
    said = Counter(line.what for line in lines)
    return Figures(
        names["step.succeeded"],
        names["step.started"],
        names["step.interrupted"],
        said["begin"],
        said["overlap"],
    )


def wrong(
    plan: Plan, events: Sequence[Event], lines: Sequence[Line], disturbed: Sequence[Span]
) -> list[str]:
    """Return what is wrong, in sentences.

    Args:
        plan: What was to be done.
        events: The log.
        lines: What was said on the workers.
        disturbed: When an attempt might go on beside the next one, since nobody could reach it.
    """
    found = [f"check_history: {violation}" for violation in violations(events)]
    if not found:  # else its Vects may have no state
        found += _wrong_ends(plan, events)
    found += _wrong_attempts(events, lines)
    for line in lines:
        is_allowed = any(span.begin <= line.time <= span.end for span in disturbed)
        if line.what == "overlap" and not is_allowed:
            found.append(f"an earlier attempt was still at work: {line}")
    return found


def _wrong_ends(plan: Plan, events: Sequence[Event]) -> list[str]:
    found, vects = [], {vect.flow: vect for vect in replay(events).values()}
    for flow, steps in plan["flows"].items():
        state = vects[flow].state if flow in vects else "not run"
        if state != "success":
            found.append(f"{flow} has not succeeded: it was {state}")
            continue
        outputs = {name: step.output for name, step in vects[flow].steps.items()}
        if outputs != (wanted := expected(steps)):
            found.append(f"the outputs of {flow} are {outputs}, not {wanted}")
    runs = Counter(event.flow for event in events if event.name == "vect.created")
    return found + [f"{flow} has run {times} times" for flow, times in runs.items() if times != 1]


def _wrong_attempts(events: Sequence[Event], lines: Sequence[Line]) -> list[str]:
    told: defaultdict[str, Counter[Attempt]] = defaultdict(Counter)
    for event in events:
        if event.step is not None and event.attempt is not None:
            told[event.name][event.vect, event.step, event.attempt] += 1
    said: defaultdict[str, Counter[Attempt]] = defaultdict(Counter)
    for line in lines:
        said[line.what][line.attempt] += 1
    found = [
        f"{attempt} has {_WORDS[what]} {times} times"
        for what in _WORDS
        for attempt, times in said[what].items()
        if times != 1
    ]
    unknown = said["begin"].keys() - told["step.started"].keys()
    found += [f"{attempt} has begun and is not in the log" for attempt in unknown]
    for attempt in told["step.succeeded"]:
        found += [
            f"{attempt} has succeeded, and has not {_WORDS[what]}"
            for what in _WORDS
            if attempt not in said[what]
        ]
    return found


_WORDS = {"begin": "begun", "end": "ended"}
