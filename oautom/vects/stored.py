"""Runs whose state is in the log, and is read on demand.

The engine drops the state of a Vect that has ended, and has never had that of a Vect of an earlier
program. Reading a state takes only the events of that Vect, however many have come after them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from oautom.errors import (
    EngineError,
    FlowChangedError,
    InvalidHistoryError,
    LogError,
    UnknownVectError,
)
from oautom.events.log import EventLog, VectEntry
from oautom.flows.fit import misfit
from oautom.flows.flow import Flow
from oautom.machine.state import VectState, replay
from oautom.machine.tables import VECT_ENDS
from oautom.values.text import error_of
from oautom.vects.run import Local, Run

_RECENT: Final = 16
"""How many states that were read, or have just ended, are cached: these are read again soonest."""


class Reader:
    """A reader of the states of Vects that do not move, from a log.

    Args:
        log: The log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._recent: dict[str, VectState] = {}
        self._reading: dict[str, object] = {}  # by Vect, the newest look into the log for it
        self._locals: deque[Local] = deque(maxlen=_RECENT)
        self.read_run = self.state_of  # one bound method for all runs: 64 bytes less for each
        self._lock = threading.Lock()

    def read(self, vect: str) -> VectState | None:
        """Return the state of a Vect; None if it has no events. Any thread.

        Raises:
            LogError: The events cannot be read, or make no sense.
        """
        if (state := self._recent.get(vect)) is not None:
            return state
        reading = self._reading[vect] = object()
        state = None
        try:
            state = replay(self._log.read(vect=vect)).get(vect)
        finally:
            with self._lock:  # a state that has changed meanwhile is not cached
                if self._reading.get(vect) is reading:
                    del self._reading[vect]
                    if state is not None:
                        self._keep(state)
        return state

    def state_of(self, run: Run) -> VectState:
        """Return the state of the Vect of a run; errors as of `read`."""
        try:
            state = self.read(run.id)
        except Exception as error:  # foreign events may raise anything
            if isinstance(error, LogError) and not isinstance(error, InvalidHistoryError):
                raise
            raise _senseless(run, error) from error
        if state is None and run.is_told:
            raise UnknownVectError(f"vect '{run.id}' was pruned from the log", flow=run.flow.name)
        if state is None:
            raise LogError(f"the log has lost the events of vect '{run.id}'")
        return state

    def read_each(self, vects: Sequence[str]) -> Iterator[VectState]:
        """Yield the states of Vects, in order, read together, and cache none of them.

        A Vect that cannot be read is left out; reading it by itself raises the error.
        """
        with suppress(LogError):
            events = self._log.read_each(vects)
            for vect, of_vect in groupby(events, key=attrgetter("vect")):
                with suppress(Exception):  # as above
                    yield replay(of_vect)[vect]

    def hold_all(self, runs: Sequence[Run]) -> None:
        """Load the states of runs for the engine, except for those that cannot be read."""
        left = {run.id: run for run in runs if not run.is_held}
        for state in self.read_each(list(left)):
            left[state.id].hold(state)

    def let_go(self, run: Run) -> None:
        """Drop the state of a run that has just ended, and cache it for a while."""
        if run.is_held:
            if not run.local.remote:  # else a cluster would keep its outputs
                self._locals.append(run.local)
            with self._lock:
                self._reading.pop(run.id, None)
                self._keep(run.state)
            run.let_go(self.read_run)

    def _keep(self, state: VectState) -> None:
        self._recent.pop(state.id, None)
        self._recent[state.id] = state
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]

    def forget(self, vect: str) -> None:
        """Drop the cached state of a Vect, so that its events are read again."""
        with self._lock:
            self._reading.pop(vect, None)
            self._recent.pop(vect, None)


def open_before(log: EventLog, after: str | None) -> str | None:
    """Return the open Vect that one of a backfill comes after, if there is one.

    Where the one before was cancelled before it began, that is the one before that.

    Args:
        log: The log.
        after: The Vect that it comes after, as its `vect.created` has it.
    """
    while after is not None:
        entry = log.find(after)
        if entry is not None and entry.state not in VECT_ENDS:
            return after
        events = [] if entry is None else list(log.read(entry.first_seq - 1, vect=after))
        has_begun = any(event.name == "vect.started" for event in events)
        after = None if has_begun or not events else events[0].data.get("after")
    return None


def unfit(run: Run, created: Mapping[str, Any] | None = None) -> FlowChangedError | None:
    """Return why a run cannot go on with its flow as it is declared now, or None.

    Args:
        run: The run.
        created: The data of its `vect.created`; None to read its state.

    Raises:
        LogError: The state cannot be read, or makes no sense.
    """
    facts = run.state.first_facts() if created is None else created
    try:
        return misfit(run.flow, run.id, facts, has_ended=run.shown in VECT_ENDS)
    except Exception as error:  # as in `state_of`
        raise _senseless(run, error) from error


def _senseless(run: Run, error: Exception) -> LogError:
    return LogError(
        f"vect '{run.id}' of flow '{run.flow.name}' does not go on, since its events make no "
        f"sense: {error_of(error)}; give it up: app.vect({run.id!r}).cancel()"
    )


class Recalled(Run):
    """A run of an earlier program; its events are read when its state is first needed."""

    __slots__ = ("_left",)

    def __init__(self, flow: Flow, entry: VectEntry, reader: Reader, *, is_durable: bool) -> None:
        super().__init__(flow, entry.id, is_durable=is_durable, read=reader.read_run)
        self.is_created = True
        self.look(entry)

    @property
    def is_left(self) -> bool:
        """Whether it is open, and no engine of this program has dealt with it."""
        return self.held_up is not None and self.held_up is self._left

    def look(self, entry: VectEntry) -> None:
        """Take the state from the entry of the log, unless an engine of this program drives it."""
        self.shown = entry.state
        self.is_told = entry.state in VECT_ENDS
        self.is_inherited = not self.is_told
        self.held_up = None
        if self.is_told:
            self.ended = entry.changed
        else:
            self._left = self.held_up = EngineError(
                f"vect '{entry.id}' of flow '{entry.flow}' was left open by an earlier program; "
                "app.recover() goes on with it",
                flow=entry.flow,
            )
