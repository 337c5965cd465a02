"""Any history: what is read from a file is what was written, however it was committed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oautom import Event, MemoryEventLog, SqliteEventLog
from oautom.events import replay
from oautom.machine.tables import VECT_ENDS
from oautom.testing import histories

from .logs import reader, write

moderate = settings(deadline=None, max_examples=25)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
names = st.text(st.characters(codec="utf-8"), max_size=8)
numbers = count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


def new(folder: Path) -> SqliteEventLog:
    return SqliteEventLog(folder / f"{next(numbers)}.db", synchronous="NORMAL")


def parts(events: list[Event], draw: Any) -> Iterator[list[Event]]:
    """Yield the events in groups of drawn lengths."""
    start = 0
    while start < len(events):
        length = draw(st.integers(1, 5))
        yield events[start : start + length]
        start += length


@moderate
@given(history=histories(max_vects=3), data=st.data())
def test_what_is_read_is_what_was_written(folder: Path, history: Any, data: st.DataObject) -> None:
    log, memory = new(folder), MemoryEventLog()
    for part in parts(list(history), data.draw):
        for each in part:
            log.append(None, each)
            memory.append(None, each)
        assert list(log.commit()) == list(memory.commit()) == part
        if data.draw(st.booleans()):
            log.close()
            log = SqliteEventLog(log.path, synchronous="NORMAL")
    assert list(log.read()) == list(memory.read()) == history
    assert log.vects() == memory.vects()
    log.close()

    after, upto = data.draw(st.integers(-1, 30)), data.draw(st.none() | st.integers(-1, 30))
    vect = data.draw(st.none() | st.sampled_from([entry.id for entry in memory.vects()] or ["x"]))
    asked = {"after": after, "upto": upto, "vect": vect}
    again = reader(log.path)
    assert list(again.read(**asked)) == list(memory.read(**asked))
    again.verify()


@moderate
@given(history=histories(max_vects=3), data=st.data())
def test_what_is_discarded_leaves_no_trace(folder: Path, history: Any, data: st.DataObject) -> None:
    logs = log, memory = new(folder), MemoryEventLog()
    kept: list[Event] = []
    for part in parts(list(history), data.draw):
        for each in part:
            again = msgspec.structs.replace(each, seq=len(kept) + 1 + part.index(each))
            for one in logs:
                one.append(None, again)
        if data.draw(st.booleans()):
            assert list(log.commit()) == list(memory.commit())
            kept += [msgspec.structs.replace(e, seq=len(kept) + i) for i, e in enumerate(part, 1)]
        else:
            for one in logs:
                one.discard()
        if data.draw(st.booleans()):
            log.discard()
            log.close()
            log = SqliteEventLog(log.path, synchronous="NORMAL")
            logs = log, memory
        for one in logs:
            assert one.last_seq == one.committed_seq == len(kept)
            assert list(one.read()) == kept
    log.verify()
    log.close()


@moderate
@given(histories(max_vects=3))
def test_the_state_of_a_vect_is_that_of_its_own_events(folder: Path, history: Any) -> None:
    log = new(folder)
    write(log, history)
    states = replay(history)
    for entry in log.vects():
        own = replay(log.read(vect=entry.id))[entry.id]
        assert own.facts() == states[entry.id].facts()
        assert (entry.flow, entry.state) == (own.flow, own.state)
        assert entry.created == own.created_date
        if own.state in VECT_ENDS:
            assert entry.changed == own.end_date
    assert {entry.id for entry in log.vects()} == set(states)
    log.close()


@moderate
@given(
    history=histories(max_vects=3), seconds=st.integers(0, 25), keep=st.sets(st.sampled_from("12"))
)
def test_both_logs_prune_the_same(folder: Path, history: Any, seconds: int, keep: set[str]) -> None:
    log, memory = new(folder), MemoryEventLog()
    for each in history:
        log.append(None, each)
        memory.append(None, each)
    log.commit()
    memory.commit()
    instant = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    kept = [f"vect-{number}" for number in keep]

    gone, also = log.prune(instant, keep=kept), memory.prune(instant, keep=kept)

    assert [vect[:-1] for vect in gone] == [vect[:-1] for vect in also]
    assert list(log.read()) == list(memory.read())
    assert (log.gaps(), log.vects(), log.last_seq) == (
        memory.gaps(),
        memory.vects(),
        memory.last_seq,
    )
    log.verify()
    numbers_there = {event.seq for event in log.read()}
    numbers_gone = {seq for first, last in log.gaps() for seq in range(first, last + 1)}
    assert numbers_there | numbers_gone == set(range(1, log.last_seq + 1))
    assert not numbers_there & numbers_gone
    log.close()
    SqliteEventLog(log.path).close()


@moderate
@given(
    flow=names,
    vect=names,
    step=st.none() | names,
    attempt=st.none() | st.integers(-(2**63), 2**63 - 1),
    name=names,
    source=st.none() | names,
    dest=names,
    time=st.datetimes(
        datetime(2, 1, 1), datetime(9998, 1, 1),  # noqa: DTZ001 - the zones come next
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5, minutes=30))]),
    ),
    data=st.dictionaries(st.text(), values),
)  # fmt: skip
def test_an_event_of_any_content_is_read_as_it_was(folder: Path, **fields: Any) -> None:
    data = MappingProxyType(fields.pop("data"))
    if fields["name"] == "vect.created":
        return
    event = Event(seq=1, data=data, **fields)
    log = new(folder)
    write(log, [event])
    (again,) = log.read()
    log.verify()
    log.close()

    assert again == event
    assert repr(dict(again.data)) == repr(dict(event.data))
    assert again.time.tzinfo is UTC
    assert next(reader(log.path).read()) == event
    assert msgspec.structs.astuple(again)[:2] == (1, event.time)
