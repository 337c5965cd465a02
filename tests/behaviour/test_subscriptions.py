"""Subscriptions: queued delivery, at least once and in order, that delays and harms nobody."""

from __future__ import annotations

import contextlib
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

import msgspec
import pytest

from oautom import (
    EngineError,
    Event,
    EventLog,
    Flow,
    GivenUp,
    LogCorruptError,
    LogError,
    MemoryEventLog,
    OAutom,
    OAutomMode,
    PythonExecution,
    SettingError,
    SqliteEventLog,
    Subscription,
    SubscriptionFailingError,
)
from oautom.events.subscribers import delivery
from oautom.events.subscribers.bookmark import Bookmark
from oautom.events.subscribers.subscription import Subscriptions
from oautom.machine.wording import raised
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


class Failing(Recorder):
    """Records events, but raises when it is called for some of them, as often as it is told to."""

    def __init__(self, *failing: int, times: int = 10**9, raises: Any = break_) -> None:
        super().__init__()
        self.failing = failing
        self.times = times
        self.raises = raises
        self.calls: list[int] = []
        self.news = threading.Condition()

    def __call__(self, flow: Any, event: Event) -> None:
        with self.news:
            self.calls.append(event.seq)
            self.news.notify_all()
        if event.seq in self.failing and self.calls.count(event.seq) <= self.times:
            self.raises(flow, event)
        super().__call__(flow, event)

    def wait_for_calls(self, seq: int, times: int) -> None:
        with self.news:
            assert self.news.wait_for(lambda: self.calls.count(seq) >= times, SECONDS)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what has failed tried again almost at once."""
    monkeypatch.setattr(delivery, "RETRY_DELAYS", (0.001, 0.002))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing tried again that has failed."""
    monkeypatch.setattr(delivery, "RETRY_DELAYS", (3600,))


def test_the_delays_grow_from_one_second_to_five_minutes() -> None:
    assert delivery.RETRY_DELAYS == (1, 2, 4, 8, 16, 32, 64, 128, 256, 300)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("function", [leave, break_])
def test_one_that_raises_is_called_again_until_it_returns_and_harms_nobody(
    mode_app: OAutom, caplog: pytest.LogCaptureFixture, function: Any
) -> None:
    flow, failing, other = chain(mode_app), Failing(3, times=4, raises=function), Recorder()
    subscription = mode_app.subscribe(failing, name="failing")
    neighbour = mode_app.subscribe(other, name="other")
    vect = mode_app.run(flow)

    assert vect.state == "success"
    assert neighbour.wait(SECONDS)
    failing.wait_for_calls(7, 1)
    assert subscription.wait(SECONDS)
    assert told(other.events) == CHAIN_EVENTS
    assert failing.calls == [1, 2, 3, 3, 3, 3, 3, 4, 5, 6, 7]
    error = "SystemExit: 3" if function is leave else "ValueError: mine"
    assert messages(caplog) == [
        f"subscription 'failing' raised on event 3 (step.started), attempt {attempt}; it is tried "
        f"again in {'0.001' if attempt == 1 else '0.002'} s: {error}"
        for attempt in (1, 2, 3, 4)
    ]
    records = [record for record in caplog.records if record.name == "oautom.subscribers"]
    assert [record.levelname for record in records] == ["WARNING", "ERROR", "WARNING", "WARNING"]
    assert [record.exc_info is not None for record in records] == [False, True, False, False]
    assert runs_well(mode_app)


@pytest.mark.usefixtures("fast")
def test_one_that_raises_once_misses_nothing(
    inline: OAutom, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Failing(2, times=1)
    subscription = inline.subscribe(failing, name="a")
    inline.run(chain(inline))

    assert subscription.wait(SECONDS)
    assert failing.calls == [1, 2, 2, 3, 4, 5, 6, 7]
    assert len(messages(caplog)) == 1


@pytest.mark.usefixtures("fast")
def test_each_call_is_given_an_event_of_its_own(inline: OAutom) -> None:
    outputs: list[Any] = []

    def spoil(flow: Flow, event: Event) -> None:
        outputs.append(list(event.data["output"]))
        event.data["output"].clear()
        if len(outputs) == 1:
            raise ConnectionError("away")

    PythonExecution("a", Flow("f", inline), lambda: [1, 2])
    subscription = inline.subscribe(spoil, name="a", events=["step.succeeded"])
    inline.run("f")

    assert subscription.wait(SECONDS)
    assert outputs == [[1, 2], [1, 2]]


@pytest.mark.usefixtures("slow")
def test_events_that_were_delivered_before_a_failure_are_kept_at_once(
    inline: OAutom, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Failing(5)
    subscription = inline.subscribe(failing, name="a")
    inline.run(chain(inline))
    failing.wait_for_calls(5, 1)
    subscription.close()

    assert failing.calls == [1, 2, 3, 4, 5]
    assert inline.log.position("a") == 4


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("times", [1, 2])
def test_the_close_of_an_app_asks_one_that_fails_once_more_and_loses_nothing(
    new_app: Any, log: EventLog, caplog: pytest.LogCaptureFixture, times: int
) -> None:
    app, failing, again = new_app(log=log, executor="inline"), Failing(3, times=times), Recorder()
    app.subscribe(failing, name="mail")
    app.run(chain(app))
    failing.wait_for_calls(3, 1)
    app.close()

    heard = [1, 2] if times == 2 else list(range(1, 8))
    assert failing.calls.count(3) == 2
    assert failing.seqs == heard
    assert log.position("mail") == heard[-1]
    assert len(messages(caplog)) == times
    assert times == 1 or messages(caplog)[-1] == (
        "subscription 'mail' raised on event 3 (step.started), attempt 2; closed, the next one of "
        "its name begins there: ValueError: mine"
    )
    with new_app(log=log) as next_app:
        chain(next_app)
        assert next_app.subscribe(again, name="mail").wait(SECONDS)
    assert again.seqs == list(range(heard[-1] + 1, 8))


@pytest.mark.usefixtures("slow")
def test_one_that_begins_to_fail_during_the_close_of_an_app_is_not_asked_again(
    new_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    gate, calls = Gate(), []

    def fail(flow: Flow, event: Event) -> None:
        calls.append(event.seq)
        gate()
        raise ValueError("mine")

    app = new_app(executor="inline")
    subscription = app.subscribe(fail, name="a")
    app.run(chain(app))
    assert gate.reached.wait(SECONDS)
    closing = threading.Thread(target=app.close)
    closing.start()
    while not app._subscriptions._deliveries["a"]._is_finishing:
        threading.Event().wait(0.001)
    gate.opened.set()
    closing.join(SECONDS)

    assert (calls, app.log.position("a"), subscription.is_open) == ([1], 0, False)


@pytest.mark.usefixtures("slow")
def test_the_close_of_a_subscription_asks_one_that_fails_no_more(inline: OAutom) -> None:
    failing, again = Failing(3), Recorder()
    subscription = inline.subscribe(failing, name="a")
    inline.run(chain(inline))
    failing.wait_for_calls(3, 1)
    subscription.close()

    assert failing.calls == [1, 2, 3]
    assert inline.subscribe(again, name="a").wait(SECONDS)
    assert again.seqs == [3, 4, 5, 6, 7]


def test_a_huge_and_unprintable_error_is_told_in_a_line(
    inline: OAutom, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(flow: Flow, event: Event) -> None:
        raise ValueError("no\n\x1b[1m\ud800 " + "x" * 10**6)

    caplog.set_level(logging.CRITICAL)  # what has half a character cannot travel between processes
    subscription = inline.subscribe(fail, name="a", give_up_after=1)
    inline.run(chain(inline))

    assert subscription.wait(SECONDS)
    (error, *_) = {given_up.error for given_up in subscription.given_up()}
    assert error.startswith("ValueError: no [1m xxx")
    assert len(error) < 600
    assert error.isprintable()


# To wait for one that fails


@pytest.mark.usefixtures("fast")
def test_wait_tells_that_a_retry_has_failed(mode_app: OAutom) -> None:
    failing = Failing(3)
    subscription = mode_app.subscribe(failing, name="mail")
    mode_app.run(chain(mode_app))
    with pytest.raises(SubscriptionFailingError) as failed:
        subscription.wait()

    error = failed.value
    assert (error.name, error.seq, subscription.position) == ("mail", 3, 2)
    assert error.attempts >= 2
    assert str(error) == (
        f"the function of subscription 'mail' has raised {error.attempts} times on event 3, and is "
        "called again and again; remove the cause, or subscribe with give_up_after=n"
    )
    assert isinstance(error.__cause__, ValueError)
    failing.failing = ()
    failing.wait_for_calls(7, 1)
    assert subscription.wait(SECONDS)
    assert failing.seqs == list(range(1, 8))


@pytest.mark.usefixtures("slow")
def test_wait_does_not_tell_of_the_first_failure(inline: OAutom) -> None:
    failing = Failing(3)
    subscription = inline.subscribe(failing, name="mail")
    inline.run(chain(inline))
    failing.wait_for_calls(3, 1)

    assert subscription.wait(0.02) is False


# What is given up


@pytest.mark.usefixtures("fast")
def test_what_is_given_up_is_kept_and_the_next_event_follows(
    mode_app: OAutom, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Failing(3, 5)
    subscription = mode_app.subscribe(failing, name="mail", give_up_after=3)
    before = datetime.now(UTC)
    mode_app.run(chain(mode_app))

    assert subscription.wait(SECONDS)
    assert failing.calls == [1, 2, 3, 3, 3, 4, 5, 5, 5, 6, 7]
    assert [given_up[:3] for given_up in subscription.given_up()] == [
        (3, "ValueError: mine", 3),
        (5, "ValueError: mine", 3),
    ]
    assert all(before <= given_up.time <= datetime.now(UTC) for given_up in subscription.given_up())
    assert subscription.position == 7
    assert (
        "subscription 'mail' raised on event 3 (step.started) each of 3 times, and gives it up; "
        "redeliver(3) delivers it again" in messages(caplog)
    )
    assert mode_app.subscribe(Recorder(), name="other").given_up() == []
    assert [event.name for event in mode_app.log.read()][-1] == "vect.succeeded"


def test_once_may_be_enough(inline: OAutom) -> None:
    failing = Failing(1, 2, 3, 4, 5, 6, 7)
    subscription = inline.subscribe(failing, name="a", give_up_after=1)
    inline.run(chain(inline))

    assert subscription.wait(SECONDS)
    assert failing.calls == [given_up.seq for given_up in subscription.given_up()]


def test_what_was_given_up_can_be_delivered_again_in_any_order(
    inline: OAutom, log: EventLog, new_app: Any
) -> None:
    app, failing = new_app(log=log, executor="inline"), Failing(3, 5, 6)
    app.subscribe(failing, name="mail", give_up_after=1)
    app.run(chain(app))
    app.close()
    threads: list[str] = []

    def hear(flow: Any, event: Event) -> None:
        threads.append(threading.current_thread().name)
        failing(flow, event)

    with new_app(log=log) as next_app:
        flow = chain(next_app)
        subscription = next_app.subscribe(hear, name="mail")
        assert [given_up.seq for given_up in subscription.given_up()] == [3, 5, 6]
        failing.failing = (5,)
        assert subscription.redeliver(6) is True
        assert subscription.redeliver(5, timeout=SECONDS) is False
        assert subscription.redeliver(5) is False
        assert [given_up[:3] for given_up in subscription.given_up()] == [
            (3, "ValueError: mine", 1),
            (5, "ValueError: mine", 3),
        ]
        assert subscription.position == 7
        failing.failing = ()
        assert subscription.redeliver(3) is True
        assert subscription.redeliver(5) is True
        assert subscription.given_up() == []
        next_app.run(flow)
        assert subscription.wait(SECONDS)
    assert failing.seqs[4:8] == [6, 3, 5, 8]
    assert set(threads) == {"oautom-subscription-mail"}
    assert log.given_up("mail") == []


def test_a_redelivery_does_not_wait_for_a_delay(inline: OAutom, monkeypatch: Any) -> None:
    monkeypatch.setattr(delivery, "RETRY_DELAYS", (3600,))
    with OAutom(executor="inline") as app:
        failing = Failing(1)
        subscription = app.subscribe(failing, name="a", give_up_after=1)
        app.run(chain(app))
        assert subscription.wait(SECONDS)
        subscription.close()
        failing.failing = (8,)
        again = app.subscribe(failing, name="a")
        app.run("f")
        failing.wait_for_calls(8, 1)

        assert again.redeliver(1) is True
        assert failing.calls[-2:] == [8, 1]
        assert (again.position, again.is_open) == (7, True)


def test_a_redelivery_waits_for_the_function_and_not_for_ever(inline: OAutom) -> None:
    stuck = Stuck(at=2)

    def hear(flow: Any, event: Event) -> None:
        if event.seq == 1 and not stuck.events:
            stuck.at = 2
            stuck.events.append(event)
            raise ValueError("mine")
        stuck(flow, event)

    subscription = inline.subscribe(hear, name="a", give_up_after=1)
    inline.run(chain(inline))
    assert stuck.reached.wait(SECONDS)
    assert subscription.redeliver(1, timeout=0.01) is False
    stuck.opened.set()
    assert subscription.redeliver(1) is True
    assert subscription.given_up() == []


@pytest.mark.parametrize("seq", [2, 99, 0, -1, True, "3", None, 3.5])
def test_an_event_that_was_not_given_up_is_not_delivered_again(inline: OAutom, seq: Any) -> None:
    subscription = inline.subscribe(Failing(1, 3), name="mail", give_up_after=1)
    inline.run(chain(inline))
    assert subscription.wait(SECONDS)
    with pytest.raises(SettingError) as refused:
        subscription.redeliver(seq)

    assert str(refused.value) == (
        f"subscription 'mail' has not given up event {seq!r}; it has given up 1, 3"
    )
    with pytest.raises(SettingError, match="it has given up none"):
        inline.subscribe(Recorder(), name="other").redeliver(1)


def test_a_long_list_of_what_was_given_up_is_cut_short(inline: OAutom) -> None:
    subscription = inline.subscribe(break_, name="a", give_up_after=1)
    for _ in range(4):
        inline.run(chain(inline) if "f" not in inline.flows() else "f")
    assert subscription.wait(SECONDS)
    with pytest.raises(SettingError, match=r"it has given up 1, 2, .*, 20, \.\.\. \(28 events\)$"):
        subscription.redeliver(99)


def test_a_closed_subscription_delivers_nothing_again(inline: OAutom) -> None:
    subscription = inline.subscribe(Failing(1), name="mail", give_up_after=1)
    inline.run(chain(inline))
    assert subscription.wait(SECONDS)
    subscription.close()

    assert [given_up.seq for given_up in subscription.given_up()] == [1]
    with pytest.raises(EngineError, match="subscription 'mail' is closed; subscribe again"):
        subscription.redeliver(1)


def test_who_waits_for_a_redelivery_is_told_of_the_close(inline: OAutom) -> None:
    stuck, errors = Stuck(at=2), []

    def hear(flow: Any, event: Event) -> None:
        if event.seq == 1:
            raise ValueError("mine")
        stuck(flow, event)

    subscription = inline.subscribe(hear, name="a", give_up_after=1)
    inline.run(chain(inline))
    assert stuck.reached.wait(SECONDS)

    def ask() -> None:
        try:
            subscription.redeliver(1)
        except EngineError as error:
            errors.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    while not inline._subscriptions._deliveries["a"]._asked:
        threading.Event().wait(0.001)
    subscription.close(timeout=0)
    stuck.opened.set()
    asking.join(SECONDS)

    assert errors == ["subscription 'a' is closed; subscribe again, and call its redeliver()"]


def test_a_subscriber_cannot_redeliver_by_itself(inline: OAutom) -> None:
    errors: list[str] = []

    def hear(flow: Flow, event: Event) -> None:
        try:
            subscription.redeliver(1)
        except EngineError as error:
            errors.append(str(error))

    subscription = inline.subscribe(hear, name="a", events=["vect.created"])
    inline.run(chain(inline))
    assert subscription.wait(SECONDS)
    (error,) = errors
    assert error == (
        "the function of subscription 'a' cannot redeliver by its own subscription; use another "
        "thread"
    )


class Ungiving(MemoryEventLog):
    """Cannot keep what is given up, for a while."""

    refusals = 2

    def keep_given_up(self, name: str, given_up: GivenUp) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError("no space left")
        super().keep_given_up(name, given_up)


@pytest.mark.usefixtures("fast")
def test_what_cannot_be_kept_as_given_up_is_not_given_up(
    new_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    log, failing = Ungiving(), Failing(2)
    app = new_app(log=log, executor="inline")
    subscription = app.subscribe(failing, name="a", give_up_after=1)
    app.run(chain(app))

    assert subscription.wait(SECONDS)
    assert failing.calls.count(2) == 3
    assert [given_up[:3] for given_up in subscription.given_up()] == [(2, "ValueError: mine", 3)]
    assert messages(caplog)[0] == (
        "subscription 'a' cannot give up event 2, the log does not keep it: OSError: no space left"
    )
    log.refusals = 1
    with pytest.raises(OSError, match="no space left"):
        subscription.redeliver(2)
    assert subscription.is_open


def test_what_two_ask_for_is_delivered_once(inline: OAutom) -> None:
    stuck, answers = Stuck(at=2), []
    failing = Failing(1, times=1)

    def hear(flow: Any, event: Event) -> None:
        failing(flow, event)
        if event.seq == 2:
            stuck(flow, event)

    subscription = inline.subscribe(hear, name="a", give_up_after=1)
    inline.run(chain(inline))
    assert stuck.reached.wait(SECONDS)
    asking = [
        threading.Thread(target=lambda: answers.append(subscription.redeliver(1))) for _ in "ab"
    ]
    for thread in asking:
        thread.start()
    while len(inline._subscriptions._deliveries["a"]._asked) < 2:
        threading.Event().wait(0.001)
    stuck.opened.set()
    for thread in asking:
        thread.join(SECONDS)

    assert answers == [True, True]
    assert failing.calls.count(1) == 2


def test_what_was_given_up_and_is_lost_cannot_be_delivered_again(inline: OAutom) -> None:
    subscription = inline.subscribe(Recorder(), name="a")
    inline.log.keep_given_up("a", GivenUp(99, "away", 1, datetime.now(UTC)))
    with pytest.raises(SettingError, match="event 99 is not in the log any more"):
        subscription.redeliver(99)


@pytest.mark.parametrize("give_up_after", [0, -1, True, 2.0, "3", float("inf")])
def test_a_number_of_attempts_that_cannot_be_is_refused(inline: OAutom, give_up_after: Any) -> None:
    with pytest.raises(SettingError, match="give_up_after must be None or a number of calls"):
        inline.subscribe(Recorder(), name="a", give_up_after=give_up_after)


def test_a_log_that_keeps_nothing_of_that_is_told_to_who_would_give_up(new_app: Any) -> None:
    class Plain(MemoryEventLog):
        given_up = EventLog.given_up
        keep_given_up = EventLog.keep_given_up

    app = new_app(log=Plain())
    with pytest.raises(SettingError, match=r"Plain has no given_up, keep_given_up$"):
        app.subscribe(Recorder(), name="a", give_up_after=1)
    assert app.subscribe(Recorder(), name="a").given_up() == []


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
    monkeypatch.setattr("oautom.events.subscribers.bookmark.KEEP_INTERVAL", 0)
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


class Torn(MemoryEventLog):
    """Cannot be read, while it is torn."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error
        self.is_torn = False
        self.tries = 0

    def read(self, *args: Any, **settings: Any) -> Any:
        if self.is_torn:
            self.tries += 1
            raise self.error
        return super().read(*args, **settings)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    "error",
    [
        OSError("no file descriptor is free"),
        LogCorruptError("runs.db", "event 8 is not what was written", 8),
        SystemExit(3),
    ],
)
def test_a_log_that_cannot_be_read_for_a_while_is_tried_again(
    new_app: Any, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    log, stuck = Torn(error), Stuck(at=7)
    app = new_app(log=log, executor="inline")
    subscription = app.subscribe(stuck, name="a")
    app.run(chain(app))
    assert stuck.reached.wait(SECONDS)
    log.is_torn = True
    stuck.opened.set()
    while log.tries < 3:
        threading.Event().wait(0.001)
    log.append(None, msgspec.structs.replace(stuck.events[-1], seq=8))
    log.commit()
    with pytest.raises(SubscriptionFailingError) as failing:
        subscription.wait(SECONDS)

    assert (failing.value.seq, failing.value.name) == (8, "a")
    assert failing.value.__cause__ is error
    assert "the log could not be read for subscription 'a'" in str(failing.value)
    assert subscription.is_open
    assert messages(caplog)[0] == (
        "subscription 'a' cannot read the log after event 7, attempt 1; it is tried again in "
        f"0.001 s: {raised(error)}"
    )
    log.is_torn = False
    while subscription.position < 8:
        threading.Event().wait(0.001)
    assert subscription.wait(SECONDS)
    assert stuck.seqs == list(range(1, 9))


@pytest.mark.usefixtures("slow")
def test_a_log_that_cannot_be_read_at_the_close_is_tried_once_more(
    new_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    log, stuck = Torn(OSError("bad sector")), Stuck(at=7)
    app = new_app(log=log, executor="inline")
    subscription = app.subscribe(stuck, name="a")
    app.run(chain(app))
    assert stuck.reached.wait(SECONDS)
    log.is_torn = True
    stuck.opened.set()
    while not messages(caplog):
        threading.Event().wait(0.001)
    app.close()

    assert (log.tries, log.position("a"), subscription.is_open) == (2, 7, False)
    assert messages(caplog)[-1] == (
        "subscription 'a' cannot read the log after event 7, attempt 2; closed, the next one of "
        "its name begins there: OSError: bad sector"
    )


@pytest.mark.usefixtures("fast")
def test_a_log_that_breaks_off_again_and_again_but_goes_on_is_no_failing(new_app: Any) -> None:
    class Rough(MemoryEventLog):
        def read(self, *args: Any, **settings: Any) -> Any:
            for number, event in enumerate(super().read(*args, **settings)):
                if number == 2:
                    raise OSError("away")
                yield event

    app, heard = new_app(log=Rough(), executor="inline"), Recorder()
    subscription = app.subscribe(heard, name="a")
    app.run(chain(app))

    assert subscription.wait(SECONDS)
    assert heard.seqs == list(range(1, 8))


def test_a_mistake_of_ours_ends_a_subscription_not_unheard(
    inline: OAutom, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(bookmark: Bookmark) -> float:
        raise AssertionError

    monkeypatch.setattr(Bookmark, "seconds_left", fail)
    subscription = inline.subscribe(Recorder(), name="a")
    join_subscriptions()

    assert not subscription.is_open
    assert messages(caplog) == ["subscription 'a' has ended after event 0; this is a bug in oautom"]


@pytest.mark.usefixtures("fast")
def test_a_position_that_could_not_be_kept_is_kept_later_though_nothing_happens(
    new_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    log = Keeping(7, refusals=5)
    app = new_app(log=log, executor="inline")
    app.run(chain(app))
    app.subscribe(Recorder(), name="a", after=0)

    assert log.is_kept.wait(SECONDS)
    assert len(messages(caplog)) == 5
    assert messages(caplog)[0] == (
        "subscription 'a': position 7 could not be kept, which is tried again in 0.001 s; events "
        "after 0 are delivered again if the program ends now: OSError: no space left"
    )


def test_a_position_behind_the_end_of_the_log_is_not_believed(
    new_app: Any, log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.keep_position("a", 500)  # as where the file has been replaced by an older copy
    app, heard = new_app(log=log, executor="inline"), Recorder()
    flow = chain(app)
    app.run(flow)
    subscription = app.subscribe(heard, name="a")
    assert (subscription.position, log.position("a")) == (7, 7)
    (message,) = messages(caplog)
    assert message == (
        "subscription 'a' has been at event 500, but the log ends with event 7: it goes on from "
        "there; is the log an older copy?"
    )
    app.run(flow)
    assert subscription.wait(SECONDS)
    app.close()

    assert heard.seqs == list(range(8, 15))
    assert log.position("a") == 14


def test_a_start_that_is_named_does_not_believe_such_a_position_either(
    new_app: Any, log: EventLog
) -> None:
    log.keep_position("a", 500)
    app, heard = new_app(log=log, executor="inline"), Recorder()
    app.run(chain(app))
    with app.subscribe(heard, name="a", after=2) as subscription:
        assert subscription.wait(SECONDS)

    assert heard.seqs == [3, 4, 5, 6, 7]
    assert log.position("a") == 7


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


def closing(app: OAutom, calls: list[int]) -> Any:
    """A function that closes the app that it is called by."""

    def close(flow: Flow, event: Event) -> None:
        calls.append(event.seq)
        app.close()

    return close


def join_subscriptions() -> None:
    for thread in subscription_threads():
        thread.join(SECONDS)


def test_one_that_closes_the_app_has_heard_the_event_in_the_next_life(tmp_path: Path) -> None:
    calls: list[list[int]] = []
    for life in range(3):
        app = OAutom(OAutomMode.background, log=tmp_path / "runs.db")
        flow = chain(app)
        calls.append([])
        app.subscribe(closing(app, calls[-1]), name="stop", events=["vect.succeeded"])
        if life == 0:
            app.start(flow, vect_id="one")
            join_subscriptions()
        app.close()  # waits for the function that has closed it
        with contextlib.closing(SqliteEventLog(tmp_path / "runs.db", read_only=True)) as log:
            assert log.position("stop") == 7

    assert calls == [[7], [], []]


def test_the_next_life_can_begin_when_a_second_close_returns(tmp_path: Path) -> None:
    path, is_closing, go_on = tmp_path / "runs.db", threading.Event(), threading.Event()
    app = OAutom(OAutomMode.background, log=path)

    def close(flow: Flow, event: Event) -> None:
        is_closing.set()
        app.close()
        assert go_on.wait(SECONDS)

    app.subscribe(close, name="stop", events=["vect.created"])
    app.start(chain(app))
    assert is_closing.wait(SECONDS)
    threading.Timer(0.05, go_on.set).start()
    app.close()
    assert go_on.is_set()
    heard = Recorder()
    with OAutom(log=path) as next_app:
        chain(next_app)
        next_app.subscribe(heard, name="stop", events=["vect.created"]).wait(SECONDS)

    assert heard.events == []


def test_one_that_raises_after_it_has_closed_the_app_has_not_heard_the_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app, heard = OAutom(OAutomMode.background, log=tmp_path / "runs.db"), Recorder()

    def close(flow: Flow, event: Event) -> None:
        app.close()
        raise ValueError("mine")

    app.subscribe(close, name="stop", events=["vect.succeeded"])
    app.start(chain(app))
    join_subscriptions()
    with OAutom(log=tmp_path / "runs.db") as next_app:
        next_app.subscribe(heard, name="stop", events=["vect.succeeded"]).wait(SECONDS)

    assert heard.seqs == [7]
    assert "closed, the next one of its name begins there" in messages(caplog)[-1]


def test_one_that_closes_itself_has_heard_the_event_in_the_next_life(tmp_path: Path) -> None:
    heard, again = Recorder(), Recorder()
    with OAutom(log=tmp_path / "runs.db", executor="inline") as app:

        def close(flow: Flow, event: Event) -> None:
            heard(flow, event)
            subscription.close()

        subscription = app.subscribe(close, name="a")
        app.run(chain(app))
        join_subscriptions()
    with OAutom(log=tmp_path / "runs.db") as next_app:
        next_app.subscribe(again, name="a").wait(SECONDS)

    assert (heard.seqs, again.seqs) == ([1], [2, 3, 4, 5, 6, 7])


def test_one_that_was_cut_off_and_returns_later_has_heard_the_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Subscriptions.close, "__defaults__", (0.01,))
    app, stuck = OAutom(log=tmp_path / "runs.db", executor="inline"), Stuck(at=3)
    app.subscribe(stuck, name="a")
    app.run(chain(app))
    assert stuck.reached.wait(SECONDS)
    app.close()
    with contextlib.closing(SqliteEventLog(tmp_path / "runs.db", read_only=True)) as log:
        assert log.position("a") == 2
        stuck.opened.set()
        join_subscriptions()
        assert log.position("a") == 3


@pytest.mark.parametrize("count", [2, 5])
def test_several_subscribers_may_close_the_app_at_once(tmp_path: Path, count: int) -> None:
    app = OAutom(OAutomMode.background, log=tmp_path / "runs.db")
    together, calls = threading.Barrier(count + 1), []

    def close(flow: Flow, event: Event) -> None:
        together.wait(SECONDS)
        app.close()
        calls.append(event.seq)

    for number in range(count):
        app.subscribe(close, name=f"{number}", events=["vect.created"])
    app.start(chain(app))
    together.wait(SECONDS)
    began = time.monotonic()
    app.close()
    join_subscriptions()

    assert time.monotonic() - began < 3
    assert calls == [1] * count
    with contextlib.closing(SqliteEventLog(tmp_path / "runs.db", read_only=True)) as log:
        assert {log.position(f"{number}") for number in range(count)} == {log.last_seq}


def test_subscribers_may_close_each_other(inline: OAutom) -> None:
    together, others = threading.Barrier(2), {}

    def close(name: str) -> Any:
        def hear(flow: Flow, event: Event) -> None:
            together.wait(SECONDS)
            others[name].close(timeout=0.05)

        return hear

    others["a"] = inline.subscribe(close("a"), name="b", events=["vect.created"])
    others["b"] = inline.subscribe(close("b"), name="a", events=["vect.created"])
    inline.run(chain(inline))
    join_subscriptions()

    assert (inline.log.position("a"), inline.log.position("b")) == (1, 1)


def test_a_position_is_kept_though_the_program_ends_at_once(tmp_path: Path) -> None:
    program = f"""
import threading
from oautom import *
app = OAutom(OAutomMode.background, log={str(tmp_path / "runs.db")!r})
flow = Flow("f", app)
PythonExecution("a", flow, int)
is_closed = threading.Event()
def stop(flow, event):
    app.close()
    is_closed.set()
    threading.Event().wait(0.1)
app.subscribe(stop, name="stop", events=["vect.succeeded"])
app.start(flow)
is_closed.wait()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=SECONDS)
    with contextlib.closing(SqliteEventLog(tmp_path / "runs.db", read_only=True)) as log:
        assert log.position("stop") == log.last_seq == 5


def test_a_program_that_is_killed_while_a_subscriber_fails_has_lost_nothing(
    new_app: Any, tmp_path: Path
) -> None:
    path, again = tmp_path / "runs.db", Recorder()
    program = f"""
import os, signal
from oautom import *
from oautom.events.subscribers import delivery
delivery.RETRY_DELAYS = (0.001,)
app = OAutom(log={str(path)!r})
flow = Flow("f", app)
PythonExecution("a", flow, int) >> PythonExecution("b", flow, int)
calls = []
def hear(flow, event):
    calls.append(event.seq)
    if len(calls) > 9:
        os.kill(os.getpid(), signal.SIGKILL)
    if event.seq == 3:
        raise ConnectionError("away")
    if event.seq == 2 and calls.count(2) < 3:
        raise ConnectionError("away")
app.subscribe(hear, name="mail")
app.run(flow)
while True:
    signal.pause()
"""
    killed = subprocess.run(
        [sys.executable, "-c", program], check=False, timeout=SECONDS, stderr=subprocess.DEVNULL
    )
    with new_app(log=path) as app:
        chain(app)
        app.subscribe(again, name="mail").wait(SECONDS)

    assert killed.returncode == -signal.SIGKILL
    assert again.seqs == [3, 4, 5, 6, 7]


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
        (lambda event: None, "multiple values for argument 'event'; define it as def function"),
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
    with pytest.raises(SettingError, match=r"from 0 \(all events\) to 7 \(only new events\), not"):
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
