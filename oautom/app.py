"""`OAutom`: the application. The registry of flows and Vects, and the life of the engine."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import Any, Final, NoReturn, Self, TypedDict, Unpack, cast, overload

from oautom.engine.children import Children
from oautom.engine.clock import Clock, SystemClock
from oautom.engine.files import Files
from oautom.engine.inbox import CALL_SECONDS
from oautom.engine.lifetime import (
    check_free,
    check_process,
    closed,
    let_go_of_forgotten,
    opened,
    weakly,
)
from oautom.engine.messages import Nudge
from oautom.engine.modes import ForegroundEngine, OAutomMode, make_engine
from oautom.engine.recovery import Recovery
from oautom.engine.scheduler import Scheduler
from oautom.engine.starting import Starting, flow_of
from oautom.errors import (
    DuplicateFlowError,
    EngineError,
    FlowError,
    LogLockedError,
    SettingError,
    UnknownVectError,
    shown,
)
from oautom.events.log import EventLog, PrunedVect, check_instant
from oautom.events.open import Given, log_of
from oautom.events.subscribers.subscription import Subscription, Subscriptions
from oautom.flows.flow import Flow, WhenFull
from oautom.machine.commands import Begin
from oautom.machine.tables import VECT_STATES
from oautom.plans.plans import Plan, Plans, schedule_of
from oautom.processes import forked
from oautom.processes.forked import Home
from oautom.steps.context import CALLED
from oautom.steps.options import Pool, word_of
from oautom.values.json import SECONDS_MAX, at_heart
from oautom.values.names import check_max_workers, check_name, has_members, one_of
from oautom.vects.run import Run
from oautom.vects.vect import Vect
from oautom.workers import ExecutorName, make_workers

Params = Mapping[str, Any] | None
Id = str | None
_STRANDED: Final = "stranded"


class _Settings(TypedDict, total=False):
    """What may be changed as long as an app does nothing."""

    log: EventLog | str | os.PathLike[str] | None
    executor: ExecutorName | Executor
    max_workers: int | None


class OAutom:
    """The application: flows are registered with it, and it runs them.

    A context manager: leaving the block closes it. All methods may be called on any thread.
    It belongs to the process in which it first works: in a child that is forked after that all of
    them raise an `EngineError`, but for `close`, which does nothing there.

    Args:
        mode: Whether Vects are driven by whoever waits, or by a thread of the engine's own.
        log: Where events are kept: None (or `':memory:'`) for memory; the path of a file, which is
            made if need be, for a durable `SqliteEventLog`; or any `EventLog`.
        executor: Where the work of steps runs: `'threads'`, `'inline'` (the scheduler's own thread:
            deterministic, fastest for steps that do little), `'processes'` (spawned; functions and
            values must be picklable), or any `concurrent.futures.Executor`.
        max_workers: How many steps run at once. Unless said, what the executor tells of itself:
            processors + 4, at most 32, for threads, and one a processor for processes.
        clock: What time it is; None for the clock of the machine.
        drain: Seconds for what runs to end in, after a SIGTERM that comes while `run` or `wait`
            drives on the main thread: nothing begins any more meanwhile. Then, or at the next
            signal, what is left is ended. Unless said all is ended at once.

    Raises:
        SettingError: An argument cannot be used.
    """

    def __init__(
        self,
        mode: OAutomMode = OAutomMode.foreground,
        *,
        log: EventLog | str | os.PathLike[str] | None = None,
        executor: ExecutorName | Executor = "threads",
        max_workers: int | None = None,
        clock: Clock | None = None,
        drain: float = 0.0,
    ) -> None:
        self._drain = _seconds_of("drain", drain)
        self.mode = OAutomMode.of(mode)
        self._is_made_by_step = CALLED.get() is not None
        if clock is not None and not has_members(clock, "now", "monotonic", "take", "chance"):
            raise SettingError(f"clock must be None or a Clock, not {shown(clock)}")
        self._clock = SystemClock() if clock is None else clock
        self._home = Home()
        self._flows: dict[str, Flow] = {}
        self.pools: dict[str, tuple[Pool, str]] = {}  # by name, and who has named it first
        self._is_closed = False
        self._stops = 0  # how often `stop` was called
        self._stops_heeded = 0  # and how often by the end of the last `run` that served
        self._plans = Plans(self._clock, self._home, self.mode)
        self._settings: _Settings = {"log": None, "executor": "threads", "max_workers": None}
        self._set_up({"log": log, "executor": executor, "max_workers": max_workers})

    @property
    def _lock(self) -> threading.Lock:
        """The lock of the app, in its own process.

        Raises:
            EngineError: This is a forked child of that.
        """
        self._home.check()
        return self._home.lock

    def configure(self, **settings: Unpack[_Settings]) -> None:
        """Change what `OAutom(...)` was told, before the app does anything.

        So a module can declare flows, and the program that imports it says where they run.

        Args:
            settings: `log`, `executor` and `max_workers`, as of `OAutom`; what is not given stays.

        Raises:
            SettingError: An argument cannot be used; nothing is changed.
            EngineError: The app has opened its log already, or is closed.
        """
        with self._lock:
            self._check_open()
            if self._parts.is_open:
                raise EngineError(
                    "the app has begun to work, and cannot be configured any more; do so before "
                    "its first run(), start(), recover(), subscribe() or prune()"
                )
            self._set_up(settings)

    def _set_up(self, given: _Settings) -> None:
        """Make all that runs flows; of the log nothing is opened yet."""
        settings: _Settings = {**self._settings, **given}
        max_workers = check_max_workers(settings["max_workers"])
        if "log" in given:
            check_free(given["log"], self)
            self._given = log_of(given["log"])
        workers = make_workers(settings["executor"], max_workers)
        self._settings = settings
        self.log: EventLog = self._given.given
        log = self._given.log
        self._subscriptions = Subscriptions(log, self._flows.get)
        scheduler = Scheduler(log, self._clock, workers, self._subscriptions.tell)
        self._scheduler = scheduler
        self._registry = scheduler.registry
        self._registry.flows = self._flows
        self._engine = make_engine(self.mode, scheduler, log)
        self._engine.home = self._home
        self._engine.check_process = partial(check_process, is_made_by_step=self._is_made_by_step)
        self._engine.drain = self._drain
        self._recovery = Recovery(log, scheduler, self._engine.listen)
        self._starting = Starting(log, scheduler, self._recovery)
        # What is called there must not keep an app that nobody has any more.
        self._engine.prepare = weakly(self._recover_once)
        self._engine.open = weakly(self._open_once)
        Children(scheduler, self._starting, log)
        Files(scheduler.runner)
        self._plans.serve_by(scheduler, log, self._starting, self._recovery)
        # As well when nobody has the app any more.
        weakref.finalize(scheduler, workers.close).atexit = False
        self._parts = _Parts(
            self._home, self._flows, self._engine, self._subscriptions, self._given
        )
        opened(self, self._parts)

    def _open(self) -> None:
        """Open the log, if that was not done yet; under the lock.

        Raises:
            EngineError: The app is closed.
            LogLockedError: Another engine writes the log.
            LogError: It cannot be opened.
        """
        self._check_open()
        if self._parts.is_open:
            return
        self._home.process = forked.here
        try:
            self._open_log()
        except BaseException:
            self._home.process = forked.NOBODY
            raise
        self._parts.is_open = True
        self._registry.log_is_open()
        self._plans.log_is_open()

    def _open_log(self) -> None:
        try:
            self._given.open()
        except LogLockedError as error:
            if error.pid != os.getpid():
                raise
            let_go_of_forgotten()
            self._given.open()

    def _open_once(self) -> None:
        """Open the log for what is asked of a Vect."""
        if not self._parts.is_open:
            with self._lock:
                self._open()

    def add(self, flow: Flow) -> None:
        """Take in a flow; a `Flow` does so when it is made.

        Raises:
            FlowError: It is no flow of this app.
            DuplicateFlowError: There is a flow of this name.
            EngineError: The app is closed.
        """
        self._home.check()
        if not issubclass(type(flow), Flow) or getattr(flow, "app", None) is not self:
            raise FlowError(
                f"an app takes its own flows only, not {shown(flow)}; a flow is added where it is "
                "made: Flow(name, app)"
            )
        with self._lock:
            self._check_open()
            if flow.name in self._flows:
                raise DuplicateFlowError(flow.name)
            self._flows[flow.name] = flow

    def flows(self) -> list[str]:
        """Return the names of the flows, in the order in which they were declared."""
        self._home.check()
        return list(self._flows)

    @overload
    def run(
        self,
        flow: str | Flow,
        params: Params = None,
        *,
        vect_id: Id = None,
        when_full: WhenFull | None = None,
    ) -> Vect: ...

    @overload
    def run(self) -> None: ...

    def run(
        self,
        flow: str | Flow | None = None,
        params: Params = None,
        *,
        vect_id: Id = None,
        when_full: WhenFull | None = None,
    ) -> Vect | None:
        """Start a flow, wait for its end, and return its Vect; without a flow, serve.

        Without a flow, in foreground mode, plans are served and all Vects that have been started
        are driven, on the calling thread, until `stop()`, SIGINT or SIGTERM; in background mode it
        returns at once.

        Args:
            flow: A flow or its name.
            params: See `start`.
            vect_id: See `start`.
            when_full: See `start`.

        Raises:
            Whatever `start` and `Vect.wait` raise. A Vect that fails raises nothing: see its state.
        """
        if flow is None:
            if (params, vect_id, when_full) != (None, None, None):
                raise SettingError("run() with params, a vect_id or when_full needs a flow to run")
            with self._lock:
                self._open()
                self._recovery.recover_once()
            before = self._stops_heeded if self.mode is OAutomMode.foreground else self._stops
            try:
                with self._plans.served():
                    self._engine.serve(lambda: self._stops > before)
            finally:
                self._stops_heeded = self._stops
            return None
        self._scheduler.check_thread()
        run = self._admit(flow, params, vect_id, when_full)
        if not run.is_created:  # with the first commit of those that `wait` makes
            self._scheduler.put(Begin(run.id))
        vect = self._registry.vect(run)
        vect.wait()
        return vect

    def stop(self) -> None:
        """Have `run()` return, and serve no plans. Vects that are open stay as they are.

        Any thread. In foreground mode, where no `run()` is under way, the next one returns at once:
        a stop that comes just before it is not lost.
        """
        self._home.check()
        self._stops += 1
        self._plans.stop()
        self._scheduler.put(Nudge())

    def start(
        self,
        flow: str | Flow,
        params: Params = None,
        *,
        vect_id: Id = None,
        when_full: WhenFull | None = None,
        timeout: float = CALL_SECONDS,
    ) -> Vect:
        """Start a flow, and return its Vect when the log has it: then it is never lost.

        In background mode the engine's own thread drives it from then on. In foreground mode it
        is `pending`, and nothing more happens, until `run` or `Vect.wait` is called. On the
        scheduler's own thread, in a receiver or an inline step, it is part of the next commit.

        Args:
            flow: A flow or its name.
            params: The parameters by name; values of their types, or texts that can be made these.
            vect_id: An id of your own. If the log has this Vect already, from this program or an
                earlier one, it is returned, and nothing is started: saying it twice is the same as
                saying it once.
            when_full: What is to be done while `max_active_vects` Vects of the flow are open:
                `'raise'`, or `'wait'`: the Vect is created all the same, and starts when it is its
                turn. As the flow says, unless said.
            timeout: Seconds to wait while a step or receiver has the scheduler's thread; then
                nothing is started.

        Raises:
            UnknownFlowError: The app has no such flow.
            ParamError: A parameter is unknown, missing, wrong, or another one than in this Vect.
            FlowError: `flow.validate()` refuses the flow.
            VectAlreadyRunningException: `max_active_vects` Vects of the flow are open already, and
                it shall not wait.
            UnknownVectError: The Vect of this id has been pruned.
            EngineError: The app is closed, or the time was up.
            LogError: The engine has stopped, since its log could not be written.
        """
        seconds = _seconds_of("timeout", timeout)
        run = self._admit(flow, params, vect_id, when_full)
        self._engine.create(run, seconds)
        return self._registry.vect(run)

    async def astart(
        self,
        flow: str | Flow,
        params: Params = None,
        *,
        vect_id: Id = None,
        when_full: WhenFull | None = None,
        timeout: float = CALL_SECONDS,
    ) -> Vect:
        """Start a flow as `start` does, while the event loop goes on."""
        import asyncio  # noqa: PLC0415 - takes a third of the time of `import oautom`

        start = partial(
            self.start, flow, params, vect_id=vect_id, when_full=when_full, timeout=timeout
        )
        if self._scheduler.is_here:  # another thread would wait for this one
            return start()
        return await asyncio.to_thread(start)

    def _admit(
        self, flow: str | Flow, params: Params, vect_id: Id, when_full: WhenFull | None
    ) -> Run:
        """Return the run of this id, or a new one, which is still to begin."""
        check_process(is_made_by_step=self._is_made_by_step)
        declared = self.flow(flow)
        given = declared.when_full if when_full is None else when_full
        when_full = word_of("when_full", given, WhenFull)
        if vect_id is not None:
            vect_id = check_name("vect", vect_id)
        with self._lock:
            self._open()
            return self._starting.admit(declared, params, vect_id, when_full)

    def plan(
        self,
        flow: str | Flow,
        *,
        cron: str | None = None,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        timezone: str | tzinfo | None = None,
        params: Params = None,
        catch_up: bool = False,
        name: str | None = None,
    ) -> Plan:
        """Have a flow started again and again, by a cron expression or at an interval.

        In foreground mode plans are served only while `run()` is under way.

        Args:
            flow: A flow or its name.
            cron: Minute, hour, day of the month, month, day of the week, as crontab(5) has them.
            days: The interval, counted from when the log first hears of the plan.
            hours: More of it.
            minutes: More of it.
            seconds: More of it.
            timezone: By the clock of which place a cron goes, as 'Europe/Paris'; UTC unless said.
            params: The parameters, as of `start`. For a value `PLANNED`, or `...`, stands the time
                for which the plan starts, for `PLANNED - timedelta(days=1)` a time before it: as a
                `date` or a text, if that is the type of the parameter.
            catch_up: Whether every time counts: what was missed while nobody served, and what finds
                `max_active_vects` Vects open, starts later, in order. Unless said, it is skipped;
                but of a flow with `when_full='wait'` what finds them open is created, and waits.
            name: Of the plan, unique in the app; that of the flow unless said.

        Raises:
            UnknownFlowError: The app has no such flow.
            SettingError: An argument cannot be used, or there is a plan of this name.
            ParamError: A parameter is unknown, missing or wrong.
            CycleError: The steps of the flow wait for each other in a circle.
            LogError: What is left of the flow cannot be read; of a background app only.
            EngineError: The app is closed.
        """
        check_process(is_made_by_step=self._is_made_by_step)
        declared = self.flow(flow)
        units = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        schedule = schedule_of(declared.name, cron, timezone, units)
        with self._lock:
            self._check_open()
            if self._plans.is_served:
                self._open()
            return self._plans.add(declared, schedule, params, name, catch_up=catch_up)

    def flow(self, flow: str | Flow) -> Flow:
        """Return a flow by its name; a flow of this app itself.

        Raises:
            UnknownFlowError: The app has no such flow.
            FlowError: It is one of another app, or neither a flow nor a name.
        """
        self._home.check()
        return flow_of(self, self._flows, flow)

    def recover(self) -> list[Vect]:
        """Have the Vects go on that a dead program has left open in the log, and return them.

        What is left of its processes is ended first. Then each step that ran runs again, or fails,
        as its `on_crash` has it; a step that has ended is never run again. `run` and `start` do
        this by themselves, for the flows that are declared by then, and in background mode `plan`
        for its flow. A Vect that does not fit its flow any more is stranded: it stays as it is, a
        line of the logger `oautom.recovery` says why, and `vects(state='stranded')` has it.

        Raises:
            FlowError: A Vect does not go on, since its flow cannot be started; all others do.
            EngineError: The app is closed.
        """
        with self._lock:
            self._open()
            return [self._registry.vect(run) for run in self._recovery.recover()]

    def _recover_once(self) -> None:
        with self._lock:
            if not self._is_closed:
                self._open()
                self._recovery.recover_once()

    def vects(self, flow: str | Flow | None = None, state: str | None = None) -> list[Vect]:
        """Return the Vects, oldest first: all, or those of one flow or in one state.

        Those of earlier programs too, if their flows are declared. `'stranded'` is for those that
        are open in whatever state, and with which this program cannot go on: their flow has
        changed, or its declaration is wrong, their events make no sense, or there is a bug. Why,
        `status()` says.

        Raises:
            UnknownFlowError: The app has no such flow.
            SettingError: There is no such state.
        """
        states = (*VECT_STATES, _STRANDED)
        name = None if state is None else one_of(state, states)
        if state is not None and name is None:
            known = ", ".join(repr(each) for each in states)
            raise SettingError(f"state must be one of {known}, not {shown(state)}")
        wanted = None if flow is None else self.flow(flow)
        with self._lock:
            runs = list(self._registry.of(None if wanted is None else wanted.name))
        if name == _STRANDED:
            runs = [run for run in runs if self._registry.stranded(run) is not None]
        elif name is not None:
            runs = [run for run in runs if run.shown == name]
        return [self._registry.vect(run) for run in runs]

    def vect(self, id: str) -> Vect:  # noqa: A002 - the public word
        """Return a Vect by its id.

        Raises:
            UnknownVectError: There is no such Vect, or it has been pruned.
            UnknownFlowError: It is one of an earlier program, and its flow is not declared.
        """
        name = at_heart(id)
        with self._lock:
            run = self._registry.find(name) if type(name) is str else None
        if run is None:
            raise UnknownVectError(f"the app has no vect {shown(id)}; vects() lists them")
        return self._registry.vect(run)

    def prune(self, *, older_than: timedelta | datetime) -> list[PrunedVect]:
        """Take the events of Vects that ended some time ago out of the log, and return these Vects.

        The room that they took is given back. The log still knows that they were there: neither
        their ids nor the numbers of their events are used again.

        Args:
            older_than: How long ago they must have ended, or before which instant (aware).

        Raises:
            SettingError: `older_than` is neither.
            LogError: The log cannot be written.
            EngineError: The app is closed.
        """
        instant: object = older_than
        if issubclass(type(older_than), timedelta):
            try:
                instant = self._clock.now() - cast("timedelta", older_than)
            except OverflowError:
                what = f"older_than must lead to a date, and {shown(older_than)} does not"
                raise SettingError(what) from None
        before = check_instant(instant)
        with self._lock:
            self._open()
        return self._engine.prune(before)

    def logs(self) -> list[dict[str, Any]]:
        """Return the status of every Vect, newest first, as JSON would have it."""
        return list(self._registry.statuses(self._lock))

    def status(self, flow: str | Flow) -> dict[str, Any]:
        """Return the status of the newest Vect of a flow, as JSON would have it.

        Raises:
            UnknownFlowError: The app has no such flow.
            UnknownVectError: The flow has not been started yet.
        """
        name = self.flow(flow).name
        with self._lock:
            run = self._registry.newest(name)
        if run is None:
            raise UnknownVectError(f"flow '{name}' has no vect yet; start('{name}')", flow=name)
        return self._engine.status(run)

    def subscribe(
        self,
        function: Callable[..., object],
        *,
        name: str,
        events: Iterable[str] | None = None,
        after: int | None = None,
        give_up_after: int | None = None,
    ) -> Subscription:
        """Have `function(flow, event=event)` called for each event, on a thread of its own.

        In the order of the log, at least once. Where it raises, it is called again with the same
        event, after one second, two, four, at last every five minutes, for as long as it takes, and
        hears no other event meanwhile. A slow or failing function delays nobody else. It may start,
        cancel and wait for Vects.

        Args:
            function: Any callable but a coroutine function, as for a signal. `flow` is None where
                no flow of the name is declared (any more): `event.flow` is the name in any case.
            name: Under which the log keeps the position; one open subscription has it at a time.
            events: Names of the events to hear, as `['step.failed']`; None for all.
            after: Number of the event after which to begin: 0 for all. None to go on where the
                last subscription of this name has stopped; a new name hears what comes from now on.
            give_up_after: How often it is called with one event at most, by this subscription;
                then the event is put aside, for `given_up` and `redeliver`, and the next one
                follows. None for no limit.

        Raises:
            SettingError: An argument cannot be used, or the name is taken.
            LogError: The log cannot keep a position.
            EngineError: The app is closed.
        """
        check_process(is_made_by_step=self._is_made_by_step)
        with self._lock:
            self._open()
            return self._subscriptions.open(function, name, events, after, give_up_after)

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineError("the app is closed; make a new OAutom")
        self._scheduler.check_running()

    def close(self, drain: float = 0.0) -> None:
        """End all work, wait until no process of it is left, and stop. May be called twice.

        With `drain`, what runs may end by itself for so many seconds before, and its end is written
        down; nothing begins meanwhile: no step, no further attempt, no plan, no Vect. Steps that
        wait for a time, a person or a file are not waited for. Then, or when nothing runs any more,
        or at Ctrl-C, or when somebody else calls `close()`, all is ended as without.

        A function that listens to `context.cancelled` is waited for, 10 seconds at the most.
        Vects that are open are cancelled, but for those of a durable log: they go on when the
        program is run again. Subscriptions are told what has happened until then, within five
        seconds; one that raises is asked once more, and goes on there next time. A subscription's
        function may call this: it has heard its event when it returns. Vects and their events can
        still be read. In a forked child it does nothing.

        Args:
            drain: Seconds for what runs to end in.

        Raises:
            SettingError: `drain` is no duration.
            EngineError: Called by a step or receiver on the scheduler's own thread.
        """
        seconds = _seconds_of("drain", drain)
        if not self._home.process.is_here:
            return
        if not self._is_closed:
            self._scheduler.check_thread("close the app")
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
        if was_closed:
            if not seconds:
                self._engine.hurry()
            self._subscriptions.wait_for_close()
            return
        self._stops += 1  # for who serves on another thread
        try:
            self._plans.stop()
            self._parts.end(seconds)
            closed(self)
        finally:
            self._subscriptions.is_over.set()

    async def aclose(self, drain: float = 0.0) -> None:
        """Close the app as `close` does, while the event loop goes on."""
        import asyncio  # noqa: PLC0415 - as in `astart`

        await asyncio.to_thread(self.close, drain)

    def __getstate__(self) -> NoReturn:
        """Refuse to travel to another process.

        Raises:
            EngineError: Always.
        """
        raise EngineError("an OAutom stays in its process; a step elsewhere cannot be given it")

    def __repr__(self) -> str:
        """Return mode and size."""
        return f"<OAutom {self.mode}: {len(self._flows)} flows, {len(self._registry.runs)} vects>"

    def __enter__(self) -> Self:
        """Return the app."""
        self._home.check()
        self._parts.is_in_block = True
        return self

    def __exit__(self, *raised: object) -> None:
        """Close the app."""
        self.close()


def _seconds_of(name: str, given: object) -> float:
    """Return how long something may take, as an exact number; at most as long as all durations.

    Raises:
        SettingError: It is no duration.
    """
    number = at_heart(given)
    if type(number) not in (int, float) or not number >= 0:  # nor is a NaN
        raise SettingError(f"{name} must be seconds, from 0, not {shown(given)}")
    return float(min(number, SECONDS_MAX))


class _Parts:
    """What an app consists of, without the app: so it can be ended when that is gone.

    Attributes:
        is_open: Its log is, and what was found in it can go on.
        is_in_block: It is in its `with` block.
        home: In which process it works.
        flows: Its flows, by name.
    """

    def __init__(
        self,
        home: Home,
        flows: Mapping[str, Flow],
        engine: ForegroundEngine,
        subscriptions: Subscriptions,
        log: Given,
    ) -> None:
        self.home = home
        self.flows = flows
        self.is_open = False
        self.is_in_block = False
        self._engine = engine
        self._subscriptions = subscriptions
        self._log = log

    def is_idle(self) -> bool:
        """Whether there is nothing to do, nobody waits for anything, and nobody listens."""
        is_at_rest = self._engine.is_at_rest() and not self._subscriptions.is_any_open
        return is_at_rest and not self.is_in_block

    def end(self, drain: float = 0.0) -> None:
        """End all that is open; for so many seconds what runs may end by itself before."""
        if self.is_open or not self._log.is_ours:
            self._engine.close(drain)
        self._subscriptions.close()
        if self._log.is_ours:
            self._log.log.close()
