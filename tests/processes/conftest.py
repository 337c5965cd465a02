"""Fixtures for tests with real processes: a mark to find them by, and programs to signal."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

MARK = "OAUTOM_TEST_MARK"


class Marked:
    """Finds all processes that carry one mark in their environment, whoever their parent is now."""

    def __init__(self, mark: str) -> None:
        self.env = {MARK: mark}
        self._mark = mark

    def alive(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            try:
                is_marked = process.environ().get(MARK) == self._mark
                if is_marked and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def kill(self) -> None:
        """End them all."""
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark and process.pid != os.getpid():
                    process.kill()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue

    def wait_for(self, count: int) -> None:
        """Wait until so many are alive: a process cannot tell us by a signal that it has begun."""
        until(lambda: len(self.alive()) >= count)


def until(is_true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


@pytest.fixture
def marked(request: pytest.FixtureRequest) -> Iterator[Marked]:
    found = Marked(f"{os.getpid()}-{request.node.name}-{time.monotonic_ns()}")
    yield found
    found.kill()


class Program:
    """A Python program in a process of its own."""

    def __init__(self, source: str, folder: Path, marked: Marked) -> None:
        script = folder / "program.py"
        script.write_text(source)
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=folder,
            env=os.environ | marked.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for_line(self, line: str) -> None:
        assert self._process.stdout is not None
        for each in self._process.stdout:
            if each.strip() == line:
                return
        raise AssertionError(f"no line {line!r}; stderr: {self.end().stderr}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, and wait until all that it had open is closed: that is after it is dead."""
        self._process.kill()
        self._process.wait(20)

    def end(self, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        stdout, stderr = self._process.communicate(timeout=timeout)
        return subprocess.CompletedProcess([], self._process.returncode, stdout, stderr)


@pytest.fixture
def program(tmp_path: Path, marked: Marked) -> Iterator[Callable[[str], Program]]:
    started: list[Program] = []

    def start(source: str) -> Program:
        started.append(Program(source, tmp_path, marked))
        return started[-1]

    yield start
    for each in started:
        each._process.kill()
        each.end()
