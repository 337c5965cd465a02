"""Work that travels to a process without the script: what comes along, and what comes back.

The far side is an interpreter of its own, with another working directory, that gets bytes and gives
bytes: as a worker on another machine is.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HEAD = '''
import pickle, subprocess, sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from oautom import Context, Execution, Flow, OAutom, PythonExecution, RetryPolicy, Skip, StepError

FAR = """
import pickle, sys
PREPARE
while True:
    try:
        job = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    pickle.dump(job(), sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""

class Far(Executor):
    """Another machine, which is an interpreter of its own."""

    def __init__(self, prepare=""):
        command = [sys.executable, "-c", FAR.replace("PREPARE", prepare)]
        pipe = subprocess.PIPE
        self.there = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd="/")
        self.threads = ThreadPoolExecutor(1)

    def submit(self, job, *args, **kwargs):
        return self.threads.submit(self.send, job)

    def send(self, job):
        self.there.stdin.write(pickle.dumps(job))
        self.there.stdin.flush()
        return pickle.load(self.there.stdout)

def told(vect):
    for step in vect.steps.values():
        print(step.name, step.state, step.error or "")
'''


def run(tmp_path: Path, program: str, *options: str) -> str:
    path = tmp_path / "script.py"
    path.write_text(HEAD + textwrap.dedent(program))
    command = [sys.executable, *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_lambdas_functions_and_classes_of_the_script_run_there_and_come_back(
    tmp_path: Path,
) -> None:
    program = """
    FACTOR = 6

    class Rows(list):
        def total(self):
            return sum(self) * FACTOR

    class MineError(Exception):
        def __init__(self, code):
            super().__init__(f"code {code}")
            self.code = code

        def __reduce__(self):
            return MineError, (self.code,)

    class Mine(Execution):
        def run(self, context):
            return Rows([context.params.get("n", 7)])

    def fails():
        raise MineError(3)

    def total(context):
        assert isinstance(context.inputs["rows"], Rows)
        return context.inputs["rows"].total()

    def never():
        raise Skip("nothing to do")

    app = OAutom(executor=Far(), max_workers=2)
    flow = Flow("flow", app)
    PythonExecution("lambda", flow, lambda: FACTOR * 7)
    rows = Mine("rows", flow)
    rows >> PythonExecution("total", flow, total)
    PythonExecution("fails", flow, fails)
    policy = RetryPolicy(max_attempts=2, delay=0, retry_on=(MineError,))
    PythonExecution("tried again", flow, fails, retry=policy)
    PythonExecution("never", flow, never)
    PythonExecution("gives", flow, lambda: (lambda: 5))

    @flow.step
    def named() -> int:
        return FACTOR

    named()
    vect = app.run(flow)
    told(vect)
    print(type(vect.result("rows")) is Rows, vect.result("total"), vect.result("gives")())
    cause = vect.steps["fails"].state
    try:
        vect.result("fails")
    except Exception as error:
        print(type(error.__cause__) is MineError, error.__cause__.code)
    print(vect.steps["tried again"].attempt)
    """

    assert run(tmp_path, program).splitlines() == [
        "lambda success ",
        "rows success ",
        "total success ",
        "fails failed MineError: code 3",
        "tried again failed MineError: code 3",
        "never skipped nothing to do",
        "gives success ",
        "named success ",
        "True 42 5",
        "True 3",
        "2",
    ]


@pytest.mark.parametrize(
    ("prepare", "error"),
    [
        (
            "import oautom.steps.work as work; work.versions = lambda: ('9.9.9', '3.99')",
            (
                "step 'a' was sent by oautom {0} on Python {1}, and its worker has oautom 9.9.9 on "
                "Python 3.99; give both the same versions"
            ),
        ),
        (
            "sys.modules['cloudpickle'] = None",
            "the worker of step 'a' has no cloudpickle, which the step came by; install it",
        ),
        (
            "sys.modules['statistics'] = None",
            (
                "the worker of step 'a' has no module 'statistics', which the step is made of; "
                "install it there too, or define what the step needs in the script, and install "
                "cloudpickle"
            ),
        ),
    ],
    ids=["other versions", "no cloudpickle", "a module that is missing"],
)
def test_what_the_far_side_lacks_is_said(tmp_path: Path, prepare: str, error: str) -> None:
    program = f"""
    import statistics
    from oautom.steps.work import versions

    flow = Flow("flow", OAutom(executor=Far({prepare!r})))
    PythonExecution("a", flow, lambda mean: mean([3]), (statistics.mean,))
    told(flow.app.run(flow))
    print(*versions(), sep=",")
    """

    line, theirs = run(tmp_path, program).splitlines()

    assert line == "a failed " + error.format(*theirs.split(","))


def test_other_versions_open_nothing(tmp_path: Path) -> None:
    program = """
    class Bomb:
        def __reduce__(self):
            return exec, ("raise SystemExit('opened')",)

    far = Far("import oautom.steps.work as work; work.versions = lambda: ('9.9.9', '3.99')")
    flow = Flow("flow", OAutom(executor=far))
    PythonExecution("a", flow, print, (Bomb(),), retry=RetryPolicy())
    told(flow.app.run(flow))
    """

    assert "give both the same versions" in run(tmp_path, program)


def test_a_far_side_without_oautom_is_said(tmp_path: Path) -> None:
    program = """
    class Without(Far):
        def send(self, job):
            raise ModuleNotFoundError("No module named 'oautom'", name="oautom")

    flow = Flow("flow", OAutom(executor=Without()))
    PythonExecution("a", flow, print)
    told(flow.app.run(flow))
    """

    assert run(tmp_path, program) == (
        "a failed the workers of the executor have no oautom; install it there, too\n"
    )


def test_without_cloudpickle_here_functions_of_modules_travel_and_the_rest_is_refused(
    tmp_path: Path,
) -> None:
    program = """
    sys.modules["cloudpickle"] = None
    import math

    flow = Flow("flow", OAutom(executor=Far()))
    PythonExecution("module", flow, math.sqrt, (4,))
    PythonExecution("lambda", flow, lambda: 3)
    PythonExecution("script", flow, told, ([],))
    told(flow.app.run(flow))
    """

    module, refused, script = run(tmp_path, program).splitlines()

    assert module == "module success "
    assert refused.startswith("lambda failed the step cannot be sent to another process: ")
    assert refused.endswith("; or install cloudpickle, which can send more")
    assert script.startswith("script failed ")


def test_to_children_of_the_program_what_has_a_name_travels_by_its_name(tmp_path: Path) -> None:
    """They import the script: so a class is the very class there, and its counts are there."""
    program = """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    calls = []

    def count():
        calls.append(1)
        return len(calls)

    class Row:
        pass

    def declare(app):
        flow = Flow(f"flow {len(app.flows())}", app)
        first = PythonExecution("first", flow, count)
        second = PythonExecution("second", flow, count)
        first >> second >> PythonExecution("lambda", flow, lambda: Row())
        return flow

    if __name__ == "__main__":
        spawn = get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            for executor in ("processes", pool):
                with OAutom(executor=executor, max_workers=1) as app:
                    vect = app.run(declare(app))
                    told(vect)
                    print(vect.result("second"), type(vect.result("lambda")) is Row)
    """

    assert (
        run(tmp_path, program).splitlines()
        == [*("first success ", "second success ", "lambda success ", "2 True")] * 2
    )
