"""`await vect`: one thread waits on behalf of all awaiting tasks, so that no event loop is blocked.

It lives while there are such tasks. In the foreground it drives, as any waiting thread does.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from oautom.engine.messages import Nudge
from oautom.engine.scheduler import Scheduler
from oautom.errors import EngineError, LogError, exhausted

if TYPE_CHECKING:
    from asyncio import Future

IsDone = Callable[[], bool]


class Awaiting:
    """The tasks that await Vects, on any event loops.

    Args:
        scheduler: The scheduler of the Vects.
        drive: Waits until a condition holds; in the foreground it drives meanwhile.
    """

    def __init__(self, scheduler: Scheduler, drive: Callable[[IsDone], object]) -> None:
        self._scheduler = scheduler
        self._drive = drive
        self._waiting: dict[Future[None], tuple[str, IsDone]] = {}
        self._by_vect: dict[str, dict[Future[None], None]] = {}  # the same by Vect; "" for any
        self._heard: deque[str] = deque()  # ids of Vects with news, "" for all
        scheduler.on_news = self._hear
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # a coroutine may be closed at any point, on this thread too

    def _hear(self, vects: Sequence[str]) -> None:
        if self._waiting:
            self._heard.extend(vects)

    async def look_again(self, is_done: IsDone, vect: str = "") -> None:
        """Return when `is_done()`, or when the engine has stopped; rarely earlier.

        Args:
            is_done: Asked whenever there is news.
            vect: The id of the Vect whose news count; empty for any.
        """
        import asyncio  # noqa: PLC0415 - takes a third of the time of `import oautom`

        future: Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._add(future, is_done, vect)
            if not is_done():  # its news may have come just before
                await future
        finally:
            if self._remove(future) and not self._waiting:
                self._scheduler.put(Nudge())  # wakes the thread if it drives,
                self._scheduler.have_all_look(())  # or waits while another one drives

    def _add(self, future: Future[None], is_done: IsDone, vect: str) -> None:
        with self._lock:
            self._waiting[future] = vect, is_done
            self._by_vect.setdefault(vect, {})[future] = None
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="oautom-awaiting", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the next `await` tries again
                    raise exhausted("a vect cannot be awaited now", error) from error
                self._thread = thread

    def _remove(self, future: Future[None]) -> bool:
        """Remove a task that awaits; return False if it was removed already."""
        with self._lock:
            vect, is_done = self._waiting.pop(future, ("", None))
            others = self._by_vect.get(vect, {})
            others.pop(future, None)
            if not others:
                self._by_vect.pop(vect, None)
            return is_done is not None

    def _serve(self) -> None:
        try:
            with suppress(EngineError, LogError):  # each task gets the error by itself
                self._drive(self._have_all_gone)
        finally:
            with self._lock:  # also waits until `_add` has noted this thread
                self._thread = None
                self._tell(list(self._waiting))

    def _have_all_gone(self) -> bool:
        """Wake the tasks whose Vects are over; called after each tick, checks Vects with news.

        Returns:
            Whether no task is left.
        """
        if self._heard:
            vects = {self._heard.popleft() for _ in range(len(self._heard))}
            with self._lock:
                of_these = (each for vect in {"", *vects} for each in self._by_vect.get(vect, ()))
                waiting = list(self._waiting if "" in vects else of_these)
            self._tell([future for future in waiting if self._is_done(future)])
        return not self._waiting

    def _is_done(self, future: Future[None]) -> bool:
        _, is_done = self._waiting.get(future, ("", None))
        return is_done is not None and is_done()

    def _tell(self, futures: list[Future[None]]) -> None:
        for future in futures:
            self._remove(future)
            with suppress(RuntimeError):  # its loop is closed: no task awaits it any more
                future.get_loop().call_soon_threadsafe(_wake, future)


def _wake(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)
