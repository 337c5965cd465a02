"""The wiring of a flow: whether each step can take what the others return.

And whether its steps can run the flows that they name: these exist, take the parameters, and do not
wait for slots of a pool that the step itself occupies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar, cast

from oautom.errors import FlowError, OAutomError
from oautom.flows.params import Param, Params
from oautom.machine.graph import Graph
from oautom.machine.kinds import kind_of
from oautom.machine.maps import map_of
from oautom.steps.arguments import hold_references
from oautom.steps.each import EachFlow
from oautom.steps.execution import Execution, Used
from oautom.steps.flow import FlowExecution
from oautom.steps.map import MapExecution
from oautom.steps.owner import Owner
from oautom.values.annotations import MISSING, UNKNOWN, fits, is_object, part_type, shown_type
from oautom.values.references import OutputReference, Reference, SecretReference


class Wired(Owner, Protocol):
    """The part of a flow that is checked here. `Flow` fits it."""

    @property
    def params(self) -> Params:
        """Its parameters."""

    @property
    def graph(self) -> Graph:
        """Which step waits for which."""

    def check_steps(self) -> None:
        """Refuse steps that cannot run, each by itself."""


F = TypeVar("F", bound=Wired)


def check_wiring(flow: F) -> list[F]:
    """Refuse a flow, or one that it runs, whose steps certainly cannot work together.

    Each flow is checked once, however many steps run it.

    Returns:
        The flow, and all flows that it runs.

    Raises:
        CycleError: Steps wait for each other in a circle.
        FlowError: A part certainly does not exist, or certainly has a wrong type; a step cannot run
            its flow; or a pool cannot have slots for a step and for the flow that it runs.
    """
    needs: dict[F, Mapping[str, Need]] = {}
    for each in with_children(flow):
        each.check_steps()
        _check_names(each)
        for step in _runs_of(each):
            _check_child(each, step)
        for any_step in each.steps.values():
            for used in any_step.references:
                _check(each, any_step, used)
        needs[each] = _needs_of(each, needs)
    return list(needs)


def with_children(home: F) -> list[F]:
    """Return a flow and all flows that it runs, each before the flows that run it.

    Raises:
        FlowError: One cannot be found, belongs to another app, or they run each other in a circle.
    """
    done: dict[F, None] = {}
    path: dict[F, Iterator[FlowExecution]] = {home: iter(_runs_of(home))}
    while path:
        flow = next(reversed(path))
        step = next(path[flow], None)
        if step is None:
            del path[flow]
            done[flow] = None
            continue
        try:
            child = cast("F", step.runs)
        except OAutomError as error:
            raise _error(flow, step, f"cannot run its flow: {error}") from error
        if child in path:
            raise _circle([*path][[*path].index(child) :])
        if child.app is not flow.app:
            what = f"runs flow '{child.name}', which belongs to another app; declare it in this one"
            raise _error(flow, step, what)
        if child not in done:
            path[child] = iter(_runs_of(child))
    return list(done)


def _circle(flows: Sequence[Wired]) -> FlowError:
    """Return the error of flows that run each other, each the next one, and the last the first."""
    second = flows[1] if len(flows) > 1 else flows[0]
    step = next(step for step in _runs_of(flows[0]) if step.runs is second)
    names = " -> ".join(each.name for each in (*flows, flows[0]))
    what = f"makes flows run each other in a circle: {names}; take one of these steps away"
    return _error(flows[0], step, what)


def _check_child(flow: Wired, step: FlowExecution) -> None:
    """Refuse parameters that the flow of a step does not take."""
    child = cast("Wired", step.runs)
    try:
        if isinstance(step, EachFlow):
            _check_items(flow, child, step)
        else:
            child.params.check_names(step.params)
        given = step.params.items()
        child.params.plain_of_given({n: v for n, v in given if not hold_references(v)})
    except OAutomError as error:
        raise _error(flow, step, f"cannot run flow '{child.name}': {error}") from error


def _check_items(flow: Wired, child: Wired, step: EachFlow) -> None:
    """Refuse a map of a flow whose items certainly give that no parameters, or wrong ones.

    Raises:
        FlowError: They do.
        ParamError: The flow has no such parameter.
    """
    for name in step.params:
        child.params[name]
    left = [name for name in child.params if name not in step.params]
    if not left:
        raise child.params.error("it has no parameter that the items could give")
    found = cast("MapExecution", flow.steps[step.name]).item_type
    is_mapping, only = is_object(found), step.only_param()
    if is_mapping is False and only is None:
        raise child.params.error(step.why_no_value())
    if only is not None and (is_mapping is False or step.takes_whole()):
        _check_value(child, only, found, f"the items are {shown_type(found)}")
    elif is_mapping:
        for name in left:
            part = part_type(found, name)
            if part is not MISSING:
                _check_value(child, name, part, f"that of the items is {shown_type(part)}")
            elif child.params[name].is_required:
                raise child.params.error(f"parameter '{name}' is missing in the items", name)


def _check_value(child: Wired, name: str, given: Any, what: str) -> None:
    wanted = child.params[name].annotation
    if not fits(given, wanted) and not fits(given, str):  # a text can be converted
        raise child.params.error(f"parameter '{name}' is {shown_type(wanted)}, and {what}", name)


_KEEPERS_MAX: Final = 200
_MANY: Final = 10**9
"""More instances of a map than there are: of one without max_parallel."""


class Need(NamedTuple):
    """How many slots of a pool a flow needs at once, so that one of its steps can go on.

    Attributes:
        slots: How many.
        line: Steps that run each other's flows, as `flow.step`, the last of which needs a slot.
    """

    slots: int
    line: tuple[str, ...]


def _needs_of(flow: Wired, known: Mapping[Any, Mapping[str, Need]]) -> Mapping[str, Need]:
    """Return the need of a flow for each pool, by the name of the pool.

    Raises:
        FlowError: A pool has fewer slots.
    """
    needs: dict[str, Need] = {}
    keepers: dict[str, list[tuple[Execution, Need]]] = {}
    for step in [each for each in flow.steps.values() if each.pool is not None or each.kind]:
        child = _child_of(step)
        below = {} if child is None else known[child.runs]
        for name, need in below.items():
            _raise_to(needs, name, need)
        if step.pool is None or step.pool.slots is None or "pool" in kind_of(step.kind).ignored:
            continue
        name = step.pool.name
        if child is not None and name in below:
            keepers.setdefault(name, []).append((step, below[name]))
        else:
            _raise_to(needs, name, Need(step.pool_slots, (f"{flow.name}.{step.name}",)))
    for name, steps in keepers.items():
        _raise_to(needs, name, _need_of_keepers(flow, steps))
    return needs


def _raise_to(needs: dict[str, Need], pool: str, need: Need) -> None:
    if pool not in needs or needs[pool].slots < need.slots:
        needs[pool] = need


def _need_of_keepers(flow: Wired, keepers: list[tuple[Execution, Need]]) -> Need:
    """Return the need of steps that each occupy a slot until their flow has had one, too.

    Raises:
        FlowError: They may occupy all slots, so that none of their flows gets one.
    """
    takes = {step.name: step.pool_slots for step, _ in keepers}
    at_once = _at_once(flow, takes)
    for step, _ in keepers:
        if isinstance(step, MapExecution):
            at_once += ((step.max_parallel or _MANY) - 1) * step.pool_slots
    step, inner = max(keepers, key=lambda each: each[1].slots)
    need = Need(at_once + inner.slots, (f"{flow.name}.{step.name}", *inner.line))
    assert step.pool is not None
    assert step.pool.slots is not None
    if need.slots > step.pool.slots:
        others = ""
        if at_once >= _MANY:
            others = " beside all other items (give the map max_parallel)"
            need = Need(need.slots % _MANY, need.line)
        elif at_once > step.pool_slots:
            others = f" beside {at_once - step.pool_slots} more at once"
        what = (
            f"keeps a slot of pool '{step.pool.name}' while the flow that it runs waits for one: "
            f"{' -> '.join(need.line)}{others} need {need.slots}, and there are "
            f"{step.pool.slots}; leave its pool out, or give that more slots"
        )
        raise _error(flow, step, what)
    return need


def _at_once(flow: Wired, takes: Mapping[str, int]) -> int:
    """Return how many slots steps can have at once: those of the largest set without a dependency.

    Args:
        flow: Their flow.
        takes: How many slots each of them takes, by its name. It counts as so many steps.

    Source: Dilworth, "A Decomposition Theorem for Partially Ordered Sets", 1950; by a matching.
    """
    if sum(takes.values()) > _KEEPERS_MAX:
        return max(takes.values())  # as many as there surely are
    names = [(name, number) for name, many in takes.items() for number in range(many)]
    reach = {name: flow.graph.reach([name]) - {name} for name in takes}
    after = {one: {other for other in names if other[0] in reach[one[0]]} for one in names}
    before: dict[tuple[str, int], tuple[str, int]] = {}

    def is_matched(name: tuple[str, int], tried: set[tuple[str, int]]) -> bool:
        for later in after[name] - tried:
            tried.add(later)
            if later not in before or is_matched(before[later], tried):
                before[later] = name
                return True
        return False

    return len(names) - sum(is_matched(name, set()) for name in names)


def _check_names(flow: Wired) -> None:
    maps = {name for name, step in flow.steps.items() if step.kind == "map"}
    for name in flow.steps if maps else ():
        base = map_of(name)
        if base in maps and base != name:
            what = f"is a map, and an instance of it would be '{name}'; rename it"
            raise _error(flow, flow.steps[base], what)


def _child_of(step: Execution) -> FlowExecution | None:
    """Return what runs another flow in a step: itself, or what it does for each item; or None."""
    each = step.each
    return each if isinstance(each, FlowExecution) else None


def _runs_of(flow: Wired) -> list[FlowExecution]:
    kinds = [step for step in flow.steps.values() if step.kind]  # nearly all steps have none
    return [each for step in kinds if (each := _child_of(step)) is not None]


def _check(flow: Wired, step: Execution, used: Used) -> None:
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


def _error(flow: Wired, step: Execution, what: str) -> FlowError:
    return FlowError(
        f"step '{step.name}' of flow '{flow.name}' {what}", flow=flow.name, step=step.name
    )


def source_type(
    reference: Reference, steps: Mapping[str, Execution], params: Mapping[str, Param]
) -> Any:
    """Return the type of the whole value that a reference leads into."""
    if isinstance(reference, OutputReference):
        return steps[reference.name].output_type
    if isinstance(reference, SecretReference):
        return str
    return params[reference.name].annotation if reference.name in params else UNKNOWN
