"""The queue of due starts and polls that wait for a free slot.

It is first in, first out, with two exceptions: steps of a higher priority are served first; and
steps wait aside while their pool or map is full, or as many async steps of their flow run as may.
They let others pass, and have their place again when there is room (but see `claims`, for steps
that take several slots). Only a pause or a cancel takes
a place away: so the order follows from the log, and not from when workers were free.
Depth first: an instance of a map that runs a flow begins only when a worker is free, and the steps
of its child stand at its place in the queue, before the next instance. So who has begun goes on,
and about as many children are open as there are workers.

Used on the scheduler's thread only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from heapq import heapify, heappop, heappush
from itertools import count
from threading import get_ident
from typing import Any, Final

from oautom.engine.claims import Claims, Item, Turn
from oautom.engine.inbox import WRONG_THREAD, Wheel
from oautom.engine.messages import Poll
from oautom.engine.rates import Rates
from oautom.events.rates import Usage
from oautom.machine.event import Event
from oautom.machine.kinds import kind_of
from oautom.machine.state import Group, Hold, Limit, Rate, StepState, VectState, limits_of, rate_of
from oautom.machine.tables import INITIAL

_RANKED = frozenset({"pool", "priority", "async", "max_parallel"})
Place = tuple[str, str, int]
Holder = tuple[Any, ...]
_LONG_AGO: Final = datetime(1, 1, 1, tzinfo=UTC)


def _plain_turn(ticket: int, item: Item) -> Turn:
    return Turn(True, 0, (ticket,), ticket, item)


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
        claims: The turns of steps that take several slots, and lack some.
        rates: The starts of the pools with a rate; none where a test has none.
        now: The time of the tick, by which rates are kept.
        wakes: When the next step of a pool may start, by the pool, where some wait for that.
        is_awaited: Whether steps that have slots wait for the end of a Vect, by its id, directly or
            through others.
    """

    def __init__(self, wheel: Wheel | None = None) -> None:
        self._wheel = wheel or Wheel()
        self.size = 0
        self.is_held = False
        self.is_draining = False
        self.vect_of: Callable[[str], VectState | None] = _none_of
        self.looking: Item | None = None
        self._plain: deque[tuple[int, Item]] = deque()  # by ticket: no priority, no pool
        self._turns: list[Turn] = []  # all others: a heap
        self._tickets = count()
        # By Vect, for those that have any: the place of each of its maps of flows, once asked for;
        # and by the empty name the place of the instance that it is the child of.
        self._places: dict[str, dict[str, tuple[int, ...]]] = {}
        self._known: dict[Item, int] = {}  # the ticket of an item, in flows with options
        self._gone: dict[str, int] = {}  # by Vect: its turns before this ticket are void
        self._parked: dict[
            Group, dict[int, list[Turn]]
        ] = {}  # heaps, by the full group and its size
        self._lifted: dict[int, Group] = {}  # by ticket: of turns that check for their group
        self._taken: dict[Group, dict[Holder, int]] = {}  # by the pool, who has how many slots
        self._counts: dict[Group, int] = {}  # by the pool, how many slots these are
        self.claims = Claims()
        self.rates: Rates | None = None
        self.wakes: dict[str, datetime] = {}
        self.now = _LONG_AGO
        self.is_awaited: Callable[[str, Iterable[Holder]], bool] = _never

    def drain(self) -> None:
        """Remove all waiting starts, for good; polls keep their turns."""
        assert self._wheel.thread in (None, get_ident()), WRONG_THREAD
        self.is_draining = True
        for starts in (self._turns, self._parked, self._known, self._gone):
            starts.clear()
        for noted in (self._lifted, self.claims, self.wakes):
            noted.clear()
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
            heappush(self._turns, Turn(True, own[0], own[1:], ticket, step))
            return
        if step.needs_worker and not within and options.keys().isdisjoint(_RANKED):
            self._plain.append((ticket, step))
            return
        rank = -options.get("priority", 0) if kind_of(step.kind).needs_worker else 0
        own = (*within, rank, ticket)
        heappush(self._turns, Turn(step.needs_worker, own[0], own[1:], ticket, step))

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
            rate = _rate_of(item) if is_ranked else None
            if self._gone and self._is_gone(ticket, item):
                self._lifted.pop(ticket, None)
                self._drop_claim(turn)
                self._unpark_all(limits)  # it may be the one that was to check for all
                if rate is not None:
                    self._unpark(_starts_of(rate.pool))
            elif not (limits or rate) or not self._park(turn, limits, rate):
                self.looking = None
                if self._known:
                    self._known.pop(item, None)
                return item

    def _park(self, turn: Turn, limits: Sequence[Limit], rate: Rate | None = None) -> bool:
        """Set a turn aside if a group has no room for it; return False if all have room."""
        place: Group | None = None
        claimed = self.claims.drop(turn) if self.claims else None
        passed = [each.group for each in limits]
        for limit in limits:
            if (place := self._obstacle(turn, limit)) is not None:
                if place == limit.group and limit.takes > 1:
                    self.claims.stake(place, turn)
                else:
                    of_size = self._parked.setdefault(place, {})
                    heappush(of_size.setdefault(limit.slots, []), turn)
                break
        if rate is not None:
            passed.append(_starts_of(rate.pool))
            if place is None and self._is_used_up(turn.item, rate):
                place = passed[-1]
                heappush(self._parked.setdefault(place, {}).setdefault(rate.starts, []), turn)
        # It was to check for all that wait with it: now the next of these does so, unless it would
        # find what this one has found. To check those of other groups, too, would never end: what
        # one of each waits for, the other does not.
        origin = self._lifted.pop(turn.ticket, None)
        if place is None:
            for group in passed:  # the next one may use the room that this one leaves
                self._unpark(group)
                self._unpark(_behind(group))
        elif origin is not None and origin != place:
            self._unpark(origin)
        if claimed is not None and claimed != place:
            self._unpark(_behind(claimed))
        return place is not None

    def _obstacle(self, turn: Turn, limit: Limit) -> Group | None:
        """Return the group for which a limit makes a turn wait; None if it does not."""
        limited = _map_of(turn.item)
        if limited is not None and limit.group == _group_of(limited):
            has_room = limited.mapped is None or limited.mapped.has_room
            return None if has_room else limit.group
        if self.claims and self.claims.bars(limit.group, turn) and not self._is_needed(turn.item):
            return _behind(limit.group)
        return None if self._has_room(limit) else limit.group

    def _is_used_up(self, item: Item, rate: Rate) -> bool:
        """Whether no step of a pool may start now; note when the next one may."""
        if self.rates is None or not isinstance(item, StepState):
            return False
        if (start := self.rates.next_start(item, rate, self.now)) is None:
            return False
        self.wakes[rate.pool] = min(start, self.wakes.get(rate.pool, start))
        return True

    def look_at_rates(self, *, at_all: bool = False) -> None:
        """Let the next step of each pool start for which it is time.

        Args:
            at_all: Check the other pools, too: the clock may have been set.
        """
        due = [pool for pool, time in self.wakes.items() if at_all or time <= self.now]
        for pool in due:
            del self.wakes[pool]
            self._unpark(_starts_of(pool))

    def _is_needed(self, item: Item) -> bool:
        """Whether a step that has slots waits for the end of the Vect of an item."""
        assert isinstance(item, StepState)
        holders = {holder: None for of in self._taken.values() for holder in of}
        return self.is_awaited(item.vect.id, holders)

    def _has_room(self, limit: Limit) -> bool:
        return self._counts.get(limit.group, 0) + limit.takes <= limit.slots

    def _drop_claim(self, turn: Turn) -> None:
        if (pool := self.claims.drop(turn)) is not None:
            self._unpark(_behind(pool))

    def look_behind_claims(self) -> None:
        """Check all turns again that come after a claim: other work may be waited for now."""
        for pool in {pool for _, pool, _ in self.claims}:
            for heap in self._parked.pop(_behind(pool), {}).values():
                self.size += len(heap)
                for turn in heap:
                    heappush(self._turns, turn)

    def _unpark_all(self, limits: Sequence[Limit]) -> None:
        for limit in limits:
            self._unpark(limit.group)
            self._unpark(_behind(limit.group))

    def _unpark(self, pool: Group) -> None:
        """Let the next turn that waits for a pool check its room; the others come after it."""
        if pool not in self._parked:
            return
        of_size = self._parked.pop(pool)
        for parked in of_size.values():
            turn = heappop(parked)
            heappush(self._turns, turn)
            self._lifted[turn.ticket] = pool
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
        return dict(self._counts)

    def usage(self, step: StepState, now: datetime) -> Usage | None:
        """Return how far the rate of the pool of a waiting step is used up, if it has one."""
        rate = None if step.state != INITIAL or self.rates is None else _rate_of(step)
        return None if rate is None or self.rates is None else self.rates.usage(rate, now)

    def claim_before(self, step: StepState) -> StepState | None:
        """Return the step whose claim a waiting step comes after, if it comes after one."""
        for _, pool, _ in self.claims:
            for heap in self._parked.get(_behind(pool), {}).values():
                if any(turn.item is step for turn in heap):
                    first = self.claims.first(pool)
                    return first if isinstance(first, StepState) else None
        return None

    def facts(self) -> tuple[object, ...]:
        """Return all that decides the order of turns: the waiting items, and the taken slots.

        Plain values, for comparisons. The items are in the order of serving, each with the group
        that it waits for.
        """
        waiting: list[tuple[Turn, object]] = [(turn, None) for turn in self._turns]
        waiting += [(_plain_turn(*each), None) for each in self._plain]
        for group, of_size in self._parked.items():
            for slots, turns in of_size.items():
                waiting += [(turn, (group, slots)) for turn in turns]
        waiting += [(turn, ("claim", pool)) for turn, pool, is_aside in self.claims if is_aside]
        waiting = [each for each in waiting if not self._is_gone(each[0].ticket, each[0].item)]
        claims = frozenset((pool, _holder(turn.item)) for turn, pool, _ in self.claims)
        line = sorted(waiting, key=lambda each: each[0][:-1])
        taken = frozenset(
            (group, frozenset(who.items())) for group, who in self._taken.items() if who
        )
        return (*((_holder(turn.item), where) for turn, where in line), taken, claims)

    def forget(self, vect: VectState) -> None:
        """Remove the steps of a Vect that must not start, for now or for good.

        A search among all waiting steps would make thousands of cancels cost the square of their
        number. So the steps are skipped when their turn comes, and swept out when they may be many.
        """
        self._gone[vect.id] = next(self._tickets)
        if vect.id in self._places:
            own = self._places[vect.id]
            self._places[vect.id] = {"": own[""]} if "" in own else {}
        for turn in self.claims.of(vect) if self.claims else ():
            self._drop_claim(turn)
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
            for each in gone:
                self.free_slot(pool, each)

    def _is_gone(self, ticket: int, item: Item) -> bool:
        return isinstance(item, StepState) and ticket < self._gone.get(item.vect.id, 0)

    def _sweep(self) -> None:
        parked = [heap for of_size in self._parked.values() for heap in of_size.values()]
        for turn in [turn for turn, *_ in self.claims if self._is_gone(turn.ticket, turn.item)]:
            self.claims.drop(turn)
        for turns in (self._turns, *parked):
            turns[:] = [turn for turn in turns if not self._is_gone(turn.ticket, turn.item)]
            heapify(turns)
        plain = (each for each in self._plain if not self._is_gone(*each))
        self._plain = deque(plain)
        self._known = {
            i: ticket for i, ticket in self._known.items() if not self._is_gone(ticket, i)
        }
        self._gone.clear()
        there = {turn.ticket for turn in self._turns}
        self._lifted = {ticket: group for ticket, group in self._lifted.items() if ticket in there}
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
            if self.rates is not None and (rate := _rate_of(step)) is not None:
                self.rates.note(rate, event.time)
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
        for limit in _pools_of(step):
            self.take_slot(limit.group, _place_of(step), limit.takes)

    def _free_slots(self, step: StepState) -> None:
        for limit in _pools_of(step):
            self.free_slot(limit.group, _place_of(step))

    def holds_of(self, holder: Holder) -> list[Hold]:
        """Return the slots that a holder has."""
        taken = self._taken.items()
        return [Hold(group, holders[holder]) for group, holders in taken if holder in holders]

    def take_over(self, vect: VectState) -> None:
        """Count the slots that steps of a Vect have had since an earlier life."""
        for step in vect.steps.values():
            if step.state == "running" and step.kind == "flow":
                self._take_slots(step)

    def take_slot(self, pool: Group, holder: Holder, takes: int = 1) -> None:
        """Note that a holder has slots of a pool."""
        holders = self._taken.setdefault(pool, {})
        self._counts[pool] = self._counts.get(pool, 0) + takes - holders.get(holder, 0)
        holders[holder] = takes

    def free_slot(self, pool: Group, holder: Holder) -> None:
        """Note that a holder has left its slots of a pool, and let the next item check its room."""
        takes = self._taken.get(pool, {}).pop(holder, 0)
        if takes:  # else an earlier program ran it
            self._counts[pool] -= takes
        self._unpark(pool)
        for turn in self.claims.lift(pool) if self.claims else ():
            heappush(self._turns, turn)
            self.size += 1


def _limits_of(item: Item) -> Sequence[Limit]:
    """Return the groups in which an item needs room, each with its size."""
    if not isinstance(item, StepState):
        return ()
    limited = _map_of(item)
    if limited is None:
        return _pools_of(item)
    return [*_pools_of(item), Limit(_group_of(limited), item.options["max_parallel"])]


def _pools_of(step: StepState) -> Sequence[Limit]:
    """Return the pools in which a step needs a slot, each with its size; a map needs none."""
    return () if step.kind == "map" else limits_of(step.vect.flow, step.options)


def _rate_of(item: Item) -> Rate | None:
    """Return the rate of the pool of a step; a map itself takes no part in it."""
    if not isinstance(item, StepState) or item.kind == "map":
        return None
    return rate_of(item.options)


def _map_of(item: Item) -> StepState | None:
    """Return the map of an instance, if the map has a limit."""
    if not isinstance(item, StepState) or "max_parallel" not in item.options:
        return None
    return item.parent


def _group_of(step: StepState) -> Group:
    """Return the group of the instances of a map, which has a limit."""
    return ("map", *_place_of(step))


def _starts_of(pool: str) -> Group:
    """Return the group of the turns that wait until a pool allows another start."""
    return ("starts", pool)


def _behind(pool: Group) -> Group:
    """Return the group of the turns that come after a claim to slots of a pool."""
    return ("behind", str(pool))


def _never(vect: str, holders: Iterable[Holder]) -> bool:
    return False


def _not_empty(of_size: dict[int, list[Turn]]) -> dict[int, list[Turn]]:
    return {slots: parked for slots, parked in of_size.items() if parked}


def _none_of(vect: str) -> VectState | None:
    """Return no state: where no other Vect is known."""
    return None


def _place_of(step: StepState) -> tuple[str, str]:
    return step.vect.id, step.name


def _holder(item: Item) -> Hashable:
    return _place_of(item) if isinstance(item, StepState) else item
