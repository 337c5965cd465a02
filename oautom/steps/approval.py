"""`ApprovalExecution`: a step that waits for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cached_property
from string import Formatter
from typing import Any, Final, Unpack

from oautom.errors import SettingError, shown
from oautom.machine.sources import text_of
from oautom.steps.arguments import place_of, uses_in, wired
from oautom.steps.context import Context
from oautom.steps.execution import Execution
from oautom.steps.options import StepOptions, entries_of
from oautom.steps.owner import Owner
from oautom.values.names import plain_text
from oautom.values.references import Reference


class ApprovalExecution(Execution):
    """A step that waits for `vect.approve(step, by=...)`, and fails at `vect.reject(step, by=...)`.

    It takes no worker, and goes on waiting when the program dies and is run again. Its output is
    `{'by': ..., 'data': ...}`: the person who approved, and the data of the approval.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        prompt: The question to the person; or a reference to it, as `a.output` and
            `flow.param('question')`.
        values: What the question is about: by a name, a reference to an output or a parameter, or
            a plain value. `{name}` in the prompt stands for it; without `values`, braces are plain
            text. A value must be text, a number, a truth value, a date or a time, else the step
            fails.
        options: As of every `Execution`; after the seconds of its `timeout` the step has failed.
            The `timeout` of its flow does not apply. `retry` has no meaning here.

    Raises:
        FlowError: An argument cannot be used.
        CrossFlowDependencyError: A reference is to a step of another flow.
    """

    kind = "approval"

    def __init__(
        self,
        name: str,
        flow: Owner,
        prompt: str | Reference | Execution,
        *,
        values: Mapping[str, Any] | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        try:
            given = {} if values is None else _named(values)
            if issubclass(type(prompt), Reference | Execution):
                prompt, given = _WHOLE, {"prompt": prompt, **given}
            self.values: Mapping[str, Any] = wired(flow, name, given)
            self.prompt = plain_text(prompt, "prompt")
            if self.values:
                _check_names(self.prompt, self.values)
            self._plain = {
                key: plain_text(_plain_told(key, value), f"values[{shown(key)}]")
                for key, value in self.values.items()
                if not isinstance(value, Reference)
            }
        except SettingError as error:
            raise self.wrong(flow, name, str(error)) from None
        super().__init__(name, flow, **options)
        if used := uses_in(self.values):
            self.follow(used)

    def options(self) -> Mapping[str, Any]:
        """Return the non-default options, with the prompt, and the places of its values."""
        told = {**super().options(), "prompt": self.prompt}
        if not self.values:
            return told
        places = {
            key: place_of(value, self.flow) if isinstance(value, Reference) else self._plain[key]
            for key, value in self.values.items()
        }
        return told | {"values": places}

    @cached_property
    def output_type(self) -> Any:
        """A dictionary with the person who has approved, and the data of the approval."""
        return dict[str, Any]

    def wanted(self, place: Sequence[str | int]) -> Any:
        """Return the types that a value in the prompt may have."""
        return str | int | float | bool | date | datetime

    def run(self, context: Context) -> None:
        """Do nothing: the engine waits for a person."""


_WHOLE: Final = "{prompt}"


def _named(values: object) -> dict[str, Any]:
    """Return the checked names of values, with the values."""
    given = entries_of("values", values, "values={'city': a.output}")
    for key in given:
        if type(key) is not str or not key.isidentifier():
            raise SettingError(f"values must have names as its keys, not {shown(key)}")
    return given


def _check_names(prompt: str, values: Mapping[str, Any]) -> None:
    """Refuse a prompt whose names are not those of its values."""
    try:
        fields = [field for field in Formatter().parse(prompt) if field[1] is not None]
    except ValueError as error:
        raise SettingError(
            f"prompt {shown(prompt)} cannot be read: {error}; write {{{{ for a brace"
        ) from error
    for _, name, spec, conversion in fields:
        if name not in values or spec or conversion:
            raise SettingError(
                f"prompt {shown(prompt)} has {{{name}}} in braces, and that is no name in values; "
                "write {{ for a brace"
            )
    unused = [name for name in values if name not in {field[1] for field in fields}]
    if unused:
        raise SettingError(
            f"values[{shown(unused[0])}] is not in the prompt {shown(prompt)}; leave it out"
        )


def _plain_told(key: str, value: object) -> str:
    try:
        return text_of(value)
    except ValueError:
        raise SettingError(
            f"values[{shown(key)}] must be text, a number, a truth value, a date or a reference, "
            f"not {shown(value)}"
        ) from None
