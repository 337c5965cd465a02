"""A Vect that waits for its turn: who has room, who stands in line, and who starts next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    EngineError,
    Event,
    Flow,
    FlowError,
    FlowExecution,
    LogError,
    MemoryEventLog,
    OAutom,
    OAutomMode,
    Param,
    PythonExecution,
    SettingError,
    Vect,
    VectAlreadyRunningException,
    VectStateError,
    WaitExecution,
)
from oautom.events.sqlite import SqliteEventLog
from oautom.testing import SimulatedClock, assert_replays, check_history
from oautom.testing.crashes import Crash, MortalLog
from tests.held import Call, until

from .conftest import SECONDS, Gate, nothing


def asking(app: OAutom, name: str = "flow", **options: Any) -> Flow:
    """A flow whose Vects end when a person says so."""
    flow = Flow(name, app, **({"when_full": "wait"} | options))
    ApprovalExecution("ask", flow, "well?")
    return flow


def step_of(app: OAutom) -> None:
    """Have the app do what there is to do, in the foreground; its clock is a simulated one."""
    app._clock.call_later(0, app.stop)  # type: ignore[attr-defined] # as above
    app.run()


def end(app: OAutom, vect: Vect) -> None:
    vect.approve("ask", by="me")
    assert vect.wait(SECONDS) == "success"
    step_of(app)


def states(vects: Iterable[Vect]) -> list[str]:
    return [vect.state for vect in vects]


def started(app: OAutom) -> list[str]:
    """Return the ids of the Vects in the order in which they started."""
    return [event.vect for event in app.log.read() if event.name == "vect.started"]


def check(app: OAutom) -> None:
    events = list(app.log.read())
    check_history(events)
    for name in app.flows():
        assert_replays(events, app.flow(name))


def started_in_line(app: OAutom, flow: Flow, ids: str, *args: Any, **options: Any) -> list[Vect]:
    vects = [app.start(flow, *args, vect_id=each, **options) for each in ids]
    step_of(app)
    return vects


@pytest.fixture
def inline(new_app: Any) -> OAutom:
    """An app whose time stands still, until somebody lets it pass."""
    app: OAutom = new_app(executor="inline", clock=SimulatedClock())
    return app


# One after the other


def test_who_finds_no_room_is_created_and_starts_in_its_turn(inline: OAutom) -> None:
    flow = asking(inline, max_active_vects=2)
    vects = started_in_line(inline, flow, "abcd")

    assert states(vects) == ["running", "running", "pending", "pending"]
    assert [event.name for event in vects[3].events()] == ["vect.created"]
    end(inline, vects[1])
    assert states(vects) == ["running", "success", "running", "pending"]
    end(inline, vects[0])
    end(inline, vects[3])
    end(inline, vects[2])
    assert started(inline) == ["a", "b", "c", "d"]
    told = [dict(event.data) for event in inline.log.read() if event.name == "vect.started"]
    assert told == [{}, {}, {"limit": 2}, {"limit": 2}]
    check(inline)


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_the_turn_comes_however_the_one_before_has_ended(inline: OAutom, how: str) -> None:
    flow = asking(inline)
    first, second = started_in_line(inline, flow, "ab")
    if how == "fails":
        first.reject("ask", by="me")
    else:
        first.cancel()
    step_of(inline)

    assert states([first, second]) == ["failed" if how == "fails" else "cancelled", "running"]
    check(inline)


def test_waiting_vects_say_where_they_stand(inline: OAutom) -> None:
    flow = asking(inline)
    _, second, third = started_in_line(inline, flow, "abc")

    assert second.explain("ask") == (
        "`ask` waits for the turn of its vect, which is number 1 in line: none goes before it, "
        "and at most 1 vect of flow `flow` is open; nothing drives the engine until somebody "
        "calls wait()"
    )
    turn = (
        "it waits for its turn as number 2 in line: 1 goes before it, and at most 1 vect of flow "
        "`flow` is open"
    )
    assert third.status()["turn"] == inline.status(flow)["turn"] == turn
    assert [status.get("turn", "")[-8:] for status in inline.logs()] == [" is open"] * 2 + [""]
    second.cancel()
    assert "number 1 in line" in third.status()["turn"]
    assert "turn" not in second.status()


def test_the_mode_makes_no_difference(mode_app: OAutom) -> None:
    flow, calls = Flow("flow", mode_app, params={"of": int}, when_full="wait"), list[int]()
    PythonExecution("work", flow, calls.append, [flow.param("of")])
    vects = [mode_app.start(flow, {"of": number}) for number in range(20)]

    assert vects[-1].wait(SECONDS) == "success"
    assert calls == list(range(20))
    assert set(states(vects)) == {"success"}
    check(mode_app)


def test_start_says_otherwise_than_the_flow(inline: OAutom) -> None:
    waits, raises = asking(inline, "waits"), asking(inline, "raises", when_full="raise")
    for flow in (waits, raises):
        inline.start(flow)
        with pytest.raises(VectAlreadyRunningException):
            inline.start(flow, when_full="raise")
    with pytest.raises(VectAlreadyRunningException):
        inline.start(raises)
    with pytest.raises(VectAlreadyRunningException):
        inline.run(waits, when_full="raise")
    assert inline.start(waits).state == inline.start(raises, when_full="wait").state == "pending"


def test_who_would_not_wait_goes_before_nobody_who_does(inline: OAutom) -> None:
    flow = asking(inline)
    first, _ = started_in_line(inline, flow, "ab")
    first.approve("ask", by="me")

    with pytest.raises(VectAlreadyRunningException):
        inline.start(flow, when_full="raise")


def test_run_and_astart_wait_for_their_turn(new_app: Any) -> None:
    app = new_app(OAutomMode.background)
    flow, gate = Flow("flow", app), Gate()
    PythonExecution("work", flow, gate)
    first = app.start(flow)
    run = Call(app.run, flow, vect_id="run", when_full="wait")
    assert run.waits()

    async def ask() -> str:
        vect = await app.astart(flow, when_full="wait")
        assert vect.state == "pending"
        gate.opened.set()
        return await vect

    assert asyncio.run(asyncio.wait_for(ask(), SECONDS)) == "success"
    assert run.result().state == first.wait(SECONDS) == "success"
    assert started(app)[:2] == [first.id, "run"]
    check(app)


def test_a_run_in_the_foreground_drives_all_that_go_before_it(inline: OAutom) -> None:
    flow, calls = Flow("flow", inline, params={"of": int}, when_full="wait"), list[int]()
    PythonExecution("work", flow, calls.append, [flow.param("of")])
    for number in range(3):
        inline.start(flow, {"of": number})

    assert inline.run(flow, {"of": 3}).state == "success"
    assert calls == [0, 1, 2, 3]


def test_a_start_said_twice_gives_the_vect_that_waits(inline: OAutom) -> None:
    flow = asking(inline)
    _, second = started_in_line(inline, flow, "ab")

    assert inline.start(flow, vect_id="b") is second
    assert inline.start(flow, vect_id="b", when_full="raise") is second
    assert len(inline.vects()) == 2


# What is done to one that waits


def test_a_vect_that_waits_is_cancelled_without_having_started(inline: OAutom) -> None:
    flow = asking(inline)
    first, second, third = started_in_line(inline, flow, "abc")
    second.cancel("not needed")

    assert second.wait() == "cancelled"
    assert [event.name for event in second.events()] == [
        "vect.created",
        "step.cancelled",
        "vect.cancelled",
    ]
    end(inline, first)
    assert third.state == "running"
    assert started(inline) == ["a", "c"]
    check(inline)


def test_what_a_vect_that_waits_cannot_do_is_refused(inline: OAutom) -> None:
    flow = asking(inline)
    first, second = started_in_line(inline, flow, "ab")

    with pytest.raises(VectStateError, match="waits for its turn and runs nothing yet; pause it"):
        second.pause()
    with pytest.raises(VectStateError):
        second.approve("ask", by="me")
    with pytest.raises(VectStateError):
        second.retry()
    second.resume()
    with pytest.raises(TimeoutError):
        second.wait(0.01)
    assert second.state == "pending"
    end(inline, first)
    second.pause()
    assert second.state == "paused"
    check(inline)


def test_who_had_room_at_once_tells_no_limit_though_it_is_paused_before_it_starts(
    inline: OAutom,
) -> None:
    vect = inline.start(asking(inline))
    vect.pause()

    assert vect.state == "paused"
    assert [dict(event.data) for event in vect.events()][1:] == [{}, {}]
    check(inline)


def test_a_paused_vect_keeps_its_place(inline: OAutom) -> None:
    flow = asking(inline)
    first, second = started_in_line(inline, flow, "ab")
    first.pause()
    step_of(inline)

    assert states([first, second]) == ["paused", "pending"]


@pytest.mark.parametrize("is_next_life", [False, True])
def test_a_pause_has_nobody_start_before_who_is_called_first(*, is_next_life: bool) -> None:
    """Nobody drives: both are called, and neither has begun."""

    def life(log: MemoryEventLog) -> tuple[OAutom, Flow]:
        app = OAutom(log=log, executor="inline", clock=SimulatedClock())
        return app, asking(app, max_active_vects=2)

    app, flow = life(MemoryEventLog())
    vects = started_in_line(app, flow, "abcd")
    for vect in vects[:2]:
        vect.cancel()
    if is_next_life:
        left = MemoryEventLog()
        for event in app.log.read():
            left.append(None, event)
        left.commit()
        app, _ = life(left)
        app.recover()
        vects = [app.vect(each) for each in "abcd"]
    with pytest.raises(VectStateError, match="waits for its turn and runs nothing yet"):
        vects[3].pause()
    vects[3].resume()
    assert states(vects[2:]) == ["pending", "pending"]
    vects[2].pause()
    vects[3].pause()
    assert states(vects[2:]) == ["paused", "paused"]
    assert started(app)[-2:] == ["c", "d"]
    check(app)
    closed(app)


def test_a_retry_does_not_wait(inline: OAutom) -> None:
    flow = asking(inline)
    first, second, third = started_in_line(inline, flow, "abc")
    first.cancel()
    step_of(inline)
    with pytest.raises(VectAlreadyRunningException, match="already runs as b and its"):
        first.retry()
    second.cancel()
    third.cancel()
    step_of(inline)
    first.retry()
    assert started_in_line(inline, flow, "d")[0].state == "pending"
    end(inline, first)
    assert inline.vect("d").state == "running"
    check(inline)


def test_a_start_that_is_withdrawn_leaves_the_line(inline: OAutom, connect: Any) -> None:
    flow = asking(inline)
    first = inline.start(flow)
    told = list[Any]()

    def start(*_: Any, **__: Any) -> None:
        def late() -> None:
            try:
                inline.start(flow, timeout=0.01)
            except EngineError as error:
                told.append(error)

        thread = threading.Thread(target=late)
        thread.start()
        thread.join(SECONDS)

    connect(start, "vect.started")
    step_of(inline)
    assert len(told) == 1
    (second,) = started_in_line(inline, flow, "b")
    assert "number 1 in line" in second.status()["turn"]
    end(inline, first)
    assert second.state == "running"


class BusyLog(MemoryEventLog):
    """A log in whose commits something else happens, on another thread."""

    meanwhile: Callable[[], object] = bool

    def commit(self) -> Sequence[Event]:
        events = super().commit()
        if {event.name for event in events} >= {"vect.succeeded"}:
            self.meanwhile()
        return events


def test_who_comes_while_two_places_come_free_does_not_overtake_who_is_called() -> None:
    log, calls = BusyLog(), list[Call]()
    app = OAutom(log=log, executor="inline", clock=SimulatedClock())
    flow = Flow("flow", app, max_active_vects=2, when_full="wait")
    WaitExecution("wait", flow, seconds=1)  # both end in one tick
    vects = [app.start(flow, vect_id=each) for each in "abc"]

    def meanwhile() -> None:
        log.meanwhile = bool
        calls.append(Call(app.start, flow, vect_id="d"))
        until(lambda: app._scheduler.has_messages)

    log.meanwhile = meanwhile
    assert vects[2].wait(SECONDS) == "success"
    assert calls[0].result(SECONDS).wait(SECONDS) == "success"
    assert started(app) == list("abcd")
    check(app)
    app.close()


def test_of_all_that_wait_none_is_lost_when_many_threads_start_and_cancel(
    background: OAutom,
) -> None:
    flow = Flow("flow", background, params={"of": str}, max_active_vects=2, when_full="wait")
    PythonExecution("work", flow, nothing)

    def work(name: str) -> list[Vect]:
        vects = list[Vect]()
        for number in range(15):
            vects.append(background.start(flow, {"of": name}))
            if number % 3 == 0:
                vects[-1].cancel()
        return vects

    calls = [Call(work, str(number)) for number in range(4)]
    vects = [vect for call in calls for vect in call.result(3 * SECONDS)]
    assert {vect.wait(SECONDS) for vect in vects} <= {"success", "cancelled"}
    check(background)


# The next life


def lives(path: Path) -> Callable[[], OAutom]:
    def life() -> OAutom:
        log = SqliteEventLog(path, synchronous="NORMAL")
        return OAutom(log=log, executor="inline", clock=SimulatedClock())

    return life


def closed(app: OAutom) -> None:
    app.close()
    app.log.close()


def test_the_line_goes_on_in_the_next_life(tmp_path: Path) -> None:
    life = lives(tmp_path / "runs.db")
    for _ in range(3):
        app = life()
        flow = asking(app, max_active_vects=2)
        app.recover()
        before = len(app.vects())
        vects = [app.start(flow, vect_id=f"{before + i}") for i in range(3)]
        step_of(app)
        left = app.vects()
        assert states(left[:2]) == ["running", "running"]
        assert set(states(left[2:])) == {"pending"}
        assert f"number {len(left) - 2} in line" in vects[-1].status()["turn"]
        with pytest.raises(VectAlreadyRunningException):
            app.start(flow, when_full="raise")
        closed(app)
    app = life()
    asking(app, max_active_vects=2)
    assert app.recover() == app.vects()
    for vect in app.vects():
        step_of(app)
        end(app, vect)
    assert started(app) == [str(number) for number in range(9)]
    check(app)
    closed(app)


def start_all(log: MemoryEventLog) -> OAutom:
    """Start Vects of a flow of which one is open at once, and one that runs two more of them."""
    app = OAutom(executor="inline", log=log, clock=SimulatedClock())
    inner = Flow("inner", app, when_full="wait")
    PythonExecution("work", inner, nothing) >> PythonExecution("more", inner, nothing)
    main = Flow("main", app)
    for name in "ab":
        FlowExecution(name, main, inner)
    for vect in ("first", "second"):
        app.start(inner, vect_id=vect)
    app.start(main, vect_id="v").wait()
    app.start(inner, vect_id="last").wait()
    return app


@pytest.mark.parametrize("place", ["before", "in"])
def test_whichever_commit_the_program_dies_at_the_line_goes_on(place: Any) -> None:
    has_died, number = True, 0
    while has_died:
        number += 1
        mortal, log = MortalLog([(place, number)]), MemoryEventLog()
        try:
            start_all(mortal)
            has_died = False
        except Crash:
            pass
        for event in mortal.read():
            log.append(None, event)
        log.commit()
        app = start_all(log)
        assert set(states(app.vects())) == {"success"}
        of_inner = [event for event in log.read() if event.flow == "inner"]
        created = [event.vect for event in of_inner if event.name == "vect.created"]
        assert [event.vect for event in of_inner if event.name == "vect.started"] == created
        check(app)
    assert number > 10


def test_who_waits_before_a_recovery_says_so(tmp_path: Path) -> None:
    life = lives(tmp_path / "runs.db")
    app = life()
    started_in_line(app, asking(app), "abc")
    closed(app)
    app = life()
    asking(app)
    left = app.vect("b")
    assert "recover() goes on with it" in left.explain("ask")
    app.recover()
    assert "number 1 in line: none goes before it" in left.explain("ask")
    assert "its program has ended" not in left.explain("ask")
    assert "turn" in left.status()
    with pytest.raises(VectStateError):
        left.pause()
    left.resume()
    app.vect("c").cancel()
    assert app.vect("c").wait() == "cancelled"
    step_of(app)
    end(app, app.vect("a"))
    (told,) = (event for event in left.events() if event.name == "vect.started")
    assert dict(told.data) == {"limit": 1, "recovered": True}
    check(app)
    closed(app)


def test_a_retry_in_the_next_life_counts_for_its_own_value(tmp_path: Path) -> None:
    life, options = lives(tmp_path / "runs.db"), {"params": {"of": str}, "limit_by": "of"}
    app = life()
    flow = asking(app, **options)
    for vect in ("us", "them"):
        app.start(flow, {"of": vect}, vect_id=vect).cancel()
    closed(app)
    app = life()
    flow = asking(app, **options)
    app.start(flow, {"of": "us"})
    with pytest.raises(VectAlreadyRunningException, match='with of "us" as'):
        app.vect("us").retry()
    app.vect("them").retry()
    step_of(app)
    assert app.vect("them").state == "running"
    check(app)
    closed(app)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_active_vects": 1}, ["running", "running", "pending", "pending"]),
        ({"max_active_vects": 3}, ["running", "running", "running", "pending"]),
        ({"max_active_vects": None}, ["running"] * 4),
        ({"when_full": "raise"}, ["running", "running", "pending", "pending"]),
        ({"limit_by": "of"}, ["running", "running", "pending", "running"]),
    ],
    ids=str,
)
def test_the_limit_is_that_of_the_program_that_runs(
    tmp_path: Path, options: dict[str, Any], expected: list[str]
) -> None:
    life = lives(tmp_path / "runs.db")
    app, params = life(), {"of": str}
    flow = asking(app, params=params, max_active_vects=2)
    for vect, of in zip("abcd", ("us", "us", "us", "them"), strict=True):
        app.start(flow, {"of": of}, vect_id=vect)
    step_of(app)
    closed(app)
    app = life()
    asking(app, **({"params": params, "max_active_vects": 2} | options))
    app.recover()
    step_of(app)
    assert states(app.vects()) == expected
    check(app)
    closed(app)


class Damaged(MemoryEventLog):
    """A log of which some events cannot be read any more."""

    damaged: str | None = None

    def read(self, *, vect: str | None = None, **limits: Any) -> Iterator[Event]:
        if vect is not None and vect == self.damaged:
            raise LogError("it is damaged")
        return super().read(vect=vect, **limits)

    def read_each(self, vects: Sequence[str], limit: int | None = None) -> Iterator[Event]:
        for vect in vects:
            yield from islice(self.read(vect=vect), limit)


def test_one_that_cannot_be_read_does_not_change_what_others_count_for() -> None:
    log, left = MemoryEventLog(), Damaged()
    app, options = (
        OAutom(log=log, executor="inline", clock=SimulatedClock()),
        {"params": {"n": int}},
    )
    flow = asking(app, limit_by="n", **options)
    for number in (1, 2, 3, 1, 2, 3):
        app.start(flow, {"n": number}, vect_id=f"{number}{len(app.vects())}")
    step_of(app)
    for event in log.read():
        left.append(None, event)
    left.commit()
    left.damaged = "21"
    with OAutom(log=left, executor="inline", clock=SimulatedClock()) as app:
        asking(app, limit_by="n", **options)
        assert len(app.recover()) == 5
        step_of(app)
        left.damaged = None
        assert states(app.vects()) == ["running"] * 3 + ["pending", "running", "pending"]


def test_a_vect_that_waits_and_cannot_be_read_holds_up_no_other(new_app: Any) -> None:
    log = Damaged()
    app = new_app(executor="inline", log=log, clock=SimulatedClock())
    for number in range(16):  # so many are at hand, and need not be read
        asking(app, str(number), max_active_vects=None)
    _, second, third = started_in_line(app, asking(app), "abc")
    for number in range(16):
        app.start(str(number)).cancel()
    log.damaged = "b"
    app.vect("a").approve("ask", by="me")
    step_of(app)

    assert third.state == "running"
    with pytest.raises(LogError, match="it is damaged"):
        second.wait(0)
    log.damaged = None


# No limit, and a limit for each value


def test_without_a_limit_any_number_is_open(inline: OAutom) -> None:
    flow = asking(inline, max_active_vects=None, when_full="raise")
    assert set(states(started_in_line(inline, flow, "abcdefgh"))) == {"running"}
    inline.plan(flow, hours=1)
    check(inline)


def test_a_value_that_is_full_holds_up_no_other(inline: OAutom) -> None:
    flow = asking(inline, params={"customer": str, "of": int}, limit_by="customer")
    vects = [
        inline.start(flow, {"customer": customer, "of": number}, vect_id=f"{customer}{number}")
        for number in range(2)
        for customer in ("acme", "bolt")
    ]
    step_of(inline)

    assert states(vects) == ["running", "running", "pending", "pending"]
    assert (
        vects[2]
        .status()["turn"]
        .endswith('at most 1 vect of flow `flow` with customer "acme" is open')
    )
    with pytest.raises(VectAlreadyRunningException, match='already runs with customer "bolt" as'):
        inline.start(flow, {"customer": "bolt", "of": 9}, when_full="raise")
    assert inline.start(flow, {"customer": "core", "of": 9}, when_full="raise")
    end(inline, vects[1])
    assert states(vects) == ["running", "success", "pending", "running"]
    vects[1].cancel()
    told = next(event for event in vects[3].events() if event.name == "vect.started")
    assert dict(told.data) == {"limit": 1, "by": "customer"}
    check(inline)


@pytest.mark.parametrize("durable", [False, True])
def test_values_are_compared_as_json(tmp_path: Path, *, durable: bool) -> None:
    path = tmp_path / "runs.db" if durable else None
    values = [1, 1.0, True, "1", None, [1], {"a": 1, "b": 2}]
    same = [1, 1.0, True, "1", None, [1], {"b": 2, "a": 1}]
    with OAutom(log=path, executor="inline", clock=SimulatedClock()) as app:
        flow = asking(app, params={"of": Any}, limit_by="of")
        first = [app.start(flow, {"of": value}) for value in values]
        second = [app.start(flow, {"of": value}) for value in same]
        step_of(app)
        assert states(first) == ["running"] * len(values)
        assert states(second) == ["pending"] * len(values)
        check(app)
    if durable:
        with OAutom(log=path, executor="inline", clock=SimulatedClock()) as app:
            asking(app, params={"of": Any}, limit_by="of")
            app.recover()
            step_of(app)
            assert states(app.vects()) == states([*first, *second])


def test_a_default_counts_as_the_value_that_it_is(inline: OAutom) -> None:
    flow = asking(inline, params={"of": Param(str, "us")}, limit_by="of")
    vects = [inline.start(flow), inline.start(flow, {"of": "us"})]
    step_of(inline)
    assert states(vects) == ["running", "pending"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"limit_by": "custmer", "params": {"customer": str}},
            "flow 'flow': limit_by must be the name of one of its parameters, not 'custmer'",
        ),
        ({"limit_by": "customer"}, "it takes no parameters; declare them"),
        ({"limit_by": 7, "params": {"customer": str}}, "one of its parameters, not 7"),
        (
            {"limit_by": "of", "params": {"of": str}, "max_active_vects": None},
            "limit_by='of' limits nothing without max_active_vects; say how many may be open",
        ),
        ({"when_full": "queue"}, "flow 'flow': when_full must be 'raise' or 'wait', not 'queue'"),
        ({"max_active_vects": 0}, "max_active_vects must be a positive int, or None, not 0"),
    ],
    ids=lambda each: "" if isinstance(each, str) else "-".join(each),
)
def test_what_a_flow_cannot_be_told(inline: OAutom, options: dict[str, Any], told: str) -> None:
    with pytest.raises(FlowError) as caught:
        asking(inline, **options)
    assert told in str(caught.value)


def test_a_start_that_is_told_nonsense_is_refused(inline: OAutom) -> None:
    flow: Any = asking(inline)
    with pytest.raises(SettingError, match="when_full must be 'raise' or 'wait', not True"):
        inline.start(flow, when_full=True)  # type: ignore[arg-type] # that is the point
    with pytest.raises(SettingError, match="only or given needs a flow to run"):
        inline.run(when_full="wait")  # type: ignore[call-overload] # as above
    assert inline.vects() == []


# Children


def test_children_stand_in_the_same_line(inline: OAutom) -> None:
    inner = asking(inline, "inner", when_full="raise")
    main = Flow("main", inline, max_active_vects=9)
    FlowExecution("run", main, inner)
    own = inline.start(inner, vect_id="own")
    first, second = started_in_line(inline, main, "vw")
    late = inline.start(inner, vect_id="late", when_full="wait")
    step_of(inline)

    assert first.explain("run").startswith("`run` has been running since ")
    assert "vect `v/run/1` of flow `inner`, which is number 1 in line" in first.explain("run")
    second.cancel()
    assert inline.vect("w/run/1").state == "cancelled"
    end(inline, own)
    assert states([inline.vect("v/run/1"), late]) == ["running", "pending"]
    inline.vect("v/run/1").approve("ask", by="me")
    assert first.wait() == "success"
    step_of(inline)
    assert late.state == "running"
    check(inline)


def test_children_that_wait_go_on_in_the_next_life(tmp_path: Path) -> None:
    life = lives(tmp_path / "runs.db")

    def declare(app: OAutom) -> Flow:
        inner, main = asking(app, "inner", when_full="raise"), Flow("main", app)
        for name in "abc":
            FlowExecution(name, main, inner)
        return main

    app = life()
    vect = app.start(declare(app), vect_id="v")
    step_of(app)
    assert states(app.vects("inner")) == ["running", "pending", "pending"]
    closed(app)
    app = life()
    declare(app)
    app.recover()
    step_of(app)
    for name in "abc":
        end(app, app.vect(f"v/{name}/1"))
    vect = app.vect("v")
    assert vect.wait() == "success"
    assert started(app) == ["v", "v/a/1", "v/b/1", "v/c/1"]
    check(app)
    closed(app)


# Steps that wait for those that wait


@pytest.mark.parametrize("most", [1, 2])
def test_a_step_cannot_wait_for_a_turn_that_comes_when_its_own_vect_has_ended(
    new_app: Any, most: int
) -> None:
    app = new_app(OAutomMode.background)
    flow = Flow("flow", app, params={"of": int}, max_active_vects=most, when_full="wait")
    told, found, gate = list[str](), list[Vect](), Gate()

    def work(of: int) -> None:
        if of == 2:
            gate()
        if of == 0:
            if most == 2:  # the turn comes when this one has ended
                app.start(flow, {"of": 2})
                assert gate.reached.wait(SECONDS)
            found.append(app.start(flow, {"of": 1}))
            assert found[0].state == "pending"
            threading.Timer(0.05, gate.opened.set).start()
            try:
                found[0].wait(SECONDS)
            except EngineError as error:
                told.append(str(error))

    PythonExecution("work", flow, work, [flow.param("of")])
    vect = app.start(flow, {"of": 0}, vect_id="v")
    assert vect.wait(SECONDS) == "success"
    assert found[0].wait(SECONDS) == "success"
    expected = (
        f"step 'work' of vect 'v' cannot wait for vect '{found[0].id}': it waits for its turn, "
        "which comes when vect 'v' has ended; do not wait for it, or raise max_active_vects of "
        "its flow"
    )
    assert told == ([expected] if most == 1 else [])


# Plans


HOUR = 3600


@pytest.mark.parametrize("catch_up", [False, True])
@pytest.mark.parametrize("when_full", ["raise", "wait"])
def test_a_plan_that_is_due_at_the_limit(new_app: Any, *, catch_up: bool, when_full: Any) -> None:
    clock = SimulatedClock()
    app = new_app(executor="inline", clock=clock)
    flow = asking(app, when_full=when_full)
    app.plan(flow, hours=1, catch_up=catch_up)
    clock.call_later(3.5 * HOUR, app.stop)
    app.run()

    skipped = [event for event in app.log.read() if event.name == "plan.skipped"]
    vects = app.vects()
    if when_full == "wait":
        assert states(vects) == ["running", "pending", "pending"]
        assert not skipped
        assert [vect.events()[0].time for vect in vects] == [
            vects[0].events()[0].time + timedelta(hours=number) for number in range(3)
        ]
    else:
        assert states(vects) == ["running"]
        assert len(skipped) == (0 if catch_up else 2)
    end(app, vects[0])
    step_of(app)
    assert states(app.vects())[:2] == (
        ["success"] if (when_full, catch_up) == ("raise", False) else ["success", "running"]
    )
    check_history(app.log.read())


def test_a_plan_counts_for_the_value_that_it_gives(new_app: Any) -> None:
    clock = SimulatedClock()
    app = new_app(executor="inline", clock=clock)
    flow = asking(app, params={"of": str}, limit_by="of", when_full="raise")
    app.plan(flow, hours=1, params={"of": "us"}, name="us")
    app.plan(flow, hours=1, params={"of": "them"}, name="them")
    app.start(flow, {"of": "us"})
    clock.call_later(1.5 * HOUR, app.stop)
    app.run()

    assert [dict(vect.params) for vect in app.vects()] == [{"of": "us"}, {"of": "them"}]
    (skipped,) = (event for event in app.log.read() if event.name == "plan.skipped")
    assert skipped.data["plan"] == "us"
    assert 'already runs with of "us" as' in skipped.data["reason"]
