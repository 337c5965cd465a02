"""Forks: an object that works in a process stays there.

A forked child has a copy of each object, but none of the threads that move it, and its locks in any
state; open files are shared with its parent. So an object that works belongs to the process in
which it began to. In a forked child it raises an `EngineError` before it takes a lock or touches a
file, and its `close` does nothing. A new object, made in the child, works there.

Only this module notices that the process was forked. `here` is this process; an object that begins
to work refers to it, and checks its `is_here`, which a fork changes: the check costs nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn, Protocol

from oautom.errors import EngineError


class Process:
    """One process, seen from inside.

    Attributes:
        pid: Its number.
        is_here: Whether it is the running process; False in a forked child.
    """

    __slots__ = ("is_here", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.is_here = True

    def check(self, what: str, remedy: str) -> None:
        """Refuse to go on in a forked child.

        Args:
            what: The object that belongs to this process.
            remedy: What to do in the child instead.

        Raises:
            EngineError: This is a forked child.
        """
        if not self.is_here:
            raise EngineError(
                f"{what} belongs to process {self.pid}, and this one ({os.getpid()}) was forked "
                f"from it; {remedy}"
            )


NOBODY: Final = Process(0)
"""The owner of objects that have not begun to work: the first process that uses one gets it."""

here = Process(os.getpid())
"""This process. Ask for `forked.here`: a forked child has another one."""


class Shared(Protocol):
    """An object with locks or descriptors that a forked child should not use."""

    def leave(self) -> None:
        """Drop them in the forked child, without any message: they belong to the parent."""


_before: list[Callable[[], None]] = []
_after: list[Callable[[], None]] = []
_in_child: list[Callable[[], None]] = []
_turn = threading.RLock()  # one fork at a time
_shared: weakref.WeakSet[Shared] = weakref.WeakSet()


def around(before: Callable[[], None], after: Callable[[], None]) -> None:
    """Call `before` before each fork, and `after` behind it, in both processes.

    A later registration is called before the others at the fork, and after them behind it.
    """
    _before.insert(0, before)
    _after.append(after)


def in_child(begin_anew: Callable[[], None]) -> None:
    """Call a function of a module in each forked child, to renew its locks and state."""
    _in_child.append(begin_anew)


def share(shared: Shared) -> None:
    """Call `shared.leave` in each forked child, as long as the object exists."""
    _shared.add(shared)


class Home:
    """The process of an app and of all its parts, from when the app opens its log.

    An app that has not opened its log yet may be used in a forked child: it works there then.

    Attributes:
        process: That process; `NOBODY` until then.
        lock: The lock of the app.
    """

    __slots__ = ("__weakref__", "lock", "process")

    def __init__(self) -> None:
        self.process = NOBODY
        self.lock = threading.Lock()
        share(self)

    def leave(self) -> None:
        """Renew the lock in a forked child: a thread of the parent may have it."""
        self.lock = threading.Lock()

    def check(self) -> None:
        """Refuse to go on in a forked child.

        Raises:
            EngineError: This process is a forked child.
        """
        if not self.process.is_here:
            self.process.check(
                "this app, with its vects and plans,",
                "make a new OAutom in the forked process, or start it by 'spawn'; it may read "
                "the log, and send requests, by SqliteEventLog(path, read_only=True)",
            )


def _prepare() -> None:
    _turn.acquire()
    _call(_before)


def _go_on() -> None:
    try:
        _call(_after)
    finally:
        _turn.release()


def _begin_anew() -> None:
    global here, _turn
    here.is_here = False
    here, _turn = Process(os.getpid()), threading.RLock()
    _call([*_in_child, *(shared.leave for shared in list(_shared)), *_after])


def _call(calls: Sequence[Callable[[], None]]) -> None:
    """Call each function, even if Ctrl-C comes in between."""
    for i, call in enumerate(calls):
        try:
            call()
        except BaseException:
            _call(calls[i + 1 :])
            raise


os.register_at_fork(before=_prepare, after_in_parent=_go_on, after_in_child=_begin_anew)


def end(error: BaseException | None = None) -> NoReturn:
    """End this process, a forked child in which user code has returned to the engine's.

    If a step or receiver forks, the child also has the engine's code on its stack. That code must
    not go on there: it would be a second engine. So the child ends where the function does, like
    one of `multiprocessing`: its exit code is that of `sys.exit`, 0 if the function has returned,
    and 1 with a traceback if it has raised. Handlers of `atexit` are not called.

    Args:
        error: The exception, or None.
    """
    code: object = 0
    if isinstance(error, SystemExit):
        code = error.code or 0
    elif error is not None:
        code = 1
        with suppress(Exception):  # stderr may be anything, or closed
            traceback.print_exception(error)
    with suppress(Exception):
        if not isinstance(code, int):
            print(code, file=sys.stderr)  # noqa: T201 - as sys.exit() does
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code & 0xFF if isinstance(code, int) else 1)
