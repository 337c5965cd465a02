"""Events, the logs that store them, and the signals that carry them."""

from typing import TYPE_CHECKING, Any

from oautom.events import signals
from oautom.events.log import EventLog, GivenUp, PrunedVect, VectEntry
from oautom.events.memory import MemoryEventLog
from oautom.events.requests import Request
from oautom.machine.event import Event
from oautom.machine.state import replay

if TYPE_CHECKING:
    from oautom.events.sqlite import SqliteEventLog

__all__ = [
    "Event",
    "EventLog",
    "GivenUp",
    "MemoryEventLog",
    "PrunedVect",
    "Request",
    "SqliteEventLog",
    "VectEntry",
    "replay",
    "signals",
]


def __getattr__(name: str) -> Any:
    """Import SQLite only at its first use, so that a program with a log in memory starts faster."""
    if name == "SqliteEventLog":
        from oautom.events.sqlite import SqliteEventLog  # noqa: PLC0415

        return SqliteEventLog
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
