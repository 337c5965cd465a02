"""What the runner asks of the workers that do the steps' work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

Place = Literal["inline", "threads", "elsewhere"]

GRACE_PERIOD = 3.0
"""Seconds that work has to end by itself when it was told to, before it is ended or given up."""

Done = Callable[[object, BaseException | None], None]
"""Called once with what the work returned, or with why it could not be done. On any thread."""


class Work(Protocol):
    """One piece of work: what it answers is for the runner to understand. May be pickled."""

    def __call__(self) -> object:
        """Do it."""

    @property
    def marks(self) -> Mapping[str, str]:
        """The variables by which a recovery finds the processes that do it."""

    def on_cancel(self, stopper: Callable[[], None]) -> bool:
        """Have `stopper` called when the work is not wanted any more; False if that is so now."""


class Workers(Protocol):
    """Who does the work. Methods are called on the scheduler's thread."""

    @property
    def slots(self) -> int:
        """How much work they do at once."""

    @property
    def place(self) -> Place:
        """On the scheduler's thread, on threads of this process, or in other processes."""

    @property
    def has_loop(self) -> bool:
        """Whether async work takes none of the slots."""

    def submit(self, work: Work, done: Done) -> None:
        """Have `work` done, and `done` called afterwards."""

    def run_next(self) -> None:
        """Do work that is kept for the scheduler's own thread, if these workers do so."""

    def replace(self) -> bool:
        """Do one piece more at once, for one that was abandoned; False if that cannot be."""

    def close(self) -> None:
        """Take no more work, and end the workers that are ours; without waiting for their work."""
