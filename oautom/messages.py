"""The messages that the scheduler takes out of its inbox: commands, and those below."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from oautom.commands import Cancel, Command, Decide, Pause, Resume, Retry
from oautom.events.event import Event
from oautom.events.requests import Request
from oautom.flow import Flow
from oautom.run import Run
from oautom.states import PLAN_EVENTS

Key = tuple[str, str, int]
"""One attempt: (id of the Vect, name of the step, number of the attempt)."""


class Answer(NamedTuple):
    """Message: the workers have done a piece of work."""

    key: Key
    answer: object
    failure: BaseException | None


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
        is_back: The step has its slot again, or had none to lend: it may go on.
    """

    __slots__ = ("is_back", "key")

    def __init__(self, key: Key) -> None:
        self.key = key
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


class Nudge:
    """Message: nothing has happened, but look again: whether you are done, which plans are due."""


class Asked:
    """Message: another process has asked for something, by the log."""


class TakeOver(NamedTuple):
    """Message: Vects that a dead program has left open shall go on."""

    runs: tuple[Run, ...]


class Halt(NamedTuple):
    """Message: end all work, and leave the Vects as they are: they go on in another life."""

    reason: str


class Note(NamedTuple):
    """Message: a plan has something to tell; it is of no Vect, and moves nothing.

    Attributes:
        flow: The flow of the plan.
        name: Name of the event: one of `PLAN_EVENTS`.
        vect: The id that the Vect would have had.
        data: What the event tells.
    """

    flow: Flow
    name: str
    vect: str
    data: Mapping[str, str]

    def event(self, seq: int, time: datetime) -> Event:
        """Return it as an event."""
        data = MappingProxyType(self.data)
        dest = PLAN_EVENTS[self.name]
        return Event(seq, time, self.flow.name, self.vect, None, None, self.name, None, dest, data)


def command_of(request: Request) -> Command:
    """Return what another process asks for as a command."""
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
    return Cancel(vect, data.get("reason", ""))


Message = (
    Command | Answer | Poll | TimeUp | Lend | TakeBack | Nudge | Asked | TakeOver | Halt | Note
)
