"""What each instance of a map does with its item, if it calls no function: run a flow, or Bash.

Each is an `Execution` that is no step of the flow by itself: the map stands there for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, Unpack

from oautom.errors import FlowError, shown
from oautom.steps.bash import (
    ARGUMENT_BYTES_MAX,
    ITEM,
    SKIP_EXIT_CODE,
    BashExecution,
    Env,
    Output,
    Where,
    item_variables,
)
from oautom.steps.context import Context
from oautom.steps.execution import Execution
from oautom.steps.flow import FlowExecution
from oautom.steps.options import StepOptions
from oautom.steps.owner import Owner
from oautom.values.annotations import takes_object
from oautom.values.references import Reference


@dataclass(frozen=True)
class Bash:
    """A Bash command for each item of a map: `MapExecution('zip', flow, Bash('gzip "$ITEM"'), it)`.

    The item is in `$ITEM`: a text as it is, any other value as JSON. Of a dictionary, the value of
    each key that can be part of the name of a variable is also in `$ITEM_key`. Values never become
    part of the text of the command. The command runs as that of a `BashExecution`, whose arguments
    these are.

    Args:
        command: The text that Bash runs.
        env: More variables, none of which may be `ITEM` or begin with `ITEM_`.
        cwd, output, skip_exit_code, strict, grace_period, place: As of `BashExecution`.
    """

    command: str
    _: KW_ONLY
    env: Mapping[str, Env] | None = None
    cwd: str | os.PathLike[str] | Reference | Execution | None = None
    output: Output = "last_line"
    skip_exit_code: int | None = SKIP_EXIT_CODE
    strict: bool | None = None
    grace_period: float = 3.0
    place: Where | None = None


class EachBash(BashExecution):
    """The command of an instance."""

    _is_part = True

    def __init__(
        self, name: str, flow: Owner, bash: Bash, kwargs: object, **options: Unpack[StepOptions]
    ) -> None:
        if kwargs is not None:
            raise self.wrong(flow, name, "a command takes no kwargs; use Bash(..., env={...})")
        super().__init__(name, flow, **vars(bash), **options)
        for key in self.env:
            if key == ITEM or key.startswith(f"{ITEM}_"):
                raise self.wrong(
                    flow, name, f"env has {shown(key)}, which is for the item; name it otherwise"
                )

    def _env(self, context: Context) -> dict[str, str]:
        """Return the variables, with those of the item."""
        return {**super()._env(context), **item_variables(context.item)}

    def _what_is_too_large(self) -> str:
        is_command = len(os.fsencode(self.command)) >= ARGUMENT_BYTES_MAX
        return super()._what_is_too_large() if is_command else _TOO_LARGE


_TOO_LARGE: Final = (
    "its item and its env are larger than the system allows; write the item to a file in a step, "
    "and map over the paths"
)


class EachFlow(FlowExecution):
    """The child of an instance: its parameters are in the item, or the item is its only one."""

    _is_part = True

    def only_param(self) -> str | None:
        """Return the name of the only parameter that `kwargs` does not give, or None."""
        left = [name for name in self.runs.params if name not in self.params]
        return left[0] if len(left) == 1 else None

    def takes_whole(self) -> bool:
        """Whether a dictionary is the value of the only parameter, and not all parameters."""
        only = self.only_param()
        return only is not None and takes_object(self.runs.params[only].annotation)

    def run(self, context: Context) -> Mapping[str, Any]:
        """Return the parameters of the child; the engine does the rest.

        Raises:
            FlowError: The item gives no parameters.
        """
        item, given = context.item, super().run(context)
        if isinstance(item, Mapping) and not self.takes_whole():
            return {**given, **item}
        if (only := self.only_param()) is None:
            raise self.wrong_item(context, self.why_no_value())
        return {**given, only: item}

    def wrong_item(self, context: Context, why: str) -> FlowError:
        """Return the error of an instance whose item cannot be the parameters of a child."""
        what = f"cannot run flow '{self.runs.name}' for its item {shown(context.item)}: {why}"
        return FlowError(
            f"step '{context.step}' of flow '{context.flow}' {what}",
            flow=context.flow,
            step=context.step,
        )

    def why_no_value(self) -> str:
        """Return why an item that is no dictionary is the value of no parameter."""
        left = [f"'{name}'" for name in self.runs.params if name not in self.params]
        return (
            f"the item is no dictionary, and kwargs leaves {len(left)} parameters of that flow"
            f"{' (' + ', '.join(left) + ')' if left else ''}, not one; make each item a dictionary "
            "of parameters, or give all but one by kwargs"
        )
