"""Holding a log against its checksums, and what it keeps beside its events against these."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, NamedTuple

from oautom.events.sqlite.rows import Head, Page, Rows
from oautom.events.sqlite.summary import IS_OPEN, Known, Summary
from oautom.machine.event import Event, is_of_plan, planned_time, stamp

_ROWS_CHECKED: Final = 1000

# What stands before a gap is an event: else the gaps are not those that were made.
_LOST: Final = """
SELECT first_seq - 1 FROM gaps WHERE last_seq > ?
AND first_seq > 1 AND first_seq - 1 NOT IN (SELECT seq FROM events) LIMIT 1
"""

# Each asks one index, which must find what the table has.
_OF_VECT: Final = """
SELECT seq FROM events INDEXED BY events_of_vect WHERE vect = ? AND seq > ? ORDER BY seq
"""
_AT: Final = "AND first_seq = ?"
_ROW: Final = "SELECT vect, flow, state FROM vects NOT INDEXED WHERE first_seq = ?"
_OF_FLOW: Final = "SELECT 1 FROM vects INDEXED BY vects_of_flow WHERE flow = ? AND first_seq = ?"
_OPEN: Final = " ".join(("SELECT 1 FROM vects INDEXED BY open_vects WHERE", IS_OPEN, _AT))


class Told(NamedTuple):
    """What events tell of a Vect: its own first and last one, and how many there are of all."""

    first_seq: int
    flow: str
    created: datetime
    state: str
    changed: datetime
    events: int

    def fits(self, known: Known, after: int | None = None) -> bool:
        """Whether that is what is known of it, where the events after one were looked at."""
        entry, events = known
        if (entry.state, entry.changed) != (self.state, self.changed):
            return False
        begins = entry.first_seq, entry.flow, entry.created
        has_begun_before = after is not None and 0 < entry.first_seq <= after
        return has_begun_before or (begins == self[:3] and events == self.events)


class Tally:
    """Adds up what events tell.

    Attributes:
        vects: Of each Vect that has events of its own.
        plans: Of each plan the newest time that it has dealt with, and the event that tells it.
    """

    def __init__(self) -> None:
        self.vects: dict[str, Told] = {}
        self.plans: dict[str, tuple[str, int]] = {}

    def take(self, events: Iterable[Event]) -> None:
        """Add what the next events tell."""
        for event in events:
            if event.step is None and (planned := planned_time(event)) is not None:
                self.plans[planned[0]] = stamp(planned[1]), event.seq
            if is_of_plan(event):
                continue
            told = self.vects.get(event.vect)
            if event.step is None:
                first = (event.seq, event.flow, event.time) if told is None else told[:3]
                count = 1 if told is None else told.events + 1
                self.vects[event.vect] = Told(*first, event.dest, event.time, count)
            elif told is not None:
                self.vects[event.vect] = told._replace(events=told.events + 1)


class Audit:
    """Holds what a log keeps beside its events against these.

    Args:
        rows: The rows of the log.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._summary = Summary(rows)

    def check_newest(self, connection: sqlite3.Connection, *, is_old: bool) -> Head:
        """Hold the newest rows against their checksums, and return where the log ends.

        Args:
            connection: To the file.
            is_old: It is one of an older version, which keeps nothing beside its events.

        Raises:
            LogCorruptError: One is not what was written, or rows are missing at the end.
        """
        head = self._rows.head(connection)
        after = max(head.seq - _ROWS_CHECKED, 0)
        if lost := connection.execute(_LOST, (after,)).fetchone():
            raise self._rows.corrupt(f"event {lost[0]} is missing", lost[0])
        events = list(self._events(connection, after))
        kept = connection.execute("SELECT value FROM meta WHERE name = 'head'").fetchone()
        if kept is not None:
            self._check_end(head, kept[0])
        if not is_old:
            self._hold(connection, events, after)
        return head

    def _events(
        self, connection: sqlite3.Connection, after: int, vect: str | None = None
    ) -> Iterator[Event]:
        page = Page([], has_more=True)
        while page.has_more:
            page = self._rows.page(connection, after, vect=vect)
            yield from self._rows.events(page.rows)
            after = page.rows[-1][0] if page.rows else after

    def _check_end(self, head: Head, kept: str) -> None:
        """Hold the end of a log against what was its end when it was closed."""
        try:
            then = Head(*map(int, kept.split()))
        except (AttributeError, TypeError, ValueError) as error:
            raise self._rows.corrupt(f"its head cannot be {kept!r}") from error
        if head.seq < then.seq or (head.seq == then.seq and head.crc != then.crc):
            raise self._rows.corrupt(f"event {then.seq} is missing, once the last one", then.seq)

    def _hold(self, connection: sqlite3.Connection, events: list[Event], after: int) -> None:
        """Hold what stands beside them against the newest events, and the indexes too."""
        tally = Tally()
        tally.take(events)
        for vect, told in tally.vects.items():
            known = self._find(connection, vect)
            if known is None or not told.fits(known, after):
                raise self._wrong(vect)
            self._check_indexed(connection, known)
        seqs: dict[str, list[int]] = {}
        for event in events:
            seqs.setdefault(event.vect, []).append(event.seq)
        for vect, numbers in seqs.items():
            found = [seq for (seq,) in connection.execute(_OF_VECT, (vect, after)).fetchall()]
            if found != numbers:
                raise self._misses(min({*found} ^ {*numbers}, default=numbers[0]))
        self.hold_plans(connection, tally)
        if not after:
            ((count,),) = connection.execute("SELECT count(*) FROM vects").fetchall()
            if count != len(tally.vects):
                raise self._rows.corrupt(f"it tells of {count} vects, and has {len(tally.vects)}")

    def _find(self, connection: sqlite3.Connection, vect: str) -> Known | None:
        """Return what is known of a Vect: its row, too, must say so, not only the index."""
        known = self._summary.find(connection, vect)
        if known is not None:
            entry = known.entry
            rows = connection.execute(_ROW, (entry.first_seq,)).fetchall()
            if rows != [(entry.id, entry.flow, entry.state)]:
                raise self._misses(entry.first_seq)
        return known

    def _check_indexed(self, connection: sqlite3.Connection, known: Known) -> None:
        seq, flow = known.entry.first_seq, known.entry.flow
        found = connection.execute(_OF_FLOW, (flow, seq)).fetchall()
        if found and known.is_open:
            found = connection.execute(_OPEN, (seq,)).fetchall()
        if not found:
            raise self._misses(seq)

    def check_open(self, connection: sqlite3.Connection) -> None:
        """Hold all events of the Vects that have not ended against their checksums.

        So whoever goes on with these Vects can rely on what they tell.

        Raises:
            LogCorruptError: One is not what was written, or is missing.
        """
        for known in self._summary.open_vects(connection):
            self.hold_vect(connection, known.entry.id)

    def hold_vect(self, connection: sqlite3.Connection, vect: str) -> None:
        """Hold what is known of a Vect against all its events, read in one moment.

        Raises:
            LogCorruptError: It is something else.
        """
        tally = Tally()
        tally.take(self._events(connection, 0, vect))
        known, told = self._find(connection, vect), tally.vects.get(vect)
        if known is None and told is None:
            return  # it was pruned
        if known is None or told is None or not told.fits(known):
            raise self._wrong(vect)

    @staticmethod
    def fits(tally: Tally, known: Known) -> bool:
        """Take a Vect out of a tally; tell whether it says what is known."""
        told = tally.vects.pop(known.entry.id, None)
        return told is not None and told.fits(known)

    def hold_plans(self, connection: sqlite3.Connection, tally: Tally) -> None:
        """Hold what is known of plans against a tally; some may have come further since.

        Raises:
            LogCorruptError: It is something else.
        """
        for plan, told in tally.plans.items():
            sql = "SELECT planned, seq FROM plans WHERE name = ?"
            rows = connection.execute(sql, (plan,)).fetchall()
            if not any(row[1] > told[1] or row == told for row in rows):
                raise self._rows.corrupt(f"what it tells of plan '{plan}' is wrong")

    def _wrong(self, vect: str) -> Exception:
        return self._rows.corrupt(f"what it tells of vect {vect} is not what its events tell")

    def _misses(self, seq: int) -> Exception:
        return self._rows.corrupt(f"the index of vects is wrong at event {seq}", seq)
