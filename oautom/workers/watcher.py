"""`Watcher`: one thread that notices when files appear, for any number of files.

On Linux the kernel reports each new name in a folder (inotify), so no path is checked until a file
of the right name comes; if there is no folder yet, the nearest one above it is watched. Paths that
the kernel cannot report are checked each `POLL_SECONDS`: on other systems, in a folder that may not
be read, or if the system gives no more watches. All paths are checked each `LOOK_SECONDS`, since a
network file system does not report changes by other machines, nor is the target of a link watched
that leads to nothing yet.
"""

from __future__ import annotations

import logging
import os
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector
from typing import Any, Final

from oautom.processes import forked

POLL_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 30.0

_CREATE, _MOVED_TO, _ONLYDIR = 0x100, 0x80, 0x01000000  # linux/inotify.h
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_MASK: Final = _CREATE | _MOVED_TO | _ONLYDIR | _DELETE_SELF | _MOVE_SELF
_EVENT: Final = struct.Struct("iIII")
_READ_BYTES: Final = 2**16
_JOIN_SECONDS: Final = 3.0

_logger = logging.getLogger("oautom.runner")


class Watcher:
    """A thread that calls `found(number)` once for each path that exists.

    Args:
        found: Must not raise.
    """

    def __init__(self, found: Callable[[int], object]) -> None:
        self._found = found
        self._process = forked.here
        self._asked: deque[tuple[int, str | None]] = deque()  # a path, or None to forget it
        self._is_closed = False
        self._waiting: dict[int, _Place] = {}
        self._folders = _folders()
        self._lock = threading.Lock()  # no write after the close
        self._is_over = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        name = "oautom-watcher"
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the system gives no thread
            self._let_go()
            raise

    def watch(self, number: int, path: str) -> None:
        """Wait for a path, until it is found or forgotten. Any thread."""
        self._ask(number, path)

    def forget(self, number: int) -> None:
        """Wait for a path no longer. Any thread."""
        self._ask(number, None)

    def _ask(self, number: int, path: str | None) -> None:
        self._asked.append((number, path))
        self._wake()

    def _wake(self) -> None:
        with self._lock, suppress(BlockingIOError):  # a full pipe wakes the thread, too
            if not self._is_over:
                os.write(self._wake_write, b"!")

    def close(self) -> None:
        """End the thread. In a forked child it does nothing."""
        if self._is_closed or not self._process.is_here:
            return
        self._is_closed = True
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_SECONDS)

    def _let_go(self) -> None:
        with self._lock:
            self._is_over = True
        self._folders.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _serve(self) -> None:
        with DefaultSelector() as selector:
            for fd in (self._wake_read, self._folders.fd):
                if fd is not None:
                    selector.register(fd, EVENT_READ)
            while not self._is_closed:
                try:
                    self._look_at_some(is_time_up=not selector.select(self._seconds()))
                except Exception:  # a bug of ours must not stop the others
                    _logger.exception("files may be found %g s late", LOOK_SECONDS)
        self._let_go()

    def _seconds(self) -> float | None:
        if not self._waiting:
            return None
        are_watched = all(place.watch is not None for place in self._waiting.values())
        return LOOK_SECONDS if are_watched else POLL_SECONDS

    def _look_at_some(self, *, is_time_up: bool) -> None:
        """Check the new paths, the changed ones, or all of them."""
        with suppress(BlockingIOError):
            os.read(self._wake_read, _READ_BYTES)
        changed = self._folders.changes()
        numbers = [*self._waiting] if is_time_up or changed is None else changed
        while self._asked:
            number, path = self._asked.popleft()
            if path is None:
                self._end(number)
            else:
                self._waiting[number] = _Place(path)
                numbers.append(number)
        for number in dict.fromkeys(numbers):
            if number in self._waiting and self._is_there(number, self._waiting[number]):
                self._end(number)
                self._found(number)

    def _is_there(self, number: int, place: _Place) -> bool:
        """Check whether a path exists; if not, watch its nearest folder."""
        watched = None
        while not os.path.exists(place.path):
            nearest = _nearest(place.path)
            if nearest == watched:  # nothing changed between the watch and this check
                return False
            watched = nearest
            self._folders.drop(number, place)
            self._folders.add(number, place, *nearest)
        return True

    def _end(self, number: int) -> None:
        if (place := self._waiting.pop(number, None)) is not None:
            self._folders.drop(number, place)


class _Place:
    """A path that a step waits for.

    Attributes:
        path: The path.
        watch: The watch of its nearest folder; None if that is polled.
        name: The name that must appear in that folder before the path is checked again.
    """

    __slots__ = ("name", "path", "watch")

    def __init__(self, path: str) -> None:
        self.path = path
        self.watch: int | None = None
        self.name = ""


def _nearest(path: str) -> tuple[str, str]:
    """Return the nearest existing folder above a path, and the name that leads on from it."""
    folder, name = os.path.split(path)
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder, name = os.path.split(folder)
    return folder, name


class _NoFolders:
    """Watches no folder: all paths are polled."""

    fd: int | None = None

    def add(self, number: int, place: _Place, folder: str, name: str) -> None:
        """Do nothing."""

    def drop(self, number: int, place: _Place) -> None:
        """Do nothing."""

    def changes(self) -> list[int] | None:
        """Return no number."""
        return []

    def close(self) -> None:
        """Do nothing."""


class _Inotify(_NoFolders):
    """Watches folders. On the thread of the watcher only, except for `close`.

    Source: inotify(7).
    """

    def __init__(self, fd: int, libc: Any) -> None:
        self.fd = fd
        self._libc = libc
        self._by_watch: dict[int, dict[str, dict[int, None]]] = {}  # numbers, by watch and name

    def add(self, number: int, place: _Place, folder: str, name: str) -> None:
        """Watch for a name in a folder; if that fails, the place has no watch."""
        watch = self._libc.inotify_add_watch(self.fd, os.fsencode(folder), _MASK)
        if watch >= 0:
            place.watch, place.name = watch, name
            self._by_watch.setdefault(watch, {}).setdefault(name, {})[number] = None

    def drop(self, number: int, place: _Place) -> None:
        """Stop watching for it."""
        watch, place.watch = place.watch, None
        names = self._by_watch.get(watch, {}) if watch is not None else {}
        numbers = names.get(place.name, {})
        numbers.pop(number, None)
        if not numbers:
            names.pop(place.name, None)
        if watch in self._by_watch and not names:
            del self._by_watch[watch]
            self._libc.inotify_rm_watch(self.fd, watch)

    def changes(self) -> list[int] | None:
        """Return the numbers of the paths that may have changed; None if events were lost."""
        found: list[int] = []
        for watch, name in self._events():
            if watch < 0:  # events were lost
                return None
            names = self._by_watch.get(watch, {})
            for numbers in [names.get(name, {})] if name else names.values():
                found += numbers
        return found

    def _events(self) -> Iterator[tuple[int, str]]:
        with suppress(BlockingIOError):
            content = os.read(self.fd or 0, _READ_BYTES)
            at = 0
            while at < len(content):
                watch, _, _, size = _EVENT.unpack_from(content, at)
                at += _EVENT.size + size
                yield watch, os.fsdecode(content[at - size : at].rstrip(b"\0"))

    def close(self) -> None:
        """Stop watching."""
        os.close(self.fd or 0)


def _folders() -> _NoFolders:
    """Return an object that watches folders, as far as the system can."""
    if sys.platform != "linux":
        return _NoFolders()
    import ctypes  # noqa: PLC0415 - few programs wait for files

    libc = ctypes.CDLL(None)
    fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    return _NoFolders() if fd < 0 else _Inotify(fd, libc)
