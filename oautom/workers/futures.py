"""`FutureWorkers`: any `concurrent.futures.Executor` of the user's as workers."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial

from oautom.workers.base import Done, Job, Workers


class FutureWorkers(Workers):
    """Workers that use an executor of the user's, which oautom never shuts down.

    Args:
        executor: The executor.
        slots: How many jobs it does at once.
    """

    def __init__(self, executor: Executor, slots: int) -> None:
        self.slots = slots
        self.place = "threads" if isinstance(executor, ThreadPoolExecutor) else "elsewhere"
        self._executor = executor

    def submit(self, job: Job, done: Done) -> None:
        """Submit a job to the executor; if that fails, the error is the answer."""
        try:
            future: Future[object] = self._executor.submit(job)
        except Exception as error:  # an executor of the user may raise anything
            done(None, error)
        else:
            future.add_done_callback(partial(_answer, done))


def _answer(done: Done, future: Future[object]) -> None:
    try:
        answer = future.result()
    except BaseException as error:  # CancelledError, or any error of the executor
        done(None, error)
    else:
        done(answer, None)
