"""The registry: which Vects there are, those that move here and those that only the log has.

A Vect has one run, and one handle, as long as anybody has them. Taking in and letting go is guarded
by one lock, for any thread; no collection that is public here is ever rebound.
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
"""How many ends are remembered of a flow that limits each value of a parameter, and has a plan."""


class Registry:
    """The Vects of an app, by their ids.

    Args:
        log: The log of the app.

    Attributes:
        engine: Who steers them: set by the engine.
        flows: The flows that are declared, by name.
        used: Those of them that somebody has used: they have all their steps.
        reader: Reads the runs that do not move.
        runs: All runs that move, or have moved, in this program.
        open: The ids of those that have not ended, or whose end has not been told yet.
        turns: Who of them may be open at once, and who stands in line for that.
        leaving: Those that are being pruned, with their runs: nothing begins with them.
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
        self._log = log
        self._last_seq: int | None = None  # of what earlier programs have written, once it is open
        self._has_pruned = False
        self._ends: dict[
            str, deque[tuple[datetime, str, Lane]]
        ] = {}  # by a flow that a plan starts
        self._reopening: set[str] = set()  # those that shall go on, and are not yet seen to
        self._vects: WeakValueDictionary[Run, Vect] = WeakValueDictionary()
        self._stored: WeakValueDictionary[str, Recalled] = WeakValueDictionary()
        self._lock = threading.Lock()  # held while it is decided which runs there are
        forked.share(self)

    def leave(self) -> None:
        """Have the lock free in a forked child: a thread of the parent may have it."""
        self._lock = threading.Lock()

    # Which there are

    def log_is_open(self) -> None:
        """Take what the log has by now for what earlier programs have left: it is open."""
        self._last_seq = self._log.last_seq
        with self._lock:
            known = list(self._stored.values())
        for run in known:  # somebody has them, and the engine that wrote them has gone on
            if (entry := self._entry(run.id)) is not None:
                self._look(run, entry)

    def _look(self, run: Recalled, entry: VectEntry) -> None:
        run.look(entry)
        self.reader.forget(entry.id)

    def vect(self, run: Run) -> Vect:
        """Return the Vect of a run; the same one as long as anybody has it."""
        with self._lock:
            vect = self._vects.get(run)
            if vect is None:
                vect = self._vects[run] = Vect(run, self.engine)
            return vect

    def find(self, vect: str, *, is_used: bool = False) -> Run | None:
        """Return the run of a Vect, or None if there is none. Any thread.

        Args:
            vect: The id of the Vect.
            is_used: Of an earlier program only what is of a flow that somebody has used.

        Raises:
            UnknownVectError: It has been pruned.
            UnknownFlowError: Its flow is not declared, or nobody has used it yet.
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
            FlowError: It is a run of another flow.
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
        """Return the newest run of a flow, None if it has none."""
        entry = self._log.newest(flow)
        return None if entry is None else self._moving(entry.id) or self._run(entry)

    def of(self, flow: str | None) -> Iterator[Run]:
        """Yield the runs of one flow, or of all that are declared, oldest first."""
        return map(self._run, self._each(flow))

    def _each(self, flow: str | None) -> Iterator[Run | VectEntry]:
        """Yield runs, and entries of those Vects that nobody has a run of."""
        past: set[str] = set()
        entries = [] if self._last_seq == 0 else self._log.vects(flow)
        for entry in filter(self._is_past, entries):
            past.add(entry.id)
            if entry.flow in self.flows:
                stored = None if self._last_seq is None else self._stored.get(entry.id)
                yield self._moving(entry.id) or stored or entry
        with self._lock:  # children come on the thread that drives
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
                state.steps.clear()  # they refer to each other: no collector has to find them
                state = next(states, None)

    def status(self, run: Run, state: VectState, place: InLine | None = None) -> dict[str, Any]:
        """Return how a run stands, and why it does not go on if it does not.

        Args:
            run: The run.
            state: Its state.
            place: Where it stands in line, if it does.
        """
        told, stranded = status_of(state, run.shown, turn_of(place)), self.stranded(run, state)
        return told if stranded is None else told | {"stranded": str(stranded)}

    def stranded(self, run: Run, state: VectState | None = None) -> OAutomError | None:
        """Return why this program cannot go on with a run that is open, or None.

        Of one that nobody has had go on yet: why it could not, as its flow is declared by now.

        Args:
            run: The run.
            state: Its state, where that was read already.
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
        """Return the run of an entry of the log; the same one as long as anybody has it."""
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
        """Return the entries of those that earlier programs have left open, oldest first."""
        found = [] if self._last_seq == 0 else self._log.open_vects()
        return list(filter(self._is_past, found))

    def _entry(self, vect: str) -> VectEntry | None:
        """Return the entry of a Vect of an earlier program; None if there is none of this id."""
        entry = None if self._last_seq == 0 else self._log.find(vect)
        return entry if entry is not None and self._is_past(entry) else None

    def _is_past(self, entry: VectEntry) -> bool:
        return self._last_seq is None or entry.first_seq <= self._last_seq

    # Which may be open

    def admit(self, run: Run, *, may_wait: bool) -> None:
        """Take in a new run.

        Args:
            run: The run.
            may_wait: When it is created it stands in line, if there is no room.

        Raises:
            VectAlreadyRunningException: As many of its flow are open as may be, and it may not
                wait.
            FlowError: Another thread has just taken in one of its id.
        """
        with self._lock, self.turns.lock:
            self._check_staying(run)
            if not may_wait:
                self.check_room(run)
            if run.id in self.runs:
                raise FlowError(f"there is a vect '{run.id}' already", flow=run.flow.name)
            self.take(run, has_place=not may_wait)

    def drop(self, run: Run) -> None:
        """Let go of a new run that nothing came of."""
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
        """Take in runs that the log has open, oldest first; who has not started stands in line."""
        with self.turns.lock:
            for run in runs:
                has_started = run.shown != INITIAL
                self.take(run, has_place=has_started)
                if not has_started:
                    self.turns.stand(run)

    def take(self, run: Run, *, has_place: bool = True) -> None:
        """Take in a run that is open; one of an earlier program is not read yet.

        Args:
            run: The run.
            has_place: It counts for the limit of its flow, whether that has room or not.
        """
        if not run.is_inherited:
            run.hold()
        elif run.shown in VECT_ENDS:  # it was cancelled just before
            return
        run.is_told = False
        self._reopening.discard(run.id)
        self.runs[run.id] = run
        self.open[run.id] = None
        if has_place:
            self.turns.take(run)

    def close(self, run: Run) -> None:
        """Take note that the end of a run has been told; unless it shall go on again by now."""
        if run.id not in self._reopening:
            run.is_told = True
            self.shut(run)

    def note_end(self, run: Run, end: datetime) -> None:
        """Take note that the end of a run is committed: another one may have its room."""
        run.ended = end
        if (ends := self._ends.get(run.flow.name)) is not None:
            ends.append((end, run.id, run.lane))
        self.turns.free(run)

    def shut(self, run: Run) -> None:
        """Take note that a run is not open any more, or does not go on."""
        self.open.pop(run.id, None)
        self.turns.free(run)

    def watch(self, flow: Flow) -> None:
        """Remember when the newest runs of a flow have ended: `check_room` of an instant asks."""
        if (most := flow.max_active_vects) is not None:
            most = most if flow.limit_by is None else max(most, _ENDS_OF_LANES)
            self._ends.setdefault(flow.name, deque(maxlen=most))

    def reopen(self, run: Run, *, has_place: bool = False) -> None:
        """Take in a run that has failed or was cancelled, to go on with it.

        Args:
            run: The run.
            has_place: It has stood in line, and has its place already.

        Raises:
            VectStateError: It has not.
            FlowChangedError: Its flow has changed since.
            VectAlreadyRunningException: As many of its flow are open as may be.
        """
        with self._lock, self.turns.lock:
            self.check_reopening(run, has_place=has_place)
            run.flow.freeze()
            self.take(run)
            self._reopening.add(run.id)

    def take_back(self, run: Run) -> None:
        """Take note that a run does not go on after all: what reopened it was not committed."""
        self._reopening.discard(run.id)
        if run.is_held and run.state.state in VECT_ENDS:
            run.is_told = True
            self.shut(run)
            self.reader.let_go(run)

    def check_reopening(self, run: Run, *, has_place: bool = False) -> None:
        """Refuse to go on with a run, for the reasons that `reopen` has."""
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
        """Refuse one more run of a flow.

        Args:
            run: The run.
            at: An instant that has just passed: what has ended since then is open; None for now.

        Raises:
            VectAlreadyRunningException: As many of them are open as may be.
        """
        ended = self._ended_since(run, at)
        if self.turns.has_room(run, len(ended)):
            return
        active = list(dict.fromkeys([*self.turns.holders(run), *ended]))
        most, lane = run.flow.max_active_vects or 0, self.turns.shown_lane(run)
        raise VectAlreadyRunningException(run.flow.name, active, most, lane)

    def _ended_since(self, run: Run, at: datetime | None) -> list[str]:
        """Return the ids of those of its lane that ended after an instant, newest first."""
        newest = reversed(self._ends.get(run.flow.name, ()) if at is not None else ())
        ended = takewhile(lambda end: at is not None and end[0] > at, newest)
        return [vect for _, vect, lane in ended if lane == run.lane]

    def add(self, run: Run) -> Run:
        """Take note of a run, whatever its state is; return the one that is known of its id."""
        return self.runs.setdefault(run.id, run)

    def let_go(
        self, vects: Iterable[str], is_held: Callable[[str], bool], older_than: datetime
    ) -> dict[str, Run | None]:
        """Let go of the runs of Vects that are about to be pruned. On the thread that drives.

        Args:
            vects: The ids of Vects that have ended.
            is_held: Whether a Vect is still needed, though it has ended.
            older_than: The instant before which they must have ended.

        Returns:
            Those that may be pruned, each with its run, if there is one: for `keep` or `gone`.
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
        """Take note that Vects have been pruned."""
        self._has_pruned = True
        with self._lock:
            for vect in left:
                del self.leaving[vect]

    def keep(self, left: Mapping[str, Run | None]) -> None:
        """Have runs back whose Vects could not be pruned."""
        with self._lock:
            for vect, run in left.items():
                del self.leaving[vect]
                if run is not None:
                    self.runs.setdefault(vect, run)

    def open_runs(self) -> Iterable[Run]:
        """Return the runs that are open."""
        return [self.runs[vect] for vect in list(self.open)]

    def go_back(self, log: EventLog, run: Run) -> None:
        """Have a run stand as the log has it: what could not be committed has not happened."""
        self.reader.forget(run.id)
        if run.is_held:  # else it is read anew by whoever asks
            run.state = self._as_logged(run, log)

    def parents(self, run: Run) -> list[Key]:
        """Return the attempt that has a run going, if one has: one or none."""
        told = run.state.parent if run.is_held else None
        match told or run.origin.get("parent"):
            case [str(vect), str(step), int(attempt)] if is_child(run.id, vect, step):
                return [(vect, step, attempt)]
        return []  # or what a log tells makes no sense; nor can it tell of a circle

    def above(self, run: Run) -> list[Place]:
        """Return the steps that have a run going: its parent's, that one's parent's, and so on."""
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
