"""The log in memory: it lives as long as the program, and can still be read when it is closed."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from operator import attrgetter
from typing import Self

from oautom.errors import LogError, ValueTooLargeError
from oautom.events.jsonl import read_jsonl
from oautom.events.log import (
    VALUE_LIMIT_BYTES,
    EventLog,
    GivenUp,
    PrunedVect,
    VectEntry,
    check_instant,
    entry_after,
    not_next,
    old_vects,
    told_by_id,
)
from oautom.events.texts import LogBuffer, Text
from oautom.machine.commands import Key
from oautom.machine.event import NO_OUTPUT, Event, is_of_plan, own_copy, planned_time
from oautom.machine.tables import PLAN_SKIPPED, VECT_ENDS
from oautom.processes import forked
from oautom.values.json import to_json


class MemoryEventLog(EventLog):
    """A log that lives as long as the program; it can still be read when it is closed.

    Lists and dictionaries in events are copied when they are written and when they are read, so
    that nobody can change the past. Other objects stay the same objects.

    A log belongs to the process that first writes it. In a forked child it would not change any
    more: there all its methods raise an `EngineError`, except `close`, which does nothing.

    Args:
        as_json: Whether to store values as JSON, and refuse values that JSON cannot store
            unchanged, as a durable log does: for tests of flows that will run with a durable log.
    """

    id = None
    keeps_objects: bool | None = None
    last_seq = 0
    committed_seq = 0
    _process = forked.NOBODY

    def __init__(self, *, as_json: bool = False) -> None:
        self._is_json = as_json
        if as_json:
            self.keeps_objects = False
        self._events: list[Event] = []
        self._appended: list[Event] = []
        self._is_closed = False
        self._lock = threading.Lock()  # a commit and a prune must not come at once
        self._positions: dict[str, int] = {}
        self._given_up: dict[tuple[str, int], GivenUp] = {}
        self._pruned: list[PrunedVect] = []
        self._gaps: list[tuple[int, int]] = []
        self._texts: dict[str, dict[Key, LogBuffer]] = {}  # by the Vect
        self._index = _Index()
        self._starts: dict[str, list[datetime]] = {}  # by the pool
        self._noted: list[tuple[str, datetime, datetime, datetime | None]] = []

    def _check_process(self) -> None:
        self._process.check("this log in memory", "make a new OAutom in the forked process")

    def append(self, sender: object, event: Event) -> None:  # a receiver of `emitted`
        """Write `event` behind the others. Scheduler's thread only.

        Raises:
            LogError: The log is closed, or `event.seq` is not the next number.
        """
        if not self._process.is_here:
            self._check_process()
        if self._is_closed or event.seq != self.last_seq + 1:
            raise not_next(event, self.last_seq, is_closed=self._is_closed)
        is_shared = event.data is NO_OUTPUT or not event.data
        self._appended.append(event if is_shared else own_copy(event))
        self.last_seq = event.seq

    def commit(self) -> Sequence[Event]:
        """Show the events appended since the last commit to readers, and return them."""
        if not self._process.is_here:
            self._check_process()
        self._process = forked.here
        with self._lock:
            committed, self._appended = self._appended, []
            self._events += committed
            self.committed_seq = self.last_seq
            if self._noted:
                self._take_starts()
            return committed

    def _take_starts(self) -> None:
        noted, self._noted = self._noted, []
        for pool, time, past, future in noted:
            kept = (each for each in self._starts.get(pool, ()) if each > past)
            self._starts[pool] = [each for each in kept if future is None or each <= future]
            self._starts[pool].append(time)

    def discard(self) -> None:
        """Drop the events appended since the last commit. Scheduler's thread only.

        Raises:
            LogError: The log is closed.
        """
        self._check_process()
        with self._lock:
            if self._is_closed:
                raise LogError("the log is closed")
            self._appended, self._noted = [], []
            self.last_seq = self.committed_seq

    def starts(self, pool: str) -> list[datetime]:
        """Return the committed starts of the steps of a pool with a rate. Any thread."""
        self._check_process()
        # Once, since the events may come from a file.
        found = [] if pool in self._starts else super().starts(pool)
        with self._lock:
            return list(self._starts.setdefault(pool, found))

    def note_start(
        self, pool: str, time: datetime, past: datetime, future: datetime | None
    ) -> None:
        """Store, with the next commit, the start of a step of a pool; as in `EventLog`."""
        self._check_process()
        self._noted.append((pool, time, past, future))

    def check_value(self, value: object) -> None:
        """Accept every value, since memory stores any object; with `as_json`, check the value.

        Raises:
            NotJsonError: JSON would give another value back.
            ValueTooLargeError: The value takes more than `VALUE_LIMIT_BYTES`.
        """
        if self._is_json and (size_bytes := len(to_json(value))) > VALUE_LIMIT_BYTES:
            raise ValueTooLargeError(size_bytes, VALUE_LIMIT_BYTES)

    def read(
        self, after: int = 0, upto: int | None = None, vect: str | None = None
    ) -> Iterator[Event]:
        """Return the committed events in order, each with data of its own. Any thread.

        Args:
            after: Number of the event before the first one to return.
            upto: Number of the last event to return; None for all present events.
            vect: Id of the Vect whose events to return; None for all Vects.
        """
        self._check_process()
        return self._read(after, upto, vect)

    def _read(self, after: int, upto: int | None, vect: str | None) -> Iterator[Event]:
        events = self._events if vect is None else self._indexed().events.get(vect, [])
        start = bisect_right(events, after, key=_seq)
        end = len(events) if upto is None else bisect_right(events, upto, key=_seq)
        for index in range(start, end):  # not `islice`, which walks over all before `start`
            yield own_copy(events[index])

    def _indexed(self) -> _Index:
        """Return the index of all committed events; each call brings it up to date."""
        self._check_process()
        with self._lock:
            self._index.take(self._events, self._pruned)
            return self._index

    def vects(self, flow: str | None = None) -> list[VectEntry]:
        """Return the Vects, oldest first: all, or those of one flow. Any thread."""
        entries = self._indexed().entries
        return [each for each in list(entries.values()) if flow in (None, each.flow)]

    def find(self, vect: str) -> VectEntry | None:
        """Return the entry of one Vect; None if the log does not have it. Any thread."""
        return self._indexed().entries.get(vect)

    def newest(self, flow: str) -> VectEntry | None:
        """Return the entry of the newest Vect of a flow; None if there is none. Any thread."""
        index = self._indexed()
        return index.entries[index.flows[flow][-1]] if flow in index.flows else None

    def open_vects(self) -> list[VectEntry]:
        """Return the entries of the Vects that have not ended. Any thread."""
        index = self._indexed()
        found = [index.entries[vect] for vect in list(index.open)]
        return sorted(found, key=attrgetter("first_seq"))

    def newest_vects(
        self,
        limit: int | None,
        flow: str | None = None,
        states: Collection[str] | None = None,
        since: datetime | None = None,
    ) -> list[VectEntry]:
        """Return the newest Vects, newest first; see `EventLog`. Any thread."""
        index = self._indexed()
        with self._lock:  # no entry is added meanwhile
            found = (
                each
                for each in reversed(index.entries.values())
                if (flow in (None, each.flow) and (states is None or each.state in states))
                and (since is None or each.created >= since)
            )
            return list(islice(found, limit))

    def newest_skip(self, plan: str) -> Event | None:
        """Return the event of the newest time that a plan has skipped; None if there is none."""
        skip = self._indexed().skipped.get(plan)
        return None if skip is None else own_copy(skip)

    def planned(self, plan: str) -> datetime | None:
        """Return the newest time that a plan has dealt with. Any thread.

        A Vect that has been pruned counts, too. None for an unknown plan.
        """
        return self._indexed().plans.get(plan, (None, 0))[0]

    def position(self, name: str) -> int | None:
        """Return the last position that `keep_position` has stored, or None. Any thread."""
        self._check_process()
        return self._positions.get(name)

    def keep_position(self, name: str, seq: int) -> None:
        """Store the position of the subscriber `name`: the number of its last event. Any thread."""
        self._check_process()
        self._positions[name] = seq

    def given_up(self, name: str) -> list[GivenUp]:
        """Return the events that a subscriber has given up, in order. Any thread."""
        self._check_process()
        with self._lock:
            return [self._given_up[key] for key in sorted(self._given_up) if key[0] == name]

    def keep_given_up(self, name: str, given_up: GivenUp) -> None:
        """Store an event that a subscriber has given up; once for each. Any thread."""
        self._check_process()
        with self._lock:
            self._given_up[name, given_up.seq] = given_up

    def forget_given_up(self, name: str, seq: int) -> None:
        """Remove an event that a subscriber had given up: it was delivered. Any thread."""
        self._check_process()
        with self._lock:
            self._given_up.pop((name, seq), None)

    def keep_text(self, key: Key, buffer: LogBuffer) -> bool:
        """Store what an attempt writes. Any thread."""
        self._check_process()
        self._texts.setdefault(key[0], {})[key] = buffer
        return True

    def text(self, key: Key) -> Text | None:
        """Return what an attempt has written; None if it has written nothing. Any thread."""
        self._check_process()
        buffer = self._texts.get(key[0], {}).get(key)
        return None if buffer is None else buffer.kept()

    def prune(self, older_than: datetime, *, keep: Collection[str] = ()) -> list[PrunedVect]:
        """Take out all events of the Vects that ended before an instant. Any thread.

        Args:
            older_than: The instant.
            keep: Ids of Vects that stay.

        Returns:
            The Vects that are gone. Numbers of events are never used again.

        Raises:
            SettingError: `older_than` is no datetime with a time zone.
        """
        self._check_process()
        check_instant(older_than)
        now = datetime.now(UTC)
        with self._lock:
            wanted = {event.vect for event in self._appended}.union(keep)
            self._index.take(self._events, self._pruned)
            old = old_vects(self._index.entries.values(), older_than, wanted)
            gone: list[PrunedVect] = []
            pruned: set[int] = set()
            for vect in old:
                seqs = [event.seq for event in self._index.events[vect.id]]
                pruned.update(seqs)
                first, last, count = seqs[0], seqs[-1], len(seqs)
                gone.append(PrunedVect(*vect[:3], first, last, count, vect.changed, now))
            pruned.update(self._index.skips(self._events, older_than))
            self._gaps = _merged([*self._gaps, *((seq, seq) for seq in pruned)])
            self._events = [event for event in self._events if event.seq not in pruned]
            self._index = _Index()
            self._given_up = {k: v for k, v in self._given_up.items() if k[1] not in pruned}
            self._pruned += gone
            for pruned_vect in gone:
                self._texts.pop(pruned_vect.id, None)
            return gone

    def pruned(self) -> list[PrunedVect]:
        """Return all Vects that have been taken out, oldest first. Any thread."""
        self._check_process()
        return sorted(self._pruned, key=attrgetter("first_seq"))

    def find_pruned(self, vect: str) -> PrunedVect | None:
        """Return the pruned Vect of this id; None if there is none. Any thread."""
        return self._indexed().pruned.get(vect)

    def gaps(self) -> list[tuple[int, int]]:
        """Return the first and last numbers of the events that have been taken out. Any thread."""
        self._check_process()
        return list(self._gaps)

    @classmethod
    def from_jsonl(cls, path: str | os.PathLike[str]) -> Self:
        """Return a log with the events of a file that `to_jsonl` has made.

        Raises:
            LogError: A line is no event, or not the next one.
            OSError: The file cannot be read.
        """
        log = cls()
        for event in read_jsonl(path):
            log.append(None, event)
        log.commit()
        return log

    def close(self) -> None:
        """Take no more events; reading goes on."""
        self._is_closed = True


_seq = attrgetter("seq")


class _Index:
    """An index of a log in memory, which saves a walk over all events; made at its first use.

    Attributes:
        events: The events of each Vect, by its id.
        entries: The entry of each Vect, by its id, oldest first.
        flows: The ids of the Vects of each flow, oldest first.
        open: The ids of the Vects that have not ended.
        plans: The newest time that each plan has dealt with, and the event that records it, by the
            name of the plan.
        skipped: The event of the newest time that each plan has skipped, by the name of the plan.
        pruned: The pruned Vects, by their ids.
    """

    def __init__(self) -> None:
        self.events: dict[str, list[Event]] = {}
        self.entries: dict[str, VectEntry] = {}
        self.flows: dict[str, list[str]] = {}
        self.open: set[str] = set()
        self.plans: dict[str, tuple[datetime, int]] = {}
        self.skipped: dict[str, Event] = {}
        self.pruned: dict[str, PrunedVect] = {}
        self._count = self._pruned_count = 0  # how many are in the index

    def take(self, events: list[Event], pruned: list[PrunedVect]) -> None:
        """Add the new events and pruned Vects."""
        for number in range(self._pruned_count, len(pruned)):
            vect = pruned[number]
            self.pruned[vect.id] = vect
            if (told := told_by_id(vect.id)) is not None:
                self._note_plan(*told, vect.first_seq)
        for number in range(self._count, len(events)):
            event = events[number]
            if event.step is None and (told := planned_time(event)) is not None:
                self._note_plan(*told, event.seq)
                if event.name == PLAN_SKIPPED:
                    self.skipped[told[0]] = event
            if is_of_plan(event):
                continue
            self.events.setdefault(event.vect, []).append(event)
            if event.step is None:
                self._take_own(event)
        self._count, self._pruned_count = len(events), len(pruned)

    def _take_own(self, event: Event) -> None:
        first = self.entries.get(event.vect)
        if first is None:
            self.flows.setdefault(event.flow, []).append(event.vect)
        self.entries[event.vect] = entry_after(event, first)
        if event.dest in VECT_ENDS:
            self.open.discard(event.vect)
        else:
            self.open.add(event.vect)

    def _note_plan(self, plan: str, time: datetime, seq: int) -> None:
        newest, of_event = self.plans.get(plan, (time, seq))
        self.plans[plan] = max(newest, time), max(of_event, seq)

    def skips(self, events: Iterable[Event], older_than: datetime) -> Iterator[int]:
        """Yield the numbers of `plan.skipped` events before an instant, but not of the newest."""
        newest = {seq for _, seq in self.plans.values()}
        for event in events:
            is_old = event.name == PLAN_SKIPPED and event.time < older_than
            if is_old and event.seq not in newest:
                yield event.seq


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges of numbers in order, and join those that touch each other."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and merged[-1][1] + 1 == first:
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged
