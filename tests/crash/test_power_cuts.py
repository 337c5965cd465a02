"""A power cut, as far as it can be imitated: what was not known to be on the disk may be missing.

A writer is stopped in the middle, and its files are copied: the database and its journal, without
the memory that processes have in common, which no power cut leaves. Then the journal is cut at many
places, or its end is made into zeros or noise. What was committed before the writer was told so
stays; of the rest, whatever is there is a beginning of what was written.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from oautom.audit.invariants import check_history
from oautom.events.sqlite import SqliteEventLog
from oautom.machine.event import Event

from .harness import IS_LONG, Life, swept, until

# After each commit: the number of the last event, and how long the journal was then. Steps may act
# upon that from here on. A commit that leaves a shorter journal has begun it anew.
WRITER = """
import os, sys
from oautom import Flow, OAutom, PythonExecution
from oautom.events.sqlite import SqliteEventLog

class Log(SqliteEventLog):
    def commit(self):
        events = super().commit()
        if events:
            size = os.stat("runs.db-wal").st_size
            os.write(told, f"{events[-1].seq} {size}\\n".encode())
        return events

told = os.open("told", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
log = Log("runs.db", synchronous="FULL")
app = OAutom(log=log, executor="inline")
flow = Flow("flow", app, max_active_vects=10_000)
before = None
for i in range(20):
    step = PythonExecution(f"step {i}", flow, lambda: "x" * 300)
    step.depends(*([before] if before else []))
    before = step
os.write(1, b"started\\n")
while True:
    app.run(flow)
"""


class Image:
    """The files of a log at one moment, and what its writer knew to be on the disk."""

    def __init__(self, source: Path, folder: Path) -> None:
        told = (source / "told").read_text().splitlines()
        seq, size = told[-1].split() if told else ("0", "0")
        self.durable_seq, self.durable_bytes = int(seq), int(size)
        self.database = (source / "runs.db").read_bytes()
        wal = source / "runs.db-wal"
        self.wal = wal.read_bytes() if wal.exists() else b""
        self._folder = folder

    def opened(self, wal: bytes, *, may_change: bool = False) -> list[Event]:
        """Return the events that are there when the journal is as given, and all is in order."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        path = self._folder / "runs.db"
        path.write_bytes(self.database)
        path.with_name("runs.db-wal").write_bytes(wal)
        with closing(SqliteEventLog(path, read_only=not may_change)) as log:
            log.verify()
            events = list(log.read())
        check_history(events)
        return events


def cuts(image: Image, chance: random.Random, count: int) -> list[int]:
    """Return where to cut: at and around what is sure, at its end, and anywhere."""
    end, sure = len(image.wal), min(image.durable_bytes, len(image.wal))
    near = [sure, sure + 1, sure + 24, sure + 4096, end - 1, end, 0, 31, 32, 56]
    anywhere = [chance.randint(0, end) for _ in range(count)]
    return [cut for cut in near + anywhere if 0 <= cut <= end]


@pytest.mark.timeout(1800 if IS_LONG else 120)
def test_what_a_power_cut_leaves_is_a_beginning_of_the_log_with_all_that_was_sure(
    tmp_path: Path,
) -> None:
    chance = random.Random(1)
    with swept(tmp_path / "writer") as folder:
        (folder / "writer.py").write_text(WRITER)
        life = Life(folder, program=folder / "writer.py")
        assert life.wait_for("started")
        images = []
        for _ in range(16 if IS_LONG else 4):
            seen = _told(folder)
            until(lambda seen=seen: _told(folder) > seen + (200 if IS_LONG else 60))
            time.sleep(chance.random() * 0.05)
            life.process.send_signal(signal.SIGSTOP)
            _wait_until_stopped(life.process.pid)
            images.append(Image(folder, tmp_path / "image"))
            life.process.send_signal(signal.SIGCONT)
        life.kill()
        with closing(SqliteEventLog(folder / "runs.db")) as log:
            all_events = list(log.read())
    assert any(len(image.wal) > 4 * 4096 for image in images)
    for image in images:
        _check(image, all_events, chance)


def _check(image: Image, all_events: list[Event], chance: random.Random) -> None:
    whole = image.opened(image.wal)
    assert whole == all_events[: len(whole)]
    assert len(whole) >= image.durable_seq
    sure = image.durable_bytes
    for cut in cuts(image, chance, 20 if IS_LONG else 2):
        left = image.wal[:cut]
        lost = len(image.wal) - cut
        ways = (left, left + bytes(lost), left + chance.randbytes(lost))
        for wal in ways if IS_LONG else [chance.choice(ways)]:
            events = image.opened(wal, may_change=chance.random() < 0.5)
            assert events == all_events[: len(events)]
            if cut >= sure:  # what is behind may be lost: nobody was told that it is there
                assert len(events) >= image.durable_seq


def _told(folder: Path) -> int:
    file = folder / "told"
    lines = file.read_text().splitlines() if file.exists() else []
    return int(lines[-1].split()[0]) if lines else 0


def _wait_until_stopped(pid: int) -> None:
    stat = Path(f"/proc/{pid}/stat")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    os.sched_yield()
