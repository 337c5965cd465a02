"""`Driver`: one inbox, and one thread at a time that takes messages out of it, the driving thread.

Any thread may put a message in, or wait. In the foreground a waiting thread drives, unless another
one does already; in the background waiting threads leave it to the engine's own thread.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from math import inf
from queue import SimpleQueue
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from oautom.engine.clock import A_DAY, Clock, Timers
from oautom.engine.messages import Call
from oautom.errors import EngineError, LogError, exhausted

T = TypeVar("T")

LOOK_SECONDS = 60.0
"""How often the wall clock is checked, while anything waits for a time."""

_JUMP_SECONDS = 1.0  # less is a slow correction of the clock, which is normal

CALL_SECONDS = 30.0
"""The default for how long a call waits for the driving thread."""


WRONG_THREAD: Final = "this is a bug in oautom: another thread drives"
"""The message of the assertions that a part of the engine is used on the driving thread."""


class Wheel:
    """The right to drive: one thread at a time has it.

    Code that only the driving thread may run asserts it, so that a call from another thread is
    refused before it has changed anything: `assert wheel.thread in (None, get_ident()),
    WRONG_THREAD`.

    Attributes:
        thread: The identifier of the driving thread; None while no thread drives, as where a test
            calls the parts by hand.
    """

    __slots__ = ("thread",)

    def __init__(self) -> None:
        self.thread: int | None = None


class Driver(ABC, Generic[T]):
    """An inbox of messages of type `T`, and the loop of the driving thread.

    Args:
        clock: The current time.

    Attributes:
        failure: Why the engine has stopped, or None.
        on_message: Called after a message has been put in.
        refusal: Returns why the system gives no thread to drive, or None.
        is_on_duty: There are plans, and they are served: a thread of the engine's own does not end.
        wheel: Knows the driving thread.
        on_wheel: Called when a thread begins to drive (True) or ceases to (False).
        on_news: Called with the ids of Vects when the calls that wait for them must check again; an
            empty id stands for all.
    """

    def __init__(self, clock: Clock) -> None:
        self.failure: BaseException | None = None
        self.on_message: Callable[[], object] | None = None
        self.refusal: Callable[[], RuntimeError | None] = _none
        self.is_on_duty = False
        self.on_wheel: Callable[[bool], object] | None = None
        self.on_news: Callable[[Sequence[str]], object] = bool
        self._clock = clock
        self._inbox: SimpleQueue[T] = SimpleQueue()
        self._timers: Timers[T] = Timers()
        self._changed = threading.Condition()
        self.wheel = Wheel()
        self._is_closed = False
        self._calls: deque[Call] = deque()  # all that are not claimed, and some that are
        self._looked = (clock.now(), clock.monotonic())
        self._look_at = inf if getattr(clock, "is_steady", False) else 0.0

    @abstractmethod
    def tick(self, messages: list[T]) -> None:
        """Process `messages` and all that follows from them."""

    @abstractmethod
    def carry_out(self, calls: list[Call]) -> None:
        """Carry out calls, in a tick that takes no other message."""

    @abstractmethod
    def time_has_jumped(self) -> None:
        """Check all waits for an instant again: the wall clock was set."""

    @abstractmethod
    def is_idle(self) -> bool:
        """Whether all runs are over and the inbox is empty."""

    @abstractmethod
    def run_next(self) -> None:
        """Do a piece of the driving thread's own work; called when the inbox is empty."""

    def put(self, message: T) -> None:
        """Put a message in the inbox; also safe in a handler of a system signal."""
        if self._is_closed:
            return  # the late answer of a step that ignored its cancellation
        self._inbox.put(message)
        if self.on_message is not None:
            self.on_message()

    def now(self) -> datetime:
        """Return the current time of the wall clock, for people to read."""
        return self._clock.now()

    @property
    def is_driven(self) -> bool:
        """Whether a thread drives."""
        return self.wheel.thread is not None

    @property
    def has_messages(self) -> bool:
        """Whether the inbox has a message."""
        return not self._inbox.empty()

    def put_at(self, when: float, message: T) -> None:
        """Take `message` when the clock's `monotonic()` reaches `when`. The driving thread."""
        self._timers.add(when, message)

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
            if not may_drive or not self._at_wheel(partial(self._loop, until, deadline)):
                self._wait_for_others(until, deadline, may_drive)
        return True

    def call(self, call: Call, timeout: float = CALL_SECONDS, *, may_drive: bool = True) -> Any:
        """Carry out a call, and return its result when the log has the events.

        If another thread drives, that one carries it out. If no thread drives, this one does:
        together with all other waiting calls, in one commit, and nothing else. On the driving
        thread itself, in a step or receiver, the call is part of the next commit, and None is
        returned at once.

        Args:
            call: The call.
            timeout: Seconds to wait for the driving thread, while a step or receiver occupies it.
            may_drive: Whether this thread may carry it out.

        Raises:
            EngineError: The timeout is over, the app is closed, or the system gives no thread;
                nothing was done.
            LogError: The engine has stopped.
            OAutomError: The call was refused.
        """
        self._raise_failure()
        if self.is_here:
            self.put(call)  # type: ignore[arg-type] # every T includes Call
            return None
        self._calls.append(call)
        self.put(call)  # type: ignore[arg-type] # as above
        try:
            if (refusal := self.refusal()) is not None and call.claim():
                raise exhausted("nothing was done", refusal)
            self._wait_for_answer(call, timeout, may_drive=may_drive)
        finally:
            with suppress(ValueError):  # the thread that carried it out may have removed it
                self._calls.remove(call)
        if call.error is not None:
            raise call.error
        return call.result

    def _wait_for_answer(self, call: Call, timeout: float, *, may_drive: bool) -> None:
        deadline = monotonic() + timeout  # real time: the clock of a simulation may stand still
        while not call.is_answered:
            if may_drive and not self._is_closed and self._at_wheel(self._do_calls):
                continue
            is_in_time = self._wait_for_news(call, deadline, may_drive)
            if not call.is_answered and (self.failure or self._is_closed or not is_in_time):
                if call.claim():
                    self._refuse_call(timeout)
                deadline = monotonic() + A_DAY  # it was claimed: its commit is coming

    def _do_calls(self) -> None:
        calls = []
        while self._calls:
            calls.append(self._calls.popleft())
        self.carry_out(calls)

    def _wait_for_news(self, call: Call, deadline: float, may_drive: bool) -> bool:
        """Wait until a call is answered, or this thread may do it; False at the timeout."""

        def is_news() -> bool:
            wheel_is_free = may_drive and self.wheel.thread is None
            is_over = self.failure is not None or self._is_closed
            return call.is_answered or wheel_is_free or is_over

        with self._changed:
            seconds = min(max(0.0, deadline - monotonic()), A_DAY)
            return self._changed.wait_for(is_news, seconds) or monotonic() < deadline

    def _refuse_call(self, timeout: float) -> None:
        self._raise_failure()
        if self._is_closed:
            raise EngineError("the app is closed; make a new OAutom")
        raise EngineError(
            f"a step or receiver has occupied the engine's thread for {timeout:g} seconds, so "
            "nothing was done; try again, or use executor='threads'"
        )

    def answer(self, calls: Iterable[Call]) -> None:
        """Wake the threads that wait for these calls: the calls are carried out and committed."""
        with self._changed:
            for call in calls:
                call.is_answered = True
            self._changed.notify_all()

    @property
    def is_here(self) -> bool:
        """Whether this thread drives, and is in a step or a receiver."""
        return self.wheel.thread == threading.get_ident()

    def check_thread(self, what: str = "wait for a Vect") -> None:
        """Refuse a call that would wait for its own thread.

        Raises:
            EngineError: This thread drives, in a step or a receiver.
        """
        if self.is_here:
            raise EngineError(
                f"a step or receiver on the scheduler's own thread cannot {what}, since it would "
                "wait for itself; use another thread or executor='threads'"
            )

    def catch_up(self) -> None:
        """Drive until the inbox is empty; for tests that answer for the workers."""
        self.drive(self._inbox.empty)

    def has_nothing_to_do(self) -> bool:
        """Whether all runs are over, and no plan is served."""
        return not self.is_on_duty and self.is_idle()

    def serve_until_idle(self) -> None:
        """Drive until all runs are over, or the engine has stopped; waiting calls get the error."""
        self._at_wheel(partial(self._loop, self.has_nothing_to_do, None))

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure_error()

    def failure_error(self) -> LogError:
        """Return the error of an engine that has stopped."""
        error = LogError(
            f"the engine has stopped, its log cannot be written: {self.failure}; nothing has been "
            "started that is not in the log"
        )
        error.__cause__ = self.failure
        return error

    def _at_wheel(self, do: Callable[[], None]) -> bool:
        """Call a function while this thread drives; return False, at once, if another one does.

        The handler of a signal may raise at any place, also between the taking and the work: an
        app whose wheel nobody has could not even be closed.
        """
        try:
            if not self._take_wheel():
                return False
            do()
        finally:
            if self.is_here:
                self._leave_wheel()
        return True

    def _take_wheel(self) -> bool:
        with self._changed:
            if self.wheel.thread is None:
                self.wheel.thread = threading.get_ident()
                if self.on_wheel is not None:
                    self.on_wheel(True)
                return True
            return False

    def _leave_wheel(self) -> None:
        with self._changed:
            self.wheel.thread = None
            self._changed.notify_all()
            if self.on_wheel is not None:
                self.on_wheel(False)

    def have_all_look(self, vects: Sequence[str] = ("",)) -> None:
        """Wake the calls that wait, to check whether they are done; for some Vects, or all."""
        self.on_news(vects)
        with self._changed:
            self._changed.notify_all()

    def _wait_for_others(
        self, until: Callable[[], bool], deadline: float | None, may_drive: bool
    ) -> None:
        def is_news() -> bool:
            wheel_is_free = may_drive and self.wheel.thread is None
            return until() or wheel_is_free or self.failure is not None

        timeout = None if deadline is None else deadline - self._clock.monotonic()
        with self._changed:
            self._changed.wait_for(is_news, None if timeout is None else min(timeout, A_DAY))

    def _loop(self, until: Callable[[], bool], deadline: float | None) -> None:
        while not until() and self.failure is None:
            if deadline is not None and self._clock.monotonic() >= deadline:
                return
            self.tick(self._collect(deadline))

    def _look_at_clock(self, seconds: float) -> None:
        """Check whether the wall clock was set, or the machine has slept, since the last check.

        Timers go by the monotonic clock, which ignores both.
        """
        now, (before, then) = self._clock.now(), self._looked
        self._looked, self._look_at = (now, seconds), seconds + LOOK_SECONDS
        if abs((now - before).total_seconds() - (seconds - then)) > _JUMP_SECONDS:
            self.time_has_jumped()

    def _collect(self, deadline: float | None) -> list[T]:
        """Return the messages of the inbox and the due timers; if there is none, wait for one."""
        if not (came := self._inbox.qsize()):
            self.run_next()
            came = self._inbox.qsize()
        messages: list[T] = []
        if self._timers.heap:
            seconds = self._clock.monotonic()
            if seconds >= self._look_at:
                self._look_at_clock(seconds)
            messages = self._timers.due(seconds)
        if not messages and not came:
            times = [t for t in (self._timers.next_time(), deadline) if t is not None]
            if self._timers.heap:
                times.append(self._look_at)
            first = self._clock.take(self._inbox, min(times, default=None))
            if first is not None:
                messages.append(first)
            came = self._inbox.qsize()
        for _ in range(came):  # only this thread takes any out; later ones wait for the next tick
            messages.append(self._inbox.get())
        return messages


def _none() -> None:
    return None
