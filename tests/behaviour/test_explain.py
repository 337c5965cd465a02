"""`vect.explain`: why a step is, or is not, running, asked of real apps."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    BashExecution,
    Context,
    Execution,
    Flow,
    LogError,
    MapExecution,
    OAutom,
    OAutomMode,
    Pool,
    PythonExecution,
    RetryPolicy,
    UnknownStepError,
    Vect,
    WaitExecution,
)
from oautom.testing import SimulatedClock

from .conftest import SECONDS, Gate, nothing
from .test_people import until

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
UNDRIVEN = "; nothing drives the engine until somebody calls wait()"


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOW)


def breaks() -> None:
    raise ConnectionError("refused")


def drive(vect: Vect, seconds: float) -> None:
    with suppress(TimeoutError):
        vect.wait(seconds)


def test_the_example_of_the_design(new_app: Any, clock: SimulatedClock) -> None:
    app = new_app(clock=clock, executor="inline")
    flow = Flow("import", app)
    policy = RetryPolicy(max_attempts=5, delay=3.0, backoff=2.0, jitter=0)
    extract = PythonExecution("extract", flow, breaks, retry=policy)
    load = PythonExecution("load", flow, nothing)
    extract >> load
    vect = app.start(flow)
    assert vect.explain(load) == "`load` waits for the start of its vect" + UNDRIVEN

    drive(vect, 4)

    said = "failed attempt 2 of 5"
    assert vect.explain("load") == (
        f"`load` waits for `extract`, which {said} and runs again at 03:00:09{UNDRIVEN}"
    )
    assert vect.explain("extract") == (
        f"`extract` {said} (ConnectionError: refused) and runs again at 03:00:09{UNDRIVEN}"
    )
    assert vect.wait() == "failed"
    assert vect.explain(extract) == (
        "`extract` failed at 03:00:45 in attempt 5 of 5: ConnectionError: refused"
    )
    assert vect.explain(load) == (
        "`load` was blocked at 03:00:45 and did not run: upstream 'extract' failed"
    )


def test_a_step_explains_itself_while_it_runs(new_app: Any, clock: SimulatedClock) -> None:
    """On the scheduler's own thread; there it is driven."""
    app = new_app(clock=clock, executor="inline")
    flow = Flow("f", app)
    heard: list[str] = []
    PythonExecution("a", flow, lambda: heard.append(vects[0].explain("a")))
    PythonExecution("b", flow, nothing)
    PythonExecution("c", flow, lambda: heard.append(vects[0].explain("b")), priority=9)
    PythonExecution("d", flow, nothing, priority=5)
    vects = [app.start(flow)]
    vects[0].wait()

    assert heard == [
        (
            "`b` waits for a worker: the only worker is taken, and 2 more wait before it, "
            "1 of a higher priority"
        ),
        "`a` has been running since 03:00:00 (attempt 1)",
    ]


def test_in_both_modes_steps_wait_for_workers_and_pools(new_app: Any, mode: OAutomMode) -> None:
    app = new_app(mode, max_workers=2)
    flow = Flow("f", app)
    pool = Pool("db", 1)
    gate = Gate()
    PythonExecution("first", flow, gate, pool=pool, timeout=3600)
    PythonExecution("second", flow, nothing, pool=pool)
    other = Gate()
    vect = app.start(flow)
    until(vect, "first")
    while not gate.reached.is_set():
        drive(vect, 0.02)
    undriven = UNDRIVEN if mode is OAutomMode.foreground else ""

    assert vect.explain("second") == (
        f"`second` waits for a slot: the only slot of pool `db` is taken{undriven}"
    )
    pattern = (
        r"`first` has been running since (....-..-.. )?\d\d:\d\d:\d\d \(attempt 1\) "
        rf"and has until (....-..-.. )?\d\d:\d\d:\d\d{re.escape(undriven)}"
    )
    assert re.fullmatch(pattern, vect.explain("first"))

    crowd = Flow("crowd", app)
    PythonExecution("blocker", crowd, other)
    PythonExecution("late", crowd, nothing)
    second = app.start(crowd)
    until(second, "blocker")
    assert second.explain("late") == (
        f"`late` waits for a worker: all 2 workers are taken{undriven}"
    )
    second.pause()
    until_paused(second)
    assert second.explain("late") == f"`late` is due to start, but its vect is paused{undriven}"
    second.cancel("wrong day")
    gate.opened.set()
    other.opened.set()
    assert vect.wait(SECONDS) == "success"
    assert second.wait(SECONDS) == "cancelled"
    assert re.fullmatch(
        r"`late` was cancelled at \S+( \S+)?, before it started: wrong day", second.explain("late")
    )


def until_paused(vect: Vect) -> None:
    while vect.state != "paused":
        drive(vect, 0.02)


def test_waits_approvals_and_polls(new_app: Any, clock: SimulatedClock) -> None:
    class Job(Execution):
        poll_interval = 5.0

        def run(self, context: Context) -> None:
            """Start something."""

        def check(self, context: Context) -> bool:
            return False

    app = new_app(clock=clock, executor="inline")
    flow = Flow("f", app)
    night = WaitExecution("night", flow, until=datetime(2026, 11, 25, 1, tzinfo=UTC))
    gate = ApprovalExecution("gate", flow, "ship it?", timeout=3600)
    Job("job", flow)
    PythonExecution("ship", flow, nothing).depends(night, gate)
    vect = app.start(flow)
    drive(vect, 1)

    assert vect.explain("ship") == (
        "`ship` waits for `night`, which waits until 2026-11-25 01:00:00, and for `gate`, which "
        f"waits for an approval ('ship it?') until 04:00:00{UNDRIVEN}"
    )
    assert vect.explain("job") == (
        "`job` has been running since 03:00:00 (attempt 1); once its run() has returned, "
        f"its check() is asked every 5 seconds{UNDRIVEN}"
    )
    vect.cancel()


def test_what_a_dead_program_has_left(new_app: Any, tmp_path: Path) -> None:
    """Before it is taken over, while that is asked for, and after."""

    def make(mode: OAutomMode = OAutomMode.foreground) -> tuple[OAutom, Flow]:
        app = new_app(mode, log=tmp_path / "runs.db")
        flow = Flow("f", app)
        command = "test -e again || { touch again; sleep 60; }"
        first = BashExecution("first", flow, command, cwd=tmp_path)
        first >> PythonExecution("second", flow, nothing)
        return app, flow

    old, flow = make()
    vect = old.start(flow, vect_id="one")
    while not (tmp_path / "again").exists():
        drive(vect, 0.02)
    old.close()
    halted = "the engine was stopped (the app was closed), and its vect goes on in the next program"
    assert vect.explain("first").endswith(f", but {halted}")

    new, flow = make()
    left = new.vect("one")
    when = r"(....-..-.. )?\d\d:\d\d:\d\d"
    assert re.fullmatch(
        rf"`first` started attempt 1 at {when}, but its vect does not go on: vect 'one' of flow "
        r"'f' was left open by an earlier program; app\.recover\(\) goes on with it",
        left.explain("first"),
    )
    new.recover()
    assert re.fullmatch(
        rf"`second` waits for `first`, which started at {when}; its program has ended, and its "
        "vect is not taken over yet",
        left.explain("second"),
    )
    assert left.wait(SECONDS) == "success"
    assert re.fullmatch(
        rf"`first` succeeded at {when} after [\d.]+ seconds? \(attempt 2\)", left.explain("first")
    )
    new.close()

    newest, flow = make()
    assert newest.vect("one").explain("second") == left.explain("second")


def test_a_vect_whose_flow_has_changed_is_held_up(new_app: Any, tmp_path: Path) -> None:
    def make(*names: str) -> tuple[OAutom, Flow]:
        app = new_app(log=tmp_path / "runs.db")
        flow = Flow("f", app)
        ApprovalExecution("gate", flow, "go?")
        for name in names:
            PythonExecution(name, flow, nothing).depends(flow.steps["gate"])
        return app, flow

    old, flow = make("a")
    vect = old.start(flow, vect_id="one")
    until(vect, "gate")
    old.close()
    new, _ = make("b")
    with suppress(Exception):
        new.recover()

    said = new.vect("one").explain("a")

    assert said.startswith("`a` waits for `gate`, which waits for an approval ('go?'); ")
    assert "; its vect does not go on: vect 'one' of flow 'f' cannot go on, " in said
    assert "step 'a' is gone; step 'b' is new" in said


def test_an_engine_that_has_stopped_says_why(new_app: Any, monkeypatch: Any) -> None:
    app = new_app()
    flow = Flow("f", app)
    ApprovalExecution("gate", flow, "go?")
    vect = app.start(flow)
    until(vect, "gate")

    def full() -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(app.log, "commit", full)
    with pytest.raises(LogError, match="no space left on device"):
        vect.approve("gate", by="Ada")

    assert vect.explain("gate") == (
        "`gate` waits for an approval ('go?'); the engine has stopped: no space left on device"
    )


def test_a_step_that_is_not_of_the_flow_is_refused(inline: OAutom) -> None:
    flow, other = Flow("f", inline), Flow("g", inline)
    PythonExecution("load", flow, nothing)
    stranger = PythonExecution("load", other, nothing)
    vect = inline.run(flow)

    with pytest.raises(
        UnknownStepError, match=r"flow 'f' has no step 'laod'; did you mean 'load'\?"
    ):
        vect.explain("laod")
    with pytest.raises(UnknownStepError, match="flow 'f' has no step 'g/load'"):
        vect.explain(stranger)
    wrong: Any = None
    with pytest.raises(UnknownStepError, match="flow 'f' has no step"):
        vect.explain(wrong)


def test_a_map_and_its_instances_are_explained(new_app: Any) -> None:
    go_on = threading.Event()
    app = new_app(OAutomMode.background, max_workers=8)
    flow = Flow("flow", app)
    items = PythonExecution("items", flow, lambda: [1, 2, 3])
    MapExecution("map", flow, lambda item: go_on.wait(10), items, max_parallel=2)
    vect = app.start(flow)
    while "map[1]" not in vect.steps or vect.steps["map[1]"].state != "running":
        threading.Event().wait(0.01)
    whole, third = vect.explain("map"), vect.explain("map[2]")
    go_on.set()

    assert vect.wait(10) == "success"
    assert whole.endswith("and 0 of its 3 items have ended")
    assert third == "`map[2]` waits, since 2 of its map run already, which is its limit"
