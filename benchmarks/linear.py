"""Time and memory a step of inline runs of 1,000, 10,000 and 100,000 steps."""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from benchmarks.graphs import declare, oautom_side, run
from benchmarks.measure import Figure, Settings, Table
from benchmarks.shapes import KINDS, graph

WARM_UP_STEPS = 1000
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


class Run(NamedTuple):
    """What a run in a process of its own took, a step: time, and growth of the peak of memory."""

    declare_us: float
    us: float
    growth_bytes: float


def measure(settings: Settings) -> Iterator[Table]:
    """Yield a table of times, and one of memory."""
    sizes = [settings.steps // 10, settings.steps, settings.steps * 10]
    rounds = max(1, settings.rounds // 3)  # the largest graph takes seconds
    times, memory = zip(*(_rows(kind, sizes, rounds) for kind in KINDS), strict=True)
    yield Table("inline runs, in us a step", list(times))
    title = f"bytes a step: {sizes[1]:,} steps traced, and the peak of a process with {sizes[2]:,}"
    yield Table(title, list(memory))


def _rows(kind: str, sizes: list[int], rounds: int) -> tuple[dict[str, Figure], dict[str, Figure]]:
    order = [*sizes, sizes[1]]  # the middle before and after the largest, to compare with
    turns = [[_in_child(kind, size) for size in order] for _ in range(rounds)]
    us = [median(each.us for each in runs) for runs in zip(*turns, strict=True)]
    declare_us = median(large.declare_us for _, _, large, _ in turns)
    ratio = median(2 * large.us / (before.us + after.us) for _, before, large, after in turns)
    heads = [f"{size:,}" for size in sizes]
    times = dict(zip(heads, us[:3], strict=True)) | {f"{heads[2]} / {heads[1]}": ratio}
    declared, ran = _traced(kind, sizes[1])
    process = round(median(large.growth_bytes for _, _, large, _ in turns))
    return (
        {"graph": kind, **times, "declaration": declare_us},
        {"graph": kind, "declaration": declared, "run with its log": ran, "process": process},
    )


def _traced(kind: str, size: int) -> tuple[int, int]:
    """Return the bytes a step of a declaration, and those that a run adds, by tracemalloc."""
    made = graph(kind, size)
    gc.collect()
    tracemalloc.start()
    app = declare(made, "inline")
    declared, _ = tracemalloc.get_traced_memory()
    with app:
        run(app)
    gc.collect()
    ran, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return round(declared / size), round((ran - declared) / size)


def _in_child(kind: str, size: int) -> Run:
    # Bash stands in between: Linux lets a child's ru_maxrss begin at the size of its parent.
    python = [sys.executable, "-m", "benchmarks.linear", kind, str(size)]
    command = ["bash", "-c", '"$@"; exit $?', "bash", *python]
    declare_s, run_s, growth_bytes = map(float, subprocess.check_output(command).split())
    return Run(declare_s * 1e6 / size, run_s * 1e6 / size, growth_bytes / size)


def _print_run(kind: str, size: int) -> None:
    oautom_side(graph(kind, WARM_UP_STEPS), "inline")
    made = graph(kind, size)
    gc.collect()
    before_bytes = _maxrss_bytes()
    begin = time.perf_counter()
    app = declare(made, "inline")
    print(time.perf_counter() - begin, run(app), _maxrss_bytes() - before_bytes)


def _maxrss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES


if __name__ == "__main__":
    _print_run(sys.argv[1], int(sys.argv[2]))
