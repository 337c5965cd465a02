"""The roster: the runs that the scheduler knows, and which of them are open.

Taking in and letting go is guarded by one lock, for any thread; nothing here is ever rebound.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import takewhile

from oautom.errors import (
    EngineError,
    FlowChangedError,
    FlowError,
    VectAlreadyRunningException,
    VectStateError,
)
from oautom.events.log import EventLog
from oautom.flows.flow import Flow
from oautom.machine.commands import Key, Place
from oautom.machine.state import VectState, child_id, replay
from oautom.machine.tables import VECT_ENDS
from oautom.vects.run import Reader, Run


class Roster:
    """Runs by the ids of their Vects.

    Args:
        log: Where those are read that were let go of.

    Attributes:
        reader: Reads them.
        runs: All that are known.
        open: The ids of those that have not ended, or whose end has not been told yet.
        leaving: The ids of those that are being pruned: nothing begins with them.
        recall: Finds the run of a Vect of an earlier program, by its id; as `Vects.recalled`.
    """

    def __init__(self, log: EventLog) -> None:
        self.reader = Reader(log)
        self.runs: dict[str, Run] = {}
        self.open: dict[str, None] = {}  # a set that keeps its order: cancels come in it
        self.leaving: set[str] = set()
        self.recall: Callable[[str], Run | None] = lambda _: None
        self._open_of: dict[str, dict[str, None]] = {}  # the same, by their flow
        self._ends: dict[str, deque[tuple[datetime, str]]] = {}  # by a flow that a plan starts
        self._reopening: set[str] = set()  # those that shall go on, and are not yet seen to
        self._admission = threading.Lock()  # held while it is decided whether one more may be open

    def admit(self, run: Run) -> None:
        """Take in a new run.

        Raises:
            VectAlreadyRunningException: As many of its flow are open as may be.
            FlowError: Another thread has just taken in one of its id.
        """
        with self._admission:
            self._check_staying(run)
            self.check_room(run.flow)
            if run.id in self.runs:
                raise FlowError(f"there is a vect '{run.id}' already", flow=run.flow.name)
            self.take(run)

    def drop(self, run: Run) -> None:
        """Let go of a new run that nothing came of."""
        with self._admission:
            self.shut(run)
            if self.runs.get(run.id) is run:
                del self.runs[run.id]

    def _check_staying(self, run: Run) -> None:
        if run.id in self.leaving:
            raise EngineError(
                f"vect '{run.id}' of flow '{run.flow.name}' is just being pruned; start a new one "
                "under another vect_id",
                flow=run.flow.name,
            )

    def take(self, run: Run) -> None:
        """Take in a run that is open; one of an earlier program is not read yet."""
        if not run.is_inherited:
            run.hold()
        elif run.shown in VECT_ENDS:  # it was cancelled just before
            return
        run.is_told = False
        self._reopening.discard(run.id)
        self.runs[run.id] = run
        self.open[run.id] = None
        self._open_of.setdefault(run.flow.name, {})[run.id] = None

    def close(self, run: Run) -> None:
        """Take note that the end of a run has been told; unless it shall go on again by now."""
        if run.id not in self._reopening:
            run.is_told = True
            self.shut(run)

    def note_end(self, run: Run, end: datetime) -> None:
        """Take note that the end of a run is committed: another one may have its room."""
        run.ended = end
        self._open_of.get(run.flow.name, {}).pop(run.id, None)
        if (ends := self._ends.get(run.flow.name)) is not None:
            ends.append((end, run.id))

    def shut(self, run: Run) -> None:
        """Take note that a run is not open any more, or does not go on."""
        self.open.pop(run.id, None)
        self._open_of.get(run.flow.name, {}).pop(run.id, None)

    def watch(self, flow: Flow) -> None:
        """Remember when the newest runs of a flow have ended: `check_room` of an instant asks."""
        self._ends.setdefault(flow.name, deque(maxlen=flow.max_active_vects))

    def readmit(self, run: Run) -> None:
        """Take in a run that has failed or was cancelled, to go on with it.

        Raises:
            VectStateError: It has not.
            FlowChangedError: Its flow has changed since.
            VectAlreadyRunningException: As many of its flow are open as may be.
        """
        with self._admission:
            self.check_reopening(run)
            run.flow.freeze()
            self.take(run)
            self._reopening.add(run.id)

    def take_back(self, run: Run) -> None:
        """Take note that a run does not go on after all: what reopened it was not committed."""
        self._reopening.discard(run.id)
        if run.is_held and run.state.state in VECT_ENDS:
            run.is_told = True
            self.shut(run)
            run.let_go(self.reader)

    def check_reopening(self, run: Run) -> None:
        """Refuse to go on with a run, for the reasons that `readmit` has."""
        self._check_staying(run)
        if run.shown not in ("failed", "cancelled"):
            raise VectStateError(
                f"vect '{run.id}' of flow '{run.flow.name}'",
                run.shown,
                "only one that has failed or was cancelled can be retried",
                run.flow.name,
            )
        if differences := run.state.graph.differences(run.flow.graph):
            raise FlowChangedError(run.flow.name, run.id, differences)
        self.check_room(run.flow)

    def check_room(self, flow: Flow, at: datetime | None = None) -> None:
        """Refuse one more run of a flow.

        Args:
            flow: The flow.
            at: An instant that has just passed: what has ended since then is open; None for now.

        Raises:
            VectAlreadyRunningException: As many of them are open as may be.
        """
        if self.has_room(flow, at):
            return
        active = dict.fromkeys(list(self._open_of.get(flow.name, ())))  # others come on any thread
        active.update(dict.fromkeys(self._ended_since(flow, at)))
        raise VectAlreadyRunningException(flow.name, list(active), flow.max_active_vects)

    def has_room(self, flow: Flow, at: datetime | None = None) -> bool:
        """Whether one more run of a flow may be open; as `check_room`."""
        active = len(self._open_of.get(flow.name, ()))
        if at is not None and active < flow.max_active_vects:
            active += len(self._ended_since(flow, at))
        return active < flow.max_active_vects

    def _ended_since(self, flow: Flow, at: datetime | None) -> list[str]:
        """Return the ids of the runs of a flow that ended after an instant, newest first."""
        newest = reversed(self._ends.get(flow.name, ()) if at is not None else ())
        return [vect for _, vect in takewhile(lambda end: at is not None and end[0] > at, newest)]

    def know(self, run: Run) -> Run:
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
        with self._admission:
            left: dict[str, Run | None] = {}
            for vect in vects:
                run = self.runs.get(vect)
                is_over = run is None or run.has_ended_before(older_than)
                if is_over and vect not in self.open and not is_held(vect):
                    left[vect] = self.runs.pop(vect, None)
                    self.reader.forget(vect)
            self.leaving.update(left)
            return left

    def gone(self, left: Iterable[str]) -> None:
        """Take note that Vects have been pruned."""
        with self._admission:
            self.leaving.difference_update(left)

    def keep(self, left: dict[str, Run | None]) -> None:
        """Have runs back whose Vects could not be pruned."""
        with self._admission:
            self.leaving.difference_update(left)
            for vect, run in left.items():
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
            case [str(vect), str(step), int(attempt)] if run.id == child_id(vect, step, attempt):
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
