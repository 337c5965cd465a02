"""The verbs that show runs: `ls`, `show`, `why`, `logs`, `events`, `watch`, `inbox`, `plans`.

They read the file only, beside a live engine or after it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
import msgspec

from oautom.cli.exits import OF_STATES, SUCCESS, USAGE, Refusal
from oautom.cli.file import found, of_file, path_of_log
from oautom.cli.output import (
    clock_time,
    is_terminal,
    note,
    one_line,
    print_json,
    print_table,
    seconds_of,
    verb,
)
from oautom.cli.progress import Progress
from oautom.client import Client, StepView, VectView
from oautom.events import Event
from oautom.events.jsonl import to_line
from oautom.events.sqlite import SqliteEventLog
from oautom.machine.tables import STEP_ENDS, VECT_ENDS

_UNITS: Final[Mapping[str, str]] = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_BAR: Final = 30
"""How many characters the bar of the longest run has."""
_LOOK_SECONDS: Final = 0.2


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


def _date(instant: datetime | None) -> str:
    """Return an instant as the clock on the wall has it here; without the date if it is today."""
    if instant is None:
        return ""
    local = instant.astimezone()
    form = "%H:%M:%S" if local.date() == datetime.now(local.tzinfo).date() else "%Y-%m-%d %H:%M"
    return local.strftime(form)


def _took(view: VectView | StepView) -> str:
    if view.start_date is None:
        return ""
    return seconds_of((view.end_date or datetime.now(UTC)) - view.start_date)


@verb("List runs, newest first.", example="oautom ls --state failed --last 7d --log runs.db")
@click.argument("flow", required=False)
@click.option("--state", metavar="A,B", help="Only runs in these states.")
@click.option("--last", metavar="TIME", help="Only runs created since: 30m, 12h, 7d.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
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
    views = client.vects(flow, states, since(last), limit)
    if as_json:
        print_json([_summary(view) for view in views])
    elif views:
        print_table([_row(view) for view in views])
    else:
        note("no run fits")
    return SUCCESS


def _row(view: VectView) -> tuple[str, ...]:
    params = " ".join(f"{name}={one_line(str(each), 40)}" for name, each in view.params.items())
    took = _took(view)
    return view.id, view.flow, view.state, _date(view.created), took, params


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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
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
    head = f"{view.flow} {view.id}: {view.state}"
    head += f" after {took}" if (took := _took(view)) else ""
    why = [f"  {view.reason}"] if view.reason else []
    begin, end = view.start_date, view.end_date or datetime.now(UTC)
    rows = []
    for step in view.steps.values():
        bar = "" if begin is None else _bar(step, begin, end)
        attempt = f"attempt {step.attempt}" if abs(step.attempt) > 1 else ""
        rows.append((f"  {step.name}", step.state, _took(step), attempt, bar))
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(5)]
    lines = [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    errors = [
        f"  {step.name}: {one_line(step.error)}"
        for step in view.steps.values()
        if step.state == "failed"
    ]
    return [head, *why, *(line.rstrip() for line in lines), *errors]


def _bar(step: StepView, begin: datetime, end: datetime) -> str:
    """Return when a step ran, between the beginning and the end of its run."""
    whole = (end - begin).total_seconds()
    if step.start_date is None or whole <= 0:
        return ""
    first = (step.start_date - begin).total_seconds() / whole
    last = ((step.end_date or end) - begin).total_seconds() / whole
    left = max(0, min(_BAR - 1, round(first * _BAR)))
    size = max(1, min(_BAR - left, round((last - first) * _BAR)))
    return "." * left + "#" * size + "." * (_BAR - left - size)


def _lead_on(view: VectView) -> None:
    """Say which command leads on."""
    failed = next((step for step in view.steps.values() if step.state == "failed"), None)
    if failed is not None:
        note(f"next: oautom logs {view.id} {failed.name}, then oautom retry {view.id}")
    elif view.state not in VECT_ENDS:
        note(f"next: oautom why {view.id}, or oautom watch {view.id}")


@verb("Say why steps are not running.", example="oautom why - load --log runs.db")
@click.argument("vect")
@click.argument("step", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: by step.")
@of_file
def why(client: Client, vect: str, step: str | None, as_json: bool) -> int:
    """Say in a sentence why STEP of VECT is, or is not, running; without STEP of each not done."""
    view = found(client, vect)
    wanted = [
        name for name, each in view.steps.items() if each.state not in STEP_ENDS or _is_bad(each)
    ]
    told = {name: view.explain(name) for name in ([step] if step is not None else wanted)}
    if as_json:
        print_json(told)
        return SUCCESS
    for sentence in told.values():
        click.echo(sentence)
    if not told:
        note(f"vect '{view.id}' is '{view.state}', and all its steps are done")
    return SUCCESS


def _is_bad(step: StepView) -> bool:
    return step.state in ("failed", "upstream_failed", "cancelled")


@verb("Print what steps have written.", example="oautom logs - load -f --log runs.db")
@click.argument("vect")
@click.argument("step", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--attempt", type=int, metavar="N", help="Of this attempt. Default: the newest.")
@click.option("-n", "--lines", type=click.IntRange(1), metavar="LINES", help="Only the last lines.")
@of_file
def logs(
    client: Client,
    vect: str,
    step: str | None,
    follow: bool,
    attempt: int | None,
    lines: int | None,
) -> int:
    """Print what STEP of VECT has written; without STEP what all have, step by step."""
    view = found(client, vect)
    names = [step] if step is not None else list(view.steps)
    texts = {name: _text_of(view.steps[name], attempt) for name in names}
    for name, text in texts.items():
        if text and step is None:
            click.echo(f"==> {name} <==")
        last = text.splitlines(keepends=True)[-lines:] if lines else [text]
        click.echo("".join(last), nl=False)
        if text and not text.endswith("\n"):
            click.echo()
    if not any(texts.values()) and not follow:
        note("nothing was written")
    while follow and view.state not in VECT_ENDS:
        time.sleep(_LOOK_SECONDS)
        view = client.vect(view.id)
        for name in [step] if step is not None else list(view.steps):
            text = _text_of(view.steps[name], attempt)
            before = texts.get(name, "")
            click.echo(text.removeprefix(before) if text.startswith(before) else text, nl=False)
            texts[name] = text
    return SUCCESS


def _text_of(step: StepView, attempt: int | None) -> str:
    if attempt is None:
        return step.log_text
    for each in step.attempts:
        if each.number == attempt:
            return each.log_text
    numbers = ", ".join(str(each.number) for each in step.attempts) or "none"
    raise Refusal(f"step '{step.name}' has no attempt {attempt}; there are: {numbers}", USAGE)


@verb("Print events.", example="oautom events - -f --log runs.db")
@click.argument("vect", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as they come.")
@click.option(
    "--after", type=click.IntRange(0), default=0, metavar="SEQ", help="Behind this event."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document a line.")
@of_file
def events(client: Client, vect: str | None, follow: bool, after: int, as_json: bool) -> int:
    """Print the events of VECT, or of all runs, in the order of the log."""
    view = None if vect is None else found(client, vect)
    if follow:
        with client.follow(after, None if view is None else view.id) as coming:
            for event in coming:
                _print_event(event, as_json=as_json)
        return SUCCESS
    if view is not None:
        for event in view.events():
            if event.seq > after:
                _print_event(event, as_json=as_json)
        return SUCCESS
    with closing(SqliteEventLog(path_of_log(), read_only=True)) as log:
        for event in log.read(after):
            _print_event(event, as_json=as_json)
    return SUCCESS


def _print_event(event: Event, *, as_json: bool) -> None:
    line = to_line(event)
    if as_json:
        click.echo(line)
        return
    where = [event.vect] if event.step is None else [event.vect, event.step]
    if event.attempt:
        where.append(f"attempt {event.attempt}")
    told = msgspec.json.decode(line).get("data")
    data = one_line(msgspec.json.encode(told).decode(), 100) if told else ""
    parts = (str(event.seq), clock_time(event.time), event.name, " ".join(where), data)
    click.echo("  ".join(parts).rstrip())


@verb("Watch a run, live.", example="oautom watch - --log runs.db")
@click.argument("vect", default="-")
@of_file
def watch(client: Client, vect: str) -> int:
    """Show VECT, or the newest run, as `run` does, until it has ended; exit as `run` would."""
    view = found(client, vect)
    with client.follow(vect=view.id) as coming:
        if is_terminal():
            from oautom.cli.live import live  # noqa: PLC0415 - rich: half of the time of a verb

            progress = Progress()
            with live(f"{view.flow} {view.id}", progress):
                for event in coming:
                    progress.take(event)
        else:
            for event in coming:
                _print_event(event, as_json=False)
    view = client.vect(view.id)
    for line in shown(view):
        click.echo(line)
    return OF_STATES.get(view.state, SUCCESS)


@verb("List what waits for a person.", example="oautom inbox --log runs.db")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@of_file
def inbox(client: Client, as_json: bool) -> int:
    """List the steps that wait for the decision of a person, oldest run first."""
    waiting = client.waiting()
    if as_json:
        print_json([each._asdict() for each in waiting])
        return SUCCESS
    print_table(
        [
            (each.vect, each.step, each.flow, f"since {_date(each.since)}", one_line(each.prompt))
            for each in waiting
        ]
    )
    if not waiting:
        note("nothing waits for a person")
    else:
        note(f"next: oautom approve {waiting[0].vect} '{waiting[0].step}', or oautom reject")
    return SUCCESS


@verb("List the plans of the engine.", example="oautom plans --log runs.db")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
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
            skipped = f", skipped {_date(plan.skipped_time)}: {plan.skipped_why}"
        after = _date(plan.next_time) or "not known"
        last = _date(plan.last_time) or "none"
        click.echo(f"{plan.name}  {plan.flow}  {plan.schedule}  next {after}, last {last}{skipped}")
    if not there:
        note("no engine has told of a plan")
    return SUCCESS
