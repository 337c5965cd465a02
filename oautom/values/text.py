"""Texts of others, made fit for a log: bounded, and without control characters. Pure.

Whatever an exception of a step is, and whatever it does when it is asked, there is a text to keep:
nothing here raises what code of the user's has raised. What is left out of a text is said in it.
"""

from __future__ import annotations

import re
import reprlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from oautom.values.json import at_heart, plain_json

ERROR_BYTES_MAX: Final = 16 * 1024
"""How long the error of a step may be in a log, in UTF-8."""
DETAIL_BYTES_MAX: Final = 64 * 1024
"""How long its traceback may be, and any other detail of it."""
DETAILS_MAX: Final = 50
"""How many details an error may have."""
DETAILS_BYTES_MAX: Final = 4 * DETAIL_BYTES_MAX
"""How much room all of its details may take together."""

_NAME_BYTES_MAX: Final = 200
_NOTE_BYTES: Final = 60
_CHAIN_MAX: Final = 100
_LEFT_OUT: Final = "details_left_out"

_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069"  # obeyed, not shown
_UNFIT: Final = rf"{_CONTROLS}\u2028\u2029\ud800-\udfff"
_NOT_IN_LINE: Final = re.compile(f"[{_UNFIT}]")
_NOT_IN_LINES: Final = re.compile(f"(?!\n)[{_UNFIT}]")


def in_one_line(text: str) -> str:
    """Return a text without line breaks, and with escapes for what a terminal would obey."""
    return _NOT_IN_LINE.sub(_escape, " ".join(text.splitlines()))


def in_lines(text: str) -> str:
    """Return a text with its line breaks, and with escapes for what else a terminal would obey."""
    return _NOT_IN_LINES.sub(_escape, text.replace("\r\n", "\n"))


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode()


def bounded(text: str, limit_bytes: int, fit: Callable[[str], str] = in_one_line) -> str:
    """Return a text of so many bytes at the most: its head and its tail, and what is left out.

    Args:
        text: It may be as large as the memory: no whole copy is made of one that is too long.
        limit_bytes: How long it may be in UTF-8.
        fit: Makes a part of it fit.
    """
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
    """Return the `repr()` of any value, bounded; where it raises, that it does."""
    teller = reprlib.Repr()
    teller.maxstring = teller.maxother = teller.maxlong = limit_bytes
    try:
        return bounded(teller.repr(value), limit_bytes)
    except BaseException as error:  # it is the user's, it may do anything
        return f"(its repr() raises {name_of(type(error))})"


# Exceptions


def error_of(error: BaseException) -> str:
    """Return type and message of an exception in one line, even of one that cannot be printed."""
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
    """Return the traceback of an exception, bounded, with those that led to it."""
    for lines_of in (_all_lines, _some_lines):
        try:
            return bounded("".join(lines_of(error)), DETAIL_BYTES_MAX, in_lines)
        except BaseException:  # noqa: S112 - __str__ and the like are the user's, they may do anything
            continue
    return "(its traceback cannot be printed)\n"


def without_frames(error: BaseException) -> BaseException:
    """Take the tracebacks off an exception that is kept, and off all that it comes of.

    Their frames would keep alive all that the step, and whoever has called it, had in hand.
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
    except BaseException:  # as above; where it is formatted, it is told that it raises
        return 0


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that it comes of, or holds.

    Raises:
        ValueError: They are too many to be told one by one.
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
    """Return the details of an error as a log can keep them, whatever is given.

    A text is bounded; any other value is a plain copy, or its `repr()` where there is none, or
    where that is too large. Of too many the first are kept, and how many are not is said.
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
    """Return how many bytes a detail takes, and the detail."""
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
