"""A kind of step of your own: it waits for a file that another program writes.

Run it:  python examples/own_execution.py

`run` begins the work, or does nothing if the work is done elsewhere. The engine then calls `check`
every `poll_interval` seconds, and the step takes no worker while it waits.
"""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from oautom import Context, Execution, Flow, OAutom, PythonExecution


class FileExecution(Execution):
    """A step that is done when a file is there; its output is the path of the file."""

    poll_interval = 0.1

    def __init__(self, name: str, flow: Flow, path: Path) -> None:
        super().__init__(name, flow)
        self.path = path

    def run(self, context: Context) -> Path:
        """Return the output of the step; it has it when `check` says that it is done."""
        context.log.info("waiting for %s", self.path.name)
        return self.path

    def check(self, context: Context) -> bool:
        """Tell whether the step is done."""
        return self.path.exists()


def read(context: Context) -> str:
    """Read the file that the step before has waited for."""
    path: Path = context.inputs["arrival"]
    return path.read_text(encoding="utf-8").strip()


with TemporaryDirectory() as folder:
    app = OAutom()
    flow = Flow("letter", app)
    arrival = FileExecution("arrival", flow, Path(folder, "letter.txt"))
    reading = PythonExecution("reading", flow, read)
    arrival >> reading

    # Somebody else. A file that appears by `mv` is whole from the start.
    command = "sleep 0.5; echo 'Dear reader' > draft; mv draft letter.txt"
    with subprocess.Popen(["bash", "-c", command], cwd=folder):
        vect = app.run(flow)
    print(vect.steps["arrival"].log_text, end="")
    print(vect.state, "-", vect.result("reading"))
