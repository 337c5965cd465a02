"""A model of an app: what it should do with the Vects of a flow, and of one that its steps run.

It knows neither events nor machines nor signals. As the app does, it takes what has come in, all of
it, and after each all that follows; then it does what was asked for meanwhile: a tick.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from oautom import Execution, Flow, FlowExecution
from oautom.executions.map import MapExecution
from oautom.references import OutputReference
from oautom.rules import verdict

OPEN = ("pending", "running", "up_for_retry")
END_WORDS = {
    "success": "succeeded",
    "failed": "failed",
    "upstream_failed": "was blocked",
    "cancelled": "was cancelled",
}
NO_WORKER = ("wait", "approval", "map", "flow")
"""The kinds of steps at which no worker is at work."""
AT_ONCE = ("wait", "approval", "map")
"""Those of them that need no slot of a pool either, and are not tried again."""


SAID = (
    *("succeeded at ", "failed at ", "was blocked at ", "was skipped at ", "skipped itself at "),
    *("was cancelled at ", "failed attempt ", "runs again at ", "has been running since "),
    *("waits until ", "waits for an approval", "items have ended", ", which is running"),
    *(", which is paused", "which begins when that flow has room", "waits for a slot"),
    *("waits for a worker", "which is its limit", "is about to ", "is due to start"),
    "its vect is paused",
)
"""What may be said of a step, and is true of some only."""


class Alarm(NamedTuple):
    """What happens to an attempt when its time has come."""

    when: float
    kind: str
    vect: str
    step: str
    attempt: int


def declared(step: str) -> str:
    """Return the step of the flow: of an instance `b[0]` its map, `b`."""
    return step.partition("[")[0]


def child_of(vect: str, step: str, attempt: int) -> str:
    """Return the id of the Vect that an attempt of a step runs."""
    return f"{vect}/{step}/{attempt}"


class Model:
    """What an app should do.

    Args:
        drawn: A flow; its steps wait for such as are declared before them. Steps may run another
            flow of its app.
        workers: How many steps run at once.
        children: How many Vects of the other flow are open at once.
    """

    def __init__(self, drawn: Flow, workers: int, children: int) -> None:
        inner = next((s.runs for s in drawn.steps.values() if isinstance(s, FlowExecution)), None)
        self.graph = dict(drawn.graph.upstreams)
        self.inner = {} if inner is None else dict(inner.graph.upstreams)
        self.made: dict[str, Execution] = {**drawn.steps, **(inner.steps if inner else {})}
        self.workers, self.children = workers, children
        self.params: dict[str, dict[str, Any]] = {}
        self.steps: dict[str, dict[str, str]] = {}  # the states, by Vect and step
        self.inbox: list[Callable[[], object]] = []  # what the next tick begins with
        self.asked: list[Callable[[], object]] = []  # what this tick ends with
        self.looks: list[tuple[str, str]] = []  # steps of which something may be due
        self.due: list[tuple[str, str]] = []  # first come, first served
        self.busy = 0
        self.cancelled: set[str] = set()
        self.paused: set[str] = set()
        self.shunned: set[tuple[str, str]] = set()  # not followed by a branch before them
        self.now = 0.0
        self.alarms: list[Alarm] = []  # what comes by itself
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        self.lists: dict[tuple[str, str], int | None] = {}  # how long what a step returned is
        self.counts: dict[tuple[str, str], int] = {}  # how many items a map has
        self.parents: dict[str, tuple[str, str, int]] = {}  # by a child, which attempt waits for it
        self.waiting: list[str] = []  # children for which there is no room yet
        self.open: set[str] = set()  # children that have begun, and of which no end is known
        self.late: set[str] = set()  # children whose time is up
        self.timetable: Timetable | None = None
        self.is_look_due = False  # at what the timetable says
        self.own_skips: set[tuple[str, str]] = set()  # steps that have skipped themselves
        self.released: set[tuple[str, str]] = set()  # steps that wait to run again

    # What there is

    def graph_of(self, vect: str) -> dict[str, tuple[str, ...]]:
        return self.inner if "/" in vect else self.graph

    def upstreams(self, vect: str, step: str) -> tuple[str, ...]:
        return self.graph_of(vect).get(step, ())

    def dependants_of(self, vect: str, step: str) -> list[str]:
        return [name for name, before in self.graph_of(vect).items() if step in before]

    def kind(self, step: str) -> str:
        return "" if "[" in step else self.made[step].kind

    def limit(self, step: str) -> int | None:
        made = self.made[declared(step)]
        return made.max_parallel if isinstance(made, MapExecution) else None

    def instances(self, vect: str, step: str) -> list[str]:
        return [name for name in self.steps[vect] if name.startswith(f"{step}[")]

    def state(self, vect: str) -> str:
        states = self.steps[vect]
        if vect in self.cancelled:
            return "cancelled"
        if any(state in OPEN for state in states.values()):
            return "paused" if vect in self.paused else "running"
        blamed: set[str] = set()
        for step, upstreams in self.graph_of(vect).items():
            is_first = states[step] == "failed" and not self.made[step].allow_failure
            if is_first or (states[step] == "upstream_failed" and blamed.intersection(upstreams)):
                blamed.add(step)
        return "failed" if blamed else "success"

    def source_of(self, step: str) -> str | None:
        """Return the step whose list a map is over; None if it is over a parameter."""
        made = self.made[step]
        assert isinstance(made, MapExecution)
        assert isinstance(made.over, OutputReference)
        return made.over.name if not self.kind(made.over.name) else None

    def items(self, vect: str, step: str) -> list[Any]:
        """Return the items of a map that has started."""
        count = self.counts[vect, step]
        return [*range(count)] if self.source_of(step) else self.params[vect]["days"]

    def taken_by(self, step: str) -> tuple[str, ...]:
        """Return whose outputs a step is given."""
        is_given = bool(self.made[step].references) and not self.kind(step)
        return tuple(name for name in self.graph[step] if is_given and not self.kind(name))

    # What is done to it: a tick begins with it

    def start(self, vect: str, **params: Any) -> None:
        self.params[vect] = params
        self.steps[vect] = dict.fromkeys(self.graph_of(vect), "pending")
        self.inbox.append(partial(self._begin, vect))

    def _begin(self, vect: str) -> None:
        graph = self.graph_of(vect)
        roots = [step for step, before in graph.items() if not before]
        at_once = [step for step in graph if self.made[step].trigger_rule == "always"]
        self.looks += [(vect, step) for step in (*roots, *at_once)]

    def end(self, vect: str, step: str, attempt: int, state: str, told: Any = None) -> None:
        """Have a worker end: `told` is what a branch chooses, or how long the list of a step is."""
        self.busy -= 1
        is_late = self.steps[vect][step] != "running" or self.attempts[vect, step] != attempt
        if state == "success" and not is_late:
            if self.kind(step) == "branch":
                self._choose(vect, step, told)
            else:
                self.lists[vect, step] = told
        self.answer(vect, step, attempt, state, RuntimeError())

    def _choose(self, vect: str, step: str, names: Sequence[str]) -> None:
        followed = {*names}
        for name, before in self.graph.items():
            if followed & {*before}:
                followed.add(name)
        dependants = self.dependants_of(vect, step)
        self.shunned |= {(vect, name) for name in dependants if name not in followed}

    def answer(
        self, vect: str, step: str, attempt: int, state: str, cause: Exception | None
    ) -> None:
        if self.steps[vect][step] != "running" or self.attempts[vect, step] != attempt:
            return  # it was cancelled, or its time was up: it is late
        if not self.has_outputs(vect, step):
            state = "failed"
        made = self.made[declared(step)]
        policy = made.retry if self.kind(step) not in AT_ONCE else None
        if state == "failed" and policy and (cause is None or policy.covers(cause)):
            self.failures[vect, step] += 1
            if self.failures[vect, step] < policy.max_attempts:
                delay = policy.delay_after(self.failures[vect, step], 0.5)
                self._move(vect, step, "up_for_retry")
                self._set_alarm(delay, "release", vect, step)
                return
        if state == "skipped":
            self.own_skips.add((vect, step))
        self._move(vect, step, state)

    def has_outputs(self, vect: str, step: str) -> bool:
        taken = self.taken_by(step) if step in self.graph else ()
        return all(self.steps[vect][upstream] == "success" for upstream in taken)

    def cancel(self, vect: str) -> None:
        if self.state(vect) not in ("running", "paused"):
            return
        self.cancelled.add(vect)
        self.paused.discard(vect)
        for step, state in self.steps[vect].items():
            if state == "running" and self.kind(step) == "flow":
                self.asked.append(partial(self._give_up, vect, step))
            self.steps[vect][step] = "cancelled" if state in OPEN else state
        self.due = [each for each in self.due if each[0] != vect]
        self._note_end(vect)

    def pause(self, vect: str) -> None:
        if self.state(vect) == "running":
            self.paused.add(vect)
            self.due = [each for each in self.due if each[0] != vect]

    def resume(self, vect: str) -> None:
        self.paused.discard(vect)
        self.looks += [(vect, step) for step in self.steps[vect]]

    def retry(self, vect: str) -> None:
        states = self.steps[vect]
        again: set[str] = set()
        for step in (*self.graph_of(vect), *states):
            is_reached = again.intersection(self.upstreams(vect, declared(step)))
            if states[step] in ("failed", "upstream_failed", "cancelled") or is_reached:
                again.add(step)
        for step in again:
            states[step] = "pending"
            self.failures[vect, step] = 0
            self.released.discard((vect, step))
            self.own_skips.discard((vect, step))
            if self.kind(step) == "branch":
                self.shunned -= {(vect, name) for name in self.dependants_of(vect, step)}
        self.cancelled.discard(vect)
        self.paused.discard(vect)
        if vect in self.parents:
            self.open.add(vect)
        self.looks += [(vect, step) for step in states]

    def die(self) -> None:
        """The program dies and is run again: what ran is pending, and whoever waited waits anew."""
        self.due, self.busy, self.waiting = [], 0, []
        places = [(vect, step) for vect, states in self.steps.items() for step in states]
        kept = [alarm for alarm in self.alarms if self._is_kept(alarm)]
        self.alarms = sorted(kept, key=lambda alarm: places.index((alarm.vect, alarm.step)))
        for vect, step in places:
            if self.steps[vect][step] != "running":
                continue
            if self.kind(step) not in NO_WORKER:
                self.steps[vect][step] = "pending"
            elif self.kind(step) == "flow":
                child = child_of(vect, step, self.attempts[vect, step])
                self.waiting += [child] if child not in self.steps else []
        self.looks += places

    def _is_kept(self, alarm: Alarm) -> bool:
        if alarm.kind == "plan":
            return False
        is_held = alarm.kind != "release" and self.kind(alarm.step) in NO_WORKER
        state = self.steps[alarm.vect][alarm.step]
        is_its = self.attempts[alarm.vect, alarm.step] == alarm.attempt
        return is_its and state == ("running" if is_held else "up_for_retry")

    # Time

    def let_time_pass(self, until: float) -> None:
        """Have all happen that comes before a time; or at it, if that is now."""
        is_first = self.is_look_due = True  # something has been done to it
        while True:
            due = sorted((a for a in self.alarms if a.when <= self.now), key=lambda a: a.when)
            self.alarms = [alarm for alarm in self.alarms if alarm.when > self.now]
            messages = [*[partial(self._ring, alarm) for alarm in due], *self.inbox]
            self.inbox = []
            if messages or is_first:
                is_first = False
                self._tick(messages)
                continue
            times = [alarm.when for alarm in self.alarms if alarm.when < until]
            if not times:
                self.now = until
                return
            self.now = min(times)

    def _tick(self, messages: Sequence[Callable[[], object]]) -> None:
        self._settle()
        for message in messages:
            message()
            self._settle()
        for each in self._take_asked():
            each()
        if self.is_look_due and self.timetable is not None:
            self.timetable.look()
        self.is_look_due = False
        while self.asked:
            for each in self._take_asked():
                each()

    def _take_asked(self) -> list[Callable[[], object]]:
        asked, self.asked = self.asked, []
        return asked

    def nudge(self) -> None:
        """Have the tick look at the timetable."""
        self.is_look_due = True

    def _set_alarm(self, seconds: float, kind: str, vect: str, step: str) -> None:
        attempt = self.attempts[vect, step]
        self.alarms.append(Alarm(self.now + seconds, kind, vect, step, attempt))

    def _ring(self, alarm: Alarm) -> None:
        if alarm.kind == "plan":
            self.nudge()
            return
        place = (alarm.vect, alarm.step)
        state = self.steps[alarm.vect][alarm.step]
        if alarm.kind == "waited":
            self.answer(*place, alarm.attempt, "success", None)
        elif alarm.kind == "release":
            if state == "up_for_retry" and self.attempts[place] == alarm.attempt:
                self.steps[alarm.vect][alarm.step] = "pending"
                self.released.add(place)
                self.looks.append(place)
        elif self.kind(alarm.step) != "flow":
            self.answer(*place, alarm.attempt, "failed", TimeoutError())
        elif state == "running" and self.attempts[place] == alarm.attempt:
            self.late.add(child_of(*place, alarm.attempt))  # it has failed when its child has ended
            self._give_up(*place)

    # Steps

    def _move(self, vect: str, step: str, state: str) -> None:
        """Have a step be in another state, and those looked at that this may concern."""
        before, self.steps[vect][step] = self.steps[vect][step], state
        if state not in OPEN:
            self.looks += [(vect, name) for name in self.dependants_of(vect, step)]
        if self.kind(step) == "map" and before == "pending":
            self.looks += [(vect, name) for name in (*self.instances(vect, step), step)]
        if step != declared(step):
            self._look_at_next(vect, declared(step))
        self._note_end(vect)

    def _look_at_next(self, vect: str, step: str) -> None:
        """Look at the map itself if all its instances have ended, or at the next one's turn."""
        states = [(name, self.steps[vect][name]) for name in self.instances(vect, step)]
        if not any(state in OPEN for _, state in states):
            self.looks.append((vect, step))
        elif self.limit(step) is not None:
            self.looks += [(vect, name) for name, state in states if state == "pending"][:1]

    def _settle(self) -> None:
        while True:
            while self.looks:
                self._look(*self.looks.pop(0))
            place = self._next_turn()
            if place is None:
                return
            self.due.remove(place)
            if self.verdict(*place) == "start" and self.has_room(*place):
                self._start_step(*place)

    def _look(self, vect: str, step: str) -> None:
        if self.kind(step) == "map" and self.steps[vect][step] == "running":
            ends = {self.steps[vect][name] for name in self.instances(vect, step)}
            if not ends.intersection(OPEN):
                is_good = "failed" not in ends and (vect, step) in self.counts
                self._move(vect, step, "success" if is_good else "failed")
            return
        match self.verdict(vect, step):
            case "block":
                self._move(vect, step, "upstream_failed")
            case "skip":
                self._move(vect, step, "skipped")
            case "start" if (vect, step) not in self.due and self.has_room(vect, step):
                self.due.append((vect, step))

    def verdict(self, vect: str, step: str, *, of_paused: bool = False) -> str | None:
        """Return what is due for a step: to start, to be blocked or skipped, or nothing."""
        states, is_paused = self.steps[vect], vect in self.paused and not of_paused
        if states[step] != "pending" or is_paused or vect in self.cancelled:
            return None
        if (over := declared(step)) != step:
            if states[over] == "running":
                index = int(step[len(over) + 1 : -1])
                return "start" if index < self.counts.get((vect, over), 0) else "skip"
            return None if states[over] in OPEN else "skip"
        if (vect, step) in self.shunned:
            return "skip"
        before = self.upstreams(vect, step)
        tally = Counter(states[upstream] for upstream in before)
        return verdict(str(self.made[step].trigger_rule), len(before), tally)

    def has_room(self, vect: str, step: str) -> bool:
        """Whether one more instance of a map may run."""
        if step == declared(step) or (limit := self.limit(step)) is None:
            return True
        states = [self.steps[vect][name] for name in self.instances(vect, declared(step))]
        return states.count("running") < limit

    def _next_turn(self) -> tuple[str, str] | None:
        """Return the first of the highest priority whose pool has room; or who needs no worker."""
        with_slot = [place for place in self.due if self.has_slot(place[1])]
        first = [place for place in with_slot if self.kind(place[1]) in NO_WORKER]
        if first:
            return first[0]
        if self.busy == self.workers:
            return None
        return max(with_slot, key=lambda p: self.made[declared(p[1])].priority, default=None)

    def has_slot(self, step: str) -> bool:
        """Whether the pool of a step, if it needs one, has a slot that is free."""
        pool = self.made[declared(step)].pool
        if pool is None or self.kind(step) in AT_ONCE:
            return True
        taken = [
            name
            for states in self.steps.values()
            for name, state in states.items()
            if state == "running" and self.kind(name) not in AT_ONCE
            if self.made[declared(name)].pool == pool
        ]
        return len(taken) < pool.slots

    def waits_for_nothing(self) -> list[tuple[str, str]]:
        """Return the steps that could run, but do not."""
        places = [(vect, step) for vect, states in self.steps.items() for step in states]
        return [
            (vect, step)
            for vect, step in places
            if self.verdict(vect, step) is not None
            if self.has_room(vect, step) and self.has_slot(step)
            if self.kind(step) in NO_WORKER or self.busy < self.workers
        ]

    def reasons(self, vect: str, step: str) -> list[str]:
        """Return what of `SAID` should be said of a step while nothing moves."""
        match self.steps[vect][step]:
            case "pending":
                told = self._why_pending(vect, step)
            case "skipped":
                is_own = (vect, step) in self.own_skips
                told = {"skipped itself at " if is_own else "was skipped at "}
            case "running" | "up_for_retry":
                told = self._meanwhile(vect, step)
                if self.kind(step) == "flow":
                    told |= self._of_child(child_of(vect, step, self.attempts[vect, step]))
            case ended:
                told = {f"{END_WORDS[ended]} at "}
        if vect in self.paused and self.steps[vect][step] in ("pending", "up_for_retry"):
            told.add("its vect is paused")
        return [each for each in SAID if each in told]

    def _why_pending(self, vect: str, step: str) -> set[str]:
        told = {"failed attempt "} if (vect, step) in self.released else set[str]()
        is_paused = vect in self.paused
        match self.verdict(vect, step, of_paused=True):
            case None:
                over = declared(step)
                before = self.upstreams(vect, step) if step == over else (over,)
                is_open = [each for each in before if self.steps[vect][each] in OPEN]
                assert is_open
                return told.union(*(self._meanwhile(vect, each) for each in is_open))
            case "start" if is_paused:
                return told | {"is due to start"}
            case "start" if not self.has_room(vect, step):
                return told | {"which is its limit"}
            case "start":
                return told | {"waits for a worker" if self.has_slot(step) else "waits for a slot"}
        return told | {"is about to "}

    def _of_child(self, child: str) -> set[str]:
        if child in self.waiting:
            return {"which begins when that flow has room"}
        return {f", which is {self.state(child)}"} if child in self.open else set()

    def _meanwhile(self, vect: str, step: str) -> set[str]:
        """Return what of `SAID` should be said of a step for which another one waits."""
        match self.steps[vect][step], self.kind(step):
            case "up_for_retry", _:
                return {"failed attempt ", "runs again at "}
            case "running", "wait":
                return {"waits until "}
            case "running", "approval":
                return {"waits for an approval"}
            case "running", "map":
                return {"has been running since ", "items have ended"}
            case "running", _:
                return {"has been running since "}
        is_due = vect not in self.paused and self.verdict(vect, step) == "start"
        return {"waits for a worker"} if is_due and self.has_slot(step) else set()

    def _start_step(self, vect: str, step: str) -> None:
        self.attempts[vect, step] += 1
        self.released.discard((vect, step))
        kind, timeout = self.kind(step), self.made[declared(step)].timeout
        if kind == "map":
            self._expand(vect, step)
        self._move(vect, step, "running")
        if kind == "wait":
            self._set_alarm(3, "waited", vect, step)
        elif timeout is not None and kind != "map":
            self._set_alarm(timeout, "time is up", vect, step)
        if kind not in NO_WORKER:
            self.busy += 1
        elif kind == "flow":
            self.asked.append(partial(self._run_child, vect, step, self.attempts[vect, step]))

    def _expand(self, vect: str, step: str) -> None:
        source = self.source_of(step)
        count: int | None = len(self.params[vect]["days"])
        if source is not None:
            is_there = self.steps[vect][source] == "success"
            count = self.lists[vect, source] if is_there else None
        self.counts.pop((vect, step), None)
        if count is not None:
            self.counts[vect, step] = count
        for index in range(count or 0):
            self.steps[vect].setdefault(f"{step}[{index}]", "pending")

    # Children

    def _run_child(self, vect: str, step: str, attempt: int) -> None:
        child = child_of(vect, step, attempt)
        self.waiting.append(child)
        self.let_children_begin()

    def let_children_begin(self) -> None:
        """Have children begin that wait, as long as there is room."""
        while self.waiting and len(self.open) < self.children:
            child = self.waiting.pop(0)
            vect, step, attempt = child.rsplit("/", 2)
            self.parents[child] = (vect, step, int(attempt))
            self.open.add(child)
            self.start(child)

    def _give_up(self, vect: str, step: str) -> None:
        """Cancel the child of a step; one that has not begun never will."""
        child = child_of(vect, step, self.attempts[vect, step])
        if child in self.waiting:
            self.waiting.remove(child)
            self.inbox.append(partial(self._tell, child, "cancelled"))
        else:
            self.inbox.append(partial(self.cancel, child))

    def _note_end(self, vect: str) -> None:
        """Take note of a Vect that has ended just now: that is known when the tick ends."""
        if self.state(vect) in ("success", "failed", "cancelled"):
            self.asked.append(partial(self._end_vect, vect, self.state(vect)))

    def _end_vect(self, vect: str, state: str) -> None:
        self.open.discard(vect)
        self.asked.append(partial(self._hand_on, vect, state))

    def _hand_on(self, vect: str, state: str) -> None:
        if vect in self.parents:
            self.inbox.append(partial(self._tell, vect, state))
        self.let_children_begin()
        if self.timetable is not None and self.timetable.is_waiting:
            self.inbox.append(self.nudge)

    def _tell(self, child: str, state: str) -> None:
        """Tell the step of a child that has ended."""
        vect, step, attempt = child.rsplit("/", 2)
        cause: Exception | None = RuntimeError() if state == "failed" else None
        if child in self.late:
            state, cause = "failed", TimeoutError()
        self.answer(vect, step, int(attempt), "failed" if state != "success" else state, cause)


class Timetable:
    """What a plan should do: when it is due, and whether a time that finds no room waits.

    Args:
        model: Of the app.
        start: The time at which the seconds of the model begin.
        every: After how many seconds it is due again.
        params: What it starts a Vect with.
        at_once: How many Vects of the flow may be open.
        waits: Whether every time counts.
    """

    def __init__(
        self,
        model: Model,
        start: datetime,
        every: float,
        params: dict[str, Any],
        at_once: int,
        *,
        waits: bool,
    ) -> None:
        self.model, self.start, self.params, self.at_once = model, start, params, at_once
        self.every, self.waits = every, waits
        self.next = model.now + every
        self.is_waiting = False

    def look(self) -> None:
        """Start a Vect for each time that has come, if there is room for it."""
        self.is_waiting = False
        while self.next <= self.model.now:
            if self._has_room():
                time = (self.start + timedelta(seconds=self.next)).isoformat()
                self.model.start(f"flow@{time.replace('+00:00', 'Z')}", **self.params)
            elif self.waits:
                self.is_waiting = True
                return
            self.next += self.every
        self.model.alarms.append(Alarm(self.next, "plan", "", "", 0))

    def _has_room(self) -> bool:
        states = [self.model.state(vect) for vect in self.model.steps if "/" not in vect]
        return states.count("running") + states.count("paused") < self.at_once
