"""Leftovers: processes that a dead program has left running, found by their environment.

A program that is killed by SIGKILL can end nothing. So each process that does the work of a step
has marks in its environment, which its children inherit; the next engine of the log finds it by
these, on Linux. It is ended only if three facts agree: it is of this log, its engine is dead, and
its attempt has not ended by itself, according to the log. The number of a process is not enough to
know it: another process may have it by now. So an engine is identified by the number of its
process, by the start time of that process, and by a number within that program.

A step may run a program that has an engine too. Then its processes work for both, and have the
marks of the outer engine as well.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from typing import Final, NamedTuple

LOG_MARK: Final = "OAUTOM_LOG"
"""The variable with the identity of the log; a process without it is no leftover."""

_ENGINE_MARK: Final = "OAUTOM_ENGINE"
_OUTER_MARK: Final = "OAUTOM_OUTER"
_ATTEMPT: Final = ("OAUTOM_VECT", "OAUTOM_STEP", "OAUTOM_ATTEMPT")

_MS_MAX = 5_000
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})
_START_TIME = 19  # a field behind the name in /proc/<pid>/stat


class Marks:
    """The marks of one engine, for the processes that do its work.

    Args:
        log_id: The identity of its log; None for one that does not outlive the program.

    Attributes:
        variables: The marks, as environment variables.
    """

    def __init__(self, log_id: str | None) -> None:
        self.variables: Mapping[str, str] = {}
        if log_id is not None:
            engine = f"{_process(os.getpid())}-{next(_numbers)}"
            self.variables = {LOG_MARK: log_id, _ENGINE_MARK: engine}
            _engines_here.add(engine)
            # An engine that is garbage-collected does no work any more.
            self._end = weakref.finalize(self, _engines_here.discard, engine)

    def end(self) -> None:
        """Note that the engine has ended: the log's next engine ends what it has left."""
        if self.variables:
            self._end()


def environment(added: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this program with variables added, for a process of a step.

    Args:
        added: The marks of an engine, and the variables of the attempt.
    """
    env = {**os.environ, **outer_marks(added)}
    if LOG_MARK in env and LOG_MARK in added:
        env = {name: value for name, value in env.items() if name not in _ATTEMPT}
    return {**env, **added}


def outer_marks(marks: Mapping[str, str]) -> dict[str, str]:
    """Return the marks of the step that runs this program itself, if one does.

    Args:
        marks: The marks of the calling engine; a worker process has these in its environment
            already.
    """
    if LOG_MARK not in os.environ or os.environ.get(_ENGINE_MARK) == marks.get(_ENGINE_MARK):
        return {}
    import json  # noqa: PLC0415 - seldom needed

    return {_OUTER_MARK: json.dumps(list(_places(os.environ)))}


class _Place(NamedTuple):
    """The work that a process does: its log, its engine, and its attempt."""

    log: str
    engine: str
    vect: str | None
    step: str | None
    attempt: str | None


def _places(environment: Mapping[str, str]) -> Iterator[_Place]:
    """Yield the work of a process by its environment, the innermost first."""
    log, engine = environment.get(LOG_MARK, ""), environment.get(_ENGINE_MARK, "")
    yield _Place(log, engine, *map(environment.get, _ATTEMPT))
    if text := environment.get(_OUTER_MARK):
        import json  # noqa: PLC0415 - seldom needed

        with suppress(TypeError, ValueError):  # a foreign variable
            for log, engine, *attempt in json.loads(text):
                vect, step, number = (None if each is None else str(each) for each in attempt)
                yield _Place(str(log), str(engine), vect, step, number)


_numbers = count(1)
_engines_here: set[str] = set()  # the engines at work in this program


def _process(pid: int) -> str:
    """Return the identity of a process among all that have had its number; empty if it is dead."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{pid}-{fields[_START_TIME]}"


def _is_dead(engine: str) -> bool:
    """Whether an engine is known to have ended."""
    pid, dash, _ = engine.partition("-")
    if not dash or not pid.isdigit():
        return False
    process = _process(int(pid))
    if int(pid) == os.getpid() and engine.startswith(f"{process}-"):
        return engine not in _engines_here
    return not process or not f"{engine}-".startswith(f"{process}-")


IsOpen = Callable[[str, str | None, str | None], bool]
"""Whether an attempt (Vect, step, number) has not ended by itself, according to its log."""


def end_leftovers(log_id: str, is_open: IsOpen) -> list[int]:
    """End the processes that dead engines of a log have left, and wait until they are gone.

    Call it only while no other engine works on the log.

    Args:
        log_id: The identity of the log.
        is_open: Whether the work of an attempt is to be ended.

    Returns:
        The numbers that the processes had.

    Raises:
        OSError: The system gives no files for a look at all processes.
    """
    ended: list[int] = []
    while found := list(_left_of(log_id, is_open)):  # repeatedly: one may have forked
        # First all are stopped: one that waits for another must not go on when that one ends.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for _, handle in found:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
        for pid, handle in found:
            _wait_for(handle)
            os.close(handle)
            if pid in ended:
                return ended  # it cannot die now, as when a disk does not answer
            ended.append(pid)
    return ended


def _wait_for(handle: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)  # readable when the process has ended
    poll.poll(_MS_MAX)


def _left_of(log_id: str, is_open: IsOpen) -> Iterator[tuple[int, int]]:
    """Yield number and handle of each process that dead engines of a log have left."""
    for entry in _processes():
        pid = int(entry)
        try:
            handle = os.pidfd_open(pid)  # the environment read next is its own, or none
        except OSError as error:
            _check_is_gone(error)
            continue
        if pid != os.getpid() and _is_left(_environment(pid), log_id, is_open):
            yield pid, handle
        else:
            os.close(handle)


def _is_left(environment: Mapping[str, str], log_id: str, is_open: IsOpen) -> bool:
    """Whether a process, by its environment, was left by a dead engine of a log.

    A worker process itself has no attempt: it ends with its engine.
    """
    return LOG_MARK in environment and any(
        each.log == log_id
        and _is_dead(each.engine)
        and (each.vect is None or is_open(each.vect, each.step, each.attempt))
        for each in _places(environment)
    )


def _processes() -> list[str]:
    try:
        return [entry for entry in os.listdir("/proc") if entry.isdigit()]
    except FileNotFoundError:  # not Linux
        return []


def _environment(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            content = file.read()
    except OSError as error:
        _check_is_gone(error)
        return {}
    if LOG_MARK.encode() not in content:
        return {}
    pairs = (os.fsdecode(each).partition("=") for each in content.split(b"\0"))
    return {name: value for name, _, value in pairs}


def _check_is_gone(error: OSError) -> None:
    """Ignore that a process has ended, or is none of ours; one that is missed works on."""
    if error.errno in _SCARCE:
        raise error
