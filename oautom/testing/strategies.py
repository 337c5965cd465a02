"""Hypothesis strategies: flows, how their steps end, how long they take, and logs of their runs.

They shrink: what is left of a failing example is the smallest flow that fails. Its steps are `a`,
`b`, ..., and of a step that just succeeds at once, neither outcome nor duration is mentioned.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import count, islice, product
from typing import Any, get_args

from oautom.app import OAutom
from oautom.errors import SettingError
from oautom.events.event import Event
from oautom.executions.approval import ApprovalExecution
from oautom.executions.base import Execution
from oautom.executions.branch import BranchExecution
from oautom.executions.python import PythonExecution
from oautom.executions.wait import WaitExecution
from oautom.executions.work import Skip
from oautom.executors.base import Done
from oautom.executors.base import Work as AnyWork
from oautom.flow import Flow
from oautom.retry import RetryPolicy
from oautom.rules import TriggerRule
from oautom.testing.clock import SimulatedClock
from oautom.testing.lives import Lives, MortalLog, When
from oautom.testing.simulation import Script, ScriptedWorkers

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "oautom's strategies need Hypothesis: pip install 'oautom[testing]'"
    ) from error

MakeStep = Callable[[str, Flow], Execution]
"""Declares a step of this name in this flow: a class, or a function."""

OUTPUTS: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
ERRORS: st.SearchStrategy[BaseException] = st.builds(RuntimeError, st.just("drawn"))
SKIPS: st.SearchStrategy[BaseException] = st.builds(Skip, st.just("drawn"))


RETRIES: st.SearchStrategy[RetryPolicy] = st.builds(
    RetryPolicy,
    max_attempts=st.integers(2, 4),
    delay=st.integers(0, 3),
    jitter=st.just(0.0),  # so that what is due at one instant is met
    retry_on=st.sampled_from([(Exception,), (TimeoutError,)]),
)


class DrawnFlow(Flow):
    """A flow that shows its steps, as it stands in a failing example."""

    def __repr__(self) -> str:
        """Return the steps in the order of declaration, each with those that it waits for."""
        steps = [
            name + (f" << [{', '.join(upstreams)}]" if upstreams else "") + self._options_of(name)
            for name, upstreams in self.graph.upstreams.items()
        ]
        return f"<Flow '{self.name}': {'; '.join(steps) or 'no steps'}>"

    def _options_of(self, name: str) -> str:
        options = self.steps[name].options()
        told = [value if isinstance(value, str) else key for key, value in options.items()]
        told += ["is given them"] if self.steps[name].references else []
        return f" ({', '.join(told)})" if told else ""


class History(list[Event]):
    """The events of a log, all of one flow.

    Attributes:
        flow: The flow.
    """

    def __init__(self, events: Iterable[Event], flow: Flow) -> None:
        super().__init__(events)
        self.flow = flow

    def __repr__(self) -> str:
        """Return what happened, in the order of the log, and the flow."""
        told = [f"{event.vect}: {event.name} {event.step or ''}".rstrip() for event in self]
        return f"<History of {self.flow!r}: {'; '.join(told)}>"


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
) -> Flow:
    """Draw a flow, in an app of its own: in memory, `executor='inline'`, with a simulated clock.

    A step waits only for steps that are declared before it, so there are no cycles.

    Args:
        draw: Given by Hypothesis.
        min_steps: How many steps it has at the least.
        max_steps: How many steps it has at the most.
        names: Names of steps; unless said, `a`, `b`, ...
        steps: What declares a step: it is called with the name and the flow, so a class may do.
            Unless said, a `PythonExecution` that does nothing.
        trigger_rules: Whether steps have any `trigger_rule`, and some may fail (`allow_failure`).
        retries: Whether some steps are tried again, and some have a `timeout`.
        waits: Whether some steps wait for a time or for a person, instead of what `steps` draws.
        branches: Whether some steps choose which of their dependants are followed, instead.
        forwarding: Whether some steps are given the outputs of those that they wait for. A step of
            `steps` is not, but may take some by itself.
    """
    # A step is drawn as a label, and numbers that stand for labels before it: the nearest below.
    # So an example from which a step is taken out is the same but for this step, which is how it
    # shrinks. Labels must be unique by a lambda: by `itemgetter(0)`, or in a list of unique labels,
    # Hypothesis would draw places among the labels that are left, and not the labels themselves.
    label = st.integers(0, 2 * max_steps)
    step = st.tuples(label, st.lists(label, max_size=max_steps))
    plan = draw(
        st.lists(step, min_size=min_steps, max_size=max_steps, unique_by=lambda step: step[0])
    )
    drawn_names = _names(draw, len(plan), names)
    flow = DrawnFlow("flow", OAutom(executor="inline", clock=SimulatedClock()))
    declared: dict[int, Execution] = {}
    for (own_label, upstreams), name in zip(plan, drawn_names, strict=True):
        waits_for = {_nearest(each, declared) for each in upstreams}
        before = [step for each, step in declared.items() if each in waits_for]
        make = _do_nothing if steps is None else draw(steps)
        others = [_wait, _ask] * waits + [_choose] * branches
        if others:
            make = draw(st.just(make) | st.sampled_from(others))
        if forwarding and make is _do_nothing and before and draw(st.booleans()):
            made: Execution = PythonExecution(name, flow, _nothing, before)
        else:
            made = make(name, flow)
            made.depends(*before)
        if trigger_rules:
            made.trigger_rule = draw(st.sampled_from(TriggerRule))
            made.allow_failure = draw(st.booleans())
        if retries:
            made.retry = draw(st.none() | RETRIES)
            made.timeout = made.timeout or draw(st.none() | st.just(5.0))
        declared[own_label] = made
    return flow


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


def _wait(name: str, flow: Flow) -> WaitExecution:
    return WaitExecution(name, flow, seconds=3)


def _ask(name: str, flow: Flow) -> ApprovalExecution:
    return ApprovalExecution(name, flow, "may it go on?", timeout=8)


def _nothing(*given: Any) -> None:
    """Do what the steps of drawn flows do."""


def outcomes(
    flow: Flow,
    *,
    outputs: st.SearchStrategy[Any] = OUTPUTS,
    errors: st.SearchStrategy[BaseException] = ERRORS,
    max_attempts: int = 1,
) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for how the steps of a flow end, as `simulate` and `explore` take it.

    Args:
        flow: The flow.
        outputs: What steps return.
        errors: With which exceptions they fail. `Skip` is none of them unless you say so: where one
            upstream is skipped and one fails, the end depends on which of them is first.
        max_attempts: How long the lists are at the most; with 1, an outcome stands by itself.
    """

    def outcomes_of(step: str) -> st.SearchStrategy[Any]:
        if flow.steps[step].kind == "branch":
            names = flow.graph.dependants_of(step)
            chosen = st.lists(st.sampled_from(names), unique=True) if names else st.just([])
            return chosen | errors
        return st.booleans().flatmap(lambda fails: errors if fails else outputs)

    def attempts_of(step: str) -> st.SearchStrategy[Any]:
        attempts = st.lists(outcomes_of(step), min_size=1, max_size=max_attempts)
        return attempts.map(_without_list)

    return _by_step(flow, attempts_of)


def durations(
    flow: Flow, *, max_seconds: int = 10, max_attempts: int = 1
) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for how long the steps of a flow take, as `simulate` takes it.

    Args:
        flow: The flow.
        max_seconds: How long a step takes at the most. Whole seconds, so that many end at once.
        max_attempts: How long the lists are at the most; with 1, a duration stands by itself.
    """
    attempts = st.lists(st.integers(0, max_seconds), min_size=1, max_size=max_attempts)
    return _by_step(flow, lambda _: attempts.map(_without_list))


def _by_step(
    flow: Flow, given: Callable[[str], st.SearchStrategy[Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    if not isinstance(flow, Flow):
        raise SettingError(f"a Flow is needed, not {flow!r}; draw it before")
    return st.fixed_dictionaries({}, optional={step: given(step) for step in flow.steps})


def _without_list(attempts: list[Any]) -> Any:
    is_single = len(attempts) == 1 and not isinstance(attempts[0], list)
    return attempts[0] if is_single else attempts


@st.composite
def histories(
    draw: st.DrawFn,
    flow: Flow | st.SearchStrategy[Flow] | None = None,
    *,
    max_vects: int = 2,
    max_workers: int = 3,
    max_crashes: int = 2,
    params: st.SearchStrategy[Mapping[str, Any]] | None = None,
) -> History:
    """Draw the log of runs: how steps end, how long they take, how many at once, who cancels when.

    Vects run beside each other, on workers that they share. What a cancelled step answers later is
    in the log too.

    Args:
        draw: Given by Hypothesis.
        flow: The flow, or a strategy that draws it; any of `flows()` unless said.
        max_vects: How many Vects there are at the most.
        max_workers: How many steps run at once at the most, where the number is limited.
        max_crashes: How often the program dies at the most, and is run again.
        params: What each Vect is started with; where nothing is said, what the flow has as default.
    """
    moment = st.tuples(st.sampled_from(get_args(When)), st.integers(1, 20))
    log = MortalLog(draw(st.lists(moment, max_size=max_crashes)))
    drawn = (
        flow
        if isinstance(flow, Flow)
        else draw(
            flows(trigger_rules=True, retries=True, waits=True, branches=True)
            if flow is None
            else flow
        )
    )
    drawn.validate()
    ends = outcomes(drawn, errors=ERRORS | SKIPS, max_attempts=3)
    script = Script(drawn, draw(durations(drawn, max_attempts=2)), draw(ends))
    slots = draw(st.none() | st.integers(1, max_workers))
    instant = st.integers(0, 10)
    wish = st.tuples(instant, st.sampled_from(["pause", "retry"]))
    plain = st.builds(drawn.params.plain, st.none() if params is None else params)
    plan = st.tuples(instant, st.none() | instant, st.lists(wish, max_size=2), plain)
    plans = draw(st.lists(plan, min_size=1, max_size=max_vects))
    seed = draw(st.integers(0, 99))
    return History(_events(drawn, script, slots or sys.maxsize, plans, seed, log), drawn)


def _events(
    flow: Flow,
    script: Script,
    slots: int,
    plans: list[tuple[int, int | None, list[tuple[int, str]], Mapping[str, Any]]],
    seed: int,
    log: MortalLog,
) -> Iterator[Event]:
    """Run a Vect for each plan: when it begins, when it is cancelled then, and what else."""
    clock = SimulatedClock(seed=seed)
    crew: list[_CountedWorkers] = []  # the newest last: a dead one is not waited for

    def hire() -> _CountedWorkers:
        crew.append(_CountedWorkers(script, clock, slots))
        return crew[-1]

    lives = Lives(flow, log, clock, hire, script.decision)

    def begin(
        cancel_after: int | None, wishes: list[tuple[int, str]], plain: Mapping[str, Any]
    ) -> None:
        vect = f"vect-{len(lives.runs) + 1}"
        lives.begin(vect, plain)
        if cancel_after == 0:  # before all else: so the smallest history needs no luck
            lives.cancel(vect, "drawn")
        elif cancel_after is not None:
            clock.call_later(cancel_after, lambda: lives.cancel(vect, "drawn"))
        for after, action in wishes:
            clock.call_later(after, partial(lives.do, vect, action))
            if action == "pause":
                clock.call_later(after + 2, partial(lives.do, vect, "resume"))

    def are_over() -> bool:
        runs = lives.runs.values()
        return len(runs) == len(plans) and all(map(lives.scheduler.is_over, runs))

    for seconds, cancel_after, wishes, plain in plans:
        clock.call_later(seconds, partial(begin, cancel_after, wishes, plain))
    lives.drive(lambda: are_over() and not crew[-1].busy and lives.scheduler.is_idle())
    return log.read()


class _CountedWorkers(ScriptedWorkers):
    """Scripted workers that tell how much they have not answered yet."""

    busy = 0

    def submit(self, work: AnyWork, done: Done) -> None:
        """Answer when the work would be done."""
        self.busy += 1
        super().submit(work, partial(self._answer, done))

    def _answer(self, done: Done, answer: object, failure: BaseException | None) -> None:
        self.busy -= 1
        done(answer, failure)
