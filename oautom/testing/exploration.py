"""`explore`: every order in which the steps of a small flow can end, and the end of each."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from oautom.engine.messages import Poll, Recheck
from oautom.engine.scheduler import Scheduler
from oautom.errors import SettingError, shown
from oautom.events.memory import MemoryEventLog
from oautom.flows.flow import Flow
from oautom.machine.commands import Command, Release
from oautom.machine.kinds import kind_of
from oautom.machine.state import StepState
from oautom.steps.work import Outcome, Work
from oautom.testing.clock import SimulatedClock
from oautom.testing.simulation import UNDO, Outcomes, Script, scripted, tell_nobody
from oautom.vects.run import Run
from oautom.workers.base import Done, Job, Workers

Fingerprint = tuple[Any, ...]
HowItEnds = tuple[str, ...]


class End(NamedTuple):
    """One way in which a flow can end, and the shortest schedule that leads to it.

    Attributes:
        state: The state of the Vect.
        steps: The state of each step.
        schedule: Names of the steps in the order in which they ended.
    """

    state: str
    steps: dict[str, str]
    schedule: tuple[str, ...]


class Exploration(NamedTuple):
    """The result of `explore`.

    Attributes:
        ends: The different ends, the one with the shortest schedule first. If there are several,
            the result of the flow depends on which step ends first.
        schedules: How many schedules there are, or how many were drawn.
        states: How many different states were reached.
        is_complete: Whether all schedules were tried, and not a sample of them.
    """

    ends: list[End]
    schedules: int
    states: int
    is_complete: bool

    @property
    def depends_on_order(self) -> bool:
        """Whether the end depends on the order in which steps end."""
        return len(self.ends) > 1

    def __str__(self) -> str:
        """Return the result in words, with the two shortest schedules that end differently."""
        how = "all" if self.is_complete else "a sample of the"
        text = (
            f"{how} schedules: {self.schedules}, over {self.states} states, "
            f"to {len(self.ends)} different ends"
        )
        for end in self.ends[:2] if self.depends_on_order else ():
            steps = ", ".join(f"{name} {state}" for name, state in end.steps.items())
            text += f"\n  {' -> '.join(end.schedule)}: {end.state} ({steps})"
        return text


def explore(
    flow: Flow, *, outcomes: Outcomes | None = None, max_schedules: int = 10_000, seed: int = 0
) -> Exploration:
    """Run a flow in every order in which its steps can end, with the real scheduler.

    Orders that lead to the same state (of the steps, and of the lines in which they wait) are
    continued from there only once. If there are more than `max_schedules` orders, so many are drawn
    by chance instead. No time passes, so no order is excluded by durations, and no timeout passes:
    to try one, use an attempt that fails with a `TimeoutError`. A step whose pool has a rate starts
    as if its time had come.

    Args:
        flow: A small flow: the number of states grows with two to the power of its width.
        outcomes: The outcomes of the steps, as in `simulate`.
        max_schedules: How many schedules are tried at most, whole ones or beginnings.
        seed: The seed of the sample.

    Raises:
        UnknownStepError: `outcomes` name a step that the flow does not have.
        SettingError: An argument cannot be used.
        CycleError: The flow has a cycle.
        FlowError: A step is named as what undoes another one.
    """
    if not isinstance(flow, Flow):
        raise SettingError(f"explore() needs a Flow, not {shown(flow)}")
    if not isinstance(max_schedules, int) or max_schedules < 1:
        raise SettingError(f"max_schedules must be a positive int, not {shown(max_schedules)}")
    flow.validate()
    script = Script(flow, {}, outcomes or {})
    found = _walk_all(flow, script, max_schedules)
    return found or _walk_some(flow, script, max_schedules, random.Random(seed))  # noqa: S311 - a sample


def _walk_all(flow: Flow, script: Script, max_schedules: int) -> Exploration | None:
    """Try all schedules level by level, so that the first one found for an end is a shortest."""
    start = _Walk(flow, script, ())
    level: dict[Fingerprint, tuple[_Walk, int]] = {start.fingerprint(): (start, 1)}
    ends: dict[HowItEnds, End] = {}
    schedules = states = walks = 0
    while level:
        next_level: dict[Fingerprint, tuple[_Walk, int]] = {}
        for walk, count in level.values():
            states += 1
            if not walk.running:
                schedules += count
                ends.setdefault(walk.how_it_ends(), walk.end())
            for step in walk.running:
                walks += 1
                if walks > max_schedules:
                    return None
                reached = _Walk(flow, script, (*walk.schedule, step))
                fingerprint = reached.fingerprint()
                first, others = next_level.get(fingerprint, (reached, 0))
                next_level[fingerprint] = (first, others + count)
        level = next_level
    return Exploration(list(ends.values()), schedules, states, is_complete=True)


def _walk_some(
    flow: Flow, script: Script, max_schedules: int, chance: random.Random
) -> Exploration:
    ends: dict[HowItEnds, End] = {}
    seen: set[Fingerprint] = set()
    for _ in range(max_schedules):
        walk = _Walk(flow, script, ())
        while walk.running:
            walk.finish(chance.choice(sorted(walk.running)))
            seen.add(walk.fingerprint())
        end = walk.end()
        known = ends.setdefault(walk.how_it_ends(), end)
        if len(end.schedule) < len(known.schedule):
            ends[walk.how_it_ends()] = end
    by_length = sorted(ends.values(), key=lambda end: len(end.schedule))
    return Exploration(by_length, max_schedules, len(seen), is_complete=False)


class _StoppedClock(SimulatedClock):
    """A clock on which no timer is due: the schedule decides when a wait for a time ends."""

    def __init__(self) -> None:
        super().__init__()
        self._ticks = itertools.count(0, -1)

    def monotonic(self) -> float:
        """Return less each time, so that no timer is due, not even one of no seconds."""
        return float(next(self._ticks))

    def advance_to(self, time: datetime) -> None:
        """Let the time of the wall clock pass, for steps whose pool has a rate."""
        self.advance(max(0.0, (time - self.now()).total_seconds()))


class _Walk(Workers):
    """One Vect whose steps end when `finish` is called."""

    has_loop = True

    def __init__(self, flow: Flow, script: Script, schedule: tuple[str, ...]) -> None:
        self.running: dict[str, Callable[[], None]] = {}
        self.schedule: tuple[str, ...] = ()
        self._script = script
        self._clock = _StoppedClock()
        self._scheduler = Scheduler(MemoryEventLog(), self._clock, self, tell=tell_nobody)
        self._turns = self._scheduler.queue
        self._run = Run(flow, "explored")
        self._scheduler.begin(self._run)
        self._go_on()
        for step in schedule:
            self.finish(step)

    def submit(self, job: Job, done: Done) -> None:
        """Store the work until `finish` is called for it."""
        assert isinstance(job, Work)
        if job.method == "check":  # `finish` has it asked
            done(Outcome(True), None)
            return
        outcome = self._script.outcome(scripted(job), job.context.attempt)
        self.running[scripted(job)] = partial(done, outcome, None)

    def finish(self, step: str) -> None:
        """End a running step with its outcome in the script."""
        self.schedule += (step,)
        self.running.pop(step)()
        self._go_on()
        now = self._run.state.steps.get(step)
        if now is None:  # it undoes something
            return
        if now.state == "running" and self._run.execution(now).is_polled:
            self._scheduler.put(Poll((self._run.id, step, now.attempt)))  # it says yes at once
            self._go_on()

    def _go_on(self) -> None:
        """Drive until nothing more happens, and note which steps wait for a time or a person."""
        self._scheduler.catch_up()
        while self._turns.wakes and not self._run.is_told:  # to the next start that is allowed
            self._clock.advance_to(min(self._turns.wakes.values()))
            self._scheduler.put(Recheck())
            self._scheduler.catch_up()
        for step in self._run.state.steps.values():
            ended_by = kind_of(step.kind).ended_by
            is_held = step.state == "running" and ended_by in ("time", "person")
            if step.name in self.running or not (is_held or step.state == "up_for_retry"):
                continue
            key = (self._run.id, step.name, step.attempt)
            what: Command = Release(*key)
            if is_held and ended_by == "person":
                _, what = self._script.decision(*key)
            self.running[step.name] = partial(self._scheduler.put, what)
        for name in self._run.state.to_compensate[-1:]:
            one = self._run.state.steps[name].compensation
            if one is not None and one.state == "waiting":
                again = Release(self._run.id, name, -one.attempt)
                self.running[f"{name}{UNDO}"] = partial(self._scheduler.put, again)

    def fingerprint(self) -> Fingerprint:
        """Return everything that decides how the Vect can go on: its state, and the lines.

        The output and the error of a step follow from its attempt; times do not matter, since no
        time passes.
        """
        state = self._run.state
        steps = sorted(map(_standing, state.steps.values()))
        # What is undone first follows from the order of the ends.
        return (state.state, *steps, tuple(state.ended), self._turns.facts())

    def how_it_ends(self) -> HowItEnds:
        """Return the states of the Vect and of its steps: two ends are equal if these are."""
        state = self._run.state
        return (state.state, *(f"{step.name}: {step.state}" for step in state.steps.values()))

    def end(self) -> End:
        """Return the end of the Vect."""
        state = self._run.state
        steps = {step.name: step.state for step in state.steps.values()}
        return End(state.state, steps, self.schedule)


def _standing(step: StepState) -> Fingerprint:
    """Return the facts of a step that decide how its Vect can go on."""
    told = step.mapped and (len(step.mapped.items), step.mapped.problem is None)
    is_shunned = step.shunned_by is not None
    one = step.compensation
    undone = () if one is None else (one.state, one.attempt, one.failures)
    marks = (is_shunned, step.is_cut, undone)
    return (step.name, step.state, step.attempt, step.failures, *marks, told or ())
