"""`WaitExecution(until=...)` and `cwd=` of a command: given by a parameter, or by a step before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest

from oautom import (
    ApprovalExecution,
    BashExecution,
    CrossFlowDependencyError,
    Flow,
    FlowError,
    OAutom,
    PythonExecution,
    Skip,
    TriggerRule,
    Vect,
    WaitExecution,
)
from oautom.testing import SimulatedClock, assert_replays, check_history, explore, simulate

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=3)
PARIS = ZoneInfo("Europe/Paris")


class Pair(NamedTuple):
    first: str
    when: datetime


@dataclass
class Order:
    ships: datetime


class Renamed(msgspec.Struct, rename="camel"):
    ships_at: datetime


class Listed(msgspec.Struct, array_like=True, tag=True):
    first: str
    when: datetime


class Day(datetime):
    """What a library may make of a datetime."""

    @property
    def year(self) -> int:  # type: ignore[override]
        raise RuntimeError("asked")


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("asked")


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOON)


@pytest.fixture(params=["memory", "file"])
def app(request: pytest.FixtureRequest, new_app: Any, clock: SimulatedClock, tmp_path: Path) -> Any:
    log = tmp_path / "runs.db" if request.param == "file" else None
    return new_app(executor="inline", clock=clock, log=log)


def given_by(flow: Flow, value: Any, annotation: Any = None) -> PythonExecution:
    def give() -> Any:
        return value

    if annotation is not None:
        give.__annotations__["return"] = annotation
    return PythonExecution("given", flow, give)


def until_of(vect: Vect, name: str = "wait") -> Any:
    (event,) = (e for e in vect.events() if (e.step, e.name) == (name, "step.started"))
    return dict(event.data)


def check(app: OAutom, flow: Flow) -> None:
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


GIVEN: dict[str, tuple[Any, Any, Callable[[PythonExecution], Any]]] = {
    "a datetime": (LATER, datetime, lambda step: step.output),
    "a step": (LATER, datetime, lambda step: step),
    "another time zone": (LATER.astimezone(PARIS), datetime, lambda step: step),
    "an offset": (LATER.astimezone(timezone(timedelta(hours=-7))), datetime, lambda step: step),
    "text": (LATER.isoformat(), None, lambda step: step),
    "text with Z": ("2026-11-24T15:00Z", None, lambda step: step),
    "text of a week": ("2026-W48-2T16:00+01:00", None, lambda step: step),
    "a part": ({"at": [LATER.isoformat()]}, None, lambda step: step.output["at"][0]),
    "a field": (Order(LATER), Order, lambda step: step.output["ships"]),
    "a named field": (Pair("", LATER), Pair, lambda step: step.output["when"]),
    "a renamed field": (Renamed(LATER), Renamed, lambda step: step.output["ships_at"]),
    "a listed field": (Listed("", LATER), Listed, lambda step: step.output["when"]),
    "an item": ((1, LATER), tuple[int, datetime], lambda step: step.output[1]),
    "a number as a key": ({7: LATER}, dict[int, datetime], lambda step: step.output[7]),
}


@pytest.mark.parametrize("case", GIVEN.values(), ids=GIVEN)
def test_a_wait_waits_until_the_instant_that_a_step_has_given(
    app: OAutom, case: tuple[Any, Any, Callable[[PythonExecution], Any]]
) -> None:
    value, annotation, reference = case
    flow = Flow("flow", app)
    WaitExecution("wait", flow, until=reference(given_by(flow, value, annotation)))
    assert flow.graph.upstreams["wait"] == ("given",)
    vect = app.run(flow)

    assert vect.state == "success", vect.steps["wait"].error
    assert vect.steps["wait"].end_date == LATER
    assert until_of(vect) == {"until": LATER.isoformat()}
    check(app, flow)


def test_a_wait_waits_until_the_instant_of_a_parameter(app: OAutom) -> None:
    flow = Flow("flow", app, params={"at": datetime, "text": str, "plan": dict})
    WaitExecution("at", flow, until=flow.param("at"))
    WaitExecution("text", flow, until=flow.param("text"))
    WaitExecution("plan", flow, until=flow.param("plan")["at"])
    WaitExecution("past", flow, until="2020-01-01T00:00Z")
    told = LATER.astimezone(PARIS)
    vect = app.run(
        flow,
        {"at": told, "text": told.isoformat(), "plan": {"at": "2026-11-24T15:00:00.000001Z"}},
    )

    ends = {name: step.end_date for name, step in vect.steps.items()}
    micro = timedelta(microseconds=1)
    assert ends == {"at": LATER, "text": LATER, "plan": LATER + micro, "past": NOON}
    check(app, flow)


def test_a_person_may_say_until_when(app: OAutom, clock: SimulatedClock) -> None:
    flow = Flow("flow", app)
    gate = ApprovalExecution("gate", flow, "when?")
    WaitExecution("wait", flow, until=gate.output["data"])
    vect = app.start(flow)
    clock.call_later(60, lambda: vect.approve("gate", by="ada", data="2026-11-24T15:00Z"))

    assert vect.wait() == "success"
    assert vect.steps["wait"].end_date == LATER


NAIVE = "which is naive: it has no time zone"
BAD: dict[str, tuple[Any, str]] = {
    "nothing": (None, "given.output is a NoneType: None"),
    "a number": (5, "given.output is a int: 5"),
    "a truth value": (True, "given.output is a bool: True"),
    "no time": ("tomorrow", "given.output is a str: 'tomorrow'; as text write it so: 2026-"),
    "a day": ("2026-11-24", f"given.output is a str: '2026-11-24', {NAIVE}"),
    "naive text": ("2026-11-24T15:00", f"given.output is a str: '2026-11-24T15:00', {NAIVE}"),
    "a list": ([LATER.isoformat()], "given.output is a list"),
    "too late": ("9999-12-31T23:59-12:00", "given.output is a str: '9999-12-31T23:59-12:00', date"),
}


@pytest.mark.parametrize(("value", "told"), BAD.values(), ids=BAD)
def test_what_is_no_instant_fails_the_wait_and_nothing_else(
    app: OAutom, value: Any, told: str
) -> None:
    flow = Flow("flow", app)
    bad = WaitExecution("wait", flow, until=given_by(flow, value))
    bad >> PythonExecution("after", flow, str)
    PythonExecution("other", flow, str)
    vect = app.run(flow)

    states = {name: step.state for name, step in vect.steps.items()}
    assert states == {
        "given": "success",
        "wait": "failed",
        "after": "upstream_failed",
        "other": "success",
    }
    error = vect.steps["wait"].error or ""
    assert error.startswith(f"until must be a datetime with a time zone, but {told}")
    assert until_of(vect) == {"problem": error}
    assert vect.events()[-1].data == {"steps": ["wait", "after"]}
    check(app, flow)


def test_a_naive_datetime_fails_the_wait(app: OAutom) -> None:
    flow = Flow("flow", app)
    WaitExecution("wait", flow, until=given_by(flow, NOON.replace(tzinfo=None), datetime))

    assert NAIVE in str(app.run(flow).steps["wait"].error)


def test_a_part_that_is_not_there_fails_the_wait(app: OAutom) -> None:
    flow = Flow("flow", app)
    given = given_by(flow, {"at": ""})
    WaitExecution("wait", flow, until=given.output["when"])
    WaitExecution("deep", flow, until=given.output["at"]["b"][0])
    vect = app.run(flow)

    assert vect.steps["wait"].error == "given.output has no part ['when'], it is a dict"
    assert vect.steps["deep"].error == "given.output['at'] has no part ['b'], it is a str: ''"
    check(app, flow)


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        (Skip("none today"), "step 'given' was skipped: none today; so it has no output, and"),
        (ValueError("no"), "step 'given' is 'failed'; so it has no output, and there is no time"),
    ],
)
def test_where_no_output_is_there_is_no_time(app: OAutom, ends: Exception, told: str) -> None:
    def give() -> datetime:
        raise ends

    flow = Flow("flow", app)
    given = PythonExecution("given", flow, give)
    WaitExecution("wait", flow, until=given, trigger_rule=TriggerRule.ALL_DONE)
    WaitExecution("usual", flow, until=given)
    vect = app.run(flow)

    assert (vect.steps["wait"].error or "").startswith(told)
    assert vect.steps["usual"].state in ("skipped", "upstream_failed")
    check(app, flow)


def test_a_failure_of_a_wait_may_be_allowed_and_is_retried_with_the_vect(app: OAutom) -> None:
    calls: list[str] = []
    flow = Flow("flow", app)
    soon = given_by(flow, "soon")
    WaitExecution("allowed", flow, until=soon, allow_failure=True)
    vect = app.run(flow)
    assert (vect.state, vect.steps["allowed"].state) == ("success", "failed")

    other = Flow("other", app)

    def give() -> str:
        calls.append("")
        if len(calls) == 1:
            raise ValueError
        return LATER.isoformat() if len(calls) == 3 else "soon"

    given = PythonExecution("given", other, give)
    WaitExecution("wait", other, until=given, trigger_rule=TriggerRule.ALL_DONE)
    vect = app.run(other)
    ends = []
    for _ in range(2):
        ends.append((vect.steps["wait"].attempt, vect.steps["wait"].error))
        vect.retry()
        vect.wait()
    assert [attempt for attempt, _ in ends] == [1, 2]
    assert "so it has no output" in str(ends[0][1])
    assert "a str: 'soon'" in str(ends[1][1])
    assert (vect.state, vect.steps["wait"].attempt) == ("failed", 3)  # what succeeded is not asked
    check_history(app.log.read())


def test_what_surely_is_no_instant_is_refused_before_the_start(app: OAutom) -> None:
    flow = Flow("flow", app, params={"day": int})
    with pytest.raises(FlowError, match="until must be a datetime with a time zone, not 5"):
        WaitExecution("wait", flow, until=5)  # type: ignore[arg-type]
    with pytest.raises(FlowError, match=f"not '2026-11-24T15:00', {NAIVE[:14]}"):
        WaitExecution("wait", flow, until="2026-11-24T15:00")
    other = PythonExecution("other", Flow("other", app), str)
    with pytest.raises(CrossFlowDependencyError):
        WaitExecution("wait", flow, until=other)
    with pytest.raises(FlowError, match="give either seconds or until"):
        WaitExecution("wait", flow, until=flow.param("day"), seconds=3)
    WaitExecution("wait", flow, until=flow.param("day"))
    with pytest.raises(FlowError, match=r"step 'wait' of flow 'flow' takes until: .* is int"):
        flow.validate()


# Whose code is called


class Spy:
    """Whatever asks it something is written down, and fails."""

    def __init__(self, asked: list[str]) -> None:
        object.__setattr__(self, "asked", asked)

    def __getattribute__(self, name: str) -> Any:
        if name not in ("asked", "__class__"):
            object.__getattribute__(self, "asked").append(name)
        return object.__getattribute__(self, name)

    def __getitem__(self, key: Any) -> Any:
        self.asked.append("[]")
        raise RuntimeError

    def __repr__(self) -> str:
        self.asked.append("repr")
        raise RuntimeError


class SpyZone(tzinfo):
    def __init__(self, asked: list[str]) -> None:
        self.asked = asked

    def utcoffset(self, time: datetime | None) -> timedelta:
        self.asked.append("utcoffset")
        return timedelta(0)

    def __repr__(self) -> str:
        self.asked.append("repr of zone")
        return ""


class SpyDict(dict[str, Any]):
    asked: list[str]

    def __getitem__(self, key: str) -> Any:
        self.asked.append("[] of dict")
        raise RuntimeError

    def __missing__(self, key: str) -> Any:
        self.asked.append("missing")
        raise RuntimeError


def test_no_code_of_the_users_is_asked_for_an_instant(inline: OAutom) -> None:
    """In memory an output may be anything; the thread that decides must not wait for it."""
    asked: list[str] = []
    found = SpyDict(at=LATER.isoformat())
    found.asked = asked
    values: dict[str, Any] = {
        "spy": Spy(asked),
        "part": Spy(asked),
        "list": [Spy(asked)],
        "zone": LATER.replace(tzinfo=SpyZone(asked)),
        "day": Day(2020, 1, 1, tzinfo=UTC),
        "text": Text("2020-01-01T00:00Z"),
        "there": found,
        "not there": found,
    }
    parts = {"part": "at", "there": "at", "not there": "when"}
    flow = Flow("flow", inline)
    for name, value in values.items():
        step = PythonExecution(f"given {name}", flow, lambda value=value: value)
        until = step.output[parts[name]] if name in parts else step.output
        WaitExecution(name, flow, until=until)
    vect = simulate(flow, outcomes={f"given {n}": [v] for n, v in values.items()}, start=NOON)

    assert asked == []
    good = {name for name in values if vect.steps[name].state == "success"}
    assert good == {"day", "text", "there"}
    assert vect.steps["zone"].error == (
        "until must be a datetime with a time zone, but given zone.output is a datetime, and its "
        "time zone is a SpyZone, which only a step may ask; have the step return it in UTC, "
        ".astimezone(UTC), or as text, .isoformat()"
    )


# Restarts


@pytest.mark.parametrize("value", [LATER.isoformat(), "noon"])
def test_a_program_that_dies_at_any_commit_waits_until_the_same_instant(value: str) -> None:
    flow = Flow("flow", OAutom(), params={"at": str})
    given = PythonExecution("given", flow, str)
    WaitExecution("wait", flow, until=given) >> PythonExecution("then", flow, str)
    WaitExecution("param", flow, until=flow.param("at"))
    ends = {}
    for when in ("before", "in", "after"):
        for number in range(1, 7):
            vect = simulate(
                flow,
                {"at": value},
                outcomes={"given": value},
                durations={"given": 60},
                start=NOON,
                crash_at=(when, number),
            )
            names = ("wait", "param")
            ends[when, number] = [(vect.steps[n].state, vect.steps[n].end_date) for n in names]
            assert until_of(vect) == until_of(vect, "param") or value == "noon"
            check_history(vect.events(), flow)
            assert_replays(vect, flow)
    if value == "noon":
        assert {state for both in ends.values() for state, _ in both} == {"failed"}
    else:
        assert set(map(tuple, ends.values())) == {(("success", LATER),) * 2}


def test_a_wait_goes_on_in_the_next_program(tmp_path: Path, clock: SimulatedClock) -> None:
    def declared(app: OAutom) -> Flow:
        flow = Flow("flow", app)
        WaitExecution("wait", flow, until=given_by(flow, LATER.isoformat()))
        return flow

    with OAutom(log=tmp_path / "runs.db", executor="inline", clock=clock) as app:
        vect = app.start(declared(app))
        clock.call_later(600, app.stop)
        app.run()
        assert vect.steps["wait"].state == "running"
        assert vect.explain("wait").startswith("`wait` waits until 15:00:00")
    clock.advance(600)
    with OAutom(log=tmp_path / "runs.db", executor="inline", clock=clock) as app:
        flow = declared(app)
        (vect,) = app.recover()
        assert vect.wait() == "success"
        assert vect.steps["wait"].end_date == LATER
        assert vect.steps["wait"].attempt == 1
        check(app, flow)


KILLED = """
import os, sys
from datetime import UTC, datetime, timedelta
from oautom import *
from oautom.events import signals

app = OAutom(log=sys.argv[1])
flow = Flow("flow", app)
give = lambda: (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
WaitExecution("wait", flow, until=PythonExecution("given", flow, give))

@signals.step_started.connect
def die(flow, event, **_):
    if event.step == "wait":
        os.kill(os.getpid(), 9)

app.run(flow)
"""


def test_a_wait_goes_on_after_its_program_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    died = subprocess.run([sys.executable, "-c", KILLED, path], timeout=60)
    assert died.returncode == -signal.SIGKILL

    with OAutom(log=path) as app:
        flow = Flow("flow", app)
        WaitExecution("wait", flow, until=PythonExecution("given", flow, str))
        (vect,) = app.recover()
        assert vect.wait(30) == "success"
        until = datetime.fromisoformat(until_of(vect)["until"])
        assert until.isoformat() == vect.result("given")
        ended = vect.steps["wait"].end_date
        assert ended is not None
        assert ended >= until
        check(app, flow)


def test_every_order_leads_to_one_end() -> None:
    flow = Flow("flow", OAutom())
    givers = [PythonExecution(name, flow, str) for name in ("one", "two")]
    for giver in givers:
        WaitExecution(f"until {giver.name}", flow, until=giver)
    found = explore(flow, outcomes={"one": "2000-01-02T00:00Z", "two": "no"})

    assert (found.is_complete, len(found.ends)) == (True, 1)


# Where a command works


def test_a_command_works_where_a_step_or_a_parameter_says(any_app: OAutom, tmp_path: Path) -> None:
    flow = Flow("flow", any_app, params={"folder": Path, "places": dict})
    made = BashExecution("made", flow, f"mkdir {tmp_path}/made; echo {tmp_path}/made")
    listed = PythonExecution("listed", flow, lambda: {"here": [str(tmp_path)]})
    BashExecution("of a step", flow, "pwd", cwd=made)
    BashExecution("of a part", flow, "pwd", cwd=listed.output["here"][0])
    BashExecution("of a parameter", flow, "pwd", cwd=flow.param("folder"))
    BashExecution("of both", flow, 'echo "$PWD $X"', {"X": made}, flow.param("places")["home"])
    assert flow.graph.upstreams["of a step"] == ("made",)
    assert flow.graph.upstreams["of both"] == ("made",)
    vect = any_app.run(flow, {"folder": tmp_path, "places": {"home": str(tmp_path)}})

    assert vect.state == "success", [step.error for step in vect.steps.values()]
    assert vect.result("of a step") == f"{tmp_path}/made"
    assert vect.result("of a part") == vect.result("of a parameter") == str(tmp_path)
    assert vect.result("of both") == f"{tmp_path} {tmp_path}/made"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "cwd must be text or a Path, not None"),
        (5, "cwd must be text or a Path, not 5"),
        (["/tmp"], r"cwd must be text or a Path, not ['/tmp']"),
        ("", "cwd must not be blank or contain a NUL character, not ''"),
        ("/tmp\0", r"cwd must not be blank or contain a NUL character, not '/tmp\x00'"),
        ("/tmp\ud800", r"cwd must be text, not '/tmp\ud800'"),
    ],
)
def test_what_is_no_folder_fails_the_step_before_its_command(
    inline: OAutom, tmp_path: Path, value: Any, told: str
) -> None:
    flow = Flow("flow", inline)
    BashExecution("step", flow, f"touch {tmp_path}/begun", cwd=given_by(flow, value))
    vect = inline.run(flow)

    assert vect.steps["step"].error == f"step 'step' cannot run: {told}"
    assert not os.listdir(tmp_path)


def test_a_folder_that_is_not_there_fails_the_step(inline: OAutom, tmp_path: Path) -> None:
    flow = Flow("flow", inline)
    nowhere = given_by(flow, str(tmp_path / "no"))
    BashExecution("step", flow, "true", cwd=nowhere)
    BashExecution("part", flow, "true", cwd=nowhere.output["x"])
    BashExecution("long", flow, "true", cwd=f"/{'x' * 5000}")
    vect = inline.run(flow)

    assert vect.steps["step"].error == f"cwd '{tmp_path}/no' is no folder; make it, or name another"
    assert (vect.steps["part"].error or "").startswith(
        "step 'part' takes given.output['x'], but given.output has no part ['x']"
    )
    assert "cannot be entered: [Errno 36] File name too long" in str(vect.steps["long"].error)


def test_what_surely_is_no_folder_is_refused_before_the_start(inline: OAutom) -> None:
    flow = Flow("flow", inline, params={"number": int})
    with pytest.raises(FlowError, match="step 'a' of flow 'flow': cwd must be a path, not 5"):
        BashExecution("a", flow, "true", cwd=5)  # type: ignore[arg-type]
    other = PythonExecution("other", Flow("other", inline), str)
    with pytest.raises(CrossFlowDependencyError):
        BashExecution("a", flow, "true", cwd=other)
    BashExecution("a", flow, "true", cwd=flow.param("number"))
    with pytest.raises(FlowError, match=r"step 'a' of flow 'flow' takes cwd: .* is int"):
        flow.validate()
