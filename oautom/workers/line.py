"""`Call`: a job in a worker process of an executor, with a line to the program that waits for it.

The worker connects to the program's `Channel` when it begins its first job, and keeps the line for
the next ones. On the line it asks whether a job may begin, sends what the step writes, and is told
of cancels. On another machine, where it cannot find the program, it works without a line.

While a job is at work it has a locked file beside the program's socket. The lock ends with the
worker, and not with the program: so the next program finds out what a dead one has left at work.
"""

from __future__ import annotations

import fcntl
import os
import platform
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from struct import Struct
from typing import Any, Final, NamedTuple

from oautom.processes import forked
from oautom.workers.base import NotBegunError, WorkLostError

FRAME: Final = Struct(">cQI")
"""The head of a message: what it is, the number of the job, the size of what follows."""

HELLO, BEGIN, LETTER, DEAF, FLUSH, END = b"h", b"b", b"l", b"n", b"f", b"e"  # of the worker
GO, STAY, TWICE, FLUSHED, CANCEL = b"g", b"s", b"t", b"d", b"c"  # of the program

SOCKET: Final = "socket"
"""The file name of the socket in the folder of a channel."""

_LOCK: Final = "job-"
_READ_BYTES: Final = 2**16
_GONE: Final = "the program that wanted it has ended"


class Door(NamedTuple):
    """Where and how to reach a program.

    Attributes:
        folder: The folder of its channel.
        place: Identifies the folder around that one, on one machine; see `place_of`.
        secret: The first message on a line.
    """

    folder: str
    place: tuple[str, int, int]
    secret: bytes


def place_of(folder: str) -> tuple[str, int, int]:
    """Return what only processes that see the same folder have in common.

    Raises:
        OSError: There is no such folder here.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            machine = file.read().strip()
    except OSError:  # not Linux
        machine = platform.node()
    status = os.stat(folder)
    return machine, status.st_dev, status.st_ino


class Call:
    """A job in another process: it asks its program first.

    Args:
        parcel: The job, which is called with the function that sends letters, and has `cancel`.
        door: The program; None for one that could not open a channel.
        number: The number by which the program knows the job.
        name: The name of the job.
    """

    def __init__(self, parcel: Any, door: Door | None, number: int, name: str) -> None:
        self._parcel = parcel
        self._door = door
        self._number = number
        self._name = name

    def __call__(self) -> object:
        """Do the job.

        Raises:
            NotBegunError: The program does not want it any more.
            WorkLostError: It was not begun: the program is gone, or the executor has begun it once
                before.
        """
        line = None if self._door is None else _line_to(self._door)
        if line is None:
            return self._parcel()
        with line.lock_of(self._number, self._name):
            return line.do(self._number, self._parcel)


def _line_to(door: Door) -> Line | None:
    """Return the line to a program; None if this process cannot reach it, wherever it is.

    Raises:
        WorkLostError: The program is gone.
    """
    with _connecting:
        line = _lines.get(door.folder)
        if line is None or line.is_broken:
            try:
                if place_of(os.path.dirname(door.folder)) != door.place:
                    return None
                line = _lines[door.folder] = _connected(door)
            except OSError:  # there is no such folder, or it is not this user's
                return None
        return line


def _connected(door: Door) -> Line:
    end = socket.socket(socket.AF_UNIX)
    try:
        end.connect(os.path.join(door.folder, SOCKET))
        return Line(end, door)
    except (FileNotFoundError, ConnectionError) as error:
        end.close()
        raise WorkLostError(_GONE, is_worker=True) from error
    except BaseException:
        end.close()
        raise


class Line:
    """A line from this worker process to one program. Any thread.

    Attributes:
        is_broken: It has ended: the program is gone, or closed.
    """

    def __init__(self, end: socket.socket, door: Door) -> None:
        self._end = end
        self._door = door
        self._jobs: dict[int, _AtWork] = {}
        self._lock = threading.Lock()  # one message at a time
        self.is_broken = False
        forked.share(self)
        self._send(HELLO, 0, door.secret)
        try:
            threading.Thread(target=self._listen, name="oautom-line", daemon=True).start()
        except RuntimeError as error:  # the system gives no thread
            raise OSError("no line without a thread") from error

    def leave(self) -> None:
        """Close it in a forked child: its end shows the program that this process has died."""
        self.is_broken = True
        self._lock = threading.Lock()
        self._end.close()

    @contextmanager
    def lock_of(self, number: int, name: str) -> Iterator[None]:
        """Lock the file of a job.

        Raises:
            WorkLostError: The program is gone.
        """
        path = os.path.join(self._door.folder, f"{_LOCK}{number}-{os.getpid()}")
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            raise WorkLostError(_GONE) from error
        try:
            os.write(file, name.encode())
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)
            os.close(file)
            if self.is_broken:  # the folder was left for this file, perhaps
                with suppress(OSError):
                    os.rmdir(self._door.folder)

    def do(self, number: int, parcel: Any) -> object:
        """Ask whether a job may begin, and do it.

        Raises:
            NotBegunError, WorkLostError: It may not.
        """
        job = self._jobs[number] = _AtWork(parcel)
        try:
            if self.is_broken:  # after the entry: `_listen` has seen it, or this line does
                raise WorkLostError(_GONE)
            what = self._asked(job, BEGIN, number)
            if what == STAY:
                raise NotBegunError("the step was cancelled before it began")
            if what != GO:
                raise WorkLostError("the executor has begun it before" if what else _GONE)
            answer = parcel(self._sender(job, number))
            if job.has_sent:  # no letter is on its way when the executor brings the answer
                self._asked(job, FLUSH, number)
            return answer
        finally:
            del self._jobs[number]
            with suppress(OSError):  # the program is gone
                self._send(END, number)

    def _sender(self, job: _AtWork, number: int) -> Callable[[bytes], None]:
        def send(letter: bytes) -> None:
            job.has_sent = True
            self._send(LETTER, number, letter)

        return send

    def _asked(self, job: _AtWork, what: bytes, number: int) -> bytes:
        """Return the answer of the program; empty if it is gone."""
        try:
            self._send(what, number)
        except OSError:
            return b""
        return job.answers.get()

    def _send(self, what: bytes, number: int, content: bytes = b"") -> None:
        with self._lock:
            self._end.sendall(FRAME.pack(what, number, len(content)) + content)

    def _listen(self) -> None:
        frames = Frames()
        with suppress(OSError):
            while content := self._end.recv(_READ_BYTES):
                for what, number, _ in frames.of(content):
                    job = self._jobs.get(number)
                    if job is None:
                        continue
                    if what == CANCEL:
                        self._cancel(job, number)
                    else:
                        job.answers.put(what)
        self.is_broken = True
        with _connecting:
            if _lines.get(self._door.folder) is self:
                del _lines[self._door.folder]
        self._end.close()
        for job in self._jobs.copy().values():
            job.answers.put(b"")
            job.parcel.cancel()

    def _cancel(self, job: _AtWork, number: int) -> None:
        if not job.parcel.cancel():
            self._send(DEAF, number)


class _AtWork:
    """A job that this process does, or is about to do."""

    __slots__ = ("answers", "has_sent", "parcel")

    def __init__(self, parcel: Any) -> None:
        self.parcel = parcel
        self.answers: SimpleQueue[bytes] = SimpleQueue()
        self.has_sent = False


class Frames:
    """Makes messages of the bytes that come, in whatever pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def of(self, content: bytes) -> Iterator[tuple[bytes, int, bytes]]:
        """Yield the messages that are complete with these bytes: what, number, content."""
        rest = self._rest
        rest += content
        while len(rest) >= FRAME.size:
            what, number, size = FRAME.unpack_from(rest)
            end = FRAME.size + size
            if len(rest) < end:
                return
            yield what, number, bytes(rest[FRAME.size : end])
            del rest[:end]


# What dead programs have left at work


def names_at_work(folder: str) -> Iterator[tuple[str, str]]:
    """Yield path and name of each job that is at work and has its file in a folder."""
    with suppress(FileNotFoundError):
        for entry in os.listdir(folder):
            if entry.startswith(_LOCK):
                path = os.path.join(folder, entry)
                with suppress(OSError), open(path, "r+b") as file:
                    if _is_locked(file.fileno()):
                        yield path, file.read().decode()


def _is_locked(file: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    return False


def wait_for_end(path: str) -> None:
    """Wait until a job is over, by the path of its file."""
    with suppress(FileNotFoundError), open(path, "r+b") as file:
        fcntl.lockf(file.fileno(), fcntl.LOCK_EX)


def _begin_anew() -> None:
    """Forget in a forked child the lines of its parent."""
    global _connecting  # noqa: PLW0603 - another thread of the parent may have had it
    _connecting = threading.Lock()
    _lines.clear()


_lines: dict[str, Line] = {}  # by the folder of the channel
_connecting = threading.Lock()
forked.in_child(_begin_anew)
