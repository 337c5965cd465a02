"""Conversion: values of annotated types to JSON and back, by msgspec. Pure.

`keep` and `restore` are the way into a log and out of it: the same value comes back, part by part
of the same types, or is refused on the way in. Each returns a new value, which shares nothing with
its source. `converted` is more lenient: it is for texts that people type.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from oautom.errors import NotJsonError, shown
from oautom.values.annotations import UNKNOWN, field_names, shown_type
from oautom.values.json import (
    SCALARS,
    at_heart,
    copy_of_plain,
    from_json,
    is_deep,
    is_exactly,
    is_json,
    plain_value,
    too_deep,
)


class NotConvertibleError(ValueError):
    """A value cannot be converted to a type. Never leaves oautom."""


def keep(value: object, annotation: Any = UNKNOWN) -> Any:
    """Return a plain copy of a value, from which `restore` makes the same value again.

    A value of a subclass of `str`, `int` or `float` comes back as the plain text or number, unless
    the type is that subclass; an `int` comes back as a `float` if the type is `float`.

    Args:
        value: Any value.
        annotation: Its type; if it is unknown, JSON alone must give the value back unchanged.

    Raises:
        NotJsonError: Another value would come back. The error names the part.
    """
    if annotation is UNKNOWN or (type(value) is annotation and annotation in SCALARS):
        return plain_value(value)
    plain = plain_of(value)
    try:
        restored = restore(plain, annotation)
    except NotConvertibleError as error:
        why = f"is not of its type {shown_type(annotation)}: {error}"
        raise NotJsonError("", value, why) from error
    if _is_same(value, restored):
        return plain
    where, part, back = _difference(value, restored, "")
    if type(part) is not type(back) and not is_json(part):
        raise NotJsonError(where, part)
    raise NotJsonError(where, part, f"would come back from JSON as another value, {shown(back)}")


def plain_of(value: object) -> Any:
    """Return a value in the form of JSON, whether or not the same value would come back.

    Raises:
        NotJsonError: JSON has no form for it, or for a part of it.
    """
    try:
        encoded = _encoded(value)
        plain = from_json(encoded)
    except RecursionError:
        raise too_deep(value) from None
    except Exception as error:  # of many kinds, as the value may be anything
        raise NotJsonError(*_unkeepable(value, "")) from error
    if is_deep(encoded, plain):
        raise too_deep(value)
    return plain


def restore(plain: object, annotation: Any = UNKNOWN) -> Any:
    """Return the value of a type that `keep` has made plain; it shares nothing with `plain`.

    Raises:
        NotConvertibleError: The value is not of this type.
    """
    own = copy_of_plain(plain)  # msgspec would hand on the parts that may be of any type
    return own if annotation is UNKNOWN else _convert(own, annotation, strict=True)


def converted(value: object, annotation: Any) -> Any:
    """Return a value of a type from the input of a person, which may be text.

    A text that cannot be converted by itself is also read as JSON.

    Raises:
        NotConvertibleError: The input cannot be converted.
    """
    try:
        return _convert(value, annotation, strict=False)
    except NotConvertibleError:
        text = at_heart(value)
        if type(text) is not str or annotation is str:
            raise
        try:
            parsed = from_json(text)
        except (ValueError, msgspec.MsgspecError):
            parsed = text
        if type(parsed) is str:
            raise
        return _convert(parsed, annotation, strict=False)


def _convert(value: object, annotation: Any, *, strict: bool) -> Any:
    try:
        return msgspec.convert(
            value, annotation, strict=strict, str_keys=True, dec_hook=_from_plain
        )
    except msgspec.ValidationError as error:
        raise NotConvertibleError(str(error)) from error
    except TypeError:  # no type that msgspec knows: JSON alone must keep the value
        return value
    except Exception as error:  # `__post_init__` and the like are code of the user's
        raise NotConvertibleError(f"{type(error).__name__}: {error}") from error


def is_supported(annotation: Any) -> bool:
    """Whether values can be converted to a type."""
    return why_unsupported(annotation) is None


def why_unsupported(annotation: Any) -> str | None:
    """Return why values cannot be converted to a type; None if they can."""
    if isinstance(annotation, str):
        return "it is text, not a type"
    try:
        msgspec.json.Decoder(annotation, dec_hook=_from_plain)
    except Exception as error:  # of many kinds, as `annotation` may be anything
        return str(error)
    return None


def _encoded(value: object) -> bytes:
    return msgspec.json.encode(value, enc_hook=_to_plain)


def _to_plain(value: object) -> Any:
    """Return the JSON form of a value that msgspec does not know; used as its `enc_hook`."""
    heart = at_heart(value)
    if heart is not value:
        return heart
    if hasattr(type(value), "__fspath__"):  # a path; without `pathlib`, which takes 6 ms to import
        return value.__fspath__()  # just asked
    raise NotImplementedError(f"{type(value).__name__} is nothing that JSON has")


def _from_plain(kind: Any, value: object) -> Any:
    origin = typing.get_origin(kind) or kind
    if isinstance(origin, type):
        if hasattr(origin, "__fspath__") and isinstance(value, str):
            return origin(value)
        if isinstance(value, origin):
            return value
    # As a ValueError, msgspec adds where in the value that is.
    raise ValueError(f"Expected `{shown_type(kind)}`, got `{type(value).__name__}`")


# Whether what comes back is the same


def _is_same(value: object, back: object) -> bool:
    """Whether a value and its restored copy are the same, part by part of the same types."""
    return is_exactly(value, back) or _is_same_part(value, back)


def _is_same_part(value: Any, back: Any) -> bool:
    if type(value) is not type(back):
        return _is_same_scalar(value, back)
    match value:
        case datetime():
            return bool(_instant(value) == _instant(back))
        case dict():
            pairs = zip(value.items(), back.items(), strict=False)
            return len(value) == len(back) and all(
                _is_same_part(key, other) and _is_same_part(mine, theirs)
                for (key, mine), (other, theirs) in pairs
            )
        case set() | frozenset():
            return _equal(value, back) or _instants(value) == _instants(back)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return len(value) == len(back) and all(map(_is_same_part, value, back))
    if (names := field_names(type(value))) is not None:
        return _has_same_fields(value, back, names)
    return _equal(value, back)


def _is_same_scalar(value: Any, back: Any) -> bool:
    """Whether a text or number came back the same; an `int` may come back as a `float`."""
    if isinstance(back, str | int | float):
        heart = at_heart(value)
        is_number = type(heart) is int and type(back) is float
        return (type(heart) is type(back) or is_number) and heart == back
    is_subclass = issubclass(type(value), type(back)) and not isinstance(back, _MADE_OF_PARTS)
    if not is_subclass or field_names(type(back)) is not None:
        return False
    return _instant(value) == _instant(back) if isinstance(value, datetime) else _equal(value, back)


_MADE_OF_PARTS = list, tuple, dict, set, frozenset


def _has_same_fields(value: object, back: object, names: tuple[str, ...]) -> bool:
    """Whether two values have the same parts and are equal; dates are compared as instants."""
    pairs = [(getattr(value, name, None), getattr(back, name, None)) for name in names]
    if not all(_is_same_part(mine, theirs) for mine, theirs in pairs):
        return False
    return _equal(value, back) or not all(_equal(mine, theirs) for mine, theirs in pairs)


def _instant(time: Any) -> Any:
    """Return a date in a comparable form: dates in an hour that a clock has twice never equal."""
    if isinstance(time, datetime) and time.utcoffset() is not None:
        return time.astimezone(UTC)
    return tuple(map(_instant, time)) if type(time) is tuple else time


def _instants(values: typing.Iterable[object]) -> set[object]:
    return set(map(_instant, values))


def _equal(one: object, other: object) -> bool:
    """Whether two values are equal; values whose comparison raises are not."""
    try:
        return bool(one == other)
    except Exception:  # it is the user's
        return False


# Which part is to blame


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """Yield the place and the value of each part of a value."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield f"[{shown(key)}]", part
    elif (names := field_names(type(value))) is not None:
        for name in names:
            yield f"[{shown(name)}]", getattr(value, name, None)
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield f"[{i}]", part


def _unkeepable(value: object, where: str) -> tuple[str, object]:
    """Return the place of the first part of a value that cannot be JSON, and the part."""
    for place, part in _parts(value):
        try:
            _encoded(part)
        except RecursionError:
            return where, value
        except Exception:  # as above
            return _unkeepable(part, where + place)
    return where, value


def _difference(value: object, back: object, where: str) -> tuple[str, object, object]:
    """Return the first place at which two values differ, and both parts."""
    if type(value) is type(back):
        for (place, mine), (other, theirs) in zip(_parts(value), _parts(back), strict=False):
            if place == other and not _is_same_part(mine, theirs):
                return _difference(mine, theirs, where + place)
    return where, value, back
