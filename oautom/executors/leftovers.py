"""Leftovers: processes that a dead program has left running, found by their environment.

A program that is killed by SIGKILL can end nothing. So each process that does the work of a step
carries the identity of the durable log in its environment, and hands it on to what it starts; who
has the log next finds it there, on Linux. It carries its engine as well: while that is alive it is
no leftover, as when an engine works on a copy of the log. The number of a process is never all that
is known of it: it may be another's by now.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

LOG_MARK = "OAUTOM_LOG"
"""The variable that holds the identity of the log."""

_ENGINE_MARK = "OAUTOM_ENGINE"

_MS_MAX = 5_000
_START_TIME = 19  # of what stands behind the name in /proc/<pid>/stat


def marks(log_id: str) -> dict[str, str]:
    """Return the variables by which the processes of this program are found when it is dead."""
    return {LOG_MARK: log_id, _ENGINE_MARK: _engine(os.getpid())}


def _engine(pid: int) -> str:
    """Return what tells a process from all others that have had its number; empty if it is dead."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{pid}-{fields[_START_TIME]}"


def _is_left(environment: Mapping[str, str]) -> bool:
    """Whether the engine of a process is dead, or was one of this very program."""
    engine = environment.get(_ENGINE_MARK, "")
    pid = engine.partition("-")[0]
    return not pid.isdigit() or int(pid) == os.getpid() or _engine(int(pid)) != engine


def end_leftovers(log_id: str, is_wanted: Callable[[Mapping[str, str]], bool]) -> list[int]:
    """End the processes that carry the mark of a log, and wait until they are gone.

    Call it while no engine works on the log but the one that calls.

    Args:
        log_id: The identity of the log.
        is_wanted: Whether a process with this environment shall live on.

    Returns:
        The numbers that the processes had.
    """
    ended: list[int] = []
    while found := list(_marked(log_id, is_wanted)):  # again: one may have forked meanwhile
        # First all are stopped: whoever waits for one of the others must not go on when that ends.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for _, handle in found:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
        for pid, handle in found:
            _wait_for(handle)
            os.close(handle)
            if pid in ended:
                return ended  # the system does not let it die, as while a disk does not answer
            ended.append(pid)
    return ended


def _wait_for(handle: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)  # readable when the process has ended
    poll.poll(_MS_MAX)


def _marked(
    log_id: str, is_wanted: Callable[[Mapping[str, str]], bool]
) -> Iterator[tuple[int, int]]:
    """Yield number and handle of each process that carries the mark and is not wanted."""
    mark = f"{LOG_MARK}={log_id}".encode()
    for entry in _processes():
        pid = int(entry)
        try:
            handle = os.pidfd_open(pid)  # what is read next is of this process, or of none
        except OSError:
            continue
        environment = _environment(pid)
        by_name = _by_name(environment) if mark in environment and pid != os.getpid() else {}
        if by_name and _is_left(by_name) and not is_wanted(by_name):
            yield pid, handle
        else:
            os.close(handle)


def _processes() -> list[str]:
    try:
        return [entry for entry in os.listdir("/proc") if entry.isdigit()]
    except OSError:  # not Linux
        return []


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:  # it has ended, or is another user's
        return []


def _by_name(environment: list[bytes]) -> dict[str, str]:
    pairs = (os.fsdecode(each).partition("=") for each in environment)
    return {name: value for name, _, value in pairs}
