"""One engine writes a log: the lock, and what becomes of it when its holder dies."""

from __future__ import annotations

import fcntl
import gc
import os
import re
import resource
import shutil
import signal
import stat
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from oautom import LogError, LogLockedError, SqliteEventLog
from oautom.events.jsonl import write_jsonl
from oautom.events.sqlite import lock as filelock

from .logs import begin, files_of, in_fork, make, reader, run, run_of, runs, said, write

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


def test_a_reader_has_no_lock_and_writes_nothing(path: Path) -> None:
    log = reader(path)

    for write_it in (
        lambda: log.append(None, run_of("w", 6)[0]),
        lambda: log.keep_position("billing", 3),
        lambda: log.listen(print),
        log.requests,
    ):
        with pytest.raises(LogError, match="is open for reading only; open it without read_only"):
            write_it()
    SqliteEventLog(path).close()
    log.close()
    assert log.commit() == []


# Whatever the file is called


def second_engine(path: Path) -> str:
    code = "try: SqliteEventLog(path)\nexcept LogError as error: print(type(error).__name__, error)"
    return run(code, path)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_no_second_engine_comes_in_by_another_name(
    path: Path, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link(path, folder / "other.db")
    with closing(SqliteEventLog(path)) as log:
        with pytest.raises(LogLockedError) as caught:
            SqliteEventLog(folder / "other.db")
        assert caught.value.pid == os.getpid()
        told = second_engine(folder / "other.db")
        assert told.startswith("LogLockedError")
        assert f"by process {os.getpid()}," in told
        write(log, run_of("w", 6))
    with closing(SqliteEventLog(folder / "other.db")) as log:
        assert log.last_seq == 10
        assert second_engine(path).startswith("LogLockedError")


def test_no_second_engine_comes_in_where_files_beside_the_log_are_removed(path: Path) -> None:
    log = SqliteEventLog(path)
    log.listen(lambda: None)
    for name in files_of(path) - {"runs.db"}:
        path.with_name(name).unlink()
    assert second_engine(path).startswith("LogLockedError")


KILLED = """
log = SqliteEventLog(path)
for event in read_jsonl(sys.argv[2]): log.append(None, event)
log.commit()
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_engine_wrote_last_is_not_lost_by_another_name(
    path: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "other.db"
    os.link(path, other)
    write_jsonl(run_of("w", 6), tmp_path / "more.jsonl")
    with begin(
        "from oautom.events.jsonl import read_jsonl\n" + KILLED, path, tmp_path / "more.jsonl"
    ) as process:
        process.communicate(timeout=30)

    for read_only in (True, False):
        with pytest.raises(LogError, match=f"its other name is '{path}', under which it is open"):
            SqliteEventLog(other, read_only=read_only)
    with closing(SqliteEventLog(path)) as log:
        assert log.last_seq == 10
    for name in (other, path, other):
        with closing(SqliteEventLog(name)) as log:
            assert log.last_seq == 10
            log.verify()


def test_a_reader_by_another_name_is_told_that_it_would_miss_the_newest(path: Path) -> None:
    other = path.with_name("other.db")
    os.link(path, other)
    log = SqliteEventLog(path)
    with pytest.raises(LogError, match="open it under that name"):
        reader(other)
    log.close()
    assert reader(other).last_seq == 5


def test_a_log_that_was_moved_or_copied_is_its_own(path: Path, tmp_path: Path) -> None:
    SqliteEventLog(path).close()
    moved, copied = path.with_name("moved.db"), path.with_name("copied.db")
    shutil.copy(path, copied)
    path.rename(moved)
    for name in (moved, copied):
        with closing(SqliteEventLog(name)) as log:
            write(log, run_of("w", 6))


# The locks of SQLite


def test_to_look_who_writes_leaves_the_locks_of_sqlite_alone(path: Path) -> None:
    """The system takes them away when any descriptor of the file is closed."""
    log = SqliteEventLog(path)
    log.append(None, run_of("w", 6)[0])
    held = locks_of(path)
    assert len(held) > 1  # that of the engine, and those of the connection
    for _ in range(3):
        with pytest.raises(LogLockedError):
            SqliteEventLog(path)
        assert reader(path).last_seq == 5
        assert locks_of(path) == held
    log.close()
    assert locks_of(path) == []
    assert descriptors_of(path) == 0


def test_the_descriptor_of_a_log_is_closed_after_the_last_connection(path: Path) -> None:
    log = SqliteEventLog(path)
    events = log.read()
    other = reader(path)
    with other._database.reading() as connection:
        held = connection.execute("SELECT max(seq) FROM events").fetchall()
        log.close()
        assert "OFDLCK" not in "".join(locks_of(path))
        assert locks_of(path)  # of that connection: they were not taken away
        assert descriptors_of(path) > 1
    assert held == [(5,)]
    assert len(list(events)) == 5
    assert descriptors_of(path) == 0


def locks_of(path: Path) -> list[str]:
    """What locks the system knows of a file, without their numbers."""
    inode = path.stat().st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return [line.partition(":")[2] for line in lines if f":{inode} " in line]


def descriptors_of(path: Path) -> int:
    found = 0
    for each in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found += os.path.samefile(f"/proc/self/fd/{each}", path)
    return found


# Who has forgotten a log


def test_a_log_that_nobody_has_any_more_is_free(path: Path) -> None:
    log = SqliteEventLog(path)
    write(log, run_of("w", 6))
    log.listen(lambda: None)
    log.keep_position("billing", 3)
    del log
    gc.collect()

    assert descriptors_of(path) == 0
    assert files_of(path) == {"runs.db"}
    with closing(SqliteEventLog(path)) as log:
        assert (log.last_seq, log.position("billing")) == (10, 3)


def test_a_log_that_is_forgotten_in_a_fork_stays_with_the_parent(path: Path) -> None:
    logs = [SqliteEventLog(path)]

    def forget() -> str:
        logs.clear()
        gc.collect()
        return second_engine(path)

    assert in_fork(forget).startswith("LogLockedError")
    write(logs[0], run_of("w", 6))


# Links in the place of files that belong to a log


@pytest.mark.parametrize("ending", ["-journal", "-wal", "-shm", "-wake", "-lock"])
@pytest.mark.parametrize("is_new", [True, False])
def test_what_a_link_beside_a_log_leads_to_is_left_as_it_is(
    path: Path, ending: str, *, is_new: bool
) -> None:
    if is_new:
        path.unlink()
    precious = path.with_name("precious")
    precious.write_text("x" * 100_000)
    beside = path.with_name(path.name + ending)
    beside.symlink_to(precious)

    def use() -> None:
        with closing(SqliteEventLog(path)) as log:
            write(log, run_of("w", log.last_seq + 1))
            log.listen(lambda: None)

    if ending in ("-lock", "-wake"):  # of no use
        use()
    else:
        with pytest.raises(LogError, match=re.escape(str(beside))):
            use()
    assert precious.read_text() == "x" * 100_000
    assert beside.is_symlink()


# What the permissions are


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o600), (0, 0o600), (0o177, 0o600)])
def test_what_is_in_a_new_log_is_for_its_owner_only(tmp_path: Path, umask: int, mode: int) -> None:
    path = tmp_path / "new.db"
    before = os.umask(umask)
    try:
        log = SqliteEventLog(path)
        write(log, run_of("v", 1))
        log.listen(lambda: None)
    finally:
        os.umask(before)
    assert {each.name for each in tmp_path.iterdir() if "new.db" in each.name} == {
        f"new.db{ending}" for ending in ("", "-wal", "-shm")
    }
    for each in tmp_path.glob("new.db*"):
        assert stat.S_IMODE(each.stat().st_mode) == mode, each
    log.to_jsonl(tmp_path / "lines")
    assert stat.S_IMODE((tmp_path / "lines").stat().st_mode) == mode
    log.close()


def test_files_beside_a_log_have_its_permissions(path: Path) -> None:
    path.chmod(0o640)
    log = SqliteEventLog(path)
    write(log, run_of("w", 6))
    log.listen(lambda: None)
    assert {stat.S_IMODE(path.with_name(each).stat().st_mode) for each in files_of(path)} == {0o640}
    log.close()


# Where files have no locks of their own, a file beside the log has one


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filelock, "LIES_ON_FILE", False)


@pytest.mark.usefixtures("beside")
def test_a_lock_beside_the_log_keeps_others_out(path: Path, tmp_path: Path) -> None:
    log = SqliteEventLog(path)
    assert "runs.db-lock" in files_of(path)
    with pytest.raises(LogLockedError) as caught:
        SqliteEventLog(path)
    assert caught.value.pid == os.getpid()
    log.close()
    assert files_of(path) == {"runs.db"}
    SqliteEventLog(tmp_path / "new.db").close()


@pytest.mark.usefixtures("beside")
def test_a_lock_beside_a_log_of_several_names_is_refused(path: Path) -> None:
    os.link(path, path.with_name("other.db"))
    with pytest.raises(LogError, match=r"has several names \(hard links\), .*; keep one of them"):
        SqliteEventLog(path)


@pytest.mark.usefixtures("beside")
def test_a_link_in_the_place_of_a_lock_is_not_followed(path: Path) -> None:
    precious = path.with_name("precious")
    precious.write_text("x")
    path.with_name("runs.db-lock").symlink_to(precious)
    with pytest.raises(LogError, match="cannot be locked"):
        SqliteEventLog(path)
    assert precious.read_text() == "x"


@pytest.mark.usefixtures("beside")
def test_a_lock_beside_a_log_that_cannot_be_written_is_let_go_of(path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(LogError, match=r"log '.*runs.db' cannot be locked: .*File too large"):
            SqliteEventLog(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    SqliteEventLog(path).close()


@pytest.mark.usefixtures("beside")
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
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(LogLockedError):
        SqliteEventLog(path)
    log.close()


@pytest.mark.usefixtures("beside")
def test_a_lock_file_that_says_nothing_does_not_matter(path: Path) -> None:
    log = SqliteEventLog(path)
    path.with_name("runs.db-lock").write_text("")
    refused = "by another process, and only one engine at a time may"
    with pytest.raises(LogLockedError, match=refused) as caught:
        SqliteEventLog(path)
    assert caught.value.pid is None
    log.close()
