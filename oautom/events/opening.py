"""Which log an app is given: one in memory, a file, or an object of the user's."""

from __future__ import annotations

import os
import sys
from typing import Final

from oautom.errors import LogLockedError, SettingError, shown
from oautom.events.log import EventLog, MemoryEventLog
from oautom.values import has_members, one_of, plain_count

_ESSENTIAL = ("last_seq", "committed_seq", "append", "commit", "read")
_LATER = frozenset({"discard", "given_up", "keep_given_up", "forget_given_up", "refuse", "leave"})
"""What logs that were written for an earlier oautom, and inherit from nothing, may lack."""
IN_MEMORY: Final = ":memory:"
"""The path that means a log in memory, as it does to SQLite."""


def open_log(log: EventLog | str | os.PathLike[str] | None) -> tuple[EventLog, bool]:
    """Return the log that an app is given, and whether it is the app's to close.

    Args:
        log: None or `':memory:'` for memory, the path of a file, or a log.

    Raises:
        SettingError: It is none of these.
        LogError: The file cannot be opened.
    """
    if log is None or one_of(log, (IN_MEMORY,)):
        return MemoryEventLog(), True
    if isinstance(log, str | os.PathLike):
        # sqlite3 takes some milliseconds to import, and not every program has a durable log
        from oautom.events.sqlite import SqliteEventLog  # noqa: PLC0415

        try:
            return SqliteEventLog(log), True
        except LogLockedError as error:
            if not _is_parent(error.pid):
                raise
            return SqliteEventLog(log, read_only=True), True
    _check_is_log(log)
    return log, False


def _check_is_log(log: object) -> None:
    """Refuse what is no log, or lacks something; who inherits from `EventLog` lacks nothing.

    Raises:
        SettingError: That is so.
    """
    if isinstance(log, type) or not has_members(log, *_ESSENTIAL):
        raise SettingError(f"log must be None, a path or an EventLog, not {shown(log)}")
    needed = (name for name in vars(EventLog) if name[0] != "_" and name not in _LATER)
    if missing := [name for name in needed if not hasattr(log, name)]:
        raise SettingError(
            f"the log {shown(log)} has no {', '.join(missing)}; have its class inherit "
            f"from EventLog, "
            "which has what a log need not write itself"
        )
    for name in ("last_seq", "committed_seq"):
        if plain_count(number := getattr(log, name), 0) is None:
            raise SettingError(
                f"{name} of the log {shown(log)} must be the number of an event, from 0, not "
                f"{shown(number)}"
            )


def _is_parent(pid: int | None) -> bool:
    """Whether this is a worker process of that one.

    To find the functions of steps it imports the module that declares them, with the app: it must
    not fail there, though it cannot run anything.
    """
    process = sys.modules.get("multiprocessing.process")
    if process is None:
        return False
    if getattr(process.current_process(), "_inheriting", False):  # it imports the main module
        return pid in (os.getppid(), _parent_of(os.getppid()))  # a fork server may be in between
    parent = process.parent_process()
    return parent is not None and parent.pid == pid


def _parent_of(pid: int) -> int | None:
    """Return the number of the process that has started another one, if that can be known."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return None
