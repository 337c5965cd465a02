"""The event loop of a worker: for a coroutine of a step that has the whole worker.

The loop stays from one coroutine to the next, so that shared objects, such as a session or a pool
of connections, stay usable. It ends with its thread, or with the last workers that have used it: an
app may be closed on the thread of another one, also by the garbage collector, between any two
instructions. asyncio is imported when it is first needed: that takes a third of the time of `import
oautom`.
"""

from __future__ import annotations

import inspect
import logging
import os
import select
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakSet

from oautom.processes import forked
from oautom.workers.base import GRACE_PERIOD

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from typing import Protocol

    class User(Protocol):
        """Workers that use the loops of threads that are not their own."""

        is_closed: bool


T = TypeVar("T")
OnCancel = Callable[[Callable[[], None]], bool]

_LAST_SECONDS = 1.0
_logger = logging.getLogger("oautom.runner")


class _Kept(threading.local):
    """What a thread has.

    Attributes:
        holder: Its event loop, once it has needed one.
        user: The workers that have the thread for now, if it is not their own.
    """

    holder: _Holder | None = None
    user: User | None = None


KEPT = _Kept()


def run_to_its_end(coroutine: Coroutine[Any, Any, T], on_cancel: OnCancel) -> T:
    """Run a coroutine on the loop of this thread; if that loop runs already, on another thread.

    Args:
        coroutine: The coroutine; a cancel of its step cancels it.
        on_cancel: Registers a function to call at a cancel; returns False if the step is cancelled
            already.

    Raises:
        CancelledError: The coroutine was cancelled, or has raised it by itself.
        TimeoutError: It was cancelled, and has not ended within `GRACE_PERIOD`: it does not go on.
        BaseException: An exception of the coroutine.
    """
    import asyncio  # noqa: PLC0415 - see above

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_here(coroutine, on_cancel)
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - seldom needed

    with ThreadPoolExecutor(1) as thread, _closed_unless_begun(coroutine):
        return thread.submit(copy_context().run, _run_here, coroutine, on_cancel).result()


@contextmanager
def _closed_unless_begun(coroutine: Coroutine[Any, Any, T]) -> Iterator[None]:
    """Close a coroutine that was never begun, since Python would warn about it."""
    try:
        yield
    except BaseException:
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            coroutine.close()
        raise


def _run_here(coroutine: Coroutine[Any, Any, T], on_cancel: OnCancel) -> T:
    with _closed_unless_begun(coroutine):
        loop = _loop_of_this_thread()
    call = _Call(loop, loop.create_task(coroutine))
    if not on_cancel(call.cancel):
        call.cancel()
    escaped: BaseException | None = None
    while not call.is_over:
        try:
            loop.run_forever()
        except BaseException as error:  # SystemExit of another task, or Ctrl-C in the loop
            escaped = error
            call.task.cancel()
    if call.is_given_up:
        KEPT.holder = None  # abandoned with its tasks: the next coroutine gets a new loop
    if escaped is not None:
        call.task.add_done_callback(_look_at_error)
        raise escaped
    return cast("T", call.result())


class _Call:
    """A coroutine that has the loop of its thread to itself."""

    def __init__(self, loop: AbstractEventLoop, task: Task[T]) -> None:
        self.task = task
        self.is_given_up = False
        self._loop = loop
        task.add_done_callback(self._stop)

    def cancel(self) -> None:
        """Cancel the coroutine, and abandon it if it has not ended after a while. Any thread."""
        with suppress(RuntimeError):  # it has ended, with its loop
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self.task.cancel():
            self._loop.call_later(GRACE_PERIOD, self._give_up)

    def _give_up(self) -> None:
        if not self.task.done():
            self.is_given_up = True
            self._loop.stop()

    def _stop(self, task: Task[T]) -> None:
        self._loop.stop()

    @property
    def is_over(self) -> bool:
        """Whether no thread waits for it any more."""
        return self.is_given_up or self.task.done()

    def result(self) -> Any:
        """Return its result; errors as of `run_to_its_end`."""
        if self.is_given_up:
            raise TimeoutError(
                f"it did not end within {GRACE_PERIOD:g} seconds after it was cancelled, and was "
                "given up"
            )
        return self.task.result()


def _look_at_error(task: Task[Any]) -> None:
    """Read the error, so that asyncio does not warn; another error is reported instead."""
    if not task.cancelled():
        task.exception()


class _Holder:
    """The owner of the loop of a thread: it closes the loop with the thread."""

    def __init__(self) -> None:
        import asyncio  # noqa: PLC0415 - see above

        self.loop = asyncio.new_event_loop()
        self.users: WeakSet[User] = WeakSet()
        self._pid = os.getpid()

    def __del__(self) -> None:
        # At the end of the program each name of this module, `suppress` too, may be None already.
        try:
            # In a fork Python drops thread-local data of the parent before any handler is called:
            # so only the number of the process shows that this is a fork.
            if os.getpid() != self._pid and not self.loop.is_running():
                _part(self.loop)
            self.loop.close()
        except Exception:  # noqa: S110 - nobody is left who could be told
            pass


def _part(loop: AbstractEventLoop) -> None:
    """Separate a loop in a forked child from the epoll of its parent's loop.

    Otherwise closing it would remove files from that epoll for which the parent's loop waits.
    """
    selector: Any = getattr(loop, "_selector", None)
    if type(selector).__name__ == "EpollSelector":
        with select.epoll() as own:
            os.dup2(own.fileno(), selector.fileno(), inheritable=False)


def _begin_anew() -> None:
    """Make this thread create a loop of its own when it needs one."""
    KEPT.holder = None


forked.in_child(_begin_anew)


def _loop_of_this_thread() -> AbstractEventLoop:
    holder = KEPT.holder
    if holder is not None:
        _note_use(holder)  # before the question: whoever else has used it may end it just now
    if holder is None or holder.loop.is_closed():  # a step may do anything
        holder = KEPT.holder = _Holder()
        _note_use(holder)
    return holder.loop


def _note_use(holder: _Holder) -> None:
    if KEPT.user is not None:
        holder.users.add(KEPT.user)


def close_kept_loop(user: User | None = None) -> None:
    """End the loop of this thread, if it has one that is not running.

    Args:
        user: The workers that have ended; the loop goes on for others that have used it and have
            not. Default: the thread ends.
    """
    holder = KEPT.holder
    if holder is None or holder.loop.is_running():
        return
    users = holder.users
    if user is None or (user in users and all(each.is_closed for each in users)):
        KEPT.holder = None
        end_loop(holder.loop)


def end_loop(loop: AbstractEventLoop) -> None:
    """Cancel the tasks that steps have left on a loop, wait for a moment, and close the loop."""
    import asyncio  # noqa: PLC0415 - see above

    async def end_all() -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_LAST_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(loop.shutdown_asyncgens(), _LAST_SECONDS)

    try:
        if not loop.is_closed():
            task = loop.create_task(end_all())
            task.add_done_callback(lambda _: loop.stop())
            while not task.done():  # an earlier `stop` may come in between
                loop.run_forever()
    except BaseException:  # user code may raise anything
        _logger.exception("tasks that steps had left on their event loop raised at its end")
    finally:
        loop.close()
