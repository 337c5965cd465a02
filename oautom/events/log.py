"""The log: the ordered, append-only sequence of events, and the only source of truth.

This module is the border: the members that the engine needs of a log, and defaults that are built
from these. Behind it stand `memory` (a log that ends with the program) and `sqlite` (a log in a
file).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from oautom.errors import LogError, OAutomError, SettingError, shown
from oautom.events.jsonl import write_jsonl
from oautom.events.requests import Request
from oautom.events.texts import LogBuffer, Text
from oautom.machine.commands import Key
from oautom.machine.event import NO_DATA, Event, instant_of, is_of_plan, planned_time
from oautom.machine.maps import map_of
from oautom.machine.tables import PLAN_SKIPPED, VECT_CREATED, VECT_ENDS
from oautom.values.json import to_json

VALUE_LIMIT_BYTES: Final = 64 * 2**20
"""The default limit of one output in a durable log, as JSON."""


class VectEntry(NamedTuple):
    """One Vect of a log, made from its own events, without those of its steps.

    Attributes:
        id: Its id.
        flow: Name of its flow.
        state: Its state.
        first_seq: Number of its first event.
        created: The time of its first event.
        changed: The time of the newest of its own events; for a Vect that has ended, its end.
    """

    id: str
    flow: str
    state: str
    first_seq: int
    created: datetime
    changed: datetime


class PrunedVect(NamedTuple):
    """One Vect whose events are gone.

    Attributes:
        id: Its id.
        flow: Name of its flow.
        state: The state in which it ended.
        first_seq: Number of its first event.
        last_seq: Number of its last event.
        events: How many events it had.
        ended: When it ended.
        pruned: When its events were taken out.
    """

    id: str
    flow: str
    state: str
    first_seq: int
    last_seq: int
    events: int
    ended: datetime
    pruned: datetime


class GivenUp(NamedTuple):
    """One event that a subscription has given up, since its function raised too often.

    Attributes:
        seq: Number of the event.
        error: The last exception of the function, cut short.
        attempts: How often the function was called with the event.
        time: The time of the last call.
    """

    seq: int
    error: str
    attempts: int
    time: datetime


class Holder(NamedTuple):
    """The process that writes a log.

    Attributes:
        pid: Its number.
        is_driven: Whether a thread drives its engine, so that requests are taken; True if unknown.
    """

    pid: int
    is_driven: bool


class EventLog:
    """The base class of logs. One engine writes; any thread may read committed events.

    A log of a user's own inherits from this class and has five members: `last_seq`,
    `committed_seq`, `append`, `commit` and `read`; and an `id` if it outlives the program. This
    class builds the other members from these, or refuses them with an error that names the missing
    method.

    Attributes:
        last_seq: Number of the newest event appended, 0 in a new log.
        committed_seq: Number of the newest event committed; `last_seq` may be ahead in the middle
            of a tick.
        id: The identity of the log among all logs, for good; None if it does not outlive the
            program.
        keeps_objects: Whether values stay the same objects, instead of copies read from JSON. None:
            True if there is no `id`.
    """

    if TYPE_CHECKING:  # so that each may be an attribute or a property of the log

        @property
        def last_seq(self) -> int: ...
        @property
        def committed_seq(self) -> int: ...
        @property
        def id(self) -> str | None: ...
        @property
        def keeps_objects(self) -> bool | None: ...

    else:
        id = None
        keeps_objects = None

    _shown: Mapping[str, Any] = MappingProxyType({})

    # What a log must have

    def append(self, sender: object, event: Event) -> None:
        """Write `event` behind the others; an exception refuses the transition.

        Raises:
            EventRefusedError: The log cannot store this event. Nothing has changed, and it takes
                other events.
        """
        raise _missing(self, "append")

    def commit(self) -> Sequence[Event]:
        """Make all events permanent that were appended since the last commit, and return them."""
        raise _missing(self, "commit")

    def read(
        self, after: int = 0, upto: int | None = None, vect: str | None = None
    ) -> Iterator[Event]:
        """Yield committed events in order: those with `after < seq <= upto`, of one Vect or all."""
        raise _missing(self, "read")

    # What a log may have

    def read_each(self, vects: Sequence[str], limit: int | None = None) -> Iterator[Event]:
        """Yield committed events of some Vects, one Vect after the other, each in order.

        Args:
            vects: The ids of the Vects; an unknown id has no events.
            limit: How many events of each at most, the first ones; None for all.
        """
        for vect in vects:
            yield from islice(self.read(vect=vect), limit)

    def discard(self) -> None:
        """Drop the events appended, and return the requests taken, since the last commit.

        The engine calls this to take back a tick that has raised; without it, the engine stops.

        Raises:
            LogError: The log takes no more events.
        """
        raise _missing(self, "discard")

    def check_value(self, value: object) -> None:
        """Refuse a value that the log cannot store, before it is part of an event.

        Raises:
            NotJsonError: Another value would come back.
            ValueTooLargeError: The value takes too much room.
        """
        if self.id is not None:
            to_json(value)

    def vects(self, flow: str | None = None) -> list[VectEntry]:
        """Return the Vects, oldest first: all, or those of one flow."""
        return vects_of(self.read(), flow)

    def find(self, vect: str) -> VectEntry | None:
        """Return the entry of one Vect; None if the log does not have it."""
        return next((entry for entry in self.vects() if entry.id == vect), None)

    def newest(self, flow: str) -> VectEntry | None:
        """Return the entry of the newest Vect of a flow; None if there is none."""
        return next(reversed(self.vects(flow)), None)

    def open_vects(self) -> list[VectEntry]:
        """Return the entries of the Vects that have not ended."""
        return [entry for entry in self.vects() if entry.state not in VECT_ENDS]

    def planned(self, plan: str) -> datetime | None:
        """Return the newest time that a plan has dealt with; None for an unknown plan."""
        return planned_of(list(self.read()), plan, self.pruned())

    def starts(self, pool: str) -> list[datetime]:
        """Return the committed starts of the steps of a pool with a rate. Any thread.

        As many as `note_start` has left; if a log does not define that, those in its events.
        """
        return starts_in(self.read(), pool)

    def note_start(
        self, pool: str, time: datetime, past: datetime, future: datetime | None
    ) -> None:
        """Store, with the next commit, the start of a step of a pool with a rate.

        Args:
            pool: The name of the pool.
            time: The time of the start.
            past: Starts up to this time are to be removed: no window has them any more.
            future: Starts after this time are to be removed, too; None for none.
        """
        return

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake()`, on any thread, when another process has sent a request."""
        return

    def asked(self, after: int = 0) -> list[Request]:
        """Return the requests that are still in the log, without a change. Any thread.

        Args:
            after: Number of the request before the first one wanted.
        """
        return []

    def requests(self, again: bool = False) -> list[Request]:
        """Return the requests that were not returned yet; the next commit removes them.

        Args:
            again: Whether to return the requests that were left, too.
        """
        return []

    def claim(self, number: int) -> bool:
        """Claim a request, so that it cannot be taken back; False if it was. Any thread."""
        return True

    def done(self, number: int, seq: int) -> None:
        """Answer a request, with the next commit, by the number of the event that it led to."""
        return

    def refuse(self, number: int, why: str, error: OAutomError | None = None) -> None:
        """Answer a request, with the next commit, by the reason why it was not carried out."""
        return

    def leave(self, number: int) -> None:
        """Leave a request in the log, since it cannot be carried out yet."""
        return

    def show(self, told: Mapping[str, Any], *, anew: bool = False) -> None:
        """Store facts that an engine shows of itself, by name; None removes one. Any thread.

        Args:
            told: The facts, by name, as JSON.
            anew: Whether to remove all earlier facts.
        """
        kept = {} if anew else self.told()
        kept.update(told)
        self._shown = {name: each for name, each in kept.items() if each is not None}

    def told(self) -> dict[str, Any]:
        """Return the facts that the engine shows of itself, by name. Any thread."""
        return dict(self._shown)

    def holder(self) -> Holder | None:
        """Return the process whose engine writes the log, or None. Any thread."""
        return None

    def drive(self, is_driven: bool) -> None:
        """Show other processes whether a thread drives the engine. Any thread."""
        return

    def newest_vects(
        self,
        limit: int | None,
        flow: str | None = None,
        states: Collection[str] | None = None,
        since: datetime | None = None,
    ) -> list[VectEntry]:
        """Return the newest Vects, newest first. Any thread.

        Args:
            limit: How many at most; None for all.
            flow: The name of their flow; None for all flows.
            states: Their states; None for all states.
            since: The earliest time of their creation; None for any.
        """
        found = (
            each
            for each in reversed(self.vects(flow))
            if (states is None or each.state in states) and (since is None or each.created >= since)
        )
        return list(islice(found, limit))

    def newest_skip(self, plan: str) -> Event | None:
        """Return the event of the newest time that a plan has skipped; None if there is none."""
        skips = [
            event
            for event in self.read()
            if event.name == PLAN_SKIPPED and event.data.get("plan") == plan
        ]
        return skips[-1] if skips else None

    def position(self, name: str) -> int | None:
        """Return the last position that `keep_position` has stored, or None. Any thread."""
        return None

    def keep_position(self, name: str, seq: int) -> None:
        """Store the position of the subscriber `name`: the number of its last event. Any thread.

        This also works when the log is closed, since a function may return after that.
        """
        raise _missing(self, "keep_position")

    def given_up(self, name: str) -> list[GivenUp]:
        """Return the events that a subscriber has given up, in order. Any thread."""
        return []

    def keep_given_up(self, name: str, given_up: GivenUp) -> None:
        """Store an event that a subscriber has given up; once for each. Any thread, as above."""
        raise _missing(self, "keep_given_up")

    def forget_given_up(self, name: str, seq: int) -> None:
        """Remove an event that was given up and then delivered. Any thread, as above."""
        raise _missing(self, "forget_given_up")

    def keep_text(self, key: Key, buffer: LogBuffer) -> bool:
        """Store what an attempt writes to a buffer, until its Vect is pruned. Any thread.

        Called when the attempt writes for the first time. More may follow until `buffer.is_over`.
        The commit of the event that ends the attempt stores what it has written by then.

        Returns:
            Whether the log stores it. Default: False; then the text lives as long as the `Vect`.
        """
        return False

    def save_text(self, key: Key, then: Callable[[], object]) -> None:
        """Call `then()` when the rest of an attempt's text fits into the commit of its end.

        At once, or later on another thread. Any thread.
        """
        then()

    def text(self, key: Key) -> Text | None:
        """Return what an attempt has written, or None if the log has nothing of it. Any thread."""
        return None

    def at_once(self) -> AbstractContextManager[None]:
        """Give a context in which many look-ups by one thread, as of texts, cost less.

        Default: one that changes nothing.
        """
        return nullcontext()

    def prune(self, older_than: datetime, *, keep: Collection[str] = ()) -> list[PrunedVect]:
        """Take out all events of the Vects that ended before an instant, and return these Vects.

        Also take out the `plan.skipped` events before that instant, except for the newest event of
        each plan, the entries of subscribers that have given up any of these events, and what the
        steps of these Vects have written.
        """
        raise _missing(self, "prune")

    def pruned(self) -> list[PrunedVect]:
        """Return all Vects that have been taken out, oldest first."""
        return []

    def find_pruned(self, vect: str) -> PrunedVect | None:
        """Return the pruned Vect of this id; None if there is none."""
        return next((gone for gone in self.pruned() if gone.id == vect), None)

    def gaps(self) -> list[tuple[int, int]]:
        """Return the first and last numbers of the events that have been taken out."""
        return []

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write all committed events to a file, a line of JSON each. Any thread.

        Raises:
            LogError: An event has a value that JSON cannot store unchanged; nothing is written.
            OSError: The file cannot be written.
        """
        write_jsonl(self.read(), path)

    def close(self) -> None:
        """Take no more events. May be called twice."""
        return


def starts_in(events: Iterable[Event], pool: str) -> list[datetime]:
    """Return the times at which steps of a pool with a rate start, by the events of a log."""
    found: list[datetime] = []
    limited: dict[str, frozenset[str]] = {}  # by the Vect, its steps in the pool
    for event in events:
        if event.name == VECT_CREATED:
            options = event.data.get("options", NO_DATA).items()
            limited[event.vect] = frozenset(
                step for step, given in options if "rate" in given and given["pool"][0] == pool
            )
        elif event.name == "step.started" and "count" not in event.data:  # a map takes no part
            step = map_of(event.step or "")
            if not limited.get(event.vect, frozenset()).isdisjoint((step, event.step)):
                found.append(event.time)
    return found


ESSENTIAL: Final = ("last_seq", "committed_seq", "append", "commit", "read")
"""The members that every log must define itself."""


def has_own(log: object, name: str) -> bool:
    """Whether a log has a member of its own, and not the one of `EventLog`."""
    own = vars(EventLog).get(name)
    return hasattr(log, name) and getattr(getattr(log, name), "__func__", log) is not own


def keeps_objects(log: EventLog) -> bool:
    """Whether values stay the same objects, instead of copies read from JSON."""
    return log.id is None if log.keeps_objects is None else log.keeps_objects


def _missing(log: EventLog, method: str) -> LogError:
    return LogError(f"{type(log).__name__} has no {method}(); write that method of the log")


def not_next(event: Event, last_seq: int, *, is_closed: bool) -> LogError:
    """Return the error that says why an event cannot be appended."""
    if is_closed:
        return LogError(f"event {event.seq} comes after the log was closed")
    return LogError(f"event {event.seq} cannot follow event {last_seq}")


def check_instant(older_than: object) -> datetime:
    """Return a checked instant.

    Raises:
        SettingError: The argument is no datetime, or has no time zone.
    """
    is_date = issubclass(type(older_than), datetime)
    instant = cast("datetime", older_than)
    if not is_date or instant.tzinfo is None:
        raise SettingError(
            f"older_than must be a datetime with a time zone, not {shown(older_than)}; "
            "for example datetime.now(UTC) - timedelta(days=90)"
        )
    return instant


def old_vects(
    vects: Iterable[VectEntry], older_than: datetime, keep: Collection[str]
) -> list[VectEntry]:
    """Return the Vects that ended before an instant, except for those in `keep`."""
    return [
        vect
        for vect in vects
        if vect.state in VECT_ENDS and vect.changed < older_than and vect.id not in keep
    ]


def vects_of(events: Iterable[Event], flow: str | None) -> list[VectEntry]:
    """Return the Vects of all events of a log, oldest first: all, or those of one flow."""
    entries: dict[str, VectEntry] = {}
    for event in events:
        if event.step is None and flow in (None, event.flow) and not is_of_plan(event):
            entries[event.vect] = entry_after(event, entries.get(event.vect))
    return list(entries.values())


def entry_after(event: Event, first: VectEntry | None) -> VectEntry:
    """Return the entry of a Vect after an event of its own."""
    if first is None:
        first = VectEntry(event.vect, event.flow, "", event.seq, event.time, event.time)
    return first._replace(flow=event.flow, state=event.dest, changed=event.time)


def planned_of(events: Sequence[Event], plan: str, pruned: Iterable[PrunedVect]) -> datetime | None:
    """Return the newest time that a plan has dealt with, from all events and pruned Vects."""
    told = [*map(planned_time, events), *(told_by_id(vect.id) for vect in pruned)]
    return max((each[1] for each in told if each is not None and each[0] == plan), default=None)


def told_by_id(vect: str) -> tuple[str, datetime] | None:
    """Return the plan and the time in the id of a planned Vect; None for any other id."""
    plan, _, text = vect.rpartition("@")
    time = instant_of(text)
    return None if time is None else (plan, time)
