"""The verb `backfill`: the times of a plan that have no run."""

from __future__ import annotations

from typing import Any

import click

from oautom.cli.asking import asks
from oautom.cli.exits import SUCCESS
from oautom.cli.output import note, print_json, verb
from oautom.client import Client


@verb(
    "Run the times of a plan that have no run.",
    example="oautom backfill etl --from 2026-11-01 --to 2026-11-07 --parallel 2 --log runs.db",
)
@click.argument("flow")
@click.option("--from", "first", required=True, metavar="T", help="The first time, or day.")
@click.option("--to", "last", required=True, metavar="T", help="The last time, or day, included.")
@click.option("--plan", metavar="NAME", help="Which plan, if FLOW has several.")
@click.option("--parallel", type=int, metavar="N", help="How many of them are open at once.")
@click.option("--dry-run", is_flag=True, help="List what would be started, and start nothing.")
@asks
def backfill(
    client: Client,
    flow: str,
    first: str,
    last: str,
    plan: str | None,
    parallel: int | None,
    dry_run: bool,
    as_json: bool,
    **how: Any,
) -> int:
    """Have the engine start FLOW for each past time of its plan, --from to --to, without a run.

    A time is 2026-11-24, 2026-11-24T03:00 by the clock of the plan, or 2026-11-24T03:00Z.
    """
    if dry_run:
        vects = client.missing(flow, first, last, plan=plan)
        return _tell(vects, "would be started; nothing was started", as_json=as_json)
    done = client.backfill(flow, first, last, plan=plan, parallel=parallel, **how)
    if done.number is None:
        return _tell(done.vects, "are started, or wait for their turn", as_json=as_json)
    if as_json:
        print_json({"vects": None, "request": done.number})
    else:
        click.echo(f"request {done.number} waits for an engine")
    return SUCCESS


def _tell(vects: list[str], what: str, *, as_json: bool) -> int:
    if as_json:
        print_json({"vects": vects, "request": None})
        return SUCCESS
    for vect in vects:
        click.echo(vect)
    note(f"{len(vects)} {what}" if vects else "each past time there has its run")
    return SUCCESS
