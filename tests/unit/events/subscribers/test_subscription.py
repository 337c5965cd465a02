"""Subscriptions: moments that only a log made for them meets."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from oautom import MemoryEventLog
from oautom.events.subscribers.subscription import Subscriptions
from tests.kit import started

SECONDS = 10


class BusyLog(MemoryEventLog):
    """Commits one more event just after its reader has found nothing new."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = Subscriptions(self, lambda name: None)
        self.is_armed = False

    def happen(self) -> None:
        self.append(None, started(self.last_seq + 1))
        for event in self.commit():
            self.hub.tell(None, event)

    def read(self, *args: Any, **settings: Any) -> Any:
        events = list(super().read(*args, **settings))
        if not events and self.is_armed and threading.current_thread() is not MAIN:
            self.is_armed = False
            self.happen()
        return iter(events)


MAIN = threading.main_thread()


@pytest.mark.parametrize("before", [0, 1])
def test_an_event_that_comes_after_the_look_and_before_the_wait_is_not_missed(before: int) -> None:
    log, heard = BusyLog(), threading.Event()
    for _ in range(before):
        log.happen()
    log.is_armed = True
    log.hub.open(lambda flow, event: heard.set(), "a", None, None)

    assert heard.wait(SECONDS)
    assert not log.is_armed
    log.hub.close()
