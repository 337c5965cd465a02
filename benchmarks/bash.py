"""Seconds of graphs of Bash steps, max_workers=4, against `make -j4` on the same commands."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Figure, Settings, Table, in_turn, medians, ratios
from benchmarks.shapes import Graph, graph, sinks
from oautom import BashExecution, Flow, OAutom

WORKERS = 4
CASES = {
    "200 x true": ("true", graph("layers", 200, width=10)),
    "40 x sleep 0.05": ("sleep 0.05", graph("layers", 40, width=8)),
    "200 x echo | wc": ("echo one two | wc -w", graph("layers", 200, width=10)),
}


def measure(settings: Settings) -> Iterator[Table]:
    """Yield a table with a row for each case."""
    rows: list[dict[str, Figure]] = []
    for case, (command, made) in CASES.items():
        commands = [command] * len(made)
        sides = {
            "oautom": partial(_oautom_seconds, commands, made),
            "make": partial(_make_seconds, commands, made),
        }
        samples = in_turn(sides, settings.rounds)
        row = {**medians(samples, "s", 1), **ratios(samples, [("oautom", "make")])}
        rows.append({"layers of": case, **row})
    yield Table(f"Bash steps, {WORKERS} at once", rows)


def _oautom_seconds(commands: list[str], graph: Graph) -> float:
    with OAutom(max_workers=WORKERS) as app:
        flow = Flow("bash", app)
        steps = [BashExecution(f"s{i}", flow, each) for i, each in enumerate(commands)]
        for step, upstreams in zip(steps, graph, strict=True):
            step.depends(*(steps[upstream] for upstream in upstreams))
        begin = time.perf_counter()
        vect = app.run(flow)
        seconds = time.perf_counter() - begin
    assert vect.state == "success", vect.status()
    return seconds


def _make_seconds(commands: list[str], graph: Graph) -> float:
    return make(commands, graph, WORKERS)[0]


def make(commands: list[str], graph: Graph, jobs: int) -> tuple[float, list[str]]:
    """Have GNU make do what a flow of Bash steps does; return its seconds, and what it printed."""
    with TemporaryDirectory() as folder:
        makefile = Path(folder, "Makefile")
        makefile.write_text(_makefile(commands, graph))
        command = ["make", "--silent", "--no-builtin-rules", f"-j{jobs}", "-f", str(makefile)]
        begin = time.perf_counter()
        printed = subprocess.check_output(command, text=True)
        seconds = time.perf_counter() - begin
    return seconds, printed.splitlines()


def _makefile(commands: list[str], graph: Graph) -> str:
    """Return a Makefile; a SHELL of its own has make run each command by Bash, as oautom does."""
    names = [f"s{i}" for i in range(len(commands))]
    rules = [
        f"{name}: {' '.join(names[up] for up in ups)}\n\t{command.replace('$', '$$')}"
        for name, command, ups in zip(names, commands, graph, strict=True)
    ]
    head = [
        f"SHELL := {shutil.which('bash')}",
        f"all: {' '.join(names[sink] for sink in sinks(graph))}",
        f".PHONY: all {' '.join(names)}",
    ]
    return "\n".join([*head, *rules]) + "\n"
