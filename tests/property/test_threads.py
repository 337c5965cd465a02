"""Real threads, a background engine, cancels at any moment: the same claims as by hand."""

from __future__ import annotations

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from oautom import Context, Flow, OAutom, OAutomMode, PythonExecution
from oautom.events import replay
from oautom.machine.tables import STEP_ENDS

from .cases import FlowPlan, few, flow_plans
from .driver import plain
from .test_history import by_vect, places

MILLISECONDS = st.integers(0, 3)


@few
@given(
    flow_plans(),
    st.lists(MILLISECONDS, min_size=7, max_size=7),
    st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=3),
    st.integers(1, 4),
)
def test_whenever_a_vect_is_cancelled_its_log_is_one_that_can_be(
    plan: FlowPlan, durations: list[int], cancels: list[int | None], workers: int
) -> None:
    running = 0
    most = 0
    lock = threading.Lock()

    def work(step: int, context: Context) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        context.cancelled.wait(durations[step] / 1000)
        with lock:
            running -= 1

    with OAutom(mode=OAutomMode.background, executor="threads", max_workers=workers) as app:
        flow = Flow("flow", app=app, max_active_vects=len(cancels))
        steps = [PythonExecution(str(i), flow, work, (i,)) for i in range(plan.steps)]
        for upstream, step in plan.edges:
            steps[upstream] >> steps[step]
        vects = [app.start(flow) for _ in cancels]
        for _, vect in sorted((after, i) for i, after in enumerate(cancels) if after is not None):
            time.sleep((cancels[vect] or 0) / 1000)
            vects[vect].cancel("enough")
        for vect, after in zip(vects, cancels, strict=True):
            state = vect.wait(timeout=10)
            assert state == "success" or (after is not None and state == "cancelled")
    events = list(app.log.read())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    folded = replay(events)
    for vect in vects:
        assert plain(folded[vect.id].facts()) == plain(vect._run.state.facts())
    assert most <= workers
    for _, own in by_vect(events):
        end = next(i for i, e in enumerate(own) if e.step is None and e.dest in STEP_ENDS)
        assert {event.name for event in own[end + 1 :]} <= {"step.late_result"}
        for place in places(own, "step.started"):
            assert not any(event.name.endswith("cancelled") for event in own[:place])
            done = {event.step for event in own[:place] if event.name == "step.succeeded"}
            assert set(plan.upstreams[own[place].step or ""]) <= done
