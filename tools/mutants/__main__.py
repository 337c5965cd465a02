"""The mutation run: `python -m tools.mutants [PATHS...] [--jobs N] [--each N]`, or `make mutants`.

Changes one thing in a module, and runs the tests until one fails: then the mutant is killed. One
that survives shows what no test asserts, or code that nothing needs, or a change that is none;
those of the last kind are explained in explained.toml. mutate.py makes the mutants, trial.py runs
the tests.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .mutate import Mutant, mutants
from .trial import ROOT, Lane, Tests, measure, prepare

PATHS = [
    *(f"oautom/engine/{name}.py" for name in ("scheduler", "inbox", "queue")),
    "oautom/plans/schedule.py",
    *sorted(
        str(path.relative_to(ROOT))
        for folder in ("machine", "events", "audit")
        for path in (ROOT / "oautom" / folder).rglob("*.py")
    ),
]
EXPLAINED = Path(__file__).with_name("explained.toml")
WANTED = 0.9
"""How many of all mutants shall be killed, those that are explained counted as survivors."""

FAILED = -1
"""The number that a process sends when it cannot go on."""

ANYTHING = "anything"

Line = tuple[str, str, str]
"""Path, function, and the lines that are changed."""

Explained = dict[Line, set[str]]
"""What may stand in place of a line without any test noticing."""


def main() -> int:
    """Run, tell, and return what the process shall exit with."""
    arguments = _arguments()
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix="oautom-mutants-")
    os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
    try:
        prepare()
        found = [mutant for path in arguments.paths for mutant in mutants(ROOT / path, ROOT)]
        found = found[:: arguments.each]
        tests = measure(arguments.paths, arguments.jobs)
        work = sum(test.seconds for test in tests.values())
        print(f"{len(found)} mutants, {len(tests)} tests of {work:.0f} seconds", flush=True)
        explained = _explained()
        survivors = _run(found, tests, arguments.jobs, explained)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    stale = _stale(found, survivors, explained) if arguments.each == 1 else []
    code = _report(found, survivors, explained, stale)
    print(f"took {(time.monotonic() - began) / 60:.0f} minutes")
    return code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("paths", metavar="PATHS", nargs="*", help="modules, instead of all")
    parser.add_argument("--jobs", type=int, default=2, help="how many mutants are tried at once")
    parser.add_argument("--each", type=int, default=1, help="try each so-manyth mutant only")
    arguments = parser.parse_args()
    if min(arguments.each, arguments.jobs) < 1:
        parser.error("--each and --jobs count from 1")
    unknown = [path for path in arguments.paths if path not in PATHS]
    if unknown:
        parser.error(f"no mutants are made of {', '.join(unknown)}; only of: {', '.join(PATHS)}")
    arguments.paths = arguments.paths or PATHS
    return arguments


def _run(found: list[Mutant], tests: Tests, jobs: int, explained: Explained) -> list[Mutant]:
    """Return the mutants that survive."""
    forks = get_context("fork")
    turn, results = forks.Value("i", 0), forks.SimpleQueue()

    def try_all() -> None:
        lane = Lane(tests)
        try:
            while (number := _next(turn)) < len(found):
                is_explained = _is_explained(found[number], explained)
                results.put((number, lane.try_out(found[number], is_explained=is_explained)))
        except BaseException:
            results.put((FAILED, False))
            raise
        finally:
            lane.close()

    lanes = [forks.Process(target=try_all, daemon=True) for _ in range(jobs)]
    for lane in lanes:
        lane.start()
    alive = _collect(results, len(found))
    for lane in lanes:
        lane.join()
    return [found[number] for number in alive]


def _next(turn: Any) -> int:
    with turn.get_lock():
        turn.value += 1
        return int(turn.value) - 1


def _collect(results: Any, total: int) -> list[int]:
    """Return the numbers of those that survive, in order."""
    alive = []
    for count in range(1, total + 1):
        number, is_killed = results.get()
        if number == FAILED:
            raise SystemExit("the run itself has failed, see above")
        if not is_killed:
            alive.append(number)
        if count % 100 == 0:
            print(f"{count} of {total}, {len(alive)} survived", flush=True)
    return sorted(alive)


def _explained() -> Explained:
    entries = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["survivor"]
    explained: Explained = {}
    for entry in entries:
        line = entry["path"], entry.get("inside", ""), entry["was"]
        explained.setdefault(line, set()).update(entry.get("now", [ANYTHING]))
    return explained


def _is_explained(mutant: Mutant, explained: Explained) -> bool:
    known = explained.get(_line(mutant), set())
    return ANYTHING in known or mutant.now in known


def _line(mutant: Mutant) -> Line:
    return mutant.path, mutant.inside, mutant.was


def _stale(found: list[Mutant], survivors: list[Mutant], explained: Explained) -> list[str]:
    """Return what is explained, of the modules that were tried, and does not survive."""
    paths = {mutant.path for mutant in found}
    alive = {(_line(mutant), now) for mutant in survivors for now in (mutant.now, ANYTHING)}
    return [
        f"{line[0]} in {line[1] or 'the module'}\n    - {line[2]}\n    + {now}"
        for line, nows in explained.items()
        for now in sorted(nows)
        if line[0] in paths and (line, now) not in alive
    ]


def _report(
    found: list[Mutant], survivors: list[Mutant], explained: Explained, stale: list[str]
) -> int:
    """Print the survivors that nobody has explained, what is stale, then the table."""
    new = [mutant for mutant in survivors if not _is_explained(mutant, explained)]
    for mutant in new:
        print(f"survived: {mutant}")
    for each in stale:
        print(f"explained, but does not survive: {each}")
    print(
        f"\n{'module':<28}{'mutants':>9}{'killed':>9}{'survived':>10}{'explained':>11}{'ratio':>9}"
    )
    made = Counter(mutant.path for mutant in found)
    alive = Counter(mutant.path for mutant in survivors)
    known = alive - Counter(mutant.path for mutant in new)
    for path in made:
        _print_row(path, made[path], alive[path], known[path])
    _print_row("all", made.total(), alive.total(), known.total())
    ratio = 1 - alive.total() / max(1, made.total())
    return 1 if new or stale or ratio < WANTED else 0


def _print_row(name: str, made: int, alive: int, known: int) -> None:
    killed = made - alive
    ratio = f"{100 * killed / max(1, made):.1f} %"
    print(f"{name:<28}{made:>9}{killed:>9}{alive:>10}{known:>11}{ratio:>9}")


if __name__ == "__main__":
    sys.exit(main())
