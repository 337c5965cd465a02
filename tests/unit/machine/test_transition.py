"""The machine: every transition emits its event, then moves, then tells."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from transitions import MachineError

from oautom.machine.tables import STEP_EVENTS, STEP_TABLE, VECT_EVENTS, VECT_TABLE, Row
from oautom.machine.transition import LoggedMachine, NotAppendedError, Wire


class Model:
    def __init__(self, state: str = "pending") -> None:
        self.state = state
        self.name: str | None = "a"
        self.vect = SimpleNamespace(id="v")


class Recorder:
    """Makes 'events' that can be compared, and hears both signals of a machine."""

    def __init__(self, table: tuple[Row, ...] = STEP_TABLE, names=STEP_EVENTS) -> None:
        self.heard: list[tuple[str, str]] = []
        self.made: list[tuple[Any, ...]] = []
        emitted, appended = Wire(), Wire()
        emitted.connect(self.on_emitted, weak=False)
        appended.connect(self.on_appended, weak=False)
        self.machine = LoggedMachine(table, names, self.record, emitted, appended)

    def record(self, model: Any, *told: Any) -> Any:
        self.made.append(told)
        return told

    def on_emitted(self, sender: Any, *, event: Any) -> None:
        self.heard.append(("emitted", sender.state))

    def on_appended(self, sender: Any, *, event: Any) -> None:
        assert event is self.made[-1]
        self.heard.append(("appended", sender.state))


def test_emitted_is_sent_while_the_state_is_old_and_appended_when_it_is_new() -> None:
    recorder, model = Recorder(), Model()

    recorder.machine.fire(model, "start", 1, {})

    assert recorder.heard == [("emitted", "pending"), ("appended", "running")]
    assert model.state == "running"


def test_the_event_is_made_of_all_that_the_transition_knows() -> None:
    recorder, model = Recorder(), Model("running")
    data = {"output": 42}

    recorder.machine.fire(model, "succeed", 3, data)

    assert recorder.made == [("step.succeeded", "running", "success", 3, data)]


@pytest.mark.parametrize("key", ["model", "self", "event_data", "attempt", "trigger"])
def test_data_may_have_any_key(key: str) -> None:
    recorder, model = Recorder(), Model()

    recorder.machine.fire(model, "start", 1, {key: "mine"})

    assert recorder.made[0][-1] == {key: "mine"}


def test_an_append_that_raises_leaves_the_state_where_it_was() -> None:
    recorder, model = Recorder(), Model()

    def full(sender: Any, *, event: Any) -> None:
        raise OSError("disk full")

    recorder.machine.emitted.connect(full, weak=False)
    with pytest.raises(NotAppendedError) as raised:
        recorder.machine.fire(model, "start", 1, {})
    assert str(raised.value.__cause__) == "disk full"

    assert model.state == "pending"
    assert recorder.heard == [("emitted", "pending")]  # and nobody was told that it moved


def test_receivers_are_called_in_the_order_of_connection_and_held_strongly() -> None:
    wire, order = Wire(), []
    for number in range(50):
        wire.connect(lambda sender, *, event, number=number: order.append(number), weak=False)
    gc.collect()

    wire.send(Model(), event=None)  # type: ignore[arg-type]

    assert order == list(range(50))


@pytest.mark.parametrize(
    ("table", "names"),
    [
        pytest.param(STEP_TABLE, STEP_EVENTS, id="step"),
        pytest.param(VECT_TABLE, VECT_EVENTS, id="vect"),
    ],
)
def test_each_trigger_moves_from_each_state_as_the_table_says_or_not_at_all(table, names) -> None:
    dests = {(row.trigger, row.source): row.dest for row in table}
    states = {row.source for row in table} | {row.dest for row in table}
    for trigger in names:
        for state in states:
            recorder, model = Recorder(table, names), Model(state)
            if (trigger, state) in dests:
                recorder.machine.fire(model, trigger, None, {})
                assert model.state == dests[trigger, state]
                assert recorder.made[0][0] == names[trigger]
            else:
                with pytest.raises(MachineError):
                    recorder.machine.fire(model, trigger, None, {})
                assert model.state == state
                assert recorder.made == recorder.heard == []


def test_an_illegal_trigger_names_the_step_the_vect_and_the_state() -> None:
    with pytest.raises(MachineError) as caught:
        Recorder().machine.fire(Model("success"), "start", 1, {})

    assert caught.value.value == "cannot start a of v: it is success"


def test_an_illegal_trigger_of_a_vect_says_so() -> None:
    model = Model("success")
    model.name = None
    with pytest.raises(MachineError) as caught:
        Recorder(VECT_TABLE, VECT_EVENTS).machine.fire(model, "start", None, {})

    assert caught.value.value == "cannot start vect of v: it is success"


def test_models_share_a_machine_and_do_not_move_each_other() -> None:
    recorder, one, other = Recorder(), Model(), Model()

    recorder.machine.fire(one, "start", 1, {})

    assert (one.state, other.state) == ("running", "pending")


def test_the_machine_keeps_no_model_alive_and_adds_nothing_to_it() -> None:
    recorder, model = Recorder(), Model()
    attributes = set(dir(model))

    recorder.machine.fire(model, "start", 1, {})

    assert set(dir(model)) == attributes
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None
    assert recorder.machine.models == []


def test_no_transition_goes_round_the_table() -> None:
    machine = Recorder().machine

    assert set(machine.events) == set(STEP_EVENTS)  # no to_success(), which asks nobody


@pytest.mark.parametrize(
    ("table", "names", "states"),
    [
        (
            STEP_TABLE,
            STEP_EVENTS,
            [
                *("pending", "running", "success", "failed", "up_for_retry"),
                *("skipped", "upstream_failed", "cancelled"),
            ],
        ),
        (
            VECT_TABLE,
            VECT_EVENTS,
            ["pending", "running", "success", "failed", "cancelled", "paused", "ending"],
        ),
    ],
    ids=["step", "vect"],
)
def test_it_is_a_machine_of_transitions_that_can_be_looked_at(table, names, states) -> None:
    machine = Recorder(table, names).machine

    assert list(machine.states) == states
    assert machine.initial == "pending"
    assert set(machine.events) == set(names)  # and no trigger to go to any state
