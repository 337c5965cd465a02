"""The timeline of a Vect, by simulated runs: each interval with the numbers that it must have."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from hypothesis import given

from oautom import (
    ApprovalExecution,
    Flow,
    MapExecution,
    OAutom,
    Pool,
    PythonExecution,
    RetryPolicy,
    WaitExecution,
)
from oautom.client.timeline import timeline_of
from oautom.events import Event
from oautom.machine.kinds import KINDS
from oautom.machine.tables import VECT_CREATED
from oautom.testing import histories, simulate
from oautom.testing.strategies import History
from oautom.vects.attempts import attempts_of
from tests.kit import nothing
from tests.property.cases import moderate

Told = tuple[str | None, int, str, float, float | None]


def told(events: Sequence[Event]) -> list[Told]:
    """Return a timeline in seconds since the first event."""
    first = events[0].time
    found = [
        (
            span.step,
            span.attempt,
            span.kind,
            (span.start - first).total_seconds(),
            None if span.end is None else (span.end - first).total_seconds(),
        )
        for span in timeline_of(events)
    ]
    return sorted(found, key=lambda each: (each[3], each[0] or ""))


def test_no_events_have_no_timeline() -> None:
    assert timeline_of([]) == []


def test_a_step_waits_for_a_slot_and_works() -> None:
    flow = Flow("flow", OAutom())
    one, two = (PythonExecution(name, flow, nothing, pool=Pool("p", 1)) for name in "ab")
    PythonExecution("c", flow, nothing).depends(one, two)
    vect = simulate(flow, durations={"a": 3.0, "b": 4.0, "c": 1.0})
    assert told(vect.events()) == [
        ("a", 1, "work", 0, 3),
        ("b", 1, "waiting", 0, 3),
        ("b", 1, "work", 3, 7),
        ("c", 1, "work", 7, 8),
    ]


def test_a_delay_between_attempts_is_told_apart() -> None:
    flow = Flow("flow", OAutom())
    retry = RetryPolicy(max_attempts=2, delay=10.0, jitter=0)
    PythonExecution("a", flow, nothing, retry=retry)
    vect = simulate(flow, durations={"a": 2.0}, outcomes={"a": [OSError("no"), 1]})
    assert told(vect.events()) == [
        ("a", 1, "work", 0, 2),
        ("a", 2, "delay", 2, 12),
        ("a", 2, "work", 12, 14),
    ]


def test_who_waits_for_a_time_or_a_person_does_not_work() -> None:
    flow = Flow("flow", OAutom())
    WaitExecution("wait", flow, seconds=5) >> ApprovalExecution("ask", flow, "now?")
    vect = simulate(flow, durations={"ask": 60.0})
    assert told(vect.events()) == [("wait", 1, "wait", 0, 5), ("ask", 1, "wait", 5, 65)]


def test_the_instances_of_a_map_have_intervals_of_their_own() -> None:
    flow = Flow("flow", OAutom())
    make = PythonExecution("make", flow, list)
    MapExecution("map", flow, str, make, max_parallel=1)
    vect = simulate(flow, durations={"map": 2.0}, outcomes={"make": [[7, 8]]})
    assert told(vect.events()) == [
        ("map", 1, "work", 0, 4),
        ("map[0]", 1, "work", 0, 2),
        ("map[1]", 1, "waiting", 0, 2),
        ("map[1]", 1, "work", 2, 4),
    ]


def test_what_is_undone_has_negative_attempts() -> None:
    flow = Flow("flow", OAutom())
    made = PythonExecution("make", flow, nothing, compensate=nothing)
    made >> PythonExecution("fail", flow, nothing)
    times = {"make": 1.0, "fail": 1.0, "make.compensate": 3.0}
    vect = simulate(flow, durations=times, outcomes={"fail": OSError("no")})
    assert told(vect.events())[-1] == ("make", -1, "work", 2, 5)


def test_what_goes_on_has_no_end() -> None:
    flow = Flow("flow", OAutom())
    PythonExecution("a", flow, nothing)
    events = simulate(flow, durations={"a": 2.0}).events()
    assert told(events[:3]) == [("a", 1, "work", 0, None)]


@moderate
@given(histories())
def test_each_attempt_has_one_interval_and_no_two_of_a_step_overlap(history: History) -> None:
    for vect in {event.vect for event in history if event.name == VECT_CREATED}:
        events = [event for event in history if event.vect == vect]
        spans = timeline_of(events)
        assert [each.start for each in spans] == sorted(each.start for each in spans)
        for step, of_step in groupby(sorted(spans, key=lambda s: s.step or ""), lambda s: s.step):
            own = list(of_step)
            for before, after in pairwise(own):
                assert before.end is not None
                assert before.end <= after.start
            if step is None:
                continue
            worked = [(s.attempt, s.start, s.end) for s in own if s.kind in ("work", "wait")]
            attempts = attempts_of(events, step, lambda _: "")
            assert worked == [
                (each.number, each.start_date, each.end_date)
                for each in attempts
                if each.start_date != each.end_date
            ]


def test_each_kind_that_stands_by_has_no_worker() -> None:
    assert [name for name, kind in KINDS.items() if kind.stands_by and kind.needs_worker] == []
