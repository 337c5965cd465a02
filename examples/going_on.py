"""A retry of a run that goes on in the failed child, at the step that failed.

Run it:  python examples/going_on.py
"""

from oautom import Flow, FlowExecution, OAutom

app = OAutom(executor="inline")
database = {"is_up": False}

imports = Flow("import", app)


@imports.step
def download() -> list[str]:
    """Take an hour, which nobody wants to wait for twice."""
    print("downloaded 3 files")
    return ["a", "b", "c"]


@imports.step
def load(files: list[str]) -> int:
    """Need a database."""
    if not database["is_up"]:
        raise RuntimeError("the database is down")
    print(f"loaded {len(files)} files")
    return len(files)


load(download())
nightly = Flow("nightly", app)
FlowExecution("import", nightly, imports)

vect = app.run(nightly, vect_id="monday")
print(f"{vect.state}: {vect.steps['import'].error}")

database["is_up"] = True
vect.retry()
vect.wait()
step = vect.steps["import"]
print(f"{vect.state}: attempt {step.attempt}, in vect {step.child}")
