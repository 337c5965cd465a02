"""`assert_replays`: a check that the code of today decides as the log records."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import dropwhile, takewhile
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

from msgspec import structs

from oautom.engine.messages import Call, Nudge
from oautom.engine.rates import Rates
from oautom.engine.scheduler import Scheduler
from oautom.errors import OAutomError, SettingError, shown
from oautom.events.log import EventLog
from oautom.events.memory import MemoryEventLog
from oautom.flows.flow import Flow
from oautom.flows.params import NO_PARAMS
from oautom.flows.part import Part
from oautom.machine.commands import (
    Begin,
    Cancel,
    Command,
    Finished,
    Lost,
    Passed,
    Pause,
    Release,
    Resume,
    Retry,
)
from oautom.machine.deadlines import RUN_TIMEOUT
from oautom.machine.event import NO_DATA, Event, is_answer, is_loss, is_of_plan
from oautom.machine.kinds import kind_of
from oautom.machine.maps import map_of
from oautom.machine.state import (
    LOST,
    NO_OPTIONS,
    Compensation,
    Group,
    Limit,
    Options,
    Rate,
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
"""A slot that a step of another Vect has: the Vect, the step, and the pool or flow of the slot."""

_USUAL = object()
_LONG_AGO: Final = datetime(1, 1, 1, tzinfo=UTC)
_NO_LIMIT: Final = Limit("", 0)

_CLOSES: Final = ("step.interrupted", "step.failed", "step.blocked", "step.skipped")
"""The events of a recovery for the steps that ran, and for those that depend on them."""

_FAILURES: Final = ("step.failed", "step.retried", "step.compensation_failed")
_WOUND_UP: Final = ("vect.ending", "vect.failed", "vect.cancelled")
_WINDS_UP: Final = ("step.cancelled", "step.skipped", *_WOUND_UP)
"""The first event where a Vect is ended before its time; `_WOUND_UP`: the last one."""

_BEGINS: Final = ("step.started", "step.compensating")

_AGES = 1e12
"""Seconds: longer than any program was down."""


class ReplayDiffersError(OAutomError, AssertionError):
    """The code or the flow of today decides differently from the log.

    Attributes:
        vect: Id of the Vect.
        seq: Number of the first event that differs; after the last event, the next number.
        then: The decision in the log, or `nothing`.
        now: The decision of today, or `nothing`.
    """

    def __init__(self, flow: str, vect: str, seq: int, then: str, now: str) -> None:
        super().__init__(
            f"vect {vect} of flow '{flow}' differs from its log at event {seq}: "
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
    """Drive the scheduler with the recorded answers, and compare its decisions with the log.

    Each Vect of the flow in the log is replayed by itself: with the graph of today, with its own
    parameters, which must fit the flow of today, and with the answers of its steps and the requests
    of people as they came. The start of a step also depends on free workers, so a start may come as
    late as in the log, unless the log shows that a worker was free: fewer steps were under way than
    at another time, or than there are workers. After the last start of a
    program's life none is required: it may have been draining. Which step starts, and everything
    else, must agree.
    Other Vects occupy slots of a pool as in the log, so pass the whole log if there are pools; a
    step whose pool has a rate starts when it does so in the log. An
    attempt that was cancelled or abandoned, or has run a flow, occupies its slot until the log has
    its answer, or needs the slot for another start: some of these ends are not in the log.

    If all decisions agree, the options of the steps and of the flow must also be those in the log:
    a `timeout` that no attempt has come near may decide the next run, if not this one.

    Args:
        log: A log, a Vect, or events.
        flow: The flow of today.
        max_workers: How many steps could run at once; None if that is not known.

    Raises:
        ReplayDiffersError: A decision or an option differs; it is an `AssertionError`, too.
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
        if _have_several(others):  # one of them may have gone first, which no event tells
            free = frozenset()
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
    """The log, the clock and the workers of a scheduler that repeats a Vect."""

    def __init__(
        self,
        flow: Flow,
        vect: str,
        history: list[Event],
        surely_free: frozenset[int],
        others: list[tuple[Event, Limit, bool]],
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
        self._takes: dict[Slot, int] = {}
        # Of these, attempts that are over, and may be at work still:
        self._lingering: dict[Slot, int | None] = {}
        self.has_loop: bool = history[0].data.get("loop", False)
        self._seconds = 0.0
        self._at = 0  # the next event to hold against
        self._differs: ReplayDiffersError | None = None
        self._run = Run(flow, vect)
        self._scheduler = self._new_scheduler()
        self._params = history[0].data.get("params", NO_PARAMS)
        self._run = Run(flow, vect, self._params, part=Part.told(history[0].data))
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
            if isinstance(
                command, Finished | Lost
            ):  # no worker is there to tell that it is at work
                key, runner = (command.vect, command.step, command.attempt), self._scheduler.runner
                runs_a_flow = command.attempt > 0 and self._runs_a_flow(command.step)
                may_linger = "abandoned" in event.data or runs_a_flow
                (runner.abandon if may_linger else runner.forget)(key)
                runner.lingering.end_promise(key)  # so nobody waits for it
            self._scheduler.put(command or Nudge())
            self._catch_up()
            if self._at == before and not self._make_room():
                raise self._difference("nothing")

    def _new_scheduler(self) -> Scheduler:
        scheduler = Scheduler(self, self, self, tell=tell_nobody)
        scheduler.queue.rates = _RatesAsLogged(self, self._next_step)
        return scheduler

    def _next_step(self) -> str | None:
        """Return the step that starts next, if the next event is a start."""
        then = self._then
        return None if then is None or then.name != "step.started" else then.step

    def _runs_a_flow(self, step: str) -> bool:
        """Whether the work of a step is that of its child, which is another Vect of the log."""
        return step in self._run.state.steps and self._run.state.steps[step].kind == "flow"

    def _go_on(self, event: Event) -> None:
        """Go on as the program did when it was run again."""
        self._run = Run(self._flow, self._vect)
        self._run.state = replay(self.read())[self._vect]
        self._run.shown = self._run.state.state
        self._scheduler = self._new_scheduler()
        for slot in self._slots:
            self._scheduler.queue.take_slot(slot[2], slot, self._takes[slot])
        if self._is_paused_at_once(event):  # it was asked for before its turn had come
            pause = partial(self._scheduler.steering.obey, self._run, Pause(self._vect))
            self._scheduler.put(Call(self._vect, pause))
        self._scheduler.entering.take_over([self._run])

    def _let_go_of_the_dead(self) -> None:
        """Drop attempts that never answer, since their program has ended.

        If their Vect had ended before the program, no other event shows that. An attempt whose step
        does not start again in this program, according to the log, may still be at work.
        """
        left = list(takewhile(_goes_on, self._history[self._at :]))
        told = {(e.step, e.attempt) for e in left if e.name == "step.late_result"}
        begun = {e.step for e in left if e.name == "step.started"}
        for step in self._run.state.steps.values():
            if (step.name, step.attempt) not in told and step.name in begun:
                self._scheduler.runner.forget((self._vect, step.name, step.attempt))

    def _asked_by(self, event: Event) -> Command | None:
        """Return the command that led to an event, if the engine has not decided it by itself."""
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
        """Return the command that ends a Vect before its time: from a person, or a deadline."""
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
        """Whether the Vect is paused in the tick of an event, before any of its steps starts.

        In a recovery, interrupted attempts are closed before that.
        """
        after = iter(self._history[self._at + 1 :])
        if event.name == "vect.recovered":
            after = dropwhile(lambda e: e.name in _CLOSES, after)
        paused = next(after, None)
        return paused is not None and (paused.name, paused.time) == ("vect.paused", event.time)

    def _retry_after(self, event: Event) -> float | None:
        """Return the delay of the policy of today after a failure, or None."""
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
        """Compare the event with the one in the log."""
        super().append(sender, event)
        then = self._then
        if self._differs is None and (then is None or _decision(then) != _decision(event)):
            self._differs = self._difference(_told(event))
        self._at += 1
        self._hear_others(event)

    @property
    def _then(self) -> Event | None:
        """The next event of the log; None at its end."""
        return self._history[self._at] if self._at < len(self._history) else None

    def _hear_others(self, now: Event | None = None) -> None:
        """Take and free the slots of steps of other Vects, up to the next event of this Vect."""
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
        """Drop attempts that must be over, since an event of the log could not have come otherwise.

        An attempt that ends at this moment has not moved its step yet.
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

    def _hear_other(self, event: Event, limit: Limit, runs_a_flow: bool) -> None:
        slot = (event.vect, event.step, limit.group)
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
            self._takes[slot] = limit.takes
            self._scheduler.queue.take_slot(limit.group, slot, limit.takes)
        elif slot in self._slots and (_is_cut(event) or runs_a_flow):
            self._lingering[slot] = event.attempt
            self._slots[slot] = False
        elif slot in self._slots and event.source == "running":
            self._free(slot)

    def _free(self, slot: Slot) -> None:
        """Free the slot of a step of another Vect."""
        self._lingering.pop(slot, None)
        del self._slots[slot]
        self._scheduler.queue.free_slot(slot[2], slot)

    def _make_room(self) -> bool:
        """Free slots of attempts that are over, if the next event needs one; return whether.

        The log does not record the end of an attempt that waited for its next `check`, or that had
        not begun.
        """
        then = self._then
        step = self._run.state.steps.get((then and then.step) or "")
        if then is None or then.name != "step.started" or step is None or step.kind == "map":
            return False
        limits = limits_of(self._flow.name, step.options)
        made = [self._make_room_in(limit) for limit in limits]  # in each of them
        return any(made)

    def _make_room_in(self, limit: Limit) -> bool:
        turns, (group, slots, takes) = self._scheduler.queue, limit
        slots -= takes - 1
        if turns.taken().get(group, 0) < slots:
            return False
        for slot in [each for each in self._lingering if each[2] == group]:
            self._free(slot)
            if turns.taken().get(group, 0) < slots:
                return True
        for own in self._run.state.steps.values():
            if any(group == each.group for each in limits_of(self._flow.name, own.options)):
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
        """The number of steps that may run now."""
        then = self._then
        if then is None:
            return 0
        if then.name == "step.started":
            self._make_room()
            return sys.maxsize
        is_free = then.seq in self._surely_free
        return sys.maxsize if is_free else 0

    def submit(self, job: Job, done: Done) -> None:
        """Do nothing: the log has the answers. A cancelled attempt is at work until its answer."""
        job.on_cancel(_nothing)

    def now(self) -> datetime:  # as a clock
        """Return the time of the next event of the log."""
        return self._history[min(self._at, len(self._history) - 1)].time

    def monotonic(self) -> float:
        """Return far less each time, so that no timer is due, not even a late one.

        The log has the consequences of timers.
        """
        self._seconds -= _AGES
        return self._seconds

    def chance(self) -> float:
        """Return 0: delays are those of the log."""
        return 0.0

    def take(self, inbox: SimpleQueue[Any], until: float | None) -> Any:
        """Return the next message; there always is one."""
        return inbox.get_nowait()


class _RatesAsLogged(Rates):
    """Rates that allow the starts that the log has, when it has them.

    When a start was allowed depends on starts of other Vects, and on who of these came first.
    """

    def __init__(self, log: EventLog, next_step: Callable[[], str | None]) -> None:
        super().__init__(log)
        self._next_step = next_step

    def next_start(self, step: StepState, rate: Rate, now: datetime) -> datetime | None:
        """Allow the start of a step if that is the next event of the log."""
        return None if self._next_step() == step.name else _LONG_AGO


class _Load(NamedTuple):
    """The number of steps that may have had a worker before an event, and that surely had one."""

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
    """Return the load of the workers at each event, by its number, with bounds on the safe side.

    A cancelled step has its worker until it answers, an abandoned one may have it; a polled step
    needs none between its checks, and a step that waits for another Vect may have lent its own.
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
        elif _is_told(event) or is_loss(event):
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
    """Whether an attempt surely has a worker while it runs, and so many Vects are open.

    An attempt of a compensation may still wait for a worker after its start in the log.
    """
    step = flow.steps.get(place[1] or "")
    is_undo = place[2] is not None and place[2] < 0
    if step is None or is_undo or step.is_polled or step.is_async:
        return False
    if not kind_of(step.kind).needs_worker:
        return False
    return vects < 2 or isinstance(step, BashExecution)  # no command waits for a Vect in here


def _surely_free(history: list[Event], loads: Mapping[int, _Load], workers: int) -> frozenset[int]:
    """Return the numbers of the events of a Vect before which a worker was surely free.

    There are at least `workers` workers, and at least as many as steps were ever at work at once
    while the same program had the Vect: the next program may have fewer. In the instant of a
    recovery, other things may happen to the Vect before its steps start.
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
    """Compare the options of the steps, and the settings, with those in the log.

    Raises:
        ReplayDiffersError: One of them differs.
    """
    created = history[0]
    part = Part.told(created.data)
    settings, today = created.data.get("settings", NO_DATA), part.settings(flow)
    for setting in sorted(settings.keys() | today.keys()):
        if settings.get(setting, _USUAL) != today.get(setting, _USUAL):
            told = [_option("the flow", setting, given) for given in (settings, today)]
            raise ReplayDiffersError(flow.name, vect, created.seq, *told)
    then, now = _options_told(_of_options(history), len(history)), part.options(flow)
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


def _of_options(history: list[Event]) -> list[tuple[int, Options]]:
    """Return the events of a Vect that have options, with these options."""
    places = [at for at, event in enumerate(history) if event.step is None]
    return [(at, history[at].data.get("options", NO_OPTIONS)) for at in places]


def _options_told(told: list[tuple[int, Options]], upto: int) -> Options:
    """Return the options that apply before an event of a Vect."""
    before = (options for at, options in told if at < upto)
    return {name: given for options in before for name, given in options.items()}


def _option(of: str, option: str, given: Mapping[str, Any]) -> str:
    value = shown(given[option]) if option in given else "as usual"
    return f"{option} of {of} is {value}"


def _is_untold(option: str, step: str, then: Mapping[str, Any], history: list[Event]) -> bool:
    """Whether the log is from a time when logs did not record an option."""
    if option == "strict":  # whose Vects have neither the option nor the word
        return option not in then and "bash" not in history[0].data
    if option == "retry":
        return option not in then and "max_attempts" in then
    was_lost = any(map_of(e.step or "") == step and e.data.get("error") == LOST for e in history)
    return option == "on_crash" and option not in then and was_lost


def _in_pools(events: list[Event]) -> list[tuple[Event, Limit, bool]]:
    """Return the events that take or free a slot of a pool, or of the async steps of a flow.

    Each comes with the pool or flow of the slot, and with whether the step runs a flow: such a step
    has the slot also when its program dies, and as long as its child is at work.
    """
    options: dict[str, Options] = {}
    found: list[tuple[Event, Limit, bool]] = []
    for event in events:
        if event.name == VECT_CREATED:
            options[event.vect] = event.data.get("options", NO_OPTIONS)
        of_step = options.get(event.vect, NO_OPTIONS).get(map_of(event.step or ""), NO_DATA)
        is_map = of_step.get("kind") == "map" and event.step == map_of(event.step or "")
        if event.name == "vect.recovered":
            found.append((event, _NO_LIMIT, False))
        elif (event.source != event.dest or event.name == "step.late_result") and not is_map:
            runs_a_flow = of_step.get("kind") == "flow"
            found += [(event, limit, runs_a_flow) for limit in limits_of(event.flow, of_step)]
    return found


def _have_several(others: list[tuple[Event, Limit, bool]]) -> bool:
    """Whether steps of other Vects take several slots of a pool."""
    return any(limit.takes > 1 for _, limit, _ in others)


def _is_cut(event: Event) -> bool:
    """Whether an event ends an attempt that may still be at work."""
    return event.source == "running" and (
        event.name == "step.cancelled" or "abandoned" in event.data
    )


def _nothing() -> None:
    """Do nothing: the cancel of a timer."""


def _is_told(event: Event) -> bool:
    """Whether an event is the answer of a worker, in time or too late."""
    return is_answer(event) or event.name in ("step.late_result", *UNDONE_EVENTS)


def _goes_on(event: Event) -> bool:
    """Whether the same program surely goes on with the Vect after an event."""
    is_end = event.step is None and event.dest in VECT_ENDS  # its program may end as well then
    return not is_end and event.name != "vect.recovered"


def _asked_by(event: Event) -> Command | None:
    """Return the command that led to an event, if the engine has not decided it by itself."""
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
    if is_loss(event):
        number = (event.attempt or 0) * (-1 if event.name in COMPENSATION_EVENTS else 1)
        key = (event.vect, event.step or "", number)
        return Lost(*key, data["reason"], is_worker="worker" in data)
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
