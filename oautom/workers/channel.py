"""`Channel`: lines to the processes in which an executor of the user's does the jobs of an app.

An executor brings a job to its worker, and an answer back; nothing else. By the channel a job sends
what its step writes while it runs, and is told of its cancel. Before it begins it asks whether it
may: a job that was taken back does not begin, and none begins twice. If the worker ends without the
executor noticing, the end of its line shows that.

The worker's side is in `line.py`. A channel is a socket in a folder that only this user may enter,
made when an executor sends the first job to another process; the job carries a secret that its
worker says first. Nothing that comes on a line is unpickled.
"""

from __future__ import annotations

import hmac
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from selectors import EVENT_READ, DefaultSelector
from typing import Any, Final

from oautom.processes import forked
from oautom.workers.base import Job, WorkLostError
from oautom.workers.line import (
    BEGIN,
    CANCEL,
    DEAF,
    END,
    FLUSH,
    FLUSHED,
    FRAME,
    GO,
    HELLO,
    LETTER,
    SOCKET,
    STAY,
    TWICE,
    Call,
    Door,
    Frames,
    names_at_work,
    place_of,
    wait_for_end,
)

ANSWER_SECONDS: Final = 2.0
"""Seconds that an executor has to tell of the end of a worker itself, which it can do better."""

_PREFIX: Final = "oautom-lines-"
_SHORT: Final = "/tmp"  # noqa: S108 - what is made there is private
_PARENT_BYTES_MAX: Final = 50  # of the path of a socket: 104 on macOS, 108 on Linux
_JOIN_SECONDS: Final = 3.0
_READ_BYTES: Final = 2**16

Lost = Callable[[WorkLostError], object]
"""Called once if the worker of a job has ended, on any thread."""


class Channel:
    """The jobs of one app that an executor has, and the lines to their workers. Any thread.

    Args:
        on_deaf: See `Workers`.
    """

    def __init__(self, on_deaf: Callable[[Job], object]) -> None:
        self.on_deaf = on_deaf
        self._numbers = count(1)
        self._by_number: dict[int, Sent] = {}
        self._lock = threading.Lock()
        self._switch: _Switch | None = None
        self._is_closed = False
        self._process = forked.here
        forked.share(self)

    def leave(self) -> None:
        """Renew the lock in a forked child: a thread of the parent may have it."""
        self._lock = threading.Lock()

    def send(self, job: Job, packed: Callable[[], object], on_lost: Lost) -> Sent:
        """Return a job in the form in which an executor gets it.

        Args:
            job: The job.
            packed: The job, or its `for_child`: what is pickled for the worker.
            on_lost: See `Lost`.
        """
        number = next(self._numbers)
        sent = self._by_number[number] = Sent(self, number, job, packed, on_lost)
        return sent

    def forget(self, number: int) -> None:
        """Forget a job that is over."""
        self._by_number.pop(number, None)

    def door(self) -> Door | None:
        """Return where a worker finds this program; None if the system gives no such place."""
        if not self._process.is_here:  # a fork of this program does the job
            return None
        with self._lock:
            if self._switch is None and not self._is_closed:
                with suppress(OSError, RuntimeError):  # no files, or no threads
                    self._switch = _Switch(self._by_number)
                    weakref.finalize(self, self._switch.close)
            return None if self._switch is None else self._switch.door

    def close(self) -> None:
        """End the lines, which cancels what is at work. In a forked child it does nothing."""
        if not self._process.is_here:
            return
        with self._lock:
            self._is_closed = True
        if self._switch is not None:
            self._switch.close()


class Sent:
    """A job that an executor has: called in this process, or pickled as a `Call` of another one.

    Attributes:
        job: The job.
        on_lost: See `Lost`.
        line: The line on which it was begun.
        is_unwanted: It was cancelled.
    """

    __slots__ = ("_channel", "_number", "_packed", "is_unwanted", "job", "line", "on_lost")

    def __init__(
        self,
        channel: Channel,
        number: int,
        job: Job,
        packed: Callable[[], object],
        on_lost: Lost,
    ) -> None:
        self._channel = channel
        self._number = number
        self._packed = packed
        self.job = job
        self.on_lost = on_lost
        self.line: _Line | None = None
        self.is_unwanted = False

    def __call__(self) -> object:
        """Do the job in this process."""
        return self.job()

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as a `Call`."""
        return Call, (self._packed, self._channel.door(), self._number, self.job.name)

    def cancel(self) -> bool:
        """Tell the worker that the job is cancelled; one that has not begun it never will.

        Returns:
            False if no worker has asked yet, or can ask.
        """
        self.is_unwanted = True
        line = self.line
        return line is not None and line.send(CANCEL, self._number)

    def be_deaf(self) -> None:
        """Note that the job does not end soon, though it was cancelled."""
        self._channel.on_deaf(self.job)

    def end(self) -> None:
        """Forget the job: it is over."""
        self._channel.forget(self._number)


class _Switch:
    """The thread that listens on all lines of a channel."""

    def __init__(self, by_number: Mapping[int, Sent]) -> None:
        self._by_number = by_number
        self._process = forked.here
        self._lines: set[_Line] = set()
        self._lost: deque[tuple[float, Sent]] = deque()
        self._has_ended = threading.Event()
        self._folder = _new_folder()
        try:
            self.door = Door(
                self._folder, place_of(os.path.dirname(self._folder)), secrets.token_bytes(16)
            )
            self._listener = socket.socket(socket.AF_UNIX)
            self._wake_read, self._wake_write = socket.socketpair()
            self._selector = DefaultSelector()
            forked.share(self)
            self._listen()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def _listen(self) -> None:
        path = os.path.join(self._folder, SOCKET)
        self._listener.bind(f"{path}.new")  # it gets its name when it takes connections
        self._listener.listen(socket.SOMAXCONN)
        os.rename(f"{path}.new", path)
        self._listener.setblocking(False)
        self._selector.register(self._listener, EVENT_READ)
        self._selector.register(self._wake_read, EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="oautom-channel", daemon=True)
        self._thread.start()
        _remove_dead(self._folder)

    def leave(self) -> None:
        """Close all of it in a forked child: workers see the end of the program by its lines."""
        for end in (self._listener, self._wake_read, self._wake_write):
            end.close()
        for line in self._lines:
            line.end.close()
        self._selector.close()

    def close(self) -> None:
        """End the thread, and remove the folder. In a forked child it does nothing."""
        if not self._process.is_here or self._has_ended.is_set():
            return
        with suppress(OSError):  # it has just ended
            self._wake_write.send(b"!")
        if threading.current_thread() is not self._thread:
            self._has_ended.wait(_JOIN_SECONDS)

    def _serve(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            self._selector.close()
            for end in (self._listener, self._wake_read, self._wake_write):
                end.close()
            for line in self._lines:
                line.end.close()
            _remove(self._folder)
            self._has_ended.set()

    def _turn(self) -> bool:
        """Take what has come; return False if the channel was closed."""
        seconds = max(0.0, self._lost[0][0] - time.monotonic()) if self._lost else None
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._wake_read:
                return False
            if key.fileobj is self._listener:
                self._accept()
            else:
                self._take(key.data)
        while self._lost and self._lost[0][0] <= time.monotonic():
            _, sent = self._lost.popleft()
            sent.on_lost(WorkLostError("its worker process has ended", is_worker=True))
        return True

    def _accept(self) -> None:
        try:
            end, _ = self._listener.accept()
        except OSError:  # it was given up, or there are no more files: the worker waits
            time.sleep(0.01)  # no files: it is still to be accepted, at once
            return
        line = _Line(end)
        self._lines.add(line)
        self._selector.register(end, EVENT_READ, line)

    def _take(self, line: _Line) -> None:
        try:
            content = line.end.recv(_READ_BYTES)
            if content:
                for what, number, letter in line.frames.of(content):
                    self._obey(line, what, number, letter)
                return
        except OSError:  # the worker has died, or says no secret
            pass
        self._drop(line)

    def _obey(self, line: _Line, what: bytes, number: int, letter: bytes) -> None:
        if not line.is_known:
            if what != HELLO or not hmac.compare_digest(letter, self.door.secret):
                raise ConnectionError("a stranger")
            line.is_known = True
            return
        sent = self._by_number.get(number)
        if what == BEGIN:
            line.send(self._begun(line, number, sent), number)
        elif what == LETTER and sent is not None:
            sent.job.hear(letter)
        elif what == DEAF and sent is not None:
            sent.be_deaf()
        elif what == FLUSH:
            line.send(FLUSHED, number)
        elif what == END:
            line.at_work.pop(number, None)

    def _begun(self, line: _Line, number: int, sent: Sent | None) -> bytes:
        """Return whether a job may begin."""
        if sent is None:
            return STAY
        if sent.line is not None:
            return TWICE
        sent.line = line  # first: whoever cancels it from here on tells the worker
        if sent.is_unwanted:
            return STAY
        line.at_work[number] = sent
        return GO

    def _drop(self, line: _Line) -> None:
        self._lines.discard(line)
        self._selector.unregister(line.end)
        line.end.close()
        when = time.monotonic() + ANSWER_SECONDS
        self._lost += ((when, sent) for sent in line.at_work.values())


class _Line:
    """A line to a worker process.

    Attributes:
        end: This end of it.
        frames: Makes messages of what comes.
        is_known: The worker has said the secret.
        at_work: The jobs that have begun on it and are not over, by number.
    """

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.frames = Frames()
        self.is_known = False
        self.at_work: dict[int, Sent] = {}

    def send(self, what: bytes, number: int) -> bool:
        """Send a message without content; return False if the worker takes none. Any thread."""
        with suppress(OSError):  # it has died; or it has stopped, and its buffer is full
            self.end.send(FRAME.pack(what, number, 0), socket.MSG_DONTWAIT)
            return True
        return False


def _parents() -> list[str]:
    """Return the folders in which channels may be made, the best first."""
    return list(dict.fromkeys(os.path.realpath(each) for each in (tempfile.gettempdir(), _SHORT)))


def _new_folder() -> str:
    """Make a folder for the socket, where its path is short enough."""
    for parent in _parents():
        if len(os.fsencode(parent)) <= _PARENT_BYTES_MAX:
            return tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getuid()}-", dir=parent)
    raise OSError("the paths of all folders for temporary files are too long for a socket")


def _remove(folder: str) -> None:
    """Remove a folder; one beside whose socket work goes on stays, without the socket."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, SOCKET))
    if not any(names_at_work(folder)):
        shutil.rmtree(folder, ignore_errors=True)


def _folders() -> Iterator[str]:
    """Yield the folders of channels of this user."""
    for parent in _parents():
        with suppress(OSError):
            for entry in os.listdir(parent):
                if entry.startswith(f"{_PREFIX}{os.getuid()}-"):
                    yield os.path.join(parent, entry)


def _remove_dead(own: str) -> None:
    """Remove the folders that dead programs have left."""
    for folder in _folders():
        if folder != own and _is_dead(folder):
            _remove(folder)


def _is_dead(folder: str) -> bool:
    """Whether nobody listens any more, as far as is known."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as end:
        if os.stat(folder).st_uid != os.getuid():
            return False
        try:
            end.setblocking(False)
            end.connect(os.path.join(folder, SOCKET))
        except ConnectionRefusedError:
            return True
        except FileNotFoundError:  # it is about to begin, or closed with work beside it
            return any(entry != f"{SOCKET}.new" for entry in os.listdir(folder))
    return False


def left_at_work(log_id: str) -> Mapping[str, Future[Any]]:
    """Return the jobs of a log that other programs have left at work on this machine.

    Their lines have ended with these programs, so each is cancelled already.

    Returns:
        By the name of the job, a future that is done when it is over.
    """
    left: dict[str, Future[Any]] = {}
    for folder in _folders():
        for path, name in names_at_work(folder):
            if name.startswith(f"{log_id}/"):
                left[name] = _end_of(path)
    return left


def _end_of(path: str) -> Future[Any]:
    end: Future[Any] = Future()

    def wait() -> None:
        wait_for_end(path)
        end.set_result(None)

    threading.Thread(target=wait, name="oautom-left", daemon=True).start()
    return end
