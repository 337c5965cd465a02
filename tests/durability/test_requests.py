"""What other processes ask of an engine: it is woken without polling, and carried out once."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    LogCorruptError,
    LogError,
    NotJsonError,
    SettingError,
    SqliteEventLog,
    UnknownVectError,
)
from oautom.events import Request

from .logs import begin, files_of, in_fork, make, reader, run, run_of, runs, said, write

ASK = "SqliteEventLog(path, read_only=True).ask('v', 'cancel', reason='ü')\nprint(time.monotonic())"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(tmp_path / "runs.db", runs("v"))


@pytest.fixture
def log(path: Path) -> Any:
    with closing(SqliteEventLog(path)) as log:
        yield log


def listen(log: SqliteEventLog, wake: Callable[[], None]) -> threading.Thread:
    """Have `wake` called, and return the thread that will."""
    before = threading.enumerate()
    log.listen(wake)
    (thread,) = (
        each
        for each in threading.enumerate()
        if each.name == "oautom-wakeup" and each not in before
    )
    return thread


def test_another_process_wakes_the_engine_within_a_second(log: SqliteEventLog, path: Path) -> None:
    woken: list[float] = []
    is_woken = threading.Event()

    def wake() -> None:
        woken.append(time.monotonic())
        is_woken.set()

    log.listen(wake)
    assert log.requests() == []
    asked = float(run(ASK, path))
    assert is_woken.wait(5)
    assert woken[0] < asked + 1
    assert log.requests() == [Request(1, "v", "cancel", {"reason": "ü"})]


def test_the_engine_waits_without_polling(log: SqliteEventLog) -> None:
    thread = listen(log, lambda: None)

    def times_woken() -> int:
        status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
        return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])

    wakes = -1
    while wakes != times_woken():  # until it has come to its wait
        wakes = times_woken()
        time.sleep(0.05)
    time.sleep(0.3)
    assert times_woken() == wakes


def test_requests_are_returned_once_and_gone_with_the_next_commit(
    log: SqliteEventLog, path: Path
) -> None:
    log.ask("v", "cancel", reason="first")
    log.ask("v", "cancel")

    assert [request.data for request in log.requests()] == [{"reason": "first"}, {}]
    assert log.requests() == []
    log.ask("v", "cancel", reason="later")
    assert list(log.commit()) == []
    assert [request.data for request in log.requests()] == [{"reason": "later"}]
    log.close()

    with closing(SqliteEventLog(path)) as again:  # the commit was missing
        assert [request.data for request in again.requests()] == [{"reason": "later"}]
        write(again, run_of("w", 6))
    with closing(SqliteEventLog(path)) as again:
        assert again.requests() == []
        assert again.last_seq == 10


def test_what_was_requested_is_given_back_by_a_discard(log: SqliteEventLog, path: Path) -> None:
    log.ask("v", "cancel", reason="first")
    taken = log.requests()
    log.append(None, run_of("w", 6)[0])
    log.discard()

    assert log.requests() == taken
    assert list(log.commit()) == []
    assert log.requests() == []


CARRY_OUT = """
log = SqliteEventLog(path)
(request,) = log.requests()
for event in SqliteEventLog(sys.argv[2], read_only=True).read():
    log.append(None, event) if event.seq > log.last_seq else None
print('ready', flush=True)
sys.stdin.readline()
log.commit()
print('committed', flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_request_goes_with_the_events_that_come_of_it(
    path: Path, tmp_path: Path, is_committed: bool
) -> None:
    more = make(tmp_path / "more.db", runs("v", "w"))
    reader(path).ask("v", "cancel")
    with begin(CARRY_OUT, path, more) as engine:
        assert said(engine) == "ready"
        if is_committed:
            assert engine.stdin is not None
            engine.stdin.write("\n")
            assert said(engine) == "committed"
        engine.kill()

    with closing(SqliteEventLog(path)) as log:
        assert (log.last_seq, len(log.requests())) == ((10, 0) if is_committed else (5, 1))


def test_what_is_asked_while_nobody_listens_waits_for_the_next_engine(path: Path) -> None:
    run(ASK, path)
    assert files_of(path) == {"runs.db"}
    with closing(SqliteEventLog(path)) as log:
        assert [request.vect for request in log.requests()] == ["v"]


def test_a_pipe_that_a_dead_engine_has_left_is_used_again(path: Path) -> None:
    os.mkfifo(path.with_name("runs.db-wake"))
    reader(path).ask("v", "cancel")  # does not hang
    is_woken = threading.Event()
    with closing(SqliteEventLog(path)) as log:
        log.listen(is_woken.set)
        reader(path).ask("v", "cancel")
        assert is_woken.wait(5)
        assert len(log.requests()) == 2
    assert files_of(path) == {"runs.db"}


def test_more_wake_ups_than_the_pipe_holds_do_not_block(log: SqliteEventLog, path: Path) -> None:
    is_woken, go_on = threading.Event(), threading.Event()

    def wake() -> None:
        is_woken.set()
        go_on.wait(20)

    log.listen(wake)
    log.ask("v", "cancel")
    is_woken.wait(20)
    fd = os.open(path.with_name("runs.db-wake"), os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while os.write(fd, b"!" * 4096):
            pass
    os.close(fd)
    log.ask("v", "cancel")
    go_on.set()
    assert len(log.requests()) == 2


def test_a_file_in_the_place_of_the_pipe_is_told(log: SqliteEventLog, path: Path) -> None:
    path.with_name("runs.db-wake").write_text("mine")
    with pytest.raises(LogError, match=r"the pipe '.*runs.db-wake' cannot be made"):
        log.listen(print)
    log.ask("v", "cancel")
    assert path.with_name("runs.db-wake").read_text() == "mine"


def test_the_last_who_listens_is_woken(log: SqliteEventLog) -> None:
    first, second = threading.Event(), threading.Event()
    log.listen(first.set)
    log.listen(second.set)
    log.ask("v", "cancel")
    assert second.wait(5)
    assert not first.is_set()
    assert log._wakeup is not None
    log._wakeup.close()
    log._wakeup.close()


def test_a_log_may_be_closed_while_whom_it_wakes_is_busy(log: SqliteEventLog) -> None:
    is_woken, go_on = threading.Event(), threading.Event()

    def wake() -> None:
        is_woken.set()
        go_on.wait(20)

    thread = listen(log, wake)
    log.ask("v", "cancel")
    assert is_woken.wait(5)
    log.close()
    go_on.set()
    thread.join(5)
    assert not thread.is_alive()


def test_a_log_may_be_closed_by_whom_it_wakes(log: SqliteEventLog) -> None:
    closed = threading.Event()

    def close() -> None:
        log.close()
        closed.set()

    log.listen(close)
    log.ask("v", "cancel")
    assert closed.wait(5)
    with pytest.raises(LogError, match="is closed; open it again"):
        log.requests()


def test_a_request_that_was_damaged_is_told(log: SqliteEventLog, path: Path) -> None:
    log.ask("v", "cancel")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE requests SET data = '{'")
        connection.commit()
    with pytest.raises(LogCorruptError, match="a request is no JSON"):
        log.requests()


def test_a_pipe_that_may_not_be_used_is_told(path: Path, log: SqliteEventLog) -> None:
    path.with_name("runs.db-wake").symlink_to("runs.db-wake")  # to itself
    with pytest.raises(LogError, match="cannot be written"):
        reader(path).ask("v", "cancel")
    assert len(log.requests()) == 1  # the next engine finds it


def test_a_fork_may_ask(log: SqliteEventLog) -> None:
    assert in_fork(lambda: log.ask("v", "cancel")) == "None"
    assert len(log.requests()) == 1


def test_what_cannot_be_asked_is_refused(path: Path) -> None:
    log = reader(path)

    with pytest.raises(
        SettingError, match=r"action must be one of 'cancel', .*'reject', not 'dance'"
    ):
        log.ask("v", "dance")
    with pytest.raises(UnknownVectError, match="the log has no vect 'x'"):
        log.ask("x", "cancel")
    with pytest.raises(NotJsonError, match="is a set that JSON cannot keep"):
        log.ask("v", "cancel", reason={1})
