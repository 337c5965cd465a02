"""Milliseconds from the end of a step to the start of the next, in a chain of 50."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from statistics import median, quantiles

from benchmarks.bash import make
from benchmarks.measure import Figure, Settings, Table
from benchmarks.shapes import graph
from oautom import BashExecution, Execution, Flow, OAutom, PythonExecution

STEPS = 50
STAMP = "echo $EPOCHREALTIME"  # the last thing that a step does, and the first of the next
TITLE = f"end of a step to start of the next, chain of {STEPS}"

Side = Callable[[], Sequence[float]]
"""Runs a chain and returns the seconds at which each of its steps was there, on one clock."""


def measure(settings: Settings) -> Iterator[Table]:
    """Yield a table with a row for each side."""
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with OAutom() as threads, OAutom(executor="processes", max_workers=1) as processes, pool:
        sides: dict[str, Side] = {
            "Bash, oautom": lambda: _run(threads, bash),
            "Bash, make": lambda: _floats(make([STAMP] * STEPS, graph("chain", STEPS), jobs=1)[1]),
            "Bash, a loop of subprocess.run": _run_in_loop,
            "Python, oautom with processes": lambda: _run(processes, python),
            "Python, a loop on a ProcessPoolExecutor": lambda: [
                pool.submit(time.monotonic).result() for _ in range(STEPS)
            ],
        }
        bash, python = Flow("bash", threads), Flow("python", processes)
        _chain([BashExecution(f"s{i}", bash, STAMP) for i in range(STEPS)])
        _chain([PythonExecution(f"s{i}", python, time.monotonic) for i in range(STEPS)])
        yield Table(TITLE, _rows(sides, settings.rounds))


def _rows(sides: dict[str, Side], rounds: int) -> list[dict[str, Figure]]:
    gaps_ms: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(1 + rounds):
        for name, side in sides.items():
            stamps = side()
            if turn:  # the first one is the warm-up
                gaps_ms[name] += [(end - begin) * 1e3 for begin, end in pairwise(stamps)]
    return [
        {"chain": name, "median ms": median(each), "95th percentile ms": quantiles(each, n=20)[-1]}
        for name, each in gaps_ms.items()
    ]


def _chain(steps: list[Execution]) -> None:
    for upstream, step in pairwise(steps):
        step.depends(upstream)


def _run(app: OAutom, flow: Flow) -> list[float]:
    vect = app.run(flow)
    return _floats([vect.result(step) for step in flow.steps])


def _run_in_loop() -> list[float]:
    command = ["bash", "-c", STAMP]
    return _floats([subprocess.check_output(command) for _ in range(STEPS)])


def _floats(stamps: Sequence[str | bytes | float]) -> list[float]:
    return [float(stamp) for stamp in stamps]
