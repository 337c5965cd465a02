"""Who drives: one inbox, and one thread at a time that takes messages out of it.

Any thread may put a message in, or wait. In the foreground whoever waits drives, if nobody else
does; in the background those who wait leave it to the engine's thread.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from math import inf
from queue import SimpleQueue
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from oautom.engine.clock import A_DAY, Clock, Timers
from oautom.engine.messages import Call
from oautom.errors import EngineError, LogError, exhausted

T = TypeVar("T")

LOOK_SECONDS = 60.0
"""After how long it is looked at the wall clock, while anything waits for a time."""

_JUMP_SECONDS = 1.0  # less is the clock being set right slowly, as it always is

CALL_SECONDS = 30.0
"""How long a call waits for whoever drives, if it is not told otherwise."""


WRONG_THREAD: Final = "this is a bug in oautom: another thread drives"
"""What is wrong where one of the engine's parts is used on a thread that does not drive."""


class Wheel:
    """Who drives.

    Whatever only that thread may do asserts it, so that a call from another one is refused before
    it has changed anything: `assert wheel.thread in (None, get_ident()), WRONG_THREAD`.

    Attributes:
        thread: The number of the thread; None while nobody drives, as where a test does by hand.
    """

    __slots__ = ("thread",)

    def __init__(self) -> None:
        self.thread: int | None = None


class Driver(ABC, Generic[T]):
    """An inbox of messages of type `T`, and the turns of those who drive.

    Args:
        clock: What time it is.

    Attributes:
        failure: Why nothing moves any more, or None.
        on_message: Called after a message has been put in.
        refusal: Returns why no thread can be had that takes it, or None.
        is_on_duty: There are plans, and they are served: a thread of the engine's own goes on.
        wheel: Who drives.
        on_wheel: Called with whether somebody drives, when that changes.
        on_news: Called with the ids of Vects when those who wait for them are told to look again;
            an empty one stands for all.
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
        self._calls: deque[Call] = deque()  # those that are not claimed yet, and some that are
        self._looked = (clock.now(), clock.monotonic())
        self._look_at = inf if getattr(clock, "is_steady", False) else 0.0

    @abstractmethod
    def tick(self, messages: list[T]) -> None:
        """Let all that `messages` ask for, and all that follows from it, happen."""

    @abstractmethod
    def carry_out(self, calls: list[Call]) -> None:
        """Do what calls ask for, in a tick that takes nothing else."""

    @abstractmethod
    def time_has_jumped(self) -> None:
        """Have all that waits for an instant look again when that is."""

    @abstractmethod
    def is_idle(self) -> bool:
        """Whether all is over and no message waits."""

    @abstractmethod
    def run_next(self) -> None:
        """Do work that is kept for the thread that drives; asked when no message waits."""

    def put(self, message: T) -> None:
        """Have the driver take `message`; it may come from a handler of a system signal."""
        if self._is_closed:
            return  # the late answer of a step that did not listen to its cancellation
        self._inbox.put(message)
        if self.on_message is not None:
            self.on_message()

    def now(self) -> datetime:
        """Return what time it is, for people to read."""
        return self._clock.now()

    @property
    def is_driven(self) -> bool:
        """Whether some thread drives."""
        return self.wheel.thread is not None

    @property
    def has_messages(self) -> bool:
        """Whether a message waits to be taken."""
        return not self._inbox.empty()

    def put_at(self, when: float, message: T) -> None:
        """Take `message` when the clock's `monotonic()` reaches `when`. The thread that drives."""
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
            if may_drive and self._take_wheel():
                try:
                    self._loop(until, deadline)
                finally:
                    self._leave_wheel()
            else:
                self._wait_for_others(until, deadline, may_drive)
        return True

    def call(self, call: Call, timeout: float = CALL_SECONDS, *, may_drive: bool = True) -> Any:
        """Have a call done, and return its result when the log has what came of it.

        While another thread drives, that one does it. If nobody drives, this thread does: with all
        other calls that wait, in one commit, and nothing else. On the thread that drives itself, in
        a step or receiver, the call is part of the next commit, and None is returned at once.

        Args:
            call: The call.
            timeout: Seconds to wait for the thread that drives, while a step or receiver has it.
            may_drive: Whether this thread may do it.

        Raises:
            EngineError: The time was up, the app is closed, or the system gives no thread; nothing
                was done.
            LogError: The engine has stopped.
            OAutomError: What is asked was refused.
        """
        self._raise_failure()
        if self.is_here:
            self.put(call)  # type: ignore[arg-type] # a call is a message of all
            return None
        self._calls.append(call)
        self.put(call)  # type: ignore[arg-type] # as above
        try:
            if (refusal := self.refusal()) is not None and call.claim():
                raise exhausted("nothing was done", refusal)
            self._wait_for_answer(call, timeout, may_drive=may_drive)
        finally:
            with suppress(ValueError):  # whoever has done it may have taken it out
                self._calls.remove(call)
        if call.error is not None:
            raise call.error
        return call.result

    def _wait_for_answer(self, call: Call, timeout: float, *, may_drive: bool) -> None:
        deadline = monotonic() + timeout  # of the world: the clock of a simulation may stand still
        while not call.is_answered:
            if may_drive and not self._is_closed and self._take_wheel():
                try:
                    self._do_calls()
                finally:
                    self._leave_wheel()
                continue
            is_in_time = self._wait_for_news(call, deadline, may_drive)
            if not call.is_answered and (self.failure or self._is_closed or not is_in_time):
                if call.claim():
                    self._refuse_call(timeout)
                deadline = monotonic() + A_DAY  # it is being committed

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
            f"a step or receiver has had the thread of the engine for {timeout:g} seconds; nothing "
            "was done: try again, or use executor='threads'"
        )

    def answer(self, calls: Iterable[Call]) -> None:
        """Tell those who wait that their calls have been done, and what came of them."""
        with self._changed:
            for call in calls:
                call.is_answered = True
            self._changed.notify_all()

    @property
    def is_here(self) -> bool:
        """Whether this thread drives, in a step or a receiver."""
        return self.wheel.thread == threading.get_ident()

    def check_thread(self, what: str = "wait for a Vect") -> None:
        """Refuse a call that would wait for the very thread that it is on.

        Raises:
            EngineError: This thread drives, in a step or a receiver.
        """
        if self.is_here:
            raise EngineError(
                f"a step or receiver on the scheduler's own thread cannot {what}, it would wait "
                "for itself; use another thread or executor='threads'"
            )

    def catch_up(self) -> None:
        """Drive until no message waits; for those who answer by hand."""
        self.drive(self._inbox.empty)

    def has_nothing_to_do(self) -> bool:
        """Whether all is over, and nothing is going to start by itself."""
        return not self.is_on_duty and self.is_idle()

    def serve_until_idle(self) -> None:
        """Drive until all is over, or until the engine has stopped: those who wait are told why."""
        if self._take_wheel():
            try:
                self._loop(self.has_nothing_to_do, None)
            finally:
                self._leave_wheel()

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure_error()

    def failure_error(self) -> LogError:
        """Return the error that says why nothing moves any more."""
        error = LogError(
            f"the engine has stopped, its log cannot be written: {self.failure}; nothing has been "
            "started that is not in the log"
        )
        error.__cause__ = self.failure
        return error

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
            if self.on_wheel is not None:
                self.on_wheel(False)
            self._changed.notify_all()

    def have_all_look(self, vects: Sequence[str] = ("",)) -> None:
        """Have those who wait look again whether they are done; of some Vects, or all."""
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
        """Look whether the wall clock was set, or the machine has slept, since the last look.

        Timers go by the monotonic clock, which knows of neither.
        """
        now, (before, then) = self._clock.now(), self._looked
        self._looked, self._look_at = (now, seconds), seconds + LOOK_SECONDS
        if abs((now - before).total_seconds() - (seconds - then)) > _JUMP_SECONDS:
            self.time_has_jumped()

    def _collect(self, deadline: float | None) -> list[T]:
        """Return what has come in, waiting for it if need be, with the timers that are due."""
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
        for _ in range(came):  # nobody else takes any out; what comes meanwhile has the next tick
            messages.append(self._inbox.get())
        return messages


def _none() -> None:
    return None
