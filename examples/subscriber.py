"""Subscribers: a log and a notification by signals, and a receiver that raises and harms nobody.

Run it:  python examples/subscriber.py
"""

import logging
import sys
from typing import Any

from oautom import BashExecution, Event, Flow, OAutom
from oautom.events import signals

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s: %(message)s")

app = OAutom()
flow = Flow("nightly", app)
load = BashExecution("load", flow, "echo 'no such table: sales' >&2; exit 3")
publish = BashExecution("publish", flow, "echo published")
load >> publish


@signals.event.connect
def log(flow: Flow, event: Event, **_: Any) -> None:
    """Hear every event of every flow."""
    logging.getLogger(flow.name).info("%d %s (%s)", event.seq, event.name, event.step or flow.name)


@signals.step_failed.connect
def notify(flow: Flow, event: Event, **_: Any) -> None:
    """Hear of failed steps only; a mail or a message to a chat would be sent here."""
    print(f"To: you\nSubject: {flow.name}/{event.step} failed\n\n{event.data['error']}")


def broken(flow: Flow, event: Event, **_: Any) -> None:
    """Raise: it is logged with the name of this receiver, and the run goes on."""
    raise ConnectionError("the mail server is away")


signals.step_blocked.connect(broken, sender=flow)  # hears of this flow only

vect = app.run(flow)
print(f"{flow.name}: {vect.state}")  # failed, since `load` has, and not because of `broken`
