"""Any flow, any outcomes, any order of what happens: what holds of the log."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise

import pytest
from hypothesis import given

from oautom import Event
from oautom.machine.tables import STEP_ENDS, STEP_EVENTS, STEP_TABLE, VECT_EVENTS, VECT_TABLE

from .cases import Case, cases, moderate
from .driver import Driver, Ear, plain

STEP_MOVES = {(STEP_EVENTS[row.trigger], row.source, row.dest) for row in STEP_TABLE}
VECT_MOVES = {(VECT_EVENTS[row.trigger], row.source, row.dest) for row in VECT_TABLE}


def log_of(case: Case) -> list[Event]:
    return list(Driver(case).play().log.read())


def by_vect(events: list[Event]) -> Iterator[tuple[str, list[Event]]]:
    """Yield each Vect's own events."""
    for vect in dict.fromkeys(event.vect for event in events):
        yield vect, [event for event in events if event.vect == vect]


def by_step(events: list[Event]) -> Iterator[list[Event]]:
    """Yield the events of each step of each Vect."""
    for _, own in by_vect(events):
        for step in dict.fromkeys(event.step for event in own if event.step is not None):
            yield [event for event in own if event.step == step]


def places(events: list[Event], name: str) -> list[int]:
    return [i for i, event in enumerate(events) if event.name == name]


@moderate
@given(cases())
def test_numbers_are_dense_and_times_do_not_go_back(case: Case) -> None:
    events = log_of(case)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.time for event in events] == sorted(event.time for event in events)
    assert all(event.time.utcoffset().total_seconds() == 0 for event in events)


@moderate
@given(cases())
def test_what_happens_in_one_tick_has_one_time_and_no_other_tick_has_it(case: Case) -> None:
    driver = Driver(case).play()
    times = [{event.time for event in tick} for tick in driver.log.ticks if tick]
    assert all(len(each) == 1 for each in times)
    assert len(set().union(*times)) == len(times)


@moderate
@given(cases())
def test_a_vect_is_created_first_ends_once_and_then_only_late_answers_come(case: Case) -> None:
    events = log_of(case)
    assert len({event.vect for event in events}) == len(case.vects)
    for vect, own in by_vect(events):
        assert [event.name for event in own[:2]] == ["vect.created", "vect.started"], vect
        assert [event.source for event in own[:2]] == [None, "pending"]
        assert len(places(own, "vect.created")) == 1
        ends = [i for i, e in enumerate(own) if e.step is None and e.dest in STEP_ENDS]
        assert len(ends) == 1, vect
        assert {event.name for event in own[ends[0] + 1 :]} <= {"step.late_result"}


@moderate
@given(cases())
def test_the_events_of_each_machine_are_a_path_of_its_table(case: Case) -> None:
    events = log_of(case)
    for own in by_step(events):
        assert own[0].source == "pending"
    for _, all_own in by_vect(events):
        machines = [[event for event in all_own[1:] if event.step is None]]
        for own in (*machines, *by_step(all_own)):
            moves = STEP_MOVES if own[0].step is not None else VECT_MOVES
            assert all((event.name, event.source, event.dest) in moves for event in own)
            assert all(a.dest == b.source for a, b in pairwise(own))


@moderate
@given(cases())
def test_a_step_starts_at_most_once_and_its_work_is_done_once(case: Case) -> None:
    driver = Driver(case).play()
    for own in by_step(list(driver.log.read())):
        assert len(places(own, "step.started")) <= 1
        assert sum(event.dest in STEP_ENDS and event.source not in STEP_ENDS for event in own) == 1
    driver.check_what_was_submitted()
    assert len(set(driver.calls)) == len(driver.calls)
    assert set(driver.calls) <= set(driver.wanted), "work is done that was cancelled before"


@moderate
@given(cases())
def test_an_attempt_is_told_exactly_where_there_is_one(case: Case) -> None:
    for own in by_step(log_of(case)):
        for event in own:
            has_begun = event.source != "pending" or event.name == "step.started"
            assert event.attempt == (1 if has_begun else None), event
    assert all(event.attempt is None for event in log_of(case) if event.step is None)


@moderate
@given(cases())
def test_a_step_starts_only_after_the_success_of_all_its_upstreams(case: Case) -> None:
    for vect, own in by_vect(log_of(case)):
        upstreams = case.flows[case.vects[int(vect.split()[1])].flow].upstreams
        for place in places(own, "step.started"):
            before = own[:place]
            succeeded = {event.step for event in before if event.name == "step.succeeded"}
            assert set(upstreams[own[place].step]) <= succeeded


def due_order(case: Case, events: list[Event]) -> list[tuple[str, str]]:
    """Return the steps in the order in which they became due, ties in that of declaration."""
    order = []
    succeeded: set[tuple[str, str | None]] = set()
    for event in events:
        vect = event.vect
        upstreams = case.flows[case.vects[int(vect.split()[1])].flow].upstreams
        if event.name == "vect.started":
            order += [(vect, step) for step, ups in upstreams.items() if not ups]
        elif event.name == "step.succeeded":
            succeeded.add((vect, event.step))
            for step, ups in upstreams.items():
                if event.step in ups and all((vect, up) in succeeded for up in ups):
                    order.append((vect, step))
    return order


@moderate
@given(cases())
def test_what_became_due_first_starts_first(case: Case) -> None:
    events = log_of(case)
    started = [(event.vect, event.step) for event in events if event.name == "step.started"]
    assert started == [each for each in due_order(case, events) if each in started]


@moderate
@given(cases())
def test_no_descendant_of_a_failed_step_ever_starts(case: Case) -> None:
    for vect, own in by_vect(log_of(case)):
        flow = case.flows[case.vects[int(vect.split()[1])].flow]
        for failed in {event.step for event in own if event.name == "step.failed"}:
            below = descendants(flow.upstreams, failed)
            assert not [e for e in own if e.name == "step.started" and e.step in below]


@moderate
@given(cases())
def test_a_step_is_blocked_by_an_upstream_that_can_no_longer_succeed(case: Case) -> None:
    for vect, own in by_vect(log_of(case)):
        upstreams = case.flows[case.vects[int(vect.split()[1])].flow].upstreams
        for place in places(own, "step.blocked"):
            blocked, culprit = own[place], own[place].data["upstream"]
            assert culprit in upstreams[blocked.step]
            before = {e.step for e in own[:place] if e.name in ("step.failed", "step.blocked")}
            assert culprit in before


def descendants(upstreams: dict[str, list[str]], step: str) -> set[str]:
    below = {step}
    for _ in upstreams:
        below |= {name for name, ups in upstreams.items() if below.intersection(ups)}
    return below - {step}


@moderate
@given(cases())
def test_nothing_starts_after_a_cancel(case: Case) -> None:
    for _, own in by_vect(log_of(case)):
        cancels = places(own, "step.cancelled") + places(own, "vect.cancelled")
        if cancels:
            after = own[min(cancels) :]
            assert {e.name for e in after} <= {
                "step.cancelled",
                "vect.cancelled",
                "step.late_result",
            }


@moderate
@given(cases())
def test_whoever_runs_and_whoever_waits_is_cancelled_with_its_vect(case: Case) -> None:
    driver = Driver(case).play()
    events = list(driver.log.read())
    for vect, own in by_vect(events):
        if not places(own, "vect.cancelled"):
            assert not places(own, "step.cancelled")
            continue
        states = driver.states[vect].steps.values()
        ended = {event.step for event in own if event.source != "cancelled" and event.step}
        assert ended == {step.name for step in states}
        assert all(e.data["reason"] == "a person said so" for e in own if e.name[5:] == "cancelled")


@moderate
@given(cases())
def test_never_more_steps_run_than_there_are_slots(case: Case) -> None:
    running = 0
    for event in log_of(case):
        running += (event.dest == "running") - (event.source == "running")
        if event.step is None:
            running -= (event.dest == "running") - (event.source == "running")
        assert 0 <= running <= case.slots
    assert running == 0


@moderate
@given(cases())
def test_a_late_answer_is_written_down_with_what_it_says_and_for_each_of_them(case: Case) -> None:
    driver = Driver(case).play()
    asked = sum(move.kind == "again" for move in case.moves)
    late = [e for e in driver.log.read() if e.name == "step.late_result"]
    for event in late:
        assert event.source == event.dest != "upstream_failed"
        assert ("output" in event.data) != ("error" in event.data)
    ended = [e for e in driver.log.read() if e.name in ("step.succeeded", "step.failed")]
    cancelled = [e for e in driver.log.read() if e.name == "step.cancelled"]
    killed = [e for e in cancelled if (e.vect, e.step, e.attempt) in driver.workers.submitted]
    answers = len(driver.workers.submitted)
    assert answers == len(ended) + len(killed)
    assert len(late) >= len(killed)
    assert len(late) <= len(killed) + asked


@moderate
@given(cases())
def test_subscribers_hear_every_event_once_in_order_and_after_its_commit(case: Case) -> None:
    driver = Driver(case)
    with Ear(driver) as ear:
        driver.play()
    assert ear.heard == list(driver.log.read())


@moderate
@given(cases())
def test_an_event_cannot_be_changed(case: Case) -> None:
    for name, alike in groupby(log_of(case), key=lambda event: event.name):
        event = next(alike)
        with pytest.raises(AttributeError):
            event.seq = 1  # type: ignore[misc]
        with pytest.raises(TypeError):
            event.data["more"] = name  # type: ignore[index]


@moderate
@given(cases())
def test_one_vect_is_read_from_the_log_as_it_is_from_all(case: Case) -> None:
    driver = Driver(case).play()
    for vect, own in by_vect(list(driver.log.read())):
        assert list(driver.log.read(vect=vect)) == own


@moderate
@given(cases())
def test_the_same_case_makes_the_same_log(case: Case) -> None:
    first, second = log_of(case), log_of(case)
    assert [plain(told(event)) for event in first] == [plain(told(event)) for event in second]


def told(event: Event) -> list[object]:
    fields = [getattr(event, field) for field in event.__struct_fields__]
    return [field for field in fields if field is not event.data] + [
        {key: value for key, value in event.data.items() if key != "traceback"}
    ]
