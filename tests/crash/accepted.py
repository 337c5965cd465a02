"""A program that is killed while it takes orders: it says so of each that it has started.

Run as `python accepted.py settings.json`; run again, it goes on, and takes others. Eight threads
start Vects as fast as they can, and say `accepted:ID`; with `last` in the settings none is started,
and all are finished.
"""

from __future__ import annotations

import os
import threading
from itertools import count
from typing import Any

from program import begun, call, done, tell

from oautom import Flow, OAutom, PythonExecution

THREADS = 8


def declare(app: OAutom) -> Flow:
    """Declare the flow of an order."""
    flow = Flow("order", app, params={"of": str}, max_active_vects=10**6)
    PythonExecution("pack", flow, str) >> PythonExecution("ship", flow, str)
    return flow


def take_orders(app: OAutom, flow: Flow, who: str) -> None:
    """Start one Vect after the other."""
    for number in count():
        vect = app.start(flow, {"of": who}, vect_id=f"{os.getpid()}-{who}-{number}")
        os.write(1, f"accepted:{vect.id}\n".encode())


def main(settings: dict[str, Any]) -> None:
    """Take orders until somebody kills this, or finish all that there are."""
    app = begun(settings)
    flow = declare(app)
    app.recover()
    tell("recovered")
    if "last" not in settings:
        threads = [
            threading.Thread(target=take_orders, args=(app, flow, str(i))) for i in range(THREADS)
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
