"""The starts of steps whose pool has a rate: rows beside the events, written with them.

Times are whole microseconds since 1970, as exact as those of the events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNIT: Final = timedelta(microseconds=1)


class Noted(NamedTuple):
    """A start that the next commit writes; as the arguments of `EventLog.note_start`."""

    pool: str
    time: datetime
    past: datetime
    future: datetime | None


def write(connection: sqlite3.Connection, noted: Iterable[Noted]) -> None:
    """Write starts, and remove those that no window has any more."""
    rows = list(noted)
    newest = {each.pool: each for each in rows}  # its bound is the highest, too
    for pool, _, past, _ in newest.values():
        connection.execute("DELETE FROM starts WHERE pool = ? AND time <= ?", (pool, _number(past)))
    for pool, _, _, future in rows:
        if future is not None:
            sql = "DELETE FROM starts WHERE pool = ? AND time > ?"
            connection.execute(sql, (pool, _number(future)))
    connection.executemany(
        "INSERT INTO starts VALUES (?, ?)", [(each.pool, _number(each.time)) for each in rows]
    )


def read(connection: sqlite3.Connection, pool: str) -> list[datetime]:
    """Return the starts of a pool, in order.

    Raises:
        OverflowError: A row is no time.
    """
    rows = connection.execute("SELECT time FROM starts WHERE pool = ? ORDER BY time", (pool,))
    return [_time(number) for (number,) in rows.fetchall()]


def _number(time: datetime) -> int:
    return (time - _EPOCH) // _UNIT


def _time(number: object) -> datetime:
    if type(number) is not int:
        raise OverflowError(f"a start has the time {number!r}")
    return _EPOCH + timedelta(microseconds=number)
