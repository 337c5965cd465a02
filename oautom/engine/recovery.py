"""What the log holds of earlier programs: the Vects that have ended, and those that shall go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final
from weakref import WeakValueDictionary

from oautom.engine.modes import ForegroundEngine
from oautom.errors import EngineError, FlowChangedError, FlowError, LogError, OAutomError, exhausted
from oautom.events.log import EventLog, PrunedVect, VectEntry, keeps_objects
from oautom.flows.flow import Flow
from oautom.machine.event import Event, is_answer
from oautom.machine.graph import Graph
from oautom.machine.tables import VECT_ENDS
from oautom.processes import forked
from oautom.processes.leftovers import end_leftovers
from oautom.vects.run import Reader, Run
from oautom.vects.vect import Vect

_logger = logging.getLogger("oautom.recovery")


_AT_ONCE: Final = 100
"""Of how many Vects the events are read at a time."""


class Recalled(Run):
    """A run of an earlier program; its events are read when its state is first asked for."""

    __slots__ = ()

    def __init__(self, flow: Flow, entry: VectEntry, reader: Reader, *, is_durable: bool) -> None:
        super().__init__(flow, entry.id, is_durable=is_durable, reader=reader)
        self.is_created = True
        self.look(entry)

    def look(self, entry: VectEntry) -> None:
        """Stand as the log has it by now; as long as nobody here drives."""
        self.shown = entry.state
        self.is_told = entry.state in VECT_ENDS
        self.is_inherited = not self.is_told
        self.held_up = None
        if self.is_told:
            self.ended = entry.changed
        else:
            self.held_up = EngineError(
                f"vect '{entry.id}' of flow '{entry.flow}' was left open by an earlier program; "
                "app.recover() has it go on",
                flow=entry.flow,
            )


class Archive:
    """The Vects that the log had already when the app opened it; until then, those that it has.

    Args:
        log: The log.
        engine: Who shall drive those that go on.
    """

    def __init__(self, log: EventLog, engine: ForegroundEngine) -> None:
        self._log = log
        self._engine = engine
        self._last_seq: int | None = None  # until it is open
        self._has_pruned = False
        self._reader = engine.reader
        self._vects: WeakValueDictionary[Run, Vect] = WeakValueDictionary()
        self._runs: WeakValueDictionary[str, Recalled] = WeakValueDictionary()
        self._lock = threading.Lock()  # of what is held weakly: there is one run of a Vect
        self._unfit: list[Recalled] = []
        self._told: set[str] = set()  # ids of those of which it was said that they wait
        self.absent: set[str] = set()  # names of the flows that some wait for
        forked.share(self)

    def leave(self) -> None:
        """Have the lock free in a forked child: a thread of the parent may have it."""
        self._lock = threading.Lock()

    def log_is_open(self) -> None:
        """Take what the log has by now for what earlier programs have left: it is open."""
        self._last_seq = self._log.last_seq
        with self._lock:
            known = list(self._runs.values())
        for run in known:  # somebody has them, and the engine that wrote them has gone on
            if (entry := self.find(run.id)) is not None:
                self._look(run, entry)

    def _look(self, run: Recalled, entry: VectEntry) -> None:
        run.look(entry)
        self._reader.forget(entry.id)

    def entries(self, flow: str | None = None) -> list[VectEntry]:
        """Return an entry for each Vect of one flow, or of all, oldest first."""
        return [] if self._last_seq == 0 else list(filter(self._is_past, self._log.vects(flow)))

    def find(self, vect: str) -> VectEntry | None:
        """Return the entry of a Vect, None if there is none of this id."""
        entry = None if self._last_seq == 0 else self._log.find(vect)
        return entry if entry is not None and self._is_past(entry) else None

    def _is_past(self, entry: VectEntry) -> bool:
        return self._last_seq is None or entry.first_seq <= self._last_seq

    def _left_open(self) -> list[VectEntry]:
        found = [] if self._last_seq == 0 else self._log.open_vects()
        return list(filter(self._is_past, found))

    def vect(self, entry: VectEntry, flow: Flow) -> Vect:
        """Return the Vect of an entry; the same one as long as anybody has it."""
        return self.vect_of(self.run(entry, flow))

    def vect_of(self, run: Run) -> Vect:
        """Return the Vect of a run; the same one as long as anybody has it."""
        with self._lock:
            vect = self._vects.get(run)
            if vect is None:
                vect = self._vects[run] = Vect(run, self._engine)
            return vect

    def run(self, entry: VectEntry, flow: Flow) -> Recalled:
        """Return the run of an entry; the same one as long as anybody has it."""
        with self._lock:
            run = self._runs.get(entry.id)
            if run is None:
                is_durable = not keeps_objects(self._log)
                run = Recalled(flow, entry, self._reader, is_durable=is_durable)
                self._runs[entry.id] = run
            elif self._last_seq is None:
                self._look(run, entry)
            return run

    def known(self, vect: str) -> Recalled | None:
        """Return the run of a Vect if anybody has it, and nobody else may move it."""
        return None if self._last_seq is None else self._runs.get(vect)

    def resume(
        self, flows: Mapping[str, Flow], known: Container[str], *, is_read: bool
    ) -> list[Run]:
        """Have the open Vects go on whose flow is as it was, and return their runs, oldest first.

        Args:
            flows: The flows that are ready, by name.
            known: Ids of the Vects that have gone on already.
            is_read: All that their events tell is looked at here: whether they make sense. Else
                whoever drives does so when each is about to go on.
        """
        self._unfit = []
        left = [entry for entry in self._left_open() if entry.id not in known]
        self._tell_of_absent([entry for entry in left if entry.flow not in flows])
        found = [self.run(entry, flows[entry.flow]) for entry in left if entry.flow in flows]
        runs = [run for run in found if run.is_inherited and run.shown not in VECT_ENDS]
        first = [run for run in runs if run.keeps_slots]  # as `Scheduler.take_over` wants it
        others = [run for run in runs if not run.keeps_slots]
        self._engine.expect(runs)
        portions = [first, *(others[at : at + _AT_ONCE] for at in range(0, len(others), _AT_ONCE))]
        refusals: dict[Flow, FlowError | None] = {}
        resumed: set[Run] = set()
        for portion in portions:
            fit = self._fit_of(portion, refusals, is_read=is_read)
            self._engine.take_over(fit)
            resumed.update(fit)
        self._engine.leave(self._unfit)
        return [run for run in runs if run in resumed]

    def _tell_of_absent(self, entries: Sequence[VectEntry]) -> None:
        self.absent = {entry.flow for entry in entries}
        for entry in entries:
            if entry.id not in self._told:
                self._told.add(entry.id)
                _logger.warning("vect '%s' waits for flow '%s' to be declared", *entry[:2])

    def _fit_of(
        self, runs: Sequence[Recalled], refusals: dict[Flow, FlowError | None], *, is_read: bool
    ) -> list[Recalled]:
        """Return the runs that can go on; of the others, why they cannot is kept."""
        begun: dict[str, Event] = {}
        if is_read:
            self._reader.hold_all(runs)
        else:
            with suppress(LogError):  # then each is read, which tells whose event it is
                begun = {event.vect: event for event in self._log.read_each(_ids(runs), 1)}
        for run in runs:
            try:
                run.held_up = _changes(run, begun.get(run.id)) or _refusal(run.flow, refusals)
            except LogError as error:  # all others go on
                run.held_up = error
        self._unfit += [run for run in runs if run.held_up is not None]
        return [run for run in runs if run.held_up is None and run.shown not in VECT_ENDS]

    def unfit(self) -> list[tuple[Run, OAutomError]]:
        """Return why Vects could not be resumed, of those that have not been given up."""
        return [(run, run.held_up) for run in self._unfit if run.held_up is not None]

    def find_pruned(self, vect: str) -> PrunedVect | None:
        """Return the Vect of this id whose events are gone, None if there is none."""
        is_possible = self._last_seq != 0 or self._has_pruned
        return self._log.find_pruned(vect) if is_possible else None

    def has_pruned(self) -> None:
        """Take note that Vects that have begun in this app may have been pruned."""
        self._has_pruned = True

    def end_leftovers(self) -> None:
        """End the processes of a dead program: no step may run twice at once."""
        if self._log.id is None:
            return
        try:
            ended = end_leftovers(self._log.id, self._is_open)
        except OSError as error:
            raise exhausted("it cannot be told what a dead program has left", error) from error
        for pid in ended:
            _logger.warning("process %d, left by a dead program, was ended", pid)

    def _is_open(self, vect: str, step: str | None, attempt: str | None) -> bool:
        """Whether an attempt has not ended by itself: it runs, or was cancelled or abandoned.

        What one has left behind that has, it has left on purpose; so it is with one of a Vect that
        the log does not have (any more).
        """
        is_known = False
        for event in self._log.read(vect=vect):
            is_known = True
            is_its = event.step == step and str(event.attempt) == attempt
            if is_its and is_answer(event) and "abandoned" not in event.data:
                return False
        return is_known


def _changes(run: Recalled, begun: Event | None) -> FlowChangedError | None:
    """Return why a run does not fit its flow any more, or None.

    Args:
        run: The run.
        begun: Its first event, which tells that; None to look at all of them.

    Raises:
        LogError: They cannot be read, or make no sense.
    """
    if begun is None or not begun.data.keys() >= {"graph", "params"}:
        run.hold()
        graph, params = run.state.graph, run.state.params
    else:
        graph, params = Graph(begun.data["graph"]), begun.data["params"]
    differences = graph.differences(run.flow.graph) + run.flow.params.differences(params)
    return FlowChangedError(run.flow.name, run.id, differences) if differences else None


def _ids(runs: Iterable[Run]) -> list[str]:
    return [run.id for run in runs]


def _refusal(flow: Flow, known: dict[Flow, FlowError | None]) -> FlowError | None:
    """Return why a flow cannot be started, or None; the Vects of others must go on."""
    if flow not in known:
        try:
            flow.freeze()
        except FlowError as error:
            known[flow] = error
        else:
            known[flow] = None
    return known[flow]
