"""`Attempt`: one attempt of a step, as users see it, with its text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, Literal

from oautom.machine.event import Event
from oautom.machine.tables import STEP_EVENTS

AttemptState = Literal["running", "success", "failed", "skipped", "cancelled", "interrupted"]

_BEGINNINGS: Final = frozenset({"step.started", "step.compensating"})
_ENDS: Final[dict[str, AttemptState]] = {
    STEP_EVENTS["succeed"]: "success",
    STEP_EVENTS["fail"]: "failed",
    STEP_EVENTS["retry"]: "failed",
    STEP_EVENTS["skip"]: "skipped",
    STEP_EVENTS["cancel"]: "cancelled",
    STEP_EVENTS["interrupt"]: "interrupted",
    STEP_EVENTS["end_compensation"]: "success",
    STEP_EVENTS["fail_compensation"]: "failed",
    STEP_EVENTS["interrupt_compensation"]: "interrupted",
}


class Attempt:
    """One attempt of a step, by the events that were committed when it was made.

    Attributes:
        number: From 1; an attempt to undo the work of the step has a negative number, from -1.
        state: `running`, `success`, `failed` (also if the step was tried again), `skipped`,
            `cancelled`, or `interrupted` if its program has ended, or its work
            was lost.
        start_date: When it began: aware, UTC.
        end_date: When it ended, or None.
        error: What went wrong, in a line, or None.
    """

    __slots__ = ("_text_of", "end_date", "error", "number", "start_date", "state")

    def __init__(self, number: int, start_date: datetime) -> None:
        self.number = number
        self.state: AttemptState = "running"
        self.start_date = start_date
        self.end_date: datetime | None = None
        self.error: str | None = None
        self._text_of: Callable[[Attempt], str] = _nothing

    @property
    def log_text(self) -> str:
        """The newest `log_limit_bytes` of what it has written; each read asks the log.

        Raises:
            LogError: The log cannot be read.
        """
        return self._text_of(self)

    def _end(self, state: AttemptState, event: Event) -> None:
        self.state = state
        self.end_date = event.time
        self.error = event.data.get("error") or event.data.get("reason") or None

    def __repr__(self) -> str:
        """Return number and state."""
        return f"<Attempt {self.number}: {self.state}>"


def _nothing(attempt: Attempt) -> str:
    return ""


def attempts_of(
    events: Iterable[Event], step: str, text_of: Callable[[Attempt], str]
) -> list[Attempt]:
    """Return the attempts of a step, in the order in which they began.

    Args:
        events: The events of its Vect, in the order of the log.
        step: The name of the step.
        text_of: Returns the text of an attempt.
    """
    attempts: list[Attempt] = []
    open_attempt: Attempt | None = None
    for event in events:
        if event.step != step:
            # A compensation that a death interrupted runs again, and no event of the step says so.
            is_interrupted = event.name == "vect.recovered" and open_attempt is not None
            if is_interrupted and open_attempt is not None and open_attempt.number < 0:
                open_attempt._end("interrupted", event)  # noqa: SLF001 - it is made here
                open_attempt = None
        elif event.name in _BEGINNINGS:
            number = event.attempt or 0
            number = number if event.name == "step.started" else -number
            open_attempt = Attempt(number, event.time)
            open_attempt._text_of = text_of  # noqa: SLF001 - as above
            attempts.append(open_attempt)
        elif open_attempt is not None and (state := _ENDS.get(event.name)) is not None:
            open_attempt._end(state, event)  # noqa: SLF001 - as above
            open_attempt = None
    return attempts


def ends_of(events: Iterable[Event]) -> dict[tuple[str, int], AttemptState]:
    """Return how each attempt of a Vect has ended, by step and number; as `attempts_of` has it."""
    ends: dict[tuple[str, int], AttemptState] = {}
    running: dict[str, int] = {}
    for event in events:
        step, state = event.step, _ENDS.get(event.name)
        if step is None:
            if event.name == "vect.recovered":
                undone = [name for name, number in running.items() if number < 0]
                ends.update({(name, running.pop(name)): "interrupted" for name in undone})
        elif event.name in _BEGINNINGS:
            number = event.attempt or 0
            running[step] = number if event.name == "step.started" else -number
        elif state is not None and step in running:
            ends[step, running.pop(step)] = state
    return ends
