"""Internal. Workers, which run steps: inline, threads, processes, or any `Executor`."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from typing import Literal, cast, get_args

from oautom.errors import SettingError, shown
from oautom.values.names import check_max_workers, one_of
from oautom.workers.base import Workers
from oautom.workers.futures import FutureWorkers
from oautom.workers.inline import InlineWorkers
from oautom.workers.threads import ThreadWorkers

ExecutorName = Literal["threads", "inline", "processes"]


def make_workers(executor: ExecutorName | Executor, max_workers: int | None) -> Workers:
    """Return the workers for the argument `executor` of `OAutom`.

    Args:
        executor: See `OAutom`.
        max_workers: See `OAutom`.

    Raises:
        SettingError: There is no such executor, or it cannot have so many workers.
    """
    max_workers = check_max_workers(max_workers)
    name = one_of(executor, get_args(ExecutorName))
    if name == "threads":
        return ThreadWorkers(max_workers or _default_slots())
    if name == "inline":
        if max_workers not in (None, 1):
            raise SettingError(f"executor 'inline' does one step at a time, not {max_workers}")
        return InlineWorkers()
    if name == "processes":
        # multiprocessing takes 10 ms to import, and most programs use no processes
        from oautom.workers.processes import ProcessWorkers  # noqa: PLC0415

        return ProcessWorkers(max_workers or os.cpu_count() or 1)
    if issubclass(type(executor), Executor):
        executor = cast("Executor", executor)
        own = getattr(executor, "_max_workers", None)  # as in the executors of the standard library
        return FutureWorkers(executor, max_workers or own or _default_slots())
    raise SettingError(
        "executor must be 'threads', 'inline', 'processes' or a concurrent.futures.Executor, "
        f"not {shown(executor)}"
    )


def _default_slots() -> int:
    return min(32, (os.cpu_count() or 1) + 4)  # as concurrent.futures.ThreadPoolExecutor
