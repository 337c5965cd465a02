"""The program that is killed: it declares the flows of a plan and runs them with a durable log.

Run as `python program.py plan.json`; run again, it goes on. Its steps tell a side file what they
do, which is all that is known of them from outside. It says on standard output how far it is.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from steps import Item, choose, params_of, say, undo, work, work_on

from oautom import (
    ApprovalExecution,
    BashExecution,
    BranchExecution,
    Execution,
    Flow,
    MapExecution,
    OAutom,
    OAutomError,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
    Vect,
    VectStateError,
    WaitExecution,
)
from oautom.events.sqlite import SqliteEventLog

# The lock is inherited by all that a step starts, so it is held until the last of them is gone: who
# cannot have it at once overlaps with an attempt before.
_BASH = """
say() {
    printf '%s\\t%s\\t%s\\t%s\\t%s\\t%s\\n' \\
        "$1" "$OAUTOM_VECT" "$OAUTOM_STEP" "$OAUTOM_ATTEMPT" $$ "$EPOCHREALTIME" >>side
}
exec 9>>"locks/$OAUTOM_VECT.$OAUTOM_STEP"
flock --nonblock 9 || say overlap
say begin
for name in ${!DAY*}; do [[ ${!name} == "$DAY" ]] || say wrong; done
"""
_BASH_UNDO = f"{_BASH.replace('say begin', '')}\nsay undone"
_BASH_ENDS = {
    "end": "say end",
    "fail": "say fail; exit 3",
    "flaky": (
        'if grep -q "^fail[[:blank:]]$OAUTOM_VECT[[:blank:]]$OAUTOM_STEP[[:blank:]]" side; '
        "then say end; else say fail; exit 3; fi"
    ),
}
DELAY = 0.3
"""Seconds until a step is tried again that is flaky: it fails until it has said so once."""

_BASH_BODIES = {
    "bash": "sleep $SECONDS_OF_WORK",
    "tree": "(sleep 1000 & (sleep 1000 & sleep 1000) & wait) & sleep $SECONDS_OF_WORK",
    "deaf": "trap '' TERM INT HUP; sleep $SECONDS_OF_WORK",
    "pipe": "sleep $SECONDS_OF_WORK | cat; (exec sleep 0.01)",
}


def declare(app: OAutom, plan: dict[str, Any]) -> None:
    """Declare the flows of a plan."""
    for name, steps in plan["flows"].items():
        params = {"day": date, "items": list[Item]}
        settings = {"max_active_vects": 100} | plan.get("settings", {}).get(name, {})
        flow = Flow(name, app, params=params, **settings)
        made: dict[str, Any] = {}
        for step in steps:
            before = {upstream: made[upstream] for upstream in step["upstreams"]}
            # What cleans up runs, too, where there is no output of a step before it.
            one = _declared(flow, step, {} if "cleans_up" in step else before)
            one.depends(*before.values())
            made[step["name"]] = one


def _declared(flow: Flow, step: dict[str, Any], before: dict[str, Any]) -> Execution:
    """Declare a step."""
    name, kind = step["name"], step["kind"]
    options = _options(step)
    if kind == "wait":
        return WaitExecution(name, flow, seconds=step["seconds"], **options)
    if kind == "approval":
        if step["outcome"] == "late":
            options["timeout"] = step["seconds"] + 0.05
        return ApprovalExecution(name, flow, "go on?", **options)
    if kind in _BASH_BODIES:
        command = f"{_BASH}{_BASH_BODIES[kind]}\n{_BASH_ENDS[step['outcome']]}"
        return BashExecution(name, flow, command, _environment(flow, step, before), **options)
    args = {key: step[key] for key in ("seconds", "outcome")}
    args |= {"day": flow.param("day"), "given": None if "cleans_up" in step else before}
    if kind == "map":
        del args["outcome"]
        args |= {"outcomes": step["items"], "over": step["over"] or "items"}
        over: Any = flow.param("items")
        if step["over"] is not None:
            upstream = before[step["over"]]
            over = upstream if isinstance(upstream, MapExecution) else upstream.output["items"]
        return MapExecution(name, flow, work_on, over, args, step["max_parallel"], **options)
    if kind == "branch":
        args["follows"] = step["follows"]
        return BranchExecution(name, flow, choose, kwargs=args, **options)
    args |= {"kind": kind, "gives": step.get("gives", 0)}
    return PythonExecution(name, flow, work, kwargs=args, **options)


def _options(step: dict[str, Any]) -> dict[str, Any]:
    """Return what is otherwise than usual with a step."""
    options: dict[str, Any] = {"on_crash": step["on_crash"], "deadline": step.get("deadline")}
    if "cleans_up" in step:
        options["teardown"] = True
    if "undo" in step:
        how = _BASH_UNDO if step["kind"] in _BASH_BODIES else undo
        options |= {"compensate": how, "compensate_on": step["undo"]}
    if "flaky" in (step["outcome"], *step.get("items", ())):
        options["retry"] = RetryPolicy(max_attempts=2, delay=DELAY, jitter=0)
    return options


def _environment(flow: Flow, step: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return what a command is given: whatever its name begins with `DAY` is the same day."""
    env = {"SECONDS_OF_WORK": str(step["seconds"]), "DAY": flow.param("day")}
    for i, upstream in enumerate(before.values()):
        if type(upstream) is PythonExecution:
            env[f"DAY_{i}"] = upstream.output["day"]
        elif type(upstream) is MapExecution:
            outcomes = upstream.kwargs["outcomes"]
            if outcomes and outcomes[0] != "skip":
                env[f"DAY_{i}"] = upstream.output[0]["day"]
    return env


def attend(vects: list[Vect], plan: dict[str, Any]) -> None:
    """Wait for the ends, and decide meanwhile what the program itself is asked."""
    gates = [
        (vect, step)
        for vect in vects
        for step in plan["flows"][vect.flow.name]
        if step["kind"] == "approval" and step["by"] == "program" and step["outcome"] != "late"
    ]
    due: dict[tuple[str, str], float] = {}
    while gates and (left := [vect for vect in vects if not vect.ended]):
        for vect, step in list(gates):
            place = vect.id, step["name"]
            if place not in due and _is_asked(vect, step["name"]):
                say("asked", *place, vect.steps[step["name"]].attempt)
                due[place] = time.monotonic() + step["seconds"]
            if place in due and time.monotonic() >= due[place]:
                gates.remove((vect, step))
                _decide(vect, step)
        with suppress(TimeoutError):
            left[0].wait(0.01)
    for vect in vects:
        vect.wait()


def _is_asked(vect: Vect, step: str) -> bool:
    """Whether an approval waits; a state is seen a moment before it is in the log."""
    is_running = vect.steps[step].state == "running"
    return is_running and any(event.step == step for event in vect.events())


def _decide(vect: Vect, step: dict[str, Any]) -> None:
    name, by = step["name"], str(os.getpid())
    say("decided", vect.id, name, vect.steps[name].attempt)
    with suppress(VectStateError):  # all that was left of its Vect was cancelled meanwhile
        if step["outcome"] == "fail":
            vect.reject(name, by, "as planned")
        else:
            vect.approve(name, by, [vect.id, name])


def tell(phase: str) -> None:
    """Say how far the program is."""
    os.write(1, f"{phase}\n".encode())


def strangers(log_id: str) -> list[str]:
    """Return what carries the mark of the log and does not descend from this very process."""
    mark, found = f"OAUTOM_LOG={log_id}".encode(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                is_marked = mark in (folder / "environ").read_bytes().split(b"\0")
                if is_marked and os.getpid() not in _ancestors(folder):
                    found.append((folder / "cmdline").read_text())
            except OSError:  # it has ended
                continue
    return found


def _ancestors(folder: Path) -> list[int]:
    pids: list[int] = []
    while not pids or pids[-1] > 1:
        stat = (folder / "stat").read_text().rpartition(")")[2].split()
        pids.append(int(stat[1]))
        folder = Path("/proc") / stat[1]
    return pids


class Dying:
    """The connection that writes the log of a program which kills itself at its n-th commit.

    It does so `before` the transaction, in the `middle` of the events, with all of them written but
    `uncommitted`, or `after` that: then nothing has come of it yet.
    """

    def __init__(self, connection: Any, place: str, countdown: int) -> None:
        self._connection, self._place, self._countdown = connection, place, countdown

    def _die_at(self, place: str) -> None:
        if self._place == place and self._countdown == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(self, sql: str, *values: Any) -> Any:
        if sql.startswith("BEGIN"):
            self._die_at("before")
        if sql == "COMMIT":
            self._die_at("uncommitted")
        result = self._connection.execute(sql, *values)
        if sql == "COMMIT":
            self._die_at("after")
            self._countdown -= 1
        return result

    def executemany(self, sql: str, rows: Iterable[Any]) -> Any:
        rows = list(rows)
        if self._place == "middle":
            self._connection.executemany(sql, rows[: len(rows) // 2])
            self._die_at("middle")
            rows = rows[len(rows) // 2 :]
        return self._connection.executemany(sql, rows)

    def close(self) -> None:
        self._connection.close()


def begun(settings: dict[str, Any]) -> OAutom:
    """Return the app of a program that has begun; it dies at the commit that the settings name."""
    tell("begun")
    log: Any = SqliteEventLog("runs.db", synchronous=settings.get("synchronous", "NORMAL"))
    if "dies" in settings:
        log._writer = Dying(log._writer, *settings["dies"])
    return OAutom(
        OAutomMode(settings["mode"]),
        log=log,
        executor=settings["executor"],
        max_workers=settings.get("max_workers"),
    )


def done(app: OAutom) -> None:
    """End a program whose Vects have ended."""
    tell("ended")
    app.close()
    app.log.close()
    tell("done")


def call(main: Callable[[dict[str, Any]], None]) -> None:
    """Be a program: call its `main` with the settings in the file that the first argument names."""
    # It is ignored in all that descends from a shell's `pytest &`.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main(json.loads(Path(sys.argv[1]).read_text()))
    except OAutomError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def main(plan: dict[str, Any]) -> None:
    """Run the Vects of a plan to their end, or go on with them."""
    app = begun(plan)
    declare(app, plan)
    tell("opened")
    if "limit_bytes" in plan:
        limit_bytes = plan["limit_bytes"] + Path("runs.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
    app.recover()
    if left := strangers(str(app.log.id)):
        Path("strangers").write_text(repr(left))
    tell("recovered")
    vects = [app.start(flow, params_of(vect), vect_id=vect) for vect, flow in plan["vects"].items()]
    tell("started")
    attend(vects, plan)
    done(app)


if __name__ == "__main__":
    # It is ignored in all that descends from a shell's `pytest &`.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main(json.loads(Path(sys.argv[1]).read_text()))
    except OAutomError as error:
        Path("said").write_text(f"{type(error).__name__}: {error}")
        tell("failed")
        sys.exit(3)  # the app is closed at the end of the program, as every app is
