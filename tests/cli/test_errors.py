"""Each mistake with each verb: one sentence, its exit code, and no file is made."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from oautom import Flow, OAutom, OAutomMode, PythonExecution
from oautom.cli.main import oautom

from .conftest import PIPELINE, Inside, Said

# What each verb takes, all of it right. The words in capitals are the ones that can be wrong.
LINES = {
    "run": "APP FLOW PARAM --until STEP --log LOG",
    "ls": "FLOW --log LOG",
    "show": "VECT --log LOG",
    "why": "VECT STEP --log LOG",
    "logs": "VECT STEP --log LOG",
    "retry": "VECT --log LOG",
    "watch": "VECT --log LOG",
    "flows": "APP",
    "check": "APP FLOW",
    "graph": "APP FLOW",
    "simulate": "APP FLOW PARAM --fail STEP --like VECT --log LOG",
    "serve": "APP --log LOG",
    "events": "VECT --log LOG",
    "inbox": "--log LOG",
    "approve": "VECT STEP --log LOG",
    "reject": "VECT STEP --log LOG",
    "start": "FLOW PARAM --log LOG",
    "pause": "VECT --log LOG",
    "resume": "VECT --log LOG",
    "cancel": "VECT --log LOG",
    "plans": "--log LOG",
    "page": "--port 0 --log LOG",
    "top": "--log LOG",
    "diff": "VECT tuesday --log LOG",
    "backfill": "FLOW --from 2026-01-01 --to 2026-01-02 --log LOG",
    "verify": "--log LOG",
    "prune": "--older-than 1d --log LOG",
    "export": "out.jsonl --log LOG",
}
RIGHT = {"APP": "pipeline.py", "FLOW": "etl", "PARAM": "day=1", "VECT": "monday", "STEP": "load"}
WRONG = {
    "APP": ("pipelin.py", 3, "did you mean 'pipeline.py'?"),
    "FLOW": ("elt", 3, "did you mean 'etl'?"),
    "PARAM": ("dya=1", 2, "did you mean 'day'?"),
    "VECT": ("mondya", 3, "did you mean 'monday'?"),
    "STEP": ("laod", 3, "did you mean 'load'?"),
}
ASKS_FOR_FLOWS = {"start", "backfill"}  # the engine knows them
NEED_NO_FILE = {"run", "serve", "page"}  # a page waits for it
WRITING = {"run", "serve", "prune"}  # these make or lock the file
MISTAKES = [(verb, word) for verb, line in LINES.items() for word in WRONG if word in line.split()]


def declare(app: OAutom) -> None:
    etl = Flow("etl", app, params={"day": str}, max_active_vects=None)
    PythonExecution("extract", etl, int) >> PythonExecution("load", etl, int)
    app.plan(etl, hours=24, params={"day": "1"})


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "runs.db"
    with OAutom(log=path) as app:
        declare(app)
        for vect in ("monday", "morning", "tuesday"):
            app.run("etl", {"day": "1"}, vect_id=vect)
    return path


@pytest.fixture
def runs(log: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(log, tmp_path / "runs.db"))


def words(verb: str, log: str, **wrong: str) -> list[str]:
    filled = RIGHT | {"LOG": log} | wrong
    return [verb, *(filled.get(word, word) for word in LINES[verb].split())]


def is_refused(done: Said, code: int, said: str = "") -> None:
    assert done.code == code, done
    assert done.stderr.splitlines()[-1].startswith("Error: "), done
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_each_verb_is_tried() -> None:
    assert LINES.keys() == oautom.commands.keys()


@pytest.mark.parametrize(("verb", "word"), MISTAKES)
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["plain", "json"])
def test_a_name_that_is_wrong_is_told_with_the_one_that_is_nearly_so(
    inside: Inside, runs: Path, verb: str, word: str, more: list[str]
) -> None:
    name, code, hint = WRONG[word]
    with OAutom(OAutomMode.background, log=runs if verb in ASKS_FOR_FLOWS else None) as app:
        declare(app)
        app.run()
        is_refused(inside(*words(verb, "runs.db", **{word: name}), *more), code, hint)


@pytest.mark.parametrize("verb", [verb for verb, line in LINES.items() if "VECT" in line])
def test_the_beginning_of_several_ids_is_none(inside: Inside, runs: Path, verb: str) -> None:
    done = inside(*words(verb, "runs.db", VECT="mo"))
    is_refused(done, 2, "'mo' begins the ids of 2 runs: morning, monday")


@pytest.mark.parametrize("verb", LINES)
def test_an_option_that_is_none_is_told(inside: Inside, verb: str) -> None:
    done = inside(verb, "--lgo")
    assert (done.code, done.stdout, "No such option" in done.stderr) == (2, "", True)


# Files


def make_bad(kind: str, path: Path, good: Path) -> None:
    """Make a file that is none that can be used."""
    if kind == "text":
        path.write_text("this is no log " * 1000)
    elif kind == "empty":
        path.touch()
    elif kind == "database":
        changed(path, "CREATE TABLE cats (name)")
    elif kind == "directory":
        path.mkdir()
    elif kind == "cut":
        path.write_bytes(good.read_bytes()[:-9000])
    elif kind == "newer":
        shutil.copy(good, path)
        changed(path, "PRAGMA user_version = 1000")


def changed(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


OF_FILE = [verb for verb, line in LINES.items() if "LOG" in line]
KINDS = ["text", "empty", "database", "directory", "cut", "newer"]
MADE_GOOD = {("run", "empty"), ("serve", "empty")}  # an empty file becomes a log


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", OF_FILE)
def test_a_file_that_is_no_log_is_told_and_left_as_it_is(
    inside: Inside, runs: Path, tmp_path: Path, verb: str, kind: str
) -> None:
    if (verb, kind) in MADE_GOOD:
        pytest.skip("an empty file becomes a log")
    bad = tmp_path / "bad.db"
    make_bad(kind, bad, runs)
    before = sorted(tmp_path.iterdir())
    data = bad.read_bytes() if bad.is_file() else b""
    for more in ([], ["--json"]):
        done = inside(*words(verb, "bad.db"), *more)
        if verb == "verify" and more:
            assert json.loads(done.stdout)["error"]
            done = done._replace(stdout="")
        is_refused(done, 8, "bad.db")
    assert sorted(tmp_path.iterdir()) == before
    assert (bad.read_bytes() if bad.is_file() else b"") == data


@pytest.mark.parametrize("verb", [verb for verb in OF_FILE if verb not in NEED_NO_FILE])
def test_a_file_that_is_not_there_is_told_and_none_is_made(
    inside: Inside, runs: Path, tmp_path: Path, verb: str
) -> None:
    (tmp_path / "link.db").symlink_to("no/where.db")
    before = sorted(tmp_path.iterdir())
    is_refused(inside(*words(verb, "link.db")), 3, "there is no file 'link.db'")
    is_refused(
        inside(*words(verb, "run.db")), 3, "there is no file 'run.db'; did you mean 'runs.db'?"
    )
    is_refused(inside(*words(verb, "no/where.db")), 3, "there is no file 'no/where.db'")
    unnamed = [word for word in words(verb, "") if word not in ("--log", "")]
    is_refused(inside(*unnamed), 2, "name its file: --log FILE, or set OAUTOM_FILE")
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def shared(log: Path) -> Iterator[Path]:
    """A folder that everybody may enter, with a log that nobody may read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(log, folder / "runs.db")
        (folder / "pipeline.py").write_text(PIPELINE)
        (folder / "runs.db").chmod(0)
        yield folder


@pytest.mark.parametrize("verb", OF_FILE)
def test_a_file_that_may_not_be_read_is_told(
    inside: Inside, shared: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.chdir(shared)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read all
    try:
        done = inside(*words(verb, "runs.db"))
        names = {path.name for path in shared.iterdir()}
    finally:
        os.seteuid(user)
    is_refused(done, 8, "runs.db")
    assert names - {"__pycache__"} == {"runs.db", "pipeline.py"}


# A page goes on until it is stopped: test_documents.py has it served.
@pytest.mark.parametrize("verb", [verb for verb in OF_FILE if verb != "page"])
def test_a_log_that_another_engine_writes_is_read_and_not_taken(
    inside: Inside, runs: Path, verb: str
) -> None:
    with OAutom(OAutomMode.background, log=runs) as app:
        declare(app)
        app.run()
        done = inside(*words(verb, "runs.db"))
    if verb in WRITING:
        is_refused(done, 75, f"process {os.getpid()}")
    else:
        assert done.code in (0, 1, 6), done  # 6: nothing of it waits, or is paused
        assert "Traceback" not in done.stderr


STEERING = ["approve", "reject", "pause", "resume", "cancel", "retry", "start", "backfill"]


@pytest.mark.parametrize("verb", STEERING)
def test_with_no_engine_at_work_it_is_said_who_would_do_it(
    inside: Inside, runs: Path, verb: str
) -> None:
    done = inside(*words(verb, "runs.db"))
    is_refused(done, 7, f"`oautom serve APP --log {shlex.quote(str(runs))}` would do it")
    assert "with --queue the request waits" in done.stderr
    assert "queue=True" not in done.stderr
    assert inside(*words(verb, "runs.db"), "--queue").code == 0


def test_what_cannot_be_written_is_told(inside: Inside, runs: Path, tmp_path: Path) -> None:
    for to in ("no/where.jsonl", str(tmp_path)):
        is_refused(inside("export", to, "--log", "runs.db"), 2, f"cannot write '{to}'")
