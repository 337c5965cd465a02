"""Microseconds a step: executor='threads', max_workers=4, against dask.threaded.get."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from dask import threaded

from benchmarks.graphs import oautom_side
from benchmarks.inline import beside_dask
from benchmarks.measure import Settings, Table

WORKERS = 4


def measure(settings: Settings) -> Iterator[Table]:
    """Yield a table with a row for each graph."""
    ours = {"oautom": partial(oautom_side, executor="threads", max_workers=WORKERS)}
    get = partial(threaded.get, num_workers=WORKERS)
    yield beside_dask(f"threads, {WORKERS} workers", settings, ours, get)
