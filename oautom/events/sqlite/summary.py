"""The summary of a log, stored beside its events, so that few events must be read.

It has the state of each Vect and its number of events, and for each plan the newest time that it
has dealt with. It is written in the transaction of the events that it sums up; `checksums` compares
the two.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from oautom.events.log import PrunedVect, VectEntry
from oautom.events.sqlite.rows import PAGE, Row, Rows
from oautom.machine.event import Event, instant_of, is_of_plan, planned_time, stamp
from oautom.machine.tables import VECT_ENDS

IS_OPEN: Final = f"state NOT IN ({', '.join(map(repr, sorted(VECT_ENDS)))})"

_OWN: Final = """
INSERT INTO vects VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (vect) DO UPDATE
SET state = excluded.state, changed = excluded.changed, events = events + excluded.events + ?
"""
_MORE: Final = "UPDATE vects SET events = events + ? WHERE vect = ?"
_PLANNED: Final = "INSERT OR REPLACE INTO plans VALUES (?, ?, ?)"
_ENTRY: Final = "SELECT vect, flow, state, first_seq, created, changed, events FROM vects"
_SIZE: Final = "SELECT vect, first_seq, events FROM vects"
_GONE: Final = "SELECT vect, flow, state, first_seq, last_seq, events, ended, pruned FROM pruned"


class Known(NamedTuple):
    """The summary of a Vect: its entry and its number of events, None in an older file."""

    entry: VectEntry
    events: int | None

    @property
    def is_open(self) -> bool:
        """Whether the Vect has not ended."""
        return self.entry.state not in VECT_ENDS


class Size(NamedTuple):
    """The place and number of the events of a Vect; the number is None in an older file."""

    vect: str
    first_seq: int
    events: int | None


def sum_up(connection: sqlite3.Connection, rows: Sequence[Row], events: Sequence[Event]) -> None:
    """Add new events to the summary, within the transaction that writes their rows."""
    counts: dict[str, int] = {}
    own: dict[str, tuple[Row, Row, int]] = {}  # the first, the last, and its count before
    plans: dict[str, tuple[str, int]] = {}
    for row, event in zip(rows, events, strict=True):
        if event.step is None:
            if (planned := planned_time(event)) is not None:
                plans[planned[0]] = stamp(planned[1]), event.seq
            if is_of_plan(event):
                continue
            first, _, before = own.get(event.vect, (row, row, counts.get(event.vect, 0)))
            own[event.vect] = first, row, before
        counts[event.vect] = counts.get(event.vect, 0) + 1
    for vect, (first, last, before) in own.items():
        count = counts.pop(vect) - before  # the others belong to a Vect that is known, if any
        values = first[0], vect, first[2], last[8], first[1], last[1], count, before
        connection.execute(_OWN, values)
    for vect, count in counts.items():
        connection.execute(_MORE, (count, vect))
    if plans:
        connection.executemany(_PLANNED, ((name, *planned) for name, planned in plans.items()))


class Summary:
    """Reads the summary.

    Args:
        rows: The rows of the log.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def _known(self, row: Sequence[Any]) -> Known:
        *_, created, changed, events = row
        try:
            times = datetime.fromisoformat(created), datetime.fromisoformat(changed)
        except (TypeError, ValueError) as error:
            raise self._rows.corrupt(f"its summary of vect {row[0]} is wrong: {error}") from error
        return Known(VectEntry(row[0], row[1], row[2], row[3], *times), events)

    def _all(self, connection: sqlite3.Connection, more: str, *values: object) -> list[Known]:
        return [
            self._known(row) for row in connection.execute(f"{_ENTRY} {more}", values).fetchall()
        ]

    def find(self, connection: sqlite3.Connection, vect: str) -> Known | None:
        """Return the summary of a Vect; None if there is none of this id."""
        return next(iter(self._all(connection, "WHERE vect = ?", vect)), None)

    def newest(self, connection: sqlite3.Connection, flow: str) -> Known | None:
        """Return the summary of the newest Vect of a flow; None if it has none."""
        more = "WHERE flow = ? ORDER BY first_seq DESC LIMIT 1"
        return next(iter(self._all(connection, more, flow)), None)

    def newest_first(
        self,
        connection: sqlite3.Connection,
        limit: int | None,
        flow: str | None,
        states: Collection[str] | None,
        since: datetime | None,
    ) -> list[Known]:
        """Return the newest Vects, newest first; None for an argument selects all."""
        wanted, values = ["1"], list[object]()
        if flow is not None:
            wanted.append("flow = ?")
            values.append(flow)
        if states is not None:
            wanted.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        if since is not None:
            wanted.append("created >= ?")
            values.append(since.astimezone(UTC).isoformat())
        values.append(-1 if limit is None else limit)
        more = f"WHERE {' AND '.join(wanted)} ORDER BY first_seq DESC LIMIT ?"
        return self._all(connection, more, *values)

    def open_vects(self, connection: sqlite3.Connection) -> list[Known]:
        """Return the Vects that have not ended, oldest first."""
        return self._all(connection, f"WHERE {IS_OPEN} ORDER BY first_seq")

    def ended(self, connection: sqlite3.Connection, before: datetime) -> list[Known]:
        """Return the Vects that ended before an instant, oldest first."""
        more = f"WHERE NOT ({IS_OPEN}) AND changed < ? ORDER BY first_seq"
        return self._all(connection, more, before.astimezone(UTC).isoformat())

    def sizes(self, connection: sqlite3.Connection, vects: Sequence[str]) -> dict[str, Size]:
        """Return the sizes of Vects by id; an unknown id is left out."""
        marks = ", ".join("?" * len(vects))
        sql = f"{_SIZE} WHERE vect IN ({marks})"
        return {row[0]: Size(*row) for row in connection.execute(sql, vects).fetchall()}

    def page(
        self, connection: sqlite3.Connection, after: int, flow: str | None, limit: int = PAGE
    ) -> list[Known]:
        """Return the next Vects that began after an event, those of one flow or all."""
        of_flow = "" if flow is None else "flow = ? AND"
        more = f"WHERE {of_flow} first_seq > ? ORDER BY first_seq LIMIT ?"
        values = (after, limit) if flow is None else (flow, after, limit)
        return self._all(connection, more, *values)

    def planned(self, connection: sqlite3.Connection, plan: str) -> datetime | None:
        """Return the newest time that a plan has dealt with."""
        sql = "SELECT planned FROM plans WHERE name = ?"
        rows = connection.execute(sql, (plan,)).fetchall()
        return instant_of(rows[0][0]) if rows else None

    def find_pruned(self, connection: sqlite3.Connection, vect: str) -> PrunedVect | None:
        """Return the pruned Vect of this id; None if there is none."""
        sql = f"{_GONE} WHERE vect = ? ORDER BY first_seq DESC LIMIT 1"
        return next(iter(map(_pruned, connection.execute(sql, (vect,)).fetchall())), None)

    def pruned(
        self, connection: sqlite3.Connection, after: int, limit: int = PAGE
    ) -> list[PrunedVect]:
        """Return the next pruned Vects, of those that began after an event."""
        sql = f"{_GONE} WHERE first_seq > ? ORDER BY first_seq LIMIT ?"
        return list(map(_pruned, connection.execute(sql, (after, limit)).fetchall()))


def _pruned(row: Sequence[Any]) -> PrunedVect:
    return PrunedVect(*row[:6], *map(datetime.fromisoformat, row[6:]))
