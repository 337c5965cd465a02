"""Why is a step not running? `explain` answers for each step of a flow, in one sentence.

Run it:  python examples/explain.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from oautom import (
    ApprovalExecution,
    BashExecution,
    Flow,
    OAutom,
    PythonExecution,
    RetryPolicy,
    Vect,
)


def tell(vect: Vect, title: str) -> None:
    """Print why each step is, or is not, running."""
    print(f"-- {title}")
    for name in vect.steps:
        print("  ", vect.explain(name))


def drive(vect: Vect, step: str, state: str) -> None:
    """Let the engine go on until a step is in a state."""
    while vect.steps[step].state != state:
        try:
            vect.wait(0.01)
        except TimeoutError:
            continue


def main(folder: Path) -> None:
    """Run a flow whose first step fails once, and whose last one waits for a person."""
    with OAutom() as app:
        flow = Flow("import", app)
        extract = BashExecution(
            "extract",
            flow,
            "test -e second || { touch second; echo 'no route to host'; exit 7; }",
            cwd=folder,
            retry=RetryPolicy(max_attempts=5, delay=0.5),
        )
        load = PythonExecution("load", flow, lambda: 7)
        gate = ApprovalExecution("gate", flow, "publish 7 rows?")
        extract >> load >> gate
        vect = app.start(flow)

        tell(vect, "before anybody drives")
        drive(vect, "extract", "up_for_retry")
        tell(vect, "the first attempt has failed")
        drive(vect, "gate", "running")
        tell(vect, "a person is asked")
        vect.reject("gate", by="Ada", reason="there should be 8")
        vect.wait()
        tell(vect, "the end")


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        main(Path(name))
