"""The event: a fact that has happened. Pure data, immutable."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import chain
from operator import is_
from types import MappingProxyType
from typing import Any, Final

import msgspec

from oautom.machine.tables import LOSSES, PLAN_EVENTS

_CONTAINERS: Final = frozenset({list, dict, tuple, MappingProxyType})

NO_DATA: Final[Mapping[str, Any]] = MappingProxyType({})
NO_OUTPUT: Final[Mapping[str, Any]] = MappingProxyType({"output": None})
"""The data of most ends of steps; shared, which saves 230 bytes a step."""


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One transition of one step or Vect, as it stands in the log.

    Attributes:
        seq: Number in its log, dense, from 1: the order in which things happened.
        time: Aware, in UTC; for people to read. Order is by `seq`.
        flow: Name of the flow.
        vect: Id of the Vect; of an event of a plan, the id that the Vect would have had.
        step: Name of the step, or None for an event of the Vect itself.
        attempt: Number of the attempt that it belongs to, from 1; None if it belongs to none.
        name: The name of the event: `step.started`, `vect.failed`, ...
        source: State before; None for `vect.created`, before which there is nothing, and for events
            of plans.
        dest: State after.
        data: The facts that rebuild the state: the output, the error, the graph. Read-only.
    """

    seq: int
    time: datetime
    flow: str
    vect: str
    step: str | None
    attempt: int | None
    name: str
    source: str | None
    dest: str
    data: Mapping[str, Any]

    def __reduce__(self) -> tuple[object, ...]:
        """Travel by value: a read-only view cannot be pickled."""
        values = {field: getattr(self, field) for field in self.__struct_fields__}
        data = {
            key: dict(value) if isinstance(value, MappingProxyType) else value
            for key, value in self.data.items()
        }
        return _revive, (values | {"data": data},)


def is_answer(event: Event) -> bool:
    """Whether the event is the answer of an attempt; a rule skips a step only before its start."""
    is_skip = event.name == "step.skipped" and event.attempt is not None
    return is_skip or event.name in ("step.succeeded", "step.failed", "step.retried")


def is_loss(event: Event) -> bool:
    """Whether an attempt ends since its work was lost; a recovery interrupts without a reason."""
    return event.name in LOSSES and "reason" in event.data


def is_of_plan(event: Event) -> bool:
    """Whether an event belongs to a plan, and so to no Vect, whatever its `vect` is."""
    return event.name in PLAN_EVENTS


def planned_time(event: Event) -> tuple[str, datetime] | None:
    """Return the plan of an event, and the time that the plan has dealt with, if any."""
    plan, time = event.data.get("plan"), instant_of(event.data.get("planned"))
    return (plan, time) if isinstance(plan, str) and time is not None else None


def own_copy(event: Event) -> Event:
    """Return an event with data of its own: changes of the data have no effect elsewhere.

    Lists and dictionaries are new ones, at any depth. All other objects stay the same: they are
    immutable, or, in memory only, objects of the user's. An event without lists and dictionaries is
    returned itself, so that most events cost next to nothing.
    """
    data = event.data
    if type(data) is MappingProxyType and _holds_nothing_open(data):
        return event
    own = _Copies().of(data)
    if type(own) is dict:
        own = MappingProxyType(own)
    return event if own is data else msgspec.structs.replace(event, data=own)


def _holds_nothing_open(value: Any) -> bool:
    """Whether a quick check shows it: no containers, or a graph, which is made of tuples."""
    parts = value if type(value) is tuple else value.values()
    kinds = set(map(type, parts))
    if kinds == {tuple}:
        kinds = set(map(type, chain.from_iterable(parts)))
    return kinds.isdisjoint(_CONTAINERS)


class _Copies:
    """Copies of containers, one for each: an object in two places is one object in the copy, too.

    Lists and dictionaries are filled from a stack, so that they may be nested deeply; each is
    first copied in one piece, since a step may be changing it on another thread.
    """

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}
        self._originals: list[object] = []  # none may go while its id counts
        self._unfilled: list[list[Any] | dict[Any, Any]] = []

    def of(self, value: Any) -> Any:
        copy = self._begun(value)
        while self._unfilled:
            each = self._unfilled.pop()
            parts = enumerate(each) if type(each) is list else list(each.items())  # type: ignore[union-attr]
            for key, part in parts:
                if type(part) in _CONTAINERS:
                    each[key] = self._begun(part)
        return copy

    def _begun(self, value: Any) -> Any:
        """Return the copy of a container, which may still have to be filled."""
        kind = type(value)
        if kind not in _CONTAINERS:
            return value
        copy = self._copies.get(id(value))
        if copy is None:
            if kind is list or kind is dict:
                copy = value.copy()
                self._unfilled.append(copy)
            else:
                copy = self._frozen(value)
            self._copies[id(value)] = copy
            self._originals.append(value)
        return copy

    def _frozen(self, value: Any) -> Any:
        """Return a copy of an immutable container; itself, if nothing in it can be changed."""
        if _holds_nothing_open(value):
            return value
        if type(value) is tuple:
            parts = tuple(map(self._begun, value))
            return value if all(map(is_, parts, value)) else parts
        own = {key: self._begun(part) for key, part in value.copy().items()}
        is_same = all(own[key] is part for key, part in value.items())
        return value if is_same else MappingProxyType(own)


def _revive(values: dict[str, Any]) -> Event:
    return Event(**values | {"data": MappingProxyType(values["data"])})


def stamp(time: datetime) -> str:
    """Return a time in the form of the id of a planned Vect: `2026-11-24T02:00:00Z`."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def instant_of(text: object) -> datetime | None:
    """Return the time that `stamp` has written, or None if the text has another form."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time if time is not None and stamp(time) == text else None
