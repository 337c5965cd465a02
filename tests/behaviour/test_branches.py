"""Branches: a step that chooses which of its dependants are followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oautom import BranchExecution, Flow, OAutom, PythonExecution, RetryPolicy, TriggerRule
from oautom.testing import assert_replays, check_history, explore, simulate

from .conftest import SECONDS, nothing
from .worker_functions import choose_b


def states(vect: Any) -> dict[str, str]:
    return {name: step.state for name, step in vect.steps.items()}


def branch_flow(app: OAutom, choice: Any) -> Flow:
    """`choose` leads to `a` and `b`; `end` waits for both, and starts where one was followed."""
    flow = Flow("flow", app)
    choose = BranchExecution("choose", flow, lambda: choice)
    a, b = PythonExecution("a", flow, nothing), PythonExecution("b", flow, nothing)
    rule = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
    end = PythonExecution("end", flow, nothing, trigger_rule=rule)
    choose >> [a, b] >> end
    return flow


@pytest.mark.parametrize(
    ("choice", "followed"),
    [("a", ["a"]), (["b"], ["b"]), (("a", "b"), ["a", "b"]), ([], []), (None, [])],
)
def test_only_what_is_chosen_is_followed(any_app: OAutom, choice: Any, followed: list[str]) -> None:
    flow = branch_flow(any_app, choice)
    vect = any_app.run(flow)

    assert vect.result("choose") == followed
    ended = {name: "success" if name in followed else "skipped" for name in "ab"}
    assert states(vect) == {
        "choose": "success",
        **ended,
        "end": "success" if followed else "skipped",
    }
    assert vect.state == "success"
    check_history(any_app.log.read(), flow)
    assert_replays(any_app.log, flow)


def test_the_reason_is_told(inline: OAutom) -> None:
    vect = inline.run(branch_flow(inline, "a"))
    assert vect.steps["b"].error == "branch 'choose' chose 'a'"

    with OAutom(executor="inline") as app:
        vect = app.run(branch_flow(app, None))
        assert vect.steps["a"].error == "branch 'choose' chose nothing"


def test_a_dependant_that_waits_for_a_chosen_one_too_is_followed(inline: OAutom) -> None:
    """As in Airflow: a branch that leads on to where it joins, with nothing in between."""
    flow = Flow("flow", inline)
    choose = BranchExecution("choose", flow, lambda: "work")
    work, between = (
        PythonExecution("work", flow, nothing),
        PythonExecution("between", flow, nothing),
    )
    join = PythonExecution("join", flow, nothing)
    choose >> work >> between >> join
    choose >> join

    assert inline.run(flow).steps["join"].state == "success"


def test_what_is_not_followed_is_skipped_whatever_its_rule_is(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    choose = BranchExecution("choose", flow, lambda: None)
    for rule in TriggerRule:
        step = PythonExecution(rule.value, flow, nothing, trigger_rule=rule)
        choose >> step
    vect = inline.run(flow)

    assert {name for name, step in vect.steps.items() if step.state != "skipped"} <= {
        *("choose", "always")  # that one may have started before
    }
    check_history(inline.log.read(), flow)


@pytest.mark.parametrize("crash_at", [(), ("in", 3)])
def test_of_a_step_that_has_started_no_attempt_is_begun_after_a_choice_against_it(
    inline: OAutom, crash_at: Any
) -> None:
    """It is tried again after a failure, or after a crash; by then the branch has chosen."""
    flow = Flow("flow", inline)
    early = {"trigger_rule": TriggerRule.ALWAYS, "retry": RetryPolicy(delay=9, jitter=0)}
    BranchExecution("choose", flow, nothing) >> [
        PythonExecution("fails", flow, nothing, **early),
        PythonExecution("goes on", flow, nothing, **early),
    ]
    times = {"choose": 5, "fails": 1, "goes on": [6, 60]}
    ends = {"choose": [[]], "fails": ValueError("no")}
    vect = simulate(flow, durations=times, outcomes=ends, crash_at=crash_at)

    wanted = "skipped" if crash_at else "success"
    assert states(vect) == {"choose": "success", "fails": "skipped", "goes on": wanted}
    assert vect.steps["fails"].attempt == 1
    check_history(vect.events(), flow)
    assert_replays(vect, flow)


def test_steps_can_be_returned_themselves(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    a, b = PythonExecution("a", flow, nothing), PythonExecution("b", flow, nothing)
    BranchExecution("choose", flow, lambda: [b]) >> [a, b]

    assert states(inline.run(flow)) == {"a": "skipped", "b": "success", "choose": "success"}


def test_a_branch_in_a_worker_process(new_app: Any) -> None:
    app = new_app(executor="processes", max_workers=1)
    flow = Flow("flow", app)
    a, b = PythonExecution("a", flow, nothing), PythonExecution("b", flow, choose_b)
    BranchExecution("choose", flow, choose_b) >> [a, b]

    assert states(app.run(flow)) == {"a": "skipped", "b": "success", "choose": "success"}


@pytest.mark.parametrize(
    ("choice", "error"),
    [
        ("c", "it chose 'c', which does not directly depend on it; its dependants: 'a', 'b'"),
        (["a", "end"], "it chose 'end', which does not directly depend on it; its dependants:"),
        (17, "branch 'choose' must return names of steps that depend on it, not 17"),
        ("a\x1b\n" + "b" * 10**6, "it chose 'a\\x1b\\nbbbbb"),
        ([1], "branch 'choose' must return names of steps that depend on it, not 1"),
    ],
)
def test_a_choice_that_is_none_fails_the_branch(inline: OAutom, choice: Any, error: str) -> None:
    flow = branch_flow(inline, choice)
    vect = inline.run(flow)

    assert (vect.steps["choose"].error or "").startswith(error)
    assert len(vect.steps["choose"].error or "") < 300
    assert states(vect)["a"] == states(vect)["end"] == "upstream_failed"
    check_history(inline.log.read(), flow)
    assert_replays(inline.log, flow)


def test_a_branch_on_which_nothing_depends_can_choose_nothing(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    BranchExecution("choose", flow, lambda: "a")

    assert inline.run(flow).steps["choose"].error == (
        "it chose 'a', which does not directly depend on it; its dependants: there are none"
    )


def test_a_branch_chooses_anew_when_it_is_retried(inline: OAutom) -> None:
    choices = iter(["c", "a"])
    flow = Flow("flow", inline)
    choose = BranchExecution("choose", flow, lambda: next(choices))
    choose >> [PythonExecution(name, flow, nothing) for name in "ab"]
    vect = inline.run(flow)
    assert vect.state == "failed"
    vect.retry()

    assert vect.wait() == "success"
    assert states(vect) == {"choose": "success", "a": "success", "b": "skipped"}
    check_history(inline.log.read(), flow)
    assert_replays(inline.log, flow)


def test_a_followed_step_that_fails_is_retried_and_the_others_stay_skipped(inline: OAutom) -> None:
    fails = iter([True, False])

    def work() -> None:
        if next(fails):
            raise ValueError("no")

    flow = Flow("flow", inline)
    choose = BranchExecution("choose", flow, lambda: "a")
    choose >> [PythonExecution("a", flow, work), PythonExecution("b", flow, nothing)]
    vect = inline.run(flow)
    vect.retry()

    assert vect.wait() == "success"
    assert vect.steps["b"].state == "skipped"
    check_history(inline.log.read(), flow)


def test_the_choice_outlives_the_program(tmp_path: Path) -> None:
    with OAutom(log=tmp_path / "runs.db") as app:
        assert app.run(branch_flow(app, "a"), vect_id="one").wait(SECONDS) == "success"
    with OAutom(log=tmp_path / "runs.db") as app:
        branch_flow(app, "b")
        assert app.vect("one").steps["b"].error == "branch 'choose' chose 'a'"


def test_a_choice_is_simulated_and_explored(inline: OAutom) -> None:
    flow = branch_flow(inline, "b")

    assert states(simulate(flow, outcomes={"choose": "b"}))["a"] == "skipped"
    assert states(simulate(flow))["end"] == "skipped"
    crashed = simulate(flow, outcomes={"choose": "b"}, crash_at=("in", 2))
    assert states(crashed) == states(simulate(flow, outcomes={"choose": "b"}))
    assert len(explore(flow, outcomes={"choose": ["a", "b"]}).ends) == 1
