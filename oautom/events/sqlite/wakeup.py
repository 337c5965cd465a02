"""The wake-up of an engine by other processes: a datagram on a socket, and a regular check.

A request is a row in the file; the datagram only announces it. It may get lost: its sender dies
before, or may not send, or is in another network namespace. So nothing depends on it: the receiver
also checks the file every `LOOK_SECONDS`.

On Linux the socket has an abstract name, made of the device and the inode of the file. So it has no
file that a copy of the log would share, that a dead engine leaves behind, or that has permissions
of its own. Elsewhere there is no known name, and only the check.
"""

from __future__ import annotations

import logging
import select
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from oautom.errors import LogError
from oautom.processes import forked

LOOK_SECONDS = 2.0
"""How often the file is checked for requests in any case. Tests make it longer."""

_logger = logging.getLogger("oautom.log")
_SENT: Final = b"!"


class Wakeup:
    """A thread that calls `wake()` after a `send`, or when the file has a new request.

    Args:
        path: The file of the log.
        wake: The function to call.
        is_asked: Whether the file has a request that was not taken yet; called every
            `LOOK_SECONDS`. Must not raise.

    Raises:
        LogError: The system gives no socket, or no thread.
    """

    def __init__(self, path: Path, wake: Callable[[], None], is_asked: Callable[[], bool]) -> None:
        self._wake = wake
        self._is_asked = is_asked
        self._is_closed = False
        try:
            self._socket = _socket_of(path)
        except OSError as error:
            raise _refused(path, error) from error
        self._socket.setblocking(False)
        self._waiting = threading.Lock()  # taken by the thread while it uses socket or file
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        forked.share(self)
        try:
            threading.Thread(target=self._listen, name="oautom-wakeup", daemon=True).start()
        except RuntimeError as error:
            self.leave()
            raise _refused(path, error) from error

    def _listen(self) -> None:
        while (is_sent := self._wait()) is not None:
            try:
                if is_sent or self._asks():
                    self._wake()
            except Exception:  # as when the system gives no more threads
                _logger.exception("the engine is not woken; it is tried again")
        with self._waiting:  # not while `close` uses it
            self._socket.close()

    def _wait(self) -> bool | None:
        """Wait for a datagram; return False if none came in time, None at the end."""
        with self._waiting:
            if self._is_closed:
                return None
            is_sent = bool(self._poll.poll(LOOK_SECONDS * 1000))
            with suppress(OSError):  # many waiting datagrams count as one
                while self._socket.recv(1):
                    pass
            return None if self._is_closed else is_sent

    def _asks(self) -> bool:
        """Look at the file, unless it was closed: `close` waits for that, so nothing reads then."""
        with self._waiting:
            return not self._is_closed and self._is_asked()

    def rouse(self) -> None:
        """Make the thread call `wake`, as a `send` of another process does. Any thread."""
        with suppress(OSError):  # full, or closed by now
            self._socket.sendto(_SENT, self._socket.getsockname())

    def close(self) -> None:
        """End the thread, and free the name. May be called twice, and by `wake` as well.

        It does not wait for `wake`, which may wait for the caller of this.
        """
        self._is_closed = True
        self.rouse()
        with self._waiting:
            self._socket.close()

    def let_go(self) -> None:
        """End the thread, without waiting. Safe in garbage collection."""
        self._is_closed = True
        self.rouse()

    def leave(self) -> None:
        """Free the name in a forked process, so that it becomes free when its owner ends."""
        self._is_closed = True
        self._socket.close()


def _refused(path: Path, error: Exception) -> LogError:
    return LogError(
        f"log '{path}' cannot take requests of other processes, since the system gives no more "
        f"files or threads ({error}); try again later, or raise its limits (ulimit -n, ulimit -u)"
    )


def _name_of(path: Path) -> bytes | None:
    """Return the name of the socket of a log; all paths of its file have the same."""
    if not sys.platform.startswith("linux"):
        return None
    stat = path.stat()
    return f"\0oautom-wake-{stat.st_dev}-{stat.st_ino}".encode()


def _socket_of(path: Path) -> socket.socket:
    """Return a socket with the name of a log; with any other name if that one is taken."""
    if (name := _name_of(path)) is not None:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listening.bind(name)
        except OSError:  # it is taken; the regular check remains
            listening.bind(b"")  # the system chooses a name
        return listening
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("127.0.0.1", 0))
    return listening


def send(path: Path) -> None:
    """Wake the engine that writes a log, if there is one. Never raises: the engine also checks."""
    with suppress(OSError):  # no receiver, a full one, or no permission
        if (name := _name_of(path)) is not None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.sendto(_SENT, socket.MSG_DONTWAIT, name)
