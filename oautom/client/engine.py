"""What is known of the engine at work: who it is, which flows it runs, which plans it serves.

The engine tells it in a table of its file, which any program may write: so no part is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from oautom.errors import LogCorruptError, OAutomError, SettingError, UnknownPlanError
from oautom.events.log import EventLog, Holder
from oautom.events.shown import ENGINE, FLOW, PLAN, POOL, STRANDED
from oautom.machine.event import Event, planned_time, stamp
from oautom.plans.backfill import times_of
from oautom.plans.schedule import Cron, Interval, Schedule

T = TypeVar("T")


class FlowInfo(NamedTuple):
    """One flow of an engine, as a program sees it that has not declared it.

    Attributes:
        name: Its name.
        params: The JSON Schema of what a start takes.
        description: What it is for.
        max_active_vects: How many of its Vects may be open at once; None for any number.
        when_full: `'raise'` or `'wait'`: what becomes of one more.
        limit_by: The parameter for each of whose values that limit counts, or None.
        version: The name of what it means by now, or None.
    """

    name: str
    params: Mapping[str, Any]
    description: str
    max_active_vects: int | None
    when_full: str
    limit_by: str | None
    version: str | None


class EngineInfo(NamedTuple):
    """An engine at work.

    Attributes:
        pid: The number of its process.
        since: When it opened its log.
        flows: Its flows, by name.
        workers: How many steps it runs at once; None for any number.
        pools: How many slots each pool has, by its name.
        is_driven: Somebody drives it, so that it hears what is asked: always, in the background.
    """

    pid: int
    since: datetime
    flows: Mapping[str, FlowInfo]
    workers: int | None
    pools: Mapping[str, int]
    is_driven: bool


class PlanInfo(NamedTuple):
    """A plan, of the engine at work or of the last one.

    Attributes:
        name: Its name.
        flow: The name of the flow that it starts.
        schedule: Its times, as people read them: a cron expression and a time zone, or an interval.
        params: What it starts with.
        next_time: When it is due next; None where that cannot be told.
        last_time: The newest time that it has dealt with, or None.
        skipped_time: The newest time that it has skipped, or None.
        skipped_why: Why it has.
        catch_up: Whether every time counts.
    """

    name: str
    flow: str
    schedule: str
    params: Mapping[str, Any]
    next_time: datetime | None
    last_time: datetime | None
    skipped_time: datetime | None
    skipped_why: str | None
    catch_up: bool


class Told:
    """What an engine has told of itself.

    Args:
        told: By name, as the log has it.
        path: Where, for messages.

    Raises:
        LogCorruptError: It is not what an engine tells.
    """

    def __init__(self, told: Mapping[str, Any], path: str) -> None:
        self._path = path
        self._engine: Mapping[str, Any] | None = None
        self.flows: dict[str, FlowInfo] = {}
        self.pools: dict[str, int] = {}
        self.plans: dict[str, Mapping[str, Any]] = {}
        self.stranded: dict[str, str] = {}
        for name, each in told.items():
            self._take(name, each)

    def _take(self, name: str, told: object) -> None:
        if name == ENGINE:
            self._engine = self._of(dict, name, told)
        elif name.startswith(FLOW):
            flow = name.removeprefix(FLOW)
            self.flows[flow] = self._flow(flow, self._of(dict, name, told))
        elif name.startswith(POOL):
            self.pools[name.removeprefix(POOL)] = self._of(int, name, told)
        elif name.startswith(PLAN):
            self.plans[name.removeprefix(PLAN)] = self._of(dict, name, told)
        elif name.startswith(STRANDED):
            self.stranded[name.removeprefix(STRANDED)] = self._of(str, name, told)

    def _of(self, kind: type[T], name: str, told: object) -> T:
        if type(told) is not kind:
            raise self._wrong(name)
        return told

    def _wrong(self, name: str) -> LogCorruptError:
        return LogCorruptError(self._path, f"what its engine tells of '{name}' makes no sense")

    def _flow(self, name: str, told: Mapping[str, Any]) -> FlowInfo:
        try:
            return FlowInfo(name, *(told[field] for field in FlowInfo._fields[1:]))
        except KeyError as error:
            raise self._wrong(f"{FLOW}{name}") from error

    @property
    def pid(self) -> int | None:
        """The number of the process that has told it, if that is at work; else None."""
        return None if self._engine is None else self._engine.get("pid")

    def engine(self, holder: Holder) -> EngineInfo | None:
        """Return the engine at work, None if it is none: its process only has the log open.

        Args:
            holder: The process that writes the log.
        """
        told = self._engine
        if told is None or self.pid != holder.pid:
            return None
        try:
            since = datetime.fromisoformat(told["since"])
            is_driven = told["mode"] == "background" or holder.is_driven
            workers = told["workers"]
        except (KeyError, TypeError, ValueError) as error:
            raise self._wrong(ENGINE) from error
        return EngineInfo(holder.pid, since, self.flows, workers, self.pools, is_driven)

    def plan(self, name: str, log: EventLog, now: datetime) -> PlanInfo:
        """Return a plan, and how far it has come."""
        told = self.plans[name]
        skip = log.newest_skip(name)  # first: what comes meanwhile is dealt with as well
        last = log.planned(name)
        try:
            schedule = _schedule_of(told, last)
            catch_up = bool(told["catch_up"])
            params, flow = told["params"], told["flow"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._wrong(f"{PLAN}{name}") from error
        when, why = _skipped(skip)
        next_time = None
        if schedule is not None:
            after = last if last is not None and catch_up else max(now, last or now)
            next_time = schedule.next_time(after)
        shown = _shown(told)
        return PlanInfo(name, flow, shown, params, next_time, last, when, why, catch_up)

    def missing(
        self, flow: str, plan: str | None, ends: tuple[str, str], log: EventLog, now: datetime
    ) -> list[str]:
        """Return the ids that a backfill of a plan would start, by what the engine tells of it.

        Raises:
            UnknownPlanError: The flow has no such plan, or several.
            SettingError: The ends are no moments, or its times cannot be told here.
        """
        of_flow = [name for name, each in self.plans.items() if each.get("flow") == flow]
        name = of_flow[0] if plan is None and len(of_flow) == 1 else plan
        if name not in of_flow:
            raise UnknownPlanError(flow, plan, of_flow)
        told, last = self.plans[name], log.planned(name)
        try:
            schedule, catches_up = _schedule_of(told, last), bool(told["catch_up"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._wrong(f"{PLAN}{name}") from error
        if schedule is None:
            raise SettingError(
                f"the times of plan '{name}' cannot be told here: its time zone is not known, or "
                "it has not been served yet; only the engine knows them"
            )
        until = schedule.next_time(last) if catches_up and last is not None else None
        times = [time for time in times_of(schedule, *ends) if time <= now]
        ids = [f"{name}@{stamp(time)}" for time in times if until is None or time < until]
        return [each for each in ids if log.find(each) is None and log.find_pruned(each) is None]


def _schedule_of(told: Mapping[str, Any], last: datetime | None) -> Schedule | None:
    """Return the times of a plan; None where this program does not know its time zone."""
    if "every" in told:
        every = timedelta(seconds=told["every"])
        return None if last is None else Interval(every, last)
    try:
        zone = UTC if told["timezone"] == "UTC" else ZoneInfo(told["timezone"])
        return Cron(told["cron"], zone)
    except (OSError, ValueError, OAutomError, LookupError):
        return None


def _shown(told: Mapping[str, Any]) -> str:
    if "every" in told:
        return f"every {timedelta(seconds=told['every'])}"
    return f"{told['cron']} {told['timezone']}"


def _skipped(skip: Event | None) -> tuple[datetime | None, str | None]:
    if skip is None or (told := planned_time(skip)) is None:
        return None, None
    return told[1], str(skip.data.get("reason", ""))
