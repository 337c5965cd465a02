"""The instances of a map: steps that an event makes, one for each item of a list. Pure.

`oautom.engine.queue` decides which instance is next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from oautom.errors import shown
from oautom.machine.event import Event
from oautom.machine.sources import NoValueError, Step, value_at
from oautom.machine.tables import STEP_ENDS
from oautom.values.references import part_of

Instance = TypeVar("Instance", bound=Step)


def instance_name(step: str, index: int) -> str:
    """Return the name of an instance of a map."""
    return f"{step}[{index}]"


def map_of(name: str) -> str:
    """Return the name of the map of an instance; for any other step its own name."""
    return name.rpartition("[")[0] if name.endswith("]") and "[" in name else name


class Mapped(Generic[Instance]):
    """The instances of a map.

    Attributes:
        instances: One for each item, in order.
        items: The items, as in the log.
        labels: The names of the instances for people, or None for one without; empty if there are
            none at all.
        unlabelled: Why an instance has none though it should, or None.
        problem: Why there are no items, or None.
        ended: How many instances have ended.
        active: How many instances run, if there is a limit.
        shown: How many instances are committed, and so visible to readers.
    """

    __slots__ = (
        "active",
        "ended",
        "instances",
        "items",
        "labels",
        "limit",
        "problem",
        "shown",
        "unlabelled",
    )

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.instances: list[Instance] = []
        self.items: Sequence[Any] = ()
        self.labels: Sequence[str | None] = ()
        self.unlabelled: str | None = None
        self.problem: str | None = None
        self.active = self.ended = self.shown = 0

    @property
    def has_room(self) -> bool:
        """Whether one more instance may run."""
        return self.limit is None or self.active < self.limit

    @property
    def is_over(self) -> bool:
        """Whether all instances with an item have ended."""
        return self.ended >= len(self.instances)

    def hear(self, event: Event) -> None:
        """Apply an event of an instance."""
        self.ended += (event.dest in STEP_ENDS) - (event.source in STEP_ENDS)
        if self.limit is not None:
            self.active += (event.dest == "running") - (event.source == "running")

    def outputs(self) -> list[Any]:
        """Return the outputs in the order of the items."""
        return [instance.output for instance in self.instances[: len(self.items)]]

    def facts(self) -> tuple[object, ...]:
        """Return all attributes as plain values, for comparing."""
        names = [instance.name for instance in self.instances]
        told = (names, list(self.items), list(self.labels), self.unlabelled, self.problem)
        return (*told, self.active, self.ended)


def items_of(
    over: Sequence[Any], params: Mapping[str, Any], steps: Mapping[str, Step]
) -> tuple[Sequence[Any], str | None]:
    """Return the present items of a map, and why there are none.

    Args:
        over: The place of the list, as in the options of the map.
        params: The parameters of the Vect.
        steps: Its steps, by name.
    """
    try:
        value, where = value_at(over, params, steps, part_of)
    except NoValueError as error:
        return (), f"{error}, and there is no list" if error.is_whole else str(error)
    if isinstance(value, list | tuple):
        return value, None
    return (), f"over must be a list, but {where} is a {type(value).__name__}: {shown(value)}"
