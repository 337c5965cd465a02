"""Processor time of `oautom run` with its live view on a terminal, against the same with `--quiet`.

Both run on a pseudo-terminal, each in a process of its own, whose whole processor time counts: the
import of what draws, too.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Settings, Table, in_turn, medians, ratios

TITLE = "`oautom run` of a fan, on a terminal, as its defaults are; milliseconds of processor time"
APP = """
from oautom import Flow, OAutom, PythonExecution
app = OAutom()
flow = Flow("fan", app)
root = PythonExecution("root", flow, int)
for number in range({steps} - 1):
    root >> PythonExecution(f"s{{number}}", flow, int)
"""


def measure(settings: Settings) -> Iterator[Table]:
    """Yield a table with a row for a log in memory, and one for a log in a file."""
    rows = []
    for log in ("memory", "file"):
        with TemporaryDirectory() as folder:
            Path(folder, "app.py").write_text(APP.format(steps=settings.steps))
            sides = {
                "live": partial(_run, folder, log, ()),
                "quiet": partial(_run, folder, log, ("--quiet",)),
            }
            samples = in_turn(sides, settings.rounds)
        figures = medians(samples, "ms", 1e3)
        rows.append(
            {"log": log, "steps": settings.steps, **figures, **ratios(samples, [("live", "quiet")])}
        )
    yield Table(TITLE, rows)


def _run(folder: str, log: str, more: tuple[str, ...]) -> float:
    """Run the flow on a terminal, and return the processor time that it took."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    place = [] if log == "memory" else ["--log", "runs.db"]
    root = str(Path(__file__).resolve().parents[1])
    unwanted = {"COLUMNS", "LINES", "NO_COLOR"}
    known = {name: value for name, value in os.environ.items() if name not in unwanted}
    program = subprocess.Popen(
        [sys.executable, "-m", "oautom", "run", "app.py", "fan", *place, *more],
        cwd=folder,
        env={**known, "TERM": "xterm", "PYTHONPATH": root},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    reader = threading.Thread(target=_read_all, args=(master,))
    reader.start()
    _, status, used = os.wait4(program.pid, 0)
    program.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    os.close(master)
    assert program.returncode == 0
    for path in Path(folder).glob("runs.db*"):
        path.unlink()
    return used.ru_utime + used.ru_stime


def _read_all(terminal: int) -> None:
    while True:
        try:
            if not os.read(terminal, 2**16):
                return
        except OSError:  # closed by all who write
            return
