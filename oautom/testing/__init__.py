"""Tests as a feature: virtual time, simulation, replay and invariants for flows."""

from oautom.events.check import check_history, violations
from oautom.testing.clock import SimulatedClock
from oautom.testing.exploration import End, Exploration, explore
from oautom.testing.replaying import ReplayDiffersError, assert_replays
from oautom.testing.simulation import simulate

__all__ = [
    "End",
    "Exploration",
    "ReplayDiffersError",
    "SimulatedClock",
    "assert_replays",
    "check_history",
    "explore",
    "simulate",
    "violations",
]
