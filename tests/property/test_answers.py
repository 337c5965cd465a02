"""Answers that no attempt waits for, in all the ways in which they can come."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from .cases import Case, FlowPlan, VectPlan, cases, moderate
from .driver import Driver, plain
from .test_history import log_of
from .test_state import facts


@moderate
@given(cases(("answer", "answer", "cancel", "again")))
def test_answers_after_the_end_move_nothing(case: Case) -> None:
    driver = Driver(case).play()
    before = facts(driver.states)
    seq = driver.log.last_seq
    for attempt in driver.workers.submitted:
        driver.scheduler.put(driver.finished(attempt))
    if driver.workers.submitted:
        driver.scheduler.tick(driver.scheduler._collect(None))
    assert driver.scheduler.failure is None
    assert facts(driver.states) == before
    assert driver.log.last_seq == seq + len(driver.workers.submitted)
    assert {e.name for e in driver.log.read(after=seq)} <= {"step.late_result"}


@moderate
@given(st.integers(1, 3), st.sampled_from(["return", "raise", "break"]), st.booleans())
def test_workers_that_answer_twice_are_written_down_and_harm_nobody(
    slots: int, outcome: str, together: bool
) -> None:
    case = Case(
        (FlowPlan(3, ((0, 1), (1, 2))),),
        (VectPlan(0, (outcome, "return", "return"), (0, 0, 0), False),),  # type: ignore[arg-type]
        slots,
        (),
    )
    driver = Driver(case)
    driver.begin(driver.runs[0])
    driver.tick()
    job = driver.workers.jobs.pop()
    job.answer(driver.outcome(job.attempt))
    if not together:
        driver.scheduler.tick(driver.scheduler._collect(None))
    job.answer(driver.outcome(job.attempt))
    driver.scheduler.tick(driver.scheduler._collect(None))
    assert driver.scheduler.failure is None, f"the engine stopped: {driver.scheduler.failure!r}"
    assert [e.name for e in driver.log.read()].count("step.late_result") == 1
    assert driver.scheduler.runner.busy == len(driver.workers.jobs)


@moderate
@given(cases())
def test_every_event_travels_by_value(case: Case) -> None:
    for event in log_of(case):
        copy = pickle.loads(pickle.dumps(event))
        assert plain([getattr(copy, f) for f in copy.__struct_fields__]) == plain(
            [getattr(event, f) for f in event.__struct_fields__]
        )
