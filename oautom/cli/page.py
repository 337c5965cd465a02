"""The verb `page`, and what `serve --page` and `export --to html` need of the page."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oautom.cli.exits import NO_ENGINE, SUCCESS, USAGE, Refusal
from oautom.cli.file import path_of
from oautom.cli.output import VARIABLE, json_option, note, print_json, verb
from oautom.client import Client
from oautom.errors import SettingError

if TYPE_CHECKING:
    from oautom.web.server import PageServer

HOST = "127.0.0.1"
PORT = 8800


@verb("Show runs in a browser.", example="oautom page --steer --log runs.db")
@click.option("--log", metavar="FILE", help=f"The file of the log. Default: ${VARIABLE}.")
@click.option(
    "--host",
    default=HOST,
    show_default=True,
    help="Where to listen. Others reach the page by any other address.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True)
@click.option("--steer", is_flag=True, help="Have buttons, for those who have the token.")
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="Answer to this name, too: of a proxy."
)
@json_option
def page(
    log: str | None,
    host: str,
    port: int,
    steer: bool,
    allow_host: tuple[str, ...],
    as_json: bool,
) -> int:
    """Serve a page that shows the runs of a log, until Ctrl-C or SIGTERM.

    The file may not be there yet: its program makes it.
    """
    path = path_of(log)
    client = Client(path)
    if Path(path).exists():
        client.seq  # noqa: B018 - read once, so that a file that is no log is told here
    gc.set_threshold(100_000, 50, 100)  # a view of a large run makes much, and no cycles
    server = _server(client, host, port, steer=steer, hosts=allow_host)
    if as_json:
        print_json({"address": server.address, "token": server.page.token, "log": path})
    _tell(server, note if as_json else click.echo)
    try:
        server.run()
    except KeyboardInterrupt:  # uvicorn has ended, and raises the signal again
        note("stopped")
    return SUCCESS


@contextmanager
def served(app: Any, address: str | None, *, steer: bool) -> Iterator[None]:
    """Serve the page of an app on a thread of its own meanwhile; nothing where there is no address.

    Args:
        app: The app.
        address: `HOST:PORT`, a port, or empty for the usual ones; None for no page.
        steer: Whether it has buttons.

    Raises:
        Refusal: It cannot be served there.
    """
    if address is None:
        if steer:
            raise Refusal("--steer is of the page: serve that by --page", USAGE)
        yield
        return
    host, port = _address(address)
    server = _server(app, host, port, steer=steer)
    _tell(server, note)
    with server:
        yield


def _address(given: str) -> tuple[str, int]:
    host, colon, port = given.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else HOST
    if not given:
        return HOST, PORT
    if not (port.isascii() and port.isdigit() and int(port) <= 65535 and host):
        raise Refusal(f"--page takes HOST:PORT or a port, not '{given}'", USAGE)
    return host, int(port)


def _server(
    source: Any, host: str, port: int, *, steer: bool, hosts: Sequence[str] = ()
) -> PageServer:
    try:
        from oautom.web.server import PageServer  # noqa: PLC0415 - an extra, of this verb alone
    except ImportError as error:
        raise Refusal(str(error), USAGE) from error
    try:
        return PageServer(source, host=host, port=port, steer=steer, hosts=tuple(hosts))
    except SettingError as error:
        raise Refusal(
            str(error), NO_ENGINE if isinstance(error.__cause__, OSError) else USAGE
        ) from error


def _tell(server: PageServer, say: Callable[[str], None]) -> None:
    if server.is_for_all:
        note("other machines can reach this page, and nothing that it sends is encrypted")
    say(f"the page is at {server.address}")


def export_html(client: Client, file: str, vects: Sequence[str]) -> int:
    """Write runs to a file that a browser opens without network; return how many.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        from oautom.web.export import html_of  # noqa: PLC0415 - as above
    except ImportError as error:
        raise Refusal(str(error), USAGE) from error
    Path(file).write_text(html_of(client, vects), encoding="utf-8")
    return len(vects)
