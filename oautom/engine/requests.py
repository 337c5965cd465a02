"""What other processes ask for, by the log: it is done as if it was asked here, and answered.

A start takes two ticks. Who takes in a new run holds the lock of the app, whose holder may wait for
the thread that drives: so that is done between two ticks, as plans do it, and in the next one the
Vect is created and the request answered, by one commit.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from oautom.engine.containment import bug
from oautom.engine.messages import Asked, command_of
from oautom.errors import LogError, OAutomError, UnknownFlowError, UnknownVectError, shown
from oautom.events.log import EventLog
from oautom.events.requests import Request
from oautom.machine.commands import Command
from oautom.vects.registry import Registry
from oautom.vects.run import Run

_logger = logging.getLogger("oautom.scheduler")


class Requests:
    """Takes the requests that the log has. Used on the thread that drives, in a tick.

    Args:
        log: The log.
        registry: The runs.
        obey: Does what a person asks of a run; as `Scheduler.obey`.
        settle: Has happen what follows from it.
        look_again: Has a message taken after a while.
        admit: Takes in the run that a start asks for; without the lock of a tick.
        create: Has a run created that was taken in; as `Scheduler.create`.
        put: Has a message taken.
    """

    def __init__(
        self,
        log: EventLog,
        registry: Registry,
        obey: Callable[[Run, Command], None],
        settle: Callable[[], None],
        look_again: Callable[[Asked], None],
        admit: Callable[[Request], Run],
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
        self._starts: deque[Request] = deque()  # those whose runs are to be taken in
        self._admitted: dict[int, Run | OAutomError] = {}  # and what has come of that

    def take(self, asked: Asked) -> bool:
        """Do what was asked, one request after the other; each is refused, done, or left.

        Returns:
            Whether there are runs to be taken in, by `admit_all`.
        """
        try:
            requests = self._log.requests(asked.again)
        except LogError as error:  # it is there when it can be read again
            _logger.warning("what other processes ask for cannot be read now: %s", error)
            self._look_again(asked)
            return False
        for request in requests:
            if request.id in self._refused:
                self._refuse(request, bug("what was asked was not done"))
                self._let_go(request)
                continue
            self._refused.add(request.id)  # where it raises, it is not taken again
            self._take_request(request)
            self._settle()
            self._refused.discard(request.id)
        return bool(self._starts)

    def _take_request(self, request: Request) -> None:
        """Do what was asked; what cannot be done is left undone, and answered with the reason."""
        try:
            if request.action == "start" and request.problem is None:
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
        """Have a Vect begin, once its run was taken in.

        Raises:
            OAutomError: It cannot begin, and why.
        """
        outcome = self._admitted.pop(request.id, None)
        if outcome is None:
            flow, used = request.data["flow"], self._registry.used
            if flow in used:
                self._log.leave(request.id)
                self._starts.append(request)
                return
            if not request.may_wait:
                raise UnknownFlowError(flow, used)
            self._wait(request, UnknownFlowError(flow, used))
            return
        if isinstance(outcome, OAutomError):
            raise outcome
        before = self._log.last_seq
        if not outcome.is_created:
            try:
                self._create(outcome)
            except OAutomError:
                self._registry.drop(outcome)
                raise
        has_begun = self._log.last_seq > before
        self._log.done(request.id, before + 1 if has_begun else before)

    def _let_go(self, request: Request) -> None:
        """Let go of the run of a start that has raised."""
        run = self._registry.runs.get(request.vect)
        if request.action == "start" and run is not None and not run.is_created:
            self._registry.drop(run)

    def admit_all(self) -> None:
        """Take in the runs that are to start. On the thread that drives, between two ticks."""
        if not self._starts:
            return
        while self._starts:
            request = self._starts.popleft()
            try:
                self._admitted[request.id] = self._admit(request)
            except OAutomError as error:
                self._admitted[request.id] = error
            except Exception:
                _logger.exception("request %d has raised", request.id)
                self._admitted[request.id] = bug("what was asked was not done")
        self._put(Asked(again=True))

    def _found(self, request: Request) -> Run | None:
        """Return the run that is concerned, or None: then what was asked waits.

        Raises:
            UnknownVectError: There is no such Vect, or it has been pruned.
            UnknownFlowError: Its flow is not declared, and somebody waits for the answer.
        """
        try:
            run = self._registry.find(request.vect, is_used=True)
        except (UnknownFlowError, LogError) as error:
            if isinstance(error, LogError):  # else it is looked at when the flow is declared
                self._look_again(Asked(again=True))
            elif not request.may_wait:
                raise
            self._wait(request, error)
            return None
        if run is None:
            raise UnknownVectError(f"the log has no vect {shown(request.vect)}")
        return run

    def _wait(self, request: Request, error: OAutomError) -> None:
        """Have a request wait until it can be done."""
        _logger.info("request %d waits: %s", request.id, error)
        self._log.leave(request.id)

    def _refuse(self, request: Request, error: OAutomError) -> None:
        _logger.log(
            logging.WARNING if request.may_wait else logging.INFO,  # else somebody is told
            "what another process asks for is left undone, request %d of vect %s: %s",
            *(request.id, shown(request.vect), error),
        )
        self._log.refuse(request.id, str(error), error)
