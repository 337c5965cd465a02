"""What the Python steps of the program that is killed do, and what they tell the side file."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from oautom import Context, Skip

PARAM_ITEMS = 3
"""How many items the list has that is a parameter."""


def say(what: str, vect: str, step: str, attempt: int) -> None:
    """Append a line to the side file, and have it on the disk before going on."""
    line = "\t".join(map(str, (what, vect, step, attempt, os.getpid(), time.time()))) + "\n"
    fd = os.open("side", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, line.encode())
        os.fsync(fd)
    finally:
        os.close(fd)


def has_said(what: str, vect: str, step: str) -> bool:
    """Whether an attempt before has said so; that does not mean that it is in the log."""
    line = f"{what}\t{vect}\t{step}\t"
    return any(each.startswith(line) for each in Path("side").read_text().splitlines())


@dataclass
class Item:
    """One of the items that a map is given."""

    of: str
    place: int


@dataclass
class Told:
    """What a Python step returns: it comes back as this type in every life."""

    of: str
    day: date
    inputs: tuple[str, ...]
    text: str
    items: list[Item]


def items_of(name: str, count: int) -> list[Item]:
    """Return a list for a map."""
    return [Item(name, place) for place in range(count)]


def day_of(vect: str) -> date:
    """Return a parameter of a Vect."""
    return date(2026, 11, 1 + sum(vect.encode()) % 30)


def params_of(vect: str) -> dict[str, Any]:
    """Return the parameters of a Vect, as its log has them."""
    items = [vars(item) for item in items_of("items", PARAM_ITEMS)]
    return {"day": day_of(vect).isoformat(), "items": items}


def is_right(context: Context, day: date, given: dict[str, Any] | None) -> bool:
    """Whether the parameter and what is forwarded are what they were at first."""
    return given is None or (
        day == context.params["day"] == day_of(context.vect_id)
        and given == context.inputs
        and all(_is_of(step, each, context) for step, each in given.items())
    )


def _is_of(step: str, output: object, context: Context) -> bool:
    """Whether an output is that of a step: of a map, the outputs of its instances in order."""
    match output:
        case Told():
            return (output.of, output.day) == (step, day_of(context.vect_id))
        case list():
            return all(
                isinstance(part, str) or _is_of(f"{step}[{i}]", part, context)
                for i, part in enumerate(output)
            )
        case {"by": by, "data": data}:
            return str(by).isdigit() and data == [context.vect_id, step]
        case None if step.endswith("]"):
            return has_said("skip", context.vect_id, step)
    return isinstance(output, str | None)


@contextmanager
def at_work(
    context: Context, day: date, given: dict[str, Any] | None
) -> Iterator[Callable[[str], None]]:
    """Say that a step has begun, and give what says more of it."""
    place = context.vect_id, context.step, context.attempt
    with _locked(*place):
        say("begin", *place)
        if not is_right(context, day, given):
            say("wrong", *place)
        yield lambda what: say(what, *place)


@contextmanager
def _locked(vect: str, step: str, attempt: int) -> Iterator[None]:
    """Hold the lock of a step, or say that somebody else has it."""
    fd = os.open(f"locks/{vect}.{step}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("overlap", vect, step, attempt)
        yield
    finally:
        os.close(fd)


def undo(context: Context) -> None:
    """Say that the work of a step is undone: as a command has it, by a negative number."""
    place = context.vect_id, context.step, -context.attempt
    with _locked(*place):
        time.sleep(0.01)
        say("undone", *place)


def end(context: Context, outcome: str) -> None:
    """Say how a step has ended, and end it so."""
    place = context.vect_id, context.step
    if outcome == "fail" or (outcome == "flaky" and not has_said("fail", *place)):
        say("fail", *place, context.attempt)
        raise ValueError("as planned")
    say("skip" if outcome == "skip" else "end", *place, context.attempt)
    if outcome == "skip":
        raise Skip("as planned")


def work(
    context: Context,
    kind: str,
    seconds: float,
    outcome: str,
    gives: int,
    day: date,
    given: dict[str, Any] | None,
) -> Told | None:
    """What a Python step does."""
    with at_work(context, day, given) as also_say:
        if kind != "listens":
            time.sleep(seconds)
        elif context.cancelled.wait(seconds):
            also_say("stopped")
            return None
        end(context, outcome)
    return _told(context, day, gives)


def _told(context: Context, day: date, gives: int = 0) -> Told:
    inputs = tuple(sorted(context.inputs))
    return Told(context.step, day, inputs, "x" * 200, items_of(context.step, gives))


def work_on(
    item: Any,
    context: Context,
    seconds: float,
    outcomes: list[str],
    over: str,
    day: date,
    given: dict[str, Any] | None,
) -> Told:
    """What an instance of a map does."""
    index = int(context.step.rpartition("[")[2][:-1])
    with at_work(context, day, given) as also_say:
        if item != Item(over, index) and not _is_of(f"{over}[{index}]", item, context):
            also_say("wrong")
        time.sleep(seconds)
        end(context, outcomes[index])
    return _told(context, day)


def choose(
    context: Context,
    seconds: float,
    outcome: str,
    follows: list[str],
    day: date,
    given: dict[str, Any] | None,
) -> list[str]:
    """What a branch does."""
    with at_work(context, day, given):
        time.sleep(seconds)
        end(context, outcome)
    return follows
