"""A log by the shipped subscriber, and a slow, shaky biller that delays nobody and misses nothing.

Run it:  python examples/subscription.py

Here the log outlives the app, as a durable log outlives the program: the biller goes on where it
stopped.
"""

import logging
import sys
import time
from typing import Any

from oautom import Event, Flow, MemoryEventLog, OAutom, PythonExecution
from oautom.events import signals
from oautom.events.subscribers import log_events

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)-7s %(message)s")
signals.event.connect(log_events)  # quick, so a signal will do; the loggers are oautom.flow.<name>

log = MemoryEventLog()
calls: list[str] = []


def bill(flow: Flow | None, event: Event, **_: Any) -> None:
    """Take long, and fail the first time: the engine does not wait, and the event comes again."""
    time.sleep(0.1)
    calls.append(event.vect)
    if len(calls) == 1:
        raise ConnectionError("the bank is away")
    print(f"billed {event.vect}")


def order(vect_id: str, *, is_billed: bool) -> None:
    """Run a flow in an app of its own: a life of the program."""
    with OAutom(log=log) as app:
        flow = Flow("order", app)
        pack = PythonExecution("pack", flow, lambda: "a parcel")
        send = PythonExecution("send", flow, lambda: "sent")
        pack >> send
        billing = None
        if is_billed:
            billing = app.subscribe(bill, name="billing", events=["vect.succeeded"])
        vect = app.run(flow, vect_id=vect_id)
        print(f"{vect.id} is over: {vect.state}")
        if billing is not None:
            billing.wait(timeout=10)
    # To leave the block closes the app, and that delivers what has happened; but it does not wait
    # for the delay after which one that fails is called again: that is left to the next life.


order("monday", is_billed=True)
order("tuesday", is_billed=False)  # nobody listens
order("wednesday", is_billed=True)
