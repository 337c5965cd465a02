"""The interface of the workers that do the work of steps, for the runner."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

Place = Literal["inline", "threads", "elsewhere"]

GRACE_PERIOD = 3.0
"""Seconds that cancelled work has to end by itself, before it is ended or abandoned."""

Done = Callable[[object, BaseException | None], None]
"""Called once, on any thread, with the return value of the work, or with its error."""


class NotBegunError(Exception):
    """The error of a job that has not begun, and will not. It says why, in one line."""


class WorkLostError(Exception):
    """The error of a job that may have begun, and of which no answer will come.

    Args:
        what: What was lost, in one line: the worker, the scheduler of a cluster, the connection.
        is_worker: Whether the worker itself ended while it did the job, perhaps because of it.
    """

    def __init__(self, what: str, *, is_worker: bool = False) -> None:
        super().__init__(what)
        self.is_worker = is_worker


NONE_LEFT: Final[Mapping[str, Future[Any]]] = MappingProxyType({})


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

    @property
    def submit(self) -> Mapping[str, Any]:
        """What the executor is told with the job, by names that it knows; mostly nothing."""

    @property
    def for_child(self) -> Callable[[], object]:
        """The same job, to be pickled for a process that imports the main module of this program.

        Pickled as it is, it is for any process: functions of the main module travel by value.
        """

    @property
    def keeps_output(self) -> bool:
        """Whether the output stays where the job is done, if the executor can keep it."""

    def hear(self, letter: bytes) -> None:
        """Take a message that the job sends from another process."""

    def on_cancel(self, stopper: Callable[[], object]) -> bool:
        """Call `stopper` when the job is cancelled; return False if it is cancelled already.

        A cancel waits for the end of the job then, unless `stopper` returns False: it cannot end
        it.
        """


class Workers(ABC):
    """The base class of workers. Methods are called on the scheduler's thread.

    Attributes:
        slots: How many jobs they do at once.
        place: Where jobs run: on the scheduler's thread, on threads of this process, or in other
            processes.
        has_loop: Whether async work takes none of the slots.
        problem: Why no job can be given to them for now, for people; None if they take jobs.
        is_dead: Whether the problem is for good: the engine stops, and its Vects stay open.
        on_change: Called on any thread when one of `problem`, `is_dead` and `slots` has changed.
        on_deaf: Called on any thread with a job that was cancelled, and does not listen: it is not
            waited for.
    """

    slots: int = sys.maxsize
    place: Place = "threads"
    has_loop: bool = False
    problem: str | None = None
    is_dead: bool = False
    on_change: Callable[[], object] = bool
    on_deaf: Callable[[Any], object] = bool

    @abstractmethod
    def submit(self, job: Job, done: Done) -> None:
        """Start a job, and call `done` when it has ended."""

    def run_next(self) -> None:
        """Do a job that waits for the scheduler's own thread. Default: there is none."""
        return

    def left(self, log_id: str) -> Mapping[str, Future[Any]]:
        """Return the jobs of a log that earlier programs have left at work elsewhere.

        Each is asked to stop by this call, and its step does not start again before it is over. The
        engine asks once, before a recovery starts anything; while there is a `problem` it waits
        with that, and starts nothing. Default: there are none.

        Args:
            log_id: The identity of the log.

        Returns:
            By the name of the job, a future that is done, with any result, when the job is over.

        Raises:
            WorkLostError: Nobody answers; `problem` says so by now, and the engine asks again when
                that has changed.
        """
        return NONE_LEFT

    def replace(self) -> bool:
        """Add a slot to replace that of an abandoned job. Default: return False, unsupported."""
        return False

    def close(self) -> None:
        """Take no more jobs, and end the workers that oautom has made, without waiting for them.

        Default: there are none.
        """
        return
