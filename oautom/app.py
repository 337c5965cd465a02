"""`OAutom`: the application. The registry of flows and Vects, and the life of the engine."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import Any, Final, NoReturn, Self, TypedDict, Unpack, cast, overload

from oautom.engine.asked import asked_of
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
from oautom.engine.shown import Showing
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
from oautom.plans.backfill import Moment
from oautom.plans.plans import Plan, Plans, schedule_of
from oautom.processes import forked
from oautom.processes.forked import Home
from oautom.steps.callee import is_async
from oautom.steps.context import CALLED
from oautom.steps.execution import Execution
from oautom.steps.options import Pool, flag_of, word_of
from oautom.steps.secrets import SecretSource
from oautom.values.json import SECONDS_MAX, at_heart
from oautom.values.names import check_max_workers, check_name, has_members, one_of
from oautom.vects.run import Run
from oautom.vects.vect import Vect
from oautom.workers import Where, make_workers

Params = Mapping[str, Any] | None
Id = str | None
Until = str | Execution | Iterable[str | Execution] | None
Only = str | Execution | None
Outputs = Mapping[str, Any] | Mapping[Execution, Any] | str | Vect | None
_STRANDED: Final = "stranded"


class _Settings(TypedDict, total=False):
    """The settings that can be changed until the app first does something."""

    log: EventLog | str | os.PathLike[str] | None
    executor: Where
    max_workers: int | None


class OAutom:
    """The application: flows are registered with it, and it runs them.

    A context manager: the end of the block closes it. All methods may be called on any thread.
    The app belongs to the process in which it first works: in a child that is forked after that,
    all methods raise an `EngineError`, except `close`, which does nothing there.

    Args:
        mode: Whether the thread that waits drives the Vects (foreground), or a thread of the
            engine's own (background).
        log: Where events are stored: None (or `':memory:'`) for memory; the path of a file, which
            is made if it does not exist, for a durable `SqliteEventLog`; or any `EventLog`.
        executor: Where the work of steps runs: `'threads'`, `'inline'` (the scheduler's own thread:
            deterministic, fastest for steps that do little), `'processes'` (spawned; functions and
            values must be picklable), any `concurrent.futures.Executor`, a function without
            arguments that makes one (it is called at the first need, and again when what it has
            made is broken; `close` shuts that down), or a `distributed.Client`.
        max_workers: How many steps run at once. Default: the number of workers of the executor,
            which is processors + 4, at most 32, for threads, and one per processor for processes.
        clock: The source of time; None for the clock of the machine.
        drain: Seconds that running steps have to end in, after a SIGTERM that comes while `run` or
            `wait` drives on the main thread; nothing begins meanwhile. Then, or at the next signal,
            the remaining work is ended. Default: 0, which ends all work at once.
        secrets: A function that returns the value of a secret by its name; it is called on a
            worker's thread of this process, before the step, for each attempt. Default: a secret is
            the variable of its name in the environment where the step runs.
        ship_secrets: Whether the values of secrets, from `secrets` or from the environment here,
            travel to steps in other processes. Default: False, they come from the environment
            there.

    Raises:
        SettingError: An argument cannot be used.
    """

    def __init__(
        self,
        mode: OAutomMode = OAutomMode.foreground,
        *,
        log: EventLog | str | os.PathLike[str] | None = None,
        executor: Where = "threads",
        max_workers: int | None = None,
        clock: Clock | None = None,
        drain: float = 0.0,
        secrets: Callable[[str], str] | None = None,
        ship_secrets: bool = False,
    ) -> None:
        self._secrets = _source_of(secrets, ship_secrets)
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
        """Change arguments of `OAutom(...)`, before the app does anything.

        So a module can declare flows, and the program that imports it decides where they run.

        Args:
            settings: `log`, `executor` and `max_workers`, as of `OAutom`; all others stay as they
                are.

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
        """Make all that runs flows, without opening the log."""
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
        scheduler.runner.secrets = self._secrets
        self._scheduler = scheduler
        self._registry = scheduler.registry
        self._registry.flows = self._flows
        self._engine = make_engine(self.mode, scheduler, log)
        self._engine.home = self._home
        self._engine.check_process = partial(check_process, is_made_by_step=self._is_made_by_step)
        self._engine.drain = self._drain
        self._recovery = Recovery(log, scheduler, self._engine.listen)
        self._starting = Starting(log, scheduler, self._recovery, self._home)
        # These calls must not keep an app alive that nothing else refers to.
        self._engine.prepare = weakly(self._recover_once)
        self._engine.open = weakly(self._open_once)
        Children(scheduler, self._starting, log)
        Files(scheduler.runner)
        self._plans.serve_by(scheduler, log, self._starting, self._recovery)
        showing = self._showing = Showing(log, str(self.mode), workers)
        self._plans.on_change = showing.plan
        self._recovery.on_stranded = showing.stranded
        scheduler.containment.on_strand = lambda run: showing.stranded({run.id: str(run.held_up)})
        # Also when nothing refers to the app any more.
        weakref.finalize(scheduler, workers.close).atexit = False
        self._parts = _Parts(
            self._home, self._flows, self._engine, self._subscriptions, self._given, showing
        )
        opened(self, self._parts)

    def _open(self) -> None:
        """Open the log, if it is not open yet; under the lock.

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
        self._showing.open(self._flows.values(), self.pools, self._plans.shown())

    def _open_log(self) -> None:
        try:
            self._given.open()
        except LogLockedError as error:
            if error.pid != os.getpid():
                raise
            let_go_of_forgotten()
            self._given.open()

    def _open_once(self) -> None:
        """Open the log for a call of a Vect."""
        if not self._parts.is_open:
            with self._lock:
                self._open()

    def add(self, flow: Flow) -> None:
        """Add a flow; a `Flow` calls this when it is made.

        Raises:
            FlowError: It is no flow of this app.
            DuplicateFlowError: There is a flow of this name.
            EngineError: The app is closed.
        """
        self._home.check()
        if not issubclass(type(flow), Flow) or getattr(flow, "app", None) is not self:
            raise FlowError(
                f"an app takes its own flows only, not {shown(flow)}; Flow(name, app) adds a flow "
                "to its app"
            )
        with self._lock:
            self._check_open()
            if flow.name in self._flows:
                raise DuplicateFlowError(flow.name)
            self._flows[flow.name] = flow
            self._showing.flow(flow, self.pools)

    @property
    def is_driven(self) -> bool:
        """Whether somebody drives the engine: in the background it drives itself when need be."""
        self._home.check()
        return self.mode is OAutomMode.background or self._scheduler.is_driven

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
        until: Until = None,
        only: Only = None,
        given: Outputs = None,
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
        until: Until = None,
        only: Only = None,
        given: Outputs = None,
    ) -> Vect | None:
        """Start a flow, wait for its end, and return its Vect; without a flow, serve.

        Without a flow, in foreground mode, the calling thread serves plans and drives all Vects
        that have been started, until `stop()`, SIGINT or SIGTERM; in background mode the call
        returns at once.

        Args:
            flow: A flow or its name.
            params: See `start`.
            vect_id: See `start`.
            when_full: See `start`.
            until: See `start`.
            only: See `start`.
            given: See `start`.

        Raises:
            All errors of `start` and `Vect.wait`. A Vect that fails raises nothing: see its state.
        """
        if flow is None:
            if any(each is not None for each in (params, vect_id, when_full, until, only, given)):
                raise SettingError(
                    "run() with params, a vect_id, when_full, until, only or given needs a flow to "
                    "run"
                )
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
        run = self._admit(flow, params, vect_id, when_full, until, only, given)
        if not run.is_created:  # with the first commit of those that `wait` makes
            self._scheduler.put(Begin(run.id))
        vect = self._registry.vect(run)
        vect.wait()
        return vect

    def stop(self) -> None:
        """Make `run()` return, and stop serving plans. Open Vects stay as they are.

        Any thread. If no `run()` is under way in foreground mode, the next one returns at once, so
        that a stop that comes just before it is not lost.
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
        until: Until = None,
        only: Only = None,
        given: Outputs = None,
        timeout: float = CALL_SECONDS,
    ) -> Vect:
        """Start a flow, and return its Vect when the log has it: from then on it is never lost.

        In background mode the engine's own thread drives the Vect from then on. In foreground mode
        it is `pending`, and nothing more happens, until `run` or `Vect.wait` is called. On the
        scheduler's own thread, in a receiver or an inline step, the start is part of the next
        commit.

        Args:
            flow: A flow or its name.
            params: The parameters by name: values of their types, or texts that can be converted to
                these.
            vect_id: An id of your own. If the log has a Vect of this id already, from this program
                or an earlier one, that Vect is returned and nothing is started. So you can safely
                repeat the call.
            when_full: While `max_active_vects` Vects of the flow are open, raise (`'raise'`), or
                create a Vect that waits for its turn (`'wait'`). Default: that of the flow.
            until: A step, or several, or their names: the Vect has only these steps, and what they
                wait for. Default: all steps of the flow.
            only: A step or its name: the Vect runs this step and no other, whatever its trigger
                rule says. The steps before it have given outputs.
            given: These outputs, by step; or a Vect of the flow, or its id: then the step gets the
                outputs that it got there, and the parameters of that Vect are the defaults.
            timeout: Seconds to wait while a step or receiver occupies the scheduler's thread; then
                nothing is started.

        Raises:
            UnknownFlowError: The app has no such flow.
            ParamError: A parameter is unknown, missing, wrong, or differs from that of this Vect.
            UnknownStepError: The flow has no such step.
            FlowError: `flow.validate()` refuses the flow; or the Vect of this id has other steps;
                or an output that `only` takes is not given, or not of its type.
            VectAlreadyRunningException: `max_active_vects` Vects of the flow are open already, and
                `when_full` is `'raise'`.
            UnknownVectError: The Vect of this id, or the one that is given, has been pruned, or
                there is none that is given.
            EngineError: The app is closed, or the timeout is over.
            LogError: The engine has stopped, since its log could not be written.
        """
        seconds = _seconds_of("timeout", timeout)
        run = self._admit(flow, params, vect_id, when_full, until, only, given)
        self._engine.create([run], seconds)
        return self._registry.vect(run)

    async def astart(
        self,
        flow: str | Flow,
        params: Params = None,
        *,
        vect_id: Id = None,
        when_full: WhenFull | None = None,
        until: Until = None,
        only: Only = None,
        given: Outputs = None,
        timeout: float = CALL_SECONDS,
    ) -> Vect:
        """Start a flow as `start` does, while the event loop goes on."""
        import asyncio  # noqa: PLC0415 - takes a third of the time of `import oautom`

        start = partial(
            self.start,
            flow,
            params,
            vect_id=vect_id,
            when_full=when_full,
            until=until,
            only=only,
            given=given,
            timeout=timeout,
        )
        if self._scheduler.is_here:  # another thread would wait for this one
            return start()
        return await asyncio.to_thread(start)

    def _admit(
        self,
        flow: str | Flow,
        params: Params,
        vect_id: Id,
        when_full: WhenFull | None,
        until: Until,
        only: Only,
        given: Outputs,
    ) -> Run:
        """Return the run of this id, or a new one, which is still to begin."""
        check_process(is_made_by_step=self._is_made_by_step)
        declared = self.flow(flow)
        what = declared.when_full if when_full is None else when_full
        when_full = word_of("when_full", what, WhenFull)
        asked = asked_of(declared, until, only, given)
        if vect_id is not None:
            vect_id = check_name("vect", vect_id)
        with self._lock:
            self._open()
            is_new = not declared.is_frozen
            run = self._starting.admit(declared, params, vect_id, when_full, asked)
            if is_new:  # its steps may have named pools
                self._showing.flow(declared, self.pools)
            return run

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
        """Start a flow again and again, by a cron expression or at an interval.

        In foreground mode plans are served only while `run()` is under way.

        Args:
            flow: A flow or its name.
            cron: Minute, hour, day of the month, month, day of the week, as in crontab(5).
            days: The interval in days, counted from when the plan first appears in the log.
            hours: Hours to add to the interval.
            minutes: Minutes to add to the interval.
            seconds: Seconds to add to the interval.
            timezone: The time zone of a cron, as 'Europe/Paris', or a `tzinfo`. Default: UTC.
            params: The parameters, as of `start`. The value `PLANNED`, or `...`, stands for the
                time for which the plan starts, and `PLANNED - timedelta(days=1)` for a time before
                it: as a `date` or a text, if that is the type of the parameter.
            catch_up: Whether every time counts. If so, a time that was missed because the plan was
                not served, or because `max_active_vects` Vects were open, starts later, in order.
                Default: False, such a time is skipped; but for a flow with `when_full='wait'`, a
                time that finds no room is created, and waits for its turn.
            name: The name of the plan, unique in the app. Default: the name of the flow.

        Raises:
            UnknownFlowError: The app has no such flow.
            SettingError: An argument cannot be used, or there is a plan of this name.
            ParamError: A parameter is unknown, missing or wrong.
            CycleError: The steps of the flow wait for each other in a circle.
            LogError: The open Vects of the flow cannot be read; in a background app only.
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

    def backfill(
        self,
        flow: str | Flow,
        first: Moment,
        last: Moment,
        *,
        plan: str | None = None,
        parallel: int | None = None,
        timeout: float = CALL_SECONDS,
    ) -> list[Vect]:
        """Start a flow for each past time of a plan that has no Vect, and return these Vects.

        They have the ids and the parameters that the plan itself would give, and wait for their
        turn. All are in the log when the call returns, by one commit: none is lost. A time that has
        a Vect keeps that, so the call may be repeated.

        Args:
            flow: A flow or its name.
            first: The beginning of the range: an aware time, or by the clock of the plan a naive
                one, or a day; or ISO text of one.
            last: Its end, included; of a day its last moment.
            plan: The name of the plan, if the flow has several.
            parallel: How many of them are open at once, at most. Default: `max_active_vects` of the
                flow alone decides.
            timeout: As of `start`.

        Raises:
            UnknownFlowError: The app has no such flow.
            UnknownPlanError: The flow has no such plan, or several.
            SettingError: An argument cannot be used, or the range has more than a thousand times.
            ParamError: The flow refuses the parameters of a time; nothing is started.
            FlowError: `flow.validate()` refuses the flow.
            EngineError: The app is closed, or the timeout is over.
            LogError: The engine has stopped, since its log could not be written.
        """
        check_process(is_made_by_step=self._is_made_by_step)
        declared, seconds = self.flow(flow), _seconds_of("timeout", timeout)
        plan = None if plan is None else check_name("plan", plan)
        with self._lock:
            self._open()
            name = os.urandom(8).hex()
            runs = self._plans.admit(declared, (first, last), plan, parallel, name)
        self._engine.create(runs, seconds)
        return [self._registry.vect(run) for run in runs]

    def flow(self, flow: str | Flow) -> Flow:
        """Return the flow of a name; or a flow of this app, as it is.

        Raises:
            UnknownFlowError: The app has no such flow.
            FlowError: The argument is a flow of another app, or neither a flow nor a name.
        """
        self._home.check()
        return flow_of(self, self._flows, flow)

    def missing_secrets(self, flow: str | Flow) -> list[str]:
        """Return the names of the secrets of a flow that the environment here does not have.

        None are missing if the app has a function for them (`secrets`): only a step asks that.

        Raises:
            UnknownFlowError: The app has no such flow.
            FlowError: The argument is a flow of another app, or neither a flow nor a name.
        """
        names = self.flow(flow).secrets
        return [] if self._secrets.find is not None else [n for n in names if n not in os.environ]

    def recover(self) -> list[Vect]:
        """Go on with the Vects that a dead program has left open in the log, and return them.

        First, the processes that it has left are ended. Then each step that was running runs again,
        or fails, depending on its `on_crash`; a step that has ended never runs again. `run` and
        `start` do this by themselves, for the flows that are declared by then, and in background
        mode `plan` for its flow. A Vect that does not fit its flow any more is stranded: it stays
        as it is, a line of the logger `oautom.recovery` says why, and `vects(state='stranded')`
        lists it.

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

        Vects of earlier programs are among them, if their flows are declared. The state
        `'stranded'` selects the open Vects, in any state, with which this program cannot go on:
        their flow has changed, or its declaration is wrong, their events make no sense, or there is
        a bug. `status()` has the reason.

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
            UnknownFlowError: The Vect is one of an earlier program, and its flow is not declared.
        """
        name = at_heart(id)
        with self._lock:
            run = self._registry.find(name) if type(name) is str else None
        if run is None:
            raise UnknownVectError(f"the app has no vect {shown(id)}; vects() lists them")
        return self._registry.vect(run)

    def prune(self, *, older_than: timedelta | datetime) -> list[PrunedVect]:
        """Take the events of Vects that ended some time ago out of the log, and return these Vects.

        The file becomes smaller. The log still knows that the Vects existed: neither their ids nor
        the numbers of their events are used again.

        Args:
            older_than: A `timedelta`: how long ago they must have ended; or an aware `datetime`:
                the instant before which they must have ended.

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
        """Return the `status()` of every Vect, newest first, in the form of JSON."""
        return list(self._registry.statuses(self._lock))

    def status(self, flow: str | Flow) -> dict[str, Any]:
        """Return the `status()` of the newest Vect of a flow, in the form of JSON.

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
        """Call `function(flow, event=event)` for each event, on a thread of its own.

        The calls come in the order of the log, at least once each. If the function raises, it is
        called again with the same event, after one second, two, four, at last every five minutes,
        until it returns, and gets no other event meanwhile. A slow or failing function delays no
        other subscription and no Vect. It may start, cancel and wait for Vects.

        Args:
            function: Any callable but a coroutine function, as for a signal. `flow` is None if no
                flow of the name is declared (any more): `event.flow` is the name in any case.
            name: The name under which the log stores the position; only one open subscription has
                it at a time.
            events: Names of the events to receive, as `['step.failed']`; None for all.
            after: Number of the event after which to begin: 0 for all. None to go on where the
                last subscription of this name has stopped; a new name begins with the next event.
            give_up_after: How often this subscription calls the function with one event at most;
                then the event is put aside, for `given_up` and `redeliver`, and the next one
                follows. None for no limit.

        Raises:
            SettingError: An argument cannot be used, or the name is taken.
            LogError: The log cannot store a position.
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

        With `drain`, running steps first have so many seconds to end by themselves, and the log
        records their end; nothing begins meanwhile: no step, no further attempt, no plan, no Vect.
        The drain does not wait for steps that wait for a time, a person or a file. Then, or when
        nothing runs any more, or at Ctrl-C, or at a call of `close()` on another thread, the
        remaining work is ended as without `drain`.

        The call waits up to 10 seconds for a function that has asked for `context.cancelled`.
        Open Vects are cancelled, except with a durable log: there they go on when the program is
        run again. Subscriptions have five seconds to deliver what has happened until then; one
        whose function raises calls it once more, and begins at that event next time. The function
        of a subscription may call `close`: if it then returns, its event counts as delivered. Vects
        and their events can still be read. In a forked child the call does nothing.

        Args:
            drain: Seconds that running steps have to end in.

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
        self._stops += 1  # for a `run` that serves on another thread
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
        raise EngineError("an OAutom stays in its process, and cannot be sent to a step elsewhere")

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
    """Return a duration as an exact number of seconds, at most `SECONDS_MAX`.

    Raises:
        SettingError: The argument is no duration.
    """
    number = at_heart(given)
    if type(number) not in (int, float) or not number >= 0:  # nor is a NaN
        raise SettingError(f"{name} must be seconds, from 0, not {shown(given)}")
    return float(min(number, SECONDS_MAX))


def _source_of(secrets: object, ship_secrets: object) -> SecretSource:
    """Return where the values of secrets come from.

    Raises:
        SettingError: An argument cannot be used.
    """
    if secrets is not None and (not callable(secrets) or is_async(secrets)):
        raise SettingError(
            f"secrets must be a plain function that returns the value of a secret by its name, not "
            f"{shown(secrets)}"
        )
    return SecretSource(secrets, flag_of("ship_secrets", ship_secrets))


class _Parts:
    """The parts of an app, without the app, so that they can be ended after it is collected.

    Attributes:
        is_open: Whether the log is open, and its Vects can go on.
        is_in_block: Whether the app is in its `with` block.
        home: The process in which the app works.
        flows: Its flows, by name.
    """

    def __init__(
        self,
        home: Home,
        flows: Mapping[str, Flow],
        engine: ForegroundEngine,
        subscriptions: Subscriptions,
        log: Given,
        showing: Showing,
    ) -> None:
        self.home = home
        self.flows = flows
        self.is_open = False
        self.is_in_block = False
        self._engine = engine
        self._subscriptions = subscriptions
        self._log = log
        self._showing = showing

    def is_idle(self) -> bool:
        """Whether nothing is to be done, no thread waits, and no subscription is open."""
        is_at_rest = self._engine.is_at_rest() and not self._subscriptions.is_any_open
        return is_at_rest and not self.is_in_block

    def end(self, drain: float = 0.0) -> None:
        """End everything, after running steps have had `drain` seconds to end by themselves."""
        if self.is_open or not self._log.is_ours:
            self._engine.close(drain)
        self._showing.close()
        self._subscriptions.close()
        if self._log.is_ours:
            self._log.log.close()
