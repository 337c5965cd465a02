"""`Run`: one Vect inside the engine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from oautom.conversion import NotConvertibleError, restore
from oautom.errors import FlowError, OAutomError, shown
from oautom.events.event import NO_DATA
from oautom.events.fold import StepState, VectState, committed
from oautom.executions.base import Execution
from oautom.executions.context import LogBuffer
from oautom.executions.map import MapExecution
from oautom.flow import Flow
from oautom.params import NO_PARAMS
from oautom.states import HELD, VECT_ENDS
from oautom.values import copy_of_plain, is_changeable, own_copy

_BAD_ENDS = frozenset({"failed", "upstream_failed"})


class Run:
    """One Vect inside the engine: its flow, its state, and what is known in this process only.

    Attributes:
        id: The id of the Vect.
        is_durable: Its log keeps values as JSON has them, as one that outlives the program does:
            outputs are read as values of their types.
        state: What the events add up to, those included that are not committed yet.
        shown: The name of the state of the Vect, as committed.
        is_created: Its first event is committed: there is such a Vect.
        is_told: The Vect has ended, and the receivers of signals have been told so.
        held_up: Why the Vect does not go on though the log has it open, or None: its flow has
            changed, its events make no sense, or the engine itself has failed with it.
        is_inherited: An earlier program has left it open, and it was not taken over yet.
        buffers: What the steps have written, by the name of the step.
        causes: The exceptions that failed steps have raised, by the name of the step.
        live: The very objects that steps have returned, by the name of the step and the attempt;
            only where the log is in memory, and of what the engine has a copy of its own.
        origin: What has started it, as `vect.created` tells it: a plan and for which time, or an
            attempt of a step of another Vect; empty where somebody has.
    """

    __slots__ = (
        "__weakref__",
        "buffers",
        "causes",
        "first_params",
        "flow",
        "held_up",
        "id",
        "is_created",
        "is_durable",
        "is_inherited",
        "is_told",
        "live",
        "origin",
        "shown",
        "state",
    )

    def __init__(
        self,
        flow: Flow,
        id: str,  # noqa: A002 - the public word
        params: Mapping[str, Any] = NO_PARAMS,
        origin: Mapping[str, Any] = NO_DATA,
        *,
        is_durable: bool = False,
    ) -> None:
        self.flow = flow
        self.id = id
        self.first_params = params  # plain, as in the log
        self.is_durable = is_durable
        self.state = self.first_state()
        self.shown: str = self.state.state
        self.is_created = False
        self.is_told = False
        self.is_inherited = False
        self.held_up: OAutomError | None = None
        self.buffers: dict[str, LogBuffer] = {}
        self.causes: dict[str, BaseException] = {}
        self.live: dict[tuple[str, int], Any] = {}
        self.origin = origin

    @property
    def is_unread(self) -> bool:
        """Whether its events have not been read yet, or cannot be."""
        return False

    def first_state(self) -> VectState:
        """Return the state before all events."""
        return VectState(
            self.flow.name, self.id, self.flow.graph, self.first_params, self.flow.options
        )

    def lost_steps(self) -> list[StepState]:
        """Return the steps at work when their program ended that shall not run again."""
        return [
            step
            for step in self.state.steps.values()
            if step.state == "running"
            and step.kind not in HELD
            and self.execution(step).on_crash == "fail"
        ]

    def params(self) -> Mapping[str, Any]:
        """Return the parameters, as values of their types."""
        return self.flow.params.typed(self.state.params)

    def execution(self, step: StepState) -> Execution:
        """Return what a step does; an instance does what its map does."""
        return self.flow.steps[step.declared]

    def output_type(self, step: StepState) -> Any:
        """Return the type of the output of a step."""
        execution = self.execution(step)
        if isinstance(execution, MapExecution) and step.parent is not None:
            return execution.instance_type
        return execution.output_type

    def item(self, step: StepState) -> Any:
        """Return the item of an instance as a value of its type, made anew; errors as of `output`.

        With a log in memory it is a copy too, since the engine walks the list that it is of.
        """
        assert step.parent is not None
        assert step.parent.mapped is not None
        item = step.parent.mapped.items[step.index]
        if not self.is_durable and step.options["over"][0] == "step":
            return own_copy(item)
        execution = self.execution(step)
        assert isinstance(execution, MapExecution)
        return self._restored(item, execution.item_type, "item", step)

    def output(self, step: StepState) -> Any:
        """Return the output of a step, as committed, as a value of its type. Any thread.

        From a durable log it is made anew for each who asks, so nobody changes it for others. With
        a log in memory it is the very object that the step has returned.

        Raises:
            FlowError: It was written when the flow had another type there.
        """
        state, attempt, output, *_ = committed(step)
        if state != "success":
            return output
        if not self.is_durable:
            return self._live(step, attempt, output)
        if step.declared not in self.flow.steps:  # the flow has changed
            return copy_of_plain(output)
        return self._restored(output, self.output_type(step), "output", step)

    def visible(self) -> list[StepState]:
        """Return the steps that readers see: an instance of a map, when its start is committed."""
        steps = self.state.steps
        declared = [steps[name] for name in self.state.graph.upstreams]
        shown = {step.name: step.mapped.shown for step in declared if step.mapped is not None}
        # Only now, in one C call: a map may be making instances, and what is shown is there.
        return [step for step in list(steps.values()) if _is_shown(step, shown)]

    def hand_on(self, step: str, attempt: int, live: Any) -> None:
        """Take in what an attempt of a step has returned, where the log is in memory."""
        if not self.is_durable and is_changeable(live):
            self.live[step, attempt] = live

    def _live(self, step: StepState, attempt: int, output: Any) -> Any:
        if step.mapped is not None:
            instances = step.mapped.instances[: len(step.mapped.items)]
            return [self.output(instance) for instance in instances]
        key = step.name, attempt
        return self.live[key] if key in self.live else own_copy(output)

    def to_blame(self, step: StepState) -> StepState:
        """Return the step that failed in the first place, of one that was blocked; else itself."""
        steps = self.state.steps
        while step.state == "upstream_failed":
            names = self.state.graph.upstreams.get(step.name, ())
            bad = (steps[name] for name in names if steps[name].state in _BAD_ENDS)
            if (found := next(bad, None)) is None:
                break
            step = found
        return step

    def _restored(self, plain: object, annotation: Any, what: str, step: StepState) -> Any:
        try:
            return restore(plain, annotation)
        except NotConvertibleError as error:
            raise FlowError(
                f"the {what} of step '{step.name}' of flow '{self.flow.name}' in vect '{self.id}' "
                f"is {shown(plain)}, which is no longer its type: {error}; its events have "
                "it as it is",
                flow=self.flow.name,
                step=step.name,
            ) from error

    def has_ended_before(self, instant: datetime) -> bool:
        """Whether it ended before an instant, and everybody has been told so."""
        if self.is_unread:  # the log says when it ended
            return self.shown in VECT_ENDS
        end = self.state.end_date
        return self.is_told and end is not None and end < instant


def unread_status(run: Run) -> dict[str, Any]:
    """Return what the index of the log tells of a Vect whose events cannot be read."""
    told = {
        "id": run.id,
        "name": run.flow.name,
        "state": run.shown,
        "ended": run.shown in VECT_ENDS,
    }
    return told | {"start_date": None, "end_date": None, "params": {}, "executions": []}


def _is_shown(step: StepState, shown: Mapping[str, int]) -> bool:
    return step.parent is None or step.index < shown[step.parent.name]


def status_of(run: Run) -> dict[str, Any]:
    """Return how a Vect and its steps stand, as committed, as JSON would have it."""
    state = run.state
    _, _, _, _, start_date, end_date = committed(state)
    return {
        "id": state.id,
        "name": state.flow,
        "state": run.shown,
        "ended": run.shown in VECT_ENDS,
        "start_date": _iso(start_date),
        "end_date": _iso(end_date),
        "params": dict(state.params),
        "executions": [_status_of_step(step) for step in run.visible()],
    }


def _status_of_step(step: StepState) -> dict[str, Any]:
    state, attempt, _, error, start_date, end_date = committed(step)
    return {
        "name": step.name,
        "state": state,
        "attempt": attempt,
        "start_date": _iso(start_date),
        "end_date": _iso(end_date),
        "error": error,
    }


def _iso(date: datetime | None) -> str | None:
    return None if date is None else date.isoformat()
