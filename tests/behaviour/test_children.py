"""A step that runs another flow: the child, how it ends, its limits, and what becomes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    BashExecution,
    BranchExecution,
    Context,
    Event,
    Flow,
    FlowChangedError,
    FlowError,
    FlowExecution,
    MapExecution,
    MemoryEventLog,
    OAutom,
    OAutomMode,
    Param,
    Pool,
    PythonExecution,
    RetryPolicy,
    Skip,
    StepFailedError,
    TriggerRule,
    UnknownFlowError,
    Vect,
    WaitExecution,
)
from oautom.testing import SimulatedClock, assert_replays, check_history, explore, simulate
from oautom.testing.crashes import Crash, MortalLog
from oautom.vects.registry import Registry

from .conftest import SECONDS, Gate, check, nothing, told


def child_of(app: OAutom, vect: Vect, step: str) -> Vect:
    child = vect.steps[step].child
    assert child is not None
    return app.vect(child)


def fails() -> None:
    raise ValueError("no rows")


# What a child is, and what its step has from it


def test_a_step_runs_another_flow_and_has_its_outputs(any_app: OAutom) -> None:
    etl = Flow("etl", any_app, params={"day": date, "limit": Param(int, 3)})

    @etl.step
    def extract(day: date, limit: int) -> list[date]:
        return [day] * limit

    @etl.step
    def total(days: list[date]) -> int:
        return len(days)

    total(extract(etl.param("day"), etl.param("limit")))
    main = Flow("main", any_app, params={"day": date})
    run = FlowExecution("run etl", main, etl, {"day": main.param("day")})
    PythonExecution("show", main, "{} of {}".format, [run.output["total"], main.param("day")])

    vect = any_app.run(main, {"day": "2026-11-24"}, vect_id="monday")

    assert (vect.state, vect.result("show")) == ("success", "3 of 2026-11-24")
    assert vect.result(run) == {"extract": [date(2026, 11, 24)] * 3, "total": 3}
    child = any_app.vect("monday/run etl/1")
    assert (child.flow, child.state, child.id) == (etl, "success", vect.steps["run etl"].child)
    assert any_app.vects() == [vect, child]
    assert child.status()["params"] == {"day": "2026-11-24", "limit": 3}
    assert child.events()[0].data["parent"] == ["monday", "run etl", 1]
    assert vect.steps["show"].child is None
    check(any_app)


def test_a_flow_is_named_before_it_is_declared(any_app: OAutom) -> None:
    main = Flow("main", any_app)
    FlowExecution("run", main, "etl")
    with pytest.raises(FlowError, match=r"step 'run' of flow 'main' cannot run its flow: .*'etl'"):
        any_app.start(main)
    PythonExecution("work", Flow("etl", any_app), lambda: 42)

    assert any_app.run(main).result("run") == {"work": 42}


def test_outputs_are_of_the_steps_that_succeeded_maps_included(inline: OAutom) -> None:
    inner = Flow("inner", inline)
    rows = PythonExecution("rows", inner, lambda: [1, 2])
    MapExecution("double", inner, lambda n: 2 * n, rows)
    choose = BranchExecution("choose", inner, lambda: "yes")
    choose >> [PythonExecution("yes", inner, str), PythonExecution("no", inner, str)]
    PythonExecution("bad", inner, fails, allow_failure=True)
    main = Flow("main", inline)
    run = FlowExecution("run", main, inner)
    PythonExecution("sum", main, sum, [run.output["double"]])

    vect = inline.run(main)

    assert vect.result("sum") == 6
    wanted = {"rows": [1, 2], "double": [2, 4], "choose": ["yes"], "yes": ""}
    assert vect.result("run") == wanted
    check(inline)


def test_in_a_durable_log_outputs_come_back_as_their_types(tmp_path: Path) -> None:
    def declare(app: OAutom) -> Flow:
        inner = Flow("inner", app)

        @inner.step
        def when() -> date:
            return date(2026, 11, 24)

        when()
        main = Flow("main", app)
        run = FlowExecution("run", main, inner)
        PythonExecution("year", main, lambda day: day.year, [run.output["when"]])
        return main

    for _ in range(2):  # the second one reads what the first has written
        with OAutom(log=tmp_path / "runs.db") as app:
            vect = app.run(declare(app), vect_id="one")
            assert vect.result("run") == {"when": date(2026, 11, 24)}
            assert vect.result("year") == 2026
            check(app)


def test_flows_run_flows_that_run_flows(any_app: OAutom) -> None:
    flows = [Flow(f"flow {i}", any_app) for i in range(4)]
    PythonExecution("work", flows[0], lambda: "deep")
    for inner, outer in pairwise(flows):
        FlowExecution("run", outer, inner)

    vect = any_app.run(flows[-1], vect_id="v")

    assert vect.result("run") == {"run": {"run": {"work": "deep"}}}
    assert [each.id for each in any_app.vects()] == ["v" + "/run/1" * i for i in range(4)]
    check(any_app)


def test_a_flow_without_steps_is_run_as_well(inline: OAutom) -> None:
    main = Flow("main", inline)
    FlowExecution("run", main, Flow("empty", inline))

    assert inline.run(main).result("run") == {}
    check(inline)


def test_a_child_holds_no_worker(new_app: Any) -> None:
    app = new_app(max_workers=1)
    inner = Flow("inner", app, max_active_vects=3)
    BashExecution("work", inner, "echo done")
    main = Flow("main", app)
    for i in range(3):
        FlowExecution(f"run {i}", main, inner)

    vect = app.run(main)

    assert [vect.result(f"run {i}") for i in range(3)] == [{"work": "done"}] * 3
    check(app)


# How it ends


def test_a_child_that_fails_fails_its_step_with_its_own_error(any_app: OAutom) -> None:
    inner, main = Flow("inner", any_app), Flow("main", any_app)
    good, bad = PythonExecution("good", inner, nothing), PythonExecution("bad", inner, fails)
    good >> bad >> PythonExecution("after", inner, nothing)
    FlowExecution("run", main, inner) >> PythonExecution("then", main, nothing)

    vect = any_app.run(main, vect_id="v")

    assert vect.state == "failed"
    error = "vect 'v/run/1' of flow 'inner' failed: step 'bad': ValueError: no rows"
    assert vect.steps["run"].error == error
    assert vect.steps["then"].state == "upstream_failed"
    with pytest.raises(StepFailedError) as raised:
        vect.result("run")
    assert isinstance(raised.value.__cause__, ValueError)
    check(any_app)


def test_each_attempt_is_a_child_of_its_own(any_app: OAutom) -> None:
    inner, main = Flow("inner", any_app), Flow("main", any_app)

    @inner.step
    def work(context: Context) -> str:
        if not context.vect_id.endswith("/3"):
            raise ConnectionError("no route")
        return context.vect_id

    work()
    FlowExecution("run", main, inner, retry=RetryPolicy(max_attempts=3, delay=0, jitter=0))

    vect = any_app.run(main, vect_id="v")

    assert vect.result("run") == {"work": "v/run/3"}
    ends = [(each.id, each.state) for each in any_app.vects("inner")]
    assert ends == [("v/run/1", "failed"), ("v/run/2", "failed"), ("v/run/3", "success")]
    check(any_app)


def test_what_a_retry_covers_is_the_error_of_the_child(inline: OAutom) -> None:
    inner, main = Flow("inner", inline), Flow("main", inline)
    PythonExecution("work", inner, fails)
    policy = RetryPolicy(max_attempts=3, delay=0, retry_on=(ConnectionError,))
    FlowExecution("run", main, inner, retry=policy)

    assert inline.run(main).steps["run"].attempt == 1


def test_rules_and_skips_around_a_child_are_those_of_any_step(inline: OAutom) -> None:
    inner, main = Flow("inner", inline), Flow("main", inline)
    PythonExecution("work", inner, fails)

    @main.step
    def skips() -> None:
        raise Skip("not today")

    run = FlowExecution("run", main, inner, allow_failure=True)
    skips() >> FlowExecution("skipped", main, inner)
    run >> PythonExecution("repair", main, nothing, trigger_rule=TriggerRule.ONE_FAILED)

    vect = inline.run(main)

    states = {step.name: step.state for step in vect.steps.values()}
    assert states == {
        "run": "failed",
        "skips": "skipped",
        "skipped": "skipped",
        "repair": "success",
    }
    assert vect.state == "success"
    assert vect.steps["skipped"].child is None
    check(inline)


def test_a_retried_vect_has_its_child_go_on(any_app: OAutom) -> None:
    inner, main = Flow("inner", any_app), Flow("main", any_app)
    broken = [True]

    @inner.step
    def work() -> str:
        if broken:
            raise ValueError(broken.pop())
        return "good"

    work()
    FlowExecution("run", main, inner)
    vect = any_app.run(main, vect_id="v")
    assert vect.state == "failed"
    vect.retry()
    assert vect.wait(SECONDS) == "success"
    assert (vect.steps["run"].child, vect.steps["run"].attempt) == ("v/run/1", 2)
    check(any_app)


def test_a_child_that_is_retried_by_itself_changes_nothing_of_its_step(inline: OAutom) -> None:
    inner, main = Flow("inner", inline), Flow("main", inline)
    broken = [True]
    PythonExecution("work", inner, lambda: 1 // 0 if broken else 42)
    FlowExecution("run", main, inner)
    vect = inline.run(main)
    broken.clear()
    child = child_of(inline, vect, "run")
    child.retry()

    assert child.wait(SECONDS) == "success"
    assert (vect.state, vect.steps["run"].state) == ("failed", "failed")
    check(inline)


# Parameters


def test_parameters_are_converted_as_at_a_start(inline: OAutom) -> None:
    params = {"day": date, "names": list[str], "limit": Param(int, 7)}
    inner, main = Flow("inner", inline, params=params), Flow("main", inline, params={"who": str})

    @inner.step
    def show(day: date, names: list[str], limit: int) -> str:
        return f"{day:%A} {names} {limit}"

    show(inner.param("day"), inner.param("names"), inner.param("limit"))
    day = PythonExecution("day", main, lambda: "2026-11-24")
    given = {"day": day, "names": [main.param("who"), "Bob"]}
    FlowExecution("run", main, "inner", given)

    assert inline.run(main, {"who": "Ada"}).result("run") == {"show": "Tuesday ['Ada', 'Bob'] 7"}


def test_a_parameter_that_turns_out_wrong_fails_the_step(any_app: OAutom) -> None:
    inner, main = Flow("inner", any_app, params={"n": int}), Flow("main", any_app)
    PythonExecution("work", inner, nothing)
    text = PythonExecution("text", main, lambda: "many")
    FlowExecution("run", main, inner, {"n": text})
    FlowExecution("part", main, inner, {"n": text.output["n"]})

    vect = any_app.run(main)

    assert "parameter 'n' must be int, not 'many'" in str(vect.steps["run"].error)
    assert "text.output has no part ['n']" in str(vect.steps["part"].error)
    assert any_app.vects("inner") == []
    check(any_app)


# What is refused before anything runs


def circle(app: OAutom, main: Flow, inner: Flow) -> None:
    FlowExecution("back", inner, "main")
    FlowExecution("run", main, inner)


def foreign(app: OAutom, main: Flow, inner: Flow) -> None:
    FlowExecution("run", main, Flow("other", OAutom()))


def wrong_type(app: OAutom, main: Flow, inner: Flow) -> None:
    @main.step
    def rows() -> list[int]:
        return []

    FlowExecution("run", main, inner, {"n": rows()})


def no_such_output(app: OAutom, main: Flow, inner: Flow) -> None:
    run = FlowExecution("run", main, inner, {"n": 1})
    PythonExecution("then", main, print, [run.output["worked"]])


def broken_child(app: OAutom, main: Flow, inner: Flow) -> None:
    inner.step(nothing)
    FlowExecution("run", main, inner, {"n": 1})


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (
            circle,
            "step 'run' of flow 'main' makes flows run each other in a circle: main -> ",
        ),
        (foreign, "step 'run' of flow 'main' runs flow 'other', which belongs to another app"),
        (
            lambda app, main, inner: FlowExecution("run", main, inner),
            "step 'run' of flow 'main' cannot run flow 'inner': .*parameter 'n' is missing.*n: int",
        ),
        (
            lambda app, main, inner: FlowExecution("run", main, inner, {"n": 1, "m": 2}),
            "step 'run' of flow 'main' cannot run flow 'inner': .*'m'",
        ),
        (
            lambda app, main, inner: FlowExecution("run", main, inner, {"n": "x"}),
            "cannot run flow 'inner': .*parameter 'n' must be int, not 'x'",
        ),
        (wrong_type, "step 'run' of flow 'main' takes n: .*int.*, but is given rows.output"),
        (no_such_output, r"is given run.output\['worked'\], but run.output is Outputs"),
        (broken_child, "flow 'inner': step function 'nothing' is never called"),
    ],
)
def test_what_cannot_be_run_is_refused_before_the_run(
    inline: OAutom, declare: Callable[..., None], message: str
) -> None:
    main, inner = Flow("main", inline), Flow("inner", inline, params={"n": int})
    PythonExecution("work", inner, nothing)
    declare(inline, main, inner)

    with pytest.raises(FlowError, match=message):
        inline.run(main)
    assert inline.vects() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((7,), "step 'run' of flow 'main': runs must be a flow or its name, not 7"),
        ((None,), "step 'run' of flow 'main': runs must be a flow or its name, not None"),
        (("inner", [1]), "step 'run' of flow 'main': params must be a dictionary"),
    ],
)
def test_a_wrong_declaration_is_refused(inline: OAutom, arguments: Any, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        FlowExecution("run", Flow("main", inline), *arguments)


def test_an_app_gives_its_flows_by_their_names(inline: OAutom) -> None:
    flow = Flow("etl", inline)

    assert inline.flow("etl") is inline.flow(flow) is flow
    with pytest.raises(UnknownFlowError, match="did you mean 'etl'"):
        inline.flow("elt")


def test_a_child_that_is_retried_before_its_step_has_heard_of_its_end_goes_on() -> None:
    clock = SimulatedClock()
    app = OAutom(executor="inline", clock=clock)
    inner, outer = Flow("inner", app), Flow("outer", app)
    ApprovalExecution("ask", inner, "go on?")
    FlowExecution("run", outer, inner)
    vect = app.start(outer)
    clock.call_later(1, app.stop)
    app.run()
    child = child_of(app, vect, "run")

    child.cancel()
    child.retry()  # nobody has driven in between

    assert vect.wait(SECONDS) == "failed"
    clock.call_later(1, app.stop)
    app.run()
    assert child.state == "running"
    child.approve("ask", by="me")
    assert child.wait(SECONDS) == "success"
    check(app)


def test_a_vect_of_the_id_of_a_child_fails_the_step(inline: OAutom) -> None:
    inner, main = Flow("inner", inline), Flow("main", inline)
    PythonExecution("work", inner, nothing)
    FlowExecution("run", main, inner)
    inline.run(inner, vect_id="v/run/1")

    vect = inline.run(main, vect_id="v")

    assert "another vect has this id" in str(vect.steps["run"].error)


# Limits


def test_a_child_that_waits_for_its_turn_is_there_for_whoever_asks_for_its_id(
    inline: OAutom, connect: Any
) -> None:
    inner, main = Flow("inner", inline), Flow("main", inline)
    PythonExecution("work", inner, nothing)
    FlowExecution("one", main, inner)
    FlowExecution("two", main, inner)
    found = []

    def ask(sender: Flow, event: Event) -> None:
        if event.vect == "v/one/1":
            found.append(inline.start(inner, vect_id="v/two/1"))

    connect(ask, "vect.succeeded", sender=inner)
    assert inline.run(main, vect_id="v").state == "success"
    assert found == [inline.vect("v/two/1")]
    check(inline)


def test_the_id_of_a_child_that_is_taken_just_now_fails_the_step(
    inline: OAutom, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, main = Flow("inner", inline, max_active_vects=2), Flow("main", inline)
    PythonExecution("work", inner, nothing)
    FlowExecution("run", main, inner)
    find, taken = Registry.find, []

    def find_and_take(self: Registry, vect: str, **options: Any) -> Any:
        found = find(self, vect, **options)
        if vect == "v/run/1" and not taken:
            taken.append(vect)
            inline.start(inner, vect_id=vect)
        return found

    monkeypatch.setattr(Registry, "find", find_and_take)
    vect = inline.run(main, vect_id="v")

    assert vect.steps["run"].state == "failed"
    assert "there is a vect 'v/run/1' already" in str(vect.steps["run"].error)


def test_children_wait_for_room_in_their_flow_and_begin_in_order(mode_app: OAutom) -> None:
    gate = Gate()
    inner, main = Flow("inner", mode_app, max_active_vects=2), Flow("main", mode_app)
    PythonExecution("work", inner, gate)
    for name in "abcde":
        FlowExecution(name, main, inner)
    vect = mode_app.start(main, vect_id="v")
    with suppress(TimeoutError):
        vect.wait(0.05)
    assert gate.reached.wait(SECONDS)

    explained = vect.explain("c")
    gate.opened.set()

    assert (
        "waits for vect `v/c/1` of flow `inner`, which is number 1 in line: none goes before it, "
        "and at most 2 vects of flow `inner` are open" in explained
    )
    assert vect.wait(SECONDS) == "success"
    begun = [each.vect for each in mode_app.log.read() if each.name == "vect.started"]
    assert begun == ["v", *(f"v/{name}/1" for name in "abcde")]
    assert most_open(mode_app.log.read(), "inner") == 2
    check(mode_app)


def most_open(events: Iterator[Event], flow: str) -> int:
    """Return how many Vects of a flow were under way at once at the most."""
    is_open, most = 0, 0
    for event in events:
        if event.flow == flow and event.step is None:
            is_open += event.name == "vect.started"
            is_open -= event.dest in ("success", "failed", "cancelled")
            most = max(most, is_open)
    return most


def test_a_pool_limits_how_many_children_run_at_once(mode_app: OAutom) -> None:
    pool = Pool("two", 2)
    inner, main = Flow("inner", mode_app, max_active_vects=9), Flow("main", mode_app)
    PythonExecution("work", inner, nothing)
    for name in "abcde":
        FlowExecution(name, main, inner, pool=pool)

    assert mode_app.run(main).state == "success"
    assert most_open(mode_app.log.read(), "inner") <= 2
    check(mode_app)


# Cancels, timeouts, and what an app does at its end


class Listens:
    """A step that runs until it is cancelled."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.heard = threading.Event()

    def __call__(self, context: Context) -> None:
        cancelled = context.cancelled
        self.begun.set()
        if cancelled.wait(SECONDS):
            self.heard.set()


def with_listener(app: OAutom, work: Any = None, **options: Any) -> tuple[Flow, Listens]:
    listens = Listens()
    inner, main = Flow("inner", app), Flow("main", app)
    PythonExecution("work", inner, work or listens)
    FlowExecution("run", main, inner, **options)
    return main, listens


def test_to_cancel_a_vect_cancels_its_children(any_app: OAutom) -> None:
    main, listens = with_listener(any_app)
    vect = any_app.start(main, vect_id="v")
    threading.Thread(target=lambda: (listens.begun.wait(SECONDS), vect.cancel("enough"))).start()

    assert vect.wait(SECONDS) == "cancelled"

    child = any_app.vect("v/run/1")
    assert child.wait(SECONDS) == "cancelled"
    assert child.steps["work"].error == "step 'run' of vect 'v' needs it no more"
    assert listens.heard.wait(SECONDS)
    (late,) = [event for event in vect.events() if event.name == "step.late_result"]
    assert late.data["error"].startswith("vect 'v/run/1' of flow 'inner' was cancelled")
    check(any_app)


def test_a_vect_is_over_only_when_its_children_are(any_app: OAutom) -> None:
    main, listens = with_listener(any_app)
    vect = any_app.start(main, vect_id="v")
    threading.Thread(target=lambda: (listens.begun.wait(SECONDS), vect.cancel())).start()

    vect.wait(SECONDS)

    assert any_app.vect("v/run/1").ended


def test_a_child_that_is_cancelled_fails_its_step(any_app: OAutom) -> None:
    main, listens = with_listener(any_app)
    vect = any_app.start(main, vect_id="v")

    def cancel() -> None:
        listens.begun.wait(SECONDS)
        any_app.vect("v/run/1").cancel("not this one")

    threading.Thread(target=cancel).start()

    assert vect.wait(SECONDS) == "failed"
    error = "vect 'v/run/1' of flow 'inner' was cancelled: not this one"
    assert vect.steps["run"].error == error
    check(any_app)


def test_a_child_that_waits_for_room_is_given_up_when_its_step_is_cancelled(
    mode_app: OAutom,
) -> None:
    main, listens = with_listener(mode_app)
    held = mode_app.start("inner", vect_id="held")
    vect = mode_app.start(main, vect_id="v")
    with suppress(TimeoutError):
        held.wait(0.05)
    assert listens.begun.wait(SECONDS)
    vect.cancel()

    assert vect.wait(SECONDS) == "cancelled"

    held.cancel()
    assert held.wait(SECONDS) == "cancelled"
    assert [each.id for each in mode_app.vects()] == ["held", "v", "v/run/1"]
    assert mode_app.vect("v/run/1").state == "cancelled"
    check(mode_app)


@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_a_timeout_cancels_the_child_and_fails_the_step(new_app: Any, executor: str) -> None:
    app = new_app(executor=executor)
    inner, main = Flow("inner", app), Flow("main", app)
    WaitExecution("work", inner, seconds=3600)
    FlowExecution("run", main, inner, timeout=0.05)

    vect = app.run(main, vect_id="v")

    assert vect.steps["run"].error == "it took longer than its timeout of 0.05 seconds"
    assert app.vect("v/run/1").state == "cancelled"
    check(app)


def test_a_timeout_counts_while_the_child_waits_for_room(new_app: Any) -> None:
    app = new_app()
    inner, main = Flow("inner", app), Flow("main", app)
    WaitExecution("work", inner, seconds=3600)
    FlowExecution("run", main, inner, timeout=0.05)
    held = app.start(inner)

    vect = app.run(main, vect_id="v")

    assert vect.steps["run"].error == "it took longer than its timeout of 0.05 seconds"
    held.cancel()
    assert held.wait(SECONDS) == "cancelled"
    assert app.vects("inner") == [held, child := app.vect("v/run/1")]
    assert [each.name for each in child.events()] == [
        "vect.created",
        "step.cancelled",
        "vect.cancelled",
    ]
    check(app)


def test_a_pause_of_a_vect_leaves_its_child_alone(inline: OAutom) -> None:
    inner, main = Flow("inner", inline), Flow("main", inline)

    @inner.step
    def work(context: Context) -> None:
        inline.vect("v").pause()

    work() >> PythonExecution("more", inner, nothing)
    FlowExecution("run", main, inner) >> PythonExecution("then", main, nothing)
    vect = inline.start(main, vect_id="v")
    with suppress(TimeoutError):
        vect.wait(0.1)

    assert (vect.state, vect.steps["run"].state) == ("paused", "success")
    vect.resume()
    assert vect.wait(SECONDS) == "success"
    check(inline)


def test_an_app_that_is_closed_ends_vects_and_their_children(mode_app: OAutom) -> None:
    main, listens = with_listener(mode_app)
    vect = mode_app.start(main, vect_id="v")
    with suppress(TimeoutError):
        vect.wait(0.05)
    assert listens.begun.wait(SECONDS)
    mode_app.close()

    assert (vect.state, mode_app.vect("v/run/1").state) == ("cancelled", "cancelled")
    assert listens.heard.wait(SECONDS)
    check(mode_app)


# What a step of it says


def test_what_a_step_waits_for_is_explained(mode_app: OAutom) -> None:
    main, listens = with_listener(mode_app, retry=RetryPolicy(max_attempts=4))
    PythonExecution("then", main, nothing).depends(main.steps["run"])
    vect = mode_app.start(main, vect_id="v")
    with suppress(TimeoutError):
        vect.wait(0.05)
    assert listens.begun.wait(SECONDS)

    told = [vect.explain("run"), vect.explain("then")]
    vect.cancel()
    vect.wait(SECONDS)

    child = "waits for vect `v/run/1` of flow `inner`"
    assert "(attempt 1 of 4)" in told[0]
    assert f"and {child}, which is running" in told[0]
    assert told[1].startswith("`then` waits for `run`, which has been running since ")
    assert child in told[1]


# Simulated


def test_a_simulation_plays_the_step_and_runs_no_child(inline: OAutom) -> None:
    inner, main = Flow("inner", inline), Flow("main", inline)
    PythonExecution("work", inner, fails)
    run = FlowExecution("run", main, inner, retry=RetryPolicy(max_attempts=2, delay=60, jitter=0))
    run >> PythonExecution("then", main, nothing)

    vect = simulate(
        main,
        durations={"run": [3600, 60]},
        outcomes={"run": [ValueError("no"), {"work": 42}]},
        crash_at=[("after", 2), ("in", 3)],
    )

    assert vect.result("run") == {"work": 42}
    assert (vect.events()[-1].time - vect.events()[0].time).total_seconds() == 3720
    check_history(vect.events(), main)
    assert_replays(vect, main)
    assert {event.flow for event in vect.events()} == {"main"}
    again = simulate(main, like=vect)
    assert told(again.events()) == [e for e in told(vect.events()) if e != "vect.recovered"]
    found = explore(main, outcomes={"run": ValueError("no")})
    assert [end.state for end in found.ends] == ["failed"]


# The program dies


def declare_family(app: OAutom) -> Flow:
    """A flow that runs another one twice, which has room for one, and runs a third."""
    third, inner, main = (Flow(name, app, params={"n": int}) for name in ("third", "inner", "main"))
    PythonExecution("leaf", third, lambda n: n + 1, [third.param("n")])
    deep = FlowExecution("deep", inner, third, {"n": inner.param("n")})
    PythonExecution("work", inner, lambda n: 10 * n, [deep.output["leaf"]])
    one = FlowExecution("one", main, inner, {"n": main.param("n")})
    two = FlowExecution("two", main, inner, {"n": 7})
    PythonExecution("sum", main, lambda a, b: a + b, [one.output["work"], two.output["work"]])
    return main


@pytest.mark.parametrize("when", ["before", "in"])
def test_wherever_the_program_dies_each_child_is_run_once(when: Any) -> None:
    for number in range(1, 99):
        log = MortalLog([(when, number)])
        app = OAutom(log=log, executor="inline", clock=SimulatedClock())
        with suppress(Crash):
            app.run(declare_family(app), {"n": 1}, vect_id="v")
            break
        left = MemoryEventLog()
        for event in log.read():
            left.append(None, event)
        left.commit()
        with OAutom(log=left, executor="inline", clock=SimulatedClock()) as again:
            vect = again.run(declare_family(again), {"n": 1}, vect_id="v")
            assert (vect.state, vect.result("sum")) == ("success", 100)
            wanted = ["v", "v/one/1", "v/one/1/deep/1", "v/two/1", "v/two/1/deep/1"]
            assert sorted(each.id for each in again.vects()) == wanted
            assert {each.state for each in again.vects()} == {"success"}
            assert most_open(left.read(), "inner") == 1
            check(again)
    assert number > 10


def next_program(folder: Path, declare: Callable[[OAutom], Flow], seconds: float) -> OAutom:
    """Run Vect `v` of a flow for so long in a program that then ends; return the next one's app."""
    clock = SimulatedClock()
    with OAutom(log=folder / "runs.db", executor="inline", clock=clock) as app:
        vect = app.start(declare(app), vect_id="v")
        with suppress(TimeoutError):
            vect.wait(seconds)
    return OAutom(log=folder / "runs.db", executor="inline", clock=clock)


def test_a_child_keeps_the_slot_of_its_pool_over_a_restart(tmp_path: Path) -> None:
    def declare(app: OAutom) -> Flow:
        pool = Pool("one", 1)
        inner, main = Flow("inner", app), Flow("main", app)
        WaitExecution("work", inner, seconds=60)
        FlowExecution("run", main, inner, pool=pool)
        PythonExecution("beside", main, nothing, pool=pool)
        return main

    with next_program(tmp_path, declare, seconds=1) as app:
        vect = app.run(declare(app), vect_id="v")
        begun, ended = vect.steps["beside"].start_date, vect.steps["run"].end_date
        assert begun is not None
        assert ended is not None
        assert begun >= ended
        check(app)


def test_a_timeout_goes_on_where_it_was(tmp_path: Path) -> None:
    def declare(app: OAutom) -> Flow:
        inner, main = Flow("inner", app), Flow("main", app)
        WaitExecution("work", inner, seconds=10**6)
        FlowExecution("run", main, inner, timeout=3600)
        return main

    with next_program(tmp_path, declare, seconds=3000) as app:
        vect = app.run(declare(app), vect_id="v")
        passed = (vect.events()[-1].time - vect.events()[0].time).total_seconds()
        assert (vect.state, passed) == ("failed", 3600)
        assert app.vect("v/run/1").state == "cancelled"
        check(app)


def test_a_child_whose_flow_has_changed_keeps_its_step_waiting(tmp_path: Path) -> None:
    def declare(app: OAutom, *steps: str) -> Flow:
        inner, main = Flow("inner", app), Flow("main", app)
        for step in steps:
            WaitExecution(step, inner, seconds=10**6)
        FlowExecution("run", main, inner)
        return main

    with next_program(tmp_path, lambda app: declare(app, "a"), seconds=1) as app:
        declare(app, "a", "b")
        (vect,) = app.recover()
        assert app.vects(state="stranded") == [app.vect("v/run/1")]
        with suppress(TimeoutError):
            vect.wait(1)
        assert vect.steps["run"].state == "running"
        app.vect("v/run/1").cancel("it has changed")
        assert vect.wait(SECONDS) == "failed"
        assert vect.steps["run"].error.endswith("was cancelled: it has changed")


@pytest.mark.parametrize("names", [["new"], ["new", "old"]])
def test_a_vect_whose_step_runs_another_flow_now_does_not_take_the_old_child_for_its_own(
    tmp_path: Path, names: list[str]
) -> None:
    def declare(app: OAutom, runs: str, *names: str) -> Flow:
        for name in names:
            WaitExecution("work", Flow(name, app), seconds=10**6)
        main = Flow("main", app)
        FlowExecution("run", main, runs)
        return main

    with next_program(tmp_path, lambda app: declare(app, "old", "old"), seconds=1) as app:
        with pytest.raises(FlowChangedError, match="'run' ran flow 'old' and runs 'new'"):
            app.run(declare(app, "new", *names), vect_id="v")
        check_history(app.log.read())


def test_no_child_begins_of_an_attempt_that_is_over_in_the_tick_that_began_it() -> None:
    app = OAutom()
    inner = Flow("inner", app)
    PythonExecution("work", inner, nothing)
    outer = Flow("outer", app)
    FlowExecution("runs", outer, inner)
    vect = app.start(outer)

    app.close()  # it begins, and is cancelled

    assert [vect.id for vect in app.vects()] == [vect.id]
    assert vect.state == vect.steps["runs"].state == "cancelled"
    check(app)


def test_a_durable_app_that_is_closed_leaves_children_for_the_next_life(
    tmp_path: Path,
) -> None:
    for mode in OAutomMode:
        log = tmp_path / f"{mode}.db"
        with OAutom(mode, log=log) as app:
            main, listens = with_listener(app)
            vect = app.start(main, vect_id="v")
            with suppress(TimeoutError):
                vect.wait(0.05)
            assert listens.begun.wait(SECONDS)
        assert vect.state == "running"
        with OAutom(mode, log=log) as app:
            main, _ = with_listener(app, nothing)
            assert app.run(main, vect_id="v").state == "success"
            check(app)
