"""What an engine shows of itself to other processes: flows, plans, workers, pools. See `Client`.

It stands in a table of its own, beside the events: nothing that happens depends on it. So where it
cannot be written a warning is logged, and all goes on.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from oautom.errors import OAutomError
from oautom.events.log import EventLog
from oautom.events.shown import ENGINE, FLOW, PLAN, POOL, STRANDED
from oautom.flows.flow import Flow
from oautom.steps.options import Pool
from oautom.workers.base import Workers

_logger = logging.getLogger("oautom.app")


class Showing:
    """Shows what there is, from when the log is open; any thread, under the lock of the app.

    Args:
        log: The log.
        mode: Who drives: the name of the mode.
        workers: Who does the work.
    """

    def __init__(self, log: EventLog, mode: str, workers: Workers) -> None:
        self._log = log
        self._mode = mode
        self._workers = workers
        self._is_open = False
        self._shown: dict[str, Any] = {}

    def open(
        self, flows: Iterable[Flow], pools: Mapping[str, tuple[Pool, str]], plans: Mapping[str, Any]
    ) -> None:
        """Show all that there is, in place of what the engine before has shown."""
        slots = self._workers.slots
        engine = {
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(),
            "mode": self._mode,
            "workers": None if slots == sys.maxsize else slots,
        }
        told: dict[str, Any] = {ENGINE: engine}
        told |= {f"{FLOW}{flow.name}": _flow(flow) for flow in flows}
        told |= {f"{POOL}{name}": pool.slots for name, (pool, _) in pools.items()}
        told |= {f"{PLAN}{name}": plan for name, plan in plans.items()}
        self._is_open = True
        self._show(told, anew=True)

    def flow(self, flow: Flow, pools: Mapping[str, tuple[Pool, str]]) -> None:
        """Show a flow that was declared, or that has its steps by now, and the pools of these."""
        if self._is_open:
            told: dict[str, Any] = {f"{FLOW}{flow.name}": _flow(flow)}
            told |= {f"{POOL}{name}": pool.slots for name, (pool, _) in pools.items()}
            self._show({name: each for name, each in told.items() if self._shown.get(name) != each})

    def plan(self, name: str, plan: Mapping[str, Any] | None) -> None:
        """Show a plan; None for one that is no more."""
        if self._is_open:
            self._show({f"{PLAN}{name}": plan})

    def stranded(self, vects: Mapping[str, str | None]) -> None:
        """Show which Vects do not go on, and why; None of one that does again."""
        told = {f"{STRANDED}{vect}": why for vect, why in vects.items()}
        self._show({name: why for name, why in told.items() if self._shown.get(name) != why})

    def close(self) -> None:
        """Show that there is no engine any more; what it has told of flows and plans stays."""
        if self._is_open:
            self._is_open = False
            with suppress(OAutomError):  # as where the log has failed: then its lock tells it
                self._log.show({ENGINE: None})

    def _show(self, told: Mapping[str, Any], *, anew: bool = False) -> None:
        if not told:
            return
        try:
            self._log.show(told, anew=anew)
            self._shown.update(told)
        except OAutomError as error:
            _logger.warning("other processes do not see what this one runs: %s", error)


def _flow(flow: Flow) -> dict[str, Any]:
    return {
        "params": flow.params.schema(),
        "description": flow.description,
        "max_active_vects": flow.max_active_vects,
        "when_full": flow.when_full,
        "limit_by": flow.limit_by,
        "version": flow.version,
    }
