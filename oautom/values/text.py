"""Texts from outside, made fit for a log: bounded, and without control characters. Pure.

Any exception of a step gives a text, whatever its own methods do: nothing here raises what code of
the user's has raised. A shortened text says how much is left out.
"""

from __future__ import annotations

import re
import reprlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from oautom.errors import MASK
from oautom.values.json import at_heart, plain_json

ERROR_BYTES_MAX: Final = 16 * 1024
"""How long the error of a step may be in a log, in UTF-8."""
DETAIL_BYTES_MAX: Final = 64 * 1024
"""How long the traceback, and any other detail of an error, may be."""
DETAILS_MAX: Final = 50
"""How many details an error may have."""
DETAILS_BYTES_MAX: Final = 4 * DETAIL_BYTES_MAX
"""How long all details of an error may be together."""

_NAME_BYTES_MAX: Final = 200
_NOTE_BYTES: Final = 60
_CHAIN_MAX: Final = 100
_LEFT_OUT: Final = "details_left_out"

_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069"  # obeyed, not shown
_UNFIT: Final = rf"{_CONTROLS}\u2028\u2029\ud800-\udfff"
_NOT_IN_LINE: Final = re.compile(f"[{_UNFIT}]")
_NOT_IN_LINES: Final = re.compile(f"(?!\n)[{_UNFIT}]")


def in_one_line(text: str) -> str:
    """Return a text without line breaks, and with escapes for control characters."""
    return _NOT_IN_LINE.sub(_escape, " ".join(text.splitlines()))


def in_lines(text: str) -> str:
    """Return a text with its line breaks, and with escapes for all other control characters."""
    return _NOT_IN_LINES.sub(_escape, text.replace("\r\n", "\n"))


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode()


def bounded(text: str, limit_bytes: int, fit: Callable[[str], str] = in_one_line) -> str:
    """Return at most so many bytes of a text: its head, its tail, and how much is left out.

    Args:
        text: The text. It may be very large: a text that is too long is not copied whole.
        limit_bytes: How long the result may be in UTF-8.
        fit: Escapes a part of the text.
    """
    if (mask := MASK.get()) is not None:
        text = mask(text)
    if len(text) <= limit_bytes:
        whole = fit(text)
        if len(whole.encode()) <= limit_bytes:
            return whole
    half = (limit_bytes - _NOTE_BYTES) // 2
    head, tail = text[:half], text[max(half, len(text) - half) :]
    while (size := len(fit(head).encode())) > half:
        head = head[: len(head) * half // (size + 1)]
    while (size := len(fit(tail).encode())) > half:
        tail = tail[len(tail) - len(tail) * half // (size + 1) :]
    left = len(text) - len(head) - len(tail)
    return f"{fit(head)} ... {left} characters left out ... {fit(tail)}"


def shortened(value: object, limit_bytes: int = DETAIL_BYTES_MAX) -> str:
    """Return the `repr()` of any value, bounded; if that raises, a text that says so."""
    teller = reprlib.Repr()
    teller.maxstring = teller.maxother = teller.maxlong = limit_bytes
    try:
        whole = teller.repr if MASK.get() is None else repr  # a cut secret would not be found
        return bounded(whole(value), limit_bytes)
    except BaseException as error:  # it is the user's, it may do anything
        return f"(its repr() raises {name_of(type(error))})"


# Exceptions


def error_of(error: BaseException) -> str:
    """Return type and message of any exception in one line, even if `str()` of it raises."""
    kind, message = name_of(type(error)), message_of(error)
    return f"{kind}: {message}" if message else kind


def message_of(error: BaseException) -> str:
    """Return the message of an exception in one line; blank if it has none."""
    try:
        return bounded(_str_of(error), ERROR_BYTES_MAX - _NAME_BYTES_MAX - len(": "))
    except BaseException as unprintable:  # __str__ is the user's, it may do anything
        return f"(its message cannot be printed: {name_of(type(unprintable))})"


def _str_of(error: BaseException) -> str:
    return cast("str", at_heart(str(error)))


def name_of(kind: type) -> str:
    """Return the name of a class."""
    try:
        name = type.__dict__["__name__"].__get__(kind)  # a metaclass may have another idea
        return bounded(name, _NAME_BYTES_MAX)
    except BaseException:  # as the memory is full, or somebody has pressed Ctrl-C
        return "(an exception)"


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an exception, bounded, with the exceptions that led to it."""
    for lines_of in (_all_lines, _some_lines):
        try:
            return bounded("".join(lines_of(error)), DETAIL_BYTES_MAX, in_lines)
        except BaseException:  # noqa: S112 - __str__ and the like are the user's, they may do anything
            continue
    return "(its traceback cannot be printed)\n"


def without_frames(error: BaseException) -> BaseException:
    """Remove the tracebacks of an exception that is stored, and of those that led to it.

    Their frames would keep all variables of the step, and of its callers, alive.
    """
    found, seen = [error], {id(error)}
    for each in found:  # it grows while it is walked
        BaseException.with_traceback(each, None)
        try:
            inner = [each.__cause__, each.__context__]
            if issubclass(type(each), BaseExceptionGroup):
                inner += cast("BaseExceptionGroup[Any]", each).exceptions
        except BaseException:  # noqa: S112 - its class is the user's, it may do anything
            continue
        for other in inner:
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                found.append(other)
    return error


def _all_lines(error: BaseException) -> list[str]:
    if any(_length_of(each) > DETAIL_BYTES_MAX for each in _chain(error)):
        return _some_lines(error)  # to format it would take its message several times
    return traceback.format_exception(error)


def _some_lines(error: BaseException) -> list[str]:
    lines = traceback.format_tb(error.__traceback__, -DETAILS_MAX)
    return ["Traceback (most recent call last):\n", *lines, f"{error_of(error)}\n"]


def _length_of(error: BaseException) -> int:
    try:
        return len(_str_of(error))
    except BaseException:  # as above; formatting it reports that it raises
        return 0


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, all that led to it, and all in its group.

    Raises:
        ValueError: There are too many to go through.
    """
    found, seen = [error], {id(error)}
    while found:
        each = found.pop()
        yield each
        inner = list(each.exceptions) if isinstance(each, BaseExceptionGroup) else []
        for other in (each.__cause__, each.__context__, *inner):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                found.append(other)
        if len(seen) > _CHAIN_MAX:
            raise ValueError("a chain of too many")


# Details


def details_of(given: object) -> dict[str, Any]:
    """Return the details of an error in a form that a log can store, for any argument.

    A text is bounded. Any other value becomes a plain copy, or its `repr()` if there is none, or if
    the copy is too large. Of too many details the first ones stay, with the number of the others.
    """
    try:
        return _details_of(given) if given else {}
    except BaseException as error:  # they are the user's, they may do anything
        return {_LEFT_OUT: f"all: {error_of(error)}"}


def _details_of(given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return {"details": _detail(given)[1]}
    items = list(given.items())
    kept: dict[str, Any] = {}
    room = DETAILS_BYTES_MAX
    for key, value in items[:DETAILS_MAX]:
        name = at_heart(key)
        name = bounded(name if type(name) is str else shortened(key), _NAME_BYTES_MAX)
        size, detail = _detail(value)
        if size > room:
            detail = shortened(detail, _NAME_BYTES_MAX)
        room -= min(size, room)
        kept[name] = detail
    if len(items) > DETAILS_MAX:
        kept[_LEFT_OUT] = len(items) - DETAILS_MAX
    return kept


def _detail(value: object) -> tuple[int, Any]:
    """Return the size of a detail in bytes, and the detail."""
    heart = at_heart(value)
    if type(heart) is str:
        text = bounded(heart, DETAIL_BYTES_MAX, in_lines)
        return len(text.encode()), text
    try:
        encoded, plain = plain_json(value)
    except BaseException:  # it is the user's, it may do anything
        encoded = b""
    if not 0 < len(encoded) <= DETAIL_BYTES_MAX:
        plain = shortened(value)
        return len(plain.encode()), plain
    return len(encoded), plain
