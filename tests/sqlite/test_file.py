"""A log in a file: made, closed, opened again, by this version of oautom and by others."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    GivenUp,
    LogCorruptError,
    LogError,
    LogVersionError,
    NotJsonError,
    SettingError,
    SqliteEventLog,
    ValueTooLargeError,
)
from oautom.events.jsonl import to_line
from oautom.events.sqlite import file as database

from .logs import NOON, event, files_of, in_fork, make, reader, run_of, runs, write

NEWEST = len(database.MIGRATIONS)
FILES = Path(__file__).parents[1] / "golden" / "files"
"""A file as oautom 0.1.0 made it, written out as SQL: it must be opened for ever."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def test_a_log_goes_on_where_it_was_closed(path: Path) -> None:
    events = runs("v", "w")
    make(path, events[:3])

    log = SqliteEventLog(path)
    assert log.last_seq == 3
    write(log, events[3:])
    log.verify()
    log.close()

    assert list(reader(path).read()) == events


def test_what_was_not_committed_is_not_there(path: Path) -> None:
    events = runs("v")
    log = SqliteEventLog(path)
    write(log, events[:2])
    log.append(None, events[2])
    log.close()

    log = SqliteEventLog(path)
    assert (log.last_seq, list(log.read())) == (2, events[:2])
    write(log, events[2:])
    log.verify()
    log.close()


def test_an_open_log_has_files_beside_it_and_a_closed_one_has_none(path: Path) -> None:
    log = SqliteEventLog(path)
    write(log, runs("v"))
    log.listen(lambda: None)
    beside = {"", "-shm", "-wal"}
    assert files_of(path) == {f"runs.db{ending}" for ending in beside}

    log.close()
    assert files_of(path) == {"runs.db"}


def test_an_empty_file_is_a_new_log(path: Path) -> None:
    path.touch()
    make(path, runs("v"))
    assert reader(path).last_seq == 5


def test_a_log_whose_making_was_cut_off_is_made(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    make(path, runs("v"))
    assert reader(path).last_seq == 5


def test_each_log_has_an_id_that_stays(path: Path, tmp_path: Path) -> None:
    with closing(SqliteEventLog(path)) as log, closing(SqliteEventLog(tmp_path / "b.db")) as other:
        assert len(log.id) == 32
        assert log.id != other.id
        assert reader(path).id == log.id


def test_a_closed_log_can_be_read_while_another_writes_it(path: Path) -> None:
    events = runs("v", "w")
    log = SqliteEventLog(path)
    write(log, events[:5])
    log.close()
    make(path, events[5:])

    assert list(log.read()) == events
    log.ask("v", "cancel")


def test_what_a_log_is_called_by_does_not_matter(path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(path.parent)
    make(Path("runs.db"), runs("v"))
    log = reader(Path("runs.db"))
    monkeypatch.chdir("/")

    assert log.path == path
    assert log.last_seq == 5
    assert repr(log) == f"<SqliteEventLog '{path}' (read only)>"


@pytest.mark.parametrize("name", ["a b?c#d%41.db", ":memory:", "ü.db", "'.db", "b\udcff.db"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    make(tmp_path / name, runs("v"))
    assert os.listdir(tmp_path) == [name]
    assert reader(tmp_path / name).last_seq == 5


@pytest.mark.parametrize("length", [1, 499, 500, 501, 1203])
def test_a_long_log_is_read_in_parts_without_seams(path: Path, length: int) -> None:
    events = [event(seq, "vw"[seq % 2], "vect.started", None, "running") for seq in range(1, 1300)]
    log = reader(make(path, events))

    assert list(log.read(upto=length)) == events[:length]
    assert list(log.read(after=1299 - length)) == events[1299 - length :]
    assert list(log.read(vect="v", upto=length)) == [e for e in events[:length] if e.vect == "v"]


def test_numbers_of_any_size_may_be_asked_for(path: Path) -> None:
    log = reader(make(path, runs("v")))
    assert list(log.read(after=2**70)) == []
    assert len(list(log.read(after=-(2**70), upto=2**70))) == 5


def test_anybody_can_read_the_file(path: Path) -> None:
    make(path, runs("v", output={"rows": [1, "ü"]}))

    with closing(sqlite3.connect(path)) as connection:
        sql = "SELECT step, json_extract(data, '$.output.rows[1]'), time FROM events WHERE seq = 4"
        assert connection.execute(sql).fetchone() == ("s0", "ü", "2026-11-24T12:00:04+00:00")


def test_lines_of_json_are_those_of_the_log_in_memory(path: Path, tmp_path: Path) -> None:
    events = runs("v", output=[1.5, None])
    reader(make(path, events)).to_jsonl(tmp_path / "log.jsonl")

    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines == [to_line(each) for each in events]


# Values


def test_a_value_that_json_cannot_keep_is_refused_before_it_is_in_an_event(path: Path) -> None:
    with closing(SqliteEventLog(path)) as log:
        log.check_value({"rows": [1, "x", None]})
        with pytest.raises(NotJsonError, match=r"its part \['rows'\]\[0\] is a tuple"):
            log.check_value({"rows": [(1, 2)]})


def test_a_value_that_is_too_large_is_refused(path: Path) -> None:
    with closing(SqliteEventLog(path, value_limit_bytes=10)) as log:
        log.check_value("x" * 8)
        with pytest.raises(
            ValueTooLargeError, match=r"takes 11 bytes as JSON .* at most 10; write"
        ):
            log.check_value("x" * 9)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"output": (1, 2)}, r"event 4 \(step.succeeded of s0\) cannot be written as JSON: its"),
        ({"output": "\ud800"}, "is a str that JSON cannot keep"),
    ],
)
def test_an_event_that_json_cannot_keep_is_refused(path: Path, wrong: Any, told: str) -> None:
    with closing(SqliteEventLog(path)) as log:
        write(log, runs("v")[:3])
        with pytest.raises(LogError, match=told):
            log.append(None, event(4, "v", "step.succeeded", "running", "success", "s0", **wrong))
        assert log.last_seq == 3
        write(log, run_of("v", 1)[3:])  # the refused one has left nothing behind
        log.verify()


def test_an_event_with_a_name_that_is_no_text_is_refused(path: Path) -> None:
    with closing(SqliteEventLog(path)) as log, pytest.raises(LogError, match="cannot be written"):
        log.append(None, event(1, "\ud800", "vect.started", "pending", "running"))


# What cannot be opened


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"path": 5}, "the path of a log must be text or a Path, not 5"),
        ({"path": ""}, "must be text or a Path, not ''"),
        ({"path": b"runs.db"}, "must be text or a Path"),
        ({"path": "a\0b"}, "cannot be 'a.*b': .*null"),
        ({"path": "a" * 300}, "the path of a log is too long: 'aaaa"),
        ({"synchronous": "OFF"}, "synchronous must be 'FULL' or 'NORMAL', not 'OFF'"),
        ({"synchronous": None}, "synchronous must be 'FULL' or 'NORMAL', not None"),
        ({"value_limit_bytes": 0}, "value_limit_bytes must be at least 1, not 0"),
        ({"value_limit_bytes": "1 MB"}, "value_limit_bytes must be at least 1, not '1 MB'"),
    ],
)
def test_settings_that_cannot_be_are_refused(path: Path, arguments: Any, told: str) -> None:
    with pytest.raises(SettingError, match=told):
        SqliteEventLog(**{"path": path} | arguments)
    assert files_of(path) == set()


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"there is no folder '.*/no/such'; make it first"):
        SqliteEventLog(tmp_path / "no" / "such" / "runs.db")


def test_a_folder_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="it is a folder; name a file in it"):
        SqliteEventLog(tmp_path)


@pytest.mark.parametrize("make_file", [lambda path: None, lambda path: path.touch()])
def test_a_log_that_is_not_there_cannot_be_read(path: Path, make_file: Any) -> None:
    make_file(path)
    before = files_of(path)
    with pytest.raises(LogError, match="has not been made yet; open it for writing first"):
        reader(path)
    assert files_of(path) == before


# Versions


def set_version(path: Path, version: int) -> bytes:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version={version}")
    return path.read_bytes()


@pytest.mark.parametrize("read_only", [True, False])
def test_a_newer_version_is_refused_and_left_as_it_was(path: Path, read_only: bool) -> None:
    before = set_version(make(path, runs("v")), NEWEST + 1)

    told = f"has version {NEWEST + 1}, this oautom knows version {NEWEST}; use a"
    with pytest.raises(LogVersionError, match=told):
        SqliteEventLog(path, read_only=read_only)
    assert path.read_bytes() == before
    assert files_of(path) == {"runs.db"}


@pytest.fixture
def _newer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let this oautom know one version more."""
    step = ("ALTER TABLE positions ADD COLUMN note TEXT", "CREATE TABLE more (seq INTEGER)")
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, step))
    database._wanted_schema.cache_clear()
    yield
    database._wanted_schema.cache_clear()


def test_an_older_version_is_brought_up_to_date(path: Path, request: Any) -> None:
    make(path, runs("v"))
    request.getfixturevalue("_newer")

    log = SqliteEventLog(path)
    assert list(log.read()) == runs("v")
    write(log, run_of("w", 6))
    log.verify()
    log.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (NEWEST + 1,)
    assert reader(path).last_seq == 10


def old_file(path: Path, version: int) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FILES / f"version_{version}.sql").read_text(encoding="utf-8"))
    return path.read_bytes()


def all_of(log: SqliteEventLog) -> list[object]:
    """Return all that can be asked of a log, but for how many rows that takes."""
    vects = log.vects()
    ids = [vect.id for vect in vects]
    gone = log.pruned()
    log.verify()
    return [
        *(vects, list(log.read()), [list(log.read(vect=each)) for each in ids]),
        *([log.vects("report"), log.vects("other"), log.newest("report"), log.newest("other")]),
        *([log.find(each) for each in ids], log.find("nobody"), log.open_vects()),
        *(log.planned("daily"), log.planned("other"), log.position("billing"), log.asked()),
        *(gone, [log.find_pruned(each.id) for each in gone], log.find_pruned("nobody")),
        *(log.gaps(), log.given_up("billing"), log.last_seq, log.id),
        list(log.read_each(ids)),
        list(log.read_each([*ids, "nobody"], 1)),
        log.starts("nobody"),
    ]


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_an_older_version_is_read_as_it_is(path: Path, version: int) -> None:
    before = old_file(path, version)
    found = all_of(reader(path))
    assert path.read_bytes() == before
    assert files_of(path) == {"runs.db"}

    log = SqliteEventLog(path)
    assert all_of(log) == found
    log.close()
    assert all_of(reader(path)) == found


def test_a_reader_of_an_older_version_goes_on_when_it_is_brought_up_to_date(path: Path) -> None:
    old_file(path, 2)
    log = reader(path)
    engine = SqliteEventLog(path)
    write(engine, run_of("w", 23))
    assert [vect.id for vect in log.vects()] == ["tuesday", "open", "w"]
    assert len(list(log.read(vect="w"))) == 5
    engine.close()


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_an_older_version_that_is_damaged_is_left_as_it_was(path: Path, version: int) -> None:
    old_file(path, version)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE events SET dest = 'failed' WHERE seq = 18")
        connection.commit()
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(LogCorruptError, match="event 18 is not what was written"):
            SqliteEventLog(path, read_only=read_only)
    assert path.read_bytes() == before


def test_a_file_of_version_2_knows_how_far_its_plans_have_come(path: Path) -> None:
    old_file(path, 2)
    for log in (reader(path), SqliteEventLog(path)):
        assert str(log.planned("daily")) == "2026-11-24 02:00:00+00:00"  # that Vect was pruned
        assert [vect.id for vect in log.open_vects()] == ["open"]
        log.close()


def test_a_file_of_version_1_is_brought_up_to_date(path: Path) -> None:
    old_file(path, 1)
    log = SqliteEventLog(path)
    log.verify()
    assert [(vect.id, vect.state) for vect in log.vects()] == [
        ("tuesday", "success"),
        ("wednesday", "success"),
    ]
    assert (log.position("billing"), log.gaps(), log.given_up("billing")) == (12, [(1, 7)], [])
    assert [request.vect for request in log.requests()] == ["wednesday"]
    log.keep_given_up("billing", GivenUp(13, "away", 3, NOON))
    write(log, run_of("w", 22))
    log.close()
    assert reader(path).given_up("billing") == [GivenUp(13, "away", 3, NOON)]
    assert reader(path).last_seq == 26


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: Any) -> None:
    before = make(path, runs("v")).read_bytes()
    step = ("CREATE TABLE more (seq INTEGER)", "CREATE TABLE more (seq INTEGER)")
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, step))

    with pytest.raises(LogError, match="is damaged: table more already exists"):
        SqliteEventLog(path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    assert reader(path).last_seq == 5


# Forks


def test_a_fork_does_not_write_the_log_of_its_parent(path: Path) -> None:
    log = SqliteEventLog(path)
    write(log, runs("v"))

    def in_child() -> str:
        with closing(SqliteEventLog(path, read_only=True)) as anew:
            assert len(list(anew.read())) == 5
        log.close()
        write(log, run_of("w", 6))
        return "it has"

    assert "was forked from it; open it anew in the forked process" in in_fork(in_child)
    write(log, run_of("w", 6))
    log.verify()
    log.close()


@pytest.mark.parametrize("seq", [500, 6, "five"])
def test_a_position_beyond_the_end_is_not_believed(
    path: Path, caplog: pytest.LogCaptureFixture, seq: object
) -> None:
    """Else what comes until the log has grown so far would never be delivered."""
    make(path, runs("v"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO positions VALUES ('billing', ?), ('mail', 4)", (seq,))
        connection.commit()
    if isinstance(seq, str):
        with pytest.raises(LogCorruptError, match="the position of subscription 'billing' is"):
            reader(path).position("billing")

    with closing(SqliteEventLog(path)) as log:
        assert (log.position("billing"), log.position("mail")) == (5, 4)
    told = f"subscription 'billing' has been at event {seq!r}, but log '{path}' ends with event 5"
    assert [told in record.getMessage() for record in caplog.records] == [True]
