"""How a run ends that must be cleaned up first: teardown, compensation, fail-fast, run_timeout.

The cases are those of the tables in docs/clean-up.md.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    BashExecution,
    Context,
    Event,
    Flow,
    FlowError,
    FlowExecution,
    MapExecution,
    OAutom,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
    Skip,
    StepError,
    TriggerRule,
    Vect,
    VectStateError,
    WaitExecution,
)
from oautom.events import replay, signals
from oautom.testing import assert_replays, check_history, simulate

from .conftest import SECONDS, NewApp, nothing

ONCE_MORE = RetryPolicy(max_attempts=2, delay=5, jitter=0)


def states(vect: Vect) -> dict[str, str]:
    """How the steps of a Vect have ended, and the Vect itself, under the name ''."""
    return {"": vect.state, **{name: step.state for name, step in vect.steps.items()}}


def told(vect: Vect, *names: str) -> list[tuple[str | None, str]]:
    """Which steps the events of these names are of, in their order."""
    return [(event.step, event.name) for event in vect.events() if event.name in names]


def undone(vect: Vect) -> list[str | None]:
    """The steps whose work was undone, in the order in which that was."""
    return [event.step for event in vect.events() if event.name == "step.compensated"]


def replays_well(vect: Vect, flow: Flow) -> None:
    """Hold the log of a Vect against all that is known of logs."""
    check_history(vect.app.log.read() if hasattr(vect, "app") else vect.events())
    assert_replays(vect, flow)


@pytest.fixture
def app(new_app: NewApp) -> OAutom:
    return new_app(OAutomMode.foreground, executor="inline")


def three(app: OAutom, **options: Any) -> Flow:
    """A set-up, work, and what cleans up after both."""
    flow = Flow("three", app, **options)
    set_up = PythonExecution("set up", flow, nothing)
    work = PythonExecution("work", flow, nothing)
    down = PythonExecution("down", flow, nothing, teardown_of=[set_up])
    set_up >> work >> down
    return flow


# Teardown


@pytest.mark.parametrize(
    ("outcomes", "ends"),
    [
        ({}, {"": "success", "set up": "success", "work": "success", "down": "success"}),
        (
            {"work": StepError("no")},
            {"": "failed", "set up": "success", "work": "failed", "down": "success"},
        ),
        (
            {"work": Skip("nothing to do")},
            {"": "success", "set up": "success", "work": "skipped", "down": "success"},
        ),
        (
            {"set up": StepError("no")},
            {"": "failed", "set up": "failed", "work": "upstream_failed", "down": "success"},
        ),
        (
            {"down": StepError("no")},
            {"": "failed", "set up": "success", "work": "success", "down": "failed"},
        ),
    ],
)
def test_a_teardown_runs_however_its_upstreams_have_ended(app, outcomes, ends):
    flow = three(app)
    vect = simulate(flow, outcomes=outcomes)
    assert states(vect) == ends
    assert_replays(vect, flow)
    check_history(vect.events(), flow)


def test_the_failure_of_a_teardown_counts_as_allow_failure_says(app):
    flow = Flow("f", app)
    work = PythonExecution("work", flow, nothing)
    down = PythonExecution("down", flow, nothing, teardown=True, allow_failure=True)
    work >> down
    vect = simulate(flow, outcomes={"down": StepError("no")})
    assert states(vect) == {"": "success", "work": "success", "down": "failed"}


def test_a_teardown_is_skipped_whose_set_up_has_never_started(app):
    flow = Flow("f", app)
    first = PythonExecution("first", flow, nothing)
    set_up = PythonExecution("set up", flow, nothing)
    down = PythonExecution("down", flow, nothing, teardown_of=set_up)
    first >> set_up >> down
    vect = simulate(flow, outcomes={"first": StepError("no")})
    assert states(vect)["down"] == "skipped"
    assert vect.steps["down"].error == "nothing that it cleans up after has started"
    assert "nothing that it cleans up after has started" in vect.explain("down")


def test_a_branch_does_not_keep_a_teardown_from_running(app):
    flow = Flow("f", app)
    fork = PythonExecution("set up", flow, nothing)
    from oautom import BranchExecution

    branch = BranchExecution("branch", flow, nothing)
    left = PythonExecution("left", flow, nothing)
    down = PythonExecution("down", flow, nothing, teardown_of=fork)
    fork >> branch >> [left, down]
    vect = simulate(flow, outcomes={"branch": "left"})
    assert states(vect)["down"] == "success"
    assert_replays(vect, flow)


def test_a_cancel_ends_the_work_and_lets_the_teardown_run(tmp_path, new_app, mode):
    app = new_app(mode, log=tmp_path / "runs.db")
    flow = Flow("f", app)
    up = BashExecution("up", flow, f"touch {tmp_path}/up")
    work = BashExecution(
        "work",
        flow,
        f"trap 'sleep 0.2; rm {tmp_path}/up; exit 1' TERM; touch {tmp_path}/on; sleep 60 & wait",
    )
    down = BashExecution("down", flow, f"test ! -e {tmp_path}/up && echo clean", teardown_of=up)
    up >> work >> down
    vect = app.start(flow)
    when_there(tmp_path / "on", vect, lambda: vect.cancel("enough"))
    assert vect.wait(SECONDS) == "cancelled"
    # It has begun when the command was gone for good: that has tidied up by itself.
    assert vect.result("down") == "clean"
    assert states(vect) == {
        "": "cancelled",
        "up": "success",
        "work": "cancelled",
        "down": "success",
    }
    names = [event.name for event in vect.events()]
    assert names.index("vect.ending") < names.index("vect.cancelled")
    ending = next(event for event in vect.events() if event.name == "vect.ending")
    assert dict(ending.data) == {"to": "cancelled", "reason": "enough"}
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


def when_there(path: Path, vect: Vect, do: Callable[[], object]) -> None:
    """Do something on another thread once a file is there, while this one waits."""

    def wait() -> None:
        tick = threading.Event()
        while not path.exists():
            tick.wait(0.01)
        do()

    threading.Thread(target=wait, daemon=True).start()


def test_a_function_that_does_not_listen_holds_up_no_teardown(new_app, mode):
    app = new_app(mode)
    flow = Flow("f", app)
    is_on, is_over = threading.Event(), threading.Event()

    def deaf() -> None:
        is_on.set()
        is_over.wait(SECONDS)

    work = PythonExecution("work", flow, deaf)
    down = PythonExecution("down", flow, is_over.set, teardown=True)
    work >> down
    vect = app.start(flow)
    threading.Thread(target=lambda: (is_on.wait(SECONDS), vect.cancel()), daemon=True).start()
    assert vect.wait(SECONDS) == "cancelled"
    assert states(vect)["down"] == "success"


def test_a_second_cancel_ends_the_teardown_that_runs(tmp_path, new_app, mode):
    app = new_app(mode)
    flow = Flow("f", app)
    work = BashExecution("work", flow, f"touch {tmp_path}/on; sleep 60")
    down = BashExecution("down", flow, f"touch {tmp_path}/down; sleep 60", teardown=True)
    last = BashExecution("last", flow, "echo gone", teardown=True)
    work >> down >> last
    vect = app.start(flow)
    when_there(tmp_path / "on", vect, lambda: vect.cancel("first"))
    when_there(tmp_path / "down", vect, lambda: vect.cancel("second"))
    assert vect.wait(SECONDS) == "cancelled"
    assert states(vect) == {
        "": "cancelled",
        "work": "cancelled",
        "down": "cancelled",
        "last": "success",
    }
    assert vect.steps["down"].error == "second"
    assert vect.events()[-1].data["reason"] == "first"
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


def test_a_pause_does_not_hold_a_teardown(new_app):
    app = new_app(OAutomMode.foreground)
    flow = Flow("f", app)
    is_on, hold = threading.Event(), threading.Event()

    def work_on() -> None:
        is_on.set()
        hold.wait(SECONDS)

    work = PythonExecution("work", flow, work_on)
    down = PythonExecution("down", flow, nothing, teardown=True)
    after = PythonExecution("after", flow, nothing)
    work >> [down, after]
    vect = app.start(flow)

    def pause() -> None:
        is_on.wait(SECONDS)
        vect.pause()
        hold.set()

    @signals.step_succeeded.connect
    def resume(flow: Flow, event: Event, **_: object) -> None:
        if event.step == "down":
            threading.Thread(target=vect.resume, daemon=True).start()

    try:
        threading.Thread(target=pause, daemon=True).start()
        assert vect.wait(SECONDS) == "success"
    finally:
        signals.step_succeeded.disconnect(resume)
    events = [(event.step, event.name) for event in vect.events()]
    paused, resumed = events.index((None, "vect.paused")), events.index((None, "vect.resumed"))
    assert paused < events.index(("down", "step.started")) < resumed
    assert resumed < events.index(("after", "step.started"))
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


def test_what_was_torn_down_is_set_up_again_before_work_is_retried(app):
    flow = Flow("f", app)
    did: list[str] = []
    is_bad = [True]

    def work() -> None:
        did.append("work")
        if is_bad.pop():
            raise ValueError

    is_bad += [True]
    is_bad.insert(0, False)
    first = PythonExecution("first", flow, lambda: did.append("first"))
    up = PythonExecution("up", flow, lambda: did.append("up"))
    step = PythonExecution("work", flow, work)
    down = PythonExecution("down", flow, lambda: did.append("down"), teardown_of=[up])
    first >> up >> step >> down
    vect = app.run(flow)
    assert (vect.state, did) == ("failed", ["first", "up", "work", "down"])
    did.clear()
    vect.retry()
    assert (vect.wait(), did) == ("failed", ["up", "work", "down"])
    did.clear()
    vect.retry()
    assert (vect.wait(), did) == ("success", ["up", "work", "down"])
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


def test_a_teardown_that_failed_alone_is_retried_alone(app):
    flow = Flow("f", app)
    did: list[str] = []
    is_bad = [False, True]

    def down() -> None:
        did.append("down")
        if is_bad.pop():
            raise ValueError

    up = PythonExecution("up", flow, lambda: did.append("up"))
    work = PythonExecution("work", flow, lambda: did.append("work"))
    last = PythonExecution("down", flow, down, teardown_of=[up])
    up >> work >> last
    vect = app.run(flow)
    vect.retry()
    assert (vect.wait(), did) == ("success", ["up", "work", "down", "down"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"teardown": True, "trigger_rule": TriggerRule.ALL_DONE}, "leave trigger_rule out"),
        ({"teardown": 1}, "teardown must be True or False, not 1"),
        ({"teardown": True, "compensate": nothing}, "leave compensate out"),
        ({"teardown_of": "up"}, "teardown_of must be a list of steps, not 'up'"),
        ({"compensate": 3}, "compensate must be a function, or a Bash command, not 3"),
        ({"compensate": " "}, "command must be text that Bash can run"),
        ({"compensate": lambda order: None}, "cannot be called with these arguments"),
        ({"compensate_on": "success"}, "give compensate="),
        ({"compensate": nothing, "compensate_on": "always"}, "compensate_on must be 'begun' or"),
    ],
)
def test_what_makes_no_sense_is_refused(app, options, sentence):
    flow = Flow("f", app)
    with pytest.raises(FlowError, match="step 'a' of flow 'f'") as caught:
        PythonExecution("a", flow, nothing, **options)
    assert sentence in str(caught.value)
    assert not flow.steps


def test_a_teardown_that_waits_for_nothing_is_refused(app):
    flow = Flow("f", app)
    PythonExecution("a", flow, nothing, teardown=True)
    with pytest.raises(FlowError, match="step 'a' is a teardown, and waits for nothing"):
        app.run(flow)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"run_timeout": 0}, "run_timeout must be seconds, more than 0, or None, not 0"),
        ({"run_timeout": "1"}, "run_timeout must be seconds"),
        ({"run_timeout": 1e300}, "run_timeout"),
        ({"on_failure": "stop"}, "on_failure must be 'finish' or 'cancel', not 'stop'"),
    ],
)
def test_what_makes_no_sense_of_a_flow_is_refused(app, options, sentence):
    with pytest.raises(FlowError, match="flow 'f'") as caught:
        Flow("f", app, **options)
    assert sentence in str(caught.value)


# Compensation


def order(app: OAutom, **options: Any) -> Flow:
    """Three steps in a row, of which the work can be undone, and one of which it cannot."""
    flow = Flow("order", app, **options)
    reserve = PythonExecution("reserve", flow, nothing, compensate=nothing)
    charge = PythonExecution("charge", flow, nothing, compensate=nothing, retry=ONCE_MORE)
    pack = PythonExecution("pack", flow, nothing)
    ship = PythonExecution("ship", flow, nothing, compensate=nothing, timeout=60)
    reserve >> charge >> pack >> ship
    return flow


@pytest.mark.parametrize(
    ("outcomes", "durations", "expected"),
    [
        ({}, {}, []),
        ({"ship": StepError("no")}, {}, ["charge", "reserve"]),  # its own answer: nothing was done
        ({}, {"ship": 61}, ["ship", "charge", "reserve"]),  # it was cut
        ({"pack": StepError("no")}, {}, ["charge", "reserve"]),
        ({"charge": StepError("no")}, {}, ["reserve"]),
        ({"charge": Skip("free")}, {}, []),
        ({"reserve": StepError("no")}, {}, []),
    ],
)
def test_what_was_done_is_undone_in_reverse_when_the_run_fails(app, outcomes, durations, expected):
    flow = order(app)
    vect = simulate(flow, outcomes=outcomes, durations=durations)
    assert undone(vect) == expected
    assert (vect.state == "failed") == bool(expected) or "reserve" in outcomes
    assert_replays(vect, flow)
    check_history(vect.events(), flow)


def test_only_success_is_undone_where_that_is_asked_for(app):
    flow = Flow("f", app)
    PythonExecution("a", flow, nothing, compensate=nothing, compensate_on="success", timeout=5)
    PythonExecution("b", flow, nothing, compensate=nothing, timeout=5)
    vect = simulate(flow, durations={"a": 9, "b": 9})
    assert undone(vect) == ["b"]


def test_a_compensation_is_given_what_the_step_has_come_to(tmp_path, new_app, mode):
    app = new_app(mode, log=tmp_path / "runs.db")
    flow = Flow("f", app, params={"customer": str})
    given: list[Any] = []

    def refund(context: Context) -> str:
        given.append((context.step, context.attempt, context.params["customer"], context.output))
        return "what it returns is left"

    charge = PythonExecution("charge", flow, lambda: {"id": 7}, compensate=refund)
    note = BashExecution(
        "note",
        flow,
        "echo 'a note'",
        env={"WHO": flow.param("customer")},
        compensate=f'echo "$WHO, $OUTPUT, $OAUTOM_ATTEMPT" > {tmp_path}/undone',
    )
    bad = PythonExecution("bad", flow, lambda: 1 / 0)
    charge >> note >> bad
    vect = app.run(flow, {"customer": "ann"})
    assert vect.state == "failed"
    assert given == [("charge", 1, "ann", {"id": 7})]
    assert (tmp_path / "undone").read_text() == "ann, a note, -1\n"
    assert vect.result("charge") == {"id": 7}  # the state of the step does not change
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


@pytest.mark.parametrize("executor", ["threads", "processes", "inline"])
def test_a_compensation_runs_where_the_steps_of_its_app_do(tmp_path, new_app, executor):
    app = new_app(OAutomMode.foreground, executor=executor, log=tmp_path / "runs.db")
    flow = Flow("f", app)
    one = PythonExecution("one", flow, nothing, compensate=_write_down)
    bad = PythonExecution("bad", flow, _fail)
    one >> bad
    with app:
        vect = app.run(flow)
    assert (vect.state, undone(vect)) == ("failed", ["one"])


def _write_down(context: Context) -> None:
    assert context.output is None


def _fail() -> None:
    raise ValueError


def test_what_a_person_has_approved_is_undone_in_the_time_of_its_flow(app):
    flow = Flow("f", app, timeout=50)
    ask = ApprovalExecution("ask", flow, "may I?", timeout=5, compensate=nothing)
    bad = PythonExecution("bad", flow, nothing)
    ask >> bad
    took = {"ask": 1, "ask.compensate": 40}
    vect = simulate(flow, durations=took, outcomes={"bad": StepError("no")})
    assert undone(vect) == ["ask"]
    slow = simulate(
        flow, durations=took | {"ask.compensate": 60}, outcomes={"bad": StepError("no")}
    )
    assert "it took longer than its timeout of 50 seconds" in slow.explain("ask")


def test_what_a_worker_has_done_that_died_is_undone(tmp_path, new_app):
    app = new_app(OAutomMode.foreground, executor="processes", log=tmp_path / "runs.db")
    flow = Flow("f", app)
    PythonExecution("one", flow, _die, compensate=_write_down)
    with app:
        vect = app.run(flow)
    assert (vect.state, undone(vect)) == ("failed", ["one"])
    failed = next(event for event in vect.events() if event.name == "step.failed")
    assert failed.data["lost"] is True
    check_history(vect.events(), flow)
    assert_replays(vect, flow)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_async_compensation_is_awaited(new_app):
    app = new_app(OAutomMode.foreground)
    flow = Flow("f", app)
    did = []

    async def undo(context: Context) -> None:
        did.append(context.output)

    one = PythonExecution("one", flow, lambda: 1, compensate=undo)
    bad = PythonExecution("bad", flow, _fail)
    one >> bad
    assert app.run(flow).state == "failed"
    assert did == [1]


def test_a_compensation_that_fails_is_tried_again_as_its_step_is(app):
    flow = order(app)
    outcomes = {"pack": StepError("no"), "charge.compensate": [StepError("later"), None]}
    vect = simulate(flow, outcomes=outcomes, durations={"charge.compensate": 3})
    assert undone(vect) == ["charge", "reserve"]
    of_charge = [e for e in vect.events() if e.name.startswith("step.comp") and e.step == "charge"]
    assert [(e.name, e.attempt, e.data.get("delay")) for e in of_charge] == [
        ("step.compensating", 1, None),
        ("step.compensation_failed", 1, 5),
        ("step.compensating", 2, None),
        ("step.compensated", 2, None),
    ]
    assert (of_charge[2].time - of_charge[1].time).total_seconds() == 5
    assert_replays(vect, flow)


def test_a_compensation_that_fails_for_good_is_told_and_the_others_go_on(app):
    flow = order(app)
    outcomes = {"pack": StepError("no"), "charge.compensate": StepError("the bank is closed")}
    vect = simulate(flow, outcomes=outcomes)
    assert undone(vect) == ["reserve"]
    assert vect.state == "failed"
    last = [event for event in vect.events() if event.name == "step.compensation_failed"][-1]
    assert (last.step, last.attempt, last.data["error"]) == ("charge", 2, "the bank is closed")
    assert "could not be undone: the bank is closed" in vect.explain("charge")
    assert "was undone" in vect.explain("reserve")
    check_history(vect.events(), flow)
    assert_replays(vect, flow)


def test_each_instance_of_a_map_is_undone_by_itself(new_app):
    app = new_app(OAutomMode.foreground, executor="inline")
    flow = Flow("f", app)
    did: list[Any] = []

    def undo(context: Context) -> None:
        did.append((context.step, context.item, context.output))

    items = PythonExecution("items", flow, lambda: [1, 2, 3])
    charge = MapExecution("charge", flow, _no_two, items.output, compensate=undo)
    vect = app.run(flow)
    assert vect.state == "failed"
    assert did == [("charge[2]", 3, 30), ("charge[0]", 1, 10)]
    did.clear()
    vect.retry()
    assert vect.wait() == "failed"
    assert did == [("charge[2]", 3, 30), ("charge[0]", 1, 10)]
    assert charge.name == "charge"
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


def _no_two(item: int) -> int:
    if item == 2:
        raise ValueError
    return item * 10


def test_a_child_is_undone_by_the_step_that_has_it_run_and_not_by_its_own_steps(app):
    child = Flow("child", app)
    did: list[str] = []
    PythonExecution("inner", child, nothing, compensate=lambda: did.append("inner"))
    flow = Flow("f", app)
    runs = FlowExecution("runs", flow, child, compensate=lambda: did.append("outer"))
    bad = PythonExecution("bad", flow, _fail)
    runs >> bad
    vect = app.run(flow)
    assert (vect.state, did) == ("failed", ["outer"])
    check_history(app.log.read())


def test_a_child_that_fails_undoes_what_its_own_steps_have_done(app):
    child = Flow("child", app)
    did: list[str] = []
    inner = PythonExecution("inner", child, nothing, compensate=lambda: did.append("inner"))
    bad = PythonExecution("bad", child, _fail)
    inner >> bad
    flow = Flow("f", app)
    FlowExecution("runs", flow, child, compensate=lambda: did.append("outer"))
    vect = app.run(flow)
    assert (vect.state, did) == ("failed", ["inner"])


def test_a_retry_does_again_what_was_undone_before_it_goes_on(app):
    flow = Flow("order", app)
    did: list[str] = []
    is_closed = [True]

    def ship() -> None:
        if is_closed:
            is_closed.pop()
            raise ValueError
        did.append("ship")

    reserve = PythonExecution(
        "reserve",
        flow,
        lambda: did.append("reserve"),
        compensate=lambda: did.append("free"),
    )
    charge = PythonExecution(
        "charge", flow, lambda: did.append("charge"), compensate=lambda: did.append("refund")
    )
    note = PythonExecution("note", flow, lambda: did.append("note"))
    last = PythonExecution("ship", flow, ship)
    [reserve, note] >> charge >> last
    vect = app.run(flow)
    assert did == ["reserve", "note", "charge", "refund", "free"]
    did.clear()
    vect.retry()
    assert vect.wait() == "success"
    assert did == ["reserve", "charge", "ship"]
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


def test_what_could_not_be_undone_is_not_done_again(app):
    flow = Flow("order", app)
    did: list[str] = []
    charge = PythonExecution("charge", flow, lambda: did.append("charge"), compensate=_fail)
    ship = PythonExecution("ship", flow, _fail)
    charge >> ship
    vect = app.run(flow)
    vect.retry()
    assert vect.wait() == "failed"
    assert did == ["charge"]
    begun = told(vect, "step.compensating")
    assert begun == [("charge", "step.compensating")] * 2  # it is tried at each end
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


def test_no_cancel_cuts_a_compensation_short(new_app):
    app = new_app(OAutomMode.background)
    flow = Flow("order", app)
    is_on, may_end = threading.Event(), threading.Event()

    def refund() -> None:
        is_on.set()
        may_end.wait(SECONDS)

    charge = PythonExecution("charge", flow, nothing, compensate=refund)
    ship = PythonExecution("ship", flow, _fail)
    charge >> ship
    vect = app.start(flow)
    assert is_on.wait(SECONDS)
    assert vect.state == "ending"
    assert "is being undone" in vect.explain("charge")
    with pytest.raises(VectStateError, match="it undoes the work of step 'charge'"):
        vect.cancel()
    with pytest.raises(VectStateError):
        vect.retry()
    may_end.set()
    assert vect.wait(SECONDS) == "failed"
    assert undone(vect) == ["charge"]


def test_a_compensation_that_takes_too_long_is_ended_before_the_next_one_begins(tmp_path, new_app):
    app = new_app(OAutomMode.foreground, log=tmp_path / "runs.db")
    flow = Flow("order", app)
    first = BashExecution("first", flow, "true", compensate=f"test -e {tmp_path}/gone")
    slow = BashExecution(
        "slow",
        flow,
        "true",
        timeout=0.3,
        compensate=f"trap 'sleep 0.2; touch {tmp_path}/gone; exit 1' TERM; sleep 60 & wait",
    )
    bad = BashExecution("bad", flow, "false")
    first >> slow >> bad
    vect = app.run(flow)
    assert vect.state == "failed"
    assert undone(vect) == ["first"]
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


# Fail fast


def test_the_first_failure_that_counts_cancels_what_still_runs(app):
    flow = Flow("f", app, on_failure="cancel")
    PythonExecution("fine", flow, nothing)
    PythonExecution("may", flow, nothing, allow_failure=True)
    bad = PythonExecution("bad", flow, nothing)
    PythonExecution("long", flow, nothing)
    after = PythonExecution("after", flow, nothing)
    on_bad = PythonExecution("on bad", flow, nothing, trigger_rule=TriggerRule.ONE_FAILED)
    down = PythonExecution("down", flow, nothing, teardown=True)
    bad >> [after, on_bad, down]
    vect = simulate(
        flow,
        durations={"fine": 1, "may": 2, "bad": 3, "long": 9},
        outcomes={"bad": StepError("no"), "may": StepError("well")},
    )
    assert states(vect) == {
        "": "failed",
        "fine": "success",
        "may": "failed",
        "bad": "failed",
        "long": "cancelled",
        "after": "cancelled",
        "on bad": "cancelled",
        "down": "success",
    }
    end = next(event for event in vect.events() if event.name == "vect.failed")
    assert end.data["steps"] == ["bad"]
    assert end.data["reason"] == "step 'bad' failed, and on_failure of the flow is 'cancel'"
    assert vect.steps["long"].error == end.data["reason"]
    assert (end.time - vect.events()[0].time).total_seconds() == 3
    check_history(vect.events(), flow)
    assert_replays(vect, flow)


def test_a_failed_item_of_a_map_counts_at_once(app):
    flow = Flow("f", app, params={"items": list[int]}, on_failure="cancel")
    MapExecution("m", flow, _no_two, flow.param("items"))
    vect = simulate(
        flow,
        {"items": [1, 2, 3]},
        durations={"m[0]": 1, "m[1]": 2, "m[2]": 30},
        outcomes={"m[1]": StepError("no")},
    )
    assert states(vect) == {
        "": "failed",
        "m": "cancelled",
        "m[0]": "success",
        "m[1]": "failed",
        "m[2]": "cancelled",
    }
    check_history(vect.events(), flow)
    assert_replays(vect, flow)


# The time that a run may take


def test_a_run_that_takes_too_long_fails_and_is_cleaned_up(app):
    flow = Flow("f", app, run_timeout=100)
    charge = PythonExecution("charge", flow, nothing, compensate=nothing)
    work = WaitExecution("work", flow, seconds=1000)
    down = PythonExecution("down", flow, nothing, teardown=True)
    charge >> work >> down
    vect = simulate(flow, durations={"down": 300, "charge.compensate": 300})
    assert states(vect) == {
        "": "failed",
        "charge": "success",
        "work": "cancelled",
        "down": "success",
    }
    assert undone(vect) == ["charge"]
    ending = next(event for event in vect.events() if event.name == "vect.ending")
    assert ending.data["reason"] == "it took longer than its run_timeout of 100 seconds"
    assert (ending.time - vect.events()[0].time).total_seconds() == 100
    # What it takes to clean up does not count.
    assert (vect.events()[-1].time - ending.time).total_seconds() == 600
    check_history(vect.events(), flow)
    assert_replays(vect, flow)


def test_a_run_timeout_goes_on_over_the_end_of_a_program(app):
    flow = Flow("f", app, run_timeout=100)
    WaitExecution("wait", flow, seconds=1000)
    plain = simulate(flow)
    for commit in range(1, 4):
        for when in ("before", "in", "after"):
            vect = simulate(flow, crash_at=(when, commit))
            assert vect.state == "failed"
            seconds = (vect.events()[-1].time - vect.events()[0].time).total_seconds()
            assert seconds == 100
            check_history(vect.events(), flow)
            assert_replays(vect, flow)
    assert plain.events()[-1].data["steps"] == []


def test_a_run_in_time_is_none_the_worse(app):
    flow = Flow("f", app, run_timeout=100)
    PythonExecution("a", flow, nothing)
    vect = simulate(flow, durations={"a": 99.9})
    assert vect.state == "success"


def test_a_child_that_took_too_long_says_why(app):
    child = Flow("child", app, run_timeout=5)
    WaitExecution("wait", child, seconds=100)
    flow = Flow("f", app)
    FlowExecution("runs", flow, child)
    app2 = simulate(child)
    assert app2.state == "failed"


# The program dies


def test_killed_at_each_commit_the_order_is_shipped_or_all_of_it_is_undone(app):
    flow = order(app)
    for outcomes in (
        {"ship": StepError("no")},
        {"pack": StepError("no"), "charge.compensate": [StepError("later"), None]},
    ):
        plain = simulate(flow, outcomes=outcomes)
        commits = len({event.time for event in plain.events()}) + len(plain.events())
        for number in range(1, commits):
            for when in ("before", "in", "after"):
                vect = simulate(flow, outcomes=outcomes, crash_at=(when, number))
                assert states(vect) == states(plain)
                assert_undone(vect)
                check_history(vect.events(), flow)
                assert_replays(vect, flow)


def assert_undone(vect: Vect) -> None:
    """Hold that what was done of a failed order, or may have been, was undone, the last first."""
    done: list[str | None] = []
    for event in vect.events():
        is_done = event.name == "step.succeeded" or event.name == "step.interrupted"
        if is_done and event.step in ("reserve", "charge", "ship") and event.step not in done:
            done.append(event.step)
    ends = [e.step for e in vect.events() if e.name in ("step.succeeded", "step.failed")]
    expected = sorted(done, key=ends.index, reverse=True)
    assert undone(vect) == expected


@pytest.mark.parametrize("is_durable", [True, False])
def test_cancelled_at_each_event_once_or_twice_nothing_is_left_half_done(
    tmp_path, new_app, is_durable
):
    """Never charged and not shipped and not refunded, wherever it is cancelled."""
    at, events_seen = 0, 99
    while at <= events_seen:
        for again in (None, at + 1, at + 3):
            path = tmp_path / f"{at}-{again}.db"
            app = new_app(
                OAutomMode.foreground, executor="inline", log=path if is_durable else None
            )
            ledger: list[str] = []
            flow = shop(app, ledger)
            vect = app.start(flow)
            cancels = [at] if again is None else [at, again]

            def cancel(flow: Flow, event: Event, vect=vect, cancels=cancels, **_: object) -> None:
                if event.vect == vect.id and event.seq in cancels:
                    try:
                        vect.cancel(f"at {event.seq}")
                    except VectStateError:
                        assert vect.state == "ending"

            signals.event.connect(cancel)
            try:
                state = vect.wait(SECONDS)
            finally:
                signals.event.disconnect(cancel)
            events_seen = len(vect.events())
            assert ("ship" in ledger) or ledger.count("charge") == ledger.count("refund"), ledger
            assert ledger.count("up") <= ledger.count("down") or again is not None, ledger
            assert state == ("success" if "ship" in ledger else "cancelled")
            check_history(app.log.read(), flow)
            assert_replays(app.log, flow)
            folded = replay(app.log.read())[vect.id]
            assert folded.state == state
            app.close()
        at += 1


def shop(app: OAutom, ledger: list[str]) -> Flow:
    """An order whose compensations look what was done, as they must be able to."""
    flow = Flow("shop", app)

    def refund() -> None:
        if ledger.count("charge") > ledger.count("refund"):
            ledger.append("refund")

    up = PythonExecution("up", flow, lambda: ledger.append("up"))
    charge = PythonExecution("charge", flow, lambda: ledger.append("charge"), compensate=refund)

    def recall() -> None:
        if "ship" in ledger:
            ledger.remove("ship")

    ship = PythonExecution("ship", flow, lambda: ledger.append("ship"), compensate=recall)
    down = PythonExecution("down", flow, lambda: ledger.append("down"), teardown_of=[up])
    up >> charge >> ship >> down
    return flow
