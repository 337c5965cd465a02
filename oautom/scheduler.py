"""The scheduler: one thread, one inbox, ticks. The only module that changes the state of a Vect.

A tick takes what the inbox holds, fires the triggers that this asks for and all that become due,
commits the log once, has the effects done, and tells the public signals. Whatever any thread may
call only puts a message in the inbox; whatever changes state runs on the one thread that drives.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from oautom.clock import Clock
from oautom.commands import LOST, Begin, Cancel, Command, Finished, Recover, Retry, Trigger
from oautom.decide import affects, due, effects, handle
from oautom.driver import Driver
from oautom.events.event import Event
from oautom.events.fold import StepState, VectState
from oautom.events.log import EventLog
from oautom.events.signals import publish
from oautom.executors.base import Workers
from oautom.flow import Flow
from oautom.keeping import kept_answer
from oautom.machine import Wire, machines
from oautom.messages import Answer, Asked, Halt, Message, Note, Nudge, Poll, TakeOver, TimeUp
from oautom.outlook import Outlook
from oautom.roster import Roster
from oautom.run import Run
from oautom.runner import Runner
from oautom.states import HELD, VECT_CREATED, VECT_ENDS
from oautom.turns import Turns

_logger = logging.getLogger("oautom.scheduler")


class Scheduler(Driver[Message]):
    """Drives Vects through their states, on whatever thread calls `drive`; one at a time.

    Args:
        log: Where every event goes before anything comes of it.
        clock: What time it is.
        workers: Who does the work of the steps.
        tell: Called with the flow and each committed event; it tells the public signals.

    Attributes:
        on_look: Called to look which plans are due, on the thread that drives, without the lock:
            whoever has that of the app may wait for this one.
        on_end: Called for each Vect that has ended, as `on_look` is.
        is_awaited: A plan waits for the end of a Vect.
        runner: Who has the work done. Its `interrupt` is for any thread, as what it tells is.
        turns: Whose turn it is, of the steps that are due.
    """

    def __init__(
        self,
        log: EventLog,
        clock: Clock,
        workers: Workers,
        tell: Callable[[object, Event], None] = publish,
    ) -> None:
        super().__init__(clock)
        self._tell = tell
        self.lock = threading.RLock()  # held while state changes: whoever reads many parts takes it
        self._log = log
        self._now: datetime = clock.now()
        self.halted: str = ""  # why all work was ended and none is begun any more
        self._is_ending_all = False  # halted, and the work that there was has not been told yet
        self.runner = Runner(workers, clock, self._timers, self.put, log.id)
        self.roster = Roster()
        self._ready: deque[StepState | VectState] = deque()
        self.turns = Turns()
        self.outlook = Outlook(self.runner, self.turns, self.roster)
        self._ends_first = False
        self._has_news = False
        self._ended: deque[Run] = deque()  # those whose end is about to be told
        self.on_look: Callable[[], object] = bool
        self.on_end: Callable[[Run], object] = bool
        self.is_awaited = False
        self._is_look_due = False
        self._notes: dict[int, Flow] = {}  # events of plans in this tick, by number
        self._emitted, self._appended = Wire(), Wire()
        self._steps, self._vects = machines(self._record, self._emitted, self._appended)
        self._emitted.connect(self._log.append, weak=False)
        self._appended.connect(self._release, weak=False)

    # Any thread

    def begin(self, run: Run) -> None:
        """Take in a new run."""
        self.roster.take(run)
        self.put(Begin(run.id))

    def ask(self, run: Run, command: Command) -> None:
        """Have a command obeyed that concerns a run."""
        self.roster.know(run)
        self.put(command)

    def retry(self, run: Run) -> None:
        """Have a run go on that has failed or was cancelled; errors as of `Roster.readmit`."""
        self.roster.readmit(run)
        self.put(Retry(run.id))

    def take_over(self, runs: Sequence[Run]) -> None:
        """Have runs go on that the log has open; what ran when their program ended runs again."""
        for run in runs:
            self.roster.take(run)
        self.put(TakeOver(tuple(runs)))

    def know(self, unfit: Iterable[Run], absent: Iterable[str]) -> None:
        """Take note of runs that can only be cancelled, and of ids that are not known yet."""
        for run in unfit:
            self.roster.know(run)
        self.roster.absent = frozenset(absent)

    def cancel(self, run: Run, reason: str) -> None:
        """Ask for the end of a run; it may be one that is open in the log, and does not go on."""
        self.ask(run, Cancel(run.id, reason))
        self.runner.interrupt(run.id)

    def stop_all(self, reason: str) -> None:
        """Have all work end: Vects of a durable log go on in another life.

        Those of any other log are cancelled, since they have no other life.
        """
        self.ask_for_end(reason)
        self.runner.interrupt()

    def ask_for_end(self, reason: str) -> None:
        """Only put the messages of `stop_all`: it takes no lock, as handlers of signals must not.

        A step that has the scheduler's own thread is not told.
        """
        self.is_on_duty = False  # no plan starts what nobody would end
        if self._log.id is not None:
            self.put(Halt(reason))
            return
        for run in self.roster.open_runs():
            self.ask(run, Cancel(run.id, reason))

    def let_go(self, older_than: datetime) -> set[str]:
        """Let go of the runs that ended before an instant; return the ids of those still held.

        What answers later all the same is not heard any more. Runs with work under way are held.
        """
        with self.lock:
            return self.roster.let_go(older_than, self.runner.vects())

    def is_over(self, run: Run) -> bool:
        """Whether a run has ended and nothing of it is still being ended."""
        return run.is_told and not self.runner.is_ending(run.id)

    def is_idle(self) -> bool:
        """Whether all runs are over, or left to another life, and no message waits."""
        with self.lock:  # not while a tick deals with a late answer
            is_open = self.roster.open and (not self.halted or self._is_ending_all)
            return self._inbox.empty() and not is_open and not self.runner.is_ending_any

    # The thread that drives

    def run_next(self) -> None:
        """Do work that is kept for the thread that drives."""
        self.runner.run_next()

    def tick(self, messages: list[Message]) -> None:
        """Let all that `messages` ask for, and all that follows from it, happen."""
        try:
            with self.lock:
                self._now = self._clock.now()
                for message in messages:
                    self._take(message)
                    self._settle()
                events = self._log.commit()
            self._perform(events)
            if self.halted:
                self.runner.kill_all()
                self._is_ending_all = False
            if self._is_look_due:
                self._is_look_due = False
                self.on_look()
        except BaseException as error:
            self._stop(error)
            if not isinstance(error, Exception):
                raise
            return
        try:
            for event in events:
                note = None if event.step is not None else self._notes.pop(event.seq, None)
                self._tell(note or self.roster.runs[event.vect].flow, event)
        finally:  # also when Ctrl-C comes while a receiver is called
            self._close_ended()

    def _close_ended(self) -> None:
        """Let go of the Vects that have ended, and have those who wait look again."""
        while self._ended:
            run = self._ended.popleft()
            self.roster.close(run)
            self.on_end(run)
            self._has_news = True
            if self.is_awaited:
                self.put(Nudge())
        if self._has_news or not self.roster.open or self.halted:
            self._has_news = False
            self.have_all_look()

    def _perform(self, events: Sequence[Event]) -> None:
        """Have done what committed events ask for, and show the Vects to those who look."""
        for event in events:
            if event.step is not None:
                for effect in effects(event):
                    self.runner.perform(self.roster.runs[event.vect], effect)
            elif event.seq not in self._notes:
                self._show(self.roster.runs[event.vect], event)

    def _show(self, run: Run, event: Event) -> None:
        run.shown = event.dest
        if event.name == "vect.reopened":
            self.roster.take(run)
        elif event.dest in VECT_ENDS:
            self._ended.append(run)

    def _stop(self, error: BaseException) -> None:
        """Take no further step: what is not in the log must not happen."""
        if isinstance(error, Exception):  # any other goes on to whoever drives
            _logger.error("the engine has stopped: %s", error)
        self.runner.kill_all()
        self.roster.go_back(self._log)
        self.failure = error

    def _take(self, message: Message) -> None:
        match message:
            case Answer():
                self._has_news |= message.key[0] not in self.roster.open
                self._take_end(self.runner.settle(message))
            case _ if self.halted:
                return
            case Poll():
                self.turns.add_poll(message)
            case TimeUp():
                self._take_end(self.runner.time_up(message.key))
            case Nudge():
                self._is_look_due = True
            case Note():
                event = message.event(self._log.last_seq + 1, self._now)
                self._notes[event.seq] = message.flow
                self._emitted.send(None, event=event)
            case Asked():
                self._take_requests()
            case TakeOver():
                self._take_over(message.runs)
            case Halt():
                self.halted = message.reason
                self.turns.is_held = self._is_ending_all = True
            case _:
                self._obey(message)

    def _take_end(self, finished: Finished | None) -> None:
        if finished is not None and not self.halted:
            self._obey(kept_answer(finished, self.roster.runs, self._log))

    def _obey(self, command: Command) -> None:
        run = self.roster.runs.get(command.vect)
        if run is None:  # it was let go
            return
        if run.state.created_date is None:
            self._create(run)
            if not isinstance(command, Begin):  # a cancel on another thread was quicker
                self._obey(Begin(run.id))
        for trigger in handle(run.state, command):
            self._fire(trigger)

    def _take_requests(self) -> None:
        for request in self._log.requests(self.roster.absent):
            if (command := self.roster.command_of(request)) is not None:
                self._obey(command)
                self._settle()

    def _take_over(self, runs: Sequence[Run]) -> None:
        """Close what ran in the old life, of all Vects, before anything starts in the new one."""
        self.turns.is_held = True
        for run in runs:
            if run.state.state in VECT_ENDS:  # it was cancelled just before
                self.roster.open.pop(run.id, None)
                continue
            lost = run.lost_steps()
            run.is_inherited = False
            self._obey(Recover(run.id, frozenset(step.name for step in lost)))
            self._settle()
            for step in lost:
                self._obey(Finished(run.id, step.name, step.attempt, error=LOST))
                self._settle()
            self.runner.rearm(run, self._now)
            self.turns.inherit(run.state)
        self.turns.is_held = False

    def _settle(self) -> None:
        """Fire all that is due; starts wait for their turn, and for a free slot."""
        turns = self.turns
        self._look()
        while turns.size and not turns.is_held:
            turn = turns.take(has_slot=self.runner.has_room)
            if turn is None:
                return
            if isinstance(turn, Poll):
                self.runner.poll(turn.key)
            elif (trigger := due(turn)) is not None:
                self._start(trigger)
                if self._ready:  # a map has made its instances
                    self._look()

    def _look(self) -> None:
        """Fire all that is due, but for starts that have to wait."""
        turns = self.turns
        while self._ready:
            trigger = due(self._ready.popleft())
            if trigger is None:
                continue
            # Where some steps start and others are blocked, as after a pause, these go first.
            waits = turns.size or turns.is_held or self._ends_first or trigger.model.vect.options
            if trigger.name != "start":
                self._fire(trigger)
            elif waits or not self.runner.has_room:
                turns.add(trigger.model)  # type: ignore[arg-type] # only steps are due to start
            else:
                self._start(trigger)
        self._ends_first = False

    def _start(self, trigger: Trigger) -> None:
        if trigger.model.kind not in HELD:
            self.runner.busy += 1  # the work itself is submitted after the commit
        self._fire(trigger)

    def _create(self, run: Run) -> None:
        state = run.state
        told = {**state.first_facts(), **run.origin} if run.origin else state.first_facts()
        event = self._record(state, VECT_CREATED, None, state.state, None, told)
        self._emitted.send(state, event=event)
        self._appended.send(state, event=event)

    def _fire(self, trigger: Trigger) -> None:
        machine = self._steps if isinstance(trigger.model, StepState) else self._vects
        machine.fire(trigger.model, trigger.name, trigger.attempt, trigger.data)

    def _record(
        self,
        model: StepState | VectState,
        name: str,
        source: str | None,
        dest: str,
        attempt: int | None,
        data: Mapping[str, Any],
    ) -> Event:
        vect = model.vect
        seq = self._log.last_seq + 1  # dense even where a tick is refused: a gap means damage
        return Event(
            seq, self._now, vect.flow, vect.id, model.name, attempt, name, source, dest, data
        )

    def _release(self, sender: StepState | VectState, *, event: Event) -> None:
        """React to an event in the log: note which models are worth a look. Fires nothing."""
        vect = sender.vect
        vect.apply(event)
        if sender is not vect:
            if vect.has_pools:
                self.turns.hear(sender, event)  # type: ignore[arg-type] # it is a step
        elif event.name in ("vect.paused", "vect.cancelled"):
            self.turns.forget(vect)
        elif event.name in ("vect.resumed", "vect.reopened"):
            self._ends_first = True
        self._ready.extend(affects(vect, event))

    def close(self) -> None:
        """Wait for what has been killed, and end the workers. When nobody drives any more."""
        while self.runner.is_ending_any:
            message = self._inbox.get()
            if isinstance(message, Answer):
                self.runner.settle(message)
        self._is_closed = True
        self.runner.close()
