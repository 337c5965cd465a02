"""Delivery: the thread that calls a function for events, at least once and in order.

The log is the queue. A subscription reads the log from its position, as it needs events, so that a
slow one does not store all later events in memory; commits only wake it.

A subscription stays at its place until its function has returned. If the function, or a read of the
log, fails, it is tried again with growing delays, for as long as it takes, and no event is skipped,
unless the subscription has a `give_up_after`. A close does not wait for a delay: there is one more
try, and if that fails too, the event is left to the next subscription of the name.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Final, NamedTuple

from oautom.errors import EngineError, SettingError, SubscriptionFailingError
from oautom.events.log import EventLog, GivenUp
from oautom.events.subscribers.bookmark import Bookmark
from oautom.machine.event import Event, own_copy
from oautom.machine.wording import raised
from oautom.processes import forked

RETRY_DELAYS: tuple[float, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 300)
"""Seconds before each further try after a failure; the last number applies to all that follow."""

_FAILING_ATTEMPTS: Final = 2  # the first try may have met a moment, the second one was a retry

_logger = logging.getLogger("oautom.subscribers")


class Subscriber(NamedTuple):
    """The function of a subscription, and the events that it gets.

    Attributes:
        name: The name of the subscription.
        function: Called as `function(flow, event=event)`.
        wanted: Names of the events to call it with; None for all.
        give_up_after: How often it is called with one event at most; None for no limit.
    """

    name: str
    function: Callable[..., object]
    wanted: frozenset[str] | None = None
    give_up_after: int | None = None


class Failure(NamedTuple):
    """A failure at which a subscription stays.

    Attributes:
        seq: Number of the event.
        attempts: How often it was tried.
        error: The last exception.
        what: The same facts as the beginning of a sentence.
        is_of_log: Whether the log could not be read; else the function has raised.
    """

    seq: int
    attempts: int
    error: BaseException
    what: str
    is_of_log: bool = False


class Redelivery:
    """A request to deliver an event once more, out of order, for which a thread waits."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.is_over = threading.Event()
        self.is_delivered = False
        self.error: BaseException | None = None


class Delivery:
    """The thread behind a subscription.

    Args:
        subscriber: The function, and the events that it gets.
        log: The log with the events.
        position: Number of the event after which to begin.
        kept: The position that the log has stored.
        flow_of: Returns the flow of a name, or None if it is not declared.
        delays: Seconds before each further try; the last number applies to all that follow.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        log: EventLog,
        position: int,
        kept: int,
        flow_of: Callable[[str], object],
        delays: Sequence[float],
    ) -> None:
        self.subscriber = subscriber
        self.name = subscriber.name
        self.news = threading.Event()
        self.is_stopped = threading.Event()
        self.on_end: Callable[[], None] = lambda: None
        self._log = log
        self._flow_of = flow_of
        self._delays = delays
        self._bookmark = Bookmark(log, subscriber.name, position, kept, self._delay)
        self._is_finishing = False
        self._is_wanted = threading.Event()  # a close or a redelivery must not wait for a delay
        self._asked: deque[Redelivery] = deque()
        self._moved = threading.Condition()
        self._failure: Failure | None = None  # under `_moved`
        self._has_ended = False  # under `_moved`
        # A daemon: a function that never returns must not hold the program.
        self._thread = threading.Thread(
            target=self._serve, name=f"oautom-subscription-{self.name}", daemon=True
        )

    # Any thread

    @property
    def position(self) -> int:
        """Number of the last event that it has dealt with."""
        return self._bookmark.position

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def finish(self) -> None:
        """End the thread when all committed events are delivered, or at the first failure."""
        self._is_finishing = True
        self._wake()

    def stop(self) -> None:
        """End the thread after the current event."""
        self.is_stopped.set()
        self._wake()
        self._tell_waiting()

    def _wake(self) -> None:
        self._is_wanted.set()
        self.news.set()

    def _tell_waiting(self) -> None:
        with self._moved:
            self._moved.notify_all()

    @property
    def is_here(self) -> bool:
        """Whether the caller is its function."""
        return threading.current_thread() is self._thread

    def join(self, timeout: float | None) -> bool:
        """Wait for the end of the thread; False if that takes longer."""
        self._thread.join(None if timeout is None else max(timeout, 0))
        return not self._thread.is_alive()

    def wait_for(self, seq: int, timeout: float | None) -> bool:
        """Wait until it is past an event; False at the timeout, or if it ends before.

        Raises:
            SubscriptionFailingError: The delivery fails again and again, so that the wait may have
                no end.
        """
        with self._moved:
            self._moved.wait_for(
                lambda: self.position >= seq or self.is_stopped.is_set() or self._failing(), timeout
            )
            failure = self._failing()
        if self.position >= seq or self.is_stopped.is_set() or failure is None:
            return self.position >= seq
        raise SubscriptionFailingError(
            self.name, failure.seq, failure.attempts, is_of_log=failure.is_of_log
        ) from failure.error

    def _failing(self) -> Failure | None:
        """Return the failure that is tried without end; None with a `give_up_after`."""
        failure = self._failure
        if failure is None or failure.attempts < _FAILING_ATTEMPTS:
            return None
        has_end = self.subscriber.give_up_after is not None and not failure.is_of_log
        return None if has_end else failure

    def keep(self) -> None:
        """Store the position in the log."""
        self._bookmark.keep(at_once=True)

    def redeliver(self, seq: int, timeout: float | None) -> bool:
        """Deliver an event that was given up once more, on its thread.

        Returns:
            Whether the function has returned; False at the timeout, too.

        Raises:
            EngineError: The subscription is closed.
            SettingError: The event is not in the log any more.
            LogError: The log cannot be read or written.
        """
        redelivery = Redelivery(seq)
        with self._moved:
            if self._has_ended or self.is_stopped.is_set():
                raise self._closed_error()
            self._asked.append(redelivery)
        self._wake()
        redelivery.is_over.wait(timeout)
        if redelivery.error is not None:
            raise redelivery.error
        return redelivery.is_delivered

    def _closed_error(self) -> EngineError:
        return EngineError(
            f"subscription {self.name!r} is closed; subscribe again, and call its redeliver()"
        )

    # Its own thread

    def _serve(self) -> None:
        try:
            self._serve_until_closed()
        except BaseException:
            _logger.exception(
                "subscription %r has ended after event %d; this is a bug in oautom",
                *(self.name, self.position),
            )
        finally:
            self.keep()
            self.on_end()
            self.is_stopped.set()
            with self._moved:
                self._has_ended = True
                self._moved.notify_all()
            for redelivery in self._asked:
                redelivery.error = self._closed_error()
                redelivery.is_over.set()

    def _serve_until_closed(self) -> None:
        failures = 0
        while not self.is_stopped.is_set():
            self.news.clear()  # before the read: what is committed after it wakes again
            self._redeliver_asked()
            before = self.position
            try:
                has_moved = self._deliver_all()
            except BaseException as error:  # a log of the user's may raise anything
                failures = failures + 1 if self.position == before else 1
                what = f"cannot read the log after event {self.position}"
                self._meet(Failure(self.position + 1, failures, error, what, is_of_log=True))
                continue
            if failures:
                failures = 0
                self._get_past()
            if has_moved:
                continue
            if self._is_finishing:
                break
            self.news.wait(self._bookmark.seconds_left())

    def _deliver_all(self) -> bool:
        """Deliver all events after the position; return False if there is none."""
        before, committed = self.position, self._log.committed_seq
        wanted = self.subscriber.wanted
        for event in self._log.read(after=before):
            is_wanted = wanted is None or event.name in wanted
            if self.is_stopped.is_set() or (is_wanted and not self._deliver(event)):
                break
            self._move_to(event.seq)
            self._bookmark.keep_at_times()
        else:
            self._move_to(committed)  # over what has been pruned, too
        self._bookmark.keep()
        return self.position > before

    def _move_to(self, seq: int) -> None:
        with self._moved:
            self._bookmark.position = max(seq, self.position)
            self._moved.notify_all()

    def _deliver(self, event: Event) -> bool:
        """Call the function until it returns or is given up; False if it was stopped before."""
        attempts = 0
        while not self.is_stopped.is_set():
            if self._asked:
                self._redeliver_asked()
            error = self._call(event)
            attempts += 1
            if error is None or self._gives_up(event, error, attempts):
                if attempts > 1:
                    self._get_past()
                return True
            what = f"raised on event {event.seq} ({event.name})"
            self._meet(Failure(event.seq, attempts, error, what))
        return False

    def _call(self, event: Event) -> BaseException | None:
        """Call the function, and return its exception, or None."""
        flow, process = self._flow_of(event.flow), forked.here
        try:
            self.subscriber.function(flow, event=own_copy(event))
        except BaseException as error:  # sys.exit() must not end the thread unheard
            if not process.is_here:
                forked.end(error)
            return error
        if not process.is_here:
            forked.end()
        return None

    # What fails

    def _delay(self, failures: int) -> float:
        return self._delays[min(failures, len(self._delays)) - 1]

    def _meet(self, failure: Failure) -> None:
        """Log a failure, and wait for the next try; end at a close."""
        if self._is_finishing:
            self.is_stopped.set()
            self._tell_failure(failure, "closed, the next one of its name begins there")
            return
        delay = self._delay(failure.attempts)
        self._tell_failure(failure, f"it is tried again in {delay:g} s")
        with self._moved:
            self._failure = failure
            self._moved.notify_all()
        self._bookmark.keep()  # what was delivered before
        self._pause(delay)

    def _get_past(self) -> None:
        with self._moved:
            self._failure = None

    def _pause(self, seconds: float) -> None:
        """Wait, unless it is closed, and carry out redeliveries meanwhile."""
        end = monotonic() + seconds
        while not (self.is_stopped.is_set() or self._is_finishing):
            self._is_wanted.wait(max(end - monotonic(), 0))
            self._is_wanted.clear()
            self._redeliver_asked()
            if monotonic() >= end:
                break

    def _tell_failure(self, failure: Failure, what_next: str) -> None:
        """Log a failure in a line, but once with the traceback, when a retry has failed, too."""
        is_in_full = failure.attempts == _FAILING_ATTEMPTS
        _logger.log(
            logging.ERROR if is_in_full else logging.WARNING,
            "subscription %r %s, attempt %d; %s: %s",
            *(self.name, failure.what, failure.attempts, what_next, raised(failure.error)),
            exc_info=failure.error if is_in_full else None,
        )

    # What is given up

    def _gives_up(self, event: Event, error: BaseException, attempts: int) -> bool:
        """Whether the event is given up now; not if the log cannot store that."""
        limit = self.subscriber.give_up_after
        if limit is None or attempts < limit:
            return False
        if (problem := self._keep_given_up(event.seq, error, attempts)) is not None:
            _logger.warning(
                "subscription %r cannot give up event %d, the log does not keep it: %s",
                *(self.name, event.seq, raised(problem)),
            )
            return False
        _logger.error(
            "subscription %r raised on event %d (%s) each of %d times, and gives it up; "
            "redeliver(%d) delivers it again",
            *(self.name, event.seq, event.name, attempts, event.seq),
            exc_info=error,
        )
        return True

    def _keep_given_up(self, seq: int, error: BaseException, attempts: int) -> BaseException | None:
        given_up = GivenUp(seq, raised(error), attempts, datetime.now(UTC))
        try:
            self._log.keep_given_up(self.name, given_up)
        except BaseException as problem:  # a log of the user's may raise anything
            return problem
        return None

    def _redeliver_asked(self) -> None:
        while self._asked and not self.is_stopped.is_set():
            redelivery = self._asked.popleft()
            try:
                redelivery.is_delivered = self._redeliver(redelivery.seq)
            except BaseException as error:  # it is of who has asked
                redelivery.error = error
            redelivery.is_over.set()

    def _redeliver(self, seq: int) -> bool:
        given_up = next((g for g in self._log.given_up(self.name) if g.seq == seq), None)
        if given_up is None:  # another thread has asked, too
            return True
        event = next(self._log.read(after=seq - 1, upto=seq), None)
        if event is None:
            raise SettingError(f"event {seq} is not in the log any more, and cannot be delivered")
        error = self._call(event)
        if error is None:
            self._log.forget_given_up(self.name, seq)
            return True
        problem = self._keep_given_up(seq, error, given_up.attempts + 1)
        _logger.warning(
            "subscription %r raised on event %d (attempt %d), which stays given up: %s",
            *(self.name, seq, given_up.attempts + 1, raised(error)),
        )
        if problem is not None:
            raise problem
        return False
