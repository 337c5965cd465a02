"""The executors for which the conformance suite is run, and what each of them cannot do.

`python executors.py NAME` checks one in a program of its own, and writes the report as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, NamedTuple

from oautom.testing import check_executor

WORKERS = 2


class Tried(NamedTuple):
    """An executor of the table.

    Attributes:
        told: How it is made, as a user writes it.
        make: Returns it.
        lacks: The rows that it cannot do.
        needs: The modules that must be there.
        workers: How many steps it does at once.
    """

    told: str
    make: Callable[[], Any]
    lacks: Collection[str] = ()
    needs: Collection[str] = ()
    workers: int = WORKERS


def spawned() -> Any:
    return ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn"))


def forked() -> Any:
    return ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("fork"))


def loky() -> Any:
    from loky import ProcessPoolExecutor as Loky

    return Loky(WORKERS)


def executorlib() -> Any:
    from executorlib import SingleNodeExecutor

    return SingleNodeExecutor(max_workers=WORKERS, block_allocation=True)


def lithops() -> Any:
    from lithops.concurrent.futures import ProcessPoolExecutor as Lithops

    localhost = {"runtime": sys.executable, "worker_processes": WORKERS}
    settings = {"backend": "localhost", "storage": "localhost", "log_level": "ERROR"}
    return Lithops(config={"lithops": settings, "localhost": localhost})


TRIED = {
    "threads": Tried("`'threads'`", lambda: "threads"),
    "inline": Tried("`'inline'`", lambda: "inline", workers=1),
    "processes": Tried("`'processes'`", lambda: "processes"),
    "thread pool": Tried("`ThreadPoolExecutor`", lambda: ThreadPoolExecutor(WORKERS)),
    "spawned": Tried("`ProcessPoolExecutor`", spawned),
    "forked": Tried("`ProcessPoolExecutor` with `fork`", forked),
    "loky": Tried("loky `ProcessPoolExecutor`", loky, needs=["loky"]),
    "executorlib": Tried("executorlib `SingleNodeExecutor`", executorlib, needs=["executorlib"]),
    "lithops": Tried("Lithops `ProcessPoolExecutor`, localhost", lithops, needs=["lithops"]),
}


def main(name: str) -> None:
    tried = TRIED[name]
    report = check_executor(tried.make, lacks=tried.lacks, workers=tried.workers)
    sys.stderr.write(f"{report}\n")
    json.dump([row._asdict() for row in report.rows], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
