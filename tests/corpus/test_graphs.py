"""Every graph of the shared corpus, and of the sample beside it, runs as it should."""

from __future__ import annotations

import gc
import os
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from oautom import CycleError, DuplicateStepError, Flow, FlowError, OAutom, PythonExecution

from .graphs import (
    GIANT,
    HAS_CORPUS,
    NO_CORPUS,
    SAMPLE,
    Graph,
    check_run,
    corpus,
    declare,
    first_come_makespan,
    first_come_order,
    sample,
    shared,
)

needs_corpus = pytest.mark.skipif(not HAS_CORPUS, reason=NO_CORPUS)
both_executors = pytest.mark.parametrize("executor", ["inline", "threads"])

KINDS = ("graphlib", "airflow_dags", "ci_needs", "step_functions", "wf_traces", "pathological")
SAMPLE_KINDS = ("graphlib", "airflow_dags", "ci_needs", "pathological", "montage_like")
GIANTS = (
    "chain-100000",
    "loose-100000",
    "fan-100000",
    "tree-down-depth-15",
    "tree-up-depth-15",
    "grid-100x100",
)
IN_SHORT = ("fan-100000", "tree-up-depth-15", "grid-100x100")
IS_LONG = bool(os.environ.get("OAUTOM_CRASH_LONG"))


@pytest.fixture(autouse=True)
def _without_gc() -> Iterator[None]:
    """Leave the garbage: with a million live events, to look for it takes longer than to run."""
    gc.disable()
    yield
    gc.enable()


def kinds(
    sample_kinds: Iterable[str] = SAMPLE_KINDS, shared_kinds: Iterable[str] = KINDS
) -> pytest.MarkDecorator:
    """Parametrise a test by where graphs come from, and by their kind."""
    own = [pytest.param("sample", kind) for kind in sample_kinds]
    theirs = [pytest.param("shared", kind, marks=needs_corpus) for kind in shared_kinds]
    return pytest.mark.parametrize(("place", "kind"), [*own, *theirs])


def acyclic(place: str, kind: str) -> Iterator[Graph]:
    graphs = sample(kind) if place == "sample" else shared(kind)
    return (graph for graph in graphs if not graph.get("cyclic"))


def cyclic(place: str, kind: str) -> Iterator[Graph]:
    graphs = sample(kind) if place == "sample" else shared(kind, small=False)
    return (graph for graph in graphs if graph.get("cyclic"))


def without_controls(graph: Graph) -> Graph:
    """Return a graph without the names that hold control characters, each of which is refused."""
    bad = {node["id"] for node in graph["nodes"] if any(map(is_control, node["id"]))}
    for name in bad:
        with OAutom() as app, pytest.raises(FlowError, match="step name"):
            PythonExecution(name, Flow("flow", app), list)
    return graph | {
        "nodes": [node for node in graph["nodes"] if node["id"] not in bad],
        "edges": [edge for edge in graph["edges"] if bad.isdisjoint(edge)],
    }


def is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def run_and_check(graph: Graph, executor: Any) -> None:
    graph = without_controls(graph)
    calls: list[str] = []

    def work(name: str) -> None:
        calls.append(name)

    with OAutom(executor=executor, max_workers=None if executor == "inline" else 4) as app:
        try:
            flow = declare(app, graph, work)
        except FlowError:
            if graph.get("may_be_refused"):
                return
            raise
        vect = app.run(flow)
        check_run(graph, app, vect, calls)
    if executor == "inline":
        what = f"{graph['kind']} graph {graph['name']!r}"
        assert calls == first_come_order(graph), f"{what}: not in the order of what is due"


@both_executors
@kinds()
def test_a_graph_runs_each_step_once_and_after_all_its_upstreams(
    place: str, kind: str, executor: str
) -> None:
    ran, wrong = 0, []
    for graph in acyclic(place, kind):
        try:
            run_and_check(graph, executor)
        except Exception as error:  # the others are to run too
            error.add_note(f"it was graph {graph['name']!r}")
            wrong.append(error)
        ran += 1
    assert ran > 2
    if wrong:
        raise ExceptionGroup(f"{len(wrong)} of {ran} graphs of kind {kind} do not run", wrong)


@needs_corpus
@pytest.mark.parametrize(
    ("name", "executor"),
    [
        *((name, "inline") for name in (GIANTS if IS_LONG else IN_SHORT)),
        *((name, "threads") for name in (GIANTS if IS_LONG else IN_SHORT[1:])),
    ],
)
def test_a_giant_runs_as_any_other(name: str, executor: str) -> None:
    run_and_check(
        next(g for g in shared("pathological", small=False) if g["name"] == name), executor
    )


@needs_corpus
@both_executors
def test_the_other_graphs_that_are_not_small_run_too(executor: str) -> None:
    small = {graph["name"] for graph in shared("pathological")}
    for graph in shared("pathological", small=False):
        if not graph["cyclic"] and graph["name"] not in small and graph["name"] not in GIANTS:
            run_and_check(graph, executor)


@needs_corpus
def test_the_giants_are_all_named() -> None:
    graphs = shared("pathological", small=False)
    large = {g["name"] for g in graphs if len(g["nodes"]) > GIANT and not g["cyclic"]}
    assert large == set(GIANTS)


@kinds(("graphlib", "pathological"), ("graphlib", "step_functions", "pathological"))
def test_a_cycle_is_refused_and_named(place: str, kind: str) -> None:
    refused = 0
    for graph in cyclic(place, kind):
        what = f"{kind} graph {graph['name']!r}"
        calls: list[str] = []

        def work(name: str, calls: list[str] = calls) -> None:
            calls.append(name)

        with OAutom(executor="inline") as app:
            flow = declare(app, graph, work)
            with pytest.raises(CycleError) as caught:
                app.run(flow)
            assert app.log.last_seq == 0, f"{what}: something has happened"
            assert app.vects() == [], what
        assert calls == [], what
        cycle = caught.value.cycle
        edges = {(upstream, name) for upstream, name in graph["edges"]}
        assert cycle[0] == cycle[-1], what
        assert all(pair in edges for pair in pairwise(cycle)), f"{what} has no cycle {cycle}"
        assert len(set(cycle)) == len(cycle) - 1 > 0, f"{what}: {cycle} is more than one cycle"
        assert caught.value.flow == graph["name"], what
        assert str(caught.value).startswith(f"flow '{graph['name']}' has a cycle: {cycle[0]} -> ")
        refused += 1
    assert refused > 2


def test_a_name_that_is_used_twice_is_refused() -> None:
    graph = {"name": "twice", "kind": "invalid", "nodes": [{"id": "a"}, {"id": "a"}], "edges": []}
    with OAutom() as app, pytest.raises(DuplicateStepError):
        declare(app, graph, print)


def test_the_sample_says_where_it_comes_from() -> None:
    assert {path.stem for path in SAMPLE.glob("*.json")} >= {*SAMPLE_KINDS} - {"montage_like"}
    for kind in SAMPLE_KINDS:
        for graph in sample(kind):
            assert graph["kind"] == kind
            assert graph["source"]["licence"], graph["name"]
            assert "path" in graph["source"], graph["name"]
            assert "LGPL" not in graph["source"]["licence"]


@needs_corpus
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_the_sample_and_the_corpus_agree_on_how_long_a_graph_takes(workers: int) -> None:
    graphs = [*sample("montage_like"), *sample("pathological")]
    for graph in graphs:
        if not graph.get("cyclic"):
            theirs = corpus().bounds(graph, workers, order="fifo")[2]
            assert first_come_makespan(graph, workers) == pytest.approx(theirs), graph["name"]
