"""Turns: how many Vects of a flow may be open at once, and which ones wait in line for that.

A limit counts a *lane*: a flow or, if the flow has `limit_by`, each value of that parameter. An
open Vect has a *place* in its lane, or waits in its *line*. A line has the order in which its Vects
were created, since a new Vect joins it at its end, on the driving thread; and the log has that
order, so the line is the same in the next life of the program.

A Vect joins the line before it checks for room, and leaves its place before it checks for a line:
so no Vect waits while there is room.

A Vect of a backfill may have to come after another one: then it is *held*, and joins the line when
that one is not open any more.

A Vect that gets a place from the line is *called*, in the order of the line, even if several
threads free places at once. Until the called ones have begun, no Vect of their lane begins without
being called.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from oautom.flows.flow import Lane
from oautom.machine.event import NO_DATA
from oautom.machine.tables import INITIAL
from oautom.machine.wording import NAME_MAX, in_line, place_behind, place_in_line
from oautom.processes import forked
from oautom.vects.run import Run


class InLine(NamedTuple):
    """The place of a waiting Vect in its line.

    Attributes:
        before: How many Vects go before it.
        most: How many Vects of its lane may be open at once.
        flow: The name of its flow.
        lane: The value of `limit_by` of its lane, for people; empty if the flow is one lane.
        after: The Vect that must end before it joins the line; empty if it is in the line.
    """

    before: int
    most: int
    flow: str
    lane: str
    after: str = ""


def turn_of(place: InLine | None) -> str:
    """Return a place in a line, in words; empty for None."""
    if place is None:
        return ""
    return place_behind(place.after) if place.after else place_in_line(*place[:4])


class Turns:
    """The places and lines of all flows of an app. Any thread.

    Attributes:
        lock: Taken while places are given.
        is_still: No line moves, while it is being found out which Vects have places.
        is_open: Returns whether a Vect of this id is open.
        on_turn: Called with a run that has got a place after a wait in line; for one run at a time,
            in their order.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_still = False
        self.is_open: Callable[[str], bool] = bool
        self.on_turn: Callable[[Run], object] = bool
        self._places: dict[Lane, dict[str, None]] = {}
        self._lines: dict[Lane, OrderedDict[str, Run]] = {}  # no empty ones
        self._held: dict[str, dict[str, Run]] = {}  # by the Vect that must end first
        self._to_begin: dict[Lane, dict[str, None]] = {}  # placed runs that have not begun
        self._to_call: OrderedDict[str, Run] = OrderedDict()  # those not called yet
        self._calling = threading.RLock()  # taken for calls of `on_turn`, and before `lock`
        forked.share(self)

    def leave(self) -> None:
        """Renew the locks in a forked child: a thread of the parent may have them."""
        self.lock = threading.RLock()
        self._calling = threading.RLock()

    # Reading

    def has_room(self, run: Run, more: int = 0) -> bool:
        """Whether a run could have a place at once.

        Args:
            run: The run.
            more: How many others count as open, too.
        """
        most = run.flow.max_active_vects
        if most is None or run.lane in self._lines:
            return most is None
        return len(self._places.get(run.lane, ())) + more < most

    def holders(self, run: Run) -> list[str]:
        """Return the ids of the Vects with the places of the lane of a run."""
        return list(self._places.get(run.lane, ()))

    def in_the_way(self, run: Run) -> list[str]:
        """Return the ids with all the places of the lane of a run; empty if it has room.

        If the run is held, return the id of the Vect that must end first.
        """
        if self._is_held(run):
            return [run.after or ""]
        most = run.flow.max_active_vects
        holders = self.holders(run)
        return [] if most is None or run.id in holders or len(holders) < most else holders

    def waits(self, run: Run) -> bool:
        """Whether a run waits in line, or is held."""
        return run.id in self._lines.get(run.lane, ()) or self._is_held(run)

    def _is_held(self, run: Run) -> bool:
        return run.after is not None and run.id in self._held.get(run.after, ())

    def is_behind(self, run: Run) -> bool:
        """Whether others begin before a run: it waits in line, or was called after others."""
        with self.lock:
            first = next(iter(self._to_begin.get(run.lane, {run.id: None})))
            has_waited = bool(run.turn) or run.is_inherited
            return self.waits(run) or (has_waited and run.shown == INITIAL and first != run.id)

    def in_line(self, run: Run) -> InLine | None:
        """Return the place of a run in its line, or None; walks over all before it."""
        with self.lock:
            if self._is_held(run):
                return self._place(run, 0)
            for before, vect in enumerate(self._lines.get(run.lane, ())):
                if vect == run.id:
                    return self._place(run, before)
        return None

    def all_in_line(self) -> dict[str, InLine]:
        """Return the places of all runs that wait in line, by id."""
        with self.lock:
            held = [run for runs in self._held.values() for run in runs.values()]
            return {run.id: self._place(run, 0) for run in held} | {
                vect: self._place(run, before)
                for line in self._lines.values()
                for before, (vect, run) in enumerate(line.items())
            }

    @staticmethod
    def shown_lane(run: Run) -> str:
        """Return the `limit_by` value of a run's lane, in words; empty if the flow is one lane."""
        if type(run.lane) is not tuple:
            return ""
        return f"{in_line(run.flow.limit_by or '', NAME_MAX)} {in_line(run.lane[1])}"

    def _place(self, run: Run, before: int) -> InLine:
        after = (run.after or "") if self._is_held(run) else ""
        lane = self.shown_lane(run)
        return InLine(before, run.flow.max_active_vects or 0, run.flow.name, lane, after)

    # Changes

    def take(self, run: Run) -> None:
        """Give a run a place, whether there is room or not."""
        with self.lock:
            self._places.setdefault(run.lane, {})[run.id] = None
            self._leave_line(run)
            self.begun(run)

    def stand(self, run: Run) -> None:
        """Put a run at the end of its line, unless it has a place or waits there already.

        A run that comes after another Vect is held while that Vect is open.
        """
        with self.lock:
            if run.id in self._places.get(run.lane, ()):
                return
            if run.after is not None and self.is_open(run.after):
                self._held.setdefault(run.after, {})[run.id] = run
            else:
                self._lines.setdefault(run.lane, OrderedDict()).setdefault(run.id, run)

    def enter(self, run: Run) -> bool:
        """Give a run a place, or put it in line; return whether it may begin at once.

        If not, it is called when it may begin. May be called again, even if the run has its place
        by then.
        """
        with self.lock:
            if run.id in self._places.get(run.lane, ()):
                return run.id not in self._to_call
            is_new = not self.waits(run)
            self.stand(run)
            self._move(run.lane)
            may_begin = False
            if run.id in self._to_call:
                run.turn = NO_DATA if is_new else run.turn
                may_begin = len(self._to_begin[run.lane]) == 1  # else others go before it
            if may_begin:
                del self._to_call[run.id]
        self._call()
        return may_begin

    def begun(self, run: Run) -> None:
        """Note that a run has begun."""
        with self.lock:
            self._to_call.pop(run.id, None)
            if (waiting := self._to_begin.get(run.lane)) is not None:
                waiting.pop(run.id, None)
                if not waiting:
                    del self._to_begin[run.lane]

    def free(self, run: Run) -> None:
        """Remove a run from its place, or its line; the next one in line has its turn."""
        with self.lock:
            places = self._places.get(run.lane, {})
            places.pop(run.id, None)
            if not places:
                self._places.pop(run.lane, None)
            self._leave_line(run)
            self.begun(run)
            self._move(run.lane)
            for behind in self._held.pop(run.id, {}).values():
                behind.after = run.after  # which may be open, if this one was held itself
                self.stand(behind)
                self._move(behind.lane)
        self._call()

    def move(self) -> None:
        """Let all lines move that have stood still."""
        with self.lock:
            self.is_still = False
            for lane in list(self._lines):
                self._move(lane)
            for run in self._to_call.values():
                run.turn = NO_DATA  # they have not waited in this life
        self._call()

    def _leave_line(self, run: Run) -> None:
        if run.after is not None and (held := self._held.get(run.after)) is not None:
            held.pop(run.id, None)
            if not held:
                del self._held[run.after]
        if (line := self._lines.get(run.lane)) is not None:
            line.pop(run.id, None)
            if not line:
                del self._lines[run.lane]

    def _move(self, lane: Lane) -> None:
        """Give places to the first runs of a line as long as there is room."""
        line = self._lines.get(lane)
        while line and not self.is_still:
            run = next(iter(line.values()))
            most = run.flow.max_active_vects
            places = self._places.setdefault(lane, {})
            if most is not None and len(places) >= most:
                break
            places[run.id] = None
            run.turn = run.flow.limit
            self._to_begin.setdefault(lane, {})[run.id] = None
            self._to_call[run.id] = run
            self._leave_line(run)

    def _call(self) -> None:
        """Call the runs whose turn it is, in their order, even if several threads do so at once."""
        if not self._to_call:  # empty, or another thread has called them
            return
        with self._calling:
            while self._to_call:
                with self.lock:
                    run = self._to_call.popitem(last=False)[1] if self._to_call else None
                if run is not None:
                    self.on_turn(run)
