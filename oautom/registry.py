"""The Vects that an app knows: those that move in it, and those of earlier programs.

Nothing here is guarded: the app calls it under its lock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime

from oautom.engine import ForegroundEngine
from oautom.errors import FlowError, UnknownFlowError, UnknownVectError, VectAlreadyRunningException
from oautom.events.event import NO_DATA
from oautom.events.log import EventLog, PrunedVect
from oautom.flow import Flow
from oautom.recovery import Archive
from oautom.vect import Run, Vect

_logger = logging.getLogger("oautom.recovery")


class Vects:
    """The Vects of an app.

    Args:
        log: The log of the app.
        engine: Who drives them.
        flows: The flows of the app, by name; it grows.
    """

    def __init__(self, log: EventLog, engine: ForegroundEngine, flows: Mapping[str, Flow]) -> None:
        self._log = log
        self._engine = engine
        self._flows = flows
        self._archive = Archive(log, engine)
        self._moving: dict[str, Vect] = {}  # those that move, or have moved, in this app
        self._active: dict[str, list[Vect]] = {}  # by flow; those that have ended leave at a start
        self._is_recovered = False

    def __len__(self) -> int:
        """Return how many move, or have moved, in this app."""
        return len(self._moving)

    def __iter__(self) -> Iterator[Vect]:
        """Yield the Vects whose flows are declared, oldest first."""
        past = self._archive.entries()
        for entry in past.values():
            if entry.flow in self._flows:
                yield self._moving.get(entry.id) or self._recalled(entry.id)
        for vect in self._moving.values():
            if vect.id not in past:
                yield vect

    def begin(self, flow: Flow, vect_id: str, planned: Mapping[str, str] = NO_DATA) -> Vect:
        """Start a new Vect; `planned` is what it tells of the plan that has started it."""
        run = Run(flow, vect_id, planned)
        vect = self._moving[vect_id] = Vect(run, self._engine)
        self._active[flow.name].append(vect)
        self._engine.begin(run)
        return vect

    def find(self, vect_id: str) -> Vect | None:
        """Return the Vect of this id, or None.

        Raises:
            UnknownVectError: It has been pruned.
            UnknownFlowError: Its flow is not declared.
        """
        if vect_id in self._moving:
            return self._moving[vect_id]
        if vect_id in self._archive.entries():
            return self._recalled(vect_id)
        if gone := self._archive.pruned().get(vect_id):
            raise UnknownVectError(
                f"vect '{vect_id}' of flow '{gone.flow}' ended as '{gone.state}' and was pruned "
                "from the log; start a new one under another vect_id",
                flow=gone.flow,
            )
        return None

    def find_of(self, flow: Flow, vect_id: str) -> Vect | None:
        """Return the Vect of this id, or None, as `find` does.

        Raises:
            FlowError: It is a run of another flow.
        """
        vect = self.find(vect_id)
        if vect is not None and vect.flow is not flow:
            raise FlowError(
                f"vect '{vect.id}' is a run of flow '{vect.flow.name}', not of '{flow.name}'; "
                "give this one another vect_id",
                flow=flow.name,
            )
        return vect

    def _recalled(self, vect_id: str) -> Vect:
        entry = self._archive.entries()[vect_id]
        if entry.flow not in self._flows:
            raise UnknownFlowError(entry.flow, self._flows)
        return self._archive.vect(entry, self._flows[entry.flow])

    def check_room(self, flow: Flow, at: datetime | None = None) -> None:
        """Refuse one more Vect of a flow where it is one too many, or where one could not go on.

        Args:
            flow: The flow.
            at: An instant that has just passed: what has ended since then is open; None for now.

        Raises:
            VectAlreadyRunningException: `max_active_vects` of them are open.
            FlowChangedError: One is left from an earlier program, and the flow has changed.
        """
        for error in self._archive.unfit():
            if error.flow == flow.name:
                raise error
        active = [vect for vect in self._active.get(flow.name, ()) if not _ended_by(vect, at)]
        self._active[flow.name] = active
        if len(active) >= flow.max_active_vects:
            running = [vect.id for vect in active]
            raise VectAlreadyRunningException(flow.name, running, flow.max_active_vects)

    def recover(self) -> list[Vect]:
        """Have the Vects go on that a dead program has left open, and return them.

        Raises:
            FlowChangedError: A Vect does not go on, since its flow has changed; all others do.
        """
        resumed = self._recover()
        for error in self._archive.unfit():
            raise error
        return resumed

    def recover_once(self) -> None:
        """Recover if that was not done yet; tell the logger whose flow has changed."""
        if not self._is_recovered:
            self._recover()
            for error in self._archive.unfit():
                _logger.error("%s", error)

    def _recover(self) -> list[Vect]:
        if not self._is_recovered:
            self._archive.end_leftovers()
        resumed = self._archive.resume(self._flows, self._moving)
        if not self._is_recovered and self._log.id is not None:
            self._engine.listen()
        self._is_recovered = True
        for vect in resumed:
            self._moving[vect.id] = vect
            self._active.setdefault(vect.flow.name, []).append(vect)
        return resumed

    def prune(self, older_than: datetime) -> list[PrunedVect]:
        """Take the Vects that ended before an instant out of the log and of memory."""
        gone = self._engine.prune(older_than)
        self._archive.read_anew()
        for vect in gone:
            self._moving.pop(vect.id, None)
        return gone


def _ended_by(vect: Vect, instant: datetime | None) -> bool:
    if not vect.ended or instant is None:
        return vect.ended
    return datetime.fromisoformat(vect.status()["end_date"]) <= instant
