"""Where boxes and lines are: with the engine, and without it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oautom.pictures.layout import GAP_Y, Layout, layout, spread
from tests.corpus.graphs import HAS_CORPUS, NO_CORPUS, sample, shared, upstreams_of

Upstreams = Mapping[str, Sequence[str]]

each_way = pytest.mark.parametrize("plain", [False, True], ids=["fast-sugiyama", "by depth"])


def laid_out(upstreams: Upstreams, *, plain: bool) -> Layout:
    sizes = {name: (70.0 + 13 * (i % 7), 46.0) for i, name in enumerate(upstreams)}
    return layout(upstreams, sizes, plain=plain)


def check(upstreams: Upstreams, *, plain: bool) -> Layout:
    """Check that boxes and lines are all there, in the frame, and in nobody's way."""
    found = laid_out(upstreams, plain=plain)
    assert found.boxes.keys() == upstreams.keys()
    check_boxes(found)
    check_lines(found)
    check_lanes(found)
    assert edges_in(found) == {(up, name) for name in upstreams for up in upstreams[name]}
    return found


def check_boxes(found: Layout) -> None:
    columns: dict[float, list[tuple[float, float, float]]] = {}
    for box in found.boxes.values():
        assert box.x >= 0
        assert box.y > -1e-6
        assert box.x + box.width <= found.width + 1e-6
        assert box.y + box.height <= found.height + 1e-6
        columns.setdefault(box.x, []).append((box.y, box.height, box.width))
    right = -1.0
    for x, column in sorted(columns.items()):
        assert x > right, "two columns overlap"
        right = x + max(width for _, _, width in column)
        column.sort()
        for (y, height, _), (below, _, _) in pairwise(column):
            assert below >= y + height + GAP_Y - 1e-6, "two boxes overlap"


def check_lines(found: Layout) -> None:
    """Check each piece of each line: none is inside a box."""
    columns: dict[float, list[tuple[float, float, float]]] = {}
    for box in found.boxes.values():
        columns.setdefault(box.x, []).append((box.width, box.y, box.y + box.height))
    for line in found.lines:
        for (x, y), (to_x, to_y) in pairwise(line.points):
            left, right, top, bottom = min(x, to_x), max(x, to_x), min(y, to_y), max(y, to_y)
            for begins, column in columns.items():
                if right <= begins + 1e-6 or left >= begins + column[0][0] - 1e-6:
                    continue  # it is beside the column
                assert y == to_y, "a line is bent within a column"
                for _, above, below in column:
                    assert bottom <= above or top >= below, f"{line} goes through a box"
        assert all(x >= 0 for x, _ in line.points)
        assert all(y >= -1e-6 for _, y in line.points)


def check_lanes(found: Layout) -> None:
    """Check that lines that pass a column beside each other can be told apart."""
    lanes: dict[tuple[float, float], list[float]] = {}
    for line in found.lines:
        if any(x == to_x for (x, _), (to_x, _) in pairwise(line.points)):
            continue  # above all boxes, where lines share lanes
        for (x, y), (to_x, _) in list(pairwise(line.points))[1::2]:
            lanes.setdefault((x, to_x), []).append(y)
    for places in lanes.values():
        places.sort()
        assert all(below - above > 5 for above, below in pairwise(places)), "lines on each other"


def edges_in(found: Layout) -> set[tuple[str | int, str | int]]:
    """Return which step leads to which, directly or through a junction."""
    from_junction: dict[str | int, list[str | int]] = {}
    for line in found.lines:
        if isinstance(line.tail, int):
            from_junction.setdefault(line.tail, []).append(line.head)
    return {
        (line.tail, head)
        for line in found.lines
        if isinstance(line.tail, str)
        for head in from_junction.get(line.head, [line.head])
    }


@st.composite
def graphs(draw: st.DrawFn, *, circles: bool = False) -> Upstreams:
    count = draw(st.integers(1, 14))
    names = [f"s{i}" for i in range(count)]
    pairs = [(i, j) for j in range(count) for i in range(count if circles else j) if i != j]
    chosen = (
        draw(st.lists(st.sampled_from(pairs), max_size=3 * count, unique=True)) if pairs else []
    )
    ups: dict[str, list[str]] = {name: [] for name in names}
    for i, j in chosen:
        ups[names[j]].append(names[i])
    order = draw(st.permutations(names))
    return {name: ups[name] for name in order}


@each_way
@settings(max_examples=60, deadline=None)
@given(upstreams=graphs())
def test_no_line_goes_through_a_box(plain, upstreams):
    check(upstreams, plain=plain)


@each_way
@settings(max_examples=30, deadline=None)
@given(upstreams=graphs(circles=True))
def test_a_circle_is_drawn_too(plain, upstreams):
    check(upstreams, plain=plain)


def drawn_by_chance(count: int, most: int, span: int) -> Upstreams:
    chance = random.Random(count)
    return {
        f"s{i}": sorted(
            {f"s{max(0, i - chance.randint(1, span))}" for _ in range(chance.randint(0, most))}
        )
        if i
        else []
        for i in range(count)
    }


SHAPES: dict[str, Upstreams] = {
    "nothing": {},
    "alone": {f"s{i}": [] for i in range(50)},
    "chain": {f"s{i}": [f"s{i - 1}"] if i else [] for i in range(300)},
    "fan": {"s": [], **{f"s{i}": ["s"] for i in range(200)}},
    "all to all": {
        **{f"a{i}": [] for i in range(60)},
        **{f"b{i}": [f"a{j}" for j in range(60)] for i in range(60)},
    },
    "all before": {f"s{i}": [f"s{j}" for j in range(i)] for i in range(60)},
    "short cuts": {f"s{i}": [f"s{i - 1}", "s0"][: min(i, 2)] for i in range(200)},
    "by chance": drawn_by_chance(300, 3, 300),
    "by chance, near": drawn_by_chance(300, 2, 20),
}


@each_way
@pytest.mark.parametrize("name", SHAPES)
def test_no_line_goes_through_a_box_of_a_large_graph(plain, name):
    check(SHAPES[name], plain=plain)


@each_way
@pytest.mark.parametrize("kind", ["airflow_dags", "ci_needs", "montage_like", "pathological"])
def test_no_line_goes_through_a_box_of_a_graph_from_elsewhere(plain, kind):
    for graph in sample(kind):
        upstreams = upstreams_of(graph)
        check(
            {name: [up for up in ups if up != name] for name, ups in upstreams.items()}, plain=plain
        )


@pytest.mark.skipif(not HAS_CORPUS, reason=NO_CORPUS)
@pytest.mark.parametrize("kind", ["airflow_dags", "ci_needs", "graphlib", "pathological"])
def test_no_line_goes_through_a_box_of_the_shared_corpus(kind):
    for graph in shared(kind):
        upstreams = upstreams_of(graph)
        if len(upstreams) <= 120:
            check(
                {name: [up for up in ups if up != name] for name, ups in upstreams.items()},
                plain=len(upstreams) % 2 == 0,
            )


@each_way
@pytest.mark.parametrize("name", SHAPES)
def test_the_lanes_of_lines_are_a_few_for_each_step(plain, name):
    """So the time for a graph with many long lines does not grow with all that they pass."""
    upstreams = SHAPES[name]
    points = sum(len(line.points) for line in laid_out(upstreams, plain=plain).lines)
    edges = sum(map(len, upstreams.values()))
    assert points <= 6 * edges + 12 * len(upstreams) + 400


def test_many_lines_to_many_steps_are_joined():
    found = laid_out(SHAPES["all to all"], plain=True)
    assert len(found.lines) == 120


def test_without_the_engine_a_graph_is_laid_out_by_depth(monkeypatch):
    upstreams = SHAPES["by chance"]
    by_depth = laid_out(upstreams, plain=True)
    monkeypatch.setitem(sys.modules, "fast_sugiyama", None)
    assert laid_out(upstreams, plain=False) == by_depth


PROGRAM = """
import json, sys
from oautom.pictures.layout import layout
for upstreams in json.load(sys.stdin):
    sizes = dict.fromkeys(upstreams, (90.0, 40.0))
    print(*(layout(upstreams, sizes, plain=plain) for plain in (False, True)))
"""


def test_the_same_graph_has_the_same_layout_in_every_process():
    def printed(seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PYTHONHASHSEED": seed},
            input=json.dumps([SHAPES["by chance"], SHAPES["short cuts"], SHAPES["all to all"]]),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    first = printed("1")
    assert first.count("Layout(") == 6
    assert printed("2") == first


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(numbers(-1e3, 1e3), numbers(1, 50)), max_size=12))
def test_what_is_spread_does_not_overlap_and_stays_in_order(things: list[tuple[float, float]]):
    goals, sizes = [goal for goal, _ in things], [size for _, size in things]
    places = spread(goals, sizes)
    for i in range(len(places) - 1):
        assert places[i + 1] - places[i] >= (sizes[i] + sizes[i + 1]) / 2 - 1e-6


def test_what_has_room_is_where_it_wants_to_be():
    assert spread([0, 10, 30], [4, 4, 4]) == [0, 10, 30]
    assert spread([0, 0], [4, 4]) == [-2, 2]
