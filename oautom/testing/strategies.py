"""Hypothesis strategies: flows, how their steps end, how long they take, and logs of their runs.

They shrink: what is left of a failing example is the smallest flow that fails. Steps are named `a`,
`b`, ... where the names do not matter, and a step that just succeeds at once is not mentioned.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count, product
from operator import itemgetter
from typing import Any

from oautom.app import OAutom
from oautom.events.event import Event
from oautom.events.log import MemoryEventLog
from oautom.executions.base import Execution
from oautom.executions.python import PythonExecution
from oautom.executors.base import Done
from oautom.executors.base import Work as AnyWork
from oautom.flow import Flow
from oautom.scheduler import Scheduler
from oautom.testing.clock import SimulatedClock
from oautom.testing.simulation import Script, ScriptedWorkers, tell_nobody
from oautom.vect import Run

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "oautom's strategies need Hypothesis: pip install 'oautom[testing]'"
    ) from error

MakeStep = Callable[[str, Flow], Execution]
"""Declares a step of this name in this flow."""

OUTPUTS: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
ERRORS: st.SearchStrategy[BaseException] = st.builds(RuntimeError, st.just("drawn"))


class DrawnFlow(Flow):
    """A flow that shows its steps and edges, since it stands in a failing example."""

    def __repr__(self) -> str:
        """Return the steps in the order of declaration, each with those that it waits for."""
        steps = [
            f"{name} << [{', '.join(upstreams)}]" if upstreams else name
            for name, upstreams in self.graph.upstreams.items()
        ]
        return f"<Flow '{self.name}': {'; '.join(steps) or 'no steps'}>"


class History(list[Event]):
    """The events of a log, with the flow whose runs it tells of.

    Attributes:
        flow: The flow.
    """

    def __init__(self, events: Iterable[Event], flow: Flow) -> None:
        super().__init__(events)
        self.flow = flow

    def __repr__(self) -> str:
        """Return the flow and what happened, in the order of the log."""
        told = [f"{e.vect} {e.step or ''}{'.' if e.step else ''}{e.name}" for e in self]
        return f"<History of {self.flow!r}: {', '.join(told)}>"


def do_nothing(name: str, flow: Flow) -> PythonExecution:
    """Declare a step that does nothing."""
    return PythonExecution(name, flow, _nothing)


def _nothing() -> None:
    """Do nothing."""


@st.composite
def flows(
    draw: st.DrawFn,
    *,
    min_steps: int = 0,
    max_steps: int = 6,
    names: st.SearchStrategy[str] | None = None,
    steps: st.SearchStrategy[MakeStep] | None = None,
) -> Flow:
    """Draw a flow, in an app of its own: in memory, `executor='inline'`, with a simulated clock.

    A step waits only for steps that are declared before it, so there are no cycles.

    Args:
        draw: Given by Hypothesis.
        min_steps: How many steps it has at the least.
        max_steps: How many steps it has at the most.
        names: Names of steps. Unless said, letters, in any order.
        steps: What declares a step: called with its name and the flow, so a class will do, or
            `functools.partial`. Unless said, steps are functions that do nothing.
    """
    # A step is drawn as a label and the labels that it waits for; labels of no step before it mean
    # nothing. So what is left still fits together when any step is taken out of an example.
    label = st.integers(0, max(0, max_steps - 1))
    step = st.tuples(label, st.lists(label, max_size=max_steps))
    plan = draw(
        st.lists(step, min_size=min_steps, max_size=max_steps, unique_by=itemgetter(0)), "plan"
    )
    drawn_names: Iterable[str] = _letters()
    if names is not None:
        drawn_names = draw(
            st.lists(names, min_size=len(plan), max_size=len(plan), unique=True), "names"
        )
    name_by_label = dict(zip(sorted(label for label, _ in plan), drawn_names, strict=False))
    flow = DrawnFlow("flow", OAutom(executor="inline", clock=SimulatedClock()))
    made: dict[int, Execution] = {}
    for label_, upstreams in plan:
        make = do_nothing if steps is None else draw(steps)
        made[label_] = make(name_by_label[label_], flow)
        made[label_].depends(*(made[each] for each in upstreams if each in made and each != label_))
    return flow
