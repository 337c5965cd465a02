"""`oautom` as a person uses it: on a terminal, in pipes, and where something is closed or odd."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oautom import ApprovalExecution, Client, Flow, OAutom, OAutomMode, PythonExecution

from .conftest import PIPELINE, ROOT, SECONDS, environment
from .terminal import Terminal

SLOW = """
from oautom import BashExecution, Flow, OAutom, PythonExecution

app = OAutom()
slow = Flow("slow", app)
PythonExecution("say", slow, print, ("hello from a step",)) >> BashExecution(
    "sleep", slow, "echo $$ >pid; exec sleep 300"
)
quiet = Flow("quiet", app)
BashExecution("one", quiet, "true") >> BashExecution("two", quiet, "exit 3")
"""

# The last steps wait for a file, so that the picture stays as it is for as long as a test looks.
MANY = """
import time
from pathlib import Path
from oautom import Flow, OAutom, PythonExecution

app = OAutom(max_workers=20)
many = Flow("many", app)

def work(number):
    if number % 50 == 7:
        raise ValueError(f"step {number} has failed, and has a lot to say about what it misses")
    while number >= 980 and not Path("go").exists():
        time.sleep(0.01)

for number in range(1000):
    PythonExecution(f"a step with a rather long name number {number}", many, work, (number,))
"""

STARTS = (
    "many one  ",
    "━",
    "20 running",
    "20 failed",
    "failed  ",
    "running  ",
    "and ",
    "960 success",
)


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[list[Terminal]]:
    """Ends the programs that a test leaves."""
    for name, text in (("pipeline.py", PIPELINE), ("slow.py", SLOW), ("many.py", MANY)):
        (tmp_path / name).write_text(text)
    opened: list[Terminal] = []
    yield opened
    for each in opened:
        each.kill()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


@pytest.mark.parametrize("keys", ["\x03", None], ids=["ctrl-c", "sigterm"])
def test_what_is_stopped_leaves_no_process_and_goes_on_later(
    tmp_path: Path, terminals: list[Terminal], keys: str | None
) -> None:
    terminal = Terminal(tmp_path, "run", "slow.py", "slow", "--id", "one", "--log", "runs.db")
    terminals.append(terminal)
    lines = terminal.read_until("running  sleep")
    assert lines[:2] == ["hello from a step", lines[1]]
    assert lines[1].startswith("slow one  running  ")
    assert lines[2].endswith("1/2 steps")
    assert terminal.screen.cursor.hidden
    until_written(tmp_path / "pid")
    if keys is not None:
        terminal.type(keys)
        assert terminal.end() == 130
        assert "vect 'one' is 'running'; the same command goes on with it" in terminal.shown
        assert terminal.shown[-1] == "stopped"
    else:
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 143
    assert "steps" not in "\n".join(terminal.shown)  # the picture is taken away
    assert not terminal.screen.cursor.hidden
    assert "Traceback" not in terminal.text
    assert is_gone(int((tmp_path / "pid").read_text()))
    assert Client(tmp_path / "runs.db").vect("one").state == "running"


def until_written(path: Path) -> None:
    import time

    deadline = time.monotonic() + SECONDS
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("breaks_lines", [True, False])
def test_a_thousand_steps_fit_a_screen_that_is_made_small(
    tmp_path: Path, terminals: list[Terminal], breaks_lines: bool
) -> None:
    terminal = Terminal(tmp_path, "run", "many.py", "many", "--id", "one")
    terminals.append(terminal)
    wide = terminal.read_until(lambda lines: "980/1000 steps" in "".join(lines))
    wide = terminal.read_until(lambda lines: len(lines) == 15)
    assert [line.split()[0] for line in wide[3:]] == ["failed"] * 6 + ["running"] * 5 + ["and"]
    assert wide[-1] == "and 29 more"
    assert "number 957  ValueError: step 957 has failed" in wide[8]
    for columns, rows in ((40, 10), (20, 4), (100, 40)):
        terminal.resize(columns, rows, breaks_lines=breaks_lines)
        terminal.read_until(lambda lines: "980/1000 steps" in "".join(lines[1:2]))
        lines = terminal.settled()
        assert len(lines) <= rows - 1
        assert [line for line in lines if line.startswith("many one")] == lines[:1]
        assert all(line.startswith(STARTS) for line in lines), lines
    (tmp_path / "go").touch()
    assert terminal.end() == 1
    assert terminal.shown[0].startswith("many one: failed after ")
    assert "  and 10 more" in terminal.shown
    assert not terminal.screen.cursor.hidden


def test_watch_shows_a_run_of_another_process(tmp_path: Path, terminals: list[Terminal]) -> None:
    with OAutom(OAutomMode.background, log=tmp_path / "runs.db") as app:
        flow = Flow("etl", app)
        wait = PythonExecution("wait", flow, lambda: until_written(tmp_path / "go"))
        wait >> PythonExecution("last", flow, int)
        app.run()
        app.start(flow, vect_id="one")
        terminal = Terminal(tmp_path, "watch", "--log", "runs.db")
        terminals.append(terminal)
        terminal.read_until("running  wait")
        (tmp_path / "go").write_text("\n")
        assert terminal.end() == 0
    assert terminal.shown[0].startswith("etl one: success after ")
    assert len(terminal.shown) == 1


def test_watch_says_in_the_picture_that_there_is_no_engine(
    tmp_path: Path, terminals: list[Terminal]
) -> None:
    with OAutom(log=tmp_path / "runs.db") as app:
        flow = Flow("etl", app)
        ApprovalExecution("gate", flow, "good?")
        app.start(flow, vect_id="one")
    terminal = Terminal(tmp_path, "watch", "--log", "runs.db")
    terminals.append(terminal)
    terminal.read_until("no engine is at work since")
    terminal.read_until("0/1 steps")
    assert terminal.settled()[2].startswith("no engine is at work since")


def test_the_example_of_make_start_is_shown_live(tmp_path: Path, terminals: list[Terminal]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = re.findall(r"^\t@\$\(BIN\)/python -m oautom (run .*)$", makefile, re.MULTILINE)
    verb, app, flow = shlex.split(line)
    terminal = Terminal(tmp_path, verb, str(ROOT / app), flow, lines=40)
    terminals.append(terminal)
    terminal.read_until(lambda lines: any(line.endswith("/21 steps") for line in lines))
    assert terminal.end() == 0
    shown = "\n".join(terminal.shown)
    assert "files came out of their archives as they went in" in shown
    assert "stdlib report" in terminal.shown[-1]
    assert "steps" not in shown
    assert list(tmp_path.glob("*.tar.gz")) == []


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"TERM": ""}])
def test_a_dumb_terminal_gets_plain_lines(
    tmp_path: Path, terminals: list[Terminal], env: dict[str, str]
) -> None:
    terminal = Terminal(tmp_path, "run", "pipeline.py", "etl", "day=1", **env)
    terminals.append(terminal)
    assert terminal.end() == 0
    assert "load  success" in terminal.text
    assert "\x1b" not in terminal.text


def test_colours_are_shown_where_they_are_wanted(tmp_path: Path, terminals: list[Terminal]) -> None:
    """The state of a run is red or green on a terminal; NO_COLOR takes all of it away."""
    for env, is_red in (({}, True), ({"NO_COLOR": "1"}, False)):
        terminal = Terminal(tmp_path, "run", "pipeline.py", "etl", "day=bad", "--id", "one", **env)
        terminals.append(terminal)
        assert terminal.end() == 1
        assert "etl one: failed after" in terminal.shown[1]
        assert any(f"\x1b[{code}m" in terminal.text for code in (31, 32, 36)) == is_red


def piped(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["oautom", *arguments],
        cwd=folder,
        env=environment(folder) | env,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS,
        check=False,
    )


def test_in_a_pipe_watch_prints_the_lines_of_run_and_none_has_an_escape_sequence(
    tmp_path: Path, terminals: list[Terminal]
) -> None:
    env = {"TERM": "xterm-256color", "OAUTOM_FILE": "runs.db"}
    ran = piped(tmp_path, "run", "slow.py", "quiet", "--log", "runs.db", **env)
    watched = piped(tmp_path, "watch", **env)
    assert (ran.returncode, watched.returncode) == (1, 1)
    assert watched.stdout == ran.stdout
    assert ran.stdout.splitlines()[-3].endswith("two  failed: the command exited with code 3")
    others = [piped(tmp_path, verb, "-", **env) for verb in ("show", "why", "logs")]
    for done in (ran, watched, *others, piped(tmp_path, "ls", **env)):
        assert "\x1b" not in done.stdout + done.stderr


ODD = {
    "a home that cannot be written": {"HOME": "/dev/null/nobody"},
    "the locale C": {"LC_ALL": "C", "LANG": ""},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "Latin-1": {"PYTHONIOENCODING": "latin-1"},
}


@pytest.mark.parametrize("name", ODD)
def test_it_runs_in_an_odd_environment(
    tmp_path: Path, terminals: list[Terminal], name: str
) -> None:
    done = piped(tmp_path, "run", "pipeline.py", "etl", "day=é…", "--id", "é…", **ODD[name])
    assert (done.returncode, done.stderr) == (0, "")
    terminal = Terminal(
        tmp_path, "run", "pipeline.py", "etl", "day=é", "--id", "é", without=("HOME",), **ODD[name]
    )
    terminals.append(terminal)
    assert terminal.end() == 0
    assert "Traceback" not in terminal.text


# Standard output that is closed, full, or read no further

CLOSED = """
import os, sys
os.close(1)
os.execvp("oautom", ["oautom", *sys.argv[1:]])
"""


def test_with_stdout_closed_it_runs_and_writes_into_no_file_of_its_own(
    tmp_path: Path, terminals: list[Terminal]
) -> None:
    arguments = ["run", "pipeline.py", "etl", "day=1", "--id", "one", "--log", "runs.db"]
    for more in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-c", CLOSED, *arguments, *more],
            cwd=tmp_path,
            env=environment(tmp_path),
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    verified = piped(tmp_path, "verify", "--log", "runs.db")
    assert (verified.returncode, "all as they were written" in verified.stdout) == (0, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_stdout_is_told(tmp_path: Path, terminals: list[Terminal]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            ["oautom", "flows", "pipeline.py"],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "Error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("verb", ["run", "watch", "events"])
def test_who_reads_no_further_ends_no_run_and_is_no_bug(
    tmp_path: Path, terminals: list[Terminal], verb: str
) -> None:
    log = ("--log", "runs.db")
    arguments = ["run", "many.py", "many", "--id", "one", *log]
    (tmp_path / "go").touch()
    if verb != "run":
        assert piped(tmp_path, *arguments, "-q").returncode == 1
        arguments = [verb, "one", *log]
    with subprocess.Popen(
        ["oautom", *arguments],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline()
        program.stdout.close()
        assert program.stderr.read() == ""
        assert program.wait(SECONDS) == 141
    assert Client(tmp_path / "runs.db").vect("one").state == "failed"  # as some steps do
