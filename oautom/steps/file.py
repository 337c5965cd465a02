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

    It holds no worker meanwhile, and goes on waiting when the program dies and is run again. A file
    that is there already is not waited for. Its output is the path, as text.

    Args:
        name: Name of the step, unique in its flow.
        flow: The flow that it belongs to.
        path: Where the file will be: text, a `Path`, or what stands for one, as `a.output` and
            `flow.param('path')`. Its folder need not be there yet.
        options: As of every `Execution`; `timeout` is how many seconds it waits at the longest,
            after which it has failed: that of its flow does not hold for it. `retry` and
            `on_crash` have no meaning here, nor has `pool`.

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
        """Return what is otherwise than usual: for what it waits."""
        path = repr(self.path) if isinstance(self.path, Reference) else self.path
        return {**super().options(), "path": path}

    @cached_property
    def output_type(self) -> Any:
        """The path."""
        return str

    def wanted(self, place: Sequence[str | int]) -> Any:
        """Return the types that a path may have."""
        return str | Path

    def run(self, context: Context) -> str:
        """Return for what it waits; that it is there, the engine sees.

        Raises:
            StepError: What stands for the path is none.
        """
        try:
            return path_of(resolved(self.path, context), "path")
        except SettingError as error:
            raise StepError(f"step '{context.step}' cannot wait: {error}") from error
