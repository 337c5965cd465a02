"""Whose turn it is: starts that are due, and polls, wait here for a free slot.

First come, first served, but for steps of a higher priority, which are served first, and for those
whose pool is full: they let others by, and are the next of their priority when it has room again.
Used on the scheduler's thread only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any

from oautom.events.event import Event
from oautom.events.fold import StepState, VectState
from oautom.messages import Poll
from oautom.states import HELD

Item = StepState | Poll


class Turns:
    """What waits for a slot.

    Attributes:
        size: How many wait, without those whose pool is full.
        is_held: Nobody gets a turn: what an old life has left is closed first, or all is ended.
    """

    def __init__(self) -> None:
        self.size = 0
        self.is_held = False
        self._plain: deque[Item] = deque()
        self._by_priority: dict[int, deque[Item]] = {0: self._plain}  # highest first
        self._is_plain = True  # nobody has ever waited who has a priority, a pool, or needs no slot
        self._known: set[Item] = set()  # who waits, but for the plain: each only once
        self._slotless: deque[Item] = deque()
        self._queues = [self._slotless, self._plain]  # in the order in which they are served
        self._parked: dict[str, list[tuple[deque[Item], StepState]]] = {}  # by the full pool
        self._taken: dict[str, set[Hashable]] = {}  # by the pool, who has its slots

    def add_poll(self, poll: Poll) -> None:
        """Have a poll wait for its turn."""
        self.size += 1
        self._plain.append(poll)

    def add(self, step: StepState) -> None:
        """Have a step wait for its turn."""
        self.size += 1
        if step.vect.options:
            self._add(step, step.options)
        else:
            self._plain.append(step)

    def _add(self, step: StepState, options: Mapping[str, Any]) -> None:
        if step in self._known:  # more of its upstreams have ended since
            self.size -= 1
            return
        self._known.add(step)
        self._is_plain = False
        if step.kind in HELD:
            self._slotless.append(step)
            return
        priority = options.get("priority", 0)
        if priority not in self._by_priority:
            self._by_priority[priority] = deque()
            self._by_priority = dict(sorted(self._by_priority.items(), reverse=True))
            self._queues = [self._slotless, *self._by_priority.values()]
        self._by_priority[priority].append(step)

    def take(self, *, has_slot: bool) -> Item | None:
        """Take out whose turn it is, or None if nobody can have one now.

        Somebody waits, whether or not anybody can have a turn.

        Args:
            has_slot: Whether a worker is free, which nearly all need.
        """
        if self._is_plain:
            if not has_slot:
                return None
            self.size -= 1
            return self._plain.popleft()
        for queue in self._queues if has_slot else (self._slotless,):
            if queue and (taken := self._first_of(queue)) is not None:
                self.size -= 1
                self._known.discard(taken)
                return taken
        return None

    def _first_of(self, queue: deque[Item]) -> Item | None:
        """Take out the first whose pool has room; those before it let others by."""
        while queue:
            item = queue.popleft()
            if not isinstance(item, StepState) or item.kind == "map":
                return item
            pool = item.options.get("pool")
            if pool is None or len(self._taken.get(pool[0], ())) < pool[1]:
                return item
            self._parked.setdefault(pool[0], []).append((queue, item))
            self.size -= 1
        return None

    def ahead_of(self, step: StepState) -> tuple[int, int]:
        """Return how many are served before a step that waits, and how many are of higher rank."""
        higher = 0
        for queue in self._by_priority.values():
            if step in queue:
                return higher + queue.index(step), higher
            higher += len(queue)
        return 0, 0

    def taken(self) -> Mapping[str, int]:
        """Return how many slots of each pool are taken, by its name."""
        return {pool: len(steps) for pool, steps in self._taken.items()}

    def forget(self, vect: VectState) -> None:
        """Let go of the steps of a Vect that nothing shall start of, for now or for good."""
        for queue in self._queues:
            kept = [x for x in queue if not isinstance(x, StepState) or x.vect is not vect]
            self._known.difference_update(set(queue).difference(kept))
            self.size -= len(queue) - len(kept)
            queue.clear()
            queue.extend(kept)
        for pool, parked in self._parked.items():
            self._known.difference_update(step for _, step in parked if step.vect is vect)
            self._parked[pool] = [each for each in parked if each[1].vect is not vect]

    def hear(self, step: StepState, event: Event) -> None:
        """Count the slots of a pool: a step of a flow with pools has made this event."""
        pool = step.options.get("pool")
        if pool is None or event.source == event.dest or step.kind == "map":
            return
        if event.dest == "running":
            self.take_slot(pool[0], step)
        elif event.source == "running":
            self.free_slot(pool[0], step)

    def inherit(self, vect: VectState) -> None:
        """Count the slots that the steps of a Vect have had since a life before."""
        for step in vect.steps.values() if vect.has_pools else ():
            if step.state == "running" and step.kind == "flow" and "pool" in step.options:
                self.take_slot(step.options["pool"][0], step)

    def take_slot(self, pool: str, holder: Hashable) -> None:
        """Take note that somebody has a slot of a pool."""
        self._taken.setdefault(pool, set()).add(holder)

    def free_slot(self, pool: str, holder: Hashable) -> None:
        """Take note that somebody has a slot no more, and let those have a turn who wait for it."""
        self._taken.get(pool, set()).discard(holder)  # it has none if a dead program ran it
        for queue, parked in reversed(self._parked.pop(pool, [])):
            queue.appendleft(parked)
            self.size += 1
