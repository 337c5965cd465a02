"""The orders of the examples, served by two workers of a real uvicorn: one runs the engine."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oautom import Client

from .conftest import Marked, until

pytest.importorskip("fastapi", reason="it is one of the tools for tests: pip install -e .[dev]")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECONDS = 60.0


@pytest.fixture
def orders_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("ORDERS_LOG", str(tmp_path / "orders.db"))
    monkeypatch.delitem(sys.modules, "orders_api", raising=False)
    return importlib.import_module("orders_api")


@pytest.fixture
def customer(orders_api: ModuleType, tmp_path: Path, marked: Marked) -> Iterator[Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "orders_api:api"]
    server = subprocess.Popen(
        [*command, "--port", str(port), "--workers", "2", "--log-level", "error"],
        env=os.environ | marked.env,
        cwd=tmp_path,
        start_new_session=True,
    )
    try:
        orders_api.wait_for_engine(Client(tmp_path / "orders.db"))
        yield orders_api.Customer(port)
    finally:
        server.terminate()
        server.wait(SECONDS)
        until(lambda: marked.alive() == [], SECONDS)


def test_both_workers_start_show_approve_and_stream(customer: Any, tmp_path: Path) -> None:
    numbers = [str(number) for number in range(20)]
    for number in numbers:
        status, told = customer.ask("PUT", f"/orders/{number}", {"item": "tea", "count": 1})
        assert (status, told["state"]) == (200, "running")
    workers = {customer.ask("GET", f"/orders/{number}")[1]["worker"] for number in numbers * 3}
    client = Client(tmp_path / "orders.db")
    assert client.engine is not None
    assert client.engine.pid in workers
    assert len(workers) == 2

    before: dict[str, Any] = {number: customer.hear(number, 0, count=3) for number in numbers}
    after: dict[str, Any] = {}

    def hear(number: str) -> None:  # as a browser that reconnects
        after[number] = customer.hear(number, before[number][-1][0])

    threads = [threading.Thread(target=hear, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for number in numbers:
        assert customer.ask("POST", f"/orders/{number}/approval?by=Ada")[0] == 200
    for thread in threads:
        thread.join(SECONDS)
    for number in numbers:
        events = [(event.seq, event.name) for event in client.vect(number).events()]
        assert before[number] + after[number] == events
        assert events[-1][1] == "vect.succeeded"
    status, told = customer.ask("POST", "/orders/7/approval?by=Grace")
    assert (status, told["error"].partition("; ")[2]) == (409, "too late, Ada has approved it")
    assert customer.ask("GET", "/orders/none")[0] == 404
    assert customer.ask("PUT", "/orders/new", {"item": "tea"})[0] == 422


def test_another_worker_takes_over_when_the_one_with_the_engine_is_killed(
    customer: Any, tmp_path: Path
) -> None:
    client = Client(tmp_path / "orders.db")
    assert customer.ask("PUT", "/orders/1", {"item": "tea", "count": 1})[0] == 200
    assert client.engine is not None
    killed = client.engine.pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: (engine := client.engine) is not None and engine.pid != killed, SECONDS)
    until(lambda: [each.vect for each in client.waiting()] == ["1"], SECONDS)
    client.approve("1", "check", by="Ada")
    assert client.wait("1", SECONDS) == "success"
    names = [event.name for event in client.vect("1").events()]
    assert names.count("vect.recovered") == 1
