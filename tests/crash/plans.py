"""What the program that is killed shall run, drawn by chance, and how that must end."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

Plan = dict[str, Any]

KINDS = ("bash", "tree", "deaf", "pipe", "python", "listens", "wait")


def drawn(seed: int, **fixed: Any) -> Plan:
    """Return the plan of a seed; what is `fixed` is not drawn."""
    chance = random.Random(seed)
    plan: Plan = {
        "mode": chance.choice(["foreground", "background"]),
        "executor": chance.choice(["threads", "threads", "processes", "inline"]),
        "max_workers": chance.randint(1, 4),
        "synchronous": chance.choice(["FULL", "NORMAL"]),
        "flows": {f"flow {i}": _steps(chance) for i in range(chance.randint(1, 2))},
    }
    plan |= fixed
    if plan["executor"] == "inline":
        plan["max_workers"] = 1
    names = list(plan["flows"])
    plan["vects"] = {f"vect-{i}": chance.choice(names) for i in range(chance.randint(1, 3))}
    return plan


def _steps(chance: random.Random) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    for i in range(chance.randint(2, 6)):
        before = [step["name"] for step in steps]
        outcome = chance.choices(["end", "fail", "flaky"], [84, 8, 8])[0]
        is_once = outcome != "flaky" and chance.random() < 0.12
        kind = chance.choice(KINDS)
        if kind == "wait":  # nobody is at work, so nothing fails, and nothing is lost
            outcome, is_once = "end", False
        steps.append(
            {
                "name": f"step {i}",
                "upstreams": sorted(chance.sample(before, min(len(before), chance.randint(0, 2)))),
                "kind": kind,
                "seconds": round(chance.choice([0, 0.01, 0.05, 0.2]) * chance.random(), 4),
                "outcome": outcome,
                "on_crash": "fail" if is_once else "rerun",
            }
        )
    return steps


def expected(steps: list[dict[str, Any]], lost: set[str]) -> Mapping[str, str]:
    """Return the final state of each step, where those that are `lost` died with their program."""
    states: dict[str, str] = {}
    for step in steps:
        if any(states[upstream] != "success" for upstream in step["upstreams"]):
            states[step["name"]] = "upstream_failed"
        elif step["outcome"] == "fail" or step["name"] in lost:
            states[step["name"]] = "failed"
        else:
            states[step["name"]] = "success"
    return states
