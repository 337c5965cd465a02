"""An app opens its log when it first needs it, and one that nobody has any more lets go of it."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    EngineError,
    Flow,
    FlowError,
    LogError,
    LogLockedError,
    MemoryEventLog,
    OAutom,
    OAutomMode,
    PythonExecution,
    SettingError,
    SqliteEventLog,
)
from oautom.testing import SimulatedClock

from .conftest import SECONDS, flow_step

Modes = pytest.mark.parametrize("mode", list(OAutomMode))


@pytest.fixture(autouse=True, scope="module")
def _little_to_collect() -> Iterator[None]:
    """Have the collector leave out what other tests have left: it is called at each opening."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def declare(app: OAutom, name: str = "flow") -> Flow:
    flow = Flow(name, app, max_active_vects=99)
    flow_step(flow, "step")
    return flow


@pytest.fixture
def live(path: Path) -> Iterator[OAutom]:
    """An engine at work on the log, with one Vect that has ended."""
    with OAutom(log=path) as app:
        app.run(declare(app), vect_id="old")
        yield app


@Modes
def test_an_app_that_does_nothing_makes_no_file(path: Path, mode: OAutomMode) -> None:
    app = OAutom(mode, log=path)
    flow = declare(app)
    flow.validate()
    if mode is OAutomMode.foreground:
        app.plan(flow, hours=1)
    assert (app.vects(), app.logs(), app.flows()) == ([], [], ["flow"])
    assert list(app.log.read()) == app.log.vects() == []
    assert (app.log.last_seq, app.log.committed_seq, app.log.pruned()) == (0, 0, [])
    with pytest.raises(LogError, match="has not been made yet, so it has no id"):
        app.log.id  # noqa: B018
    app.close()
    assert list(path.parent.iterdir()) == []
    with pytest.raises(EngineError, match="is closed"):
        app.start(flow)
    assert list(path.parent.iterdir()) == []


FIRST: dict[str, Callable[[OAutom, Flow], object]] = {
    "run": lambda app, flow: app.run(flow),
    "start": lambda app, flow: app.start(flow),
    "recover": lambda app, _: app.recover(),
    "subscribe": lambda app, _: app.subscribe(lambda flow, event: None, name="name"),
    "prune": lambda app, _: app.prune(older_than=timedelta(days=1)),
    "serve": lambda app, _: threading.Timer(0.1, app.stop).start() or app.run(),  # type: ignore[func-returns-value]
    "cancel": lambda app, _: app.vect("old").cancel(),
    "retry": lambda app, _: app.vect("old").retry(),
}


@pytest.mark.parametrize("first", FIRST)
@Modes
def test_beside_an_engine_an_app_can_be_made_and_read_but_not_run(
    path: Path, live: OAutom, mode: OAutomMode, first: str
) -> None:
    app = OAutom(mode, log=path)
    flow = declare(app)
    assert [vect.id for vect in app.vects("flow", "success")] == ["old"]
    assert app.status("flow") == app.vect("old").status() == live.status("flow")
    for _ in range(2):  # it is refused each time, and can still read
        with pytest.raises(LogLockedError):
            FIRST[first](app, flow)
        assert app.log.last_seq == live.log.last_seq
    live.run("flow", vect_id="new")
    assert [each["id"] for each in app.logs()] == ["new", "old"]

    live.close()
    FIRST["start"](app, flow)
    with pytest.raises(LogLockedError):
        SqliteEventLog(path)
    app.close()


@Modes
def test_what_is_read_before_is_as_it_is_by_then(path: Path, mode: OAutomMode) -> None:
    """A Vect that was found before goes on where the log stands when the app opens it."""
    gate = threading.Event()
    with OAutom(OAutomMode.background, log=path) as live:
        flow = Flow("flow", live)
        PythonExecution("step", flow, lambda: gate.wait(SECONDS))
        running = live.start(flow, vect_id="v")
        app = OAutom(mode, log=path)
        Flow("flow", app)
        vect = app.vect("v")
        assert not vect.ended
        with pytest.raises(EngineError, match="was left open by an earlier program"):
            vect.wait()
        gate.set()
        running.wait()
        assert app.vect("v") is vect
        assert vect.state == "success"
    with pytest.raises(EngineError):  # of the closed one
        live.recover()
    app.recover()
    assert vect.wait() == "success"
    app.close()


def test_a_vect_that_was_found_before_can_be_steered(path: Path) -> None:
    with OAutom(log=path) as app:
        app.start(declare(app), vect_id="v")
    with OAutom(log=path) as app:
        declare(app)
        vect = app.vect("v")
        vect.cancel("no more")
        assert (vect.state, app.vect("v").state) == ("cancelled", "cancelled")
        vect.retry()
        assert vect.wait() == "success"


def test_a_plan_of_the_background_opens_the_log(path: Path, live: OAutom) -> None:
    app = OAutom(OAutomMode.background, log=path)
    with pytest.raises(LogLockedError):
        app.plan(declare(app), hours=1)
    app.close()


def test_a_plan_stands_where_the_log_says_when_it_is_opened(path: Path) -> None:
    """Not where it stood when it was declared, beside an engine that served it."""
    clock = SimulatedClock()

    def serve(app: OAutom, hours: float) -> list[str]:
        clock.call_later(hours * 3600, app.stop)
        app.run()
        return [vect.id for vect in app.vects()]

    first = OAutom(log=path, executor="inline", clock=clock)
    first.plan(declare(first), hours=1)
    late = OAutom(log=path, executor="inline", clock=clock)
    late.plan(declare(late), hours=1)
    ids = serve(first, 2.5)
    assert len(ids) == 2
    first.close()
    again = serve(late, 2)
    assert again[:2] == ids
    assert len(set(again)) == len(again) == 4
    names = [event.name for event in late.log.read() if event.name.startswith("plan.")]
    assert names == ["plan.created"]
    late.close()


# configure


def test_what_an_app_was_told_can_be_changed_until_it_works(path: Path, tmp_path: Path) -> None:
    app = OAutom(log=path)
    flow = declare(app)
    app.configure(log=tmp_path / "other.db", executor="inline")
    app.configure(max_workers=1)
    assert app.run(flow).state == "success"
    assert {each.name for each in tmp_path.iterdir() if each.suffix == ".db"} == {"other.db"}
    assert isinstance(app.log, SqliteEventLog)
    assert app.log.path == tmp_path / "other.db"
    for settings in ({"executor": "threads"}, {"log": path}, {}):
        with pytest.raises(EngineError, match="has begun to work, and cannot be configured"):
            app.configure(**settings)  # type: ignore[arg-type]
    app.close()
    with pytest.raises(EngineError, match="is closed"):
        app.configure(executor="inline")


@pytest.mark.parametrize(
    "settings",
    [
        {"log": 5},
        {"executor": "dancing"},
        {"max_workers": 0},
        {"executor": "inline", "max_workers": 2},
    ],
)
def test_what_cannot_be_configured_changes_nothing(path: Path, settings: dict[str, Any]) -> None:
    with OAutom(log=path) as app:
        with pytest.raises(SettingError):
            OAutom(**settings)
        with pytest.raises(SettingError):
            app.configure(**settings)
        assert app.run(declare(app)).state == "success"
        assert app.log.id
    assert path.exists()


def test_a_log_of_another_app_cannot_be_configured() -> None:
    log = MemoryEventLog()
    with OAutom(log=log), OAutom() as app:
        with pytest.raises(SettingError, match="another open app writes this log"):
            app.configure(log=log)
        assert app.log is not log


def test_plans_and_flows_of_before_are_there_after_a_configure(path: Path) -> None:
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock) as app:
        flow = declare(app)
        plan = app.plan(flow, hours=1)
        app.configure(log=path)
        app.recover()
        assert app.start(flow).wait() == "success"
        assert "plan.created" in [event.name for event in app.log.read()]
        plan.cancel()
        app.plan(flow, hours=2)


# A log that can only be read


@pytest.mark.parametrize("first", ["run", "start", "recover", "subscribe", "prune", "serve"])
def test_a_log_for_reading_runs_nothing(path: Path, live: OAutom, first: str) -> None:
    with closing(SqliteEventLog(path, read_only=True)) as log, OAutom(log=log) as app:
        flow = declare(app)
        assert app.status("flow") == live.status("flow")
        with pytest.raises(LogError, match=r"is open for reading only, .*log\.ask\(") as caught:
            FIRST[first](app, flow)
        assert str(path) in str(caught.value)


# Who has forgotten an app

CELL = """
app = OAutom(mode, log=path, executor=executor)
flow = Flow("flow", app)
step = PythonExecution("step", flow, abs, (-1,))
vect = app.run(flow)
"""


@pytest.mark.parametrize("executor", ["inline", "threads"])
@Modes
def test_a_cell_of_a_notebook_can_be_run_again(path: Path, mode: OAutomMode, executor: str) -> None:
    names: dict[str, Any] = {}
    exec("from oautom import *", names)
    names |= {"mode": mode, "path": path, "executor": executor}
    for number in range(3):
        before = names.get("vect"), names.get("flow")
        exec(CELL, names)
        assert names["vect"].state == "success"
        assert len(names["app"].vects()) == number + 1
    assert before[0].result("step") == 1
    with pytest.raises(EngineError, match="is closed"):
        before[0].cancel()
    names["app"].close()


def test_a_flow_whose_app_is_gone_says_so(path: Path) -> None:
    flow = declare(OAutom(log=path))
    flow.app.run(flow)  # type: ignore[attr-defined]
    with OAutom(log=path) as app:
        app.run(declare(app))
        with pytest.raises(FlowError, match=r"the app of flow 'flow' is gone: .* declare the flow"):
            flow.app  # noqa: B018


def test_an_app_that_somebody_has_keeps_its_log(path: Path) -> None:
    app = OAutom(log=path)
    flow = declare(app)
    app.run(flow)
    other = OAutom(log=path)
    for _ in range(2):
        with pytest.raises(LogLockedError, match="of this very program"):
            other.run(declare(other, str(_)))
        assert app.run(flow).state == "success"
        assert flow.app is app
    app.close()
    other.recover()
    other.close()


def test_an_app_that_nobody_has_keeps_its_log_as_long_as_it_is_at_work(path: Path) -> None:
    gate = threading.Event()

    def begin() -> Any:
        app = OAutom(OAutomMode.background, log=path)
        flow = Flow("flow", app)
        PythonExecution("step", flow, lambda: gate.wait(SECONDS))
        return app.start(flow)

    vect = begin()
    other = OAutom(log=path)
    with pytest.raises(LogLockedError):
        other.recover()
    gate.set()
    assert vect.wait() == "success"
    other.recover()
    other.close()
    assert vect.result("step") is True


def test_an_app_that_nobody_has_keeps_its_log_as_long_as_somebody_listens(path: Path) -> None:
    heard: list[str] = []

    def begin() -> Any:
        app = OAutom(OAutomMode.background, log=path)
        app.run(declare(app))
        return app.subscribe(lambda flow, event: heard.append(event.name), name="name", after=0)

    subscription = begin()
    other = OAutom(log=path)
    with pytest.raises(LogLockedError):
        other.recover()
    subscription.close()
    other.recover()
    other.close()


FORGET = """
import gc, sys, threading
from oautom import *

def work(number):
    app = OAutom(OAutomMode(sys.argv[2]), log=sys.argv[1], executor=sys.argv[3])
    flow = Flow("flow", app)
    PythonExecution("step", flow, abs, (-1,))
    vect = app.run(flow)
    return vect.state

print(work(1))
gc.collect()
print("free", flush=True)
sys.stdin.readline()
print(sorted(each.name for each in threading.enumerate() if each.name.startswith("oautom-worker")))
print(work(2), len(SqliteEventLog(sys.argv[1], read_only=True).vects()))
"""


@pytest.mark.parametrize(
    ("mode", "executor"),
    [
        (OAutomMode.foreground, "threads"),
        (OAutomMode.background, "inline"),
        (OAutomMode.background, "processes"),
    ],
)
def test_a_log_that_a_living_program_has_forgotten_is_free(
    path: Path, mode: OAutomMode, executor: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FORGET, path, mode, executor],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert [process.stdout.readline().strip() for _ in range(2)] == ["success", "free"]
    SqliteEventLog(path).close()
    assert process.communicate("\n", timeout=SECONDS)[0].split("\n")[:2] == ["[]", "success 2"]
