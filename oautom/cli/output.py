"""What the verbs print: plain lines, or one JSON document to stdout; messages to stderr."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

import click
import msgspec

COLOURS: Final = {
    "pending": "bright_black",
    "running": "cyan",
    "success": "green",
    "failed": "red",
    "skipped": "yellow",
    "upstream_failed": "magenta",
    "up_for_retry": "yellow",
    "cancelled": "magenta",
    "paused": "yellow",
    "ending": "yellow",
}
"""The colour of each state of a run or step, by the names of click and rich."""

VARIABLE: Final = "OAUTOM_FILE"
"""The environment variable that names the file of a log."""

_SIGNS: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x09: " ",
    0x7F: 0x2421,
}
_SIGNS |= dict.fromkeys(
    [*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD
)
_MANY: Final = 10_000
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))


def verb(summary: str, *, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a verb.

    Args:
        summary: What it does, for the list of all.
        example: A command line; its help ends with it.
    """
    return click.command(short_help=summary, epilog=f"Example: {example}")


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the option `--json`; the form of what it prints then is in docs/cli-json.md."""
    option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
    return option(function)


def print_json(document: object) -> None:
    """Print one JSON document."""
    click.echo(_text_of(document, indent=2))


def print_json_line(document: object) -> None:
    """Print one JSON document in a line, as one of many."""
    click.echo(_text_of(document))


@contextmanager
def json_list() -> Iterator[Callable[[object], None]]:
    """Print a JSON list, item by item, so that a large one takes no memory.

    Where an error ends it, it is closed nevertheless: what stands on stdout is a document.

    Yields:
        What prints the next item.
    """
    count = 0

    def put(item: object) -> None:
        nonlocal count
        click.echo(f"{',' if count else '['}\n{_text_of(item)}", nl=False)
        count += 1

    try:
        yield put
    except BaseException:
        if count:
            click.echo("\n]")
        raise
    click.echo("\n]" if count else "[]")


def _text_of(document: object, indent: int | None = None) -> str:
    """Return a document as JSON; one that is JSON already (`Raw`) as it is."""
    is_utf8 = sys.stdout.encoding.lower() in ("utf-8", "utf8")  # elsewhere it is written as \\u
    if isinstance(document, msgspec.Raw):
        text = bytes(document).decode()
        if is_utf8 or text.isascii():
            return text
        document = json.loads(text)
    return json.dumps(document, ensure_ascii=not is_utf8, indent=indent, default=_plain)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


@contextmanager
def only_json() -> Iterator[Callable[[object], None]]:
    """Keep stdout for one JSON document: what else is written there meanwhile goes to stderr.

    Yields:
        What prints the document, at once.
    """
    sys.stdout.flush()
    kept = os.dup(1)

    def put(document: object) -> None:
        with open(kept, "w", encoding="utf-8", closefd=False) as stdout:
            stdout.write(f"{_text_of(document, indent=2)}\n")

    os.dup2(2, 1)
    try:
        yield put
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def print_table(rows: Iterable[Sequence[str]], state_at: int | None = None) -> None:
    """Print rows in columns, each as wide as its widest text.

    Args:
        rows: The rows.
        state_at: The column that has the states of runs or steps, which have colours.
    """
    for line in table_lines(rows, state_at):
        click.echo(line)


def table_lines(rows: Iterable[Sequence[str]], state_at: int | None = None) -> list[str]:
    """Return rows in columns as lines; see `print_table`."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[-1] = row[-1]
        if state_at is not None:
            cells[state_at] = coloured(cells[state_at], COLOURS.get(row[state_at]))
        lines.append("  ".join(cells).rstrip())
    return lines


def note(message: str) -> None:
    """Print a message for people."""
    click.echo(message, err=True)


def lead_on(*commands: str) -> None:
    """Say which commands lead on; each as it can be typed."""
    path = click.get_current_context().obj
    known = os.environ.get(VARIABLE) == path
    log = "" if known else f" --log {shlex.quote(path)}"
    note(f"next: {' or '.join(f'oautom {command}{log}' for command in commands)}")


def lead_on_after_failure(vect: str, steps: Sequence[str]) -> None:
    """Say how to see more of what has failed, and how to go on."""
    which = shlex.quote(vect)
    logs = [f"logs {which} {shlex.quote(step)}" for step in steps[:1]]
    lead_on(*logs, f"retry {which}")


def columns() -> int:
    """Return how many columns the terminal has; elsewhere there is room for everything."""
    return shutil.get_terminal_size().columns if is_terminal() else _MANY


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


def date_and_time(instant: datetime | None) -> str:
    """Return an instant as the clock on the wall has it here; without the date if it is today."""
    if instant is None:
        return ""
    local = instant.astimezone()
    form = "%H:%M:%S" if local.date() == datetime.now(local.tzinfo).date() else "%Y-%m-%d %H:%M"
    return local.strftime(form)


def one_line(text: str | None, width: int = 200) -> str:
    """Return the first line of a text, cut short, and without what could move a cursor."""
    line = (text or "").strip().partition("\n")[0].translate(_SIGNS)
    return line if len(line) <= width else line[: width - 1] + "…"


def is_terminal() -> bool:
    """Whether a person looks at stdout, on a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def coloured(text: str, colour: str | None) -> str:
    """Return a text in a colour, where a terminal shows colours and its user wants them."""
    if colour is None or not is_terminal() or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, fg=colour)


def seconds_between(status: Mapping[str, Any]) -> float | None:
    """Return how long a Vect or a step has taken, by its status; None where it has not ended."""
    start, end = status["start_date"], status["end_date"]
    if start is None or end is None:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
