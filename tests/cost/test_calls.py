"""What a step costs, counted and not timed: function calls and bytes are the same on any machine.

The figures below stand for the engine as it is. A change that makes a step dearer fails here, and
so does one that makes it cheaper, so that the record follows it. To renew it, print the figures
anew with each Python that is named in it (any that has the dependencies of oautom), and copy them:

    venv3/bin/python tests/cost/test_calls.py
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import pytest

from oautom import Flow, OAutom, PythonExecution

RECORD: dict[str, dict[tuple[int, int], float]] = {
    "chain": {(3, 11): 133.1},
    "layers": {(3, 11): 162.9},
    "chain in a file": {(3, 11): 226.7},
}
"""For each shape, by the version of Python: calls a step, of Python and of C functions together."""

MORE, LESS = 0.05, 0.15
"""How far the figures may be from the record."""

STEPS = 500
BYTES_A_STEP = 1536


def nothing() -> None:
    """Do what the steps of these flows do."""


def chain(app: OAutom, steps: int) -> Flow:
    flow = Flow("chain", app=app)
    last = None
    for i in range(steps):
        step = PythonExecution(f"step {i}", flow, nothing)
        if last is not None:
            step.depends(last)
        last = step
    return flow


def layers(app: OAutom, steps: int) -> Flow:
    """Declare layers of 25 steps, each of which waits for three of the layer above."""
    flow = Flow("layers", app=app)
    above: list[PythonExecution] = []
    for first in range(0, steps, 25):
        layer = [PythonExecution(f"step {first + i}", flow, nothing) for i in range(25)]
        for i, step in enumerate(layer):
            step.depends(*{above[(i + shift) % 25] for shift in (0, 1, 7) if above})
        above = layer
    return flow


SHAPES: dict[str, Callable[[OAutom, int], Flow]] = {"chain": chain, "layers": layers}


def count_calls(work: Callable[[], object]) -> int:
    """Return how many functions `work` calls, those of Python and those of C."""
    calls = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        if event in ("call", "c_call"):
            calls += 1

    was_enabled = gc.isenabled()
    gc.disable()  # a collection calls whoever listens to it, as Hypothesis does
    try:
        sys.setprofile(count)
        work()
    finally:
        sys.setprofile(None)
        if was_enabled:
            gc.enable()
    return calls


def calls_of_run(shape: str, steps: int, path: Path | None = None) -> int:
    """Return how many functions are called by an inline run, the declaration left out."""
    with OAutom(executor="inline", log=path) as app:
        flow = SHAPES[shape](app, steps)
        app.vects()  # the log is open, and its file is made
        calls = count_calls(lambda: app.run(flow))
        assert app.vects()[0].state == "success"
    return calls


@pytest.fixture(autouse=True)
def _no_other_profiler() -> None:
    if sys.getprofile() is not None:
        pytest.skip("another profiler is at work")


@pytest.mark.parametrize("record", RECORD)
def test_a_step_calls_as_many_functions_as_recorded(record: str, tmp_path: Path) -> None:
    recorded = RECORD[record].get(sys.version_info[:2])
    if recorded is None:
        pytest.skip(f"nothing is recorded for Python {sys.version_info[0]}.{sys.version_info[1]}")
    shape, _, is_durable = record.partition(" in a ")
    calls = calls_of_run(shape, STEPS, tmp_path / "runs.db" if is_durable else None) / STEPS
    assert calls <= recorded * (1 + MORE), f"a step has become dearer: {calls:.1f} calls"
    assert calls >= recorded * (1 - LESS), f"a step has become cheaper: record {calls:.1f} calls"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_of_twice_the_steps_calls_twice_the_functions(shape: str) -> None:
    ratio = calls_of_run(shape, 2000) / calls_of_run(shape, 1000)
    assert ratio == pytest.approx(2.0, rel=0.03)


def test_twice_the_runs_call_twice_the_functions() -> None:
    """A program that runs a flow each minute for a year must not slow down by it."""

    def calls_of_runs(runs: int) -> int:
        with OAutom(executor="inline") as app:
            flow = chain(app, 1)

            def run_all() -> None:
                for _ in range(runs):
                    app.run(flow)

            return count_calls(run_all)

    assert calls_of_runs(200) / calls_of_runs(100) == pytest.approx(2.0, rel=0.03)


def bytes_of_run(steps: int) -> float:
    """Return how many bytes a step of a chain takes once it has run, its events included."""
    with OAutom(executor="inline") as app:
        flow = chain(app, steps)
        gc.collect()
        tracemalloc.start()
        try:
            vect = app.run(flow)
            gc.collect()
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert vect.state == "success"
        assert app.log.last_seq == 2 * steps + 3
    return size / steps


@pytest.mark.skipif(tracemalloc.is_tracing(), reason="something else traces memory")
def test_a_step_and_its_events_take_little_memory() -> None:
    assert bytes_of_run(20_000) <= BYTES_A_STEP


if __name__ == "__main__":
    for name in RECORD:
        version = ", ".join(map(str, sys.version_info[:2]))
        shape, _, is_durable = name.partition(" in a ")
        with TemporaryDirectory() as folder:
            path = Path(folder, "runs.db") if is_durable else None
            print(f'"{name}": ({version}): {calls_of_run(shape, STEPS, path) / STEPS:.1f}')  # noqa: T201
    print(f"bytes a step: {bytes_of_run(20_000):.0f}")  # noqa: T201
