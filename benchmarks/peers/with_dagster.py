"""Dagster: a job of ops, executed in process; its instance in memory, or with SQLite files."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from dagster import (
    DagsterInstance,
    DependencyDefinition,
    GraphDefinition,
    In,
    MultiDependencyDefinition,
    Nothing,
    OpDefinition,
    op,
)

from benchmarks.shapes import Graph, nothing

PACKAGE = "dagster"
KEEPS = {
    "memory": "every event in memory",
    "durable": "every event, as its defaults are",
}


def prepare(folder: Path) -> None:
    """Have it log nothing and call nobody."""
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    logging.disable(logging.CRITICAL)


def _op(name: str) -> OpDefinition:
    @op(name=name, ins={"after": In(Nothing)})
    def step() -> None:
        nothing()

    return step


def run(graph: Graph, folder: Path, *, durable: bool) -> None:
    """Define a job, and execute it."""
    ops = [_op(f"s{number}") for number in range(len(graph))]
    dependencies = {
        f"s{number}": {
            "after": MultiDependencyDefinition(
                [DependencyDefinition(f"s{up}", "result") for up in upstreams]
            )
        }
        for number, upstreams in enumerate(graph)
        if upstreams
    }
    job = GraphDefinition(name="all", node_defs=ops, dependencies=dependencies).to_job()
    instance = DagsterInstance.local_temp(str(folder)) if durable else DagsterInstance.ephemeral()
    assert job.execute_in_process(instance=instance).success
