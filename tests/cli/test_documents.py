"""The sessions of docs/cli.md, and the examples of `--help`, run as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from oautom.cli.main import oautom

from .conftest import ROOT, SECONDS, environment

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
    text = re.sub(r"log ('?)/\S*/", r"log \1", text)
    return re.sub(
        r"\b[\d.]+ s\b(?!$)|(?<=after )[\d.]+ s$", "0.0 s", text, flags=re.MULTILINE
    ).rstrip()


def test_the_sessions_print_what_the_page_says(tmp_path: Path) -> None:
    pipeline, release = blocks("python")
    (tmp_path / "pipeline.py").write_text(pipeline)
    (tmp_path / "release.py").write_text(release)
    sessions = blocks("console")
    assert len(sessions) >= 7
    for session in sessions:
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
            timeout=SECONDS,
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
