"""One call of a step and its outcome, in this process or another; whatever the step raises."""

from __future__ import annotations

import asyncio
import gc
import pickle
from typing import Any

import pytest

from oautom import Context, Execution, Flow, PythonExecution, RetryPolicy
from oautom.steps.work import Outcome, StepError, Work, unpack
from oautom.values.json import to_json
from oautom.workers.inline import InlineWorkers
from tests.kit import Registry

CONTEXT = ("f", "v", "a", 1, {})


def work(function: Any, *args: Any, context: Context | None = None) -> Work:
    step = PythonExecution("a", Flow("f", Registry()), function, args)
    return Work(step, context or Context(*CONTEXT))


def elsewhere(work: Work) -> Outcome:
    """Do the work as another process would: all that travels is bytes."""
    return unpack(pickle.loads(pickle.dumps(work))())


def raise_(error: BaseException) -> None:
    raise error


def raise_made(make: int) -> None:
    raise HOSTILE[make]()


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class NoTextError(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class ManyArgumentsError(Exception):
    """Can be pickled, and not be unpickled: its __init__ takes more than its args."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("never leaves this process")


class UnpicklableError(Exception, Unpicklable):
    __reduce__ = Unpicklable.__reduce__


class Bomb:
    """Can be pickled anywhere, and be unpickled nowhere."""

    def __reduce__(self) -> Any:
        return raise_, (SystemExit("unpickled"),)


def give_unpicklable() -> Unpicklable:
    return Unpicklable()


def give_bomb() -> Bomb:
    return Bomb()


def raise_unpicklable() -> None:
    raise UnpicklableError("mine")


def log_and_fail(context: Context) -> None:
    context.log.info("before it broke")
    raise ValueError("mine")


async def give_later() -> str:
    return "later"


async def fail_later() -> None:
    raise ValueError("later")


both_places = pytest.mark.parametrize(
    "place", [Work.__call__, elsewhere], ids=["here", "elsewhere"]
)


@both_places
def test_what_the_step_returns_is_the_output(place) -> None:
    outcome = place(work(dict, [("a", 1)]))

    assert (outcome.output, outcome.error, outcome.cause) == ({"a": 1}, None, None)


@both_places
def test_an_async_function_is_run_to_its_end(place) -> None:
    assert place(work(give_later)).output == "later"
    assert place(work(fail_later)).error == "ValueError: later"


@both_places
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no"), "ValueError: no"),
        (ValueError(), "ValueError"),
        (KeyError("k"), "KeyError: 'k'"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (MemoryError(), "MemoryError"),
        (
            UnprintableError(),
            "UnprintableError: (its message cannot be printed: KeyboardInterrupt)",
        ),
        (NoTextError(), "NoTextError: (its message cannot be printed: TypeError)"),
        (ExceptionGroup("two", [ValueError("1"), OSError("2")]), "ExceptionGroup: two (2 sub-"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_the_step_raises_is_its_failure(place, error, told) -> None:
    outcome = place(work(raise_, error))

    assert outcome.error is not None
    assert outcome.error.startswith(told)
    assert outcome.output is None
    assert outcome.facts["error_type"] == type(error).__name__
    assert "raise_" in outcome.facts["traceback"]
    assert type(outcome.cause) is type(error)


def raise_many_arguments() -> None:
    raise ManyArgumentsError("one", "two")


@both_places
def test_an_exception_that_could_not_be_unpacked_is_told_all_the_same(place) -> None:
    outcome = place(work(raise_many_arguments))

    assert outcome.error == "ManyArgumentsError: one"
    assert outcome.facts["error_type"] == "ManyArgumentsError"


def test_the_cause_is_the_very_exception_where_it_is_at_hand() -> None:
    error = ValueError("mine")

    assert work(raise_, error)().cause is error


@both_places
def test_an_error_is_told_in_one_line(place) -> None:
    outcome = place(work(raise_, ValueError("first line\nsecond line")))

    assert outcome.error is not None
    assert len(outcome.error.splitlines()) == 1
    assert outcome.error.startswith("ValueError: first line")


@both_places
def test_endless_recursion_fails_the_step_and_nothing_else(place) -> None:
    outcome = place(work(endless))

    assert outcome.error is not None
    assert outcome.error.startswith("RecursionError: maximum recursion depth exceeded")


def endless() -> None:
    endless()


@both_places
def test_a_step_error_speaks_for_itself_and_brings_its_details(place) -> None:
    outcome = place(work(raise_step_error))

    assert outcome.error == "exited with code 3"
    assert outcome.details == {"exit_code": 3}
    assert isinstance(outcome.cause, StepError)


def raise_step_error() -> None:
    raise StepError("exited with code 3", exit_code=3)


@pytest.mark.filterwarnings("ignore:coroutine 'give_later' was never awaited")
def test_an_async_function_is_run_to_its_end_where_a_loop_runs_already() -> None:
    # as in a notebook: the step is done inline, on the thread of the notebook's own loop
    async def cell() -> tuple[Any, str | None]:
        outcome = work(give_later)()
        return outcome.output, outcome.error

    told = asyncio.run(cell())
    gc.collect()  # so that a coroutine nobody awaits complains here, and in no other test

    assert told == ("later", None)


def test_check_is_called_with_the_same_context_as_run() -> None:
    class Polled(Execution):
        def run(self, context: Context) -> str:
            return "run"

        def check(self, context: Context) -> bool:
            return context is here

    here = Context(*CONTEXT)
    step = Polled("a", Flow("f", Registry()))

    assert Work(step, here, "run")().output == "run"
    assert Work(step, here, "check")().output is True


def test_what_is_logged_elsewhere_comes_back_even_of_a_failure() -> None:
    outcome = elsewhere(work(log_and_fail))

    assert outcome.log == (0, b"INFO before it broke\n")
    assert outcome.error == "ValueError: mine"


def test_what_is_logged_here_is_not_told_twice() -> None:
    here = Context(*CONTEXT)

    assert work(log_and_fail, context=here)().log == (0, b"")
    assert here.buffer.text() == "INFO before it broke\n"


def test_an_output_that_cannot_travel_fails_the_step_and_says_so() -> None:
    outcome = elsewhere(work(give_unpicklable))

    assert outcome.output is None
    assert outcome.error == (
        "the output cannot be sent to the main process: RuntimeError: never leaves this process"
    )


def test_an_output_that_cannot_be_unpacked_fails_the_step() -> None:
    outcome = elsewhere(work(give_bomb))

    assert outcome.output is None
    assert outcome.error is not None
    assert "SystemExit: unpickled" in outcome.error


def test_an_exception_that_cannot_travel_is_told_all_the_same() -> None:
    outcome = elsewhere(work(raise_unpicklable))

    assert outcome.error == "UnpicklableError: mine"
    assert outcome.facts["error_type"] == "UnpicklableError"
    assert outcome.cause is None


def test_a_step_that_cannot_be_unpacked_fails_there_and_not_the_worker() -> None:
    outcome = elsewhere(work(print, Bomb()))

    assert outcome.error is not None
    assert "SystemExit: unpickled" in outcome.error


def test_a_worker_that_answers_nonsense_fails_the_step() -> None:
    assert unpack(b"").error is not None
    assert unpack(b"no pickle").error is not None
    assert unpack(None).error is not None


def test_a_step_travels_without_its_flow() -> None:
    flow = Flow("f", Registry())
    flow.unpicklable = Unpicklable()  # type: ignore[attr-defined]
    step = PythonExecution("a", flow, dict, ([("a", 1)],))

    again = pickle.loads(pickle.dumps(step))

    assert (again.name, again.args) == ("a", ([("a", 1)],))
    assert not hasattr(again, "flow")


# What is raised may do anything


class QuotaError(StepError):
    def __init__(self, left: int) -> None:  # as people write exceptions
        self.left = left


class SilentError(StepError):
    def __str__(self) -> str:
        raise SystemExit


class OddDetailsError(StepError):
    def __init__(self, details: Any) -> None:
        super().__init__("odd")
        self.details = details


class NoDetailsError(StepError):
    @property
    def details(self) -> Any:  # type: ignore[override]
        raise KeyboardInterrupt

    @details.setter
    def details(self, given: Any) -> None:
        pass


class Pretender(Exception):  # noqa: N818 - it has no better name
    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise SystemExit


class HostileAttributesError(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


HOSTILE = [
    lambda: QuotaError(3),
    lambda: SilentError("x"),
    lambda: OddDetailsError(3),
    lambda: OddDetailsError({1: {2}}),
    lambda: OddDetailsError(Unpicklable()),
    lambda: NoDetailsError("x"),
    lambda: Pretender("x"),
    lambda: HostileAttributesError("x"),
    lambda: BaseExceptionGroup("all", [KeyboardInterrupt(), SilentError("x")]),
    lambda: StepError("x" * 10**6, rows=list(range(10**5))),
    lambda: ValueError("x" * 10**6),
    lambda: Exception(Unpicklable()),
]


@both_places
@pytest.mark.parametrize("make", range(len(HOSTILE)))
def test_an_exception_that_does_anything_fails_the_step_and_is_told(place, make) -> None:
    outcome = place(work(raise_made, make))

    assert outcome.error
    assert outcome.output is None
    assert len(outcome.error.encode()) <= 16 * 1024
    assert outcome.error.isprintable()
    assert len(to_json(dict(outcome.facts))) < 300_000


def test_details_of_a_subclass_that_does_not_call_init_are_none() -> None:
    outcome = work(raise_, QuotaError(3))()

    assert (outcome.error, outcome.details) == ("3", {})


class Checks(type):
    def __subclasscheck__(cls, other: type) -> bool:
        if Checks.is_armed:
            raise SystemExit
        return False

    is_armed = False


class CheckedError(Exception, metaclass=Checks):
    pass


def test_a_class_to_retry_on_that_raises_when_it_is_asked_covers_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = RetryPolicy(retry_on=(CheckedError,))
    monkeypatch.setattr(Checks, "is_armed", True)
    job = work(raise_, ValueError("mine"))
    job.execution.retry = policy

    outcome = job()

    assert (outcome.error, outcome.is_retriable) == ("ValueError: mine", False)
    assert policy.covers(ValueError()) is False


def test_inline_whatever_a_piece_of_work_raises_is_an_answer() -> None:
    told: list[Any] = []
    workers = InlineWorkers()

    class Broken:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def __call__(self) -> object:
            raise self.error

        def on_cancel(self, stopper: Any) -> bool:
            return True

    errors = [SystemExit(), KeyboardInterrupt(), GeneratorExit(), ValueError(), MemoryError()]
    for error in errors:
        workers.submit(Broken(error), lambda answer, failure: told.append(failure))
        workers.run_next()

    assert told == errors
    assert not workers.is_running


def test_a_memory_that_is_full_while_a_failure_is_told_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*args: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("oautom.steps.work.traceback_of", full)

    outcome = work(raise_, ValueError("mine"))()

    assert outcome.error == "ValueError (to tell more of it raises MemoryError)"
