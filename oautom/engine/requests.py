"""Requests of other processes, read from the log: carried out like calls here, and answered.

A start takes two ticks. A new run is admitted under the lock of the app, whose owner may wait for
the driving thread: so this happens between two ticks, as for plans. The next tick creates the Vect
and answers the request, in one commit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from oautom.engine.containment import bug
from oautom.engine.messages import Asked, command_of
from oautom.errors import (
    LogError,
    OAutomError,
    UnknownFlowError,
    UnknownPlanError,
    UnknownVectError,
    shown,
)
from oautom.events.log import EventLog
from oautom.events.requests import Request
from oautom.machine.commands import Command
from oautom.vects.registry import Registry
from oautom.vects.run import Run

_logger = logging.getLogger("oautom.scheduler")


class Requests:
    """Processes the requests in the log. Used on the driving thread, in a tick.

    Args:
        log: The log.
        registry: The runs.
        obey: Carries out what a person asks of a run; as `Scheduler.obey`.
        settle: Processes all that follows from it.
        look_again: Puts a message in the inbox after a while.
        admit: By action, admits the runs that a request asks for; without the lock of a tick.
            Filled in later.
        create: Creates a run that was admitted; as `Scheduler.create`.
        put: Puts a message in the inbox.
    """

    def __init__(
        self,
        log: EventLog,
        registry: Registry,
        obey: Callable[[Run, Command], None],
        settle: Callable[[], None],
        look_again: Callable[[Asked], None],
        admit: Mapping[str, Callable[[Request], Sequence[Run]]],
        create: Callable[[Run], None],
        put: Callable[[Asked], None],
    ) -> None:
        self._log = log
        self._registry = registry
        self._obey = obey
        self._settle = settle
        self._look_again = look_again
        self._admit = admit
        self._create = create
        self._put = put
        self._refused: set[int] = set()  # numbers of requests that have raised
        self._starts: dict[int, Request] = {}  # those whose runs are to be admitted, each once
        self._admitted: dict[int, Sequence[Run] | OAutomError] = {}  # the runs, or why not
        self._beginning: dict[int, list[Run]] = {}  # those that a request creates in this tick

    def take(self, asked: Asked) -> bool:
        """Process the requests one by one; each is refused, carried out, or left to wait.

        Returns:
            Whether there are runs for `admit_all`.
        """
        try:
            requests = self._log.requests(asked.again)
        except LogError as error:  # the requests stay until they can be read again
            _logger.warning("the requests of other processes cannot be read now: %s", error)
            self._look_again(asked)
            return False
        for request in requests:
            if request.id in self._refused:
                self._refuse(request, bug("the request was not carried out"))
                self._let_go(request)
                continue
            self._refused.add(request.id)  # if it raises, it is refused next time
            self._take_request(request)
            self._settle()
            self._refused.discard(request.id)
            self._beginning.pop(request.id, None)
        return bool(self._starts)

    def _take_request(self, request: Request) -> None:
        """Carry out a request; one that cannot be carried out is answered with the reason."""
        try:
            if request.action in self._admit and request.problem is None:
                self._start(request)
                return
            command = command_of(request)
            run = self._found(request)
            if run is not None:
                self._obey(run, command)
                self._log.done(request.id, self._log.last_seq)
        except OAutomError as error:
            self._refuse(request, error)

    def _start(self, request: Request) -> None:
        """Create the Vects of a request if its runs were admitted; else leave it for `admit_all`.

        A request whose flow is not declared waits, or is refused.

        Raises:
            OAutomError: The Vects cannot begin; the error says why.
        """
        outcome = self._admitted.pop(request.id, None)
        if outcome is None:
            flow, used = request.data["flow"], self._registry.used
            if flow in used:
                self._log.leave(request.id)
                self._starts[request.id] = request
                return
            if not request.may_wait:
                raise UnknownFlowError(flow, used)
            self._wait(request, UnknownFlowError(flow, used))
            return
        if isinstance(outcome, UnknownPlanError) and request.may_wait:
            self._wait(request, outcome)
            return
        if isinstance(outcome, OAutomError):
            raise outcome
        before = self._log.last_seq
        new = self._beginning[request.id] = [run for run in outcome if not run.is_created]
        try:
            for run in new:
                self._create(run)
        except OAutomError:
            self._let_go(request)
            raise
        has_begun = self._log.last_seq > before
        self._log.done(request.id, before + 1 if has_begun else before)

    def _let_go(self, request: Request) -> None:
        """Drop the runs of a request that has raised."""
        for run in self._beginning.pop(request.id, ()):
            if self._registry.runs.get(run.id) is run and not run.is_created:
                self._registry.drop(run)

    def admit_all(self) -> None:
        """Admit the runs that are to start. On the driving thread, between two ticks."""
        if not self._starts:
            return
        starts, self._starts = self._starts, {}
        for request in starts.values():
            try:
                self._admitted[request.id] = self._admit[request.action](request)
            except OAutomError as error:
                self._admitted[request.id] = error
            except Exception:
                _logger.exception("request %d has raised", request.id)
                self._admitted[request.id] = bug("the request was not carried out")
        self._put(Asked(again=True))

    def _found(self, request: Request) -> Run | None:
        """Return the run that a request concerns, or None if the request must wait.

        Raises:
            UnknownVectError: There is no such Vect, or it has been pruned.
            UnknownFlowError: Its flow is not declared, and a caller waits for the answer.
        """
        try:
            run = self._registry.find(request.vect, is_used=True)
        except (UnknownFlowError, LogError) as error:
            if isinstance(error, LogError):  # else the declaration of its flow wakes it
                self._look_again(Asked(again=True))
            elif not request.may_wait:
                raise
            self._wait(request, error)
            return None
        if run is None:
            raise UnknownVectError(f"the log has no vect {shown(request.vect)}")
        return run

    def _wait(self, request: Request, error: OAutomError) -> None:
        """Leave a request in the log until it can be carried out."""
        _logger.info("request %d waits: %s", request.id, error)
        self._log.leave(request.id)

    def _refuse(self, request: Request, error: OAutomError) -> None:
        _logger.log(
            logging.WARNING if request.may_wait else logging.INFO,  # else the caller gets the error
            "a request of another process was refused, request %d of vect %s: %s",
            *(request.id, shown(request.vect), error),
        )
        self._log.refuse(request.id, str(error), error)
