"""A program that is killed at any time goes on where it was, and does nothing twice that was done.

This is the short form, with seeds that take all kinds of steps, executors and modes; `make crash`
runs as many rounds as one likes. What is looked at after each kill stands in `checks`.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from .harness import Kill, drawn_kills, few, run
from .plans import drawn


@pytest.mark.parametrize(
    ("executor", "mode"),
    few(
        ("threads", "foreground"),
        ("processes", "background"),
        more=[
            ("threads", "background"),
            ("processes", "foreground"),
            ("inline", "foreground"),
            ("inline", "background"),
        ],
    ),
)
def test_a_program_that_is_killed_again_and_again_does_all_steps_in_order(
    tmp_path: Path, executor: str, mode: str
) -> None:
    seed = f"{executor} {mode}"
    plan = drawn(sum(seed.encode()), executor=executor, mode=mode)
    result = run(tmp_path, plan, drawn_kills(random.Random(seed))[:3])
    assert result.violations == []


def test_a_program_that_is_killed_while_it_recovers_recovers_the_next_time(tmp_path: Path) -> None:
    step = {"upstreams": [], "outcome": "end"}
    steps = [
        {"name": "a", "kind": "tree", "seconds": 0.3, "on_crash": "rerun", **step},
        {"name": "b", "kind": "deaf", "seconds": 0.3, "on_crash": "rerun", **step},
        {"name": "c", "kind": "python", "seconds": 0.3, "on_crash": "fail", **step},
    ]
    plan = drawn(1, mode="background", executor="threads", max_workers=3, flows={"flow": steps})
    kills = [Kill("started", 0.1), *(Kill("opened", 0.004 * i) for i in range(4))]
    result = run(tmp_path, plan, kills)
    assert (result.violations, result.kills) == ([], 5)
