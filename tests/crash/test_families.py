"""A program whose steps run other flows is killed at any time, and each child is run once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from oautom import Event
from oautom.audit.invariants import check_history
from oautom.events import replay

from .harness import Kill, begin, drawn_kills, events_of, few, swept

PROGRAM = Path(__file__).with_name("family.py")
PLACES = ("before", "middle", "uncommitted", "after")
FLOWS = {
    "v": "main",
    **dict.fromkeys(["v/first/1", "v/second/1"], "inner"),
    **dict.fromkeys(["v/first/1/down/1", "v/second/1/down/1", "v/flaky/1", "v/flaky/2"], "deep"),
    **{f"v/each[{index}]/1": "deep" for index in range(3)},
}
NUMBERS = {
    ("v/first/1/down/1", "leaf"): 1,
    ("v/first/1", "up"): 2,
    ("v/second/1/down/1", "leaf"): 10,
    ("v/second/1", "up"): 11,
    ("v/flaky/1", "leaf"): 3,
    ("v/flaky/2", "leaf"): 3,
    **{(f"v/each[{index}]/1", "leaf"): 20 + index for index in range(3)},
}
"""What each step is given."""
EACH = tuple(f"each[{index}]" for index in range(3))
LIMITS = {"main": 1, "inner": 1, "deep": 2}


def attempts(folder: Path) -> Counter[tuple[str, str]]:
    """Return how often each step has begun, and hold what it was given against what it should."""
    side = folder / "side"
    rows = [line.split("\t") for line in side.read_text().splitlines()] if side.exists() else []
    for vect, step, _, number in rows:
        assert NUMBERS[vect, step] == int(number)
    assert len({(vect, step, attempt) for vect, step, attempt, _ in rows}) == len(rows)
    return Counter((vect, step) for vect, step, *_ in rows)


def look(folder: Path, before: Sequence[Event]) -> list[Event]:
    """Hold what a program has left against what children promise."""
    begun = attempts(folder)  # before the log: what has begun must be there already
    events = events_of(folder)
    assert events[: len(before)] == before
    check_history(events)
    vects = replay(events)
    assert {name: vect.flow for name, vect in vects.items()}.items() <= FLOWS.items()
    ended = [(e.vect, e.step or "") for e in events if e.name == "step.succeeded"]
    assert len(ended) == len(set(ended))
    started = Counter((e.vect, e.step) for e in events if e.name == "step.started")
    assert all(begun[place] <= started[place] for place in begun)
    is_open: Counter[str] = Counter()
    for event in events:
        if event.step is None:
            is_open[event.flow] += event.name == "vect.started"
            is_open[event.flow] -= event.dest in ("success", "failed")
            assert is_open[event.flow] <= LIMITS[event.flow]
    for flow_step in (
        "first",
        "second",
        "flaky",
        *EACH,
    ):  # a step that runs a flow is never interrupted
        assert started["v", flow_step] <= 1 + (flow_step == "flaky")
    return events


def finish(folder: Path, before: Sequence[Event], **settings: str) -> None:
    life = begin(PROGRAM, folder, **settings)
    assert life.wait_for("done"), (folder / "errors").read_text()
    assert life.end() == 0
    vects = replay(look(folder, before))
    assert vects.keys() == FLOWS.keys()
    states = {name: vect.state for name, vect in vects.items()}
    assert states == dict.fromkeys(FLOWS, "success") | {"v/flaky/1": "failed"}
    assert (folder / "result").read_text() == str(12 + 4)
    assert attempts(folder).keys() == NUMBERS.keys()


CASES = few(("foreground", "threads"), ("background", "inline"), more=[("background", "processes")])


@pytest.mark.parametrize(("mode", "executor"), CASES)
@pytest.mark.parametrize("seed", few(1, 2, more=range(3, 20)))
def test_however_often_it_is_killed_each_child_is_run_once(
    tmp_path: Path, mode: str, executor: str, seed: int
) -> None:
    settings = {"mode": mode, "executor": executor}
    kills = [Kill(phase, seconds % 0.3) for phase, seconds in drawn_kills(random.Random(seed))]
    with swept(tmp_path / "run") as folder:
        events: list[Event] = []
        for kill in kills:
            begin(PROGRAM, folder, **settings).kill_at(kill)
            events = look(folder, events)
        finish(folder, events, **settings)


@pytest.mark.timeout(600)
def test_whichever_commit_it_dies_at_the_next_life_goes_on(tmp_path: Path) -> None:
    """In the short form, every third commit, each with one of the four places by turns."""
    settings = {"mode": "foreground", "executor": "threads"}
    for n in range(1, 99, few(3, more=[1])[-1]):
        with swept(tmp_path / str(n)) as folder:
            code = begin(PROGRAM, folder, **settings, dies=[PLACES[n % 4], n]).end()
            finish(folder, look(folder, []), **settings)
        if code == 0:
            break
    assert 12 <= n < 98


def test_a_program_that_dies_at_each_of_its_commits_gets_there(tmp_path: Path) -> None:
    """In the short form each life has four of them to go on, in the long form one."""
    settings = {"mode": "background", "executor": "threads"}
    with swept(tmp_path / "run") as folder:
        events: list[Event] = []
        for life in range(99):
            if (
                begin(
                    PROGRAM, folder, **settings, dies=[PLACES[life % 4], few(5, more=[2])[-1]]
                ).end()
                == 0
            ):
                break
            events = look(folder, events)
        assert 2 < life < 98
        finish(folder, events, **settings)
