"""The lock of a log: one engine writes it, and the system drops the lock when that engine dies.

On Linux it lies on the file of the log itself, so every process with the file meets it, by any
name: a hard link, a symbolic link, another mount. It is an "open file description lock", on bytes
far behind those that SQLite locks; the number of locked bytes is the number of the process that has
it. Elsewhere it lies on a file of its own, and a log of several names is refused.

When a process closes any descriptor of a file, the system drops the locks that SQLite has on it for
this process (POSIX.1-2017, `fcntl`: "All locks associated with a file for a given process shall be
removed when a file descriptor for that file is closed by that process"). So all descriptors of logs
are owned in one place, `_files`: it also counts the connections of this process to each file, and
closes a descriptor when there are none any more. No other code may open the file of a log.

A fork must find no connection: SQLite keeps in memory which locks its process has on a file, and a
forked child has that memory, but not the locks. It would read half-written pages, or wait for ever
("close all database connections before fork", sqlite.org/howtocorrupt.html, 2.6). So a fork waits,
in `_prepare`, until readers are done, and makes writers close their connections.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import sys
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from time import monotonic, sleep
from typing import Any, Final, NamedTuple, Protocol

from oautom.errors import EngineError, LogError, LogLockedError
from oautom.processes import forked

MODE_OF_NEW: Final = 0o600
"""The permissions of a new log, which has the arguments and outputs of steps."""

LIES_ON_FILE = sys.platform == "linux"
"""Whether locks lie on the file of a log itself. Tests change it."""

_OPEN_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCKED_FROM: Final = 0x40000200  # SQLite locks 512 bytes from 0x40000000: its "pending byte"
_DRIVEN_AT: Final = _LOCKED_FROM + 2**32  # behind all numbers of processes
_FLOCK: Final = struct.Struct("hhqqi0q")  # struct flock: type, whence, start, len, pid

FORK_SECONDS = 10.0
"""Seconds that a fork waits for readers and writers. Tests make it shorter."""
_FORK_PAUSE: Final = 0.001

_FileId = tuple[int, int]
Pause = Callable[[Any, float], Callable[[], object] | None]


class _File:
    """The descriptors and connections of this process to one file."""

    def __init__(self) -> None:
        self.fds: list[int] = []
        self.connections = 0
        self.is_locked = False  # by this process
        self.is_driven = False  # as other processes see it


_files: dict[_FileId, _File] = {}
_guard = threading.Lock()
_gate = threading.Lock()  # taken while this process forks
_threads: Counter[int] = Counter()  # open connections by the thread that made them
_writers: weakref.WeakKeyDictionary[object, Pause] = weakref.WeakKeyDictionary()
_waiting: deque[Callable[[], None]] = deque()


@contextmanager
def _guarded() -> Iterator[None]:
    with _guard:
        yield
    _do_what_waits()


def _do_soon(do: Callable[[], None]) -> None:
    """Call a function under the guard, now or when the guard is free again.

    A forgotten log may be garbage-collected on any thread: also on one that has the guard.
    """
    _waiting.append(do)
    _do_what_waits()


def _do_what_waits() -> None:
    while _waiting and _guard.acquire(blocking=False):
        try:
            while _waiting:
                _waiting.popleft()()
        finally:
            _guard.release()


# Connections


class Connected(NamedTuple):
    """A connection of this process.

    Attributes:
        file: Its file.
        thread: The thread that has made it.
    """

    file: _FileId
    thread: int


def connected(path: Path) -> Connected | None:
    """Note that this thread is about to connect to a file; return None if there is no file.

    Raises:
        EngineError: This process was forked while its parent was connected to the file.
    """
    if _gate.locked() and not _threads[get_ident()]:  # new readers wait for the fork
        with _gate:
            pass
    with _guarded():
        try:
            file_id = _id_of(path.stat())
        except OSError:
            return None
        if file_id in _inherited:
            raise EngineError(
                f"log '{path}' was being read or written when this process ({os.getpid()}) was "
                "forked, and cannot be opened here, since SQLite does not allow it; start the "
                "process by 'spawn', or fork it at another time"
            )
        _files.setdefault(file_id, _File()).connections += 1
        _threads[get_ident()] += 1
        return Connected(file_id, get_ident())


def disconnected(known: Connected) -> None:
    """Note that a connection has been closed. Safe in garbage collection."""

    def leave() -> None:
        if known.file in _files:  # else this is a fork
            _files[known.file].connections -= 1
            _threads[known.thread] -= 1
            if not _threads[known.thread]:
                del _threads[known.thread]
            _tidy(known.file)

    _do_soon(leave)


def _tidy(file_id: _FileId) -> None:
    """Close the descriptors of a file if this process has no connection and no lock."""
    file = _files[file_id]
    if not file.connections and not file.is_locked:
        del _files[file_id]
        for fd in file.fds:
            os.close(fd)


def _id_of(found: os.stat_result) -> _FileId:
    return found.st_dev, found.st_ino


# The lock


class _Lock(Protocol):
    def release(self) -> None:
        """Drop the lock, under the guard."""

    def forget(self) -> None:
        """Close the descriptors in a forked child: the lock stays with the parent."""

    def drive(self, *, is_driven: bool) -> None:
        """Show whether a thread drives the engine."""


class FileLock:
    """The lock of a log, taken when it is made; makes the file if there is none.

    Args:
        path: The file of the log.

    Raises:
        LogLockedError: Another process, or another log of this one, has the lock.
        LogError: The file cannot be locked.
    """

    def __init__(self, path: Path) -> None:
        self._is_held = True
        try:
            with _guarded():
                self._lock: _Lock = _LockOnFile(path) if LIES_ON_FILE else _LockBeside(path)
        except OSError as error:
            raise LogError(_told(path, error)) from error
        _held.add(self)

    def release(self) -> None:
        """Drop the lock. May be called twice."""
        with _guarded():
            self._release()

    def release_soon(self) -> None:
        """Drop the lock. Safe in garbage collection."""
        _do_soon(self._release)

    def _release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._lock.release()

    def forget(self) -> None:
        """Leave the lock to the parent of this forked process."""
        if self._is_held:
            self._is_held = False
            self._lock.forget()

    def drive(self, *, is_driven: bool) -> None:
        """Show other processes whether a thread drives the engine that writes the log."""
        with suppress(OSError), _guarded():  # a failure only hides this fact
            if self._is_held:
                self._lock.drive(is_driven=is_driven)


def _told(path: Path, error: OSError) -> str:
    if path.exists() and os.access(path.parent, os.W_OK) and not os.access(path, os.W_OK):
        remedy = (
            "this process may not write it: change its permissions, or open it with read_only=True"
        )
        return f"log '{path}' cannot be opened: {error}; {remedy}"
    return (
        f"log '{path}' cannot be locked: {error}; its folder must be one where this process may "
        "make files, and have room for one"
    )


class _LockOnFile:
    """A lock that lies on the file of the log."""

    def __init__(self, path: Path) -> None:
        self._fd = _open_to_lock(path)
        while not self._is_taken(path):  # it was replaced in between: lock the one that is there
            self._fd = _open_to_lock(path)

    def _is_taken(self, path: Path) -> bool:
        """Lock the file; return False if it is not at its path any more."""
        self._id = _id_of(os.fstat(self._fd))
        file = _files.setdefault(self._id, _File())
        file.fds.append(self._fd)
        try:
            _set(self._fd, fcntl.F_WRLCK)
            file.is_locked = _is_at(path, self._fd)
            if not file.is_locked:
                _set(self._fd, fcntl.F_UNLCK)
        except (BlockingIOError, PermissionError):
            raise LogLockedError(str(path), _holder(self._fd)) from None
        finally:
            _tidy(self._id)
        return file.is_locked

    def release(self) -> None:
        """Drop the lock. The descriptor is closed when no connection to the file is left."""
        with suppress(OSError):
            self.drive(is_driven=False)
        _set(self._fd, fcntl.F_UNLCK)
        _files[self._id].is_locked = False
        _tidy(self._id)

    def forget(self) -> None:
        """Do nothing: a fork closes all descriptors."""

    def drive(self, *, is_driven: bool) -> None:
        """Lock one more byte while a thread drives: it costs no transaction."""
        kind = fcntl.F_WRLCK if is_driven else fcntl.F_UNLCK
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, _DRIVEN_AT, 1, 0))
        _files[self._id].is_driven = is_driven


def _open_to_lock(path: Path) -> int:
    """Open a file for locking; refuse one that this process has locked, without opening it."""
    with suppress(FileNotFoundError):
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is not a regular file")
        file = _files.get(_id_of(found))
        if file is not None and file.is_locked:
            raise LogLockedError(str(path), os.getpid(), is_here=True)
    return os.open(path, _OPEN_FLAGS, MODE_OF_NEW)


def _set(fd: int, kind: int) -> None:
    """Lock or unlock a number of bytes that is the number of this process."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, _LOCKED_FROM, os.getpid(), 0))


def holder(path: Path) -> tuple[int, bool] | None:
    """Return the process that has locked a log, and whether it drives its engine; or None.

    Takes no lock, and blocks no other process.

    Raises:
        OSError: The file cannot be opened.
    """
    if not LIES_ON_FILE:
        pid = _written_holder(path.with_name(f"{path.name}-lock"))
        return None if pid is None or not _is_alive(pid) else (pid, True)
    with _guarded():
        file_id = _id_of(path.stat())
        file = _files.setdefault(file_id, _File())
        try:
            if not file.fds:
                file.fds.append(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
            if file.is_locked:  # by a descriptor of this process, maybe this very one
                return os.getpid(), file.is_driven
            pid = _holder(file.fds[0])
            return None if pid is None else (pid, _is_locked_at(file.fds[0], _DRIVEN_AT))
        finally:
            _tidy(file_id)


def _is_locked_at(fd: int, start: int) -> bool:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0)
    return bool(_FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _holder(fd: int) -> int | None:
    """Return the number of the process that has the lock of a file; None if there is none."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _LOCKED_FROM, 1, 0)
    kind, _, _, size, _ = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(size)


class _LockBeside:
    """A lock that lies on a file beside the log, where files have no locks of their own.

    A log of several names would have several of these.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and path.stat().st_nlink > 1:
            raise LogError(
                f"log '{path}' has several names (hard links), and could be written under each of "
                "them; keep one of them"
            )
        if not path.exists():  # else this process may be connected to it
            os.close(os.open(path, _OPEN_FLAGS, MODE_OF_NEW))
        self._file = path.with_name(f"{path.name}-lock")
        try:
            self._fd = _locked(self._file)
        except BlockingIOError:
            raise LogLockedError(str(path), _written_holder(self._file)) from None
        try:
            os.ftruncate(self._fd, 0)
            os.write(self._fd, f"{os.getpid()}\n".encode())
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Drop the lock, and remove the file."""
        with suppress(OSError):  # a file that stays does no harm
            self._file.unlink(missing_ok=True)  # before the lock is dropped: see `_locked`
        self.forget()

    def forget(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def drive(self, *, is_driven: bool) -> None:
        """Do nothing: this kind of lock cannot show it."""


def _locked(file: Path) -> int:
    """Return a descriptor of the file, locked, after checking that it is at its path."""
    while True:
        fd = os.open(file, _OPEN_FLAGS, MODE_OF_NEW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, fd):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # it was removed between the two calls: lock the next one


def _written_holder(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # it is being written just now, or is gone
        return None


def _is_at(path: Path, fd: int) -> bool:
    """Whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


# Forks


_paused: list[Callable[[], object]] = []  # end the pauses of writers
_has_gate = _has_guard = False  # whether the forking thread has them
_inherited: set[_FileId] = set()  # files with connections of the parent
_left_open: list[object] = []  # their owners; closing one would harm the parent
_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def lets_go(owner: object, pause: Pause) -> None:
    """Register an object that stays connected: before each fork, `pause` closes its connections.

    Args:
        owner: The object.
        pause: A method of its class that takes a timeout in seconds. It closes all connections, and
            prevents new ones until the function is called that it returns; it returns None at the
            timeout.
    """
    _writers[owner] = pause


def _prepare() -> None:
    """Bring this process to a state without connections, before a fork."""
    global _has_gate, _has_guard  # noqa: PLW0603 - of this process
    if not _files:
        return
    end = monotonic() + FORK_SECONDS
    for owner, pause in list(_writers.items()):
        if (go_on := pause(owner, max(0, end - monotonic()))) is not None:
            _paused.append(go_on)
    _has_gate = _gate.acquire(timeout=max(0, end - monotonic()))
    is_reading = _threads[get_ident()] > 0  # a signal handler forks during a read
    while not is_reading and monotonic() < end:
        _do_what_waits()
        if _guard.acquire(timeout=max(0, end - monotonic())):
            if not any(file.connections for file in _files.values()):
                _has_guard = True
                return
            _guard.release()
        sleep(_FORK_PAUSE)


def _go_on() -> None:
    global _has_gate, _has_guard  # noqa: PLW0603 - of this process
    try:
        if _has_guard:
            _has_guard = False
            _guard.release()
            _do_what_waits()
    finally:
        if _has_gate:
            _has_gate = False
            _gate.release()
        while _paused:
            _paused.pop()()


def _begin_anew() -> None:
    """Drop all that belongs to the parent.

    The child has its descriptors too, and with them the lock: if the parent was killed, the log
    could not be opened until the child ends as well.
    """
    global _guard, _gate, _has_gate, _has_guard
    _guard, _gate, _has_gate, _has_guard = threading.Lock(), threading.Lock(), False, False
    _waiting.clear()
    _inherited.update(file_id for file_id, file in _files.items() if file.connections)
    if _inherited:
        _left_open.extend(_writers)
    _writers.clear()
    for lock in list(_held):
        lock.forget()
    _held.clear()
    for file in _files.values():
        for fd in file.fds:
            os.close(fd)
    _files.clear()
    _threads.clear()


forked.in_child(_begin_anew)
forked.around(_prepare, _go_on)
