"""How the answer of a step is kept: what becomes part of an event. On the worker's thread."""

from __future__ import annotations

from typing import Any

from oautom.annotations import UNKNOWN
from oautom.conversion import keep
from oautom.errors import OAutomError
from oautom.events.log import EventLog
from oautom.executions.work import Outcome
from oautom.values import readable


def kept(outcome: Outcome, annotation: Any, log: EventLog) -> Outcome:
    """Return an outcome as the log can keep it: an output that it cannot fails the step.

    In a durable log an output is as JSON has it, from which its type can be had back.
    """
    if outcome.error is not None:
        outcome.error = readable(outcome.error)
        outcome.details = {key: readable(value) for key, value in outcome.details.items()}
        return outcome
    try:
        if log.id is not None and annotation is not UNKNOWN:
            outcome.output = keep(outcome.output, annotation)
        log.check_value(outcome.output)
    except OAutomError as error:
        return Outcome(error=f"its output cannot be kept: {error}")
    return outcome
