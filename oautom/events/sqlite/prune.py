"""Removing old Vects from the file of a log, so that the rest can still be verified."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from oautom.events.log import PrunedVect, VectEntry, told_by_id
from oautom.events.sqlite.rows import OF_VECTS, PAGE, Rows
from oautom.machine.event import is_of_plan, stamp

_FIND: Final = """
INSERT INTO temp.gone SELECT seq, vect, crc, step IS NULL
FROM temp.old CROSS JOIN events USING (vect) WHERE
"""

# The first and the newest event of a plan stay, so that its position is known.
_FIND_SKIPS: Final = """
INSERT INTO temp.gone SELECT seq, NULL, crc, 1 FROM events INDEXED BY skips
WHERE step IS NULL AND dest = 'skipped' AND time < ? AND seq NOT IN (SELECT seq FROM plans)
"""

# Runs of numbers without a hole: in each, number minus rank is the same. Where there is one max(),
# SQLite takes bare columns from its row: crc is that of the last event.
_RUNS: Final = """
SELECT max(seq), count(*), crc FROM (
    SELECT seq, crc, seq - row_number() OVER (ORDER BY seq) AS run FROM temp.gone
) GROUP BY run
"""

_OWN: Final = """
seq IN (SELECT seq FROM temp.gone WHERE is_own AND seq > :after ORDER BY seq LIMIT :limit)
ORDER BY seq
"""
_COUNTS: Final = "SELECT vect, max(seq), count(*) FROM temp.gone WHERE vect NOTNULL GROUP BY vect"

# Without the Z a time with a fraction of a second is greater than that second, as text too.
_TOLD_BY_ID: Final = """
INSERT INTO plans VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE
SET planned = max(rtrim(planned, 'Z'), rtrim(excluded.planned, 'Z')) || 'Z',
seq = max(seq, excluded.seq)
"""

Gap = tuple[int, int, int]
"""The last and first number of a range of removed events, and the checksum of the last."""


def take_out(
    connection: sqlite3.Connection, rows: Rows, old: Iterable[VectEntry], older_than: datetime
) -> list[PrunedVect]:
    """Remove the events of some Vects, within the open transaction.

    Also the `plan.skipped` events before an instant.

    Raises:
        LogCorruptError: The rows of these Vects do not agree with their summary.
    """
    entries = {vect.id: vect for vect in old}
    _find(connection, entries, older_than)
    _check(connection, rows, entries)
    now = datetime.now(UTC)
    counts = connection.execute(_COUNTS).fetchall()
    gone = [_pruned(entries[name], last_seq, count, now) for name, last_seq, count in counts]
    gaps = connection.execute("SELECT last_seq, first_seq, crc FROM gaps").fetchall()
    runs = connection.execute(_RUNS).fetchall()
    if runs:
        gaps += [(last, last - count + 1, crc) for last, count, crc in runs]
        connection.execute("DELETE FROM gaps")
        connection.executemany("INSERT INTO gaps VALUES (?, ?, ?)", _merged(gaps))
    connection.execute("DELETE FROM events WHERE seq IN (SELECT seq FROM temp.gone)")
    connection.execute("DELETE FROM given_up WHERE seq IN (SELECT seq FROM temp.gone)")
    connection.execute("DELETE FROM vects WHERE vect IN (SELECT vect FROM temp.old)")
    connection.execute("DELETE FROM log_texts WHERE vect IN (SELECT vect FROM temp.old)")
    connection.executemany("INSERT INTO pruned VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(_to_row, gone))
    connection.executemany(_TOLD_BY_ID, _told_by_ids(gone))
    connection.execute("DROP TABLE temp.gone")
    connection.execute("DROP TABLE temp.old")
    return sorted(gone, key=lambda vect: vect.first_seq)


def _told_by_ids(gone: Iterable[PrunedVect]) -> Iterator[tuple[str, str, int]]:
    """Yield the plans and times in the ids of Vects, which no other row may have any more."""
    for vect in gone:
        if (found := told_by_id(vect.id)) is not None:
            yield found[0], stamp(found[1]), vect.first_seq


def _find(
    connection: sqlite3.Connection, entries: Mapping[str, VectEntry], older_than: datetime
) -> None:
    """Note the rows to remove, in tables that only this connection sees."""
    connection.execute("CREATE TEMP TABLE old (vect TEXT PRIMARY KEY)")
    connection.execute(
        "CREATE TEMP TABLE gone (seq INTEGER PRIMARY KEY, vect TEXT, crc INTEGER, is_own INTEGER)"
    )
    connection.executemany("INSERT INTO temp.old VALUES (?)", ((name,) for name in entries))
    connection.execute(_FIND + OF_VECTS)
    connection.execute(_FIND_SKIPS, (older_than.astimezone(UTC).isoformat(),))


def _check(connection: sqlite3.Connection, rows: Rows, entries: Mapping[str, VectEntry]) -> None:
    """Compare the summary with the verified rows, so that no row is removed by mistake."""
    ends: dict[str, tuple[str, datetime]] = {}
    wanted = {"after": 0, "limit": PAGE}
    while events := rows.where(connection, _OWN, wanted):
        wanted["after"] = events[-1].seq
        ends.update((e.vect, (e.dest, e.time)) for e in events if not is_of_plan(e))
    for vect in entries.values():
        if ends.get(vect.id) != (vect.state, vect.changed):
            raise rows.corrupt(f"its summary of vect {vect.id} does not agree with its events")


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
