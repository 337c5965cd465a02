"""One measurement, in the environment of one engine: `python -m benchmarks.peers.side NAME ...`.

Prints a line of JSON: the seconds from the first line that declares a step to the end of the run.
The import of the engine, and the start of what it needs, are not counted; a small run comes before.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.shapes import graph

WIDTH = 20
"""How many steps a layer has."""


def main(name: str, kind: str, size: str, durable: str) -> None:
    """Run a graph once, and print how long that took."""
    peer = import_module(f"benchmarks.peers.with_{name}")
    is_durable = durable == "durable"
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        warm, timed = Path(folder, "warm"), Path(folder, "timed")
        warm.mkdir()
        timed.mkdir()
        if hasattr(peer, "prepare"):
            peer.prepare(warm)
        peer.run(graph("chain", 3), warm, durable=is_durable)
        made = graph(kind, int(size), WIDTH)
        begin = time.perf_counter()
        peer.run(made, timed, durable=is_durable)
        seconds = time.perf_counter() - begin
        if hasattr(peer, "finish"):
            peer.finish()
    sys.stdout.write(json.dumps({"seconds": seconds, "version": version(peer.PACKAGE)}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
