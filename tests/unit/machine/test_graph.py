"""The graph: edges in both directions, cycles, and the fingerprint."""

from __future__ import annotations

from itertools import pairwise

import pytest

from oautom.machine.graph import Graph

DIAMOND = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}


def test_dependants_stand_in_the_order_of_declaration() -> None:
    graph = Graph({"top": (), "z": ("top",), "a": ("top",), "m": ("z", "top")})

    assert graph.dependants_of("top") == ("z", "a", "m")
    assert graph.dependants_of("m") == ()


def test_an_edge_said_twice_counts_once() -> None:
    graph = Graph({"a": (), "b": ("a", "a")})

    assert graph.upstreams["b"] == ("a",)
    assert graph.dependants_of("a") == ("b",)


def test_roots_are_the_steps_that_wait_for_none() -> None:
    assert Graph({"b": ("a",), "a": (), "c": ()}).roots() == ["a", "c"]
    assert Graph({}).roots() == []


def test_a_graph_without_a_cycle_has_none() -> None:
    assert Graph(DIAMOND).find_cycle() is None
    assert Graph({}).find_cycle() is None


@pytest.mark.parametrize(
    ("upstreams", "members"),
    [
        pytest.param({"a": ("a",)}, {"a"}, id="itself"),
        pytest.param({"a": ("b",), "b": ("a",)}, {"a", "b"}, id="two"),
        pytest.param(
            {"free": (), "a": ("free", "c"), "b": ("a",), "c": ("b",), "after": ("c",)},
            {"a", "b", "c"},
            id="three among others",
        ),
    ],
)
def test_a_cycle_is_named_each_step_an_upstream_of_the_next(upstreams, members) -> None:
    cycle = Graph(upstreams).find_cycle()

    assert cycle is not None
    assert set(cycle) == members
    assert cycle[0] == cycle[-1]
    assert len(cycle) == len(members) + 1
    assert all(before in upstreams[after] for before, after in pairwise(cycle))


def test_a_long_chain_is_no_recursion() -> None:
    chain = {str(i): (str(i - 1),) if i else () for i in range(20_000)}

    assert Graph(chain).find_cycle() is None
    assert Graph(chain | {"0": ("19999",)}).find_cycle() is not None


def test_the_order_of_declaration_is_no_part_of_the_fingerprint() -> None:
    turned = {"d": ("c", "b"), "c": ("a",), "b": ("a",), "a": ()}

    assert Graph(turned).fingerprint() == Graph(DIAMOND).fingerprint()


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({**DIAMOND, "e": ()}, id="one step more"),
        pytest.param({"a": (), "b": ("a",), "c": ("a",), "d": ("b",)}, id="one edge less"),
        pytest.param({**DIAMOND, "d": ("b", "c", "a")}, id="one edge more"),
        pytest.param({"A": (), "b": ("A",), "c": ("A",), "d": ("b", "c")}, id="another name"),
        pytest.param({"a": ("b",), "b": (), "c": ("a",), "d": ("b", "c")}, id="an edge turned"),
    ],
)
def test_every_change_of_a_step_or_an_edge_changes_the_fingerprint(other) -> None:
    assert Graph(other).fingerprint() != Graph(DIAMOND).fingerprint()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": (), "b,1:": ()}, {"a": (), "b": (), "1:": ()}),
        ({"ab": (), "c": ("ab",)}, {"a": (), "bc": ("a",)}),
        ({"a": (), "b": ("a",)}, {"a": (), "b": (), "a;b": ()}),
        ({"1:a,": ()}, {"a": ()}),
    ],
)
def test_names_cannot_be_made_to_look_like_other_graphs(one, other) -> None:
    assert Graph(one).fingerprint() != Graph(other).fingerprint()


def test_the_fingerprint_of_a_graph_is_the_same_for_ever() -> None:
    # Logs will hold it: another way to compute it would make all past Vects look foreign.
    assert Graph(DIAMOND).fingerprint() == "1969a8994c6f8d8d"
