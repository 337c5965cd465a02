"""The interface of the workers that do the work of steps, for the runner."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

Place = Literal["inline", "threads", "elsewhere"]

GRACE_PERIOD = 3.0
"""Seconds that cancelled work has to end by itself, before it is ended or abandoned."""

Done = Callable[[object, BaseException | None], None]
"""Called once, on any thread, with the return value of the work, or with its error."""


class WorkLostError(Exception):
    """The error of a job that may have begun, and of which no answer will come.

    Args:
        what: What was lost, in one line: the worker, the scheduler of a cluster, the connection.
        is_worker: Whether the worker itself ended while it did the job, perhaps because of it.
    """

    def __init__(self, what: str, *, is_worker: bool = False) -> None:
        super().__init__(what)
        self.is_worker = is_worker


class Job(Protocol):
    """One piece of work; only the runner understands its answer. May be pickled."""

    def __call__(self) -> object:
        """Do the work."""

    @property
    def marks(self) -> Mapping[str, str]:
        """The variables by which a recovery finds the processes that do the job."""

    @property
    def grace_period(self) -> float:
        """Seconds that it may take to end in good order, beyond those of all jobs."""

    @property
    def name(self) -> str:
        """The attempt and the call of it: no two jobs of a log have the same name."""

    def hear(self, letter: bytes) -> None:
        """Take a message that the job sends from another process."""

    def on_cancel(self, stopper: Callable[[], None]) -> bool:
        """Call `stopper` when the job is cancelled; return False if it is cancelled already."""


class Workers(ABC):
    """The base class of workers. Methods are called on the scheduler's thread.

    Attributes:
        slots: How many jobs they do at once.
        place: Where jobs run: on the scheduler's thread, on threads of this process, or in other
            processes.
        has_loop: Whether async work takes none of the slots.
        problem: Why no job can be given to them for now, for people; None if they take jobs.
        on_change: Called on any thread when `problem` or `slots` has changed.
    """

    slots: int = sys.maxsize
    place: Place = "threads"
    has_loop: bool = False
    problem: str | None = None
    on_change: Callable[[], object] = bool

    @abstractmethod
    def submit(self, job: Job, done: Done) -> None:
        """Start a job, and call `done` when it has ended."""

    def run_next(self) -> None:
        """Do a job that waits for the scheduler's own thread. Default: there is none."""
        return

    def replace(self) -> bool:
        """Add a slot to replace that of an abandoned job. Default: return False, unsupported."""
        return False

    def close(self) -> None:
        """Take no more jobs, and end the workers that oautom has made, without waiting for them.

        Default: there are none.
        """
        return
