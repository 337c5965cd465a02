"""Steps on a Dask cluster: the engine is here, and the work is on the workers of the cluster.

Run it:  python examples/cluster.py

The cluster is made here, of two processes of this machine. For one that you have, leave it out and
write `Client("tcp://scheduler:8786")`; nothing else changes.
"""

import os

from distributed import Client, LocalCluster

from oautom import BashExecution, Context, Flow, MapExecution, OAutom, PythonExecution

STEP = 2_500


def starts() -> list[int]:
    """Return where the parts begin."""
    return list(range(0, 10_000, STEP))


def primes(item: int, context: Context) -> int:
    """Count the primes in one part, unless the step is cancelled meanwhile."""
    context.log.info("from %d on, in process %d", item, os.getpid())
    found = 0
    for number in range(max(item, 2), item + STEP):
        if context.cancelled.is_set():
            break
        found += all(number % each for each in range(2, int(number**0.5) + 1))
    return found


if __name__ == "__main__":
    with (
        LocalCluster(n_workers=2, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        OAutom(executor=client) as app,
    ):
        flow = Flow("primes", app)
        parts = PythonExecution("parts", flow, starts)
        count = MapExecution("count", flow, primes, over=parts)
        total = PythonExecution("total", flow, sum, (count,))
        # Not here, where a command runs by default: on a worker.
        show = BashExecution(
            "show", flow, 'echo "$TOTAL primes below 10000"', env={"TOTAL": total}, place="worker"
        )
        vect = app.run(flow)
        print(vect.state, "-", vect.result(show))
        print(vect.steps["count[0]"].log_text.split(",")[0])
