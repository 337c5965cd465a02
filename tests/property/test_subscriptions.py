"""Whatever fails and whenever the program dies: each event is delivered at least once, in order."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oautom import Event, MemoryEventLog, Subscription, SubscriptionFailingError
from oautom.engine.clock import SystemClock
from oautom.events.subscribers.subscription import Subscriptions

from .cases import moderate

NAMES = ("step.started", "step.succeeded", "step.failed")
NOW = SystemClock().now()

End = Literal["close", "close the app", "die"]


@dataclass(frozen=True)
class Life:
    """What happens in one run of the program: how many events are appended, committed or not.

    Attributes:
        before: Of each tick before the subscription is made, how many events it appends.
        ticks: The same, from then on; the last tick is not committed if the program dies.
        waits: After which ticks the program waits for the subscription.
        dies_at: After how many calls it dies; it dies at its end at the latest, if it does.
    """

    before: tuple[int, ...]
    ticks: tuple[int, ...]
    waits: frozenset[int]
    end: End
    dies_at: int


lives = st.builds(
    Life,
    before=st.lists(st.integers(1, 4), max_size=2).map(tuple),
    ticks=st.lists(st.integers(1, 60), max_size=4).map(tuple),
    waits=st.frozensets(st.integers(0, 3)),
    end=st.sampled_from(["close", "close the app", "die"]),
    dies_at=st.integers(0, 130),
)


class Program:
    """A log, a subscription to it, and a list of the calls of each life."""

    def __init__(
        self, wanted: Iterable[str] | None, failures: Counter[int], give_up_after: int | None
    ) -> None:
        self.wanted = wanted
        self.failures = failures
        self.give_up_after = give_up_after
        self.heard: set[int] = set()
        self.log = MemoryEventLog()
        self.first: int | None = None
        self.calls: list[list[int]] = []
        self.kept: list[int] = []
        self._is_dead = threading.Event()

    def live(self, life: Life) -> None:
        self.calls.append([])
        self._is_dead.clear()
        log = self.log
        keep = log.keep_position

        def keep_while_alive(name: str, seq: int) -> None:
            if not self._is_dead.is_set():
                keep(name, seq)
                self.kept.append(seq)

        log.keep_position = keep_while_alive  # type: ignore[method-assign]
        hub = Subscriptions(log, lambda name: None, delays=(0,))
        for number in life.before:
            self._tick(hub, number)
        if self.first is None:
            self.first = log.last_seq
        log.append(None, self._next_event())  # a tick is under way
        subscription = hub.open(self._hear(life), "name", self.wanted, None, self.give_up_after)
        self._commit(hub)
        for tick, number in enumerate(life.ticks):
            self._tick(hub, number)
            if tick in life.waits:
                self._wait(subscription)
        if life.end == "die":
            self._is_dead.set()
            log.append(None, self._next_event())
        if life.end == "close":
            subscription.close()
        hub.close()
        self.log = self._what_is_left()

    def _hear(self, life: Life) -> Any:
        calls = self.calls[-1]

        def hear(flow: object, event: Event) -> None:
            if life.end == "die" and len(calls) >= life.dies_at:
                self._is_dead.set()
            if self._is_dead.is_set():
                return  # what a program that has died would not have done
            calls.append(event.seq)
            if self.failures[event.seq] > 0:
                self.failures[event.seq] -= 1
                raise ConnectionError("away")
            self.heard.add(event.seq)

        return hear

    def _wait(self, subscription: Subscription) -> None:
        while True:
            try:
                assert subscription.wait(10)
            except SubscriptionFailingError:  # each failure has an end here
                continue
            return

    def _next_event(self) -> Event:
        seq = self.log.last_seq + 1
        name = NAMES[seq % 3]
        return Event(seq, NOW, "f", "v", "s", 1, name, "pending", "running", MappingProxyType({}))

    def _tick(self, hub: Subscriptions, number: int) -> None:
        for _ in range(number):
            self.log.append(None, self._next_event())
        self._commit(hub)

    def _commit(self, hub: Subscriptions) -> None:
        for event in self.log.commit():
            hub.tell(None, event)

    def _what_is_left(self) -> MemoryEventLog:
        """Return what is on disk: what was committed, and the position kept."""
        log = MemoryEventLog()
        for event in self.log.read():
            log.append(None, event)
        log.commit()
        if (position := self.log.position("name")) is not None:
            log.keep_position("name", position)
        for given_up in self.log.given_up("name"):
            log.keep_given_up("name", given_up)
        return log

    def redeliver_all(self) -> None:
        self.calls.append([])
        hub = Subscriptions(self.log, lambda name: None)
        life = Life((), (), frozenset(), "close", 0)
        with hub.open(self._hear(life), "name", self.wanted, None) as subscription:
            for given_up in subscription.given_up():
                assert subscription.redeliver(given_up.seq)
            assert subscription.given_up() == []


@moderate
@given(
    st.lists(lives, min_size=1, max_size=5),
    st.none() | st.sets(st.sampled_from(NAMES), min_size=1),
    st.dictionaries(st.integers(1, 60), st.integers(1, 7), max_size=12),
    st.none() | st.integers(1, 4),
)
def test_every_event_is_delivered_at_least_once_and_in_order_per_life(
    all_lives: list[Life],
    wanted: set[str] | None,
    failures: dict[int, int],
    give_up_after: int | None,
) -> None:
    program = Program(wanted, Counter(failures), give_up_after)
    for life in all_lives:
        program.live(life)
    program.failures.clear()
    program.live(Life((), (), frozenset(), "close the app", 0))  # one that ends well

    events = [e.seq for e in program.log.read() if wanted is None or e.name in wanted]
    assert program.first is not None
    assert {seq for seq in events if seq > program.first} == {
        seq for calls in program.calls for seq in calls
    }
    for calls in program.calls:
        assert calls == sorted(calls)
        heard = sorted(set(calls))
        assert heard == [seq for seq in events if heard and heard[0] <= seq <= heard[-1]]
        for seq, times in Counter(calls).items():
            assert times <= failures.get(seq, 0) + 1
            assert give_up_after is None or times <= give_up_after
    assert program.kept == sorted(program.kept)
    assert all(earlier < later for earlier, later in pairwise(program.kept))
    assert program.kept[-1:] in ([], [program.log.last_seq])
    given_up = {each.seq for each in program.log.given_up("name")}
    assert given_up <= (failures.keys() if give_up_after is not None else set())
    assert {seq for seq in events if seq > program.first} == program.heard | given_up
    program.redeliver_all()
    assert {seq for seq in events if seq > program.first} == program.heard


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(100, logger="oautom.subscribers")
