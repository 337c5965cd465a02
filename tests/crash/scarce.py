"""What the system may refuse: each thread, pipe, selector, handle and process, once."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import util
from typing import Any

import pytest

_ASKED: list[tuple[str, Any, str]] = [
    ("thread", threading.Thread, "start"),
    ("pipe", os, "pipe"),
    ("handle", os, "pidfd_open"),
    ("selector", selectors.DefaultSelector, "__init__"),
    ("registration", selectors.DefaultSelector, "register"),
    ("sockets", socket, "socketpair"),
    ("process", subprocess, "_fork_exec"),
    ("process", util, "spawnv_passfds"),
    ("file", os, "open"),
    ("fifo", os, "mkfifo"),
]
_SAME_MAX = 2  # of one place that asks again and again, as one that looks at all processes does


class Scarce:
    """Counts what is asked of the system, and has one of it refused.

    Args:
        refused: The number of what is refused; None for nothing.

    Attributes:
        asked: What was asked for, in order.
        is_counting: What is asked for counts; while it is False all is given.
    """

    def __init__(self, refused: int | None) -> None:
        self.asked: list[str] = []
        self.is_counting = False
        self._refused = refused
        self._lock = threading.Lock()
        self._places: Counter[tuple[str, str, int]] = Counter()

    def ask(self, what: str) -> None:
        """Take note of a request.

        Raises:
            RuntimeError: It is a thread that is refused.
            OSError: Anything else is.
        """
        frame = sys._getframe(2)
        place = what, frame.f_code.co_filename, frame.f_lineno
        with self._lock:
            self._places[place] += 1
            if not self.is_counting or self._places[place] > _SAME_MAX:
                return
            number = len(self.asked)
            self.asked.append(f"{what} at {os.path.basename(place[1])}:{place[2]}")
        if number == self._refused:
            raise _refusal(what)


def _refusal(what: str) -> Exception:
    if what == "thread":
        return RuntimeError("can't start new thread")
    number = errno.EAGAIN if what == "process" else errno.EMFILE
    return OSError(number, os.strerror(number))


@contextmanager
def scarce(refused: int | None = None) -> Iterator[Scarce]:
    """Count what is asked for meanwhile; refuse the one of this number."""
    counted = Scarce(refused)

    def asking(what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*args: Any, **kwargs: Any) -> Any:
            counted.ask(what)
            return real(*args, **kwargs)

        return ask

    with pytest.MonkeyPatch.context() as patch:
        for what, owner, name in _ASKED:
            if hasattr(owner, name):
                patch.setattr(owner, name, asking(what, getattr(owner, name)))
        yield counted
