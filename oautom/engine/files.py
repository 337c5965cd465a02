"""Files: what steps wait for. To the runner they are workers: here work is that a file appears.

Nothing of it outlives the program but the log: a recovery gives the work here again, and a file
that has come meanwhile is there at once.
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
    """Workers that answer when a file is there: any number of them, on one thread.

    Args:
        runner: Who has steps wait for files.
    """

    def __init__(self, runner: Runner) -> None:
        self._numbers = count()
        self._answers: dict[int, tuple[str, Done]] = {}
        self._watcher: Watcher | None = None
        self._is_closed = False
        runner.elsewhere[FileExecution.kind] = self

    def submit(self, job: Job, done: Done) -> None:
        """Call `done` when the file is there that a step waits for. On the scheduler's thread."""
        assert isinstance(job, Work)
        try:
            path = cast("str", job.execution.run(job.context))
            where = os.path.join(os.getcwd(), path)  # as it is now
            watcher = self._running()
        except Exception as error:  # a path may come from anywhere; and the system may give no more
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
            # A thread that waits must not keep an app that nobody has any more.
            found = weakref.WeakMethod(self._found)
            self._watcher = Watcher(lambda number: (method := found()) and method(number))
            weakref.finalize(self, self._watcher.close).atexit = False
        return self._watcher

    def _found(self, number: int) -> None:
        """Tell that a file is there. On the thread of the watcher."""
        if (waiting := self._answers.pop(number, None)) is not None:
            path, done = waiting
            done(Outcome(path), None)

    def _give_up(self, number: int) -> None:
        """Wait for a file no longer. Any thread."""
        if (waiting := self._answers.pop(number, None)) is not None:
            cast("Watcher", self._watcher).forget(number)
            waiting[1](Outcome(error="it was cancelled"), None)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._is_closed = True
        if self._watcher is not None:
            self._watcher.close()
