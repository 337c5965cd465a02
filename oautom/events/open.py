"""Which log an app is given: one in memory, a file, or an object of the user's."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from oautom.errors import LogError, SettingError, shown
from oautom.events.log import EventLog
from oautom.events.memory import MemoryEventLog
from oautom.values.json import plain_count
from oautom.values.names import has_members, one_of

_ESSENTIAL = ("last_seq", "committed_seq", "append", "commit", "read")
_LATER = frozenset(
    {
        *("discard", "given_up", "keep_given_up", "forget_given_up", "refuse", "leave"),
        *("find", "newest", "open_vects", "find_pruned", "read_each"),
    }
)
"""What logs that were written for an earlier oautom, and inherit from nothing, may lack."""
IN_MEMORY: Final = ":memory:"
"""The path that means a log in memory, as it does to SQLite."""


class Given(NamedTuple):
    """The log that an app is given.

    Attributes:
        log: The log.
        is_ours: It is the app's to close.
        open: Opens it, before it is written for the first time.
    """

    log: EventLog
    is_ours: bool
    open: Callable[[], object]


def log_of(log: EventLog | str | os.PathLike[str] | None) -> Given:
    """Return the log that an app is given; a file is not opened by that.

    Args:
        log: None or `':memory:'` for memory, the path of a file, or a log.

    Raises:
        SettingError: It is none of these.
        LogError: There can be no file of this path.
    """
    if log is None or one_of(log, (IN_MEMORY,)):
        return Given(MemoryEventLog(), True, bool)
    if isinstance(log, str | os.PathLike):
        # sqlite3 takes some milliseconds to import, and not every program has a durable log
        from oautom.events.sqlite.writer import LateLog  # noqa: PLC0415

        late = LateLog(log)
        return Given(late, True, late.open)
    _check_is_log(log)
    return Given(log, False, partial(_check_is_written, log))


def _check_is_written(log: EventLog) -> None:
    """Refuse a log that takes no events.

    Raises:
        LogError: It is open for reading only.
    """
    if getattr(log, "is_read_only", False):
        raise LogError(
            f"{log!r} is open for reading only, and whoever runs flows writes to their log; give "
            "the app its path, or have the engine do it that runs them: log.ask(...)"
        )


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
