"""`ProcessWorkers`: worker processes of our own, for steps that compute.

`concurrent.futures.ProcessPoolExecutor` will not do: one worker that dies breaks the whole pool and
fails all running work, so no step could be ended by ending its worker.

A worker is spawned, not forked: a forked one would inherit every lock and file of this program. It
leads a process group of its own, which ends as a whole: when its step is cancelled and does not
listen, when the app is closed, and when this program dies, which the worker notices by their pipe.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any

from oautom.errors import WorkerDiedError
from oautom.processes import forked
from oautom.processes.group import has_handles, signal_group, signal_name, wait_for_group
from oautom.workers.base import GRACE_PERIOD, Done, Job, Workers
from oautom.workers.spawned import MarkedProcess
from oautom.workers.threads import ThreadWorkers

_NUMBER_BYTES = 8
_LETTER, _ANSWER = b"\0", b"\1"  # the first byte of a message


class ProcessWorkers(Workers):
    """At most `slots` processes, each started when it is first needed, and then used again."""

    place = "elsewhere"

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._threads = ThreadWorkers(slots)  # one thread per process waits for its answers
        self._lock = threading.Lock()
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._is_closed = False
        self._process = forked.here

    def submit(self, job: Job, done: Done) -> None:
        """Do a job in one of the processes."""
        self._threads.submit(partial(self._delegate, job), done)

    def _delegate(self, job: Job) -> bytes:
        parcel = pickle.dumps(job.for_child)
        worker = self._take(job)
        try:
            return worker.do(job, parcel)
        finally:
            with self._lock:
                if worker.is_alive and not self._is_closed:
                    self._idle.append(worker)
                else:
                    self._workers.discard(worker)

    def _take(self, job: Job) -> _Worker:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        worker = _Worker(job.marks)
        with self._lock:
            if not self._is_closed:
                self._workers.add(worker)
                return worker
        worker.end()
        raise WorkerDiedError("the app was closed")

    def close(self) -> None:
        """End the processes at once, with all that they have started. In a forked child, none."""
        if not self._process.is_here:
            return
        with self._lock:
            self._is_closed = True
            workers = list(self._workers)
        for worker in workers:
            worker.end()
        self._threads.close()


class _Worker:
    """One process, and this end of the pipe to it."""

    def __init__(self, marks: Mapping[str, str]) -> None:
        self._pipe, theirs = self._ends = get_context("spawn").Pipe()
        forked.share(self)
        self._process = MarkedProcess(_serve, (theirs,), "oautom-worker", marks)
        try:
            self._process.start()
        finally:
            theirs.close()
        self._handles = self._watched()
        self._lock = threading.Lock()  # guards `_number`, and writes to the pipe
        self._end_lock = threading.Lock()
        self._has_ended = False
        self._number = 0
        self._is_busy = False
        self.is_alive = True

    def _watched(self) -> list[int]:
        """Return the handle of the process, if the system has handles; end it on a failure."""
        pid = self._process.pid
        assert pid is not None
        try:
            handles = [os.pidfd_open(pid)] if has_handles() else []
        except ProcessLookupError:  # it has ended, and was reaped
            return []
        except OSError:
            self._process.kill()
            self._process.join()
            raise
        for handle in handles:
            weakref.finalize(self, os.close, handle)  # no earlier: `_answer` may wait for it
        return handles

    def leave(self) -> None:
        """Close the pipe in a forked child: its end shows the worker that this process has died."""
        for end in self._ends:
            if not end.closed:
                end.close()

    def do(self, job: Job, parcel: bytes) -> bytes:
        """Do a job in the process, and return its answer.

        Raises:
            WorkerDiedError: The process ended before it answered.
        """
        with self._lock:
            self._number += 1
            self._is_busy = True
        grace_period = GRACE_PERIOD + job.grace_period
        if not job.on_cancel(partial(self._cancel, self._number, grace_period)):
            return self._free(b"")
        try:
            self._send(self._number, parcel)
            return self._free(self._answer(job))
        except (EOFError, OSError) as error:
            self.end()
            how = _how(self._process.exitcode)
            if self._number == 1:  # it never answered: perhaps it could not even start
                how += "; does the main module run flows outside of: if __name__ == '__main__'?"
            raise WorkerDiedError(how) from error

    def _answer(self, job: Job) -> bytes:
        """Wait for an answer, or for the end of the process: a fork of it may have the pipe, too.

        Raises:
            EOFError: The process has ended without an answer.
        """
        while True:
            wait([self._pipe, *self._handles])
            if not self._pipe.poll():
                raise EOFError
            message = self._pipe.recv_bytes()
            if message[:1] == _ANSWER:
                return message[1:]
            job.hear(message[1:])

    def _send(self, number: int, content: bytes) -> None:
        with self._lock:
            self._pipe.send_bytes(number.to_bytes(_NUMBER_BYTES, "big") + content)

    def _free(self, answer: bytes) -> bytes:
        with self._lock:
            self._is_busy = False
        return answer

    def _cancel(self, number: int, grace_period: float) -> None:
        """Ask the process to end one job, but not another one that it may do by now."""
        if self._is_at(number):
            with suppress(OSError):  # it has died, and `do` reports that
                self._send(number, b"")
            timer = threading.Timer(grace_period, self._end_if_at, (number,))
            timer.daemon = True
            try:
                timer.start()
            except RuntimeError:  # the system gives no more threads
                self._end_if_at(number)

    def _is_at(self, number: int) -> bool:
        with self._lock:
            return self._is_busy and self._number == number

    def _end_if_at(self, number: int) -> None:
        if self._is_at(number):
            self.end()

    def end(self) -> None:
        """End the process and its group, and wait until it is gone. Any thread."""
        self.is_alive = False
        with self._end_lock:
            if not self._has_ended:
                leader = self._process.pid
                assert leader is not None
                signal_group(leader, signal.SIGKILL)
                self._process.kill()  # it may not lead its group yet
                self._process.join()
                wait_for_group(leader)
                self._has_ended = True


def _how(exitcode: int | None) -> str:
    if exitcode is None:
        return (
            "its exit status is unknown, since this program ignores SIGCHLD, or reaps processes "
            "that are not its own"
        )
    if exitcode is not None and exitcode < 0:
        return f"it was ended by {signal_name(-exitcode)}"
    return f"it exited with code {exitcode}"


# In the worker process


def _serve(pipe: Connection[bytes, bytes]) -> None:
    """Do jobs until the pipe is closed, on the main thread, which some libraries need."""
    os.setsid()
    os.register_at_fork(after_in_child=pipe.close)  # the end of this process is the end of the pipe
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, steps could not wait for processes
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    jobs: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, jobs), daemon=True).start()
    while True:
        job = jobs.get()
        os.environ.update(job.environment)  # for the processes that its step starts
        pipe.send_bytes(_ANSWER + job(lambda letter: pipe.send_bytes(_LETTER + letter)))


def _listen(pipe: Connection[bytes, bytes], jobs: SimpleQueue[Any]) -> None:
    newest = 0
    job: Any = None
    try:
        while True:
            message = pipe.recv_bytes()
            number, content = message[:_NUMBER_BYTES], message[_NUMBER_BYTES:]
            if content:
                newest, job = int.from_bytes(number, "big"), pickle.loads(content)  # noqa: S301 - from our parent
                jobs.put(job)
            elif int.from_bytes(number, "big") == newest and not job.cancel():
                break
    except (EOFError, OSError):  # the parent is gone
        pass
    os.killpg(0, signal.SIGKILL)
