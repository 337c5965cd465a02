"""What each operation costs as a log grows, counted and not timed.

Counted are the instructions that SQLite carries out and the functions that are called. What
concerns one Vect costs the same however many there are; what concerns all grows as they do.
"""

from __future__ import annotations

import gc
import inspect
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from oautom import (
    Client,
    EventLog,
    Flow,
    GivenUp,
    MemoryEventLog,
    OAutom,
    OAutomError,
    PythonExecution,
    SqliteEventLog,
)
from oautom.events.sqlite import file as database
from oautom.events.texts import LogBuffer

from .logs import NOON, at, event, run_of, write

FEW, MANY = 60, 240
TOLERANCE = 1.25
INSTRUCTIONS = 10  # so many are counted together


class Cost(NamedTuple):
    """What an operation has cost: instructions of SQLite, and calls of functions."""

    steps: int
    calls: int
    largest: int  # instructions in one transaction


class Meter:
    """Counts what is done; SQLite is asked through the module that opens all connections."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._steps: list[int] = []
        self._connect = sqlite3.connect
        monkeypatch.setattr(database.sqlite3, "connect", self._counted)

    def _counted(self, *arguments: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = self._connect(*arguments, **named)
        number = len(self._steps)
        self._steps.append(0)

        def step() -> None:
            self._steps[number] += 1

        connection.set_progress_handler(step, INSTRUCTIONS)
        return connection

    def cost(self, work: Callable[[], object]) -> Cost:
        before, calls = list(self._steps), 0

        def called(frame: FrameType, what: str, argument: object) -> None:
            nonlocal calls
            calls += what == "call" or what == "c_call"

        was_enabled = gc.isenabled()
        gc.disable()
        sys.setprofile(called)
        try:
            result = work()
            if isinstance(result, Iterator):
                for _ in result:
                    pass
        finally:
            sys.setprofile(None)
            if was_enabled:
                gc.enable()
        steps = [now - then for now, then in zip(self._steps, before + [0] * 10**4, strict=False)]
        return Cost(sum(steps), calls, max(steps, default=0))


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    if sys.getprofile() is not None:
        pytest.skip("another profiler is at work")
    return Meter(monkeypatch)


def fill(log: EventLog, vects: int) -> EventLog:
    """Have a log with an old open Vect, so many that were pruned, that ended, and skipped times."""

    def put(events: list[Any]) -> None:
        for each in events:
            log.append(None, each)

    def told(hour: int, name: str, dest: str, **more: str) -> list[Any]:
        time = (NOON + timedelta(hours=hour)).isoformat().replace("+00:00", "Z")
        facts = {"plan": "daily", "planned": time, **more}
        return [event(log.last_seq + 1, f"daily@{time}", name, None, dest, **facts)]

    put(run_of("open", 1)[:3])
    put(told(0, "plan.created", "planned"))
    for number in range(vects):
        put(run_of(f"p{number}", log.last_seq + 1))
    log.commit()
    log.prune(at(10**9))
    for number in range(vects):
        put(run_of(f"v{number}", log.last_seq + 1, output=1))
        put(told(number + 1, "plan.skipped", "skipped", reason="full"))
    log.commit()
    log.keep_given_up("mail", GivenUp(log.last_seq, "away", 1, NOON))
    return log


def filled(folder: Path, vects: int) -> bytes:
    path = folder / f"{vects}.db"
    with closing(SqliteEventLog(path, synchronous="NORMAL")) as log:
        fill(log, vects)
    return path.read_bytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """The content of a log, by how many Vects it has of each kind."""
    folder = tmp_path_factory.mktemp("files")
    return {vects: filled(folder, vects) for vects in (FEW, MANY)}


@pytest.fixture(scope="module")
def large_files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """The same, of which more than a thousand rows cannot be read at once."""
    folder = tmp_path_factory.mktemp("large")
    return {vects: filled(folder, vects) for vects in (1100, 2200)}


def ids(log: EventLog) -> list[str]:
    return [entry.id for entry in log.vects()]


def late(log: EventLog) -> None:
    write(log, [event(log.last_seq + 1, "v7", "step.late_result", "success", "success", "s0")])


def one_text(log: EventLog) -> None:
    with log.at_once():
        log.text(("v7", "s0", 1))


ONE: dict[str, Callable[[Any], object]] = {
    "last_seq": lambda log: log.last_seq,
    "committed_seq": lambda log: log.committed_seq,
    "append": late,
    "commit": late,
    "discard": lambda log: log.discard(),
    "id": lambda log: log.id,
    "check_value": lambda log: log.check_value(1),
    "read": lambda log: log.read(vect="v7"),
    "read (the newest)": lambda log: log.read(after=log.last_seq - 5),
    "read (the old one)": lambda log: log.read(vect="open"),
    "read_each": lambda log: log.read_each(["v7", "v8", "nobody"]),
    "find": lambda log: (log.find("v7"), log.find("nobody")),
    "find_pruned": lambda log: (log.find_pruned("p7"), log.find_pruned("nobody")),
    "newest": lambda log: (log.newest("f"), log.newest("nobody")),
    "open_vects": lambda log: log.open_vects(),
    "planned": lambda log: (log.planned("daily"), log.planned("nobody")),
    "asked": lambda log: log.asked(),
    "answer": lambda log: log.answer(7),
    "ask_until": lambda log: log.ask_until(5, "v7", "cancel", {}),
    "take_back": lambda log: log.take_back(7),
    "forget_answer": lambda log: log.forget_answer(7),
    "is_asked_for": lambda log: log.is_asked_for(7),
    "claim": lambda log: log.claim(7),
    "done": lambda log: log.done(7, 7),
    "starts": lambda log: (log.starts("api"), log.starts("nobody")),
    "note_start": lambda log: log.note_start("api", at(9), at(8), None),
    "show": lambda log: log.show({"engine": {"pid": 7}}),
    "told": lambda log: log.told(),
    "holder": lambda log: log.holder(),
    "drive": lambda log: (log.drive(True), log.drive(False)),
    "is_current": lambda log: log.is_current,
    "is_old": lambda log: log.is_old,
    "version": lambda log: log.version,
    "newest_vects": lambda log: log.newest_vects(5),
    "newest_vects (of a flow)": lambda log: log.newest_vects(5, "f", ["success"], at(0)),
    "newest_skip": lambda log: (log.newest_skip("daily"), log.newest_skip("nobody")),
    "requests": lambda log: log.requests(),
    "settle": lambda log: log.settle(7, 7),
    "refuse": lambda log: log.refuse(7, "why"),
    "leave": lambda log: (log.refuse(7, "why"), log.leave(7)),
    "is_read_only": lambda log: log.is_read_only,
    "keeps_objects": lambda log: log.keeps_objects,
    "listen": lambda log: log.listen(bool),
    "position": lambda log: log.position("mail"),
    "keep_position": lambda log: log.keep_position("mail", 7),
    "given_up": lambda log: log.given_up("mail"),
    "keep_given_up": lambda log: log.keep_given_up("mail", GivenUp(7, "away", 1, NOON)),
    "forget_given_up": lambda log: log.forget_given_up("mail", 7),
    "text": lambda log: log.text(("v7", "s0", 1)),
    "at_once": lambda log: one_text(log),
    "keep_text": lambda log: log.keep_text(("v7", "s0", 1), LogBuffer(1000)),
    "save_text": lambda log: log.save_text(("v7", "s0", 1), bool),
    "close": lambda log: log.close(),
}
"""What concerns one Vect, event, plan or subscriber."""

ALL: dict[str, Callable[[Any], object]] = {
    "read": lambda log: log.read(),
    "read_each": lambda log: log.read_each(ids(log)),
    "vects": lambda log: log.vects(),
    "vects (of a flow)": lambda log: log.vects("f"),
    "newest_vects (all)": lambda log: log.newest_vects(None),
    "newest_vects (in a state that none is in)": lambda log: log.newest_vects(5, states=["failed"]),
    "pruned": lambda log: log.pruned(),
    "gaps": lambda log: log.gaps(),
    "verify": lambda log: log.verify(),
    "to_jsonl": lambda log: log.to_jsonl(log.path.with_name("all.jsonl")),
    "prune": lambda log: log.prune(at(10**9)),
}
"""What concerns them all."""


def named(operations: dict[str, Any]) -> set[str]:
    return {name.partition(" ")[0] for name in operations}


def test_every_operation_of_a_log_has_its_bound() -> None:
    public = {name for name in dir(SqliteEventLog) if name[0] != "_"}
    assert named(ONE) | named(ALL) == public - {"path", "ask"}  # `ask` is held below


def check_constant(few: Cost, many: Cost) -> None:
    assert many.steps <= few.steps * TOLERANCE + 5, (few, many)
    assert many.calls <= few.calls * TOLERANCE + 20, (few, many)


def check_linear(few: Cost, many: Cost) -> None:
    times = MANY / FEW * TOLERANCE
    assert many.steps <= few.steps * times, (few, many)
    assert many.calls <= few.calls * times, (few, many)


def opened(path: Path, content: bytes, **more: Any) -> SqliteEventLog:
    path.write_bytes(content)
    return SqliteEventLog(path, **more)


@pytest.mark.parametrize("name", ONE)
def test_what_concerns_one_costs_the_same_in_a_file_of_any_size(
    tmp_path: Path, files: dict[int, bytes], meter: Meter, name: str
) -> None:
    costs = []
    for vects, content in files.items():
        log = opened(tmp_path / f"{vects}.db", content)
        costs.append(meter.cost(lambda log=log: ONE[name](log)))
        log.close()
    check_constant(*costs)


@pytest.mark.parametrize("name", ALL)
def test_what_concerns_all_grows_as_they_do(
    tmp_path: Path, files: dict[int, bytes], meter: Meter, name: str
) -> None:
    costs = []
    for vects, content in files.items():
        log = opened(tmp_path / f"{vects}.db", content)
        costs.append(meter.cost(lambda log=log: ALL[name](log)))
        log.close()
    check_linear(*costs)


@pytest.mark.parametrize("read_only", [True, False])
def test_opening_a_file_costs_the_same_whatever_its_size(
    tmp_path: Path, large_files: dict[int, bytes], meter: Meter, read_only: bool
) -> None:
    costs = []
    for vects, content in large_files.items():
        path = tmp_path / f"{vects}.db"
        path.write_bytes(content)
        costs.append(meter.cost(lambda path=path: SqliteEventLog(path, read_only=read_only)))
    check_constant(*costs)


def test_asking_costs_the_same_in_a_file_of_any_size(
    tmp_path: Path, files: dict[int, bytes], meter: Meter
) -> None:
    costs = []
    for vects, content in files.items():
        log = opened(tmp_path / f"{vects}.db", content, read_only=True)
        costs.append(meter.cost(lambda log=log: log.ask("v7", "cancel")))
    check_constant(*costs)


IN_MEMORY = [name for name in ONE if hasattr(MemoryEventLog, name.partition(" ")[0])]


@pytest.mark.parametrize("name", IN_MEMORY)
def test_what_concerns_one_costs_the_same_in_memory(meter: Meter, name: str) -> None:
    costs = []
    for vects in (FEW, MANY):
        log = fill(MemoryEventLog(), vects)
        log.find("v7")  # what has come since somebody has asked is looked at once
        ONE["starts"](log)  # and so is a pool
        costs.append(meter.cost(lambda log=log: ONE[name](log)))
    check_constant(*costs)


@pytest.mark.parametrize("name", ["read", "read_each", "vects", "pruned", "gaps", "prune"])
def test_what_concerns_all_grows_as_they_do_in_memory(meter: Meter, name: str) -> None:
    costs = []
    for vects in (FEW, MANY):
        log = fill(MemoryEventLog(), vects)
        costs.append(meter.cost(lambda log=log: ALL[name](log)))
    check_linear(*costs)


@pytest.mark.parametrize("name", ["read", "read_each", "vects", "pruned", "to_jsonl"])
def test_no_reader_holds_a_transaction_for_long(
    tmp_path: Path, large_files: dict[int, bytes], meter: Meter, name: str
) -> None:
    """Else the engine cannot begin its write-ahead log anew."""
    costs = []
    for vects, content in large_files.items():
        log = opened(tmp_path / f"{vects}.db", content, read_only=True)
        costs.append(meter.cost(lambda log=log: ALL[name](log)))
    few, many = costs
    assert many.largest <= few.largest * TOLERANCE
    assert many.largest < 150_000 / INSTRUCTIONS


# An app


def app_of(log: EventLog) -> OAutom:
    app = OAutom(log=log, executor="inline")
    PythonExecution("s0", Flow("f", app), int)
    return app


APP_ONE: dict[str, Callable[[OAutom], object]] = {
    "vect": lambda app: app.vect("v7").status(),
    "vect (explained)": lambda app: app.vect("v7").explain("s0"),
    "vect (its result)": lambda app: app.vect("v7").result("s0"),
    "vect (its events)": lambda app: app.vect("v7").events(),
    "status": lambda app: app.status("f"),
    "start": lambda app: app.start("f", vect_id="v7"),
    "recover": lambda app: app.recover(),
    "plan": lambda app: app.plan("f", hours=1, name="daily"),
    "subscribe": lambda app: app.subscribe(lambda flow, event: None, name="mail").close(),
    "close": lambda app: app.close(),
    "backfill": lambda app: refused(lambda: app.backfill("f", "2026-11-01", "2026-11-02")),
}
APP_ALL: dict[str, Callable[[OAutom], object]] = {
    "vects": lambda app: app.vects(),
    "logs": lambda app: app.logs(),
    "prune": lambda app: app.prune(older_than=at(10**9)),
}
NOT_OF_LOG = {
    "aclose",
    "add",
    "configure",
    "astart",
    "run",
    "stop",
    "flow",
    "flows",
    "is_driven",
    "missing_secrets",
}


def test_every_operation_of_an_app_that_reads_its_log_has_its_bound() -> None:
    public = {name for name, _ in inspect.getmembers(OAutom) if name[0] != "_"}
    assert public - NOT_OF_LOG <= named(APP_ONE) | named(APP_ALL)


@pytest.mark.parametrize("name", [*APP_ONE, *APP_ALL])
def test_an_app_reads_no_more_than_it_needs(
    tmp_path: Path, files: dict[int, bytes], meter: Meter, name: str
) -> None:
    costs = []
    for vects, content in files.items():
        log = opened(tmp_path / f"{vects}.db", content)
        app = app_of(log)
        work = APP_ONE.get(name) or APP_ALL[name]
        costs.append(meter.cost(lambda app=app, work=work: work(app)))
        app.close()
        log.close()
    (check_constant if name in APP_ONE else check_linear)(*costs)


# A client


CLIENT: dict[str, Callable[[Client], object]] = {
    "engine": lambda client: client.engine,
    "vects": lambda client: client.vects(limit=5),
    "vects (of a flow)": lambda client: client.vects("f", "success", at(0), 5),
    "vect": lambda client: client.vect("v7").status(),
    "vect (explained)": lambda client: client.vect("open").explain("s0"),
    "vect (at an event)": lambda client: (view := client.vect("v7")).at(view.seq).steps,
    "waiting": lambda client: client.waiting(),
    "plans": lambda client: client.plans(),
    "follow": lambda client: list(client.follow(vect="v7")),
    "wait": lambda client: client.wait("v7"),
    "answer": lambda client: refused(lambda: client.answer(7)),
    **{
        name: lambda client, name=name: refused(lambda: getattr(client, name)("v7"))
        for name in ("cancel", "pause", "resume", "retry", "start")
    },
    "approve": lambda client: refused(lambda: client.approve("v7", "s0", "Ada")),
    "reject": lambda client: refused(lambda: client.reject("v7", "s0", "Ada")),
    "backfill": lambda client: refused(lambda: client.backfill("f", "2026-11-01", "2026-11-02")),
    "missing": lambda client: refused(lambda: client.missing("f", "2026-11-01", "2026-11-02")),
    "events": lambda client: client.events(0, "v7", 5),
    "text": lambda client: client.text("v7", "s0", 1),
    "at_once": lambda client: looked_at_once(client),
    "log_id": lambda client: client.log_id,
    "seq": lambda client: client.seq,
    "past": lambda client: client.past("f"),
    "time_left": lambda client: client.time_left("open"),
    "working": lambda client: client.working(),
}


def looked_at_once(client: Client) -> None:
    with client.at_once():
        client.text("v7", "s0", 1)


def refused(ask: Callable[[], object]) -> None:
    with pytest.raises(OAutomError):
        ask()


def test_every_operation_of_a_client_has_its_bound() -> None:
    assert {name for name in dir(Client) if name[0] != "_"} == named(CLIENT)


@pytest.mark.parametrize("name", CLIENT)
def test_what_a_client_does_costs_the_same_in_a_file_of_any_size(
    tmp_path: Path, files: dict[int, bytes], meter: Meter, name: str
) -> None:
    costs = []
    for vects, content in files.items():
        path = tmp_path / f"{vects}.db"
        path.write_bytes(content)
        client = Client(path)
        client.vects(limit=1)  # the file is opened once
        costs.append(meter.cost(lambda client=client: CLIENT[name](client)))
    check_constant(*costs)
