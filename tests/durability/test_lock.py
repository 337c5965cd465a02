"""One engine writes a log: the lock, and what becomes of it when its holder dies."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oautom import LogError, LogLockedError, SqliteEventLog

from .logs import begin, files_of, make, reader, run, run_of, runs, said, write

HOLD = """
log = SqliteEventLog(path)
print(os.getpid())
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(tmp_path / "runs.db", runs("v"))


def test_a_second_process_is_refused_at_once_and_told_who_writes(path: Path) -> None:
    with begin(HOLD, path) as holder:
        pid = int(said(holder))
        before = path.read_bytes()
        start = time.monotonic()
        with pytest.raises(LogLockedError, match=f"is being written by process {pid}, ") as caught:
            SqliteEventLog(path)
        assert time.monotonic() - start < 1
        assert caught.value.pid == pid
        assert "read meanwhile: SqliteEventLog(path, read_only=True)" in str(caught.value)
        assert path.read_bytes() == before
        assert reader(path).last_seq == 5
        holder.communicate()


def test_a_second_log_of_one_process_is_refused(path: Path) -> None:
    log = SqliteEventLog(path)
    with pytest.raises(LogLockedError) as caught:
        SqliteEventLog(path)
    assert caught.value.pid == os.getpid()
    write(log, run_of("w", 6))  # the first one does not suffer
    log.close()


def test_another_name_of_the_file_has_the_same_lock(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(path)
    log = SqliteEventLog(tmp_path / "link.db")
    with pytest.raises(LogLockedError):
        SqliteEventLog(path)
    log.close()
    assert files_of(path) == {"runs.db"}


def test_a_holder_that_is_killed_holds_nothing(path: Path) -> None:
    with begin(HOLD, path) as holder:
        said(holder)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert "runs.db-lock" in files_of(path)

    log = SqliteEventLog(path)
    write(log, run_of("w", 6))
    log.close()
    assert files_of(path) == {"runs.db"}


FORK = """
log = SqliteEventLog(path)
if os.fork() == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
    os._exit(0)
sys.stdin.read()
"""


def test_a_fork_of_a_holder_that_is_killed_holds_nothing(path: Path) -> None:
    with begin(FORK, path) as holder:
        child = int(said(holder))
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        try:
            SqliteEventLog(path).close()
        finally:
            os.kill(child, signal.SIGKILL)


def test_programs_that_a_holder_has_started_hold_nothing(path: Path) -> None:
    code = (
        "log = SqliteEventLog(path)\nos.system('sleep 60 >/dev/null & echo $!')\nsys.stdin.read()"
    )
    with begin(code, path) as holder:
        child = int(said(holder))
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        try:
            SqliteEventLog(path).close()
        finally:
            os.kill(child, signal.SIGKILL)


def test_whoever_comes_after_a_close_has_the_lock_alone(path: Path) -> None:
    for _ in range(3):
        log = SqliteEventLog(path)
        assert "written by process" in run(
            "try: SqliteEventLog(path)\nexcept LogLockedError as error: print(error)", path
        )
        log.close()


@pytest.mark.parametrize("take_away", [Path.unlink, lambda file: file.rename(f"{file}-moved")])
def test_a_lock_file_that_its_holder_takes_away_just_now_is_made_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, take_away: Callable[[Path], None]
) -> None:
    flock, times = fcntl.flock, iter([True, False])

    def flock_late(fd: int, how: int) -> None:
        if next(times):
            take_away(path.with_name("runs.db-lock"))
            if take_away is not Path.unlink:
                path.with_name("runs.db-lock").touch()
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    log = SqliteEventLog(path)
    monkeypatch.undo()
    with pytest.raises(LogLockedError):
        SqliteEventLog(path)
    log.close()


def test_a_lock_file_that_says_nothing_does_not_matter(path: Path) -> None:
    log = SqliteEventLog(path)
    path.with_name("runs.db-lock").write_text("")
    with pytest.raises(LogLockedError, match="by another process, and one at a time may") as caught:
        SqliteEventLog(path)
    assert caught.value.pid is None
    log.close()


def test_a_reader_has_no_lock_and_writes_nothing(path: Path) -> None:
    log = reader(path)

    for write_it in (
        lambda: log.append(None, run_of("w", 6)[0]),
        lambda: log.keep_position("billing", 3),
        lambda: log.listen(print),
        log.requests,
    ):
        with pytest.raises(LogError, match="is open for reading only; open it without that"):
            write_it()
    SqliteEventLog(path).close()
    log.close()
    assert log.commit() == []
