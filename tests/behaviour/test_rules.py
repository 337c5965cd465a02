"""Trigger rules, skipping, and failures that are allowed, as users meet them."""

from __future__ import annotations

from typing import Any

import pytest

from oautom import (
    BashExecution,
    Execution,
    Flow,
    FlowError,
    OAutom,
    PythonExecution,
    Skip,
    StepFailedError,
    TriggerRule,
)
from oautom.events import replay
from oautom.testing import assert_replays, check_history

from .conftest import SECONDS, Gate, nothing
from .worker_functions import skip_itself


def skip() -> None:
    raise Skip("there is nothing to do")


def states(vect: Any) -> dict[str, str]:
    return {name: step.state for name, step in vect.steps.items()}


def test_a_step_skips_itself_and_what_waits_for_it_is_skipped(any_app: OAutom) -> None:
    flow = Flow("flow", any_app)
    a, b = PythonExecution("a", flow, skip), PythonExecution("b", flow, nothing)
    a >> b
    vect = any_app.run(flow)

    assert (vect.state, states(vect)) == ("success", {"a": "skipped", "b": "skipped"})
    assert vect.steps["a"].error == "there is nothing to do"
    assert vect.steps["b"].error == (
        "its trigger rule is 'all_success', and of its 1 upstreams: 1 skipped"
    )
    assert (vect.steps["a"].attempt, vect.steps["b"].attempt) == (1, 0)
    with pytest.raises(StepFailedError, match=r"ended as 'skipped': there is nothing to do"):
        vect.result("a")
    check_history(any_app.log.read(), flow)
    assert_replays(any_app.log, flow)


def test_a_step_in_a_worker_process_skips_itself(new_app: Any) -> None:
    app = new_app(executor="processes", max_workers=1)
    flow = Flow("flow", app)
    PythonExecution("a", flow, skip_itself)

    step = app.run(flow).steps["a"]
    assert (step.state, step.error) == ("skipped", "not here")


def test_a_step_that_is_polled_skips_itself_when_it_is_asked(inline: OAutom) -> None:
    class Look(Execution):
        poll_interval = 0.0

        def run(self, context: Any) -> None:
            """Begin to look."""

        def check(self, context: Any) -> bool:
            raise Skip("it will never come")

    flow = Flow("flow", inline)
    Look("look", flow)

    assert inline.run(flow).steps["look"].error == "it will never come"


def test_a_skip_without_a_word_says_so(inline: OAutom) -> None:
    def silent() -> None:
        raise Skip

    flow = Flow("flow", inline)
    PythonExecution("a", flow, silent)

    assert inline.run(flow).steps["a"].error == "the step skipped itself"


@pytest.mark.parametrize(
    ("code", "skip_exit_code", "state"),
    [(99, 99, "skipped"), (99, None, "failed"), (3, 3, "skipped"), (99, 3, "failed")],
)
def test_a_command_skips_its_step_by_an_exit_code(
    inline: OAutom, code: int, skip_exit_code: Any, state: str
) -> None:
    flow = Flow("flow", inline)
    BashExecution("a", flow, f"exit {code}", skip_exit_code=skip_exit_code)
    vect = inline.run(flow)

    assert vect.steps["a"].state == state
    assert vect.steps["a"].error == f"the command exited with code {code}"


def test_the_exit_code_that_skips_is_99_unless_said(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    BashExecution("a", flow, "exit 99")

    assert inline.run(flow).steps["a"].state == "skipped"


@pytest.mark.parametrize("wrong", [0, 256, -1, True, "99"])
def test_what_is_no_exit_code_is_refused(inline: OAutom, wrong: Any) -> None:
    with pytest.raises(FlowError, match=r"skip_exit_code must be from 1 to 255 or None, not "):
        BashExecution("a", Flow("flow", inline), "true", skip_exit_code=wrong)


def test_a_clean_up_step_runs_whatever_happened_and_hides_no_failure(any_app: OAutom) -> None:
    flow = Flow("flow", any_app)
    work = BashExecution("work", flow, "exit 3")
    work >> PythonExecution("clean up", flow, nothing, trigger_rule=TriggerRule.ALL_DONE)
    vect = any_app.run(flow)

    assert states(vect) == {"work": "failed", "clean up": "success"}
    assert vect.state == "failed"
    assert vect.events()[-1].data["steps"] == ["work"]


def test_a_failure_that_is_allowed_fails_no_vect_nor_does_what_it_blocks(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    a = BashExecution("a", flow, "exit 3", allow_failure=True)
    a >> PythonExecution("b", flow, nothing) >> PythonExecution("c", flow, nothing)
    vect = inline.run(flow)

    assert states(vect) == {"a": "failed", "b": "upstream_failed", "c": "upstream_failed"}
    assert vect.state == "success"
    check_history(vect.events(), flow)


def test_what_is_blocked_by_another_failure_as_well_fails_the_vect(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    a = BashExecution("a", flow, "exit 3", allow_failure=True)
    b = BashExecution("b", flow, "exit 4")
    [a, b] >> PythonExecution("c", flow, nothing)
    vect = inline.run(flow)

    assert vect.events()[-1].data["steps"] == ["b", "c"]
    assert vect.state == "failed"


def test_always_waits_for_nothing(background: OAutom) -> None:
    gate = Gate()
    flow = Flow("flow", background)
    slow = PythonExecution("slow", flow, gate)
    slow >> PythonExecution("at once", flow, gate.opened.set, trigger_rule=TriggerRule.ALWAYS)
    vect = background.start(flow)

    assert vect.wait(SECONDS) == "success"


def test_a_rule_may_be_said_by_its_value_or_by_a_class(inline: OAutom) -> None:
    class CleanUp(PythonExecution):
        trigger_rule = TriggerRule.ALL_DONE

    flow = Flow("flow", inline)

    assert CleanUp("a", flow, nothing).trigger_rule is TriggerRule.ALL_DONE
    by_value = PythonExecution("b", flow, nothing, trigger_rule="one_failed")
    assert by_value.trigger_rule is TriggerRule.ONE_FAILED
    assert flow.options == {
        "a": {"trigger_rule": "all_done"},
        "b": {"trigger_rule": "one_failed"},
    }


@pytest.mark.parametrize("wrong", ["all", 3, ["all_done"]])
def test_a_rule_that_there_is_not_is_refused(inline: OAutom, wrong: Any) -> None:
    with pytest.raises(FlowError, match=r"trigger_rule must be one of TriggerRule.ALL_SUCCESS, "):
        PythonExecution("a", Flow("flow", inline), nothing, trigger_rule=wrong)


def test_what_is_as_usual_is_not_in_the_log(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    PythonExecution("a", flow, nothing, trigger_rule="all_success", allow_failure=False)

    assert "options" not in inline.run(flow).events()[0].data


def test_who_is_blocked_behind_a_failure_is_to_blame_and_who_is_not_is_not(inline: OAutom) -> None:
    """Step `clean` succeeds behind the failure of `a`; what `allowed` blocks is nobody's fault."""
    flow = Flow("flow", inline)
    a = BashExecution("a", flow, "exit 3")
    a >> PythonExecution("b", flow, nothing) >> PythonExecution("c", flow, nothing)
    clean = PythonExecution("clean", flow, nothing, trigger_rule=TriggerRule.ALL_DONE)
    a >> clean
    allowed = BashExecution("allowed", flow, "exit 4", allow_failure=True)
    [clean, allowed] >> PythonExecution("d", flow, nothing)
    vect = inline.run(flow)

    assert vect.steps["d"].state == "upstream_failed"
    assert vect.events()[-1].data["steps"] == ["a", "b", "c"]


def test_the_reason_of_a_skip_tells_how_all_upstreams_have_ended(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    a, b = BashExecution("a", flow, "exit 3"), PythonExecution("b", flow, nothing)
    [a, b] >> PythonExecution("c", flow, nothing, trigger_rule=TriggerRule.ALL_SKIPPED)
    [b, a] >> PythonExecution("d", flow, nothing, trigger_rule=TriggerRule.ALL_DONE)
    vect = inline.run(flow)

    assert vect.steps["c"].error == (
        "its trigger rule is 'all_skipped', and of its 2 upstreams: 1 failed"
    )


def test_a_replay_has_the_rules_with_which_the_vect_began(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    a = PythonExecution("a", flow, nothing, allow_failure=True)
    a >> PythonExecution("b", flow, nothing, trigger_rule=TriggerRule.ALL_DONE)
    vect = inline.run(flow)
    (state,) = replay(vect.events()).values()

    assert {name: step.rule for name, step in state.steps.items()} == {
        "a": "all_success",
        "b": "all_done",
    }
    assert state.options == flow.options
    assert state.params == {}


def test_the_reason_of_a_skip_names_each_end_once(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    slow = [PythonExecution(name, flow, nothing) for name in "ab"]
    failed = BashExecution("failed", flow, "exit 3")
    slow[0] >> failed >> slow[1]
    rule = TriggerRule.ALL_DONE_MIN_ONE_SUCCESS
    skipped = PythonExecution("skipped", flow, skip)
    [slow[0], skipped] >> PythonExecution("last", flow, nothing, trigger_rule=rule)
    vect = inline.run(flow)

    assert vect.steps["last"].error == (
        f"its trigger rule is '{rule}', and of its 2 upstreams: 1 skipped, 1 success"
    )
