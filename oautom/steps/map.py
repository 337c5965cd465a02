"""`MapExecution`: one call of a function for each item of a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Optional, Unpack

from oautom.errors import shown
from oautom.steps.arguments import hold_references, place_of, resolved
from oautom.steps.context import Context
from oautom.steps.execution import Execution
from oautom.steps.options import StepOptions
from oautom.steps.owner import Owner
from oautom.steps.python import PythonExecution
from oautom.values.annotations import MISSING, UNKNOWN, part_type, return_type
from oautom.values.json import plain_count
from oautom.values.references import OutputReference, Reference


class MapExecution(PythonExecution):
    """A step that calls `function(item, **kwargs)` for each item of a list, in parallel.

    Each call is an instance, a step of its own: `name[0]`, `name[1]`, ... with its own attempts,
    `retry` and `timeout`. The output is the list of their outputs, in order, with None for an
    instance that skipped itself. When an instance fails, the others go on, and the step fails in
    the end.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        function: The function to call, on a worker of the executor.
        over: The list: the output of another step, a part of it, or a parameter of the flow.
        kwargs: Keyword arguments of each call.
        max_parallel: How many instances run at once; None for as many as there are workers.
        options: As of every `Execution`; `retry`, `timeout`, `pool` and `priority` apply to each
            instance.

    Raises:
        FlowError: An argument cannot be used, or the function does not take these arguments.
    """

    kind = "map"

    def __init__(
        self,
        name: str,
        flow: Owner,
        function: Callable[..., Any],
        over: Reference | Execution | Any,
        kwargs: Mapping[str, Any] | None = None,
        max_parallel: int | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        self.over = over.output if isinstance(over, Execution) else over
        if not isinstance(self.over, Reference):
            wanted = "over must be a step, a part of its output, or a parameter of the flow"
            raise self.wrong(flow, name, f"{wanted}, not {shown(over)}")
        limit = None if max_parallel is None else plain_count(max_parallel)
        if limit is None and max_parallel is not None:
            wanted = "max_parallel must be a positive int or None"
            raise self.wrong(flow, name, f"{wanted}, not {shown(max_parallel)}")
        self.max_parallel = limit
        super().__init__(name, flow, function, (self.over[0],), kwargs, **options)
        self._has_wired_kwargs = hold_references(self.kwargs)

    @cached_property
    def output_type(self) -> Any:
        """A list of the annotated return type, or None where an instance may skip itself."""
        if (of_one := self.instance_type) is UNKNOWN:
            return UNKNOWN
        return list[Optional[of_one]]  # type: ignore[valid-type]  # noqa: UP045 - a value

    @cached_property
    def instance_type(self) -> Any:
        """The return annotation of the function."""
        return return_type(self.function)

    @cached_property
    def item_type(self) -> Any:
        """The type of an item, as far as the source of the list is annotated."""
        over = self.over
        if isinstance(over, OutputReference):
            found = self.flow.steps[over.name].output_type
        else:
            found = self.flow.params[over.name].annotation
        for key in (*over.path, 0):
            found = part_type(found, key)
        return UNKNOWN if found is MISSING else found

    def options(self) -> Mapping[str, Any]:
        """Return the non-default options, with the source of the items."""
        told = {**super().options(), "over": place_of(self.over, self.flow)}
        return told if self.max_parallel is None else told | {"max_parallel": self.max_parallel}

    def run(self, context: Context) -> Any:
        """Call the function for one item."""
        kwargs = resolved(self.kwargs, context) if self._has_wired_kwargs else self.kwargs
        return self.call((context.item,), kwargs, context)
