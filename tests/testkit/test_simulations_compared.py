"""`simulate` held against others: a list scheduler, the real engine, another process, a past run.

The two schedulers below know nothing of oautom: what they say is computed by hand, so to speak.
"""

from __future__ import annotations

import heapq
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oautom import Context, Execution, Flow, OAutom, PythonExecution, SettingError, Vect
from oautom.events.jsonl import to_line
from oautom.testing import check_history, durations, flows, outcomes, simulate

from .test_simulated_runs import flow_of, never, seconds

moderate = settings(deadline=None, max_examples=50)


def lines(vect: Vect) -> list[str]:
    return [to_line(event) for event in vect.events()]


# Against a list scheduler


def ends_of(graph: Any, takes: dict[str, int], workers: int) -> dict[str, int]:
    """Return when each step ends, if the step that was due first gets the first free worker."""
    due = [name for name, upstreams in graph.items() if not upstreams]
    running: list[tuple[int, str]] = []
    ends: dict[str, int] = {}
    now = 0
    while due or running:
        while due and len(running) < workers:
            name = due.pop(0)
            heapq.heappush(running, (now + takes[name], name))
        now, name = heapq.heappop(running)
        ends[name] = now
        due += [
            each
            for each, upstreams in graph.items()
            if name in upstreams and all(upstream in ends for upstream in upstreams)
        ]
    return ends


@moderate
@given(flow=flows(min_steps=1), workers=st.integers(1, 4), data=st.data())
def test_each_step_ends_when_a_list_schedule_says(
    flow: Flow, workers: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(list(flow.steps)))
    takes = {name: 2**i for i, name in enumerate(order)}  # so no two steps end at one instant

    vect = simulate(flow, durations=takes, max_workers=workers, seed=data.draw(st.integers(0, 9)))

    start = vect.events()[0].time
    ends = {step.name: (step.end_date - start).total_seconds() for step in vect.steps.values()}
    assert ends == ends_of(flow.graph.upstreams, takes, workers)
    check_history(vect.events(), flow, max_workers=workers)


@moderate
@given(flow=flows(min_steps=1), data=st.data())
def test_without_a_limit_it_takes_as_long_as_the_longest_path(
    flow: Flow, data: st.DataObject
) -> None:
    takes = data.draw(durations(flow))
    longest: dict[str, int] = {}
    for name, upstreams in flow.graph.upstreams.items():
        longest[name] = takes.get(name, 0) + max((longest[up] for up in upstreams), default=0)

    assert seconds(simulate(flow, durations=takes)) == max(longest.values())


# Against the real engine


@moderate
@given(flow=flows(), data=st.data())
def test_what_is_simulated_is_what_happens(flow: Flow, data: st.DataObject) -> None:
    ends = data.draw(outcomes(flow))

    def work(context: Context) -> Any:
        end = ends.get(context.step)
        if isinstance(end, Exception):
            raise end
        return end

    with OAutom(executor="inline") as app:
        real = Flow("flow", app)
        for name, upstreams in flow.graph.upstreams.items():
            step = PythonExecution(name, real, work)
            step.depends(*(real.steps[upstream] for upstream in upstreams))
        run = app.run(real)

    simulated = simulate(flow, outcomes=ends)
    assert simulated.state == run.state
    for name, step in run.steps.items():
        again = simulated.steps[name]
        assert (step.state, step.attempt) == (again.state, again.attempt)
        assert step.output == again.output
        if step.state == "failed":
            assert step.error == again.error
            failures = simulated._local.failures, run._local.failures
            assert failures[0][name].cause is failures[1][name].cause is ends[name]


# Against itself


PROGRAM = """
from oautom import Flow, OAutom, PythonExecution
from oautom.events.jsonl import to_line
from oautom.testing import simulate

flow = Flow("flow", OAutom())
steps = [PythonExecution(name, flow, print) for name in "abcdefghij"]
steps[:4] >> steps[4]
steps[2:6] >> steps[9]
vect = simulate(flow, seed=7, max_workers=3, outcomes={"f": ValueError("no"), "a": {"b": [1.5]}})
for event in vect.events():
    print(to_line(event))
"""


def test_another_process_makes_the_same_log_byte_for_byte() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": str(number)},
            capture_output=True,
            timeout=60,
            check=True,
        ).stdout
        for number in (1, 2)
    }

    assert len(printed) == 1
    assert printed.pop().count(b"\n") == 22


@moderate
@given(flow=flows(), data=st.data())
def test_the_same_arguments_make_the_same_log(flow: Flow, data: st.DataObject) -> None:
    arguments: dict[str, Any] = {
        "outcomes": data.draw(outcomes(flow)),
        "durations": data.draw(durations(flow)),
        "seed": data.draw(st.integers(0, 99)),
        "max_workers": data.draw(st.none() | st.integers(1, 3)),
    }

    assert lines(simulate(flow, **arguments)) == lines(simulate(flow, **arguments))


@moderate
@given(flow=flows(), data=st.data())
def test_like_a_past_run_is_that_run(flow: Flow, data: st.DataObject) -> None:
    order = data.draw(st.permutations(list(flow.steps)))
    workers = data.draw(st.integers(1, 3))
    past = simulate(
        flow,
        durations={name: 2**i for i, name in enumerate(order)},  # no two end at one instant
        outcomes=data.draw(outcomes(flow)),
        max_workers=workers,
    )

    assert lines(simulate(flow, like=past, max_workers=workers)) == lines(past)


def test_a_real_run_can_be_simulated_with_what_it_failed_of() -> None:
    with OAutom(executor="inline") as app:
        flow = Flow("flow", app)
        PythonExecution("fetch", flow, list, ["abc"]) >> PythonExecution("parse", flow, int, ["x"])
        past = app.run(flow)

    again = simulate(flow, like=past)
    assert again.result("fetch") == ["a", "b", "c"]
    (then, now) = (
        next(event for event in vect.events() if event.name == "step.failed")
        for vect in (past, again)
    )
    assert dict(then.data) == dict(now.data)


# Steps that are polled


class Job(Execution):
    poll_interval = 60.0

    def run(self, context: Context) -> None:
        never()

    def check(self, context: Context) -> bool:
        never()
        return True


def test_a_polled_step_leaves_its_worker_to_others_while_it_waits() -> None:
    flow = Flow("flow", OAutom())
    Job("job", flow)
    PythonExecution("other", flow, never)

    vect = simulate(
        flow, durations={"job": 100, "other": 5}, outcomes={"job": "done"}, max_workers=1
    )

    assert [f"{event.name} {event.step}" for event in vect.events()[2:-1]] == [
        "step.started job",
        "step.started other",
        "step.succeeded other",
        "step.succeeded job",
    ]
    assert vect.result("job") == "done"
    assert seconds(vect) == 120


def test_a_polled_step_that_fails_does_so_when_it_is_told_to() -> None:
    flow = Flow("flow", OAutom())
    Job("job", flow)

    vect = simulate(flow, durations={"job": 100}, outcomes={"job": TimeoutError("no answer")})

    assert (vect.state, seconds(vect)) == ("failed", 100)


# Arguments


def test_a_start_in_another_time_zone_is_the_same_instant_in_utc() -> None:
    start = datetime(2026, 7, 1, 2, tzinfo=timezone(timedelta(hours=2)))

    event = simulate(flow_of("", "a"), start=start).events()[0]
    assert event.time == start
    assert event.time.tzinfo is UTC


def test_ten_thousand_steps_in_a_row_are_no_matter_of_depth() -> None:
    flow = Flow("flow", OAutom())
    steps = [PythonExecution(str(i), flow, never) for i in range(10_000)]
    for before, after in pairwise(steps):
        before >> after

    vect = simulate(flow, durations={step.name: 60 for step in steps})
    assert seconds(vect) == 600_000


def test_a_near_miss_among_names_is_suggested() -> None:
    flow = Flow("flow", OAutom())
    PythonExecution("extract", flow, never)

    with pytest.raises(KeyError, match=r"did you mean 'extract'\?"):
        simulate(flow, outcomes={"extrakt": 1})


@pytest.mark.parametrize(
    "arguments",
    [
        {"durations": {"a": float("inf")}},
        {"outcomes": {"a": ValueError}},  # the class, where an instance is meant
        {"like": "yesterday"},
        {"seed": []},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_an_argument_that_makes_no_sense_is_told(arguments: Any) -> None:
    with pytest.raises(SettingError):
        simulate(flow_of("", "a"), **arguments)
