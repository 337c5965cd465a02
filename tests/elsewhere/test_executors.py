"""The conformance suite, run for each executor of the table in docs/executors.md."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import oautom
from oautom import SettingError
from oautom.testing import ExecutorLacksError, check_executor
from tests.elsewhere import executors

IS_LONG = bool(os.environ.get("OAUTOM_CRASH_LONG"))
ROOT = Path(oautom.__file__).parents[1]
MANY_BYTES = {"spawned": 100_000_000}


@pytest.fixture
def home() -> Iterator[Path]:
    """A home, and a folder for temporary files, that some executors write to."""
    folder = tempfile.mkdtemp(prefix="t-", dir="/tmp")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("name", executors.TRIED)
def test_an_executor_can_do_what_the_table_says(name: str, home: Path) -> None:
    tried = executors.TRIED[name]
    if missing := [each for each in tried.needs if importlib.util.find_spec(each) is None]:
        pytest.skip(f"{missing} is not installed")
    size = MANY_BYTES.get(name, 100_000_000 if IS_LONG else 1_000_000)
    rows = () if IS_LONG or tried.short is None else tried.short
    done = subprocess.run(
        [sys.executable, executors.__file__ or "", name, str(size), *rows],
        env=os.environ | {"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": str(ROOT)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for row in json.loads((home / "report.json").read_text()):
        expected = None if row["name"] in tried.idle else row["name"] not in tried.lacks
        assert row["holds"] is expected, f"{row['name']}: {row['told']}\n{done.stderr}"


def test_the_table_in_the_docs_is_what_was_tried() -> None:
    page = (ROOT / "docs" / "executors.md").read_text(encoding="utf-8")
    assert executors.table() in page


# The suite itself


def test_a_report_says_what_holds() -> None:
    report = check_executor(lambda: ThreadPoolExecutor(2), size_bytes=10)
    report.raise_for_failures()
    assert report.failures == ()
    assert "runs      yes" in str(report)
    assert repr(report) == "<Report: 14 rows, 0 not as declared>"


class Lying(Executor):
    """An executor on threads with a fault."""

    def __init__(self, fault: Callable[[Future[Any]], object]) -> None:
        self._fault = fault
        self._pool = ThreadPoolExecutor(2)

    def submit(self, call: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def do() -> None:
            answer = call()
            if self._fault(future) is None:
                future.set_result(answer)

        self._pool.submit(do)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)


def test_a_row_that_fails_is_told_with_what_was_seen() -> None:
    def fail(future: Future[Any]) -> bool:
        future.set_exception(OSError("the cluster is on fire"))
        return True

    report = check_executor(lambda: Lying(fail), rows=["runs", "skip"])
    with pytest.raises(ExecutorLacksError, match="the cluster is on fire") as raised:
        report.raise_for_failures()
    assert raised.value.report is report
    assert [row.name for row in report.failures] == ["runs", "skip"]


def test_a_row_that_is_declared_missing_may_fail_and_may_not_hold() -> None:
    def fail(future: Future[Any]) -> bool:
        future.set_exception(OSError("no"))
        return True

    check_executor(lambda: Lying(fail), rows=["skip"], lacks={"skip"}).raise_for_failures()
    report = check_executor(lambda: ThreadPoolExecutor(2), rows=["skip"], lacks={"skip"})
    with pytest.raises(ExecutorLacksError, match=r"it holds .that was declared to be missing"):
        report.raise_for_failures()


def test_a_row_that_hangs_is_told_and_the_next_ones_get_a_new_executor() -> None:
    made: list[Executor] = []

    def hang(future: Future[Any]) -> object:
        return None if len(made) > 1 else True

    def make() -> Executor:
        made.append(Lying(hang))
        return made[-1]

    report = check_executor(make, rows=["errors", "skip"], seconds=1.0)
    assert [row.holds for row in report.rows] == [False, True]
    assert report.rows[0].told == "it did not end within 1 seconds"
    assert len(made) == 2


def test_what_an_executor_leaves_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oautom.testing.executors._CLOSE_SECONDS", 0.3)
    end = threading.Event()

    class Leaving(ThreadPoolExecutor):
        def shutdown(self, *args: Any, **more: Any) -> None:
            threading.Thread(target=end.wait, args=(20,), name="left").start()
            super().shutdown(*args, **more)

    report = check_executor(lambda: Leaving(2), rows=["close"])
    end.set()
    assert report.rows[0].told == "it leaves thread 'left'"


@pytest.mark.parametrize("argument", ["lacks", "rows"])
def test_a_row_that_there_is_not_is_refused(argument: str) -> None:
    with pytest.raises(
        SettingError, match=f"{argument} has 'flies', which is no row; the rows are"
    ):
        check_executor(lambda: "threads", **{argument: ["flies"]})  # type: ignore[arg-type]


def test_a_function_with_a_context_is_entered_and_left() -> None:
    from contextlib import contextmanager

    seen: list[str] = []

    @contextmanager
    def make() -> Iterator[Executor]:
        with ThreadPoolExecutor(2) as pool:
            seen.append("in")
            yield pool
        seen.append("out")

    check_executor(make, rows=["runs"]).raise_for_failures()
    end = time.monotonic() + 10
    while seen != ["in", "out"] and time.monotonic() < end:
        time.sleep(0.01)
    assert seen == ["in", "out"]


def test_an_executor_is_left_in_the_context_in_which_it_was_entered() -> None:
    from contextlib import contextmanager
    from contextvars import ContextVar

    current: ContextVar[str] = ContextVar("current", default="none")  # as Dask has its client

    @contextmanager
    def make() -> Iterator[Executor]:
        token = current.set("mine")
        with ThreadPoolExecutor(2) as pool:
            yield pool
        current.reset(token)

    check_executor(make, rows=["runs", "close"]).raise_for_failures()
