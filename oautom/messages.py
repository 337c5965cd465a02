"""The messages that the scheduler takes out of its inbox: commands, and those below."""

from __future__ import annotations

from typing import NamedTuple

from oautom.commands import Cancel, Command, Decide, Pause, Resume, Retry
from oautom.events.log import Request
from oautom.vect import Run

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


class Nudge:
    """Message: nothing has happened, but look again whether you are done."""


class Asked:
    """Message: another process has asked for something, by the log."""


class TakeOver(NamedTuple):
    """Message: Vects that a dead program has left open shall go on."""

    runs: tuple[Run, ...]


class Halt(NamedTuple):
    """Message: end all work, and leave the Vects as they are: they go on in another life."""

    reason: str


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


Message = Command | Answer | Poll | TimeUp | Nudge | Asked | TakeOver | Halt
