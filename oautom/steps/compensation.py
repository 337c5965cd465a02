"""Compensations: steps that undo the work of another step, and stand in no flow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from oautom.errors import shown
from oautom.machine.kinds import kind_of
from oautom.steps.bash import BashExecution, as_text, item_variables
from oautom.steps.context import Context
from oautom.steps.execution import Execution
from oautom.steps.owner import Flows, Owner
from oautom.steps.python import PythonExecution
from oautom.values.references import Reference


class _Nowhere:
    """The owner of a compensation: it knows the flow, which does not know the compensation."""

    def __init__(self, step: Execution, flow: Owner) -> None:
        self._flow = flow
        self.name = flow.name
        # The time that a person may take to decide is no limit for undoing the decision.
        is_work = kind_of(step.kind).ended_by in ("work", "parts")
        self.retry = step.retry if is_work else flow.retry
        self.timeout = step.timeout if is_work else flow.timeout
        self.max_async = flow.max_async
        self.strict = flow.strict if step.strict is None else step.strict
        self.capture = step.capture
        self.steps = flow.steps
        self.params = flow.params

    @property
    def app(self) -> Flows:
        return self._flow.app

    def add(self, step: Any, /) -> None:
        """Add nothing."""

    def add_edges(self, step: Any, upstreams: Iterable[Any], /) -> None:
        """Add no dependency: the values that the step took exist already."""


class _BashCompensation(BashExecution):
    """A command that gets the output of the step in `$OUTPUT`, beside the step's own `env`."""

    def __init__(self, step: Execution, owner: Owner, command: str, **options: Any) -> None:
        super().__init__(step.name, owner, command, skip_exit_code=None, **options)
        self._has_item = step.kind == "map"
        if isinstance(step.each, BashExecution):
            # Checked with the step: a compensation has no place in the flow.
            self.env = step.each.env
            self._is_wired = any(isinstance(value, Reference) for value in self.env.values())
            self.secrets = step.each.secrets

    def _env(self, context: Context) -> dict[str, str]:
        output = "" if context.output is None else as_text("OUTPUT", context.output)
        item = item_variables(context.item) if self._has_item else {}
        return {**super()._env(context), **item, "OUTPUT": output}


def compensation_of(step: Execution, flow: Owner) -> Execution:
    """Return the compensation of a step, made from its `compensate`.

    Raises:
        FlowError: `compensate` is neither a command nor a function, or the function takes other
            parameters.
    """
    made = _made(step, flow)
    made.undoes = True
    made.submit = step.submit
    return made


def _made(step: Execution, flow: Owner) -> Execution:
    how = step.compensate
    owner = _Nowhere(step, flow)
    options: dict[str, Any] = {"log_limit_bytes": step.log_limit_bytes}
    if isinstance(how, str):
        if isinstance(of := step.each, BashExecution):
            options |= {"cwd": of.cwd, "grace_period": of.grace_period}
            options["place"] = "here" if of.runs_here else "worker"
        return _BashCompensation(step, owner, how, **options)
    if not callable(how):
        what = f"compensate must be a function, or a Bash command, not {shown(how)}"
        raise step.wrong(flow, step.name, what)
    return PythonExecution(step.name, owner, how, **options)
