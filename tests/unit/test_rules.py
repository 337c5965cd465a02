"""Trigger rules: a verdict from how many upstreams are in which state."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest

from oautom.rules import all_success

UPSTREAM_STATES = ("open", "success", "failed", "upstream_failed", "cancelled")


def expected(states: tuple[str, ...]) -> str | None:
    if "failed" in states or "upstream_failed" in states:
        return "block"
    return "start" if all(state == "success" for state in states) else None


@pytest.mark.parametrize("upstreams", [0, 1, 2, 3])
def test_all_success_starts_blocks_or_waits(upstreams: int) -> None:
    for states in combinations_with_replacement(UPSTREAM_STATES, upstreams):
        tally = {state: states.count(state) for state in set(states) - {"open"}}

        assert all_success(upstreams, tally) == expected(states), states


def test_one_failure_blocks_while_others_still_run() -> None:
    assert all_success(1000, {"failed": 1}) == "block"
    assert all_success(1000, {"upstream_failed": 1, "success": 998}) == "block"


def test_a_count_of_zero_is_as_none() -> None:
    assert all_success(1, {"success": 1, "failed": 0, "upstream_failed": 0}) == "start"
    assert all_success(1, {"success": 0}) is None
