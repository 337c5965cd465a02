"""The program that is killed: it declares the flows of a plan and runs them with a durable log.

Run as `python program.py plan.json`; run again, it goes on. Its steps tell a side file what they
do, which is all that is known of them from outside. It says on standard output how far it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from oautom import (
    BashExecution,
    Context,
    Flow,
    OAutom,
    OAutomError,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
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


def say(what: str, context: Context) -> None:
    """Append a line to the side file, and have it on the disk before going on."""
    place = context.vect_id, context.step, context.attempt
    line = "\t".join(map(str, (what, *place, os.getpid(), time.time()))) + "\n"
    fd = os.open("side", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, line.encode())
        os.fsync(fd)
    finally:
        os.close(fd)


def has_failed(context: Context) -> bool:
    """Whether an attempt before has said so; that does not mean that it is in the log."""
    line = f"fail\t{context.vect_id}\t{context.step}\t"
    return any(each.startswith(line) for each in Path("side").read_text().splitlines())


@dataclass
class Told:
    """What a Python step returns: it comes back as this type in every life."""

    of: str
    day: date
    inputs: tuple[str, ...]
    text: str


def day_of(vect: str) -> date:
    """Return the parameter of a Vect."""
    return date(2026, 11, 1 + sum(vect.encode()) % 30)


def is_right(context: Context, day: date, given: dict[str, Any]) -> bool:
    """Whether the parameter and what is forwarded are what they were at first."""
    told = {step: each for step, each in given.items() if isinstance(each, Told)}
    return (
        day == context.params["day"] == day_of(context.vect_id)
        and given == context.inputs
        and all(isinstance(each, Told | str | None) for each in given.values())
        and all(each.day == day and each.of == step for step, each in told.items())
    )


def work(
    context: Context, kind: str, seconds: float, outcome: str, day: date, given: dict[str, Any]
) -> Told | None:
    """What a Python step does."""
    fd = os.open(f"locks/{context.vect_id}.{context.step}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("overlap", context)
        say("begin", context)
        if not is_right(context, day, given):
            say("wrong", context)
        if kind == "listens":
            if context.cancelled.wait(seconds):
                say("stopped", context)
                return None
        else:
            time.sleep(seconds)
        if outcome == "fail" or (outcome == "flaky" and not has_failed(context)):
            say("fail", context)
            raise ValueError("as planned")
        say("end", context)
    finally:
        os.close(fd)
    return Told(context.step, day, tuple(sorted(context.inputs)), "x" * 200)


def declare(app: OAutom, plan: dict[str, Any]) -> None:
    """Declare the flows of a plan."""
    for name, steps in plan["flows"].items():
        flow = Flow(name, app, params={"day": date}, max_active_vects=100)
        made: dict[str, Any] = {}
        for step in steps:
            options: dict[str, Any] = {"on_crash": step["on_crash"]}
            if step["outcome"] == "flaky":
                options["retry"] = RetryPolicy(max_attempts=2, delay=DELAY, jitter=0)
            before = {upstream: made[upstream] for upstream in step["upstreams"]}
            if step["kind"] == "wait":
                one: Any = WaitExecution(step["name"], flow, seconds=step["seconds"], **options)
            elif step["kind"] in _BASH_BODIES:
                end = _BASH_ENDS[step["outcome"]]
                command = f"{_BASH}{_BASH_BODIES[step['kind']]}\n{end}"
                env = {"SECONDS_OF_WORK": str(step["seconds"]), "DAY": flow.param("day")}
                for i, upstream in enumerate(before.values()):
                    if isinstance(upstream, PythonExecution):
                        env[f"DAY_{i}"] = upstream.output["day"]
                one = BashExecution(step["name"], flow, command, env, **options)
            else:
                args = {key: step[key] for key in ("kind", "seconds", "outcome")}
                args |= {"day": flow.param("day"), "given": before}
                one = PythonExecution(step["name"], flow, work, kwargs=args, **options)
            one.depends(*before.values())
            made[step["name"]] = one


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

    def executemany(self, sql: str, rows: list[Any]) -> Any:
        if self._place == "middle":
            self._connection.executemany(sql, rows[: len(rows) // 2])
            self._die_at("middle")
            rows = rows[len(rows) // 2 :]
        return self._connection.executemany(sql, rows)

    def close(self) -> None:
        self._connection.close()


def main(plan: dict[str, Any]) -> None:
    """Run the Vects of a plan to their end, or go on with them."""
    tell("begun")
    log = SqliteEventLog("runs.db", synchronous=plan["synchronous"])
    if "dies" in plan:
        log._writer = Dying(log._writer, *plan["dies"])
    app = OAutom(
        OAutomMode(plan["mode"]),
        log=log,
        executor=plan["executor"],
        max_workers=plan["max_workers"],
    )
    declare(app, plan)
    tell("opened")
    if "limit_bytes" in plan:
        limit_bytes = plan["limit_bytes"] + Path("runs.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
    app.recover()
    if left := strangers(log.id):
        Path("strangers").write_text(repr(left))
    tell("recovered")
    vects = [
        app.start(flow, {"day": day_of(vect)}, vect_id=vect) for vect, flow in plan["vects"].items()
    ]
    tell("started")
    for vect in vects:
        vect.wait()
    tell("ended")
    app.close()
    log.close()
    tell("done")


if __name__ == "__main__":
    # It is ignored in all that descends from a shell's `pytest &`.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main(json.loads(Path(sys.argv[1]).read_text()))
    except OAutomError as error:
        Path("said").write_text(f"{type(error).__name__}: {error}")
        tell("failed")
        sys.exit(3)  # the app is closed at the end of the program, as every app is
