"""A step that is tried again until it succeeds, and one whose attempts take too long.

Run it:  python examples/retries.py

A failed step waits without a worker until its delay is over, and the delay outlives the program. A
command that takes too long is ended with all processes that it has started.
"""

from oautom import BashExecution, Context, Event, Flow, OAutom, PythonExecution, RetryPolicy
from oautom.events import signals


def fetch(context: Context) -> str:
    """Fail twice, as a network does; the attempt is known."""
    if context.attempt < 3:
        raise ConnectionError("no route to host")
    return "42 rows"


@signals.step_retried.connect
def tell(flow: Flow, event: Event, **_: object) -> None:
    """Say what went wrong, and that it is not the end."""
    print(f"{event.step}, attempt {event.attempt}: {event.data['error']}")


with OAutom() as app:
    # A tenth of a second, then two: the delay doubles unless `backoff` says otherwise.
    flow = Flow("patient", app, retry=RetryPolicy(max_attempts=3, delay=0.1))
    fetching = PythonExecution("fetch", flow, fetch)

    twice = RetryPolicy(max_attempts=2, delay=0, retry_on=(TimeoutError,))
    slow = BashExecution("slow", flow, "sleep 60 & wait", timeout=0.2, retry=twice)
    BashExecution("wrong", flow, "exit 3", retry=twice)  # not worth a second attempt
    fetching >> slow

    vect = app.run(flow)

for step in vect.steps.values():
    print(step.name, step.state, step.attempt, step.output or step.error)
