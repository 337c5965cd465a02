"""How oautom and Dask are given the graphs that are measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dask._task_spec import Task, TaskRef

from benchmarks.shapes import Graph, nothing, sinks
from oautom import EventLog, Flow, OAutom, PythonExecution
from oautom.events import signals
from oautom.workers import ExecutorName

Get = Callable[[dict[str, Any], Any], object]


def declare(
    graph: Graph,
    executor: ExecutorName,
    max_workers: int | None = None,
    log: EventLog | None = None,
) -> OAutom:
    """Return an app with the flow of a graph."""
    app = OAutom(executor=executor, max_workers=max_workers, log=log)
    flow = Flow("flow", app)
    steps = [PythonExecution(f"s{i}", flow, nothing) for i in range(len(graph))]
    for step, upstreams in zip(steps, graph, strict=True):
        step.depends(*(steps[upstream] for upstream in upstreams))
    return app


def run(app: OAutom) -> float:
    """Run the flow and return the seconds that a user waits: its check is part of that."""
    begin = time.perf_counter()
    vect = app.run("flow")
    seconds = time.perf_counter() - begin
    assert (vect.state, app.log.last_seq) == ("success", 2 * len(vect.steps) + 3), vect
    return seconds


def oautom_side(graph: Graph, executor: ExecutorName, max_workers: int | None = None) -> float:
    """Declare a graph, and return the seconds of its run by oautom."""
    with declare(graph, executor, max_workers) as app:
        return run(app)


def heard_side(graph: Graph, executor: ExecutorName, max_workers: int | None = None) -> float:
    """Do as `oautom_side`, while a receiver hears every event."""
    heard = 0

    def hear(_: object, **__: object) -> None:
        nonlocal heard
        heard += 1

    signals.event.connect(hear)
    try:
        seconds = oautom_side(graph, executor, max_workers)
    finally:
        signals.event.disconnect(hear)
    assert heard == 2 * len(graph) + 3, heard
    return seconds


def dask_side(graph: Graph, get: Get) -> float:
    """Return the seconds of Dask for a graph of tuples, its old form: `{'b': (function, 'a')}`."""
    tasks = {f"s{i}": (nothing, *(f"s{up}" for up in ups)) for i, ups in enumerate(graph)}
    return _get(tasks, graph, get)


def dask_task_side(graph: Graph, get: Get) -> float:
    """Return the seconds of Dask for a graph of `Task`s, which its documentation asks for today."""
    tasks = {
        f"s{i}": Task(f"s{i}", nothing, *(TaskRef(f"s{up}") for up in ups))
        for i, ups in enumerate(graph)
    }
    return _get(tasks, graph, get)


def _get(tasks: dict[str, Any], graph: Graph, get: Get) -> float:
    keys = [f"s{i}" for i in sinks(graph)]
    wanted = keys if len(keys) > 1 else keys[0]
    begin = time.perf_counter()
    get(tasks, wanted)
    return time.perf_counter() - begin
