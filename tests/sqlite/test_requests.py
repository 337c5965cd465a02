"""What other processes ask of an engine: it is woken without polling, and carried out once."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from oautom import LogError, NotJsonError, SettingError, SqliteEventLog, UnknownVectError
from oautom.events import Request
from oautom.events.sqlite import wakeup

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


@pytest.fixture
def unwoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have whoever asks die before it wakes the engine."""
    monkeypatch.setattr("oautom.events.sqlite.reader.send", lambda path: None)


def name_of(path: Path) -> bytes:
    """The name under which the engine of a log is woken."""
    stat = path.stat()
    return f"\0oautom-wake-{stat.st_dev}-{stat.st_ino}".encode()


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


def test_the_engine_looks_now_and_then_and_sleeps_in_between(
    log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 1 < wakeup.LOOK_SECONDS < 5
    monkeypatch.setattr(wakeup, "LOOK_SECONDS", 60.0)
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


def test_more_wake_ups_than_the_system_holds_do_not_block(log: SqliteEventLog, path: Path) -> None:
    is_woken, go_on = threading.Event(), threading.Event()

    def wake() -> None:
        is_woken.set()
        go_on.wait(20)

    log.listen(wake)
    log.ask("v", "cancel")
    is_woken.wait(20)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.setblocking(False)
        with suppress(BlockingIOError):
            while sending.sendto(b"!", name_of(path)):
                pass
    log.ask("v", "cancel")
    go_on.set()
    assert len(log.requests()) == 2


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


def test_a_fork_may_ask_by_a_log_of_its_own(path: Path, log: SqliteEventLog) -> None:
    assert in_fork(lambda: log.ask("v", "cancel")).startswith("EngineError")
    assert in_fork(lambda: reader(path).ask("v", "cancel")) == "1"
    assert len(log.requests()) == 1


def test_what_cannot_be_asked_is_refused(path: Path) -> None:
    log = reader(path)

    with pytest.raises(
        SettingError, match=r"action must be one of 'cancel', .*'backfill', 'start', not 'dance'"
    ):
        log.ask("v", "dance")
    with pytest.raises(UnknownVectError, match="the log has no vect 'x'"):
        log.ask("x", "cancel")
    with pytest.raises(NotJsonError, match="is a set that JSON cannot keep"):
        log.ask("v", "cancel", reason={1})


# What is asked is heard, whatever becomes of the wake-up


@pytest.mark.usefixtures("unwoken")
def test_what_nobody_is_woken_for_is_heard_by_looking(
    log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "LOOK_SECONDS", 0.02)
    is_woken = threading.Event()
    log.listen(is_woken.set)
    assert not is_woken.wait(0.1)  # there is nothing to be heard
    log.ask("v", "cancel")

    assert is_woken.wait(10)
    assert [request.action for request in log.requests()] == ["cancel"]


@pytest.mark.usefixtures("unwoken")
def test_what_nobody_is_woken_for_is_heard_at_the_next_commit(
    log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "LOOK_SECONDS", 60.0)
    woken: list[int] = []
    is_woken = threading.Event()

    def wake() -> None:
        woken.append(len(log.requests()))
        is_woken.set()

    log.listen(wake)
    write(log, run_of("w", 6))
    log.ask("v", "cancel")
    log.ask("v", "pause")
    write(log, run_of("x", 11))

    assert is_woken.wait(10)
    write(log, run_of("y", 16))  # it is heard already
    assert log.requests() == []
    assert woken == [2]


def test_who_may_write_the_file_is_heard_whatever_else_it_may_not(
    path: Path,
) -> None:
    is_woken = threading.Event()
    with TemporaryDirectory() as folder:
        path = path.rename(Path(folder) / path.name)
        with closing(SqliteEventLog(path)) as log:
            log.listen(is_woken.set)
            path.parent.chmod(0o777)
            for each in path.parent.iterdir():
                each.chmod(0o666)
            asked = in_fork(lambda: reader(path).ask("v", "cancel"), as_nobody=True)
            assert (asked, is_woken.wait(10)) == ("1", True)


def test_a_name_that_somebody_has_taken_is_done_without(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "LOOK_SECONDS", 0.02)
    is_woken = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as taken:
        taken.bind(name_of(path))
        with closing(SqliteEventLog(path)) as log:
            log.listen(is_woken.set)
            log.ask("v", "cancel")
            assert is_woken.wait(10)


def test_a_system_without_such_names_has_the_look(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr("sys.platform", "darwin")
    is_woken = threading.Event()
    with closing(SqliteEventLog(path)) as log:
        log.listen(is_woken.set)
        log.ask("v", "cancel")
        assert is_woken.wait(10)


def test_who_wakes_goes_on_when_that_raises(
    log: SqliteEventLog, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []
    is_woken = threading.Event()

    def wake() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("can't start new thread")
        is_woken.set()

    log.listen(wake)
    log.ask("v", "cancel")
    while not calls:
        time.sleep(0.01)
    log.ask("v", "cancel")

    assert is_woken.wait(10)
    assert "can't start new thread" in caplog.text


def test_a_fork_does_not_keep_the_name(log: SqliteEventLog, path: Path) -> None:
    log.listen(print)

    def is_free() -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.bind(name_of(path))
            return "free"

    assert in_fork(lambda: os.close(os.dup(log._wakeup._socket.fileno()))).startswith(
        "OSError"
    )  # closed
    assert in_fork(is_free) == "OSError: [Errno 98] Address already in use"
    log.close()
    assert in_fork(is_free) == "free"


def test_all_that_stands_beside_a_log_can_be_copied(log: SqliteEventLog, path: Path) -> None:
    log.listen(print)
    (target := path.parent / "copy").mkdir()

    subprocess.run(f"cp {path}* {target}", shell=True, check=True, timeout=20)
    assert {each.name for each in target.iterdir()} == files_of(path)


# What has become of it


def test_who_asks_is_answered(log: SqliteEventLog, path: Path) -> None:
    done, refused, left = (log.ask("v", action) for action in ("cancel", "pause", "retry"))
    assert log.answer(done) is None
    assert len(log.requests()) == 3
    log.refuse(refused, "it is over")
    log.leave(left)
    write(log, run_of("w", 6))

    asking = reader(path)
    assert asking.answer(left) is None
    assert [request.id for request in log.requests()] == []
    assert [request.id for request in log.requests(again=True)] == [left]
    answers = [asking.answer(number) for number in (done, refused)]
    assert [(each.seq, each.refusal) for each in answers if each] == [
        (10, None),
        (10, "it is over"),
    ]


def test_answers_do_not_add_up(log: SqliteEventLog, path: Path) -> None:
    for _ in range(4):
        log.ask("v", "pause")
    log.requests()
    log.commit()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE answers SET time = time - 3601 WHERE id < 4")
        connection.commit()
    number = log.ask("v", "pause")
    log.requests()
    log.commit()

    assert [log.answer(each) is None for each in range(1, 6)] == [True, True, True, False, False]
    assert number == 5


@pytest.mark.parametrize("number", [0, -1, "1", None, 1.5, True, 2**63])
def test_what_is_no_number_of_a_request_is_refused(log: SqliteEventLog, number: Any) -> None:
    with pytest.raises(SettingError, match=r"number must be what ask\(\) has returned"):
        log.answer(number)


def test_what_was_carried_out_without_a_request_is_its_answer(
    log: SqliteEventLog, path: Path
) -> None:
    numbers = [reader(path).ask("v", "retry") for _ in range(2)]
    log.settle(numbers[0], 3)
    assert reader(path).answer(numbers[0])[:2] == (3, None)
    assert [request.id for request in log.requests()] == [numbers[1]]
    assert reader(path).take_back(numbers[0]) is False


def test_a_request_that_the_engine_has_taken_or_that_is_gone_is_not_settled_besides(
    log: SqliteEventLog, path: Path
) -> None:
    number, gone = (reader(path).ask("v", "retry") for _ in range(2))
    reader(path).take_back(gone)
    log.requests()
    log.refuse(number, "no")
    for each in (number, gone):
        log.settle(each, 1)
    log.commit()
    assert reader(path).answer(number).refusal == "no"
    assert reader(path).answer(gone) is None
