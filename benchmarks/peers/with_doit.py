"""doit: tasks with `task_dep`; what has run is in its file, written when the run is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from doit.tools import run_once

from benchmarks.shapes import Graph, nothing

PACKAGE = "doit"
KEEPS = {"durable": "which tasks have run, written when all are over"}


def run(graph: Graph, folder: Path, *, durable: bool) -> None:
    """Run all tasks, in its own process."""

    def task_all() -> Iterator[dict[str, Any]]:
        for number, upstreams in enumerate(graph):
            yield {
                "name": f"s{number}",
                "actions": [(nothing,)],
                "task_dep": [f"all:s{upstream}" for upstream in upstreams],
                "uptodate": [run_once],
            }

    settings = {"GLOBAL": {"dep_file": str(folder / "doit.db"), "reporter": "zero"}}
    assert DoitMain(ModuleTaskLoader({"task_all": task_all}), extra_config=settings).run([]) == 0
