"""The explanation of a step: one sentence that says why it is, or is not, running. Pure.

It is made from the state, which is in the log, and from a few facts that only the scheduler knows.
Each state of a step has a function in `_BY_STATE`. For running steps, each kind that has more than
a worker at work has a function in `_BY_KIND`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, NamedTuple

from oautom.machine.kinds import GIVEN, kind_of
from oautom.machine.rules import ALL_SUCCESS
from oautom.machine.state import Group, StepState
from oautom.machine.tables import STEP_ENDS, TEARDOWN, VECT_ENDS
from oautom.machine.wording import ERROR_MAX, in_line, listed, quoted, seconds_of

LENGTH_MAX: Final = 1500
"""The largest number of characters of an explanation."""

_NOTHING_TAKEN: Final[Mapping[Group, int]] = MappingProxyType({})


class Facts(NamedTuple):
    """The facts that are not in the log; by default, nothing is in the way.

    Attributes:
        failure: Why the engine has stopped for good, if it has.
        halted: Why all work was ended for the next run of the program, if it was.
        draining: Why no step starts any more while running steps may end, if that is so.
        held_up: Why the Vect, which is open in the log, does not go on, if it does not.
        is_inherited: Whether an earlier program has left the Vect, and it is not taken over yet.
        has_no_engine: Whether no program is at work on the log.
        is_undriven: Whether nothing moves until a thread waits for a Vect.
        workers: How many workers there are, if all of them are taken; else 0.
        trouble: Why the workers take no work for now; empty if they do.
        taken: How many slots of each pool are taken, by its name, and how many async steps of a
            flow run.
        claim: The step that takes several slots of the pool, and goes before this one; or empty.
        starts: How many starts count for the rate of the pool of the step.
        next_start: When the next one is allowed; None if one is allowed at once.
        ahead: How many others wait for a worker, and are served before the step.
        higher: How many of these are of a higher priority.
        poll_interval: Seconds between two calls of its `check`, if the step is polled; else 0.
        turn: The place of the Vect in the line of its flow, in words; empty if it is in none.
        child: The state of the Vect that the step runs, if it runs one; `waiting` before it begins,
            `stranded` if it does not go on.
        child_turn: As `turn`, for that Vect.
        awaited: The Vects for which the code of the step waits, by their ids.
        is_returning: Whether the code of the step has waited for a Vect, and needs a worker to go
            on.
        at_work: The names of the step and of its upstreams whose earlier attempt was asked to stop,
            and has not ended yet.
    """

    failure: str = ""
    halted: str = ""
    draining: str = ""
    held_up: str = ""
    is_inherited: bool = False
    has_no_engine: bool = False
    is_undriven: bool = False
    workers: int = 0
    trouble: str = ""
    taken: Mapping[Group, int] = _NOTHING_TAKEN
    claim: str = ""
    starts: int = 0
    next_start: datetime | None = None
    ahead: int = 0
    higher: int = 0
    poll_interval: float = 0.0
    turn: str = ""
    child: str = ""
    child_turn: str = ""
    awaited: Sequence[str] = ()
    is_returning: bool = False
    at_work: frozenset[str] = frozenset()


NO_FACTS: Final = Facts()


def explain(step: StepState, now: datetime, facts: Facts = NO_FACTS) -> str:
    """Return why a step is, or is not, running.

    Args:
        step: The step, in the state that is to be explained.
        now: The present time, aware; times of other days are written with their date.
        facts: The facts that are not in the log.

    Returns:
        One sentence without a full stop or a line break, of at most `LENGTH_MAX` characters. It
        begins with the name of the step, in backticks.
    """
    view = _View(step, now, facts)
    label = "" if step.label is None else f" ({in_line(step.label)})"
    told = f"{quoted(step.name)}{label} {_BY_STATE[step.state](view)}{_lateness(view)}"
    if facts.is_undriven and step.state not in STEP_ENDS and not view.stall:
        told += "; nothing drives the engine until somebody calls wait()"
    return told


class _View(NamedTuple):
    """A step, and all facts that are known about it."""

    step: StepState
    now: datetime
    facts: Facts

    @property
    def stall(self) -> str:
        """The reason why the whole Vect does not go on; empty if it does."""
        facts = self.facts
        if facts.failure:
            return f"the engine has stopped: {in_line(facts.failure)}"
        if facts.halted:
            reason = in_line(facts.halted)
            return f"the engine was stopped ({reason}), and its vect goes on in the next program"
        if facts.held_up:
            return f"its vect does not go on: {in_line(facts.held_up)}"
        if facts.has_no_engine:
            return "no engine is at work on its log, and it goes on when its program runs again"
        if facts.is_inherited:
            return "its program has ended, and its vect is not taken over yet"
        return ""

    @property
    def hindrance(self) -> str:
        """The reason why no step of the Vect starts; empty if there is none."""
        if self.stall or not self.facts.draining:
            is_held = self.step.vect.state == "paused" and not self.step.is_teardown
            return self.stall or ("its vect is paused" if is_held else "")
        return f"the engine is being stopped ({in_line(self.facts.draining)}), and starts nothing"

    @property
    def transit(self) -> str:
        """The fate of a pending step while its Vect does not run, or is just being ended."""
        vect = self.step.vect
        if vect.state == "pending":
            if self.facts.turn:
                turn = in_line(self.facts.turn, ERROR_MAX)
                return f"waits for the turn of its vect, which is {turn}"
            return "waits for the start of its vect"
        if vect.state in VECT_ENDS:  # its steps are reset one by one, then it is reopened
            return "is about to go on with its vect"
        is_left = bool(self.step.tally.get("cancelled")) and not self.step.is_teardown
        return "is about to be cancelled" if is_left else ""

    @property
    def full_pool(self) -> str:
        """A clause for a step whose pool has too few free slots; empty if it has enough."""
        name, there = self.step.options.get("pool", ("", None))
        takes, taken = self.step.options.get("pool_slots", 1), self.facts.taken.get(name, 0)
        if there is None or taken + takes <= there:
            return ""
        if takes > 1:
            are = "is" if taken == 1 else "are"
            return (
                f"it takes {takes} of the {there} of pool {quoted(name)}, and {taken} {are} taken"
            )
        if there == 1:
            return f"the only slot of pool {quoted(name)} is taken"
        return f"the {there} slots of pool {quoted(name)} are taken"

    @property
    def used_up(self) -> str:
        """The rate of the pool of the step, in words."""
        most, seconds = self.step.options["rate"]
        pool = quoted(self.step.options["pool"][0])
        return f"pool {pool}: {self.facts.starts} of {most} starts in {seconds:g} s"

    @property
    def full_flow(self) -> str:
        """A clause for an async step whose flow runs as many async steps as it may; or empty."""
        most = self.step.options.get("async")
        if most is None or self.facts.taken.get(("async", self.step.vect.flow), 0) < most:
            return ""
        what = "only one async step" if most == 1 else f"only {most} async steps"
        return f"{what} of flow {quoted(self.step.vect.flow)} may run at once"

    def of(self, name: str) -> _View:
        """Return another step of the same Vect, without the facts about this step only."""
        facts = self.facts._replace(
            claim="", next_start=None, ahead=0, higher=0, poll_interval=0.0, child="", child_turn=""
        )
        facts = facts._replace(awaited=(), is_returning=False)
        return _View(self.step.vect.steps[name], self.now, facts)

    def open_upstreams(self) -> list[str]:
        """Return the names of the upstreams, or of its map, that have not ended."""
        vect, parent = self.step.vect, self.step.parent
        ups = vect.graph.upstreams[self.step.name] if parent is None else [parent.name]
        return [name for name in ups if vect.steps[name].state not in STEP_ENDS]

    def upstreams_at_work(self) -> list[str]:
        """Return the names of the upstreams that are over, but still at work."""
        names = self.step.vect.graph.upstreams[self.step.declared]
        return [quoted(name) for name in names if name in self.facts.at_work]

    def at(self, time: datetime | None) -> str:
        """Return a time as people read it; with its date if that is not today's."""
        if time is None:
            return "an unknown time"
        day = self.now.astimezone(UTC).date()
        then = time.astimezone(UTC).replace(tzinfo=None)
        text = then.isoformat(" ", "seconds")
        return text if then.date() != day else text.partition(" ")[2]

    def attempt(self, number: int, uncounted: int) -> str:
        """Return the number of an attempt, and how many there may be.

        Args:
            number: The number.
            uncounted: How many attempts before it did not fail: a crash, or a retry of the Vect,
                has ended them, and they do not count for the policy.
        """
        allowed = self.step.options.get("max_attempts")
        return f"attempt {number}" + (f" of {allowed + uncounted}" if allowed else "")

    @property
    def is_at_work(self) -> bool:
        """Whether an earlier attempt has not ended yet."""
        return self.step.name in self.facts.at_work

    @property
    def this_attempt(self) -> str:
        """The newest attempt of a step that runs or has ended, in words."""
        step = self.step
        return self.attempt(step.attempt, max(0, step.attempt - 1 - step.failures))

    @property
    def failed_attempt(self) -> str:
        """The newest attempt of a step that is tried again, in words."""
        step = self.step
        return self.attempt(step.attempt, max(0, step.attempt - step.failures))


# Pending


def _pending(view: _View) -> str:
    past = _past(view)
    if view.transit:
        return f"{past}{view.transit}{_behind(view.hindrance)}"
    match view.step.verdict:
        case None:
            return f"{past}waits for {_upstreams(view)}{_behind(view.hindrance)}"
        case "start":
            return past + _due(view)
        case ended:
            branch = view.step.shunned_by
            why = f"its trigger rule '{view.step.rule}'" if view.step.parent is None else "its map"
            if branch is not None:
                why = f"branch {quoted(branch)}, which has not chosen it"
            how = "blocked" if ended == "block" else "skipped"
            reason = f", but {view.hindrance}" if view.hindrance else ""
            return f"{past}is about to be {how} by {why}{reason}"


def _past(view: _View) -> str:
    """Return the past of a step that has not started, such as a retry; empty if it has none."""
    step = view.step
    if not step.attempt:
        return ""
    if step.start_date is None:
        return "was reset by a retry of its vect, and "
    if step.until is not None:
        return f"failed {view.failed_attempt}, and "
    if step.losses is not None and step.losses.newest == step.attempt:
        reason = in_line(step.losses.reason, ERROR_MAX)
        return f"lost its work in attempt {step.attempt} ({reason}), and "
    return f"was cut short in attempt {step.attempt} by the end of its program, and "


def _due(view: _View) -> str:
    """Return why a step does not start whose trigger rule is met."""
    if view.hindrance:
        return f"is due to start, but {view.hindrance}"
    if view.is_at_work:
        return _lingering(view)
    if view.step.rule == TEARDOWN and (ups := view.upstreams_at_work()):
        verb = "is" if len(ups) == 1 else "are"
        return f"waits for the end of {listed(ups, ' and ')}, which {verb} at work still"
    return _turn(view)


def _turn(view: _View) -> str:
    """Return what comes before the turn of a step that is due to start."""
    facts = view.facts
    if not kind_of(view.step.kind).is_tried_again:
        return "is about to start"
    parent = view.step.parent
    if parent is not None and parent.mapped is not None and not parent.mapped.has_room:
        active = parent.mapped.active
        verb = "runs" if active == 1 else "run"
        return f"waits, since {active} of its map {verb} already, which is its limit"
    if waits := _by_pool(view):
        return waits
    if view.full_flow:
        return f"waits, since {view.full_flow}"
    if facts.trouble and view.step.begins_with_worker:
        return f"waits for the workers: {in_line(facts.trouble)}"
    if not facts.workers or not view.step.begins_with_worker:
        return "is about to start"
    who = "the only worker is" if facts.workers == 1 else f"all {facts.workers} workers are"
    others = ""
    if facts.ahead:
        others = f", and {facts.ahead} more " + ("waits" if facts.ahead == 1 else "wait")
        others += " before it"
    if facts.higher:
        others += f", {facts.higher} of a higher priority"
    return f"waits for a worker: {who} taken{others}"


def _by_pool(view: _View) -> str:
    """Return what a step waits for because of its pool; empty if it may start for all of that."""
    if view.full_pool:
        what = "slots" if view.step.options.get("pool_slots", 1) > 1 else "a slot"
        return f"waits for {what}: {view.full_pool}"
    if view.facts.next_start is not None:
        return f"waits for {view.used_up}; next at {view.at(view.facts.next_start)}"
    if view.facts.claim:
        return f"waits for a slot behind {view.facts.claim}, which takes several"
    return ""


def _lingering(view: _View) -> str:
    return f"waits for the end of its attempt {view.step.attempt}, which is at work still"


def _upstreams(view: _View) -> str:
    """Return the upstreams that a step waits for, and the state of each."""
    clauses = [
        f"{quoted(name)}, which {_meanwhile(view.of(name))}" for name in view.open_upstreams()
    ]
    told = listed(clauses, ", and for ")
    rule = view.step.rule
    return told if rule == ALL_SUCCESS else f"{told}, by its trigger rule '{rule}'"


def _meanwhile(view: _View) -> str:
    """Return the state of a step for which another step waits, in words."""
    step = view.step
    if step.state == "running":
        if step.kind in _BY_KIND:
            return _BY_KIND[step.kind](view)
        verb = "started" if view.stall else "has been running since"
        return f"{verb} {'at ' if view.stall else ''}{view.at(step.start_date)}"
    if step.state == "up_for_retry":
        return f"failed {view.failed_attempt} and {_again(view)}"
    if view.transit:
        return view.transit
    if view.step.verdict is None:
        names = [quoted(name) for name in view.open_upstreams()]
        return f"itself waits for {listed(names, ' and ', 1)}"
    if view.step.verdict != "start" or view.hindrance:
        return "has not started yet"
    return _lingering(view) if view.is_at_work else _about_to_start(view)


def _about_to_start(view: _View) -> str:
    """Return the obstacle of a step that is due to start, and for which another step waits."""
    step = view.step
    takes_slots = kind_of(step.kind).is_tried_again
    if takes_slots and view.full_pool:
        name, there = step.options["pool"]
        takes = step.options.get("pool_slots", 1)
        slots = "the only slot" if there == 1 else f"the {there} slots"
        return f"waits for {slots if takes == 1 else f'{takes} slots'} of pool {quoted(name)}"
    if takes_slots and view.full_flow:
        return "waits for other async steps of its flow"
    if step.begins_with_worker and view.facts.trouble:
        return "waits for the workers"
    if step.begins_with_worker and view.facts.workers:
        return "waits for a worker"
    return "is about to start"


# Running, or about to run again


def _running(view: _View) -> str:
    step = view.step
    if step.kind in _BY_KIND:
        return _BY_KIND[step.kind](view) + _behind(view.stall)
    since = view.at(step.start_date)
    if view.stall:
        return f"started {view.this_attempt} at {since}, but {view.stall}"
    told = f"has been running since {since} ({view.this_attempt})"
    timeout = view.step.options.get("timeout")
    if timeout is not None and step.start_date is not None:
        end = step.start_date + timedelta(seconds=timeout)
        is_over = end <= view.now
        told += f" and {'had' if is_over else 'has'} until {view.at(end)}"
    if view.facts.awaited:
        vects = listed([f"vect {quoted(vect)}" for vect in view.facts.awaited], " and ")
        told += f"; it waits for {vects}"
    elif view.facts.is_returning:
        told += "; it has waited for a vect, and waits for a worker to go on"
    if step.losses is not None:
        lost = step.losses.attempts
        times = "once" if lost == 1 else f"{lost} times"
        told += f"; its work was lost {times} before ({in_line(step.losses.reason, ERROR_MAX)})"
    if view.facts.poll_interval:
        every = seconds_of(view.facts.poll_interval)
        told += f"; once its run() has returned, its check() is asked every {every}"
    return told


def _wait(view: _View) -> str:
    return f"waits until {view.at(view.step.until)}{_if_over(view)}"


def _approval(view: _View) -> str:
    prompt = view.step.prompt
    told = "waits for an approval" + (f" ('{in_line(prompt)}')" if prompt else "")
    if view.step.until is not None:
        told += f" until {view.at(view.step.until)}{_if_over(view)}"
    return told


def _file(view: _View) -> str:
    told = f"waits for file `{in_line(str(view.step.options.get('path', '')))}`"
    timeout, began = view.step.options.get("timeout"), view.step.start_date
    if timeout is not None and began is not None:
        told += f" until {view.at(began + timedelta(seconds=timeout))}"
    return told


def _up_for_retry(view: _View) -> str:
    error = in_line(view.step.error or "it is not known why")
    return f"failed {view.failed_attempt} ({error}) and {_again(view)}{_behind(view.hindrance)}"


def _again(view: _View) -> str:
    return f"runs again at {view.at(view.step.until)}{_if_over(view)}"


def _if_over(view: _View) -> str:
    until = view.step.until
    return ", which is past" if until is not None and until <= view.now else ""


# Ended


def _success(view: _View) -> str:
    step = view.step
    took = ""
    if step.start_date is not None and step.end_date is not None:
        seconds = max(0.0, (step.end_date - step.start_date).total_seconds())
        took = f" after {seconds_of(seconds)}"
    if step.kind == GIVEN:
        source = step.options.get("source")
        return "was given " + (
            f"the output that it had in vect {quoted(source)}" if source else "its output"
        )
    which = f" ({view.this_attempt})" if kind_of(step.kind).is_tried_again else ""
    return f"succeeded at {view.at(step.end_date)}{took}{which}{_undone(view)}"


def _failed(view: _View) -> str:
    step = view.step
    which = f" in {view.this_attempt}" if kind_of(step.kind).is_tried_again else ""
    error = in_line(step.error or "it is not known why")
    return f"failed at {view.at(step.end_date)}{which}: {error}{_undone(view)}"


def _skipped(view: _View) -> str:
    """Return why a step was skipped; the reasons of rules and branches are whole by themselves.

    A rule that has once let a step start never skips it later, but a branch may, after a crash.
    """
    step = view.step
    is_own = step.start_date is not None and step.shunned_by is None
    verb = "skipped itself" if is_own else "was skipped"
    reason = f": {in_line(step.error)}" if step.error else ""
    return f"{verb} at {view.at(step.end_date)}{reason}"


def _upstream_failed(view: _View) -> str:
    step = view.step
    error = in_line(step.error or "an upstream failed")
    return f"was blocked at {view.at(step.end_date)} and did not run: {error}"


def _cancelled(view: _View) -> str:
    step = view.step
    when = "before it started" if step.start_date is None else f"after attempt {step.attempt} began"
    reason = f": {in_line(step.error)}" if step.error else ""
    return f"was cancelled at {view.at(step.end_date)}, {when}{reason}{_undone(view)}"


def _undone(view: _View) -> str:
    """Return the progress of the compensation of a step that is over."""
    step, one = view.step, view.step.compensation
    if one is None or one.state == "due":
        is_next = step.name in step.vect.to_compensate
        return "; what it has done is to be undone" + _behind(view.stall) if is_next else ""
    match one.state:
        case "done":
            return "; what it had done was undone"
        case "failed":
            return f"; what it has done could not be undone: {in_line(one.error or '')}"
        case "waiting":
            told = f"; undoing it failed ({in_line(one.error or '')}), and is tried again at "
            told += view.at(one.until)
        case _:
            told = "; what it has done is being undone"
    return told + _behind(view.stall)


# Deadlines


def _lateness(view: _View) -> str:
    """Return the deadlines, if any, of a step that has not ended, and of its Vect."""
    step, deadlines = view.step, view.step.vect.deadlines
    if deadlines is None or step.state in STEP_ENDS:
        return ""
    told = ""
    own, of_vect = ("late", step.name), ("late", None)
    if own in deadlines.told and step.start_date is not None:
        told = f"; it is late, its deadline was {view.at(deadlines.told[own])}"
    elif (until := deadlines.until.get(own)) is not None:
        told = f"; its deadline {'was' if until <= view.now else 'is'} {view.at(until)}"
    if of_vect in deadlines.told:
        told += f"; its vect is late, whose deadline was {view.at(deadlines.told[of_vect])}"
    return told


# Words


def _behind(clause: str) -> str:
    return f"; {clause}" if clause else ""


def _map(view: _View) -> str:
    mapped = view.step.mapped
    ended, of = (0, 0) if mapped is None else (mapped.ended, len(mapped.instances))
    since = view.at(view.step.start_date)
    told = f"has been running since {since}, and {ended} of its {of} items have ended"
    return told + _behind("" if mapped is None else mapped.unlabelled or "")


def _child(view: _View) -> str:
    step, state = view.step, view.facts.child
    told = f"has been running since {view.at(step.start_date)} ({view.this_attempt})"
    told += f", and waits for vect {quoted(step.child or '')}"
    told += f" of flow {quoted(str(step.options['runs']))}"
    if (step.name, step.attempt) in step.vect.children:
        told += ", in which it goes on"
    if state == "waiting":
        return f"{told}, which is about to begin"
    if view.facts.child_turn:
        return f"{told}, which is {in_line(view.facts.child_turn, ERROR_MAX)}"
    if state in VECT_ENDS:
        return f"{told}, which has ended"
    return told + (f", which is {state}" if state else "")


_BY_STATE: Final[Mapping[str, Callable[[_View], str]]] = {
    "pending": _pending,
    "running": _running,
    "up_for_retry": _up_for_retry,
    "success": _success,
    "failed": _failed,
    "skipped": _skipped,
    "upstream_failed": _upstream_failed,
    "cancelled": _cancelled,
}

_BY_KIND: Final[Mapping[str, Callable[[_View], str]]] = {
    "wait": _wait,
    "approval": _approval,
    "file": _file,
    "map": _map,
    "flow": _child,
}
