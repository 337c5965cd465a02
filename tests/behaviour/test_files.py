"""Steps that wait for files: real files, all modes, over crashes, and in the tools for tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from textwrap import dedent
from time import monotonic
from typing import Any

import pytest

from oautom import (
    BashExecution,
    FileExecution,
    Flow,
    FlowError,
    OAutom,
    OAutomMode,
    PythonExecution,
    RetryPolicy,
    SqliteEventLog,
    Vect,
)
from oautom.testing import assert_replays, check_history, explore, simulate
from oautom.workers import watcher
from tests.held import nothing_left

from .conftest import SECONDS, NewApp

POLLED = 0.05


@pytest.fixture(params=["watched", "polled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have files noticed by the kernel alone, or by looks alone."""
    if request.param == "polled":
        monkeypatch.setattr(watcher, "_folders", watcher._NoFolders)
        monkeypatch.setattr(watcher, "POLL_SECONDS", POLLED)
    elif sys.platform != "linux":
        pytest.skip("only Linux tells of new files")
    monkeypatch.setattr(watcher, "LOOK_SECONDS", 10 * SECONDS)
    return str(request.param)


@pytest.fixture
def app(new_app: NewApp, mode: OAutomMode) -> OAutom:
    return new_app(mode)


def until(vect: Vect, is_so: Callable[[], bool]) -> None:
    """Drive until something is so."""
    end = monotonic() + SECONDS
    while not is_so():
        assert monotonic() < end, vect.status()
        with suppress(TimeoutError):
            vect.wait(0.02)


def waiting(app: OAutom, path: Any, **options: Any) -> Vect:
    """Return a Vect of which a step waits for a path."""
    flow = Flow("wait for it", app)
    FileExecution("file", flow, path, **options)
    vect = app.start(flow)
    until(vect, lambda: vect.steps["file"].state == "running")
    return vect


def check(app: OAutom, vect: Vect) -> None:
    flow = app.flow(vect.flow.name)
    check_history(app.log.read(), flow)
    assert_replays(app.log, flow)


def make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def rename(path: Path) -> None:
    other = path.with_name("other")
    make(other)
    other.rename(path)


def rename_the_folder(path: Path) -> None:
    made = path.parent.with_name("made")
    make(made / path.name)
    if path.parent.exists():
        shutil.rmtree(path.parent)
    made.rename(path.parent)


def link(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/")


def folder(path: Path) -> None:
    path.mkdir(parents=True)


def again(path: Path) -> None:
    """Make the folder, take it away, and make it again with the file."""
    for _ in range(3):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(path.parent)
    make(path)


@pytest.mark.parametrize("come", [make, rename, rename_the_folder, link, folder, again])
@pytest.mark.parametrize("place", ["file", "in/a/folder/file"])
def test_however_a_file_comes_it_is_found(
    way: str, app: OAutom, tmp_path: Path, place: str, come: Callable[[Path], None]
) -> None:
    path = tmp_path / "watched" / place
    path.parents[place.count("/")].mkdir()
    vect = waiting(app, path)
    make(path.parents[place.count("/")] / "another file")
    come(path)
    assert vect.wait(SECONDS) == "success"
    assert vect.result("file") == str(path)
    check(app, vect)


def test_what_is_there_is_not_waited_for(app: OAutom, tmp_path: Path) -> None:
    flow = Flow("ready", app, params={"path": Path})
    ready = FileExecution("file", flow, flow.param("path"))
    PythonExecution("read", flow, lambda path: Path(path).read_text(), [ready])
    (tmp_path / "file").write_text("read me")
    vect = app.start(flow, {"path": tmp_path / "file"})
    assert vect.wait(SECONDS) == "success"
    assert vect.result("read") == "read me"
    check(app, vect)


def test_a_relative_path_is_of_the_folder_of_the_program(
    app: OAutom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    vect = waiting(app, "in/file")
    make(tmp_path / "in/file")
    assert vect.wait(SECONDS) == "success"
    assert vect.result("file") == "in/file"


def test_many_files_need_one_thread_and_no_worker(new_app: NewApp, tmp_path: Path) -> None:
    app = new_app(OAutomMode.background, max_workers=1)
    flow = Flow("many", app)
    files = [FileExecution(f"{n}", flow, tmp_path / f"{n % 10}" / f"{n}") for n in range(100)]
    BashExecution("work", flow, "true")
    before = threading.active_count()
    vect = app.start(flow)
    until(vect, lambda: vect.steps["work"].state == "success")
    until(vect, lambda: all(vect.steps[file.name].state == "running" for file in files))
    assert threading.active_count() <= before + 3  # scheduler, watcher, worker
    for n in range(100):
        make(tmp_path / f"{n % 10}" / f"{n}")
    assert vect.wait(SECONDS) == "success"
    check(app, vect)


def test_a_cancel_ends_the_wait(way: str, app: OAutom, tmp_path: Path) -> None:
    vect = waiting(app, tmp_path / "file")
    vect.cancel("not today")
    assert vect.wait(SECONDS) == "cancelled"
    make(tmp_path / "file")
    assert vect.steps["file"].state == "cancelled"
    vect.retry()
    assert vect.wait(SECONDS) == "success"
    check(app, vect)


def test_its_own_timeout_ends_the_wait_and_that_of_its_flow_does_not(
    app: OAutom, tmp_path: Path
) -> None:
    flow = Flow("hurried", app, timeout=0.01, retry=RetryPolicy(max_attempts=3, delay=0))
    FileExecution("late", flow, tmp_path / "never", timeout=0.05)
    FileExecution("patient", flow, tmp_path / "file")
    vect = app.start(flow)
    until(vect, lambda: vect.steps["late"].state == "failed")
    assert vect.steps["late"].error == "it took longer than its timeout of 0.05 seconds"
    assert vect.steps["late"].attempt == 1  # no policy has it wait again
    make(tmp_path / "file")
    assert vect.wait(SECONDS) == "failed"
    assert vect.steps["patient"].state == "success"
    check(app, vect)


def test_it_is_explained_what_is_waited_for(app: OAutom, tmp_path: Path) -> None:
    vect = waiting(app, tmp_path / "file", timeout=3600)
    told = vect.explain("file")
    assert f"`file` waits for file `{tmp_path / 'file'}` until " in told
    vect.cancel()
    vect.wait(SECONDS)


def test_a_closed_app_waits_no_more_and_leaves_nothing_open(tmp_path: Path) -> None:
    with nothing_left(), OAutom(mode="background") as app:
        waiting(app, tmp_path / "file")


PROGRAM = dedent(
    """
    import os, signal, sys
    from oautom import FileExecution, Flow, OAutom, SqliteEventLog

    app = OAutom("background", log=SqliteEventLog(sys.argv[1]))
    flow = Flow("wait for it", app)
    FileExecution("file", flow, sys.argv[2])
    vect = app.start(flow, vect_id="the one")
    while vect.steps["file"].state != "running":
        pass
    os.kill(os.getpid(), signal.SIGKILL)
    """
)


@pytest.mark.parametrize("when", ["between two lives", "in the second life"])
def test_it_goes_on_waiting_when_its_program_has_died(
    new_app: NewApp, tmp_path: Path, when: str
) -> None:
    log, path = tmp_path / "log.db", tmp_path / "in/a/folder"
    command = [sys.executable, "-c", PROGRAM, str(log), str(path)]
    assert subprocess.run(command, timeout=6 * SECONDS, check=False).returncode == -SIGKILL
    if when == "between two lives":
        make(path)
    app = new_app(log=SqliteEventLog(log))
    FileExecution("file", Flow("wait for it", app), path)
    (vect,) = app.recover()
    if when == "in the second life":
        with pytest.raises(TimeoutError):
            vect.wait(0.1)
        make(path)
    assert vect.wait(SECONDS) == "success"
    assert vect.result("file") == str(path)
    names = [event.name for event in vect.events()]
    assert "vect.recovered" in names
    assert [name for name in names if name.startswith("step.")] == [
        "step.started",
        "step.succeeded",
    ]
    check(app, vect)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        (None, "path must be text or a Path, not None"),
        (b"bytes", "path must be text"),
        ("", "path must not be blank"),
        ("a\0b", "NUL"),
        ("half \ud800", "path must be text"),
        (3, "path must be text or a Path, not 3"),
    ],
)
def test_a_path_that_is_none_is_refused(app: OAutom, path: Any, what: str) -> None:
    flow = Flow("wrong", app, params={"path": str})
    with pytest.raises(FlowError, match="step 'file' of flow 'wrong': path must") as caught:
        FileExecution("file", flow, path)
    assert what in str(caught.value)
    if isinstance(path, str) and path.isascii():  # it may come at a start as well
        FileExecution("given", flow, flow.param("path"))
        vect = app.start(flow, {"path": path})
        assert vect.wait(SECONDS) == "failed"
        assert what in str(vect.steps["given"].error)


def test_what_cannot_be_a_path_is_refused_before_the_start(app: OAutom) -> None:
    flow = Flow("wrong", app, params={"count": int})
    FileExecution("file", flow, flow.param("count"))
    with pytest.raises(FlowError, match=r"takes path: .*is given param\('count'\), which is int"):
        flow.validate()


def test_it_is_simulated_and_explored(app: OAutom) -> None:
    flow = Flow("played", app)
    ready = FileExecution("file", flow, "/never/there", timeout=60)
    PythonExecution("read", flow, str.upper, [ready])
    for crash_at in ([], ("after", 2), ("before", 3)):
        outcomes = {"file": "/in/file"}
        vect = simulate(flow, durations={"file": 30}, outcomes=outcomes, crash_at=crash_at)
        assert (vect.state, vect.result("file")) == ("success", "/in/file")
    assert simulate(flow, durations={"file": 90}).steps["file"].state == "failed"
    assert [end.state for end in explore(flow, outcomes={"file": OSError("no")}).ends] == ["failed"]
    assert [end.state for end in explore(flow).ends] == ["success"]
