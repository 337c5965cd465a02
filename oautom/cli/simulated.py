"""The verb `simulate`: what would come of a run, and how long it would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from oautom.cli.exits import OF_STATES, USAGE, Refusal
from oautom.cli.file import client_of, found, path_of
from oautom.cli.loading import load_app
from oautom.cli.output import (
    json_option,
    print_json,
    print_table,
    seconds_between,
    seconds_of,
    verb,
)
from oautom.cli.params import params_of
from oautom.cli.running import texts_of
from oautom.testing import simulate as simulated


@verb(
    "Say what would come of a run, without running it.",
    example="oautom simulate pipeline.py:app etl day=2026-11-24 --take extract=60",
)
@click.argument("app")
@click.argument("flow")
@click.argument("params", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--like", metavar="VECT", help="Durations and outcomes of this run.")
@click.option("--log", metavar="FILE", help="The file with that run. Default: $OAUTOM_FILE.")
@click.option("--fail", multiple=True, metavar="STEP", help="This step fails. Can be repeated.")
@click.option("--take", multiple=True, metavar="STEP=S", help="This step takes S seconds.")
@click.option("--workers", type=int, metavar="N", help="How many steps run at once.")
@json_option
def simulate(
    app: str,
    flow: str,
    params: tuple[str, ...],
    like: str | None,
    log: str | None,
    fail: tuple[str, ...],
    take: tuple[str, ...],
    workers: int | None,
    as_json: bool,
) -> int:
    """Run FLOW of APP on a virtual clock, without the work of its steps.

    Exits as `run` would: 1 where the run would fail.
    """
    engine = load_app(app)
    known = engine.flow(flow)
    vect = simulated(
        known,
        params_of(params, texts_of(known)),
        like=None if like is None else found(client_of(path_of(log)), like),
        outcomes={name: RuntimeError("it fails in this simulation") for name in fail},
        durations=_durations(take),
        max_workers=workers,
    )
    status = vect.status()
    if as_json:
        print_json(status | {"seconds": seconds_between(status)})
    else:
        _print(status)
    return OF_STATES[vect.state]


def _durations(pairs: Sequence[str]) -> Mapping[str, float]:
    durations: dict[str, float] = {}
    for pair in pairs:
        name, _, seconds = pair.rpartition("=")
        try:
            durations[name] = float(seconds)
        except ValueError as error:
            raise Refusal(f"'{pair}' is no duration; write STEP=SECONDS", USAGE) from error
    return durations


def _print(status: Mapping[str, Any]) -> None:
    begin = datetime.fromisoformat(status["start_date"])
    rows: list[tuple[str, ...]] = []
    for step in sorted(status["executions"], key=lambda each: each["start_date"] or "~"):
        if (seconds := seconds_between(step)) is None:
            rows.append((step["name"], step["state"], "", ""))
            continue
        after = datetime.fromisoformat(step["start_date"]) - begin
        rows.append((step["name"], step["state"], f"at {seconds_of(after)}", seconds_of(seconds)))
    print_table(rows)
    click.echo(
        f"{status['name']}: {status['state']} after {seconds_of(seconds_between(status) or 0)}"
    )
