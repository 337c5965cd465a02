"""SIGINT (Ctrl-C) and SIGTERM while the scheduler drives on the main thread: they end all work.

If the app drains, running steps have some time to end after a SIGTERM that comes first.

Python runs signal handlers on the main thread, between two of its instructions. A handler may do
little there: the main thread may have taken any lock. And the system may deliver a signal to
another thread; then nothing wakes a waiting main thread. So the handler only puts messages in the
inbox. The rest is done by a thread that reads the pipe into which the interpreter writes at every
signal.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import Any

from oautom.engine.messages import Nudge
from oautom.engine.scheduler import Scheduler
from oautom.errors import exhausted
from oautom.processes import forked

_ENDING = frozenset({signal.SIGINT, signal.SIGTERM})
_ROUSING = signal.SIGURG  # the system ignores it if it has no handler
_MARK = b"\0"  # no signal has this number
_OURS = frozenset({0, _ROUSING, *_ENDING})

_listening: list[Received] = []
_others: list[int] = []  # earlier wake-up descriptors, as that of asyncio
_taken: list[Callable[[], None]] = []  # restore what the program had, the newest last
_masks: list[set[int]] = []  # the masks of the thread that forks
_marks: deque[threading.Event] = deque()  # each is set when all signals before it are done


class Received(list[int]):
    """The signals received during one drive of the scheduler, in their order.

    Args:
        scheduler: The scheduler that is driven.
        drain: Seconds that running steps have to end in after a SIGTERM; 0 to end them at once.
    """

    def __init__(self, scheduler: Scheduler, drain: float) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._drain = drain
        self._heard = 0  # how many signals `hear` has had
        self._timer: threading.Timer | None = None
        self._is_time_up = False

    @property
    def is_urgent(self) -> bool:
        """Whether a signal came after the one that has ended all: then nothing is waited for."""
        return len(self) > (2 if self and self._is_patient(self[0], 1) else 1)

    def _is_patient(self, number: int, count: int) -> bool:
        """Whether running steps may end after a signal; true at most for the first signal."""
        return self._drain > 0 and number == signal.SIGTERM and count == 1

    def handle(self, number: int, frame: object) -> None:
        """Handle a signal as far as a handler may; on the main thread, between two instructions."""
        self.append(number)
        scheduler, name = self._scheduler, signal.Signals(number).name
        is_patient = self._is_patient(number, len(self))
        (scheduler.drain if is_patient else scheduler.ask_for_end)(name)
        scheduler.put(Nudge())  # wakes the driving thread, which checks this list
        if not is_patient:
            self._interrupt_deaf()

    def rouse(self, number: int, frame: object) -> None:
        """Wake the main thread from any wait, so that it runs the handlers that are due."""
        if self._is_time_up:
            self._interrupt_deaf()

    def _interrupt_deaf(self) -> None:
        if self._scheduler.runner.is_in_deaf_step:
            raise KeyboardInterrupt  # in the code of a step: never in the middle of a tick

    def hear(self, number: int) -> None:
        """Do the part of a signal that its handler cannot do; on the thread that reads the pipe."""
        self._heard += 1
        if not self._is_patient(number, self._heard):
            self._end(signal.Signals(number).name)
            return
        seconds = min(self._drain, threading.TIMEOUT_MAX)
        self._timer = threading.Timer(seconds, self._end_drain)
        self._timer.name, self._timer.daemon = "oautom-drain", True
        try:
            self._timer.start()
        except RuntimeError:  # the system gives no thread for the timer
            self._end_drain()

    def _end_drain(self) -> None:
        self._is_time_up = True
        self._end(signal.SIGTERM.name)
        _rouse()

    def _end(self, name: str) -> None:
        if self._drain:  # the handler may have been called once for two signals
            self._scheduler.ask_for_end(name)
        self._scheduler.runner.interrupt()  # it sets events that the main thread may wait for
        self._scheduler.put(Nudge())

    def stop(self) -> None:
        """Stop the timer of the drain."""
        if self._timer is not None:
            self._timer.cancel()


@contextmanager
def system_signals(scheduler: Scheduler, drain: float = 0.0) -> Iterator[Received]:
    """Let SIGINT and SIGTERM end all work, as `stop_all` does; yield the signals that come.

    The driving code checks them, and stops waiting after a second signal. Only a step that runs on
    the main thread and ignores its cancellation is interrupted.

    Args:
        scheduler: The scheduler that is driven.
        drain: If more than 0, running steps have this many seconds to end after a SIGTERM that
            comes first; the next signal ends that time.
    """
    received = Received(scheduler, drain)
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may set handlers, and only it receives signals
        return

    before = {
        number: handler
        for number in _ENDING
        if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
    }
    if signal.getsignal(_ROUSING) == signal.SIG_DFL:  # else the program uses it
        before[_ROUSING] = signal.SIG_DFL
    wakeup_before = signal.set_wakeup_fd(_wakeup_pipe(), warn_on_full_buffer=False)
    if wakeup_before not in (-1, _wakeup_pipe()):
        _others.append(wakeup_before)
    process = forked.here
    _listening.append(received)
    _taken.append(partial(_give_back, before, wakeup_before))
    try:
        for number in before:
            signal.signal(number, received.handle if number in _ENDING else received.rouse)
        yield received
    finally:
        if process.is_here:
            _taken.pop()()
            _listening.pop()
            _hear_out(wakeup_before, is_any=bool(received))
            received.stop()


def _give_back(handlers: Mapping[Any, Any], wakeup_fd: int) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(wakeup_fd)


def _hear_out(other: int, *, is_any: bool) -> None:
    if is_any or other in _others:
        _wait_until_heard()
    if other in _others:
        _others.remove(other)


@cache
def _wakeup_pipe() -> int:
    """Return the end of the pipe into which the interpreter writes.

    Raises:
        EngineError: The system gives no pipe, or no thread.
    """
    try:
        read, write = os.pipe()
    except OSError as error:
        raise exhausted("nothing is driven", error) from error
    os.set_blocking(write, False)
    try:
        threading.Thread(target=_hear, args=(read,), name="oautom-signals", daemon=True).start()
    except RuntimeError as error:
        os.close(read)
        os.close(write)
        raise exhausted("nothing is driven", error) from error
    return write


def _hear(read: int) -> None:
    """Do the part of each signal that its handler must not or cannot do."""
    while heard := os.read(read, 64):
        ending = [number for number in heard if number in _ENDING]
        for number in ending:
            for received in tuple(_listening):
                received.hear(number)
        if ending:
            _rouse()
        _pass_on(bytes(number for number in heard if number not in _OURS))
        for _ in range(heard.count(_MARK)):
            _marks.popleft().set()


def _rouse() -> None:
    """Wake the main thread from any wait."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, _ROUSING)


def _pass_on(heard: bytes) -> None:
    """Pass signals that are not handled here on to those that had the wake-up pipe before."""
    for other in tuple(_others) if heard else ():
        with suppress(OSError):  # the pipe is full, or closed
            os.write(other, heard)


def _wait_until_heard() -> None:
    """Wait until earlier signals have been handled: they are not meant for what begins next."""
    mark = threading.Event()
    _marks.append(mark)
    os.write(_wakeup_pipe(), _MARK)
    mark.wait()


def _begin_anew() -> None:
    """Let a forked process handle signals as the program would.

    Otherwise SIGTERM would not end the child, but all work of the parent, through the pipe that
    they share.
    """
    while _taken:
        _taken.pop()()
    _wakeup_pipe.cache_clear()
    _listening.clear()
    _others.clear()
    _marks.clear()


def _hold_back() -> None:
    """Block signals in a forked child until it handles them as the program would."""
    if _taken:
        _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, (*_ENDING, _ROUSING)))


def _let_come() -> None:
    while _masks:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


forked.in_child(_begin_anew)
forked.around(_hold_back, _let_come)


def follow(number: int) -> None:
    """Do what the signal would have done without oautom; the Vects have ended in good order."""
    if signal.getsignal(number) == signal.SIG_DFL:
        raise SystemExit(128 + number)  # not at once, as SIG_DFL would: `finally` blocks still run
    signal.raise_signal(number)
