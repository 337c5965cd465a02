"""`Run`: one Vect inside the engine.

What has ended is let go of: how it stands is in the log, and is read there by whoever asks. So a
program that runs for years is as large as what is under way in it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oautom.errors import (
    FlowError,
    OAutomError,
    shown,
)
from oautom.events.log import EventLog, keeps_objects
from oautom.events.texts import LogBuffer
from oautom.flows.fit import news
from oautom.flows.flow import Flow, Lane
from oautom.flows.params import NO_PARAMS
from oautom.machine.event import NO_DATA
from oautom.machine.kinds import kind_of
from oautom.machine.state import Options, StepState, VectState, View, committed
from oautom.machine.tables import INITIAL, VECT_ENDS
from oautom.steps.execution import Execution
from oautom.steps.map import MapExecution
from oautom.steps.work import NO_DETAILS, Outcome
from oautom.values.annotations import UNKNOWN
from oautom.values.convert import NotConvertibleError, keep, restore
from oautom.values.json import copy_of_plain, is_changeable, own_copy
from oautom.values.text import ERROR_BYTES_MAX, bounded, details_of, error_of

_BAD_ENDS = frozenset({"failed", "upstream_failed"})


_holding = threading.Lock()  # of any run: there is one state that moves


class Failure(NamedTuple):
    """What a failed step has raised.

    Attributes:
        cause: The exception; without traceback, whose frames would keep all that the step had in
            hand.
        trace: The traceback, as text.
    """

    cause: BaseException | None = None
    trace: str = ""


NO_FAILURE: Final = Failure()


class Local:
    """What only this process has of a Vect: no log keeps it.

    The engine has it while the Vect is open, and from then on whoever has the `Vect`.

    Attributes:
        buffers: What attempts have written, by the name of the step and the number of the attempt;
            only where the log does not keep it.
        failures: What failed steps have raised, by the name of the step.
        live: The very objects that steps have returned, by the name of the step and the attempt;
            only where the log is in memory, and of what the engine has a copy of its own.
    """

    __slots__ = ("__weakref__", "buffers", "failures", "live")

    def __init__(self) -> None:
        self.buffers: dict[tuple[str, int], LogBuffer] = {}
        self.failures: dict[str, Failure] = {}
        self.live: dict[tuple[str, int], Any] = {}


class Run:
    """One Vect inside the engine: its flow, its state, and what is known in this process only.

    Args:
        flow: Its flow.
        id: Its id.
        params: Its parameters, plain, as in the log.
        origin: See below.
        until: See below.
        is_durable: See below.
        read: Reads its state, of one that the log has; a new one begins with none.

    Attributes:
        id: The id of the Vect.
        until: The steps with which a new one ends, where it is a part of its flow; else none.
        is_durable: Its log keeps values as JSON has them, as one that outlives the program does:
            outputs are read as values of their types.
        state: What the events add up to, those included that are not committed yet. While the
            engine does not hold it, who asks has a reading of it, which nothing moves.
        local: What only this process has of it.
        is_held: The engine holds the state, and moves it.
        shown: The name of the state of the Vect, as committed.
        is_created: Its first event is committed: there is such a Vect.
        is_told: The Vect has ended, and the receivers of signals have been told so.
        ended: When that was.
        held_up: Why the Vect does not go on though the log has it open, or None: its flow has
            changed, its events make no sense, or the engine itself has failed with it.
        is_inherited: An earlier program has left it open, and it was not taken over yet.
        origin: What has started it, as `vect.created` tells it: a plan and for which time, or an
            attempt of a step of another Vect; empty where somebody has.
        lane: What counts for the limit under which it is open; see `Turns`.
        turn: Under which limit it has stood in line, as `vect.started` tells it; empty where it has
            not.
    """

    __slots__ = (
        "__weakref__",
        "_local",
        "_read",
        "ended",
        "first_params",
        "flow",
        "held_up",
        "id",
        "is_created",
        "is_durable",
        "is_held",
        "is_inherited",
        "is_told",
        "lane",
        "local",
        "origin",
        "shown",
        "state",
        "turn",
        "until",
    )

    def __init__(
        self,
        flow: Flow,
        id: str,  # noqa: A002 - the public word
        params: Mapping[str, Any] = NO_PARAMS,
        origin: Mapping[str, Any] = NO_DATA,
        *,
        until: Sequence[str] = (),
        is_durable: bool = False,
        read: Callable[[Run], VectState] | None = None,
    ) -> None:
        self.flow = flow
        self.id = id
        self.first_params = params
        self.until = until
        self.is_durable = is_durable
        self.is_held = read is None
        self._read = read
        self._local: weakref.ref[Local] | None = None
        if read is None:
            self.state: VectState = self.first_state()
            self.local: Local = Local()
        self.shown: str = INITIAL
        self.is_created = False
        self.is_told = False
        self.ended: datetime | None = None
        self.is_inherited = False
        self.held_up: OAutomError | None = None
        self.origin = origin
        self.lane: Lane = flow.name if flow.limit_by is None else flow.lane(params)
        self.turn: Mapping[str, Any] = NO_DATA

    if not TYPE_CHECKING:  # else nothing that is misspelt would be noticed

        def __getattr__(self, name: str) -> object:
            """Return `state` or `local` where the engine does not hold it: its slot is not set.

            A property would be one call more for each look at what moves.
            """
            if name == "state":
                return self._read(self)
            if name == "local":
                return self._local_of_others()
            raise AttributeError(name)

    def _local_of_others(self) -> Local:
        """Return what somebody else may still have; else that is gone."""
        local = None if self._local is None else self._local()
        if local is None:
            local = Local()
            self._local = weakref.ref(local)
        return local

    @property
    def keeps_slots(self) -> bool:
        """Whether a step keeps the slot of a pool while another flow runs, and a program dies."""
        steps = self.flow.steps.values()
        return any(step.kind == "flow" and step.pool is not None for step in steps)

    def hold(self, state: VectState | None = None) -> None:
        """Have the engine hold the state, to move it. Any thread; who is late changes nothing.

        Args:
            state: How it stands by its log; None to have that read.

        Raises:
            LogError: It cannot be read, or makes no sense.
        """
        if not self.is_held:
            read = self.state if state is None else state
            with _holding:
                if not self.is_held:
                    self.state, self.local = read, self.local
                    self.is_held = True
        self.state.is_live = True

    def let_go(self, read: Callable[[Run], VectState]) -> None:
        """Have the log alone keep what has come to its end; who asks next reads it there."""
        self._read = read
        self._local = weakref.ref(self.local)
        self.is_held = False
        self.first_params = NO_PARAMS
        parent = self.state.parent  # it may be told still that this is over
        self.origin = NO_DATA if parent is None else {"parent": parent}
        del self.state, self.local

    def check_going_on(self) -> None:
        """Refuse what needs it to go on.

        Raises:
            OAutomError: It does not, in this program; what the error was raised for before, and
                whoever called then, is no part of it.
        """
        if self.held_up is not None:
            raise self.held_up.with_traceback(None)

    def news(self) -> Options:
        """Return the options of its steps, where its flow has others by now; see `flows.fit`."""
        now = self.flow.options
        if "until" in self.state.settings:
            now = {step: given for step, given in now.items() if step in self.state.graph}
        return news(self.state.options, now)

    def first_state(self) -> VectState:
        """Return the state before all events."""
        flow = self.flow
        graph, options, settings = flow.graph, flow.options, flow.settings
        if self.until:
            graph, settings = flow.part(self.until), {**settings, "until": list(self.until)}
            options = {step: given for step, given in options.items() if step in graph}
        told = self.first_params, options, flow.version, settings
        return VectState(flow.name, self.id, graph, *told)

    def lost_steps(self) -> list[StepState]:
        """Return the steps at work when their program ended that shall not run again."""
        return [
            step
            for step in self.state.steps.values()
            if step.state == "running"
            and kind_of(step.kind).needs_worker
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

    def output(self, step: StepState, read: Callable[[StepState], View] = committed) -> Any:
        """Return the output of a step, as committed, as a value of its type. Any thread.

        From a durable log it is made anew for each who asks, so nobody changes it for others. With
        a log in memory it is the very object that the step has returned.

        Args:
            step: The step.
            read: Tells how it stands: `moved` for what is not committed yet, too, on the thread
                that drives.

        Raises:
            FlowError: It was written when the flow had another type there.
        """
        state, attempt, output, *_ = read(step)
        if state != "success":
            return output
        if not self.is_durable:
            return self._live(step, attempt, output, read)
        if step.declared not in self.flow.steps:  # the flow has changed
            return copy_of_plain(output)
        return self._restored(output, self.output_type(step), "output", step)

    def hand_on(self, step: str, attempt: int, live: Any) -> None:
        """Take in what an attempt of a step has returned, where the log is in memory."""
        if not self.is_durable and is_changeable(live):
            self.local.live[step, attempt] = live

    def _live(
        self, step: StepState, attempt: int, output: Any, read: Callable[[StepState], View]
    ) -> Any:
        if step.mapped is not None:
            instances = step.mapped.instances[: len(step.mapped.items)]
            return [self.output(instance, read) for instance in instances]
        key = step.name, attempt
        live = self.local.live
        return live[key] if key in live else own_copy(output)

    def to_blame(self, step: StepState) -> StepState:
        """Return the step that failed in the first place, of one that was blocked; else itself."""
        steps = step.vect.steps
        while step.state == "upstream_failed":
            names = step.vect.graph.upstreams.get(step.name, ())
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
        return self.is_told and self.ended is not None and self.ended < instant


def unread_status(run: Run, error: OAutomError) -> dict[str, Any]:
    """Return what the index of the log tells of a Vect whose events cannot be read, and why."""
    told = {
        "id": run.id,
        "name": run.flow.name,
        "state": run.shown,
        "ended": run.shown in VECT_ENDS,
    }
    told |= {"start_date": None, "end_date": None, "params": {}, "executions": []}
    return told if run.shown in VECT_ENDS else told | {"stranded": str(error)}


def visible(state: VectState) -> list[StepState]:
    """Return the steps that readers see: an instance of a map, when its start is committed."""
    steps = state.steps
    declared = [steps[name] for name in state.graph.upstreams]
    shown = {step.name: step.mapped.shown for step in declared if step.mapped is not None}
    # Only now, in one C call: a map may be making instances, and what is shown is there.
    found = list(steps.values())
    return [step for step in found if step.parent is None or step.index < shown[step.parent.name]]


def status_of(state: VectState, shown: str, turn: str = "") -> dict[str, Any]:
    """Return how a Vect and its steps stand, as committed, as JSON would have it.

    Args:
        state: What its events add up to.
        shown: The name of its state, as committed.
        turn: Where it stands in line, if it does; only then it is told.
    """
    _, _, _, _, start_date, end_date = committed(state)
    told: dict[str, Any] = {
        "id": state.id,
        "name": state.flow,
        "state": shown,
        "ended": shown in VECT_ENDS,
        "start_date": start_date and start_date.isoformat(),
        "end_date": end_date and end_date.isoformat(),
        "params": dict(state.params),
        "executions": [_status_of_step(step) for step in visible(state)],
    }
    if turn:
        told["turn"] = f"it waits for its turn as {turn}"
    return told if state.version is None else told | {"version": state.version}


def _status_of_step(step: StepState) -> dict[str, Any]:
    state, attempt, _, error, start_date, end_date = committed(step)
    return {
        "name": step.name,
        "state": state,
        "attempt": attempt,
        "start_date": start_date and start_date.isoformat(),
        "end_date": end_date and end_date.isoformat(),
        "error": error,
    }


def kept(outcome: Outcome, annotation: Any, log: EventLog) -> Outcome:
    """Return an outcome as the log can keep it: an output that it cannot fails the step.

    In a durable log an output is as JSON has it, from which its type can be had back. With a log in
    memory `outcome.live` is handed on as it is, and the engine has a copy of its own. Never raises.

    Args:
        outcome: It may be anything that a step has returned or raised. Is changed.
        annotation: The type of the output.
        log: Where it is to be kept.
    """
    try:
        if outcome.error is not None:
            _bound(outcome)
        elif keeps_objects(log):
            outcome.live = outcome.output
            outcome.output = own_copy(outcome.output)
        elif outcome.output is not None or annotation is not UNKNOWN:
            outcome.output = outcome.live = keep(outcome.output, annotation)
            log.check_value(outcome.output)
    except OAutomError as error:
        return _unkept(outcome, str(error))
    except BaseException as error:  # what a step returns is the user's, it may do anything
        return _unkept(outcome, error_of(error))
    return outcome


def _bound(outcome: Outcome) -> None:
    outcome.output = outcome.live = None
    outcome.error = bounded(str(outcome.error), ERROR_BYTES_MAX)
    if outcome.facts is not NO_DETAILS:
        outcome.facts = details_of(outcome.facts)
    if outcome.details is not NO_DETAILS:
        outcome.details = details_of(outcome.details)


def _unkept(outcome: Outcome, why: str) -> Outcome:
    """Return the failure that says why an output cannot be kept; it would be so again."""
    error = bounded(f"its output cannot be kept: {why}", ERROR_BYTES_MAX)
    failed = Outcome(error=error, is_retriable=False)
    failed.log = outcome.log
    return failed
