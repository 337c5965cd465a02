"""The wake-up of an engine by other processes: a named pipe, on which it waits without polling."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from oautom.errors import LogError

_CHUNK_BYTES = 4096
_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC


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
        self._lock = threading.Lock()
        try:
            _make(self._file, mode)
            # For writing as well: a pipe that nobody writes is at its end, and nobody would wait.
            self._read_end = os.open(self._file, os.O_RDWR | os.O_CLOEXEC)
            self._write_end = os.open(self._file, _WRITE)
        except OSError as error:
            raise LogError(
                f"the pipe '{self._file}' cannot be made, by which other processes wake the "
                f"engine: {error}; remove what is there, or keep the log in another folder"
            ) from error
        threading.Thread(target=self._listen, name="oautom-wakeup", daemon=True).start()

    def _listen(self) -> None:
        while True:
            os.read(self._read_end, _CHUNK_BYTES)  # many wake-ups that wait are one
            if self._is_closed:
                break
            self._wake()
        with self._lock:
            os.close(self._read_end)
            os.close(self._write_end)

    def close(self) -> None:
        """Have the thread end, and leave no file. May be called twice, and by `wake` as well.

        It does not wait for the thread: `wake` may wait for whoever calls this.
        """
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._file.unlink(missing_ok=True)
                _write(self._write_end)


def _pipe_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wake")


def _make(file: Path, mode: int) -> None:
    try:
        os.mkfifo(file, mode)
        file.chmod(mode)  # whatever the umask is
    except FileExistsError:
        if not stat.S_ISFIFO(file.lstat().st_mode):
            raise


def _write(fd: int) -> None:
    with suppress(BlockingIOError):  # full of wake-ups that have not been heard yet
        os.write(fd, b"!")


def send(path: Path) -> bool:
    """Wake the engine that writes a log.

    Returns:
        False if there is none that listens.

    Raises:
        OSError: This process may not.
    """
    try:
        fd = os.open(_pipe_of(path), _WRITE)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENXIO):
            return False
        raise
    try:
        if is_pipe := stat.S_ISFIFO(os.fstat(fd).st_mode):  # else it is a file of somebody's
            _write(fd)
        return is_pipe
    finally:
        os.close(fd)
