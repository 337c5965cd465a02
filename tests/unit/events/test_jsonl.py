"""Events as lines of JSON: what is refused, and how that is said."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from oautom import LogError
from oautom.events.jsonl import from_line, to_line
from tests.kit import NOON, created, event, started, step_succeeded


@pytest.fixture
def _far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_what_cannot_be_written_is_named_by_flow_and_step() -> None:
    with pytest.raises(LogError) as caught:
        to_line(step_succeeded(4, "a", {1, 2}))

    assert str(caught.value).startswith("event 4 (step.succeeded of a) cannot be written as JSON: ")
    assert (caught.value.flow, caught.value.step) == ("f", "a")


def test_of_an_event_of_a_vect_no_step_is_named() -> None:
    broken = event(1, "vect.created", None, "pending", params={"x": object()}, graph={})
    with pytest.raises(LogError) as caught:
        to_line(broken)

    assert str(caught.value).startswith("event 1 (vect.created of the vect) cannot be written")
    assert (caught.value.flow, caught.value.step) == ("f", None)


def test_of_a_long_line_only_the_beginning_is_told() -> None:
    line = '"' + "x" * 300

    with pytest.raises(LogError) as caught:
        from_line(line)

    assert str(caught.value).startswith("this line is no event: ")
    assert str(caught.value).endswith(f": {line[:200]!r}")


@pytest.mark.usefixtures("_far_from_utc")
def test_a_time_is_read_as_utc_wherever_the_program_runs() -> None:
    line = to_line(started(2)).replace("12:00:02+00:00", "14:00:02+02:00")

    read = from_line(line)

    assert read.time == NOON + timedelta(seconds=2)
    assert read.time.utcoffset() == timedelta(0)


def test_what_is_read_is_as_read_only_as_what_was_written() -> None:
    for each in (created(1, {"a": ()}), started(2)):
        read = from_line(to_line(each))
        assert read == each
        for data in (read.data, *read.data.values()):
            with pytest.raises(TypeError):
                data["new"] = 1  # type: ignore[index]
