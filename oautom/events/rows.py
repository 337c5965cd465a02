"""Events as rows of a table: each carries a checksum, chained to that of the row before.

The checksum of a row is the CRC-32 of its event as a line of JSON, begun with the checksum of the
row before, and for the first one with the CRC-32 of the id of the log. So no row can be changed,
left out or moved without being noticed when it, or the one behind it, is read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

from oautom.errors import LogCorruptError, LogError
from oautom.events.event import Event
from oautom.events.jsonl import Line, encoded, from_line, line_of
from oautom.events.log import VectEntry
from oautom.states import VECT_ENDS

Row = tuple[int, str, str, str, str | None, int | None, str, str | None, str, str, int]
"""An event as the columns of the table: its fields, and its checksum."""

INSERT: Final = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

# Each with the checksum of the row before, or of the gap that stands there.
_SELECT: Final = """
SELECT seq, time, flow, vect, step, attempt, name, source, dest, data, crc, coalesce(
    (SELECT crc FROM events AS before WHERE before.seq = events.seq - 1),
    (SELECT crc FROM gaps WHERE gaps.last_seq = events.seq - 1))
FROM events WHERE seq > :after AND seq <= :upto AND (:vect IS NULL OR vect = :vect)
ORDER BY seq LIMIT :limit
"""

_VECT_EVENTS: Final = """
SELECT vect, seq, flow, dest, time FROM events INDEXED BY vect_events
WHERE step IS NULL AND (:flow IS NULL OR flow = :flow) ORDER BY vect, seq
"""

_NEWEST: Final = """
SELECT seq, crc FROM events UNION ALL SELECT last_seq, crc FROM gaps ORDER BY 1 DESC LIMIT 1
"""

_BATCH: Final = 500
_ROWS_CHECKED_MIN: Final = 1000
_SEQ_MAX: Final = 2**63 - 1


class Head(NamedTuple):
    """Where a log ends: the number of its newest event, and the checksum there."""

    seq: int
    crc: int


def to_row(event: Event, before: int) -> Row:
    """Return an event as a row behind one with the checksum `before`.

    Raises:
        LogError: It cannot be kept as it is: its data as JSON, its time in UTC.
    """
    if event.time.tzinfo is not UTC:
        if event.time.tzinfo is None:
            raise LogError(f"event {event.seq} has a time without time zone: {event.time}")
        event = msgspec.structs.replace(event, time=event.time.astimezone(UTC))
    line = line_of(event)
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
        crc32(encoded(event, line), before),
    )


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
            "after": max(after, 0),
            "upto": _SEQ_MAX if upto is None else min(upto, _SEQ_MAX),
            "vect": vect,
            "limit": limit,
        }
        return [self._event(row) for row in connection.execute(_SELECT, wanted)]

    def _event(self, row: Sequence[Any]) -> Event:
        *fields, data, crc, before = row
        seq = row[0]
        if before is None:
            if seq != 1:
                raise self._corrupt(f"event {seq - 1} is missing", seq - 1)
            before = self.start
        try:
            fields.append(msgspec.Raw(data.encode()))
            line = Line(*fields).encode()
            if crc32(line, before) == crc:
                return from_line(line)
        except (AttributeError, TypeError, ValueError, LogError):
            pass  # a part is not even of the type that it was
        raise self._corrupt(f"event {seq} is not what was written", seq)

    def _corrupt(self, what: str, seq: int | None = None) -> LogCorruptError:
        return LogCorruptError(self._path, what, seq)

    def first_seq(self, connection: sqlite3.Connection, vect: str) -> int | None:
        """Return the number of the first event of a Vect, None if there is no such Vect."""
        sql = "SELECT min(seq) FROM events WHERE step IS NULL AND vect = ?"
        ((seq,),) = connection.execute(sql, (vect,))
        return None if seq is None else int(seq)

    def vects(self, connection: sqlite3.Connection, flow: str | None = None) -> list[VectEntry]:
        """Return the Vects, oldest first.

        Raises:
            LogCorruptError: The index of their events is not in order.
        """
        entries = list(self._entries(connection.execute(_VECT_EVENTS, {"flow": flow})))
        return sorted(entries, key=lambda entry: entry.first_seq)

    def _entries(self, rows: Iterable[tuple[str, int, str, str, str]]) -> Iterator[VectEntry]:
        first, last = None, ("", 0)
        newest: VectEntry | None = None
        for vect, seq, flow, dest, time in rows:
            if (vect, seq) <= last:
                raise self._corrupt(f"the index of vects is out of order at event {seq}")
            last = (vect, seq)
            try:
                changed = datetime.fromisoformat(time)
            except ValueError as error:
                raise self._corrupt(f"the index of vects is wrong at event {seq}", seq) from error
            if newest is None or newest.id != vect:
                if newest is not None:
                    yield newest
                first = VectEntry(vect, flow, dest, seq, changed, changed)
                newest = first
            elif newest.flow != flow:
                raise self._corrupt(f"the index of vects is wrong at event {seq}", seq)
            else:
                newest = newest._replace(state=dest, changed=changed)
        if newest is not None:
            yield newest

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
        is_open = (v.first_seq for v in self.vects(connection) if v.state not in VECT_ENDS)
        self.check(connection, min(min(is_open, default=head.seq), head.seq - _ROWS_CHECKED_MIN))
        kept = connection.execute("SELECT value FROM meta WHERE name = 'head'").fetchone()
        if kept is not None:
            self._check_end(head, kept[0])
        return head

    def _check_end(self, head: Head, kept: str) -> None:
        """Hold the end of a log against what was its end when it was closed."""
        try:
            then = Head(*map(int, kept.split()))
        except (AttributeError, TypeError, ValueError) as error:
            raise self._corrupt(f"its head cannot be {kept!r}") from error
        if head.seq < then.seq or (head.seq == then.seq and head.crc != then.crc):
            raise self._corrupt(f"event {then.seq} is missing, once the last one", then.seq)

    def check(self, connection: sqlite3.Connection, first: int = 1) -> None:
        """Hold all rows from one on against their checksums, and the index against the rows.

        Raises:
            LogCorruptError: One is not what was written.
        """
        after = max(first - 1, 0)
        sql = f"{_VECT_EVENTS.replace('ORDER BY vect, seq', 'AND seq > :after ORDER BY seq')}"
        index = connection.execute(sql, {"flow": None, "after": after})
        while events := self.read(connection, after):
            for event in events:
                if event.step is None:
                    time = event.time.isoformat()
                    expected = (event.vect, event.seq, event.flow, event.dest, time)
                    if index.fetchone() != expected:
                        raise self._corrupt(
                            f"the index of vects is wrong at event {event.seq}", event.seq
                        )
            after = events[-1].seq
        if extra := index.fetchone():
            raise self._corrupt(f"event {extra[1]} is missing", extra[1])
