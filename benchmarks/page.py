"""The page: how long its views take, the memory of its server, and what viewers cost the engine.

Views are asked by HTTP of a server in a process of its own: of a log of 10,000 runs, and of a run
of 10,000 steps, which is a map. Then it is asked 1,000 times, with 100 streams open. The engine
runs a chain with a durable log with and without ten viewers who watch it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from multiprocessing.pool import ThreadPool
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.measure import Figure, Settings, Table, in_turn, medians, ratios
from oautom import Client, Flow, MapExecution, OAutom, OAutomMode, PythonExecution, SqliteEventLog

RUNS = 10_000
ITEMS = 10_000
LOADS = 1_000
STREAMS = 100
VIEWERS = 10


def measure(settings: Settings) -> Iterator[Table]:
    """Yield a table of views, one of memory, and one of the engine."""
    with TemporaryDirectory() as folder:
        log = str(Path(folder, "runs.db"))
        _fill(log)
        past = Client(log).vect("large").events()[1_000].seq
        with _served(log) as (port, pid):
            views = {
                "runs": "/",
                "runs of a flow, page 100": "/?flow=small&page=100",
                "days": "/days",
                "a run of 10,000 steps": "/run?id=large",
                "the same, in the past": f"/run?id=large&at={past}",
                "instances of its map": "/run?id=large&map=each&page=20",
                "one instance": "/step?id=large&step=each%5B5000%5D",
                "inbox": "/inbox",
            }
            yield Table(
                "views", [_view(port, name, path, settings) for name, path in views.items()]
            )
            yield Table(f"memory of the server, {LOADS:,} loads", list(_memory(port, pid)))
        with _served(str(Path(folder, "chain.db"))) as (port, _):
            yield _engine(str(Path(folder, "chain.db")), port, settings)


def _fill(log: str) -> None:
    file = SqliteEventLog(log, synchronous="NORMAL")
    with OAutom(OAutomMode.background, log=file, max_workers=2) as app, ThreadPool(32) as pool:
        small = Flow("small", app, max_active_vects=None)
        PythonExecution("only", small, int)
        large = Flow("large", app)
        items = PythonExecution("items", large, lambda: list(range(ITEMS)))
        MapExecution("each", large, lambda item: item, over=items)
        app.run()
        for run in pool.map(lambda _: app.start(small), range(RUNS)):
            run.wait()
        app.start(large, vect_id="large").wait()


@contextmanager
def _served(log: str) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "oautom", "page", "--log", log, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(re.findall(r":(\d+)/", server.stdout.readline())[0]), server.pid
        finally:
            server.terminate()


def _get(port: int, path: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    size = len(response.read())
    assert response.status == 200, (path, response.status)
    connection.close()
    return size


def _view(port: int, name: str, path: str, settings: Settings) -> dict[str, Figure]:
    seconds, size = [], 0
    for _ in range(settings.rounds + 1):
        begin = time.perf_counter()
        size = _get(port, path)
        seconds.append(time.perf_counter() - begin)
    first, *others = seconds
    return {"view": name, "first ms": first * 1e3, "ms": median(others) * 1e3, "kB": size / 1e3}


def _memory(port: int, pid: int) -> Iterator[dict[str, Figure]]:
    streams = []
    for _ in range(STREAMS):
        stream = HTTPConnection("127.0.0.1", port, timeout=60)
        stream.request("GET", "/stream")
        streams.append((stream, stream.getresponse()))
    for loads in range(0, LOADS + 1, LOADS // 4):
        for _ in range(LOADS // 4 if loads else 50):
            _get(port, "/")
        yield {"loads": loads, "streams": len(streams), "MB": _resident(pid) / 1e6}
    for stream, _ in streams:
        stream.close()


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def _engine(log: str, port: int, settings: Settings) -> Table:
    steps = settings.steps // 10
    sides = {
        "watched": partial(_chain, log, steps, port),
        "alone": partial(_chain, log, steps, None),
    }
    _chain(log, 10, None)
    samples = in_turn(sides, 2 * settings.rounds + 1)
    row = {"log": f"{steps:,} steps, FULL", "viewers": VIEWERS}
    row |= {**medians(samples, "us", 1e6 / steps), **ratios(samples, [("watched", "alone")])}
    return Table("the engine, with open pages", [row])


def _chain(log: str, steps: int, port: int | None) -> float:
    streams = []
    with OAutom(executor="inline", log=log) as app:
        flow = Flow("chain", app)
        last = None
        for number in range(steps):
            step = PythonExecution(f"s{number}", flow, int)
            if last is not None:
                last >> step
            last = step
        for _ in range(VIEWERS if port is not None else 0):
            stream = HTTPConnection("127.0.0.1", port or 0, timeout=60)
            stream.request("GET", "/stream")
            streams.append((stream, stream.getresponse()))
        begin = time.perf_counter()
        app.start(flow).wait()
        seconds = time.perf_counter() - begin
    for stream, _ in streams:
        stream.close()
    return seconds
