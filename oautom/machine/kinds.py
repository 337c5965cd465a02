"""The kinds of steps: one row for each, with the facts that the engine needs about it. Pure.

The behaviour of a single kind stands in the code that does it: the instances of a map in `maps`,
the child of a flow in `oautom.engine.children`, the explanation of a running step in `explain`. All
other differences between kinds are here, so that one more kind is one more row.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple


class Kind(NamedTuple):
    """A kind of step: the facts that the engine needs about it.

    Attributes:
        ended_by: A running step is ended by its work, which answers; a time; a person; its parts;
            or by itself, at once.
        needs_worker: Whether a worker is at work while it runs. If not, the step needs no slot of
            the workers, and goes on when its program has died: no recovery interrupts it.
        is_tried_again: Whether its retry policy applies, and it takes a slot of its pool. Not so
            for a map, but for its instances.
        is_hurried: Whether the timeout of its flow applies to it, too.
        stands_by: Whether it does nothing itself while it runs, and waits for a time, a person or
            a file.
        ignored: The options that have no meaning for it.
        starts_with: The data that its start always has.
        may_start_with: The data that its start may have besides.
    """

    ended_by: Literal["work", "time", "person", "parts", "itself"] = "work"
    needs_worker: bool = True
    is_tried_again: bool = True
    is_hurried: bool = True
    stands_by: bool = False
    ignored: frozenset[str] = frozenset()
    starts_with: tuple[str, ...] = ()
    may_start_with: tuple[str, ...] = ()


WORK: Final = Kind()
"""The kind of a step that only has work for a worker."""

GIVEN: Final = "given"
"""The kind of a step that does not run in a Vect: it has the output that it is given."""

_UNTRIED: Final = frozenset({"async", "on_crash", "pool", "retry"})

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "": WORK,
        "branch": WORK,
        "map": Kind(
            ended_by="parts",
            needs_worker=False,
            is_tried_again=False,
            starts_with=("count",),
            may_start_with=("problem", "labels", "unlabelled"),
        ),
        "flow": Kind(
            needs_worker=False, ignored=frozenset({"async", "on_crash"}), starts_with=("child",)
        ),
        "wait": Kind(
            ended_by="time",
            needs_worker=False,
            is_tried_again=False,
            stands_by=True,
            ignored=_UNTRIED | {"timeout"},
            may_start_with=("delay", "until", "problem"),
        ),
        "approval": Kind(
            ended_by="person",
            needs_worker=False,
            is_tried_again=False,
            is_hurried=False,
            stands_by=True,
            ignored=_UNTRIED,
            starts_with=("prompt",),
            may_start_with=("timeout", "problem"),
        ),
        "file": Kind(
            needs_worker=False,
            is_tried_again=False,
            is_hurried=False,
            stands_by=True,
            ignored=_UNTRIED,
        ),
        GIVEN: Kind(
            ended_by="itself",
            needs_worker=False,
            is_tried_again=False,
            is_hurried=False,
            ignored=_UNTRIED | {"timeout"},
            starts_with=("source",),
        ),
    }
)


def kind_of(name: str) -> Kind:
    """Return the kind of this name; an unknown name, as in a damaged log, is work."""
    return KINDS.get(name, WORK)
