"""Exit codes: what a program that calls `oautom` learns without reading."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

import click

from oautom.errors import (
    EngineError,
    FlowError,
    LogError,
    LogLockedError,
    NoEngineError,
    OAutomError,
    UnansweredError,
    UnknownFlowError,
    UnknownPlanError,
    UnknownStepError,
    UnknownVectError,
    VectAlreadyRunningException,
    VectStateError,
    WithdrawnError,
)

SUCCESS: Final = 0
FAILED: Final = 1
DIFFERENT: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
CANCELLED: Final = 4
TIMEOUT: Final = 5
REFUSED: Final = 6
NO_ENGINE: Final = 7
BAD_FILE: Final = 8
BUG: Final = 70
LOCKED: Final = 75
INTERRUPTED: Final = 130
"""Ctrl-C. What SIGTERM ends is ended by that signal itself, which a shell tells as 143."""
NO_READER: Final = 141
"""Whoever reads the output has closed it: what a shell says of a program that SIGPIPE has ended."""

OF_STATES: Final = {"success": SUCCESS, "failed": FAILED, "cancelled": CANCELLED}
"""The exit code for each state in which a Vect ends."""

_OF_ERRORS: Final[tuple[tuple[type[OAutomError], int], ...]] = (  # the first that fits
    (WithdrawnError, NO_ENGINE),
    (UnansweredError, NO_ENGINE),
    (LogLockedError, LOCKED),
    (LogError, BAD_FILE),
    (UnknownFlowError, NOT_FOUND),
    (UnknownVectError, NOT_FOUND),
    (UnknownStepError, NOT_FOUND),
    (UnknownPlanError, NOT_FOUND),
    (VectStateError, REFUSED),
    (VectAlreadyRunningException, REFUSED),
    (FlowError, USAGE),
    (EngineError, NO_ENGINE),
    (OAutomError, USAGE),
)


class Refusal(click.ClickException):
    """A mistake that is told in a sentence, without a traceback.

    Args:
        message: The sentence.
        code: The exit code.

    Attributes:
        code: See above.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def near_miss(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a sentence which suggests what is nearly named so, if there is anything."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else otherwise


def refusal_of(error: OAutomError) -> Refusal:
    """Return what an error of the engine comes to on a command line."""
    code = next(code for kind, code in _OF_ERRORS if isinstance(error, kind))
    return Refusal(_said(error), code)


def _said(error: OAutomError) -> str:
    """Return the sentence of an error; a remedy in Python is one of the command line here."""
    if isinstance(error, NoEngineError):
        return (
            f"{error.why}, so nothing was done; `oautom serve APP --log {shlex.quote(error.path)}` "
            "would do it, or the program itself when it runs again; with --queue the request waits "
            "for that in the file"
        )
    if isinstance(error, UnansweredError):
        return (
            f"{error.what}, request {error.number}, was taken by an engine that has not answered "
            "yet; it may still be done, by the next engine if this one has ended: `oautom events` "
            "tells what has become of it"
        )
    return " ".join(str(error).split("\n"))
