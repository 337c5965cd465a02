"""`Node`: what a picture is told of a step. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple


class Node(NamedTuple):
    """A step, as a picture shows it.

    Attributes:
        name: The name of the step.
        upstreams: The names of the steps that it waits for; of an item of a map that of the map.
        state: The name of its state; None in a picture of a flow.
        kind: The name of its kind, empty for plain work; see `oautom.machine.kinds`.
        attempt: The number of its newest attempt; 0 before the first.
        part_of: The name of its map, of an instance of one.
        runs: The name of the flow that it runs, if it runs one.
        label: The label of an instance of a map, if it has one.
    """

    name: str
    upstreams: tuple[str, ...] = ()
    state: str | None = None
    kind: str = ""
    attempt: int = 0
    part_of: str | None = None
    runs: str | None = None
    label: str | None = None

    @property
    def told(self) -> str:
        """Its name, with its label."""
        return self.name if self.label is None else f"{self.name} ({self.label})"


URGENCY: Final = (
    "failed",
    "up_for_retry",
    "running",
    "upstream_failed",
    "cancelled",
    "pending",
    "success",
    "skipped",
)
"""The states of a step, those first that people look for first."""

_RANK: Final = {state: i for i, state in enumerate(URGENCY)}


def counted(states: Iterable[str]) -> dict[str, int]:
    """Return how many there are of each state, the most urgent first."""
    found = Counter(states)
    return {state: found[state] for state in sorted(found, key=urgency)}


def most_urgent(states: Iterable[str]) -> str | None:
    """Return the state of several steps together; None if they have none."""
    return min(states, key=urgency, default=None)


def urgency(state: str) -> tuple[int, str]:
    """Return the place of a state among the others, the most urgent first."""
    return _RANK.get(state, len(_RANK)), state
