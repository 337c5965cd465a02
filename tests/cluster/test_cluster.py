"""Steps on a Dask cluster of several hosts whose workers are killed: the short form.

The long form, in which the scheduler, the network and the program die too, is `make cluster`.
"""

from __future__ import annotations

import random
from pathlib import Path

from .campaign import Run, campaign
from .plans import drawn


def test_flows_go_on_when_workers_of_a_cluster_are_killed(tmp_path: Path) -> None:
    def kill_two(run: Run, chance: random.Random) -> None:
        for progress in (0.1, 0.4):
            assert run.gets_to(progress)
            run.cluster.kill_one(chance)

    result = campaign(tmp_path, drawn(1, flows=20, steps=3, longest=0.1), kill_two, seed=1)

    assert result.violations == []
    assert (result.kills, result.figures.successes) == (2, 60)
