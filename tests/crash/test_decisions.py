"""What another process has asked for outlives every program that would have obeyed it."""

from __future__ import annotations

import json
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from oautom import LogError
from oautom.events import replay
from oautom.events.sqlite import SqliteEventLog

from .checks import Evidence
from .harness import IS_LONG, Life, few, finish, swept, until
from .people import Person, attended
from .plans import Plan

PLACES = ("before", "middle", "uncommitted", "after")


def plan_of(mode: str, executor: str, **pauses: Any) -> Plan:
    """Return a plan with a step that waits for a person, and steps before and after it."""
    options = {"seconds": 0, "outcome": "end", "on_crash": "rerun"}
    steps = [
        {"name": "first", "kind": "python", "upstreams": []} | options,
        {"name": "gate", "kind": "approval", "upstreams": ["first"], "by": "person"} | options,
        {"name": "last", "kind": "python", "upstreams": ["gate"]} | options,
    ]
    return {
        "mode": mode,
        "executor": executor,
        "max_workers": 1,
        "synchronous": "FULL",
        "flows": {"flow": steps},
        "vects": {"one": "flow"},
        "pauses": pauses,
    }


def states(folder: Path) -> tuple[str, ...]:
    """Return the states of the Vect and of its steps; none before it is in the log."""
    try:
        with closing(SqliteEventLog(folder / "runs.db", read_only=True)) as log:
            vect = replay(log.read()).get("one")
    except LogError:  # it has not been made yet
        return ()
    return () if vect is None else (vect.state, *(step.state for step in vect.steps.values()))


def asked(folder: Path) -> int:
    """Return how many requests wait for an engine."""
    with closing(SqliteEventLog(folder / "runs.db", read_only=True)) as log:
        return len(log.asked())


def recoveries(folder: Path) -> int:
    """Return how often a program has taken over the Vect."""
    with closing(SqliteEventLog(folder / "runs.db", read_only=True)) as log:
        return sum(event.name == "vect.recovered" for event in log.read())


def until_obeyed(folder: Path, life: Life, before: int) -> None:
    """Wait until a program has taken over and done what was asked, or is dead."""
    until(
        lambda: (
            life.process.poll() is not None or (recoveries(folder) > before and asked(folder) == 0)
        )
    )


WAITING = ("running", "success", "running", "pending")
OBEYED = ("paused", "success", "success", "pending")


@pytest.mark.parametrize("mode", few("foreground", more=["background"]))
def test_what_is_asked_while_no_program_lives_is_done_once_however_many_die_at_it(
    tmp_path: Path, mode: str
) -> None:
    """The events and the end of the request are one commit: there are both, or there is neither."""
    plan = plan_of(mode, "threads")
    with swept(tmp_path / "run") as folder:
        (folder / "plan.json").write_text(json.dumps(plan))
        evidence = Evidence(folder, plan)
        life = Life(folder, "plan.json")
        until(lambda: states(folder) == WAITING)
        life.kill()
        evidence.look()
        with closing(SqliteEventLog(folder / "runs.db", read_only=True)) as log:
            log.ask("one", "pause")
            Person(folder, plan).look(log)  # asks to approve, and is not heard of again
        assert (states(folder), asked(folder)) == (WAITING, 2)
        for n in (1, 2):
            for place in PLACES:
                (folder / "dies.json").write_text(json.dumps(plan | {"dies": (place, n)}))
                before = recoveries(folder)
                life = Life(folder, "dies.json")
                until_obeyed(folder, life, before)
                life.kill()
                evidence.look()
                assert evidence.violations == []
                assert (states(folder), asked(folder)) in ((WAITING, 2), (OBEYED, 0))
        before = recoveries(folder)
        life = Life(folder, "plan.json")
        until_obeyed(folder, life, before)
        assert states(folder) == OBEYED
        with closing(SqliteEventLog(folder / "runs.db", read_only=True)) as log:
            log.ask("one", "resume")
        assert life.wait_for("done")
        assert life.end() == 0
        evidence.look_at_end()
        assert evidence.violations == []
        names = [e.name for e in evidence.events if e.step == "gate" or e.name == "vect.paused"]
        assert sorted(names) == ["step.started", "step.succeeded", "vect.paused"]


@pytest.mark.timeout(600 if IS_LONG else 120)
@pytest.mark.parametrize("place", few("all", more=PLACES))
@pytest.mark.parametrize(
    ("mode", "executor"), few(("background", "threads"), more=[("foreground", "inline")])
)
def test_what_is_asked_of_a_program_that_dies_at_any_commit_is_done(
    tmp_path: Path, mode: str, executor: str, place: str
) -> None:
    """Another process approves, pauses and resumes, once each, while the program lives or not."""
    plan = plan_of(mode, executor, one={"after": 3, "seconds": 0.05})
    for n in range(1, 50):
        where = PLACES[n % len(PLACES)] if place == "all" else place
        with swept(tmp_path / str(n)) as folder:
            (folder / "dies.json").write_text(json.dumps(plan | {"dies": (where, n)}))
            (folder / "plan.json").write_text(json.dumps(plan))
            evidence = Evidence(folder, plan)
            with attended(folder, plan):
                code = Life(folder, "dies.json").end()
                evidence.look()
                finish(folder, evidence, "plan.json")
        assert (n, where, evidence.violations) == (n, where, [])
        assert code in (0, -signal.SIGKILL)
        ends = [e for e in evidence.events if (e.name, e.step) == ("step.succeeded", "gate")]
        assert [e.data["output"]["by"] for e in ends] == [str(os.getpid())]
        if code == 0:
            break
    assert 5 < n < 49
