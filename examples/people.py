"""People in a flow: they approve it, pause and resume it, and retry it.

Run it:  python examples/people.py

Another process can request all of that, too, by the file of a durable log. A step that waits for a
person takes no worker, and goes on waiting when the program is run again.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from oautom import ApprovalExecution, BashExecution, Event, Flow, OAutom
from oautom.events import signals

app = OAutom()


@signals.step_started.connect
def ask(flow: Flow, event: Event, **_: object) -> None:
    """Play the person: a real program would send a mail here, and get the answer later."""
    if "prompt" in event.data:
        print("asked:", event.data["prompt"])
        vect = app.vect(event.vect)
        vect.pause()  # what runs goes on, and nothing more starts
        vect.approve("approval", by="Ada", data={"version": 2})


@signals.vect_paused.connect
def wait_a_little(flow: Flow, event: Event, **_: object) -> None:
    """Let it go on; the next step starts only then."""
    print("paused, resumed")
    app.vect(event.vect).resume()


with TemporaryDirectory() as folder, app:
    flow = Flow("release", app)
    approval = ApprovalExecution("approval", flow, "ship version 2?", timeout=86400)
    ship = BashExecution("ship", flow, "cat crate && echo shipped", cwd=folder)
    approval >> ship

    vect = app.run(flow)
    print(vect.state, "-", vect.steps["ship"].error)
    Path(folder, "crate").write_text("version 2\n")  # somebody has found out why
    vect.retry()  # the approval has succeeded, and is not asked for again
    print(vect.wait(), "-", vect.result("ship"), "- approved by", vect.result("approval")["by"])
    print("attempts:", {step.name: step.attempt for step in vect.steps.values()})
