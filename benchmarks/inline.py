"""Microseconds a step: executor='inline', every transition logged, against dask.get."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from dask.local import get_sync  # what `dask.get` is

from benchmarks.graphs import Get, dask_side, dask_task_side, heard_side, oautom_side
from benchmarks.measure import Figure, Settings, Table, in_turn, medians, ratios
from benchmarks.shapes import KINDS, Graph, graph

Sides = Mapping[str, Callable[[Graph], float]]


def measure(settings: Settings) -> Iterator[Table]:
    """Yield a table with a row for each graph."""
    title = "inline ('heard': one receiver on signals.event; 'Task': Dask's new form of tuples)"
    ours = {
        "oautom": partial(oautom_side, executor="inline"),
        "heard": partial(heard_side, executor="inline"),
    }
    yield beside_dask(title, settings, ours, get_sync)


def beside_dask(title: str, settings: Settings, ours: Sides, get: Get) -> Table:
    """Return a table of sides of oautom beside one of Dask's schedulers."""
    theirs: Sides = {"dask": partial(dask_side, get=get), "Task": partial(dask_task_side, get=get)}
    pairs = [(our, their) for their in theirs for our in ours]
    rows: list[dict[str, Figure]] = []
    for kind in KINDS:
        made = graph(kind, settings.steps)
        sides = {name: partial(side, made) for name, side in {**ours, **theirs}.items()}
        samples = in_turn(sides, settings.rounds)
        us = medians(samples, "us", 1e6 / settings.steps)
        rows.append({f"{settings.steps:,} steps": kind, **us, **ratios(samples, pairs)})
    return Table(title, rows)
