"""The write-ahead log stays small, whoever reads meanwhile."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from oautom import SqliteEventLog
from oautom.events.sqlite import wal

from .logs import begin, event, run_of, said, write

MB = 2**20
HALF = "x" * (MB // 2)
HOLD = """
import sqlite3
connection = sqlite3.connect(path)
connection.execute('BEGIN')
connection.execute('SELECT count(*) FROM events').fetchall()
print('ready', flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteEventLog]:
    with closing(SqliteEventLog(path, synchronous="NORMAL")) as log:
        write(log, run_of("v", 1))
        yield log


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all sizes an eighth of what they are: the same in less time."""
    for name in ("_SIZE_TRIED", "_SIZE_PRESSED", "_SIZE_LAST", "SIZE_TOLD", "_PRESS_GROWTH"):
        monkeypatch.setattr(wal, name, getattr(wal, name) // 8)
    monkeypatch.setattr(wal, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(wal, "_TRY_SECONDS", 0.0)


def size_of(path: Path) -> int:
    return path.with_name("runs.db-wal").stat().st_size


def grow(log: SqliteEventLog, megabytes: int) -> int:
    """Write so much, in commits of half a megabyte; return how large that file was at most."""
    largest = 0
    for _ in range(megabytes * 2):
        seq = log.last_seq + 1
        write(log, [event(seq, "w", "step.late_result", "success", "success", "s0", output=HALF)])
        largest = max(largest, size_of(log.path))
    return largest


def read_without_a_pause(path: Path, is_over: threading.Event) -> None:
    """Be two readers in turn, each for moments only, so that there is never a moment without."""
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as one,
        closing(sqlite3.connect(path, isolation_level=None)) as two,
    ):
        while not is_over.is_set():
            for mine, other in ((one, two), (two, one)):
                mine.execute("BEGIN")
                mine.execute("SELECT count(*) FROM vects").fetchall()
                if other.in_transaction:
                    other.execute("COMMIT")
                time.sleep(0.001)


def test_readers_that_look_again_and_again_do_not_make_it_grow(
    path: Path,
    log: SqliteEventLog,
    caplog: pytest.LogCaptureFixture,
) -> None:
    is_over = threading.Event()
    thread = threading.Thread(target=read_without_a_pause, args=(path, is_over))
    thread.start()
    try:
        assert grow(log, 12) <= wal.SIZE_TOLD == 4 * MB
    finally:
        is_over.set()
        thread.join()
    assert caplog.records == []
    log.verify()


def test_a_long_reader_is_named_once_and_the_file_shrinks_when_it_has_gone(
    path: Path,
    log: SqliteEventLog,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wal, "_LAST_PATIENCE_MS", 201)
    with begin(HOLD, path) as reader:
        assert said(reader) == "ready"
        assert grow(log, 8) > 7 * MB
        reader.communicate("\n")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("oautom.log", "WARNING")
    assert f"process {reader.pid} (python" in record.getMessage()
    assert "runs.db-wal' has grown to 4 MB" in record.getMessage()

    grow(log, 1)
    assert size_of(path) <= MB


def test_a_long_reader_in_the_program_itself_is_told_as_that(
    path: Path,
    log: SqliteEventLog,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wal, "_LAST_PATIENCE_MS", 201)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM events").fetchall()
        grow(log, 6)
    (record,) = caplog.records
    assert "this program itself" in record.getMessage()
