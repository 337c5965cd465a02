"""Events as rows of a table: each carries a checksum, chained to that of the row before.

The checksum of a row is the CRC-32 of its event as a line of JSON, begun with the checksum of the
row before, and for the first one with the CRC-32 of the id of the log. So no row can be changed,
left out or moved without being noticed when it, or the one behind it, is read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

from oautom.errors import EventRefusedError, LogCorruptError, LogError
from oautom.events.event import Event, planned_time
from oautom.events.jsonl import Line, encoded, from_line, line_of
from oautom.events.log import VectEntry
from oautom.states import VECT_ENDS

Row = tuple[int, str, str, str, str | None, int | None, str, str | None, str, str, int]
"""An event as the columns of the table: its fields, and its checksum."""

INSERT: Final = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

# Each with the checksum of the row before, or of the gap that stands there.
_ROWS: Final = """
SELECT seq, time, flow, vect, step, attempt, name, source, dest, data, crc, coalesce(
    (SELECT crc FROM events AS before WHERE before.seq = events.seq - 1),
    (SELECT crc FROM gaps WHERE gaps.last_seq = events.seq - 1))
FROM events NOT INDEXED
"""

# An event of a plan ('planned', 'skipped') is of no Vect, though it has the id of one.
_PART: Final = """
seq > :after AND seq <= :upto AND (:vect IS NULL
    OR (vect = :vect AND (step IS NOT NULL OR dest NOT IN ('planned', 'skipped'))))
ORDER BY seq LIMIT :limit
"""

_VECT_EVENTS: Final = """
SELECT vect, seq, flow, dest, time FROM events INDEXED BY vect_events
WHERE step IS NULL AND dest NOT IN ('planned', 'skipped') AND (:flow IS NULL OR flow = :flow)
ORDER BY vect, seq
"""

_PLANNED: Final = """
SELECT seq FROM events INDEXED BY vect_events
WHERE step IS NULL AND dest IN ('pending', 'planned', 'skipped') AND vect >= ? AND vect < ?
ORDER BY seq DESC
"""

_FIRST: Final = """
SELECT min(seq) FROM events
WHERE step IS NULL AND dest NOT IN ('planned', 'skipped') AND vect = ?
"""

_INDEX: Final = """
SELECT vect, seq, flow, dest, time FROM events INDEXED BY vect_events
WHERE step IS NULL AND seq > ? ORDER BY seq
"""

_NEWEST: Final = """
SELECT seq, crc FROM events UNION ALL SELECT last_seq, crc FROM gaps ORDER BY 1 DESC LIMIT 1
"""

# What stands before a gap is an event: else the gaps are not those that were made.
_LOST: Final = """
SELECT first_seq - 1 FROM gaps
WHERE first_seq > 1 AND first_seq - 1 NOT IN (SELECT seq FROM events) LIMIT 1
"""

_BATCH: Final = 500
_ROWS_CHECKED_MIN: Final = 1000
_SEQ_MAX: Final = 2**63 - 1
_DATA_BYTES_MAX: Final = 900_000_000  # of SQLite's SQLITE_MAX_LENGTH, a thousand million for a row


class Head(NamedTuple):
    """Where a log ends: the number of its newest event, and the checksum there."""

    seq: int
    crc: int


def to_row(event: Event, before: int) -> Row:
    """Return an event as a row behind one with the checksum `before`.

    Raises:
        EventRefusedError: It cannot be kept as it is: its data as JSON, its time in UTC.
    """
    line = line_of(_in_utc(event))
    checksum = crc32(encoded(event, line), before)
    if len(line.data) > _DATA_BYTES_MAX or (line.attempt or 0) > _SEQ_MAX:
        raise EventRefusedError(
            f"event {event.seq} ({event.name}) does not fit into a row: its data take "
            f"{len(line.data)} bytes, its attempt is {event.attempt}"
        )
    return (
        line.seq,
        line.time,
        line.flow,
        line.vect,
        line.step,
        line.attempt,
        line.name,
        line.source,
        line.dest,
        bytes(line.data).decode(),
        checksum,
    )


def _in_utc(event: Event) -> Event:
    if event.time.tzinfo is UTC:
        return event
    if event.time.tzinfo is None:
        raise EventRefusedError(f"event {event.seq} has a time without time zone: {event.time}")
    try:
        time = event.time.astimezone(UTC)
    except OverflowError as error:
        raise EventRefusedError(f"event {event.seq} has a time beyond all: {event.time}") from error
    return msgspec.structs.replace(event, time=time)


class Rows:
    """Reads the rows of one log, and holds each against its checksum.

    Args:
        path: The file of the log, for messages.
        id: The id of the log.
    """

    def __init__(self, path: str, id: str) -> None:  # noqa: A002 - the public word
        self._path = path
        self.start = crc32(id.encode())

    def read(
        self,
        connection: sqlite3.Connection,
        after: int,
        upto: int | None = None,
        vect: str | None = None,
        limit: int = _BATCH,
    ) -> list[Event]:
        """Return the first events after one, those of one Vect or of all.

        Raises:
            LogCorruptError: One is not what was written.
        """
        wanted = {
            "after": min(max(after, 0), _SEQ_MAX),
            "upto": _SEQ_MAX if upto is None else min(upto, _SEQ_MAX),
            "vect": vect,
            "limit": limit,
        }
        return self.where(connection, _PART, wanted)

    def where(
        self, connection: sqlite3.Connection, condition: str, values: Mapping[str, Any]
    ) -> list[Event]:
        """Return the events whose rows fulfil a condition, a text of the program's own.

        Raises:
            LogCorruptError: One is not what was written.
        """
        # All rows before any is looked at: as long as somebody holds an error and with it a cursor
        # that has not come to its end, SQLite does not really close a connection.
        rows = connection.execute(f"{_ROWS} WHERE {condition}", values).fetchall()
        return [self._event(row) for row in rows]

    def _event(self, row: Sequence[Any]) -> Event:
        *fields, data, crc, before = row
        seq = row[0]
        if before is None:
            if seq != 1:
                raise self.corrupt(f"event {seq - 1} is missing", seq - 1)
            before = self.start
        try:
            fields.append(msgspec.Raw(data.encode()))
            line = Line(*fields).encode()
            if crc32(line, before) == crc:
                return from_line(line)
        except (AttributeError, TypeError, ValueError, LogError):
            pass  # a part is not even of the type that it was
        raise self.corrupt(f"event {seq} is not what was written", seq)

    def corrupt(self, what: str, seq: int | None = None) -> LogCorruptError:
        """Return the error that says what is damaged."""
        return LogCorruptError(self._path, what, seq)

    def first_seq(self, connection: sqlite3.Connection, vect: str) -> int | None:
        """Return the number of the first event of a Vect, None if there is no such Vect."""
        ((seq,),) = connection.execute(_FIRST, (vect,))
        return None if seq is None else int(seq)

    def vects(self, connection: sqlite3.Connection, flow: str | None = None) -> list[VectEntry]:
        """Return the Vects, oldest first.

        Raises:
            LogCorruptError: The index of their events is not in order.
        """
        entries: dict[str, VectEntry] = {}
        last = ("", 0)
        rows = connection.execute(_VECT_EVENTS, {"flow": flow}).fetchall()
        for vect, seq, flow_of, dest, time in rows:
            first = entries.get(vect)
            try:
                is_right = (vect, seq) > last and (first is None or first.flow == flow_of)
                changed = datetime.fromisoformat(time)
            except (TypeError, ValueError):
                is_right = False
            if not is_right:
                raise self.corrupt(f"the index of vects is wrong at event {seq}", seq)
            if first is None:
                entries[vect] = VectEntry(vect, flow_of, dest, seq, changed, changed)
            else:
                entries[vect] = first._replace(state=dest, changed=changed)
            last = (vect, seq)
        return sorted(entries.values(), key=attrgetter("first_seq"))

    def planned(self, connection: sqlite3.Connection, plan: str) -> datetime | None:
        """Return the newest time that a plan has dealt with, by the events that there are.

        Raises:
            LogCorruptError: One of them is not what was written.
        """
        ids = (f"{plan}@", f"{plan}A")  # A comes right behind @
        for (seq,) in connection.execute(_PLANNED, ids).fetchall():
            for event in self.read(connection, seq - 1, seq):
                told = planned_time(event)
                if told is not None and told[0] == plan:
                    return told[1]
        return None

    def head(self, connection: sqlite3.Connection) -> Head:
        """Return where the log ends."""
        return Head(*(connection.execute(_NEWEST).fetchone() or (0, self.start)))

    def check_newest(self, connection: sqlite3.Connection) -> Head:
        """Hold the newest rows against their checksums, and return where the log ends.

        These are all from the first event of the oldest Vect that has not ended, so whoever goes on
        with these Vects can rely on all that follows, the rows of others and the index included.

        Raises:
            LogCorruptError: One is not what was written, or rows are missing at the end.
        """
        head = self.head(connection)
        if lost := connection.execute(_LOST).fetchone():
            raise self.corrupt(f"event {lost[0]} is missing", lost[0])
        firsts = [v.first_seq for v in self.vects(connection) if v.state not in VECT_ENDS]
        self.check(connection, min([*firsts, head.seq - _ROWS_CHECKED_MIN]))
        kept = connection.execute("SELECT value FROM meta WHERE name = 'head'").fetchone()
        if kept is not None:
            self._check_end(head, kept[0])
        return head

    def _check_end(self, head: Head, kept: str) -> None:
        """Hold the end of a log against what was its end when it was closed."""
        try:
            then = Head(*map(int, kept.split()))
        except (AttributeError, TypeError, ValueError) as error:
            raise self.corrupt(f"its head cannot be {kept!r}") from error
        if head.seq < then.seq or (head.seq == then.seq and head.crc != then.crc):
            raise self.corrupt(f"event {then.seq} is missing, once the last one", then.seq)

    def check(self, connection: sqlite3.Connection, first: int = 1) -> None:
        """Hold all rows from one on against their checksums, and the index against the rows.

        Raises:
            LogCorruptError: One is not what was written.
        """
        after = max(first - 1, 0)
        entries = iter(connection.execute(_INDEX, (after,)).fetchall())
        while events := self.read(connection, after):
            for event in events:
                if event.step is None:
                    time = event.time.isoformat()
                    entry = (event.vect, event.seq, event.flow, event.dest, time)
                    if next(entries, None) != entry:
                        raise self.corrupt(
                            f"the index of vects is wrong at event {event.seq}", event.seq
                        )
            after = events[-1].seq
        if extra := next(entries, None):
            raise self.corrupt(f"event {extra[1]} is missing", extra[1])
