"""The sessions of docs/cli.md, and the examples of `--help`, run as they stand there."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import click
import pytest

from oautom import ApprovalExecution, BashExecution, Flow, OAutom, OAutomMode
from oautom.cli.main import oautom

from .conftest import ROOT, SECONDS, Inside, environment

PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def commands_of(session: str) -> list[tuple[str, str]]:
    """Return what is typed, and what is printed then."""
    pieces = re.split(r"^\$ (.*)\n", session, flags=re.MULTILINE)[1:]
    return list(zip(pieces[::2], pieces[1::2], strict=True))


def normal(text: str) -> str:
    """Take what is different each time out of an output."""
    text = re.sub(r"\b\d\d:\d\d:\d\d\b", "00:00:00", text)
    text = re.sub(r"[#.]{30}", "#" * 30, text)  # a bar
    text = re.sub(r" {2,}", "  ", text)  # columns are as wide as the times in them
    text = re.sub(r"log ('?)/\S*/", r"log \1", text)
    return re.sub(
        r"\b[\d.]+ s\b(?!$)|(?<=after )[\d.]+ s$", "0.0 s", text, flags=re.MULTILINE
    ).rstrip()


def test_the_sessions_print_what_the_page_says(tmp_path: Path) -> None:
    sessions = blocks("console")
    assert len(sessions) >= 8
    for session in sessions:
        for name, code in zip(("pipeline", "build", "release"), blocks("python"), strict=True):
            (tmp_path / f"{name}.py").write_text(code)  # a session may mend one
        typed = commands_of(session)
        script = "\n".join(f"{command}\nlast=$?; echo =====; (exit $last)" for command, _ in typed)
        script = script.replace("sleep 3", "sleep 8")  # a loaded machine takes longer to begin
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3 * SECONDS,
            check=False,
        )
        printed = done.stdout.split("=====\n")
        for (command, wanted), said in zip(typed, printed, strict=False):
            assert normal(said) == normal(wanted), command
        assert len(printed) == len(typed) + 1


@pytest.mark.parametrize("name", oautom.commands)
def test_each_verb_has_an_example_and_a_place_on_the_page(name: str) -> None:
    command = oautom.commands[name]
    assert command.epilog is not None
    program, verb, *arguments = shlex.split(command.epilog.removeprefix("Example: "))
    assert (program, verb) == ("oautom", name)
    assert isinstance(command.make_context(name, arguments), click.Context)  # they are understood
    assert f"`{name}" in PAGE or f"oautom {name}" in PAGE
    for option in (each for each in command.params if isinstance(each, click.Option)):
        assert option.help or option.show_default, option.name


def test_the_picture_of_the_readme_is_small_and_needs_no_network() -> None:
    picture = (ROOT / "docs" / "cli.svg").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"']+", picture)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|@font-face|url\((?!#)|<image|<script", picture)
    assert len(picture) < 60_000
    for verb in ("run", "show", "why"):
        assert f"oautom&#160;{verb}" in picture


# The examples of `--help`

ENGINE_AT_WORK = {"approve", "reject", "pause", "resume", "cancel", "retry", "start", "backfill"}
NEWEST = {"retry": "failed", "resume": "paused"}  # else it waits for a person
CODES = {"watch": 1}  # of the failed run that is the newest one
UNTIL_STOPPED = {  # what is added to the example, the first words it says, how SIGTERM ends it
    "serve": ([], "serving etl, slow", 0),
    "page": (["--port", "0"], "the page is at http://127.0.0.1:", -signal.SIGTERM),
}


def prepared(app: OAutom, verb: str) -> None:
    """Have the log that the examples name, and its newest run as the example needs it."""
    etl = Flow("etl", app, params={"day": str})
    load = BashExecution("load", etl, 'echo loading; test "$D" != bad', env={"D": etl.param("day")})
    BashExecution("extract", etl, "true") >> load
    release = Flow("release", app)
    ApprovalExecution("gate", release, "is it good?") >> BashExecution("ship", release, "true")
    for vect in ("monday", "tuesday", "2026-11-24", "failed"):
        app.start(etl, {"day": "bad"}, vect_id=vect).wait(SECONDS)
    if verb == "backfill":
        app.plan(etl, hours=24, params={"day": "1"})
    if verb in ENGINE_AT_WORK and NEWEST.get(verb) != "failed":
        vect = app.start(release, vect_id="release")
        if verb == "resume":
            vect.pause()


@pytest.mark.parametrize("name", [name for name in oautom.commands if name not in UNTIL_STOPPED])
def test_the_example_of_a_verb_does_what_it_says(inside: Inside, tmp_path: Path, name: str) -> None:
    with OAutom(OAutomMode.background, log=tmp_path / "runs.db") as app:
        prepared(app, name)
        if name not in ENGINE_AT_WORK:
            app.close()
        example = str(oautom.commands[name].epilog).removeprefix("Example: oautom ")
        done = inside(*shlex.split(example))
    assert done.code == CODES.get(name, 0), done
    assert done.stdout + done.stderr


@pytest.mark.parametrize("name", UNTIL_STOPPED)
def test_an_example_that_goes_on_is_ended_by_sigterm(
    tmp_path: Path, inside: Inside, name: str
) -> None:
    more, first, code = UNTIL_STOPPED[name]
    with OAutom(log=tmp_path / "runs.db") as app:  # page shows what is there
        app.run(Flow("empty", app))
    example = str(oautom.commands[name].epilog).removeprefix("Example: ")
    with subprocess.Popen(
        [*shlex.split(example), *more],
        cwd=tmp_path,
        env=environment(tmp_path) | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline().startswith(first)
        program.send_signal(signal.SIGTERM)
        assert program.wait(SECONDS) == code


# Completion, by the lines that the page has for each shell

SHELLS = dict(re.findall(r"^\| (bash|zsh|fish) \| .*? \| `(.*)` \|$", PAGE, re.MULTILINE))
ASK = {
    "bash": """
        {line}
        COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _oautom_completion oautom; printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "zsh": """
        autoload -Uz compinit; compinit -D -u
        {line}
        words=({words}); CURRENT=${{#words}}
        compadd() {{ while [ $# -gt 0 ] && [ "$1" != -a ]; do shift; done; print -l -- ${{(P)2}}; }}
        _describe() {{ print -l -- ${{(P)3}}; }}
        _oautom_completion
    """,
    "fish": "{line}; complete -C '{words}'",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_completes_verbs_and_options(tmp_path: Path, shell: str) -> None:
    environment(tmp_path)
    line = SHELLS[shell].replace("\\|", "|")
    if shutil.which(shell) is None:  # then at least what it would read is there
        program = line.partition("(")[2].partition(")")[0] or line.partition(" |")[0]
        done = typed(tmp_path, "bash", program)
        assert "complet" in done
        pytest.skip(f"{shell} is not installed: what it would read is there, and is not tried")
    verbs = typed(tmp_path, shell, ASK[shell].format(line=line, words="oautom re"))
    assert {"retry", "reject", "resume"} <= set(re.findall(r"\w+", verbs))
    options = typed(tmp_path, shell, ASK[shell].format(line=line, words="oautom ls --st"))
    assert "--state" in options


def typed(folder: Path, shell: str, script: str) -> str:
    return subprocess.run(
        [shell, "-c", script],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    ).stdout


def test_completion_is_there_for_three_shells() -> None:
    assert SHELLS.keys() == {"bash", "zsh", "fish"}
