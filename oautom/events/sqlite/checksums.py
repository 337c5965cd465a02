"""Checks of a log: its rows against their checksums, and its summary against its events."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, NamedTuple

from oautom.events.sqlite.rows import Head, Page, Rows
from oautom.events.sqlite.summary import IS_OPEN, Known, Summary
from oautom.machine.event import Event, is_of_plan, planned_time, stamp

_ROWS_CHECKED: Final = 1000

# Before a gap stands an event: else the gaps are not those that were made.
_LOST: Final = """
SELECT first_seq - 1 FROM gaps WHERE last_seq > ?
AND first_seq > 1 AND first_seq - 1 NOT IN (SELECT seq FROM events) LIMIT 1
"""

# Each query uses one index, which must agree with the table.
_OF_VECT: Final = """
SELECT seq FROM events INDEXED BY events_of_vect WHERE vect = ? AND seq > ? ORDER BY seq
"""
_AT: Final = "AND first_seq = ?"
_ROW: Final = "SELECT vect, flow, state FROM vects NOT INDEXED WHERE first_seq = ?"
_OF_FLOW: Final = "SELECT 1 FROM vects INDEXED BY vects_of_flow WHERE flow = ? AND first_seq = ?"
_OPEN: Final = " ".join(("SELECT 1 FROM vects INDEXED BY open_vects WHERE", IS_OPEN, _AT))


class VectFacts(NamedTuple):
    """The facts of a Vect in its events: its own first and last event, and the number of all."""

    first_seq: int
    flow: str
    created: datetime
    state: str
    changed: datetime
    events: int

    def fits(self, known: Known, after: int | None = None) -> bool:
        """Whether the summary of the Vect agrees; with `after`, only later events were read."""
        entry, events = known
        if (entry.state, entry.changed) != (self.state, self.changed):
            return False
        begins = entry.first_seq, entry.flow, entry.created
        has_begun_before = after is not None and 0 < entry.first_seq <= after
        return has_begun_before or (begins == self[:3] and events == self.events)


class Tally:
    """Adds up the facts in events.

    Attributes:
        vects: The facts of each Vect that has events of its own, by id.
        plans: The newest time that each plan has dealt with, and the event that records it, by the
            name of the plan.
    """

    def __init__(self) -> None:
        self.vects: dict[str, VectFacts] = {}
        self.plans: dict[str, tuple[str, int]] = {}

    def take(self, events: Iterable[Event]) -> None:
        """Add the next events."""
        for event in events:
            if event.step is None and (planned := planned_time(event)) is not None:
                self.plans[planned[0]] = stamp(planned[1]), event.seq
            if is_of_plan(event):
                continue
            facts = self.vects.get(event.vect)
            if event.step is None:
                first = (event.seq, event.flow, event.time) if facts is None else facts[:3]
                count = 1 if facts is None else facts.events + 1
                self.vects[event.vect] = VectFacts(*first, event.dest, event.time, count)
            elif facts is not None:
                self.vects[event.vect] = facts._replace(events=facts.events + 1)


class Audit:
    """Checks the rows of a log, and the tables beside its events against these.

    Args:
        rows: The rows of the log.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._summary = Summary(rows)

    def check_newest(self, connection: sqlite3.Connection, *, is_old: bool) -> Head:
        """Check the newest rows against their checksums, and return the end of the log.

        Args:
            connection: To the file.
            is_old: Whether the file has an older version, without tables beside its events.

        Raises:
            LogCorruptError: A row is not what was written, or rows are missing at the end.
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
        """Check the end of a log against the end that was stored when it was closed."""
        try:
            then = Head(*map(int, kept.split()))
        except (AttributeError, TypeError, ValueError) as error:
            raise self._rows.corrupt(f"its head cannot be {kept!r}") from error
        if head.seq < then.seq or (head.seq == then.seq and head.crc != then.crc):
            raise self._rows.corrupt(f"event {then.seq} is missing, once the last one", then.seq)

    def _hold(self, connection: sqlite3.Connection, events: list[Event], after: int) -> None:
        """Check the tables beside the newest events, and the indexes."""
        tally = Tally()
        tally.take(events)
        for vect, facts in tally.vects.items():
            known = self._find(connection, vect)
            if known is None or not facts.fits(known, after):
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
                raise self._rows.corrupt(
                    f"its summary has {count} vects, its events {len(tally.vects)}"
                )

    def _find(self, connection: sqlite3.Connection, vect: str) -> Known | None:
        """Return the summary of a Vect; its row, too, must agree, not only the index."""
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
        """Check all events of the open Vects against their checksums.

        So the engine that goes on with these Vects can rely on their events.

        Raises:
            LogCorruptError: An event is not what was written, or is missing.
        """
        for known in self._summary.open_vects(connection):
            self.hold_vect(connection, known.entry.id)

    def hold_vect(self, connection: sqlite3.Connection, vect: str) -> None:
        """Check the summary of a Vect against all its events, read in one transaction.

        Raises:
            LogCorruptError: They differ.
        """
        tally = Tally()
        tally.take(self._events(connection, 0, vect))
        known, facts = self._find(connection, vect), tally.vects.get(vect)
        if known is None and facts is None:
            return  # it was pruned
        if known is None or facts is None or not facts.fits(known):
            raise self._wrong(vect)

    @staticmethod
    def fits(tally: Tally, known: Known) -> bool:
        """Remove a Vect from a tally; return whether its summary agrees."""
        facts = tally.vects.pop(known.entry.id, None)
        return facts is not None and facts.fits(known)

    def hold_plans(self, connection: sqlite3.Connection, tally: Tally) -> None:
        """Check the rows of plans against a tally; some plans may have come further since.

        Raises:
            LogCorruptError: They differ.
        """
        for plan, facts in tally.plans.items():
            sql = "SELECT planned, seq FROM plans WHERE name = ?"
            rows = connection.execute(sql, (plan,)).fetchall()
            if not any(row[1] > facts[1] or row == facts for row in rows):
                raise self._rows.corrupt(
                    f"its summary of plan '{plan}' does not agree with its events"
                )

    def _wrong(self, vect: str) -> Exception:
        return self._rows.corrupt(f"its summary of vect {vect} does not agree with its events")

    def _misses(self, seq: int) -> Exception:
        return self._rows.corrupt(f"the index of vects is wrong at event {seq}", seq)
