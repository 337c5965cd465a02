"""A real cluster that dies: `python -m tests.cluster --flows 200 --seed 1`, or `make cluster`.

Runs each scenario once: in the first one workers, then the scheduler, then the network of hosts
die; in the second one the program does. A campaign with violations is kept.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from .campaign import SCENARIOS, Result, campaign
from .plans import drawn


def main() -> int:
    """Run the scenarios, and tell what there was."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--flows", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20, help="of each flow")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--scenario", choices=SCENARIOS, help="Default: one after the other")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidies up, as Ctrl-C does
    folder = Path(tempfile.mkdtemp(prefix="oautom-cluster-"))
    print(f"seed {options.seed}, in {folder}", flush=True)
    is_bad = False
    try:
        for name in [options.scenario] if options.scenario else SCENARIOS:
            disturb, rarely = SCENARIOS[name]
            plan = drawn(options.seed, options.flows, options.steps, rarely=rarely)
            result = campaign(folder / name, plan, disturb, options.seed)
            print(f"{name}: {told(result)}", flush=True)
            for violation in result.violations:
                print(f"  {violation}", flush=True)
            is_bad = is_bad or bool(result.violations)
            if not result.violations:
                shutil.rmtree(folder / name)
    finally:  # after Ctrl-C too
        if not is_bad:
            shutil.rmtree(folder)
    return 1 if is_bad else 0


def told(result: Result) -> str:
    """Return figures in words."""
    found, weights = result.figures, result.megabytes
    quarters = [f"{weights[len(weights) * i // 4]:.0f}" for i in range(4)] if weights else []
    return (
        f"on {result.where}, {result.kills} kills, {result.cuts} cuts, {result.deaths} processes "
        f"of the cluster ended, {found.successes} steps, {found.attempts} attempts, "
        f"{found.interruptions} interruptions, {found.begun} begun on workers, {found.beside} "
        f"beside a lost one, {result.seconds:.1f} s, memory of the program "
        f"{', '.join([*quarters, f'{weights[-1]:.0f}'])} MB, {len(result.violations)} violations"
    )


if __name__ == "__main__":
    sys.exit(main())
