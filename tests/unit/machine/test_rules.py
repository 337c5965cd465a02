"""Trigger rules: a verdict from how many upstreams are in which state."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest

from oautom.machine.rules import all_success, verdict

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


@pytest.mark.parametrize(
    ("rule", "upstreams", "tally", "expected"),
    [
        ("one_failed", 2, {"success": 1}, None),
        ("one_failed", 2, {"success": 1, "skipped": 1}, "skip"),
        ("one_failed", 2, {"failed": 1}, "start"),
        ("one_failed", 3, {"failed": 1, "upstream_failed": 1}, "start"),
        ("all_failed", 2, {"failed": 1, "upstream_failed": 1}, "start"),
        ("all_failed", 3, {"failed": 1, "upstream_failed": 1}, None),
        ("one_success", 2, {"upstream_failed": 2}, "block"),
        ("one_done", 1, {"upstream_failed": 1}, "skip"),
        ("none_failed", 3, {"success": 1, "skipped": 1}, None),
        ("all_done", 0, {}, "start"),
        ("one_failed", 0, {}, "start"),
    ],
)
def test_a_rule_decides(
    rule: str, upstreams: int, tally: dict[str, int], expected: str | None
) -> None:
    assert verdict(rule, upstreams, tally) == expected
