"""Hamilton: a function for each step, joined by the names of their parameters."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hamilton import ad_hoc_utils, driver

from benchmarks.shapes import Graph, nothing, sinks

PACKAGE = "sf-hamilton"
KEEPS = {"memory": "nothing"}


def prepare(folder: Path) -> None:
    """Let it nest as deeply as a chain is long."""
    sys.setrecursionlimit(100_000)


def run(graph: Graph, folder: Path, *, durable: bool) -> None:
    """Define the functions, and execute those that nothing waits for."""
    lines = [
        f"def s{number}({', '.join(f's{up}: object' for up in upstreams)}) -> object: nothing()"
        for number, upstreams in enumerate(graph)
    ]
    names: dict[str, Any] = {"nothing": nothing}
    exec("\n".join(lines), names)  # noqa: S102 - the graph is ours
    functions = [names[f"s{number}"] for number in range(len(graph))]
    module = ad_hoc_utils.create_temporary_module(*functions)
    driver.Builder().with_modules(module).build().execute([f"s{i}" for i in sinks(graph)])
