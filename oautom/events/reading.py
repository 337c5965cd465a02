"""The reading side of a log in a file: what any thread of any process may do at any time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from oautom.errors import (
    LogCorruptError,
    SettingError,
    UnknownVectError,
    ValueTooLargeError,
    shown,
)
from oautom.events.database import Database, id_of, real_path
from oautom.events.event import Event
from oautom.events.jsonl import write_jsonl
from oautom.events.log import GivenUp, PrunedVect, VectEntry, newest_of
from oautom.events.pruning import pruned
from oautom.events.requests import BYTES_MAX, Answer, check_request
from oautom.events.rows import Head, Rows
from oautom.events.wakeup import send
from oautom.values import plain_count, to_json

_EVENTS_AT_ONCE: Final = 1000


class LogFile:
    """A file with a log; whoever writes it writes through a subclass.

    Each call has a connection of its own: SQLite does not let threads share one.
    """

    def __init__(self, path: object) -> None:
        self._path = real_path(path)

    def _open(self, *, read_only: bool) -> Head:
        """Open the file, making or migrating it first, and return where the log ends."""
        self._database = Database(self._path, read_only=read_only)
        with self._database.reading("opened") as connection:
            self._found(id_of(connection, self._path))
            return self._rows_of.check_newest(connection)

    def _found(self, id: str) -> None:  # noqa: A002 - the public word
        self._id = id
        self._rows_of = Rows(str(self._path), id)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def id(self) -> str:
        """What tells it from all other logs, for good: it was made together with the file."""
        return self._id

    def read(
        self, after: int = 0, upto: int | None = None, vect: str | None = None
    ) -> Iterator[Event]:
        """Return the committed events in order, those that are there when the first is asked for.

        Args:
            after: Number of the event before the first one wanted.
            upto: Number of the last one wanted; None for all there are now.
            vect: Id of the only Vect wanted; None for all.

        Raises:
            LogCorruptError: An event is not what was written.
            LogError: The file cannot be read.
        """
        self._database.check_process()
        return self._read(after, upto, vect)

    def _read(self, after: int, upto: int | None, vect: str | None) -> Iterator[Event]:
        with self._database.reading() as connection:
            end = self._rows_of.head(connection).seq
            upto = end if upto is None else min(upto, end)
            if vect is not None:
                after = max(after, (self._rows_of.first_seq(connection, vect) or end + 1) - 1)
            events = self._rows_of.read(connection, after, upto, vect)
        while events:  # in parts: a reader that is slow must not keep the file from being tidied
            yield from events
            after = events[-1].seq
            with self._database.reading() as connection:
                events = self._rows_of.read(connection, after, upto, vect)

    def read_each(self, vects: Sequence[str], limit: int | None = None) -> Iterator[Event]:
        """Yield committed events of some Vects, one Vect after the other, each in order.

        Args:
            vects: Their ids; one that the log has not has no events.
            limit: How many of each at most, the first ones; None for all.

        Raises:
            LogCorruptError: An event is not what was written.
            LogError: The file cannot be read.
        """
        left = deque((vect, 0) for vect in vects)
        while left:  # in parts, as above
            events: list[Event] = []
            with self._database.reading() as connection:
                while left and len(events) < _EVENTS_AT_ONCE:
                    vect, after = left.popleft()
                    first = self._rows_of.first_seq(connection, vect)
                    if first is None:
                        continue
                    most = _EVENTS_AT_ONCE if limit is None else limit
                    after = max(after, first - 1)
                    found = self._rows_of.read(connection, after, None, vect, most)
                    events += found
                    if limit is None and len(found) == most:
                        left.appendleft((vect, found[-1].seq))
            yield from events

    def vects(self, flow: str | None = None) -> list[VectEntry]:
        """Return the Vects, oldest first: all, or those of one flow.

        Raises:
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            return self._rows_of.vects(connection, flow)

    def planned(self, plan: str) -> datetime | None:
        """Return the newest time that a plan has dealt with.

        Also where the Vect of that time has been pruned. None for a plan that the log has not.

        Raises:
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            newest = self._rows_of.planned(connection, plan)
            return newest_of(plan, newest, (vect.id for vect in pruned(connection)))

    def verify(self) -> None:
        """Read the whole file, and hold every row against its checksum.

        Raises:
            LogCorruptError: Something is not what was written.
            LogError: The file cannot be read.
        """
        with self._database.reading("verified") as connection:
            ((found,), *_) = connection.execute("PRAGMA integrity_check(1)").fetchall()
            if found != "ok":
                raise LogCorruptError(str(self._path), str(found))
            self._rows_of.check(connection)
            self._rows_of.check_newest(connection)

    def position(self, name: str) -> int | None:
        """Return what `keep_position` was told last, None if nothing.

        Raises:
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            sql = "SELECT seq FROM positions WHERE name = ?"
            row = connection.execute(sql, (name,)).fetchone()
        if row is not None and not isinstance(row[0], int):
            what = f"the position of subscription {shown(name)} is {shown(row[0])}, no number"
            raise LogCorruptError(str(self._path), what)
        return None if row is None else int(row[0])

    def given_up(self, name: str) -> list[GivenUp]:
        """Return what the subscriber `name` has given up, in the order of the log.

        Raises:
            LogError: The file cannot be read.
        """
        sql = "SELECT seq, error, attempts, time FROM given_up WHERE name = ? ORDER BY seq"
        with self._database.reading() as connection:
            rows = connection.execute(sql, (name,)).fetchall()
        return [
            GivenUp(seq, error, attempts, datetime.fromisoformat(time))
            for seq, error, attempts, time in rows
        ]

    def pruned(self) -> list[PrunedVect]:
        """Return all Vects that have been taken out, oldest first.

        Raises:
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            return pruned(connection)

    def gaps(self) -> list[tuple[int, int]]:
        """Return the first and last numbers of the events that have been taken out.

        Raises:
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            sql = "SELECT first_seq, last_seq FROM gaps ORDER BY last_seq"
            return connection.execute(sql).fetchall()

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write all committed events to a file, a line of JSON each.

        Raises:
            LogError: The log cannot be read; nothing is written.
            OSError: The file cannot be written.
        """
        write_jsonl(self.read(), path)

    def ask(self, vect: str, action: str, /, **data: Any) -> int:
        """Ask the engine that writes the log for something, from any process.

        It is woken, or finds the request when it looks, or is started. A log that is open for
        reading only can do this too.

        Args:
            vect: Id of the Vect concerned.
            action: What to do: `'cancel'`, `'pause'`, `'resume'`, `'retry'`, `'approve'` or
                `'reject'`.
            data: How, as JSON: the arguments of the method of `Vect` of this name.

        Returns:
            The number of the request, for `answer`.

        Raises:
            SettingError: There is no such action, or it takes other data.
            UnknownVectError: There is no such Vect.
            NotJsonError: JSON cannot keep the data as they are.
            ValueTooLargeError: They take more than 64 MiB.
            LogError: The file cannot be written; nothing is asked.
        """
        self._database.check_process()
        text = to_json(data).decode()
        check_request(action, data)
        if (size_bytes := len(text.encode())) > BYTES_MAX:
            raise ValueTooLargeError(size_bytes, BYTES_MAX)
        with self._database.reading() as connection:
            if self._rows_of.first_seq(connection, vect) is None:
                raise UnknownVectError(f"the log has no vect {shown(vect)}; vects() lists them")
        now = datetime.now(UTC).isoformat()
        sql = "INSERT INTO requests (time, vect, action, data) VALUES (?, ?, ?, ?)"
        with self._database.told("written"), closing(self._database.writing()) as connection:
            number = connection.execute(sql, (now, vect, action, text)).lastrowid
        send(self._path)
        return number or 0

    def answer(self, number: int) -> Answer | None:
        """Return what has become of a request, or None as long as nothing has. Any process.

        An answer is kept for an hour.

        Args:
            number: What `ask` has returned.

        Raises:
            SettingError: `number` is no number of a request.
            LogError: The file cannot be read.
        """
        if (wanted := plain_count(number)) is None:
            raise SettingError(f"number must be what ask() has returned, not {shown(number)}")
        with self._database.reading() as connection:
            sql = "SELECT seq, refusal, time FROM answers WHERE id = ?"
            row = connection.execute(sql, (wanted,)).fetchone()
        if row is None:
            return None
        seq, refusal, time = row
        return Answer(seq, refusal, datetime.fromtimestamp(time, UTC))
