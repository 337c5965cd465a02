"""`log_events`: a line for each event, by the logger of its flow, on the level that suits."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from oautom import Event
from oautom.events.subscribers import log_events
from oautom.events.subscribers.logging import LEVELS
from oautom.machine.tables import EVENT_NAMES
from tests.kit import created, event, started, step_failed, step_started, step_succeeded

BLOCKED = event(
    8,
    "step.blocked",
    "pending",
    "upstream_failed",
    step="b",
    upstream="a",
    error="upstream 'a' failed: it broke",
)
CANCELLED = event(9, "step.cancelled", "running", "cancelled", step="a", attempt=1, reason="enough")


@pytest.mark.parametrize(
    ("happened", "level", "line"),
    [
        (created(1, {"a": ()}), "DEBUG", "vect v created"),
        (started(2), "INFO", "vect v started"),
        (step_started(3, "a"), "INFO", "vect v: step 'a' started"),
        (step_started(4, "a", attempt=2), "INFO", "vect v: step 'a' started (attempt 2)"),
        (step_succeeded(5, "a", output="secret"), "INFO", "vect v: step 'a' succeeded"),
        (step_failed(6, "a"), "ERROR", "vect v: step 'a' failed: it broke"),
        (
            event(7, "step.late_result", "failed", "failed", step="a", attempt=1, output=1),
            "DEBUG",
            "vect v: step 'a' answered late",
        ),
        (BLOCKED, "WARNING", "vect v: step 'b' blocked: upstream 'a' failed: it broke"),
        (CANCELLED, "WARNING", "vect v: step 'a' cancelled: enough"),
        (
            event(10, "vect.cancelled", "running", "cancelled", reason=""),
            "WARNING",
            "vect v cancelled",
        ),
        (
            event(11, "vect.failed", "running", "failed", steps=["a", "b"]),
            "ERROR",
            "vect v failed: a, b",
        ),
        (event(12, "vect.succeeded", "running", "success"), "INFO", "vect v succeeded"),
    ],
    ids=lambda value: value.name if isinstance(value, Event) else "",
)
def test_each_event_is_a_line_on_its_level(
    caplog: pytest.LogCaptureFixture, happened: Event, level: str, line: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        log_events(None, event=happened)

    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("oautom.flow.f", level, line)


def test_an_event_that_came_later_than_this_list_is_told_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        log_events(None, event(1, "step.polished", "running", "running", step="a"))

    assert caplog.records[0].levelname == "INFO"
    assert caplog.records[0].getMessage() == "vect v: step 'a' polished"


def test_levels_are_those_of_events_that_there_are() -> None:
    assert set(LEVELS) <= set(EVENT_NAMES)


def test_a_record_holds_the_event_for_handlers_that_want_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        log_events(None, event=step_failed(6, "a"))

    (record,) = caplog.records
    told = {
        "seq": 6,
        "time": "2026-11-24T12:00:06+00:00",
        "flow": "f",
        "vect": "v",
        "step": "a",
        "attempt": 1,
        "event": "step.failed",
        "source": "running",
        "dest": "failed",
        "error": "it broke",
    }
    assert {name: getattr(record, name) for name in told} == told


@pytest.mark.parametrize("text", ["a\nERROR forged", "a\r\x1b[31mred", "a\u2028b"])
def test_no_name_and_no_error_can_forge_a_line(caplog: pytest.LogCaptureFixture, text: str) -> None:
    happened = msgspec.structs.replace(step_failed(1, text, error=text), vect=text)
    with caplog.at_level(logging.DEBUG):
        log_events(None, event=happened)

    message = caplog.records[0].getMessage()
    assert message.isprintable()
    assert message.count(repr(text)[1:-1]) == 3


def test_text_with_percent_signs_and_other_alphabets_is_told_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_events(None, event=step_failed(1, "étape 100%s", error="%d % 漢字"))

    assert caplog.records[0].getMessage() == "vect v: step 'étape 100%s' failed: %d % 漢字"


def test_a_level_that_is_off_costs_no_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(event: Any) -> str:
        raise AssertionError("made a line that nobody reads")

    monkeypatch.setattr("oautom.events.subscribers.logging._line", never)
    with caplog.at_level(logging.WARNING):
        log_events(None, event=started(2))

    assert caplog.records == []


def test_where_logging_is_not_configured_only_what_went_wrong_is_seen() -> None:
    program = """
from oautom import *
from oautom.events import signals
from oautom.events.subscribers import log_events

signals.event.connect(log_events)
app = OAutom()
PythonExecution("good", Flow("good", app), int)
PythonExecution("bad", Flow("bad", app), int, ["x"])
app.run("good", vect_id="1")
app.run("bad", vect_id="2")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert ended.stdout == ""
    assert ended.stderr == (
        "vect 2: step 'bad' failed: ValueError: invalid literal for int() with base 10: 'x'\n"
        "vect 2 failed: bad\n"
    )
