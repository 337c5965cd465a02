"""`Client`: what another process sees of runs, and how it steers them; here by the file alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    PLANNED,
    ApprovalExecution,
    BashExecution,
    Client,
    EngineError,
    Flow,
    FlowError,
    FlowExecution,
    LogError,
    MapExecution,
    MemoryEventLog,
    NoEngineError,
    NotFinishedError,
    NotJsonError,
    OAutom,
    OAutomError,
    OAutomMode,
    ParamError,
    Pool,
    PythonExecution,
    RetryPolicy,
    SettingError,
    SqliteEventLog,
    StepFailedError,
    UnansweredError,
    UnknownFlowError,
    UnknownStepError,
    UnknownVectError,
    Vect,
    VectAlreadyRunningException,
    VectStateError,
    WaitExecution,
    WithdrawnError,
)
from oautom.client import Answer, Follow
from oautom.client import follow as following
from oautom.events.sqlite import wakeup
from oautom.testing import SimulatedClock, check_history
from tests.held import Call, in_time, until

SECONDS = 20.0


def fail() -> None:
    raise ValueError("broken")


def declare(app: OAutom) -> dict[str, Flow]:
    """Declare a flow of each kind that matters to who steers."""
    asks = Flow("asks", app, params={"day": date, "n": int}, max_active_vects=50)
    gate = ApprovalExecution("gate", asks, "ship it?", timeout=3600)
    ship = PythonExecution("ship", asks, lambda context: context.params["n"])
    late = ApprovalExecution("late", asks, "really?")
    gate >> ship >> late
    fails = Flow("fails", app, max_active_vects=50)
    PythonExecution("fail", fails, fail)
    one = Flow("one", app, description="at most one", version="7")
    ApprovalExecution("only", one, "?")
    line = Flow("line", app, when_full="wait")
    ApprovalExecution("only", line, "?")
    return {flow.name: flow for flow in (asks, fails, one, line)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def app(path: Path) -> Iterator[OAutom]:
    with OAutom(OAutomMode.background, log=path, max_workers=3) as app:
        declare(app)
        app.run()
        yield app


@pytest.fixture
def client(app: OAutom, path: Path) -> Client:
    return Client(path)


PARAMS = {"day": "2026-11-24", "n": "3"}


# Starts


def test_a_start_is_in_the_log_when_it_is_accepted(app: OAutom, client: Client) -> None:
    vect = client.start("asks", PARAMS, vect_id="monday")
    assert vect == "monday"
    assert next(app.log.read(vect="monday")).name == "vect.created"
    assert app.vect("monday").params == {"day": date(2026, 11, 24), "n": 3}
    assert client.vect("monday").params == {"day": "2026-11-24", "n": 3}
    check_history(app.log.read())


def test_parameters_may_be_values_that_json_has_as_text(app: OAutom, client: Client) -> None:
    vect = client.start("asks", {"day": date(2026, 11, 24), "n": 3})
    assert app.vect(vect).params["day"] == date(2026, 11, 24)
    with pytest.raises(NotJsonError):
        client.start("asks", {"day": object(), "n": 3})


@pytest.mark.parametrize(
    ("flow", "params", "error"),
    [
        ("asks", None, ParamError),
        ("asks", {"day": "today", "n": 1}, ParamError),
        ("asks", {**PARAMS, "m": 1}, ParamError),
        ("ask", PARAMS, UnknownFlowError),
        ("one", None, VectAlreadyRunningException),
    ],
)
def test_a_start_that_is_refused_is_refused_as_the_app_does(
    app: OAutom, client: Client, flow: str, params: Any, error: type[OAutomError]
) -> None:
    app.start("one", vect_id="first")
    with pytest.raises(error) as theirs:
        client.start(flow, params)
    with pytest.raises(error) as ours:
        app.start(flow, params)
    assert str(theirs.value) == str(ours.value)
    assert type(theirs.value) is type(ours.value)
    assert vars(theirs.value) == vars(ours.value)
    assert [vect.id for vect in app.vects()] == ["first"]


def test_a_flow_that_is_just_being_declared_is_not_started_half(
    app: OAutom, client: Client
) -> None:
    """A start freezes it: who declares it would be refused the rest of its steps."""
    late = Flow("late", app)
    first = ApprovalExecution("first", late, "?")
    with pytest.raises(UnknownFlowError, match="has no flow 'late'"):
        client.start("late")
    first >> ApprovalExecution("second", late, "?")
    app.recover()
    assert list(client.vect(client.start("late")).steps) == ["first", "second"]


def test_an_id_said_twice_is_one_vect(app: OAutom, client: Client) -> None:
    assert client.start("asks", PARAMS, vect_id="v") == client.start("asks", PARAMS, vect_id="v")
    with pytest.raises(ParamError, match="was started with another 'n'"):
        client.start("asks", {**PARAMS, "n": 4}, vect_id="v")
    assert [vect.id for vect in app.vects()] == ["v"]


def test_a_start_may_wait_for_its_turn(app: OAutom, client: Client) -> None:
    first, second = client.start("line"), client.start("line")
    third = client.start("one")
    fourth = client.start("one", when_full="wait")
    states = {vect: client.vect(vect).state for vect in (first, second, third, fourth)}
    assert list(states.values()) == ["running", "pending", "running", "pending"]
    assert "number 1 in line: none goes before it" in client.vect(second).explain("only")
    assert client.vect(second).status() == app.vect(second).status()
    client.approve(first, "only", by="Ada")
    until(lambda: client.vect(second).state == "running")


def test_many_starts_of_one_id_at_once_are_one_vect(app: OAutom, path: Path) -> None:
    calls = [Call(Client(path).start, "asks", PARAMS, vect_id="same") for _ in range(8)]
    assert {call.result(SECONDS) for call in calls} == {"same"}
    assert [each.name for each in app.log.read(vect="same")].count("vect.created") == 1


# What is asked of a Vect: the same as by its own methods


def stranded(vect: Vect) -> None:
    vect._of.held_up = EngineError("it is stranded by a test")


def ended(vect: Vect) -> None:
    vect.cancel("over")
    vect.wait(SECONDS)


def decided(vect: Vect) -> None:
    vect.approve("gate", by="Grace")
    until(lambda: vect.steps["late"].state == "running")


STATES: dict[str, Callable[[Vect], object]] = {
    "open": lambda vect: None,
    "paused": lambda vect: vect.pause(),
    "decided": decided,
    "ended": ended,
    "stranded": stranded,
}
ASKED: dict[str, Callable[[Any, tuple[str, ...]], object]] = {
    "cancel": lambda on, at: on.cancel(*at, reason="why"),
    "pause": lambda on, at: on.pause(*at),
    "resume": lambda on, at: on.resume(*at),
    "retry": lambda on, at: on.retry(*at),
    "approve": lambda on, at: on.approve(*at, "gate", by="Ada", data={"k": [1]}),
    "reject": lambda on, at: on.reject(*at, "gate", by="Ada", reason="no"),
    "approve, not asked yet": lambda on, at: on.approve(*at, "late", by="Ada"),
    "approve, no approval": lambda on, at: on.approve(*at, "ship", by="Ada"),
    "reject, no such step": lambda on, at: on.reject(*at, "gates", by="Ada"),
}


def outcome(ask: Callable[[], object], vect: Vect) -> tuple[object, ...]:
    """What comes of what is asked: the error, if it is one, and how the Vect stands then."""
    error: tuple[object, ...] = ()
    try:
        ask()
    except OAutomError as raised:
        error = type(raised), str(raised).replace(vect.id, "VECT"), raised.flow, raised.step
    with suppress(TimeoutError, EngineError):  # this one is stranded
        vect.wait(0.05)
    events = [(event.name, event.step, dict(event.data)) for event in vect.events()]
    return error, vect.state, events


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("state", STATES)
def test_what_comes_of_it_is_what_comes_of_the_method(
    app: OAutom, client: Client, state: str, asked: str
) -> None:
    ours, theirs = (app.start("asks", PARAMS, vect_id=name) for name in ("ours", "theirs"))
    for vect in (ours, theirs):
        STATES[state](vect)
    ask = ASKED[asked]
    expected = outcome(lambda: ask(ours, ()), ours)
    found = outcome(lambda: ask(client, (theirs.id,)), theirs)
    if asked == "reject, no such step":  # which the steps of the Vect tell, before all else
        assert expected[0][0] is UnknownStepError  # type: ignore[index]
        assert found[1:] == expected[1:]
        assert state == "stranded" or found[0] == expected[0]
    else:
        assert found == expected


def test_an_answer_names_the_event_that_came_of_it(app: OAutom, client: Client) -> None:
    vect = client.start("asks", PARAMS)

    def names(answer: Answer) -> str | None:
        assert (answer.refusal, answer.error) == (None, None)
        return next((e.name for e in app.log.read(vect=vect) if e.seq == answer.seq), None)

    assert names(client.pause(vect)) == "vect.paused"
    assert names(client.resume(vect)) == "vect.resumed"
    assert names(client.approve(vect, "gate", by="Ada")) == "step.succeeded"
    assert names(client.cancel(vect)) == "vect.cancelled"
    assert names(client.retry(vect)) == "vect.reopened"
    number = client.cancel(vect).number
    with pytest.raises(SettingError, match="there is no request"):  # it was read
        client.answer(number or 0)


def test_of_two_who_decide_at_once_one_is_told_who_was_quicker(app: OAutom, path: Path) -> None:
    vect = Client(path).start("asks", PARAMS)
    names = ("Ada", "Grace")
    calls = {name: Call(Client(path).approve, vect, "gate", by=name) for name in names}
    told: dict[str, str] = {}
    for name, call in calls.items():
        with suppress(VectStateError):
            call.result(SECONDS)
            continue
        with pytest.raises(VectStateError) as late:
            call.result(SECONDS)
        told[name] = str(late.value)
    (loser,) = told
    (winner,) = set(names) - {loser}
    assert told[loser].endswith(f"is 'success'; too late, {winner} has approved it")
    assert app.vect(vect).result("gate")["by"] == winner


def test_a_vect_of_a_flow_that_the_program_has_not_declared_is_refused_at_once(
    app: OAutom, path: Path
) -> None:
    client = Client(path)
    vect = client.start("one")
    app.close()
    with OAutom(OAutomMode.background, log=path) as other:
        PythonExecution("step", Flow("other", other), int)
        other.run()
        with pytest.raises(UnknownFlowError, match="has no flow 'one'"):
            client.cancel(vect)
        with pytest.raises(UnknownFlowError, match="has no flow 'one'"):
            client.start("one")
        assert "which is at work, has no flow 'one'" in client.vect(vect).explain("only")
        queued = client.cancel(vect, queue=True, timeout=0.05)
        assert (queued.seq, client.answer(queued.number or 0)) == (None, None)
        ApprovalExecution("only", Flow("one", other, version="7"), "?")
        other.recover()
        assert client.wait(vect, SECONDS) == "cancelled"
        until(lambda: client.answer(queued.number or 0) is not None)


# Who answers, and who does not


def test_where_no_engine_is_nothing_is_asked_unless_it_may_wait(app: OAutom, path: Path) -> None:
    client = Client(path)
    vect = client.start("one", vect_id="v")
    app.close()
    assert client.engine is None
    asks: list[Callable[..., object]] = [
        *(getattr(client, name) for name in ("cancel", "pause", "resume", "retry")),
        lambda vect, **how: client.approve(vect, "only", "Ada", **how),
        lambda vect, **how: client.reject(vect, "only", "Ada", **how),
        lambda _, **how: client.start("one", vect_id="new", **how),
    ]
    for ask in asks:
        with pytest.raises(NoEngineError, match=r"no engine is at work on log .*nothing was done"):
            ask(vect)
    with closing(SqliteEventLog(path, read_only=True)) as log:
        assert log.asked() == []
    left = client.cancel(vect, reason="later", queue=True)
    assert (left.seq, left.refusal) == (None, None)
    assert client.start("one", vect_id="new", queue=True) == "new"
    with OAutom(OAutomMode.background, log=path) as next_life:
        declare(next_life)
        next_life.run()
        assert client.wait(vect, SECONDS) == "cancelled"
        until(lambda: any(view.id == "new" for view in client.vects()))
        answer = client.answer(left.number or 0)
        assert answer is not None
        assert (answer.refusal, client.answer(left.number or 0)) == (None, answer)
        client.cancel("new")


def test_a_process_that_only_has_the_log_open_is_no_engine(app: OAutom, path: Path) -> None:
    client = Client(path)
    vect = client.start("one")
    app.close()
    with closing(SqliteEventLog(path)):
        assert client.engine is None
        with pytest.raises(NoEngineError, match="has no engine at work on it"):
            client.cancel(vect)


class Busy:
    """An inline step that has the thread of the engine until it is told to go on."""

    def __init__(self, path: Path) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.app = OAutom(OAutomMode.background, log=path, executor="inline")
        flow = Flow("busy", self.app)
        PythonExecution("step", flow, self._work)
        asks = Flow("asks", self.app, max_active_vects=9)
        ApprovalExecution("gate", asks, "?")
        self.vect = self.app.start(asks, vect_id="v")
        until(lambda: self.vect.state == "running")
        self.app.start(flow, vect_id="busy")
        assert self.begun.wait(SECONDS)

    def _work(self, context: Any) -> None:
        self.begun.set()
        while not self.go_on.wait(0.01) and not context.cancelled.is_set():
            pass

    def close(self) -> None:
        self.go_on.set()
        self.app.close()


def test_who_gives_up_before_anybody_has_begun_leaves_nothing(path: Path) -> None:
    with closing(Busy(path)) as busy:
        client = Client(path)
        with pytest.raises(WithdrawnError, match="has not come to the pause of vect 'v' within"):
            client.pause("v", timeout=0.1)
        with pytest.raises(WithdrawnError, match="nothing was done; it is busy with a step"):
            client.start("asks", timeout=0.1, vect_id="new")
        assert busy.app.log.asked() == []  # type: ignore[attr-defined]
        busy.go_on.set()
        busy.app.vect("busy").wait(SECONDS)
        client.approve("v", "gate", "Ada")
    assert [each.name for each in busy.app.log.read(vect="v")].count("vect.paused") == 0
    assert [vect.id for vect in busy.app.vects()] == ["v", "busy"]


def test_who_breaks_off_leaves_nothing_that_nobody_has_begun(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with closing(Busy(path)) as busy:
        monkeypatch.setattr("oautom.client.steering.sleep", interrupt)  # Ctrl-C
        with pytest.raises(KeyboardInterrupt):
            Client(path).pause("v")
        assert busy.app.log.asked() == []  # type: ignore[attr-defined]


def test_what_a_client_that_died_has_left_is_dropped_when_its_time_is_up(path: Path) -> None:
    with closing(Busy(path)) as busy:
        log: Any = SqliteEventLog(path, read_only=True)
        log.ask_until(0.05, "v", "pause", {})  # and then it is killed
        log.ask("v", "resume")
        time.sleep(0.1)
        busy.go_on.set()
        until(lambda: log.asked() == [])
        assert log.answer(1) is None
        assert log.answer(2) is not None
    assert "vect.paused" not in [each.name for each in busy.app.log.read(vect="v")]


def test_a_cancel_that_ends_a_step_on_the_engines_own_thread_was_claimed_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who has given up would be told that nothing was done, and the step has ended."""
    with closing(Busy(path)) as busy:
        client = Client(path)
        monkeypatch.setattr(busy.app.log, "claim", lambda number: False)
        with pytest.raises(WithdrawnError):
            client.cancel("busy", timeout=0.2)
        assert not busy.go_on.is_set()
        assert busy.app.vect("busy").state == "running"
        monkeypatch.undo()
        assert client.cancel("busy").refusal is None
        assert client.wait("busy", SECONDS) == "cancelled"


def test_what_was_begun_and_not_answered_can_be_asked_for_later(
    app: OAutom, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    vect = client.start("asks", PARAMS)
    log: Any = app.log
    commit, held = log.commit, threading.Event()

    def wait_and_commit() -> Any:
        if log._taken:
            assert held.wait(SECONDS)
        return commit()

    monkeypatch.setattr(log, "commit", wait_and_commit)
    with pytest.raises(UnansweredError, match=r"client\.answer\(\d+\) tells") as unanswered:
        client.pause(vect, timeout=0.3)
    number = unanswered.value.number
    assert client.answer(number) is None
    held.set()
    until(lambda: client.answer(number) is not None)
    answer = client.answer(number)
    assert answer is not None
    assert (answer.number, answer.refusal) == (number, None)
    until(lambda: client.vect(vect).state == "paused")


def test_what_an_engine_that_died_had_claimed_waits_until_its_flow_is_declared(
    app: OAutom, path: Path
) -> None:
    """Its client was told that it may still be done; the next program declares flow by flow."""
    client = Client(path)
    vect = client.start("one", vect_id="v")
    app.close()
    number = (
        left_behind(path, "v", "cancel", {}),
        left_behind(path, "new", "start", {"flow": "one"}),
    )
    with OAutom(OAutomMode.background, log=path) as other:
        PythonExecution("step", Flow("other", other), int)
        other.run("other")
        assert [client.answer(each) for each in number] == [None, None]
        ApprovalExecution("only", Flow("one", other, max_active_vects=2, version="7"), "?")
        other.recover()
        until(lambda: all(client.answer(each) for each in number))
        assert client.wait(vect, SECONDS) == "cancelled"
        until(lambda: client.vect("new").state == "running")


def left_behind(path: Path, vect: str, action: str, data: dict[str, Any]) -> int:
    """Have a request that an engine has claimed, and that somebody waits for."""
    log = SqliteEventLog(path)
    number = log.ask_until(60, vect, action, data)
    assert [each.id for each in log.requests()][-1:] == [number]
    log.close()  # and it dies
    return number


def test_an_engine_in_the_foreground_starts_what_others_ask_for_while_it_serves(
    path: Path,
) -> None:
    with OAutom(log=path) as app:
        declare(app)
        serving = Call(app.run)
        client = Client(path)

        def is_driven() -> bool:
            with suppress(LogError):  # it is being made
                return (engine := client.engine) is not None and engine.is_driven
            return False

        until(is_driven)
        vect = client.start("asks", PARAMS)
        client.approve(vect, "gate", by="Ada")
        client.cancel(vect)
        assert client.wait(vect, SECONDS) == "cancelled"
        app.stop()
        serving.result(SECONDS)


def test_an_engine_that_is_being_stopped_starts_nothing(path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(SECONDS)

    app = OAutom(OAutomMode.background, log=path)
    declare(app)
    PythonExecution("step", Flow("works", app), work)
    app.start("works", vect_id="v")
    assert begun.wait(SECONDS)
    closing_app = Call(app.close, drain=SECONDS)
    client = Client(path)
    until(lambda: app._scheduler.draining)
    try:
        with pytest.raises(EngineError, match=r"is being stopped .* and begins nothing more"):
            client.start("one")
        assert client.pause("v").refusal is None
    finally:
        go_on.set()
        closing_app.result(SECONDS)
    assert client.engine is None
    assert [view.id for view in client.vects()] == ["v"]


def test_in_the_foreground_an_answer_needs_somebody_who_drives(path: Path) -> None:
    app = OAutom(log=path)
    flow = Flow("asks", app)
    ApprovalExecution("gate", flow, "?")
    with app:
        vect = app.start(flow, vect_id="v")
        client = Client(path)
        assert client.engine is not None
        assert not client.engine.is_driven
        assert "nothing drives the engine" in client.vect("v").explain("gate")
        with pytest.raises(WithdrawnError, match="in foreground mode, and nobody drives it"):
            client.cancel("v", timeout=0.1)
        call = Call(vect.wait)
        until(lambda: (engine := client.engine) is not None and engine.is_driven)
        until(lambda: len(client.waiting()) == 1)
        client.approve("v", "gate", by="Ada")
        assert call.result() == "success"
        until(lambda: (engine := client.engine) is not None and not engine.is_driven)
    assert client.engine is None


def test_a_bug_at_a_start_is_answered_too(
    app: OAutom, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app._scheduler, "_create", lambda run: 1 / 0)
    with pytest.raises(OAutomError, match="this is a bug in oautom"):
        client.start("one", vect_id="v")
    monkeypatch.undo()
    assert client.start("one", vect_id="w") == "w"  # its place was given back
    assert [vect.id for vect in app.vects()] == ["w"]


# What is seen


def test_a_view_is_what_the_vect_of_the_program_is(app: OAutom, client: Client) -> None:
    vect = app.start("asks", PARAMS, vect_id="v")
    vect.approve("gate", by="Ada", data=["ok"])
    until(lambda: vect.steps["late"].state == "running")
    view = client.vect("v")
    assert view.status() == vect.status()
    assert view.events() == vect.events()
    assert (view.id, view.flow, view.state, view.ended) == ("v", "asks", "running", False)
    assert view.result("gate") == vect.result("gate")
    for name, step in vect.steps.items():
        shown = view.steps[name]
        for each in ("state", "attempt", "output", "error", "start_date", "end_date", "child"):
            assert getattr(shown, each) == getattr(step, each)
    assert view.steps["ship"].upstreams == ["gate"]
    with pytest.raises(UnknownStepError, match="did you mean 'gate'"):
        view.steps["gat"]
    with pytest.raises(NotFinishedError):
        view.result("late")
    assert view.explain("late") == vect.explain("late")


def test_a_view_shows_each_attempt_and_why_there_is_no_result(app: OAutom, path: Path) -> None:
    flow = Flow("again", app)
    BashExecution("step", flow, "exit 3", retry=RetryPolicy(max_attempts=2, delay=0))
    app.start(flow, vect_id="v").wait(SECONDS)
    view = Client(path).vect("v")
    attempts = [(each.number, each.state) for each in view.steps["step"].attempts]
    assert attempts == [(1, "failed"), (2, "failed")]
    with pytest.raises(StepFailedError, match="it ended as 'failed'"):
        view.result("step")


def test_a_view_shows_what_each_attempt_has_written(app: OAutom, path: Path) -> None:
    flow = Flow("says", app)
    command = "echo attempt $OAUTOM_ATTEMPT; test $OAUTOM_ATTEMPT = 2"
    BashExecution("step", flow, command, retry=RetryPolicy(max_attempts=2, delay=0))
    PythonExecution("silent", flow, int)
    app.start(flow, vect_id="v").wait(SECONDS)
    steps = Client(path).vect("v").steps
    texts = [attempt.log_text for attempt in steps["step"].attempts]
    assert texts == ["attempt 1\n", "attempt 2\n"]
    assert (steps["step"].log_text, steps["silent"].log_text) == ("attempt 2\n", "")


def test_a_view_at_an_event_is_what_the_vect_was_then(app: OAutom, client: Client) -> None:
    vect = client.start("asks", PARAMS, vect_id="v")
    client.approve(vect, "gate", by="Ada")
    client.cancel(vect)
    view = client.vect(vect)
    for event in view.events():
        past = view.at(event.seq)
        assert past.seq == event.seq
        assert past.events() == [each for each in view.events() if each.seq <= event.seq]
        model = past.state if event.step is None else past.steps[event.step].state
        assert model == event.dest
        assert all(past.explain(step) for step in past.steps)
    assert view.at(10**9).status() == view.status()
    first = view.events()[0].seq
    for wrong in (first - 1, 0, -1, "1", None):
        with pytest.raises(SettingError, match="seq must be the number of an event"):
            view.at(wrong)  # type: ignore[arg-type]


def test_vects_are_listed_newest_first(app: OAutom, client: Client) -> None:
    for name in "abc":
        app.run("fails", vect_id=name)
    began = datetime.now(UTC)
    app.start("one", vect_id="d")
    app.start("asks", PARAMS, vect_id="e").cancel()

    def ids(**how: Any) -> str:
        return "".join(view.id for view in client.vects(**how))

    assert ids() == "edcba"
    assert ids(limit=2) == "ed"
    assert ids(limit=None) == "edcba"
    assert ids(flow="fails") == "cba"
    assert ids(state="failed", limit=2) == "cb"
    assert ids(state=["failed", "running"]) == "dcba"
    assert ids(since=began) == "ed"
    assert ids(since=timedelta(hours=1), flow="one") == "d"
    assert ids(flow="none") == ids(state="stranded") == ids(since=timedelta(0)) == ""
    assert {view.id: view.state for view in client.vects(limit=2)} == {
        "d": "running",
        "e": client.vect("e").state,
    }
    for wrong in ({"state": "runing"}, {"state": 3}, {"limit": 0}, {"limit": "1"}):
        with pytest.raises(SettingError):
            client.vects(**wrong)  # type: ignore[arg-type]
    west, east = timezone(-timedelta(hours=14)), timezone(timedelta(hours=14))
    assert ids(since=datetime(1, 1, 1, tzinfo=east)) == ids(since=timedelta.max) == ids()
    assert ids(since=datetime(9999, 12, 31, 23, tzinfo=west)) == ""
    with pytest.raises(SettingError, match="since must be a datetime with a time zone"):
        client.vects(since=datetime(2026, 11, 24))  # noqa: DTZ001 - that is what is wrong


def test_what_is_stranded_is_listed_and_says_why(app: OAutom, path: Path) -> None:
    app.start("one", vect_id="v")
    app.close()
    with OAutom(OAutomMode.background, log=path) as other:
        ApprovalExecution("only", Flow("one", other, version="8"), "?")
        PythonExecution("step", Flow("free", other), int)
        other.run()
        client = Client(path)
        (view,) = client.vects(state="stranded")
        assert (view.id, view.state) == ("v", "running")
        assert "it began with version '7'" in view.status()["stranded"]
        assert "it began with version '7'" in view.explain("only")
        with pytest.raises(OAutomError, match="it began with version '7'"):
            client.approve("v", "only", by="Ada")
        assert client.vects("free", state="stranded") == []
        client.cancel("v")
        assert client.vects(state="stranded") == []


def test_what_waits_for_a_person_is_listed(app: OAutom, client: Client) -> None:
    app.start("one", vect_id="v")
    app.start("asks", PARAMS, vect_id="w")
    until(lambda: len(client.waiting()) == 2)
    first, second = client.waiting()
    assert first[:4] == ("v", "only", "one", "?")
    assert first.until is None
    assert second[:4] == ("w", "gate", "asks", "ship it?")
    assert second.since is not None
    assert second.until == second.since + timedelta(hours=1)
    client.approve(second.vect, second.step, by="Ada")
    until(lambda: [each.step for each in client.waiting()] == ["only", "late"])


def test_the_engine_shows_its_flows_and_what_it_has(path: Path) -> None:
    with OAutom(OAutomMode.background, log=path, max_workers=3) as app:
        flows = declare(app)
        PythonExecution("heavy", Flow("pooled", app), int, pool=Pool("gpu", 2))
        app.run()
        engine = Client(path).engine
        assert engine is not None
        assert (engine.workers, dict(engine.pools)) == (3, {"gpu": 2})
        assert list(engine.flows) == sorted([*flows, "pooled"])
        one = engine.flows["one"]
        assert (one.description, one.version, one.max_active_vects) == ("at most one", "7", 1)
        schema = engine.flows["asks"].params
        assert schema["properties"]["day"] == {"type": "string", "format": "date"}
        assert schema["required"] == ["day", "n"]
        Flow("later", app, params={"any": Any, "kind": dict[str, list[int]]})
        engine = Client(path).engine
        assert engine is not None
        assert "later" in engine.flows
    assert Client(path).engine is None


def test_plans_are_shown_with_what_they_have_skipped(app: OAutom, client: Client) -> None:
    flow = app.flow("asks")
    params = {"day": PLANNED, "n": 1}
    plan = app.plan(flow, cron="0 3 * * *", timezone="Europe/Paris", params=params, name="nightly")
    app.plan("one", seconds=0.05)
    shown = {each.name: each for each in client.plans()}
    nightly = shown["nightly"]
    assert (nightly.flow, nightly.schedule) == ("asks", "0 3 * * * Europe/Paris")
    assert nightly.next_time == plan.next_time()
    assert nightly.params == {"day": "PLANNED", "n": 1}
    assert (nightly.skipped_time, nightly.skipped_why) == (None, None)
    until(lambda: any(each.skipped_why for each in client.plans()))
    (often,) = (each for each in client.plans() if each.name == "one")
    assert often.schedule == "every 0:00:00.050000"
    assert "already runs as" in (often.skipped_why or "")
    assert often.skipped_time is not None
    assert often.last_time is not None
    assert often.last_time >= often.skipped_time
    plan.cancel()
    assert [each.name for each in client.plans()] == ["one"]


def test_explain_tells_what_can_be_told_from_outside(path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(SECONDS)

    with OAutom(OAutomMode.background, log=path, max_workers=1) as app:
        pooled = Flow("pooled", app, max_active_vects=9)
        PythonExecution("holds", pooled, work, pool=Pool("gpu", 1))
        PythonExecution("wants", pooled, int, pool=Pool("gpu", 1))
        free = Flow("free", app)
        PythonExecution("step", free, int)
        parent = Flow("parent", app)
        FlowExecution("child", parent, free)
        waits = Flow("waits", app)
        WaitExecution("wait", waits, seconds=3600)
        app.start(pooled, vect_id="p")
        app.start(free, vect_id="f")
        app.start(parent, vect_id="q")
        app.start(waits, vect_id="w")
        assert begun.wait(SECONDS)
        client = Client(path)
        until(lambda: client.vect("f").state == "running")
        until(lambda: client.vect("w").steps["wait"].state == "running")
        assert "the only slot of pool `gpu` is taken" in client.vect("p").explain("wants")
        assert "the only worker is taken" in client.vect("f").explain("step")
        for vect, step in (("p", "holds"), ("w", "wait")):
            assert client.vect(vect).explain(step) == app.vect(vect).explain(step)
        go_on.set()
        assert client.wait("p", SECONDS) == "success"
    sentence = Client(path).vect("w").explain("wait")
    assert "no engine is at work on its log" in sentence


# Following


def test_a_follower_hears_each_event_once_and_ends_with_its_vect(
    app: OAutom, client: Client
) -> None:
    vect = client.start("asks", PARAMS)
    call = Call(lambda: list(client.follow(vect=vect)))
    all_of_it = client.follow()
    client.approve(vect, "gate", by="Ada")
    until(lambda: client.vect(vect).steps["late"].state == "running")
    assert call.waits()
    client.approve(vect, "late", by="Ada")
    assert call.result(SECONDS) == app.vect(vect).events()
    assert list(client.follow(vect=vect)) == app.vect(vect).events()  # it is over
    last = app.vect(vect).events()[-1].seq
    assert list(client.follow(after=last, vect=vect)) == []
    heard = []
    for event in all_of_it:
        heard.append(event)
        if event.seq == app.log.committed_seq:
            all_of_it.close()
    assert heard == list(app.log.read())
    assert all_of_it.position == heard[-1].seq


def test_a_follower_may_be_told_to_end_and_goes_on_where_it_was(
    app: OAutom, client: Client
) -> None:
    with client.follow() as follow:
        call = Call(lambda: list(follow))
        assert call.waits()
    assert call.result(SECONDS) == list(app.log.read())
    vect = client.start("one")
    again = client.follow(after=follow.position)
    assert next(again).vect == vect


def test_a_coroutine_follows_too(app: OAutom, client: Client) -> None:
    async def main() -> list[str]:
        vect = client.start("one")
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        async def decide() -> None:
            await asyncio.sleep(0.1)
            await asyncio.to_thread(client.approve, vect, "only", by="Ada")

        ticking, deciding = asyncio.create_task(tick()), asyncio.create_task(decide())
        names = [event.name async for event in client.follow(vect=vect)]
        ticking.cancel()
        await deciding
        assert ticks > 5
        async with asyncio.timeout(SECONDS):
            follow = client.follow()
            async for _ in follow:
                follow.close()
        return names

    assert in_time(asyncio.run, main(), seconds=SECONDS)[-1] == "vect.succeeded"


def test_an_idle_follower_opens_nothing_and_looks_at_one_file(
    app: OAutom, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0.05 < following.LOOK_SECONDS < 0.09  # who is a tenth of a second behind is late
    monkeypatch.setattr(following, "_GRAIN", 0.0)
    read: list[int] = []
    looks: list[str] = []
    stamp = following._stamp

    def counted(file: str) -> Any:
        looks.append(file)
        return stamp(file)

    class Counting(Follow):
        def _read(self) -> None:
            read.append(1)
            super()._read()

    monkeypatch.setattr(following, "_stamp", counted)
    monkeypatch.setattr("oautom.client.client.Follow", Counting)
    with client.follow() as follow:
        call = Call(lambda: list(follow))
        until(lambda: len(looks) > 10)
        before, of = len(read), len(looks)
        until(lambda: len(looks) > of + 20)
        assert len(read) == before
        assert set(looks[of:]) == {f"{app.log.path}-wal"}  # type: ignore[attr-defined]
    call.result()


def test_the_processor_time_of_an_idle_follower_is_under_two_thousandths(
    app: OAutom, client: Client
) -> None:
    """The least of some times counts: what other programs do makes each wake-up dearer."""
    follow = client.follow()
    thread = threading.Thread(target=lambda: list(follow))
    thread.start()
    until(lambda: follow.position == app.log.committed_seq)
    clock = time.pthread_getcpuclockid(thread.ident or 0)
    used: list[float] = []
    while len(used) < 8 and min(used, default=1.0) >= 0.002:
        before, began = time.clock_gettime(clock), time.monotonic()
        time.sleep(0.5)
        used.append((time.clock_gettime(clock) - before) / (time.monotonic() - began))
    follow.close()
    thread.join()
    assert min(used) < 0.002


def test_a_change_within_the_grain_of_the_clock_of_files_is_heard(
    app: OAutom, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commits may leave the same time and size: the second must not wait for a third."""
    monkeypatch.setattr(following, "_stamp", lambda file: (0, 0, 0))
    follow = client.follow(after=app.log.committed_seq)
    call = Call(lambda: next(follow))
    vect = client.start("one")
    assert call.result(SECONDS).vect == vect


def test_waiting_for_a_vect(app: OAutom, client: Client) -> None:
    vect = client.start("one")
    with pytest.raises(TimeoutError, match=r"is 'running' after 0\.1 seconds; it goes on"):
        client.wait(vect, timeout=0.1)
    call = Call(client.wait, vect)
    client.approve(vect, "only", by="Ada")
    assert call.result(SECONDS) == "success"
    with pytest.raises(UnknownVectError):
        client.wait("nobody")


# Wrong arguments


@pytest.mark.parametrize(
    "wrong",
    [
        lambda client: client.start(3),
        lambda client: client.start("one", vect_id=""),
        lambda client: client.start("one", timeout=-1),
        lambda client: client.start("one", timeout="x"),
        lambda client: client.start("one", when_full="later"),
        lambda client: client.start("one", ["x"]),
        lambda client: client.cancel("v", reason=3),
        lambda client: client.approve("v", "only", by=None),
        lambda client: client.approve("v", 3, by="Ada"),
        lambda client: client.follow(after=-1),
        lambda client: client.follow(after="x"),
        lambda client: client.answer(0),
        lambda client: client.answer("x"),
        lambda client: client.answer(999),
        lambda client: Client(3),
        lambda client: Client(""),
        lambda client: Client(b"runs.db"),
    ],
)
def test_what_cannot_be_used_is_refused(
    app: OAutom, client: Client, wrong: Callable[[Client], object]
) -> None:
    app.start("one", vect_id="v")
    with pytest.raises((SettingError, FlowError)):
        wrong(client)


@pytest.mark.parametrize("vect", ["x", 3, None, "v" * 99, b"v"])
def test_a_vect_that_is_not_there_is_refused(client: Client, vect: Any) -> None:
    ways = (client.vect, client.cancel, client.wait, lambda vect: client.approve(vect, "a", "b"))
    for way in (*ways, lambda vect: client.follow(vect=vect or "x")):
        with pytest.raises(UnknownVectError, match="the log has no vect"):
            way(vect)


def test_a_vect_that_was_pruned_says_so(app: OAutom, client: Client) -> None:
    app.run("fails", vect_id="v")
    view = next(each for each in client.vects() if each.id == "v")
    app.prune(older_than=timedelta(0))
    for way in (client.vect, client.retry, client.wait):
        with pytest.raises(UnknownVectError, match="ended as 'failed' and was pruned"):
            way("v")
    with pytest.raises(UnknownVectError, match="was pruned"):
        view.status()


# An app of this process


@pytest.mark.parametrize("mode", list(OAutomMode))
@pytest.mark.parametrize("kept", ["memory", "file"])
def test_a_client_of_an_app_has_the_same_face(path: Path, mode: OAutomMode, kept: str) -> None:
    with OAutom(mode, log=path if kept == "file" else None) as app:
        declare(app)
        client = Client(app)
        assert (client.engine, client.vects(), client.plans()) == (None, [], [])
        vect = client.start("asks", {"day": date(2026, 11, 24), "n": 3}, vect_id="v")
        engine = client.engine
        assert engine is not None
        assert engine.is_driven == (mode is OAutomMode.background)
        assert "asks" in engine.flows
        if mode is OAutomMode.foreground:
            with pytest.raises(TimeoutError):
                client.wait(vect, timeout=0.2)  # it drives meanwhile
        until(lambda: len(client.waiting()) == 1)
        assert client.vect(vect).status() == app.vect(vect).status()
        assert client.vect(vect).explain("gate") == app.vect(vect).explain("gate")
        answer = client.approve(vect, "gate", by="Ada")
        assert (answer.number, answer.refusal) == (None, None)
        with pytest.raises(VectStateError, match="too late, Ada has approved it"):
            client.approve(vect, "gate", by="Grace")
        client.cancel(vect, reason="enough")
        assert client.wait(vect, SECONDS) == "cancelled"
        assert [each.id for each in client.vects(state="cancelled")] == ["v"]
        assert list(client.follow(vect=vect)) == app.vect(vect).events()
        with pytest.raises(SettingError, match="an app of this process answers at once"):
            client.answer(1)
        with pytest.raises(UnknownVectError):
            client.cancel("w")
    assert client.engine is None


def test_a_client_of_an_app_that_has_done_nothing_looks_at_the_file_of_others(path: Path) -> None:
    idle = OAutom(log=path)
    client, log = Client(idle), idle.log
    assert (client.engine, client.vects(), client.waiting(), client.plans()) == (None, [], [], [])
    assert isinstance(log, SqliteEventLog)
    assert (log.holder(), log.is_current, log.is_old, log.version[0]) == (None, False, False, 0)
    assert not path.exists()
    with OAutom(OAutomMode.background, log=path) as app:
        declare(app)
        app.start("one", vect_id="v")
        assert client.engine == Client(path).engine is not None
        assert [each.vect for each in client.waiting()] == ["v"]
        assert client.vect("v").explain("only") == Client(path).vect("v").explain("only")
        assert client.vect("v").status() == Client(path).vect("v").status()
        holder = log.holder()
        assert holder is not None
        assert (log.is_current, log.is_old) == (True, False)


def test_a_client_of_an_app_whose_log_inherits_from_nothing() -> None:
    class Own:
        def __init__(self) -> None:
            self._log = MemoryEventLog()
            for name in ("append", "commit", "read"):
                setattr(self, name, getattr(self._log, name))

        last_seq = property(lambda self: self._log.last_seq)
        committed_seq = property(lambda self: self._log.committed_seq)

    with OAutom(log=Own()) as app:  # type: ignore[arg-type]
        declare(app)
        client = Client(app)
        app.run("fails", vect_id="v")
        assert [view.id for view in client.vects()] == ["v"]
        assert client.vect("v").status() == app.vect("v").status()


def test_looking_does_not_wait_for_the_look_of_the_engine(
    app: OAutom, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "LOOK_SECONDS", 1000.0)
    vect = in_time(client.start, "one")
    in_time(client.cancel, vect)


# All that a page shows


def test_a_view_has_all_that_a_page_shows_of_a_step(path: Path) -> None:
    with OAutom(OAutomMode.background, log=path) as app:
        flow = Flow("flow", app)
        numbers = PythonExecution("numbers", flow, lambda: [4, 5])
        MapExecution("each", flow, str, numbers, pool=Pool("few", 2))
        FlowExecution("child", flow, Flow("inner", app))
        gate = ApprovalExecution("gate", flow, "ship it?")
        gate.depends(numbers)
        app.start("flow", vect_id="v")
        client = Client(path)
        until(lambda: client.waiting() and client.vect("v").steps["each"].state == "success")
        until(lambda: client.vect("v").steps["child"].state == "success")
        steps = client.vect("v").steps
        assert {name: step.kind for name, step in steps.items()} == {
            "numbers": "work",
            "each": "map",
            "each[0]": "work",
            "each[1]": "work",
            "child": "flow",
            "gate": "approval",
        }
        assert steps["each"].items == {"each[0]": 4, "each[1]": 5}
        assert (steps["each[1]"].parent, steps["each[1]"].item) == ("each", 5)
        assert (steps["each"].parent, steps["each"].item, steps["gate"].items) == (None, None, {})
        assert steps["each[1]"].pool == "few"
        assert steps["each[1]"].options["pool"] == ["few", 2]
        assert (steps["gate"].prompt, steps["each"].prompt) == ("ship it?", None)
        assert steps["gate"].inputs == steps["each[0]"].inputs == {"numbers": [4, 5]}
        child = client.vect(str(steps["child"].child))
        assert child.parent == ("v", "child", 1)
        assert (client.vect("v").parent, client.vect("v").planned) == (None, None)
        spans = client.vect("v").timeline()
        assert {span.step for span in spans if span.kind == "wait"} == {"gate"}


def test_a_view_tells_which_plan_has_started_it(path: Path) -> None:
    clock = SimulatedClock()
    with OAutom(log=path, executor="inline", clock=clock) as app:
        PythonExecution("step", Flow("flow", app), int)
        app.plan("flow", hours=1, name="hourly")
        clock.call_later(3601, app.stop)
        app.run()
        (view,) = Client(path).vects()
        assert view.planned == ("hourly", datetime(2000, 1, 1, 1, tzinfo=UTC))
