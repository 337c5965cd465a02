"""Who may ask the page, and what for: looked at before anything else, for each request.

- The name by which the page is asked is one that it knows, so that no other site can have a browser
  believe that the page is part of it ("DNS rebinding").
- What changes something is a POST, comes from the page itself, and brings the token.
- Whatever is answered, a browser loads nothing for it from elsewhere, and runs no script but ours.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse

LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
BODY_BYTES: Final = 2**20

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""What each answer has. Not `no-referrer`: a browser would then say `Origin: null` in a form."""


def host_of(given: str) -> str | None:
    """Return the name or number of a machine, in small letters, of a `Host`; None if it is none."""
    try:
        parts = urlsplit(f"//{given}")
        _ = parts.port  # raises where that is none
    except ValueError:
        return None
    is_plain = not (parts.path or parts.query or parts.fragment or "@" in given or "\\" in given)
    return parts.hostname if is_plain else None


def is_address(host: str) -> bool:
    """Whether a machine is named by its number, which no other site can have for a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Guard:
    """Answers to some names, and to what comes from the page itself: an ASGI app around another.

    Args:
        app: The app to which what is allowed goes.
        hosts: The names by which it is asked.
        any_address: Whether it may be asked by any number of a machine as well.
    """

    def __init__(self, app: Any, hosts: Iterable[str], *, any_address: bool) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._any_address = any_address

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _with(message.get("headers", ()))}
            await send(message)

        status, why = self._refusal(scope)
        refusal = PlainTextResponse(f"{why}\n", status)
        await (refusal if why else self._app)(scope, receive, guarded)

    def _refusal(self, scope: Any) -> tuple[int, str]:
        given = _all(scope, b"host")
        host = host_of(given[0]) if len(given) == 1 else None
        if host is None or not self._is_known(host):
            return 421, (
                "this page does not answer to that name; ask it by localhost or 127.0.0.1, or name "
                "its machine: page(..., hosts=[...]), oautom page --allow-host NAME"
            )
        if scope["method"] in ("GET", "HEAD"):
            return 200, ""
        if scope["method"] != "POST":
            return 405, "a page is read by GET, and changed by POST"
        if not self._is_own(scope, given[0]):
            return 403, "this was sent by another site, and nothing was done"
        return 200, ""

    def _is_known(self, host: str) -> bool:
        return host in LOCAL or host in self._hosts or (self._any_address and is_address(host))

    def _is_own(self, scope: Any, host: str) -> bool:
        """Whether what was sent comes from the page itself, or from no browser."""
        site, origins = _all(scope, b"sec-fetch-site"), _all(scope, b"origin")
        if any(each != "same-origin" for each in site) or len(origins) > 1:
            return False
        if not origins:
            return True
        try:
            origin = urlsplit(origins[0])
        except ValueError:
            return False
        if origin.scheme not in ("http", "https"):
            return False
        if origin.netloc.lower() == host.lower():
            return True
        # A proxy may ask by another name than the browser has; that name must have been told.
        return origin.hostname in self._hosts and origin.hostname != host_of(host)


def _with(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    found = list(headers)
    has = {name.lower() for name, _ in found}
    found += [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in has]
    if b"cache-control" not in has:
        found.append((b"cache-control", b"no-store"))
    return found


def _all(scope: Any, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key == name]


class Token:
    """The secret of those who may change something.

    Args:
        secret: The secret.
    """

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self._bytes = secret.encode()
        self.cookie = sha256(b"oautom page\0" + self._bytes).hexdigest()
        # One for each page: browsers do not tell the ports of a machine apart.
        self.cookie_name = f"oautom-{sha256(self.cookie.encode()).hexdigest()[:8]}"

    def is_right(self, given: str | None) -> bool:
        """Whether a secret is the right one; it takes as long for any of that length."""
        return given is not None and hmac.compare_digest(given.encode(), self._bytes)

    def is_shown(self, scope: Any, form: Mapping[str, str]) -> bool:
        """Whether a request brings it: as a cookie, as a bearer, or in the form."""
        wanted = self.cookie.encode()
        if any(
            hmac.compare_digest(value.encode(), wanted)
            for each in _all(scope, b"cookie")
            for value in _cookies(each, self.cookie_name)
        ):
            return True
        bearers = [
            value.strip().encode("latin-1").decode("utf-8", "replace")
            for kind, _, value in (each.partition(" ") for each in _all(scope, b"authorization"))
            if kind.lower() == "bearer"
        ]
        return any(self.is_right(each) for each in (*bearers, form.get("token")))


def _cookies(header: str, name: str) -> list[str]:
    """Return the values of the cookies of a name. What stands beside them may be of any form.

    Others on this machine set cookies for it, too, whatever their port, and some of them are none
    by the letter: `http.cookies` then reads none at all.
    """
    pairs = (each.partition("=") for each in header.split(";"))
    return [value.strip() for found, _, value in pairs if found.strip() == name]
