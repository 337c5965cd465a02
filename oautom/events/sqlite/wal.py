"""The write-ahead log of a file: stays small, even if other processes read the file all the time.

SQLite restarts it by itself when no process reads for a moment. With several readers that read
again and again, that moment does not come. So, when it has grown, the writer asks for a restart:
first without waiting, then with as much patience as the readers of this package need, which read
for moments only.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic
from typing import Final

from oautom.events.sqlite.file import BUSY_SECONDS

_SIZE_TRIED: Final = 8 * 2**20
_SIZE_PRESSED: Final = 16 * 2**20
_SIZE_LAST: Final = 24 * 2**20
SIZE_TOLD: Final = 32 * 2**20
"""Its largest size in bytes, as long as no program reads for longer than a moment."""

_LOOK_SECONDS: Final = 0.05
_TRY_SECONDS: Final = 1.0
_PRESS_SECONDS: Final = 10.0
_PRESS_GROWTH: Final = 4 * 2**20
_PATIENCE_MS: Final = 200  # twice the longest read of this package
_LAST_PATIENCE_MS: Final = 2000  # on a busy machine too, only a long reader takes longer

# SQLite's wal.c: readers lock one of these bytes of the file of shared memory. A reader with the
# first one, 123, reads nothing in the write-ahead log.
_READ_LOCKS: Final = range(124, 128)

_logger = logging.getLogger("oautom.log")


class WriteAhead:
    """Keeps the write-ahead log of a file small. For the writer, one thread at a time.

    Args:
        path: The file of the log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._look_at = self._try_at = self._press_at = 0.0
        self._press_size: float = _SIZE_PRESSED
        self._is_held = self._is_told = False  # a long reader prevents a restart; that was logged

    def tidy(self, connection: sqlite3.Connection) -> None:
        """Restart the write-ahead log if it has grown, unless a reader needs it. Usually quick."""
        now = monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        size = self._size()
        if size <= _SIZE_TRIED:
            self._calm_down()
        elif now >= self._try_at or size >= self._press_size:
            patience_ms = self._patience_ms(size, now)
            if _begin_anew(connection, patience_ms):
                self._calm_down()
            elif patience_ms == _LAST_PATIENCE_MS:
                self._is_held, self._press_size = True, inf
            self._try_at = monotonic() + _TRY_SECONDS
            if self._is_held and size > SIZE_TOLD:
                self._tell(size)

    def _calm_down(self) -> None:
        self._press_at, self._press_size = 0.0, _SIZE_PRESSED
        self._is_held = self._is_told = False

    def _patience_ms(self, size: int, now: float) -> int:
        """Return how long to wait for readers: rarely long, since the engine waits meanwhile."""
        if size <= _SIZE_PRESSED or (now < self._press_at and size < self._press_size):
            return 0
        self._press_at = now + _PRESS_SECONDS
        if self._is_held:
            return _PATIENCE_MS
        self._press_size = size + _PRESS_GROWTH
        return _LAST_PATIENCE_MS if size > _SIZE_LAST else _PATIENCE_MS

    def _size(self) -> int:
        try:
            return os.stat(f"{self._path}-wal").st_size
        except FileNotFoundError:
            return 0

    def _tell(self, size: int) -> None:
        """Log once which processes prevent the restart."""
        if self._is_told:
            return
        self._is_told = True
        who = ", ".join(map(_name_of, _readers(self._path))) or "a program that cannot be found"
        _logger.warning(
            "the file '%s-wal' has grown to %d MB, since a program reads log '%s' for too long: "
            "%s; it grows until that program stops reading",
            *(self._path, size // 10**6, self._path, who),
        )


def _begin_anew(connection: sqlite3.Connection, patience_ms: int) -> bool:
    """Copy the write-ahead log into the file and empty it; False if readers need it."""
    connection.execute(f"PRAGMA busy_timeout={patience_ms}").fetchall()
    try:
        ((is_busy, *_),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error:  # commits are safe, and the next one raises the error
        is_busy = True
    finally:
        connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}").fetchall()
    return not is_busy


def _readers(path: Path) -> list[int]:
    """Return the processes that read the write-ahead log, according to Linux."""
    found: set[int] = set()
    with suppress(OSError, ValueError):
        inode = os.stat(f"{path}-shm").st_ino
        with open("/proc/locks", encoding="ascii") as file:
            for line in file:
                # 2: POSIX  ADVISORY  READ 17201 fe:00:2147846 124 124
                words = line.split()
                if words[1] == "->" or int(words[5].rpartition(":")[2]) != inode:
                    continue
                first, last = int(words[6]), words[7]
                if last != "EOF" and any(first <= at <= int(last) for at in _READ_LOCKS):
                    found.add(int(words[4]))
    return sorted(found)


def _name_of(pid: int) -> str:
    """Return the name of a process for a warning."""
    if pid == os.getpid():
        return f"this program itself (process {pid})"
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return f"process {pid} ({file.read().strip()})"
    except OSError:
        return f"process {pid}"
