"""Subscribers: what hears of events, by a signal or by a subscription."""

from oautom.events.subscribers.logging import log_events
from oautom.events.subscribers.subscription import Subscription

__all__ = ["Subscription", "log_events"]
