"""What is asked, what to fire, and what to do to the world: plain data between the decisions. Pure.

A *command* asks, a *trigger* is a transition to fire, an *effect* is done after the commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from oautom.machine.deadlines import Deadline
from oautom.machine.event import NO_DATA
from oautom.machine.state import NO_OPTIONS, Options, StepState, VectState

Key = tuple[str, str, int]
"""One attempt: (id of the Vect, name of the step, number of the attempt).

The number is negative for an attempt to undo what the step has done.
"""

Place = tuple[str, str]
"""A step: id of its Vect, and its name."""


class Finished(msgspec.Struct, frozen=True):
    """Command: the work of one attempt of a step is over.

    Attributes:
        error: What went wrong, in one line; None when all went well.
        is_skip: Nothing went wrong: the step skips itself, and `error` is why.
        data: More about the error, as `Outcome.told` has it.
        retry_after: Seconds until the step is to be tried again; None if it is not.
    """

    vect: str
    step: str
    attempt: int
    output: Any = None
    error: str | None = None
    data: Mapping[str, Any] = NO_DATA
    is_skip: bool = False
    retry_after: float | None = None


class Release(msgspec.Struct, frozen=True):
    """Command: the time that an attempt waits for is up."""

    vect: str
    step: str
    attempt: int


class Passed(msgspec.Struct, frozen=True):
    """Command: it is time to see whether a deadline has passed of a Vect, or of a step of it."""

    vect: str
    deadline: Deadline


class Begin(msgspec.Struct, frozen=True):
    """Command: a Vect that has been created shall start.

    Attributes:
        told: Under which limit it has waited for its turn, if it has.
    """

    vect: str
    told: Mapping[str, Any] = NO_DATA


class Cancel(msgspec.Struct, frozen=True):
    """Command: a Vect shall stop: what runs is cancelled, nothing starts but what cleans up.

    Attributes:
        to: How it ends then: `failed` where no person has asked for it.
        is_again: Asked for by a person, once it is ending already: what cleans up is ended, too.
    """

    vect: str
    reason: str = ""
    to: Literal["cancelled", "failed"] = "cancelled"
    is_again: bool = False


class Recover(msgspec.Struct, frozen=True):
    """Command: a Vect shall go on whose program has ended.

    Attributes:
        spared: Steps that are not interrupted though they ran: each is told to have failed next.
        options: Of steps, where they are others by now.
    """

    vect: str
    spared: frozenset[str] = frozenset()
    options: Options = NO_OPTIONS


class Pause(msgspec.Struct, frozen=True):
    """Command: nothing more of a Vect shall start; what runs goes on."""

    vect: str


class Resume(msgspec.Struct, frozen=True):
    """Command: a Vect that was paused shall go on."""

    vect: str


class Retry(msgspec.Struct, frozen=True):
    """Command: what has failed of a Vect, or was cancelled, shall run again.

    Attributes:
        options: Of steps, where they are others by now.
        parent: The attempt that goes on in the Vect; None where a person asks.
    """

    vect: str
    options: Options = NO_OPTIONS
    parent: Key | None = None


class Decide(msgspec.Struct, frozen=True):
    """Command: a person has decided what a step waits for.

    Attributes:
        by: Who that is.
        data: What they say to it.
        objection: Why it is rejected; None where it is approved.
    """

    vect: str
    step: str
    by: str
    data: Any = None
    objection: str | None = None


Command = Begin | Finished | Release | Passed | Cancel | Recover | Pause | Resume | Retry | Decide


class Trigger(msgspec.Struct, frozen=True):
    """A transition to fire: which model, by which trigger, and what its event shall tell."""

    model: StepState | VectState
    name: str
    attempt: int | None = None
    data: Mapping[str, Any] = NO_DATA


class Submit(msgspec.Struct, frozen=True):
    """Effect: have the work of this attempt done."""

    vect: str
    step: str
    attempt: int


class Kill(msgspec.Struct, frozen=True):
    """Effect: end the work of this attempt, it is not wanted any more."""

    vect: str
    step: str
    attempt: int


class Wake(msgspec.Struct, frozen=True):
    """Effect: give the command `Release` for this attempt when so many seconds have passed."""

    vect: str
    step: str
    attempt: int
    seconds: float


Effect = Submit | Kill | Wake
