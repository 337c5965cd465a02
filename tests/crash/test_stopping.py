"""A program that stops in good order leaves no process, and its Vects go on in its next life."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    BashExecution,
    Context,
    Event,
    Execution,
    Flow,
    FlowChangedError,
    OAutom,
    OAutomMode,
)
from oautom.audit.invariants import check_history
from oautom.events import replay
from oautom.events.sqlite import SqliteEventLog

from .checks import Evidence, marked, read_side
from .harness import Life, few, finish, left_of, swept, until
from .plans import Plan


def test_an_engine_that_still_tells_its_steps_to_stop_is_not_idle(tmp_path: Path) -> None:
    """Else `close()` on another thread returned, and let go of the log, while they ran."""
    seen: list[bool] = []
    is_running = threading.Event()

    class Step(Execution):
        def run(self, context: Context) -> None:
            over = threading.Event()

            def stop() -> None:
                seen.append(app._engine._scheduler.is_idle())
                over.set()

            context.on_cancel(stop)
            is_running.set()
            over.wait()

    with OAutom(OAutomMode.background, log=tmp_path / "runs.db") as app:
        Step("step", Flow("flow", app))
        app.start("flow")
        assert is_running.wait(30)
    assert seen == [False]


def test_what_is_asked_just_before_the_engine_listens_is_done(tmp_path: Path) -> None:
    was_asked = threading.Event()

    class Log(SqliteEventLog):
        def requests(self, again: bool = False) -> list[Any]:
            requests = super().requests(again)
            was_asked.set()
            return requests

        def listen(self, wake: Callable[[], None]) -> None:
            assert was_asked.wait(30)
            self.ask("one", "cancel", reason="enough")
            super().listen(wake)

    def declare(app: OAutom) -> None:
        BashExecution("step", Flow("flow", app), "sleep 1000")

    with OAutom(log=tmp_path / "runs.db") as app:
        declare(app)
        with suppress(TimeoutError):
            app.start("flow", vect_id="one").wait(0.01)
    with (
        closing(Log(tmp_path / "runs.db")) as log,
        OAutom(OAutomMode.background, log=log) as app,
    ):
        declare(app)
        (vect,) = app.recover()
        assert vect.wait(30) == "cancelled"


def plan_of(mode: str, executor: str) -> Plan:
    """Return a plan with steps that go on until they are ended, and one that waits for them."""
    steps = [
        {"name": name, "kind": kind, "seconds": 1000, "upstreams": upstreams}
        | {"outcome": "end", "on_crash": "rerun"}
        for name, kind, upstreams in (
            ("tree", "tree", []),
            ("listens", "listens", []),
            ("after", "bash", ["tree", "listens"]),
        )
    ]
    return {
        "mode": mode,
        "executor": executor,
        "max_workers": 1 if executor == "inline" else 3,
        "synchronous": "FULL",
        "flows": {"flow": steps},
        "vects": {"one": "flow", "two": "flow"},
    }


def go_on(folder: Path, plan: Plan) -> Evidence:
    """Look at what is there, have the program run to its end, and look again."""
    steps = [step | {"seconds": 0} for step in plan["flows"]["flow"]]
    (folder / "next.json").write_text(json.dumps({**plan, "flows": {"flow": steps}}))
    evidence = Evidence(folder, plan)
    evidence.look()
    assert [vect.state for vect in replay(evidence.events).values()] == ["running", "running"]
    finish(folder, evidence, "next.json")
    assert evidence.violations == []
    return evidence


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with swept(tmp_path) as folder:
        yield folder


def running(folder: Path, plan: Plan) -> Life:
    """Return a program whose first steps have begun."""
    (folder / "plan.json").write_text(json.dumps(plan))
    life = Life(folder, "plan.json")
    assert life.wait_for("started")
    wanted = plan["max_workers"]
    until(lambda: sum(line.what == "begin" for line in read_side(folder)) >= wanted)
    return life


@pytest.mark.parametrize(
    ("executor", "number"),
    few(
        ("threads", signal.SIGINT),
        ("inline", signal.SIGTERM),
        more=[
            ("processes", signal.SIGINT),
            ("processes", signal.SIGTERM),
            ("threads", signal.SIGTERM),
            ("inline", signal.SIGINT),
        ],
    ),
)
def test_a_signal_ends_all_work_and_the_next_run_goes_on(
    folder: Path, executor: str, number: signal.Signals
) -> None:
    plan = plan_of("foreground", executor)
    life = running(folder, plan)
    life.process.send_signal(number)
    assert life.end() == (-number if number == signal.SIGINT else 128 + number)
    assert left_of(folder) == []
    evidence = go_on(folder, plan)
    assert {"vect.cancelled", "step.cancelled"}.isdisjoint(e.name for e in evidence.events)


def test_sigterm_kills_a_program_in_the_background_and_the_next_run_goes_on(folder: Path) -> None:
    plan = plan_of("background", "threads")
    life = running(folder, plan)
    life.process.send_signal(signal.SIGTERM)
    assert life.end() == -signal.SIGTERM
    go_on(folder, plan)
    assert left_of(folder) == []


@pytest.mark.parametrize("mode", few(OAutomMode.background, more=[OAutomMode.foreground]))
def test_a_second_engine_of_one_program_goes_on_where_the_first_was_closed(
    folder: Path, mode: OAutomMode
) -> None:
    def declare(app: OAutom) -> None:
        flow = Flow("flow", app)
        wait = BashExecution("wait", flow, f"touch {folder}/began; [ -e {folder}/go ] || sleep 999")
        wait >> BashExecution("after", flow, "echo done")

    def work(app: OAutom) -> None:
        with suppress(TimeoutError):
            app.start("flow", vect_id="one").wait(0.05)

    for _ in range(2):
        with OAutom(mode, log=folder / "runs.db") as app:
            declare(app)
            work(app)
            until(lambda: (work(app), (folder / "began").exists())[1])
            log_id = app.log.id or ""
        assert marked("OAUTOM_LOG", log_id) == []
        (folder / "began").unlink()
    (folder / "go").touch()
    with OAutom(mode, log=folder / "runs.db") as app:
        declare(app)
        vect = app.run("flow", vect_id="one")
        assert (vect.state, vect.result("after"), vect.steps["wait"].attempt) == (
            "success",
            "done",
            3,
        )


@pytest.mark.parametrize(
    ("mode", "executor"),
    few(
        ("foreground", "threads"),
        ("background", "processes"),
        ("foreground", "inline"),
        more=[("background", "inline"), ("background", "threads"), ("foreground", "processes")],
    ),
)
def test_a_cancel_from_another_process_is_done_at_once(
    folder: Path, mode: str, executor: str
) -> None:
    plan = plan_of(mode, executor)
    life = running(folder, plan)
    with closing(SqliteEventLog(folder / "runs.db", read_only=True)) as log:
        for vect in plan["vects"]:
            log.ask(vect, "cancel", reason="asked from outside")
    assert life.wait_for("done")  # long before its steps would have ended
    assert life.end() == 0
    assert left_of(folder) == []
    events = check(folder)
    ends = [(e.name, e.data["reason"]) for e in events if e.name == "vect.cancelled"]
    assert ends == [("vect.cancelled", "asked from outside")] * 2


def test_a_cancel_that_nobody_heard_is_done_by_the_next_life_once(folder: Path) -> None:
    plan = plan_of("foreground", "threads")
    running(folder, plan).kill()
    with closing(SqliteEventLog(folder / "runs.db", read_only=True)) as log:
        log.ask("one", "cancel", reason="asked while nobody listened")
    steps = [step | {"seconds": 0} for step in plan["flows"]["flow"]]
    (folder / "plan.json").write_text(json.dumps({**plan, "flows": {"flow": steps}}))
    for _ in range(2):
        assert Life(folder, "plan.json").end() == 0
        events = check(folder)
        states = {name: vect.state for name, vect in replay(events).items()}
        assert states == {"one": "cancelled", "two": "success"}
        ends = [(e.vect, e.name) for e in events if e.name == "vect.cancelled"]
        assert ends == [("one", "vect.cancelled")]
        with closing(sqlite3.connect(folder / "runs.db")) as connection:
            assert connection.execute("SELECT * FROM requests").fetchall() == []


def test_a_cancel_is_kept_until_the_flow_is_declared(folder: Path) -> None:
    """The first start of any flow takes what was asked; nobody may take what nobody can do yet."""
    path = folder / "runs.db"
    with OAutom(log=path) as app:
        BashExecution("step", Flow("late", app), "sleep 1000")
        with suppress(TimeoutError):
            app.start("late", vect_id="one").wait(0.01)
    with closing(SqliteEventLog(path, read_only=True)) as log:
        log.ask("one", "cancel", reason="asked while nobody listened")
    for _ in range(2):
        with OAutom(log=path) as app:
            BashExecution("step", Flow("early", app), "true")
            assert app.run("early").state == "success"
    with OAutom(log=path) as app:
        BashExecution("step", Flow("early", app), "true")
        assert app.run("early").state == "success"
        BashExecution("step", Flow("late", app), "sleep 1000")
        (vect,) = app.recover()
        assert vect.wait(60) == "cancelled"


def test_a_vect_whose_flow_changed_can_be_cancelled_by_another_process(folder: Path) -> None:
    path = folder / "runs.db"
    with OAutom(log=path) as app:
        BashExecution("step", Flow("flow", app), "sleep 1000")
        with suppress(TimeoutError):
            app.start("flow", vect_id="one").wait(0.01)
    with closing(SqliteEventLog(path, read_only=True)) as log:
        log.ask("one", "cancel", reason="it has changed")
    with OAutom(OAutomMode.background, log=path) as app:
        BashExecution("another", Flow("flow", app), "true")
        with suppress(FlowChangedError):  # unless it is cancelled by then
            app.recover()
        vect = app.vect("one")
        until(lambda: vect.state == "cancelled")
        assert vect.wait(60) == "cancelled"


def check(folder: Path) -> list[Event]:
    with closing(SqliteEventLog(folder / "runs.db", read_only=True)) as log:
        log.verify()
        events = list(log.read())
    check_history(events)
    return events
