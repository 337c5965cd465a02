"""A spawned process with variables of its own in its environment.

`multiprocessing` has no argument for them. If they stood in `os.environ` while a process is
started, processes that other threads start meanwhile would inherit them, and a recovery would take
these for leftovers and end them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from io import BytesIO
from multiprocessing import context, popen_spawn_posix, reduction, resource_tracker, spawn, util
from typing import Any

from oautom.processes import forked
from oautom.processes.leftovers import environment


class MarkedProcess(context.SpawnProcess):
    """A process that calls a function.

    Args:
        target: The function; picklable.
        args: Its arguments.
        name: The name of the process.
        marks: The variables that are added to the environment of this program.
    """

    def __init__(
        self,
        target: Callable[..., object],
        args: tuple[Any, ...],
        name: str,
        marks: Mapping[str, str],
    ) -> None:
        super().__init__(target=target, args=args, name=name)
        self.marks = dict(marks)

    @staticmethod
    def _Popen(process: Any) -> popen_spawn_posix.Popen:  # noqa: N802 - as multiprocessing has it
        return _MarkedPopen(process)


class _MarkedPopen(popen_spawn_posix.Popen):
    """As its base class, but with an environment of its own."""

    _fds: list[int]  # descriptors that the child needs
    _ends: tuple[int, ...] = ()

    def _launch(self, process: Any) -> None:
        # Python's resource tracker serves the whole program, with all its logs: it has no marks.
        tracker = resource_tracker.getfd()
        assert tracker is not None
        content = BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process.name), content)
            reduction.dump(process, content)
        finally:
            context.set_spawning_popen(None)
        sentinel, theirs = os.pipe()  # theirs is closed when the process ends
        reads, writes = os.pipe()
        self._ends = sentinel, writes
        forked.share(self)
        self.finalizer = util.Finalize(self, _close, (sentinel, writes))
        try:
            child = subprocess.Popen(
                spawn.get_command_line(tracker_fd=tracker, pipe_handle=reads),
                executable=spawn.get_executable(),
                env=environment(process.marks),
                pass_fds=[*self._fds, tracker, reads, theirs],
            )
        finally:
            os.close(reads)
            os.close(theirs)
        self.pid = child.pid
        self.sentinel = sentinel
        # It is waited for like any process of `multiprocessing`: `subprocess.Popen` would report
        # success for one that other code has reaped.
        child.returncode = 0
        with open(writes, "wb", closefd=False) as pipe:
            pipe.write(content.getbuffer())

    def leave(self) -> None:
        """Close the pipes in a forked child: one of them shows the process that we have died."""
        ends, self._ends = self._ends, ()
        _close(*ends)
        self.returncode = 0  # else the child would join it at exit, which only the parent may


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
