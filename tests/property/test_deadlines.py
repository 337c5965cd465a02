"""Deadlines in all runs and after every crash: each that passes is told once, when it passes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given

from oautom import Event, Flow, PythonExecution, RetryPolicy, WaitExecution
from oautom.machine.tables import STEP_ENDS, VECT_CREATED, VECT_ENDS
from oautom.testing import assert_replays, check_history, histories, simulate
from oautom.testing.strategies import History
from tests.kit import Registry, nothing

from .cases import moderate

BEGINNINGS = ("step.started", "vect.started", "vect.reopened")

Place = tuple[str, str | None]


def hold(events: Iterable[Event]) -> int:
    """Hold what is told of deadlines against when it should be; return how much is told.

    Here no time passes between two lives of a program.
    """
    seconds: dict[Place, float] = {}
    until: dict[Place, datetime] = {}
    told: set[Place] = set()
    for event in events:
        place = (event.vect, event.step)
        assert [each for each, time in until.items() if time < event.time] == []
        if event.name == VECT_CREATED:
            options = event.data.get("options", {}).items()
            own = {name: each["deadline"] for name, each in options if "deadline" in each}
            seconds |= {(event.vect, name): deadline for name, deadline in own.items()}
            if "deadline" in event.data.get("settings", {}):
                seconds[place] = event.data["settings"]["deadline"]
        elif event.name in ("step.late", "vect.late"):
            assert until.pop(place) == event.time
            told.add(place)
        elif event.name in BEGINNINGS and place in seconds.keys() - told:
            until.setdefault(place, event.time + timedelta(seconds=seconds[place]))
        elif event.dest in STEP_ENDS | VECT_ENDS:
            until.pop(place, None)
    return len(told)


@moderate
@given(histories())
def test_what_passes_is_told_once_and_in_its_time(history: History) -> None:
    hold(history)
    check_history(history)


def declared() -> Flow:
    flow = Flow("flow", Registry(), deadline=12)
    again = RetryPolicy(max_attempts=9, delay=3, jitter=0)
    work = PythonExecution("a", flow, nothing, retry=again, deadline=4)
    work >> WaitExecution("b", flow, seconds=9, deadline=3)
    return flow


@pytest.mark.parametrize("moment", ["before", "in", "after"])
@pytest.mark.parametrize("commit", range(1, 12))
def test_a_crash_at_any_commit_takes_nothing_back_and_tells_nothing_twice(
    moment: Any, commit: int
) -> None:
    flow = declared()
    ends: Any = {"a": [ValueError("no"), ValueError("no"), None]}
    vect = simulate(flow, durations={"a": 2}, outcomes=ends, crash_at=(moment, commit))

    assert vect.state == "success"
    assert hold(vect.events()) == 3
    check_history(vect.events(), flow)
    assert_replays(vect, flow)
