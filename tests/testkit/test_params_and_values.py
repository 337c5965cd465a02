"""Parameters and forwarded values in simulations, replays, histories and drawn flows."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from oautom import Flow, MemoryEventLog, OAutom, Param, ParamError, PythonExecution
from oautom.testing import (
    ReplayDiffersError,
    assert_replays,
    check_history,
    explore,
    flows,
    histories,
    simulate,
)

DAY = date(2026, 11, 24)


def declare(**params: Any) -> Flow:
    flow = Flow("etl", OAutom(), params=params or {"day": date, "limit": Param(int, 10)})

    @flow.step
    def extract(day: date) -> list[int]:
        raise AssertionError("a simulation does no work")

    @flow.step
    def total(rows: list[int]) -> int:
        raise AssertionError("a simulation does no work")

    total(extract(flow.param("day") if "day" in flow.params else DAY))
    return flow


def test_a_simulation_has_the_params_of_a_start() -> None:
    vect = simulate(declare(), {"day": "2026-11-24"}, outcomes={"total": 42})

    assert vect.params == {"day": DAY, "limit": 10}
    assert vect.events()[0].data["params"] == {"day": "2026-11-24", "limit": 10}
    assert vect.result("total") == 42


@pytest.mark.parametrize("wrong", [None, {}, {"day": "x"}, {"day": DAY, "dya": 1}, [DAY]])
def test_wrong_params_are_refused(wrong: Any) -> None:
    with pytest.raises(ParamError, match="its parameters: day: date, limit: int = 10"):
        simulate(declare(), wrong)


def test_like_takes_the_params_of_the_run_unless_said_otherwise() -> None:
    first = simulate(declare(), {"day": DAY, "limit": 3})

    assert simulate(declare(), like=first).params == first.params
    assert simulate(declare(), {"limit": 4}, like=first).params == {"day": DAY, "limit": 4}
    assert simulate(declare(day=date), like=first).params == {"day": DAY}
    with pytest.raises(ParamError, match="parameter 'more' is missing"):
        simulate(declare(day=date, more=int), like=first)
    numbered = Flow("etl", OAutom(), params={"day": int})
    with pytest.raises(ParamError, match="parameter 'day' must be int, not '2026-11-24'"):
        simulate(numbered, like=first)


def test_like_takes_the_params_of_a_durable_run(tmp_path: Path) -> None:
    with OAutom(log=tmp_path / "runs.db", executor="inline") as app:
        flow = Flow("etl", app, params={"day": date})
        PythonExecution("a", flow, print)
        vect = app.run(flow, {"day": DAY})
        assert simulate(flow, like=vect).params == {"day": DAY}


def test_params_outlive_simulated_crashes() -> None:
    for when in ("before", "in", "after"):
        for number in range(1, 5):
            vect = simulate(declare(), {"day": DAY}, crash_at=(when, number))  # type: ignore[arg-type]
            assert vect.params == {"day": DAY, "limit": 10}
            check_history(vect.events(), vect.flow)
            assert_replays(vect, declare())


def test_every_order_can_be_explored_without_params() -> None:
    assert explore(declare()).schedules == 1


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"day": date}, "parameter 'limit' is gone"),
        ({"day": date, "limit": int, "more": int}, "parameter 'more' is new"),
        ({"day": int, "limit": int}, "parameter 'day' is now int, which '2026-11-24' is not"),
        ({"limit": int, "new": int}, "parameter 'day' is gone; parameter 'new' is new"),
    ],
)
def test_a_log_whose_params_do_not_fit_today_does_not_replay(params: Any, told: str) -> None:
    log = simulate(declare(), {"day": DAY}).events()
    flow = Flow("etl", OAutom(), params=params)
    PythonExecution("extract", flow, print) >> PythonExecution("total", flow, print)

    with pytest.raises(ReplayDiffersError) as differs:
        assert_replays(log, flow)
    assert (differs.value.seq, differs.value.then) == (1, "vect.created")
    assert differs.value.now.startswith(told)


def test_a_type_that_takes_the_same_values_replays() -> None:
    log = simulate(declare(), {"day": DAY}).events()

    assert_replays(log, declare(day=date, limit=Param(float | None, None)))
    kept = MemoryEventLog()
    for event in log:
        kept.append(None, event)
    kept.commit()
    assert_replays(kept, declare())


def test_histories_have_drawn_params_or_defaults() -> None:
    flow = declare()

    @settings(deadline=None, max_examples=50)
    @given(histories(flow, params=st.builds(lambda day: {"day": day}, st.dates())))
    def hold(history: Any) -> None:
        check_history(history, flow)
        assert_replays(history, flow)
        for event in history:
            if event.name == "vect.created":
                assert event.data["params"].keys() == {"day", "limit"}

    @settings(deadline=None, max_examples=10)
    @given(histories(declare(limit=Param(int, 10))))
    def have_defaults(history: Any) -> None:
        assert history[0].data["params"] == {"limit": 10}

    hold()
    have_defaults()
    with pytest.raises(ParamError, match="parameter 'day' is missing"):
        find(histories(flow), lambda history: True)


def test_drawn_flows_forward_values_only_if_asked_to() -> None:
    def is_given(flow: Flow) -> bool:
        return any(step.references for step in flow.steps.values())

    smallest = find(flows(forwarding=True), is_given)
    assert repr(smallest) == "<Flow 'flow': a; b << [a] (is given them)>"
    assert smallest.app.run(smallest).state == "success"  # type: ignore[attr-defined] # an app
    with pytest.raises(NoSuchExample):
        find(flows(), is_given, settings=settings(max_examples=300))
