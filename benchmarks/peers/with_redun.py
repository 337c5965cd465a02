"""redun: lazy expressions of one task, its call graph in SQLite, in memory or in a file."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from redun import Scheduler, task
from redun.config import Config

from benchmarks.shapes import Graph, nothing, sinks

PACKAGE = "redun"
KEEPS = {
    "memory": "its call graph in memory",
    "durable": "its call graph, with the result of every task",
}


def prepare(folder: Path) -> None:
    """Let it nest as deeply as a chain is long."""
    sys.setrecursionlimit(100_000)
    logging.disable(logging.CRITICAL)


@task(namespace="peers", version="1")
def step(number: int, upstreams: list[Any]) -> None:
    """Do nothing, as a task."""
    nothing(number, upstreams)


def run(graph: Graph, folder: Path, *, durable: bool) -> None:
    """Build the expressions, and evaluate those that nothing waits for."""
    uri = f"sqlite:///{folder / 'redun.db'}" if durable else "sqlite:///:memory:"
    scheduler = Scheduler(config=Config({"backend": {"db_uri": uri}}))
    scheduler.load()
    expressions: list[Any] = []
    for number, upstreams in enumerate(graph):
        expressions.append(step(number, [expressions[up] for up in upstreams]))
    scheduler.run([expressions[number] for number in sinks(graph)])
