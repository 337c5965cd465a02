"""The stream of events by which an open page learns that there is something new.

One task for each server follows the log, whoever looks: a viewer costs a queue of nothing, and one
that is slow or gone is waited for by nobody. The id of each message is the number of its event, so
that a browser that comes back says what it has seen last, and misses nothing.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final, NamedTuple

from oautom.client import Client
from oautom.client.lookout import Engine, Lookout
from oautom.errors import OAutomError

KEPT: Final = 2_000
"""How many of the newest events are kept for all streams; who is further behind reads the log."""

STREAMS: Final = 500
BATCH: Final = 500
ALIVE_SECONDS: Final = 15.0
"""After so many a stream says something, so that neither browser nor proxy gives it up."""
LOOK_SECONDS: Final = 0.2
ENGINE_SECONDS: Final = 1.0
BOUND_SECONDS: Final = 10.0
"""How long a stream lasts under a server that does not tell when it is shut down. The browser comes
back by itself, and such a server is held no longer than this."""


class Told(NamedTuple):
    """One event, as a stream has it."""

    seq: int
    vect: str
    step: str | None
    attempt: int
    text: bytes


def told(event: Any) -> Told:
    """Return an event as a browser's EventSource has it."""
    data = {"name": event.name, "vect": event.vect, "step": event.step, "state": event.dest}
    text = f"id: {event.seq}\ndata: {json.dumps(data)}\n\n".encode()
    return Told(event.seq, event.vect, event.step, event.attempt or 0, text)


class Feed:
    """Follows the log for all streams of one event loop, as long as there is one.

    Args:
        client: The log.
        lookout: Whether an engine is at work.
    """

    def __init__(self, client: Client, lookout: Lookout) -> None:
        self._client = client
        self._lookout = lookout
        self._events: deque[Told] = deque(maxlen=KEPT)
        self._floor = 0
        self._wakes: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None
        self.log: str | None = None
        self.engine: Engine | None = None
        self.generation = 0
        self.position = 0
        self.is_over = False

    @property
    def count(self) -> int:
        """How many streams there are."""
        return len(self._wakes)

    async def enter(self, wake: asyncio.Event) -> None:
        """Have an event set whenever there is something new."""
        self._wakes.add(wake)
        if self._task is None:
            self.engine, self.position = await asyncio.to_thread(self._begun)
            self._floor = self.position
            if self._task is None:
                self._events.clear()
                self._task = asyncio.create_task(self._run())

    def leave(self, wake: asyncio.Event) -> None:
        """Undo `enter`; with the last one, nobody follows the log any more."""
        self._wakes.discard(wake)
        if not self._wakes and self._task is not None:
            self._task.cancel()
            self._task = None

    def close(self) -> None:
        """End all streams."""
        self.is_over = True
        self._wake()

    def _begun(self) -> tuple[Engine | None, int]:
        try:
            self.log = self._client.log_id
            return self._lookout.engine(), self._client.seq
        except OAutomError:
            return None, 0

    def _wake(self) -> None:
        for each in self._wakes:
            each.set()

    async def _run(self) -> None:
        following = asyncio.create_task(self._follow())
        try:
            looked = -ENGINE_SECONDS
            while not self.is_over:
                if is_server_ending():
                    self.close()
                    break
                if monotonic() - looked >= ENGINE_SECONDS:
                    looked = monotonic()
                    if await asyncio.to_thread(self._look):
                        following.cancel()
                        following = asyncio.create_task(self._follow())
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            following.cancel()

    def _look(self) -> bool:
        """Look for the engine; return whether another log has taken the place of this one."""
        engine: Engine | None = None
        is_another = False
        with suppress(OAutomError):
            engine = self._lookout.engine()
            log, seq = self._client.log_id, self._client.seq
            is_another = log != self.log or seq < self.position
            if is_another:
                self.log = log
                self._events.clear()
                self.position = self._floor = seq
        if is_another or self._state_of(engine) != self._state_of(self.engine):
            self.engine = engine
            self.generation += 1
            self._loop_wake()
        return is_another

    @staticmethod
    def _state_of(engine: Engine | None) -> object:
        return None if engine is None else (engine.state, engine.pid)

    def _loop_wake(self) -> None:
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._wake)

    async def _follow(self) -> None:
        """Take what has come, many events at once: a busy engine is not asked for each of them."""
        while True:
            new = await asyncio.to_thread(self._read)
            if new:
                if len(self._events) + len(new) > KEPT:
                    dropped = (*self._events, *new)[-KEPT - 1]
                    self._floor = dropped.seq
                self._events.extend(new)
                self.position = new[-1].seq
                self._wake()
            if len(new) < KEPT:
                await asyncio.sleep(LOOK_SECONDS)

    def _read(self) -> list[Told]:
        with suppress(OAutomError):  # there is no log now, or it cannot be read
            # Of another log in its place, nothing is taken before `_look` has noticed.
            if self._client.log_id == self.log and self._client.seq > self.position:
                return [told(each) for each in self._client.events(self.position, limit=KEPT)]
        return []

    async def after(self, position: int, vect: str | None) -> tuple[list[Told], int]:
        """Return the events after a number that are there, some at a time, and up to where."""
        if position < self._floor:
            return await asyncio.to_thread(self._behind, position, vect, self._floor)
        new: list[Told] = []
        for event in self._events if position < self.position else ():
            if event.seq > position:
                position = event.seq
                if vect is None or event.vect == vect:
                    new.append(event)
                    if len(new) == BATCH:
                        break
        return new, position

    def _behind(self, position: int, vect: str | None, upto: int) -> tuple[list[Told], int]:
        try:
            events = self._client.events(position, vect, BATCH)
        except OAutomError:  # the run is gone
            return [], upto
        found = [told(each) for each in events if each.seq <= upto]
        return found, found[-1].seq if len(found) == BATCH else upto


def is_server_ending() -> bool:
    """Whether the server that runs this has been told to end.

    An app that is mounted in another one is not told by its server, which waits for all streams
    before it ends. uvicorn's own flag is found by the handler that it has for SIGTERM.
    """
    return bool(getattr(_server(), "should_exit", False))


def _server() -> object:
    handler = signal.getsignal(signal.SIGTERM)
    server = getattr(handler, "__self__", None)
    return server if hasattr(server, "should_exit") else None


class Stream:
    """One stream: an ASGI app that answers one request.

    Args:
        feed: What it gives.
        after: The number of the event after which to begin; None for now.
        vect: The id of the only run wanted; None for all.
        watched: A step and the number of its newest attempt, where it is to be told that this has
            written more.
        text_of: Returns what an attempt of a step has written so far.
        is_bounded: Whether it ends by itself, since nobody tells when the server ends.
    """

    def __init__(
        self,
        feed: Feed,
        after: int | None,
        vect: str | None,
        watched: tuple[str, int] | None,
        text_of: Callable[[str, int], str],
        *,
        is_bounded: bool,
    ) -> None:
        self._feed = feed
        self._after = after
        self._vect = vect
        self._watched = watched
        self._text_of = text_of
        self._bound = BOUND_SECONDS if is_bounded and _server() is None else float("inf")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer the request."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        headers += [(b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        wake = asyncio.Event()
        gone = asyncio.create_task(_gone(receive, wake))
        try:
            await self._feed.enter(wake)
            async for text in self._messages(wake, gone):
                await send({"type": "http.response.body", "body": text, "more_body": True})
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})
        except OSError:  # the viewer is gone
            pass
        finally:
            self._feed.leave(wake)
            gone.cancel()

    async def _messages(
        self, wake: asyncio.Event, gone: asyncio.Task[None]
    ) -> AsyncIterator[bytes]:
        feed, begun = self._feed, monotonic()
        position = feed.position if self._after is None else min(self._after, feed.position)
        generation, log, written = feed.generation, feed.log, -1
        yield b"retry: 1000\nevent: hello\ndata: {}\n\n"
        while not feed.is_over and not gone.done() and monotonic() - begun < self._bound:
            wake.clear()
            if generation != feed.generation:
                generation = feed.generation
                is_another, log = log != feed.log, feed.log
                position = feed.position if is_another else min(position, feed.position)
                yield b"event: engine\ndata: {}\n\n"
            new, position = await feed.after(position, self._vect)
            if new:
                yield b"".join(each.text for each in new)
            if position < feed.position:
                continue
            self._heed(new)
            if self._watched is not None:
                before, written = written, await asyncio.to_thread(self._size)
                if before not in (-1, written):
                    yield b"event: text\ndata: {}\n\n"
            if not await self._woken(wake, begun):
                yield b": alive\n\n"

    def _heed(self, events: list[Told]) -> None:
        """Watch the attempt that has begun, of a step that is watched."""
        for event in events:
            if self._watched is not None and self._watched[0] == event.step and event.attempt:
                self._watched = event.step, event.attempt

    def _size(self) -> int:
        with suppress(OAutomError):
            return len(self._text_of(*(self._watched or ("", 0))))
        return -1

    async def _woken(self, wake: asyncio.Event, begun: float) -> bool:
        seconds = ALIVE_SECONDS if self._watched is None else 4 * LOOK_SECONDS
        left = max(0.0, self._bound - (monotonic() - begun))
        with suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), min(seconds, left))
            return True
        return self._watched is not None


async def _gone(receive: Any, wake: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    wake.set()
