"""The public signals: who is called, in which order, and who is refused."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from oautom import SettingError
from oautom.events import signals
from oautom.events.signals import EventSignal, publish
from oautom.machine.tables import EVENT_NAMES
from tests.kit import created, started

FLOW = SimpleNamespace(name="f")
OTHER_FLOW = SimpleNamespace(name="g")
CREATED, STARTED = created(1, {}), started(2)


@pytest.fixture(autouse=True)
def _forget_receivers() -> Iterator[None]:
    yield
    for each in vars(signals).values():
        if isinstance(each, EventSignal):
            for receiver in list(each.receivers.values()):
                each.disconnect(receiver)


def recorder(heard: list, name: object):
    def receive(flow, event, **_) -> None:
        heard.append((name, flow, event))

    return receive


def test_the_events_of_the_tables_are_the_public_signals() -> None:
    public = {name for name, each in vars(signals).items() if isinstance(each, EventSignal)}

    assert public == {name.replace(".", "_") for name in EVENT_NAMES} | {"event"}


def test_an_event_is_told_to_the_signal_of_its_name_then_to_the_one_for_all() -> None:
    heard: list = []
    signals.event.connect(recorder(heard, "all"))
    signals.vect_created.connect(recorder(heard, "created"))
    signals.vect_started.connect(recorder(heard, "started"))

    publish(FLOW, CREATED)
    publish(FLOW, STARTED)

    assert heard == [
        ("created", FLOW, CREATED),
        ("all", FLOW, CREATED),
        ("started", FLOW, STARTED),
        ("all", FLOW, STARTED),
    ]


def test_receivers_are_called_in_the_order_of_connection() -> None:
    heard: list = []
    for number in range(100):
        signals.vect_started.connect(recorder(heard, number))

    publish(FLOW, STARTED)

    assert [number for number, *_ in heard] == list(range(100))


def test_one_that_has_left_and_comes_back_is_the_last() -> None:
    heard: list = []
    receivers = [recorder(heard, number) for number in range(3)]
    for receiver in receivers:
        signals.vect_started.connect(receiver)
    signals.vect_started.disconnect(receivers[0])
    signals.vect_started.connect(receivers[0])

    publish(FLOW, STARTED)

    assert [number for number, *_ in heard] == [1, 2, 0]


def test_receivers_of_one_flow_keep_their_place_among_the_others() -> None:
    heard: list = []
    signals.vect_started.connect(recorder(heard, "first, of this flow"), sender=FLOW)
    signals.vect_started.connect(recorder(heard, "second, of all flows"))
    signals.vect_started.connect(recorder(heard, "third, of this flow"), sender=FLOW)

    publish(FLOW, STARTED)

    assert [name for name, *_ in heard] == [
        "first, of this flow",
        "second, of all flows",
        "third, of this flow",
    ]


def test_a_receiver_of_one_flow_hears_of_no_other() -> None:
    heard: list = []
    signals.event.connect(recorder(heard, "f only"), sender=FLOW)

    publish(OTHER_FLOW, STARTED)
    assert heard == []

    publish(FLOW, STARTED)
    assert len(heard) == 1


def test_connected_twice_is_called_once() -> None:
    heard: list = []
    receiver = recorder(heard, "once")
    signals.event.connect(receiver)
    signals.event.connect(receiver)
    signals.event.connect(receiver, sender=FLOW)

    publish(FLOW, STARTED)

    assert len(heard) == 1


def test_what_nobody_else_holds_is_kept() -> None:
    heard: list = []

    class Temporary:
        def receive(self, flow, event) -> None:
            heard.append("method")

    signals.event.connect(lambda *_, **__: heard.append("lambda"))
    signals.event.connect(Temporary().receive)
    signals.event.connect(functools.partial(lambda word, *_, **__: heard.append(word), "partial"))
    gc.collect()

    publish(FLOW, STARTED)

    assert heard == ["lambda", "method", "partial"]


def test_one_that_is_held_weakly_goes_with_its_owner() -> None:
    heard: list = []
    receiver = recorder(heard, "weak")
    signals.event.connect(receiver, weak=True)
    publish(FLOW, STARTED)
    assert len(heard) == 1

    del receiver
    gc.collect()

    publish(FLOW, STARTED)
    assert len(heard) == 1


def test_connect_gives_the_receiver_back_so_that_it_decorates() -> None:
    heard: list = []

    @signals.vect_started.connect
    def receive(flow, event, **_) -> None:
        heard.append(event)

    assert callable(receive)
    publish(FLOW, STARTED)
    assert heard == [STARTED]


def test_one_that_raises_is_logged_by_name_and_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list = []

    def breaks(flow, event) -> None:
        raise ValueError("mine")

    signals.vect_started.connect(breaks)
    signals.vect_started.connect(recorder(heard, "next"))
    signals.event.connect(recorder(heard, "all"))

    with caplog.at_level(logging.ERROR, "oautom.signals"):
        publish(FLOW, STARTED)

    assert [name for name, *_ in heard] == ["next", "all"]
    (record,) = caplog.records
    assert record.name == "oautom.signals"
    assert "breaks" in record.getMessage()
    assert "event 2 (vect.started)" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, asyncio.CancelledError])
def test_one_that_wants_to_end_the_program_is_logged_too(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def leaves(flow, event) -> None:
        raise error

    signals.vect_started.connect(leaves)
    publish(FLOW, STARTED)

    assert len(caplog.records) == 1


def test_a_receiver_without_the_event_is_logged_not_called_wrongly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    signals.vect_started.connect(lambda: None)
    publish(FLOW, STARTED)

    assert caplog.records[0].exc_info[0] is TypeError  # type: ignore[index]


def test_one_may_leave_or_bring_others_while_it_is_called() -> None:
    heard: list = []
    newcomer = recorder(heard, "newcomer")

    def once(flow, event) -> None:
        heard.append(("once", flow, event))
        signals.vect_started.disconnect(once)
        signals.vect_started.connect(newcomer)

    signals.vect_started.connect(once)
    signals.vect_started.connect(recorder(heard, "steady"))

    publish(FLOW, STARTED)
    publish(FLOW, STARTED)

    assert [name for name, *_ in heard if name != "newcomer"] == ["once", "steady", "steady"]
    assert heard[-1][0] == "newcomer"


async def coroutine_function(flow, event) -> None:
    raise AssertionError("never called")


class WithAsyncCall:
    async def __call__(self, flow, event) -> None:
        raise AssertionError("never called")


class WithAsyncMethod:
    async def receive(self, flow, event) -> None:
        raise AssertionError("never called")


@pytest.mark.parametrize(
    "receiver",
    [
        coroutine_function,
        WithAsyncCall(),
        WithAsyncMethod().receive,
        functools.partial(coroutine_function, None),
    ],
    ids=["function", "callable object", "method", "partial"],
)
def test_a_receiver_that_would_never_be_awaited_is_refused(receiver) -> None:
    with pytest.raises(SettingError, match="is async and would never be awaited; pass a plain"):
        signals.event.connect(receiver)

    assert not signals.event.receivers


@pytest.mark.parametrize("receiver", [None, 5, "tell"])
def test_a_receiver_that_cannot_be_called_is_refused(receiver) -> None:
    with pytest.raises(SettingError, match=f"must be callable, not {receiver!r}; pass a function"):
        signals.event.connect(receiver)

    assert not signals.event.receivers


@pytest.mark.parametrize("sender", ["f", 0, 1, True])
def test_a_name_or_number_is_no_sender(sender) -> None:
    with pytest.raises(SettingError, match=f"sender must be a Flow, not {sender!r}; pass the Flow"):
        signals.event.connect(lambda flow, event: None, sender=sender)

    assert not signals.event.receivers


def test_of_one_flow_too_who_has_left_and_comes_back_is_the_last() -> None:
    heard: list = []
    receivers = [recorder(heard, number) for number in range(3)]
    for receiver in receivers:
        signals.vect_started.connect(receiver, sender=FLOW)
    signals.vect_started.disconnect(receivers[0], sender=FLOW)
    signals.vect_started.connect(receivers[0], sender=FLOW)

    publish(FLOW, STARTED)

    assert [number for number, *_ in heard] == [1, 2, 0]


def test_the_ordered_set_of_receivers_is_a_set() -> None:
    ordered = signals._InOrder()
    for item in "bab":
        ordered.add(item)

    assert list(ordered) == ["b", "a"]
    assert len(ordered) == 2
    assert "a" in ordered
    assert "c" not in ordered

    copy = ordered.copy()
    ordered.discard("b")
    ordered.discard("c")
    assert list(ordered) == ["a"]
    assert list(copy) == ["b", "a"]
