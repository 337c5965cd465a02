"""The live view of a run, on a terminal: counts, what has failed, what runs, by rich."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from oautom.cli.output import COLOURS, one_line, seconds_of
from oautom.cli.progress import Progress
from oautom.client.forecast import NO_PAST, Past
from oautom.events import Event

_LEFT_SECONDS: Final = 1.0
"""How often it is counted how long a run will still take."""
_ROWS = 12
"""How many steps are shown at once: those that have failed first, then those that run."""


def live(title: str, progress: Progress, past: Past = NO_PAST) -> Live:
    """Return what draws a run while it goes on, on a thread of rich's, a few times a second.

    At its end the picture is taken away: the last lines say what came of the run.

    Args:
        title: What runs: flow and id.
        progress: How far it has come.
        past: How long the steps took in past runs.
    """
    left, looked = "", -_LEFT_SECONDS

    def picture() -> RenderableType:
        nonlocal left, looked
        now = datetime.now(UTC)
        if monotonic() - looked >= _LEFT_SECONDS:
            left, looked = progress.left(past, now), monotonic()
        return draw(title, progress, now, left)

    return Live(get_renderable=picture, console=Console(), refresh_per_second=8, transient=True)


@contextmanager
def live_view(title: str, past: Past = NO_PAST) -> Iterator[Callable[[Event], None]]:
    """Draw a run while it goes on; what is yielded takes its events, on any thread."""
    progress = Progress()
    with live(title, progress, past):
        yield progress.take


def draw(title: str, progress: Progress, now: datetime, left: str = "") -> RenderableType:
    """Return the picture of a run.

    Args:
        title: What runs.
        progress: How far it has come; another thread may move it meanwhile.
        now: What time it is, aware.
        left: How long it will still take, for people; empty where that is not known.
    """
    head = Text.assemble((title, "bold"), "  ", (progress.state, COLOURS.get(progress.state, "")))
    if progress.started is not None:
        head.append(f"  {seconds_of((progress.ended or now) - progress.started)}")
    total = progress.total
    bar = Table.grid(padding=(0, 1))
    bar.add_row(ProgressBar(total or 1, progress.done, width=30), f"{progress.done}/{total} steps")
    if left and progress.ended is None:
        bar.add_row(Text(f"{left} left", "bright_black"))
    return Group(head, bar, _counts(progress), *_steps(progress, now))


def _counts(progress: Progress) -> Text:
    line = Text()
    for state, colour in COLOURS.items():
        if count := progress.states[state]:
            line.append(f"{count} {state}  ", colour)
    return line


def _steps(progress: Progress, now: datetime) -> list[RenderableType]:
    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    failed = list(progress.failed.copy().items())
    running = list(progress.running.copy().items())
    shown_failed = failed[-(_ROWS // 2) :] if running else failed[-_ROWS:]
    for name, error in shown_failed:
        rows.add_row(name, Text("failed", "red"), Text(one_line(error)))
    shown_running = running[: _ROWS - len(shown_failed)]
    for name, began in shown_running:
        rows.add_row(name, Text("running", "cyan"), Text(seconds_of(now - began)))
    left = len(failed) + len(running) - len(shown_failed) - len(shown_running)
    more = [Text(f"and {left} more", "bright_black")] if left else []
    return [rows, *more] if rows.row_count else []
