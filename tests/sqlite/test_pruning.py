"""Old Vects taken out of a file: what stays can be verified, and the room is given back."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from oautom import LogCorruptError, LogError, MemoryEventLog, SqliteEventLog
from oautom.errors import EventRefusedError
from oautom.events import replay
from oautom.events.sqlite import writer as sqlite
from oautom.testing import check_history

from .logs import at, begin, event, make, reader, run_of, runs, said, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def seqs(events: Any) -> list[int]:
    return [each.seq for each in events]


def test_what_stays_is_verified_across_the_gaps(path: Path) -> None:
    make(path, runs("a", "b", "c", "d"))
    log = SqliteEventLog(path)

    log.verify()
    assert [gone.id for gone in log.prune(at(99), keep=["b", "d"])] == ["a", "c"]
    log.verify()
    log.close()

    log = SqliteEventLog(path)
    assert log.gaps() == [(1, 5), (11, 15)]
    assert seqs(log.read()) == [*range(6, 11), *range(16, 21)]
    assert seqs(log.read(after=3, upto=17)) == [*range(6, 11), 16, 17]
    assert seqs(log.read(vect="d")) == list(range(16, 21))
    assert [(gone.id, gone.first_seq, gone.last_seq, gone.events) for gone in log.pruned()] == [
        ("a", 1, 5, 5),
        ("c", 11, 15, 5),
    ]
    log.close()


@pytest.mark.parametrize("change", ["UPDATE gaps SET crc = 7", "DELETE FROM gaps"])
def test_a_gap_that_was_changed_is_told(path: Path, change: str) -> None:
    make(path, runs("a", "b"))
    log = SqliteEventLog(path)
    log.prune(at(99), keep=["b"])
    log.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(change)
        connection.commit()

    with pytest.raises(LogCorruptError):
        SqliteEventLog(path)


def test_numbers_go_on_when_the_newest_events_were_pruned(path: Path) -> None:
    make(path, runs("a", "b"))
    log = SqliteEventLog(path)
    log.prune(at(99))
    log.close()

    log = SqliteEventLog(path)
    assert (log.last_seq, list(log.read()), log.vects()) == (10, [], [])
    with pytest.raises(LogError, match="event 1 cannot follow event 10"):
        log.append(None, run_of("c", 1)[0])
    write(log, run_of("a", 11))
    log.verify()
    log.close()
    assert seqs(reader(path).read(vect="a")) == [11, 12, 13, 14, 15]


def test_vects_that_ran_beside_each_other_are_told_apart(path: Path) -> None:
    old, new = run_of("old", 1), run_of("new", 1)
    mixed = [
        event(seq, each.vect, each.name, each.source, each.dest, each.step, **each.data)
        for seq, each in enumerate(
            [each for pair in zip(old, new, strict=True) for each in pair], start=1
        )
    ]
    make(path, mixed)
    log = SqliteEventLog(path)

    (gone,) = log.prune(at(10))
    assert (gone.id, gone.first_seq, gone.last_seq, gone.events) == ("old", 1, 9, 5)
    assert log.gaps() == [(1, 1), (3, 3), (5, 5), (7, 7), (9, 9)]
    assert seqs(log.read()) == [2, 4, 6, 8, 10]
    log.prune(at(99))
    assert log.gaps() == [(1, 10)]
    log.verify()
    log.close()


def test_the_room_is_given_back(path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sqlite, "_PAGES_GIVEN_BACK", 7)  # more than once
    make(path, runs(*(f"v{i}" for i in range(60)), output="x" * 2000))
    size = path.stat().st_size
    log = SqliteEventLog(path)
    log.prune(at(61 * 5), keep=["v59"])

    assert path.stat().st_size < size / 3
    assert path.with_name("runs.db-wal").stat().st_size == 0
    log.verify()
    log.close()


def planned(seq: int, hour: int, name: str, dest: str, **more: Any) -> Any:
    told = {"plan": "daily", "planned": f"2026-11-25T{hour:02}:00:00Z", **more}
    return event(seq, f"daily@{told['planned']}", name, None, dest, **told)


def test_what_a_plan_has_skipped_goes_too_but_for_its_first_and_its_newest_event(
    path: Path,
) -> None:
    events = [planned(1, 0, "plan.created", "planned")]
    events += run_of("v", 2)
    for number in range(1, 8):
        events.append(planned(6 + number, number, "plan.skipped", "skipped", reason="full"))
    for log in (SqliteEventLog(path), MemoryEventLog()):
        write(log, events)
        assert log.prune(at(3)) == []
        assert log.gaps() == []
        assert [gone.id for gone in log.prune(at(9))] == ["v"]
        assert log.gaps() == [(2, 8)]
        assert log.prune(at(99)) == []
        assert log.gaps() == [(2, 12)]
        assert [each.name for each in log.read()] == ["plan.created", "plan.skipped"]
        assert str(log.planned("daily")) == "2026-11-25 07:00:00+00:00"
        check_history(log.read(), gaps=log.gaps())
        assert replay(log.read()) == {}
        write(log, [planned(14, 8, "plan.skipped", "skipped", reason="full")])
        log.prune(at(99))
        assert log.gaps() == [(2, 13)]
        log.close()
    reader(path).verify()


@pytest.mark.parametrize("time", ["2026-11-25T03:00:00Z", "2026-11-25T00:00:00.300000Z"])
def test_a_time_of_a_plan_is_over_though_all_that_told_of_it_was_pruned(
    path: Path, time: str
) -> None:
    run = run_of(f"daily@{time}", 2)
    for log in (SqliteEventLog(path), MemoryEventLog()):
        write(log, [planned(1, 0, "plan.created", "planned"), *run])
        log.prune(at(99))
        assert log.planned("daily") == datetime.fromisoformat(time)
        log.close()
    again = SqliteEventLog(path)
    assert again.planned("daily") == datetime.fromisoformat(time)
    again.verify()
    again.close()


def test_a_reader_in_between_does_not_keep_old_vects_in(path: Path) -> None:
    make(path, runs(*(f"v{i}" for i in range(300))))
    log = SqliteEventLog(path)
    slow = reader(path).read()
    next(slow)
    log.prune(at(10**6))

    assert len(list(slow)) < 1500  # it sees what was there when it looked, then no more
    assert list(log.read()) == []
    log.close()


def test_the_engine_may_write_meanwhile(path: Path) -> None:
    make(path, runs(*(f"v{i}" for i in range(200))))
    log = SqliteEventLog(path, synchronous="NORMAL")
    wrong: list[Exception] = []

    def prune() -> None:
        try:
            for number in range(0, 200, 20):
                log.prune(at(number * 5))
        except Exception as error:
            wrong.append(error)

    thread = threading.Thread(target=prune)
    thread.start()
    first = 1001
    while thread.is_alive():
        write(log, run_of(f"w{first}", first))
        first += 5
    thread.join()
    log.verify()
    log.close()

    assert wrong == []
    again = reader(path)
    assert again.last_seq == first - 1
    assert len([entry for entry in again.vects() if entry.id.startswith("w")]) == (first - 1001) / 5
    again.verify()


def test_nothing_may_follow_on_a_vect_that_was_pruned(path: Path) -> None:
    make(path, runs("v"))
    log = SqliteEventLog(path)
    log.prune(at(99))
    late = event(6, "v", "step.late_result", "success", "success", "s0")
    with pytest.raises(LogError, match=r"event 6 \(step.late_result\) comes after its vect v was"):
        log.append(None, late)
    log.append(None, run_of("v", 6)[0])
    log.discard()  # then it has not begun anew
    with pytest.raises(EventRefusedError, match="comes after its vect v was pruned"):
        log.append(None, late)
    write(log, run_of("v", 6))
    write(log, [event(11, "v", "step.late_result", "success", "success", "s0")])
    log.close()


KILLED = """
import sqlite3
from datetime import datetime, UTC

log = SqliteEventLog(path)
print('ready', flush=True)
sys.stdin.readline()
log._writer.set_progress_handler(lambda: os.kill(os.getpid(), 9), int(sys.argv[2]))
log.prune(datetime(2100, 1, 1, tzinfo=UTC), keep=['v1'])
"""


@pytest.mark.parametrize("steps", [200, 3000, 9000, 20_000])
def test_a_prune_that_is_killed_has_taken_out_all_or_nothing(path: Path, steps: int) -> None:
    events = runs(*(f"v{i}" for i in range(30)))
    make(path, events)
    with begin(KILLED, path, steps) as process:
        said(process)
        process.communicate("\n")

    log = SqliteEventLog(path)
    log.verify()
    found = list(log.read())
    assert found in (events, events[5:10])
    assert len(log.pruned()) == (0 if found == events else 29)
    log.prune(at(10**6), keep=["v1"])
    assert list(log.read()) == events[5:10]
    log.close()


def test_what_is_told_of_a_vect_and_lies_is_told(path: Path) -> None:
    make(path, runs("v", *(f"w{i}" for i in range(300))))
    entry = b"fsuccess2026-11-24T12:00:01+00:002026-11-24T12:00:05"
    content = path.read_bytes()
    assert content.count(entry) == 1
    path.write_bytes(
        content.replace(entry, entry.replace(b"2026-11-24T12:00:05", b"1999-11-24T12:00:05"))
    )

    log = SqliteEventLog(path)
    with pytest.raises(LogCorruptError, match="its summary of vect v does not agree"):
        log.prune(at(1))
    with pytest.raises(LogCorruptError):
        log.verify()
    log.close()


def test_a_row_that_lies_takes_nothing_out(path: Path) -> None:
    make(path, runs("v", *(f"w{i}" for i in range(300))))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE events SET time = '1999' || substr(time, 5) WHERE seq = 5")
        connection.commit()
    log = SqliteEventLog(path)  # too far back to be looked at

    with pytest.raises(LogCorruptError, match="event 5 is not what was written"):
        log.prune(at(5.5))
    assert len(log.vects()) == 301
    write(log, run_of("x", 1506))  # the log goes on
    log.close()
