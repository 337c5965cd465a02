"""What a step does: its declaration, and how a function gets its arguments."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from oautom import BashExecution, Context, Execution, Flow, FlowError, OAutom, PythonExecution
from tests.held import nothing_left
from tests.kit import Registry, nothing


@pytest.fixture
def flow() -> Flow:
    return Flow("f", Registry())


def context() -> Context:
    return Context("f", "v", "a", 1, {})


def call(flow: Flow, function: Any, *args: Any, **kwargs: Any) -> Any:
    return PythonExecution("a", flow, function, args, kwargs).run(context())


# Execution


class Minimal(Execution):
    def run(self, context: Context) -> str:
        return "ran"


class Polled(Minimal):
    def check(self, context: Context) -> bool:
        return True


def test_a_step_is_part_of_its_flow_as_soon_as_it_is_made(flow: Flow) -> None:
    step = Minimal("a", flow)

    assert flow.steps["a"] is step
    assert (step.name, step.flow) == ("a", flow)
    assert repr(step) == "<Minimal 'a'>"


def test_a_step_is_polled_if_its_class_has_a_check(flow: Flow) -> None:
    assert Polled("a", flow).is_polled
    assert not Minimal("b", flow).is_polled


def test_a_step_without_a_run_is_refused(flow: Flow) -> None:
    class Empty(Execution):
        pass

    for kind in (Empty, Execution):
        with pytest.raises(FlowError) as caught:
            kind("a", flow)
        assert str(caught.value) == (
            f"step 'a' of flow 'f': {kind.__name__} has no run(self, context); define it"
        )
    assert dict(flow.steps) == {}


@pytest.mark.parametrize("limit", [0, -1, 1.5, "1", None])
def test_a_wrong_limit_of_the_log_is_refused(flow: Flow, limit: Any) -> None:
    with pytest.raises(FlowError) as caught:
        Minimal("a", flow, log_limit_bytes=limit)

    assert str(caught.value) == (
        f"step 'a' of flow 'f': log_limit_bytes must be a positive int, not {limit!r}"
    )
    assert (caught.value.flow, caught.value.step) == ("f", "a")
    assert dict(flow.steps) == {}


@pytest.mark.parametrize("no_flow", [None, "f", 5, Registry(), set()])
def test_a_step_needs_a_flow(no_flow: Any) -> None:
    with pytest.raises(FlowError) as caught:
        Minimal("a", no_flow)

    assert str(caught.value) == f"step 'a': flow must be a Flow, not {no_flow!r}"


# PythonExecution


def test_the_function_is_called_with_the_arguments(flow: Flow) -> None:
    def function(a: int, b: int, *rest: int, c: int, **more: int) -> tuple[Any, ...]:
        return a, b, rest, c, more

    assert call(flow, function, 1, 2, 3, c=4, d=5) == (1, 2, (3,), 4, {"d": 5})


def test_arguments_are_taken_as_they_are_at_the_declaration(flow: Flow) -> None:
    args, kwargs = [1], {"b": 2}
    step = PythonExecution("a", flow, lambda a, b: (a, b), args, kwargs)
    args.append(9)
    kwargs["b"] = 9

    assert step.run(context()) == (1, 2)


@pytest.mark.parametrize(
    "function",
    [
        lambda context: context,
        lambda *, context: context,
        lambda context=None: context,
        lambda *args, context=None, **kwargs: context,
        functools.partial(lambda a, context: context, 1),
    ],
    ids=["positional", "keyword only", "with a default", "among others", "partial"],
)
def test_a_parameter_named_context_receives_it(flow: Flow, function: Any) -> None:
    step, here = PythonExecution("a", flow, function), context()

    assert step.run(here) is here


def test_a_context_of_one_s_own_is_not_replaced(flow: Flow) -> None:
    def function(context: Any, more: Any = None) -> Any:
        return context

    assert call(flow, function, "mine") == "mine"
    flow = Flow("g", Registry())
    assert call(flow, function, context="mine") == "mine"


def test_who_does_not_ask_for_the_context_does_not_get_it(flow: Flow) -> None:
    assert call(flow, lambda **kwargs: kwargs) == {}


def test_a_function_without_a_signature_is_called_all_the_same(flow: Flow) -> None:
    assert call(flow, dict, [("a", 1)], b=2) == {"a": 1, "b": 2}


def test_any_callable_will_do(flow: Flow) -> None:
    class Adder:
        def __init__(self, more: int) -> None:
            self.more = more

        def __call__(self, number: int) -> int:
            return number + self.more

    assert call(flow, Adder(2), 40) == 42


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "problem"),
    [
        (lambda a: a, (), {}, "missing a required argument: 'a'"),
        (lambda a: a, (1, 2), {}, "too many positional arguments"),
        (lambda a: a, (1,), {"b": 2}, "got an unexpected keyword argument 'b'"),
        (lambda a: a, (1,), {"a": 2}, "multiple values for argument 'a'"),
        (lambda a, context: a, (), {}, "missing a required argument: 'a'"),
    ],
)
def test_arguments_that_do_not_fit_are_told_at_the_declaration(
    flow: Flow, function: Any, args: Any, kwargs: Any, problem: str
) -> None:
    with pytest.raises(FlowError) as caught:
        PythonExecution("a", flow, function, args, kwargs)

    message = str(caught.value)
    assert message.startswith("step 'a' of flow 'f': <lambda>(a")
    assert message.endswith(f"cannot be called with these arguments: {problem}")
    assert isinstance(caught.value.__cause__, TypeError)
    assert dict(flow.steps) == {}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"function": None}, "function must be callable, not None"),
        ({"function": "print"}, "function must be callable, not 'print'"),
        ({"args": 5}, "args must be a tuple or list, not 5"),
        ({"args": "ab"}, "args must be a tuple or list, not 'ab'"),
        ({"args": b"ab"}, "args must be a tuple or list, not b'ab'"),
        ({"args": {1}}, "args must be a tuple or list, not {1}"),
        ({"args": None}, "args must be a tuple or list, not None"),
        ({"kwargs": [("a", 1)]}, "kwargs must be a mapping, not [('a', 1)]"),
        ({"kwargs": "ab"}, "kwargs must be a mapping, not 'ab'"),
    ],
)
def test_a_wrong_argument_is_refused(flow: Flow, settings: Any, problem: str) -> None:
    with pytest.raises(FlowError) as caught:
        PythonExecution("a", flow, **{"function": lambda *args: args, **settings})

    assert str(caught.value) == f"step 'a' of flow 'f': {problem}"
    assert dict(flow.steps) == {}


# BashExecution

BASH_CASES = [
    ({"command": None}, "command must be text that Bash can run, not None"),
    ({"command": ""}, "command must be text that Bash can run, not ''"),
    ({"command": " \n"}, "command must be text that Bash can run, not ' \\n'"),
    ({"command": "a\0b"}, "command must be text that Bash can run, not 'a\\x00b'"),
    ({"command": ["ls"]}, "command must be text that Bash can run, not ['ls']"),
    ({"command": "a\ud800"}, "command must be text that Bash can run, not 'a\\ud800'"),
    ({"output": "xml"}, "output must be one of 'last_line', 'text', 'json', not 'xml'"),
    ({"output": None}, "output must be one of 'last_line', 'text', 'json', not None"),
    ({"grace_period": -1}, "grace_period must be seconds, from 0, not -1"),
    ({"grace_period": "3"}, "grace_period must be seconds, from 0, not '3'"),
    ({"grace_period": float("inf")}, "grace_period must be seconds, from 0, not inf"),
    ({"grace_period": float("nan")}, "grace_period must be seconds, from 0, not nan"),
    ({"cwd": 5}, "cwd must be a path, not 5"),
    ({"env": [("A", "1")]}, "env must be a mapping, not [('A', '1')]"),
    ({"env": {"": "1"}}, "env has '', which cannot name a variable"),
    ({"env": {"A=B": "1"}}, "env has 'A=B', which cannot name a variable"),
    ({"env": {"A\0": "1"}}, "env has 'A\\x00', which cannot name a variable"),
    ({"env": {5: "1"}}, "env has 5, which cannot name a variable"),
    ({"env": {"A": 1}}, "env['A'] must be text without NUL, not 1; use str()"),
    ({"env": {"A": None}}, "env['A'] must be text without NUL, not None; use str()"),
    ({"env": {"A": "\0"}}, "env['A'] must be text without NUL, not '\\x00'; use str()"),
    ({"log_limit_bytes": 0}, "log_limit_bytes must be a positive int, not 0"),
]


@pytest.mark.parametrize(("settings", "problem"), BASH_CASES, ids=[str(s) for s, _ in BASH_CASES])
def test_a_wrong_argument_of_a_bash_step_is_refused(
    flow: Flow, settings: Any, problem: str
) -> None:
    with pytest.raises(FlowError) as caught:
        BashExecution("a", flow, **{"command": "true", **settings})

    assert str(caught.value) == f"step 'a' of flow 'f': {problem}"
    assert (caught.value.flow, caught.value.step) == ("f", "a")
    assert dict(flow.steps) == {}


def test_the_env_is_taken_as_it_is_at_the_declaration(flow: Flow) -> None:
    env = {"A": "1"}
    step = BashExecution("a", flow, "true", env)
    env["A"] = "2"

    assert step.env == {"A": "1"}


def test_a_command_that_is_cancelled_before_it_begins_leaves_no_file_open(flow: Flow) -> None:
    step, here = BashExecution("a", flow, "true"), context()
    here.mark_cancelled()
    with nothing_left():
        for _ in range(3):
            with pytest.raises(Exception, match="cancelled before its command began"):
                step.run(here)


def test_a_plain_function_is_a_step(flow: Flow) -> None:
    assert PythonExecution("a", flow, nothing).run(context()) is None


def test_a_function_whose_body_and_defaults_are_exchanged_is_read_anew() -> None:
    app = OAutom(executor="inline")
    flow = Flow("flow", app)

    def work(number: int) -> int:
        return number

    def other(number: int = 1, *, context: Context) -> int:
        return number + context.attempt

    with pytest.raises(FlowError, match="missing a required argument: 'number'"):
        PythonExecution("a", flow, work)
    work.__code__, work.__defaults__ = other.__code__, other.__defaults__

    PythonExecution("a", flow, work)

    with app:
        assert app.run(flow).result("a") == 2


def test_a_function_is_read_by_its_own_wrapper() -> None:
    flow = Flow("flow", OAutom(executor="inline"))

    def of_two(one: int, two: int) -> int:
        return one + two

    def wrapped(*args: int) -> int:
        return of_two(*args)

    PythonExecution("first", flow, wrapped)
    wrapped.__wrapped__ = of_two  # type: ignore[attr-defined]

    with pytest.raises(FlowError, match="missing a required argument: 'one'"):
        PythonExecution("second", flow, wrapped)
