"""Steps that run flows, whose steps run flows, on few workers: all end, however they are nested."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from oautom import Flow, FlowExecution, OAutom, OAutomMode, PythonExecution
from oautom.audit.invariants import check_history

SECONDS = 20
Way = Literal["run", "several", "await", "child", "timeout"]


class Nest:
    """A flow, and by its steps the flows that they run, each in a way of its own."""

    def __init__(self, steps: list[tuple[Way, Nest | None]]) -> None:
        self.steps = steps

    def __repr__(self) -> str:
        return repr(self.steps)


ways = st.sampled_from(["run", "several", "await", "child", "timeout"])
nests = st.recursive(
    st.just(Nest([("run", None)])),
    lambda inner: st.lists(st.tuples(ways, st.none() | inner), min_size=1, max_size=3).map(Nest),
    max_leaves=8,
)


class Crew:
    """Counts the plain steps that are at work and do not wait."""

    def __init__(self) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def add(self, change: int) -> None:
        with self._lock:
            self._now += change
            self.most = max(self.most, self._now)


def declare(app: OAutom, nest: Nest, crew: Crew, name: str) -> Flow:
    flow = Flow(name, app, max_active_vects=1000)
    for number, (way, inner) in enumerate(nest.steps):
        runs = None if inner is None else declare(app, inner, crew, f"{name}/{number}")
        add_step(app, flow, str(number), way, runs, crew)
    return flow


def add_step(app: OAutom, flow: Flow, name: str, way: Way, runs: Flow | None, crew: Crew) -> None:
    def step() -> None:
        crew.add(1)
        if runs is not None:
            vects = [app.start(runs) for _ in range(2 if way == "several" else 1)]
            crew.add(-1)
            if way == "timeout":  # it goes on in time even where its slot is not free: one more
                with suppress(TimeoutError):
                    vects[0].wait(0.001)
                return
            for vect in vects:
                vect.wait()
            crew.add(1)
        crew.add(-1)

    async def async_step() -> None:
        await asyncio.sleep(0)
        if runs is not None:
            await app.start(runs)

    if way == "child" and runs is not None:
        FlowExecution(name, flow, runs=runs)
    else:
        PythonExecution(name, flow, async_step if way == "await" else step)


@given(nest=nests, workers=st.integers(1, 3), mode=st.sampled_from(OAutomMode))
@settings(max_examples=60, deadline=None)
def test_all_end_and_no_more_run_than_there_are_workers(
    nest: Nest, workers: int, mode: OAutomMode
) -> None:
    crew = Crew()
    with OAutom(mode, max_workers=workers) as app:
        vect = app.start(declare(app, nest, crew, "f"))

        assert vect.wait(SECONDS) == "success"
        for each in app.vects():
            assert each.wait(SECONDS) == "success"
        assert crew.most <= workers
        check_history(app.log.read())
