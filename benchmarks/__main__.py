"""The command line: `python -m benchmarks [NAMES...] [--rounds N] [--steps N] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

from benchmarks.measure import Settings, Table, machine

# Imported when they are asked for: the processes of `latency` import this module once more.
MODULES = {
    "inline": "inline",
    "threads": "threads",
    "linear": "linear",
    "import": "startup",
    "latency": "latency",
    "bash": "bash",
    "dask": "cluster",
    "maps": "maps",
    "durable": "durable",
    "size": "size",
    "written": "written",
    "live": "live",
    "page": "page",
}


def _module(name: str) -> ModuleType:
    return import_module(f"benchmarks.{MODULES[name]}")


def _arguments() -> argparse.Namespace:
    lines = [f"  {name:<9}{(_module(name).__doc__ or name).splitlines()[0]}" for name in MODULES]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure oautom; without NAMES, all of it.",
        epilog="\n".join(["benchmarks:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", metavar="NAMES", nargs="*", help="one or more of those below")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured")
    parser.add_argument("--steps", type=int, default=10_000, help="size of the Python graphs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in MODULES]:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(MODULES)}")
    if arguments.rounds < 1 or arguments.steps < 1000:
        parser.error("--rounds starts at 1, and --steps at 1000")
    return arguments


def main() -> None:
    """Run the benchmarks that were asked for, and print each table when it is done."""
    arguments = _arguments()
    settings = Settings(arguments.rounds, arguments.steps)
    facts = machine()
    print("\n".join(f"{key}: {value}" for key, value in facts.items()), flush=True)
    tables: dict[str, list[Table]] = {}
    for name in arguments.names or MODULES:
        tables[name] = []
        for table in _module(name).measure(settings):
            print(f"\n{table}", flush=True)
            tables[name].append(table)
    if arguments.json:
        report = {"machine": facts, "rounds": settings.rounds, "steps": settings.steps}
        figures = {name: [table._asdict() for table in made] for name, made in tables.items()}
        arguments.json.write_text(json.dumps(report | {"benchmarks": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
