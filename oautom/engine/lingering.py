"""Attempts that were asked to stop and are still at work: of this app, and of earlier ones.

The earlier apps are those of the same program, or of a dead one whose work goes on elsewhere, as on
a cluster. An attempt lingers until it has answered; meanwhile
neither its step starts again nor a step that runs its Vect as a child. A call that waits for a Vect
waits only for attempts that are sure to end. Each note here can be repeated: a tick that raises in
between is done again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import cached_property, partial
from typing import Any

from oautom.engine.messages import Over
from oautom.events.log import EventLog
from oautom.machine.commands import Key, Place
from oautom.machine.state import Hold
from oautom.processes import forked

_logger = logging.getLogger("oautom.runner")


class _Left:
    """The work of a step that goes on though its app was closed, and callbacks for its end."""

    def __init__(self) -> None:
        self.keys: set[Key] = set()
        self.holds: set[Hold] = set()  # the slots of the step
        self.wakes: list[Callable[[], None]] = []


_left: dict[tuple[str, Place], _Left] = {}  # by the log and the step
_left_lock = threading.Lock()


def _begin_anew() -> None:
    global _left_lock  # noqa: PLW0603 - another thread of the parent may have had it
    _left_lock = threading.Lock()
    _left.clear()


forked.in_child(_begin_anew)


class Lingering:
    """The attempts of one app that were asked to stop and have not answered yet.

    Args:
        log: The log of the app: a later app waits only for work of a log that outlives the program.
        put: Puts a message in the inbox; any thread.

    Attributes:
        on_over: Called with the id of the Vect and the name of a step when its last lingering
            attempt is about to be removed.
        on_less: Called with the same when fewer attempts linger, but not none, or an attempt is no
            longer waited for.
    """

    def __init__(self, log: EventLog, put: Callable[[Any], None]) -> None:
        self.on_over: Callable[[str, str], object] = _tell_nobody
        self.on_less: Callable[[str, str], object] = _tell_nobody
        self._log = log
        self._put = put
        self._keys: dict[Place, set[Key]] = {}
        self._places: dict[Key, tuple[Place, ...]] = {}
        self._adopted: set[Place] = set()
        self._promised: dict[str, set[Key]] = {}  # by the Vect

    @cached_property
    def _log_id(self) -> str | None:
        return self._log.id  # known when the log is open

    def add(self, key: Key, above: Iterable[Place]) -> None:
        """Note that an attempt was asked to stop.

        Args:
            key: The attempt.
            above: The steps that run its Vect as their child, directly or further up.
        """
        self._places[key] = (key[:2], *above)
        for place in self._places[key]:
            self._keys.setdefault(place, set()).add(key)

    def promise(self, key: Key) -> None:
        """Note that an attempt is sure to end: calls wait for it."""
        for vect, _ in self._places[key]:
            self._promised.setdefault(vect, set()).add(key)

    def end_promise(self, key: Key) -> None:
        """Note that an attempt is waited for no more."""
        for vect, _ in self._places.get(key, ()):
            keys = self._promised.get(vect, set())
            keys.discard(key)
            if not keys:
                self._promised.pop(vect, None)

    def remove(self, key: Key) -> None:
        """Note that an attempt has answered."""
        self.end_promise(key)
        for place in self._places.get(key, ()):
            keys = self._keys.get(place, set())
            (self.on_over if keys == {key} else self.on_less)(*place)
            keys.discard(key)
            if not keys:
                self._keys.pop(place, None)
        self._places.pop(key, None)

    def look(self, key: Key) -> None:
        """Check the steps that may wait for an attempt, as it is waited for no more."""
        for place in self._places.get(key, ()):
            self.on_less(*place)

    def is_promised(self, place: Place) -> bool:
        """Whether an attempt of a step, or of its child Vects, lingers and is sure to end."""
        if place[0] not in self._promised:
            return False
        return not self._promised[place[0]].isdisjoint(self._keys.get(place, ()))

    def steps_of(self, vect: str) -> set[Place]:
        """Return the steps of a Vect with a lingering attempt; also those of earlier apps."""
        left = [place for log_id, place in _left.copy() if log_id == self._log_id]
        return {place for place in (*self._keys, *left) if place[0] == vect}

    def lose(self, key: Key) -> None:
        """Note that an attempt is over; exceptions of the callbacks are logged."""
        self.end_promise(key)
        for place in self._places.pop(key, ()):
            keys = self._keys.get(place, set())
            keys.discard(key)
            if not keys:
                self._keys.pop(place, None)
            try:
                (self.on_less if keys else self.on_over)(*place)
            except Exception:
                _logger.exception(
                    "this is a bug in oautom: the work of vect '%s', step '%s' is over, and a "
                    "callback for that has raised",
                    *place,
                )

    def is_at(self, place: Place) -> bool:
        """Whether an attempt of a step lingers, of this app or an earlier one. Any thread."""
        return place in self._keys or (bool(_left) and (self._log_id or "", place) in _left)

    def is_waited_for(self, place: Place) -> bool:
        """Whether an attempt of a step lingers; if so, `on_over` or an `Over` reports its end."""
        if place in self._keys:
            return True
        if not _left:
            return False
        with _left_lock:
            left = _left.get((self._log_id or "", place))
            if left is not None:
                left.wakes.append(partial(self._put, Over(*place)))
            return left is not None

    def is_ending(self, vect: str) -> bool:
        """Whether an attempt of a Vect, or of its children, is waited for."""
        return vect in self._promised

    @property
    def is_ending_any(self) -> bool:
        """Whether any attempt is waited for."""
        return bool(self._promised)

    @property
    def has_left(self) -> bool:
        """Whether earlier apps have left anything at work. Any thread."""
        return any(log_id == self._log_id for log_id, _ in _left.copy())

    def adopt(self) -> list[tuple[Hold, Place]]:
        """Return the slots taken by work that earlier apps have left.

        An `Over` reports the end of each returned step, once.
        """
        if not _left:
            return []
        found = []
        with _left_lock:
            for (log_id, place), left in _left.items():
                if log_id == self._log_id and place not in self._adopted:
                    self._adopted.add(place)
                    left.wakes.append(partial(self._put, Over(*place)))
                    found += [(hold, place) for hold in left.holds]
        return found

    def take_in(self, key: Key, holds: Iterable[Hold], end: Future[Any]) -> None:
        """Note an attempt that an earlier program has left at work elsewhere.

        Args:
            key: The attempt.
            holds: The slots that it has.
            end: It is done when the attempt is over.
        """
        self.leave([(key, ())], lambda _: holds)
        end.add_done_callback(lambda _: self.tell_left(key))

    def leave(
        self,
        attempts: Iterable[tuple[Key, Iterable[Place]]],
        holds_of: Callable[[Place], Iterable[Hold]],
    ) -> None:
        """Note the attempts that go on though the app is closed.

        They are iterated under the lock that `tell_left` takes: none can answer in between.

        Args:
            attempts: Each attempt with the steps above it.
            holds_of: Returns the slots that a step has.
        """
        with _left_lock:
            for key, above in attempts:
                if self._log_id is None:
                    return
                for place in (key[:2], *above):
                    left = _left.setdefault((self._log_id, place), _Left())
                    left.keys.add(key)
                    left.holds.update(holds_of(place))

    def tell_left(self, key: Key) -> None:
        """Report the end of an attempt that has outlived this app to the later apps."""
        wakes: list[Callable[[], None]] = []
        with _left_lock:
            for each in [each for each, left in _left.items() if key in left.keys]:
                if each[0] == self._log_id:
                    _left[each].keys.remove(key)
                    if not _left[each].keys:
                        wakes += _left.pop(each).wakes
        for wake in wakes:
            wake()


def _tell_nobody(vect: str, step: str) -> None:
    """Do nothing at the end of an attempt."""
