"""The state machines: every transition emits its event, then moves, then notifies.

All steps of all Vects share one `transitions.Machine`, all Vects a second one. A model is never
added to its machine: `machine.events[trigger].trigger(model)` works without that, in a fiftieth of
the memory, and the machine keeps nothing alive. May be used on the scheduler's thread only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from blinker import Signal
from transitions import Event as TriggerTable
from transitions import EventData, Machine, MachineError, Transition

from oautom.machine.event import Event
from oautom.machine.tables import INITIAL, STEP_EVENTS, STEP_TABLE, VECT_EVENTS, VECT_TABLE, Row


class Wire(Signal):
    """A blinker signal inside the engine: few receivers, with strong references, never `async`.

    Its `send` leaves out the work of blinker for weak, async and sender-bound receivers: 8 us of a
    step's 50.
    """

    def send(self, sender: Any, /, *, event: Event) -> None:  # type: ignore[override] # lean
        """Call the receivers in the order in which they were connected."""
        for receiver in self.receivers.values():
            receiver(sender, event=event)  # type: ignore[call-arg] # never a weak reference


Record = Callable[[Any, str, str, str, int | None, Mapping[str, Any]], Event]
"""Makes the event of a transition: (model, event name, source, dest, attempt, data)."""


class NotAppendedError(Exception):
    """The log has refused an event: `__cause__` is the reason. Never leaves oautom."""


class LoggedTransition(Transition):
    """A transition that is written to the log before the state moves.

    If a receiver of `emitted` raises, nothing has moved. No callback of `transitions` is run: one
    that raises after the change could not undo it.
    """

    def execute(self, event_data: EventData) -> bool:
        """Emit the event, move the state, notify: the whole of a transition."""
        machine: Any = event_data.machine
        model: Any = event_data.model
        told = event_data.kwargs
        name = machine.event_names[event_data.event.name]
        event = machine.record(model, name, self.source, self.dest, told["attempt"], told["data"])
        try:
            machine.emitted.send(model, event=event)
        except Exception as error:
            raise NotAppendedError from error
        model.state = self.dest
        machine.appended.send(model, event=event)
        return True


class LoggedTrigger(TriggerTable):
    """A trigger that finds its transition and executes it, and no more.

    The tables have no conditions, queue or callbacks, and one transition for each trigger and
    source; the work of `transitions` for these would be a fifth of the time of a step.
    """

    def trigger(self, model: Any, *, attempt: int | None, data: Mapping[str, Any]) -> bool:
        """Execute the transition from the model's state.

        Raises:
            MachineError: The trigger is not allowed in this state; nothing has changed.
        """
        if model.state not in self.transitions:
            raise MachineError(
                f"cannot {self.name} {model.name or 'vect'} of {model.vect.id}: it is {model.state}"
            )
        told = {"attempt": attempt, "data": data}
        event_data = EventData(None, self, self.machine, model, args=(), kwargs=told)
        return self.transitions[model.state][0].execute(event_data)


class LoggedMachine(Machine):
    """One table of transitions, and the two signals that carry each of its events.

    Args:
        table: The transitions.
        event_names: The name of the event of each trigger.
        record: Makes the event.
        emitted: Sent while the state is still the old one; the log is its receiver.
        appended: Sent when log and state agree; the scheduler is its receiver.
    """

    transition_cls = LoggedTransition
    event_cls = LoggedTrigger

    def __init__(
        self,
        table: tuple[Row, ...],
        event_names: Mapping[str, str],
        record: Record,
        emitted: Wire,
        appended: Wire,
    ) -> None:
        self.event_names = event_names
        self.record = record
        self.emitted = emitted
        self.appended = appended
        states = dict.fromkeys(state for row in table for state in (row.source, row.dest))
        super().__init__(
            model=None,
            states=list(states),
            initial=INITIAL,
            transitions=[list(row) for row in table],
            auto_transitions=False,
        )

    def fire(
        self, model: object, trigger: str, attempt: int | None, data: Mapping[str, Any]
    ) -> None:
        """Fire one trigger on one model.

        Raises:
            MachineError: The trigger is not allowed in this state; nothing has changed.
        """
        self.events[trigger].trigger(model, attempt=attempt, data=data)


def machines(record: Record, emitted: Wire, appended: Wire) -> tuple[LoggedMachine, LoggedMachine]:
    """Return the machine of all steps, and that of all Vects; arguments as of `LoggedMachine`."""
    return (
        LoggedMachine(STEP_TABLE, STEP_EVENTS, record, emitted, appended),
        LoggedMachine(VECT_TABLE, VECT_EVENTS, record, emitted, appended),
    )
