"""The `log` argument of an app: a log in memory, a file, or an object of the user's."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, cast

from oautom.errors import LogError, SettingError, shown
from oautom.events.log import ESSENTIAL, EventLog, has_own
from oautom.events.memory import MemoryEventLog
from oautom.values.json import plain_count
from oautom.values.names import has_members, one_of

IN_MEMORY: Final = ":memory:"
"""The path that means a log in memory, as it does to SQLite."""


class Given(NamedTuple):
    """The log of an app.

    Attributes:
        given: The log as the user sees it.
        log: The same log; or, if it does not inherit from `EventLog`, one that calls it.
        is_ours: Whether the app closes it.
        open: Opens it, before it is written for the first time.
    """

    given: EventLog
    log: EventLog
    is_ours: bool
    open: Callable[[], object]


def log_of(log: EventLog | str | os.PathLike[str] | None) -> Given:
    """Return the log for an argument `log`; a file is not opened yet.

    Args:
        log: None or `':memory:'` for memory, the path of a file, or a log.

    Raises:
        SettingError: The argument is none of these.
        LogError: There can be no file of this path.
    """
    if log is None or one_of(log, (IN_MEMORY,)):
        memory = MemoryEventLog()
        return Given(memory, memory, True, bool)
    if isinstance(log, str | os.PathLike):
        # sqlite3 takes some milliseconds to import, and not every program has a durable log
        from oautom.events.sqlite.writer import LateLog  # noqa: PLC0415

        late = LateLog(log)
        return Given(late, late, True, late.open)
    return Given(log, _own_log(log), False, partial(_check_is_written, log))


def _check_is_written(log: EventLog) -> None:
    """Refuse a log that takes no events.

    Raises:
        LogError: The log is open for reading only.
    """
    if getattr(log, "is_read_only", False):
        raise LogError(
            f"{log!r} is open for reading only, and an app writes to its log; give the app the "
            "path, or send a request to the engine that runs the flows: log.ask(...)"
        )


def _own_log(log: Any) -> EventLog:
    """Return a log of the user's with all members that the engine needs.

    Raises:
        SettingError: The object is no log, or lacks a member that a log must define itself.
    """
    is_adopted = not isinstance(log, EventLog)
    if isinstance(log, type) or (is_adopted and not has_members(log, "append", "commit")):
        raise SettingError(f"log must be None, a path or an EventLog, not {shown(log)}")
    kind = type(log)
    if missing := [name for name in ESSENTIAL if not has_own(log, name)]:
        raise SettingError(
            f"the log {shown(log)} has no {' and no '.join(missing)}, which every log needs; "
            f"define it in class {kind.__name__}"
        )
    numbers, methods = ESSENTIAL[:2], ESSENTIAL[2:]
    for name in methods:
        if not callable(getattr(log, name)):
            raise SettingError(f"{name} of the log {shown(log)} must be a method")
    for name in numbers:
        if plain_count(number := getattr(log, name), 0) is None:
            raise SettingError(
                f"{name} of the log {shown(log)} must be the number of an event, from 0, not "
                f"{shown(number)}"
            )
    # Of its own class for the sake of errors, which name the class of the log.
    return type(kind.__name__, (_Adopted,), {})(log) if is_adopted else cast("EventLog", log)


class _Adopted(EventLog):
    """A log around an object that does not inherit from `EventLog`: it adds the missing members.

    Args:
        log: The log.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        for name in vars(EventLog).keys() - {"id"}:
            if name[0] != "_" and hasattr(log, name):
                setattr(self, name, getattr(log, name))

    @property
    def last_seq(self) -> int:
        """As the log has it by now."""
        return cast("int", self._log.last_seq)

    @property
    def committed_seq(self) -> int:
        """As the log has it by now."""
        return cast("int", self._log.committed_seq)

    @property
    def id(self) -> str | None:
        """The identity of the log; None if it has none."""
        return getattr(self._log, "id", None)

    def __repr__(self) -> str:
        """Return the `repr()` of the log."""
        return repr(self._log)
