"""Tests as a feature: virtual time, simulation, replay, invariants and strategies for flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oautom.audit.invariants import check_history, violations
from oautom.testing.clock import SimulatedClock
from oautom.testing.executors import ExecutorLacksError, check_executor
from oautom.testing.exploration import End, Exploration, explore
from oautom.testing.replays import ReplayDiffersError, assert_replays
from oautom.testing.simulation import simulate
from oautom.workers.base import WorkLostError

if TYPE_CHECKING:
    from oautom.testing.strategies import durations, flows, histories, outcomes

_STRATEGIES = ("durations", "flows", "histories", "outcomes")

__all__ = [
    "End",
    "ExecutorLacksError",
    "Exploration",
    "ReplayDiffersError",
    "SimulatedClock",
    "WorkLostError",
    "assert_replays",
    "check_executor",
    "check_history",
    "durations",
    "explore",
    "flows",
    "histories",
    "outcomes",
    "simulate",
    "violations",
]


def __getattr__(name: str) -> Any:
    """Import the strategies at their first use: Hypothesis is an extra."""
    if name not in _STRATEGIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from oautom.testing import strategies  # noqa: PLC0415 - see above

    return getattr(strategies, name)
