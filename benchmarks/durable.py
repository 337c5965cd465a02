"""Microseconds a step of an inline chain with a log in a file, against a raw loop of SQLite."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, cast

import msgspec

from benchmarks.graphs import declare, run
from benchmarks.measure import Figure, Settings, Table, in_turn, medians, ratios
from benchmarks.shapes import graph
from oautom import Event, EventLog, MemoryEventLog, SqliteEventLog
from oautom.events.requests import newest_of
from oautom.events.sqlite.rows import Row
from oautom.events.sqlite.summary import sum_up

Level = Literal["FULL", "NORMAL"]
LEVELS: tuple[Level, ...] = ("FULL", "NORMAL")
TITLE = (
    "inline chain, each tick committed; 'raw': the same transactions in a loop of sqlite3; "
    "'statements': all that a commit of oautom has SQLite do; 'memory': the log in memory"
)
TABLE = """
CREATE TABLE events (seq INTEGER PRIMARY KEY, time TEXT, flow TEXT, vect TEXT, step TEXT,
attempt INTEGER, name TEXT, source TEXT, dest TEXT, data TEXT, crc INTEGER)
"""
INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class TickLog(MemoryEventLog):
    """A log that knows which events were committed together."""

    def __init__(self) -> None:
        super().__init__()
        self.ticks: list[Sequence[Event]] = []

    def commit(self) -> Sequence[Event]:
        """Commit, and note what."""
        committed = super().commit()
        if committed:
            self.ticks.append(committed)
        return committed


def measure(settings: Settings) -> Iterator[Table]:
    """Yield a table with a row for each level of durability."""
    steps = settings.steps // 10  # each waits for the disk
    ticks = TickLog()
    _run(steps, ticks)
    rows: list[dict[str, Figure]] = []
    with TemporaryDirectory() as folder:
        for level in LEVELS:
            sides = {
                "oautom": partial(_oautom_side, steps, Path(folder, "oautom.db"), level),
                "raw": partial(_raw_side, ticks.ticks, Path(folder, "raw.db"), level),
                "statements": partial(_statements_side, ticks.ticks, Path(folder, "all.db"), level),
                "memory": lambda: _run(steps, MemoryEventLog()),
            }
            samples = in_turn(sides, settings.rounds)
            us = medians(samples, "us", 1e6 / steps)
            row = ratios(samples, [("oautom", "raw"), ("statements", "raw")])
            rows.append({f"{steps:,} steps, synchronous=": level, **us, **row})
    yield Table(TITLE, rows)


def _run(steps: int, log: EventLog) -> float:
    with declare(graph("chain", steps), "inline", log=log) as app:
        return run(app)


def _oautom_side(steps: int, path: Path, level: Level) -> float:
    log = SqliteEventLog(path, synchronous=level)
    seconds = _run(steps, log)
    log.close()
    path.unlink()
    return seconds


def _raw_side(ticks: list[Sequence[Event]], path: Path, level: Level) -> float:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={level}")
        connection.execute(TABLE)
        begin = time.perf_counter()
        for events in ticks:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, [_row(event) for event in events])
            connection.execute("COMMIT")
        seconds = time.perf_counter() - begin
    path.unlink()
    return seconds


def _statements_side(ticks: list[Sequence[Event]], path: Path, level: Level) -> float:
    SqliteEventLog(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA synchronous={level}")
        begin = time.perf_counter()
        for events in ticks:
            connection.execute("BEGIN IMMEDIATE")
            rows = [_row(event) for event in events]  # in the time, as the raw loop has it
            connection.executemany(INSERT, rows)
            sum_up(connection, rows, events)
            newest_of(connection)
            connection.execute("COMMIT")
        seconds = time.perf_counter() - begin
    path.unlink()
    return seconds


def _row(event: Event) -> Row:
    data = {key: dict(value) if key == "graph" else value for key, value in event.data.items()}
    if "params" in data:
        data["params"] = dict(data["params"])
    *fields, _ = (getattr(event, field) for field in event.__struct_fields__)
    fields[1] = event.time.isoformat()
    return cast("Row", (*fields, msgspec.json.encode(data).decode(), 0))
