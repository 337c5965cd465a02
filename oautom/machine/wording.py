"""Words for sentences to people: names, lists, durations, each in a line. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from traceback import format_exception_only
from typing import Final

NAMES_MAX: Final = 3
NAME_MAX: Final = 60
TEXT_MAX: Final = 200
ERROR_MAX: Final = 500


def seconds_of(seconds: float) -> str:
    text = f"{seconds:.3f}".rstrip("0").rstrip(".")
    return "1 second" if text == "1" else f"{text} seconds"


def place_in_line(before: int, most: int, flow: str, lane: str) -> str:
    """Return the place of a Vect in its line, how many go before it, and why it waits."""
    go = "none goes" if not before else "1 goes" if before == 1 else f"{before} go"
    vects = "1 vect" if most == 1 else f"{most} vects"
    of = f"flow {quoted(flow)}" + (f" with {lane}" if lane else "")
    verb = "is" if most == 1 else "are"
    return f"number {before + 1} in line: {go} before it, and at most {vects} of {of} {verb} open"


def place_behind(after: str) -> str:
    """Return the place of a Vect that comes after another one in a backfill."""
    return f"next in its backfill after vect {quoted(after)}, which is open"


def listed(items: Iterable[str], link: str, items_max: int = NAMES_MAX) -> str:
    """Return a few items as a list, and the number of the others."""
    items = list(items)
    left = len(items) - items_max
    return link.join(items[:items_max]) + (f", and {left} more" if left > 0 else "")


def raised(error: BaseException) -> str:
    """Return an error as one line, cut short."""
    return in_line("".join(format_exception_only(error)), ERROR_MAX)


def quoted(name: str) -> str:
    return f"`{in_line(name, NAME_MAX)}`"


def in_line(text: str, characters_max: int = TEXT_MAX) -> str:
    """Return a text without line breaks and the like, cut short."""
    printable = "".join(each if each.isprintable() else " " for each in text[: 4 * TEXT_MAX])
    line = " ".join(printable.split()) or "(blank)"
    return line if len(line) <= characters_max else f"{line[:characters_max]}..."
