"""The scheduler: one thread, one inbox, ticks. The only module that changes the state of a Vect.

The walk of an event, the numbers as in docs/design.md:

              handle (4)          machine + log (5, 6)         effects (10)          runner
    command -----------> trigger ----------------------> event ------------> effect --------> world
       ^                    ^     emitted, appended (7)    |  committed (9)                     |
       |                    +----- due (8) <--- affects <--+                                    |
       +------------------------------ inbox (1, 2, 3) <----------- workers, timers, people ----+

A tick takes what the inbox holds, fires the triggers that this asks for and all that become due,
commits the log once, has the effects done, and tells the public signals.

Who may touch what:

- Any thread puts a message in the inbox (`put`, `call`), and does nothing else. Whatever changes
  state runs on the one thread that drives, and asserts it.
- Readers on other threads see what is committed: before a tick moves a model it keeps the view of
  it in `model.before`. What belongs together they read under `showing`, which is held only while
  what is committed is shown; what only a tick knows, under `lock`.
- Whoever calls back into the app (receivers, plans, those who wait) is called without a lock, for
  it may wait for the lock of the app, whose holder may wait for this thread.
- What follows a commit is contained one by one. What contains a bug (`_strand` and what it calls)
  calls nothing of what it may have to contain.

A tick that raises is taken back: the log drops what it was told, each Vect that was touched is made
anew from its committed events, and each message is taken again in a tick of its own. One that
raises again is dropped, and the Vect that it concerns is stranded: it stays as it is until the
program is run again, and all others go on. Only a log that cannot be written stops the engine.

What was tried, and did not hold:

- To queue triggers: a step with two failed upstreams is blocked twice. So steps are noted that are
  worth a look (`_release`), and what is due is asked late (`_settle`).
- To fire from the receiver of an event: it recurses, and the log has not committed yet.
- Locks in place of an inbox: a receiver then waits for a lock that its own thread holds.
- To repair a tick that has raised: nobody knows which half of a decision was done. The log does.
- A code path of its own for recovery: it is a command (`Recover`), and asks `due` for every step.
- Hooks after the tick for children and plans alike: children must be told one by one, so that a bug
  at one harms no other, and a plan looks at most when it waits. It was longer, not shorter.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from threading import get_ident
from types import MappingProxyType
from typing import Any

from oautom.engine.clock import Clock
from oautom.engine.containment import Containment, bug
from oautom.engine.inbox import WRONG_THREAD, Driver
from oautom.engine.messages import (
    Answer,
    Asked,
    Call,
    Drain,
    GraceOver,
    Halt,
    Lend,
    Loan,
    Message,
    Misfit,
    Note,
    Nudge,
    Over,
    Poll,
    TakeBack,
    TakeOver,
    Tidy,
    TimeUp,
)
from oautom.engine.queue import ReadyQueue
from oautom.engine.requests import Requests
from oautom.engine.runner import Runner
from oautom.engine.waiting import Waits
from oautom.errors import (
    EngineError,
    EventRefusedError,
    FlowError,
    LogError,
    OAutomError,
    VectStateError,
)
from oautom.events.log import EventLog
from oautom.events.signals import publish
from oautom.flows.flow import Flow
from oautom.machine.commands import (
    Begin,
    Cancel,
    Command,
    Decide,
    Finished,
    Key,
    Pause,
    Recover,
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
    too_late,
    uncancellable,
)
from oautom.machine.event import Event
from oautom.machine.state import LOST, StepState, VectState, moved
from oautom.machine.tables import (
    INITIAL,
    PLAN_EVENTS,
    STEP_ENDS,
    TEARDOWN,
    VECT_CREATED,
    VECT_ENDS,
)
from oautom.machine.transition import NotAppendedError, Wire, machines
from oautom.vects.registry import Registry
from oautom.vects.run import Run
from oautom.workers.base import Workers

_logger = logging.getLogger("oautom.scheduler")

_HEARD: frozenset[type] = frozenset({Answer, TimeUp, GraceOver})
"""Messages that say what has become of an attempt: heard once, whatever becomes of the tick."""

STEPS_AT_ONCE = 2_000
"""Of how many steps the Vects are taken over in one tick; but for those that keep slots."""

_UNWANTED = "the step that had it run needs it no more"

LOOK_AGAIN = 5.0
"""Seconds until what could not be read is looked at again."""


Item = StepState | VectState | Poll | Loan | Run
"""What a tick deals with."""


class _LogFailedError(Exception):
    """The log cannot be written: its `__cause__` says why. Never leaves this module."""


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
        may_go_on: Tells whether a step that was reset goes on in the child that it has left.
        is_awaited: A plan waits for the end of a Vect.
        is_asked: A message is on its way that another process has asked for something.
        runner: Who has the work done. Its `interrupt` is for any thread, as what it tells is.
        queue: Whose turn it is, of the steps that are due.
        lock: Held in a tick, until it is committed.
        showing: Held while what is committed is shown: whoever reads many parts takes it.
        waits: Which steps wait for Vects.
        containment: What becomes of a Vect with which the engine cannot go on.
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
        self.halted: str = ""  # why all work was ended and none is begun any more
        self._is_ending_all = False  # halted, and the work that there was has not been told yet
        self.draining: str = ""  # why nothing is begun any more, though what runs may end
        self._going_on: dict[
            str, Key
        ] = {}  # children that go on when it is their turn, by their ids
        self.is_drained = False  # all that was at work then has ended
        self.runner = Runner(workers, clock, self._timers, self.put, log, self.wheel)
        self.runner.lingering.on_over = self._look_again
        self.runner.lingering.on_less = self._look_after
        self.registry = Registry(log)
        self._turns = self.registry.turns
        self._turns.on_turn = self._call_up
        self.runner.above = self.registry.above
        self._ready: deque[StepState | VectState] = deque()
        self._left: deque[Run] = deque()  # those that are to be taken over
        self._orphans: deque[Cancel] = deque()  # children whose step needs them no more
        self.queue = ReadyQueue(self.wheel)
        self.waits = Waits(self.put, self.registry, self.runner)
        self._ends_first = False
        self._news: list[str] = []  # ids of Vects for which somebody may wait no longer
        self._ended: deque[Run] = deque()  # those whose end is about to be told
        self.containment = Containment(
            log, self.runner, self.queue, self.registry, self._ready, self._news
        )
        self._requests = Requests(
            log, self.registry, self.obey, self._settle, self._look_again_later
        )
        self.on_look: Callable[[], object] = bool
        self.on_end: Callable[[Run], object] = bool
        self.may_go_on: Callable[[StepState], bool] = _never
        self.is_awaited = False
        self.is_asked = False
        self._is_look_due = False
        # Of the tick in progress:
        self._is_telling = False  # it is committed, and receivers are called
        self._is_lent = False  # nobody drives: whoever calls has the thread for this tick only
        self._in_hand: Item | None = None  # what is dealt with
        self._asked: list[Call] = []  # answered when the tick is committed
        self._moved: list[StepState | VectState] = []
        self._taken_over: deque[Run] = deque()  # or about to be
        self._emitted, self._appended = Wire(), Wire()
        self._steps, self._vects = machines(self._record, self._emitted, self._appended)
        self._emitted.connect(self._log.append, weak=False)
        self._appended.connect(self._release, weak=False)

    # Any thread: messages

    def begin(self, run: Run) -> None:
        """Take in a new run, which starts with the next tick; however many are open.

        Where its flow has starts wait, it starts when it is its turn.
        """
        self.registry.take(run, has_place=run.flow.when_full != "wait")
        self.put(Begin(run.id))

    def ask(self, run: Run, command: Command) -> None:
        """Have a command obeyed that concerns a run, with the next tick."""
        self.registry.add(run)
        self.put(_of_today(run, command))

    def take_over(self, runs: Sequence[Run]) -> None:
        """Have runs go on that the log has open; what ran when their program ended runs again.

        Some at a time, so that the first ones go on while the others are still to be read. Those
        whose steps keep slots of a pool while another flow runs must come first: what they have is
        counted before anything starts.
        """
        for run in runs:
            run.is_inherited = True
        self.registry.take_left(runs)
        for run in runs:
            if run.shown != INITIAL:
                self._left.append(run)
            else:  # it stands in line, and the log keeps it
                self.registry.reader.let_go(run)
        self.put(TakeOver())

    def _call_up(self, run: Run) -> None:
        """Have a run begin whose turn it is: it has stood in line till now."""
        parent = self._going_on.get(run.id)
        if parent is not None:
            self.put(Retry(run.id, parent=parent))
        elif run.is_inherited or self._left:  # else it would go before one that is to be taken over
            self._left.append(run)
            self.put(TakeOver())
        else:
            self.put(Begin(run.id, run.turn))

    def go_on(self, run: Run, parent: Key) -> None:
        """Have a child that has ended go on for an attempt, when it is its turn."""
        self.registry.add(run)
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

    def leave(self, unfit: Iterable[Run]) -> None:
        """Leave runs open that cannot go on: they can only be cancelled."""
        for run in unfit:
            self.registry.add(run)
            self.registry.shut(run)
            if "/" in run.id:  # it may be a child, and its step may be over
                self.put(Misfit(run.id))

    def cancel(self, run: Run, reason: str) -> None:
        """Ask for the end of a run, with the next tick; what cleans up goes on."""
        self.ask(run, Cancel(run.id, reason))
        # One that waits for its turn has no step that could have the thread.
        if run.shown != "ending" and not self._turns.waits(run):
            self.runner.interrupt(run.id)

    def stop_all(self, reason: str) -> None:
        """Have all work end: Vects of a durable log go on in another life.

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
        """Begin nothing more; when all that is at work has ended, end the rest as `stop_all` does.

        Steps that wait for a time, a person, a file or another Vect are not waited for. It takes no
        lock, as handlers of signals must not.
        """
        self.is_on_duty = False
        self.put(Drain(reason))

    def ask_for_end(self, reason: str) -> None:
        """Only put the messages of `stop_all`: it takes no lock, as handlers of signals must not.

        A step that has the scheduler's own thread is not told.
        """
        self.is_on_duty = False  # no plan starts what nobody would end
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
        """Whether a run has ended and nothing of it is still being ended."""
        return run.is_told and not self.runner.lingering.is_ending(run.id)

    def is_idle(self) -> bool:
        """Whether all runs are over, or left to another life, and no message waits."""
        with self.lock:  # not while a tick deals with a late answer
            is_open = self.registry.open and (not self.halted or self._is_ending_all)
            return self._inbox.empty() and not is_open and not self.runner.lingering.is_ending_any

    # In a tick: what a call does

    def create(self, run: Run) -> None:
        """Have a new run begin; where nobody drives it is created, and starts when somebody does.

        Raises:
            EngineError: It has been withdrawn meanwhile.
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
        """Have a new run be created, and not begin yet."""
        if run.state.created_date is None:
            self._in_hand = run.state
            self._create(run)

    def obey(self, run: Run, command: Command) -> None:
        """Do what a person asks of a run.

        Raises:
            VectStateError: It makes no sense in the state that the Vect, or its step, is in.
            UnknownStepError: The flow has no such step.
            OAutomError: The Vect does not go on, and why.
        """
        self._assert_here()
        if isinstance(command, Cancel):
            self._cancel(run, command)
            return
        late = self._refusal(run, command)
        command = _of_today(run, command)
        self.registry.add(run)
        if run.is_inherited and not self._turns.is_behind(run):  # it goes on before its turn
            self._left.appendleft(run)
            self._take_over()
            run.check_going_on()
        if isinstance(command, Retry):
            self.registry.reopen(run)
        self._obey(command)
        if late is not None:
            raise late

    def check(self, run: Run, command: Command) -> None:
        """Refuse what makes no sense by now; errors as of `obey`."""
        if (late := self._refusal(run, command)) is not None:
            raise late

    def _refusal(self, run: Run, command: Command) -> VectStateError | None:
        """Return why a decision comes too late: that is written down, and then told."""
        if not isinstance(command, Cancel):
            run.check_going_on()
        if isinstance(command, Retry):
            self.registry.check_reopening(run)
        if isinstance(command, Pause) and self._turns.is_behind(run):
            raise VectStateError(
                f"vect '{run.id}' of flow '{run.flow.name}'",
                run.shown,
                "it waits for its turn and runs nothing yet; pause it when it has started, or "
                "cancel it",
                run.flow.name,
            )
        return too_late(run.state, command) if isinstance(command, Decide) else None

    def _cancel(self, run: Run, command: Cancel) -> None:
        """Cancel a run: one way out for those, too, that do not go on otherwise."""
        run = self.registry.add(run)
        was_held_up, run.held_up = run.held_up is not None, None
        try:
            if was_held_up:  # who has failed with it may have left its state anyhow
                self.registry.go_back(self._log, run)
            if run.shown not in VECT_ENDS:
                run.hold()
        except LogError:  # its events make no sense: no more is known of it than its state
            self._end_unread(run, command)
            return
        if (refusal := uncancellable(run.state)) is not None:
            raise refusal
        self._obey(Cancel(command.vect, command.reason, is_again=True))
        if run.is_inherited:  # it is over: a retry of it is of this life, and no recovery
            run.is_inherited = False
            self._taken_over.append(run)

    def _give_up(self, run: Run, command: Cancel) -> None:
        """Cancel a run that does not fit its flow; a bug that holds one up may show again."""
        if isinstance(run.held_up, FlowError):
            self._cancel(run, command)

    def _look_at_misfit(self, vect: str) -> None:
        run = self.registry.runs.get(vect)
        if run is not None and isinstance(run.held_up, FlowError) and not self._is_wanted(run):
            self._cancel(run, Cancel(run.id, _UNWANTED))

    def _end_unread(self, run: Run, command: Cancel) -> None:
        if run.shown in VECT_ENDS:
            return
        told = MappingProxyType({"reason": command.reason})
        what = ("vect.cancelled", run.shown, "cancelled", told)
        seq = self._log.last_seq + 1
        self._append(None, Event(seq, self._now, run.flow.name, run.id, None, None, *what))

    def let_go(
        self, vects: Iterable[str], parents: Collection[str], older_than: datetime
    ) -> dict[str, Run | None]:
        """Let go of the runs of Vects that are about to be pruned; as `Registry.let_go`.

        Args:
            vects: The ids of Vects that have ended.
            parents: The ids of Vects that the log has open: their children are still needed.
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
        """Do work that is kept for the thread that drives."""
        self.runner.run_next()

    def carry_out(self, calls: list[Call]) -> None:
        """Do what calls ask for, in a tick that takes nothing else."""
        self._is_lent = True
        try:
            if self.failure is None and not self._is_closed:
                self.tick(list(calls))
        finally:
            self._is_lent = False

    def tick(self, messages: list[Message]) -> None:
        """Let all that `messages` ask for, and all that follows from it, happen."""
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
        """Do a tick; False if it has raised, and was taken back.

        Raises:
            _LogFailedError: The log cannot be written.
        """
        self._is_telling = False
        try:
            with self.lock:
                self._now = self._clock.now()
                self._in_hand = None
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
        self._in_hand = None
        self._contain(self._show_all, events)
        self._perform(events)
        if self._taken_over:
            self._take_over_more()
        if self.halted or self.draining:
            self._see_to_end()
        if self._asked:
            self._contain(self._answer_calls)
        if self._is_look_due:
            self._is_look_due = False
            self._contain(self.on_look)
        self._is_telling = True
        flows, runs = self.registry.flows, self.registry.runs
        try:
            for event in events:
                is_of_plan = event.name in PLAN_EVENTS
                try:
                    self._tell(flows[event.flow] if is_of_plan else runs[event.vect].flow, event)
                except Exception:  # receivers cannot raise: it is ours
                    _logger.exception("event %d could not be told", event.seq)
        finally:  # also when Ctrl-C comes while a receiver is called
            self._close_ended()
        self._is_telling = False
        return True

    def _see_to_end(self) -> None:
        """End all work, or see whether that which may end by itself has."""
        if self.halted:
            self.runner.kill_all()
            self._is_ending_all = False
        elif not (self.is_drained or self.runner.has_work):
            self.is_drained = True
            self.ask_for_end(self.draining)

    def _take_all(self, messages: list[Message]) -> None:
        for index, message in enumerate(messages):
            kind = type(message)
            if kind is Answer:
                if message.key[0] not in self.registry.open:  # type: ignore[union-attr] # just asked
                    self._news.append(message.key[0])  # type: ignore[union-attr] # as above
                messages[index] = message = self.runner.settle(message)  # type: ignore[arg-type] # noqa: PLW2901 - heard once, whatever becomes of the tick
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
            _LogFailedError: It is the log that failed, or it cannot go back.
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
            for run in self._taken_over:
                run.is_inherited = True
            self._left.extendleft(reversed(self._taken_over))
            self._taken_over.clear()
            self._give_calls_back()
            if isinstance(self._in_hand, Poll):
                self.put(self._in_hand)  # it had its turn, and comes to nothing
            self._go_back()
            self.runner.count_busy()

    def _give_calls_back(self) -> None:
        for call in self._asked:
            call.result = call.error = None
            call.give_back()
        self._asked.clear()

    def _go_back(self) -> None:
        """Make each Vect that was touched anew from what is committed of it."""
        in_hand = () if self._in_hand is None else (_vect_id(self._in_hand),)
        looked_at = [model.vect.id for model in (*self._moved, *self._ready)]
        self._moved.clear()
        self._ready.clear()
        self.containment.bring_back(dict.fromkeys((*looked_at, *in_hand)))

    def _attempt_alone(self, message: Message) -> None:
        """Take one message again; if it raises again, do without it, and strand its Vect."""
        alone = [message]
        while not self._attempt(alone):
            message = alone[0]  # it may have been heard by now
            vect = _vect_of(message) if self._in_hand is None else _vect_id(self._in_hand)
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
                if self._left:
                    self._look_again_later(message)

    def _contain(self, hook: Callable[..., object], *args: object) -> None:
        """Call what follows a commit; what it raises must not harm what follows."""
        try:
            hook(*args)
        except Exception:
            _logger.exception("%r has raised; it is called again in %g s", hook, LOOK_AGAIN)
            self._look_again_later(Nudge())

    def _answer_calls(self) -> None:
        calls, self._asked = self._asked, []
        self.answer(calls)

    def _close_ended(self) -> None:
        """Let go of the Vects that have ended, and have those who wait look again."""
        while self._ended:
            run = self._ended.popleft()
            self.registry.close(run)
            try:
                self.on_end(run)
            except Exception:
                _logger.exception("the end of vect '%s' is not told to who has had it run", run.id)
                self.containment.strand_parent(run)
            try:
                if run.is_told:  # else it shall go on again by now
                    self.runner.let_go(run.id)
                    self.registry.reader.let_go(run)
            except Exception:  # it has ended all the same
                _logger.exception("vect '%s' takes memory, though it has ended", run.id)
            self._news.append(run.id)
            if self.is_awaited:
                self.put(Nudge())
        is_over = bool(self.halted) or self.is_drained
        if self._news or not self.registry.open or is_over:
            news = [""] if is_over else self._news.copy()
            self._news.clear()
            self.have_all_look(news)

    def _show_all(self, events: Sequence[Event]) -> None:
        """Let readers see what is committed."""
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
                _logger.exception("event %d is not seen to", event.seq)
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
        """Have done what committed events ask for, one by one."""
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
        if self.containment.has_stranded:
            self.containment.has_stranded = False
            self.runner.count_busy()  # some had their slots already, and are not at work

    def _stop(self, error: BaseException) -> None:
        """Take no further step: what is not in the log must not happen."""
        if isinstance(error, Exception):  # any other goes on to whoever drives
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

    def _hear(self, message: Message) -> Finished | None:
        """Take note of what has become of an attempt; return what is to be done about it."""
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
            case _:
                self._take_rarely(message)

    def _take_rarely(self, message: Message) -> None:
        match message:
            case Nudge():
                self._is_look_due = True
            case Over():
                self._hear_of_left(message)
            case Note():
                self._append(None, message.event(self._log.last_seq + 1, self._now))
            case Misfit():
                self._look_at_misfit(message.vect)
            case Asked():
                self.is_asked = False
                self._requests.take(message)
            case TakeOver():
                if not self._taken_over:  # one portion a tick, however often somebody asks
                    self._take_over()
            case Retry() if message.parent is not None:
                self._go_on_in(message, message.parent)
            case Drain() | Halt() | Tidy():
                self._begin_to_end(message)
            case _:
                self._obey(message)  # type: ignore[arg-type] # all others are commands

    def _begin_to_end(self, message: Drain | Halt | Tidy) -> None:
        """Begin nothing any more; what is at work goes on for now, or is ended as well."""
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

    def _go_on_in(self, retry: Retry, parent: Key) -> None:
        """Have a child go on whose turn it is; not if the attempt is over by now that it is for."""
        self._going_on.pop(retry.vect, None)
        run = self.registry.runs.get(retry.vect)
        if run is None or run.held_up is not None or run.shown not in VECT_ENDS:
            return  # somebody else has retried it, and it runs
        try:
            if run.shown != "success" and self._is_running(*parent):
                self.registry.reopen(run, has_place=True)
                self._obey(Retry(run.id, run.news(), parent))
                return
        except OAutomError as error:
            _logger.warning("vect '%s' does not go on: %s", run.id, error)
        self._turns.free(run)
        self._ended.append(run)

    def _look_again_later(self, message: Message) -> None:
        self.put_at(self._clock.monotonic() + LOOK_AGAIN, message)

    def _take_slot(self, message: Poll | Lend | TakeBack) -> None:
        """Have a slot taken, lent or taken back, as a step under way needs it."""
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
        """Refuse to begin anything when all work was ended for another life to go on with.

        Raises:
            EngineError: That is so.
        """
        if self.halted:
            raise EngineError(
                f"the engine was stopped ({self.halted}), and its vects go on when the program is "
                "run again; close this app and make a new OAutom"
            )

    def check_starting(self, flow: Flow) -> None:
        """Refuse to begin a Vect when nothing is begun any more.

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
        """Take note that nothing is at work any more that an app before this one has left."""
        run = self.registry.runs.get(over.vect)
        steps = {} if run is None or not run.is_held else run.state.steps
        if over.step not in steps or steps[over.step].state != "running":
            for group in self.queue.groups_of((over.vect, over.step)):
                self.queue.free_slot(group, (over.vect, over.step))
        self._look_again(over.vect, over.step)

    def _look_again(self, vect: str, step: str) -> None:
        """Look at a step whose earlier attempt is over: it may have its slot, and start again."""
        run = self.registry.runs.get(vect)
        if run is not None and not run.is_inherited and step in run.state.steps:
            state = run.state.steps[step]
            self.queue.set_free(state, is_stranded=run.held_up is not None)
            if run.held_up is None and state.state not in STEP_ENDS:
                self._ready.append(state)
            self._look_behind(run, state)

    def _look_after(self, vect: str, step: str) -> None:
        """Look at what cleans up after a step, of which less is at work."""
        run = self.registry.runs.get(vect)
        if run is not None and run.is_held and step in run.state.steps:
            self._look_behind(run, run.state.steps[step])

    def _look_behind(self, run: Run, step: StepState) -> None:
        """Look at what cleans up after a step: it may have waited for the end of its attempt."""
        if run.held_up is None and run.state.options:
            names = run.state.graph.dependants_of(step.declared)
            self._ready.extend(run.state.steps[name] for name in names)
            self._ready.append(run.state)

    def _obey(self, command: Command) -> None:
        run = self.registry.runs.get(command.vect)
        if run is None or run.held_up is not None:  # it was let go, or is stranded
            if run is not None and isinstance(command, Cancel):
                self._give_up(run, command)
            return
        if run.is_told and isinstance(command, Begin):  # it was cancelled before it began
            return
        if not run.is_held and run.shown == INITIAL and not self._hold(run):
            return
        state = run.state
        self._in_hand = state
        if state.state == INITIAL and not self._may_begin(run, command):
            return
        for trigger in handle(state, command):
            self._fire(trigger)

    def _may_begin(self, run: Run, command: Command) -> bool:
        """Have a run created that is not yet; False where it must wait for its turn to begin."""
        is_new = run.state.created_date is None
        if is_new:
            self._create(run)
        if isinstance(command, Begin):
            return self._turns.enter(run)
        # A cancel on another thread was quicker; or a pause shall hold when somebody drives.
        if is_new or isinstance(command, Pause):
            self._obey(Begin(run.id, run.turn))
        return True

    def _hold(self, run: Run) -> bool:
        """Hold a run that has stood in line, or was left; False where its events make no sense."""
        try:
            run.hold()
        except LogError as error:
            self._leave(run, error)
            return False
        return True

    def _take_over(self) -> None:
        """Close what ran in the old life, of some Vects, before anything of them starts."""
        for group, place in self.runner.lingering.adopt():
            self.queue.take_slot(group, place)
        self.queue.is_held = True
        portion, steps = self._taken_over, 0
        while self._left and (steps < STEPS_AT_ONCE or self._left[0].keeps_slots):
            run = self._left.popleft()
            if run.is_inherited and run.id in self.registry.open:
                portion.append(run)
                steps += 1 + len(run.flow.steps)
            elif run.shown == INITIAL:  # of this life, and called after those
                self.put(Begin(run.id, run.turn))
        with suppress(Exception):  # what raises does so again where each is held by itself
            self.registry.reader.hold_all(portion)
        for run in portion:
            if run.is_inherited:
                self._in_hand = run
                self._take_over_one(run)
                self._settle()
        self.queue.is_held = False

    def _take_over_more(self) -> None:
        """Have the waits of the last ones go on, which are committed; and the next ones come."""
        while self._taken_over:
            run = self._taken_over.popleft()  # as they came: of waits of one instant, too
            try:
                if run.held_up is None:
                    self.runner.rearm(run, self._now)
            except Exception:
                _logger.exception("vect '%s' cannot wait on", run.id)
                self.containment.strand(run)
        if self._left:
            self.put_at(self._clock.monotonic(), TakeOver())

    def _leave(self, run: Run, error: LogError) -> None:
        """Leave a run of which the events make no sense; all others go on."""
        run.held_up = error
        self.registry.shut(run)
        self._news.append(run.id)
        _logger.error("%s", error)

    def _take_over_one(self, run: Run) -> None:
        if run.held_up is not None:  # who has failed with it may have left its state anyhow
            self.registry.go_back(self._log, run)
        if not self._hold(run):
            return
        self._in_hand = run.state
        run.held_up = None
        run.is_inherited = False
        if run.state.state in VECT_ENDS:  # it was cancelled just before
            self.registry.shut(run)
            return
        if not self._is_wanted(run):
            self._obey(Cancel(run.id, _UNWANTED))
            return
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
        self.queue.take_over(run.state)

    def _is_wanted(self, run: Run) -> bool:
        """Whether the attempt goes on that has a Vect run, if one has.

        A child that was retried by itself has a life of its own.
        """
        if run.state.parent is None or run.state.is_reopened:
            return True
        return self._is_running(*run.state.parent)

    def _is_running(self, vect: str, step: str, attempt: int) -> bool:
        known = self.registry.runs.get(vect)  # its flow may not be declared: its events are there
        parent = self.registry.reader.read(vect) if known is None else known.state
        if parent is None or parent.state in VECT_ENDS or step not in parent.steps:
            return False
        state = parent.steps[step]
        return state.state == "running" and state.attempt == attempt

    def time_has_jumped(self) -> None:
        """Have all steps look again that wait for a time, or for a person until then."""
        if self.halted:
            return
        now = self._clock.now()
        for run in self.registry.open_runs():
            if run.held_up is None and run.is_held and not run.is_inherited:
                self.runner.wake_again(run, now)

    def _settle(self) -> None:
        """Fire all that is due; starts wait for their turn, and for a free slot."""
        queue = self.queue
        while self.runner.returning and self.runner.has_room:  # they go before all others
            self._news.append("")  # before: the tick may be taken back, and the slots are given
            self._in_hand = self.runner.returning[0]
            self.runner.give_back()
        self._look()
        while queue.size and not queue.is_held:
            try:
                turn = queue.take(has_slot=self.runner.has_room)
            except Exception:
                self._in_hand = queue.looking
                raise
            if turn is None:
                return
            self._in_hand = turn
            if isinstance(turn, Poll):
                self.runner.poll(turn.key)
                continue
            if (trigger := due(turn)) is not None:
                self._start(trigger)
                if self._ready:  # a map has made its instances
                    self._look()

    def _look(self) -> None:
        """Fire all that is due, but for starts that have to wait."""
        queue = self.queue
        while self._ready or self._orphans:
            if not self._ready:
                self._obey(self._orphans.popleft())
                continue
            self._in_hand = model = self._ready.popleft()
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
                continue  # it is looked at again when that has ended
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
        """Whether what a step waits for is over, and yet at work until it has tidied up."""
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
        elif step.kind == "flow" and step.child_left is not None and self.may_go_on(step):
            told = MappingProxyType({"child": step.child_left})
            trigger = Trigger(step, trigger.name, trigger.attempt, told)
        self._fire(trigger)

    def _create(self, run: Run) -> None:
        state = run.state
        told = {**state.first_facts(), **run.origin} if run.origin else state.first_facts()
        if self.runner.has_loop and any("async" in given for given in state.options.values()):
            told = {**told, "loop": True}
        if run.flow.has_strict_steps:
            told = {**told, "bash": "strict"}
        event = self._record(state, VECT_CREATED, None, state.state, None, told)
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
        """React to an event in the log: note which models are worth a look. Fires nothing."""
        vect = sender.vect
        vect.apply(event)
        if sender is not vect:
            if vect.options:
                self._release_more(sender, event)  # type: ignore[arg-type] # it is a step
        elif event.name in ("vect.paused", "vect.ending", "vect.cancelled", "vect.failed"):
            self.queue.forget(vect)
        elif event.name in ("vect.resumed", "vect.reopened"):
            self._ends_first = True
        self._ready.extend(affects(vect, event))

    def _release_more(self, step: StepState, event: Event) -> None:
        """React to an event of a step of a flow with limits, or with other flows as steps."""
        vect = step.vect
        if vect.has_limits:
            key = (vect.id, step.name, step.attempt)
            self.queue.hear(step, event, is_at_work=self.runner.holds(key))
        if step.kind == "flow" and event.source == "running" != event.dest:
            reason = f"step '{step.name}' of vect '{vect.id}' needs it no more"
            child = step.child or ""
            # One that was retried before its step has heard of its end has a life of its own.
            if event.dest == "cancelled" or not self._is_reopened(child):
                self._orphans.append(Cancel(child, reason))

    def _is_reopened(self, vect: str) -> bool:
        run = self.registry.runs.get(vect)
        return run is not None and run.is_held and run.state.is_reopened

    def close(self) -> None:
        """Wait for what has been killed, and end the workers. When nobody drives any more."""
        while self.runner.lingering.is_ending_any:
            for message in self._collect(None):
                self._hear(message)
        self._is_closed = True
        self._inbox.put(Nudge())  # a step may drive by now, and wait for its slot
        self.have_all_look()
        self.runner.close(self.queue.groups_of)
        self.answer(())  # those who still call look, and find it closed


def _of_today(run: Run, command: Command) -> Command:
    """Return a command with what it asks for as the program has it by now."""
    return Retry(run.id, run.news()) if isinstance(command, Retry) else command


def _never(step: StepState) -> bool:
    return False


def _vect_of(message: Message) -> str | None:
    """Return the id of the Vect that a message concerns."""
    if isinstance(message, Answer | TimeUp | GraceOver | Poll):
        return message.key[0]
    if isinstance(message, Lend | TakeBack):
        return message.loan.key[0]
    return getattr(message, "vect", None)


def _vect_id(item: Item) -> str:
    """Return the id of the Vect that something in hand is of."""
    if isinstance(item, Run):
        return item.id
    return item.key[0] if isinstance(item, Poll | Loan) else item.vect.id


def _is_child_of(vect: str, parents: Collection[str]) -> bool:
    """Whether an id is that of a child of one of some Vects: `vect/step/attempt`."""
    place = vect.find("/")
    while place >= 0:
        if vect[:place] in parents:
            return True
        place = vect.find("/", place + 1)
    return False
