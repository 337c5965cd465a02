"""How the answer of a step is kept: what becomes part of an event. On the thread of its worker."""

from __future__ import annotations

from typing import Any

from oautom.errors import OAutomError
from oautom.events.log import EventLog, keeps_objects
from oautom.steps.work import NO_DETAILS, Outcome
from oautom.values.annotations import UNKNOWN
from oautom.values.convert import keep
from oautom.values.json import own_copy
from oautom.values.text import ERROR_BYTES_MAX, bounded, details_of, error_of


def kept(outcome: Outcome, annotation: Any, log: EventLog) -> Outcome:
    """Return an outcome as the log can keep it: an output that it cannot fails the step.

    In a durable log an output is as JSON has it, from which its type can be had back. With a log in
    memory `outcome.live` is handed on as it is, and the engine has a copy of its own. Never raises.

    Args:
        outcome: It may be anything that a step has returned or raised. Is changed.
        annotation: The type of the output.
        log: Where it is to be kept.
    """
    try:
        if outcome.error is not None:
            _bound(outcome)
        elif keeps_objects(log):
            outcome.live = outcome.output
            outcome.output = own_copy(outcome.output)
        elif outcome.output is not None or annotation is not UNKNOWN:
            outcome.output = outcome.live = keep(outcome.output, annotation)
            log.check_value(outcome.output)
    except OAutomError as error:
        return _unkept(outcome, str(error))
    except BaseException as error:  # what a step returns is the user's, it may do anything
        return _unkept(outcome, error_of(error))
    return outcome


def _bound(outcome: Outcome) -> None:
    outcome.output = outcome.live = None
    outcome.error = bounded(str(outcome.error), ERROR_BYTES_MAX)
    if outcome.facts is not NO_DETAILS:
        outcome.facts = details_of(outcome.facts)
    if outcome.details is not NO_DETAILS:
        outcome.details = details_of(outcome.details)


def _unkept(outcome: Outcome, why: str) -> Outcome:
    """Return the failure that says why an output cannot be kept; it would be so again."""
    error = bounded(f"its output cannot be kept: {why}", ERROR_BYTES_MAX)
    failed = Outcome(error=error, is_retriable=False)
    failed.log = outcome.log
    return failed
