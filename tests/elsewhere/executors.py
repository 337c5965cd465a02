"""The executors for which the conformance suite is run, and what each of them cannot do.

`python executors.py NAME BYTES ROW...` checks one in a program of its own, and writes
report.json.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from oautom.testing import check_executor

WORKERS = 2


class Tried(NamedTuple):
    """An executor of the table.

    Attributes:
        told: How it is made, as a user writes it.
        make: Returns it.
        lacks: The rows that it cannot do.
        idle: The rows in which there is nothing to try.
        short: The rows that are tried each time; None for all. The others are for the long form.
        needs: The modules that must be there.
        workers: How many steps it does at once.
    """

    told: str
    make: Callable[[], Any]
    lacks: Collection[str] = ()
    idle: Collection[str] = ()
    needs: Collection[str] = ()
    short: Collection[str] | None = None
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
    settings: dict[str, Any] = {
        "backend": "localhost",
        "storage": "localhost",
        "log_level": "ERROR",
    }
    settings["data_limit"] = 1000  # megabytes: it takes 4 unless told
    return Lithops(config={"lithops": settings, "localhost": localhost})


@contextmanager
def dask() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


AT_HOME = ("module", "loss")
CHEAP = (
    "runs",
    "errors",
    "cancel",
    "timeout",
    "queue",
    "log",
    "print",
    "lambda",
    "script",
    "close",
)

TRIED = {
    "threads": Tried("`'threads'`", lambda: "threads", idle=AT_HOME),
    "inline": Tried("`'inline'`", lambda: "inline", idle=AT_HOME, workers=1),
    "thread pool": Tried("`ThreadPoolExecutor`", lambda: ThreadPoolExecutor(WORKERS), idle=AT_HOME),
    "processes": Tried("`'processes'`", lambda: "processes", idle=["script"], short=CHEAP),
    "spawned": Tried("`ProcessPoolExecutor`, spawned", spawned, idle=["script"]),
    "forked": Tried("`ProcessPoolExecutor`, forked", forked),
    "loky": Tried("loky `ProcessPoolExecutor`", loky, needs=["loky"], short=CHEAP),
    "executorlib": Tried(
        "executorlib `SingleNodeExecutor`", executorlib, needs=["executorlib"], short=CHEAP
    ),
    "lithops": Tried(
        "Lithops `ProcessPoolExecutor`, localhost",
        lithops,
        lacks=["close"],  # its cleaner goes on for a while, as a process of its own
        needs=["lithops"],
        short=["runs", "cancel", "log"],  # each call is a new Python with all of Lithops
    ),
    "dask": Tried("Dask `Client` of a `LocalCluster`", dask, needs=["distributed"]),
}

ROWS = {
    "runs": "runs a step",
    "forwards": "hands on 100 MB",
    "errors": "errors, also one that cannot be pickled",
    "skip": "`Skip`",
    "cancel": "a cancel reaches the step",
    "timeout": "a timeout reaches the step",
    "queue": "a queued step is taken back",
    "log": "`context.log` comes live",
    "print": "`print` comes live",
    "lambda": "a lambda",
    "script": "a function of the script",
    "module": "a module that is not there: a sentence",
    "loss": "a worker dies: its step runs again, or fails with a sentence",
    "close": "nothing is left after `close`",
}


def table() -> str:
    """Return the table of docs/executors.md."""
    names = list(TRIED)
    lines = [["", *(TRIED[name].told for name in names)], ["---"] * (len(names) + 1)]
    for row, told in ROWS.items():
        lines.append([told, *(_cell(TRIED[name], row) for name in names)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(tried: Tried, row: str) -> str:
    return "no" if row in tried.lacks else "-" if row in tried.idle else "yes"


def main(name: str, size_bytes: int, rows: list[str]) -> None:
    tried = TRIED[name]
    report = check_executor(
        tried.make,
        lacks=tried.lacks,
        workers=tried.workers,
        size_bytes=size_bytes,
        rows=rows or None,
        seconds=60,
    )
    sys.stderr.write(f"{report}\n")
    Path("report.json").write_text(json.dumps([row._asdict() for row in report.rows]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
