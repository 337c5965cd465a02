"""A step that chooses how the flow goes on, and the step where the ways meet again.

Run it:  python examples/branch.py

The function of a branch returns the names of the dependants that run; the others are skipped.
"""

from oautom import BashExecution, BranchExecution, Flow, OAutom, TriggerRule

app = OAutom()
flow = Flow("parcel", app, params={"grams": int}, description="Sends a parcel on its way.")


def choose(grams: int) -> str:
    """Return the name of the step to follow."""
    return "by bicycle" if grams < 5000 else "by van"


way = BranchExecution("choose", flow, choose, [flow.param("grams")])
bicycle = BashExecution("by bicycle", flow, "echo rings the bell")
van = BashExecution("by van", flow, "echo blows the horn")
# One of the two is skipped, and that shall not keep it from starting.
receipt = BashExecution(
    "receipt", flow, "echo signed", trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
)
way >> [bicycle, van] >> receipt

for grams in (250, 12_000):
    vect = app.run(flow, {"grams": grams})
    print(f"{grams} g:")
    for step in vect.steps.values():
        print(f"  {step.name:<10} {step.state:<8} {step.output or step.error}")
