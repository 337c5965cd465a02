"""The page by itself, served by uvicorn: for the command line, and programs without a server."""

from __future__ import annotations

import asyncio
import socket
import threading
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Final, Self

from oautom.errors import SettingError

if find_spec("uvicorn") is None:
    raise ImportError("oautom's page needs uvicorn: pip install 'oautom[web]'")

import uvicorn

from oautom.web.guard import LOCAL, is_address
from oautom.web.site import Page, page

PORT: Final = 8800
HOST: Final = "127.0.0.1"
_WILD: Final = ("0.0.0.0", "::", "")  # noqa: S104 - they are recognised, not used
_LAST_SECONDS: Final = 3


class _Server(uvicorn.Server):
    """Ends the streams of its page first: it would wait for them."""

    def __init__(self, config: uvicorn.Config, shown: Page) -> None:
        super().__init__(config)
        self._page = shown

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, without waiting for the streams."""
        self._page.close()
        await super().shutdown(sockets)


class PageServer:
    """Serves a page on an address of its own.

    Args:
        source: What `page` takes.
        host: Where it listens; any other address than that of this machine is for all who reach it.
        port: Its port; 0 for any that is free.
        steer: As of `page`.
        hosts: As of `page`; the name of this machine is among them where it listens to others.

    Attributes:
        address: Where it is; with the token, where there is one.

    Raises:
        SettingError: It cannot listen there.
    """

    def __init__(
        self,
        source: Any,
        *,
        host: str = HOST,
        port: int = PORT,
        steer: bool = False,
        hosts: tuple[str, ...] = (),
    ) -> None:
        self._socket = _listening(host, port)
        is_open = host in _WILD
        known = [*hosts, *([socket.gethostname()] if is_open else [_quoted(host)])]
        self._page = page(source, steer=steer, hosts=known, any_address=is_open)
        self._page.has_own_server = True
        config = uvicorn.Config(
            self._page,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_LAST_SECONDS,
        )
        self._server = _Server(config, self._page)
        shown = "127.0.0.1" if is_open else _quoted(host)
        self.address = f"http://{shown}:{self._socket.getsockname()[1]}/"
        if self._page.token is not None:
            self.address += f"?token={self._page.token}"
        self._thread: threading.Thread | None = None

    @property
    def page(self) -> Page:
        """The page."""
        return self._page

    @property
    def is_for_all(self) -> bool:
        """Whether other machines reach it."""
        return self._socket.getsockname()[0] not in LOCAL

    def run(self) -> None:
        """Serve on this thread, until Ctrl-C or SIGTERM."""
        asyncio.run(self._server.serve([self._socket]))

    def __enter__(self) -> Self:
        """Serve on a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="oautom page", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Serve no more."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(2 * _LAST_SECONDS)


def _quoted(host: str) -> str:
    return f"[{host}]" if ":" in host and is_address(host) else host


def _listening(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, proto, _, address = found[0]
        listening = socket.socket(family, kind, proto)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)
        except BaseException:
            listening.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        raise SettingError(
            f"the page cannot listen on {host}:{port}: {error}; name another: --host, --port"
        ) from error
    return listening
