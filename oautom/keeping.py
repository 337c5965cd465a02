"""How the answer of a step is kept: what becomes part of an event. On the scheduler's thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from oautom.annotations import UNKNOWN
from oautom.commands import Finished
from oautom.conversion import keep
from oautom.errors import OAutomError
from oautom.events.log import EventLog
from oautom.run import Run
from oautom.values import readable


def kept(answer: Finished, runs: Mapping[str, Run], log: EventLog) -> Finished:
    """Return an answer as the log can keep it: an output that it cannot fails the step.

    In a durable log an output is as JSON has it, from which its type can be had back.
    """
    if answer.error is not None:
        data = {key: readable(value) for key, value in answer.data.items()}
        return structs.replace(answer, error=readable(answer.error), data=data)
    if answer.output is None and log.id is None:
        return answer
    try:
        output = answer.output if log.id is None else _plain(answer, runs.get(answer.vect))
        log.check_value(output)
    except OAutomError as error:
        return structs.replace(answer, output=None, error=f"its output cannot be kept: {error}")
    return answer if output is answer.output else structs.replace(answer, output=output)


def _plain(answer: Finished, run: Run | None) -> Any:
    kind = UNKNOWN if run is None else run.output_type(run.state.steps[answer.step])
    if kind is UNKNOWN:  # the log looks at it by itself
        return answer.output
    return keep(answer.output, kind)
