"""The state machines of a step and of a Vect: one table each, for the live engine and the replay.

Pure data. A row reads: this *trigger* moves from *source* to *dest*. The event that a transition
makes has the name of its trigger in the past tense: `start` makes `step.started`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Literal, NamedTuple, get_args

StepStateName = Literal[
    "pending", "running", "success", "failed", "skipped", "upstream_failed", "cancelled"
]
VectStateName = Literal["pending", "running", "success", "failed", "cancelled"]


class Row(NamedTuple):
    """One transition: `trigger` moves from `source` to `dest`."""

    trigger: str
    source: str
    dest: str


INITIAL: Final = "pending"

STEP_TABLE: Final = (
    Row("start", "pending", "running"),
    Row("succeed", "running", "success"),
    Row("fail", "running", "failed"),
    Row("skip", "pending", "skipped"),
    Row("skip", "running", "skipped"),
    Row("block", "pending", "upstream_failed"),
    Row("cancel", "pending", "cancelled"),
    Row("cancel", "running", "cancelled"),
    Row("interrupt", "running", "pending"),
    # An answer of an attempt that is over: it is written down, and moves nothing.
    Row("late_result", "success", "success"),
    Row("late_result", "failed", "failed"),
    Row("late_result", "skipped", "skipped"),
    Row("late_result", "cancelled", "cancelled"),
)

VECT_TABLE: Final = (
    Row("start", "pending", "running"),
    Row("succeed", "running", "success"),
    Row("fail", "running", "failed"),
    Row("cancel", "pending", "cancelled"),
    Row("cancel", "running", "cancelled"),
    Row("recover", "running", "running"),
)

STEP_ENDS: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "cancelled"})
VECT_STATES: Final = get_args(VectStateName)
VECT_ENDS: Final = frozenset({"success", "failed", "cancelled"})

VECT_CREATED: Final = "vect.created"
"""Name of the first event of every Vect: no transition makes it, it brings the Vect to be."""

PLAN_CREATED: Final = "plan.created"
PLAN_SKIPPED: Final = "plan.skipped"
PLAN_EVENTS: Final = MappingProxyType({PLAN_CREATED: "planned", PLAN_SKIPPED: "skipped"})
"""The events of plans, which are of no Vect, each with its `dest`: there is no state before it."""

_PAST: Final = {
    "start": "started",
    "succeed": "succeeded",
    "fail": "failed",
    "skip": "skipped",
    "block": "blocked",
    "cancel": "cancelled",
    "interrupt": "interrupted",
    "recover": "recovered",
    "late_result": "late_result",
}


def event_names(scope: Literal["step", "vect"], table: tuple[Row, ...]) -> dict[str, str]:
    """Return the name of the event that each trigger of a table makes."""
    return {row.trigger: f"{scope}.{_PAST[row.trigger]}" for row in table}


STEP_EVENTS: Final = event_names("step", STEP_TABLE)
VECT_EVENTS: Final = event_names("vect", VECT_TABLE)
EVENT_NAMES: Final = (VECT_CREATED, *VECT_EVENTS.values(), *STEP_EVENTS.values(), *PLAN_EVENTS)

STEP_MOVES: Final = frozenset((STEP_EVENTS[row.trigger], *row[1:]) for row in STEP_TABLE)
VECT_MOVES: Final = frozenset((VECT_EVENTS[row.trigger], *row[1:]) for row in VECT_TABLE)
PLAN_MOVES: Final = frozenset((name, None, dest) for name, dest in PLAN_EVENTS.items())
"""All (event name, source, dest) that a history may hold, for the replay."""
