"""A log that has been tampered with: where the events are no history, the fold says so."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from oautom import Event, InvalidHistoryError
from oautom.events import replay
from oautom.machine.tables import EVENT_NAMES, STEP_MOVES, VECT_MOVES

from .cases import Case, cases, moderate
from .test_history import log_of
from .test_state import facts

index = st.integers(0, 1000)


def same_machine(event: Event, other: Event) -> bool:
    return (event.vect, event.step) == (other.vect, other.step)


def check_it_is_refused(events: list[Event], at: Event) -> None:
    with pytest.raises(InvalidHistoryError, match=f"event {at.seq} does not fit") as caught:
        replay(events)
    assert caught.value.seq == at.seq


@moderate
@given(cases(), index)
def test_an_event_that_is_missing_is_missed_by_the_next_one(case: Case, number: int) -> None:
    events = log_of(case)
    gone = events.pop(number % len(events))
    rest = events[gone.seq - 1 :]
    if gone.name == "vect.created":
        after = next(event for event in rest if event.vect == gone.vect)
    else:
        assume(gone.source != gone.dest)
        later = [event for event in rest if same_machine(event, gone)]
        assume(later)
        after = later[0]
    check_it_is_refused(events, after)


@moderate
@given(cases(), index, index)
def test_an_event_that_comes_twice_is_refused(case: Case, number: int, place: int) -> None:
    events = log_of(case)
    again = events[number % len(events)]
    assume(again.source != again.dest)
    where = again.seq + place % (len(events) - again.seq + 1)
    check_it_is_refused([*events[:where], again, *events[where:]], again)


@moderate
@given(cases(), index)
def test_events_of_one_machine_in_another_order_are_refused(case: Case, number: int) -> None:
    events = log_of(case)
    moved = events[number % len(events)]
    before = [e for e in events[: moved.seq - 1] if same_machine(e, moved)]
    assume(before)
    assume(before[-1].dest != moved.dest)
    events.remove(moved)
    events.insert(before[-1].seq - 1, moved)
    check_it_is_refused(events, moved)


@moderate
@given(cases(), index, st.sampled_from([*EVENT_NAMES, "step.gone"]), st.sampled_from("pd"))
def test_an_event_that_says_what_cannot_be_is_refused(
    case: Case, number: int, name: str, what: str
) -> None:
    events = log_of(case)
    true = events[number % len(events)]
    changes = {"name": name} if what == "p" else {"dest": "pending"}
    wrong = msgspec.structs.replace(true, **changes)
    moves = VECT_MOVES if true.step is None else STEP_MOVES
    assume((wrong.name, wrong.source, wrong.dest) not in moves)
    assume("vect.created" not in (true.name, wrong.name))
    events[true.seq - 1] = wrong
    check_it_is_refused(events, wrong)


@moderate
@given(cases(), index, st.sampled_from([{"vect": "nobody's"}, {"step": "nobody's"}]))
def test_an_event_of_nobody_is_refused(case: Case, number: int, stranger: dict[str, str]) -> None:
    events = log_of(case)
    true = events[number % len(events)]
    assume(true.name != "vect.created")
    events[true.seq - 1] = wrong = msgspec.structs.replace(true, **stranger)
    check_it_is_refused(events, wrong)


@moderate
@given(cases(), index)
def test_the_cut_log_of_a_dead_process_is_a_history(case: Case, number: int) -> None:
    events = log_of(case)
    cut = events[: number % (len(events) + 1)]
    whole = replay(events)
    for vect, state in replay(cut).items():
        for event in events[len(cut) :]:
            if event.vect == vect:
                state.advance(event)
        assert facts({vect: state}) == facts({vect: whole[vect]})
