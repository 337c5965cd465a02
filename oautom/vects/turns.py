"""Turns: how many Vects of a flow may be open at once, and who stands in line for that.

A limit counts a *lane*: a flow or, where the flow says `limit_by`, each value of that parameter. An
open Vect has a *place* in its lane, or stands in its *line*. A line is in the order in which its
Vects were created, since who is created joins it at its end, on the thread that drives; and the log
has that order, so the line is the same in the next life of the program.

Who joins a line does so before it looks for room, and who leaves a place does so before it looks
for a line: so nobody stands where there is room.

Who is given a place is *called*, in the order of the line, whichever threads give them; and until
those have begun, nobody of their lane begins without being called.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from oautom.flows.flow import Lane
from oautom.machine.event import NO_DATA
from oautom.machine.tables import INITIAL
from oautom.machine.wording import NAME_MAX, in_line, place_in_line
from oautom.processes import forked
from oautom.vects.run import Run


class InLine(NamedTuple):
    """Where a Vect stands.

    Attributes:
        before: How many go before it.
        most: How many of its lane may be open at once.
        flow: The name of its flow.
        lane: Which value its lane is of, as people read it; empty where a flow is one lane.
    """

    before: int
    most: int
    flow: str
    lane: str


def turn_of(place: InLine | None) -> str:
    """Return where a Vect stands in line, as people read it; empty where it does not."""
    return "" if place is None else place_in_line(*place)


class Turns:
    """The places and lines of all flows of an app. Any thread.

    Attributes:
        lock: Held while it is decided who has a place.
        is_still: No line moves: it is being found out who has a place.
        on_turn: Called for a run that has got a place after it has stood in line; for one at a
            time, in their order.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_still = False
        self.on_turn: Callable[[Run], object] = bool
        self._places: dict[Lane, dict[str, None]] = {}
        self._lines: dict[Lane, OrderedDict[str, Run]] = {}  # of lanes in which somebody stands
        self._to_begin: dict[Lane, dict[str, None]] = {}  # who has a place since, and no more
        self._to_call: OrderedDict[str, Run] = OrderedDict()  # those of them that are not called
        self._calling = threading.RLock()  # held while they are called; taken before `lock`
        forked.share(self)

    def leave(self) -> None:
        """Have the locks free in a forked child: a thread of the parent may have them."""
        self.lock = threading.RLock()
        self._calling = threading.RLock()

    # What there is

    def has_room(self, run: Run, more: int = 0) -> bool:
        """Whether a run could have a place at once.

        Args:
            run: The run.
            more: How many others count as open as well.
        """
        most = run.flow.max_active_vects
        if most is None or run.lane in self._lines:
            return most is None
        return len(self._places.get(run.lane, ())) + more < most

    def holders(self, run: Run) -> list[str]:
        """Return the ids of those that have the places of the lane of a run."""
        return list(self._places.get(run.lane, ()))

    def in_the_way(self, run: Run) -> list[str]:
        """Return who has the places of the lane of a run that has none, if they are full."""
        most = run.flow.max_active_vects
        holders = self.holders(run)
        return [] if most is None or run.id in holders or len(holders) < most else holders

    def waits(self, run: Run) -> bool:
        """Whether a run stands in line."""
        return run.id in self._lines.get(run.lane, ())

    def is_behind(self, run: Run) -> bool:
        """Whether others begin before a run: it stands in line, or has, and they are called too."""
        with self.lock:
            first = next(iter(self._to_begin.get(run.lane, {run.id: None})))
            has_waited = bool(run.turn) or run.is_inherited
            return self.waits(run) or (has_waited and run.shown == INITIAL and first != run.id)

    def in_line(self, run: Run) -> InLine | None:
        """Return where a run stands, if it stands in line; this looks at all before it."""
        with self.lock:
            for before, vect in enumerate(self._lines.get(run.lane, ())):
                if vect == run.id:
                    return self._place(run, before)
        return None

    def all_in_line(self) -> dict[str, InLine]:
        """Return where each run stands that stands in line, by its id."""
        with self.lock:
            return {
                vect: self._place(run, before)
                for line in self._lines.values()
                for before, (vect, run) in enumerate(line.items())
            }

    @staticmethod
    def shown_lane(run: Run) -> str:
        """Return which value the lane of a run is of, for people; empty where a flow is one."""
        if type(run.lane) is not tuple:
            return ""
        return f"{in_line(run.flow.limit_by or '', NAME_MAX)} {in_line(run.lane[1])}"

    def _place(self, run: Run, before: int) -> InLine:
        return InLine(before, run.flow.max_active_vects or 0, run.flow.name, self.shown_lane(run))

    # What changes it

    def take(self, run: Run) -> None:
        """Give a run a place, whether there is room or not."""
        with self.lock:
            self._places.setdefault(run.lane, {})[run.id] = None
            self._leave_line(run)
            self.begun(run)

    def stand(self, run: Run) -> None:
        """Have a run stand in line, at its end, if it has neither a place nor stands there."""
        with self.lock:
            if run.id not in self._places.get(run.lane, ()):
                self._lines.setdefault(run.lane, OrderedDict()).setdefault(run.id, run)

    def enter(self, run: Run) -> bool:
        """Give a run a place, or have it stand in line; False if it is called when it shall begin.

        May be asked again, as of a run that has got its place meanwhile.
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
                may_begin = len(self._to_begin[run.lane]) == 1  # else it goes before others
            if may_begin:
                del self._to_call[run.id]
        self._call()
        return may_begin

    def begun(self, run: Run) -> None:
        """Take note that a run has begun for which there was room."""
        with self.lock:
            self._to_call.pop(run.id, None)
            if (waiting := self._to_begin.get(run.lane)) is not None:
                waiting.pop(run.id, None)
                if not waiting:
                    del self._to_begin[run.lane]

    def free(self, run: Run) -> None:
        """Have a run leave its place, or its line; who stands there next has its turn."""
        with self.lock:
            places = self._places.get(run.lane, {})
            places.pop(run.id, None)
            if not places:
                self._places.pop(run.lane, None)
            self._leave_line(run)
            self.begun(run)
            self._move(run.lane)
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
        if (line := self._lines.get(run.lane)) is not None:
            line.pop(run.id, None)
            if not line:
                del self._lines[run.lane]

    def _move(self, lane: Lane) -> None:
        """Give places to the first in a line as long as there is room."""
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
        """Call those whose turn it is: in their order, though threads may give them at once."""
        if not self._to_call:  # they are called by who has put them there, or were
            return
        with self._calling:
            while self._to_call:
                with self.lock:
                    run = self._to_call.popitem(last=False)[1] if self._to_call else None
                if run is not None:
                    self.on_turn(run)
