"""The log in a file: it survives the death of the process, and a power cut.

`SqliteEventLog` is an `EventLog`. One engine at a time writes it, under a lock; any process may
read it meanwhile, and send requests. The layout of the file is in `file`, the protection of its
rows against damage in `rows`.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from math import inf
from time import monotonic, sleep
from typing import Any, Final, Literal, cast

from oautom.errors import (
    EventRefusedError,
    LogError,
    OAutomError,
    SettingError,
    ValueTooLargeError,
    shown,
)
from oautom.events.log import VALUE_LIMIT_BYTES, GivenUp, PrunedVect, check_instant, not_next
from oautom.events.requests import (
    DONE,
    Request,
    Settled,
    claim,
    claim_all,
    has_unclaimed,
    newest_of,
    numbers_of,
    read_requests,
    settle,
)
from oautom.events.sqlite.file import (
    FAULTS,
    Database,
    UnopenedDatabase,
    check_beside,
    check_journal,
    checkpoint,
    is_busy,
)
from oautom.events.sqlite.lock import FileLock, lets_go
from oautom.events.sqlite.prune import take_out
from oautom.events.sqlite.reader import LogFile
from oautom.events.sqlite.rows import INSERT, Row, to_row
from oautom.events.sqlite.starts import Noted
from oautom.events.sqlite.starts import write as write_starts
from oautom.events.sqlite.summary import sum_up
from oautom.events.sqlite.texts import TRANSACTION_BYTES_MAX, Saver, Texts, Written, pieces_of
from oautom.events.sqlite.texts import write as write_texts
from oautom.events.sqlite.wakeup import Wakeup
from oautom.events.sqlite.wal import WriteAhead
from oautom.events.texts import UNSAVED_BYTES_MAX, LogBuffer, Text
from oautom.machine.commands import Key
from oautom.machine.event import Event
from oautom.values.json import plain_count, to_json
from oautom.values.names import one_of

Synchronous = Literal["FULL", "NORMAL"]

_LEVELS: Final = ("FULL", "NORMAL")
_PAGES_GIVEN_BACK: Final = 1000  # per step; the engine may commit in between
_KEEP: Final = "INSERT OR REPLACE INTO positions VALUES (?, ?)"
_KEEP_MAX: Final = (
    "INSERT INTO positions VALUES (?, ?) "
    "ON CONFLICT (name) DO UPDATE SET seq = max(seq, excluded.seq)"
)
_BUSY_PAUSE: Final = 0.02  # seconds; other threads can write meanwhile
_BUSY_TOLD_EACH: Final = 10.0  # seconds
_logger = logging.getLogger("oautom.log")


class SqliteEventLog(LogFile):
    """A log in a file, which is an SQLite database; the file is made if it does not exist.

    Args:
        path: The file. While the log is open, some more stand beside it, with longer names.
        synchronous: A commit survives a power cut (`'FULL'`), or only the death of the process, in
            a fraction of the time (`'NORMAL'`). Default: `'FULL'`.
        read_only: Do not lock the log, and write no events; other processes may write it meanwhile.
        value_limit_bytes: The largest size of one output, as JSON.

    Raises:
        SettingError: An argument is wrong.
        LogLockedError: Another engine writes the log.
        LogCorruptError: The file is damaged, or is no log; it is left as it was.
        LogVersionError: The version of the file is unknown; the file is left as it was.
        LogError: The file cannot be opened.
    """

    keeps_objects = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "FULL",
        read_only: bool = False,
        value_limit_bytes: int = VALUE_LIMIT_BYTES,
    ) -> None:
        if (level := one_of(synchronous, _LEVELS)) is None:
            known = " or ".join(map(repr, _LEVELS))
            raise SettingError(f"synchronous must be {known}, not {shown(synchronous)}")
        if (limit_bytes := plain_count(value_limit_bytes)) is None:
            raise SettingError(
                f"value_limit_bytes must be at least 1, not {shown(value_limit_bytes)}"
            )
        super().__init__(path)
        self._value_limit_bytes = limit_bytes
        self._is_read_only = bool(read_only)
        self._is_closed = False
        self._refusal: str | None = None  # why the log takes no event any more
        self._has_failed_aside = False  # the reason came up outside of a commit
        self._lock = threading.RLock()  # taken by each writer of the file
        self._rows: list[Row] = []
        self._appended: list[Event] = []
        self._gone: set[str] = set()  # Vects that this log has pruned
        self._again: set[str] = set()  # those that have begun anew since the last commit
        self._me = int.from_bytes(os.urandom(7))  # marks the requests that this engine claims
        self._taken: dict[int, Settled] = {}  # the requests that the next commit removes
        self._left: set[int] = set()  # those that cannot be carried out yet
        self._heard = 0  # the highest number in the file when last read
        self._unheard = False  # the last commit has seen a higher one
        self._writer: sqlite3.Connection | None = None
        self._side_writer: sqlite3.Connection | None = None
        self._write_ahead = WriteAhead(self._path)
        self._wakeup: Wakeup | None = None
        self._starts: list[Noted] = []  # the next commit writes them
        self._texts = Texts()
        save = weakref.WeakMethod(self._save_texts)  # its thread must not keep the log alive
        self._saver = Saver(lambda: bool((method := save()) and method()))
        self._file_lock: FileLock | None = None
        # The open connections for writing; also closed when nothing refers to the log any more.
        self._opened: list[sqlite3.Connection | Wakeup] = []
        self._synchronous = cast("Synchronous", level)
        self._begin()

    def _begin(self) -> None:
        if self._is_read_only:
            name = f"log '{self._path}'"
            self._refusal = f"{name} is open for reading only; open it without read_only"
            self._open(read_only=True)
        else:
            self._begin_to_write()

    def _begin_to_write(self) -> None:
        check_beside(self._path)
        file_lock = FileLock(self._path)
        self._file_lock = file_lock
        self._end = weakref.finalize(self, _drop, file_lock, self._opened, os.getpid())
        lets_go(self, type(self)._pause)  # noqa: SLF001 - it is our own
        try:
            with self._lock:
                self._open_to_write()
        except BaseException:
            self._let_go()
            raise

    def _open_to_write(self) -> None:
        self._last_seq, self._crc = self._open(read_only=False)
        self._committed_seq, self._committed_crc = self._last_seq, self._crc
        with self._database.told("opened"):
            writer = self._connected()
            ((journal,),) = writer.execute("PRAGMA journal_mode=WAL").fetchall()
            writer.execute("BEGIN IMMEDIATE")  # may it write at all? SQLite says so only here
            self._keep_head(writer)
            writer.execute("ROLLBACK")
            self._take_back_positions(writer)  # damage is found before any write
            self._database.keep_name(writer)
        check_journal(self._path, journal)

    def _take_back_positions(self, connection: sqlite3.Connection) -> None:
        """Move subscribers that stand beyond the end back to it, or they would miss events."""
        sql = "SELECT name, seq FROM positions WHERE seq > ?"  # texts compare as greater, too
        for name, seq in connection.execute(sql, (self._last_seq,)).fetchall():
            _logger.warning(
                "subscription %r has been at event %s, but log '%s' ends with event %d: it goes on "
                "from there; is the log an older copy?",
                *(name, shown(seq), self._path, self._last_seq),
            )
            connection.execute(_KEEP, (name, self._last_seq))

    def _connected(self) -> sqlite3.Connection:
        """Return the connection that writes events, made anew after a fork. Under the lock."""
        if self._writer is None:
            writer = self._database.writing(self._synchronous)
            self._opened.append(writer)
            writer.execute("PRAGMA temp_store=MEMORY")
            self._writer = writer
        return self._writer

    def _pause(self, seconds: float) -> Callable[[], object] | None:
        """Close all connections before a fork of this process, and make none meanwhile.

        Args:
            seconds: How long to wait for a thread that writes.

        Returns:
            The function that ends the pause; None if it took longer, or this very thread writes.
        """
        is_ours = self._lock._is_owned()  # type: ignore[attr-defined] # noqa: SLF001 - all have it
        if is_ours or not self._lock.acquire(timeout=seconds):
            return None
        for connection in (self._writer, self._side_writer):
            if connection in self._opened:
                self._opened.remove(connection)
                with suppress(sqlite3.Error):  # commits are safe in any case
                    connection.close()
        self._writer = self._side_writer = None
        return self._lock.release

    @property
    def is_read_only(self) -> bool:
        """Whether the log takes no events."""
        return self._is_read_only

    @property
    def last_seq(self) -> int:
        """Number of the newest event appended, 0 in a new log. Any thread."""
        if not self._is_read_only:
            if not self._database.process.is_here:
                self._database.check_process()
            return self._last_seq
        with self._database.reading() as connection:
            return self._rows_of.head(connection).seq

    @property
    def committed_seq(self) -> int:
        """Number of the newest event committed, 0 in a new log. Any thread."""
        if self._is_read_only:
            return self.last_seq
        self._database.check_process()
        return self._committed_seq

    # The engine's thread

    def append(self, sender: object, event: Event) -> None:  # a receiver of `emitted`
        """Write `event` behind the others, with the next commit. Scheduler's thread only.

        Raises:
            EventRefusedError: The event has a value that JSON cannot store unchanged, or its Vect
                has been pruned. The log takes other events.
            LogError: The log is closed or takes no more events, or `event.seq` is not the next
                number.
        """
        if not self._database.process.is_here:
            self._database.check_process()
        if self._refusal is not None:
            raise LogError(f"event {event.seq} is not taken: {self._refusal}")
        if self._is_closed or event.seq != self._last_seq + 1:
            raise not_next(event, self._last_seq, is_closed=self._is_closed)
        if event.vect in self._gone:
            self._check_not_gone(event)
        if self._texts.live and event.attempt is not None:
            self._texts.note(event)
        row = to_row(event, self._crc)
        self._rows.append(row)
        self._appended.append(event)
        self._crc = row[-1]
        self._last_seq = event.seq

    def note_start(
        self, pool: str, time: datetime, past: datetime, future: datetime | None
    ) -> None:
        """Store, with the next commit, the start of a step of a pool. Scheduler's thread only."""
        self._database.check_process()
        self._starts.append(Noted(pool, time, past, future))

    def _check_not_gone(self, event: Event) -> None:
        if event.source is not None:
            raise EventRefusedError(
                f"event {event.seq} ({event.name}) comes after its vect {event.vect} was pruned"
            )
        self._gone.discard(event.vect)  # a new Vect of the same id begins
        self._again.add(event.vect)

    def commit(self) -> Sequence[Event]:
        """Write the events appended since the last commit to the disk, and return them.

        The requests that `requests` has returned are removed in the same transaction. As long as
        another program keeps the file locked, the commit is tried again, with a warning: such a
        lock passes, while an engine whose log fails stops for good. Scheduler's thread.

        Raises:
            LogError: The commit has failed; nothing of it is written, and the log takes no more
                events.
        """
        if not self._database.process.is_here:
            self._database.check_process()
        if not self._rows and not self._taken:
            if self._has_failed_aside:
                raise LogError(str(self._refusal))
            return []
        told_at = -inf
        while (committed := self._try_to_write()) is None:
            if (now := monotonic()) - told_at >= _BUSY_TOLD_EACH:
                told_at = now
                _logger.warning(
                    "log '%s' is kept locked by another program, so that %d events cannot be "
                    "written; nothing goes on until they are: end that program",
                    *(self._path, len(self._rows)),
                )
            sleep(_BUSY_PAUSE)
        return committed

    def _try_to_write(self) -> Sequence[Event] | None:
        """Write and return the events; None if another program keeps the file locked."""
        with self._lock:
            try:
                self._write()
            except FAULTS as error:
                if is_busy(error) and self._roll_back():
                    return None
                failure = self._database.error("written", error)
                self._stop(str(failure))
                raise failure from error
            except BaseException as error:  # also Ctrl-C: the state of the file is unknown
                self._stop(str(error) or "a commit was broken off; open it again")
                raise
            committed, self._appended, self._rows = self._appended, [], []
            if self._starts:
                self._starts = []
            self._committed_seq, self._committed_crc = self._last_seq, self._crc
            self._taken = {}
            self._again.clear()
            if self._texts.ending:
                self._texts.committed()
            self._write_ahead.tidy(self._writer or self._connected())
            if self._unheard and self._wakeup is not None:
                self._wakeup.rouse()
        return committed

    def _roll_back(self) -> bool:
        """Take back an unfinished transaction; False if its state is unknown."""
        if self._writer is None:  # it could not even be opened
            return True
        with suppress(sqlite3.Error):
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        return not self._writer.in_transaction

    def discard(self) -> None:
        """Drop the events appended since the last commit.

        The requests that `requests` has returned since then are returned again. Scheduler's thread.

        Raises:
            LogError: The log is closed, read only, or has failed.
        """
        self._check_writes()
        with self._lock:
            self._check_writes()
            self._rows, self._appended, self._taken = [], [], {}
            self._starts = []
            self._heard = 0
            self._texts.ending = []
            self._last_seq, self._crc = self._committed_seq, self._committed_crc
            self._gone |= self._again
            self._again.clear()

    def _write(self) -> None:
        self._check_writes()
        self._database.check_is_there()
        writer = self._writer or self._connected()
        writer.execute("BEGIN IMMEDIATE")
        writer.executemany(INSERT, self._rows)
        sum_up(writer, self._rows, self._appended)
        if self._starts:
            write_starts(writer, self._starts)
        if self._texts.ending:
            self._texts.of_ending(writer)
        if self._taken:
            settle(writer, self._taken, self._last_seq, datetime.now(UTC))
        self._unheard = self._wakeup is not None and newest_of(writer) > self._heard
        writer.execute("COMMIT")

    def _check_writes(self) -> None:
        """Refuse to write if this object may not.

        Raises:
            LogError: The log is closed, read only, or has failed.
            EngineError: This is a forked child of the process that has opened it.
        """
        if not self._database.process.is_here:
            self._database.check_process()
        if self._refusal is not None:
            raise LogError(self._refusal)
        if self._is_closed:
            raise LogError(f"log '{self._path}' is closed; open it again")

    def _stop(self, why: str) -> None:
        """Take no event any more: none may be written behind one that is missing."""
        self._refusal = why
        self._last_seq -= len(self._rows)
        self._rows, self._appended, self._starts = [], [], []
        if self._writer is not None:
            with suppress(sqlite3.Error):  # the first error says more
                self._writer.execute("ROLLBACK")

    def requests(self, again: bool = False) -> list[Request]:
        """Return the requests that were not returned yet. Scheduler's thread only.

        The next commit removes them, together with the events that they have led to, and answers
        that they were carried out; `refuse` and `leave` change that for one of them.

        Args:
            again: Whether to return the requests that were left, too.

        Raises:
            LogError: The file cannot be read.
        """
        self._check_writes()
        if again:
            self._left.clear()
        with self._lock, self._database.told("read"):
            aside = self._aside()
            if has_unclaimed(aside):
                with aside:  # commits, or rolls back
                    aside.execute("BEGIN IMMEDIATE")
                    claim_all(aside, self._me, datetime.now(UTC))
            numbers = numbers_of(aside)
            wanted = [each for each in numbers if each not in self._taken]
            wanted = [each for each in wanted if each not in self._left]
            found = read_requests(aside, wanted, self._me)
        self._heard = max([self._heard, *numbers[-1:]])
        self._left.intersection_update(numbers)
        self._taken.update((request.id, DONE) for request in found)
        return found

    def claim(self, number: int) -> bool:
        """Claim a request, so that it cannot be taken back; False if it was. Any thread.

        `requests` claims all that it returns.

        Raises:
            LogError: The file cannot be written.
        """
        self._check_writes()
        with self._lock, self._database.told("written"):
            return claim(self._aside(), number, self._me, datetime.now(UTC))

    def done(self, number: int, seq: int) -> None:
        """Answer a request by the number of the event that it led to. Scheduler's thread only."""
        self._database.check_process()
        self._taken[number] = Settled(seq)

    def refuse(self, number: int, why: str, error: OAutomError | None = None) -> None:
        """Answer a request by the reason why it was not carried out. Scheduler's thread only.

        Args:
            number: The number of the request.
            why: The reason, a sentence.
            error: The same reason as the error that the method raises in the program.
        """
        self._database.check_process()
        self._taken[number] = Settled.refused(why, error)

    def leave(self, number: int) -> None:
        """Leave a request in the log, as it cannot be carried out yet. Scheduler's thread only."""
        self._database.check_process()
        del self._taken[number]
        self._left.add(number)

    def settle(self, number: int, seq: int) -> None:
        """Answer a request that was carried out without it, if it is still there. Any thread.

        Args:
            number: The number of the request.
            seq: The number of the event by which it was.

        Raises:
            LogError: The file cannot be written.
        """
        self._check_writes()
        with self._lock, self._database.told("written"):
            aside = self._aside()
            with aside:  # commits, or rolls back
                aside.execute("BEGIN IMMEDIATE")
                if number not in self._taken and number in numbers_of(aside):
                    settle(aside, {number: Settled(seq)}, seq, datetime.now(UTC))

    def asked(self, after: int = 0) -> list[Request]:
        """Return the requests that are still in the log, without a change. Any thread.

        Args:
            after: Number of the request before the first one to return.

        Raises:
            LogError: The file cannot be read.
        """
        with self._database.reading() as connection:
            return read_requests(connection, [n for n in numbers_of(connection) if n > after])

    def _is_asked(self) -> bool:
        """Whether there is a request that was not left before. Any thread."""
        try:
            with self._database.reading() as connection:
                numbers = numbers_of(connection)
        except LogError:  # the scheduler will get this error itself
            return False
        return not self._left.issuperset(numbers)

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake()` when another process has sent a request, which `requests` returns.

        The log also checks for requests at each commit, and every few seconds.

        Call `requests` once after this, for requests of the time before.

        Args:
            wake: Called on a thread of the log, so it should only put a message somewhere.

        Raises:
            LogError: The log is closed or read only.
        """
        self._check_writes()
        if self._wakeup is not None:
            self._wakeup.close()
        is_asked = weakref.WeakMethod(self._is_asked)  # its thread must not keep the log alive
        with self._database.told("opened"):
            self._wakeup = Wakeup(self._path, wake, lambda: bool((ask := is_asked()) and ask()))
        self._opened.append(self._wakeup)

    # Any thread

    def check_value(self, value: object) -> None:
        """Refuse a value that an event cannot have.

        Raises:
            NotJsonError: JSON would give another value back.
            ValueTooLargeError: The value takes more than `value_limit_bytes`.
        """
        size_bytes = len(to_json(value))
        if size_bytes > self._value_limit_bytes:
            raise ValueTooLargeError(size_bytes, self._value_limit_bytes)

    def keep_position(self, name: str, seq: int) -> None:
        """Store the position of the subscriber `name`: the number of its last event.

        A power cut may bring an older position back: a second delivery is better than none. This
        also works when the log is closed, since a function may return after that; then another
        engine may write the log, and a later position stays.

        Raises:
            LogError: The file cannot be written, or the log is read only.
        """
        self._write_aside(_KEEP_MAX if self._is_closed else _KEEP, (name, seq))

    def keep_given_up(self, name: str, given_up: GivenUp) -> None:
        """Store an event that a subscriber has given up; once for each. Also when it is closed.

        Raises:
            LogError: The file cannot be written, or the log is read only.
        """
        self._database.check_process()
        row = (name, *given_up[:3], given_up.time.isoformat())
        self._write_aside("INSERT OR REPLACE INTO given_up VALUES (?, ?, ?, ?, ?)", row)

    def forget_given_up(self, name: str, seq: int) -> None:
        """Remove an event that a subscriber had given up. Also when the log is closed.

        Raises:
            LogError: The file cannot be written, or the log is read only.
        """
        self._write_aside("DELETE FROM given_up WHERE name = ? AND seq = ?", (name, seq))

    def _write_aside(self, sql: str, values: tuple[object, ...]) -> None:
        """Write a row besides the events, for a subscriber."""
        self._database.check_process()
        if self._is_read_only:
            raise LogError(str(self._refusal))
        with self._lock, self._database.told("written"):
            self._database.check_is_there()
            if self._is_closed:
                with closing(self._database.writing("NORMAL")) as connection:
                    connection.execute(sql, values)
                return
            self._aside().execute(sql, values)

    def _aside(self) -> sqlite3.Connection:
        """Return the connection that writes besides the events, without waiting for the disk.

        Under the lock.
        """
        if self._side_writer is None:
            self._side_writer = self._database.writing("NORMAL")
            self._opened.append(self._side_writer)
        return self._side_writer

    def show(self, told: Mapping[str, Any], *, anew: bool = False) -> None:
        """Store facts that an engine shows of itself, by name; None removes one.

        Any thread.

        Args:
            told: The facts, by name, as JSON.
            anew: Whether to remove all earlier facts.

        Raises:
            LogError: The file cannot be written, or the log is closed or read only.
        """
        gone = [(name,) for name, each in told.items() if each is None]
        rows = [(name, to_json(each).decode()) for name, each in told.items() if each is not None]
        self._check_writes()
        with self._lock, self._database.told("written"):
            self._check_writes()
            self._database.check_is_there()
            aside = self._aside()
            with aside:  # commits, or rolls back
                aside.execute("BEGIN IMMEDIATE")
                if anew:
                    aside.execute("DELETE FROM engine")
                aside.executemany("DELETE FROM engine WHERE name = ?", gone)
                aside.executemany("INSERT OR REPLACE INTO engine VALUES (?, ?)", rows)

    def drive(self, is_driven: bool) -> None:
        """Show other processes whether a thread drives the engine. Any thread."""
        if self._file_lock is not None and self._database.process.is_here:
            self._file_lock.drive(is_driven=is_driven)

    def keep_text(self, key: Key, buffer: LogBuffer) -> bool:
        """Store what an attempt writes. Any thread."""
        self._database.check_process()
        self._texts.keep(key, buffer)
        self._saver.begin()  # without a thread, the end of the attempt or of the log saves it
        return True

    def save_text(self, key: Key, then: Callable[[], object]) -> None:
        """Call `then()` when the rest of an attempt's text fits into the commit. Any thread."""
        self._database.check_process()
        written = self._texts.live.get(key)
        if written is None or written.unsaved_bytes <= UNSAVED_BYTES_MAX:
            then()
        else:
            self._saver.hurry(then)

    def text(self, key: Key) -> Text | None:
        """Return the text of an attempt so far; None if it has written nothing. Any thread.

        Raises:
            LogCorruptError: The text is not what was written.
            LogError: The file cannot be read.
        """
        self._database.check_process()
        written = self._texts.live.get(key)
        return super().text(key) if written is None else written.buffer.kept()

    def _save_texts(self) -> bool:
        """Write the text of attempts at work; return whether there are any.

        On the thread of the saver, or at the end.
        """
        if not self._database.process.is_here:
            return False
        live = list(self._texts.live.values())
        wanted = [(each, each.buffer.written_bytes) for each in live]
        while left := [each for each, upto in wanted if each.saved_bytes < upto]:
            with self._lock:  # per step: the engine may commit in between
                if not self._save_some(left):
                    break
        with self._lock:
            self._texts.let_go(live)
        return bool(self._texts.live) and self._refusal is None

    def _save_some(self, written: Sequence[Written]) -> bool:
        """Write as much as fits into one transaction; False if that fails, now or for good."""
        if self._is_closed or self._refusal is not None:
            return False
        pieces = pieces_of(written, TRANSACTION_BYTES_MAX, TRANSACTION_BYTES_MAX)
        try:
            with self._database.told("written"):
                self._database.check_is_there()
                connection = self._aside()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    write_texts(connection, pieces)
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
        except LogError as error:
            if error.__cause__ is None or not is_busy(cast("Exception", error.__cause__)):
                self._refusal, self._has_failed_aside = str(error), True  # as a failed commit does
                if self._wakeup is not None:
                    self._wakeup.rouse()
            return False
        self._texts.saved(pieces)
        self._write_ahead.tidy(connection)
        return True

    def prune(self, older_than: datetime, *, keep: Collection[str] = ()) -> list[PrunedVect]:
        """Remove all events of the Vects that ended before an instant, and make the file smaller.

        All of these Vects are removed, or none. An engine may write meanwhile.

        Args:
            older_than: The instant.
            keep: Ids of Vects that stay.

        Returns:
            The Vects that are gone. Numbers of events are never used again.

        Raises:
            SettingError: `older_than` is no datetime with a time zone.
            LogError: The file cannot be written, or the log is closed or read only.
        """
        check_instant(older_than)
        self._check_writes()
        with self._lock, self._database.told("pruned"):
            self._check_writes()
            self._database.check_is_there()
            writer = self._connected()
            writer.execute("BEGIN IMMEDIATE")
            try:
                kept = {event.vect for event in self._appended}.union(keep)
                ended = self._summary.ended(writer, older_than)
                old = [known.entry for known in ended if known.entry.id not in kept]
                gone = take_out(writer, self._rows_of, old, older_than)
                writer.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    writer.execute("ROLLBACK")
                raise
            names = {vect.id for vect in gone}
            self._texts.forget(names)
            self._gone |= names
        self._give_room_back()
        return gone

    def _give_room_back(self) -> None:
        left = 1
        while left:
            with self._lock, self._database.told("made smaller"):
                self._check_writes()
                writer = self._connected()
                # By execute(), Python would stop after the first page: it returns no columns.
                writer.executescript(f"PRAGMA incremental_vacuum({_PAGES_GIVEN_BACK})")
                ((left,),) = writer.execute("PRAGMA freelist_count").fetchall()
                if not left:
                    checkpoint(writer)

    def close(self) -> None:
        """Take no more events, and let another process write the log; reading goes on.

        In a forked child it does nothing.
        """
        if not self._database.process.is_here:
            return
        self._saver.close()
        self._save_texts()
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            if self._refusal is None:
                # Commits are safe without this.
                with suppress(sqlite3.Error, LogError):
                    self._keep_head(self._connected())
                    checkpoint(self._connected())
        self._let_go()

    @contextmanager
    def _looking(self) -> Iterator[sqlite3.Connection]:
        """Give a connection for a look-up: the one that writes, if it is free.

        If a commit or a prune uses it, the look-up has a connection of its own, and does not wait.
        """
        self._database.check_process()
        if not self._lock.acquire(blocking=False):
            with super()._looking() as connection:
                yield connection
            return
        try:
            if self._writer is None or self._is_closed or self._refusal is not None:
                with super()._looking() as connection:
                    yield connection
            else:
                with self._database.told("read"):
                    yield self._writer
        finally:
            self._lock.release()

    def _keep_head(self, connection: sqlite3.Connection) -> None:
        """Store the end of the log, so that a lost end is noticed."""
        seq, crc = self._rows_of.head(connection)
        sql = "INSERT OR REPLACE INTO meta VALUES ('head', ?)"
        connection.execute(sql, (f"{seq} {crc}",))

    def _let_go(self) -> None:
        """Close all that is open."""
        if self._file_lock is None:
            return
        self._end.detach()
        for each in reversed(self._opened):
            each.close()
        self._opened.clear()
        self._file_lock.release()

    def __repr__(self) -> str:
        """Return a text with the path."""
        kind = " (read only)" if self._is_read_only else ""
        return f"<SqliteEventLog '{self._path}'{kind}>"


class LateLog(SqliteEventLog):
    """A log that an app opens at its first need: until then nothing is made, opened or locked.

    It can be read before: as the file is at each call, and without events if there is no file.
    """

    _is_open = False
    _database: Database

    def _begin(self) -> None:
        self._is_read_only = True
        self._refusal = f"log '{self._path}' is not open yet; its app opens it when it runs a flow"
        self._database = UnopenedDatabase(self._path, self._found)

    def open(self) -> None:
        """Open the log for writing; errors as of `SqliteEventLog`. May be called again."""
        if self._is_open:
            return
        unopened = self._database
        try:
            self._begin_to_write()
        except BaseException:
            self._database = unopened
            raise
        self._is_read_only, self._refusal, self._is_open = False, None, True

    @property
    def id(self) -> str:
        """The identity of the log among all logs.

        Raises:
            LogError: The log has not been made yet.
        """
        if not self._is_open:
            with self._database.reading():
                if not cast("UnopenedDatabase", self._database).is_made:
                    raise LogError(
                        f"log '{self._path}' has not been made yet, so it has no id; its app makes "
                        "it when it runs a flow"
                    )
        return self._id


def _drop(file_lock: FileLock, opened: Sequence[sqlite3.Connection | Wakeup], pid: int) -> None:
    """Close what a forgotten log has open. Safe in garbage collection."""
    if os.getpid() == pid:  # in a fork all belongs to the parent
        for each in reversed(opened):
            with suppress(sqlite3.Error):  # commits are safe in any case
                each.let_go() if isinstance(each, Wakeup) else each.close()
        file_lock.release_soon()
