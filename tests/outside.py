"""What is seen of steps from outside: who is at work, told by locks that end with their holders.

Each attempt takes a lock of its step, and one of its pool, and keeps it as long as anything of it
is alive; all children of a step have one lock. Who cannot have it at once works beside another one,
and says so in a side file. A lock is held by the processes that have it open, so it is let go of
whatever ends them.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from oautom import Context, Event
from oautom.machine.tables import VECT_ENDS

BASH_HEAD = """
say() { printf '%s\\t%s\\t%s\\t%s\\n' "$1" "$OAUTOM_VECT" "$OAUTOM_STEP" "$OAUTOM_ATTEMPT" >>side; }
take() { flock --nonblock "$2" || (($? != 1)) || say "overlap $1"; }
shopt -s extglob; VECT=${OAUTOM_VECT//\\/+([0-9])}
exec 8>>"lock.${VECT//\\//-}.$OAUTOM_STEP" && take step 8
[[ -z $POOL ]] || { exec 9>>"lock.pool.$POOL" && take pool 9; }
say begin
"""
"""What a command begins with, in the folder of its side file; `POOL` is in its environment."""


def family(vect: str) -> str:
    """Return the id of a Vect without attempts: all children of a step are of one family."""
    return re.sub(r"/[0-9]+", "", vect)


class Line(NamedTuple):
    """A line of the side file."""

    what: str
    vect: str
    step: str
    attempt: int


def side(folder: Path) -> list[Line]:
    """Return what was said until now."""
    path = folder / "side"
    rows = [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []
    return [Line(what, vect, step, int(attempt)) for what, vect, step, attempt in rows]


def overlaps(folder: Path) -> list[Line]:
    """Return who has worked beside another attempt of its step, or holder of its pool."""
    return [line for line in side(folder) if line.what.startswith("overlap")]


def begun(folder: Path, step: str) -> list[int]:
    """Return the attempts of a step that have begun, in order."""
    return [line.attempt for line in side(folder) if (line.what, line.step) == ("begin", step)]


@contextmanager
def at_work(folder: Path, context: Context, pool: str = "") -> Iterator[None]:
    """Take the locks that an attempt of a Python step holds, and say that it has begun."""
    place = (family(context.vect_id).replace("/", "-"), context.step)
    with _taken(folder, "step", ".".join(place), context):
        if not pool:
            _say(folder, "begin", context)
            yield
            return
        with _taken(folder, "pool", f"pool.{pool}", context):
            _say(folder, "begin", context)
            yield


@contextmanager
def _taken(folder: Path, what: str, name: str, context: Context) -> Iterator[None]:
    fd = os.open(folder / f"lock.{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(folder, f"overlap {what}", context)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # a process that another thread begins may still have it
        os.close(fd)


def _say(folder: Path, what: str, context: Context) -> None:
    line = f"{what}\t{context.vect_id}\t{context.step}\t{context.attempt}\n"
    fd = os.open(folder / "side", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def orphans(ticks: Iterable[Sequence[Event]]) -> list[tuple[int, str]]:
    """Return the Vects that were open when the attempt that runs them was over.

    Args:
        ticks: What was committed, commit by commit: between two events of one nobody looks.

    Returns:
        Numbers of the last events of the commits, each with the id of such a Vect.
    """
    found: list[tuple[int, str]] = []
    states: dict[tuple[str, str | None], tuple[str, int | None]] = {}
    parents: dict[str, tuple[str, str, int]] = {}
    for tick in ticks:
        for event in tick:
            if event.name == "vect.created" and "parent" in event.data:
                parents[event.vect] = tuple(event.data["parent"])
            if event.name == "vect.reopened":  # a child that was retried has a life of its own
                parents.pop(event.vect, None)
            if event.name != "step.late_result":  # it moves nothing
                states[event.vect, event.step] = event.dest, event.attempt
        for child, (parent, step, attempt) in parents.items():
            is_open = states[child, None][0] not in VECT_ENDS
            if is_open and states.get((parent, step)) not in (None, ("running", attempt)):
                found.append((tick[-1].seq, child))
    return found
