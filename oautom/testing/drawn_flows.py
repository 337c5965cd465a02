"""Drawn flows: the strategy `flows`, and the `repr()` of a flow in a failing example."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from itertools import count, islice, product
from typing import Any, Final, cast, get_args

from hypothesis import strategies as st

from oautom.app import OAutom
from oautom.flows.flow import Flow
from oautom.machine.rules import TriggerRule
from oautom.steps.approval import ApprovalExecution
from oautom.steps.branch import BranchExecution
from oautom.steps.compensation import compensation_of
from oautom.steps.execution import Execution
from oautom.steps.flow import FlowExecution
from oautom.steps.map import MapExecution
from oautom.steps.options import CompensateOn, Pool, RetryPolicy
from oautom.steps.python import PythonExecution
from oautom.steps.wait import WaitExecution
from oautom.testing.clock import SimulatedClock
from oautom.values.annotations import MISSING, fits, part_type

MakeStep = Callable[[str, Flow], Execution]
"""A class or a function that declares a step of this name in this flow."""

RETRIES: st.SearchStrategy[RetryPolicy] = st.builds(
    RetryPolicy,
    max_attempts=st.integers(2, 4),
    delay=st.integers(0, 3),
    jitter=st.just(0.0),  # so that what is due at one instant is met
    retry_on=st.sampled_from([(Exception,), (TimeoutError,)]),
)

POOLS: st.SearchStrategy[tuple[Pool | None, int]] = st.sampled_from(
    [(None, 1), (Pool("one", 1), 1), (Pool("two", 2), 1), (Pool("two", 2), 2)]
)
"""The pool of a step, and how many slots the step takes."""
_BOTH: Final = Pool("both", 2, (3, 5))
_OF_EACH = (
    *("trigger_rule", "allow_failure", "retry", "timeout"),
    *("pool", "pool_slots", "priority"),
)
RATES: st.SearchStrategy[tuple[Pool | None, int]] = st.sampled_from(
    [(None, 1), (Pool("slow", rate=(1, 3)), 1), (_BOTH, 1), (_BOTH, 2)]
)
"""The same, of pools with a rate."""
CLEAN_UPS: st.SearchStrategy[str] = st.sampled_from(
    ["", "teardown", "of first", "of all", "begun", "success"]
)
"""The clean-up of a step: as a `teardown`, or `teardown_of` upstreams; or its `compensate_on`."""
BOOLEANS: st.SearchStrategy[bool] = st.booleans()
PRIORITIES: st.SearchStrategy[int] = st.sampled_from([0, 1, 2, -1])


class DrawnFlow(Flow):
    """A flow whose `repr()` shows its steps, for a failing example."""

    def __repr__(self) -> str:
        """Return the steps in the order of declaration, each with those that it waits for."""
        steps = [
            name + (f" << [{', '.join(upstreams)}]" if upstreams else "") + self._options_of(name)
            for name, upstreams in self.graph.upstreams.items()
        ]
        rules = "".join(
            f" ({key} {value:g})" if key == "run_timeout" else f" ({key} {value})"
            for key, value in self.settings.items()
        )
        most = f", {self.max_active_vects} at once" if self.when_full == "wait" else ""
        return f"<Flow '{self.name}'{rules}{most}: {'; '.join(steps) or 'no steps'}>"

    def _options_of(self, name: str) -> str:
        step = self.steps[name]
        told = [_shown(key, value) for key, value in step.options().items()]
        takes = any(each.reference.source_kind == "step" for each in step.references)
        told += ["is given them"] if takes and step.kind not in ("map", "wait") else []
        return f" ({', '.join(told)})" if told else ""


def _shown(option: str, value: Any) -> str:
    match option, value:
        case _, str() if option != "compensate":
            return value
        case (("over" | "until"), [_, source, *path]):
            return f"{option} {source}{''.join(f'[{key!r}]' for key in path)}"
        case "pool_slots", _:
            return f"{value} slots of it"
        case "rate", [starts, seconds]:
            return f"{starts} starts in {seconds:g} s"
        case "pool", [pool, slots]:
            return f"pool {pool}: {slots}"
        case (("priority" | "max_parallel"), _):
            return f"{option} {value}"
        case "compensate", "begun":
            return option
        case "compensate", _:
            return f"{option} on {value}"
        case "teardown_of", [*names]:
            return f"of {', '.join(names)}"
    return option


@st.composite
def flows(
    draw: st.DrawFn,
    *,
    min_steps: int = 0,
    max_steps: int = 6,
    names: st.SearchStrategy[str] | None = None,
    steps: st.SearchStrategy[MakeStep] | None = None,
    trigger_rules: bool = False,
    retries: bool = False,
    waits: bool = False,
    branches: bool = False,
    forwarding: bool = False,
    limits: bool = False,
    maps: bool = False,
    children: bool = False,
    maps_of_flows: bool = False,
    asyncs: bool = False,
    instants: bool = False,
    turns: bool = False,
    deadlines: bool = False,
    clean_ups: bool = False,
    rates: bool = False,
    secrets: bool = False,
) -> Flow:
    """Draw a flow, in an app of its own: in memory, `executor='inline'`, with a simulated clock.

    A step waits only for steps that are declared before it, so there are no cycles.

    Args:
        draw: The draw function of Hypothesis.
        min_steps: The smallest number of steps.
        max_steps: The largest number of steps.
        names: A strategy for the names of steps. Default: `a`, `b`, ...
        steps: A strategy for functions or classes that declare a step: each is called with the name
            and the flow. Default: a `PythonExecution` that does nothing.
        trigger_rules: Whether steps have any `trigger_rule`, and some may fail (`allow_failure`).
        retries: Whether some steps are tried again, and some have a `timeout`.
        waits: Whether some steps wait for a time or for a person, in place of steps of `steps`.
        branches: Whether some steps choose which of their dependants run, in place of steps of
            `steps`.
        forwarding: Whether some steps take the outputs of their upstreams. A step of `steps` does
            not, unless it does so by itself.
        limits: Whether some steps have a `pool`, `one` of one slot or `two` of two, of which some
            take both, and some a `priority`.
        maps: Whether some steps have an instance for each item of the output of an upstream, in
            place of steps of `steps`.
        children: Whether some steps run another flow, `inner`, whose one step is `work`, in place
            of steps of `steps`.
        maps_of_flows: Whether some steps run another flow, `each`, for each item of the output of
            an upstream, in place of steps of `steps`. Its one parameter is `item`, any value.
        asyncs: Whether some steps are `async`, and the flow has a `max_async` of a few.
        instants: Whether some steps wait until a time that is the output of an upstream, in place
            of steps of `steps`.
        turns: Whether only one or two Vects of it may be open at once, and others wait for their
            turn.
        deadlines: Whether some steps have a `deadline`, and perhaps the flow, too.
        clean_ups: Whether some steps clean up after their upstreams (`teardown`), and the work of
            some is undone (`compensate`); and the flow may have a `run_timeout`, and cancel all
            steps when one fails (`on_failure`).
        rates: Whether some steps have a `pool` with a rate, `slow` or `both`.
        secrets: Whether some steps take the secret `KEY`. A step of `steps` does not.
    """
    plan = draw(_plans(min_steps, max_steps, CLEAN_UPS if clean_ups else st.just("")))
    drawn_names = _names(draw, len(plan), names)
    app = OAutom(executor="inline", clock=SimulatedClock())
    max_async = draw(st.sampled_from([2, 1, 1000])) if asyncs else 1000
    deadline = draw(st.sampled_from([None, 6.0])) if deadlines else None
    flow = DrawnFlow("flow", app, max_async=max_async, deadline=deadline)
    if clean_ups:
        flow.on_failure = draw(st.sampled_from(["finish", "cancel"]))
        flow.run_timeout = draw(st.none() | st.sampled_from([6.0, 2.0, 15.0]))
    if children:
        _do_nothing("work", Flow("inner", app))
    _declare_each(app, is_wanted=maps_of_flows)
    declared: dict[int, Execution] = {}
    for (own_label, upstreams, clean_up), name in zip(plan, drawn_names, strict=True):
        waits_for = {_nearest(each, declared) for each in upstreams}
        before = [step for each, step in declared.items() if each in waits_for]
        make = _do_nothing if steps is None else draw(steps)
        others: list[MakeStep] = [*[_wait, _ask] * waits, *[_choose] * branches, *[_run] * children]
        ways = [*[_map] * maps, *[_map_of_flows] * maps_of_flows]
        mapping = [partial(way, each) for each in before for way in ways if _may_be_list(each)]
        waiting = [partial(_wait_until, each) for each in before if instants and _may_be_time(each)]
        if kinds := [st.sampled_from(each) for each in (others, mapping, waiting) if each]:
            make = draw(st.one_of(st.just(make), *kinds))
        is_plain = make is _do_nothing
        takes: list[Any] = before if forwarding and is_plain and before and draw(BOOLEANS) else []
        if secrets and is_plain and draw(BOOLEANS):
            takes = [*takes, flow.secret("KEY")]
        made = PythonExecution(name, flow, _nothing, takes) if takes else make(name, flow)
        made.depends(*before)
        rules = {"trigger_rules": trigger_rules, "retries": retries}
        _draw_options(draw, made, limits=limits, rates=rates, **rules)
        is_plain = isinstance(made, PythonExecution) and made.function is _nothing
        if asyncs and is_plain and draw(st.booleans()):
            made.function, made.is_async = _nothing_later, True  # type: ignore[attr-defined] # it has
        if deadlines:
            made.deadline = draw(st.sampled_from([None, 2.0, 4.0]))
        if (maps or maps_of_flows) and isinstance(made, MapExecution):
            made.max_parallel = draw(st.none() | st.integers(1, 2))
        _set_clean_up(made, before, clean_up)
        declared[own_label] = made
    most = draw(st.sampled_from([None, 1, 2])) if turns else None
    if most is not None:
        flow.max_active_vects, flow.when_full = most, "wait"
    return flow


def _plans(
    min_steps: int, max_steps: int, clean_ups: st.SearchStrategy[str]
) -> st.SearchStrategy[list[tuple[int, list[int], str]]]:
    """Return a strategy for steps: each a label, numbers of labels before it, and its clean-up.

    A number stands for the nearest label below. So an example without one of its steps is otherwise
    the same, which is how it shrinks.
    """
    # Labels must be unique by a lambda: by `itemgetter(0)`, or in a list of unique labels,
    # Hypothesis would draw places among the labels that are left, and not the labels themselves.
    label = st.integers(0, 2 * max_steps)
    step = st.tuples(label, st.lists(label, max_size=max_steps), clean_ups)
    return st.lists(step, min_size=min_steps, max_size=max_steps, unique_by=lambda step: step[0])


def _draw_options(
    draw: st.DrawFn,
    made: Execution,
    *,
    trigger_rules: bool,
    retries: bool,
    limits: bool,
    rates: bool,
) -> None:
    """Draw the options of a step of any kind; the arguments are those of `flows`."""
    if trigger_rules:
        made.trigger_rule = draw(st.sampled_from(TriggerRule))
        made.allow_failure = draw(st.booleans())
    if retries:
        made.retry = draw(st.none() | RETRIES)
        made.timeout = made.timeout or draw(st.none() | st.just(5.0))
    if limits:
        made.pool, made.pool_slots = draw(POOLS)
        made.priority = draw(PRIORITIES)
    if rates:
        made.pool, made.pool_slots = draw(RATES)
    for option in _OF_EACH:
        setattr(made.each, option, getattr(made, option))


def _set_clean_up(made: Execution, before: list[Execution], how: str) -> None:
    """Make a step clean up after its upstreams, or give it a compensation, or neither."""
    if how in get_args(CompensateOn):
        for each in dict.fromkeys([made, made.each]):
            each.compensate, each.compensate_on = _nothing, cast("CompensateOn", how)
            each.compensation = compensation_of(made, made.flow)
    elif how and before:
        for each in dict.fromkeys([made, made.each]):
            each.teardown, each.trigger_rule = True, TriggerRule.ALL_SUCCESS
            each.teardown_of = {"of first": before[:1], "of all": before}.get(how, ())


def _nearest(number: int, labels: Iterable[int]) -> int | None:
    """Return the greatest label up to a number, else the greatest of all."""
    return max(labels, key=lambda label: (label <= number, label), default=None)


def _names(draw: st.DrawFn, size: int, names: st.SearchStrategy[str] | None) -> list[str]:
    if names is not None:
        return draw(st.lists(names, min_size=size, max_size=size, unique=True))
    letters = list(islice(_letters(), size))
    return letters[::-1] if draw(st.booleans()) else letters  # what sorts by name shows up


def _letters() -> Iterator[str]:
    for size in count(1):
        yield from map("".join, product(string.ascii_lowercase, repeat=size))


def _do_nothing(name: str, flow: Flow) -> PythonExecution:
    return PythonExecution(name, flow, _nothing)


def _choose(name: str, flow: Flow) -> BranchExecution:
    return BranchExecution(name, flow, _nothing)


def _map(over: Execution, name: str, flow: Flow) -> MapExecution:
    return MapExecution(name, flow, _nothing, over)


def _map_of_flows(over: Execution, name: str, flow: Flow) -> MapExecution:
    return MapExecution(name, flow, "each", over)


def _declare_each(app: OAutom, *, is_wanted: bool) -> None:
    """Declare the flow that maps of flows run."""
    if is_wanted:
        _do_nothing("work", Flow("each", app, params={"item": object}, max_active_vects=None))


def _may_be_list(step: Execution) -> bool:
    """Whether a map over the output of a step is accepted."""
    return part_type(step.output_type, 0) is not MISSING


def _may_be_time(step: Execution) -> bool:
    """Whether the output of a step may be an instant, which a wait accepts."""
    return not step.kind and fits(step.output_type, datetime | str)


def _wait_until(until: Execution, name: str, flow: Flow) -> WaitExecution:
    return WaitExecution(name, flow, until=until)


def _wait(name: str, flow: Flow) -> WaitExecution:
    return WaitExecution(name, flow, seconds=3)


def _ask(name: str, flow: Flow) -> ApprovalExecution:
    return ApprovalExecution(name, flow, "may it go on?", timeout=8)


def _run(name: str, flow: Flow) -> FlowExecution:
    return FlowExecution(name, flow, "inner")


def _nothing(*given: Any) -> Any:
    """Do nothing: the function of the steps of drawn flows."""


async def _nothing_later(*given: Any) -> Any:
    """Do nothing: the function of the async steps of drawn flows."""
