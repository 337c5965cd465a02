"""A retry of a Vect goes on in the child that failed, where that failed: no work is done again."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oautom import (
    ApprovalExecution,
    Context,
    Flow,
    FlowExecution,
    MapExecution,
    MemoryEventLog,
    OAutom,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
    TriggerRule,
    Vect,
    WaitExecution,
)
from oautom.events import signals
from oautom.testing import SimulatedClock, check_history, violations
from oautom.testing.crashes import Crash, MortalLog

from .conftest import SECONDS, check

CHILD = "v/run/1"


class Work:
    """What the steps do: it counts them, and steps fail as long as they are broken."""

    def __init__(self, *broken: str) -> None:
        self.calls: list[str] = []
        self.broken = set(broken)

    def __call__(self, context: Context) -> str:
        self.calls.append(context.step)
        if context.step in self.broken:
            raise ValueError(f"{context.step} is broken")
        return f"{context.step} {context.attempt}"

    def declare(self, app: OAutom, **options: Any) -> tuple[Flow, Flow]:
        """Declare a flow `main` whose step `run` runs `inner`, of steps one >> two >> three."""
        inner, main = Flow("inner", app), Flow("main", app)
        one, two, three = (PythonExecution(name, inner, self) for name in ("one", "two", "three"))
        one >> two >> three
        run = FlowExecution("run", main, inner, **options)
        PythonExecution("before", main, self) >> run >> PythonExecution("after", main, self)
        return main, inner


def told(app: OAutom, vect: str, *names: str) -> list[tuple[str, str | None, Any]]:
    """The events of these names of a Vect, each with its step and what it tells of children."""
    return [
        (e.name, e.step, e.data.get("child") or e.data.get("parent"))
        for e in app.log.read(vect=vect)
        if e.name in names
    ]


def test_a_failed_child_goes_on_where_it_failed(any_app: OAutom) -> None:
    work = Work("two")
    main, _ = work.declare(any_app)
    vect = any_app.run(main, vect_id="v")
    assert (vect.state, vect.steps["run"].child) == ("failed", CHILD)

    work.broken.clear()
    vect.retry()
    assert vect.wait(SECONDS) == "success"
    assert work.calls == ["before", "one", "two", "two", "three", "after"]
    assert (vect.steps["run"].attempt, vect.steps["run"].child) == (2, CHILD)
    assert vect.result("run") == {"one": "one 1", "two": "two 2", "three": "three 1"}
    assert [each.id for each in any_app.vects("inner")] == [CHILD]
    assert told(any_app, "v", "step.started")[1:3] == [
        ("step.started", "run", CHILD),
        ("step.started", "run", CHILD),
    ]
    assert told(any_app, CHILD, "vect.reopened") == [("vect.reopened", None, ["v", "run", 2])]
    check(any_app)


def test_a_second_retry_goes_on_once_more(inline: OAutom) -> None:
    work = Work("two")
    main, _ = work.declare(inline)
    vect = inline.run(main, vect_id="v")
    for _ in range(2):
        vect.retry()
        assert vect.wait(SECONDS) == "failed"
        assert f"vect '{CHILD}' of flow 'inner' failed: step 'two'" in vect.steps["run"].error
    work.broken = {"three"}
    vect.retry()
    assert vect.wait(SECONDS) == "failed"
    work.broken.clear()
    vect.retry()
    assert vect.wait(SECONDS) == "success"
    assert work.calls == ["before", "one", *["two"] * 4, "three", "three", "after"]
    assert len(inline.vects("inner")) == 1
    check(inline)


def test_a_child_of_a_child_goes_on_too(inline: OAutom) -> None:
    work = Work("two")
    main, _ = work.declare(inline)
    top = Flow("top", inline)
    FlowExecution("main", top, main)
    vect = inline.run(top, vect_id="v")
    assert vect.state == "failed"

    work.broken.clear()
    vect.retry()
    assert vect.wait(SECONDS) == "success"
    assert work.calls == ["before", "one", "two", "two", "three", "after"]
    assert [each.id for each in inline.vects("inner")] == ["v/main/1/run/1"]
    check(inline)


@pytest.mark.parametrize("who", ["child", "parent"])
def test_a_child_that_was_cancelled_goes_on_too(who: str) -> None:
    with OAutom(OAutomMode.background) as app:
        work, has_begun, is_slow = Work(), threading.Event(), [True]

        def two(context: Context) -> str:
            has_begun.set()
            if is_slow:
                context.cancelled.wait(SECONDS)
            return work(context)

        main, inner = Flow("main", app), Flow("inner", app)
        PythonExecution("one", inner, work) >> PythonExecution("two", inner, two)
        FlowExecution("run", main, inner)
        vect = app.start(main, vect_id="v")
        assert has_begun.wait(SECONDS)
        (app.vect(CHILD) if who == "child" else vect).cancel("enough")
        assert vect.wait(SECONDS) == ("failed" if who == "child" else "cancelled")
        is_slow.clear()
        vect.retry()

        assert vect.wait(SECONDS) == "success"
        assert [each for each in work.calls if each == "one"] == ["one"]
        assert [each.id for each in app.vects("inner")] == [CHILD]
        check(app)


def test_the_result_of_a_child_that_was_retried_by_itself_is_taken(inline: OAutom) -> None:
    work = Work("two")
    main, _ = work.declare(inline)
    vect = inline.run(main, vect_id="v")
    work.broken.clear()
    child = inline.vect(CHILD)
    child.retry()
    assert child.wait(SECONDS) == "success"
    seq = inline.log.last_seq

    vect.retry()
    assert vect.wait(SECONDS) == "success"
    assert work.calls == ["before", "one", "two", "two", "three", "after"]
    assert not [event for event in inline.log.read(after=seq) if event.vect == CHILD]
    check(inline)


def test_a_child_that_has_succeeded_in_an_earlier_life_is_not_said_to_wait(tmp_path: Path) -> None:
    path, work = tmp_path / "runs.db", Work("two")
    with OAutom(executor="inline", log=path) as app:
        app.run(work.declare(app)[0], vect_id="v")
        work.broken.clear()
        app.vect(CHILD).retry()
        assert app.vect(CHILD).wait() == "success"
    with OAutom(executor="inline", log=path) as app:
        work.declare(app)
        vect = app.vect("v")
        vect.retry()  # nobody drives: its step has started, and has not heard yet
        assert "in which it goes on, which has ended" in vect.explain("run")
        assert vect.wait() == "success"
        assert work.calls.count("two") == 2


def test_a_child_that_was_retried_by_itself_and_runs_is_waited_for() -> None:
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock) as app:
        main, inner = Flow("main", app), Flow("inner", app)
        ApprovalExecution("gate", inner, "go on?")
        FlowExecution("run", main, inner)
        vect = app.start(main, vect_id="v")
        drive(vect)
        child = app.vect(CHILD)
        child.reject("gate", by="ada")
        assert vect.wait(SECONDS) == "failed"
        child.retry()
        drive(child)
        vect.retry()
        drive(vect)
        assert (
            "waits for vect `v/run/1` of flow `inner`, in which it goes on, which is running"
            in (vect.explain("run"))
        )
        child.approve("gate", by="ada")

        assert vect.wait(SECONDS) == "success"
        assert len(app.vects("inner")) == 1
        assert len(told(app, CHILD, "vect.reopened")) == 1
        check(app)


def drive(vect: Vect) -> None:
    with suppress(TimeoutError):
        vect.wait(1)


@pytest.mark.parametrize("log", ["memory", "file"])
def test_with_other_parameters_a_new_child_begins(log: str, tmp_path: Path) -> None:
    """The upstreams were run again, and give something else; if they give the same, it goes on."""
    with OAutom(executor="inline", log=None if log == "memory" else tmp_path / "runs.db") as app:
        inner, main = Flow("inner", app, params={"rows": list[date]}), Flow("main", app)
        calls: list[int] = []
        days = [date(2026, 11, 24)]

        def work(rows: list[date]) -> int:
            calls.append(len(rows))
            if len(calls) < 4:
                raise ValueError("no")
            return len(rows)

        def all_days() -> list[date]:
            return [*days]

        def each(day: date) -> date:
            return day

        PythonExecution("work", inner, work, (inner.param("rows"),))
        bad = PythonExecution("bad", main, lambda: 1 // 0)
        rows = PythonExecution("rows", main, all_days, trigger_rule="all_done")
        rows.depends(bad)
        mapped = MapExecution("each", main, each, over=rows)
        FlowExecution("run", main, inner, {"rows": mapped.output})
        vect = app.run(main, vect_id="v")
        assert (calls, vect.steps["run"].child) == ([1], CHILD)
        vect.retry()  # all of them run again, and give the same
        assert vect.wait() == "failed"
        assert (calls, vect.steps["run"].child) == ([1, 1], CHILD)

        days.append(date(2026, 11, 25))
        vect.retry()
        assert vect.wait() == "failed"
        assert (calls, vect.steps["run"].child) == ([1, 1, 2], "v/run/3")
        vect.retry()
        vect.wait()
        assert (calls, vect.steps["run"].child) == ([1, 1, 2, 2], "v/run/3")
        assert vect.result("run") == {"work": 2}
        check(app)


def test_a_step_that_succeeded_and_runs_again_begins_a_new_child(inline: OAutom) -> None:
    """It waits for a step that is run again: so it is run again, and not only looked at."""
    work = Work("flaky")
    inner, main = Flow("inner", inline), Flow("main", inline)
    PythonExecution("one", inner, work)
    run = FlowExecution("run", main, inner, trigger_rule=TriggerRule.ALL_DONE)
    PythonExecution("flaky", main, work) >> run
    vect = inline.run(main, vect_id="v")
    work.broken.clear()
    vect.retry()

    assert vect.wait(SECONDS) == "success"
    assert work.calls == ["flaky", "one", "flaky", "one"]
    assert vect.steps["run"].child == "v/run/2"
    check(inline)


def test_an_attempt_by_a_policy_begins_a_new_child_and_a_retry_goes_on_in_the_newest(
    inline: OAutom,
) -> None:
    work = Work("two")
    main, _ = work.declare(inline, retry=RetryPolicy(max_attempts=2, delay=0))
    vect = inline.run(main, vect_id="v")
    assert [each.id for each in inline.vects("inner")] == [CHILD, "v/run/2"]
    assert vect.steps["run"].child == "v/run/2"

    vect.retry()  # it fails, and then the policy has another one begin
    assert vect.wait(SECONDS) == "failed"
    assert vect.steps["run"].child == "v/run/4"
    assert work.calls[1:] == ["one", "two", "one", "two", "two", "one", "two"]
    work.broken.clear()
    vect.retry()
    assert vect.wait(SECONDS) == "success"
    assert vect.steps["run"].child == "v/run/4"
    check(inline)


def test_a_child_that_was_pruned_is_begun_anew(tmp_path: Path) -> None:
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock, log=tmp_path / "runs.db") as app:
        work = Work("two")
        main, _ = work.declare(app)
        WaitExecution("later", main, seconds=10)
        vect = app.run(main, vect_id="v")
        assert vect.state == "failed"
        assert [gone.id for gone in app.prune(older_than=timedelta(seconds=5))] == [CHILD]
        work.broken.clear()
        vect.retry()

        assert vect.wait() == "success"
        assert vect.steps["run"].child == "v/run/2"
        assert work.calls.count("one") == 2
        check_history(app.log.read(), gaps=app.log.gaps())


def test_a_child_of_a_vect_that_was_retried_is_not_pruned(tmp_path: Path) -> None:
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock, log=tmp_path / "runs.db") as app:
        work = Work("two")
        main, _ = work.declare(app)
        WaitExecution("later", main, seconds=10)
        vect = app.run(main, vect_id="v")
        vect.retry()  # nobody has driven since: the child stands as before

        assert app.prune(older_than=timedelta(seconds=5)) == []
        work.broken.clear()
        assert vect.wait() == "success"
        assert work.calls.count("one") == 1
        check(app)


def test_a_flow_that_changed_begins_a_new_child(tmp_path: Path) -> None:
    path, work = tmp_path / "runs.db", Work("two")
    with OAutom(executor="inline", log=path) as app:
        main, _ = work.declare(app)
        app.run(main, vect_id="v")
    work.broken.clear()
    with OAutom(executor="inline", log=path) as app:
        main, inner = work.declare(app)
        PythonExecution("more", inner, work)
        vect = app.vect("v")
        vect.retry()

        assert vect.wait() == "success"
        assert vect.steps["run"].child == "v/run/2"
        assert "more" in vect.result("run")


def test_at_the_limit_of_its_flow_a_child_waits_to_go_on() -> None:
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock) as app:
        work = Work("two")
        main, inner = Flow("main", app), Flow("inner", app)
        gate = ApprovalExecution("gate", inner, "go on?")
        gate >> PythonExecution("two", inner, work)
        FlowExecution("run", main, inner)
        vect = app.start(main, vect_id="v")
        drive(vect)
        app.vect(CHILD).approve("gate", by="ada")
        assert vect.wait(SECONDS) == "failed"
        other = app.start(inner)
        drive(other)
        vect.retry()
        drive(vect)

        assert vect.steps["run"].state == "running"
        assert app.vect(CHILD).state == "failed"
        assert "none goes before it, and at most 1 vect of flow `inner` is open" in vect.explain(
            "run"
        )
        work.broken.clear()
        other.cancel()
        assert vect.wait(SECONDS) == "success"
        assert work.calls == ["two", "two"]
        check(app)


@pytest.mark.parametrize("is_waiting", [True, False])
def test_a_cancel_of_the_vect_ends_what_goes_on(is_waiting: bool) -> None:
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock) as app:
        main, inner = Flow("main", app), Flow("inner", app)
        ApprovalExecution("gate", inner, "go on?")
        FlowExecution("run", main, inner)
        vect = app.start(main, vect_id="v")
        drive(vect)
        child = app.vect(CHILD)
        child.reject("gate", by="ada")
        vect.wait(SECONDS)
        other = app.start(inner) if is_waiting else None
        vect.retry()
        drive(vect)
        assert child.state == ("failed" if is_waiting else "running")
        vect.cancel("enough")
        assert vect.wait(SECONDS) == "cancelled"
        assert child.state == ("failed" if is_waiting else "cancelled")
        if other is not None:
            other.cancel()
        vect.retry()
        drive(vect)
        child.approve("gate", by="ada")
        assert vect.wait(SECONDS) == "success"
        assert len(app.vects("inner")) == 1 + is_waiting
        check(app)


def test_a_cancel_in_the_very_tick_that_has_it_go_on() -> None:
    """The child is to be reopened, and its attempt is over before that."""
    clock = SimulatedClock()
    with OAutom(executor="inline", clock=clock) as app:
        work = Work("two")
        main, _ = work.declare(app)
        vect = app.run(main, vect_id="v")

        def cancel(flow: Any, event: Any, **_: Any) -> None:
            if (event.step, event.name, event.attempt) == ("run", "step.started", 2):
                vect.cancel("not after all")

        signals.step_started.connect(cancel)
        try:
            vect.retry()
            assert vect.wait(SECONDS) == "cancelled"
        finally:
            signals.step_started.disconnect(cancel)
        assert app.vect(CHILD).ended
        work.broken.clear()
        vect.retry()
        assert vect.wait(SECONDS) == "success"
        assert work.calls.count("one") == 1
        check(app)


# Crashes


def life(log: MemoryEventLog, work: Work) -> Vect:
    """Run the program: it has the Vect go on, and retries it twice, which helps the second time."""
    app = OAutom(executor="inline", clock=SimulatedClock(), log=log)
    main, _ = work.declare(app)
    vect = app.run(main, vect_id="v")
    while vect.state == "failed":
        if told(app, "v", "vect.reopened"):
            work.broken.clear()
        vect.retry()
        vect.wait()
    return vect


def test_how_many_commits_there_are() -> None:
    log = MortalLog()
    assert life(log, Work("two")).state == "success"
    assert log._commits < COMMITS


COMMITS = 26


@pytest.mark.parametrize("moment", ["before", "in", "after"])
@pytest.mark.parametrize("commit", range(1, COMMITS))
def test_a_crash_at_any_commit_runs_nothing_again_that_has_succeeded(
    moment: Any, commit: int
) -> None:
    work, log = Work("two"), MortalLog([(moment, commit)])
    vect = None
    with suppress(Crash):
        vect = life(log, work)
    left = MemoryEventLog()
    for event in log.read():
        left.append(None, event)
    left.commit()
    if vect is None:
        vect = life(left, work)

    assert vect.state == "success"
    assert [each.id for each in vect.flow.app.vects("inner")] == [CHILD]  # type: ignore[attr-defined]
    events = list(left.read())
    for step in ("one", "two", "three"):
        ends = [
            e.name for e in events if (e.vect, e.step, e.name) == (CHILD, step, "step.succeeded")
        ]
        assert len(ends) == 1
    reopened = [event.vect for event in events if event.name == "vect.reopened"]
    assert reopened.count(CHILD) == reopened.count("v") == 2  # each retry has it go on once
    check(vect.flow.app)  # type: ignore[arg-type]


# A child that was retried by hand, which the next attempt joins


def joined(log: MemoryEventLog) -> OAutom:
    """Run the program: a child fails, goes on by hand, is joined by a retry, and fails again."""
    app = OAutom(executor="inline", clock=SimulatedClock(), log=log)
    main, inner = Flow("main", app), Flow("inner", app)
    ApprovalExecution("gate", inner, "go on?")
    FlowExecution("run", main, inner)
    vect = app.start(main, vect_id="v")
    for _ in range(20):
        drive(vect)
        child = app.vect(CHILD)
        drive(child)
        events = [(event.vect, event.name) for event in app.log.read()]
        is_by_hand = (CHILD, "vect.reopened") in events
        if vect.state == "failed" and ("v", "vect.reopened") in events:
            return app
        if vect.state == "failed" and not is_by_hand:
            child.retry()
        elif vect.state == "failed" and child.state == "running":
            vect.retry()
        elif child.steps["gate"].state == "running":
            child.reject("gate", by="ada")
    raise AssertionError([*app.log.read()])


JOINED_COMMITS = 12


def test_how_many_commits_there_are_of_a_child_that_is_joined() -> None:
    log = MortalLog()
    joined(log)
    assert log._commits < JOINED_COMMITS


@pytest.mark.parametrize("moment", ["before", "in", "after"])
@pytest.mark.parametrize("commit", range(1, JOINED_COMMITS))
def test_a_child_that_failed_while_an_attempt_had_joined_it_does_not_go_on_for_it(
    moment: Any, commit: int
) -> None:
    """Whenever the program dies: the attempt that has joined the child has failed with it."""
    log = MortalLog([(moment, commit)])
    app = None
    with suppress(Crash):
        app = joined(log)
    left = MemoryEventLog()
    for event in log.read():
        left.append(None, event)
    left.commit()
    if app is None:
        app = joined(left)

    assert (app.vect("v").steps["run"].state, app.vect("v").steps["run"].attempt) == ("failed", 2)
    assert told(app, CHILD, "vect.reopened") == [("vect.reopened", None, None)]
    assert [each.id for each in app.vects()] == ["v", CHILD]
    check(app)


def test_a_child_that_goes_on_twice_for_an_attempt_is_found() -> None:
    app = joined(MemoryEventLog())
    events = list(app.log.read())
    ends = [e for e in events if (e.vect, e.name) == (CHILD, "vect.failed")]
    again = [e for e in events if e.vect == CHILD and e.name in ("step.reset", "vect.reopened")]
    forged = [e for e in events if e.seq <= ends[-1].seq]
    for event in again:
        data = {"parent": ["v", "run", 2]} if event.step is None else event.data
        time, seq = forged[-1].time, forged[-1].seq + 1
        forged.append(msgspec.structs.replace(event, seq=seq, time=time, data=data))

    assert [each.invariant for each in violations(forged)] == ["children-are-of-a-step"]
