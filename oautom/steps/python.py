"""`PythonExecution`: a step that calls a Python function."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Unpack

from oautom.errors import FlowError, shown
from oautom.steps.arguments import hold_references, resolved, uses_in, wired
from oautom.steps.callee import Callee, callee_of
from oautom.steps.context import Context
from oautom.steps.execution import YIELDS, Execution
from oautom.steps.options import StepOptions
from oautom.steps.owner import Owner
from oautom.values.annotations import MISSING, UNKNOWN, hints_of, part_type, return_type


class OverFunction:
    """An object that replaces a function under its name: the result of `@flow.step`."""

    function: Callable[..., Any]


class PythonExecution(Execution):
    """A step that calls `function(*args, **kwargs)`; the return value is the output of the step.

    A parameter of the function named `context` without an argument gets the `Context`. An `async`
    function is awaited on an event loop. Outputs of other steps, parameters of the flow and secrets
    may stand anywhere in the arguments, also in lists, tuples and dictionaries there: `a.output`,
    `a.output['key']`, `flow.param('day')`, `flow.secret('API_KEY')`, or a step `a`, which stands
    for its output. The step waits for the steps whose outputs it takes.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        function: The function to call, on a worker of the executor.
        args: Positional arguments.
        kwargs: Keyword arguments.
        options: As of every `Execution`.

    Raises:
        FlowError: The function cannot be called, or not with these arguments.
    """

    takes_secrets = True

    def __init__(  # the signature that users know
        self,
        name: str,
        flow: Owner,
        function: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        if not callable(function):
            raise self.wrong(flow, name, f"function must be callable, not {shown(function)}")
        self.function = plain_function(function)
        callee = callee_of(self.function)
        if callee.generates:
            called = getattr(function, "__name__", shown(function))
            raise self.wrong(flow, name, f"function {called} {YIELDS}")
        if isinstance(args, str | bytes) or not isinstance(args, Sequence):
            raise self.wrong(flow, name, f"args must be a tuple or list, not {shown(args)}")
        if kwargs is not None and not isinstance(kwargs, Mapping):
            raise self.wrong(flow, name, f"kwargs must be a mapping, not {shown(kwargs)}")
        if callee.is_async and self._is_check_async():
            self.is_async = True
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})
        self._is_wired = hold_references(*self.args, *self.kwargs.values())
        if self._is_wired:
            self.args = wired(flow, name, self.args, may_be_secret=True)
            self.kwargs = wired(flow, name, self.kwargs, may_be_secret=True)
        self._context_place = self._bind(flow, name, callee)
        super().__init__(name, flow, **options)
        if self._is_wired:
            _, bound = callee.bind(self.args, self.kwargs)
            self.follow(uses_in(bound))

    def _bind(self, flow: Owner, name: str, callee: Callee) -> int | None:
        """Check the arguments against the signature; return the place of the context, or None."""
        try:
            return callee.context_place(self.args, self.kwargs)
        except TypeError as error:
            raise self._misfit(flow, name, error) from error

    def _misfit(self, flow: Owner, name: str, error: Exception) -> FlowError:
        called = getattr(self.function, "__name__", self.function)
        signature = inspect.signature(self.function)
        with suppress(Exception):  # its names may not exist (yet)
            signature = inspect.signature(self.function, eval_str=True)
        return self.wrong(
            flow, name, f"{called}{signature} cannot be called with these arguments: {error}"
        )

    @cached_property
    def output_type(self) -> Any:
        """The annotated return type of the function."""
        return return_type(self.function)

    def wanted(self, place: Sequence[str | int]) -> Any:
        """Return the type of a parameter of the function, or of a part of it."""
        name, *keys = place
        hints = hints_of(self.function)
        try:
            kind = inspect.signature(self.function).parameters[str(name)].kind
        except (KeyError, TypeError, ValueError):
            return UNKNOWN
        found = hints.get(str(name), UNKNOWN)
        if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            keys = keys[1:]  # each value has this type
        for key in keys:
            found = part_type(found, key)
        return UNKNOWN if found is MISSING else found

    def run(self, context: Context) -> Any:
        """Call the function and return its return value."""
        args, kwargs = self.args, self.kwargs
        if self._is_wired:
            args, kwargs = resolved((args, kwargs), context)
        if self._context_place is None:  # saves one call per step
            return self.function(*args, **kwargs)
        return self.call(args, kwargs, context)

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Context) -> Any:
        """Call the function, with the context if it takes one."""
        if self._context_place is None:
            return self.function(*args, **kwargs)
        if self._context_place > len(args):
            return self.function(*args, context=context, **kwargs)
        before, after = args[: self._context_place], args[self._context_place :]
        return self.function(*before, context, *after, **kwargs)

    def __getstate__(self) -> Mapping[str, Any]:
        """Travel to another process; a function under `@flow.step` travels by its name."""
        return {**super().__getstate__(), "function": _findable(self.function)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Arrive in another process."""
        self.__dict__.update(state)
        self.function = plain_function(self.function)


def plain_function(function: Any) -> Callable[..., Any]:
    """Return the plain function under `@flow.step`; any other function itself."""
    return function.function if isinstance(function, OverFunction) else function


def _findable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the `StepFunction` under the name of a function, if it is made of it; else itself."""
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for name in getattr(function, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    is_its_step = isinstance(found, OverFunction) and found.function is function
    return found if is_its_step else function
