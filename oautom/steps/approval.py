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

    It holds no worker meanwhile, and goes on waiting when the program dies and is run again. Its
    output is `{'by': ..., 'data': ...}`: who approved, and what they said to it.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        prompt: What the person is asked.
        options: As of every `Execution`; `timeout` is how many seconds it waits at the longest,
            after which it has failed: that of its flow does not hold for it. `retry` has no meaning
            here.

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
        """Return what is otherwise than usual: what is asked."""
        return {**super().options(), "prompt": self.prompt}

    @cached_property
    def output_type(self) -> Any:
        """Who has approved, and what they said to it."""
        return dict[str, Any]

    def run(self, context: Context) -> None:
        """Do nothing: a person is asked."""
