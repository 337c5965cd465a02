"""Logs as lines of JSON: nothing is lost, and what would be is refused. And replays of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oautom import Event, InvalidHistoryError, LogError, MemoryEventLog
from oautom.events import replay
from oautom.events.jsonl import from_line, read_jsonl, to_line, write_jsonl
from oautom.testing import flows, histories, outcomes, simulate

from .test_simulated_runs import flow_of

moderate = settings(deadline=None, max_examples=50)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def event_with(output: Any) -> Event:
    (event,) = (
        each
        for each in simulate(flow_of("", "a"), outcomes={"a": [output]}).events()
        if each.name == "step.succeeded"
    )
    return event


# Nothing is lost


@moderate
@given(data=st.data())
def test_an_event_is_read_as_it_was_written(data: st.DataObject) -> None:
    names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)
    flow = data.draw(flows(names=names, max_steps=4))
    errors = st.builds(ValueError, st.text())
    ends = data.draw(outcomes(flow, outputs=values, errors=errors))

    for event in simulate(flow, outcomes=ends).events():
        line = to_line(event)
        again = from_line(line)
        assert again == event
        assert again.time.tzinfo is UTC
        assert to_line(again) == line
        assert "\n" not in line
        assert list(json.loads(line)) == list(Event.__struct_fields__)  # any other reader will do


@moderate
@given(output=values)
def test_a_value_has_the_same_type_and_order_when_it_is_read(output: Any) -> None:
    again = from_line(to_line(event_with(output))).data["output"]

    assert repr(again) == repr(output)


def test_what_is_read_cannot_be_changed() -> None:
    event = from_line(to_line(simulate(flow_of("ab", "ab")).events()[0]))

    with pytest.raises(TypeError):
        event.data["graph"] = {}  # type: ignore[index]
    with pytest.raises(TypeError):
        event.data["graph"]["a"] = ()
    with pytest.raises(AttributeError):
        event.seq = 2  # type: ignore[misc]


def test_line_separators_in_a_text_do_not_part_a_line(tmp_path: Path) -> None:
    output = "a\u2028b\u0085c\rd\r\ne\x1cf\n"
    write_jsonl([event_with(output)], tmp_path / "log.jsonl")

    (event,) = read_jsonl(tmp_path / "log.jsonl")
    assert event.data["output"] == output


def test_a_file_is_the_same_wherever_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_jsonl(simulate(flow_of("", "a"), outcomes={"a": "ü"}).events(), path)

    assert path.read_bytes().count(b"\r") == 0
    assert '"output":"ü"'.encode() in path.read_bytes()


def test_a_file_without_its_last_line_break_is_read_to_its_end(tmp_path: Path) -> None:
    events, path = simulate(flow_of("", "a")).events(), tmp_path / "log.jsonl"
    write_jsonl(events, path)
    path.write_bytes(path.read_bytes()[:-1])

    assert list(read_jsonl(path)) == events


def test_an_empty_log_is_an_empty_file(tmp_path: Path) -> None:
    MemoryEventLog().to_jsonl(tmp_path / "log.jsonl")

    assert (tmp_path / "log.jsonl").read_bytes() == b""
    assert MemoryEventLog.from_jsonl(tmp_path / "log.jsonl").last_seq == 0


def test_a_log_that_was_read_can_go_on(tmp_path: Path) -> None:
    events, path = simulate(flow_of("", "a")).events(), tmp_path / "log.jsonl"
    write_jsonl(events[:3], path)

    log = MemoryEventLog.from_jsonl(path)
    log.append(None, events[3])
    log.commit()
    assert list(log.read()) == events[:4]


# What would be lost is refused


def test_a_file_is_left_as_it_was_where_an_event_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("as it was")

    with pytest.raises(LogError, match=r"event 4 \(step.succeeded of a\) cannot be written"):
        write_jsonl([event_with("fine"), event_with({1})], path)
    assert path.read_text() == "as it was"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"seq": "1"}, "seq"),
        ({"seq": 1.5}, "seq"),
        ({"step": 7}, "step"),
        ({"more": 1}, "more"),
        ({"time": "yesterday"}, "yesterday"),
        ({"time": None}, ""),
        ({"data": None}, ""),
        ({"data": {"params": {}}}, "graph"),
        ({"data": {"params": {}, "graph": {"a": 1}}}, ""),
        ({"data": {"params": 1, "graph": {}}}, ""),
        ({"name": None}, "name"),
        pytest.param(
            {"time": "2000-01-01T00:00:00"},
            "time ?zone",
        ),
    ],
)
def test_a_line_of_the_wrong_form_is_refused(
    change: dict[str, Any], what: str, tmp_path: Path
) -> None:
    first = to_line(simulate(flow_of("", "a")).events()[0])
    path = tmp_path / "log.jsonl"
    path.write_text(f"{first}\n{json.dumps(json.loads(first) | change)}\n")

    with pytest.raises(LogError, match=r"log.jsonl, line 2: this line is no event: .*" + what):
        list(read_jsonl(path))


def test_a_line_that_is_missing_is_told(tmp_path: Path) -> None:
    events, path = simulate(flow_of("", "a")).events(), tmp_path / "log.jsonl"
    write_jsonl([*events[:2], *events[3:]], path)

    with pytest.raises(LogError, match="event 4 cannot follow event 2"):
        MemoryEventLog.from_jsonl(path)


# Replay


@moderate
@given(histories(max_vects=3))
def test_the_state_at_any_point_is_that_of_the_beginning_of_the_log(history: Any) -> None:
    for length in range(len(history) + 1):
        states = replay(history, upto=length)
        again = replay(iter(history[:length]))
        assert {vect: each.facts() for vect, each in states.items()} == {
            vect: each.facts() for vect, each in again.items()
        }
        assert list(states) == list(dict.fromkeys(event.vect for event in history[:length]))


@moderate
@given(histories(max_vects=3))
def test_the_events_of_one_vect_are_enough_for_its_state(history: Any) -> None:
    for vect, state in replay(history).items():
        own = replay(event for event in history if event.vect == vect)
        assert own[vect].facts() == state.facts()


def test_a_state_from_json_is_that_of_the_run() -> None:
    vect = simulate(flow_of("ab ac", "abc"), outcomes={"b": OSError("no"), "a": [[1]]})
    (state,) = replay(from_line(to_line(event)) for event in vect.events()).values()

    for name, step in vect.steps.items():
        then = state.steps[name]
        assert (then.state, then.attempt, then.output) == (step.state, step.attempt, step.output)
        assert (then.error, then.end_date) == (step.error, step.end_date)


@moderate
@given(history=histories(flows(min_steps=1)), data=st.data())
def test_events_out_of_order_are_no_history(history: Any, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(history) - 2))
    swapped = [*history]
    swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]

    with pytest.raises(InvalidHistoryError):
        replay(swapped)


def test_the_time_of_events_is_for_people_only() -> None:
    events = simulate(flow_of("ab", "ab")).events()
    back = timedelta(days=365)
    earlier = [
        msgspec.structs.replace(event, time=datetime(2026, 1, 1, tzinfo=UTC) - i * back)
        for i, event in enumerate(events)
    ]

    assert replay(earlier)["simulated-0"].state == "success"
