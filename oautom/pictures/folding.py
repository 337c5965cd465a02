"""Which steps share a box, so that a picture of ten thousand steps has less than a hundred. Pure.

The items of a map share the box of the map. If the rest is still too much, steps share a box that
wait for the same boxes, and run the same flow if they run one: large groups first, smaller ones
only where it is needed. Then steps of the same depth share one, then those of neighbouring depths.
Lines that others imply are left out then. Steps that have failed, or that run, have a box of their
own, as long as these are not too many.

Every step is in exactly one box, and no two boxes wait for each other: a fold has steps of one
depth, or all steps of some depths that follow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Final, NamedTuple

from oautom.pictures.layout import depths
from oautom.pictures.nodes import Node

BOXES: Final = 80
"""How many boxes a picture has at most, if no other limit is given."""
_HOT: Final = {"failed": 0, "up_for_retry": 1, "running": 2}
_LEAST: Final = (8, 4, 2)
_LINES_OF_A_BOX: Final = 8
"""How many lines there may be for each box before steps share boxes."""
_FEWER_LINES: Final = 2
"""How many there may be then."""


class Fold(NamedTuple):
    """A box: one step, or several.

    Attributes:
        name: The name of the step or the map; of other steps that share a box, that of the first.
        members: The steps in it, in the order of declaration.
        upstreams: The names of the boxes that it waits for.
        node: The step, or the map; None for other steps that share a box.
    """

    name: str
    members: tuple[Node, ...]
    upstreams: tuple[str, ...]
    node: Node | None


def folded(nodes: Sequence[Node], limit: int | None = BOXES) -> list[Fold]:
    """Return the boxes of a picture, in the order of the first step in each.

    Args:
        nodes: The steps, in the order of declaration.
        limit: How many boxes there may be; None for a box for each step.
    """
    if limit is None:
        return _boxes(nodes, {node.name: node.name for node in nodes})
    folding = _Folding(nodes, limit)
    found = _boxes(nodes, folding.by_map())
    if len(found) <= limit and _line_count(found) <= _LINES_OF_A_BOX * limit:
        return found
    ways: list[Callable[[], dict[str, str]]]
    ways = [partial(folding.by_likeness, least) for least in _LEAST]
    ways += [partial(folding.by_depth, 1 << i) for i in range(folding.deepest.bit_length() + 1)]
    for way in ways:
        found = _boxes(nodes, way())
        if len(found) <= limit:
            found, columns = _reduced(found)
            if columns <= limit // 2 + 1 and _line_count(found) <= _FEWER_LINES * limit:
                break
    return found


def _line_count(folds: Sequence[Fold]) -> int:
    return sum(len(fold.upstreams) for fold in folds)


def _reduced(folds: list[Fold]) -> tuple[list[Fold], int]:
    """Leave lines out that others imply, and count the columns.

    Between boxes of many steps there is nearly always some line; which box comes after which is
    what is left to see.
    """
    place = {fold.name: i for i, fold in enumerate(folds)}
    edges = [(place[up], i) for i, fold in enumerate(folds) for up in fold.upstreams]
    depth, back = depths(len(folds), edges)
    before = [0] * len(folds)  # for each box a bit for each box that comes before it
    kept = [fold.upstreams for fold in folds]
    for i in sorted(range(len(folds)), key=depth.__getitem__):
        ups = [place[up] for up in folds[i].upstreams if (place[up], i) not in back]
        implied = 0
        for up in ups:
            implied |= before[up]
            before[i] |= before[up] | 1 << up
        kept[i] = tuple(up for up in folds[i].upstreams if not implied >> place[up] & 1)
    reduced = [fold._replace(upstreams=ups) for fold, ups in zip(folds, kept, strict=True)]
    return reduced, max(depth) + 1


class _Folding:
    """The ways to fold a graph; each returns the name of the box of each step."""

    def __init__(self, nodes: Sequence[Node], limit: int) -> None:
        names = {node.name for node in nodes}
        self._items = {n.name: n.part_of for n in nodes if n.part_of in names and n.part_of}
        self._steps = {node.name: node for node in nodes if node.name not in self._items}
        place = {name: i for i, name in enumerate(self._steps)}
        edges = [
            (place[up], i)
            for i, node in enumerate(self._steps.values())
            for up in node.upstreams
            if up in place and up != node.name
        ]
        found, _ = depths(len(place), edges)
        self._depth = dict(zip(self._steps, found, strict=True))
        self.deepest = max(found, default=0)
        hot = sorted((n for n in nodes if n.state in _HOT), key=lambda n: _HOT[str(n.state)])
        self._hot = {n.name for n in [n for n in hot if n.name in place][: limit // 4]}
        self._hot_items = {n.name for n in [n for n in hot if n.name not in place][: limit // 8]}

    def by_map(self) -> dict[str, str]:
        """Fold the items of each map only."""
        return self._with_items({name: name for name in self._steps})

    def by_likeness(self, least: int) -> dict[str, str]:
        """Fold at least so many steps that wait for the same boxes, and run the same flow."""
        box = {name: name for name in self._steps}
        for level in self._levels():
            groups: dict[Hashable, list[str]] = {}
            for name in level:
                node = self._steps[name]
                ups = frozenset(box[up] for up in node.upstreams if up in box)
                groups.setdefault((node.runs, ups), []).append(name)
            for group in groups.values():
                if len(group) >= least:
                    box.update(dict.fromkeys(group, group[0]))
        return self._with_items(box)

    def by_depth(self, wide: int) -> dict[str, str]:
        """Fold so many depths that follow each other; one with a hot step stands for itself."""
        box = {name: name for name in self._steps}
        hot = {self._depth[name] for name in self._hot}
        run: list[str] = []
        length = 0
        for depth, level in enumerate(self._levels()):
            if length == wide or depth in hot or depth - 1 in hot:
                run, length = [], 0
            run += level
            length += 1
            box.update(dict.fromkeys(level, run[0]) if run else {})
        return self._with_items(box)

    def _levels(self) -> list[list[str]]:
        """Return the steps of each depth that may share a box."""
        levels: list[list[str]] = [[] for _ in range(self.deepest + 1)]
        for name in self._steps:
            if name not in self._hot:
                levels[self._depth[name]].append(name)
        return levels

    def _with_items(self, box: dict[str, str]) -> dict[str, str]:
        for name, part_of in self._items.items():
            box[name] = name if name in self._hot_items else box[part_of]
        return box


def _boxes(nodes: Sequence[Node], box: dict[str, str]) -> list[Fold]:
    members: dict[str, list[Node]] = {}
    upstreams: dict[str, dict[str, None]] = {}
    for node in nodes:
        name = box[node.name]
        members.setdefault(name, []).append(node)
        ups = upstreams.setdefault(name, {})
        ups.update(dict.fromkeys(box[up] for up in node.upstreams if box.get(up, name) != name))
    return [
        Fold(name, tuple(inside), tuple(upstreams[name]), _owner(inside))
        for name, inside in members.items()
    ]


def _owner(inside: list[Node]) -> Node | None:
    """Return the step that a box is of: its only one, or the map of all others in it."""
    first = inside[0]
    return first if all(node.part_of == first.name for node in inside[1:]) else None
