"""A limit on how many steps use one resource at once, and the order in which they get it.

Run it:  python examples/pools.py

A pool applies to all flows of an app. Steps that wait for a slot of it let other steps by; among
the steps that wait, the one with the highest priority is next.
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
