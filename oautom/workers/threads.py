"""`ThreadWorkers`: daemon threads, so that endless work does not block the end of the program."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from oautom.workers.base import Done, Workers
from oautom.workers.kept_loop import close_kept_loop

_Job = tuple[Callable[[], object], Done]


class ThreadWorkers(Workers):
    """At most `slots` threads, each started when it is first needed.

    `concurrent.futures.ThreadPoolExecutor` will not do, for two reasons: the end of the program
    joins its threads, so a step that ignores its cancel would block the program for ever; and it
    takes no more work once the main thread has ended, while a background engine still has steps to
    start.
    """

    has_loop = True

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = 0
        self._threads_max = slots
        self._idle = 0
        self._lock = threading.Lock()

    def submit(self, job: Callable[[], object], done: Done) -> None:
        """Do a job on one of the threads."""
        self._jobs.put((job, done))
        with self._lock:
            if self._idle:
                self._idle -= 1
                return
            if self._threads == self._threads_max:
                return
            self._threads += 1
        name = f"oautom-worker-{self._threads}"
        try:
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        except RuntimeError as error:  # the system gives no more threads
            self._do_without_one_more(error)

    def _do_without_one_more(self, error: RuntimeError) -> None:
        with self._lock:
            self._threads -= 1
            is_some_free = (
                self._threads > self._threads_max - self.slots
            )  # one is neither lent nor abandoned
            if is_some_free or self._jobs.empty():
                return  # an existing thread will take it
            job = self._jobs.get()
        if job is not None:
            job[1](None, RuntimeError(f"the system gives no thread for it: {error}"))

    def _serve(self) -> None:
        while (task := self._jobs.get()) is not None:
            job, done = task
            answer, failure = None, None
            try:
                answer = job()
            except BaseException as error:  # the caller of the job gets it
                failure = error
            with self._lock:
                self._idle += 1
            done(answer, failure)
            del task, job, done, answer, failure  # an idle thread keeps nothing alive
        close_kept_loop()

    def replace(self) -> bool:
        """Add a thread in place of one whose work does not end."""
        with self._lock:
            self._threads_max += 1
        return True

    def close(self) -> None:
        """End the threads when their work is done, and drop jobs that no thread has begun."""
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _ in range(self._threads):
            self._jobs.put(None)
