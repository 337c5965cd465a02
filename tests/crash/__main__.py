"""The long form: `python -m tests.crash --rounds 300 --seed 1`, or `make crash`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from .harness import campaign
from .plans import drawn


def main() -> int:
    """Run rounds, and tell how many of what there were."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first round")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="oautom-crash-"))
    totals = {"rounds": 0, "lives": 0, "kills": 0, "violations": 0}
    print(f"seed {options.seed}, in {folder}", flush=True)
    for _, result in campaign(folder, options.seed, options.rounds, drawn, print):
        totals["rounds"] += 1
        totals["lives"] += result.lives
        totals["kills"] += result.kills
        totals["violations"] += len(result.violations)
        if totals["rounds"] % 20 == 0:
            print(totals, flush=True)
    print(", ".join(f"{count} {what}" for what, count in totals.items()))
    return 1 if totals["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
