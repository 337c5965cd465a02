"""`ApprovalExecution`: a step that waits for a person."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Unpack

from oautom.errors import SettingError
from oautom.steps.context import Context
from oautom.steps.execution import Execution
from oautom.steps.options import StepOptions
from oautom.steps.owner import Owner
from oautom.values.names import plain_text


class ApprovalExecution(Execution):
    """A step that waits for `vect.approve(step, by=...)`, and fails at `vect.reject(step, by=...)`.

    It takes no worker, and goes on waiting when the program dies and is run again. Its output is
    `{'by': ..., 'data': ...}`: the person who approved, and the data of the approval.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        prompt: The question to the person.
        options: As of every `Execution`; after the seconds of its `timeout` the step has failed.
            The `timeout` of its flow does not apply. `retry` has no meaning here.

    Raises:
        FlowError: An argument cannot be used.
    """

    kind = "approval"

    def __init__(self, name: str, flow: Owner, prompt: str, **options: Unpack[StepOptions]) -> None:
        try:
            self.prompt = plain_text(prompt, "prompt")
        except SettingError as error:
            raise self.wrong(flow, name, str(error)) from None
        super().__init__(name, flow, **options)

    def options(self) -> Mapping[str, Any]:
        """Return the non-default options, with the prompt."""
        return {**super().options(), "prompt": self.prompt}

    @cached_property
    def output_type(self) -> Any:
        """A dictionary with the person who has approved, and the data of the approval."""
        return dict[str, Any]

    def run(self, context: Context) -> None:
        """Do nothing: the engine waits for a person."""
