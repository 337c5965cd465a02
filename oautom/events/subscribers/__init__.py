"""Subscribers: functions that are called for events, by a signal or by a subscription."""

from oautom.events.subscribers.cloudevents import CloudEventsWriter
from oautom.events.subscribers.logging import log_events
from oautom.events.subscribers.subscription import Subscription

__all__ = ["CloudEventsWriter", "Subscription", "log_events"]
