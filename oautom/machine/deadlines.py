"""Deadlines: the times by which a Vect and its steps should have ended, or must have. Pure.

One event records that a `deadline` has passed, and nothing is ended; a `run_timeout` ends the run.
The fold knows which deadlines count, so that a program that goes on with the Vect sets the same
timers, and writes no such event twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from oautom.machine.event import Event
from oautom.machine.tables import STEP_ENDS, VECT_ENDS

Deadline = tuple[str, str | None]
"""The sort of a deadline, and its step; None for the Vect itself."""

LATE: Final = frozenset({"step.late", "vect.late"})
BEGINNINGS: Final = frozenset({"vect.started", "vect.reopened", "step.started"})
"""The events from which deadlines count. The deadline of a step counts on over its attempts."""

_ENDS: Final = STEP_ENDS | VECT_ENDS
RUN_TIMEOUT: Final[Deadline] = ("run_timeout", None)
"""The deadline of a whole run; when it passes, running steps are ended."""

_KINDS: Final = ("late", "run_timeout")


class Deadlines(msgspec.Struct):
    """The deadlines of one Vect.

    Attributes:
        seconds: Seconds from the beginning to each deadline.
        until: The times of the deadlines that count now.
        told: The times of the deadlines that have passed and have their event.
    """

    seconds: Mapping[Deadline, float]
    until: dict[Deadline, datetime] = {}
    told: dict[Deadline, datetime] = {}

    def hear(self, event: Event) -> None:
        """Apply an event of the Vect, or of a step of it."""
        if event.name in LATE:
            late = ("late", event.step)
            self.told[late] = self.until.pop(late, event.time)
        elif event.name in BEGINNINGS:
            for deadline in self._of(event.step):
                if deadline not in self.told and deadline not in self.until:
                    seconds = self.seconds[deadline]
                    self.until[deadline] = event.time + timedelta(seconds=seconds)
        elif event.name == "vect.ending":
            self.until.pop(RUN_TIMEOUT, None)  # how long it takes to clean up does not count
        elif event.dest in _ENDS:
            for deadline in self._of(event.step):
                self.until.pop(deadline, None)

    def running(self, step: str | None) -> Iterator[tuple[Deadline, datetime]]:
        """Yield the deadlines that count for a step, or for the Vect itself, with their times."""
        return (
            (deadline, self.until[deadline])
            for deadline in self._of(step)
            if deadline in self.until
        )

    def _of(self, step: str | None) -> Iterator[Deadline]:
        return ((kind, step) for kind in _KINDS if (kind, step) in self.seconds)


def lateness(event: Event) -> str:
    """Return an event of `LATE` as a clause."""
    return f"is late: {event.data['deadline']:g} seconds after its start it has not ended"


def deadlines_of(
    options: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]
) -> Deadlines | None:
    """Return the deadlines of a Vect; None for most, which have none.

    Args:
        options: The options of its steps, by their names.
        settings: The settings of its flow.
    """
    seconds: dict[Deadline, float] = {
        ("late", name): given["deadline"] for name, given in options.items() if "deadline" in given
    }
    if "deadline" in settings:
        seconds["late", None] = settings["deadline"]
    if "run_timeout" in settings:
        seconds[RUN_TIMEOUT] = settings["run_timeout"]
    return Deadlines(seconds) if seconds else None
