"""The verbs that show runs: `ls`, `show`, `why`, `logs`, `events`, `watch`, `top`, and others.

They read the file only, beside a live engine or after it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
import msgspec

from oautom.cli.absence import Absence, note_absence
from oautom.cli.exits import NOT_FOUND, OF_STATES, SUCCESS, USAGE, Refusal, near_miss
from oautom.cli.file import found, of_file, path_of_log
from oautom.cli.output import (
    COLOURS,
    clock_time,
    coloured,
    columns,
    date_and_time,
    is_terminal,
    json_list,
    json_option,
    lead_on,
    lead_on_after_failure,
    note,
    one_line,
    print_json,
    print_json_line,
    print_table,
    seconds_of,
    table_lines,
    verb,
)
from oautom.cli.progress import Progress, known_past, last_lines, print_event
from oautom.client import Client, StepView, VectView, Working
from oautom.client.facts import slots_taken
from oautom.client.forecast import Past, told
from oautom.events import Event
from oautom.events.jsonl import line_of, to_line
from oautom.events.sqlite import SqliteEventLog
from oautom.machine.tables import STEP_ENDS, VECT_ENDS

_UNITS: Final[Mapping[str, str]] = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_BAR: Final = 30
"""How many characters a bar has, where there is room for it."""
_BAR_LEAST: Final = 8


def since(text: str | None) -> timedelta | None:
    """Return how long ago, of a text such as `7d`, `12h`, `30m`.

    Raises:
        Refusal: It is none.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise Refusal(f"'{text}' is no time; write 30m, 12h or 7d", USAGE)
    with suppress(OverflowError):
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    return None


def _until(view: VectView) -> datetime:
    """Return until when what goes on is shown: until now, or the event after which it is seen."""
    return view.events()[-1].time if view.is_past else datetime.now(UTC)


def _took(view: VectView | StepView, until: datetime) -> str:
    if view.start_date is None:
        return ""
    return seconds_of((view.end_date or until) - view.start_date)


@verb("List runs, newest first.", example="oautom ls --state failed --last 7d --log runs.db")
@click.argument("flow", required=False)
@click.option("--state", metavar="A,B", help="Only runs in these states.")
@click.option("--last", metavar="TIME", help="Only runs created since: 30m, 12h, 7d.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@json_option
@of_file
def ls(
    client: Client,
    flow: str | None,
    state: str | None,
    last: str | None,
    limit: int,
    as_json: bool,
) -> int:
    """List the runs of a log, of all flows or of FLOW."""
    states = None if state is None else state.split(",")
    if flow is not None:
        _check_flow(client, flow)
    views = client.vects(flow, states, since(last), limit)
    if as_json:
        print_json([_summary(view) for view in views])
    elif views:
        print_table([_row(view) for view in views], 2)
    else:
        note("no run fits")
    return SUCCESS


def _check_flow(client: Client, flow: str) -> None:
    """Refuse a flow of which the log knows nothing.

    Raises:
        UnknownFlowError: There is no run of it, and no engine has told of it.
    """
    if not client.vects(flow, limit=1):
        engine = client.engine
        known = {view.flow for view in client.vects(limit=None)} | set(
            engine.flows if engine else ()
        )
        if flow not in known:
            raise Refusal(f"the log has no run of flow '{flow}'{near_miss(flow, known)}", NOT_FOUND)


def _row(view: VectView) -> tuple[str, ...]:
    params = " ".join(f"{name}={one_line(str(each), 40)}" for name, each in view.params.items())
    took = _took(view, _until(view))
    return view.id, view.flow, view.state, date_and_time(view.created), took, params


def _summary(view: VectView) -> dict[str, Any]:
    return {
        "id": view.id,
        "flow": view.flow,
        "state": view.state,
        "created": view.created.isoformat(),
        "start_date": view.start_date and view.start_date.isoformat(),
        "end_date": view.end_date and view.end_date.isoformat(),
        "params": view.params,
    }


@verb("Show a run: its steps, their attempts and errors.", example="oautom show - --log runs.db")
@click.argument("vect")
@click.option("--at", "seq", type=int, metavar="SEQ", help="As it was after this event.")
@json_option
@of_file
def show(client: Client, vect: str, seq: int | None, as_json: bool) -> int:
    """Show the run VECT: its id, the beginning of it, or - for the newest."""
    view = found(client, vect)
    view = view if seq is None else view.at(seq)
    if as_json:
        print_json(view.status())
        return SUCCESS
    for line in shown(view):
        click.echo(line)
    _lead_on(view)
    return SUCCESS


def shown(view: VectView) -> list[str]:
    """Return a run in lines: itself, then a step each, with a bar of its time."""
    until = _until(view)
    head = f"{view.flow} {view.id}: {coloured(view.state, COLOURS.get(view.state))}"
    head += f" after {took}" if (took := _took(view, until)) else ""
    why = [f"  {view.reason}"] if view.reason else []
    steps = list(view.steps.values())
    rows = []
    for step in steps:
        attempt = f"attempt {step.attempt}" if abs(step.attempt) > 1 else ""
        rows.append((f"  {step.told}", step.state, _took(step, until), attempt))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    size = min(_BAR, columns() - sum(widths) - 2 * len(widths))
    bars = [_bar(step, view, size) for step in steps]
    lines = table_lines([(*row, bar) for row, bar in zip(rows, bars, strict=True)], 1)
    return [head, *why, *lines, *errors_of(view)]


def errors_of(view: VectView) -> list[str]:
    """Return a line for each step that has failed."""
    failed = [step for step in view.steps.values() if step.state == "failed"]
    return [f"  {step.told}: {one_line(step.error)}" for step in failed]


def _bar(step: StepView, view: VectView, size: int) -> str:
    """Return when a step ran, between the beginning and the end of its run; in so many characters.

    Nothing is shown where that says nothing, or has no room.
    """
    begin, end = view.start_date, view.end_date or _until(view)
    if size < _BAR_LEAST or begin is None or step.start_date is None or end <= begin:
        return ""
    whole = (end - begin).total_seconds()
    first = (step.start_date - begin).total_seconds() / whole
    last = ((step.end_date or end) - begin).total_seconds() / whole
    left = max(0, min(size - 1, round(first * size)))
    long = max(1, min(size - left, round((last - first) * size)))
    return "." * left + "#" * long + "." * (size - left - long)


def _lead_on(view: VectView) -> None:
    """Say which command leads on."""
    failed = [step.name for step in view.steps.values() if step.state == "failed"]
    if view.state == "failed":
        lead_on_after_failure(view.id, failed[:1])
    elif view.state not in VECT_ENDS:
        lead_on(f"why {shlex.quote(view.id)}", f"watch {shlex.quote(view.id)}")


@verb("Say why steps are not running.", example="oautom why - load --log runs.db")
@click.argument("vect")
@click.argument("step", required=False)
@json_option
@of_file
def why(client: Client, vect: str, step: str | None, as_json: bool) -> int:
    """Say in a sentence why STEP of VECT is, or is not, running; without STEP of each not done."""
    view = found(client, vect)
    wanted = [
        name for name, each in view.steps.items() if each.state not in STEP_ENDS or _is_bad(each)
    ]
    wanted = wanted if step is None else [step]
    told = dict(zip(wanted, view.reasons(wanted), strict=True))
    if as_json:
        print_json(told)
        return SUCCESS
    for sentence in told.values():
        click.echo(sentence)
    if view.state == "failed":
        _lead_on(view)
    elif not told:
        note(f"vect '{view.id}' is '{view.state}', and all its steps are done")
    return SUCCESS


def _is_bad(step: StepView) -> bool:
    return step.state in ("failed", "upstream_failed", "cancelled")


@verb("Print events.", example="oautom events - --log runs.db")
@click.argument("vect", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as they come.")
@click.option(
    "--after", type=click.IntRange(0), default=0, metavar="SEQ", help="Behind this event."
)
@json_option
@of_file
def events(client: Client, vect: str | None, follow: bool, after: int, as_json: bool) -> int:
    """Print the events of VECT, or of all runs, in the order of the log."""
    view = None if vect is None else found(client, vect)
    name = None if view is None else view.id
    if follow:
        put = _print_json_event if as_json else _print_event
        with client.follow(after, name) as coming:
            coming.while_idle(Absence(client, note_absence).look)
            for event in coming:
                put(event)
        return SUCCESS
    with (
        closing(SqliteEventLog(path_of_log(), read_only=True)) as log,
        json_list() if as_json else nullcontext(click.echo) as put_item,
    ):
        for event in log.read(after=after, vect=name):
            put_item(_document(event) if as_json else _line(event))
    return SUCCESS


def _document(event: Event) -> msgspec.Raw:
    return msgspec.Raw(to_line(event).encode())


def _print_json_event(event: Event) -> None:
    print_json_line(_document(event))


def _print_event(event: Event) -> None:
    click.echo(_line(event))


def _line(event: Event) -> str:
    where = [event.vect] if event.step is None else [event.vect, event.step]
    if event.attempt:
        where.append(f"attempt {event.attempt}")
    data = "" if not event.data else one_line(bytes(line_of(event).data).decode(), 100)
    parts = (str(event.seq), clock_time(event.time), event.name, " ".join(where), data)
    return "  ".join(parts).rstrip()


@verb("Watch a run, live.", example="oautom watch - --log runs.db")
@click.argument("vect", default="-")
@json_option
@of_file
def watch(client: Client, vect: str, as_json: bool) -> int:
    """Show VECT, or the newest run, as `run` does, until it has ended; exit as `run` would."""
    view = found(client, vect)
    title = f"{view.flow} {view.id}"
    if not as_json and not is_terminal() and (left := client.time_left(view.id)) is not None:
        note(f"{told(left)} left")  # a live view counts it anew each second
    with (
        client.follow(vect=view.id) as coming,
        _shown(title, is_silent=as_json, past=lambda: client.past(view.flow)) as progress,
    ):
        tell = note_absence if progress is None else progress.tell_absence
        coming.while_idle(Absence(client, tell).look)
        for event in coming:
            if progress is not None:
                progress.take(event)
            elif not as_json:
                print_event(event)
    view = client.vect(view.id)
    if as_json:
        print_json(view.status())
    else:
        for line in last_lines(view.status()):
            click.echo(line)
        _lead_on(view)
    return OF_STATES.get(view.state, SUCCESS)


def _shown(
    title: str, *, is_silent: bool, past: Callable[[], Past]
) -> AbstractContextManager[Progress | None]:
    """Return what shows a run live by its events, on a terminal; None elsewhere.

    Args:
        title: What runs.
        is_silent: Nothing is shown.
        past: Reads how long the steps took in past runs, for a live view.
    """
    if is_silent or not is_terminal():
        return nullcontext()
    from oautom.cli.live import live_view  # noqa: PLC0415 - rich: half of the time of a verb

    return live_view(title, known_past(past))


@verb("Show who has the workers and pools.", example="oautom top --log runs.db")
@json_option
@of_file
def top(client: Client, as_json: bool) -> int:
    """Show which steps have the workers of the engine at work, and the slots of its pools."""
    engine, steps = client.engine, client.working()
    taken = slots_taken(steps)
    busy = sum(each.has_worker for each in steps)
    if as_json:
        pools = {} if engine is None else engine.pools
        print_json(
            {
                "engine": None if engine is None else engine.pid,
                "workers": {"taken": busy, "there": engine and engine.workers},
                "pools": {
                    name: {"taken": taken.get(name, 0), "there": n} for name, n in pools.items()
                },
                "steps": [each._asdict() for each in steps],
            }
        )
        return SUCCESS
    if engine is None:
        note("no engine is at work")
        return SUCCESS
    there = "" if engine.workers is None else f" of {engine.workers}"
    click.echo(f"process {engine.pid}: {busy}{there} workers")
    for name, slots in engine.pools.items():
        click.echo(f"pool {name}: {taken.get(name, 0)} of {slots} slots")
    print_table([_of_working(each) for each in steps])
    return SUCCESS


def _of_working(each: Working) -> tuple[str, ...]:
    attempt = f"attempt {each.attempt}" if abs(each.attempt) > 1 else ""
    what = "" if each.has_worker else "no worker"
    pool = f"pool {each.pool}" if each.pool is not None else ""
    pool += f" ({each.pool_slots} slots)" if each.pool_slots > 1 else ""
    for_ = "" if each.since is None else seconds_of(datetime.now(UTC) - each.since)
    return each.vect, each.step, for_, attempt, what, pool


@verb("List what waits for a person.", example="oautom inbox --log runs.db")
@json_option
@of_file
def inbox(client: Client, as_json: bool) -> int:
    """List the steps that wait for the decision of a person, oldest run first."""
    waiting = client.waiting()
    if as_json:
        print_json([each._asdict() for each in waiting])
        return SUCCESS
    print_table(
        [
            (
                each.vect,
                each.step,
                each.flow,
                f"since {date_and_time(each.since)}",
                one_line(each.prompt),
            )
            for each in waiting
        ]
    )
    if not waiting:
        note("nothing waits for a person")
    else:
        which = f"{shlex.quote(waiting[0].vect)} {shlex.quote(waiting[0].step)}"
        lead_on(f"approve {which}", f"reject {which}")
    return SUCCESS


@verb("List the plans of the engine.", example="oautom plans --log runs.db")
@json_option
@of_file
def plans(client: Client, as_json: bool) -> int:
    """List the plans of the engine at work, or of the last one."""
    there = client.plans()
    if as_json:
        print_json([each._asdict() for each in there])
        return SUCCESS
    for plan in there:
        skipped = ""
        if plan.skipped_time is not None:
            skipped = f", skipped {date_and_time(plan.skipped_time)}: {plan.skipped_why}"
        after = date_and_time(plan.next_time) or "not known"
        last = date_and_time(plan.last_time) or "none"
        click.echo(f"{plan.name}  {plan.flow}  {plan.schedule}  next {after}, last {last}{skipped}")
    if not there:
        note("no engine has told of a plan")
    return SUCCESS
