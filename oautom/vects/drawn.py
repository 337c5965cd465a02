"""What pictures are told of a Vect: its steps, as `oautom.pictures` takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oautom.machine.state import StepState, VectState
from oautom.pictures.nodes import Node


def nodes_of(state: VectState, status: Mapping[str, Any]) -> list[Node]:
    """Return the steps of a Vect.

    Args:
        state: The Vect: what its steps are.
        status: As of `status_of`, which is of one commit: how its steps stand.
    """
    return [
        _node(state.steps[each["name"]], each["state"], each["attempt"])
        for each in status["executions"]
    ]


def _node(step: StepState, state: str, attempt: int) -> Node:
    if step.parent is not None:
        place = (step.name, (step.parent.name,), state, "", attempt, step.parent.name)
        return Node(*place, label=step.label)
    runs = step.options.get("runs")
    upstreams = step.vect.graph.upstreams[step.name]
    return Node(step.name, upstreams, state, step.kind, attempt, None, runs and str(runs))
