"""The scheduler: one thread, one inbox, ticks. The only module that changes the state of a Vect.

The walk of an event, the numbers as in docs/design.md:

              handle (4)          machine + log (5, 6)         effects (10)          runner
    command -----------> trigger ----------------------> event ------------> effect --------> world
       ^                    ^     emitted, appended (7)    |  committed (9)                     |
       |                    +----- due (8) <--- affects <--+                                    |
       +------------------------------ inbox (1, 2, 3) <----------- workers, timers, people ----+

A tick takes the messages of the inbox, fires the triggers that they ask for and all that become
due, commits the log once, performs the effects, and sends the public signals.

Who may touch what:

- Any thread may put a message in the inbox (`put`, `call`), and does nothing else. State changes
  only on the one thread that drives, which asserts it.
- Readers on other threads see what is committed: before a tick moves a model it keeps the view of
  it in `model.before`. A reader of several parts takes `showing`, which the tick takes only while
  it shows what it has committed; what only a tick knows is read under `lock`.
- Code that calls back into the app (receivers, plans, waiting calls) is called without a lock: it
  may wait for the lock of the app, whose owner may wait for this thread.
- What follows a commit is contained, one part at a time. Code that contains a bug (`_strand` and
  what it calls) calls nothing that may need containing itself.

A tick that raises is taken back: the log discards its events, each Vect that was touched is made
anew from its committed events, and each message is taken again in a tick of its own. A message that
raises again is dropped, and its Vect is stranded: it stays as it is until the program is run again,
and all others go on. Only a log that cannot be written stops the engine.

What was tried, and failed:

- To queue triggers: a step with two failed upstreams is blocked twice. So the queue has steps that
  may be due (`_release`), and what is due is asked late (`_settle`).
- To fire from the receiver of an event: it recurses, and the log has not committed yet.
- Locks in place of an inbox: a receiver then waits for a lock that its own thread has.
- To repair a tick that has raised: nobody knows which half of a decision was done. The log does.
- A code path of its own for recovery: it is a command (`Recover`), and asks `due` for every step.
- Hooks after the tick for children and plans alike: each child must be called by itself, so that a
  bug at one harms no other, and plans are checked only when one waits. It was longer, not shorter.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from threading import get_ident
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakMethod

from oautom.engine.clock import Clock
from oautom.engine.containment import Containment, Notes, bug
from oautom.engine.entering import Entering
from oautom.engine.inbox import WRONG_THREAD, Driver
from oautom.engine.messages import (
    Answer,
    Asked,
    Call,
    Drain,
    Fetched,
    GraceOver,
    Halt,
    Lend,
    Message,
    Misfit,
    Note,
    Nudge,
    Over,
    Poll,
    Recheck,
    TakeBack,
    TakeOver,
    Tidy,
    TimeUp,
)
from oautom.engine.queue import ReadyQueue
from oautom.engine.rates import Rates
from oautom.engine.requests import Requests
from oautom.engine.runner import Runner
from oautom.engine.steering import Steering, of_today
from oautom.engine.waiting import Waits
from oautom.errors import (
    EngineError,
    EventRefusedError,
    OAutomError,
)
from oautom.events.log import EventLog
from oautom.events.requests import Request
from oautom.events.signals import publish
from oautom.flows.flow import Flow
from oautom.machine.commands import (
    Begin,
    Cancel,
    Command,
    Finished,
    Lost,
    Pause,
    Retry,
    Trigger,
)
from oautom.machine.deadlines import BEGINNINGS
from oautom.machine.decide import (
    WIND_UP,
    affects,
    due,
    effects,
    handle,
)
from oautom.machine.event import Event
from oautom.machine.state import StepState, VectState, moved
from oautom.machine.tables import (
    INITIAL,
    PLAN_EVENTS,
    STEP_ENDS,
    TEARDOWN,
    VECT_CREATED,
    VECT_ENDS,
)
from oautom.machine.transition import NotAppendedError, Wire, machines
from oautom.steps.work import Work
from oautom.vects.registry import Registry
from oautom.vects.run import Run
from oautom.workers.base import Workers

_logger = logging.getLogger("oautom.scheduler")

_HEARD: frozenset[type] = frozenset({Answer, TimeUp, GraceOver})
"""Messages about the fate of an attempt: processed once, even if the tick is taken back."""

LOOK_AGAIN = 5.0
"""Seconds until a failed read is tried again."""


class _LogFailedError(Exception):
    """The log cannot be written: its `__cause__` says why. Never leaves this module."""


class Scheduler(Driver[Message]):
    """Moves Vects through their states, on the thread that calls `drive`; one thread at a time.

    Args:
        log: The event log: each event is committed before its effects are performed.
        clock: The current time.
        workers: They do the work of the steps.
        tell: Called with the flow and each committed event; sends the public signals.

    Attributes:
        on_look: Called to check which plans are due, on the driving thread, without the lock: a
            thread that has the lock of the app may wait for this one.
        on_end: Called for each Vect that has ended, as `on_look` is.
        admit: By the action of a request, admits the runs that another process asks for; called as
            `on_look` is.
        may_go_on: Whether a step that was reset goes on in its earlier child Vect.
        is_awaited: A plan waits for the end of a Vect.
        is_asked: A message about a request of another process is on its way.
        runner: Performs the effects. Any thread may call its `interrupt`.
        queue: The due steps that wait for a slot, in the order of their turns.
        lock: Taken for a tick, until its commit.
        showing: Taken while committed state is shown: for readers of several parts.
        waits: Which steps wait for Vects.
        containment: Takes a Vect with which the engine cannot go on out of the engine's hands.
        entering: Brings runs in: those of an earlier program, and those whose turn it is.
        steering: Carries out what people ask for.
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
        self.lock = threading.RLock()
        self.showing = threading.Lock()
        self._log = log
        self._now: datetime = clock.now()
        self.halted: str = ""  # why all work was ended and none begins any more
        self._is_ending_all = False  # halted, and running work is not asked to stop yet
        self.draining: str = ""  # why nothing begins any more, though work may end
        self.is_drained = False  # all work of that time has ended
        self.runner = Runner(workers, clock, self._timers, self.put, log, self.wheel)
        self.runner.lingering.on_over = self._look_again
        self.runner.lingering.on_less = self._look_after
        self.registry = Registry(log)
        self._turns = self.registry.turns
        self.runner.above = self.registry.above
        nudge = WeakMethod(self._nudge)  # the workers must not keep a forgotten engine alive
        workers.on_change = lambda: (method := nudge()) and method()
        let_be = WeakMethod(self._let_be)
        workers.on_deaf = lambda job: (method := let_be()) and method(job)
        self._notes = Notes()
        self._ready, self._news = self._notes.ready, self._notes.news
        self._ended = self._notes.ended
        self._orphans: deque[Cancel] = deque()  # children that no step needs any more
        self.queue = ReadyQueue(self.wheel)
        self.queue.vect_of = self._held
        self.waits = Waits(self.put, self.registry, self.runner)
        self.waits.on_wait = self._recheck_claims
        self.queue.is_awaited = self.waits.is_awaited
        self.queue.rates = Rates(log)
        self._alarm: datetime | None = None  # when the next step of a pool with a rate may start
        self._ends_first = False
        self.containment = Containment(log, self.runner, self.queue, self.registry, self._notes)
        self.entering = Entering(
            log,
            self.registry,
            self.runner,
            self.queue,
            self.containment,
            self._notes,
            put=self.put,
            obey=self._obey,
            settle=self._settle,
        )
        self.steering = Steering(
            log,
            self.registry,
            self.entering,
            self.wheel,
            obey=self._obey,
            end_unread=self._end_unread,
        )
        self.admit: dict[str, Callable[[Request], Sequence[Run]]] = {}
        self._requests = Requests(
            log,
            self.registry,
            self.steering.obey,
            self._settle,
            self._look_again_later,
            self.admit,
            self.create,
            self.put,
        )
        self.on_look: Callable[[], object] = bool
        self.on_end: Callable[[Run], object] = bool
        self.may_go_on: Callable[[StepState], bool] = _never
        self.is_awaited = False
        self.is_asked = False
        self._is_look_due = False
        # Of the tick in progress:
        self._is_telling = False  # it is committed, and receivers are called
        self._is_lent = False  # nobody drives: the caller does, for this tick only
        self._asked: list[Call] = []  # answered when the tick is committed
        self._moved: list[StepState | VectState] = []
        self._emitted, self._appended = Wire(), Wire()
        self._steps, self._vects = machines(self._record, self._emitted, self._appended)
        self._emitted.connect(self._log.append, weak=False)
        self._appended.connect(self._release, weak=False)

    # Any thread: messages

    def begin(self, run: Run) -> None:
        """Add a new run, which starts with the next tick; however many are open.

        If the starts of its flow wait for each other, it starts when it is its turn.
        """
        self.registry.take(run, has_place=run.flow.when_full != "wait")
        self.put(Begin(run.id))

    def ask(self, run: Run, command: Command) -> None:
        """Give a command that concerns a run; it is carried out in the next tick."""
        self.registry.add(run)
        self.put(of_today(run, command))

    def leave(self, unfit: Iterable[Run]) -> None:
        """Register runs that stay open and cannot go on: they can only be cancelled."""
        for run in unfit:
            self.registry.add(run)
            self.registry.shut(run)
            if "/" in run.id:  # it may be a child, and its step may be over
                self.put(Misfit(run.id))

    def cancel(self, run: Run, reason: str) -> None:
        """Ask for the end of a run, in the next tick; steps that clean up go on."""
        self.ask(run, Cancel(run.id, reason))
        # One that waits for its turn has no step that could have the thread.
        if run.shown != "ending" and not self._turns.waits(run):
            self.runner.interrupt(run.id)

    def stop_all(self, reason: str) -> None:
        """End all work: the Vects of a durable log go on in the program's next life.

        Those of any other log are cancelled, since they have no other life.
        """
        self.ask_for_end(reason)
        if self._log.id is not None:
            self.runner.interrupt()
            return
        for run in self.registry.open_runs():
            if run.shown != "ending":  # what cleans up goes on, now or never
                self.runner.interrupt(run.id)

    def drain(self, reason: str) -> None:
        """Begin nothing more; when all work has ended, end the rest as `stop_all` does.

        Steps that wait for a time, a person, a file or another Vect are not waited for. Takes no
        lock, since handlers of signals must not.
        """
        self.is_on_duty = False
        self.put(Drain(reason))

    def ask_for_end(self, reason: str) -> None:
        """Put only the messages of `stop_all`: takes no lock, since handlers of signals must not.

        A step that runs on the scheduler's own thread is not interrupted.
        """
        self.is_on_duty = False  # no plan may start Vects that would not end
        if self._log.id is not None:
            self.put(Halt(reason))
            return
        for run in self.registry.open_runs():
            self.ask(run, Cancel(run.id, reason))
        self.put(Tidy())

    def has_stopped(self) -> bool:
        """Whether nothing goes on any more."""
        return bool(self.halted) or self._is_closed or self.failure is not None

    def is_over(self, run: Run) -> bool:
        """Whether a run has ended and no work of it is still being ended."""
        return run.is_told and not self.runner.lingering.is_ending(run.id)

    def is_idle(self) -> bool:
        """Whether all runs are over, or left to the next life, and the inbox is empty."""
        with self.lock:  # not while a tick deals with a late answer
            is_open = self.registry.open and (not self.halted or self._is_ending_all)
            return self._inbox.empty() and not is_open and not self.runner.lingering.is_ending_any

    def _held(self, vect: str) -> VectState | None:
        """Return the state of an open Vect, if the engine has it in memory."""
        run = self.registry.runs.get(vect)
        return run.state if run is not None and run.is_held else None

    def _nudge(self) -> None:
        """Look at the workers again, which have changed."""
        self.put(Nudge())

    def _recheck_claims(self) -> None:
        """Check again which steps go before those that take several slots. Any thread."""
        if self.queue.claims:
            self.put(Recheck())

    def _let_be(self, work: Work) -> None:
        """Wait no longer for the end of a step that was cancelled: it does not listen."""
        context = work.context
        self.put(GraceOver((context.vect_id, context.step, context.number)))

    # In a tick: what a call does

    def create(self, run: Run) -> None:
        """Create a run and start it; if nobody drives, it starts with the next tick.

        Raises:
            EngineError: The start has been withdrawn.
        """
        self._assert_here()
        self.check_starting(run.flow)
        if self.registry.runs.get(run.id) is not run:
            raise EngineError(
                f"the start of vect '{run.id}' was withdrawn, nothing was done; start it again",
                flow=run.flow.name,
            )
        if not self._is_lent:
            self._obey(Begin(run.id))
            return
        self.create_alone(run)
        if self._turns.enter(run):
            self.put(Begin(run.id))

    def create_alone(self, run: Run) -> None:
        """Commit the creation of a run without its start."""
        if run.state.created_date is None:
            self._notes.in_hand = run.state
            self._create(run)

    def _end_unread(self, run: Run, reason: str) -> None:
        """Cancel a run whose events cannot be read; only its state is known."""
        if run.shown in VECT_ENDS:
            return
        what = ("vect.cancelled", run.shown, "cancelled", MappingProxyType({"reason": reason}))
        seq = self._log.last_seq + 1
        self._append(None, Event(seq, self._now, run.flow.name, run.id, None, None, *what))

    def let_go(
        self, vects: Iterable[str], parents: Collection[str], older_than: datetime
    ) -> dict[str, Run | None]:
        """Let go of the runs of Vects that are about to be pruned; as `Registry.let_go`.

        Args:
            vects: The ids of Vects that have ended.
            parents: The ids of the open Vects in the log: their children are still needed.
            older_than: The instant before which they must have ended.
        """
        self._assert_here()
        at_work = self.runner.vects()

        def is_held(vect: str) -> bool:
            if vect in at_work or _is_child_of(vect, parents):
                return True
            return _is_child_of(vect, self.registry.open)  # it may have been retried just now

        return self.registry.let_go(vects, is_held, older_than)

    # The thread that drives

    def run_next(self) -> None:
        """Do a piece of the work that only the driving thread may do."""
        self.runner.run_next()

    def carry_out(self, calls: list[Call]) -> None:
        """Carry out calls, in a tick that takes no other message."""
        self._is_lent = True
        try:
            if self.failure is None and not self._is_closed:
                self.tick(list(calls))
        finally:
            self._is_lent = False

    def tick(self, messages: list[Message]) -> None:
        """Process `messages` and all that follows from them, up to one commit and its effects."""
        assert self.wheel.thread in (None, get_ident()), WRONG_THREAD
        try:
            if not self._attempt(messages):
                for message in messages:
                    self._attempt_alone(message)
        except _LogFailedError as failure:
            self._stop(failure.__cause__ or failure)
        except BaseException as error:
            if not self._is_telling:  # else all that the tick asks for has been done
                self._stop(error)
            raise

    def _assert_here(self) -> None:
        assert self.wheel.thread in (None, get_ident()), WRONG_THREAD

    def _attempt(self, messages: list[Message]) -> bool:
        """Do a tick; return False if it has raised and was taken back.

        Raises:
            _LogFailedError: The log cannot be written.
        """
        self._is_telling = False
        try:
            with self.lock:
                self._now = self._clock.now()
                self._notes.in_hand = None
                self._take_all(messages)
                try:
                    events = self._log.commit()
                except Exception as error:
                    raise _LogFailedError from error
        except _LogFailedError:
            raise
        except Exception as error:
            self._take_back(error)
            return False
        self._notes.in_hand = None
        self._contain(self._show_all, events)
        self._perform(events)
        if self.entering.entered:
            self._see_to_entered()
        if self.halted:
            self.runner.kill_all()
            self._is_ending_all = False
        if self._asked:
            self._contain(self._answer_calls)
        if self._is_look_due:
            self._is_look_due = False
            self._contain(self._look_around)
        self._is_telling = True
        flows, runs = self.registry.flows, self.registry.runs
        try:
            for event in events:
                is_of_plan = event.name in PLAN_EVENTS
                try:
                    self._tell(flows[event.flow] if is_of_plan else runs[event.vect].flow, event)
                except Exception:  # receivers cannot raise: it is a bug of ours
                    _logger.exception("event %d could not be passed to the receivers", event.seq)
        finally:  # also when Ctrl-C comes while a receiver is called
            self._close_ended()
        self._is_telling = False
        return True

    def _set_alarm(self) -> None:
        """Check the steps again that wait for the rate of their pool, when the next one may start.

        The wall clock may be set meanwhile; see `time_has_jumped`.
        """
        soonest = min(self.queue.wakes.values())
        if self._alarm is None or soonest < self._alarm:
            self._alarm = soonest
            seconds = max(_A_MOMENT, (soonest - self._now).total_seconds())
            self.put_at(self._clock.monotonic() + seconds, Recheck())

    def _look_around(self) -> None:
        """Check which plans are due, and admit starts of other processes: without a lock."""
        self._requests.admit_all()
        self.on_look()

    def _see_whether_drained(self) -> None:
        """End the rest once the work that could end by itself has ended and no message is left."""
        is_over = self.halted or self.is_drained
        if not (is_over or self.runner.has_work) and self._inbox.empty():
            self.is_drained = True
            self.ask_for_end(self.draining)

    def _take_all(self, messages: list[Message]) -> None:
        for index, message in enumerate(messages):
            kind = type(message)
            if kind is Answer:
                if message.key[0] not in self.registry.open:  # type: ignore[union-attr] # just asked
                    self._news.append(message.key[0])  # type: ignore[union-attr] # as above
                messages[index] = message = self.runner.settle(message)  # type: ignore[arg-type] # noqa: PLW2901 - processed once, even if the tick is taken back
            elif kind in _HEARD:
                messages[index] = message = self._hear(message)  # noqa: PLW2901 - as above
            self._take(message)
            self._settle()

    def _append(self, sender: object, event: Event) -> None:
        """Write an event that no transition makes."""
        try:
            self._emitted.send(sender, event=event)
        except Exception as error:
            raise NotAppendedError from error

    def _take_back(self, error: Exception) -> None:
        """Go back to the last commit: nothing of this tick has happened.

        Raises:
            _LogFailedError: The log itself has failed, or cannot go back.
        """
        cause = error.__cause__ if isinstance(error, NotAppendedError) else error
        if cause is not error and not isinstance(cause, EventRefusedError):
            raise _LogFailedError from cause
        _logger.warning("a tick was taken back: %r", cause, exc_info=cause)
        with self.lock:
            try:
                self._log.discard()
            except Exception as failure:
                raise _LogFailedError from failure
            self._orphans.clear()
            if self.queue.rates is not None:
                self.queue.rates.take_back()
            self.entering.take_back()
            self._give_calls_back()
            if isinstance(self._notes.in_hand, Poll):
                self.put(self._notes.in_hand)  # it had its turn, and comes to nothing
            self._go_back()
            self.runner.count_busy()

    def _give_calls_back(self) -> None:
        for call in self._asked:
            call.result = call.error = None
            call.give_back()
        self._asked.clear()

    def _go_back(self) -> None:
        """Make each Vect that was touched anew from its committed events."""
        in_hand = () if self._notes.vect is None else (self._notes.vect,)
        looked_at = [model.vect.id for model in (*self._moved, *self._ready)]
        self._moved.clear()
        self._ready.clear()
        self.containment.bring_back(dict.fromkeys((*looked_at, *in_hand)))

    def _attempt_alone(self, message: Message) -> None:
        """Take one message again; if it raises again, drop it and strand its Vect."""
        alone = [message]
        while not self._attempt(alone):
            message = alone[0]  # a message of `_HEARD` may be a command now
            vect = self._notes.vect or _vect_of(message)
            run = self.registry.runs.get(vect or "")
            is_other = run is not None and run.id != _vect_of(message) and run.held_up is None
            if run is not None:
                self.containment.strand(run)
            if not is_other:  # else it only came along, and this message is not to blame
                self._drop(message)
                return

    def _drop(self, message: Message) -> None:
        match message:
            case Call() if message.claim():
                message.error = bug(f"what was asked of vect '{message.vect}' was not done")
                self.answer([message])
            case Answer():
                self.runner.lose(message.key)
                self.queue.give_up(message.key[0], self.runner.at_work(message.key[0]))
            case Lend() | TakeBack():
                message.loan.is_back = True  # who has lent it goes on
                self.have_all_look()
            case Asked():  # those that were not come to yet
                self._look_again_later(message)
            case TakeOver():
                self.queue.is_held = bool(self.halted)
                if self.entering.left:
                    self._look_again_later(message)

    def _contain(self, hook: Callable[..., object], *args: object) -> None:
        """Call code that follows a commit; an exception must not harm what comes after it."""
        try:
            hook(*args)
        except Exception:
            _logger.exception("%r has raised; it is called again in %g s", hook, LOOK_AGAIN)
            self._look_again_later(Nudge())

    def _answer_calls(self) -> None:
        calls, self._asked = self._asked, []
        self.answer(calls)

    def _close_ended(self) -> None:
        """Let go of the Vects that have ended, and wake the calls that wait for their end."""
        while self._ended:
            run = self._ended.popleft()
            self.registry.close(run)
            try:
                self.on_end(run)
            except Exception:
                _logger.exception("the step that runs vect '%s' did not get its end", run.id)
                self.containment.strand_parent(run)
            try:
                if run.is_told:  # else it shall go on again by now
                    self.runner.let_go(run.id)
                    self.queue.let_go(run.id)
                    self.registry.reader.let_go(run)
            except Exception:  # it has ended in any case
                _logger.exception("vect '%s' has ended, but could not be let go of", run.id)
            self._news.append(run.id)
            if self.is_awaited:
                self.put(Nudge())
        is_over = bool(self.halted) or self.is_drained
        if self._news or not self.registry.open or is_over:
            news = [""] if is_over else self._news.copy()
            self._news.clear()
            self.have_all_look(news)
        if self.draining:
            self._see_whether_drained()

    def _show_all(self, events: Sequence[Event]) -> None:
        """Show readers what is committed."""
        of_vects = []
        with self.showing:
            for model in self._moved:
                model.before = None
                if model.mapped is not None:
                    model.mapped.shown = len(model.mapped.instances)
            self._moved.clear()
            for event in events:
                if event.step is None and event.name not in PLAN_EVENTS:
                    run = self.registry.runs[event.vect]
                    run.shown, run.is_created = event.dest, True
                    of_vects.append((run, event))
        for run, event in of_vects:
            try:
                self._hear_of_end(run, event)
            except Exception:
                _logger.exception("event %d could not be followed up", event.seq)
                self.containment.strand(run)

    def _hear_of_end(self, run: Run, event: Event) -> None:
        if event.name == "vect.started":
            self._turns.begun(run)
        elif event.name == "vect.reopened":
            self.registry.take(run)
        elif event.dest in VECT_ENDS and event.source not in VECT_ENDS:
            self.registry.note_end(run, event.time)
            self._ended.append(run)
        elif event.name == VECT_CREATED and run.state.state == INITIAL and self._turns.waits(run):
            self.registry.reader.let_go(run)  # the log keeps it until it is its turn

    def _perform(self, events: Sequence[Event]) -> None:
        """Perform the effects of committed events, one by one."""
        for event in events:
            if event.step is None and event.name not in BEGINNINGS:
                continue
            run = self.registry.runs[event.vect]
            try:
                for effect in effects(event):
                    if run.held_up is None:
                        self.runner.perform(run, effect)
                if run.is_held and run.state.deadlines is not None and run.held_up is None:
                    self.runner.watch(run, event.step, self._now)
            except Exception:
                _logger.exception("an effect of event %d has raised", event.seq)
                self.containment.strand(run)
        if self.queue.wakes:
            self._set_alarm()
        if self.containment.has_stranded:
            self.containment.has_stranded = False
            self.runner.count_busy()  # some had their slots already, and are not at work

    def _stop(self, error: BaseException) -> None:
        """Take no further step: what is not in the log must not happen."""
        if isinstance(error, Exception):  # any other reaches the caller of `drive`
            _logger.error("the engine has stopped: %s", error)
        self.runner.kill_all()
        for run in self.registry.open_runs():
            try:
                self.registry.go_back(self._log, run)
            except Exception:  # the log cannot even be read: nothing better is known
                _logger.exception("the log of vect %s cannot be read", run.id)
        self.failure = error
        for call in self._asked:
            call.error = self.failure_error()
        self._answer_calls()

    def _hear(self, message: Message) -> Finished | Lost | None:
        """Note what has become of an attempt; return the command that follows from it."""
        match message:
            case Answer():
                return self.runner.settle(message)
            case TimeUp() if not self.halted:
                return self.runner.time_up(message.key)
            case GraceOver():
                self._news.append(message.key[0])
                return self.runner.grace_over(message.key)
        return None

    def _take(self, message: Message) -> None:
        match message:
            case Call():
                self._take_call(message)
            case _ if self.halted or (self.draining and isinstance(message, Begin | TakeOver)):
                return  # the next life has them begin, or go on
            case Finished():
                self._obey(message)
            case None:  # nothing has become of an attempt yet
                return
            case Poll() | Lend() | TakeBack():
                self._take_slot(message)
            case Fetched():
                self.runner.call_fetched(message.key)
            case _:
                self._take_rarely(message)

    def _take_rarely(self, message: Message) -> None:
        match message:
            case Nudge():
                self._is_look_due = True
                self._look_at_workers()
            case Recheck():
                self._alarm = None
                self.queue.look_behind_claims()
                self.queue.now = self._now
                self.queue.look_at_rates(at_all=True)
            case Over():
                self._hear_of_left(message)
            case Note():
                self._append(None, message.event(self._log.last_seq + 1, self._now))
            case Misfit():
                self.steering.look_at_misfit(message.vect)
            case Asked():
                self.is_asked = False
                self._is_look_due |= self._requests.take(message)
            case TakeOver():
                self.entering.enter()
            case Retry() if message.parent is not None:
                self.entering.go_on_in(message.vect, message.parent)
            case Drain() | Halt() | Tidy():
                self._begin_to_end(message)
            case _:
                self._obey(message)  # type: ignore[arg-type] # all others are commands

    def _look_at_workers(self) -> None:
        """Note what the workers say; without any, the Vects stay open for the next program."""
        self.runner.look_at_workers()
        if self.runner.has_no_workers and not self.halted:
            self.put(Halt(f"{self.runner.problem}; {_NO_WORKERS}"))

    def _begin_to_end(self, message: Drain | Halt | Tidy) -> None:
        """Begin nothing any more; work that runs goes on (drain), or is ended too (halt)."""
        if isinstance(message, Tidy):
            self.queue.is_draining = self.runner.is_draining = False
            for run in self.registry.open_runs():
                if run.is_held and run.held_up is None:
                    steps = run.state.steps.values()
                    self._ready += [*(step for step in steps if step.is_teardown), run.state]
            return
        if isinstance(message, Drain):
            self.draining = self.draining or message.reason
            self.queue.drain()
            self.runner.is_draining = True
            return
        self.halted = message.reason
        self.queue.is_held = self._is_ending_all = True

    def _see_to_entered(self) -> None:
        """Arm the timers of the runs that have entered; ask for the next ones."""
        self.entering.see_to(self._now)
        if self.entering.left:
            self.put_at(self._clock.monotonic(), TakeOver())

    def _look_again_later(self, message: Message) -> None:
        self.put_at(self._clock.monotonic() + LOOK_AGAIN, message)

    def _take_slot(self, message: Poll | Lend | TakeBack) -> None:
        """Take, lend or take back a slot for a step that is under way."""
        match message:
            case Lend():
                self.runner.lend(message.loan)
            case TakeBack():
                self.runner.take_back(message.loan, at_once=message.at_once)
            case Poll() if self.runner.has_slot(message.key):
                self.queue.add_poll(message)
            case Poll():
                self.runner.poll(message.key)

    def _take_call(self, call: Call) -> None:
        if not call.claim():  # it was withdrawn, or done on another thread
            return
        self._asked.append(call)
        try:
            self.check_running()
            call.result = call.do()
        except OAutomError as error:
            call.error = error

    def check_running(self) -> None:
        """Refuse to begin anything once all work was ended for the next life to go on with.

        Raises:
            EngineError: That is so.
        """
        if self.halted:
            raise EngineError(
                f"the engine was stopped ({self.halted}), and its vects go on when the program is "
                "run again; close this app and make a new OAutom"
            )

    def check_starting(self, flow: Flow) -> None:
        """Refuse to begin a Vect while the engine drains.

        Raises:
            EngineError: That is so.
        """
        if self.draining:
            raise EngineError(
                f"the engine is being stopped ({self.draining}), and begins nothing more; start "
                f"flow '{flow.name}' when the program is run again",
                flow=flow.name,
            )

    def _hear_of_left(self, over: Over) -> None:
        """Note that work left by an app before this one has ended."""
        run = self.registry.runs.get(over.vect)
        steps = {} if run is None or not run.is_held else run.state.steps
        if over.step not in steps or steps[over.step].state != "running":
            for hold in self.queue.holds_of((over.vect, over.step)):
                self.queue.free_slot(hold.group, (over.vect, over.step))
        self._look_again(over.vect, over.step)

    def _look_again(self, vect: str, step: str) -> None:
        """Check a step whose earlier attempt is over: it may take its slot, and start again."""
        run = self.registry.runs.get(vect)
        if run is not None and not run.is_inherited and step in run.state.steps:
            state = run.state.steps[step]
            self.queue.set_free(state, is_stranded=run.held_up is not None)
            if run.held_up is None and state.state not in STEP_ENDS:
                self._ready.append(state)
            self._look_behind(run, state)

    def _look_after(self, vect: str, step: str) -> None:
        """Check the teardowns of a step with less work at hand than before."""
        run = self.registry.runs.get(vect)
        if run is not None and run.is_held and step in run.state.steps:
            self._look_behind(run, run.state.steps[step])

    def _look_behind(self, run: Run, step: StepState) -> None:
        """Check the steps that clean up after a step: its attempt may have ended."""
        if run.held_up is None and run.state.options:
            names = run.state.graph.dependants_of(step.declared)
            self._ready.extend(run.state.steps[name] for name in names)
            self._ready.append(run.state)

    def _obey(self, command: Command) -> None:
        run = self.registry.runs.get(command.vect)
        if run is None or run.held_up is not None:  # it was let go, or is stranded
            if run is not None and isinstance(command, Cancel):
                self.steering.give_up(run, command)
            return
        if run.is_told and isinstance(command, Begin):  # it was cancelled before it began
            return
        if not run.is_held and run.shown == INITIAL and not self.entering.hold(run):
            return
        state = run.state
        self._notes.in_hand = state
        if state.state == INITIAL and not self._may_begin(run, command):
            return
        for trigger in handle(state, command):
            self._fire(trigger)

    def _may_begin(self, run: Run, command: Command) -> bool:
        """Create a run that is not created yet; return False if it waits for its turn to begin."""
        is_new = run.state.created_date is None
        if is_new:
            self._create(run)
        if isinstance(command, Begin):
            if run.state.parent is not None:
                self._open(run.state.parent)
            return self._turns.enter(run)
        # A cancel on another thread was quicker; or a pause before the start must still hold.
        if is_new or isinstance(command, Pause):
            self._obey(Begin(run.id, run.turn))
        return True

    def _open(self, parent: Sequence[Any]) -> None:
        """Free the slot of the attempt whose child begins: its steps have the next turn."""
        vect, step, attempt = parent
        self.runner.opened((vect, step, attempt))

    def time_has_jumped(self) -> None:
        """Check all steps again that wait for a time, or for a person until a time."""
        if self.halted:
            return
        now = self._clock.now()
        if self.queue.wakes:
            self.put(Recheck())
        for run in self.registry.open_runs():
            if run.held_up is None and run.is_held and not run.is_inherited:
                self.runner.wake_again(run, now)

    def _settle(self) -> None:
        """Fire all triggers that are due; starts wait for their turn, and for a free slot."""
        queue = self.queue
        queue.now = self._now
        if queue.wakes:
            queue.look_at_rates()
        while self.runner.returning and self.runner.has_room:  # they go before all others
            self._news.append("")  # before: the tick may be taken back, and the slots are given
            self._notes.in_hand = self.runner.returning[0]
            self.runner.give_back()
        self._look()
        while queue.size and not queue.is_held:
            try:
                turn = queue.take(has_slot=self.runner.has_room)
            except Exception:
                self._notes.in_hand = queue.looking
                raise
            if turn is None:
                return
            self._notes.in_hand = turn
            if isinstance(turn, Poll):
                self.runner.poll(turn.key)
                continue
            if (trigger := due(turn)) is not None:
                self._start(trigger)
                if self._ready:  # a map has made its instances
                    self._look()

    def _look(self) -> None:
        """Fire all triggers that are due, except starts that must wait."""
        queue = self.queue
        while self._ready or self._orphans:
            if not self._ready:
                self._obey(self._orphans.popleft())
                continue
            self._notes.in_hand = model = self._ready.popleft()
            trigger = due(model)
            if trigger is None:
                continue
            # Where some steps start and others are blocked, as after a pause, these go first.
            is_shut = queue.is_held or queue.is_draining
            waits = queue.size or is_shut or self._ends_first or trigger.model.vect.options
            if trigger.name == WIND_UP:
                self._obey(Cancel(model.vect.id, trigger.data["reason"], "failed"))
            elif trigger.name == "compensate" and self._must_wait(trigger.model):  # type: ignore[arg-type] # it is a step's
                continue  # as below
            elif trigger.name != "start":
                self._fire(trigger)
            elif model.attempt and self.runner.is_at_work(model):  # type: ignore[arg-type] # only steps are due to start
                continue  # checked again when the attempt has ended
            elif model.rule == TEARDOWN and self._is_being_ended(model):  # type: ignore[arg-type, union-attr] # as above
                continue  # as above, when nothing is at work that it cleans up after
            elif waits or not self.runner.has_room:
                queue.add(model)  # type: ignore[arg-type] # as above
            else:
                self._start(trigger)
        self._ends_first = False

    def _must_wait(self, step: StepState) -> bool:
        """Whether it is too early, or too late, to undo what a step has done."""
        return self.queue.is_draining or self.runner.is_at_work(step)

    def _is_being_ended(self, teardown: StepState) -> bool:
        """Whether an upstream of a teardown is over, but its work has not ended yet."""
        vect, is_about_to_end = teardown.vect, self.runner.is_about_to_end
        before = [vect.steps[name] for name in vect.graph.upstreams[teardown.name]]
        if any(map(is_about_to_end, before)):
            return True
        maps = {step.name for step in before if step.mapped is not None}
        if not maps:
            return False
        # Of the instances those at work: there may be ten thousand others, at each end of one.
        at_work = [vect.steps[name] for _, name in self.runner.at_work(vect.id)]
        return any(step.declared in maps and is_about_to_end(step) for step in at_work)

    def _start(self, trigger: Trigger) -> None:
        step: Any = trigger.model
        if step.needs_worker:
            self.runner.busy += 1  # the work itself is submitted after the commit
        elif step.kind:
            trigger = self._with_more(step, trigger)
        self._fire(trigger)

    def _with_more(self, step: StepState, trigger: Trigger) -> Trigger:
        """Return the start of a step with facts that the fold does not have."""
        data = trigger.data
        if step.kind == "map":
            data = {**data, **self.registry.runs[step.vect.id].labels(step)}
        elif step.kind == "flow":
            self.runner.busy += step.parent is not None  # until its child has begun
            if step.child_left is not None and self.may_go_on(step):
                data = {"child": step.child_left}
        return Trigger(step, trigger.name, trigger.attempt, MappingProxyType(data))

    def _create(self, run: Run) -> None:
        state = run.state
        data = {**state.first_facts(), **run.origin} if run.origin else state.first_facts()
        if self.runner.has_loop and any("async" in given for given in state.options.values()):
            data = {**data, "loop": True}
        if run.flow.has_strict_steps:
            data = {**data, "bash": "strict"}
        event = self._record(state, VECT_CREATED, None, state.state, None, data)
        self._append(state, event)
        self._appended.send(state, event=event)

    def _fire(self, trigger: Trigger) -> None:
        assert self.wheel.thread in (None, get_ident()), WRONG_THREAD
        machine = self._vects if trigger.model.name is None else self._steps
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
        if model.before is None:
            model.before = moved(model)  # readers see this until the tick is committed
            self._moved.append(model)
        vect = model.vect
        seq = self._log.last_seq + 1  # dense even where a tick is refused: a gap means damage
        return Event(
            seq, self._now, vect.flow, vect.id, model.name, attempt, name, source, dest, data
        )

    def _release(self, sender: StepState | VectState, *, event: Event) -> None:
        """React to an appended event: note which models may be due. Fires nothing."""
        vect = sender.vect
        vect.apply(event)
        if sender is not vect:
            if vect.options:
                self._release_more(sender, event)  # type: ignore[arg-type] # it is a step
            self._ready.extend(affects(vect, event))
            return
        if self.queue.claims:  # another Vect may be waited for
            self.queue.look_behind_claims()
        if event.name in ("vect.paused", "vect.ending", "vect.cancelled", "vect.failed"):
            self.queue.forget(vect)
        elif event.name in ("vect.resumed", "vect.reopened"):
            self._ends_first = True
        self._ready.extend(affects(vect, event))

    def _release_more(self, step: StepState, event: Event) -> None:
        """React to an event of a step in a flow with limits, or with flows as steps."""
        vect = step.vect
        if vect.has_limits:
            key = (vect.id, step.name, step.attempt)
            self.queue.hear(step, event, is_at_work=self.runner.holds(key))
        if step.kind == "flow" and event.source == "running" != event.dest:
            reason = f"step '{step.name}' of vect '{vect.id}' needs it no more"
            child = step.child or ""
            # A child that was retried before its step got its end has a life of its own.
            if event.dest == "cancelled" or not self._is_reopened(child):
                self._orphans.append(Cancel(child, reason))

    def _is_reopened(self, vect: str) -> bool:
        run = self.registry.runs.get(vect)
        return run is not None and run.is_held and run.state.is_reopened

    def close(self) -> None:
        """Wait for killed work to end, and end the workers. Called when nobody drives any more."""
        while self.runner.lingering.is_ending_any:
            for message in self._collect(None):
                self._hear(message)
        self._is_closed = True
        self._inbox.put(Nudge())  # a step may drive by now, and wait for its slot
        self.have_all_look()
        self.runner.close(self.queue.holds_of)
        self.answer(())  # those who still call look, and find it closed


_A_MOMENT: Final = 1e-6  # seconds: as exact as the time of an event
_NO_WORKERS: Final = (
    "give OAutom(executor=...) a function that makes such an executor: it is called for another one"
)


def _never(step: StepState) -> bool:
    return False


def _vect_of(message: Message) -> str | None:
    """Return the id of the Vect that a message concerns."""
    if isinstance(message, Answer | TimeUp | GraceOver | Poll | Fetched):
        return message.key[0]
    if isinstance(message, Lend | TakeBack):
        return message.loan.key[0]
    return getattr(message, "vect", None)


def _is_child_of(vect: str, parents: Collection[str]) -> bool:
    """Whether an id is that of a child of one of some Vects: `vect/step/attempt`."""
    place = vect.find("/")
    while place >= 0:
        if vect[:place] in parents:
            return True
        place = vect.find("/", place + 1)
    return False
