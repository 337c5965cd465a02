"""oautom: in the program's own thread, with its log in memory or in a file (synchronous=FULL)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.shapes import Graph, nothing
from oautom import Flow, OAutom, PythonExecution

PACKAGE = "oautom"
KEEPS = {
    "memory": "every transition in memory",
    "durable": "every transition, with fsync, before the next step begins",
}


def run(graph: Graph, folder: Path, *, durable: bool) -> None:
    """Declare the graph, and run it."""
    with OAutom(executor="inline", log=folder / "runs.db" if durable else None) as app:
        flow = Flow("flow", app)
        steps: list[PythonExecution] = []
        for number, upstreams in enumerate(graph):
            steps.append(PythonExecution(f"s{number}", flow, nothing))
            steps[-1].depends(*(steps[upstream] for upstream in upstreams))
        assert app.run("flow").state == "success"
