"""Graphs from elsewhere, and what must hold of a run of any graph.

The shared corpus is a folder of its own, beside the repository at `../shared/corpus` or wherever
`OAUTOM_CORPUS` says. A small sample of it stands beside this module, so that no clone is without.
"""

from __future__ import annotations

import heapq
import importlib.util
import json
import os
import random
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from oautom import Event, Flow, OAutom, PythonExecution, Vect
from oautom.events import replay

Graph = dict[str, Any]
"""`name`, `kind`, `source`, `nodes` [{`id`, `runtime_s`?}], `edges` [[upstream, dependant]], ..."""

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = Path(__file__).parent
CORPUS = Path(os.environ.get("OAUTOM_CORPUS") or ROOT.parent / "shared" / "corpus")
HAS_CORPUS = (CORPUS / "load.py").exists()
NO_CORPUS = "the shared corpus is not here; OAUTOM_CORPUS can say where it is"
GIANT = 5000
"""A graph with more nodes is a giant: a test of its own runs it."""


@cache
def corpus() -> ModuleType:
    """Return the module `load` of the shared corpus."""
    spec = importlib.util.spec_from_file_location("oautom_shared_corpus", CORPUS / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shared(kind: str, *, small: bool = True) -> Iterator[Graph]:
    """Yield the graphs of a kind of the shared corpus."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # `load` leaves a gzip file to be closed
        yield from corpus().iter_graphs(kind, small=small)


def sample(kind: str) -> list[Graph]:
    """Return the graphs of a kind that are part of this repository."""
    if kind == "montage_like":
        return [montage_like(tiles, seed=tiles) for tiles in (1, 2, 7, 30)]
    return json.loads((SAMPLE / f"{kind}.json").read_text(encoding="utf-8"))["graphs"]


def sample_table(name: str) -> list[dict[str, Any]]:
    """Return the cases of a table that are part of this repository."""
    return json.loads((SAMPLE / f"{name}.json").read_text(encoding="utf-8"))["cases"]


def montage_like(tiles: int, seed: int) -> Graph:
    """Return a graph of the shape of Montage, which puts `tiles` pictures of the sky together.

    Every tile is projected; each pair that overlaps (here: neighbours on a strip, and some more) is
    compared; one model of the background is fitted to all, and each tile is corrected by it; then
    a table, a sum, and two pictures. The run times are drawn, not recorded.

    Source: the shape is described in Bharathi et al., "Characterization of scientific workflows",
    WORKS 2008.
    """
    chance = random.Random(seed)
    nodes: list[dict[str, Any]] = []
    edges: list[list[str]] = []

    def task(name: str, seconds: float, *upstreams: str) -> str:
        nodes.append({"id": name, "runtime_s": round(seconds * chance.uniform(0.8, 1.3), 3)})
        edges.extend([upstream, name] for upstream in upstreams)
        return name

    projected = [task(f"project {i}", 10) for i in range(tiles)]
    pairs = [(i, j) for i in range(tiles) for j in range(i + 1, min(i + 4, tiles))]
    overlaps = [(i, j) for i, j in pairs if j == i + 1 or chance.random() < 0.5]
    compared = [task(f"compare {i} {j}", 3, projected[i], projected[j]) for i, j in overlaps]
    fitted = task("fit", 20, *(compared or projected))
    model = task("model", 15, fitted)
    flattened = [task(f"flatten {i}", 2, model, projected[i]) for i in range(tiles)]
    table = task("table", 5, *flattened)
    total = task("add", 12, table)
    task("picture", 4, task("shrink", 6, total))
    source = {"repo": "oautom", "path": "tests/corpus/graphs.py", "licence": "MIT"}
    return {
        "name": f"montage-like-{tiles}",
        "kind": "montage_like",
        "source": source,
        "nodes": nodes,
        "edges": edges,
    }


def upstreams_of(graph: Graph) -> dict[str, list[str]]:
    """Return the upstreams of every node, each once."""
    upstreams: dict[str, dict[str, None]] = {node["id"]: {} for node in graph["nodes"]}
    for upstream, name in graph["edges"]:
        upstreams[name][upstream] = None
    return {name: list(ups) for name, ups in upstreams.items()}


def declare(app: OAutom, graph: Graph, work: Callable[[str], object]) -> Flow:
    """Declare a graph, node by node and edge by edge; every step calls `work` with its name."""
    flow = Flow(graph["name"], app=app, description=graph["kind"])
    steps = {}
    for node in graph["nodes"]:
        name = node["id"]
        steps[name] = PythonExecution(name, flow, work, (name,))
    for upstream, name in graph["edges"]:
        steps[name].depends(steps[upstream])
    return flow


def check_run(graph: Graph, app: OAutom, vect: Vect, calls: list[str]) -> None:
    """Check a run of a graph in which every step succeeds.

    Args:
        graph: What has been run.
        app: It has run nothing else.
        vect: The run.
        calls: The names of the steps whose work has been done, in that order.
    """
    what = f"{graph['kind']} graph {graph['name']!r}"
    names = [node["id"] for node in graph["nodes"]]
    events = list(app.log.read())
    assert vect.state == "success", f"{what} ended as {vect.state}"
    assert len(calls) == len(names), f"{what}: {len(calls)} calls of {len(names)} steps"
    assert set(calls) == set(names), f"{what}: not every step was called once"
    _check_order(what, graph, events)
    live = vect._run.state
    assert {step.state for step in live.steps.values()} <= {"success"}, what
    folded = replay(events)
    assert list(folded) == [vect.id], what
    assert folded[vect.id].facts() == live.facts(), f"{what}: fold and live state differ"


def _check_order(what: str, graph: Graph, events: list[Event]) -> None:
    """Check that the log is complete, and that no step starts before all its upstreams are done."""
    assert [event.seq for event in events] == list(range(1, len(events) + 1)), what
    started = _by_step(what, events, "step.started")
    succeeded = _by_step(what, events, "step.succeeded")
    upstreams = upstreams_of(graph)
    assert started.keys() == succeeded.keys() == upstreams.keys(), what
    assert len(events) == 2 * len(started) + 3, f"{what}: events that nobody asked for"
    for name, ups in upstreams.items():
        start = started[name]
        assert start < succeeded[name], f"{what}: {name!r} ended before it began"
        for upstream in ups:
            assert succeeded[upstream] < start, f"{what}: {name!r} began before {upstream!r} ended"


def _by_step(what: str, events: list[Event], name: str) -> dict[str, int]:
    found = {event.step: event.seq for event in events if event.name == name}
    count = sum(event.name == name for event in events)
    assert count == len(found), f"{what}: a step has two {name}"
    return found  # type: ignore[return-value] # events of steps name one


def first_come_order(graph: Graph) -> list[str]:
    """Return the order of one worker: what became due first comes first, ties as declared."""
    upstreams = upstreams_of(graph)
    dependants: dict[str, list[str]] = {name: [] for name in upstreams}
    for name, ups in upstreams.items():
        for upstream in ups:
            dependants[upstream].append(name)
    left = {name: len(ups) for name, ups in upstreams.items()}
    queue = deque(name for name, count in left.items() if not count)
    order = []
    while queue:
        order.append(queue.popleft())
        for name in dependants[order[-1]]:
            left[name] -= 1
            if not left[name]:
                queue.append(name)
    return order


def shortest_makespan(graph: Graph, workers: int) -> float:
    """Return the seconds below which no order whatever can get: critical path, or work a worker."""
    seconds = {node["id"]: float(node.get("runtime_s") or 0) for node in graph["nodes"]}
    upstreams = upstreams_of(graph)
    far: dict[str, float] = {}
    for name in first_come_order(graph):
        far[name] = seconds[name] + max((far[up] for up in upstreams[name]), default=0.0)
    return max(*far.values(), sum(seconds.values()) / workers)


def first_come_makespan(graph: Graph, workers: int) -> float:
    """Return the seconds that `workers` need in the order of `first_come_order`, without overhead.

    The shared corpus has its own, `bounds(graph, workers, order="fifo")[2]`.
    """
    seconds = {node["id"]: float(node.get("runtime_s") or 0) for node in graph["nodes"]}
    place = {name: i for i, name in enumerate(seconds)}
    left = {name: set(ups) for name, ups in upstreams_of(graph).items()}
    due = deque(name for name, ups in left.items() if not ups)
    running: list[tuple[float, int, str]] = []
    now = 0.0
    while due or running:
        while due and len(running) < workers:
            name = due.popleft()
            heapq.heappush(running, (now + seconds[name], place[name], name))
        now = running[0][0]
        ended = set()
        while running and running[0][0] == now:
            ended.add(heapq.heappop(running)[2])
        for name, ups in left.items():
            if ups & ended:
                ups -= ended
                if not ups:
                    due.append(name)
    return now
