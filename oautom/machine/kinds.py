"""The kinds of steps: one row for each, with all that the engine must know of it. Pure.

What a kind does besides stands once, where it is done: the instances of a map in `maps`, the child
of a flow in `oautom.engine.children`, how a step that runs is explained in `explain`. All else that
differs from kind to kind is asked here, so that one more kind is one more row.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple


class Kind(NamedTuple):
    """What the engine must know of the steps of a kind.

    Attributes:
        ended_by: What ends a step that runs: its work, which answers; a time; a person; its parts.
        needs_worker: A worker is at work while it runs. Where none is, the step needs no slot of
            the workers, and goes on when its program has died: no recovery interrupts it.
        is_tried_again: It is tried again by its retry policy, and takes the slots of its pool. A
            map is not, and takes none: its instances are, and do.
        is_hurried: The timeout of its flow holds for it, too.
        ignored: The options that have no meaning for it.
        starts_with: What its start tells, always.
        may_start_with: What its start may tell besides.
    """

    ended_by: Literal["work", "time", "person", "parts"] = "work"
    needs_worker: bool = True
    is_tried_again: bool = True
    is_hurried: bool = True
    ignored: frozenset[str] = frozenset()
    starts_with: tuple[str, ...] = ()
    may_start_with: tuple[str, ...] = ()


WORK: Final = Kind()
"""A step of no special kind: all that it does is work for a worker."""

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
            may_start_with=("problem",),
        ),
        "flow": Kind(
            needs_worker=False, ignored=frozenset({"async", "on_crash"}), starts_with=("child",)
        ),
        "wait": Kind(
            ended_by="time",
            needs_worker=False,
            is_tried_again=False,
            ignored=_UNTRIED | {"timeout"},
            may_start_with=("delay", "until", "problem"),
        ),
        "approval": Kind(
            ended_by="person",
            needs_worker=False,
            is_tried_again=False,
            is_hurried=False,
            ignored=_UNTRIED,
            starts_with=("prompt",),
            may_start_with=("timeout",),
        ),
        "file": Kind(needs_worker=False, is_tried_again=False, is_hurried=False, ignored=_UNTRIED),
    }
)


def kind_of(name: str) -> Kind:
    """Return the kind of this name; a name that is not known, as in a damaged log, is work."""
    return KINDS.get(name, WORK)
