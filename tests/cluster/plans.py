"""Flows of steps that add up numbers, drawn by chance, and the numbers that must come of them."""

from __future__ import annotations

import random
from typing import Any

Plan = dict[str, Any]

SHORTEST, LONGEST = 0.01, 0.2
"""Seconds that the work of a step takes, but for one in `RARE`."""
RARE = 100


def drawn(
    seed: int, flows: int, steps: int, longest: float = LONGEST, rarely: float = LONGEST
) -> Plan:
    """Return the plan of a seed: each step adds a number of its own to those of up to two others.

    Args:
        seed: Of what is drawn.
        flows: How many flows there are.
        steps: How many steps each of them has.
        longest: Seconds that the work of a step takes at most, but for one in `RARE`.
        rarely: Seconds that the work of such a step takes at most.
    """
    chance = random.Random(seed)
    made = {f"flow-{number}": _steps(chance, steps, longest, rarely) for number in range(flows)}
    return {"mode": chance.choice(["foreground", "background"]), "flows": made}


def _steps(
    chance: random.Random, count: int, longest: float, rarely: float
) -> list[dict[str, Any]]:
    return [
        {
            "name": f"step-{number}",
            "number": chance.randint(1, 1000),
            "seconds": round(_seconds(chance, longest, rarely), 4),
            "upstreams": _upstreams(chance, number),
        }
        for number in range(count)
    ]


def _seconds(chance: random.Random, longest: float, rarely: float) -> float:
    is_rare = chance.randrange(RARE) == 0
    return chance.uniform(longest, rarely) if is_rare else chance.uniform(SHORTEST, longest)


def _upstreams(chance: random.Random, number: int) -> list[str]:
    count = min(number, chance.randint(0, 2))
    return [f"step-{upstream}" for upstream in sorted(chance.sample(range(number), count))]


def expected(steps: list[dict[str, Any]]) -> dict[str, int]:
    """Return the output of each step of a flow."""
    outputs: dict[str, int] = {}
    for step in steps:  # upstreams stand before what depends on them
        outputs[step["name"]] = step["number"] + sum(outputs[name] for name in step["upstreams"])
    return outputs


def seconds(plan: Plan) -> float:
    """Return how long all the work takes, one step after the other."""
    return float(sum(step["seconds"] for steps in plan["flows"].values() for step in steps))
