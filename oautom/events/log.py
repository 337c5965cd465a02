"""The log: the ordered, append-only sequence of events, and the only source of truth."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol, Self

from oautom.errors import LogError
from oautom.events.event import Event
from oautom.events.jsonl import read_jsonl, write_jsonl


class EventLog(Protocol):
    """What the engine asks of a log. One engine writes; any thread may read what is committed."""

    @property
    def last_seq(self) -> int:
        """Number of the newest event appended, 0 in an empty log."""

    def append(self, sender: object, event: Event) -> None:
        """Write `event` behind the others; whoever raises here refuses the transition."""

    def commit(self) -> Sequence[Event]:
        """Make all that was appended since the last commit last, and return it."""

    def read(
        self, after: int = 0, upto: int | None = None, vect: str | None = None
    ) -> Iterator[Event]:
        """Yield committed events in order: those with `after < seq <= upto`, of one Vect or all."""

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write all committed events to a file, a line of JSON each."""

    def close(self) -> None:
        """Take no more events. May be called twice."""


class MemoryEventLog:
    """A log that lives as long as the program; it can still be read when it is closed."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._appended: list[Event] = []
        self._is_closed = False
        self.last_seq = 0

    def append(self, sender: object, event: Event) -> None:  # a receiver of `emitted`
        """Write `event` behind the others. Scheduler's thread only.

        Raises:
            LogError: The log is closed, or `event.seq` is not the next number.
        """
        if self._is_closed:
            raise LogError(f"event {event.seq} comes after the log was closed")
        if event.seq != self.last_seq + 1:
            raise LogError(f"event {event.seq} cannot follow event {self.last_seq}")
        self._appended.append(event)
        self.last_seq = event.seq

    def commit(self) -> Sequence[Event]:
        """Show readers what was appended since the last commit, and return it."""
        committed, self._appended = self._appended, []
        self._events += committed
        return committed

    def read(
        self, after: int = 0, upto: int | None = None, vect: str | None = None
    ) -> Iterator[Event]:
        """Yield committed events in order. Any thread.

        Args:
            after: Number of the event before the first one wanted.
            upto: Number of the last one wanted; None for all there are now.
            vect: Id of the only Vect wanted; None for all.
        """
        end = len(self._events) if upto is None else upto
        for event in islice(self._events, max(after, 0), max(end, 0)):
            if vect is None or event.vect == vect:
                yield event

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write all committed events to a file, a line of JSON each. Any thread.

        Raises:
            LogError: An event holds something that JSON cannot keep as it is; nothing is written.
            OSError: The file cannot be written.
        """
        write_jsonl(self.read(), path)

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
