"""Values that the engine itself reads: outputs and parameters, as in the log. Pure.

`vect.created` records the place of such a value: `['step', 'a', 'key']`, `['param', 'day']`. A map
finds its list in this way, a wait its instant. The tick that starts the step reads the value, so no
code of the user's may run: if a log in memory has an object of the user's, none of its methods is
called for an instant.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any, Final, Protocol, cast

import msgspec

from oautom.errors import shown
from oautom.values.annotations import field_names
from oautom.values.json import SCALARS, at_heart
from oautom.values.names import is_unicode
from oautom.values.text import name_of


class Step(Protocol):
    """A step, as far as the search for its output needs it."""

    name: str
    state: str
    output: Any
    error: str | None


class NoValueError(Exception):
    """There is no such value; says why in a line. Never leaves oautom.

    Attributes:
        is_whole: Whether the whole value is missing, and not just a part of it.
    """

    def __init__(self, why: str, *, is_whole: bool = False) -> None:
        super().__init__(why)
        self.is_whole = is_whole


def value_at(
    place: Sequence[Any],
    params: Mapping[str, Any],
    steps: Mapping[str, Step],
    part_of: Callable[[Any, Any], Any],
    told: Callable[[Any], str] = lambda value: f": {shown(value)}",
) -> tuple[Any, str]:
    """Return the value at a place, and the place as people write it.

    Args:
        place: The place of the value, as in `vect.created`.
        params: The parameters of the Vect.
        steps: Its steps, by name.
        part_of: Returns the part at a key in a value, or raises.
        told: Returns more about a value than its class, for an error.

    Raises:
        NoValueError: There is no such value.
    """
    kind, name, *path = place
    if kind == "param":
        value, where = params[name], f"param('{name}')"
    elif (source := steps[name]).state == "success":
        value, where = source.output, f"{name}.output"
    else:
        how = {"skipped": "was skipped"}.get(source.state, f"is '{source.state}'")
        why = f": {source.error}" if source.state == "skipped" and source.error else ""
        raise NoValueError(f"step '{name}' {how}{why}; so it has no output", is_whole=True)
    for key in path:
        try:
            value = part_of(value, _own_key(value, key))
        except Exception as error:  # whatever `__getitem__` of a user's class raises
            what = f"it is a {name_of(type(value))}{told(value)}"
            raise NoValueError(f"{where} has no part [{shown(key)}], {what}") from error
        where += f"[{shown(key)}]"
    return value, where


def _own_key(value: Any, key: str | int) -> str | int:
    """Return the key of a part in the value itself, from its key in JSON.

    JSON has no numbers as keys, but a value in a log in memory may have them.
    """
    kind = type(value)
    if kind is dict and type(key) is int:
        return key if key in value else str(key)
    if issubclass(kind, msgspec.Struct) and key not in kind.__struct_fields__:
        is_tagged = kind.__struct_config__.tag is not None
        place = key - is_tagged if type(key) is int else kind.__struct_encode_fields__.index(key)
        return kind.__struct_fields__[place]
    return key


# Instants

_FIELDS: Final = ("year", "month", "day", "hour", "minute", "second", "microsecond", "tzinfo")
_EXAMPLE: Final = "2026-11-24T03:00:00Z"
_NOTHING: Final = object()
_WANTED: Final = "until must be a datetime with a time zone"


def until_of(
    place: Sequence[Any], params: Mapping[str, Any], steps: Mapping[str, Step]
) -> tuple[datetime | None, str | None]:
    """Return the end of a wait, or why there is none; arguments as of `value_at`.

    The function calls no code of the user's, whatever a log in memory contains.
    """
    try:
        value, where = value_at(place, params, steps, _plain_part, _plain_told)
    except NoValueError as error:
        return None, f"{error}, and there is no time" if error.is_whole else str(error)
    try:
        return _instant(value), None
    except ValueError as error:
        what = f"{where} is a {name_of(type(value))}{_plain_told(value)}"
        return None, f"{_WANTED}, but {what}{error}"


# Prompts


def prompt_of(
    prompt: str,
    values: Mapping[str, Any],
    params: Mapping[str, Any],
    steps: Mapping[str, Step],
) -> tuple[str, str | None]:
    """Return a prompt with its values, and why that cannot be.

    The function calls no code of the user's, whatever a log in memory contains.

    Args:
        prompt: The text, with the names of the values in braces.
        values: By its name, the place of each value as in `vect.created`, or its text.
        params: The parameters of the Vect.
        steps: Its steps, by name.
    """
    told: dict[str, str] = {}
    for name, place in values.items():
        if isinstance(place, str):
            told[name] = place
            continue
        try:
            value, where = value_at(place, params, steps, _plain_part, _plain_told)
        except NoValueError as error:
            return prompt, f"its prompt cannot be made: {error}"
        try:
            told[name] = text_of(value)
        except ValueError:
            what = f"{where} is a {name_of(type(value))}{_plain_told(value)}"
            return prompt, f"its prompt must be made of text, numbers and dates, but {what}"
    return prompt.format_map(told), None


def text_of(value: object) -> str:
    """Return a value in a prompt as text, without calling a class of the user's.

    Raises:
        ValueError: It is none of text, a number, a truth value, a date and a time.
    """
    heart = at_heart(value)
    kind = type(heart)
    if kind is str and is_unicode(heart):
        return str(heart)
    if kind in (int, float, bool) or (kind in (date, datetime) and _has_plain_zone(heart)):
        return str(heart)
    raise ValueError


def _has_plain_zone(time: Any) -> bool:
    return type(time) is date or time.tzinfo is None or type(time.tzinfo) is timezone


def _plain_part(value: Any, key: Any) -> Any:
    """Return the part at a key in a value, without calling a class of the user's."""
    kind = type(value)
    if issubclass(kind, dict):
        if (found := dict.get(value, key, _NOTHING)) is _NOTHING:  # else `__missing__` is asked
            raise KeyError(key)
        return found
    names = field_names(kind)
    if names is not None and key in names:
        return object.__getattribute__(value, key)
    if issubclass(kind, list | tuple):
        return (list if issubclass(kind, list) else tuple).__getitem__(value, key)
    raise KeyError(key)


def _plain_told(value: object) -> str:
    """Return a scalar for people; nothing for other values, whose `repr()` may be user code."""
    heart = at_heart(value)
    return f": {shown(heart)}" if type(heart) in SCALARS else ""


def _instant(value: object) -> datetime:
    """Return a time as an exact datetime in UTC.

    Raises:
        ValueError: The value is no time, or naive, or its time zone is code of the user's.
    """
    text = at_heart(value)
    if type(text) is str:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"; as text write it so: {_EXAMPLE}") from None
    elif issubclass(type(value), datetime):
        own = cast("datetime", value)
        fields = (_own(own, name) for name in _FIELDS)
        time = datetime(*fields, fold=_own(own, "fold"))  # noqa: DTZ001 - its zone is among these
    else:
        raise ValueError
    try:
        return time.replace(tzinfo=UTC) - _offset(time)
    except OverflowError as error:
        raise ValueError(f", {error}") from error


def _own(time: datetime, name: str) -> Any:
    """Return a field of a datetime itself, even if its subclass overrides that field."""
    return getattr(datetime, name).__get__(time)


def _offset(time: datetime) -> timedelta:
    zone: tzinfo | None = time.tzinfo
    if zone is None:
        raise ValueError(", which is naive: it has no time zone")
    if type(zone) is timezone:
        return zone.utcoffset(time)
    known = getattr(sys.modules.get("zoneinfo"), "ZoneInfo", None)  # else it is no such zone
    if known is not None and issubclass(type(zone), known):
        return cast("timedelta", known.utcoffset(zone, time))
    raise ValueError(
        f", and its time zone is a {name_of(type(zone))}, which only a step may ask; have the step "
        "return it in UTC, .astimezone(UTC), or as text, .isoformat()"
    )
