"""How runs enter that nobody has just started: left by an earlier program, or called to their turn.

They come some at a time, a portion in each tick, so that the first ones go on while the others are
still to be read. Who has been called to its turn goes on behind those that came before it.
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
"""Of how many steps the Vects are taken over in one tick; but for those that keep slots."""

UNWANTED: Final = "the step that had it run needs it no more"


class Entering:
    """Has runs begin or go on that were left, or that have stood in line.

    Used on the thread that drives, in a tick, but where a method says otherwise.

    Args:
        log: The log.
        registry: The runs.
        runner: Who has the work done.
        queue: Who waits for a slot, or has one.
        containment: What becomes of a Vect with which the engine cannot go on.
        notes: What the tick has noted.
        put: Puts a message in the inbox; any thread.
        obey: Has a command make happen what it asks for.
        settle: Has happen what follows from it.

    Attributes:
        left: Those that are to enter.
        entered: Those that have entered in this tick, until its commit is seen to.
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
        self._going_on: dict[str, Key] = {}  # children that go on in their turn: for which attempt

    # Any thread: who enters

    def take_over(self, runs: Sequence[Run]) -> None:
        """Have runs go on that the log has open; what ran when their program ended runs again.

        Those whose steps keep slots of a pool while another flow runs must come first: what they
        have is counted before anything starts. Any thread.
        """
        for run in runs:
            run.is_inherited = True
        self._registry.take_left(runs)
        for run in runs:
            if run.shown != INITIAL:
                self.left.append(run)
            else:  # it stands in line, and the log keeps it
                self._registry.reader.let_go(run)
        self._put(TakeOver())

    def go_on(self, run: Run, parent: Key) -> None:
        """Have a child that has ended go on for an attempt, when it is its turn."""
        self._registry.add(run)
        run.lane = run.flow.lane(run.state.params)
        self._going_on[run.id] = parent
        if self._turns.enter(run):
            self._call_up(run)

    def stay(self, run: Run) -> bool:
        """Have a child not go on that stands in line for it; False if it does not. Any thread."""
        if not self._turns.waits(run) or self._going_on.pop(run.id, None) is None:
            return False
        self._turns.free(run)
        return True

    def _call_up(self, run: Run) -> None:
        """Have a run begin whose turn it is: it has stood in line till now. Any thread."""
        parent = self._going_on.get(run.id)
        if parent is not None:
            self._put(Retry(run.id, parent=parent))
        elif run.is_inherited or self.left:  # else it would go before one that is to enter
            self.left.append(run)
            self._put(TakeOver())
        else:
            self._put(Begin(run.id, run.turn))

    # In a tick

    def enter(self) -> None:
        """Have a portion of them enter; one portion a tick, however often this is asked."""
        if not self.entered:
            self._enter()

    def enter_first(self, run: Run) -> None:
        """Have a run of an earlier program enter before its turn: a person asks something of it."""
        self.left.appendleft(run)
        self._enter()

    def _enter(self) -> None:
        """Close what ran in the old life, of some Vects, before anything of them starts."""
        for group, place in self._runner.lingering.adopt():
            self._queue.take_slot(group, place)
        self._queue.is_held = True
        portion, steps = self.entered, 0
        while self.left and (steps < STEPS_AT_ONCE or self.left[0].keeps_slots):
            run = self.left.popleft()
            if run.is_inherited and run.id in self._registry.open:
                portion.append(run)
                steps += 1 + len(run.flow.steps)
            elif run.shown == INITIAL:  # of this life, and called after those
                self._put(Begin(run.id, run.turn))
        with suppress(Exception):  # what raises does so again where each is held by itself
            self._registry.reader.hold_all(portion)
        for run in portion:
            if run.is_inherited:
                self._notes.in_hand = run
                self._enter_one(run)
                self._settle()
        self._queue.is_held = False

    def _enter_one(self, run: Run) -> None:
        if run.held_up is not None:  # who has failed with it may have left its state anyhow
            self._registry.go_back(self._log, run)
        if not self.hold(run):
            return
        self._notes.in_hand = run.state
        run.held_up = None
        run.is_inherited = False
        if run.state.state in VECT_ENDS:  # it was cancelled just before
            self._registry.shut(run)
            return
        if run.state.state != "ending" and not self.is_wanted(run):
            self._obey(Cancel(run.id, UNWANTED))
            if run.state.state in VECT_ENDS:
                return  # else it goes on with what cleans up
        if run.state.state == INITIAL:
            news = run.news()
            told: dict[str, Any] = {"options": news} if news else {}
            told |= {**run.turn, "recovered": True} if run.turn else {}
            self._obey(Begin(run.id, MappingProxyType(told)))
            return
        lost = run.lost_steps()
        self._obey(Recover(run.id, frozenset(step.name for step in lost), run.news()))
        self._settle()
        for step in lost:
            self._obey(Finished(run.id, step.name, step.attempt, error=LOST))
            self._settle()
        self._queue.take_over(run.state)

    def hold(self, run: Run) -> bool:
        """Hold a run that has stood in line, or was left; False where its events make no sense."""
        try:
            run.hold()
        except LogError as error:
            self._leave(run, error)
            return False
        return True

    def _leave(self, run: Run, error: LogError) -> None:
        """Leave a run of which the events make no sense; all others go on."""
        run.held_up = error
        self._registry.shut(run)
        self._notes.news.append(run.id)
        _logger.error("%s", error)

    def go_on_in(self, child: str, parent: Key) -> None:
        """Have a child go on whose turn it is; not if the attempt is over by now that it is for."""
        self._going_on.pop(child, None)
        run = self._registry.runs.get(child)
        if run is None or run.held_up is not None or run.shown not in VECT_ENDS:
            return  # somebody else has retried it, and it runs
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
        """Whether the attempt goes on that has a Vect run, if one has.

        A child that was retried by itself has a life of its own.
        """
        if run.state.parent is None or run.state.is_reopened:
            return True
        return self._is_running(*run.state.parent)

    def _is_running(self, vect: str, step: str, attempt: int) -> bool:
        known = self._registry.runs.get(vect)  # its flow may not be declared: its events are there
        parent = self._registry.reader.read(vect) if known is None else known.state
        if parent is None or parent.state in VECT_ENDS or step not in parent.steps:
            return False
        state = parent.steps[step]
        return state.state == "running" and state.attempt == attempt

    # Around the commit

    def note(self, run: Run) -> None:
        """Take note that a run is of this life by now: its waits go on after the commit."""
        run.is_inherited = False
        self.entered.append(run)

    def take_back(self) -> None:
        """Have those enter again that have done so in a tick that was taken back."""
        for run in self.entered:
            run.is_inherited = True
        self.left.extendleft(reversed(self.entered))
        self.entered.clear()

    def see_to(self, now: datetime) -> None:
        """Have the waits go on of those that have entered, which are committed."""
        while self.entered:
            run = self.entered.popleft()  # as they came: of waits of one instant, too
            try:
                if run.held_up is None:
                    self._runner.rearm(run, now)
            except Exception:
                _logger.exception("vect '%s' cannot wait on", run.id)
                self._containment.strand(run)
