"""`WaitExecution`: a step that waits for a time, over restarts too."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Unpack

from oautom.errors import shown
from oautom.executions.base import Execution, StepOptions
from oautom.executions.context import Context

if TYPE_CHECKING:
    from oautom.flow import Flow


class WaitExecution(Execution):
    """A step that waits until it is time, and holds no worker meanwhile.

    The time is in the log: a program that dies and is run again waits for the rest of it.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        seconds: How long it waits, from its start.
        until: Until when it waits: aware. What is past is waited for no longer.
        options: As of every `Execution`; `retry` and `timeout` have no meaning here.

    Raises:
        FlowError: An argument cannot be used, or not exactly one of `seconds` and `until` is given.
    """

    kind = "wait"

    def __init__(
        self,
        name: str,
        flow: Flow,
        *,
        seconds: float | None = None,
        until: datetime | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        if (seconds is None) == (until is None):
            raise self.wrong(flow, name, "give either seconds or until")
        if seconds is not None and not (
            isinstance(seconds, int | float) and 0 <= seconds < float("inf")
        ):
            raise self.wrong(flow, name, f"seconds must be a number from 0, not {shown(seconds)}")
        if until is not None and not (isinstance(until, datetime) and until.tzinfo is not None):
            wanted = "until must be a datetime with a time zone"
            raise self.wrong(flow, name, f"{wanted}, not {shown(until)}")
        self.seconds = seconds
        self.until = until
        super().__init__(name, flow, **options)

    def options(self) -> Mapping[str, Any]:
        """Return what is otherwise than usual: for what it waits."""
        if self.until is not None:
            return {**super().options(), "until": self.until.astimezone(UTC).isoformat()}
        return {**super().options(), "delay": self.seconds}

    def run(self, context: Context) -> None:
        """Do nothing: the engine itself waits."""
