"""What the log holds of earlier programs: the Vects that have ended, and those that shall go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Container, Mapping
from weakref import WeakValueDictionary

from oautom import forked
from oautom.engine import ForegroundEngine
from oautom.errors import (
    EngineError,
    FlowChangedError,
    FlowError,
    InvalidHistoryError,
    LogError,
    OAutomError,
    exhausted,
)
from oautom.events.event import is_answer
from oautom.events.fold import VectState
from oautom.events.log import EventLog, PrunedVect, VectEntry, keeps_objects
from oautom.events.replay import replay
from oautom.executors.leftovers import end_leftovers
from oautom.flow import Flow
from oautom.run import Run
from oautom.states import VECT_ENDS
from oautom.texts import error_of
from oautom.vect import Vect

_logger = logging.getLogger("oautom.recovery")


class Recalled(Run):
    """A run of an earlier program; its events are read when its state is first asked for."""

    __slots__ = ("_log", "_setting", "_state")

    def __init__(self, flow: Flow, entry: VectEntry, log: EventLog) -> None:
        self._setting = threading.Lock()
        super().__init__(flow, entry.id, is_durable=not keeps_objects(log))
        self._log = log
        self.is_created = True
        self.look(entry)

    def look(self, entry: VectEntry) -> None:
        """Stand as the log has it by now; as long as nobody here drives."""
        self._state: VectState | None = None
        self.shown = entry.state
        self.is_told = entry.state in VECT_ENDS
        self.is_inherited = not self.is_told
        self.held_up = None
        if not self.is_told:
            self.held_up = EngineError(
                f"vect '{entry.id}' of flow '{entry.flow}' was left open by an earlier program; "
                "app.recover() has it go on",
                flow=entry.flow,
            )

    @property
    def is_unread(self) -> bool:
        """Whether its events have not been read yet, or cannot be."""
        return self._state is None

    @property
    def state(self) -> VectState:
        """What the events add up to.

        Of several threads that ask first each reads them, so that no slow reader holds up the
        engine; the one that is done first sets it for all. Until then nothing moves it.

        Raises:
            LogError: They cannot be read, or make no sense.
        """
        if self._state is None:
            found = self._load()
            with self._setting:
                if self._state is None:
                    self._state = found
        return self._state

    @state.setter
    def state(self, state: VectState) -> None:
        self._state = state

    def _load(self) -> VectState:
        try:
            found = replay(self._log.read(vect=self.id)).get(self.id)
        except Exception as error:  # an event that no version of ours has written may do anything
            if isinstance(error, LogError) and not isinstance(error, InvalidHistoryError):
                raise
            raise LogError(
                f"vect '{self.id}' of flow '{self.flow.name}' does not go on, since its events "
                f"make no sense: {error_of(error)}; give it up: app.vect({self.id!r}).cancel()"
            ) from error
        if found is None:
            raise LogError(f"the log has lost the events of vect '{self.id}'")
        return found


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
        self._entries: dict[str, VectEntry] | None = None
        self._pruned: dict[str, PrunedVect] | None = None
        self._vects: WeakValueDictionary[str, Vect] = WeakValueDictionary()
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
            if (entry := self.entries().get(run.id)) is not None:
                run.look(entry)

    def entries(self) -> Mapping[str, VectEntry]:
        """Return an entry for each Vect, by its id, oldest first."""
        last_seq = self._last_seq
        if last_seq is None:
            return {entry.id: entry for entry in self._log.vects()}
        entries = self._entries  # one look: another thread may have it read anew
        if entries is None:
            found = self._log.vects() if last_seq else []
            entries = self._entries = {e.id: e for e in found if e.first_seq <= last_seq}
        return entries

    def vect(self, entry: VectEntry, flow: Flow) -> Vect:
        """Return the Vect of an entry; the same one as long as anybody has it."""
        run = self.run(entry, flow)
        with self._lock:
            vect = self._vects.get(entry.id)
            if vect is None:
                vect = self._vects[entry.id] = Vect(run, self._engine)
            return vect

    def run(self, entry: VectEntry, flow: Flow) -> Recalled:
        """Return the run of an entry; the same one as long as anybody has it."""
        with self._lock:
            run = self._runs.setdefault(entry.id, Recalled(flow, entry, self._log))
            if self._last_seq is None:
                run.look(entry)
            return run

    def resume(self, flows: Mapping[str, Flow], known: Container[str]) -> list[Vect]:
        """Have the open Vects go on whose flow is as it was, and return them.

        Args:
            flows: The flows that are ready, by name.
            known: Ids of the Vects that have gone on already.
        """
        self._unfit = []
        self.absent = set()
        resumed: list[Vect] = []
        for entry in self.entries().values():
            if entry.state in VECT_ENDS or entry.id in known:
                continue
            if entry.flow not in flows:
                self.absent.add(entry.flow)
                if entry.id not in self._told:
                    self._told.add(entry.id)
                    _logger.warning("vect '%s' waits for flow '%s' to be declared", *entry[:2])
                continue
            vect = self.vect(entry, flows[entry.flow])
            if self._is_fit(self._runs[entry.id]):
                resumed.append(vect)
        self._engine.take_over([self._runs[vect.id] for vect in resumed], self._unfit)
        return resumed

    def _is_fit(self, run: Recalled) -> bool:
        try:
            state = run.state
        except LogError as error:  # all others go on
            run.held_up = error
            self._unfit.append(run)
            return False
        if state.state in VECT_ENDS:  # cancelled meanwhile
            return False
        differences = state.graph.differences(run.flow.graph)
        differences += run.flow.params.differences(state.params)
        if differences:
            run.held_up = FlowChangedError(run.flow.name, run.id, differences)
        else:
            run.held_up = _refusal(run.flow)
        if run.held_up is not None:
            self._unfit.append(run)
        return run.held_up is None

    def unfit(self) -> list[tuple[Run, OAutomError]]:
        """Return why Vects could not be resumed, of those that have not been given up."""
        return [(run, run.held_up) for run in self._unfit if run.held_up is not None]

    def pruned(self) -> Mapping[str, PrunedVect]:
        """Return the Vects whose events are gone, by their ids."""
        pruned = self._pruned
        if pruned is None:
            pruned = {vect.id: vect for vect in self._log.pruned()}
            if self._last_seq is not None:
                self._pruned = pruned
        return pruned

    def read_anew(self) -> None:
        """Read the log again when it is next needed: it has been pruned."""
        self._entries = self._pruned = None

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


def _refusal(flow: Flow) -> FlowError | None:
    """Return why a flow cannot be started, or None; the Vects of others must go on."""
    try:
        flow.freeze()
    except FlowError as error:
        return error
    return None
