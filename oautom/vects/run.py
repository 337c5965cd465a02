"""`Run`: one Vect inside the engine.

The engine drops the state of a Vect that has ended: it is in the log, and is read there on demand.
So a program that runs for years is as large as its open Vects.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
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
from oautom.flows.part import WHOLE, Part
from oautom.machine.event import NO_DATA
from oautom.machine.kinds import kind_of
from oautom.machine.state import Options, StepState, VectState, View, committed
from oautom.machine.tables import INITIAL, VECT_ENDS
from oautom.steps.execution import Execution
from oautom.steps.labels import labels_of
from oautom.steps.map import MapExecution
from oautom.steps.secrets import Known
from oautom.steps.work import NO_DETAILS, Outcome
from oautom.values.annotations import UNKNOWN
from oautom.values.convert import NotConvertibleError, keep, restore
from oautom.values.json import copy_of_plain, is_changeable, own_copy
from oautom.values.text import ERROR_BYTES_MAX, bounded, details_of, error_of
from oautom.workers.remote import Remote, RemoteList, is_handle

_BAD_ENDS = frozenset({"failed", "upstream_failed"})


_holding = threading.Lock()  # for all runs: each has one moving state


class Failure(NamedTuple):
    """The exception of a failed step.

    Attributes:
        cause: The exception, without its traceback, whose frames would keep all variables of the
            step alive.
        trace: The traceback, as text.
    """

    cause: BaseException | None = None
    trace: str = ""


NO_FAILURE: Final = Failure()


class Local:
    """The data of a Vect that only this process has: they are in no log.

    The engine refers to them while the Vect is open, and after that only the `Vect` objects do.

    Attributes:
        buffers: The texts that attempts have written, by the name of the step and the number of the
            attempt; only if the log does not keep them.
        failures: The exceptions of failed steps, by the name of the step.
        live: The very objects that steps have returned, by the name of the step and the attempt;
            only with a log in memory, and only objects of which the engine has a copy of its own.
        remote: The outputs that have stayed in a cluster, by the name of the step and the attempt:
            they are there as long as this refers to them. None if there are none.
        secrets: The secrets that its attempts have got; None in a flow that names none.
    """

    __slots__ = ("__weakref__", "buffers", "failures", "live", "remote", "secrets")

    def __init__(self) -> None:
        self.buffers: dict[tuple[str, int], LogBuffer] = {}
        self.failures: dict[str, Failure] = {}
        self.live: dict[tuple[str, int], Any] = {}
        self.remote: dict[tuple[str, int], Remote] | None = None
        self.secrets: Known | None = None


class Run:
    """One Vect inside the engine: its flow, its state, and the data that only this process has.

    Args:
        flow: Its flow.
        id: Its id.
        params: Its parameters, plain, as in the log.
        origin: See below.
        part: See below.
        is_durable: See below.
        read: Reads the state of a Vect that is in the log; None for a new one.

    Attributes:
        id: The id of the Vect.
        part: What a new run runs of its flow.
        is_durable: Whether its log stores values as JSON, as a log that outlives the program does:
            outputs are then read as values of their types.
        state: The sum of its events, including uncommitted ones. While the engine does not have the
            state in memory, each access reads it from the log, and nothing moves that state.
        local: The data that only this process has.
        is_held: Whether the engine has the state in memory, and moves it.
        shown: The name of the committed state of the Vect.
        is_created: Whether its first event is committed.
        is_told: Whether the Vect has ended, and the receivers of signals have got its end.
        ended: The time of its end.
        held_up: Why the Vect, which is open in the log, does not go on, or None: its flow has
            changed, its events make no sense, or the engine itself has failed with it.
        is_inherited: Whether an earlier program has left it open, and it was not taken over yet.
        origin: The origin of its start, as in `vect.created`: a plan and its time, or an attempt of
            a step of another Vect; empty if a person or program has started it.
        lane: The lane whose limit it counts for; see `Turns`.
        after: The id of the Vect that must end before it begins, as in `vect.created`; or None.
        turn: The limit under which it has waited in line, as in `vect.started`; else empty.
    """

    __slots__ = (
        "__weakref__",
        "_local",
        "_read",
        "after",
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
        "part",
        "shown",
        "state",
        "turn",
    )

    def __init__(
        self,
        flow: Flow,
        id: str,  # noqa: A002 - the public word
        params: Mapping[str, Any] = NO_PARAMS,
        origin: Mapping[str, Any] = NO_DATA,
        *,
        part: Part = WHOLE,
        is_durable: bool = False,
        read: Callable[[Run], VectState] | None = None,
    ) -> None:
        self.flow = flow
        self.id = id
        self.first_params = params
        self.part = part
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
        self.after: str | None = None
        self.turn: Mapping[str, Any] = NO_DATA

    if not TYPE_CHECKING:  # else mypy would accept misspelt names

        def __getattr__(self, name: str) -> object:
            """Return `state` or `local` if the engine does not have it: its slot is not set.

            A property would cost one more call for each access to a moving state.
            """
            if name == "state":
                return self._read(self)
            if name == "local":
                return self._local_of_others()
            raise AttributeError(name)

    def _local_of_others(self) -> Local:
        """Return the `Local` that a `Vect` object may still refer to; else an empty one."""
        local = None if self._local is None else self._local()
        if local is None:
            local = Local()
            self._local = weakref.ref(local)
        return local

    @property
    def keeps_slots(self) -> bool:
        """Whether a step occupies the slot of a pool while its flow runs, over programs, too."""
        steps = self.flow.steps.values()
        return any(step.pool is not None and step.each.kind == "flow" for step in steps)

    def hold(self, state: VectState | None = None) -> None:
        """Load the state for the engine, which moves it. Any thread; a second call changes nothing.

        Args:
            state: The state in the log; None to read it.

        Raises:
            LogError: The state cannot be read, or makes no sense.
        """
        if not self.is_held:
            read = self.state if state is None else state
            with _holding:
                if not self.is_held:
                    self.state, self.local = read, self.local
                    self.is_held = True
        self.state.is_live = True

    def let_go(self, read: Callable[[Run], VectState]) -> None:
        """Drop the state of a Vect that has ended; the next access reads it from the log."""
        self._read = read
        self._local = weakref.ref(self.local)
        self.is_held = False
        self.first_params = NO_PARAMS
        parent = self.state.parent  # it may still have to get the end of this
        self.origin = NO_DATA if parent is None else {"parent": parent}
        del self.state, self.local

    def check_going_on(self) -> None:
        """Refuse calls that need the Vect to go on.

        Raises:
            OAutomError: The Vect does not go on in this program; the error has no traceback of
                earlier calls.
        """
        if self.held_up is not None:
            raise self.held_up.with_traceback(None)

    def news(self) -> Options:
        """Return the options of its steps that have changed in its flow; see `flows.fit`.

        Only of steps that both have: the run may end before other steps, or not fit its flow.
        """
        changed = news(self.state.options, self.flow.options)
        return {
            step: given
            for step, given in changed.items()
            if step in self.state.graph and step in self.flow.steps
        }

    def first_state(self) -> VectState:
        """Return the state before all events."""
        flow, part = self.flow, self.part
        graph, options, settings = flow.graph, flow.options, flow.settings
        if part is not WHOLE:
            graph, options, settings = part.graph(flow), part.options(flow), part.settings(flow)
        facts = self.first_params, options, flow.version, settings
        return VectState(flow.name, self.id, graph, *facts)

    def lost_steps(self) -> list[StepState]:
        """Return the steps that were at work when their program ended, and must not run again."""
        return [
            step
            for step in self.state.steps.values()
            if step.state == "running"
            and kind_of(step.kind).needs_worker
            and step.declared in self.flow.steps  # else it does not fit, and is only cleaned up
            and self.execution(step).on_crash == "fail"
        ]

    def params(self) -> Mapping[str, Any]:
        """Return the parameters, as values of their types."""
        return self.flow.params.typed(self.state.params)

    def execution(self, step: StepState) -> Execution:
        """Return the `Execution` of a step; for an instance, what its map does for one item."""
        declared = self.flow.steps[step.declared]
        return declared if step.parent is None else declared.each

    def output_type(self, step: StepState) -> Any:
        """Return the type of the output of a step."""
        execution = self.execution(step)
        if isinstance(execution, MapExecution) and step.parent is not None:
            return execution.instance_type
        return execution.output_type

    def item(self, step: StepState) -> Any:
        """Return the item of an instance as a value of its type, made anew; errors as of `output`.

        With a log in memory it is a copy, too, since the engine goes through the list.
        """
        assert step.parent is not None
        assert step.parent.mapped is not None
        return self.typed_item(step, step.parent.mapped.items[step.index])

    def typed_item(self, step: StepState, item: Any) -> Any:
        """Return an item of a map, or of the map of an instance, as `item` does."""
        if not self.is_durable and step.options["over"][0] == "step":
            return own_copy(item)
        execution = self.flow.steps[step.declared]
        assert isinstance(execution, MapExecution)
        return self._restored(item, execution.item_type, "item", step)

    def labels(self, step: StepState) -> Mapping[str, Any]:
        """Return the labels of the items of a map that is about to start, for its start."""
        execution = self.flow.steps.get(step.declared)
        if not isinstance(execution, MapExecution) or execution.label is None:
            return NO_DATA
        items, _ = step.items()
        each = (partial(self.typed_item, step, item) for item in items)
        labels, problem = labels_of(execution.label, each)
        told: dict[str, Any] = {"labels": labels} if any(labels) else {}
        return told if problem is None else told | {"unlabelled": problem}

    def output(
        self,
        step: StepState,
        read: Callable[[StepState], View] = committed,
        *,
        is_opened: bool = True,
    ) -> Any:
        """Return the output of a step, as committed, as a value of its type. Any thread.

        From a durable log it is made anew for each reader, so no reader changes it for others. With
        a log in memory it is the very object that the step has returned.

        Args:
            step: The step.
            read: Reads its state: `moved` includes uncommitted events, on the thread that drives.
            is_opened: Whether what has stayed in a cluster is fetched. If not, it is a `Remote`, or
                for a map a `RemoteList`.

        Raises:
            FlowError: The output was written when the flow had another type there.
            LostOutputError: The output has stayed in a cluster, and is lost.
        """
        state, attempt, output, *_ = read(step)
        if state != "success":
            return output
        if type(output) is dict and is_handle(output):
            remote = self._remote(step, attempt)
            return remote.opened() if is_opened else remote
        if step.mapped is not None and any(map(is_handle, output)):
            instances = step.mapped.instances[: len(step.mapped.items)]
            outputs = RemoteList(self.output(each, read, is_opened=False) for each in instances)
            return outputs.opened() if is_opened else outputs
        if not self.is_durable:
            return self._live(step, attempt, output, read)
        if step.declared not in self.flow.steps:  # the flow has changed
            return copy_of_plain(output)
        return self._restored(output, self.output_type(step), "output", step)

    def keep_remote(self, step: str, attempt: int, remote: Remote) -> None:
        """Refer to an output that stays in a cluster. On the thread of its workers."""
        local = self.local
        if local.remote is None:
            local.remote = {}
        local.remote[step, attempt] = remote

    def _remote(self, step: StepState, attempt: int) -> Remote:
        """Return an output that has stayed in a cluster, of this program or an earlier one."""
        remotes = self.local.remote
        if remotes is not None and (step.name, attempt) in remotes:
            return remotes[step.name, attempt]
        place = self.flow.name, self.id, step.name
        return Remote(place, "")  # it is lost

    def hand_on(self, step: str, attempt: int, live: Any) -> None:
        """Store the object that an attempt of a step has returned, with a log in memory."""
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
        """Return the step that failed first, for a blocked step; any other step itself."""
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
                f"is {shown(plain)}, which does not fit its type any more: {error}; "
                "vect.events() has it as it was written",
                flow=self.flow.name,
                step=step.name,
            ) from error

    def has_ended_before(self, instant: datetime) -> bool:
        """Whether it ended before an instant, and its end was published."""
        return self.is_told and self.ended is not None and self.ended < instant


def unread_status(run: Run, error: OAutomError) -> dict[str, Any]:
    """Return the status of a Vect whose events cannot be read, from the index, with the reason."""
    facts = {
        "id": run.id,
        "name": run.flow.name,
        "state": run.shown,
        "ended": run.shown in VECT_ENDS,
    }
    facts |= {"start_date": None, "end_date": None, "params": {}, "executions": []}
    return facts if run.shown in VECT_ENDS else facts | {"stranded": str(error)}


def visible(state: VectState) -> list[StepState]:
    """Return the steps that readers see: an instance of a map, when its start is committed."""
    steps = state.steps
    declared = [steps[name] for name in state.graph.upstreams]
    shown = {step.name: step.mapped.shown for step in declared if step.mapped is not None}
    # Only now, in one C call: a map may be making instances, but those shown exist by now.
    found = list(steps.values())
    return [step for step in found if step.parent is None or step.index < shown[step.parent.name]]


def status_of(state: VectState, shown: str, turn: str = "") -> dict[str, Any]:
    """Return the committed state of a Vect and its steps, in the form of JSON.

    Args:
        state: The sum of its events.
        shown: The name of its committed state.
        turn: Its place in line, in words; empty if it is in none.
    """
    _, _, _, _, start_date, end_date = committed(state)
    facts: dict[str, Any] = {
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
        facts["turn"] = f"it waits for its turn as {turn}"
    return facts if state.version is None else facts | {"version": state.version}


def _status_of_step(step: StepState) -> dict[str, Any]:
    state, attempt, _, error, start_date, end_date = committed(step)
    label = {} if step.label is None else {"label": step.label}
    return {
        "name": step.name,
        **label,
        "state": state,
        "attempt": attempt,
        "start_date": start_date and start_date.isoformat(),
        "end_date": end_date and end_date.isoformat(),
        "error": error,
    }


def kept(outcome: Outcome, annotation: Any, log: EventLog) -> Outcome:
    """Return an outcome in a form that the log can store; an unfit output fails the step.

    In a durable log an output is JSON, from which its type can be restored. With a log in memory
    `outcome.live` is passed on as it is, and the engine has a copy of its own. Never raises.

    Args:
        outcome: The outcome of a step, with any value or exception. It is changed.
        annotation: The type of the output.
        log: The log that stores it.
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
    except BaseException as error:  # an object of the user may raise anything
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
    """Return the failure of a step whose output cannot be stored; a retry would not help."""
    error = bounded(f"its output cannot be kept: {why}", ERROR_BYTES_MAX)
    failed = Outcome(error=error, is_retriable=False)
    failed.log = outcome.log
    return failed
