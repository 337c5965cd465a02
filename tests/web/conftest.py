"""A page that is served by real uvicorn, and asked over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from oautom import (
    ApprovalExecution,
    Client,
    Flow,
    MapExecution,
    OAutom,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
)
from oautom.web.server import PageServer

HOSTILE = [
    '<script>alert("x")</script>',
    "'\"><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "../../etc/passwd",
    "a/b?c=d&e=f#g",
    "100% %2F..%2f",
    "\u202egnp.exe\u202c",
    "שלום עולם",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp;",
    "x" * 200,
]
NASTY = "\x1b[31mred\x1b[0m \x07\x00<script>alert(2)</script>\u202e"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Site:
    """Asks a page: each request by a connection of its own, with the cookies that were given."""

    def __init__(self, port: int, folder: str = "", token: str | None = None) -> None:
        self.port = port
        self.folder = folder
        self.token = token
        self.cookies: dict[str, str] = {}

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        cookie = "; ".join(f"{name}={each}" for name, each in self.cookies.items())
        given = {**({"Cookie": cookie} if cookie else {}), **(headers or {})}
        connection.request(method, f"{self.folder}/{path}", body, given)
        response = connection.getresponse()
        answer = Answer(
            response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        )
        connection.close()
        return answer

    def get(self, view: str = "", /, **query: Any) -> Answer:
        return self.ask("GET", f"{view}?{urlencode(query)}" if query else view)

    def post(self, view: str, headers: dict[str, str] | None = None, /, **form: Any) -> Answer:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", view, urlencode(form).encode(), {**kind, **(headers or {})})

    def enter(self) -> None:
        """Show the token, and keep the cookie."""
        answer = self.get(token=self.token)
        assert answer.status == 303
        assert answer.headers["location"] == "./"
        name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
        self.cookies[name] = value

    @contextmanager
    def stream(self, headers: dict[str, str] | None = None, **query: Any) -> Iterator[HTTPResponse]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        address = f"{self.folder}/stream?{urlencode(query)}"
        connection.request("GET", address, headers=headers or {})
        try:
            yield connection.getresponse()
        finally:
            connection.close()


def messages(response: HTTPResponse) -> Iterator[dict[str, str]]:
    """Yield the messages of a stream."""
    message: dict[str, str] = {}
    for line in response:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            message[name] = value
        elif message:
            yield message
            message = {}


def numbers(response: HTTPResponse, upto: int) -> list[int]:
    """Return the numbers of the events of a stream, until one comes."""
    found = []
    for message in messages(response):
        if "id" in message:
            found.append(int(message["id"]))
            if found[-1] >= upto:
                break
    return found


@contextmanager
def served(source: Any, **how: Any) -> Iterator[Site]:
    """Serve a page by itself, on a port that is free."""
    with PageServer(source, port=0, **how) as server:
        port = int(server.address.rpartition(":")[2].partition("/")[0])
        wait_for(lambda: server._server.started)
        yield Site(port, token=server.page.token)


def wait_for(holds: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it has not come"
        time.sleep(0.01)


class Orders:
    """An engine at work, with flows that end well and badly, and that wait for a person."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.app = app = OAutom(OAutomMode.background, log=log, max_workers=4)
        self.may_go = threading.Event()
        self.order = order = Flow(
            "order", app, params={"item": str, "count": int}, max_active_vects=None
        )
        pick = PythonExecution("pick", order, self._pick)
        pack = MapExecution("pack", order, lambda item: item * 2, over=pick)
        pay = PythonExecution("pay", order, self._pay, retry=RetryPolicy(max_attempts=2, delay=0))
        check = ApprovalExecution("check", order, f"is it <b>right</b>? {NASTY[8:]}")
        ship = PythonExecution("ship", order, lambda context: f"sent {context.params['item']}")
        pick >> pack >> check >> ship
        pick >> pay
        self.slow = Flow("slow", app, max_active_vects=None)
        PythonExecution("work", self.slow, self._work)
        app.run()

    def _pick(self, context: Any) -> list[int]:
        print("picking", context.params["item"], NASTY)
        return list(range(context.params["count"]))

    def _pay(self, context: Any) -> str:
        if context.params["item"] == "gold":
            raise ValueError("too <i>dear</i>")
        return "x" * 100_000 if context.params["item"] == "much" else "paid"

    def _work(self) -> None:
        for number in range(600):
            print("line", number)
            if self.may_go.wait(0.05):
                return

    def start(self, vect: str, item: str = "tea", count: int = 3) -> str:
        """Start an order, and wait until a person is asked."""
        self.app.start(self.order, {"item": item, "count": count}, vect_id=vect)

        def is_asked() -> bool:
            steps = Client(self.log).vect(vect).steps
            return steps["check"].state == "running" and steps["pay"].state in ("success", "failed")

        wait_for(is_asked)
        return vect

    def close(self) -> None:
        self.may_go.set()
        self.app.close()


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orders]:
    made = Orders(str(tmp_path_factory.mktemp("orders") / "runs.db"))
    made.start("order 1")
    made.start("order 2", "gold")
    made.app.vect("order 1").approve("check", by="Ada")
    made.app.vect("order 1").wait(30)
    made.app.vect("order 2").reject("check", by="Ada")
    made.app.vect("order 2").wait(30)
    made.start("order 3", "much")
    yield made
    made.close()


@pytest.fixture(scope="module")
def site(orders: Orders) -> Iterator[Site]:
    """A page that only shows."""
    with served(orders.log) as found:
        yield found


@pytest.fixture(scope="module")
def steered(orders: Orders) -> Iterator[Site]:
    """A page that steers, for one who has shown the token."""
    with served(orders.log, steer=True) as found:
        found.enter()
        yield found


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "runs.db")
