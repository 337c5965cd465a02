"""`InlineWorkers`: jobs run on the scheduler's own thread, one at a time, in order."""

from __future__ import annotations

from collections import deque

from oautom.workers.base import Done, Job, Workers
from oautom.workers.kept_loop import KEPT, close_kept_loop


class InlineWorkers(Workers):
    """Workers whose jobs wait until the scheduler calls `run_next`: deterministic and fast."""

    slots = 1
    place = "inline"

    def __init__(self) -> None:
        self._jobs: deque[tuple[Job, Done]] = deque()
        self.is_running = False  # the step's own code, or the little around it, has the thread
        self.is_closed = False

    def submit(self, job: Job, done: Done) -> None:
        """Store a job for `run_next`."""
        self._jobs.append((job, done))

    def run_next(self) -> None:
        """Do the oldest waiting job, if there is any."""
        if not self._jobs:
            return
        job, done = self._jobs.popleft()
        answer, failure = None, None
        before, KEPT.user = KEPT.user, self  # a step may have an app of its own
        try:
            self.is_running = True
            answer = job()
        except BaseException as error:  # Ctrl-C just before or after the step's own code
            failure = error
        finally:
            self.is_running = False
            KEPT.user = before
        done(answer, failure)

    def close(self) -> None:
        """Drop all waiting jobs."""
        self._jobs.clear()
        self.is_closed = True
        close_kept_loop(self)
