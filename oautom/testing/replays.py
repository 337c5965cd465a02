"""`assert_replays`: would the code of today decide as the log says that was decided?"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from itertools import dropwhile, takewhile
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

from msgspec import structs

from oautom.engine.messages import Call, Nudge
from oautom.engine.scheduler import Scheduler
from oautom.errors import OAutomError, SettingError, shown
from oautom.events.log import EventLog
from oautom.events.memory import MemoryEventLog
from oautom.flows.flow import Flow
from oautom.flows.params import NO_PARAMS
from oautom.machine.commands import (
    Begin,
    Cancel,
    Command,
    Finished,
    Passed,
    Pause,
    Release,
    Resume,
    Retry,
)
from oautom.machine.deadlines import RUN_TIMEOUT
from oautom.machine.event import NO_DATA, Event, is_answer, is_of_plan
from oautom.machine.kinds import kind_of
from oautom.machine.maps import map_of
from oautom.machine.state import (
    LOST,
    NO_OPTIONS,
    Compensation,
    Group,
    Options,
    StepState,
    limits_of,
    replay,
)
from oautom.machine.tables import COMPENSATION_EVENTS, UNDONE_EVENTS, VECT_CREATED, VECT_ENDS
from oautom.steps.bash import BashExecution
from oautom.steps.execution import Execution
from oautom.testing.simulation import tell_nobody
from oautom.values.names import check_max_workers
from oautom.vects.run import Run
from oautom.vects.vect import Vect
from oautom.workers.base import Done, Job, Workers

Place = tuple[str, str | None, int | None]
"""An attempt: Vect, step and number."""

Slot = tuple[str, str | None, Group]
"""A slot that a step of another Vect has: by Vect and step, and what it is of."""

_USUAL = object()

_CLOSES: Final = ("step.interrupted", "step.failed", "step.blocked", "step.skipped")
"""What a recovery tells of the steps that ran, and of those that depend on them."""

_FAILURES: Final = ("step.failed", "step.retried", "step.compensation_failed")
_WOUND_UP: Final = ("vect.ending", "vect.failed", "vect.cancelled")
_WINDS_UP: Final = ("step.cancelled", "step.skipped", *_WOUND_UP)
"""What may come first, where all of a Vect is ended before its time; and what is last of it."""

_BEGINS: Final = ("step.started", "step.compensating")

_AGES = 1e12
"""Seconds: more than any program was down."""


class ReplayDiffersError(OAutomError, AssertionError):
    """The code or the flow of today decides otherwise than the log says.

    Attributes:
        vect: Id of the Vect.
        seq: Number of the event at which they part; after the last one, the number that would be
            next.
        then: What was decided then, or `nothing`.
        now: What is decided now, or `nothing`.
    """

    def __init__(self, flow: str, vect: str, seq: int, then: str, now: str) -> None:
        super().__init__(
            f"vect {vect} of flow '{flow}' parts from its log at event {seq}: "
            f"then: {then}; now: {now}",
            flow=flow,
        )
        self.vect = vect
        self.seq = seq
        self.then = then
        self.now = now


def assert_replays(
    log: EventLog | Vect | Iterable[Event], flow: Flow, *, max_workers: int | None = None
) -> None:
    """Drive the scheduler with the recorded answers, and hold what it decides against the log.

    Every Vect of the flow in the log is replayed by itself: with the graph of today, its
    parameters, which must fit those that the flow declares today, the answers of its steps and the
    wishes of its people as they came. When a step starts depends on free workers too, so a start
    may come as late as it did, unless the log shows that a worker was free: fewer steps were under
    way than at another time, or than there are workers. Behind the last start of a life of the
    program it may have been draining, so none is asked for. Which one starts, and all else, must
    agree.
    Slots of a pool are taken by other Vects as the log has it, so give the whole log where there
    are some. An attempt that was cancelled or abandoned, or has run a flow, keeps its slot until
    the log tells that it has answered, or needs the slot for another start: of the end of some it
    tells nothing.

    Where all is decided alike, the options of the steps and the flow must be those that the log
    tells of, too: a `timeout` that no attempt has come near decides the next run, if not this one.

    Args:
        log: A log, a Vect, or events.
        flow: The flow as it is today.
        max_workers: How many steps could run at once; None where that is not known.

    Raises:
        ReplayDiffersError: Something would be decided otherwise, or an option is another one; an
            `AssertionError` too.
        SettingError: An argument cannot be used, or the log has no Vect of this flow.
        FlowError: `flow.validate()` refuses the flow.
    """
    if not isinstance(flow, Flow):
        raise SettingError(f"assert_replays() needs a Flow, not {shown(flow)}")
    check_max_workers(max_workers)
    flow.validate()
    events = _events_of(log)
    loads = _loads(events, flow)
    in_pools = _in_pools(events)
    by_vect: dict[str, list[Event]] = {}
    for event in events:
        if event.flow == flow.name and not is_of_plan(event):
            by_vect.setdefault(event.vect, []).append(event)
    if not by_vect:
        raise SettingError(f"the log has no vect of flow '{flow.name}'", flow=flow.name)
    for vect, history in by_vect.items():
        others = [each for each in in_pools if each[0].vect != vect]
        free = _surely_free(history, loads, max_workers or 0)
        _Replay(flow, vect, history, free, others).run()
    for vect, history in by_vect.items():
        _check_options(flow, vect, history)


def _events_of(log: EventLog | Vect | Iterable[Event]) -> list[Event]:
    if isinstance(log, Vect):
        return log.events()
    if not isinstance(log, Iterable) and not hasattr(log, "read"):
        raise SettingError(f"assert_replays() needs a log, a Vect or events, not {shown(log)}")
    return list(log.read() if hasattr(log, "read") else log)


class _Replay(MemoryEventLog, Workers):
    """The log, the clock and the workers of a scheduler that does again what it did."""

    def __init__(
        self,
        flow: Flow,
        vect: str,
        history: list[Event],
        surely_free: frozenset[int],
        others: list[tuple[Event, Group, bool]],
    ) -> None:
        super().__init__()
        self._flow = flow
        self._vect = vect
        self._history = history
        self._of_options = _of_options(history)
        self._is_at_rest = _is_at_rest(history)
        self._surely_free = surely_free
        self._others = deque(others)  # what the steps of other Vects do that have a pool
        # Slots that they have, each by the step and what it is of; and whether it outlives them.
        self._slots: dict[Slot, bool] = {}
        # Of these, attempts that are over, and may be at work still:
        self._lingering: dict[Slot, int | None] = {}
        self.has_loop: bool = history[0].data.get("loop", False)
        self._seconds = 0.0
        self._at = 0  # the next event to hold against
        self._differs: ReplayDiffersError | None = None
        self._run = Run(flow, vect)
        self._scheduler = Scheduler(self, self, self, tell=tell_nobody)
        self._params = history[0].data.get("params", NO_PARAMS)
        self._run = Run(flow, vect, self._params)
        self._scheduler.registry.take(self._run)
        self._scheduler.put(Call(vect, partial(self._scheduler.create_alone, self._run)))
        self._hear_others()

    def run(self) -> None:
        """Replay the Vect to the end of its log."""
        if changed := self._flow.params.differences(self._params):
            raise self._difference("; ".join(changed))
        self._catch_up()
        while self._at < len(self._history):
            before = self._at
            event = self._history[self._at]
            if event.name == "vect.recovered":
                self._go_on(event)
            elif event.name == "step.reset":
                self._let_go_of_the_dead()
                self._scheduler.put(Nudge())
                self._catch_up()  # nobody waits for them: their Vect is over
            elif event.name in _BEGINS:
                self._let_go_of_what_is_over(event)
            command = self._asked_by(event)
            if isinstance(command, Finished):  # no worker is there to tell that it is at work
                key, runner = (command.vect, command.step, command.attempt), self._scheduler.runner
                runs_a_flow = command.attempt > 0 and self._runs_a_flow(command.step)
                may_linger = "abandoned" in event.data or runs_a_flow
                (runner.abandon if may_linger else runner.forget)(key)
                runner.lingering.end_promise(key)  # so nobody waits for it
            self._scheduler.put(command or Nudge())
            self._catch_up()
            if self._at == before and not self._make_room():
                raise self._difference("nothing")

    def _runs_a_flow(self, step: str) -> bool:
        """Whether the work of a step is that of its child, of which the log tells elsewhere."""
        return step in self._run.state.steps and self._run.state.steps[step].kind == "flow"

    def _go_on(self, event: Event) -> None:
        """Do what the program did when it was run again."""
        self._run = Run(self._flow, self._vect)
        self._run.state = replay(self.read())[self._vect]
        self._run.shown = self._run.state.state
        self._scheduler = Scheduler(self, self, self, tell=tell_nobody)
        for slot in self._slots:
            self._scheduler.queue.take_slot(slot[2], slot)
        if self._is_paused_at_once(event):  # it was asked for before its turn had come
            pause = partial(self._scheduler.obey, self._run, Pause(self._vect))
            self._scheduler.put(Call(self._vect, pause))
        self._scheduler.take_over([self._run])

    def _let_go_of_the_dead(self) -> None:
        """Let go of attempts that were cut short and never answer: their program has ended.

        No other event tells so where their Vect had ended before it. One whose step does not start
        again while this program lives, as far as the log tells, may be at work still.
        """
        left = list(takewhile(_goes_on, self._history[self._at :]))
        told = {(e.step, e.attempt) for e in left if e.name == "step.late_result"}
        begun = {e.step for e in left if e.name == "step.started"}
        for step in self._run.state.steps.values():
            if (step.name, step.attempt) not in told and step.name in begun:
                self._scheduler.runner.forget((self._vect, step.name, step.attempt))

    def _asked_by(self, event: Event) -> Command | None:
        """Return the command that stands behind an event, if it was not decided by the engine."""
        command = _asked_by(event)
        if event.name in _WINDS_UP and not is_answer(event):
            return self._wound_up_by(event)
        if event.name == "step.compensating":  # its time was up
            return Release(event.vect, event.step or "", 1 - (event.attempt or 0))
        if event.name == "vect.started" and self._is_paused_at_once(event):
            return Pause(event.vect)  # nothing of it may start in between
        if isinstance(command, Finished) and event.name in _FAILURES:
            return structs.replace(command, retry_after=self._retry_after(event))
        if event.name == "step.released" and event.step in self._run.state.steps:
            attempt = self._run.state.steps[event.step].attempt
            return Release(event.vect, event.step, attempt)
        return command

    def _wound_up_by(self, event: Event) -> Command | None:
        """Return the command by which a Vect ends before its time: that of a person, or a clock."""
        if self._run.state.state == "ending":  # a person wants no more of what cleans up
            is_asked = event.name == "step.cancelled"
            return Cancel(event.vect, event.data["reason"], is_again=True) if is_asked else None
        end = next((e for e in self._history[self._at :] if e.name in _WOUND_UP), None)
        if end is None:
            return None
        if end.name == "vect.failed" or end.data.get("to") == "failed":
            return Passed(event.vect, RUN_TIMEOUT)
        reason = event.data.get("reason", "") if event.name != "step.skipped" else ""
        return Cancel(event.vect, reason or end.data.get("reason", ""), is_again=True)

    def _is_paused_at_once(self, event: Event) -> bool:
        """Whether it is paused in the tick of an event, and nothing of it starts before that.

        Where it is recovered, what ran is closed first.
        """
        after = iter(self._history[self._at + 1 :])
        if event.name == "vect.recovered":
            after = dropwhile(lambda e: e.name in _CLOSES, after)
        paused = next(after, None)
        return paused is not None and (paused.name, paused.time) == ("vect.paused", event.time)

    def _retry_after(self, event: Event) -> float | None:
        """Return the delay that the policy of today gives after a failure, or None."""
        state = self._run.state.steps.get(event.step or "")
        if state is None:
            return None
        step: Execution | None = self._run.execution(state)
        of: StepState | Compensation | None = state
        if event.name == "step.compensation_failed":
            step, of = self._run.execution(state).compensation, state.compensation
        elif not kind_of(state.kind).is_tried_again:
            return None
        if step is None or step.retry is None:
            return None
        failures, is_retried = 1 + (of.failures if of else 0), "delay" in event.data
        options = _options_told(self._of_options, self._at).get(step.name, NO_DATA)
        # It was the last one then, or it was an error that the policy did not cover.
        is_covered = is_retried or failures >= options.get("max_attempts", 1)
        delay = step.retry.decide(failures, self.chance(), is_covered=is_covered)
        return delay if delay is None or not is_retried else float(event.data["delay"])

    def _catch_up(self) -> None:
        self._scheduler.catch_up()
        if self._differs is not None:
            raise self._differs

    def append(self, sender: object, event: Event) -> None:
        """Take the event, and hold it against the one that the log has here."""
        super().append(sender, event)
        then = self._then
        if self._differs is None and (then is None or _decision(then) != _decision(event)):
            self._differs = self._difference(_told(event))
        self._at += 1
        self._hear_others(event)

    @property
    def _then(self) -> Event | None:
        """The event that the log has here; None behind its end."""
        return self._history[self._at] if self._at < len(self._history) else None

    def _hear_others(self, now: Event | None = None) -> None:
        """Have the steps of other Vects take and free slots, up to the next event of this one."""
        turns = self._scheduler.queue
        then = self._then
        next_seq = 0 if then is None else then.seq
        if then is not None and then.name == "vect.recovered":
            turns.is_held = True  # until then nobody is there to start anything
        if self._is_at_rest[self._at]:
            turns.drain()
        if then is not None and then.name == "step.started":  # so the one before is over by then
            before = (then.vect, then.step or "", (then.attempt or 1) - 1)
            self._scheduler.runner.forget(before)
        if then is not None and then.name in _BEGINS:
            self._let_go_of_what_is_over(then, now)
        while self._others and self._others[0][0].seq < next_seq:
            self._hear_other(*self._others.popleft())

    def _let_go_of_what_is_over(self, then: Event, now: Event | None = None) -> None:
        """Let go of what is over by then, or waited for no more, or else this would not have begun.

        What ends just now has not moved its step yet.
        """
        steps = self._run.state.steps
        step = steps.get(then.step or "")
        if step is None:
            return
        runner = self._scheduler.runner
        if then.name == "step.compensating":
            runner.forget((self._vect, step.name, step.attempt))
            return
        names = step.vect.graph.upstreams[step.declared] if step.is_teardown else ()
        maps = [mapped for name in names if (mapped := steps[name].mapped) is not None]
        for each in [*(steps[name] for name in names), *(one for m in maps for one in m.instances)]:
            if each.state != "running" or (now is not None and now.step == each.name):
                key = (self._vect, each.name, each.attempt)
                runner.lingering.end_promise(key)  # it may be at work still
                runner.lingering.look(key)

    def _hear_other(self, event: Event, group: Group, runs_a_flow: bool) -> None:
        slot = (event.vect, event.step, group)
        if event.name == "vect.recovered":
            # With the program most steps have gone; or none, where this Vect was taken over later
            # than others. What ran of itself is told to be over by what follows.
            for other in [each for each, is_kept in self._slots.items() if not is_kept]:
                self._lingering.setdefault(other, None)
        elif event.name == "step.late_result":
            is_known = slot in self._lingering and self._lingering[slot] == event.attempt
            is_over = "abandoned" not in event.data and not runs_a_flow  # else it is, or its child
            if is_known and is_over:
                self._free(slot)
        elif event.dest == "running":
            self._lingering.pop(slot, None)
            self._slots[slot] = runs_a_flow
            self._scheduler.queue.take_slot(group, slot)
        elif slot in self._slots and (_is_cut(event) or runs_a_flow):
            self._lingering[slot] = event.attempt
            self._slots[slot] = False
        elif slot in self._slots and event.source == "running":
            self._free(slot)

    def _free(self, slot: Slot) -> None:
        """Have a step of another Vect free its slot."""
        self._lingering.pop(slot, None)
        del self._slots[slot]
        self._scheduler.queue.free_slot(slot[2], slot)

    def _make_room(self) -> bool:
        """Have slots freed by attempts that are over, if the next event needs one; say whether.

        The log tells nothing of the end of an attempt that waited to be polled, or that had not
        begun.
        """
        then = self._then
        step = self._run.state.steps.get((then and then.step) or "")
        if then is None or then.name != "step.started" or step is None or step.kind == "map":
            return False
        limits = limits_of(self._flow.name, step.options)
        made = [self._make_room_in(group, slots) for group, slots in limits]  # in each of them
        return any(made)

    def _make_room_in(self, group: Group, slots: int) -> bool:
        turns = self._scheduler.queue
        if turns.taken().get(group, 0) < slots:
            return False
        for slot in [each for each in self._lingering if each[2] == group]:
            self._free(slot)
            if turns.taken().get(group, 0) < slots:
                return True
        for own in self._run.state.steps.values():
            if group in dict(limits_of(self._flow.name, own.options)):
                turns.set_free(own)
                if turns.taken().get(group, 0) < slots:
                    return True
        return False

    def _difference(self, now: str) -> ReplayDiffersError:
        told, seq = "nothing", self._history[-1].seq + 1
        if (then := self._then) is not None:
            told, seq = _told(then), then.seq
        return ReplayDiffersError(self._flow.name, self._vect, seq, told, now)

    @property
    def slots(self) -> int:  # type: ignore[override] # one is free when a step could have started
        """How many steps may run now."""
        then = self._then
        if then is None:
            return 0
        if then.name == "step.started":
            self._make_room()
            return sys.maxsize
        is_free = then.seq in self._surely_free
        return sys.maxsize if is_free else 0

    def submit(self, job: Job, done: Done) -> None:
        """Do nothing: the log has the answers. What is cancelled is at work until it has one."""
        job.on_cancel(_nothing)

    def now(self) -> datetime:  # as a clock
        """Return when the next event of the log happened."""
        return self._history[min(self._at, len(self._history) - 1)].time

    def monotonic(self) -> float:
        """Return far less each time, so that no timer comes due, not even one that is late.

        What it has led to is in the log.
        """
        self._seconds -= _AGES
        return self._seconds

    def chance(self) -> float:
        """Return 0: delays are those of the log."""
        return 0.0

    def take(self, inbox: SimpleQueue[Any], until: float | None) -> Any:
        """Return the next message: there is one whenever the scheduler asks."""
        return inbox.get_nowait()


class _Load(NamedTuple):
    """How many steps may have had a worker before an event, and how many had one for sure then."""

    most: int
    least: int


def _is_at_rest(history: list[Event]) -> list[bool]:
    """Return for each event of a Vect, and for its end, whether its program begins nothing from it.

    One that drains begins nothing more, and no event tells that it does.
    """
    found, begins = [True], False
    for event in reversed(history):
        begins = (begins and event.name != "vect.recovered") or event.name in _BEGINS
        found.append(not begins)
    return found[::-1]


def _loads(events: list[Event], flow: Flow) -> dict[int, _Load]:
    """Return the load of the workers by the number of the event, to be on the safe side.

    A cancelled step has its worker until it answers, an abandoned one may have it; a polled step
    needs none while it waits, and one that waits for another Vect may have lent its own.
    """
    under_way: set[Place] = set()
    certain: set[Place] = set()
    open_vects: set[str] = set()
    loads: dict[int, _Load] = {}
    for event in events:
        most = len(under_way)
        key = _key(event)
        if event.name in _BEGINS:
            under_way.add(key)
            if event.flow == flow.name and _needs_worker(flow, key, len(open_vects)):
                certain.add(key)
        elif _is_told(event):
            if "abandoned" not in event.data:  # else it is still at work, perhaps beside a new one
                under_way.discard(key)
            certain.discard(key)
        elif event.name == "step.cancelled":
            certain.discard(key)  # its worker may be gone: a program can die and leave no trace
        elif event.name == "vect.recovered":  # with the program its workers have gone
            under_way = {place for place in under_way if place[0] != event.vect}
            certain.clear()
        elif event.step is None and not is_of_plan(event):
            (open_vects.discard if event.dest in VECT_ENDS else open_vects.add)(event.vect)
            if len(open_vects) > 1:
                certain = {each for each in certain if _needs_worker(flow, each, 2)}
        loads[event.seq] = _Load(most, len(certain))
    return loads


def _key(event: Event) -> Place:
    is_undo = event.name in COMPENSATION_EVENTS
    return event.vect, event.step, -(event.attempt or 0) if is_undo else event.attempt


def _needs_worker(flow: Flow, place: Place, vects: int) -> bool:
    """Whether an attempt has a worker for sure while it runs, and so many Vects are open.

    One that undoes the work of a step waits for one, when it has begun by the log.
    """
    step = flow.steps.get(place[1] or "")
    is_undo = place[2] is not None and place[2] < 0
    if step is None or is_undo or step.is_polled or step.is_async:
        return False
    if not kind_of(step.kind).needs_worker:
        return False
    return vects < 2 or isinstance(step, BashExecution)  # no command waits for a Vect in here


def _surely_free(history: list[Event], loads: Mapping[int, _Load], workers: int) -> frozenset[int]:
    """Return the numbers of the events of a Vect before which a worker was free for sure.

    There are at least as many `workers` as said, and as steps were ever at work at once while the
    same program had the Vect: the next one may have fewer. In the instant in which it is recovered
    something may be done to it before anything starts.
    """
    free: set[int] = set()
    stretch: list[Event] = []
    recovered: datetime | None = None
    for event in [*history, None]:
        if event is None or event.name in ("vect.recovered", "vect.reopened"):
            there_are = max([workers, *(loads[each.seq].least for each in stretch)])
            free.update(each.seq for each in stretch if loads[each.seq].most < there_are)
            stretch = []
        if event is not None and event.name == "vect.recovered":
            recovered = event.time
        elif event is not None and event.time != recovered:
            stretch.append(event)
    return frozenset(free)


def _check_options(flow: Flow, vect: str, history: list[Event]) -> None:
    """Hold the options of the steps, and the settings, against those that the log tells of.

    Raises:
        ReplayDiffersError: One is another one.
    """
    created = history[0]
    settings, today = created.data.get("settings", NO_DATA), flow.settings
    for setting in sorted(settings.keys() | today.keys()):
        if settings.get(setting, _USUAL) != today.get(setting, _USUAL):
            told = [_option("the flow", setting, given) for given in (settings, today)]
            raise ReplayDiffersError(flow.name, vect, created.seq, *told)
    then, now = _options_told(_of_options(history), len(history)), flow.options
    for step in created.data.get("graph", ()):
        if step not in flow.steps:
            continue  # it has decided nothing
        of_then, of_now = then.get(step, NO_DATA), now.get(step, NO_DATA)
        for option in sorted(of_then.keys() | of_now.keys()):
            if of_then.get(option, _USUAL) == of_now.get(option, _USUAL):
                continue
            if not _is_untold(option, step, of_then, history):
                told = [_option(f"'{step}'", option, given) for given in (of_then, of_now)]
                raise ReplayDiffersError(flow.name, vect, created.seq, *told)
    settings = created.data.get("settings", NO_DATA)
    for option in dict.fromkeys((*settings, *flow.settings)):
        if settings.get(option, _USUAL) != flow.settings.get(option, _USUAL):
            told = [_option("the flow", option, given) for given in (settings, flow.settings)]
            raise ReplayDiffersError(flow.name, vect, created.seq, *told)


def _of_options(history: list[Event]) -> list[tuple[int, Options]]:
    """Return at which events of a Vect its log tells of options, and of which."""
    places = [at for at, event in enumerate(history) if event.step is None]
    return [(at, history[at].data.get("options", NO_OPTIONS)) for at in places]


def _options_told(told: list[tuple[int, Options]], upto: int) -> Options:
    """Return the options that hold before an event of a Vect."""
    before = (options for at, options in told if at < upto)
    return {name: given for options in before for name, given in options.items()}


def _option(of: str, option: str, given: Mapping[str, Any]) -> str:
    value = shown(given[option]) if option in given else "as usual"
    return f"{option} of {of} is {value}"


def _is_untold(option: str, step: str, then: Mapping[str, Any], history: list[Event]) -> bool:
    """Whether the log is of a time when logs did not tell of an option."""
    if option == "strict":  # whose Vects have neither the option nor the word
        return option not in then and "bash" not in history[0].data
    if option == "retry":
        return option not in then and "max_attempts" in then
    was_lost = any(map_of(e.step or "") == step and e.data.get("error") == LOST for e in history)
    return option == "on_crash" and option not in then and was_lost


def _in_pools(events: list[Event]) -> list[tuple[Event, Group, bool]]:
    """Return the events that take or free a slot of a pool, or of the async steps of a flow.

    Each with what it is of, and whether the step runs a flow: it keeps the slot when its program
    dies, and as long as its child is at work.
    """
    options: dict[str, Options] = {}
    found: list[tuple[Event, Group, bool]] = []
    for event in events:
        if event.name == VECT_CREATED:
            options[event.vect] = event.data.get("options", NO_OPTIONS)
        of_step = options.get(event.vect, NO_OPTIONS).get(map_of(event.step or ""), NO_DATA)
        is_map = of_step.get("kind") == "map" and event.step == map_of(event.step or "")
        if event.name == "vect.recovered":
            found.append((event, "", False))
        elif (event.source != event.dest or event.name == "step.late_result") and not is_map:
            runs_a_flow = of_step.get("kind") == "flow"
            found += [(event, group, runs_a_flow) for group, _ in limits_of(event.flow, of_step)]
    return found


def _is_cut(event: Event) -> bool:
    """Whether an attempt is over by this that may be at work still."""
    return event.source == "running" and (
        event.name == "step.cancelled" or "abandoned" in event.data
    )


def _nothing() -> None:
    """Do nothing when it is called off."""


def _is_told(event: Event) -> bool:
    """Whether a worker has said so, in time or too late."""
    return is_answer(event) or event.name in ("step.late_result", *UNDONE_EVENTS)


def _goes_on(event: Event) -> bool:
    """Whether the same program has its Vect go on after an event for sure."""
    is_end = event.step is None and event.dest in VECT_ENDS  # its program may end as well then
    return not is_end and event.name != "vect.recovered"


def _asked_by(event: Event) -> Command | None:
    """Return the command that stands behind an event, if it was not decided by the engine."""
    data = event.data
    if _is_told(event):
        told = ("output", "error", "reason", "delay")
        details = {key: value for key, value in data.items() if key not in told}
        assert event.step is not None
        assert event.attempt is not None
        is_skip = "reason" in data and "error" not in data  # before 2.0.0 a detail may be called so
        error = data["reason"] if is_skip else data.get("error")
        is_undo = event.name in COMPENSATION_EVENTS
        key = (event.vect, event.step, -event.attempt if is_undo else event.attempt)
        return Finished(*key, data.get("output"), error, details, is_skip)
    match event.name:
        case "vect.started":
            return Begin(event.vect)
        case "vect.paused":
            return Pause(event.vect)
        case "vect.resumed":
            return Resume(event.vect)
        case "step.reset" | "vect.reopened":  # where nothing is done again
            return Retry(event.vect)
        case "step.late" | "vect.late":
            return Passed(event.vect, ("late", event.step))
    return None


def _decision(event: Event) -> tuple[object, ...]:
    return (event.name, event.step, event.attempt, event.source, event.dest)


def _told(event: Event) -> str:
    attempt = f", attempt {event.attempt}" if event.attempt is not None else ""
    return f"{event.name} of '{event.step}'{attempt}" if event.step else event.name
