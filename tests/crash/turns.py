"""A program that is killed while four threads start Vects of which two are open at once.

Run as `python turns.py settings.json`; run again, it goes on. It says `accepted:ID` of each Vect
that it has started, `ran:ID` of each whose step was at work, and each start is said in each life.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from program import begun, call, done, tell

from oautom import Context, Flow, OAutom, PythonExecution

THREADS = 4


def work(context: Context) -> None:
    """Tell that a Vect has its turn."""
    os.write(1, f"ran:{context.vect_id}\n".encode())


def declare(app: OAutom) -> Flow:
    """Declare the flow that waits."""
    flow = Flow("turns", app, params={"of": str}, max_active_vects=2, when_full="wait")
    PythonExecution("work", flow, work)
    return flow


def start_all(app: OAutom, flow: Flow, who: int, count: int) -> None:
    """Start one Vect after the other; who has been started in an earlier life is there already."""
    for number in range(count):
        vect = app.start(flow, {"of": str(who)}, vect_id=f"{who}-{number}")
        os.write(1, f"accepted:{vect.id}\n".encode())


def main(settings: dict[str, Any]) -> None:
    """Start all Vects, and wait for them."""
    app = begun(settings)
    flow = declare(app)
    app.recover()
    tell("recovered")
    threads = [
        threading.Thread(target=start_all, args=(app, flow, who, settings["count"] // THREADS))
        for who in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for vect in app.vects():
        vect.wait()
    done(app)


if __name__ == "__main__":
    call(main)
