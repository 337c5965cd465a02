"""Prefect: a flow that submits tasks, with the server and the SQLite file that it starts itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks.shapes import Graph, nothing, sinks

PACKAGE = "prefect"
KEEPS = {"durable": "states of tasks, sent to its server, which writes them a little later"}


def prepare(folder: Path) -> None:
    """Say where its server keeps what: it is started by the first flow."""
    os.environ.update(
        PREFECT_HOME=str(folder),
        PREFECT_LOGGING_LEVEL="CRITICAL",
        PREFECT_SERVER_LOGGING_LEVEL="CRITICAL",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120",
        DO_NOT_TRACK="1",
    )


def run(graph: Graph, folder: Path, *, durable: bool) -> None:
    """Run a flow whose tasks wait for those before them."""
    from prefect import flow, task  # noqa: PLC0415 - it reads the environment when it is imported

    step = task(nothing)

    @flow
    def all_steps() -> None:
        futures: list[Any] = []
        for upstreams in graph:
            futures.append(step.submit(wait_for=[futures[up] for up in upstreams]))
        for number in sinks(graph):
            futures[number].result()

    all_steps()
