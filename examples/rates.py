"""A service that allows so many calls in some time, and a step that needs several connections.

Run it:  python examples/rates.py

A rate holds for all flows of an app, and over restarts: the starts stand in the log. The hours that
a thousand calls take are simulated here; `app.run(flow)` would wait for them.
"""

from oautom import Flow, MapExecution, OAutom, Pool, PythonExecution, WaitExecution
from oautom.testing import simulate

app = OAutom()
api = Pool("api", slots=5, rate=(50, 60))  # at most 5 at once, and 50 starts in any 60 seconds


def ask(customer: int) -> int:
    """Call the service; here nobody does."""
    return customer


flow = Flow("customers", app)
customers = PythonExecution("customers", flow, lambda: list(range(1000)))
MapExecution("ask", flow, ask, customers, pool=api)
later = WaitExecution("later", flow, seconds=600)
later >> PythonExecution("ask all", flow, ask, [0], pool=api, pool_slots=5, priority=1)

vect = simulate(flow, outcomes={"customers": [list(range(1000))]}, durations={"ask": 2})
starts = [event for event in vect.events() if event.step and event.dest == "running"]
calls = [event.time for event in starts if (event.step or "").startswith(("ask[", "ask all"))]
minutes = (calls[-1] - calls[0]).total_seconds() / 60
print(f"{vect.state}: {len(calls)} calls in {minutes:g} minutes")

least = min(after - before for before, after in zip(calls, calls[50:], strict=False))
print(f"from a call to the fiftieth after it: {least.total_seconds():g} s or more")
heavy = next(event.time for event in starts if event.step == "ask all")
waited = (heavy - starts[0].time).total_seconds() - 600
print(f"the step that needs all connections has waited for {waited:g} s")
