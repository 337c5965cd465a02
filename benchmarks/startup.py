"""Milliseconds of `import oautom` in a new process, and what it imports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.measure import Figure, Settings, Table, in_turn, medians

ROUNDS_MIN = 10  # they are short
SHOWN = 12
LIST_MODULES = "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"

Python = Callable[..., subprocess.CompletedProcess[str]]
"""Runs Python with some arguments, to its end."""


def measure(settings: Settings) -> Iterator[Table]:
    """Yield a table of the whole, and one of its costliest parts."""
    rounds = max(settings.rounds, ROUNDS_MIN)
    with TemporaryDirectory() as folder:
        python = partial(_python, folder)
        sides = {
            "empty": partial(_seconds, python, "pass"),
            "oautom": partial(_seconds, python, "import oautom"),
        }
        samples = in_turn(sides, rounds)
        differences = (a - b for a, b in zip(samples["oautom"], samples["empty"], strict=True))
        figures = {**medians(samples, "ms", 1e3), "difference ms": median(differences) * 1e3}
        new = _modules(python, "import oautom") - _modules(python, "pass")
        foreign = ", ".join(sorted(new - sys.stdlib_module_names - {"oautom"}))
        row = {"import": "oautom", **figures, "third-party": foreign}
        yield Table("a child process, its modules compiled before", [row])
        title = "what oautom imports first and directly, by -X importtime"
        yield Table(title, _costs(python, rounds))


def _python(bytecode: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python as users do from the second time on, with compiled modules; kept elsewhere."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = bytecode
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env)


def _seconds(python: Python, code: str) -> float:
    begin = time.perf_counter()
    python("-c", code)
    return time.perf_counter() - begin


def _modules(python: Python, code: str) -> set[str]:
    return set(python("-c", code + LIST_MODULES).stdout.split())


class Import(NamedTuple):
    """A line of `-X importtime`: what was imported, by whom, and how long that took in all."""

    name: str
    parent: str
    us: int


def _imports(told: str) -> list[Import]:
    found = re.findall(r"^import time: +\d+ \| +(\d+) \|( +)(\S+)$", told, re.MULTILINE)
    by_depth: dict[int, str] = {}
    imports = []
    for us, indent, name in reversed(found):  # a module is told after those that it imports
        by_depth[len(indent)] = name
        imports.append(Import(name, by_depth.get(len(indent) - 2, ""), int(us)))
    return imports


def _costs(python: Python, rounds: int) -> list[dict[str, Figure]]:
    us: dict[tuple[str, str], list[int]] = {}
    for _ in range(rounds):
        for each in _imports(python("-X", "importtime", "-c", "import oautom").stderr):
            if each.parent.startswith("oautom") and not each.name.startswith("oautom"):
                us.setdefault((each.name, each.parent), []).append(each.us)
    costs = sorted(((median(times) / 1e3, *key) for key, times in us.items()), reverse=True)
    return [
        {"module": name, "first imported by": parent, "ms with all below": ms}
        for ms, name, parent in costs[:SHOWN]
    ]
