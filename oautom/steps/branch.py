"""`BranchExecution`: a step that chooses which of its dependants run."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterable
from functools import cached_property
from typing import Any

from oautom.errors import shown
from oautom.steps.context import Context
from oautom.steps.execution import Execution
from oautom.steps.python import PythonExecution
from oautom.steps.work import StepError


class BranchExecution(PythonExecution):
    """A step whose function chooses which of its direct dependants run: names, or steps.

    The other dependants are skipped, whatever their trigger rule is, unless they have started
    already, or also depend on a chosen step. Steps that depend on skipped ones follow their own
    trigger rules. None, or an empty list, chooses no step. The output of the step is the list of
    names.

    Arguments and errors are those of `PythonExecution`. The step fails if the function returns
    anything else than names of direct dependants.
    """

    kind = "branch"

    @cached_property
    def output_type(self) -> Any:
        """A list of names, whatever the function itself returns."""
        return list[str]

    def run(self, context: Context) -> Any:
        """Call the function, and return the names of the chosen steps."""
        chosen = super().run(context)
        return self._awaited(chosen) if inspect.iscoroutine(chosen) else self._names(chosen)

    async def _awaited(self, chosen: Awaitable[Any]) -> list[str]:
        return self._names(await chosen)

    def _names(self, chosen: Any) -> list[str]:
        return [self._name_of(each) for each in _listed(chosen)]

    def _name_of(self, chosen: Any) -> str:
        if isinstance(chosen, Execution):
            return chosen.name
        if isinstance(chosen, str):
            return chosen
        raise StepError(
            f"branch '{self.name}' must return names of steps that depend on it, not "
            f"{shown(chosen)}"
        )


def _listed(chosen: Any) -> Iterable[Any]:
    if chosen is None:
        return ()
    is_list = isinstance(chosen, Iterable) and not isinstance(chosen, str)
    return chosen if is_list else (chosen,)
