"""The log in memory: append, commit, read."""

from __future__ import annotations

import pytest

from oautom import LogError, MemoryEventLog

from .hand_made import created, started


def filled(*, committed: int, appended: int = 0) -> MemoryEventLog:
    """A log of events 1, 2, 3, ... of two Vects in turn."""
    log = MemoryEventLog()
    for seq in range(1, committed + 1):
        log.append(None, started(seq, vect="vw"[seq % 2]))
    log.commit()
    for seq in range(committed + 1, committed + appended + 1):
        log.append(None, started(seq, vect="vw"[seq % 2]))
    return log


def seqs(events) -> list[int]:
    return [event.seq for event in events]


def test_a_new_log_is_empty() -> None:
    log = MemoryEventLog()

    assert log.last_seq == 0
    assert list(log.read()) == []
    assert list(log.commit()) == []


def test_readers_see_what_is_committed_and_nothing_else() -> None:
    log = filled(committed=2, appended=3)

    assert log.last_seq == 5
    assert seqs(log.read()) == [1, 2]
    assert seqs(log.read(upto=5)) == [1, 2]


def test_a_commit_returns_what_was_appended_since_the_last_one() -> None:
    log = filled(committed=2, appended=3)

    assert seqs(log.commit()) == [3, 4, 5]
    assert seqs(log.commit()) == []
    assert seqs(log.read()) == [1, 2, 3, 4, 5]


def test_what_a_commit_has_returned_does_not_grow() -> None:
    log = filled(committed=0, appended=2)
    committed = log.commit()

    log.append(None, started(3))
    log.commit()

    assert seqs(committed) == [1, 2]


@pytest.mark.parametrize("seq", [0, 1, 2, 4])
def test_an_event_that_is_not_the_next_one_is_refused(seq: int) -> None:
    log = filled(committed=2)

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
def test_a_part_can_be_read(asked, expected) -> None:
    assert seqs(filled(committed=6).read(**asked)) == expected


def test_a_closed_log_takes_no_more_and_can_still_be_read() -> None:
    log = filled(committed=2)
    log.close()
    log.close()

    with pytest.raises(LogError, match=r"^event 3 comes after the log was closed$"):
        log.append(None, started(3))

    assert log.last_seq == 2
    assert seqs(log.read()) == [1, 2]


def test_the_very_events_are_kept() -> None:
    log, first = MemoryEventLog(), created(1, {"a": ()})
    log.append("whoever sends it", first)
    log.commit()

    assert next(log.read()) is first
