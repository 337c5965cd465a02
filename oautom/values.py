"""Values: as JSON, strictly, so that what is read back is what was written; and checked. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from oautom.errors import NotJsonError, SettingError

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def to_json(value: object) -> bytes:
    """Return a value as JSON in UTF-8, without line breaks.

    Raises:
        NotJsonError: Reading it back would give another value: it holds a tuple, a set, a date, a
            NaN, a key that is no text, ... Names the part that is to blame.
    """
    encoded = _kept(value)
    if encoded is None:
        try:
            where, part = _culprit(value, "")
        except RecursionError:  # it holds itself, or is nested too deeply to look into
            where, part = "", value
        raise NotJsonError(where, part)
    return encoded


def _kept(value: object) -> bytes | None:
    """Return a value as JSON, or None where reading it back would give another value."""
    try:
        encoded = _encode(value)
        is_kept = _decode(encoded) == value
    except Exception:  # whatever `==` of a user's class raises
        return None
    return encoded if is_kept else None


def from_json(text: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises:
        msgspec.DecodeError: It is no JSON.
    """
    return _decode(text)


def is_json(value: object) -> bool:
    """Whether JSON keeps a value as it is."""
    try:
        to_json(value)
    except NotJsonError:
        return False
    return True


def _culprit(value: object, where: str) -> tuple[str, object]:
    """Return where in a value the first part stands that JSON cannot keep, and the part."""
    parts: list[tuple[str, object]] = []
    if type(value) is dict and all(isinstance(key, str) for key in value):
        parts = [(f"{where}[{key!r}]", part) for key, part in value.items()]
    elif type(value) is list:
        parts = [(f"{where}[{i}]", part) for i, part in enumerate(value)]
    for place, part in parts:
        if _kept(part) is None:
            return _culprit(part, place)
    return where, value


def readable(value: Any) -> Any:
    """Return a text with its half characters, which JSON cannot keep, written out as escapes."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def check_max_workers(max_workers: object) -> None:
    """Refuse what is no number of workers.

    Raises:
        SettingError: It is neither None nor a positive int.
    """
    if max_workers is not None and (not isinstance(max_workers, int) or max_workers < 1):
        raise SettingError(f"max_workers must be a positive int or None, not {max_workers!r}")


def has_members(given: object, *names: str) -> bool:
    """Whether an object has all members of these names; a class has none of its instances'."""
    return not isinstance(given, type) and all(hasattr(given, name) for name in names)
