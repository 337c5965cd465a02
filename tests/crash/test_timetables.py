"""A program with plans that is killed at any time goes on as if nothing had happened."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from oautom import Event
from oautom.audit.invariants import check_history
from oautom.events import replay
from oautom.machine.event import planned_time

from .harness import Kill, begin, events_of, few, swept

PROGRAM = Path(__file__).with_name("timetable.py")
STEP = {"every": timedelta(seconds=0.05), "some": timedelta(seconds=0.07)}


def times(events: Sequence[Event], plan: str) -> list[datetime]:
    told = filter(None, map(planned_time, events))
    return [time for name, time in told if name == plan]


def look(folder: Path, before: Sequence[Event]) -> list[Event]:
    """Hold what a program has left against what plans promise."""
    events = events_of(folder)
    assert events[: len(before)] == before
    check_history(events)
    for plan, step in STEP.items():
        for time, later in pairwise(times(events, plan)):
            passed = later - time
            assert passed % step == timedelta(0), "the rhythm is kept"
            assert passed == step or plan == "some", "no time that counts is left out"
    return events


def finish(folder: Path, before: Sequence[Event], **timetable: Any) -> None:
    life = begin(PROGRAM, folder, **timetable, seconds=1.0)
    assert life.wait_for("done")
    assert (life.end(), (folder / "errors").read_text()) == (0, "")
    events = look(folder, before)
    vects = replay(events)
    assert {vect.state for vect in vects.values()} == {"success"}
    (newest,) = times(events, "every")[-1:]
    assert events[-1].time - newest < timedelta(seconds=1.5), "it has caught up"
    worked = (folder / "side").read_text().split()
    assert set(worked) == set(vects)
    twice = len(worked) - len(set(worked))
    assert twice <= sum(event.name == "step.interrupted" for event in events)


@pytest.mark.parametrize(
    ("mode", "executor"),
    few(("foreground", "threads"), ("background", "inline"), more=[("background", "threads")]),
)
def test_however_often_it_is_killed_each_time_that_counts_is_dealt_with_once(
    tmp_path: Path, mode: str, executor: str
) -> None:
    chance = random.Random(f"{mode} {executor}")
    settings = {"mode": mode, "executor": executor}
    with swept(tmp_path / "run") as folder:
        events: list[Event] = []
        for _ in range(few(5, more=[30])[-1]):
            life = begin(PROGRAM, folder, **settings, seconds=60)
            phase = chance.choice(["opened", "recovered", "started", "started", "started"])
            assert life.kill_at(Kill(phase, chance.random() * 0.4))
            events = look(folder, events)
        finish(folder, events, **settings)


@pytest.mark.parametrize("place", ["before", "middle", "uncommitted", "after"])
def test_a_program_that_dies_in_the_commit_of_a_due_time_goes_on(
    tmp_path: Path, place: str
) -> None:
    settings = {"mode": "foreground", "executor": "threads"}
    with swept(tmp_path / "run") as folder:
        events: list[Event] = []
        for countdown in few(1, 2, 3, 4, more=range(5, 20)):
            life = begin(PROGRAM, folder, **settings, seconds=60, dies=[place, countdown])
            assert life.end() == -9
            events = look(folder, events)
        finish(folder, events, **settings)
