"""Events, the log that keeps them, and the signals that carry them."""

from oautom.events import signals
from oautom.events.event import Event
from oautom.events.log import EventLog, MemoryEventLog
from oautom.events.replay import replay

__all__ = ["Event", "EventLog", "MemoryEventLog", "replay", "signals"]
