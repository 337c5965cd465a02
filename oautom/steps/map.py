"""`MapExecution`: for each item of a list a call of a function, a run of a flow, or a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Optional, Unpack, cast

from oautom.errors import SettingError, shown
from oautom.steps.arguments import hold_references, place_of, resolved
from oautom.steps.context import Context
from oautom.steps.each import Bash, EachBash, EachFlow
from oautom.steps.execution import Execution, Used, no_secret
from oautom.steps.labels import Label, label_of
from oautom.steps.options import StepOptions
from oautom.steps.owner import Owner
from oautom.steps.python import PythonExecution
from oautom.values.annotations import MISSING, UNKNOWN, part_type, return_type
from oautom.values.json import at_heart, plain_count
from oautom.values.references import OutputReference, Reference, SecretReference


class MapExecution(PythonExecution):
    """A step that calls `function(item, **kwargs)` for each item of a list, in parallel.

    Each call is an instance, a step of its own: `name[0]`, `name[1]`, ... with its own attempts,
    `retry` and `timeout`. The output is the list of their outputs, in order, with None for an
    instance that skipped itself. When an instance fails, the others go on, and the step fails in
    the end.

    In place of the function there may be a flow, or the name of one: each instance then runs it as
    a child, as a `FlowExecution` does. A dictionary as an item gives the parameters of the child by
    name; anything else is its only parameter. If that only parameter is declared as a dictionary or
    a record, a dictionary is its value. `kwargs` gives what the item does not. An instance begins
    when a worker is free, and the steps of its child come before the next instance: so a child that
    has begun goes on before another one begins. Or there may be a `Bash` command, with the item in
    `$ITEM`.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        function: The function to call, on a worker of the executor; a flow or its name; or a
            `Bash`.
        over: The list: the output of another step, a part of it, or a parameter of the flow.
        kwargs: Keyword arguments of each call, or parameters of each child.
        max_parallel: How many instances run at once; None for as many as there are workers.
        label: Names the instances for people, in errors and views: a function of the item that
            returns a text, or a text with `{}` for the item and `{name}` for that key of a
            dictionary. It is called on the engine's thread, so it should be quick. If it fails,
            the instance has no label.
        options: As of every `Execution`; `retry`, `timeout`, `pool` and `priority` apply to each
            instance.

    Raises:
        FlowError: An argument cannot be used, or the function does not take these arguments.
    """

    kind = "map"
    _each: Execution | None = None

    def __init__(
        self,
        name: str,
        flow: Owner,
        function: Callable[..., Any] | Owner | str | Bash,
        over: Reference | Execution | Any,
        kwargs: Mapping[str, Any] | None = None,
        max_parallel: int | None = None,
        label: Label | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        self.over = over.output if isinstance(over, Execution) else over
        if isinstance(self.over, SecretReference):
            raise self.wrong(flow, name, no_secret(self.over))
        if not isinstance(self.over, Reference):
            wanted = "over must be a step, a part of its output, or a parameter of the flow"
            raise self.wrong(flow, name, f"{wanted}, not {shown(over)}")
        if isinstance(self.over, OutputReference):
            source = flow.steps.get(self.over.name)
            if source is not None and source.keep_remote:
                what = (
                    f"its list is an output of step '{source.name}', which stays in the cluster "
                    "by keep_remote; leave that out there, or let a step return the keys"
                )
                raise self.wrong(flow, name, what)
        limit = None if max_parallel is None else plain_count(max_parallel)
        if limit is None and max_parallel is not None:
            wanted = "max_parallel must be a positive int or None"
            raise self.wrong(flow, name, f"{wanted}, not {shown(max_parallel)}")
        self.max_parallel = limit
        try:
            self.label = label_of(label)
        except SettingError as error:
            raise self.wrong(flow, name, str(error)) from None
        if isinstance(function, Bash) or _is_flow(function):
            self._init_each(name, flow, function, kwargs, options)
            return
        called = cast("Callable[..., Any]", function)
        super().__init__(name, flow, called, (self.over[0],), kwargs, **options)
        self._has_wired_kwargs = hold_references(self.kwargs)

    def _init_each(
        self, name: str, flow: Owner, what: Any, kwargs: Any, options: StepOptions
    ) -> None:
        """Declare a step whose instances do not call a function."""
        make = EachBash if isinstance(what, Bash) else EachFlow
        each = self._each = make(name, flow, what, kwargs, **options)
        self.function, self.args, self.kwargs = _not_called, (), dict(kwargs or {})
        self.strict = each.strict
        Execution.__init__(self, name, flow, **options)
        each.compensation = self.compensation
        # A name that is no text: no argument has it.
        self.follow([Used((0,), self.over[0]), *each.references])

    @property
    def each(self) -> Execution:
        """What runs for one item: this step itself, if it calls a function."""
        return self._each or self

    @cached_property
    def output_type(self) -> Any:
        """A list of the annotated return type, or None where an instance may skip itself."""
        if (of_one := self.instance_type) is UNKNOWN:
            return UNKNOWN
        return list[Optional[of_one]]  # type: ignore[valid-type]  # noqa: UP045 - a value

    @property
    def instance_type(self) -> Any:
        """The type of the output of an instance."""
        return return_type(self.function) if self._each is None else self._each.output_type

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

    def wanted(self, place: Sequence[str | int]) -> Any:
        """Return the type of an argument of the function, the flow or the command."""
        if self._each is None:
            return super().wanted(place)
        return UNKNOWN if place == (0,) else self._each.wanted(place)

    def options(self) -> Mapping[str, Any]:
        """Return the non-default options, with the source of the items."""
        given = super().options() if self._each is None else self._each.options()
        told = {**given, "kind": self.kind, "over": place_of(self.over, self.flow)}
        return told if self.max_parallel is None else told | {"max_parallel": self.max_parallel}

    def run(self, context: Context) -> Any:
        """Call the function for one item."""
        kwargs = resolved(self.kwargs, context) if self._has_wired_kwargs else self.kwargs
        return self.call((context.item,), kwargs, context)


def _is_flow(what: object) -> bool:
    """Whether an argument stands for a flow: it is one, or the name of one."""
    return type(at_heart(what)) is str or hasattr(what, "add_edges")


def _not_called(item: Any) -> None:
    """Stand for the function of a map that calls none."""
