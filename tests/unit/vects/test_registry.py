"""The registry of Vects, by hand."""

from __future__ import annotations

from oautom import Flow, MemoryEventLog, PythonExecution
from oautom.vects.registry import Registry
from oautom.vects.run import Run
from tests.kit import NOON, nothing
from tests.kit import Registry as App


def test_a_run_that_was_let_go_twice_comes_back() -> None:
    """As when the tick is taken back in which it was let go of, and is done once more."""
    registry = Registry(MemoryEventLog())
    flow = Flow("flow", App())
    PythonExecution("step", flow, nothing)
    run = Run(flow, "v")
    registry.take(run)
    registry.note_end(run, NOON)
    registry.close(run)
    for _ in range(2):
        left = registry.let_go(["v"], lambda _: False, NOON.replace(year=NOON.year + 1))
    registry.keep(left)

    assert registry.runs == {"v": run}
    assert not registry.leaving
