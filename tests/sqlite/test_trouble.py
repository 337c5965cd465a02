"""A log that cannot be written: the engine stops, and what is on the disk is a beginning."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oautom import Flow, LogError, OAutom, PythonExecution, SqliteEventLog
from oautom.errors import EventRefusedError
from oautom.events import replay
from oautom.events.sqlite import file as database
from oautom.events.sqlite import rows
from oautom.events.sqlite import writer as sqlite

from .logs import NOON, at, files_of, in_fork, make, reader, run, run_of, runs, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(tmp_path / "runs.db", runs("v"))


FULL_DISK = """
import resource

log = SqliteEventLog(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
app = OAutom(executor='inline', log=log)
flow, step = Flow('f', app), None
for number in range(400):
    step, before = PythonExecution(f's{number}', flow, lambda: 'x' * 200), step
    if before is not None:
        before >> step
try:
    app.run(flow, vect_id='w')
except LogError as error:
    print(error)
assert not log.commit()
log.close()
print(log.last_seq, len(list(log.read())))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize("limit", [100_000, 150_000, 203_001])
def test_a_full_disk_stops_the_engine_and_loses_nothing(path: Path, limit: int) -> None:
    printed = run(FULL_DISK, path, limit).splitlines()

    assert printed[0].startswith("the engine has stopped, its log cannot be written: log '")
    assert "the disk may be full or gone, or the file larger than this process may" in printed[0]
    assert "nothing has been started that is not in the log" in printed[0]
    last_seq, read = map(int, printed[1].split())
    assert 5 < last_seq == read

    log = SqliteEventLog(path)
    log.verify()
    assert log.last_seq >= last_seq  # a commit that could not be confirmed may have come through
    state = replay(log.read())["w"]
    assert state.state == "running"
    write(log, run_of("x", log.last_seq + 1))
    log.close()


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def replace(path: Path) -> None:
    shutil.copyfile(path, path.with_name("copy.db"))
    path.with_name("copy.db").rename(path)


@pytest.mark.parametrize("lose", [delete, move, replace])
def test_a_file_that_is_lost_is_noticed_by_the_next_commit(
    path: Path, lose: Callable[[Path], None]
) -> None:
    log = SqliteEventLog(path)
    write(log, run_of("w", 6))
    lose(path)

    told = "has been deleted, moved or replaced while it was open; put the file back"
    with pytest.raises(LogError, match=told):
        write(log, run_of("x", 11))
    assert log.last_seq == 10
    with pytest.raises(LogError, match=f"event 11 is not taken: .*{told}"):
        log.append(None, run_of("x", 11)[0])
    for use in (
        lambda: list(log.read()),
        lambda: log.prune(at(99)),
        lambda: log.keep_position("billing", 3),
        lambda: log.ask("v", "cancel"),
        log.requests,
        log.vects,
    ):
        with pytest.raises(LogError, match=told):
            use()
    log.close()


def test_a_file_that_is_lost_while_it_is_opened_is_noticed(path: Path, monkeypatch: Any) -> None:
    log = SqliteEventLog(path)
    connect = database._connect

    def connect_late(path: Path, mode: Any) -> sqlite3.Connection:
        replace(path)
        return connect(path, mode)

    monkeypatch.setattr(database, "_connect", connect_late)
    with pytest.raises(LogError, match="has been deleted, moved or replaced"):
        log.keep_position("billing", 3)
    log.close()


def test_the_engine_stops_when_its_file_is_deleted(path: Path) -> None:
    log = SqliteEventLog(path)
    with OAutom(executor="inline", log=log) as app:
        flow = Flow("f", app)
        first = PythonExecution("first", flow, path.unlink)
        second = PythonExecution("second", flow, path.touch)
        first >> second
        with pytest.raises(LogError, match=r"the engine has stopped, .* has been deleted"):
            app.run(flow)
    log.close()
    assert not path.exists()  # the second step was never run


def test_a_file_that_another_program_keeps_locked_is_told(path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    log = SqliteEventLog(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogError, match=r"database is locked; another program has kept it"):
            log.prune(at(99))
        with pytest.raises(LogError, match="another program has kept it locked for"):
            log.ask("v", "cancel")
        connection.execute("ROLLBACK")
    log.close()


def test_a_commit_waits_for_another_program_and_says_so(
    path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.01)
    log, written = SqliteEventLog(path), threading.Event()

    def commit() -> None:
        write(log, run_of("w", 6))
        written.set()

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=commit)
        thread.start()
        assert not written.wait(0.2)
        assert (log.committed_seq, log.last_seq) == (5, 10)
        connection.execute("ROLLBACK")
        assert written.wait(10)
    thread.join()

    (record,) = caplog.records
    assert record.getMessage() == (
        f"log '{path}' is kept locked by another program, so that 5 events cannot be written; "
        "nothing goes on until they are: end that program"
    )
    write(log, run_of("x", 11))
    log.verify()
    assert list(log.read()) == runs("v", "w", "x")
    log.close()


def test_it_is_told_again_and_again_that_another_program_keeps_a_file_locked(
    path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.001)
    seconds = itertools.count(0, 4)
    monkeypatch.setattr(sqlite, "monotonic", lambda: float(next(seconds)))
    waits = itertools.count(1)
    log = SqliteEventLog(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")

        def wait(pause: float) -> None:
            if next(waits) == 10:
                connection.execute("ROLLBACK")

        monkeypatch.setattr(sqlite, "sleep", wait)
        write(log, run_of("w", 6))

    assert len(caplog.records) == 4
    log.close()


def test_a_log_that_is_closed_while_its_commit_waits_takes_no_more(
    path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.001)
    log = SqliteEventLog(path)
    monkeypatch.setattr(sqlite, "sleep", lambda pause: log.close())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogError, match="is closed; open it again"):
            write(log, run_of("w", 6))
        connection.execute("ROLLBACK")

    log = SqliteEventLog(path)
    assert list(log.read()) == runs("v")
    log.close()


UNKEPT = {
    "data": {"data": {"output": {1, 2}}},
    "half a character": {"flow": "\ud800"},
    "an attempt without end": {"attempt": 2**70},
    "an attempt that no row takes": {"attempt": 2**63},
    "no time zone": {"time": NOON.replace(tzinfo=None)},
    "a time beyond all": {
        "time": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
    },
    "no graph": {"name": "vect.created", "data": {"params": {}}},
}


@pytest.mark.parametrize("change", UNKEPT.values(), ids=UNKEPT)
def test_an_event_that_cannot_be_kept_is_refused_and_changes_nothing(
    path: Path, change: dict[str, Any]
) -> None:
    log = SqliteEventLog(path)
    good = run_of("w", 6)
    log.append(None, good[0])
    with pytest.raises(EventRefusedError, match="event 7 "):
        log.append(None, msgspec.structs.replace(good[1], **change))
    assert (log.last_seq, log.committed_seq) == (6, 5)
    for each in good[1:]:
        log.append(None, each)
    log.commit()
    log.verify()

    assert list(log.read()) == runs("v", "w")
    log.close()


def test_an_event_that_is_larger_than_a_row_is_refused(path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(rows, "_DATA_BYTES_MAX", 100)
    log = SqliteEventLog(path)
    for each in run_of("w", 6, output="x" * 80):
        log.append(None, each)
    with pytest.raises(EventRefusedError, match=r"^event 14 \(.*\) does not fit into a row"):
        write(log, run_of("x", 11, output="x" * 99))
    log.close()

    log = SqliteEventLog(path)
    write(log, run_of("w", 6))
    log.verify()
    log.close()


def test_a_row_of_another_program_is_not_written_over(path: Path) -> None:
    log = SqliteEventLog(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO events SELECT 6, time, flow, vect, step, attempt, name, "
                           "source, dest, data, crc FROM events WHERE seq = 5")  # fmt: skip
    with pytest.raises(LogError, match="another program has written to it"):
        write(log, run_of("w", 6))
    log.close()


def test_what_a_broken_off_commit_has_written_is_taken_back(path: Path, monkeypatch: Any) -> None:
    log = SqliteEventLog(path)
    for event in run_of("w", 6):
        log.append(None, event)
    monkeypatch.setattr(log, "_taken", [object()])  # what cannot be bound, after the events
    with pytest.raises(LogError, match="cannot be written"):
        log.commit()
    assert len(list(log.read())) == 5
    log.close()
    assert reader(path).last_seq == 5


def test_ctrl_c_in_a_commit_stops_the_log(path: Path, monkeypatch: Any) -> None:
    log = SqliteEventLog(path)
    monkeypatch.setattr(log._database, "check_is_there", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(log, run_of("w", 6))
    with pytest.raises(LogError, match="a commit was broken off"):
        log.append(None, run_of("w", 6)[0])
    log.close()


def _interrupt() -> None:
    raise KeyboardInterrupt


# Without permission


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, and nobody but its owner may write."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_a_file_without_permission_is_not_written(open_folder: Path) -> None:
    path = make(open_folder / "runs.db", runs("v"))
    path.chmod(0o444)
    open_folder.chmod(0o777)
    before = path.read_bytes()

    told = in_fork(lambda: SqliteEventLog(path), as_nobody=True)

    assert told.startswith("LogError: log '"), told
    assert "change its permissions, or open it with read_only=True" in told
    assert path.read_bytes() == before


def test_a_folder_without_permission_is_not_written(open_folder: Path) -> None:
    path = make(open_folder / "runs.db", runs("v"))
    path.chmod(0o444)
    open_folder.chmod(0o555)

    told = in_fork(lambda: SqliteEventLog(path), as_nobody=True)
    assert "its folder must be one where this process may make files" in told
    told = in_fork(lambda: SqliteEventLog(open_folder / "new.db"), as_nobody=True)
    assert "its folder must be one where this process may make files" in told
    assert files_of(path) == {"runs.db"}


def test_a_log_in_a_folder_without_permission_can_be_read(open_folder: Path) -> None:
    path = make(open_folder / "runs.db", runs("v"))
    path.chmod(0o444)
    open_folder.chmod(0o555)

    def read() -> str:
        log = reader(path)
        log.verify()
        return f"{len(list(log.read()))} {log.vects()[0].id}"

    assert in_fork(read, as_nobody=True) == "5 v"
    assert "LogError" in in_fork(lambda: reader(path).ask("v", "cancel"), as_nobody=True)


def test_a_log_that_is_being_written_can_be_read_without_permission(open_folder: Path) -> None:
    path = open_folder / "runs.db"
    make(path, runs("v"))
    path.chmod(0o644)
    log = SqliteEventLog(path)
    assert in_fork(lambda: len(list(reader(path).read())), as_nobody=True) == "5"
    log.close()


def test_a_log_beside_which_sqlite_can_make_no_file_can_be_read(path: Path) -> None:
    path.with_name("runs.db-wal").symlink_to("/no/such/folder/file")
    log = reader(path)
    log.verify()
    assert list(log.read()) == runs("v")
    with pytest.raises(LogError, match="cannot be written"):
        log.ask("v", "cancel")
    with pytest.raises(LogError, match="cannot be opened"):
        SqliteEventLog(path)


def test_a_file_system_that_shares_no_memory_is_told(path: Path) -> None:
    database.check_journal(path, "wal")
    with pytest.raises(LogError, match="its journal is 'delete'; keep it on a disk of this"):
        database.check_journal(path, "delete")


def test_a_lock_that_cannot_be_made_is_told(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(LogError, match=r"cannot be locked: .* its folder must be one where this"):
        SqliteEventLog(path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may read what nobody may")
def test_a_file_that_may_not_be_read_is_told(open_folder: Path) -> None:
    path = make(open_folder / "runs.db", runs("v"))
    path.chmod(0o600)
    assert "cannot be opened: unable to open" in in_fork(lambda: reader(path), as_nobody=True)
