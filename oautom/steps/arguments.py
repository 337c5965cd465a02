"""The arguments of steps: the references in them, and their values when a step runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from oautom.errors import CrossFlowDependencyError, SettingError, shown
from oautom.steps.context import Context
from oautom.steps.execution import Execution, Used, name_of_flow, no_secret
from oautom.steps.owner import Owner
from oautom.steps.work import StepError, fetch
from oautom.values.annotations import key_in_json, part_type
from oautom.values.json import DEPTH_MAX
from oautom.values.names import plain_text
from oautom.values.references import (
    OutputReference,
    Reference,
    SecretReference,
    UnresolvedError,
)

_GIVEN = (Reference, Execution)
_CONTAINERS = (list, tuple, dict, set, frozenset)


def hold_references(*values: object) -> bool:
    """Whether values contain references, or steps that stand for their output, at any depth."""
    stack, seen = list(values), set()
    while stack:
        value = stack.pop()
        if issubclass(type(value), _GIVEN):
            return True
        if isinstance(value, _CONTAINERS) and value and id(value) not in seen:
            seen.add(id(value))
            stack += value
            if isinstance(value, dict):
                stack += value.values()
    return False


def wired(flow: Owner, name: str, value: Any, *, may_be_secret: bool = False) -> Any:
    """Return an argument of a step, with a reference in place of each step in it.

    Args:
        flow: The flow of the step.
        name: The name of the step.
        value: The argument.
        may_be_secret: Whether it may contain secrets: its value is stored nowhere.

    Raises:
        FlowError: A list contains itself, or has too many levels; or a reference is a key, or in a
            set; or it is a secret, where none may be.
        CrossFlowDependencyError: A reference is to a step of another flow.
    """

    def checked(found: Reference | Execution) -> Reference:
        reference = found.output if isinstance(found, Execution) else found
        if not may_be_secret and isinstance(reference, SecretReference):
            raise Execution.wrong(flow, name, no_secret(reference))
        if reference.flow is flow:
            return reference
        own, other = (name_of_flow(each) for each in (flow, reference.flow))
        if isinstance(reference, OutputReference):
            raise CrossFlowDependencyError(own, name, other, reference.name)
        of = "secret" if isinstance(reference, SecretReference) else "parameter"
        raise Execution.wrong(
            flow, name, f"{reference!r} is a {of} of flow '{other}'; declare it in this one"
        )

    def refuse(what: str) -> None:
        raise Execution.wrong(flow, name, what)

    return _replaced(value, checked, refuse, ())


def resolved(value: Any, context: Context) -> Any:
    """Return an argument of a step, with a value in place of each reference.

    Raises:
        StepError: The value of a reference does not exist.
    """
    inputs, params = context.inputs, context.params

    def value_of(reference: Any) -> Any:
        if type(reference) is SecretReference:
            return fetch(context, reference.name)
        try:
            return reference.resolve(inputs, params)
        except UnresolvedError as error:
            why = " ".join(str(error).splitlines())
            raise StepError(f"step '{context.step}' takes {reference!r}, but {why}") from error

    return _replaced(value, value_of, None, ())


def _replaced(
    value: Any,
    replace: Callable[[Any], Any],
    refuse: Callable[[str], None] | None,
    within: tuple[int, ...],
) -> Any:
    """Return a value with each reference replaced; the value itself if it has no reference."""
    if issubclass(type(value), _GIVEN):
        return replace(value)
    if not isinstance(value, _CONTAINERS) or not value:
        return value
    if refuse is not None:
        _check_container(value, refuse, within)
        within = (*within, id(value))
    if isinstance(value, set | frozenset):
        return value
    parts = list(value.values() if isinstance(value, dict) else value)
    new = [_replaced(part, replace, refuse, within) for part in parts]
    if all(one is other for one, other in zip(parts, new, strict=True)):
        return value
    if isinstance(value, dict):
        return dict(zip(value, new, strict=True))
    if isinstance(value, list):
        return new
    return type(value)(*new) if hasattr(value, "_fields") else tuple(new)


def _check_container(value: Any, refuse: Callable[[str], None], within: tuple[int, ...]) -> None:
    """Refuse a container in which a reference cannot be replaced."""
    if id(value) in within:
        refuse(f"a {type(value).__name__} that holds itself cannot hold references as well")
    if len(within) >= DEPTH_MAX:
        refuse(f"its arguments have more than {DEPTH_MAX} levels; make it flatter")
    if not isinstance(value, list | tuple) and hold_references(*value):
        refuse("a reference cannot be in a set, or the key of a dictionary; make it in a step")


def uses_in(named: Mapping[str, Any]) -> list[Used]:
    """Return the references in the arguments of a step, with their places."""
    return [used for name, value in named.items() for used in _uses((name,), value)]


def _uses(place: tuple[str | int, ...], value: Any) -> Iterator[Used]:
    if isinstance(value, Reference):
        yield Used(place, value)
    elif isinstance(value, list | tuple | dict):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _uses((*place, key), part)


def place_of(reference: Reference, flow: Owner) -> list[str | int]:
    """Return the place of a value that the engine itself reads: `['step', 'a', 'key']`.

    The keys are those of the JSON in a log.
    """
    if isinstance(reference, OutputReference):
        found = flow.steps[reference.name].output_type
    else:
        found = flow.params[reference.name].annotation
    place: list[str | int] = [reference.source_kind, reference.name]
    for key in reference.path:
        place.append(key_in_json(found, key))
        found = part_type(found, key)
    return place


def path_of(given: object, name: str) -> str:
    """Return a path argument of a step as text.

    Args:
        given: The argument; it may be anything.
        name: The name of the argument.

    Raises:
        SettingError: The argument is no path.
    """
    try:
        path = os.fspath(given)  # type: ignore[call-overload] # an error is handled
    except Exception as error:  # it may be anything
        raise SettingError(f"{name} must be text or a Path, not {shown(given)}") from error
    text = plain_text(path, name)
    if not text.strip() or "\0" in text:
        problem = "must not be blank or contain a NUL character"
        raise SettingError(f"{name} {problem}, not {shown(given)}")
    return text
