"""A program that is killed in the middle of a flow, and run again: it goes on where it was.

Run it:  python examples/durable.py

It runs itself as another program, twice, on one log. The first one is killed as by `kill -9`. After
each of them, this program reads the log.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from oautom import BashExecution, Flow, OAutom, PythonExecution, SqliteEventLog


def program(folder: Path) -> None:
    """Run a flow; `os.kill` stands for what nobody has thought of."""

    def load() -> str:
        if not (folder / "was here").exists():
            (folder / "was here").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "7 rows"

    with OAutom(log=folder / "runs.db") as app:
        flow = Flow("import", app)
        fetch = BashExecution("fetch", flow, "echo fetching >>fetched; echo 7", cwd=folder)
        fetch >> PythonExecution("load", flow, load)
        vect = app.run(flow, vect_id="2026-11-24")  # the same id: the same run
        for step in vect.steps.values():
            print(f"{step.name}: {step.state}, attempt {step.attempt}, {step.output!r}")


def main(folder: Path) -> None:
    """Run the program until it ends, and print the log that it leaves."""
    for life in (1, 2):
        done = subprocess.run([sys.executable, __file__, str(folder)], check=False)
        how = f"killed by signal {-done.returncode}" if done.returncode else "done"
        log = SqliteEventLog(folder / "runs.db", read_only=True)
        state = log.vects()[0].state
        print(f"life {life}: {how}; {log.last_seq} events in the log, {state}", flush=True)
        log.close()
    print("fetched", (folder / "fetched").read_text().count("\n"), "time")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        program(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
