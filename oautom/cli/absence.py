"""Whoever waits for what an engine does is told once where no engine is at work."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from oautom.cli.output import date_and_time, note
from oautom.client import Client
from oautom.client.lookout import Lookout

_LOOK_SECONDS: Final = 1.0


class Absence:
    """Tells that no engine is at work, and that one is again. It goes on waiting: one may come.

    An engine that has just ended what was waited for may be gone before that is read, so it is
    told only where two looks have found none.

    Args:
        client: Where to look.
        tell: Called with a sentence that says so; with an empty one where there is one again.
    """

    def __init__(self, client: Client, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._lookout = Lookout(client)
        self._next = 0.0
        self._looks_without = 0

    def look(self) -> None:
        """Look for an engine, at most once a second, and tell what has changed.

        Raises:
            LogError: The log cannot be read.
        """
        if monotonic() < self._next:
            return
        self._next = monotonic() + _LOOK_SECONDS
        engine = self._lookout.engine()
        if engine.state != "none":
            if self._looks_without > 1:
                self._tell("")
            self._looks_without = 0
            return
        self._looks_without += 1
        if self._looks_without == 2:
            since = "" if engine.since is None else f" since {date_and_time(engine.since)}"
            self._tell(f"no engine is at work{since}; this goes on when one is, Ctrl-C ends it")


def note_absence(sentence: str) -> None:
    """Print that no engine is at work, or that one is again, to stderr."""
    note(sentence or "an engine is at work again")
