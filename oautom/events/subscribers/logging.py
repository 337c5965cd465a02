"""`log_events`: every event as a line of standard `logging`, one logger a flow."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import Final

from oautom.machine.deadlines import LATE, lateness
from oautom.machine.event import Event, is_of_plan

LEVELS: Final = MappingProxyType(
    {
        "step.failed": logging.ERROR,
        "vect.failed": logging.ERROR,
        "step.retried": logging.WARNING,
        "step.blocked": logging.WARNING,
        "step.cancelled": logging.WARNING,
        "vect.cancelled": logging.WARNING,
        "step.interrupted": logging.WARNING,
        "step.compensation_interrupted": logging.WARNING,
        "vect.recovered": logging.WARNING,
        "plan.skipped": logging.WARNING,
        "step.late": logging.WARNING,
        "vect.late": logging.WARNING,
        "vect.created": logging.DEBUG,  # the start follows at once, and says more
        "step.released": logging.DEBUG,  # its next start says more
        "step.late_result": logging.DEBUG,
    }
)
"""The level of each event whose level is not INFO."""


def log_events(flow: object, event: Event, **_: object) -> None:
    """Log an event by the logger `oautom.flow.<name of the flow>`; a receiver and a subscriber.

    The record has these attributes, too, for handlers that write more than a line: `seq`, `time`,
    `flow`, `vect`, `step`, `attempt`, `event` (its name), `source`, `dest`, `error`.

    If logging is not configured, Python prints warnings and errors to stderr, and nothing else.
    """
    logger = logging.getLogger(f"oautom.flow.{event.flow}")
    level = LEVELS.get(event.name, logging.INFO)
    if logger.isEnabledFor(level):
        logger.log(level, "%s", _line(event), extra=_attributes(event))


def _line(event: Event) -> str:
    """Return an event as a line: "vect 3f: step 'load' failed: the command exited with code 3"."""
    data = event.data
    what = event.name.partition(".")[2].replace("late_result", "answered late")
    if event.name == "step.retried":
        what = f"failed, to be tried again in {data['delay']:.3g} seconds"
    elif event.name in LATE:
        what = lateness(event)
    if event.attempt is not None and event.attempt > 1:
        what += f" (attempt {event.attempt})"
    kind = "plan" if is_of_plan(event) else "vect"
    who = f"{kind} {event.vect}" + (f": step '{event.step}'" if event.step is not None else "")
    why = data.get("error") or data.get("reason") or ", ".join(data.get("steps", ()))
    return _in_one_line(f"{who} {what}: {why}" if why else f"{who} {what}")


def _in_one_line(text: str) -> str:
    """Escape line breaks and control characters, so that no name or error can forge a line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _attributes(event: Event) -> dict[str, object]:
    return {
        "seq": event.seq,
        "time": event.time.isoformat(),
        "flow": event.flow,
        "vect": event.vect,
        "step": event.step,
        "attempt": event.attempt,
        "event": event.name,
        "source": event.source,
        "dest": event.dest,
        "error": event.data.get("error"),
    }
