"""`FileExecution`: a step that waits for a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

from oautom.errors import SettingError
from oautom.steps.arguments import path_of, resolved, uses_in, wired
from oautom.steps.context import Context
from oautom.steps.execution import Execution
from oautom.steps.options import StepOptions
from oautom.steps.owner import Owner
from oautom.steps.work import StepError
from oautom.values.references import Reference


class FileExecution(Execution):
    """A step that waits until there is a file, or a folder, at a path.

    It takes no worker, and goes on waiting when the program dies and is run again. If the file
    exists already, the step does not wait. Its output is the path, as text.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        path: The path of the file: text, a `Path`, or a reference to one, as `a.output` and
            `flow.param('path')`. Its folder need not exist yet.
        options: As of every `Execution`; after the seconds of its `timeout` the step has failed.
            The `timeout` of its flow does not apply. `retry`, `on_crash` and `pool` have no meaning
            here.

    Raises:
        FlowError: An argument cannot be used.
    """

    kind = "file"

    def __init__(
        self,
        name: str,
        flow: Owner,
        path: str | os.PathLike[str] | Reference | Execution,
        **options: Unpack[StepOptions],
    ) -> None:
        given = wired(flow, name, path)
        try:
            self.path = given if isinstance(given, Reference) else path_of(given, "path")
        except SettingError as error:
            raise self.wrong(flow, name, str(error)) from None
        super().__init__(name, flow, **options)
        self.follow(uses_in({"path": self.path}))

    def options(self) -> Mapping[str, Any]:
        """Return the non-default options, with the path."""
        path = repr(self.path) if isinstance(self.path, Reference) else self.path
        return {**super().options(), "path": path}

    @cached_property
    def output_type(self) -> Any:
        """The path."""
        return str

    def wanted(self, place: Sequence[str | int]) -> Any:
        """Return the types that the path may have."""
        return str | Path

    def run(self, context: Context) -> str:
        """Return the path; the engine waits for the file.

        Raises:
            StepError: The value of the reference is no path.
        """
        try:
            return path_of(resolved(self.path, context), "path")
        except SettingError as error:
            raise StepError(f"step '{context.step}' cannot wait: {error}") from error
