"""The messages in the inbox of the scheduler: commands, and the classes below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from oautom.errors import SettingError, shown
from oautom.events.requests import ACTIONS, Request
from oautom.machine.commands import Cancel, Command, Decide, Key, Pause, Resume, Retry
from oautom.machine.event import Event
from oautom.machine.tables import PLAN_EVENTS
from oautom.steps.work import Outcome


class Answer(NamedTuple):
    """Message: the workers have finished a piece of work.

    Attributes:
        key: The attempt.
        outcome: The outcome, already plain; None if the step is to be polled (again); or the
            exception that the engine raised while it processed the answer.
    """

    key: Key
    outcome: Outcome | Exception | None


class Poll(NamedTuple):
    """Message: it is time to ask a step whether its work elsewhere is done."""

    key: Key


class Fetched(NamedTuple):
    """Message: the secrets of an attempt are there, and its step can be called."""

    key: Key


class TimeUp(NamedTuple):
    """Message: the timeout of an attempt is over."""

    key: Key


class Loan:
    """The slot of a step that waits for a Vect, lent to other steps meanwhile.

    Args:
        key: The attempt.

    Attributes:
        is_lent: The slot was lent. A message may be taken twice, if a tick was taken back.
        is_back: The step has its slot again, or had none to lend: it may go on.
    """

    __slots__ = ("is_back", "is_lent", "key")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.is_lent = False
        self.is_back = False


class Lend(NamedTuple):
    """Message: a step waits for a Vect, and lends its slot."""

    loan: Loan


class TakeBack(NamedTuple):
    """Message: a step has stopped waiting, and needs its slot again.

    Attributes:
        loan: The slot that it has lent.
        at_once: The step goes on even if no slot is free.
    """

    loan: Loan
    at_once: bool


class GraceOver(NamedTuple):
    """Message: the time that a cancelled function has to tidy up is over."""

    key: Key


class Over(NamedTuple):
    """Message: an attempt that an earlier app of this program left at work has ended."""

    vect: str
    step: str


class Call:
    """Message: a call whose caller waits for the result.

    It is carried out once, by the driving thread, which answers when the log has the result.

    Args:
        vect: Id of the Vect concerned; empty for none.
        do: The function to call, in a tick; an `OAutomError` that it raises is the answer.

    Attributes:
        result: The return value of `do`.
        error: The error of a call that was refused or has failed, or None.
        is_answered: Result and error are set, and the log has the events.
    """

    __slots__ = ("_claim", "do", "error", "is_answered", "result", "vect")

    def __init__(self, vect: str, do: Callable[[], Any]) -> None:
        self.vect = vect
        self.do = do
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_answered = False
        self._claim = [None]

    def claim(self) -> bool:
        """Claim the call, to carry it out or withdraw it; True only for the first. Any thread."""
        try:
            self._claim.pop()
        except IndexError:
            return False
        return True

    def give_back(self) -> None:
        """Allow another claim, since the results of the call were taken back."""
        self._claim.append(None)


class Nudge:
    """Message: check again whether the wait is over, the plans, and the workers."""


class Recheck:
    """Message: check the steps again that wait for slots, or for a start: there may be room now."""


class Asked(NamedTuple):
    """Message: another process has put a request in the log.

    Attributes:
        again: Check the waiting requests too: a flow was declared.
    """

    again: bool = False


class TakeOver:
    """Message: take over the next Vects that a dead program has left open."""


class Misfit(NamedTuple):
    """Message: a Vect does not fit its flow, and may be a child of a step that is over."""

    vect: str


class Drain(NamedTuple):
    """Message: begin nothing more; when all work has ended, end the rest, too."""

    reason: str


class Tidy(NamedTuple):
    """Message: all Vects were cancelled, as there is no next life; cleanup steps may start."""


class Halt(NamedTuple):
    """Message: end all work, and leave the Vects as they are: they go on in the next life."""

    reason: str


class Note(NamedTuple):
    """Message: an event of a plan; it belongs to no Vect, and changes no state.

    Attributes:
        flow: The name of the flow of the plan.
        name: Name of the event: one of `PLAN_EVENTS`.
        vect: The id that the Vect would have had.
        data: The data of the event.
    """

    flow: str
    name: str
    vect: str
    data: Mapping[str, str]

    def event(self, seq: int, time: datetime) -> Event:
        """Return the note as an event."""
        data = MappingProxyType(self.data)
        dest = PLAN_EVENTS[self.name]
        return Event(seq, time, self.flow, self.vect, None, None, self.name, None, dest, data)


def command_of(request: Request) -> Command:
    """Return the request of another process as a command.

    Raises:
        SettingError: The request has a problem, or its action is unknown.
    """
    if request.problem is not None:
        raise SettingError(request.problem)
    vect, data = request.vect, request.data
    match request.action:
        case "pause":
            return Pause(vect)
        case "resume":
            return Resume(vect)
        case "retry":
            return Retry(vect)
        case "approve":
            return Decide(vect, data["step"], data["by"], data.get("data"))
        case "reject":
            return Decide(vect, data["step"], data["by"], objection=data.get("reason", ""))
        case "cancel":
            return Cancel(vect, data.get("reason", ""))
    known = ", ".join(map(repr, ACTIONS))
    raise SettingError(f"action must be one of {known}, not {shown(request.action)}")


Message = (
    None
    | Command
    | Answer
    | Poll
    | Fetched
    | TimeUp
    | GraceOver
    | Over
    | Lend
    | TakeBack
    | Call
    | Nudge
    | Recheck
    | Asked
    | TakeOver
    | Misfit
    | Drain
    | Halt
    | Tidy
    | Note
)
