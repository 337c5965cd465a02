"""SIGINT (Ctrl-C) and SIGTERM, while the scheduler has the main thread: they end all work."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from oautom.messages import Nudge
from oautom.scheduler import Scheduler

_listening: list[Scheduler] = []


@contextmanager
def system_signals(scheduler: Scheduler) -> Iterator[list[int]]:
    """Have SIGINT and SIGTERM end all work, as `stop_all` does; yield the list of those received.

    The handler only puts messages in the inbox; whoever drives looks at the list, and does not wait
    any more after a second signal. Only a step that has the main thread and does not listen to its
    cancellation is interrupted.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may set handlers, and only it receives signals
        return

    def handle(number: int, frame: object) -> None:
        received.append(number)
        scheduler.stop_all(signal.Signals(number).name)
        scheduler.put(Nudge())  # who waits looks at `received`
        if scheduler.runner.is_in_deaf_step:
            raise KeyboardInterrupt  # in the code of a step: never in the middle of a tick

    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
    }
    wakeup_before = signal.set_wakeup_fd(_wakeup_pipe(), warn_on_full_buffer=False)
    _listening.append(scheduler)
    try:
        for number in before:
            signal.signal(number, handle)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _listening.remove(scheduler)
        signal.set_wakeup_fd(wakeup_before)


@cache
def _wakeup_pipe() -> int:
    """Return the end of a pipe into which the interpreter writes at every signal.

    Python runs a handler on the main thread, but the system may deliver the signal to another one:
    then nothing wakes a main thread that waits for its inbox. What reads the pipe does.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    threading.Thread(target=_nudge, args=(read,), name="oautom-signals", daemon=True).start()
    return write


def _nudge(read: int) -> None:
    while os.read(read, 64):
        for scheduler in _listening:
            scheduler.put(Nudge())


def follow(number: int) -> None:
    """Do what a signal does when nobody is in its way: the Vects have ended in good order."""
    if signal.getsignal(number) == signal.SIG_DFL:
        raise SystemExit(128 + number)  # not at once, as SIG_DFL would: `finally` blocks still run
    signal.raise_signal(number)
