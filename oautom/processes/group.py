"""Process groups, which end a process with all that it has started; and handles of processes.

A handle of a process, which Linux has, is readable when the process has ended, even if others have
its pipes open.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from functools import cache

_SECONDS_MAX = 0.5
_PAUSE_SECONDS = 0.0005


@cache
def has_handles() -> bool:
    """Whether the system gives handles of processes; macOS, and some sandboxes, do not.

    Raises:
        OSError: There are too many open files to find out.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except AttributeError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
            raise
        return False
    return True


def signal_name(number: int) -> str:
    """Return the name of a signal, `SIGKILL`; real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def signal_group(leader: int, number: int) -> bool:
    """Send a signal to all processes of a group; return whether any is left.

    Call it while the leader is not reaped, or with signal 0: later its number may be another's.
    """
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):  # all gone; on macOS also: only zombies left
        return False
    return True


def wait_for_group(leader: int) -> None:
    """Wait until a group is gone that got SIGKILL, and whose leader is reaped.

    The leader is our child and can be waited for. Its descendants are not: the kernel removes them
    within a millisecond or so, and asking again is the only way to know.
    """
    deadline = time.monotonic() + _SECONDS_MAX  # zombies may stay if no process reaps orphans
    pause = _PAUSE_SECONDS
    while signal_group(leader, 0) and time.monotonic() < deadline:
        time.sleep(pause)
        pause *= 2
