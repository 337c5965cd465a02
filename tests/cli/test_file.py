"""The verbs that need the file of a log only: what they show and refuse; they make no file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from oautom import ApprovalExecution, BashExecution, Flow, OAutom, PythonExecution
from oautom.cli.main import oautom

from .conftest import Cli

OF_FILE = [
    name
    for name, verb in oautom.commands.items()
    if any("--log" in param.opts for param in verb.params)
    and "app" not in {p.name for p in verb.params}
]
ARGUMENTS = {
    "show": ["-"],
    "why": ["-"],
    "logs": ["-"],
    "events": [],
    "retry": ["-"],
    "approve": ["-", "gate"],
    "reject": ["-", "gate"],
    "start": ["etl"],
    "pause": ["-"],
    "resume": ["-"],
    "cancel": ["-"],
    "prune": ["--older-than", "1d"],
    "export": ["out.jsonl"],
}


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


def test_each_of_these_verbs_is_tried() -> None:
    assert len(OF_FILE) == 18
    assert set(ARGUMENTS) <= set(OF_FILE)


@pytest.mark.parametrize("verb", OF_FILE)
def test_a_file_that_cannot_be_used_is_told_and_none_is_made(
    cli: Cli, tmp_path: Path, verb: str
) -> None:
    arguments = [verb, *ARGUMENTS.get(verb, [])]
    before = sorted(tmp_path.iterdir())
    absent = cli(*arguments, "--log", "absent.db")
    assert (absent.returncode, absent.stderr) == (3, "Error: there is no file 'absent.db'\n")
    unnamed = cli(*arguments)
    assert unnamed.returncode == 2
    assert "OAUTOM_FILE" in unnamed.stderr
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "text.db").write_text("this is no log " * 1000)
    bad = cli(*arguments, "--log", "text.db")
    assert (bad.returncode, "Traceback" in bad.stderr) == (8, False), bad.stderr
    assert "text.db" in bad.stderr + bad.stdout


def test_runs_are_listed_newest_first(cli: Cli, runs: str) -> None:
    done = cli("ls", "--log", runs)
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        ["release", "release", "running"],
        ["bad", "etl", "failed"],
        ["good", "etl", "success"],
    ]
    env = {"OAUTOM_FILE": runs}
    assert len(cli("ls", "etl", "--limit", "1", **env).stdout.splitlines()) == 1
    listed = json.loads(
        cli("ls", "--state", "failed,success", "--last", "7d", "--json", **env).stdout
    )
    assert [each["id"] for each in listed] == ["bad", "good"]
    assert cli("ls", "--last", "yesterday", **env).returncode == 2
    wrong = cli("ls", "--state", "broken", **env)
    assert (wrong.returncode, "'failed'" in wrong.stderr) == (2, True)


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
    cli: Cli, runs: str, named: str, code: int, said: str
) -> None:
    done = cli("show", named, "--log", runs)
    assert done.returncode == code
    assert said in done.stdout + done.stderr


def test_a_run_is_shown_as_it_is_and_as_it_was(cli: Cli, runs: str) -> None:
    done = cli("show", "bad", "--log", runs)
    assert "load: the command exited with code 1" in done.stdout
    assert "next: oautom logs bad load, then oautom retry bad" in done.stderr
    first = json.loads(cli("show", "good", "--at", "2", "--json", "--log", runs).stdout)
    assert first["state"] == "running"
    assert cli("show", "bad", "--at", "1", "--log", runs).returncode == 2


def test_why_and_inbox_tell_what_is_waited_for(cli: Cli, runs: str) -> None:
    told = cli("why", "release", "--log", runs)
    assert "`ship` waits for `gate`" in told.stdout
    assert json.loads(cli("why", "bad", "load", "--json", "--log", runs).stdout).keys() == {"load"}
    assert "all its steps are done" in cli("why", "good", "--log", runs).stderr
    assert cli("why", "good", "lod", "--log", runs).returncode == 3
    (waiting,) = json.loads(cli("inbox", "--json", "--log", runs).stdout)
    assert (waiting["vect"], waiting["step"], waiting["prompt"]) == (
        "release",
        "gate",
        "is it good?",
    )


def test_what_steps_have_written_is_printed(cli: Cli, runs: str) -> None:
    assert cli("logs", "bad", "load", "--log", runs).stdout == "loading 2\n"
    both = cli("logs", "good", "-n", "1", "--log", runs).stdout
    assert both == "==> load <==\nloading 1\n==> say <==\ntwo\n"
    assert cli("logs", "good", "-f", "--attempt", "1", "--log", runs).returncode == 0
    none = cli("logs", "good", "load", "--attempt", "7", "--log", runs)
    assert (none.returncode, "there are: 1" in none.stderr) == (2, True)


def test_events_are_printed_and_followed_to_the_end_of_a_run(cli: Cli, runs: str) -> None:
    lines = cli("events", "--json", "--log", runs).stdout.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))
    of_one = cli("events", "good", "-f", "--log", runs).stdout.splitlines()
    assert "vect.created" in of_one[0]
    assert "vect.succeeded" in of_one[-1]
    assert len(cli("events", "--after", "3", "--log", runs).stdout.splitlines()) == len(lines) - 3


def test_watch_exits_as_the_run_has_ended(cli: Cli, runs: str) -> None:
    assert [cli("watch", vect, "--log", runs).returncode for vect in ("good", "bad")] == [0, 1]


def test_with_no_engine_nothing_is_done_unless_it_is_queued(cli: Cli, runs: str) -> None:
    for arguments in (["approve", "release", "gate"], ["retry", "bad"], ["start", "etl", "day=3"]):
        done = cli(*arguments, "--log", runs)
        assert (done.returncode, "no engine is at work" in done.stderr) == (7, True)
    queued = cli("cancel", "release", "--queue", "--json", "--log", runs)
    assert json.loads(queued.stdout)["request"] == 1
    assert cli("approve", "release", "gate", "--data", "{", "--log", runs).returncode == 2
    assert cli("start", "etl", "day", "--log", runs).returncode == 2


def test_the_file_is_checked_pruned_and_exported(cli: Cli, runs: str, tmp_path: Path) -> None:
    assert "all as they were written" in cli("verify", "--log", runs).stdout
    assert (
        "2 runs would be removed"
        in cli("prune", "--older-than", "0s", "--dry-run", "--log", runs).stderr
    )
    assert cli("export", "out.jsonl", "--log", runs).returncode == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) > 10
    assert cli("prune", "--older-than", "0s", "--log", runs).stdout == "2 runs were removed\n"
    assert len(cli("ls", "--log", runs).stdout.splitlines()) == 1
