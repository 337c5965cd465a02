"""The lock of a log: one process writes it, and the system lets go of the lock when that dies.

It lies on a file of its own. Were the log itself opened and closed beside SQLite, the system would
take away the locks that SQLite holds on it.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from oautom.errors import LogError, LogLockedError


class FileLock:
    """Holds the lock of a log from the moment that it is made.

    Args:
        path: The file of the log.
        mode: The permissions that the file of the lock shall have.

    Raises:
        LogLockedError: Another process, or another log of this one, holds it.
        LogError: The file of the lock cannot be made.
    """

    def __init__(self, path: Path, mode: int) -> None:
        self._file = path.with_name(f"{path.name}-lock")
        try:
            self._fd = _lock(self._file, mode)
            self._sign()
        except BlockingIOError:
            raise LogLockedError(str(path), _holder(self._file)) from None
        except OSError as error:
            raise LogError(
                f"log '{path}' cannot be locked: {error}; its folder must be one where this "
                "process may make files, and have room for one"
            ) from error
        _held.add(self)

    def _sign(self) -> None:
        """Write down who holds the lock; where that is not possible, let go of it."""
        try:
            os.ftruncate(self._fd, 0)
            os.write(self._fd, f"{os.getpid()}\n".encode())
        except OSError:
            self._file.unlink(missing_ok=True)
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Let go of the lock, and leave no file."""
        self._file.unlink(missing_ok=True)  # while it is held: see `_lock`
        _held.discard(self)
        self.forget()

    def forget(self) -> None:
        """Close the file, as a forked child does: the lock stays with the parent."""
        os.close(self._fd)


def _lock(file: Path, mode: int) -> int:
    """Return a descriptor of the file, which is locked and stands at its path."""
    while True:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, fd):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its holder has removed it between the two calls: lock the next one


def _is_at(file: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), file.stat())
    except FileNotFoundError:
        return False


def _holder(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # it is only just being written, or gone already
        return None


# A forked child has the descriptor too, and with it the lock: of a parent that is killed, the log
# could not be opened until the child ends as well.
_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()


os.register_at_fork(after_in_child=_forget_all)
