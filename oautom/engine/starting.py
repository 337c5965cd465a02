"""The Vects that an app knows: those that move in it, and those of earlier programs.

Nothing here is guarded: the app calls it under its lock. What children ask, on the thread that
drives, says that it may be called on any.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

from oautom.engine.modes import ForegroundEngine
from oautom.engine.recovery import Archive
from oautom.errors import (
    FlowError,
    OAutomError,
    UnknownFlowError,
    UnknownVectError,
    ValueTooLargeError,
    shown,
)
from oautom.events.log import EventLog, PrunedVect, VectEntry, keeps_objects
from oautom.flows.flow import Flow
from oautom.machine.event import NO_DATA
from oautom.values.json import at_heart
from oautom.vects.run import Run, status_of
from oautom.vects.vect import Vect

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
        self._moving: dict[str, Run] = {}  # those that move, or have moved, in this app
        self._is_recovered = False
        self._is_listening = False
        self._ready: dict[str, Flow] = {}  # those of which the Vects go on that are left

    def log_is_open(self) -> None:
        """Take what the log has by now for what earlier programs have left; it is open."""
        self._archive.log_is_open()

    def __len__(self) -> int:
        """Return how many move, or have moved, in this app."""
        return len(self._moving)

    def of(self, flow: str | None) -> Iterator[Vect]:
        """Yield the Vects of one flow, or of all that are declared, oldest first."""
        return (self._archive.vect_of(self._run(each)) for each in self._each(flow))

    def _each(self, flow: str | None) -> Iterator[Run | VectEntry]:
        """Yield runs, and entries of those Vects that nobody has a run of."""
        past: set[str] = set()
        for entry in self._archive.entries(flow):
            past.add(entry.id)
            if entry.flow in self._flows:
                yield self._moving.get(entry.id) or self._archive.known(entry.id) or entry
        for run in list(self._moving.values()):  # children come on the scheduler's thread
            is_wanted = run.id not in past and flow in (None, run.flow.name)
            if is_wanted and self._engine.is_created(run.id):
                yield run

    def _run(self, each: Run | VectEntry) -> Run:
        if isinstance(each, Run):
            return each
        return self._archive.run(each, self._flows[each.flow])

    def newest(self, flow: str) -> Vect | None:
        """Return the newest Vect of a flow, None if it has none."""
        entry = self._log.newest(flow)
        if entry is None:
            return None
        return self._archive.vect_of(self._moving.get(entry.id) or self._run(entry))

    def statuses(self, lock: threading.Lock) -> Iterator[dict[str, Any]]:
        """Yield the status of each Vect, newest first; the log is read without the lock."""
        with lock:
            vects = list(self._each(None))
        vects.reverse()
        states = self._engine.reader.read_each([v.id for v in vects if not _is_held(v)])
        state = next(states, None)
        for each in vects:
            if state is None or state.id != each.id or _is_held(each):
                with suppress(UnknownVectError):  # it has just been pruned
                    yield self._engine.status(self._run(each))  # not read, or just retried
            else:
                yield status_of(state, each.shown if isinstance(each, Run) else each.state)
            if state is not None and state.id == each.id:
                state.steps.clear()  # they refer to each other: no collector has to find them
                state = next(states, None)

    def start(self, flow: Flow, params: object, vect_id: str | None) -> Vect:
        """Return the Vect of this id, or take in a new one; recover before, if that was not done.

        `create` has it begin.

        Raises:
            VectAlreadyRunningException: `max_active_vects` of the flow are open.
            ParamError: A parameter is unknown, missing, wrong, or another one than in this Vect.
            Whatever `find_of` and `Flow.freeze` raise.
        """
        self.recover_once()
        if not flow.is_frozen and any(run.flow is flow for run, _ in self._archive.unfit()):
            self._recover(is_read=False)  # it may have had some of its steps only
        known = None if vect_id is None else self.find_of(flow, vect_id)
        if known is not None:
            if params is not None:
                flow.params.check_same(known.id, known.status()["params"], params)
            return known
        run = self.new(flow, vect_id or os.urandom(8).hex(), params)
        self._engine.admit(run)
        return self._known(run)

    def create(self, vect: Vect, timeout: float) -> None:
        """Return when the log has that a Vect was begun; errors as of `ForegroundEngine.create`."""
        try:
            self._engine.create(vect.id, timeout)
        except OAutomError:
            if not self._engine.knows(vect.id):  # it was withdrawn
                self._moving.pop(vect.id, None)
            raise

    def begin_soon(self, vect: Vect) -> None:
        """Have a Vect begin with the next tick, if it has not."""
        self._engine.begin_soon(vect.id)

    def _known(self, run: Run) -> Vect:
        self._moving[run.id] = run
        return self._archive.vect_of(run)

    def new(
        self, flow: Flow, vect_id: str, params: object, origin: Mapping[str, Any] = NO_DATA
    ) -> Run:
        """Return a new run, for `begin`; any thread.

        Args:
            flow: The flow.
            vect_id: An id that no Vect has.
            params: The parameters, as of `OAutom.start`.
            origin: What starts it, if nobody does; see `Run`.

        Raises:
            ParamError: A parameter is unknown, missing or wrong.
            Whatever `Flow.freeze` raises.
        """
        plain = flow.params.plain(params)
        flow.freeze()
        if plain:
            self._check_kept(flow, plain)
        return Run(flow, vect_id, plain, origin, is_durable=not keeps_objects(self._log))

    def begin(self, run: Run) -> None:
        """Have a new run begin; any thread.

        Raises:
            VectAlreadyRunningException: `max_active_vects` of its flow are open.
        """
        self._engine.begin(run)
        self._moving[run.id] = run

    def _check_kept(self, flow: Flow, plain: Mapping[str, Any]) -> None:
        try:
            self._log.check_value(dict(plain))
        except ValueTooLargeError as error:
            raise flow.params.error(f"its parameters cannot be kept: {error}") from error

    def find(self, vect_id: str) -> Vect | None:
        """Return the Vect of this id, or None.

        Raises:
            UnknownVectError: It has been pruned.
            UnknownFlowError: Its flow is not declared.
        """
        if vect_id in self._moving:
            return self._archive.vect_of(self._moving[vect_id])
        entry = self._entry(vect_id)
        return None if entry is None else self._archive.vect(entry, self._flows[entry.flow])

    def _entry(self, vect_id: str) -> VectEntry | None:
        """Return the entry of a Vect of an earlier program, or None; errors as of `find`."""
        if (entry := self._archive.find(vect_id)) is not None:
            if entry.flow not in self._flows:
                raise UnknownFlowError(entry.flow, self._flows)
            return entry
        if gone := self._archive.find_pruned(vect_id):
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

    def check_room(self, flow: Flow, at: datetime | None) -> None:
        """Refuse one more Vect of a flow where it is one too many.

        Args:
            flow: The flow.
            at: An instant that has just passed: what has ended since then is open; None for now.

        Raises:
            VectAlreadyRunningException: `max_active_vects` of them are open.
        """
        self._engine.check_room(flow, at)

    def recover(self) -> list[Vect]:
        """Have the Vects go on that a dead program has left open, and return them.

        Raises:
            FlowChangedError: A Vect does not go on, since its flow has changed; all others do.
        """
        self._ready.update(self._flows)
        resumed = self._recover(is_read=True)
        for _, error in self._archive.unfit():
            if isinstance(error, FlowError):
                raise error
            _logger.error("%s", error)
        return [self._archive.vect_of(run) for run in resumed]

    def recover_once(self, flows: Iterable[Flow] | None = None) -> None:
        """Have go on what is left of flows of which it does not yet; tell the logger what does not.

        A flow counts as it is declared when somebody uses it: until then the program may be about
        to declare its steps.

        Args:
            flows: Those that are ready; None for all that are declared by now.
        """
        if flows is None and len(self._ready) == len(self._flows) and self._is_recovered:
            self._listen_once()
            return
        wanted = self._flows if flows is None else {flow.name: flow for flow in flows}
        new = wanted.keys() - self._ready.keys()
        self._ready.update(wanted)
        if not self._is_recovered or not self._archive.absent.isdisjoint(new):
            self._recover(is_read=False)
            for run, error in self._archive.unfit():
                if run.flow.name in new:
                    _logger.error("%s", error)
        elif new:
            self._engine.look_again()
        self._listen_once()

    def _recover(self, *, is_read: bool) -> list[Run]:
        if not self._is_recovered:
            self._archive.end_leftovers()
        resumed = self._archive.resume(self._ready, self._moving, is_read=is_read)
        self._is_recovered = True
        self._moving.update((run.id, run) for run in resumed)
        self._listen_once()  # last: what goes on by now is no leftover where this raises
        return resumed

    def _listen_once(self) -> None:
        """Do at once what other processes ask for; where that cannot be, the next call tries."""
        if not self._is_listening and self._log.id is not None:
            self._engine.listen()
            self._is_listening = True

    def recalled(self, vect_id: str) -> Run | None:
        """Return the run of a Vect of an earlier program, or None, as `find` does. Any thread.

        Raises:
            UnknownVectError: It has been pruned.
            UnknownFlowError: Its flow is not declared, or nobody has used it yet.
        """
        entry = self._entry(vect_id)
        if entry is None:
            return None
        if entry.flow not in self._ready:
            raise UnknownFlowError(entry.flow, self._ready)
        return self._archive.run(entry, self._flows[entry.flow])

    def prune(self, older_than: datetime) -> list[PrunedVect]:
        """Take the Vects that ended before an instant out of the log and of memory."""
        gone = self._engine.prune(older_than)
        self._archive.has_pruned()
        for vect in gone:
            self._moving.pop(vect.id, None)
        return gone


def _is_held(each: Run | VectEntry) -> bool:
    return isinstance(each, Run) and each.is_held


def flow_of(app: object, flows: Mapping[str, Flow], flow: object) -> Flow:
    """Return the flow of an app that an argument names, or is.

    Args:
        app: The app.
        flows: Its flows, by name.
        flow: The argument.

    Raises:
        UnknownFlowError: There is none of this name.
        FlowError: It is one of another app, or neither a flow nor a name.
    """
    if issubclass(type(flow), Flow):
        declared = cast("Flow", flow)
        if declared.app is not app:
            raise FlowError(
                f"flow '{declared.name}' belongs to another app; start it there", flow=declared.name
            )
        return declared
    name = at_heart(flow)
    if type(name) is not str:
        raise FlowError(f"flow must be a Flow or the name of one, not {shown(flow)}")
    if name not in flows:
        raise UnknownFlowError(name, flows)
    return flows[name]
