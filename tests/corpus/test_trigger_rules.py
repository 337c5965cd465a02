"""Trigger rules decide as Airflow does, in each of its cases."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from oautom import Flow, OAutom, PythonExecution, Skip
from oautom.machine.rules import TriggerRule, all_success, verdict
from oautom.testing import assert_replays, check_history, simulate

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


# Whole flows


def declare(case: Case) -> Flow:
    flow = Flow("flow", OAutom())
    for node in case["nodes"]:
        PythonExecution(node["id"], flow, str, trigger_rule=node["trigger_rule"])
    for upstream, step in case["edges"]:
        flow.steps[step].depends(flow.steps[upstream])
    return flow


OUTCOMES = {"success": None, "failed": ValueError("no"), "skipped": Skip("no")}


def check_flow(case: Case, seed: int) -> None:
    flow = declare(case)
    vect = simulate(
        flow,
        outcomes={node["id"]: OUTCOMES[node["outcome"]] for node in case["nodes"]},
        durations={node["id"]: (seed * 7 + i * 5) % 11 for i, node in enumerate(case["nodes"])},
        seed=seed,
    )
    assert {name: step.state for name, step in vect.steps.items()} == case["expect"]
    assert [name for name, step in vect.steps.items() if step.attempt] == [
        node["id"] for node in case["nodes"] if node["id"] in case["ran"]
    ]
    is_bad = {"failed", "upstream_failed"} & set(case["expect"].values())
    assert vect.state == ("failed" if is_bad else "success")
    check_history(vect.events(), flow)
    assert_replays(vect, flow)


@pytest.mark.parametrize("case", sample_table("propagation"), ids=lambda case: case["name"])
def test_a_flow_of_the_sample_comes_to_the_states_that_airflow_gives(case: Case) -> None:
    for seed in range(5):
        check_flow(case, seed)


@pytest.mark.skipif(not HAS_CORPUS, reason=NO_CORPUS)
def test_every_flow_comes_to_the_states_that_airflow_gives_in_whatever_order() -> None:
    for case in corpus().table("propagation"):
        for seed in range(3):
            check_flow(case, seed)
