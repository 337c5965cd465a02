"""The verbs that look after the file: `verify`, `prune`, `export`."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import click

from oautom.cli.exits import BAD_FILE, SUCCESS, USAGE, Refusal
from oautom.cli.file import of_file, path_of_log
from oautom.cli.output import note, verb
from oautom.cli.seeing import since
from oautom.client import Client
from oautom.errors import LogError
from oautom.events.sqlite import SqliteEventLog


@verb("Check the file of a log.", example="oautom verify --log runs.db")
@of_file
def verify(client: Client) -> int:
    """Check each row of the log: whether it is as it was written."""
    with closing(SqliteEventLog(path_of_log(), read_only=True)) as log:
        try:
            log.verify()
        except LogError as error:
            click.echo(str(error))
            return BAD_FILE
        click.echo(f"{log.last_seq} events, all as they were written")
    return SUCCESS


@verb(
    "Remove old runs from a log.", example="oautom prune --older-than 90d --dry-run --log runs.db"
)
@click.option(
    "--older-than", required=True, metavar="TIME", help="Runs that ended so long ago: 90d."
)
@click.option("--dry-run", is_flag=True, help="Say how many, and remove none.")
@of_file
def prune(client: Client, older_than: str, dry_run: bool) -> int:
    """Remove the events of runs that ended long ago. No engine may be at work."""
    before = since(older_than)
    if before is None:
        raise Refusal(f"'{older_than}' is longer than time goes back", USAGE)
    instant = datetime.now(UTC) - before
    if dry_run:
        ended = client.vects(state=["success", "failed", "cancelled"], limit=None)
        count = sum(1 for each in ended if each.end_date is not None and each.end_date < instant)
        note(f"{count} runs would be removed; none was")
        return SUCCESS
    with closing(SqliteEventLog(path_of_log())) as log:
        gone = log.prune(instant)
    click.echo(f"{len(gone)} runs were removed")
    return SUCCESS


@verb("Write the events of a log to a file.", example="oautom export runs.jsonl --log runs.db")
@click.argument("to", metavar="FILE")
@of_file
def export(client: Client, to: str) -> int:
    """Write all events to FILE, a JSON document a line."""
    with closing(SqliteEventLog(path_of_log(), read_only=True)) as log:
        log.to_jsonl(to)
        click.echo(f"{log.last_seq} events are in {to}")
    return SUCCESS
