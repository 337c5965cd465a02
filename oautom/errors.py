"""The errors of oautom: each says what is wrong, where (flow, step), and what to do.

All derive from `OAutomError`; the facts of a message are attributes too. Imports nothing of oautom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from itertools import islice
from typing import Final, Self

_NEAR_MISS_NAMES_MAX = 2000
_CYCLE_STEPS_SHOWN = 10
_REPR_SHOWN = 80
_NAME_SHOWN = 200
_FACTS = frozenset({str, int, float, bool, type(None)})

MASK: Final[ContextVar[Callable[[str], str] | None]] = ContextVar("oautom_mask", default=None)
"""What takes secrets out of the texts of errors, before they are cut; None for no secrets."""


class OAutomError(Exception):
    """Base of every error that oautom raises on purpose.

    Attributes:
        flow: The name of the flow concerned, or None.
        step: The name of the step concerned, or None.
    """

    def __init__(self, message: str, *, flow: str | None = None, step: str | None = None) -> None:
        super().__init__(message)
        self.flow = flow
        self.step = step

    def __str__(self) -> str:
        """Return the message (a `KeyError` among the bases would quote it)."""
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[object, ...]:
        """Travel by value: subclasses take facts, not a message, so calling the class fails."""
        return _revive, (type(self), self.args, self.__dict__)


def _revive(
    kind: type[OAutomError], args: tuple[object, ...], facts: dict[str, object]
) -> OAutomError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


def error_facts(error: OAutomError) -> dict[str, object]:
    """Return the attributes of an error that JSON can keep: `error_of_facts` makes it anew."""
    return {
        name: value
        for name, value in vars(error).items()
        if type(value) in _FACTS or (type(value) is list and {*map(type, value)} <= _FACTS)
    }


def error_of_facts(kind: str, message: str, facts: Mapping[str, object]) -> OAutomError:
    """Return an error that another process has raised.

    Args:
        kind: The name of its class; of one that is not known here it is an `OAutomError`.
        message: What it says.
        facts: Its attributes.
    """
    found = globals().get(kind)
    is_ours = isinstance(found, type) and issubclass(found, OAutomError)
    known: type[OAutomError] = found if is_ours else OAutomError  # type: ignore[assignment] # see above
    return _revive(known, (message,), {"flow": None, "step": None, **facts})


class SettingError(OAutomError, ValueError):
    """An argument of `OAutom` or of one of its methods cannot be used."""

    @classmethod
    def of_unknown(cls, what: str, name: object, known: Iterable[str]) -> Self:
        """Return the error for an unknown name, with the known ones."""
        return cls(f"there is no {what} {shown(name)}; {_suggest(name, known)}")


class EngineError(OAutomError, RuntimeError):
    """A call that cannot work now.

    The app is closed, the call would wait for itself, the engine's thread was not available in
    time, or the engine does not go on with this Vect in this program.
    """


class NoEngineError(EngineError):
    """No engine is at work on the log that could do what a client asks for; nothing was done.

    Attributes:
        path: The file of the log.
        why: What is so there.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"{why}, so nothing was done; run the program whose flows they are, or ask with "
            "queue=True, and the next engine does it"
        )
        self.path = path
        self.why = why


class WithdrawnError(EngineError, TimeoutError):
    """No engine has come to a request in time; it was taken back, and nothing was done."""


class UnansweredError(EngineError, TimeoutError):
    """An engine has taken a request, and has not answered in time: it may be done or not.

    Attributes:
        number: The number of the request: `Client.answer` has its result.
        what: A description of the request.
    """

    def __init__(self, number: int, what: str) -> None:
        super().__init__(
            f"{what}, request {number}, was taken by an engine that has not answered yet; it may "
            f"still be done, by the next engine if this one has ended: client.answer({number}) "
            "tells what has become of it"
        )
        self.number = number
        self.what = what


class FlowError(OAutomError, ValueError):
    """The declaration of a flow or step is wrong, or a call names it wrongly."""


class CycleError(FlowError):
    """The steps of a flow wait for each other in a circle.

    Attributes:
        cycle: Names of the steps, each an upstream of the next; the last is the first again.
    """

    def __init__(self, flow: str, cycle: Sequence[str]) -> None:
        shown = [str(name) for name in cycle]
        if len(shown) > _CYCLE_STEPS_SHOWN:
            left_out = len(shown) - _CYCLE_STEPS_SHOWN
            half = _CYCLE_STEPS_SHOWN // 2
            shown = [*shown[:half], f"({left_out} more)", *shown[-half:]]
        super().__init__(
            f"flow '{flow}' has a cycle: {' -> '.join(shown)}; remove one of these depends()",
            flow=flow,
        )
        self.cycle = list(cycle)


class DuplicateStepError(FlowError):
    """Two steps of one flow have the same name."""

    def __init__(self, flow: str, step: str) -> None:
        super().__init__(
            f"flow '{flow}' already has a step '{step}'; give this one another name",
            flow=flow,
            step=step,
        )


class DuplicateFlowError(FlowError):
    """Two flows of one app have the same name."""

    def __init__(self, flow: str) -> None:
        super().__init__(
            f"the app already has a flow '{flow}'; give this one another name", flow=flow
        )


class UnknownFlowError(FlowError, KeyError):
    """The app has no flow of this name."""

    def __init__(self, flow: str, known: Iterable[str] = ()) -> None:
        name = _named(flow)
        super().__init__(f"the app has no flow '{name}'; {_suggest(name, known)}", flow=name)


class UnknownPlanError(FlowError, KeyError):
    """The flow has no plan, or none of this name, or several."""

    def __init__(self, flow: str, plan: str | None, known: Sequence[str] = ()) -> None:
        listed = ", ".join(f"'{name}'" for name in known)
        if plan is not None:
            what = f"has no plan '{_named(plan)}'; {_suggest(_named(plan), known)}"
        elif known:
            what = f"has several plans; name one of them: {listed}"
        else:
            what = "has no plan; make one: app.plan(...)"
        super().__init__(f"flow '{flow}' {what}", flow=flow)


class UnknownStepError(FlowError, KeyError):
    """The flow has no step of this name."""

    def __init__(self, flow: str, step: str, known: Iterable[str] = ()) -> None:
        name = _named(step)
        super().__init__(
            f"flow '{flow}' has no step '{name}'; {_suggest(name, known)}", flow=flow, step=name
        )


class CrossFlowDependencyError(FlowError):
    """A step was made to depend on a step of another flow."""

    def __init__(self, flow: str, step: str, upstream_flow: str, upstream: str) -> None:
        super().__init__(
            f"step '{step}' of flow '{flow}' cannot depend on step '{upstream}' of flow "
            f"'{upstream_flow}'; declare both in one flow",
            flow=flow,
            step=step,
        )
        self.upstream_flow = upstream_flow
        self.upstream = upstream


class FlowFrozenError(FlowError):
    """A flow that has been started cannot be changed any more."""

    def __init__(self, flow: str, step: str) -> None:
        super().__init__(
            f"flow '{flow}' has been started and cannot change: step '{step}' comes too late; "
            "declare all steps and depends() before the first start",
            flow=flow,
            step=step,
        )


class FlowChangedError(FlowError):
    """A Vect began with other steps, parameters or another version than its flow has now.

    Attributes:
        vect: The id of the Vect.
        differences: The changes since, a clause each.
    """

    def __init__(
        self, flow: str, vect: str, differences: Sequence[str], *, has_ended: bool = False
    ) -> None:
        shown = "; ".join(differences[:_CYCLE_STEPS_SHOWN])
        if len(differences) > _CYCLE_STEPS_SHOWN:
            shown += f"; and {len(differences) - _CYCLE_STEPS_SHOWN} more"
        other = "start a new one" if has_ended else f"give the vect up: app.vect({vect!r}).cancel()"
        super().__init__(
            f"vect '{vect}' of flow '{flow}' cannot go on, since the flow has changed: {shown}; "
            f"declare the flow as it was, or {other}",
            flow=flow,
        )
        self.vect = vect
        self.differences = list(differences)


class UnknownInputError(FlowError, KeyError):
    """A step asked its context for the output of a step that is not among its upstreams."""

    def __init__(self, flow: str, step: str, name: str, known: Iterable[str] = ()) -> None:
        super().__init__(
            f"step '{step}' of flow '{flow}' has no input '{name}'; only its direct upstreams are "
            f"inputs: add depends(), or {_suggest(name, known)}",
            flow=flow,
            step=step,
        )


class ParamError(OAutomError, ValueError):
    """A parameter of a flow is unknown, missing or wrong; the message lists all parameters.

    Attributes:
        param: The name of the parameter concerned, or None.
    """

    def __init__(self, flow: str, what: str, param: str | None = None) -> None:
        super().__init__(f"flow '{flow}': {what}", flow=flow)
        self.param = param


class UnknownParamError(ParamError, KeyError):
    """A flow has no parameter of this name."""

    def __init__(self, flow: str, name: object, known: Iterable[str], listed: str) -> None:
        hint = _suggest(name, known)
        meant = f" ({hint})" if hint.startswith("did") else ""
        super().__init__(
            flow, f"there is no parameter {shown(name)}{meant}; {listed}", _named(name)
        )


class UnknownVectError(OAutomError, KeyError):
    """The app has no such Vect."""


class VectAlreadyRunningException(OAutomError, RuntimeError):  # noqa: N818 - the original's name
    """As many Vects of the flow are open as `max_active_vects` allows."""

    def __init__(self, flow: str, running: Sequence[str], limit: int, lane: str = "") -> None:
        of = f" with {lane}" if lane else ""
        super().__init__(
            f"flow '{flow}' already runs{of} as {', '.join(running)} and its max_active_vects is "
            f"{limit}; wait for one to end, cancel it, or raise max_active_vects",
            flow=flow,
        )
        self.running = list(running)
        self.limit = limit


class StepFailedError(OAutomError):
    """A step has ended without a result; raised from the step's own error if there is one.

    Attributes:
        state: The state in which the step ended.
        error: The error of the step, or None.
    """

    def __init__(self, flow: str, step: str, state: str, error: str | None) -> None:
        reason = f": {error}" if error else ""
        super().__init__(
            f"step '{step}' of flow '{flow}' has no result, it ended as '{state}'{reason}",
            flow=flow,
            step=step,
        )
        self.state = state
        self.error = error


class LostOutputError(OAutomError, RuntimeError):
    """An output that was kept in a cluster, by `keep_remote=True`, is not there any more.

    Attributes:
        vect: The id of the Vect.
    """

    def __init__(self, flow: str, vect: str, step: str) -> None:
        super().__init__(
            f"the output of step '{step}' of flow '{flow}' in vect '{vect}' was kept in the "
            "cluster by keep_remote=True, and is lost: its worker, the connection or the program "
            "has ended; start the flow again, or without keep_remote",
            flow=flow,
            step=step,
        )
        self.vect = vect


class NotFinishedError(OAutomError, RuntimeError):
    """The result of a step was asked for before the step had ended."""

    def __init__(self, flow: str, step: str, state: str) -> None:
        super().__init__(
            f"step '{step}' of flow '{flow}' is '{state}' and has no result yet; "
            "call wait() on its Vect first",
            flow=flow,
            step=step,
        )
        self.state = state


class VectStateError(OAutomError, RuntimeError):
    """A call for a Vect, or for a step of it, makes no sense in its `state`."""

    def __init__(
        self, what: str, state: str, remedy: str, flow: str, step: str | None = None
    ) -> None:
        super().__init__(f"{what} is '{state}'; {remedy}", flow=flow, step=step)
        self.state = state


class NotJsonError(OAutomError, ValueError):
    """A value that JSON cannot store unchanged.

    Attributes:
        where: The place of the part to blame, as `['rows'][0]`; empty for the value itself.
    """

    def __init__(self, where: str, part: object, why: str = "") -> None:
        what = f"its part {where}" if where else "the value"
        is_why = f"is a {type(part).__name__} that JSON cannot keep as it is: {shown(part)}"
        remedy = "; use text, finite numbers, lists, and dictionaries of these"
        if isinstance(part, Mapping | tuple | set | frozenset):
            kind = "dict" if isinstance(part, Mapping) else "list"
            remedy = f"; make it {kind}(...){remedy}"
        super().__init__(f"{what}, {shown(part)}, {why}" if why else f"{what} {is_why}{remedy}")
        self.where = where


class ValueTooLargeError(OAutomError, ValueError):
    """A value that takes more room than the log allows.

    Attributes:
        size_bytes: The size of the value as JSON.
        limit_bytes: The largest size that the log allows.
    """

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"the value takes {size_bytes} bytes as JSON and the log keeps at most {limit_bytes}; "
            "write it to a file and return its path"
        )
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class SubscriptionFailingError(OAutomError, RuntimeError):
    """A subscription tries one event again and again; `__cause__` is the last exception.

    Attributes:
        name: The name of the subscription.
        seq: Number of the event.
        attempts: How often the event was tried so far.
    """

    def __init__(self, name: str, seq: int, attempts: int, *, is_of_log: bool = False) -> None:
        what = (
            f"the log could not be read for subscription {shown(name)} {attempts} times, "
            f"from event "
            f"{seq} on, and is tried"
            if is_of_log
            else f"the function of subscription {shown(name)} has raised {attempts} times on event "
            f"{seq}, and is called"
        )
        remedy = "" if is_of_log else ", or subscribe with give_up_after=n"
        super().__init__(f"{what} again and again; remove the cause{remedy}")
        self.name = name
        self.seq = seq
        self.attempts = attempts


def exhausted(what: str, cause: BaseException) -> EngineError:
    """Return the error for a call for which the system gives no thread, pipe or file.

    Args:
        what: A clause about the work that was not done.
        cause: The error of the system.
    """
    return EngineError(
        f"{what}, since the system gives no more threads or files ({cause}); try again later, or "
        "raise its limits (ulimit -u, ulimit -n)"
    )


class WorkerDiedError(OAutomError, RuntimeError):
    """The process that did the work of a step ended before it answered."""

    def __init__(self, how: str) -> None:
        super().__init__(f"the worker process ended before it answered: {how}")


class LogError(OAutomError, RuntimeError):
    """The event log cannot be written or read; the engine stops, and does not go on without it."""


class EventRefusedError(LogError):
    """The log cannot store one event; nothing has changed in the log, which takes other events.

    Raised by `EventLog.append`, for the engine: values from users are checked before.
    """


class LogLockedError(LogError):
    """Another engine writes the log; only one at a time may do so.

    Attributes:
        path: The file of the log.
        pid: Number of the process that writes it; None if it is unknown.
    """

    def __init__(self, path: str, pid: int | None, *, is_here: bool = False) -> None:
        who = "another process" if pid is None else f"process {pid}"
        remedy = "wait for its end"
        if is_here:
            who += ", by another app or log of this very program"
            remedy = "close that one"
        super().__init__(
            f"log '{path}' is being written by {who}, and only one engine at a time may do so; "
            f"{remedy}, or read meanwhile: SqliteEventLog(path, read_only=True)"
        )
        self.path = path
        self.pid = pid


class LogCorruptError(LogError):
    """The file of a log differs from what was written; it is left as it is.

    Attributes:
        path: The file of the log.
        seq: The number of the first event that is known to be damaged, or None.
    """

    def __init__(self, path: str, what: str, seq: int | None = None) -> None:
        super().__init__(f"log '{path}' is damaged: {what}; put a copy of it in its place")
        self.path = path
        self.seq = seq


class LogVersionError(LogError):
    """The file of a log has a format that this version of oautom does not know.

    Attributes:
        path: The file of the log.
        version: The version of the format of the file.
        known: The newest version that this oautom knows.
    """

    def __init__(self, path: str, version: int, known: int) -> None:
        remedy = (
            "use a newer oautom"
            if version > known
            else "open it once without read_only=True, which brings it up to date"
        )
        super().__init__(
            f"log '{path}' has version {version}, this oautom knows version {known}; {remedy}"
        )
        self.path = path
        self.version = version
        self.known = known


class InvalidHistoryError(LogError):
    """A sequence of events that no run can have produced.

    Attributes:
        seq: The number of the first event that does not fit.
    """

    def __init__(self, seq: int, what: str) -> None:
        super().__init__(f"event {seq} does not fit the events before it: {what}")
        self.seq = seq


class InvariantError(InvalidHistoryError):
    """An event violates an invariant of histories.

    Attributes:
        invariant: The name of the invariant.
    """

    def __init__(self, seq: int, what: str, invariant: str, sentence: str) -> None:
        super().__init__(seq, f"{what} violates '{invariant}': {sentence}")
        self.invariant = invariant


def shown(value: object, characters_max: int = _REPR_SHOWN) -> str:
    """Return the `repr()` of a value, cut short; a `repr()` that raises is handled."""
    mask = MASK.get()
    if mask is None and (type(value) is str or type(value) is bytes):
        value = value[: characters_max + 1]  # it may be as large as the memory
    try:
        text = repr(value) if mask is None else mask(repr(value))  # a part of one is not found
    except BaseException as error:  # see above
        return f"(its repr() raises {type(error).__name__})"
    return text if len(text) <= characters_max else f"{text[:characters_max]}..."


def _named(given: object) -> str:
    """Return an argument for a name, which may be anything, in one line, cut short."""
    name = str.__str__(given) if issubclass(type(given), str) else shown(given)
    if (mask := MASK.get()) is not None:
        name = mask(name)
    if len(name) > _NAME_SHOWN:
        name = f"{name[:_NAME_SHOWN]}..."
    return name if name.isprintable() else repr(name)[1:-1]


def _suggest(name: object, known: Iterable[str]) -> str:
    names = [str(each) for each in islice(known, _NEAR_MISS_NAMES_MAX)]
    if not names:
        return "there are none yet"
    from difflib import get_close_matches  # noqa: PLC0415 - only an error pays for this import

    if close := get_close_matches(_named(name), names, n=1):
        return f"did you mean '{close[0]}'?"
    more = ", ..." if len(names) > _CYCLE_STEPS_SHOWN else ""
    return "known: " + ", ".join(f"'{each}'" for each in names[:_CYCLE_STEPS_SHOWN]) + more
