"""The reading side of a log in a file: what any thread of any process may do at any time."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec

from oautom.errors import LogCorruptError, SettingError, UnknownVectError, ValueTooLargeError, shown
from oautom.events.log import EventLog, GivenUp, Holder, PrunedVect, VectEntry
from oautom.events.requests import BYTES_MAX, Answer, answer_of, check_request, take_back
from oautom.events.sqlite.checksums import Audit, Tally
from oautom.events.sqlite.file import Database, id_of, real_path
from oautom.events.sqlite.lock import holder
from oautom.events.sqlite.rows import PAGE, Head, Rows
from oautom.events.sqlite.summary import Known, Size, Summary
from oautom.events.sqlite.texts import read as read_text
from oautom.events.sqlite.wakeup import send
from oautom.events.texts import Text
from oautom.machine.commands import Key
from oautom.machine.event import Event
from oautom.values.json import from_json, plain_count, to_json

_AT_ONCE: Final = 500  # Vects that are looked up in one transaction
_ASK: Final = "INSERT INTO requests (time, vect, action, data) VALUES (?, ?, ?, ?)"
_ASK_UNTIL: Final = "INSERT INTO requests (time, vect, action, data, until) VALUES (?, ?, ?, ?, ?)"


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

    @property
    def is_old(self) -> bool:
        """Whether the version of its form is an older one, in which it can only be read."""
        return self._database.is_old

    @property
    def version(self) -> tuple[int, int]:
        """The version of its form, and the newest one."""
        return self._database.version

    @property
    def is_current(self) -> bool:
        """Whether the file is still the one that was opened, and of today's version."""
        return self._database.process.is_here and not self.is_old and self._database.is_there()

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

    def newest_vects(
        self,
        limit: int | None,
        flow: str | None = None,
        states: Collection[str] | None = None,
        since: datetime | None = None,
    ) -> list[VectEntry]:
        """Return the newest Vects, newest first.

        Args:
            limit: How many at most; None for all.
            flow: The name of their flow; None for all.
            states: In which they are; None for all.
            since: When they were created at the earliest; None for all.

        Raises:
            LogError: The file cannot be read.
        """
        with self._looking() as connection:
            found = self._summary.newest_first(connection, limit, flow, states, since)
        return [known.entry for known in found]

    def newest_skip(self, plan: str) -> Event | None:
        """Return the event by which a plan has skipped a time last, None if there is none.

        Raises:
            LogError: The file cannot be read.
        """
        condition = (
            "step IS NULL AND dest = 'skipped' AND json_extract(data, '$.plan') = :plan "
            "ORDER BY seq DESC LIMIT 1"
        )
        with self._looking() as connection:
            if self._summary.planned(connection, plan) is None:
                return None
            return next(iter(self._rows_of.where(connection, condition, {"plan": plan})), None)

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
                `'reject'`; or `'start'`, a new Vect of this id.
            data: How, as JSON: the arguments of the method of `Vect` of this name; of a start
                `flow`, and `params` and `when_full` if need be.

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
        to_json(data)
        check_request(action, data)
        if action != "start":
            with self._database.reading() as connection:
                if self._summary.find(connection, vect) is None:
                    raise UnknownVectError(f"the log has no vect {shown(vect)}; vects() lists them")
        return self.ask_until(None, vect, action, data)

    def ask_until(
        self, seconds: float | None, vect: str, action: str, data: Mapping[str, Any]
    ) -> int:
        """Ask for something as `ask` does, and wait so long for an answer.

        Then who has asked takes it back by `take_back`; where they died, no engine takes it.

        Args:
            seconds: How long; None for a request that waits for an engine for as long as it takes.
            vect: Id of the Vect concerned, which is not looked for; of a start that of the new one.
            action: What to do.
            data: How.

        Returns:
            The number of the request; errors are those of `ask`.
        """
        self._database.check_process()
        text = to_json(data).decode()
        check_request(action, data)
        if (size_bytes := len(text.encode())) > BYTES_MAX:
            raise ValueTooLargeError(size_bytes, BYTES_MAX)
        now = datetime.now(UTC)
        values: list[object] = [now.isoformat(), vect, action, text]
        sql, level = _ASK, "FULL"
        if seconds is not None:  # nobody has been told that it is kept
            sql, level = _ASK_UNTIL, "NORMAL"
            values.append(now.timestamp() + seconds)
        with self._writing(level) as connection:
            number = connection.execute(sql, values).lastrowid
        send(self._path)
        return number or 0

    def take_back(self, number: int) -> bool:
        """Take a request back; False if an engine has claimed it: then it will be answered.

        Raises:
            LogError: The file cannot be written.
        """
        with self._writing("NORMAL") as connection:
            return take_back(connection, number)

    def forget_answer(self, number: int) -> None:
        """Forget an answer that was read by whoever had asked.

        Raises:
            LogError: The file cannot be written.
        """
        with self._writing("NORMAL") as connection:
            connection.execute("DELETE FROM answers WHERE id = ?", (number,))

    @contextmanager
    def _writing(self, level: str) -> Iterator[sqlite3.Connection]:
        """Give a connection of its own, for one statement of whoever is not the engine."""
        with self._database.told("written"), closing(self._database.writing(level)) as connection:
            yield connection

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
            sql = "SELECT seq, refusal, time, error FROM answers WHERE id = ?"
            row = connection.execute(sql, (wanted,)).fetchone()
        return None if row is None else answer_of(*row)

    def is_asked_for(self, number: int) -> bool:
        """Whether a request stands in the file, so that it is to be answered.

        Raises:
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            sql = "SELECT 1 FROM requests WHERE id = ?"
            return bool(connection.execute(sql, (number,)).fetchall())

    def told(self) -> dict[str, Any]:
        """Return what the last engine has told of itself, by name; whether it lives or not.

        Raises:
            LogCorruptError: It is not what an engine tells.
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            rows = connection.execute("SELECT name, told FROM engine ORDER BY name").fetchall()
        try:
            return {name: from_json(text) for name, text in rows}
        except (msgspec.DecodeError, TypeError) as error:
            what = f"what its engine tells of itself is no JSON: {error}"
            raise LogCorruptError(str(self._path), what) from error

    def holder(self) -> Holder | None:
        """Return the process that writes the log, None if none does. Locks nothing.

        Raises:
            LogError: The file cannot be opened.
        """
        self._database.check_process()
        if not self._path.exists():
            return None  # its app has not made it yet, or it is gone, and nobody can hold it
        with self._database.told("read"):
            found = holder(self._path)
        return None if found is None else Holder(*found)


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
