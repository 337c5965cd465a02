"""`FutureWorkers`: any `concurrent.futures.Executor` of the user's as workers."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial

from oautom.workers.base import Done, Place, Work


class FutureWorkers:
    """Hands work to an executor, which stays the user's: it is never shut down here.

    Args:
        executor: Who does the work.
        slots: How much it does at once.
    """

    has_loop = False

    def __init__(self, executor: Executor, slots: int) -> None:
        self.slots = slots
        self.place: Place = "threads" if isinstance(executor, ThreadPoolExecutor) else "elsewhere"
        self._executor = executor

    def submit(self, work: Work, done: Done) -> None:
        """Submit `work` to the executor; a failure to do so is an answer too."""
        try:
            future: Future[object] = self._executor.submit(work)
        except Exception as error:  # the executor is the user's, it may raise anything
            done(None, error)
        else:
            future.add_done_callback(partial(_answer, done))

    def run_next(self) -> None:
        """Do nothing: all work is elsewhere."""

    def replace(self) -> bool:
        """Return False: the executor is the user's."""
        return False

    def close(self) -> None:
        """Do nothing: the executor is the user's."""


def _answer(done: Done, future: Future[object]) -> None:
    try:
        answer = future.result()
    except BaseException as error:  # CancelledError, and what the executor makes of a failure
        done(None, error)
    else:
        done(answer, None)
