"""A program that fills times of a plan is killed at once: each time runs, so many at a time."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from oautom import (
    Client,
    LogError,
    NoEngineError,
    SqliteEventLog,
    UnknownFlowError,
    UnknownPlanError,
)
from oautom.testing import check_history

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 30.0
PROGRAM = """
import sys, time
from datetime import date
from pathlib import Path
from oautom import PLANNED, Flow, OAutom, OAutomMode, PythonExecution

app = OAutom(OAutomMode.background, log="runs.db")
flow = Flow("etl", app, params={"day": date}, max_active_vects=5)

def work(context):
    with open("ran.txt", "a") as file:
        file.write(f"{context.params['day']}\\n")
    time.sleep(0.02)

PythonExecution("work", flow, work)
app.plan(flow, cron="0 3 * * *", params={"day": PLANNED})
app.run()
time.sleep(60)
"""
DAYS = ("2026-10-01", "2026-10-20")


def begin(folder: Path) -> subprocess.Popen[bytes]:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=folder, env=env)


@pytest.mark.parametrize("seed", range(2))
def test_no_time_is_lost_or_begun_twice(tmp_path: Path, seed: int) -> None:
    chance, log = random.Random(seed), tmp_path / "runs.db"
    client, deadline = Client(log), time.monotonic() + SECONDS
    program, wanted, accepted = begin(tmp_path), set[str](), False
    try:
        while not accepted or client.missing("etl", *DAYS):
            assert time.monotonic() < deadline
            try:
                accepted = bool(client.backfill("etl", *DAYS, parallel=2, timeout=5).vects)
            except (NoEngineError, LogError, UnknownFlowError, UnknownPlanError):
                time.sleep(0.02)  # it has not begun yet
        wanted = {view.id for view in client.vects(limit=None)}
        for _ in range(2):
            time.sleep(chance.uniform(0, 0.15))
            program.kill()
            program.wait()
            program = begin(tmp_path)
        assert {client.wait(each, SECONDS) for each in wanted} == {"success"}
    finally:
        program.kill()
        program.wait()
    events = list(SqliteEventLog(log, read_only=True).read())
    check_history(events)
    assert len(wanted) == 20
    created = Counter(event.vect for event in events if event.name == "vect.created")
    assert created == Counter(wanted)
    assert set((tmp_path / "ran.txt").read_text().split()) == {each[4:14] for each in wanted}
    under_way: set[str] = set()
    for event in events:
        if event.name == "vect.started":
            under_way.add(event.vect)
        elif event.name == "vect.succeeded":
            under_way.discard(event.vect)
        assert len(under_way) <= 2
