"""The registry: all Vects of an app, those that move here and those that are only in the log.

A Vect has one run, and one handle, as long as there are references to them. One lock guards adding
and removing, for any thread; public collections are never rebound.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from itertools import takewhile
from typing import Any, Final
from weakref import WeakValueDictionary

from oautom.errors import (
    EngineError,
    FlowError,
    LogError,
    OAutomError,
    UnknownFlowError,
    UnknownVectError,
    VectAlreadyRunningException,
    VectStateError,
)
from oautom.events.log import EventLog, VectEntry, keeps_objects
from oautom.flows.flow import Flow, Lane
from oautom.machine.commands import Key, Place
from oautom.machine.state import VectState, is_child, replay
from oautom.machine.tables import INITIAL, VECT_ENDS
from oautom.processes import forked
from oautom.vects.run import Run, status_of
from oautom.vects.stored import Reader, Recalled, unfit
from oautom.vects.turns import InLine, Turns, turn_of
from oautom.vects.vect import Engine, Vect

_ENDS_OF_LANES: Final = 1000
"""How many ends are remembered of a flow that has `limit_by` and a plan."""


class Registry:
    """The Vects of an app, by their ids.

    Args:
        log: The log of the app.

    Attributes:
        engine: The engine of the Vects, which sets this itself.
        flows: The declared flows, by name.
        used: The flows that were used: their declaration is complete.
        reader: Reads the runs that do not move.
        runs: All runs that move, or have moved, in this program.
        open: The ids of those that have not ended, or whose end was not published yet.
        turns: The places and lines of all flows: which runs may be open at once, and which wait.
        leaving: The Vects that are being pruned, with their runs: nothing begins with them.
    """

    engine: Engine

    def __init__(self, log: EventLog) -> None:
        self.flows: Mapping[str, Flow] = {}
        self.used: dict[str, Flow] = {}
        self.reader = Reader(log)
        self.runs: dict[str, Run] = {}
        self.open: dict[str, None] = {}  # a set that keeps its order: cancels come in it
        self.leaving: dict[str, Run | None] = {}
        self.turns = Turns()
        self.turns.is_open = self.open.__contains__
        self._log = log
        self._last_seq: int | None = None  # last event of earlier programs, once the log is open
        self._has_pruned = False
        self._ends: dict[str, deque[tuple[datetime, str, Lane]]] = {}  # by flow, if it has a plan
        self._reopening: set[str] = set()  # reopened, and not taken yet
        self._vects: WeakValueDictionary[Run, Vect] = WeakValueDictionary()
        self._stored: WeakValueDictionary[str, Recalled] = WeakValueDictionary()
        self._lock = threading.Lock()  # taken while runs are added or removed
        forked.share(self)

    def leave(self) -> None:
        """Renew the lock in a forked child: a thread of the parent may have it."""
        self._lock = threading.Lock()

    # Look-ups

    def log_is_open(self) -> None:
        """Note that the log is open: all that it has now was left by earlier programs."""
        self._last_seq = self._log.last_seq
        with self._lock:
            known = list(self._stored.values())
        for run in known:  # their engine may have gone on meanwhile
            if (entry := self._entry(run.id)) is not None:
                self._look(run, entry)

    def _look(self, run: Recalled, entry: VectEntry) -> None:
        run.look(entry)
        self.reader.forget(entry.id)

    def vect(self, run: Run) -> Vect:
        """Return the Vect of a run; the same object as long as there are references to it."""
        with self._lock:
            vect = self._vects.get(run)
            if vect is None:
                vect = self._vects[run] = Vect(run, self.engine)
            return vect

    def find(self, vect: str, *, is_used: bool = False) -> Run | None:
        """Return the run of a Vect, or None if there is none. Any thread.

        Args:
            vect: The id of the Vect.
            is_used: Refuse a Vect of an earlier program whose flow was not used yet.

        Raises:
            UnknownVectError: The Vect has been pruned.
            UnknownFlowError: Its flow is not declared, or was not used yet.
        """
        if (found := self._moving(vect)) is not None:
            return found
        if (entry := self._entry(vect)) is not None:
            flows = self.used if is_used else self.flows
            if entry.flow not in flows:
                raise UnknownFlowError(entry.flow, flows)
            return self.stored(entry, flows[entry.flow])
        is_possible = self._last_seq != 0 or self._has_pruned
        if is_possible and (gone := self._log.find_pruned(vect)):
            raise UnknownVectError(
                f"vect '{vect}' of flow '{gone.flow}' ended as '{gone.state}' and was pruned "
                "from the log; start a new one under another vect_id",
                flow=gone.flow,
            )
        return None

    def find_of(self, flow: Flow, vect: str) -> Run | None:
        """Return the run of a Vect, or None, as `find` does.

        Raises:
            FlowError: The Vect is a run of another flow.
        """
        run = self.find(vect)
        if run is not None and run.flow is not flow:
            raise FlowError(
                f"vect '{vect}' is a run of flow '{run.flow.name}', not of '{flow.name}'; "
                "give this one another vect_id",
                flow=flow.name,
            )
        return run

    def newest(self, flow: str) -> Run | None:
        """Return the newest run of a flow; None if it has none."""
        entry = self._log.newest(flow)
        return None if entry is None else self._moving(entry.id) or self._run(entry)

    def of(self, flow: str | None) -> Iterator[Run]:
        """Yield the runs of one flow, or of all declared flows, oldest first."""
        return map(self._run, self._each(flow))

    def _each(self, flow: str | None) -> Iterator[Run | VectEntry]:
        """Yield runs, and the entries of Vects without a run in memory."""
        past: set[str] = set()
        entries = [] if self._last_seq == 0 else self._log.vects(flow)
        for entry in filter(self._is_past, entries):
            past.add(entry.id)
            if entry.flow in self.flows:
                stored = None if self._last_seq is None else self._stored.get(entry.id)
                yield self._moving(entry.id) or stored or entry
        with self._lock:  # the driving thread adds children
            moving = [run for run in self.leaving.values() if run is not None]
            moving += self.runs.values()
        for run in moving:
            if run.is_created and run.id not in past and flow in (None, run.flow.name):
                yield run

    def _moving(self, vect: str) -> Run | None:
        with self._lock:
            return self.runs.get(vect) or self.leaving.get(vect)

    def statuses(self, lock: threading.Lock) -> Iterator[dict[str, Any]]:
        """Yield the status of each Vect, newest first; the log is read without the lock."""
        with lock:
            vects = list(self._each(None))
        vects.reverse()
        waiting = self.turns.all_in_line()
        states = self.reader.read_each([v.id for v in vects if not _is_held(v)])
        state = next(states, None)
        for each in vects:
            if state is None or state.id != each.id or _is_held(each):
                with suppress(UnknownVectError):  # it has just been pruned
                    yield self.engine.status(self._run(each))  # not read, or just retried
            elif state.state in VECT_ENDS:
                yield status_of(state, each.shown if isinstance(each, Run) else each.state)
            else:
                yield self.status(self._run(each), state, waiting.get(state.id))
            if state is not None and state.id == each.id:
                state.steps.clear()  # breaks their cycle, to spare the garbage collector
                state = next(states, None)

    def status(self, run: Run, state: VectState, place: InLine | None = None) -> dict[str, Any]:
        """Return the status of a run, with the reason if it does not go on.

        Args:
            run: The run.
            state: Its state.
            place: Its place in line, if it waits there.
        """
        status, stranded = status_of(state, run.shown, turn_of(place)), self.stranded(run, state)
        return status if stranded is None else status | {"stranded": str(stranded)}

    def stranded(self, run: Run, state: VectState | None = None) -> OAutomError | None:
        """Return why this program cannot go on with an open run, or None.

        For a run that was not recovered yet: why it could not go on with its flow as declared now.

        Args:
            run: The run.
            state: Its state, if it was read already.
        """
        if run.held_up is None or run.shown in VECT_ENDS:
            return None
        if not (isinstance(run, Recalled) and run.is_left):
            return run.held_up
        try:
            return unfit(run, None if state is None else state.first_facts())
        except LogError as error:
            return error

    def _run(self, each: Run | VectEntry) -> Run:
        return each if isinstance(each, Run) else self.stored(each, self.flows[each.flow])

    def stored(self, entry: VectEntry, flow: Flow) -> Recalled:
        """Return the run of an entry of the log; the same object as long as it is referred to."""
        with self._lock:
            run = self._stored.get(entry.id)
            if run is None:
                is_durable = not keeps_objects(self._log)
                run = Recalled(flow, entry, self.reader, is_durable=is_durable)
                self._stored[entry.id] = run
            elif self._last_seq is None:
                self._look(run, entry)
            return run

    def left_open(self) -> list[VectEntry]:
        """Return the entries of Vects that earlier programs have left open, oldest first."""
        found = [] if self._last_seq == 0 else self._log.open_vects()
        return list(filter(self._is_past, found))

    def _entry(self, vect: str) -> VectEntry | None:
        """Return the entry of a Vect of an earlier program; None if there is none of this id."""
        entry = None if self._last_seq == 0 else self._log.find(vect)
        return entry if entry is not None and self._is_past(entry) else None

    def _is_past(self, entry: VectEntry) -> bool:
        return self._last_seq is None or entry.first_seq <= self._last_seq

    # Limits, and changes

    def admit(self, run: Run, *, may_wait: bool) -> None:
        """Add a new run.

        Args:
            run: The run.
            may_wait: Whether the run waits in line after its creation, if there is no room.

        Raises:
            VectAlreadyRunningException: The flow has no room, and the run may not wait.
            FlowError: Another thread has just added a run of its id.
            EngineError: The Vect of this id is just being pruned.
        """
        with self._lock, self.turns.lock:
            self._check_staying(run)
            if not may_wait:
                self.check_room(run)
            if run.id in self.runs:
                raise FlowError(f"there is a vect '{run.id}' already", flow=run.flow.name)
            self.take(run, has_place=not may_wait)

    def drop(self, run: Run) -> None:
        """Remove a new run that has not begun."""
        with self._lock:
            self.open.pop(run.id, None)
            if self.runs.get(run.id) is run:
                del self.runs[run.id]
        self.turns.free(run)

    def _check_staying(self, run: Run) -> None:
        if run.id in self.leaving:
            raise EngineError(
                f"vect '{run.id}' of flow '{run.flow.name}' is just being pruned; start a new one "
                "under another vect_id",
                flow=run.flow.name,
            )

    def take_left(self, runs: Iterable[Run]) -> None:
        """Add the open runs of the log, oldest first; those that have not started wait in line."""
        with self.turns.lock:
            for run in runs:
                has_started = run.shown != INITIAL
                self.take(run, has_place=has_started)
                if not has_started:
                    self.turns.stand(run)

    def take(self, run: Run, *, has_place: bool = True) -> None:
        """Add an open run; one of an earlier program is not read yet.

        Args:
            run: The run.
            has_place: Whether it takes a place in its lane, even if there is no room.
        """
        if not run.is_inherited:
            run.hold()
        elif run.shown in VECT_ENDS:  # it was cancelled just before this
            return
        run.is_told = False
        self._reopening.discard(run.id)
        self.runs[run.id] = run
        self.open[run.id] = None
        if has_place:
            self.turns.take(run)

    def close(self, run: Run) -> None:
        """Note that the end of a run is published; no effect if it was reopened meanwhile."""
        if run.id not in self._reopening:
            run.is_told = True
            self.shut(run)

    def note_end(self, run: Run, end: datetime) -> None:
        """Note that the end of a run is committed: another run may have its place."""
        run.ended = end
        if (ends := self._ends.get(run.flow.name)) is not None:
            ends.append((end, run.id, run.lane))
        self.turns.free(run)

    def shut(self, run: Run) -> None:
        """Note that a run is not open any more, or does not go on."""
        self.open.pop(run.id, None)
        self.turns.free(run)

    def watch(self, flow: Flow) -> None:
        """Remember the ends of the newest runs of a flow, for `check_room` at an instant."""
        if (most := flow.max_active_vects) is not None:
            most = most if flow.limit_by is None else max(most, _ENDS_OF_LANES)
            self._ends.setdefault(flow.name, deque(maxlen=most))

    def reopen(self, run: Run, *, has_place: bool = False) -> None:
        """Add a run that has failed or was cancelled, to go on with it.

        Args:
            run: The run.
            has_place: Whether it has waited in line, and has its place already.

        Raises:
            VectStateError: It has neither failed nor been cancelled.
            FlowChangedError: Its flow has changed since.
            VectAlreadyRunningException: The flow has no room.
            EngineError: The Vect is just being pruned.
        """
        with self._lock, self.turns.lock:
            self.check_reopening(run, has_place=has_place)
            run.flow.freeze()
            self.take(run)
            self._reopening.add(run.id)

    def take_back(self, run: Run) -> None:
        """Note that a run does not go on after all: the commit of its retry has failed."""
        self._reopening.discard(run.id)
        if run.is_held and run.state.state in VECT_ENDS:
            run.is_told = True
            self.shut(run)
            self.reader.let_go(run)

    def check_reopening(self, run: Run, *, has_place: bool = False) -> None:
        """Refuse to go on with a run; errors as of `reopen`."""
        self._check_staying(run)
        if run.shown not in ("failed", "cancelled"):
            raise VectStateError(
                f"vect '{run.id}' of flow '{run.flow.name}'",
                run.shown,
                "only one that has failed or was cancelled can be retried",
                run.flow.name,
            )
        if (changed := unfit(run)) is not None:
            raise changed
        run.lane = run.flow.lane(run.state.params)
        if not has_place:
            self.check_room(run)

    def check_room(self, run: Run, at: datetime | None = None) -> None:
        """Refuse one more run of a flow that has no room.

        Args:
            run: The run.
            at: An instant that has just passed: runs that have ended since count as open; None for
                now.

        Raises:
            VectAlreadyRunningException: The flow has no room.
        """
        ended = self._ended_since(run, at)
        if self.turns.has_room(run, len(ended)):
            return
        active = list(dict.fromkeys([*self.turns.holders(run), *ended]))
        most, lane = run.flow.max_active_vects or 0, self.turns.shown_lane(run)
        raise VectAlreadyRunningException(run.flow.name, active, most, lane)

    def _ended_since(self, run: Run, at: datetime | None) -> list[str]:
        """Return the ids of the runs of a lane that ended after an instant, newest first."""
        newest = reversed(self._ends.get(run.flow.name, ()) if at is not None else ())
        ended = takewhile(lambda end: at is not None and end[0] > at, newest)
        return [vect for _, vect, lane in ended if lane == run.lane]

    def add(self, run: Run) -> Run:
        """Add a run, in any state; return the known run of its id, if there is one."""
        return self.runs.setdefault(run.id, run)

    def let_go(
        self, vects: Iterable[str], is_held: Callable[[str], bool], older_than: datetime
    ) -> dict[str, Run | None]:
        """Remove the runs of Vects that are about to be pruned. On the driving thread.

        Args:
            vects: The ids of Vects that have ended.
            is_held: Whether a Vect is still needed, though it has ended.
            older_than: The instant before which they must have ended.

        Returns:
            The Vects that may be pruned, each with its run or None: for `keep` or `gone`.
        """
        with self._lock:
            left: dict[str, Run | None] = {}
            for vect in vects:
                run = self.runs.get(vect)
                is_over = run is None or run.has_ended_before(older_than)
                if is_over and vect not in self.open and not is_held(vect):
                    left[vect] = self.runs.pop(vect, self.leaving.get(vect))
                    self.reader.forget(vect)
            self.leaving.update(left)
            return left

    def gone(self, left: Iterable[str]) -> None:
        """Note that Vects have been pruned."""
        self._has_pruned = True
        with self._lock:
            for vect in left:
                del self.leaving[vect]

    def keep(self, left: Mapping[str, Run | None]) -> None:
        """Take runs back whose Vects could not be pruned."""
        with self._lock:
            for vect, run in left.items():
                del self.leaving[vect]
                if run is not None:
                    self.runs.setdefault(vect, run)

    def open_runs(self) -> Iterable[Run]:
        """Return the open runs."""
        return [self.runs[vect] for vect in list(self.open)]

    def go_back(self, log: EventLog, run: Run) -> None:
        """Reset the state of a run to its committed events."""
        self.reader.forget(run.id)
        if run.is_held:  # else the next reader reads it anew
            run.state = self._as_logged(run, log)

    def parents(self, run: Run) -> list[Key]:
        """Return the attempt that runs a run as its child: a list of one, or empty."""
        parent = run.state.parent if run.is_held else None
        match parent or run.origin.get("parent"):
            case [str(vect), str(step), int(attempt)] if is_child(run.id, vect, step):
                return [(vect, step, attempt)]
        return []  # or the log makes no sense: it must not make a circle

    def above(self, run: Run) -> list[Place]:
        """Return the steps that run a run as their child: the nearest first, then those above."""
        found: list[Place] = []
        above: Run | None = run
        while above is not None and (parents := self.parents(above)):
            found.append(parents[0][:2])
            above = self.runs.get(parents[0][0])
        return found

    @staticmethod
    def _as_logged(run: Run, log: EventLog) -> VectState:
        state = replay(log.read(vect=run.id)).get(run.id) or run.first_state()
        state.is_live = True
        return state


def _is_held(each: Run | VectEntry) -> bool:
    return isinstance(each, Run) and each.is_held
