"""Programs that die in a simulation, before, in and after any commit."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oautom import Event, Flow, MemoryEventLog, OAutom, PythonExecution, SettingError, Vect
from oautom.testing import assert_replays, check_history, durations, flows, outcomes, simulate

WHEN = ("before", "in", "after")
moments = st.tuples(st.sampled_from(WHEN), st.integers(1, 20))
some = settings(max_examples=100, deadline=None)


def diamond() -> Flow:
    flow = Flow("diamond", OAutom())
    a, b, c, d = (PythonExecution(name, flow, str) for name in "abcd")
    a >> [b, c] >> d
    return flow


def names(events: list[Event]) -> list[str]:
    return [f"{event.name} {event.step or ''}".strip() for event in events]


def ends(vect: Vect) -> dict[str, Any]:
    """How all has ended; of two upstreams that fail at one instant, chance says who is to blame."""
    steps = {
        name: (step.state, step.output, step.error if step.state != "upstream_failed" else None)
        for name, step in vect.steps.items()
    }
    return steps | {"": (vect.state, None, None)}


def lives(vect: Vect) -> int:
    return 1 + names(vect.events()).count("vect.recovered")


def test_before_a_commit_all_is_lost_that_it_holds() -> None:
    flow = diamond()
    vect = simulate(flow, durations={"a": 1}, crash_at=("before", 2))

    assert names(vect.events())[2:6] == [
        "step.started a",
        "vect.recovered",
        "step.interrupted a",
        "step.started a",
    ]


def test_in_a_commit_nothing_has_come_of_it_but_it_is_in_the_log() -> None:
    vect = simulate(diamond(), durations={"a": 1, "b": 1, "c": 1}, crash_at=("in", 2))

    assert names(vect.events())[3:9] == [
        "step.succeeded a",
        "step.started b",
        "step.started c",
        "vect.recovered",
        "step.interrupted b",
        "step.interrupted c",
    ]


def test_a_program_that_dies_before_its_first_commit_begins_anew() -> None:
    vect = simulate(diamond(), crash_at=("before", 1))

    assert (lives(vect), vect.state) == (1, "success")
    assert vect.steps["a"].attempt == 1


def test_a_program_may_die_in_its_recovery_too() -> None:
    vect = simulate(diamond(), crash_at=[("in", 1), ("before", 2), ("in", 3), ("after", 4)])

    assert names(vect.events())[:6] == [
        "vect.created",
        "vect.started",
        "step.started a",
        "vect.recovered",
        "step.interrupted a",
        "step.started a",
    ]
    assert (lives(vect), vect.steps["a"].attempt, vect.state) == (4, 4, "success")


def test_time_goes_on_over_all_lives_and_each_attempt_takes_its_own() -> None:
    vect = simulate(diamond(), durations={"a": [100, 7], "b": 50}, crash_at=("after", 1))

    assert vect.events()[-1].time - vect.events()[0].time == vect.steps["b"].end_date - (
        vect.events()[0].time
    )
    assert (vect.events()[-1].time - vect.events()[0].time).total_seconds() == 57


@pytest.mark.parametrize("when", WHEN)
def test_whenever_it_dies_it_comes_to_the_same_end(when: str) -> None:
    flow = diamond()
    ways = {"durations": {"a": 1, "b": 2, "c": 3}, "outcomes": {"c": ValueError("no")}}
    calm = simulate(flow, **ways)
    for number in count(1):
        vect = simulate(flow, **ways, crash_at=(when, number))
        check_history(vect.events(), flow)
        assert_replays(vect, flow)
        assert ends(vect) == ends(calm)
        if len(vect.events()) == len(calm.events()) and number > 1:
            return


@some
@given(st.data(), flows(), st.lists(moments, max_size=4), st.integers(1, 3))
def test_whatever_flow_dies_whenever_it_comes_to_the_same_end(
    data: st.DataObject, flow: Flow, crash_at: list[Any], max_workers: int
) -> None:
    ways = {
        "durations": data.draw(durations(flow)),
        "outcomes": data.draw(outcomes(flow)),
        "max_workers": max_workers,
    }
    vect = simulate(flow, **ways, crash_at=crash_at)

    assert ends(vect) == ends(simulate(flow, **ways))
    check_history(vect.events(), flow, max_workers=max_workers)
    assert_replays(vect, flow, max_workers=max_workers)
    assert_nothing_is_done_again_that_succeeded(vect.events())
    again = simulate(flow, **ways, crash_at=crash_at)
    assert again.events() == vect.events()


def assert_nothing_is_done_again_that_succeeded(events: list[Event]) -> None:
    done: set[str | None] = set()
    for event in events:
        assert not (event.name == "step.started" and event.step in done)
        if event.name == "step.succeeded":
            done.add(event.step)


def test_a_death_that_no_event_tells_of_is_no_worker_more() -> None:
    """A cancelled step has a worker until it answers, but not longer than its program lives."""
    flow = Flow("flow", OAutom())
    for name in "ab":
        PythonExecution(name, flow, str)
    left = MemoryEventLog()
    with OAutom(executor="inline") as app:
        first = Flow("flow", app)
        PythonExecution("a", first, lambda: vect.cancel())
        PythonExecution("b", first, str)
        vect = app.start(first, vect_id="cancelled")
        vect.wait()
        for event in [e for e in app.log.read() if e.name != "step.late_result"]:
            left.append(None, event)  # the program has died before the step could answer
        left.commit()
    with OAutom(executor="inline", log=left) as app:
        second = Flow("flow", app)
        for name in "ab":
            PythonExecution(name, second, str)
        app.run(second)

    check_history(left.read(), flow, max_workers=1)
    assert_replays(left, flow)


def test_a_run_that_has_died_is_a_model_for_one_that_has_not() -> None:
    died = simulate(diamond(), durations={"a": [100, 7], "b": 50}, crash_at=("after", 1))
    calm = simulate(diamond(), like=died)

    assert lives(calm) == 1
    assert (calm.events()[-1].time - calm.events()[0].time).total_seconds() == 57


@pytest.mark.parametrize(
    "wrong",
    [3, "in", ("in", 0), ("in", "1"), ("between", 1), [("in", 1), 3], ("in",), ("in", 1, 2), None],
)
def test_what_is_no_moment_is_refused(wrong: Any) -> None:
    with pytest.raises(SettingError, match=r"crash_at must be moments like \('after', 3\)"):
        simulate(diamond(), crash_at=wrong)
