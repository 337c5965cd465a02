"""`simulate`: the real scheduler, decisions and log, on a virtual clock, without any real work."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from oautom.client.views import VectView
from oautom.engine.modes import ForegroundEngine
from oautom.errors import FlowError, SettingError, UnknownStepError, shown
from oautom.flows.flow import Flow
from oautom.machine.commands import Finished
from oautom.machine.event import Event, is_answer
from oautom.machine.kinds import kind_of
from oautom.machine.maps import map_of
from oautom.machine.tables import COMPENSATION_EVENTS, UNDONE_EVENTS
from oautom.steps.work import NO_DETAILS, Outcome, Skip, StepError, Work, lost
from oautom.testing.clock import START, SimulatedClock
from oautom.testing.crashes import Lives, Moment, MortalLog, moments
from oautom.values.names import check_max_workers
from oautom.vects.vect import Vect
from oautom.workers.base import Done, Job, Workers, WorkLostError

UNDO: Final = ".compensate"
"""The suffix of the name of a step in durations and outcomes of its compensation."""

T = TypeVar("T")
Durations = Mapping[str, float | Sequence[float]]
Outcomes = Mapping[str, Any]


def simulate(
    flow: Flow,
    params: Mapping[str, Any] | None = None,
    *,
    durations: Durations | None = None,
    outcomes: Outcomes | None = None,
    like: Vect | VectView | None = None,
    start: datetime = START,
    seed: int = 0,
    max_workers: int | None = None,
    crash_at: Moment | Sequence[Moment] = (),
) -> Vect:
    """Run a flow on a virtual clock, without the work of its steps, and return the ended Vect.

    Scheduler, decisions and log are the real ones: the Vect goes as it would if the steps took
    these durations and had these outcomes. A simulation takes no real time except that of the
    engine, and the same arguments give the same log, byte for byte. The flow is not frozen, its app
    is not touched, and the public signals are silent.

    Args:
        flow: The flow.
        params: Its parameters, as in `app.start`.
        durations: Name of a step -> seconds that it takes, or that a person takes to decide; or a
            list of these, one for each attempt, whose last item applies to all further attempts.
            Default: 0.
        outcomes: Name of a step -> its output, or an exception instance with which it fails; or a
            list of these, one for each attempt, whose last item applies to all further attempts.
            With `WorkLostError('worker 3 has died')` the work of an attempt is lost. Default: a
            success with the output None. Put an output that is a list into a list.
        like: A Vect that has run, or the view of one by a `Client`: its parameters, durations and
            outcomes are the defaults. The outputs of a durable Vect are plain JSON, even if they
            are annotated with a type.
        start: The time at which it begins, aware.
        seed: The seed of chance, which decides which of the steps that end at the same instant is
            first.
        max_workers: How many steps run at once; None for no limit.
        crash_at: The moments at which the program dies, and is run again at once on its log:
            before, in or after a commit, `('after', 3)`, or a list of these.

    Raises:
        UnknownStepError: `durations` or `outcomes` name a step that the flow does not have.
        ParamError: A parameter is unknown, missing or wrong.
        SettingError: An argument cannot be used.
        FlowError: `flow.validate()` refuses the flow; a step is named as what undoes another one.
    """
    if not isinstance(seed, int):
        raise SettingError(f"seed must be an int, not {shown(seed)}")
    if not isinstance(flow, Flow):
        raise SettingError(f"simulate() needs a Flow, not {shown(flow)}")
    check_max_workers(max_workers)
    flow.validate()
    script = Script(flow, durations or {}, outcomes or {})
    if like is not None:
        if not isinstance(like, Vect | VectView):
            raise SettingError(f"like must be a Vect, a VectView or None, not {shown(like)}")
        script.follow(like)
        params = _params_like(like, flow) | dict(params or {})
    plain = flow.params.plain(params)
    clock = SimulatedClock(start, seed)
    log = MortalLog(moments(crash_at))
    slots = max_workers or sys.maxsize
    lives = Lives(flow, log, clock, lambda: ScriptedWorkers(script, clock, slots), script.decision)
    vect = f"simulated-{seed}"
    lives.begin(vect, plain)
    lives.drive(lambda: lives.scheduler.is_over(lives.runs[vect]))
    return Vect(lives.runs[vect], ForegroundEngine(lives.scheduler, log))


def _params_like(vect: Vect | VectView, flow: Flow) -> dict[str, Any]:
    """Return those parameters of a Vect that a flow takes, too."""
    plain = vect.status()["params"]
    return {name: value for name, value in plain.items() if name in flow.params}


def tell_nobody(flow: object, happened: Event) -> None:
    """Send no signal: a simulation must not send mail."""


class Script:
    """The duration and the outcome of each attempt of each step."""

    def __init__(self, flow: Flow, durations: Durations, outcomes: Outcomes) -> None:
        check_names(flow)
        self._flow = flow
        for name in (*durations, *outcomes):
            if not _is_known(flow, name):
                raise UnknownStepError(flow.name, name, flow.steps)
        self._durations: dict[str, list[float]] = {
            name: _attempts(seconds) for name, seconds in durations.items()
        }
        self._outcomes = {
            name: [_outcome(each) for each in _attempts(given)] for name, given in outcomes.items()
        }
        for name, ends in self._outcomes.items():
            if (problem := _wrong_loss(flow, name, ends)) is not None:
                told = f"outcomes[{shown(name)}] {problem}"
                raise SettingError(told, flow=flow.name, step=name)
        for name, seconds in self._durations.items():
            if not all(isinstance(each, int | float) and 0 <= each < math.inf for each in seconds):
                raise SettingError(
                    f"durations[{shown(name)}] must be seconds, from 0, not "
                    f"{shown(durations[name])}",
                    flow=flow.name,
                    step=name,
                )

    def follow(self, vect: Vect | VectView) -> None:
        """Take missing durations and outcomes from the log of a Vect."""
        begun: dict[str, datetime] = {}
        durations: dict[str, list[float]] = {}
        outcomes: dict[str, list[Outcome]] = {}
        for event in vect.events():
            if event.step is None or map_of(event.step) not in self._flow.steps:
                continue
            name = f"{event.step}{UNDO}" if event.name in COMPENSATION_EVENTS else event.step
            if event.name in ("step.started", "step.compensating"):
                begun[name] = event.time
            elif is_answer(event) or event.name in UNDONE_EVENTS:
                seconds = (event.time - begun[name]).total_seconds()
                durations.setdefault(name, []).append(max(0.0, seconds))
                outcomes.setdefault(name, []).append(_recorded(event))
        self._durations = durations | self._durations
        self._outcomes = outcomes | self._outcomes

    def duration(self, step: str, attempt: int) -> float:
        """Return the duration of an attempt in seconds."""
        given = self._durations.get(step) or self._durations.get(_of_all(step)) or [0.0]
        return _of_attempt(given, attempt)

    def outcome(self, step: str, attempt: int) -> Outcome:
        """Return the outcome of an attempt."""
        given = self._outcomes.get(step) or self._outcomes.get(_of_all(step)) or [Outcome()]
        return _of_attempt(given, attempt)

    def decision(self, vect: str, step: str, attempt: int) -> tuple[float, Finished]:
        """Return the decision of a person about an approval, and after how many seconds."""
        outcome = self.outcome(step, attempt)
        output = outcome.output or {"by": "simulate", "data": None}
        error, more = outcome.error, outcome.told
        key = (vect, step, attempt)
        told = Finished(*key, None if error else output, error, more, outcome.is_skip)
        return self.duration(step, attempt), told


def check_names(flow: Flow) -> None:
    """Refuse a flow in which one name would mean two pieces of work.

    Raises:
        FlowError: That is so.
    """
    for name, step in flow.steps.items():
        if step.compensate is not None and (undo := f"{name}{UNDO}") in flow.steps:
            raise FlowError(
                f"flow '{flow.name}' has a step '{undo}', and that is the name under which "
                f"oautom.testing has what undoes step '{name}'; name the step otherwise",
                flow=flow.name,
                step=undo,
            )


def _wrong_loss(flow: Flow, name: str, ends: Sequence[Outcome]) -> str | None:
    """Return what is wrong with the losses among the outcomes of a step, or None."""
    losses = [each.loss for each in ends]
    if not any(losses):
        return None
    if not may_be_lost(flow, name):
        return "has a loss, and the step has no work for a worker that could be lost"
    if (last := losses[-1]) is not None and not last.is_worker:
        return "ends with a loss, which would come for ever; give a list with an outcome behind it"
    return None


def may_be_lost(flow: Flow, name: str) -> bool:
    """Whether a step, an instance of a map, or a compensation has work for a worker."""
    step = flow.steps.get(map_of(name))  # compensations have such work
    return step is None or step.each.kind == "map" or kind_of(step.each.kind).needs_worker


def _is_known(flow: Flow, name: str) -> bool:
    """Whether a name is that of a step, of an instance of a map, or of a compensation."""
    if name in flow.steps:
        return True
    done = name.removesuffix(UNDO)
    step = flow.steps.get(done) or flow.steps.get(map_of(done))
    is_undone = done == name or (step is not None and step.compensate is not None)
    return step is not None and is_undone and (done in flow.steps or step.kind == "map")


def _of_all(name: str) -> str:
    """Return the name under which a script has the values for all instances of a map."""
    done = name.removesuffix(UNDO)
    return map_of(done) + name[len(done) :]


def _attempts(given: Any) -> list[Any]:
    if not isinstance(given, list):
        return [given]
    if not given:
        raise SettingError("a list of durations or outcomes needs one for the first attempt")
    return given


def _of_attempt(attempts: Sequence[T], attempt: int) -> T:
    return attempts[min(attempt, len(attempts)) - 1]


def _outcome(given: Any) -> Outcome:
    if isinstance(given, type) and issubclass(given, BaseException):
        raise SettingError(
            f"an outcome must be an instance of an exception, not {shown(given)}; write "
            f"{given.__name__}()"
        )
    if isinstance(given, WorkLostError):
        return lost(given)
    return Outcome.failure(given) if isinstance(given, BaseException) else Outcome(given)


def _recorded(event: Event) -> Outcome:
    data = event.data
    if event.name == "step.skipped":
        return Outcome.failure(Skip(data["reason"]))
    if event.name in ("step.succeeded", "step.compensated"):
        return Outcome(data.get("output"))
    error, cause = data["error"], StepError(data["error"])
    facts = {key: value for key, value in data.items() if key not in ("error", "delay", "details")}
    details = data.get("details", NO_DETAILS)
    is_retriable = "delay" in data
    return Outcome(None, error, facts, details, cause, is_retriable=is_retriable)


class ScriptedWorkers(Workers):
    """Workers that do nothing, and answer at the times and with the outcomes of a script."""

    has_loop = True

    def __init__(self, script: Script, clock: SimulatedClock, slots: int) -> None:
        self.slots = slots
        self._script = script
        self._clock = clock
        self._begun: dict[tuple[str, str, int], float] = {}

    def submit(self, job: Job, done: Done) -> None:
        """Answer when the work would be done."""
        assert isinstance(job, Work)
        step, attempt = scripted(job), job.context.attempt
        seconds = self._script.duration(step, attempt)
        outcome = self._script.outcome(step, attempt)
        if job.execution.is_polled and outcome.error is None:
            key = (job.context.vect_id, step, attempt)
            begun = self._begun.setdefault(key, self._clock.monotonic())
            if job.method == "check":
                outcome = Outcome(self._clock.monotonic() >= begun + seconds)
            seconds = 0.0
        answer = _Once(done)
        # What is not wanted any more ends at once, as a command would.
        ended = partial(answer, Outcome(error="it was ended"), None)
        job.on_cancel(partial(self._clock.call_later, 0.0, ended))
        self._clock.call_later(seconds, partial(answer, outcome, None))


def scripted(job: Work) -> str:
    """Return the name of a piece of work in a script."""
    return f"{job.context.step}{UNDO}" if job.execution.undoes else job.context.step


class _Once:
    """A function that passes on the first answer only."""

    def __init__(self, done: Done) -> None:
        self._done: Done | None = done

    def __call__(self, answer: object, failure: BaseException | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(answer, failure)
