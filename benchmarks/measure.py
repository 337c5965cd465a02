"""Measuring: sides in turn, medians, the median of the pairwise ratios, and tables of them."""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

Figure = str | int | float
Samples = Mapping[str, list[float]]

LIBRARIES = ("oautom", "transitions", "blinker", "msgspec", "dask")


class Settings(NamedTuple):
    """What the command line asked for: counted rounds, and steps of the Python graphs."""

    rounds: int
    steps: int


class Table(NamedTuple):
    """What one benchmark found."""

    title: str
    rows: list[dict[str, Figure]]

    def __str__(self) -> str:
        """Return title, heads and rows: first column to the left, the others to the right."""
        heads = list(self.rows[0])
        lines = [heads, *([_text(row[head]) for head in heads] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
            for line in lines
        ]
        return "\n".join([f"## {self.title}", *(line.rstrip() for line in text)])


def _text(figure: Figure) -> str:
    return f"{figure:.2f}" if isinstance(figure, float) else str(figure)


def in_turn(
    sides: Mapping[str, Callable[[], float]], rounds: int, *, warm_ups: int = 1
) -> dict[str, list[float]]:
    """Ask each side for its seconds, A B A B ...; the warm-up rounds are not counted."""
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warm_ups + rounds):
        for name, side in sides.items():
            gc.collect()  # nobody pays for what the other side left behind
            seconds = side()
            if turn >= warm_ups:
                samples[name].append(seconds)
    return samples


def medians(samples: Samples, unit: str, scale: float) -> dict[str, Figure]:
    """Return the median of each side, in `unit`: seconds times `scale`."""
    return {f"{name} {unit}": median(seconds) * scale for name, seconds in samples.items()}


def ratios(samples: Samples, pairs: Iterable[tuple[str, str]]) -> dict[str, Figure]:
    """Return for each pair of sides the median of the ratios of the times of one round."""
    return {
        f"{a} / {b}": median(x / y for x, y in zip(samples[a], samples[b], strict=True))
        for a, b in pairs
    }


def machine() -> dict[str, str]:
    """Return what the figures depend on: the machine, how busy it is, and the versions."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return {
        "processors": f"{usable} x {_processor()}, load {os.getloadavg()[0]:.1f}",
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": libraries,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
