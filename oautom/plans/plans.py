"""Plans: schedules that start a flow, as long as the app serves them.

One timer on the heap of the scheduler checks all plans of an app: when the first of them is due,
and at least once a minute, since the wall clock may jump and a machine may sleep. The log records
how far a plan has come: the newest time for which it has started or skipped a Vect.

A check runs between two ticks, on the thread that drives, and takes the lock of the app: all data
here are read and changed under that lock.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from types import MappingProxyType
from typing import Any, Final, cast

from oautom.engine.clock import Clock
from oautom.engine.messages import Asked, Note, Nudge
from oautom.engine.modes import OAutomMode
from oautom.engine.recovery import Recovery
from oautom.engine.scheduler import Scheduler
from oautom.engine.starting import Starting, flow_of
from oautom.errors import (
    LogError,
    OAutomError,
    ParamError,
    SettingError,
    UnknownPlanError,
    UnknownVectError,
    VectAlreadyRunningException,
    shown,
)
from oautom.events.log import EventLog
from oautom.events.requests import Request
from oautom.flows.checks import with_children
from oautom.flows.flow import Flow
from oautom.machine.event import stamp
from oautom.machine.tables import PLAN_CREATED, PLAN_SKIPPED
from oautom.plans.backfill import YEAR_MAX, parallel_of, text_of, times_of
from oautom.plans.planned import PLANNED, Planned
from oautom.plans.schedule import Cron, Interval, Schedule, interval_of
from oautom.processes.forked import Home
from oautom.values.annotations import UNKNOWN, shown_type
from oautom.values.json import is_json
from oautom.values.names import check_name
from oautom.vects.run import Run

LOOK_INTERVAL: Final = 60.0
"""Seconds after which plans are checked in any case."""
GAP: Final = timedelta(days=1)
"""A time that was due longer ago counts as not served: the clock was wrong until now."""

_TICK: Final = timedelta(microseconds=1)
_LATE: Final = "it was noticed late, and the next time of the plan was due by then as well"
_logger = logging.getLogger("oautom.plans")


def schedule_of(
    flow: str, cron: str | None, timezone: str | tzinfo | None, units: Mapping[str, float]
) -> Schedule:
    """Return the schedule that the arguments of `OAutom.plan` describe.

    Raises:
        SettingError: They describe none, or several; the error names the flow.
    """
    try:
        return _schedule(cron, timezone, interval_of(units))
    except SettingError as error:
        raise SettingError(
            f"the plan of flow '{flow}' cannot be made: {error}", flow=flow
        ) from error


def _schedule(
    cron: str | None, timezone: str | tzinfo | None, interval: Interval | None
) -> Schedule:
    if interval is None:
        if cron is None:
            raise SettingError("it needs an interval longer than 0, as hours=1, or a cron")
        return Cron(cron, _zone(timezone))
    if cron is not None:
        raise SettingError("it takes an interval or a cron, not both; make two plans")
    if timezone is not None:
        raise SettingError(
            "an interval is the same in each timezone; leave timezone out, or use a cron"
        )
    return interval


def _zone(timezone: object) -> tzinfo:
    if isinstance(timezone, tzinfo):
        return timezone
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - only who plans by a zone pays for it

    try:
        return ZoneInfo("UTC" if timezone is None else timezone)  # type: ignore[arg-type] # see below
    except (KeyError, OSError, TypeError, ValueError):
        raise SettingError(
            f"there is no timezone {shown(timezone)}; write it as 'Europe/Paris' (if the system "
            "has no time zones, install the package tzdata)"
        ) from None


class Standing:
    """A plan inside the engine, with its place in its schedule.

    Attributes:
        schedule: Its times.
        next: The time that it deals with next.
        declared: When it was declared.
        is_waiting: Whether `next` is due, and waits until its flow has room, or the program is
            fixed.
        stuck_at: The time at which it cannot start, if the logger has said so already.
    """

    def __init__(
        self,
        name: str,
        flow: Flow,
        schedule: Schedule,
        params: Mapping[str, Any] | None,
        declared: datetime,
        *,
        catch_up: bool,
    ) -> None:
        self.name = name
        self.flow = flow
        self.params = params
        self.catch_up = catch_up
        self.is_waiting = False
        self.stuck_at: datetime | None = None
        self.declared = declared
        self._given = schedule
        self.go_on(declared)

    def go_on(self, after: datetime) -> None:
        """Move on to the time after the last one that was dealt with; intervals count from it."""
        self.schedule = self._given.anchored(after)
        self.next = self.schedule.next_time(after)

    def shown(self) -> Mapping[str, Any]:
        """Return what other processes are shown of it: enough to know when it is due next."""
        told: dict[str, Any] = {"flow": self.flow.name, "catch_up": self.catch_up}
        given = (self.params or {}).items()
        told["params"] = {name: each if is_json(each) else repr(each) for name, each in given}
        match self._given:
            case Cron(expression=expression, zone=zone):
                return told | {"cron": expression, "timezone": str(zone)}
            case Interval(every=every):
                return told | {"every": every.total_seconds()}
        return told

    def params_at(self, time: datetime) -> Mapping[str, Any] | None:
        """Return the parameters for a time, which replaces `PLANNED`, by the clock of the plan."""
        if self.params is None:
            return None
        local = time.astimezone(getattr(self.schedule, "zone", UTC))
        return {name: self._value_at(local, name, value) for name, value in self.params.items()}

    def _value_at(self, local: datetime, name: str, value: object) -> object:
        planned = PLANNED if value is ... else value
        if type(planned) is not Planned:
            return value
        param = self.flow.params.get(name)
        return planned.at(local, UNKNOWN if param is None else param.annotation)

    def check_params(self) -> None:
        """Refuse parameters that the flow does not take, as they are for the next time.

        Raises:
            ParamError: A parameter is unknown, missing or wrong.
        """
        given, declared = self.params, self.flow.params
        if not isinstance(given, Mapping):
            declared.plain(given)
            return
        plain = cast("Mapping[str, Any]", self.params_at(self.next))
        for name, value in given.items():
            if (value is ... or type(value) is Planned) and name in declared:
                try:
                    declared.plain_of_given({name: plain[name]})
                except ParamError as error:
                    kind = shown_type(declared[name].annotation)
                    told = "PLANNED" if value is ... else repr(value)
                    raise declared.error(
                        f"parameter '{name}' is {kind}, and cannot be {told}: the time of a plan "
                        "is a datetime, for a date its day, and for a str ISO text",
                        name,
                    ) from error
        declared.plain(plain)

    def pass_over(self, now: datetime) -> None:
        """Drop the times that have passed while the plan was not served."""
        if not self.catch_up and self.next < now:
            passed, self.next = self.next, self.schedule.next_time(now - _TICK)
            told = self.name, stamp(passed), stamp(self.next)
            _logger.info("plan %r: nobody served it at %s; it goes on at %s", *told)


class Plan:
    """A schedule that starts a flow. Made by `OAutom.plan`; may be used on any thread.

    In a forked child only `name` and `flow` can be read: all other members raise an `EngineError`.
    """

    def __init__(self, standing: Standing, plans: Plans) -> None:
        self._standing = standing
        self._plans = plans

    @property
    def name(self) -> str:
        """Its name, unique in its app."""
        return self._standing.name

    @property
    def flow(self) -> Flow:
        """The flow that it starts."""
        return self._standing.flow

    def next_time(self, after: datetime | None = None) -> datetime:
        """Return the time at which it is due next: aware, UTC.

        Args:
            after: The instant (aware) after which that time must be; None for now.

        Raises:
            SettingError: `after` is no instant.
        """
        self._plans.check_process()
        if after is None:
            after = max(self._plans.now(), self._standing.next - _TICK)
        elif not isinstance(after, datetime) or after.tzinfo is None or after.year > YEAR_MAX:
            raise SettingError(
                f"after must be a datetime with a time zone, up to {YEAR_MAX}, not {shown(after)}",
                flow=self.flow.name,
            )
        return self._standing.schedule.next_time(after)

    def cancel(self) -> None:
        """End the plan: it starts nothing more, and its name is free. May be called twice.

        Vects that it has started go on. If the next run of the program declares the plan again, it
        goes on.
        """
        self._plans.check_process()
        self._plans.remove(self._standing)

    def __repr__(self) -> str:
        """Return name and schedule."""
        return f"<Plan '{self.name}': {self._standing.schedule!r}>"


class Plans:
    """The plans of an app.

    Args:
        clock: The source of time.
        home: The process of the app, and its lock.
        mode: In the background, plans are served from the beginning.

    Attributes:
        is_served: Whether due plans start Vects.
        on_change: Called with the name of a plan, and the facts that other processes see; None if
            the plan was removed.
    """

    def __init__(self, clock: Clock, home: Home, mode: OAutomMode) -> None:
        self._clock = clock
        self._home = home
        self.on_change: Callable[[str, Mapping[str, Any] | None], object] = _ignore
        self._standings: dict[str, Standing] = {}
        self._dealt: dict[str, datetime] = {}  # with what each has dealt, the log may not have yet
        self._mode = mode
        self.is_served = mode is OAutomMode.background
        self._is_log_open = False
        self._new: dict[str, Flow] = {}  # flows by plans that the log may not know, until it is
        self._timer = 0.0  # when the next look is, by the monotonic clock

    def serve_by(
        self, scheduler: Scheduler, log: EventLog, starting: Starting, recovery: Recovery
    ) -> None:
        """Set the parts of the engine by which plans are served.

        Args:
            scheduler: The scheduler, which drives the Vects and has the timers.
            log: The log, which records how far plans have come.
            starting: The part that makes runs.
            recovery: The part that goes on with the open Vects of a flow that gets a plan.
        """
        self._scheduler = scheduler
        self._log = log
        self._starting = starting
        self._recovery = recovery
        scheduler.on_look = self._look
        scheduler.admit["backfill"] = self._admit_asked

    def log_is_open(self) -> None:
        """Set the place of all plans from the log, which is open now; under the lock."""
        self._is_log_open = True
        for name, flow in self._new.items():
            if self._log.planned(name) is None:
                self._put(flow, PLAN_CREATED, _told(name, self._dealt[name]))
            else:  # another program has planned it meanwhile
                del self._dealt[name]
        self._new.clear()
        for standing in self._standings.values():
            self._place(standing)

    def shown(self) -> dict[str, Mapping[str, Any]]:
        """Return what other processes are shown of the plans, by their names."""
        return {name: standing.shown() for name, standing in self._standings.items()}

    def check_process(self) -> None:
        """Refuse to go on in a forked child; errors as of `Home.check`."""
        self._home.check()

    def now(self) -> datetime:
        """Return the time."""
        return self._clock.now()

    def add(
        self,
        flow: Flow,
        schedule: Schedule,
        params: Mapping[str, Any] | None,
        name: str | None,
        *,
        catch_up: bool,
    ) -> Plan:
        """Add a plan; under the lock of the app.

        Raises:
            SettingError: An argument cannot be used, or there is a plan of this name.
            ParamError: A parameter is unknown, missing or wrong.
            CycleError: The flow has a cycle.
        """
        name = flow.name if name is None else name
        name = check_name(f"flow '{flow.name}': plan", name, flow=flow.name)
        if not isinstance(catch_up, bool):
            raise SettingError(
                f"catch_up must be True or False, not {shown(catch_up)}", flow=flow.name
            )
        if name in self._standings:
            raise SettingError(
                f"there is a plan '{name}' already, of flow '{self._standings[name].flow.name}'; "
                "give this one another name=, or cancel() that one",
                flow=flow.name,
            )
        flow.validate()
        now = self._clock.now()
        standing = Standing(name, flow, schedule, params, now, catch_up=catch_up)
        standing.check_params()
        self._place(standing)
        if self.is_served:
            self._recovery.recover_once(with_children(flow))
        self._standings[name] = standing
        self._scheduler.registry.watch(flow)
        self.on_change(name, standing.shown())
        if self.is_served:
            standing.pass_over(now)
            self._look_soon()
        if self._is_log_open and self._log.id is not None:
            self._scheduler.put(Asked(again=True))  # another process may have asked for its times
        return Plan(standing, self)

    def _admit_asked(self, request: Request) -> list[Run]:
        """Take in the runs that another process wants to fill times with."""
        told = request.data
        with self._home.lock:
            flow = flow_of(None, self._scheduler.registry.flows, told["flow"])
            ends = (told["from"], told["to"])
            return self.admit(flow, ends, told.get("plan"), told.get("parallel"), request.vect)

    def admit(
        self,
        flow: Flow,
        ends: tuple[object, object],
        plan: str | None,
        parallel: object,
        name: str,
    ) -> list[Run]:
        """Take in a run for each time of a plan that has no Vect; under the lock of the app.

        Times to come are left to the plan, and so are those with which one that catches up has not
        dealt yet.

        Args:
            flow: The flow.
            ends: The first and the last moment of the range; see `times_of`.
            plan: The name of the plan; None for the only one of the flow.
            parallel: How many of them are open at once, at most; None for the limit of the flow.
            name: The name under which the log has them together.

        Raises:
            UnknownPlanError: There is no such plan, or there are several.
            SettingError: The ends are no moments, or in the wrong order, or too far apart.
            ParamError: The flow refuses the parameters of a time.
            Whatever `Starting.new` raises.
        """
        standing, most = self._standing_of(flow, plan), parallel_of(parallel, flow.name)
        texts = (text_of(moment, what) for moment, what in zip(ends, ("from", "to"), strict=True))
        times = times_of(standing.schedule, *texts)
        self._recovery.recover_for(flow)
        self._scheduler.check_starting(flow)
        now, runs = self._clock.now(), list[Run]()
        try:
            for time in times:
                vect = _id(_told(standing.name, time))
                is_its_own = time > now or (standing.catch_up and time >= standing.next)
                if is_its_own or self._is_known(flow, vect):
                    continue
                after = None if most is None or len(runs) < most else runs[-most].id
                runs.append(self._run_at(standing, time, name, after))
                self._scheduler.registry.admit(runs[-1], may_wait=True)
        except OAutomError:
            for run in runs:
                self._scheduler.registry.drop(run)
            raise
        return runs

    def _run_at(self, standing: Standing, time: datetime, name: str, after: str | None) -> Run:
        told = _told(standing.name, time)
        origin = {"backfill": name} if after is None else {"backfill": name, "after": after}
        try:
            params = standing.params_at(time)
            run = self._starting.new(standing.flow, _id(told), params, MappingProxyType(origin))
        except ParamError as error:
            raise standing.flow.params.error(f"at {told['planned']}: {error}") from error
        run.after = after
        return run

    def _standing_of(self, flow: Flow, plan: str | None) -> Standing:
        of_flow = {name: each for name, each in self._standings.items() if each.flow is flow}
        if plan is None and len(of_flow) == 1:
            return next(iter(of_flow.values()))
        if plan not in of_flow:
            raise UnknownPlanError(flow.name, plan, list(of_flow))
        return of_flow[plan]

    def _place(self, standing: Standing) -> None:
        """Set the place of a plan from the log."""
        dealt = self._dealt.get(standing.name) or self._planned(standing.name)
        if dealt is None:
            dealt = self._dealt[standing.name] = standing.declared.replace(microsecond=0)
            if self._is_log_open:
                self._put(standing.flow, PLAN_CREATED, _told(standing.name, dealt))
            else:
                self._new[standing.name] = standing.flow
        standing.go_on(dealt)

    def _planned(self, name: str) -> datetime | None:
        try:
            return self._log.planned(name)
        except LogError:
            if self._is_log_open:
                raise
            return None  # opening the log will report the error

    def remove(self, standing: Standing) -> None:
        """Remove a plan. Any thread."""
        with self._home.lock:
            if self._standings.get(standing.name) is standing:
                del self._standings[standing.name]
                self.on_change(standing.name, None)
                self._scheduler.is_on_duty = self.is_served and bool(self._standings)
        self._scheduler.put(Nudge())

    @contextmanager
    def served(self) -> Iterator[None]:
        """Serve the plans: in the foreground while the block lasts, in the background for good."""
        with self._home.lock:
            was_served = self.is_served
            if not was_served:
                for standing in self._standings.values():
                    standing.pass_over(self._clock.now())
            self.is_served = True
            self._look_soon()
        try:
            yield
        finally:
            if self._mode is OAutomMode.foreground and not was_served:
                self.stop()

    def _look_soon(self) -> None:
        if self._standings:
            self._scheduler.is_on_duty = True
            self._scheduler.put(Nudge())

    def stop(self) -> None:
        """Stop serving. Any thread."""
        self.is_served = self._scheduler.is_on_duty = False

    # The thread that drives

    def _look(self) -> None:
        """Deal with all times that are due, in order."""
        with self._home.lock:
            if not self.is_served:
                self._scheduler.is_on_duty = False  # it was stopped while a plan was added
            if not self._scheduler.is_on_duty:
                return
            now = self._clock.now()
            due: list[tuple[datetime, int, Standing]] = []
            for i, standing in enumerate(self._standings.values()):
                standing.is_waiting = False
                if now - standing.next > GAP:
                    standing.pass_over(now)
                if standing.next <= now:
                    due.append((standing.next, i, standing))
            heapq.heapify(due)
            while due:
                _, i, standing = heapq.heappop(due)
                self._deal(standing, now)
                if standing.next <= now and not standing.is_waiting:
                    heapq.heappush(due, (standing.next, i, standing))
            self._scheduler.is_awaited = any(each.is_waiting for each in self._standings.values())
            self._set_timer()

    def _deal(self, standing: Standing, now: datetime) -> None:
        """Start a Vect for the time of a plan, or skip the time, or let it wait for room."""
        time, told = standing.next, _told(standing.name, standing.next)
        after = standing.schedule.next_time(time)
        try:
            if not self._is_known(standing.flow, _id(told)):
                run, may_wait = self._run_for(standing, told), standing.flow.when_full == "wait"
                if not may_wait:
                    self._scheduler.registry.check_room(run, None if standing.catch_up else time)
                if after <= now and not standing.catch_up:
                    self._put(standing.flow, PLAN_SKIPPED, told | {"reason": _LATE})
                else:
                    self._starting.begin(run, may_wait=may_wait)
        except VectAlreadyRunningException as error:
            if standing.catch_up:
                standing.is_waiting = True
                return
            self._put(standing.flow, PLAN_SKIPPED, told | {"reason": str(error)})
        except LogError:
            raise
        except OAutomError as error:  # it could not start at any other time either
            if standing.catch_up:  # nothing is lost: a program that is mended goes on with it
                self._wait(standing, told, error)
                return
            _logger.exception("plan %r cannot start at %s", standing.name, told["planned"])
            self._put(standing.flow, PLAN_SKIPPED, told | {"reason": str(error)})
        self._dealt[standing.name], standing.next = time, after

    def _wait(self, standing: Standing, told: Mapping[str, str], error: OAutomError) -> None:
        """Make a plan wait at a time at which it cannot start, and log this once."""
        standing.is_waiting = True
        if standing.stuck_at != standing.next:
            standing.stuck_at = standing.next
            _logger.error(
                "plan %r cannot start at %s, and waits there: %s",
                standing.name,
                told["planned"],
                error,
            )

    def _is_known(self, flow: Flow, vect_id: str) -> bool:
        try:
            return self._scheduler.registry.find_of(flow, vect_id) is not None
        except UnknownVectError:  # it was, and has been pruned
            return True

    def _run_for(self, standing: Standing, told: Mapping[str, str]) -> Run:
        params = standing.params_at(standing.next)
        return self._starting.new(standing.flow, _id(told), params, MappingProxyType(told))

    def _put(self, flow: Flow, name: str, told: Mapping[str, str]) -> None:
        self._scheduler.put(Note(flow.name, name, _id(told), told))

    def _set_timer(self) -> None:
        times = [each.next for each in self._standings.values() if not each.is_waiting]
        if not times:
            return
        now, seconds = self._clock.monotonic(), (min(times) - self._clock.now()).total_seconds()
        when = now + max(0.0, min(seconds, LOOK_INTERVAL))
        if not now < self._timer <= when:  # else there is one that comes before
            self._timer = when
            self._scheduler.put_at(when, Nudge())


def _ignore(name: str, told: Mapping[str, Any] | None) -> None:
    """Do nothing: no log is open yet."""


def _told(plan: str, time: datetime) -> dict[str, str]:
    return {"plan": plan, "planned": stamp(time)}


def _id(told: Mapping[str, str]) -> str:
    """Return the id of the Vect of a plan at a time, so that there can be only one."""
    return f"{told['plan']}@{told['planned']}"
