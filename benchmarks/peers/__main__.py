"""oautom beside its peers: `python -m benchmarks.peers [NAMES...] [--sizes N...] [--rounds N]`.

Each engine is installed in an environment of its own, and each measurement is a process of its own;
in each round every engine has its turn. The tables are written into docs/performance.md.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.measure import machine
from benchmarks.shapes import KINDS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
NAMES = [path.stem.removeprefix("with_") for path in sorted(Path(__file__).parent.glob("with_*"))]
SECONDS_MAX = 300
"""A run that takes longer is ended, and stands in the table as that."""


class Side(NamedTuple):
    """An engine, as it is measured."""

    name: str
    package: str
    keeps: dict[str, str]

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        if self.name == "oautom":
            return Path(sys.executable)
        return ROOT / "venv3-peers" / self.name / "bin" / "python"


def _side(name: str) -> Side:
    """Read what a side says of itself: to import it needs its environment."""
    tree = ast.parse(Path(__file__).with_name(f"with_{name}.py").read_text())
    said: dict[str, Any] = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in ("PACKAGE", "KEEPS")
    }
    return Side(name, said["PACKAGE"], said["KEEPS"])


def _set_up(side: Side) -> None:
    """Install an engine, unless that has been done."""
    stamp = side.python.parents[1] / ".installed"
    if side.name == "oautom" or stamp.exists():
        return
    print(f"installing {side.package}", flush=True)
    venv.create(side.python.parents[1], with_pip=True, clear=True)
    pip = [side.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, side.package], check=True)
    stamp.touch()


def _seconds(side: Side, kind: str, size: int, keeps: str) -> tuple[float | None, str]:
    """Measure once: the seconds, None if it was too slow, and the version; or why it has failed."""
    command = [side.python, "-m", "benchmarks.peers.side", side.name, kind, str(size), keeps]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"over {SECONDS_MAX} s"
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return None, f"failed: {lines[-1][:60]}"
    told = json.loads(done.stdout.splitlines()[-1])
    return told["seconds"], told["version"]


def _measure(
    sides: Iterable[Side], kind: str, size: int, keeps: str, rounds: int
) -> dict[str, list[float] | str]:
    """Measure each side in turn, round by round; one that has failed is not asked again."""
    found: dict[str, list[float] | str] = {}
    for _ in range(rounds):
        for side in sides:
            samples = found.setdefault(side.name, [])
            if keeps not in side.keeps or isinstance(samples, str):
                continue
            seconds, said = _seconds(side, kind, size, keeps)
            if seconds is None:
                found[side.name] = said
            else:
                samples.append(seconds)
    return {name: samples for name, samples in found.items() if samples}


def _table(sides: list[Side], sizes: list[int], keeps: str, rounds: int) -> list[str]:
    """Return the lines of a table: milliseconds a step, and how often that of oautom."""
    columns = [(kind, size) for size in sizes for kind in KINDS]
    found = {}
    for kind, size in columns:
        print(f"{keeps}: {kind} of {size}", flush=True)
        found[kind, size] = _measure(sides, kind, size, keeps, rounds)
    lines = [
        f"| {keeps} | {' | '.join(f'{kind} {size:,}' for kind, size in columns)} | what is kept |",
        f"|---|{'---:|' * len(columns)}---|",
    ]
    for side in sides:
        if keeps in side.keeps:
            cells = [_cell(found[column], side.name, column[1]) for column in columns]
            lines.append(f"| {side.name} | {' | '.join(cells)} | {side.keeps[keeps]} |")
    return lines


def _cell(found: dict[str, list[float] | str], name: str, size: int) -> str:
    samples, ours = found[name], found["oautom"]
    if isinstance(samples, str) or isinstance(ours, str):
        return str(samples)
    ms = median(samples) / size * 1000
    ratio = median(x / y for x, y in zip(samples, ours, strict=True))
    return f"{ms:.3g} ms" if name == "oautom" else f"{ms:.3g} ms ({ratio:.3g} x)"


def main() -> None:
    """Install, measure, print and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAMES", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 1000], help="steps")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    options = parser.parse_args()
    if unknown := set(options.names).difference(NAMES):
        parser.error(f"no engine named {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    others = [name for name in options.names or NAMES if name != "oautom"]
    sides = [_side(name) for name in ("oautom", *others)]
    for side in sides:
        _set_up(side)
    facts = machine()
    lines = [f"- {key}: {value}" for key, value in facts.items() if key != "libraries"]
    versions = [f"{side.package} {_version(side)}" for side in sides]
    lines += [f"- versions: {', '.join(versions)}", f"- rounds: {options.rounds}, medians"]
    for keeps in ("memory", "durable"):
        lines += ["", *_table(sides, options.sizes, keeps, options.rounds)]
    print("\n".join(lines))
    _write(lines)


def _version(side: Side) -> str:
    code = f"from importlib.metadata import version; print(version({side.package!r}))"
    return subprocess.check_output([side.python, "-c", code], text=True).strip()


def _write(lines: list[str]) -> None:
    """Put the lines between the two marks of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]))


if __name__ == "__main__":
    main()
