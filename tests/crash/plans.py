"""What the program that is killed shall run, drawn by chance, and how that must end."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from .steps import PARAM_ITEMS

Plan = dict[str, Any]
Steps = list[dict[str, Any]]

BASH_KINDS = ("bash", "tree", "deaf", "pipe")
FUNCTION_KINDS = ("python", "listens")
KINDS = (*BASH_KINDS, *FUNCTION_KINDS, "wait", "map", "map", "map", "approval", "branch")
SILENT = frozenset({"wait", "approval", "map"})
"""Kinds of steps that tell the side file nothing: no worker is at work there."""


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
    plan["settings"] = _draw_ends(random.Random(f"{seed} ends"), plan["flows"])
    plan |= fixed
    if plan["executor"] == "inline":
        plan["max_workers"] = 1
    names = list(plan["flows"])
    plan["vects"] = {f"vect-{i}": chance.choice(names) for i in range(chance.randint(1, 3))}
    plan["pauses"] = {
        vect: {"after": chance.randint(2, 12), "seconds": chance.random() * 0.5}
        for vect in plan["vects"]
        if chance.random() < 0.25
    }
    return plan


def _draw_ends(chance: random.Random, flows: Mapping[str, Steps]) -> dict[str, Any]:
    """Draw what cleans up and what is undone, and return what is drawn of each flow itself."""
    settings: dict[str, Any] = {}
    for flow, steps in flows.items():
        settings[flow] = {
            "on_failure": chance.choice(["finish", "finish", "cancel"]),
            "run_timeout": chance.choice([None, None, None, 0.5, 600]),
            "deadline": chance.choice([None, 0.05]),
            "version": chance.choice([None, "2"]),
            "limit_by": chance.choice([None, None, "day"]),
            "max_active_vects": chance.choice([1, 2, 100]),
            "when_full": "wait",
        }
        is_cleaned_up = chance.random() < 0.5
        for step in steps:
            if chance.random() < 0.3:
                step["deadline"] = 0.02
            is_certain = step["kind"] != "map"  # else it may need a list that is not there
            if is_cleaned_up and is_certain and step["upstreams"] and chance.random() < 0.3:
                step["cleans_up"] = True
            elif is_cleaned_up and chance.random() < 0.4:
                step["undo"] = chance.choice(["begun", "begun", "success"])
    return settings


def _steps(chance: random.Random) -> Steps:
    steps: Steps = []
    for i in range(chance.randint(2, 6)):
        before = [step["name"] for step in steps]
        outcome = chance.choices(["end", "fail", "flaky"], [84, 8, 8])[0]
        step = {
            "name": f"step {i}",
            "upstreams": sorted(chance.sample(before, min(len(before), chance.randint(0, 2)))),
            "kind": chance.choice(KINDS),
            "seconds": round(chance.choice([0, 0.01, 0.05, 0.2]) * chance.random(), 4),
            "outcome": outcome,
        }
        step |= _more(chance, step["kind"], steps)
        step["upstreams"] = sorted({*step["upstreams"], *filter(None, [step.get("over")])})
        is_once = not _is_flaky(step) and chance.random() < 0.12
        steps.append({**step, "on_crash": "fail" if is_once else "rerun"})
    for step in steps:
        if step["kind"] == "branch":
            dependants = _dependants(steps, step["name"])
            step["follows"] = [name for name in dependants if chance.random() < 0.6]
    return steps


def _more(chance: random.Random, kind: str, before: Steps) -> dict[str, Any]:
    """Return what only a step of a kind has."""
    if kind in FUNCTION_KINDS:
        return {"gives": chance.randint(0, 5)}
    if kind == "wait":
        return {"outcome": "end"}
    if kind == "approval":
        outcome = chance.choices(["end", "fail", "late"], [80, 10, 10])[0]
        return {"outcome": outcome, "by": chance.choice(["program", "person"])}
    if kind == "map":
        over, count = chance.choice([(None, PARAM_ITEMS), *_lists(before)])
        outcomes = chance.choices(["end", "fail", "flaky", "skip"], [86, 4, 6, 4], k=count)
        limit = chance.choice([None, 1, 2, 3])
        return {"outcome": "end", "over": over, "items": outcomes, "max_parallel": limit}
    return {}


def _lists(steps: Steps) -> list[tuple[str, int]]:
    """Return the steps that give a list, and how long it is."""
    given = [(step["name"], step["gives"]) for step in steps if "gives" in step]
    return given + [(step["name"], len(step["items"])) for step in steps if "items" in step]


def _is_flaky(step: Mapping[str, Any]) -> bool:
    return "flaky" in (step["outcome"], *step.get("items", ()))


def instances(step: Mapping[str, Any]) -> list[str]:
    """Return the names of the instances of a map; of any other step there are none."""
    return [f"{step['name']}[{i}]" for i in range(len(step.get("items", ())))]


def declared(name: str) -> str:
    """Return the step of the flow that an attempt is one of: of an instance, its map."""
    return name.partition("[")[0]


def _dependants(steps: Steps, name: str) -> list[str]:
    return [step["name"] for step in steps if name in step["upstreams"]]


def _reached(steps: Steps, names: Sequence[str]) -> set[str]:
    reached = set(names)
    for step in steps:  # upstreams stand before what depends on them
        if reached.intersection(step["upstreams"]):
            reached.add(step["name"])
    return reached


def allowed(steps: Steps, found: Mapping[str, str], lost: set[str]) -> dict[str, set[str]]:
    """Return the final states that each step may have, as those before it have ended.

    There is more than one only where a failure and a branch both keep a step from starting: which
    of them came first decides. There is none behind a step that was cancelled, but for clean-up.

    Args:
        steps: The steps of a flow.
        found: The states in which they have ended.
        lost: Those that died with their program, and shall not run again.
    """
    states: dict[str, set[str]] = {}
    shunned: set[str] = set()
    for step in steps:
        name, before = step["name"], {found.get(upstream) for upstream in step["upstreams"]}
        states[name] = set()
        cleans_up = "cleans_up" in step
        if before & {"failed", "upstream_failed"} and not cleans_up:
            states[name].add("upstream_failed")
        if _is_skipped(step, before, shunned):
            states[name].add("skipped")
        is_behind = "cancelled" in before and not cleans_up
        if (states[name] or is_behind) and not (cleans_up and "cancelled" in before):
            continue
        ends = {name: step["outcome"]}
        ends |= dict(zip(instances(step), step.get("items", ()), strict=True))
        for one, outcome in ends.items():
            is_silent = one == name and step["kind"] in SILENT  # nothing of it can be lost
            states.setdefault(one, set()).add(_end(outcome, is_lost=one in lost and not is_silent))
        if any(states[one] == {"failed"} for one in instances(step)):
            states[name] = {"failed"}
        if step["kind"] == "branch" and found.get(name) == "success":
            followed = _reached(steps, step["follows"])
            shunned |= set(_dependants(steps, name)) - followed
    return states


def _is_skipped(step: Mapping[str, Any], before: set[str | None], shunned: set[str]) -> bool:
    """Whether a step may be skipped: one that cleans up if nothing has begun that it waits for."""
    if "cleans_up" in step:
        return before.isdisjoint({"success", "failed"})
    return step["name"] in shunned or "skipped" in before


def _end(outcome: str, *, is_lost: bool) -> str:
    if is_lost or outcome in ("fail", "late"):
        return "failed"
    return "skipped" if outcome == "skip" else "success"
