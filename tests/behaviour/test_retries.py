"""Retries and timeouts, as users meet them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    BashExecution,
    Context,
    Execution,
    Flow,
    FlowError,
    OAutom,
    OAutomMode,
    Pool,
    PythonExecution,
    RetryPolicy,
    StepFailedError,
)
from oautom.testing import SimulatedClock, assert_replays, check_history

from .conftest import SECONDS, nothing
from .worker_functions import fail_until

SOON = RetryPolicy(max_attempts=3, delay=0.001)


def flaky(failures: int, error: type[Exception] = ValueError) -> Callable[[Context], int]:
    """A function that fails so often, then returns the number of the attempt."""

    def work(context: Context) -> int:
        if context.attempt <= failures:
            raise error(f"attempt {context.attempt}")
        return context.attempt

    return work


def names(vect: Any, step: str) -> list[str]:
    return [event.name.removeprefix("step.") for event in vect.events() if event.step == step]


def test_a_step_that_has_failed_is_tried_again(any_app: OAutom) -> None:
    flow = Flow("flow", any_app)
    a = PythonExecution("a", flow, flaky(2), retry=SOON)
    b = PythonExecution("b", flow, nothing)
    a >> b
    vect = any_app.run(flow)

    assert (vect.state, vect.result("a"), vect.steps["a"].attempt) == ("success", 3, 3)
    assert vect.steps["a"].error is None
    assert names(vect, "a") == [
        *("started", "retried", "released", "started", "retried", "released", "started"),
        "succeeded",
    ]
    check_history(any_app.log.read(), flow)
    assert_replays(any_app.log, flow)


def test_after_the_last_attempt_it_has_failed(any_app: OAutom) -> None:
    flow = Flow("flow", any_app)
    a, b = PythonExecution("a", flow, flaky(9), retry=SOON), PythonExecution("b", flow, nothing)
    a >> b
    vect = any_app.run(flow)

    assert (vect.state, vect.steps["b"].state) == ("failed", "upstream_failed")
    assert vect.steps["a"].attempt == 3
    with pytest.raises(StepFailedError, match="ValueError: attempt 3") as caught:
        vect.result("a")
    assert str(caught.value.__cause__) == "attempt 3"
    check_history(any_app.log.read(), flow)


def test_an_error_that_is_not_covered_fails_the_step_at_once(inline: OAutom) -> None:
    flow = Flow("flow", inline, retry=RetryPolicy(delay=0, retry_on=(ConnectionError,)))
    PythonExecution("known", flow, flaky(1, ConnectionRefusedError))
    PythonExecution("other", flow, flaky(1, ValueError))
    vect = inline.run(flow)

    assert {step.name: (step.state, step.attempt) for step in vect.steps.values()} == {
        "known": ("success", 2),
        "other": ("failed", 1),
    }


def test_a_step_says_otherwise_than_its_flow_and_a_class_than_the_flow(inline: OAutom) -> None:
    class Stubborn(PythonExecution):
        retry = RetryPolicy(max_attempts=4, delay=0)
        timeout = 5

    flow = Flow("flow", inline, retry=RetryPolicy(max_attempts=2, delay=0), timeout=60)
    PythonExecution("as the flow", flow, flaky(9))
    PythonExecution("once", flow, flaky(9), retry=RetryPolicy(max_attempts=1))
    Stubborn("as the class", flow, flaky(9))
    Stubborn("by itself", flow, flaky(9), retry=RetryPolicy(max_attempts=3, delay=0), timeout=7)
    vect = inline.run(flow)

    assert [step.attempt for step in vect.steps.values()] == [2, 1, 4, 3]
    assert [step.timeout for step in flow.steps.values()] == [60, 60, 5, 7]


def test_the_delays_are_kept_on_any_clock() -> None:
    clock = SimulatedClock()
    policy = RetryPolicy(max_attempts=4, delay=3600, max_delay=300, jitter=0)
    with OAutom(executor="inline", clock=clock) as app:
        flow = Flow("flow", app)
        PythonExecution("a", flow, flaky(3), retry=policy)
        vect = app.run(flow)
    starts = [event.time for event in vect.events() if event.name == "step.started"]

    assert [(then - starts[0]).total_seconds() for then in starts] == [0.0, 300.0, 600.0, 900.0]


def test_a_command_is_tried_again_and_the_step_waits_without_a_worker(
    new_app: Any, tmp_path: Path
) -> None:
    """The other step has the only worker while the first waits for its second attempt."""
    app = new_app(max_workers=1)
    flow = Flow("flow", app)
    command = "if [ -e other ]; then echo done; else exit 3; fi"
    policy = RetryPolicy(max_attempts=99, delay=0.05)
    BashExecution("first", flow, command, cwd=tmp_path, retry=policy)
    BashExecution("other", flow, "touch other", cwd=tmp_path)
    vect = app.run(flow)

    assert vect.result("first") == "done"
    assert vect.steps["first"].attempt > 1
    retried = next(event for event in vect.events() if event.name == "step.retried")
    assert retried.data["exit_code"] == 3


def test_a_step_in_a_worker_process_is_tried_again_by_the_kind_of_its_error(new_app: Any) -> None:
    """Also where the exception itself cannot come home."""
    app = new_app(executor="processes", max_workers=1)
    flow = Flow("flow", app)
    policy = RetryPolicy(delay=0, retry_on=(LookupError,))
    PythonExecution("known", flow, fail_until, (2, "lookup"), retry=policy)
    PythonExecution("unpicklable", flow, fail_until, (2, "unpicklable"), retry=policy)
    PythonExecution("other", flow, fail_until, (2, "value"), retry=policy)
    vect = app.run(flow)

    assert {step.name: (step.state, step.attempt) for step in vect.steps.values()} == {
        "known": ("success", 2),
        "unpicklable": ("success", 2),
        "other": ("failed", 1),
    }


def test_a_step_that_waits_for_its_next_attempt_is_cancelled_with_its_vect(
    any_app: OAutom, connect: Any
) -> None:
    flow = Flow("flow", any_app)
    PythonExecution("a", flow, flaky(9), retry=RetryPolicy(delay=300))
    cancel = lambda sender, event: any_app.vect(event.vect).cancel("enough")  # noqa: E731
    connect(cancel, "step.retried", sender=flow)
    vect = any_app.start(flow)

    assert vect.wait(SECONDS) == "cancelled"
    assert vect.steps["a"].state == "cancelled"
    assert names(vect, "a") == ["started", "retried", "cancelled"]
    check_history(any_app.log.read(), flow)


def test_a_step_may_be_asked_how_it_stands_while_it_waits(background: OAutom) -> None:
    flow = Flow("flow", background)
    PythonExecution("a", flow, flaky(9), retry=RetryPolicy(delay=300))
    vect = background.start(flow)
    with pytest.raises(TimeoutError):
        vect.wait(0.2)

    step = vect.steps["a"]
    assert (step.state, step.error, step.attempt) == ("up_for_retry", "ValueError: attempt 1", 1)
    assert vect.status()["executions"][0]["state"] == "up_for_retry"


# Timeouts


@pytest.mark.parametrize("executor", ["threads", "inline", "processes"])
def test_a_command_that_takes_too_long_is_ended_and_has_failed(
    new_app: Any, executor: str, tmp_path: Path
) -> None:
    app = new_app(executor=executor)
    flow = Flow("flow", app)
    BashExecution("slow", flow, "sleep 1000 & sleep 1000; touch went-on", cwd=tmp_path, timeout=0.1)
    vect = app.run(flow)

    assert vect.steps["slow"].error == "it took longer than its timeout of 0.1 seconds"
    with pytest.raises(StepFailedError) as caught:
        vect.result("slow")
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert names(vect, "slow") == ["started", "failed"]
    assert not (tmp_path / "went-on").exists()
    check_history(app.log.read(), flow)


def test_a_command_that_ends_well_when_it_is_ended_has_failed_all_the_same(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    BashExecution("slow", flow, "trap 'exit 0' TERM; sleep 1000 & wait", timeout=0.2)

    assert inline.run(flow).state == "failed"


def test_an_attempt_that_takes_too_long_is_tried_again(mode_app: OAutom, tmp_path: Path) -> None:
    flow = Flow("flow", mode_app, timeout=0.3, retry=SOON)
    BashExecution("slow", flow, "[ -e here ] || { touch here; sleep 1000; }", cwd=tmp_path)
    vect = mode_app.run(flow)

    assert (vect.state, vect.steps["slow"].attempt) == ("success", 2)
    assert [e.data["timeout"] for e in vect.events() if e.name == "step.retried"] == [0.3]


def test_a_timeout_can_be_left_out_of_what_is_worth_another_attempt(inline: OAutom) -> None:
    flow = Flow("flow", inline, retry=RetryPolicy(delay=0, retry_on=(ValueError,)))
    BashExecution("slow", flow, "sleep 1000", timeout=0.1)

    assert inline.run(flow).steps["slow"].attempt == 1


def test_a_function_that_listens_is_told_that_its_time_is_up(new_app: Any) -> None:
    def listens(context: Context) -> str:
        assert context.cancelled.wait(SECONDS)
        return "too late"

    app = new_app()
    flow = Flow("flow", app)
    PythonExecution("slow", flow, listens, timeout=0.05)
    vect = app.run(flow)

    assert vect.state == "failed"
    assert (vect.steps["slow"].error or "").startswith("it took longer than its timeout of 0.05 s")


def test_inline_a_function_that_listens_is_told_too(inline: OAutom) -> None:
    """Its thread is the scheduler's, which would notice only afterwards."""
    seen: list[bool] = []

    def listens(context: Context) -> None:
        seen.append(context.cancelled.wait(SECONDS))

    flow = Flow("flow", inline)
    PythonExecution("slow", flow, listens, timeout=0.05)
    vect = inline.run(flow)

    assert seen == [True]
    assert vect.steps["slow"].error == "it took longer than its timeout of 0.05 seconds"


def test_a_thread_that_does_not_listen_is_abandoned_and_awaited_by_the_next_attempt(
    new_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Its worker is replaced, so that others go on; but no two attempts of a step run at once."""
    go_on, at_work = threading.Event(), []

    def deaf(context: Context) -> str:
        at_work.append(context.attempt)
        if context.attempt == 1:
            go_on.wait(SECONDS)
        at_work.remove(context.attempt)
        return f"attempt {context.attempt}, beside {at_work}"

    app = new_app(OAutomMode.background, max_workers=1)
    flow, other = Flow("flow", app), Flow("other", app)
    PythonExecution("deaf", flow, deaf, timeout=0.1, retry=RetryPolicy(delay=0, max_attempts=2))
    PythonExecution("nothing", other, nothing)
    with caplog.at_level(logging.WARNING, logger="oautom.runner"):
        vect = app.start(flow)
        while vect.steps["deaf"].state == "running" or not vect.steps["deaf"].error:
            time.sleep(0.01)
        assert app.run(other).state == "success"
        assert vect.steps["deaf"].state == "pending"
        assert vect.explain("deaf") == (
            "`deaf` failed attempt 1 of 2, and waits for the end of its attempt 1, which is at "
            "work still"
        )
        go_on.set()
        assert vect.wait(SECONDS) == "success"

    assert vect.result("deaf") == "attempt 2, beside []"
    retried = next(event for event in vect.events() if event.name == "step.retried")
    assert retried.data["abandoned"] is True
    assert "does not listen to context.cancelled, and what it does was abandoned" in caplog.text
    late = next(event for event in vect.events() if event.name == "step.late_result")
    assert (late.attempt, late.data) == (1, {"output": "attempt 1, beside []"})
    assert names(vect, "deaf") == [
        *("started", "retried", "released", "late_result", "started", "succeeded")
    ]
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


def test_a_function_that_tidies_up_when_its_time_is_up_is_awaited(new_app: Any) -> None:
    at_work, most = [], []

    def tidy(context: Context) -> None:
        at_work.append(context.attempt)
        most.append(len(at_work))
        context.cancelled.wait(SECONDS)
        time.sleep(0.1)  # it tidies up
        at_work.remove(context.attempt)
        if context.attempt < 3:
            raise RuntimeError("it was cut short")

    app = new_app(OAutomMode.background, max_workers=3)
    flow = Flow("flow", app)
    policy = RetryPolicy(delay=0, max_attempts=3)
    PythonExecution("tidy", flow, tidy, timeout=0.05, retry=policy, pool=Pool("p", 1))
    vect = app.run(flow)

    assert (vect.state, most) == ("failed", [1, 1, 1])
    assert [event.data.get("abandoned") for event in vect.events() if "error" in event.data] == [
        *(None, None, None)
    ]


def test_a_step_that_is_polled_for_too_long_has_failed(inline: OAutom) -> None:
    class Look(Execution):
        poll_interval = 0.01

        def run(self, context: Context) -> None:
            """Begin to look."""

        def check(self, context: Context) -> bool:
            return False

    flow = Flow("flow", inline)
    Look("look", flow, timeout=0.1)
    vect = inline.run(flow)

    assert vect.steps["look"].error == "it took longer than its timeout of 0.1 seconds"
    assert names(vect, "look") == ["started", "failed"]


def test_what_ends_in_time_hears_nothing_of_its_timeout(any_app: OAutom) -> None:
    flow = Flow("flow", any_app, timeout=1000)
    for i in range(20):
        PythonExecution(f"step {i}", flow, nothing)

    assert any_app.run(flow).state == "success"
    assert any_app._engine._scheduler._timers.next_time() is None


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"timeout": 0}, r"timeout must be seconds, more than 0, or None, not 0"),
        ({"timeout": -1}, r"timeout must be seconds, more than 0, or None, not -1"),
        ({"timeout": "5 s"}, r"timeout must be seconds, more than 0, or None, not '5 s'"),
        ({"timeout": float("nan")}, r"timeout must be seconds, more than 0, or None, not nan"),
        (
            {"retry": 3},
            r"retry must be a RetryPolicy or None, not 3; RetryPolicy\(max_attempts=3\)",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(
    inline: OAutom, option: dict[str, Any], message: str
) -> None:
    with pytest.raises(FlowError, match=f"flow 'whole': {message}"):
        Flow("whole", inline, **option)
    with pytest.raises(FlowError, match=f"step 'a' of flow 'flow': {message}"):
        PythonExecution("a", Flow("flow", inline), nothing, **option)
