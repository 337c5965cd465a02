"""An order is reserved, charged and shipped; or it fails, and all of it is undone.

Each step declares how to undo its work. Kill this program at any moment and run it again in the
same folder: the order goes on, or its work is undone.

Run it:  python examples/order_service.py             (in a folder that is removed)
         python examples/order_service.py some/folder
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from oautom import Context, Flow, OAutom, PythonExecution, StepError

BOOKS = Path("orders")  # a folder for each service, a file for each order


def entry(context: Context) -> Path:
    """Return where a service writes down an order: doing so twice changes nothing."""
    path = BOOKS / context.step / context.vect_id
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def book(context: Context) -> str:
    """Do the work of a step. A program that is killed may have done it, and does it again."""
    if context.step == "ship" and not context.params["has_courier"]:
        raise StepError("there is no courier")
    entry(context).write_text("booked\n")
    return str(entry(context))


def undo(context: Context) -> None:
    """Undo the work of a step, whether it was done, half done, or not at all."""
    entry(context).unlink(missing_ok=True)


def order_flow(app: OAutom) -> Flow:
    """Return the flow of an order."""
    flow = Flow("order", app, params={"has_courier": bool}, run_timeout=3600)
    reserve = PythonExecution("reserve", flow, book, compensate=undo)
    charge = PythonExecution("charge", flow, book, compensate=undo)
    ship = PythonExecution("ship", flow, book, compensate=undo)
    reserve >> charge >> ship
    return flow


def main() -> None:
    """Run an order that can be shipped, and one that cannot."""
    with OAutom(log="orders.db") as app:
        flow = order_flow(app)
        for number, has_courier in (("with-courier", True), ("without-courier", False)):
            vect = app.run(flow, {"has_courier": has_courier}, vect_id=number)
            for event in vect.events():
                if event.step:
                    print(f"{event.step:8} {event.name}")
            left = sorted(path.parent.name for path in BOOKS.glob(f"*/{number}"))
            print(f"{number}: {vect.state}; booked: {', '.join(left) or 'nothing'}")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        os.chdir(sys.argv[1] if len(sys.argv) > 1 else temporary)
        main()
        os.chdir("/")
