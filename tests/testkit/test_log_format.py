"""What docs/testing.md says of a log as lines of JSON is so: its tables, and its example."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings

from oautom import Event, MemoryEventLog
from oautom.events.jsonl import from_line, to_line
from oautom.machine.tables import (
    EVENT_NAMES,
    LOSSES,
    PLAN_MOVES,
    STEP_MOVES,
    VECT_CREATED,
    VECT_MOVES,
)
from oautom.testing import histories

from .test_plugin import ROOT

GOLDEN = ROOT / "tests" / "golden"
TEXT = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
SECTION = TEXT.split("## A log as lines of JSON")[1].split("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in SECTION.splitlines()
    if line.startswith("| `") and not line.startswith("| `name` | `source`")
]
FIELDS = {row[0].strip("`"): row[1] for row in ROWS if len(row) == 3}
NAMES = {row[0].strip("`"): row[1:] for row in ROWS if len(row) == 4}

TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "text": (str,),
    "object": (dict,),
    "list": (list,),
    "integer or null": (int, type(None)),
    "text or null": (str, type(None)),
}


def test_every_field_is_told_in_its_order() -> None:
    assert list(FIELDS) == list(Event.__struct_fields__)


def test_every_name_is_told_with_the_states_before_and_after() -> None:
    told = set()
    for name, (states, _, _) in NAMES.items():
        sources, dest = states.rsplit(", ", 1)
        for source in re.findall(r"null|(?<=`)\w+(?=`)", sources):
            before = None if source == "null" else source
            told.add((name, before, before if dest == "both the same" else dest.strip("`")))

    assert set(NAMES) == set(EVENT_NAMES)
    assert told == STEP_MOVES | VECT_MOVES | PLAN_MOVES | {(VECT_CREATED, None, "pending")}


WORD = re.compile(r"`(\w+)`")

FAILURE = set(WORD.findall(NAMES["step.failed"][2])) - {"StepError"}
"""The data of a failure."""


def hold(line: str) -> None:
    """Hold a line against the tables."""
    fields = json.loads(line)
    assert list(fields) == list(FIELDS)
    for field, value in fields.items():
        assert isinstance(value, TYPES[FIELDS[field]]), field
    _, attempt, data = NAMES[fields["name"]]
    attempt = attempt.partition(",")[0]
    if attempt in ("null", "integer"):
        assert (fields["attempt"] is None) == (attempt == "null")
    assert (fields["step"] is None) == (not fields["name"].startswith("step."))
    told = set(re.findall(r"`(\w+)`", data.split(", as `")[0].split(", as for `")[0]))
    if fields["name"] == "step.late_result":
        told = FAILURE | {"output", "reason"}
    if fields["name"] in LOSSES:
        told = {"reason", "worker"}
    if fields["name"] in ("step.retried", "step.compensation_failed"):
        told = FAILURE | {"delay"}
    assert set(fields["data"]) <= told
    always = {
        "step.failed": {"error"},
        "step.started": set(),
        "step.succeeded": set(),  # of a map; of all others see data-fit-the-event
        "step.retried": {"error", "delay"},
        "step.late_result": set(),
        "step.compensation_failed": {"error"},
        "step.interrupted": set(),
        "step.compensation_interrupted": {"reason"},
        "vect.created": {"params", "graph"},
        **{key: set() for key in ("vect.started", "vect.recovered", "vect.reopened")},
        "vect.failed": {"steps"},
    }
    needed = always.get(fields["name"], told)
    assert needed <= set(fields["data"])


@settings(deadline=None, max_examples=40)
@given(histories())
def test_every_line_is_as_told(history: Any) -> None:
    for event in history:
        hold(to_line(event))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/*.jsonl")), ids=lambda path: path.stem)
def test_every_line_of_the_golden_logs_is_as_told(path: Any) -> None:
    for event in MemoryEventLog.from_jsonl(path).read():
        hold(to_line(event))


def test_the_example_is_a_line_of_a_log() -> None:
    (line,) = re.findall(r"```json\n(.+)\n```", SECTION)

    assert to_line(from_line(line)) == line
    assert line in (GOLDEN / "0.1.0" / "chain.jsonl").read_text(encoding="utf-8").splitlines()
