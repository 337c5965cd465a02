"""Plain values: those that JSON gives back unchanged, and copies of our own. Pure.

A value is *plain* if it is made of text, finite numbers, truth values, None, and of lists and
dictionaries of these with text as keys, each of exactly that type. `plain_value` is the one place
that makes a value plain: an instance of a subclass of `str`, `int` or `float` becomes the plain
text or number, and a container of any other type is refused, since another one would come back. It
always returns a copy, which nothing else can change.
"""

from __future__ import annotations

import math
from marshal import dumps
from typing import Any, Final, cast

import msgspec

from oautom.errors import NotJsonError, SettingError, shown

DEPTH_MAX: Final = 200
"""How many levels of lists and dictionaries a value may have."""
_AROUND: Final = 10
"""How many levels of an event may be around a value."""
SECONDS_MAX: Final = 100 * 365.25 * 86_400
"""A hundred years: no duration may be longer, so that no sum of dates is too late to be a date."""

SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_MARSHAL: Final = 2  # its version that writes equal values alike, as it knows no references

_encode = msgspec.json.Encoder().encode
_encode_in_order = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode


# Plain values


def plain_value(value: object) -> Any:
    """Return a plain copy of a value: of the very types that JSON gives back.

    Raises:
        NotJsonError: Reading it back would give another value: it contains a tuple, a set, a date,
            a NaN, a key that is no text, or has too many levels. The error names the part.
    """
    return plain_json(value)[1]


def to_json(value: object) -> bytes:
    """Return a value as JSON in UTF-8, without line breaks; errors as of `plain_value`.

    The value may have a few more levels, so that an event can contain any plain value.
    """
    return plain_json(value, DEPTH_MAX + _AROUND)[0]


def json_key(plain: object) -> str:
    """Return a plain value as JSON with sorted keys, so that equal objects are the same text."""
    return _encode_in_order(plain).decode()


def plain_json(value: object, depth_max: int = DEPTH_MAX) -> tuple[bytes, Any]:
    """Return a value as JSON, and the plain copy read from that JSON.

    Raises:
        NotJsonError: See `plain_value`.
    """
    if value is None:  # the most frequent output: saves 20 % of the cost of a log in a file
        return b"null", None
    try:
        encoded = _encode(value)
        copy = _decode(encoded)
        is_plain = is_exactly(value, copy)
    except Exception:  # whatever a user's class raises
        is_plain = False
    if not is_plain:
        encoded = _encode(_made_plain(value, "", 0))
        copy = _decode(encoded)
    if is_deep(encoded, copy, depth_max):
        raise too_deep(value)
    return encoded, copy


def is_exactly(value: Any, copy: Any) -> bool:
    """Whether two values have the same parts, all of the same types, which are Python's own.

    False may also mean that `marshal`, which compares at the speed of C, cannot compare them.
    """
    try:
        return dumps(value, _MARSHAL) == dumps(copy, _MARSHAL)
    except ValueError:  # one has a part of another type, or thousands of levels
        return False


def is_deep(encoded: bytes, copy: Any, depth_max: int = DEPTH_MAX) -> bool:
    """Whether a plain value has too many levels; for most values its JSON shows that it has not."""
    if encoded.count(b"[") + encoded.count(b"{") <= depth_max or type(copy) is str:
        return False
    level: list[Any] = [copy]
    for _ in range(depth_max):
        level = [
            part
            for each in level
            for part in (each.values() if isinstance(each, dict) else each)
            if type(part) is list or type(part) is dict
        ]
        if not level:
            return False
    return True


def too_deep(value: object) -> NotJsonError:
    """Return the error for a value with too many levels."""
    why = f"has more than {DEPTH_MAX} levels, or holds itself"
    return NotJsonError("", value, f"{why}; make it flatter, or write it to a file")


def _made_plain(value: object, where: str, depth: int) -> Any:
    """Return a plain copy of a value, part by part.

    Raises:
        NotJsonError: See `plain_value`.
    """
    kind = type(value)
    if kind is not list and kind is not dict:
        return _plain_scalar(value, where)
    if depth > DEPTH_MAX + _AROUND:
        raise too_deep(value)
    if kind is list:
        parts: list[object] = value  # type: ignore[assignment] # just asked
        return [_made_plain(part, f"{where}[{i}]", depth + 1) for i, part in enumerate(parts)]
    plain: dict[str, Any] = {}
    items: dict[object, object] = value  # type: ignore[assignment] # just asked
    for key, part in items.items():
        if not issubclass(type(key), str):
            why = f"has {shown(key)} as a key, a {type(key).__name__}; make it text: str(...)"
            raise NotJsonError(where, value, why)
        name = _plain_scalar(key, where)
        if name in plain:
            raise NotJsonError(where, value, f"has two keys that both become {shown(name)} in JSON")
        plain[name] = _made_plain(part, f"{where}[{shown(name)}]", depth + 1)
    return plain


def _plain_scalar(value: object, where: str) -> Any:
    plain = at_heart(value)
    try:
        if type(plain) in SCALARS and _decode(_encode(plain)) == plain:
            return plain
    except Exception:  # noqa: S110 - half a character, or a number of too many digits
        pass
    raise NotJsonError(where, value)


def at_heart(value: object) -> Any:
    """Return the plain text or number of an instance of a subclass; any other value as it is."""
    kind = type(value)
    if kind in SCALARS:
        return value
    if issubclass(kind, str):
        return str.__str__(cast("str", value))
    if issubclass(kind, int):
        return int.__int__(cast("int", value))
    if issubclass(kind, float):
        return float.__float__(cast("float", value))
    return value


def from_json(text: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises:
        msgspec.DecodeError: The text is no JSON.
    """
    return _decode(text)


def is_json(value: object) -> bool:
    """Whether JSON gives a value back unchanged."""
    try:
        plain_json(value)
    except NotJsonError:
        return False
    return True


def copy_of_plain(plain: Any) -> Any:
    """Return a copy of a plain value that shares nothing changeable with it."""
    return plain if type(plain) in SCALARS else _decode(_encode(plain))


# Values that stay in memory


_CONTAINERS: Final = frozenset({list, dict, tuple})


def own_copy(value: Any) -> Any:
    """Return a value with new lists, dictionaries and tuples; all other objects stay the same.

    A value without a changeable container is returned itself. A list that contains itself does so
    in the copy, too. Containers deeper than `DEPTH_MAX` levels stay the same.
    """
    return _copied(value, {}, 0) if type(value) in _CONTAINERS else value


def is_changeable(value: object) -> bool:
    """Whether `own_copy` may have to copy a value."""
    return type(value) in _CONTAINERS


def _copied(value: Any, copies: dict[int, tuple[Any, Any]], depth: int) -> Any:
    """Return the copy of a container; `copies` refers to the originals, so no id is used again."""
    kind = type(value)
    if depth > DEPTH_MAX:
        return value
    if id(value) in copies:
        return copies[id(value)][1]
    if kind is tuple:
        new = tuple(_part(part, copies, depth) for part in value)
        is_same = all(one is other for one, other in zip(new, value, strict=True))
        # Where a list in it holds the tuple, that has had its copy made meanwhile.
        return copies.setdefault(id(value), (value, value if is_same else new))[1]
    copy: Any = kind()
    copies[id(value)] = (value, copy)
    if kind is list:
        copy += [_part(part, copies, depth) for part in value.copy()]  # other threads may change it
    else:
        for key, part in value.copy().items():
            copy[key] = _part(part, copies, depth)
    return copy


def _part(part: Any, copies: dict[int, tuple[Any, Any]], depth: int) -> Any:
    return _copied(part, copies, depth + 1) if type(part) in _CONTAINERS else part


# Numbers that people give


def plain_number(value: object) -> int | float | None:
    """Return a finite number as an exact `int` or `float`, or None: a truth value is no number."""
    number = at_heart(value)
    if type(number) is int:
        return number
    return number if type(number) is float and math.isfinite(number) else None


def plain_count(value: object, lowest: int = 1) -> int | None:
    """Return a whole number as an exact `int`, or None if it is none or below the lowest."""
    number = at_heart(value)
    return number if type(number) is int and lowest <= number < 2**63 else None


def plain_seconds(value: object) -> int | float | None:
    """Return a duration as an exact number, or None if it is none from 0 to `SECONDS_MAX`."""
    seconds = plain_number(value)
    return seconds if seconds is not None and 0 <= seconds <= SECONDS_MAX else None


def time_limit(timeout: object) -> float | None:
    """Return how many seconds a call waits at most, from 0; None for no limit.

    An infinity, and any time above `SECONDS_MAX`, is no limit.

    Raises:
        SettingError: The argument is neither a number nor None.
    """
    if timeout is None:
        return None
    seconds = at_heart(timeout)
    if type(seconds) not in (int, float) or seconds != seconds:  # as a NaN is not
        raise SettingError(f"timeout must be seconds or None, not {shown(timeout)}")
    return max(0.0, seconds) if seconds < SECONDS_MAX else None


def too_long(seconds: float) -> str:
    """Return the clause of an error for a duration that is longer than `SECONDS_MAX`."""
    return f"may be at most {SECONDS_MAX:.0f} seconds, a hundred years, not {shown(seconds)}"
