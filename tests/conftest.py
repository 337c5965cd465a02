"""What holds for every test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


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
