"""A program that gets SIGTERM lets running steps end first, so that a deploy charges nobody twice.

Run it:  python examples/deploy.py

A second program goes on with what is left; here it is another app in the same one.
"""

import os
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from oautom import Flow, OAutom, PythonExecution


def charge(life: int) -> None:
    """Charge a customer, and get SIGTERM in the middle of it."""
    print("charging, and told to end", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.5)
    print("charged", flush=True)


def live(life: int, log: Path) -> None:
    """Serve until somebody says SIGTERM, or all is done."""
    with OAutom(log=log, drain=30) as app:
        orders = Flow("orders", app)
        charged = PythonExecution("charge", orders, charge, (life,))
        charged >> PythonExecution("ship", orders, lambda: print("on its way"))
        vect = app.start(orders, vect_id="order 7")
        if life == 1:
            app.run()  # it serves
        else:
            vect.wait()
        states = (f"{step.name} {step.state}" for step in vect.steps.values())
        print(f"life {life}: {', '.join(states)}")


with TemporaryDirectory() as folder:
    for each in (1, 2):
        live(each, Path(folder) / "orders.db")
