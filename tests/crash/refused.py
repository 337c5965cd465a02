"""A program of which strace has system calls fail: it runs a flow of two steps.

It waits before that, so that the calls are counted from the first that oautom makes, and not from
the first of Python. Exit code 0: the Vects have ended; 3: an error of oautom's was told.
"""

from __future__ import annotations

import sys
from pathlib import Path

import oautom as o
import oautom.events.sqlite
from tests.outside import BASH_HEAD, at_work

SECONDS = 60.0


def run(folder: Path, vects: list[str]) -> None:
    """Run the flow in a folder, once for each id."""
    retry = o.RetryPolicy(max_attempts=3, delay=0)

    def work(context: o.Context) -> str:
        with at_work(folder, context):
            return f"{context.inputs['bash']} and more"

    with o.OAutom(o.OAutomMode.background, log=folder / "runs.db", max_workers=2) as app:
        flow = o.Flow("flow", app)
        command = f"cd {folder} || exit; {BASH_HEAD} echo said"
        bash = o.BashExecution("bash", flow, command, retry=retry, timeout=SECONDS)
        bash >> o.PythonExecution("python", flow, work, retry=retry, timeout=SECONDS)
        for vect in vects:
            app.start(flow, vect_id=vect).wait(SECONDS)


def main() -> int:
    """Say that all is imported, wait for a line, and go on."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    try:
        run(Path(sys.argv[1]), sys.argv[2:])
    except o.OAutomError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
