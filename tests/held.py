"""Calls that must return in time, and logs whose commits wait until the test lets them through."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from oautom import Event, MemoryEventLog
from oautom.events.sqlite import SqliteEventLog

T = TypeVar("T")

SECONDS = 10.0
"""Within which a call must return; on a loaded machine much is slow."""
A_MOMENT = 0.15
"""What has not happened within this, though it could, is held to be waiting."""


class Call(Generic[T]):
    """A call on a thread of its own, which may take its time."""

    def __init__(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> None:
        self._future: Future[T] = Future()
        self._what = getattr(function, "__qualname__", repr(function))

        def make() -> None:
            try:
                self._future.set_result(function(*args, **kwargs))
            except BaseException as error:
                self._future.set_exception(error)

        threading.Thread(target=make, name=f"call of {self._what}", daemon=True).start()

    def waits(self, seconds: float = A_MOMENT) -> bool:
        """Whether it has not returned within a moment."""
        try:
            self._future.exception(seconds)
        except TimeoutError:
            return not self._future.done()
        return False

    def result(self, seconds: float = SECONDS) -> T:
        """Return what it has returned, or raise what it has raised; it must be back in time."""
        assert not self.waits(seconds), f"{self._what}() is not back after {seconds:g} seconds"
        return self._future.result()


def in_time(function: Callable[..., T], *args: Any, seconds: float = SECONDS, **kwargs: Any) -> T:
    """Make a call that must return in time, on another thread; return or raise what it does."""
    return Call(function, *args, **kwargs).result(seconds)


def until(is_true: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait for what other threads and processes do."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.002)


class Held:
    """What makes a log one whose commits can be held, can fail, and are remembered.

    Attributes:
        ticks: What was committed, commit by commit.
        reached: A commit waits, or has waited.
        error: What the next commits raise, when they are let through; None for nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ticks: list[list[Event]] = []
        self.reached = threading.Event()
        self.error: BaseException | None = None
        self._is_free = threading.Event()
        self._is_free.set()
        self._uncommitted: list[Event] = []

    def hold(self) -> None:
        """Have commits wait from now on, those of nothing excepted."""
        self.reached.clear()
        self._is_free.clear()

    def free(self) -> None:
        """Let commits through."""
        self._is_free.set()

    @property
    def uncommitted(self) -> list[Event]:
        """What has been appended since the last commit."""
        return list(self._uncommitted)

    def append(self, sender: object, event: Event) -> None:
        super().append(sender, event)  # type: ignore[misc] # of the log that it is mixed with
        self._uncommitted.append(event)

    def commit(self) -> Sequence[Event]:
        if self._uncommitted:
            if not self._is_free.is_set():
                self.reached.set()
                assert self._is_free.wait(3 * SECONDS), "the test has left the commit waiting"
            if self.error is not None:
                raise self.error
        committed: Sequence[Event] = super().commit()  # type: ignore[misc] # as above
        self._uncommitted.clear()
        if committed:
            self.ticks.append(list(committed))
        return committed

    def discard(self) -> object:
        self._uncommitted.clear()
        return super().discard()  # type: ignore[misc] # as above


class HeldLog(Held, MemoryEventLog):
    """One in memory."""


class HeldFile(Held, SqliteEventLog):
    """One in a file."""
