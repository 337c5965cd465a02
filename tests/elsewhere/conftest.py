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

from oautom import OAutom, OAutomMode
from oautom.testing import check_history

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


@pytest.fixture(scope="module")
def cluster(steps: ModuleType) -> Iterator[Any]:
    """Two worker processes of one thread."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    from distributed import Client

    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=20)
        yield client


@pytest.fixture
def app(client: Any) -> Iterator[OAutom]:
    with OAutom(OAutomMode.background, executor=client) as app:
        yield app
    assert not [each for each in app.log.read() if each.name == "engine.error"]
    check_history(app.log.read())
