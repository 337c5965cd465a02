"""Logs in files, and other processes that use them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from oautom import Event, EventLog, SqliteEventLog

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOBODY = 65534
HEAD = "import os, sys, time\nfrom oautom import *\npath = sys.argv[1]\n"


def at(seq: float) -> datetime:
    """When the event with this number happens: a second after the one before."""
    return NOON + timedelta(seconds=seq)


def event(
    seq: int,
    vect: str,
    name: str,
    source: str | None,
    dest: str,
    step: str | None = None,
    **data: Any,
) -> Event:
    attempt = None if step is None else 1
    told = MappingProxyType(data)
    return Event(seq, at(seq), "f", vect, step, attempt, name, source, dest, told)


def run_of(vect: str, first: int, *, steps: int = 1, output: Any = None) -> list[Event]:
    """The events of a Vect that succeeds, the first of them with this number."""
    graph = MappingProxyType({f"s{i}": () for i in range(steps)})
    facts: list[tuple[Any, ...]] = [("vect.created", None, "pending")]
    facts.append(("vect.started", "pending", "running"))
    for step in graph:
        facts.append(("step.started", "pending", "running", step))
        facts.append(("step.succeeded", "running", "success", step))
    facts.append(("vect.succeeded", "running", "success"))
    events = []
    for seq, (name, *rest) in enumerate(facts, first):
        data: dict[str, Any] = {}
        if name == "vect.created":
            data = {"params": MappingProxyType({}), "graph": graph}
        elif name == "step.succeeded":
            data = {"output": output}
        events.append(event(seq, vect, name, *rest, **data))
    return events


def runs(*vects: str, **more: Any) -> list[Event]:
    """The events of some Vects, one after the other."""
    events: list[Event] = []
    for vect in vects:
        events += run_of(vect, len(events) + 1, **more)
    return events


def write(log: EventLog, events: Iterable[Event]) -> None:
    """Append events, and commit them together."""
    for each in events:
        log.append(None, each)
    log.commit()


def make(path: Path, events: Iterable[Event]) -> Path:
    """Make the file of a log, and close it."""
    log = SqliteEventLog(path, synchronous="NORMAL")
    write(log, events)
    log.close()
    return path


def reader(path: Path) -> SqliteEventLog:
    return SqliteEventLog(path, read_only=True)


def begin(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Begin a Python program; all of oautom is imported, and `path` is its first argument."""
    command = [sys.executable, "-c", HEAD + code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def run(code: str, *arguments: object) -> str:
    """Run a Python program to its end, and return what it prints."""
    with begin(code, *arguments) as process:
        printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0, printed
    return printed.strip()


def said(process: subprocess.Popen[str]) -> str:
    """Return the next line that a program prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def in_fork(function: Callable[[], object], *, as_nobody: bool = False) -> str:
    """Return what a function returns, or raises, in a forked child; without root's rights, too."""
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a fork of a process with threads may hang
        pid = os.fork()
    if pid == 0:
        try:
            if as_nobody and os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            answer = str(function())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(write_end, answer.encode())
        if os.getuid() == NOBODY:
            os.kill(os.getpid(), signal.SIGKILL)  # coverage may not write what it has found
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return answer


def files_of(path: Path) -> set[str]:
    """Return the names of the files beside a log that belong to it, itself included."""
    return {each.name for each in path.parent.iterdir() if each.name.startswith(path.name)}
