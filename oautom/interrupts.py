"""SIGINT (Ctrl-C) and SIGTERM, while the scheduler has the main thread: they end all work.

Python runs their handlers on the main thread, between two of its instructions. There a handler may
do little: the main thread may hold any lock. And the system may deliver a signal to another thread:
then nothing wakes a main thread that waits. So the handler only puts messages in the inbox, and
what is left to do is done by a thread that reads the pipe into which the interpreter writes at
every signal.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from oautom.errors import exhausted
from oautom.messages import Nudge
from oautom.scheduler import Scheduler

_ENDING = frozenset({signal.SIGINT, signal.SIGTERM})
_ROUSING = signal.SIGURG  # unless somebody handles it, the system ignores it
_MARK = b"\0"  # no signal has this number
_OURS = frozenset({0, _ROUSING, *_ENDING})

_listening: list[Scheduler] = []
_others: list[int] = []  # to whom the interpreter has written before, as an event loop of asyncio
_marks: deque[threading.Event] = deque()  # each is set when all signals before it have been heard


@contextmanager
def system_signals(scheduler: Scheduler) -> Iterator[list[int]]:
    """Have SIGINT and SIGTERM end all work, as `stop_all` does; yield the list of those received.

    Whoever drives looks at the list, and does not wait any more after a second signal. Only a step
    that has the main thread and does not listen to its cancellation is interrupted.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may set handlers, and only it receives signals
        return

    def handle(number: int, frame: object) -> None:
        received.append(number)
        scheduler.ask_for_end(signal.Signals(number).name)
        scheduler.put(Nudge())  # who waits looks at `received`
        if scheduler.runner.is_in_deaf_step:
            raise KeyboardInterrupt  # in the code of a step: never in the middle of a tick

    before = {
        number: handler
        for number in _ENDING
        if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
    }
    if signal.getsignal(_ROUSING) == signal.SIG_DFL:  # else it is the program's own
        before[_ROUSING] = signal.SIG_DFL
    wakeup_before = signal.set_wakeup_fd(_wakeup_pipe(), warn_on_full_buffer=False)
    if wakeup_before not in (-1, _wakeup_pipe()):
        _others.append(wakeup_before)
    _listening.append(scheduler)
    try:
        for number in before:
            signal.signal(number, handle if number in _ENDING else _do_nothing)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        _listening.remove(scheduler)
        if received or wakeup_before in _others:
            _wait_until_heard()
        if wakeup_before in _others:
            _others.remove(wakeup_before)


def _do_nothing(number: int, frame: object) -> None:
    """Have the main thread come out of whatever it waits in, to run the handlers that are due."""


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
    """Do after each signal what its handler may not do, or cannot."""
    main = threading.main_thread().ident
    while heard := os.read(read, 64):
        if not _ENDING.isdisjoint(heard):
            for scheduler in tuple(_listening):
                scheduler.runner.interrupt()  # it sets events: the main thread may wait for one
                scheduler.put(Nudge())
            if main is not None:
                signal.pthread_kill(main, _ROUSING)
        _pass_on(bytes(number for number in heard if number not in _OURS))
        for _ in range(heard.count(_MARK)):
            _marks.popleft().set()


def _pass_on(heard: bytes) -> None:
    """Have those hear of a signal, of which nothing is done here, who would hear of it else."""
    for other in tuple(_others) if heard else ():
        with suppress(OSError):  # it is full, or closed by now
            os.write(other, heard)


def _wait_until_heard() -> None:
    """Wait until the signals so far have been heard: they are not meant for what begins next."""
    mark = threading.Event()
    _marks.append(mark)
    os.write(_wakeup_pipe(), _MARK)
    mark.wait()


def _forget() -> None:
    """Have a forked process begin anew: the pipe, and who reads it, are its parent's."""
    _wakeup_pipe.cache_clear()
    _listening.clear()
    _others.clear()
    _marks.clear()


os.register_at_fork(after_in_child=_forget)


def follow(number: int) -> None:
    """Do what a signal does when nobody is in its way: the Vects have ended in good order."""
    if signal.getsignal(number) == signal.SIG_DFL:
        raise SystemExit(128 + number)  # not at once, as SIG_DFL would: `finally` blocks still run
    signal.raise_signal(number)
