"""Draw docs/cli.svg anew: a real run on a terminal, with a failure and a retry.

Each command runs on a pseudo-terminal; pyte is its screen, and rich draws the lines as an SVG. Of
the run, the picture in its middle is kept, which `oautom run` takes away at its end.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from io import StringIO
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "cli.svg"
COLUMNS = 84
PROGRAM = """
from oautom import BashExecution, Flow, OAutom, RetryPolicy

app = OAutom()
nightly = Flow("nightly", app, description="Load the sales of a day.")
again = RetryPolicy(max_attempts=2, delay=0.5)
FETCH = 'sleep 0.7; [ -e tried ] || { touch tried; echo "connection reset"; exit 1; }'
fetch = BashExecution("fetch", nightly, FETCH, retry=again)
north = BashExecution("load north", nightly, "sleep 4")
south = BashExecution("load south", nightly, 'sleep 1; echo "row 7 has no price"; exit 1')
check = BashExecution("check prices", nightly, "sleep 0.5")
fetch >> [north, south, check]
[north, south, check] >> BashExecution("report", nightly, "true")
"""
COMMANDS = [
    "oautom run nightly.py nightly --id tuesday --log runs.db",
    "oautom show tuesday",
    "oautom why tuesday report",
]
COLOURS = {"brown": "yellow", "brightblack": "bright_black", "default": "default"}


def main() -> None:
    """Run the commands, and write the picture."""
    lines = [Text("$ export OAUTOM_FILE=runs.db", "bold"), Text()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "nightly.py").write_text(PROGRAM)
        for command in COMMANDS:
            lines += [Text(f"$ {command}", "bold"), *seen(command, folder), Text()]
    PICTURE.write_text(drawn(lines[:-1]), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")


def seen(command: str, folder: Path) -> list[Text]:
    """Return what is seen of a command: of a run its picture, then what is left at its end."""
    middle: list[Text] = []

    def look(screen: pyte.Screen) -> None:
        shown = "\n".join(screen.display)
        if "failed  " in shown and "running  load north" in shown:
            middle[:] = texts_of(screen)

    screen = run(command, folder, look)
    return [*middle, *([Text()] if middle else []), *texts_of(screen)]


def run(command: str, folder: Path, look: Callable[[pyte.Screen], None]) -> pyte.Screen:
    """Run a command on a terminal, look at the screen now and then, and return it."""
    screen = pyte.Screen(COLUMNS, 24)
    stream = pyte.ByteStream(screen)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    env = {"TERM": "xterm", "PYTHONPATH": str(ROOT), "OAUTOM_FILE": "runs.db"}
    env["PATH"] = os.environ["PATH"]
    words = [sys.executable, "-m", *command.split()]
    with subprocess.Popen(words, cwd=folder, env=env, stdin=slave, stdout=slave, stderr=slave):
        os.close(slave)
        while data := read(master):
            stream.feed(data)
            look(screen)
    os.close(master)
    return screen


def read(master: int) -> bytes:
    try:
        return os.read(master, 2**16)
    except OSError:  # the program has ended
        return b""


def texts_of(screen: pyte.Screen) -> list[Text]:
    """Return the lines of a screen, with their colours."""
    lines = []
    for row in range(screen.lines):
        chars = [screen.buffer[row][column] for column in range(screen.columns)]
        parts = [
            ("".join(char.data for char in same), style)
            for style, same in groupby(chars, key=style_of)
        ]
        line = Text.assemble(*parts)
        line.rstrip()
        lines.append(line)
    while lines and not lines[-1].plain:
        lines.pop()
    return lines


def style_of(char: pyte.screens.Char) -> str:
    """Return the style of a character, in the words of rich."""
    return f"{'bold ' if char.bold else ''}{COLOURS.get(char.fg, char.fg)}"


def drawn(lines: list[Text]) -> str:
    """Return lines as an SVG that needs nothing from the network."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    for line in lines:
        console.print(line, soft_wrap=True)
    svg = console.export_svg(title="oautom", unique_id="oautom")
    svg = re.sub(r"<!--.*?-->\s*", "", svg)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")


if __name__ == "__main__":
    main()
