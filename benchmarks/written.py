"""Microseconds a step whose output is kept, against `capture=False`: of nothing, and of 10 lines.

The baseline is the same flow with `capture=False`, whose prints go to the same place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Figure, Settings, Table, in_turn, medians, ratios
from oautom import BashExecution, Flow, OAutom, PythonExecution, SqliteEventLog

LINES = 10
TITLE = (
    "inline chain; 'kept': with what the steps print, 'left': capture=False; 'bash': commands, "
    "whose output is always kept, beside those that write nothing"
)


def measure(settings: Settings) -> Iterator[Table]:
    """Yield a table with a row for each kind of log, and for how much is written."""
    rows: list[dict[str, Figure]] = []
    for kind, steps in (("memory", settings.steps), ("FULL", settings.steps // 10)):
        for lines in (0, LINES):
            sides = {
                "kept": partial(_chain, kind, steps, lines, is_kept=True),
                "left": partial(_chain, kind, steps, lines, is_kept=False),
            }
            rows.append(_row(f"{steps:,} steps, {kind}", lines, steps, sides, settings))
    steps = settings.steps // 50
    sides = {
        "kept": partial(_commands, steps, f"for i in {{1..{LINES}}}; do echo line $i; done"),
        "left": partial(_commands, steps, f"for i in {{1..{LINES}}}; do : echo line $i; done"),
    }
    rows.append(_row(f"{steps:,} steps, bash, FULL", LINES, steps, sides, settings))
    yield Table(TITLE, rows)


def _row(
    name: str, lines: int, steps: int, sides: dict[str, partial[float]], settings: Settings
) -> dict[str, Figure]:
    samples = in_turn(sides, settings.rounds)
    us = medians(samples, "us", 1e6 / steps)
    return {"log": name, "lines": lines, **us, **ratios(samples, [("kept", "left")])}


def _say(lines: int) -> None:
    for number in range(lines):
        print("this is line", number)


def _chain(kind: str, steps: int, lines: int, *, is_kept: bool) -> float:
    with TemporaryDirectory() as folder, open(os.devnull, "w", encoding="utf-8") as nowhere:
        log = None if kind == "memory" else SqliteEventLog(Path(folder, "runs.db"))
        with OAutom(executor="inline", log=log) as app:
            flow = Flow("written", app, capture=is_kept)
            last = None
            for number in range(steps):
                step = PythonExecution(f"s{number}", flow, _say, (lines,))
                if last is not None:
                    last >> step
                last = step
            with redirect_stdout(nowhere):
                return _timed(app, flow)


def _commands(steps: int, command: str) -> float:
    with (
        TemporaryDirectory() as folder,
        OAutom(executor="inline", log=Path(folder, "runs.db")) as app,
    ):
        flow = Flow("commands", app)
        for number in range(steps):
            BashExecution(f"s{number}", flow, command)
        return _timed(app, flow)


def _timed(app: OAutom, flow: Flow) -> float:
    begin = time.perf_counter()
    vect = app.run(flow)
    seconds = time.perf_counter() - begin
    assert vect.state == "success"
    return seconds
