"""Steps that do the worst: that step only fails, and the app goes on."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from oautom import Context, Execution, Flow, OAutom, PythonExecution, StepFailedError

from .conftest import runs_well


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise SystemExit("even here")

    __repr__ = __str__


def raising(error: BaseException) -> Any:
    def step() -> None:
        raise error

    return step


def endless() -> None:
    endless()


async def interrupted_later() -> None:
    raise KeyboardInterrupt


def stops_iteration() -> None:
    next(iter(()))


WORST = {
    "SystemExit": (raising(SystemExit(0)), "SystemExit: 0"),
    "KeyboardInterrupt": (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "GeneratorExit": (raising(GeneratorExit()), "GeneratorExit"),
    "StopIteration": (stops_iteration, "StopIteration"),
    "MemoryError": (raising(MemoryError()), "MemoryError"),
    "unprintable": (raising(UnprintableError()), "UnprintableError: (its message cannot be"),
    "recursion": (endless, "RecursionError: maximum recursion depth exceeded"),
    "async interrupt": (interrupted_later, "KeyboardInterrupt"),
    "text of many lines": (raising(ValueError("one\ntwo")), "ValueError: one two"),
    "a whole group": (
        raising(BaseExceptionGroup("all", [KeyboardInterrupt(), ValueError("2")])),
        "BaseExceptionGroup: all (2 sub-exceptions)",
    ),
}


@pytest.mark.parametrize(("function", "told"), WORST.values(), ids=WORST)
def test_whatever_a_step_raises_only_that_step_fails(
    any_app: OAutom, function: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    flow = Flow("f", any_app)
    PythonExecution("bad", flow, function) >> PythonExecution("after", flow, lambda: None)
    PythonExecution("beside", flow, lambda: "fine")

    vect = any_app.run(flow)

    assert vect.state == "failed"
    assert {name: step.state for name, step in vect.steps.items()} == {
        "bad": "failed",
        "after": "upstream_failed",
        "beside": "success",
    }
    error = vect.steps["bad"].error
    assert error is not None
    assert error.startswith(told)
    with pytest.raises(StepFailedError) as caught:
        vect.result("bad")
    assert caught.value.__cause__ is not None
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []
    assert runs_well(any_app)


@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_an_exception_that_cannot_even_be_looked_at_fails_its_step(
    program: Any, executor: str
) -> None:
    ended = program(f"""

        class Evil(Exception):
            def __getattribute__(self, name):
                raise RuntimeError('nothing to see')
        def step():
            raise Evil
        app = OAutom(OAutomMode.background, executor={executor!r})
        PythonExecution('a', Flow('f', app), step)
        PythonExecution('b', Flow('g', app), lambda: None)
        print(end(app.start('f')), end(app.start('g')))
    """)

    assert ended.stdout == "failed success\n", ended.stderr


class EvilOutput:
    """Cannot be compared, printed, or taken for true or false."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")

    def __repr__(self) -> str:
        raise RuntimeError("not printable")

    def __len__(self) -> int:
        raise RuntimeError("of no length")


def test_an_output_that_does_the_worst_is_handed_on_all_the_same(any_app: OAutom) -> None:
    flow, output = Flow("f", any_app), EvilOutput()
    PythonExecution("a", flow, lambda: output) >> PythonExecution(
        "b", flow, lambda context: context.inputs["a"] is output
    )

    vect = any_app.run(flow)

    assert vect.result("b") is True
    assert vect.result("a") is output


def test_a_step_without_a_usable_check_fails(any_app: OAutom) -> None:
    class Broken(Execution):
        check = None
        poll_interval = 0.001

        def run(self, context: Context) -> None:
            pass

    flow = Flow("f", any_app)
    Broken("a", flow)

    vect = any_app.start(flow)
    assert vect.wait(timeout=5) == "failed"
    assert runs_well(any_app)


def test_what_a_step_does_to_its_own_execution_is_its_own_affair(any_app: OAutom) -> None:
    class Selfish(Execution):
        def run(self, context: Context) -> str:
            del self.name
            return "done"

    flow = Flow("f", any_app)
    Selfish("a", flow) >> PythonExecution("b", flow, lambda: "fine")

    vect = any_app.start(flow)
    assert vect.wait(timeout=5) == "success"
    assert runs_well(any_app)
