"""Where a step runs: the workers that an argument asks for, and how each kind does its work."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from typing import Any

import pytest

from oautom import SettingError
from oautom.workers import make_workers
from oautom.workers.base import NotBegunError, WorkLostError
from oautom.workers.futures import FutureWorkers
from oautom.workers.inline import InlineWorkers
from oautom.workers.threads import ThreadWorkers

SECONDS = 10
"""Where a test waits for a thread, it waits at the longest so long."""


class Job:
    """Work, as the runner hands it over."""

    def __init__(self, function: Any = None) -> None:
        self.function = function

    def __call__(self) -> Any:
        return self.function() if self.function else "done"

    def on_cancel(self, stopper: Any) -> bool:
        return True


class Answers:
    """Takes what workers answer, on any thread."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, Any]] = []
        self._came = threading.Condition()

    def __call__(self, answer: Any, failure: BaseException | None) -> None:
        with self._came:
            self.all.append((answer, failure))
            self._came.notify_all()

    def wait(self, count: int) -> list[tuple[Any, Any]]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.all) >= count, SECONDS)
        return self.all


class HandExecutor(Executor):
    """A user's executor of which nothing is known."""

    def __init__(self) -> None:
        self.futures: list[tuple[Any, Future[Any]]] = []
        self.error: BaseException | None = None
        self.is_shut = False

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.error is not None:
            raise self.error
        future: Future[Any] = Future()
        self.futures.append((function, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.is_shut = True


def raise_(error: BaseException) -> Any:
    raise error


# What the argument asks for


def test_each_name_asks_for_its_workers() -> None:
    assert isinstance(make_workers("threads", None), ThreadWorkers)
    assert isinstance(make_workers("inline", None), InlineWorkers)
    assert make_workers("processes", 3).place == "elsewhere"
    assert isinstance(make_workers(HandExecutor(), None), FutureWorkers)


def test_so_many_are_at_work_as_was_said() -> None:
    assert make_workers("threads", 7).slots == 7
    assert make_workers("processes", 7).slots == 7
    assert make_workers("inline", None).slots == make_workers("inline", 1).slots == 1
    assert make_workers(HandExecutor(), 7).slots == 7


def test_unless_said_an_executor_of_the_library_tells_how_many_it_has() -> None:
    with ThreadPoolExecutor(3) as threads, ProcessPoolExecutor(2) as processes:
        assert make_workers(threads, None).slots == 3
        assert make_workers(processes, None).slots == 2
        assert make_workers(threads, 9).slots == 9


def test_only_the_threads_of_this_process_are_known_to_be_here() -> None:
    with ThreadPoolExecutor(1) as threads, ProcessPoolExecutor(1) as processes:
        assert make_workers(threads, None).place == "threads"
        assert make_workers(processes, None).place == "elsewhere"
        assert make_workers(HandExecutor(), None).place == "elsewhere"


@pytest.mark.parametrize("executor", ["thread", "", None, 5, ThreadPoolExecutor, object()])
def test_an_unknown_executor_is_refused_with_those_that_are_known(executor: Any) -> None:
    with pytest.raises(SettingError) as caught:
        make_workers(executor, None)

    assert str(caught.value) == (
        "executor must be 'threads', 'inline', 'processes', a concurrent.futures.Executor or a "
        "distributed.Client, "
        f"not {executor!r}"
    )


@pytest.mark.parametrize("executor", ["threads", "inline", "processes", HandExecutor()])
@pytest.mark.parametrize("count", [0, -1, 1.5, "4"])
def test_a_wrong_number_of_workers_is_refused(executor: Any, count: Any) -> None:
    with pytest.raises(SettingError, match="max_workers must be a positive int or None, not "):
        make_workers(executor, count)


def test_inline_there_is_one_at_a_time() -> None:
    with pytest.raises(SettingError, match=r"^executor 'inline' does one step at a time, not 2$"):
        make_workers("inline", 2)


# Inline


def test_inline_work_is_kept_until_the_scheduler_asks_for_the_oldest() -> None:
    workers, answers, done = InlineWorkers(), Answers(), []
    for number in range(3):
        workers.submit(Job(lambda number=number: done.append(number) or number), answers)
    assert done == answers.all == []

    workers.run_next()
    assert (done, answers.all) == ([0], [(0, None)])

    workers.run_next()
    workers.run_next()
    workers.run_next()  # there is none left
    assert answers.all == [(0, None), (1, None), (2, None)]


def test_inline_it_is_known_whether_a_step_has_the_thread() -> None:
    workers, seen = InlineWorkers(), []
    workers.submit(Job(lambda: seen.append(workers.is_running)), Answers())

    assert not workers.is_running
    workers.run_next()

    assert seen == [True]
    assert not workers.is_running


def test_inline_an_interrupt_is_an_answer_and_the_thread_is_free_again() -> None:
    workers, answers = InlineWorkers(), Answers()
    workers.submit(Job(lambda: raise_(KeyboardInterrupt())), answers)

    workers.run_next()

    ((answer, failure),) = answers.all
    assert answer is None
    assert isinstance(failure, KeyboardInterrupt)
    assert not workers.is_running


def test_inline_what_has_not_begun_is_forgotten_by_a_close() -> None:
    workers, answers = InlineWorkers(), Answers()
    workers.submit(Job(), answers)
    workers.close()

    workers.run_next()

    assert answers.all == []


# Threads


@pytest.fixture
def threads():
    workers = ThreadWorkers(3)
    yield workers
    workers.close()


def worker_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("oautom-worker")]


def test_a_thread_answers_with_what_the_work_gave_or_raised(threads: ThreadWorkers) -> None:
    answers, error = Answers(), ValueError("mine")
    threads.submit(Job(), answers)
    answers.wait(1)
    threads.submit(Job(lambda: raise_(error)), answers)

    assert answers.wait(2) == [("done", None), (None, error)]


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), GeneratorExit()])
def test_a_thread_outlives_whatever_the_work_raises(threads: ThreadWorkers, error) -> None:
    answers = Answers()
    threads.submit(Job(lambda: raise_(error)), answers)
    answers.wait(1)
    threads.submit(Job(), answers)

    assert answers.wait(2) == [(None, error), ("done", None)]


def test_as_much_is_done_at_once_as_there_are_slots_and_no_more(threads: ThreadWorkers) -> None:
    answers, together = Answers(), threading.Barrier(3, timeout=SECONDS)
    for _ in range(6):  # each waits for two others, so three are at work at once
        threads.submit(Job(together.wait), answers)

    assert sorted(answer for answer, _ in answers.wait(6)) == [0, 0, 1, 1, 2, 2]
    assert threads._threads == 3


def test_threads_that_were_free_are_not_counted_on_twice(threads: ThreadWorkers) -> None:
    answers, together = Answers(), threading.Barrier(3, timeout=SECONDS)
    threads.submit(Job(), answers)
    answers.wait(1)
    for _ in range(3):  # one of them goes to the thread that is free, the others need new ones
        threads.submit(Job(together.wait), answers)

    assert sorted(answer for answer, _ in answers.wait(4)[1:]) == [0, 1, 2]


def test_a_thread_that_is_free_is_used_again(threads: ThreadWorkers) -> None:
    answers = Answers()
    for count in range(1, 21):
        threads.submit(Job(threading.get_ident), answers)
        answers.wait(count)

    assert len({ident for ident, _ in answers.all}) == 1


def test_threads_do_not_hold_the_program(threads: ThreadWorkers) -> None:
    answers = Answers()
    threads.submit(Job(lambda: threading.current_thread().daemon), answers)

    assert answers.wait(1) == [(True, None)]


def test_an_idle_thread_keeps_nothing_alive(threads: ThreadWorkers) -> None:
    class Big:
        pass

    answers, big = Answers(), Big()
    seen = weakref.ref(big)
    threads.submit(Job(lambda big=big: None), answers)
    del big
    answers.wait(1)
    for _ in range(1000):  # until the thread has come round to wait for more
        gc.collect()
        if seen() is None:
            break
        threading.Event().wait(0.001)

    assert seen() is None


def test_a_close_ends_the_threads_when_their_work_is_done() -> None:
    before = set(worker_threads())
    workers, answers, go = ThreadWorkers(2), Answers(), threading.Event()
    workers.submit(Job(lambda: go.wait(SECONDS)), answers)
    workers.submit(Job(lambda: go.wait(SECONDS)), answers)
    mine = set(worker_threads()) - before
    assert len(mine) == 2

    workers.close()
    go.set()
    for thread in mine:
        thread.join(SECONDS)

    assert not any(thread.is_alive() for thread in mine)
    assert answers.all == [(True, None), (True, None)]


# The user's own executor


def test_the_user_s_executor_is_given_the_work() -> None:
    executor, answers, job = HandExecutor(), Answers(), Job()
    FutureWorkers(executor, 2).submit(job, answers)

    ((given, future),) = executor.futures
    assert given.job is job
    future.set_result("answer")
    assert answers.all == [("answer", None)]


@pytest.mark.parametrize("error", [ValueError("theirs"), SystemExit(), KeyboardInterrupt()])
def test_an_error_of_the_executor_is_an_answer(error: BaseException) -> None:
    executor, answers = HandExecutor(), Answers()
    FutureWorkers(executor, 2).submit(Job(), answers)

    executor.futures[0][1].set_exception(error)

    assert answers.all == [(None, error)]


def test_a_future_that_is_cancelled_is_an_answer() -> None:
    executor, answers = HandExecutor(), Answers()
    FutureWorkers(executor, 2).submit(Job(), answers)

    executor.futures[0][1].cancel()

    ((answer, failure),) = answers.all
    assert answer is None
    assert type(failure).__name__ == "CancelledError"


def test_an_executor_that_takes_no_work_is_an_answer() -> None:
    executor, answers = HandExecutor(), Answers()
    executor.error = RuntimeError("cannot schedule new futures after shutdown")

    FutureWorkers(executor, 2).submit(Job(), answers)

    assert answers.all == [(None, executor.error)]


def test_the_user_s_executor_is_never_shut_down() -> None:
    executor = HandExecutor()
    workers = FutureWorkers(executor, 2)

    workers.run_next()
    workers.close()

    assert not executor.is_shut


# Futures that are taken back, what an executor is told, and executors that break


class Cancelled(Job):
    """A job that can be cancelled, and asks for something."""

    def __init__(self, **submit: Any) -> None:
        super().__init__()
        self.submit = submit
        self.stoppers: list[Any] = []

    def on_cancel(self, stopper: Any) -> bool:
        self.stoppers.append(stopper)
        return True

    def cancel(self) -> list[Any]:
        return [stopper() for stopper in self.stoppers]


def test_a_future_that_has_not_begun_is_taken_back() -> None:
    executor, answers, job = HandExecutor(), Answers(), Cancelled()
    FutureWorkers(executor, 2).submit(job, answers)

    assert job.cancel() == [True]

    ((_, future),) = executor.futures
    assert future.cancelled()
    ((answer, failure),) = answers.all
    assert (answer, type(failure)) == (None, NotBegunError)
    assert str(failure) == "the step was cancelled before it began"


def test_a_future_that_has_begun_cannot_be_and_the_cancel_is_told_so() -> None:
    executor, answers, job = HandExecutor(), Answers(), Cancelled()
    FutureWorkers(executor, 2).submit(job, answers)
    ((_, future),) = executor.futures
    future.set_running_or_notify_cancel()

    assert job.cancel() == [False]
    assert not answers.all
    future.set_result(3)
    assert answers.all == [(3, None)]


def test_a_cancel_of_somebody_else_s_is_an_error() -> None:
    executor, answers = HandExecutor(), Answers()
    FutureWorkers(executor, 2).submit(Cancelled(), answers)
    executor.futures[0][1].cancel()

    ((_, failure),) = answers.all
    assert isinstance(failure, CancelledError)


class Asking(HandExecutor):
    """An executor that can be told something with each job."""

    def submit(  # type: ignore[override]
        self, function: Any, /, *args: Any, resource_dict: Any = None, **kwargs: Any
    ) -> Future[Any]:
        future = super().submit(function)
        self.futures[-1] = (resource_dict, future)
        return future


def test_what_a_step_asks_for_goes_to_an_executor_that_knows_it() -> None:
    executor, answers = Asking(), Answers()
    workers = FutureWorkers(executor, 2)
    workers.submit(Cancelled(resource_dict={"cores": 2}), answers)
    workers.submit(Cancelled(), answers)
    workers.submit(Cancelled(resource_dict={}, gpu=1), answers)

    assert [told for told, _ in executor.futures] == [{"cores": 2}, None]
    ((_, failure),) = answers.all
    assert isinstance(failure, NotBegunError)
    assert str(failure) == (
        "its submit has 'gpu', which the Asking does not know; it knows 'resource_dict'"
    )


def test_an_executor_that_knows_nothing_is_told_nothing() -> None:
    executor, answers = HandExecutor(), Answers()
    FutureWorkers(executor, 2).submit(Cancelled(gpu=1), answers)

    assert len(executor.futures) == 1


def broken() -> BrokenExecutor:
    return BrokenExecutor("a worker\nhas died.")


def lost(answers: Answers, count: int) -> list[tuple[str, bool]]:
    failures = [failure for _, failure in answers.wait(count)]
    assert all(isinstance(each, WorkLostError) for each in failures)
    return [(str(each), each.is_worker) for each in failures]  # type: ignore[union-attr]


def test_a_broken_executor_has_lost_all_that_it_had_and_is_dead_then() -> None:
    executor, answers = HandExecutor(), Answers()
    workers, changes = FutureWorkers(executor, 2), []
    workers.on_change = lambda: changes.append((workers.problem, workers.is_dead, len(answers.all)))
    for _ in range(2):
        workers.submit(Cancelled(), answers)
    for _, future in executor.futures:
        future.set_exception(broken())

    what = "the HandExecutor is broken: a worker has died"
    assert lost(answers, 2) == [(what, False), (what, False)]  # nobody knows which
    assert changes == [(what, False, 0), (what, True, 2)]
    assert not executor.is_shut  # it is the user's


def test_a_broken_executor_that_had_one_job_tells_that_it_was_that_job() -> None:
    executor, answers = HandExecutor(), Answers()
    FutureWorkers(executor, 2).submit(Cancelled(), answers)
    executor.futures[0][1].set_exception(broken())

    assert lost(answers, 1)[0][1]


def test_an_executor_that_is_broken_already_begins_nothing() -> None:
    executor, answers = HandExecutor(), Answers()
    executor.error = broken()
    workers = FutureWorkers(executor, 2)
    workers.submit(Cancelled(), answers)

    assert lost(answers, 1) == [("the HandExecutor is broken: a worker has died", False)]
    assert workers.is_dead


class Making:
    """A function that makes executors: each is what the test has put there."""

    def __init__(self, *made: Any) -> None:
        self.left = list(made)
        self.count = 0
        self.may = threading.Event()
        self.may.set()

    def __call__(self) -> Any:
        assert self.may.wait(SECONDS)
        self.count += 1
        made = self.left.pop(0)
        if isinstance(made, BaseException):
            raise made
        return made


def until(is_so: Any) -> None:
    for _ in range(SECONDS * 1000):
        if is_so():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it never came")


def test_an_executor_is_made_when_there_is_work_and_once() -> None:
    executor = HandExecutor()
    make, answers = Making(executor), Answers()
    workers = FutureWorkers(make, None, 5)
    assert (make.count, workers.slots, workers.place) == (0, 5, "elsewhere")
    executor._max_workers = 3  # type: ignore[attr-defined]

    for _ in range(2):
        workers.submit(Cancelled(), answers)
    until(lambda: len(executor.futures) == 2)

    assert (make.count, workers.slots, workers.problem) == (1, 3, None)
    workers.close()
    assert executor.is_shut


def test_what_is_cancelled_while_the_executor_is_made_does_not_begin() -> None:
    executor = HandExecutor()
    make, answers, job = Making(executor), Answers(), Cancelled()
    make.may.clear()
    workers = FutureWorkers(make, 2)
    workers.submit(job, answers)

    assert job.cancel() == [True]
    assert isinstance(answers.all[0][1], NotBegunError)
    make.may.set()
    workers.submit(Cancelled(), answers)
    until(lambda: executor.futures)
    assert len(executor.futures) == 1


def test_an_executor_that_cannot_be_made_is_told_and_made_later() -> None:
    executor = HandExecutor()
    make, answers = Making(OSError("no route"), "no executor", executor), Answers()
    workers, problems = FutureWorkers(make, 2), []
    workers.on_change = lambda: problems.append(workers.problem)
    workers.submit(Cancelled(), answers)

    assert lost(answers, 1) == [("no executor can be made: no route", False)]
    until(lambda: len(problems) == 3)
    assert problems == [
        "no executor can be made: no route",
        "no executor can be made: the function has returned 'no executor'",
        None,
    ]
    workers.submit(Cancelled(), answers)
    assert len(executor.futures) == 1


def test_another_executor_is_made_for_a_broken_one_and_is_tried_with_one_job() -> None:
    first, second = HandExecutor(), HandExecutor()
    make, answers = Making(first, second), Answers()
    workers = FutureWorkers(make, 2)
    for _ in range(2):
        workers.submit(Cancelled(), answers)
    until(lambda: len(first.futures) == 2)
    for _, future in first.futures:
        future.set_exception(broken())
    assert [is_worker for _, is_worker in lost(answers, 2)] == [False, False]
    assert first.is_shut
    assert workers.slots == 1

    workers.submit(Cancelled(), answers)
    until(lambda: second.futures)
    assert workers.slots == 1
    second.futures[0][1].set_result(1)

    assert workers.slots == 2
    assert not workers.is_dead
    assert workers.problem is None


def test_one_that_is_broken_when_it_is_made_is_made_again_after_a_while() -> None:
    first, second = HandExecutor(), HandExecutor()
    first.error = RuntimeError("cannot schedule new futures after shutdown")
    make, answers = Making(first, second), Answers()
    workers, problems = FutureWorkers(make, 2), []
    workers.on_change = lambda: problems.append(workers.problem)
    workers.submit(Cancelled(), answers)

    what = "the HandExecutor is broken: cannot schedule new futures after shutdown"
    assert lost(answers, 1) == [(what, False)]
    until(lambda: problems[-1:] == [None] and what in problems)
    workers.submit(Cancelled(), answers)
    until(lambda: second.futures)


def test_a_close_while_an_executor_is_made_shuts_it_down() -> None:
    executor = HandExecutor()
    make = Making(executor)
    make.may.clear()
    workers = FutureWorkers(make, 2)
    workers.submit(Cancelled(), Answers())
    workers.close()
    make.may.set()

    until(lambda: executor.is_shut)
    assert not executor.futures


@pytest.mark.parametrize("executor", [lambda n: n, type("Mine", (), {}), print.__class__])
def test_a_function_that_needs_an_argument_and_a_class_make_no_executor(executor: Any) -> None:
    with pytest.raises(SettingError, match=r"executor must be 'threads'"):
        make_workers(executor, None)


def test_a_function_that_makes_an_executor_is_taken() -> None:
    assert isinstance(make_workers(lambda: HandExecutor(), 3), FutureWorkers)
