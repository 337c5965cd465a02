"""The program whose steps run on a cluster: `python program.py plan.json`.

It goes on with what an earlier life has left, and says `started` and `done` on standard output.
Its functions are found nowhere but here, and the workers do not see this file.
"""

from __future__ import annotations

import faulthandler
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Client

from oautom import Context, Flow, OAutom, OAutomMode, PythonExecution


def add(*numbers: int, context: Context, seconds: float, evidence: str) -> int:
    """Add up numbers on a worker, which takes its time."""
    with at_work(context, Path(evidence)):
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(left)
    return sum(numbers)


@contextmanager
def at_work(context: Context, evidence: Path) -> Iterator[None]:
    """Say what begins and ends, and whether another attempt of the step is at work meanwhile."""

    def say(what: str) -> None:
        place = (context.vect_id, context.step, str(context.attempt))
        of = (os.environ["HOST"], str(os.getpid()), repr(time.monotonic()))
        file = os.open(evidence / "side", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, ("\t".join((what, context.flow, *place, *of)) + "\n").encode())
        finally:
            os.close(file)

    lock = os.open(evidence / f"{context.vect_id}.{context.step}", os.O_WRONLY | os.O_CREAT)
    try:
        say("begin")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("overlap")
        yield
        say("end")
    finally:
        os.close(lock)


def declare(app: OAutom, plan: dict[str, Any]) -> None:
    """Declare the flows of a plan."""
    for name, steps in plan["flows"].items():
        flow, made = Flow(name, app), {}
        for step in steps:
            numbers = [step["number"], *(made[each].output for each in step["upstreams"])]
            told = {"seconds": step["seconds"], "evidence": plan["evidence"]}
            made[step["name"]] = PythonExecution(step["name"], flow, add, numbers, told)


def tell(phase: str) -> None:
    """Say how far the program is."""
    os.write(1, f"{phase}\n".encode())


def main(plan: dict[str, Any]) -> None:
    """Run all flows of a plan once, on the cluster."""
    app = OAutom(OAutomMode(plan["mode"]), log="runs.db", executor=Client(plan["address"]))
    declare(app, plan)
    app.recover()
    vects = [app.start(name, vect_id=f"run-of-{name}") for name in plan["flows"]]
    tell("started")
    for vect in vects:
        vect.wait()
    tell("ended")
    app.close()
    app.log.close()
    tell("done")


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    main(json.loads(Path(sys.argv[1]).read_text()))
