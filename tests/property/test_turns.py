"""Who is next of all that wait, against a list that is searched each time."""

from __future__ import annotations

from itertools import count
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from oautom.engine.messages import Poll
from oautom.engine.queue import ReadyQueue
from oautom.machine.graph import Graph
from oautom.machine.state import StepState, VectState

from .cases import moderate

KINDS: dict[str, dict[str, Any]] = {
    "a": {},
    "b": {"priority": 1},
    "c": {"priority": -1},
    "d": {"pool": ["one", 1]},
    "e": {"pool": ["one", 1], "priority": 2},
    "f": {"pool": ["two", 2]},
    "g": {"kind": "wait"},
    "h": {"kind": "flow", "pool": ["one", 1]},
    "i": {"pool": ["two", 2], "pool_slots": 2},
    "j": {"kind": "flow", "pool": ["two", 2], "pool_slots": 2},
    "k": {"pool": ["two", 2], "priority": 1},
}
"""What is unusual with the steps of a Vect; those of the last Vect have no options at all."""

Item = StepState | Poll
vects = st.integers(0, 2)
steps = st.sampled_from("".join(KINDS))
pools = st.sampled_from(["one", "two"])


class Waiting(RuleBasedStateMachine):
    """ReadyQueue, and a list of all that wait in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        graph = Graph(dict.fromkeys(KINDS, ()))
        self.vects = [VectState("f", str(n), graph, {}, KINDS if n < 2 else {}) for n in range(3)]
        self.queue, self.numbers = ReadyQueue(), count()
        self.waiting: list[Item] = []
        self.taken = {"one": 0, "two": 0}
        self.claims: list[Item] = []  # those that take several slots, and have lacked some

    def in_order(self, *, has_slot: bool) -> list[Item]:
        """Return all that could have a turn now, the next one first."""
        ranked = sorted(self.waiting, key=self.rank)
        ranked = [each for each in ranked if has_slot or self.is_held(each)]
        for each in ranked:
            if self.is_barred(each):
                continue
            if self.has_room(each):
                return [each]
            if self.options(each).get("pool_slots", 1) > 1 and each not in self.claims:
                self.claims.append(each)
        return []

    def is_barred(self, item: Item) -> bool:
        """Whether it comes after one that takes several slots of its pool, and lacks some."""
        pool, place = self.options(item).get("pool"), self.place(item)
        return any(
            self.options(each).get("pool") == pool and self.place(each) < place
            for each in self.claims
        )

    def place(self, item: Item) -> tuple[int, int]:
        return self.rank(item)[1], self.waiting.index(item)

    def options(self, item: Item) -> dict[str, Any]:
        return {} if isinstance(item, Poll) else dict(item.options)

    def is_held(self, item: Item) -> bool:
        return "kind" in self.options(item)

    def rank(self, item: Item) -> tuple[bool, int]:
        is_held = self.is_held(item)
        return not is_held, 0 if is_held else -self.options(item).get("priority", 0)

    def has_room(self, item: Item) -> bool:
        pool = self.options(item).get("pool")
        takes = self.options(item).get("pool_slots", 1)
        return pool is None or self.taken[pool[0]] + takes <= pool[1]

    @rule(vect=vects, step=steps)
    def add(self, vect: int, step: str) -> None:
        added = self.vects[vect].steps[step]
        self.queue.add(added)
        if not added.vect.options or added not in self.waiting:
            self.waiting.append(added)

    @rule()
    def poll(self) -> None:
        self.waiting.append(Poll(("v", "s", next(self.numbers))))
        self.queue.add_poll(self.waiting[-1])

    @rule(has_slot=st.sampled_from([True, True, False]))
    def take(self, has_slot: bool) -> None:
        could = self.in_order(has_slot=has_slot)
        assert self.queue.size or not could
        taken = self.queue.take(has_slot=has_slot)
        assert taken is (could[0] if could else None)
        if taken is not None:
            self.waiting.remove(taken)
            self.claims = [each for each in self.claims if each is not taken]
        elif has_slot:
            assert self.queue.size == 0

    @rule(pool=pools)
    def take_slot(self, pool: str) -> None:
        self.queue.take_slot(pool, (self.taken[pool],))
        self.taken[pool] += 1

    @rule(pool=pools)
    def free_slot(self, pool: str) -> None:
        self.taken[pool] = max(0, self.taken[pool] - 1)
        self.queue.free_slot(pool, (self.taken[pool],))
        assert self.queue.taken().get(pool, 0) == self.taken[pool]

    @rule(vect=vects)
    def forget(self, vect: int) -> None:
        gone = self.vects[vect]
        self.queue.forget(gone)
        self.waiting = [x for x in self.waiting if isinstance(x, Poll) or x.vect is not gone]
        self.claims = [x for x in self.claims if isinstance(x, Poll) or x.vect is not gone]

    def teardown(self) -> None:
        for pool in self.taken:
            while self.taken[pool]:
                self.free_slot(pool)
        while self.waiting:
            self.take(has_slot=True)
        assert self.queue.take(has_slot=True) is None
        assert self.queue.size == 0


TestWaiting = Waiting.TestCase
TestWaiting.settings = moderate
