"""What a round of the fuzzing does, drawn by chance from its seed: plain values, as in JSON."""

from __future__ import annotations

import random
from typing import Any

from oautom import TriggerRule

Scenario = dict[str, Any]

KINDS = (
    *("bash", "tree", "python", "python", "listens", "async", "polled"),
    *("wait", "approval", "branch", "flow", "map", "map"),
)
PLAIN = ("bash", "tree", "python", "listens", "async", "polled")
ENDS = ("kill", "kill", "close")
INSIDE = ("start", "start", "cancel", "pause", "resume", "retry", "retry", "prune")
ASKED = ("pause", "resume", "cancel", "retry")


def drawn(seed: int) -> Scenario:
    """Return the round of a seed: flows, and lives of a program that runs them."""
    chance = random.Random(seed)
    names = [f"flow {number}" for number in range(chance.randint(1, 3))]
    flows: dict[str, Any] = {}
    for name in reversed(names):  # a flow runs those that come after it
        flows = {name: _flow(chance, list(flows))} | flows
    _draw_ends(random.Random(f"{seed} ends"), flows)
    executor = chance.choice(["threads", "threads", "processes", "inline"])
    ends = [chance.choice(ENDS) for _ in range(chance.randint(1, 3))]
    scenario = {
        "seed": seed,
        "executor": executor,
        "mode": chance.choice(["background", "background", "foreground"]),
        "flows": flows,
        "may_prune": chance.random() < 0.3,
        "lives": [_life(chance, names, how) for how in (*ends, "end")],
    }
    _draw_starts(random.Random(f"{seed} starts"), scenario["lives"])
    return scenario


def _life(chance: random.Random, flows: list[str], how: str) -> dict[str, Any]:
    seconds = round(chance.choice([0.05, 0.4, 1.5]) * chance.random() + 0.02, 3)
    acts = [_act(chance, INSIDE, seconds) for _ in range(chance.randint(0, 6))]
    acts.insert(0, {"act": "start", "after": 0.0, "which": chance.randrange(99)})
    plan = {"flow": chance.choice(flows), "seconds": 0.3, "catch_up": chance.random() < 0.5}
    return {
        "how": how,
        "seconds": seconds,
        "max_workers": chance.randint(1, 4),
        "acts": sorted(acts, key=lambda act: act["after"]),
        "asked": [_act(chance, ASKED, seconds) for _ in range(chance.randint(0, 3))],
        "plan": plan if chance.random() < 0.2 else None,
    }


def _act(chance: random.Random, acts: tuple[str, ...], seconds: float) -> dict[str, Any]:
    after = round(chance.random() * seconds, 3)
    return {"act": chance.choice(acts), "after": after, "which": chance.randrange(99)}


def _flow(chance: random.Random, others: list[str]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    for number in range(chance.randint(1, 6)):
        before = [step["name"] for step in steps]
        upstreams = sorted(chance.sample(before, min(len(before), chance.randint(0, 2))))
        steps.append(_step(chance, f"s{number}", upstreams, steps, others))
    for step in steps:
        step["dependants"] = [each["name"] for each in steps if step["name"] in each["upstreams"]]
    return {"steps": steps, "at_once": chance.randint(1, 3), "max_async": chance.choice([1, 2, 99])}


def _step(
    chance: random.Random,
    name: str,
    upstreams: list[str],
    before: list[dict[str, Any]],
    others: list[str],
) -> dict[str, Any]:
    kind = chance.choice(KINDS)
    lists = [step["name"] for step in before if step["kind"] in ("python", "listens")]
    if (kind == "map" and not lists) or (kind == "flow" and not others):
        kind = chance.choice(PLAIN)
    step: dict[str, Any] = {"name": name, "kind": kind, "upstreams": upstreams}
    if kind == "map":
        step["over"] = chance.choice(lists)
        step["max_parallel"] = chance.choice([None, 1, 2])
        step["upstreams"] = sorted({*upstreams, step["over"]})
    if kind == "flow":
        step["runs"] = chance.choice(others)
    if kind in ("wait", "bash", "tree"):
        step["seconds"] = round(chance.choice([0.0, 0.05, 0.3]) * chance.random(), 3)
    if kind in ("bash", "tree"):
        step["end"] = chance.choice(["exit 0", "exit 0", "exit 3", "exit 99", _FLAKY])
    rule = TriggerRule.ALL_SUCCESS if chance.random() < 0.7 else chance.choice(list(TriggerRule))
    step["options"] = {
        "trigger_rule": str(rule),
        "allow_failure": chance.random() < 0.1,
        "on_crash": chance.choice(["rerun", "rerun", "rerun", "fail"]),
        "timeout": chance.choice([None, None, None, 0.1, 0.3]),
        "priority": chance.choice([0, 0, 0, 1, -1]),
    }
    pool = chance.choice([None, None, "one", "two"])
    step["pool"] = None if kind == "flow" else pool  # what it runs may need the only slot
    step["retry"] = None
    if chance.random() < 0.4:
        covered = chance.choice(["Exception", "ValueError"])
        attempts, delay = chance.randint(1, 3), chance.choice([0, 0.02, 0.1])
        step["retry"] = {"max_attempts": attempts, "delay": delay, "retry_on": covered}
    return step


def _draw_ends(chance: random.Random, flows: dict[str, Any]) -> None:
    """Draw how Vects end: what cleans up, what is undone, how long a run may take; and turns."""
    for flow in flows.values():
        flow["settings"] = {
            "on_failure": chance.choice(["finish", "finish", "finish", "cancel"]),
            "run_timeout": chance.choice([None, None, None, 0.3, 1.0, 5.0]),
            "deadline": chance.choice([None, None, 0.05, 0.5]),
            "when_full": chance.choice(["raise", "wait"]),
            "limit_by": chance.choice([None, None, "lane"]),
            "version": chance.choice([None, None, "1"]),
        }
        is_cleaned_up = chance.random() < 0.5
        for step in flow["steps"]:
            if chance.random() < 0.2:
                step["options"]["deadline"] = chance.choice([0.02, 0.2])
            if not is_cleaned_up:
                continue
            if step["upstreams"] and chance.random() < 0.3:
                del step["options"]["trigger_rule"]
                given = [name for name in step["upstreams"] if chance.random() < 0.5]
                step["cleans_up"] = given
            elif chance.random() < 0.4:
                how, end = chance.choice(["call", "call", "command"]), chance.choice(UNDONE)
                step["undo"] = {"how": how, "end": end, "on": chance.choice(["begun", "success"])}


UNDONE = ("done", "done", "done", "flaky", "fails", "skips")
"""How what undoes the work of a step ends; one that is flaky fails the first time."""


def _draw_starts(chance: random.Random, lives: list[dict[str, Any]]) -> None:
    """Draw for which value of the parameter a flow is started, if it waits, and who drains."""
    for life in lives:
        life["drain"] = chance.choice([0, 0, 0.2, 20])
        for act in life["acts"]:
            act["lane"] = chance.randrange(2)
            act["when_full"] = chance.choice([None, None, "wait"])


_FLAKY = "(( OAUTOM_ATTEMPT > 1 )) || exit 4"
