"""Which steps share a box."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oautom.machine.tables import STEP_TABLE
from oautom.pictures.folding import Fold, folded
from oautom.pictures.layout import depths
from oautom.pictures.nodes import URGENCY, Node, counted, most_urgent

STATES = sorted({state for row in STEP_TABLE for state in (row.source, row.dest)})


def by_chance(count: int, most: int, span: int, states: Sequence[str] = STATES) -> list[Node]:
    chance = random.Random(count)
    nodes = []
    for i in range(count):
        ups = {f"s{max(0, i - chance.randint(1, span))}" for _ in range(chance.randint(0, most))}
        nodes.append(Node(f"s{i}", tuple(sorted(ups)) if i else (), chance.choice(states)))
    return nodes


def mapped(count: int, state: str = "success", bad: int = 0) -> list[Node]:
    items = [
        Node(f"m[{i}]", ("m",), "failed" if i < bad else state, "", 1, "m") for i in range(count)
    ]
    return [Node("first", (), "success"), Node("m", ("first",), "running", "map", 1), *items]


def check(nodes: Sequence[Node], limit: int) -> list[Fold]:
    """Check that no step is lost or shown twice, and that boxes do not wait for each other."""
    folds = folded(nodes, limit)
    assert Counter(n for fold in folds for n in fold.members) == Counter(nodes)
    assert len(folds) <= limit
    place = {fold.name: i for i, fold in enumerate(folds)}
    assert len(place) == len(folds)
    edges = [(place[up], i) for i, fold in enumerate(folds) for up in fold.upstreams]
    assert depths(len(folds), edges)[1] == set(), "boxes wait for each other in a circle"
    for fold in folds:
        assert (fold.node is not None) == (fold.members[0] == fold.node)
        if fold.node is not None:
            assert {each.part_of for each in fold.members[1:]} <= {fold.name}
    check_order(nodes, folds)
    return folds


def check_order(nodes: Sequence[Node], folds: Sequence[Fold]) -> None:
    """Check that a box still comes after each box with an upstream of a step in it."""
    box = {node.name: fold.name for fold in folds for node in fold.members}
    before: dict[str, set[str]] = {}

    def all_before(name: str) -> set[str]:
        if name not in before:
            ups = next(fold.upstreams for fold in folds if fold.name == name)
            before[name] = set(ups).union(*(all_before(up) for up in ups))
        return before[name]

    for node in nodes:
        for up in node.upstreams:
            assert box[up] == box[node.name] or box[up] in all_before(box[node.name])


@st.composite
def runs(draw: st.DrawFn) -> list[Node]:
    count = draw(st.integers(1, 40))
    nodes: list[Node] = []
    for i in range(count):
        ups = draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else []
        kind = draw(st.sampled_from(["", "", "", "map", "flow"]))
        runs = "other" if kind == "flow" else None
        name = f"s{i}"
        state = draw(st.sampled_from(STATES))
        nodes.append(Node(name, tuple(f"s{up}" for up in ups), state, kind, 1, None, runs))
    for node in list(nodes):
        if node.kind == "map":
            for i in range(draw(st.integers(0, 4))):
                state = draw(st.sampled_from(STATES))
                nodes.append(Node(f"{node.name}[{i}]", (node.name,), state, "", 1, node.name))
    return nodes


@settings(max_examples=50, deadline=None)
@given(nodes=runs(), limit=st.integers(1, 30))
def test_every_step_is_in_exactly_one_box(nodes, limit):
    check(nodes, limit)


@pytest.mark.parametrize(
    "nodes",
    [
        by_chance(3000, 3, 200),
        by_chance(3000, 1, 3000),
        by_chance(1000, 0, 1, ["success"]),
        [Node(f"c{i}", (f"c{i - 1}",) if i else (), "success") for i in range(1000)],
        [Node(f"c{i}", (f"c{i - 1}",) if i else (), STATES[i % 8]) for i in range(1000)],
        [Node(f"t{i}", (f"t{(i - 1) // 2}",) if i else ()) for i in range(2000)],
        mapped(3000),
        mapped(3000, bad=2000),
    ],
    ids=["wide", "tree by chance", "alone", "chain", "chain of all", "tree", "map", "bad map"],
)
def test_a_large_run_has_few_boxes(nodes):
    check(nodes, 80)


def test_a_small_run_has_a_box_for_each_step():
    nodes = by_chance(60, 2, 20)
    assert [fold.members for fold in check(nodes, 80)] == [(node,) for node in nodes]


def test_all_steps_have_a_box_where_that_is_asked_for():
    nodes = [*by_chance(300, 2, 20), *mapped(300)]
    assert [fold.members for fold in folded(nodes, None)] == [(node,) for node in nodes]


def test_the_items_of_a_map_share_its_box_and_those_that_failed_have_their_own():
    folds = {fold.name: fold for fold in check(mapped(100, bad=2), 80)}
    assert list(folds) == ["first", "m", "m[0]", "m[1]"]
    assert len(folds["m"].members) == 99
    assert folds["m"].node is not None
    assert folds["m[0]"].upstreams == ("m",)


def test_steps_that_wait_for_the_same_share_a_box_and_chains_beside_each_other_do():
    nodes = [Node("first", (), "success")]
    for i in range(100):
        nodes.append(Node(f"a{i}", ("first",), "success"))
        nodes.append(Node(f"b{i}", (f"a{i}",), "success"))
    nodes.append(Node("last", tuple(f"b{i}" for i in range(100)), "success"))
    folds = check(nodes, 80)
    assert [(fold.name, len(fold.members), fold.upstreams) for fold in folds] == [
        ("first", 1, ()),
        ("a0", 100, ("first",)),
        ("b0", 100, ("a0",)),
        ("last", 1, ("b0",)),
    ]


def test_steps_that_run_the_same_flow_share_a_box():
    ups = [Node(f"a{i}", (), "success") for i in range(3)]
    children = [
        Node(f"c{i}", ("a0",), "success", "flow", 1, None, f"flow {i % 2}") for i in range(90)
    ]
    folds = check([*ups, *children], 80)
    assert [fold.name for fold in folds] == ["a0", "a1", "a2", "c0", "c1"]
    assert [{each.runs for each in fold.members} for fold in folds[3:]] == [{"flow 0"}, {"flow 1"}]


@pytest.mark.parametrize("state", ["failed", "running", "up_for_retry"])
def test_steps_that_failed_or_run_stay_visible(state):
    nodes = [Node(f"s{i}", (), "success") for i in range(500)]
    nodes += [Node(f"t{i}", (f"s{i}",), "pending") for i in range(500)]
    hot = (7, 77, 777)
    nodes = [node._replace(state=state) if i in hot else node for i, node in enumerate(nodes)]
    alone = [fold.name for fold in check(nodes, 80) if len(fold.members) == 1]
    assert alone == ["s7", "s77", "t7", "t77", "t277"]  # t7 and t77 wait for other boxes


def test_failures_come_before_what_runs_where_there_is_no_room_for_all():
    nodes = [Node(f"s{i}", (), "running" if i % 2 else "failed") for i in range(1000)]
    alone = [fold.node for fold in check(nodes, 40) if fold.node is not None]
    assert [node.state for node in alone] == ["failed"] * 10


def test_all_states_have_an_urgency():
    assert sorted(URGENCY) == STATES
    assert counted(["success", "failed", "success", "?"]) == {"failed": 1, "success": 2, "?": 1}
    assert most_urgent(["skipped", "success"]) == "success"
    assert most_urgent([]) is None
