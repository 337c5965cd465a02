"""Places and lines, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oautom import ApprovalExecution, Flow, OAutom, PythonExecution
from oautom.engine.recovery import Recovery
from oautom.vects.run import Run
from oautom.vects.turns import Turns
from tests.kit import Registry as App
from tests.kit import nothing


def runs_of(count: int) -> list[Run]:
    flow = Flow("flow", App(), when_full="wait")
    PythonExecution("step", flow, nothing)
    return [Run(flow, f"v{number}") for number in range(count)]


def test_a_line_that_stands_still_lets_nobody_by() -> None:
    """As while it is found out who of an earlier program goes on."""
    turns, called = Turns(), list[Run]()
    turns.on_turn = called.append
    left, waits, late, other = runs_of(4)
    turns.is_still = True
    turns.take(left)
    turns.stand(waits)
    turns.free(left)

    assert not turns.has_room(other)
    assert not turns.enter(late)
    assert called == []
    turns.move()
    assert called == [waits]
    assert turns.waits(late)
    turns.free(waits)
    assert called == [waits, late]
    assert (waits.turn, late.turn) == ({}, {"limit": 1})


def test_who_gives_up_its_place_while_others_are_called_lets_nobody_overtake_them() -> None:
    turns, called = Turns(), list[Run]()
    first, *others = runs = runs_of(4)
    first.flow.max_active_vects = 2

    def call(run: Run) -> None:
        called.append(run)
        if run is first:
            turns.free(first)

    turns.on_turn = call
    turns.is_still = True
    for run in runs:
        turns.stand(run)
    turns.move()
    assert called == [first, others[0], others[1]]
    for run in others:
        turns.free(run)
    assert called == runs
    assert turns._places == turns._lines == turns._to_begin == turns._to_call == {}


def test_who_comes_to_a_free_place_is_called_behind_those_who_have_not_begun() -> None:
    turns, called = Turns(), list[Run]()
    turns.on_turn = called.append
    runs = runs_of(4)
    runs[0].flow.max_active_vects = 2
    first, second, third, late = runs
    assert turns.enter(first)
    turns.begun(first)
    assert turns.enter(second)
    turns.begun(second)
    assert not turns.enter(third)
    turns.free(first)
    turns.free(second)
    assert called == [third]
    assert not turns.enter(late)
    assert called == [third, late]
    assert turns.enter(third)
    assert turns.enter(late)


def test_who_leaves_the_line_is_not_called() -> None:
    turns, called = Turns(), list[Run]()
    turns.on_turn = called.append
    first, second, third = runs_of(3)
    assert turns.enter(first)
    assert not turns.enter(second)
    assert not turns.enter(third)
    assert turns.in_line(third) == (1, 1, "flow", "", "")
    turns.free(second)
    assert turns.in_line(third) == (0, 1, "flow", "", "")
    turns.free(first)
    assert called == [third]
    assert turns.enter(third)
    assert turns.in_line(third) is None
    turns.free(third)
    assert turns._places == turns._lines == turns._to_begin == turns._to_call == {}


def test_lines_stand_still_until_it_is_known_who_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app, when_full="wait")
        ApprovalExecution("ask", flow, "well?")
        return flow

    with OAutom(log=tmp_path / "runs.db") as app:
        flow = declare(app)
        for _ in range(2):
            app.start(flow)
    seen, fit_of = list[bool](), Recovery._fit_of

    def watched(self: Recovery, *args: Any, **options: Any) -> Any:
        seen.append(self._registry.turns.is_still)
        return fit_of(self, *args, **options)

    monkeypatch.setattr(Recovery, "_fit_of", watched)
    with OAutom(log=tmp_path / "runs.db") as app:
        declare(app)
        app.recover()
        assert seen
        assert all(seen)
        assert not app._registry.turns.is_still
