"""The log in a file: it survives the death of the process, and a power cut.

`SqliteEventLog` is an `EventLog`. One engine at a time writes it, under a lock; any process may
read it meanwhile, and ask for something. How the file is laid out stands in `database`, how its
rows are held against damage in `rows`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from oautom.errors import (
    LogCorruptError,
    LogError,
    SettingError,
    UnknownVectError,
    ValueTooLargeError,
)
from oautom.events.database import Database, real_path
from oautom.events.event import Event
from oautom.events.filelock import FileLock
from oautom.events.jsonl import write_jsonl
from oautom.events.log import (
    ACTIONS,
    PrunedVect,
    Request,
    VectEntry,
    check_instant,
    check_next,
    old_vects,
)
from oautom.events.pruning import pruned, take_out
from oautom.events.rows import INSERT, Row, Rows, to_row
from oautom.events.wakeup import Wakeup, send
from oautom.values import from_json, to_json

Synchronous = Literal["FULL", "NORMAL"]

_LEVELS: Final = ("FULL", "NORMAL")
_PAGES_GIVEN_BACK: Final = 1000  # at once; the engine may commit in between
_MODE_OF_NEW: Final = 0o644


class SqliteEventLog:
    """A log in a file, which is an SQLite database; made where there is none.

    Args:
        path: The file. While the log is open, some more stand beside it, with longer names.
        synchronous: What a commit survives: `'FULL'` a power cut, `'NORMAL'` the death of the
            process only, in a fraction of the time.
        read_only: Do not lock the log, and write no events; others may write it meanwhile.
        value_limit_bytes: How much one output may take, as JSON.

    Raises:
        SettingError: An argument cannot be used.
        LogLockedError: Another engine writes the log.
        LogCorruptError: The file is damaged, or no log; it is left as it was.
        LogVersionError: The file is of a version that is not known; it is left as it was.
        LogError: The file cannot be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "FULL",
        read_only: bool = False,
        value_limit_bytes: int = 64 * 2**20,
    ) -> None:
        if synchronous not in _LEVELS:
            known = " or ".join(map(repr, _LEVELS))
            raise SettingError(f"synchronous must be {known}, not {synchronous!r}")
        if not isinstance(value_limit_bytes, int) or value_limit_bytes < 1:
            raise SettingError(f"value_limit_bytes must be at least 1, not {value_limit_bytes!r}")
        self._path = real_path(path)
        self._synchronous: Synchronous = synchronous
        self._value_limit_bytes = value_limit_bytes
        self._is_read_only = bool(read_only)
        self._pid = os.getpid()
        self._is_closed = False
        self._refusal: str | None = None  # why no event is taken any more
        self._lock = threading.RLock()  # whoever writes the file holds it
        self._rows: list[Row] = []
        self._appended: list[Event] = []
        self._gone: set[str] = set()  # what this log has pruned
        self._taken = 0  # number of the last request that the next commit does away with
        self._is_taking = False
        self._writer: sqlite3.Connection | None = None
        self._side_writer: sqlite3.Connection | None = None
        self._wakeup: Wakeup | None = None
        self._file_lock: FileLock | None = None
        if not read_only:
            self._file_lock = FileLock(self._path, self._mode())
        try:
            self._open()
        except BaseException:
            self._let_go()
            raise

    def _mode(self) -> int:
        """Return the permissions that all files of the log shall have."""
        return self._path.stat().st_mode & 0o777 if self._path.exists() else _MODE_OF_NEW

    def _open(self) -> None:
        self._database = Database(self._path, read_only=self._is_read_only)
        with self._database.reading("opened") as connection:
            row = connection.execute("SELECT value FROM meta WHERE name = 'id'").fetchone()
            if row is None:
                raise LogCorruptError(str(self._path), "it has no id")
            self._id = str(row[0])
            self._rows_of = Rows(str(self._path), self._id)
            if self._is_read_only:
                return
            head = self._rows_of.check_newest(connection)
        self._last_seq, self._crc = head
        with self._database.told("opened"):
            self._writer = self._database.connect("rw", self._synchronous)
            ((journal,),) = self._writer.execute("PRAGMA journal_mode=WAL").fetchall()
        if journal != "wal":
            raise LogError(
                f"log '{self._path}' cannot be opened: its file system gives processes no memory "
                "in common, which SQLite needs; keep it on a local disk"
            )

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def id(self) -> str:
        """What tells it from all other logs, for good: it was made together with the file."""
        return self._id

    @property
    def last_seq(self) -> int:
        """Number of the newest event appended, 0 in a new log. Any thread."""
        if not self._is_read_only:
            return self._last_seq
        with self._database.reading() as connection:
            return self._rows_of.head(connection).seq

    # The engine's thread

    def append(self, sender: object, event: Event) -> None:  # a receiver of `emitted`
        """Write `event` behind the others, with the next commit. Scheduler's thread only.

        Raises:
            LogError: The log is closed or takes no more, `event.seq` is not the next number, or the
                event holds what JSON cannot keep as it is.
        """
        if self._refusal is not None or self._is_closed:
            self._refuse(event)
        if event.seq != self._last_seq + 1:
            check_next(event, self._last_seq, is_closed=False)
        if event.vect in self._gone:
            self._check_not_gone(event)
        row = to_row(event, self._crc)
        self._rows.append(row)
        self._appended.append(event)
        self._crc = row[-1]
        self._last_seq = event.seq

    def _refuse(self, event: Event) -> None:
        if self._refusal is not None:
            raise LogError(f"event {event.seq} is not taken any more: {self._refusal}")
        check_next(event, self._last_seq, is_closed=True)

    def _check_not_gone(self, event: Event) -> None:
        if event.source is not None:
            raise LogError(
                f"event {event.seq} ({event.name}) comes after its vect {event.vect} was pruned"
            )
        self._gone.discard(event.vect)  # another one of the same id begins

    def commit(self) -> Sequence[Event]:
        """Write what was appended since the last commit to the disk, and return it.

        What `requests` has returned is done away with in the same transaction. Scheduler's thread.

        Raises:
            LogError: It cannot be written; nothing of it is, and no event is taken any more.
        """
        if not self._rows and not self._is_taking:
            return []
        with self._lock:
            try:
                self._write()
            except BaseException as error:
                self._stop(error)
                if isinstance(error, sqlite3.Error | OSError | OverflowError):
                    raise self._database.error("written", error) from error
                raise
            committed, self._appended, self._rows = self._appended, [], []
            self._is_taking = False
        return committed

    def _write(self) -> None:
        self._check_writes()
        assert self._writer is not None
        self._database.check_is_there()
        self._writer.execute("BEGIN IMMEDIATE")
        self._writer.executemany(INSERT, self._rows)
        if self._is_taking:
            self._writer.execute("DELETE FROM requests WHERE id <= ?", (self._taken,))
        self._writer.execute("COMMIT")

    def _check_writes(self) -> None:
        """Refuse to write where this log object may not.

        Raises:
            LogError: It is closed, read only, has failed, or was opened by another process.
        """
        if self._is_read_only:
            raise LogError(f"log '{self._path}' is open for reading only; open it without that")
        if self._refusal is not None:
            raise LogError(self._refusal)
        if self._is_closed:
            raise LogError(f"log '{self._path}' is closed; open it again")
        if os.getpid() != self._pid:
            raise LogError(
                f"log '{self._path}' was opened by process {self._pid}, of which this is a fork; "
                "write in that one only"
            )

    def _stop(self, error: BaseException) -> None:
        """Take no event any more: what follows must not be written behind what is missing."""
        self._refusal = f"log '{self._path}' could not be written: {error}; open it again"
        self._last_seq -= len(self._rows)
        self._rows, self._appended = [], []
        if self._writer is not None and os.getpid() == self._pid:
            with suppress(sqlite3.Error):  # it has told already what is wrong
                self._writer.execute("ROLLBACK")

    def requests(self) -> list[Request]:
        """Return what others have asked for and was not returned yet. Scheduler's thread only.

        The next commit does away with it, together with the events that come of it.

        Raises:
            LogError: The file cannot be read.
        """
        self._check_writes()
        assert self._writer is not None
        sql = "SELECT id, vect, action, data FROM requests WHERE id > ? ORDER BY id"
        with self._lock, self._database.told("read"):
            rows = self._writer.execute(sql, (self._taken,)).fetchall()
        try:
            requests = [
                Request(number, vect, action, from_json(data))
                for number, vect, action, data in rows
            ]
        except (msgspec.DecodeError, TypeError) as error:
            raise LogCorruptError(str(self._path), f"a request is no JSON: {error}") from error
        if requests:
            self._taken, self._is_taking = requests[-1].id, True
        return requests

    def listen(self, wake: Callable[[], None]) -> None:
        """Have `wake()` called when another process asks; what it asks, `requests` returns.

        Call `requests` once after this: something may have been asked while nobody listened.

        Args:
            wake: Called on a thread of the log's own, so it should only pass the word on.

        Raises:
            LogError: The log is closed or read only, or this cannot be set up beside the file.
        """
        self._check_writes()
        if self._wakeup is not None:
            self._wakeup.close()
        self._wakeup = Wakeup(self._path, self._mode(), wake)

    # Any thread

    def check_value(self, value: object) -> None:
        """Refuse what cannot be kept in an event.

        Raises:
            NotJsonError: JSON would give another value back.
            ValueTooLargeError: It takes more than `value_limit_bytes`.
        """
        size_bytes = len(to_json(value))
        if size_bytes > self._value_limit_bytes:
            raise ValueTooLargeError(size_bytes, self._value_limit_bytes)

    def read(
        self, after: int = 0, upto: int | None = None, vect: str | None = None
    ) -> Iterator[Event]:
        """Yield committed events in order, those that are there when the first one is asked for.

        Args:
            after: Number of the event before the first one wanted.
            upto: Number of the last one wanted; None for all there are now.
            vect: Id of the only Vect wanted; None for all.

        Raises:
            LogCorruptError: An event is not what was written.
            LogError: The file cannot be read.
        """
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

    def vects(self, flow: str | None = None) -> list[VectEntry]:
        """Return the Vects, oldest first: all, or those of one flow.

        Raises:
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            return self._rows_of.vects(connection, flow)

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

    def ask(self, vect: str, action: str, **data: Any) -> None:
        """Ask the engine that writes the log for something, from any process.

        It is woken, or finds the request when it is started. A log that is open for reading only
        can do this too.

        Args:
            vect: Id of the Vect concerned.
            action: What to do: `'cancel'`.
            data: How, as JSON: a `reason`.

        Raises:
            SettingError: There is no such action.
            UnknownVectError: There is no such Vect.
            NotJsonError: JSON cannot keep the data as they are.
            LogError: The file cannot be written.
        """
        if action not in ACTIONS:
            known = ", ".join(map(repr, ACTIONS))
            raise SettingError(f"action must be one of {known}, not {action!r}")
        text = to_json(data).decode()
        with self._database.reading() as connection:
            if self._rows_of.first_seq(connection, vect) is None:
                raise UnknownVectError(f"the log has no vect {vect!r}; vects() lists them")
        now = datetime.now(UTC).isoformat()
        sql = "INSERT INTO requests (time, vect, action, data) VALUES (?, ?, ?, ?)"
        with self._database.told("written"):
            with closing(self._database.connect("rw")) as connection:
                connection.execute(sql, (now, vect, action, text))
            send(self._path)

    def position(self, name: str) -> int | None:
        """Return what `keep_position` was told last, None if nothing.

        Raises:
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            sql = "SELECT seq FROM positions WHERE name = ?"
            row = connection.execute(sql, (name,)).fetchone()
        return None if row is None else int(row[0])

    def keep_position(self, name: str, seq: int) -> None:
        """Remember up to which event the subscriber `name` has come.

        A power cut may bring an older position back: better twice than never.

        Raises:
            LogError: The file cannot be written, or the log is closed or read only.
        """
        with self._lock, self._database.told("written"):
            self._check_writes()
            if self._side_writer is None:
                self._side_writer = self._database.connect("rw", "NORMAL")
            self._side_writer.execute("INSERT OR REPLACE INTO positions VALUES (?, ?)", (name, seq))

    def prune(self, older_than: datetime, *, keep: Collection[str] = ()) -> list[PrunedVect]:
        """Take out all events of the Vects that ended before an instant, and give back their room.

        All of these Vects are taken out, or none. An engine may write meanwhile.

        Args:
            older_than: The instant.
            keep: Ids of Vects that are to be left in.

        Returns:
            The Vects that are gone. Numbers of events are never used again.

        Raises:
            SettingError: `older_than` is no datetime with a time zone.
            LogError: The file cannot be written, or the log is closed or read only.
        """
        check_instant(older_than)
        with self._lock, self._database.told("pruned"):
            self._check_writes()
            assert self._writer is not None
            self._database.check_is_there()
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                kept = {event.vect for event in self._appended}.union(keep)
                old = old_vects(self._rows_of.vects(self._writer), older_than, kept)
                gone = take_out(self._writer, old)
                self._writer.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
                raise
            self._gone.update(vect.id for vect in gone)
        self._give_room_back()
        return gone

    def _give_room_back(self) -> None:
        left = 1
        while left:
            with self._lock, self._database.told("made smaller"):
                self._check_writes()
                assert self._writer is not None
                give_back = f"PRAGMA incremental_vacuum({_PAGES_GIVEN_BACK})"
                self._writer.execute(give_back).fetchall()
                ((left,),) = self._writer.execute("PRAGMA freelist_count").fetchall()
                if not left:
                    self._checkpoint(self._writer)

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA busy_timeout=0")  # readers may go on: then it is done later
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute("PRAGMA busy_timeout=5000")

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

    def close(self) -> None:
        """Take no more events, and let another process write the log; reading goes on."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            if self._writer is not None and self._refusal is None and os.getpid() == self._pid:
                with suppress(sqlite3.Error):  # what was committed is safe without this as well
                    self._keep_head(self._writer)
                    self._checkpoint(self._writer)
        self._let_go()

    def _keep_head(self, connection: sqlite3.Connection) -> None:
        """Write down where the log ends, so that it is noticed where its end is cut off."""
        seq, crc = self._rows_of.head(connection)
        sql = "INSERT OR REPLACE INTO meta VALUES ('head', ?)"
        connection.execute(sql, (f"{seq} {crc}",))

    def _let_go(self) -> None:
        """Close what is open; in a forked process nothing is, it all belongs to the parent."""
        if os.getpid() != self._pid:
            return
        if self._wakeup is not None:
            self._wakeup.close()
        for connection in (self._side_writer, self._writer):
            if connection is not None:
                connection.close()
        if self._file_lock is not None:
            self._file_lock.release()

    def __repr__(self) -> str:
        """Return its path."""
        kind = " (read only)" if self._is_read_only else ""
        return f"<SqliteEventLog '{self._path}'{kind}>"
