"""A flow that waits for three days, in no time: on a simulated clock.

Run it:  python examples/wait.py

A wait takes no worker, and the time is in the log: a program that is run again waits for the rest.
On the clock of the machine, which is the default, it takes three days.
"""

from datetime import UTC, datetime

from oautom import Event, Flow, OAutom, PythonExecution, WaitExecution
from oautom.events import signals
from oautom.testing import SimulatedClock


@signals.step_succeeded.connect
def tell(flow: Flow, event: Event, **_: object) -> None:
    """Print when a step has ended."""
    print(f"{event.time:%a %d %b, %H:%M}  {event.step}")


monday = datetime(2026, 11, 23, 9, tzinfo=UTC)
friday = datetime(2026, 11, 27, 18, tzinfo=UTC)

# Work on threads takes real time, of which a simulated clock knows nothing: hence 'inline'.
with OAutom(executor="inline", clock=SimulatedClock(monday)) as app:
    flow = Flow("invoice", app)
    send = PythonExecution("send the invoice", flow, lambda: None)
    wait = WaitExecution("three days", flow, seconds=3 * 24 * 3600)
    remind = PythonExecution("send a reminder", flow, lambda: None)
    end_of_week = WaitExecution("the end of the week", flow, until=friday)
    close = PythonExecution("close the books", flow, lambda: None)
    send >> wait >> remind >> end_of_week >> close

    print(app.run(flow).state)
