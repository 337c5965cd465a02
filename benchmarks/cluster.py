"""Seconds of graphs on a Dask cluster of 8 threads in 2 processes, against bare Dask futures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from distributed import Client, LocalCluster

from benchmarks.measure import Figure, Settings, Table, in_turn, medians, ratios
from benchmarks.shapes import Graph, graph
from oautom import Flow, OAutom, PythonExecution

PROCESSES, THREADS = 2, 4
CASES = {
    "1000 at once": (0.0, [()] * 1000),
    "1000 in layers of 50": (0.0, graph("layers", 1000, width=50)),
    "100 in a chain": (0.0, graph("chain", 100)),
    "32 x 1 s, bound 4 s": (1.0, [()] * 32),
}


def measure(settings: Settings) -> Iterator[Table]:
    """Yield a table with a row for each graph."""
    rows: list[dict[str, Figure]] = []
    with (
        LocalCluster(PROCESSES, threads_per_worker=THREADS, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        for case, (seconds, made) in CASES.items():
            sides = {
                "oautom": partial(_oautom_seconds, client, made, seconds),
                "dask": partial(_dask_seconds, client, made, seconds),
            }
            samples = in_turn(sides, settings.rounds)
            row = {**medians(samples, "s", 1), **ratios(samples, [("oautom", "dask")])}
            rows.append({"steps": case, **row})
        yield Table(f"a Dask cluster, {PROCESSES} workers of {THREADS} threads", rows)
        yield _handed_on(client, settings)


def _handed_on(client: Client, settings: Settings) -> Table:
    """Return the seconds that an output of 100 MB takes from one step to the next."""
    sides = {
        "through the program": partial(_handing_seconds, client, keep_remote=False),
        "keep_remote": partial(_handing_seconds, client, keep_remote=True),
    }
    samples = in_turn(sides, settings.rounds)
    row = {**medians(samples, "s", 1), **ratios(samples, [("keep_remote", "through the program")])}
    return Table("100 MB from one step to the next, on that cluster", [row])


def _handing_seconds(client: Client, *, keep_remote: bool) -> float:
    with OAutom(executor=client) as app:
        flow = Flow("handing", app)
        made = PythonExecution("made", flow, bytes, [100_000_000], keep_remote=keep_remote)
        size = PythonExecution("size", flow, len, [made])
        begin = time.perf_counter()
        vect = app.run(flow)
        taken = time.perf_counter() - begin
        assert vect.result(size) == 100_000_000
    return taken


def _work(seconds: float) -> None:
    if seconds:
        time.sleep(seconds)


def _work_after(seconds: float, *_: Any) -> None:
    _work(seconds)


def _oautom_seconds(client: Client, graph: Graph, seconds: float) -> float:
    with OAutom(executor=client) as app:
        flow = Flow("cluster", app)
        steps = [PythonExecution(f"s{i}", flow, _work, [seconds]) for i in range(len(graph))]
        for step, upstreams in zip(steps, graph, strict=True):
            step.depends(*(steps[upstream] for upstream in upstreams))
        begin = time.perf_counter()
        vect = app.run(flow)
        taken = time.perf_counter() - begin
    assert vect.state == "success", vect.status()
    return taken


def _dask_seconds(client: Any, graph: Graph, seconds: float) -> float:
    begin = time.perf_counter()
    futures: list[Any] = []
    for upstreams in graph:
        given = [futures[upstream] for upstream in upstreams]
        futures.append(client.submit(_work_after, seconds, *given, pure=False))
    client.gather(futures)
    return time.perf_counter() - begin
