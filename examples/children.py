"""A flow that runs another flow, for each of two shops.

Run it:  python examples/children.py

Each run of the other flow is a Vect of its own, in the same log. That flow has room for one Vect at
a time, so the second one waits for the first. The outputs of its steps are the output of the step
that runs it.
"""

from oautom import Flow, FlowExecution, OAutom

app = OAutom(executor="inline")
shop = Flow("shop", app, params={"name": str})
report = Flow("report", app)
SALES = {"north": [3, 4, 5], "south": [20]}


@shop.step
def sales(name: str) -> list[int]:
    """Ask a shop what it has sold."""
    print(f"  asking {name}")
    return SALES[name]


@shop.step
def total(sold: list[int]) -> int:
    """Add up."""
    return sum(sold)


total(sales(shop.param("name")))


@report.step
def compare(north: int, south: int) -> str:
    """Say who has sold more."""
    return f"north {north}, south {south}"


north = FlowExecution("ask north", report, shop, {"name": "north"})
south = FlowExecution("ask south", report, "shop", {"name": "south"})
compare(north.output["total"], south.output["total"])

vect = app.run(report, vect_id="monday")
print(f"{vect.state}: {vect.result('compare')}")
for each in app.vects("shop"):
    print(f"{each.id}: {each.state}, {dict(each.params)}")
