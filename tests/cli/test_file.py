"""The verbs that need the file of a log only: what they show and refuse; they make no file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from oautom import (
    ApprovalExecution,
    BashExecution,
    Client,
    Flow,
    OAutom,
    PythonExecution,
    SqliteEventLog,
)
from oautom.client import VectView
from oautom.events.jsonl import to_line
from oautom.testing import SimulatedClock

from .conftest import SECONDS, Cli, Inside, environment


def say() -> None:
    print("one")  # noqa: T201
    print("two")  # noqa: T201


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of three runs: one that has failed, one that waits for a person, one that is over."""
    path = tmp_path_factory.mktemp("log") / "runs.db"
    with OAutom(log=path) as app:
        etl = Flow("etl", app, params={"day": str})
        load = BashExecution(
            "load", etl, 'echo "loading $D"; test "$D" = 1', env={"D": etl.param("day")}
        )
        PythonExecution("say", etl, say) >> load
        release = Flow("release", app)
        ApprovalExecution("gate", release, "is it good?") >> BashExecution("ship", release, "true")
        app.run(etl, {"day": "1"}, vect_id="good")
        app.run(etl, {"day": "2"}, vect_id="bad")
        vect = app.start(release, vect_id="release")
        with pytest.raises(TimeoutError):
            vect.wait(0.05)
    return path


@pytest.fixture
def runs(log: Path, tmp_path: Path) -> str:
    """A copy of it."""
    shutil.copy(log, tmp_path / "runs.db")
    return "runs.db"


def test_runs_are_listed_newest_first(inside: Inside, runs: str) -> None:
    done = inside("ls", "--log", runs)
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        ["release", "release", "running"],
        ["bad", "etl", "failed"],
        ["good", "etl", "success"],
    ]
    env = {"OAUTOM_FILE": runs}
    assert len(inside("ls", "etl", "--limit", "1", **env).stdout.splitlines()) == 1
    listed = json.loads(
        inside("ls", "--state", "failed,success", "--last", "7d", "--json", **env).stdout
    )
    assert [each["id"] for each in listed] == ["bad", "good"]
    assert inside("ls", "--last", "yesterday", **env).code == 2
    wrong = inside("ls", "--state", "broken", **env)
    assert (wrong.code, "'failed'" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("named", "code", "said"),
    [
        ("-", 0, "release release: running"),
        ("go", 0, "etl good: success"),
        ("bad", 0, "etl bad: failed"),
        ("", 2, "begins the ids of 3 runs"),
        ("godo", 3, "did you mean 'good'?"),
        ("nothing like it", 3, "`oautom ls` lists them"),
    ],
)
def test_a_run_is_named_by_the_beginning_of_its_id(
    inside: Inside, runs: str, named: str, code: int, said: str
) -> None:
    done = inside("show", named, "--log", runs)
    assert done.code == code
    assert said in done.stdout + done.stderr


def test_what_went_on_then_is_shown_until_then(inside: Inside, tmp_path: Path) -> None:
    log = tmp_path / "old.db"
    with OAutom(log=log, clock=SimulatedClock()) as app:  # of the year 2000
        flow = Flow("old", app)
        PythonExecution("work", flow, int)
        app.run(flow, vect_id="old")
    begun = next(each for each in Client(log).events() if each.name == "step.started")
    then = inside("show", "old", "--at", str(begun.seq), "--log", str(log)).stdout.split("\n")
    assert then[0] == "old old: running after 0.0 s"
    assert then[1].split()[:4] == ["work", "running", "0.0", "s"]


def test_a_run_is_shown_as_it_is_and_as_it_was(inside: Inside, runs: str) -> None:
    done = inside("show", "bad", "--log", runs)
    assert "load: the command exited with code 1" in done.stdout
    assert (
        "next: oautom logs bad load --log runs.db or oautom retry bad --log runs.db" in done.stderr
    )
    first = json.loads(inside("show", "good", "--at", "2", "--json", "--log", runs).stdout)
    assert first["state"] == "running"
    assert inside("show", "bad", "--at", "1", "--log", runs).code == 2


def test_why_and_inbox_tell_what_is_waited_for(inside: Inside, runs: str) -> None:
    told = inside("why", "release", "--log", runs)
    assert "`ship` waits for `gate`" in told.stdout
    assert json.loads(inside("why", "bad", "load", "--json", "--log", runs).stdout).keys() == {
        "load"
    }
    assert "all its steps are done" in inside("why", "good", "--log", runs).stderr
    assert inside("why", "good", "lod", "--log", runs).code == 3
    (waiting,) = json.loads(inside("inbox", "--json", "--log", runs).stdout)
    assert (waiting["vect"], waiting["step"], waiting["prompt"]) == (
        "release",
        "gate",
        "is it good?",
    )


def test_what_steps_have_written_is_printed(inside: Inside, runs: str) -> None:
    assert inside("logs", "bad", "load", "--log", runs).stdout == "loading 2\n"
    both = inside("logs", "good", "-n", "1", "--log", runs).stdout
    assert both == "==> load <==\nloading 1\n==> say <==\ntwo\n"
    assert inside("logs", "good", "-f", "--attempt", "1", "--log", runs).code == 0
    none = inside("logs", "good", "load", "--attempt", "7", "--log", runs)
    assert (none.code, "there are: 1" in none.stderr) == (2, True)


def test_events_are_printed_and_followed_to_the_end_of_a_run(inside: Inside, runs: str) -> None:
    lines = json.loads(inside("events", "--json", "--log", runs).stdout)
    assert [each["seq"] for each in lines] == list(range(1, len(lines) + 1))
    of_one = inside("events", "good", "-f", "--log", runs).stdout.splitlines()
    assert "vect.created" in of_one[0]
    assert "vect.succeeded" in of_one[-1]
    assert (
        len(inside("events", "--after", "3", "--log", runs).stdout.splitlines()) == len(lines) - 3
    )


def test_watch_exits_as_the_run_has_ended(inside: Inside, runs: str) -> None:
    assert [inside("watch", vect, "--log", runs).code for vect in ("good", "bad")] == [0, 1]


@pytest.mark.parametrize(
    "verb", ["watch release", "logs -f release ship", "logs -f release --json", "events -f release"]
)
def test_who_waits_for_a_run_is_told_since_when_there_is_no_engine_and_goes_on(
    runs: str, tmp_path: Path, verb: str
) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "oautom", *verb.split(), "--log", runs],
        cwd=tmp_path,
        env=environment(tmp_path),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert program.stderr is not None
        told = program.stderr.readline()
        assert re.fullmatch(
            r"no engine is at work since \S+; this goes on when one is, Ctrl-C ends it\n", told
        )
        with OAutom(log=tmp_path / runs) as app:
            release = Flow("release", app)
            gate = ApprovalExecution("gate", release, "is it good?")
            gate >> BashExecution("ship", release, "echo shipped")
            app.recover()
            assert program.stderr.readline() == "an engine is at work again\n"
            app.vect("release").approve("gate", by="Ada")
            app.vect("release").wait()
        out, err = program.communicate(timeout=SECONDS)
    finally:
        program.kill()
    assert (program.returncode, err) == (0, "")
    assert ("shipped" in out) == (verb[0] != "w")


@pytest.mark.parametrize("verb", ["watch good", "logs good -f", "events good -f", "show good"])
def test_a_run_that_is_pruned_while_it_is_shown_is_said_to_be_gone(
    inside: Inside, runs: str, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """As by a cron job, between two looks of the verb."""
    find = Client.vect

    def found(self: Client, vect: str) -> VectView:
        view = find(self, vect)
        with OAutom(log=runs) as app:
            app.prune(older_than=timedelta())
        return view

    monkeypatch.setattr(Client, "vect", found)
    done = inside(*verb.split(), "--log", runs)
    if verb in ("logs good -f", "show good"):  # all was read at the first look
        assert (done.code, done.stderr) == (0, "nothing was written\n" * verb.startswith("logs"))
    else:
        assert (done.code, done.stdout) == (3, "")
        assert "vect 'good' of flow 'etl' ended as 'success' and was pruned" in done.stderr


def test_a_run_that_has_ended_is_shown_without_a_word_of_engines(inside: Inside, runs: str) -> None:
    for verb in ("watch", "logs -f", "events -f"):
        assert "engine" not in inside(*verb.split(), "good", "--log", runs).stderr


def test_with_no_engine_nothing_is_done_unless_it_is_queued(inside: Inside, runs: str) -> None:
    for arguments in (["approve", "release", "gate"], ["retry", "bad"], ["start", "etl", "day=3"]):
        done = inside(*arguments, "--log", runs)
        assert (done.code, "no engine is at work" in done.stderr) == (7, True)
    queued = inside("cancel", "release", "--queue", "--json", "--log", runs)
    assert json.loads(queued.stdout)["request"] == 1
    assert inside("approve", "release", "gate", "--data", "{", "--log", runs).code == 2
    assert inside("start", "etl", "day", "--log", runs).code == 2


AGAIN = """
from pathlib import Path
from oautom import Flow, OAutom, PythonExecution

app = OAutom("MODE")
flow = Flow("flow", app)


def work() -> None:
    assert Path("mended").exists()


PythonExecution("work", flow, work)
"""


@pytest.mark.parametrize("mode", ["foreground", "background"])
def test_a_retry_that_a_run_does_in_place_of_a_request_is_its_answer(
    cli: Cli, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "again.py").write_text(AGAIN.replace("MODE", mode))
    again = ("run", "again.py", "flow", "--id", "one", "--log", "runs.db", "-q")
    assert cli(*again).returncode == 1
    times = 2 if mode == "foreground" else 1
    asked = [cli("retry", "one", "--queue", "--json", "--log", "runs.db") for _ in range(times)]
    numbers = [json.loads(each.stdout)["request"] for each in asked]
    client = Client(tmp_path / "runs.db")
    assert [client.answer(number) for number in numbers] == [None] * times
    (tmp_path / "mended").touch()

    done = cli(*again)

    assert (done.returncode, done.stderr) == (0, "")
    answers = [client.answer(number) for number in numbers]
    events = {event.seq: event.name for event in client.vect("one").events()}
    assert [events[answer.seq] for answer in answers] == ["vect.reopened"] * times
    with closing(SqliteEventLog(tmp_path / "runs.db")) as log:
        assert log.asked() == []


def test_the_file_is_checked_pruned_and_exported(inside: Inside, runs: str, tmp_path: Path) -> None:
    assert "all as they were written" in inside("verify", "--log", runs).stdout
    assert (
        "2 runs would be removed"
        in inside("prune", "--older-than", "0s", "--dry-run", "--log", runs).stderr
    )
    assert inside("export", "out.jsonl", "--log", runs).code == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) > 10
    assert inside("prune", "--older-than", "0s", "--log", runs).stdout == "2 runs removed\n"
    assert len(inside("ls", "--log", runs).stdout.splitlines()) == 1


def test_parameters_of_a_list_cannot_write_to_the_terminal(inside: Inside, tmp_path: Path) -> None:
    hostile = "\x1b]0;mine\x07\x1b[2J\x9b31m\u202e\r\x7f"
    with OAutom(log=tmp_path / "runs.db") as app:
        flow = Flow("etl", app, params={"day": str, "more": list[str]})
        PythonExecution("say", flow, int)
        app.run(flow, {"day": hostile, "more": [hostile]}, vect_id="one")
    said = inside("ls", "--log", "runs.db").stdout
    assert "day=␛]0;mine␇␛[2J" in said
    assert said.rstrip("\n").isprintable()


def test_events_are_printed_as_the_lines_of_a_file_of_them(inside: Inside, runs: str) -> None:
    lines = [to_line(event) for event in SqliteEventLog(runs, read_only=True).read()]
    told = inside("events", "--json", "--log", runs).stdout
    assert told == "[\n" + ",\n".join(lines) + "\n]\n"
    assert inside("events", "good", "-f", "--json", "--log", runs).stdout.splitlines() == [
        line for line in lines if json.loads(line)["vect"] == "good"
    ]


def test_events_are_json_on_a_terminal_of_another_encoding_too(cli: Cli, tmp_path: Path) -> None:
    with OAutom(log=tmp_path / "runs.db") as app:
        flow = Flow("flow", app, params={"name": str})
        PythonExecution("work", flow, lambda context: context.params["name"])
        app.run(flow, {"name": 'Zoë 日本 \\"x\\"'})
    done = cli("events", "--json", "--log", "runs.db", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout.isascii()) == (0, True)
    assert json.loads(done.stdout)[0]["data"]["params"]["name"] == 'Zoë 日本 \\"x\\"'
