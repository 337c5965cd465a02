"""Internal. Workers, which run steps: inline, threads, processes, or any `Executor`."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor
from inspect import signature
from typing import Any, Literal, Protocol, cast, get_args

from oautom.errors import SettingError, shown
from oautom.values.names import check_max_workers, one_of
from oautom.workers.base import Workers
from oautom.workers.futures import FutureWorkers, is_of_dask
from oautom.workers.inline import InlineWorkers
from oautom.workers.threads import ThreadWorkers

ExecutorName = Literal["threads", "inline", "processes"]


class DaskClient(Protocol):
    """A `distributed.Client`, as far as a type checker needs it."""

    def get_executor(self, **kwargs: Any) -> Any:
        """Return the client as a `concurrent.futures.Executor`."""


Where = ExecutorName | Executor | Callable[[], Executor | DaskClient] | DaskClient


def make_workers(executor: Where, max_workers: int | None) -> Workers:
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
    if is_of_dask(executor):
        # distributed takes 500 ms to import; the user has imported it
        from oautom.workers.dask.workers import make_dask_workers  # noqa: PLC0415

        return make_dask_workers(executor, max_workers)
    if issubclass(type(executor), Executor) or _makes(executor):
        made = cast("Executor | Callable[[], Executor]", executor)
        return FutureWorkers(made, max_workers, _default_slots())
    raise SettingError(
        "executor must be 'threads', 'inline', 'processes', a concurrent.futures.Executor or a "
        f"distributed.Client, not {shown(executor)}"
    )


def _makes(executor: object) -> bool:
    """Whether an argument may be a function that makes an executor; a class is not taken for it."""
    if isinstance(executor, type) or not callable(executor):
        return False
    try:
        signature(executor).bind()
    except TypeError:  # it takes more
        return False
    except ValueError:  # it does not say
        return True
    return True


def _default_slots() -> int:
    return min(32, (os.cpu_count() or 1) + 4)  # as concurrent.futures.ThreadPoolExecutor
