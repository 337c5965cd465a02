"""How long a run will still take, by how long its steps took in past runs. Pure.

The time left is that of the longest path through the steps that have not ended, where each takes as
long as it did in the past: from when it could start to its end, so with its retries, and with what
it waited for a worker. A step at work for longer than in some of the past runs is compared with the
others. It is counted three times: with the quartiles and with the median of the past.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

from oautom.client.timeline import timeline_of
from oautom.machine.event import Event
from oautom.machine.graph import Graph
from oautom.machine.kinds import GIVEN
from oautom.machine.maps import map_of
from oautom.machine.tables import STEP_ENDS

RUNS: Final = 20
"""How many past runs count: the newest."""

EVENTS_MAX: Final = 20_000
"""With how many events the past is long enough; a run is read whole."""

_SURE: Final = 3
"""From how many runs on the past is no chance."""


class Past(NamedTuple):
    """How long the steps of a flow took in past runs.

    Attributes:
        runs: How many runs they are of.
        seconds: By step how long it took, in order; 0 for a run in which it was skipped.
    """

    runs: int
    seconds: Mapping[str, Sequence[float]]


NO_PAST: Final = Past(0, {})


class Forecast(NamedTuple):
    """How long a run will still take, in seconds.

    Attributes:
        low: By the quicker of the past runs: a quarter took less.
        likely: By the median of them.
        high: By the slower ones: a quarter took more.
        is_rough: It is little more than a guess: there were less than three past runs, they do not
            know a step, or it takes longer than ever.
    """

    low: float
    likely: float
    high: float
    is_rough: bool


class Now(NamedTuple):
    """How far a run has come.

    Attributes:
        upstreams: For each step those that it waits for.
        states: The state of each step, of instances of maps as well.
        since: When each step has begun that is at work.
        time: What time it is.
    """

    upstreams: Mapping[str, Sequence[str]]
    states: Mapping[str, str]
    since: Mapping[str, datetime]
    time: datetime


def past_of(events: Iterable[Event]) -> Past:
    """Return how long steps took.

    Args:
        events: The events of ended runs, run by run.
    """
    runs, seconds = 0, defaultdict[str, list[float]](list)
    for _, of_vect in groupby(events, key=attrgetter("vect")):
        runs += _add(list(of_vect), seconds)
    return Past(runs, {step: sorted(took) for step, took in seconds.items()})


def _add(events: list[Event], seconds: dict[str, list[float]]) -> bool:
    """Add the times of one run; return whether it tells any."""
    options = events[0].data.get("options", {})
    ends = {event.step: event for event in events if event.dest in STEP_ENDS}
    resets = {event.step: event.time for event in events if event.name == "step.reset"}
    begun: dict[str | None, datetime] = {}
    for span in timeline_of(events):
        is_old = span.step in resets and span.start < resets[span.step]  # before a retry of all
        if span.attempt > 0 and not is_old:
            begun.setdefault(span.step, span.start)
    found = False
    for step, event in ends.items():
        is_given = options.get(step, {}).get("kind") == GIVEN
        if step is None or step != map_of(step) or is_given:
            continue
        if event.dest in ("success", "skipped"):  # what failed took as long as it took to fail
            first = begun.get(step, event.time)
            seconds[step].append(max(0.0, (event.time - first).total_seconds()))
            found = True
    return found


def forecast(now: Now, past: Past) -> Forecast | None:
    """Return how long a run will still take; None if there is no past that tells."""
    if not past.runs or not any(step in past.seconds for step in now.upstreams):
        return None
    is_rough = past.runs < _SURE
    left: dict[str, tuple[float, float, float]] = {}
    items = _items(now)
    for step in now.upstreams:
        if now.states.get(step) in STEP_ENDS:
            left[step] = (0.0, 0.0, 0.0)
            continue
        left[step], is_known = _left(step, now, past, items)
        is_rough = is_rough or not is_known
    low, likely, high = (
        _longest(now.upstreams, {step: each[i] for step, each in left.items()}) for i in (0, 1, 2)
    )
    return Forecast(low, likely, high, is_rough)


def _left(
    step: str, now: Now, past: Past, items: Mapping[str, tuple[int, int]]
) -> tuple[tuple[float, float, float], bool]:
    """Return how long a step still takes, and whether the past knows it."""
    took, since = past.seconds.get(step, ()), now.since.get(step)
    elapsed = 0.0 if since is None else max(0.0, (now.time - since).total_seconds())
    done, count = items.get(step, (0, 0))
    if done and since is not None:  # a map tells by itself how quick its items are
        rest = elapsed * (count - done) / done
        return (rest, rest, rest), True
    if since is not None:
        took = took[bisect_right(took, elapsed) :]
    if not took:
        return (0.0, 0.0, 0.0), False
    low, likely, high = (_quantile(took, part) - elapsed for part in (0.25, 0.5, 0.75))
    return (low, likely, high), True


def _items(now: Now) -> dict[str, tuple[int, int]]:
    """Return of each map how many of its instances have ended, and how many there are."""
    found: dict[str, tuple[int, int]] = {}
    if len(now.states) == len(now.upstreams):
        return found
    for name, state in now.states.items():
        if name not in now.upstreams:
            done, count = found.get(map_of(name), (0, 0))
            found[map_of(name)] = done + (state in STEP_ENDS), count + 1
    return found


def _quantile(ordered: Sequence[float], part: float) -> float:
    """Return a quantile of numbers in order, between two of them where it lies there."""
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _longest(upstreams: Mapping[str, Sequence[str]], seconds: Mapping[str, float]) -> float:
    """Return how long the longest path takes."""
    graph = Graph(upstreams)
    waiting = {name: len(ups) for name, ups in graph.upstreams.items()}
    free, ends = graph.roots(), dict.fromkeys(upstreams, 0.0)
    for name in free:  # it grows while it is walked
        end = ends[name] + seconds[name]
        ends[name] = end
        for dependant in graph.dependants_of(name):
            ends[dependant] = max(ends[dependant], end)
            waiting[dependant] -= 1
            if not waiting[dependant]:
                free.append(dependant)
    return max(ends.values(), default=0.0)


def told(left: Forecast) -> str:
    """Return a forecast as people read it: `~5 min`, `3-8 min`, `~10 min (rough)`."""
    rough = " (rough)" if left.is_rough else ""
    low, likely, high = (_about(each) for each in left[:3])
    if left.is_rough or low == high or left.high < 1.5 * left.low:
        return f"~{' '.join(likely)}{rough}"
    if low[1] == high[1]:
        return f"{low[0]}-{high[0]} {high[1]}"
    return f"{' '.join(low)} - {' '.join(high)}"


def _about(seconds: float) -> tuple[str, str]:
    """Return a duration in one number, and its unit: coarse enough not to flicker."""
    if seconds < 55:
        return str(max(1, round(seconds)) if seconds < 10 else 5 * round(seconds / 5)), "s"
    minutes = seconds / 60
    if minutes < 55:
        return str(max(1, round(minutes)) if minutes < 10 else 5 * round(minutes / 5)), "min"
    hours = minutes / 60
    if hours < 48:
        return f"{round(2 * hours) / 2:g}", "h"
    return str(round(hours / 24)), "d"
