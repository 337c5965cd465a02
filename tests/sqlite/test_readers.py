"""Readers beside a writer: in its process, in others, and of copies that were made meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oautom import Event, SqliteEventLog
from oautom.events.sqlite import rows

from .logs import begin, make, reader, run_of, runs, said, write

EVENTS = runs(*(f"v{i}" for i in range(40)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


WRITE = """
log = SqliteEventLog(path, synchronous='NORMAL')
print(log.id, flush=True)
for number, event in enumerate(MemoryEventLog.from_jsonl(sys.argv[2]).read(), start=1):
    log.append(None, event)
    if number % 3 == 0:
        log.commit()
log.commit()
print('done', flush=True)
sys.stdin.read()
"""


def test_a_reader_in_another_process_sees_what_is_committed_so_far(
    path: Path, tmp_path: Path
) -> None:
    reader(make(tmp_path / "all.db", EVENTS)).to_jsonl(tmp_path / "all.jsonl")
    with begin(WRITE, path, tmp_path / "all.jsonl") as writer:
        id = said(writer)  # noqa: A001
        log = reader(path)
        assert log.id == id
        lengths = []
        while log.last_seq < len(EVENTS):
            seen = list(log.read())
            assert seen == EVENTS[: len(seen)]
            assert len(seen) % 3 == 0 or seen == EVENTS
            assert {entry.id for entry in log.vects()} >= {event.vect for event in seen}
            lengths.append(len(seen))
        assert said(writer) == "done"
        assert lengths == sorted(lengths)
        log.verify()
        writer.communicate()


def test_threads_may_read_while_one_writes(path: Path) -> None:
    log = SqliteEventLog(path, synchronous="NORMAL")
    wrong: list[object] = []

    def read() -> None:
        try:
            while (length := len(seen := list(log.read()))) < len(EVENTS):
                if seen != EVENTS[:length]:
                    wrong.append(seen)
                list(log.read(vect="v1"))
                log.vects()
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for seq in range(0, len(EVENTS), 2):
        write(log, EVENTS[seq : seq + 2])
    for thread in threads:
        thread.join()
    log.close()
    assert wrong == []


@pytest.mark.parametrize("page_bytes", [0, 50, 500])
def test_vects_are_read_together_in_parts_that_are_not_too_large(
    path: Path, monkeypatch: pytest.MonkeyPatch, page_bytes: int
) -> None:
    monkeypatch.setattr(rows, "_PAGE_BYTES", page_bytes)
    log = reader(make(path, EVENTS))
    wanted = ["v7", "v3", "nobody", *(f"v{i}" for i in range(10, 40))]
    one_by_one = [event for vect in wanted for event in log.read(vect=vect)]
    assert list(log.read_each(wanted)) == one_by_one
    assert list(log.read_each(wanted, 1)) == [e for e in one_by_one if e.name == "vect.created"]
    assert list(log.read()) == EVENTS
    log.verify()


def test_a_reader_that_has_begun_keeps_nobody_from_writing(path: Path) -> None:
    log = SqliteEventLog(path)
    write(log, EVENTS[:5])
    slow = reader(path).read()
    next(slow)
    write(log, EVENTS[5:])
    log.close()
    assert len(list(slow)) == 4
    assert {each.name for each in path.parent.iterdir()} == {"runs.db"}


def test_positions_are_kept_while_the_engine_commits(path: Path) -> None:
    log = SqliteEventLog(path, synchronous="NORMAL")
    wrong: list[Exception] = []

    def keep(name: str) -> None:
        try:
            for seq in range(1, 60):
                log.keep_position(name, seq)
                assert log.position(name) == seq
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=keep, args=(name,)) for name in ("billing", "mail")]
    for thread in threads:
        thread.start()
    for seq in range(0, len(EVENTS), 2):
        write(log, EVENTS[seq : seq + 2])
    for thread in threads:
        thread.join()
    log.close()

    assert wrong == []
    again = reader(path)
    assert (again.position("billing"), again.position("mail")) == (59, 59)
    again.verify()
    assert list(again.read()) == EVENTS


# What a power cut leaves


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[bytes, bytes, Path]]:
    """A file and its write-ahead log as they are in the middle, and a folder to try them in."""
    folder = tmp_path_factory.mktemp("torn")
    path = folder / "runs.db"
    with begin(WRITE, path, _lines(folder)) as writer:
        said(writer)
        said(writer)
        yield path.read_bytes(), path.with_name("runs.db-wal").read_bytes(), folder
        writer.kill()


def _lines(folder: Path) -> Path:
    reader(make(folder / "all.db", EVENTS)).to_jsonl(folder / "all.jsonl")
    return folder / "all.jsonl"


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(part=st.floats(0, 1), filler=st.sampled_from([b"", b"\0" * 5000, b"\x37" * 5000]))
def test_a_log_cut_off_by_a_power_cut_is_a_beginning(
    torn: tuple[bytes, bytes, Path], part: float, filler: bytes
) -> None:
    whole, wal, folder = torn
    cut = folder / "cut.db"
    cut.write_bytes(whole)
    cut.with_name("cut.db-wal").write_bytes(wal[: int(len(wal) * part)] + filler)
    cut.with_name("cut.db-shm").unlink(missing_ok=True)

    found = _open_and_read(cut)
    assert found == EVENTS[: len(found)]
    assert len(found) % 3 == 0 or found == EVENTS
    if part == 1:
        assert found == EVENTS


def _open_and_read(path: Path) -> list[Event]:
    """Open a log, write behind what is there, and return that."""
    log = SqliteEventLog(path, synchronous="NORMAL")
    found = list(log.read())
    write(log, run_of("next", log.last_seq + 1))
    log.verify()
    log.close()
    return found


# Copies of a log that is in use


def test_a_copy_made_by_sqlite_while_it_is_written_is_a_log(path: Path, tmp_path: Path) -> None:
    log = SqliteEventLog(path)
    write(log, EVENTS[:5])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", [str(tmp_path / "vacuum.db")])
        with closing(sqlite3.connect(tmp_path / "backup.db")) as target:
            connection.backup(target)
    write(log, EVENTS[5:])
    log.close()
    shutil.copyfile(path, tmp_path / "closed.db")

    for name, expected in (("vacuum", 5), ("backup", 5), ("closed", len(EVENTS))):
        copied = SqliteEventLog(tmp_path / f"{name}.db")
        copied.verify()
        assert list(copied.read()) == EVENTS[:expected]
        assert copied.id == log.id
        write(copied, run_of("more", copied.last_seq + 1))
        copied.close()
