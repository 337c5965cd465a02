"""A log that cannot be written, at any event or commit of any case: the engine stops, cleanly."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oautom import Event, LogError
from oautom.events import replay
from tests.kit import TickLog

from .cases import Case, cases, moderate
from .driver import Driver, Ear
from .test_state import Facts, facts


@pytest.fixture(autouse=True)
def _errors_are_not_shown() -> Iterator[None]:
    """Keep still: that the engine has stopped is told as an error in each example."""
    logging.getLogger("oautom.scheduler").disabled = True
    yield
    logging.getLogger("oautom.scheduler").disabled = False


numbers = st.integers(1, 40)


def check_it_has_stopped(driver: Driver, error: OSError) -> None:
    assert driver.scheduler.failure is error
    with pytest.raises(LogError, match="the engine has stopped"):
        driver.scheduler.drive(lambda: False)


def check_nothing_is_lost_or_invented(driver: Driver, ear: Ear) -> None:
    committed = list(driver.log.read())
    assert ear.heard == committed
    driver.check_what_was_submitted()
    replay(committed)


def play_with(log: TickLog, case: Case, check: Callable[[Driver], None] | None = None) -> Driver:
    driver = Driver(case, log=log)
    with Ear(driver) as ear:
        driver.play()
        if driver.scheduler.failure is not None:
            if check is not None:
                check(driver)
            before = (list(driver.log.read()), list(driver.workers.submitted))
            assert all(job.work.context.cancelled.is_set() for job in driver.workers.jobs)
            while driver.workers.jobs:  # what still runs answers to nobody
                driver._answer(0)
            driver.tick()
            assert before == (list(driver.log.read()), driver.workers.submitted)
    check_nothing_is_lost_or_invented(driver, ear)
    return driver


@moderate
@given(cases(), numbers)
def test_an_event_that_cannot_be_written_has_not_happened(case: Case, number: int) -> None:
    moved: list[Facts] = []

    def watch(driver: Driver, event: Event) -> None:
        moved.append(facts(driver.states))

    log = TickLog(refuse=number)
    driver = Driver(case, log=log, watch=watch)
    driver.play()
    if driver.scheduler.failure is not None:
        check_it_has_stopped(driver, driver.scheduler.failure)
        assert log.last_seq == number - 1 == len(moved)
        committed = replay(driver.log.read())  # the rest of the tick has not happened either
        states = facts(driver.states)
        assert {vect: states[vect] for vect in committed} == facts(committed)
    else:
        assert log.last_seq < number


@moderate
@given(cases(), numbers, st.booleans())
def test_a_vect_whose_creation_is_not_committed_looks_untouched(
    case: Case, number: int, at_commit: bool
) -> None:
    log = TickLog(refuse_commit=number) if at_commit else TickLog(refuse=number)
    driver = Driver(case, log=log).play()
    created = {event.vect for event in log.read()}
    for run in driver.runs:
        if run.state.id not in created:
            assert run.state.state == "pending"
            assert {step.state for step in run.state.steps.values()} <= {"pending"}


@moderate
@given(cases(), numbers)
def test_after_a_failed_append_nothing_is_started_told_or_taken(case: Case, number: int) -> None:
    play_with(TickLog(refuse=number), case)


@moderate
@given(cases(), numbers)
def test_after_a_failed_commit_nothing_is_started_told_or_taken(case: Case, number: int) -> None:
    log = TickLog(refuse_commit=number)

    def check(driver: Driver) -> None:
        assert driver.scheduler.failure is not None
        check_it_has_stopped(driver, driver.scheduler.failure)
        assert log.commits == number

    play_with(log, case, check)
