"""Taking old Vects out of the file of a log, so that what stays can still be verified."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from oautom.events.log import PrunedVect, VectEntry
from oautom.events.rows import Rows

# What plans have told stays: it says where they stand.
_FIND: Final = """
INSERT INTO temp.gone SELECT seq, vect, crc FROM events
WHERE seq >= ? AND vect IN (SELECT vect FROM temp.old)
AND (step IS NOT NULL OR dest NOT IN ('planned', 'skipped')) ORDER BY seq
"""

# Runs of numbers without a hole: in each, number minus rank is the same. Where there is one max(),
# SQLite takes bare columns from its row: crc is that of the last event.
_RUNS: Final = """
SELECT max(seq), count(*), crc FROM (
    SELECT seq, crc, seq - row_number() OVER (ORDER BY seq) AS run FROM temp.gone
) GROUP BY run
"""

_OWN: Final = "step IS NULL AND seq IN (SELECT seq FROM temp.gone) ORDER BY seq"

Gap = tuple[int, int, int]
"""The last and first number of events that are gone, and the checksum of the last."""


def take_out(
    connection: sqlite3.Connection, rows: Rows, old: Iterable[VectEntry]
) -> list[PrunedVect]:
    """Take the events of some Vects out, within the transaction that is open.

    Raises:
        LogCorruptError: The rows do not say the same of these Vects as the index does.
    """
    entries = {vect.id: vect for vect in old}
    if not entries:
        return []
    _find(connection, entries)
    _check(connection, rows, entries)
    now = datetime.now(UTC)
    sql = "SELECT vect, max(seq), count(*) FROM temp.gone GROUP BY vect"
    counts = connection.execute(sql).fetchall()
    gone = [_pruned(entries[name], last_seq, count, now) for name, last_seq, count in counts]
    gaps = connection.execute("SELECT last_seq, first_seq, crc FROM gaps").fetchall()
    gaps += [
        (last, last - count + 1, crc) for last, count, crc in connection.execute(_RUNS).fetchall()
    ]
    connection.execute("DELETE FROM events WHERE seq IN (SELECT seq FROM temp.gone)")
    connection.execute("DELETE FROM given_up WHERE seq IN (SELECT seq FROM temp.gone)")
    connection.execute("DELETE FROM gaps")
    connection.executemany("INSERT INTO gaps VALUES (?, ?, ?)", _merged(gaps))
    connection.executemany("INSERT INTO pruned VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(_to_row, gone))
    connection.execute("DROP TABLE temp.gone")
    connection.execute("DROP TABLE temp.old")
    return sorted(gone, key=lambda vect: vect.first_seq)


def _find(connection: sqlite3.Connection, entries: Mapping[str, VectEntry]) -> None:
    """Note the rows that are to go, in a table that only this connection sees."""
    connection.execute("CREATE TEMP TABLE old (vect TEXT PRIMARY KEY)")
    connection.execute("CREATE TEMP TABLE gone (seq INTEGER PRIMARY KEY, vect TEXT, crc INTEGER)")
    connection.executemany("INSERT INTO temp.old VALUES (?)", ((name,) for name in entries))
    connection.execute(_FIND, (min(vect.first_seq for vect in entries.values()),))


def _check(connection: sqlite3.Connection, rows: Rows, entries: Mapping[str, VectEntry]) -> None:
    """Hold the index against the rows, which are verified: nothing is taken out by mistake."""
    ends = {event.vect: (event.dest, event.time) for event in rows.where(connection, _OWN, {})}
    for vect in entries.values():
        if ends.get(vect.id) != (vect.state, vect.changed):
            raise rows.corrupt(f"the index of vects is wrong for vect {vect.id}")


def _merged(gaps: list[Gap]) -> list[Gap]:
    merged: list[Gap] = []
    for last, first, crc in sorted(gaps):
        if merged and merged[-1][0] + 1 == first:
            merged[-1] = (last, merged[-1][1], crc)
        else:
            merged.append((last, first, crc))
    return merged


def _pruned(vect: VectEntry, last_seq: int, events: int, now: datetime) -> PrunedVect:
    return PrunedVect(*vect[:4], last_seq, events, vect.changed, now)


def _to_row(gone: PrunedVect) -> tuple[int, int, int, str, str, str, str, str]:
    times = gone.ended.isoformat(), gone.pruned.isoformat()
    return gone.first_seq, gone.last_seq, gone.events, gone.id, gone.flow, gone.state, *times


def pruned(connection: sqlite3.Connection) -> list[PrunedVect]:
    """Return all Vects that have been taken out, oldest first."""
    rows = connection.execute(
        "SELECT vect, flow, state, first_seq, last_seq, events, ended, pruned FROM pruned "
        "ORDER BY first_seq"
    )
    return [PrunedVect(*row[:6], *map(datetime.fromisoformat, row[6:])) for row in rows]
