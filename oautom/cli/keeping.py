"""The verbs that look after the file: `verify`, `prune`, `export`."""

from __future__ import annotations

from collections.abc import Sized
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

import click

from oautom.cli.exits import SUCCESS, USAGE, Refusal
from oautom.cli.file import found, of_file, path_of_log
from oautom.cli.output import json_option, note, print_json, verb
from oautom.cli.page import export_html
from oautom.cli.seeing import since
from oautom.client import Client
from oautom.errors import LogError
from oautom.events.sqlite import SqliteEventLog

_NEWEST: Final = 20
"""How many runs a page has that is told of none."""


@verb("Check the file of a log.", example="oautom verify --log runs.db")
@json_option
@of_file
def verify(client: Client, as_json: bool) -> int:
    """Check each row of the log: whether it is as it was written."""
    try:
        with closing(SqliteEventLog(path_of_log(), read_only=True)) as log:
            log.verify()
            count = log.last_seq
    except LogError as error:  # which is an answer, too
        if as_json:
            print_json({"events": None, "error": str(error)})
        raise
    if as_json:
        print_json({"events": count, "error": None})
    else:
        click.echo(f"{count} events, all as they were written")
    return SUCCESS


@verb(
    "Remove old runs from a log.", example="oautom prune --older-than 90d --dry-run --log runs.db"
)
@click.option(
    "--older-than", required=True, metavar="TIME", help="Runs that ended so long ago: 90d."
)
@click.option("--dry-run", is_flag=True, help="Say how many, and remove none.")
@json_option
@of_file
def prune(client: Client, older_than: str, dry_run: bool, as_json: bool) -> int:
    """Remove the events of runs that ended long ago. No engine may be at work."""
    before = since(older_than)
    if before is None:
        raise Refusal(f"'{older_than}' is longer than time goes back", USAGE)
    instant = datetime.now(UTC) - before
    if dry_run:
        ended = client.vects(state=["success", "failed", "cancelled"], limit=None)
        old = [each.id for each in ended if each.end_date is not None and each.end_date < instant]
        if as_json:
            print_json({"would_remove": old})
        note(f"{_runs(old)} would be removed; none was")
        return SUCCESS
    client.vects(limit=1)  # what is no log is refused, and not made one
    with closing(SqliteEventLog(path_of_log())) as log:
        gone = log.prune(instant)
    if as_json:
        print_json({"removed": [each.id for each in gone]})
    else:
        click.echo(f"{_runs(gone)} removed")
    return SUCCESS


def _runs(ids: Sized) -> str:
    return f"{len(ids)} run{'' if len(ids) == 1 else 's'}"


@verb(
    "Write runs to a file: as events, or as a page.",
    example="oautom export runs.html --to html 2026-11-24 --log runs.db",
)
@click.argument("file")
@click.argument("vects", nargs=-1, metavar="[VECT]...")
@click.option(
    "--to",
    "form",
    type=click.Choice(["jsonl", "html"]),
    default="jsonl",
    show_default=True,
    help="A JSON document for each event, or one page that opens without network.",
)
@json_option
@of_file
def export(client: Client, file: str, vects: tuple[str, ...], form: str, as_json: bool) -> int:
    """Write to FILE: all events, or with `--to html` the runs VECT, or the newest ones."""
    if vects and form != "html":
        raise Refusal("runs can be chosen with --to html only; a jsonl has all events", USAGE)
    try:
        if form == "html":
            chosen = [found(client, each) for each in vects] or client.vects(limit=_NEWEST)
            told = {"runs": export_html(client, file, [view.id for view in chosen])}
        else:
            with closing(SqliteEventLog(path_of_log(), read_only=True)) as log:
                log.to_jsonl(file)
                told = {"events": log.last_seq}
    except OSError as error:
        raise Refusal(f"cannot write '{file}': {error.strerror}", USAGE) from error
    if as_json:
        print_json({**told, "file": file})
    else:
        click.echo("".join(f"{count} {name} are in {file}" for name, count in told.items()))
    return SUCCESS
