"""The logs: append, commit, read. What is asked of one in memory is asked of one in a file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import oautom
from oautom import (
    Event,
    EventLog,
    Flow,
    GivenUp,
    LogError,
    MemoryEventLog,
    NotJsonError,
    OAutom,
    PythonExecution,
    SettingError,
    SqliteEventLog,
)
from oautom.events import PrunedVect, VectEntry
from oautom.testing import check_history
from tests.kit import NOON, created, event, started, step_started, step_succeeded

Log = MemoryEventLog | SqliteEventLog
New = Callable[[], Log]


@pytest.fixture(params=["memory", "sqlite"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[New]:
    """What makes a new log of one kind."""
    made: list[Log] = []

    def make() -> Log:
        if request.param == "memory":
            made.append(MemoryEventLog())
        else:
            path = tmp_path / f"{len(made)}.db"
            made.append(SqliteEventLog(path, synchronous="NORMAL"))
        return made[-1]

    yield make
    for log in made:
        log.close()


@pytest.fixture
def log(new: New) -> Log:
    return new()


def fill(log: Log, *, committed: int, appended: int = 0) -> Log:
    """Write events 1, 2, 3, ... of two Vects in turn."""
    for seq in range(1, committed + 1):
        log.append(None, started(seq, vect="vw"[seq % 2]))
    log.commit()
    for seq in range(committed + 1, committed + appended + 1):
        log.append(None, started(seq, vect="vw"[seq % 2]))
    return log


def seqs(events) -> list[int]:
    return [event.seq for event in events]


def test_a_new_log_is_empty(log: Log) -> None:
    assert (log.last_seq, log.committed_seq) == (0, 0)
    assert list(log.read()) == []
    assert list(log.commit()) == []
    assert (log.vects(), log.pruned(), log.gaps(), log.requests()) == ([], [], [], [])
    assert log.position("nobody") is None


def test_readers_see_what_is_committed_and_nothing_else(log: Log) -> None:
    fill(log, committed=2, appended=3)

    assert (log.last_seq, log.committed_seq) == (5, 2)
    assert seqs(log.read()) == [1, 2]
    assert seqs(log.read(upto=5)) == [1, 2]


def test_a_commit_returns_what_was_appended_since_the_last_one(log: Log) -> None:
    fill(log, committed=2, appended=3)

    assert seqs(log.commit()) == [3, 4, 5]
    assert seqs(log.commit()) == []
    assert seqs(log.read()) == [1, 2, 3, 4, 5]


def test_what_a_subscriber_has_given_up_is_kept_once_for_each_event(log: Log) -> None:
    fill(log, committed=5)
    for given_up in (
        GivenUp(4, "a", 3, NOON),
        GivenUp(2, "b\n", 1, NOON),
        GivenUp(4, "c", 4, NOON),
    ):
        log.keep_given_up("mail", given_up)
    log.keep_given_up("bill", GivenUp(1, "d", 1, NOON))

    assert log.given_up("mail") == [GivenUp(2, "b\n", 1, NOON), GivenUp(4, "c", 4, NOON)]
    log.forget_given_up("mail", 4)
    log.forget_given_up("mail", 1)
    assert log.given_up("mail") == [GivenUp(2, "b\n", 1, NOON)]
    assert log.given_up("bill") == [GivenUp(1, "d", 1, NOON)]
    assert log.given_up("nobody") == []


def test_what_is_given_up_goes_with_the_events_that_are_pruned(log: Log) -> None:
    for each in (
        created(1, {}, "old"), started(2, "old"), event(3, "vect.succeeded", "running", "success",
        vect="old"), created(4, {}, "new"),
    ):  # fmt: skip
        log.append(None, each)
    log.commit()
    for seq in (2, 3, 4):
        log.keep_given_up("mail", GivenUp(seq, "away", 1, NOON))
    log.prune(NOON + timedelta(days=1))

    assert [given_up.seq for given_up in log.given_up("mail")] == [4]


def test_positions_and_what_is_given_up_are_kept_in_a_closed_log(log: Log) -> None:
    fill(log, committed=3)
    log.keep_position("mail", 1)
    log.close()
    log.keep_position("mail", 2)
    log.keep_position("new", 1)
    log.keep_given_up("mail", GivenUp(2, "away", 1, NOON))
    log.keep_given_up("mail", GivenUp(3, "away", 1, NOON))
    log.forget_given_up("mail", 3)

    assert (log.position("mail"), log.position("new")) == (2, 1)
    assert log.given_up("mail") == [GivenUp(2, "away", 1, NOON)]
    if isinstance(log, SqliteEventLog):
        with closing(SqliteEventLog(log.path)) as next_life:
            next_life.verify()
            next_life.keep_position("mail", 3)
            log.keep_position("mail", 2)
            assert next_life.position("mail") == 3
            with pytest.raises(LogError, match="open for reading only"):
                SqliteEventLog(log.path, read_only=True).keep_given_up(
                    "mail", GivenUp(2, "away", 1, NOON)
                )


class Smallest(EventLog):
    """What a log of a user's own must have, and no more."""

    id = "mine"
    last_seq = 0
    committed_seq = 0

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, sender: object, event: Event) -> None:
        self.events.append(event)
        self.last_seq = event.seq

    def commit(self) -> list[Event]:
        new = self.events[self.committed_seq :]
        self.committed_seq = self.last_seq
        return new

    def read(
        self, after: int = 0, upto: int | None = None, vect: str | None = None
    ) -> Iterator[Event]:
        for each in self.events[after : self.committed_seq if upto is None else upto]:
            if vect in (None, each.vect):
                yield each


def test_a_log_of_a_users_own_needs_five_members_and_an_id(tmp_path: Path) -> None:
    log = Smallest()
    with OAutom(log=log, executor="inline") as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, lambda: 42) >> PythonExecution("b", flow, lambda: {1})
        vect = app.run(flow)
        app.plan(flow, days=1, name="daily")
        app.run(flow)

    assert (vect.state, vect.result("a"), len(vect.events())) == ("failed", 42, 7)
    assert "cannot be kept" in str(vect.steps["b"].error)
    assert [entry.state for entry in log.vects()] == ["failed", "failed"]
    assert log.planned("daily") is not None
    assert (log.asked(), log.requests(), log.pruned(), log.gaps()) == ([], [], [], [])
    assert (log.position("a"), log.given_up("a")) == (None, [])
    log.listen(lambda: None)
    log.to_jsonl(tmp_path / "all.jsonl")
    assert list(MemoryEventLog.from_jsonl(tmp_path / "all.jsonl").read()) == log.events


@pytest.mark.parametrize(
    ("method", "use"),
    [
        ("discard", lambda log: log.discard()),
        ("keep_position", lambda log: log.keep_position("a", 1)),
        ("keep_given_up", lambda log: log.keep_given_up("a", GivenUp(1, "", 1, NOON))),
        ("forget_given_up", lambda log: log.forget_given_up("a", 1)),
        ("prune", lambda log: log.prune(NOON)),
    ],
)
def test_a_log_says_what_it_lacks_when_it_is_asked_for(method: str, use: Any) -> None:
    with pytest.raises(LogError, match=rf"^Smallest has no {method}\(\); write that method"):
        use(Smallest())


def test_a_log_in_memory_of_a_users_own_keeps_every_value() -> None:
    log = Smallest()
    log.check_value([1])
    with pytest.raises(NotJsonError):
        log.check_value({1})
    log.id = None  # type: ignore[assignment]
    log.check_value({1})


def test_a_log_that_outlives_its_program_goes_on_and_tells_what_it_cannot(tmp_path: Path) -> None:
    calls: list[str] = []

    def work(name: str) -> str:
        calls.append(name)
        return name

    def declared(log: Smallest) -> OAutom:
        app = OAutom(log=log, executor="inline")
        flow = Flow("f", app)
        PythonExecution("a", flow, work, ("a",)) >> PythonExecution("b", flow, work, ("b",))
        return app

    first = Smallest()
    with declared(first) as app:
        app.run("f", vect_id="v")
    left = Smallest()  # as a program leaves it that is killed while step b runs
    left.events = first.events[:5]
    left.last_seq = left.committed_seq = 5
    assert [event.name for event in left.events[3:]] == ["step.succeeded", "step.started"]
    with declared(left) as app:
        vect = app.run("f", vect_id="v")
        assert (vect.state, vect.result("a"), calls) == ("success", "a", ["a", "b", "b"])
        assert [each.id for each in app.vects()] == ["v"]
        with pytest.raises(LogError, match=r"^Smallest has no prune\(\); write that method"):
            app.prune(older_than=timedelta(0))
        with pytest.raises(LogError, match=r"^Smallest has no keep_position\(\); write that"):
            app.subscribe(lambda flow, event: None, name="mail")
        assert app.vect("v").state == "success"
    check_history(left.read())


@pytest.mark.parametrize("name", ["last_seq", "committed_seq", "append", "commit", "read"])
@pytest.mark.parametrize("base", [EventLog, object])
def test_a_log_is_told_which_of_its_five_members_is_missing(name: str, base: type) -> None:
    members = {key: value for key, value in vars(Smallest).items() if key[:2] != "__"}
    del members[name]
    kind = type("Half", (base,), {**members, "__repr__": lambda self: "<half>"})
    with pytest.raises(SettingError) as refused:
        OAutom(log=kind())
    is_no_log = base is object and name in ("append", "commit")
    assert str(refused.value) == (
        "log must be None, a path or an EventLog, not <half>"
        if is_no_log
        else f"the log <half> has no {name}, which every log needs; define it in class Half"
    )


@pytest.mark.parametrize("name", ["append", "commit", "read"])
def test_a_member_of_a_log_that_cannot_be_called_is_refused(name: str) -> None:
    log = Smallest()
    setattr(log, name, 3)
    with pytest.raises(SettingError, match=f"^{name} of the log .* must be a method"):
        OAutom(log=log)


def test_what_is_missing_is_said_whoever_asks() -> None:
    for use in (lambda log: log.append(None, started(1)), EventLog.commit, EventLog.read):
        with pytest.raises(LogError, match=r"^EventLog has no (append|commit|read)\(\)"):
            use(EventLog())


def test_the_members_of_a_log_may_be_made_by_its_init() -> None:
    class Made(EventLog):
        def __init__(self) -> None:
            memory = MemoryEventLog()
            self.id, self.last_seq, self.committed_seq = "made", 0, 0
            self.keeps_objects = False
            self.append, self.commit, self.read = memory.append, memory.commit, memory.read

    with OAutom(log=Made()) as app:
        assert app.vects() == []


OLD_MEMBERS = """
last_seq committed_seq id append commit check_value read vects planned listen asked requests
position keep_position prune pruned gaps to_jsonl close
"""


def old_log(*missing: str) -> Any:
    """A log that inherits from nothing, and has what was needed once."""
    memory = MemoryEventLog()

    class Old:
        def __getattr__(self, name: str) -> Any:
            if name in OLD_MEMBERS.split() and name not in missing:
                return getattr(memory, name)
            raise AttributeError(name)

        def __repr__(self) -> str:
            return "<old>"

    return Old()


def test_a_log_that_inherits_from_nothing_is_taken_as_before() -> None:
    log = old_log()
    with OAutom(log=log, executor="inline") as app:
        PythonExecution("a", Flow("f", app), lambda: 42)
        assert app.run("f").state == "success"
        with app.subscribe(lambda flow, event: None, name="s", after=0) as subscription:
            assert subscription.wait(10)
    assert log.position("s") == log.last_seq


@pytest.mark.parametrize("missing", [*OLD_MEMBERS.split()[7:], "check_value", "id"])
def test_what_a_log_lacks_that_inherits_from_nothing_is_made_of_the_rest(missing: str) -> None:
    log = old_log(missing)
    with OAutom(log=log, executor="inline") as app:
        assert app.log is log
        PythonExecution("a", Flow("f", app), lambda: 42)
        assert app.run("f").state == "success"
        assert [vect.state for vect in app.vects()] == ["success"]
        assert app.plan("f", days=1).name
        if missing == "keep_position":
            with pytest.raises(LogError, match=r"^Old has no keep_position\(\)"):
                app.subscribe(lambda flow, event: None, name="s")


def test_a_log_without_numbers_is_refused() -> None:
    log = MemoryEventLog()
    log.last_seq = None  # type: ignore[assignment]
    with pytest.raises(SettingError, match=r"last_seq of the log .* must be the number"):
        OAutom(log=log)


def test_what_is_discarded_has_never_been(log: Log) -> None:
    fill(log, committed=2, appended=3)
    log.discard()

    assert (log.last_seq, log.committed_seq) == (2, 2)
    assert list(log.commit()) == []
    log.append(None, started(3, vect="x"))
    assert seqs(log.commit()) == [3]
    assert [event.vect for event in log.read()] == ["w", "v", "x"]
    if isinstance(log, SqliteEventLog):
        log.verify()


def test_there_need_not_be_anything_to_discard(log: Log) -> None:
    log.discard()
    fill(log, committed=2)
    log.discard()

    assert (log.last_seq, seqs(log.read())) == (2, [1, 2])


def test_a_closed_log_discards_nothing(log: Log) -> None:
    fill(log, committed=1)
    log.close()

    with pytest.raises(LogError, match="is closed"):
        log.discard()


def test_what_a_commit_has_returned_does_not_grow(log: Log) -> None:
    fill(log, committed=0, appended=2)
    committed = log.commit()

    log.append(None, started(3))
    log.commit()

    assert seqs(committed) == [1, 2]


def test_a_reader_who_has_begun_sees_what_there_was_then(log: Log) -> None:
    fill(log, committed=2)
    reading = log.read()
    first = next(reading)

    log.append(None, started(3))
    log.commit()

    assert seqs([first, *reading]) == [1, 2]


@pytest.mark.parametrize("seq", [0, 1, 2, 4])
def test_an_event_that_is_not_the_next_one_is_refused(log: Log, seq: int) -> None:
    fill(log, committed=2)

    with pytest.raises(LogError, match=f"^event {seq} cannot follow event 2$"):
        log.append(None, started(seq))

    assert log.last_seq == 2
    assert list(log.commit()) == []


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"after": 0}, [1, 2, 3, 4, 5, 6]),
        ({"after": 2}, [3, 4, 5, 6]),
        ({"after": 6}, []),
        ({"after": 99}, []),
        ({"after": -1}, [1, 2, 3, 4, 5, 6]),
        ({"upto": 2}, [1, 2]),
        ({"upto": 0}, []),
        ({"upto": -1}, []),
        ({"upto": 99}, [1, 2, 3, 4, 5, 6]),
        ({"after": 2, "upto": 4}, [3, 4]),
        ({"after": 4, "upto": 2}, []),
        ({"vect": "v"}, [2, 4, 6]),
        ({"vect": "w", "after": 1, "upto": 5}, [3, 5]),
        ({"vect": "x"}, []),
    ],
)
def test_a_part_can_be_read(log: Log, asked, expected) -> None:
    assert seqs(fill(log, committed=6).read(**asked)) == expected


def test_a_closed_log_takes_no_more_and_can_still_be_read(log: Log) -> None:
    fill(log, committed=2)
    log.close()
    log.close()

    with pytest.raises(LogError, match=r"^event 3 comes after the log was closed$"):
        log.append(None, started(3))

    assert log.last_seq == 2
    assert seqs(log.read()) == [1, 2]
    assert [entry.id for entry in log.vects()] == ["w", "v"]


def test_equal_events_are_returned(log: Log) -> None:
    first = created(1, {"a": ()})
    log.append("whoever sends it", first)

    assert log.commit()[0] == first
    assert next(log.read()) == first


def test_what_a_reader_does_is_not_done_to_the_log(log: Log) -> None:
    output = {"rows": [1]}
    log.append(None, started(1))
    log.append(None, step_succeeded(2, "a", output))
    output["rows"].append(2)  # as a step may whose output is in use
    log.commit()
    next(log.read(after=1)).data["output"]["rows"].clear()
    next(log.read(after=1)).data["output"].clear()

    assert next(log.read(after=1)).data["output"] == {"rows": [1]}


def test_what_is_read_cannot_be_changed(log: Log) -> None:
    log.append(None, created(1, {"a": ()}))
    log.commit()
    (read,) = log.read()

    with pytest.raises(TypeError):
        read.data["graph"] = {}  # type: ignore[index]


# Vects


def run_of(vect: str, first: int, *, is_open: bool = False) -> list[Any]:
    """The events of a Vect with one step, the first of them with this number."""
    events = [
        created(first, {"a": ()}, vect=vect),
        started(first + 1, vect=vect),
        step_started(first + 2, "a", vect=vect),
        step_succeeded(first + 3, "a", vect=vect),
        event(first + 4, "vect.succeeded", "running", "success", vect=vect),
    ]
    return events[:3] if is_open else events


def write(log: Log, *events: Any) -> None:
    for each in events:
        log.append(None, each)
    log.commit()


def after_noon(seconds: int) -> Any:
    return NOON + timedelta(seconds=seconds)


def test_vects_are_told_by_their_own_events(log: Log) -> None:
    write(log, *run_of("z", 1), *run_of("a", 6, is_open=True))

    assert log.vects() == [
        VectEntry("z", "f", "success", 1, after_noon(1), after_noon(5)),
        VectEntry("a", "f", "running", 6, after_noon(6), after_noon(7)),
    ]
    assert log.vects("f") == log.vects()
    assert log.vects("another flow") == []


def test_what_is_not_committed_is_no_vect_yet(log: Log) -> None:
    log.append(None, created(1, {"a": ()}))
    assert log.vects() == []


# Positions of subscribers


def test_the_position_of_a_subscriber_is_kept(log: Log) -> None:
    log.keep_position("billing", 3)
    log.keep_position("mail", 1)
    log.keep_position("billing", 5)

    assert (log.position("billing"), log.position("mail")) == (5, 1)


# Times


def test_an_event_without_a_time_zone_is_refused_by_a_file(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "runs.db")
    wrong = msgspec.structs.replace(started(1), time=NOON.replace(tzinfo=None))
    with pytest.raises(LogError, match="event 1 has a time without time zone"):
        log.append(None, wrong)
    log.close()


@pytest.mark.parametrize(
    ("module", "name"), [("sqlite3", "SqliteEventLog"), ("oautom.client", "Client")]
)
def test_what_not_everybody_needs_is_imported_only_where_it_is_used(module: str, name: str) -> None:
    code = (
        "import sys; before = set(sys.modules); import oautom; "
        f"print({module!r} in set(sys.modules) - before, oautom.{name}.__name__)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed == f"False {name}\n"


@pytest.mark.parametrize("module", [oautom, oautom.events])
def test_there_are_no_other_names(module: Any) -> None:
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'no'"):
        module.no  # noqa: B018


# Pruning


def test_old_vects_are_taken_out_with_all_their_events(log: Log) -> None:
    write(log, *run_of("old", 1), *run_of("new", 6))

    (gone,) = log.prune(after_noon(10))

    assert gone == PrunedVect("old", "f", "success", 1, 5, 5, after_noon(5), gone.pruned)
    assert seqs(log.read()) == [6, 7, 8, 9, 10]
    assert seqs(log.read(vect="old")) == []
    assert [entry.id for entry in log.vects()] == ["new"]
    assert (log.pruned(), log.gaps()) == ([gone], [(1, 5)])
    assert log.prune(after_noon(10)) == []


def test_a_vect_that_ended_at_the_very_instant_stays(log: Log) -> None:
    write(log, *run_of("v", 1))
    assert log.prune(after_noon(5)) == []


def test_a_vect_that_has_not_ended_stays_however_old(log: Log) -> None:
    write(log, *run_of("open", 1, is_open=True))
    assert log.prune(after_noon(99)) == []
    assert seqs(log.read()) == [1, 2, 3]


def test_vects_can_be_kept(log: Log) -> None:
    write(log, *run_of("v", 1), *run_of("w", 6))
    assert [gone.id for gone in log.prune(after_noon(99), keep=["v"])] == ["w"]


def test_a_vect_about_which_something_is_appended_stays(log: Log) -> None:
    write(log, *run_of("v", 1))
    log.append(None, event(6, "step.late_result", "success", "success", step="a", attempt=1))
    assert log.prune(after_noon(99)) == []
    log.commit()
    assert seqs(log.read()) == [1, 2, 3, 4, 5, 6]


def test_gaps_that_touch_each_other_are_one(log: Log) -> None:
    write(log, *run_of("a", 1), *run_of("b", 6), *run_of("c", 11), *run_of("d", 16))

    log.prune(after_noon(99), keep="acd")
    assert log.gaps() == [(6, 10)]
    log.prune(after_noon(99), keep="ac")
    assert log.gaps() == [(6, 10), (16, 20)]
    log.prune(after_noon(99), keep="a")
    assert log.gaps() == [(6, 20)]
    assert [gone.id for gone in log.pruned()] == ["b", "c", "d"]
    assert seqs(log.read()) == [1, 2, 3, 4, 5]


def test_numbers_are_never_used_again(log: Log) -> None:
    write(log, *run_of("v", 1))
    log.prune(after_noon(99))

    assert log.last_seq == 5
    write(log, *run_of("v", 6))  # another one of the same id
    assert seqs(log.read(vect="v")) == [6, 7, 8, 9, 10]
    assert seqs(log.read(after=3, upto=7)) == [6, 7]


@pytest.mark.parametrize("instant", [None, 3, "2026-11-24", NOON.replace(tzinfo=None)])
def test_what_is_no_instant_is_refused(log: Log, instant: Any) -> None:
    with pytest.raises(SettingError, match="older_than must be a datetime with a time zone"):
        log.prune(instant)
