"""A Vect as it stands in the log, for any process: it has no flow, and nothing moves it.

A view is of one moment: what happens later shows in the next one. Values are as JSON has them,
since only the program that declares a flow knows their types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oautom.client.compare import Difference, differences
from oautom.client.forecast import Forecast, Now, Past, forecast
from oautom.client.timeline import Span, timeline_of
from oautom.errors import (
    NotFinishedError,
    SettingError,
    StepFailedError,
    UnknownStepError,
    UnknownVectError,
    shown,
)
from oautom.events.log import EventLog, VectEntry, told_by_id
from oautom.machine.event import Event, planned_time
from oautom.machine.state import StepState, VectState, replay
from oautom.machine.tables import STEP_ENDS, VECT_ENDS
from oautom.pictures.drawn import Drawn
from oautom.values.json import at_heart, plain_count
from oautom.vects.attempts import Attempt, attempts_of, ends_of
from oautom.vects.run import status_of, visible

if TYPE_CHECKING:
    from typing import Protocol

    from oautom.pictures.nodes import Node

    class Source(Protocol):
        """Where a view is from."""

        @property
        def log(self) -> EventLog:
            """Where the events are."""

        def reasons(self, view: VectView, steps: Iterable[StepState]) -> Iterator[str]:
            """Yield why each of these steps is, or is not, running."""

        def extras(self, state: VectState) -> dict[str, Any]:
            """Return what `status` tells besides: a turn, or why a Vect is stranded."""


_TOGETHER: Final = 50
"""Of how many Vects of a list the parameters are read at once."""


class Waiting(NamedTuple):
    """What waits for a person.

    Attributes:
        vect: The id of the Vect.
        step: The name of the step: `Client.approve` and `reject` take both.
        flow: The name of the flow.
        prompt: What the person is asked.
        since: When they were asked.
        until: Until when they have time; None for as long as it takes.
    """

    vect: str
    step: str
    flow: str
    prompt: str
    since: datetime | None
    until: datetime | None


class Firsts:
    """The first events of some Vects of a list, which have the parameters: read as one."""

    def __init__(self, source: Source, vects: Sequence[str]) -> None:
        self._source = source
        self._vects = vects

    @cached_property
    def events(self) -> dict[str, Event]:
        """The first event of each Vect, by its id; none of one that was pruned."""
        return {each.vect: each for each in self._source.log.read_each(self._vects, 1)}


def views_of(source: Source, entries: Sequence[VectEntry]) -> list[VectView]:
    """Return the views of a list of Vects, which read their parameters together."""
    views = []
    for first in range(0, len(entries), _TOGETHER):
        part = entries[first : first + _TOGETHER]
        firsts = Firsts(source, [each.id for each in part])
        views += [VectView(source, each, None, firsts) for each in part]
    return views


class VectView(Drawn):
    """One Vect, as the log has it: at the moment at which it was asked for, or after an event.

    Made by `Client.vect` and `Client.vects`. It is read when more is asked of it than the id, the
    flow, the state and the date of its creation.
    """

    def __init__(
        self,
        source: Source,
        entry: VectEntry,
        upto: int | None = None,
        firsts: Firsts | None = None,
    ) -> None:
        self._source = source
        self._entry = entry
        self._upto = upto
        self._firsts = firsts

    @classmethod
    def read(cls, source: Source, entry: VectEntry) -> VectView:
        """Return a Vect as it stands now: it is read at once.

        Raises:
            UnknownVectError: It has just been pruned.
            LogError: It cannot be read, or makes no sense.
        """
        view = cls(source, entry)
        view._state  # noqa: B018 - cached
        return view

    @property
    def is_past(self) -> bool:
        """Whether it shows the Vect as it was after an event."""
        return self._upto is not None

    @cached_property
    def _events(self) -> list[Event]:
        return list(self._source.log.read(upto=self._upto, vect=self.id))

    @cached_property
    def _by_step(self) -> dict[str | None, list[Event]]:
        """The events of each step: of a run with many, none is looked for among all others."""
        found: dict[str | None, list[Event]] = {}
        for event in self._events:
            found.setdefault(event.step, []).append(event)
        return found

    @cached_property
    def _state(self) -> VectState:
        state = replay(self._events).get(self.id)
        if state is None:
            raise UnknownVectError(
                f"vect '{self.id}' was pruned from the log, or had not begun at that event",
                flow=self.flow,
            )
        return state

    @property
    def id(self) -> str:
        """The id of the Vect, unique in its log."""
        return self._entry.id

    @property
    def flow(self) -> str:
        """The name of its flow."""
        return self._entry.flow

    @property
    def created(self) -> datetime:
        """When it was created: aware, UTC."""
        return self._entry.created

    @property
    def changed(self) -> datetime:
        """When its own state changed last, now: aware, UTC; of one that has ended, its end."""
        return self._entry.changed

    @property
    def state(self) -> str:
        """`pending`, `running`, `paused`, `ending`, `success`, `failed` or `cancelled`."""
        if "_state" not in self.__dict__ and self._upto is None:
            return self._entry.state
        return self._state.state

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in VECT_ENDS

    @property
    def seq(self) -> int:
        """The number of its newest event that it shows."""
        return self._events[-1].seq if self._events else 0

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, as JSON has them."""
        if "_state" not in self.__dict__ and self._firsts is not None:
            first = self._firsts.events.get(self.id)
            if first is not None and "params" in first.data:
                return dict(first.data["params"])
        return dict(self._state.params)

    @property
    def version(self) -> str | None:
        """The version of its flow when it began, or None."""
        return self._state.version

    @property
    def start_date(self) -> datetime | None:
        """When it started: aware, UTC."""
        return self._state.start_date

    @property
    def end_date(self) -> datetime | None:
        """When it ended: aware, UTC."""
        return self._state.end_date

    @property
    def reason(self) -> str | None:
        """Why it ended so, where no step says all of it."""
        return self._state.reason

    @property
    def steps(self) -> Mapping[str, StepView]:
        """The steps by name, in the order of declaration."""
        return _Steps(self)

    @property
    def parent(self) -> tuple[str, str, int] | None:
        """The Vect, step and attempt that run it; None if it was started by itself."""
        told = self._state.parent
        return None if told is None else (str(told[0]), str(told[1]), int(told[2]))

    @property
    def planned(self) -> tuple[str, datetime] | None:
        """The plan, or its backfill, that has started it, and for which time; None if none has."""
        first = self._events[0]
        return told_by_id(first.vect) if "backfill" in first.data else planned_time(first)

    def time_left(self, past: Past) -> Forecast | None:
        """Return how long it will still take, by how long others took; see `Client.time_left`."""
        if self.state in VECT_ENDS or self.state in ("paused", "ending"):
            return None
        steps = self._state.steps.values()
        states = {step.name: step.state for step in steps}
        since = {s.name: s.start_date for s in steps if s.state == "running" and s.start_date}
        upstreams = self._state.graph.upstreams
        return forecast(Now(upstreams, states, since, datetime.now(UTC)), past)

    def timeline(self) -> list[Span]:
        """Return who waited for a slot, worked, or waited for something else, and when.

        The intervals are in the order in which they began; those that go on have no end.
        """
        return timeline_of(self._events)

    def differences(self, other: VectView) -> list[Difference]:
        """Return what another Vect has otherwise: parameters, states, attempts, errors, outputs.

        The other one may be of another flow, or this one at another event. Times are not compared.
        """
        return differences(self, other)

    def result(self, step: str) -> Any:
        """Return the output of a step, as JSON has it.

        Raises:
            UnknownStepError: The flow has no such step.
            NotFinishedError: The step has not ended yet.
            StepFailedError: It has ended without an output.
        """
        found = self.steps[step]
        if found.state == "success":
            return found.output
        if found.state not in STEP_ENDS:
            raise NotFinishedError(self.flow, found.name, found.state)
        raise StepFailedError(self.flow, found.name, found.state, found.error)

    def status(self) -> dict[str, Any]:
        """Return the state of the Vect and of each of its steps, as JSON would have it."""
        state = self._state
        extras = {} if self._upto is not None else self._source.extras(state)
        return {**status_of(state, state.state, ""), **extras}

    def events(self) -> list[Event]:
        """Return what has happened in this Vect, in the order of the log."""
        return list(self._events)

    def at(self, seq: int) -> VectView:
        """Return the Vect as it was after an event of the log.

        Args:
            seq: The number of the event; of another Vect as well.

        Raises:
            SettingError: It is no number of an event, or the Vect had not begun then.
        """
        number = plain_count(seq)
        if number is None or number < self._entry.first_seq:
            raise SettingError(
                f"vect '{self.id}' began with event {self._entry.first_seq}; seq must be the "
                f"number of an event from then on, not {shown(seq)}",
                flow=self.flow,
            )
        return VectView(self._source, self._entry, number)

    def explain(self, step: str) -> str:
        """Return why a step is, or is not, running: one sentence.

        It is made of the log, and of what the engine at work tells; where there is none it says so.

        Raises:
            UnknownStepError: The flow has no such step.
        """
        return next(self.reasons([step]))

    def reasons(self, steps: Iterable[str]) -> Iterator[str]:
        """Yield what `explain` says of each of these steps; what they have in common is read once.

        Raises:
            UnknownStepError: The flow has no such step.
        """
        return self._source.reasons(self, (self._step(each) for each in steps))

    def timeline_svg(
        self,
        *,
        href: Callable[[str], str | None] | None = None,
        limit: int | None = 200,
        width: int = 960,
        style: bool = True,
    ) -> str:
        """Return a picture of when each step waited and worked, as SVG.

        Args:
            href: Returns the link of the row of a step, by its name; None for no link.
            limit: How many rows it may have: steps of a larger run share rows. None for a row for
                each step.
            width: How wide it is.
            style: Whether the style sheet is in it.

        Raises:
            SettingError: An argument cannot be used, or `href` raises, or returns something else.
        """
        from oautom.pictures.timeline import timeline_svg  # noqa: PLC0415 - as above

        is_over = self.is_past or self.ended
        return timeline_svg(
            self.timeline(),
            self._nodes(),
            self._title(),
            now=self._events[-1].time if is_over else datetime.now(UTC),
            ends=ends_of(self._events),
            limit=limit,
            width=width,
            href=href,
            style=style,
        )

    def _nodes(self) -> list[Node]:
        from oautom.vects.drawn import nodes_of  # noqa: PLC0415 - as above

        return nodes_of(self._state, status_of(self._state, self.state))

    def _title(self) -> str:
        return f"{self.id} of flow '{self.flow}': {self.state}"

    def _step(self, name: object) -> StepState:
        heart = at_heart(name)
        step = self._state.steps.get(heart) if type(heart) is str else None
        if step is None or not step.is_visible:
            known = [each.name for each in visible(self._state)]
            raise UnknownStepError(self.flow, str(heart), known)
        return step

    def __repr__(self) -> str:
        """Return id, flow and state."""
        return f"<VectView {self.id} of '{self.flow}': {self.state}>"


class StepView:
    """What one step has done in one Vect, as the log has it."""

    def __init__(
        self,
        step: StepState,
        events: Callable[[], list[Event]],
        text_of: Callable[[str, Attempt], str],
    ) -> None:
        self._step = step
        self._events = events
        self._text_of = text_of

    @property
    def name(self) -> str:
        """The name of the step."""
        return self._step.name

    @property
    def label(self) -> str | None:
        """The label of an instance of a `MapExecution`, or None."""
        return self._step.label

    @property
    def told(self) -> str:
        """The name of the step, with its label: `load[3] (Paris)`."""
        return self._step.told

    @property
    def state(self) -> str:
        """The name of its state, as of `Step`."""
        return self._step.state

    @property
    def attempt(self) -> int:
        """Number of the newest attempt, from 1; 0 before the first."""
        return self._step.attempt

    @property
    def output(self) -> Any:
        """What it returned, as JSON has it; None before it succeeded."""
        return self._step.output

    @property
    def error(self) -> str | None:
        """What went wrong, in a line, or None."""
        return self._step.error

    @property
    def start_date(self) -> datetime | None:
        """When the newest attempt began: aware, UTC."""
        return self._step.start_date

    @property
    def end_date(self) -> datetime | None:
        """When the step ended: aware, UTC."""
        return self._step.end_date

    @property
    def until(self) -> datetime | None:
        """When it goes on by itself, if it waits for a time; else None."""
        return self._step.until

    @property
    def upstreams(self) -> list[str]:
        """The names of the steps that it waits for; of an item of a map that of the map."""
        step = self._step
        if step.parent is not None:
            return [step.parent.name]
        return list(step.vect.graph.upstreams[step.name])

    @property
    def kind(self) -> str:
        """`work`, `branch`, `map`, `flow`, `wait`, `approval`, `file` or `given`."""
        return self._step.kind or "work"

    @property
    def options(self) -> Mapping[str, Any]:
        """The options other than the default, as the log has them: `timeout`, `max_attempts`."""
        return dict(self._step.options)

    @property
    def pool(self) -> str | None:
        """The name of its pool, if it has one."""
        given = self._step.options.get("pool")
        return None if given is None else str(given[0])

    @property
    def prompt(self) -> str | None:
        """What a person is asked, of an `ApprovalExecution`; else None."""
        return self._step.prompt

    @property
    def inputs(self) -> dict[str, Any]:
        """The outputs of its upstreams that have succeeded, by their names, as JSON has them."""
        steps = self._step.vect.steps
        names = self._step.vect.graph.upstreams[self._step.declared]
        return {name: steps[name].output for name in names if steps[name].state == "success"}

    @property
    def parent(self) -> str | None:
        """The name of its map, of an instance of a `MapExecution`; else None."""
        return None if self._step.parent is None else self._step.parent.name

    @property
    def item(self) -> Any:
        """The item of an instance of a map, as JSON has it; else None."""
        mapped = None if self._step.parent is None else self._step.parent.mapped
        if mapped is None or self._step.index >= len(mapped.items):
            return None
        return mapped.items[self._step.index]

    @property
    def items(self) -> dict[str, Any]:
        """The items of a map, by the names of its instances; empty for any other step."""
        mapped = self._step.mapped
        if mapped is None:
            return {}
        names = [each.name for each in mapped.instances if each.is_visible]
        return dict(zip(names, mapped.items, strict=False))

    @property
    def child(self) -> str | None:
        """The id of the Vect that the newest attempt runs, of a `FlowExecution` or a map."""
        return self._step.child

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts, in the order in which they began."""
        return attempts_of(self._events(), self.name, lambda each: self._text_of(self.name, each))

    @property
    def log_text(self) -> str:
        """What the newest attempt has written so far."""
        attempts = self.attempts
        return attempts[-1].log_text if attempts else ""

    def __repr__(self) -> str:
        """Return name and state."""
        return f"<StepView '{self.name}': {self.state}>"


class _Steps(Mapping[str, StepView]):
    def __init__(self, view: VectView) -> None:
        self._view = view

    def __getitem__(self, name: str) -> StepView:
        view = self._view
        # Its own parts. The events are looked up when they are wanted: few views want them.
        return StepView(view._step(name), lambda: view._by_step.get(name, []), self._text_of)  # noqa: SLF001

    def _text_of(self, step: str, attempt: Attempt) -> str:
        view = self._view
        text = view._source.log.text((view.id, step, attempt.number))  # noqa: SLF001 - as above
        return "" if text is None else text.shown(is_whole=attempt.state != "running")

    def __iter__(self) -> Iterator[str]:
        return iter([step.name for step in visible(self._view._state)])  # noqa: SLF001 - as above

    def __len__(self) -> int:
        return len(visible(self._view._state))  # noqa: SLF001 - as above

    def __repr__(self) -> str:
        return repr({name: step.state for name, step in self.items()})
