"""How runs enter the engine that no call has just started: those of an earlier program, and those
whose turn has come.

They enter in portions, one a tick, so that the first ones go on before the others are read. A run
whose turn has come goes on behind the runs that came before it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from oautom.engine.containment import Containment, Notes
from oautom.engine.messages import Message, TakeOver
from oautom.engine.queue import ReadyQueue
from oautom.engine.runner import Runner
from oautom.errors import LogError, OAutomError
from oautom.events.log import EventLog
from oautom.machine.commands import Begin, Cancel, Command, Finished, Key, Recover, Retry
from oautom.machine.state import LOST
from oautom.machine.tables import INITIAL, VECT_ENDS
from oautom.vects.registry import Registry
from oautom.vects.run import Run

_logger = logging.getLogger("oautom.scheduler")

STEPS_AT_ONCE = 2_000
"""A portion ends at so many steps, except for Vects that keep slots."""

UNWANTED: Final = "the step that had it run needs it no more"


class Entering:
    """Brings in runs of earlier programs, and runs that have waited for their turn.

    Used on the driving thread, in a tick, except where a method says otherwise.

    Args:
        log: The log.
        registry: The runs.
        runner: Performs the effects.
        queue: The steps that wait for a slot, and the slots that are taken.
        containment: Takes a Vect with which the engine cannot go on out of the engine's hands.
        notes: The notes of the tick.
        put: Puts a message in the inbox; any thread.
        obey: Carries out a command.
        settle: Processes all that follows from it.

    Attributes:
        left: The runs that are to enter.
        entered: The runs that have entered in this tick, until their timers are armed after the
            commit.
    """

    def __init__(
        self,
        log: EventLog,
        registry: Registry,
        runner: Runner,
        queue: ReadyQueue,
        containment: Containment,
        notes: Notes,
        *,
        put: Callable[[Message], None],
        obey: Callable[[Command], None],
        settle: Callable[[], None],
    ) -> None:
        self._log = log
        self._registry = registry
        self._turns = registry.turns
        self._turns.on_turn = self._call_up
        self._runner = runner
        self._queue = queue
        self._containment = containment
        self._notes = notes
        self._put = put
        self._obey = obey
        self._settle = settle
        self.left: deque[Run] = deque()
        self.entered: deque[Run] = deque()
        self._going_on: dict[str, Key] = {}  # by the child, the attempt that reopens it

    # Any thread: which runs enter

    def take_over(self, runs: Sequence[Run]) -> None:
        """Go on with open runs of the log; steps that ran when their program ended run again.

        Runs whose steps keep slots of a pool while another flow runs must come first: their slots
        are counted before anything starts. Any thread.
        """
        for run in runs:
            run.is_inherited = True
        self._registry.take_left(runs)
        for run in runs:
            if run.shown != INITIAL:
                self.left.append(run)
            else:  # it waits for its turn; the log has its events
                self._registry.reader.let_go(run)
        self._put(TakeOver())

    def go_on(self, run: Run, parent: Key) -> None:
        """Reopen a child that has ended for an attempt, when its turn comes."""
        self._registry.add(run)
        run.lane = run.flow.lane(run.state.params)
        self._going_on[run.id] = parent
        if self._turns.enter(run):
            self._call_up(run)

    def stay(self, run: Run) -> bool:
        """Withdraw a child that waits to go on; False if it does not wait. Any thread."""
        if not self._turns.waits(run) or self._going_on.pop(run.id, None) is None:
            return False
        self._turns.free(run)
        return True

    def _call_up(self, run: Run) -> None:
        """Let a run begin whose turn has come. Any thread."""
        parent = self._going_on.get(run.id)
        if parent is not None:
            self._put(Retry(run.id, parent=parent))
        elif run.is_inherited or self.left:  # behind those that are to enter
            self.left.append(run)
            self._put(TakeOver())
        else:
            self._put(Begin(run.id, run.turn))

    # In a tick

    def enter(self) -> None:
        """Let a portion of the runs enter; one portion a tick, however often this is called."""
        if not self.entered:
            self._enter()

    def enter_first(self, run: Run) -> None:
        """Let a run of an earlier program enter before its turn: a person asks something of it."""
        self.left.appendleft(run)
        self._enter()

    def _enter(self) -> None:
        """Close the steps of some Vects that ran in the earlier life, before others start."""
        for hold, place in self._runner.lingering.adopt():
            self._queue.take_slot(hold.group, place, hold.takes)
        self._queue.is_held = True
        portion, steps = self.entered, 0
        while self.left and (steps < STEPS_AT_ONCE or self.left[0].keeps_slots):
            run = self.left.popleft()
            if run.is_inherited and run.id in self._registry.open:
                portion.append(run)
                steps += 1 + len(run.flow.steps)
            elif run.shown == INITIAL:  # of this life; its turn came after those
                self._put(Begin(run.id, run.turn))
        with suppress(Exception):  # an error comes again when each is read by itself
            self._registry.reader.hold_all(portion)
        for run in portion:
            if run.is_inherited:
                self._notes.in_hand = run
                self._enter_one(run)
                self._settle()
        self._queue.is_held = False

    def _enter_one(self, run: Run) -> None:
        if run.held_up is not None:  # a failure may have left its state half changed
            self._registry.go_back(self._log, run)
        if not self.hold(run):
            return
        self._notes.in_hand = run.state
        run.held_up = None
        run.is_inherited = False
        if run.state.state in VECT_ENDS:  # it was cancelled just before this
            self._registry.shut(run)
            return
        if run.state.state != "ending" and not self.is_wanted(run):
            self._obey(Cancel(run.id, UNWANTED))
            if run.state.state in VECT_ENDS:
                return  # else its cleanup steps go on
        if run.state.state == INITIAL:
            news = run.news()
            data: dict[str, Any] = {"options": news} if news else {}
            data |= {**run.turn, "recovered": True} if run.turn else {}
            self._obey(Begin(run.id, MappingProxyType(data)))
            return
        lost = run.lost_steps()
        self._obey(Recover(run.id, frozenset(step.name for step in lost), run.news()))
        self._settle()
        for step in lost:
            self._obey(Finished(run.id, step.name, step.attempt, error=LOST))
            self._settle()
        self._queue.take_over(run.state)
        if run.state.options:
            self._open_again(run)

    def _open_again(self, run: Run) -> None:
        """Take a slot for each running instance of a map whose child has not begun."""
        for step in run.state.steps.values():
            if step.kind == "flow" and step.parent is not None and step.state == "running":
                child = self._registry.runs.get(step.child or "")
                if child is None or child.shown == INITIAL:  # no step of it can be next
                    self._runner.open_again((run.id, step.name, step.attempt))

    def hold(self, run: Run) -> bool:
        """Read the state of a run that has waited, or was left; False if it makes no sense."""
        try:
            run.hold()
        except LogError as error:
            self._leave(run, error)
            return False
        return True

    def _leave(self, run: Run, error: LogError) -> None:
        """Leave a run whose events make no sense; all others go on."""
        run.held_up = error
        self._registry.shut(run)
        self._notes.news.append(run.id)
        _logger.error("%s", error)

    def go_on_in(self, child: str, parent: Key) -> None:
        """Reopen a child whose turn has come, unless the attempt that runs it is over."""
        self._going_on.pop(child, None)
        self._runner.opened(parent)
        run = self._registry.runs.get(child)
        if run is None or run.held_up is not None or run.shown not in VECT_ENDS:
            return  # a person has retried it, and it runs
        try:
            if run.shown != "success" and self._is_running(*parent):
                self._registry.reopen(run, has_place=True)
                self._obey(Retry(run.id, run.news(), parent))
                return
        except OAutomError as error:
            _logger.warning("vect '%s' does not go on: %s", run.id, error)
        self._turns.free(run)
        self._notes.ended.append(run)

    def is_wanted(self, run: Run) -> bool:
        """Whether a Vect is still needed: it is no child, or the attempt that runs it goes on.

        A child that was retried by itself has a life of its own.
        """
        if run.state.parent is None or run.state.is_reopened:
            return True
        return self._is_running(*run.state.parent)

    def _is_running(self, vect: str, step: str, attempt: int) -> bool:
        known = self._registry.runs.get(vect)  # None if its flow is undeclared
        parent = self._registry.reader.read(vect) if known is None else known.state
        if parent is None or parent.state in VECT_ENDS or step not in parent.steps:
            return False
        state = parent.steps[step]
        return state.state == "running" and state.attempt == attempt

    # Around the commit

    def note(self, run: Run) -> None:
        """Note that a run belongs to this life now: its timers are armed after the commit."""
        run.is_inherited = False
        self.entered.append(run)

    def take_back(self) -> None:
        """Let runs enter again that have entered in a tick that was taken back."""
        for run in self.entered:
            run.is_inherited = True
        self.left.extendleft(reversed(self.entered))
        self.entered.clear()

    def see_to(self, now: datetime) -> None:
        """Arm the timers of the runs that have entered, after the commit."""
        while self.entered:
            run = self.entered.popleft()  # in order: timers of one instant keep it
            try:
                if run.held_up is None:
                    self._runner.rearm(run, now)
            except Exception:
                _logger.exception("the timers of vect '%s' could not be set", run.id)
                self._containment.strand(run)
