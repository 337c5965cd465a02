"""A deploy while orders are open: the old ones wait, new ones begin, and a rollback takes them up.

Run it:  python examples/versions.py

The functions of version 2 pass other data to each other than those of version 1, but the steps are
the same. Only the version shows that an order of version 1 must not go on in version 2.
"""

import logging
import sys
import tempfile
from pathlib import Path

from oautom import ApprovalExecution, Flow, FlowChangedError, OAutom, PythonExecution, Vect


def declare(app: OAutom, version: str) -> Flow:
    """Declare the flow as one version of the program does."""
    flow = Flow("order", app, version=version)
    pack = PythonExecution("pack", flow, lambda: {"1": "a box", "2": ["a box", "a label"]}[version])
    ask = ApprovalExecution("ask", flow, "ship it?")
    ship = PythonExecution("ship", flow, lambda context: f"shipped {context.inputs['pack']}")
    ship.depends(pack, ask)
    return flow


def main(log: Path) -> None:
    """Run one version of the program after the other, on one log."""
    with OAutom(log=log) as app:
        wait(app.start(declare(app, "1"), vect_id="order 17"))

    with OAutom(log=log) as app:
        flow = declare(app, "2")
        new = app.start(flow, vect_id="order 18")
        wait(new)
        new.approve("ask", by="Ada")
        print(new.id, new.wait(), new.steps["ship"].output)
        for vect in app.vects(state="stranded"):
            print(vect.id, vect.state, "- and it says why:")
            try:
                vect.approve("ask", by="Ada")
            except FlowChangedError as error:
                print(*error.differences)

    with OAutom(log=log) as app:
        declare(app, "1")
        (old,) = app.recover()
        old.approve("ask", by="Ada")
        print(old.id, old.wait(), old.steps["ship"].output)


def wait(vect: Vect) -> None:
    """Drive a Vect until it waits for somebody."""
    try:
        vect.wait(timeout=0.2)
    except TimeoutError:
        print(vect.id, "waits:", vect.explain("ask").partition(";")[0])


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="%(name)s: %(message).90s ...")
    with tempfile.TemporaryDirectory() as name:
        main(Path(name) / "runs.db")
