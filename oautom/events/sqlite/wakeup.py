"""The wake-up of an engine by other processes: a datagram on a socket, and a look now and then.

What is asked is a row in the file; the datagram only says that there is one. It may get lost: who
has asked dies before, or may not send, or is in another network namespace. So nothing depends on
it: whoever waits for it also looks into the file by himself, each `LOOK_SECONDS`.

On Linux the socket has an abstract name, made of the device and the inode of the file. So there is
no file of it that a copy of the log would hang on, that a dead engine leaves behind, or that has
permissions of its own. Elsewhere there is none that others know, and only the look.
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
"""After how long it is looked in any case whether something was asked. Tests make it longer."""

_logger = logging.getLogger("oautom.log")
_SENT: Final = b"!"


class Wakeup:
    """Calls `wake()` on a thread of its own when somebody has called `send`, or something is asked.

    Args:
        path: The file of the log.
        wake: What to call.
        is_asked: Whether the file has something that was asked and not heard of yet; called each
            `LOOK_SECONDS`. May not raise.

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
        self._waiting = threading.Lock()  # the thread has the socket, and comes out when roused
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
                if is_sent or self._is_asked():
                    self._wake()
            except Exception:  # as where there is no room for one thread more
                _logger.exception("the engine is not woken; it is tried again")
        with self._waiting:  # else `close` finds it closed while the system is still at it
            self._socket.close()

    def _wait(self) -> bool | None:
        """Wait until something was sent; False if nothing was for a while, None at the end."""
        with self._waiting:
            if self._is_closed:
                return None
            is_sent = bool(self._poll.poll(LOOK_SECONDS * 1000))
            with suppress(OSError):  # many wake-ups that wait are one
                while self._socket.recv(1):
                    pass
            return None if self._is_closed else is_sent

    def rouse(self) -> None:
        """Have it look, and call `wake`, as if another process had sent for it. Any thread."""
        with suppress(OSError):  # full, or closed by now
            self._socket.sendto(_SENT, self._socket.getsockname())

    def close(self) -> None:
        """Have the thread end, and the name be free. May be called twice, and by `wake` as well.

        It does not wait for `wake`, which may wait for whoever calls this.
        """
        self._is_closed = True
        self.rouse()
        with self._waiting:
            self._socket.close()

    def let_go(self) -> None:
        """Have the thread end, and wait for nothing. Wherever objects are collected."""
        self._is_closed = True
        self.rouse()

    def leave(self) -> None:
        """Let go of the name in a forked process: it is to be free when its owner ends."""
        self._is_closed = True
        self._socket.close()


def _refused(path: Path, error: Exception) -> LogError:
    return LogError(
        f"log '{path}' cannot be listened to, by which other processes ask for something, since "
        f"the system gives no more files or threads ({error}); try again later, or raise its "
        "limits (ulimit -n, ulimit -u)"
    )


def _name_of(path: Path) -> bytes | None:
    """Return the name of the socket of a log, the same for each path of its file."""
    if not sys.platform.startswith("linux"):
        return None
    stat = path.stat()
    return f"\0oautom-wake-{stat.st_dev}-{stat.st_ino}".encode()


def _socket_of(path: Path) -> socket.socket:
    """Return a socket with the name of a log; with any other if somebody has taken that."""
    if (name := _name_of(path)) is not None:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listening.bind(name)
        except OSError:  # somebody has taken it: it is looked all the same
            listening.bind(b"")  # the system makes one up
        return listening
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("127.0.0.1", 0))
    return listening


def send(path: Path) -> None:
    """Wake the engine that writes a log, if there is one. Never raises: it looks by itself, too."""
    with suppress(OSError):  # nobody listens, or does not come after it, or it is not allowed
        if (name := _name_of(path)) is not None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.sendto(_SENT, socket.MSG_DONTWAIT, name)
