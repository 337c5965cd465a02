"""What holds for every test."""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings

from oautom.events import signals

# Each line traced, as the explain phase does, makes a failing case too slow to be made smaller.
settings.register_profile("oautom", phases=[each for each in Phase if each is not Phase.explain])
if settings.get_current_profile_name() == "default":
    settings.load_profile("oautom")


def pytest_configure() -> None:
    """Take Ctrl-C as usual: programs that tests start inherit that a background job ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Have the collector leave out what lasts for the session: many tests have it look for more."""
    gc.collect()
    gc.freeze()


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture(autouse=True)
def _no_error_is_swallowed_by_transitions() -> Iterator[None]:
    """`transitions` logs an error in a finalizing callback and goes on: that must never happen."""
    kept, logger = _Kept(), logging.getLogger("transitions")
    logger.addHandler(kept)
    yield
    logger.removeHandler(kept)
    assert kept.messages == [], "transitions has swallowed an error"


@pytest.fixture(autouse=True)
def _no_receiver_is_left() -> Iterator[None]:
    """Signals belong to the whole process: what a test connects must be heard in no other."""
    yield
    for each in vars(signals).values():
        if isinstance(each, signals.EventSignal) and each.receivers:
            each._clear_state()
            each._is_plain = True
