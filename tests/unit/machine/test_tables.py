"""The transition tables: what a step and a Vect may become."""

from __future__ import annotations

from typing import get_args

import pytest

from oautom.machine.tables import (
    COMPENSATIONS,
    EVENT_NAMES,
    INITIAL,
    PLAN_EVENTS,
    STEP_ENDS,
    STEP_EVENTS,
    STEP_MOVES,
    STEP_TABLE,
    VECT_ENDS,
    VECT_EVENTS,
    VECT_MOVES,
    VECT_TABLE,
    StepStateName,
    VectStateName,
)

both_tables = pytest.mark.parametrize(
    ("table", "ends", "states"),
    [
        pytest.param(STEP_TABLE, STEP_ENDS, get_args(StepStateName), id="step"),
        pytest.param(VECT_TABLE, VECT_ENDS, get_args(VectStateName), id="vect"),
    ],
)


@both_tables
def test_a_trigger_leads_from_one_state_to_one_state(table, ends, states) -> None:
    pairs = [(row.trigger, row.source) for row in table]

    assert len(pairs) == len(set(pairs))


@both_tables
def test_the_table_names_all_states_and_no_others(table, ends, states) -> None:
    named = {row.source for row in table} | {row.dest for row in table}

    assert named == set(states)
    assert ends < named


@both_tables
def test_only_a_person_leads_out_of_an_end(table, ends, states) -> None:
    out_of_ends = {row.trigger for row in table if row.source in ends and row.source != row.dest}

    assert out_of_ends <= {"reset", "reopen"}


@both_tables
def test_only_what_is_late_and_a_recovery_stay_where_they_are(table, ends, states) -> None:
    staying = {row.trigger for row in table if row.source == row.dest}

    assert staying <= {"late_result", "late", "recover", *COMPENSATIONS}


@both_tables
def test_whatever_has_begun_and_has_not_ended_can_be_late(table, ends, states) -> None:
    """A step is pending again between two attempts; a Vect is pending only before it begins."""
    sources = {row.source for row in table if row.trigger == "late"}

    assert sources == set(states) - ends - ({INITIAL} if table is VECT_TABLE else set())


@both_tables
def test_every_state_is_reached_and_every_other_than_an_end_is_left(table, ends, states) -> None:
    reached = {INITIAL}
    for _ in states:
        reached |= {row.dest for row in table if row.source in reached}

    assert reached == set(states)
    by_itself = {row.source for row in table if row.trigger not in ("reset", "reopen")}
    staying = {row.source for row in table if row.dest == row.source}
    assert by_itself - staying <= set(states) - ends <= by_itself


def test_a_late_result_is_possible_wherever_an_attempt_can_have_ended() -> None:
    """And while the step waits for its next attempt, or makes it."""
    ends_of_attempts = {row.dest for row in STEP_TABLE if row.source == "running"}
    sources = {row.source for row in STEP_TABLE if row.trigger == "late_result"}

    assert sources == ends_of_attempts | {"running", "upstream_failed"}  # behind a reset


def test_the_events_have_the_names_of_the_design() -> None:
    assert set(STEP_EVENTS.values()) == {
        "step.started",
        "step.succeeded",
        "step.failed",
        "step.retried",
        "step.released",
        "step.skipped",
        "step.blocked",
        "step.cancelled",
        "step.interrupted",
        "step.reset",
        "step.late_result",
        "step.compensating",
        "step.compensated",
        "step.compensation_failed",
        "step.compensation_interrupted",
        "step.late",
    }
    assert set(VECT_EVENTS.values()) == {
        "vect.started",
        "vect.succeeded",
        "vect.failed",
        "vect.cancelled",
        "vect.recovered",
        "vect.paused",
        "vect.resumed",
        "vect.reopened",
        "vect.ending",
        "vect.late",
    }


def test_no_two_triggers_make_the_same_event() -> None:
    others = 1 + len(PLAN_EVENTS)
    assert len(set(EVENT_NAMES)) == len(EVENT_NAMES) == len(STEP_EVENTS) + len(VECT_EVENTS) + others


def test_what_a_plan_tells_is_told_from_the_states_of_a_vect() -> None:
    """The index of a durable log has states, and no names."""
    assert set(PLAN_EVENTS.values()) == {"planned", "skipped"}
    assert not set(PLAN_EVENTS.values()) & {state for row in VECT_TABLE for state in row[1:]}


def test_the_moves_of_the_replay_are_those_of_the_live_tables() -> None:
    assert ("step.started", "pending", "running") in STEP_MOVES
    assert ("step.succeeded", "pending", "success") not in STEP_MOVES
    assert len(STEP_MOVES) == len(STEP_TABLE)
    assert len(VECT_MOVES) == len(VECT_TABLE)
