"""What other processes ask for, by the log: it is done as if it was asked here, and answered."""

from __future__ import annotations

import logging
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
    """

    def __init__(
        self,
        log: EventLog,
        registry: Registry,
        obey: Callable[[Run, Command], None],
        settle: Callable[[], None],
        look_again: Callable[[Asked], None],
    ) -> None:
        self._log = log
        self._registry = registry
        self._obey = obey
        self._settle = settle
        self._look_again = look_again
        self._refused: set[int] = set()  # numbers of requests that have raised

    def take(self, asked: Asked) -> None:
        """Do what was asked, one request after the other; each is refused, done, or left."""
        try:
            requests = self._log.requests(asked.again)
        except LogError as error:  # it is there when it can be read again
            _logger.warning("what other processes ask for cannot be read now: %s", error)
            self._look_again(asked)
            return
        for request in requests:
            if request.id in self._refused:
                self._refuse(request, bug("what was asked was not done"))
                continue
            self._refused.add(request.id)  # where it raises, it is not taken again
            self._take_request(request)
            self._settle()
            self._refused.discard(request.id)

    def _take_request(self, request: Request) -> None:
        """Do what was asked; what cannot be done is left undone, and answered with the reason."""
        try:
            command = command_of(request)
            run = self._found(request)
            if run is not None:
                self._obey(run, command)
        except OAutomError as error:
            self._refuse(request, error)

    def _found(self, request: Request) -> Run | None:
        """Return the run that is concerned, or None: then what was asked waits.

        Raises:
            UnknownVectError: There is no such Vect, or it has been pruned.
        """
        try:
            run = self._registry.find(request.vect, is_used=True)
        except (UnknownFlowError, LogError) as error:
            if isinstance(error, LogError):  # else it is looked at when the flow is declared
                self._look_again(Asked(again=True))
            _logger.info("request %d waits: %s", request.id, error)
            self._log.leave(request.id)
            return None
        if run is None:
            raise UnknownVectError(f"the log has no vect {shown(request.vect)}")
        return run

    def _refuse(self, request: Request, error: OAutomError) -> None:
        _logger.warning(
            "what another process asks for is left undone, request %d of vect %s: %s",
            *(request.id, shown(request.vect), error),
        )
        self._log.refuse(request.id, str(error))
