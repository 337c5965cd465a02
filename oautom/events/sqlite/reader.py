"""The reading side of a log in a file: what any thread of any process may do at any time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

from oautom.errors import LogCorruptError, SettingError, UnknownVectError, ValueTooLargeError, shown
from oautom.events.log import EventLog, GivenUp, PrunedVect, VectEntry
from oautom.events.requests import BYTES_MAX, Answer, check_request
from oautom.events.sqlite.checksums import Audit, Tally
from oautom.events.sqlite.file import Database, id_of, real_path
from oautom.events.sqlite.rows import PAGE, Head, Rows
from oautom.events.sqlite.summary import Known, Size, Summary
from oautom.events.sqlite.texts import read as read_text
from oautom.events.sqlite.wakeup import send
from oautom.events.texts import Text
from oautom.machine.commands import Key
from oautom.machine.event import Event
from oautom.values.json import plain_count, to_json

_AT_ONCE: Final = 500  # Vects that are looked up in one transaction


class LogFile(EventLog):
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
            audit = Audit(self._rows_of)
            head = audit.check_newest(connection, is_old=self._database.is_old)
        if not read_only:
            self._database.migrate()
            with self._database.reading("opened") as connection:
                audit.check_open(connection)
        return head

    def _found(self, id: str) -> None:  # noqa: A002 - the public word
        self._id = id
        self._rows_of = Rows(str(self._path), id)
        self._summary = Summary(self._rows_of)

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
            known = None if vect is None else self._summary.find(connection, vect)
            if known is None and vect is not None:
                return
            upto = end if upto is None else min(upto, end)
            first_seq = 1 if known is None else known.entry.first_seq
            page = self._rows_of.page(connection, max(after, first_seq - 1), upto, vect)
        count = len(page.rows)
        while page.has_more:  # a reader that is slow must not keep the file from being tidied
            yield from self._rows_of.events(page.rows)
            with self._database.reading() as connection:
                page = self._rows_of.page(connection, page.rows[-1][0], upto, vect)
            count += len(page.rows)
        events = self._rows_of.events(page.rows)
        if known is not None and after < first_seq and upto == end and known.events != count:
            self._check_whole(known.entry.id)
        yield from events

    def _check_whole(self, vect: str) -> None:
        """Refuse a Vect of which events are missing, if it was not pruned meanwhile."""
        if not self._database.is_old:
            with self._database.reading() as connection:
                Audit(self._rows_of).hold_vect(connection, vect)

    def read_each(self, vects: Sequence[str], limit: int | None = None) -> Iterator[Event]:
        """Yield committed events of some Vects, one Vect after the other, each in order.

        Args:
            vects: Their ids; one that the log has not has no events.
            limit: How many of each at most, the first ones; None for all.

        Raises:
            LogCorruptError: An event is not what was written.
            LogError: The file cannot be read.
        """
        for first in range(0, len(vects), _AT_ONCE):
            ids = vects[first : first + _AT_ONCE]
            with self._database.reading() as connection:
                sizes = self._summary.sizes(connection, ids)
            for part in _packed([sizes[vect] for vect in ids if vect in sizes], limit):
                yield from self._read_first(part, limit) if limit else self._read_all(part)

    def _read_first(self, part: Sequence[Size], limit: int) -> list[Event]:
        rows: list[Any] = []
        with self._database.reading() as connection:
            for vect, first_seq, _ in part:
                page = self._rows_of.page(connection, first_seq - 1, vect=vect, limit=limit)
                rows += page.rows
        return self._rows_of.events(rows)

    def _read_all(self, part: Sequence[Size]) -> Iterable[Event]:
        if len(part) == 1:
            return self.read(vect=part[0].vect)
        ids = [each.vect for each in part]
        with self._database.reading() as connection:
            page = self._rows_of.of_vects(connection, ids, limit=2 * PAGE)
        if page.has_more:  # their data are too large to be had together
            halves = part[: len(part) // 2], part[len(part) // 2 :]
            return (event for half in halves for event in self._read_all(half))
        events: dict[str, list[Event]] = {vect: [] for vect in ids}
        for event in self._rows_of.events(page.rows):
            events[event.vect].append(event)
        for each in part:
            if len(events[each.vect]) != each.events:
                self._check_whole(each.vect)
        return chain.from_iterable(map(events.__getitem__, ids))

    def vects(self, flow: str | None = None) -> list[VectEntry]:
        """Return the Vects, oldest first: all, or those of one flow.

        Raises:
            LogError: The file cannot be read.
        """
        return [known.entry for known in self._known(flow)]

    def _known(self, flow: str | None = None) -> Iterator[Known]:
        limit = -1 if self._database.is_old else PAGE  # there each page is made of all events
        after = 0
        while True:
            with self._database.reading() as connection:
                page = self._summary.page(connection, after, flow, limit)
            yield from page
            if len(page) != limit:
                return
            after = page[-1].entry.first_seq

    def _looking(self) -> AbstractContextManager[sqlite3.Connection]:
        """Give a connection to look something up by one statement."""
        return self._database.reading()

    def find(self, vect: str) -> VectEntry | None:
        """Return what `vects` has of one Vect, None if it is not there.

        Raises:
            LogError: The file cannot be read.
        """
        with self._looking() as connection:
            known = self._summary.find(connection, vect)
        return None if known is None else known.entry

    def newest(self, flow: str) -> VectEntry | None:
        """Return what `vects` has of the newest Vect of a flow, None if it has none.

        Raises:
            LogError: The file cannot be read.
        """
        with self._looking() as connection:
            known = self._summary.newest(connection, flow)
        return None if known is None else known.entry

    def open_vects(self) -> list[VectEntry]:
        """Return what `vects` has of those that have not ended.

        Raises:
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            return [known.entry for known in self._summary.open_vects(connection)]

    def planned(self, plan: str) -> datetime | None:
        """Return the newest time that a plan has dealt with.

        Also where the Vect of that time has been pruned. None for a plan that the log has not.

        Raises:
            LogError: The file cannot be read.
        """
        with self._looking() as connection:
            return self._summary.planned(connection, plan)

    def verify(self) -> None:
        """Read the whole file, and hold every row against its checksum.

        Raises:
            LogCorruptError: Something is not what was written.
            LogError: The file cannot be read.
        """
        with self._database.reading("verified") as connection:
            ((found, *_), *_) = connection.execute("PRAGMA integrity_check(1)").fetchall()
        if found != "ok":
            raise LogCorruptError(str(self._path), str(found))
        audit, tally = Audit(self._rows_of), Tally()
        for event in self.read():
            tally.take([event])
        with self._database.reading("verified") as connection:
            audit.check_newest(connection, is_old=self._database.is_old)
            if self._database.is_old:
                return
            audit.hold_plans(connection, tally)
        for known in self._known():
            if not audit.fits(tally, known):  # an engine may have written meanwhile
                self._check_whole(known.entry.id)
        with self._database.reading("verified") as connection:
            for vect in tally.vects:
                audit.hold_vect(connection, vect)

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
        gone: list[PrunedVect] = []
        while True:
            with self._database.reading() as connection:
                page = self._summary.pruned(connection, gone[-1].first_seq if gone else 0)
            gone += page
            if len(page) < PAGE:
                return gone

    def find_pruned(self, vect: str) -> PrunedVect | None:
        """Return the Vect of this id that was taken out, None if none was.

        Raises:
            LogError: The file cannot be read.
        """
        with self._looking() as connection:
            return self._summary.find_pruned(connection, vect)

    def gaps(self) -> list[tuple[int, int]]:
        """Return the first and last numbers of the events that have been taken out.

        Raises:
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            sql = "SELECT first_seq, last_seq FROM gaps ORDER BY last_seq"
            return connection.execute(sql).fetchall()

    def text(self, key: Key) -> Text | None:
        """Return what an attempt has written, as far as it is in the file; None for nothing.

        Raises:
            LogCorruptError: It is not what was written.
            LogError: The file cannot be read.
        """
        with self._looking() as connection:
            try:
                text = read_text(connection, key)
            except TypeError as error:
                what = f"what step {shown(key[1])} of vect {shown(key[0])} has written is no text"
                raise LogCorruptError(str(self._path), f"{what}: {error}") from error
        return text if text.content else None

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
            if self._summary.find(connection, vect) is None:
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


def _packed(sizes: Sequence[Size], limit: int | None) -> Iterator[list[Size]]:
    """Yield Vects in parts whose events are few enough to be read in one transaction."""
    part: list[Size] = []
    count = 0
    for each in sizes:
        events = min(PAGE if each.events is None else each.events, limit or PAGE)
        if part and count + events > PAGE:
            yield part
            part, count = [], 0
        part.append(each)
        count += events
    if part:
        yield part
