"""The facts that an engine shows to other processes: flows, plans, workers, pools. See `Client`.

They are in a table of their own, beside the events: no behaviour depends on them. So a failure to
write them logs a warning, and nothing else.
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
    """Shows the facts of an engine while its log is open; any thread, under the lock of the app.

    Args:
        log: The log.
        mode: The name of the mode of the engine.
        workers: The workers of the engine.
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
        """Show all facts, in place of those that the engine before has shown."""
        slots = self._workers.slots
        engine = {
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(),
            "mode": self._mode,
            "workers": None if slots == sys.maxsize else slots,
        }
        rows: dict[str, Any] = {ENGINE: engine}
        rows |= {f"{FLOW}{flow.name}": _flow(flow) for flow in flows}
        rows |= {f"{POOL}{name}": pool.slots for name, (pool, _) in pools.items()}
        rows |= {f"{PLAN}{name}": plan for name, plan in plans.items()}
        self._is_open = True
        self._show(rows, anew=True)

    def flow(self, flow: Flow, pools: Mapping[str, tuple[Pool, str]]) -> None:
        """Show a flow that was declared, or has got its steps, and its pools."""
        if self._is_open:
            rows: dict[str, Any] = {f"{FLOW}{flow.name}": _flow(flow)}
            rows |= {f"{POOL}{name}": pool.slots for name, (pool, _) in pools.items()}
            self._show({name: each for name, each in rows.items() if self._shown.get(name) != each})

    def plan(self, name: str, plan: Mapping[str, Any] | None) -> None:
        """Show a plan; None removes it."""
        if self._is_open:
            self._show({f"{PLAN}{name}": plan})

    def stranded(self, vects: Mapping[str, str | None]) -> None:
        """Show which Vects do not go on, and why; None for one that goes on again."""
        rows = {f"{STRANDED}{vect}": why for vect, why in vects.items()}
        self._show({name: why for name, why in rows.items() if self._shown.get(name) != why})

    def close(self) -> None:
        """Show that the engine has ended; the rows of its flows and plans stay."""
        if self._is_open:
            self._is_open = False
            with suppress(OAutomError):  # the log may have failed; then its lock shows the end
                self._log.show({ENGINE: None})

    def _show(self, rows: Mapping[str, Any], *, anew: bool = False) -> None:
        if not rows:
            return
        try:
            self._log.show(rows, anew=anew)
            self._shown.update(rows)
        except OAutomError as error:
            _logger.warning("other processes cannot see the state of this engine: %s", error)


def _flow(flow: Flow) -> dict[str, Any]:
    return {
        "params": flow.params.schema(),
        "description": flow.description,
        "max_active_vects": flow.max_active_vects,
        "when_full": flow.when_full,
        "limit_by": flow.limit_by,
        "version": flow.version,
    }
