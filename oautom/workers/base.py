"""What the runner asks of the workers that do the steps' work."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

Place = Literal["inline", "threads", "elsewhere"]

GRACE_PERIOD = 3.0
"""Seconds that work has to end by itself when it was told to, before it is ended or given up."""

Done = Callable[[object, BaseException | None], None]
"""Called once with what the work returned, or with why it could not be done. On any thread."""


class Job(Protocol):
    """One piece of work: what it answers is for the runner to understand. May be pickled."""

    def __call__(self) -> object:
        """Do it."""

    @property
    def marks(self) -> Mapping[str, str]:
        """The variables by which a recovery finds the processes that do it."""

    def on_cancel(self, stopper: Callable[[], None]) -> bool:
        """Have `stopper` called when the job is not wanted any more; False if that is so now."""


class Workers(ABC):
    """Who does the work. Methods are called on the scheduler's thread.

    Attributes:
        slots: How many jobs they do at once.
        place: On the scheduler's thread, on threads of this process, or in other processes.
        has_loop: Whether async work takes none of the slots.
    """

    slots: int = sys.maxsize
    place: Place = "threads"
    has_loop: bool = False

    @abstractmethod
    def submit(self, job: Job, done: Done) -> None:
        """Have a job done, and `done` called afterwards."""

    def run_next(self) -> None:
        """Do a job that is kept for the scheduler's own thread. Default: there is none."""
        return

    def replace(self) -> bool:
        """Add a slot to replace one held by an abandoned job. Default: False, that cannot be."""
        return False

    def close(self) -> None:
        """Take no more jobs, and end the workers that are ours, without waiting for their work.

        Default: nothing is ours.
        """
        return
