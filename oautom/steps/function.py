"""`StepFunction`: a function that `@flow.step` has turned into a maker of steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from oautom.errors import FlowError, shown
from oautom.steps.callee import generates
from oautom.steps.context import BY_VALUE
from oautom.steps.execution import YIELDS
from oautom.steps.options import StepOptions
from oautom.steps.owner import Owner
from oautom.steps.python import OverFunction, PythonExecution, plain_function


class StepFunction(OverFunction):
    """A function whose calls declare steps of a flow, and run nothing. Made by `@flow.step`.

    Called with values, parameters (`flow.param`), outputs (`a.output`) and steps, which stand for
    their output, it declares a step that will call the function with these, and returns that step.
    A second call makes a second step, `name_2`, and so on.

    Attributes:
        function: The plain function.
        flow: The flow that its steps belong to.
        name: Name of the first step.
        calls: How many steps it has made.
    """

    def __init__(
        self, flow: Owner, function: Callable[..., Any], name: str | None, options: StepOptions
    ) -> None:
        if not callable(function) or isinstance(function, StepFunction):
            raise FlowError(
                f"flow '{flow.name}': @flow.step must decorate a function, not {shown(function)}; "
                "give options by name: @flow.step(name='...')",
                flow=flow.name,
            )
        if generates(function):
            called = getattr(function, "__name__", shown(function))
            raise FlowError(f"flow '{flow.name}': function {called} {YIELDS}", flow=flow.name)
        update_wrapper(self, function)
        self.function = function
        self.flow = flow
        self.name: str = name if name is not None else getattr(function, "__name__", "step")
        self.calls = 0
        self._options = options

    def __call__(self, *args: Any, **kwargs: Any) -> PythonExecution:
        """Declare a step that calls the function with these arguments, and return the step.

        Raises:
            FlowError: The function cannot be called with these arguments.
            DuplicateStepError: The flow has another step of this name.
            FlowFrozenError: The flow has been started.
        """
        name = self.name if not self.calls else f"{self.name}_{self.calls + 1}"
        step = PythonExecution(name, self.flow, self.function, args, kwargs, **self._options)
        self.calls += 1
        return step

    def __reduce__(self) -> str | tuple[object, ...]:
        """Travel to another process by name, as functions do; by value, as the function itself."""
        if BY_VALUE.get() and self.__module__ == "__main__":
            return plain_function, (self.function,)
        return str(getattr(self, "__qualname__", self.name))

    def __repr__(self) -> str:
        """Return the name."""
        return f"<StepFunction '{self.name}' of flow '{self.flow.name}'>"
