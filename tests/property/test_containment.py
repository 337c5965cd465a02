"""A bug of the engine's own, or a Vect whose events make no sense, harms no other Vect.

Bugs are planted in each function that the thread which drives calls in a run without bugs: found by
watching one, so that a new function has its turn by itself. Each raises for one Vect only.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from oautom import (
    ApprovalExecution,
    BranchExecution,
    Context,
    EngineError,
    Event,
    Execution,
    Flow,
    FlowExecution,
    MapExecution,
    MemoryEventLog,
    OAutom,
    OAutomError,
    OAutomMode,
    Pool,
    PythonExecution,
    RetryPolicy,
    SqliteEventLog,
    Vect,
    VectStateError,
    WaitExecution,
)
from oautom.events import replay
from oautom.machine.tables import VECT_ENDS
from oautom.testing import check_history
from tests.held import SECONDS, Call, in_time, until

IS_LONG = bool(os.environ.get("OAUTOM_CRASH_LONG"))
DRIVER = "oautom-scheduler"
BUG = "this is a bug in oautom"
BAD = "bad"
"""Id of the Vect for which the engine has a bug."""
VECTS = ("good 1", BAD, "good 2")
WORKERS = 4
SHORT = 31
"""One in so many has its turn in the short form."""

OUTSIDE = {
    *("tick", "drive", "serve_until_idle", "put", "close", "check_thread", "have_all_look"),
    *("_attempt", "_contain", "_perform", "_tell_all", "_show_all", "_close_ended"),
    "_is_active",
}
"""What goes through all Vects, or is of none: a bug there is of no single one."""
CONTAINING = {
    *("_take_back", "_go_back", "bring_back", "_attempt_alone", "_vect_of", "_vect_id", "_drop"),
    *("_end_work", "strand_parent", "strand", "lose", "at_work", "give_up", "_let_go"),
    *("is_under_way", "parents", "vect"),
    *("shut", "_is_gone", "_sweep", "_look_again_later"),
    *("free", "_leave_line", "_move", "_call", "_call_up"),  # the next one has the room
}
"""What contains a bug: it calls as little as it can, and must have none itself."""
OF_WIRES = {"send"}
"""What calls the log: whatever raises there, the log has raised."""
OF_THE_LOG = ("oautom.events.",)
"""Modules of logs: one that raises is a log that cannot be written."""
NOT_OF_THE_LOG = ("oautom.events.signals",)


class PlantedError(Exception):
    """The bug."""


@pytest.fixture(autouse=True)
def _silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show no traceback of a bug that was planted."""
    monkeypatch.setattr(logging.getLogger("oautom"), "propagate", False)


class Kept(logging.Handler):
    """What the engine has told the program's log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def text(self) -> str:
        formatter = logging.Formatter()
        return "\n".join(formatter.format(record) for record in self.records)


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept, logger = Kept(), logging.getLogger("oautom.scheduler")
    logger.addHandler(kept)
    yield kept
    logger.removeHandler(kept)


def declare(app: OAutom) -> Flow:
    """A flow that has a bit of everything, so that most of the engine has its part in it."""

    def flaky(context: Context) -> int:
        if context.attempt == 1:
            raise ValueError("not yet")
        return 1

    def late(context: Context) -> None:
        context.cancelled.wait(SECONDS)

    async def nap() -> int:
        await asyncio.sleep(0)
        return 1

    def ask() -> str:
        return app.start(asked).wait(SECONDS)

    inner = Flow("inner", app, max_active_vects=2)
    PythonExecution("leaf", inner, lambda: 1)
    asked = Flow("asked", app, max_active_vects=9)
    PythonExecution("answer", asked, lambda: 1)
    flow = Flow("flow", app, params={"n": int}, max_active_vects=9)
    first = PythonExecution("first", flow, lambda n: list(range(n)), [flow.param("n")])
    each = MapExecution("each", flow, lambda item: item + 1, first, max_parallel=2)
    again = RetryPolicy(max_attempts=2, delay=0, jitter=0)
    unsteady = PythonExecution("flaky", flow, flaky, retry=again, pool=Pool("narrow", 1))
    slow = PythonExecution("late", flow, late, timeout=0.01, allow_failure=True)
    wait = WaitExecution("wait", flow, seconds=0.01)
    gate = ApprovalExecution("gate", flow, "go on?")
    child = FlowExecution("child", flow, inner)
    last = PythonExecution("last", flow, sum, [each], trigger_rule="all_done", priority=1)
    last.depends(unsteady, slow, wait, gate, child, Watched("watched", flow))
    last.depends(PythonExecution("nap", flow, nap), PythonExecution("ask", flow, ask))
    branch = BranchExecution("branch", flow, lambda: "yes")
    for name in ("yes", "no"):
        PythonExecution(name, flow, str).depends(branch)
    everybody, all_workers = threading.Barrier(WORKERS), Flow("all workers", app)
    for number in range(WORKERS):  # each waits until all are there
        PythonExecution(f"{number}", all_workers, everybody.wait, [SECONDS])
    return flow


class Watched(Execution):
    """A step that is asked whether it is done."""

    poll_interval = 0.01

    def run(self, context: Context) -> int:
        return context.attempt

    def check(self, context: Context) -> bool:
        return bool(context.output)


def play(app: OAutom, flow: Flow, name: str) -> str:
    """Start a Vect, do this and that to it, and bring it to its end; return how that was."""
    try:
        vect = app.start(flow, {"n": 3}, vect_id=name)
        vect.pause()
        vect.resume()
        return brought_to_end(vect)
    except EngineError as error:
        return f"EngineError: {error}"


def go_on_with(app: OAutom, flow: Flow, name: str) -> str:
    """Bring a Vect to its end that the life before has left; the bad one after this and that."""
    try:
        vect = app.vect(name)
        if name == BAD:
            vect.cancel()
            vect.retry()
        return brought_to_end(vect)
    except EngineError as error:
        return f"EngineError: {error}"


def brought_to_end(vect: Vect) -> str:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with suppress(VectStateError):
            if vect.steps["gate"].state == "running":
                vect.approve("gate", "Ada")
        with suppress(TimeoutError):
            return vect.wait(0.01)
    raise AssertionError(f"{vect} does not end: {vect.steps}")


def all_at_once(do: Callable[[OAutom, Flow, str], str], app: OAutom, flow: Flow) -> dict[str, str]:
    calls = {name: Call(do, app, flow, name) for name in VECTS}
    return {name: call.result(2 * SECONDS) for name, call in calls.items()}


def leave(path: Path) -> None:
    """Have a life begin the Vects, and end while much of them is under way."""
    with OAutom(OAutomMode.background, log=path, max_workers=WORKERS) as app:
        flow = declare(app)
        vects = [app.start(flow, {"n": 3}, vect_id=name) for name in VECTS]
        until(lambda: all(vect.steps["gate"].state == "running" for vect in vects))


# Where bugs are planted


class Place(NamedTuple):
    """A function of the engine."""

    module: str
    name: str


TICKED = frozenset(
    importlib.import_module(f"oautom.{name}").__name__  # one that is not there is an error
    for name in (
        *(f"machine.{name}" for name in ("decide", "rules", "graph", "transition", "tables")),
        *("machine.state", "machine.maps", "vects.registry", "vects.run"),
        *("engine.scheduler", "engine.containment", "engine.runner", "engine.attempt"),
        *("engine.queue", "engine.children", "engine.waiting", "engine.starting"),
        "engine.requests",
    )
)
"""What decides, moves, and has work done: modules that a tick enters."""


class Life(NamedTuple):
    """What a program does that has a bug."""

    before: Callable[[Path], object]
    do: Callable[[OAutom, Flow, str], str]


LIVES = {
    "that starts all": Life(before=bool, do=play),
    "that goes on with what was left": Life(before=leave, do=go_on_with),
}


def places(path: Path, life: Life) -> list[Place]:
    """Watch a life without bugs, and return what the thread that drives has called."""
    life.before(path)
    found: dict[Place, None] = {}

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and threading.current_thread().name == DRIVER:
            place = Place(frame.f_globals.get("__name__", ""), frame.f_code.co_qualname)
            if place not in found and place.module in TICKED:
                with suppress(Exception):  # what is being made has no attributes yet
                    if concerns(tuple(frame.f_locals.values())):
                        found[place] = None

    threading.setprofile(watch)
    try:
        with OAutom(OAutomMode.background, log=path, max_workers=WORKERS) as app:
            flow = declare(app)
            app.recover()
            assert set(all_at_once(life.do, app, flow).values()) == {"success"}
    finally:
        threading.setprofile(None)
    return [place for place in found if can_be_planted(place)]


def can_be_planted(place: Place) -> bool:
    *_, name = place.name.split(".")
    is_special = name.startswith("__") and name != "__init__"
    if "<" in place.name or is_special or name in OUTSIDE | CONTAINING | OF_WIRES:
        return False
    return inspect.isfunction(_function_of(inspect.getattr_static(owner_of(place), name, None)))


def _function_of(attribute: object) -> Any:
    """Return what is called: also where a property or a static method is."""
    if isinstance(attribute, property):
        return attribute.fget
    return attribute.__func__ if isinstance(attribute, staticmethod) else attribute


def owner_of(place: Place) -> Any:
    owner: Any = sys.modules[place.module]
    for name in place.name.split(".")[:-1]:
        owner = getattr(owner, name)
    return owner


def concerns(value: object, depth: int = 3) -> bool:
    """Whether something that a function was given has to do with the Vect."""
    if isinstance(value, str):
        return value == BAD or value.startswith(f"{BAD}/")
    if depth == 0 or value is None or isinstance(value, int | float | bytes | Flow | Mapping):
        return False
    if isinstance(value, tuple | list) and any(concerns(each, depth - 1) for each in value[:9]):
        return True
    for name in ("id", "vect", "vect_id", "key", "run", "state", "model", "context"):
        if concerns(getattr(value, name, None), depth - 1):
            return True
    return False


class Bug:
    """A function that raises instead of doing its work.

    Args:
        function: What it does otherwise.
        times: How often it raises.
    """

    def __init__(self, function: Callable[..., Any], times: float) -> None:
        self.function, self.times, self.raised = function, times, 0
        self.is_looking = False

    def call(self, *args: Any, **options: Any) -> Any:
        is_here = threading.current_thread().name == DRIVER and not self.is_looking
        if is_here and self.raised < self.times and self.is_for((*args, *options.values())):
            self.raised += 1
            raise PlantedError(f"a bug in {self.function.__qualname__}")
        return self.function(*args, **options)

    def is_for(self, args: object) -> bool:
        self.is_looking = True  # it may be what is looked with
        try:
            return concerns(args)
        finally:
            self.is_looking = False


def plant(place: Place, times: float, patch: pytest.MonkeyPatch) -> Bug:
    """Have a function raise, wherever it is called from."""
    owner, name = owner_of(place), place.name.split(".")[-1]
    attribute = inspect.getattr_static(owner, name)
    bug = Bug(_function_of(attribute), times)

    def function(*args: Any, **options: Any) -> Any:
        return bug.call(*args, **options)

    is_plain = attribute is bug.function
    patch.setattr(owner, name, function if is_plain else type(attribute)(function))
    for module in [each for key, each in sys.modules.items() if key.startswith("oautom")]:
        for other, value in list(vars(module).items()):
            if value is bug.function:
                patch.setattr(module, other, function)
    return bug


def harm_of(place: Place, times: float, life: Life, path: Path, kept: Kept) -> str:
    """Return what a bug has done that it must not; nothing if all is well."""
    life.before(path)
    kept.records.clear()
    try:
        with pytest.MonkeyPatch.context() as patch:
            bug = plant(place, times, patch)
            app = OAutom(OAutomMode.background, log=path, max_workers=WORKERS)
            flow = declare(app)
            in_time(app.recover)
            ends = all_at_once(life.do, app, flow)
            assert [ends[name] for name in VECTS if name != BAD] == ["success"] * 2, ends
            check_bad(app, ends[BAD], bug, kept)
            later = in_time(app.start, flow, {"n": 1}, vect_id="later")
            assert in_time(brought_to_end, later, seconds=2 * SECONDS) == "success"
            assert in_time(app.run, "all workers").state == "success", "a worker is lost"
            in_time(app.close)
        check_next_life(path)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error}; {where.line}"[:600]
    return ""


def check_bad(app: OAutom, end: str, bug: Bug, kept: Kept) -> None:
    """Check that the Vect has ended all the same, or is stranded, and said so."""
    if end == "success":
        return
    assert bug.raised, end
    assert end.startswith("EngineError"), end
    assert BUG in end
    assert "PlantedError" in kept.text, "the traceback is not in the program's log"
    events = [event for event in app.log.read() if event.vect == BAD]
    if not events:
        return
    vect = app.vect(BAD)
    committed = replay(events)[BAD]
    assert vect.state == committed.state
    assert {step.name: step.state for step in vect.steps.values()} == {
        step.name: step.state for step in committed.steps.values()
    }
    if not vect.ended:
        assert vect in app.vects(state="stranded")
        assert BUG in vect.status()["stranded"]
    with pytest.raises(EngineError, match=BUG):  # told to everybody, and at once
        in_time(vect.wait, 5)


def check_next_life(path: Path) -> None:
    """Check that what was stranded goes on when there is no bug."""
    with closing(SqliteEventLog(path, synchronous="NORMAL")) as log:
        check_history(log.read())
        app = OAutom(OAutomMode.background, log=log, max_workers=WORKERS)
        flow = declare(app)
        in_time(app.recover)
        vect = in_time(app.start, flow, {"n": 3}, vect_id=BAD)
        if vect.state == "cancelled":
            in_time(vect.retry)
        if vect.state == "paused":
            in_time(vect.resume)
        assert in_time(brought_to_end, vect, seconds=2 * SECONDS) == "success"
        in_time(app.close)
        check_history(log.read())
        done = [(e.vect, e.step) for e in log.read() if e.name == "step.succeeded"]
        assert len(done) == len(set(done)), "a step that had succeeded has run again"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("life", LIVES)
def test_a_bug_for_one_vect_harms_no_other_and_the_next_life_goes_on(
    tmp_path: Path, kept: Kept, life: str
) -> None:
    """Each function is tried with a bug that shows once, and with one that always does.

    In the short form, every so many of them have their turn.
    """
    found = places(tmp_path / "watched.db", LIVES[life])
    assert len(found) > 80
    tries = list(product(found, (1, math.inf)))
    mine = tries if IS_LONG else tries[::SHORT]
    harm = {}
    for number, (place, times) in enumerate(mine):
        if told := harm_of(place, times, LIVES[life], tmp_path / f"{number}.db", kept):
            harm[(*place, times)] = told
    assert not harm, "\n".join(f"{each}: {told}" for each, told in harm.items())


def test_a_bug_with_a_log_that_takes_nothing_back_stops_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Older(MemoryEventLog):
        discard = None  # type: ignore[assignment]

    from oautom.machine import decide

    plant(Place("oautom.machine.decide", "due"), float("inf"), monkeypatch)
    assert decide
    app = OAutom(OAutomMode.background, log=Older())
    flow = declare(app)
    ends = {}
    for name in (BAD, "good 1"):
        try:
            ends[name] = in_time(play, app, flow, name, seconds=2 * SECONDS)
        except OAutomError as error:
            ends[name] = f"{type(error).__name__}: {error}"
    assert all("Error" in end for end in ends.values()), ends
    in_time(app.close)


# Events that make no sense


NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
GRAPH: dict[str, Any] = {"params": {"n": 3}, "graph": {"first": [], "last": ["first"]}}

Rows = list[tuple[str, str | None, str | None, str, int | None, dict[str, Any]]]
"""Events: name, step, source, dest, attempt, data."""

CREATED = ("vect.created", None, None, "pending", None, GRAPH)
STARTED = ("vect.started", None, "pending", "running", None, {})
BEGUN = ("step.started", "first", "pending", "running", 1, {})
SENSELESS: dict[str, Rows] = {
    "a trigger rule of a newer version": [
        (
            *("vect.created", None, None, "pending", None),
            GRAPH | {"options": {"last": {"trigger_rule": "most_success"}}},
        ),
        STARTED,
        BEGUN,
    ],
    "a parent that is none": [
        ("vect.created", None, None, "pending", None, GRAPH | {"parent": "nobody"}),
        STARTED,
    ],
    "never created": [STARTED],
    "created twice": [CREATED, STARTED, CREATED],
    "a step that it has not": [
        CREATED,
        STARTED,
        ("step.started", "other", "pending", "running", 1, {}),
    ],
    "an end without a beginning": [
        CREATED,
        STARTED,
        ("step.succeeded", "first", "running", "success", 1, {"output": 1}),
    ],
    "another state than it was in": [
        CREATED,
        STARTED,
        ("step.started", "first", "failed", "running", 1, {}),
    ],
    "a state of a newer version": [
        CREATED,
        STARTED,
        ("vect.ending", None, "running", "ending", None, {"to": "failed"}),
    ],
    "a step event of a newer version": [
        CREATED,
        STARTED,
        BEGUN,
        ("step.compensating", "first", "running", "compensating", 1, {}),
    ],
    "an attempt out of order": [
        CREATED,
        STARTED,
        ("step.started", "first", "pending", "running", 7, {}),
        ("step.retried", "first", "running", "up_for_retry", 3, {"error": "no", "delay": 1}),
    ],
    "a delay that is none": [
        CREATED,
        STARTED,
        BEGUN,
        ("step.retried", "first", "running", "up_for_retry", 1, {"error": "no", "delay": "soon"}),
    ],
    "a failure without an error": [
        CREATED,
        STARTED,
        BEGUN,
        ("step.failed", "first", "running", "failed", 1, {}),
    ],
    "a success without an output": [
        CREATED,
        STARTED,
        BEGUN,
        ("step.succeeded", "first", "running", "success", 1, {}),
    ],
    "more after the end": [
        CREATED,
        STARTED,
        ("vect.cancelled", None, "running", "cancelled", None, {"reason": ""}),
        BEGUN,
    ],
    "ended with open steps": [
        CREATED,
        STARTED,
        BEGUN,
        ("vect.succeeded", None, "running", "success", None, {}),
    ],
}


@pytest.fixture(params=SENSELESS)
def senseless(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A log in a file, all whole, with a Vect whose events make no sense between two good ones."""
    path = tmp_path / "runs.db"
    with OAutom(log=path, executor="inline") as app:
        app.run(small(app), {"n": 3}, vect_id="before")
    write(path, SENSELESS[request.param])
    with closing(SqliteEventLog(path, read_only=True)) as log:
        assert len(list(log.read())) == log.last_seq
    return path


def write(path: Path, rows: Rows) -> None:
    """Write events behind those of a log, whatever they tell."""
    with closing(SqliteEventLog(path)) as log:
        for name, step, source, dest, attempt, data in rows:
            seq = log.last_seq + 1
            place = ("flow", BAD, step, attempt, name, source, dest)
            log.append(None, event=Event(seq, NOON + timedelta(seconds=seq), *place, data))
        log.commit()


def small(app: OAutom) -> Flow:
    flow = Flow("flow", app, params={"n": int}, max_active_vects=9)
    PythonExecution("first", flow, lambda: 1) >> PythonExecution("last", flow, lambda: 2)
    other = Flow("other", app, max_active_vects=9)
    PythonExecution("x", other, lambda: 42)
    ApprovalExecution("gate", Flow("gated", app), "go on?")
    return flow


@pytest.mark.parametrize("mode", list(OAutomMode), ids=str)
def test_a_vect_whose_events_make_no_sense_stops_nothing_else(
    senseless: Path, mode: OAutomMode
) -> None:
    for life in range(2):
        with OAutom(mode, log=senseless) as app:
            flow = small(app)
            in_time(app.recover)
            assert in_time(app.run, "other").state == "success"
            assert in_time(app.run, flow, {"n": 1}).state == "success"
            gated = in_time(app.start, "gated")
            in_time(gated.cancel)
            assert gated.wait(SECONDS) == "cancelled"
            if life == 0:
                assert in_time(app.vect("before").status)["state"] == "success"
                assert "before" in [vect.id for vect in in_time(app.vects)]
            assert in_time(app.status, "other")["state"] == "success"
            gone = in_time(app.prune, older_than=timedelta(0))
            assert "other" in {vect.flow for vect in gone}
            assert in_time(app.run, "other").state == "success"
            assert in_time(app.vects, "other")


def test_the_others_are_listed_beside_one_whose_events_make_no_sense(senseless: Path) -> None:
    with OAutom(OAutomMode.background, log=senseless) as app:
        small(app)
        in_time(app.recover)
        assert in_time(app.run, "other").state == "success"
        assert "before" in [status["id"] for status in in_time(app.logs)]
        assert "before" in [vect.id for vect in in_time(app.vects, "flow")]
        assert "before" in [vect.id for vect in in_time(app.vects, state="success")]


def test_it_is_told_once_and_can_be_got_rid_of(senseless: Path) -> None:
    kept, logger = Kept(), logging.getLogger("oautom")
    logger.addHandler(kept)
    try:
        with OAutom(OAutomMode.background, log=senseless) as app:
            small(app)
            in_time(app.recover)
            for _ in range(3):
                assert in_time(app.run, "other").state == "success"
            told = [each for each in kept.records if BAD in repr(each.getMessage())]
            is_over = any(v.id == BAD and v.state in VECT_ENDS for v in app.log.vects())
            assert len(told) == (0 if is_over and not told else 1)
            try:
                vect = in_time(app.vect, BAD)
                in_time(vect.cancel, "it makes no sense")
            except OAutomError:
                assert is_over or "never created" in repr(SENSELESS)
            in_time(app.prune, older_than=timedelta(0))
            kept.records.clear()
        with OAutom(OAutomMode.background, log=senseless) as app:
            small(app)
            in_time(app.recover)
            assert in_time(app.run, "other").state == "success"
            assert BAD not in [
                entry.id for entry in app.log.vects() if entry.state not in VECT_ENDS
            ]
            assert [each for each in kept.records if BAD in repr(each.getMessage())] == []
    finally:
        logger.removeHandler(kept)


def test_who_waits_for_it_is_told(senseless: Path) -> None:
    with OAutom(OAutomMode.background, log=senseless) as app:
        small(app)
        in_time(app.recover)
        is_over = any(v.id == BAD and v.state in VECT_ENDS for v in app.log.vects())
        if is_over:
            return
        told = ""  # what can be told apart from sense is told; the rest goes on as if it made sense
        try:
            told = f"{BAD} is {in_time(lambda: app.vect(BAD).wait(5))}"
        except OAutomError as error:
            told = str(error)
        assert BAD in told
