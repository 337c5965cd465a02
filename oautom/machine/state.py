"""The fold: the state of a Vect is the sum of its events. Pure.

The live engine and the replay share it: `apply` applies one event. In the live engine, the machine
has moved `state` by then; `advance` does so itself, after it has checked the event against the
tables; `replay` does that with all events of a log, and has the state of every Vect at any point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, final

import msgspec

from oautom.errors import InvalidHistoryError
from oautom.machine.deadlines import deadlines_of
from oautom.machine.event import NO_DATA, Event
from oautom.machine.graph import Graph
from oautom.machine.kinds import kind_of
from oautom.machine.maps import Mapped, instance_name, items_of
from oautom.machine.rules import ALL_SUCCESS, Verdict, verdict
from oautom.machine.sources import prompt_of, until_of
from oautom.machine.tables import (
    COMPENSATION_EVENTS,
    INITIAL,
    PLAN_EVENTS,
    PLAN_MOVES,
    STEP_ENDS,
    STEP_MOVES,
    TEARDOWN,
    VECT_CREATED,
    VECT_ENDS,
    VECT_MOVES,
)
from oautom.values.json import own_copy
from oautom.values.text import ERROR_BYTES_MAX, bounded

Options = Mapping[str, Mapping[str, Any]]
"""The non-default options of each step, by name: `trigger_rule`, `max_attempts`, ..."""

Group = str | tuple[str, ...]
"""A group of steps with a limit on how many run at once: a pool, by its name; the async steps of a
flow, `('async', flow)`; or the instances of a map, `('map', vect, step)`."""


class Limit(NamedTuple):
    """The part that a step has in a limit on how many steps run at once.

    Attributes:
        group: The group of steps that have the limit.
        slots: How many slots the group has.
        takes: How many of them the step takes.
    """

    group: Group
    slots: int
    takes: int = 1


class Hold(NamedTuple):
    """The slots that a step has of a group: how many."""

    group: Group
    takes: int = 1


class Rate(NamedTuple):
    """The limit of a pool on how many of its steps start within some time.

    Attributes:
        pool: The name of the pool.
        starts: How many there may be.
        seconds: Within how many seconds.
    """

    pool: str
    starts: int
    seconds: float


_LIMITS = frozenset({"pool", "async", "max_parallel"})

PROMPT_BYTES_MAX: Final = 16 * 2**10
"""The largest size of a question to a person."""
NO_PROMPTS: Final[Mapping[str, str]] = MappingProxyType({})
NO_OPTIONS: Options = MappingProxyType({})

LOST: Final = "the program ended while the step ran, and on_crash is 'fail'"
"""The error of a step that may not run again."""

_CUT: Final = frozenset({"timeout", "signal", "lost"})
"""Data of a failure that is not the step's own answer: its work may be done in whole or in part."""


class Losses(msgspec.Struct, frozen=True):
    """The attempts of a step, or of its compensation, whose work was lost while its program ran.

    Attributes:
        attempts: How many there are.
        workers: How many workers were lost in a row; losses of something else do not count.
        newest: The number of the newest of these attempts.
        reason: What was lost with it.
    """

    attempts: int
    workers: int
    newest: int
    reason: str


class Compensation(msgspec.Struct):
    """The progress of the compensation of a step.

    Attributes:
        state: `due`, to begin if the Vect ends badly; `running`; `waiting` for its next attempt;
            `done`; `failed`.
        attempt: How many attempts have begun, including those before a retry of the Vect.
        failures: How many of these have failed; an attempt that a dead program has cut short is no
            failure.
        error: The error of the last failure.
        until: The time of the next attempt.
        losses: Those of its attempts, if there are any.
    """

    state: Literal["due", "running", "waiting", "done", "failed"] = "due"
    attempt: int = 0
    failures: int = 0
    error: str | None = None
    until: datetime | None = None
    losses: Losses | None = None


View = tuple[str, int, Any, str | None, datetime | None, datetime | None]
"""The visible state of a step: state, attempt, output, error, start_date, end_date."""

moved: Callable[[Any], View] = attrgetter(
    "state", "attempt", "output", "error", "start_date", "end_date"
)
"""Return the state of a step or Vect, including uncommitted events; in one C call."""


def committed(model: StepState | VectState) -> View:
    """Return the committed state of a step or Vect. Any thread, without a lock.

    Before the first event of a tick moves a model, the scheduler stores its old state in
    `model.before`, and clears that when the tick is committed. So a state that was read just before
    `before` was found empty is committed.

    Source: the order of a sequence lock; Linux, include/linux/seqlock.h.
    """
    view = moved(model)
    before = model.before
    return view if before is None else before


class StepState:
    """One step of one Vect: the model of its state machine, with the sum of its events.

    Two are equal only if they are the same object, so that no machine can mix them up.
    """

    __slots__ = (
        "attempt",
        "before",
        "compensation",
        "end_date",
        "error",
        "failures",
        "index",
        "is_cut",
        "kind",
        "losses",
        "mapped",
        "name",
        "needs_worker",
        "options",
        "output",
        "parent",
        "rule",
        "shunned_by",
        "start_date",
        "state",
        "tally",
        "until",
        "upstreams",
        "vect",
    )

    def __init__(self, vect: VectState, name: str, upstreams: int) -> None:
        self.vect = vect
        self.before: View | None = None  # the last commit, while a tick moves it; see `committed`
        self.name = name
        self.state: str = INITIAL
        self.attempt = 0
        self.failures = 0  # of its attempts; what a dead program has cut short is none
        self.until: datetime | None = None  # when it goes on by itself, if it waits for a time
        self.mapped: Mapped[StepState] | None = None  # of a map: its instances
        self.parent: StepState | None = None  # of an instance: its map, and which one it is
        self.index = 0
        self.shunned_by: str | None = None  # the branch that has not chosen it
        self.compensation: Compensation | None = None
        self.losses: Losses | None = None  # its attempts whose work was lost, if there are any
        self.is_cut = False  # an attempt began and did not end by an answer of its own
        self.kind = ""  # the kind of a step that is no work for a worker; as in its options
        self.needs_worker = True  # while it runs
        self.output: Any = None
        self.error: str | None = None
        self.start_date: datetime | None = None
        self.end_date: datetime | None = None
        self.upstreams = upstreams
        self.options: Mapping[str, Any] = NO_DATA  # the options other than the defaults
        self.rule: str = ALL_SUCCESS
        self.tally: dict[str, int] = {}  # how many upstreams have ended in which state

    @property
    def is_visible(self) -> bool:
        """Whether readers see it: an instance of a map only after the commit that makes it."""
        mapped = None if self.parent is None else self.parent.mapped
        return mapped is None or self.index < mapped.shown

    @property
    def declared(self) -> str:
        """The name of the step in the flow; for an instance, that of its map."""
        return self.name if self.parent is None else self.parent.name

    @property
    def label(self) -> str | None:
        """The name of an instance of a map for people, if it has one."""
        mapped = None if self.parent is None else self.parent.mapped
        if mapped is None or self.index >= len(mapped.labels):
            return None
        return mapped.labels[self.index]

    @property
    def told(self) -> str:
        """Its name, and its label: `load[3] (Paris)`."""
        return self.name if self.label is None else f"{self.name} ({self.label})"

    @property
    def begins_with_worker(self) -> bool:
        """Whether it begins only when a worker is free; else its child would only wait for one."""
        return self.needs_worker or (self.kind == "flow" and self.parent is not None)

    @property
    def child(self) -> str | None:
        """The id of the Vect that its newest attempt runs, if it runs one."""
        if self.kind != "flow" or not self.attempt:
            return None
        return self.vect.child_of(self.name, self.attempt)

    @property
    def child_left(self) -> str | None:
        """The id of the Vect in which its next attempt may go on: it failed, and was reset."""
        return self.vect.children.get((self.name, self.attempt + 1))

    @property
    def is_teardown(self) -> bool:
        """Whether it cleans up: it may start while its Vect is paused, or ends."""
        return (self.parent or self).rule == TEARDOWN

    @property
    def was_set_up(self) -> bool:
        """Whether a step that cleans up has something to clean up."""
        steps, upstreams = self.vect.steps, self.vect.graph.upstreams[self.declared]
        set_ups = self.options.get("teardown_of", upstreams)
        return any(steps[name].start_date is not None for name in set_ups)

    @property
    def is_to_be_compensated(self) -> bool:
        """Whether it must be undone if its Vect ends badly now."""
        if "compensate" not in self.options or self.mapped is not None:
            return False
        if self.state == "success":
            return True
        return self.options["compensate"] != "success" and (self.is_cut or self.state == "running")

    def items(self) -> tuple[Sequence[Any], str | None]:
        """Return the present items of a map, and why there are none."""
        return items_of(self.options["over"], self.vect.params, self.vect.steps)

    def wait_facts(self) -> Mapping[str, Any]:
        """Return the data of the start of a wait: what it waits for, or why it cannot wait."""
        place = self.options.get("until")
        if place is None or isinstance(place, str):
            return {key: self.options[key] for key in ("delay", "until") if key in self.options}
        until, problem = until_of(place, self.vect.params, self.vect.steps)
        if until is None:
            return {"problem": bounded(str(problem), ERROR_BYTES_MAX)}
        return {"until": until.isoformat()}

    def approval_facts(self) -> Mapping[str, Any]:
        """Return the data of the start of an approval: what is asked, or why nothing can be."""
        prompt, problem = self.options.get("prompt", ""), None
        if (values := self.options.get("values")) is not None:
            prompt, problem = prompt_of(prompt, values, self.vect.params, self.vect.steps)
        told: dict[str, Any] = {"prompt": bounded(prompt, PROMPT_BYTES_MAX)}
        if problem is not None:
            return told | {"problem": bounded(problem, ERROR_BYTES_MAX)}
        return told | {key: self.options[key] for key in ("timeout",) if key in self.options}

    @property
    def prompt(self) -> str | None:
        """What a person is asked, of an approval: as it was asked, else as it is declared."""
        prompt = self.vect.prompts.get(self.name, self.options.get("prompt"))
        return None if prompt is None else str(prompt)

    @property
    def verdict(self) -> Verdict | None:
        """The verdict of its trigger rule, a branch, or its map while it is pending."""
        if self.rule == TEARDOWN:
            if sum(self.tally.values()) < self.upstreams:
                return None
            return "start" if self.was_set_up else "skip"
        if self.shunned_by is not None:
            return "skip"
        if self.parent is not None and self.parent.mapped is not None:
            if self.parent.state == "running":
                return "start" if self.index < len(self.parent.mapped.items) else "skip"
            return "skip" if self.parent.state in STEP_ENDS else None
        return verdict(self.rule, self.upstreams, self.tally)


@final
class VectState:
    """One Vect: the model of its state machine, its steps, and the sum of its events."""

    __slots__ = (
        "before",
        "children",
        "created_date",
        "deadlines",
        "end_date",
        "ended",
        "ends_as",
        "fails_fast",
        "first_failed",
        "flow",
        "graph",
        "has_limits",
        "has_loop",
        "id",
        "is_live",
        "is_reopened",
        "is_strict",
        "open_steps",
        "options",
        "params",
        "parent",
        "prompts",
        "reason",
        "settings",
        "start_date",
        "state",
        "steps",
        "to_compensate",
        "version",
    )
    name = None  # a Vect is no step: its events name none
    mapped = None
    kind = ""
    attempt = 0
    output = error = None

    def __init__(
        self,
        flow: str,
        id: str,  # noqa: A002 - the public word
        graph: Graph,
        params: Mapping[str, Any],
        options: Options = NO_OPTIONS,
        version: str | None = None,
        settings: Mapping[str, Any] = NO_DATA,
    ) -> None:
        self.flow = flow
        self.version = version  # of the flow, as the Vect began
        self.id = id
        self.graph = graph
        self.params = params
        self.before: View | None = None  # as of a step
        self.is_reopened = False  # it was retried: a child then has a life of its own
        self.is_live = False  # the engine moves it, and readers see only what is committed
        self.parent: Sequence[Any] | None = None  # vect, step and attempt that run it as a child
        # By the step and the attempt, the children in which these go on, or the next one may.
        self.children: dict[tuple[str, int], str] = {}
        self.prompts: Mapping[str, str] = NO_PROMPTS  # what people were asked, by the step
        self.state: str = INITIAL
        self.created_date: datetime | None = None
        self.start_date: datetime | None = None
        self.end_date: datetime | None = None
        self.steps = {name: StepState(self, name, len(u)) for name, u in graph.upstreams.items()}
        self.open_steps = len(self.steps)
        self.options = options
        self.settings = settings  # the settings other than the defaults
        self.deadlines = deadlines_of(options, settings)
        self.fails_fast = settings.get("on_failure") == "cancel"
        self.first_failed: str | None = None  # the step with whose failure all is cancelled
        self.ends_as: str | None = None  # once it is cleaned up, while that is done
        self.reason: str | None = None  # why it ends so, where no step says all of it
        self.ended: list[str] = []  # steps that can be compensated, in the order of their ends
        self.to_compensate: list[str] = []  # the last one comes first
        self.has_limits = any(_LIMITS & given.keys() for given in options.values())
        self.has_loop = False  # its async steps run on an event loop, and take no worker
        self.is_strict = False  # its Bash steps are, unless their options say otherwise
        for name, given in options.items():
            self.steps[name].options = given
            self.steps[name].rule = given.get("trigger_rule", ALL_SUCCESS)
            self.steps[name].kind = given.get("kind", "")
            self.steps[name].needs_worker = kind_of(self.steps[name].kind).needs_worker
            if self.steps[name].kind == "map":
                self.steps[name].mapped = Mapped(given.get("max_parallel"))

    @property
    def vect(self) -> VectState:
        """The Vect itself, as `StepState.vect` is."""
        return self

    def first_facts(self) -> Mapping[str, Any]:
        """Return the data of `vect.created`."""
        told: dict[str, Any] = {
            "params": self.params,
            "graph": MappingProxyType(self.graph.upstreams),
        }
        if self.options:
            told["options"] = MappingProxyType(self.options)
        if self.version is not None:
            told["version"] = self.version
        if self.settings:
            told["settings"] = MappingProxyType(self.settings)
        return MappingProxyType(told)

    def apply(self, event: Event) -> None:
        """Apply `event`, except for the state, which the machine moves."""
        if self.deadlines is not None:
            self.deadlines.hear(event)
        if event.step is not None:
            self._apply_to_step(self.steps[event.step], event)
            return
        if event.name == VECT_CREATED:
            self.created_date = event.time
            self.parent = event.data.get("parent")
            self.is_strict = "bash" in event.data  # of a log of before 2.0.0 none is
            self.has_loop = event.data.get("loop", False)
            for name, given in self.options.items() if self.has_loop else ():
                if "async" in given:
                    self.steps[name].needs_worker = False
        else:
            self._apply_to_vect(event)
            if "options" in event.data:
                self._take_options(event.data["options"])

    def _apply_to_vect(self, event: Event) -> None:
        match event.name:
            case "vect.started":
                self.start_date = event.time
            case "vect.reopened":
                self._reopen(event)
            case "vect.ending":
                self.ends_as, self.reason = event.data["to"], event.data["reason"]
                self._begin_compensating()
            case "vect.recovered":
                for name in self.to_compensate:
                    one = self.steps[name].compensation
                    if one is not None and one.state == "running":
                        one.state = "due"
            case _ if event.dest in VECT_ENDS:
                self.end_date = event.time
                self.reason = event.data.get("reason")

    def _reopen(self, event: Event) -> None:
        self.end_date = self.first_failed = None
        self.parent = event.data.get("parent", self.parent)
        self.is_reopened = "parent" not in event.data
        self.ends_as = self.reason = None
        for step in (self.steps[name] for name in self.ended):
            if step.compensation is not None:  # attempts count on: no two have one number
                step.compensation = Compensation(attempt=step.compensation.attempt)
        self.ended = [name for name in self.ended if self.steps[name].state in STEP_ENDS]

    def _begin_compensating(self) -> None:
        """Note the steps to undo, when all others are over; the one that ended last is first."""
        if self.open_steps:
            return
        names = dict.fromkeys(reversed(self.ended))
        first = [name for name in names if self.steps[name].is_to_be_compensated]
        self.to_compensate = first[::-1]

    def _take_options(self, given: Options) -> None:
        """Go on with changed options of some steps, see `flows.fit`."""
        self.options = {**self.options, **given}
        for name, options in given.items():
            step = self.steps[name]
            for each in (step, *(step.mapped.instances if step.mapped is not None else ())):
                each.options = options

    def _apply_to_step(self, step: StepState, event: Event) -> None:
        dest = event.dest
        if step.parent is not None and step.parent.mapped is not None:
            step.parent.mapped.hear(event)
        if step.options:
            self._note_cut(step, event)
        if dest == "running":
            if event.source != dest:  # else it moves nothing, as a late result
                step.attempt = event.attempt or 0
                step.start_date = event.time
                step.until = None
                if event.data:
                    self._note_start(step, event)
        elif dest in STEP_ENDS and event.source not in STEP_ENDS:
            self._end(step, event)
        elif dest == "up_for_retry" != event.source:
            step.failures += 1
            step.error = event.data["error"]
            step.until = waits_until(event)
            step.losses = _without_workers(step.losses)
        elif event.name == "step.reset":
            self._reset(step, event.source)
        elif event.name == "step.interrupted" and event.data:  # else its program has ended
            step.losses = _with_one_more(step.losses, event)

    def _note_start(self, step: StepState, event: Event) -> None:
        """Note what a step without a worker waits for."""
        step.until = waits_until(event)
        step.error = event.data.get("problem", step.error)
        if step.mapped is not None:
            self._expand(step, step.mapped, event)
        elif step.kind == "flow":
            self._note_child(step, event)
        elif "values" in step.options:
            self.prompts = {**self.prompts, step.name: str(event.data.get("prompt", ""))}

    def _note_cut(self, step: StepState, event: Event) -> None:
        """Note the facts about the compensation of a step that has one."""
        if "compensate" not in step.options:
            return
        name = event.name
        if name in COMPENSATION_EVENTS:
            self._compensate(step, event)
        elif name == "step.interrupted" or (name == "step.cancelled" and event.source == "running"):
            step.is_cut = True
        elif name in ("step.failed", "step.retried"):
            is_own = _CUT.isdisjoint(event.data) and event.data.get("error") != LOST
            step.is_cut = step.is_cut or not is_own

    def _compensate(self, step: StepState, event: Event) -> None:
        one = step.compensation = step.compensation or Compensation()
        one.until = None
        if event.name == "step.compensating":
            one.state, one.attempt = "running", event.attempt or 0
            return
        if event.name == "step.compensation_interrupted":
            one.state, one.losses = "due", _with_one_more(one.losses, event)
            return
        one.error, one.losses = event.data.get("error"), _without_workers(one.losses)
        if "delay" in event.data:
            one.state, one.until = "waiting", waits_until(event)
            one.failures += 1
            return
        one.state = "done" if event.name == "step.compensated" else "failed"
        if self.to_compensate[-1:] != [step.name]:
            raise InvalidHistoryError(event.seq, f"step '{step.name}' was not being undone")
        self.to_compensate.pop()

    def _end(self, step: StepState, event: Event) -> None:
        dest = event.dest
        step.end_date = event.time
        if dest == "success":
            step.output, step.error = event.data.get("output"), None
        else:
            step.error = event.data.get("error") or event.data.get("reason") or None
        self.open_steps -= 1
        dependants = self.graph.dependants.get(step.name, ())
        if self.fails_fast and dest == "failed" and not step.options.get("allow_failure"):
            self.first_failed = self.first_failed or step.name
        if step.options:
            self._note_end(step)
        for name in dependants:
            tally = self.steps[name].tally
            tally[dest] = tally.get(dest, 0) + 1
        if step.kind and dest == "success":
            if step.mapped is not None:
                step.output = step.mapped.outputs()
            elif step.kind == "branch":
                followed = self.graph.reach(chosen(step.output))
                for name in dependants:
                    if name not in followed:
                        self.steps[name].shunned_by = step.name

    def _note_end(self, step: StepState) -> None:
        """Note the order in which steps with a compensation end."""
        if "compensate" in step.options:
            self.ended.append(step.name)
        if self.ends_as is not None:
            self._begin_compensating()

    def child_of(self, step: str, attempt: int) -> str:
        """Return the id of the Vect that an attempt of a `FlowExecution` runs."""
        return self.children.get((step, attempt)) or child_id(self.id, step, attempt)

    def _note_child(self, step: StepState, event: Event) -> None:
        """Note the child in which an attempt goes on, if that is not its own."""
        place, told = (step.name, step.attempt), event.data.get("child")
        self.children.pop(place, None)
        if told not in (None, step.child):
            self.children[place] = told

    def _expand(self, step: StepState, mapped: Mapped[StepState], event: Event) -> None:
        """Make an instance for each item; those of an earlier attempt stay."""
        mapped.problem = event.data.get("problem")
        # A copy: other code may have the same object, and change it.
        mapped.items = () if mapped.problem else own_copy(step.items()[0])
        mapped.labels = event.data.get("labels", ())
        mapped.unlabelled = event.data.get("unlabelled")
        for index in range(len(mapped.instances), event.data["count"]):
            instance = StepState(self, instance_name(step.name, index), 0)
            instance.parent, instance.index, instance.options = step, index, step.options
            if "runs" in step.options:
                instance.kind = "flow"
            is_on_loop = self.has_loop and "async" in step.options
            instance.needs_worker = not is_on_loop and kind_of(instance.kind).needs_worker
            mapped.instances.append(instance)
            self.steps[instance.name] = instance
            self.open_steps += 1
        if not self.is_live:  # else they are shown when the event is committed
            mapped.shown = len(mapped.instances)

    def _reset(self, step: StepState, source: str | None) -> None:
        if source != "success" and step.child is not None and step.start_date is not None:
            self.children[step.name, step.attempt + 1] = step.child
        step.output = step.error = step.start_date = step.end_date = step.until = None
        step.failures = 0
        step.losses = None
        if step.compensation is not None and step.compensation.state == "done":
            step.is_cut = False
        self.open_steps += 1
        for name in self.graph.dependants_of(step.name):
            tally = self.steps[name].tally
            tally[source or ""] -= 1
            if not tally[source or ""]:
                del tally[source or ""]
            if self.steps[name].shunned_by == step.name:
                self.steps[name].shunned_by = None

    def advance(self, event: Event) -> None:
        """Move to the state after `event`, as a replay does.

        Raises:
            InvalidHistoryError: The event cannot follow this state.
        """
        model: StepState | VectState = self
        moves = VECT_MOVES
        if event.step is not None:
            if event.step not in self.steps:
                raise InvalidHistoryError(event.seq, f"vect {self.id} has no step '{event.step}'")
            model, moves = self.steps[event.step], STEP_MOVES
        if (event.name, event.source, event.dest) not in moves or model.state != event.source:
            raise InvalidHistoryError(
                event.seq,
                f"'{event.name}' from '{event.source}' to '{event.dest}', "
                f"but {event.step or self.id} is '{model.state}'",
            )
        model.state = event.dest
        self.apply(event)

    def facts(self) -> dict[str, Any]:
        """Return the whole state as plain values, for comparing."""
        return {
            "vect": [getattr(self, slot) for slot in self.__slots__ if slot not in _NOT_FACTS],
            "upstreams": self.graph.upstreams,
            "steps": [
                [getattr(step, slot) for slot in step.__slots__ if slot not in _NOT_FACTS]
                for step in self.steps.values()
            ],
            "children": dict(self.children),
            "prompts": dict(self.prompts),
            "deadlines": self.deadlines and (dict(self.deadlines.until), dict(self.deadlines.told)),
            "maps": [step.mapped.facts() for step in self.steps.values() if step.mapped],
        }


def _with_one_more(losses: Losses | None, event: Event) -> Losses:
    """Return the losses of a step after one more."""
    before = losses or Losses(0, 0, 0, "")
    workers = before.workers + ("worker" in event.data)
    return Losses(before.attempts + 1, workers, event.attempt or 0, event.data["reason"])


def _without_workers(losses: Losses | None) -> Losses | None:
    """Return the losses of a step after an answer: a new row of lost workers begins."""
    return losses and msgspec.structs.replace(losses, workers=0)


def replay(events: Iterable[Event], upto: int | None = None) -> dict[str, VectState]:
    """Return the state of every Vect by its id, as it was after event number `upto`.

    The live engine uses the same tables and the same fold, so this is the state that it had.

    Args:
        events: Events in the order of their log: the whole log, its beginning, or those of some
            Vects.
        upto: Number of the last event to apply; None for all.

    Raises:
        InvalidHistoryError: No run can have produced these events; the error names the first event
            that does not fit.
    """
    vects: dict[str, VectState] = {}
    last_seq = 0
    for event in events:
        if event.seq <= last_seq:
            raise InvalidHistoryError(event.seq, f"it comes after event {last_seq}")
        last_seq = event.seq
        if upto is not None and event.seq > upto:
            break
        if event.name in PLAN_EVENTS:
            if event.step is not None or (event.name, event.source, event.dest) not in PLAN_MOVES:
                raise InvalidHistoryError(event.seq, f"no plan tells of '{event.name}' like that")
            continue
        if event.name == VECT_CREATED:
            vects[event.vect] = _created(event, vects)
        elif event.vect in vects:
            vects[event.vect].advance(event)
        else:
            raise InvalidHistoryError(event.seq, f"vect {event.vect} has not been created")
    return vects


def _created(event: Event, vects: dict[str, VectState]) -> VectState:
    if event.vect in vects:
        raise InvalidHistoryError(event.seq, f"vect {event.vect} is created twice")
    try:
        graph, params = Graph(event.data["graph"]), event.data["params"]
    except KeyError as error:
        raise InvalidHistoryError(event.seq, f"it has no {error}") from error
    options, settings = (event.data.get(key, NO_DATA) for key in ("options", "settings"))
    told = options, event.data.get("version"), settings
    vect = VectState(event.flow, event.vect, graph, params, *told)
    vect.apply(event)
    return vect


def limits_of(flow: str, options: Mapping[str, Any]) -> list[Limit]:
    """Return the limits on how many steps with these options run at once in a flow."""
    limits: list[Limit] = []
    if "pool" in options and options["pool"][1] is not None:
        name, slots = options["pool"]
        limits.append(Limit(name, slots, options.get("pool_slots", 1)))
    if "async" in options:
        limits.append(Limit(("async", flow), options["async"]))
    return limits


def rate_of(options: Mapping[str, Any]) -> Rate | None:
    """Return the rate of the pool of a step with these options; None if it has none."""
    if "rate" not in options:
        return None
    starts, seconds = options["rate"]
    return Rate(options["pool"][0], starts, seconds)


def child_id(vect: str, step: str, attempt: int) -> str:
    """Return the id of the Vect that an attempt of a step begins, so that it begins only one."""
    return f"{vect}/{step}/{attempt}"


def is_child(vect: str, parent: str, step: str) -> bool:
    """Whether an id is that of a Vect which an attempt of a step runs."""
    base, _, attempt = vect.rpartition("/")
    return base == f"{parent}/{step}" and attempt.isdecimal()


def chosen(output: object) -> list[str]:
    """Return the names that a branch has chosen, from its output."""
    if isinstance(output, str):
        return [output]
    return [str(name) for name in output] if isinstance(output, list | tuple) else []


def waits_until(event: Event) -> datetime | None:
    """Return the end of the wait that begins with an event; None if it begins no wait."""
    data = event.data
    if "error" in data:  # its delay is the engine's; other words may be details, before 2.0.0
        seconds = data.get("delay")
    elif "until" in data:
        return datetime.fromisoformat(data["until"])
    else:
        seconds = data.get("delay", data.get("timeout"))
    return None if seconds is None else event.time + timedelta(seconds=seconds)


_NOT_FACTS = frozenset(
    {
        "vect",
        "graph",
        "steps",
        "mapped",
        "parent",
        "before",
        "is_live",
        "deadlines",
        "children",
        "prompts",
    }
)
