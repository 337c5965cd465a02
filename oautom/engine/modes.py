"""The engine: the scheduler on the caller's thread (foreground), or on its own (background)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any
from weakref import WeakMethod

from oautom.engine.awaiting import Awaiting
from oautom.engine.inbox import CALL_SECONDS
from oautom.engine.interrupts import Received, follow, system_signals
from oautom.engine.messages import Asked, Call, Nudge
from oautom.engine.scheduler import Scheduler
from oautom.errors import EngineError, LogError, OAutomError, SettingError, exhausted, shown
from oautom.events.log import EventLog, PrunedVect, old_vects
from oautom.machine.commands import Cancel, Command, Retry
from oautom.machine.explain import NO_FACTS, Facts, explain
from oautom.machine.state import StepState, replay
from oautom.machine.tables import INITIAL, VECT_ENDS
from oautom.machine.wording import quoted
from oautom.processes.forked import Home
from oautom.steps.options import wrong_interval
from oautom.values.names import one_of
from oautom.vects.run import Run, unread_status
from oautom.vects.turns import turn_of


class OAutomMode(StrEnum):
    """The thread on which Vects are driven."""

    foreground = "foreground"
    """On the thread that calls `run` or `wait`; nothing moves in between."""
    background = "background"
    """On a thread of the engine's own."""

    @classmethod
    def of(cls, mode: OAutomMode) -> OAutomMode:
        """Return the mode that an argument names.

        Raises:
            SettingError: The argument names no mode.
        """
        if (name := one_of(mode, {each.value for each in cls})) is None:
            known = ", ".join(f"OAutomMode.{each.value}" for each in cls)
            raise SettingError(f"mode must be one of {known}, not {shown(mode)}")
        return cls(name)


_logger = logging.getLogger("oautom.scheduler")

_CLOSED = "the app was closed"

LOCK_SECONDS = 0.05
"""How long `explain` waits for a tick to end."""


class ForegroundEngine:
    """Drives on the thread that waits; nothing moves until a call waits.

    On the main thread, SIGINT (Ctrl-C) and SIGTERM meanwhile end all work; after that, the signal
    takes its usual course.
    """

    _may_drive = True

    def __init__(self, scheduler: Scheduler, log: EventLog) -> None:
        self.home = Home()
        self.drain = 0.0  # seconds that running steps have after a SIGTERM
        self.log = log
        self._scheduler = scheduler
        self._pruning = threading.Lock()
        self.open: Callable[[], object] = bool  # opens the log, if it is not open yet
        self._heard = 0  # newest request that was checked while a step ran
        self.check_process: Callable[[], object] = bool  # refuses a process without the engine
        self.prepare: Callable[[], object] = bool  # ends what a dead program has left at work
        self._awaiting = Awaiting(scheduler, self._drive)
        self._waits = scheduler.waits
        self._waits.drive = self._drive
        self._waits.look_again = self._awaiting.look_again
        self._waits.is_over = scheduler.has_stopped
        scheduler.registry.engine = self

    def create(self, runs: Sequence[Run], timeout: float) -> None:
        """Return when the log has the creation of runs: all in one commit.

        Args:
            runs: Runs that were admitted by `Registry.admit`, on this or another thread.
            timeout: Seconds to wait while a step or receiver occupies the thread of the engine.

        Raises:
            EngineError: The timeout is over, or the app is closed: the start was withdrawn.
            LogError: The engine has stopped.
        """
        new = [run for run in runs if not run.is_created]
        if not new:
            return
        try:
            self._call(new[0], partial(self._create, new), timeout)
        except OAutomError:
            for run in new:
                if not run.is_created:
                    self._scheduler.registry.drop(run)
            raise

    def _create(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self._scheduler.create(run)

    @property
    def is_here(self) -> bool:
        """Whether this thread drives."""
        return self._scheduler.is_here

    def _call(self, run: Run, do: Callable[[], Any], timeout: float = CALL_SECONDS) -> None:
        """Call a function in a tick, and return when the log has the events."""
        self._scheduler.call(Call(run.id, do), timeout, may_drive=self._may_drive)

    def listen(self) -> None:
        """From now on, carry out requests of other processes as soon as they come."""
        hear = WeakMethod(self._hear)  # a waiting log must not keep a forgotten engine alive
        self.log.listen(lambda: (method := hear()) and method())
        if self._may_drive:  # else the engine's own thread starts when needed
            self._scheduler.on_wheel = self.log.drive
            self.log.drive(self._scheduler.is_driven)
        self._scheduler.put(Asked())  # for requests of the time before

    def _hear(self) -> None:
        """Put an `Asked` in the inbox; interrupt the running inline step that a cancel concerns.

        On a thread of the log, which must not end by an error.
        """
        if not self._scheduler.is_asked:  # else one is in the inbox already
            self._scheduler.is_asked = True
            self._scheduler.put(Asked())
        if self._scheduler.runner.is_in_step:
            with suppress(LogError):  # the scheduler will get this error itself
                for request in self.log.asked(self._heard):
                    self._heard = request.id
                    is_cancel = request.action == "cancel" and request.problem is None
                    if is_cancel and self.log.claim(request.id):  # else it was withdrawn
                        self._scheduler.runner.interrupt(request.vect)

    def prune(self, older_than: datetime) -> list[PrunedVect]:
        """Remove the Vects that ended before an instant from the log and from memory.

        First the driving thread lets go of them, so that nothing begins with them any more; if the
        log cannot be pruned then, it takes them back.
        """
        scheduler = self._scheduler
        with self._pruning:
            entries = self.log.vects()
            old = [vect.id for vect in old_vects(entries, older_than, ())]
            parents = {vect.id for vect in entries if vect.state not in VECT_ENDS}
            do = partial(scheduler.let_go, old, parents, older_than)
            call = Call("", do)
            left = do() if scheduler.is_here else scheduler.call(call, may_drive=self._may_drive)
            try:
                kept = {*old, *list(scheduler.registry.runs)} - left.keys()
                gone = self.log.prune(older_than, keep=kept)
            except BaseException:
                scheduler.registry.keep(left)
                raise
            scheduler.registry.gone(left)
            return gone

    def obey(self, run: Run, command: Command) -> None:
        """Carry out what a person asks of a run, and return when the log has the events.

        Raises:
            OAutomError: The present state does not allow it.
            EngineError: The engine did not carry it out in time, or the app is closed.
            LogError: The engine has stopped.
        """
        self.check_process()
        self.open()
        scheduler = self._scheduler
        if isinstance(command, Cancel):
            scheduler.runner.interrupt(run.id)
        if isinstance(command, Retry) and not scheduler.is_here:
            self.prepare()
        if not scheduler.is_here:
            self._call(run, partial(scheduler.steering.obey, run, command))
            return
        scheduler.steering.check(run, command)  # refuse at once what is refused already
        if isinstance(command, Retry):
            scheduler.registry.reopen(run)  # so that it does not count as ended in between
        scheduler.ask(run, command)

    def status(self, run: Run) -> dict[str, Any]:
        """Return the state of a run as of its last commit."""
        try:
            state = run.state  # may read the log: before the lock is taken
        except LogError as error:  # its events make no sense; `vects` lists it still
            return unread_status(run, error)
        with self._scheduler.showing:
            registry = self._scheduler.registry
            return registry.status(run, state, registry.turns.in_line(run))

    def explain(self, run: Run, step: str) -> str:
        """Return why a step of a run is, or is not, running, as of its last commit."""
        scheduler = self._scheduler
        if not scheduler.lock.acquire(timeout=LOCK_SECONDS):
            # A tick is being committed, which may take a while: the log has the state before it.
            state = replay(self.log.read(vect=run.id)).get(run.id) or run.first_state()
            return explain(state.steps[step], scheduler.now(), self._facts(NO_FACTS))
        try:
            facts = self._facts(_facts_of(scheduler, run, step))
            return explain(run.state.steps[step], scheduler.now(), facts)
        finally:
            scheduler.lock.release()

    def _facts(self, facts: Facts) -> Facts:
        failure = self._scheduler.failure
        return facts._replace(
            failure="" if failure is None else str(failure) or type(failure).__name__,
            halted=self._scheduler.halted,
            draining=self._scheduler.draining,
            is_undriven=self._is_undriven(),
        )

    def _is_undriven(self) -> bool:
        return not self._scheduler.is_driven

    def wait(self, run: Run, timeout: float | None) -> bool:
        """Wait until a run is over; False at the timeout. A step lends its slot meanwhile."""
        if self._is_done(run):
            return self._has_ended(run)
        self._scheduler.check_thread()
        with self._waits.waited_for(run, timeout):
            return self._wait(run, timeout)

    def _wait(self, run: Run, timeout: float | None) -> bool:
        with system_signals(self._scheduler, self.drain) as received:
            self._drive(lambda: self._is_done(run) or bool(received), timeout)
            if received:
                self._drive(lambda: self._has_settled(received))
        if received:
            follow(received[0])
        return self._has_ended(run)

    async def ended(self, run: Run) -> None:
        """Wait until a run is over, without blocking the event loop; errors as of `wait`."""
        if not self._drive(lambda: self._is_done(run), 0):  # 0: only checks
            await self._waits.awaited(run, self._end_of)
        self._has_ended(run)

    async def _end_of(self, run: Run) -> None:
        while not self._drive(lambda: self._is_done(run), 0):
            await self._awaiting.look_again(lambda: self._is_done(run), run.id)

    def _is_done(self, run: Run) -> bool:
        is_held_up = run.held_up is not None
        return self._scheduler.is_over(run) or is_held_up or bool(self._scheduler.halted)

    def _has_ended(self, run: Run) -> bool:
        """Whether a run is over; refuse to wait for it in an engine that was halted.

        Raises:
            EngineError: It goes on in the next life only.
            OAutomError: It does not go on; the error says why.
        """
        run.check_going_on()
        if self._scheduler.halted and not self._scheduler.is_over(run):
            raise EngineError(
                f"the engine was stopped ({self._scheduler.halted}); vect '{run.id}' is open in "
                "its log, and goes on when the program is run again",
                flow=run.flow.name,
            )
        return self._scheduler.is_over(run)

    def serve(self, is_stopped: Callable[[], bool]) -> None:
        """Drive until `is_stopped`, or until a signal of the system has ended all work."""
        with system_signals(self._scheduler, self.drain) as received:
            self._drive(lambda: is_stopped() or self._has_settled(received))

    def _has_settled(self, received: Received) -> bool:
        """Whether all work has ended after a signal, or another signal came after that."""
        return received.is_urgent or (bool(received) and self._scheduler.is_idle())

    def _drive(self, until: Callable[[], bool], timeout: float | None = None) -> bool:
        return self._scheduler.drive(until, timeout)

    def is_at_rest(self) -> bool:
        """Whether no thread drives, and there is nothing to do."""
        scheduler = self._scheduler
        return not scheduler.is_driven and scheduler.has_nothing_to_do()

    def close(self, drain: float = 0.0) -> None:
        """End all work, wait until no process of it is left, and end the workers.

        Args:
            drain: Seconds that running steps have to end by themselves before that; nothing begins
                meanwhile.
        """
        scheduler = self._scheduler
        try:
            if drain:
                scheduler.drain(_CLOSED)
                self._finish(lambda: scheduler.is_drained or bool(scheduler.halted), drain)
        finally:  # also if Ctrl-C comes meanwhile
            self._end()

    def hurry(self) -> None:
        """End a drain at once, and all work with it. Any thread."""
        if self._scheduler.draining:
            self._scheduler.stop_all(_CLOSED)

    def _end(self) -> None:
        self._scheduler.stop_all(_CLOSED)
        self._scheduler.put(Nudge())
        self._finish(self._scheduler.is_idle)
        self._scheduler.close()

    def _finish(self, until: Callable[[], bool], timeout: float | None = None) -> None:
        """Drive until `until`, or until the engine has failed."""
        try:
            self._drive(until, timeout)
        except (LogError, EngineError):
            if self._scheduler.failure is None:
                raise


class BackgroundEngine(ForegroundEngine):
    """Drives on its own thread while there is something to do; the program waits for its end."""

    _may_drive = False

    def __init__(self, scheduler: Scheduler, log: EventLog) -> None:
        super().__init__(scheduler, log)
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # a signal handler may cancel in between
        scheduler.on_message = scheduler.refusal = self._wake

    def _wake(self) -> RuntimeError | None:
        """Start the thread if it is needed; return the error if the system gives none."""
        with self._lock:
            # If a thread that has ended took the message already, all is done.
            is_needed = self._scheduler.has_messages and self._scheduler.failure is None
            if self._thread is None and is_needed:
                thread = threading.Thread(target=self._serve, name="oautom-scheduler", daemon=False)
                try:
                    thread.start()
                except RuntimeError as error:  # the next wait or message tries again
                    if threading.main_thread().is_alive():  # else `close` drives, see `_finish`
                        _logger.warning("%s", exhausted("the engine cannot go on for now", error))
                    return error
                self._thread = thread
            return None

    def _serve(self) -> None:
        while True:
            self._scheduler.serve_until_idle()
            with self._lock:  # also waits until `_wake` has noted this thread
                if self._scheduler.failure is not None or self._scheduler.has_nothing_to_do():
                    self._thread = None
                    return

    def _is_undriven(self) -> bool:
        return False  # its thread starts when there is something to do

    def _wait(self, run: Run, timeout: float | None) -> bool:
        self._drive(lambda: self._is_done(run), timeout)
        return self._has_ended(run)

    def serve(self, is_stopped: Callable[[], bool]) -> None:
        """Return at once: the thread serves by itself."""

    def _drive(self, until: Callable[[], bool], timeout: float | None = None) -> bool:
        if not until() and (refusal := self._wake()) is not None:
            raise exhausted("the engine cannot go on for now", refusal)
        return self._scheduler.drive(until, timeout, may_drive=False)

    def _finish(self, until: Callable[[], bool], timeout: float | None = None) -> None:
        with self._lock:
            is_alone = self._wake() is not None
            if is_alone:
                self._thread = threading.current_thread()  # this thread drives instead
        if not is_alone:
            super()._finish(until, timeout)
            return
        try:
            self._scheduler.drive(until, timeout)
        finally:
            with self._lock:
                self._thread = None


def make_engine(mode: OAutomMode, scheduler: Scheduler, log: EventLog) -> ForegroundEngine:
    """Return the engine of a mode."""
    if mode is OAutomMode.foreground:
        return ForegroundEngine(scheduler, log)
    return BackgroundEngine(scheduler, log)


def _facts_of(scheduler: Scheduler, run: Run, step: str) -> Facts:
    """Return the facts of a step that only the scheduler knows, for `explain`. Under its lock."""
    state, runner = run.state.steps[step], scheduler.runner
    key = (run.id, step, state.attempt)
    ahead, higher = scheduler.queue.ahead_of(state)
    held_up = scheduler.registry.stranded(run) or run.held_up
    turns = scheduler.registry.turns
    usage = scheduler.queue.usage(state, scheduler.now())
    child = _child_of(scheduler, state)
    return Facts(
        held_up="" if held_up is None else str(held_up),
        is_inherited=run.is_inherited and not turns.waits(run),
        workers=runner.workers_if_taken,
        trouble=runner.problem,
        taken=scheduler.queue.taken(),
        claim=_claim(scheduler.queue.claim_before(state), state) if scheduler.queue.claims else "",
        starts=0 if usage is None else usage.starts,
        next_start=None if usage is None else usage.next,
        ahead=ahead,
        higher=higher,
        poll_interval=_poll_interval(run, step),
        turn=turn_of(turns.in_line(run)),
        child=_state_of_child(scheduler, state, child),
        child_turn="" if child is None else turn_of(turns.in_line(child)),
        awaited=scheduler.waits.vects_of(key),
        is_returning=runner.is_returning(key),
        at_work=frozenset(near.name for near in _near(state) if runner.lingers(near)),
    )


def _claim(before: StepState | None, step: StepState) -> str:
    """Return the step before a step, as people read it; empty if there is none."""
    if before is None:
        return ""
    vect = "" if before.vect is step.vect else f" of vect {quoted(before.vect.id)}"
    return f"{quoted(before.name)}{vect}"


def _child_of(scheduler: Scheduler, step: StepState) -> Run | None:
    """Return the run of the Vect that a step runs, if there is one yet."""
    if step.child is None:
        return None
    child = scheduler.registry.runs.get(step.child)
    if child is None and (step.name, step.attempt) in step.vect.children:
        with suppress(OAutomError):  # it may have ended in an earlier life
            return scheduler.registry.find(step.child)
    return child


def _state_of_child(scheduler: Scheduler, step: StepState, child: Run | None) -> str:
    """Return the state of the Vect that a step runs; `waiting` before it begins, or goes on."""
    if child is None:
        return "" if step.child is None else "waiting"
    if scheduler.registry.stranded(child) is not None:
        return "stranded"
    goes_on = (step.name, step.attempt) in step.vect.children
    if not goes_on or child.shown not in ("failed", "cancelled"):
        return child.shown
    if list(child.state.parent or ())[2:] == [step.attempt]:  # it went on, and ended again
        return child.shown
    return "" if scheduler.registry.turns.waits(child) else INITIAL


def _near(step: StepState) -> list[StepState]:
    """Return a step and its upstreams."""
    ups = step.vect.graph.upstreams[step.name] if step.parent is None else [step.parent.name]
    return [step, *(step.vect.steps[name] for name in ups)]


def _poll_interval(run: Run, step: str) -> float:
    execution = run.flow.steps.get(step)  # None if the flow has changed
    if execution is None or not execution.is_polled or wrong_interval(execution.poll_interval):
        return 0.0
    return execution.poll_interval
