"""The Vects that an app knows: those that move in it, and those of earlier programs.

Nothing here is guarded: the app calls it under its lock.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from oautom.engine import ForegroundEngine
from oautom.errors import FlowError, UnknownFlowError, UnknownVectError, ValueTooLargeError
from oautom.events.event import NO_DATA
from oautom.events.log import EventLog, PrunedVect
from oautom.flow import Flow
from oautom.recovery import Archive
from oautom.run import Run
from oautom.vect import Vect

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

    def start(self, flow: Flow, params: object, vect_id: str | None) -> Vect:
        """Return the Vect of this id, or start a new one; recover before, if that was not done.

        Raises:
            VectAlreadyRunningException: `max_active_vects` of the flow are open.
            ParamError: A parameter is unknown, missing, wrong, or another one than in this Vect.
            Whatever `find_of`, `check_fit` and `Flow.freeze` raise.
        """
        self.recover_once()
        known = None if vect_id is None else self.find_of(flow, vect_id)
        if known is not None:
            if params is not None:
                flow.params.check_same(known.id, known.status()["params"], params)
            return known
        plain = flow.params.plain(params)
        self.check_fit(flow)
        flow.freeze()
        if plain:
            self._check_kept(flow, plain)
        return self._begin(flow, vect_id or os.urandom(8).hex(), plain)

    def _check_kept(self, flow: Flow, plain: Mapping[str, Any]) -> None:
        try:
            self._log.check_value(dict(plain))
        except ValueTooLargeError as error:
            raise flow.params.error(f"its parameters cannot be kept: {error}") from error

    def begin_planned(self, flow: Flow, params: object, planned: Mapping[str, str]) -> Vect:
        """Start a new Vect by a plan; `planned` is what it tells of that.

        Raises:
            VectAlreadyRunningException: `max_active_vects` of the flow are open.
            ParamError: A parameter is unknown, missing or wrong.
            Whatever `Flow.freeze` raises.
        """
        plain = flow.params.plain(params)
        flow.freeze()
        if plain:
            self._check_kept(flow, plain)
        return self._begin(flow, f"{planned['plan']}@{planned['planned']}", plain, planned)

    def _begin(
        self,
        flow: Flow,
        vect_id: str,
        plain: Mapping[str, Any],
        planned: Mapping[str, str] = NO_DATA,
    ) -> Vect:
        run = Run(flow, vect_id, plain, planned, is_durable=self._log.id is not None)
        self._engine.begin(run)
        vect = self._moving[vect_id] = Vect(run, self._engine)
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

    def check_room(self, flow: Flow, at: datetime | None) -> None:
        """Refuse one more Vect of a flow where it is one too many, or where one could not go on.

        Args:
            flow: The flow.
            at: An instant that has just passed: what has ended since then is open; None for now.

        Raises:
            VectAlreadyRunningException: `max_active_vects` of them are open.
            FlowChangedError: One is left from an earlier program, and the flow has changed.
        """
        self.check_fit(flow)
        self._engine.check_room(flow, at)

    def check_fit(self, flow: Flow) -> None:
        """Refuse one more Vect of a flow of which one cannot go on.

        Raises:
            FlowChangedError: One is left from an earlier program, and the flow has changed.
        """
        for error in self._archive.unfit():
            if error.flow == flow.name:
                raise error

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
        return resumed

    def run_of(self, vect_id: str) -> Run | None:
        """Return the run of a Vect of an earlier program, if its flow is declared. Any thread."""
        entry = self._archive.entries().get(vect_id)
        if entry is None or entry.flow not in self._flows:
            return None
        return self._archive.run(entry, self._flows[entry.flow])

    def prune(self, older_than: datetime) -> list[PrunedVect]:
        """Take the Vects that ended before an instant out of the log and of memory."""
        gone = self._engine.prune(older_than)
        self._archive.read_anew()
        for vect in gone:
            self._moving.pop(vect.id, None)
        return gone
