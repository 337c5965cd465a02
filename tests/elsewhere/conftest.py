"""Clusters for tests: one in processes for a module, and programs of their own."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent


def until(is_so: Callable[[], Any], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def steps() -> Iterator[ModuleType]:
    """The functions of `dask_steps`, as a module that workers import by this name."""
    sys.path.insert(0, str(HERE))
    yield importlib.import_module("dask_steps")
    sys.path.remove(str(HERE))
