"""A durable log outlives its program: what was open goes on, what has ended is known."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from oautom import (
    ApprovalExecution,
    BashExecution,
    Context,
    EngineError,
    Flow,
    FlowChangedError,
    FlowError,
    FlowExecution,
    MapExecution,
    MemoryEventLog,
    OAutom,
    OAutomMode,
    Pool,
    PythonExecution,
    UnknownFlowError,
    UnknownVectError,
    VectAlreadyRunningException,
    WaitExecution,
)
from oautom.events import signals
from oautom.testing import SimulatedClock, assert_replays, check_history

Declare = Callable[[OAutom], Flow]


class Work:
    """What steps do, over all lives: they count themselves, and the slow one waits to be stopped.

    Attributes:
        calls: The steps that were called, in order.
        is_slow: Whether `slow` waits.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_slow = True
        self.has_begun = threading.Event()

    def quick(self, context: Context) -> str:
        self.calls.append(context.step)
        return f"{context.step} {context.attempt}"

    def slow(self, context: Context) -> str:
        self.calls.append(context.step)
        self.has_begun.set()
        if self.is_slow:
            context.cancelled.wait(60)
        return f"{context.step} {context.attempt}"

    def chain(self, app: OAutom) -> Flow:
        flow = Flow("flow", app, max_active_vects=9)
        PythonExecution("first", flow, self.quick) >> PythonExecution("slow", flow, self.slow)
        flow.steps["slow"] >> PythonExecution("last", flow, self.quick)
        return flow


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def leave_open(path: Path, work: Work, declare: Declare, vect_id: str = "v") -> None:
    """Run a flow until its slow step has begun, then end the program in good order."""
    work.has_begun.clear()
    with OAutom(OAutomMode.background, log=path) as app:
        app.start(declare(app), vect_id=vect_id)
        assert work.has_begun.wait(60)


def test_the_same_program_run_again_goes_on_where_it_was(path: Path, work: Work) -> None:
    leave_open(path, work, work.chain)
    work.is_slow = False
    with OAutom(log=path) as app:
        flow = work.chain(app)
        vect = app.run(flow, vect_id="v")

        assert vect.state == "success"
        assert work.calls == ["first", "slow", "slow", "last"]
        assert [vect.result(step) for step in flow.steps] == ["first 1", "slow 2", "last 1"]
        assert [(e.name, e.step) for e in vect.events()[5:8]] == [
            ("vect.recovered", None),
            ("step.interrupted", "slow"),
            ("step.started", "slow"),
        ]
        check_history(app.log.read(), flow)
        assert_replays(app.log, flow)


def test_what_has_ended_is_returned_and_not_run_again(path: Path, work: Work) -> None:
    work.is_slow = False
    with OAutom(log=path) as app:
        app.run(work.chain(app), vect_id="v")
    with OAutom(log=path) as app:
        flow = work.chain(app)
        vect = app.run(flow, vect_id="v")

        assert work.calls == ["first", "slow", "last"]
        assert vect.state == vect.wait() == "success"
        assert vect.result("slow") == "slow 1"
        assert app.start(flow, vect_id="v") is vect is app.vect("v")
        assert vect.steps["first"].end_date == vect.events()[3].time
        assert [each["id"] for each in app.logs()] == ["v"]


def test_recover_returns_the_oldest_first_whatever_has_slots_of_pools(path: Path) -> None:
    def declare(app: OAutom) -> tuple[Flow, Flow]:
        plain, outer = Flow("plain", app), Flow("outer", app)
        PythonExecution("work", plain, print)
        FlowExecution("run it", outer, "plain", pool=Pool("few", 1))
        return plain, outer

    with OAutom(log=path) as app:
        for flow in declare(app):
            app.start(flow, vect_id=flow.name)
    with OAutom(log=path) as app:
        declare(app)

        resumed = app.recover()

        assert [vect.id for vect in resumed] == ["plain", "outer"]
        assert resumed == app.vects()


def test_waits_of_one_instant_go_on_oldest_first_after_a_recovery(path: Path) -> None:
    clock, vects = SimulatedClock(), ["first", "second", "third"]
    for is_again in (False, True):
        with OAutom(log=path, executor="inline", clock=clock) as app:
            flow = Flow("flow", app, max_active_vects=3)
            WaitExecution("wait", flow, seconds=60)
            if is_again:
                app.recover()
            else:
                for vect in vects:
                    app.start(flow, vect_id=vect)
            clock.call_later(50, app.stop)
            app.run()
            ends = [event.vect for event in app.log.read() if event.name == "step.succeeded"]

    assert ends == vects


def test_recover_says_what_it_resumed(path: Path, work: Work) -> None:
    leave_open(path, work, work.chain, "one")
    leave_open(path, work, work.chain, "two")  # which goes on with the first, too
    work.is_slow = False
    with OAutom(log=path) as app:
        flow = work.chain(app)
        resumed = app.recover()

        assert [vect.id for vect in resumed] == ["one", "two"]
        assert app.recover() == []
        assert [vect.wait() for vect in resumed] == ["success", "success"]
        assert app.vects(flow) == resumed


def test_the_first_start_of_any_flow_recovers_all(path: Path, work: Work) -> None:
    leave_open(path, work, work.chain)
    work.is_slow = False
    with OAutom(log=path) as app:
        work.chain(app)
        other = Flow("other", app)
        PythonExecution("step", other, work.quick)
        app.run(other)

        assert app.vect("v").wait() == "success"


def test_serving_recovers(path: Path, work: Work) -> None:
    leave_open(path, work, work.chain)
    work.is_slow = False
    with OAutom(log=path) as app:
        work.chain(app)
        signals.vect_succeeded.connect(lambda flow, event: app.stop())
        app.run()

        assert app.vect("v").wait() == "success"


def test_in_the_background_it_goes_on_by_itself(path: Path, work: Work) -> None:
    leave_open(path, work, work.chain)
    work.is_slow = False
    with OAutom(OAutomMode.background, log=path) as app:
        work.chain(app)
        (vect,) = app.recover()

        assert vect.wait(60) == "success"


def test_on_crash_fail_fails_the_step_and_blocks_what_waits_for_it(path: Path, work: Work) -> None:
    def declare(app: OAutom) -> Flow:
        flow = work.chain(app)
        flow.steps["slow"].on_crash = "fail"
        return flow

    leave_open(path, work, declare)
    with OAutom(log=path) as app:
        vect = app.run(declare(app), vect_id="v")

        assert vect.state == "failed"
        assert work.calls == ["first", "slow"]
        assert vect.steps["slow"].error == (
            "the program ended while the step ran, and on_crash is 'fail'"
        )
        assert vect.steps["last"].state == "upstream_failed"
        check_history(app.log.read())


def test_who_waits_for_a_time_or_a_person_goes_on_waiting_whatever_on_crash_says(
    path: Path,
) -> None:
    """Nothing was at work there, so the end of the program has ended nothing."""

    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app)
        WaitExecution("wait", flow, seconds=3600, on_crash="fail")
        ApprovalExecution("gate", flow, "ship it?", on_crash="fail")
        return flow

    clock = SimulatedClock()
    with OAutom(log=path, clock=clock) as app, pytest.raises(TimeoutError):
        app.start(declare(app), vect_id="v").wait(1000)
    with OAutom(log=path, clock=clock) as app:
        flow = declare(app)
        vect = app.start(flow, vect_id="v")
        with pytest.raises(TimeoutError):
            vect.wait(1000)
        assert [step.state for step in vect.steps.values()] == ["running", "running"]
        vect.approve("gate", "Ada")

        assert vect.wait() == "success"
        assert [step.attempt for step in vect.steps.values()] == [1, 1]
        assert clock.monotonic() == 3600
        check_history(app.log.read(), flow)


def test_on_crash_fail_fails_the_instances_that_ran_and_lets_their_map_go_on(
    path: Path, work: Work
) -> None:
    def one(n: int, context: Context) -> str:
        return work.slow(context) if n == 1 else work.quick(context)

    def declare(app: OAutom) -> Flow:
        flow = Flow("flow", app, params={"items": list[int]})
        over = flow.param("items")
        mapped = MapExecution("map", flow, one, over, max_parallel=1, on_crash="fail")
        mapped >> PythonExecution("last", flow, work.quick)
        return flow

    with OAutom(OAutomMode.background, log=path) as app:
        app.start(declare(app), {"items": [0, 1, 2]}, vect_id="v")
        assert work.has_begun.wait(60)
    with OAutom(log=path) as app:
        flow = declare(app)
        vect = app.start(flow, {"items": [0, 1, 2]}, vect_id="v")

        assert vect.wait(30) == "failed"
        assert work.calls == ["map[0]", "map[1]", "map[2]"]
        assert {name: (step.state, step.attempt) for name, step in vect.steps.items()} == {
            "map": ("failed", 1),
            "last": ("upstream_failed", 0),
            "map[0]": ("success", 1),
            "map[1]": ("failed", 1),
            "map[2]": ("success", 1),
        }
        assert vect.steps["map"].error == (
            "1 of its 3 items failed, first map[1]: "
            "the program ended while the step ran, and on_crash is 'fail'"
        )
        check_history(app.log.read(), flow)


def test_on_crash_is_one_of_two_words(path: Path) -> None:
    with pytest.raises(FlowError, match=r"on_crash must be 'rerun' or 'fail', not 'ignore'"):
        PythonExecution("step", Flow("flow", OAutom()), print, on_crash="ignore")  # type: ignore[arg-type]


def test_a_kind_of_step_can_say_what_a_crash_does(path: Path) -> None:
    class Payment(PythonExecution):
        on_crash = "fail"

    flow = Flow("flow", OAutom())

    assert Payment("one", flow, print).on_crash == "fail"
    assert Payment("two", flow, print, on_crash="rerun").on_crash == "rerun"


# Flows that have changed


def changed(work: Work, app: OAutom) -> Flow:
    flow = Flow("flow", app)
    PythonExecution("first", flow, work.quick)
    PythonExecution("slow", flow, work.slow)
    PythonExecution("new", flow, work.quick).depends(flow.steps["slow"])
    return flow


DIFFERENCE = (
    "vect 'v' of flow 'flow' cannot go on, since the flow has changed: "
    "'slow' no longer waits for 'first'; step 'last' is gone; step 'new' is new; "
    "declare the flow as it was, or give the vect up: app.vect('v').cancel()"
)


@pytest.mark.parametrize("how", ["run", "start"])
def test_a_flow_that_changed_is_not_resumed_and_the_difference_is_told(
    path: Path, work: Work, how: str
) -> None:
    leave_open(path, work, work.chain)
    calls = list(work.calls)
    with OAutom(log=path) as app:
        flow = changed(work, app)
        ways: dict[str, Callable[[], object]] = {
            "run": lambda: app.run(flow, vect_id="v"),
            "start": lambda: app.start(flow, vect_id="v").wait(),
        }
        with pytest.raises(FlowChangedError) as raised:
            ways[how]()

        assert str(raised.value) == DIFFERENCE
        assert (raised.value.flow, raised.value.vect) == ("flow", "v")
        assert raised.value.differences[2] == "step 'new' is new"
        assert work.calls == calls
        with pytest.raises(FlowChangedError):
            app.vect("v").wait()


def test_a_vect_whose_flow_changed_can_be_given_up(path: Path, work: Work) -> None:
    leave_open(path, work, work.chain)
    work.is_slow = False
    with OAutom(log=path) as app:
        flow = changed(work, app)
        assert app.recover() == []
        app.vect("v").cancel("the flow is another now")

        assert app.run(flow).state == "success"
        assert app.vect("v").wait() == "cancelled"
        assert app.vect("v").steps["slow"].error == "the flow is another now"
        check_history(app.log.read())


@pytest.mark.parametrize("mode", list(OAutomMode))
def test_one_vect_of_a_flow_that_changed_holds_up_no_other(
    path: Path, work: Work, mode: OAutomMode, caplog: pytest.LogCaptureFixture
) -> None:
    leave_open(path, work, work.chain)
    work.is_slow = False
    with OAutom(mode, log=path) as app:
        flow = changed(work, app)
        assert app.run(flow, vect_id="new").state == "success"
        old = app.vect("v")
        for ask in (old.pause, old.resume, old.wait):
            with pytest.raises(FlowChangedError, match="step 'new' is new"):
                ask()
        assert old.steps["slow"].state == "running"
    assert caplog.text.count(DIFFERENCE) == 1


def test_a_plan_of_a_flow_that_changed_is_served(path: Path, work: Work) -> None:
    leave_open(path, work, work.chain)
    work.is_slow = False
    clock = SimulatedClock()
    with OAutom(log=path, clock=clock, executor="inline") as app:
        app.plan(changed(work, app), seconds=10)
        clock.call_later(25, app.stop)
        app.run()

        assert [vect.state for vect in app.vects()] == ["running", "success", "success"]


# Who takes what is left, and when


def two_left_open(path: Path, work: Work) -> None:
    """Leave a Vect `v` of `flow` open, and a Vect `w` of `late`."""
    leave_open(path, work, work.chain)
    with OAutom(OAutomMode.background, log=path) as app:
        gate = Flow("late", app)
        ApprovalExecution("ask", gate, "?") >> PythonExecution("after", gate, work.quick)
        app.start(gate, vect_id="w")
    work.is_slow = False


def declare_late(app: OAutom, work: Work) -> Flow:
    late = Flow("late", app)
    ApprovalExecution("ask", late, "?") >> PythonExecution("after", late, work.quick)
    return late


def test_a_program_in_the_background_that_has_plans_only_recovers_at_once(
    path: Path, work: Work
) -> None:
    leave_open(path, work, work.chain)
    work.is_slow = False
    with OAutom(OAutomMode.background, log=path) as app:
        app.plan(work.chain(app), days=1000)
        assert app.vect("v").wait(20) == "success"


def test_a_plan_has_the_children_of_its_flow_go_on(path: Path, work: Work) -> None:
    def declare(app: OAutom) -> Flow:
        parent = Flow("parent", app)
        FlowExecution("child", parent, work.chain(app))
        return parent

    leave_open(path, work, declare)
    work.is_slow = False
    with OAutom(OAutomMode.background, log=path) as app:
        app.plan(declare(app), days=1000)
        assert app.vect("v").wait(20) == "success"


USES: dict[str, Callable[[OAutom, Flow], object]] = {
    "start": lambda app, flow: app.start(flow, vect_id="w"),
    "start of another": lambda app, _: app.start("flow"),
    "run of another": lambda app, _: app.run("flow"),
    "plan": lambda app, flow: app.plan(flow, days=1000),
    "run": lambda app, _: app.run(),
    "recover": lambda app, _: app.recover(),
}


@pytest.mark.parametrize("first", ["plan", "start", "recover"])
@pytest.mark.parametrize("use", USES)
def test_a_flow_is_taken_in_when_it_is_used_whatever_was_before(
    path: Path, work: Work, first: str, use: str
) -> None:
    two_left_open(path, work)
    with OAutom(OAutomMode.background, log=path) as app:
        flow = work.chain(app)
        {"plan": partial(app.plan, flow, days=1000), "start": partial(app.start, flow)}.get(
            first, app.recover
        )()
        assert app.vect("v").wait(20) == "success"
        late = declare_late(app, work)
        USES[use](app, late)
        vect = app.vect("w")
        vect.approve("ask", by="Ada")
        assert vect.wait(20) == "success"
        check_history(app.log.read())


def test_a_flow_that_is_being_declared_is_looked_at_again_when_it_is_started(
    path: Path, work: Work
) -> None:
    two_left_open(path, work)
    with OAutom(OAutomMode.background, log=path) as app:
        work.chain(app)
        late = Flow("late", app)
        ask = ApprovalExecution("ask", late, "?")
        assert app.run("flow").state == "success"  # somebody does that meanwhile
        ask >> PythonExecution("after", late, work.quick)

        vect = app.start(late, vect_id="w")
        vect.approve("ask", by="Ada")
        assert vect.wait(20) == "success"


def test_the_other_flows_go_on_and_the_changed_one_is_told_of(
    path: Path, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    leave_open(path, work, work.chain)
    with OAutom(log=path) as app, caplog.at_level(logging.WARNING, "oautom"):
        changed(work, app)
        other = Flow("other", app)
        PythonExecution("step", other, work.quick)

        assert app.run(other).state == "success"
    assert DIFFERENCE in caplog.text


def test_a_flow_that_is_not_declared_is_waited_for(
    path: Path, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    leave_open(path, work, work.chain)
    work.is_slow = False
    with OAutom(log=path) as app, caplog.at_level(logging.WARNING, "oautom"):
        assert app.recover() == []
        assert "vect 'v' waits for flow 'flow' to be declared" in caplog.text
        assert app.vects() == []
        with pytest.raises(UnknownFlowError):
            app.vect("v")

        work.chain(app)
        (vect,) = app.recover()
        assert vect.wait() == "success"


# What is known of earlier lives


def test_an_open_vect_that_nobody_has_resumed_cannot_be_waited_for(path: Path, work: Work) -> None:
    leave_open(path, work, work.chain)
    work.is_slow = False
    with OAutom(log=path) as app:
        work.chain(app)
        vect = app.vect("v")

        assert (vect.state, vect.steps["first"].output) == ("running", "first 1")
        with pytest.raises(EngineError, match=r"left open by an earlier program; app.recover\(\)"):
            vect.wait()
        assert app.recover() == [vect]
        assert vect.wait() == "success"


def test_an_open_vect_that_nobody_has_resumed_can_be_cancelled(path: Path, work: Work) -> None:
    leave_open(path, work, work.chain)
    with OAutom(log=path) as app:
        work.chain(app)
        vect = app.vect("v")
        vect.cancel("no more")
        app.recover()

        assert vect.wait() == "cancelled"
        assert work.calls == ["first", "slow"]
        check_history(app.log.read())


def test_recovered_vects_count_as_active(path: Path, work: Work) -> None:
    def declare(app: OAutom) -> Flow:
        flow = work.chain(app)
        flow.max_active_vects = 1
        return flow

    leave_open(path, work, declare)
    with OAutom(log=path) as app:
        flow = declare(app)
        with pytest.raises(VectAlreadyRunningException, match="already runs as v"):
            app.start(flow)


def test_vects_of_all_lives_are_listed_oldest_first(path: Path, work: Work) -> None:
    work.is_slow = False
    for name in ("one", "two"):
        with OAutom(log=path) as app:
            app.run(work.chain(app), vect_id=name)
    with OAutom(log=path) as app:
        flow = work.chain(app)
        app.run(flow, vect_id="three")

        assert [vect.id for vect in app.vects()] == ["one", "two", "three"]
        assert [vect.id for vect in app.vects(flow, state="success")] == ["one", "two", "three"]
        assert app.status(flow)["id"] == "three"
        with pytest.raises(UnknownVectError):
            app.vect("four")


def test_a_vect_of_another_flow_is_refused_in_the_next_life_too(path: Path, work: Work) -> None:
    work.is_slow = False
    with OAutom(log=path) as app:
        app.run(work.chain(app), vect_id="v")
    with OAutom(log=path) as app:
        work.chain(app)
        other = Flow("other", app)
        with pytest.raises(FlowError, match=r"vect 'v' is a run of flow 'flow', not of 'other'"):
            app.start(other, vect_id="v")


def test_a_log_in_memory_can_be_handed_on_as_well(work: Work) -> None:
    work.is_slow = False
    log = MemoryEventLog()
    with OAutom(log=log) as app:
        app.run(work.chain(app), vect_id="v")
    again = MemoryEventLog()
    for event in log.read(upto=5):  # as if the program had died then
        again.append(None, event)
    again.commit()
    with OAutom(log=again) as app:
        assert app.run(work.chain(app), vect_id="v").state == "success"
        check_history(again.read())


# The end of a life


def test_to_close_ends_all_work_and_leaves_the_vect_open(path: Path, tmp_path: Path) -> None:
    app = OAutom(OAutomMode.background, log=path)
    flow = Flow("flow", app)
    BashExecution("slow", flow, f"echo $$ >{tmp_path}/pid; touch {tmp_path}/begun; sleep 60")
    vect = app.start(flow)
    while not (tmp_path / "begun").exists():
        assert vect.state in ("pending", "running")
    app.close()

    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    assert vect.state == "running"
    assert vect.events()[-1].name == "step.started"
    with pytest.raises(EngineError, match=r"open in its log, and goes on when the program is run"):
        vect.wait()
    with pytest.raises(EngineError, match="the app is closed"):
        app.start(flow)


def test_nothing_of_a_durable_log_is_cancelled_that_waits_for_a_worker(
    path: Path, work: Work
) -> None:
    with OAutom(OAutomMode.background, log=path, max_workers=1) as app:
        flow = work.chain(app)
        vects = [app.start(flow, vect_id=name) for name in ("one", "two")]
        assert work.has_begun.wait(60)
    assert {vect.state for vect in vects} == {"running"}
    work.is_slow = False
    with OAutom(log=path, max_workers=1) as app:
        flow = work.chain(app)
        assert [vect.wait() for vect in app.recover()] == ["success", "success"]
        check_history(app.log.read(), flow, max_workers=1)
