"""A flow that the clock starts, and that misses no time while its program is down.

Run it:  python examples/plans.py

A plan is due every half second, and here every time counts (`catch_up`). The program is run
twice on one log, with a pause in between: it takes about four seconds.
"""

import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

from oautom import Event, Flow, OAutom, PythonExecution
from oautom.events import signals


def serve(log: Path, seconds: float) -> int:
    """Serve the plan for so long, and return how many Vects the log has then."""
    with OAutom(log=log) as app:
        flow = Flow("tick", app)
        PythonExecution("look", flow, time.time)
        app.plan(flow, seconds=0.5, catch_up=True)
        threading.Timer(seconds, app.stop).start()
        app.run()  # until stop(), Ctrl-C or SIGTERM
        return len(app.vects())


@signals.vect_created.connect
def tell(flow: Flow, event: Event, **_: object) -> None:
    """Say for which time a Vect is started, and whether that is late."""
    late = event.time - datetime.fromisoformat(event.data["planned"])
    print(event.vect, "on time" if late.total_seconds() < 0.4 else "caught up")


with tempfile.TemporaryDirectory() as folder:
    before = serve(Path(folder) / "runs.db", 1.8)
    print("the program is down")
    time.sleep(1.5)
    after = serve(Path(folder) / "runs.db", 1.2)
    print(f"{before} times, then {after - before} more: none is missed, and none comes twice")
