"""What pictures are told of a Vect: its steps, as `oautom.pictures` takes them."""

from __future__ import annotations

from oautom.machine.state import StepState, VectState, committed
from oautom.pictures.nodes import Node
from oautom.vects.run import visible


def nodes_of(state: VectState) -> list[Node]:
    """Return the steps of a Vect with their committed states."""
    return [_node(step) for step in visible(state)]


def _node(step: StepState) -> Node:
    state, attempt, *_ = committed(step)
    runs = step.options.get("runs") if step.kind == "flow" else None
    if step.parent is not None:
        return Node(step.name, (step.parent.name,), state, "", attempt, step.parent.name)
    upstreams = step.vect.graph.upstreams[step.name]
    return Node(step.name, upstreams, state, step.kind, attempt, None, runs and str(runs))
