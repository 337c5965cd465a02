"""Text and numbers as SVG: escaped, bounded, in few characters. Pure.

Names are anybody's: they may be HTML, a megabyte long, or written from right to left. All of it
comes into a picture through `attribute`, `content` and `label`, and nowhere else.
"""

from __future__ import annotations

import re
from typing import Final
from unicodedata import combining, east_asian_width

from oautom.pictures.style import STYLE

TEXT_MAX: Final = 1000
"""How many characters of a text are in a picture at most."""
_NAME_MAX: Final = 800

_UNFIT: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"  # not allowed in XML
    "\u202a-\u202e\u2066-\u2069]"  # they turn the text around them, too
)
_BLANKS: Final = re.compile(r"[\t\n\r\u2028\u2029]+")


def clean(text: str) -> str:
    """Return a text without characters that XML forbids, or that turn other text around."""
    return _UNFIT.sub("\ufffd", text)


def content(text: str) -> str:
    """Return a text, or its beginning, as the content of an element."""
    return _escaped(bounded(text, TEXT_MAX))


def attribute(text: str, limit: int | None = TEXT_MAX) -> str:
    """Return a text, or its beginning, as the value of an attribute, in double quotes."""
    escaped = _escaped(text if limit is None else bounded(text, limit))
    return f'"{escaped.replace(chr(34), "&quot;").replace("`", "&#96;")}"'


def _escaped(text: str) -> str:
    escaped = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _BLANKS.sub(" ", escaped)


def bounded(text: str, limit: int = _NAME_MAX) -> str:
    """Return a text, or its beginning and `…` if it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def width_of(text: str) -> float:
    """Return about how many letters wide a text is: a Chinese one, or a picture, counts twice."""
    return sum(map(_wide, text))


def _wide(letter: str) -> float:
    if letter.isascii():
        if letter in "iljtfrI.,:;'|!()[] -_":
            return 0.7
        return 1.5 if letter in "mwMW@%" else 1.05 if letter.islower() else 1.2
    if combining(letter) or letter in "\u200b\u200c\u200d\ufe0f":
        return 0.0
    return 2.0 if east_asian_width(letter) in "WF" else 1.2


def label(text: str, most: float, *, keep: float = 0.4) -> str:
    """Return a text that is at most so many letters wide, with `…` for what is left out.

    Args:
        text: The text.
        most: How wide it may be.
        keep: How much of that is for its beginning, and not for its end. Names that begin alike
            often end otherwise.
    """
    edge = 4 * int(most) + 2  # of a megabyte no more is looked at
    if len(text) <= 2 * edge and width_of(text) <= most:
        return text
    room = most - _wide("…")
    head = _fitting(text[:edge], keep * room)
    tail = _fitting(text[: -edge - 1 : -1], room - width_of(head))[::-1]
    while tail and combining(tail[0]):
        tail = tail[1:]
    return f"{head.rstrip()}…{tail.lstrip()}"


def _fitting(text: str, room: float) -> str:
    """Return the beginning of a text that fits."""
    for i, letter in enumerate(text):
        room -= _wide(letter)
        if room < 0:
            return text[:i]
    return text


def number(value: float) -> str:
    """Return a length in as few characters as show no difference."""
    return f"{value:.1f}".removesuffix(".0")


MARGIN: Final = 14.0


def framed(
    inside: str, width: float, height: float, told: str, *, style: bool, has_links: bool
) -> str:
    """Return a whole picture.

    Args:
        inside: Its elements, from 0, 0.
        width: How wide they are.
        height: How high they are.
        told: What the picture shows, for who does not see it.
        style: Whether the style sheet is in it.
        has_links: Whether its parts are for readers, too; else it is one picture to them.
    """
    wide, high = number(width + 2 * MARGIN), number(height + 2 * MARGIN)
    role = "group" if has_links else "img"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="oa" role="{role}" '
        f"aria-label={attribute(told)} "
        f'width="{wide}" height="{high}" viewBox="0 0 {wide} {high}">'
        f"{f'<style>{STYLE}</style>' if style else ''}"
        f'<rect class="oa-ground" width="{wide}" height="{high}" rx="12"/>'
        f'<g transform="translate({number(MARGIN)} {number(MARGIN)})">{inside}</g></svg>\n'
    )
