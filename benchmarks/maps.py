"""Microseconds an item of a map, against as many plain steps that call the same function.

Once without what it takes to declare the flow, and once with it: that of a map has two steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Figure, Settings, Table, in_turn, medians, ratios
from benchmarks.shapes import nothing
from oautom import Flow, MapExecution, OAutom, PythonExecution

TITLE = "a map, inline, against plain steps of one flow; CPU time"


def measure(settings: Settings) -> Iterator[Table]:
    """Yield a table with a row for each log."""
    rows: list[dict[str, Figure]] = []
    for log, measured in product(("memory", "file"), ("run", "declare and run")):
        sides = {
            name: partial(
                _side,
                settings.steps,
                is_map=name == "map",
                is_durable=log == "file",
                is_whole=measured != "run",
            )
            for name in ("map", "plain")
        }
        samples = in_turn(sides, settings.rounds)
        place = {f"{settings.steps:,} items, log": log, "measured": measured}
        us = medians(samples, "us", 1e6 / settings.steps)
        rows.append({**place, **us, **ratios(samples, [("map", "plain")])})
    yield Table(TITLE, rows)


def _side(size: int, *, is_map: bool, is_durable: bool, is_whole: bool) -> float:
    with (
        TemporaryDirectory() as folder,
        OAutom(executor="inline", log=Path(folder, "runs.db") if is_durable else None) as app,
    ):
        begin = time.process_time()
        flow = Flow("flow", app)
        if is_map:
            items = PythonExecution("items", flow, list, (range(size),))
            MapExecution("map", flow, nothing, over=items)
        else:
            for i in range(size):
                PythonExecution(f"s{i}", flow, nothing, (i,))
        if not is_whole:
            begin = time.process_time()
        vect = app.run(flow)
        seconds = time.process_time() - begin
        assert vect.state == "success", vect
    return seconds
