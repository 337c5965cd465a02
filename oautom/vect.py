"""`Vect`: one run of a flow, as its users see it. Nothing here changes the state of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol

from oautom.errors import (
    NotFinishedError,
    OAutomError,
    SettingError,
    StepFailedError,
    UnknownStepError,
)
from oautom.events.event import NO_DATA, Event
from oautom.events.fold import StepState, VectState
from oautom.executions.base import Execution
from oautom.executions.context import LogBuffer
from oautom.flow import Flow, is_unicode
from oautom.states import STEP_ENDS, VECT_ENDS


class Run:
    """One Vect inside the engine: its flow, its state, and what is known in this process only.

    Attributes:
        id: The id of the Vect.
        state: What the events add up to, those included that are not committed yet.
        shown: The name of the state of the Vect, as committed.
        is_told: The Vect has ended, and the receivers of signals have been told so.
        held_up: Why the Vect does not go on though the log has it open, or None.
        buffers: What the steps have written, by the name of the step.
        causes: The exceptions that failed steps have raised, by the name of the step.
        planned: The plan that has started it and for which time, as `vect.created` tells it.
    """

    __slots__ = (
        "__weakref__",
        "buffers",
        "causes",
        "flow",
        "held_up",
        "id",
        "is_told",
        "planned",
        "shown",
        "state",
    )

    def __init__(
        self,
        flow: Flow,
        id: str,  # noqa: A002 - the public word
        planned: Mapping[str, str] = NO_DATA,
    ) -> None:
        self.flow = flow
        self.id = id
        self.state = self.first_state()
        self.shown: str = self.state.state
        self.is_told = False
        self.held_up: OAutomError | None = None
        self.buffers: dict[str, LogBuffer] = {}
        self.causes: dict[str, BaseException] = {}
        self.planned = planned

    def first_state(self) -> VectState:
        """Return the state before all events."""
        return VectState(
            self.flow.name, self.id, self.flow.graph, MappingProxyType({}), self.flow.options
        )

    def has_ended_before(self, instant: datetime) -> bool:
        """Whether it ended before an instant, and everybody has been told so."""
        end = self.state.end_date
        return self.is_told and end is not None and end < instant


class Engine(Protocol):
    """What a Vect asks of the engine that runs it. Any thread."""

    def wait(self, run: Run, timeout: float | None) -> bool:
        """Wait for the end of a run, driving it where nobody else does; False at the timeout."""

    def cancel(self, run: Run, reason: str) -> None:
        """Ask for the end of a run."""

    def events(self, run: Run) -> Iterator[Event]:
        """Yield the committed events of a run."""

    def status(self, run: Run) -> dict[str, Any]:
        """Return the state of a run between two ticks."""


class Vect:
    """One run of a flow. Made by `OAutom.run` and `OAutom.start`; may be used on any thread."""

    def __init__(self, run: Run, engine: Engine) -> None:
        self._run = run
        self._engine = engine

    @property
    def id(self) -> str:
        """The id of the Vect, unique in its log."""
        return self._run.id

    @property
    def flow(self) -> Flow:
        """The flow that this is a run of."""
        return self._run.flow

    @property
    def state(self) -> str:
        """`pending`, `running`, `success`, `failed` or `cancelled`."""
        return self._run.shown

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self._run.shown in VECT_ENDS

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters of the run, read-only."""
        return self._run.state.params

    @property
    def steps(self) -> Mapping[str, Step]:
        """The steps by name, in the order of declaration: what each has done in this run."""
        return _Steps(self._run)

    def status(self) -> dict[str, Any]:
        """Return the state of the Vect and of each of its steps, as JSON would have it."""
        return self._engine.status(self._run)

    def events(self) -> list[Event]:
        """Return what has happened in this Vect so far, in the order of the log."""
        return list(self._engine.events(self._run))

    def wait(self, timeout: float | None = None) -> str:
        """Wait until the Vect has ended and no process of it is left.

        In foreground mode this is what drives the engine, on the calling thread.

        Args:
            timeout: Seconds to wait at the longest; None for as long as it takes.

        Returns:
            The state in which the Vect ended.

        Raises:
            TimeoutError: The time was up first; the Vect goes on.
            EngineError: Called on the scheduler's own thread, where it would wait for itself.
            LogError: The engine has stopped, since its log could not be written.
            FlowChangedError: The Vect is left from an earlier program, and does not go on, since
                its flow has changed.
        """
        if self._run.held_up is not None:
            raise self._run.held_up
        if timeout is not None and not (isinstance(timeout, int | float) and timeout == timeout):
            raise SettingError(f"timeout must be seconds or None, not {timeout!r}")
        if not self._engine.wait(self._run, timeout):
            raise TimeoutError(
                f"vect {self.id} of flow '{self.flow.name}' is '{self.state}' after "
                f"{timeout} seconds; it goes on, wait again or cancel() it"
            )
        return self.state

    def result(self, step: str | Execution) -> Any:
        """Return the output of a step.

        Raises:
            UnknownStepError: The flow has no such step.
            NotFinishedError: The step has not ended yet.
            StepFailedError: It has ended without an output; raised from the step's own exception
                where there was one in this process.
        """
        if isinstance(step, Execution) and step.flow is not self.flow:
            raise UnknownStepError(self.flow.name, f"{step.flow.name}/{step.name}", self.steps)
        name = step.name if isinstance(step, Execution) else step
        view = self.steps[name]
        if view.state == "success":
            return view.output
        if view.state not in STEP_ENDS:
            raise NotFinishedError(self.flow.name, name, view.state)
        raise StepFailedError(
            self.flow.name, name, view.state, view.error
        ) from self._run.causes.get(name)

    def cancel(self, reason: str = "") -> None:
        """Ask for the end of the Vect: steps that run are ended, others are never started.

        Returns at once; `wait` tells when it is over. Of a Vect that has ended, nothing changes.

        Args:
            reason: Why, for the log.
        """
        if not isinstance(reason, str) or not is_unicode(reason):
            raise SettingError(f"reason must be text, not {reason!r}")
        self._run.held_up = None  # to cancel it is one way out
        self._engine.cancel(self._run, reason)

    def __repr__(self) -> str:
        """Return id, flow and state."""
        return f"<Vect {self.id} of '{self.flow.name}': {self.state}>"


class Step:
    """What one step has done in one Vect. A view: it shows how things stand when it is asked."""

    __slots__ = ("_run", "_state")

    def __init__(self, run: Run, state: StepState) -> None:
        self._run = run
        self._state = state

    @property
    def name(self) -> str:
        """The name of the step."""
        return self._state.name

    @property
    def state(self) -> str:
        """The name of its state.

        `pending`, `running`, `success`, `failed`, `skipped`, `upstream_failed` or `cancelled`.
        """
        return self._state.state

    @property
    def attempt(self) -> int:
        """Number of the newest attempt, from 1; 0 before the first."""
        return self._state.attempt

    @property
    def output(self) -> Any:
        """What the step returned; None before it succeeded."""
        return self._state.output

    @property
    def error(self) -> str | None:
        """What went wrong, in a line, or None."""
        return self._state.error

    @property
    def start_date(self) -> datetime | None:
        """When the newest attempt began: aware, UTC."""
        return self._state.start_date

    @property
    def end_date(self) -> datetime | None:
        """When the step ended: aware, UTC."""
        return self._state.end_date

    @property
    def log_text(self) -> str:
        """What the step has written so far, the newest `log_limit_bytes` of it."""
        buffer = self._run.buffers.get(self._state.name)
        return buffer.text() if buffer else ""

    def __repr__(self) -> str:
        """Return name and state."""
        return f"<Step '{self.name}': {self.state}>"


class _Steps(Mapping[str, Step]):
    def __repr__(self) -> str:
        return repr({name: step.state for name, step in self.items()})

    def __init__(self, run: Run) -> None:
        self._run = run

    def __getitem__(self, name: str) -> Step:
        try:
            return Step(self._run, self._run.state.steps[name])
        except (KeyError, TypeError):
            raise UnknownStepError(self._run.flow.name, name, self._run.state.steps) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._run.state.steps)

    def __len__(self) -> int:
        return len(self._run.state.steps)


def status_of(state: VectState) -> dict[str, Any]:
    """Return the state of a Vect and its steps as JSON would have it."""
    return {
        "id": state.id,
        "name": state.flow,
        "state": state.state,
        "ended": state.state in VECT_ENDS,
        "start_date": _iso(state.start_date),
        "end_date": _iso(state.end_date),
        "params": dict(state.params),
        "executions": [
            {
                "name": step.name,
                "state": step.state,
                "attempt": step.attempt,
                "start_date": _iso(step.start_date),
                "end_date": _iso(step.end_date),
                "error": step.error,
            }
            for step in state.steps.values()
        ],
    }


def _iso(date: datetime | None) -> str | None:
    return None if date is None else date.isoformat()
