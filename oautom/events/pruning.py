"""Taking old Vects out of the file of a log, so that what stays can still be verified."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from oautom.events.log import PrunedVect, VectEntry

# Runs of events without one that stays in between: in each, number minus rank is the same. Where
# there is one max(), SQLite takes bare columns from its row: crc is that of the last event.
_RUNS: Final = """
SELECT max(seq), count(*), crc FROM (
    SELECT seq, crc, seq - row_number() OVER (ORDER BY seq) AS run
    FROM events WHERE seq BETWEEN ? AND ? AND vect IN (SELECT vect FROM temp.old)
) GROUP BY run
"""

_COUNTS: Final = """
SELECT vect, max(seq), count(*) FROM events
WHERE seq BETWEEN ? AND ? AND vect IN (SELECT vect FROM temp.old) GROUP BY vect
"""

_DELETE: Final = """
DELETE FROM events WHERE seq BETWEEN ? AND ? AND vect IN (SELECT vect FROM temp.old)
"""

Gap = tuple[int, int, int]
"""The last and first number of events that are gone, and the checksum of the last."""


def take_out(connection: sqlite3.Connection, old: Iterable[VectEntry]) -> list[PrunedVect]:
    """Take the events of some Vects out, within the transaction that is open."""
    entries = {vect.id: vect for vect in old}
    if not entries:
        return []
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS old (vect TEXT PRIMARY KEY)")
    connection.execute("DELETE FROM temp.old")
    connection.executemany("INSERT INTO temp.old VALUES (?)", ((name,) for name in entries))
    first = min(vect.first_seq for vect in entries.values())
    ((last,),) = connection.execute("SELECT max(seq) FROM events")
    counts = connection.execute(_COUNTS, (first, last)).fetchall()
    now = datetime.now(UTC)
    gone = [_pruned(entries[name], last_seq, count, now) for name, last_seq, count in counts]
    gaps = connection.execute("SELECT last_seq, first_seq, crc FROM gaps").fetchall()
    runs = connection.execute(_RUNS, (first, last))
    gaps += [(end, end - count + 1, crc) for end, count, crc in runs]
    connection.execute(_DELETE, (first, last))
    connection.execute("DELETE FROM gaps")
    connection.executemany("INSERT INTO gaps VALUES (?, ?, ?)", _merged(gaps))
    connection.executemany("INSERT INTO pruned VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(_to_row, gone))
    return sorted(gone, key=lambda vect: vect.first_seq)


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
