"""Fuzzing: `python -m tests.fuzz --minutes 60 --seed 1`, or `make fuzz MINUTES=60`.

Each round has a seed of its own, from the one that is given on; a round with violations is kept,
and `--look FOLDER` shows what is in its log and looks at it again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import closing
from itertools import count, islice
from pathlib import Path

from oautom.events.sqlite import SqliteEventLog
from tests.outside import side

from .rounds import Result, look, run


def main() -> int:
    """Run rounds until the time is up, and tell what there was."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first round")
    parser.add_argument("--rounds", type=int, help="at the most so many")
    parser.add_argument("--look", type=Path, metavar="FOLDER", help="at what a round has left")
    options = parser.parse_args()
    if options.look is not None:
        return show(options.look)
    folder = Path(tempfile.mkdtemp(prefix="oautom-fuzz-"))
    print(f"seed {options.seed}, in {folder}", flush=True)
    until, begin = time.monotonic() + 60 * options.minutes, time.monotonic()
    totals = Result(0, 0, 0, 0, [])
    rounds = 0
    for seed in islice(count(options.seed), options.rounds):
        if time.monotonic() >= until:
            break
        result = run(folder / f"seed-{seed}", seed)
        totals = Result(*(ours + its for ours, its in zip(totals, result, strict=True)))
        rounds += 1
        tell(folder / f"seed-{seed}", seed, result)
        if rounds % 20 == 0:
            print(told(rounds, totals), flush=True)
    print(f"{told(rounds, totals)}, in {(time.monotonic() - begin) / 60:.1f} minutes")
    return 1 if totals.violations else 0


def tell(folder: Path, seed: int, result: Result) -> None:
    """Say what a round has violated, and how to look at it; away with one that has not."""
    if not result.violations:
        shutil.rmtree(folder)
        return
    print(f"seed {seed}:")
    for violation in result.violations:
        print(f"  {violation}")
    print(f"  again: python -m tests.fuzz --rounds 1 --seed {seed}")
    print(f"  look:  python -m tests.fuzz --look {folder}", flush=True)


def told(rounds: int, totals: Result) -> str:
    """Return the totals in words."""
    lives, kills, events, replays, violations = totals
    return (
        f"{rounds} rounds, {lives} lives, {kills} kills, {events} events, {replays} replays, "
        f"{len(violations)} violations"
    )


def show(folder: Path) -> int:
    """Print the log and the side file of a round, and what is wrong with them."""
    with closing(SqliteEventLog(folder / "runs.db", read_only=True)) as log:
        for event in log.read():
            attempt = "" if event.attempt is None else f" {event.attempt}"
            data = {key: value for key, value in event.data.items() if key != "traceback"}
            place = f"{event.vect} {event.step or ''}{attempt}".rstrip()
            print(event.seq, event.time.strftime("%T.%f"), event.name, place, str(data)[:160])
    for line in side(folder):
        print("side:", *line)
    print((folder / "errors").read_text())
    violations = look(folder)
    print("\n".join(violations) or "nothing is wrong with it, as far as it is still there")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
