"""Flows with steps that are asked whether they are done: they hold no slot in between."""

from __future__ import annotations

from hypothesis import given

from oautom.events import replay

from .cases import ORDERLY, Case, cases, moderate, oracle, vect_oracle
from .driver import Driver, Polled
from .test_state import due_steps, facts, played_with_snapshots

polling = cases(("answer", "answer", "answer", "begin", "cancel"), max_polls=3)


@moderate
@given(cases(ORDERLY, max_polls=3))
def test_final_states_depend_on_outcomes_only(case: Case) -> None:
    driver = Driver(case).play()
    for run, plan in zip(driver.runs, case.vects, strict=True):
        expected = oracle(case.flows[plan.flow], plan)
        assert {name: step.state for name, step in run.state.steps.items()} == expected
        assert run.state.state == vect_oracle(expected)


@moderate
@given(cases(ORDERLY, ("return",), max_polls=3))
def test_a_step_is_asked_until_it_says_yes_and_never_again(case: Case) -> None:
    driver = Driver(case).play()
    for run, plan in zip(driver.runs, case.vects, strict=True):
        for name, step in run.flow.steps.items():
            asked = driver.polls.get((run.state.id, name), 0)
            assert asked == (max(1, plan.polls[int(name)]) if isinstance(step, Polled) else 0)


@moderate
@given(polling)
def test_no_slot_is_free_while_a_step_is_due(case: Case) -> None:
    def look(driver: Driver) -> None:
        if len(driver.workers.jobs) < case.slots and driver.is_settled:
            assert due_steps(driver) == []

    Driver(case).play(look)


@moderate
@given(polling)
def test_the_fold_of_every_prefix_is_the_live_state_of_that_time(case: Case) -> None:
    driver, snapshots = played_with_snapshots(case)
    events = list(driver.log.read())
    for length, live in enumerate(snapshots, start=1):
        assert facts(replay(events[:length])) == live


@moderate
@given(polling)
def test_every_vect_ends_and_no_slot_or_timer_is_left_over(case: Case) -> None:
    driver = Driver(case).play()
    assert all(run.state.open_steps == 0 for run in driver.runs)
    runner = driver.scheduler.runner
    assert (runner.busy, runner._attempts, runner.lingering.is_ending_any) == (0, {}, False)
    # A timer may outlive its step; it must find nothing to do.
    while driver.scheduler._timers.heap:
        driver.scheduler.tick(driver.scheduler._collect(None))
    assert driver.scheduler.failure is None
    assert runner.busy == 0
    assert driver.workers.jobs == []
