"""The mutation run: `python -m tests.mutants [PATHS...] [--jobs N]`, or `make mutants`.

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

from .mutate import Mutant, mutants
from .trial import ROOT, Lane, Tests, measure, prepare

PATHS = [
    *(
        f"oautom/{name}.py"
        for name in ("scheduler", "driver", "decide", "machine", "states", "rules")
    ),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "oautom/events").glob("*.py")),
]
EXPLAINED = Path(__file__).with_name("explained.toml")
WANTED = 0.9
"""How many of all mutants shall be killed, those that are explained counted as survivors."""

Key = tuple[str, str, str, str]


def main() -> int:
    """Run, tell, and return what the process shall exit with."""
    arguments = _arguments()
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix="oautom-mutants-")
    os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
    try:
        prepare()
        found = [mutant for path in arguments.paths for mutant in mutants(ROOT / path, ROOT)]
        tests = measure(arguments.paths, arguments.jobs)
        work = sum(test.seconds for test in tests.values())
        print(f"{len(found)} mutants, {len(tests)} tests of {work:.0f} seconds", flush=True)
        explained = _explained()
        survivors = _run(found, tests, arguments.jobs, explained)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    code = _report(found, survivors, explained)
    print(f"took {(time.monotonic() - began) / 60:.0f} minutes")
    return code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("paths", metavar="PATHS", nargs="*", help="modules, instead of all")
    parser.add_argument("--jobs", type=int, default=2, help="how many mutants are tried at once")
    arguments = parser.parse_args()
    unknown = [path for path in arguments.paths if path not in PATHS]
    if unknown:
        parser.error(f"no mutants are made of {', '.join(unknown)}; only of: {', '.join(PATHS)}")
    arguments.paths = arguments.paths or PATHS
    return arguments


def _run(found: list[Mutant], tests: Tests, jobs: int, explained: set[Key]) -> list[Mutant]:
    """Return the mutants that survive."""
    forks = get_context("fork")
    turn, results = forks.Value("i", 0), forks.Queue()

    def try_all() -> None:
        lane = Lane(tests)
        try:
            while True:
                with turn.get_lock():
                    number = turn.value
                    turn.value += 1
                if number >= len(found):
                    return
                mutant = found[number]
                is_killed = lane.try_out(mutant, is_explained=_key(mutant) in explained)
                results.put((number, is_killed))
        finally:
            lane.close()

    lanes = [forks.Process(target=try_all) for _ in range(jobs)]
    for lane in lanes:
        lane.start()
    alive = []
    for count in range(1, len(found) + 1):
        number, is_killed = results.get()
        if not is_killed:
            alive.append(number)
        if count % 100 == 0:
            print(f"{count} of {len(found)}, {len(alive)} survived", flush=True)
    for lane in lanes:
        lane.join()
    return [found[number] for number in sorted(alive)]


def _explained() -> set[Key]:
    entries = tomllib.loads(EXPLAINED.read_text(encoding="utf-8")).get("survivor", [])
    return {
        (entry["path"], entry.get("inside", ""), entry["was"].strip(), now.strip())
        for entry in entries
        for now in entry["now"]
    }


def _key(mutant: Mutant) -> Key:
    return mutant.path, mutant.inside, mutant.was, mutant.now


def _report(found: list[Mutant], survivors: list[Mutant], explained: set[Key]) -> int:
    """Print the survivors that nobody has explained, then the table."""
    new = [mutant for mutant in survivors if _key(mutant) not in explained]
    paths = {mutant.path for mutant in found}
    stale = {key for key in explained if key[0] in paths} - {_key(mutant) for mutant in survivors}
    for mutant in new:
        print(f"survived: {mutant}")
    for path, inside, was, now in sorted(stale):
        print(f"explained, but does not survive: {path} in {inside}\n    - {was}\n    + {now}")
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
