"""The verbs that ask the engine for something: each prints what it has answered."""

from __future__ import annotations

import functools
import getpass
from collections.abc import Callable
from typing import Any

import click

from oautom.cli.exits import OF_STATES, SUCCESS, TIMEOUT, USAGE, Refusal
from oautom.cli.file import found, of_file
from oautom.cli.output import json_option, note, print_json, verb
from oautom.cli.params import from_json, params_of
from oautom.client import Answer, Client


def asks(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options of those that ask an engine."""
    for option in (
        json_option,
        click.option(
            "--queue", is_flag=True, help="With no engine at work, leave it for the next."
        ),
        click.option(
            "--timeout",
            type=float,
            default=30.0,
            show_default=True,
            metavar="S",
            help="Seconds to wait.",
        ),
    ):
        function = option(function)
    return of_file(function)


def _steers(done: str) -> Callable[[Callable[..., Answer]], Callable[..., Any]]:
    """Have a function that asks something of a run be called with its id; print the answer.

    Args:
        done: What is printed where it was carried out; with the names of the arguments in braces.
    """

    def decorate(function: Callable[..., Answer]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(client: Client, vect: str, as_json: bool, **given: Any) -> int:
            view = found(client, vect)
            run = view.id
            if "step" in given:
                view.explain(given["step"])  # one that is not there is refused without an engine
            answer = function(client, run, **given)
            if as_json:
                print_json({"request": answer.number, "event": answer.seq})
            elif answer.seq is None:
                click.echo(f"request {answer.number} waits for an engine")
            else:
                click.echo(done.format(vect=run, **given))
            return SUCCESS

        return asks(click.argument("vect")(wrapped))

    return decorate


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError) as error:
        raise Refusal("this user has no name; say who decides: --by NAME", USAGE) from error


@verb("Approve what a step waits for.", example="oautom approve - gate --by Ada --log runs.db")
@_steers("step '{step}' of vect '{vect}' is approved")
@click.argument("step")
@click.option("--by", metavar="NAME", help="Who approves. Default: the login name.")
@click.option("--data", metavar="JSON", help="The output of the step.")
def approve(
    client: Client, vect: str, step: str, by: str | None, data: str | None, **how: Any
) -> Answer:
    """Approve STEP of the run VECT."""
    given = None if data is None else from_json(data, "--data")
    return client.approve(vect, step, by or _login(), given, **how)


@verb(
    "Reject what a step waits for.",
    example="oautom reject - gate --reason 'too early' --log runs.db",
)
@_steers("step '{step}' of vect '{vect}' is rejected")
@click.argument("step")
@click.option("--by", metavar="NAME", help="Who rejects. Default: the login name.")
@click.option("--reason", default="", metavar="TEXT", help="Why.")
def reject(client: Client, vect: str, step: str, by: str | None, reason: str, **how: Any) -> Answer:
    """Reject STEP of the run VECT: it fails."""
    return client.reject(vect, step, by or _login(), reason, **how)


@verb("Pause a run.", example="oautom pause - --log runs.db")
@_steers("vect '{vect}' is paused")
def pause(client: Client, vect: str, **how: Any) -> Answer:
    """Start no further step of the run VECT; running steps go on."""
    return client.pause(vect, **how)


@verb("Resume a paused run.", example="oautom resume - --log runs.db")
@_steers("vect '{vect}' goes on")
def resume(client: Client, vect: str, **how: Any) -> Answer:
    """Go on with the run VECT, which was paused."""
    return client.resume(vect, **how)


@verb("Cancel a run.", example="oautom cancel - --reason 'wrong day' --log runs.db")
@_steers("vect '{vect}' is cancelled")
@click.option("--reason", default="", metavar="TEXT", help="Why.")
def cancel(client: Client, vect: str, reason: str, **how: Any) -> Answer:
    """Cancel the run VECT."""
    return client.cancel(vect, reason, **how)


@verb("Run again what failed or was cancelled.", example="oautom retry - --log runs.db")
@_steers("vect '{vect}' is retried")
def retry(client: Client, vect: str, **how: Any) -> Answer:
    """Run the failed and cancelled steps of the run VECT again."""
    return client.retry(vect, **how)


@verb(
    "Have the engine start a flow.", example="oautom start etl day=2026-11-24 --wait --log runs.db"
)
@click.argument("flow")
@click.argument("params", nargs=-1, metavar="[NAME=VALUE]...")
@click.option(
    "--id", "vect_id", metavar="ID", help="The id of the run: a second start is the same."
)
@click.option("--until", multiple=True, metavar="STEP", help="End with this step. Can be repeated.")
@click.option("--only", metavar="STEP", help="Run this step alone, with the outputs of --from.")
@click.option("--from", "source", metavar="VECT", help="The run that has the inputs of --only.")
@click.option("--wait", is_flag=True, help="Wait for its end, and exit as `run` would.")
@asks
def start(
    client: Client,
    flow: str,
    params: tuple[str, ...],
    vect_id: str | None,
    until: tuple[str, ...],
    source: str | None,
    wait: bool,
    **how: Any,
) -> int:
    """Start FLOW in the engine at work, and print the id of the run."""
    as_json = how.pop("as_json")
    how["given"] = None if source is None else found(client, source, flow).id
    how["until"] = until or None
    vect = client.start(flow, params_of(params) or None, vect_id=vect_id, **how)
    if not wait:
        print_json({"id": vect}) if as_json else click.echo(vect)
        return SUCCESS
    try:
        state = client.wait(vect)
    except TimeoutError as error:
        note(str(error))
        return TIMEOUT
    print_json(client.vect(vect).status()) if as_json else click.echo(f"{flow} {vect}: {state}")
    return OF_STATES[state]
