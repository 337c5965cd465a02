"""The event: a fact that has happened. Pure data, immutable."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

import msgspec

from oautom.schedule import instant_of
from oautom.states import PLAN_EVENTS

NO_DATA: Final[Mapping[str, Any]] = MappingProxyType({})


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One transition of one step or Vect, as it stands in the log.

    Attributes:
        seq: Number in its log, dense, from 1: the order in which things happened.
        time: Aware, in UTC; for people to read. Order is by `seq`.
        flow: Name of the flow.
        vect: Id of the Vect; of an event of a plan, the id that the Vect would have had.
        step: Name of the step, or None for an event of the Vect itself.
        attempt: Number of the attempt it belongs to, from 1; None where none is concerned.
        name: What happened: `step.started`, `vect.failed`, ...
        source: State before; None for `vect.created`, before which there is nothing, and for events
            of plans.
        dest: State after.
        data: What is needed to rebuild the state: the output, the error, the graph. Read-only.
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
    """Whether a step has ended an attempt so; a rule skips it only before it has started."""
    is_skip = event.name == "step.skipped" and event.attempt is not None
    return is_skip or event.name in ("step.succeeded", "step.failed", "step.retried")


def is_of_plan(event: Event) -> bool:
    """Whether an event is one of a plan, and so of no Vect, whatever its `vect`."""
    return event.name in PLAN_EVENTS


def planned_time(event: Event) -> tuple[str, datetime] | None:
    """Return the plan that an event tells of and the time that it has dealt with, if any."""
    plan, time = event.data.get("plan"), instant_of(event.data.get("planned"))
    return (plan, time) if isinstance(plan, str) and time is not None else None


def _revive(values: dict[str, Any]) -> Event:
    return Event(**values | {"data": MappingProxyType(values["data"])})
