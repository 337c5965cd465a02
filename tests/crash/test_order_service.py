"""The order service of the examples, killed anywhere: an order is shipped, or nothing is left."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from oautom.events.sqlite import SqliteEventLog
from oautom.testing import check_history

from .harness import IS_LONG

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "order_service.py"
ROUNDS = 100 if IS_LONG else 2
LIVES_MAX = 20 if IS_LONG else 5
SECONDS = 60


def life(folder: Path, seconds: float = SECONDS) -> bool:
    """Run the program, and kill it after some seconds; return whether it has come to its end."""
    program = subprocess.Popen([sys.executable, str(PROGRAM), folder], stdout=subprocess.PIPE)
    try:
        said, _ = program.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        program.kill()
        program.communicate()
        return False
    assert program.returncode == 0, said
    return True


def test_killed_at_any_time_an_order_is_shipped_or_nothing_of_it_is_left(tmp_path):
    chance = random.Random(0)
    whole = tmp_path / "whole"
    whole.mkdir()
    begun = time.monotonic()
    assert life(whole)
    took = time.monotonic() - begun
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        for _ in range(LIVES_MAX):
            if life(folder, took * chance.uniform(0.4, 1.1)):
                break
        else:
            assert life(folder)
        booked = sorted(str(path.relative_to(folder / "orders")) for path in folder.glob("*/*/*"))
        assert booked == ["charge/with-courier", "reserve/with-courier", "ship/with-courier"]
        with closing(SqliteEventLog(folder / "orders.db", read_only=True)) as log:
            events = list(log.read())
            check_history(events)
        assert {e.vect: e.dest for e in events if e.step is None} == {
            "with-courier": "success",
            "without-courier": "failed",
        }
        undone = [(e.vect, e.step) for e in events if e.name == "step.compensated"]
        assert undone == [("without-courier", "charge"), ("without-courier", "reserve")]
