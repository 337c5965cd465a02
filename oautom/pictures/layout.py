"""Where the boxes and lines of a graph are: columns from left to right. Pure.

Each step stands in a column to the right of all steps that it waits for. A line that passes a
column has a lane of its own there, as a box has; between two columns there are no boxes. So no line
crosses a box, whatever engine chooses columns and order: `fast-sugiyama`, where it is installed, or
`_by_depth` of this module. Lines that would need too many lanes, and those of a circle, go above
all boxes.

The same graph has the same layout in every process: names are numbered as they are declared, and no
set of text is walked.

Source: K. Sugiyama, S. Tagawa, M. Toda, "Methods for visual understanding of hierarchical system
structures", 1981.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

Point = tuple[float, float]

GAP_X: Final = 44.0
"""The least distance of two columns."""
GAP_Y: Final = 16.0
"""The distance of two boxes of a column."""
_LANE: Final = 10.0
_LANES_ABOVE: Final = 8
_NICE_EDGES: Final = 240
"""Up to so many edges there is time for the shortest edges and the fewest crossings."""
_SWEEPS: Final = 6


class Box(NamedTuple):
    """The place of a step: `x`, `y` is its upper left corner."""

    x: float
    y: float
    width: float
    height: float


class Line(NamedTuple):
    """A line between two boxes, or between a box and a junction of many lines.

    Attributes:
        tail: The name of the upstream, or the number of a junction.
        head: The name of the step that waits for it, or the number of a junction.
        points: From the right side of the one to the left side of the other. Two points that
            follow each other have the same x, the same y, or no box between their columns.
    """

    tail: str | int
    head: str | int
    points: tuple[Point, ...]


class Layout(NamedTuple):
    """The boxes, by name, and the lines of a graph, in a frame that begins at 0, 0."""

    boxes: dict[str, Box]
    lines: list[Line]
    width: float
    height: float


Edge = tuple[int, int]


class _Ranked(NamedTuple):
    """Columns of vertices from top to bottom, where each wants to be, and edges of one column."""

    columns: list[list[int]]
    want: dict[int, float]
    edges: list[Edge]


def layout(
    upstreams: Mapping[str, Sequence[str]],
    sizes: Mapping[str, tuple[float, float]],
    *,
    plain: bool = False,
) -> Layout:
    """Return where the boxes and lines of a graph are.

    Boxes of one column are as wide as the widest of them.

    Args:
        upstreams: For each step, those that it waits for; in the order of declaration.
        sizes: Width and height of the box of each step.
        plain: Without `fast-sugiyama`, as where it is not installed.
    """
    names = list(upstreams)
    number = {name: i for i, name in enumerate(names)}
    edges = [
        (number[up], number[name])
        for name in names
        for up in dict.fromkeys(upstreams[name])
        if up in number and up != name
    ]
    count, edges = joined(len(names), edges)
    depth, back = depths(count, edges)
    through, above = _split(edges, depth, back)
    pen = _Pen([sizes[name] for name in names] + [(0.0, 0.0)] * (count - len(names)))
    for vertices, inner in _parts(count, through):
        pen.place(_ranked(vertices, inner, plain=plain))
    return pen.drawn(names, above)


def joined(count: int, edges: list[Edge]) -> tuple[int, list[Edge]]:
    """Lead the lines of many steps to many steps through one junction, where that saves lines.

    Returns:
        How many vertices there are with the junctions, and the edges.
    """
    ups: dict[int, list[int]] = {}
    for tail, head in edges:
        ups.setdefault(head, []).append(tail)
    heads: dict[tuple[int, ...], list[int]] = {}
    for head, tails in ups.items():
        heads.setdefault(tuple(sorted(tails)), []).append(head)
    kept: list[Edge] = []
    for ways, ends in heads.items():
        if len(ways) > 2 < len(ends):
            kept += [(tail, count) for tail in ways]
            kept += [(count, end) for end in ends]
            count += 1
        else:
            kept += [(tail, end) for end in ends for tail in ways]
    return count, sorted(kept)


def depths(count: int, edges: Iterable[Edge]) -> tuple[list[int], set[Edge]]:
    """Return how many edges lead to each vertex at most, and the edges that close a circle."""
    downs: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for tail, head in edges:
        downs[tail].append(head)
        waiting[head] += 1
    depth, seen, back = [0] * count, [False] * count, set()
    free = [each for each in range(count) if not waiting[each]]
    left = iter(range(count))
    done = 0
    while done < count:
        if done == len(free):  # a circle: it is cut before the first of its steps
            free.append(next(each for each in left if not seen[each] and waiting[each]))
        vertex = free[done]
        done += 1
        seen[vertex] = True
        for head in downs[vertex]:
            if seen[head]:
                back.add((vertex, head))
                continue
            depth[head] = max(depth[head], depth[vertex] + 1)
            waiting[head] -= 1
            if not waiting[head]:
                free.append(head)
        waiting[vertex] = 0
    return depth, back


def _split(edges: list[Edge], depth: list[int], back: set[Edge]) -> tuple[list[Edge], list[Edge]]:
    """Return the edges that go through the columns, and those that go above all boxes.

    The longest ones go above, if all together would need too many lanes. Each vertex has an edge
    from the column before it, so the columns stay as they are.
    """
    room = 6 * len(depth) + 200
    through: list[Edge] = []
    above: list[Edge] = []
    order = sorted(
        (each for each in edges if each not in back), key=lambda e: depth[e[1]] - depth[e[0]]
    )
    for edge in order:
        room -= depth[edge[1]] - depth[edge[0]] - 1
        (through if room >= 0 or depth[edge[1]] - depth[edge[0]] == 1 else above).append(edge)
    return sorted(through), above + sorted(back)


def _parts(count: int, edges: list[Edge]) -> Iterable[tuple[list[int], list[Edge]]]:
    """Yield the connected parts, in the order of their first vertex; what is alone comes last."""
    root = list(range(count))

    def find(vertex: int) -> int:
        while root[vertex] != vertex:
            root[vertex] = root[root[vertex]]
            vertex = root[vertex]
        return vertex

    for tail, head in edges:
        one, other = sorted((find(tail), find(head)))
        root[other] = one
    members: dict[int, list[int]] = {}
    for vertex in range(count):
        members.setdefault(find(vertex), []).append(vertex)
    inner: dict[int, list[Edge]] = {}
    for edge in edges:
        inner.setdefault(find(edge[0]), []).append(edge)
    for first, vertices in members.items():
        if first in inner:
            yield vertices, inner[first]
    alone = [first for first in members if first not in inner]
    if alone:
        yield alone, []


def _ranked(vertices: list[int], edges: list[Edge], *, plain: bool) -> _Ranked:
    if not edges:
        return _in_a_grid(vertices)
    if not plain:
        found = _by_engine(vertices, edges)
        if found is not None:
            return found
    return _by_depth(vertices, edges)


def _in_a_grid(vertices: list[int]) -> _Ranked:
    """Put steps that wait for nothing, and that nothing waits for, into a few columns."""
    wide = 1
    while wide * wide * 3 < len(vertices):
        wide += 1
    columns = [vertices[i::wide] for i in range(wide)]
    want = {vertex: float(i // wide) for i, vertex in enumerate(vertices)}
    return _Ranked(columns, want, [])


def _by_engine(vertices: list[int], edges: list[Edge]) -> _Ranked | None:
    """Have `fast-sugiyama` choose columns and order; None if it is not installed."""
    try:
        from fast_sugiyama import from_edges  # noqa: PLC0415 - an extra, only needed here
    except ImportError:
        return None
    place = {vertex: i for i, vertex in enumerate(vertices)}
    is_small = len(edges) <= _NICE_EDGES
    ((positions, _, _, pieces),) = from_edges(
        [(place[tail], place[head]) for tail, head in edges],
        vertex_spacing=1,
        minimum_length=1,
        dummy_vertices=True,
        dummy_size=0.2,
        ranking_type="minimize" if is_small else "up",
        crossing_minimization="median",
        transpose=is_small,
        check_layout=False,
    )

    # Vertices are numbered from 0, as they were given, and lanes by the numbers after them.
    def own(found: int) -> int:
        return vertices[found] if found < len(vertices) else len(vertices) - 1 - found

    columns: dict[float, list[int]] = {}
    want = {own(int(found)): across for found, (across, _) in positions}
    for found, (_, along) in sorted(positions, key=lambda each: each[1]):
        columns.setdefault(-along, []).append(own(int(found)))
    order = [columns[along] for along in sorted(columns)]
    return _Ranked(
        order, want, sorted((own(int(tail)), own(int(head))) for tail, head in pieces or ())
    )


def _by_depth(vertices: list[int], edges: list[Edge]) -> _Ranked:
    """Choose columns by depth, and the order in them by the middle of what is beside them."""
    place = {vertex: i for i, vertex in enumerate(vertices)}
    depth, _ = depths(len(vertices), [(place[tail], place[head]) for tail, head in edges])
    columns: list[list[int]] = [[] for _ in range(max(depth) + 1)]
    for vertex in vertices:
        columns[depth[place[vertex]]].append(vertex)
    pieces: list[Edge] = []
    lanes = 0
    for tail, head in edges:
        last = tail
        for column in columns[depth[place[tail]] + 1 : depth[place[head]]]:
            lanes += 1
            column.append(-lanes)
            pieces.append((last, -lanes))
            last = -lanes
        pieces.append((last, head))
    want = _swept(columns, pieces)
    return _Ranked(columns, want, pieces)


def _swept(columns: list[list[int]], pieces: list[Edge]) -> dict[int, float]:
    """Sort each column by what is beside it, to and fro; return where each vertex wants to be."""
    beside: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
    for tail, head in pieces:
        beside[0].setdefault(head, []).append(tail)
        beside[1].setdefault(tail, []).append(head)
    want = {each: float(i) for column in columns for i, each in enumerate(column)}
    for sweep in range(_SWEEPS):
        near = beside[sweep % 2]
        for column in columns[1:] if sweep % 2 == 0 else columns[-2::-1]:
            goal = {
                each: _middle([want[other] for other in near.get(each, (each,))]) for each in column
            }
            column.sort(key=goal.__getitem__)
            sizes = [1.0 if each >= 0 else 0.5 for each in column]
            want.update(zip(column, spread([goal[each] for each in column], sizes), strict=True))
    return want


def _middle(places: list[float]) -> float:
    return sum(places) / len(places)


def spread(goals: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Return the places of things in a row that do not overlap, as near to their goals as can be.

    Args:
        goals: Where the middle of each wants to be; they stay in this order.
        sizes: The room that each needs.

    Source: R. E. Barlow et al., "Statistical inference under order restrictions", 1972: pool
    adjacent violators.
    """
    pools: list[tuple[float, int]] = []  # mean of the goals, and how many things
    offsets, end = [], 0.0
    for goal, size in zip(goals, sizes, strict=True):
        offsets.append(end + size / 2)
        end += size
        mean, count = goal - offsets[-1], 1
        while pools and pools[-1][0] >= mean:
            other, more = pools.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        pools.append((mean, count))
    means = (mean for mean, count in pools for _ in range(count))
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


class _Pen:
    """Places one part after the other, each below those before it."""

    def __init__(self, sizes: list[tuple[float, float]]) -> None:
        self._sizes = sizes
        self._slot = max(height for _, height in sizes) + GAP_Y if sizes else 0.0
        self._bottom = 0.0
        self._lanes = 0
        self._middle: dict[int, float] = {}  # the y of each vertex
        self._column: dict[int, int] = {}
        self._wide: list[float] = []  # each column
        self._pieces: list[Edge] = []

    def place(self, part: _Ranked) -> None:
        """Give each vertex of a part its place in its column."""
        lanes = self._lanes  # of the parts before it; lanes are numbered from -1 in each
        places: dict[int, float] = {}
        top = bottom = None
        for at, column in enumerate(part.columns):
            goals = [part.want[vertex] * self._slot for vertex in column]
            found = spread(goals, [self._height(vertex) or _LANE for vertex in column])
            first = found[0] - max(0.0, self._height(column[0]) - GAP_Y) / 2
            last = found[-1] + max(0.0, self._height(column[-1]) - GAP_Y) / 2
            top = first if top is None else min(top, first)
            bottom = last if bottom is None else max(bottom, last)
            if at == len(self._wide):
                self._wide.append(0.0)
            for vertex, y in zip(column, found, strict=True):
                own = vertex if vertex >= 0 else vertex - lanes
                places[own], self._column[own] = y, at
                self._lanes += vertex < 0
                self._wide[at] = max(self._wide[at], self._sizes[vertex][0] if vertex >= 0 else 0.0)
        shift = self._bottom - (top or 0.0)
        self._bottom = shift + (bottom or 0.0) + GAP_Y
        self._middle.update((vertex, y + shift) for vertex, y in places.items())
        self._pieces += [tuple(v if v >= 0 else v - lanes for v in edge) for edge in part.edges]  # type: ignore[misc] # still two

    def _height(self, vertex: int) -> float:
        """Return the height of a box with what is left free below it; 0 of a lane or junction."""
        height = self._sizes[vertex][1] if vertex >= 0 else 0.0
        return height + GAP_Y if height else 0.0

    def drawn(self, names: list[str], above: list[Edge]) -> Layout:
        """Return the layout of all parts, with these lines above them."""
        lane = {
            tail: i % _LANES_ABOVE for i, tail in enumerate(sorted({tail for tail, _ in above}))
        }
        roof = _LANE * (1 + max(lane.values())) if lane else 0.0
        margin = GAP_X if lane else 0.0
        left, width = self._lefts(margin)
        right = [x + wide for x, wide in zip(left, self._wide, strict=True)]
        y = {vertex: middle + roof for vertex, middle in self._middle.items()}
        label: dict[int, str | int] = {i: i for i in y} | dict(enumerate(names))
        boxes = {}
        for vertex, name in enumerate(names):
            at, height = self._column[vertex], self._sizes[vertex][1]
            boxes[name] = Box(left[at], y[vertex] - height / 2, self._wide[at], height)
        lines = [
            Line(label[chain[0]], label[chain[-1]], self._along(chain, left, right, y))
            for chain in self._chains()
        ]
        for tail, head in above:
            out = right[self._column[tail]] + 8.0 + 3.0 * lane[tail]
            back = left[self._column[head]] - 8.0 - 3.0 * lane[tail]
            up = roof - _LANE * (lane[tail] + 1)
            start, end = (right[self._column[tail]], y[tail]), (left[self._column[head]], y[head])
            bend = (start, (out, y[tail]), (out, up), (back, up), (back, y[head]), end)
            lines.append(Line(label[tail], label[head], bend))
        return Layout(boxes, lines, width + margin, max(0.0, self._bottom + roof - GAP_Y))

    def _lefts(self, x: float) -> tuple[list[float], float]:
        """Return where each column begins, and where the last one ends."""
        between = [0] * len(self._wide)
        for tail, _ in self._pieces:
            between[self._column[tail]] += 1
        left = []
        for wide, lines in zip(self._wide, between, strict=True):
            left.append(x)
            x += wide + GAP_X + min(2.0 * lines, GAP_X)
        return left, left[-1] + self._wide[-1] if left else 0.0

    def _chains(self) -> Iterable[list[int]]:
        """Yield the vertices along each line, from box to box."""
        after = {tail: head for tail, head in self._pieces if tail < 0}
        for tail, head in sorted(self._pieces):
            if tail >= 0:
                chain = [tail, head]
                while chain[-1] < 0:
                    chain.append(after[chain[-1]])
                yield chain

    def _along(
        self, chain: list[int], left: list[float], right: list[float], y: dict[int, float]
    ) -> tuple[Point, ...]:
        points = [(right[self._column[chain[0]]], y[chain[0]])]
        for vertex in chain[1:-1]:
            at = self._column[vertex]
            points += [(left[at], y[vertex]), (right[at], y[vertex])]
        return (*points, (left[self._column[chain[-1]]], y[chain[-1]]))
