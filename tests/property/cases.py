"""What Hypothesis draws: flows, outcomes, and a course of events; and what it must come to.

A case that fails shrinks to few steps, few edges, no moves: where there are no moves left, answers
come one by one, the oldest first, so that every case ends.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Literal, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

moderate = settings(
    max_examples=int(os.environ.get("OAUTOM_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
few = settings(moderate, max_examples=max(10, moderate.max_examples // 5))

Outcome = Literal["return", "raise", "break", "exit"]
"""A step returns, raises an error, has its worker break, or raises what is no `Exception`."""


@dataclass(frozen=True)
class FlowPlan:
    """A flow to declare: steps `0`, `1`, ... in the order of declaration, edges as they come."""

    steps: int
    edges: tuple[tuple[int, int], ...]

    @property
    def upstreams(self) -> dict[str, list[str]]:
        """Return the upstreams of each step, as sets have them: each once."""
        return {
            str(step): [str(up) for up in range(self.steps) if (up, step) in self.edges]
            for step in range(self.steps)
        }


@dataclass(frozen=True)
class VectPlan:
    """A Vect to run: of which flow, how its steps end, how often each has to be asked."""

    flow: int
    outcomes: tuple[Outcome, ...]
    polls: tuple[int, ...]
    is_late: bool


class Move(NamedTuple):
    """Something that happens: to the `index`-th of what it can happen to; `is_held` until more has.

    answer: a step that runs ends. again: an attempt that has been started is answered once more.
    cancel: a person cancels a Vect. begin: a Vect that is late begins.
    """

    kind: Literal["answer", "again", "cancel", "begin"]
    index: int = 0
    is_held: bool = False


@dataclass(frozen=True)
class Case:
    """All that is drawn for one example."""

    flows: tuple[FlowPlan, ...]
    vects: tuple[VectPlan, ...]
    slots: int
    moves: tuple[Move, ...]


@st.composite
def flow_plans(draw: st.DrawFn, max_steps: int = 7) -> FlowPlan:
    """Draw an acyclic graph: connected or not, edges twice, declared in any order."""
    steps = draw(st.integers(0, max_steps))
    order = draw(st.permutations(range(steps)))
    pairs = [(order[i], order[j]) for j in range(steps) for i in range(j)]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=3 * steps)) if pairs else []
    return FlowPlan(steps, tuple(edges))


def moves(kinds: tuple[str, ...]) -> st.SearchStrategy[tuple[Move, ...]]:
    """Draw what happens. Kinds may be named more than once, to come more often."""
    one = st.builds(Move, st.sampled_from(kinds), st.integers(0, 20), st.booleans())
    return st.lists(one, max_size=40).map(tuple)


ORDERLY = ("answer", "answer", "answer", "begin")
ANYTHING = ("answer", "answer", "answer", "answer", "again", "begin", "cancel")


@st.composite
def cases(
    draw: st.DrawFn,
    kinds: tuple[str, ...] = ANYTHING,
    outcomes: tuple[Outcome, ...] = ("return", "return", "return", "raise", "break", "exit"),
    max_polls: int = 0,
    max_vects: int = 3,
) -> Case:
    """Draw a case.

    Args:
        kinds: What moves there are.
        outcomes: How steps may end.
        max_polls: How often a step may have to be asked whether it is done; 0: it just ends.
        max_vects: How many Vects there are at the most.
    """
    flows = tuple(draw(st.lists(flow_plans(), min_size=1, max_size=2)))
    vects = []
    for _ in range(draw(st.integers(1, max_vects))):
        flow = draw(st.integers(0, len(flows) - 1))
        steps = flows[flow].steps
        ends = draw(st.tuples(*[st.sampled_from(outcomes)] * steps))
        polls = draw(st.tuples(*[st.integers(0, max_polls)] * steps))
        vects.append(VectPlan(flow, ends, polls, draw(st.booleans())))
    return Case(flows, tuple(vects), draw(st.integers(1, 4)), draw(moves(kinds)))


def oracle(flow: FlowPlan, vect: VectPlan) -> dict[str, str]:
    """Return the state in which each step must end, whatever the order, if nobody cancels."""
    upstreams = flow.upstreams
    states: dict[str, str] = {}
    for step in TopologicalSorter(upstreams).static_order():
        if any(states[upstream] != "success" for upstream in upstreams[step]):
            states[step] = "upstream_failed"
        else:
            states[step] = "success" if vect.outcomes[int(step)] == "return" else "failed"
    return states


def vect_oracle(states: dict[str, str]) -> str:
    """Return the state in which a Vect must end if nobody cancels."""
    return "success" if set(states.values()) <= {"success"} else "failed"
