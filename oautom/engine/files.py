"""Files that steps wait for. To the runner they are workers, whose work ends when a file appears.

Only the log outlives the program: a recovery submits the work again, and a file that has appeared
meanwhile is found at once.
"""

from __future__ import annotations

import os
import weakref
from functools import partial
from itertools import count
from typing import cast

from oautom.engine.runner import Runner
from oautom.steps.file import FileExecution
from oautom.steps.work import Outcome, Work
from oautom.workers.base import Done, Job, Workers
from oautom.workers.watcher import Watcher


class Files(Workers):
    """Workers that answer when a file is there: any number of jobs, on one thread.

    Args:
        runner: Submits the steps that wait for files.
    """

    def __init__(self, runner: Runner) -> None:
        self._numbers = count()
        self._answers: dict[int, tuple[str, Done]] = {}
        self._watcher: Watcher | None = None
        self._is_closed = False
        runner.elsewhere[FileExecution.kind] = self

    def submit(self, job: Job, done: Done) -> None:
        """Call `done` when the file of a step is there. On the scheduler's thread."""
        assert isinstance(job, Work)
        try:
            path = cast("str", job.execution.run(job.context))
            where = os.path.join(os.getcwd(), path)  # as the directory is now
            watcher = self._running()
        except Exception as error:  # a bad path, or no resources
            done(Outcome.failure(error), None)
            return
        number = next(self._numbers)
        self._answers[number] = path, done
        watcher.watch(number, where)
        if not job.on_cancel(partial(self._give_up, number)):
            self._give_up(number)

    def _running(self) -> Watcher:
        if self._is_closed:
            raise RuntimeError("the app was closed")
        if self._watcher is None:
            # A waiting thread must not keep an app alive that nothing else refers to.
            found = weakref.WeakMethod(self._found)
            self._watcher = Watcher(lambda number: (method := found()) and method(number))
            weakref.finalize(self, self._watcher.close).atexit = False
        return self._watcher

    def _found(self, number: int) -> None:
        """Answer that a file is there. On the thread of the watcher."""
        if (waiting := self._answers.pop(number, None)) is not None:
            path, done = waiting
            done(Outcome(path), None)

    def _give_up(self, number: int) -> None:
        """Stop waiting for a file, and answer so. Any thread."""
        if (waiting := self._answers.pop(number, None)) is not None:
            cast("Watcher", self._watcher).forget(number)
            waiting[1](Outcome(error="it was cancelled"), None)

    def close(self) -> None:
        """Stop waiting for all files."""
        self._is_closed = True
        if self._watcher is not None:
            self._watcher.close()
