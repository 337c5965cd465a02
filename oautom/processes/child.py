"""A command as a child process, with its exit status as the system reports it, or none.

`Popen.wait()` will not do: if other code has reaped the process, as `os.waitpid(-1)` on another
thread does, it reports success. So the status is read here, once, in one of two ways. Normally the
command is a child of this program, which reads the status when it reaps it. If other code may reap,
the command has a small parent of its own (`parent.py`), which writes the status into a pipe. That
is another Python, which takes longer to start than most commands. A command that must not outlive
this process has such a parent as well, which ends it then.

All that is needed to watch a command exists before it begins; if anything fails after that, it is
ended at once. A process is reaped last of all, so that no other process can have its number while
its group is signalled.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final

from oautom.processes.group import has_handles, signal_group, wait_for_group

_READ_BYTES = 4096

_IGNORED: Final = (
    "its command was not started: this program ignores SIGCHLD, so the system would not report how "
    "it ends; call signal.signal(signal.SIGCHLD, signal.SIG_DFL) first"
)
_TAKEN: Final = (
    "the exit status of its command is unknown: other code in this program has taken it, as "
    "os.waitpid(-1) or an ignored SIGCHLD do; wait there for processes by their numbers, "
    "os.waitpid(pid, 0). From now on, commands of this program run under a parent of their own, "
    "which keeps the status safe"
)
_PARENT: Final = os.path.join(os.path.dirname(__file__), "parent.py")
_PARENT_DIED: Final = "the exit status of its command is unknown: its parent process has died"
_NO_PYTHON: Final = (
    "its command was not started: other code in this program reaps processes that are not its "
    "own, and sys.executable names no Python to run the command under; wait there for processes by "
    "their numbers, os.waitpid(pid, 0)"
)


_is_reaped_by_others = threading.Event()
"""Set when an exit status was lost in this program: commands then have their own parent."""

_PIDFD_GET_INFO: Final = 0xC040FF0B  # Linux 6.15: reads the status of a process that is gone
_PIDFD_INFO_EXIT: Final = 1 << 3
_TRIES: Final = 100
_PAUSE_SECONDS: Final = 0.001


class EndError(Exception):
    """The end of a command cannot be known: raised before it begins, or when it is over."""


class Child(ABC):
    """A command that leads a session and process group of its own.

    Attributes:
        leader: Its number, which is that of its group; None as long as that is unknown.
    """

    leader: int | None
    _process: _Process

    def streams(self) -> tuple[int, int]:
        """Return the descriptors of its standard output and standard error, for reading."""
        stdout, stderr = self._process.stdout, self._process.stderr
        assert stdout is not None
        assert stderr is not None
        return stdout.fileno(), stderr.fileno()

    def signal(self, number: int) -> bool:
        """Send a signal to the whole group; False if there is none yet."""
        if self.leader is not None:
            signal_group(self.leader, number)
        return self.leader is not None

    @abstractmethod
    def fileno(self) -> int:
        """Return a descriptor that becomes readable when there is news for `hear`."""

    def hear(self) -> bool:
        """Read the news of the command; return whether it has ended."""
        return True

    @abstractmethod
    def end(self) -> None:
        """End all processes of the group, and wait until they are gone. Once only."""

    def close(self) -> None:
        """Close the descriptors, after `end`."""
        self._process.close()

    @abstractmethod
    def returncode(self) -> int:
        """Return its exit code, or minus the number of the signal that ended it; after `end`.

        Raises:
            EndError: The status is unknown.
            OSError: The command could not be started.
        """


def begin(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] | None,
    *,
    ends_with_us: bool = False,
) -> Child:
    """Start a command.

    Args:
        argv: The program and its arguments.
        env: The whole environment.
        cwd: Working directory, or None for the one of this program.
        ends_with_us: Whether it is ended, with all that it has started, when this process dies.

    Raises:
        EndError: Its end could not be known; it was not started.
        OSError: It cannot be started, or was ended at once since it cannot be watched.
        RuntimeError: The system gives no thread to watch it; it was not started.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    if handler == signal.SIG_IGN:
        raise EndError(_IGNORED)
    is_reaped = handler != signal.SIG_DFL or _is_reaped_by_others.is_set()  # one may reap all
    if is_reaped or (ends_with_us and _has_python()):
        return _Overseen(argv, env, cwd, "end" if ends_with_us else "leave")
    return _Own(argv, env, cwd) if has_handles() else _Waited(argv, env, cwd)


def _has_python() -> bool:
    """Whether there is a Python to run the parent of a command under."""
    return bool(sys.executable) and not hasattr(sys, "frozen")


class _Process(subprocess.Popen[bytes]):
    """A process that is ended if its start fails after it exists."""

    def __init__(self, argv: Sequence[str], **options: Any) -> None:
        try:
            super().__init__(
                argv,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                **options,
            )
        except BaseException:
            if getattr(self, "pid", None) is not None and self.returncode is None:
                with suppress(ProcessLookupError):  # it has ended, and was reaped
                    os.kill(self.pid, signal.SIGKILL)  # it may not lead its group yet
                self.end()
                self.close()
            raise

    def end(self) -> int | None:
        """End it and its group, and return its status as of `os.waitpid`; None if unknown."""
        signal_group(self.pid, signal.SIGKILL)
        status = self.reap()
        wait_for_group(self.pid)
        return status

    def reap(self) -> int | None:
        """Wait for its end, and return its status as of `os.waitpid`; None if unknown."""
        try:
            return os.waitpid(self.pid, 0)[1]
        except ChildProcessError:  # other code has reaped it
            return None
        finally:
            self.returncode = 0  # so that `Popen` does not wait for it; it is not used

    def close(self) -> None:
        """Close its pipes."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()


class _Own(Child):
    """A child of this program; a handle of the process shows its end."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Any) -> None:
        self._status: int | None = None
        self._process = _Process(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL)
        self.leader = self._process.pid
        try:
            self._handle = self._watched()
        except BaseException:
            self._process.end()
            self._process.close()
            raise

    def _watched(self) -> int:
        try:
            return os.pidfd_open(self._process.pid)
        except ProcessLookupError:  # it has ended, and was reaped
            read, write = os.pipe()
            os.close(write)  # so that the other end is readable at once
            return read

    def fileno(self) -> int:
        return self._handle

    def end(self) -> None:
        self._status = self._process.end()
        if self._status is None:
            self._status = _remembered(self._handle)
            _is_reaped_by_others.set()

    def close(self) -> None:
        super().close()
        os.close(self._handle)

    def returncode(self) -> int:
        if self._status is None:
            raise EndError(_TAKEN)
        return os.waitstatus_to_exitcode(self._status)


def _remembered(handle: int) -> int | None:
    """Return the status of a process that other code has reaped, if the system still has it."""
    for _ in range(_TRIES):  # the other code may be reaping just now
        info = bytearray(struct.pack("=Q56x", _PIDFD_INFO_EXIT))
        try:
            fcntl.ioctl(handle, _PIDFD_GET_INFO, info)
        except ProcessLookupError:  # the status is not there yet
            pass
        except OSError:  # it is an older system
            return None
        mask, status = struct.unpack("=Q52xi", info)
        if mask & _PIDFD_INFO_EXIT:
            return int(status)
        time.sleep(_PAUSE_SECONDS)
    return None


class _Waited(_Own):
    """A child of this program with a thread that waits for its end: the system has no handles."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Any) -> None:
        self._pids: SimpleQueue[int | None] = SimpleQueue()
        self._reaped: int | None = None
        self._read, self._write = os.pipe()
        self._thread = threading.Thread(target=self._wait, name="oautom-waitpid", daemon=True)
        try:
            self._thread.start()  # before the command: it never runs unwatched
        except BaseException:
            os.close(self._read)
            os.close(self._write)
            raise
        try:
            super().__init__(argv, env, cwd)
        except BaseException:
            self._pids.put(None)
            os.close(self._read)
            raise

    def _watched(self) -> int:
        self._pids.put(self._process.pid)
        return self._read

    def _wait(self) -> None:
        pid = self._pids.get()
        try:
            if pid is None:
                return
            if hasattr(os, "waitid"):  # WNOWAIT: it is reaped later
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            else:  # macOS before Python 3.13
                self._reaped = os.waitpid(pid, 0)[1]
        except ChildProcessError:  # other code has reaped it
            return
        finally:
            os.close(self._write)

    def end(self) -> None:
        self._status = self._process.end()
        self._thread.join()
        if self._status is None:
            self._status = self._reaped
        if self._status is None:
            _is_reaped_by_others.set()


class _Overseen(Child):
    """A grandchild of this program, whose parent writes its exit status into a pipe."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Any, at_end: str) -> None:
        if not _has_python():
            raise EndError(_NO_PYTHON)
        self.leader = None
        self._rest = b""
        self._facts: dict[str, int] = {}
        self._has_parent = True
        self._has_ended = False
        self._read, write = os.pipe()
        try:
            parent = (sys.executable, "-I", "-S", _PARENT, str(write), at_end)
            self._process = _Process(
                (*parent, *argv), env=env, cwd=cwd, stdin=subprocess.PIPE, pass_fds=(write,)
            )
        except BaseException:
            os.close(self._read)
            raise
        finally:
            os.close(write)

    def fileno(self) -> int:
        return self._read

    def hear(self) -> bool:
        chunk = os.read(self._read, _READ_BYTES)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, number = line.decode().partition(" ")
            self._facts[name] = int(number)
        self.leader = self._facts.get("pid")
        self._has_parent = bool(chunk)  # end of file: it was killed
        self._has_ended = not chunk or "code" in self._facts
        return self._has_ended

    def end(self) -> None:
        if self.leader is None:  # without its parent it does not begin, or its number is read below
            signal_group(self._process.pid, signal.SIGKILL)
        self.signal(signal.SIGKILL)
        while not self._has_ended:
            self.hear()
            self.signal(signal.SIGKILL)
        if self._has_parent:  # the group is not signalled any more: its leader can be reaped
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), b"!")
        self._process.reap()
        if self.leader is not None:
            wait_for_group(self.leader)

    def close(self) -> None:
        super().close()
        os.close(self._read)

    def returncode(self) -> int:
        if (number := self._facts.get("errno")) is not None:
            raise OSError(number, os.strerror(number))
        if (code := self._facts.get("code")) is None:
            raise EndError(_PARENT_DIED)
        return code
