"""`InlineWorkers`: work is done on the scheduler's own thread, one at a time, in order."""

from __future__ import annotations

from collections import deque

from oautom.workers.base import Done, Place, Work
from oautom.workers.kept_loop import close_kept_loop


class InlineWorkers:
    """Keeps work until the scheduler calls `run_next`: deterministic, the fastest, no recursion."""

    slots = 1
    place: Place = "inline"
    has_loop = False

    def __init__(self) -> None:
        self._jobs: deque[tuple[Work, Done]] = deque()
        self.is_running = False  # the step's own code, or the little around it, has the thread

    def submit(self, work: Work, done: Done) -> None:
        """Keep `work` for `run_next`."""
        self._jobs.append((work, done))

    def run_next(self) -> None:
        """Do the oldest work that is kept, if there is any."""
        if not self._jobs:
            return
        work, done = self._jobs.popleft()
        answer, failure = None, None
        try:
            self.is_running = True
            answer = work()
        except BaseException as error:  # Ctrl-C just before or after the step's own code
            failure = error
        finally:
            self.is_running = False
        done(answer, failure)

    def replace(self) -> bool:
        """Return False: work is done one at a time."""
        return False

    def close(self) -> None:
        """Forget what is kept."""
        self._jobs.clear()
        close_kept_loop()
