"""Conversion: values of annotated types to JSON and back, by msgspec. Pure.

`keep` and `restore` are the way into a log and out of it: what comes back is equal, or is refused
on the way in. `converted` is more lenient: it is for what people type.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any

import msgspec

from oautom.annotations import UNKNOWN, field_names, shown_type
from oautom.errors import NotJsonError
from oautom.values import from_json, is_json, to_json

_AS_THEY_ARE = frozenset({str, int, float, bool, NoneType})


class NotConvertibleError(ValueError):
    """A value is not of a type, and cannot be made one of it. Never leaves oautom."""


def keep(value: object, annotation: Any = UNKNOWN) -> Any:
    """Return a value as JSON has it, so that `restore` gives an equal one back.

    Args:
        value: Any value.
        annotation: Its type; where nothing is known, JSON alone must keep the value as it is.

    Raises:
        NotJsonError: No equal value would come back. Names the part that is to blame.
    """
    if annotation is UNKNOWN or (type(value) is annotation and annotation in _AS_THEY_ARE):
        to_json(value)
        return value
    try:
        plain = plain_of(value)
        restored = restore(plain, annotation)
        if _equal(restored, value):
            return plain
    except NotConvertibleError as error:
        why = f"is not of its type {shown_type(annotation)}: {error}"
        raise NotJsonError("", value, why) from error
    where, part, back = _difference(value, restored, "")
    if type(part) is not type(back) and not is_json(part):
        raise NotJsonError(where, part)
    raise NotJsonError(where, part, f"would come back from JSON as another value, {back!r}")


def plain_of(value: object) -> Any:
    """Return a value as JSON has it, whether or not the same comes back.

    Raises:
        NotJsonError: JSON has nothing for it, or for a part of it.
    """
    try:
        return from_json(_encoded(value))
    except Exception as error:  # of many kinds, as the value may be anything
        raise NotJsonError(*_unkeepable(value, "")) from error


def restore(plain: object, annotation: Any = UNKNOWN) -> Any:
    """Return the value of a type that `keep` has made plain.

    Raises:
        NotConvertibleError: It is not of this type.
    """
    if annotation is UNKNOWN:
        return plain
    return _convert(plain, annotation, strict=True)


def converted(value: object, annotation: Any) -> Any:
    """Return a value of a type from what a person has given: from texts, too.

    A text that is no value of the type by itself is also read as JSON.

    Raises:
        NotConvertibleError: It cannot be made one.
    """
    try:
        return _convert(value, annotation, strict=False)
    except NotConvertibleError:
        if not isinstance(value, str) or annotation is str:
            raise
        try:
            parsed = from_json(value)
        except (ValueError, msgspec.MsgspecError):
            parsed = value
        if isinstance(parsed, str):
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
    """Whether values can be made ones of a type."""
    try:
        msgspec.json.Decoder(annotation, dec_hook=_from_plain)
    except Exception:  # of many kinds, as `annotation` may be anything
        return False
    return not isinstance(annotation, str)


def _encoded(value: object) -> bytes:
    return msgspec.json.encode(value, enc_hook=_to_plain)


def _to_plain(value: object) -> Any:
    """Return what JSON has for a value that msgspec does not know; as its `enc_hook`."""
    if hasattr(type(value), "__fspath__"):  # a path; without `pathlib`, which takes 6 ms to import
        return value.__fspath__()  # type: ignore[attr-defined] # just asked
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


def _equal(one: object, other: object) -> bool:
    """Whether two values are equal; what cannot even be compared is not."""
    try:
        return bool(one == other)
    except Exception:  # it is the user's
        return False


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """Yield the parts of a value, each behind the place where it stands."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield f"[{key!r}]", part
    elif (names := field_names(type(value))) is not None:
        for name in names:
            yield f"[{name!r}]", getattr(value, name, None)
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield f"[{i}]", part


def _unkeepable(value: object, where: str) -> tuple[str, object]:
    """Return where in a value the first part stands that cannot be JSON, and the part."""
    for place, part in _parts(value):
        try:
            _encoded(part)
        except RecursionError:
            return where, value
        except Exception:  # as above
            return _unkeepable(part, where + place)
    return where, value


def _difference(value: object, back: object, where: str) -> tuple[str, object, object]:
    """Return where the first parts stand that differ in two values, and both parts."""
    if type(value) is type(back):
        for (place, mine), (other, theirs) in zip(_parts(value), _parts(back), strict=False):
            if place == other and not _equal(mine, theirs):
                return _difference(mine, theirs, where + place)
    return where, value, back
