"""Vects that wait for their turn in a program that is killed: each has it once, and in order."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from oautom.audit.invariants import check_history
from oautom.events import replay

from .harness import Life, begin, events_of, few, swept

TURNS = Path(__file__).with_name("turns.py")
OPEN = 2


def kill_after(life: Life, word: str, count: int) -> None:
    """Kill a program when it has said something so many times; it must not have ended before."""
    assert life.process.stdout is not None
    text = b""
    while text.count(word.encode()) < count:
        chunk = os.read(life.process.stdout.fileno(), 2**16)
        assert chunk, "it ended too early"
        text += chunk
    life.kill()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", few("background", more=["foreground"]))
@pytest.mark.parametrize("count", few(100, more=[1000]))
def test_a_thousand_starts_have_their_turns_in_order_though_the_program_is_killed(
    tmp_path: Path, count: int, mode: str
) -> None:
    chance = random.Random(f"turns {count} {mode}")
    settings = {"mode": mode, "executor": "threads", "synchronous": "NORMAL", "count": count}
    with swept(tmp_path / "run") as folder:
        kill_after(begin(TURNS, folder, **settings), "accepted", chance.randrange(count // 2))
        kill_after(begin(TURNS, folder, **settings), "ran", 1 + chance.randrange(count // 3))
        life = begin(TURNS, folder, **settings)
        assert life.wait_for("done", 300), (folder / "errors").read_text()
        assert life.end() == 0
        events = events_of(folder)

    check_history(events)
    vects = replay(events)
    assert len(vects) == count
    assert {vect.state for vect in vects.values()} == {"success"}
    started = [event.vect for event in events if event.name == "vect.started"]
    assert started == list(vects)  # they are in the order in which they were created
    under_way, most = 0, 0
    for event in events:
        if event.step is None:
            under_way += event.name == "vect.started"
            under_way -= event.name == "vect.succeeded"
            most = max(most, under_way)
    assert most == OPEN
