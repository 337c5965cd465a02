"""A deadline: a person is notified that a run takes too long, and the run goes on.

Run it:  python examples/deadline.py
"""

import logging

from oautom import Event, Flow, OAutom, PythonExecution
from oautom.events import signals
from oautom.testing import SimulatedClock, simulate

logging.getLogger("oautom.deadlines").setLevel(logging.ERROR)  # it would warn

app = OAutom(executor="inline", clock=SimulatedClock())
nightly = Flow("nightly", app, deadline=2 * 3600)
extract = PythonExecution("extract", nightly, lambda: None, deadline=1800)
extract >> PythonExecution("load", nightly, lambda: None, deadline=1800)


@signals.step_late.connect
@signals.vect_late.connect
def page(flow: Flow, event: Event, **_: object) -> None:
    """Notify the person who is on call."""
    what = f"step {event.step}" if event.step else "the run"
    print(f"{event.time:%H:%M} {flow.name}: {what} is late")


vect = simulate(nightly, durations={"extract": 2400, "load": 6000})
for late in (event for event in vect.events() if event.name.endswith(".late")):
    page(nightly, late)  # a simulation tells nobody by itself
print(f"{vect.events()[-1].time:%H:%M} {vect.state}")
