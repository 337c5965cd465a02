"""A limit on how many steps use one thing at once, and who is the next to have it.

Run it:  python examples/pools.py

A pool holds for all flows of an app. Steps that wait for it let others by; of those that wait, the
one of the highest priority is the next.
"""

from itertools import accumulate

from oautom import BashExecution, Flow, OAutom, Pool

with OAutom(max_workers=8) as app:
    database = Pool("database", slots=2)
    flow = Flow("nightly", app)
    tables = {"log": 0, "items": 1, "orders": 10, "customers": 5, "prices": 5}
    for table, priority in tables.items():
        BashExecution(f"load {table}", flow, "sleep 0.1", pool=database, priority=priority)
    BashExecution("mail", flow, "echo sent")  # needs no database, and waits for nothing

    vect = app.run(flow)

starts = [event.step for event in vect.events() if event.step and event.dest == "running"]
print("in this order:", ", ".join(starts))

loads = [event for event in vect.events() if event.step and event.step.startswith("load")]
at_once = accumulate(1 if event.dest == "running" else -1 for event in loads)
print("at the database at once:", max(at_once))
