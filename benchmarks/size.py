"""A log of a million events: seconds to open, ask and prune it, and its bytes on the disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from benchmarks.graphs import declare, run
from benchmarks.measure import Figure, Settings, Table
from benchmarks.shapes import graph
from oautom import Event, MemoryEventLog, SqliteEventLog
from oautom.events import replay

EVENTS = 1_000_000
STEPS = 100  # of each Vect


def measure(settings: Settings) -> Iterator[Table]:
    """Yield a table of what is waited for when it is opened, and one of what is done seldom."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "log.db")
        write_s, vects = _seconds(lambda: _write(path))
        size = path.stat().st_size
        rounds = [_open(path) for _ in range(1 + settings.rounds)][1:]  # the first is the warm-up
        opened = {key: median(each[key] for each in rounds) for key in rounds[0]}
        title = f"a log of {EVENTS:,} events, in {vects:,} vects of {STEPS} steps: seconds"
        row: dict[str, Figure] = {"": "to see what there is", **opened}
        yield Table(title, [row | {"together": sum(opened.values())}])
        half_s, rest = _seldom(path)
        row = {"": "seldom", "write (NORMAL)": write_s, **half_s}
        yield Table("what is done seldom: seconds", [row])
        row = {"": "file", "MB": size / 1e6, "bytes an event": round(size / EVENTS)}
        yield Table("its size", [row | {"MB when half is pruned": rest / 1e6}])


def _seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


def _write(path: Path) -> int:
    """Write a Vect again and again, each under a name of its own, until the log is full."""
    run_log = MemoryEventLog()
    with declare(graph("layers", STEPS, width=10), "inline", log=run_log) as app:
        run(app)
    events = list(run_log.read())
    vects = EVENTS // len(events)
    log = SqliteEventLog(path, synchronous="NORMAL")
    for number in range(vects):
        for event in events:
            log.append(None, _moved(event, number, number * len(events)))
        log.commit()
    log.close()
    return vects


def _moved(event: Event, number: int, by: int) -> Event:
    return msgspec.structs.replace(
        event,
        seq=event.seq + by,
        vect=f"{event.vect[:8]}{number:08}",
        time=event.time + timedelta(minutes=number),
    )


def _open(path: Path) -> dict[str, float]:
    """Return the seconds until a new process would know what there is."""
    open_s, log = _seconds(lambda: SqliteEventLog(path))
    vects_s, vects = _seconds(log.vects)
    newest = vects[-1].id
    replay_s, states = _seconds(lambda: replay(log.read(vect=newest)))
    assert states[newest].state == "success"
    log.close()
    return {"open": open_s, "vects()": vects_s, "newest Vect": replay_s}


def _seldom(path: Path) -> tuple[dict[str, float], int]:
    """Return the seconds of what goes through the whole file, and the bytes that are left."""
    log = SqliteEventLog(path)
    verify_s, _ = _seconds(log.verify)
    vects = log.vects()
    middle = vects[len(vects) // 2].created
    prune_s, gone = _seconds(lambda: log.prune(middle))
    assert len(gone) == len(vects) // 2
    log.close()
    return {"verify()": verify_s, "prune half": prune_s}, path.stat().st_size
