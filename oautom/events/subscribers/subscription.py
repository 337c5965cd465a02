"""Subscriptions: queued delivery, each on a thread of its own, so that none delays another."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from inspect import signature
from time import monotonic
from types import TracebackType
from typing import Final, Self

from oautom.errors import EngineError, SettingError, exhausted, shown
from oautom.events.log import EventLog, GivenUp, has_own
from oautom.events.signals import check_receiver, publish
from oautom.events.subscribers import delivery as deliveries
from oautom.events.subscribers.delivery import Delivery, Subscriber
from oautom.machine.event import Event
from oautom.machine.tables import EVENT_NAMES
from oautom.processes import forked
from oautom.values.json import at_heart, plain_count, time_limit
from oautom.values.names import one_of, plain_text

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a close waits for functions to return."""

_SEQS_SHOWN: Final = 20

_logger = logging.getLogger("oautom.subscribers")


class Subscription:
    """A function that is called for events, on a thread of its own; `OAutom.subscribe` makes it.

    A context manager: the end of the block closes it. May be used on any thread.
    """

    def __init__(self, delivery: Delivery, log: EventLog) -> None:
        self._of = delivery
        self._log = log
        self._process = forked.here

    @property
    def _delivery(self) -> Delivery:
        """The delivery, in the process that delivers.

        Raises:
            EngineError: This is a forked child of that process.
        """
        self._process.check(
            f"subscription {self.name!r}", "make a new OAutom in the forked process, and subscribe"
        )
        return self._of

    @property
    def name(self) -> str:
        """The name under which the log stores its position."""
        return self._of.name

    @property
    def position(self) -> int:
        """Number of the last event that it has dealt with: delivered, left out, or given up."""
        return self._delivery.position

    @property
    def is_open(self) -> bool:
        """Whether it receives further events."""
        return not self._delivery.is_stopped.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has dealt with all events that are committed by now.

        Args:
            timeout: Seconds to wait at most; None for no limit.

        Returns:
            False if `timeout` was over first, or if the subscription was closed before.

        Raises:
            SubscriptionFailingError: Its function has raised again in a retry, or the log could
                still not be read; the subscription goes on trying, for an unknown time.
                Not raised with a `give_up_after`.
            EngineError: The caller is its own function, which would wait for itself.
        """
        self._check_is_elsewhere("wait for")
        return self._delivery.wait_for(self._log.committed_seq, time_limit(timeout))

    def _check_is_elsewhere(self, what: str) -> None:
        if self._delivery.is_here:
            raise EngineError(
                f"the function of subscription {self.name!r} cannot {what} its own subscription; "
                "use another thread"
            )

    def given_up(self) -> list[GivenUp]:
        """Return the events that were given up and not delivered since, in the order of the log.

        Events that earlier programs have given up are among them, if the log outlives them.
        """
        self._delivery  # noqa: B018 - refuses where it is not
        return self._log.given_up(self.name)

    def redeliver(self, seq: int, timeout: float | None = None) -> bool:
        """Deliver an event that was given up once more, now, and wait for that.

        The call runs on the thread of the subscription, between two other calls of its function.

        Args:
            seq: Number of the event.
            timeout: Seconds to wait at most; the event is delivered later in any case.

        Returns:
            True if the function has returned; the event does not count as given up any more. False
            if the function has raised, and `given_up()` has the error; or if `timeout` was over
            first.

        Raises:
            SettingError: The subscription has not given up this event.
            EngineError: The subscription is closed, or the caller is its own function.
            LogError: The log cannot be read or written.
        """
        self._check_is_elsewhere("redeliver by")
        seconds = time_limit(timeout)
        known = [given_up.seq for given_up in self.given_up()]
        number = plain_count(seq)
        if number is None or number not in known:
            has = f"it has given up {_listed(known)}" if known else "it has given up none"
            raise SettingError(
                f"subscription {self.name!r} has not given up event {shown(seq)}; {has}"
            )
        return self._delivery.redeliver(number, seconds)

    def close(self, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """Stop, and store the position; to get all events, `wait` first. May be called twice.

        An event at which the function raises is not tried again: it is the first one of the next
        subscription of this name. In a forked child it does nothing.

        Args:
            timeout: Seconds to wait until the function returns from the current event; None for no
                limit. If the function itself closes its subscription, the call does not wait.
        """
        seconds = time_limit(timeout)
        if not self._process.is_here:
            return
        self._delivery.stop()
        if self._delivery.is_here or self._delivery.join(seconds):
            return
        self._delivery.keep()
        _logger.warning(
            "subscription %r is closed, but its function has not returned yet from the event "
            "after %d",
            *(self.name, self.position),
        )

    def __repr__(self) -> str:
        """Return name, whether it is open, and position."""
        kind = "closed" if self._of.is_stopped.is_set() else "open"
        return f"<Subscription {self.name!r}: {kind}, after event {self._of.position}>"

    def __enter__(self) -> Self:
        """Return the subscription."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


class Subscriptions:
    """The subscriptions of one app.

    Args:
        log: The log, which has the events and stores the positions.
        flow_of: Returns the flow of a name, or None if it is not declared.
        delays: Seconds before each further try after a failure, the last number for all that
            follow; None for 1 s, 2 s, 4 s, ... 5 min.

    Attributes:
        is_over: Set when the app and its log are closed.
    """

    def __init__(
        self,
        log: EventLog,
        flow_of: Callable[[str], object],
        delays: Sequence[float] | None = None,
    ) -> None:
        self._log = log
        self._flow_of = flow_of
        self._delays = deliveries.RETRY_DELAYS if delays is None else delays
        self._lock = threading.Lock()
        self._deliveries: dict[str, Delivery] = {}
        self._news: tuple[threading.Event, ...] = ()  # read without the lock
        self.is_over = threading.Event()

    @property
    def is_any_open(self) -> bool:
        """Whether a subscription is open."""
        return bool(self._deliveries)

    def tell(self, flow: object, event: Event) -> None:
        """Wake all, then send the public signals of a committed event. Scheduler's thread only.

        They are woken first, so that no receiver of a signal can delay them.
        """
        for news in self._news:
            if not news.is_set():
                news.set()
        publish(flow, event)

    def open(
        self,
        function: Callable[..., object],
        name: str,
        events: Iterable[str] | None,
        after: int | None,
        give_up_after: int | None = None,
    ) -> Subscription:
        """Make a subscription, and begin to deliver.

        Raises:
            SettingError: An argument cannot be used, or the name is taken.
            LogError: The log cannot store a position.
            EngineError: The system gives no thread.
        """
        check_receiver(function)
        _check_takes_events(function)
        name = _checked_name(name)
        wanted = _check_events(events)
        _check_gives_up(give_up_after, self._log)
        subscriber = Subscriber(name, function, wanted, give_up_after)
        with self._lock:
            self._check_is_free(name)
            position, kept = self._first_position(name, after)
            delivery = Delivery(subscriber, self._log, position, kept, self._flow_of, self._delays)
            delivery.on_end = lambda: self._forget(delivery)
            self._deliveries[name] = delivery
            self._note()  # before its thread reads for the first time: no commit is missed
            try:
                delivery.start()
            except RuntimeError as error:
                del self._deliveries[name]
                self._note()
                raise exhausted(f"nothing is delivered to {shown(name)}", error) from error
        return Subscription(delivery, self._log)

    def _check_is_free(self, name: str) -> None:
        taken = self._deliveries.get(name)
        if taken is None:
            return
        if taken.is_stopped.is_set():
            raise SettingError(
                f"subscription {shown(name)} is closed, but its function has not returned "
                f"yet; wait for "
                "that, or give this one another name"
            )
        raise SettingError(
            f"the app already has an open subscription {shown(name)}; close it, or give this one "
            "another name"
        )

    def _first_position(self, name: str, after: int | None) -> tuple[int, int]:
        """Return where to begin, and the position in the log, which is stored for a new name."""
        kept, committed = self._log.position(name), self._log.committed_seq
        if kept is not None and kept > committed:
            _logger.warning(
                "subscription %r has been at event %d, but the log ends with event %d: it goes on "
                "from there; is the log an older copy?",
                *(name, kept, self._log.last_seq),
            )
            kept = None
        if after is not None:
            first = _checked_after(after, self._log.last_seq)
            # What is appended may yet be refused; then another event gets its number.
            position = min(first, committed)
        else:
            position = committed if kept is None else kept
        if kept is None or position > kept:
            self._log.keep_position(name, position)
            kept = position
        return position, kept

    def _note(self) -> None:
        self._news = tuple(delivery.news for delivery in self._deliveries.values())

    def _forget(self, delivery: Delivery) -> None:
        with self._lock:
            del self._deliveries[delivery.name]
            self._note()
        atexit.unregister(delivery.join)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Deliver all committed events, store the positions, and end.

        The call does not wait for a subscription whose function makes it; that one ends when its
        function has returned.

        Args:
            timeout: Seconds after which subscriptions that have not ended are cut off.
        """
        with self._lock:
            deliveries = list(self._deliveries.values())
        for delivery in deliveries:
            delivery.finish()
        deadline = monotonic() + timeout
        for delivery in deliveries:
            if delivery.is_here:
                atexit.register(delivery.join, timeout)  # its position is to be stored
            elif not delivery.join(deadline - monotonic()):
                delivery.stop()
                delivery.keep()
                _logger.warning(
                    "subscription %r is cut off after event %d of %d: closing the app waits for at "
                    "most %g s",
                    *(delivery.name, delivery.position, self._log.last_seq, timeout),
                )

    def wait_for_close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Wait until another thread has closed the app, and a function that has done so is over.

        A function of a subscription does not wait, since that thread may wait for it.

        Args:
            timeout: Seconds to wait at most, since that thread may wait for the calling one.
        """
        with self._lock:
            deliveries = list(self._deliveries.values())
        deadline = monotonic() + timeout
        if any(delivery.is_here for delivery in deliveries) or not self.is_over.wait(timeout):
            return
        for delivery in deliveries:
            delivery.join(deadline - monotonic())


def _check_takes_events(function: Callable[..., object]) -> None:
    """Refuse a function that would raise on each event for ever."""
    try:
        taken = signature(function)
    except ValueError:  # some that are written in C do not say what they take
        return
    try:
        taken.bind(None, event=None)
    except TypeError as error:
        raise SettingError(
            f"{shown(function)} cannot be called as function(flow, event=event): {error}; "
            "define it as def function(flow, event, **_)"
        ) from None


def _checked_name(given: object) -> str:
    name = at_heart(given)
    if type(name) is not str or not name.strip() or not name.isprintable():
        raise SettingError(
            f"the name of a subscription must be printable text that is not blank, not "
            f"{shown(given)}"
        )
    return plain_text(name, "the name of a subscription")


def _check_gives_up(give_up_after: object, log: EventLog) -> None:
    if give_up_after is None:
        return
    if type(give_up_after) is not int or give_up_after < 1:
        raise SettingError(
            "give_up_after must be None or a number of calls with one event, from 1, not "
            f"{shown(give_up_after)}"
        )
    methods = ("given_up", "keep_given_up", "forget_given_up")
    if missing := [each for each in methods if not has_own(log, each)]:
        raise SettingError(
            f"give_up_after needs a log that stores given-up events; {type(log).__name__} has no "
            f"{', '.join(missing)}"
        )


def _listed(seqs: Sequence[int]) -> str:
    shown = ", ".join(map(str, seqs[:_SEQS_SHOWN]))
    return shown if len(seqs) <= _SEQS_SHOWN else f"{shown}, ... ({len(seqs)} events)"


def _check_events(events: Iterable[str] | None) -> frozenset[str] | None:
    if events is None:
        return None
    if isinstance(events, str) or not isinstance(events, Iterable):
        raise SettingError(
            f"events must be None or names of events, as ['step.failed'], not {shown(events)}"
        )
    names = list(events)
    if not names:
        raise SettingError("events must name at least one event; None stands for all")
    return frozenset(map(_known_event, names))


def _known_event(given: object) -> str:
    if (name := one_of(given, EVENT_NAMES)) is None:
        raise SettingError.of_unknown("event", given, EVENT_NAMES)
    return name


def _checked_after(after: object, newest: int) -> int:
    if (number := plain_count(after, 0)) is None or number > newest:
        raise SettingError(
            f"after must be None or the number of an event, from 0 (all events) to {newest} (only "
            f"new events), not {shown(after)}"
        )
    return number
