"""`Vect`: one run of a flow, as its users see it. Nothing here changes the state of a run."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from oautom.errors import EngineError, NotFinishedError, StepFailedError, UnknownStepError
from oautom.events.log import EventLog
from oautom.flows.flow import Flow
from oautom.machine.commands import Cancel, Command, Decide, Pause, Resume, Retry
from oautom.machine.event import Event
from oautom.machine.state import StepState, View, committed
from oautom.machine.tables import STEP_ENDS, VECT_ENDS
from oautom.pictures.drawn import Drawn
from oautom.processes.forked import Home
from oautom.steps.execution import Execution
from oautom.values.json import at_heart, plain_value, time_limit
from oautom.values.names import plain_text
from oautom.vects.attempts import Attempt, attempts_of
from oautom.vects.run import NO_FAILURE, Run, visible

if TYPE_CHECKING:
    from oautom.pictures.nodes import Node


class Engine(Protocol):
    """The engine, as far as a Vect needs it. Any thread.

    Attributes:
        home: The process in which it works.
        log: The log with the events.
    """

    home: Home
    log: EventLog

    def check_process(self) -> object:
        """Refuse calls that need the engine, in a worker process, which has a copy of the app."""

    def wait(self, run: Run, timeout: float | None) -> bool:
        """Wait for the end of a run, and drive it if no other thread does; False at the timeout."""

    async def ended(self, run: Run) -> None:
        """Wait for the end of a run, while the event loop goes on; errors as of `wait`."""

    def obey(self, run: Run, command: Command) -> None:
        """Carry out a command for a run, and return when the log has the result."""

    def status(self, run: Run) -> dict[str, Any]:
        """Return the state of a run between two ticks."""

    def explain(self, run: Run, step: str) -> str:
        """Return why a step of a run is, or is not, running."""


class Vect(Drawn):
    """One run of a flow. Made by `OAutom.run` and `OAutom.start`; may be used on any thread.

    In a forked child only `id` and `flow` can be read: all other members raise an `EngineError`.
    """

    __slots__ = ("__weakref__", "_engine", "_local", "_of")

    def __init__(self, run: Run, engine: Engine) -> None:
        self._of = run
        self._engine = engine
        self._local = run.local  # keeps data alive that no log has

    @property
    def _run(self) -> Run:
        """The run, for all members that may change.

        Raises:
            EngineError: This is a forked child of the process in which the run goes on.
        """
        self._engine.home.check()
        return self._of

    @property
    def id(self) -> str:
        """The id of the Vect, unique in its log."""
        return self._of.id

    @property
    def flow(self) -> Flow:
        """The flow that this is a run of."""
        return self._of.flow

    @property
    def state(self) -> str:
        """`pending`, `running`, `paused`, `ending`, `success`, `failed` or `cancelled`."""
        return self._run.shown

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self._run.shown in VECT_ENDS

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters of the run, as values of their types; read-only."""
        return self._run.params()

    @property
    def steps(self) -> Mapping[str, Step]:
        """A `Step` for each step, by name, in the order of declaration."""
        return _Steps(self._run, self._engine)

    def status(self) -> dict[str, Any]:
        """Return the state of the Vect and of each of its steps, in the form of JSON."""
        return self._engine.status(self._run)

    def events(self) -> list[Event]:
        """Return the events of this Vect so far, in the order of the log."""
        return list(self._engine.log.read(vect=self._run.id))

    def wait(self, timeout: float | None = None) -> str:
        """Wait until the Vect has ended and no process of it is left.

        The call waits up to 10 seconds for a cancelled function that has asked for
        `context.cancelled`. In foreground mode this call drives the engine, on the calling thread.

        Args:
            timeout: Seconds to wait at most; None for no limit.

        Returns:
            The state in which the Vect ended.

        Raises:
            TimeoutError: The Vect had not ended when the timeout was over; it goes on.
            EngineError: Called on the scheduler's own thread, where it would wait for itself. Or
                the engine does not go on with the Vect in this program: it is stranded by a bug, or
                all work was ended.
            LogError: The engine has stopped, since its log could not be written.
            FlowChangedError: The Vect is left from an earlier program, and does not go on, since
                its flow has changed.
        """
        self._check_going_on()
        seconds = time_limit(timeout)
        if not self._engine.wait(self._run, seconds):
            raise TimeoutError(
                f"vect {self.id} of flow '{self.flow.name}' is '{self.state}' after "
                f"{seconds} seconds; it goes on: wait again, or cancel() it"
            )
        return self.state

    def __await__(self) -> Generator[Any, None, str]:
        """Wait as `wait` does, in an asyncio program: its event loop goes on meanwhile.

        Cancelling the awaiting task does not cancel the Vect. Errors are those of `wait`.
        """
        return self._ended().__await__()

    async def _ended(self) -> str:
        self._check_going_on()
        await self._engine.ended(self._run)
        return self.state

    def _check_going_on(self) -> None:
        run = self._run
        if run.held_up is not None:
            self._engine.check_process()
            run.check_going_on()

    def result(self, step: str | Execution) -> Any:
        """Return the output of a step.

        Raises:
            UnknownStepError: The flow has no such step.
            NotFinishedError: The step has not ended yet.
            StepFailedError: The step has ended without an output; raised from the step's own
                exception if this process has it. The traceback of that exception is a note, as
                text: the frames themselves would keep all variables of the step alive.
        """
        name = self._step(step).name
        model = self._run.state.steps[name]
        state, _, _, error, *_ = committed(model)
        if state == "success":
            return self._run.output(model)
        if state not in STEP_ENDS:
            raise NotFinishedError(self.flow.name, name, state)
        blamed = self._run.to_blame(model)
        if blamed.name != name:
            error = f"{error}: {blamed.error}"
        failure = StepFailedError(self.flow.name, name, state, error)
        cause, trace = self._local.failures.get(blamed.name, NO_FAILURE)
        if trace:
            failure.add_note(f"step '{blamed.name}': {trace}")
        raise failure from cause

    def explain(self, step: str | Execution) -> str:
        """Return why a step is, or is not, running: one sentence, from the log and the scheduler.

        Times are in UTC, with the date if it is not today's by the clock of the app.

        Raises:
            UnknownStepError: The flow has no such step.
        """
        return self._engine.explain(self._run, self._step(step).name)

    def _step(self, step: str | Execution) -> Step:
        if not issubclass(type(step), Execution):
            return self.steps[cast("str", step)]
        declared = cast("Execution", step)
        if declared.flow is not self.flow:
            name = f"{declared.flow.name}/{declared.name}"
            raise UnknownStepError(self.flow.name, name, self.steps)
        return self.steps[declared.name]

    def cancel(self, reason: str = "") -> None:
        """End the Vect: running steps are ended, others never start.

        Returns when the log has the cancel; `wait` returns when all running steps have ended. A
        Vect that has ended does not change. In foreground mode, while no thread drives the engine,
        this and the other methods that change a Vect do their work on the calling thread, and
        nothing else. On the scheduler's own thread, in a receiver or an inline step, the cancel is
        part of the next commit.

        Args:
            reason: The reason, for the log.

        Raises:
            EngineError: A step or receiver has occupied the scheduler's thread for 30 seconds;
                nothing was done. Or the app is closed.
            LogError: The engine has stopped, since its log could not be written.
        """
        self._engine.obey(self._run, Cancel(self.id, plain_text(reason, "reason")))

    def pause(self) -> None:
        """Stop starting steps; running steps go on to their end.

        Returns when the log has the pause. A Vect that has ended does not change. Errors are those
        of `cancel`, and that of a Vect that does not go on.
        """
        self._engine.obey(self._run, Pause(self.id))

    def resume(self) -> None:
        """Start steps again after a pause; any other Vect does not change. Errors as of `pause`."""
        self._engine.obey(self._run, Resume(self.id))

    def retry(self) -> None:
        """Run the steps again that have failed or were cancelled, and all that depend on them.

        They run in the same Vect: steps that have succeeded, and depend on none of these, stay as
        they are. If an attempt of a step is still being ended, the step runs again when that
        attempt is gone. Returns when the log has the retry; `wait` waits for its end.

        Raises:
            VectStateError: The Vect has neither failed nor been cancelled.
            FlowChangedError: The Vect is one of an earlier program, and its flow has changed since.
            VectAlreadyRunningException: `max_active_vects` Vects of the flow are open already.
            All errors of `cancel`.
        """
        self._engine.obey(self._run, Retry(self.id))

    def approve(self, step: str, by: str, data: Any = None) -> None:
        """Approve an `ApprovalExecution`: its output is `{'by': by, 'data': data}`.

        Returns when the log has the approval. If two people decide, the first decision in the log
        counts; the other becomes a `step.late_result`, and its error names the first person.

        Args:
            step: The name of an `ApprovalExecution`.
            by: The name of the person who approves.
            data: Data of the decision, such as a comment; for a durable log it must be JSON.

        Raises:
            UnknownStepError: The flow has no such step.
            VectStateError: The step does not wait for an approval, or was decided already.
            NotJsonError: JSON cannot store `data`, and the log is durable.
            All errors of `cancel`.
        """
        name = self.steps[step].name
        who = plain_text(by, f"step '{name}': by")
        if self._run.is_durable:
            data = plain_value(data)
        self._engine.log.check_value(data)
        self._engine.obey(self._run, Decide(self.id, name, who, data))

    def reject(self, step: str, by: str, reason: str = "") -> None:
        """Reject an `ApprovalExecution`: it fails. Arguments and errors are those of `approve`."""
        name = self.steps[step].name
        who = plain_text(by, f"step '{name}': by")
        why = plain_text(reason, f"step '{name}': reason")
        self._engine.obey(self._run, Decide(self.id, name, who, objection=why))

    def _title(self) -> str:
        return f"{self.id} of flow '{self.flow.name}': {self.state}"

    def _nodes(self) -> list[Node]:
        from oautom.vects.drawn import nodes_of  # noqa: PLC0415 - most programs draw nothing

        return nodes_of(self._run.state, self.status())

    def __getstate__(self) -> NoReturn:
        """Refuse to travel to another process.

        Raises:
            EngineError: Always.
        """
        raise EngineError(
            f"vect '{self.id}' stays in the process of its app; send its id, or its result, to a "
            "step elsewhere"
        )

    def __repr__(self) -> str:
        """Return id, flow and state."""
        return f"<Vect {self.id} of '{self.flow.name}': {self._of.shown}>"


class Step:
    """The state of one step in one Vect. A view: each read shows the newest commit."""

    __slots__ = ("_engine", "_local", "_name", "_of")

    def __init__(self, run: Run, name: str, engine: Engine) -> None:
        self._of = run
        self._local = run.local
        self._name = name
        self._engine = engine

    @property
    def _run(self) -> Run:
        self._engine.home.check()
        return self._of

    @property
    def _state(self) -> StepState:
        return self._run.state.steps[self._name]

    @property
    def _view(self) -> View:
        return committed(self._state)

    @property
    def name(self) -> str:
        """The name of the step."""
        return self._name

    @property
    def label(self) -> str | None:
        """The label of an instance of a map, or None."""
        return self._state.label

    @property
    def state(self) -> str:
        """The state of the step.

        `pending`, `running`, `success`, `failed`, `skipped`, `upstream_failed`, `up_for_retry` or
        `cancelled`.
        """
        return self._view[0]

    @property
    def attempt(self) -> int:
        """Number of the newest attempt, from 1; 0 before the first."""
        return self._view[1]

    @property
    def output(self) -> Any:
        """The output of the step; None before it succeeded."""
        return self._run.output(self._state)

    @property
    def error(self) -> str | None:
        """One line about what went wrong, or None."""
        return self._view[3]

    @property
    def start_date(self) -> datetime | None:
        """When the newest attempt began: aware, UTC."""
        return self._view[4]

    @property
    def end_date(self) -> datetime | None:
        """When the step ended: aware, UTC."""
        return self._view[5]

    @property
    def child(self) -> str | None:
        """The id of the Vect that the newest attempt runs, of a `FlowExecution` or a map."""
        attempt = self.attempt
        if self._state.kind != "flow" or not attempt:
            return None
        return self._state.vect.child_of(self._name, attempt)

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts in the order in which they began; each read asks the log.

        Attempts to undo the work of the step are among them, with negative numbers.

        Raises:
            LogError: The log cannot be read.
        """
        self._engine.home.check()
        return attempts_of(self._engine.log.read(vect=self._of.id), self._name, self._text_of)

    @property
    def log_text(self) -> str:
        """The text of the newest attempt so far, its newest `log_limit_bytes`.

        If something before that is missing, the first line says so.

        Raises:
            LogError: The log cannot be read.
        """
        state = self._state
        undoing = state.compensation
        if undoing is None or not undoing.attempt:
            return self._text(self.attempt, is_whole=self.state != "running")
        return self.attempts[-1].log_text  # the newest may be a compensation

    def _text_of(self, attempt: Attempt) -> str:
        return self._text(attempt.number, is_whole=attempt.state != "running")

    def _text(self, number: int, *, is_whole: bool) -> str:
        self._engine.home.check()
        text = self._engine.log.text((self._of.id, self._name, number))
        if text is None:
            buffer = self._local.buffers.get((self._name, number))
            text = None if buffer is None else buffer.kept()
        return "" if text is None else text.shown(is_whole=is_whole)

    def __repr__(self) -> str:
        """Return name and state."""
        return f"<Step '{self.name}': {committed(self._of.state.steps[self._name])[0]}>"


class _Steps(Mapping[str, Step]):
    def __repr__(self) -> str:
        return repr({step.name: committed(step)[0] for step in visible(self._of.state)})

    def __init__(self, run: Run, engine: Engine) -> None:
        self._of = run
        self._engine = engine

    @property
    def _run(self) -> Run:
        self._engine.home.check()
        return self._of

    def __getitem__(self, name: str) -> Step:
        heart = at_heart(name)
        step = self._run.state.steps.get(heart) if type(heart) is str else None
        if step is None or not step.is_visible:
            raise UnknownStepError(self._run.flow.name, name, [each.name for each in self._known()])
        return Step(self._run, heart, self._engine)

    def _known(self) -> list[StepState]:
        return visible(self._run.state)

    def __iter__(self) -> Iterator[str]:
        return iter([step.name for step in self._known()])

    def __len__(self) -> int:
        return len(self._known())
