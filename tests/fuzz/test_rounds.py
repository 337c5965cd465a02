"""A short sample of the fuzzing: the same rounds each time. The long form: `make fuzz`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from .drawn import KINDS, drawn
from .rounds import run

# Short rounds, which together have all executors, most kinds of steps, kills, a close and a cancel.
SEEDS = [376, 413, 459]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_round_finds_nothing(seed: int, tmp_path: Path) -> None:
    result = run(tmp_path / "round", seed)

    assert result.violations == []
    assert result.events > 0
    assert result.replays > 0


def test_a_seed_draws_the_same_round_each_time() -> None:
    assert [drawn(seed) for seed in range(20)] == [drawn(seed) for seed in range(20)]


def test_all_that_there_is_is_drawn() -> None:
    scenarios = [drawn(seed) for seed in range(200)]
    lives = [life for each in scenarios for life in each["lives"]]
    flows = [flow for each in scenarios for flow in each["flows"].values()]
    kinds = Counter(step["kind"] for flow in flows for step in flow["steps"])

    assert set(kinds) == set(KINDS)
    assert {life["how"] for life in lives} == {"kill", "close", "end"}
    assert {each["executor"] for each in scenarios} == {"threads", "processes", "inline"}
    assert any(life["plan"] for life in lives)
    told = {act["act"] for life in lives for act in (*life["acts"], *life["asked"])}
    assert told == {"start", "cancel", "pause", "resume", "retry", "prune"}
