"""What people do with a Vect that runs: wait, approve, pause it, have it go on, and retry it."""

from __future__ import annotations

from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    BashExecution,
    Flow,
    FlowChangedError,
    FlowError,
    NotJsonError,
    OAutom,
    OAutomMode,
    Pool,
    PythonExecution,
    RetryPolicy,
    SettingError,
    SqliteEventLog,
    StepFailedError,
    TriggerRule,
    UnknownStepError,
    Vect,
    VectAlreadyRunningException,
    VectStateError,
    WaitExecution,
)
from oautom.testing import SimulatedClock, assert_replays, check_history

from .conftest import SECONDS, nothing


def until(vect: Vect, step: str, state: str = "running") -> None:
    """Drive until a step is in a state."""
    while vect.steps[step].state != state:
        with suppress(TimeoutError):
            vect.wait(0.02)


def names(vect: Vect, step: str | None) -> list[str]:
    return [event.name.partition(".")[2] for event in vect.events() if event.step == step]


def check(app: OAutom, flow: Flow) -> None:
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


# Waits


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(datetime(2026, 11, 24, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("given", "hours"),
    [
        ({"seconds": 72 * 3600}, 72),
        ({"seconds": 0}, 0),
        ({"until": datetime(2026, 11, 24, 14, 30, tzinfo=UTC)}, 2.5),
        ({"until": datetime.fromisoformat("2026-11-24T14:30:00+01:00")}, 1.5),
        ({"until": datetime(2020, 1, 1, tzinfo=UTC)}, 0),
    ],
)
def test_a_step_waits_until_it_is_time(
    clock: SimulatedClock, given: dict[str, Any], hours: float
) -> None:
    with OAutom(executor="inline", clock=clock) as app:
        flow = Flow("flow", app)
        WaitExecution("wait", flow, **given) >> PythonExecution("then", flow, nothing)
        vect = app.run(flow)
        assert vect.state == "success"
        passed = vect.events()[-1].time - vect.events()[0].time
        assert passed == timedelta(hours=hours)
        assert names(vect, "wait") == ["started", "succeeded"]
        check(app, flow)


def test_who_waits_needs_no_worker(new_app: Any) -> None:
    app = new_app(max_workers=1)
    flow = Flow("flow", app)
    for i in range(20):
        WaitExecution(f"wait {i}", flow, seconds=0.2)
    PythonExecution("work", flow, nothing)
    vect = app.start(flow)
    until(vect, "work", "success")

    assert {step.state for name, step in vect.steps.items() if name != "work"} == {"running"}
    assert vect.wait() == "success"
    check_history(app.log.read(), flow, max_workers=1)


def test_a_wait_is_cancelled_at_once(any_app: OAutom) -> None:
    flow = Flow("flow", any_app)
    WaitExecution("wait", flow, seconds=1000)
    vect = any_app.start(flow)
    until(vect, "wait")
    vect.cancel()

    assert vect.wait(SECONDS) == "cancelled"
    check(any_app, flow)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give either seconds or until"),
        ({"seconds": 1, "until": datetime.now(UTC)}, "give either seconds or until"),
        ({"seconds": -1}, "seconds must be a number from 0, not -1"),
        ({"seconds": "1"}, "seconds must be a number from 0, not '1'"),
        ({"until": "tomorrow"}, "until must be a datetime with a time zone, not 'tomorrow'"),
        (
            {"until": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is the point
            r"until must be a datetime with a time zone, not datetime.datetime\(2026, 1, 1, 0, 0\)",
        ),
    ],
)
def test_a_wait_without_a_time_is_refused(
    inline: OAutom, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(FlowError, match=f"step 'wait' of flow 'flow': {message}"):
        WaitExecution("wait", Flow("flow", inline), **given)


# Approvals


@pytest.fixture
def gated(any_app: OAutom) -> Flow:
    flow = Flow("flow", any_app)
    gate = ApprovalExecution("gate", flow, "ship it?")
    gate >> PythonExecution("ship", flow, nothing)
    return flow


def test_a_step_waits_for_an_approval(any_app: OAutom, gated: Flow) -> None:
    vect = any_app.start(gated)
    until(vect, "gate")
    assert vect.events()[-1].data == {"prompt": "ship it?"}
    vect.approve("gate", "Ada", {"version": 2})

    assert vect.wait(SECONDS) == "success"
    assert vect.result("gate") == {"by": "Ada", "data": {"version": 2}}
    check(any_app, gated)


@pytest.mark.parametrize(
    ("reason", "error"), [("", "rejected by Ada"), ("too late", "rejected by Ada: too late")]
)
def test_a_rejection_fails_the_step(any_app: OAutom, gated: Flow, reason: str, error: str) -> None:
    vect = any_app.start(gated)
    until(vect, "gate")
    vect.reject("gate", "Ada", reason)

    assert vect.wait(SECONDS) == "failed"
    assert vect.steps["gate"].error == error
    assert vect.steps["ship"].state == "upstream_failed"
    with pytest.raises(StepFailedError, match=error):
        vect.result("gate")
    check(any_app, gated)


def test_of_two_decisions_the_first_holds(any_app: OAutom, gated: Flow) -> None:
    vect = any_app.start(gated)
    until(vect, "gate")
    run, engine = vect._run, vect._engine
    del run, engine
    vect.approve("gate", "Ada")
    with suppress(VectStateError):  # it may have been quick
        vect.reject("gate", "Bob")

    assert vect.wait(SECONDS) == "success"
    assert vect.result("gate")["by"] == "Ada"


def test_nobody_decides_in_time(clock: SimulatedClock) -> None:
    with OAutom(executor="inline", clock=clock) as app:
        flow = Flow("flow", app)
        ApprovalExecution("gate", flow, "ship it?", timeout=86400)
        vect = app.run(flow)
        assert vect.steps["gate"].error == "nobody has decided in time"
        assert vect.events()[-1].time - vect.events()[0].time == timedelta(days=1)
        check(app, flow)


def test_what_does_not_wait_for_an_approval_cannot_have_one(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    ApprovalExecution("gate", flow, "ship it?") >> BashExecution("ship", flow, "true")
    vect = inline.start(flow)
    said = "only an ApprovalExecution that is running waits for a decision"
    with pytest.raises(VectStateError, match=f"step 'gate' of vect '.*' is 'pending'; {said}"):
        vect.approve("gate", "Ada")
    with pytest.raises(VectStateError, match=r"step 'ship' of vect '.*' is 'pending'"):
        vect.reject("ship", "Ada")
    with pytest.raises(UnknownStepError, match="did you mean 'gate'"):
        vect.approve("gat", "Ada")
    until(vect, "gate")
    with pytest.raises(SettingError, match="step 'gate': by must be text, not 17"):
        vect.approve("gate", 17)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="step 'gate': reason must be text, not None"):
        vect.reject("gate", "Ada", None)  # type: ignore[arg-type]
    with pytest.raises(FlowError, match="prompt must be text, not 1"):
        ApprovalExecution("x", Flow("other", inline), 1)  # type: ignore[arg-type]
    vect.approve("gate", "Ada")
    assert vect.wait() == "success"


def test_what_the_log_cannot_keep_is_no_decision(tmp_path: Path) -> None:
    with OAutom(log=tmp_path / "runs.db") as app:
        flow = Flow("flow", app)
        ApprovalExecution("gate", flow, "ship it?")
        vect = app.start(flow)
        until(vect, "gate")
        with pytest.raises(NotJsonError, match="is a set"):
            vect.approve("gate", "Ada", {1, 2})
        assert vect.steps["gate"].state == "running"


# Pauses


def test_a_paused_vect_starts_nothing_until_it_is_resumed(mode_app: OAutom, tmp_path: Path) -> None:
    flow = Flow("flow", mode_app)
    first = BashExecution("first", flow, "until [ -e go ]; do sleep 0.01; done", cwd=tmp_path)
    first >> BashExecution("second", flow, "true")
    vect = mode_app.start(flow)
    until(vect, "first")
    vect.pause()
    (tmp_path / "go").touch()
    until(vect, "first", "success")
    with pytest.raises(TimeoutError):
        vect.wait(0.1)
    assert (vect.state, vect.ended, vect.steps["second"].state) == ("paused", False, "pending")
    assert mode_app.vects(state="paused") == [vect]
    vect.resume()

    assert vect.wait(SECONDS) == "success"
    assert names(vect, None) == ["created", "started", "paused", "resumed", "succeeded"]
    check(mode_app, flow)


def test_when_a_pause_is_over_what_is_blocked_is_so_before_anything_starts(inline: OAutom) -> None:
    flow = Flow("flow", inline)

    def fail() -> None:
        vect.pause()
        raise ValueError("no")

    broken = PythonExecution("broken", flow, fail)
    PythonExecution("other", flow, nothing)
    broken >> PythonExecution("after", flow, nothing)
    vect = inline.start(flow)
    until(vect, "broken", "failed")
    vect.resume()

    assert vect.wait() == "failed"
    names = [(event.name, event.step) for event in vect.events()]
    assert names.index(("step.blocked", "after")) < names.index(("step.started", "other"))
    check(inline, flow)


def test_a_paused_vect_can_be_cancelled(any_app: OAutom, gated: Flow) -> None:
    vect = any_app.start(gated)
    until(vect, "gate")
    vect.pause()
    vect.cancel("enough")

    assert vect.wait(SECONDS) == "cancelled"
    check(any_app, gated)


def test_a_paused_vect_of_which_nothing_is_left_to_start_ends(any_app: OAutom) -> None:
    flow = Flow("flow", any_app)
    ApprovalExecution("gate", flow, "ship it?")
    vect = any_app.start(flow)
    until(vect, "gate")
    vect.pause()
    vect.approve("gate", "Ada")

    assert vect.wait(SECONDS) == "success"
    check(any_app, flow)


def test_to_pause_or_resume_what_is_over_changes_nothing(any_app: OAutom) -> None:
    flow = Flow("flow", any_app)
    vect = any_app.run(flow)
    vect.pause()
    vect.resume()
    any_app.run(Flow("other", any_app))

    assert (vect.state, len(vect.events())) == ("success", 3)


def test_a_step_that_waits_for_its_next_attempt_does_not_have_it_in_a_pause(
    clock: SimulatedClock,
) -> None:
    attempts: list[int] = []

    def work(context: Any) -> None:
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise ValueError("no")

    with OAutom(executor="inline", clock=clock) as app:
        flow = Flow("flow", app)
        PythonExecution("work", flow, work, retry=RetryPolicy(delay=60))
        vect = app.start(flow)
        until(vect, "work", "up_for_retry")
        vect.pause()
        with pytest.raises(TimeoutError):
            vect.wait(3600)
        assert (attempts, vect.steps["work"].state) == ([1], "pending")
        vect.resume()
        assert vect.wait() == "success"
        check(app, flow)


# Retries of a Vect


class Broken:
    """A step's work that fails until it is mended."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_mended = False

    def __call__(self, name: str) -> str:
        self.calls.append(name)
        if name == "b" and not self.is_mended:
            raise ValueError("broken")
        return name


def declare(app: OAutom, broken: Broken) -> Flow:
    """`b` fails, so `c` is blocked; `a` and `x` are not concerned, and `clean` depends on `c`."""
    flow = Flow("flow", app)
    a, b, c, x = (PythonExecution(name, flow, broken, [name]) for name in "abcx")
    rule = TriggerRule.ALL_DONE
    clean = PythonExecution("clean", flow, broken, ["clean"], trigger_rule=rule)
    a >> b >> c >> clean
    x >> clean
    return flow


def test_what_has_failed_runs_again_with_all_that_depends_on_it(any_app: OAutom) -> None:
    broken = Broken()
    flow = declare(any_app, broken)
    vect = any_app.run(flow)
    assert (vect.state, sorted(broken.calls)) == ("failed", ["a", "b", "clean", "x"])
    broken.is_mended, broken.calls = True, []
    vect.retry()

    assert vect.wait(SECONDS) == "success"
    assert sorted(broken.calls) == ["b", "c", "clean"]
    assert {name: step.attempt for name, step in vect.steps.items()} == {
        "a": 1,
        "b": 2,
        "c": 1,
        "x": 1,
        "clean": 2,
    }
    assert vect.steps["b"].error is None
    assert names(vect, "b") == ["started", "failed", "reset", "started", "succeeded"]
    check(any_app, flow)


def test_it_may_fail_again_and_be_retried_again(inline: OAutom) -> None:
    broken = Broken()
    flow = declare(inline, broken)
    vect = inline.run(flow)
    for _ in range(3):
        vect.retry()
        assert vect.wait() == "failed"
    broken.is_mended = True
    vect.retry()

    assert (vect.wait(), vect.steps["b"].attempt) == ("success", 5)
    check(inline, flow)


def test_a_retried_step_has_all_its_attempts_and_its_vect_no_end_meanwhile(inline: OAutom) -> None:
    ends: list[str | None] = []

    def fail() -> None:
        ends.append(vect.status()["end_date"])
        raise ValueError("as ever")

    flow = Flow("flow", inline)
    PythonExecution("a", flow, fail, retry=RetryPolicy(max_attempts=2, delay=0))
    vect = inline.start(flow)
    assert (vect.wait(), len(ends)) == ("failed", 2)
    vect.retry()

    assert (vect.wait(), ends) == ("failed", [None] * 4)
    assert vect.status()["end_date"] is not None
    check(inline, flow)


def test_a_cancelled_vect_is_retried(any_app: OAutom, gated: Flow) -> None:
    vect = any_app.start(gated)
    until(vect, "gate")
    vect.cancel()
    assert vect.wait(SECONDS) == "cancelled"
    vect.retry()
    until(vect, "gate")
    vect.approve("gate", "Ada")

    assert vect.wait(SECONDS) == "success"
    assert vect.steps["gate"].attempt == 2
    check(any_app, gated)


def test_what_makes_no_sense_is_refused(inline: OAutom) -> None:
    broken = Broken()
    flow = declare(inline, broken)
    vect = inline.run(flow)
    other = inline.start(flow)
    with pytest.raises(VectAlreadyRunningException, match=f"already runs as {other.id}"):
        vect.retry()
    said = "only one that has failed or was cancelled can be retried"
    with pytest.raises(VectStateError, match=f"vect '{other.id}' of flow 'flow' is '.*'; {said}"):
        other.retry()
    assert other.wait() == "failed"
    vect.retry()
    with pytest.raises(VectAlreadyRunningException):
        inline.start(flow)
    assert vect.wait() == "failed"


def test_a_receiver_of_the_failure_may_retry_at_once(any_app: OAutom, connect: Any) -> None:
    broken = Broken()
    flow = declare(any_app, broken)

    def mend(sender: Flow, event: Any) -> None:
        broken.is_mended = True
        any_app.vect(event.vect).retry()

    connect(mend, "vect.failed", sender=flow)
    vect = any_app.run(flow)
    while not broken.is_mended or vect.state != "success":
        vect.wait(SECONDS)

    assert names(vect, None) == ["created", "started", "failed", "reopened", "succeeded"]


def test_a_vect_of_an_earlier_program_is_retried(tmp_path: Path) -> None:
    broken = Broken()
    with OAutom(log=tmp_path / "runs.db") as app:
        assert app.run(declare(app, broken), vect_id="one").state == "failed"
    broken.is_mended, broken.calls = True, []
    with OAutom(log=tmp_path / "runs.db") as app:
        flow = declare(app, broken)
        vect = app.vect("one")
        vect.retry()
        assert vect.wait(SECONDS) == "success"
        assert sorted(broken.calls) == ["b", "c", "clean"]
        assert app.vect("one").state == "success"
        check(app, flow)


def test_a_vect_whose_flow_has_changed_is_not_retried(tmp_path: Path) -> None:
    with OAutom(log=tmp_path / "runs.db") as app:
        assert app.run(declare(app, Broken()), vect_id="one").state == "failed"
    with OAutom(log=tmp_path / "runs.db") as app:
        flow = declare(app, Broken())
        PythonExecution("more", flow, nothing)
        with pytest.raises(FlowChangedError, match="more"):
            app.vect("one").retry()
        assert app.vect("one").state == "failed"


# By another process


def ask(path: Path, action: str, **data: Any) -> None:
    with closing(SqliteEventLog(path, read_only=True)) as log:
        log.ask("one", action, **data)


def test_another_process_asks_for_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with OAutom(OAutomMode.background, log=path) as app:
        flow = Flow("flow", app)
        gate = ApprovalExecution("gate", flow, "ship it?")
        gate >> ApprovalExecution("again", flow, "sure?") >> BashExecution("ship", flow, "true")
        vect = app.start(flow, vect_id="one")
        until(vect, "gate")
        while len(vect.events()) < 3:  # a state is seen a moment before it is in the log
            app.vects()
        ask(path, "approve", step="nowhere", by="Ada")
        ask(path, "pause")
        ask(path, "approve", step="gate", by="Ada", data=[1])
        until(vect, "gate", "success")
        assert (vect.state, vect.result("gate")) == ("paused", {"by": "Ada", "data": [1]})
        ask(path, "resume")
        until(vect, "again")
        ask(path, "reject", step="again", by="Bob", reason="no")
        assert vect.wait(SECONDS) == "failed"
        ask(path, "retry")
        while vect.state != "running":
            app.vects()
        until(vect, "again")
        vect.approve("again", "Ada")
        assert vect.wait(SECONDS) == "success"
        check(app, flow)


def test_another_process_has_a_vect_of_an_earlier_program_retried(tmp_path: Path) -> None:
    path, broken = tmp_path / "runs.db", Broken()
    with OAutom(log=path) as app:
        assert app.run(declare(app, broken), vect_id="one").state == "failed"
    broken.is_mended = True
    with OAutom(OAutomMode.background, log=path) as app:
        declare(app, broken)
        app.recover()
        ask(path, "retry")
        vect = app.vect("one")
        while vect.state == "failed":
            app.vects()
        assert vect.wait(SECONDS) == "success"


@pytest.mark.parametrize(
    ("action", "data", "message"),
    [
        ("approve", {}, "'approve' needs by and step, and takes data, not nothing"),
        ("approve", {"step": "a", "by": 1}, "'approve': by must be text, not 1"),
        ("pause", {"reason": "x"}, "'pause' needs nothing, not reason"),
        ("explode", {}, "action must be one of 'cancel', 'pause', "),
    ],
)
def test_a_wish_that_nobody_could_understand_is_refused(
    tmp_path: Path, action: str, data: dict[str, Any], message: str
) -> None:
    path = tmp_path / "runs.db"
    with OAutom(log=path) as app:
        app.run(Flow("flow", app), vect_id="one")
    with pytest.raises(SettingError, match=message):
        ask(path, action, **data)


# Limits


def test_a_pool_limits_steps_across_flows_and_lets_others_by(new_app: Any) -> None:
    app = new_app(OAutomMode.background, max_workers=8)
    pool = Pool("database", 2)
    flows = [Flow(f"flow {i}", app) for i in range(3)]
    for flow in flows:
        for i in range(4):
            BashExecution(f"load {i}", flow, "sleep 0.02", pool=pool)
        PythonExecution("free", flow, nothing)
    vects = [app.start(flow) for flow in flows]

    assert [vect.wait(SECONDS) for vect in vects] == ["success"] * 3
    running = most = 0
    for event in app.log.read():
        if event.step and event.step.startswith("load"):
            running += (event.dest == "running") - (event.source == "running")
            most = max(most, running)
    assert most == 2
    check_history(app.log.read(), max_workers=8)


def test_a_pool_is_kept_when_the_program_of_a_step_that_had_a_slot_ends(
    new_app: Any, tmp_path: Path
) -> None:
    """What a new program interrupts has no slot of it, and so gives none back."""
    pool = Pool("database", 1)

    def make() -> tuple[OAutom, Flow]:
        app = new_app(log=tmp_path / "runs.db", max_workers=3)
        flow = Flow("f", app)
        for i in range(3):
            command = f"test {i} != 0 || test -e again || {{ touch again; sleep 60; }}"
            BashExecution(f"load {i}", flow, command, pool=pool, cwd=tmp_path)
        return app, flow

    first, flow = make()
    until(first.start(flow, vect_id="one"), "load 0")
    while not (tmp_path / "again").exists():
        with suppress(TimeoutError):
            first.vect("one").wait(0.02)
    first.close()
    second, flow = make()

    assert second.run(flow, vect_id="one").state == "success"
    check(second, flow)  # pools-hold


def test_steps_that_wait_for_a_time_or_a_person_take_no_slot_of_a_pool(new_app: Any) -> None:
    app = new_app()
    flow = Flow("f", app)
    pool = Pool("database", 1)
    WaitExecution("night", flow, seconds=3600, pool=pool)
    ApprovalExecution("gate", flow, "ship?", pool=pool)
    PythonExecution("load", flow, nothing, pool=pool)
    vect = app.start(flow)

    until(vect, "load", "success")

    assert (vect.steps["night"].state, vect.steps["gate"].state) == ("running", "running")
    check(app, flow)


def test_the_highest_priority_is_next_and_of_one_priority_who_came_first(inline: OAutom) -> None:
    flow = Flow("flow", inline)
    for name, priority in (("a", 0), ("b", 5), ("c", -1), ("d", 5), ("e", 0)):
        PythonExecution(name, flow, nothing, priority=priority)
    vect = inline.run(flow)

    started = [event.step for event in vect.events() if event.name == "step.started"]
    assert started == ["b", "d", "a", "e", "c"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pool": "database"}, r"pool must be a Pool or None, not 'database'; Pool\('name', slots"),
        ({"priority": "high"}, "priority must be an int, not 'high'"),
    ],
)
def test_limits_that_are_none_are_refused(
    inline: OAutom, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(FlowError, match=f"step 'a' of flow 'flow': {message}"):
        PythonExecution("a", Flow("flow", inline), nothing, **given)


@pytest.mark.parametrize(
    ("name", "slots", "message"),
    [
        ("", 1, "Pool: name must be text, and not blank, not ''"),
        (1, 1, "Pool: name must be text, and not blank, not 1"),
        ("p", 0, "Pool 'p': slots must be an int from 1, not 0"),
        ("p", "2", "Pool 'p': slots must be an int from 1, not '2'"),
    ],
)
def test_a_pool_that_is_none_is_refused(name: Any, slots: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Pool(name, slots)
