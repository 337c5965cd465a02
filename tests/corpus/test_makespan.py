"""How long a real graph takes on k workers: as long as its order allows, and no longer.

The engine promises an order: what became due first starts first, and ties start as declared. So how
long a graph takes is known before. Time is the simulator's: on a real clock a run takes what the
engine and this machine need besides, which no test can bound.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from oautom import OAutom
from oautom.testing import simulate

from .graphs import (
    HAS_CORPUS,
    NO_CORPUS,
    Graph,
    corpus,
    declare,
    first_come_makespan,
    montage_like,
    shared,
    shortest_makespan,
)

SHARE = 0.01
"""How much longer than computed a run may take: steps that end at once may end in another order."""


def check(graph: Graph, workers: int, bound: Callable[[Graph, int], float]) -> None:
    seconds = {node["id"]: float(node.get("runtime_s") or 0.0) for node in graph["nodes"]}
    with OAutom() as app:
        flow = declare(app, graph, lambda _: None)
        vect = simulate(flow, durations=seconds, max_workers=workers)
    assert vect.state == "success"
    first, *_, last = vect.events()
    makespan = (last.time - first.time).total_seconds()
    told = f"{graph['name']} on {workers} workers: {makespan} s"
    assert makespan <= bound(graph, workers) * (1 + SHARE), told
    # Where two steps end at nearly the same time, the next two may change places, and another order
    # may be a little faster; but none is faster than this. A log counts microseconds.
    assert makespan >= shortest_makespan(graph, workers) - 0.001, told


@cache
def recorded() -> dict[str, Graph]:
    return {graph["name"]: graph for graph in shared("wf_traces")}


def traces() -> list[tuple[str, int]]:
    names = recorded() if HAS_CORPUS else ("the corpus",)
    return [(name, workers) for name in names for workers in (2, 4, 8)]


@pytest.mark.skipif(not HAS_CORPUS, reason=NO_CORPUS)
@pytest.mark.parametrize(("name", "workers"), traces())
def test_a_recorded_workflow_takes_as_long_as_its_order_says(name: str, workers: int) -> None:
    check(recorded()[name], workers, lambda graph, k: corpus().bounds(graph, k, order="fifo")[2])


@pytest.mark.parametrize("workers", [2, 8])
def test_a_graph_like_montage_takes_as_long_as_its_order_says(workers: int) -> None:
    check(montage_like(20, seed=20), workers, first_come_makespan)
