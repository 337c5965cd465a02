"""The queue of due starts and polls that wait for a free slot.

It is first in, first out, with two exceptions: steps of a higher priority are served first; and
steps wait aside while their pool or map is full, or as many async steps of their flow run as may.
They let others pass, and have their place again when there is room. Only a pause or a cancel takes
a place away: so the order follows from the log, and not from when workers were free.
Depth first: an instance of a map that runs a flow begins only when a worker is free, and the steps
of its child stand at its place in the queue, before the next instance. So who has begun goes on,
and about as many children are open as there are workers.

Used on the scheduler's thread only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from threading import get_ident
from typing import Any, NamedTuple

from oautom.engine.inbox import WRONG_THREAD, Wheel
from oautom.engine.messages import Poll
from oautom.machine.event import Event
from oautom.machine.kinds import kind_of
from oautom.machine.state import Group, Limit, StepState, VectState, limits_of

Item = StepState | Poll
_RANKED = frozenset({"pool", "priority", "async", "max_parallel"})
Place = tuple[str, str, int]


class _Turn(NamedTuple):
    """A place in the queue, in the order of serving: no two have one ticket."""

    needs_slot: bool
    rank: int
    place: tuple[int, ...]
    ticket: int
    item: Item


def _plain_turn(ticket: int, item: Item) -> _Turn:
    return _Turn(True, 0, (ticket,), ticket, item)


class ReadyQueue:
    """The due steps that wait for a slot, in the order of their turns.

    Args:
        wheel: Knows the driving thread; None where a test calls it by hand.

    Attributes:
        size: How many items wait, without those whose pool is full.
        is_held: No item gets a turn: work of an earlier life is closed first, or all work is ended.
        is_draining: Starts have no place any more; polls have.
        vect_of: Returns the state of an open Vect; None for any other.
        looking: The item for which `take` checks whether there is room; None if it has found one.
    """

    def __init__(self, wheel: Wheel | None = None) -> None:
        self._wheel = wheel or Wheel()
        self.size = 0
        self.is_held = False
        self.is_draining = False
        self.vect_of: Callable[[str], VectState | None] = _none_of
        self.looking: Item | None = None
        self._plain: deque[tuple[int, Item]] = deque()  # by ticket: no priority, no pool
        self._turns: list[_Turn] = []  # all others: a heap
        self._tickets = count()
        # By Vect, for those that have any: the place of each of its maps of flows, once asked for;
        # and by the empty name the place of the instance that it is the child of.
        self._places: dict[str, dict[str, tuple[int, ...]]] = {}
        self._known: dict[Item, int] = {}  # the ticket of an item, in flows with options
        self._gone: dict[str, int] = {}  # by Vect: its turns before this ticket are void
        self._parked: dict[
            Group, dict[int, list[_Turn]]
        ] = {}  # heaps, by the full group and its size
        self._taken: dict[Group, set[tuple[Any, ...]]] = {}  # by the pool, the holders of its slots

    def drain(self) -> None:
        """Remove all waiting starts, for good; polls keep their turns."""
        assert self._wheel.thread in (None, get_ident()), WRONG_THREAD
        self.is_draining = True
        for waiting in (self._turns, self._parked, self._known, self._gone):
            waiting.clear()
        self._plain = deque(each for each in self._plain if isinstance(each[1], Poll))
        self.size = len(self._plain)

    def add_poll(self, poll: Poll) -> None:
        """Add a poll."""
        self.size += 1
        self._plain.append((next(self._tickets), poll))

    def add(self, step: StepState) -> None:
        """Add a step that is due to start."""
        if self.is_draining:
            return
        if step.vect.options or step.vect.parent is not None:
            self._add(step, step.options)
        else:
            self.size += 1
            self._plain.append((next(self._tickets), step))

    def _add(self, step: StepState, options: Mapping[str, Any]) -> None:
        if (known := self._known.get(step)) is not None and not self._is_gone(known, step):
            return  # it waits already: another upstream has ended
        self.size += 1
        ticket, within = next(self._tickets), self._place_of_child(step.vect)
        self._known[step] = ticket
        if step.kind == "flow" and step.parent is not None:
            own = self._place_of_instance(step, step.parent)
            heappush(self._turns, _Turn(True, own[0], own[1:], ticket, step))
            return
        if step.needs_worker and not within and options.keys().isdisjoint(_RANKED):
            self._plain.append((ticket, step))
            return
        rank = -options.get("priority", 0) if kind_of(step.kind).needs_worker else 0
        own = (*within, rank, ticket)
        heappush(self._turns, _Turn(step.needs_worker, own[0], own[1:], ticket, step))

    def _place_of_instance(self, step: StepState, parent: StepState) -> tuple[int, ...]:
        """Return the rank and place of an instance that runs a flow: behind those before it.

        A map has a place from the time when one of its instances waits: so it follows from the log
        of its Vect alone.
        """
        of_vect = self._places.setdefault(step.vect.id, {})
        if parent.name not in of_vect:
            of_vect[parent.name] = self._place_of_map(parent)
        return (*of_vect[parent.name], step.index)

    def _place_of_map(self, step: StepState) -> tuple[int, ...]:
        within = self._place_of_child(step.vect)
        return (*within, -step.options.get("priority", 0), next(self._tickets))

    def _place_of_child(self, vect: VectState) -> tuple[int, ...]:
        """Return the rank and place of the nearest instance that a Vect runs for; or nothing.

        A child that a person has retried runs for itself.
        """
        if vect.parent is None or vect.is_reopened:
            return ()
        of_vect = self._places.setdefault(vect.id, {})
        if "" not in of_vect:
            above, name, _ = vect.parent
            state = self.vect_of(above)
            step = None if state is None else state.steps.get(name)
            of_vect[""] = () if step is None else self._place_below(step)
        return of_vect[""]

    def _place_below(self, step: StepState) -> tuple[int, ...]:
        """Return the place of the child that a step runs."""
        if (parent := step.parent) is None:
            return self._place_of_child(step.vect)
        known = self._places.get(step.vect.id, {}).get(parent.name)
        return (*(known or self._place_of_map(parent)), step.index)

    def let_go(self, vect: str) -> None:
        """Forget the places of a Vect that has ended."""
        self._places.pop(vect, None)

    def take(self, *, has_slot: bool) -> Item | None:
        """Remove and return the next item, or None if none can have a turn now.

        The queue must not be empty; but perhaps none of its items can have a turn.

        Args:
            has_slot: Whether a worker is free; nearly all items need one.
        """
        assert self._wheel.thread in (None, get_ident()), WRONG_THREAD
        while True:
            turns, plain = self._turns, self._plain
            is_ranked = bool(turns) and (has_slot or not turns[0].needs_slot)
            is_ranked = is_ranked and not (plain and turns[0] > (True, 0, (plain[0][0],)))
            if is_ranked:
                turn = heappop(turns)
            elif has_slot and plain:
                turn = _plain_turn(*plain.popleft())
            else:
                return None
            _, _, _, ticket, item = turn
            self.size -= 1
            self.looking = item
            limits = _limits_of(item) if is_ranked else ()
            if self._gone and self._is_gone(ticket, item):
                for group, _ in limits:
                    self._unpark(group)  # it may be the one that was to check for all
            elif not limits or not self._park(turn, limits):
                self.looking = None
                if self._known:
                    self._known.pop(item, None)
                return item

    def _park(self, turn: _Turn, limits: Sequence[Limit]) -> bool:
        """Set a turn aside if a group has no room for it; return False if all have room."""
        full: Group | None = None
        for group, slots in limits:
            if not self._may_start(turn.item, group, slots):
                full = group
                heappush(self._parked.setdefault(group, {}).setdefault(slots, []), turn)
                break
        for group, _ in limits:
            if group != full:
                self._unpark(group)  # the next one may use the room that this one leaves
        return full is not None

    def _may_start(self, item: Item, group: Group, slots: int) -> bool:
        limited = _map_of(item)
        if limited is not None and group == _group_of(limited):
            return limited.mapped is None or limited.mapped.has_room
        return self._has_room(group, slots)

    def _has_room(self, pool: Group, slots: int) -> bool:
        return len(self._taken.get(pool, ())) < slots

    def _unpark(self, pool: Group) -> None:
        """Let the next turn that waits for a pool check its room; the others come after it."""
        if pool not in self._parked:
            return
        of_size = self._parked.pop(pool)
        for parked in of_size.values():
            heappush(self._turns, heappop(parked))
            self.size += 1
        if left := _not_empty(of_size):
            self._parked[pool] = left

    def ahead_of(self, step: StepState) -> tuple[int, int]:
        """Return how many are served before a waiting step, and how many of these rank higher."""
        turns = [*self._turns, *(_plain_turn(*each) for each in self._plain)]
        turns = [turn for turn in turns if not self._is_gone(turn.ticket, turn.item)]
        own = next((turn for turn in turns if turn.item is step), None)
        if own is None:
            return 0, 0
        ahead = [turn.rank for turn in turns if turn.needs_slot and turn < own]
        return len(ahead), sum(rank < own.rank for rank in ahead)

    def taken(self) -> Mapping[Group, int]:
        """Return how many slots of each pool are taken, and how many async steps of a flow run."""
        return {pool: len(steps) for pool, steps in self._taken.items()}

    def facts(self) -> tuple[object, ...]:
        """Return all that decides the order of turns: the waiting items, and the taken slots.

        Plain values, for comparisons. The items are in the order of serving, each with the group
        that it waits for.
        """
        waiting: list[tuple[_Turn, object]] = [(turn, None) for turn in self._turns]
        waiting += [(_plain_turn(*each), None) for each in self._plain]
        for group, of_size in self._parked.items():
            for slots, turns in of_size.items():
                waiting += [(turn, (group, slots)) for turn in turns]
        waiting = [each for each in waiting if not self._is_gone(each[0].ticket, each[0].item)]
        line = sorted(waiting, key=lambda each: each[0][:-1])
        taken = frozenset((group, frozenset(who)) for group, who in self._taken.items() if who)
        return (*((_holder(turn.item), where) for turn, where in line), taken)

    def forget(self, vect: VectState) -> None:
        """Remove the steps of a Vect that must not start, for now or for good.

        A search among all waiting steps would make thousands of cancels cost the square of their
        number. So the steps are skipped when their turn comes, and swept out when they may be many.
        """
        self._gone[vect.id] = next(self._tickets)
        if vect.id in self._places:
            own = self._places[vect.id]
            self._places[vect.id] = {"": own[""]} if "" in own else {}
        if 2 * len(self._gone) > len(self._known) + len(self._plain):
            self._sweep()

    def give_up(self, vect: str, at_work: Collection[tuple[str, str]]) -> None:
        """Remove the steps of a Vect with which the engine cannot go on, and free their slots.

        It calls as little as it can: a bug in the rest of this class may be the reason for the
        call.

        Args:
            vect: The id of the Vect.
            at_work: Its steps that are still at work, and keep their slots.
        """
        self._gone[vect] = next(self._tickets)
        self._sweep()
        for pool, holders in self._taken.items():
            gone = {each for each in holders if each[0] == vect and each not in at_work}
            if gone:
                holders.difference_update(gone)
                self._unpark(pool)

    def _is_gone(self, ticket: int, item: Item) -> bool:
        return isinstance(item, StepState) and ticket < self._gone.get(item.vect.id, 0)

    def _sweep(self) -> None:
        parked = [heap for of_size in self._parked.values() for heap in of_size.values()]
        for turns in (self._turns, *parked):
            turns[:] = [turn for turn in turns if not self._is_gone(turn.ticket, turn.item)]
            heapify(turns)
        plain = (each for each in self._plain if not self._is_gone(*each))
        self._plain = deque(plain)
        self._known = {
            i: ticket for i, ticket in self._known.items() if not self._is_gone(ticket, i)
        }
        self._gone.clear()
        self.looking = None
        self.size = len(self._turns) + len(self._plain)
        self._parked = {pool: left for pool, of in self._parked.items() if (left := _not_empty(of))}
        for pool in list(self._parked):  # one that was to check for all may be gone
            self._unpark(pool)

    def hear(self, step: StepState, event: Event, *, is_at_work: bool) -> None:
        """Take or free the slots of a step in a flow with limits, by an event of the step.

        Args:
            step: The step.
            event: The event of the step.
            is_at_work: Its attempt is still at work, though it may be over: it keeps its slot.
        """
        if event.source == event.dest:
            return
        if event.dest == "running":
            self._take_slots(step)
        elif event.source == "running":
            if not is_at_work:
                self._free_slots(step)
            if (limited := _map_of(step)) is not None:
                self._unpark(_group_of(limited))

    def set_free(self, step: StepState, *, is_stranded: bool = False) -> None:
        """Free the slots of a step whose attempt is not at work any more.

        Args:
            step: The step; it keeps them while it runs.
            is_stranded: Its Vect does not go on: the step does not run, whatever its state is.
        """
        if step.state != "running" or is_stranded:
            self._free_slots(step)

    def recount(self, vect: VectState, holds: Callable[[Place], bool]) -> None:
        """Count the slots of the steps of a Vect anew: some events were taken back.

        Args:
            vect: The Vect in its present state.
            holds: Whether an attempt is at work: Vect, step and number.
        """
        for step in vect.steps.values() if vect.has_limits else ():
            if step.state == "running" or holds((*_place_of(step), step.attempt)):
                self._take_slots(step)
            else:
                self._free_slots(step)

    def _take_slots(self, step: StepState) -> None:
        for group, _ in _pools_of(step):
            self.take_slot(group, _place_of(step))

    def _free_slots(self, step: StepState) -> None:
        for group, _ in _pools_of(step):
            self.free_slot(group, _place_of(step))

    def groups_of(self, holder: tuple[Any, ...]) -> list[Group]:
        """Return the groups in which a holder has a slot."""
        return [group for group, holders in self._taken.items() if holder in holders]

    def take_over(self, vect: VectState) -> None:
        """Count the slots that steps of a Vect have had since an earlier life."""
        for step in vect.steps.values():
            if step.state == "running" and step.kind == "flow":
                self._take_slots(step)

    def take_slot(self, pool: Group, holder: tuple[Any, ...]) -> None:
        """Note that a holder has a slot of a pool."""
        self._taken.setdefault(pool, set()).add(holder)

    def free_slot(self, pool: Group, holder: tuple[Any, ...]) -> None:
        """Note that a holder has left its slot of a pool, and let the next item check its room."""
        self._taken.get(pool, set()).discard(holder)  # no slot if an earlier program ran it
        self._unpark(pool)


def _limits_of(item: Item) -> Sequence[Limit]:
    """Return the groups in which an item needs room, each with its size."""
    if not isinstance(item, StepState):
        return ()
    limited = _map_of(item)
    if limited is None:
        return _pools_of(item)
    return [*_pools_of(item), (_group_of(limited), item.options["max_parallel"])]


def _pools_of(step: StepState) -> Sequence[Limit]:
    """Return the pools in which a step needs a slot, each with its size; a map needs none."""
    return () if step.kind == "map" else limits_of(step.vect.flow, step.options)


def _map_of(item: Item) -> StepState | None:
    """Return the map of an instance, if the map has a limit."""
    if not isinstance(item, StepState) or "max_parallel" not in item.options:
        return None
    return item.parent


def _group_of(step: StepState) -> Group:
    """Return the group of the instances of a map, which has a limit."""
    return ("map", *_place_of(step))


def _not_empty(of_size: dict[int, list[_Turn]]) -> dict[int, list[_Turn]]:
    return {slots: parked for slots, parked in of_size.items() if parked}


def _none_of(vect: str) -> VectState | None:
    """Return no state: where no other Vect is known."""
    return None


def _place_of(step: StepState) -> tuple[str, str]:
    return step.vect.id, step.name


def _holder(item: Item) -> Hashable:
    return _place_of(item) if isinstance(item, StepState) else item
