"""The verbs that ask the engine for something: each prints what it has answered."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any

import click
import msgspec

from oautom.cli.exits import OF_STATES, SUCCESS, TIMEOUT, USAGE, Refusal
from oautom.cli.file import found, of_file
from oautom.cli.output import note, print_json, verb
from oautom.client import Answer, Client


def _asks(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options of those that ask an engine."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
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


def _tell(answer: Answer, done: str, *, as_json: bool) -> int:
    if as_json:
        print_json({"request": answer.number, "event": answer.seq})
    elif answer.seq is None:
        click.echo(f"request {answer.number} waits for an engine")
    else:
        click.echo(done)
    return SUCCESS


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError) as error:
        raise Refusal("this user has no name; say who decides: --by NAME", USAGE) from error


def _json_of(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise Refusal(f"--data is no JSON: {error}", USAGE) from error


@verb("Approve what a step waits for.", example="oautom approve - release --by Ada --log runs.db")
@click.argument("vect")
@click.argument("step")
@click.option("--by", metavar="NAME", help="Who approves. Default: the login name.")
@click.option("--data", metavar="JSON", help="The output of the step.")
@_asks
def approve(
    client: Client, vect: str, step: str, by: str | None, data: str | None, **how: Any
) -> int:
    """Approve STEP of the run VECT."""
    as_json, view, given = how.pop("as_json"), found(client, vect), _json_of(data)
    answer = client.approve(view.id, step, by or _login(), given, **how)
    return _tell(answer, f"step '{step}' of vect '{view.id}' is approved", as_json=as_json)


@verb(
    "Reject what a step waits for.",
    example="oautom reject - release --reason 'too early' --log runs.db",
)
@click.argument("vect")
@click.argument("step")
@click.option("--by", metavar="NAME", help="Who rejects. Default: the login name.")
@click.option("--reason", default="", metavar="TEXT", help="Why.")
@_asks
def reject(client: Client, vect: str, step: str, by: str | None, reason: str, **how: Any) -> int:
    """Reject STEP of the run VECT: it fails."""
    as_json, view = how.pop("as_json"), found(client, vect)
    answer = client.reject(view.id, step, by or _login(), reason, **how)
    return _tell(answer, f"step '{step}' of vect '{view.id}' is rejected", as_json=as_json)


@verb("Pause a run.", example="oautom pause - --log runs.db")
@click.argument("vect")
@_asks
def pause(client: Client, vect: str, **how: Any) -> int:
    """Start no further step of the run VECT; running steps go on."""
    as_json, view = how.pop("as_json"), found(client, vect)
    return _tell(client.pause(view.id, **how), f"vect '{view.id}' is paused", as_json=as_json)


@verb("Resume a paused run.", example="oautom resume - --log runs.db")
@click.argument("vect")
@_asks
def resume(client: Client, vect: str, **how: Any) -> int:
    """Go on with the run VECT, which was paused."""
    as_json, view = how.pop("as_json"), found(client, vect)
    return _tell(client.resume(view.id, **how), f"vect '{view.id}' goes on", as_json=as_json)


@verb("Cancel a run.", example="oautom cancel - --reason 'wrong day' --log runs.db")
@click.argument("vect")
@click.option("--reason", default="", metavar="TEXT", help="Why.")
@_asks
def cancel(client: Client, vect: str, reason: str, **how: Any) -> int:
    """Cancel the run VECT."""
    as_json, view = how.pop("as_json"), found(client, vect)
    return _tell(
        client.cancel(view.id, reason, **how), f"vect '{view.id}' is cancelled", as_json=as_json
    )


@verb("Run again what failed or was cancelled.", example="oautom retry - --log runs.db")
@click.argument("vect")
@_asks
def retry(client: Client, vect: str, **how: Any) -> int:
    """Run the failed and cancelled steps of the run VECT again."""
    as_json, view = how.pop("as_json"), found(client, vect)
    return _tell(client.retry(view.id, **how), f"vect '{view.id}' is retried", as_json=as_json)


@verb(
    "Have the engine start a flow.", example="oautom start etl day=2026-11-24 --wait --log runs.db"
)
@click.argument("flow")
@click.argument("params", nargs=-1, metavar="[NAME=VALUE]...")
@click.option(
    "--id", "vect_id", metavar="ID", help="The id of the run: a second start is the same."
)
@click.option("--wait", is_flag=True, help="Wait for its end, and exit as `run` would.")
@_asks
def start(
    client: Client, flow: str, params: tuple[str, ...], vect_id: str | None, wait: bool, **how: Any
) -> int:
    """Start FLOW in the engine at work, and print the id of the run."""
    as_json = how.pop("as_json")
    vect = client.start(flow, _params_of(params) or None, vect_id=vect_id, **how)
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


def _params_of(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return parameters: texts, which the engine converts; lists and objects as JSON has them."""
    params: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name or name in params:
            raise Refusal(f"'{pair}' is no parameter, or given twice; write name=value", USAGE)
        params[name] = text
        if text.startswith(("[", "{")):
            try:
                params[name] = msgspec.json.decode(text)
            except msgspec.DecodeError as error:
                raise Refusal(f"parameter '{name}' is no JSON: {error}", USAGE) from error
    return params
