"""The scheduler: one thread, one inbox, ticks. The only module that changes the state of a Vect.

A tick takes what the inbox holds, fires the triggers that this asks for and all that become due,
commits the log once, has the effects done, and tells the public signals. Whatever any thread may
call only puts a message in the inbox; whatever changes state runs on the one thread that drives.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any

from transitions import MachineError

from oautom.clock import A_DAY, Clock, Timers
from oautom.decide import Begin, Cancel, Command, Trigger, affects, due, effects, handle
from oautom.errors import EngineError, LogError
from oautom.events.event import Event
from oautom.events.fold import StepState, VectState
from oautom.events.log import EventLog
from oautom.events.replay import replay
from oautom.events.signals import publish
from oautom.executors.base import Workers
from oautom.machine import LoggedMachine, Wire
from oautom.runner import Answer, Poll, Runner
from oautom.states import (
    STEP_EVENTS,
    STEP_TABLE,
    VECT_CREATED,
    VECT_ENDS,
    VECT_EVENTS,
    VECT_TABLE,
)
from oautom.vect import Run

_logger = logging.getLogger("oautom.scheduler")


class Nudge:
    """Message: nothing has happened, but look again whether you are done."""


Message = Command | Answer | Poll | Nudge


class Scheduler:
    """Drives Vects through their states, on whatever thread calls `drive`; one at a time.

    Args:
        log: Where every event goes before anything comes of it.
        clock: What time it is.
        workers: Who does the work of the steps.
        tell: Called with the flow and each committed event; it tells the public signals.
    """

    def __init__(
        self,
        log: EventLog,
        clock: Clock,
        workers: Workers,
        tell: Callable[[object, Event], None] = publish,
    ) -> None:
        self._tell = tell
        self.lock = threading.RLock()  # held while state changes: whoever reads many parts takes it
        self.failure: BaseException | None = None
        self._log = log
        self._clock = clock
        self._now: datetime = clock.now()
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._timers: Timers[Message] = Timers()
        self._runner = Runner(workers, clock, self._timers, self.put)
        self.on_message: Callable[[], None] | None = None
        self._runs: dict[str, Run] = {}
        self._open: set[str] = set()
        self._ready: deque[StepState | VectState] = deque()
        # What is due but for a free slot: first come, first served.
        self._waiting: deque[StepState | VectState | Poll] = deque()
        self._changed = threading.Condition()
        self._driver: int | None = None
        self._has_news = False
        self._is_closed = False
        self._emitted, self._appended = Wire(), Wire()
        self._steps = self._machine(STEP_TABLE, STEP_EVENTS)
        self._vects = self._machine(VECT_TABLE, VECT_EVENTS)
        self._emitted.connect(self._log.append, weak=False)
        self._appended.connect(self._release, weak=False)

    def _machine(self, table: Any, names: Mapping[str, str]) -> LoggedMachine:
        return LoggedMachine(table, names, self._record, self._emitted, self._appended)

    # Any thread

    def put(self, message: Message) -> None:
        """Have the scheduler take `message`; it may come from a handler of a system signal."""
        if self._is_closed:
            return  # the late answer of a step that did not listen to its cancellation
        self._inbox.put(message)
        if self.on_message is not None:
            self.on_message()

    def begin(self, run: Run) -> None:
        """Take in a new run."""
        self._runs[run.state.id] = run
        self._open.add(run.state.id)
        self.put(Begin(run.state.id))

    def cancel(self, run: Run, reason: str) -> None:
        """Ask for the end of a run."""
        self.put(Cancel(run.state.id, reason))
        self._runner.interrupt(run.state.id)

    def cancel_all(self, reason: str) -> None:
        """Ask for the end of all open runs."""
        for vect in list(self._open):
            self.cancel(self._runs[vect], reason)

    def is_over(self, run: Run) -> bool:
        """Whether a run has ended and nothing of it is still being ended."""
        return run.is_told and not self._runner.is_ending(run.state.id)

    @property
    def is_in_deaf_step(self) -> bool:
        """Whether a step has the thread that drives, and does not listen to its cancellation."""
        return self._runner.is_in_deaf_step

    def is_idle(self) -> bool:
        """Whether all runs are over and no message waits."""
        with self.lock:  # not while a tick deals with a late answer
            return self._inbox.empty() and not self._open and not self._runner.is_ending_any

    def drive(
        self, until: Callable[[], bool], timeout: float | None = None, *, may_drive: bool = True
    ) -> bool:
        """Wait until `until()`; while no other thread drives, tick on this one.

        Returns:
            False if `timeout` seconds were over first.

        Raises:
            EngineError: This thread is the driver already, in a step or a receiver.
            LogError: The engine has stopped.
        """
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        while not until():
            self.check_thread()
            self._raise_failure()
            if deadline is not None and self._clock.monotonic() >= deadline:
                return False
            if may_drive and self._take_wheel():
                try:
                    self._loop(until, deadline)
                finally:
                    self._leave_wheel()
            else:
                self._wait_for_others(until, deadline, may_drive)
        return True

    def check_thread(self, what: str = "wait for a Vect") -> None:
        """Refuse a call that would wait for the very thread that it is on.

        Raises:
            EngineError: This thread drives, in a step or a receiver.
        """
        if self._driver == threading.get_ident():
            raise EngineError(
                f"a step or receiver on the scheduler's own thread cannot {what}, it would wait "
                "for itself; use another thread or executor='threads'"
            )

    def catch_up(self) -> None:
        """Drive until no message waits; for those who answer by hand."""
        self.drive(self._inbox.empty)

    def serve_until_idle(self) -> None:
        """Drive until all is over, or until the engine has stopped: those who wait are told why."""
        if self._take_wheel():
            try:
                self._loop(self.is_idle, None)
            finally:
                self._leave_wheel()

    def _raise_failure(self) -> None:
        if isinstance(self.failure, MachineError):
            raise EngineError(f"this is a bug in oautom: {self.failure}") from self.failure
        if self.failure is not None:
            raise LogError(
                f"the engine has stopped, its log cannot be written: {self.failure}; nothing has "
                "been started that is not in the log"
            ) from self.failure

    def _take_wheel(self) -> bool:
        with self._changed:
            if self._driver is None:
                self._driver = threading.get_ident()
                return True
            return False

    def _leave_wheel(self) -> None:
        with self._changed:
            self._driver = None
            self._changed.notify_all()

    def _wait_for_others(
        self, until: Callable[[], bool], deadline: float | None, may_drive: bool
    ) -> None:
        def is_news() -> bool:
            wheel_is_free = may_drive and self._driver is None
            return until() or wheel_is_free or self.failure is not None

        timeout = None if deadline is None else deadline - self._clock.monotonic()
        with self._changed:
            self._changed.wait_for(is_news, None if timeout is None else min(timeout, A_DAY))

    # The thread that drives

    def _loop(self, until: Callable[[], bool], deadline: float | None) -> None:
        while not until() and self.failure is None:
            if deadline is not None and self._clock.monotonic() >= deadline:
                return
            self.tick(self._collect(deadline))

    def _collect(self, deadline: float | None) -> list[Message]:
        """Return what has come in, waiting for it if need be, with the timers that are due."""
        if self._inbox.empty():
            self._runner.run_next()
        messages = self._timers.due(self._clock.monotonic()) if self._timers else []
        if not messages and self._inbox.empty():
            times = [t for t in (self._timers.next_time(), deadline) if t is not None]
            first = self._clock.take(self._inbox, min(times, default=None))
            if first is not None:
                messages.append(first)
        while not self._inbox.empty():
            messages.append(self._inbox.get())
        return messages

    def tick(self, messages: list[Message]) -> None:
        """Let all that `messages` ask for, and all that follows from it, happen."""
        try:
            with self.lock:
                self._now = self._clock.now()
                for message in messages:
                    self._take(message)
                    self._settle()
                events = self._log.commit()
            for event in events:
                self._perform(event)
        except BaseException as error:
            self._stop(error)
            if not isinstance(error, Exception):
                raise
            return
        try:
            for event in events:
                self._tell(self._runs[event.vect].flow, event)
        finally:  # also when Ctrl-C comes while a receiver is called
            self._close_ended(events)

    def _close_ended(self, events: Sequence[Event]) -> None:
        """Let go of the Vects that have ended, and have those who wait look again."""
        for event in events:
            if event.step is None and event.dest in VECT_ENDS:
                self._runs[event.vect].is_told = True
                self._open.discard(event.vect)
                self._has_news = True
        if self._has_news or not self._open:
            self._has_news = False
            with self._changed:
                self._changed.notify_all()

    def _perform(self, event: Event) -> None:
        """Have done what a committed event asks for, and show it to those who look."""
        run = self._runs[event.vect]
        for effect in effects(event):
            self._runner.perform(run, effect)
        if event.step is None:
            run.shown = event.dest

    def _stop(self, error: BaseException) -> None:
        """Take no further step: what is not in the log must not happen."""
        _logger.error("the engine has stopped: %s", error)
        self._runner.kill_all()
        for vect in list(self._open):
            self._go_back(self._runs[vect])
        self.failure = error

    def _go_back(self, run: Run) -> None:
        """Show a run as the log has it: what could not be committed has not happened."""
        try:
            vects = replay(self._log.read(vect=run.state.id))
        except Exception:  # the log cannot even be read: nothing better is known
            _logger.exception("the log of vect %s cannot be read", run.state.id)
            return
        run.state = vects.get(run.state.id) or run.first_state(run.state.id)

    def _take(self, message: Message) -> None:
        if isinstance(message, Nudge):
            return
        if isinstance(message, Poll):
            self._waiting.append(message)
            return
        if isinstance(message, Answer):
            self._has_news |= message.key[0] not in self._open
            finished = self._runner.settle(message)
            if finished is None:
                return
            message = finished
        run = self._runs[message.vect]
        if isinstance(message, Begin):
            self._create(run)
        for trigger in handle(run.state, message):
            self._fire(trigger)

    def _settle(self) -> None:
        """Fire all that is due; starts wait for a free slot, first come, first served."""
        while self._ready:
            trigger = due(self._ready.popleft())
            if trigger is None:
                continue
            if trigger.name != "start":
                self._fire(trigger)
            elif self._waiting or not self._runner.has_room:
                self._waiting.append(trigger.model)
            else:
                self._start(trigger)
        while self._waiting and self._runner.has_room:
            first = self._waiting.popleft()
            if isinstance(first, Poll):
                self._runner.poll(first.key)
            elif (trigger := due(first)) is not None:
                self._start(trigger)

    def _start(self, trigger: Trigger) -> None:
        self._runner.busy += 1  # the work itself is submitted after the commit
        self._fire(trigger)

    def _create(self, run: Run) -> None:
        state = run.state
        graph = MappingProxyType(state.graph.upstreams)
        data = MappingProxyType({"params": state.params, "graph": graph})
        event = self._record(state, VECT_CREATED, None, state.state, None, data)
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
        self._ready.extend(affects(vect, event))

    def close(self) -> None:
        """Wait for what has been killed, and end the workers. When nobody drives any more."""
        while self._runner.is_ending_any:
            message = self._inbox.get()
            if isinstance(message, Answer):
                self._runner.settle(message)
        self._is_closed = True
        self._runner.close()
