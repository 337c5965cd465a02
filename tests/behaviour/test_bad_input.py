"""Every wrong call gives the error that names it, says where and what to do, and harms nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

import oautom
from oautom import (
    BashExecution,
    CycleError,
    DuplicateFlowError,
    DuplicateStepError,
    EngineError,
    Execution,
    Flow,
    FlowError,
    FlowFrozenError,
    NotFinishedError,
    OAutom,
    OAutomError,
    OAutomMode,
    Pool,
    PythonExecution,
    SettingError,
    StepFailedError,
    UnknownFlowError,
    UnknownStepError,
    UnknownVectError,
    VectAlreadyRunningException,
)

from .conftest import NewApp, flow_step, nothing, runs_well


class World:
    """An app with a flow 'etl' of 'extract' >> 'load' that has run once, and two that have not."""

    def __init__(self, app: OAutom) -> None:
        self.app = app
        self.etl = Flow("etl", app)
        self.extract = flow_step(self.etl, "extract")
        self.extract >> flow_step(self.etl, "load", lambda: 1 / 0)
        self.vect = app.run("etl", vect_id="monday")
        self.new = Flow("new", app)
        flow_step(self.new, "first")
        self.other = Flow("other", OAutom())


@pytest.fixture
def world(inline: OAutom) -> World:
    return World(inline)


def cycle(world: World) -> None:
    first = world.new.steps["first"]
    first >> first
    world.app.start("new")


def second_start(world: World) -> None:
    world.app.start("new")
    try:
        world.app.start("new")
    finally:
        world.app.vects("new")[0].cancel()


def unended(world: World) -> None:
    vect = world.app.start("new")
    try:
        vect.result("first")
    finally:
        vect.cancel()


class NoRun(Execution):
    pass


# What is typed, the error, and words that its message must hold: what is wrong, where, the remedy.
FLOWS: dict[str, tuple[Callable[[World], Any], type[OAutomError], list[str]]] = {
    "a flow without a name": (lambda w: Flow("", w.app), FlowError, ["flow name", "blank"]),
    "a flow named by a number": (lambda w: Flow(5, w.app), FlowError, ["flow name", "text", "5"]),
    "a flow with a NUL": (lambda w: Flow("a\0", w.app), FlowError, ["flow name", "NUL"]),
    "a flow without an app": (lambda w: Flow("x", None), FlowError, ["'x'", "OAutom", "None"]),
    "a flow in a flow": (lambda w: Flow("x", w.new), FlowError, ["'x'", "OAutom", "Flow"]),
    "a flow twice": (lambda w: Flow("etl", w.app), DuplicateFlowError, ["'etl'", "another name"]),
    "no vect at once": (
        lambda w: Flow("x", w.app, max_active_vects=0),
        FlowError,
        ["'x'", "max_active_vects", "positive int", "0"],
    ),
    "a description that is none": (
        lambda w: Flow("x", w.app, description=5),
        FlowError,
        ["'x'", "description", "5"],
    ),
    "a step without a name": (
        lambda w: flow_step(w.new, ""),
        FlowError,
        ["'new'", "step name", "blank"],
    ),
    "a step named by a number": (
        lambda w: flow_step(w.new, 5),
        FlowError,
        ["'new'", "step name", "text", "5"],
    ),
    "a step without a flow": (
        lambda w: PythonExecution("x", None, nothing),
        FlowError,
        ["'x'", "must be a Flow", "None"],
    ),
    "a step in the name of a flow": (
        lambda w: PythonExecution("x", "etl", nothing),
        FlowError,
        ["'x'", "must be a Flow", "'etl'"],
    ),
    "a step in an app": (
        lambda w: PythonExecution("x", w.app, nothing),
        FlowError,
        ["'x'", "must be a Flow", "OAutom"],
    ),
    "a bash step in an app": (
        lambda w: BashExecution("x", w.app, "true"),
        FlowError,
        ["'x'", "must be a Flow", "OAutom"],
    ),
    "a step twice": (
        lambda w: flow_step(w.new, "first"),
        DuplicateStepError,
        ["'new'", "'first'", "another name"],
    ),
    "a step too late": (
        lambda w: flow_step(w.etl, "late"),
        FlowFrozenError,
        ["'etl'", "'late'", "before the first start"],
    ),
    "a step without a run": (
        lambda w: NoRun("x", w.new),
        FlowError,
        ["'new'", "'x'", "NoRun", "run(self, context)", "define"],
    ),
    "the base class as a step": (
        lambda w: Execution("x", w.new),
        FlowError,
        ["'new'", "'x'", "run(self, context)"],
    ),
    "a function that is none": (
        lambda w: PythonExecution("x", w.new, "print"),
        FlowError,
        ["'new'", "'x'", "callable", "'print'"],
    ),
    "the result of a function for the function": (
        lambda w: PythonExecution("x", w.new, nothing()),
        FlowError,
        ["'new'", "'x'", "callable", "None"],
    ),
    "too many arguments": (
        lambda w: PythonExecution("x", w.new, nothing, (1,)),
        FlowError,
        ["'new'", "'x'", "nothing()", "too many positional arguments"],
    ),
    "one argument, no tuple": (
        lambda w: PythonExecution("x", w.new, print, 5),
        FlowError,
        ["'new'", "'x'", "args", "tuple or list", "5"],
    ),
    "kwargs that are none": (
        lambda w: PythonExecution("x", w.new, print, kwargs=5),
        FlowError,
        ["'new'", "'x'", "kwargs", "mapping", "5"],
    ),
    "an empty command": (
        lambda w: BashExecution("x", w.new, ""),
        FlowError,
        ["'new'", "'x'", "command", "''"],
    ),
    "a command as a list": (
        lambda w: BashExecution("x", w.new, ["ls", "-l"]),
        FlowError,
        ["'new'", "'x'", "command", "text", "['ls', '-l']"],
    ),
    "a number in the environment": (
        lambda w: BashExecution("x", w.new, "true", env={"N": 5}),
        FlowError,
        ["'new'", "'x'", "env['N']", "5", "str()"],
    ),
    "a log without a limit": (
        lambda w: PythonExecution("x", w.new, nothing, log_limit_bytes=0),
        FlowError,
        ["'new'", "'x'", "log_limit_bytes", "positive int", "0"],
    ),
}

CALLS: dict[str, tuple[Callable[[World], Any], type[OAutomError], list[str]]] = {
    "start of the unknown": (
        lambda w: w.app.start("elt"),
        UnknownFlowError,
        ["'elt'", "did you mean 'etl'?"],
    ),
    "run of the unknown": (
        lambda w: w.app.run("x"),
        UnknownFlowError,
        ["'x'", "known: 'etl', 'new'"],
    ),
    "run of nothing by name": (lambda w: w.app.run(""), UnknownFlowError, ["''", "known"]),
    "start of a number": (lambda w: w.app.start(5), FlowError, ["Flow or the name", "5"]),
    "start of None": (lambda w: w.app.start(None), FlowError, ["Flow or the name", "None"]),
    "start of a step": (
        lambda w: w.app.start(w.extract),
        FlowError,
        ["Flow or the name", "'extract'"],
    ),
    "start of another app's flow": (
        lambda w: w.app.start(w.other),
        FlowError,
        ["'other'", "another app", "start it there"],
    ),
    "start of a cycle": (cycle, CycleError, ["'new'", "first -> first", "remove"]),
    "start over the limit": (
        second_start,
        VectAlreadyRunningException,
        ["'new'", "max_active_vects is 1", "wait", "cancel", "raise"],
    ),
    "an id that is none": (lambda w: w.app.start("new", vect_id=5), FlowError, ["vect", "5"]),
    "an id that is blank": (lambda w: w.app.start("new", vect_id=""), FlowError, ["vect", "''"]),
    "an id that another flow has": (
        lambda w: w.app.start("new", vect_id="monday"),
        FlowError,
        ["'monday'", "'etl'", "'new'", "another vect_id"],
    ),
    "an id and no flow": (lambda w: w.app.run(vect_id="x"), SettingError, ["vect_id", "flow"]),
    "status of the unknown": (lambda w: w.app.status("x"), UnknownFlowError, ["'x'", "known"]),
    "status of what never ran": (
        lambda w: w.app.status("new"),
        UnknownVectError,
        ["'new'", "start('new')"],
    ),
    "an unknown vect": (lambda w: w.app.vect("x"), UnknownVectError, ["'x'", "vects()"]),
    "a vect by no id": (lambda w: w.app.vect(["x"]), UnknownVectError, ["['x']", "vects()"]),
    "a vect by None": (lambda w: w.app.vect(None), UnknownVectError, ["None", "vects()"]),
    "vects of the unknown": (lambda w: w.app.vects("x"), UnknownFlowError, ["'x'", "known"]),
    "vects in a state that is none": (
        lambda w: w.app.vects(state="succes"),
        SettingError,
        ["state", "'success'", "'succes'"],
    ),
    "the result of an unknown step": (
        lambda w: w.vect.result("extrac"),
        UnknownStepError,
        ["'etl'", "'extrac'", "did you mean 'extract'?"],
    ),
    "the result of a number": (lambda w: w.vect.result(5), UnknownStepError, ["'etl'", "5"]),
    "the result of a list": (
        lambda w: w.vect.result(["load"]),
        UnknownStepError,
        ["'etl'", "['load']"],
    ),
    "the result of a failed step": (
        lambda w: w.vect.result("load"),
        StepFailedError,
        ["'etl'", "'load'", "'failed'", "ZeroDivisionError: division by zero"],
    ),
    "the result before the end": (
        unended,
        NotFinishedError,
        ["'new'", "'first'", "'pending'", "wait()"],
    ),
    "an unknown step": (
        lambda w: w.vect.steps["x"],
        UnknownStepError,
        ["'etl'", "'x'", "known: 'extract', 'load'"],
    ),
    "a timeout that is none": (
        lambda w: w.vect.wait("5"),
        SettingError,
        ["timeout", "seconds or None", "'5'"],
    ),
    "a timeout that is no number": (
        lambda w: w.vect.wait(float("nan")),
        SettingError,
        ["timeout", "seconds or None", "nan"],
    ),
    "a reason that is none": (
        lambda w: w.vect.cancel(5),
        SettingError,
        ["reason", "text", "5"],
    ),
}

APPS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "an unknown mode": (
        lambda: OAutom("sideways"),
        ["mode", "OAutomMode.foreground", "OAutomMode.background", "'sideways'"],
    ),
    "no mode": (lambda: OAutom(None), ["mode", "OAutomMode.foreground", "None"]),
    "a log that is none": (lambda: OAutom(log=5), ["log", "EventLog", "5"]),
    "a list for a log": (lambda: OAutom(log=[]), ["log", "EventLog", "[]"]),
    "the class of a log": (
        lambda: OAutom(log=oautom.MemoryEventLog),
        ["log", "EventLog", "MemoryEventLog"],
    ),
    "a clock that is none": (lambda: OAutom(clock=5), ["clock", "Clock", "5"]),
    "the module time for a clock": (lambda: OAutom(clock=time), ["clock", "Clock", "time"]),
    "the class of a clock": (
        lambda: OAutom(clock=oautom.SystemClock),
        ["clock", "Clock", "SystemClock"],
    ),
    "an unknown executor": (
        lambda: OAutom(executor="thread"),
        ["executor", "'threads'", "'inline'", "'processes'", "'thread'"],
    ),
    "the class of an executor": (
        lambda: OAutom(executor=ThreadPoolExecutor),
        ["executor", "'threads'", "ThreadPoolExecutor"],
    ),
    "no worker": (lambda: OAutom(max_workers=0), ["max_workers", "positive int", "0"]),
    "half a worker": (lambda: OAutom(max_workers=0.5), ["max_workers", "positive int", "0.5"]),
    "two workers inline": (
        lambda: OAutom(executor="inline", max_workers=2),
        ["'inline'", "one step at a time", "2"],
    ),
}


@pytest.mark.parametrize(("call", "error", "words"), FLOWS.values(), ids=FLOWS)
def test_a_wrong_declaration_is_told_and_changes_nothing(
    world: World, call: Callable[[World], Any], error: type[OAutomError], words: list[str]
) -> None:
    flows, fingerprint = world.app.flows(), world.new.fingerprint
    with pytest.raises(error) as caught:
        call(world)

    assert type(caught.value) is error
    assert [word for word in words if word not in str(caught.value)] == []
    assert world.app.flows() == flows
    assert world.new.fingerprint == fingerprint
    assert world.app.run("new").state == "success"
    assert runs_well(world.app)


@pytest.mark.parametrize(("call", "error", "words"), CALLS.values(), ids=CALLS)
def test_a_wrong_call_is_told_and_the_app_goes_on(
    world: World, call: Callable[[World], Any], error: type[OAutomError], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        call(world)

    assert type(caught.value) is error
    assert [word for word in words if word not in str(caught.value)] == []
    assert world.vect.status()["state"] == "failed"
    assert runs_well(world.app)


@pytest.mark.parametrize(("call", "words"), APPS.values(), ids=APPS)
def test_a_wrong_setting_of_the_app_is_told_at_once(
    call: Callable[[], Any], words: list[str]
) -> None:
    with pytest.raises(SettingError) as caught:
        call().close()

    assert [word for word in words if word not in str(caught.value)] == []


def test_a_wrong_call_of_a_closed_app_says_that_it_is_closed(new_app: NewApp) -> None:
    app = new_app()
    flow_step(Flow("f", app), "a")
    app.close()

    for call in (lambda: app.start("f"), lambda: app.run("f"), lambda: Flow("g", app)):
        with pytest.raises(EngineError, match="the app is closed; make a new OAutom"):
            call()


def test_in_the_background_a_wrong_call_stops_nothing(new_app: NewApp) -> None:
    app = new_app(OAutomMode.background)
    for wrong in (lambda: app.start("x"), lambda: Flow("", app), lambda: app.vect("x")):
        with pytest.raises(OAutomError):
            wrong()

    assert runs_well(app)


# Names, and what else is given by text

CONTROLS = [chr(code) for code in (*range(1, 32), *range(127, 160))]
NAMED: dict[str, Callable[[World, str], object]] = {
    "a flow": lambda world, name: Flow(name, world.app),
    "a step": lambda world, name: PythonExecution(name, world.new, nothing),
    "a step function": lambda world, name: world.new.step(nothing, name=name)(),
    "a vect": lambda world, name: world.app.start("new", vect_id=name),
    "a vect that is run": lambda world, name: world.app.run("new", vect_id=name),
    "a plan": lambda world, name: world.app.plan("new", days=1, name=name),
    "a pool": lambda world, name: Pool(name, slots=1),
    "a subscription": lambda world, name: world.app.subscribe(lambda *_, **__: None, name=name),
}


@pytest.mark.parametrize("what", NAMED)
def test_no_name_holds_control_characters_or_a_million_others(world: World, what: str) -> None:
    before = world.app.flows(), list(world.new.steps), len(world.app.vects())
    for name in [*(f"a{each}b" for each in CONTROLS), "x" * 10**6, "\n"]:
        with pytest.raises((FlowError, SettingError)) as refused:
            NAMED[what](world, name)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 500
    assert (world.app.flows(), list(world.new.steps), len(world.app.vects())) == before
    NAMED[what](world, "one that is fine")
    assert runs_well(world.app)


OTHERS: list[Callable[[World], object]] = [
    *(lambda _, value=value: value for value in (None, 5, "step", object(), [], Flow, nothing)),
    lambda world: world.app,
    lambda world: world.vect,
    lambda world: world.etl,
    lambda world: world.extract,
    lambda world: world.other,
    lambda world: PythonExecution.__new__(PythonExecution),
    lambda world: Flow.__new__(Flow),
]


@pytest.mark.parametrize("other", range(len(OTHERS)))
def test_what_is_no_step_and_no_flow_is_not_taken_in(world: World, other: int) -> None:
    given: Any = OTHERS[other](world)
    before = world.app.flows(), list(world.new.steps)
    with pytest.raises(FlowError, match=r"takes (steps|its own steps only), not"):
        world.new.add(given)
    with pytest.raises(FlowError, match=r"has no such step"):
        world.new.add_edges(given, [])
    with pytest.raises(FlowError, match=r"takes its own flows only|already has a flow 'etl'"):
        world.app.add(given)
    assert (world.app.flows(), list(world.new.steps)) == before


@pytest.mark.parametrize(
    "name", ["", "a b", "PATH;x", "A-B", "A.B", "1A", "A=B", "ä", "A\n", 5, None]
)
def test_what_is_no_name_of_a_variable_is_refused(world: World, name: Any) -> None:
    with pytest.raises(FlowError, match=r"step 'b' of flow 'new'.*which cannot name a variable"):
        BashExecution("b", world.new, "true", env={name: "x"})
    assert "b" not in world.new.steps


@pytest.mark.parametrize("size", [2**17 - 2, 3 * 2**20])
def test_a_value_that_no_system_takes_is_refused_where_it_is_declared(
    world: World, size: int
) -> None:
    with pytest.raises(FlowError, match=rf"env\['A'\] has {size + 3} bytes, but the system allows"):
        BashExecution("b", world.new, "true", env={"A": "x" * size})
    BashExecution("c", world.new, "true", env={"A": "x" * (2**17 - 3)})
    assert world.app.run("new").steps["c"].state == "success"


@pytest.mark.parametrize("count", [32_769, 10**7, 10**30])
def test_more_workers_than_a_system_has_processes_are_refused(count: int) -> None:
    for executor in ("threads", "inline", "processes"):
        with pytest.raises(SettingError, match=r"max_workers (may be at most 32768|must be)"):
            OAutom(max_workers=count, executor=executor)  # type: ignore[arg-type]


@pytest.mark.parametrize("age", [timedelta.max, timedelta.min])
def test_an_age_that_leads_to_no_date_is_refused(world: World, age: timedelta) -> None:
    with pytest.raises(SettingError, match="older_than must lead to a date"):
        world.app.prune(older_than=age)


def test_the_id_of_a_vect_that_was_pruned_is_not_used_again(new_app: NewApp, tmp_path: Any) -> None:
    app = new_app(log=tmp_path / "log.db", executor="inline")
    flow = Flow("etl", app)
    flow_step(flow, "extract")
    app.run(flow, vect_id="monday")
    app.prune(older_than=timedelta(0))

    for call in (app.start, app.run):
        with pytest.raises(UnknownVectError, match=r"vect 'monday' of flow 'etl' .* was pruned"):
            call(flow, vect_id="monday")
    assert app.run(flow, vect_id="tuesday").state == "success"
