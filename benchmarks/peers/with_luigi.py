"""Luigi: tasks under its local scheduler; a task is complete by a set in memory, or by a file."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import luigi

from benchmarks.shapes import Graph, nothing, sinks

PACKAGE = "luigi"
KEEPS = {"memory": "nothing", "durable": "an empty file for each task"}

_graph: Graph = []
_done: set[int] = set()


def prepare(folder: Path) -> None:
    """Let it nest as deeply as a chain is long, and say nothing."""
    sys.setrecursionlimit(100_000)
    logging.disable(logging.CRITICAL)


class Step(luigi.Task):
    """A task that is complete when it has run."""

    number = luigi.IntParameter()

    def requires(self) -> list[Any]:
        """Return the tasks before it."""
        return [type(self)(number=upstream) for upstream in _graph[self.number]]

    def run(self) -> None:
        """Do nothing, and note it."""
        nothing()
        _done.add(self.number)

    def complete(self) -> bool:
        """Whether it has run."""
        return self.number in _done


class KeptStep(Step):
    """A task that is complete when its file is there."""

    folder = luigi.Parameter()

    def requires(self) -> list[Any]:
        """Return the tasks before it."""
        return [KeptStep(number=up, folder=self.folder) for up in _graph[self.number]]

    def output(self) -> luigi.LocalTarget:
        """Return its file."""
        return luigi.LocalTarget(f"{self.folder}/{self.number}")

    def run(self) -> None:
        """Do nothing, and write the file."""
        nothing()
        with self.output().open("w"):
            pass

    def complete(self) -> bool:
        """Whether its file is there."""
        return bool(self.output().exists())


def run(graph: Graph, folder: Path, *, durable: bool) -> None:
    """Build the tasks that nothing waits for, and with them all."""
    _graph[:] = graph
    kind = {"folder": str(folder)} if durable else {}
    last = [(KeptStep if durable else Step)(number=number, **kind) for number in sinks(graph)]
    assert luigi.build(last, local_scheduler=True, log_level="CRITICAL")
