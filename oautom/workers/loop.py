"""`LoopWorkers`: one event loop on a thread of its own, for all async work at once.

A task that waits there delays nothing. A task that computes or blocks delays all others: so a
second thread checks whether the loop comes round, and names the task that blocks it. While the loop
waits, that thread waits too: the selector of the loop wakes it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial
from selectors import DefaultSelector, SelectorKey
from time import monotonic
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from oautom.errors import EngineError
from oautom.processes import forked
from oautom.workers.base import Done, Job, Workers
from oautom.workers.kept_loop import end_loop

BLOCKED_SECONDS = 1.0
"""A task that blocks the loop for longer is named in a warning."""

_LOOK_SECONDS = 0.25
_JOIN_SECONDS = 3.0

_logger = logging.getLogger("oautom.runner")


class AsyncWork(Job, Protocol):
    """Work for an event loop."""

    @property
    def told(self) -> str:
        """A description for people."""

    def awaited(self) -> Coroutine[Any, Any, object]:
        """Do the work; the return value is the answer."""


class LoopWorkers(Workers):
    """Workers that do all jobs at once, on an event loop that begins when it is needed."""

    has_loop = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: _Loop | None = None
        self._is_closed = False
        self._process = forked.here

    def submit(self, job: AsyncWork, done: Done) -> None:  # type: ignore[override] # only async work
        """Await a job on the loop; a cancel of the job cancels its task there."""
        try:
            loop = self._running()
        except (OSError, RuntimeError) as error:  # the system gives no more, or the app is closed
            done(None, error)
            return
        loop.begin(job, done)

    def _running(self) -> _Loop:
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the app was closed")
            if self._loop is None:
                loop = _Loop()
                loop.start()
                self._loop = loop
            return self._loop

    def replace(self) -> bool:
        """Return True: an abandoned task takes no slot."""
        return True

    def close(self) -> None:
        """End the loop, and the tasks that steps have left on it; wait a moment for that.

        In a forked child it does nothing.
        """
        if not self._process.is_here:
            return
        with self._lock:
            self._is_closed = True
            loop = self._loop
        if loop is not None:
            loop.end()


class _Loop:
    """The loop, its thread, and the thread that watches it."""

    def __init__(self) -> None:
        self._selector = _Selector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._loop.set_task_factory(self._task)
        self._calls: deque[Callable[[], object]] = deque()
        self._is_called = False
        self._works: WeakKeyDictionary[asyncio.Task[Any], AsyncWork] = WeakKeyDictionary()
        self._jobs: set[_Job] = set()  # those that have begun, and not answered
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="oautom-loop", daemon=True)

    def start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise
        watch = threading.Thread(target=self._watch, name="oautom-loop-watch", daemon=True)
        with suppress(RuntimeError):  # without a thread for it, there are no warnings
            watch.start()

    def begin(self, work: AsyncWork, done: Done) -> None:
        job = _Job(work, done)
        self._call(partial(self._begin, job))
        # If it is too late for this, the job notices the cancel itself.
        work.on_cancel(partial(self._call, job.cancel))

    def _begin(self, job: _Job) -> None:
        # In a context of its own, not that of the driving thread.
        job.task = self._loop.create_task(job.run(), context=Context())
        self._works[job.task] = job.work
        self._jobs.add(job)
        job.task.add_done_callback(job.answer)
        job.task.add_done_callback(lambda _: self._jobs.discard(job))

    def _call(self, call: Callable[[], object]) -> None:
        """Call a function on the loop, in order; waking the loop is the most expensive part."""
        self._calls.append(call)
        if not self._is_called:
            self._is_called = True
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._do_calls)

    def _do_calls(self) -> None:
        self._is_called = False  # first: later callers wake the loop again
        while self._calls:
            self._calls.popleft()()

    def _task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **settings: Any
    ) -> asyncio.Task[Any]:
        """Make a task; a task that a step begins belongs to that step."""
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **settings)
        parent = asyncio.current_task(loop)
        if parent is not None and (work := self._works.get(parent)) is not None:
            self._works[task] = work
        return task

    def _serve(self) -> None:
        while not self._has_ended.is_set():
            try:
                self._loop.run_forever()
            except BaseException:  # SystemExit of a task that a step began: others go on
                _logger.exception("something on the event loop of the async steps raised")
        end_loop(self._loop)
        for job in self._jobs:  # they ignored their cancel, and are not resumed any more
            job.give_up()

    def end(self) -> None:
        self._has_ended.set()
        self._selector.woken.set()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_SECONDS)

    def _watch(self) -> None:
        """Warn about a task that blocks the loop for too long. Checks only while the loop runs."""
        selector = self._selector
        while not self._has_ended.is_set():
            selector.is_unwatched = True
            if selector.busy_since is None:
                selector.woken.wait()
            selector.is_unwatched = False
            selector.woken.clear()
            self._watch_work()

    def _watch_work(self) -> None:
        seen: tuple[float, object] | None = None  # the task, and since when the loop runs
        seen_at = 0.0
        wait = _LOOK_SECONDS
        while not self._has_ended.wait(wait):
            since, task, now = self._selector.busy_since, self._current(), monotonic()
            if since is None:
                return
            if seen != (since, task):
                seen, seen_at = (since, task), now
            blocked = now - since
            if blocked >= BLOCKED_SECONDS and now - seen_at >= BLOCKED_SECONDS - 2 * _LOOK_SECONDS:
                self._warn(task, blocked)
                self._wait_until_other_than(since)
                seen = None
            wait = min(_LOOK_SECONDS, max(0.01, BLOCKED_SECONDS - blocked))

    def _current(self) -> asyncio.Task[Any] | None:
        return asyncio.current_task(self._loop)

    def _wait_until_other_than(self, since: float) -> None:
        while self._selector.busy_since == since and not self._has_ended.wait(_LOOK_SECONDS):
            continue

    def _warn(self, task: asyncio.Task[Any] | None, seconds: float) -> None:
        work = None if task is None else self._works.get(task)
        _logger.warning(
            "%s has blocked the event loop for %.1f seconds, and with it all other async steps; "
            "await what takes time, or give it to asyncio.to_thread()",
            "a callback" if work is None else work.told,
            seconds,
        )


class _Job:
    """A piece of work on the loop."""

    task: asyncio.Task[object]

    def __init__(self, work: AsyncWork, done: Done) -> None:
        self.work = work
        self._done = done
        self._has_begun = False

    async def run(self) -> object:
        self._has_begun = True
        return await self.work.awaited()

    def cancel(self) -> None:
        """Cancel its task; a task that has not begun notices the cancel by itself."""
        if self._has_begun:
            self.task.cancel()

    def answer(self, task: asyncio.Task[object]) -> None:
        try:
            answer = task.result()
        except BaseException as error:  # the caller of the job gets it
            self._done(None, error)
        else:
            self._done(answer, None)

    def give_up(self) -> None:
        self._done(None, RuntimeError("the app was closed, and its event loop with it"))


class _Selector(DefaultSelector):
    """The selector in which the loop waits; it knows since when the loop has not waited."""

    def __init__(self) -> None:
        super().__init__()
        self.busy_since: float | None = None
        self.is_unwatched = False
        self.woken = threading.Event()
        self._process = forked.here

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if not self._process.is_here:  # else the child would run all steps of the loop
            forked.end(
                EngineError(
                    "an async step was forked, and cannot await anything in the child: its event "
                    "loop is that of the parent; end the child by os._exit(), or begin it by "
                    "'spawn'"
                )
            )
        self.busy_since = None
        ready = super().select(timeout)
        self.busy_since = monotonic()
        if self.is_unwatched:
            self.is_unwatched = False
            self.woken.set()
        return ready
