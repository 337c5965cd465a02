"""A deploy while Vects are open: those that fit go on, those that do not are stranded.

What is a change that does not fit, and what may be done with a Vect that has been stranded by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from oautom import (
    ApprovalExecution,
    BashExecution,
    BranchExecution,
    Event,
    EventLog,
    Execution,
    FileExecution,
    Flow,
    FlowChangedError,
    FlowError,
    FlowExecution,
    MapExecution,
    OAutom,
    OAutomMode,
    Pool,
    PythonExecution,
    RetryPolicy,
    SettingError,
    SqliteEventLog,
    TriggerRule,
    UnknownFlowError,
    UnknownVectError,
    Vect,
    VectAlreadyRunningException,
    WaitExecution,
)
from oautom.testing import SimulatedClock, assert_replays, check_history, simulate

SECONDS = 20
Declare = Callable[[OAutom], Flow]


def quick() -> str:
    return "done"


def listed() -> list[int]:
    return [1, 2]


def one_more(item: int) -> int:
    return item + 1


def choose() -> str:
    return "last"


async def later() -> str:
    return "done"


def broken() -> None:
    raise ValueError("no")


def declare(
    app: OAutom,
    *,
    params: Any = None,
    version: str | None = None,
    step: Callable[[Flow, Execution], Execution] | None = None,
    more: bool = False,
    without: bool = False,
    at_once: bool = False,
) -> Flow:
    """Declare `flow`: somebody is asked at `gate`, then `work` is done, then `last`."""
    for name in ("one", "two"):
        PythonExecution("part", Flow(name, app), quick)
    flow = Flow("flow", app, params=params, version=version)
    PythonExecution("items", flow, listed)
    PythonExecution("others", flow, listed)
    gate = ApprovalExecution("gate", flow, "go on?")
    work = PythonExecution("work", flow, quick) if step is None else step(flow, gate)
    if not at_once:
        gate >> work
    work.depends(flow.steps["items"], flow.steps["others"])
    if not without:
        work >> PythonExecution("last", flow, quick)
    if more:
        PythonExecution("more", flow, quick).depends(work)
    return flow


def made(kind: type[Any], *args: Any, **options: Any) -> Any:
    return lambda flow, _gate: kind("work", flow, *args, **options)


def mapped(over: str, **options: Any) -> Any:
    return lambda flow, _gate: MapExecution("work", flow, one_more, flow.steps[over], **options)


def running(name: str) -> Any:
    return lambda flow, _gate: FlowExecution("work", flow, flow.app.flow(name))  # type: ignore[attr-defined] # it has


PLAIN = made(PythonExecution, quick)
MISFITS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a step is new": ({}, {"more": True}, "step 'more' is new"),
    "a step is gone": ({}, {"without": True}, "step 'last' is gone"),
    "a dependency is gone": ({}, {"at_once": True}, "'work' no longer waits for 'gate'"),
    "a dependency is new": ({"at_once": True}, {}, "'work' now waits for 'gate'"),
    "a map is none": (
        {"step": mapped("items")},
        {"step": PLAIN},
        "step 'work' was a map and is a step of work",
    ),
    "a step is a map": ({}, {"step": mapped("items")}, "was a step of work and is a map"),
    "a map has other items": (
        {"step": mapped("items")},
        {"step": mapped("others")},
        "the items of map 'work' came from step 'items' and come from step 'others'",
    ),
    "a step runs another flow": (
        {"step": running("one")},
        {"step": running("two")},
        "step 'work' ran flow 'one' and runs 'two'",
    ),
    "a flow is run no more": ({"step": running("one")}, {}, "was a step that runs a flow and is a"),
    "a branch is none": (
        {"step": made(BranchExecution, choose)},
        {},
        "step 'work' was a branch and is a step of work",
    ),
    "a wait is none": (
        {"step": made(WaitExecution, seconds=1)},
        {},
        "was a wait and is a step of work",
    ),
    "a person is asked": (
        {},
        {"step": made(ApprovalExecution, "?")},
        "step 'work' was a step of work and is an approval",
    ),
    "a file is waited for": (
        {},
        {"step": made(FileExecution, "a")},
        "step 'work' was a step of work and is a wait for a file",
    ),
    "a parameter is gone": ({"params": {"day": str}}, {}, "parameter 'day' is gone"),
    "a parameter is new": ({}, {"params": {"day": str}}, "parameter 'day' is new"),
    "a parameter is of another type": (
        {"params": {"day": str}},
        {"params": {"day": date}},
        "parameter 'day' is now date, which 'monday' is not: ",
    ),
    "another version": (
        {"version": "1"},
        {"version": "2"},
        "it began with version '1', the program has '2'",
    ),
    "the first version": (
        {},
        {"version": "2"},
        "it began without a version, the program has '2'",
    ),
    "no version any more": (
        {"version": "1"},
        {},
        "it began with version '1', the program has none",
    ),
}
"""By what has changed: how the flow was declared, how it is now, and what is told of it."""


class Deploys:
    """One program after the other on one log; foreground, inline, on a clock of the test's own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = SimulatedClock()

    @contextmanager
    def program(self, was: dict[str, Any], **settings: Any) -> Iterator[tuple[OAutom, Flow]]:
        settings = {"log": self.path, "clock": self.clock, "executor": "inline"} | settings
        with OAutom(**settings) as app:
            yield app, declare(app, **was)

    def leave_open(self, was: dict[str, Any]) -> None:
        with self.program(was) as (app, flow):
            goes_on(app.start(flow, params_of(was), vect_id="old"))
            assert app.vect("old").steps["gate"].state == "running"

    def check(self) -> None:
        with closing(SqliteEventLog(self.path, read_only=True)) as log:
            check_history(log.read(), gaps=log.gaps())


def params_of(how: dict[str, Any]) -> dict[str, Any] | None:
    given = how.get("params")
    return None if given is None else {"day": "2026-11-24" if given["day"] is date else "monday"}


def goes_on(vect: Vect) -> None:
    """Let a Vect go as far as it can."""
    with suppress(TimeoutError):
        vect.wait(0.5)


def ends(vect: Vect) -> str:
    """Have a Vect end, where a person approves of all that is asked."""
    for name in ("gate", "work"):
        goes_on(vect)
        step = vect.steps[name]
        if isinstance(vect.flow.steps[name], ApprovalExecution) and step.state == "running":
            vect.approve(name, by="Ada")
    return vect.wait(SECONDS)


@pytest.fixture
def deploys(tmp_path: Path) -> Deploys:
    return Deploys(tmp_path / "runs.db")


def ids(vects: Iterable[Vect]) -> list[str]:
    return [vect.id for vect in vects]


# What does not fit


@pytest.mark.parametrize("change", MISFITS)
def test_what_does_not_fit_is_stranded_and_told_and_goes_on_after_a_rollback(
    deploys: Deploys, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    was, now, told = MISFITS[change]
    deploys.leave_open(was)
    with closing(SqliteEventLog(deploys.path, read_only=True)) as log:
        asked = log.ask("old", "approve", step="gate", by="Bob")
    with deploys.program(now) as (app, flow):
        assert ids(app.vects(state="stranded")) == ["old"]  # before anybody has it go on, too
        assert app.recover() == []
        old = app.vect("old")
        before = old.events()

        new = app.start(flow, params_of(now), vect_id="new")  # max_active_vects is 1
        assert app.start(flow, vect_id="old") is old
        refused: list[Callable[[], object]] = [
            *(old.wait, old.pause, old.resume, old.retry, lambda: asyncio.run(awaited(old))),
            lambda: old.approve("gate", by="Ada"),
            lambda: old.reject("gate", by="Ada"),
        ]
        for ask in refused:
            with pytest.raises(FlowChangedError) as raised:
                ask()
            assert told in str(raised.value)
        assert told in old.explain("gate")
        for step in old.steps.values():  # what there is can be read, whatever it was then
            assert old.explain(step.name).startswith(f"`{step.name}` ")
            assert step.output is None or step.state == "success"
        assert old.result("items") == [1, 2]
        assert told in old.status()["stranded"]
        assert told in next(each for each in app.logs() if each["id"] == "old")["stranded"]
        assert ids(app.vects(state="stranded")) == ids(app.vects(flow, "stranded")) == ["old"]
        assert old in app.vects(state="running")
        if "file" in change:  # a thread looks for it, by the clock of the machine
            goes_on(new)
            new.cancel()
        assert ends(new) == ("cancelled" if "file" in change else "success")
        assert "stranded" not in new.status()
        later = deploys.clock.now() + timedelta(seconds=1)
        assert next(gone.id for gone in app.prune(older_than=later)) == "new"
        assert old.events() == before
        answer = app.log.answer(asked)  # type: ignore[attr-defined] # as one in a file has
        assert told in answer.refusal
    lines = [record for record in caplog.records if record.name == "oautom.recovery"]
    assert len(lines) == 1
    for part in ("flow 'flow'", "vect 'old'", told, "declare the flow as it was", "cancel()"):
        assert part in lines[0].message
    with deploys.program(was) as (app, flow):
        assert app.vects(state="stranded") == []
        assert ids(app.recover()) == ["old"]
        assert ends(app.vect("old")) == "success"
        assert_replays(app.log, flow)
    deploys.check()


async def awaited(vect: Vect) -> None:
    await vect


@pytest.mark.parametrize("change", MISFITS)
def test_what_does_not_fit_can_be_given_up(deploys: Deploys, change: str) -> None:
    was, now, _ = MISFITS[change]
    deploys.leave_open(was)
    with deploys.program(now) as (app, _flow):
        app.vect("old").cancel("deployed")
        assert app.vect("old").wait(SECONDS) == "cancelled"
        assert app.vects(state="stranded") == []
        assert "stranded" not in app.vect("old").status()
        with pytest.raises(FlowChangedError, match="or start a new one") as raised:
            app.vect("old").retry()
        assert MISFITS[change][2] in str(raised.value)
    with deploys.program(was) as (app, _flow):
        app.vect("old").retry()
        assert ends(app.vect("old")) == "success"
    deploys.check()


def test_the_plans_of_a_flow_go_on_beside_a_stranded_vect(deploys: Deploys) -> None:
    deploys.leave_open({})
    with deploys.program({"version": "2"}) as (app, flow):
        app.plan(flow, seconds=10, name="often")
        deploys.clock.call_later(25, app.stop)
        app.run()
        planned = [vect for vect in app.vects() if vect.id != "old"]
        assert [vect.state for vect in planned] == ["running"]
        assert [event.name for event in app.log.read()].count("plan.skipped") == 1
    deploys.check()


def test_in_the_background_a_deploy_holds_up_nobody(deploys: Deploys) -> None:
    deploys.leave_open({})
    with OAutom(OAutomMode.background, log=deploys.path) as app:
        flow = declare(app, more=True, step=PLAIN, at_once=True)
        new = app.start(flow, vect_id="new")
        with pytest.raises(FlowChangedError):
            app.vect("old").wait()
        while new.steps["gate"].state == "pending":
            goes_on(new)
        new.approve("gate", by="Ada")
        assert new.wait(SECONDS) == "success"
    deploys.check()


def test_a_flow_that_cannot_be_started_strands_what_is_open(deploys: Deploys) -> None:
    deploys.leave_open({})
    with deploys.program({}) as (app, flow):
        flow.step(quick)  # never called
        with pytest.raises(FlowError, match="never called"):
            app.recover()
        assert ids(app.vects(state="stranded")) == ["old"]
        assert "never called" in app.vect("old").status()["stranded"]


def test_a_vect_of_a_flow_that_is_gone_waits_for_it_and_can_be_given_up(
    deploys: Deploys, caplog: pytest.LogCaptureFixture
) -> None:
    deploys.leave_open({})
    with deploys.program({}) as (app, _):  # nothing has changed
        assert app.vects(state="stranded") == []
    with OAutom(log=deploys.path) as app:
        Flow("another", app)
        assert app.recover() == app.vects() == app.vects(state="stranded") == []
        with pytest.raises(UnknownFlowError):
            app.vect("old")
        told = "vect 'old' waits for flow 'flow' to be declared; to give it up, declare a flow of"
        assert caplog.text.count(told) == 1
    with OAutom(log=deploys.path) as app:
        Flow("flow", app)
        app.vect("old").cancel()
        assert app.vect("old").wait(SECONDS) == "cancelled"
    deploys.check()


def test_a_state_that_there_is_not_is_told(deploys: Deploys) -> None:
    with (
        deploys.program({}) as (app, _),
        pytest.raises(SettingError, match="'cancelled', 'stranded', not 'strandet'"),
    ):
        app.vects(state="strandet")


# What fits


def of_work(**options: Any) -> dict[str, Any]:
    return {"step": made(PythonExecution, broken, **options)}


FEW, MANY = RetryPolicy(max_attempts=2, delay=0), RetryPolicy(max_attempts=4, delay=0)
WORK: dict[str, tuple[dict[str, Any], dict[str, Any], str, Any]] = {
    "more attempts": (of_work(retry=FEW), of_work(retry=MANY), "attempt", 4),
    "fewer attempts": (of_work(retry=MANY), of_work(retry=FEW), "attempt", 2),
    "attempts at all": (of_work(), of_work(retry=FEW), "attempt", 2),
    "one attempt": (of_work(retry=FEW), of_work(), "attempt", 1),
    "a timeout": (of_work(), of_work(timeout=60), "state", "failed"),
    "on_crash": (of_work(), of_work(on_crash="fail"), "state", "failed"),
    "an exit code that skips": (
        {"step": made(BashExecution, "exit 7")},
        {"step": made(BashExecution, "exit 7", skip_exit_code=7)},
        "state",
        "skipped",
    ),
    "another file": (
        {"step": made(FileExecution, "/no such file")},
        {"step": made(FileExecution, "/")},
        "state",
        "success",
    ),
}
"""By what has changed: how the flow was and is declared, and what the program's own comes to."""


@pytest.mark.parametrize("change", WORK)
def test_how_an_attempt_is_made_is_as_the_program_has_it_and_told(
    deploys: Deploys, change: str
) -> None:
    was, now, what, expected = WORK[change]
    deploys.leave_open(was)
    clock = None if change == "another file" else deploys.clock  # a thread looks for files
    with deploys.program(now, clock=clock) as (app, flow):
        (old,) = app.recover()
        ends(old)
        assert getattr(old.steps["work"], what) == expected
        told = [event for event in old.events() if event.name == "vect.recovered"]
        assert told[0].data == {"options": {"work": flow.options.get("work", {})}}
        attempt = old.steps["work"].attempt
        if isinstance(retry := getattr(flow.steps["work"], "retry", None), RetryPolicy):
            assert f"attempt {attempt} of {retry.max_attempts}" in old.explain("work")
        assert_replays(app.log, flow)
    deploys.check()


def test_how_an_attempt_is_made_holds_for_a_retry_of_a_vect_that_has_failed(
    deploys: Deploys,
) -> None:
    with deploys.program(of_work(retry=FEW)) as (app, flow):
        assert ends(app.start(flow, vect_id="old")) == "failed"
    with deploys.program(of_work(retry=MANY)) as (app, flow):
        old = app.vect("old")
        old.retry()
        assert old.wait(SECONDS) == "failed"
        assert old.steps["work"].attempt == 6  # two, and four more
        (told,) = [event for event in old.events() if event.name == "vect.reopened"]
        assert told.data["options"]["work"]["max_attempts"] == 4
        old.retry()  # it is known by now
        assert old.wait(SECONDS) == "failed"
        (_, again) = [event for event in old.events() if event.name == "vect.reopened"]
        assert again.data == {}
    deploys.check()


def test_a_vect_that_was_not_begun_begins_with_the_options_of_today(deploys: Deploys) -> None:
    created = simulate(declare(OAutom(), **of_work(retry=FEW))).events()[0]
    with closing(SqliteEventLog(deploys.path)) as log:
        log.append(None, replace(created, vect="old"))
        log.commit()
    with deploys.program(of_work(retry=MANY)) as (app, _flow):
        app.recover()
        old = app.vect("old")
        assert ends(old) == "failed"
        assert old.steps["work"].attempt == 4
        assert [event.name for event in old.events() if "options" in event.data] == [
            "vect.created",
            "vect.started",
        ]
    deploys.check()


def test_the_instances_of_a_map_go_on_with_the_options_of_today(deploys: Deploys) -> None:
    def fails(item: int) -> None:
        raise ValueError(item)

    def declared(app: OAutom, **options: Any) -> Flow:
        flow = Flow("flow", app)
        PythonExecution("items", flow, listed)
        MapExecution("work", flow, fails, flow.steps["items"], **options)
        return flow

    with OAutom(log=deploys.path, clock=deploys.clock, executor="inline") as app:
        retry = RetryPolicy(max_attempts=2, delay=100)
        old = app.start(declared(app, retry=retry), vect_id="old")
        goes_on(old)
        assert old.steps["work[0]"].state == "up_for_retry"
    with OAutom(log=deploys.path, clock=deploys.clock, executor="inline") as app:
        flow = declared(app, retry=MANY)
        assert app.run(flow, vect_id="old").steps["work[0]"].attempt == 4
        assert "attempt 4 of 4" in app.vect("old").explain("work[1]")
        assert_replays(app.log, flow)
    deploys.check()


ORDER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "trigger_rule": ({}, {"trigger_rule": TriggerRule.ALL_DONE}),
    "allow_failure": ({}, {"allow_failure": True}),
    "pool": ({"pool": Pool("a", 1)}, {"pool": Pool("b", 2)}),
    "priority": ({}, {"priority": 5}),
}


@pytest.mark.parametrize("option", ORDER)
def test_what_says_what_starts_when_stays_as_the_vect_began(deploys: Deploys, option: str) -> None:
    was, now = ({"step": made(PythonExecution, broken, **given)} for given in ORDER[option])
    deploys.leave_open(was)
    with deploys.program(now) as (app, _):
        (old,) = app.recover()
        assert ends(old) == "failed"
        told = old.events()[0].data.get("options", {}).get("work", {})
        assert old._run.state.steps["work"].options == told
        assert [each.data for each in old.events() if each.name == "vect.recovered"] == [{}]
    deploys.check()


def test_the_items_that_run_at_once_stay_as_the_vect_began(deploys: Deploys) -> None:
    deploys.leave_open({"step": mapped("items", max_parallel=1)})
    with deploys.program({"step": mapped("items", max_parallel=2)}) as (app, _):
        (old,) = app.recover()
        assert ends(old) == "success"
    deploys.check()


@pytest.mark.parametrize("functions", [(later, quick), (quick, later)])
def test_a_function_may_become_async_or_be_so_no_more(deploys: Deploys, functions: Any) -> None:
    was, now = ({"step": made(PythonExecution, function)} for function in functions)
    deploys.leave_open(was)
    with deploys.program(now, executor="threads", clock=None, max_workers=1) as (app, flow):
        (old,) = app.recover()
        assert ends(old) == "success"
        new = app.start(flow, vect_id="new")
        assert ends(new) == "success"
    deploys.check()


def test_the_same_version_goes_on_and_is_told_of(deploys: Deploys) -> None:
    deploys.leave_open({"version": "1"})
    with deploys.program({"version": "1"}) as (app, flow):
        (old,) = app.recover()
        assert ends(old) == "success"
        assert old.status()["version"] == "1"
        assert next(app.log.read()).data["version"] == "1"
        assert flow.version == "1"
        check_history(app.log.read(), flow)
        assert simulate(flow, like=old).events()[0].data["version"] == "1"
    with deploys.program({"version": "2", "more": True}) as (app, flow):
        check_history(app.log.read(), flow)  # what began with another version is not held to it
    with deploys.program({"version": "2"}) as (app, flow):
        assert_replays(app.log, flow)  # a version decides nothing


def test_a_flow_without_a_version_says_nothing_of_it(deploys: Deploys) -> None:
    deploys.leave_open({})
    with deploys.program({}) as (app, _):
        assert "version" not in app.vect("old").events()[0].data
        assert "version" not in app.vect("old").status()


@pytest.mark.parametrize("version", ["", " ", 5, "a\nb", "\udc80", "x" * 16385, ["1"]])
def test_a_version_that_cannot_be_one_is_refused(version: Any) -> None:
    with pytest.raises(FlowError, match="flow 'f': version name must"):
        Flow("f", OAutom(), version=version)


# Parents and children


def family(app: OAutom, *, child: dict[str, Any], parent: dict[str, Any]) -> Flow:
    """Declare `outer`, of which a step runs `flow`, and another one goes on meanwhile."""
    flow = declare(app, **child)
    outer = Flow("outer", app, version=parent.get("version"))
    step = FlowExecution("run", outer, flow)
    ApprovalExecution("beside", outer, "go on?")
    step >> PythonExecution("after", outer, quick)
    return outer


@contextmanager
def a_family(
    deploys: Deploys, child: dict[str, Any], parent: dict[str, Any]
) -> Iterator[tuple[OAutom, Flow]]:
    with OAutom(log=deploys.path, clock=deploys.clock, executor="inline") as app:
        yield app, family(app, child=child, parent=parent)


CHILD = "old/run/1"
NEW = {"version": "2"}


def leave_family_open(deploys: Deploys) -> None:
    with a_family(deploys, {}, {}) as (app, outer):
        goes_on(app.start(outer, vect_id="old"))
        assert app.vect(CHILD).steps["gate"].state == "running"


def test_a_parent_that_fits_goes_on_beside_a_child_that_does_not(deploys: Deploys) -> None:
    leave_family_open(deploys)
    with a_family(deploys, NEW, {}) as (app, _):
        assert ids(app.recover()) == ["old"]
        old = app.vect("old")
        assert ids(app.vects(state="stranded")) == [CHILD]
        old.approve("beside", by="Ada")
        goes_on(old)
        assert {step.name: step.state for step in old.steps.values()} == {
            "run": "running",
            "beside": "success",
            "after": "pending",
        }
        assert f"waits for vect `{CHILD}` of flow `flow`, which is stranded" in old.explain("run")
    with a_family(deploys, {}, {}) as (app, _):
        app.recover()
        assert ends(app.vect(CHILD)) == "success"
        assert app.vect("old").wait(SECONDS) == "success"
    deploys.check()


def test_a_child_that_does_not_fit_is_given_up_and_begun_anew(deploys: Deploys) -> None:
    leave_family_open(deploys)
    with a_family(deploys, NEW, {}) as (app, _):
        app.recover()
        old = app.vect("old")
        old.approve("beside", by="Ada")
        app.vect(CHILD).cancel("it is of the version before")
        assert old.wait(SECONDS) == "failed"
        assert "it is of the version before" in (old.steps["run"].error or "")
        old.retry()
        goes_on(old)
        assert ends(app.vect("old/run/2")) == "success"
        assert old.wait(SECONDS) == "success"
    deploys.check()


@pytest.mark.parametrize("parent", [{}, NEW])
@pytest.mark.parametrize("is_recovered", [True, False])
def test_a_cancel_of_a_parent_cancels_a_child_that_does_not_fit(
    deploys: Deploys, parent: dict[str, Any], is_recovered: bool
) -> None:
    leave_family_open(deploys)
    with a_family(deploys, NEW, parent) as (app, _):
        if is_recovered:
            app.recover()
        app.vect("old").cancel("not needed")
        assert app.vect("old").wait(SECONDS) == "cancelled"
        app.recover()
        assert ends(app.start("flow", vect_id="another")) == "success"
        assert app.vect(CHILD).wait(SECONDS) == "cancelled"
        assert app.vects(state="stranded") == []
    deploys.check()


def test_a_child_that_fits_goes_on_for_a_parent_that_does_not(deploys: Deploys) -> None:
    leave_family_open(deploys)
    with a_family(deploys, {}, NEW) as (app, _):
        assert ids(app.recover()) == [CHILD]
        assert ends(app.vect(CHILD)) == "success"
        assert app.vect("old").state == "running"
        with pytest.raises(FlowChangedError):
            app.vect("old").wait()
    with a_family(deploys, {}, {}) as (app, _):
        assert ids(app.recover()) == ["old"]
        app.vect("old").approve("beside", by="Ada")
        assert app.vect("old").wait(SECONDS) == "success"
    deploys.check()


# The program dies


class Crash(BaseException):
    """The program dies. No `Exception`: nothing that handles errors may survive it."""


class MortalLog(SqliteEventLog):
    """A log whose program dies at a commit: before it, or when it is done and nobody knows yet."""

    def __init__(self, path: Path, countdown: list[int], *, before: bool) -> None:
        super().__init__(path, synchronous="NORMAL")
        self._countdown, self._before = countdown, before

    def commit(self) -> Sequence[Event]:
        self._countdown[0] -= self._tells
        if self._countdown[0] == 0 and self._before and self._tells:
            raise Crash
        tells, events = self._tells, super().commit()
        if self._countdown[0] == 0 and tells:
            raise Crash
        return events

    @property
    def _tells(self) -> bool:
        return self.last_seq > self.committed_seq


LIVES: list[dict[str, Any]] = [{}, NEW, {}, NEW]
"""How the programs declare the flow, one after the other; only one of them dies."""


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("gives_up", [True, False])
def test_whenever_a_program_dies_nothing_is_lost(
    tmp_path: Path, gives_up: bool, before: bool
) -> None:
    for number in range(1, 100):
        countdown, path = [number], tmp_path / f"{number}.db"
        for how in LIVES:
            with suppress(Crash), closing(MortalLog(path, countdown, before=before)) as log:
                live(log, how, gives_up=gives_up and how is NEW)
        with OAutom(log=path, clock=SimulatedClock(), executor="inline") as app:
            flow = declare(app)
            old = app.start(flow, vect_id="old")
            came_to = ends(old)
            check_history(app.log.read())
            states = {vect.state for vect in app.vects(flow) if vect.id != "old"}
        if countdown[0] > 0:  # none has died
            assert number > 10
            return
        assert came_to == ("cancelled" if gives_up else "success")
        assert states <= {"success", "running"}, number  # of version 2, which is gone


def live(log: EventLog, how: dict[str, Any], *, gives_up: bool) -> None:
    with OAutom(log=log, clock=SimulatedClock(), executor="inline") as app:
        flow = declare(app, **how)
        app.recover()
        if how is not NEW:
            with suppress(VectAlreadyRunningException):
                goes_on(app.start(flow, vect_id="old"))
            return
        with suppress(UnknownVectError):
            assert "version" in app.vect("old").status().get("stranded", "version")
            if gives_up:
                app.vect("old").cancel()
        assert ends(app.start(flow, vect_id="new")) == "success"
