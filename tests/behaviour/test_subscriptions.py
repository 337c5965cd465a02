"""Subscriptions: queued delivery, at least once and in order, that delays and harms nobody."""

from __future__ import annotations

import functools
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    EngineError,
    Event,
    EventLog,
    Flow,
    LogError,
    MemoryEventLog,
    OAutom,
    OAutomMode,
    PythonExecution,
    SettingError,
    SqliteEventLog,
    Subscription,
)
from oautom.events.subscribers.subscription import Subscriptions
from oautom.testing import SimulatedClock

from .conftest import SECONDS, Gate, flow_step, run_and_tell, runs_well, told
from .test_subscribers import CHAIN_EVENTS, chain, take_too_little


class Recorder:
    """Records the events that it is called with."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, flow: Any, event: Event) -> None:
        self.events.append(event)

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.events]


class Stuck(Recorder):
    """Records events; from one event on it does not return before the test says so."""

    def __init__(self, at: int = 1) -> None:
        super().__init__()
        self.at = at
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, flow: Any, event: Event) -> None:
        super().__call__(flow, event)
        if event.seq >= self.at:
            self.reached.set()
            assert self.opened.wait(SECONDS)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "subscri" in record.name]


def subscription_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("oautom-subscription")]


# What is delivered


def test_a_subscription_hears_every_event_of_the_log_in_order(any_app: OAutom) -> None:
    flow, heard = chain(any_app), Recorder()
    subscription = any_app.subscribe(heard, name="all")
    vect = run_and_tell(any_app, flow)

    assert subscription.wait(SECONDS)
    assert told(heard.events) == CHAIN_EVENTS
    assert heard.events == vect.events()
    assert subscription.position == 7


def test_one_function_serves_as_receiver_and_as_subscriber(inline: OAutom, connect: Any) -> None:
    heard: list[Any] = []

    def hear(flow: Flow, event: Event, **_: Any) -> None:
        heard.append((flow, event.seq))

    connect(hear)
    flow = chain(inline)
    inline.run(flow)
    as_receiver = list(heard)
    inline.subscribe(hear, name="a", after=0).wait(SECONDS)

    assert heard == as_receiver * 2
    assert heard[0] == (flow, 1)


def test_a_flow_that_is_not_declared_any_more_is_none(new_app: Any) -> None:
    log, heard = MemoryEventLog(), []
    app = new_app(log=log, executor="inline")
    app.run(chain(app, "old"))
    app.close()
    again = new_app(log=log)
    subscription = again.subscribe(
        lambda flow, event: heard.append((flow, event.flow)), name="a", after=0
    )

    assert subscription.wait(SECONDS)
    assert heard == [(None, "old")] * 7


def test_a_subscription_is_on_one_thread_of_its_own(mode_app: OAutom) -> None:
    threads = set()
    flow = chain(mode_app)
    subscription = mode_app.subscribe(
        lambda flow, event: threads.add(threading.current_thread()), name="mine"
    )
    mode_app.run(flow)

    assert subscription.wait(SECONDS)
    (thread,) = threads
    assert (thread.name, thread.daemon) == ("oautom-subscription-mine", True)


def test_a_new_subscription_hears_what_comes_from_now_on(inline: OAutom) -> None:
    flow, heard = chain(inline), Recorder()
    inline.run(flow)
    subscription = inline.subscribe(heard, name="late")

    assert subscription.position == 7
    inline.run(flow)
    assert subscription.wait(SECONDS)
    assert heard.seqs == list(range(8, 15))


@pytest.mark.parametrize("after", [0, 3, 7])
def test_a_subscription_begins_after_the_event_that_it_names(inline: OAutom, after: int) -> None:
    flow, heard = chain(inline), Recorder()
    inline.run(flow)
    subscription = inline.subscribe(heard, name="a", after=after)

    assert subscription.wait(SECONDS)
    assert heard.seqs == list(range(after + 1, 8))


def test_a_subscription_hears_only_the_events_that_it_names(inline: OAutom) -> None:
    flow, heard = chain(inline), Recorder()
    subscription = inline.subscribe(heard, name="a", events=iter(["step.succeeded", "step.failed"]))
    inline.run(flow)

    assert subscription.wait(SECONDS)
    assert told(heard.events) == ["step.succeeded a", "step.succeeded b"]


def test_events_that_the_filter_leaves_out_move_the_position_too(inline: OAutom) -> None:
    flow = chain(inline)
    subscription = inline.subscribe(Recorder(), name="a", events=["step.failed"])
    inline.run(flow)

    assert subscription.wait(SECONDS)
    assert subscription.position == 7
    subscription.close()
    assert inline.log.position("a") == 7  # type: ignore[attr-defined]


def test_many_more_events_than_a_batch_holds_are_delivered_in_order(inline: OAutom) -> None:
    flow, heard = Flow("wide", inline), Recorder()
    for number in range(300):
        flow_step(flow, str(number))
    subscription = inline.subscribe(heard, name="a")
    inline.run(flow)

    assert subscription.wait(SECONDS)
    assert heard.seqs == list(range(1, 604))


def test_a_subscriber_holds_a_batch_in_memory_and_not_all_that_has_happened(
    new_app: Any,
) -> None:
    class Sparing(MemoryEventLog):
        """Makes a copy of each event that it reads, as a log on disk does."""

        def read(self, *args: Any, **settings: Any) -> Any:
            for event in super().read(*args, **settings):
                copy = Event(*(getattr(event, field) for field in event.__struct_fields__))
                copies.append(copy)
                yield copy

    copies: list[Event] = []
    app, stuck = new_app(log=Sparing(), executor="inline"), Stuck()
    app.subscribe(stuck, name="a")
    flow = Flow("wide", app)
    for number in range(600):
        flow_step(flow, str(number))
    app.run(flow)
    assert stuck.reached.wait(SECONDS)

    assert 0 < len(copies) <= 150
    stuck.opened.set()


# Nobody waits for it


def test_a_blocked_subscriber_delays_neither_the_run_nor_another_one(mode_app: OAutom) -> None:
    flow, stuck, heard = chain(mode_app), Stuck(), Recorder()
    blocked = mode_app.subscribe(stuck, name="blocked")
    other = mode_app.subscribe(heard, name="other")
    vect = mode_app.run(flow)

    assert vect.state == "success"
    assert other.wait(SECONDS)
    assert told(heard.events) == CHAIN_EVENTS
    assert stuck.reached.wait(SECONDS)
    assert blocked.wait(timeout=0) is False
    assert stuck.seqs == [1]
    stuck.opened.set()
    assert blocked.wait(SECONDS)
    assert stuck.seqs == list(range(1, 8))


def test_a_slow_receiver_of_a_signal_does_not_hold_up_a_subscription(
    background: OAutom, connect: Any
) -> None:
    heard, is_heard = [], threading.Event()

    def receive(flow: Flow, event: Event) -> None:
        heard.append(is_heard.wait(SECONDS))

    connect(receive, "vect.created")
    background.subscribe(lambda flow, event: is_heard.set(), name="a")
    background.run(chain(background))

    assert heard == [True]


def test_a_subscriber_that_hears_nothing_costs_nothing(new_app: Any) -> None:
    class Counting(MemoryEventLog):
        reads = 0

        def read(self, *args: Any, **settings: Any) -> Any:
            self.reads += 1
            return super().read(*args, **settings)

    log = Counting()
    app = new_app(log=log)
    subscriptions = [app.subscribe(Recorder(), name=str(number)) for number in range(20)]
    assert all(subscription.wait(SECONDS) for subscription in subscriptions)
    threading.Event().wait(0.1)  # until the last one has looked once more, and waits
    log.reads, used = 0, time.process_time()
    threading.Event().wait(0.3)

    assert log.reads == 0
    assert time.process_time() - used < 0.05


def test_a_hundred_subscriptions_hear_everything(background: OAutom) -> None:
    heard = [Recorder() for _ in range(100)]
    subscriptions = [background.subscribe(each, name=f"s{i}") for i, each in enumerate(heard)]
    flow = chain(background)
    background.run(flow)

    assert all(subscription.wait(SECONDS) for subscription in subscriptions)
    assert [told(each.events) for each in heard] == [CHAIN_EVENTS] * 100
    background.close()
    assert subscription_threads() == []


def test_a_subscriber_may_start_cancel_and_wait_for_vects(mode_app: OAutom) -> None:
    first, second, third = chain(mode_app, "first"), chain(mode_app, "second"), Flow("3", mode_app)
    PythonExecution("a", third, lambda context: context.cancelled.wait(SECONDS))
    states: list[str] = []

    def go_on(flow: Flow, event: Event) -> None:
        if flow is first:
            states.append(mode_app.start(second).wait(SECONDS))
            waiting = mode_app.start(third)
            waiting.cancel("enough")
            states.append(waiting.wait(SECONDS))
            states.append(mode_app.vect(event.vect).wait(SECONDS))

    subscription = mode_app.subscribe(go_on, name="a", events=["vect.succeeded"])
    mode_app.run(first)

    assert subscription.wait(SECONDS)
    assert states == ["success", "cancelled", "success"]
    assert runs_well(mode_app)


def test_a_subscriber_may_run_a_flow_while_the_app_is_closed(mode_app: OAutom) -> None:
    first, second, gate = chain(mode_app, "first"), Flow("second", mode_app), Gate()
    PythonExecution("a", second, lambda context: gate() and context.cancelled.wait(SECONDS))
    states = []
    mode_app.subscribe(
        lambda flow, event: states.append(mode_app.run(second).state),
        name="a",
        events=["vect.succeeded"],
    )
    mode_app.run(first)
    assert gate.reached.wait(SECONDS)
    gate.opened.set()
    mode_app.close()

    assert states == ["cancelled"]


# One that raises


def leave(flow: Any, event: Event) -> None:
    sys.exit(3)


def break_(flow: Any, event: Event) -> None:
    raise ValueError("mine")


@pytest.mark.parametrize("function", [leave, break_])
def test_one_that_raises_is_called_again_then_logged_and_harms_nobody(
    mode_app: OAutom, caplog: pytest.LogCaptureFixture, function: Any
) -> None:
    calls: list[int] = []
    flow, heard = chain(mode_app), Recorder()

    def fail(flow: Flow, event: Event) -> None:
        calls.append(event.seq)
        if event.seq == 3:
            function(flow, event)

    failing = mode_app.subscribe(fail, name="failing")
    other = mode_app.subscribe(heard, name="other")
    vect = mode_app.run(flow)

    assert failing.wait(SECONDS)
    assert other.wait(SECONDS)
    assert vect.state == "success"
    assert told(heard.events) == CHAIN_EVENTS
    assert calls == [1, 2, 3, 3, 3, 4, 5, 6, 7]
    records = [record for record in caplog.records if record.name == "oautom.subscribers"]
    assert [record.levelno for record in records] == [logging.WARNING] * 2 + [logging.ERROR]
    assert records[0].getMessage() == (
        "subscription 'failing' raised on event 3 (step.started), and is called again in 0.1 s: "
        + ("SystemExit: 3" if function is leave else "ValueError: mine")
    )
    assert records[2].getMessage() == (
        "subscription 'failing' raised on event 3 (step.started) each of 3 times; it goes on with "
        "the next"
    )
    assert records[2].exc_info is not None
    assert runs_well(mode_app)


def test_one_that_raises_once_misses_nothing(
    inline: OAutom, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def fail_once(flow: Flow, event: Event) -> None:
        calls.append(event.seq)
        if calls == [1, 2]:
            raise ConnectionError("away")

    subscription = inline.subscribe(fail_once, name="a")
    inline.run(chain(inline))

    assert subscription.wait(SECONDS)
    assert calls == [1, 2, 2, 3, 4, 5, 6, 7]
    assert len(messages(caplog)) == 1


def test_one_that_always_raises_does_not_hold_up_the_close(
    new_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = new_app(executor="inline")
    app.subscribe(break_, name="a")
    app.run(chain(app))
    began = time.monotonic()
    app.close()

    assert time.monotonic() - began < 3
    assert sum("goes on with the next" in message for message in messages(caplog)) == 7


# Positions


def test_a_subscription_goes_on_where_it_was_in_the_life_of_another_app(new_app: Any) -> None:
    log, heard = MemoryEventLog(), Recorder()
    for _ in range(3):
        with new_app(log=log, executor="inline") as app:
            app.subscribe(heard, name="billing")
            app.run(chain(app))

    assert heard.seqs == list(range(1, 22))
    assert log.position("billing") == 21


def test_what_happens_while_it_is_closed_is_heard_afterwards(inline: OAutom) -> None:
    flow, heard = chain(inline), Recorder()
    inline.subscribe(heard, name="a").close()
    inline.run(flow)
    assert heard.events == []
    inline.subscribe(heard, name="a").wait(SECONDS)

    assert heard.seqs == list(range(1, 8))


def test_positions_are_kept_by_name(inline: OAutom) -> None:
    flow, one, other = chain(inline), Recorder(), Recorder()
    with inline.subscribe(one, name="one") as subscription:
        inline.run(flow)
        subscription.wait(SECONDS)
    inline.subscribe(other, name="other", after=0).wait(SECONDS)
    inline.subscribe(one, name="one").wait(SECONDS)

    assert one.seqs == list(range(1, 8))
    assert other.seqs == list(range(1, 8))


def test_to_begin_again_does_not_move_the_kept_position_back(inline: OAutom) -> None:
    flow, stuck = chain(inline), Stuck(at=3)
    inline.run(flow)
    inline.subscribe(Recorder(), name="a", after=7).close()
    again = inline.subscribe(stuck, name="a", after=0)
    assert stuck.reached.wait(SECONDS)
    again.close(timeout=0)

    assert again.position == 2
    assert inline.log.position("a") == 7  # type: ignore[attr-defined]
    stuck.opened.set()


def test_to_leave_out_events_moves_the_kept_position(inline: OAutom) -> None:
    inline.run(chain(inline))
    with inline.subscribe(Recorder(), name="a", after=2) as subscription:
        subscription.wait(SECONDS)
    inline.run("f")
    stuck = Stuck()
    inline.subscribe(stuck, name="a", after=9)
    assert stuck.reached.wait(SECONDS)

    assert inline.log.position("a") == 9  # type: ignore[attr-defined]
    stuck.opened.set()


class Forgetful(MemoryEventLog):
    """A log that an app dies on: from then on nothing is kept."""

    is_dead = False

    def keep_position(self, name: str, seq: int) -> None:
        if not self.is_dead:
            super().keep_position(name, seq)


@pytest.mark.parametrize("heard_before", [0, 1, 4, 7])
def test_what_was_not_kept_before_the_death_of_the_program_is_delivered_again(
    new_app: Any, heard_before: int
) -> None:
    log, heard, again = Forgetful(), Recorder(), Recorder()
    app = new_app(log=log, executor="inline")

    def hear_until_death(flow: Flow, event: Event) -> None:
        if event.seq <= heard_before:
            heard(flow, event)
        else:
            dies.set()
            assert has_died.wait(SECONDS)

    dies, has_died = threading.Event(), threading.Event()
    app.subscribe(hear_until_death, name="billing")
    log.is_dead = True
    app.run(chain(app))
    assert heard_before == 7 or dies.wait(SECONDS)
    # The next life: as if the program had ended with the first app.
    next_log = Forgetful()
    for event in log.read():
        next_log.append(None, event)
    next_log.commit()
    next_log.keep_position("billing", log.position("billing") or 0)
    with new_app(log=next_log) as next_app:
        next_app.subscribe(again, name="billing").wait(SECONDS)
    has_died.set()

    assert again.seqs == list(range(1, 8))
    assert next_log.position("billing") == 7


def test_a_new_subscription_that_dies_before_its_first_event_hears_it_in_the_next_life(
    new_app: Any,
) -> None:
    log, left, stuck, heard = MemoryEventLog(), MemoryEventLog(), Stuck(), Recorder()
    app = new_app(log=log, executor="inline")
    app.run(chain(app))
    app.subscribe(stuck, name="a")
    app.run("f")
    assert stuck.reached.wait(SECONDS)
    for event in log.read():
        left.append(None, event)
    left.commit()
    left.keep_position("a", log.position("a") or 0)
    with new_app(log=left) as next_app:
        next_app.subscribe(heard, name="a").wait(SECONDS)
    stuck.opened.set()

    assert heard.seqs == list(range(8, 15))


class Keeping(MemoryEventLog):
    """Tells when a position is kept; the first `refusals` times it cannot."""

    def __init__(self, seq: int, refusals: int = 0) -> None:
        super().__init__()
        self.seq = seq
        self.refusals = refusals
        self.is_kept = threading.Event()

    def keep_position(self, name: str, seq: int) -> None:
        if seq and self.refusals:
            self.refusals -= 1
            raise OSError("no space left")
        super().keep_position(name, seq)
        if seq == self.seq:
            self.is_kept.set()


def test_the_position_is_kept_when_there_are_no_more_events(new_app: Any) -> None:
    log = Keeping(7)
    app = new_app(log=log, executor="inline")
    app.subscribe(Recorder(), name="a")
    app.run(chain(app))

    assert log.is_kept.wait(SECONDS)


def test_the_position_of_a_slow_subscriber_is_kept_event_by_event(
    new_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oautom.events.subscribers.delivery.KEEP_INTERVAL", 0)
    log, stuck = Keeping(2), Stuck(at=3)
    app = new_app(log=log, executor="inline")
    app.run(chain(app))
    app.subscribe(stuck, name="a", after=0)

    assert log.is_kept.wait(SECONDS)
    assert stuck.reached.wait(SECONDS)
    stuck.opened.set()


def test_a_position_that_could_not_be_kept_is_kept_at_the_close(new_app: Any) -> None:
    log = Keeping(7, refusals=1)
    app = new_app(log=log, executor="inline")
    app.run(chain(app))
    subscription = app.subscribe(Recorder(), name="a", after=0)
    assert subscription.wait(SECONDS)
    subscription.close()

    assert log.position("a") == 7


def test_a_position_that_cannot_be_kept_is_logged_and_the_delivery_goes_on(
    new_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(MemoryEventLog):
        def keep_position(self, name: str, seq: int) -> None:
            if seq:
                raise OSError("no space left")

    app, heard = new_app(log=Full(), executor="inline"), Recorder()
    subscription = app.subscribe(heard, name="a")
    app.run(chain(app))
    assert subscription.wait(SECONDS)
    app.close()

    assert heard.seqs == list(range(1, 8))
    assert "events after 0 are delivered again" in messages(caplog)[0]


def test_a_log_that_cannot_be_read_ends_the_subscription_and_says_so(
    new_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Torn(MemoryEventLog):
        is_torn = False

        def read(self, *args: Any, **settings: Any) -> Any:
            if self.is_torn:
                raise OSError("bad sector")
            return super().read(*args, **settings)

    log, stuck = Torn(), Stuck(at=7)
    app = new_app(log=log, executor="inline")
    subscription = app.subscribe(stuck, name="a")
    app.run(chain(app))
    assert stuck.reached.wait(SECONDS)
    log.is_torn = True
    stuck.opened.set()
    for thread in subscription_threads():
        thread.join(SECONDS)

    assert not subscription.is_open
    assert log.position("a") == subscription.position == 7
    assert messages(caplog) == ["subscription 'a' has ended after event 7: it cannot read the log"]
    log.is_torn = False
    assert app.subscribe(Recorder(), name="a").wait(SECONDS)


# Logs in a file


def test_a_program_that_is_killed_hears_again_what_it_may_not_have_dealt_with(
    new_app: Any, tmp_path: Path
) -> None:
    path, heard = tmp_path / "runs.db", tmp_path / "heard"
    program = f"""
import os, signal, threading
from oautom import *
app = OAutom(log={str(path)!r})
flow = Flow("f", app)
PythonExecution("a", flow, int) >> PythonExecution("b", flow, int)
def hear(flow, event):
    with open({str(heard)!r}, "a") as file:
        file.write(f"{{event.seq}} ")
    if event.seq == 4:
        is_over.wait()
        os.kill(os.getpid(), signal.SIGKILL)
is_over = threading.Event()
app.subscribe(hear, name="billing")
app.run(flow)
is_over.set()
threading.Event().wait()
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, timeout=SECONDS)
    before, again = [int(seq) for seq in heard.read_text().split()], Recorder()
    with new_app(log=path) as app:
        chain(app)
        app.subscribe(again, name="billing").wait(SECONDS)

    assert killed.returncode == -signal.SIGKILL
    assert before == [1, 2, 3, 4]
    assert again.seqs == list(range(again.seqs[0], 8))
    assert again.seqs[0] <= 4


@pytest.fixture(params=["memory", "file"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    log: EventLog = (
        MemoryEventLog() if request.param == "memory" else SqliteEventLog(tmp_path / "runs.db")
    )
    yield log
    log.close()


LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.mark.parametrize("kept", [0, 150, 300])
def test_what_was_pruned_is_passed_over(tmp_path: Path, kept: int) -> None:
    """Also where it is more than a batch, or the newest there is."""
    heard: list[str] = []
    clock = SimulatedClock()
    with OAutom(log=tmp_path / "runs.db", executor="inline", clock=clock) as app:
        flow = Flow("flow", app)
        for number in range(60):
            flow_step(flow, f"{number}")
        app.run(flow, vect_id="old")
        clock.advance(3600)
        with app.subscribe(lambda flow, event: heard.append(event.vect), name="a", after=0) as it:
            assert it.wait(SECONDS)
        app.prune(older_than=timedelta(seconds=1))
        app.log.keep_position("a", min(kept, app.log.last_seq) // 3)

        with app.subscribe(lambda flow, event: heard.append(event.vect), name="a") as it:
            assert it.wait(SECONDS)
            assert it.position == app.log.last_seq
            app.run(flow, vect_id="new")
            assert it.wait(SECONDS)
    assert heard.count("old") == heard.count("new") == 123


def test_a_position_outlives_the_program_in_a_durable_log(tmp_path: Path) -> None:
    for life in (1, 2):
        heard: list[int] = []
        with OAutom(log=tmp_path / "runs.db", executor="inline") as app:
            flow = Flow("flow", app)
            flow_step(flow, "step")
            hear = functools.partial(lambda heard, flow, event: heard.append(event.seq), heard)
            with app.subscribe(hear, name="a") as it:
                app.run(flow)
                assert it.wait(SECONDS)
        assert heard == list(range(5 * life - 4, 5 * life + 1))


def test_what_is_pruned_before_it_was_delivered_is_not_waited_for(
    new_app: Any, log: EventLog
) -> None:
    app, stuck = new_app(log=log, executor="inline"), Stuck(at=3)
    subscription = app.subscribe(stuck, name="a")
    app.run(chain(app))
    assert stuck.reached.wait(SECONDS)
    app.prune(older_than=LATER)
    stuck.opened.set()

    assert subscription.wait(SECONDS)
    assert subscription.position == 7
    app.close()
    assert log.position("a") == 7


def test_an_event_that_the_log_refused_is_not_passed_over_in_the_next_life(
    new_app: Any, tmp_path: Path
) -> None:
    class Refusing(SqliteEventLog):
        """Takes the first tick; the second is refused, with two subscriptions made meanwhile."""

        def append(self, sender: object, event: Event) -> None:
            super().append(sender, event)
            if event.seq == 4:
                subscriptions.append(app.subscribe(Recorder(), name="now"))
                after = log.last_seq
                subscriptions.append(app.subscribe(Recorder(), name="after", after=after))

        def commit(self) -> Any:
            if subscriptions:
                raise LogError("no space left")
            return super().commit()

    subscriptions: list[Subscription] = []
    heard = {"now": Recorder(), "after": Recorder()}
    log = Refusing(tmp_path / "runs.db")
    app = new_app(log=log, executor="inline")
    with pytest.raises(LogError):
        app.run(chain(app))
    app.close()
    log.close()
    with new_app(log=tmp_path / "runs.db", executor="inline") as next_app:
        chain(next_app)
        for name, recorder in heard.items():
            next_app.subscribe(recorder, name=name)
        (vect,) = next_app.recover()
        assert vect.wait(SECONDS) == "success"

    assert [recorder.seqs[0] for recorder in heard.values()] == [4, 4]


# Wait and close


def test_wait_is_over_when_all_that_is_committed_is_dealt_with(background: OAutom) -> None:
    flow, heard = Flow("f", background), Recorder()
    first, last = Gate(), Gate()
    PythonExecution("a", flow, first) >> PythonExecution("b", flow, last)
    subscription = background.subscribe(heard, name="a")
    assert subscription.wait(timeout=0)  # nothing has happened
    background.start(flow)
    assert first.reached.wait(SECONDS)

    assert subscription.wait(SECONDS)
    assert told(heard.events) == ["vect.created", "vect.started", "step.started a"]
    first.opened.set()
    last.opened.set()


def test_wait_gives_up_when_the_subscription_is_closed(inline: OAutom) -> None:
    stuck, answers = Stuck(), []
    subscription = inline.subscribe(stuck, name="a")
    inline.run(chain(inline))
    assert stuck.reached.wait(SECONDS)
    waiting = threading.Thread(target=lambda: answers.append(subscription.wait()))
    waiting.start()
    subscription.close(timeout=0)
    waiting.join(SECONDS)

    assert answers == [False]
    stuck.opened.set()


def test_a_subscriber_cannot_wait_for_itself(
    inline: OAutom, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[str] = []

    def wait(flow: Flow, event: Event) -> None:
        try:
            subscription.wait()
        except EngineError as error:
            errors.append(str(error))

    subscription = inline.subscribe(wait, name="a", events=["vect.created"])
    inline.run(chain(inline))

    assert subscription.wait(SECONDS)
    assert errors == [
        "the function of subscription 'a' cannot wait for its own subscription; use another thread"
    ]


def test_a_closed_subscription_hears_no_more_and_can_be_closed_again(inline: OAutom) -> None:
    flow, heard = chain(inline), Recorder()
    with inline.subscribe(heard, name="a") as subscription:
        assert subscription.is_open
        inline.run(flow)
        assert subscription.wait(SECONDS)
    inline.run(flow)
    subscription.close()

    assert not subscription.is_open
    assert subscription.position == 7
    assert subscription.wait(SECONDS) is False
    assert heard.seqs == list(range(1, 8))
    assert repr(subscription) == "<Subscription 'a': closed, after event 7>"
    assert subscription_threads() == []


def test_a_close_stops_after_the_event_in_hand(inline: OAutom) -> None:
    stuck = Stuck()
    subscription = inline.subscribe(stuck, name="a")
    inline.run(chain(inline))
    assert stuck.reached.wait(SECONDS)
    closing = threading.Thread(target=subscription.close)
    closing.start()
    while subscription.is_open:
        threading.Event().wait(0.001)
    stuck.opened.set()
    closing.join(SECONDS)

    assert stuck.seqs == [1]
    assert inline.log.position("a") == 1  # type: ignore[attr-defined]


def test_a_close_of_a_blocked_one_keeps_its_position_and_says_so(
    inline: OAutom, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = Stuck(at=3)
    subscription = inline.subscribe(stuck, name="a")
    inline.run(chain(inline))
    assert stuck.reached.wait(SECONDS)
    subscription.close(timeout=0.01)

    assert inline.log.position("a") == 2  # type: ignore[attr-defined]
    assert messages(caplog) == [
        "subscription 'a' is closed, but its function has not returned yet from the event after 2"
    ]
    stuck.opened.set()


def test_a_subscriber_may_close_its_own_subscription(inline: OAutom) -> None:
    heard = Recorder()

    def hear_one(flow: Flow, event: Event) -> None:
        heard(flow, event)
        if event.seq == 2:
            subscription.close()

    subscription = inline.subscribe(hear_one, name="a")
    inline.run(chain(inline))
    subscription.wait(SECONDS)
    subscription.close()

    assert heard.seqs == [1, 2]
    assert inline.log.position("a") == 2  # type: ignore[attr-defined]


def test_a_close_during_the_delays_of_one_that_raises_leaves_its_event_for_later(
    inline: OAutom,
) -> None:
    has_failed_twice, calls, heard = threading.Event(), [], Recorder()

    def fail(flow: Flow, event: Event) -> None:
        calls.append(event.seq)
        if len(calls) == 2:
            has_failed_twice.set()
        raise ConnectionError("away")

    subscription = inline.subscribe(fail, name="a", events=["step.started"])
    inline.run(chain(inline))
    assert has_failed_twice.wait(SECONDS)
    began = time.monotonic()
    subscription.close()

    assert time.monotonic() - began < 0.9  # the second delay is one second
    inline.subscribe(heard, name="a").wait(SECONDS)
    assert calls == [3, 3]
    assert heard.seqs == list(range(3, 8))


def test_the_close_of_an_app_delivers_what_is_committed(new_app: Any) -> None:
    app, heard = new_app(OAutomMode.background), Recorder()
    subscription = app.subscribe(heard, name="a")
    flow = Flow("f", app)
    step = PythonExecution("a", flow, lambda context: context.cancelled.wait(SECONDS))
    step >> flow_step(flow, "b")
    vect = app.start(flow)
    app.close()

    assert vect.state == "cancelled"
    assert heard.events == vect.events()
    assert not subscription.is_open
    assert app.log.position("a") == app.log.last_seq
    assert subscription_threads() == []


def test_the_close_of_an_app_cuts_a_blocked_subscriber_off_and_says_so(
    new_app: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Subscriptions.close, "__defaults__", (0.05,))
    app, stuck, heard = new_app(executor="inline"), Stuck(at=3), Recorder()
    app.subscribe(stuck, name="blocked")
    app.subscribe(heard, name="other")
    app.run(chain(app))
    assert stuck.reached.wait(SECONDS)
    app.close()

    assert heard.seqs == list(range(1, 8))
    assert (app.log.position("blocked"), app.log.position("other")) == (2, 7)
    (message,) = messages(caplog)
    assert message == (
        "subscription 'blocked' is cut off after event 2 of 7: closing the app waits for at most "
        "0.05 s"
    )
    stuck.opened.set()
    for thread in subscription_threads():
        thread.join(SECONDS)
    assert stuck.seqs == [1, 2, 3]
    assert app.log.position("blocked") == 3


def test_a_subscriber_may_close_the_app(background: OAutom) -> None:
    heard, is_closed = Recorder(), threading.Event()

    def close(flow: Flow, event: Event) -> None:
        heard(flow, event)
        if event.seq == 2:
            background.close()
            is_closed.set()

    background.subscribe(close, name="a")
    background.start(chain(background))
    assert is_closed.wait(SECONDS)
    for thread in subscription_threads():
        thread.join(SECONDS)

    assert heard.seqs == list(range(1, background.log.last_seq + 1))


@pytest.mark.parametrize("mode", ["foreground", "background"])
def test_the_end_of_the_program_delivers_what_is_committed(program: Any, mode: str) -> None:
    ended = program(f"""
        import atexit
        app = OAutom(OAutomMode.{mode})
        PythonExecution('a', Flow('f', app), lambda: 42)
        heard = []
        def hear(flow, event):
            threading.Event().wait(0.02)
            heard.append(event.seq)
        app.subscribe(hear, name='a')
        app.run('f')
        atexit._run_exitfuncs()
        print(heard)
    """)

    assert ended.stdout == "[1, 2, 3, 4, 5]\n", ended.stderr


def test_the_end_of_the_program_does_not_hang_on_a_blocked_subscriber() -> None:
    program = """
import threading
from oautom import *
from oautom.events.subscribers.subscription import Subscriptions
from oautom.testing import SimulatedClock

Subscriptions.close.__defaults__ = (0.2,)
app = OAutom()
PythonExecution("a", Flow("f", app), lambda: 42)
app.subscribe(lambda flow, event: threading.Event().wait(), name="a")
print(app.run("f").state)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )

    assert ended.stdout == "success\n"
    assert ended.stderr == (
        "subscription 'a' is cut off after event 0 of 5: closing the app waits for at most 0.2 s\n"
    )


# From where it is asked for


def test_a_subscription_can_be_made_on_any_thread(mode_app: OAutom) -> None:
    heard, made = Recorder(), []
    thread = threading.Thread(target=lambda: made.append(mode_app.subscribe(heard, name="a")))
    thread.start()
    thread.join(SECONDS)
    mode_app.run(chain(mode_app))

    assert made[0].wait(SECONDS)
    assert told(heard.events) == CHAIN_EVENTS


def test_a_subscription_can_be_made_by_a_receiver(any_app: OAutom, connect: Any) -> None:
    heard, made = Recorder(), []

    def subscribe(flow: Flow, event: Event) -> None:
        if not made:
            made.append(any_app.subscribe(heard, name="a"))

    flow = chain(any_app)
    connect(subscribe, "step.succeeded", sender=flow)
    run_and_tell(any_app, flow)
    run_and_tell(any_app, flow)

    assert made[0].wait(SECONDS)
    assert told(heard.events)[-7:] == CHAIN_EVENTS


def test_a_subscription_can_be_made_by_a_step_and_by_a_subscriber(mode_app: OAutom) -> None:
    heard, made = Recorder(), []

    def subscribe(flow: Flow, event: Event) -> None:
        made.append(mode_app.subscribe(heard, name="third", after=0))

    flow = Flow("f", mode_app)
    flow_step(flow, "a", lambda: made.append(mode_app.subscribe(Recorder(), name="first")))
    second = mode_app.subscribe(subscribe, name="second", events=["vect.succeeded"])
    mode_app.run(flow)
    assert second.wait(SECONDS)

    assert [each.name for each in made] == ["first", "third"]
    assert made[1].wait(SECONDS)
    assert heard.seqs == [1, 2, 3, 4, 5]


def test_subscriptions_come_and_go_while_flows_run(background: OAutom) -> None:
    flow, log = Flow("f", background, max_active_vects=50), background.log
    flow_step(flow, "a") >> flow_step(flow, "b")
    heard = [Recorder() for _ in range(4)]

    def come_and_go(number: int) -> None:
        for _ in range(10):
            with background.subscribe(heard[number], name=str(number), after=None):
                background.run(flow)

    threads = [threading.Thread(target=come_and_go, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for number in range(4):
        assert background.subscribe(heard[number], name=str(number)).wait(SECONDS)

    for each in heard:
        assert each.seqs == list(range(each.seqs[0], log.last_seq + 1))


# What is refused


def test_two_open_subscriptions_of_one_name_are_refused(inline: OAutom) -> None:
    first = inline.subscribe(Recorder(), name="a")
    with pytest.raises(SettingError) as refused:
        inline.subscribe(Recorder(), name="a")
    assert str(refused.value) == (
        "the app already has an open subscription 'a'; close it, or give this one another name"
    )
    first.close()

    assert inline.subscribe(Recorder(), name="a").is_open


def test_a_name_is_free_when_the_function_has_returned(inline: OAutom) -> None:
    stuck = Stuck()
    subscription = inline.subscribe(stuck, name="a")
    inline.run(chain(inline))
    assert stuck.reached.wait(SECONDS)
    subscription.close(timeout=0)
    with pytest.raises(SettingError, match="'a' is closed, but its function has not returned yet"):
        inline.subscribe(Recorder(), name="a")
    stuck.opened.set()
    subscription.close()

    heard = Recorder()
    assert inline.subscribe(heard, name="a").wait(SECONDS)
    assert heard.seqs == list(range(2, 8))


async def hear_async(flow: Any, event: Event) -> None:
    """Never awaited."""


class HearsAsync:
    async def __call__(self, flow: Any, event: Event) -> None:
        """Never awaited."""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (3, "a receiver must be callable, not 3"),
        (hear_async, "is async and would never be awaited"),
        (functools.partial(hear_async, None), "is async and would never be awaited"),
        (HearsAsync(), "is async and would never be awaited"),
        (take_too_little, r"cannot be called as function\(flow, event=event\): too many"),
        (lambda event: None, "multiple values for argument 'event'; begin it as def function"),
        (lambda flow, event, more: None, "missing a required argument: 'more'"),
    ],
)
def test_a_function_that_cannot_hear_is_refused(
    inline: OAutom, function: Any, message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        inline.subscribe(function, name="a")

    assert subscription_threads() == []


def test_a_function_that_does_not_say_what_it_takes_is_let_through(inline: OAutom) -> None:
    assert inline.subscribe(dict, name="a").is_open  # inspect.signature(dict) raises


@pytest.mark.parametrize("name", [None, 3, "", " ", "a\nb", "a\0", "\ud800"])
def test_a_name_that_cannot_be_kept_is_refused(inline: OAutom, name: Any) -> None:
    with pytest.raises(SettingError, match="the name of a subscription must be printable text"):
        inline.subscribe(Recorder(), name=name)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (["step.faild"], r"there is no event 'step.faild'; did you mean 'step.failed'\?"),
        (["vect.failed", "step_failed"], r"no event 'step_failed'; did you mean 'step.failed'\?"),
        ([3], "there is no event 3; known: 'vect.created', "),
        ([["step.failed"]], r"there is no event \['step.failed'\]"),
        ("step.failed", r"as \['step.failed'\], not 'step.failed'"),
        (3, "must be None or names of events"),
        ([], "must name at least one event; None stands for all"),
    ],
)
def test_events_that_there_are_not_are_refused(inline: OAutom, events: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        inline.subscribe(Recorder(), name="a", events=events)


@pytest.mark.parametrize("after", [-1, 8, True, "0", 1.0])
def test_a_start_that_is_no_event_is_refused(inline: OAutom, after: Any) -> None:
    inline.run(chain(inline))
    with pytest.raises(SettingError, match=r"from 0 \(hear all\) to 7 \(hear what comes\), not"):
        inline.subscribe(Recorder(), name="a", after=after)

    assert inline.log.position("a") is None  # type: ignore[attr-defined]


def test_a_closed_app_takes_no_subscription(new_app: Any) -> None:
    app = new_app()
    app.close()
    with pytest.raises(EngineError, match="the app is closed"):
        app.subscribe(Recorder(), name="a")


def test_a_thread_that_cannot_be_started_leaves_the_name_free(
    inline: OAutom, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            inline.subscribe(Recorder(), name="a")

    heard = Recorder()
    subscription: Subscription = inline.subscribe(heard, name="a")
    inline.run(chain(inline))
    assert subscription.wait(SECONDS)
    assert len(heard.events) == 7
