"""The log: the ordered, append-only sequence of events, and the only source of truth.

This module is the border: what the engine asks of a log, and what may be made of the rest. On its
other side stand `memory` (a log that ends with the program) and `sqlite` (a log in a file).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from oautom.errors import LogError, OAutomError, SettingError, shown
from oautom.events.jsonl import write_jsonl
from oautom.events.requests import Request
from oautom.machine.event import Event, instant_of, is_of_plan, planned_time
from oautom.machine.tables import PLAN_SKIPPED, VECT_ENDS
from oautom.values.json import to_json

VALUE_LIMIT_BYTES: Final = 64 * 2**20
"""How much one output may take in a durable log, as JSON, unless it is told otherwise."""


class VectEntry(NamedTuple):
    """One Vect of a log, as its own events tell; those of its steps are not needed for that.

    Attributes:
        id: Its id.
        flow: Name of its flow.
        state: The state that it is in.
        first_seq: Number of its first event.
        created: When that was.
        changed: When the newest of its own events was: that of a Vect which has ended, its end.
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
        error: What the function raised last, cut short.
        attempts: How often it was called with the event.
        time: When that was, the last time.
    """

    seq: int
    error: str
    attempts: int
    time: datetime


class Holder(NamedTuple):
    """The process that writes a log.

    Attributes:
        pid: Its number.
        is_driven: Somebody drives its engine, so that requests are heard; or it cannot be told.
    """

    pid: int
    is_driven: bool


class EventLog:
    """What the engine asks of a log. One engine writes; any thread may read what is committed.

    A log of a user's own inherits from this class and has five members: `last_seq`,
    `committed_seq`, `append`, `commit` and `read`; and an `id` if it outlives the program. The rest
    is here, made of these, or refuses with an error that names what is missing.

    Attributes:
        last_seq: Number of the newest event appended, 0 in a new log.
        committed_seq: Number of the newest event committed; `last_seq` may be ahead in the middle
            of a tick.
        id: What tells it from all other logs, for good; None if it does not outlive the program.
        keeps_objects: Whether values stay the objects that they are, and are not what JSON has of
            them; None: if there is no `id`.
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
        """Write `event` behind the others; whoever raises here refuses the transition.

        Raises:
            EventRefusedError: This one cannot be kept. Nothing has changed, and others can.
        """
        raise _missing(self, "append")

    def commit(self) -> Sequence[Event]:
        """Make all that was appended since the last commit last, and return it."""
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
            vects: Their ids; one that the log has not has no events.
            limit: How many of each at most, the first ones; None for all.
        """
        for vect in vects:
            yield from islice(self.read(vect=vect), limit)

    def discard(self) -> None:
        """Drop what was appended, and give back what was requested, since the last commit.

        The engine takes back by it what has raised; where a log has none, the engine stops then.

        Raises:
            LogError: The log takes no more.
        """
        raise _missing(self, "discard")

    def check_value(self, value: object) -> None:
        """Refuse what cannot be kept, before it is part of an event.

        Raises:
            NotJsonError: The value would be another one when it is read.
            ValueTooLargeError: It takes too much room.
        """
        if self.id is not None:
            to_json(value)

    def vects(self, flow: str | None = None) -> list[VectEntry]:
        """Return the Vects, oldest first: all, or those of one flow."""
        return vects_of(self.read(), flow)

    def find(self, vect: str) -> VectEntry | None:
        """Return what `vects` has of one Vect, None if it is not there."""
        return next((entry for entry in self.vects() if entry.id == vect), None)

    def newest(self, flow: str) -> VectEntry | None:
        """Return what `vects` has of the newest Vect of a flow, None if it has none."""
        return next(reversed(self.vects(flow)), None)

    def open_vects(self) -> list[VectEntry]:
        """Return what `vects` has of those that have not ended."""
        return [entry for entry in self.vects() if entry.state not in VECT_ENDS]

    def planned(self, plan: str) -> datetime | None:
        """Return the newest time that a plan has dealt with; None of a plan that it has not."""
        return planned_of(list(self.read()), plan, self.pruned())

    def listen(self, wake: Callable[[], None]) -> None:
        """Have `wake()` called, on any thread, when another process has asked for something."""
        return

    def asked(self, after: int = 0) -> list[Request]:
        """Return what was asked for and is not done away with. Changes nothing. Any thread.

        Args:
            after: Number of the request before the first one wanted.
        """
        return []

    def requests(self, again: bool = False) -> list[Request]:
        """Return what was asked for and not returned yet; the next commit does away with it.

        Args:
            again: Also what was left.
        """
        return []

    def claim(self, number: int) -> bool:
        """Have nobody take a request back any more; False if that has been done. Any thread."""
        return True

    def done(self, number: int, seq: int) -> None:
        """Have a request answered, with the next commit, by which event has come of it."""
        return

    def refuse(self, number: int, why: str, error: OAutomError | None = None) -> None:
        """Have a request answered, with the next commit, by why it was left undone."""
        return

    def leave(self, number: int) -> None:
        """Have a request stay that nobody can do yet."""
        return

    def show(self, told: Mapping[str, Any], *, anew: bool = False) -> None:
        """Keep what an engine tells of itself, by name; None for what is gone. Any thread.

        Args:
            told: By name, as JSON.
            anew: All that was told before is gone.
        """
        kept = {} if anew else self.told()
        kept.update(told)
        self._shown = {name: each for name, each in kept.items() if each is not None}

    def told(self) -> dict[str, Any]:
        """Return what the engine has told of itself, by name. Any thread."""
        return dict(self._shown)

    def holder(self) -> Holder | None:
        """Return the process whose engine writes the log, None if none does. Any thread."""
        return None

    def drive(self, is_driven: bool) -> None:
        """Show other processes whether somebody drives the engine. Any thread."""
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
            flow: The name of their flow; None for all.
            states: In which they are; None for all.
            since: When they were created at the earliest; None for all.
        """
        found = (
            each
            for each in reversed(self.vects(flow))
            if (states is None or each.state in states) and (since is None or each.created >= since)
        )
        return list(islice(found, limit))

    def newest_skip(self, plan: str) -> Event | None:
        """Return the event by which a plan has skipped a time last, None if there is none."""
        skips = [
            event
            for event in self.read()
            if event.name == PLAN_SKIPPED and event.data.get("plan") == plan
        ]
        return skips[-1] if skips else None

    def position(self, name: str) -> int | None:
        """Return what `keep_position` was told last, None if nothing. Any thread."""
        return None

    def keep_position(self, name: str, seq: int) -> None:
        """Remember up to which event the subscriber `name` has come. Any thread.

        Also when the log is closed: a function may return after that.
        """
        raise _missing(self, "keep_position")

    def given_up(self, name: str) -> list[GivenUp]:
        """Return what the subscriber `name` has given up, in the order of the log. Any thread."""
        return []

    def keep_given_up(self, name: str, given_up: GivenUp) -> None:
        """Remember what a subscriber has given up; once for each event. Any thread, as above."""
        raise _missing(self, "keep_given_up")

    def forget_given_up(self, name: str, seq: int) -> None:
        """Forget what a subscriber had given up: it was delivered. Any thread, as above."""
        raise _missing(self, "forget_given_up")

    def prune(self, older_than: datetime, *, keep: Collection[str] = ()) -> list[PrunedVect]:
        """Take out all events of the Vects that ended before an instant, and return these Vects.

        And what plans have skipped before it, but for the newest of each plan. With them goes what
        subscribers have given up of these events.
        """
        raise _missing(self, "prune")

    def pruned(self) -> list[PrunedVect]:
        """Return all Vects that have been taken out, oldest first."""
        return []

    def find_pruned(self, vect: str) -> PrunedVect | None:
        """Return the Vect of this id that has been taken out, None if none was."""
        return next((gone for gone in self.pruned() if gone.id == vect), None)

    def gaps(self) -> list[tuple[int, int]]:
        """Return the first and last numbers of the events that have been taken out."""
        return []

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write all committed events to a file, a line of JSON each. Any thread.

        Raises:
            LogError: An event holds something that JSON cannot keep as it is; nothing is written.
            OSError: The file cannot be written.
        """
        write_jsonl(self.read(), path)

    def close(self) -> None:
        """Take no more events. May be called twice."""
        return


ESSENTIAL: Final = ("last_seq", "committed_seq", "append", "commit", "read")
"""What every log must have itself."""


def has_own(log: object, name: str) -> bool:
    """Whether a log has a member that is not the one of `EventLog`, which keeps nothing."""
    own = vars(EventLog).get(name)
    return hasattr(log, name) and getattr(getattr(log, name), "__func__", log) is not own


def keeps_objects(log: EventLog) -> bool:
    """Whether values stay the objects that they are, and not what JSON has of them."""
    return log.id is None if log.keeps_objects is None else log.keeps_objects


def _missing(log: EventLog, method: str) -> LogError:
    return LogError(f"{type(log).__name__} has no {method}(); write that method of the log")


def not_next(event: Event, last_seq: int, *, is_closed: bool) -> LogError:
    """Return the error that says why an event cannot be appended."""
    if is_closed:
        return LogError(f"event {event.seq} comes after the log was closed")
    return LogError(f"event {event.seq} cannot follow event {last_seq}")


def check_instant(older_than: object) -> datetime:
    """Return an instant.

    Raises:
        SettingError: It is no datetime, or has no time zone.
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
    """Return the Vects that ended before an instant and are not to be kept."""
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
    """Return the newest time that a plan has dealt with, by all that a log has."""
    told = [*map(planned_time, events), *(told_by_id(vect.id) for vect in pruned)]
    return max((each[1] for each in told if each is not None and each[0] == plan), default=None)


def told_by_id(vect: str) -> tuple[str, datetime] | None:
    """Return the plan and the time that the id of a planned Vect is made of; None of any other."""
    plan, _, text = vect.rpartition("@")
    time = instant_of(text)
    return None if time is None else (plan, time)
