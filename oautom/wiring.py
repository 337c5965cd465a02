"""The wiring of a flow: whether what one step returns can be what another one takes.

And whether the flows that its steps run can be run by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from oautom.annotations import MISSING, UNKNOWN, fits, part_type, shown_type
from oautom.errors import FlowError, OAutomError
from oautom.events.mapped import map_of
from oautom.executions.arguments import hold_references
from oautom.executions.base import Execution, Used
from oautom.executions.flow import FlowExecution
from oautom.params import Param
from oautom.references import OutputReference, Reference

if TYPE_CHECKING:
    from oautom.flow import Flow


def check_wiring(flow: Flow) -> None:
    """Refuse references whose values surely cannot be what the steps take that they are given to.

    Raises:
        FlowError: A part is surely not there, or is surely of a wrong type; or a flow cannot be run
            by a step.
    """
    _check_names(flow)
    _check_children(flow)
    for step in flow.steps.values():
        for used in step.references:
            _check(flow, step, used)


def _check_names(flow: Flow) -> None:
    maps = {name for name, step in flow.steps.items() if step.kind == "map"}
    for name in flow.steps if maps else ():
        base = map_of(name)
        if base in maps and base != name:
            what = f"is a map, and an instance of it would be '{name}'; rename it"
            raise _error(flow, flow.steps[base], what)


def _check_children(flow: Flow) -> None:
    """Refuse flows that run each other in a circle, are of other apps, or take other parameters."""
    for step in _runs_of(flow):
        try:
            path = [flow, *_path_back(step.runs, flow, ())]
            child = step.runs
        except OAutomError as error:
            raise _error(flow, step, f"cannot run its flow: {error}") from error
        if len(path) > 1:
            names = " -> ".join(each.name for each in path)
            what = f"makes flows run each other in a circle: {names}; take one of these steps away"
            raise _error(flow, step, what)
        if child.app is not flow.app:
            what = f"runs flow '{child.name}', which belongs to another app; declare it in this one"
            raise _error(flow, step, what)
        child.validate()
        try:
            child.params.check_names(step.params)
            given = step.params.items()
            child.params.plain_of_given({n: v for n, v in given if not hold_references(v)})
        except OAutomError as error:
            raise _error(flow, step, f"cannot run flow '{child.name}': {error}") from error


def _runs_of(flow: Flow) -> list[FlowExecution]:
    return [step for step in flow.steps.values() if isinstance(step, FlowExecution)]


def _path_back(flow: Flow, home: Flow, seen: tuple[Flow, ...]) -> list[Flow]:
    """Return the flows by which a flow comes to run another one, both with it; else none."""
    if flow is home:
        return [home]
    for step in _runs_of(flow):
        if flow not in seen and (path := _path_back(step.runs, home, (*seen, flow))):
            return [flow, *path]
    return []


def _check(flow: Flow, step: Execution, used: Used) -> None:
    reference = used.reference
    produced = source_type(reference, flow.steps, flow.params)
    for depth, key in enumerate(reference.path):
        part = part_type(produced, key)
        if part is MISSING:
            whole = type(reference)(None, reference.name, reference.path[:depth])
            raise _error(
                flow,
                step,
                f"is given {reference!r}, but {whole!r} is {shown_type(produced)}, "
                f"which has no part [{key!r}]",
            )
        produced = part
    wanted = step.wanted(used.place)
    if not fits(produced, wanted):
        raise _error(
            flow,
            step,
            f"takes {used.told}: {shown_type(wanted)}, but is given {_told(reference)}, "
            f"which is {shown_type(produced)}; change one of them",
        )


def _told(reference: Reference) -> str:
    is_output = isinstance(reference, OutputReference)
    return f"{reference!r} of step '{reference.name}'" if is_output else f"{reference!r}"


def _error(flow: Flow, step: Execution, what: str) -> FlowError:
    return FlowError(
        f"step '{step.name}' of flow '{flow.name}' {what}", flow=flow.name, step=step.name
    )


def source_type(
    reference: Reference, steps: Mapping[str, Execution], params: Mapping[str, Param]
) -> Any:
    """Return the type of the whole value that a reference leads into."""
    if isinstance(reference, OutputReference):
        return steps[reference.name].output_type
    return params[reference.name].annotation if reference.name in params else UNKNOWN
