"""The cases of CPython's `graphlib`: which steps become ready together, group after group."""

from __future__ import annotations

import pytest

from oautom import Flow, PythonExecution
from oautom.engine.scheduler import Scheduler
from oautom.vects.run import Run
from tests.kit import HandClock, Registry, TickLog
from tests.property.driver import CheckedWorkers

from .graphs import HAS_CORPUS, NO_CORPUS, Graph, sample, shared


def groups_of(graph: Graph, slots: int) -> list[list[str]]:
    """Return which steps are begun together when all that run end together."""
    flow = Flow(graph["name"], app=Registry())
    steps = {node["id"]: PythonExecution(node["id"], flow, int) for node in graph["nodes"]}
    for upstream, name in graph["edges"]:
        steps[name].depends(steps[upstream])
    log = TickLog()
    workers = CheckedWorkers(slots, log)
    scheduler = Scheduler(log, HandClock(), workers)
    scheduler.begin(Run(flow, "vect"))
    groups = []
    while not scheduler.is_idle():
        scheduler.tick(scheduler._collect(None))
        if workers.jobs:
            groups.append([job.attempt[1] for job in workers.jobs])
        for job in list(workers.jobs):
            workers.jobs.remove(job)
            job.answer("return")
    return groups


@pytest.mark.parametrize("place", ["sample", "shared"])
def test_steps_become_ready_in_the_groups_of_graphlib(place: str) -> None:
    if place == "shared" and not HAS_CORPUS:
        pytest.skip(NO_CORPUS)
    graphs = [g for g in (sample if place == "sample" else shared)("graphlib") if "groups" in g]
    assert len(graphs) > 5
    for graph in graphs:
        begun = groups_of(graph, slots=len(graph["nodes"]))
        assert [set(g) for g in begun] == [set(g) for g in graph["groups"]], graph["name"]
        assert sum(map(len, begun)) == len(graph["nodes"]), graph["name"]
