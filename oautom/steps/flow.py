"""`FlowExecution`: a step that runs another flow."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Unpack, cast

from oautom.errors import shown
from oautom.steps.arguments import resolved, uses_in, wired
from oautom.steps.context import Context
from oautom.steps.execution import Execution
from oautom.steps.options import StepOptions
from oautom.steps.owner import Owner
from oautom.values.annotations import MISSING, UNKNOWN, part_type
from oautom.values.convert import is_supported
from oautom.values.json import at_heart

_typed_dict: Final[Any] = typing.TypedDict  # mypy cannot follow a call of it


class FlowExecution(Execution):
    """A step that runs another flow of the app, as a Vect of its own: a child.

    The child has the id `vect/step/attempt`, of the attempt that begins it. It can be read,
    explained and cancelled like any Vect. The step takes no worker. It succeeds when the child
    succeeds: its output is a dictionary of the outputs of the child's steps that have succeeded, by
    name. It fails when the child fails or is cancelled; its `retry` then starts another child. A
    retry of its Vect goes on in the failed child. While `max_active_vects` of the other flow are
    open, the child waits for its turn. When the step is cancelled, or its `timeout` is over, the
    child is cancelled.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        runs: The flow that it runs, or its name; it may be declared later.
        params: The parameters of the child, by name: values, or references, as in the arguments of
            a `PythonExecution`.
        options: As of every `Execution`; `on_crash` has no meaning here: the child goes on.

    Raises:
        FlowError: An argument cannot be used.
    """

    kind = "flow"

    def __init__(
        self,
        name: str,
        flow: Owner,
        runs: Owner | str,
        params: Mapping[str, Any] | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        runs = at_heart(runs)
        if type(runs) is not str and not hasattr(runs, "add_edges"):
            raise self.wrong(flow, name, f"runs must be a flow or its name, not {shown(runs)}")
        if params is not None and not isinstance(params, Mapping):
            raise self.wrong(
                flow, name, f"params must be a dictionary from names to values, not {shown(params)}"
            )
        self.params = wired(flow, name, dict(params or {}))
        self._runs = runs
        super().__init__(name, flow, **options)
        self.follow(uses_in(self.params))

    @property
    def runs(self) -> Owner:
        """The flow that it runs.

        Raises:
            UnknownFlowError: `runs` is a name, and the app has no flow of this name (yet).
        """
        return self.flow.app.flow(self._runs) if isinstance(self._runs, str) else self._runs

    def options(self) -> Mapping[str, Any]:
        """Return the non-default options, with the flow that it runs."""
        runs = self._runs if isinstance(self._runs, str) else self._runs.name
        return {**super().options(), "runs": runs}

    @cached_property
    def output_type(self) -> Any:
        """A dictionary type with the output type of each step of the other flow."""
        steps = self.runs.steps.items()
        types = {name: step.output_type for name, step in steps}
        known = {name: each if is_supported(each) else UNKNOWN for name, each in types.items()}
        return _typed_dict("Outputs", known, total=False)

    def wanted(self, place: Sequence[str | int]) -> Any:
        """Return the type of a parameter of the other flow, or text, which can be converted."""
        name, *keys = place
        declared = self.runs.params
        found = declared[str(name)].annotation if name in declared else UNKNOWN
        for key in keys:
            found = part_type(found, key)
        return UNKNOWN if found in (MISSING, UNKNOWN) else typing.Union[found, str]  # noqa: UP007 - made at run time

    def run(self, context: Context) -> Mapping[str, Any]:
        """Return the parameters of the child; the engine does the rest."""
        return cast("Mapping[str, Any]", resolved(self.params, context))
