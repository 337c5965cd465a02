"""One process with all its descendants, from its start to the end of the last of them.

The process leads a session and process group of its own. Its end is waited for, never polled; its
output is read as it comes, so it never blocks. Processes that are left in the group when its leader
has ended are ended too. How the end becomes known: see `child`.
"""

from __future__ import annotations

import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from oautom.processes.child import Child, begin

_READ_BYTES = 2**16


class ProcessGroup:
    """A process that leads its own group, watched by the thread that calls `run`.

    Args:
        argv: The program and its arguments.
        env: The whole environment.
        cwd: Working directory, or None for the one of this program.
        grace_period: Seconds between SIGTERM and SIGKILL when it is cancelled.
        on_output: Called with the bytes that the process writes to standard output.
        on_error: Called with the bytes that it writes to standard error.
        ends_with_us: Whether all of it is ended when this process dies.
    """

    def __init__(  # the parts of a process
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | os.PathLike[str] | None,
        grace_period: float,
        on_output: Callable[[bytes], None],
        on_error: Callable[[bytes], None],
        ends_with_us: bool = False,
    ) -> None:
        self._ends_with_us = ends_with_us
        self._argv, self._env, self._cwd = argv, env, cwd
        self._grace_period = grace_period
        self._on_output, self._on_error = on_output, on_error
        self._wake_read = self._wake_write = -1
        self._is_cancelled = threading.Event()
        self._wake_lock = threading.RLock()  # a handler of Ctrl-C may come in between

    def cancel(self) -> None:
        """Ask the whole group to end: SIGTERM, after the grace period SIGKILL. Any thread."""
        self._is_cancelled.set()
        self._wake()

    def _wake(self) -> None:
        with self._wake_lock:  # the pipe may be closed, and its number reused
            if self._wake_write >= 0:
                os.write(self._wake_write, b"!")

    def run(self) -> int:
        """Start the process, read its output, and return its exit code. Once only.

        Returns:
            Its exit code, or minus the number of the signal that ended it.

        Raises:
            EndError: Its end cannot be known.
            OSError: It cannot be started, or was ended at once since it cannot be watched.
            RuntimeError: The system gives no thread to watch it; it was not started.
        """
        with self._wake_lock:
            self._wake_read, self._wake_write = os.pipe()
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake_read, selectors.EVENT_READ)
                return self._watch(selector)
        finally:
            with self._wake_lock:
                os.close(self._wake_write)
                self._wake_write = -1
            os.close(self._wake_read)

    def _watch(self, selector: selectors.BaseSelector) -> int:
        child = begin(self._argv, self._env, self._cwd, ends_with_us=self._ends_with_us)
        try:
            try:
                receivers = (self._on_output, self._on_error)
                for stream, receive in zip(child.streams(), receivers, strict=True):
                    os.set_blocking(stream, False)
                    selector.register(stream, selectors.EVENT_READ, receive)
                selector.register(child, selectors.EVENT_READ)
                self._until_end(child, selector)
            finally:  # also if this thread is interrupted: leave no process behind
                child.end()
            while self._read_ready(selector, timeout=0):
                continue
        finally:
            child.close()
        return child.returncode()

    def _until_end(self, child: Child, selector: selectors.BaseSelector) -> None:
        """Read until the leader has ended; after a cancel, until all writers have, for a while."""
        kill_time: float | None = None
        is_asked = False
        while True:
            if self._is_cancelled.is_set():
                if kill_time is None:
                    kill_time = time.monotonic() + self._grace_period
                is_asked = is_asked or child.signal(signal.SIGTERM)
            waiting = selector.get_map()
            if child not in waiting and (kill_time is None or len(waiting) == 1):
                return
            timeout = None if kill_time is None else kill_time - time.monotonic()
            if timeout is not None and timeout <= 0:
                return
            self._read_ready(selector, timeout)

    def _read_ready(self, selector: selectors.BaseSelector, timeout: float | None) -> bool:
        """Read once from each stream that is ready; return whether any had data."""
        has_read = False
        for key, _ in selector.select(timeout):
            if isinstance(key.fileobj, Child):
                if key.fileobj.hear():
                    selector.unregister(key.fileobj)
                continue
            try:
                chunk = os.read(key.fd, _READ_BYTES)
            except BlockingIOError:
                continue
            if key.data is None:
                continue
            if chunk:
                key.data(chunk)
                has_read = True
            else:
                selector.unregister(key.fd)
        return has_read
