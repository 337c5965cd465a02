"""Waits that lead through a line of starts: one that would never end is refused, however long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    EngineError,
    Flow,
    FlowExecution,
    OAutomMode,
    PythonExecution,
    Vect,
)
from oautom.testing import check_history

from .conftest import SECONDS, NewApp


class Program:
    """An app whose Vects do what is said for their ids; those of a flow stand in one line."""

    def __init__(self, new_app: NewApp) -> None:
        self.app = new_app(OAutomMode.background)
        self.acts: dict[str, Callable[[], Any]] = {}
        self.errors: dict[str, str] = {}

    def flow(self, name: str, most: int = 1) -> Flow:
        flow = Flow(name, self.app, params={"id": str}, max_active_vects=most, when_full="wait")
        PythonExecution("work", flow, self._work, [flow.param("id")])
        return flow

    def start(self, flow: str, vect: str, act: Callable[[], Any] = bool) -> Vect:
        self.acts[vect] = act
        return self.app.start(flow, {"id": vect}, vect_id=vect)

    def _work(self, id: str) -> None:  # noqa: A002 - the word of the parameter
        try:
            self.acts.get(id, bool)()
        except EngineError as error:
            self.errors[id] = str(error)

    def wait_for(self, vect: str) -> str:
        return self.app.vect(vect).wait(SECONDS)

    def until_waiting(self, *vects: str) -> None:
        until(lambda: all("waits for vect" in self.app.vect(v).explain("work") for v in vects))

    def check(self) -> None:
        assert {vect.wait(SECONDS) for vect in self.app.vects()} == {"success"}
        check_history(self.app.log.read())


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def program(new_app: NewApp) -> Program:
    return Program(new_app)


def test_through_those_that_wait_for_who_stands_in_line(program: Program) -> None:
    program.flow("a")
    program.flow("b", most=9)

    def first() -> str:
        program.start("a", "a1")
        program.start("b", "b1", lambda: program.wait_for("a1"))
        program.start("b", "b2", lambda: program.wait_for("b1"))
        program.until_waiting("b1", "b2")
        return program.wait_for("b2")

    program.start("a", "a0", first)
    program.wait_for("a0")
    assert program.errors == {
        "a0": "step 'work' of vect 'a0' cannot wait for vect 'b2': vect 'b2' waits for vect 'b1', "
        "which waits for vect 'a1', which waits for its turn, which comes when vect 'a0' has "
        "ended; do not wait for it, or raise max_active_vects of its flow"
    }
    program.check()


def test_through_two_lines(program: Program) -> None:
    program.flow("a")
    program.flow("b")

    def first() -> str:
        program.start("a", "a1")
        program.start("b", "b0", lambda: program.wait_for("a1"))
        program.start("b", "b1")
        program.until_waiting("b0")
        return program.wait_for("b1")

    program.start("a", "a0", first)
    program.wait_for("a0")
    assert program.errors == {
        "a0": "step 'work' of vect 'a0' cannot wait for vect 'b1': it waits for its turn, which "
        "comes when vect 'b0' has ended; that one waits for vect 'a1', which waits for its turn, "
        "which comes when vect 'a0' has ended; do not wait for it, or raise max_active_vects of "
        "its flow"
    }
    program.check()


def test_through_a_child(program: Program) -> None:
    program.flow("a")
    inner = program.flow("inner")
    outer = Flow("outer", program.app)
    FlowExecution("run", outer, inner, {"id": "child"})
    program.acts["child"] = lambda: program.wait_for("a1")

    def first() -> str:
        program.start("a", "a1")
        vect = program.app.start(outer, vect_id="o")
        until(lambda: "o/run/1" in [each.id for each in program.app.vects()])
        program.until_waiting("o/run/1")
        return vect.wait(SECONDS)

    program.start("a", "a0", first)
    program.wait_for("a0")
    assert "vect 'o' waits for vect 'o/run/1', which waits for vect 'a1'" in program.errors["a0"]
    program.check()


@pytest.mark.parametrize("is_other_free", [True, False])
def test_not_where_another_one_has_a_place_and_may_end(
    program: Program, *, is_other_free: bool
) -> None:
    """A turn comes when any of those that have the places has ended."""
    program.flow("a", most=2)
    program.flow("b", most=9)
    gate, is_there = threading.Event(), threading.Event()

    def other() -> object:
        is_there.wait(SECONDS)
        return gate.wait(SECONDS) if is_other_free else program.wait_for("b1")

    def first() -> str:
        program.start("a", "a1", other)
        program.start("a", "a2")
        program.start("b", "b1", lambda: program.wait_for("a2"))
        program.until_waiting("b1")
        is_there.set()
        if not is_other_free:
            program.until_waiting("a1")
        threading.Timer(0.05, gate.set).start()
        return program.wait_for("b1")

    program.start("a", "a0", first)
    program.wait_for("a0")
    program.check()
    assert list(program.errors) == ([] if is_other_free else ["a0"])


def outer_of(program: Program) -> Flow:
    """A flow that asks somebody, and then runs flow `a`."""
    outer = Flow("outer", program.app, max_active_vects=9)
    asked = ApprovalExecution("ask", outer, "well?")
    asked >> FlowExecution("run", outer, program.app.flow("a"), {"id": "child"})
    return outer


def test_a_child_does_not_stand_in_line_behind_who_waits_for_its_parent(program: Program) -> None:
    """The wait began before: here it is the child that closes the circle."""
    program.flow("a")
    outer = program.app.start(outer_of(program), vect_id="o")

    program.start("a", "a0", lambda: program.wait_for("o"))
    program.until_waiting("a0")
    outer.approve("ask", by="me")

    assert outer.wait(SECONDS) == "failed"
    assert outer.steps["run"].error == (
        "step 'run' of vect 'o' cannot run flow 'a': it waits for its turn, which comes when vect "
        "'a0' has ended; that one waits for vect 'o'; raise max_active_vects of flow 'a', or let "
        "none of its open vects wait for vect 'o'"
    )
    assert program.wait_for("a0") == "success"
    assert [vect.id for vect in program.app.vects()] == ["o", "a0"]
    outer.retry()
    assert outer.wait(SECONDS) == "success"
    program.check()


def test_a_child_does_not_stand_in_line_to_go_on_behind_who_waits_for_its_parent(
    program: Program,
) -> None:
    program.flow("a")
    broken = [True]
    program.acts["child"] = lambda: 1 / (not broken[0])
    outer = program.app.start(outer_of(program), vect_id="o")
    outer.approve("ask", by="me")
    assert outer.wait(SECONDS) == "failed"
    broken.clear()
    broken.append(False)

    def retry_and_wait() -> str:
        outer.retry()
        return outer.wait(SECONDS)

    program.start("a", "a0", retry_and_wait)
    program.wait_for("a0")
    told = {*program.errors.values(), outer.steps["run"].error}
    assert any("which comes when vect 'a0' has ended" in (each or "") for each in told)
    if outer.wait(SECONDS) == "failed":  # it stood in line after the wait began
        outer.retry()
        assert outer.wait(SECONDS) == "success"
    assert [vect.id for vect in program.app.vects()] == ["o", "o/run/1", "a0"]
    program.check()
