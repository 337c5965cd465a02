"""The text of attempts in the file of a log: beside the events, and not among them.

No event records it and no checksum covers it: it is for people, and the engine decides nothing by
it. The last of an attempt's text is written in the transaction of the event that ends the attempt
(`note`, `of_ending`). While the attempt runs, a thread writes its text every `SAVE_SECONDS`
(`Saver`): then other processes see it, and it survives the death of this process.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from oautom.events.texts import UNSAVED_BYTES_MAX, LogBuffer, Text
from oautom.machine.commands import Key
from oautom.machine.event import Event
from oautom.machine.tables import COMPENSATION_EVENTS

LOG_TEXTS: Final = """CREATE TABLE log_texts (
    vect TEXT NOT NULL,
    step TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    start INTEGER NOT NULL,
    chunk BLOB NOT NULL,
    PRIMARY KEY (vect, step, attempt, start)
) WITHOUT ROWID"""
"""Pieces of text, each with the number of bytes that the attempt wrote before it."""

NO_LOG_TEXTS: Final = (
    "SELECT '' AS vect, '' AS step, 0 AS attempt, 0 AS start, x'' AS chunk LIMIT 0"
)

SAVE_SECONDS: Final = 0.9
"""Seconds until a new text is in the file, so that other processes see it within a second."""

TRANSACTION_BYTES_MAX: Final = 2**20
"""The size of one transaction of the saver; the engine may commit between two of them."""

_logger = logging.getLogger("oautom.log")
_CHUNK_BYTES: Final = 2**16
_INSERT: Final = "INSERT OR REPLACE INTO log_texts VALUES (?, ?, ?, ?, ?)"
_DROP: Final = """DELETE FROM log_texts
WHERE vect = ? AND step = ? AND attempt = ? AND start < ? AND start + length(chunk) <= ?"""
_CUT: Final = """UPDATE log_texts SET chunk = substr(chunk, ? - start + 1), start = ?
WHERE vect = ? AND step = ? AND attempt = ? AND start < ?"""
_READ: Final = """SELECT start, chunk FROM log_texts
WHERE vect = ? AND step = ? AND attempt = ? ORDER BY start"""


class Written:
    """The text of one attempt, and how far it is saved.

    Attributes:
        key: The attempt.
        buffer: The buffer that the attempt writes to.
        saved_bytes: How many bytes of the text are in the file, or were dropped from it.
    """

    __slots__ = ("buffer", "key", "saved_bytes")

    def __init__(self, key: Key, buffer: LogBuffer) -> None:
        self.key = key
        self.buffer = buffer
        self.saved_bytes = 0

    @property
    def unsaved_bytes(self) -> int:
        """How many bytes are not in the file yet."""
        return self.buffer.written_bytes - self.saved_bytes


class Piece(NamedTuple):
    """A piece of the text of one attempt, about to be written, and where it begins."""

    of: Written
    start: int
    content: bytes


class Texts:
    """The texts of attempts that are not in the file as a whole.

    Attributes:
        live: By attempt, the texts that may grow, or are not saved as a whole.
        ending: The texts of which the next commit writes the last part.
    """

    def __init__(self) -> None:
        self.live: dict[Key, Written] = {}
        self.ending: list[Written] = []
        self._pieces: list[Piece] = []

    def keep(self, key: Key, buffer: LogBuffer) -> None:
        """Save from now on what an attempt writes. Any thread."""
        self.live[key] = Written(key, buffer)

    def note(self, event: Event) -> None:
        """Write the text of an attempt along with an event of the attempt."""
        number = event.attempt or 0
        if event.name in COMPENSATION_EVENTS:
            number = -number
        written = self.live.get((event.vect, event.step or "", number))
        if written is not None:
            self.ending.append(written)

    def of_ending(self, connection: sqlite3.Connection) -> None:
        """Write the texts that belong to the events of a commit, in its transaction."""
        ending = dict.fromkeys(self.ending)
        self._pieces = pieces_of(ending, UNSAVED_BYTES_MAX, len(ending) * UNSAVED_BYTES_MAX)
        write(connection, self._pieces)

    def committed(self) -> None:
        """Note that these texts are in the file."""
        self.saved(self._pieces)
        self.let_go(self.ending)
        self._pieces = []
        self.ending = []

    @staticmethod
    def saved(pieces: Iterable[Piece]) -> None:
        """Note that some pieces are in the file."""
        for piece in pieces:
            piece.of.saved_bytes = piece.start + len(piece.content)

    def let_go(self, written: Iterable[Written]) -> None:
        """Drop the texts that do not grow any more and are in the file as a whole."""
        for each in written:
            if each.buffer.is_over and not each.unsaved_bytes:
                self.live.pop(each.key, None)

    def forget(self, vects: set[str]) -> None:
        """Drop the texts of Vects that were pruned."""
        for key in [key for key in self.live.copy() if key[0] in vects]:
            del self.live[key]


def pieces_of(written: Iterable[Written], each_bytes: int, all_bytes: int) -> list[Piece]:
    """Return what is not in the file yet, up to a size for each text and for all together."""
    pieces: list[Piece] = []
    for each in written:
        if all_bytes <= 0:
            break
        start, content = each.buffer.since(each.saved_bytes, min(each_bytes, all_bytes))
        all_bytes -= len(content)
        pieces += [
            Piece(each, start + at, content[at : at + _CHUNK_BYTES])
            for at in range(0, len(content), _CHUNK_BYTES)
        ]
    return pieces


def write(connection: sqlite3.Connection, pieces: Sequence[Piece]) -> None:
    """Write pieces in the open transaction, and drop what exceeds the limit of their text."""
    connection.executemany(_INSERT, [(*of.key, start, content) for of, start, content in pieces])
    for of, start, content in pieces:
        if (floor := start + len(content) - of.buffer.limit_bytes) > 0:
            connection.execute(_DROP, (*of.key, floor, floor))
            connection.execute(_CUT, (floor, floor, *of.key, floor))


def read(connection: sqlite3.Connection, key: Key) -> Text:
    """Return the stored text of an attempt.

    Raises:
        TypeError: The rows are not what was written.
    """
    rows = connection.execute(_READ, key).fetchall()
    missing_bytes = rows[0][0] if rows else 0
    if type(missing_bytes) is not int:
        raise TypeError(f"its place is {missing_bytes!r}, no number")
    return Text(missing_bytes, b"".join(chunk for _, chunk in rows))


class Saver:
    """A thread that saves the text of running attempts; it exists only while there are any.

    Args:
        save: Writes all text, and returns whether there may be more. Must not raise.
    """

    def __init__(self, save: Callable[[], bool]) -> None:
        self._save = save
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._woken = threading.Event()
        self._waiting: list[Callable[[], object]] = []
        self._is_closed = False

    def begin(self) -> bool:
        """Start the thread if there is none; False if the system gives none. Any thread."""
        with self._lock:
            if self._is_closed:
                return False
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="oautom-texts", daemon=True)
                self._thread = thread  # first: a finalizer may write in between
                try:
                    thread.start()
                except RuntimeError:  # the system gives no more
                    self._thread = None
                    return False
        return True

    def hurry(self, then: Callable[[], object]) -> None:
        """Save all text at once, then call `then`, on the saver's or the calling thread."""
        with self._lock:
            self._waiting.append(then)
            if self.begin():
                self._woken.set()
                return
            self._waiting.remove(then)
        self._save()
        then()

    def _serve(self) -> None:
        while True:
            self._woken.wait(SAVE_SECONDS)
            with self._lock:
                self._woken.clear()
                waiting, self._waiting = self._waiting, []
            try:
                has_more = self._save()
            except Exception:  # a bug of ours, or memory is full: go on
                _logger.exception("what steps write is not saved; it is tried again")
                has_more = True
            for then in waiting:
                then()
            with self._lock:
                if self._is_closed or not (has_more or self._waiting):
                    self._thread = None
                    waiting, self._waiting = self._waiting, []
                    break
        for then in waiting:
            then()

    def close(self) -> None:
        """Save all text, and end the thread."""
        with self._lock:
            self._is_closed = True
            self._woken.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
