"""Clean-up whose program dies, whoever has begun it: in the next life it goes on to its end."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    Context,
    Flow,
    FlowExecution,
    MemoryEventLog,
    OAutom,
    PythonExecution,
    UnknownVectError,
    Vect,
)
from oautom.testing import SimulatedClock, assert_replays, check_history
from oautom.testing.crashes import Crash, MortalLog

from .conftest import SECONDS, nothing

MOMENTS = ("before", "in", "after")


class Calls:
    """What has been done, in its order: by the name of the step, or that and `undo`."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, context: Context) -> None:
        self.made.append(context.step)

    def undo(self, context: Context) -> None:
        self.made.append(f"undo {context.step}")


def cleaned_up(app: OAutom, name: str, calls: Calls, *, ends_late: bool) -> Flow:
    """A flow that asks somebody; what cleans up has its turn before that, or behind it."""
    flow = Flow(name, app)
    set_up = PythonExecution("set up", flow, calls, compensate=calls.undo)
    ask = ApprovalExecution("ask", flow, "well?")
    set_up >> ask
    tear_down = PythonExecution("tear down", flow, calls, teardown_of=[set_up])
    if ends_late:
        ask >> tear_down
    return flow


def born(log: MemoryEventLog) -> OAutom:
    return OAutom(log=log, executor="inline", clock=SimulatedClock())


def drive(vect: Vect) -> None:
    with suppress(TimeoutError):
        vect.wait(1)


def left_of(log: MemoryEventLog) -> MemoryEventLog:
    left = MemoryEventLog()
    for event in log.read():
        left.append(None, event)
    left.commit()
    return left


def check(app: OAutom) -> None:
    events = list(app.log.read())
    check_history(events)
    for name in {event.flow for event in events}:
        assert_replays(events, app.flow(name))


# A child that its step needs no more


def parent(log: MemoryEventLog, calls: Calls, *, ends_late: bool) -> OAutom:
    """Run the program: it cancels a Vect whose child then cleans up."""
    app = born(log)
    inner, outer = cleaned_up(app, "inner", calls, ends_late=ends_late), Flow("outer", app)
    FlowExecution("run", outer, inner)
    vect = app.start(outer, vect_id="v")
    drive(vect)
    if not vect.ended:
        vect.cancel("enough")
    for each in app.vects():
        each.wait(SECONDS)
    return app


COMMITS = 9


@pytest.mark.parametrize("ends_late", [True, False])
def test_how_many_commits_there_are(*, ends_late: bool) -> None:
    log = MortalLog()
    parent(log, Calls(), ends_late=ends_late)
    assert log._commits < COMMITS


@pytest.mark.parametrize("ends_late", [True, False])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("commit", range(1, COMMITS))
def test_a_child_that_nobody_needs_cleans_up_whenever_the_program_dies(
    moment: Any, commit: int, *, ends_late: bool
) -> None:
    calls, log = Calls(), MortalLog([(moment, commit)])
    app = None
    with suppress(Crash):
        app = parent(log, calls, ends_late=ends_late)
    app = app or parent(left_of(log), calls, ends_late=ends_late)

    assert {vect.state for vect in app.vects()} == {"cancelled"}
    if len(app.vects()) == 2:  # else it was cancelled before it had its child begin
        steps = app.vects()[1].steps
        if steps["set up"].start_date is not None:
            assert steps["tear down"].state == "success"
            assert calls.made[-1] == "undo set up"
    check(app)


# A Vect that is cancelled in the next life, before anything of it goes on


def whole(log: MemoryEventLog, calls: Calls, change: str, *, ends_late: bool) -> OAutom:
    app = born(log)
    flow = cleaned_up(app, "flow", calls, ends_late=ends_late)
    if change == "one more":
        PythonExecution("more", flow, nothing)
    return app


def without(log: MemoryEventLog) -> OAutom:
    """Be the program whose flow has nothing any more that cleans up."""
    app = born(log)
    flow = Flow("flow", app)
    PythonExecution("set up", flow, nothing) >> ApprovalExecution("ask", flow, "well?")
    return app


@pytest.mark.parametrize("change", ["", "one more", "gone"])
@pytest.mark.parametrize("recovers", [True, False])
@pytest.mark.parametrize("ends_late", [True, False])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("commit", range(1, 6))
def test_a_vect_that_is_cancelled_in_the_next_life_is_cleaned_up(
    moment: Any, commit: int, change: str, *, recovers: bool, ends_late: bool
) -> None:
    """Also one that does not fit its flow any more: what that does not have, has failed."""
    calls, log = Calls(), MortalLog([(moment, commit)])
    with suppress(Crash):
        drive(whole(log, calls, "", ends_late=ends_late).start("flow", vect_id="v"))
    left = left_of(log)
    is_gone = change == "gone"
    app = without(left) if is_gone else whole(left, calls, change, ends_late=ends_late)
    if recovers:
        app.recover()
    try:
        vect = app.vect("v")
    except UnknownVectError:
        return  # it had not been created
    was_set_up = vect.steps["set up"].start_date is not None
    vect.cancel("not after all")

    assert vect.wait(SECONDS) == "cancelled"
    events = list(left.read())
    if was_set_up:
        wanted = {"failed"} if is_gone else {"success"}
        assert vect.steps["tear down"].state in wanted | ({"success"} if not ends_late else set())
        undone = [e.name for e in events if e.name.startswith("step.compensat")]
        assert undone[-1] == ("step.compensation_failed" if is_gone else "step.compensated")
    else:
        assert {step.state for step in vect.steps.values()} <= {"cancelled", "skipped"}
    check_history(events)
