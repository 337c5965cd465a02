"""A small flow of the kind that people have; test_report.py beside it has its tests.

Run it:  python examples/tested_flow/report.py
"""

from oautom import Context, Flow, OAutom, PythonExecution

Counts = dict[str, int]


def read_orders() -> Counts:
    """Return what was ordered; think of a database."""
    return {"apples": 12, "pears": 3, "figs": 1}


def read_stock() -> Counts:
    """Return what is in the warehouse; think of its web service."""
    return {"apples": 5, "pears": 30}


def find_missing(context: Context) -> Counts:
    """Return what has to be bought."""
    orders, stock = context.inputs["orders"], context.inputs["stock"]
    missing = {what: count - stock.get(what, 0) for what, count in orders.items()}
    return {what: count for what, count in missing.items() if count > 0}


def write_mail(context: Context) -> str:
    """Return the mail to the buyer; think of sending it."""
    return "please buy " + ", ".join(f"{n} {what}" for what, n in context.inputs["missing"].items())


def archive(context: Context) -> int:
    """Return how many orders are kept."""
    return len(context.inputs["orders"])


def declare(app: OAutom) -> Flow:
    """Declare the flow. A function, so that each test has a flow of its own."""
    flow = Flow("report", app)
    orders = PythonExecution("orders", flow, read_orders)
    stock = PythonExecution("stock", flow, read_stock)
    missing = PythonExecution("missing", flow, find_missing)
    mail = PythonExecution("mail", flow, write_mail)
    kept = PythonExecution("archive", flow, archive)
    [orders, stock] >> missing >> mail
    orders >> kept
    return flow


if __name__ == "__main__":
    with OAutom() as the_app:
        vect = the_app.run(declare(the_app))
        print(vect.state, "-", vect.result("mail"))
