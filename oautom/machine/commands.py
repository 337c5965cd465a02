"""Commands, triggers and effects: plain data between the decisions. Pure.

A *command* is a request, a *trigger* is a transition to fire, an *effect* is an action on the world
after the commit.
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

The number is negative for an attempt of the compensation of the step.
"""

Place = tuple[str, str]
"""A step: id of its Vect, and its name."""


class Finished(msgspec.Struct, frozen=True):
    """Command: the work of one attempt of a step is over.

    Attributes:
        error: The error, in one line; None for a success.
        is_skip: Whether the step skips itself; `error` is then the reason.
        data: More about the error, as in `Outcome.told`.
        retry_after: Seconds until the next attempt; None if there is none.
    """

    vect: str
    step: str
    attempt: int
    output: Any = None
    error: str | None = None
    data: Mapping[str, Any] = NO_DATA
    is_skip: bool = False
    retry_after: float | None = None


class Lost(msgspec.Struct, frozen=True):
    """Command: the work of one attempt of a step may have begun, and no answer of it will come.

    Attributes:
        reason: What was lost, in one line.
        is_worker: Whether it is the worker, perhaps because of the work.
    """

    vect: str
    step: str
    attempt: int
    reason: str
    is_worker: bool = False


class Release(msgspec.Struct, frozen=True):
    """Command: the time that an attempt waits for is up."""

    vect: str
    step: str
    attempt: int


class Passed(msgspec.Struct, frozen=True):
    """Command: a deadline of a Vect, or of a step of it, may have passed."""

    vect: str
    deadline: Deadline


class Begin(msgspec.Struct, frozen=True):
    """Command: start a Vect that has been created.

    Attributes:
        told: The limit under which it has waited for its turn, if it has waited.
    """

    vect: str
    told: Mapping[str, Any] = NO_DATA


class Cancel(msgspec.Struct, frozen=True):
    """Command: end a Vect: running steps are cancelled, and only clean-up starts.

    Attributes:
        to: The final state: `failed` if no person has asked for the cancel.
        is_again: Whether a person cancels a Vect that is `ending`: running clean-up is ended, too.
    """

    vect: str
    reason: str = ""
    to: Literal["cancelled", "failed"] = "cancelled"
    is_again: bool = False


class Recover(msgspec.Struct, frozen=True):
    """Command: go on with a Vect whose program has ended.

    Attributes:
        spared: Running steps that are not interrupted: a failure of each follows.
        options: The options of steps that have changed since.
    """

    vect: str
    spared: frozenset[str] = frozenset()
    options: Options = NO_OPTIONS


class Pause(msgspec.Struct, frozen=True):
    """Command: start no more steps of a Vect; running steps go on."""

    vect: str


class Resume(msgspec.Struct, frozen=True):
    """Command: end the pause of a Vect."""

    vect: str


class Retry(msgspec.Struct, frozen=True):
    """Command: run the failed and cancelled steps of a Vect again.

    Attributes:
        options: The options of steps that have changed since.
        parent: The attempt that goes on in the Vect; None if a person retries it.
    """

    vect: str
    options: Options = NO_OPTIONS
    parent: Key | None = None


class Decide(msgspec.Struct, frozen=True):
    """Command: a person has decided an approval.

    Attributes:
        by: The name of the person.
        data: The data of the approval.
        objection: The reason of a rejection; None for an approval.
    """

    vect: str
    step: str
    by: str
    data: Any = None
    objection: str | None = None


Command = (
    Begin | Finished | Lost | Release | Passed | Cancel | Recover | Pause | Resume | Retry | Decide
)


class Trigger(msgspec.Struct, frozen=True):
    """A transition to fire: the model, the trigger, and the data of its event."""

    model: StepState | VectState
    name: str
    attempt: int | None = None
    data: Mapping[str, Any] = NO_DATA


class Submit(msgspec.Struct, frozen=True):
    """Effect: submit the work of this attempt to the workers."""

    vect: str
    step: str
    attempt: int


class Kill(msgspec.Struct, frozen=True):
    """Effect: end the work of this attempt, which is not wanted any more."""

    vect: str
    step: str
    attempt: int


class Wake(msgspec.Struct, frozen=True):
    """Effect: send the command `Release` for this attempt after so many seconds."""

    vect: str
    step: str
    attempt: int
    seconds: float


Effect = Submit | Kill | Wake
