"""Says how a scheduler stands, as a line of JSON: `python look.py ADDRESS`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from distributed import Client


def standing(dask_scheduler: Any) -> dict[str, Any]:
    """Return what the scheduler has; it is called there."""
    states = Counter(task.state for task in dask_scheduler.tasks.values())
    workers = {
        address: {"state": worker.status.name, "tasks": len(worker.processing)}
        for address, worker in dask_scheduler.workers.items()
    }
    ledgers = [each for name, each in dask_scheduler.plugins.items() if name.startswith("oautom")]
    return {
        "tasks": dict(states),
        "claims": sum(len(each._entries) for each in ledgers),
        "programs": sum(len(each._clients) for each in ledgers),
        "workers": workers,
        "clients": list(dask_scheduler.clients),
    }


if __name__ == "__main__":
    with Client(sys.argv[1], timeout=20) as client:
        sys.stdout.write(json.dumps(client.run_on_scheduler(standing)) + "\n")
