"""DBOS: a workflow that calls one step after the other, its system database in SQLite."""

from __future__ import annotations

from pathlib import Path

from dbos import DBOS

from benchmarks.shapes import Graph, nothing

PACKAGE = "dbos"
KEEPS = {"durable": "the result of every step before the next one begins, as its defaults are"}


def prepare(folder: Path) -> None:
    """Start it: its tables are made then."""
    url = f"sqlite:///{folder / 'dbos.sqlite'}"
    DBOS(config={"name": "peers", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()


@DBOS.step()
def step(*upstreams: object) -> None:
    """Do nothing, as a step."""
    nothing(*upstreams)


@DBOS.workflow()
def workflow(graph: Graph) -> None:
    """Call the steps in an order in which each comes after its upstreams."""
    outputs: list[object] = []
    for upstreams in graph:
        outputs.append(step(*(outputs[upstream] for upstream in upstreams)))


def run(graph: Graph, folder: Path, *, durable: bool) -> None:
    """Run the workflow."""
    workflow([list(upstreams) for upstreams in graph])


def finish() -> None:
    """Stop its threads."""
    DBOS.destroy()
