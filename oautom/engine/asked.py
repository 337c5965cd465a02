"""What a start asks for of its flow: all of it, some steps, or one step with given outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from oautom.errors import FlowError, SettingError, UnknownStepError, UnknownVectError, shown
from oautom.events.log import EventLog
from oautom.flows.flow import Flow
from oautom.flows.part import WHOLE, Part
from oautom.machine.maps import map_of
from oautom.machine.state import StepState, committed
from oautom.steps.execution import Execution
from oautom.steps.work import Outcome
from oautom.values.annotations import UNKNOWN
from oautom.values.convert import NotConvertibleError, converted
from oautom.values.json import at_heart
from oautom.vects.run import Run, kept
from oautom.vects.vect import Vect


class Asked(NamedTuple):
    """What a start asks for, as far as the flow alone tells whether that can be.

    Attributes:
        until: The names of the last steps; empty for all.
        only: The name of the only step, or None.
        given: The outputs for that step, by the names of the steps that they are of; or the id of
            the Vect that has them; or None.
    """

    until: Sequence[str] = ()
    only: str | None = None
    given: Mapping[str, Any] | str | None = None

    @property
    def source(self) -> str | None:
        """The id of the Vect that has the outputs, and the parameters."""
        return self.given if isinstance(self.given, str) else None


ALL = Asked()


def asked_of(flow: Flow, until: object, only: object, given: object) -> Asked:
    """Return what the arguments of a start ask for.

    Raises:
        UnknownStepError: The flow has no such step.
        FlowError: A step is an item of a map, or the only step does not wait for a given one.
        SettingError: An argument is something else, or they do not go together.
    """
    if only is None:
        if given is not None:
            raise SettingError("given needs only=: the step that gets these outputs")
        return ALL if until is None else Asked(steps_of(flow, until))
    if until is not None:
        raise SettingError("until and only exclude each other: only runs one step, and no other")
    if not isinstance(only, Execution) and type(at_heart(only)) is not str:
        raise SettingError(f"only must be a step, or the name of one, not {shown(only)}")
    step = _step_of(flow, only)
    return Asked((), step, _given_of(flow, step, given))


def _given_of(flow: Flow, step: str, given: object) -> Mapping[str, Any] | str | None:
    if given is None:
        return None
    if isinstance(given, Vect):
        return given.id
    if type(name := at_heart(given)) is str:
        return str(name)
    if not isinstance(given, Mapping):
        raise SettingError(
            "given must be outputs by the names of their steps, or a Vect, or the id of one, not "
            f"{shown(given)}"
        )
    named = {_step_of(flow, each): value for each, value in given.items()}
    before = flow.graph.upstreams[step]
    for each in named:
        if each not in before:
            known = in_quotes(before) or "no step"
            raise FlowError(
                f"flow '{flow.name}': step '{step}' does not wait for '{each}', but for {known}",
                flow=flow.name,
                step=step,
            )
    return named


def _step_of(flow: Flow, given: object) -> str:
    name = given.name if isinstance(given, Execution) else at_heart(given)
    step = flow.steps.get(name) if type(name) is str else None
    if step is not None and (not isinstance(given, Execution) or step is given):
        return step.name
    whole = flow.steps.get(map_of(name)) if type(name) is str else None
    if whole is not None and whole.kind == "map":
        raise FlowError(
            f"flow '{flow.name}': '{name}' is an item of map '{whole.name}'; name the map, and all "
            "its items run",
            flow=flow.name,
            step=whole.name,
        )
    raise UnknownStepError(flow.name, cast("str", name), flow.steps)


def in_quotes(names: Iterable[str]) -> str:
    """Return names as a sentence has them."""
    return ", ".join(f"'{name}'" for name in names)


def steps_of(flow: Flow, until: object) -> list[str]:
    """Return the names of the steps of a flow that an argument names, or is.

    Args:
        flow: The flow.
        until: A step or its name, or several.

    Raises:
        UnknownStepError: The flow has no such step.
        FlowError: A step is an item of a map.
        SettingError: It is something else.
    """
    given = [until] if isinstance(until, str | Execution) else until
    if not isinstance(given, Iterable):
        raise SettingError(f"until must be a step, the name of one, or several, not {shown(until)}")
    names = [_step_of(flow, each) for each in given]
    if not names:
        raise SettingError("until must name at least one step; leave it out to run all steps")
    return names


def check_same(run: Run, asked: Asked) -> None:
    """Refuse to take a Vect that is there for one that runs other steps.

    Raises:
        FlowError: It does.
    """
    settings = run.state.settings
    part, alone = settings.get("until", []), settings.get("only")
    if set(asked.until) in (set(), set(part)) and asked.only in (None, alone):
        return
    is_part = f"ends with {in_quotes(part)}" if part else "is a run of the whole flow"
    does = is_part if alone is None else f"is a run of '{alone}' alone"
    wanted = f"one of '{asked.only}' alone" if asked.only else f"with {in_quotes(asked.until)}"
    raise FlowError(
        f"vect '{run.id}' of flow '{run.flow.name}' {does}, not {wanted}; give this one another "
        "vect_id",
        flow=run.flow.name,
    )


class Parts:
    """Makes of what is asked for the part that a Vect runs.

    Args:
        log: The log, which must be able to keep the outputs.
        find: Returns the run of a Vect of the log, None if there is none; errors as of
            `Registry.find`.
    """

    def __init__(self, log: EventLog, find: Callable[[str], Run | None]) -> None:
        self._log = log
        self._find = find

    def of(self, flow: Flow, asked: Asked, params: object) -> tuple[Part, object]:
        """Return the part, and the parameters of the Vect that runs it.

        Those of the Vect that has the outputs are the defaults.

        Raises:
            FlowError: An output is missing that the step takes, or is none of its type, or the Vect
                that has them is one of another flow.
            UnknownVectError: There is no such Vect, or it has been pruned.
        """
        if asked.only is None:
            return (Part(asked.until) if asked.until else WHOLE), params
        taken = flow.taken_by(asked.only)
        if asked.source is not None:
            source = self._source(flow, asked.source)
            outputs = self._outputs_of(source, asked.only, taken)
            if params is None or isinstance(params, Mapping):
                own = {k: v for k, v in source.state.params.items() if k in flow.params}
                params = {**own, **(params or {})}
            return Part((), asked.only, outputs, source.id), params
        handed = cast("Mapping[str, Any]", asked.given or {})
        for name in taken:
            if name not in handed:
                raise _missing(flow, asked.only, name, "none is given")
        outputs = {name: self._kept(flow, name, handed[name]) for name in handed}
        return Part((), asked.only, outputs), params

    def _source(self, flow: Flow, vect: str) -> Run:
        source = self._find(vect)
        if source is None:
            raise UnknownVectError(f"the app has no vect {shown(vect)}; vects() lists them")
        if source.flow is not flow:
            raise FlowError(
                f"vect '{vect}' is one of flow '{source.flow.name}', so it has no outputs for a "
                f"step of flow '{flow.name}'",
                flow=flow.name,
            )
        return source

    def _outputs_of(self, source: Run, only: str, taken: Sequence[str]) -> dict[str, Any]:
        """Return the outputs that a step got in a Vect, or would get if it ran now."""
        flow, steps = source.flow, source.state.steps
        outputs = {}
        for name in flow.graph.upstreams[only]:
            step = steps.get(name)
            if step is not None and committed(step)[0] == "success":
                outputs[name] = self._output_of(source, step)
            elif name in taken:
                why = _why_missing(step)
                raise _missing(flow, only, name, f"in vect '{source.id}' {why}")
        return outputs

    def _output_of(self, source: Run, step: StepState) -> Any:
        """Return an output as it was recorded: who took it may have changed the object since."""
        value = source.output(step) if source.is_durable else committed(step)[2]
        return self._plain(source.flow, step.name, value)

    def _kept(self, flow: Flow, name: str, value: object) -> Any:
        """Return an output that was handed over, as the log can keep it."""
        annotation = flow.steps[name].output_type
        if annotation is not UNKNOWN:
            try:
                value = converted(value, annotation)
            except NotConvertibleError as error:
                raise FlowError(
                    f"flow '{flow.name}': given['{name}'] is {shown(value)}, and step '{name}' "
                    f"returns something else: {error}",
                    flow=flow.name,
                    step=name,
                ) from error
        return self._plain(flow, name, value)

    def _plain(self, flow: Flow, name: str, value: object) -> Any:
        outcome = kept(Outcome(value), flow.steps[name].output_type, self._log)
        if outcome.error is not None:
            raise FlowError(
                f"flow '{flow.name}': the output of step '{name}' cannot be given: {outcome.error}",
                flow=flow.name,
                step=name,
            )
        return outcome.output


def _why_missing(step: StepState | None) -> str:
    if step is None:
        return "there is no such step"
    state = committed(step)[0]
    return {
        "running": "it is running still",
        "skipped": "it was skipped",
    }.get(state, f"it is '{state}'")


def _missing(flow: Flow, only: str, name: str, why: str) -> FlowError:
    return FlowError(
        f"flow '{flow.name}': step '{only}' takes the output of '{name}', and {why}; give one: "
        f"given={{'{name}': ...}}, or the Vect of a run in which it has succeeded",
        flow=flow.name,
        step=only,
    )
