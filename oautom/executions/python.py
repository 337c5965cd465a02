"""`PythonExecution`: a step that calls a Python function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from oautom.errors import FlowError
from oautom.executions.base import Execution, StepOptions
from oautom.executions.context import Context

if TYPE_CHECKING:
    from oautom.flow import Flow

_BY_NAME = 2**30


class PythonExecution(Execution):
    """A step that calls `function(*args, **kwargs)`; what it returns is the output of the step.

    A parameter of the function named `context` that is not given otherwise receives the `Context`.
    An `async` function is run to its end on an event loop of its own.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        function: What to call, on a worker of the executor.
        args: Positional arguments.
        kwargs: Keyword arguments.
        options: As of every `Execution`.

    Raises:
        FlowError: The function cannot be called, or not with these arguments.
    """

    def __init__(  # the signature that users know
        self,
        name: str,
        flow: Flow,
        function: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        if not callable(function):
            raise self.wrong(flow, name, f"function must be callable, not {function!r}")
        if isinstance(args, str | bytes) or not isinstance(args, Sequence):
            raise self.wrong(flow, name, f"args must be a tuple or list, not {args!r}")
        if kwargs is not None and not isinstance(kwargs, Mapping):
            raise self.wrong(flow, name, f"kwargs must be a mapping, not {kwargs!r}")
        self.function = function
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})
        self._context_place = self._bind(flow, name)
        super().__init__(name, flow, **options)

    def _bind(self, flow: Flow, name: str) -> int | None:
        """Hold the arguments against the signature; return where the context goes, if anywhere.

        That is its place among the positional arguments; beyond the last, it goes by name.
        """
        try:
            signature = inspect.signature(self.function)
        except (ValueError, TypeError):  # some built-in functions have none
            return None
        wanted = signature.parameters.get("context")
        try:
            given = signature.bind(*self.args, **self.kwargs).arguments
        except TypeError as error:
            if wanted is None or "context" in self.kwargs:
                raise self._misfit(flow, name, signature, error) from error
            others = [each for each in signature.parameters.values() if each is not wanted]
            try:
                inspect.Signature(others).bind(*self.args, **self.kwargs)
            except (TypeError, ValueError) as misfit:
                raise self._misfit(flow, name, signature, misfit) from misfit
            given = {}
        if wanted is None or "context" in given:
            return None
        is_by_name = wanted.kind is wanted.KEYWORD_ONLY
        return _BY_NAME if is_by_name else list(signature.parameters).index("context")

    def _misfit(
        self, flow: Flow, name: str, signature: inspect.Signature, error: Exception
    ) -> FlowError:
        called = getattr(self.function, "__name__", self.function)
        return self.wrong(
            flow, name, f"{called}{signature} cannot be called with these arguments: {error}"
        )

    def run(self, context: Context) -> Any:
        """Call the function and return what it returns."""
        if self._context_place is None:
            return self.function(*self.args, **self.kwargs)
        if self._context_place > len(self.args):
            return self.function(*self.args, context=context, **self.kwargs)
        before, after = self.args[: self._context_place], self.args[self._context_place :]
        return self.function(*before, context, *after, **self.kwargs)
