"""The data that belong to the events of each name, and the options of steps. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from oautom.machine.deadlines import LATE
from oautom.machine.event import Event, planned_time
from oautom.machine.kinds import KINDS, kind_of
from oautom.machine.rules import RULE_NAMES
from oautom.machine.state import is_child
from oautom.machine.tables import PLAN_CREATED, PLAN_SKIPPED, TEARDOWN, VECT_CREATED

CHANGES_OPTIONS: Final = ("vect.started", "vect.recovered", "vect.reopened")
"""The events by which a Vect goes on with changed options."""


def _is_number(value: object, *, from_: float = 0.0) -> bool:
    return type(value) in (int, float) and value >= from_  # type: ignore[operator] # it is one


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _is_seconds(value: object) -> bool:
    return _is_number(value) and value != 0


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def are_settings(value: object) -> bool:
    """Whether a value has the form of the settings of a Vect."""
    return isinstance(value, Mapping) and all(
        name in _SETTINGS and _SETTINGS[name](given) for name, given in value.items()
    )


def _is_pool(value: object) -> bool:
    match value:
        case [str(), slots]:
            return slots is None or _is_count(slots)
    return False


def _is_rate(value: object) -> bool:
    match value:
        case [count, seconds]:
            return _is_count(count) and _is_seconds(seconds)
    return False


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_label(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_place(value: object) -> bool:
    match value:
        case [str(), str(), *_]:
            return True
    return False


def _are_places(value: object) -> bool:
    """Whether a value has the form of the values of a prompt: places, or texts, by name."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and (isinstance(each, str) or _is_place(each))
        for name, each in value.items()
    )


def _is_attempt(value: object) -> bool:
    match value:
        case [str(), str(), attempt]:
            return _is_count(attempt)
    return False


_OPTIONS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "trigger_rule": lambda rule: rule in RULE_NAMES or rule == TEARDOWN,
    "teardown_of": _are_texts,
    "compensate": lambda on: on in ("begun", "success"),
    "allow_failure": lambda is_allowed: is_allowed is True,
    "max_attempts": _is_count,
    "retry": lambda facts: isinstance(facts, Mapping),
    "on_crash": lambda on_crash: on_crash == "fail",
    "strict": lambda is_strict: is_strict is False,
    "skip_exit_code": lambda code: code is None or _is_count(code),
    "timeout": _is_seconds,
    "deadline": _is_seconds,
    "pool": _is_pool,
    "pool_slots": _is_count,
    "rate": _is_rate,
    "priority": lambda priority: type(priority) is int,
    "async": _is_count,
    "kind": lambda kind: kind in KINDS,
    "delay": _is_number,
    "until": lambda until: isinstance(until, str) or _is_place(until),
    "path": lambda path: isinstance(path, str),
    "prompt": lambda prompt: isinstance(prompt, str),
    "values": _are_places,
    "over": _is_place,
    "max_parallel": _is_count,
    "count": lambda count: type(count) is int and count >= 0,
    "problem": lambda problem: isinstance(problem, str),
    "labels": lambda labels: isinstance(labels, list) and all(map(_is_label, labels)),
    "unlabelled": lambda problem: isinstance(problem, str),
    "secrets": lambda names: _are_texts(names) and bool(names),
    "runs": lambda flow: isinstance(flow, str),
    "output": lambda _: True,
    "source": lambda vect: isinstance(vect, str),
    "child": lambda vect: isinstance(vect, str),
}

_SETTINGS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "deadline": _is_seconds,
    "run_timeout": _is_seconds,
    "on_failure": lambda what: what == "cancel",
    "until": lambda names: _are_texts(names) and bool(names),
    "only": lambda name: isinstance(name, str),
}
_NOT_UNDONE: Final = "step.compensation_failed"
_DIGITS: Final = 20
"""The number of an attempt has fewer digits."""

_DECISION: Final = frozenset({"decision", "by"})
_OF_PLAN: Final = {"plan": str, "planned": str}
_OF_TURN: Final[Mapping[str, Callable[[Any], bool]]] = {
    "limit": _is_count,
    "by": lambda param: isinstance(param, str),
    "recovered": lambda is_recovered: is_recovered is True,
}
_OF_LOSS: Final = {"worker": lambda is_worker: is_worker is True}
_DATA: Final[Mapping[str, Mapping[str, Any]]] = {
    VECT_CREATED: {"params": Mapping, "graph": Mapping},
    PLAN_CREATED: _OF_PLAN,
    PLAN_SKIPPED: {**_OF_PLAN, "reason": str},
    "vect.failed": {"steps": list},
    "vect.ending": {"to": str, "reason": str},
    "step.succeeded": {"output": object},
    "step.blocked": {"upstream": str, "error": str},
    "step.skipped": {"reason": str},
    "step.late_result": {"output": object},
    "step.compensation_interrupted": {"reason": str},
    **{name: {"deadline": int | float} for name in LATE},
    **{name: {"reason": str} for name in ("step.cancelled", "vect.cancelled")},
}

_MAY_BE: Final[Mapping[str, Mapping[str, Callable[[Any], bool]]]] = {
    VECT_CREATED: {
        "options": _is_mapping,
        "parent": _is_attempt,
        "loop": lambda has_loop: has_loop is True,
        "bash": lambda bash: bash == "strict",
        "plan": lambda plan: isinstance(plan, str),
        "planned": lambda time: isinstance(time, str),
        "backfill": lambda name: isinstance(name, str),
        "after": lambda vect: isinstance(vect, str),
        "version": lambda version: isinstance(version, str),
        "settings": are_settings,
    },
    "vect.started": {"options": _is_mapping, **_OF_TURN},
    "vect.recovered": {"options": _is_mapping},
    "vect.reopened": {"options": _is_mapping, "parent": _is_attempt},
    "step.interrupted": {"reason": lambda reason: isinstance(reason, str), **_OF_LOSS},
    "step.compensation_interrupted": _OF_LOSS,
    "vect.failed": {"reason": lambda reason: isinstance(reason, str)},
}


def options_fit(options: object, graph: Mapping[str, object]) -> bool:
    """Whether the options of a Vect name steps of its graph, with known names and values."""
    return isinstance(options, Mapping) and all(
        name in graph
        and isinstance(given, Mapping)
        and given.keys() <= _OPTIONS.keys()
        and all(_OPTIONS[option](value) for option, value in given.items())
        for name, given in options.items()
    )


def settings_fit(settings: object) -> bool:
    """Whether the settings of a Vect have known names and values."""
    return isinstance(settings, Mapping) and all(
        name in _SETTINGS and _SETTINGS[name](value) for name, value in settings.items()
    )


def data_fit(event: Event, kind: str) -> bool:
    """Whether an event has the data that belong to its name, for a step of this kind."""
    data, wanted = event.data, _DATA.get(event.name, {})
    if event.name == "step.succeeded" and kind == "map":
        return not data  # its instances have told
    if event.name == "step.started":
        return _is_start(event, kind)
    is_late_failure = event.name == "step.late_result" and "error" in data
    if event.name in ("step.failed", "step.retried", _NOT_UNDONE) or is_late_failure:
        return _is_failure(event)
    if event.name == "step.late_result" and "reason" in data:
        wanted = _DATA["step.skipped"]
    if (
        event.name == "step.late_result"
        and kind_of(kind).ended_by == "person"
        and "decision" in data
    ):
        return data.get("decision") in ("approved", "rejected") and data.keys() == _DECISION
    if event.name == "vect.failed" and event.source == "ending":
        wanted = {**wanted, "reason": str}
    is_wanted = all(isinstance(data.get(key), type_) for key, type_ in wanted.items())
    if "plan" in data or "planned" in data:
        is_wanted = is_wanted and planned_time(event) is not None
    may_be = _MAY_BE.get(event.name, {})
    is_known = all(is_one(data[key]) for key, is_one in may_be.items() if key in data)
    is_known = is_known and ("limit" in data or not _OF_TURN.keys() & data.keys())
    return is_wanted and is_known and wanted.keys() <= data.keys() <= wanted.keys() | may_be.keys()


def _is_start(event: Event, kind: str) -> bool:
    data = event.data
    needed, possible = frozenset(KINDS[kind].starts_with), KINDS[kind].may_start_with
    is_told = needed <= data.keys() <= needed.union(possible) and _are_options(data)
    if kind == "wait":  # for one thing; if it cannot wait for that, it tells why
        is_told = is_told and len(data) == 1 and isinstance(data.get("until", ""), str)
    labels = data.get("labels")
    is_told = is_told and (labels is None or len(labels) == data["count"])
    return is_told and ("child" not in data or _is_child(data["child"], event))


def _is_child(vect: str, event: Event) -> bool:
    """Whether an id is that of a child of the attempt of an event, or of an earlier one."""
    attempt = vect.rpartition("/")[2]
    is_number = is_child(vect, event.vect, event.step or "") and len(attempt) < _DIGITS
    return is_number and 0 < int(attempt) <= (event.attempt or 0)


def _are_options(data: Mapping[str, Any]) -> bool:
    return all(_OPTIONS[option](value) for option, value in data.items())


def _is_failure(event: Event) -> bool:
    data = event.data
    is_failure = isinstance(data.get("error"), str) and "output" not in data
    fits = "delay" not in data
    if event.name == "step.retried" or (event.name == _NOT_UNDONE and not fits):
        fits = _is_number(data.get("delay"))  # it is tried again
    return is_failure and fits and data.get("exit_code") != 0
