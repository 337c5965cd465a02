"""Events as rows of a table: each has a checksum, chained to that of the row before.

The checksum of a row is the CRC-32 of its event as a line of JSON, begun with the checksum of the
row before, or with the CRC-32 of the id of the log for the first row. So a row that was changed,
left out or moved is noticed when it, or the row behind it, is read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

from oautom.errors import EventRefusedError, LogCorruptError, LogError
from oautom.events.jsonl import Line, encoded, from_parts, line_of
from oautom.machine.event import Event

Row = tuple[int, str, str, str, str | None, int | None, str, str | None, str, str, int]
"""An event as the columns of the table: its fields, and its checksum."""

INSERT: Final = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

# Each with the checksum of the row before, or of the gap before.
_ROWS: Final = """
SELECT seq, time, flow, vect, step, attempt, name, source, dest, data, crc, coalesce(
    (SELECT crc FROM events AS before WHERE before.seq = events.seq - 1),
    (SELECT crc FROM gaps WHERE gaps.last_seq = events.seq - 1))
FROM events"""
_DATA: Final = 9  # the place of the data among them

_PART: Final = "seq > :after AND seq <= :upto ORDER BY seq LIMIT :limit"

# An event of a plan ('planned', 'skipped') belongs to no Vect, though it has the id of one.
OF_VECTS: Final = "(step IS NOT NULL OR dest NOT IN ('planned', 'skipped'))"

_NEWEST: Final = """
SELECT seq, crc FROM events UNION ALL SELECT last_seq, crc FROM gaps ORDER BY 1 DESC LIMIT 1
"""

PAGE: Final = 1000
"""How many rows are read in one transaction: a long one prevents restarts of the WAL."""

_PAGE_BYTES: Final = 8 * 2**20
"""The size of the data of one transaction, without its last row."""

_SEQ_MAX: Final = 2**63 - 1
_DATA_BYTES_MAX: Final = 900_000_000  # of SQLite's SQLITE_MAX_LENGTH, a thousand million for a row


class Page(NamedTuple):
    """Rows that were read in one transaction, and whether more may follow."""

    rows: list[Any]
    has_more: bool


class Head(NamedTuple):
    """The end of a log: the number of its newest event, and the checksum there."""

    seq: int
    crc: int


def to_row(event: Event, before: int) -> Row:
    """Return an event as the row behind one with the checksum `before`.

    Raises:
        EventRefusedError: The event cannot be stored unchanged: its data as JSON, its time in UTC.
    """
    if event.time.tzinfo is not UTC:
        event = _in_utc(event)
    line = line_of(event)
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
    if event.time.tzinfo is None:
        raise EventRefusedError(f"event {event.seq} has a time without time zone: {event.time}")
    try:
        time = event.time.astimezone(UTC)
    except OverflowError as error:
        raise EventRefusedError(
            f"event {event.seq} has a time out of range: {event.time}"
        ) from error
    return msgspec.structs.replace(event, time=time)


class Rows:
    """Reads the rows of one log, and checks each against its checksum.

    Args:
        path: The file of the log, for messages.
        id: The id of the log.
    """

    def __init__(self, path: str, id: str) -> None:  # noqa: A002 - the public word
        self._path = path
        self.start = crc32(id.encode())

    def page(
        self,
        connection: sqlite3.Connection,
        after: int,
        upto: int | None = None,
        vect: str | None = None,
        limit: int = PAGE,
    ) -> Page:
        """Return the first rows after an event, those of one Vect or of all.

        No more than can be read in a moment: for the next page, begin another transaction.
        """
        wanted: dict[str, Any] = {
            "after": min(max(after, 0), _SEQ_MAX),
            "upto": _SEQ_MAX if upto is None else min(upto, _SEQ_MAX),
            "limit": limit,
        }
        if vect is None:
            sql = f"{_ROWS} NOT INDEXED WHERE {_PART}"
        else:
            sql = f"{_ROWS} WHERE vect = :vect AND {OF_VECTS} AND {_PART}"
            wanted["vect"] = vect
        return _page(connection, sql, wanted, limit)

    def of_vects(self, connection: sqlite3.Connection, vects: Sequence[str], limit: int) -> Page:
        """Return the rows of some Vects, those of each in the order of the log.

        Args:
            connection: To the file.
            vects: The ids of the Vects.
            limit: More rows than they have.
        """
        marks = ", ".join("?" * len(vects))
        sql = f"{_ROWS} WHERE vect IN ({marks}) AND {OF_VECTS} ORDER BY vect, seq"
        return _page(connection, sql, vects, limit)

    def where(
        self, connection: sqlite3.Connection, condition: str, values: Mapping[str, Any]
    ) -> list[Event]:
        """Return the events whose rows fulfil an SQL condition, which must be a constant.

        Raises:
            LogCorruptError: A row is not what was written.
        """
        return self.events(connection.execute(f"{_ROWS} WHERE {condition}", values).fetchall())

    def events(self, rows: Iterable[Sequence[Any]]) -> list[Event]:
        """Return the events of rows, without a transaction.

        Raises:
            LogCorruptError: A row is not what was written.
        """
        # `rows` is complete: an error in the middle would keep an unfinished cursor alive, and
        # SQLite does not really close a connection with one.
        return [self._event(row) for row in rows]

    def _event(self, row: Sequence[Any]) -> Event:
        seq, time, flow, vect, step, attempt, name, source, dest, data, crc, before = row
        if before is None:
            if seq != 1:
                raise self.corrupt(f"event {seq - 1} is missing", seq - 1)
            before = self.start
        try:
            raw = msgspec.Raw(data.encode())
            line = Line(seq, time, flow, vect, step, attempt, name, source, dest, raw)
            if crc32(line.encode(), before) == crc:
                return from_parts(seq, time, flow, vect, step, attempt, name, source, dest, data)
        except (AttributeError, TypeError, ValueError, LogError):
            pass  # a part has not even the right type
        raise self.corrupt(f"event {seq} is not what was written", seq)

    def corrupt(self, what: str, seq: int | None = None) -> LogCorruptError:
        """Return the error that names the damage."""
        return LogCorruptError(self._path, what, seq)

    def head(self, connection: sqlite3.Connection) -> Head:
        """Return the end of the log."""
        return Head(*(connection.execute(_NEWEST).fetchone() or (0, self.start)))


def _page(connection: sqlite3.Connection, sql: str, values: Any, limit: int) -> Page:
    """Return rows up to a total size of their data."""
    rows, size_bytes = [], 0
    with closing(connection.execute(sql, values)) as cursor:
        for row in cursor:
            rows.append(row)
            size_bytes += len(row[_DATA]) if isinstance(row[_DATA], str) else 0
            if size_bytes > _PAGE_BYTES:
                return Page(rows, has_more=True)
    return Page(rows, has_more=len(rows) == limit)
