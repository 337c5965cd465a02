"""A program that cancels what it runs, and is killed at it: a command, or a flow that runs one.

Run as `python unwanted.py settings.json`: it starts the Vect 'v' of the flow that is named, cancels
it when the command has begun, says so, and waits for the end. With `again` in the settings it goes
on with what there is instead; `retry` has it run again.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from program import begun, call, done, tell

from oautom import BashExecution, Flow, FlowExecution, OAutom


def declare(app: OAutom, settings: dict[str, Any]) -> None:
    """Declare a flow with a command, one that runs it, and one that runs that."""
    inner = Flow("inner", app)
    BashExecution("step", inner, settings["command"], grace_period=settings["grace_period"])
    middle = Flow("middle", app)
    FlowExecution("run", middle, inner)
    outer = Flow("outer", app)
    FlowExecution("run", outer, middle)


def main(settings: dict[str, Any]) -> None:
    """Begin and cancel, or go on."""
    app = begun(settings)
    declare(app, settings)
    if "again" in settings:
        app.recover()
        tell("recovered")
        if settings["again"] == "retry":
            app.vect("v").retry()
            tell("retried")
        for vect in app.vects():
            vect.wait()
    else:
        vect = app.start(settings["flow"], vect_id="v")
        tell("started")
        while not Path("side").exists():
            with suppress(TimeoutError):
                vect.wait(0.01)
        vect.cancel("not wanted")
        tell("cancelled")
        vect.wait()
    done(app)


if __name__ == "__main__":
    call(main)
