"""Claims: what keeps a step that takes several slots of a pool from being starved. Pure.

Steps that take one slot start as soon as one is free. If they did so without end, a step that needs
eight would never find eight of them free. So from the moment at which its turn comes, and its pool
has too few free slots, such a step has a *claim*: no later turn of an equal or lower priority takes
slots of the pool before it. What the claim waits for is then only what runs already, earlier turns,
and turns of a higher priority.

There is one exception, without which a claim could wait for itself: a step that has slots may wait
for the end of a Vect, its child for example, whose steps need slots of the same pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from oautom.engine.messages import Poll
from oautom.machine.state import Group, StepState, VectState

Item = StepState | Poll


class Turn(NamedTuple):
    """A place in the queue, in the order of serving: no two have one ticket."""

    needs_slot: bool
    rank: int
    place: tuple[int, ...]
    ticket: int
    item: Item


class Claims:
    """The turns with a claim, by their pool. Used on the scheduler's thread only."""

    def __init__(self) -> None:
        self._of: dict[Group, dict[Turn, bool]] = {}  # and whether the turn is set aside

    def __bool__(self) -> bool:
        """Whether there is a claim."""
        return bool(self._of)

    def __iter__(self) -> Iterator[tuple[Turn, Group, bool]]:
        """Yield each claim, its pool, and whether its turn is set aside."""
        for pool, turns in self._of.items():
            yield from ((turn, pool, is_aside) for turn, is_aside in turns.items())

    def stake(self, pool: Group, turn: Turn) -> None:
        """Set a turn aside until its pool has more free slots, and give it a claim."""
        self._of.setdefault(pool, {})[turn] = True

    def drop(self, turn: Turn) -> Group | None:
        """Remove the claim of a turn, and return its pool; None if the turn has no claim."""
        for pool, turns in self._of.items():
            if turns.pop(turn, None) is not None:
                if not turns:
                    del self._of[pool]
                return pool
        return None

    def bars(self, pool: Group, turn: Turn) -> bool:
        """Whether a turn comes after a claim to slots of the pool."""
        place = turn[1:3]
        return any(claim[1:3] < place for claim in self._of.get(pool, ()))

    def first(self, pool: Group) -> Item | None:
        """Return the item of the first claim to slots of a pool, if there is one."""
        claims = self._of.get(pool)
        return min(claims, key=lambda claim: claim[1:3]).item if claims else None

    def lift(self, pool: Group) -> list[Turn]:
        """Return the turns that are set aside until the pool has more free slots; no more are."""
        turns = self._of.get(pool, {})
        lifted = [turn for turn, is_aside in turns.items() if is_aside]
        turns.update(dict.fromkeys(lifted, False))
        return lifted

    def of(self, vect: VectState) -> list[Turn]:
        """Return the turns of a Vect that have a claim."""
        return [turn for turn, _, _ in self if _is_of(turn.item, vect)]

    def clear(self) -> None:
        """Remove all claims."""
        self._of.clear()


def _is_of(item: Item, vect: VectState) -> bool:
    return isinstance(item, StepState) and item.vect is vect
