"""`FutureWorkers`: any `concurrent.futures.Executor` as workers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial

from oautom.executors.base import Done, Place


class FutureWorkers:
    """Hands work to an executor.

    Args:
        slots: How much it does at once.
        executor: An executor that belongs to the user; it is never shut down here.
        make: Makes one of our own; it is made again when it breaks, and closed by `end`.
        end: Closes one of our own.
        place: Whether it does the work in this process.
    """

    def __init__(
        self,
        slots: int,
        *,
        executor: Executor | None = None,
        make: Callable[[], Executor] | None = None,
        end: Callable[[Executor], None] | None = None,
        place: Place = "elsewhere",
    ) -> None:
        self.place = place
        self.slots = slots
        self._executor = executor
        self._make = make
        self._end = end

    def submit(self, work: Callable[[], object], done: Done) -> None:
        """Submit `work` to the executor; a failure to do so is an answer too."""
        try:
            future = self._submit(work)
        except Exception as error:  # the executor is the user's, it may raise anything
            done(None, error)
        else:
            future.add_done_callback(partial(_answer, done))

    def _submit(self, work: Callable[[], object]) -> Future[object]:
        if self._executor is None:
            assert self._make is not None
            self._executor = self._make()
        try:
            return self._executor.submit(work)
        except BrokenExecutor:
            if self._make is None:
                raise
            self._executor = self._make()
            return self._executor.submit(work)

    def run_next(self) -> None:
        """Do nothing: all work is elsewhere."""

    def close(self) -> None:
        """End the executor if it is ours."""
        if self._end is not None and self._executor is not None:
            self._end(self._executor)


def _answer(done: Done, future: Future[object]) -> None:
    try:
        answer = future.result()
    except BaseException as error:  # CancelledError, and what the executor makes of it
        done(None, error)
    else:
        done(answer, None)
