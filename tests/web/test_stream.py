"""The stream of events: nothing missed, nobody held up."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from oautom import (
    ApprovalExecution,
    Client,
    Flow,
    MapExecution,
    OAutom,
    OAutomMode,
    PythonExecution,
)
from oautom.web import live

from .conftest import Orders, Site, messages, numbers, served, wait_for

ROOT = Path(__file__).resolve().parents[2]

MOUNTED = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from oautom.web import page

app = Starlette(routes=[Mount("/flows", page(sys.argv[1]))])
uvicorn.run(app, port=int(sys.argv[2]), log_level="critical", timeout_graceful_shutdown=LIMIT)
"""
ALONE = """
import sys
from oautom.web.server import PageServer

PageServer(sys.argv[1], port=int(sys.argv[2])).run()
"""


def test_each_event_comes_once_with_its_number(orders: Orders, site: Site) -> None:
    seq = Client(orders.log).seq
    with site.stream(after=seq) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        orders.start("streamed")
        last = Client(orders.log).seq
        assert numbers(stream, last) == list(range(seq + 1, last + 1))
    orders.app.vect("streamed").cancel()


def test_whoever_comes_back_misses_nothing(
    orders: Orders, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BATCH", 3)
    client = Client(orders.log)
    last = client.seq
    with site.stream({"Last-Event-ID": "0"}, after=last) as stream:
        assert numbers(stream, last) == list(range(1, last + 1))
    own = [each.seq for each in client.vect("order 1").events()]
    with site.stream({"Last-Event-ID": str(own[3])}, vect="order 1") as stream:
        assert numbers(stream, own[-1]) == own[4:]


def test_a_stream_of_a_step_tells_that_it_has_written(orders: Orders, site: Site) -> None:
    vect = orders.app.start(orders.slow, vect_id="writes")
    wait_for(lambda: vect.steps["work"].attempt)
    with site.stream(vect="writes", step="work", attempt=1) as stream:
        assert any(each.get("event") == "text" for each in messages(stream))
    vect.cancel()


def test_viewers_who_are_gone_or_do_not_read_leave_nothing(file: str) -> None:
    app = OAutom(log=file)
    flow = Flow("many", app, max_active_vects=None)
    PythonExecution("do", flow, int)
    with app, served(file) as site:
        app.run(flow)
        idle = []
        for _ in range(20):
            gone = socket.create_connection(("127.0.0.1", site.port))
            gone.sendall(b"GET /stream?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            idle.append(gone)
        with site.stream(after=0) as stream:
            for _ in range(20):
                app.run(flow)
            last = Client(file).seq
            assert numbers(stream, last) == list(range(1, last + 1))
        for gone in idle:
            gone.close()
        made = live.Feed.count.fget  # type: ignore[attr-defined]
        feeds = [each for each in _feeds() if made(each)]
        wait_for(lambda: not any(made(each) for each in feeds))


@pytest.mark.parametrize("is_copied", [False, True])
def test_an_open_page_notices_a_longer_log_in_the_place_of_its_own(
    tmp_path: Path, file: str, is_copied: bool
) -> None:
    def make(path: str, *vects: str) -> None:
        with OAutom(OAutomMode.background, log=path) as app:
            flow = Flow("gated", app, max_active_vects=None)
            ApprovalExecution("gate", flow, "good?")
            for vect in vects:
                app.start(flow, vect_id=vect)
            app.run()
            for vect in vects:
                wait_for(lambda vect=vect: app.vect(vect).steps["gate"].state == "running")

    make(file, "a")
    make(new := str(tmp_path / "new.db"), "b", "c", "d")
    with served(file) as site, site.stream() as stream:
        assert ">1<span" in site.get("").text  # waits for a person
        told = messages(stream)
        assert next(told)["event"] == "hello"
        if is_copied:
            Path(file).write_bytes(Path(new).read_bytes())
        else:
            Path(new).rename(file)
        assert next(told)["event"] == "engine"  # by which the browser reads the page anew
        text = site.get("").text
        assert ">3<span" in text
        assert "run?id=d" in text
        assert "run?id=a" not in text
        last = Client(file).seq
        with OAutom(log=file) as app:
            app.run(_one(app), vect_id="e")
        assert numbers(stream, Client(file).seq)[0] == last + 1


def test_a_run_that_is_pruned_while_it_is_shown_is_said_to_be_gone(file: str) -> None:
    with OAutom(log=file) as app, served(file) as site:
        flow = _one(app)
        app.run(flow, vect_id="gone")
        address = {"id": "gone"}
        assert site.get("run", **address).status == 200
        with site.stream(vect="gone") as of_run, site.stream() as of_all:
            seq = Client(file).seq
            app.prune(older_than=timedelta())
            for view in ("run", "events", "step"):
                answer = site.get(view, **address, **({"step": "do"} if view == "step" else {}))
                assert answer.status == 404
                assert "ended as &#39;success&#39; and was pruned" in answer.text
            assert "gone" not in site.get("").text
            app.run(flow, vect_id="next")
            last = Client(file).seq
            assert numbers(of_all, last) == list(range(seq + 1, last + 1))
            assert next(messages(of_run)) == {"retry": "1000", "event": "hello", "data": "{}"}
        assert site.get("stream", vect="gone", after=0).status == 404  # a browser gives up then


def _one(app: OAutom) -> Flow:
    flow = Flow("one", app)
    PythonExecution("do", flow, int)
    return flow


def _feeds() -> list[live.Feed]:
    import gc

    return [each for each in gc.get_objects() if type(each) is live.Feed]


def test_there_are_only_so_many_streams(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oautom.web.site.STREAMS", 0)
    assert site.get("stream").status == 503


def test_a_stream_under_a_server_that_does_not_tell_of_its_end_is_bounded(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BOUND_SECONDS", 0.3)
    with served(orders.log) as site:
        for feed in [each for each in _pages() if each.has_own_server]:
            feed.has_own_server = False
        with site.stream() as stream:
            assert b"hello" in stream.read()  # until its end


def _pages() -> list[object]:
    import gc

    from oautom.web import Page

    return [each for each in gc.get_objects() if type(each) is Page]


@contextmanager
def started(program: str, log: str, folder: str) -> Iterator[tuple[subprocess.Popen[bytes], Site]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", program.replace("LIMIT", "None"), log, str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment) as server:
        try:
            site = Site(port, folder)
            wait_for(lambda: _answers(site))
            yield server, site
        finally:
            server.kill()


@pytest.mark.parametrize(("program", "folder"), [(MOUNTED, "/flows"), (ALONE, "")])
def test_a_server_with_open_streams_ends_at_once(orders: Orders, program: str, folder: str) -> None:
    with (
        started(program, orders.log, folder) as (server, site),
        site.stream() as one,
        site.stream(vect="order 3") as two,
    ):
        assert b"retry" in one.readline()
        assert b"retry" in two.readline()
        begin = time.monotonic()
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        assert time.monotonic() - begin < live.BOUND_SECONDS - 1
        assert b"hello" in one.read()


@pytest.mark.parametrize(("program", "folder"), [(MOUNTED, "/flows"), (ALONE, "")])
def test_a_viewer_who_reads_nothing_holds_a_server_no_longer_than_it_is_given(
    file: str, program: str, folder: str
) -> None:
    """No app can have its server drop what was sent and not read: only the server's limit does."""
    with OAutom(log=file, executor="inline") as app:
        flow = Flow("f" * 100, app)
        each = PythonExecution("each", flow, lambda: list(range(4_000)))
        MapExecution("m" * 150, flow, int, each.output)
        app.run(flow, vect_id="v" * 200)  # a stream of more bytes than the system takes
    limited = program.replace("LIMIT", "2")
    with started(limited, file, folder) as (server, site), socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        deaf.connect(("127.0.0.1", site.port))
        deaf.sendall(f"GET {folder}/stream?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(1)
        begin = time.monotonic()
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        assert 1.9 < time.monotonic() - begin < live.BOUND_SECONDS - 1  # so it was held


def _answers(site: Site) -> bool:
    try:
        return site.get("").status == 200
    except OSError:
        return False
