"""The state machines of a step and of a Vect: one table each, for the live engine and the replay.

Pure data. A row reads: this *trigger* moves from *source* to *dest*. The event that a transition
makes has the name of its trigger in the past tense: `start` makes `step.started`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Literal, NamedTuple, get_args

StepStateName = Literal[
    "pending",
    "running",
    "success",
    "failed",
    "skipped",
    "upstream_failed",
    "up_for_retry",
    "cancelled",
]
VectStateName = Literal["pending", "running", "paused", "ending", "success", "failed", "cancelled"]


class Row(NamedTuple):
    """One transition: `trigger` moves from `source` to `dest`."""

    trigger: str
    source: str
    dest: str


INITIAL: Final = "pending"
COMPENSATIONS: Final = (
    "compensate",
    "end_compensation",
    "fail_compensation",
    "interrupt_compensation",
)

STEP_TABLE: Final = (
    Row("start", "pending", "running"),
    Row("succeed", "running", "success"),
    Row("fail", "running", "failed"),
    Row("retry", "running", "up_for_retry"),
    Row("release", "up_for_retry", "pending"),
    Row("skip", "pending", "skipped"),
    Row("skip", "running", "skipped"),
    Row("block", "pending", "upstream_failed"),
    Row("cancel", "pending", "cancelled"),
    Row("cancel", "running", "cancelled"),
    Row("cancel", "up_for_retry", "cancelled"),
    Row("interrupt", "running", "pending"),
    Row("reset", "success", "pending"),
    Row("reset", "failed", "pending"),
    Row("reset", "skipped", "pending"),
    Row("reset", "upstream_failed", "pending"),
    Row("reset", "cancelled", "pending"),
    # An answer of an attempt that is over: it is written down, and moves nothing.
    Row("late_result", "pending", "pending"),
    Row("late_result", "running", "running"),
    Row("late_result", "up_for_retry", "up_for_retry"),
    Row("late_result", "success", "success"),
    Row("late_result", "failed", "failed"),
    Row("late_result", "skipped", "skipped"),
    Row("late_result", "upstream_failed", "upstream_failed"),
    Row("late_result", "cancelled", "cancelled"),
    # A compensation runs while the Vect ends: the state of the step does not change.
    *(
        Row(trigger, state, state)
        for trigger in COMPENSATIONS
        for state in ("success", "failed", "skipped", "cancelled")
    ),
    # Its deadline has passed: one event, and no move. It is pending between attempts.
    Row("late", "pending", "pending"),
    Row("late", "running", "running"),
    Row("late", "up_for_retry", "up_for_retry"),
)

VECT_TABLE: Final = (
    Row("start", "pending", "running"),
    Row("succeed", "running", "success"),
    Row("fail", "running", "failed"),
    Row("cancel", "pending", "cancelled"),
    Row("pause", "running", "paused"),
    Row("resume", "paused", "running"),
    Row("cancel", "running", "cancelled"),
    Row("succeed", "paused", "success"),
    Row("fail", "paused", "failed"),
    Row("cancel", "paused", "cancelled"),
    Row("recover", "running", "running"),
    Row("recover", "paused", "paused"),
    # Clean-up and compensations first, then the end.
    Row("end", "running", "ending"),
    Row("end", "paused", "ending"),
    Row("recover", "ending", "ending"),
    Row("fail", "ending", "failed"),
    Row("cancel", "ending", "cancelled"),
    Row("late", "running", "running"),
    Row("late", "paused", "paused"),
    Row("late", "ending", "ending"),
    Row("reopen", "failed", "running"),
    Row("reopen", "cancelled", "running"),
)

TEARDOWN: Final = "teardown"
"""The trigger rule of a step that cleans up; users write `teardown=True`."""

LOST_WORKERS_MAX: Final = 10
"""The loss of so many workers in a row fails a step: it may be what ends them."""

STEP_ENDS: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "cancelled"})
VECT_STATES: Final = get_args(VectStateName)
VECT_ENDS: Final = frozenset({"success", "failed", "cancelled"})

VECT_CREATED: Final = "vect.created"
"""Name of the first event of every Vect: it creates the Vect, and no transition makes it."""

PLAN_CREATED: Final = "plan.created"
PLAN_SKIPPED: Final = "plan.skipped"
PLAN_EVENTS: Final = MappingProxyType({PLAN_CREATED: "planned", PLAN_SKIPPED: "skipped"})
"""The events of plans, which belong to no Vect, each with its `dest`; they have no `source`."""

_PAST: Final = {
    "start": "started",
    "succeed": "succeeded",
    "fail": "failed",
    "retry": "retried",
    "release": "released",
    "skip": "skipped",
    "block": "blocked",
    "cancel": "cancelled",
    "interrupt": "interrupted",
    "reset": "reset",
    "pause": "paused",
    "resume": "resumed",
    "reopen": "reopened",
    "recover": "recovered",
    "late_result": "late_result",
    "end": "ending",
    "compensate": "compensating",
    "end_compensation": "compensated",
    "fail_compensation": "compensation_failed",
    "interrupt_compensation": "compensation_interrupted",
    "late": "late",
}


def event_names(scope: Literal["step", "vect"], table: tuple[Row, ...]) -> dict[str, str]:
    """Return the name of the event that each trigger of a table makes."""
    return {row.trigger: f"{scope}.{_PAST[row.trigger]}" for row in table}


STEP_EVENTS: Final = event_names("step", STEP_TABLE)
VECT_EVENTS: Final = event_names("vect", VECT_TABLE)
EVENT_NAMES: Final = (VECT_CREATED, *VECT_EVENTS.values(), *STEP_EVENTS.values(), *PLAN_EVENTS)

COMPENSATION_EVENTS: Final = frozenset(STEP_EVENTS[trigger] for trigger in COMPENSATIONS)
LOSSES: Final = frozenset({"step.interrupted", "step.compensation_interrupted"})
"""The events of an attempt whose work was lost; the first one also tells of a program's death."""

UNDONE_EVENTS: Final = frozenset({"step.compensated", "step.compensation_failed"})
"""The answers of an attempt of a compensation."""

STEP_MOVES: Final = frozenset((STEP_EVENTS[row.trigger], *row[1:]) for row in STEP_TABLE)
VECT_MOVES: Final = frozenset((VECT_EVENTS[row.trigger], *row[1:]) for row in VECT_TABLE)
PLAN_MOVES: Final = frozenset((name, None, dest) for name, dest in PLAN_EVENTS.items())
"""All moves that a history may have, as (event name, source, dest), for the replay."""
