"""A command as a child process, and how it ended: the system's own word, or none.

`Popen.wait()` will not do: it takes a process that somebody else has reaped, as `os.waitpid(-1)` of
another thread does, for one that ended well. So the status is read here, once, in one of two ways.
As a rule the command is a child of this program, which reads the status when it reaps it;
where somebody may reap, it has a small parent of its own (`parent.py`), which writes the status
into a pipe. That is a Python of its own, and takes longer to start than most commands.

What is needed to watch a command is there before it begins; where anything fails after that, it is
ended at once. A process is reaped last of all, so that its number cannot be another's while its
group is signalled.
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
    "its command was not begun: this program ignores SIGCHLD, so the system would not tell how it "
    "ends; call signal.signal(signal.SIGCHLD, signal.SIG_DFL) first"
)
_TAKEN: Final = (
    "how its command ended is not known: something in this program has taken its exit status, as "
    "os.waitpid(-1) or an ignored SIGCHLD do; wait there for processes by their numbers, "
    "os.waitpid(pid, 0). From now on, commands of this program run under a parent of their own, "
    "from which nobody can take it"
)
_PARENT: Final = os.path.join(os.path.dirname(__file__), "parent.py")
_PARENT_DIED: Final = "how its command ended is not known: the parent that it ran under has died"
_NO_PYTHON: Final = (
    "its command was not begun: something in this program reaps processes that are not its own, "
    "and sys.executable names no Python to run the command under; wait there for processes by "
    "their numbers, os.waitpid(pid, 0)"
)


_is_reaped_by_others = threading.Event()
"""An exit status has been lost in this program: from now on commands have a parent of their own."""

_PIDFD_GET_INFO: Final = 0xC040FF0B  # Linux 6.15 tells by it how a process that is gone has ended
_PIDFD_INFO_EXIT: Final = 1 << 3
_TRIES: Final = 100
_PAUSE_SECONDS: Final = 0.001


class EndError(Exception):
    """How a command ends cannot be known: before it was begun, or when it was over."""


class Child(ABC):
    """A command that leads a session and process group of its own.

    Attributes:
        leader: Its number, which is that of its group; None as long as that is not known.
    """

    leader: int | None
    _process: _Process

    def streams(self) -> tuple[int, int]:
        """Return what is to be read: its standard output and standard error."""
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
        """Return what becomes readable when there is something to `hear`."""

    def hear(self) -> bool:
        """Take note of what has happened to it; return whether it has ended."""
        return True

    @abstractmethod
    def end(self) -> None:
        """End whoever is left of the group, and wait until all are gone. Once only."""

    def close(self) -> None:
        """Close what is to be read, after `end`."""
        self._process.close()

    @abstractmethod
    def returncode(self) -> int:
        """Return its exit code, or minus the number of the signal that ended it; after `end`.

        Raises:
            EndError: It is not known.
            OSError: The command could not be begun.
        """


def begin(argv: Sequence[str], env: Mapping[str, str], cwd: str | os.PathLike[str] | None) -> Child:
    """Begin a command.

    Args:
        argv: The program and its arguments.
        env: The whole environment.
        cwd: Working directory, or None for the one of this program.

    Raises:
        EndError: Its end could not be known; it was not begun.
        OSError: It cannot be begun, or was ended at once since it cannot be watched.
        RuntimeError: The system gives no thread to watch it; it was not begun.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    if handler == signal.SIG_IGN:
        raise EndError(_IGNORED)
    if handler != signal.SIG_DFL or _is_reaped_by_others.is_set():  # a handler may reap all
        return _Overseen(argv, env, cwd)
    return _Own(argv, env, cwd) if has_handles() else _Waited(argv, env, cwd)


class _Process(subprocess.Popen[bytes]):
    """A process that is not left alone where its start fails though it is there already."""

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
                with suppress(ProcessLookupError):  # it has ended, and somebody has reaped it
                    os.kill(self.pid, signal.SIGKILL)  # it may not lead its group yet
                self.end()
                self.close()
            raise

    def end(self) -> int | None:
        """End it with its group, and return its status as `os.waitpid` has it; None if unknown."""
        signal_group(self.pid, signal.SIGKILL)
        status = self.reap()
        wait_for_group(self.pid)
        return status

    def reap(self) -> int | None:
        """Wait for its end, and return its status as `os.waitpid` has it; None if unknown."""
        try:
            return os.waitpid(self.pid, 0)[1]
        except ChildProcessError:  # somebody has reaped it
            return None
        finally:
            self.returncode = 0  # so that `Popen` does not wait for it; nobody looks at it here

    def close(self) -> None:
        """Close its pipes."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()


class _Own(Child):
    """A child of this program; a handle of the process tells its end."""

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
        except ProcessLookupError:  # it has ended, and somebody has reaped it
            read, write = os.pipe()
            os.close(write)  # so that the other one is readable at once
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
    """Return the status of a process that somebody has reaped, where the system still knows it."""
    for _ in range(_TRIES):  # whoever reaps may be at it just now
        info = bytearray(struct.pack("=Q56x", _PIDFD_INFO_EXIT))
        try:
            fcntl.ioctl(handle, _PIDFD_GET_INFO, info)
        except ProcessLookupError:  # it is not told yet
            pass
        except OSError:  # it is an older system
            return None
        told, status = struct.unpack("=Q52xi", info)
        if told & _PIDFD_INFO_EXIT:
            return int(status)
        time.sleep(_PAUSE_SECONDS)
    return None


class _Waited(_Own):
    """A child of this program, for whose end a thread waits: the system has no handles."""

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
            if hasattr(os, "waitid"):  # WNOWAIT leaves it to be reaped
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            else:  # macOS before Python 3.13
                self._reaped = os.waitpid(pid, 0)[1]
        except ChildProcessError:  # somebody has reaped it
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
    """A grandchild of this program, whose parent writes into a pipe how it has ended."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Any) -> None:
        if not sys.executable or hasattr(sys, "frozen"):
            raise EndError(_NO_PYTHON)
        self.leader = None
        self._told = b""
        self._facts: dict[str, int] = {}
        self._has_parent = True
        self._has_ended = False
        self._read, write = os.pipe()
        try:
            parent = (sys.executable, "-I", "-S", _PARENT, str(write))
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
        *lines, self._told = (self._told + chunk).split(b"\n")
        for line in lines:
            name, _, number = line.decode().partition(" ")
            self._facts[name] = int(number)
        self.leader = self._facts.get("pid")
        self._has_parent = bool(chunk)  # at the end of the pipe somebody has killed it
        self._has_ended = not chunk or "code" in self._facts
        return self._has_ended

    def end(self) -> None:
        if self.leader is None:  # without its parent it does not begin, or has told its number
            signal_group(self._process.pid, signal.SIGKILL)
        self.signal(signal.SIGKILL)
        while not self._has_ended:
            self.hear()
            self.signal(signal.SIGKILL)
        if self._has_parent:  # nobody signals the group any more: its leader can be reaped
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
