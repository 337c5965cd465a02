"""A program that is killed whose flow runs another one twice, which runs a third.

It also runs the third for each item of a list.

Run as `python family.py settings.json`; run again, it goes on. Its steps append the place of their
attempt to a side file, and the parameter that they have; one fails at first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from program import begun, call, done, tell

from oautom import Context, Flow, FlowExecution, MapExecution, OAutom, PythonExecution, RetryPolicy


def work(n: int, context: Context) -> int:
    """Say who works, and add one; in the first child of a pair of flows, fail at first."""
    fd = os.open("side", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{context.vect_id}\t{context.step}\t{context.attempt}\t{n}\n".encode())
    os.close(fd)
    if context.vect_id == "v/flaky/1":
        raise ValueError("as planned")
    return n + 1


def declare(app: OAutom) -> Flow:
    """Declare the three flows: 'inner' has room for one Vect at a time, 'deep' for two."""
    deep = Flow("deep", app, params={"n": int}, max_active_vects=2)
    PythonExecution("leaf", deep, work, [deep.param("n")])
    inner = Flow("inner", app, params={"n": int})
    down = FlowExecution("down", inner, deep, {"n": inner.param("n")})
    PythonExecution("up", inner, work, [down.output["leaf"]])
    main = Flow("main", app, params={"n": int, "each": list[int]})
    once = RetryPolicy(max_attempts=2, delay=0.1, jitter=0)
    first = FlowExecution("first", main, inner, {"n": main.param("n")})
    second = FlowExecution("second", main, inner, {"n": 10})
    flaky = FlowExecution("flaky", main, deep, {"n": first.output["up"]}, retry=once)
    MapExecution("each", main, deep, main.param("each"), label="number {}")
    PythonExecution("sum", main, sum, [[second.output["up"], flaky.output["leaf"]]])
    return main


def main(settings: dict[str, Any]) -> None:
    """Run the flow to its end, or go on with it."""
    app = begun(settings)
    flow = declare(app)
    tell("opened")
    app.recover()
    tell("recovered")
    vect = app.start(flow, {"n": 1, "each": [20, 21, 22]}, vect_id="v")
    tell("started")
    vect.wait()
    Path("result").write_text(str(vect.result("sum")))
    done(app)


if __name__ == "__main__":
    call(main)
