"""What attempts write, in the file: with the event that ends them, while they run, and no more."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from oautom import (
    BashExecution,
    Context,
    Flow,
    LogCorruptError,
    OAutom,
    OAutomMode,
    PythonExecution,
    SqliteEventLog,
)
from oautom.events.sqlite import texts
from oautom.events.texts import LogBuffer
from tests.held import SECONDS, until

from .logs import begin, event, in_fork, make, reader, run, run_of, runs, said, write

KEY = ("v", "s0", 1)
LONG = os.environ.get("OAUTOM_CRASH_LONG") == "1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteEventLog]:
    log = SqliteEventLog(path, synchronous="NORMAL")
    yield log
    log.close()


@pytest.fixture
def _nobody_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing be in the file but by an event."""
    monkeypatch.setattr(texts, "SAVE_SECONDS", 1000.0)


def rows(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        columns = "vect, step, attempt, start, length(chunk)"
        return connection.execute(f"SELECT {columns} FROM log_texts").fetchall()


def begun(log: SqliteEventLog, limit_bytes: int = 2**20) -> LogBuffer:
    """Write the events of an attempt that runs, and return where it writes."""
    write(log, run_of("v", 1)[:3])
    buffer = LogBuffer(limit_bytes)
    assert log.keep_text(KEY, buffer)
    return buffer


# With the event


@pytest.mark.usefixtures("_nobody_saves")
def test_what_an_attempt_has_written_is_there_with_the_event_that_ends_it(
    log: SqliteEventLog, path: Path
) -> None:
    buffer = begun(log)
    buffer.write(b"heard\n")
    assert reader(path).text(KEY) is None
    assert log.text(KEY) == (0, b"heard\n")

    buffer.is_over = True
    write(log, run_of("v", 1)[3:4])

    assert reader(path).text(KEY) == log.text(KEY) == (0, b"heard\n")
    assert [each.name for each in reader(path).read()][-1] == "step.succeeded"
    assert log.last_seq == 4  # no event of its own
    log.verify()


@pytest.mark.usefixtures("_nobody_saves")
def test_what_is_taken_back_is_not_there_and_comes_with_the_event_that_is(
    log: SqliteEventLog, path: Path
) -> None:
    buffer = begun(log)
    buffer.write(b"heard\n")
    log.append(None, run_of("v", 1)[3])
    log.discard()
    log.append(None, event(4, "w", "vect.created", None, "pending", params={}, graph={}))
    log.commit()
    assert rows(path) == []

    buffer.is_over = True
    write(log, [event(5, "v", "step.succeeded", "running", "success", "s0", output=None)])
    assert reader(path).text(KEY) == (0, b"heard\n")


@pytest.mark.usefixtures("_nobody_saves")
def test_of_much_only_a_part_goes_with_the_event_and_the_rest_is_saved_before(
    log: SqliteEventLog, path: Path
) -> None:
    buffer, saved = begun(log), threading.Event()
    log.save_text(KEY, saved.set)
    assert saved.is_set()  # it has written nothing
    buffer.write(b"x" * 300_000)

    saved.clear()
    log.save_text(KEY, saved.set)
    assert saved.wait(SECONDS)
    assert reader(path).text(KEY) == (0, b"x" * 300_000)
    assert max(length for *_, length in rows(path)) <= 2**16

    buffer.write(b"y" * 300_000)
    write(log, run_of("v", 1)[3:4])  # ended by somebody else: what it writes is not waited for
    assert reader(path).text(KEY) == (0, b"x" * 300_000 + b"y" * 2**16)
    log.close()
    assert reader(path).text(KEY) == (0, b"x" * 300_000 + b"y" * 300_000)


def test_an_attempt_that_is_over_takes_no_memory_and_leaves_no_thread(
    log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "SAVE_SECONDS", 0.01)
    buffer = begun(log)
    buffer.write(b"heard\n")
    buffer.is_over = True
    write(log, run_of("v", 1)[3:4])
    assert log._texts.live == {}
    until(lambda: not [each for each in threading.enumerate() if each.name == "oautom-texts"])

    late = LogBuffer(100)
    assert log.keep_text(KEY, late)  # a thread begins anew
    late.write(b"late")
    until(lambda: log._texts.live[KEY].saved_bytes == 4)
    late.is_over = True  # without any event
    until(lambda: not log._texts.live)


# While it runs


def test_others_see_within_a_second_what_an_attempt_writes(path: Path) -> None:
    begun_, go = threading.Event(), threading.Event()

    def step() -> None:
        print("so far")
        begun_.set()
        assert go.wait(SECONDS)

    with OAutom(OAutomMode.background, log=path) as app:
        flow = Flow("f", app)
        PythonExecution("s0", flow, step)
        vect = app.start(flow, vect_id="v")
        assert begun_.wait(SECONDS)
        other = reader(path)
        until(lambda: other.text(KEY) == (0, b"so far\n"))
        assert [each.state for each in vect.steps["s0"].attempts] == ["running"]
        go.set()
        assert vect.wait(SECONDS) == "success"


KILLED = """
import time

def step(context):
    for number in range(10**9):
        print('line', number)
        time.sleep(0.001)

app = OAutom(log=path)
flow = Flow('f', app)
PythonExecution('s0', flow, step)
BashExecution('s1', flow, 'while true; do echo line $((i++)); sleep 0.001; done')
if sys.argv[2] == 'begin':
    app.run(flow, vect_id='v')
"""


def test_what_others_have_seen_survives_a_kill(path: Path) -> None:
    make(path, [])
    with begin(KILLED, path, "begin") as process:
        assert said(process) == "line 0"
        other, seen = reader(path), {}
        keys = [KEY, ("v", "s1", 1)]

        def is_seen() -> bool:
            seen.update({key: text.content for key in keys if (text := other.text(key))})
            return len(seen) == len(keys) and all(len(each) > 200 for each in seen.values())

        until(is_seen, 20)
        process.kill()
    for key in keys:
        text = reader(path).text(key)
        assert text is not None
        assert text.content.startswith(seen[key])
    with closing(SqliteEventLog(path)) as log:
        log.verify()


DIES = """
import signal
from oautom.events.sqlite import texts

texts.SAVE_SECONDS = 0.01
other = SqliteEventLog(path, read_only=True)

def die(context):
    name = 'undo' if context.output else 'work'
    print(name, context.attempt)
    number = -context.attempt if context.output else context.attempt
    if context.attempt == 1:
        while not other.text(('v', 'a', number)):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)
    return 'done'

app = OAutom(log=path)
flow = Flow('f', app)
a = PythonExecution('a', flow, die, compensate=die)
a >> PythonExecution('bad', flow, int, ('no number',))
vect = app.run(flow, vect_id='v')
print('attempts')
for each in vect.steps['a'].attempts:
    print(each.number, each.state, each.error, each.end_date is not None, repr(each.log_text))
"""


def test_attempts_that_a_dead_program_has_cut_short_are_interrupted(path: Path) -> None:
    make(path, [])
    for _ in range(2):
        with begin(DIES, path) as process:
            assert process.wait(30) == -9
    assert run(DIES, path).partition("attempts\n")[2].splitlines() == [
        r"1 interrupted None True 'work 1\n'",
        r"2 success None True 'work 2\n'",
        r"-1 interrupted None True 'undo 1\n'",
        r"-2 success None True 'undo 2\n'",
    ]


@pytest.mark.parametrize("megabytes", [10, 100] if LONG else [10])
def test_much_is_kept_within_bounds(path: Path, megabytes: int) -> None:
    with OAutom(log=path, executor="inline") as app:
        flow = Flow("f", app)

        def step() -> None:
            line = "x" * 99
            for _ in range(megabytes * 10_000):
                print(line)

        command = f"head -c {megabytes * 10**6} /dev/zero | tr '\\0' 'x'; echo; echo end"
        PythonExecution("s0", flow, step)
        BashExecution("s1", flow, command)
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            vect = app.run(flow, vect_id="v")
        assert vect.state == "success"
    kept = reader(path).text(KEY)
    assert kept is not None
    assert (kept.missing_bytes, len(kept.content)) == (megabytes * 10**6 - 2**20, 2**20)
    last = reader(path).text(("v", "s1", 1))
    assert last is not None
    assert (len(last.content), last.content[-6:]) == (2**20, b"x\nend\n")
    assert path.stat().st_size < 8 * 2**20
    assert sum(length for *_, length in rows(path)) == 2 * 2**20


@pytest.mark.parametrize("steps", [1000] if LONG else [100])
def test_many_steps_side_by_side(path: Path, steps: int) -> None:
    together = threading.Barrier(steps)

    def step(name: str) -> None:
        together.wait(60)
        for number in range(50):
            print(f"{name} {number}")

    log = SqliteEventLog(path, synchronous="NORMAL")
    with OAutom(log=log, max_workers=steps) as app:
        flow = Flow("f", app)
        for number in range(steps):
            PythonExecution(f"s{number}", flow, step, (f"s{number}",))
        app.run(flow, vect_id="v")
    log.close()
    other = reader(path)
    for number in range(steps):
        text = other.text(("v", f"s{number}", 1))
        assert text is not None
        assert text.content.decode() == "".join(f"s{number} {each}\n" for each in range(50))


@pytest.mark.parametrize("limit", [1, 7, 1000, 2**16, 2**16 + 1, 10**6])
def test_the_file_holds_what_the_limit_says_however_it_comes(
    log: SqliteEventLog, path: Path, limit: int
) -> None:
    buffer = begun(log, limit)
    whole = os.urandom(500_000)
    for start in range(0, len(whole), 99_991):
        buffer.write(whole[start : start + 99_991])
        log._save_texts()
        end = min(start + 99_991, len(whole))
        kept = whole[max(0, end - limit) : end]
        assert reader(path).text(KEY) == (end - len(kept), kept) == log.text(KEY)
        assert sum(length for *_, length in rows(path)) == len(kept)


# What goes wrong


FULL_DISK = """
import resource

app = OAutom(log=path)
flow = Flow('f', app)
def step(context):
    limit = os.path.getsize(path) + int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    while not context.cancelled.wait(0.01):
        context.buffer.write(os.urandom(50_000))
PythonExecution('s0', flow, step, log_limit_bytes=10**9)
try:
    app.run(flow, vect_id='v')
except LogError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def test_a_full_disk_stops_the_run_as_where_an_event_cannot_be_written(path: Path) -> None:
    make(path, [])
    printed = run(FULL_DISK, path, 200_000)

    assert printed.startswith("the engine has stopped, its log cannot be written: log '")
    assert "the disk may be full or gone, or the file larger than this process may" in printed
    log = SqliteEventLog(path)
    log.verify()
    assert log.last_seq == 3
    log.close()


def test_a_file_that_is_kept_locked_is_waited_for(
    log: SqliteEventLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = begun(log)
    buffer.write(b"heard\n")
    connection = log._aside()
    connection.execute("PRAGMA busy_timeout=1")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert log._save_texts()
        assert log._refusal is None
    log._save_texts()
    assert reader(path).text(KEY) == (0, b"heard\n")


def test_a_system_without_threads_has_it_with_the_event(
    log: SqliteEventLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    buffer, called = begun(log), []
    buffer.write(b"x" * 300_000)
    log.save_text(KEY, lambda: called.append("then"))
    assert called == ["then"]
    assert reader(path).text(KEY) == (0, b"x" * 300_000)


def test_a_bug_where_it_is_saved_holds_no_answer_up(
    log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(written: object) -> bool:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(log, "_save_some", fail)
    buffer, saved = begun(log), threading.Event()
    buffer.write(b"x" * 300_000)
    log.save_text(KEY, saved.set)
    assert saved.wait(SECONDS)
    assert "what steps write is not saved" in caplog.text
    monkeypatch.undo()
    until(lambda: log._texts.live[KEY].saved_bytes == 300_000)


def test_what_is_no_text_in_the_file_is_reported_as_damage(path: Path) -> None:
    make(path, runs("v"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO log_texts VALUES ('v', 's0', 1, 0, 'text, no bytes')")
        connection.commit()
    with pytest.raises(LogCorruptError, match="what step 's0' of vect 'v' has written is no text"):
        reader(path).text(KEY)
    assert list(reader(path).read()) == runs("v")  # no event is concerned


def test_a_forked_child_writes_nothing(log: SqliteEventLog, path: Path) -> None:
    buffer = begun(log)
    buffer.write(b"of the parent\n")

    def child() -> bool:
        buffer.write(b"of the child\n")
        return log.keep_text(("v", "s1", 1), LogBuffer(10))

    assert in_fork(child).startswith("EngineError: log '")
    log._save_texts()
    assert reader(path).text(KEY) == (0, b"of the parent\n")
    assert rows(path) == [(*KEY, 0, 14)]


def test_a_closed_log_keeps_what_comes_later_in_memory_only(log: SqliteEventLog) -> None:
    buffer = begun(log)
    buffer.write(b"heard\n")
    log.close()
    buffer.write(b"late\n")
    assert log.text(KEY) == (0, b"heard\nlate\n")
    assert reader(log.path).text(KEY) == (0, b"heard\n")


def test_a_run_that_writes_nothing_begins_no_thread_and_writes_no_row(path: Path) -> None:
    with OAutom(log=path) as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, str)
        BashExecution("b", flow, "true")
        app.run(flow)
        assert "oautom-texts" not in [each.name for each in threading.enumerate()]
    assert rows(path) == []


def test_a_buffer_that_a_context_makes_is_the_one_that_is_kept(path: Path) -> None:
    seen: list[Context] = []

    def step(context: Context) -> None:
        assert context.written is None
        context.buffer.write(b"raw \xff")
        seen.append(context)

    with OAutom(log=path) as app:
        flow = Flow("f", app)
        PythonExecution("a", flow, step)
        assert app.run(flow).steps["a"].log_text == "raw \ufffd"
    assert seen[0].written is seen[0].buffer
