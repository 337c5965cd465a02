"""What shows a run: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from oautom.cli.output import is_terminal
from oautom.cli.progress import print_event
from oautom.client.forecast import NO_PAST, Past
from oautom.errors import OAutomError
from oautom.events import Event


def run_view(
    title: str, *, is_silent: bool, past: Callable[[], Past]
) -> AbstractContextManager[Callable[[Event], None] | None]:
    """Return what shows a run by its events: a live view on a terminal, plain lines elsewhere.

    Args:
        title: What runs.
        is_silent: Nothing is shown.
        past: Reads how long the steps took in past runs, for a live view.
    """
    if is_silent:
        return nullcontext()
    if not is_terminal():
        return nullcontext(print_event)
    from oautom.cli.live import live_view  # noqa: PLC0415 - rich: half of the time of a verb

    return live_view(title, known_past(past))


def known_past(past: Callable[[], Past]) -> Past:
    """Return how long the steps took in past runs, as far as that can be read."""
    try:
        return past()
    except OAutomError:  # there is no file yet, or none that can be read: no past
        return NO_PAST
