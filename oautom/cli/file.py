"""What the verbs have in common that need the file of a log only: `--log`, and which run."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from oautom.cli.exits import NOT_FOUND, USAGE, Refusal, near_miss
from oautom.cli.output import VARIABLE
from oautom.client import Client, VectView
from oautom.errors import UnknownVectError

_NEWEST: Final = "-"
_CANDIDATES: Final = 10_000
"""Among how many of the newest runs a shortened id is looked up."""


def of_file(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the option `--log`, and as its first argument the client of that file."""

    @click.option("--log", metavar="FILE", help=f"The file of the log. Default: ${VARIABLE}.")
    @functools.wraps(function)
    def wrapped(log: str | None, **given: Any) -> Any:
        path = path_of(log)
        click.get_current_context().obj = path
        return function(client_of(path), **given)

    return wrapped


def path_of(log: str | None) -> str:
    """Return the path of the log that is meant.

    Raises:
        Refusal: None is named.
    """
    if path := log or os.environ.get(VARIABLE):
        return path
    raise Refusal(f"which log? name its file: --log FILE, or set {VARIABLE}", USAGE)


def client_of(path: str) -> Client:
    """Return a client of a file that is there.

    Raises:
        Refusal: It is not.
    """
    if not Path(path).exists():
        folder = Path(path).parent
        there = [each.name for each in folder.iterdir()] if folder.is_dir() else []
        raise Refusal(f"there is no file '{path}'{near_miss(Path(path).name, there)}", NOT_FOUND)
    return Client(path)


def path_of_log() -> str:
    """Return the path of the file of the verb that is under way."""
    return str(click.get_current_context().obj)


def found(client: Client, named: str, flow: str | None = None) -> VectView:
    """Return the run that an argument names: by its id, the beginning of it, or `-` for the newest.

    Args:
        client: Who looks.
        named: The argument.
        flow: The name of its flow; None for any.

    Raises:
        Refusal: There is none, or there are several.
    """
    if named == _NEWEST:
        if not (newest := client.vects(flow, limit=1)):
            raise Refusal("the log has no run", NOT_FOUND)
        return client.vect(newest[0].id)
    try:
        return client.vect(named)
    except UnknownVectError as error:  # it may be the beginning of one
        unknown = error
    ids = [view.id for view in client.vects(flow, limit=_CANDIDATES)]
    fitting = [each for each in ids if each.startswith(named)]
    if len(fitting) == 1:
        return client.vect(fitting[0])
    if fitting:
        listed = ", ".join(fitting[:5]) + (", ..." if len(fitting) > 5 else "")
        raise Refusal(f"'{named}' begins the ids of {len(fitting)} runs: {listed}", USAGE)
    if len(ids) == _CANDIDATES:  # an older one may begin so
        raise unknown
    hint = near_miss(named, ids, "; `oautom ls` lists them")
    raise Refusal(f"the log has no run '{named}'{hint}", NOT_FOUND)
