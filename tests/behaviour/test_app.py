"""The app: its flows, its Vects, what it tells about them, and how long it lives."""

from __future__ import annotations

import json
import re
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oautom import (
    DuplicateFlowError,
    EngineError,
    Flow,
    MemoryEventLog,
    NotFinishedError,
    OAutom,
    OAutomMode,
    PythonExecution,
    UnknownFlowError,
    UnknownVectError,
    VectAlreadyRunningException,
)

from .conftest import SECONDS, Gate, NewApp, flow_step, join_threads, runs_well, told


def diamond(app: OAutom, name: str = "diamond") -> Flow:
    flow = Flow(name, app)
    a, b, c, d = (flow_step(flow, step) for step in "abcd")
    a >> [b, c]
    [b, c] >> d
    return flow


# Running


def test_run_drives_a_flow_to_its_end(any_app: OAutom) -> None:
    diamond(any_app)

    vect = any_app.run("diamond")

    assert vect.state == "success"
    assert vect.ended
    assert [vect.result(step) for step in "abcd"] == list("abcd")
    names = told(vect.events())
    assert names[:3] == ["vect.created", "vect.started", "step.started a"]
    assert names.index("step.succeeded a") < names.index("step.started b")
    assert names.index("step.succeeded a") < names.index("step.started c")
    assert names[-3:] == ["step.started d", "step.succeeded d", "vect.succeeded"]
    assert sorted(names[4:-3]) == sorted(
        f"step.{what} {step}" for step in "bc" for what in ("started", "succeeded")
    )


def test_a_flow_is_named_or_given(any_app: OAutom) -> None:
    flow = diamond(any_app)

    by_name, by_flow = any_app.run("diamond"), any_app.run(flow)

    assert by_name.flow is by_flow.flow is flow
    assert by_name.id != by_flow.id


def test_start_and_wait_do_what_run_does(any_app: OAutom) -> None:
    vect = any_app.start(diamond(any_app))

    assert vect.wait(timeout=SECONDS) == "success"
    assert vect.wait() == vect.wait(timeout=0) == "success"


def test_one_failure_fails_the_vect_and_blocks_what_depends_on_it(any_app: OAutom) -> None:
    flow = Flow("f", any_app)
    good, bad = flow_step(flow, "good"), flow_step(flow, "bad", lambda: 1 / 0)
    after_good, after_bad = flow_step(flow, "after good"), flow_step(flow, "after bad")
    last = flow_step(flow, "last")
    good >> after_good
    bad >> after_bad
    [after_good, after_bad] >> last

    vect = any_app.run(flow)

    assert vect.state == "failed"
    assert {name: step.state for name, step in vect.steps.items()} == {
        "good": "success",
        "bad": "failed",
        "after good": "success",
        "after bad": "upstream_failed",
        "last": "upstream_failed",
    }
    assert vect.steps["bad"].error == "ZeroDivisionError: division by zero"


def test_a_flow_without_steps_succeeds(any_app: OAutom) -> None:
    assert any_app.run(Flow("empty", any_app)).state == "success"


def test_a_flow_can_be_run_again_and_again(any_app: OAutom) -> None:
    diamond(any_app)

    vects = [any_app.run("diamond") for _ in range(5)]

    assert [vect.state for vect in vects] == ["success"] * 5
    assert len({vect.id for vect in vects}) == 5


def test_independent_steps_run_at_the_same_time(new_app: NewApp, mode: OAutomMode) -> None:
    app = new_app(mode, max_workers=3)
    flow = Flow("f", app)
    together = threading.Barrier(3, timeout=SECONDS)
    for name in "abc":
        PythonExecution(name, flow, together.wait)

    assert app.run(flow).state == "success"


def test_no_more_steps_run_at_once_than_max_workers(new_app: NewApp, mode: OAutomMode) -> None:
    app = new_app(mode, max_workers=2)
    flow, lock, running, most = Flow("f", app), threading.Lock(), [0], [0]

    def step() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.002)
        with lock:
            running[0] -= 1

    for number in range(12):
        PythonExecution(str(number), flow, step)

    assert app.run(flow).state == "success"
    assert most == [2]


# The registry


def test_flows_are_listed_in_the_order_of_their_declaration(inline: OAutom) -> None:
    assert inline.flows() == []
    for name in ("z", "a", "m"):
        Flow(name, inline)

    names = inline.flows()
    names.append("not the app's own list")
    assert inline.flows() == ["z", "a", "m"]


def test_a_flow_cannot_have_the_name_of_another(inline: OAutom) -> None:
    first = Flow("f", inline)
    with pytest.raises(DuplicateFlowError) as caught:
        Flow("f", inline)

    assert str(caught.value) == "the app already has a flow 'f'; give this one another name"
    assert inline.run("f").flow is first


def test_two_apps_know_nothing_of_each_other(new_app: NewApp) -> None:
    one, other = new_app(), new_app()
    Flow("f", one)
    Flow("f", other)

    vect = one.run("f")

    assert one.vects() == [vect]
    assert other.vects() == []
    with pytest.raises(UnknownVectError):
        other.vect(vect.id)


def test_vects_are_listed_oldest_first_and_by_flow_and_state(inline: OAutom) -> None:
    good, bad = Flow("good", inline, max_active_vects=9), Flow("bad", inline)
    PythonExecution("a", bad, lambda: 1 / 0)
    vects = [inline.run(good), inline.run(bad), inline.start(good)]

    assert inline.vects() == vects
    assert inline.vects("good") == inline.vects(good) == [vects[0], vects[2]]
    assert inline.vects(state="success") == [vects[0]]
    assert inline.vects(state="failed") == [vects[1]]
    assert inline.vects("good", "pending") == [vects[2]]
    assert inline.vects("bad", "success") == []


def test_a_vect_is_found_by_its_id(inline: OAutom) -> None:
    Flow("f", inline)
    vect = inline.run("f")

    assert inline.vect(vect.id) is vect
    with pytest.raises(UnknownVectError) as caught:
        inline.vect("nobody")
    assert str(caught.value) == "the app has no vect 'nobody'; vects() lists them"


def test_an_id_of_one_s_own_makes_a_start_idempotent(any_app: OAutom) -> None:
    flow, calls = Flow("f", any_app), []
    PythonExecution("a", flow, lambda: calls.append("a"))

    vect = any_app.start("f", vect_id="2026-11-24")
    assert vect.id == "2026-11-24"
    assert any_app.start(flow, vect_id="2026-11-24") is vect  # also over max_active_vects
    vect.wait(timeout=SECONDS)

    assert any_app.run("f", vect_id="2026-11-24") is vect
    assert calls == ["a"]
    assert any_app.vects() == [vect]


def test_an_id_given_on_many_threads_at_once_starts_once(background: OAutom) -> None:
    flow, calls = Flow("f", background), []
    PythonExecution("a", flow, lambda: calls.append("a"))
    vects, together = [], threading.Barrier(8, timeout=SECONDS)

    def start() -> None:
        together.wait()
        vects.append(background.start("f", vect_id="once"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(vects) == 8
    assert all(vect is vects[0] for vect in vects)
    vects[0].wait(timeout=SECONDS)
    assert calls == ["a"]


def test_ids_are_unique_and_plain_words(inline: OAutom) -> None:
    flow = Flow("f", inline, max_active_vects=100)
    ids = [inline.start(flow).id for _ in range(100)]

    assert len(set(ids)) == 100
    assert all(re.fullmatch(r"[0-9a-f]{16}", each) for each in ids)


# How many at once


def test_over_its_limit_a_flow_is_not_started(mode_app: OAutom) -> None:
    flow, gate = Flow("f", mode_app), Gate()
    PythonExecution("a", flow, gate)
    vect = mode_app.start("f")
    for start in (mode_app.start, mode_app.run):
        with pytest.raises(VectAlreadyRunningException) as caught:
            start("f")
        assert str(caught.value) == (
            f"flow 'f' already runs as {vect.id} and its max_active_vects is 1; "
            "wait for one to end, cancel it, or raise max_active_vects"
        )
    assert mode_app.vects() == [vect]

    gate.opened.set()
    assert vect.wait(timeout=SECONDS) == "success"
    assert mode_app.run("f").state == "success"


def test_as_many_run_at_once_as_the_limit_says(mode_app: OAutom) -> None:
    flow, together = Flow("f", mode_app, max_active_vects=3), threading.Barrier(3, timeout=SECONDS)
    gate = threading.Event()  # else they may all be over before there is one too many
    PythonExecution("a", flow, lambda: gate.wait(SECONDS) and together.wait())

    vects = [mode_app.start("f") for _ in range(3)]
    with pytest.raises(VectAlreadyRunningException, match="max_active_vects is 3"):
        mode_app.start("f")
    gate.set()

    assert [vect.wait(timeout=SECONDS) for vect in vects] == ["success"] * 3


def test_the_limit_of_one_flow_is_not_that_of_another(mode_app: OAutom) -> None:
    gate = Gate()
    PythonExecution("a", Flow("slow", mode_app), gate)
    slow = mode_app.start("slow")

    assert runs_well(mode_app)
    gate.opened.set()
    assert slow.wait(timeout=SECONDS) == "success"


def test_a_cancelled_vect_makes_room(mode_app: OAutom) -> None:
    flow = Flow("f", mode_app)
    PythonExecution("a", flow, lambda context: context.cancelled.wait(SECONDS))
    vect = mode_app.start("f")
    vect.cancel()
    vect.wait(timeout=SECONDS)

    second = mode_app.start("f")
    second.cancel()
    assert second.wait(timeout=SECONDS) == "cancelled"


# Status


def test_the_status_is_json_with_all_that_was_promised(any_app: OAutom) -> None:
    flow = Flow("f", any_app)
    good, bad = flow_step(flow, "good"), flow_step(flow, "bad", lambda: 1 / 0)
    good >> bad >> flow_step(flow, "blocked")
    before = datetime.now(UTC)
    vect = any_app.run("f")

    status = any_app.status("f")

    assert json.loads(json.dumps(status)) == status == any_app.status(flow) == vect.status()
    steps = status.pop("executions")
    dates = [status.pop("start_date"), status.pop("end_date")]
    assert status == {"id": vect.id, "name": "f", "state": "failed", "ended": True, "params": {}}
    dates += [step.pop(date) for step in steps for date in ("start_date", "end_date")]
    assert steps == [
        {"name": "good", "state": "success", "attempt": 1, "error": None},
        {
            "name": "bad",
            "state": "failed",
            "attempt": 1,
            "error": "ZeroDivisionError: division by zero",
        },
        {
            "name": "blocked",
            "state": "upstream_failed",
            "attempt": 0,
            "error": "upstream 'bad' failed",
        },
    ]
    assert dates[6] is None  # what never began has no beginning
    told_dates = [datetime.fromisoformat(date) for date in dates if date]
    assert len(told_dates) == 7
    assert all(date.utcoffset() == timedelta(0) for date in told_dates)
    assert all(before <= date <= datetime.now(UTC) for date in told_dates)


def test_the_status_of_what_has_not_begun(new_app: NewApp) -> None:
    app = new_app()
    flow_step(Flow("f", app), "a")
    vect = app.start("f")

    assert vect.status() == {
        "id": vect.id,
        "name": "f",
        "state": "pending",
        "ended": False,
        "start_date": None,
        "end_date": None,
        "params": {},
        "executions": [
            {
                "name": "a",
                "state": "pending",
                "attempt": 0,
                "start_date": None,
                "end_date": None,
                "error": None,
            }
        ],
    }


def test_the_status_while_a_step_runs(background: OAutom) -> None:
    flow, gate = Flow("f", background), Gate()
    PythonExecution("a", flow, gate) >> flow_step(flow, "b")
    vect = background.start("f")
    assert gate.reached.wait(SECONDS)

    status = vect.status()
    gate.opened.set()
    vect.wait(timeout=SECONDS)

    assert (status["state"], status["ended"], status["end_date"]) == ("running", False, None)
    assert [step["state"] for step in status["executions"]] == ["running", "pending"]
    assert status["executions"][0]["attempt"] == 1


def test_the_status_of_a_flow_is_that_of_its_newest_vect(inline: OAutom) -> None:
    Flow("f", inline)
    inline.run("f")
    newest = inline.run("f")

    assert inline.status("f")["id"] == newest.id


def test_there_is_no_status_of_what_never_ran(inline: OAutom) -> None:
    Flow("f", inline)
    with pytest.raises(UnknownVectError) as caught:
        inline.status("f")
    assert str(caught.value) == "flow 'f' has no vect yet; start('f')"
    with pytest.raises(UnknownFlowError) as caught_flow:
        inline.status("g")
    assert str(caught_flow.value) == "the app has no flow 'g'; known: 'f'"


def test_logs_are_the_status_of_every_vect_newest_first(inline: OAutom) -> None:
    assert inline.logs() == []
    Flow("f", inline)
    Flow("g", inline)
    vects = [inline.run("f"), inline.run("g"), inline.run("f")]

    assert inline.logs() == [vect.status() for vect in reversed(vects)]
    assert json.loads(json.dumps(inline.logs())) == inline.logs()


def test_the_log_can_be_the_user_s_and_holds_all_vects(new_app: NewApp, mode: OAutomMode) -> None:
    log = MemoryEventLog()
    app = new_app(mode, log=log)
    Flow("f", app)
    Flow("g", app)
    one, other = app.run("f"), app.run("g")

    assert app.log is log
    assert [event.seq for event in log.read()] == list(range(1, 7))
    assert one.events() + other.events() == list(log.read())
    assert {event.flow for event in one.events()} == {"f"}


# The foreground


def test_in_the_foreground_nothing_moves_before_somebody_waits(new_app: NewApp) -> None:
    app, calls = new_app(), []
    flow = Flow("f", app)
    PythonExecution("a", flow, lambda: calls.append(threading.get_ident()))
    vect = app.start("f")

    assert (vect.state, vect.steps["a"].state, calls) == ("pending", "pending", [])
    assert [event.name for event in vect.events()] == ["vect.created"]
    with pytest.raises(NotFinishedError):
        vect.result("a")

    assert vect.wait() == "success"
    assert len(calls) == 1


def test_in_the_foreground_it_moves_on_the_thread_that_waits(new_app: NewApp, connect: Any) -> None:
    app, idents = new_app(executor="inline"), []
    PythonExecution("a", Flow("f", app), lambda: idents.append(threading.get_ident()))
    connect(lambda flow, event: idents.append(threading.get_ident()))

    app.run("f")

    assert set(idents) == {threading.get_ident()}


def test_to_wait_for_one_vect_moves_all(new_app: NewApp) -> None:
    app = new_app(executor="inline")
    flow_step(Flow("f", app), "a")
    flow_step(Flow("g", app), "b")
    first, second = app.start("f"), app.start("g")

    second.wait()

    assert first.state == "success"


def test_two_threads_may_wait_in_the_foreground(new_app: NewApp) -> None:
    app, gates = new_app(), [Gate(), Gate()]
    PythonExecution("a", Flow("f", app), gates[0])
    PythonExecution("b", Flow("g", app), gates[1])
    vects, ended = [app.start("f"), app.start("g")], []

    def wait(number: int) -> None:
        ended.append((number, vects[number].wait(timeout=SECONDS)))

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    assert all(gate.reached.wait(SECONDS) for gate in gates)
    for number in (1, 0):  # whoever drives: the other one's end comes first once
        gates[number].opened.set()
        threads[number].join(SECONDS)

    assert ended == [(1, "success"), (0, "success")]


def test_who_waits_takes_over_when_the_one_who_drove_has_given_up(new_app: NewApp) -> None:
    app, gate, started = new_app(), Gate(), threading.Event()
    PythonExecution("a", Flow("f", app), gate)
    vect, ended = app.start("f"), []

    def wait() -> None:
        started.set()
        ended.append(vect.wait(timeout=SECONDS))

    thread = threading.Thread(target=wait)
    thread.start()
    assert started.wait(SECONDS)
    with pytest.raises(TimeoutError):
        vect.wait(timeout=0.05)
    gate.opened.set()
    thread.join(SECONDS)

    assert ended == ["success"]


def test_run_without_a_flow_serves_until_stop(new_app: NewApp) -> None:
    app = new_app()
    flow_step(Flow("f", app), "a")
    vect = app.start("f")
    thread = threading.Thread(target=app.run)
    thread.start()
    assert vect.wait(timeout=SECONDS) == "success"  # of the other thread's driving
    later = app.start("f")
    assert later.wait(timeout=SECONDS) == "success"
    assert thread.is_alive()

    app.stop()
    thread.join(SECONDS)

    assert not thread.is_alive()


def test_a_stop_just_before_a_run_is_not_lost_and_counts_for_one(new_app: NewApp) -> None:
    app = new_app(executor="inline")
    flow_step(flow := Flow("f", app), "a")
    app.start(flow, vect_id="waits")
    app.stop()
    app.stop()
    app.run()  # returns at once: nothing was driven
    assert app.vect("waits").state == "pending"

    thread = threading.Thread(target=app.run)
    thread.start()
    assert app.vect("waits").wait(SECONDS) == "success"
    assert thread.is_alive()
    app.stop()
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_after_stop_one_can_serve_again(new_app: NewApp, connect: Any) -> None:
    app = new_app(executor="inline")
    flow = Flow("f", app)
    flow_step(flow, "a")
    connect(lambda *_, **__: app.stop(), "vect.succeeded", sender=flow)
    for _ in range(2):
        vect = app.start("f")
        app.run()
        assert vect.state == "success"


# The background


def test_in_the_background_it_moves_by_itself(background: OAutom, connect: Any) -> None:
    ended, idents = threading.Event(), []
    flow = Flow("f", background)
    PythonExecution("a", flow, lambda: idents.append(threading.get_ident()))
    connect(lambda *_, **__: ended.set(), "vect.succeeded", sender=flow)

    vect = background.start("f")

    assert ended.wait(SECONDS)
    assert vect.wait(timeout=SECONDS) == "success"
    assert threading.get_ident() not in idents


def test_in_the_background_run_returns_at_once(background: OAutom) -> None:
    gate = Gate()
    PythonExecution("a", Flow("f", background), gate)
    vect = background.start("f")

    background.run()

    assert vect.state in ("pending", "running")
    gate.opened.set()
    assert vect.wait(timeout=SECONDS) == "success"


def test_in_the_background_no_thread_is_left_when_all_is_over(background: OAutom) -> None:
    flow_step(Flow("f", background), "a")
    for _ in range(3):
        background.run("f")
        join_threads("oautom-scheduler")
        assert [t for t in threading.enumerate() if t.name == "oautom-scheduler"] == []


def schedulers_beside(before: list[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that drive, but for those before."""
    threads = [thread for thread in threading.enumerate() if thread not in before]
    return [thread for thread in threads if thread.name == "oautom-scheduler"]


def test_in_the_background_one_thread_drives_however_much_comes_in(background: OAutom) -> None:
    flow, counts = Flow("f", background, max_active_vects=20), []
    before = threading.enumerate()  # that of an app that has just been closed may still end

    def count() -> None:
        counts.append(len(schedulers_beside(before)))

    PythonExecution("a", flow, count) >> PythonExecution("b", flow, count)
    gate = Gate()  # something is always open, so that the thread has no reason to end in between
    PythonExecution("open", Flow("g", background), gate)
    background.start("g")
    vects = [background.start(flow) for _ in range(20)]
    for vect in vects:
        assert vect.wait(timeout=SECONDS) == "success"
    gate.opened.set()

    assert set(counts) == {1}


def test_a_program_waits_for_what_a_daemon_thread_has_started(background: OAutom) -> None:
    gate = Gate()
    before = threading.enumerate()
    PythonExecution("a", Flow("f", background), gate)
    starter = threading.Thread(target=background.start, args=("f",), daemon=True)
    starter.start()
    starter.join(SECONDS)
    assert gate.reached.wait(SECONDS)

    schedulers = schedulers_beside(before)
    gate.opened.set()

    assert [thread.daemon for thread in schedulers] == [False]


def test_many_threads_start_and_wait_at_once(background: OAutom) -> None:
    flow = Flow("f", background, max_active_vects=1000)
    flow_step(flow, "a") >> flow_step(flow, "b")
    states: list[str] = []

    def user() -> None:
        states.extend(background.start("f").wait(timeout=SECONDS) for _ in range(20))

    threads = [threading.Thread(target=user) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert states == ["success"] * 120
    assert len(background.vects(state="success")) == 120


# Waiting


def test_at_the_timeout_wait_says_so_and_the_vect_goes_on(mode_app: OAutom) -> None:
    gate = Gate()
    PythonExecution("a", Flow("f", mode_app), gate)
    vect = mode_app.start("f")
    for timeout in (0.01, 0.02):
        with pytest.raises(TimeoutError) as caught:
            vect.wait(timeout=timeout)
        assert str(caught.value) == (
            f"vect {vect.id} of flow 'f' is 'running' after {timeout} seconds; "
            "it goes on: wait again, or cancel() it"
        )
    gate.opened.set()

    assert vect.wait(timeout=SECONDS) == "success"
    assert vect.result("a") == "through"


def test_to_wait_no_time_at_all_only_looks(mode_app: OAutom) -> None:
    gate = Gate()
    PythonExecution("a", Flow("f", mode_app), gate)
    vect = mode_app.start("f")
    for timeout in (0, -1):
        with pytest.raises(TimeoutError):
            vect.wait(timeout=timeout)
    gate.opened.set()

    assert vect.wait(timeout=SECONDS) == "success"
    assert vect.wait(timeout=0) == "success"


@pytest.mark.parametrize("timeout", [float("inf"), 1e10, 1e300])
def test_one_may_wait_for_ever_by_any_word_for_it(mode_app: OAutom, timeout: float) -> None:
    PythonExecution("a", Flow("f", mode_app), threading.Event().wait, (0.05,))

    assert mode_app.start("f").wait(timeout=timeout) == "success"


def test_many_may_wait_for_one(background: OAutom) -> None:
    gate, ended = Gate(), []
    PythonExecution("a", Flow("f", background), gate)
    vect = background.start("f")
    threads = [
        threading.Thread(target=lambda: ended.append(vect.wait(timeout=SECONDS))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    gate.opened.set()
    for thread in threads:
        thread.join(SECONDS)

    assert ended == ["success"] * 5


# What is not committed has not happened


class SlowLog(MemoryEventLog):
    """Stops before it commits the end of a Vect, until the test goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go = threading.Event(), threading.Event()

    def append(self, sender: object, event: Any) -> None:
        super().append(sender, event)
        self.at_end = event.name == "vect.succeeded"

    def commit(self) -> Any:
        if self.at_end:
            self.reached.set()
            assert self.go.wait(SECONDS)
        return super().commit()


def test_a_vect_has_not_ended_before_its_end_is_in_the_log(new_app: NewApp) -> None:
    log = SlowLog()
    app = new_app(OAutomMode.background, log=log)
    flow_step(Flow("f", app), "a")
    vect = app.start("f")
    assert log.reached.wait(SECONDS)
    had_ended = vect.ended
    log.go.set()

    assert not had_ended
    assert vect.wait(timeout=SECONDS) == "success"
    assert told(vect.events())[-1] == "vect.succeeded"


def test_wait_keeps_to_its_timeout_while_a_commit_takes_long(new_app: NewApp) -> None:
    log, returned = SlowLog(), threading.Event()
    app = new_app(OAutomMode.background, log=log)
    flow_step(Flow("f", app), "a")
    vect = app.start("f")
    assert log.reached.wait(SECONDS)

    def wait() -> None:
        with suppress(Exception):
            vect.wait(timeout=0.01)
        returned.set()

    thread = threading.Thread(target=wait)
    thread.start()
    in_time = returned.wait(1)
    log.go.set()
    thread.join(SECONDS)

    assert in_time
    assert vect.wait(timeout=SECONDS) == "success"


# Closing


def test_a_closed_app_can_be_read_and_takes_no_more(any_app: OAutom) -> None:
    flow = Flow("f", any_app)
    flow_step(flow, "a")
    vect = any_app.run("f")
    any_app.close()
    any_app.close()

    for call in (
        lambda: any_app.start("f"),
        lambda: any_app.run("f"),
        lambda: any_app.run(),
        lambda: any_app.start("f", vect_id=vect.id),
        lambda: Flow("g", any_app),
    ):
        with pytest.raises(EngineError, match=r"^the app is closed; make a new OAutom$"):
            call()
    assert any_app.flows() == ["f"]
    assert any_app.vects() == [vect]
    assert any_app.status("f")["state"] == vect.wait() == "success"
    assert vect.result("a") == "a"
    assert len(vect.events()) == 5


def test_an_app_that_did_nothing_can_be_closed(any_app: OAutom) -> None:
    any_app.close()


def test_a_close_cancels_what_is_open(mode_app: OAutom) -> None:
    flow, gate = Flow("f", mode_app), Gate()
    PythonExecution("a", flow, gate)
    vect = mode_app.start("f")

    mode_app.close()
    gate.opened.set()

    assert vect.state == "cancelled"
    (cancelled,) = (event for event in vect.events() if event.name == "vect.cancelled")
    assert cancelled.data["reason"] == "the app was closed"


def test_a_close_ends_a_step_that_listens(background: OAutom) -> None:
    started, heard = threading.Event(), []

    def listens(context: Any) -> None:
        started.set()
        heard.append(context.cancelled.wait(SECONDS))

    PythonExecution("a", Flow("f", background), listens)
    vect = background.start("f")
    assert started.wait(SECONDS)

    background.close()

    assert vect.state == "cancelled"
    join_threads()
    assert heard == [True]


def test_a_block_closes_its_app(mode: OAutomMode) -> None:
    with OAutom(mode) as app:
        flow_step(Flow("f", app), "a")
        vect = app.start("f")
        vect.wait(timeout=SECONDS)

    with pytest.raises(EngineError):
        app.start("f")


def test_an_error_in_the_block_is_not_hidden(mode: OAutomMode) -> None:
    app = OAutom(mode)
    flow_step(Flow("f", app), "a")
    vect = app.start("f")
    with pytest.raises(ValueError, match="mine"), app:
        raise ValueError("mine")

    assert vect.ended


def test_a_log_of_the_user_s_is_not_closed_with_the_app(new_app: NewApp) -> None:
    log = MemoryEventLog()
    app = new_app(log=log, executor="inline")
    Flow("f", app)
    app.run("f")
    app.close()

    again = new_app(log=log, executor="inline")
    Flow("f", again)
    again.run("f")
    assert [event.seq for event in log.read()] == [1, 2, 3, 4, 5, 6]


def test_an_answer_that_comes_after_the_close_is_no_error(
    background: OAutom, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()  # it does not listen to its cancellation
    PythonExecution("a", Flow("f", background), gate)
    vect = background.start("f")
    assert gate.reached.wait(SECONDS)

    background.close()
    gate.opened.set()
    join_threads()

    assert vect.state == "cancelled"
    assert [record.getMessage() for record in caplog.records] == []


def test_nothing_is_written_after_the_close(new_app: NewApp) -> None:
    log, gate = MemoryEventLog(), Gate()
    app = new_app(OAutomMode.background, log=log)
    PythonExecution("a", Flow("f", app), gate)
    app.start("f")
    assert gate.reached.wait(SECONDS)

    app.close()
    last_seq = log.last_seq
    gate.opened.set()
    join_threads()

    assert log.last_seq == last_seq


def test_a_close_ends_who_serves_on_another_thread(program: Any) -> None:
    ended = program("""

        app, entered = OAutom(), threading.Event()
        PythonExecution('a', Flow('f', app), entered.set)
        app.start('f')
        thread = threading.Thread(target=app.run, daemon=True)
        thread.start()
        entered.wait(10)
        app.close()
        thread.join(2)
        print('serves on' if thread.is_alive() else 'has ended')
    """)

    assert ended.stdout == "has ended\n"


def test_a_step_may_close_the_app(background: OAutom) -> None:
    closed = threading.Event()

    def step() -> None:
        background.close()
        closed.set()

    PythonExecution("a", Flow("f", background), step)
    vect = background.start("f")

    assert closed.wait(SECONDS)
    assert vect.wait(timeout=SECONDS) == "cancelled"
