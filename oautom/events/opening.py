"""Which log an app is given: one in memory, a file, or an object of the user's."""

from __future__ import annotations

import os

from oautom.errors import SettingError
from oautom.events.log import EventLog, MemoryEventLog
from oautom.values import has_members


def open_log(log: EventLog | str | os.PathLike[str] | None) -> tuple[EventLog, bool]:
    """Return the log that an app is given, and whether it is the app's to close.

    Args:
        log: None for memory, the path of a file, or a log.

    Raises:
        SettingError: It is none of these.
        LogError: The file cannot be opened.
    """
    if log is None:
        return MemoryEventLog(), True
    if isinstance(log, str | os.PathLike):
        # sqlite3 takes some milliseconds to import, and not every program has a durable log
        from oautom.events.sqlite import SqliteEventLog  # noqa: PLC0415

        return SqliteEventLog(log), True
    if not has_members(log, *(name for name in vars(EventLog) if name[0] != "_")):
        raise SettingError(f"log must be None, a path or an EventLog, not {log!r}")
    return log, False
