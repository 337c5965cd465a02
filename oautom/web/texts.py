"""Texts of a log, made fit to be shown: cut short, without control characters, times and values.

Pure: the clock comes in as an argument. Escaping is done by the templates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from oautom.errors import SettingError, shown

VALUE_CHARACTERS: Final = 4_000
"""How much of a value, an error or a text stands in a page; the whole has an address of its own."""

NAME_CHARACTERS: Final = 200
LINE_CHARACTERS: Final = 80
PARAMS_CHARACTERS: Final = 120

GLYPHS: Final[Mapping[str, str]] = {
    "pending": "○",
    "running": "▶",
    "success": "✓",
    "failed": "✕",
    "skipped": "»",
    "upstream_failed": "⊘",
    "up_for_retry": "↻",
    "cancelled": "■",
    "paused": "‖",
    "ending": "◐",
    "interrupted": "↯",
    "stranded": "⚑",
}
"""A sign for each state, for those who do not see colours; the word stands beside it."""

WORDS: Final[Mapping[str, str]] = {
    "upstream_failed": "upstream failed",
    "up_for_retry": "waits to retry",
}
"""States that are written in other words than they are named."""

_CONTROLS: Final = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "\u2421",
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
}
_MARKS: Final = {
    **dict.fromkeys([0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], None),
    **{ord(each): " " for each in "\n\t"},
}
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_UNITS: Final[Mapping[str, str]] = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def clean(value: object) -> str:
    """Return a text without control characters: a sign stands for each, but for line breaks."""
    text = value if type(value) is str else str(value)
    text = text.replace("\r\n", "\n").translate(_CONTROLS)
    return text.encode("utf-8", "replace").decode()


def plain_line(value: object, most: int = NAME_CHARACTERS) -> str:
    """Return a text for a place without markup, such as a title: a line, no marks of direction."""
    return cut(clean(value).translate(_MARKS), most)


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters; the last one tells that there is more."""
    return text if len(text) <= most else text[: most - 1] + "…"


def written(text: str) -> str:
    """Return what a program has written, without the codes by which it colours a terminal."""
    return clean(_ESCAPES.sub("", text))


def in_json(value: object) -> str:
    """Return a value as JSON that people read, in a line if it fits one; else as its `repr`."""
    try:
        line = json.dumps(value, ensure_ascii=False, default=_plain)
        if len(line) > LINE_CHARACTERS:
            line = json.dumps(value, ensure_ascii=False, indent=2, default=_plain)
        return clean(line)
    except (TypeError, ValueError, RecursionError):  # of a log in memory, it may be any object
        return clean(shown(value, VALUE_CHARACTERS))


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else shown(value)


def in_short(value: object) -> str:
    """Return a value as JSON in one line, or its beginning."""
    try:
        return cut(json.dumps(value, ensure_ascii=False, default=_plain), VALUE_CHARACTERS)
    except (TypeError, ValueError, RecursionError):
        return shown(value)


def in_one_line(params: Mapping[str, Any], most: int = PARAMS_CHARACTERS) -> str:
    """Return parameters as `name=value`, as many as fit a line."""
    told, left = list[str](), most
    for name, each in params.items():
        if left <= 0:
            break
        # All of a large one need not be written to see its beginning.
        value = each[:LINE_CHARACTERS] if isinstance(each, str) else cut(in_short(each), 40)
        told.append(f"{name}={plain_line(value, 40)}")
        left -= len(told[-1]) + 1
    return cut(" ".join(told), most)


def word(state: str) -> str:
    """Return how a state is written."""
    return WORDS.get(state, state)


def duration(given: timedelta | None) -> str:
    """Return how long something takes: `12 ms`, `0.2 s`, `12 s`, `3 min 5 s`, `2 h 1 min`."""
    if given is None:
        return ""
    seconds = max(given.total_seconds(), 0.0)
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole, parts = round(seconds), []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def clock(instant: datetime, now: datetime) -> str:
    """Return an instant as the clock of this machine has it; without the date if it is today."""
    local, today = instant.astimezone(), now.astimezone().date()
    if local.date() == today:
        return local.strftime("%H:%M:%S")
    if local.year == today.year:
        return local.strftime("%b %d, %H:%M")
    return local.strftime("%Y-%m-%d %H:%M")


def zone(now: datetime) -> str:
    """Return the time zone of this machine, as people read it: `CET, UTC+01:00`."""
    local = now.astimezone()
    name, offset = local.strftime("%Z"), local.isoformat()[-6:]
    return name if name == "UTC" else f"{name}, UTC{offset}"


def instant_of(text: str) -> timedelta | datetime | None:
    """Return since when, of a text such as `30m`, `12h`, `7d`, `2026-11-24`; None for an empty one.

    Raises:
        SettingError: It is none of these.
    """
    if not text:
        return None
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII):
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        instant = datetime.fromisoformat(text)
        return instant if instant.tzinfo is not None else instant.astimezone()
    except (ValueError, OverflowError, OSError) as error:
        raise SettingError(
            f"since must be how long ago or a date, such as 30m, 12h, 7d or 2026-11-24, "
            f"not {shown(text)}"
        ) from error


def day_of(text: str) -> tuple[datetime, datetime] | None:
    """Return when a day begins and ends here, of a text such as `2026-11-24`; None for no text.

    Raises:
        SettingError: It is no day.
    """
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
        return midnight(day), midnight(day + timedelta(days=1))
    except (ValueError, OverflowError, OSError) as error:
        raise SettingError(f"day must be a date such as 2026-11-24, not {shown(text)}") from error


def midnight(day: date) -> datetime:
    """Return when a day begins on the clock of this machine."""
    return datetime(day.year, day.month, day.day).astimezone()


def number_of(text: str, name: str, least: int, default: int, most: int = 2**53) -> int:
    """Return a number of an address.

    Raises:
        SettingError: It is none, too small, or too large.
    """
    if not text:
        return default
    if re.fullmatch(r"\d{1,18}", text, re.ASCII) and least <= int(text) <= most:
        return int(text)
    raise SettingError(f"{name} must be a whole number from {least} to {most}, not {shown(text)}")


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
