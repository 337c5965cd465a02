"""A model of an app: what it should do with the Vects of a flow, and of one that its steps run.

It knows neither events nor machines nor signals. As the app does, it takes what has come in, all of
it, and after each all that follows; then it does what was asked for meanwhile: a tick. What a
person asks for while nobody drives is a tick of its own, and what has come in waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from .known import (
    AT_ONCE,
    ENDS,
    NO_WORKER,
    OPEN,
    UNDO,
    Alarm,
    Attempt,
    Known,
    declared,
    is_child,
)

SHIFT = 0.25
"""By so much deadlines are longer than drawn: so none passes at an instant of something else."""
LATER = 5
"""A step returns the time that it is so many seconds after its end."""


class Model(Known):
    """What an app should do; arguments as of `Known`."""

    # What is done to it

    def do(self, call: Callable[[], object]) -> None:
        """Do at once what a person asks for, and nothing else that has come in."""
        self._tick([call])

    def start(
        self, vect: str, *, waits: bool = False, after: str | None = None, **params: Any
    ) -> None:
        self._admit(vect, params)
        if after is not None:
            self.after[vect] = after
        if not waits:
            self.open.add(vect)
        if self._enter(vect):
            self.inbox.append(partial(self._begin, vect))

    def _admit(self, vect: str, params: dict[str, Any]) -> None:
        self.params[vect] = params
        self.steps[vect] = dict.fromkeys(self.graph_of(vect), "pending")
        self.order[vect] = []

    def _enter(self, vect: str) -> bool:
        """Have a Vect that was just created stand in line; whether it has a place."""
        if vect not in self.open and not self.is_in_line(vect):
            self._stand(vect)
            self._move_line(is_child(vect))
        return vect in self.open

    def _stand(self, vect: str) -> None:
        """Have a Vect stand in line, or be held while the one before it is open."""
        before = self.open_before(vect)
        if before is None:
            self.lines[is_child(vect)].append(vect)
        else:
            self.held[vect] = before

    def _move_line(self, children: bool) -> list[str]:
        """Give places to the first in line, as long as there is room."""
        called, line = [], self.lines[children]
        while line and sum(is_child(vect) is children for vect in self.open) < self.most[children]:
            called.append(line.pop(0))
            self.open.add(called[-1])
        return called

    def _leave(self, vect: str) -> None:
        self.open.discard(vect)
        line = self.lines[is_child(vect)]
        if vect in line:
            line.remove(vect)
        self.held.pop(vect, None)
        self._call(is_child(vect))
        for behind in [each for each, before in self.held.items() if before == vect]:
            del self.held[behind]
            self._stand(behind)
            self._call(is_child(behind))

    def _call(self, children: bool) -> None:
        for each in self._move_line(children):
            has_turn = self._go_on_in if each in self.going_on else self._begin
            self.inbox.append(partial(has_turn, each))

    def _begin(self, vect: str) -> None:
        if self.is_draining:
            return  # the next life has it begin
        if self.state(vect) != "pending":
            return  # it was cancelled before, or has begun in an earlier life
        self.created.setdefault(vect)
        if not self._enter(vect):
            return
        self.begun.add(vect)
        self.started.add(vect)
        self._limit_run(vect)
        graph = self.graph_of(vect)
        roots = [step for step, before in graph.items() if not before]
        at_once = [step for step in graph if self.made[step].trigger_rule == "always"]
        self.looks += [(vect, step) for step in (*roots, *at_once)]

    def end(self, vect: str, step: str, attempt: int, state: str, told: Any = None) -> None:
        """Have a worker end: `told` is what a branch chooses, or how long the list of a step is."""
        self.busy -= 1
        self._hear(vect, step, attempt)
        if attempt < 0:
            self._end_undoing(vect, step, attempt, state)
            return
        is_late = self.steps[vect][step] != "running" or self.attempts[vect, step] != attempt
        if state == "success" and not is_late:
            if self.kind(step) == "branch":
                self._choose(vect, step, told)
            else:
                self.lists[vect, step] = told
                self.times[vect, step] = self.now + LATER
        self.answer(vect, step, attempt, state, RuntimeError())

    def lose(self, vect: str, step: str, attempt: int) -> None:
        """Have a worker be lost: nobody knows how much of its work is done."""
        if self.steps[vect][step] == "running" and self.attempts[vect, step] == attempt:
            self.cut.add((vect, step))
        self.end(vect, step, attempt, "failed")

    def _hear(self, vect: str, step: str, attempt: int) -> None:
        """Take note that an attempt is at work no more: it may be that its step waits for that."""
        if (vect, step, attempt) in self.at_work:
            self.at_work.remove((vect, step, attempt))
            self.untold.discard((vect, step, attempt))
            self.kept.pop((vect, step, attempt), None)
            places = [(vect, step), *self.above(vect, step, attempt)]
            for vect, step in places:
                if self.steps[vect][step] != "running" and not self.lingers(vect, step):
                    self.looks.append((vect, step))
                self._look_behind(vect, step)

    def _look_behind(self, vect: str, step: str) -> None:
        """Look at what waits for the end of an attempt whose step is over."""
        self.looks += [(vect, name) for name in self.dependants_of(vect, declared(step))]
        self.looks.append((vect, ""))

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
        if isinstance(cause, TimeoutError) and self.kind(step) != "approval":
            self.cut.add((vect, step))
        made = self.made[declared(step)]
        policy = made.retry if self.kind(step) not in AT_ONCE else None
        if state == "failed" and policy and (cause is None or policy.covers(cause)):
            self.failures[vect, step] += 1
            delay = policy.decide(self.failures[vect, step], 0.5, is_covered=True)
            if delay is not None:
                self._move(vect, step, "up_for_retry")
                self._set_alarm(delay, "release", vect, step)
                return
        if state == "skipped":
            self.own_skips.add((vect, step))
        self._move(vect, step, state)

    def cancel(self, vect: str) -> None:
        if self.state(vect) == "ending":
            self._end_clean_up(vect)
        elif self.state(vect) in ("pending", "running", "paused"):
            if vect not in self.created:
                self.created.setdefault(vect)
                self._enter(vect)
            self._wind_up(vect, "cancelled")

    def _wind_up(self, vect: str, to: str) -> None:
        """Cancel what is open but for what cleans up, and have that done."""
        has_clean_up = any(self.is_to_be_undone(vect, step) for step in self.steps[vect])
        is_open = [step for step, state in self.steps[vect].items() if state in OPEN]
        left = [s for s in is_open if self.made[declared(s)].teardown and vect in self.begun]
        for step in left:
            is_begun = self.steps[vect][declared(step)] != "pending"
            has_clean_up = has_clean_up or is_begun or self.was_set_up(vect, step)
        for step in () if has_clean_up else left:
            self._put_down(vect, step, "skipped")
        for step in is_open:
            if step not in left:
                self._put_down(vect, step, "cancelled")
        self.paused.discard(vect)
        self._lose_turns(vect)
        if has_clean_up:
            self.ends_as[vect] = to
            self._look_at_clean_up(vect)
        else:
            self._end_vect(vect, to)

    def _put_down(self, vect: str, step: str, state: str) -> None:
        """Cancel a step, or skip it."""
        before, self.steps[vect][step] = self.steps[vect][step], state
        self.order[vect].append(step)
        self.deadlines.pop((vect, step), None)
        self.looks += [(vect, name) for name in self.dependants_of(vect, step)]
        if step != declared(step):
            self._look_at_map(vect, declared(step))
        if before != "running":
            return
        self.cut.add((vect, step))
        attempt = (vect, step, self.attempts[vect, step])
        if self.kind(step) == "flow":
            self.orphans.append(self.child_of(*attempt))
            self.effects.append(partial(self._give_up, vect, step))
        elif self.kind(step) not in NO_WORKER:
            self.untold.add(attempt)  # it is told, and nobody promises that it ends soon
            self.effects.append(lambda: self.inbox.append(partial(self._be_told, attempt)))

    def _be_told(self, attempt: tuple[str, str, int]) -> None:
        self.untold.discard(attempt)
        for place in (attempt[:2], *self.above(*attempt)):
            self._look_behind(*place)

    def _end_clean_up(self, vect: str) -> None:
        """End what cleans up: what runs of it first."""
        left = [step for step, state in self.steps[vect].items() if state in OPEN]
        at_it = [step for step in left if self.steps[vect][declared(step)] != "pending"]
        for step in at_it or left:
            self._put_down(vect, step, "cancelled")
        if left:
            self.looks.append((vect, ""))

    def _end_vect(self, vect: str, state: str) -> None:
        (self.cancelled if state == "cancelled" else self.failed).add(vect)
        self._note_over(vect)

    def _lose_turns(self, vect: str) -> None:
        self.due = [each for each in self.due if each[0] != vect]

    def _look_at_clean_up(self, vect: str) -> None:
        names = [step for step in self.steps[vect] if self.made[declared(step)].teardown]
        self.looks += [*((vect, step) for step in names), (vect, "")]

    def _look_at_end(self, vect: str) -> None:
        """Look at what is due for a Vect whose steps are over, or shall be."""
        if vect in self.failing:
            self.failing.discard(vect)
            if any(state in OPEN for state in self.steps[vect].values()):
                self._wind_up(vect, "failed")
            else:
                self._note_end(vect)
            return
        if vect not in self.ends_as or any(s in OPEN for s in self.steps[vect].values()):
            return
        step = self.next_to_undo(vect)
        if step is None:
            self._end_vect(vect, self.ends_as.pop(vect))
        elif self.is_draining:
            return
        elif (vect, step) not in self.undone and not self.lingers(vect, step):
            self._begin_undoing(vect, step)

    def _begin_undoing(self, vect: str, step: str) -> None:
        self.undone[vect, step] = "running"
        self.undoings[vect, step] += 1
        place = (vect, f"{step}{UNDO}")
        self.effects.append(lambda: self.inbox.append(lambda: self.due.append(place)))

    def _undo(self, vect: str, step: str) -> None:
        """Have a worker undo what a step has done."""
        self.busy += 1
        attempt = -self.undoings[vect, step]
        self.at_work.add((vect, step, attempt))
        made = self.made[declared(step)]
        if made.timeout is not None and made.kind not in ("wait", "approval"):
            alarm = Alarm(self.now + made.timeout, "undoing is late", vect, step, attempt)
            self.alarms.append(alarm)

    def _end_undoing(self, vect: str, step: str, attempt: int, state: str) -> None:
        made = self.made[declared(step)]
        cause: Exception = RuntimeError()
        if (vect, step, attempt) in self.late_undoings:
            state, cause = "failed", TimeoutError()
        policy = made.retry if made.kind not in ("wait", "approval") else None
        if state != "failed":
            self.undone[vect, step] = "done"
        elif policy is not None and policy.covers(cause):
            self.not_undone[vect, step] += 1
            delay = policy.decide(self.not_undone[vect, step], 0.5, is_covered=True)
            self.undone[vect, step] = "failed" if delay is None else "waiting"
            if delay is not None:
                self.alarms.append(Alarm(self.now + delay, "undo again", vect, step, attempt))
        else:
            self.undone[vect, step] = "failed"
        self.looks.append((vect, ""))

    def _watch(self, vect: str, step: str) -> None:
        """Have it told when a step has not ended by its deadline, or a Vect; once."""
        made = self.made.get(step)  # none of a child has a deadline, nor an item of a map
        of_vect = None if step or is_child(vect) else self.deadline
        seconds = made.deadline if made else of_vect
        place = (vect, step)
        if seconds is not None and place not in self.deadlines and place not in self.told_late:
            self.deadlines[place] = self.now + seconds + SHIFT
            self.alarms.append(Alarm(self.deadlines[place], "deadline", *place, 0))

    def _limit_run(self, vect: str) -> None:
        self._watch(vect, "")
        if self.run_timeout is not None and not is_child(vect):
            self.alarms = [a for a in self.alarms if (a.vect, a.kind) != (vect, "run is late")]
            self.alarms.append(Alarm(self.now + self.run_timeout, "run is late", vect, "", 0))

    def pause(self, vect: str) -> None:
        if self.state(vect) == "pending":
            self._begin(vect)  # so that the pause holds when somebody drives
        if self.state(vect) == "running":
            self.paused.add(vect)
            self._lose_turns(vect)
            self._look_at_clean_up(vect)

    def resume(self, vect: str) -> None:
        if self.state(vect) != "paused":
            return
        self.paused.discard(vect)
        self.looks += [(vect, step) for step in self.steps[vect]]

    def retry(self, vect: str) -> None:
        states = self.steps[vect]
        ends = ("failed", "upstream_failed", "cancelled")
        bad = {step for step, state in states.items() if state in ends}
        undone = {step for step in states if self.undone.get((vect, step)) == "done"}
        again = self._reach(vect, bad | undone | {declared(step) for step in undone})
        while more := self._torn_down_before(vect, again) - again:
            again = self._reach(vect, again | more)
        for step in again:
            if (vect, step) in self.has_run and self.kind(step) == "flow":
                if states[step] != "success":
                    self.left[vect, step] = self.child_of(vect, step, self.attempts[vect, step])
                self.has_run.remove((vect, step))
            states[step] = "pending"
            self.failures[vect, step] = 0
            self.was_begun.discard((vect, step))
            if step in undone:
                self.cut.discard((vect, step))
            self.released.discard((vect, step))
            self.own_skips.discard((vect, step))
            if self.kind(step) == "branch":
                self.shunned -= {(vect, name) for name in self.dependants_of(vect, step)}
        for step in states:
            self.undone.pop((vect, step), None)
            self.not_undone[vect, step] = 0
        self.order[vect] = [step for step in self.order[vect] if step not in again]
        self.failed.discard(vect)
        self._limit_run(vect)
        self.cancelled.discard(vect)
        self.paused.discard(vect)
        self.begun.add(vect)
        if is_child(vect):
            self.reopened.add(vect)
        self.open.add(vect)
        self.looks += [(vect, step) for step in states]
        self.looks.append((vect, ""))
        self._note_end(vect)  # perhaps there is nothing to do again

    def _reach(self, vect: str, again: set[str]) -> set[str]:
        """Return steps and what waits for them, and for these."""
        reached = set(again)
        for step in (*self.graph_of(vect), *self.steps[vect]):
            if reached.intersection(self.upstreams(vect, declared(step))):
                reached.add(step)
        return reached

    def _torn_down_before(self, vect: str, again: set[str]) -> set[str]:
        """Return what was torn down of what comes before work that is done again."""
        found: set[str] = set()
        for name in self.graph_of(vect):
            if (vect, name) not in self.was_begun:
                continue
            for set_up in (each.name for each in self.made[name].teardown_of):
                behind = self._reach(vect, {set_up}) & again
                if any(not self.made[declared(step)].teardown for step in behind):
                    found |= {set_up, name}
        return found

    def drain(self) -> None:
        """Begin nothing any more, behind all that has come in; whoever waits to start does not."""
        self.inbox.append(self._begin_nothing)
        self.let_time_pass(self.now)

    def _begin_nothing(self) -> None:
        self.is_draining = True
        self.due = [place for place in self.due if place[1].endswith(UNDO)]

    def die(self) -> None:
        """The program dies and is run again: what ran is pending, and whoever waited waits anew."""
        self.is_draining = False
        self.due, self.busy, self.inbox = [], 0, []
        self.waiters, self.going_on = {}, {}
        self.at_work, self.kept, self.untold, self.late_undoings = set(), {}, set(), set()
        self.undone = {place: how for place, how in self.undone.items() if how != "running"}
        for vect in [each for each in self.steps if each not in self.created]:
            del self.steps[vect], self.params[vect]
        ended = ("success", "failed", "cancelled")
        self.open = {v for v in self.steps if self.state(v) not in ("pending", *ended)}
        pending = [vect for vect in self.created if self.state(vect) == "pending"]
        self.lines, self.held = {True: [], False: []}, {}
        for vect in pending:
            self._stand(vect)
        vects = sorted(self.steps, key=lambda vect: not self.keeps_slots(vect))  # these go first
        places = [(vect, step) for vect in vects for step in self.steps[vect]]
        kept = [alarm for alarm in self.alarms if self._is_kept(alarm)]
        places_of_alarms = [*((vect, "") for vect in vects), *places]
        self.alarms = sorted(kept, key=lambda a: places_of_alarms.index((a.vect, a.step)))
        running = [(vect, step) for vect, step in places if self.steps[vect][step] == "running"]
        for vect, step in running:
            if self.kind(step) not in NO_WORKER:
                self.steps[vect][step] = "pending"
                self.cut.add((vect, step))
        # Children are asked for again when all has been done that is due by then.
        self.inbox.append(
            lambda: self.effects.extend(
                partial(self._run_child, vect, step, self.attempts[vect, step])
                for vect, step in running
                if self.kind(step) == "flow"
            )
        )
        for vect in vects:
            if self.state(vect) != "pending":
                self.looks += [*(place for place in places if place[0] == vect), (vect, "")]
        for kind in dict.fromkeys(map(is_child, pending)):
            for vect in self._move_line(kind):
                self._begin(vect)

    def _is_kept(self, alarm: Alarm) -> bool:
        if alarm.kind in ("plan", "undoing is late"):
            return False
        if alarm.kind in ("run is late", "deadline"):
            return alarm.vect in self.steps
        if alarm.kind == "undo again":
            return self._is_to_be_undone_again(alarm)
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
        ended, self.ended = self.ended, []
        for vect in ended:
            self._leave(vect)
        effects, self.effects = self.effects, []
        for effect in effects:
            effect()
        for attempt in self.at_work:
            if attempt not in self.kept and (above := self.above(*attempt)):
                self.kept[attempt] = [] if attempt[0] in self.reopened else above
        if self.is_look_due and self.timetable is not None and not self.is_draining:
            self.timetable.look()
        self.is_look_due = False
        for vect in ended:
            self._hand_on(vect)

    def nudge(self) -> None:
        """Have the tick look at the timetable."""
        self.is_look_due = True

    def _set_alarm(self, seconds: float, kind: str, vect: str, step: str) -> None:
        attempt = self.attempts[vect, step]
        self.alarms.append(Alarm(self.now + seconds, kind, vect, step, attempt))

    def _is_to_be_undone_again(self, alarm: Alarm) -> bool:
        is_its = self.undoings[alarm.vect, alarm.step] == -alarm.attempt
        return is_its and self.undone.get((alarm.vect, alarm.step)) == "waiting"

    def _ring(self, alarm: Alarm) -> None:
        match alarm.kind:
            case "plan":
                self.nudge()
            case "deadline":
                if self.deadlines.get(alarm[2:4]) == alarm.when:
                    del self.deadlines[alarm[2:4]]
                    self.told_late.append(alarm[2:4])
            case "run is late":
                if self.state(alarm.vect) in ("running", "paused"):
                    self._wind_up(alarm.vect, "failed")
            case "undo again":
                if self._is_to_be_undone_again(alarm):
                    self._begin_undoing(alarm.vect, alarm.step)
            case "undoing is late":
                if alarm[2:] in self.at_work:
                    self.late_undoings.add(alarm[2:])
            case _:
                self._ring_for_step(alarm)

    def _ring_for_step(self, alarm: Alarm) -> None:
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
            self.late.add((*place, alarm.attempt))  # it has failed when its child has ended
            self._give_up(*place)

    # Steps

    def _move(self, vect: str, step: str, state: str) -> None:
        """Have a step be in another state, and those looked at that this may concern."""
        before, self.steps[vect][step] = self.steps[vect][step], state
        if state not in OPEN:
            self.order[vect].append(step)
            self.deadlines.pop((vect, step), None)
        ends_all = self.fails_fast and not is_child(vect) and vect not in self.ends_as
        if state == "failed" and ends_all and not self.made[declared(step)].allow_failure:
            self.failing.add(vect)
            self.looks.append((vect, ""))
            return
        if state not in OPEN:
            self.looks += [(vect, name) for name in self.dependants_of(vect, step)]
        if self.kind(step) == "map" and before == "pending":
            self.looks += [(vect, name) for name in (*self.instances(vect, step), step)]
        if step != declared(step):
            self._look_at_map(vect, declared(step))
        self._note_end(vect)

    def _look_at_map(self, vect: str, step: str) -> None:
        """Look at a map itself if all its instances have ended."""
        if not any(self.steps[vect][name] in OPEN for name in self.instances(vect, step)):
            self.looks.append((vect, step))

    def _settle(self) -> None:
        while True:
            while self.looks or self.orphans:
                if self.looks:
                    self._look(*self.looks.pop(0))
                elif (child := self.orphans.pop(0)) in self.steps:
                    self.cancel(child)
            place = self.next_turn()
            if place is None:
                return
            self.due.remove(place)
            if place[1].endswith(UNDO):
                self._undo(place[0], place[1].removesuffix(UNDO))
            elif self.verdict(*place) == "start":
                self._start_step(*place)

    def _look(self, vect: str, step: str) -> None:
        if not step:
            self._look_at_end(vect)
            return
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
            case "start" if self.is_draining:
                pass
            case "start" if step == declared(step) and self.is_being_ended(vect, step):
                pass  # as below
            case "start" if (vect, step) not in self.due and not self.lingers(vect, step):
                self.due.append((vect, step))  # else it is looked at again when that has answered

    def _start_step(self, vect: str, step: str) -> None:
        self.attempts[vect, step] += 1
        self.was_begun.add((vect, step))
        self.released.discard((vect, step))
        self._watch(vect, step)
        kind, timeout = self.kind(step), self.made[declared(step)].timeout
        if kind == "map":
            self._expand(vect, step)
        self._move(vect, step, "running")
        if kind == "wait":
            self._wait(vect, step)
        elif timeout is not None and kind != "map":
            self._set_alarm(timeout, "time is up", vect, step)
        if kind not in NO_WORKER:
            self.busy += 1
            self.effects.append(partial(self.at_work.add, (vect, step, self.attempts[vect, step])))
        elif kind == "flow":
            self.has_run.add((vect, step))
            left = self.left.pop((vect, step), None)
            if left is not None and self.may_go_on(left):
                self.children_of[vect, step, self.attempts[vect, step]] = left
            self.effects.append(partial(self._run_child, vect, step, self.attempts[vect, step]))

    def _wait(self, vect: str, step: str) -> None:
        source = self.source_of(step)
        if source is None:
            self._set_alarm(3, "waited", vect, step)
        elif self.steps[vect][source] == "success" and self.lists[vect, source] is not None:
            seconds = max(0.0, self.times[vect, source] - self.now)
            self._set_alarm(seconds, "waited", vect, step)
        else:  # there is no such time
            self._move(vect, step, "failed")

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
        own = (vect, step, attempt)
        child = self.child_of(*own)
        self.at_work.add(own)
        is_to_begin = child not in self.steps or self.is_to_go_on(child, own)
        self.waiters[child] = own
        if not is_to_begin:  # it is there since an earlier life, or somebody has retried it
            if self.state(child) in ENDS:
                self._end_child(child, self.state(child))
        elif self.steps[vect][step] != "running":  # it was cancelled in the tick that began it
            self._end_child(child, "cancelled")
        else:
            self._begin_child(child, own)

    def _begin_child(self, child: str, attempt: Attempt) -> None:
        """Have a child begin, or go on; it waits for its turn."""
        if child not in self.steps:
            self.parents[child] = attempt
            self._admit(child, {})
            self.inbox.append(partial(self._begin, child))
            return
        self.going_on[child] = attempt
        if self._enter(child):
            self.inbox.append(partial(self._go_on_in, child))

    def _go_on_in(self, child: str) -> None:
        """Have a child go on, unless the attempt is over for which it was to."""
        attempt = self.going_on.pop(child)
        if self.state(child) not in ENDS:
            return  # somebody has retried it
        if self.state(child) == "success" or not self.is_running(*attempt):
            self.ended.append(child)
            return
        self.parents[child] = attempt
        self.retry(child)
        self.reopened.discard(child)

    def _give_up(self, vect: str, step: str) -> None:
        """Cancel the child of a step; one that has not begun never will."""
        child = self.child_of(vect, step, self.attempts[vect, step])
        if self.is_in_line(child) and child in self.going_on:
            del self.going_on[child]
            self._leave(child)
            self._end_child(child, "cancelled")
        elif child in self.steps:
            self.inbox.append(partial(self.cancel, child))

    def _note_end(self, vect: str) -> None:
        """Take note of a Vect that has ended just now: that is known when the tick ends."""
        if vect in self.ends_as:
            self.looks.append((vect, ""))
        elif self.state(vect) == "failed" and self.next_to_undo(vect) is not None:
            self.ends_as[vect] = "failed"
            self.paused.discard(vect)
            self.looks.append((vect, ""))
        elif self.state(vect) in ("success", "failed"):
            self._note_over(vect)

    def _note_over(self, vect: str) -> None:
        self.deadlines.pop((vect, ""), None)
        self.ended.append(vect)
        if is_child(vect):
            parent, step, _ = vect.rsplit("/", 2)
            attempt = (parent, step, self.attempts[parent, step])
            if self.is_running(*attempt) and self.child_of(*attempt) == vect:
                self.over_for[vect] = attempt

    def _hand_on(self, vect: str) -> None:
        if is_child(vect):
            self._end_child(vect, self.state(vect))
        if self.timetable is not None and self.timetable.is_waiting:
            self.inbox.append(self.nudge)

    def _end_child(self, child: str, state: str) -> None:
        """Have the attempt told that waits for the end of a child, if one does."""
        attempt = self.waiters.pop(child, None)
        if attempt is not None:
            self.inbox.append(partial(self._tell, attempt, state))

    def _tell(self, attempt: Attempt, state: str) -> None:
        """Tell an attempt that its child has ended."""
        self._hear(*attempt)
        cause: Exception | None = RuntimeError() if state == "failed" else None
        if attempt in self.late:
            state, cause = "failed", TimeoutError()
        self.answer(*attempt, "failed" if state != "success" else state, cause)


class Timetable:
    """What a plan should do: when it is due, and whether a time that finds no room waits.

    Args:
        model: Of the app.
        start: The time at which the seconds of the model begin.
        every: After how many seconds it is due again.
        params: What it starts a Vect with.
        waits: Whether every time counts.
    """

    def __init__(
        self,
        model: Model,
        start: datetime,
        every: float,
        params: dict[str, Any],
        *,
        waits: bool,
    ) -> None:
        self.model, self.start, self.params = model, start, params
        self.every, self.waits = every, waits
        self.next = model.now + every
        self.is_waiting = False

    def id_at(self, seconds: float) -> str:
        """Return the id of the Vect of a time."""
        time = (self.start + timedelta(seconds=seconds)).isoformat()
        return f"flow@{time.replace('+00:00', 'Z')}"

    def missing(self, first: int, last: int) -> list[str]:
        """Return the ids of the past times that have no Vect, counted back from the next one."""
        times = [self.next - self.every * back for back in range(first, last - 1, -1)]
        own = [
            each for each in times if each > self.model.now or (self.waits and each >= self.next)
        ]
        ids = [self.id_at(each) for each in times if each not in own]
        return [each for each in ids if each not in self.model.steps]

    def look(self) -> None:
        """Start a Vect for each time that has come, if there is room for it."""
        self.is_waiting = False
        while self.next <= self.model.now:
            if not self.model.is_full(children=False):
                self.model.start(self.id_at(self.next), **self.params)
            elif self.waits:
                self.is_waiting = True
                return
            self.next += self.every
        self.model.alarms.append(Alarm(self.next, "plan", "", "", 0))
