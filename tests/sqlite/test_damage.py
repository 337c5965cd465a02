"""A file that is not what was written, or no log at all: it is said to be so, and left alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oautom import LogCorruptError, LogError, LogVersionError, SqliteEventLog
from oautom.events import VectEntry
from oautom.machine.event import Event

from .logs import make, reader, run_of, runs, write

EVENTS = runs("one", "two", "three", steps=3, output={"rows": [1, 2.5, "ü"]})


numbers = st.integers(0, 10**6)  # of a place: how many there are differs from file to file


class Whole(NamedTuple):
    """A sound file, what is in it, and a path to put damaged copies."""

    content: bytes
    vects: list[VectEntry]
    path: Path

    def __repr__(self) -> str:
        return "whole"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("damage")
    path = make(folder / "whole.db", EVENTS)
    return Whole(path.read_bytes(), reader(path).vects(), folder / "damaged.db")


def all_of(log: SqliteEventLog) -> tuple[list[Event], list[VectEntry], list[Event]]:
    """Return all that can be read of a log."""
    vects = log.vects()
    by_vect = [event for entry in vects for event in log.read(vect=entry.id)]
    return list(log.read()), vects, by_vect


def read_all(path: Path, *, read_only: bool) -> tuple[list[Event], list[VectEntry], list[Event]]:
    """Return all that can be read of a file."""
    with closing(SqliteEventLog(path, read_only=read_only)) as log:
        return all_of(log)


def hold(whole: Whole, content: bytes) -> None:
    """A damaged file is refused and left as it was, or nothing of what was written is lost.

    What is not looked at as a log is opened is told where it is read; by then a log that is open
    for writing has noted its name.
    """
    for read_only in (True, False):
        whole.path.write_bytes(content)
        may_be_written = False
        try:
            with closing(SqliteEventLog(whole.path, read_only=read_only)) as log:
                may_be_written = not read_only
                found = all_of(log)
        except (LogCorruptError, LogVersionError):
            assert may_be_written or whole.path.read_bytes() == content
        else:
            assert found == (EVENTS, whole.vects, EVENTS)
        assert {each.name for each in whole.path.parent.iterdir()} <= {"whole.db", "damaged.db"}


def test_a_sound_file_is_read(whole: Whole) -> None:
    hold(whole, whole.content)
    assert len(EVENTS) == 27


@settings(deadline=None, max_examples=150)
@example(number=18, among_used=False, bit=0)  # the header: of a format that SQLite only reads
@given(number=numbers, among_used=st.booleans(), bit=st.integers(0, 7))
def test_a_flipped_bit_is_told_or_changes_nothing(
    whole: Whole, number: int, among_used: bool, bit: int
) -> None:
    used = [place for place, byte in enumerate(whole.content) if byte]
    places = used if among_used else range(len(whole.content))
    damaged = bytearray(whole.content)
    damaged[places[number % len(places)]] ^= 1 << bit
    hold(whole, bytes(damaged))


def test_each_byte_of_what_is_kept_of_a_vect_counts(whole: Whole) -> None:
    kept = b"threefsuccess2026-11-24T12:00:19"
    for at in range(len(kept)):
        damaged = bytearray(whole.content)
        damaged[whole.content.index(kept) + at] ^= 2
        hold(whole, bytes(damaged))


@settings(deadline=None, max_examples=50)
@given(number=numbers, filler=st.sampled_from([b"\0", b"\xff", None]))
def test_a_page_that_was_never_written_is_told_or_changes_nothing(
    whole: Whole, number: int, filler: bytes | None
) -> None:
    content, page = whole.content, number % (len(whole.content) // 4096 - 1) * 4096 + 4096
    other = content[4096:8192] if filler is None else filler * 4096
    hold(whole, content[:page] + other + content[page + 4096 :])


@settings(deadline=None, max_examples=60)
@given(number=numbers, step=st.sampled_from([1, 4096]))
def test_a_file_that_is_cut_short_is_refused(whole: Whole, number: int, step: int) -> None:
    length = number % (len(whole.content) // step - 1) * step + step
    for read_only in (True, False):
        whole.path.write_bytes(whole.content[:length])
        with pytest.raises(LogCorruptError, match="is damaged"):
            read_all(whole.path, read_only=read_only)
        assert whole.path.read_bytes() == whole.content[:length]


def test_a_file_whose_last_byte_is_missing_is_refused(whole: Whole) -> None:
    whole.path.write_bytes(whole.content[:-1])
    with pytest.raises(LogCorruptError, match="its last page is cut short"):
        SqliteEventLog(whole.path)


CHANGES = {
    "an output": ("UPDATE events SET data = replace(data, '2.5', '2.6') WHERE seq = 4", 4),
    "a state": ("UPDATE events SET dest = 'failed' WHERE seq = 4", 4),
    "a name": ("UPDATE events SET name = 'step.failed' WHERE seq = 4", 4),
    "an attempt": ("UPDATE events SET attempt = NULL WHERE seq = 4", 4),
    "a type": ("UPDATE events SET data = CAST(data AS BLOB) WHERE seq = 4", 4),
    "a text that is none": ("UPDATE events SET flow = CAST(X'ff' AS TEXT) WHERE seq = 4", None),
    "a checksum": ("UPDATE events SET crc = crc + 1 WHERE seq = 4", 4),
    "an event that is gone": ("DELETE FROM events WHERE seq = 4", 4),
    "the first event is gone": ("DELETE FROM events WHERE seq = 1", 1),
    "the last event is gone": ("DELETE FROM events WHERE seq = 27", 27),
    "the end is gone": ("DELETE FROM events WHERE seq > 20", 27),
    "all is gone": ("DELETE FROM events", 27),
    "a number": ("UPDATE events SET seq = 40 WHERE seq = 27", 39),
    "the id": ("UPDATE meta SET value = 'x' WHERE name = 'id'", 1),
    "no id": ("DELETE FROM meta WHERE name = 'id'", None),
    "the head": ("UPDATE meta SET value = 'x' WHERE name = 'head'", None),
    "a gap": ("INSERT INTO gaps VALUES (30, 29, 0)", 28),
}


@pytest.mark.parametrize(("change", "seq"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("read_only", [True, False])
def test_a_change_by_hand_is_told(
    whole: Whole, change: str, seq: int | None, read_only: bool
) -> None:
    whole.path.write_bytes(whole.content)
    with closing(sqlite3.connect(whole.path)) as connection:
        connection.execute(change)
        connection.commit()
    before = whole.path.read_bytes()
    with pytest.raises(LogCorruptError) as caught:
        read_all(whole.path, read_only=read_only)
    assert caught.value.seq == seq
    assert caught.value.path == str(whole.path)
    assert seq is None or f"event {seq} " in str(caught.value)
    assert whole.path.read_bytes() == before


def test_damage_far_back_is_found_by_verify_and_by_whoever_reads_it(tmp_path: Path) -> None:
    vects = [f"v{i}" for i in range(300)]
    path = make(tmp_path / "runs.db", runs(*vects))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE events SET dest = 'failed' WHERE seq = 4")
        connection.commit()

    log = SqliteEventLog(path)
    assert len(log.vects()) == 300
    for read in (log.verify, lambda: list(log.read()), lambda: list(log.read(vect="v0"))):
        with pytest.raises(LogCorruptError, match="event 4 is not what was written") as caught:
            read()
        assert caught.value.seq == 4
    assert len(list(log.read(vect="v1"))) == 5
    log.close()


def test_an_open_vect_is_verified_however_far_back_its_events_are(tmp_path: Path) -> None:
    events = [*runs("open")[:3]]
    for number in range(300):
        events += run_of(f"v{number}", len(events) + 1)
    path = make(tmp_path / "runs.db", events)
    with closing(sqlite3.connect(path)) as connection:  # what was an answer is one no more
        connection.execute("UPDATE events SET vect = 'v7' WHERE seq = 3")
        connection.commit()

    with pytest.raises(LogCorruptError, match="its summary of vect open does not agree with"):
        SqliteEventLog(path)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET vect = 'v7' WHERE seq = 4",
        "UPDATE vects SET events = 4 WHERE vect = 'v0'",
        "UPDATE vects SET first_seq = 0 WHERE vect = 'v0'",
        "UPDATE vects SET vect = 'v0 ' WHERE vect = 'v0'",
    ],
)
def test_an_event_that_its_vect_has_lost_is_missed_far_back_too(
    tmp_path: Path, change: str
) -> None:
    path = make(tmp_path / "runs.db", runs(*(f"v{i}" for i in range(300))))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(change)
        connection.commit()
    with closing(SqliteEventLog(path)) as log:
        with pytest.raises(LogCorruptError):
            log.verify()
        if "UPDATE events" in change or "SET events" in change:
            for read in (log.read(vect="v0"), log.read_each(["v0", "v1"])):
                with pytest.raises(LogCorruptError, match="its summary of vect v0 does not agree"):
                    list(read)
        assert len(list(log.read(vect="v1"))) == 5


def test_an_index_that_says_something_else_than_its_table_is_told(tmp_path: Path) -> None:
    path = make(tmp_path / "runs.db", runs("one", "two"))
    whole = path.read_bytes()
    for place in [at for at in range(len(whole)) if whole.startswith(b"two", at)]:
        path.write_bytes(whole[:place] + b"twx" + whole[place + 3 :])
        with pytest.raises(LogCorruptError), closing(SqliteEventLog(path)) as log:
            log.verify()


def test_an_index_with_an_entry_too_many_is_told(tmp_path: Path) -> None:
    path = make(tmp_path / "runs.db", [*runs("one"), *run_of("two", 6)[:2]])
    content = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM events WHERE seq = 7")
        connection.execute("DELETE FROM meta WHERE name = 'head'")
        connection.execute("UPDATE vects SET events = 1, state = 'pending', changed = created")
        connection.execute("UPDATE vects SET events = 5, state = 'success' WHERE vect = 'one'")
        connection.execute(
            "UPDATE vects SET changed = (SELECT time FROM events WHERE seq = 5) WHERE vect = 'one'"
        )
        connection.commit()
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name LIKE 'events_of%'")
        ((page,),) = root.fetchall()
    now, start, end = path.read_bytes(), (page - 1) * 4096, page * 4096
    path.write_bytes(now[:start] + content[start:end] + now[end:])

    with pytest.raises(LogCorruptError, match="the index of vects is wrong at event 7"):
        SqliteEventLog(path)


FOREIGN: dict[str, Callable[[Path], object]] = {
    "a text": lambda path: path.write_text("my notes\n" * 500),
    "a short text": lambda path: path.write_text("my notes\n"),
    "one byte": lambda path: path.write_bytes(b"x"),
    "zeros": lambda path: path.write_bytes(bytes(8192)),
    "a database": lambda path: _foreign(path, "CREATE TABLE notes (note TEXT)"),
    "a database like a log": lambda path: _foreign(path, "CREATE TABLE events (seq INTEGER)"),
    "an empty database of a program": lambda path: _foreign(path, "PRAGMA application_id=7"),
}


def _foreign(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


@pytest.mark.parametrize("fill", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("read_only", [True, False])
def test_what_is_no_log_is_refused_and_left_as_it_was(
    tmp_path: Path, fill: Callable[[Path], object], read_only: bool
) -> None:
    path = tmp_path / "notes"
    fill(path)
    before = path.read_bytes()

    told = "is damaged: (file is not a database|it is a database of another program)"
    with pytest.raises(LogCorruptError, match=told):
        SqliteEventLog(path, read_only=read_only)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["notes"]


def test_a_database_that_its_program_has_open_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE notes (note TEXT)")
        before = path.read_bytes()
        with pytest.raises(LogCorruptError, match="it is a database of another program"):
            SqliteEventLog(path)
        assert path.read_bytes() == before
        connection.execute("INSERT INTO notes VALUES ('mine')")


def test_a_table_that_is_not_as_made_is_told(tmp_path: Path) -> None:
    path = make(tmp_path / "runs.db", runs("v"))
    _foreign(path, "DROP INDEX events_of_vect")
    with pytest.raises(LogCorruptError, match="its table or index 'events_of_vect' has changed"):
        SqliteEventLog(path)


def test_a_version_that_cannot_be_is_told(tmp_path: Path) -> None:
    path = make(tmp_path / "runs.db", runs("v"))
    _foreign(path, "PRAGMA user_version=0")
    with pytest.raises(LogCorruptError, match="it cannot have version 0"):
        SqliteEventLog(path)


def test_tables_of_your_own_do_not_matter(tmp_path: Path) -> None:
    path = make(tmp_path / "runs.db", runs("v"))
    _foreign(path, "CREATE VIEW failures AS SELECT * FROM events WHERE dest = 'failed'")
    log = SqliteEventLog(path)
    write(log, run_of("w", 6))
    log.close()


def test_an_error_of_the_log_is_never_one_of_sqlite(whole: Whole) -> None:
    whole.path.write_bytes(whole.content[:5000])
    for read_only in (True, False):
        with suppress(LogError):
            read_all(whole.path, read_only=read_only)
