"""The live view of a run, on a terminal: counts, what has failed, what runs, by rich.

A picture has never more rows than the screen, and no line is longer than a row: so what is drawn
can always be taken away again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from rich.console import Console, RenderableType
from rich.control import Control
from rich.live import Live
from rich.text import Text

from oautom.cli.output import COLOURS, one_line, seconds_of
from oautom.cli.progress import Progress, Watch
from oautom.client.forecast import NO_PAST, Past
from oautom.errors import OAutomError
from oautom.events.log import EventLog
from oautom.events.sqlite import SqliteEventLog
from oautom.vects.vect import Vect

_ROWS: Final = 12
"""How many steps are shown at once: those that have failed first, then those that run."""

_LEFT_SECONDS: Final = 1.0
"""How often it is counted how long a run will still take."""

_BAR: Final = 30
_TITLE: Final = 8
_A_SECOND: Final = 2
"""How often the picture is drawn anew."""

_FOLDED: Final = (
    *("failed", "upstream_failed", "cancelled", "up_for_retry", "running"),
    *("pending", "success", "skipped"),
)
_ASCII: Final = str.maketrans({"━": "#", "─": "-", "…": "~"})


class _Picture(Live):
    """Draws a run on a thread of rich's, a few times a second.

    At its end the picture is taken away: the last lines say what came of the run.
    """

    def __init__(
        self, title: str, progress: Progress, past: Past, news: Callable[[], None]
    ) -> None:
        self._title = title
        self._progress = progress
        self._past = past
        self._left, self._looked = "", -_LEFT_SECONDS
        self._news = news
        super().__init__(console=Console(), refresh_per_second=_A_SECOND, transient=True)
        self._size = self.console.size

    def get_renderable(self) -> RenderableType:
        """Return the picture as it is now, for the screen as it is now."""
        size = self.console.size
        now = datetime.now(UTC)
        self._news()
        self._progress.count()
        if monotonic() - self._looked >= _LEFT_SECONDS:
            self._left, self._looked = self._progress.left(self._past, now), monotonic()
        lines = draw(self._title, self._progress, now, size.width, size.height, self._left)
        if self.console.options.ascii_only:
            for line in lines:
                line.plain = line.plain.translate(_ASCII)
        return Text("\n").join(lines)

    def refresh(self) -> None:
        """Draw it; on a screen that has another size from nothing.

        A terminal may break the lines that are there anew, so nobody knows how many they are.
        """
        if self.console.size != self._size:
            self._size = self.console.size
            self.console.control(Control.home(), Control.clear())
        super().refresh()


@contextmanager
def live_view(title: str, past: Past = NO_PAST) -> Iterator[Progress]:
    """Draw a run while it goes on; what is yielded takes its events, on any thread.

    Args:
        title: What runs: flow and id.
        past: How long the steps took in past runs.
    """
    progress = Progress()
    with _Picture(title, progress, past, _nothing):
        yield progress


def _nothing() -> None:
    """Read nothing: the events are brought."""


class _Reader:
    """Reads the events of a run from a log in memory, whenever it is drawn."""

    def __init__(self, log: EventLog, progress: Progress) -> None:
        self._log = log
        self._progress = progress
        self._vect: str | None = None
        self._seq = 0

    def begin(self, vect: Vect) -> None:
        """Read the events of this run from now on."""
        self._vect = vect.id

    def read(self) -> None:
        """Take what has happened since."""
        if self._vect is None:
            return
        with suppress(OAutomError):  # who drives gets the same error, and tells it
            for event in self._log.read(after=self._seq, vect=self._vect):
                self._progress.take(event)
                self._seq = event.seq


@contextmanager
def live_run(title: str, log: EventLog, past: Past) -> Iterator[_Reader | Watch]:
    """Draw a run of this process, which `begin` of what is yielded names, while it goes on.

    In memory it is cheaper to read the events when they are drawn than to hear of each; of a file
    it is the other way round, as an event that is read has to be decoded.

    Args:
        title: What runs: flow and id.
        log: Its log.
        past: How long the steps took in past runs.
    """
    if isinstance(log, SqliteEventLog):
        with live_view(title, past) as progress, Watch(progress.take) as watch:
            yield watch
        return
    progress = Progress()
    reader = _Reader(log, progress)
    with _Picture(title, progress, past, reader.read):
        yield reader


def draw(
    title: str, progress: Progress, now: datetime, width: int, height: int, left: str = ""
) -> list[Text]:
    """Return the lines of the picture of a run.

    Args:
        title: What runs.
        progress: How far it has come.
        now: What time it is, aware.
        width: How many columns there are.
        height: How many rows there are; the last one is left for the cursor.
        left: How long it will still take, for people; empty where that is not known.
    """
    took = (
        "" if progress.started is None else seconds_of((progress.ended or now) - progress.started)
    )
    room = width - len(progress.state) - len(took) - 4
    head = Text.assemble(
        (shortened(title, max(_TITLE, room)), "bold"),
        "  ",
        (progress.state, COLOURS.get(progress.state, "")),
        f"  {took}",
    )
    rest = [Text(f"{left} left", "bright_black")] if left and progress.ended is None else []
    if progress.absence:
        rest = [Text(progress.absence, "yellow")]
    above = [head, _bar(progress, width), *rest, *_counts(progress, width)]
    lines = [*above, *_steps(progress, now, width, min(_ROWS, height - 1 - len(above)))]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines[: max(1, height - 1)]


def _bar(progress: Progress, width: int) -> Text:
    told = f"  {progress.done}/{progress.total} steps"
    size = max(1, min(_BAR, width - len(told)))
    done = size * progress.done // max(1, progress.total)
    return Text.assemble(("━" * done, "green"), ("─" * (size - done), "bright_black"), told)


def _counts(progress: Progress, width: int) -> list[Text]:
    """Return how many steps are in which state; in as many lines as these take."""
    lines = [Text()]
    for state, colour in COLOURS.items():
        if count := progress.states[state]:
            told = f"{count} {state}"
            if len(lines[-1]) + len(told) > width:
                lines.append(Text())
            lines[-1].append(f"{told}  ", colour)
    for line in lines:
        line.rstrip()
    return lines


def _steps(progress: Progress, now: datetime, width: int, most: int) -> list[Text]:
    """Return the lines of the steps that matter now, `most` at most."""
    failed = list(progress.failed.items())
    running = list(progress.running.items())
    if len(failed) + len(running) > most:
        most -= 1  # for the line that says how many more there are
    if most < 1:
        return []
    shown_failed = failed[-(most - min(len(running), most // 2)) :]
    shown_running = running[: most - len(shown_failed)]
    rows = [(progress.told(name), "failed", one_line(error)) for name, error in shown_failed]
    rows += [
        (progress.told(name), "running", f"{seconds_of(now - began)}{_of_map(progress, name)}")
        for name, began in shown_running
    ]
    widest = max((len(name) for name, _, _ in rows), default=0)
    room = min(widest, max(8, (width - 11) // 2))
    lines = [
        Text.assemble((f"{state:7}", COLOURS[state]), f"  {shortened(name, room):{room}}  ", detail)
        for name, state, detail in rows
    ]
    left = len(failed) + len(running) - len(rows)
    return [*lines, Text(f"and {left} more", "bright_black")] if left else lines


def _of_map(progress: Progress, name: str) -> str:
    """Return how many instances of a map are in which state, the failed ones first."""
    states = progress.maps.get(name, Counter())
    told = [f"{states[state]} {state}" for state in _FOLDED if states.get(state)]
    return f"  {', '.join(told)}" if told else ""


def shortened(name: str, width: int) -> str:
    """Return a name that fits; what is left out is in its middle, as its end may be a number."""
    if len(name) <= width:
        return name
    if width < 2:
        return name[:width]
    end = (width - 1) // 2
    return f"{name[: width - 1 - end]}…{name[len(name) - end :]}"
