"""A program with two plans that is killed: `every` counts each time, `some` leaves times out.

Run as `python timetable.py settings.json`; run again, it goes on. Its steps append the ids of
their Vects to a side file.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from program import begun, done, tell

from oautom import Context, Flow, PythonExecution


def work(context: Context) -> None:
    """Append a line to the side file."""
    fd = os.open("side", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{context.vect_id}\n".encode())
    os.close(fd)


def main(timetable: dict[str, Any]) -> None:
    """Serve the plans for so long."""
    app = begun(timetable)
    for name in ("every", "some", "last"):
        PythonExecution("work", Flow(name, app), work)
    tell("opened")
    app.plan("every", seconds=0.05, catch_up=True)
    app.plan("some", seconds=0.07)
    tell("recovered")
    threading.Timer(timetable["seconds"], app.stop).start()
    tell("started")
    app.run()
    if timetable["mode"] == "background":
        threading.Event().wait(timetable["seconds"])
    app.run("last")  # with what was about to begin when the plans were stopped
    for vect in app.vects(state="running"):
        vect.wait()
    done(app)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(json.loads(Path(sys.argv[1]).read_text()))
