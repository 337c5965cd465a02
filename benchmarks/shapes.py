"""The three graphs that are measured; imported by environments without oautom, too.

A graph is a list: for each step, the numbers of its upstreams. All engines call the same function.
"""

from __future__ import annotations

from collections.abc import Sequence

Graph = list[Sequence[int]]

KINDS = ("chain", "fan", "layers")
WIDTH = 100  # of a layer


def graph(kind: str, size: int, width: int = WIDTH) -> Graph:
    """Return a chain; a fan of one root, `size - 2` steps and one sink; or layers `width` wide."""
    if kind == "chain":
        return [(), *((i,) for i in range(size - 1))]
    if kind == "fan":
        return [(), *[(0,)] * (size - 2), range(1, size - 1)]
    above = [i - i % width - width for i in range(size)]  # where the layer before begins
    return [
        (above[i] + i % width, above[i] + (i + 1) % width) if i >= width else ()
        for i in range(size)
    ]


def sinks(graph: Graph) -> list[int]:
    """Return the steps that no other waits for."""
    return sorted(set(range(len(graph))).difference(*graph))


def nothing(*_: object) -> None:
    """Do nothing: what is measured is all the rest."""
