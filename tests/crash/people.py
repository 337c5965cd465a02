"""Somebody in another process: decides, pauses and resumes through the file of the log.

All of it is asked for once, whatever becomes of the program that would have heard it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from oautom import Event, LogError
from oautom.events.sqlite import SqliteEventLog

from .plans import Plan


@contextmanager
def attended(folder: Path, plan: Plan) -> Iterator[None]:
    """Have somebody look at a log, and do what the plan says."""
    person, is_over = Person(folder, plan), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(person.look_until, is_over)
        try:
            yield
        finally:
            is_over.set()
            looking.result()


class Person:
    """Who reads the log of a program, and asks for something now and then."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder = folder
        self._gates = {
            (vect, step["name"]): step
            for vect, flow in plan["vects"].items()
            for step in plan["flows"][flow]
            if step["kind"] == "approval" and step["by"] == "person" and step["outcome"] != "late"
        }
        self._pauses = dict(plan.get("pauses", {}))
        self._events: list[Event] = []
        self._wishes: list[tuple[float, str, str, dict[str, Any]]] = []  # each when it is due

    def look_until(self, is_over: threading.Event) -> None:
        """Look again and again, as long as there is something to do."""
        while (self._gates or self._pauses or self._wishes) and not is_over.wait(0.02):
            try:
                log = SqliteEventLog(self._folder / "runs.db", read_only=True)
            except LogError:
                continue  # it has not been made yet
            with closing(log):
                self.look(log)

    def look(self, log: SqliteEventLog) -> None:
        """Read what is new, and ask for what is due."""
        new = list(log.read(after=len(self._events)))
        self._events += new
        for event in new:
            self._hear(event)
        for wish in sorted(self._wishes, key=lambda wish: wish[0]):
            when, vect, action, data = wish
            if when <= time.monotonic():
                self._wishes.remove(wish)
                if "step" in data:
                    self._say("decided", vect, data["step"])
                log.ask(vect, action, **data)

    def _hear(self, event: Event) -> None:
        now, place = time.monotonic(), (event.vect, event.step or "")
        count = sum(each.vect == event.vect for each in self._events[: event.seq])
        pause = self._pauses.get(event.vect)
        if pause is not None and count >= pause["after"]:
            del self._pauses[event.vect]
            self._wishes.append((now, event.vect, "pause", {}))
            self._wishes.append((now + pause["seconds"], event.vect, "resume", {}))
        if event.name == "step.started" and place in self._gates:
            step = self._gates.pop(place)
            self._say("asked", *place)
            asked = {"step": place[1], "by": str(os.getpid())}
            action, how = "approve", {"data": list(place)}
            if step["outcome"] == "fail":
                action, how = "reject", {"reason": "as planned"}
            self._wishes.append((now + step["seconds"], event.vect, action, asked | how))

    def _say(self, what: str, vect: str, step: str) -> None:
        line = f"{what}\t{vect}\t{step}\t1\t{os.getpid()}\t{time.time()}\n"
        fd = os.open(self._folder / "side", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)
