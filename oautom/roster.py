"""The roster: the runs that the scheduler knows, and which of them are open. Any thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from datetime import datetime

from oautom.commands import Cancel, Command, Decide, Retry
from oautom.errors import (
    FlowChangedError,
    FlowError,
    OAutomError,
    UnknownStepError,
    VectAlreadyRunningException,
    VectStateError,
)
from oautom.events.log import EventLog
from oautom.events.replay import replay
from oautom.events.requests import Request
from oautom.flow import Flow
from oautom.messages import command_of
from oautom.run import Run
from oautom.states import VECT_ENDS

_logger = logging.getLogger("oautom.scheduler")


class Roster:
    """Runs by the ids of their Vects.

    Attributes:
        runs: All that are known.
        open: The ids of those that have not ended, or whose end has not been told yet.
        absent: The ids of those that are open in the log, of flows that nobody has declared yet.
        recall: Finds the run of a Vect of an earlier program, by its id.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.open: dict[str, None] = {}  # a set that keeps its order: cancels come in it
        self.absent: frozenset[str] = frozenset()
        self.recall: Callable[[str], Run | None] = lambda _: None
        self._reopening: set[str] = set()  # those that shall go on, and are not yet seen to
        self._admission = threading.Lock()  # held while it is decided whether one more may be open

    def admit(self, run: Run) -> None:
        """Take in a new run.

        Raises:
            VectAlreadyRunningException: As many of its flow are open as may be.
            FlowError: Another thread has just taken in one of its id.
        """
        with self._admission:
            self.check_room(run.flow)
            if run.id in self.runs:
                raise FlowError(f"there is a vect '{run.id}' already", flow=run.flow.name)
            self.take(run)

    def take(self, run: Run) -> None:
        """Take in a run that is open."""
        run.is_told = False
        self._reopening.discard(run.id)
        self.runs[run.id] = run
        self.open[run.id] = None

    def close(self, run: Run) -> None:
        """Take note that the end of a run has been told; unless it shall go on again by now."""
        if run.id not in self._reopening:
            run.is_told = True
            self.open.pop(run.id, None)

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

    def check_reopening(self, run: Run) -> None:
        """Refuse to go on with a run, for the reasons that `readmit` has."""
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
        if at is None and len(self.open) < flow.max_active_vects:
            return  # of no flow are as many open: thousands of starts need not look at each other
        runs = self.open_runs() if at is None else list(self.runs.values())
        active = [run.id for run in runs if run.flow is flow and self._is_active(run, at)]
        if len(active) >= flow.max_active_vects:
            raise VectAlreadyRunningException(flow.name, active, flow.max_active_vects)

    def _is_active(self, run: Run, at: datetime | None) -> bool:
        if run.shown not in VECT_ENDS or run.id in self._reopening:
            return True
        end = None if at is None else run.state.end_date
        return at is not None and end is not None and end > at

    def know(self, run: Run) -> None:
        """Take note of a run, whatever its state is."""
        self.runs.setdefault(run.id, run)

    def command_of(self, request: Request) -> Command | None:
        """Return what another process asks for, or None where that makes no sense: it is logged."""
        run = self.runs.get(request.vect) or self.recall(request.vect)
        if run is None:
            return None
        command = command_of(request)
        try:
            if isinstance(command, Retry):
                self.check_reopening(run)
            elif isinstance(command, Decide) and command.step not in run.state.steps:
                raise UnknownStepError(run.flow.name, command.step, run.state.steps)
            elif isinstance(command, Cancel):
                run.held_up = None  # to cancel it is one way out
            elif run.held_up is not None:
                raise run.held_up
        except OAutomError as error:
            _logger.warning("what another process asks for is left undone: %s", error)
            return None
        self.know(run)
        return command

    def let_go(self, older_than: datetime, at_work: Collection[str]) -> set[str]:
        """Let go of the runs that ended before an instant; return the ids of those still held.

        Args:
            older_than: The instant.
            at_work: The ids of the Vects of which work is under way: their runs are held.
        """
        self.runs = {
            vect: run
            for vect, run in self.runs.items()
            if vect in at_work or not run.has_ended_before(older_than)
        }
        return set(self.runs)

    def open_runs(self) -> Iterable[Run]:
        """Return the runs that are open."""
        return [self.runs[vect] for vect in list(self.open)]

    def go_back(self, log: EventLog) -> None:
        """Show open runs as the log has them: what could not be committed has not happened."""
        for run in self.open_runs():
            try:
                vects = replay(log.read(vect=run.id))
            except Exception:  # the log cannot even be read: nothing better is known
                _logger.exception("the log of vect %s cannot be read", run.id)
                continue
            run.state = vects.get(run.id) or run.first_state()
