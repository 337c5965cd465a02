"""The reading side of a log in a file: calls for any thread of any process at any time."""

from __future__ import annotations

import sqlite3
import threading
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
from oautom.events.sqlite.starts import read as read_starts
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


class _Kept(threading.local):
    """The connection that a thread uses for several look-ups; None for one for each."""

    connection: sqlite3.Connection | None = None


class LogFile(EventLog):
    """A file with a log; a subclass writes it.

    Each call has a connection of its own: SQLite does not let threads share one.
    """

    def __init__(self, path: object) -> None:
        self._path = real_path(path)
        self._kept = _Kept()

    def _open(self, *, read_only: bool) -> Head:
        """Open the file, after making or migrating it, and return the end of the log."""
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
        """The path of the file."""
        return self._path

    @property
    def id(self) -> str:
        """The identity of the log among all logs, for good; made together with the file."""
        return self._id

    @property
    def is_old(self) -> bool:
        """Whether the version of its form is an older one, which can only be read."""
        return self._database.is_old

    @property
    def version(self) -> tuple[int, int]:
        """The version of its form, and the newest one."""
        return self._database.version

    @property
    def is_current(self) -> bool:
        """Whether the file is still the one that was opened, and has the newest version."""
        return self._database.process.is_here and not self.is_old and self._database.has_its_log()

    def read(
        self, after: int = 0, upto: int | None = None, vect: str | None = None
    ) -> Iterator[Event]:
        """Return the committed events in order, as of the moment when the first one is read.

        Args:
            after: Number of the event before the first one to return.
            upto: Number of the last event to return; None for all present events.
            vect: Id of the Vect whose events to return; None for all Vects.

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
        while page.has_more:  # a slow reader must not prevent restarts of the WAL
            yield from self._rows_of.events(page.rows)
            with self._database.reading() as connection:
                page = self._rows_of.page(connection, page.rows[-1][0], upto, vect)
            count += len(page.rows)
        events = self._rows_of.events(page.rows)
        if known is not None and after < first_seq and upto == end and known.events != count:
            self._check_whole(known.entry.id)
        yield from events

    def _check_whole(self, vect: str) -> None:
        """Refuse a Vect with missing events, unless it was pruned meanwhile."""
        if not self._database.is_old:
            with self._database.reading() as connection:
                Audit(self._rows_of).hold_vect(connection, vect)

    def read_each(self, vects: Sequence[str], limit: int | None = None) -> Iterator[Event]:
        """Yield committed events of some Vects, one Vect after the other, each in order.

        Args:
            vects: The ids of the Vects; an unknown id has no events.
            limit: How many events of each at most, the first ones; None for all.

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
        if page.has_more:  # their data are too large for one page
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
        limit = -1 if self._database.is_old else PAGE  # each query of an old file reads all events
        after = 0
        while True:
            with self._database.reading() as connection:
                page = self._summary.page(connection, after, flow, limit)
            yield from page
            if len(page) != limit:
                return
            after = page[-1].entry.first_seq

    def _looking(self) -> AbstractContextManager[sqlite3.Connection]:
        """Give a connection for a look-up by one statement."""
        kept = self._kept.connection
        return self._database.reading() if kept is None else self._kept_looking(kept)

    @contextmanager
    def _kept_looking(self, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        self._database.check_process()
        self._database.check_is_there()
        with self._database.told("read"):
            yield connection

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Use one connection for all look-ups of this thread meanwhile: opening one takes longest.

        Each look-up is a transaction of its own, so that the file may be written and checkpointed.

        Raises:
            LogError: The file cannot be read.
        """
        if self._kept.connection is not None:
            yield
            return
        with self._database.reading() as connection:
            connection.execute("COMMIT")
            self._kept.connection = connection
            try:
                yield
            finally:
                self._kept.connection = None

    def find(self, vect: str) -> VectEntry | None:
        """Return the entry of one Vect; None if the log does not have it.

        Raises:
            LogError: The file cannot be read.
        """
        with self._looking() as connection:
            known = self._summary.find(connection, vect)
        return None if known is None else known.entry

    def starts(self, pool: str) -> list[datetime]:
        """Return the committed starts of the steps of a pool with a rate. Any thread.

        Raises:
            LogError: The file cannot be read.
        """
        with self._looking() as connection:
            return read_starts(connection, pool)

    def newest(self, flow: str) -> VectEntry | None:
        """Return the entry of the newest Vect of a flow; None if there is none.

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
            flow: The name of their flow; None for all flows.
            states: Their states; None for all states.
            since: The earliest time of their creation; None for any.

        Raises:
            LogError: The file cannot be read.
        """
        with self._looking() as connection:
            found = self._summary.newest_first(connection, limit, flow, states, since)
        return [known.entry for known in found]

    def newest_skip(self, plan: str) -> Event | None:
        """Return the event of the newest time that a plan has skipped; None if there is none.

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
        """Return the entries of the Vects that have not ended.

        Raises:
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            return [known.entry for known in self._summary.open_vects(connection)]

    def planned(self, plan: str) -> datetime | None:
        """Return the newest time that a plan has dealt with; None for an unknown plan.

        A Vect that has been pruned counts, too.

        Raises:
            LogError: The file cannot be read.
        """
        with self._looking() as connection:
            return self._summary.planned(connection, plan)

    def verify(self) -> None:
        """Read the whole file, and check each row against its checksum.

        Raises:
            LogCorruptError: A part is not what was written.
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
        """Return the last position that `keep_position` has stored, or None.

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
        """Return the events that the subscriber `name` has given up, in the order of the log.

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
        """Return the pruned Vect of this id; None if there is none.

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
        """Return the text of an attempt, as far as the file has it; None if it has none.

        Raises:
            LogCorruptError: The text is not what was written.
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
        """Send a request to the engine that writes the log, from any process.

        The engine is woken, or finds the request at its next check, or when it is started. This
        also works with a log that is open for reading only.

        Args:
            vect: Id of the Vect concerned.
            action: What to do: `'cancel'`, `'pause'`, `'resume'`, `'retry'`, `'approve'` or
                `'reject'`; or `'start'`, which makes a new Vect of this id.
            data: The arguments of the method of `Vect` of this name, as JSON; for a start `flow`,
                and optionally `params` and `when_full`.

        Returns:
            The number of the request, for `answer`.

        Raises:
            SettingError: There is no such action, or it takes other data.
            UnknownVectError: There is no such Vect.
            NotJsonError: JSON cannot store the data unchanged.
            ValueTooLargeError: The data take more than 64 MiB.
            LogError: The file cannot be written; nothing was requested.
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
        """Send a request as `ask` does, for an answer within a time.

        After that time no engine takes it. The sender may take it back earlier, by `take_back`.

        Args:
            seconds: The time; None for a request that waits for an engine without a limit.
            vect: Id of the Vect concerned, unchecked; for a start the id of the new one.
            action: What to do.
            data: The arguments.

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
        if seconds is not None:  # no promise to keep it was made
            sql, level = _ASK_UNTIL, "NORMAL"
            values.append(now.timestamp() + seconds)
        with self._writing(level) as connection:
            number = connection.execute(sql, values).lastrowid
        send(self._path)
        return number or 0

    def take_back(self, number: int) -> bool:
        """Take back a request; False if an engine has claimed it: then it will be answered.

        Raises:
            LogError: The file cannot be written.
        """
        with self._writing("NORMAL") as connection:
            return take_back(connection, number)

    def forget_answer(self, number: int) -> None:
        """Remove an answer, after the sender has read it.

        Raises:
            LogError: The file cannot be written.
        """
        with self._writing("NORMAL") as connection:
            connection.execute("DELETE FROM answers WHERE id = ?", (number,))

    @contextmanager
    def _writing(self, level: str) -> Iterator[sqlite3.Connection]:
        """Give a connection of its own, for one statement of a process that is not the engine."""
        with self._database.told("written"), closing(self._database.writing(level)) as connection:
            yield connection

    def answer(self, number: int) -> Answer | None:
        """Return the answer to a request, or None as long as there is none. Any process.

        An answer can be read for an hour.

        Args:
            number: The number that `ask` has returned.

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
        """Whether a request is in the file, so that it will be answered.

        Raises:
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            sql = "SELECT 1 FROM requests WHERE id = ?"
            return bool(connection.execute(sql, (number,)).fetchall())

    def told(self) -> dict[str, Any]:
        """Return the facts that the last engine has shown of itself, by name; it may have ended.

        Raises:
            LogCorruptError: The facts are no JSON.
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            rows = connection.execute("SELECT name, told FROM engine ORDER BY name").fetchall()
        try:
            return {name: from_json(text) for name, text in rows}
        except (msgspec.DecodeError, TypeError) as error:
            what = f"the facts that its engine shows are no JSON: {error}"
            raise LogCorruptError(str(self._path), what) from error

    def holder(self) -> Holder | None:
        """Return the process that writes the log, or None. Locks nothing.

        Raises:
            LogError: The file cannot be opened.
        """
        self._database.check_process()
        if not self._path.exists():
            return None  # not made yet, or gone: it has no lock
        with self._database.told("read"):
            found = holder(self._path)
        return None if found is None else Holder(*found)


def _packed(sizes: Sequence[Size], limit: int | None) -> Iterator[list[Size]]:
    """Yield Vects in parts with few enough events to be read in one transaction."""
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
