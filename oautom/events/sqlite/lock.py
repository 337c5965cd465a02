"""The lock of a log: one engine writes it, and the system lets go of the lock when that dies.

On Linux it lies on the file of the log itself, so whoever has the file meets it, by whatever name:
a hard link, a symbolic link, a mount of it elsewhere. It is an "open file description lock", on
bytes far behind those that SQLite locks; how many bytes tells the number of the process that holds
it. Elsewhere it lies on a file of its own, and a log of several names is refused.

When a process closes any descriptor of a file, the system takes away the locks that SQLite holds on
it for this process (POSIX.1-2017, `fcntl`: "All locks associated with a file for a given process
shall be removed when a file descriptor for that file is closed by that process"). So all
descriptors of logs are owned in one place, `_files`: it counts the connections of this process to
each file as well, and closes a descriptor when nobody is connected any more. Nothing else may open
the file of a log.

A fork must find no connection: SQLite keeps in memory which locks its process holds on a file, and
a forked child has that memory, but not the locks. It would read what is being written, or wait for
ever ("close all database connections before fork", sqlite.org/howtocorrupt.html, 2.6). So whoever
forks waits, by `_prepare`, until those who read are done, and has those who write let go.
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
"""The permissions of a new log: what steps are given and answer stands in it."""

LIES_ON_FILE = sys.platform == "linux"
"""Whether locks lie on the file of a log itself. Tests change it."""

_OPEN_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCKED_FROM: Final = 0x40000200  # SQLite locks 512 bytes from 0x40000000: its "pending byte"
_DRIVEN_AT: Final = _LOCKED_FROM + 2**32  # behind all numbers of processes
_FLOCK: Final = struct.Struct("hhqqi0q")  # struct flock: type, whence, start, len, pid

FORK_SECONDS = 10.0
"""How long a fork waits for those who read and write. Tests make it shorter."""
_FORK_PAUSE: Final = 0.001

_FileId = tuple[int, int]
Pause = Callable[[Any, float], Callable[[], object] | None]


class _File:
    """What this process has open of one file."""

    def __init__(self) -> None:
        self.fds: list[int] = []
        self.connections = 0
        self.is_locked = False  # by this process
        self.is_driven = False  # as it tells others


_files: dict[_FileId, _File] = {}
_guard = threading.Lock()
_gate = threading.Lock()  # held while this process forks
_threads: Counter[int] = Counter()  # how many connections each thread has made that are open
_writers: weakref.WeakKeyDictionary[object, Pause] = weakref.WeakKeyDictionary()
_waiting: deque[Callable[[], None]] = deque()


@contextmanager
def _guarded() -> Iterator[None]:
    with _guard:
        yield
    _do_what_waits()


def _do_soon(do: Callable[[], None]) -> None:
    """Do something under the guard, now or when whoever has it is done.

    A log that nobody has any more may be let go of wherever objects are collected: by a thread that
    has the guard, too.
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
        file: To which file.
        thread: Who has made it.
    """

    file: _FileId
    thread: int


def connected(path: Path) -> Connected | None:
    """Take note that this thread is about to connect to a file; None if there is none.

    Raises:
        EngineError: This process was forked while its parent was connected to the file.
    """
    if _gate.locked() and not _threads[get_ident()]:  # who reads shall come to an end of it
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
                "forked, and cannot be opened here, since SQLite does not allow it; have the "
                "process begin by 'spawn', or fork it at another time"
            )
        _files.setdefault(file_id, _File()).connections += 1
        _threads[get_ident()] += 1
        return Connected(file_id, get_ident())


def disconnected(known: Connected) -> None:
    """Take note that a connection has been closed. Wherever objects are collected, too."""

    def leave() -> None:
        if known.file in _files:  # else this is a fork
            _files[known.file].connections -= 1
            _threads[known.thread] -= 1
            if not _threads[known.thread]:
                del _threads[known.thread]
            _tidy(known.file)

    _do_soon(leave)


def _tidy(file_id: _FileId) -> None:
    """Close the descriptors of a file to which this process is not connected any more."""
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
        """Let go of the lock, under the guard."""

    def forget(self) -> None:
        """Close what is open, as a forked child does: the lock stays with the parent."""

    def drive(self, *, is_driven: bool) -> None:
        """Show whether somebody drives the engine."""


class FileLock:
    """Holds the lock of a log from the moment that it is made; makes the file if there is none.

    Args:
        path: The file of the log.

    Raises:
        LogLockedError: Another process, or another log of this one, holds it.
        LogError: It cannot be locked.
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
        """Let go of the lock. May be called twice."""
        with _guarded():
            self._release()

    def release_soon(self) -> None:
        """Let go of the lock, wherever objects are collected."""
        _do_soon(self._release)

    def _release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._lock.release()

    def forget(self) -> None:
        """Leave the lock to the parent of this process, which is a fork."""
        if self._is_held:
            self._is_held = False
            self._lock.forget()

    def drive(self, *, is_driven: bool) -> None:
        """Show other processes whether somebody drives the engine that writes the log."""
        with suppress(OSError), _guarded():  # only what they are told is at stake
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
        """Lock the file; False if it does not stand at its path any more."""
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
        """Let go of the lock. The descriptor is closed when nobody is connected to the file."""
        with suppress(OSError):
            self.drive(is_driven=False)
        _set(self._fd, fcntl.F_UNLCK)
        _files[self._id].is_locked = False
        _tidy(self._id)

    def forget(self) -> None:
        """Do nothing: all descriptors are closed in a fork."""

    def drive(self, *, is_driven: bool) -> None:
        """Lock one byte more while somebody drives: it costs no transaction."""
        kind = fcntl.F_WRLCK if is_driven else fcntl.F_UNLCK
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, _DRIVEN_AT, 1, 0))
        _files[self._id].is_driven = is_driven


def _open_to_lock(path: Path) -> int:
    """Open a file, unless this process has locked it: then it need not be opened to know that."""
    with suppress(FileNotFoundError):
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no file")
        file = _files.get(_id_of(found))
        if file is not None and file.is_locked:
            raise LogLockedError(str(path), os.getpid(), is_here=True)
    return os.open(path, _OPEN_FLAGS, MODE_OF_NEW)


def _set(fd: int, kind: int) -> None:
    """Lock, or let go of, as many bytes as the number of this process is."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, _LOCKED_FROM, os.getpid(), 0))


def holder(path: Path) -> tuple[int, bool] | None:
    """Return the process that has locked a log, and whether it drives its engine; None if none has.

    Nothing is locked by that, and nobody is held up.

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
    """Return the number of the process that holds the lock of a file; None if nobody does."""
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
                f"log '{path}' has several names (hard links), by each of which it could be "
                "written; keep one of them"
            )
        if not path.exists():  # else somebody here may be connected to it
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
        """Let go of the lock, and leave no file."""
        with suppress(OSError):  # one that is left there harms nobody
            self._file.unlink(missing_ok=True)  # while it is held: see `_locked`
        self.forget()

    def forget(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def drive(self, *, is_driven: bool) -> None:
        """Do nothing: there is no way to tell."""


def _locked(file: Path) -> int:
    """Return a descriptor of the file, which is locked and stands at its path."""
    while True:
        fd = os.open(file, _OPEN_FLAGS, MODE_OF_NEW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, fd):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its holder has removed it between the two calls: lock the next one


def _written_holder(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # it is only just being written, or gone already
        return None


def _is_at(path: Path, fd: int) -> bool:
    """Whether the file that is open stands at a path."""
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


# Forks


_paused: list[Callable[[], object]] = []  # have those go on who have let go
_has_gate = _has_guard = False  # the thread that forks
_inherited: set[_FileId] = set()  # to which this process, a fork, has connections of its parent's
_left_open: list[object] = []  # whose are these; to close one would harm the parent
_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def lets_go(owner: object, pause: Pause) -> None:
    """Have who stays connected let go before each fork.

    Args:
        owner: Who does.
        pause: A method of its class that closes all connections, and has none made until what it
            returns is called; it returns None if that takes longer than so many seconds.
    """
    _writers[owner] = pause


def _prepare() -> None:
    """Have nobody connected to any file."""
    global _has_gate, _has_guard  # noqa: PLW0603 - of this process
    if not _files:
        return
    end = monotonic() + FORK_SECONDS
    for owner, pause in list(_writers.items()):
        if (go_on := pause(owner, max(0, end - monotonic()))) is not None:
            _paused.append(go_on)
    _has_gate = _gate.acquire(timeout=max(0, end - monotonic()))
    is_reading = _threads[get_ident()] > 0  # a handler of a signal forks in the middle of it
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
    """Have nothing of the parent's.

    The child has its descriptors too, and with them the lock: if the parent is killed, the log
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
