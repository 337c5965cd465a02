"""Trigger rules decide as Airflow does, in each of its cases."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from oautom.rules import TriggerRule, all_success, verdict

from .graphs import HAS_CORPUS, NO_CORPUS, corpus, sample_table

Case = dict[str, Any]
STATES = ("success", "skipped", "failed", "upstream_failed")


def decided(case: Case) -> str | None:
    """What Airflow decides: a state outranks that the task may run."""
    if case["state"] is not None:
        return {"upstream_failed": "block", "skipped": "skip"}[case["state"]]
    return "start" if case["passes"] else None


def is_asked(case: Case) -> bool:
    """Whether a case is one that oautom can have: numbers that add up, no mapped tasks removed."""
    is_real = case["consistent"] and not case["removed"] and case["total"] > 0
    return is_real and case["flag_upstream_failed"]


def check(cases: list[Case]) -> None:
    asked = [case for case in cases if is_asked(case)]
    assert {case["rule"] for case in asked} == set(TriggerRule)
    for case in asked:
        tally = {state: case[state] for state in STATES if case[state]}
        assert verdict(case["rule"], case["total"], tally) == decided(case), case
        if case["rule"] == TriggerRule.ALL_SUCCESS:
            assert all_success(case["total"], tally) == decided(case), case


def test_the_sample_decides_as_airflow_does() -> None:
    check(sample_table("trigger_rules_airflow"))


@pytest.mark.skipif(not HAS_CORPUS, reason=NO_CORPUS)
def test_every_case_decides_as_airflow_does() -> None:
    cases = corpus().table("trigger_rules_airflow")
    check(cases)
    assert Counter(is_asked(case) for case in cases)[True] > 900
