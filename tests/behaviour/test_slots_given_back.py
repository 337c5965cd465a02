"""A slot of a pool is given back whatever comes at once: a cancel, an answer, a retry."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import Any

import pytest

from oautom import Context, Execution, Flow, MapExecution, OAutom, Pool, PythonExecution
from oautom.events import signals
from oautom.testing import SimulatedClock, check_history

ONE = Pool("one", 1)


class Hands(Executor):
    """Workers that do nothing until they are told to."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Any, Future[Any]]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # it has begun: no cancel takes it back
        self.jobs.append((fn, future))
        return future

    def end_first(self) -> None:
        work, future = self.jobs.pop(0)
        future.set_result(work())


class Job(Execution):
    def run(self, context: Context) -> int:
        return 1

    def check(self, context: Context) -> bool:
        return True


def answer() -> int:
    return 1


def listed() -> list[int]:
    return [1]


def declare_map(name: str, flow: Flow) -> None:
    MapExecution(name, flow, lambda item: item, PythonExecution("list", flow, listed), pool=ONE)


KINDS: dict[str, Any] = {
    "a function": lambda name, flow: PythonExecution(name, flow, answer, pool=ONE),
    "a polled step": lambda name, flow: Job(name, flow, pool=ONE),
    "an instance of a map": declare_map,
}


@pytest.mark.parametrize("is_cancelled_first", [True, False])
@pytest.mark.parametrize("declare", KINDS.values(), ids=KINDS)
def test_a_step_that_is_cancelled_as_it_answers_gives_its_slot_back(
    declare: Any, is_cancelled_first: bool
) -> None:
    """A receiver cancels and has the worker answer: the engine hears both in one tick."""
    hands, clock = Hands(), SimulatedClock()
    with OAutom(executor=hands, max_workers=4, clock=clock) as app:
        flow = Flow("flow", app, max_active_vects=2)
        declare("a", flow)
        other = Flow("other", app)
        PythonExecution("b", other, answer)

        def drive(seconds: float) -> None:
            clock.call_later(seconds, app.stop)
            app.run()

        first = app.start(flow)
        drive(0)
        if "list" in flow.steps:
            hands.end_first()
            drive(0)
        second = app.start(flow)

        def end_first(flow: Flow, event: Any) -> None:
            if is_cancelled_first:
                first.cancel("not wanted")
            hands.end_first()
            first.cancel("not wanted")

        with signals.step_started.connected_to(end_first, sender=other):
            app.start(other)
            drive(0)
        while hands.jobs:
            hands.end_first()
            drive(2)

        assert first.ended
        assert second.state == "success"
        check_history(app.log.read(), max_workers=4)
