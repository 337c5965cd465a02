"""Subscribers: what hears of events, by a signal or by a subscription."""

from oautom.events.subscribers.subscription import Subscription

__all__ = ["Subscription"]
