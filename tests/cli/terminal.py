"""A real terminal for programs: a pseudo-terminal, and pyte as the screen of it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte

from .conftest import SECONDS, environment


class Terminal:
    """A program on a terminal of so many columns and lines.

    Attributes:
        text: All that it has written.
        screen: What is seen.
        process: The program.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        columns: int = 80,
        lines: int = 24,
        without: tuple[str, ...] = (),
        **env: str,
    ) -> None:
        self._master, slave = pty.openpty()
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self._size(columns, lines)
        known = environment(folder) | {"TERM": "xterm"} | env
        unwanted = {"COLUMNS", "LINES", "NO_COLOR", *without} - env.keys()
        self.process = subprocess.Popen(
            ["oautom", *arguments],
            cwd=folder,
            env={name: value for name, value in known.items() if name not in unwanted},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C and sizes reach it
        )
        os.close(slave)
        self.text = ""

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int, *, breaks_lines: bool) -> None:
        """Pull at the corner of the window: the program gets SIGWINCH.

        Args:
            columns: How many there are now.
            lines: The same.
            breaks_lines: Lines that are too long now are broken in two, as some terminals have it;
                others cut them off.
        """
        if breaks_lines:
            before, self.screen = self.shown, pyte.Screen(columns, lines)
            self._stream = pyte.ByteStream(self.screen)
            self._stream.feed("\r\n".join([*before, ""]).encode())
        else:
            self.screen.resize(lines, columns)
        self._size(columns, lines)

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    @property
    def shown(self) -> list[str]:
        """The lines of the screen, without those at its end that are empty."""
        lines = [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def read_until(self, is_there: str | Callable[[list[str]], bool]) -> list[str]:
        """Read until some words are on the screen, or until the screen is as it should be."""
        deadline = time.monotonic() + SECONDS
        while True:
            lines = self.shown
            if is_there in "\n".join(lines) if isinstance(is_there, str) else is_there(lines):
                return lines
            assert time.monotonic() < deadline, lines
            assert self._read() or self.process.poll() is None, lines

    def settled(self) -> list[str]:
        """Read until the screen has been drawn some times more, and return its lines."""
        for _ in range(3):
            self._read_until_drawn()
        return self.shown

    def _read_until_drawn(self) -> None:
        deadline, before = time.monotonic() + SECONDS, len(self.text)
        while len(self.text) == before or (not self.text.endswith("steps") and self._read()):
            assert time.monotonic() < deadline, self.shown
            self._read()

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        while self.process.poll() is None:
            self._read()
        while self._read():
            pass
        os.close(self._master)
        return self.process.returncode

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 0.1)[0]:
            return False
        try:
            data = os.read(self._master, 2**16)
        except OSError:  # the other side is closed: all is read
            return False
        self.text += data.decode(errors="replace")
        self._stream.feed(data)
        return True

    def kill(self) -> None:
        """End what a test that has failed leaves."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(SECONDS)
