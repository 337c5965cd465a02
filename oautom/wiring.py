"""The wiring of a flow: whether what one step returns can be what another one takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from oautom.annotations import MISSING, UNKNOWN, fits, part_type, shown_type
from oautom.errors import FlowError
from oautom.events.mapped import map_of
from oautom.executions.base import Execution, Used
from oautom.params import Param
from oautom.references import OutputReference, Reference

if TYPE_CHECKING:
    from oautom.flow import Flow


def check_wiring(flow: Flow) -> None:
    """Refuse references whose values surely cannot be what the steps take that they are given to.

    Raises:
        FlowError: A part is surely not there, or is surely of a wrong type.
    """
    _check_names(flow)
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
