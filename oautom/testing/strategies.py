"""Hypothesis strategies: flows, outcomes and durations of their steps, and logs of their runs.

They shrink: a failing example becomes the smallest flow that fails. Its steps are `a`, `b`, ...,
and a step that just succeeds at once has neither an outcome nor a duration in it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, get_args

from oautom.errors import SettingError, shown
from oautom.flows.flow import Flow
from oautom.machine.event import Event
from oautom.machine.kinds import kind_of
from oautom.machine.maps import instance_name
from oautom.steps.map import MapExecution
from oautom.steps.wait import WaitExecution
from oautom.steps.work import Skip
from oautom.testing.clock import START, SimulatedClock
from oautom.testing.crashes import Lives, MortalLog, When
from oautom.testing.simulation import UNDO, Script, ScriptedWorkers, check_names, may_be_lost
from oautom.values.references import OutputReference
from oautom.workers.base import Done, Job, WorkLostError

try:
    from hypothesis import strategies as st

    from oautom.testing.drawn_flows import flows
except ImportError as error:
    raise ImportError(
        "oautom's strategies need Hypothesis: pip install 'oautom[testing]'"
    ) from error

__all__ = ["History", "durations", "flows", "histories", "outcomes"]

MAX_ITEMS = 3

OUTPUTS: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
INSTANTS: st.SearchStrategy[Any] = st.integers(0, 10).map(
    lambda seconds: (START + timedelta(seconds=seconds)).isoformat()
)
ERRORS: st.SearchStrategy[BaseException] = st.builds(RuntimeError, st.just("drawn"))
LOSSES: st.SearchStrategy[BaseException] = st.builds(
    WorkLostError, st.just("drawn"), is_worker=st.booleans()
)
SKIPS: st.SearchStrategy[BaseException] = st.builds(Skip, st.just("drawn"))


class History(list[Event]):
    """The events of a log, all of one flow.

    Attributes:
        flow: The flow.
    """

    def __init__(self, events: Iterable[Event], flow: Flow) -> None:
        super().__init__(events)
        self.flow = flow

    def __repr__(self) -> str:
        """Return the events, in the order of the log, and the flow."""
        told = [f"{event.vect}: {event.name} {event.step or ''}".rstrip() for event in self]
        return f"<History of {self.flow!r}: {'; '.join(told)}>"


def outcomes(
    flow: Flow,
    *,
    outputs: st.SearchStrategy[Any] = OUTPUTS,
    errors: st.SearchStrategy[BaseException] = ERRORS,
    max_attempts: int = 1,
    losses: bool = False,
) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for the outcomes of the steps of a flow, for `simulate` and `explore`.

    A step returns an instant, as text, if a wait is until its output; sometimes it returns
    something else there, too.

    Args:
        flow: The flow.
        outputs: A strategy for outputs. A step returns a list of these if a map is over its output,
            and sometimes something else there, too.
        errors: A strategy for the exceptions of failures. By default, `Skip` is not among them: if
            one upstream is skipped and one fails, the end depends on which of them is first.
        max_attempts: The largest length of the lists; with 1, each outcome stands by itself.
        losses: Whether the work of some attempts is lost, which come besides.
    """

    def outcomes_of(step: str) -> st.SearchStrategy[Any]:
        if step.endswith(UNDO) and step not in flow.steps:
            return st.none() | errors
        if step in flow.steps and flow.steps[step].kind == "branch":
            names = flow.graph.dependants_of(step)
            chosen = st.lists(st.sampled_from(names), unique=True) if names else st.just([])
            return chosen | errors
        if step in mapped:
            lists = st.lists(outputs, max_size=MAX_ITEMS)
            return lists | lists | lists | lists | outputs | errors  # mostly there are items
        good = outputs
        if step in timed:
            good = INSTANTS | INSTANTS | INSTANTS | outputs
        return st.booleans().flatmap(lambda fails: errors if fails else good)

    def attempts_of(step: str) -> st.SearchStrategy[Any]:
        attempts = st.lists(outcomes_of(step), min_size=1, max_size=max_attempts)
        is_map = step in flow.steps and flow.steps[step].kind == "map"
        if losses and not is_map and may_be_lost(flow, step):
            lost: st.SearchStrategy[list[Any]] = st.just([]) | st.lists(LOSSES, max_size=2)
            attempts = st.tuples(lost, attempts).map(lambda each: each[0] + each[1])
        return attempts.map(_without_list)

    mapped = _mapped(flow)
    timed = _timed(flow)
    return _by_step(flow, attempts_of, dict.fromkeys([*mapped, *timed]))


def durations(
    flow: Flow, *, max_seconds: int = 10, max_attempts: int = 1
) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for the durations of the steps of a flow, for `simulate`.

    Args:
        flow: The flow.
        max_seconds: The longest duration. Durations are whole seconds, so that many steps end at
            once.
        max_attempts: The largest length of the lists; with 1, each duration stands by itself.
    """
    attempts = st.lists(st.integers(0, max_seconds), min_size=1, max_size=max_attempts)
    return _by_step(flow, lambda _: attempts.map(_without_list))


def _mapped(flow: Flow) -> list[str]:
    """Return the steps over whose whole outputs there are maps, so that they should be lists."""
    _check_flow(flow)
    overs = [step.over for step in flow.steps.values() if isinstance(step, MapExecution)]
    whole = [each.name for each in overs if isinstance(each, OutputReference) and not each.path]
    return [name for name in dict.fromkeys(whole) if kind_of(flow.steps[name].kind).needs_worker]


def _timed(flow: Flow) -> list[str]:
    """Return the steps whose whole outputs are the ends of waits."""
    untils = [step.until for step in flow.steps.values() if isinstance(step, WaitExecution)]
    whole = [each.name for each in untils if isinstance(each, OutputReference) and not each.path]
    return [name for name in dict.fromkeys(whole) if not flow.steps[name].kind]


def _by_step(
    flow: Flow, given: Callable[[str], st.SearchStrategy[Any]], needed: Collection[str] = ()
) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for values for some steps and instances, and for all needed ones."""
    _check_flow(flow)
    names = [*flow.steps]
    for name, step in flow.steps.items():
        instances = [
            instance_name(name, index) for index in range(MAX_ITEMS * (step.kind == "map"))
        ]
        names += instances
        if step.compensate is not None:
            names += [f"{each}{UNDO}" for each in instances or [name]]
    by_name = {name: given(name) for name in names}
    certain = {name: by_name.pop(name) for name in needed}
    return st.fixed_dictionaries(certain, optional=by_name)


def _check_flow(flow: Flow) -> None:
    if not isinstance(flow, Flow):
        raise SettingError(f"a Flow is needed, not {shown(flow)}; draw the flow first")
    check_names(flow)


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
    """Draw the log of runs, with any outcomes, durations, number of workers, and cancels.

    Vects run beside each other, on shared workers. Late answers of cancelled steps are in the log,
    too.

    Args:
        draw: The draw function of Hypothesis.
        flow: The flow, or a strategy for it. Default: any of `flows()`.
        max_vects: The largest number of Vects.
        max_workers: The largest number of steps that run at once, if that number is limited.
        max_crashes: How often the program dies at most, and is run again.
        params: A strategy for the parameters of each Vect. Default: the defaults of the flow.
    """
    moment = st.tuples(st.sampled_from(get_args(When)), st.integers(1, 20))
    log = MortalLog(draw(st.lists(moment, max_size=max_crashes)))
    if flow is None:  # not `flow or ...`: Hypothesis warns who asks a strategy for its truth
        flow = flows(
            trigger_rules=True,
            retries=True,
            waits=True,
            branches=True,
            limits=True,
            maps=True,
            maps_of_flows=True,
            children=True,
            asyncs=True,
            instants=True,
            turns=True,
            clean_ups=True,
            deadlines=True,
            secrets=True,
        )
    drawn = flow if isinstance(flow, Flow) else draw(flow)
    drawn.validate()
    ends = outcomes(drawn, errors=ERRORS | SKIPS, max_attempts=3, losses=True)
    script = Script(drawn, draw(durations(drawn, max_attempts=2)), draw(ends))
    slots = draw(st.none() | st.integers(1, max_workers))
    instant = st.integers(0, 10)
    wish = st.tuples(instant, st.sampled_from(["pause", "retry", "cancel"]))
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
    """Run a Vect for each plan: the time of its start, of its cancel, and of other calls."""
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
            left.append(vect)
            clock.call_later(after, partial(wish, vect, action))
            if action == "pause":
                clock.call_later(after + 2, partial(lives.do, vect, "resume"))

    left: list[str] = []  # wishes that nobody has had yet

    def wish(vect: str, action: str) -> None:
        left.remove(vect)
        lives.do(vect, action)

    def are_over() -> bool:
        runs = lives.runs.values()
        return not left and len(runs) == len(plans) and all(map(lives.scheduler.is_over, runs))

    for seconds, cancel_after, wishes, plain in plans:
        clock.call_later(seconds, partial(begin, cancel_after, wishes, plain))
    lives.drive(lambda: are_over() and not crew[-1].busy and lives.scheduler.is_idle())
    return log.read()


class _CountedWorkers(ScriptedWorkers):
    """Scripted workers that count the jobs that they have not answered yet."""

    busy = 0

    def submit(self, job: Job, done: Done) -> None:
        """Answer after the duration of the work."""
        self.busy += 1
        super().submit(job, partial(self._answer, done))

    def _answer(self, done: Done, answer: object, failure: BaseException | None) -> None:
        self.busy -= 1
        done(answer, failure)
