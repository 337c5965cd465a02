"""The wake-up of an engine by other processes: a named pipe, on which it waits without polling."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from oautom.errors import LogError

_CHUNK_BYTES = 4096


class Wakeup:
    """Calls `wake()` on a thread of its own, for each time that somebody calls `send`.

    Args:
        path: The file of the log; that of the pipe stands beside it.
        mode: The permissions that the pipe shall have: who may write the log may wake its engine.
        wake: What to call.

    Raises:
        LogError: The pipe cannot be made.
    """

    def __init__(self, path: Path, mode: int, wake: Callable[[], None]) -> None:
        self._file = _pipe_of(path)
        self._wake = wake
        self._is_closed = False
        try:
            self._fd = _open(self._file, mode)
        except OSError as error:
            raise LogError(
                f"the pipe '{self._file}' cannot be made, by which other processes wake the "
                f"engine: {error}; remove what is there, or keep the log in another folder"
            ) from error
        self._thread = threading.Thread(target=self._listen, name="oautom-wakeup", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            os.read(self._fd, _CHUNK_BYTES)  # many wake-ups that wait are one
            if self._is_closed:
                return
            self._wake()

    def close(self) -> None:
        """End the thread, and leave no file. May be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._file.unlink(missing_ok=True)
        os.write(self._fd, b"!")
        if threading.current_thread() is not self._thread:
            self._thread.join()
            os.close(self._fd)


def _pipe_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wake")


def _open(file: Path, mode: int) -> int:
    try:
        os.mkfifo(file, mode)
        file.chmod(mode)  # whatever the umask is
    except FileExistsError:
        if not stat.S_ISFIFO(file.lstat().st_mode):
            raise
    # For writing as well: a pipe that nobody writes is at its end, and reading would not wait.
    return os.open(file, os.O_RDWR | os.O_CLOEXEC)


def send(path: Path) -> bool:
    """Wake the engine that writes a log.

    Returns:
        False if there is none that listens.

    Raises:
        OSError: This process may not.
    """
    try:
        fd = os.open(_pipe_of(path), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENXIO):
            return False
        raise
    try:
        os.write(fd, b"!")
    except BlockingIOError:
        pass  # full of wake-ups that have not been heard yet
    finally:
        os.close(fd)
    return True
