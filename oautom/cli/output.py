"""What the verbs print: plain lines, or one JSON document to stdout; messages to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

import click

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))


def verb(summary: str, *, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a verb.

    Args:
        summary: What it does, for the list of all.
        example: A command line; its help ends with it.
    """
    return click.command(short_help=summary, epilog=f"Example: {example}")


def print_json(document: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))


@contextmanager
def only_json() -> Iterator[Callable[[object], None]]:
    """Keep stdout for one JSON document: what else is written there meanwhile goes to stderr.

    Yields:
        What prints the document.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    documents: list[object] = []
    try:
        yield documents.append
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
    for document in documents:
        print_json(document)


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns, each as wide as its widest text."""
    lines = list(rows)
    if not lines:
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def note(message: str) -> None:
    """Print a message for people."""
    click.echo(message, err=True)


def seconds_of(duration: timedelta | float) -> str:
    """Return how long something takes, as people read it: `0.2 s`, `12 s`, `3 min 5 s`, `2 h`."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    parts = []
    for unit, size in _UNITS:
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    if whole:
        parts.append(f"{whole} s")
    return " ".join(parts[:2])


def clock_time(instant: datetime) -> str:
    """Return an instant as the clock on the wall has it here: `14:03:59`."""
    return instant.astimezone().strftime("%H:%M:%S")


def one_line(text: str | None, width: int = 200) -> str:
    """Return the first line of a text, cut short."""
    line = (text or "").strip().partition("\n")[0]
    return line if len(line) <= width else line[: width - 1] + "…"


def is_terminal() -> bool:
    """Whether a person looks at stdout, on a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def seconds_between(status: Mapping[str, Any]) -> float | None:
    """Return how long a Vect or a step has taken, by its status; None where it has not ended."""
    start, end = status["start_date"], status["end_date"]
    if start is None or end is None:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
