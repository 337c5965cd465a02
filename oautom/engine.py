"""The engine: the scheduler on a thread. In the foreground that of the caller, else its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from typing import Any

from oautom.awaiting import Awaiting
from oautom.commands import Command
from oautom.errors import EngineError, LogError, SettingError
from oautom.events.event import Event
from oautom.events.log import EventLog, PrunedVect
from oautom.explain import explain
from oautom.flow import Flow
from oautom.interrupts import follow, system_signals
from oautom.messages import Asked, Nudge
from oautom.run import Run, status_of
from oautom.scheduler import Scheduler


class OAutomMode(StrEnum):
    """On which thread Vects are driven."""

    foreground = "foreground"
    """On the thread that calls `run` or `wait`; nothing moves in between."""
    background = "background"
    """On a thread of the engine's own."""

    @classmethod
    def of(cls, mode: OAutomMode) -> OAutomMode:
        """Return the mode that an argument names.

        Raises:
            SettingError: It names none.
        """
        try:
            return cls(mode)
        except ValueError:
            known = ", ".join(f"OAutomMode.{each.value}" for each in cls)
            raise SettingError(f"mode must be one of {known}, not {mode!r}") from None


class ForegroundEngine:
    """Nothing moves until somebody waits, and it moves on the thread that waits.

    On the main thread, SIGINT (Ctrl-C) and SIGTERM meanwhile end all work; when that is done, the
    signal takes its usual course.
    """

    def __init__(self, scheduler: Scheduler, log: EventLog) -> None:
        self._scheduler = scheduler
        self._log = log
        self._awaiting = Awaiting(scheduler, self._drive)
        self._waits = scheduler.waits
        self._waits.drive = self._drive
        self._waits.look_again = self._awaiting.look_again
        self._waits.is_over = scheduler.has_stopped

    def begin(self, run: Run) -> None:
        """Take in a new run.

        Raises:
            VectAlreadyRunningException: As many of its flow are open as may be.
        """
        self._scheduler.roster.admit(run)
        self._scheduler.begin(run)

    def check_room(self, flow: Flow, at: datetime | None) -> None:
        """Refuse one more Vect of a flow where it is one too many; as `Roster.check_room`."""
        self._scheduler.roster.check_room(flow, at)

    def check_running(self) -> None:
        """Refuse to begin anything when all work was ended for another life to go on with.

        Raises:
            EngineError: That is so.
        """
        if self._scheduler.halted:
            raise EngineError(
                f"the engine was stopped ({self._scheduler.halted}), and its vects go on when the "
                "program is run again; close this app and make a new OAutom"
            )

    def take_over(
        self, runs: Sequence[Run], unfit: Sequence[Run] = (), absent: Iterable[str] = ()
    ) -> None:
        """Have runs go on that a dead program has left open, then do what others have asked for.

        Args:
            runs: Those that go on.
            unfit: Those that cannot go on; they can be cancelled.
            absent: Ids of open Vects whose flow nobody has declared yet.
        """
        self._scheduler.know(unfit, absent)
        if runs:
            self._scheduler.take_over(runs)
        if self._log.id is not None:
            self._scheduler.put(Asked())

    def listen(self) -> None:
        """Do at once, from now on, what other processes ask for by the log."""
        self._log.listen(self._hear)
        self._scheduler.put(Asked())  # something may have been asked while nobody listened

    def _hear(self) -> None:
        """Pass on that something was asked; whom it concerns, if a step has the scheduler's thread.

        On a thread of the log's own, which must live on.
        """
        self._scheduler.put(Asked())
        if self._scheduler.runner.is_in_step:
            with suppress(LogError):  # the scheduler is about to meet it as well
                for request in self._log.asked():
                    if request.action == "cancel":
                        self._scheduler.runner.interrupt(request.vect)

    def prune(self, older_than: datetime) -> list[PrunedVect]:
        """Take the Vects that ended before an instant out of the log and of memory."""
        held = self._scheduler.let_go(older_than)
        return self._log.prune(older_than, keep=held)

    def cancel(self, run: Run, reason: str) -> None:
        """Ask for the end of a run."""
        self._scheduler.cancel(run, reason)

    def ask(self, run: Run, command: Command) -> None:
        """Have a command obeyed that concerns a run."""
        self._scheduler.ask(run, command)

    def retry(self, run: Run) -> None:
        """Have a run go on that has failed or was cancelled; errors as of the scheduler."""
        self._scheduler.retry(run)

    def check_value(self, value: object) -> None:
        """Refuse a value that the log cannot keep; errors as of the log."""
        self._log.check_value(value)

    def events(self, run: Run) -> Iterator[Event]:
        """Yield the committed events of a run."""
        return self._log.read(vect=run.id)

    def status(self, run: Run) -> dict[str, Any]:
        """Return the state of a run between two ticks."""
        with self._scheduler.lock:
            return status_of(run.state)

    def explain(self, run: Run, step: str) -> str:
        """Return why a step of a run is, or is not, running, as of between two ticks."""
        scheduler = self._scheduler
        failure = scheduler.failure
        with scheduler.lock:
            facts = scheduler.outlook.facts(run, step)._replace(
                failure="" if failure is None else str(failure) or type(failure).__name__,
                halted=scheduler.halted,
                is_undriven=self._is_undriven(),
            )
            return explain(run.state.steps[step], scheduler.now(), facts)

    def _is_undriven(self) -> bool:
        return not self._scheduler.is_driven

    def check_thread(self, what: str = "wait for a Vect") -> None:
        """Refuse a call that would wait for the very thread that it is on.

        Raises:
            EngineError: A step or receiver on the scheduler's own thread calls.
        """
        self._scheduler.check_thread(what)

    def nudge(self) -> None:
        """Have whoever drives look again whether it is done."""
        self._scheduler.put(Nudge())

    def wait(self, run: Run, timeout: float | None) -> bool:
        """Wait until a run is over; False at the timeout. A step lends its slot meanwhile."""
        if self._is_done(run):
            return self._has_ended(run)
        self.check_thread()
        with self._waits.waited_for(run, timeout):
            return self._wait(run, timeout)

    def _wait(self, run: Run, timeout: float | None) -> bool:
        with system_signals(self._scheduler) as received:
            self._drive(lambda: self._is_done(run) or bool(received), timeout)
            if received:
                self._drive(lambda: self._has_settled(received))
        if received:
            follow(received[0])
        return self._has_ended(run)

    async def ended(self, run: Run) -> None:
        """Wait until a run is over, while the event loop goes on; errors as of `wait`."""
        if not self._drive(lambda: self._is_done(run), 0):  # 0: it only looks
            await self._waits.awaited(run, self._end_of)
        self._has_ended(run)

    async def _end_of(self, run: Run) -> None:
        while not self._drive(lambda: self._is_done(run), 0):
            await self._awaiting.look_again(lambda: self._is_done(run))

    def _is_done(self, run: Run) -> bool:
        return self._scheduler.is_over(run) or bool(self._scheduler.halted)

    def _has_ended(self, run: Run) -> bool:
        """Whether a run is over; nobody can wait for it in an engine that was halted.

        Raises:
            EngineError: It goes on in another life only.
        """
        if self._scheduler.halted and not self._scheduler.is_over(run):
            raise EngineError(
                f"the engine was stopped ({self._scheduler.halted}); vect '{run.id}' is open in "
                "its log, and goes on when the program is run again",
                flow=run.flow.name,
            )
        return self._scheduler.is_over(run)

    def serve(self, is_stopped: Callable[[], bool]) -> None:
        """Drive until `is_stopped`, or until a signal of the system has ended all."""
        with system_signals(self._scheduler) as received:
            self._drive(lambda: is_stopped() or self._has_settled(received))

    def _has_settled(self, received: list[int]) -> bool:
        """Whether all has ended after a signal; a second one does not wait for that."""
        return len(received) > 1 or (bool(received) and self._scheduler.is_idle())

    def _drive(self, until: Callable[[], bool], timeout: float | None = None) -> bool:
        return self._scheduler.drive(until, timeout)

    def close(self) -> None:
        """End all work, wait until no process of it is left, and end the workers."""
        self._scheduler.stop_all("the app was closed")
        self.nudge()
        try:
            self._drive(self._scheduler.is_idle)
        except (LogError, EngineError):
            if self._scheduler.failure is None:
                raise
        self._scheduler.close()


class BackgroundEngine(ForegroundEngine):
    """A thread of its own drives while there is something to do; the program waits for its end."""

    def __init__(self, scheduler: Scheduler, log: EventLog) -> None:
        super().__init__(scheduler, log)
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # a handler of the program's may cancel in between
        scheduler.on_message = self._wake

    def _wake(self) -> None:
        with self._lock:
            # Where the message was taken already, by a thread that has ended, all is done.
            is_needed = self._scheduler.has_messages and self._scheduler.failure is None
            if self._thread is None and is_needed:
                thread = threading.Thread(target=self._serve, name="oautom-scheduler", daemon=False)
                thread.start()  # where this raises, the next message tries again
                self._thread = thread

    def _serve(self) -> None:
        while True:
            self._scheduler.serve_until_idle()
            with self._lock:  # also waits until `_wake` has noted this thread
                if self._scheduler.failure is not None or self._scheduler.has_nothing_to_do():
                    self._thread = None
                    return

    def _is_undriven(self) -> bool:
        return False  # its thread comes when there is something to do

    def _wait(self, run: Run, timeout: float | None) -> bool:
        self._drive(lambda: self._is_done(run), timeout)
        return self._has_ended(run)

    def serve(self, is_stopped: Callable[[], bool]) -> None:
        """Return at once: the thread serves by itself."""

    def _drive(self, until: Callable[[], bool], timeout: float | None = None) -> bool:
        return self._scheduler.drive(until, timeout, may_drive=False)


def make_engine(mode: OAutomMode, scheduler: Scheduler, log: EventLog) -> ForegroundEngine:
    """Return the engine of a mode."""
    if mode is OAutomMode.foreground:
        return ForegroundEngine(scheduler, log)
    return BackgroundEngine(scheduler, log)
