"""What a client makes of a file that is no log, or none that it can use: it says so."""

from __future__ import annotations

import inspect
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from oautom import (
    ApprovalExecution,
    Client,
    Flow,
    LogCorruptError,
    LogError,
    LogVersionError,
    NoEngineError,
    OAutom,
    OAutomMode,
    SettingError,
    SqliteEventLog,
    UnknownPlanError,
    WithdrawnError,
)
from oautom.client import follow, steering
from oautom.events.sqlite import file as database
from oautom.events.sqlite.lock import FileLock

from .logs import files_of, in_fork, make, run_of, runs, write

FILES = Path(__file__).resolve().parents[1] / "golden" / "files"
NEWEST = len(database.MIGRATIONS)
GIVEN: dict[str, Any] = {"by": "Ann", "flow": "flow", "id": "v", "number": 1, "step": "a"}
GIVEN |= {"attempt": 1, "first": "2026-11-24", "last": "2026-11-24", "vect": "v"}
STEERING = {"approve", "backfill", "cancel", "pause", "reject", "resume", "retry", "start"}


def use(client: Client, name: str) -> object:
    """Use a member, whatever it is, as somebody would who just looks."""
    member = inspect.getattr_static(Client, name)
    if isinstance(member, property):
        return getattr(client, name)
    parameters = inspect.signature(member).parameters.values()
    given = {
        each.name: GIVEN[each.name]
        for each in parameters
        if each.default is each.empty and each.name != "self"
    }
    if name == "wait":
        given["timeout"] = 0.05
    try:
        found = getattr(client, name)(**given)
    except UnknownPlanError:  # it has looked
        return None
    return next(found) if name == "follow" else found


MEMBERS = sorted(name for name in vars(Client) if name[0] != "_")
Making = Callable[[Path], object]


def absent(path: Path) -> None:
    pass


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("these are notes of mine\n" * 100)


def folder(path: Path) -> None:
    path.mkdir()


def of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE mine (x); INSERT INTO mine VALUES (1);")


def cut_short(path: Path) -> None:
    make(path, runs("v"))
    os.truncate(path, path.stat().st_size - 1000)


def damaged(path: Path) -> None:
    make(path, runs("v"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE events SET data = '{\"output\": 7}' WHERE seq = 4")


def newer(path: Path) -> None:
    make(path, runs("v"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version={NEWEST + 1}")


KINDS: dict[Making, type[LogError]] = {
    absent: LogError,
    empty: LogError,
    text: LogCorruptError,
    folder: LogError,
    of_another_program: LogCorruptError,
    cut_short: LogCorruptError,
    damaged: LogCorruptError,
    newer: LogVersionError,
}


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_log_is_told_and_left_as_it_was(tmp_path: Path, kind: Making, name: str) -> None:
    path = tmp_path / "runs.db"
    kind(path)
    before = files_of(path), path.is_file() and path.read_bytes()
    client = Client(path)
    for _ in range(2):
        with pytest.raises(KINDS[kind], match=str(path)):
            use(client, name)
    assert (files_of(path), path.is_file() and path.read_bytes()) == before


@pytest.mark.parametrize("name", MEMBERS)
def test_a_folder_that_is_not_there_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(LogError, match=r"there is no log .*/nowhere/runs\.db'"):
        use(Client(tmp_path / "nowhere" / "runs.db"), name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", MEMBERS)
def test_a_client_waits_for_no_file_to_be_made(tmp_path: Path, name: str) -> None:
    """A second web worker may be there first."""
    client = Client(tmp_path / "runs.db")
    with pytest.raises(LogError):
        use(client, name)
    write(log := SqliteEventLog(tmp_path / "runs.db"), run_of("v", 1))
    log.close()
    if name in STEERING:
        with pytest.raises(NoEngineError):
            use(client, name)
    elif name == "answer":
        with pytest.raises(SettingError, match="there is no request 1"):
            use(client, name)
    else:
        use(client, name)


def as_seen(client: Client) -> list[object]:
    views = client.vects()
    return [
        [(view.id, view.state, view.status()) for view in views],
        [view.explain(step) for view in views for step in view.steps],
        client.waiting(),
        client.plans(),
        client.engine,
        [list(client.follow(vect=view.id)) for view in views if view.ended],
    ]


@pytest.mark.parametrize("version", range(1, NEWEST))
def test_a_file_of_an_older_version_is_read_as_it_is(tmp_path: Path, version: int) -> None:
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FILES / f"version_{version}.sql").read_text(encoding="utf-8"))
    before = path.read_bytes()
    client = Client(path)
    seen = as_seen(client)
    vect = client.vects()[0].id
    with pytest.raises(NoEngineError):
        client.cancel(vect)
    assert path.read_bytes() == before
    queued = client.cancel(vect, queue=True)
    with pytest.raises(LogVersionError), closing(Old(path)):  # an engine of that version
        client.pause(vect)
    SqliteEventLog(path).close()  # brings it up to date
    assert as_seen(client)[:1] == seen[:1]
    with closing(SqliteEventLog(path)) as log:
        assert [each.id for each in log.requests()][-1:] == [queued.number]


class Old:
    """An engine of an older version: it has the lock, and does not bring the file up to date."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)

    def close(self) -> None:
        self._lock.release()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[OAutom]:
    with OAutom(OAutomMode.background, log=tmp_path / "runs.db") as app:
        flow = Flow("flow", app, max_active_vects=99)
        ApprovalExecution("a", flow, "?")
        app.start(flow, vect_id="v")
        yield app


@pytest.mark.parametrize("name", MEMBERS)
def test_a_file_that_another_program_keeps_locked_is_read_and_not_asked(
    app: OAutom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.02)
    client = Client(tmp_path / "runs.db")
    with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        if name in STEERING:
            with pytest.raises(LogError, match="another program has kept it locked"):
                use(client, name)
        elif name == "wait":
            with pytest.raises(TimeoutError):
                use(client, name)
        elif name == "answer":
            with pytest.raises(SettingError):
                use(client, name)
        else:
            use(client, name)
        other.execute("ROLLBACK")
    client.pause("v")


@pytest.mark.parametrize("name", MEMBERS)
def test_who_may_not_write_the_file_is_told_so_and_may_look(name: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        with OAutom(OAutomMode.background, log=path) as app:
            flow = Flow("flow", app, max_active_vects=99)
            ApprovalExecution("a", flow, "?")
            app.start(flow, vect_id="v")
            path.parent.chmod(0o755)
            for each in path.parent.iterdir():
                each.chmod(0o644)
            told = in_fork(lambda: use(Client(path), name), as_nobody=True)
            seqs = app.log.last_seq
        if name in STEERING:
            assert told.startswith("LogError: log ")
            assert "can be read by this process and not written, so it can ask" in told
        elif name == "wait":
            assert told.startswith("TimeoutError")
        elif name == "answer":
            assert told.startswith("SettingError: there is no request 1")
        else:
            assert "Error" not in told
        assert seqs == app.log.last_seq


def test_what_an_engine_tells_of_itself_is_not_trusted(app: OAutom, tmp_path: Path) -> None:
    path, client = tmp_path / "runs.db", Client(tmp_path / "runs.db")
    rows: list[tuple[str, object]] = [
        ("engine", "{}"),
        ("engine", "[]"),
        ("engine", "no json"),
        ("engine", b"\xff"),
        ("engine", f'{{"pid": {os.getpid()}, "since": 3, "mode": "x", "workers": 1}}'),
        ("flow x", "{}"),
        ("flow x", "7"),
        ("plan x", "{}"),
        ("plan x", '{"flow": 3, "catch_up": 1, "params": {}, "cron": 7, "timezone": []}'),
        ("plan x", '{"flow": "f", "catch_up": 1, "params": {}, "every": "x"}'),
        ("plan x", '{"flow": "f", "catch_up": 1, "params": {}, "every": 1e300}'),
        ("pool x", '"y"'),
        ("stranded v", "[]"),
        ("of a newer version", "[]"),
    ]
    for name, told in rows:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            before = connection.execute("SELECT * FROM engine").fetchall()
            connection.execute("INSERT OR REPLACE INTO engine VALUES (?, ?)", (name, told))
        for way in (lambda: client.engine, client.plans, lambda: client.vect("v").explain("a")):
            try:
                way()
            except LogCorruptError as error:
                assert "its engine" in str(error)  # noqa: PT017 - or it does not raise
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("DELETE FROM engine")
            connection.executemany("INSERT INTO engine VALUES (?, ?)", before)
    assert client.pause("v").refusal is None


def test_a_file_that_is_replaced_is_looked_at_anew(tmp_path: Path) -> None:
    path, client = tmp_path / "runs.db", Client(tmp_path / "runs.db")
    make(path, runs("v"))
    assert [view.id for view in client.vects()] == ["v"]
    path.unlink()
    make(path, runs("w"))
    assert [view.id for view in client.vects()] == ["w"]


def moved(new: Path, path: Path) -> None:
    new.rename(path)


def copied_over(new: Path, path: Path) -> None:
    """As `cp` does: the file stays the same one, and its content does not."""
    path.write_bytes(new.read_bytes())


@pytest.mark.parametrize("put", [moved, copied_over])
def test_a_longer_log_in_the_place_of_one_is_not_taken_for_its_end(
    tmp_path: Path, put: Callable[[Path, Path], object]
) -> None:
    path = tmp_path / "runs.db"
    make(path, runs("a"))
    client, follow = Client(path), Client(path).follow()
    before, log_id = client.seq, client.log_id
    assert [next(follow).vect for _ in range(before)] == ["a"] * before
    make(tmp_path / "new.db", runs("b", "c", "d"))
    put(tmp_path / "new.db", path)
    with pytest.raises(LogError, match=r"another log has taken the place of .* from its beginning"):
        next(follow)
    assert [view.id for view in client.vects()] == ["d", "c", "b"]
    assert client.log_id not in (None, log_id)
    assert client.events(0)[0].vect == "b"


def test_to_know_who_holds_a_log_opens_no_more_files_each_time(app: OAutom, tmp_path: Path) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    client = Client(tmp_path / "runs.db")
    assert client.engine is not None
    before = opened()
    for _ in range(20):
        assert client.engine is not None
    assert opened() == before


def test_to_know_who_holds_a_log_takes_no_lock_of_a_reader_away(tmp_path: Path) -> None:
    """Whoever closes a file takes away the locks that SQLite has on it in this process."""
    path = tmp_path / "runs.db"
    make(path, runs("v"))
    log = SqliteEventLog(path, read_only=True)
    with log._database.reading() as connection:
        connection.execute("SELECT count(*) FROM events").fetchone()
        assert log.holder() is None
        told = in_fork_of_another(path)
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (5,)
    assert told == "busy"


def in_fork_of_another(path: Path) -> str:
    """Whether another process meets the reader: it may not bring back what that reads."""
    from .logs import run

    return run(
        "c = __import__('sqlite3').connect(path, isolation_level=None, timeout=0)\n"
        "c.execute('INSERT INTO positions VALUES (1, 2)')\n"
        "print('free' if c.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchone()[0] == 0"
        " else 'busy')",
        path,
    )


def test_answers_that_were_read_do_not_add_up(app: OAutom, tmp_path: Path) -> None:
    client = Client(tmp_path / "runs.db")
    for _ in range(5):
        client.pause("v")
        with pytest.raises(Exception, match="only one that has failed"):
            client.retry("v")
        client.resume("v")
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM requests").fetchone() == (0,)


@pytest.mark.parametrize(
    "error",
    ["", "[]", "{}", "no json", '{"kind": "int", "facts": {}}', '{"kind": 3, "facts": []}', None],
)
def test_a_refusal_whose_error_is_not_known_is_told_all_the_same(
    app: OAutom, tmp_path: Path, error: str | None
) -> None:
    client = Client(tmp_path / "runs.db")
    with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as connection:
        sql = "INSERT INTO answers (id, time, seq, refusal, error) VALUES (7, 0, 1, 'why', ?)"
        connection.execute(sql, (error,))
    answer = client.answer(7)
    assert answer is not None
    assert (answer.refusal, str(answer.error), type(answer.error).__name__) == (
        *("why", "why"),
        "OAutomError",
    )


def test_looks_at_once_see_what_is_written_meanwhile_and_hold_up_no_checkpoint(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    make(path, runs("v"))
    client = Client(path)
    with client.at_once(), client.at_once():
        assert client.text("v", "s0", 1) == ""
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("INSERT INTO log_texts VALUES ('v', 's0', 1, 0, x'6869')")
            connection.commit()
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert not busy
        assert client.text("v", "s0", 1) == "hi"
        assert "was being read" in in_fork(lambda: client.text("v", "s0", 1))
        path.rename(tmp_path / "moved.db")
        with pytest.raises(LogError, match="there is no log"):
            client.text("v", "s0", 1)


def test_who_waits_for_an_answer_reads_the_log_only_where_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now, reads = tmp_path / "runs.db", [0.0], []
    real = SqliteEventLog.answer

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def answer(log: SqliteEventLog, number: int) -> Any:
        reads.append(now[0])
        return real(log, number)

    for module in (steering, follow):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])
        monkeypatch.setattr(module, "sleep", sleep)
    monkeypatch.setattr(SqliteEventLog, "answer", answer)
    with OAutom(log=path) as app:  # in the foreground, and nobody drives
        ApprovalExecution("a", Flow("flow", app), "?")
        app.start("flow", vect_id="v")
        with pytest.raises(WithdrawnError):
            Client(path).pause("v", timeout=60)
    assert now[0] >= 60
    assert len(reads) < 10
    assert max(reads) < 1
