"""Whether a Vect fits its flow as the program declares it today. Pure.

A Vect follows its log: the graph, and the options of its steps. A new version of the program may
declare others. There are three sorts of options:

- options of the *shape* say what a step is: if one of them differs, the Vect does not fit;
- options of the *work* say how an attempt is made and what its failure means: those of the program
  apply, and an event records those that the log does not have yet;
- all other options say when a step starts: those of the log apply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from oautom.errors import FlowChangedError, shown
from oautom.flows.flow import Flow
from oautom.flows.part import Part, is_given
from oautom.machine.event import NO_DATA
from oautom.machine.graph import Graph
from oautom.machine.state import NO_OPTIONS, Options

OF_WORK: Final = frozenset(
    {"max_attempts", "on_crash", "path", "retry", "secrets", "skip_exit_code", "timeout"}
)

_KINDS: Final[Mapping[str, str]] = {
    "": "a step of work",
    "branch": "a branch",
    "map": "a map",
    "flow": "a step that runs a flow",
    "wait": "a wait",
    "approval": "an approval",
    "file": "a wait for a file",
}


def misfit(
    flow: Flow, vect: str, created: Mapping[str, Any], *, has_ended: bool = False
) -> FlowChangedError | None:
    """Return why a Vect cannot go on with its flow, or None.

    Args:
        flow: The flow, as it is declared.
        vect: The id of the Vect.
        created: The data of its `vect.created`.
        has_ended: Whether the Vect has ended, and is to be retried.
    """
    version = created.get("version")
    told = [] if version == flow.version else [_versions(version, flow.version)]
    graph = Graph(created["graph"])
    told += graph.differences(Part.told(created).graph(flow))
    then, now = created.get("options", NO_OPTIONS), flow.options
    if then != now:  # seldom, of ten thousand that are recovered
        told += [
            difference
            for step in graph.upstreams
            if step in flow.steps and not is_given(then.get(step, NO_DATA))
            for difference in _shapes(step, then.get(step, NO_DATA), now.get(step, NO_DATA))
        ]
    told += flow.params.differences(created["params"])
    return FlowChangedError(flow.name, vect, told, has_ended=has_ended) if told else None


def news(then: Options, now: Options) -> Options:
    """Return the options of the steps whose options of the work differ in the program.

    Args:
        then: The options of a Vect that fits, in its log.
        now: The options that its flow declares.
    """
    if then == now:
        return NO_OPTIONS
    found = {}
    for step in dict.fromkeys([*then, *now]):
        of_then, of_now = then.get(step, NO_DATA), now.get(step, NO_DATA)
        if is_given(of_then):
            continue
        stays = {option: value for option, value in of_then.items() if option not in OF_WORK}
        given = stays | {option: value for option, value in of_now.items() if option in OF_WORK}
        if given != of_then:
            found[step] = given
    return found


def _versions(then: str | None, now: str | None) -> str:
    began = "without a version" if then is None else f"with version {shown(then)}"
    return f"it began {began}, the program has {'none' if now is None else shown(now)}"


def _shapes(step: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences in the shape of a step, a clause each."""
    was, is_now = then.get("kind", ""), now.get("kind", "")
    if was != is_now:
        return [f"step '{step}' was {_kind(was)} and is {_kind(is_now)}"]
    told = []
    if then.get("over") != now.get("over"):
        came, come = (_list(given.get("over", ())) for given in (then, now))
        told.append(f"the items of map '{step}' came from {came} and come from {come}")
    if then.get("runs") != now.get("runs"):
        told.append(f"step '{step}' ran flow '{then.get('runs')}' and runs '{now.get('runs')}'")
    return told


def _kind(name: str) -> str:
    return _KINDS.get(name, f"of kind {shown(name)}")


def _list(over: Sequence[Any]) -> str:
    """Return where the items of a map come from, by its options."""
    kind, name, *path = over or ("", "")
    what = "parameter" if kind == "param" else "step"
    return f"{what} '{name}'{''.join(f'[{shown(key)}]' for key in path)}"
