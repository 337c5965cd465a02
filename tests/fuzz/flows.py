"""The flows of a round: declared by the program that runs them, and by who looks at its log."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

from oautom import (
    ApprovalExecution,
    BashExecution,
    BranchExecution,
    Context,
    Execution,
    Flow,
    FlowExecution,
    MapExecution,
    OAutom,
    Param,
    Pool,
    PythonExecution,
    RetryPolicy,
    Skip,
    WaitExecution,
)
from tests.outside import BASH_HEAD, at_work

from .drawn import Scenario

HERE = Path()
_CLASSES: dict[str, type[Exception]] = {"Exception": Exception, "ValueError": ValueError}
_TREE = "(sleep 30 & (sleep 30 & sleep 30) & wait) &"


def declare(app: OAutom, scenario: Scenario) -> None:
    """Declare the flows, the last one first: the others run it."""
    pools = {"one": Pool("one", 1), "two": Pool("two", 2)}
    for name in reversed(scenario["flows"]):
        drawn = scenario["flows"][name]
        flow = Flow(
            name,
            app,
            params={"lane": Param(int, default=0)},
            max_active_vects=drawn["at_once"],
            max_async=drawn["max_async"],
            **drawn["settings"],
        )
        made: dict[str, Execution] = {}
        for step in drawn["steps"]:
            options = {**step["options"], "pool": pools.get(step["pool"])}
            if (retry := step["retry"]) is not None:
                covered = (_CLASSES[retry["retry_on"]],)
                options["retry"] = RetryPolicy(**{**retry, "retry_on": covered})
            if "cleans_up" in step:
                options["teardown"] = True
                options["teardown_of"] = [made[name] for name in step["cleans_up"]] or None
            if (undo := step.get("undo")) is not None:
                call = partial(undone, end=undo["end"])
                options["compensate"] = call if undo["how"] == "call" else _UNDO[undo["end"]]
                options["compensate_on"] = undo["on"]
            one = _declared(flow, step, made, options, scenario["seed"])
            one.depends(*(made[upstream] for upstream in step["upstreams"]))
            made[step["name"]] = one


_UNDO = {
    end: f"{BASH_HEAD}\n{command}"
    for end, command in {
        "done": "[[ -v OUTPUT ]]",
        "flaky": "(( ${OAUTOM_ATTEMPT#-} > 1 )) || exit 4",
        "fails": "exit 5",
        "skips": "exit 99",
    }.items()
}


def _declared(
    flow: Flow, step: dict[str, Any], made: dict[str, Any], options: Any, seed: int
) -> Execution:
    name, kind = step["name"], step["kind"]
    # A lock tells of pools of one slot only.
    given: dict[str, Any] = {"seed": seed, "pool": "one" if step["pool"] == "one" else ""}
    match kind:
        case "bash" | "tree":
            tree = _TREE if kind == "tree" else ""
            command = f"{BASH_HEAD}\n{tree}\nsleep {step['seconds']}\n{step['end']}"
            env = {"POOL": given["pool"]}
            return BashExecution(name, flow, command, env, grace_period=0.5, **options)
        case "wait":
            return WaitExecution(name, flow, seconds=step["seconds"], **options)
        case "approval":
            return ApprovalExecution(name, flow, "go on?", **options)
        case "flow":
            lane = {"lane": flow.param("lane")}
            return FlowExecution(name, flow, step["runs"], lane, **options)
        case "map":
            over = made[step["over"]].output["items"]
            return MapExecution(name, flow, each, over, given, step["max_parallel"], **options)
        case "branch":
            given["dependants"] = step["dependants"]
            return BranchExecution(name, flow, choose, kwargs=given, **options)
        case "async":
            return PythonExecution(name, flow, work_later, kwargs=given, **options)
        case "polled":
            return Polled(name, flow, seed, **options)
    given["listens"] = kind == "listens"
    if step["upstreams"] and step["options"].get("trigger_rule") == "all_success":
        given["before"] = [made[upstream] for upstream in step["upstreams"]]
    return PythonExecution(name, flow, work, kwargs=given, **options)


class _Fate:
    """How long an attempt takes, and how it ends: the same whenever it is asked."""

    def __init__(self, context: Context, seed: int) -> None:
        place = f"{seed} {context.vect_id} {context.step} {context.attempt}"
        self.chance = random.Random(place)
        self.seconds = self.chance.choice([0.0, 0.02, 0.1, 0.4]) * self.chance.random()
        self.end = self.chance.choices(["end", "fail", "other", "skip"], [80, 8, 6, 6])[0]

    def meet(self) -> None:
        """End as it must be."""
        match self.end:
            case "fail":
                raise ValueError("as drawn")
            case "other":
                raise KeyError("as drawn")
            case "skip":
                raise Skip("as drawn")


def work(
    context: Context, seed: int, pool: str, listens: bool = False, before: Any = None
) -> dict[str, Any]:
    """What a Python step does."""
    fate = _Fate(context, seed)
    with at_work(HERE, context, pool):
        if not listens:
            time.sleep(fate.seconds)
        elif context.cancelled.wait(fate.seconds):
            return {}
        fate.meet()
    return {"of": context.step, "items": list(range(fate.chance.randint(0, 3)))}


async def work_later(context: Context, seed: int, pool: str) -> str:
    """What an async step does."""
    fate = _Fate(context, seed)
    with at_work(HERE, context, pool):
        await asyncio.sleep(fate.seconds)
        fate.meet()
    return context.step


def each(item: int, context: Context, seed: int, pool: str) -> int:
    """What an instance of a map does."""
    fate = _Fate(context, seed)
    with at_work(HERE, context, pool):
        time.sleep(fate.seconds)
        fate.meet()
    return item


def undone(context: Context, end: str) -> None:
    """What undoes the work of a step."""
    fate = _Fate(context, 0)
    with at_work(HERE, context):
        time.sleep(fate.seconds / 4)
        if end == "fails" or (end == "flaky" and context.attempt == 1):
            raise OSError("as drawn")
        if end == "skips":
            raise Skip("as drawn")


def choose(context: Context, seed: int, pool: str, dependants: list[str]) -> list[str]:
    """What a branch does."""
    fate = _Fate(context, seed)
    with at_work(HERE, context, pool):
        time.sleep(fate.seconds)
        fate.meet()
    return [name for name in dependants if fate.chance.random() < 0.6]


class Polled(Execution):
    """A step that is asked whether it is done."""

    poll_interval = 0.05

    def __init__(self, name: str, flow: Flow, seed: int, **options: Any) -> None:
        self.seed = seed
        super().__init__(name, flow, **options)

    def run(self, context: Context) -> float:
        """Begin."""
        return time.time()

    def check(self, context: Context) -> bool:
        """Say whether it is done."""
        fate = _Fate(context, self.seed)
        if time.time() < context.output + fate.seconds:
            return False
        fate.meet()
        return True
