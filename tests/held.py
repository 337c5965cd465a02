"""Calls that must return in time, and logs whose commits wait until the test lets them through."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

from oautom import Event, MemoryEventLog
from oautom.events.sqlite import SqliteEventLog

T = TypeVar("T")

SECONDS = 10.0
"""Within which a call must return; on a loaded machine much is slow."""
OPEN_FILES = Path("/proc/self/fd")
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
        self._turn = threading.Condition()
        self._is_held = False
        self._let_through = 0  # how many commits, though it is held
        self._uncommitted: list[Event] = []

    def hold(self) -> None:
        """Have commits wait from now on, those of nothing excepted."""
        with self._turn:
            self.reached.clear()
            self._is_held, self._let_through = True, 0

    def let_one(self) -> None:
        """Let the commit through that waits, or comes next."""
        with self._turn:
            self.reached.clear()
            self._let_through += 1
            self._turn.notify_all()

    def free(self) -> None:
        """Let all commits through."""
        with self._turn:
            self._is_held = False
            self._turn.notify_all()

    def _wait_for_turn(self) -> None:
        def is_let_through() -> bool:
            return not self._is_held or self._let_through > 0

        with self._turn:
            if not is_let_through():
                self.reached.set()
                is_in_time = self._turn.wait_for(is_let_through, 3 * SECONDS)
                assert is_in_time, "the test has left the commit waiting"
            self._let_through -= self._is_held

    @property
    def uncommitted(self) -> list[Event]:
        """What has been appended since the last commit."""
        return list(self._uncommitted)

    def append(self, sender: object, event: Event) -> None:
        super().append(sender, event)  # type: ignore[misc] # of the log that it is mixed with
        self._uncommitted.append(event)

    def commit(self) -> Sequence[Event]:
        if self._uncommitted:
            self._wait_for_turn()
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


@contextmanager
def held_log(kind: str, folder: Path) -> Iterator[HeldLog | HeldFile]:
    """Make a log in `memory` or in a `file`; what waits in it at the end is let through."""
    log: HeldLog | HeldFile = HeldLog()
    if kind == "file":
        log = HeldFile(folder / "runs.db", synchronous="NORMAL")
    yield log
    log.free()
    log.close()


def open_files() -> set[tuple[str, str]]:
    """Return the numbers of the files, pipes and sockets that this program has open, and which."""
    if not OPEN_FILES.exists():
        pytest.skip("open files are counted in /proc")
    found = set()
    for each in OPEN_FILES.iterdir():
        with suppress(FileNotFoundError):  # that by which the folder is read, or another thread's
            found.add((each.name, os.readlink(each)))
    return found


@contextmanager
def nothing_left() -> Iterator[None]:
    """Assert that neither threads nor open files are left that were not there before.

    There may be fewer than before: what a test has closed may still be about to end.
    """
    threads, files = set(threading.enumerate()), open_files()
    yield
    until(lambda: not _alive(threads))
    assert open_files() <= files


def _alive(known: set[threading.Thread]) -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each not in known and each.is_alive()]
