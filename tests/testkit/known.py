"""What a model of an app knows: the states of all steps, and what follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from oautom import Execution, Flow, FlowExecution
from oautom.machine.rules import verdict
from oautom.steps.map import MapExecution
from oautom.values.references import OutputReference

if TYPE_CHECKING:
    from .model import Timetable


Attempt = tuple[str, str, int]
"""Vect, step and number."""

ENDS = ("success", "failed", "cancelled")
OPEN = ("pending", "running", "up_for_retry")
NO_WORKER = ("wait", "approval", "map", "flow")
"""The kinds of steps at which no worker is at work."""
UNDO = ".compensate"
"""What follows the name of a step, of a turn to undo its work."""
AT_ONCE = ("wait", "approval", "map")
"""Those of them that need no slot of a pool either, and are not tried again."""


class Alarm(NamedTuple):
    """What happens to an attempt when its time has come."""

    when: float
    kind: str
    vect: str
    step: str
    attempt: int


def declared(step: str) -> str:
    """Return the step of the flow: of an instance `b[0]` its map, `b`."""
    return step.removesuffix(UNDO).partition("[")[0]


def is_child(vect: str) -> bool:
    """Whether a step runs a Vect, by its id."""
    return "/" in vect


class Known:
    """What there is, and nothing that changes it.

    Args:
        drawn: A flow; its steps wait for such as are declared before them. Steps may run another
            flow of its app.
        workers: How many steps run at once.
        children: How many Vects of the other flow are open at once.
        at_once: How many of the flow itself.
    """

    def __init__(self, drawn: Flow, workers: int, children: int, at_once: int) -> None:
        inner = next((s.runs for s in drawn.steps.values() if isinstance(s, FlowExecution)), None)
        self.fails_fast, self.run_timeout = drawn.on_failure == "cancel", drawn.run_timeout
        self.deadline = drawn.deadline
        self.graph = dict(drawn.graph.upstreams)
        self.inner = {} if inner is None else dict(inner.graph.upstreams)
        self.made: dict[str, Execution] = {**drawn.steps, **(inner.steps if inner else {})}
        self.workers = workers
        self.most = {True: children, False: at_once}  # by whether they are children
        self.params: dict[str, dict[str, Any]] = {}
        self.steps: dict[str, dict[str, str]] = {}  # the states, by Vect and step
        self.inbox: list[Callable[[], object]] = []  # what the next tick begins with
        self.effects: list[Callable[[], object]] = []  # what this tick does when it is committed
        self.ended: list[str] = []  # Vects that have ended in this tick
        self.orphans: list[str] = []  # children that their steps need no more
        self.looks: list[tuple[str, str]] = []  # steps of which something may be due
        self.due: list[tuple[str, str]] = []  # first come, first served
        self.claims: list[tuple[str, str]] = []  # they take several slots, and lack some
        self.is_draining = False  # nothing is begun any more
        self.busy = 0
        self.at_work: set[tuple[str, str, int]] = set()  # attempts that have not answered
        # By those of them that were told to stop, which steps above have their slots still.
        self.kept: dict[tuple[str, str, int], list[tuple[str, str]]] = {}
        self.created: dict[str, None] = {}  # those of which the log knows, in its order
        self.begun: set[str] = set()
        self.cancelled: set[str] = set()
        self.paused: set[str] = set()
        self.shunned: set[tuple[str, str]] = set()  # not followed by a branch before them
        self.now = 0.0
        self.alarms: list[Alarm] = []  # what comes by itself
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        self.lists: dict[tuple[str, str], int | None] = {}  # how long what a step returned is
        self.times: dict[tuple[str, str], float] = {}  # the time that a step has returned
        self.counts: dict[tuple[str, str], int] = {}  # how many items a map has
        self.lines: dict[bool, list[str]] = {True: [], False: []}  # those for which is no room yet
        self.after: dict[str, str] = {}  # after which one of its backfill a Vect comes
        self.held: dict[str, str] = {}  # those that stand in no line yet, and after whom
        self.started: set[str] = set()  # as `begun`, but by a retry
        self.open: set[str] = set()  # those that have a place, and of which no end is known
        self.going_on: dict[str, Attempt] = {}  # children that go on when it is their turn
        self.children_of: dict[Attempt, str] = {}  # those that are not named after their attempt
        self.left: dict[tuple[str, str], str] = {}  # in which the next attempt may go on
        self.has_run: set[tuple[str, str]] = set()  # steps that have started since a reset
        self.parents: dict[str, Attempt] = {}  # for which attempt a child runs
        self.over_for: dict[str, Attempt] = {}  # for which attempt a child has ended
        self.waiters: dict[str, Attempt] = {}  # which attempt waits for the end of a child
        self.open: set[str] = set()  # children that have begun, and of which no end is known
        self.reopened: set[str] = set()  # children that were retried by themselves
        self.late: set[Attempt] = set()  # attempts whose time is up, as soon as their child ends
        self.deadlines: dict[tuple[str, str], float] = {}  # that count, of Vects and their steps
        self.told_late: list[tuple[str, str]] = []  # of which it was told that it is late
        self.timetable: Timetable | None = None
        self.is_look_due = False  # at what the timetable says
        self.failed: set[str] = set()  # too late, or by a failure that ends all, or cleaned up
        self.failing: set[str] = set()  # in which a step has failed just now whose failure ends all
        self.ends_as: dict[str, str] = {}  # of Vects that are cleaned up
        self.was_begun: set[tuple[str, str]] = set()  # steps that have started since their reset
        self.cut: set[tuple[str, str]] = set()  # that did not end by their own answer
        self.order: dict[str, list[str]] = {}  # in which the steps of a Vect have ended
        self.undone: dict[tuple[str, str], str] = {}  # `running`, `waiting`, `done`, `failed`
        self.undoings: Counter[tuple[str, str]] = Counter()
        self.not_undone: Counter[tuple[str, str]] = Counter()
        self.late_undoings: set[tuple[str, str, int]] = set()
        self.untold: set[tuple[str, str, int]] = set()  # not told yet to stop
        self.own_skips: set[tuple[str, str]] = set()  # steps that have skipped themselves
        self.released: set[tuple[str, str]] = set()  # steps that wait to run again

    # What there is

    def graph_of(self, vect: str) -> dict[str, tuple[str, ...]]:
        return self.inner if is_child(vect) else self.graph

    def upstreams(self, vect: str, step: str) -> tuple[str, ...]:
        return self.graph_of(vect).get(step, ())

    def dependants_of(self, vect: str, step: str) -> list[str]:
        return [name for name, before in self.graph_of(vect).items() if step in before]

    def kind(self, step: str) -> str:
        return "" if "[" in step or step.endswith(UNDO) else self.made[step].kind

    def limit(self, step: str) -> int | None:
        made = self.made[declared(step)]
        return made.max_parallel if isinstance(made, MapExecution) else None

    def instances(self, vect: str, step: str) -> list[str]:
        return [name for name in self.steps[vect] if name.startswith(f"{step}[")]

    def state(self, vect: str) -> str:
        states = self.steps[vect]
        if vect in self.cancelled or vect in self.failed:
            return "cancelled" if vect in self.cancelled else "failed"
        if vect not in self.begun:
            return "pending"
        if vect in self.ends_as:
            return "ending"
        if any(state in OPEN for state in states.values()):
            return "paused" if vect in self.paused else "running"
        blamed: set[str] = set()
        for step, upstreams in self.graph_of(vect).items():
            is_first = states[step] == "failed" and not self.made[step].allow_failure
            if is_first or (states[step] == "upstream_failed" and blamed.intersection(upstreams)):
                blamed.add(step)
        return "failed" if blamed else "success"

    def is_full(self, *, children: bool) -> bool:
        """Whether one more Vect finds no room."""
        is_open = [vect for vect in self.open if is_child(vect) is children]
        return bool(self.lines[children]) or len(is_open) >= self.most[children]

    def is_in_line(self, vect: str) -> bool:
        return vect in self.lines[is_child(vect)] or vect in self.held

    def open_before(self, vect: str) -> str | None:
        """Return the one that has to end before a Vect of a backfill stands in line."""
        before = self.after.get(vect)
        while before is not None and self.state(before) in ENDS:
            before = None if before in self.started else self.after.get(before)
        return before

    def source_of(self, step: str) -> str | None:
        """Return the step whose list a map is over; None if it is over a parameter.

        Of a wait, the step that gives its time; None if it has one of its own.
        """
        made = self.made[step]
        found = made.over if isinstance(made, MapExecution) else getattr(made, "until", None)
        if not isinstance(found, OutputReference):
            return None
        return found.name if not self.kind(found.name) else None

    def items(self, vect: str, step: str) -> list[Any]:
        """Return the items of a map that has started."""
        count = self.counts[vect, step]
        return [*range(count)] if self.source_of(step) else self.params[vect]["days"]

    def taken_by(self, step: str) -> tuple[str, ...]:
        """Return whose outputs a step is given."""
        is_given = bool(self.made[step].references) and not self.kind(step)
        return tuple(name for name in self.graph[step] if is_given and not self.kind(name))

    def has_outputs(self, vect: str, step: str) -> bool:
        taken = self.taken_by(step) if step in self.graph else ()
        return all(self.steps[vect][upstream] == "success" for upstream in taken)

    def verdict(self, vect: str, step: str, *, of_paused: bool = False) -> str | None:
        """Return what is due for a step: to start, to be blocked or skipped, or nothing."""
        states, is_paused = self.steps[vect], vect in self.paused and not of_paused
        now, is_teardown = self.state(vect), self.made[declared(step)].teardown
        if states[step] != "pending" or now in ("pending", "cancelled") or vect in self.failing:
            return None
        if (is_paused or now == "ending") and not is_teardown:
            return None
        if (over := declared(step)) != step:
            if states[over] == "running":
                index = int(step[len(over) + 1 : -1])
                return "start" if index < self.counts.get((vect, over), 0) else "skip"
            return None if states[over] in OPEN else "skip"
        before = self.upstreams(vect, step)
        if is_teardown:
            if any(states[upstream] in OPEN for upstream in before):
                return None
            return "start" if self.was_set_up(vect, step) else "skip"
        if (vect, step) in self.shunned:
            return "skip"
        tally = Counter(states[upstream] for upstream in before)
        return verdict(str(self.made[step].trigger_rule), len(before), tally)

    def was_set_up(self, vect: str, step: str) -> bool:
        """Whether something has started that a step cleans up after."""
        made = self.made[declared(step)]
        names = [each.name for each in made.teardown_of] or self.upstreams(vect, declared(step))
        return any((vect, name) in self.was_begun for name in names)

    def is_being_ended(self, vect: str, step: str) -> bool:
        """Whether what a step cleans up after is over, and may be ended only now."""
        if not self.made[step].teardown:
            return False
        ups = self.upstreams(vect, step)
        names = [*ups, *(name for up in ups for name in self.instances(vect, up))]
        attempts = [(vect, name, self.attempts[vect, name]) for name in names]
        return any(
            each in self.untold or (each in self.at_work and self.kind(each[1]) == "flow")
            for each in attempts
            if self.steps[vect][each[1]] != "running"
        )

    def is_to_be_undone(self, vect: str, step: str) -> bool:
        """Whether what a step has done is to be undone, should its Vect end badly now."""
        made, state = self.made[declared(step)], self.steps[vect][step]
        if made.compensate is None or self.kind(step) == "map":
            return False
        is_cut = (vect, step) in self.cut or state == "running"
        return state == "success" or (made.compensate_on == "begun" and is_cut)

    def next_to_undo(self, vect: str) -> str | None:
        """Return the step whose work is undone next: that of the last end."""
        for step in reversed(self.order[vect]):
            is_over = self.undone.get((vect, step)) in ("done", "failed")
            if self.is_to_be_undone(vect, step) and not is_over:
                return step
        return None

    def cleans_up(self, vect: str, step: str) -> bool:
        """Whether a step has to do with clean-up: by itself, by what is before it, or its Vect."""
        before = [declared(step)]
        for each in before:  # it grows while it is walked
            before += [up for up in self.upstreams(vect, each) if up not in before]
        of_step = any(self.made[each].teardown for each in before)
        undone = any(self.undoings[vect, each] for each in self.steps[vect])
        return of_step or undone or vect in self.ends_as

    def has_room(self, vect: str, step: str) -> bool:
        """Whether one more instance of a map may run."""
        if step.endswith(UNDO):
            return True
        if step == declared(step) or (limit := self.limit(step)) is None:
            return True
        states = [self.steps[vect][name] for name in self.instances(vect, declared(step))]
        return states.count("running") < limit

    def next_turn(self) -> tuple[str, str] | None:
        """Return the first of the highest priority for whom there is room, or who needs none.

        Who takes several slots and lacks some goes before all that come after it in its pool.
        """
        self.claims = [place for place in self.claims if place in self.due]
        need_none = [place for place in self.due if self.kind(place[1]) in NO_WORKER]
        others = [place for place in self.due if place not in need_none]
        others.sort(key=lambda place: -self.priority(place[1]))
        for place in [*need_none, *(others if self.busy < self.workers else ())]:
            if self.is_barred(place):
                continue
            if not self.has_slot(place[1]):
                if self.made[declared(place[1])].pool_slots > 1 and place not in self.claims:
                    self.claims.append(place)
            elif self.has_room(*place):
                return place
            elif place in self.claims:
                self.claims.remove(place)
        return None

    def is_behind(self, vect: str, step: str) -> bool:
        """Whether a step that waits comes after one that takes several slots of its pool."""
        return (vect, step) in self.due and self.is_barred((vect, step))

    def is_barred(self, place: tuple[str, str]) -> bool:
        """Whether a step comes after one of its pool that takes several slots, and lacks some."""
        pool = self.made[declared(place[1])].pool
        if pool is None or self.kind(place[1]) in AT_ONCE or place[1].endswith(UNDO):
            return False
        before = [p for p in self.claims if self.made[declared(p[1])].pool == pool]
        return any(self.place_in_line(each) < self.place_in_line(place) for each in before)

    def place_in_line(self, place: tuple[str, str]) -> tuple[int, int]:
        rank = 0 if self.kind(place[1]) in NO_WORKER else -self.priority(place[1])
        return rank, self.due.index(place)

    def priority(self, step: str) -> int:
        return 0 if step.endswith(UNDO) else self.made[declared(step)].priority

    def has_slot(self, step: str) -> bool:
        """Whether the pool of a step, if it needs one, has a slot that is free."""
        pool = self.made[declared(step)].pool
        if pool is None or self.kind(step) in AT_ONCE or step.endswith(UNDO):
            return True
        running = {
            (vect, name)
            for vect, states in self.steps.items()
            for name, state in states.items()
            if state == "running" and self.kind(name) not in AT_ONCE
        }
        below = {place for attempt in self.at_work for place in self.kept.get(attempt, ())}
        holders = running | below | {attempt[:2] for attempt in self.at_work if attempt[2] > 0}
        steps = [self.made[declared(name)] for _, name in holders]
        taken = sum(each.pool_slots for each in steps if each.pool == pool)
        return taken + self.made[declared(step)].pool_slots <= (pool.slots or 0)

    def keeps_slots(self, vect: str) -> bool:
        """Whether steps of a Vect may have a slot of a pool while they run another flow."""
        steps = self.graph_of(vect)
        return any(self.kind(step) == "flow" and self.made[step].pool for step in steps)

    def child_of(self, vect: str, step: str, attempt: int) -> str:
        """Return the id of the Vect that an attempt of a step runs."""
        return self.children_of.get((vect, step, attempt), f"{vect}/{step}/{attempt}")

    def is_running(self, vect: str, step: str, attempt: int) -> bool:
        is_newest = self.attempts[vect, step] == attempt
        return is_newest and self.steps[vect][step] == "running"

    def may_go_on(self, child: str) -> bool:
        """Whether a child is there, and is not just being ended."""
        ended = child in self.steps and self.state(child) in ENDS
        return ended or (child in self.steps and child in self.reopened)

    def is_to_go_on(self, child: str, attempt: Attempt) -> bool:
        """Whether a child has ended badly, and not for this attempt."""
        is_its = attempt in (self.parents[child], self.over_for.get(child))
        return self.state(child) in ("failed", "cancelled") and not is_its

    def is_wanted(self, vect: str) -> bool:
        """Whether the attempt runs that has a Vect run; one that was retried is on its own."""
        if not is_child(vect) or vect in self.reopened:
            return True
        return self.is_running(*self.parents[vect])

    def lingers(self, vect: str, step: str) -> bool:
        """Whether an earlier attempt of a step that does not run is at work still."""
        if self.steps[vect][step] == "running":
            return False
        places = {place for attempt in self.at_work for place in self.above(*attempt)}
        return (vect, step) in places.union(attempt[:2] for attempt in self.at_work)

    def above(self, vect: str, step: str, attempt: int) -> list[tuple[str, str]]:
        """Return the steps that had the Vect run of an attempt that was told to stop."""
        if self.steps[vect][step] == "running" and self.attempts[vect, step] == attempt:
            return []
        found = []
        while is_child(vect):
            vect, step, _ = vect.rsplit("/", 2)
            found.append((vect, step))
        return found

    def waits_for_nothing(self) -> list[tuple[str, str]]:
        """Return the steps that could run, but do not."""
        places = [(vect, step) for vect, states in self.steps.items() for step in states]
        return [
            (vect, step)
            for vect, step in places
            if self.verdict(vect, step) is not None
            if self.has_room(vect, step) and self.has_slot(step) and not self.lingers(vect, step)
            if not self.is_behind(vect, step)
            if step != declared(step) or not self.is_being_ended(vect, step)
            if self.kind(step) in NO_WORKER or self.busy < self.workers
        ]
