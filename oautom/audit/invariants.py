"""The invariants of a history: a second opinion on what the engine has decided. Pure.

It reads the events and the graph in them, and knows the tables of the state machines. It does not
use the fold and the decisions of the engine, so it does not repeat their mistakes.

Each invariant is a method of `_Claims`: a claim about an event, given those before it, whose first
line of docstring is its sentence; docs/invariants.md has the reasons. Their order goes from single
events to the whole: if several are violated, the first explains the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple

from oautom.audit.history import BAD, NO_STEP, OPEN, Declared, Past, VectPast
from oautom.audit.payloads import CHANGES_OPTIONS, are_settings, data_fit, options_fit
from oautom.errors import InvariantError, SettingError, shown
from oautom.machine.event import Event, is_loss, is_of_plan, planned_time, stamp
from oautom.machine.graph import Graph
from oautom.machine.kinds import GIVEN, kind_of
from oautom.machine.state import child_id
from oautom.machine.tables import (
    COMPENSATION_EVENTS,
    EVENT_NAMES,
    INITIAL,
    LOST_WORKERS_MAX,
    PLAN_CREATED,
    PLAN_EVENTS,
    PLAN_MOVES,
    STEP_MOVES,
    TEARDOWN,
    VECT_CREATED,
    VECT_ENDS,
    VECT_MOVES,
)
from oautom.values.names import check_max_workers


def check_history(
    events: Iterable[Event],
    flow: Declared | None = None,
    *,
    max_workers: int | None = None,
    gaps: Iterable[tuple[int, int]] = (),
) -> None:
    """Check a history against all invariants.

    Args:
        events: A whole log, or its beginning.
        flow: The flow that Vects of its name must fit; None for no such check.
        max_workers: How many steps could run at once; None if that is not known.
        gaps: First and last numbers of pruned events: `log.gaps()`.

    Raises:
        InvariantError: An invariant is violated: the first of the table, at the first such event.
        SettingError: An argument cannot be used.
    """
    for violation in violations(events, flow, max_workers=max_workers, gaps=gaps):
        raise violation


def violations(
    events: Iterable[Event],
    flow: Declared | None = None,
    *,
    max_workers: int | None = None,
    gaps: Iterable[tuple[int, int]] = (),
) -> Iterator[InvariantError]:
    """Return all violations, in the order of the table, then of the events.

    The arguments, and the error for a wrong one, are those of `check_history`.
    """
    if flow is not None and not hasattr(flow, "graph"):
        raise SettingError(f"flow must be a Flow or None, not {shown(flow)}")
    check_max_workers(max_workers)
    claims = _Claims(flow, max_workers, frozenset(gaps))
    doubts = _Doubts()
    found: dict[str, list[InvariantError]] = {name: [] for name in INVARIANTS}
    for event in events:
        claims.look_up(event)
        for error in doubts.hear(claims.vect, event) if not claims.wrong else ():
            found[error.invariant].append(error)
        is_understood = True
        for each in INVARIANTS.values():
            is_asked = is_understood and (not each.about or event.name in each.about)
            if is_asked and (holds := each.holds(claims, event)) is not True:
                error = _error(each, event, claims)
                if isinstance(holds, Unless):
                    doubts.add(holds, error)
                    continue
                found[each.name].append(error)
                is_understood = not each.is_gate
        claims.take(event, is_understood=is_understood)
    return iter([error for each in found.values() for error in sorted(each, key=_seq_of)])


class Unless(NamedTuple):
    """An answer to a claim about slots: true unless some Vects still have too many of them.

    A stranded Vect has slots according to the log, but has given them back. The log does not record
    that; but then it has nothing more of the Vect, except its cancel or its recovery.

    A program that drains begins nothing more. Nor does the log tell of that: but then it tells of
    no start before the program is run again.

    Attributes:
        had: How many slots each Vect has.
        most: The number of slots up to which the claim holds.
        may_drain: Whether it also holds if nothing begins before the program has ended.
    """

    had: Mapping[VectPast, int]
    most: int
    may_drain: bool = False


class _Doubt:
    """A violation that counts only if some Vects have further events before their recovery."""

    def __init__(self, unless: Unless, error: InvariantError) -> None:
        self.had = unless.had
        self.left = unless.most  # of what may be had
        self.error = error


class _Doubts:
    """The doubtful violations, by the Vects on which they depend."""

    def __init__(self) -> None:
        self._doubts: defaultdict[VectPast, list[_Doubt]] = defaultdict(list)
        self._if_begun: list[_Doubt] = []  # doubts if something begins in this life of a program
        self._open: set[str] = set()  # Vects

    def add(self, unless: Unless, error: InvariantError) -> None:
        doubt = _Doubt(unless, error)
        if unless.may_drain:
            self._if_begun.append(doubt)
        else:
            self._add(doubt)

    def _add(self, doubt: _Doubt) -> None:
        for vect in doubt.had:
            self._doubts[vect].append(doubt)

    def _hear_of_life(self, event: Event) -> list[InvariantError]:
        """Return what violates an invariant, now that something begins."""
        if event.name not in _BEGINS and event.name != "vect.recovered":
            return []
        doubts, self._if_begun = self._if_begun, []
        if event.name == "vect.recovered":
            return []
        for doubt in doubts:
            self._add(doubt)
        return [doubt.error for doubt in doubts if doubt.left < 0]

    def _hear_of_vect(self, event: Event) -> None:
        """Drop the doubts of this life where it may be over: with nothing open, none recovers."""
        if event.dest in VECT_ENDS:
            self._open.discard(event.vect)
            if not self._open:
                self._if_begun = []
        elif not is_of_plan(event):
            self._open.add(event.vect)

    def hear(self, vect: VectPast, event: Event) -> list[InvariantError]:
        """Return the violations that this event of a Vect proves."""
        found = self._hear_of_life(event) if self._if_begun else []
        if event.step is None:
            self._hear_of_vect(event)
        if vect not in self._doubts:
            return found
        doubts = self._doubts.pop(vect)
        if event.name in _OF_THE_STRANDED:
            return found
        for doubt in doubts:
            is_known = doubt.left < 0
            doubt.left -= doubt.had[vect]
            if doubt.left < 0 and not is_known:
                found.append(doubt.error)
        return found


def _seq_of(error: InvariantError) -> int:
    return error.seq


def _error(invariant: Invariant, event: Event, past: Past) -> InvariantError:
    if past.wrong:
        what = f"its {past.wrong}"
        return InvariantError(past.last_seq + 1, what, invariant.name, invariant.sentence)
    of_step = "" if event.step is None else f" of step '{event.step}'"
    what = f"{event.name}{of_step} in vect '{event.vect}'"
    error = InvariantError(event.seq, what, invariant.name, invariant.sentence)
    error.flow, error.step = event.flow, event.step
    return error


class Invariant(NamedTuple):
    """A claim about the events of these names, or of any name if there are none."""

    name: str
    sentence: str
    holds: Callable[[Any, Event], bool | Unless]
    about: tuple[str, ...]
    is_gate: bool  # where it is violated, nobody knows what the event is about: no other is asked


INVARIANTS: Final[dict[str, Invariant]] = {}  # by name, in order
_VECT_ENDS: Final = ("vect.succeeded", "vect.failed", "vect.cancelled")
_STEP_ENDS: Final = ("step.succeeded", "step.failed", "step.cancelled")
_CONSEQUENCES: Final = (
    *("step.blocked", "step.skipped", "step.cancelled", "step.interrupted", "step.reset"),
    *("vect.reopened", *_VECT_ENDS),
)
_BEGINS: Final = ("step.started", "step.compensating")
_WINDS_UP: Final = ("step.cancelled", "step.skipped", "vect.ending", "vect.failed")
_MOVES: Final = STEP_MOVES | VECT_MOVES | PLAN_MOVES | {(VECT_CREATED, None, INITIAL)}
_PLANNED: Final = (VECT_CREATED, *PLAN_EVENTS)
_OF_THE_STRANDED: Final = ("step.cancelled", "vect.cancelled", "vect.recovered")
"""The events of a Vect that has not gone on: a cancel, or the recovery by the next program."""

_Claim = Callable[[Any, Event], "bool | Unless"]


def _invariant(*about: str, is_gate: bool = False) -> Callable[..., Any]:
    def register(claim: _Claim) -> _Claim:
        name, doc = claim.__name__.replace("_", "-"), claim.__doc__ or ""
        INVARIANTS[name] = Invariant(name, doc.splitlines()[0], claim, about, is_gate)
        return claim

    return register


class _Claims(Past):
    """The invariants: claims about the next event, given the past."""

    @_invariant(is_gate=True)
    def fields_are_typed(self, event: Event) -> bool:
        """Every field of an event is of its type."""
        return not self.wrong

    @_invariant()
    def seq_is_dense(self, event: Event) -> bool:
        """Events are numbered 1, 2, 3, ... in the order in which they stand."""
        is_next = event.seq == self.last_seq + 1
        return is_next or (self.last_seq + 1, event.seq - 1) in self.gaps

    @_invariant()
    def time_is_utc(self, event: Event) -> bool:
        """The time of an event is aware, and in UTC."""
        return event.time.utcoffset() == timedelta(0)

    @_invariant(VECT_CREATED, is_gate=True)
    def graph_is_whole(self, event: Event) -> bool:
        """The graph of a Vect names no step that it does not have, and has no cycle."""
        graph = event.data.get("graph")
        return (
            isinstance(graph, Mapping)
            and all(isinstance(ups, list | tuple) for ups in graph.values())
            and all(isinstance(name, str) for ups in (graph, *graph.values()) for name in ups)
            and all(name in graph for ups in graph.values() for name in ups)
            and Graph(graph).find_cycle() is None
        )

    @_invariant(VECT_CREATED, *CHANGES_OPTIONS, is_gate=True)
    def options_are_known(self, event: Event) -> bool:
        """The options of a Vect name steps that it has, and have known names and values.

        So do the settings of the Vect itself; of a part of its flow, `until` names its last steps.
        If one step runs alone, as `only` says, all others are given, and only it waits for them.
        """
        data, is_first = event.data, event.name == VECT_CREATED
        options, settings = data.get("options", {}), data.get("settings", {})
        fits = options_fit(options, data["graph"] if is_first else self.vect.steps)
        fits = fits and are_settings(settings)
        return fits and (not is_first or _is_part(data["graph"], options, settings))

    @_invariant(is_gate=True)
    def vect_is_created_first(self, event: Event) -> bool:
        """The first event of a Vect is vect.created, and no later one is."""
        return is_of_plan(event) or (event.name == VECT_CREATED) != (event.vect in self.vects)

    @_invariant(VECT_CREATED)
    def graph_is_of_the_flow(self, event: Event) -> bool:
        """The graph of a Vect is that of the flow given, or of the part that it says."""
        if (flow := self.flow_of(event)) is None:
            return True
        settings, graph = event.data.get("settings", {}), event.data["graph"]
        until, only = settings.get("until"), settings.get("only")
        others = [name for name in graph if name != only]
        part = flow.part(until) if only is None else flow.alone(only, others)
        graphs = event.data["graph"], part.upstreams
        then, now = ({name: set(ups) for name, ups in graph.items()} for graph in graphs)
        return then == now

    @_invariant(VECT_CREATED)
    def params_are_of_the_flow(self, event: Event) -> bool:
        """The parameters of a Vect are those that the flow given declares, and of their types."""
        if (flow := self.flow_of(event)) is None:
            return True
        params = event.data.get("params")
        return not isinstance(params, Mapping) or not flow.params.differences(params)

    @_invariant()
    def flow_stays(self, event: Event) -> bool:
        """All events of a Vect name one flow."""
        return event.name in _PLANNED or event.flow == self.vect.flow

    @_invariant(is_gate=True)
    def steps_are_in_the_graph(self, event: Event) -> bool:
        """An event of a step names one of the graph of its Vect, an event of a Vect names none."""
        is_of_step = event.name.startswith("step.")
        return event.step in self.vect.steps if is_of_step else event.step is None

    @_invariant(*EVENT_NAMES)
    def data_fit_the_event(self, event: Event) -> bool:
        """The data of an event have the keys of an event of its name, and no others."""
        return data_fit(event, self.step.kind)

    @_invariant()
    def moves_are_in_the_table(self, event: Event) -> bool:
        """The table of a state machine has the name of an event with its source and its dest."""
        return (event.name, event.source, event.dest) in _MOVES

    @_invariant()
    def moves_are_connected(self, event: Event) -> bool:
        """A move begins in the state in which the one before it has ended."""
        if event.name in _PLANNED or not self.moves_are_in_the_table(event):
            return True
        return event.source == (self.vect.state if event.step is None else self.step.state)

    @_invariant("step.started")
    def starts_after_upstreams(self, event: Event) -> bool:
        """A step starts only when its rule says so, and no branch has chosen otherwise."""
        return self.verdict(self.step) == "start"

    @_invariant(*EVENT_NAMES)
    def attempts_fit(self, event: Event) -> bool:
        """Attempts count from 1; only their start, their end and their late results name them."""
        if event.name == "step.late_result":
            return 1 <= (event.attempt or 0) <= self.step.starts
        if event.name == "step.started":
            return event.attempt == self.step.starts + 1
        if event.name in COMPENSATION_EVENTS:
            return event.attempt == self.step.undoings + (event.name == "step.compensating")
        ran = event.step is not None and event.source == "running"
        return event.attempt == (self.step.starts if ran else None)

    @_invariant("step.retried")
    def retries_are_limited(self, event: Event) -> bool:
        """A step is tried again only as long as it has not failed max_attempts times."""
        return self.step.failures + 1 < self.step.max_attempts

    @_invariant("step.compensating")
    def compensations_are_due(self, event: Event) -> bool:
        """Compensations run when all steps are over, one by one, in reverse order of their ends.

        While their Vect ends badly, and only that of steps which say how.
        """
        steps = self.vect.steps.values()
        is_time = self.vect.state == "ending" and self.vect.open_steps == 0
        later = (each for each in steps if each.ended_at > self.step.ended_at)
        is_next = self.step.undoing in ("", "waiting") and not any(
            each.is_to_be_undone for each in later
        )
        return is_time and is_next and self.step.is_to_be_undone

    @_invariant("step.compensated", "step.compensation_failed", "step.compensation_interrupted")
    def compensations_are_begun(self, event: Event) -> bool:
        """A compensation succeeds, fails or is interrupted only after it has begun."""
        is_known = self.step.not_undone + 1 < self.step.max_attempts or "delay" not in event.data
        if is_loss(event) and "worker" in event.data:
            is_known = self.step.lost_undoing + 1 < LOST_WORKERS_MAX
        return self.step.undoing == "running" and is_known

    @_invariant("vect.failed", "vect.cancelled")
    def bad_ends_are_compensated(self, event: Event) -> bool:
        """A Vect ends as failed or cancelled only after all its compensations are over."""
        return not any(step.is_to_be_undone for step in self.vect.steps.values())

    @_invariant("vect.ending")
    def endings_are_needed(self, event: Event) -> bool:
        """A Vect is ending only where a clean-up runs, may run, or something is to be undone."""
        steps = self.vect.steps.values()
        return any(
            step.is_to_be_undone or (step.is_teardown and step.state in OPEN) for step in steps
        )

    @_invariant("step.late", "vect.late")
    def late_once(self, event: Event) -> bool:
        """A step that has begun, or a Vect, is late once, and only if it has that deadline."""
        past = self.vect if event.step is None else self.step
        has_begun = event.step is None or self.step.starts > 0
        is_first = has_begun and not past.is_late
        return is_first and event.data.get("deadline") == past.deadline

    @_invariant(*_PLANNED)
    def plans_are_created_first(self, event: Event) -> bool:
        """The first event of a plan is plan.created, and no later one is."""
        told = planned_time(event)
        return told is None or (event.name == PLAN_CREATED) != (told[0] in self.plans)

    @_invariant(*_PLANNED)
    def times_of_a_plan_increase(self, event: Event) -> bool:
        """A plan deals with each of its times once, and in their order."""
        told = planned_time(event)
        before = None if told is None else self.plans.get(told[0])
        return told is None or before is None or told[1] > before

    @_invariant(*_PLANNED)
    def planned_vects_tell_their_time(self, event: Event) -> bool:
        """The id of a planned or skipped Vect consists of its plan and time."""
        told = planned_time(event)
        return told is None or event.vect == f"{told[0]}@{stamp(told[1])}"

    @_invariant("step.started")
    def children_go_on(self, event: Event) -> bool:
        """An attempt that runs a Vect begins its own, or goes on in one that failed before a retry.

        Only the first attempt after the retry may, and only in the Vect of the one before it.
        """
        told = event.data.get("child")
        own = child_id(event.vect, event.step or "", event.attempt or 0)
        return told in (None, own) or (told == self.step.left and bool(self.step.left))

    @_invariant(VECT_CREATED, "vect.reopened")
    def children_are_of_a_step(self, event: Event) -> bool:
        """A Vect that names an attempt of a step as its parent is the child of that attempt."""
        told = event.data.get("parent")
        is_known = told is not None and self.data_fit_the_event(event) and not self.gaps
        return not is_known or self.is_child_of(told, event)

    @_invariant("step.started")
    def children_are_wanted(self, event: Event) -> bool:
        """A step of a child starts only while the attempt that runs the child is running.

        A child that was retried by itself has a life of its own.
        """
        parent = self.vect.parent
        if parent is None or self.vect.is_reopened or self.gaps or not self.vect.is_of_parent:
            return True
        if self.step.is_teardown:  # it has been cancelled
            return True
        return self.is_wanted(*parent)

    @_invariant("step.started")
    def children_come_first(self, event: Event) -> bool:
        """An instance of a map begins its child only when no step of an earlier one may start.

        Such a step stands before it in the queue, and lacks only a worker.
        """
        if self.step.kind != "flow" or self.step.parent is None or self.gaps:
            return True
        before = self.step.parent.below.items()
        return not any(
            index < self.step.index and not step.has_no_worker and self.must_start(step)
            for step, index in before
        )

    @_invariant("step.succeeded")
    def children_succeed_first(self, event: Event) -> bool:
        """A step that runs a Vect succeeds only if that Vect has succeeded, if it is in the log."""
        is_child = self.step.kind == "flow" and event.source == "running"
        return not is_child or self.end_of_child(event) in (None, "success")

    @_invariant("step.blocked")
    def blocked_by_an_upstream(self, event: Event) -> bool:
        """A blocked step names an upstream that failed or was blocked, and the first failure."""
        if not self.data_fit_the_event(event):
            return True
        name, error = event.data["upstream"], event.data["error"]
        upstream = self.step.upstreams.get(name, NO_STEP)
        names_it = upstream.state == "failed" and error == f"upstream '{name}' failed"
        # Before 2.0.0 the error itself was told once more.
        return upstream.state in BAD and bool(names_it or error.endswith(upstream.error))

    @_invariant()
    def blocks_at_once(self, event: Event) -> bool:
        """Behind the end of a step come its dependants that are blocked or skipped by that."""
        is_over = self.vect.winds_up and event.name in _WINDS_UP
        return not self.to_end or is_over or self.to_end.get(self.step) == event.name

    @_invariant("step.skipped")
    def skipped_by_its_rule(self, event: Event) -> bool:
        """A step that has not started is skipped only by its trigger rule, or by a branch.

        One that cleans up, as soon as its Vect ends, if there is nothing to clean up.
        """
        is_needless = self.step.is_teardown and not self.step.was_set_up
        return not self.is_by_rule(event) or is_needless or self.verdict(self.step) == "skip"

    @_invariant()
    def vects_end_at_once(self, event: Event) -> bool:
        """Right behind the end of the last step of a Vect stands the end of the Vect."""
        ends = event.name in ("vect.ending", *_VECT_ENDS) and self.vect is self.last_vect
        moves = self.last_vect.state in ("running", "paused")
        is_open = self.last_vect.open_steps > 0 or not moves
        return is_open or self.last.dest == "cancelled" or ends

    @_invariant()
    def cancels_are_whole(self, event: Event) -> bool:
        """The cancelled steps of a Vect stand together, and right behind them its end.

        Or that it is ending; from then on it is clean-up that is cancelled. So it is behind the
        failure that ends all, and behind clean-up that is skipped at once as it is not needed.
        """
        goes_on = event.name in ("step.cancelled", "vect.ending", *_VECT_ENDS)
        if self.last_vect.winds_up:
            is_first = event.name == "step.skipped" or self.step in self.to_close
            return (goes_on or is_first) and self.vect is self.last_vect
        is_ending = self.last_vect.state == "ending"
        is_begun = self.last.name == "step.cancelled" and not is_ending
        return not is_begun or (goes_on and self.vect is self.last_vect)

    @_invariant("step.cancelled", "vect.ending", "vect.failed", "vect.cancelled")
    def cancels_have_one_reason(self, event: Event) -> bool:
        """All events of a cancel have the same reason."""
        is_same = event.data.get("reason") == self.last.data.get("reason")
        is_other = self.vect.state == "ending" or self.vect is not self.last_vect
        return self.last.name != "step.cancelled" or is_same or is_other

    @_invariant(*_CONSEQUENCES)
    def consequences_share_the_time(self, event: Event) -> bool:
        """The immediate consequences of an event have its time."""
        is_first = event.name in ("step.cancelled", "step.reset") and event.name != self.last.name
        is_answer = event.name == "step.skipped" and event.source == "running"
        is_answer = is_answer or is_loss(event)
        # Where all is cancelled, clean-up that is not needed comes first; or nothing is left to.
        is_first = is_first or event.name == "vect.ending" or self.step.is_teardown
        is_first = is_first or (event.name == "vect.reopened" and self.last.name != "step.reset")
        is_cause = is_first or is_answer or self.vect is not self.last_vect
        return is_cause or event.time == self.last.time

    @_invariant("step.started", "step.blocked", "step.skipped")
    def pauses_are_kept(self, event: Event) -> bool:
        """A step starts, or is blocked or skipped by its rule, only while its Vect runs.

        One that cleans up also while it is paused, or ends; and nothing else starts once a step has
        failed, where that ends all.
        """
        return event.source != "pending" or self.may_start(self.step)

    @_invariant()
    def resets_are_whole(self, event: Event) -> bool:
        """Resets stand together, and right behind them their Vect is reopened, with no bad end.

        There are none where nothing has ended badly: all that was left to do was to clean up.
        """
        is_reopened = event.name == "vect.reopened"
        if self.last.name == "step.reset":
            goes_on = (is_reopened or event.name == "step.reset") and self.vect is self.last_vect
        else:
            goes_on = True
        return goes_on and not (is_reopened and self.has_bad)

    @_invariant("step.reset")
    def resets_are_needed(self, event: Event) -> bool:
        """A step is reset only if it, or one that it waits for, has failed or was cancelled.

        Or if what that has done was undone.
        """
        return self.vect.state in ("failed", "cancelled") and self.must_run_again(self.step)

    @_invariant("step.succeeded", "step.failed")
    def maps_end_with_their_items(self, event: Event) -> bool:
        """A map ends when all its instances have ended, as failed if one of them has failed."""
        step = self.step
        if step.kind != "map" or event.source != "running":
            return True
        has_failed = any(each.state == "failed" for each in step.instances)
        is_good = event.name == "step.succeeded"
        return self.map_is_over(step) and not (is_good and has_failed)

    @_invariant("step.succeeded", "step.failed")
    def given_steps_have_their_output(self, event: Event) -> bool:
        """A step that is given succeeds, with the output that `vect.created` has for it."""
        if self.step.kind != GIVEN:
            return True
        return event.name == "step.succeeded" and bool(event.data.get("output") == self.step.given)

    @_invariant("step.succeeded", "step.failed")
    def waits_fail_at_once(self, event: Event) -> bool:
        """A wait fails if its start has a `problem`, with that error, else it succeeds."""
        step = self.step
        is_wait = kind_of(step.kind).ended_by == "time" or step.problem
        if not is_wait or event.source != "running" or step.kind == "map":
            return True
        told = event.data.get("error", "") if event.name == "step.failed" else ""
        return bool(told == step.problem)

    @_invariant("step.interrupted")
    def interrupted_by_a_recovery(self, event: Event) -> bool:
        """A step is interrupted only by the recovery of its Vect, or with a `reason`: a loss.

        One whose work was lost has work for a worker, and has not lost too many of them in a row.
        """
        if self.step in self.to_close:
            return not event.data
        has_work = kind_of(self.step.kind).needs_worker and "reason" in event.data
        return has_work and self.step.lost_workers + ("worker" in event.data) < LOST_WORKERS_MAX

    @_invariant()
    def recoveries_are_whole(self, event: Event) -> bool:
        """Behind the recovery of a Vect each step that ran is interrupted or fails, at once."""
        closes = event.name in ("step.interrupted", "step.failed") and self.step in self.to_close
        return not self.to_close or closes or self.is_by_rule(event)

    @_invariant(*_VECT_ENDS)
    def vects_end_after_their_steps(self, event: Event) -> bool:
        """A Vect ends only when all its steps have ended."""
        return self.vect.open_steps == 0

    @_invariant(*_VECT_ENDS)
    def ends_fit_the_steps(self, event: Event) -> bool:
        """A Vect is cancelled if a step is, failed if a failure in it counts, else success.

        Where it had to be cleaned up first, it ends as it then was to; and it has failed if it took
        too long, or if the failure of a step ends all.
        """
        if self.vect.state == "ending":
            return event.name == f"vect.{self.vect.ends_as}"
        is_late = self.vect.run_timeout is not None
        if event.name == "vect.failed" and "reason" in event.data:
            return is_late or self.vect.has_failed
        if self.vect.names_in("cancelled"):
            return event.name == "vect.cancelled"
        return event.name == ("vect.failed" if self.vect.names_to_blame() else "vect.succeeded")

    @_invariant("vect.failed")
    def failures_name_the_steps(self, event: Event) -> bool:
        """A failed Vect names its steps that failed or were blocked, in the order of its graph."""
        names = self.vect.names_to_blame()
        return bool(event.data.get("steps", names) == names)

    @_invariant("vect.started")
    def limits_are_kept(self, event: Event) -> bool | Unless:
        """A Vect that has waited for its turn starts when fewer are open than its `limit`."""
        if "limit" not in event.data or not self.data_fit_the_event(event):
            return True
        by, most = event.data.get("by"), event.data["limit"]
        lane = self.lane(self.vect, by)
        others = [each for each in self.under_way[event.flow] if self.lane(each, by) == lane]
        return len(others) < most or Unless(dict.fromkeys(others, 1), most - 1)

    @_invariant("vect.started")
    def backfills_keep_their_order(self, event: Event) -> bool | Unless:
        """A Vect that comes after another one, as its `after` says, starts when that has ended."""
        before = self.vect_before(self.vect)
        return before is None or before.ended_at > 0 or Unless({before: 1}, 0)

    @_invariant("vect.started")
    def turns_come_in_order(self, event: Event) -> bool:
        """Of the Vects that wait for their turn in one run of a program, the oldest is first.

        One that has had to come after another joins the line later.
        """
        is_asked = "limit" in event.data and "recovered" not in event.data
        if self.vect.after is not None or not is_asked or not self.data_fit_the_event(event):
            return True
        lane = self.lane(self.vect, event.data.get("by"))
        return self.vect.created >= self.called.get(lane, 0)

    @_invariant("step.started")
    def steps_fit_the_workers(self, event: Event) -> bool | Unless:
        """At most max_workers steps run, without async ones and those that the flow polls."""
        if not self.max_workers or self.step.has_no_worker:
            return True
        return self._with_one_more(self.running, self.max_workers)

    @_invariant("step.started")
    def pools_hold(self, event: Event) -> bool | Unless:
        """Steps take no more slots than pools have, and max_parallel and max_async are kept."""
        limits = self.step.limits if self.step.kind != "map" else ()
        answers = [self._with_one_more(self.in_limits[g], slots, n) for g, slots, n in limits]
        if False in answers or not self.map_has_room(self.step):
            return False
        return next((each for each in answers if each is not True), True)

    @_invariant("step.started")
    def rates_hold(self, event: Event) -> bool:
        """In no window of its rate do more steps of a pool start than the rate allows."""
        rate = self.step.rate if self.step.kind != "map" else None
        return rate is None or self.starts_within(rate, event.time) < rate.starts

    def _with_one_more(
        self, had: Mapping[VectPast, int], most: int, more: int = 1
    ) -> bool | Unless:
        """Return whether this step may have one more, or so many more, of what Vects have."""
        if sum(had.values()) + more <= most:
            return True
        own = had.get(self.vect, 0) + more
        others = {vect: count for vect, count in had.items() if vect is not self.vect}
        return own <= most and Unless(others, most - own)

    @_invariant("step.late_result", "step.succeeded", "step.failed")  # else nobody may drive
    def due_steps_start(self, event: Event) -> bool | Unless:
        """A step that may start waits only for a worker, a slot, or its earlier attempt."""
        # A recovery starts nothing before it has closed all; and who is pruned had workers too.
        # Nor do a map that has nothing to do, or a wait that cannot wait: they end at once.
        # The slots that a cancel frees have no takers before it is whole.
        # What is asked of a Vect that an old life has left comes between its recovery and starts.
        is_cancel = self.last.name == "step.cancelled"
        is_first = self.step in self.to_close or self.recovered_at == event.time
        is_answer = self.step.kind not in ("map", GIVEN) and not self.step.problem
        if is_first or self.gaps or not is_answer or is_cancel:
            return True
        is_full = len(self.busy) >= (self.max_workers or 1)
        able = (step for step in self.due if step.is_on_loop or not is_full)
        wait = {self.due[step]: 1 for step in able if self.must_start(step)}
        if self.vect in wait:
            return Unless({}, -1, may_drain=True)
        return not wait or Unless(wait, 0, may_drain=True)


def _is_part(graph: Mapping[str, Any], options: Mapping[str, Any], settings: Any) -> bool:
    """Whether a Vect that is a part of its flow has what that part says, and no other step."""
    given = [name for name in graph if options.get(name, {}).get("kind") == GIVEN]
    if (only := settings.get("only")) is not None:
        others = [name for name in graph if name != only]
        return given == others and set(graph.get(only, [only])) == {*others}
    if given:
        return False
    if (until := settings.get("until")) is None:
        return True
    if not set(until) <= graph.keys():
        return False
    part = Graph(graph).before(until)
    return all(
        name in part or options.get(name, {}).get("trigger_rule") == TEARDOWN for name in graph
    )
