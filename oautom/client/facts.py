"""Why a step of another process is, or is not, running: what the log tells, and what its engine.

An engine knows who is served first; here it is counted who runs, in all Vects that are open. That
is looked at only for a step that is about to start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from oautom.client.engine import EngineInfo, FlowInfo
from oautom.client.forecast import EVENTS_MAX, NO_PAST, RUNS, Past, past_of
from oautom.errors import InvalidHistoryError
from oautom.events.log import EventLog, VectEntry, told_by_id
from oautom.events.rates import Starts
from oautom.machine.event import Event
from oautom.machine.explain import Facts
from oautom.machine.state import Group, StepState, VectState, limits_of, rate_of
from oautom.machine.tables import INITIAL, VECT_ENDS
from oautom.machine.wording import NAME_MAX, in_line, place_behind, place_in_line, quoted
from oautom.values.json import json_key
from oautom.vects.stored import Reader, open_before


def facts_of(
    vect: VectState, log: EventLog, engine: EngineInfo | None, stranded: Mapping[str, str]
) -> Callable[[StepState], Facts]:
    """Return what the state of a step does not tell, for each step of a Vect that has not ended.

    What all steps have in common is looked up once.

    Args:
        vect: The Vect.
        log: The log.
        engine: Who is at work on it, if somebody is.
        stranded: Why Vects do not go on, by their ids.
    """
    held_up = stranded.get(vect.id, "")
    if engine is None:
        common = Facts(has_no_engine=True, held_up=held_up)
        return lambda step: common
    if not held_up and vect.flow not in engine.flows:
        held_up = f"process {engine.pid}, which is at work, has no flow '{vect.flow}'"
    common = Facts(
        held_up=held_up,
        is_inherited=_is_inherited(vect, log, engine),
        is_undriven=not engine.is_driven,
        turn=turn_of(vect, log, engine.flows.get(vect.flow)),
    )
    workers, load = engine.workers or 0, cache(partial(_load, log))

    def of(step: StepState) -> Facts:
        if step.child is not None and step.state == "running":
            child = log.find(step.child)
            return common._replace(child="waiting" if child is None else child.state)
        if step.state == INITIAL and step.verdict == "start":
            busy, taken, claims = load()
            told = common._replace(taken=taken, workers=workers if 0 < workers <= busy else 0)
            return _with_pool(step, log, told, claims)
        return common

    return of


def _is_inherited(vect: VectState, log: EventLog, engine: EngineInfo) -> bool:
    """Whether an engine has not taken a Vect over yet that was left by another one."""
    entry = log.find(vect.id)
    if entry is None or vect.state == INITIAL or entry.changed >= engine.since:
        return False
    return not any(each.time >= engine.since for each in log.read(entry.first_seq, vect=vect.id))


def turn_of(vect: VectState, log: EventLog, flow: FlowInfo | None) -> str:
    """Return where a Vect stands in line, as people read it; empty where it does not."""
    if vect.state != INITIAL or flow is None:
        return ""
    open_ones = [each for each in log.open_vects() if each.flow == vect.flow]
    behind = _behind(open_ones, log)
    if (after := behind.get(vect.id)) is not None:
        return place_behind(after)
    if flow.max_active_vects is None:
        return ""
    key = _lane(vect.params, flow)
    open_ones = [each for each in open_ones if each.id not in behind]
    if flow.limit_by is not None:
        firsts = log.read_each([each.id for each in open_ones], 1)
        lanes = {each.vect: _lane(each.data.get("params", {}), flow) for each in firsts}
        open_ones = [each for each in open_ones if lanes.get(each.id) == key]
    waiting = [each.id for each in open_ones if each.state == INITIAL]
    if vect.id not in waiting or len(open_ones) - len(waiting) < flow.max_active_vects:
        return ""
    lane = "" if key is None else f"{in_line(flow.limit_by or '', NAME_MAX)} {in_line(key)}"
    return place_in_line(waiting.index(vect.id), flow.max_active_vects, vect.flow, lane)


def _behind(open_ones: Sequence[VectEntry], log: EventLog) -> dict[str, str]:
    """Return which open Vects of backfills come after another open one, and after which."""
    waiting = [each.id for each in open_ones if each.state == INITIAL and told_by_id(each.id)]
    told = {each.vect: each.data.get("after") for each in log.read_each(waiting, 1)}
    behind = {vect: open_before(log, after) for vect, after in told.items()}
    return {vect: after for vect, after in behind.items() if after is not None}


def _lane(params: Mapping[str, Any], flow: FlowInfo) -> str | None:
    return None if flow.limit_by is None else json_key(params.get(flow.limit_by))


def _with_pool(step: StepState, log: EventLog, told: Facts, several: list[StepState]) -> Facts:
    """Add what the pool of a step that may start is waited for with."""
    if (rate := rate_of(step.options)) is not None:
        usage = Starts(log.starts(rate.pool)).usage(rate, datetime.now(UTC))
        told = told._replace(starts=usage.starts, next_start=usage.next)
    for limit in limits_of(step.vect.flow, step.options):
        for other in several:
            if other.vect.id == step.vect.id and other.name == step.name:
                continue
            lack = [each for each in limits_of(other.vect.flow, other.options) if each.takes > 1]
            if any(
                each.group == limit.group
                and told.taken.get(each.group, 0) + each.takes > each.slots
                and _rank(other) <= _rank(step)
                for each in lack
            ):
                return told._replace(claim=_claim(other, step))
    return told


def _rank(step: StepState) -> int:
    return -int(step.options.get("priority", 0))


def _claim(other: StepState, step: StepState) -> str:
    vect = "" if other.vect.id == step.vect.id else f" of vect {quoted(other.vect.id)}"
    return f"{quoted(other.name)}{vect}"


def _load(log: EventLog) -> tuple[int, dict[Group, int], list[StepState]]:
    """Return how many workers are taken, and how many slots of each pool.

    Also the steps that may start and take several slots of their pool: these are waited for.
    """
    busy, taken, several = 0, dict[Group, int](), list[StepState]()
    for vect in states_of(log):
        for step in vect.steps.values():
            is_due = step.state == INITIAL and "pool_slots" in step.options
            if is_due and vect.state == "running" and step.verdict == "start" and not step.mapped:
                several.append(step)
            if step.state != "running":
                continue
            busy += step.needs_worker
            for limit in limits_of(vect.flow, {} if step.mapped else step.options):
                taken[limit.group] = taken.get(limit.group, 0) + limit.takes
    return busy, taken, several


class Working(NamedTuple):
    """A step that has a worker, or a slot of a pool.

    Attributes:
        vect: The id of its Vect.
        flow: The name of the flow.
        step: The name of the step.
        attempt: The number of the attempt; negative for one that undoes the work of the step.
        since: When it began; None for one that undoes.
        has_worker: Whether it has a worker. Else it has a slot of a pool only: it runs a flow, or
            on the event loop of the async steps.
        pool: The name of its pool, or None.
        pool_slots: How many slots of the pool it takes.
    """

    vect: str
    flow: str
    step: str
    attempt: int
    since: datetime | None
    has_worker: bool
    pool: str | None
    pool_slots: int = 1


def working_in(log: EventLog) -> list[Working]:
    """Return which steps have a worker, or a slot of a pool, by what a log tells."""
    found = []
    for vect in states_of(log):
        for step in vect.steps.values():
            undoing = step.compensation
            if undoing is not None and undoing.state == "running":
                key = (vect.id, vect.flow, step.name, -undoing.attempt)
                found.append(Working(*key, None, has_worker=True, pool=None))
            if step.state != "running" or step.mapped is not None:
                continue
            given = step.options.get("pool")
            pool = None if given is None else str(given[0])
            if step.needs_worker or pool is not None:
                key = (vect.id, vect.flow, step.name, step.attempt)
                takes = step.options.get("pool_slots", 1)
                found.append(Working(*key, step.start_date, step.needs_worker, pool, takes))
    return found


def slots_taken(working: Iterable[Working]) -> dict[str, int]:
    """Return how many slots of each pool some steps have."""
    taken: dict[str, int] = {}
    for each in working:
        if each.pool is not None:
            taken[each.pool] = taken.get(each.pool, 0) + each.pool_slots
    return taken


def past_of_flow(log: EventLog, flow: str) -> Past:
    """Return how long the steps of a flow took, in its newest runs that have ended."""
    ids = [each.id for each in log.newest_vects(RUNS, flow, VECT_ENDS)]
    events: list[Event] = []
    for _, of_vect in groupby(log.read_each(ids), key=attrgetter("vect")):
        events += of_vect
        if len(events) > EVENTS_MAX:
            break
    try:
        return past_of(events)
    except InvalidHistoryError:  # one makes no sense, which tells nothing of the time
        return NO_PAST


def states_of(log: EventLog) -> Iterator[VectState]:
    """Yield how the Vects stand that have begun and not ended; not those that make no sense."""
    return Reader(log).read_each([each.id for each in log.open_vects() if each.state != INITIAL])
