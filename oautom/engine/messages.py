"""The messages that the scheduler takes out of its inbox: commands, and those below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from oautom.errors import SettingError, shown
from oautom.events.requests import Request
from oautom.machine.commands import Cancel, Command, Decide, Key, Pause, Resume, Retry
from oautom.machine.event import Event
from oautom.machine.tables import PLAN_EVENTS
from oautom.steps.work import Outcome


class Answer(NamedTuple):
    """Message: the workers have done a piece of work.

    Attributes:
        key: The attempt.
        outcome: What came of it, plain already; None if the step is to be polled (again); or what
            the engine has raised that looked at it.
    """

    key: Key
    outcome: Outcome | Exception | None


class Poll(NamedTuple):
    """Message: it is time to ask a step whether its work elsewhere is done."""

    key: Key


class TimeUp(NamedTuple):
    """Message: an attempt has taken as long as it may."""

    key: Key


class Loan:
    """The slot of a step that waits for a Vect: others have it meanwhile.

    Args:
        key: The attempt.

    Attributes:
        is_lent: The slot was lent. A message may be taken twice, where a tick was taken back.
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
    """Message: a step waits no more, and needs its slot again.

    Attributes:
        loan: What it has lent.
        at_once: It goes on whether one is free or not.
    """

    loan: Loan
    at_once: bool


class GraceOver(NamedTuple):
    """Message: a function that was told to stop has had its time to tidy up."""

    key: Key


class Over(NamedTuple):
    """Message: an attempt that was at work under another app of this program has ended."""

    vect: str
    step: str


class Call:
    """Message: somebody waits for what comes of it.

    What it does is done once, by whatever thread drives; that thread answers when the log has it.

    Args:
        vect: Id of the Vect concerned; empty for none.
        do: What to do, in a tick; an `OAutomError` that it raises is the answer.

    Attributes:
        result: What `do` has returned.
        error: Why it was refused, or could not be done, or None.
        is_answered: Result and error are there, and the log has what came of it.
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
        """Take it for good, to do it or to withdraw it; False for all but the first. Any thread."""
        try:
            self._claim.pop()
        except IndexError:
            return False
        return True

    def give_back(self) -> None:
        """Have it claimed again: what has come of it was taken back."""
        self._claim.append(None)


class Nudge:
    """Message: nothing has happened, but look again: whether you are done, which plans are due."""


class Asked(NamedTuple):
    """Message: another process has asked for something, by the log.

    Attributes:
        again: What nobody could do then may be done now: a flow was declared.
    """

    again: bool = False


class TakeOver:
    """Message: the next ones shall go on of the Vects that a dead program has left open."""


class Misfit(NamedTuple):
    """Message: a Vect does not fit its flow, and may be a child of a step that is over."""

    vect: str


class Drain(NamedTuple):
    """Message: begin nothing more; when all that is at work has ended, end the rest, too."""

    reason: str


class Tidy(NamedTuple):
    """Message: all Vects were cancelled, for want of another life: what cleans up may start."""


class Halt(NamedTuple):
    """Message: end all work, and leave the Vects as they are: they go on in another life."""

    reason: str


class Note(NamedTuple):
    """Message: a plan has something to tell; it is of no Vect, and moves nothing.

    Attributes:
        flow: The name of the flow of the plan.
        name: Name of the event: one of `PLAN_EVENTS`.
        vect: The id that the Vect would have had.
        data: What the event tells.
    """

    flow: str
    name: str
    vect: str
    data: Mapping[str, str]

    def event(self, seq: int, time: datetime) -> Event:
        """Return it as an event."""
        data = MappingProxyType(self.data)
        dest = PLAN_EVENTS[self.name]
        return Event(seq, time, self.flow, self.vect, None, None, self.name, None, dest, data)


def command_of(request: Request) -> Command:
    """Return what another process asks for as a command.

    Raises:
        SettingError: It is nothing that can be asked.
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
    raise SettingError(
        f"action must be one of those that can be asked, not {shown(request.action)}"
    )


Message = (
    None
    | Command
    | Answer
    | Poll
    | TimeUp
    | GraceOver
    | Over
    | Lend
    | TakeBack
    | Call
    | Nudge
    | Asked
    | TakeOver
    | Misfit
    | Drain
    | Halt
    | Tidy
    | Note
)
