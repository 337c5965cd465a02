"""The public signals: one for each name of an event, and `event` for all.

    @signals.step_failed.connect
    def tell(flow, event, **_): ...

The sender is the `Flow`, so a receiver of `connect(f, sender=flow)` gets the events of one flow
only. Receivers are called on the scheduler's thread, after the commit, in the order of the log, and
for one event in the order in which they were connected. An exception of a receiver is logged, and
affects nothing else. Each receiver gets an event of its own: if it changes the data, no other
receiver sees the change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from inspect import iscoroutinefunction
from itertools import count
from threading import current_thread, main_thread
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

from blinker import ANY, Signal

from oautom.errors import SettingError, shown
from oautom.machine.deadlines import LATE, lateness
from oautom.machine.event import Event, own_copy
from oautom.processes import forked

_logger = logging.getLogger("oautom.signals")
_deadlines = logging.getLogger("oautom.deadlines")
F = TypeVar("F", bound=Callable[..., Any])


class _InOrder(set[Any]):
    """A set in the order of insertion: blinker calls receivers in the order of its sets."""

    _clock = count()

    def __init__(self, order: Mapping[Any, int] = MappingProxyType({})) -> None:
        super().__init__()
        self._order = dict(order)

    def add(self, item: Any) -> None:
        self._order.setdefault(item, next(self._clock))

    def discard(self, item: Any) -> None:
        self._order.pop(item, None)

    def copy(self) -> _InOrder:
        return _InOrder(self._order)

    def __or__(self, other: AbstractSet[Any]) -> _InOrder:
        both = {**other._order, **self._order} if isinstance(other, _InOrder) else self._order
        return _InOrder(dict(sorted(both.items(), key=lambda entry: entry[1])))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, item: object) -> bool:
        return item in self._order


class EventSignal(Signal):
    """A blinker signal that calls its receivers in order, with strong references by default."""

    set_class = _InOrder
    _is_plain = True  # all receivers get all flows, by strong references

    def heard_by(self, flow: object) -> list[Callable[..., Any]]:
        """Return the receivers for a flow, in the order in which they were connected.

        In the plain case without blinker's sets of senders: 15 % of a flow with one receiver.
        """
        if self._is_plain:
            return cast("list[Callable[..., Any]]", list(self.receivers.values()))
        return list(self.receivers_for(flow))

    def connect(self, receiver: F, sender: Any = ANY, weak: bool = False) -> F:
        """Call `receiver(flow, event=event)` for each event of this kind. Any thread.

        Args:
            receiver: Any callable but a coroutine function. Its parameters should end in `**_`,
                since future versions may send more keywords.
            sender: A `Flow`, to get its events only.
            weak: Whether to drop the receiver when nothing else refers to it. Default: False.

        Returns:
            The receiver, so that this can be used as a decorator.

        Raises:
            SettingError: `receiver` cannot be called, or is `async`; `sender` is a name or number.
        """
        check_receiver(receiver)
        if isinstance(sender, str | int):
            raise SettingError(
                f"sender must be a Flow, not {shown(sender)}; pass the Flow object itself"
            )
        if weak or sender is not ANY:
            self._is_plain = False
        return super().connect(receiver, sender, weak)


def check_receiver(receiver: object) -> None:
    """Refuse a receiver that cannot be called with an event, or would never be awaited.

    Raises:
        SettingError: `receiver` cannot be called, or is `async`.
    """
    if not callable(receiver):
        raise SettingError(f"a receiver must be callable, not {shown(receiver)}; pass a function")
    if iscoroutinefunction(receiver) or iscoroutinefunction(
        getattr(receiver, "__call__", None)  # noqa: B004 - an object whose __call__ is async
    ):
        raise SettingError(
            f"receiver {shown(receiver)} is async and would never be awaited; pass a plain function"
        )


event: Final = EventSignal("Every event.")
vect_created: Final = EventSignal("vect.created")
vect_started: Final = EventSignal("vect.started")
vect_paused: Final = EventSignal("vect.paused")
vect_resumed: Final = EventSignal("vect.resumed")
vect_ending: Final = EventSignal("vect.ending")
vect_succeeded: Final = EventSignal("vect.succeeded")
vect_failed: Final = EventSignal("vect.failed")
vect_cancelled: Final = EventSignal("vect.cancelled")
vect_reopened: Final = EventSignal("vect.reopened")
vect_recovered: Final = EventSignal("vect.recovered")
vect_late: Final = EventSignal("vect.late")
step_started: Final = EventSignal("step.started")
step_succeeded: Final = EventSignal("step.succeeded")
step_failed: Final = EventSignal("step.failed")
step_retried: Final = EventSignal("step.retried")
step_released: Final = EventSignal("step.released")
step_skipped: Final = EventSignal("step.skipped")
step_blocked: Final = EventSignal("step.blocked")
step_cancelled: Final = EventSignal("step.cancelled")
step_interrupted: Final = EventSignal("step.interrupted")
step_reset: Final = EventSignal("step.reset")
step_late_result: Final = EventSignal("step.late_result")
step_compensating: Final = EventSignal("step.compensating")
step_compensated: Final = EventSignal("step.compensated")
step_compensation_interrupted: Final = EventSignal("step.compensation_interrupted")
step_compensation_failed: Final = EventSignal("step.compensation_failed")
step_late: Final = EventSignal("step.late")
plan_created: Final = EventSignal("plan.created")
plan_skipped: Final = EventSignal("plan.skipped")

_by_name: Final = {s.__doc__: s for s in list(globals().values()) if isinstance(s, EventSignal)}


def publish(flow: object, happened: Event) -> None:
    """Send one committed event to the receivers. Scheduler's thread only."""
    if happened.name in LATE:  # to pass a deadline unnoticed would make it useless
        _call(_warn, flow, happened)
    for signal in (_by_name[happened.name], event):
        if signal.receivers:
            for receiver in signal.heard_by(flow):
                _call(receiver, flow, own_copy(happened))


def _warn(flow: object, event: Event) -> None:
    who = f"vect '{event.vect}'" + (f", step '{event.step}'" if event.step is not None else "")
    _deadlines.warning("%s of flow '%s' %s", who, event.flow, lateness(event))


def _call(receiver: Callable[..., Any], flow: object, happened: Event) -> None:
    process = forked.here
    try:
        receiver(flow, event=happened)
    except BaseException as error:  # a receiver that calls sys.exit() must not end the engine
        if not process.is_here:
            forked.end(error)
        if isinstance(error, KeyboardInterrupt) and current_thread() is main_thread():
            raise  # Ctrl-C
        _logger.exception(
            "receiver %r raised on event %d (%s); the run goes on",
            receiver,
            happened.seq,
            happened.name,
        )
    if not process.is_here:
        forked.end()
