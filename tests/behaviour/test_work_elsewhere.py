"""Workers elsewhere: what a step tells its executor, and what earlier programs have left there."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from oautom import (
    BashExecution,
    BranchExecution,
    Context,
    Execution,
    Flow,
    FlowError,
    MapExecution,
    OAutom,
    OAutomMode,
    Pool,
    PythonExecution,
    WaitExecution,
)
from oautom.steps.work import told_by_name
from oautom.testing import check_history
from oautom.workers.base import Done, Job, Workers, WorkLostError

from .conftest import SECONDS, NewApp


class Cluster(Workers):
    """Workers of a cluster, which does each job at once on a thread, and tells what it is asked.

    Attributes:
        jobs: The jobs that it was given, in order.
        at_work: What earlier programs have left there, by the names of the jobs.
        refusals: How often it does not know what is at work.
    """

    place = "elsewhere"
    slots = 2

    def __init__(self, **at_work: Future[Any]) -> None:
        self.jobs: list[Job] = []
        self.at_work: Mapping[str, Future[Any]] = at_work
        self.refusals = 0
        self.asked: list[str] = []

    def submit(self, job: Job, done: Done) -> None:
        self.jobs.append(job)
        threading.Thread(target=lambda: done(job(), None)).start()

    def left(self, log_id: str) -> Mapping[str, Future[Any]]:
        self.asked.append(log_id)
        if self.refusals:
            self.refusals -= 1
            self.have_trouble("the cluster does not answer")
            raise WorkLostError("the cluster does not answer")
        return self.at_work

    def have_trouble(self, problem: str | None) -> None:
        self.problem = problem
        self.on_change()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """What each app of the test has as its workers."""
    cluster = Cluster()
    monkeypatch.setattr("oautom.app.make_workers", lambda executor, max_workers: cluster)
    return cluster


def until(is_so: Callable[[], bool]) -> None:
    end = monotonic() + SECONDS
    while not is_so():
        assert monotonic() < end, "it never came"
        sleep(0.001)


# What a step tells the executor


def test_what_a_step_tells_its_executor_comes_with_its_work(
    new_app: NewApp, cluster: Cluster
) -> None:
    flow = Flow("flow", new_app())
    told = {"resources": {"GPU": 1}}
    PythonExecution("gpu", flow, len, ([],), submit=told)
    plain = PythonExecution("plain", flow, list, ("ab",))
    plain.depends(flow.steps["gpu"])
    MapExecution("items", flow, str, over=plain, submit={"workers": ["a"]})
    told["resources"] = {}

    vect = flow.app.run(flow)

    assert vect.state == "success"
    assert [dict(job.submit) for job in cluster.jobs] == [
        {"resources": {"GPU": 1}},
        {},
        {"workers": ["a"]},
        {"workers": ["a"]},
    ]
    assert "submit" not in str([event.data for event in vect.events()])


def test_what_undoes_a_step_runs_where_the_step_does(new_app: NewApp, cluster: Cluster) -> None:
    flow = Flow("flow", new_app())
    made = PythonExecution("made", flow, len, ([],), submit={"queue": "big"}, compensate=print)
    made >> PythonExecution("bad", flow, int, ("x",))

    flow.app.run(flow)

    assert [dict(job.submit) for job in cluster.jobs] == [{"queue": "big"}, {}, {"queue": "big"}]


@pytest.mark.parametrize("executor", ["threads", "inline", "processes"])
def test_executors_of_this_machine_leave_it_out(new_app: NewApp, executor: Any) -> None:
    flow = Flow("flow", new_app(executor=executor))
    PythonExecution("a", flow, len, ([],), submit={"resources": {"GPU": 1}})
    BashExecution("b", flow, "echo 1", submit={"resources": {"GPU": 1}})

    assert flow.app.run(flow).state == "success"


@pytest.mark.parametrize(
    ("submit", "error"),
    [
        ("gpu", "submit must be a mapping, not 'gpu'; submit={'resources': {'GPU': 1}}"),
        ([("gpu", 1)], "submit must be a mapping, not [('gpu', 1)]; "),
        ({1: 2}, "submit must have names as its keys, not 1; "),
        ({"": 2}, "submit must have names as its keys, not ''; "),
    ],
)
def test_what_no_executor_can_be_told_is_refused(submit: Any, error: str) -> None:
    flow = Flow("flow", OAutom())

    with pytest.raises(FlowError) as caught:
        PythonExecution("a", flow, print, submit=submit)

    assert error in str(caught.value)
    assert (caught.value.flow, caught.value.step) == ("flow", "a")


def test_it_is_read_only() -> None:
    step = PythonExecution("a", Flow("flow", OAutom()), print, submit={"a": 1})

    assert step.submit == {"a": 1}
    with pytest.raises(TypeError):
        step.submit["b"] = 2  # type: ignore[index]


def test_a_job_has_a_name_of_its_own_whatever_its_step_is_called(
    new_app: NewApp, cluster: Cluster, tmp_path: Path
) -> None:
    flow = Flow("a/b", new_app(log=tmp_path / "runs.db"))
    PythonExecution("c/d %2F", flow, len, ([],))
    flow.app.run(flow, vect_id="v")

    assert told_by_name(cluster.jobs[0].name) == ("a/b", ("v", "c/d %2F", 1))
    assert cluster.jobs[0].name.startswith(f"{flow.app.log.id}/a%2Fb/v/")
    assert told_by_name("something of somebody else's") is None


# What earlier programs have left at work


def leave(path: Path, cluster: Cluster, pool: Pool | None = None) -> str:
    """Leave a Vect open whose step 'slow' runs, and return the name of its job."""
    begun, end = threading.Event(), threading.Event()

    def slow(context: Context) -> None:
        begun.set()
        assert context.cancelled.wait(SECONDS)

    with OAutom(OAutomMode.background, log=path) as app:
        declare(app, slow, pool)
        app.start("flow", vect_id="v")
        assert begun.wait(SECONDS)
    end.set()
    (job,) = (job for job in cluster.jobs if "/slow/" in job.name)
    return job.name


def declare(app: OAutom, slow: Any, pool: Pool | None = None) -> Flow:
    flow = Flow("flow", app)
    PythonExecution("slow", flow, slow, pool=pool)
    PythonExecution("beside", flow, len, ([],))
    return flow


def test_a_step_waits_for_what_a_dead_program_has_left_of_it(
    new_app: NewApp, cluster: Cluster, tmp_path: Path
) -> None:
    path = tmp_path / "runs.db"
    left: Future[Any] = Future()
    cluster.at_work = {leave(path, cluster): left, "somebody else's": Future()}
    cluster.jobs.clear()
    app = new_app(OAutomMode.background, log=path)
    declare(app, lambda: "again")
    beside = Flow("other", app)
    PythonExecution("other", beside, len, ([],))

    (vect,) = app.recover()
    app.run(beside)

    assert vect.steps["slow"].state == "pending"
    assert vect.explain("slow") == (
        "`slow` was cut short in attempt 1 by the end of its program, and waits for the end of its "
        "attempt 1, which is at work still"
    )
    assert "slow" not in [told_by_name(job.name)[1][1] for job in cluster.jobs]  # type: ignore[index]
    left.set_result(None)
    assert vect.wait(SECONDS)
    assert vect.result("slow") == "again"
    check_history(app.log.read())


def test_what_is_over_already_is_not_waited_for(
    new_app: NewApp, cluster: Cluster, tmp_path: Path
) -> None:
    path = tmp_path / "runs.db"
    over: Future[Any] = Future()
    over.set_exception(OSError())
    cluster.at_work = {leave(path, cluster): over}
    app = new_app(log=path)
    declare(app, lambda: "again")

    assert app.run("flow", vect_id="v").result("slow") == "again"


def test_what_was_left_keeps_its_slot_of_a_pool(
    new_app: NewApp, cluster: Cluster, tmp_path: Path
) -> None:
    path, pool = tmp_path / "runs.db", Pool("one", 1)
    left: Future[Any] = Future()
    cluster.at_work = {leave(path, cluster, pool): left}
    app = new_app(OAutomMode.background, log=path)
    declare(app, lambda: "again", pool)
    other = Flow("other", app)
    PythonExecution("other", other, len, ([],), pool=pool)

    (old,) = app.recover()
    vect = app.start(other)

    until(lambda: "slot" in vect.explain("other"))
    assert vect.explain("other") == "`other` waits for a slot: the only slot of pool `one` is taken"
    left.set_result(None)
    assert vect.wait(SECONDS)
    assert old.wait(SECONDS)


def test_nothing_starts_before_it_is_known_what_was_left(
    new_app: NewApp, cluster: Cluster, tmp_path: Path
) -> None:
    path = tmp_path / "runs.db"
    left: Future[Any] = Future()
    cluster.at_work = {leave(path, cluster): left}
    cluster.jobs.clear()
    cluster.asked.clear()
    cluster.refusals = 1
    app = new_app(OAutomMode.background, log=path)
    declare(app, lambda: "again")

    (vect,) = app.recover()

    told = "waits for the workers: the cluster does not answer"
    assert cluster.asked == [app.log.id]
    until(lambda: told in vect.explain("slow"))
    assert not cluster.jobs
    cluster.have_trouble(None)
    until(lambda: "attempt 1, which is at work still" in vect.explain("slow"))
    assert cluster.asked == [app.log.id] * 2
    left.set_result(None)
    assert vect.wait(SECONDS)
    assert vect.result("slow") == "again"


# Outputs that stay in a cluster


@pytest.mark.parametrize("executor", ["threads", "inline", "processes"])
def test_executors_that_cannot_keep_an_output_hand_it_on(new_app: NewApp, executor: Any) -> None:
    flow = Flow("flow", new_app(executor=executor), params={"items": list[int]})
    made = PythonExecution("made", flow, str, ("ab",), keep_remote=True)
    each = MapExecution("each", flow, str, over=flow.param("items"), keep_remote=True)
    sized = PythonExecution("sized", flow, len, (made,))
    vect = flow.app.run(flow, {"items": [1, 2]})

    assert (vect.result(made), vect.result(each), vect.result(sized)) == ("ab", ["1", "2"], 2)
    assert "keep_remote" not in str([event.data for event in vect.events()])


@pytest.mark.parametrize("value", [{"kept_remote": 1}, {"kept_remote": {"key": "a"}}])
def test_an_output_that_only_resembles_a_handle_is_a_value(new_app: NewApp, value: Any) -> None:
    flow = Flow("flow", new_app(executor="inline"))
    made = PythonExecution("made", flow, lambda: value)
    taken = PythonExecution("taken", flow, dict, (made,))
    vect = flow.app.run(flow)

    assert vect.result(made) == vect.result(taken) == value


class Polled(Execution):
    def run(self, context: Context) -> int:
        return 1

    def check(self, context: Context) -> bool:
        return True


@pytest.mark.parametrize(
    ("declare", "error"),
    [
        (
            lambda flow: PythonExecution("a", flow, print, keep_remote="yes"),
            "keep_remote must be True or False, not 'yes'",
        ),
        (
            lambda flow: Polled("a", flow, keep_remote=True),
            "keep_remote is not for a step with check(), which needs the output of run(); ",
        ),
        (
            lambda flow: WaitExecution("a", flow, seconds=1, keep_remote=True),
            "keep_remote is for steps whose output only other steps need, not for one of the ",
        ),
        (
            lambda flow: BranchExecution("a", flow, lambda: "b", keep_remote=True),
            "keep_remote is for steps whose output only other steps need, not for one of the ",
        ),
        (
            lambda flow: MapExecution(
                "a", flow, str, PythonExecution("list", flow, list, keep_remote=True)
            ),
            "its list is an output of step 'list', which stays in the cluster by keep_remote; ",
        ),
    ],
)
def test_an_output_that_cannot_stay_elsewhere_is_refused(declare: Any, error: str) -> None:
    with pytest.raises(FlowError, match=re.escape(error)) as caught:
        declare(Flow("flow", OAutom()))

    assert (caught.value.flow, caught.value.step) == ("flow", "a")
