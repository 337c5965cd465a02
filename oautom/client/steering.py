"""Asking an engine for something by the file of its log, and waiting for the answer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from time import monotonic, sleep
from typing import Any, Final, NamedTuple

from oautom.client.engine import Told
from oautom.client.follow import LOOK_SECONDS, News
from oautom.errors import (
    LogError,
    LogVersionError,
    NoEngineError,
    OAutomError,
    SettingError,
    UnansweredError,
    WithdrawnError,
    shown,
)
from oautom.events.log import Holder
from oautom.events.sqlite import SqliteEventLog
from oautom.values.json import plain_count

_FIRST_LOOK: Final = 0.001  # seconds; each further one takes twice as long, up to LOOK_SECONDS
_ALIVE_SECONDS: Final = 1.0  # after so many it is looked whether there is still an engine


class Answer(NamedTuple):
    """What has become of a request.

    Attributes:
        number: The number of the request; None where no other process was asked.
        seq: The number of the event that came of it; where it changed nothing, of the newest one
            there was. None as long as it waits for an engine.
        refusal: Why it was left undone; None if it was carried out.
        time: When that was.
        error: The refusal, as the error that the method itself raises.
    """

    number: int | None
    seq: int | None
    refusal: str | None = None
    time: datetime | None = None
    error: OAutomError | None = None


class Backfill(NamedTuple):
    """What has become of a backfill.

    Attributes:
        vects: The ids of the Vects that it has started, in the order of their times.
        number: The number of the request, if it waits for an engine: `Client.answer` tells later
            whether it was carried out. Else None.
    """

    vects: list[str]
    number: int | None = None


class Steering:
    """Asks the engine of one log.

    Args:
        log: The log, open for reading.
    """

    def __init__(self, log: SqliteEventLog) -> None:
        self._log = log

    def ask(
        self, vect: str, action: str, told: Mapping[str, Any], seconds: float, *, is_queued: bool
    ) -> Answer:
        """Have something done, and return the answer.

        Args:
            vect: Id of the Vect.
            action: What to do.
            told: How.
            seconds: How long to wait for the answer.
            is_queued: It may wait for an engine for as long as it takes.

        Raises:
            OAutomError: It was refused, or there is no answer.
        """
        self._check_writable()
        holder = self._log.holder()
        if not is_queued:
            self._check_engine(holder)
        number = self._log.ask_until(None if is_queued else seconds, vect, action, told)
        if holder is None:  # it is left to the next one
            return Answer(number, None)
        return self._answered(number, vect, action, seconds, is_queued=is_queued)

    def _check_writable(self) -> None:
        path = self._log.path
        if not os.access(path, os.W_OK):
            raise LogError(
                f"log '{path}' can be read by this process and not written, so it can ask for "
                "nothing; have its owner allow that, or ask as its owner"
            )

    def _check_engine(self, holder: Holder | None) -> None:
        """Refuse to ask where nobody would answer."""
        path = str(self._log.path)
        if holder is None:
            raise NoEngineError(path, f"no engine is at work on log '{path}'")
        if self._log.is_old:
            version, known = self._log.version
            raise LogVersionError(path, version, known)
        if Told(self._log.told(), path).engine(holder) is None:
            why = f"process {holder.pid} has log '{path}' open, and has no engine at work on it"
            raise NoEngineError(path, why)

    def _answered(
        self, number: int, vect: str, action: str, seconds: float, *, is_queued: bool
    ) -> Answer:
        deadline, news, pause = monotonic() + seconds, News(self._log), _FIRST_LOOK
        looked = monotonic()
        try:
            while (now := monotonic()) < deadline:
                if news.are_there() and (answer := self._find(number)) is not None:
                    return self._heard(answer)
                if now - looked > _ALIVE_SECONDS:
                    looked = now
                    if not is_queued and self._log.holder() is None:
                        break
                sleep(min(pause, max(0.0, deadline - now)))
                pause = min(2 * pause, LOOK_SECONDS)
        except BaseException:  # Ctrl-C too: who gives up leaves nothing that is not begun
            if not is_queued:
                with suppress(LogError):
                    self._log.take_back(number)
            raise
        return self._given_up(number, vect, action, seconds, is_queued=is_queued)

    def _find(self, number: int) -> Answer | None:
        found = self._log.answer(number)
        if found is None:
            return None
        return Answer(number, found.seq, found.refusal, found.time, found.error)

    def _heard(self, answer: Answer) -> Answer:
        """Return an answer, or raise it; it is read by that, and need not be kept."""
        with suppress(LogError):
            self._log.forget_answer(answer.number or 0)
        if answer.error is not None:
            raise answer.error
        return answer

    def _given_up(
        self, number: int, vect: str, action: str, seconds: float, *, is_queued: bool
    ) -> Answer:
        if is_queued:
            found = self._find(number)
            return Answer(number, None) if found is None else self._heard(found)
        if self._log.take_back(number):
            raise self._withdrawn(vect, action, seconds)
        if (answer := self._find(number)) is not None:
            return self._heard(answer)
        raise UnansweredError(number, f"the {action} of vect '{vect}'")

    def _withdrawn(self, vect: str, action: str, seconds: float) -> OAutomError:
        """Return why nobody has come to a request: it was taken back."""
        path, holder = str(self._log.path), self._log.holder()
        if holder is None:
            return NoEngineError(path, f"the engine at work on log '{path}' has ended")
        engine = Told(self._log.told(), path).engine(holder)
        why = "it is busy with a step or receiver on its own thread: try again later"
        if engine is None or not engine.is_driven:
            why = (
                "it is in foreground mode, and nobody drives it: it hears what is asked when its "
                "program calls run() or wait()"
            )
        return WithdrawnError(
            f"the engine, process {holder.pid}, has not come to the {action} of vect '{vect}' "
            f"within {seconds:g} seconds, and nothing was done; {why}"
        )

    def answer(self, number: object) -> Answer | None:
        """Return what has become of a request, None as long as nothing has.

        Raises:
            SettingError: There is no such request (any more).
        """
        wanted = plain_count(number)
        if wanted is not None:
            if (found := self._find(wanted)) is not None:
                return found
            if self._log.is_asked_for(wanted):
                return None
            if (found := self._find(wanted)) is not None:  # it has come in between
                return found
        raise SettingError(
            f"there is no request {shown(number)} in log '{self._log.path}', or it was taken back, "
            "or its answer was read, or is older than an hour"
        )
