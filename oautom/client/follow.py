"""Following a log: its events as they come, and next to no work while none does.

What is looked at is the file itself: when it was changed last, and how large it is. It takes some
microseconds and opens nothing; only where something has changed is the log read.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from pathlib import Path
from time import monotonic, sleep
from typing import Final, Self

from oautom.errors import LogError
from oautom.events.log import EventLog
from oautom.machine.event import Event
from oautom.machine.tables import VECT_ENDS

LOOK_SECONDS = 0.07
"""How long it takes at most until a change is noticed. A look costs some 100 microseconds, most of
them for being woken: less than 0.2 % of a processor."""

_GRAIN: Final = 0.1
"""For how long another change may have left the same time: the clock of files is a coarse one."""

_PAGE: Final = 1000


class News:
    """Tells whether a log may have changed since it was asked last.

    Args:
        log: The log.
    """

    def __init__(self, log: EventLog) -> None:
        path: Path | None = getattr(log, "path", None)
        self._log = log
        # What is committed goes to the second one, which is there while anybody has the log open.
        self._files = () if path is None else (f"{path}-wal", str(path))
        self._seen: object = None
        self._until = 0.0
        self._is_settled = False

    def are_there(self) -> bool:
        """Whether to read it: always the first time."""
        found = self._look()
        if found != self._seen:
            self._seen = found
            self._until = monotonic() + _GRAIN
            self._is_settled = False
            return True
        if self._is_settled:
            return False
        self._is_settled = monotonic() >= self._until  # once more, when all that fits is there
        return True

    def _look(self) -> object:
        if not self._files:
            return self._log.committed_seq
        return _stamp(self._files[0]) or _stamp(self._files[1])


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class Follow:
    """The events of a log, those that are there and then those that come; to be iterated over.

    By `for` as by `async for`, which leaves the event loop free. It ends where it is closed, or
    with the only Vect that is followed. Made by `Client.follow`.
    """

    def __init__(self, log_of: Callable[[], EventLog], after: int, vect: str | None) -> None:
        self._log_of = log_of
        self._after = self._position = after
        self._vect = vect
        log = log_of()
        self._log = log.id
        self._news = News(log)
        self._events: deque[Event] = deque()
        self._is_told = False
        self._is_over = False
        self._while_idle: Callable[[], object] | None = None

    @property
    def position(self) -> int:
        """The number of the event that was given last; `follow(after=position)` goes on there."""
        return self._position

    def close(self) -> None:
        """Have it end; whoever waits for an event is told so. Any thread."""
        self._is_told = True

    def while_idle(self, call: Callable[[], object]) -> None:
        """Have `for` call this whenever it finds nothing new, about 14 times a second."""
        self._while_idle = call

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close it."""
        self.close()

    def __iter__(self) -> Iterator[Event]:
        """Return itself."""
        return self

    def __next__(self) -> Event:
        """Return the next event; waits for it.

        Raises:
            LogError: The log cannot be read, or another one has taken its place.
        """
        while not self._events:
            if self._is_told or self._is_over:
                raise StopIteration
            if not (self._news.are_there() and self._read()):
                if self._while_idle is not None:
                    self._while_idle()
                sleep(LOOK_SECONDS)
        return self._given()

    def __aiter__(self) -> AsyncIterator[Event]:
        """Return itself."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event; the event loop goes on until there is one."""
        import asyncio  # noqa: PLC0415 - takes a third of the time of `import oautom`

        while not self._events:
            if self._is_told or self._is_over:
                raise StopAsyncIteration
            if not (self._news.are_there() and await asyncio.to_thread(self._read)):
                await asyncio.sleep(LOOK_SECONDS)
        return self._given()

    def _given(self) -> Event:
        event = self._events.popleft()
        self._position = event.seq
        return event

    def _read(self) -> bool:
        """Take the next events, as many as are good to have at once; False if nothing is new."""
        log = self._log_of()
        if log.id != self._log:
            raise LogError(
                f"another log has taken the place of '{getattr(log, 'path', log)}' while it was "
                "followed, and its events have numbers of their own; follow that from its beginning"
            )
        before = log.find(self._vect) if self._vect is not None else None
        found = list(islice(log.read(after=self._after, vect=self._vect), _PAGE))
        self._events.extend(found)
        if found:
            self._after = found[-1].seq
        if len(found) == _PAGE:
            self._news = News(log)  # there is more
        elif self._vect is not None:
            # It was over before its events were read: so these are all.
            self._is_over = before is None or before.state in VECT_ENDS
        return bool(found) or self._is_over
