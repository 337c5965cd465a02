"""A program that does a bit of all, and tells which locks are taken while which others are held.

Run by `test_locks`, in a process of its own: the locks are watched from the first import on.
"""

from __future__ import annotations

import linecache
import re
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

Name = tuple[str, str]
MADE = re.compile(r"(\w+)(?:, [\w.]+)? = threading\.(?:R?Lock|Condition)\(")
real = {"Lock": threading.Lock, "RLock": threading.RLock}
held = threading.local()
seen: set[tuple[Name, Name]] = set()


def name_of_caller() -> Name | None:
    """Return the module of oautom that makes a lock, and what it is called there."""
    frame: Any = sys._getframe(2)
    while "threading" in Path(frame.f_code.co_filename).name:  # a condition has a lock
        frame = frame.f_back
    path = frame.f_code.co_filename
    if "/oautom/" not in path:
        return None
    made = MADE.search(linecache.getline(path, frame.f_lineno))
    return (path.split("/oautom/")[-1], made[1]) if made else None


class Watched:
    """A lock that takes note of what else its thread has."""

    def __init__(self, lock: Any, name: Name) -> None:
        self._lock = lock
        self._name = name

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        taken = self._lock.acquire(*args, **kwargs)
        if taken:
            self._note()
        return bool(taken)

    def _note(self) -> None:
        mine = held.__dict__.setdefault("locks", [])
        seen.update((other._name, self._name) for other in mine if self not in mine)
        mine.append(self)

    def release(self) -> None:
        held.locks.remove(self)
        self._lock.release()

    def locked(self) -> bool:
        return bool(self._lock.locked())

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class WatchedAgain(Watched):
    """One that its thread may take again; a condition gives it up while it waits."""

    def _is_owned(self) -> bool:
        return bool(self._lock._is_owned())

    def _release_save(self) -> object:
        count = held.locks.count(self)
        held.locks[:] = [each for each in held.locks if each is not self]
        return count, self._lock._release_save()

    def _acquire_restore(self, state: Any) -> None:
        self._lock._acquire_restore(state[1])
        for _ in range(state[0]):
            self._note()


def watch() -> None:
    """Have all locks of oautom watched that are made from now on."""

    def making(kind: str, watched: type[Watched]) -> Any:
        def make() -> Any:
            name = name_of_caller()
            return real[kind]() if name is None else watched(real[kind](), name)

        return make

    threading.Lock = making("Lock", Watched)
    threading.RLock = making("RLock", WatchedAgain)  # type: ignore[misc]


def play(path: str) -> None:
    """Start, steer, look at, cancel and prune Vects of all kinds of steps, on several threads."""
    import oautom

    with oautom.OAutom(oautom.OAutomMode.background, log=path) as app:
        inner = oautom.Flow("inner", app)  # two children wait for their turn
        oautom.PythonExecution("work", inner, print, ["inner"])
        flow = oautom.Flow("flow", app, max_active_vects=3)
        first = oautom.PythonExecution("first", flow, print, ["first"])
        command = oautom.BashExecution("command", flow, "true")
        gate = oautom.ApprovalExecution("gate", flow, "go on?")
        first >> [command, gate] >> oautom.FlowExecution("child", flow, inner)
        app.subscribe(lambda flow, event, **_: None, name="all")
        vects = [app.start(flow) for _ in range(3)]
        for vect in vects:
            while vect.steps["gate"].state != "running":
                vect.explain("gate")
        waiting = [app.start(flow, when_full="wait") for _ in range(2)]
        waiting[1].status()
        waiting[0].cancel()
        vects[0].approve("gate", "Ada")
        vects[1].reject("gate", "Ada")
        vects[2].cancel()
        for vect in vects:
            vect.wait(20)
            vect.status()
        waiting[1].cancel()
        vects[1].retry()
        vects[1].cancel()
        vects[1].wait(20)
        app.logs()
        app.prune(older_than=timedelta())


if __name__ == "__main__":
    watch()
    play(sys.argv[1])
    for (outer, name), (inner, other) in sorted(seen):
        print("held", outer, name, inner, other)  # noqa: T201 - it is read by the test
