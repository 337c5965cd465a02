"""Work that an executor has lost: the attempt is interrupted, and its step runs again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    BashExecution,
    Context,
    Execution,
    Flow,
    MapExecution,
    OAutom,
    OAutomMode,
    Pool,
    PythonExecution,
    RetryPolicy,
    SettingError,
    Skip,
    StepFailedError,
    Vect,
    WaitExecution,
)
from oautom.events import replay
from oautom.events.subscribers import log_events
from oautom.testing import WorkLostError, assert_replays, check_history, explore, simulate
from oautom.workers.base import Done, Job, Workers

from .conftest import SECONDS, NewApp

DIED = WorkLostError("worker 3 has died", is_worker=True)
GONE = WorkLostError("the scheduler does not answer")


@pytest.fixture
def flow() -> Flow:
    return Flow("flow", OAutom())


def told(vect: Vect, step: str | None = None) -> list[str]:
    events = vect.events()
    return [
        f"{event.name.partition('.')[2]} {event.attempt}" for event in events if event.step == step
    ]


def check(vect: Vect, flow: Flow) -> None:
    """Check that the log is sound, that today decides the same, and that each prefix has a fold."""
    events = vect.events()
    check_history(events, flow)
    assert_replays(vect, flow)
    for event in events:
        replay(events, event.seq)


# What the engine decides


def test_a_step_runs_again_and_uses_up_no_retry(flow: Flow) -> None:
    policy = RetryPolicy(max_attempts=2, delay=7, jitter=0)
    step = PythonExecution("a", flow, print, retry=policy)
    step >> PythonExecution("b", flow, print)
    ends = [GONE, DIED, ValueError("no route"), GONE, 5]

    vect = simulate(flow, outcomes={"a": ends}, durations={"a": 1})

    assert vect.state == "success"
    assert vect.result("a") == 5
    assert told(vect, "a") == [
        *("started 1", "interrupted 1", "started 2", "interrupted 2", "started 3", "retried 3"),
        *("released None", "started 4", "interrupted 4", "started 5", "succeeded 5"),
    ]
    assert [dict(e.data) for e in vect.events() if e.name == "step.interrupted"] == [
        {"reason": "the scheduler does not answer"},
        {"reason": "worker 3 has died", "worker": True},
        {"reason": "the scheduler does not answer"},
    ]
    taken = (vect.events()[-1].time - vect.events()[0].time).total_seconds()
    assert taken == 5 + 7  # no delay but that of the retry
    assert [each.state for each in vect.steps["a"].attempts] == [
        *("interrupted", "interrupted", "failed", "interrupted", "success")
    ]
    assert vect.steps["a"].attempts[0].error == "the scheduler does not answer"
    check(vect, flow)


def test_a_step_that_may_not_run_twice_has_failed(flow: Flow) -> None:
    policy = RetryPolicy(max_attempts=5)
    PythonExecution("a", flow, print, on_crash="fail", retry=policy)

    vect = simulate(flow, outcomes={"a": [GONE, None]})

    error = "its work was lost (the scheduler does not answer), and on_crash is 'fail'"
    assert told(vect, "a") == ["started 1", "failed 1"]
    assert dict(vect.events()[3].data) == {"error": error, "lost": True}
    with pytest.raises(StepFailedError, match="its work was lost"):
        vect.result("a")
    check(vect, flow)


TEN = (
    "10 workers in a row were lost with the work of step 'a', the last one: worker 3 has died; it "
    "may be what ends them: see how much memory it takes, and what its native code does"
)


@pytest.mark.parametrize(
    ("ends", "error"),
    [
        ([DIED] * 10, TEN),
        ([*[DIED] * 9, GONE, GONE, DIED], TEN),
        ([*[DIED] * 9, None], None),
        ([*[DIED] * 9, ValueError("no"), *[DIED] * 9, None], None),
        ([*[GONE] * 30, None], None),
    ],
    ids=["ten", "ten, and others between", "nine", "nine twice", "many others"],
)
def test_a_step_that_may_end_its_workers_has_failed(
    flow: Flow, ends: list[Any], error: str | None
) -> None:
    PythonExecution("a", flow, print, retry=RetryPolicy(max_attempts=3, delay=0))

    vect = simulate(flow, outcomes={"a": ends})

    assert vect.steps["a"].error == error
    assert vect.steps["a"].attempt == len(ends)
    check(vect, flow)


def test_a_retry_of_the_vect_begins_a_new_row(flow: Flow) -> None:
    """As it does after failures."""
    PythonExecution("a", flow, print)
    app = flow.app
    vect = simulate(flow, outcomes={"a": [*[DIED] * 10, None]})
    assert vect.state == "failed"

    vect.retry()

    assert vect.wait(SECONDS)
    assert vect.state == "success"
    assert app is flow.app
    check_history(vect.events(), flow)


def test_what_undoes_a_step_runs_again_whatever_on_crash_is(flow: Flow) -> None:
    step = PythonExecution("a", flow, print, compensate=print, on_crash="fail")
    step >> PythonExecution("bad", flow, print)
    ends = {"bad": ValueError("no"), "a.compensate": [DIED, GONE, Skip("gone already")]}

    vect = simulate(flow, outcomes=ends, durations={"a.compensate": 1})

    assert told(vect, "a")[2:] == [
        *("compensating 1", "compensation_interrupted 1", "compensating 2"),
        *("compensation_interrupted 2", "compensating 3", "compensated 3"),
    ]
    assert [each.state for each in vect.steps["a"].attempts] == [
        *("success", "interrupted", "interrupted", "success")
    ]
    check(vect, flow)


def test_what_undoes_a_step_fails_with_the_tenth_worker(flow: Flow) -> None:
    policy = RetryPolicy(max_attempts=3)
    step = PythonExecution("a", flow, print, compensate=print, retry=policy)
    step >> PythonExecution("bad", flow, print)

    vect = simulate(flow, outcomes={"bad": ValueError("no"), "a.compensate": DIED})

    assert told(vect, "a")[-2:] == ["compensating 10", "compensation_failed 10"]
    assert "10 workers in a row" in vect.explain("a")
    check(vect, flow)


def test_a_step_whose_work_was_lost_may_have_done_half_of_it(flow: Flow) -> None:
    """So it is undone where one that has not begun is not."""
    PythonExecution("a", flow, print, compensate=print, on_crash="fail")

    vect = simulate(flow, outcomes={"a": [GONE, None]})

    assert told(vect, "a")[-2:] == ["compensating 1", "compensated 1"]
    check(vect, flow)


def test_instances_of_a_map_keep_their_limit(flow: Flow) -> None:
    items = PythonExecution("items", flow, list)
    MapExecution("each", flow, str, items, max_parallel=1, pool=Pool("one", 1))

    vect = simulate(flow, outcomes={"items": [["a", "b", "c"]], "each": [DIED, GONE, "done"]})

    assert vect.result("each") == ["done"] * 3
    check(vect, flow)


class Polled(Execution):
    poll_interval = 5

    def run(self, context: Context) -> str:
        return "job 1"

    def check(self, context: Context) -> bool:
        return True


def test_a_polled_step_begins_anew(flow: Flow) -> None:
    Polled("a", flow)

    vect = simulate(flow, outcomes={"a": [GONE, "job 1"]}, durations={"a": 12})

    assert told(vect, "a") == ["started 1", "interrupted 1", "started 2", "succeeded 2"]
    check(vect, flow)


def test_every_order_of_a_race_with_a_loss_ends_alike(flow: Flow) -> None:
    for name in "ab":
        PythonExecution(name, flow, print) >> PythonExecution(f"after {name}", flow, print)

    assert len(explore(flow, outcomes={"a": [DIED, GONE, None], "b": [GONE, None]}).ends) == 1


@pytest.mark.parametrize("moment", ["before", "in", "after"])
@pytest.mark.parametrize("number", range(1, 12))
def test_a_death_at_any_moment_around_a_loss(flow: Flow, moment: Any, number: int) -> None:
    first = PythonExecution("a", flow, print, compensate=print)
    first >> PythonExecution("b", flow, print, on_crash="fail")
    ends = {"a": [DIED, GONE, None], "b": GONE, "a.compensate": [GONE, DIED, None]}
    ends["b"] = [GONE, GONE, GONE, None]  # type: ignore[assignment]

    vect = simulate(flow, outcomes=ends, durations={"a": 1, "b": 1}, crash_at=(moment, number))

    assert vect.state == "failed"
    check(vect, flow)


def test_losses_where_nothing_can_be_lost_are_refused(flow: Flow) -> None:
    WaitExecution("a", flow, seconds=1)

    with pytest.raises(SettingError, match=r"outcomes\['a'\] has a loss, and the step has no work"):
        simulate(flow, outcomes={"a": [DIED, None]})


def test_losses_without_an_end_are_refused(flow: Flow) -> None:
    PythonExecution("a", flow, print)

    with pytest.raises(SettingError, match=r"outcomes\['a'\] ends with a loss"):
        simulate(flow, outcomes={"a": GONE})


def test_a_past_run_is_simulated_without_its_losses(flow: Flow) -> None:
    """As it is without the deaths of its program."""
    PythonExecution("a", flow, print)
    past = simulate(flow, outcomes={"a": [GONE, 7]}, durations={"a": [50, 3]})

    vect = simulate(flow, like=past)

    assert vect.result("a") == 7
    assert told(vect, "a") == ["started 1", "succeeded 1"]
    assert (vect.events()[-1].time - vect.events()[0].time).total_seconds() == 3


def test_a_changed_on_crash_is_told_by_a_replay(flow: Flow) -> None:
    PythonExecution("a", flow, print)
    vect = simulate(flow, outcomes={"a": [GONE, None]})
    today = Flow("flow", OAutom())
    PythonExecution("a", today, print, on_crash="fail")

    with pytest.raises(AssertionError, match=r"now: step\.failed of 'a'"):
        assert_replays(vect, today)


def test_a_line_of_the_log_says_what_was_lost(flow: Flow, caplog: pytest.LogCaptureFixture) -> None:
    PythonExecution("a", flow, print)
    vect = simulate(flow, outcomes={"a": [GONE, None]})
    caplog.set_level(logging.DEBUG)

    for event in vect.events():
        log_events(flow, event)

    (line,) = (each for each in caplog.records if "interrupted" in each.message)
    assert line.levelname == "WARNING"
    assert line.message.endswith("step 'a' interrupted: the scheduler does not answer")


# With workers that lose what they are given


class Losing(Workers):
    """Workers that begin nothing by themselves.

    Attributes:
        jobs: What was submitted and has no answer yet.
    """

    place = "elsewhere"
    slots = 2

    def __init__(self) -> None:
        self.jobs: list[tuple[Job, Done]] = []
        self.has_more = threading.Condition()

    def submit(self, job: Job, done: Done) -> None:
        with self.has_more:
            self.jobs.append((job, done))
            self.has_more.notify_all()

    def next(self) -> tuple[Job, Done]:
        with self.has_more:
            assert self.has_more.wait_for(lambda: self.jobs, SECONDS), "no job was submitted"
            return self.jobs.pop(0)

    def lose(self, loss: WorkLostError = GONE) -> Job:
        job, done = self.next()
        done(None, loss)
        return job

    def do(self) -> Job:
        job, done = self.next()
        done(job(), None)
        return job

    def have_trouble(self, problem: str | None) -> None:
        self.problem = problem
        self.on_change()


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Losing]:
    workers = Losing()
    monkeypatch.setattr("oautom.app.make_workers", lambda executor, max_workers: workers)
    return workers


@pytest.fixture
def live(new_app: NewApp, workers: Losing, tmp_path: Path) -> Flow:
    return Flow("live", new_app(OAutomMode.background, log=tmp_path / "runs.db"))


def until(is_so: Callable[[], bool]) -> None:
    wait = threading.Event()
    for _ in range(SECONDS * 1000):
        if is_so():
            return
        wait.wait(0.001)
    raise AssertionError("it never came")


def test_it_runs_again_with_a_name_of_its_own_and_says_how_often(
    live: Flow, workers: Losing
) -> None:
    PythonExecution("a", live, lambda: 7)
    vect = live.app.start(live)

    names = [workers.lose(DIED).name, workers.lose(GONE).name]

    until(lambda: vect.steps["a"].attempt == 3)
    assert "(attempt 3); its work was lost 2 times before (the scheduler does not answer)" in (
        vect.explain("a")
    )
    names.append(workers.do().name)
    assert vect.wait(SECONDS)
    assert vect.result("a") == 7
    assert len(set(names)) == 3
    check_history(live.app.log.read(), live)


def test_the_text_of_a_lost_attempt_stays(live: Flow, workers: Losing) -> None:
    PythonExecution("a", live, print, ("again",))
    vect = live.app.start(live)
    job, done = workers.next()
    job.hear((0).to_bytes(8, "big") + b"half of it\n")

    done(None, GONE)
    workers.do()

    assert vect.wait(SECONDS)
    assert [each.log_text for each in vect.steps["a"].attempts] == ["half of it\n", "again\n"]


def test_what_was_cancelled_is_over_though_it_is_lost(live: Flow, workers: Losing) -> None:
    PythonExecution("a", live, print)
    vect = live.app.start(live)
    _, done = workers.next()
    vect.cancel("it is late")

    done(None, GONE)

    assert vect.wait(SECONDS)
    until(lambda: vect.events()[-1].name == "step.late_result")
    assert dict(vect.events()[-1].data) == {
        "error": "the scheduler does not answer",
        "lost": True,
    }
    assert vect.state == "cancelled"
    check_history(live.app.log.read(), live)


def test_a_check_that_is_lost_interrupts_its_attempt(live: Flow, workers: Losing) -> None:
    step = Polled("a", live)
    step.poll_interval = 0.0
    vect = live.app.start(live)

    workers.do()
    assert workers.lose().name.endswith("/1/check")
    workers.do()
    assert workers.do().name.endswith("/2/check")

    assert vect.wait(SECONDS)
    assert vect.result("a") == "job 1"
    check_history(live.app.log.read(), live)


def test_nothing_is_given_to_workers_with_a_problem(live: Flow, workers: Losing) -> None:
    first = PythonExecution("a", live, print)
    first >> PythonExecution("b", live, print)
    workers.have_trouble("the Dask scheduler tcp://10.0.0.1:8786 does not answer")
    vect = live.app.start(live)

    told = "waits for the workers: the Dask scheduler tcp://10.0.0.1:8786 does not answer"
    until(lambda: vect.explain("a") == f"`a` {told}")
    assert vect.explain("b") == "`b` waits for `a`, which waits for the workers"
    assert not workers.jobs
    workers.have_trouble(None)
    workers.do()
    _, done = workers.next()
    workers.have_trouble("the Dask scheduler tcp://10.0.0.1:8786 does not answer")
    done(None, GONE)
    why = "the scheduler does not answer"
    until(lambda: vect.explain("b") == f"`b` lost its work in attempt 1 ({why}), and {told}")
    assert not workers.jobs
    workers.have_trouble(None)
    workers.do()
    assert vect.wait(SECONDS)
    check_history(live.app.log.read(), live)


def test_a_step_with_a_class_of_the_error_fails_as_with_any_other(
    live: Flow, workers: Losing
) -> None:
    """Only workers can say that work was lost."""

    def raises() -> None:
        raise WorkLostError("mine", is_worker=True)

    PythonExecution("a", live, raises)
    vect = live.app.start(live)

    workers.do()

    assert vect.wait(SECONDS)
    assert vect.steps["a"].error == "WorkLostError: mine"


def test_a_command_stays_here_and_waits_with_the_others(live: Flow, workers: Losing) -> None:
    """It takes one of the same slots."""
    BashExecution("a", live, "true")
    workers.have_trouble("nobody answers")
    vect = live.app.start(live)

    until(lambda: vect.explain("a") == "`a` waits for the workers: nobody answers")
    workers.have_trouble(None)

    assert vect.wait(SECONDS)
    assert vect.state == "success"
