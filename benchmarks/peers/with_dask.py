"""Dask: `dask.get`, its scheduler in the program's own thread."""

from __future__ import annotations

from pathlib import Path

import dask

from benchmarks.shapes import Graph, nothing, sinks

PACKAGE = "dask"
KEEPS = {"memory": "nothing"}


def run(graph: Graph, folder: Path, *, durable: bool) -> None:
    """Make the graph, and compute it."""
    tasks = {f"s{i}": (nothing, *(f"s{up}" for up in ups)) for i, ups in enumerate(graph)}
    dask.get(tasks, [f"s{i}" for i in sinks(graph)])
